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

    fetched = {}
    for name in suite:  # said one by one: what is here already stays here when a later one fails
        fetched[name] = suites.fetch(name)
        if as_json:
            continue
        if not fetched[name]:
            click.echo(f"{name}: bundled, nothing to fetch")
        for file, digest in fetched[name].items():
            click.echo(f"{name}: {file}  sha256 {digest}")
    if as_json:
        echo_json(fetched)
