"""Numbers that suites publish and rules cannot say: MT-Bench's setups, RM-Bench's styles, JudgeBench's net vote, ...

``MEASURES`` name a subset's own number (``Rules.metrics["math"] = "rm-bench"``); ``PUBLISHED`` name estimates that
stand beside a whole suite's (``Rules.metrics["+styles"] = "rm-bench-styles"``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rmbench.core import Estimate, Facts, Judgment, Rules
from rmbench.metrics import binary
from rmbench.metrics.credit import TIE, credit, merge, net_sign, verdicts_by_order
from rmbench.metrics.intervals import (
    Floats,
    Ints,
    Measure,
    combine,
    group_codes,
    interval,
    jackknife,
    mean_measure,
)

Given = Sequence[Judgment | None]


class Published(Protocol):
    """From all of a run's facts and its judgments by item id."""

    def __call__(
        self, facts: Sequence[Facts], judgments: Mapping[str, Judgment], *, confidence: float = 0.95
    ) -> list[Estimate]: ...


def verdict(judgment: Judgment | None) -> int | None:
    """The better of two responses, ``TIE``, or None without one: both orders of a judge if they agree, else a tie;
    without ballots the higher score, equal scores being a tie (FastChat, gen_judgment.py and show_result.py)."""
    if judgment is None or judgment.scores is None:
        return None
    orders = list(verdicts_by_order(judgment.ballots, 2).values())
    if orders:
        return merge(orders)
    first, second = judgment.scores
    return TIE if first == second else int(second > first)


# MT-Bench


def mt_bench_agreement(facts: Sequence[Facts], given: Given, index: Ints, groups: Ints) -> Measure:
    """Setup S1: the share of human votes that the verdict equals, vote by vote, any tie equal to any other
    (Zheng et al. 2023, arXiv:2306.05685, Table 5; FastChat, compute_agreement.py). No verdict agrees with nobody."""
    return _share("agreement", [_compare(f, verdict(j), True) for f, j in zip(facts, given, strict=True)], index)


def mt_bench(facts: Sequence[Facts], judgments: Mapping[str, Judgment], *, confidence: float = 0.95) -> list[Estimate]:
    """Per turn and per question category: ``s1`` (ties a class), ``s2`` (comparisons without a tie on either side) and
    the same of people among themselves over all unordered pairs of their votes, the ceiling. ``n`` counts items,
    ``extra["comparisons"]`` what the share is made of."""
    verdicts = [verdict(judgments.get(f.item_id)) for f in facts]
    counted = {
        "s1": [_compare(f, v, True) for f, v in zip(facts, verdicts, strict=True)],
        "s2": [_compare(f, v, False) for f, v in zip(facts, verdicts, strict=True)],
        "human-human-s1": [_among(f, True) for f in facts],
        "human-human-s2": [_among(f, False) for f in facts],
    }
    groups = group_codes([f.cluster for f in facts])
    scopes: dict[str, list[int]] = {}
    for i, f in enumerate(facts):
        area, _, turn = f.subset.rpartition("-")
        scopes.setdefault(f"category:Turn {turn}", []).append(i)
        scopes.setdefault(f"area:{area}", []).append(i)
    made = []
    for scope, where in sorted(scopes.items(), key=lambda pair: not pair[0].startswith("category")):
        for name, pairs in counted.items():
            own = [pairs[i] for i in where]
            measure = _share(name, own, np.array(where, dtype=np.int64))
            missing = 0 if name.startswith("human") else sum(verdicts[i] is None for i in where)
            comparisons = float(sum(total for _, total in own))
            made.append(_estimate(measure, scope, groups, confidence, missing, {"comparisons": comparisons}))
    return made


def _votes(facts: Facts) -> list[int]:
    return [vote for _, vote in facts.meta["votes"]]


