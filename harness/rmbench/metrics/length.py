"""Does the model prefer the longer response, and how accurate is it with length held equal?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rmbench.metrics.calibration import sigmoid
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
    b0 = b1 = 0.0
    for _ in range(100):
        p = sigmoid(b0 + b1 * u)
        residual, w = credit - p, p * (1 - p)
        # Sums by hand, not by BLAS, whose last digits differ from one machine to the next.
        s0, s1, s2 = (float(np.sum(w * part)) for part in (np.ones(len(u)), u, u * u))
        det = s0 * s2 - s1 * s1
        if det <= 1e-12 * (s0 + s2) ** 2:
            return "length separates right from wrong"
        g0, g1 = float(np.sum(residual)), float(np.sum(u * residual))
        step = ((s2 * g0 - s1 * g1) / det, (s0 * g1 - s1 * g0) / det)
        b0, b1 = b0 + step[0], b1 + step[1]
        if max(abs(b0), abs(b1)) > 1e3:
            return "length separates right from wrong"
        if max(abs(step[0]), abs(step[1])) < 1e-10:
            break
    else:
        return "length separates right from wrong"
    influence = np.stack([s2 - s1 * u, s0 * u - s1], axis=1) * (residual / det)[:, None]
    se = np.sqrt(np.sum(sums_by_group(influence, groups)[0] ** 2, axis=0))
    if not np.all(np.isfinite(se)) or se[0] > 50:
        return "length separates right from wrong"
    half = t_quantile(confidence, size - 1) * se[0]
    low, value, high = (float(x) for x in sigmoid(np.array([b0 - half, b0, b0 + half])))
    return Logistic(value, low, high, b1, float(se[1]))
