"""Length: preference against the label's own, strata, and the controlled accuracy against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest

from rmbench.core import Facts
from rmbench.metrics import estimates
from rmbench.metrics.length import Logistic, controlled, prefers_longer, relative
from test_metrics_summary import by_id, card, judged


def simulated(n: int = 400, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    rng = np.random.default_rng(seed)
    u = rng.uniform(-0.8, 0.8, n)
    groups = np.arange(n) // 2
    own = np.repeat(rng.normal(0, 0.7, n // 2), 2)
    x = (rng.random(n) < 1 / (1 + np.exp(-(0.5 + 2 * u + own)))).astype(float)
    return u, x, groups


def test_the_fit_is_statsmodels_with_clustered_errors() -> None:
    sm = pytest.importorskip("statsmodels.api")
    u, x, groups = simulated()
    made = controlled(u, x, groups)
    assert isinstance(made, Logistic)
    want = sm.Logit(x, sm.add_constant(u)).fit(
        disp=0, cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    assert made.slope == pytest.approx(want.params[1])
    assert made.accuracy == pytest.approx(1 / (1 + np.exp(-want.params[0])))
    size = len(np.unique(groups))
    assert made.slope_se == pytest.approx(want.bse[1] * np.sqrt(size / (size - 1)), rel=1e-6)
    assert made.low < made.accuracy < made.high
    # A model that follows length is less accurate with length held equal than where right is longer.
    assert made.accuracy < x[u > 0].mean()


@pytest.mark.parametrize(
    ("u", "x", "why"),
    [
        (np.zeros(20), np.tile([0.0, 1.0], 10), "same relative length"),
        (np.linspace(-1, 1, 20), np.ones(20), "same credit"),
        (np.linspace(-1, 1, 20), (np.linspace(-1, 1, 20) > 0).astype(float), "separates"),
        (np.array([0.1, 0.2]), np.array([0.0, 1.0]), "fewer than three groups"),
    ],
)
def test_undefined_fits_say_why(u: np.ndarray, x: np.ndarray, why: str) -> None:  # type: ignore[type-arg]
    made = controlled(u, x, np.arange(len(u)))
    assert isinstance(made, str)
    assert why in made


def test_half_credits_count_half() -> None:
    u = np.array([-0.5, 0.5, 0.2, -0.2, 0.3, 0.1])
    made = controlled(u, np.full(6, 0.5) + np.array([0, 0, 0.5, -0.5, 0, 0]), np.arange(6))
    assert isinstance(made, Logistic)
    assert made.accuracy < 1


def test_relative_and_preference() -> None:
    right, wrong = np.array([30.0, 10.0, 20.0, 0.0]), np.array([10.0, 30.0, 20.0, 0.0])
    assert relative(right, wrong).tolist() == [0.5, -0.5, 0, 0]
    made = prefers_longer(right, wrong, np.array([1.0, 1.0, 1.0, 1.0]))
    assert made[:2].tolist() == [1, 0]
    assert np.isnan(made[2:]).all()


def test_a_longest_wins_model_is_found_out() -> None:
    items = [
        Facts(item_id=f"a-{i}", hash=str(i), subset="a", grades=(1, 0), lengths=(30, 10) if i % 3 else (10, 30))
        for i in range(60)
    ]
    judgments = by_id([judged(f, *map(float, f.lengths)) for f in items])
    found = {e.name: e for e in estimates(card(), items, judgments) if e.scope == "micro"}
    assert found["prefers-longer"].value == 1
    assert found["prefers-longer"].extra["label prefers longer"] == pytest.approx(2 / 3)
    assert found["accuracy-right-longer"].value == 1
    assert found["accuracy-right-shorter"].value == 0
    assert found["accuracy-length-controlled"].value is None
    assert "separates" in str(found["accuracy-length-controlled"].reason)


def test_accuracy_by_strength() -> None:
    items = [
        Facts(item_id=f"a-{i}", hash=str(i), subset="a", grades=(1, 0), lengths=(1, 2), strength=float(1 + i % 3))
        for i in range(30)
    ]
    judgments = by_id(
        [judged(f, float(f.strength == 3) + float(f.strength == 2) * (i % 2), 0.5) for i, f in enumerate(items)]
    )
    made = {e.scope: e.value for e in estimates(card(), items, judgments) if e.scope.startswith("strength")}
    assert made == {"strength:1": 0, "strength:2": pytest.approx(0.5), "strength:3": 1}
