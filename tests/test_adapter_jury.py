"""Juries of finished runs: how votes count, what is refused, how much jurors agree."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench import adapters, store
from rmbench.adapters.jury import Jury
from rmbench.adapters.options import Options
from rmbench.core import SCHEMA, Facts, Item, Judgment, Message, Rules, Run, Suite, fingerprint
from rmbench.errors import UnknownName, UsageError
from rmbench.loop import evaluate

Scores = Mapping[str, Sequence[float] | None]


def item(name: str, *grades: float, cluster: str | None = None) -> Item:
    texts = tuple(f"{name} response {i}" for i in range(len(grades)))
    asked = (Message(role="user", content=name),)
    return Item(id=name, subset="s", prompt=asked, responses=texts, grades=grades, cluster=cluster)


def suite(items: Sequence[Item]) -> Suite:
    return Suite(
        name="made", version="1", about="", categories={"s": ("s",)}, rules=Rules(name="r"), source="file:x",
        licence="", citation="", items=tuple(items),
    )  # fmt: skip


def stored(root: Path, of: Suite, model: str, scores: Scores, **changes: object) -> Path:
    judgments = {
        name: Judgment(item_id=name, scores=tuple(s)) if s is not None else Judgment(item_id=name, error="mute")
        for name, s in scores.items()
    }
    settings = {"model": model}
    run = Run(
        schema=SCHEMA, status="imported", model=model, adapter="scalar", engine=None, fingerprint=fingerprint(settings),
        settings=settings, suite=of.card(), suite_hash=of.content_hash(), n=len(of.items),
    )  # fmt: skip
    return store.import_run(root, run, [Facts.of(i) for i in of.items], judgments)


def jury(root: Path, of: Suite, jurors: Mapping[str, Scores], weights: str | None = None) -> Jury:
    for model, scores in jurors.items():
        stored(root, of, model, scores)
    options = Options(adapter="jury", weights=weights, results=str(root), suite=of.name)
    made = adapters.open(",".join(jurors), options)
    assert isinstance(made, Jury)
    return made


def test_majority(tmp_path: Path) -> None:
    of = suite([item("x", 1, 0), item("y", 1, 0), item("z", 1, 0)])
    made = jury(tmp_path, of, {
        "a": {"x": [2, 1], "y": [0, 9], "z": [1, 1]},
        "b": {"x": [5, 1], "y": [1, 2], "z": [3, 1]},
        "c": {"x": [0, 1], "y": [2, 1], "z": None},
    })  # fmt: skip
    x, y, z = made.judge(of.items)
    assert x.scores == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert y.scores == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert z.scores == (0.75, 0.25)
    assert [(b.judge, b.picked, b.tie, b.error) for b in z.ballots] == [
        ("a", None, True, None), ("b", 0, False, None), ("c", None, False, "mute"),
    ]  # fmt: skip


def test_mean_rank_of_a_ranking_and_of_binary_items(tmp_path: Path) -> None:
    of = suite([item("x", 3, 2, 1), item("p", 1), item("q", 0), item("r", 0)])
    jurors = {
        "a": {"x": [9, 5, 1], "p": [0.9], "q": [0.5], "r": [0.1]},
        "b": {"x": [9, 9, 1], "p": [7.0], "q": [8.0], "r": [-3.0]},
    }
    x, p, q, r = jury(tmp_path, of, jurors, "mean-rank").judge(of.items)
    assert x.scores == (0.875, 0.625, 0.0)
    assert (p.scores, q.scores, r.scores) == ((0.75,), (0.75,), (0.0,))
    voted = list(jury(tmp_path, of, jurors).judge(of.items))
    assert voted[0].scores == (0.75, 0.25, 0.0)
    assert voted[1].error == "a binary item has nothing to vote on; use --weights mean-rank"


def test_given_weights(tmp_path: Path) -> None:
    of = suite([item("x", 1, 0)])
    jurors = {"a": {"x": [1, 0]}, "b": {"x": [0, 1]}, "c": {"x": [0, 1]}}
    (judgment,) = jury(tmp_path, of, jurors, "3,1,1").judge(of.items)
    assert judgment.scores == (0.6, 0.4)
    (judgment,) = jury(tmp_path, of, {"a": {"x": None}, "b": {"x": [0, 1]}, "c": {"x": None}}, "1,0,1").judge(of.items)
    assert judgment.error == "every juror who judged this item has weight 0"


def skilled(names: Sequence[str], skill: float, seed: int) -> dict[str, list[float]]:
    draw = random.Random(seed)
    return {name: [1.0, 0.0] if draw.random() < skill else [0.0, 1.0] for name in names}


def test_learned_weights_find_the_good_juror(tmp_path: Path) -> None:
    items = [item(f"i{n}", 1, 0, cluster=f"c{n // 2}") for n in range(600)]
    names = [i.id for i in items]
    jurors = {
        "good": skilled(names, 0.95, 1), "fair": skilled(names, 0.55, 2), "poor": skilled(names, 0.3, 3),
        "bad": skilled(names, 0.3, 4),
    }  # fmt: skip
    of = suite(items)

    def right(weights: str) -> float:
        judgments = jury(tmp_path, of, jurors, weights).judge(of.items)
        return sum((j.scores or (0, 0))[0] > 0.5 for j in judgments) / len(items)

    learned = jury(tmp_path, of, jurors, "learned")
    weights = learned.info["weights"]
    assert weights["good"] == pytest.approx(math.log(0.95 / 0.05), abs=0.5)
    assert weights["bad"] == weights["poor"] == 0
    assert right("learned") > 0.9 > right("majority") + 0.1
    assert right("learned:0.5") > 0.9


def test_learned_weights_of_an_item_do_not_see_its_fold(tmp_path: Path) -> None:
    """Turning one item's grades round changes no judgment of that item or of its cluster."""
    items = [item(f"i{n}", 1, 0, cluster=f"c{n // 3}") for n in range(60)]
    names = [i.id for i in items]
    jurors = {name: skilled(names, skill, n) for n, (name, skill) in enumerate({"a": 0.8, "b": 0.6, "c": 0.7}.items())}
    before = {j.item_id: j for j in jury(tmp_path / "1", suite(items), jurors, "learned").judge(items)}
    for turned in (0, 17, 41):
        other = [item(i.id, 0, 1, cluster=i.cluster) if n == turned else i for n, i in enumerate(items)]
        made = jury(tmp_path / f"turned-{turned}", suite(other), jurors, "learned")
        after = {j.item_id: j for j in made.judge(other)}
        kin = [i.id for i in items if i.cluster == items[turned].cluster]
        assert [after[k].scores for k in kin] == [before[k].scores for k in kin]
        assert any(after[n].scores != before[n].scores for n in names)


