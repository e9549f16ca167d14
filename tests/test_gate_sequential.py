"""Watching a candidate: order, evidence, what a stop says, error rates under peeking."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from rmbench.core import Judgment, Rules
from rmbench.errors import Undecided
from rmbench.gate import Policy, Sequential, sequential_order
from rmbench.store import Stored
from test_gate_compare import CARD, stored
from test_gate_verdict import flipped


def watch(candidate: Stored, baseline: Stored, policy: Policy, *, batch: int = 1, seed: int = 0) -> int | None:
    """Items seen at the stop; None if it never stopped."""
    made = Sequential(baseline, policy)
    order = sequential_order(baseline.facts, seed)
    for start in range(0, len(order), batch):
        judgments = [candidate.judgments[baseline.facts[i].item_id] for i in order[start : start + batch]]
        verdict = made.update(judgments)
        if verdict is not None:
            assert verdict.outcome == "fail"
            assert verdict.saved == len(order) - (verdict.stopped_after or 0)
            return verdict.stopped_after
    return None


def test_the_order_is_seeded_and_keeps_clusters_whole() -> None:
    facts = stored([1.0] * 60, cluster=3).facts
    order = sequential_order(facts, 1)
    assert sorted(order) == list(range(60))
    assert order == sequential_order(facts, 1)
    assert order != sequential_order(facts, 2)
    clusters = [facts[i].cluster for i in order]
    assert len([1 for a, b in itertools.pairwise(clusters) if a != b]) == 19


def test_a_clear_regression_stops_early_and_the_same_model_never() -> None:
    candidate, baseline = flipped(1500, 300)
    stopped = watch(candidate, baseline, Policy())
    assert stopped is not None
    assert stopped < 400
    assert watch(baseline, baseline, Policy()) is None
    by_batch = watch(candidate, baseline, Policy(), batch=64)
    assert by_batch is not None
    assert stopped <= by_batch <= stopped + 64


def test_errors_count_against_the_candidate() -> None:
    baseline = flipped(600, 0)[1]
    lost = {k: Judgment(item_id=k, error="nan") for k in baseline.judgments}
    assert watch(baseline._replace(judgments=lost), baseline, Policy()) is not None


def test_clusters_are_bet_on_whole() -> None:
    candidate, baseline = flipped(1500, 300, cluster=3)
    assert watch(candidate, baseline, Policy()) is not None
    made = Sequential(baseline, Policy())
    first = [i for i, f in enumerate(baseline.facts) if f.cluster == "p0"]
    made.update([candidate.judgments[baseline.facts[i].item_id] for i in first[:2]])
    assert set(made.evidence.values()) == {1.0}
    made.update([candidate.judgments[baseline.facts[first[2]].item_id]])
    assert set(made.evidence.values()) != {1.0}


def test_what_cannot_be_followed_is_said() -> None:
    baseline = flipped(30, 0)[1]
    with pytest.raises(Undecided, match="not complete"):
        Sequential(baseline._replace(judgments={}), Policy())
    rules = Rules(name="tiny-1", metrics={"*": "kendall"})
    other = msgspec.structs.replace(baseline.run, suite=msgspec.structs.replace(CARD, rules=rules))
    with pytest.raises(Undecided, match="item by item"):
        Sequential(baseline._replace(run=other), Policy())
    made = Sequential(baseline, Policy())
    with pytest.raises(Undecided, match="not in the baseline"):
        made.update([Judgment(item_id="stranger", scores=(1.0, 0.0))])


def test_a_category_is_followed_with_its_own_margin_and_weight() -> None:
    """Only B falls, and only in its heavy subset: B stops, A does not."""
    card = msgspec.structs.replace(CARD, weights={"b": 9.0, "c": 1.0})
    baseline = stored([1.0] * 900, card=card, model="baseline")
    judgments = {
        f.item_id: Judgment(
            item_id=f.item_id, scores=(-1.0 if f.subset == "b" and int(f.item_id[1:]) % 2 else 1.0, 0.0)
        )
        for f in baseline.facts
    }
    made = Sequential(baseline, Policy(margin=0.05))
    for i in sequential_order(baseline.facts, 0):
        verdict = made.update([judgments[baseline.facts[i].item_id]])
        if verdict is not None:
            break
    assert verdict is not None
    assert [s.scope for s in verdict.scopes] in (["category:B"], ["category:B", "overall"])
    assert made.evidence["category:A"] < 1


def test_gold_ties_that_do_not_count_do_not_dilute_the_weights() -> None:
    """Half of subset a are gold ties: the scale of what counts is that of the items that count."""
    base = stored([1.0] * 60, model="baseline")
    facts = tuple(
        msgspec.structs.replace(f, grades=(1, 1)) if f.subset == "a" and i % 2 else f for i, f in enumerate(base.facts)
    )
    made = Sequential(base._replace(facts=facts), Policy())
    overall = next(s for s in made._scopes if s.name == "overall")
    counted = [f for f in facts if f.grades == (1, 0)]
    assert sum(overall.scale[f.subset] for f in counted) == pytest.approx(len(counted))


@pytest.mark.slow
def test_peeking_after_every_item_keeps_the_error_rate() -> None:
    """At its margin a candidate is stopped with probability at most alpha, however often one looks."""
    rng = np.random.default_rng(0)
    margin, psi, n, repeats, alpha = 0.05, 0.2, 600, 300, 0.2
    stopped = 0
    for _ in range(repeats):
        u = rng.random(n)
        baseline = np.where(u < (psi - margin) / 2, -1.0, 1.0)
        candidate = np.where((u >= (psi - margin) / 2) & (u < psi), -1.0, 1.0)
        runs = [stored([float(x) for x in side], model=str(k)) for k, side in enumerate((candidate, baseline))]
        stopped += watch(runs[0], runs[1], Policy(margin=margin, alpha=alpha, scopes=("micro",))) is not None
    assert stopped / repeats <= alpha + 2 * np.sqrt(alpha * (1 - alpha) / repeats)
