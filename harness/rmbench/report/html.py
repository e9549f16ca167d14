"""One self-contained HTML page per suite: leaderboard, models, plots, margins of two models, and every item.

The page asks no server for anything. Its script and style are allowed by their hash alone, the runs' own text reaches
it as compressed JSON and the document as text nodes, so nothing a model wrote can run.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from rmbench import suites
from rmbench.core import Ballot, Facts, Item, Judgment
from rmbench.metrics import summary
from rmbench.report.leaderboard import (
    Board,
    Difference,
    Entry,
    count,
    footnotes,
    interval,
    number,
    published_rows,
    scope_rows,
    title,
)

LARGEST = 14_000_000
"""Bytes a page may have; beyond it judges' thinking is left out, then their words, and the page says so."""

TEMPLATES = Path(__file__).parent / "templates"
_encoder = msgspec.json.Encoder(order="deterministic")

OUTCOMES = {"win": "w", "tie": "t", "loss": "l", "error": "e", "absent": "-", "gold tie": "g", "dropped": "d"}


class Pair(NamedTuple):
    """Two runs of a board that the page opens on."""

    a: str
    b: str
    differences: Sequence[Difference]
    notes: Sequence[str] = ()


def page(
    board: Board,
    *,
    texts: Sequence[Item] | None = None,
    why_no_texts: str = "",
    words: bool = True,
    plots: Mapping[str, bytes] | None = None,
    pair: Pair | None = None,
) -> str:
    """The page of a board. ``texts``: the suite's items, of which those are shown whose hash is the run's;
    ``words``: with the judges' own words; ``plots``: title -> SVG."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    facts = _items(board)
    shown = {item.content_hash(): item for item in texts or ()}
    notes = footnotes(board)
    if why_no_texts:
        notes.append(f"Without texts: {why_no_texts}.")
    elif facts and texts is not None and (absent := sum(h not in shown for h in facts)):
        notes.append(f"Without the texts of {count(absent)} items: the data at hand holds other ones.")
    summary_blob = _pack(_summary(board, facts, pair, words))
    text_blob = ""
    for keep in (("text", "thinking"), ("text",), ()) if words else ((),):
        text_blob = _pack(_texts(board, facts, shown, keep))
        if len(summary_blob) + len(text_blob) <= LARGEST:
            break
    else:
        keep = ()
    if words and "thinking" not in keep and any(_says(board, "thinking")):
        notes.append("Without the judges' thinking, which would make this page larger than 14 MB.")
    if words and "text" not in keep and any(_says(board, "text")):
        notes.append("Without the judges' words, which would make this page larger than 14 MB.")
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    columns, figures = published_rows(board)
    published = columns, [(p, list(rows)) for p, rows in itertools.groupby(figures, key=lambda r: r.protocol)]
    change = None if pair is None else next((d for d in pair.differences if d.value is not None), None)
    # Of one part only, "best" would say more than it can.
    best = next((e for e in board.models[:1] if e.rank is not None), None)
    scopes = scope_rows(board.suite, *(e.estimates for e in board.everything))
    return environment.get_template("page.html").render(
        board=board,
        heading=f"{board.suite.name} v{board.suite.version}",
        source=suites.origin(board.suite),
        categories=_columns(board, scopes),
        columns=[(s, n, group) for group, members in _columns(board, scopes).items() for s, n in members],
        number=number,
        interval=interval,
        count=count,
        consistent=any(e.named("consistency") for e in board.everything),
        notes=notes,
        pair=pair,
        best=best,
        tied=0 if best is None else sum(e.rank == best.rank is not None for e in board.models) - 1,
        items=len(board.shown[0].stored.facts) if board.shown else 0,
        published=published,
        also=any(r.also for r in figures),
        change=change,
        percent=lambda v: "–" if v is None else f"{100 * v:+.1f}",
        level=lambda v: "–" if v is None else f"{100 * v:.1f}",
        title=title,
        plots=[(name, base64.b64encode(svg).decode()) for name, svg in (plots or {}).items()],
        script=script,
        style=style,
        script_hash=_csp(script),
        style_hash=_csp(style),
        summary_blob=summary_blob,
        text_blob=text_blob,
        has_items=bool(facts),
    )


def _columns(board: Board, scopes: Sequence[tuple[str, str, int]]) -> dict[str, list[tuple[str, str]]]:
    """Column group -> (scope, title): the board's own columns first, then each category's subsets."""
    names = {scope: name for scope, name, _ in scopes}
    groups = {"Overview": [(s, names.get(s, title(s))) for s in board.columns]}
    for category, subsets in board.suite.categories.items():
        members = [(f"subset:{s}", names[f"subset:{s}"]) for s in subsets if f"subset:{s}" in names]
        if members and not {s for s, _ in members} <= set(board.columns):
            groups[category] = members
    return groups


def _items(board: Board) -> dict[str, Facts]:
    """Every item that any run was asked, by hash; those of the table first."""
    facts: dict[str, Facts] = {}
    for entry in board.everything:
        for f in entry.stored.facts:
            facts.setdefault(f.hash, f)
    return facts


def _summary(board: Board, facts: Mapping[str, Facts], pair: Pair | None, words: bool) -> dict[str, object]:
    subsets = list(dict.fromkeys(f.subset for f in facts.values()))
    of = {s: c for c, group in board.suite.categories.items() for s in group}
    reasons = {id(e): a.reason for a in board.apart for e in a.entries}
    return {
        "subsets": [[s, of.get(s, "")] for s in subsets],
        "scopes": scope_rows(board.suite, *(e.estimates for e in board.everything)),
        "models": [_model(e, reasons.get(id(e))) for e in board.everything],
        "items": [
            [f.item_id, subsets.index(f.subset), f.grades, f.lengths, f.strength, f.cluster] for f in facts.values()
        ],
        "judged": [_judged(e, facts, words) for e in board.everything],
        "pair": None if pair is None else [pair.a, pair.b],
    }


def _model(entry: Entry, apart: str | None) -> dict[str, object]:
    run = entry.run
    return {
        "label": entry.label,
        "baseline": entry.baseline,
        "apart": apart,
        "rank": entry.rank,
        "facts": {
            "model": run.model,
            "adapter": run.adapter,
            "engine": run.engine,
            "position": run.order,
            "items": f"{run.done:,} of {run.n:,}, {run.errors:,} errors, {run.truncated:,} truncated",
            "warnings": "; ".join(entry.warnings),
            "tokens": f"{run.tokens:,} read, {run.generated:,} written",
            "time": f"{run.seconds:,.1f} s on {run.device or 'unknown device'}",
            "exact": "bits" if run.exact else f"within {run.tolerance:g}",
            "command": run.command,
            "status": run.status,
            "fingerprint": run.fingerprint,
            "notes": "; ".join(run.notes),
            "settings": msgspec.json.format(_encoder.encode(run.settings), indent=1).decode(),
            "versions": ", ".join(f"{k} {v}" for k, v in sorted(run.versions.items())),
        },
        "estimates": [
            [e.scope, e.name, _place(e.value), _place(e.low), _place(e.high), e.n, e.missing, e.wins, e.ties, e.losses,
             e.truncated, e.method, e.reason]
            for e in entry.estimates
        ],
    }  # fmt: skip


def _judged(entry: Entry, facts: Mapping[str, Facts], words: bool) -> dict[str, object]:
    """Scores, outcomes and ballots in the order of ``facts``; errors without what they quote unless ``words``."""
    stored = entry.stored
    own = {f.hash: f for f in stored.facts}
    outcomes, credits, scores = [], {}, []
    errors: dict[str, str] = {}
    ballots: dict[str, list[object]] = {}
    made = dict(zip(own, summary.credits_of(stored.facts, stored.judgments, stored.run.suite.rules), strict=True))
    for i, item_hash in enumerate(facts):
        f = own.get(item_hash)
        judgment = None if f is None else stored.judgments.get(f.item_id)
        credit = None if f is None else made[item_hash]
        code = "-" if judgment is None else "e" if judgment.error else "s"
        if credit is not None:
            code = OUTCOMES[credit.outcome]
            if credit.value not in (None, 0.0, 1.0):
                credits[str(i)] = credit.value
        outcomes.append(code)
        scores.append(None if judgment is None or judgment.scores is None else [_short(s) for s in judgment.scores])
        if judgment is not None and judgment.error:
            errors[str(i)] = judgment.error if words else _bare(judgment.error)
        if judgment is not None and judgment.ballots:
            ballots[str(i)] = [_ballot(b, words) for b in judgment.ballots]
    return {"outcomes": "".join(outcomes), "credits": credits, "scores": scores, "errors": errors, "ballots": ballots}


def _ballot(b: Ballot, words: bool) -> list[object]:
    verdict: object = "tie" if b.tie else b.picked if b.picked is not None else b.rating
    probabilities = None if b.probabilities is None else [_short(p) for p in b.probabilities]
    return [b.shown, verdict, b.rating is not None, b.sample, probabilities, list(b.labels), b.judge,
            b.error if words or b.error is None else _bare(b.error)]  # fmt: skip


def _bare(error: str) -> str:
    """``refused: I cannot ...`` as ``refused``: what follows may be a model's own words."""
    return re.split(r": | \(", error)[0]


