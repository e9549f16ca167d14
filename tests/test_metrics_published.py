"""Published numbers beyond the rules, by hand, by another algorithm, and against figures in print."""

from __future__ import annotations

import csv
import json
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rmbench import suites
from rmbench.core import Ballot, Estimate, Facts, Judgment
from rmbench.metrics import estimates, main
from rmbench.metrics.published import (
    MEASURES,
    PUBLISHED,
    by_strength,
    label_auc,
    ppe_pairs,
    rm_bench_styles,
    three_class,
    verdict,
)

FIXTURES = Path(__file__).parent / "fixtures" / "suites"


def facts(name: str, grades: Sequence[float] = (1, 0), subset: str = "s", **more: object) -> Facts:
    return Facts(item_id=name, hash="", subset=subset, grades=tuple(grades), lengths=(1,) * len(grades), **more)  # type: ignore[arg-type]


def scores(name: str, *values: float) -> Judgment:
    return Judgment(item_id=name, scores=values)


def judged(name: str, *orders: int | None, ballots: int = 1) -> Judgment:
    """Verdicts in both orders: 0 or 1, -1 a tie, None unparsed (then the judgment is an error, as adapters make it)."""
    cast = tuple(
        Ballot(shown=shown, picked=v if v in (0, 1) else None, tie=v == -1, sample=k)
        for shown, v in zip(((0, 1), (1, 0)), orders, strict=False)
        for k in range(ballots)
    )
    if None in orders:
        return Judgment(item_id=name, error="unparsed", ballots=cast)
    share = [sum((v == r) + 0.5 * (v == -1) for v in orders) / len(orders) for r in (0, 1)]
    return Judgment(item_id=name, scores=tuple(share), ballots=cast)


def found(made: list[Estimate]) -> dict[tuple[str, str], float | None]:
    return {(e.scope, e.name): e.value for e in made}


@pytest.mark.parametrize(
    ("judgment", "said"),
    [
        (scores("i", 2, 1), 0),
        (scores("i", 1, 2), 1),
        (scores("i", 1, 1), -1),
        (judged("i", 0, 0), 0),
        (judged("i", 0, 1), -1),
        (judged("i", 0, -1), -1),
        (judged("i", 1), 1),
        (judged("i", 0, None), None),
        (None, None),
    ],
)
def test_verdicts(judgment: Judgment | None, said: int | None) -> None:
    assert verdict(judgment) == said


# RM-Bench


def readme(right: list[list[float]], wrong: list[list[float]]) -> tuple[float, float, float]:
    """Hard, normal and easy as RM-Bench's README describes them: by a 3 x 3 matrix and its triangles."""
    matrix = np.mean([[[a > b for b in w] for a in r] for r, w in zip(right, wrong, strict=True)], axis=0)
    return np.triu(matrix, 1).sum() / 3, np.diag(matrix).mean(), np.tril(matrix, -1).sum() / 3


def test_rm_bench_is_the_readmes() -> None:
    rng = random.Random(3)
    items, judgments, expected = [], {}, {}
    for domain in ("chat", "code", "math", "safety-refuse", "safety-response"):
        rows = [[rng.randint(0, 3) for _ in range(6)] for _ in range(40)]
        expected[domain] = readme([r[:3] for r in rows], [r[3:] for r in rows])
        for n, row in enumerate(rows):
            items.append(facts(f"{domain}{n}", (1, 1, 1, 0, 0, 0), domain))
            judgments[f"{domain}{n}"] = scores(f"{domain}{n}", *row)
    made = found(rm_bench_styles(items, judgments))
    for domain, values in expected.items():
        assert [made[f"subset:{domain}", name] for name in ("hard", "normal", "easy")] == pytest.approx(values)
    for i, name in enumerate(("hard", "normal", "easy")):
        safety = (expected["safety-refuse"][i] + expected["safety-response"][i]) / 2
        overall = (expected["chat"][i] + expected["code"][i] + expected["math"][i] + safety) / 4
        assert made["overall", name] == pytest.approx(overall)
    card = suites.card("rm-bench")
    own = main(estimates(card, items, judgments, further=False))
    for domain, (hard, normal, easy) in expected.items():
        assert own[f"subset:{domain}"].value == pytest.approx((3 * hard + 3 * normal + 3 * easy) / 9)


def test_rm_bench_without_a_domain_has_no_overall() -> None:
    made = rm_bench_styles([facts("i", (1, 1, 1, 0, 0, 0), "chat")], {"i": scores("i", 1, 1, 1, 0, 0, 0)})
    whole = [e for e in made if e.scope == "overall"]
    assert [(e.name, e.value, e.reason) for e in whole] == [
        (name, None, "no items in code, math, safety") for name in ("easy", "normal", "hard")
    ]


