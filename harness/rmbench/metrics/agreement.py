"""Agreement between annotators: raw, chance-corrected, against a ceiling, and what label noise takes away.

Labels are hashable values; None is a missing label. Every coefficient is None where it is undefined (no common items,
one class only).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from rmbench.metrics.intervals import Floats, Ints, Measure

Label = Hashable | None
Level = Literal["nominal", "ordinal", "interval"]


def common(a: Sequence[Label], b: Sequence[Label]) -> list[tuple[Hashable, Hashable]]:
    """The pairs of labels where neither is missing."""
    return [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]


def raw(a: Sequence[Label], b: Sequence[Label]) -> float | None:
    """Share of equal labels."""
    pairs = common(a, b)
    return sum(x == y for x, y in pairs) / len(pairs) if pairs else None


def _in_order(labels: set[Hashable]) -> list[Hashable]:
    """Numbers by size, whatever their type, then the rest by type and name."""
    return sorted(labels, key=lambda v: (0, "", v) if isinstance(v, int | float) else (1, str(type(v)), v))


def cohen_kappa(
    a: Sequence[Label], b: Sequence[Label], *, weights: Literal["linear", "quadratic"] | None = None
) -> float | None:
    """(p_o - p_e) / (1 - p_e) with each annotator's own margins (Cohen 1960); weighted by |i - j| or its square for
    ordered numbers (Cohen 1968). None when both use one class only."""
    pairs = common(a, b)
    classes = _in_order({v for pair in pairs for v in pair})
    if len(classes) < 2:
        return None
    place = {c: i for i, c in enumerate(classes)}
    table = np.zeros((len(classes), len(classes)))
    for x, y in pairs:
        table[place[x], place[y]] += 1
    table /= len(pairs)
    i, j = np.indices(table.shape)
    if weights is None:
        cost = (i != j).astype(float)
    else:
        cost = np.abs(i - j).astype(float) ** (1 if weights == "linear" else 2)
    expected = float(np.sum(cost * np.outer(table.sum(1), table.sum(0))))
    return 1 - float(np.sum(cost * table)) / expected if expected > 0 else None


def counts_table(ratings: Sequence[Sequence[Label]]) -> tuple[Floats, list[Hashable]]:
    """(items, classes) of how many annotators gave each class; ``ratings`` holds one row per annotator."""
    classes = _in_order({v for row in ratings for v in row if v is not None})
    table = np.zeros((len(ratings[0]) if ratings else 0, len(classes)))
    place = {c: i for i, c in enumerate(classes)}
    for row in ratings:
        for i, v in enumerate(row):
            if v is not None:
                table[i, place[v]] += 1
    return table, classes


def fleiss_kappa(ratings: Sequence[Sequence[Label]]) -> float | None:
    """Fleiss 1971, on the items that all annotators labelled."""
    table, classes = counts_table(ratings)
    table = table[table.sum(1) == len(ratings)]
    n = len(ratings)
    if len(table) == 0 or n < 2 or len(classes) < 2:
        return None
    agree = float(np.mean((np.sum(table**2, axis=1) - n) / (n * (n - 1))))
    share = table.sum(0) / table.sum()
    expected = float(np.sum(share**2))
    return (agree - expected) / (1 - expected) if expected < 1 else None


def gwet_ac1(ratings: Sequence[Sequence[Label]]) -> float | None:
    """(p_a - p_e)/(1 - p_e) with p_e = sum pi_q (1 - pi_q) / (Q - 1), which does not collapse where one class prevails
    (Gwet 2008, Br J Math Stat Psychol 61; several annotators, missing labels allowed)."""
    table, classes = counts_table(ratings)
    per_item = table.sum(1)
    twice = table[per_item >= 2]
    if len(twice) == 0 or len(classes) < 2:
        return None
    r = twice.sum(1)
    agree = float(np.mean(np.sum(twice * (twice - 1), axis=1) / (r * (r - 1))))
    rated = table[per_item > 0]
    share = np.mean(rated / rated.sum(1, keepdims=True), axis=0)
    expected = float(np.sum(share * (1 - share))) / (len(classes) - 1)
    return (agree - expected) / (1 - expected)


def krippendorff_alpha(ratings: Sequence[Sequence[Label]], *, level: Level = "nominal") -> float | None:
    """1 - observed/expected disagreement over pairable values, missing allowed (Krippendorff 2011, "Computing
    Krippendorff's Alpha-Reliability"). Ordinal and interval need numbers."""
    table, classes = counts_table(ratings)
    table = table[table.sum(1) >= 2]
    if len(table) == 0 or len(classes) < 2:
        return None
    weight = 1 / (table.sum(1) - 1)
    coincidence = np.einsum("i,ij,ik->jk", weight, table, table) - np.diag(np.sum(table * weight[:, None], axis=0))
    margin = coincidence.sum(0)
    total = margin.sum()
    if level == "nominal":
        distance = 1 - np.eye(len(classes))
    elif level == "interval":
        values = np.array(classes, dtype=float)
        distance = (values[:, None] - values[None, :]) ** 2
    else:
        ranks = np.cumsum(margin) - margin / 2
        distance = (ranks[:, None] - ranks[None, :]) ** 2
    expected = float(np.sum(np.outer(margin, margin) * distance)) / (float(total) - 1)
    return 1 - float(np.sum(coincidence * distance)) / expected if expected > 0 else None


def majority_baseline(labels: Sequence[Label]) -> float | None:
    """What always giving the most frequent label would agree: the number a kappa hides and a table must show."""
    present = [v for v in labels if v is not None]
    return Counter(present).most_common(1)[0][1] / len(present) if present else None


class Votes(NamedTuple):
    """Agreement over pairs of votes on the same thing."""

    agree: int
    n: int

    @property
    def value(self) -> float | None:
        return self.agree / self.n if self.n else None


def vote_agreement(
    left: Mapping[Hashable, Sequence[Hashable]],
    right: Mapping[Hashable, Sequence[Hashable]] | None = None,
    *,
    tie: Hashable,
    ties: bool,
) -> Votes:
    """MT-Bench's agreement (Zheng et al. 2023, Table 5): of every vote of ``left`` with every vote of ``right`` on the
    same key, or of all unordered pairs of votes within ``left`` where ``right`` is None. ``ties`` True: all (setup
    S1); False: pairs in which neither is a tie (S2)."""
    agree = n = 0
    for key, votes in left.items():
        if right is None:
            pairs = list(combinations(votes, 2))
        else:
            pairs = [(x, y) for x in votes for y in right.get(key, ())]
        for x, y in pairs:
            if ties or (x != tie and y != tie):
                n += 1
                agree += x == y
    return Votes(agree, n)


def annotator_table(
    annotators: Mapping[str, Sequence[Label]],
    statistic: Callable[[Sequence[Label], Sequence[Label]], float | None] = raw,
) -> dict[str, dict[str, float | None]]:
    """Every annotator against every other; a model is one more annotator."""
    return {a: {b: None if a == b else statistic(annotators[a], annotators[b]) for b in annotators} for a in annotators}


def leave_one_out(annotators: Sequence[Sequence[Label]], candidate: Sequence[Label] | None = None) -> float | None:
    """Mean agreement of each annotator with the mode of the others (AlpacaEval's human row); with ``candidate``, the
    candidate's against the same leave-one-out modes, so both meet equally noisy references. Items whose mode is shared
    are left out."""
    agree = n = 0
    for i, votes in enumerate(zip(*annotators, strict=True)):
        counts = Counter(v for v in votes if v is not None)
        for own in votes:
            said = own if candidate is None else candidate[i]
            if own is None or said is None:
                continue
            others = (counts - Counter([own])).most_common(2)
            if others and (len(others) == 1 or others[0][1] > others[1][1]):
                n += 1
                agree += said == others[0][0]
    return agree / n if n else None


def coefficient(
    name: str,
    statistic: Callable[[Sequence[Label], Sequence[Label]], float | None],
    a: Sequence[Label],
    b: Sequence[Label],
    index: Ints,
) -> Measure:
    """A coefficient of two annotators of the items ``index``, with influences by leaving out one item at a time."""
    kept = np.array([x is not None and y is not None for x, y in zip(a, b, strict=True)], dtype=bool)
    pairs, where = common(a, b), index[kept]
    value = statistic([x for x, _ in pairs], [y for _, y in pairs])
    if value is None:
        reason = "one class only" if pairs else "no items with both labels"
        return Measure(name, None, np.zeros(len(pairs)), where, "real", reason)
    without = {}
    for pair in set(pairs):  # items with the same labels leave the same rest
        rest = list(pairs)
        rest.remove(pair)
        without[pair] = statistic([x for x, _ in rest], [y for _, y in rest])
    left = [without[pair] for pair in pairs]
    if any(v is None for v in left):
        return Measure(name, value, np.zeros(len(pairs)), where, "real")
    replicates = np.array(left, dtype=float)
    return Measure(name, value, (replicates.mean() - replicates) * (len(pairs) - 1) / len(pairs), where, "real")


class Noise(NamedTuple):
    """What repeated labels say about a two-way label's error."""

    error: float
    """e, each label wrong with this probability, independently."""
    ceiling: float
    """1 - e: what a perfect model would score."""

    def corrected(self, accuracy: float) -> float:
        """(accuracy - e) / (1 - 2 e): accuracy against the truth if the model's errors are independent of the
        labels' (Rogan & Gladen 1978); clipped to [0, 1]."""
        return min(1.0, max(0.0, (accuracy - self.error) / (1 - 2 * self.error)))


def label_noise(agreement: float | None) -> Noise | None:
    """From P(two labels of one item agree) = 1 - 2e(1 - e), so e = (1 - sqrt(2a - 1)) / 2; None for agreement at or
    below one half, where labels say nothing."""
    if agreement is None or agreement <= 0.5:
        return None
    error = (1 - math.sqrt(2 * agreement - 1)) / 2
    return Noise(error, 1 - error)
