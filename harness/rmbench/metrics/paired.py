"""Two runs on the same items: tests, Tango's interval, multiplicity, power, and evidence that may be peeked at.

``d`` is an item's credit in the candidate minus that in the baseline; ``b`` and ``c`` sum its positive and negative
parts; they count the discordant pairs of zeros and ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rmbench.metrics.intervals import (
    Floats,
    Interval,
    Ints,
    normal_quantile,
    standard_error,
    sums_by_group,
    t_quantile,
)


class PValue(NamedTuple):
    """Two-sided, and how it came about."""

    p: float
    method: str


def mcnemar(b: int, c: int, *, mid: bool = False) -> float:
    """Exact two-sided p of b against c discordant pairs, X ~ Bin(b + c, 1/2) (McNemar 1947); ``mid`` takes half the
    probability of what was observed (Fagerland et al. 2013). 1 without discordant pairs, where the chi-square form
    with continuity correction gives 0."""
    n, k = b + c, min(b, c)
    if n == 0:
        return 1.0
    point = tail = 1
    for i in range(k):
        point = point * (n - i) // (i + 1)
        tail += point
    doubled = 2 * tail - point if mid else 2 * tail
    return min(1.0, float(doubled / 2**n))


def sign_flip(x: Floats, *, rng: np.random.Generator, draws: int = 9999) -> PValue:
    """p of |sum x| if every x may as well have had the other sign. Exact by convolution where all are multiples of 1/12
    (credits of halves, thirds and quarters, summed in clusters), else by enumeration up to 20 non-zero, else
    Monte Carlo with (hits + 1)/(draws + 1) (Phipson & Smyth 2010)."""
    x = x[np.abs(x) > 1e-12]
    if len(x) == 0:
        return PValue(1.0, "no difference")
    observed = abs(float(x.sum()))
    units = np.rint(12 * np.abs(x)).astype(np.int64)
    if np.allclose(units, 12 * np.abs(x), atol=1e-9) and int(units.sum()) < 2_000_000:
        return PValue(_exact_flip(units, observed), "sign flip (exact)")
    if len(x) <= 20:
        sums = np.zeros(1)
        for value in x:
            sums = np.concatenate([sums + value, sums - value])
        return PValue(float(np.mean(np.abs(sums) >= observed - 1e-9)), "sign flip (enumerated)")
    hits = 0
    # Signs are symmetric, so sizes in order make p the same for permuted or mirrored items.
    x = np.sort(np.abs(x))
    for start in range(0, draws, 1000):
        signs = rng.integers(0, 2, size=(min(1000, draws - start), len(x)), dtype=np.int8)
        hits += int(np.sum(np.abs(2 * (signs @ x) - x.sum()) >= observed - 1e-9))
    return PValue((hits + 1) / (draws + 1), f"sign flip ({draws} draws)")


def _exact_flip(units: Ints, observed: float) -> float:
    step = int(np.gcd.reduce(units))
    sizes, counts = np.unique(units // step, return_counts=True)
    chance = np.ones(1)
    for size, count in zip(sizes, counts, strict=True):
        # The number of pluses among `count` equal ones is binomial; the sum moves by 2 * size each.
        flips = _half_binomial(int(count))
        spread = np.zeros(int(size) * int(count) + 1)
        spread[:: int(size)] = flips
        chance = np.convolve(chance, spread) if len(chance) * len(spread) < 4e6 else _long_convolution(chance, spread)
    reach = len(chance) - 1
    sums = np.abs(2 * np.arange(reach + 1) - reach)
    return min(1.0, float(chance[sums >= round(12 * observed / step)].sum()))


def _half_binomial(n: int) -> Floats:
    """P(X = 0..n) of Bin(n, 1/2)."""
    from scipy.special import gammaln

    i = np.arange(n + 1)
    made: Floats = np.exp(gammaln(n + 1) - gammaln(i + 1) - gammaln(n - i + 1) - n * math.log(2))
    return made


def _long_convolution(a: Floats, b: Floats) -> Floats:
    from scipy.signal import fftconvolve

    made: Floats = np.maximum(fftconvolve(a, b), 0.0)
    return made


def paired_test(d: Floats, groups: Ints, *, rng: np.random.Generator) -> PValue:
    """McNemar's exact test for zeros and ones on independent items; else sign flips, whole groups at a time."""
    if len(np.unique(groups)) == len(groups) and bool(np.all(np.isin(d, (-1.0, 0.0, 1.0)))):
        return PValue(mcnemar(int(np.sum(d > 0)), int(np.sum(d < 0))), "McNemar (exact)")
    _, inverse = np.unique(groups, return_inverse=True)
    return sign_flip(np.bincount(inverse, weights=d).astype(np.float64), rng=rng)


