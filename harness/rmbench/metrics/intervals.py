"""Intervals from a value and what each item adds to it: one variance for means, strata, clusters and pairs.

A metric gives its value and, per item, its *influence*: the linearised share of that item in the value, summing
to zero, ``(x_i - mean) / n`` for a mean. Summed within clusters and scaled by ``sqrt(G / (G - 1))``, the root of
the sum of squares is the standard error of a mean, CR1 where items share a cluster, and that of a weighted sum of
metrics when weighted influences are added first. A paired difference is the difference of two influences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Interval(NamedTuple):
    """Bounds, standard error and method; ``None`` with a reason where undefined."""

    low: float | None
    high: float | None
    se: float | None
    method: str
    reason: str | None = None


class Measure(NamedTuple):
    """A metric's value on some of a run's items."""

    name: str
    value: float | None
    influence: Floats
    """(n,), one per entry of ``items``."""
    items: Ints
    """(n,) positions in the run's items."""
    shape: str = "proportion"
    """``binary`` (a mean of zeros and ones), ``proportion`` (anything else in [0, 1]) or ``real``."""
    reason: str | None = None
    least: int | None = None
    """Independent items behind a value of 0 or 1 without spread, where that is not the number of groups."""
    weights: Floats | None = None
    """(n,) shares summing to 1 where the value is a mean of unequally weighted items."""

    @property
    def n(self) -> int:
        return len(self.items)

    @property
    def values(self) -> Floats:
        """(n,) what each item has, where the measure is a mean over items."""
        share = 1 / self.n if self.weights is None else self.weights
        made: Floats = np.round(self.influence / share + (self.value or 0.0), 12)
        return made


def mean_measure(name: str, x: Floats, index: Ints, *, shape: str | None = None) -> Measure:
    """The mean of ``x`` (n,) as a measure; its shape is read off the values unless given."""
    if len(x) == 0:
        return Measure(name, None, x, index, shape or "proportion", "no items")
    value = float(np.mean(x))
    if shape is None:
        binary = bool(np.all((x == 0) | (x == 1)))
        shape = "binary" if binary else "proportion" if x.min() >= 0 and x.max() <= 1 else "real"
    return Measure(name, value, (x - value) / len(x), index, shape)


def normal_quantile(confidence: float) -> float:
    """z of a two-sided interval: 1.96 for 0.95."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + confidence / 2))


def t_quantile(confidence: float, df: float) -> float:
    """t of a two-sided interval with ``df`` degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + confidence / 2))


def wilson(wins: float, n: float, *, confidence: float = 0.95, quantile: float | None = None) -> tuple[float, float]:
    """Score interval of a proportion; fractional ``wins`` allowed (Wilson 1927, JASA 22; half ties make it
    conservative because Var{0, 1/2, 1} <= p(1 - p)). ``n`` must be positive."""
    z = normal_quantile(confidence) if quantile is None else quantile
    p = wins / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(max(p * (1 - p), 0.0) / n + z * z / (4 * n * n))
    # Rounding must not push a bound past its estimate at 0 and 1.
    return max(0.0, min(middle - half, p)), min(1.0, max(middle + half, p))


