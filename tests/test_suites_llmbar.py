"""LLMBar: a published evaluator's verdicts in both orders, replayed, give its authors' own statistics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from rmbench import suites
from rmbench.core import Ballot, Facts, Item, Judgment
from rmbench.metrics import estimates, main
from rmbench.metrics.position import both_orders
from rmbench.metrics.summary import positions


def read(path: Path) -> list[dict[str, str | int | None]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def replay(item: Item, row: dict[str, str | int | None]) -> Judgment:
    ballots = []
    for shown, column in (((0, 1), "winner_original_order"), ((1, 0), "winner_swapped_order")):
        won = row[column]
        ballots.append(Ballot(shown=shown, picked=None if won is None else int(won) - 1))
    return Judgment.voted(item, ballots)


def test_the_authors_statistics(real_data: Path) -> None:
    suite = suites.load("llmbar", data=real_data)
    rows = {f"{r['subset']}-{r['index']}": r for r in read(real_data / "llmbar/example_verdicts_chatgpt_vanilla.jsonl")}
    judgments = {item.id: replay(item, rows[item.id]) for item in suite.items}
    facts = [Facts.of(i) for i in suite.items]
    card = suite.card()
    own = main(estimates(card, facts, judgments, further=False))
    strict = replace(card, rules=replace(card.rules, position="both"))
    twice = main(estimates(strict, facts, judgments, further=False))
    stated = {str(s["subset"]): s for s in read(real_data / "llmbar/example_statistics_chatgpt_vanilla.jsonl")}
    averages = []
    for subset, where in positions(card, facts).items():
        orders = [both_orders(judgments[facts[i].item_id]) for i in where]
        average, both, equal = (
            float(str(stated[subset][f"{key}"]).split("=")[-1].strip(" %"))
            for key in ("correct_average", "correct_both", "equal")
        )
        assert own[f"subset:{subset}"].value == pytest.approx(average / 100), subset
        assert twice[f"subset:{subset}"].value == pytest.approx(both / 100), subset
        assert sum(o is not None and o[0] == o[1] for o in orders) / len(where) == pytest.approx(equal / 100), subset
        averages.append(average / 100)
    assert own["overall"].value == pytest.approx(sum(averages) / 5)
    assert own["category:Adversarial"].value == pytest.approx(sum(averages[1:]) / 4)
