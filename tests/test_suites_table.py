"""The table that ends a run on a real suite: 80 columns, whole numbers, and what the suite asks for beside its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from rmbench import store
from rmbench.core import Estimate, Facts, Judgment
from rmbench.metrics import estimates
from rmbench.suites import card

Cli = Callable[..., Result]
FIXTURES = Path(__file__).parent / "fixtures" / "suites"


def evaluated(cli: Cli, tmp_path: Path, *args: Any) -> list[str]:
    result = cli("eval", "--out", tmp_path / "results", *args)
    assert result.exit_code == 0, result.stderr
    lines = [line.rstrip() for line in result.stdout.splitlines() if str(tmp_path) not in line]
    assert all(len(line) <= 80 for line in lines)
    return lines


def test_a_partial_rewardbench_with_baselines_beside(cli: Cli, tmp_path: Path, real_data: Path) -> None:
    suite = ("--suite", "rewardbench", "--data", real_data)
    for model in ("random", "length:longest"):
        evaluated(cli, tmp_path, "--model", model, *suite)
    lines = evaluated(cli, tmp_path, "--model", "oracle", *suite)
    assert lines[0] == "oracle on rewardbench v1 (partial), rules rewardbench-2024-09"
    # No number is cut or broken over two lines, whatever stands beside it.
    (llmbar,) = (line for line in lines if "llmbar-adver-neighbor" in line)
    assert re.fullmatch(r"  llmbar-adver-neighbor +100\.0 \[97\.2, 100\.0\] +134 +134/0 +0 +11\.9 +\d\d\.\d", llmbar)
    (hard,) = (line for line in lines if line.startswith("Chat Hard"))
    assert hard.split()[2:6] == ["–", "419", "419/0", "37"]
    assert "Chat Hard: 419 of 456 items present" in " ".join(lines)


def test_long_names_never_cost_a_number(cli: Cli, tmp_path: Path, write_rows: Callable[..., Path]) -> None:
    name = "a-subset-with-a-name-that-is-longer-than-what-a-terminal-holds-in-a-single-line"
    path = write_rows([{"prompt": f"q{i}", "chosen": "a", "rejected": "b", "subset": name} for i in range(4000)])
    lines = evaluated(cli, tmp_path, "--model", "oracle", "--suite", path)
    assert any("100.0 [99.9, 100.0] 4,000 4000/0" in line for line in lines)


def test_ties_left_out_and_strengths(cli: Cli, tmp_path: Path, real_data: Path) -> None:
    lines = evaluated(
        cli, tmp_path, "--model", "oracle", "--suite", "helpsteer2-preference:sample", "--data", real_data
    )
    assert "left out by the rule for ties: 29" in lines
    assert [line.split(" [")[0] for line in lines if line.startswith("strength")] == [
        f"strength {n}: accuracy 100.0" for n in (1, 2, 3)
    ]


def test_both_setups_and_the_ceiling_of_mt_bench(cli: Cli, tmp_path: Path, real_data: Path) -> None:
    file = real_data / "mt_bench" / "gpt4_pair.jsonl.gz"
    to = ("--from", "mt-bench", "--suite", "mt-bench", "--data", real_data, "--out", tmp_path / "results")
    said = " ".join(cli("import", file, *to).stdout.split())
    (first,) = re.findall(
        r"Turn 1: s1 (\S+) \[.*?\], s2 (\S+) \[.*?\], human-human-s1 (\S+) .*?human-human-s2 (\S+)", said
    )
    assert first == ("66.0", "84.6", "63.0", "81.0")
    assert re.search(r"micro: both 59\.1 \[.*?\], consistency 84\.4", said)


def test_the_two_numbers_of_xstest_and_their_errors(cli: Cli, tmp_path: Path, real_data: Path) -> None:
    said = " ".join(evaluated(cli, tmp_path, "--model", "oracle", "--suite", "xstest", "--data", real_data))
    for category in ("Should respond", "Should refuse"):
        assert re.search(rf"{category}: average-precision 100\.0 \[.*?\], f1@0\.5 100\.0 .*? fnr@0\.5 0\.0", said)
    assert "micro: average-precision" not in said


def test_styles_of_a_partial_rm_bench_have_no_overall(cli: Cli, tmp_path: Path) -> None:
    lines = evaluated(cli, tmp_path, "--model", "random", "--suite", "rm-bench", "--data", FIXTURES)
    assert "overall: easy –, normal –, hard –" in lines
    (path,) = store.find(tmp_path / "results")
    styles = [e for e in store.read_estimates(path) if e.scope == "overall" and e.name in ("easy", "normal", "hard")]
    assert [e.reason for e in styles] == ["874 items are absent from the data"] * 3


# Labels of single responses


def labelled(*scores: float, **more: Any) -> dict[str, Estimate]:
    """By name, of good, good, bad, bad."""
    facts = [
        Facts(item_id=f"i{n}", hash="", subset="texts", grades=(grade,), lengths=(1,))
        for n, grade in enumerate((1, 1, 0, 0))
    ]
    suite = card("openai-moderation")
    judgments = {f"i{n}": Judgment(item_id=f"i{n}", scores=(s,), **more) for n, s in enumerate(scores)}
    return {e.name: e for e in estimates(suite, facts, judgments) if e.scope == "category:Moderation"}


@pytest.mark.parametrize(
    ("scores", "at"),
    [
        ((0.9, 0.4, 0.6, 0.1), "0.5"),  # probabilities of the good label
        ((-0.1, -0.6, -0.4, -0.9), "-0.5"),  # a guard's minus P(unsafe)
        ((3.0, -2.0, 1.0, -4.0), "0"),  # raw outputs of a head
    ],
)
def test_the_threshold_is_in_the_name(scores: tuple[float, ...], at: str) -> None:
    made = labelled(*scores)
    assert {f"f1@{at}", f"fpr@{at}", f"fnr@{at}"} <= set(made)
    assert [made[f"{name}@{at}"].value for name in ("f1", "fpr", "fnr")] == [0.5, 0.5, 0.5]
    assert made["average-precision"].value == pytest.approx((1 + 2 / 3) / 2)


def test_ratings_have_no_threshold_and_say_so() -> None:
    from rmbench.core import Ballot

    made = labelled(9.0, 4.0, 6.0, 1.0, ballots=(Ballot(shown=(0,), rating=9.0),))
    assert made["f1"].value is None
    assert "no threshold" in (made["f1"].reason or "")
    assert made["average-precision"].value is not None


def test_an_error_counts_against_every_one_of_them() -> None:
    made = labelled(0.9, 0.8, 0.1)  # the last bad text has no judgment
    assert made["fpr@0.5"].value == 0.5
    assert made["fpr@0.5"].missing == 1
    assert made["average-precision"].value < 1  # type: ignore[operator]


def test_many_labels_take_seconds(tmp_path: Path) -> None:
    import time

    facts = [Facts(item_id=str(n), hash="", subset="texts", grades=(n % 2,), lengths=(1,)) for n in range(100_000)]
    judgments = {
        f.item_id: Judgment(item_id=f.item_id, scores=((n * 7919) % 1000 / 1000,)) for n, f in enumerate(facts)
    }
    began = time.process_time()
    made = {e.name: e for e in estimates(card("openai-moderation"), facts, judgments) if e.scope.startswith("category")}
    assert time.process_time() - began < 60
    assert made["average-precision"].low < 0.5 < made["average-precision"].high  # type: ignore[operator]
    assert json.dumps(made["f1@0.5"].value)
