"""Is sigmoid(margin) the chance of being right? Brier, NLL, ECE, temperature, reliability, and ties of scores.

A margin is the score of the better response minus that of the other, so the label is always 1 and calibration must be
asked of the confidence max(p, 1 - p) against correctness (a tie half), not of p.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rmbench.metrics.intervals import Floats, Ints


class Bin(NamedTuple):
    """One bin of the reliability diagram."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + e^-x), without overflow."""
    from scipy.special import expit

    made: Floats = expit(x)
    return made


def brier(margins: Floats) -> Floats:
    """(1 - p)^2 per pair (Brier 1950)."""
    made: Floats = (1 - sigmoid(margins)) ** 2
    return made


def nll(margins: Floats) -> Floats:
    """-log p = log(1 + e^-m) per pair, the Bradley-Terry loss."""
    made: Floats = np.logaddexp(0, -margins)
    return made


def correct(margins: Floats) -> Floats:
    """1, 0, or half for equal scores."""
    made: Floats = (margins > 0) + 0.5 * (margins == 0)
    return made


def reliability(margins: Floats, *, bins: int = 10) -> list[Bin]:
    """Bins of equal width over confidence in [1/2, 1]; empty ones are left out."""
    confidence, right = sigmoid(np.abs(margins)), correct(margins)
    edges = np.linspace(0.5, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins - 1)
    made = []
    for b in range(bins):
        own = place == b
        if own.any():
            mean = (float(confidence[own].mean()), float(right[own].mean()))
            made.append(Bin(float(edges[b]), float(edges[b + 1]), int(own.sum()), *mean))
    return made


def ece(margins: Floats, *, bins: int = 10) -> float | None:
    """sum_b n_b/n |accuracy_b - confidence_b| on max(p, 1 - p) (Guo et al. 2017, arXiv 1706.04599); None without
    pairs."""
    if len(margins) == 0:
        return None
    return sum(b.n * abs(b.accuracy - b.confidence) for b in reliability(margins, bins=bins)) / len(margins)


def ece_if_calibrated(margins: Floats, *, rng: np.random.Generator, bins: int = 10, draws: int = 100) -> float | None:
    """Mean ECE of a perfectly calibrated model with these confidences: what noise alone gives at this n."""
    n = len(margins)
    if n == 0:
        return None
    confidence = sigmoid(np.abs(margins))
    place = np.clip(np.searchsorted(np.linspace(0.5, 1, bins + 1), confidence, side="right") - 1, 0, bins - 1)
    total = 0.0
    for _ in range(draws):
        gap = (rng.random(n) < confidence) - confidence
        total += float(np.abs(np.bincount(place, weights=gap, minlength=bins)).sum()) / n
    return total / draws


def temperature(margins: Floats) -> float | None:
    """T that minimises mean log(1 + e^(-m/T)): the root in b = 1/T of mean(m sigmoid(-b m)) = 0. None where it is 0 or
    infinite: no wrong pair, or the margins do not favour the right side."""
    from scipy.optimize import brentq

    scale = float(np.max(np.abs(margins), initial=0.0))
    if scale == 0 or margins.min() >= 0 or margins.mean() <= 0:
        return None
    m = margins / scale

    def slope(b: float) -> float:
        return float(np.mean(m * sigmoid(-b * m)))

    high = 1.0
    while slope(high) > 0:
        high *= 2
        if high > 1e9:
            return None
    root = float(brentq(slope, 0.0, high, xtol=1e-12))
    # Margins that cancel but for rounding have their root at 0 or beside it: no finite temperature either.
    return scale / root if root > 1e-9 else None


class Fitted(NamedTuple):
    """A temperature and what it does to pairs that it was not fitted on."""

    temperature: float
    nll: Floats
    """(pairs,) after scaling."""
    ece: float


def cross_fitted(margins: Floats, fold: Ints) -> Fitted | None:
    """Temperature of all pairs; NLL and ECE of each fold at the temperature of the others. None where a fold has
    none."""
    whole = temperature(margins)
    if whole is None:
        return None
    scaled = np.empty(len(margins))
    for f in np.unique(fold):
        fitted = temperature(margins[fold != f])
        if fitted is None:
            return None
        scaled[fold == f] = margins[fold == f] / fitted
    after = ece(scaled)
    return None if after is None else Fitted(whole, nll(scaled), after)
