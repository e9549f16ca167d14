"""Baselines: what each one scores, one seed by whatever spelling, and scripts that replay or say what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rmbench import adapters
from rmbench.core import Item, Message
from rmbench.errors import RmbenchError

ITEM = Item(
    id="x", subset="s", prompt=(Message(role="user", content="?"),), responses=("long one", "b", "cc"), grades=(0, 2, 1)
)


def scores(ref: str, *items: Item) -> list[Any]:
    return [j.scores for j in adapters.open(ref).judge(items or (ITEM,))]


@pytest.mark.parametrize(
    ("ref", "made"),
    [
        ("length:longest", (8, 1, 2)),
        ("length:shortest", (-8, -1, -2)),
        ("constant", (0, 0, 0)),
        ("oracle", (0, 2, 1)),
    ],
)
def test_a_baseline_scores_by_its_rule(ref: str, made: tuple[float, ...]) -> None:
    assert scores(ref) == [made]


def test_a_seed_is_a_number_however_it_is_written() -> None:
    (seven,) = scores("random:7")
    for same in ("random:007", "random:+7", "random:٧"):
        assert adapters.open(same).settings == adapters.open("random:7").settings
        assert scores(same) == [seven]
    assert scores("random") == scores("random:0") != scores("random:-1") != [seven]
    other = Item(id="y", subset="s", prompt=ITEM.prompt, responses=("a",), grades=(1,))
    assert scores("random:7", other, ITEM)[1] == seven  # what else is in the batch does not matter


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("random:x", "random:x: the seed must be a whole number"),
        ("random:" + "9" * 5000, "the seed must be a whole number"),
        ("length:wide", "did you mean length:longest"),
        ("constant:3", "did you mean constant"),
        ("scripted:", "did you mean scripted:FILE"),
        ("scripted:absent.jsonl", "script absent.jsonl cannot be read: No such file"),
    ],
)
def test_what_is_no_baseline_is_said(ref: str, said: str) -> None:
    with pytest.raises(RmbenchError, match=said):
        adapters.open(ref)


def test_a_script_replays_scores_ballots_and_errors(tmp_path: Path) -> None:
    pair = [Item(id=n, subset="s", prompt=ITEM.prompt, responses=("a", "b"), grades=(1, 0)) for n in "abcdef"]
    lines: list[dict[str, Any]] = [
        {"item_id": "a", "scores": [1.5, -0.2]},
        {"item_id": "b", "ballots": [{"shown": [0, 1], "picked": 0}, {"shown": [1, 0], "picked": 1}]},
        {"item_id": "c", "scores": [1.0, None]},
        {"item_id": "d", "scores": [1.0]},
        {"item_id": "e", "error": "refused"},
    ]
    file = tmp_path / "script.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = list(adapters.open(f"scripted:{file}").judge(pair))
    assert [j.scores for j in made] == [(1.5, -0.2), (0.5, 0.5), None, None, None, None]
    assert [j.error for j in made[2:]] == [
        "score not finite (response 1: nan)",
        "the script gives 1 scores for 2 responses",
        "refused",
        "the script has no line for this item",
    ]
    file.write_text(file.read_text() * 2)
    with pytest.raises(RmbenchError, match=r"script\.jsonl:6: a second line for item 'a'"):
        adapters.open(f"scripted:{file}")
