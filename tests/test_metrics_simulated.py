"""Coverage, the gate's error rates and its printed power, by simulation with the code of the committed tables."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def simulate() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "simulate_intervals.py"
    spec = importlib.util.spec_from_file_location("simulate_intervals", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("n", [30, 100, 1000])
@pytest.mark.parametrize("data", ["independent", "tie_heavy", "clustered"])
def test_95_percent_intervals_cover(simulate: ModuleType, data: str, n: int) -> None:
    made = simulate.coverage(getattr(simulate, data), n, 4000, np.random.default_rng(n))
    assert 0.935 <= made <= 0.965


@pytest.mark.parametrize("shape", ["plain", "macro", "clustered"])
def test_the_gate_errs_and_passes_as_it_says(simulate: ModuleType, shape: str) -> None:
    repeats = 300
    rng = np.random.default_rng(1)
    passed, *_ = simulate.gate_rates(300, -0.05, 0.05, 0.10, repeats, rng, shape=shape)
    assert passed <= 0.05 + 2 * (0.05 * 0.95 / repeats) ** 0.5
    passed, _, _, power = simulate.gate_rates(300, 0.0, 0.05, 0.10, repeats, rng, shape=shape)
    assert passed == pytest.approx(power, abs=0.1)


def test_one_category_at_its_margin_is_seldom_passed(simulate: ModuleType) -> None:
    passed = simulate.all_categories(300, 0.05, 0.10, 200, np.random.default_rng(2))
    assert passed <= 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5
