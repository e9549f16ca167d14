"""Does the model prefer the longer response, and how accurate is it with length held equal?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rmbench.metrics.intervals import Floats, Ints, sums_by_group, t_quantile


class Logistic(NamedTuple):
    """A logistic fit of credit on relative length, with cluster-robust errors."""

    accuracy: float
    """sigmoid(intercept): accuracy at equal lengths."""
    low: float
    high: float
    slope: float
    """Change in log-odds from a right response as long as the wrong one to one that is all the length there is."""
    slope_se: float


def relative(right: Floats, wrong: Floats) -> Floats:
    """(right - wrong) / (right + wrong), in [-1, 1]; 0 for two empty responses."""
    total = right + wrong
    made: Floats = np.where(total > 0, (right - wrong) / np.where(total > 0, total, 1), 0.0)
    return made


def prefers_longer(right: Floats, wrong: Floats, credit: Floats) -> Floats:
    """Per pair, how much credit went to the longer response; NaN where both are equally long."""
    made: Floats = np.where(right > wrong, credit, np.where(right < wrong, 1 - credit, np.nan))
    return made


def controlled(u: Floats, credit: Floats, groups: Ints, *, confidence: float = 0.95) -> Logistic | str:
    """Accuracy with length held equal: logit P(right) = b0 + b1 u by maximum likelihood (after Dubois et al. 2024,
    arXiv 2404.04475), sandwich errors summed within groups, interval on the logit scale with t(G - 1). Half credits
    enter as half. A sentence instead where it is undefined: one group, constant length or credit, separation."""
    size = len(np.unique(groups))
    if size < 3:
        return "fewer than three groups"
    if np.ptp(u) < 1e-9:
        return "every pair has the same relative length"
    if np.ptp(credit) < 1e-9:
        return "every pair has the same credit"
    design = np.stack([np.ones(len(u)), u], axis=1)
    b = np.zeros(2)
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(design @ b, -500, 500)))
        bread = design.T @ (design * (p * (1 - p))[:, None])
        if np.linalg.cond(bread) > 1e12:
            return "length separates right from wrong"
        step = np.linalg.solve(bread, design.T @ (credit - p))
        b = b + step
        if np.abs(b).max() > 1e3:
            return "length separates right from wrong"
        if np.abs(step).max() < 1e-10:
            break
    else:
        return "length separates right from wrong"
    p = 1 / (1 + np.exp(-(design @ b)))
    inverse = np.linalg.inv(design.T @ (design * (p * (1 - p))[:, None]))
    sums, _ = sums_by_group((design * (credit - p)[:, None]) @ inverse, groups)
    covariance = sums.T @ sums
    se = np.sqrt(np.diag(covariance))
    if not np.all(np.isfinite(se)) or se[0] > 50:
        return "length separates right from wrong"
    half = t_quantile(confidence, size - 1) * se[0]
    low, value, high = (float(1 / (1 + np.exp(-x))) for x in (b[0] - half, b[0], b[0] + half))
    return Logistic(value, low, high, float(b[1]), float(se[1]))
