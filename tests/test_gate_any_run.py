"""Whatever a suite's rules and a model's judgments are: no exception, no warning, every value within its interval."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from rmbench.core import Ballot, Facts, Judgment, Rules, Run, Suite
from rmbench.errors import RmbenchError
from rmbench.gate import Policy, Sequential, compare, compare_pair, gate, junit, markdown, sequential_order
from rmbench.metrics import estimates
from rmbench.store import Stored

METRICS = {
    "pair": ("accuracy", "both", "net", "conflict-tie", "original", "average", "kendall"),
    "ranking": ("top-1", "best-beats-all", "kendall", "spearman", "rewardbench2-ties"),
    "binary": ("auc", "average-precision", "f1@0.3", "accuracy@0", "fpr@0.5"),
    "mixed": ("accuracy",),
}


def any_suite(r: random.Random) -> tuple[Suite, dict[str, str]]:
    subsets = [f"s{i}" for i in range(r.randint(1, 4))]
    kinds = {s: r.choice(("pair", "pair", "ranking", "binary", "mixed")) for s in subsets}
    grouped: dict[str, tuple[str, ...]] = {}
    for s in subsets:
        name = r.choice("ABC")
        grouped[name] = (*grouped.get(name, ()), s)
    choices: dict[str, Any] = {
        "ties": r.choice(("half", "wrong", "dropped", "share")),
        "gold_ties": r.choice(("skip", "class")),
        "ranking": r.choice(("top-1", "best-beats-all")),
        "overall": r.choice(("macro", "micro", "none")),
        "position": r.choice((None, None, "both", "net", "conflict-tie", "original")),
    }
    metrics = {s: r.choice(METRICS[kinds[s]]) for s in subsets if r.random() < 0.3}
    card = Suite(
        name="any",
        version="1",
        about="",
        categories=grouped if r.random() < 0.9 else {},
        rules=Rules(name="any-1", metrics=metrics, **choices),
        source="file:none",
        licence="",
        citation="",
        weights={s: r.choice((0.0, 1.0, 5.0)) for s in subsets if r.random() < 0.3},
        missing={s: 3 for s in subsets if r.random() < 0.1},
        category_weights={c: r.choice((0.0, 0.5)) for c in grouped if r.random() < 0.2},
    )
    return card, kinds


def any_facts(r: random.Random, kinds: dict[str, str]) -> tuple[Facts, ...]:
    made = []
    for i in range(r.choice((0, 1, 2, 3, 5, 20))):
        subset = r.choice(sorted(kinds))
        kind = kinds[subset] if kinds[subset] != "mixed" else r.choice(("pair", "ranking", "binary"))
        k = {"pair": 2, "binary": 1, "ranking": r.randint(3, 5)}[kind]
        made.append(
            Facts(
                item_id=f"i{i}",
                hash=f"{i:016x}",
                subset=subset,
                grades=tuple(float(r.randint(0, 1)) for _ in range(k)),
                lengths=tuple(r.choice((0, 1, 10, 50)) for _ in range(k)),
                cluster=r.choice((None, "p", "q", f"c{i // 2}")),
                strength=r.choice((None, 0.0, 1.0, 2.5)),
            )
        )
    return tuple(made)


def any_judgments(r: random.Random, facts: tuple[Facts, ...]) -> dict[str, Judgment]:
    made = {}
    judge = r.random() < 0.4
    for f in facts:
        luck, k, ballots = r.random(), len(f.grades), []
        if luck < 0.1:
            continue
        if luck < 0.2:
            made[f.item_id] = Judgment(item_id=f.item_id, error="no verdict")
            continue
        orders = (tuple(range(k)), tuple(reversed(range(k))))
        for order in orders[: r.choice((1, 2, 2, 2))] if judge and k > 1 else ():
            for sample in range(r.choice((1, 1, 3))):
                v = r.random()
                picked = r.randrange(k) if v < 0.7 else None
                ballots.append(Ballot(shown=order, picked=picked, tie=0.7 <= v < 0.85, sample=sample))
        scores = tuple(r.choice((0.0, 0.5, 1.0, -3.0, 1e300, -1e300, r.gauss(0, 1))) for _ in range(k))
        made[f.item_id] = Judgment(item_id=f.item_id, scores=scores, ballots=tuple(ballots))
    return made


@pytest.mark.parametrize("seed", range(60))
def test_any_run(seed: int) -> None:
    r = random.Random(seed)
    card, kinds = any_suite(r)
    facts = any_facts(r, kinds)
    runs = []
    for name in "abc":
        run = Run(
            schema=1,
            status="complete",
            model=name,
            adapter="scripted",
            engine=None,
            fingerprint=name,
            settings={},
            suite=card,
            suite_hash="h",
            n=len(facts),
        )
        runs.append(Stored(Path(), run, facts, any_judgments(r, facts)))
    for stored in runs:
        for e in estimates(card, facts, stored.judgments):
            assert e.value is not None or e.reason
            if e.low is not None:
                assert e.low - 1e-9 <= e.value <= e.high + 1e-9  # type: ignore[operator]
    for d in compare_pair(runs[0], runs[1]).differences:
        assert d.value is not None or d.reason
        if d.low is not None:
            assert d.low - 1e-9 <= d.value <= d.high + 1e-9  # type: ignore[operator]
    verdict = gate(runs[1], runs[0], Policy(margin=0.1))
    assert junit([verdict])
    assert markdown([verdict])
    # A refusal with a reason is an answer; anything else is not.
    with contextlib.suppress(RmbenchError):
        compare(runs)
        watch = Sequential(runs[0], Policy())
        for i in sequential_order(facts, 1):
            if facts[i].item_id in runs[1].judgments:
                watch.update([runs[1].judgments[facts[i].item_id]])
