"""Tables for the terminal: one run in 80 columns, or the leaderboard of a suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rmbench.core import Estimate
from rmbench.report.leaderboard import (
    Board,
    by_name,
    clip,
    count,
    footnotes,
    interval,
    number,
    plain,
    scope_rows,
    title,
    warnings,
)
from rmbench.store import Stored

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


def run_table(
    stored: Stored, estimates: Sequence[Estimate], baselines: Mapping[str, Sequence[Estimate]] | None = None
) -> Group:
    """One run: subsets and categories with score and interval in per cent, n, wins/ties/losses, and beside them
    the scores of two of ``baselines`` (name -> estimates on the same items). At most 80 columns."""
    from rich.console import Group
    from rich.text import Text

    run = stored.run
    every = baselines or {}
    baselines = dict(list(every.items())[:2])
    main = {e.scope: e for e in reversed(estimates)}
    rows = scope_rows(run.suite, estimates)
    missing, truncated = (any(getattr(main[r[0]], name) for r in rows) for name in ("missing", "truncated"))
    ties = any(main[r[0]].ties for r in rows)
    table = _table()
    # Only names may break: a number cut short is another number.
    table.add_column(Text(plain(run.suite.name)), overflow="fold", min_width=12, ratio=1)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("95% interval", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    counted = any(main[r[0]].wins or main[r[0]].losses or main[r[0]].ties for r in rows)
    if counted:  # a number that is no mean of item credits has no wins
        table.add_column("W/T/L" if ties else "W/L", justify="right", no_wrap=True)
    for name, any_of in (("miss", missing), ("trunc", truncated)):
        if any_of:
            table.add_column(name, justify="right", no_wrap=True)
    for name in baselines:
        table.add_column(
            Text(plain(name.removeprefix("length:"))), justify="right", style="dim", max_width=8, no_wrap=True
        )
    for scope, name, depth in rows:
        e = main[scope]

        shown = name if e.name == "accuracy" else f"{name} ({e.name})"
        record = [e.wins, e.ties, e.losses] if ties else [e.wins, e.losses]
        cells: list[str | Text] = [
            Text("  " * depth + shown),
            number(e),
            interval(e),
            count(e.n),
        ]
        if counted:
            # Single responses are neither won nor lost.
            judged = any(record) or 0 < e.n <= e.errors
            cells.append("/".join(f"{v:g}" for v in record) if judged else "–")
        cells += [f"{n:,}" for n, any_of in ((e.missing, missing), (e.truncated, truncated)) if any_of]
        beside = [number(b) for b in by_name(baselines, scope).values()]
        table.add_row(*cells, *beside, style=None if depth else "bold", end_section=False)
    version = f"v{run.suite.version}{' (partial)' if run.suite.partial else ''}"
    heading = f"{run.model} on {run.suite.name} {version}, rules {run.suite.rules.name}"
    lines = [Text(plain(heading), style="bold")]
    notes = [f"{t}: {total.reason}" for t in ("overall", "micro") if (total := main.get(t)) and total.value is None]
    if skipped := main["micro"].extra.get("skipped"):
        notes.append(f"left out by the rule for ties: {skipped:,.0f}")
    notes += _beside(estimates)
    notes += [plain(note) for note in run.notes]
    notes += _judged(run.info)
    if run.limit is not None:
        also = f"; {' and '.join(baselines)} on the same items" if baselines else ""
        notes.append(f"limited to {run.limit:,} items: not for the leaderboard{also}")
    notes += warnings(stored, estimates, every)
    notes.append(_counts(stored))
    return Group(*lines, table, *(Text(n, style="dim") for n in notes))


BESIDE = (
    "s1", "s2", "human-human-s1", "human-human-s2", "easy", "normal", "hard", "pair-accuracy", "macro-precision",
    "macro-recall", "macro-f1", "average-precision", "f1", "fpr", "fnr", "both", "consistency",
)  # fmt: skip
"""What a suite's paper or the kind of its data asks for beside the suite's own number; estimates.json has them all."""


def _beside(estimates: Sequence[Estimate]) -> list[str]:
    """A line per scope: ``Turn 1: s1 66.0 [61.2, 69.9], s2 84.6 [80.3, 88.1]``."""
    own = {e.scope: e.name for e in reversed(estimates)}
    steps = {e.scope for e in estimates if e.scope.startswith("strength:")}
    found: dict[str, list[str]] = {}
    for e in estimates:
        kind, _, rest = e.scope.partition(":")
        asked = kind == "label" or (kind == "strength" and len(steps) > 1)
        told = e.name.partition("@")[0] in BESIDE and own[e.scope] != e.name and kind != "area"
        if asked or (told and (kind == "micro" or e.name not in ("both", "consistency"))):
            scope = f"{kind} {rest}" if asked else title(e.scope)
            found.setdefault(scope, []).append(f"{e.name} {number(e)} {interval(e)}".strip())
    return [f"{plain(scope)}: {', '.join(parts)}" for scope, parts in found.items()]


def leaderboard(board: Board, width: int = 80) -> Group:
    """A suite's models, baselines and what stands apart, with as many category columns as ``width`` holds."""
    from rich.console import Group
    from rich.text import Text

    columns = list(board.columns)
    heads = {scope: clip(plain(title(scope)), 9) for scope in (board.headline, *columns)}
    longest = max([10, *(len(e.label) for e in board.entries)])
    fixed = max([1, *(len(f"{e.place}{count(e.n(board.headline))}{count(e.run.errors)}") for e in board.entries)])
    fixed += len(heads[board.headline]) + len("[12.3, 45.6]") + len("err") + 6
    names = [e.label for e in board.entries]

    def told_apart(room: int) -> bool:
        return room >= min(longest, 18) and len({clip(n, room) for n in names}) == len(set(names))

    while not told_apart(room := width - fixed - sum(max(5, len(heads[c])) + 1 for c in columns)) and columns:
        columns.pop()
    table = _table()
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column(Text(clip(plain(board.suite.name), room)), no_wrap=True)
    table.add_column(Text(heads[board.headline]), justify="right", no_wrap=True)
    table.add_column("95% interval", no_wrap=True)
    for scope in columns:
        table.add_column(Text(heads[scope]), justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("err", justify="right", no_wrap=True)
    for entries, style in ((board.models, None), (board.baselines, "dim")):
        for entry in entries:
            table.add_row(
                entry.place,
                Text(clip(entry.label, room)),
                number(entry.main(board.headline)),
                interval(entry.main(board.headline)),
                *(number(entry.main(c)) for c in columns),
                count(entry.n(board.headline)),
                count(entry.run.errors),
                style=style,
            )
    parts: list[Text | Table] = [table] if board.entries else [Text(plain(board.suite.name), style="bold")]
    for apart in board.apart:
        parts.append(Text(plain(f"Apart, {apart.reason}:"), style="bold"))
        for entry in apart.entries:
            e = entry.main(board.headline)
            done = (
                f"{entry.run.done:,} of {entry.run.n:,} items"
                if e is None
                else f"{title(board.headline)} {number(e)} {interval(e)} (n {e.n:,})"
            )
            parts.append(Text(f"  {entry.label}{' (baseline)' if entry.baseline else ''}: {plain(done)}"))
    hidden = len(board.columns) - len(columns)
    notes = footnotes(board) + ([f"{hidden} more column{'s' * (hidden > 1)} in the files."] if hidden else [])
    return Group(*parts, *(Text(n, style="dim") for n in notes))


def _table() -> Table:
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="underline", expand=False)


