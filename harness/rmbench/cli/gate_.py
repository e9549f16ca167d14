"""``rmbench gate``: is a candidate clearly not worse than a baseline?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmbench.cli.common import console, echo_json, json_option
from rmbench.errors import Exit, StoreError

if TYPE_CHECKING:
    from rmbench.gate import ScopeVerdict, Verdict


@click.command("gate")
@click.argument("candidate")
@click.option("--baseline", required=True, metavar="RUN", help="A folder or a model's name.")
@click.option(
    "--policy",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file with [gate].  [default: rmbench.toml if there is one, else 2 points at alpha 0.05]",
)
@click.option("--suite", "suites", multiple=True, help="Repeatable.  [default: the policy's, else the one there is]")
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where runs are looked for by model name.  [default: results, or RMBENCH_RESULTS]",
)
@click.option("--limited", is_flag=True, help="Accept runs made with --limit.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write JUnit XML (GitLab, Jenkins).")
@click.option("--summary", type=click.Path(path_type=Path, dir_okay=False), help="Append a Markdown summary to a file.")
@json_option
def command(
    candidate: str,
    baseline: str,
    policy: Path | None,
    suites: tuple[str, ...],
    results: Path | None,
    limited: bool,
    junit: Path | None,
    summary: Path | None,
    as_json: bool,
) -> None:
    """Pass, fail or undecided: candidate minus baseline against a margin, per category and overall.

    Exit code 0 only if every scope passes; 1 if one fails; 3 if it cannot be decided (too few items, incomplete,
    too many errors, other items). A pass whose files or output cannot be written is 2. On GitHub the summary and
    annotations are written without being asked for.
    """
    from rmbench import gate, store

    verdicts = gate.gate_runs(
        candidate,
        baseline,
        gate.read_policy(policy or default_policy()),
        root=results or store.default_root(),
        suites=suites,
        limited=limited,
    )
    code = gate.exit_code(verdicts)
    # Files first, so that nothing about the output can cost them; then the answer, whatever became of the files.
    refused = _files(verdicts, junit, summary)
    if as_json:
        echo_json({"outcome": gate.OUTCOMES[code], "exit_code": code, "verdicts": verdicts})
    else:
        for verdict in verdicts:
            show(verdict)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in gate.workflow_commands(verdicts):
            click.echo(line, err=True)
    for said in refused:
        click.echo(f"Error: {said}", err=True)
    raise click.exceptions.Exit(code or (Exit.USAGE if refused else Exit.FINE))


def _files(verdicts: list[Verdict], junit: Path | None, summary: Path | None) -> list[str]:
    """Writes what was asked for; what could not be written, in words."""
    from rmbench import gate, store

    refused = []
    step = os.environ.get("GITHUB_STEP_SUMMARY")
    asked = [(store.write_file, junit, gate.junit)]
    asked += [(store.append_file, path, gate.markdown) for path in {summary, Path(step) if step else None}]
    for write, path, made in asked:
        if path is not None:
            try:
                write(path, made(verdicts).encode("utf-8", "backslashreplace"))
            except StoreError as error:
                refused.append(str(error))
    return refused


def default_policy() -> Path | None:
    """``rmbench.toml`` where there is one."""
    return Path("rmbench.toml") if Path("rmbench.toml").is_file() else None


STYLES = {"pass": "green", "fail": "bold red", "undecided": "yellow"}


def show(verdict: Verdict) -> None:
    """Prints one verdict."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    head = Text(verdict.outcome.upper(), style=STYLES[verdict.outcome])
    head.append(f"  {verdict.candidate} against {verdict.baseline} on {verdict.suite}", style="default")
    out.print(head)
    for reason in verdict.reasons:
        out.print(f"Could not decide: {reason}", style="yellow", markup=False)
    if verdict.scopes:
        table = Table(box=None, pad_edge=False)
        for name in ("points", "answer", "n", "diff", "bounds", "margin", "seen", "power"):
            table.add_column(name, justify="left" if name in ("points", "answer") else "right", overflow="fold")
        for s in verdict.scopes:
            table.add_row(*_cells(s))
        out.print(table)
        for s in verdict.scopes:
            if s.outcome != "pass":
                out.print(f"{s.scope.removeprefix('category:')}: {s.why}", markup=False)
    if verdict.saved is not None and verdict.stopped_after is not None:
        out.print(f"Stopped after {verdict.stopped_after:,} items; {verdict.saved:,} were not needed.")
    elif verdict.scopes:
        out.print(
            f"bounds: one-sided at alpha {verdict.alpha:g}. seen: how far from -margin a true difference is decided "
            "four times in five. power: chance to pass if nothing changed.",
            style="dim",
            markup=False,
        )
    if verdict.broken:
        shown = ", ".join(verdict.broken[:5])
        out.print(f"{len(verdict.broken):,} items newly wrong, worst first: {shown} (rmbench compare)", markup=False)
    for note in verdict.notes:
        out.print(f"Note: {note}", style="dim", markup=False)


def _cells(s: ScopeVerdict) -> tuple[str, ...]:
    def points(value: float | None, sign: str = "") -> str:
        return "–" if value is None else f"{100 * value:{sign}.2f}"

    return (
        s.scope.removeprefix("category:"),
        s.outcome,
        f"{s.n:,}",
        points(s.difference, "+"),
        "–" if s.low is None else f"{points(s.low, '+')} … {points(s.high, '+')}",
        f"{100 * s.margin:g}",
        points(s.detectable),
        "–" if s.power is None else f"{s.power:.0%}",
    )
