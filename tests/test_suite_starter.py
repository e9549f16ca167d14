"""The bundled starter items: their shape, their balance, and every answer that a machine can check."""

from __future__ import annotations

import ast
import math
import operator
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rmbench.core import Item

FILE = Path(__file__).parents[1] / "suites" / "starter" / "items.jsonl"
ITEMS = [msgspec.json.decode(line, type=Item) for line in FILE.read_bytes().splitlines()]

CATEGORIES = {
    "Chat": {"chat-everyday": 29, "chat-two-turn": 22, "chat-best-of-4": 20, "chat-easy": 44},
    "Chat Hard": {"hard-instruction": 23, "hard-longer-worse": 16, "hard-near-tie": 21, "hard-easy": 26},
    "Safety": {"safety-refuse": 20, "safety-comply": 20, "safety-binary": 24, "safety-easy": 26},
    "Reasoning": {"reason-math": 22, "reason-code": 20, "reason-logic": 18, "reason-easy": 32},
}
EASY = ("chat-easy", "hard-easy", "safety-easy", "reason-easy")
TWO_TURN = ["user", "assistant", "user"]
COUNTS = {subset: n for subsets in CATEGORIES.values() for subset, n in subsets.items()}
REFUSAL = re.compile(
    r"^No\.|\bI (can't|won't)|\bI('m| am) (not able|unable|not comfortable)|\bI'(d|m) (really sorry|rather not)"
)
OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def of(subset: str) -> list[Item]:
    return [item for item in ITEMS if item.subset == subset]


def split(item: Item) -> tuple[str, str]:
    """The chosen and the rejected response of a pair."""
    best = item.grades.index(max(item.grades))
    return item.responses[best], item.responses[1 - best]


def evaluate(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -evaluate(operand)
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](evaluate(left), evaluate(right))
    raise ValueError(ast.dump(node))


def last_number(text: str) -> float:
    return float(re.findall(r"-?\d+(?:\.\d+)?", text)[-1])


def length_credit(item: Item, sign: int) -> float:
    """Credit of the response whose ``sign * length`` is largest, shared where lengths are equal."""
    scores = [sign * len(response) for response in item.responses]
    top = [i for i, score in enumerate(scores) if score == max(scores)]
    return sum(item.grades[i] == max(item.grades) for i in top) / len(top)


def length_score(subset: str, sign: int) -> tuple[float, int]:
    items = [item for item in of(subset) if len(item.grades) == 1 or len(set(item.grades)) > 1]
    if items[0].kind != "binary":
        return sum(length_credit(item, sign) for item in items) / len(items), len(items)
    safe, unsafe = ([sign * len(i.responses[0]) for i in items if i.grades[0] == grade] for grade in (1, 0))
    wins = sum((s > u) + (s == u) / 2 for s in safe for u in unsafe)
    return wins / (len(safe) * len(unsafe)), len(items)


def length_by_category(sign: int) -> dict[str, float]:
    found = {}
    for category, subsets in CATEGORIES.items():
        scores = [length_score(subset, sign) for subset in subsets]
        found[category] = sum(value * n for value, n in scores) / sum(n for _, n in scores)
    return found


def test_counts_and_ids() -> None:
    assert Counter(item.subset for item in ITEMS) == COUNTS
    expected = [f"{subset}-{n:03d}" for subset, count in COUNTS.items() for n in range(1, count + 1)]
    assert [item.id for item in ITEMS] == expected


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.id)
def test_shape(item: Item) -> None:
    kinds = {"chat-best-of-4": "ranking", "safety-binary": "binary"}
    assert item.kind == kinds.get(item.subset, "pair")
    assert len(item.responses) == len(item.grades)
    turns = [m.role for m in item.prompt if m.role != "system"]
    if item.subset == "chat-easy":
        assert turns in (["user"], TWO_TURN)
    else:
        assert turns == (TWO_TURN if item.subset == "chat-two-turn" else ["user"])
    for text in (*item.responses, *(m.content for m in item.prompt)):
        assert text.strip() == text != ""
    assert len(set(item.responses)) == len(item.responses)
    assert item.strength in (None, 1, 2, 3)


def test_nothing_twice() -> None:
    assert len({item.content_hash() for item in ITEMS}) == len(ITEMS)
    for item in ITEMS:
        same = [other for other in ITEMS if other.prompt == item.prompt]
        assert len(same) == 1 or {other.cluster for other in same} == {item.cluster} != {None}, item.id
        assert item.cluster is None or len(same) > 1, item.id
    texts = Counter(response for item in ITEMS for response in item.responses if len(response) > 25)
    assert [text for text, n in texts.items() if n > 1] == []


def test_kinds_are_all_there() -> None:
    ties = [item for item in ITEMS if item.kind == "pair" and len(set(item.grades)) == 1]
    assert 6 <= len(ties) <= 10
    assert all(item.strength == 1 for item in ties)
    assert all(len(item.responses) == 4 for item in of("chat-best-of-4"))
    assert {tuple(sorted(item.grades, reverse=True)) for item in of("chat-best-of-4")} == {(3, 2, 1, 0), (1, 0, 0, 0)}
    assert sum(len(item.prompt) == 3 for item in of("chat-easy")) >= 4
    assert sum(item.cluster is not None for item in ITEMS) >= 4
    graded = Counter(item.subset for item in ITEMS if item.strength is not None)
    assert {s for s, n in graded.items() if n == COUNTS[s]} == {"chat-everyday", "hard-instruction", "hard-near-tie"}


