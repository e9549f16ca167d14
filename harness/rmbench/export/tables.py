"""Runs as tidy tables: one row per judged response, and one per estimate; CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

import msgspec

from rmbench.core import Estimate
from rmbench.errors import MissingExtra
from rmbench.metrics.summary import credits_of
from rmbench.store import Stored

RESPONSES = (
    "suite", "suite_version", "suite_hash", "model", "fingerprint", "item_id", "item_hash", "subset", "category",
    "response", "grade", "score", "length", "strength", "cluster", "credit", "outcome", "error", "truncated", "ballots",
)  # fmt: skip
ESTIMATES = (
    "suite", "suite_version", "suite_hash", "rules", "model", "fingerprint", "scope", "metric", "value", "low", "high",
    "se", "method", "n", "missing", "wins", "ties", "losses", "errors", "truncated", "reason",
)  # fmt: skip

Row = dict[str, object]


def responses(stored: Stored) -> Iterator[Row]:
    """One row per response of every item asked for; ``credit`` and ``outcome`` are the item's."""
    run = stored.run
    categories = {s: c for c, subsets in run.suite.categories.items() for s in subsets}
    credits = credits_of(stored.facts, stored.judgments, run.suite.rules)
    for f, credit in zip(stored.facts, credits, strict=True):
        judgment = stored.judgments.get(f.item_id)
        scores = judgment.scores if judgment is not None else None
        for i, grade in enumerate(f.grades):
            yield {
                **_head(stored),
                "item_id": f.item_id,
                "item_hash": f.hash,
                "subset": f.subset,
                "category": categories.get(f.subset),
                "response": i,
                "grade": float(grade),
                "score": None if scores is None else float(scores[i]),
                "length": f.lengths[i],
                "strength": f.strength,
                "cluster": f.cluster,
                "credit": None if credit is None else credit.value,
                "outcome": None if credit is None else credit.outcome,
                "error": None if judgment is None else judgment.error,
                "truncated": 0 if judgment is None else judgment.truncated,
                "ballots": 0 if judgment is None else len(judgment.ballots),
            }


def estimates(stored: Stored, made: Sequence[Estimate]) -> Iterator[Row]:
    """One row per estimate."""
    for e in made:
        fields = {k: v for k, v in msgspec.structs.asdict(e).items() if k != "extra"}
        fields["metric"] = fields.pop("name")
        for k in ("wins", "ties", "losses"):
            fields[k] = float(fields[k])
        yield {**_head(stored), "rules": stored.run.suite.rules.name, **fields}


def to_csv(rows: Iterator[Row], columns: Sequence[str]) -> bytes:
    """Full precision; a text that a spreadsheet would run as a formula gets a leading apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(c)) for c in columns] for row in rows)
    return out.getvalue().encode()


def to_parquet(rows: Iterator[Row], columns: Sequence[str]) -> bytes:
    """Raises MissingExtra without pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("pyarrow", "parquet", "export to Parquet") from None
    made = list(rows)
    table = pa.table({c: pa.array([row.get(c) for row in made], type=_arrow_type(pa, c)) for c in columns})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _head(stored: Stored) -> Row:
    run = stored.run
    return {
        "suite": run.suite.name,
        "suite_version": run.suite.version,
        "suite_hash": run.suite_hash,
        "model": run.model,
        "fingerprint": run.fingerprint,
    }


def _cell(value: object) -> object:
    if isinstance(value, str) and value.lstrip(" \t\r\n").startswith(("=", "+", "-", "@", "|", "%")):
        return f"'{value}"
    return "" if value is None else repr(value) if isinstance(value, float) else value


def _arrow_type(pa: object, column: str) -> object:
    # Named, so that a column of blanks has the type it has in every other file.
    numbers = {"response", "length", "truncated", "ballots", "n", "missing", "errors"}
    floats = {"grade", "score", "strength", "credit", "value", "low", "high", "se", "wins", "ties", "losses"}
    kind = "int64" if column in numbers else "float64" if column in floats else "string"
    return getattr(pa, kind)()
