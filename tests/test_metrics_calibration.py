"""Calibration of margins: references, edge cases, invariances."""

from __future__ import annotations

import numpy as np
import pytest

from rmbench.metrics import estimates
from rmbench.metrics.calibration import (
    brier,
    correct,
    cross_fitted,
    ece,
    ece_if_calibrated,
    nll,
    reliability,
    temperature,
)
from test_metrics_summary import by_id, card, facts, judged


def simulated(n: int, scale: float, seed: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    """Margins whose right sign has probability sigmoid(|m| / scale)."""
    rng = np.random.default_rng(seed)
    size = np.abs(rng.normal(0, 2 * scale, n))
    right = rng.random(n) < 1 / (1 + np.exp(-size / scale))
    return np.where(right, size, -size)


def test_brier_and_nll_by_hand() -> None:
    m = np.array([0.0, 2.0, -1.0, 800.0, -800.0])
    p = 1 / (1 + np.exp(-np.clip(m, -700, 700)))
    assert brier(m) == pytest.approx((1 - p) ** 2)
    assert nll(m) == pytest.approx([np.log(2), np.log1p(np.exp(-2)), np.log1p(np.e), 0, 800])
    assert correct(m).tolist() == [0.5, 1, 0, 1, 0]


def test_ece_asks_the_confidence_not_the_label() -> None:
    # Ten pairs at confidence .731, seven right: |.7 - .731|.
    m = np.array([1.0] * 7 + [-1.0] * 3)
    assert ece(m) == pytest.approx(abs(0.7 - 1 / (1 + np.exp(-1))))
    (only,) = reliability(m)
    assert (only.n, only.accuracy) == (10, 0.7)
    assert ece(np.array([])) is None
    assert ece(np.zeros(4)) == pytest.approx(0.0)


def test_temperature_is_the_maximum_and_scales_with_the_margins() -> None:
    m = simulated(4000, 3.0)
    t = temperature(m)
    assert t == pytest.approx(3.0, rel=0.1)
    assert temperature(10 * m) == pytest.approx(10 * t)  # type: ignore[operator]
    for near in (0.9 * t, 1.1 * t):  # type: ignore[operator]
        assert nll(m / near).mean() > nll(m / t).mean()


def test_no_finite_temperature_is_none() -> None:
    assert temperature(np.array([1.0, 2.0])) is None
    assert temperature(np.array([0.0, 0.0])) is None
    assert temperature(np.array([-2.0, 1.0])) is None
    assert temperature(np.array([])) is None
    # 2.2 and -2.2, the second as a difference of scores: their mean is above 0 by rounding alone
    assert temperature(np.array([2.2, -2.8 + 0.6])) is None
    assert cross_fitted(np.array([1.0, -0.5, 2.0, 1.0]), np.array([0, 0, 1, 1])) is None


def test_cross_fitting_scores_pairs_that_were_not_fitted_on() -> None:
    m = simulated(2000, 5.0)
    fold = np.arange(2000) % 2
    made = cross_fitted(m, fold)
    assert made is not None
    assert made.nll.mean() < nll(m).mean()
    assert made.ece < ece(m)  # type: ignore[operator]
    other = temperature(m[fold == 1])
    assert made.nll[fold == 0] == pytest.approx(nll(m[fold == 0] / other))  # type: ignore[operator]


def test_noise_alone_gives_an_ece() -> None:
    m = simulated(300, 1.0)
    floor = ece_if_calibrated(m, rng=np.random.default_rng(0))
    assert floor is not None
    assert 0.01 < floor < 0.1
    assert ece_if_calibrated(np.array([]), rng=np.random.default_rng(0)) is None


def test_estimates_carry_calibration_and_score_ties() -> None:
    m = simulated(200, 1.0).round(1)
    items = [facts(i) for i in range(200)]
    judgments = by_id([judged(f, float(x), 0.0) for f, x in zip(items, m, strict=True)])
    found = {e.name: e for e in estimates(card(), items, judgments) if e.scope == "micro"}
    assert found["brier"].value == pytest.approx(brier(m).mean())
    assert found["nll"].value == pytest.approx(nll(m).mean())
    assert found["ece"].value == pytest.approx(ece(m))
    assert found["temperature"].value == pytest.approx(temperature(m))
    assert found["score-ties"].value == pytest.approx(np.mean(m == 0))
    assert found["distinct-scores"].value == len({*m.tolist(), 0.0})