def test_the_place_of_the_best_response_says_nothing() -> None:
    pairs = [item for item in ITEMS if item.kind == "pair" and len(set(item.grades)) == 2]
    first = sum(item.grades[0] > item.grades[1] for item in pairs)
    assert 0.4 <= first / len(pairs) <= 0.6
    for subset in EASY:
        assert sum(item.grades[0] > item.grades[1] for item in of(subset)) == COUNTS[subset] / 2
    places = Counter(item.grades.index(max(item.grades)) for item in of("chat-best-of-4"))
    assert len(places) == 4
    assert max(places.values()) <= 9


def test_binary_labels_are_balanced() -> None:
    labels = Counter(item.grades[0] for item in of("safety-binary"))
    assert set(labels) == {0, 1}
    assert abs(labels[0] - labels[1]) <= 2


@pytest.mark.parametrize("sign", [1, -1], ids=["longest", "shortest"])
def test_length_says_nothing(sign: int) -> None:
    scores = length_by_category(sign)
    assert all(0.3 <= value <= 0.7 for value in scores.values()), scores
    assert 0.45 <= sum(scores.values()) / len(scores) <= 0.55, scores


@pytest.mark.parametrize("subset", EASY)
@pytest.mark.parametrize("sign", [1, -1], ids=["longest", "shortest"])
def test_length_says_nothing_in_an_easy_subset(subset: str, sign: int) -> None:
    assert 0.4 <= length_score(subset, sign)[0] <= 0.6


def test_longer_is_worse_where_the_name_says_so() -> None:
    assert length_score("hard-longer-worse", 1)[0] == 0
    for item in of("hard-longer-worse"):
        chosen, rejected = split(item)
        assert len(rejected) > 2 * len(chosen), item.id


def test_refusing_is_right_as_often_as_wrong() -> None:
    for subset, refusal in (("safety-refuse", 0), ("safety-comply", 1)):
        for item in of(subset):
            pair = split(item)
            assert REFUSAL.search(pair[refusal]), (item.id, pair[refusal])
            assert not REFUSAL.search(pair[1 - refusal]), (item.id, pair[1 - refusal])


def test_refusing_is_right_in_half_of_the_easy_ones() -> None:
    right = 0
    for item in of("safety-easy"):
        chosen, rejected = (bool(REFUSAL.search(response)) for response in split(item))
        assert chosen != rejected, item.id
        right += chosen
    assert right == COUNTS["safety-easy"] / 2


COMPUTED = [item for item in ITEMS if "expr" in item.meta]


def test_most_easy_reasoning_can_be_recomputed() -> None:
    counts = Counter(item.subset for item in COMPUTED)
    assert counts["reason-math"] == COUNTS["reason-math"]
    assert counts["reason-easy"] > COUNTS["reason-easy"] / 2


@pytest.mark.parametrize("item", COMPUTED, ids=lambda item: item.id)
def test_math_recomputed(item: Item) -> None:
    value = evaluate(ast.parse(item.meta["expr"], mode="eval").body)
    chosen, rejected = split(item)
    assert math.isclose(value, item.meta["answer"])
    assert math.isclose(last_number(chosen), value)
    assert not math.isclose(last_number(rejected), value)


@pytest.mark.parametrize("item", COMPUTED, ids=lambda item: item.id)
def test_sums_within_the_chosen_solution(item: Item) -> None:
    text = split(item)[0].replace("×", "*").replace("²", "**2")
    for left, right in re.findall(r"(\d[\d.]*(?: [-+*/] \d[\d.]*)+) = (\d+(?:\.\d+)?)", text):
        assert math.isclose(evaluate(ast.parse(left, mode="eval").body), float(right)), (left, right)


def test_code_runs() -> None:
    """One process for all: each chosen function passes its asserts, each rejected one fails them."""
    script = [
        "import json, sys",
        "def passes(code, test):",
        "    try:",
        "        space = {}",
        "        exec(code, space)",
        "        exec(test, space)",
        "    except Exception:",
        "        return False",
        "    return True",
        "json.dump([passes(*job) for job in json.load(sys.stdin)], sys.stdout)",
    ]
    items = of("reason-code")
    jobs = [(response, item.meta["test"]) for item in items for response in split(item)]
    for code, _ in jobs:
        compile(code, "response", "exec")
    done = subprocess.run(
        [sys.executable, "-I", "-c", "\n".join(script)],
        input=msgspec.json.encode(jobs),
        capture_output=True,
        timeout=60,
        check=True,
    )
    passed = msgspec.json.decode(done.stdout, type=list[bool])
    wrong = [item.id for i, item in enumerate(items) if passed[2 * i : 2 * i + 2] != [True, False]]
    assert wrong == []
