"""``rmbench list``: suites, models and runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rmbench.cli.common import console, echo_json, json_option
from rmbench.errors import BadRun, UsageError

if TYPE_CHECKING:
    from rmbench.core import Suite


@click.command("list")
@click.argument("what", type=click.Choice(["suites", "adapters", "models", "runs"]), required=False)
@click.option(
    "--results", type=click.Path(path_type=Path), help="Results folder.  [default: results, or RMBENCH_RESULTS]"
)
@json_option
def command(what: str | None, results: Path | None, as_json: bool) -> None:
    """Suites, adapters, bundled models and the runs on disk; or only one of them."""
    from rmbench import adapters, store, suites
    from rmbench.adapters import baselines

    root = results or store.default_root()
    found: dict[str, Any] = {}
    if what in (None, "suites"):
        found["suites"] = [_suite(name) for name in suites.names()]
    if what in (None, "adapters"):
        found["adapters"] = adapters.names()
    if what in (None, "models"):
        found["models"] = [*adapters.bundled(), *baselines.KNOWN]
    if what in (None, "runs"):
        found["runs"] = [_run(path) for path in store.find(root)]
    if as_json:
        echo_json(found)
        return
    from rich.table import Table

    out, wide = console(), console(wide=True)
    for title, rows in found.items():
        table = Table(box=None, pad_edge=False, header_style="underline")
        if rows and isinstance(rows[0], dict):
            shown = [k for k in rows[0] if k not in ("categories", "variants", "licence", "problem")]
            for key in shown:
                table.add_column(key, no_wrap=key in ("name", "model"), overflow="fold")
            for row in rows:
                table.add_row(*("" if row[k] is None else str(row[k]) for k in shown))
        out.print(title, style="bold")
        # A path is there to be copied and searched for: it is never broken, whatever the width.
        (wide if title == "runs" else out).print(
            table if table.columns else ("  " + "  ".join(map(str, rows)) if rows else "  none yet"), markup=False
        )
        if any(isinstance(row, dict) and row.get("variants") for row in rows):
            out.print("Some have variants, asked for as name:variant; rmbench show NAME lists them.", style="dim")
        for row in rows:
            if isinstance(row, dict) and row.get("problem"):
                out.print(f"Unreadable: {row['problem']}", style="yellow", markup=False, soft_wrap=True)
        out.print()


def _run(path: Path) -> dict[str, Any]:
    """A run as it stands now: what run.json says of one that is not finished was written some time before."""
    from rmbench import store

    try:
        run = store.read_run(path)
        done, errors, status = run.done, run.errors, store.state(path, run)
        if run.status == "running":
            held = store.read(path).judgments.values()
            done, errors = len(held), sum(j.error is not None for j in held)
    except BadRun as error:  # a broken run must not hide the others
        return {"model": path.parent.name, "suite": path.name, "status": "unreadable", "items": None, "errors": None,
                "path": str(path), "problem": str(error)}  # fmt: skip
    return {"model": run.model, "suite": run.suite.name, "status": status, "items": f"{done}/{run.n}",
            "errors": errors, "path": str(path), "problem": None}  # fmt: skip


def _suite(name: str) -> dict[str, Any]:
    from rmbench import suites

    try:
        card = suites.card(name)
    except UsageError as error:  # another package's faulty suite must not hide the others
        return {"name": name, "items": None, "categories": 0, "variants": [], "licence": None, "about": str(error)}
    return {
        "name": name,
        "items": _items(card),
        "categories": len(card.categories),
        "variants": suites.variants(name),
        "licence": card.licence,
        "about": card.about,
    }


def _items(card: Suite) -> int | None:
    """How many items the suite has; None where some of its subsets have no published count."""
    subsets = [s for own in card.categories.values() for s in own]
    return sum(card.counts.values()) if all(s in card.counts for s in subsets) else None
