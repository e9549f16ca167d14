"""The numbers beside the suite's own: position, agreement, votes, ties, calibration, length, strength, best of n.

Scope ``micro`` says that the number is a mean over items, whatever the suite's weights; ``category:X`` the same within
a category. A number that the judgments cannot say is not there, or is None with its reason.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from rmbench.core import Estimate, Facts, Judgment, Suite
from rmbench.metrics import agreement, binary, calibration, length, position, published, ranking, votes
from rmbench.metrics.agreement import Label
from rmbench.metrics.credit import POSITION_RULES, TIE, Credit, by_position, credit, merge
from rmbench.metrics.intervals import Floats, Ints, Measure, clopper_pearson, group_codes, interval, mean_measure


class Scoped(NamedTuple):
    """The items of one scope, with what all numbers need of them."""

    scope: str
    where: Ints
    groups: Ints
    """(items of the run,)"""
    confidence: float

    def estimate(
        self, measure: Measure, missing: int = 0, extra: dict[str, float | str | None] | None = None
    ) -> Estimate:
        low, high, se, method, reason = interval(measure, self.groups, confidence=self.confidence)
        return Estimate(
            name=measure.name,
            scope=self.scope,
            value=measure.value,
            low=low,
            high=high,
            se=se,
            method=method,
            n=measure.n,
            missing=missing,
            reason=measure.reason or reason,
            extra=extra or {},
        )


def further_estimates(
    card: Suite, facts: Sequence[Facts], judgments: Mapping[str, Judgment], *, confidence: float = 0.95
) -> list[Estimate]:
    """By name, in a fixed order; the suite's published extras (``Rules.metrics["+..."]``) come first."""
    made: list[Estimate] = []
    asked = [name for key, name in card.rules.metrics.items() if key.startswith("+")]
    for name in asked:
        if name not in published.PUBLISHED:
            known = ", ".join(published.PUBLISHED)
            raise ValueError(f"rules {card.rules.name!r} name unknown extras {name!r}; known: {known}")
        made.extend(_if_whole(card, published.PUBLISHED[name](facts, judgments, confidence=confidence)))
    groups = group_codes([f.cluster for f in facts])
    every = np.arange(len(facts), dtype=np.int64)
    whole = Scoped("micro", every, groups, confidence)
    scopes = [whole]
    for category, subsets in card.categories.items():
        own = np.array([i for i, f in enumerate(facts) if f.subset in subsets], dtype=np.int64)
        if 0 < len(own) < len(facts):
            scopes.append(Scoped(f"category:{category}", own, groups, confidence))
    swaps = _swaps(facts, judgments)
    for scope in scopes:
        made.extend(_position(card, swaps, scope))
        made.extend(_agreement(card, facts, judgments, swaps, scope))
    if {"mt-bench", "three-class"} & set(asked):
        made.extend(_annotators(facts, judgments, whole))
    made.extend(_slots(facts, judgments))
    made.extend(_stability(facts, judgments, whole))
    made.extend(_votes(facts, judgments, whole))
    made.extend(_score_ties(facts, judgments, whole))
    for scope in scopes:
        made.extend(_calibration(facts, judgments, scope))
    pairs = _pairs(card, facts, judgments)
    for scope in scopes:
        made.extend(_length(facts, pairs, scope))
    if "by-strength" not in asked:
        made.extend(published.by_strength(facts, judgments, confidence=confidence))
    made.extend(_rankings(facts, judgments, whole))
    made.extend(_if_whole(card, _labels(card, facts, judgments, whole)))
    return made


def _if_whole(card: Suite, made: Iterable[Estimate]) -> Iterator[Estimate]:
    """A category's or the suite's number is none where rows are absent from the data, as with the suite's own."""
    parts = {
        f"category:{c}": {s: card.missing[s] for s in own if s in card.missing} for c, own in card.categories.items()
    }
    parts["overall"] = card.missing
    for estimate in made:
        if lacking := parts.get(estimate.scope):
            part = msgspec.structs.replace(card, missing=lacking)
            reason, missing = f"{part.absent} absent from the data", estimate.missing + sum(lacking.values())
            estimate = Estimate(
                name=estimate.name, scope=estimate.scope, value=None, n=estimate.n, missing=missing, reason=reason
            )
        yield estimate


