"""``rmbench import``: other tools' scores or verdicts as runs, marked imported."""

from __future__ import annotations

from pathlib import Path

import click

from rmbench.cli.common import echo_json, json_option

FORMATS = ("rewardbench", "judgebench", "llmbar", "mt-bench", "alpaca-eval", "jsonl")


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--from", "source", required=True, type=click.Choice(FORMATS))
@click.option("--suite", required=True, help="Name, name:variant, suite.py or data file that the file's rows are of.")
@click.option("--model", help="Name for tables.  [default: the one that the rows give, else the file's]")
@click.option("--data", type=click.Path(path_type=Path), help="Folder with the suite's rows.")
@click.option("--out", type=click.Path(path_type=Path), help="Results folder.  [default: results, or RMBENCH_RESULTS]")
@json_option
def command(
    file: Path, source: str, suite: str, model: str | None, data: Path | None, out: Path | None, as_json: bool
) -> None:
    """Bring FILE in as a run of SUITE, so that it stands in the same tables.

    A row is joined to its item by id, else by its texts. Texts decide which side is which response: sides that are
    exchanged are exchanged back, and a row with other texts than its item is refused. The last lines say how many rows
    were joined in which way.
    """
    from rmbench import store, suites
    from rmbench.export import imports
    from rmbench.metrics import summary

    loaded = suites.load(suite, data=data)
    run, facts, judgments = imports.read(file, source, loaded, model=model)
    path = store.import_run(out or store.default_root(), run, facts, judgments)
    stored = store.read(path)
    estimates = summary.estimates(stored.run.suite, stored.facts, stored.judgments)
    store.write_estimates(path, estimates)
    if as_json:
        said = {"path": str(path), "model": run.model, "done": run.done, "n": run.n, "errors": run.errors}
        echo_json({**said, "join": run.info["join"], "notes": run.notes, "estimates": estimates})
        return
    from rmbench.cli.common import console
    from rmbench.report import terminal

    console().print(terminal.run_table(stored, estimates))
    click.echo(str(path))
