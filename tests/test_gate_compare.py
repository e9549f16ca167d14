"""Runs side by side: differences, flips, refusals, ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench.core import Facts, Judgment, Rules, Run, Suite
from rmbench.errors import Undecided, UsageError
from rmbench.gate import compare, compare_pair
from rmbench.gate.compare import shared_facts
from rmbench.gate.ranks import rank
from rmbench.metrics.paired import holm, mcnemar, tango
from rmbench.store import Stored

CARD = Suite(
    name="tiny",
    version="1",
    about="",
    categories={"A": ("a",), "B": ("b", "c")},
    rules=Rules(name="tiny-1"),
    source="file:none",
    licence="",
    citation="",
)


def stored(scores: list[float | None], *, model: str = "m", card: Suite = CARD, cluster: int = 1, **run: Any) -> Stored:
    """A run whose item i prefers the right response by ``scores[i]``; None is an error."""
    subsets = [s for own in card.categories.values() for s in own]
    facts = tuple(
        Facts(
            item_id=f"i{i:03}",
            hash=f"{i:016x}",
            subset=subsets[i % len(subsets)],
            grades=(1, 0),
            lengths=(1, 1),
            cluster=f"p{i // cluster}" if cluster > 1 else None,
        )
        for i in range(len(scores))
    )
    judgments = {
        f.item_id: Judgment(item_id=f.item_id, error="nan")
        if s is None
        else Judgment(item_id=f.item_id, scores=(s, 0.0))
        for f, s in zip(facts, scores, strict=True)
    }
    base: dict[str, Any] = {
        "schema": 1,
        "status": "complete",
        "model": model,
        "adapter": "scripted",
        "engine": None,
        "fingerprint": f"{hash(model) % 16**8:08x}",
        "settings": {},
        "suite": card,
        "suite_hash": "h",
        "n": len(scores),
    }
    return Stored(Path(model), Run(**(base | run)), facts, judgments)


def random_scores(n: int, seed: int, shift: float = 0.8) -> list[float | None]:
    return [float(x) for x in np.random.default_rng(seed).normal(shift, 1, n).round(1)]


def test_differences_are_paired_with_exact_tests() -> None:
    a, b = stored(random_scores(300, 1), model="a"), stored(random_scores(300, 2, 0.5), model="b")
    made = compare_pair(a, b)
    assert [d.scope for d in made.differences] == [
        "overall", "category:A", "category:B", "micro", "subset:a", "subset:b", "subset:c",
    ]  # fmt: skip
    assert (made.n, made.asked, made.only_a, made.only_b) == (300, 300, 0, 0)
    only_b = only_a = wins_a = wins_b = n = 0.0
    tied = False
    for f in a.facts:
        if f.subset == "a":
            x, y = a.judgments[f.item_id].scores[0], b.judgments[f.item_id].scores[0]  # type: ignore[index]
            tied |= x == 0 or y == 0
            cx, cy = (x > 0) + 0.5 * (x == 0), (y > 0) + 0.5 * (y == 0)
            wins_a, wins_b, n = wins_a + cx, wins_b + cy, n + 1
            only_b, only_a = only_b + max(cy - cx, 0), only_a + max(cx - cy, 0)
    subset = made.of("subset:a")
    assert subset is not None
    assert subset.value == pytest.approx((wins_b - wins_a) / n)
    assert (subset.a, subset.b) == pytest.approx((wins_a / n, wins_b / n))
    if not tied:
        assert (subset.low, subset.high) == pytest.approx(tango(only_b, only_a, n))
        assert subset.p == pytest.approx(mcnemar(int(only_b), int(only_a)))
    overall, b_category = made.of("overall"), made.of("category:B")
    assert overall is not None
    assert b_category is not None
    assert overall.value == pytest.approx((subset.value + b_category.value) / 2)  # type: ignore[operator]
    raw = [d.p for d in made.differences if d.scope.startswith("category:")]
    assert [d.p_adjusted for d in made.differences if d.scope.startswith("category:")] == holm(raw)


def test_flips_are_listed_worst_margin_first_and_errors_before_all() -> None:
    a = stored([1.0, 1.0, 1.0, -1.0, 1.0, 0.0], model="a")
    b = stored([-0.5, -3.0, None, 2.0, 1.0, 1.0], model="b")
    made = compare_pair(a, b)
    assert [f.item_id for f in made.broken] == ["i002", "i001", "i000"]
    assert [f.margin_b for f in made.broken] == [None, -3.0, -0.5]
    assert [(f.item_id, f.a, f.b) for f in made.fixed] == [("i003", 0, 1), ("i005", 0.5, 1)]
    assert (made.errors_a, made.errors_b) == (0, 1)


def test_overlap_is_stated_and_items_of_other_content_are_left_out() -> None:
    a, b = stored(random_scores(30, 1), model="a"), stored(random_scores(30, 2), model="b")
    fewer = {k: v for k, v in b.judgments.items() if k > "i009"}
    b = b._replace(judgments=fewer)
    changed = msgspec.structs.replace(a.facts[20], hash="other")
    a = a._replace(facts=(*a.facts[:20], changed, *a.facts[21:]))
    made = compare_pair(a, b)
    assert (made.n, made.asked, made.only_a, made.only_b) == (19, 30, 11, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"suite_hash": "g"}, "suite hash"),
        ({"suite": msgspec.structs.replace(CARD, name="other")}, "ran other"),
        ({"suite": msgspec.structs.replace(CARD, rules=Rules(name="tiny-2"))}, "other protocol"),
        ({"limit": 10}, "limit 10"),
    ],
)
def test_runs_of_another_question_are_refused(change: dict[str, Any], said: str) -> None:
    a = stored(random_scores(12, 1), model="a")
    b = stored(random_scores(12, 2), model="b", **{k: v for k, v in change.items() if k != "suite"})
    if "suite" in change:
        b = b._replace(run=msgspec.structs.replace(b.run, suite=change["suite"]))
    with pytest.raises(Undecided, match=said):
        compare([a, b])


def test_one_run_is_not_a_comparison() -> None:
    with pytest.raises(UsageError, match="two runs"):
        compare([stored([1.0])])


def test_undefined_scopes_keep_their_reason() -> None:
    card = msgspec.structs.replace(CARD, missing={"c": 7})
    made = compare_pair(stored([1.0, 0.5], model="a", card=card), stored([1.0, -0.5], model="b", card=card))
    overall = made.of("overall")
    assert overall is not None
    assert (overall.value, overall.reason) == (None, "B: 1 of 8 items present")
    assert any("partial" in note for note in made.notes)


def test_single_responses_compare_auc_by_influence() -> None:
    rng = np.random.default_rng(5)
    facts = tuple(
        Facts(item_id=f"i{i}", hash=str(i), subset="a", grades=(float(i % 2),), lengths=(1,)) for i in range(200)
    )
    card = msgspec.structs.replace(CARD, categories={"A": ("a",)})
    runs = []
    for model, signal in (("a", 1.5), ("b", 0.2)):
        scores = rng.normal(size=200) + signal * (np.arange(200) % 2)
        judgments = {
            f.item_id: Judgment(item_id=f.item_id, scores=(float(s),)) for f, s in zip(facts, scores, strict=True)
        }
        base = stored([1.0], model=model, card=card)
        runs.append(base._replace(facts=facts, judgments=judgments))
    made = compare_pair(*runs).of("overall")
    assert made is not None
    assert made.name == "auc"
    assert made.value < -0.1  # type: ignore[operator]
    assert made.high < 0  # type: ignore[operator]
    assert made.p < 0.001  # type: ignore[operator]
    same = compare_pair(runs[0], runs[0]).of("overall")
    assert same is not None
    assert same.low < 0 < same.high  # type: ignore[operator]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(6, 40))
def test_swapping_mirrors_and_order_does_not_matter(seed: int, cluster: int, n: int) -> None:
    a = stored(random_scores(n, seed), model="a", cluster=cluster)
    b = stored(random_scores(n, seed + 1), model="b", cluster=cluster)
    there, back = compare_pair(a, b), compare_pair(b, a)
    order = np.random.default_rng(seed).permutation(n)
    shuffled = compare_pair(a._replace(facts=tuple(a.facts[i] for i in order)), b)
    assert [f.item_id for f in there.broken] == [f.item_id for f in back.fixed] == [f.item_id for f in shuffled.broken]
    for one, two, three in zip(there.differences, back.differences, shuffled.differences, strict=True):
        close = {"abs": 1e-8}
        assert (one.a, one.b) == (pytest.approx(two.b, **close), pytest.approx(two.a, **close))
        if one.low is None:
            assert two.low is None
            assert one.reason
            continue
        assert two.high is not None
        assert one.low == pytest.approx(-two.high, **close)
        assert one.high == pytest.approx(-two.low, **close)  # type: ignore[operator]
        assert one.low - 1e-12 <= one.value <= one.high + 1e-12  # type: ignore[operator]
        assert one.p == pytest.approx(two.p, **close)
        assert (three.low, three.high, three.p) == (
            pytest.approx(one.low, **close), pytest.approx(one.high, **close), pytest.approx(one.p, **close)
        )  # fmt: skip
        if one.p_adjusted is not None:
            assert one.p_adjusted >= one.p - 1e-12  # type: ignore[operator]


def test_cloning_items_within_clusters_leaves_the_difference_and_its_error() -> None:
    x, y = random_scores(60, 1), random_scores(60, 2)

    def cloned(scores: list[float | None], copies: int, model: str) -> Stored:
        base = stored(scores, model=model)
        facts, judgments = [], {}
        for f in base.facts:
            for c in range(copies):
                again = msgspec.structs.replace(f, item_id=f"{f.item_id}-{c}", cluster=f.item_id)
                facts.append(again)
                judgments[again.item_id] = msgspec.structs.replace(base.judgments[f.item_id], item_id=again.item_id)
        return base._replace(facts=tuple(facts), judgments=judgments)

    once, thrice = (compare_pair(cloned(x, k, "a"), cloned(y, k, "b")) for k in (1, 3))
    for one, three in zip(once.differences, thrice.differences, strict=True):
        assert three.value == pytest.approx(one.value)
        assert three.se == pytest.approx(one.se)


def test_ranks_are_groups_and_the_best_is_overstated() -> None:
    runs = [stored(random_scores(400, 10 + k, shift), model=f"m{k}") for k, shift in enumerate((0.0, 1.2, 1.25, 2.5))]
    made = compare(runs).ranking
    assert made is not None
    assert next(m.model for m in made.models) == "m3"
    by_name = {m.model: (m.best, m.worst) for m in made.models}
    assert by_name["m3"] == (1, 1)
    assert by_name["m0"] == (4, 4)
    assert by_name["m1"] == by_name["m2"] == (2, 3)
    assert 0 < made.overstated < 0.05
    again = rank(runs, [r.run.model for r in runs], shared_facts(runs))
    assert again == made


def test_equal_models_share_one_rank() -> None:
    runs = [stored(random_scores(60, 3), model=f"m{k}") for k in range(3)]
    made = compare(runs).ranking
    assert made is not None
    assert {(m.best, m.worst) for m in made.models} == {(1, 3)}
    assert made.overstated == 0


def test_two_runs_of_one_model_are_told_apart() -> None:
    a, b = stored([1.0, -1.0], fingerprint="aaaaaaaa"), stored([1.0, 1.0], fingerprint="bbbbbbbb")
    made = compare([a, b]).pairs[0]
    assert (made.a, made.b) == ("m (aaaaaaaa)", "m (bbbbbbbb)")


def test_a_difference_within_the_numerical_noise_is_called_so() -> None:
    a = stored([1.0] * 30)
    for floor, scopes in ((0.06, "overall, B, micro"), (0.11, "overall, A, B, micro"), (0.01, "B")):
        b = stored([-1.0] + [1.0] * 29, model="b", info={"noise_floor": floor})
        assert compare_pair(a, b).notes == (
            f"b: numerical noise alone flips {100 * floor:.2f} % of its items",
            f"not larger than that noise: the difference in {scopes}",
        )
    assert not compare_pair(a, stored([1.0] * 30, model="b")).notes


def voted(verdicts: list[int], votes: list[int], model: str) -> Stored:
    """Verdicts on pairs with ``votes[i]`` human votes each, all for the first answer, four pairs a question."""
    card = msgspec.structs.replace(
        CARD, categories={"A": ("a",)}, rules=Rules(name="tiny-1", metrics={"*": "mt-bench-agreement"})
    )
    base = stored([1.0 - 2.0 * v for v in verdicts], model=model, card=card, cluster=4)
    facts = tuple(
        msgspec.structs.replace(f, meta={"votes": [("x", 0)] * n}) for f, n in zip(base.facts, votes, strict=True)
    )
    return base._replace(facts=facts)


def test_a_share_of_votes_is_paired_by_item_with_its_weight() -> None:
    rng = np.random.default_rng(0)
    votes = [int(v) for v in rng.integers(1, 4, 80)]
    a = [int(v) for v in rng.random(80) < 0.2]
    b = [1 - v if i % 20 == 0 else v for i, v in enumerate(a)]
    made = compare_pair(voted(a, votes, "a"), voted(b, votes, "b"))
    d = made.of("subset:a")
    assert d is not None
    moved = [(x - y) * w for x, y, w in zip(a, b, votes, strict=True)]
    assert d.value == pytest.approx(sum(moved) / sum(votes))
    assert (d.better, d.worse) == (sum(m > 0 for m in moved), sum(m < 0 for m in moved))
    assert len(made.broken) == d.worse
    # Four of eighty pairs moved: the interval is as wide as they say, not as twenty questions alone would allow.
    assert d.se is not None
    assert d.high - d.low < 6 * d.se  # type: ignore[operator]
    assert d.p_method.startswith("sign flip")
    micro = made.of("micro")
    assert micro is not None
    assert micro.reason == "not a mean of item credits: a"
    same = compare_pair(voted(a, votes, "a"), voted(a, votes, "b")).of("subset:a")
    assert same is not None
    assert same.high > 0.1  # type: ignore[operator]


def test_ranks_resolve_models_that_differ_alike_on_every_item() -> None:
    always, never = stored([1.0] * 60, model="always"), stored([0.0] * 60, model="ties")
    made = compare([always, never, stored([0.0] * 60, model="more ties")]).ranking
    assert made is not None
    assert [(m.model, m.best, m.worst) for m in made.models] == [
        ("always", 1, 1), ("ties", 2, 3), ("more ties", 2, 3),
    ]  # fmt: skip
    few = compare([stored([x] * 6, model=str(x)) for x in (1.0, 0.0, -1.0)]).ranking
    assert few is not None
    assert {(m.best, m.worst) for m in few.models} == {(1, 3)}


def test_without_an_overall_models_are_ranked_by_the_first_category() -> None:
    card = msgspec.structs.replace(CARD, rules=Rules(name="tiny-1", overall="none", metrics={"c": "kendall"}))
    made = compare([stored(random_scores(90, k), model=f"m{k}", card=card) for k in range(3)])
    assert made.ranking is not None
    assert (made.ranking.scope, made.ranking.n, len(made.pairs)) == ("category:A", 30, 2)
    card = msgspec.structs.replace(CARD, missing={"a": 1, "b": 1}, rules=Rules(name="tiny-1", metrics={"*": "kendall"}))
    none = compare([stored(random_scores(90, k), model=f"m{k}", card=card) for k in range(3)])
    assert none.ranking is None
    assert len(none.pairs) == 2


def test_a_subset_of_one_item_does_not_decide_ranks() -> None:
    card = msgspec.structs.replace(CARD, categories={"A": ("a",), "B": ("b",)})
    runs = []
    for k in range(3):
        base = stored(random_scores(40, 7), model=f"m{k}", card=card)
        # One item of b; the others are of a.
        facts = tuple(msgspec.structs.replace(f, subset="b" if i == 0 else "a") for i, f in enumerate(base.facts))
        judgments = base.judgments | {"i000": Judgment(item_id="i000", scores=(float(k), 1.0))}
        runs.append(base._replace(facts=facts, judgments=judgments))
    made = compare(runs).ranking
    assert made is not None
    assert made.scope == "micro"
    assert {(m.best, m.worst) for m in made.models} == {(1, 3)}


def test_the_margin_of_equal_answers_is_how_far_apart_they_are_put() -> None:
    card = msgspec.structs.replace(CARD, categories={"A": ("a",)}, rules=Rules(name="tiny-1", gold_ties="class"))
    runs = []
    for model, scores in (("a", [0.0, 0.0]), ("b", [2.5, -0.5])):
        base = stored(list(scores), model=model, card=card)
        runs.append(base._replace(facts=tuple(msgspec.structs.replace(f, grades=(1, 1)) for f in base.facts)))
    assert [(f.item_id, f.margin_b) for f in compare_pair(*runs).broken] == [("i000", -2.5), ("i001", -0.5)]