def tango(
    b: float, c: float, n: float, *, confidence: float = 0.95, quantile: float | None = None
) -> tuple[float, float]:
    """Score interval of (b - c)/n for paired proportions (Tango 1998, Stat Med 17): the differences t with
    |b - c - nt| <= z sqrt(n (2q + t(1 - t))), q the constrained estimate (sqrt(B^2 - 4AC) - B)/2A with A = 2n,
    B = -b - c + (2n - b + c) t, C = -c t (1 - t). Without discordant pairs it is +-z^2/(n + z^2), where Wald's is
    a point. b and c may be fractional; n must be positive."""
    z = normal_quantile(confidence) if quantile is None else quantile
    d = (b - c) / n

    def excess(t: float) -> float:
        # Tango's t is p(baseline only) subtracted from p(candidate only), so b and c change places in q.
        linear = -b - c + (2 * n - b + c) * t
        q = (math.sqrt(max(linear * linear + 8 * n * c * t * (1 - t), 0.0)) - linear) / (4 * n)
        variance = n * (2 * q + t * (1 - t))
        return (b - c - n * t) ** 2 - z * z * max(variance, 0.0)

    def bound(end: float) -> float:
        low, high = (end, d) if end < d else (d, end)
        if excess(end) <= 0 or low == high:
            return end
        from scipy.optimize import brentq

        inner = d + (1e-12 if end > d else -1e-12)
        if excess(inner) >= 0:
            return d
        return float(brentq(excess, *((end, inner) if end < d else (inner, end)), xtol=1e-10))

    return min(bound(-1.0), d), max(bound(1.0), d)


def paired_interval(d: Floats, groups: Ints, *, weights: Floats | None = None, confidence: float = 0.95) -> Interval:
    """Interval of the mean of d in [-1, 1], ``weights`` (n,) summing to 1 if unequal. Zeros and ones on independent
    items: Tango's. Else Tango's with the effective number of items (psi - D^2)/SE^2, SE clustered, and t(G - 1): it
    keeps its width when nothing differs, when ties make d smaller than one, and when prompts are shared."""
    n = len(d)
    if n == 0:
        return Interval(None, None, None, "", "no items in common")
    size = len(np.unique(groups))
    clustered = size < n
    if size < 2 and clustered:
        return Interval(None, None, None, "", "one cluster")
    share = np.full(n, 1 / n) if weights is None else weights
    value = float(np.sum(share * d))
    b, c = (float(np.sum(share * np.maximum(side, 0.0))) for side in (d, -d))
    se = standard_error(share * (d - value), groups)
    if not clustered and weights is None and bool(np.all(np.isin(d, (-1.0, 0.0, 1.0)))):
        return Interval(*tango(round(b * n), round(c * n), n, confidence=confidence), se, "tango")
    method = "cluster tango (CR1)" if clustered else "tango (effective n)"
    nominal = b + c - value**2
    if se is None or se < 1e-9 or nominal < 1e-12:
        # No spread to measure: as many items as there are groups of equal weight (Kish 1965).
        alone = 1 / float(np.sum(np.bincount(np.unique(groups, return_inverse=True)[1], weights=share) ** 2))
        return Interval(*tango(b * alone, c * alone, alone, confidence=confidence), se, method)
    effective = min(nominal / se**2, 4.0 * n)
    t = t_quantile(confidence, size - 1)
    return Interval(*tango(b * effective, c * effective, effective, quantile=t), se, method)


