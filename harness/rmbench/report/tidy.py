"""Everything a board holds as tidy rows: one per model, scope and metric; as CSV and for data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from rmbench.report.leaderboard import Board, Entry

COLUMNS = (
    "suite", "version", "suite_hash", "rules", "standing", "rank", "model", "fingerprint", "adapter", "scope", "metric",
    "value", "low", "high", "se", "method", "n", "missing", "wins", "ties", "losses", "errors", "truncated", "reason",
    "source",
)  # fmt: skip


def rows(board: Board) -> Iterator[dict[str, object]]:
    """``standing`` is ``model``, ``baseline``, ``imported``, ``apart: <why>`` or ``published``. Values are fractions,
    published ones stand in the unit of their ``metric``."""
    for entry in board.entries:
        standing = "baseline" if entry.baseline else "imported" if entry.run.status == "imported" else "model"
        yield from _entry(board, entry, standing)
    for apart in board.apart:
        for entry in apart.entries:
            yield from _entry(board, entry, f"apart: {apart.reason}")
    for p in board.published:
        yield dict.fromkeys(COLUMNS) | {
            "suite": p.suite,
            "rules": p.protocol,
            "standing": "published",
            "model": p.model,
            "scope": p.category,
            "metric": p.metric,
            "value": p.value,
            "reason": p.notes,
            "source": p.source,
        }


def to_csv(boards: Iterable[Board]) -> str:
    """Comma-separated with a header; a text that a spreadsheet would run as a formula gets a leading apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([cell(row[c]) for c in COLUMNS] for board in boards for row in rows(board))
    return out.getvalue()


def cell(value: object) -> str:
    """Numbers rounded to six places, so that the last bits of a platform do not show; texts made harmless."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{round(value, 6) + 0.0:.6f}".rstrip("0").rstrip(".")
    if isinstance(value, int):
        return str(value)
    text = str(value)
    # OWASP's list of what starts a formula; the apostrophe is what spreadsheets themselves use for "this is text".
    return f"'{text}" if text.lstrip(" \t\r\n").startswith(("=", "+", "-", "@", "|", "%")) else text


def _entry(board: Board, entry: Entry, standing: str) -> Iterator[dict[str, object]]:
    run = entry.run
    head: dict[str, object] = {
        "suite": run.suite.name,
        "version": run.suite.version,
        "suite_hash": run.suite_hash,
        "rules": run.suite.rules.name,
        "standing": standing,
        "model": entry.label,
        "fingerprint": run.fingerprint,
        "adapter": run.adapter,
        "source": None,
    }
    if not entry.estimates:
        yield dict.fromkeys(COLUMNS) | head | {"reason": f"{run.done:,} of {run.n:,} items"}
    for e in entry.estimates:
        yield head | {
            "rank": entry.rank if e is entry.main(board.headline) else None,
            "scope": e.scope,
            "metric": e.name,
            "value": e.value,
            "low": e.low,
            "high": e.high,
            "se": e.se,
            "method": e.method,
            "n": e.n,
            "missing": e.missing,
            "wins": float(e.wins),
            "ties": float(e.ties),
            "losses": float(e.losses),
            "errors": e.errors,
            "truncated": e.truncated,
            "reason": e.reason,
        }