Row = tuple[int, tuple[int | None, int | None], int]
"""Position of a pair, its verdicts in both orders, its label."""

GRADES = {TIE: (1.0, 1.0), 0: (1.0, 0.0), 1: (0.0, 1.0)}


def _swaps(facts: Sequence[Facts], judgments: Mapping[str, Judgment]) -> dict[int, Row]:
    rows: dict[int, Row] = {}
    for i, item in enumerate(facts):
        verdicts = position.both_orders(judgments.get(item.item_id)) if len(item.grades) == 2 else None
        if verdicts is not None:
            rows[i] = (i, verdicts, position.label(item.grades))
    return rows


def _position(card: Suite, swaps: Mapping[int, Row], scope: Scoped) -> Iterator[Estimate]:
    rows = [swaps[i] for i in scope.where.tolist() if i in swaps]
    if not rows:
        return
    untied = [r for r in rows if r[2] != TIE]
    labelled = rows if card.rules.gold_ties == "class" else untied
    where = np.array([i for i, _, _ in rows], dtype=np.int64)
    counts = position.swap([v for _, v, _ in rows], [g for _, _, g in rows])
    invalid = counts.n - counts.valid
    asked = [(name, name, untied if name == "net" else labelled) for name in POSITION_RULES]
    if len(untied) < len(labelled):
        asked.append(("both-untied", "both", untied))
    asked.append(("decisive", "both", [r for r in untied if merge(r[1]) not in (None, TIE)]))
    for name, rule, own in asked:
        rules = msgspec.structs.replace(card.rules, position=rule)
        credits = [(i, by_position({(0, 1): a, (1, 0): b}, GRADES[gold], rules).value) for i, (a, b), gold in own]
        found = [(i, value) for i, value in credits if value is not None]
        x = np.array([value for _, value in found], dtype=float)
        unsaid = sum(None in v for _, v, _ in own)
        yield scope.estimate(mean_measure(name, x, np.array([i for i, _ in found], dtype=np.int64)), unsaid)
    same = np.array([float(a == b and a is not None) for _, (a, b), _ in rows])
    yield scope.estimate(mean_measure("consistency", same, where), invalid)
    valid = np.array([None not in v for _, v, _ in rows])
    yield scope.estimate(mean_measure("conflict-rate", 1 - same[valid], where[valid]), invalid)
    decided = np.array([None not in v and TIE not in v for _, v, _ in rows])
    yield scope.estimate(mean_measure("consistency-decided", same[decided], where[decided]), invalid)
    lean = np.array([float(v == (1, 0)) - float(v == (0, 1)) for _, v, _ in rows])
    yield scope.estimate(mean_measure("preference-fairness", lean[valid], where[valid], shape="real"), invalid)
    yield _first_preference(counts, scope)


def _agreement(
    card: Suite, facts: Sequence[Facts], judgments: Mapping[str, Judgment], swaps: Mapping[int, Row], scope: Scoped
) -> Iterator[Estimate]:
    """Chance-corrected agreement of the one verdict with a label of several classes, and of a judge's two orders."""
    ties = card.rules.gold_ties == "class"
    pairs = [i for i in scope.where.tolist() if len(facts[i].grades) == 2]
    labels: dict[int, Label] = {i: position.label(facts[i].grades) for i in pairs}
    own = [i for i in pairs if ties or labels[i] != TIE]
    gold = [labels[i] for i in own]
    if len(set(gold)) > 1 and (ties or swaps):
        said = [published.verdict(judgments.get(facts[i].item_id)) for i in own]
        extra: dict[str, float | str | None] = {
            "raw agreement": agreement.raw(said, gold),
            "majority baseline": agreement.majority_baseline(gold),
        }
        for name, statistic in (("kappa", agreement.cohen_kappa), ("ac1", lambda a, b: agreement.gwet_ac1([a, b]))):
            measure = agreement.coefficient(name, statistic, said, gold, np.array(own, dtype=np.int64))
            yield scope.estimate(measure, said.count(None), extra)
    both = [i for i in pairs if i in swaps]
    if both:
        first, second = zip(*(swaps[i][1] for i in both), strict=True)
        index = np.array(both, dtype=np.int64)
        measure = agreement.coefficient("kappa-orders", agreement.cohen_kappa, first, second, index)
        yield scope.estimate(measure, len(both) - measure.n)


