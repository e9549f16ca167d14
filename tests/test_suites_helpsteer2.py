"""HelpSteer2: which pairs are kept and why, weights, turns; and the preference set's signed strengths."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rmbench import suites
from rmbench.core import Suite
from rmbench.errors import BadData

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
Load = Callable[..., Suite]


@pytest.fixture
def of(tmp_path: Path) -> Load:
    def make(rows: list[dict[str, Any]], ref: str = "helpsteer2", file: str = "validation.jsonl") -> Suite:
        (tmp_path / "helpsteer2").mkdir(exist_ok=True)
        (tmp_path / "helpsteer2" / file).write_text("".join(json.dumps(r) + "\n" for r in rows))
        return suites.load(ref, data=tmp_path)

    return make


def pair(first: tuple[int, ...], second: tuple[int, ...], prompt: str = "Q") -> list[dict[str, Any]]:
    return [
        {"prompt": prompt, "response": f"{side} to {prompt}", **dict(zip(ATTRIBUTES, scores, strict=True))}
        for side, scores in (("first", first), ("second", second))
    ]


@pytest.mark.parametrize(("attribute", "kept"), [("helpfulness", 373), ("correctness", 354), ("coherence", 196)])
def test_the_published_counts_are_the_pairs_that_differ(of: Load, attribute: str, kept: int) -> None:
    """The rule, not the data: of 519 pairs, those that differ in the attribute are kept, the rest counted."""
    place = ATTRIBUTES.index(attribute)
    equal, better = (2, 2, 2, 2, 2), tuple(3 if i == place else 2 for i in range(5))
    rows = [r for n in range(519) for r in pair(better if n % 519 < kept else equal, equal, f"Q{n}")]
    suite = of(rows, f"helpsteer2:{attribute}")
    assert len(suite.items) == kept == suite.counts["validation"]
    assert suite.excluded == {f"equal in {attribute}": 519 - kept}
    assert suite.notes == (f"kept {kept} of 519 pairs: those that differ in {attribute}",)
    assert not suite.missing
    one_more = [*rows, *pair(better, equal, "one more")]
    with pytest.raises(BadData, match=f"has {kept + 1} items and should have {kept}"):
        of(one_more, f"helpsteer2:{attribute}")
    assert of(rows[:-2], f"helpsteer2:{attribute}").missing == {}
    assert of(rows[2:], f"helpsteer2:{attribute}").missing == {"validation": 1}


def test_other_attributes_do_not_matter(of: Load) -> None:
    suite = of(pair((3, 0, 0, 0, 4), (2, 4, 4, 4, 0)))
    assert suite.items[0].grades == (1, 0)
    assert suite.items[0].strength == 1
    assert of(pair((1, 0, 0, 0, 0), (4, 0, 0, 0, 0))).items[0].grades == (0, 1)


@pytest.mark.parametrize(
    ("variant", "difference"),
    [
        ("weighted", 0.65 * 1 + 0.8 * 2 - 0.45 * 1 + 0.55 * 1 + 0.4 * 3),
        ("weighted-3", 0.65 * 1 + 0.8 * 2 - 0.45 * 1),
        ("weighted-340b", 0.3 * 1 + 0.74 * 2 - 0.46 * 1 + 0.47 * 1 + 0.33 * 3),
    ],
)
def test_weighted_sums(of: Load, variant: str, difference: float) -> None:
    suite = of(pair((3, 3, 2, 2, 0), (2, 1, 3, 1, 3)), f"helpsteer2:{variant}")
    assert suite.items[0].strength == pytest.approx(difference)
    assert suite.items[0].grades == (1, 0)


def test_weights_are_recorded() -> None:
    about = suites.card("helpsteer2:weighted").rules.about
    assert "+0.65*helpfulness +0.8*correctness +0.45*coherence +0.55*complexity -0.4*verbosity" in about


def test_a_weighted_tie_is_a_tie_though_floats_differ(of: Load) -> None:
    # 0.65*a + 0.8*b + 0.45*c: 0.8*2 = 0.65*1 + 0.45*2 + 0.05 has no whole solution; equal rows in another order do.
    suite = of(
        pair((0, 0, 0, 0, 0), (0, 0, 0, 0, 0)) + pair((1, 1, 1, 1, 1), (0, 0, 0, 0, 0), "R"), "helpsteer2:weighted"
    )
    assert suite.excluded == {"equal in weighted": 1}


def test_turns_become_messages(of: Load) -> None:
    prompt = "Hi\nthere.\n<extra_id_1>Assistant\nHello.\n\nYes?\n<extra_id_1>User\nA prime?"
    (item,) = of(pair((1, 0, 0, 0, 0), (0, 0, 0, 0, 0), prompt)).items
    assert [(m.role, m.content) for m in item.prompt] == [
        ("user", "Hi\nthere."),
        ("assistant", "Hello.\n\nYes?"),
        ("user", "A prime?"),
    ]


@pytest.mark.parametrize(
    ("prompt", "fault"),
    [
        ("Hi\n<extra_id_1>User\nagain", "User and Assistant must alternate"),
        ("Hi\n<extra_id_1>Bot\nHello", "'Bot'"),
        ("Hi\n<extra_id_1>Assistant\nHello", "ends with an Assistant turn"),
    ],
)
def test_turns_that_do_not_alternate_are_errors(of: Load, prompt: str, fault: str) -> None:
    with pytest.raises(BadData, match=r"validation\.jsonl:2: .*" + fault):
        of(pair((1, 0, 0, 0, 0), (0, 0, 0, 0, 0), prompt))


def test_rows_must_come_in_pairs(of: Load) -> None:
    rows = pair((1, 0, 0, 0, 0), (0, 0, 0, 0, 0))
    with pytest.raises(BadData, match=r"validation\.jsonl:3: the last row has no partner"):
        of([*rows, rows[0]])
    with pytest.raises(BadData, match=r"validation\.jsonl:2: the prompt differs from the row before"):
        of([rows[0], rows[1] | {"prompt": "another"}])
    with pytest.raises(BadData, match="'helpfulness' is None"):
        of([rows[0], rows[1] | {"helpfulness": None}])


def preference(strength: Any, **more: Any) -> dict[str, Any]:
    row = {"split": "val", "prompt": "Q", "response_1": "one", "response_2": "two", "preference_strength": strength}
    return row | more


def test_signed_strengths(of: Load) -> None:
    rows = [preference(s) for s in (-3, -1, 0, 2)] + [preference(1, split="train")]
    suite = of(rows, "helpsteer2-preference", "preference.jsonl")
    assert [i.grades for i in suite.items] == [(1, 0), (1, 0), (1, 1), (0, 1)]
    assert [i.strength for i in suite.items] == [3, 1, 0, 2]


@pytest.mark.parametrize("strength", [4, -4, 0.5, None, "much"])
def test_strengths_that_are_none(of: Load, strength: Any) -> None:
    with pytest.raises(BadData, match=r"preference\.jsonl:1: .*preference_strength"):
        of([preference(strength)], "helpsteer2-preference", "preference.jsonl")


def test_the_sample_of_real_rows(real_data: Path) -> None:
    suite = suites.load("helpsteer2-preference:sample", data=real_data)
    assert sum(i.grades == (1, 1) for i in suite.items) == 29
    assert [sum(i.strength == s for i in suite.items) for s in range(4)] == [29, 32, 22, 17]
    assert all(i.grades == (1, 0) for i in suite.items if i.strength)
    damaged = sum(text.count("\ufffd") for i in suite.items for text in (*i.responses, *(m.content for m in i.prompt)))
    assert damaged == 6
    assert "1 items hold replacement characters, as found" in suite.notes