def difference_interval(
    value: float, influence: Floats, groups: Ints, least: int, *, confidence: float = 0.95
) -> Interval:
    """Interval of a difference of two metrics that are not means (AUC, ...) from their influences on the same items: t,
    but never narrower than no discordance on ``least`` items allows, z^2/(least + z^2)."""
    sums, size = sums_by_group(influence, groups)
    if size < 2:
        return Interval(None, None, None, "", "fewer than two groups")
    se = float(np.sqrt(np.sum(sums**2)))
    z = normal_quantile(confidence)
    half = max(t_quantile(confidence, size - 1) * se, z * z / (least + z * z))
    return Interval(value - half, value + half, se, "paired t")


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Adjusted p, family-wise (Holm 1979): max over j <= i of (m - j + 1) p_(j), at most 1. None passes through and
    does not count in m."""
    order = _sorted_places(p)
    made: list[float | None] = [None] * len(p)
    top = 0.0
    for rank, (value, place) in enumerate(order):
        top = max(top, min(1.0, (len(order) - rank) * value))
        made[place] = top
    return made


def benjamini_hochberg(p: Sequence[float | None]) -> list[float | None]:
    """Adjusted p, false discovery rate (Benjamini & Hochberg 1995): min over j >= i of m p_(j)/j."""
    order = _sorted_places(p)
    made: list[float | None] = [None] * len(p)
    bottom = 1.0
    for rank in range(len(order), 0, -1):
        value, place = order[rank - 1]
        bottom = min(bottom, max(value, len(order) * value / rank))
        made[place] = bottom
    return made


def _sorted_places(p: Sequence[float | None]) -> list[tuple[float, int]]:
    return sorted((value, place) for place, value in enumerate(p) if value is not None)


def detectable(half_width: float, *, confidence: float = 0.95, power: float = 0.8) -> float:
    """Smallest true difference that an interval of this half-width leaves out 0 (or a margin) for with ``power``:
    (z_conf + z_power) SE with SE = half_width/z_conf. From a score interval it is not 0 without discordance."""
    z = normal_quantile(confidence)
    return (z + normal_quantile(2 * power - 1)) * half_width / z


def items_needed(psi: float, difference: float, *, margin: float = 0.0, alpha: float = 0.05, power: float = 0.8) -> int:
    """Independent pairs so that a true ``difference`` is shown to be above ``-margin``: (z_(1-alpha) + z_power)^2
    (psi - D^2)/(D + margin)^2 (Lachin 1992), psi the share of discordant pairs; where none was seen, take the upper
    Wilson bound. Raises ValueError for psi = 0 and at the margin itself."""
    if difference + margin == 0:
        raise ValueError("no number of items separates a difference from the margin it lies on")
    if psi <= 0:
        raise ValueError("without discordant pairs take the upper Wilson bound of their share: psi = 0 says 0 items")
    z = normal_quantile(1 - 2 * alpha) + normal_quantile(2 * power - 1)
    return math.ceil(z * z * max(psi - difference**2, 0.0) / (difference + margin) ** 2)


def e_value(b: int, c: int) -> float:
    """Evidence against "each model wins half of the discordant pairs": B(b + 1/2, c + 1/2)/B(1/2, 1/2) 2^(b + c). May
    be looked at after every pair; reaches 1/alpha with probability at most alpha (Ville 1939; Krichevsky & Trofimov
    1981). 1 without pairs."""
    from scipy.special import betaln

    log = float(betaln(b + 0.5, c + 0.5) - betaln(0.5, 0.5)) + (b + c) * math.log(2)
    return math.exp(log) if log < 700 else math.inf


class Bets:
    """Evidence that a mean is below a bound, item by item, however often it is looked at.

    For x with E[x] >= 0 under the null and x <= ``most``, every product of 1 - lambda x with 0 <= lambda < 1/most is a
    supermartingale, and so is their mean over a grid of lambda (Waudby-Smith & Ramdas 2023, JRSS B 86). With
    x = d + margin it tests "candidate - baseline >= -margin".
    """

    def __init__(self, most: float, bets: int = 24) -> None:
        self._lambda = np.geomspace(0.03, 0.95, bets) / most
        self._log = np.zeros(bets)
        self.n = 0

    def add(self, x: float) -> float:
        """The evidence after one more observation."""
        self._log += np.log1p(-self._lambda * x)
        self.n += 1
        return self.evidence

    @property
    def evidence(self) -> float:
        """Reaches 1/alpha with probability at most alpha under the null."""
        top = float(self._log.max())
        return float(np.exp(top) * np.mean(np.exp(self._log - top))) if top < 700 else math.inf


def selection_bias(se: float, k: int) -> float:
    """By how much the best of k equal models is overstated on average: SE E[max of k normals] (1.539 SE for k = 10)."""
    return se * expected_maximum(k)


def expected_maximum(k: int) -> float:
    """E[max of k standard normals]; 0 for one."""
    if k < 2:
        return 0.0
    from scipy.special import ndtr

    x = np.linspace(-10, 10, 20001)
    density = k * ndtr(x) ** (k - 1) * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return float(np.sum(x * density) * (x[1] - x[0]))