def _annotators(facts: Sequence[Facts], judgments: Mapping[str, Judgment], scope: Scoped) -> Iterator[Estimate]:
    """The model as one more annotator beside those of ``meta["votes"]``: [name, label] in MT-Bench; numbers in the
    annotators' order, 0 for a tie, in PandaLM."""
    people: dict[str, list[Label]] = {}
    for i, f in enumerate(facts):
        for k, vote in enumerate(f.meta.get("votes", ())):
            name, label = (f"annotator{k + 1}", vote - 1) if isinstance(vote, int) else vote
            people.setdefault(name, [None] * len(facts))[i] = label
    if len(people) < 2:
        return
    said = [published.verdict(judgments.get(f.item_id)) for f in facts]
    rows = list(people.values())
    extra: dict[str, float | str | None] = {
        "people": agreement.leave_one_out(rows),
        "alpha of people": agreement.krippendorff_alpha(rows),
        "alpha with the model": agreement.krippendorff_alpha([*rows, said]),
    }
    value = agreement.leave_one_out(rows, said)
    reason = None if value is not None else "no item with a verdict and a majority of the other people"
    method = "against the mode of all people but one"
    yield Estimate(
        name="leave-one-out", scope=scope.scope, value=value, method=method, n=len(facts), reason=reason, extra=extra
    )
    votes: dict[Hashable, list[Hashable]] = {
        i: [v for v in cast if v is not None] for i, cast in enumerate(zip(*rows, strict=True))
    }
    among = agreement.vote_agreement(votes, tie=TIE, ties=False)
    verdicts: dict[Hashable, list[Hashable]] = {i: [v] for i, v in enumerate(said) if v is not None}
    own = agreement.vote_agreement(verdicts, votes, tie=TIE, ties=False)
    noise = agreement.label_noise(among.value)
    if noise is not None and own.value is not None:
        extra = {"ceiling": noise.ceiling, "accuracy": own.value, "corrected accuracy": noise.corrected(own.value)}
        method = "from agreement of people on votes without ties"
        yield Estimate(name="label-noise", scope=scope.scope, value=noise.error, method=method, n=among.n, extra=extra)
    if len(people) > 10:  # a table of dozens of annotators with a few items each says nothing
        return
    for name, row in people.items():
        where = np.array([i for i, v in enumerate(row) if v is not None], dtype=np.int64)
        same = np.array([float(said[i] == row[i]) for i in where])
        others: dict[str, float | str | None] = {o: agreement.raw(row, r) for o, r in people.items() if o != name}
        measure = mean_measure("annotator-agreement", same, where)
        unsaid = sum(said[i] is None for i in where)
        yield scope._replace(scope=f"annotator:{name}").estimate(measure, unsaid, others)


def _first_preference(counts: position.Swap, scope: Scoped) -> Estimate:
    first, second = counts.both_first, counts.both_second
    total = first + second
    extra: dict[str, float | str | None] = {
        "both first": float(first),
        "both second": float(second),
        "p": counts.first_preference_p,
    }
    if total == 0:
        reason = "no item on which the orders named different winners"
        return Estimate(name="first-preference", scope=scope.scope, value=None, reason=reason, extra=extra)
    low, high = clopper_pearson(first, total, confidence=scope.confidence)
    return Estimate(
        name="first-preference",
        scope=scope.scope,
        value=first / total,
        low=low,
        high=high,
        n=total,
        method="clopper-pearson",
        extra=extra,
    )


