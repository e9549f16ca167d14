"""Every suite on the shelf: it loads, its counts hold, and the oracle, a constant and chance score what they must."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from rmbench import suites
from rmbench.core import Facts, Judgment, Suite
from rmbench.errors import RmbenchError
from rmbench.metrics import estimates, main

FIXTURES = Path(__file__).parent / "fixtures" / "suites"

MADE = [
    "helpsteer2",
    "helpsteer2:weighted",
    "helpsteer2-preference",
    "hh-rlhf",
    "hh-rlhf:helpful-base",
    "judgebench",
    "judgebench:both",
    "judgebench:claude",
    "m-rewardbench:deu_Latn",
    "m-rewardbench:arb_Arab",
    "ppe",
    "ppe:human",
    "ppe:correctness",
    "rewardbench-prior-sets",
    "rewardbench2",
    "rm-bench",
    "rmb",
]
"""Suites whose rows are not at hand: small fixtures of invented text in the true schema."""

REAL = {
    "mt-bench": 1633,
    "mt-bench:majority": 1633,
    "mt-bench:with-authors": 1814,
    "helpsteer2-preference:sample": 100,
    "hh-rlhf:harmless-base": 2307,
    "hhh-alignment": 221,
    "llmbar": 419,
    "openai-moderation": 1595,
    "pandalm": 993,
    "xstest": 2074,
    "xstest:gpt4": 2210,
}
"""Suites with real rows, and how many items each makes of them."""


def load(ref: str, request: pytest.FixtureRequest) -> Suite:
    return suites.load(ref, data=FIXTURES if ref in MADE else request.getfixturevalue("real_data"))


def scored(suite: Suite, rule: str) -> tuple[list[Facts], dict[str, Judgment]]:
    rng = random.Random(11)
    rules = {
        "oracle": lambda item: item.grades,
        "constant": lambda item: [0.0] * len(item.responses),
        "random": lambda item: [rng.random() for _ in item.responses],
    }
    return [Facts.of(i) for i in suite.items], {i.id: Judgment.of(i, rules[rule](i)) for i in suite.items}


def votes(facts: Facts) -> list[int]:
    return [vote for _, vote in facts.meta["votes"]]


def oracle(suite: Suite, facts: Facts) -> float:
    """What the best-graded response earns: 1, but vote by vote only as many votes as agree with the majority's."""
    if suite.rules.metrics.get("*") == "mt-bench-agreement":
        gold = -1 if min(facts.grades) == max(facts.grades) else facts.grades.index(1.0)
        return sum(v == gold for v in votes(facts)) / len(votes(facts))
    return 1.0


def constant(suite: Suite, facts: Facts) -> float:
    """What equal scores earn, by the suite's tie rule."""
    metric = suite.rules.metrics.get(facts.subset, suite.rules.metrics.get("*"))
    if metric == "mt-bench-agreement":
        return sum(v == -1 for v in votes(facts)) / len(votes(facts))
    if metric in ("rm-bench", "net-vote", "rewardbench2-ties"):
        return 0.0
    if len(facts.grades) == 1:
        return 0.5
    if min(facts.grades) == max(facts.grades):
        return 1.0
    if len(facts.grades) > 2 and suite.rules.ranking == "best-beats-all":
        return 0.0
    share = facts.grades.count(max(facts.grades)) / len(facts.grades)
    return {"half": 0.5, "wrong": 0.0, "share": share}[suite.rules.ties]


def chance(suite: Suite, facts: Facts) -> float:
    """What independent continuous scores earn on average."""
    if suite.rules.metrics.get("*") == "mt-bench-agreement":
        return sum(v != -1 for v in votes(facts)) / len(votes(facts)) / 2
    if suite.rules.metrics.get("*") == "rm-bench" or len(facts.grades) == 1:
        return 0.5
    if min(facts.grades) == max(facts.grades):
        return 0.0
    return facts.grades.count(max(facts.grades)) / len(facts.grades)


def expected(suite: Suite, rule: str) -> dict[str, float]:
    """Subset -> the mean over its items that count."""
    earned = {"oracle": oracle, "constant": constant, "random": chance}[rule]
    sums: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for item in suite.items:
        facts = Facts.of(item)
        if len(facts.grades) > 1 and min(facts.grades) == max(facts.grades) and suite.rules.gold_ties == "skip":
            continue
        weight = len(votes(facts)) if suite.rules.metrics.get("*") == "mt-bench-agreement" else 1
        sums[item.subset] += weight * earned(suite, facts)
        weights[item.subset] += weight
    return {subset: sums[subset] / weights[subset] for subset in weights}


@pytest.mark.parametrize("ref", [*MADE, *REAL])
def test_oracle_constant_and_chance(ref: str, request: pytest.FixtureRequest) -> None:
    suite = load(ref, request)
    for rule in ("oracle", "constant", "random"):
        made = main(estimates(suite.card(), *scored(suite, rule), confidence=0.9999, further=False))
        checked = 0
        for subset, value in expected(suite, rule).items():
            found = made[f"subset:{subset}"]
            if rule != "random":
                assert found.value == pytest.approx(value, abs=1e-12), (rule, subset)
                checked += 1
            elif found.low is not None and found.high is not None and found.name != "rewardbench2-ties":
                assert found.low <= value <= found.high, (rule, subset)
                checked += 1
        assert checked, rule
        if rule == "oracle" and suite.rules.overall == "macro" and not suite.missing:
            assert made["overall"].value == pytest.approx(1.0)


