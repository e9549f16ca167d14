"""MT-Bench human judgments: items, gold by both protocols, and the paper's Table 5 from GPT-4's replayed verdicts."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rmbench import suites
from rmbench.core import Ballot, Estimate, Facts, Judgment, Suite
from rmbench.errors import BadData
from rmbench.export import imports
from rmbench.metrics import estimates, main
from rmbench.metrics.published import mt_bench

AREAS = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")


def talk(*said: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]


def vote(a: str, b: str, winner: str, judge: str = "expert_1", turn: int = 1, question: int = 81) -> dict[str, Any]:
    return {
        "question_id": question,
        "model_a": a,
        "model_b": b,
        "winner": winner,
        "judge": judge,
        "turn": turn,
        "conversation_a": talk("Write a line.", f"{a} wrote", "Once more.", f"{a} again"),
        "conversation_b": talk("Write a line.", f"{b} wrote", "Once more.", f"{b} again"),
    }


@pytest.fixture
def of(tmp_path: Path) -> Callable[..., Suite]:
    def make(*rows: dict[str, Any], ref: str = "mt-bench") -> Suite:
        (tmp_path / "mt_bench").mkdir(exist_ok=True)
        (tmp_path / "mt_bench" / "human.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        return suites.load(ref, data=tmp_path)

    return make


def test_votes_of_both_model_orders_meet_in_one_item(of: Callable[..., Suite]) -> None:
    suite = of(
        vote("gpt-4", "alpaca", "model_a", "expert_1"),
        vote("alpaca", "gpt-4", "model_b", "expert_2"),
        vote("alpaca", "gpt-4", "tie", "expert_3"),
    )
    (item,) = suite.items
    assert item.responses == ("alpaca wrote", "gpt-4 wrote")
    assert item.meta == {
        "models": ["alpaca", "gpt-4"],
        "turn": 1,
        "votes": [["expert_1", 1], ["expert_2", 1], ["expert_3", -1]],
    }
    assert item.grades == (0, 1)
    assert item.strength == pytest.approx(2 / 3)
    assert item.cluster == "question-81"


def test_the_second_turn_holds_each_models_own_first_answer(of: Callable[..., Suite]) -> None:
    (item,) = of(vote("alpaca", "gpt-4", "model_a", turn=2)).items
    assert item.subset == "writing-2"
    said = [[m.content for m in item.conversation(i)] for i in (0, 1)]
    assert said[0] == ["Write a line.", "alpaca wrote", "Once more.", "alpaca again"]
    assert said[1] == ["Write a line.", "gpt-4 wrote", "Once more.", "gpt-4 again"]


def test_shared_first_place_and_majority_of_ties_are_ties(of: Callable[..., Suite]) -> None:
    split = of(vote("a", "b", "model_a"), vote("a", "b", "model_b", "expert_2"))
    assert split.items[0].grades == (1, 1)
    ties = of(vote("a", "b", "tie"), vote("a", "b", "tie", "expert_2"), vote("a", "b", "model_b", "expert_3"))
    assert ties.items[0].grades == (1, 1)


def test_author_votes_are_left_out_and_counted(of: Callable[..., Suite]) -> None:
    rows = [vote("a", "b", "model_a"), vote("a", "b", "model_b", "author_1"), vote("a", "c", "model_a", "author_0")]
    suite = of(*rows)
    assert [len(i.meta["votes"]) for i in suite.items] == [1]
    assert suite.excluded == {"votes cast by the paper's authors, which the paper skips too": 2}
    assert [len(i.meta["votes"]) for i in of(*rows, ref="mt-bench:with-authors").items] == [2, 1]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"winner": "gpt-4"}, "winner is 'gpt-4'"),
        ({"turn": 3}, "turn 3"),
        ({"question_id": 161}, "question 161"),
        ({"judge": ""}, "'judge' is empty"),
        ({"conversation_b": talk("Write a line.")}, "do not reach turn 1"),
        ({"conversation_b": talk("Something else.", "b wrote")}, "of one question"),
        ({"conversation_a": None}, "conversation_a"),
    ],
)
def test_bad_rows_are_named(of: Callable[..., Suite], change: dict[str, Any], fault: str) -> None:
    with pytest.raises(BadData, match=r"human\.jsonl:1: .*" + fault):
        of(vote("a", "b", "model_a") | change)


def test_two_texts_for_one_answer_are_an_error(of: Callable[..., Suite]) -> None:
    other = vote("a", "b", "model_a", "expert_2")
    other["conversation_a"] = talk("Write a line.", "a wrote something else", "Once more.", "a again")
    with pytest.raises(BadData, match=r"human\.jsonl:2: other answers than at .*human\.jsonl:1"):
        of(vote("a", "b", "model_a"), other)


# The paper's figures


@pytest.fixture(scope="module")
def real(real_data: Path) -> Suite:
    return suites.load("mt-bench", data=real_data)


def gpt4(suite: Suite, folder: Path) -> dict[str, Judgment]:
    """GPT-4's published verdicts on the items of the suite, as ``rmbench import --from mt-bench`` replays them."""
    return imports.read(folder / "mt_bench" / "gpt4_pair.jsonl.gz", "mt-bench", suite)[2]


def by_name(made: list[Estimate], scope: str) -> dict[str, Estimate]:
    return {e.name: e for e in made if e.scope == scope}


