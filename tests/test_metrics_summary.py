"""The suite's own number: rules, scopes, intervals, missing rows, and published figures."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench.core import Ballot, Estimate, Facts, Judgment, Rules, Suite
from rmbench.metrics import credit, estimates, main

SECTIONS = {
    "Chat": ("alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med"),
    "Chat Hard": (
        "mt-bench-hard",
        "llmbar-natural",
        "llmbar-adver-neighbor",
        "llmbar-adver-GPTInst",
        "llmbar-adver-GPTOut",
        "llmbar-adver-manual",
    ),
    "Safety": (
        "refusals-dangerous",
        "refusals-offensive",
        "xstest-should-refuse",
        "xstest-should-respond",
        "donotanswer",
    ),
    "Reasoning": ("math-prm", "hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust"),
}
PAIR = Rules(name="test-1")


def card(categories: dict[str, tuple[str, ...]] | None = None, **more: object) -> Suite:
    base = {"name": "t", "version": "1", "about": "", "rules": PAIR, "source": "file:t", "licence": "", "citation": ""}
    return Suite(**{**base, "categories": categories or {"all": ("a",)}, **more})  # type: ignore[arg-type]


def facts(i: int, grades: tuple[float, ...] = (1, 0), subset: str = "a", cluster: str | None = None) -> Facts:
    return Facts(
        item_id=f"{subset}-{i}",
        hash=f"{i:016x}",
        subset=subset,
        grades=grades,
        lengths=tuple(10 + 3 * k for k in range(len(grades))),
        cluster=cluster,
    )


def judged(item: Facts, *scores: float) -> Judgment:
    return Judgment(item_id=item.item_id, scores=scores)


def by_id(judgments: list[Judgment]) -> dict[str, Judgment]:
    return {j.item_id: j for j in judgments}


def run_of(x: list[float], subset: str = "a") -> tuple[list[Facts], dict[str, Judgment]]:
    """Items of one subset with the credits ``x``."""
    items = [facts(i, subset=subset) for i in range(len(x))]
    return items, by_id([judged(f, 2 * c, 1) for f, c in zip(items, x, strict=True)])


def test_a_plain_subset_has_counts_and_wilsons_interval() -> None:
    from scipy.stats import binomtest

    items, judgments = run_of([1] * 70 + [0] * 30)
    made = main(estimates(card(), items, judgments, further=False))
    assert list(made) == ["subset:a", "category:all", "overall", "micro"]
    reference = binomtest(70, 100).proportion_ci(method="wilson")
    for estimate in made.values():
        assert estimate.name == "accuracy"
        assert estimate.value == pytest.approx(0.7)
        assert (estimate.low, estimate.high) == pytest.approx((reference.low, reference.high))
        assert (estimate.n, estimate.wins, estimate.ties, estimate.losses) == (100, 70, 0, 30)
        assert estimate.se == pytest.approx(np.std([1] * 70 + [0] * 30, ddof=1) / 10)


@pytest.mark.parametrize(
    ("ties", "grades", "scores", "value"),
    [
        ("half", (1, 0), (1, 1), 0.5),
        ("wrong", (1, 0), (1, 1), 0.0),
        ("dropped", (1, 0), (1, 1), None),
        ("share", (1, 0, 0, 0), (3, 3, 3, 0), 1 / 3),
        ("share", (1, 0, 0, 0), (1, 1, 1, 1), 0.25),
        ("share", (1, 0, 0, 0), (3, 3, 2, 0), 0.5),
        ("share", (1, 0, 0, 0), (1, 3, 3, 0), 0.0),
        ("share", (1, 0, 0, 0), (3, 1, 2, 0), 1.0),
        ("share", (1, 1, 0, 0), (3, 3, 3, 0), 2 / 3),
        ("half", (1, 1, 0, 0), (3, 3, 2, 0), 1.0),
        ("half", (3, 2, 1, 0), (0, 5, 1, 1), 0.0),
    ],
)
def test_tie_rules(ties: str, grades: tuple[float, ...], scores: tuple[float, ...], value: float | None) -> None:
    item = facts(0, grades)
    found = credit(item, judged(item, *scores), Rules(name="r", ties=ties))  # type: ignore[arg-type]
    assert found.value == (None if value is None else pytest.approx(value))


def test_best_beats_all_is_strict() -> None:
    rules = Rules(name="r", ranking="best-beats-all")
    item = facts(0, (1, 0, 0))
    assert credit(item, judged(item, 2, 1, 1), rules).value == 1
    assert credit(item, judged(item, 2, 2, 1), rules).value == 0
    assert credit(item, judged(item, 1, 2, 1), rules).value == 0


def test_gold_ties_are_left_out_or_a_class() -> None:
    item = facts(0, (1, 1))
    assert credit(item, judged(item, 1, 1), PAIR).value is None
    s1 = Rules(name="s1", gold_ties="class", ties="wrong")
    assert credit(item, judged(item, 1, 1), s1).value == 1
    assert credit(item, judged(item, 2, 1), s1).value == 0
    pair = facts(1)
    assert credit(pair, judged(pair, 1, 1), s1).value == 0


def test_what_has_no_scores_earns_nothing_and_is_counted() -> None:
    items, judgments = run_of([1, 1, 1, 1])
    judgments["a-0"] = Judgment(item_id="a-0", error="score not finite")
    del judgments["a-1"]
    made = main(estimates(card(), items, judgments, further=False))["subset:a"]
    assert (made.value, made.n, made.wins, made.errors, made.missing) == (0.5, 4, 2, 1, 2)
    assert made.extra["coverage"] == 0.5


def test_weights_within_and_between_categories() -> None:
    categories = {"A": ("a", "b"), "B": ("c",)}
    suite = card(categories, weights={"a": 3.0, "b": 1.0}, category_weights={"B": 0.5})
    items, judgments = [], {}
    for subset, wins in (("a", 8), ("b", 4), ("c", 10)):
        own, given = run_of([1.0] * wins + [0.0] * (10 - wins), subset)
        items += own
        judgments |= given
    made = main(estimates(suite, items, judgments, further=False))
    assert made["category:A"].value == pytest.approx(0.7)
    assert made["overall"].value == pytest.approx((0.7 + 0.5 * 1.0) / 1.5)
    assert made["micro"].value == pytest.approx(22 / 30)
    # Cochran's stratified variance, by hand.
    variance = {s: p * (1 - p) / 9 for s, p in (("a", 0.8), ("b", 0.4), ("c", 1.0))}
    assert made["category:A"].se == pytest.approx((0.75**2 * variance["a"] + 0.25**2 * variance["b"]) ** 0.5)
    assert made["overall"].se == pytest.approx((0.5**2 * variance["a"] + (1 / 6) ** 2 * variance["b"]) ** 0.5)


def test_a_macro_without_one_loss_still_has_width() -> None:
    items, judgments = run_of([1.0] * 30, "a")
    more, given = run_of([1.0] * 30, "b")
    made = main(estimates(card({"A": ("a",), "B": ("b",)}), items + more, judgments | given, further=False))["overall"]
    assert made.value == 1
    assert made.low is not None
    assert 0.9 < made.low < 0.95
    assert made.high == 1


def test_a_partial_suite_reports_what_is_whole_and_says_why_not_the_rest() -> None:
    items, judgments = run_of([1.0, 0.0], "a")
    suite = card({"A": ("a",), "B": ("b", "c"), "C": ("d",)}, missing={"b": 358, "c": 1, "d": 2})
    more, given = run_of([1.0], "c")
    made = main(estimates(suite, items + more, judgments | given, further=False))
    assert made["category:A"].value == 0.5
    assert made["subset:b"].value is None
    assert made["subset:b"].reason == "0 of 358 items present"
    assert (made["subset:c"].value, made["subset:c"].missing) == (1, 1)
    assert made["category:B"].value is None
    assert made["category:B"].reason == "1 of 360 items present"
    assert made["overall"].value is None
    assert made["overall"].reason == "B: 1 of 360 items present; C: 0 of 2 items present"
    assert made["overall"].missing == 361


def test_overall_micro_and_none() -> None:
    items, judgments = run_of([1.0] * 9 + [0.0], "a")
    more, given = run_of([0.0, 0.0], "b")
    for overall, value in (("micro", 9 / 12), ("none", None), ("macro", 0.45)):
        suite = card({"A": ("a",), "B": ("b",)}, rules=Rules(name="r", overall=overall))  # type: ignore[arg-type]
        made = main(estimates(suite, items + more, judgments | given, further=False))["overall"]
        assert made.value == (None if value is None else pytest.approx(value))


def test_no_items_one_cluster_and_all_ties_have_reasons() -> None:
    made = main(estimates(card(), [], {}, further=False))
    assert {e.value for e in made.values()} == {None}
    assert all(e.reason for e in made.values())
    items = [facts(i, cluster="p") for i in range(4)]
    one = main(estimates(card(), items, by_id([judged(f, 1, 0) for f in items]), further=False))["subset:a"]
    assert (one.value, one.low, one.reason) == (1, None, "one cluster")
    items, judgments = run_of([0.5] * 20)
    ties = main(estimates(card(), items, judgments, further=False))["subset:a"]
    assert (ties.value, ties.low, ties.ties) == (0.5, None, 20)
    assert "constant" in str(ties.reason)
    dropped = card(rules=Rules(name="r", ties="dropped"))
    assert "ties" in str(main(estimates(dropped, items, judgments, further=False))["subset:a"].reason)


def test_clustered_standard_error_is_cr1_and_cloning_does_not_change_it() -> None:
    rng = np.random.default_rng(3)
    x = [float(v) for v in rng.integers(0, 2, 60)]

    def made(copies: int) -> Estimate:
        items = [facts(copies * i + c, cluster=f"p{i // 3}") for i in range(60) for c in range(copies)]
        credits = [v for v in x for _ in range(copies)]
        judgments = by_id([judged(f, 2 * v, 1) for f, v in zip(items, credits, strict=True)])
        return main(estimates(card(), items, judgments, further=False))["subset:a"]

    sums = np.array([sum(v - np.mean(x) for v in x[3 * g : 3 * g + 3]) for g in range(20)])
    once = made(1)
    assert once.se == pytest.approx(np.sqrt(20 / 19 * np.sum(sums**2)) / 60)
    assert once.method == "cluster wilson (CR1)"
    again = made(4)
    assert (again.se, again.low, again.high) == pytest.approx((once.se, once.low, once.high))


def test_a_prompt_shared_by_two_subsets_is_one_cluster_in_the_overall() -> None:
    rng = np.random.default_rng(5)
    x = [float(v) for v in rng.integers(0, 2, 40)]
    items = [facts(i, subset=s, cluster=f"p{i}") for s in ("a", "b") for i in range(40)]
    judgments = by_id([judged(f, 2 * v, 1) for f, v in zip(items, x + x, strict=True)])
    made = main(estimates(card({"A": ("a",), "B": ("b",)}), items, judgments, further=False))
    assert made["overall"].se == pytest.approx(made["subset:a"].se)
    assert made["overall"].low == pytest.approx(made["subset:a"].low)


def test_binary_labels_give_auc_with_delongs_error() -> None:
    rng = np.random.default_rng(7)
    labels = np.r_[np.ones(40), np.zeros(60)]
    scores = rng.normal(size=100).round(1) + labels
    items = [facts(i, (float(v),)) for i, v in enumerate(labels)]
    judgments = by_id([judged(f, float(s)) for f, s in zip(items, scores, strict=True)])
    made = main(estimates(card(), items, judgments, further=False))["subset:a"]
    wins = (scores[:40, None] > scores[None, 40:]) + 0.5 * (scores[:40, None] == scores[None, 40:])
    assert made.name == "auc"
    assert made.value == pytest.approx(wins.mean())
    delong = np.sqrt(wins.mean(1).var(ddof=1) / 40 + wins.mean(0).var(ddof=1) / 60)
    assert made.se == pytest.approx(delong, rel=0.01)
    lost = main(estimates(card(), items, {**judgments, "a-3": Judgment(item_id="a-3", error="nan")}, further=False))
    assert lost["subset:a"].value < made.value  # type: ignore[operator]
    only = [f for f in items if f.grades == (1,)]
    assert main(estimates(card(), only, judgments, further=False))["subset:a"].reason == (
        "needs both labels (ones: 40, zeros: 0)"
    )


def test_threshold_metrics_and_average_precision_match_sklearn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(8)
    labels = (rng.random(80) < 0.3).astype(float)
    scores = (rng.random(80) * 0.7 + 0.3 * labels).round(2)
    items = [facts(i, (float(v),)) for i, v in enumerate(labels)]
    judgments = by_id([judged(f, float(s)) for f, s in zip(items, scores, strict=True)])
    said = scores > 0.5
    want = {
        "average-precision": sklearn.average_precision_score(labels, scores),
        "f1@0.5": sklearn.f1_score(labels, said),
        "precision@0.5": sklearn.precision_score(labels, said),
        "recall@0.5": sklearn.recall_score(labels, said),
        "accuracy@0.5": np.mean(said == labels),
        "fpr@0.5": np.mean(said[labels == 0]),
        "fnr@0.5": np.mean(~said[labels == 1]),
    }
    for name, value in want.items():
        suite = card(rules=Rules(name="r", metrics={"*": name}))
        made = main(estimates(suite, items, judgments, further=False))["subset:a"]
        assert (made.name, made.value) == (name, pytest.approx(value))
        assert made.low < made.value < made.high  # type: ignore[operator]


def two_orders(item: Facts, first: int | None, second: int | None) -> Judgment:
    def ballot(shown: tuple[int, int], verdict: int | None) -> Ballot:
        return Ballot(shown=shown, picked=verdict if verdict in (0, 1) else None, tie=verdict == -1)

    ballots = (ballot((0, 1), first), ballot((1, 0), second))
    return Judgment(item_id=item.item_id, scores=(0.5, 0.5), ballots=ballots)


@pytest.mark.parametrize(
    ("verdicts", "average", "both", "net", "conflict", "original"),
    [
        ((0, 0), 1, 1, 1, 1, 1),
        ((0, 1), 0.5, 0, 0, 0.5, 1),
        ((1, 1), 0, 0, 0, 0, 0),
        ((0, -1), 0.75, 0, 1, 0.5, 1),
        ((-1, -1), 0.5, 0, 0, 0.5, 0.5),
        ((0, None), 0.5, 0, 1, 0, 1),
        ((None, 0), 0.5, 0, 1, 0, 0),
    ],
)
def test_position_rules(
    verdicts: tuple[int | None, int | None], average: float, both: float, net: float, conflict: float, original: float
) -> None:
    item = facts(0)
    given = two_orders(item, *verdicts)
    for rule, value in (
        (None, average),
        ("average", average),
        ("both", both),
        ("net", net),
        ("conflict-tie", conflict),
        ("original", original),
    ):
        assert credit(item, given, Rules(name="r", position=rule)).value == value, rule


TIES = [
    ([((5, 1, 0), (1, 0, 0)), ((5, 4.8, 4.9, 1, 0), (1, 1, 1, 0, 0))], 1.0),
    ([((5, 1, 0), (1, 0, 0)), ((9, 3, 4, 1, 0), (1, 1, 1, 0, 0))], 0.5941721705),
    ([((5, 1, 0), (1, 0, 0)), ((9, 3, 4, 3.5, 0), (1, 1, 1, 0, 0))], 0.2920556805),
    ([((1, 2, 0), (1, 0, 0)), ((5, 4.5, 1), (1, 1, 0))], 0.4900494525),
    ([((1, 1, 1), (1, 0, 0)), ((1, 1, 1), (1, 1, 0))], 0.0),
    ([((5, 1), (1, 0)), ((5, 5, 1), (1, 1, 0))], 1.0),
]


@pytest.mark.parametrize(("rows", "value"), TIES)
def test_rewardbench_2_ties_gives_the_published_codes_values(
    rows: list[tuple[tuple[float, ...], tuple[float, ...]]], value: float
) -> None:
    items = [facts(i, grades, cluster="0") for i, (_, grades) in enumerate(rows)]
    judgments = by_id([judged(f, *scores) for f, (scores, _) in zip(items, rows, strict=True)])
    suite = card(rules=Rules(name="r", metrics={"a": "rewardbench2-ties"}))
    made = main(estimates(suite, items, judgments, further=False))["subset:a"]
    assert made.value == pytest.approx(value, abs=1e-9)


def published_subsets(reference: Path) -> dict[str, list[tuple[str, int, float]]]:
    models: dict[str, list[tuple[str, int, float]]] = {}
    with (reference / "rewardbench_subsets.csv").open() as lines:
        for row in csv.DictReader(lines):
            models.setdefault(row["model"], []).append((row["subset"], int(row["n"]), float(row["correct"])))
    return models


def replay(subsets: list[tuple[str, int, float]]) -> tuple[list[Facts], dict[str, Judgment], dict[str, float]]:
    """Items with as many wins and ties as a published subset has, and the current weights."""
    items: list[Facts] = []
    judgments: dict[str, Judgment] = {}
    for name, n, correct in subsets:
        half = round(2 * correct)
        x = [1.0] * (half // 2) + [0.5] * (half % 2)
        own, given = run_of(x + [0.0] * (n - len(x)), name)
        items += own
        judgments |= given
    return items, judgments, {name: float(n) for name, n, _ in subsets} | {"math-prm": 984.0}


def test_published_rewardbench_sections_come_out(reference: Path) -> None:
    models = published_subsets(reference)
    with (reference / "published.csv").open() as lines:
        rows = [r for r in csv.DictReader(lines) if r["suite"] == "rewardbench" and r["verified"] == "yes"]
    swapped = {"xstest-should-refuse": 250.0, "xstest-should-respond": 154.0}
    compared = 0
    for model, subsets in models.items():
        items, judgments, weights = replay(subsets)
        now = main(estimates(card(SECTIONS, weights=weights), items, judgments, further=False))
        old = main(estimates(card(SECTIONS, weights=weights | swapped), items, judgments, further=False))
        for row in rows:
            category, _, rule = row["category"].partition(" (")
            scopes = {"Overall": "overall", "all 2985 examples": "micro"} | {c: f"category:{c}" for c in SECTIONS}
            # Prior Sets have a test of their own.
            if row["model"] != model or category not in scopes:
                continue
            made = old if rule or row["notes"] == "old xstest weights" else now
            value = made[scopes[category]].value * (100 if "pct" in row["metric"] else 1)  # type: ignore[operator]
            digits = len(row["value"].partition(".")[2])
            assert value == pytest.approx(float(row["value"]), abs=0.51 * 10**-digits), row
            compared += 1
    assert compared > 180


def test_the_older_rewardbench_rules_come_out(reference: Path) -> None:
    """Safety 69.2 with the xstest weights swapped, and 75.4 overall with Prior Sets (70.4) at half weight."""
    subsets = published_subsets(reference)["meta-llama/Meta-Llama-3-70B-Instruct"]
    items, judgments, weights = replay([*subsets, ("prior", 1000, 704)])
    weights |= {"xstest-should-refuse": 250.0, "xstest-should-respond": 154.0}
    suite = card({**SECTIONS, "Prior Sets": ("prior",)}, weights=weights, category_weights={"Prior Sets": 0.5})
    made = main(estimates(suite, items, judgments, further=False))
    assert 100 * made["category:Safety"].value == pytest.approx(69.2, abs=0.05)  # type: ignore[operator]
    assert 100 * made["overall"].value == pytest.approx(75.4, abs=0.05)  # type: ignore[operator]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=40), st.randoms(use_true_random=False))
def test_order_of_items_changes_nothing_and_intervals_hold_their_value(x: list[float], random: object) -> None:
    items, judgments = run_of(x)
    items = [Facts(**{**_fields(f), "cluster": f"p{i // 2}" if len(x) % 2 else None}) for i, f in enumerate(items)]
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one = estimates(card(), items, judgments)
    two = estimates(card(), shuffled, judgments)
    for a, b in zip(one, two, strict=True):
        assert (a.name, a.scope, a.n, a.reason) == (b.name, b.scope, b.n, b.reason)
        for left, right in ((a.value, b.value), (a.low, b.low), (a.high, b.high)):
            assert (left is None and right is None) or left == pytest.approx(right, abs=1e-9)
        if a.low is not None:
            assert a.low - 1e-12 <= a.value <= a.high + 1e-12  # type: ignore[operator]


def _fields(item: Facts) -> dict[str, object]:
    return {name: getattr(item, name) for name in item.__struct_fields__}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=20), st.data())
def test_an_error_never_raises_accuracy(x: list[float], data: st.DataObject) -> None:
    items, judgments = run_of(x)
    lost = f"a-{data.draw(st.integers(0, len(x) - 1))}"
    before = main(estimates(card(), items, judgments, further=False))["overall"].value
    broken = {**judgments, lost: Judgment(item_id=lost, error="score not finite")}
    after = main(estimates(card(), items, broken, further=False))["overall"].value
    assert after <= before  # type: ignore[operator]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.floats(-50, 50))
def test_a_positive_affine_map_of_scores_changes_no_ranking_metric(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    items = [facts(i, tuple(float(g) for g in rng.integers(0, 3, 4))) for i in range(8)]
    scores = [rng.integers(-4, 5, 4).astype(float) for _ in items]
    for metric in ("accuracy", "best-beats-all", "kendall", "spearman"):
        suite = card(rules=Rules(name="r", metrics={"*": metric}))
        plain = by_id([judged(f, *map(float, s)) for f, s in zip(items, scores, strict=True)])
        mapped = by_id([judged(f, *map(float, scale * s + shift)) for f, s in zip(items, scores, strict=True)])
        one = main(estimates(suite, items, plain, further=False))["subset:a"]
        two = main(estimates(suite, items, mapped, further=False))["subset:a"]
        assert (one.value is None and two.value is None) or one.value == pytest.approx(two.value)
        for a, b in zip(estimates(suite, items, plain), estimates(suite, items, mapped), strict=True):
            if a.name.startswith(("best-of", "regret", "score-ties", "distinct")):
                assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high)), a.name


def test_ballots_with_probabilities_are_decided_by_their_mean_over_the_orders() -> None:
    """PairRM's rule: a strong verdict in one order outweighs a weak contrary one in the other."""
    item = facts(0)
    ballots = (
        Ballot(shown=(0, 1), picked=0, probabilities=(0.9, 0.1)),
        Ballot(shown=(1, 0), picked=1, probabilities=(0.55, 0.45)),
    )
    judgment = Judgment(item_id=item.item_id, scores=(0.675, 0.325), ballots=ballots)
    assert credit(item, judgment, Rules(name="r")).value == 1
    assert credit(item, judgment, Rules(name="r", position="average")).value == 0.5
    assert credit(item, judgment, Rules(name="r", position="both")).value == 0
