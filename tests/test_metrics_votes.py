"""Votes of k of N samples against enumeration of every subset."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench.core import Ballot, Facts, Judgment
from rmbench.metrics import estimates
from rmbench.metrics.credit import TIE, plurality
from rmbench.metrics.votes import curve, majority, plurality_share, sizes
from test_metrics_summary import card, facts


def by_enumeration(samples: list[int | None], k: int) -> float:
    """Mean credit of every subset; 0 right, 1 wrong, TIE, None not valid."""
    total, count = 0.0, 0
    for chosen in combinations(samples, k):
        verdict = plurality([v for v in chosen if v is not None])
        total += 1.0 if verdict == 0 else 0.5 if verdict == TIE else 0.0
        count += 1
    return total / count


@settings(max_examples=150, deadline=None)
@given(st.tuples(*[st.integers(0, 4)] * 4).filter(lambda c: sum(c) > 0), st.data())
def test_majority_is_exact(counts: tuple[int, int, int, int], data: st.DataObject) -> None:
    right, wrong, tie, invalid = counts
    k = data.draw(st.integers(1, min(sum(counts), 9)))
    samples: list[int | None] = [0] * right + [1] * wrong + [TIE] * tie + [None] * invalid
    assert majority(*counts, k) == pytest.approx(by_enumeration(samples, k))


@given(st.lists(st.sampled_from([0, 1, TIE, None]), min_size=1, max_size=6))
def test_a_vote_of_one_is_the_mean_of_the_samples(samples: list[int | None]) -> None:
    counts = [samples.count(v) for v in (0, 1, TIE, None)]
    earned = {0: 1.0, 1: 0.0, TIE: 0.5, None: 0.0}
    assert majority(*counts, 1) == pytest.approx(np.mean([earned[v] for v in samples]))
    if len(samples) == 1:
        assert majority(*counts, 1) == earned[samples[0]]


def test_one_sample_is_the_sample_and_all_are_the_vote() -> None:
    assert majority(1, 0, 0, 0, 1) == 1
    assert majority(0, 1, 0, 0, 1) == 0
    assert majority(0, 0, 0, 1, 1) == 0
    assert majority(7, 3, 0, 0, 1) == pytest.approx(0.7)
    assert majority(7, 3, 0, 0, 10) == 1
    assert majority(5, 5, 0, 0, 10) == 0.5
    with pytest.raises(ValueError, match="vote of 3"):
        majority(1, 1, 0, 0, 3)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 4), st.lists(st.integers(0, 3), min_size=1, max_size=3), st.integers(0, 2), st.data())
def test_plurality_splits_a_shared_first_place(right: int, others: list[int], lost: int, data: st.DataObject) -> None:
    samples = [0] * right + [c + 1 for c, n in enumerate(others) for _ in range(n)] + [-9] * lost
    if not samples:
        return
    k = data.draw(st.integers(1, len(samples)))
    total, count = 0.0, 0
    for chosen in combinations(samples, k):
        tally = {v: chosen.count(v) for v in chosen if v != -9}
        top = [v for v in tally if tally[v] == max(tally.values())] if tally else []
        total += (0 in top) / len(top) if top else 0.0
        count += 1
    assert plurality_share(right, tuple(others), lost, k) == pytest.approx(total / count)


def test_two_classes_agree_between_both_forms() -> None:
    for k in range(1, 10):
        assert majority(6, 3, 0, 1, k) == pytest.approx(plurality_share(6, (3,), 1, k))


def sampled(item: Facts, first: list[int], second: list[int]) -> Judgment:
    ballots = [
        Ballot(shown=shown, picked=p, sample=i)
        for shown, picks in (((0, 1), first), ((1, 0), second))
        for i, p in enumerate(picks)
    ]
    return Judgment(item_id=item.item_id, scores=(0.5, 0.5), ballots=tuple(ballots))


def test_the_curve_votes_orders_separately() -> None:
    items = [facts(0), facts(1, (0, 1))]
    judgments = {
        items[0].item_id: sampled(items[0], [0, 0, 1], [0, 0, 0]),
        items[1].item_id: sampled(items[1], [1, 1, 1], [0, 0, 0]),
    }
    made = curve(items, judgments)
    assert made is not None
    assert made.k == (1, 2, 3)
    assert made.average[:, 0] == pytest.approx([(2 / 3 + 1) / 2, 0.5])
    assert made.average[:, 2] == pytest.approx([1, 0.5])
    assert made.both is not None
    assert made.both[:, 2] == pytest.approx([1, 0])
    found = {e.name: e.value for e in estimates(card(), items, judgments) if e.scope == "micro"}
    assert found["vote@3"] == pytest.approx(0.75)
    assert found["vote-both@3"] == pytest.approx(0.5)
    # All samples voting is the credit that the suite's own number uses.
    assert found["vote@3"] == pytest.approx(found["average"])


def test_an_order_that_was_not_asked_is_not_in_both_orders() -> None:
    """A jury of pointwise models has one order: its votes are not wrong in the other."""
    item = facts(0)
    ballots = tuple(Ballot(shown=(0, 1), picked=p, judge=f"j{i}") for i, p in enumerate((0, 1, 0)))
    judgments = {item.item_id: Judgment(item_id=item.item_id, scores=(0.5, 0.5), ballots=ballots)}
    made = curve([item], judgments)
    assert made is not None
    assert made.both is None
    names = {e.name for e in estimates(card(), [item], judgments)}
    assert "vote@3" in names
    assert not any(name.startswith("vote-both") for name in names)


def test_no_second_sample_no_curve() -> None:
    item = facts(0)
    assert curve([item], {item.item_id: sampled(item, [0], [0])}) is None
    assert curve([item], {}) is None
    assert sizes(32) == (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)
    assert sizes(5) == (1, 2, 3, 4, 5)
