"""Agreement coefficients against references, and MT-Bench's Table 5 from the real votes."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench import suites
from rmbench.core import Facts, Judgment
from rmbench.metrics import estimates
from rmbench.metrics.agreement import (
    annotator_table,
    coefficient,
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
from rmbench.metrics.credit import TIE
from rmbench.metrics.intervals import interval
from test_metrics_summary import card, facts, two_orders


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


def test_a_coefficients_error_is_the_bootstraps() -> None:
    rng = np.random.default_rng(3)
    a = rng.integers(0, 3, 300)
    b = np.where(rng.random(300) < 0.6, a, rng.integers(0, 3, 300))
    groups = np.repeat(np.arange(100), 3)
    for statistic in (cohen_kappa, lambda x, y: gwet_ac1([x, y])):
        measure = coefficient("kappa", statistic, a.tolist(), b.tolist(), np.arange(300))
        assert measure.value == pytest.approx(statistic(a.tolist(), b.tolist()))
        drawn = []
        for _ in range(500):
            keep = (3 * rng.integers(0, 100, 100)[:, None] + np.arange(3)).ravel()
            drawn.append(statistic(a[keep].tolist(), b[keep].tolist()))
        assert interval(measure, groups).se == pytest.approx(np.std(drawn), rel=0.1)
    empty = coefficient("kappa", cohen_kappa, [1, 1, None], [1, 1, 0], np.arange(3))
    assert (empty.value, empty.reason, empty.n) == (None, "one class only", 2)


def test_estimates_say_how_a_model_agrees_with_labels_and_people(real_data: Path) -> None:
    suite = suites.load("pandalm", data=real_data)
    items = [Facts.of(item) for item in suite.items]
    people = {f"annotator{k}": [f.meta["votes"][k - 1] - 1 for f in items] for k in (1, 2, 3)}
    scores = {TIE: (1.0, 1.0), 0: (1.0, 0.0), 1: (0.0, 1.0)}
    judgments = {
        f.item_id: Judgment(item_id=f.item_id, scores=scores[v])
        for f, v in zip(items, people["annotator1"], strict=True)
    }
    made = estimates(suite.card(), items, judgments)
    found = {e.name: e for e in made if e.scope == "micro"}
    gold = [TIE if f.grades[0] == f.grades[1] else int(f.grades[1] > f.grades[0]) for f in items]
    assert found["kappa"].value == pytest.approx(cohen_kappa(people["annotator1"], gold))
    assert found["kappa"].low < found["kappa"].value < found["kappa"].high  # type: ignore[operator]
    assert found["ac1"].extra["raw agreement"] == pytest.approx(raw(gold, people["annotator1"]))
    assert found["kappa"].extra["majority baseline"] == pytest.approx(472 / 999, abs=0.005)
    assert found["leave-one-out"].extra["people"] == pytest.approx(leave_one_out(list(people.values())))
    noise = found["label-noise"]
    rows = list(zip(*people.values(), strict=True))
    untied = [(a, b) for row in rows for a, b in combinations(row, 2) if TIE not in (a, b)]
    share = np.mean([a == b for a, b in untied])
    assert noise.n == len(untied)
    assert noise.extra["ceiling"] == pytest.approx((1 + np.sqrt(2 * share - 1)) / 2)
    own = np.mean([a == b for row in rows for a, b in ((row[0], other) for other in row) if TIE not in (a, b)])
    assert noise.extra["accuracy"] == pytest.approx(own)
    assert noise.extra["corrected accuracy"] == pytest.approx(min(1.0, (own - noise.value) / (1 - 2 * noise.value)))
    table = {e.scope: e for e in made if e.name == "annotator-agreement"}
    assert table["annotator:annotator1"].value == 1
    assert table["annotator:annotator2"].value == table["annotator:annotator1"].extra["annotator2"]


def test_llmbars_corrected_kappas_are_estimates(real_data: Path, reference: Path) -> None:
    rows = [
        json.loads(line)
        for line in (real_data / "llmbar" / "example_verdicts_chatgpt_vanilla.jsonl").read_text().splitlines()
    ]
    own = [r for r in rows if r["subset"] == rows[0]["subset"]]
    items = [facts(i, (1, 0) if r["label"] == 1 else (0, 1)) for i, r in enumerate(own)]
    verdicts = [
        tuple(None if r[k] is None else int(r[k]) - 1 for k in ("winner_original_order", "winner_swapped_order"))
        for r in own
    ]
    judgments = {f.item_id: two_orders(f, *v) for f, v in zip(items, verdicts, strict=True)}
    found = {e.name: e for e in estimates(card(), items, judgments) if e.scope == "micro"}
    name = rows[0]["subset"].removeprefix("adver-").lower()
    with (reference / "golden_swap_llmbar.csv").open() as lines:
        golden = next(
            r
            for r in csv.DictReader(lines)
            if r["evaluator"] == "ChatGPT/Vanilla" and r["suite"].lower().endswith(f"/{name}")
        )
    assert found["kappa-orders"].value == pytest.approx(float(golden["kappa_orders"]), abs=2e-6)
