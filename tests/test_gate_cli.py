"""``rmbench compare`` and ``rmbench gate`` as a user and a CI runner call them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import Result

from rmbench import store
from rmbench.cli.compare_ import _heads
from rmbench.store import Stored
from test_gate_compare import CARD
from test_gate_verdict import flipped

Cli = Callable[..., Result]
ROOT = Path(__file__).parents[1]


@pytest.fixture
def kept(tmp_path: Path) -> Callable[..., Path]:
    """``kept(candidate, baseline)``: both runs in a results folder."""

    def keep(*runs: Stored) -> Path:
        for s in runs:
            store.import_run(tmp_path / "results", s.run, s.facts, s.judgments)
        return tmp_path / "results"

    return keep


@pytest.fixture(autouse=True)
def _plain_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)


def test_exit_codes_are_the_verdict(cli: Cli, kept: Callable[..., Path]) -> None:
    root = kept(*flipped(3000, 0))
    passed = cli("gate", "candidate", "--baseline", "baseline", "--results", root)
    assert (passed.exit_code, passed.stdout.split()[0]) == (0, "PASS")
    assert all(len(line) <= 80 for line in passed.stdout.splitlines())


def test_fail_is_one_and_undecided_three(cli: Cli, kept: Callable[..., Path], tmp_path: Path) -> None:
    root = kept(*flipped(1500, 250))
    failed = cli("gate", "candidate", "--baseline", "baseline", "--results", root)
    assert failed.exit_code == 1
    assert "FAIL" in failed.stdout
    assert "the loss is more than 2" in " ".join(failed.stdout.split())
    unsure = cli("gate", "baseline", "--baseline", "baseline", "--results", root, "--limited")
    assert unsure.exit_code == 0
    (tmp_path / "strict.toml").write_text("[gate]\nmargin = 0.0001\n")
    unsure = cli("gate", "baseline", "--baseline", "baseline", "--results", root, "--policy", tmp_path / "strict.toml")
    assert unsure.exit_code == 3
    assert "items would decide" in " ".join(unsure.stdout.split())


def test_wrong_usage_is_two(cli: Cli, kept: Callable[..., Path], tmp_path: Path) -> None:
    root = kept(*flipped(30, 0))
    missing = cli("gate", "canddate", "--baseline", "baseline", "--results", root)
    assert missing.exit_code == 2
    assert "did you mean candidate" in missing.stderr
    (tmp_path / "rmbench.toml").write_text("[gate]\nmargn = 1\n")
    wrong = cli("gate", "candidate", "--baseline", "baseline", "--results", root)
    assert wrong.exit_code == 2
    assert "margn" in wrong.stderr
    assert cli("gate", "candidate").exit_code == 2
    assert cli("compare", "candidate", "--results", root).exit_code == 2


def test_a_suite_of_the_policy_that_was_not_run_is_undecided(
    cli: Cli, kept: Callable[..., Path], tmp_path: Path
) -> None:
    root = kept(*flipped(3000, 0))
    (tmp_path / "rmbench.toml").write_text('[gate]\nsuites = ["tiny", "other"]\n')
    made = cli("gate", "candidate", "--baseline", "baseline", "--results", root, "--json")
    assert made.exit_code == 3
    said = json.loads(made.stdout)
    assert (said["outcome"], said["exit_code"]) == ("undecided", 3)
    assert [v["outcome"] for v in said["verdicts"]] == ["pass", "undecided"]
    assert "no run of other" in said["verdicts"][1]["reasons"][0]


def test_a_policy_for_several_suites_is_checked_against_all_of_them(
    cli: Cli, kept: Callable[..., Path], tmp_path: Path
) -> None:
    import msgspec

    pair = flipped(3000, 0)
    other = msgspec.structs.replace(CARD, name="other", categories={"C": ("a",), "D": ("b", "c")})
    moved = [s._replace(run=msgspec.structs.replace(s.run, suite=other)) for s in pair]
    root = kept(*pair, *moved)
    policy = tmp_path / "rmbench.toml"
    policy.write_text('[gate]\nsuites = ["tiny", "other"]\n[gate.margins]\nA = 0.01\nD = 0.03\n')
    assert cli("gate", "candidate", "--baseline", "baseline", "--results", root).exit_code == 0
    policy.write_text('[gate]\nsuites = ["tiny", "other"]\n[gate.margins]\nE = 0.01\n')
    wrong = cli("gate", "candidate", "--baseline", "baseline", "--results", root)
    assert wrong.exit_code == 2
    assert "names E, which tiny and other does not have" in wrong.stderr


def test_a_file_that_cannot_be_written_is_one_clear_line(cli: Cli, kept: Callable[..., Path], tmp_path: Path) -> None:
    root = kept(*flipped(3000, 0))
    place = tmp_path / "absent" / "j.xml"
    for more in (("--junit", place), ("--summary", place)):
        made = cli("gate", "candidate", "--baseline", "baseline", "--results", root, *more)
        assert made.exit_code == 2
        assert "cannot write" in made.stderr
        assert made.stdout.startswith("PASS")  # and does not cost the answer
    made = cli("compare", "candidate", "baseline", "--results", root, "--html", place)
    assert made.exit_code == 2


def test_files_and_annotations_for_ci(
    cli: Cli, kept: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = kept(*flipped(1500, 250))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    (tmp_path / "step.md").write_text("before\n")
    made = cli(
        "gate", "candidate", "--baseline", "baseline", "--results", root, "--junit", tmp_path / "j.xml", "--json"
    )
    assert made.exit_code == 1
    assert json.loads(made.stdout)["outcome"] == "fail"
    assert sum(line.startswith("::error") for line in made.stderr.splitlines()) >= 1
    text = (tmp_path / "step.md").read_text()
    assert text.startswith("before\n## ❌ fail")
    assert ElementTree.parse(tmp_path / "j.xml").getroot().get("failures") != "0"


def test_compare_prints_intervals_flips_and_ranks(cli: Cli, kept: Callable[..., Path], tmp_path: Path) -> None:
    candidate, baseline = flipped(300, 40, 5)
    root = kept(candidate, baseline)
    made = cli("compare", "baseline", "candidate", "--results", root, "--items", "2")
    assert made.exit_code == 0
    assert all(len(line) <= 80 for line in made.stdout.splitlines())
    assert "300 of 300 items judged by both" in made.stdout
    assert "40 items newly wrong" in made.stdout
    assert "5 items newly right" in made.stdout
    assert len(re.findall(r"^  i\d+", made.stdout, re.M)) == 4
    said = json.loads(cli("compare", "baseline", "candidate", "--results", root, "--json").stdout)
    assert len(said["pairs"][0]["broken"]) == 40
    assert said["ranking"] is None
    more = cli("compare", "baseline", "candidate", "baseline", "--results", root)
    assert "Ranks that the 300 items do not rule out" in more.stdout
    page = tmp_path / "page.html"
    assert cli("compare", "baseline", "candidate", "--results", root, "--html", page).exit_code == 0
    assert page.read_text().lstrip().lower().startswith("<!doctype html")


@pytest.mark.parametrize(
    ("a", "b", "heads"),
    [
        ("old", "new", ("old", "new")),
        ("starter-step100", "starter-step2600", ("…step100", "…tep2600")),
        ("model-A--long.jsonl", "model-B--long.jsonl", ("model-A", "model-B")),
        ("m (aaaaaaaa)", "m (bbbbbbbb)", ("…aaaaaa)", "…bbbbbb)")),
    ],
)
def test_columns_of_a_comparison_are_told_apart(a: str, b: str, heads: tuple[str, str]) -> None:
    assert _heads(a, b) == heads


def test_other_items_are_refused_with_exit_code_three(cli: Cli, kept: Callable[..., Path]) -> None:
    import msgspec

    candidate, baseline = flipped(30, 0)
    root = kept(candidate._replace(run=msgspec.structs.replace(candidate.run, suite_hash="g")), baseline)
    made = cli("compare", "baseline", "candidate", "--results", root)
    assert made.exit_code == 3
    assert "suite hash" in made.stderr
    assert CARD.name == "tiny"


def action() -> Any:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    return yaml.safe_load((ROOT / "action.yml").read_text())


def test_no_input_is_pasted_into_a_script() -> None:
    steps = action()["runs"]["steps"]
    assert all("${{" not in step["run"] for step in steps)
    assert all(step["shell"] == "bash" for step in steps)


def test_the_actions_script_does_what_the_command_does(kept: Callable[..., Path], tmp_path: Path) -> None:
    root = kept(*flipped(1500, 250))
    script = action()["runs"]["steps"][-1]["run"]
    output = tmp_path / "output"
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CANDIDATE": "candidate",
        "BASELINE": "baseline",
        "RESULTS": str(root),
        "POLICY": "",
        "SUITES": "tiny",
        "JUNIT": str(tmp_path / "j.xml"),
        "GITHUB_OUTPUT": str(output),
    }
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    assert subprocess.run(shell, env=env, capture_output=True, cwd=tmp_path).returncode == 1
    assert output.read_text() == "outcome=fail\n"
    same = subprocess.run(shell, env={**env, "CANDIDATE": "baseline"}, capture_output=True, cwd=tmp_path)
    assert same.returncode == 0
    hostile = {**env, "CANDIDATE": "--help; touch hacked"}
    assert subprocess.run(shell, env=hostile, capture_output=True, cwd=tmp_path).returncode == 2
    assert not (tmp_path / "hacked").exists()
    assert output.read_text().splitlines()[1:] == ["outcome=pass", "outcome=undecided"]