def _compare(facts: Facts, said: int | None, ties: bool) -> tuple[float, float]:
    """Agreeing and all comparisons of one verdict with an item's votes."""
    votes = [v for v in _votes(facts) if ties or v != TIE]
    if said == TIE and not ties:
        return 0.0, 0.0
    return float(sum(v == said for v in votes)), float(len(votes))


def _among(facts: Facts, ties: bool) -> tuple[float, float]:
    pairs = [(a, b) for a, b in combinations(_votes(facts), 2) if ties or TIE not in (a, b)]
    return float(sum(a == b for a, b in pairs)), float(len(pairs))


# Pairs of a right and a wrong answer within an item

_CELLS = tuple((right, wrong) for right in range(3) for wrong in range(3))


def rm_bench(facts: Sequence[Facts], given: Given, index: Ints, groups: Ints) -> Measure:
    """The share of an item's nine pairs of a right and a wrong answer in which the right one scores strictly higher,
    averaged over items (Liu et al. 2024, arXiv:2410.16184, sec. 4; README of THU-KEG/RM-Bench)."""
    return mean_measure("rm-bench", _style_share(facts, given, _CELLS), index, shape="proportion")


def rm_bench_styles(
    facts: Sequence[Facts], judgments: Mapping[str, Judgment], *, confidence: float = 0.95
) -> list[Estimate]:
    """``easy``, ``normal`` and ``hard`` per subset and overall: the right answer's style is fancier than the wrong
    one's (concise < detailed < Markdown), the same, plainer. Overall: mean of chat, code, math and safety."""
    styles = {
        "easy": tuple((r, w) for r, w in _CELLS if r > w),
        "normal": tuple((r, w) for r, w in _CELLS if r == w),
        "hard": tuple((r, w) for r, w in _CELLS if r < w),
    }
    groups, where = group_codes([f.cluster for f in facts]), _by_subset(facts)
    halves = [s for s in where if s.startswith("safety")]
    weights = [1.0 / len(halves) if s in halves else 1.0 for s in where]
    absent = [d for d in ("chat", "code", "math", "safety") if not any(s.startswith(d) for s in where)]
    made = []
    for name, style in styles.items():
        measures, missing = [], 0
        for subset, index in where.items():
            own = [facts[i] for i in index]
            given = [judgments.get(f.item_id) for f in own]
            measures.append(mean_measure(name, _style_share(own, given, style), index, shape="proportion"))
            made.append(_estimate(measures[-1], f"subset:{subset}", groups, confidence, _unscored(given)))
            missing += _unscored(given)
        if absent:
            reason = f"no items in {', '.join(absent)}"
            made.append(Estimate(name=name, scope="overall", value=None, reason=reason, missing=missing))
        else:
            whole = combine(measures, weights, groups, confidence=confidence)
            bounds = whole.interval
            made.append(
                Estimate(
                    name=name,
                    scope="overall",
                    value=whole.value,
                    low=bounds.low,
                    high=bounds.high,
                    se=bounds.se,
                    method=bounds.method,
                    reason=bounds.reason,
                    n=len(facts),
                    missing=missing,
                )
            )
    return made


def _style_share(facts: Sequence[Facts], given: Given, cells: Sequence[tuple[int, int]]) -> Floats:
    x = np.zeros(len(facts))
    for i, judgment in enumerate(given):
        if judgment is not None and judgment.scores is not None:
            right, wrong = judgment.scores[:3], judgment.scores[3:]
            x[i] = sum(right[r] > wrong[w] for r, w in cells) / len(cells)
    return x


