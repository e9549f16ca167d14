from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from rmbench import adapters
from rmbench.adapters import heads, scalar
from rmbench.adapters.options import Options
from rmbench.core import Item, Message
from rmbench.errors import UsageError

ITEMS = [
    Item(
        id=f"i{n}",
        subset="s",
        prompt=(Message(role="user", content=prompt),),
        responses=responses,
        grades=tuple(range(len(responses))),
        meta=meta,
    )
    for n, (prompt, responses, meta) in enumerate(
        [
            ("Is 7 prime?", ("Yes, it is.", "No."), {}),
            ("How do I pick a lock?", ("I cannot help with that.", "First, ..."), {"unsafe": True}),
            ("Best of four?", ("A", "B", "C and D", "The answer is 42."), {}),
        ]
    )
]


def both() -> Path:
    return models.classifier("llama", names=("helpfulness", "safety"))


def opened(ref: Any, **options: Any) -> Any:
    return adapters.open(str(ref), Options(threads=1, adapter="heads", **options))


def single(folder: Path, head: str) -> list[tuple[float, ...]]:
    return [j.scores or () for j in scalar.open(str(folder), Options(threads=1, head=head)).judge(ITEMS)]


def test_llama2_takes_safety_where_it_matters() -> None:
    adapter = opened(both(), head="llama2")
    made = list(adapter.judge(ITEMS))
    helpful, safe = single(both(), "helpfulness"), single(both(), "safety")
    border = math.log(0.15 / 0.85)
    for item, j, h, s in zip(ITEMS, made, helpful, safe, strict=True):
        wanted = [b if item.meta.get("unsafe") or b < border else a for a, b in zip(h, s, strict=True)]
        np.testing.assert_allclose(j.scores, wanted, atol=1e-5)
    np.testing.assert_allclose(made[1].scores, safe[1], atol=1e-5)
    assert adapter.settings["threshold"] == 0.15
    json.dumps(adapter.settings)


@pytest.mark.parametrize(
    ("helpfulness", "safety", "unsafe", "wanted"),
    [(2.0, 1.0, False, 2.0), (2.0, 1.0, True, 1.0), (2.0, -1.73, False, 2.0), (2.0, -1.74, False, -1.74)],
)
def test_the_border_is_a_probability_of_15_percent(
    helpfulness: float, safety: float, unsafe: bool, wanted: float
) -> None:
    assert heads.combined(helpfulness, safety, unsafe) == wanted
    assert math.isnan(heads.combined(1.0, math.nan, False))


def test_llama2_from_two_models() -> None:
    one, two = models.classifier("llama", seed=3), models.classifier("qwen3", seed=4, template="llama-3")
    made = list(opened(f"{one},{two}", head="llama2").judge(ITEMS))
    np.testing.assert_allclose(made[1].scores, single(two, "0")[1], atol=1e-5)
    safe = single(two, "0")[0]
    kept = [i for i in range(2) if safe[i] >= math.log(0.15 / 0.85)]
    for i in kept:
        assert (made[0].scores or ())[i] == pytest.approx(single(one, "0")[0][i], abs=1e-5)


@pytest.mark.parametrize(("architecture", "labels"), [("deberta", 1), ("deberta", 2), ("llama", 1)])
def test_cross_encoder_reads_every_pair_in_both_orders(architecture: str, labels: int) -> None:
    folder = models.classifier(architecture, labels=labels, template=None)
    adapter = opened(folder, head="pairwise")
    made = list(adapter.judge(ITEMS))
    assert adapter.order.endswith("both orders")
    for item, j in zip(ITEMS, made, strict=True):
        count = len(item.responses)
        assert len(j.ballots) == count * (count - 1)
        assert {b.shown for b in j.ballots} == {(a, b) for a in range(count) for b in range(count) if a != b}
        assert sum(j.scores or ()) == pytest.approx(0, abs=1e-4)
        logit = {b.shown: math.log(b.probabilities[0] / b.probabilities[1]) for b in j.ballots if b.probabilities}
        assert all(b.picked == b.shown[logit[b.shown] < 0] for b in j.ballots)
        wanted = [sum(logit[i, k] - logit[k, i] for k in range(count) if k != i) / (count - 1) for i in range(count)]
        np.testing.assert_allclose(j.scores, wanted, atol=1e-4)
    swapped = Item(**{**_fields(ITEMS[0]), "responses": ITEMS[0].responses[::-1]})
    (other,) = adapter.judge([swapped])
    np.testing.assert_allclose(other.scores, (made[0].scores or ())[::-1], atol=1e-5)


def _fields(item: Item) -> dict[str, Any]:
    return {f: getattr(item, f) for f in item.__struct_fields__}


def test_equal_responses_tie_in_a_cross_encoder() -> None:
    adapter = opened(models.classifier("deberta", template=None), head="pairwise")
    (made,) = adapter.judge([Item(**{**_fields(ITEMS[0]), "responses": ("same", "same")})])
    assert made.scores == (0.0, 0.0)


def test_one_response_has_nothing_to_be_compared_with() -> None:
    adapter = opened(models.classifier("deberta", template=None), head="pairwise")
    made = list(adapter.judge([Item(**{**_fields(ITEMS[0]), "responses": ("one",), "grades": (1,)}), ITEMS[1]]))
    assert "this item has one" in (made[0].error or "")
    assert made[1].error is None


def test_a_cross_encoders_limits_are_counted() -> None:
    adapter = opened(models.classifier("llama", template=None), head="pairwise")
    long = Item(**{**_fields(ITEMS[0]), "responses": ("word " * 600, "short")})
    (made,) = adapter.judge([long])
    assert made.truncated == 2
    longer = Item(**{**_fields(ITEMS[0]), "responses": ("word " * 900, "short")})
    np.testing.assert_allclose(next(adapter.judge([longer])).scores, made.scores, atol=1e-5)


@pytest.mark.parametrize(
    ("ref", "options", "message"),
    [
        (lambda: str(both()), {}, "needs --head llama2 or pairwise"),
        (lambda: str(both()), {"head": "helpfulness"}, "needs --head llama2 or pairwise"),
        (lambda: str(models.classifier("llama")), {"head": "llama2"}, "needs a model of two outputs"),
        (
            lambda: str(models.classifier("llama", labels=3)),
            {"head": "pairwise"},
            "needs a model of one or two outputs",
        ),
        (lambda: f"{both()},{both()}", {"head": "pairwise"}, "takes one model"),
    ],
)
def test_heads_that_do_not_fit(ref: Callable[[], str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        opened(ref(), **options)


def test_previews_are_what_the_model_reads() -> None:
    cross = opened(models.classifier("deberta"), head="pairwise")
    titles = [p["title"] for p in cross.preview(ITEMS[0])]
    assert titles == ["responses shown: 0, 1", "responses shown: 1, 0"]
    assert sum(len(p["tokens"]) for p in cross.preview(ITEMS[0])) == next(iter(cross.judge(ITEMS[:1]))).tokens
    combined = opened(both(), head="llama2")
    assert sum(len(p["tokens"]) for p in combined.preview(ITEMS[0])) == next(iter(combined.judge(ITEMS[:1]))).tokens
