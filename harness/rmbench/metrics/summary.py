"""The suite's own number: per subset, category and overall, by the suite's rules, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rmbench.core import Estimate, Facts, Judgment, Rules, Suite
from rmbench.metrics import binary, published, ranking
from rmbench.metrics.credit import Credit, credit
from rmbench.metrics.intervals import Ints, Measure, combine, group_codes, interval, mean_measure


class Counted(NamedTuple):
    """One subset's measure and what was counted on the way."""

    measure: Measure
    wins: float = 0
    ties: float = 0
    losses: float = 0
    errors: int = 0
    unjudged: int = 0
    skipped: int = 0
    """Gold ties and dropped ties: not in n."""
    truncated: int = 0
    credits: bool = False
    """The measure is a mean over items of something in [0, 1]."""


class Scope(NamedTuple):
    """What a number stands for: subsets and their weights, or why it is undefined."""

    name: str
    weights: dict[str, float]
    reason: str | None = None
    pooled: bool = False
    """A mean over items: one sample, not a sum of strata."""
    absent: int = 0
    """Rows that should be there and are not in the data."""


def estimates(
    card: Suite,
    facts: Sequence[Facts],
    judgments: Mapping[str, Judgment],
    *,
    confidence: float = 0.95,
    further: bool = True,
) -> list[Estimate]:
    """All numbers of a run. First, in this order, the suite's own: every subset, every category, ``overall``,
    ``micro``; so the first estimate of a scope is the number to show. Then, with ``further``, the others by name.

    ``facts`` are the items asked for, ``judgments`` those on disk by item id. Never raises for what a model did.
    """
    counted, groups = count(card, facts, judgments)
    made = []
    for name, part in counted.items():
        absent = card.missing.get(name, 0)
        made.append(_estimate(f"subset:{name}", [part], absent, confidence, groups))
    for scope in scopes(card, {name: part.measure.n for name, part in counted.items()}):
        if scope.reason is None:
            undefined = [f"{s}: {counted[s].measure.reason}" for s in scope.weights if counted[s].measure.value is None]
            scope = scope._replace(reason="; ".join(undefined) or None)
        if scope.pooled and scope.reason is None:
            other = [name for name, part in counted.items() if part.measure.n and not part.credits]
            if other:
                which = "every subset" if len(other) == len(counted) > 1 else ", ".join(other)
                scope = scope._replace(reason=f"not a mean of item credits: {which}")
        own = card.categories.get(scope.name.removeprefix("category:"), ())
        parts = [counted[s] for s in scope.weights or own or counted]
        made.append(_combined(scope, parts, groups, confidence))
    if further:
        from rmbench.metrics.further import further_estimates

        made.extend(further_estimates(card, facts, judgments, confidence=confidence))
    return made


def main(made: Sequence[Estimate]) -> dict[str, Estimate]:
    """Scope -> the suite's own number among ``made``."""
    first: dict[str, Estimate] = {}
    for estimate in made:
        first.setdefault(estimate.scope, estimate)
    return first


def count(card: Suite, facts: Sequence[Facts], judgments: Mapping[str, Judgment]) -> tuple[dict[str, Counted], Ints]:
    """Every subset's measure, in the order of the card's categories, and the items' cluster codes (items,)."""
    groups = group_codes([f.cluster for f in facts])
    return {
        name: _count(card, facts, judgments, np.array(where, dtype=np.int64), metric_of(card, name), groups)
        for name, where in positions(card, facts).items()
    }, groups


def positions(card: Suite, facts: Sequence[Facts]) -> dict[str, list[int]]:
    """Subset -> positions of its items; the card's subsets first, then those it does not name."""
    found: dict[str, list[int]] = {s: [] for subsets in card.categories.values() for s in subsets}
    for i, item in enumerate(facts):
        found.setdefault(item.subset, []).append(i)
    return found


def metric_of(card: Suite, subset: str) -> str | None:
    """The metric the rules name for a subset; None for the default of its kind."""
    return card.rules.metrics.get(subset, card.rules.metrics.get("*"))