def test_agreement_of_jurors(tmp_path: Path) -> None:
    of = suite([item(f"i{n}", 1, 0) for n in range(4)])
    yes, no = [1.0, 0.0], [0.0, 1.0]
    made = jury(tmp_path, of, {
        "a": {"i0": yes, "i1": yes, "i2": no, "i3": no},
        "b": {"i0": yes, "i1": no, "i2": no, "i3": no},
        "c": {"i0": yes, "i1": None, "i2": no, "i3": None},
    })  # fmt: skip
    found = {tuple(sorted(row["jurors"])): row for row in made.info["agreement"]}
    assert found["a", "b"] == {"jurors": ["b", "a"], "same": 0.75, "kappa": pytest.approx(0.5), "n": 4}
    assert (found["a", "c"]["same"], found["a", "c"]["kappa"], found["a", "c"]["n"]) == (1.0, pytest.approx(1.0), 2)


def test_a_jury_is_evaluated_like_any_other_model(tmp_path: Path) -> None:
    of = suite([item(f"i{n}", 1, 0) for n in range(30)])
    names = [i.id for i in of.items]
    made = jury(tmp_path, of, {n: skilled(names, 0.8, i) for i, n in enumerate("abc")})
    run = evaluate(made, of, model="a,b,c", adapter_name="jury", root=tmp_path)
    assert run.run.status == "complete"
    assert len(run.judgments) == 30
    assert run.run.order.startswith("as its jurors: ")


def test_what_a_jury_refuses(tmp_path: Path) -> None:
    of = suite([item("x", 1, 0)])
    other = suite([item("x", 0, 1)])
    for model in ("a", "b"):
        stored(tmp_path, of, model, {"x": [1, 0]})
    stored(tmp_path / "else", other, "c", {"x": [1, 0]})
    stranger = next((tmp_path / "else").glob("*/*"))

    def opened(ref: str, weights: str | None = None) -> Jury:
        made = adapters.open(ref, Options(adapter="jury", results=str(tmp_path), suite="made", weights=weights))
        assert isinstance(made, Jury)
        return made

    with pytest.raises(UsageError, match="two or more"):
        opened("a,a")
    with pytest.raises(UnknownName, match="unknown run 'nobody'"):
        opened("a,nobody")
    with pytest.raises(UsageError, match="runs of the same items"):
        opened(f"a,{stranger}")
    for weights in ("1", "1,2,3", "1,-1", "0,0", "best", "learned:0.9", "learned:x"):
        with pytest.raises(UsageError, match="--weights"):
            opened("a,b", weights)


def test_settings_name_the_runs_and_no_folder(tmp_path: Path) -> None:
    of = suite([item("x", 1, 0)])
    paths = [stored(tmp_path, of, model, {"x": [1, 0]}) for model in ("a", "b")]
    options = Options(adapter="jury", results=str(tmp_path), suite="made")
    by_path, by_name = adapters.open(",".join(map(str, paths)), options), adapters.open("a,b", options)
    assert by_path.settings == by_name.settings
    assert str(tmp_path) not in repr(by_path.settings)
    judgments = list(by_path.judge(of.items))
    assert {b.judge for b in judgments[0].ballots} == {"a", "b"}


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=2, max_size=5), st.permutations(range(3)))
def test_no_place_is_favoured(scores: list[list[int]], order: list[int]) -> None:
    """Responses that change places take their scores with them."""
    from rmbench.adapters.jury import _ranks, _votes

    for rule in (_votes, _ranks):
        for one in scores:
            assert [rule(one)[i] for i in order] == rule([one[i] for i in order])
