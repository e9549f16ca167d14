"""Paired tests, Tango's interval, multiplicity, power, evidence under peeking: against references and by property."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench.metrics.paired import (
    Bets,
    benjamini_hochberg,
    detectable,
    difference_interval,
    e_value,
    expected_maximum,
    holm,
    items_needed,
    mcnemar,
    paired_interval,
    paired_test,
    sign_flip,
    tango,
)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (5, 5), (10, 4), (3, 17), (40, 80)])
def test_mcnemar_is_the_exact_binomial(b: int, c: int) -> None:
    from scipy.stats import binomtest

    assert mcnemar(b, c) == pytest.approx(1.0 if b + c == 0 else binomtest(b, b + c).pvalue)
    if b != c:
        k = min(b, c)
        mid = 2 * sum(math.comb(b + c, i) for i in range(k + 1)) - math.comb(b + c, k)
        assert mcnemar(b, c, mid=True) == pytest.approx(mid / 2 ** (b + c))


def test_sign_flips_agree_with_enumeration_and_mcnemar() -> None:
    for x in ([1.0] * 9 + [-1.0] * 3, [0.5, -1.0, 1.0, 0.5, 0.5], [1 / 3, 0.25, -0.5, 1.0], [2.0, 1.5, -0.5, 3.0]):
        sums = [
            abs(sum(s * v for s, v in zip(signs, x, strict=True)))
            for signs in itertools.product((1, -1), repeat=len(x))
        ]
        want = np.mean([s >= abs(sum(x)) - 1e-9 for s in sums])
        made = sign_flip(np.array(x), rng=rng())
        assert made.p == pytest.approx(want)
        assert made.method == "sign flip (exact)"
    d = np.array([1.0] * 9 + [-1.0] * 3 + [0.0] * 20)
    assert sign_flip(d, rng=rng()).p == pytest.approx(mcnemar(9, 3))
    made = sign_flip(np.array([0.1, 0.23, -0.31, 0.7]), rng=rng())
    assert made.method == "sign flip (enumerated)"
    many = np.random.default_rng(1).normal(0.3, 1, 60)
    made = sign_flip(many, rng=rng())
    assert "draws" in made.method
    assert made.p == pytest.approx(math.erfc(abs(many.sum()) / math.sqrt(2 * np.sum(many**2))), abs=0.02)
    assert sign_flip(np.zeros(5), rng=rng()).p == 1


def test_the_paired_test_flips_whole_clusters() -> None:
    d = np.array([1.0, 1.0, 1.0, -1.0])
    assert paired_test(d, np.array([0, 0, 0, 1]), rng=rng()).p == pytest.approx(1.0)
    assert paired_test(d, np.arange(4), rng=rng()).method == "McNemar (exact)"
    assert paired_test(d / 2, np.arange(4), rng=rng()).method == "sign flip (exact)"


def numeric_tango(b: int, c: int, n: int, z: float) -> tuple[float, float]:
    """Tango's interval with the constrained maximum found by search instead of the closed form."""
    from scipy.optimize import brentq, minimize_scalar

    def score(t: float) -> float:
        def minus(q: float) -> float:  # q: P(baseline only), P(candidate only) = q + t
            rest = 1 - 2 * q - t
            terms = ((b, q + t), (c, q), (n - b - c, rest))
            return -sum(k * math.log(max(p, 1e-300)) for k, p in terms if k)

        low, high = max(0.0, -t), (1 - t) / 2
        q = minimize_scalar(minus, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
        return (b - c - n * t) / math.sqrt(max(n * (2 * q + t * (1 - t)), 1e-300))

    d = (b - c) / n
    low = brentq(lambda t: score(t) - z, -1 + 1e-9, d - 1e-9)
    high = brentq(lambda t: score(t) + z, d + 1e-9, 1 - 1e-9)
    return low, high


@pytest.mark.parametrize(("b", "c", "n"), [(10, 4, 100), (1, 0, 50), (0, 6, 40), (30, 25, 60), (2, 9, 1000)])
def test_tango_solves_its_score_equation(b: int, c: int, n: int) -> None:
    assert tango(b, c, n) == pytest.approx(numeric_tango(b, c, n, 1.959963984540054), abs=1e-5)


def test_tango_without_discordance_has_width_and_mirrors() -> None:
    z = 1.959963984540054
    assert tango(0, 0, 100) == pytest.approx((-z * z / (100 + z * z), z * z / (100 + z * z)))
    low, high = tango(7, 3, 90)
    assert tango(3, 7, 90) == pytest.approx((-high, -low))
    assert tango(50, 0, 50)[1] == 1


def test_the_gates_one_sided_level_by_counting_all_outcomes() -> None:
    """Lower bound less half an item above -margin while the truth is -margin: at most alpha at any discordance."""
    n, alpha = 40, 0.05
    bounds = {
        (b, c): tango(b, c, n, confidence=1 - 2 * alpha)[0] - 0.5 / n for b in range(n + 1) for c in range(n + 1 - b)
    }
    logs = [math.lgamma(i + 1) for i in range(n + 1)]
    for margin in (0.02, 0.05, 0.1):
        for psi in np.linspace(margin + 1e-9, 0.6, 25):
            up, down = max((psi - margin) / 2, 1e-300), (psi + margin) / 2
            passed = sum(
                math.exp(
                    logs[n] - logs[b] - logs[c] - logs[n - b - c]
                    + b * math.log(up) + c * math.log(down) + (n - b - c) * math.log(1 - psi)
                )
                for (b, c), bound in bounds.items()
                if bound > -margin
            )  # fmt: skip
            assert passed <= alpha, (margin, psi)


def test_paired_intervals_widen_with_clusters_and_narrow_with_ties() -> None:
    d = np.array([1.0] * 8 + [-1.0] * 4 + [0.0] * 48)
    plain = paired_interval(d, np.arange(60))
    assert plain.method == "tango"
    assert (plain.low, plain.high) == pytest.approx(tango(8, 4, 60))
    cloned = paired_interval(np.repeat(d, 3), np.repeat(np.arange(60), 3))
    assert cloned.method == "cluster tango (CR1)"
    assert cloned.se == pytest.approx(plain.se)
    assert cloned.high - cloned.low == pytest.approx(plain.high - plain.low, rel=0.05)  # type: ignore[operator]
    halves = paired_interval(d / 2, np.arange(60))
    assert halves.high - halves.low < 0.6 * (plain.high - plain.low)  # type: ignore[operator]
    none = paired_interval(np.zeros(90), np.repeat(np.arange(30), 3))
    assert (none.low, none.high) == pytest.approx(tango(0, 0, 30))
    assert paired_interval(np.zeros(4), np.zeros(4, dtype=int)).reason == "one cluster"
    assert paired_interval(np.zeros(0), np.zeros(0, dtype=int)).reason == "no items in common"


def test_a_difference_of_metrics_is_never_a_point() -> None:
    made = difference_interval(0.0, np.zeros(50), np.arange(50), 20)
    z = 1.959963984540054
    assert made.high == pytest.approx(z * z / (20 + z * z))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12))
