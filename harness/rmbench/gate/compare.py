"""Runs of the same items side by side: paired differences with intervals, and the items that changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from rmbench.core import Facts, Suite
from rmbench.errors import Undecided, UsageError
from rmbench.gate.ranks import Ranking, rank
from rmbench.metrics.credit import credit
from rmbench.metrics.intervals import Combined, Floats, Interval, Ints, Measure, combine, group_codes
from rmbench.metrics.paired import (
    PValue,
    benjamini_hochberg,
    detectable,
    difference_interval,
    holm,
    paired_interval,
    paired_test,
    sign_flip,
)
from rmbench.metrics.summary import Counted, Scope, count, scopes
from rmbench.store import Stored


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """``b`` minus ``a`` in one scope, in the unit of the metric (a share for accuracy)."""

    scope: str
    name: str
    n: int
    a: float | None
    b: float | None
    value: float | None
    low: float | None = None
    high: float | None = None
    se: float | None = None
    method: str = ""
    p: float | None = None
    p_method: str = ""
    p_adjusted: float | None = None
    """Holm over categories, Benjamini-Hochberg over subsets; None elsewhere."""
    better: int = 0
    """Items with more credit in b."""
    worse: int = 0
    step: float = 0.0
    """What one item, or one cluster of items, moves the value by, at most."""
    detectable: float | None = None
    """True difference that this comparison would have shown four times in five."""
    reason: str | None = None


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """An item whose credit changed."""

    item_id: str
    subset: str
    a: float
    b: float
    """Credits."""
    margin_a: float | None
    margin_b: float | None
    """Score of the best-graded response minus the highest other; None for an error."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs on the items that both judged."""

    suite: str
    version: str
    suite_hash: str
    protocol: str
    a: str
    b: str
    n: int
    only_a: int
    only_b: int
    """Items judged by one of the two only."""
    asked: int
    errors_a: int
    errors_b: int
    confidence: float
    differences: tuple[Difference, ...]
    """``overall``, categories, ``micro``, subsets."""
    broken: tuple[Flip, ...]
    """Less credit in b, worst margin first."""
    fixed: tuple[Flip, ...]
    notes: tuple[str, ...] = ()

    def of(self, scope: str) -> Difference | None:
        return next((d for d in self.differences if d.scope == scope), None)

    def _repr_html_(self) -> str:
        """For Jupyter: ``b`` minus ``a`` in points, a row per scope that has a value."""
        import pandas as pd

        percent = {"a": self.a, "b": self.b, "value": "difference", "low": "low", "high": "high"}
        rows = [
            {"scope": d.scope, **{name: _points(getattr(d, k)) for k, name in percent.items()}, "n": d.n,
             "p": "–" if d.p is None else f"{d.p:.3g}", "broken": d.worse, "fixed": d.better}
            for d in self.differences
            if d.value is not None
        ]  # fmt: skip
        return str(pd.DataFrame(rows).to_html(index=False, escape=True))


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


class Comparisons(msgspec.Struct, frozen=True, kw_only=True):
    """Every run against the first, and the ranking where there are more than two."""

    pairs: tuple[Comparison, ...]
    ranking: Ranking | None = None


def compare(runs: Sequence[Stored], *, confidence: float = 0.95) -> Comparisons:
    """The first run against each other one. Raises Undecided for runs of other items, rules or limits, UsageError for
    fewer than two."""
    if len(runs) < 2:
        raise UsageError("a comparison needs two runs or more: rmbench compare A B")
    names = labels(runs)
    for run in runs[1:]:
        if why := refusal(runs[0], run):
            raise Undecided(why)
    pairs = tuple(
        compare_pair(runs[0], run, names=(names[0], name), confidence=confidence)
        for run, name in zip(runs[1:], names[1:], strict=True)
    )
    ranking = rank(runs, names, shared_facts(runs), confidence=confidence) if len(runs) > 2 else None
    return Comparisons(pairs=pairs, ranking=ranking)


def labels(runs: Sequence[Stored]) -> list[str]:
    """Model names, with the fingerprint where two are the same."""
    names = [s.run.model for s in runs]
    return [f"{s.run.model} ({s.run.fingerprint})" if names.count(s.run.model) > 1 else s.run.model for s in runs]


