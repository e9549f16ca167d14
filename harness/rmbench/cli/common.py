"""What the commands share: the console and JSON output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

if TYPE_CHECKING:
    from rich.console import Console

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output, nothing else.")


def echo_json(value: Any) -> None:
    """Any of our structs, lists or dicts as indented JSON on standard output."""
    import sys

    try:
        text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # a stream without these characters, or a path that is not UTF-8: JSON has escapes
        import json

        text = json.dumps(msgspec.to_builtins(value), indent=2)
    click.echo(text)


def console(*, stderr: bool = False, wide: bool = False) -> Console:
    """A rich console. Where the output is no terminal it is as wide as COLUMNS says, else 80 columns, so that logs are
    the same everywhere; ``wide`` breaks no line of a table, for tables with paths, which are to be copied and searched.
    """
    import functools
    import os

    from rich.console import Console

    # A name may look like markup, or like an emoji's code.
    plain = functools.partial(Console, stderr=stderr, highlight=False, markup=False, emoji=False)
    made = plain(width=10_000 if wide else None)
    asked = os.environ.get("COLUMNS", "")
    if wide or made.is_terminal or (asked.isdigit() and int(asked)):
        return made
    return plain(width=80)