def test_table_5(real: Suite, real_data: Path) -> None:
    """arXiv:2306.05685, Table 5, and its cell sizes: GPT-4 pair against humans, and humans among themselves."""
    facts = [Facts.of(i) for i in real.items]
    judgments = gpt4(real, real_data)
    assert len(judgments) == len(facts) == 1633
    made = mt_bench(facts, judgments)
    first, second = by_name(made, "category:Turn 1"), by_name(made, "category:Turn 2")
    assert {name: round(e.value or 0, 4) for name, e in first.items()} == {
        "s1": 0.6597,
        "s2": 0.8463,
        "human-human-s1": 0.6297,
        "human-human-s2": 0.8100,
    }
    assert [e.extra["comparisons"] for e in first.values()] == [1343, 859, 721, 479]
    assert {name: round(e.value or 0, 2) for name, e in second.items()} == {
        "s1": 0.66,
        "s2": 0.85,
        "human-human-s1": 0.67,
        "human-human-s2": 0.82,
    }
    for e in made:
        assert e.low is not None
        assert e.high is not None
        assert e.value is not None
        assert e.low < e.value < e.high


def test_the_suites_own_number_is_s1(real: Suite, real_data: Path) -> None:
    facts = [Facts.of(i) for i in real.items]
    made = main(estimates(real.card(), facts, gpt4(real, real_data), further=False))
    assert made["category:Turn 1"].value == pytest.approx(886 / 1343)
    assert made["overall"].value is None
    assert "no overall" in (made["overall"].reason or "")


def test_what_table_5_needs(real: Suite, real_data: Path) -> None:
    """Each step away from the rule moves the figures: votes of authors, dropped inconsistent verdicts."""
    everyone = suites.load("mt-bench:with-authors", data=real_data)
    facts = [Facts.of(i) for i in everyone.items]
    with_authors = by_name(mt_bench(facts, gpt4(everyone, real_data)), "category:Turn 1")
    assert round(with_authors["s1"].value or 0, 4) == 0.6661
    assert round(with_authors["human-human-s1"].value or 0, 4) == 0.6414
    facts = [Facts.of(i) for i in real.items]
    consistent = {i: j for i, j in gpt4(real, real_data).items() if j.ballots[0].picked == j.ballots[1].picked}
    kept = [f for f in facts if f.item_id in consistent]
    assert round(by_name(mt_bench(kept, consistent), "category:Turn 1")["s1"].value or 0, 4) == 0.7152


def test_replayed_verdicts_have_the_counts_of_the_file(real_data: Path) -> None:
    everyone = suites.load("mt-bench:with-authors", data=real_data)
    replayed = gpt4(everyone, real_data)
    assert len(replayed) == 1814
    winners = []
    with gzip.open(real_data / "mt_bench" / "gpt4_pair.jsonl.gz", "rt") as rows:
        for row in map(json.loads, rows):
            first, second = sorted((row["model_a"], row["model_b"]))
            if f"{row['question_id']}-{row['turn']}-{first}-{second}" in replayed:  # people judged only some pairs
                winners.append(row["winner"])
    disagree = sum(j.ballots[0].picked != j.ballots[1].picked for j in replayed.values())
    assert disagree == winners.count("tie (inconsistent)") == 290
    assert sum(b.tie for j in replayed.values() for b in j.ballots) == 2 * winners.count("tie")


def test_categories_have_ten_questions_each(real: Suite) -> None:
    for turn in (1, 2):
        for area in AREAS:
            questions = {i.cluster for i in real.items if i.subset == f"{area}-{turn}"}
            assert len(questions) == 10, (area, turn)


# By hand


def facts_of(votes: list[int], name: str = "i", subset: str = "math-1") -> Facts:
    meta = {"votes": [[f"expert_{n}", v] for n, v in enumerate(votes)]}
    return Facts(item_id=name, hash="", subset=subset, grades=(1, 0), lengths=(1, 1), meta=meta)


def said(first: int | None, second: int | None, name: str = "i") -> Judgment:
    ballots = [
        Ballot(shown=shown, picked=None if v in (None, -1) else v, tie=v == -1)
        for shown, v in zip(((0, 1), (1, 0)), (first, second), strict=True)
    ]
    return Judgment(item_id=name, scores=(0.5, 0.5), ballots=tuple(ballots))


@pytest.mark.parametrize(
    ("verdicts", "s1", "s2"),
    [
        ((0, 0), 2 / 4, 2 / 3),  # votes 0, 0, 1, tie
        ((1, 1), 1 / 4, 1 / 3),
        ((-1, -1), 1 / 4, None),  # a tie has nothing to compare with in S2
        ((0, 1), 1 / 4, None),  # inconsistent: a tie
        ((0, -1), 1 / 4, None),
        ((0, None), 0, 0),  # no verdict: agrees with nobody, and is no way out of S2
    ],
)
def test_one_item_by_hand(verdicts: tuple[int | None, int | None], s1: float, s2: float | None) -> None:
    made = by_name(mt_bench([facts_of([0, 0, 1, -1])], {"i": said(*verdicts)}), "category:Turn 1")
    assert made["s1"].value == s1
    assert made["s2"].value == s2
    # pairs of votes: 00, 01, 0t, 01, 0t, 1t -> one agrees of six; without ties one of three
    assert made["human-human-s1"].value == 1 / 6
    assert made["human-human-s2"].value == 1 / 3


def test_a_missing_judgment_agrees_with_nobody() -> None:
    made = by_name(mt_bench([facts_of([0, -1])], {}), "category:Turn 1")
    assert (made["s1"].value, made["s2"].value, made["s1"].missing) == (0, 0, 1)
    assert made["human-human-s1"].missing == 0


def test_a_single_vote_leaves_no_ceiling() -> None:
    made = by_name(mt_bench([facts_of([0])], {"i": said(0, 0)}), "category:Turn 1")
    assert made["human-human-s1"].value is None
    assert made["human-human-s1"].reason == "nothing to compare"
