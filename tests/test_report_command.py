"""``rmbench report``: what it writes, the same bytes on any day, and --check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

import report_fixtures as made
from rmbench import store
from rmbench.cli import main
from rmbench.report.plots import PLOTS

ALL = "md,csv,tex,html,svg,png"


def report(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, args)])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.results(tmp_path_factory.mktemp("module") / "results", made.suite(40))


def test_every_format_is_written(results: Path, tmp_path: Path) -> None:
    result = report(results, "--out", tmp_path, "--format", ALL)
    assert result.exit_code == 0, result.output
    names = {f.name for f in tmp_path.iterdir()}
    assert {"toy.md", "toy.csv", "toy.tex", "toy.html"} <= names
    assert {f"toy-{plot}.{kind}" for plot in PLOTS for kind in ("svg", "png")} <= names
    assert "org/good" in result.output
    assert all((tmp_path / n).stat().st_size > 300 for n in names)


def test_the_same_bytes_on_another_day_in_another_process(results: Path, tmp_path: Path) -> None:
    code = "import sys; from rmbench.cli import main; main(sys.argv[1:])"
    for name, seed, zone in (("a", "0", "UTC"), ("b", "123", "Asia/Kathmandu")):
        env = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "TZ": zone,
            "SOURCE_DATE_EPOCH": "1000000000" if name == "a" else "1",
        }
        # A user's own matplotlib settings must not show either.
        (tmp_path / name).mkdir()
        (tmp_path / name / "matplotlibrc").write_text(f"font.size: {10 + len(seed)}\nsavefig.dpi: {50 + len(seed)}\n")
        env["MPLCONFIGDIR"] = str(tmp_path / name)
        command = [
            sys.executable,
            "-c",
            code,
            "report",
            str(results),
            "--out",
            str(tmp_path / name / "out"),
            "--format",
            ALL,
        ]
        subprocess.run(command, env=env, check=True, capture_output=True, timeout=300)
    a, b = ({f.name: f.read_bytes() for f in (tmp_path / n / "out").iterdir()} for n in "ab")
    assert a.keys() == b.keys()
    assert [n for n in a if a[n] != b[n]] == []


def test_check_fails_when_a_result_or_a_report_changed(tmp_path: Path) -> None:
    root = made.results(tmp_path / "results", made.suite(24))
    out = tmp_path / "reports"
    options = (root, "--out", out, "--format", "md,csv,tex")
    missing = report(*options, "--check")
    assert missing.exit_code == 3  # 1 is a failed gate
    assert not out.exists()
    assert report(*options).exit_code == 0
    before = {f: f.stat().st_mtime_ns for f in out.iterdir()}
    assert report(*options, "--check").exit_code == 0
    (out / "toy.md").write_text("edited")
    stale = report(*options, "--check")
    assert stale.exit_code == 3
    assert "toy.md" in stale.output
    assert "toy.csv" not in stale.output
    assert report(*options).exit_code == 0
    made.run(root, made.suite(24), "new", seed=99)
    stale = report(*options, "--check", "--json")
    assert stale.exit_code == 3
    assert json.loads(stale.output)["stale"] == ["toy.csv", "toy.md", "toy.tex"]
    # A check writes nothing, and a report only what differs.
    assert all(f.stat().st_mtime_ns == t for f, t in before.items() if f.name != "toy.md")


def test_an_empty_results_folder_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    for more in ((), ("--check",)):
        result = report(tmp_path / "results", "--out", tmp_path / "reports", *more)
        assert result.exit_code == 2
        assert (
            result.stderr
            == f"Error: no runs in {tmp_path / 'results'}; make one with rmbench eval --model M --suite S\n"
        )
    assert not (tmp_path / "reports").exists()


def test_runs_deeper_down_are_named(results: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").symlink_to(results)
    for folder in (tmp_path, tmp_path / "a"):
        result = report(folder, "--out", tmp_path / "reports")
        assert result.exit_code == 2
        assert result.stderr == f"Error: no runs in {folder}, but deeper down: give {tmp_path / 'a' / 'b'} instead\n"


def test_one_run_only(tmp_path: Path) -> None:
    made.run(tmp_path / "results", made.suite(24), "alone")
    assert report(tmp_path / "results", "--out", tmp_path / "o", "--format", ALL).exit_code == 0


def test_a_run_of_errors_only_and_one_without_judgments(tmp_path: Path) -> None:
    of = made.suite(24)
    made.run(tmp_path / "results", of, "broken", errors=range(24))
    path = made.run(tmp_path / "results", of, "empty")
    stored = store.read(path)
    unfinished = msgspec.structs.replace(stored.run, status="running")
    store.import_run(tmp_path / "results", unfinished, stored.facts, {})
    result = report(tmp_path / "results", "--out", tmp_path / "o", "--format", ALL)
    assert result.exit_code == 0, result.output
    assert "nan" not in (tmp_path / "o" / "toy.csv").read_text()


def test_a_binary_suite_and_a_partial_one(tmp_path: Path) -> None:
    of = made.suite(40)
    single = tuple(
        msgspec.structs.replace(i, responses=i.responses[:1], grades=(float(n % 2),)) for n, i in enumerate(of.items)
    )
    binary = msgspec.structs.replace(of, name="binary", items=single)
    made.run(tmp_path / "results", binary, "m", seed=1)
    partial = msgspec.structs.replace(of, name="partial", counts={"sums": 9}, missing={"sums": 1})
    made.run(tmp_path / "results", partial, "m", seed=1)
    made.run(tmp_path / "results", partial, "n", seed=2)
    result = report(tmp_path / "results", "--out", tmp_path / "o", "--format", ALL)
    assert result.exit_code == 0, result.output
    assert "auc" in (tmp_path / "o" / "binary.csv").read_text()
    assert "Apart: partial suite" in (tmp_path / "o" / "partial.md").read_text()


def test_a_suite_by_name_and_runs_by_model(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RMBENCH_RESULTS", str(results))
    result = report("org/good", "judge", "--out", tmp_path, "--format", "csv", "--json")
    assert result.exit_code == 0, result.output
    models = {r["model"] for b in json.loads(result.output)["boards"] for r in b["rows"]}
    assert models == {"org/good", "judge"}
    elsewhere = report("--suite", "elsewhere", "--out", tmp_path, "--format", "csv")
    assert elsewhere.exit_code == 2
    assert f"no runs of suite 'elsewhere' in {results}; there are runs of toy" in elsewhere.stderr
    wrong = report("org/god", "--out", tmp_path)
    assert wrong.exit_code == 2
    assert "org/good" in wrong.output


def test_unknown_formats_are_named(results: Path, tmp_path: Path) -> None:
    for wrong in ("pdf", "md,docx", ""):
        result = report(results, "--out", tmp_path, "--format", wrong)
        assert result.exit_code == 2
        assert "known: md, csv" in result.output


def test_the_trend_reads_steps_or_a_file(tmp_path: Path) -> None:
    of = made.suite(40)
    for step in (100, 200, 400):
        made.run(tmp_path / "results", of, f"run/checkpoint-{step}", skill=step / 200, seed=step)
    made.run(tmp_path / "results", of, "other", seed=1)
    out = tmp_path / "o"
    assert report(tmp_path / "results", "--out", out, "--format", "svg", "--x", "step").exit_code == 0
    assert "step" in (out / "toy-trend.svg").read_text()
    table = tmp_path / "sizes.csv"
    table.write_text("model,x\nother,7\nrun/checkpoint-100,1e6\n")
    assert report(tmp_path / "results", "--out", out, "--format", "svg", "--x", table).exit_code == 0
    assert ">sizes</text>" in (out / "toy-trend.svg").read_text()
    table.write_text("name,x\nother,7\n")
    for wrong, why in (
        (table, "no column 'model'"),
        (tmp_path / "absent.csv", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        refused = report(tmp_path / "results", "--out", out, "--format", "svg", "--x", wrong)
        assert refused.exit_code == 2
        assert refused.stderr == f"Error: --x {wrong}: neither 'step' nor a CSV with the columns model and x ({why})\n"
    one = report(tmp_path / "results" / "other-6e5d4ee0", "--x", "step")
    assert one.exit_code == 2


@pytest.mark.parametrize(
    ("name", "x"),
    [("a/step-200", 200), ("a-step200", 200), ("m_step_1.5k", 1500), ("checkpoint-40", 40), ("out-iter=2m", 2e6)],
)
def test_steps_in_names(name: str, x: float) -> None:
    from rmbench.report import plots

    assert plots.positions("step", [name, "other-step-1", "footstep"]) == {name: x, "other-step-1": 1.0}


def test_a_page_of_own_data_takes_its_texts_from_the_file(tmp_path: Path) -> None:
    rows = [{"prompt": f"unmistakable {i}", "chosen": "a", "rejected": "b"} for i in range(6)]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    ran = CliRunner().invoke(
        main, ["eval", "--model", "length:longest", "--suite", str(file), "--out", str(tmp_path / "results"), "--json"]
    )
    assert ran.exit_code == 0, ran.output
    without = report(tmp_path / "results", "--out", tmp_path / "a", "--format", "html")
    assert without.exit_code == 0, without.output
    (page,) = (tmp_path / "a").iterdir()
    assert "rows are not at hand" in page.read_text()
    assert str(tmp_path) not in page.read_text()
    given = report(tmp_path / "results", "--out", tmp_path / "b", "--format", "html", "--data", file)
    assert given.exit_code == 0
    assert "not at hand" not in (tmp_path / "b" / page.name).read_text()


def test_a_damaged_run_is_named_and_the_others_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = made.suite(24)
    root = tmp_path / "results"
    whole = made.run(root, of, "whole", seed=1)
    damaged = made.run(root, of, "damaged", seed=2)
    other = made.run(root, of, "other", seed=3)
    judgments = (damaged / store.JUDGMENTS).read_bytes()
    (damaged / store.JUDGMENTS).write_bytes(judgments.replace(b"item_id", b"item_ID", 1))
    (other / store.RUN).write_text("{")
    for more in ((), ("--suite", "toy")):
        result = report(root, "--out", tmp_path / "o", "--format", "csv", "--json", *more)
        assert result.exit_code == 0, result.stderr
        said = json.loads(result.stdout)
        assert {r["model"] for b in said["boards"] for r in b["rows"]} == {"whole"}
        assert len(said["left_out"]) == 2
        assert f"Left out: {damaged / store.JUDGMENTS}:1: the line's checksum does not match" in result.stderr
        assert f"Left out: {other / store.RUN} cannot be read" in result.stderr
    # One that is asked for by name is not left out in silence, and nobody else's way is barred by it.
    monkeypatch.setenv("RMBENCH_RESULTS", str(root))
    for name, path in (("damaged", damaged), ("other", other)):
        for ref in (name, path):
            asked = report(ref, "whole", "--out", tmp_path / "p", "--format", "csv")
            assert asked.exit_code == 2
            assert str(path) in asked.stderr
    assert report("whole", "--out", tmp_path / "p", "--format", "csv").exit_code == 0
    nobody = report("nobody", "--out", tmp_path / "p")
    assert "1 there cannot be read, rmbench list runs names them" in nobody.stderr
    (whole / store.RUN).unlink()
    none = report(root, "--out", tmp_path / "p")
    assert none.exit_code == 2
    assert "the line's checksum does not match" in none.stderr
