"""Runs in, one table model per suite out: what every format draws from."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rmbench.core import Estimate, Facts, Judgment, Run, Suite
from rmbench.errors import BadData
from rmbench.metrics import summary
from rmbench.store import Stored

BASELINES = ("random", "length", "constant", "oracle")
"""What stands before the colon in the reference of a null model."""

UNFINISHED = "not finished: run the same eval again to go on"
NO_ANSWER = "no answer to any item: every judgment is an error"

UNANSWERED = 0.05
"""Share of items without a verdict above which a rank gets a warning."""

TOTALS = ("overall", "micro")
AXIS = 34
"""Characters of a name on an axis of a plot."""


class Entry(NamedTuple):
    """One run with its numbers."""

    label: str
    """Unique within a table."""
    stored: Stored
    estimates: tuple[Estimate, ...]
    short: str = ""
    """The label, clipped for an axis where it is long; unique as well."""
    rank: int | None = None
    """1 + the number of models whose interval lies entirely above; equal ranks are a group. None: not ranked."""
    warnings: tuple[str, ...] = ()
    """What stands against its number: items without a verdict, a baseline that does as well."""

    @property
    def place(self) -> str:
        """The rank as tables show it, with a mark where there is a warning."""
        return "" if self.rank is None else f"{self.rank}{'!' * bool(self.warnings)}"

    def n(self, scope: str) -> int:
        """Items that the number of this scope is made of; items asked for where there is none."""
        main = self.main(scope)
        return self.run.n if main is None else main.n

    @property
    def run(self) -> Run:
        return self.stored.run

    @property
    def baseline(self) -> bool:
        return is_baseline(self.run)

    def main(self, scope: str) -> Estimate | None:
        """The suite's own number of this scope: the first, others carry other names after it."""
        return next((e for e in self.estimates if e.scope == scope), None)

    def named(self, name: str, scopes: Sequence[str] = TOTALS) -> Estimate | None:
        """A further metric, of the first of ``scopes`` that has it."""
        found = {e.scope: e for e in self.estimates if e.name == name}
        return next((found[s] for s in scopes if s in found), None)


class Published(NamedTuple):
    """A figure read elsewhere: a fact with its source, never ranked."""

    suite: str
    model: str
    category: str
    metric: str
    value: float
    protocol: str
    source: str
    notes: str


class Figures(NamedTuple):
    """What one source says of one model under one protocol, as a row."""

    model: str
    metric: str
    values: tuple[float | None, ...]
    """In the order of the columns."""
    also: str
    """Figures of parts that the suite has no column for."""
    protocol: str
    source: str


class Difference(NamedTuple):
    """One line of a paired comparison, as a page shows it: ``b`` minus ``a``, in the unit of the metric."""

    scope: str
    metric: str
    a: float | None
    b: float | None
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    n: int
    broken: int | None = None
    """Items that a has right and b has wrong."""
    fixed: int | None = None
    detectable: float | None = None
    """The smallest difference that so many items could have shown."""
    reason: str | None = None


class Apart(NamedTuple):
    """Runs that must not stand in the ranking, and why."""

    reason: str
    entries: tuple[Entry, ...]


class Board(NamedTuple):
    """Everything known about one suite."""

    suite: Suite
    suite_hash: str
    columns: tuple[str, ...]
    """Scopes with a column of their own: the categories, or the subsets where there is one category only."""
    headline: str
    """The scope that orders: ``overall``, or ``micro`` where the overall is undefined; it ranks too. Where the rules
    give neither, the first scope of its own, which orders only."""
    models: tuple[Entry, ...]
    baselines: tuple[Entry, ...]
    apart: tuple[Apart, ...]
    published: tuple[Published, ...] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What was run on the same items, best first; baselines last."""
        return (*self.models, *self.baselines)

    @property
    def shown(self) -> tuple[Entry, ...]:
        """What plots draw: the table, or where nothing stands in it, what stands apart."""
        return self.entries or self.everything

    @property
    def everything(self) -> tuple[Entry, ...]:
        return (*self.entries, *(e for a in self.apart for e in a.entries))


def boards(runs: Iterable[tuple[Stored, Sequence[Estimate]]], published: Sequence[Published] = ()) -> list[Board]:
    """One board per suite name, in order of name. Runs of the same suite but other items stand apart."""
    by_suite: dict[str, list[tuple[Stored, Sequence[Estimate]]]] = {}
    for stored, estimates in runs:
        by_suite.setdefault(stored.run.suite.name, []).append((stored, estimates))
    return [
        # A variant of a suite has the same items; the figures' protocol says by which rule they were made.
        _board(by_suite[name], [p for p in published if p.suite == name.partition(":")[0]])
        for name in sorted(by_suite)
    ]


def ranks(intervals: Sequence[tuple[float, float] | None]) -> list[int | None]:
    """1 + how many intervals lie entirely above, per (low, high); None stays None (Li et al. 2024, separability)."""
    lows = [i[0] for i in intervals if i is not None]
    return [None if i is None else 1 + sum(low > i[1] for low in lows) for i in intervals]


def is_baseline(run: Run) -> bool:
    return run.model.split(":")[0] in BASELINES


def is_trivial(run: Run) -> bool:
    """A baseline that knows nothing of the right answers."""
    return is_baseline(run) and not run.model.startswith("oracle")


def on_items(stored: Stored, facts: Sequence[Facts]) -> list[Estimate] | None:
    """A run's own numbers on these items only; None where it was not asked all of them."""
    asked = {(f.item_id, f.hash) for f in facts}
    own = [f for f in stored.facts if (f.item_id, f.hash) in asked]
    if len(own) < len(asked):
        return None
    return summary.estimates(stored.run.suite, own, stored.judgments, further=False)