def _slots(facts: Sequence[Facts], judgments: Mapping[str, Judgment]) -> Iterator[Estimate]:
    ballots = [b for f in facts if (j := judgments.get(f.item_id)) is not None for b in j.ballots if len(b.shown) > 2]
    for k, found in position.slots(ballots).items():
        total = sum(found.picks)
        extra: dict[str, float | str | None] = {"chi-square": found.chi_square, "p": found.p, "expected": 1 / k}
        extra |= {f"slot {i + 1}": float(count) for i, count in enumerate(found.picks)}
        yield Estimate(
            name=f"slot-preference-{k}-way",
            scope="micro",
            value=max(found.picks) / total,
            n=total,
            method="share of the slot picked most; chi-square against equal shares",
            extra=extra,
        )


def _stability(facts: Sequence[Facts], judgments: Mapping[str, Judgment], scope: Scoped) -> Iterator[Estimate]:
    found = position.stability(judgments, facts)
    if found:
        x, where = np.array([s for s, _ in found]), np.array([i for _, i in found], dtype=np.int64)
        # Both orders of an item are not independent: the item is their cluster unless it has a larger one.
        yield scope.estimate(mean_measure("repetition-stability", x, where, shape="proportion"))


def _votes(facts: Sequence[Facts], judgments: Mapping[str, Judgment], scope: Scoped) -> Iterator[Estimate]:
    curve = votes.curve(facts, judgments)
    if curve is None:
        return
    where = np.array(curve.items, dtype=np.int64)
    for name, table in (("vote", curve.average), ("vote-both", curve.both)):
        if table is None:
            continue
        for column, k in enumerate(curve.k):
            yield scope.estimate(mean_measure(f"{name}@{k}", table[:, column], where, shape="proportion"))


def _scalar(item: Facts, judgment: Judgment | None) -> tuple[float, ...] | None:
    """Scores on the model's own scale; None for judges, whose scores are shares of verdicts."""
    if judgment is None or judgment.scores is None or any(len(b.shown) > 1 for b in judgment.ballots):
        return None
    return judgment.scores


def _score_ties(facts: Sequence[Facts], judgments: Mapping[str, Judgment], scope: Scoped) -> Iterator[Estimate]:
    tied: list[float] = []
    where: list[int] = []
    seen: set[float] = set()
    total = 0
    for i, item in enumerate(facts):
        scores = _scalar(item, judgments.get(item.item_id))
        if scores is not None:
            seen.update(scores)
            total += len(scores)
            if len(scores) > 1:
                tied.append(float(len(set(scores)) < len(scores)))
                where.append(i)
    if total:
        extra: dict[str, float | str | None] = {"of": float(total)}
        yield Estimate(
            name="distinct-scores", scope="micro", value=float(len(seen)), n=total, method="count", extra=extra
        )
    if tied:
        yield scope.estimate(mean_measure("score-ties", np.array(tied), np.array(where, dtype=np.int64)))