@pytest.mark.parametrize("ref", REAL)
def test_counts_of_real_rows(ref: str, request: pytest.FixtureRequest) -> None:
    suite = load(ref, request)
    assert len(suite.items) == REAL[ref]
    assert not suite.missing
    assert suite.counts == Counter(item.subset for item in suite.items)


@pytest.mark.parametrize("ref", [*MADE, *REAL])
def test_items_are_whole(ref: str, request: pytest.FixtureRequest) -> None:
    suite = load(ref, request)
    assert len({item.id for item in suite.items}) == len(suite.items)
    known = {s for subsets in suite.categories.values() for s in subsets}
    assert {item.subset for item in suite.items} <= known
    assert suite.rules.name.rpartition("-")[2].isdigit()
    for item in suite.items:
        if ref != "openai-moderation":
            assert item.prompt, item.id
            assert item.prompt[-1].role == "user" or item.turns, item.id
        assert set(item.grades) <= {0.0, 1.0}, item.id


@pytest.mark.parametrize("ref", [*MADE, *REAL])
def test_what_a_run_keeps_of_its_items_holds_no_text(ref: str, request: pytest.FixtureRequest) -> None:
    for item in load(ref, request).items:
        kept = msgspec.json.encode(Facts.of(item)).decode()
        assert len(item.cluster or "") < 60, item.id
        for text in (*item.responses, *(m.content for m in item.prompt)):
            assert len(text) < 40 or text not in kept, item.id


def test_every_suite_is_tried_and_described() -> None:
    tried = {ref.partition(":")[0] for ref in [*MADE, *REAL]} | {"starter", "rewardbench"}
    for name in suites.names():
        assert name in tried or name == "m-rewardbench"
        for variant in [None, *suites.variants(name)]:
            card = suites.card(f"{name}:{variant}" if variant else name)
            assert card.about
            assert card.rules.about
            assert card.licence
            assert card.citation
            assert set(card.weights) | set(card.counts) >= set(), card.name
            inside = {s for subsets in card.categories.values() for s in subsets}
            assert variant or set(card.weights) <= inside, card.name
    assert suites.card("openai-moderation").warning
    assert suites.card("hh-rlhf").warning


def test_variants_of_one_suite_differ_in_hash(real_data: Path) -> None:
    hashes = {suites.load(f"mt-bench{v}", data=real_data).content_hash() for v in ("", ":majority", ":with-authors")}
    assert len(hashes) == 3
    hashes = {suites.load(f"helpsteer2:{v}", data=FIXTURES).content_hash() for v in suites.variants("helpsteer2")}
    assert len(hashes) == len(suites.variants("helpsteer2"))


def test_all_languages_of_m_rewardbench(tmp_path: Path) -> None:
    rows = (FIXTURES / "m_rewardbench" / "deu_Latn.jsonl").read_text(encoding="utf-8")
    (tmp_path / "m_rewardbench").mkdir()
    for language in suites.variants("m-rewardbench"):
        (tmp_path / "m_rewardbench" / f"{language}.jsonl").write_text(rows, encoding="utf-8")
    suite = suites.load("m-rewardbench", data=tmp_path)
    assert len(suite.categories) == 23
    assert len(suite.items) == 23 * 18
    # One language, prefers the rejected one in chat (a sixth of its rows): a quarter of one of 23 categories is lost.
    facts, judgments = scored(suite, "oracle")
    for item in suite.items:
        if item.subset == "zho_Hant chat":
            judgments[item.id] = Judgment.of(item, [0.0, 1.0])
    made = main(estimates(suite.card(), facts, judgments, further=False))
    assert made["category:zho_Hant"].value == pytest.approx(0.75)
    assert made["overall"].value == pytest.approx(1 - 0.25 / 23)


def test_reasoning_weighs_math_as_much_as_code() -> None:
    suite = suites.load("m-rewardbench:deu_Latn", data=FIXTURES)
    facts, judgments = scored(suite, "oracle")
    for item in suite.items:
        if item.subset.endswith(" hep"):
            judgments[item.id] = Judgment.of(item, [0.0, 1.0])
    assert main(estimates(suite.card(), facts, judgments, further=False))["category:Reasoning"].value == 0.5


def test_absent_rows_name_the_place_and_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RmbenchError, match="holds nothing for rewardbench2"):
        suites.load("rewardbench2", data=tmp_path)


def test_a_hundred_thousand_rows_load_in_seconds(tmp_path: Path) -> None:
    line = '{"conversation_input": [{"role": "user", "content": "Hi, %d"}], "pair_uid": "%d", "category_path": '
    line += '"Pairwise_set/Helpfulness/Chat/x", "chosen": {"answer": "Hello."}, "reject": {"answer": "No."}}'
    for kind, n in (("Pairwise_set", 100_000), ("BoN_set", 0)):
        folder = tmp_path / kind / "Helpfulness"
        folder.mkdir(parents=True)
        (folder / "x.json").write_text("[" + ",\n".join(line % (i, i) for i in range(n)) + "]")
    began = time.process_time()
    suite = suites.load("rmb", data=tmp_path)
    suite.content_hash()
    assert len(suite.items) == 100_000
    assert time.process_time() - began < 20


@pytest.mark.parametrize("name", suites.names())
def test_a_reader_is_told_where_the_rows_come_from(name: str) -> None:
    assert "{" not in suites.origin(suites.card(name))