def warnings(
    stored: Stored, estimates: Sequence[Estimate], baselines: Mapping[str, Sequence[Estimate]], headline: str = ""
) -> list[str]:
    """What stands against a run's number: too many items without a verdict, or one of ``baselines`` (name -> estimates
    on the same items) that does as well. ``headline``: the scope they are held against each other by."""
    found = [unsaid] if (unsaid := _unanswered(stored)) else []
    own = summary.main(estimates)
    defined = [scope for scope in TOTALS if scope in own and own[scope].value is not None]
    main = own.get(headline or (defined or [""])[0])
    scores = {} if main is None else by_name(baselines, main.scope)
    values = [(e.value, name) for name, e in scores.items() if e is not None and e.value is not None]
    if main is None or main.value is None or not values:
        return found
    value, name = max(values)
    score = f"{plain(name)} ({100 * value:.1f})"
    if main.value <= value:
        found.append(f"does not beat {score}")
    elif main.low is not None and main.low <= value:
        found.append(f"does not clearly beat {score}, which lies within its interval")
    return found


def _unanswered(stored: Stored) -> str | None:
    run = stored.run
    if run.errors <= UNANSWERED * run.n:
        return None
    whys = Counter(_why(j) for j in stored.judgments.values() if j.scores is None)
    often = f" (most often: {plain(max(sorted(whys), key=whys.__getitem__))})" if whys else ""
    return (
        f"gave no verdict on {run.errors:,} of {run.n:,} items{often}, which earn nothing: see the errors in "
        f"{stored.path.parent.name}/{stored.path.name}/judgments.jsonl"
    )


def _why(judgment: Judgment) -> str:
    """The kind of an error, without what it may quote of a model's words."""
    said = next((b.error for b in judgment.ballots if b.error), None) or judgment.error or ""
    return re.split(r": | \(", said)[0]


def labels(runs: Sequence[Run]) -> list[str]:
    """A name per run, unique among runs of the same items: the model, with the fingerprint where two settings share
    it, with a number where two runs share even that."""
    fingerprints: dict[str, set[str]] = {}
    for run in runs:
        fingerprints.setdefault(plain(run.model), set()).add(run.fingerprint)
    made: list[str] = []
    taken: dict[tuple[object, ...], int] = {}
    for run in runs:
        name = plain(run.model)
        name += f" ({run.fingerprint})" if len(fingerprints[name]) > 1 else ""
        key = (name, run.suite_hash, run.limit, run.seed)
        taken[key] = taken.get(key, 0) + 1
        made.append(name if taken[key] == 1 else f"{name} #{taken[key]}")
    return made