def refusal(a: Stored, b: Stored) -> str | None:
    """Why two runs cannot be compared, or None."""
    one, two = a.run, b.run
    if one.suite.name != two.suite.name:
        return f"{one.model} ran {one.suite.name}, {two.model} ran {two.suite.name}: compare runs of one suite"
    if one.suite.rules.name != two.suite.rules.name:
        return f"other protocol: {one.suite.rules.name} ({one.model}) and {two.suite.rules.name} ({two.model})"
    if one.suite_hash != two.suite_hash:
        return (
            f"other items or weights: suite hash {one.suite_hash} (v{one.suite.version}, {one.model}) and "
            f"{two.suite_hash} (v{two.suite.version}, {two.model}); run both on the same data"
        )
    if (one.limit, one.limit and one.seed) != (two.limit, two.limit and two.seed):
        said = [f"limit {r.limit}, seed {r.seed}" if r.limit is not None else "all items" for r in (one, two)]
        return f"other items: {said[0]} ({one.model}) and {said[1]} ({two.model})"
    return None


class Part(NamedTuple):
    """One subset in both runs."""

    a: Counted
    b: Counted
    difference: Measure
    """``paired`` where both are means over the same items, whose differences are then its values."""

    @property
    def d(self) -> Floats | None:
        """(n,) per item, b minus a; None where the number is no mean over items."""
        return self.difference.values if self.difference.shape == "paired" else None


def shared_facts(runs: Sequence[Stored]) -> list[Facts]:
    """Items, in the first run's order, that all runs have a judgment for (an error is one) with the same content."""
    first, *others = runs
    hashes = [{f.item_id: f.hash for f in s.facts if f.item_id in s.judgments} for s in others]
    return [f for f in first.facts if f.item_id in first.judgments and all(h.get(f.item_id) == f.hash for h in hashes)]


def compare_pair(a: Stored, b: Stored, *, names: tuple[str, str] | None = None, confidence: float = 0.95) -> Comparison:
    """b minus a on the items both judged."""
    facts, card = shared_facts([a, b]), a.run.suite
    groups = group_codes([f.cluster for f in facts])
    counted_a, counted_b = (count(card, facts, s.judgments)[0] for s in (a, b))
    parts = {name: _part(counted_a[name], counted_b[name], groups) for name in counted_a}
    whole = scopes(card, {name: part.difference.n for name, part in parts.items()})
    whole += [Scope(f"subset:{name}", {name: 1.0}) for name in parts]
    made = [_difference(scope, parts, groups, confidence) for scope in whole]
    made.sort(key=lambda d: ("overall", "category", "micro", "subset").index(d.scope.partition(":")[0]))
    adjusted: dict[str, float | None] = {}
    for kind, adjust in (("category:", holm), ("subset:", benjamini_hochberg)):
        own = [d for d in made if d.scope.startswith(kind)]
        adjusted |= dict(zip([d.scope for d in own], adjust([d.p for d in own]), strict=True))
    broken, fixed = flips(card, parts, facts, a, b)
    labelled = names or tuple(labels([a, b]))
    return Comparison(
        suite=card.name,
        version=card.version,
        suite_hash=a.run.suite_hash,
        protocol=card.rules.name,
        a=labelled[0],
        b=labelled[1],
        n=len(facts),
        only_a=len(a.judgments) - len(facts),
        only_b=len(b.judgments) - len(facts),
        asked=max(len(a.facts), len(b.facts)),
        errors_a=sum(a.judgments[f.item_id].scores is None for f in facts),
        errors_b=sum(b.judgments[f.item_id].scores is None for f in facts),
        confidence=confidence,
        differences=tuple(msgspec.structs.replace(d, p_adjusted=adjusted.get(d.scope)) for d in made),
        broken=tuple(broken),
        fixed=tuple(fixed),
        notes=_notes(a, b, [d for d in made if not d.scope.startswith("subset:")]),
    )


def _part(a: Counted, b: Counted, groups: Ints) -> Part:
    one, two = a.measure, b.measure
    if one.value is None or two.value is None:
        reason = one.reason or two.reason
        return Part(a, b, Measure(one.name, None, np.zeros(0), np.zeros(0, np.int64), reason=reason))
    value = two.value - one.value
    means = a.credits and b.credits
    if np.array_equal(one.items, two.items) and (means or _same_weights(one, two)):
        return Part(a, b, one._replace(value=value, influence=two.influence - one.influence, shape="paired"))
    influence = np.zeros(len(groups))
    np.add.at(influence, two.items, two.influence)
    np.add.at(influence, one.items, -one.influence)
    items = np.union1d(one.items, two.items)
    least = min(m.least or len(np.unique(groups[items])) for m in (one, two))
    return Part(a, b, Measure(one.name, value, influence[items], items, "real", least=least))


