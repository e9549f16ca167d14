"""Single responses with a 0/1 label: ROC AUC, average precision, and F1 and error rates at a stated threshold.

A missing score is taken as the worst possible one (below all for label 1, above all for label 0), so that an error
never raises a number.
"""

from __future__ import annotations

import numpy as np

from rmbench.metrics.intervals import Floats, Ints, Measure, jackknife, mean_measure

AT = ("accuracy", "f1", "precision", "recall", "fpr", "fnr")
"""Metrics that need a threshold: ``f1@0.5``; a score above it says 1."""

BLOCKED, BLOCKS = 5000, 500


def worst(scores: Floats, labels: Floats) -> Floats:
    """Scores with NaN replaced by the worst possible value of its label."""
    return np.where(np.isnan(scores), np.where(labels > 0, -np.inf, np.inf), scores)


def auc(scores: Floats, labels: Floats, index: Ints) -> Measure:
    """P(score of a 1 > score of a 0) + half P(equal), with DeLong's placement values as influence
    (DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44). Undefined when one class is absent."""
    from scipy.stats import rankdata

    scores, positive = worst(scores, labels), labels > 0
    n1, n0 = int(positive.sum()), int((~positive).sum())
    if n1 == 0 or n0 == 0:
        empty = np.zeros(len(scores))
        return Measure("auc", None, empty, index, reason=f"needs both labels (ones: {n1}, zeros: {n0})")
    ranks = rankdata(scores)
    placement = np.empty(len(scores))
    # Rank among all minus rank within the class counts the other class below (ties half).
    placement[positive] = (ranks[positive] - rankdata(scores[positive])) / n0
    placement[~positive] = 1 - (ranks[~positive] - rankdata(scores[~positive])) / n1
    value = float(placement[positive].mean())
    influence = (placement - value) / np.where(positive, n1, n0)
    return Measure("auc", value, influence, index, "proportion", least=min(n1, n0))


def average_precision(scores: Floats, labels: Floats, index: Ints, groups: Ints) -> Measure:
    """sum_k (R_k - R_(k-1)) P_k over distinct thresholds; its influence by leaving out one group at a time, or one of
    500 blocks of groups where there are more than 5,000 items."""
    scores, positive = worst(scores, labels), labels > 0
    if not positive.any() or positive.all():
        reason = f"needs both labels (ones: {int(positive.sum())}, zeros: {int((~positive).sum())})"
        return Measure("average-precision", None, np.zeros(len(scores)), index, reason=reason)

    def value(keep: Ints) -> float | None:
        return _average_precision(scores[keep], positive[keep])

    # Each replicate sorts all scores; whole groups in blocks keep the time linear.
    influence, _ = jackknife(value, groups if len(groups) <= BLOCKED else groups % BLOCKS)
    every = np.arange(len(scores))
    return Measure("average-precision", value(every), influence, index, "proportion", least=int(positive.sum()))


def _average_precision(scores: Floats, positive: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float | None:
    if not positive.any():
        return None
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], np.cumsum(positive[order])
    last = np.r_[np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1]
    recall = hits[last] / hits[-1]
    return float(np.sum(np.diff(np.r_[0.0, recall]) * hits[last] / (last + 1)))


def at_threshold(name: str, scores: Floats, labels: Floats, index: Ints) -> Measure:
    """``f1@0.5`` and the like. Ratios a/b have influence (a_i - ratio b_i) / sum b (delta method)."""
    kind, _, at = name.partition("@")
    said = worst(scores, labels) > float(at or 0.5)
    positive = labels > 0
    hit = (said & positive).astype(float)
    if kind == "accuracy":
        return mean_measure(name, (said == positive).astype(float), index)
    above, below = {
        "f1": (2 * hit, said.astype(float) + positive),
        "precision": (hit, said.astype(float)),
        "recall": (hit, positive.astype(float)),
        "fpr": ((said & ~positive).astype(float), (~positive).astype(float)),
        "fnr": ((~said & positive).astype(float), positive.astype(float)),
    }[kind]
    total = below.sum()
    if total == 0:
        return Measure(name, None, np.zeros(len(said)), index, reason="nothing to divide by: no such item")
    value = float(above.sum() / total)
    least = int(np.count_nonzero(below))
    return Measure(name, value, (above - value * below) / total, index, "proportion", least=least)