def scopes(card: Suite, n: Mapping[str, int]) -> list[Scope]:
    """Categories, ``overall`` and ``micro`` as weights over subsets, by the card. ``n``: counted items per subset."""
    rules = card.rules
    made, per_category = [], {}
    for category, subsets in card.categories.items():
        weights = {s: card.weights.get(s, float(n.get(s, 0))) for s in subsets}
        lacking = [s for s in subsets if card.missing.get(s) and card.weights.get(s, 1) > 0]
        absent = sum(card.missing.get(s, 0) for s in subsets)
        reason = None
        if lacking:
            present = sum(n.get(s, 0) for s in subsets)
            reason = f"{present} of {present + absent} items present"
        elif empty := [s for s in subsets if n.get(s, 0) == 0 and card.weights.get(s, 1) > 0]:
            reason = f"no items in {', '.join(empty)}"
        elif sum(weights.values()) <= 0:
            reason = "all weights are 0"
        used = {s: w for s, w in weights.items() if w > 0}
        per_category[category] = Scope(f"category:{category}", used, reason, absent=absent)
        made.append(per_category[category])
    absent = sum(card.missing.values())
    items = {s: float(k) for s, k in n.items() if k}
    micro = Scope("micro", items, None if items else "no items", pooled=True, absent=absent)
    if rules.overall == "none":
        overall = Scope("overall", {}, f"rules {rules.name} have no overall", absent=absent)
    elif rules.overall == "micro":
        overall = micro._replace(name="overall")
        if card.partial:
            of = f" of {sum(n.values()) + absent}" if absent else ""
            overall = overall._replace(reason=f"{sum(n.values())}{of} items present{'' if of else ', some absent'}")
    else:
        overall = _macro(card, per_category, n, absent)
    return [*made, overall, micro]


def _macro(card: Suite, categories: Mapping[str, Scope], n: Mapping[str, int], absent: int) -> Scope:
    if not categories:
        return Scope("overall", dict.fromkeys(n, 1.0), None if n else "no items", absent=absent)
    weights: dict[str, float] = {}
    reasons = []
    for name, scope in categories.items():
        share = card.category_weights.get(name, 1.0)
        if share == 0:
            continue
        if scope.reason:
            reasons.append(f"{name}: {scope.reason}")
            continue
        total = sum(scope.weights.values())
        for subset, weight in scope.weights.items():
            weights[subset] = weights.get(subset, 0.0) + share * weight / total
    reason = "; ".join(reasons) or (None if weights else "all weights are 0")
    return Scope("overall", weights, reason, absent=absent)


def credits_of(facts: Sequence[Facts], judgments: Mapping[str, Judgment], rules: Rules) -> list[Credit | None]:
    """Every item's credit; None for single responses, which have none."""
    return [credit(f, judgments.get(f.item_id), rules) if len(f.grades) > 1 else None for f in facts]


def _count(
    card: Suite,
    facts: Sequence[Facts],
    judgments: Mapping[str, Judgment],
    where: Ints,
    metric: str | None,
    groups: Ints,
) -> Counted:
    own = [facts[i] for i in where]
    given = [judgments.get(f.item_id) for f in own]
    truncated = sum(j.truncated > 0 for j in given if j is not None)
    errors = sum(j is not None and j.scores is None for j in given)
    unjudged = sum(j is None for j in given)
    single = [len(f.grades) == 1 for f in own]
    blank = np.zeros(0)
    if not own:
        return Counted(Measure(metric or "accuracy", None, blank, where, reason="no items"))
    if any(single) and not all(single):
        reason = "single responses and comparisons in one subset have no number in common"
        return Counted(Measure(metric or "accuracy", None, np.zeros(len(own)), where, reason=reason))
    if all(single):
        measure = _binary(metric or "auc", own, given, where, groups)
        return Counted(measure, errors=errors, unjudged=unjudged, truncated=truncated)
    if metric in ranking.BY_ITEM:
        x, keep = ranking.by_item(metric, own, given)
        measure = mean_measure(metric, x[keep], where[keep], shape="real")
        skipped = int((~keep).sum())
        return Counted(measure, errors=errors, unjudged=unjudged, skipped=skipped, truncated=truncated)
    if metric == "rewardbench2-ties":
        measure = ranking.rb2_ties(own, given, where, groups[where])
        return Counted(measure, errors=errors, unjudged=unjudged, truncated=truncated)
    if metric in published.MEASURES:
        measure = published.MEASURES[metric](own, given, where, groups)
        x = measure.influence * measure.n + (measure.value or 0.0)
        # A mean over items of something in [0, 1] can be pooled and paired like credits; a ratio of sums cannot.
        mean = measure.shape != "real" and measure.n > 0 and bool(np.all((x > -1e-9) & (x < 1 + 1e-9)))
        return Counted(measure, errors=errors, unjudged=unjudged, truncated=truncated, credits=mean)
    rules = rules_of(card.rules, metric)
    counts = [credit(f, j, rules) for f, j in zip(own, given, strict=True)]
    outcomes = [c.outcome for c in counts]
    keep = np.array([c.value is not None for c in counts])
    x = np.array([c.value for c in counts if c.value is not None], dtype=float)
    measure = mean_measure(metric or "accuracy", x, where[keep])
    if measure.value is None and any(outcome in ("gold tie", "dropped") for outcome in outcomes):
        measure = measure._replace(reason=f"all {len(own)} items are ties, which the rules leave out")
    return Counted(
        measure,
        wins=outcomes.count("win"),
        ties=outcomes.count("tie"),
        losses=outcomes.count("loss"),
        errors=outcomes.count("error"),
        unjudged=outcomes.count("absent"),
        skipped=outcomes.count("gold tie") + outcomes.count("dropped"),
        truncated=truncated,
        credits=True,
    )


