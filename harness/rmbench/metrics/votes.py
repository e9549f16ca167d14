"""Votes of any k of N stored samples, exactly: no draw, no seed.

From R right, W wrong, T tie and I invalid samples of one item in one order, a vote of k is a draw without replacement
(multivariate hypergeometric). The vote is taken over what is valid; a shared first place is a tie and earns half; no
valid vote earns nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import comb
from typing import NamedTuple

import numpy as np

from rmbench.core import Facts, Judgment
from rmbench.metrics.credit import TIE
from rmbench.metrics.intervals import Floats
from rmbench.metrics.position import samples_by_order


@lru_cache(maxsize=65536)
def majority(right: int, wrong: int, tie: int, invalid: int, k: int, *, tie_credit: float = 0.5) -> float:
    """Expected credit of a majority of k samples drawn without replacement. Raises ValueError for k > N or k < 1."""
    total = right + wrong + tie + invalid
    if not 1 <= k <= total:
        raise ValueError(f"a vote of {k} needs 1 <= k <= {total} samples")
    credit = 0
    halves = 0
    for t in range(min(tie, k) + 1):
        for x in range(min(right, k - t) + 1):
            ways_x = comb(tie, t) * comb(right, x)
            for y in range(max(0, k - t - x - invalid), min(wrong, k - t - x) + 1):
                if t + x + y == 0:
                    continue
                ways = ways_x * comb(wrong, y) * comb(invalid, k - t - x - y)
                if x > y and x > t:
                    credit += ways
                elif not (y > x and y > t):
                    halves += ways
    return (credit + tie_credit * halves) / comb(total, k)


@lru_cache(maxsize=65536)
def plurality_share(right: int, others: tuple[int, ...], invalid: int, k: int) -> float:
    """Expected credit of a plurality of k among several classes; a first place shared by m classes earns 1/m.

    For each number x of right votes, the ways in which no other class has more, by the number of classes that have as
    many (a sum over classes, exact in integers).
    """
    total = right + sum(others) + invalid
    if not 1 <= k <= total:
        raise ValueError(f"a vote of {k} needs 1 <= k <= {total} samples")
    share = 0.0
    for x in range(1, min(right, k) + 1):
        ways: dict[tuple[int, int], int] = {(0, 0): comb(right, x)}
        for size in others:
            step: dict[tuple[int, int], int] = {}
            for (used, level), count in ways.items():
                for y in range(min(size, x, k - x - used) + 1):
                    key = (used + y, level + (y == x))
                    step[key] = step.get(key, 0) + count * comb(size, y)
            ways = step
        for (used, level), count in ways.items():
            share += count * comb(invalid, k - x - used) / (level + 1)
    return share / comb(total, k)


class Samples(NamedTuple):
    """One item's samples in one order."""

    right: int
    wrong: int
    tie: int
    invalid: int

    @property
    def n(self) -> int:
        return self.right + self.wrong + self.tie + self.invalid


def samples_of(facts: Facts, judgment: Judgment) -> list[Samples]:
    """Per order shown, how many samples were right, wrong, tied, invalid; pairs with a better side only."""
    best = int(facts.grades[1] > facts.grades[0])
    made = []
    for _, said in sorted(samples_by_order(judgment.ballots, 2).items()):
        right = sum(v == best for v in said)
        tie, invalid = said.count(TIE), said.count(None)
        made.append(Samples(right, len(said) - right - tie - invalid, tie, invalid))
    return made


class Curve(NamedTuple):
    """Credit by size of the vote."""

    k: tuple[int, ...]
    items: tuple[int, ...]
    """Positions of the items it is made of."""
    average: Floats
    """(items, k): mean over the orders."""
    both: Floats | None
    """(items, k): right in every order, their samples drawn independently; None where an item was shown in one order
    only."""


def sizes(n: int) -> tuple[int, ...]:
    """All k up to 8, then powers of two, then N."""
    return tuple(sorted({*range(1, min(n, 8) + 1), *(2**p for p in range(3, 12) if 2**p <= n), n}))


def curve(facts: Sequence[Facts], judgments: Mapping[str, Judgment]) -> Curve | None:
    """Vote accuracy over k, on the pairs with a better side that have as many samples as the most have; None where no
    item has two."""
    found = []
    for i, item in enumerate(facts):
        judgment = judgments.get(item.item_id)
        if judgment is not None and len(item.grades) == 2 and item.grades[0] != item.grades[1]:
            orders = samples_of(item, judgment)
            if orders:
                found.append((i, orders))
    n = max((min(s.n for s in orders) for _, orders in found), default=0)
    if n < 2:
        return None
    kept = [(i, orders) for i, orders in found if min(s.n for s in orders) >= n]
    ks = sizes(n)
    average, both = np.empty((len(kept), len(ks))), np.empty((len(kept), len(ks)))
    swapped = all(len(orders) > 1 for _, orders in kept)
    for row, (_, orders) in enumerate(kept):
        for column, k in enumerate(ks):
            average[row, column] = sum(majority(*s, k) for s in orders) / len(orders)
            both[row, column] = np.prod([majority(*s, k, tie_credit=0.0) for s in orders])
    return Curve(ks, tuple(i for i, _ in kept), average, both if swapped else None)
