"""Rank correlations and best-of-n curves against enumeration and scipy."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench.core import Judgment, Rules
from rmbench.metrics import estimates, main
from rmbench.metrics.ranking import best_of_n, kendall, pass_at_k, spearman
from test_metrics_summary import by_id, card, facts, judged


def test_correlations_match_scipy_and_are_none_for_constants() -> None:
    from scipy.stats import kendalltau, spearmanr

    rng = np.random.default_rng(2)
    for _ in range(20):
        s, g = rng.integers(0, 4, 6).astype(float), rng.integers(0, 4, 6).astype(float)
        if np.ptp(s) == 0 or np.ptp(g) == 0:
            continue
        assert kendall(s, g) == pytest.approx(kendalltau(s, g).statistic)
        assert spearman(s, g) == pytest.approx(spearmanr(s, g).statistic)
    assert kendall(np.ones(3), np.arange(3.0)) is None
    assert spearman(np.arange(3.0), np.ones(3)) is None
    assert kendall(np.ones(1), np.ones(1)) is None


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-2, 2)), min_size=1, max_size=7))
def test_best_of_n_is_the_mean_over_all_subsets(responses: list[tuple[int, float]]) -> None:
    s = np.array([float(x) for x, _ in responses])
    g = np.array([y for _, y in responses])
    curve = best_of_n([s], [g])
    for column, n in enumerate(curve.n):
        gold, oracle = [], []
        for chosen in combinations(range(len(s)), n):
            top = [i for i in chosen if s[i] == max(s[list(chosen)])]
            gold.append(np.mean(g[top]))
            oracle.append(max(g[list(chosen)]))
        # A tie within the draw is split evenly; over all draws that is the mean of the tied block.
        assert curve.gold[0, column] == pytest.approx(np.mean(gold), abs=1e-9)
        assert curve.oracle[0, column] == pytest.approx(np.mean(oracle), abs=1e-9)
        assert curve.kl_bound[column] == pytest.approx(math.log(n) - (n - 1) / n)
    assert curve.gold[0, 0] == pytest.approx(g.mean())
    assert curve.gold[0, -1] == pytest.approx(g[s == s.max()].mean())
    assert curve.proxy[0, -1] == pytest.approx(s.max())


def test_n_beyond_the_responses_is_refused() -> None:
    for n in (0, 3):
        with pytest.raises(ValueError, match=f"best of {n}"):
            best_of_n([np.zeros(2)], [np.zeros(2)], [n])
    with pytest.raises(ValueError, match="pass@3"):
        pass_at_k(1, 2, 3)


def test_pass_at_k() -> None:
    assert pass_at_k(2, 5, 1) == pytest.approx(0.4)
    assert pass_at_k(2, 5, 5) == 1
    assert pass_at_k(0, 5, 5) == 0
    assert pass_at_k(2, 5, 2) == pytest.approx(1 - 3 / 10)


def test_rankings_get_their_further_numbers() -> None:
    items = [facts(i, (1, 0, 0, 0)) for i in range(6)]
    judgments = by_id([judged(f, 3, 1, 2, 0) for f in items[:4]] + [judged(items[4], 0, 1, 2, 3)])
    judgments[items[5].item_id] = Judgment(item_id=items[5].item_id, error="nan")
    found = {e.name: e for e in estimates(card(), items, judgments) if e.scope == "micro"}
    assert found["best-of-4"].value == pytest.approx(0.8)
    assert found["best-of-1"].value == pytest.approx(0.25)
    assert found["regret@4"].value == pytest.approx(0.2)
    assert found["pass@4"].value == 1
    assert found["best-of-4"].missing == 1
    assert found["best-of-4"].extra["kl upper bound"] == pytest.approx(math.log(4) - 0.75)
    assert found["kendall"].n == 6


def test_kendall_as_the_suites_own_number() -> None:
    items = [facts(0, (3, 2, 1)), facts(1, (3, 2, 1)), facts(2, (1, 1, 1))]
    judgments = by_id([judged(items[0], 3, 2, 1), judged(items[1], 1, 1, 1), judged(items[2], 1, 2, 3)])
    suite = card(rules=Rules(name="r", metrics={"*": "kendall"}))
    made = main(estimates(suite, items, judgments, further=False))["subset:a"]
    # Equal scores say nothing of the order: 0; equal grades ask nothing: left out.
    assert (made.name, made.value, made.n) == ("kendall", 0.5, 2)
    assert made.extra["skipped"] == 1