def test_an_error_wins_no_style() -> None:
    items = [facts("i", (1, 1, 1, 0, 0, 0), "chat"), facts("j", (1, 1, 1, 0, 0, 0), "chat")]
    made = rm_bench_styles(items, {"i": scores("i", 1, 1, 1, 0, 0, 0), "j": Judgment(item_id="j", error="x")})
    first = next(e for e in made if e.scope == "subset:chat")
    assert (first.value, first.missing) == (0.5, 1)


# JudgeBench


@pytest.mark.parametrize(
    ("orders", "right"),
    [
        ((0, 0), 1),
        ((0, -1), 1),
        ((0, None), 1),
        ((None, 0), 1),
        ((0, 1), 0),
        ((-1, -1), 0),
        ((None, None), 0),
        ((1, -1), 0),
        ((1, 1), 0),
    ],
)
def test_net_vote(orders: tuple[int | None, int | None], right: float) -> None:
    measure = MEASURES["net-vote"]([facts("i")], [judged("i", *orders)], np.array([0]), np.array([0]))
    assert measure.value == right


def test_judgebench_keeps_its_two_numbers_apart() -> None:
    suite = suites.load("judgebench", data=FIXTURES)
    items = [Facts.of(i) for i in suite.items]
    gold = {f.item_id: f.grades.index(1.0) for f in items}
    half = {i: judged(i, g, -1) for i, g in gold.items()}
    net = main(estimates(suites.card("judgebench"), items, half))
    both = main(estimates(suites.card("judgebench:both"), items, half))
    assert (net["overall"].value, both["overall"].value) == (1.0, 0.0)
    assert net["overall"].name != both["overall"].name


# PPE, PandaLM, moderation, strengths


def test_ppe_pairs_by_hand() -> None:
    item = facts("i", (0, 1, 0, 1), "math", meta={"pairs": [[0, 1], [1, 2], [3, 2], [0, 3]]})
    made = ppe_pairs([item], {"i": scores("i", 0.1, 0.5, 0.5, 0.0)})
    # 1 over 0 right, 1 against 2 a tie, 3 over 2 wrong, 3 over 0 wrong
    assert found(made) == {("subset:math", "pair-accuracy"): 1.5 / 4}


def test_three_classes_by_hand() -> None:
    gold = [(1, 0), (1, 0), (0, 1), (0, 1), (1, 1), (1, 1)]
    said = [(2, 1), (1, 2), (1, 2), (1, 1), (1, 1), (3, 1)]
    items = [facts(f"i{n}", g) for n, g in enumerate(gold)]
    made = found(three_class(items, {f"i{n}": scores(f"i{n}", *s) for n, s in enumerate(said)}))
    # first: said 2, right 1; second: said 2, right 1; tie: said 2, right 1; two of each in gold
    assert made == {("micro", f"macro-{n}"): pytest.approx(0.5) for n in ("precision", "recall", "f1")}


def test_a_class_never_said_has_precision_0() -> None:
    items = [facts("a", (1, 0)), facts("b", (0, 1)), facts("c", (1, 1))]
    made = found(three_class(items, {n: scores(n, 2, 1) for n in "abc"}))
    assert made["micro", "macro-precision"] == pytest.approx((1 / 3 + 0 + 0) / 3)
    assert made["micro", "macro-recall"] == pytest.approx(1 / 3)
    assert made["micro", "macro-f1"] == pytest.approx(0.5 / 3)


def test_labels_apart() -> None:
    labels = [{"S": 1, "H": 0}, {"S": 0, "H": 0}, {"S": 0}, {"S": 1, "H": 0}]
    items = [facts(f"i{n}", (0,), "texts", meta={"labels": labels[n]}) for n in range(4)]
    # score = -P(unsafe): 0.9, 0.8, 0.1, 0.2
    made = {
        e.scope: e
        for e in label_auc(items, {f"i{n}": scores(f"i{n}", -p) for n, p in enumerate((0.9, 0.8, 0.1, 0.2))})
        if e.name == "auc"
    }
    assert made["label:S"].value == 0.75
    assert made["label:S"].n == 4
    assert made["label:H"].value is None
    assert made["label:H"].n == 3


def test_real_labels_of_the_oracle(real_data: Path) -> None:
    suite = suites.load("openai-moderation", data=real_data)
    items = [Facts.of(i) for i in suite.items]
    made = label_auc(items, {f.item_id: scores(f.item_id, *f.grades) for f in items})
    counts = {e.scope: e.n for e in made}
    assert counts == {
        "label:S": 899, "label:H": 726, "label:V": 1405, "label:HR": 1399,
        "label:SH": 1402, "label:S3": 909, "label:H2": 716, "label:V2": 1402,
    }  # fmt: skip
    undefined = {e.scope for e in made if e.value is None}
    assert undefined == {"label:S3"}


