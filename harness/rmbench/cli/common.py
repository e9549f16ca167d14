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
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def console(*, stderr: bool = False) -> Console:
    """A rich console; 80 columns where the output is not a terminal, so that logs are the same everywhere."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=80, soft_wrap=False)