def _same_weights(one: Measure, two: Measure) -> bool:
    return one.weights is not None and two.weights is not None and np.array_equal(one.weights, two.weights)


def bounds_of(measure: Measure, groups: Ints, confidence: float) -> Interval:
    """Tango's interval for a mean of paired differences, t with a floor for any other difference."""
    if measure.value is None:
        return Interval(None, None, None, "", measure.reason)
    own = groups[measure.items]
    if measure.shape == "paired":
        return paired_interval(measure.values, own, weights=measure.weights, confidence=confidence)
    least = measure.least or len(np.unique(own))
    return difference_interval(measure.value, measure.influence, own, least, confidence=confidence)


def _pool(measures: Sequence[Measure]) -> Measure:
    d, items = np.concatenate([m.values for m in measures]), np.concatenate([m.items for m in measures])
    mean = float(d.mean())
    return Measure(measures[0].name, mean, (d - mean) / len(d), items, "paired")


def _difference(scope: Scope, parts: Mapping[str, Part], groups: Ints, confidence: float) -> Difference:
    """One scope's weighted difference, or the reason why there is none."""
    used = [parts[s] for s in scope.weights]
    names = list(dict.fromkeys(p.difference.name for p in used or parts.values()))
    base = Difference(
        scope=scope.name,
        name=names[0] if len(names) == 1 else "score",
        n=sum(p.difference.n for p in used),
        a=_weighted([p.a.measure.value for p in used], scope.weights),
        b=_weighted([p.b.measure.value for p in used], scope.weights),
        value=None,
    )
    if reason := _undefined(scope, parts):
        single = scope.name.startswith("subset:")
        return msgspec.structs.replace(base, reason=reason, **({} if single else {"a": None, "b": None}))
    measures, weights = [p.difference for p in used], list(scope.weights.values())
    if scope.pooled:
        measures, weights = [_pool(measures)], [1.0]
    whole = combine(measures, weights, groups, bounds=lambda m: bounds_of(m, groups, confidence))
    made, test = whole.interval, _test(measures, weights, whole, groups)
    per_item = [p.d for p in used if p.d is not None]
    return msgspec.structs.replace(
        base,
        value=whole.value,
        low=made.low,
        high=made.high,
        se=made.se,
        method=made.method,
        p=test.p if test else None,
        p_method=test.method if test else "",
        step=max(w / math.fsum(weights) * _step(m, groups) for w, m in zip(weights, measures, strict=True)),
        better=sum(int(np.sum(d > 0)) for d in per_item),
        worse=sum(int(np.sum(d < 0)) for d in per_item),
        detectable=_detectable(made, confidence),
        reason=made.reason,
    )


def _weighted(values: Sequence[float | None], weights: Mapping[str, float]) -> float | None:
    total = math.fsum(weights.values())
    known = [v for v in values if v is not None]
    if len(known) < len(values) or not total:
        return None
    return math.fsum(w / total * v for w, v in zip(weights.values(), known, strict=True))


def _undefined(scope: Scope, parts: Mapping[str, Part]) -> str | None:
    undefined = {s: parts[s].difference.reason for s in scope.weights if parts[s].difference.value is None}
    if scope.reason or undefined:
        single = scope.name.startswith("subset:")
        return scope.reason or "; ".join(str(why) if single else f"{s}: {why}" for s, why in undefined.items())
    other = [s for s in scope.weights if not (parts[s].a.credits and parts[s].d is not None)]
    return f"not a mean of item credits: {', '.join(other)}" if scope.pooled and other else None


def _step(measure: Measure, groups: Ints) -> float:
    """One over the number of groups of equal weight."""
    weights = np.full(measure.n, 1 / measure.n) if measure.weights is None else measure.weights
    return float(np.sum(np.bincount(groups[measure.items], weights=weights) ** 2))


