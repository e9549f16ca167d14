"""A leaderboard as GitHub Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rmbench import suites
from rmbench.report.leaderboard import (
    Board,
    Entry,
    count,
    footnotes,
    interval,
    number,
    plain,
    published_rows,
    scope_rows,
    title,
)

SUBSET_TABLE_MODELS = 8
"""Above this many models the table of subsets is wider than a page; the CSV has them all."""
PUBLISHED_ROWS = 20


def leaderboard(board: Board) -> str:
    """One suite: ranking, baselines, what stands apart, subsets, published figures, notes."""
    card = board.suite
    licence = f"{count(sum(card.counts.values()))} items, licence" if card.counts else "Licence"
    parts = [
        f"# {escape(card.name)} v{escape(card.version)}",
        escape(card.about),
        f"{licence} {escape(card.licence)}, source {escape(suites.origin(card))}, suite hash `{board.suite_hash}`. "
        "Scores in per cent with their 95% interval.",
    ]
    if board.entries:
        parts.append(_ranking(board, board.entries, ranked=True))
    else:
        parts.append("No finished run of the whole suite.")
    for apart in board.apart:
        parts += [f"## Apart: {escape(apart.reason)}", _ranking(board, apart.entries, ranked=False)]
    if shown := (board.entries or [e for a in board.apart for e in a.entries]):
        if len(shown) <= SUBSET_TABLE_MODELS:
            parts += ["## By subset", _subsets(board, shown)]
        else:
            parts.append(f"Subsets of all {len(shown)} models stand in the CSV.")
    if board.published:
        parts += ["## Published, not run here", _published(board)]
    parts += ["## Notes", "\n".join(f"- {escape(n)}" for n in footnotes(board))]
    return "\n\n".join(p for p in parts if p) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no cell border, no HTML, no line break."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&$!])", r"\\\1", " ".join(plain(text).split()))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A pipe table; ``align`` has one of ``l`` and ``r`` per column. Cells are escaped already."""
    rule = ["---:" if a == "r" else "---" for a in align]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])


def _ranking(board: Board, entries: Sequence[Entry], *, ranked: bool) -> str:
    consistent = any(e.named("consistency") for e in entries)
    head = [
        *(["#"] if ranked else []),
        "model",
        escape(title(board.headline)),
        "95% interval",
        *(escape(title(c)) for c in board.columns),
        *(["consistency"] if consistent else []),
        "n",
        "errors",
        "truncated",
        "tokens",
        "seconds",
    ]
    rows = []
    for entry in entries:
        name = escape(entry.label)
        main = entry.main(board.headline)
        rows.append(
            [
                *([entry.place] if ranked else []),
                f"*{name}*" if entry.baseline else name,
                number(main),
                interval(main),
                *(number(entry.main(c)) for c in board.columns),
                *([number(entry.named("consistency"))] if consistent else []),
                count(entry.n(board.headline)),
                count(entry.run.errors),
                count(entry.run.truncated),
                count(entry.run.tokens + entry.run.generated),
                f"{entry.run.seconds:,.1f}",
            ]
        )
    return table(head, rows, ("r" if ranked else "") + "lrl" + "r" * (len(head) - 3 - ranked))


def _subsets(board: Board, entries: Sequence[Entry]) -> str:
    rows = []
    for scope, name, depth in scope_rows(board.suite, *(e.estimates for e in entries)):
        cells = [entry.main(scope) for entry in entries]
        shown = f"{'&nbsp;&nbsp;' * depth}{escape(name)}"
        n = max(e.n for e in cells if e is not None)
        rows.append([shown if depth else f"**{shown}**", count(n), *map(number, cells)])
    head = ["subset", "n", *(escape(e.label) for e in entries)]
    return table(head, rows, "lr" + "r" * len(entries))


def _published(board: Board) -> str:
    columns, rows = published_rows(board)
    also = any(r.also for r in rows)
    body = [
        [
            escape(r.model),
            *("–" if v is None else f"{v:g}" for v in r.values),
            *([escape(r.also)] if also else []),
            *map(escape, (r.metric, r.protocol, r.source)),
        ]
        for r in rows[:PUBLISHED_ROWS]
    ]
    head = ["model", *map(escape, columns), *(["also"] if also else []), "metric", "protocol", "source"]
    more = len(rows) - len(body)
    text = table(head, body, "l" + "r" * len(columns) + "l" * (also + 3))
    return text + (f"\n\n{count(more)} more rows of published figures stand in the CSV." if more else "")