def clopper_pearson(wins: float, n: int, *, ties: int = 0, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval by Beta quantiles (Clopper & Pearson 1934). With ties the lower bound counts them as losses
    and the upper one as wins."""
    from scipy.special import betaincinv

    alpha, top = (1 - confidence) / 2, wins + ties
    low = 0.0 if wins <= 0 else float(betaincinv(wins, n - wins + 1, alpha))
    high = 1.0 if top >= n else float(betaincinv(top + 1, n - top, 1 - alpha))
    return low, high


def sums_by_group(influence: Floats, groups: Ints) -> tuple[Floats, int]:
    """Influence (n,) or (n, m) summed within groups (n,) and scaled by sqrt(G / (G - 1)), and G."""
    codes, inverse = np.unique(groups, return_inverse=True)
    size = len(codes)
    columns = influence.reshape(len(groups), -1).T
    sums = np.array([np.bincount(inverse, weights=column, minlength=size) for column in columns], dtype=np.float64).T
    scale = math.sqrt(size / (size - 1)) if size > 1 else 1.0
    return (sums[:, 0] if influence.ndim == 1 else sums) * scale, size


def standard_error(influence: Floats, groups: Ints) -> float | None:
    """CR1: sqrt(G/(G-1) sum_c (sum_i in c influence_i)^2); sd/sqrt(n) when every item is its own group
    (Miller 2024, arXiv 2411.00640; Liang & Zeger 1986). None for fewer than two groups."""
    sums, size = sums_by_group(influence, groups)
    return float(np.sqrt(np.sum(sums**2))) if size > 1 else None


def interval(measure: Measure, groups: Ints, *, confidence: float = 0.95) -> Interval:
    """Interval of one measure; ``groups`` (items of the run,) are cluster codes.

    Zeros and ones without clusters: Wilson. Other proportions: Wilson with the effective number of items
    p(1 - p)/SE^2 and t with G - 1 (Korn & Graubard 1998, Survey Methodology 24), which stays in [0, 1] and does not
    collapse at 0 and 1. Real numbers: t with G - 1.
    """
    if measure.value is None:
        return Interval(None, None, None, "", measure.reason)
    p, own = measure.value, groups[measure.items]
    size = len(np.unique(own))
    clustered = size < measure.n
    if size < 2 and (clustered or measure.shape != "binary"):
        return Interval(None, None, None, "", "one cluster" if clustered else "one item")
    se = standard_error(measure.influence, own)
    if measure.shape == "binary" and not clustered:
        return Interval(*wilson(p * measure.n, measure.n, confidence=confidence), se, "wilson")
    if se is None:
        raise ValueError("a measure of two or more groups has a standard error")
    t = t_quantile(confidence, size - 1)
    if measure.shape == "real":
        # Equal values say nothing about their spread; a point would claim certainty.
        if se < 1e-12:
            return Interval(None, None, 0.0, "", "every item has the same value")
        return Interval(p - t * se, p + t * se, se, "cluster t (CR1)" if clustered else "t")
    method = "cluster wilson (CR1)" if clustered else "wilson (effective n)"
    if se < 1e-9:
        if 1e-9 < p < 1 - 1e-9:
            return Interval(None, None, 0.0, "", "every item has the same credit (a constant model?)")
        size = min(size, measure.least or size)
        return Interval(*wilson(p * size, size, confidence=confidence), 0.0, method)
    effective = p * (1 - p) / se**2
    if effective <= 0:
        return Interval(*wilson(p * size, size, confidence=confidence), se, method)
    return Interval(*wilson(p * effective, effective, quantile=t), se, method)


class Combined(NamedTuple):
    """A weighted sum of measures: its influence over all of the run's items, and its interval."""

    value: float
    influence: Floats
    interval: Interval
    df: float


def combine(
    measures: Sequence[Measure],
    weights: Sequence[float],
    groups: Ints,
    *,
    confidence: float = 0.95,
    bounds: Callable[[Measure], Interval] | None = None,
) -> Combined:
    """sum_k w_k m_k with weights scaled to 1 (Cochran 1977, ch. 5). All values must be defined.

    SE from influences summed within clusters over all strata, so a prompt in two subsets is counted once. The interval
    recovers the strata's own bounds, low = A - sqrt(a' R a) with a_k = w_k (m_k - low_k) and R the correlation
    of the strata through shared clusters (MOVER, Zou & Donner 2008, Stat Med 27), so a stratum without one
    loss still adds its width. ``bounds`` gives another interval per stratum (Tango's, for paired differences).
    """
    total = math.fsum(weights)
    shares = np.array([w / total for w in weights])
    value = math.fsum(float(s) * m.value for s, m in zip(shares, measures, strict=True) if m.value is not None)
    influence = np.zeros(len(groups))
    parts = [(bounds(m) if bounds else interval(m, groups, confidence=confidence)) for m in measures]
    spread = np.zeros((int(groups.max(initial=-1)) + 1, len(measures)))
    df_parts: list[tuple[float, int]] = []
    for k, (share, measure) in enumerate(zip(shares, measures, strict=True)):
        np.add.at(influence, measure.items, share * measure.influence)
        own = groups[measure.items]
        size = len(np.unique(own))
        scale = math.sqrt(size / (size - 1)) if size > 1 else 1.0
        np.add.at(spread[:, k], own, scale * share * measure.influence)
        df_parts.append((float(np.sum(spread[:, k] ** 2)), size - 1))
    single = next((m for m, (_, df) in zip(measures, df_parts, strict=True) if df < 1), None)
    se = None if single is not None else float(np.sqrt(np.sum(spread.sum(axis=1) ** 2)))
    top = sum(v for v, _ in df_parts)
    bottom = sum(v * v / df for v, df in df_parts if df > 0)
    df = top * top / bottom if bottom > 0 else float(sum(max(df, 0) for _, df in df_parts))
    for measure, part in zip(measures, parts, strict=True):
        if part.low is None:
            return Combined(value, influence, Interval(None, None, se, "", f"{measure.name}: {part.reason}"), df)
    correlation = _correlation(spread)
    values = np.array([m.value for m in measures], dtype=float)
    down = shares * (values - np.array([p.low for p in parts], dtype=float))
    up = shares * (np.array([p.high for p in parts], dtype=float) - values)
    low = value - math.sqrt(max(float(np.sum(np.outer(down, down) * correlation)), 0.0))
    high = value + math.sqrt(max(float(np.sum(np.outer(up, up) * correlation)), 0.0))
    method = parts[0].method if len(parts) == 1 else f"stratified {parts[0].method.split()[0]} (MOVER)"
    return Combined(value, influence, Interval(low, high, se, method), df)


def _correlation(spread: Floats) -> Floats:
    """Correlation of strata over groups; strata without spread are taken as independent."""
    # Not by BLAS, whose last digits differ from one machine to the next.
    covariance = np.einsum("gi,gj->ij", spread, spread)
    scale = np.sqrt(np.diag(covariance))
    safe = np.where(scale > 0, scale, 1.0)
    made: Floats = covariance / np.outer(safe, safe)
    np.fill_diagonal(made, 1.0)
    return made


def jackknife(statistic: Callable[[Ints], float | None], groups: Ints) -> tuple[Floats, bool]:
    """Influence per item by leaving out one group at a time, put on the first item of each group, and whether every
    replicate was defined. ``statistic`` takes the positions kept (Efron & Stein 1981)."""
    codes, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    replicates = [statistic(np.flatnonzero(inverse != g)) for g in range(len(codes))]
    influence = np.zeros(len(groups))
    if len(codes) < 2 or any(r is None for r in replicates):
        return influence, False
    values = np.array(replicates, dtype=float)
    influence[first] = (values.mean() - values) * (len(codes) - 1) / len(codes)
    return influence, True


def group_codes(clusters: Sequence[str | None]) -> Ints:
    """Cluster names to codes; an item without a cluster is its own."""
    known: dict[str, int] = {}
    codes = np.empty(len(clusters), dtype=np.int64)
    fresh = len(clusters)
    for i, name in enumerate(clusters):
        if name is None:
            codes[i], fresh = fresh, fresh + 1
        else:
            codes[i] = known.setdefault(name, len(known))
    # Dense codes: arrays indexed by them stay as long as there are groups.
    dense: Ints = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    return dense
