"""``rmbench schema``: the JSON schema of the files in a run's folder."""

from __future__ import annotations

import click
import msgspec

from rmbench.cli.common import echo_json


@click.command("schema")
def command() -> None:
    """JSON schema of run.json, items.jsonl, judgments.jsonl and estimates.json, by type."""
    from rmbench.core import SCHEMA, Estimate, Facts, Item, Judgment, Run

    types = (Run, Facts, Judgment, Estimate, Item)
    _, definitions = msgspec.json.schema_components(types)
    echo_json({"$schema": "https://json-schema.org/draft/2020-12/schema", "version": SCHEMA, "$defs": definitions})
