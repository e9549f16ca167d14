"""Bradley-Terry ratings from pairwise votes, with connectivity checked and intervals by resampling prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rmbench.metrics.intervals import Floats, Ints

ELO = 400 / math.log(10)
"""Elo points per unit of log-odds."""


class Ratings(NamedTuple):
    """Log-odds strengths with mean 0, in the order of the models; None where the maximum is infinite."""

    strength: Floats | None
    low: Floats | None = None
    high: Floats | None = None
    reason: str | None = None

    def elo(self, anchor: float = 1000.0) -> Floats | None:
        """400/ln 10 per unit, mean ``anchor``."""
        return None if self.strength is None else anchor + ELO * self.strength


def wins_matrix(left: Ints, right: Ints, credit: Floats, models: int) -> Floats:
    """(models, models): wins of row over column; ``credit`` of each vote's left model, half for a tie."""
    wins = np.zeros((models, models))
    np.add.at(wins, (left, right), credit)
    np.add.at(wins, (right, left), 1 - credit)
    return wins


def unconnected(wins: Floats, names: Sequence[str]) -> str | None:
    """Why no finite maximum exists, or None: every model must reach every other over wins (Ford 1957)."""
    reach = (wins > 0) | np.eye(len(wins), dtype=bool)
    for _ in range(max(1, math.ceil(math.log2(max(len(wins), 2))))):
        reach = (reach.astype(float) @ reach.astype(float)) > 0
    for name, row in zip(names, reach, strict=True):
        if missed := [other for other, reached in zip(names, row, strict=True) if not reached]:
            return f"no finite ratings: no chain of wins leads from {name} to {', '.join(missed)}"
    return None


def fit(wins: Floats, *, tolerance: float = 1e-10, rounds: int = 10000) -> Floats:
    """Maximum likelihood by minorise-maximise, pi_i = W_i / sum_j n_ij/(pi_i + pi_j) (Hunter 2004, Ann Stat 32).
    ``wins`` may have leading axes (one fit each); connectivity is the caller's to check."""
    games = wins + np.swapaxes(wins, -1, -2)
    total = wins.sum(-1)
    strength = np.ones(total.shape)
    for _ in range(rounds):
        pairs = strength[..., :, None] + strength[..., None, :]
        new = total / np.maximum((games / pairs).sum(-1), 1e-300)
        new = np.maximum(new, 1e-300)
        new = new / np.exp(np.log(new).mean(-1, keepdims=True))
        moved = float(np.max(np.abs(np.log(new) - np.log(strength))))
        strength = new
        if moved < tolerance:
            break
    made: Floats = np.log(strength)
    return made


def bradley_terry(
    left: Ints,
    right: Ints,
    credit: Floats,
    prompts: Ints,
    names: Sequence[str],
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Ratings:
    """P(i beats j) = sigmoid(t_i - t_j), ties as half wins (Bradley & Terry 1952); all arrays (votes,). Percentile
    intervals over resampled prompts (whole groups of votes), not votes; resamples without a finite maximum get half a
    win per cell."""
    if len(names) < 2:
        return Ratings(None, reason="fewer than two models")
    wins = wins_matrix(left, right, credit, len(names))
    if reason := unconnected(wins, names):
        return Ratings(None, reason=reason)
    strength = fit(wins)
    codes, inverse = np.unique(prompts, return_inverse=True)
    if len(codes) < 2:
        return Ratings(strength, reason="one prompt")
    m = len(names)
    cells = np.zeros((len(codes), m * m))
    np.add.at(cells, (inverse, left * m + right), credit)
    np.add.at(cells, (inverse, right * m + left), 1 - credit)
    drawn = rng.multinomial(len(codes), np.full(len(codes), 1 / len(codes)), size=resamples).astype(float) @ cells
    replicates = drawn.reshape(resamples, m, m)
    loose = np.array([unconnected(w, names) is not None for w in replicates])
    replicates[loose] += 0.5 * (wins + wins.T > 0)
    fits = fit(replicates, tolerance=1e-6, rounds=2000)
    low, high = np.quantile(fits, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return Ratings(strength, np.minimum(low, strength), np.maximum(high, strength))


def separability(low: Floats, high: Floats) -> float | None:
    """Share of pairs of models whose intervals do not overlap (Li et al. 2024, arXiv 2406.11939); None for one
    model."""
    n = len(low)
    apart = [low[i] > high[j] or low[j] > high[i] for i in range(n) for j in range(i)]
    return sum(apart) / len(apart) if apart else None


def agreement_with_confidence(low: Floats, high: Floats, reference_low: Floats, reference_high: Floats) -> float | None:
    """Mean over pairs of models of +1 where both sets of intervals separate them the same way, -1 where the other way,
    0 where either does not (Li et al. 2024)."""

    def order(a: Floats, b: Floats, i: int, j: int) -> int:
        return int(a[i] > b[j]) - int(a[j] > b[i])

    n = len(low)
    votes = [order(low, high, i, j) * order(reference_low, reference_high, i, j) for i in range(n) for j in range(i)]
    return sum(votes) / len(votes) if votes else None
