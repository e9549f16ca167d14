"""Rankings: rank correlations per item, RewardBench 2's Ties, and unbiased best-of-n curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from rmbench.core import Facts, Judgment
from rmbench.metrics.intervals import Floats, Ints, Measure, jackknife


def kendall(scores: Floats, grades: Floats) -> float | None:
    """tau-b; None for a constant side or fewer than two responses."""
    from scipy.stats import kendalltau

    if len(scores) < 2 or np.ptp(scores) == 0 or np.ptp(grades) == 0:
        return None
    return float(kendalltau(scores, grades).statistic)


def spearman(scores: Floats, grades: Floats) -> float | None:
    """Rank correlation with mid-ranks; None for a constant side or fewer than two responses."""
    from scipy.stats import rankdata

    if len(scores) < 2 or np.ptp(scores) == 0 or np.ptp(grades) == 0:
        return None
    a, b = (r - r.mean() for r in (rankdata(scores), rankdata(grades)))
    return float(np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b)))


BY_ITEM: dict[str, Callable[[Floats, Floats], float | None]] = {"kendall": kendall, "spearman": spearman}
"""Metrics that are a mean over items of a number of their own."""


def by_item(metric: str, facts: Sequence[Facts], judgments: Sequence[Judgment | None]) -> tuple[Floats, Any]:
    """One value per item (items,) and which items count (items,). All grades equal: left out. All scores equal, an
    error or no judgment: 0, no association."""
    values, keep = np.zeros(len(facts)), np.ones(len(facts), dtype=bool)
    for i, (item, judgment) in enumerate(zip(facts, judgments, strict=True)):
        if min(item.grades) == max(item.grades):
            keep[i] = False
        elif judgment is not None and judgment.scores is not None:
            values[i] = BY_ITEM[metric](np.array(judgment.scores), np.array(item.grades)) or 0.0
    return values, keep


def rb2_ties(facts: Sequence[Facts], judgments: Sequence[Judgment | None], index: Ints, groups: Ints) -> Measure:
    """RewardBench 2's Ties score (reward-bench 05a9005, ``rewardbench/utils.py``): of items in one cluster, the one
    with a single best response is the reference, the one with several the tied one;

    .30 acc(tied) + .30 acc(ref) + .20 mean[gap_t > spread] + .20 mean[min(gap_r, gap_t) > spread]
    + .01 mean[tanh(min(gap_r, gap_t)/spread - 1)]

    with acc: every right answer above every wrong one, gap: lowest right minus highest wrong, spread: highest minus
    lowest right of the tied one. The published sum reaches 1.01; here it is capped at 1. An error fails its
    conditions. Interval: leaving out one prompt at a time.
    """
    rows = [_ties_row(f, j) for f, j in zip(facts, judgments, strict=True)]

    def value(keep: Ints) -> float | None:
        return _rb2_ties([rows[i] for i in keep], groups[keep])

    whole = value(np.arange(len(rows)))
    if whole is None:
        reason = "needs items with one and with several right answers, each beside a wrong one"
        return Measure("rewardbench2-ties", None, np.zeros(len(rows)), index, reason=reason)
    influence, defined = jackknife(value, groups)
    if not defined:
        influence = np.zeros(len(rows))
    # The last term can be below 0, so this is no proportion.
    return Measure("rewardbench2-ties", min(whole, 1.0), influence, index, "real")


def _ties_row(facts: Facts, judgment: Judgment | None) -> tuple[bool, float, float] | None:
    """(several right answers, gap, spread); a gap of -inf for an error; None where no answer is wrong."""
    best = max(facts.grades)
    right = [i for i, g in enumerate(facts.grades) if g == best]
    if len(right) == len(facts.grades):
        return None
    if judgment is None or judgment.scores is None:
        return len(right) > 1, -math.inf, 0.0
    good = [judgment.scores[i] for i in right]
    bad = [s for s, g in zip(judgment.scores, facts.grades, strict=True) if g != best]
    return len(right) > 1, min(good) - max(bad), max(good) - min(good)


def _rb2_ties(rows: Sequence[tuple[bool, float, float] | None], groups: Ints) -> float | None:
    tied = {int(g): r for r, g in zip(rows, groups, strict=True) if r is not None and r[0]}
    single = {int(g): r for r, g in zip(rows, groups, strict=True) if r is not None and not r[0]}
    both = [(single[g][1], tied[g][1], tied[g][2]) for g in tied if g in single]
    if not both:
        return None

    def share(flags: list[bool]) -> float:
        return sum(flags) / len(flags)

    def margin(gap: float, spread: float) -> float:
        # 0/0 in the published code is NaN and counts 0; a gap over no spread is 1.
        if spread == 0:
            return 0.0 if gap == 0 else math.copysign(1.0, gap)
        return math.tanh(gap / spread - 1)

    return (
        0.30 * share([r[1] > 0 for r in tied.values()])
        + 0.30 * share([r[1] > 0 for r in single.values()])
        + 0.20 * share([t > spread for _, t, spread in both])
        + 0.20 * share([min(r, t) > spread for r, t, spread in both])
        + 0.01 * sum(margin(min(r, t), spread) for r, t, spread in both) / len(both)
    )


class Curve(NamedTuple):
    """Best-of-n by item; every array is (items, n)."""

    n: tuple[int, ...]
    proxy: Floats
    """Expected score of the response picked by score."""
    gold: Floats
    """Expected grade of the response picked by score."""
    oracle: Floats
    """Expected grade of the response picked by grade: regret is ``oracle - gold``."""
    kl_bound: Floats
    """(n,) ln n - (n - 1)/n in nats: an upper bound on the KL divergence from the sampling policy, not its value
    (Beirami et al. 2024, arXiv 2401.01879)."""


def best_of_n(scores: Sequence[Floats], grades: Sequence[Floats], n: Sequence[int] | None = None) -> Curve:
    """Unbiased over all draws of n of an item's N responses without replacement: sum_i C(i-1, n-1)/C(N, n) g_(i) with
    responses sorted by score and tied ones replaced by their mean (Nakano et al. 2021, arXiv 2112.09332, eq. 3; n = 1
    is the mean, n = N the one on top). ``n`` defaults to 1..the smallest N. Raises ValueError for other n."""
    smallest = min((len(s) for s in scores), default=0)
    sizes = tuple(n if n is not None else range(1, smallest + 1))
    if sizes and not 1 <= min(sizes) <= max(sizes) <= smallest:
        raise ValueError(f"best of {min(sizes)} to {max(sizes)} needs 1 <= n <= {smallest}, an item's responses")
    shape = (len(scores), len(sizes))
    proxy, gold, oracle = np.empty(shape), np.empty(shape), np.empty(shape)
    for row, (s, g) in enumerate(zip(scores, grades, strict=True)):
        weights = _order_weights(len(s), sizes)
        columns = (np.sort(s), _sorted_block_means(s, g), np.sort(g))
        proxy[row], gold[row], oracle[row] = (np.sum(weights * column, axis=1) for column in columns)
    sizes_array = np.array(sizes, dtype=float)
    return Curve(sizes, proxy, gold, oracle, np.log(sizes_array) - (sizes_array - 1) / sizes_array)


@lru_cache(maxsize=256)
def _order_weights(total: int, sizes: tuple[int, ...]) -> Floats:
    """(sizes, total): chance that the i-th smallest of ``total`` is the largest of n drawn."""
    return np.array([[math.comb(i, n - 1) / math.comb(total, n) for i in range(total)] for n in sizes])


def _sorted_block_means(scores: Floats, grades: Floats) -> Floats:
    order = np.argsort(scores, kind="stable")
    _, block, size = np.unique(scores[order], return_inverse=True, return_counts=True)
    made: Floats = (np.bincount(block, weights=grades[order]) / size)[block]
    return made


def pass_at_k(right: int, n: int, k: int) -> float:
    """1 - C(n - c, k)/C(n, k): some of k draws is right, the ceiling of any choice among them (Chen et al. 2021,
    arXiv 2107.03374). Raises ValueError for k > n."""
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs 1 <= k <= {n} samples")
    return 1 - math.comb(n - right, k) / math.comb(n, k)