def _texts(board: Board, facts: Mapping[str, Facts], shown: Mapping[str, Item], keep: Sequence[str]) -> object:
    items = [shown.get(h) for h in facts]
    words: list[dict[str, object]] = []
    for entry in board.everything:
        ids = {f.hash: f.item_id for f in entry.stored.facts}
        said: dict[str, object] = {}
        for i, item_hash in enumerate(facts):
            judgment = entry.stored.judgments.get(ids.get(item_hash, ""))
            if keep and judgment is not None and any(getattr(b, k) for b in judgment.ballots for k in keep):
                said[str(i)] = [[getattr(b, k) for k in keep] for b in judgment.ballots]
        words.append(said)
    return {
        "prompts": [None if i is None else [[m.role, m.content] for m in i.prompt] for i in items],
        "turns": [
            None if i is None or not i.turns else [[[m.role, m.content] for m in t] for t in i.turns] for i in items
        ],
        "responses": [None if i is None else i.responses for i in items],
        "words": words,
    }


def _says(board: Board, what: str) -> list[bool]:
    judgments: list[Judgment] = [j for e in board.everything for j in e.stored.judgments.values()]
    return [True for j in judgments for b in j.ballots if getattr(b, what)]


def _place(value: float | None) -> float | None:
    """Six places, as in the CSV: the last bits of a platform must not show."""
    return None if value is None else round(value, 6)


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _pack(value: object) -> str:
    # The time in gzip's header would make other bytes every day.
    return base64.b64encode(gzip.compress(msgspec.json.encode(value), 9, mtime=0)).decode()


def _csp(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
