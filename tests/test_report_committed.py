"""The committed reports are what the committed results give, byte for byte, on this day as on any other."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from rmbench import store
from rmbench.cli import main

ROOT = Path(__file__).parent.parent
REPORTS = ROOT / "reports"


def test_the_committed_reports_are_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.find(ROOT / "results"), "results/ holds no run"
    committed = {f.name: f.read_bytes() for f in REPORTS.iterdir() if f.is_file() and f.name != "README.md"}
    assert committed, "reports/ holds no report"
    # What a developer's machine has of other suites' rows must not matter.
    monkeypatch.delenv("RMBENCH_DATA", raising=False)
    monkeypatch.chdir(ROOT)
    formats = ",".join(sorted({name.rpartition(".")[2] for name in committed}))
    command = ["report", "results", "--out", str(tmp_path), "--format", formats]
    if any("-trend." in name for name in committed):
        command += ["--x", "step"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    made = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    stale = sorted(name for name in made.keys() | committed.keys() if made.get(name) != committed.get(name))
    remedy = f"rmbench report results --out reports {' '.join(command[4:])}"
    assert not stale, f"stale in reports/: {', '.join(stale)}; make them again with: {remedy}"
