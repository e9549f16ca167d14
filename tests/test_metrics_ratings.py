"""Bradley-Terry ratings: closed forms, connectivity, intervals, separability."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rmbench.metrics.ratings import (
    agreement_with_confidence,
    bradley_terry,
    fit,
    separability,
    unconnected,
    wins_matrix,
)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def games(strength: list[float], n: int, seed: int = 3) -> tuple[np.ndarray, ...]:  # type: ignore[type-arg]
    r = np.random.default_rng(seed)
    left = r.integers(0, len(strength), n)
    right = (left + r.integers(1, len(strength), n)) % len(strength)
    t = np.array(strength)
    chance = 1 / (1 + np.exp(-(t[left] - t[right])))
    return left, right, (r.random(n) < chance).astype(float), r.integers(0, n // 5, n)


def test_two_models_are_the_log_of_the_odds() -> None:
    wins = np.array([[0.0, 30.0], [10.0, 0.0]])
    strength = fit(wins)
    assert strength[0] - strength[1] == pytest.approx(math.log(3))
    assert strength.sum() == pytest.approx(0)


def test_the_fit_maximises_the_likelihood() -> None:
    left, right, credit, _ = games([0.0, 0.5, 1.0, -0.7], 800)
    wins = wins_matrix(left, right, credit, 4)
    best = fit(wins)

    def likelihood(t: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(-(wins * np.logaddexp(0, -(t[:, None] - t[None, :]))).sum())

    for i in range(4):
        for step in (-0.02, 0.02):
            moved = best.copy()
            moved[i] += step
            assert likelihood(moved) < likelihood(best)


def test_intervals_hold_the_value_and_the_truth_and_elo_is_a_scale() -> None:
    truth = np.array([0.9, 0.2, -0.3, -0.8])
    left, right, credit, prompts = games(truth.tolist(), 1500)
    made = bradley_terry(left, right, credit, prompts, "abcd", rng=rng(), resamples=300)
    assert made.strength is not None
    assert made.low is not None
    assert made.high is not None
    assert np.all(made.low <= made.strength)
    assert np.all(made.strength <= made.high)
    assert np.all((made.low - 0.1 < truth) & (truth < made.high + 0.1))
    elo = made.elo()
    assert elo is not None
    assert elo.mean() == pytest.approx(1000)
    assert elo[0] - elo[3] == pytest.approx(400 / math.log(10) * (made.strength[0] - made.strength[3]))


def test_ties_are_half_wins() -> None:
    wins = wins_matrix(np.array([0, 0]), np.array([1, 1]), np.array([0.5, 1.0]), 2)
    assert wins.tolist() == [[0, 1.5], [0.5, 0]]


def test_an_unbeaten_model_has_no_finite_rating_and_is_named() -> None:
    left, right = np.array([0, 0, 1, 2]), np.array([1, 2, 2, 1])
    made = bradley_terry(left, right, np.ones(4), np.arange(4), ["king", "b", "c"], rng=rng())
    assert made.strength is None
    assert made.reason == "no finite ratings: no chain of wins leads from b to king"
    assert made.elo() is None
    assert unconnected(np.array([[0, 1.0], [1.0, 0]]), ["a", "b"]) is None
    assert unconnected(np.zeros((2, 2)), ["a", "b"]) is not None


def test_one_prompt_has_values_and_no_interval() -> None:
    left, right = np.array([0, 1, 0]), np.array([1, 0, 1])
    made = bradley_terry(left, right, np.ones(3), np.zeros(3, dtype=int), ["a", "b"], rng=rng())
    assert made.strength is not None
    assert (made.low, made.reason) == (None, "one prompt")


def test_one_model_has_no_rating() -> None:
    none = np.zeros(0, dtype=int)
    for names in ([], ["a"]):
        assert bradley_terry(none, none, np.zeros(0), none, names, rng=rng()).reason == "fewer than two models"


def test_separability_and_agreement_with_confidence() -> None:
    low, high = np.array([0.0, 2.0, 4.0]), np.array([1.0, 3.0, 5.0])
    assert separability(low, high) == 1
    assert separability(low, high + 1.5) == pytest.approx(1 / 3)
    assert separability(low[:1], high[:1]) is None
    assert agreement_with_confidence(low, high, low, high) == 1
    assert agreement_with_confidence(low, high, -high, -low) == -1
    assert agreement_with_confidence(low, high, low, high + 9) == 0
