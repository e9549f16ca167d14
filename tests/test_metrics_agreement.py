"""Agreement coefficients against references, and MT-Bench's Table 5 from the real votes."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench.metrics.agreement import (
    annotator_table,
    bootstrap,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
    label_noise,
    leave_one_out,
    majority_baseline,
    raw,
    vote_agreement,
)


def read(path: Path) -> Iterator[dict[str, object]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines)


def votes(path: Path, turn: int, *, human: bool) -> dict[object, list[str]]:
    """(question, sorted models) -> votes named by model; every kind of tie is one."""
    found: dict[object, list[str]] = {}
    for row in read(path):
        if row["turn"] != turn or (human and not str(row["judge"]).startswith("expert")):
            continue
        a, b = str(row["model_a"]), str(row["model_b"])
        winner = {"model_a": a, "model_b": b}.get(str(row["winner"]), "tie")
        found.setdefault((row["question_id"], *sorted((a, b))), []).append(winner)
    return found


def test_mt_bench_table_5_comes_out(real_data: Path) -> None:
    """Published, turn 1: GPT-4 pair against human 66 % (S1) and 85 % (S2), human against human 63 % and 81 %."""
    human = votes(real_data / "mt_bench" / "human.jsonl.gz", 1, human=True)
    gpt4 = votes(real_data / "mt_bench" / "gpt4_pair.jsonl.gz", 1, human=False)
    made = {
        "gpt4 s1": vote_agreement(gpt4, human, tie="tie", ties=True),
        "gpt4 s2": vote_agreement(gpt4, human, tie="tie", ties=False),
        "human s1": vote_agreement(human, tie="tie", ties=True),
        "human s2": vote_agreement(human, tie="tie", ties=False),
    }
    assert {k: round(100 * v.value) for k, v in made.items() if v.value is not None} == {
        "gpt4 s1": 66,
        "gpt4 s2": 85,
        "human s1": 63,
        "human s2": 81,
    }
    assert (made["gpt4 s1"].n, made["gpt4 s2"].n) == (1343, 859)
    assert (made["human s1"].n, made["human s2"].n) == (721, 479)


def test_mt_bench_table_5_turn_2_comes_out(real_data: Path) -> None:
    """Published, turn 2: GPT-4 pair against human 66 % and 85 %, human against human 67 % and 82 %."""
    human = votes(real_data / "mt_bench" / "human.jsonl.gz", 2, human=True)
    gpt4 = votes(real_data / "mt_bench" / "gpt4_pair.jsonl.gz", 2, human=False)
    made = [vote_agreement(*pair, tie="tie", ties=ties) for pair in ((gpt4, human), (human,)) for ties in (True, False)]
    assert [round(100 * v.value) for v in made if v.value is not None] == [66, 85, 67, 82]


def test_about_a_quarter_of_human_votes_are_ties(real_data: Path) -> None:
    rows = list(read(real_data / "mt_bench" / "human.jsonl.gz"))
    assert len(rows) == 3355
    assert sum(r["winner"] == "tie" for r in rows) / len(rows) == pytest.approx(0.23, abs=0.01)


def test_pandalm_majority_labels_and_annotators(real_data: Path) -> None:
    rows = list(read(real_data / "pandalm_test" / "testset-v1.jsonl.gz"))
    people = {f"annotator{k}": [row[f"annotator{k}"] for row in rows] for k in (1, 2, 3)}
    table = annotator_table(people)  # type: ignore[arg-type]
    assert all(table[a][a] is None for a in people)
    assert table["annotator1"]["annotator2"] == pytest.approx(
        np.mean([row["annotator1"] == row["annotator2"] for row in rows])
    )
    ceiling = leave_one_out(list(people.values()))  # type: ignore[arg-type]
    assert ceiling is not None
    assert 0.7 < ceiling < 1


def test_against_sklearn_and_statsmodels() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    inter = pytest.importorskip("statsmodels.stats.inter_rater")
    rng = np.random.default_rng(4)
    a = rng.integers(0, 4, 200)
    b = np.where(rng.random(200) < 0.6, a, rng.integers(0, 4, 200))
    c = np.where(rng.random(200) < 0.5, a, rng.integers(0, 4, 200))
    for weights in (None, "linear", "quadratic"):
        want = metrics.cohen_kappa_score(a, b, weights=weights)
        assert cohen_kappa(a.tolist(), b.tolist(), weights=weights) == pytest.approx(want)  # type: ignore[arg-type]
    table, _ = inter.aggregate_raters(np.stack([a, b, c], axis=1))
    assert fleiss_kappa([a.tolist(), b.tolist(), c.tolist()]) == pytest.approx(inter.fleiss_kappa(table))


RATERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]
"""Krippendorff's worked example with missing labels (Computing Krippendorff's Alpha-Reliability, 2011, section C)."""


def test_krippendorffs_own_example() -> None:
    assert krippendorff_alpha(RATERS) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(RATERS, level="ordinal") == pytest.approx(0.815, abs=5e-4)
    assert krippendorff_alpha(RATERS, level="interval") == pytest.approx(0.849, abs=5e-4)


def test_numbers_keep_their_order_whatever_their_type() -> None:
    a, b = [1, 2.5, 3, 2.5], [1, 2.5, 2.5, 3]
    floats = [[float(v) for v in row] for row in (a, b)]
    assert krippendorff_alpha([a, b], level="ordinal") == krippendorff_alpha(floats, level="ordinal")
    assert cohen_kappa(a, b, weights="linear") == cohen_kappa(*floats, weights="linear")


def test_gwets_ac1_by_hand_and_under_prevalence() -> None:
    # Two raters, 118/2/5/0 of 125 (Gwet's kind of example): raw .944, kappa near 0, AC1 near the raw agreement.
    a = [1] * 118 + [1] * 5 + [0] * 2
    b = [1] * 118 + [0] * 5 + [1] * 2
    share = (123 + 120) / 250
    expected = 2 * share * (1 - share)
    assert gwet_ac1([a, b]) == pytest.approx((118 / 125 - expected) / (1 - expected))
    assert cohen_kappa(a, b) == pytest.approx(-0.0234, abs=5e-4)


def test_degenerate_input_is_none() -> None:
    for statistic in (cohen_kappa, raw):
        assert statistic([], []) is None
        assert statistic([None, 1], [1, None]) is None
    assert cohen_kappa([1, 1], [1, 1]) is None
    for table in ([[1, 1], [1, 1]], [[], []], [[None], [1]]):
        assert fleiss_kappa(table) is None
        assert gwet_ac1(table) is None
        assert krippendorff_alpha(table) is None
    assert majority_baseline([None]) is None
    assert majority_baseline([1, 1, 2, None]) == pytest.approx(2 / 3)
    assert leave_one_out([]) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=30))
def test_agreement_is_symmetric_and_perfect_with_oneself(pairs: list[tuple[int, int]]) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    assert raw(a, b) == raw(b, a)
    one, two = cohen_kappa(a, b), cohen_kappa(b, a)
    assert one == two or one == pytest.approx(two)
    if len(set(a)) > 1:
        assert cohen_kappa(a, a) == pytest.approx(1)
        assert krippendorff_alpha([a, a]) == pytest.approx(1)


def test_label_noise_is_its_own_inverse() -> None:
    e = 0.1
    noise = label_noise(1 - 2 * e * (1 - e))
    assert noise is not None
    assert noise.error == pytest.approx(e)
    assert noise.ceiling == pytest.approx(0.9)
    # A model right on 80 % of the truth scores .8(1-e) + .2 e on the labels.
    assert noise.corrected(0.8 * 0.9 + 0.2 * 0.1) == pytest.approx(0.8)
    assert label_noise(0.5) is None
    assert label_noise(None) is None
    assert label_noise(1.0).ceiling == 1  # type: ignore[union-attr]


def test_leave_one_out_of_a_candidate_meets_the_same_references() -> None:
    people = [[1, 1, 0], [1, 0, 0], [1, 1, 1]]
    # Item 0: three agree. Items 1 and 2: one has a mode to meet, and differs; the others' modes are shared.
    assert leave_one_out(people) == pytest.approx(3 / 5)
    assert leave_one_out(people, [1, 1, 0]) == 1


def test_bootstrap_holds_whole_groups_and_its_value() -> None:
    rng = np.random.default_rng(0)
    x = rng.random(60) < 0.7
    groups = np.repeat(np.arange(20), 3)

    def mean(keep: np.ndarray) -> float:  # type: ignore[type-arg]
        assert len(keep) == 60
        return float(x[keep].mean())

    low, high = bootstrap(mean, groups, rng=rng)  # type: ignore[misc]
    assert low < x.mean() < high
    assert bootstrap(mean, np.zeros(60, dtype=np.int64), rng=rng) is None
    assert bootstrap(lambda _: None, groups, rng=rng) is None
    assert not math.isnan(low)