def rules_of(rules: Rules, metric: str | None) -> Rules:
    """Rules with what a metric's name changes: a ranking rule or a position rule."""
    import msgspec

    from rmbench.metrics.credit import POSITION_RULES

    if metric in ("top-1", "best-beats-all"):
        return msgspec.structs.replace(rules, ranking=metric)
    if metric in POSITION_RULES:
        return msgspec.structs.replace(rules, position=metric)
    if metric not in (None, "accuracy"):
        known = ("accuracy", "top-1", "best-beats-all", *POSITION_RULES, *ranking.BY_ITEM, "rewardbench2-ties")
        known = (*known, *published.MEASURES)
        raise ValueError(f"rules {rules.name!r} name an unknown metric {metric!r} for comparisons; known: {known}")
    return rules


def _binary(metric: str, own: Sequence[Facts], given: Sequence[Judgment | None], where: Ints, groups: Ints) -> Measure:
    scores = np.array([j.scores[0] if j is not None and j.scores is not None else np.nan for j in given])
    labels = np.array([f.grades[0] for f in own], dtype=float)
    if metric == "auc":
        return binary.auc(scores, labels, where)
    if metric == "average-precision":
        return binary.average_precision(scores, labels, where, groups[where])
    if metric.partition("@")[0] in binary.AT:
        return binary.at_threshold(metric, scores, labels, where)
    known = ("auc", "average-precision", *(f"{name}@0.5" for name in binary.AT))
    raise ValueError(f"unknown metric {metric!r} for single responses; known: {', '.join(known)}")


def _estimate(scope: str, parts: Sequence[Counted], absent: int, confidence: float, groups: Ints) -> Estimate:
    measure = parts[0].measure
    bounds = interval(measure, groups, confidence=confidence)
    reason = measure.reason if measure.value is None else bounds.reason
    if measure.value is None and absent:
        reason = f"0 of {absent} items present"
    return Estimate(
        name=measure.name,
        scope=scope,
        value=measure.value,
        low=bounds.low,
        high=bounds.high,
        se=bounds.se,
        method=bounds.method,
        reason=reason,
        **_sums(parts, absent),
    )


def _combined(scope: Scope, parts: Sequence[Counted], groups: Ints, confidence: float) -> Estimate:
    names = list(dict.fromkeys(p.measure.name for p in parts))
    name = names[0] if len(names) == 1 else "score"
    sums = _sums(parts, scope.absent)
    if scope.reason is not None:
        return Estimate(name=name, scope=scope.name, value=None, reason=scope.reason, **sums)
    measures = [p.measure for p in parts]
    if scope.pooled:
        bounds, value = interval(whole := pool(measures), groups, confidence=confidence), whole.value
    else:
        made = combine(measures, list(scope.weights.values()), groups, confidence=confidence)
        bounds, value = made.interval, made.value
    return Estimate(
        name=name,
        scope=scope.name,
        value=value,
        low=bounds.low,
        high=bounds.high,
        se=bounds.se,
        method=bounds.method,
        reason=bounds.reason,
        **sums,
    )


def pool(measures: Sequence[Measure]) -> Measure:
    """Means of several subsets as one mean over all their items."""
    n = sum(m.n for m in measures)
    value = sum(m.value * m.n for m in measures if m.value is not None) / n
    x = [m.influence * m.n + m.value for m in measures if m.value is not None]
    shape = "binary" if all(m.shape == "binary" for m in measures) else "proportion"
    index = np.concatenate([m.items for m in measures])
    return Measure(measures[0].name, float(value), (np.concatenate(x) - value) / n, index, shape)


def _sums(parts: Sequence[Counted], absent: int) -> dict[str, Any]:
    n = sum(p.measure.n for p in parts)
    errors, unjudged = sum(p.errors for p in parts), sum(p.unjudged for p in parts)
    extra: dict[str, float | str | None] = {}
    if skipped := sum(p.skipped for p in parts):
        extra["skipped"] = float(skipped)
    if n:
        extra["coverage"] = 1 - (errors + unjudged) / (n + skipped)
    return {
        "n": n,
        "missing": absent + errors + unjudged,
        "wins": sum(p.wins for p in parts),
        "ties": sum(p.ties for p in parts),
        "losses": sum(p.losses for p in parts),
        "errors": errors,
        "truncated": sum(p.truncated for p in parts),
        "extra": extra,
    }