def _calibration(facts: Sequence[Facts], judgments: Mapping[str, Judgment], scope: Scoped) -> Iterator[Estimate]:
    margins, where, missing = [], [], 0
    for i in scope.where:
        item = facts[i]
        if len(item.grades) != 2 or item.grades[0] == item.grades[1]:
            continue
        judgment = judgments.get(item.item_id)
        scores = _scalar(item, judgment)
        if scores is None:
            missing += judgment is None or judgment.scores is None
            continue
        better = int(item.grades[1] > item.grades[0])
        margins.append(scores[better] - scores[1 - better])
        where.append(int(i))
    if not margins:
        return
    m, index = np.array(margins), np.array(where, dtype=np.int64)
    if np.abs(m).max() > 1e100:  # squares would overflow, and no sigmoid is meant
        why = "margins beyond 1e100 are no log-odds"
        for metric in ("brier", "nll", "ece", "temperature"):
            yield Estimate(name=metric, scope=scope.scope, value=None, n=len(m), missing=missing, reason=why)
        return
    yield scope.estimate(mean_measure("brier", calibration.brier(m), index, shape="proportion"), missing)
    yield scope.estimate(mean_measure("nll", calibration.nll(m), index, shape="real"), missing)
    extra: dict[str, float | str | None] = {}
    for b in calibration.reliability(m):
        extra[f"{b.low:.2f}-{b.high:.2f}"] = f"n {b.n}, confidence {b.confidence:.4f}, accuracy {b.accuracy:.4f}"
    extra["if calibrated"] = calibration.ece_if_calibrated(np.sort(m), rng=np.random.default_rng(0))
    name, n = scope.scope, len(m)
    yield Estimate(
        name="ece", scope=name, value=calibration.ece(m), n=n, missing=missing, method="10 bins", extra=extra
    )
    # Folds by the cluster's name, so that they hold whatever the order of items and keep prompts whole.
    fold = np.array([zlib.crc32((facts[i].cluster or facts[i].item_id).encode()) % 2 for i in where], dtype=np.int64)
    fitted = calibration.cross_fitted(m, fold)
    value = calibration.temperature(m)
    reason = None if value is not None else "no finite temperature: no wrong pair, or margins that do not favour right"
    after: dict[str, float | str | None] = {}
    if fitted is not None:
        after = {"nll cross-fitted": float(fitted.nll.mean()), "ece cross-fitted": fitted.ece}
    yield Estimate(
        name="temperature",
        scope=name,
        value=value,
        n=n,
        missing=missing,
        method="maximum likelihood",
        reason=reason,
        extra=after,
    )


class _Pairs(NamedTuple):
    where: Ints
    credit: Floats
    right: Floats
    wrong: Floats


def _pairs(card: Suite, facts: Sequence[Facts], judgments: Mapping[str, Judgment]) -> _Pairs:
    """Pairs with a better side and a credit by the suite's rules, with the lengths of both sides."""
    rows = []
    for i, item in enumerate(facts):
        if len(item.grades) == 2 and item.grades[0] != item.grades[1]:
            found: Credit = credit(item, judgments.get(item.item_id), card.rules)
            if found.value is not None and found.outcome not in ("error", "absent"):
                better = int(item.grades[1] > item.grades[0])
                rows.append((i, found.value, item.lengths[better], item.lengths[1 - better]))
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return _Pairs(
        np.array(columns[0], dtype=np.int64),
        np.array(columns[1], dtype=float),
        np.array(columns[2], dtype=float),
        np.array(columns[3], dtype=float),
    )


def _length(facts: Sequence[Facts], pairs: _Pairs, scope: Scoped) -> Iterator[Estimate]:
    own = np.isin(pairs.where, scope.where)
    where, x, right, wrong = pairs.where[own], pairs.credit[own], pairs.right[own], pairs.wrong[own]
    if len(where) == 0:
        return
    longer = length.prefers_longer(right, wrong, x)
    unequal = ~np.isnan(longer)
    label = float(np.mean(right[unequal] > wrong[unequal])) if unequal.any() else None
    measure = mean_measure("prefers-longer", longer[unequal], where[unequal])
    yield scope.estimate(measure, extra={"label prefers longer": label})
    parts = {"accuracy-right-longer": right > wrong, "accuracy-right-shorter": right < wrong}
    for name, part in parts.items():
        yield scope.estimate(mean_measure(name, x[part], where[part]))
    fit = length.controlled(length.relative(right, wrong), x, scope.groups[where], confidence=scope.confidence)
    if isinstance(fit, str):
        yield Estimate(name="accuracy-length-controlled", scope=scope.scope, value=None, n=len(where), reason=fit)
    else:
        yield Estimate(
            name="accuracy-length-controlled",
            scope=scope.scope,
            value=fit.accuracy,
            low=fit.low,
            high=fit.high,
            n=len(where),
            method="logistic, cluster-robust t",
            extra={"slope": fit.slope, "slope se": fit.slope_se},
        )