def test_adjusted_p_are_never_below_raw_and_keep_order(p: list[float | None]) -> None:
    for adjust in (holm, benjamini_hochberg):
        made = adjust(p)
        assert [m is None for m in made] == [x is None for x in p]
        pairs = sorted((x, m) for x, m in zip(p, made, strict=True) if x is not None and m is not None)
        assert all(x <= m <= 1 for x, m in pairs)
        assert all(a[1] <= b[1] + 1e-15 for a, b in itertools.pairwise(pairs))


def test_adjusted_p_match_statsmodels_and_ignore_what_is_undefined() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = [0.01, 0.04, 0.03, 0.2, 0.5]
    assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])
    assert benjamini_hochberg(p) == pytest.approx(multitest.multipletests(p, method="fdr_bh")[1])
    assert holm([0.01, None, 0.04]) == [0.02, None, pytest.approx(0.04)]
    assert holm([]) == []


def test_power_and_size() -> None:
    # Half-width 1.96 SE: (1.96 + 0.84) SE.
    assert detectable(1.959964) == pytest.approx(1.959964 + 0.841621, rel=1e-5)
    want = (1.644854 + 0.841621) ** 2 * 0.1 / 0.02**2
    assert items_needed(0.1, 0.0, margin=0.02) == math.ceil(want)
    with pytest.raises(ValueError, match="margin"):
        items_needed(0.1, -0.02, margin=0.02)
    with pytest.raises(ValueError, match="upper Wilson bound"):
        items_needed(0.0, 0.0, margin=0.02)
    assert expected_maximum(10) == pytest.approx(1.5388, abs=1e-4)
    assert expected_maximum(2) == pytest.approx(1 / math.sqrt(math.pi))


def test_e_values_are_their_integrals_and_martingales() -> None:
    from scipy.integrate import quad

    for b, c in ((0, 0), (3, 1), (2, 9)):

        def ratio(t: float, b: int = b, c: int = c) -> float:
            return t ** (b - 0.5) * (1 - t) ** (c - 0.5) / math.pi * 2 ** (b + c)

        assert e_value(b, c) == pytest.approx(quad(ratio, 0, 1)[0], rel=1e-6)
        # The mean over the next fair pair is the value now.
        assert (e_value(b + 1, c) + e_value(b, c + 1)) / 2 == pytest.approx(e_value(b, c))
    assert e_value(3000, 100) == math.inf
    assert e_value(2000, 2000) < 1


def test_bets_gain_on_average_nothing_under_the_null() -> None:
    margin, up, down = 0.02, 0.04, 0.06
    bets = Bets(1 + margin)
    for x in (-1, 0, 0, 1, -1):
        bets.add(x + margin)
    before = bets.evidence
    after = 0.0
    for x, chance in ((1, up), (-1, down), (0, 1 - up - down)):
        again = Bets(1 + margin)
        for past in (-1, 0, 0, 1, -1, x):
            again.add(past + margin)
        after += chance * again.evidence
    assert after == pytest.approx(before, rel=1e-9)