def ppe_pairs(facts: Sequence[Facts], judgments: Mapping[str, Judgment], *, confidence: float = 0.95) -> list[Estimate]:
    """``pair-accuracy`` per correctness set over its own sampled pairs of a right and a wrong answer, averaged over
    prompts (Frick et al. 2024, arXiv:2410.14872); equal scores count half, which the paper leaves open."""
    groups, made = group_codes([f.cluster for f in facts]), []
    for subset, index in _by_subset(facts).items():
        index = np.array([i for i in index if facts[i].meta.get("pairs")], dtype=np.int64)
        given = [judgments.get(facts[i].item_id) for i in index]
        x = np.zeros(len(index))
        for n, (i, judgment) in enumerate(zip(index, given, strict=True)):
            if judgment is not None and judgment.scores is not None:
                s, g = judgment.scores, facts[i].grades
                ordered = [(a, b) if g[a] > g[b] else (b, a) for a, b in facts[i].meta["pairs"]]
                x[n] = sum((s[a] > s[b]) + 0.5 * (s[a] == s[b]) for a, b in ordered) / len(ordered)
        if len(index):
            measure = mean_measure("pair-accuracy", x, index, shape="proportion")
            made.append(_estimate(measure, f"subset:{subset}", groups, confidence, _unscored(given)))
    return made


# Judges in both orders


def net_vote(facts: Sequence[Facts], given: Given, index: Ints, groups: Ints) -> Measure:
    """JudgeBench's number: a right verdict +1, a wrong one -1, a tie or none 0, summed over both orders; an item is
    right if the sum is above 0 (Tan et al. 2024, arXiv:2410.12784; JudgeBench, utils/metrics.py). So one right
    verdict counts where the other order gave none, though the item is an error elsewhere."""
    x = np.zeros(len(facts))
    for i, (f, judgment) in enumerate(zip(facts, given, strict=True)):
        orders = verdicts_by_order(judgment.ballots, 2) if judgment else {}
        x[i] = float(net_sign(list(orders.values()) or [verdict(judgment)], f.grades) > 0)
    return mean_measure("net-vote", x, index)


def by_strength(
    facts: Sequence[Facts], judgments: Mapping[str, Judgment], *, confidence: float = 0.95
) -> list[Estimate]:
    """``accuracy`` in scopes ``strength:1``, ``strength:2``, ... (rounded up to whole steps), mean over both orders and
    ties half (Llama 2, arXiv:2307.09288, Table 8)."""
    rules, groups, made = Rules(name="by-strength"), group_codes([f.cluster for f in facts]), []
    steps: dict[int, list[int]] = {}
    for i, f in enumerate(facts):
        if f.strength is not None and min(f.grades) != max(f.grades):
            steps.setdefault(int(np.ceil(round(f.strength, 9))), []).append(i)
    for step, where in sorted(steps.items()):
        given = [judgments.get(facts[i].item_id) for i in where]
        x = [credit(facts[i], j, rules).value or 0.0 for i, j in zip(where, given, strict=True)]
        measure = mean_measure("accuracy", np.array(x), np.array(where, dtype=np.int64))
        made.append(_estimate(measure, f"strength:{step}", groups, confidence, _unscored(given)))
    return made


# Three classes, eight labels


def three_class(
    facts: Sequence[Facts], judgments: Mapping[str, Judgment], *, confidence: float = 0.95
) -> list[Estimate]:
    """``macro-precision``, ``macro-recall`` and ``macro-f1`` over the classes first, second and tie (Wang et al. 2023,
    arXiv:2306.05087, Table 2); a class never said has precision 0, no verdict is no class."""
    gold = np.array([TIE if min(f.grades) == max(f.grades) else int(f.grades[1] > f.grades[0]) for f in facts])
    given = [judgments.get(f.item_id) for f in facts]
    said = np.array([-2 if (v := verdict(j)) is None else v for j in given])
    groups, every = group_codes([f.cluster for f in facts]), np.arange(len(facts), dtype=np.int64)

    def macro(keep: Ints, part: int) -> float | None:
        found = [_precision_recall_f1(gold[keep] == c, said[keep] == c)[part] for c in (0, 1, TIE)]
        return float(np.mean(found)) if len(keep) else None

    made = []
    for part, name in enumerate(("macro-precision", "macro-recall", "macro-f1")):
        value = macro(every, part)
        reason = None if value is not None else "no items"
        influence = jackknife(partial(macro, part=part), groups)[0] if len(facts) else np.zeros(0)
        measure = Measure(name, value, influence, every, "proportion", reason)
        made.append(_estimate(measure, "micro", groups, confidence, _unscored(given)))
    return made


