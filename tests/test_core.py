"""The types refuse what must not exist."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from rmbench.core import Ballot, Estimate, Item, Judgment, Message, fingerprint

ITEM = Item(id="x", subset="s", prompt=(Message(role="user", content="hi"),), responses=("a", "b"), grades=(1, 0))


@pytest.mark.parametrize("scores", [(math.nan, 1.0), (1.0, math.inf), (-math.inf, 0.0)])
def test_a_score_that_is_not_finite_is_an_error_not_a_loss(scores: tuple[float, ...]) -> None:
    judgment = Judgment.of(ITEM, scores)
    assert judgment.scores is None
    assert judgment.error is not None
    assert "not finite" in judgment.error
    with pytest.raises(ValueError, match="not finite"):
        Judgment(item_id="x", scores=scores)


def test_scores_and_error_never_both_never_none() -> None:
    with pytest.raises(ValueError, match="not both"):
        Judgment(item_id="x", scores=(1.0, 0.0), error="no")
    with pytest.raises(ValueError, match="not both"):
        Judgment(item_id="x")


def test_an_undefined_estimate_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="gives no reason"):
        Estimate(name="accuracy", scope="overall", value=None)
    with pytest.raises(ValueError, match="holds nan"):
        Estimate(name="accuracy", scope="overall", value=math.nan)


def pick(shown: tuple[int, int], picked: int | None, **more: object) -> Ballot:
    return Ballot(shown=shown, picked=picked, **more)


def test_ballots_become_mean_credits_over_orders() -> None:
    both = [pick((0, 1), 0), pick((1, 0), 1)]  # always the first shown
    assert Judgment.voted(ITEM, both).scores == (0.5, 0.5)
    three = [pick((0, 1), 0), pick((0, 1), 0), pick((0, 1), 1), pick((1, 0), 0)]
    assert Judgment.voted(ITEM, three).scores == pytest.approx(((2 / 3 + 1) / 2, (1 / 3) / 2))
    tie = [Ballot(shown=(0, 1), tie=True), pick((1, 0), 0)]
    assert Judgment.voted(ITEM, tie).scores == (0.75, 0.25)


def test_an_order_without_a_verdict_is_an_error_that_keeps_its_ballots() -> None:
    ballots = [pick((0, 1), 0), Ballot(shown=(1, 0), text="hmm", error="unparsable")]
    judgment = Judgment.voted(ITEM, ballots)
    assert judgment.scores is None
    assert judgment.error == "no valid verdict of 1 with responses shown as [1, 0]: unparsable"
    assert judgment.ballots == tuple(ballots)
    assert Judgment.voted(ITEM, []).error == "no ballots"
    pointwise = [Ballot(shown=(0,), rating=7.0)]
    assert Judgment.voted(ITEM, pointwise).error == "response 1 was never shown"


def test_hashes_see_every_character_and_no_key_order() -> None:
    assert ITEM.content_hash() != replace(ITEM, responses=("a", "b ")).content_hash()
    assert ITEM.content_hash() != replace(ITEM, strength=1.0).content_hash()
    assert fingerprint({"a": 1, "b": {"x": 1, "y": 2}}) == fingerprint({"b": {"y": 2, "x": 1}, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_conversations_follow_the_turns() -> None:
    turns = tuple((Message(role="assistant", content=c), Message(role="user", content="more")) for c in "xy")
    item = Item(id="x", subset="s", prompt=ITEM.prompt, responses=("a", "b"), grades=(1, 0), turns=turns)
    assert [m.content for m in item.conversation(1)] == ["hi", "y", "more", "b"]
