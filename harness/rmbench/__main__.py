"""``python -m rmbench`` is ``rmbench``."""

from rmbench.cli import main

main(prog_name="rmbench")