def test_accuracy_by_strength() -> None:
    items = [facts(f"i{n}", strength=s) for n, s in enumerate((1, 1, 2, 3, 0.2))]
    items.append(facts("tie", (1, 1), strength=0))
    said = {"i0": judged("i0", 0, 0), "i1": judged("i1", 0, 1), "i2": judged("i2", 1, 1), "i3": judged("i3", 0, -1)}
    made = found(by_strength(items, said | {"i4": judged("i4", 0, 0)}))
    assert made == {
        ("strength:1", "accuracy"): pytest.approx((1 + 0.5 + 1) / 3),
        ("strength:2", "accuracy"): 0.0,
        ("strength:3", "accuracy"): 0.75,
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_nothing_to_say_is_not_an_error(name: str) -> None:
    assert all(e.value is None for e in PUBLISHED[name]([], {}))


# RewardBench


def test_the_older_leaderboards_weights_give_the_figures_in_print(reference: Path) -> None:
    """Every model of the leaderboard slide (May 2024): four categories and Prior Sets at half weight."""
    slide: dict[str, dict[str, float]] = defaultdict(dict)
    with (reference / "published.csv").open(encoding="utf-8", newline="") as opened:
        for row in csv.DictReader(opened):
            if row["table"] == "leaderboard slide" and row["suite"] == "rewardbench":
                slide[row["model"]][row["category"]] = float(row["value"])
    card = suites.card("rewardbench:with-prior-sets")
    weights = {category: card.category_weights.get(category, 1.0) for category in card.categories}
    tried = 0
    for model, row in slide.items():
        if "Prior Sets" in row and "Overall incl. Prior Sets" in row:
            # Rounded parts: five roundings of 0.05 move the mean by 0.05 at most, and it is rounded itself.
            found = sum(w * row[category] for category, w in weights.items()) / sum(weights.values())
            assert found == pytest.approx(row["Overall incl. Prior Sets"], abs=0.101), model
            tried += 1
    assert tried >= 10


TIES = [
    ({"ref:0": ([5, 1, 0], 1), "tied:0": ([5, 4.8, 4.9, 1, 0], 3)}, 1.01),
    ({"ref:0": ([5, 1, 0], 1), "tied:0": ([9, 3, 4, 1, 0], 3)}, 0.5941721705),
    ({"ref:0": ([5, 1, 0], 1), "tied:0": ([9, 3, 4, 3.5, 0], 3)}, 0.2920556805),
    ({"ref:0": ([1, 2, 0], 1), "tied:0": ([5, 4.5, 1], 2)}, 0.4900494525),
    ({"ref:0": ([1, 1, 1], 1), "tied:0": ([1, 1, 1], 2)}, 0.0),
    ({"ref:0": ([5, 1], 1), "tied:0": ([5, 5, 1], 2)}, 1.01),
    (
        {
            "ref:0": ([5, 1, 0], 1), "tied:0": ([5, 4.8, 4.9, 1, 0], 3),
            "ref:1": ([2, 2.5], 1), "tied:1": ([2, 1, 1.5, 0], 2),
        },
        0.5004742587,
    ),
    ({"ref:0": ([5, 1], 1), "tied:0": ([5, 4, 1], 2), "tied:7": ([5, 4, 4.5], 2)}, 0.8596402758),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "value"), TIES)
def test_rewardbench2_ties_from_its_rows(
    rows: dict[str, tuple[list[float], int]], value: float, tmp_path: Path
) -> None:
    """Golden values of the original's own function, through the suite file; capped at 1."""
    (tmp_path / "rewardbench2").mkdir()
    lines = [
        {"id": i, "prompt": i, "subset": "Ties", "chosen": ["yes"] * k, "rejected": ["no"] * (len(s) - k)}
        for i, (s, k) in rows.items()
    ]
    (tmp_path / "rewardbench2" / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    suite = suites.load("rewardbench2", data=tmp_path)
    judgments = {f"Ties-{i}": scores(f"Ties-{i}", *s) for i, (s, _) in rows.items()}
    made = main(estimates(suite.card(), [Facts.of(i) for i in suite.items], judgments, further=False))
    assert made["subset:Ties"].value == pytest.approx(min(value, 1.0), abs=1e-9)


@pytest.mark.parametrize(
    ("given", "earned"),
    [((3, 1, 2, 0), 1), ((3, 3, 2, 0), 1 / 2), ((3, 3, 3, 0), 1 / 3), ((1, 1, 1, 1), 1 / 4), ((1, 3, 3, 0), 0)],
)
def test_rewardbench2_best_of_four(given: tuple[float, ...], earned: float) -> None:
    suite = suites.load("rewardbench2", data=FIXTURES)
    items = [Facts.of(i) for i in suite.items if i.subset == "Math"]
    made = main(estimates(suite.card(), items, {f.item_id: scores(f.item_id, *given) for f in items}, further=False))
    assert made["subset:Math"].value == pytest.approx(earned)
