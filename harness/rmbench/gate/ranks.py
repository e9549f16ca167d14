"""Several models on the same items: ranks that admit noise, and by how much the best of them is overstated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from rmbench.core import Facts, Suite
from rmbench.metrics.intervals import Floats, Ints, combine, group_codes
from rmbench.metrics.paired import selection_bias
from rmbench.metrics.summary import count, pool, scopes
from rmbench.store import Stored


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """One model among several: the ranks that the data do not rule out."""

    model: str
    value: float
    best: int
    worst: int


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """Models by value on the items all of them judged."""

    scope: str
    n: int
    models: tuple[Ranked, ...]
    """Best value first; ranks by pairwise differences, all at once at the stated confidence."""
    overstated: float
    """By how much the best value is expected to be too high if all models were equal."""
    confidence: float


def rank(
    runs: Sequence[Stored],
    names: Sequence[str],
    facts: Sequence[Facts],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Ranking | None:
    """Ranks from all pairwise differences at once, on the items ``facts`` that all judged: model i is above j where
    their difference exceeds the quantile of the largest standardised difference over pairs in a bootstrap (Mogstad,
    Romano, Shaikh & Wilhelm 2024, Rev Econ Stud 91). Groups of items are resampled (Poisson weights) through the
    metrics' influences, so that clusters and strata hold. None where no number of the suite is defined."""
    groups = group_codes([f.cluster for f in facts])
    found = _values(runs[0].run.suite, facts, runs, groups)
    if found is None:
        return None
    scope, values, influence, n, least = found
    spread = influence @ _group_matrix(groups) if len(np.unique(groups)) < len(groups) else influence
    k = len(runs)
    first, second = np.triu_indices(k, 1)
    pairwise = spread[first] - spread[second]
    se = np.sqrt(np.sum(pairwise**2, axis=1))
    safe = np.where(se > 0, se, np.inf)
    rng = np.random.default_rng(seed)
    largest = np.empty(resamples)
    small = spread.T.astype(np.float32)
    for start in range(0, resamples, 250):
        size = min(250, resamples - start)
        weights = _poisson(rng, (size, spread.shape[1]))
        drawn = weights @ small
        largest[start : start + size] = np.max(np.abs(drawn[:, first] - drawn[:, second]) / safe, axis=1)
    limit = float(np.quantile(largest, confidence))
    apart = (np.abs(values[first] - values[second]) > limit * se) & (se > 0)
    # Where every group of items differs alike there is no spread to go by: a sign test in the smallest stratum.
    if 2.0 ** (1 - least) * len(se) < 1 - confidence:
        apart |= (se < 1e-12) & (np.abs(values[first] - values[second]) > 1e-12)
    above = np.zeros((k, k), dtype=bool)
    upper = values[first] > values[second]
    above[first, second], above[second, first] = apart & upper, apart & ~upper
    order = np.argsort(-values, kind="stable")
    models = tuple(
        Ranked(
            model=names[i],
            value=float(values[i]),
            best=1 + int(above[:, i].sum()),
            worst=k - int(above[i].sum()),
        )
        for i in order
    )
    noise = float(np.median(se)) / math.sqrt(2) if len(se) else 0.0
    overstated = selection_bias(noise, k)
    return Ranking(scope=scope, n=n, models=models, overstated=overstated, confidence=confidence)


def _values(
    card: Suite, facts: Sequence[Facts], runs: Sequence[Stored], groups: Ints
) -> tuple[str, Floats, Floats, int, int] | None:
    """The scope to rank by (overall, else micro, else the first category), its value in every run (runs,), its
    influence (runs, items), the number of items, and of groups in its smallest stratum. A stratum of one group has no
    error and would decide ranks as if it were certain: its scope is passed over. None where nothing is left."""
    counted = [count(card, facts, r.judgments)[0] for r in runs]
    n = {name: part.measure.n for name, part in counted[0].items()}
    order = {"overall": 0, "micro": 1}
    for scope in sorted(scopes(card, n), key=lambda s: order.get(s.name, 2)):
        used = [[c[s] for s in scope.weights] for c in counted]
        if scope.reason or any(
            u.measure.value is None or (scope.pooled and not u.credits) for own in used for u in own
        ):
            continue
        measures = [[u.measure for u in own] for own in used]
        weights = list(scope.weights.values())
        if scope.pooled:
            measures, weights = [[pool(own)] for own in measures], [1.0]
        least = min(len(np.unique(groups[m.items])) for own in measures for m in own)
        if least < 2:
            continue
        whole = [combine(own, weights, groups) for own in measures]
        values, influence = np.array([w.value for w in whole]), np.stack([w.influence for w in whole])
        return scope.name, values, influence, sum(m.n for m in measures[0]), least
    return None


def _group_matrix(groups: Ints) -> Floats:
    made = np.zeros((len(groups), int(groups.max()) + 1))
    made[np.arange(len(groups)), groups] = 1.0
    return made


Singles = np.ndarray[tuple[int, int], np.dtype[np.float32]]


def _poisson(rng: np.random.Generator, shape: tuple[int, int]) -> Singles:
    """Centred Poisson(1) counts by table look-up of 16-bit uniforms: exact to 2^-16, and many times faster."""
    chances = np.array([math.exp(-1) / math.factorial(i) for i in range(9)])
    counts = np.diff(np.r_[0, np.rint(65536 * np.cumsum(chances) / chances.sum())]).astype(int)
    table = np.repeat(np.arange(9.0), counts)
    # Unit variance to the last digit, so that rounding adds no bias.
    table = ((table - table.mean()) / table.std()).astype(np.float32)
    drawn: Singles = table[rng.integers(0, 65536, size=shape, dtype=np.uint16)]
    return drawn
