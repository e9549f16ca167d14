"""RewardBench by its three published rules: what models scored per subset gives what was printed for them."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path

import pytest
from msgspec.structs import replace

from rmbench import suites
from rmbench.core import Estimate, Facts, Judgment, Suite
from rmbench.metrics import estimates, main

FIXTURES = Path(__file__).parent / "fixtures" / "suites"
SEED = "meta-llama/Meta-Llama-3-70B-Instruct"


def card(ref: str, kind: str) -> Suite:
    """The original gives a judge half for a tie or an unparsed verdict, and a scalar model nothing for a tie."""
    found = suites.card(ref)
    return replace(found, rules=replace(found.rules, ties="half")) if kind == "Generative" else found


def replayed(suite: Suite, subsets: dict[str, tuple[int, float]]) -> dict[str, Estimate]:
    """As many wins and ties as each subset has: 80.5 of 100 are 80 wins and one tie."""
    facts, judgments = [], {}
    for subset, (n, correct) in subsets.items():
        wins, ties = divmod(round(2 * correct), 2)
        for i in range(n):
            facts.append(Facts(item_id=f"{subset}-{i}", hash="", subset=subset, grades=(1, 0), lengths=(1, 1)))
            scores = (1.0, 0.0) if i < wins else (0.0, float(i >= wins + ties))
            judgments[facts[-1].item_id] = Judgment(item_id=facts[-1].item_id, scores=scores)
    return main(estimates(suite, facts, judgments, further=False))


@pytest.fixture(scope="module")
def models(reference: Path) -> dict[str, tuple[str, dict[str, tuple[int, float]]]]:
    """Model -> its kind, and subset -> (items, correct)."""
    found: dict[str, tuple[str, dict[str, tuple[int, float]]]] = {}
    with (reference / "rewardbench_subsets.csv").open() as lines:
        for row in csv.DictReader(lines):
            subsets = found.setdefault(row["model"], (row["model_type"], {}))[1]
            subsets[row["subset"]] = (int(row["n"]), float(row["correct"]))
    return found


def test_published_scores_come_out_of_the_suites_own_cards(
    models: dict[str, tuple[str, dict[str, tuple[int, float]]]], reference: Path
) -> None:
    printed: dict[str, list[tuple[str, str, float]]] = defaultdict(list)
    with (reference / "published.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["suite"] == "rewardbench" and row["source"].startswith("HF dataset"):
                ref = "rewardbench:before-2024-09" if "old weights" in row["category"] else "rewardbench"
                name = row["category"].partition(" (")[0]
                scope = {"Overall": "overall", "all 2985 examples": "micro"}.get(name, f"category:{name}")
                printed[row["model"]].append((ref, scope, float(row["value"])))
    assert len(models) == 21
    for model, (kind, subsets) in models.items():
        made = {ref: replayed(card(ref, kind), subsets) for ref in ("rewardbench", "rewardbench:before-2024-09")}
        assert len(printed[model]) == 8
        for ref, scope, value in printed[model]:
            assert 100 * (made[ref][scope].value or 0) == pytest.approx(value, abs=0.0051), (model, ref, scope)


def test_prior_sets_weigh_half_in_the_older_leaderboard(
    models: dict[str, tuple[str, dict[str, tuple[int, float]]]],
) -> None:
    """75.4 for the seed of Self-Taught (arXiv:2408.02666, Table 1), whose prior sets the public result file gives."""
    kind, subsets = models[SEED]
    suite = card("rewardbench:with-prior-sets", kind)
    accuracy = {"anthropic_helpful": 0.6669, "anthropic_hhh": 0.8416, "shp": 0.6640, "summarize": 0.6416}
    prior = {name: (n := suite.counts[name], float(round(share * n))) for name, share in accuracy.items()}
    made = replayed(suite, subsets | prior)
    for scope, value in {"category:Prior Sets": 70.4, "category:Safety": 69.2, "overall": 75.4}.items():
        assert 100 * (made[scope].value or 0) == pytest.approx(value, abs=0.051), scope


def test_the_older_leaderboards_rows_come_from_both_sets(tmp_path: Path) -> None:
    (tmp_path / "preference_test_sets").symlink_to(FIXTURES / "preference_test_sets")
    (tmp_path / "rewardbench_v1").mkdir()
    rows = [{"prompt": "p", "chosen": "c", "rejected": "r", "subset": "hep-go", "id": n} for n in range(164)]
    (tmp_path / "rewardbench_v1" / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    suite = suites.load("rewardbench:with-prior-sets", data=tmp_path)
    assert len(suite.items) == 164 + 4 * 6
    assert suite.category_weights == {"Prior Sets": 0.5}
    assert suite.missing["shp"] == 1741 - 6
    (tmp_path / "preference_test_sets").unlink()
    half = suites.load("rewardbench:with-prior-sets", data=tmp_path)
    assert len(half.items) == 164
    assert half.partial
    assert any("anthropic_helpful" in note for note in half.notes)