def _test(measures: Sequence[Measure], weights: Sequence[float], whole: Combined, groups: Ints) -> PValue | None:
    """Exact where all items weigh the same, else flips of whole clusters' weighted sums; a t test where a part is no
    mean over items."""
    if any(m.shape != "paired" for m in measures):
        return _t_test(whole.value, whole.interval.se, whole.df)
    shares = [w / m.n for w, m in zip(weights, measures, strict=True)]
    if all(m.weights is None for m in measures) and len(set(shares)) == 1:
        d, items = np.concatenate([m.values for m in measures]), np.concatenate([m.items for m in measures])
        return paired_test(d, groups[items], rng=np.random.default_rng(0))
    sums = np.zeros(int(groups.max()) + 1)
    for w, m in zip(weights, measures, strict=True):
        np.add.at(sums, groups[m.items], w * m.values * (1 / m.n if m.weights is None else m.weights))
    return sign_flip(sums / np.abs(sums).max(initial=1e-300), rng=np.random.default_rng(0))


def _t_test(value: float, se: float | None, df: float) -> PValue | None:
    from scipy.special import stdtr

    if se is None or df <= 0:
        return None
    if se == 0:
        return PValue(1.0, "no difference") if value == 0 else None
    return PValue(2 * float(stdtr(df, -abs(value) / se)), "paired t")


def _detectable(made: Interval, confidence: float) -> float | None:
    if made.low is None or made.high is None:
        return None
    return detectable((made.high - made.low) / 2, confidence=confidence)


def flips(
    card: Suite, parts: Mapping[str, Part], facts: Sequence[Facts], a: Stored, b: Stored
) -> tuple[list[Flip], list[Flip]]:
    """Items with less and with more credit in b; of both the worst margin (in the run that has it wrong) first, errors
    before all. Where a subset's number is no mean over items, credits are those of the suite's general rules."""
    changed: list[tuple[Facts, float, float]] = []
    for name, part in parts.items():
        if part.d is not None:
            values = zip(part.difference.items, part.a.measure.values, part.b.measure.values, strict=True)
            changed += [(facts[i], float(x), float(y)) for i, x, y in values if x != y]
            continue
        for f in facts:
            if f.subset == name and len(f.grades) > 1:
                x, y = (credit(f, s.judgments[f.item_id], card.rules).value for s in (a, b))
                if x is not None and y is not None and x != y:
                    changed.append((f, x, y))
    broken: list[Flip] = []
    fixed: list[Flip] = []
    for f, x, y in changed:
        margins = [_margin(f, s.judgments[f.item_id].scores) for s in (a, b)]
        flip = Flip(item_id=f.item_id, subset=f.subset, a=x, b=y, margin_a=margins[0], margin_b=margins[1])
        (broken if y < x else fixed).append(flip)
    broken.sort(key=lambda x: (-math.inf if x.margin_b is None else x.margin_b, x.item_id))
    fixed.sort(key=lambda x: (-math.inf if x.margin_a is None else x.margin_a, x.item_id))
    return broken, fixed


def _margin(facts: Facts, scores: tuple[float, ...] | None) -> float | None:
    if scores is None:
        return None
    best = max(facts.grades)
    other = [s for s, g in zip(scores, facts.grades, strict=True) if g != best]
    right = [s for s, g in zip(scores, facts.grades, strict=True) if g == best]
    # Of equal grades, the further apart the worse.
    return max(right) - max(other) if other else min(right) - max(right)


def _notes(a: Stored, b: Stored, differences: Sequence[Difference]) -> tuple[str, ...]:
    notes = []
    noise = 0.0
    for stored in (a, b):
        run = stored.run
        if run.status == "running":
            notes.append(f"{run.model} is not complete: {len(stored.judgments)} of {run.n} items")
        if run.limit is not None:
            notes.append(f"{run.model} is limited to {run.limit} items (seed {run.seed})")
        floor = run.info.get("noise_floor")
        if isinstance(floor, (int, float)):
            notes.append(f"{run.model}: numerical noise alone flips {100 * floor:.2f} % of its items")
            noise = max(noise, float(floor))
    small = [d.scope.partition(":")[2] or d.scope for d in differences if d.value is not None and abs(d.value) <= noise]
    if noise and small:
        notes.append(f"not larger than that noise: the difference in {', '.join(small)}")
    if a.run.suite.partial:
        notes.append(f"the suite is partial: {a.run.suite.absent} absent from the data")
    return tuple(dict.fromkeys(notes))  # a model against itself
