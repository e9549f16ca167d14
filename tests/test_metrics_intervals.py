"""Intervals against scipy and statsmodels, and that each holds its value."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench.metrics.intervals import (
    Measure,
    clopper_pearson,
    combine,
    group_codes,
    interval,
    jackknife,
    mean_measure,
    standard_error,
    wilson,
)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (3, 10), (97, 100), (500, 1000)])
def test_wilson_and_clopper_pearson_are_scipys(k: int, n: int) -> None:
    from scipy.stats import binomtest

    for name, made in (("wilson", wilson(k, n)), ("exact", clopper_pearson(k, n))):
        reference = binomtest(k, n).proportion_ci(method=name)
        assert made == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_clopper_pearson_counts_ties_against_both_bounds() -> None:
    low, high = clopper_pearson(6, 10, ties=2)
    assert low == clopper_pearson(6, 10)[0]
    assert high == clopper_pearson(8, 10)[1]
    # The rule of three.
    assert clopper_pearson(0, 30, confidence=0.9)[1] == pytest.approx(1 - 0.05 ** (1 / 30))


def test_cr1_is_statsmodels() -> None:
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 12, 90)
    x = rng.normal(size=90) + rng.normal(size=12)[groups]
    want = sm.OLS(x, np.ones(90)).fit(cov_type="cluster", cov_kwds={"groups": groups}).bse[0]
    # statsmodels adds (n - 1)/(n - k), which is 1 for a constant alone.
    assert standard_error((x - x.mean()) / 90, groups) == pytest.approx(want)
    plain = standard_error((x - x.mean()) / 90, np.arange(90))
    assert plain == pytest.approx(x.std(ddof=1) / math.sqrt(90))
    assert standard_error(np.zeros(3), np.zeros(3, dtype=int)) is None


def test_t_interval_of_real_values_is_scipys() -> None:
    from scipy.stats import t

    x = np.random.default_rng(1).normal(3, 2, 25)
    made = interval(mean_measure("nll", x, np.arange(25), shape="real"), np.arange(25))
    assert (made.low, made.high) == pytest.approx(t.interval(0.95, 24, x.mean(), x.std(ddof=1) / 5))
    assert made.method == "t"


def test_undefined_says_why() -> None:
    empty = mean_measure("accuracy", np.zeros(0), np.zeros(0, dtype=int))
    assert interval(empty, np.zeros(0, dtype=int)).reason == "no items"
    one = mean_measure("nll", np.array([0.3]), np.array([0]), shape="real")
    assert interval(one, np.arange(1)).reason == "one item"
    same = mean_measure("nll", np.full(4, 0.3), np.arange(4), shape="real")
    assert interval(same, np.arange(4)).reason == "every item has the same value"
    ties = mean_measure("accuracy", np.full(4, 0.5), np.arange(4))
    assert "same credit" in str(interval(ties, np.arange(4)).reason)


def test_a_stratum_of_one_item_has_an_interval_but_no_standard_error() -> None:
    a = mean_measure("accuracy", np.array([1.0]), np.array([0]))
    b = mean_measure("accuracy", np.array([1.0, 0, 1]), np.array([1, 2, 3]))
    made = combine([a, b], [1, 1], np.arange(4))
    assert made.interval.se is None
    assert made.interval.low is not None
    assert made.interval.low < made.value < made.interval.high  # type: ignore[operator]


def test_a_stratum_without_interval_gives_its_reason() -> None:
    a = mean_measure("accuracy", np.full(3, 0.5), np.arange(3))
    b = mean_measure("accuracy", np.array([1.0, 0]), np.array([3, 4]))
    made = combine([a, b], [1, 1], np.arange(5)).interval
    assert made.low is None
    assert "same credit" in str(made.reason)


def test_jackknife_of_a_mean_is_its_influence() -> None:
    x = np.random.default_rng(2).random(12)
    influence, defined = jackknife(lambda keep: float(x[keep].mean()), np.arange(12))
    assert defined
    assert standard_error(influence, np.arange(12)) == pytest.approx(x.std(ddof=1) / math.sqrt(12))
    assert not jackknife(lambda _: None, np.arange(3))[1]


def test_cluster_codes() -> None:
    codes = group_codes(["a", None, "a", None, "b"])
    assert codes[0] == codes[2]
    assert len(set(codes.tolist())) == 4
    assert codes.max() == 3


values = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=30)


@settings(max_examples=150, deadline=None)
@given(values, st.integers(1, 6), st.sampled_from([0.8, 0.95, 0.99]))
def test_every_interval_holds_its_value(x: list[float], per_cluster: int, confidence: float) -> None:
    measure = mean_measure("accuracy", np.array(x), np.arange(len(x)))
    made = interval(measure, np.arange(len(x)) // per_cluster, confidence=confidence)
    if made.low is None:
        assert made.reason
    else:
        assert 0 <= made.low <= measure.value <= made.high <= 1  # type: ignore[operator]


@settings(max_examples=100, deadline=None)
@given(values, values, st.floats(0.05, 0.95))
def test_a_macro_interval_holds_its_value_and_one_stratum_is_itself(a: list[float], b: list[float], w: float) -> None:
    one = mean_measure("accuracy", np.array(a), np.arange(len(a)))
    two = mean_measure("accuracy", np.array(b), np.arange(len(a), len(a) + len(b)))
    groups = np.arange(len(a) + len(b))
    made = combine([one, two], [w, 1 - w], groups)
    assert made.value == pytest.approx(w * np.mean(a) + (1 - w) * np.mean(b))
    if made.interval.low is not None:
        assert made.interval.low <= made.value <= made.interval.high  # type: ignore[operator]
    alone, plain = combine([one], [3.0], groups).interval, interval(one, groups)
    assert (alone.low, alone.high) == (plain.low, plain.high) or (alone.low, alone.high) == pytest.approx(
        (plain.low, plain.high)
    )


@settings(max_examples=60, deadline=None)
@given(values, st.integers(1, 4), st.integers(2, 5))
def test_cloning_items_leaves_the_clustered_error(x: list[float], per_cluster: int, copies: int) -> None:
    groups = np.arange(len(x)) // per_cluster
    once = mean_measure("accuracy", np.array(x), np.arange(len(x)))
    cloned = mean_measure("accuracy", np.repeat(x, copies), np.arange(copies * len(x)))
    one, many = standard_error(once.influence, groups), standard_error(cloned.influence, np.repeat(groups, copies))
    assert (one is None and many is None) or one == pytest.approx(many)


def test_measures_of_unknown_value_are_not_combined_silently() -> None:
    undefined = Measure("auc", None, np.zeros(2), np.arange(2), reason="needs both labels")
    made = combine([undefined], [1], np.arange(2)).interval
    assert made.low is None
    assert "needs both labels" in str(made.reason)