def _rankings(facts: Sequence[Facts], judgments: Mapping[str, Judgment], scope: Scoped) -> Iterator[Estimate]:
    own = [i for i, f in enumerate(facts) if len(f.grades) > 2]
    if not own:
        return
    items, given = [facts[i] for i in own], [judgments.get(facts[i].item_id) for i in own]
    where = np.array(own, dtype=np.int64)
    missing = sum(j is None or j.scores is None for j in given)
    for name in ranking.BY_ITEM:
        x, keep = ranking.by_item(name, items, given)
        yield scope.estimate(mean_measure(name, x[keep], where[keep], shape="real"), missing)
    kept = [(i, j.scores) for i, j in zip(own, given, strict=True) if j is not None and j.scores is not None]
    if not kept:
        return
    index = np.array([i for i, _ in kept], dtype=np.int64)
    grades = [np.array(facts[i].grades) for i in index]
    curve = ranking.best_of_n([np.array(s) for _, s in kept], grades)
    binary = all(set(facts[i].grades) <= {0, 1} for i in index)
    for column, n in enumerate(curve.n):
        extra: dict[str, float | str | None] = {
            "proxy": float(curve.proxy[:, column].mean()),
            "kl upper bound": float(curve.kl_bound[column]),
        }
        gold, oracle = curve.gold[:, column], curve.oracle[:, column]
        shape = "proportion" if binary else "real"
        yield scope.estimate(mean_measure(f"best-of-{n}", gold, index, shape=shape), missing, extra)
        yield scope.estimate(mean_measure(f"regret@{n}", oracle - gold, index, shape=shape), missing)
        if binary:
            ceiling = [ranking.pass_at_k(int(g.sum()), len(g), n) for g in grades]
            yield scope.estimate(mean_measure(f"pass@{n}", np.array(ceiling), index, shape="proportion"), missing)


def _labels(
    card: Suite, facts: Sequence[Facts], judgments: Mapping[str, Judgment], whole: Scoped
) -> Iterator[Estimate]:
    """Labels of single responses: average precision; F1 and both error rates at the threshold that their names say."""
    single = [i for i, f in enumerate(facts) if len(f.grades) == 1]
    given = {i: judgments.get(facts[i].item_id) for i in single}
    at = _threshold([j for j in given.values() if j is not None and j.scores is not None])
    for category, subsets in card.categories.items():
        own = [i for i in single if facts[i].subset in subsets]
        if not own:
            continue
        where, scope = np.array(own, dtype=np.int64), whole._replace(scope=f"category:{category}")
        scored = [j.scores[0] if (j := given[i]) is not None and j.scores is not None else np.nan for i in own]
        scores, labels = np.array(scored), np.array([facts[i].grades[0] for i in own], dtype=float)
        missing = int(np.isnan(scores).sum())
        yield scope.estimate(binary.average_precision(scores, labels, where, scope.groups[where]), missing)
        for name in ("f1", "fpr", "fnr"):
            if at is None:
                reason = "ratings on a scale of the judge's own state no threshold"
                yield Estimate(name=name, scope=scope.scope, value=None, n=len(own), missing=missing, reason=reason)
            else:
                yield scope.estimate(binary.at_threshold(f"{name}@{at:g}", scores, labels, where), missing)


def _threshold(given: Sequence[Judgment]) -> float | None:
    """Even odds: 0.5 for probabilities, -0.5 for minus probabilities (guards), 0 for the raw outputs of a head; None
    for ratings beyond 0 and 1."""
    scores = [j.scores[0] for j in given if j.scores is not None]
    for at in (0.5, -0.5):
        if all(min(0.0, 2 * at) <= s <= max(0.0, 2 * at) for s in scores):
            return at
    return None if any(b.rating is not None for j in given for b in j.ballots) else 0.0


def swap_consistency(facts: Sequence[Facts], judgments: Mapping[str, Judgment]) -> tuple[float | None, int]:
    """Share of pairs with one valid verdict in both orders, and of how many; None where none was shown in both."""
    rows = [v for _, v, _ in _swaps(facts, judgments).values()]
    return (sum(a == b and a is not None for a, b in rows) / len(rows) if rows else None), len(rows)