def _precision_recall_f1(gold: NDArray[np.bool_], said: NDArray[np.bool_]) -> tuple[float, float, float]:
    hit, claimed, real = float((gold & said).sum()), float(said.sum()), float(gold.sum())
    precision, recall = hit / claimed if claimed else 0.0, hit / real if real else 0.0
    return precision, recall, 2 * hit / (claimed + real) if claimed + real else 0.0


def label_auc(facts: Sequence[Facts], judgments: Mapping[str, Judgment], *, confidence: float = 0.95) -> list[Estimate]:
    """``average-precision`` and ``auc`` in scopes ``label:S``, ``label:H``, ...: texts with the label against those
    judged not to have it, ordered by minus the score (Markov et al. 2022, arXiv:2208.03274, Table 2: AUPRC)."""
    groups, made = group_codes([f.cluster for f in facts]), []
    for label in dict.fromkeys(name for f in facts for name in f.meta.get("labels", {})):
        index = np.array([i for i, f in enumerate(facts) if label in f.meta.get("labels", {})], dtype=np.int64)
        given = [judgments.get(facts[i].item_id) for i in index]
        scores = np.array([np.nan if j is None or j.scores is None else -j.scores[0] for j in given])
        labels = np.array([facts[i].meta["labels"][label] for i in index], dtype=float)
        for measure in (
            binary.average_precision(scores, labels, index, groups[index]),
            binary.auc(scores, labels, index),
        ):
            made.append(_estimate(measure, f"label:{label}", groups, confidence, _unscored(given)))
    return made


def _by_subset(facts: Sequence[Facts]) -> dict[str, Ints]:
    found: dict[str, list[int]] = {}
    for i, f in enumerate(facts):
        found.setdefault(f.subset, []).append(i)
    return {subset: np.array(where, dtype=np.int64) for subset, where in found.items()}


def _unscored(given: Iterable[Judgment | None]) -> int:
    return sum(j is None or j.scores is None for j in given)


def _share(name: str, pairs: Sequence[tuple[float, float]], index: Ints) -> Measure:
    """sum a / sum b over items, with influence (a_i - share b_i) / sum b (delta method)."""
    above, below = np.array([a for a, _ in pairs], dtype=float), np.array([b for _, b in pairs], dtype=float)
    total = float(below.sum())
    if not total:
        return Measure(name, None, np.zeros(len(index)), index, reason="nothing to compare")
    value = float(above.sum()) / total
    weights = below / total if np.all(below > 0) else None
    return Measure(name, value, (above - value * below) / total, index, "proportion", weights=weights)


def _estimate(
    measure: Measure,
    scope: str,
    groups: Ints,
    confidence: float,
    missing: int,
    extra: dict[str, float | str | None] | None = None,
) -> Estimate:
    bounds = interval(measure, groups, confidence=confidence)
    return Estimate(
        name=measure.name,
        scope=scope,
        value=measure.value,
        low=bounds.low,
        high=bounds.high,
        se=bounds.se,
        method=bounds.method,
        n=measure.n,
        missing=missing,
        reason=measure.reason or bounds.reason,
        extra=extra or {},
    )


MEASURES: dict[str, Callable[[Sequence[Facts], Given, Ints, Ints], Measure]] = {
    "mt-bench-agreement": mt_bench_agreement,
    "net-vote": net_vote,
    "rm-bench": rm_bench,
}
"""Name -> a subset's measure from its facts, judgments, their positions in the run, and the run's cluster codes."""

PUBLISHED: dict[str, Published] = {
    "by-strength": by_strength,
    "label-auc": label_auc,
    "mt-bench": mt_bench,
    "ppe-pairs": ppe_pairs,
    "rm-bench-styles": rm_bench_styles,
    "three-class": three_class,
}
"""Name -> estimates of a whole suite."""