def _counts(stored: Stored) -> str:
    run = stored.run
    done = len(stored.judgments)
    parts = [
        f"{done:,} of {run.n:,} items",
        f"{run.errors:,} error{'s' * (run.errors > 1)}" if run.errors else "no errors",
        f"{run.truncated:,} truncated" if run.truncated else "nothing truncated",
    ]
    if run.tokens:
        parts.append(f"{run.tokens + run.generated:,} tokens")
    if run.seconds:
        parts.append(f"{run.seconds:,.1f} s" + (f" on {plain(run.device)}" if run.device else ""))
    if "cost" in run.info:
        parts.append(f"cost {run.info['cost']:,.4g}")
    return ", ".join(parts)


def _judged(info: Mapping[str, Any]) -> list[str]:
    """What became of a judge's ballots, where not all of them are verdicts, and the probability outside its labels."""
    lines = []
    ballots = info.get("ballots") or {}
    if set(ballots) - {"valid"}:
        fates = sorted(ballots.items(), key=lambda fate: (fate[0] != "valid", -fate[1]))
        lines.append("ballots: " + ", ".join(f"{n:,} {plain(fate)}" for fate, n in fates))
    if (outside := info.get("outside") or {}).get("items"):
        lines.append(f"probability outside the labels: {outside['mass'] / outside['items']:.1%} on average")
    return lines
