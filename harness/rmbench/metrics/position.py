"""What the order of showing does to a judge, from its ballots: consistency, slot preference, stability.

A verdict is a response's number, ``TIE``, or None where nothing valid was said; always in the item's own coordinates,
whatever was shown first. The same verdicts give many published numbers; each has a name here:

=============  ================================================================================================
average        mean credit over both orders
both           right in both orders (position-consistent accuracy; EvalPlanner, arXiv 2501.18099)
both-untied    the same without the items whose label is a tie, where ties are a class
net            +1 right, -1 wrong, 0 tie or invalid, summed over orders; right if positive (JudgeBench); labels that
               are a tie are left out
conflict-tie   the common verdict, or a tie where the orders disagree (MT-Bench S1)
decisive       conflict-tie on the items where neither label nor verdict is a tie (MT-Bench S2)
original       the first order alone
swapped        the second order alone
consistency    same verdict in both orders
=============  ================================================================================================

Ties of a verdict count by the suite's rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rmbench.core import Ballot, Facts, Judgment
from rmbench.metrics.credit import TIE, verdicts_by_order

Verdict = int | None


class Swap(NamedTuple):
    """Counts over pairs judged in both orders. Every rate is one of these over another."""

    n: int
    original: float
    """Credit in the order as given; a tie verdict on a pair with a better side earns half."""
    swapped: float
    both: int
    same: int
    """Same valid verdict in both orders."""
    net: int
    conflict_tie: float
    decisive: int
    """Neither the label nor the merged verdict is a tie."""
    decisive_right: int
    valid: int
    """Both orders gave a verdict."""
    decided: int
    """Both orders named a winner."""
    decided_same: int
    both_first: int
    """The first shown won twice."""
    both_second: int
    invalid_original: int
    invalid_swapped: int
    invalid_both: int

    @property
    def consistency(self) -> float | None:
        """Over all items; an order without a verdict is not consistent."""
        return self.same / self.n if self.n else None

    @property
    def consistency_valid(self) -> float | None:
        return self.same / self.valid if self.valid else None

    @property
    def preference_fairness(self) -> float | None:
        """(second slot won twice - first slot won twice) / valid pairs, in [-1, 1]; positive: the second slot is
        preferred (Position-Bias-Analyzer 9f8b7e8, whose r*r/(r+p) - p*p/(r+p) is r - p)."""
        return (self.both_second - self.both_first) / self.valid if self.valid else None

    @property
    def first_preference(self) -> float | None:
        """Among conflicts between winners, how often the first shown won both times; None without such conflicts."""
        total = self.both_first + self.both_second
        return self.both_first / total if total else None

    @property
    def first_preference_p(self) -> float:
        """Exact two-sided binomial p of that share against 1/2; 1 without conflicts."""
        return binomial_p(self.both_first, self.both_first + self.both_second)


def binomial_p(k: int, n: int, p: float = 0.5) -> float:
    """Exact two-sided test; 1 for n = 0, where scipy raises."""
    if n == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(k, n, p).pvalue)


def both_orders(judgment: Judgment | None) -> tuple[Verdict, Verdict] | None:
    """Verdicts of a pair in the orders (0, 1) and (1, 0); None where it was not asked in both."""
    if judgment is None:
        return None
    found = verdicts_by_order(judgment.ballots, 2)
    if (0, 1) not in found or (1, 0) not in found:
        return None
    return found[(0, 1)], found[(1, 0)]


def label(grades: Sequence[float]) -> int:
    """The better of two, or TIE."""
    return TIE if grades[0] == grades[1] else int(grades[1] > grades[0])


def swap(verdicts: Sequence[tuple[Verdict, Verdict]], labels: Sequence[int]) -> Swap:
    """Counts of pairs judged in both orders against labels (0, 1 or TIE)."""
    rows = [(a, b, gold, a if a == b else TIE) for (a, b), gold in zip(verdicts, labels, strict=True)]
    valid = [r for r in rows if r[0] is not None and r[1] is not None]
    decided = [r for r in valid if TIE not in r[:2]]
    decisive = [r for r in valid if r[2] != TIE and r[3] != TIE]
    return Swap(
        n=len(rows),
        original=sum(_earned(a, g) for a, _, g, _ in rows),
        swapped=sum(_earned(b, g) for _, b, g, _ in rows),
        both=sum(a == b == g for a, b, g, _ in rows),
        same=sum(a == b for a, b, _, _ in valid),
        net=sum(_net((a, b), g) > 0 for a, b, g, _ in rows if g != TIE),
        conflict_tie=sum(_earned(m, g) for _, _, g, m in valid),
        decisive=len(decisive),
        decisive_right=sum(m == g for _, _, g, m in decisive),
        valid=len(valid),
        decided=len(decided),
        decided_same=sum(a == b for a, b, _, _ in decided),
        both_first=sum(a == 0 and b == 1 for a, b, _, _ in decided),
        both_second=sum(a == 1 and b == 0 for a, b, _, _ in decided),
        invalid_original=sum(a is None for a, _, _, _ in rows),
        invalid_swapped=sum(b is None for _, b, _, _ in rows),
        invalid_both=sum(a is None and b is None for a, b, _, _ in rows),
    )


class Slots(NamedTuple):
    """Picks of an n-way judge by the slot in which the winner was shown."""

    picks: tuple[int, ...]
    chi_square: float
    p: float | None
    """None where there are too few picks for the test (fewer than five expected per slot)."""


def slots(ballots: Sequence[Ballot]) -> dict[int, Slots]:
    """Number of responses shown -> picks by slot with a chi-square test against equal shares. Fair only where every
    response was shown equally often in every slot (a Latin square)."""
    from scipy.special import gammaincc

    picks: dict[int, list[int]] = {}
    for ballot in ballots:
        k = len(ballot.shown)
        if k > 1 and ballot.picked is not None:
            picks.setdefault(k, [0] * k)[ballot.shown.index(ballot.picked)] += 1
    made = {}
    for k, counts in sorted(picks.items()):
        total = sum(counts)
        expected = total / k
        chi = sum((c - expected) ** 2 for c in counts) / expected
        p = float(gammaincc((k - 1) / 2, chi / 2)) if expected >= 5 else None
        made[k] = Slots(tuple(counts), chi, p)
    return made


def stability(judgments: Mapping[str, Judgment], facts: Sequence[Facts]) -> list[tuple[float, int]]:
    """(modal share, position of the item) of every item and order with two samples or more; what is not valid is a
    verdict of its own kind (Position-Bias-Analyzer's repetition stability)."""
    made = []
    for i, item in enumerate(facts):
        judgment = judgments.get(item.item_id)
        by_order: dict[tuple[int, ...], list[int | None]] = {}
        for ballot in judgment.ballots if judgment is not None else ():
            if len(ballot.shown) > 1:
                said = TIE if ballot.tie else ballot.picked
                by_order.setdefault(ballot.shown, []).append(said)
        for said_all in by_order.values():
            if len(said_all) > 1:
                made.append((max(said_all.count(v) for v in set(said_all)) / len(said_all), i))
    return made


def samples_by_order(ballots: Sequence[Ballot], k: int) -> dict[tuple[int, ...], list[Verdict]]:
    """Order shown -> every sample's verdict, None where not valid."""
    made: dict[tuple[int, ...], list[Verdict]] = {}
    for ballot in ballots:
        if len(ballot.shown) == k:
            made.setdefault(ballot.shown, []).append(TIE if ballot.tie else ballot.picked)
    return made


def _earned(v: Verdict, gold: int) -> float:
    return 1.0 if v == gold else 0.5 if v == TIE and gold != TIE else 0.0


def _net(verdicts: tuple[Verdict, Verdict], gold: int) -> int:
    return sum((1 if v == gold else -1) for v in verdicts if v is not None and v != TIE)