def plain(text: str) -> str:
    """One line in which control characters and marks that reorder text are spelled out, so that a name can neither
    drive a terminal nor pass for another one."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def clip(text: str, longest: int) -> str:
    """Short enough for a column or an axis; the end of a name tells models apart better than its middle."""
    return text if len(text) <= longest else f"{text[: longest // 2 - 1]}…{text[-(longest - longest // 2) :]}"


def clipped(names: Sequence[str], longest: int) -> dict[str, str]:
    """Each name clipped to ``longest``, or to as much more as keeps all of them apart."""
    for size in range(longest, max(map(len, names), default=0) + 1):
        made = {name: clip(name, size) for name in names}
        if len(set(made.values())) == len(made):
            return made
    return {name: name for name in names}


def read_published(file: Path) -> list[Published]:
    """The table of facts that is committed beside the results (``published.csv``); empty where there is none."""
    if not file.is_file():
        return []
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            return [
                Published(
                    row["suite"], row["model"], row["category"], row["metric"], float(row["value"]),
                    row["protocol"], row["source"], row["notes"],
                )
                for row in csv.DictReader(opened)
            ]  # fmt: skip
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BadData(
            f"{file} is not a table of published figures ({error!r}); it needs the columns "
            f"{', '.join(Published._fields)}"
        ) from error


def published_rows(board: Board) -> tuple[list[str], list[Figures]]:
    """Columns that have a figure, and a row per model, metric, protocol and source; the suite's own protocol first,
    then by name: in no order of merit, since the protocols differ."""
    grouped: dict[tuple[str, str, str, str], dict[str, float]] = {}
    for p in board.published:
        category = "overall" if p.category.lower() in ("overall", "all", "average") else p.category
        grouped.setdefault((p.protocol, p.model, p.source, p.metric), {})[category] = p.value
    given = {c for values in grouped.values() for c in values}
    columns = [c for c in ("overall", *board.suite.categories) if c in given]
    rows = [
        Figures(
            model, metric, tuple(values.get(c) for c in columns),
            "; ".join(f"{c} {v:g}" for c, v in values.items() if c not in columns), protocol, source,
        )
        for (protocol, model, source, metric), values in sorted(grouped.items())
    ]  # fmt: skip
    return columns, sorted(rows, key=lambda r: r.protocol != board.suite.rules.name)


# How a number is written, the same in every format for people


def number(estimate: Estimate | None) -> str:
    """A value of 0..1 in per cent with one decimal; ``–`` where undefined."""
    return "–" if estimate is None or estimate.value is None else f"{100 * estimate.value:.1f}"


def interval(estimate: Estimate | None) -> str:
    """``[70.0, 76.8]``, or nothing."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def count(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def title(scope: str) -> str:
    """``category:Chat Hard`` as ``Chat Hard``."""
    return scope.split(":", 1)[-1]


def scope_rows(card: Suite, *estimates: Sequence[Estimate]) -> list[tuple[str, str, int]]:
    """(scope, title, depth) in the order of tables: each category, then its subsets, those without one, the totals;
    only what the estimates have."""
    rows: list[tuple[str, str, int]] = []
    for category, subsets in card.categories.items():
        rows += [(f"category:{category}", plain(category), 0)]
        rows += [] if tuple(subsets) == (category,) else [(f"subset:{s}", plain(s), 1) for s in subsets]
    have = dict.fromkeys(e.scope for es in estimates for e in es)
    named = {f"subset:{s}" for subsets in card.categories.values() for s in subsets}
    rows += [(s, plain(title(s)), 1) for s in have if s.startswith("subset:") and s not in named]
    return [r for r in (*rows, *((t, t, 0) for t in TOTALS)) if r[0] in have]


def footnotes(board: Board) -> list[str]:
    """What the reader of a table must know, in sentences."""
    rules = board.suite.rules
    notes = [f"Rules: {rules.name}. {rules.about}".strip()]
    if board.models and board.headline in TOTALS:
        notes.append(
            f"Ranked by {board.headline}; rank = 1 + number of models whose interval lies entirely above. Intervals of "
            "one rank overlap; rmbench compare pairs the items, and may still tell such models apart."
        )
    elif board.models:
        notes.append(f"In order of {title(board.headline)}, and not ranked: one part alone says not which is better.")
    notes += [f"{entry.label} {warning}." for entry in board.everything for warning in entry.warnings]
    notes += _left_out(board)
    undefined = {e.reason for x in board.shown if (e := x.main("overall")) and e.value is None and e.reason}
    notes += [f"No overall: {reason}." for reason in sorted(undefined)]
    orders: dict[str, list[str]] = {}
    for entry in board.shown:
        orders.setdefault(entry.run.order, []).append(entry.label)
    notes += [f"Position, {_some(names)}: {order}." for order, names in orders.items()]
    for entry in board.everything:
        notes += [f"{entry.label}: {note}" for note in entry.run.notes]
        if entry.run.status == "imported":
            notes.append(f"{entry.label}: imported, not run here.")
    return [plain(n if n.endswith((".", "!", "?")) else f"{n}.") for n in notes]


def _left_out(board: Board) -> list[str]:
    """Why n is less than the number of items."""
    totals = [main for e in board.shown if (main := e.main("micro")) is not None]
    skipped = sorted({int(m.extra.get("skipped") or 0) for m in totals})
    if not any(skipped):
        return []
    some = f"{skipped[-1]:,}" if len(skipped) == 1 else f"{skipped[0]:,} to {skipped[-1]:,}"
    return [f"n is without {some} items that the rule for ties leaves out."]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"


class _Items(NamedTuple):
    """What runs must share to stand in one ranking."""

    suite_hash: str
    partial: bool
    limit: int | None
    seed: int | None


