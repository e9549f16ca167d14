"""``rmbench fetch``: bring the data of suites here for offline use."""

from __future__ import annotations

import click

from rmbench.cli.common import echo_json, json_option


@click.command("fetch")
@click.argument("suite", nargs=-1, required=True, metavar="SUITE...")
@json_option
def command(suite: tuple[str, ...], as_json: bool) -> None:
    """Bring the data of suites here for offline use, with hashes, and say where it was put.

    The place is RMBENCH_CACHE, or ~/.cache/rmbench; eval finds it there without being told.
    """
    from rmbench import suites

    fetched = {name: suites.fetch(name) for name in suite}
    if as_json:
        echo_json(fetched)
        return
    for name, files in fetched.items():
        if not files:
            click.echo(f"{name}: bundled, nothing to fetch")
        for file, digest in files.items():
            click.echo(f"{name}: {file}  sha256 {digest}")