def _board(runs: Sequence[tuple[Stored, Sequence[Estimate]]], published: Sequence[Published]) -> Board:
    runs = sorted(runs, key=lambda r: (r[0].run.model, r[0].run.fingerprint, r[0].path.as_posix()))
    names = labels([r[0].run for r in runs])
    short = clipped(names, AXIS)
    entries = [
        Entry(label, stored, tuple(estimates), short[label])
        for label, (stored, estimates) in zip(names, runs, strict=True)
    ]
    groups: dict[_Items, list[Entry]] = {}
    apart: dict[str, list[Entry]] = {}
    for entry in entries:
        run = entry.run
        if run.status == "running":
            # Its numbers would count what is not judged yet as wrong.
            apart.setdefault(UNFINISHED, []).append(entry._replace(estimates=()))
        elif 0 < run.n == run.errors:
            # Rules that count an error as wrong would give it a 0: "said nothing" is not "says no".
            apart.setdefault(NO_ANSWER, []).append(entry)
        else:
            seed = None if run.limit is None else run.seed
            groups.setdefault(_Items(run.suite_hash, run.suite.partial, run.limit, seed), []).append(entry)

    def standing(key: _Items) -> tuple[int, str, str]:
        # Of several whole suites the one that most runs share stands in the table, then the newest.
        return len(groups[key]), max(e.run.finished for e in groups[key]), key.suite_hash

    best = max((k for k in groups if not k.partial and k.limit is None), key=standing, default=None)
    main = groups.get(best, []) if best is not None else []
    card = (main or entries)[0].run.suite
    rows = [scope for scope, _, _ in scope_rows(card, *(e.estimates for e in main or entries))]
    scopes = [s for s in rows if s.startswith("category:")]
    if len(scopes) <= 1:
        scopes = [s for s in rows if s.startswith("subset:")]
        scopes = scopes if len(scopes) > 1 else []
    headline = _headline(main or entries, scopes)
    for key, members in groups.items():
        members[:] = _warned(members, headline)
        if key != best:
            reason = _why_apart(members[0].run, None if best is None else groups[best][0].run)
            apart.setdefault(reason, []).extend(members)
    models = _ranked([e for e in main if not e.baseline], headline)
    return Board(
        suite=card,
        suite_hash=(main or entries)[0].run.suite_hash,
        columns=tuple(s for s in scopes if s != headline),
        headline=headline,
        models=tuple(models),
        baselines=tuple(_ordered([e for e in main if e.baseline], headline)),
        apart=tuple(Apart(reason, tuple(_ordered(members, headline))) for reason, members in sorted(apart.items())),
        published=tuple(published),
    )


def _why_apart(run: Run, table: Run | None) -> str:
    if run.limit is not None:
        return f"limited to {run.limit:,} items (seed {run.seed})"
    if run.suite.partial:
        absent, want = run.suite.missing.values(), sum(run.suite.counts.values())
        n = f"{sum(absent):,} of {want:,} items are" if want and all(absent) else run.suite.absent
        return f"partial suite: {n} absent from the data (hash {run.suite_hash})"
    other = "" if table is None else f", the table has {table.suite_hash} (v{table.suite.version})"
    return f"other items or rules: suite hash {run.suite_hash} (v{run.suite.version}){other}"


def _warned(entries: Sequence[Entry], headline: str) -> list[Entry]:
    """Entries of the same items, the models among them with what stands against their numbers."""
    beside = {e.label: e.estimates for e in entries if is_trivial(e.run)}
    return [
        e if e.baseline else e._replace(warnings=tuple(warnings(e.stored, e.estimates, beside, headline)))
        for e in entries
    ]


def _headline(entries: Sequence[Entry], scopes: Sequence[str]) -> str:
    def defined(scope: str) -> bool:
        return any((m := e.main(scope)) is not None and m.value is not None for e in entries)

    return next((scope for scope in (*TOTALS, *scopes) if defined(scope)), TOTALS[0])


def _value(entry: Entry, scope: str) -> float:
    estimate = entry.main(scope)
    return -1.0 if estimate is None or estimate.value is None else estimate.value


def _ordered(entries: Sequence[Entry], scope: str) -> list[Entry]:
    return sorted(entries, key=lambda e: (-_value(e, scope), e.label))


def _ranked(entries: Sequence[Entry], scope: str) -> list[Entry]:
    ordered = _ordered(entries, scope)
    if scope not in TOTALS:
        return ordered
    bounds: list[tuple[float, float] | None] = []
    for entry in ordered:
        e = entry.main(scope)
        if e is None or e.value is None:
            bounds.append(None)
        else:
            # A value without an interval is no evidence of order: it could lie anywhere.
            bounds.append((e.low, e.high) if e.low is not None and e.high is not None else (0.0, 1.0))
    return [entry._replace(rank=rank) for entry, rank in zip(ordered, ranks(bounds), strict=True)]


def by_name(estimates: Mapping[str, Sequence[Estimate]], scope: str) -> dict[str, Estimate | None]:
    """Of each named list the main number of a scope."""
    return {name: next((e for e in es if e.scope == scope), None) for name, es in estimates.items()}
