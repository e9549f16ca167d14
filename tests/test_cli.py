"""The command line: what a user types, what comes back, and that mistakes end in one clear line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from msgspec.structs import replace

from rmbench import store

Cli = Callable[..., Result]

ALLOWED = {"click", "rmbench", "msgspec"}
"""Third-party packages that starting the command line may import. Add one only with a measurement of what it costs."""


def test_starting_imports_nothing_heavy() -> None:
    script = (
        "import sys; before = set(sys.modules)\n"
        "from rmbench.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "import json; print('\\n@' + json.dumps(sorted({m.partition('.')[0] for m in set(sys.modules) - before})))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    imported = set(json.loads(out.rpartition("@")[2]))
    foreign = {m for m in imported if m not in sys.stdlib_module_names and not m.startswith("_")}
    assert foreign <= ALLOWED


def test_help_names_every_command_and_the_exit_codes(cli: Cli) -> None:
    from rmbench.cli import COMMANDS

    result = cli("--help")
    assert result.exit_code == 0
    assert "Exit codes: 0 fine or passed, 1 the gate failed" in " ".join(result.output.split())
    for name in COMMANDS:
        assert name in result.output
        assert cli(name, "--help").exit_code == 0


def test_eval_ends_with_a_table_of_80_columns(cli: Cli, tmp_path: Path) -> None:
    for model in ("random", "length:longest"):
        assert cli("eval", "--model", model, "--suite", "starter", "--out", tmp_path).exit_code == 0
    result = cli("eval", "--model", "oracle", "--suite", "starter", "--out", tmp_path)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines if str(tmp_path) not in line)
    assert "rules starter-1" in lines[0]
    assert "longest" in result.stdout
    assert "random" in result.stdout
    assert any(line.startswith("overall") and "100.0" in line for line in lines)
    again = cli("eval", "--model", "oracle", "--suite", "starter", "--out", tmp_path)
    assert again.exit_code == 0
    assert "complete" in again.stderr


def test_json_is_one_object_and_quiet(cli: Cli, tmp_path: Path) -> None:
    result = cli("eval", "--model", "constant", "--suite", "starter", "--out", tmp_path, "--json")
    assert result.stderr == ""
    made = json.loads(result.stdout)
    overall = next(e for e in made["estimates"] if e["scope"] == "overall")
    assert overall["value"] == 0.5
    assert store.read(Path(made["run"])).run.status == "complete"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--model", "oracle", "--suite", "startr"], "unknown suite 'startr'; did you mean starter"),
        (["--model", "startre", "--suite", "starter"], "unknown model 'startre'; did you mean starter"),
        (["--model", "./no", "--suite", "starter"], "model './no': no such folder"),
        (["--model", "oracle", "--suite", "starter", "--limit", "0"], "--limit 0: it must be 1 or more"),
        (["--model", "oracle", "--suite", "starter", "--limit", "x"], "'x' is not a valid integer"),
        (["--model", "length:wide", "--suite", "starter"], "unknown baseline 'length:wide'; did you mean length"),
        (["--model", "random:x", "--suite", "starter"], "the seed must be a whole number"),
        (["--model", "scripted:/no/file", "--suite", "starter"], "script /no/file cannot be read"),
        (["--model", "oracle", "--suite", "starter", "--dtype", "float32"], "'baselines' does not use --dtype"),
        (["--model", "oracle", "--suite", "starter", "--adapter", "scaler"], "did you mean scalar"),
        (["--model", "oracle", "--suite", "no.jsonl"], "no.jsonl"),
        (["--model", "oracle", "--suite", "no.py"], "no.py does not exist"),
        (["--model", "oracle", "--suite", "starter", "--columns", "x=y"], "for your own data"),
        (["--model", "oracle", "--suite", "starter", "--no-such"], "No such option '--no-such'"),
        (["--model", "oracle"], "Missing option '--suite'"),
    ],
)
def test_a_mistake_is_exit_2_and_one_clear_line(cli: Cli, tmp_path: Path, args: list[str], said: str) -> None:
    result = cli("eval", *args, "--out", tmp_path)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = cli("eval", "--model", "oracle", "--suite", "starter", "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert f"cannot write to {tmp_path}/file" in result.stderr


def test_another_schema_is_named(cli: Cli, tmp_path: Path) -> None:
    cli("eval", "--model", "oracle", "--suite", "starter", "--out", tmp_path)
    file = store.find(tmp_path)[0] / store.RUN
    file.write_text(file.read_text().replace('"schema": 1', '"schema": 0'))
    result = cli("eval", "--model", "oracle", "--suite", "starter", "--out", tmp_path)
    assert result.exit_code == 2
    assert "schema 0, this rmbench reads 1" in result.stderr


def script(tmp_path: Path, lines: list[dict[str, Any]]) -> str:
    path = tmp_path / "script.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"scripted:{path}"


def test_scripted_replays_scores_ballots_and_errors(cli: Cli, tmp_path: Path) -> None:
    from rmbench import suites

    items = suites.load("starter").items[:4]
    pair = [i for i in items if len(i.responses) == 2]
    lines: list[dict[str, Any]] = [
        {"item_id": pair[0].id, "scores": list(pair[0].grades)},
        {"item_id": pair[1].id, "scores": [None, 1.0]},
        {"item_id": pair[2].id, "ballots": [{"shown": [0, 1], "picked": 0}, {"shown": [1, 0], "tie": True}]},
    ]
    result = cli(
        "eval", "--model", script(tmp_path, lines), "--suite", "starter", "--out", tmp_path / "r", "--max-errors", 1
    )
    assert result.exit_code == 0
    stored = store.read(store.find(tmp_path / "r")[0])
    assert stored.run.model == "scripted:script.jsonl"
    assert stored.judgments[pair[0].id].scores == pair[0].grades
    assert "not finite" in str(stored.judgments[pair[1].id].error)
    assert stored.judgments[pair[2].id].scores == (0.75, 0.25)
    assert len(stored.judgments[pair[2].id].ballots) == 2
    assert "no line for this item" in str(stored.judgments[items[3].id].error)


@pytest.mark.parametrize(
    "line", ['{"item_id": 3}', '{"item_id": "x", "scores": [1], "extra": 1}', "{", '{"item_id": "a"}\n{"item_id": "a"}']
)
def test_a_bad_script_is_named_by_line(cli: Cli, tmp_path: Path, line: str) -> None:
    (tmp_path / "s.jsonl").write_text(line + "\n")
    result = cli("eval", "--model", f"scripted:{tmp_path}/s.jsonl", "--suite", "starter", "--out", tmp_path / "r")
    assert result.exit_code == 2
    assert "s.jsonl:" in result.stderr


def test_too_many_errors_is_exit_3(cli: Cli, tmp_path: Path) -> None:
    result = cli("eval", "--model", script(tmp_path, []), "--suite", "starter", "--out", tmp_path / "r")
    assert result.exit_code == 3
    assert "the script has no line for this item" in result.stderr
    assert "is kept in" in result.stderr


def test_show_says_what_is_in_a_suite(cli: Cli, real_data: Path, tmp_path: Path) -> None:
    result = cli("show", "rewardbench", "--data", real_data)
    assert result.exit_code == 0
    said = " ".join(result.stdout.split())
    for part in ("ODC-BY", "rewardbench-2024-09", "math-prm 447 984", "100 absent", "Hash", "Example llmbar", "arXiv"):
        assert part in said, part
    assert "rewardbench:with-prior-sets" in said
    without = cli("show", "rewardbench")
    assert without.exit_code == 0
    assert "No rows at hand" in without.stdout
    assert "math-prm" in without.stdout
    assert cli("show", "starter", "--item", "nope").exit_code == 2
    (tmp_path / "mine.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": ""}\n')
    assert "mine.jsonl:1: 'rejected' is empty" in cli("show", tmp_path / "mine.jsonl").stderr
    assert json.loads(cli("show", "starter", "--json").stdout)["item"]["id"]


@pytest.mark.parametrize("suite", ["openai-moderation", "hh-rlhf:harmless-base"])
def test_offensive_text_comes_after_a_warning(cli: Cli, real_data: Path, suite: str) -> None:
    said = cli("show", suite, "--data", real_data).stdout
    assert 0 < said.index("Warning: ") < said.index("-- response 0")
    seen = cli("show", suite, "--data", real_data, "--model", "starter").stdout
    assert seen.startswith("Warning: ")


def test_fetch_says_each_suite_as_it_comes(cli: Cli) -> None:
    result = cli("fetch", "starter", "xstest")
    assert result.exit_code == 2
    assert result.stdout == "starter: bundled, nothing to fetch\n"
    assert "xstest is not on the Hugging Face Hub. Clone https" in result.stderr
    assert json.loads(cli("fetch", "starter", "--json").stdout) == {"starter": {}}


def test_list_and_schema(cli: Cli, tmp_path: Path) -> None:
    cli("eval", "--model", "oracle", "--suite", "starter", "--out", tmp_path)
    said = cli("list", "--results", tmp_path).stdout
    for part in ("rewardbench", "oracle", "scalar", "length:longest", "complete", "name:variant"):
        assert part in said
    listed = {s["name"]: s for s in json.loads(cli("list", "suites", "--json").stdout)["suites"]}
    assert listed["rewardbench"]["items"] == 2985
    assert listed["hh-rlhf"]["items"] is None  # three of its four sets have no published count
    assert json.loads(cli("list", "runs", "--results", tmp_path, "--json").stdout)["runs"][0]["model"] == "oracle"
    schema = json.loads(cli("schema").stdout)
    run = store.read_run(store.find(tmp_path)[0])
    import jsonschema
    import msgspec

    jsonschema.validate(json.loads(msgspec.json.encode(run)), {**schema, "$ref": "#/$defs/Run"})


def test_an_adapter_file_of_ones_own(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from rmbench.core import Judgment\n"
        "OPTIONS = frozenset({'beta'})\n"
        "class Vowels:\n"
        "    def __init__(self, beta): self.settings = {'rule': 'vowels', 'beta': beta}\n"
        "    def judge(self, items):\n"
        "        for item in items:\n"
        "            yield Judgment.of(item, [sum(map(r.count, 'aeiou')) for r in item.responses])\n"
        "def open(ref, options): return Vowels(options.beta)\n"
    )
    args = ("eval", "--model", "v", "--adapter", tmp_path / "mine.py", "--suite", "starter", "--out", tmp_path / "r")
    assert cli(*args, "--beta", "0.5").exit_code == 0
    assert store.read_run(store.find(tmp_path / "r")[0]).settings["beta"] == 0.5
    assert "does not use --samples" in cli(*args, "--samples", "3").stderr
    (tmp_path / "mine.py").write_text("x = 1")
    assert "has no OPTIONS and no open" in cli(*args).stderr


def test_list_says_how_runs_stand_and_hides_none(cli: Cli, tmp_path: Path) -> None:
    for model in ("oracle", "random", "constant"):
        assert cli("eval", "--model", model, "--suite", "starter", "--out", tmp_path).exit_code == 0
    one, two = store.resolve("random", tmp_path), store.resolve("constant", tmp_path)
    (two / store.RUN).write_text("{}")
    run = store.read_run(one)
    stored = store.read(one)
    half = dict(list(stored.judgments.items())[:100])
    store.import_run(tmp_path, replace(run, status="running", done=7), stored.facts, half)
    listed = {r["model"]: r for r in json.loads(cli("list", "runs", "--results", tmp_path, "--json").stdout)["runs"]}
    assert {name: r["status"] for name, r in listed.items()} == {
        "oracle": "complete", "random": "paused", two.parent.name: "unreadable",
    }  # fmt: skip
    assert listed["random"]["items"] == "100/383"  # what stands in run.json was written some time before
    assert f"{two / store.RUN} has schema None" in listed[two.parent.name]["problem"]
    shown = cli("list", "runs", "--results", tmp_path)
    assert shown.exit_code == 0
    assert all(str(path) in shown.stdout for path in (one, two))
    assert f"Unreadable: {two / store.RUN} has schema None" in shown.stdout
    assert cli("compare", "oracle", "random", "--results", tmp_path).exit_code == 0  # and bars nobody's way


def lines_in(folder: Path) -> int:
    return sum(f.read_bytes().count(b"\n") for f in folder.glob("r/*/*/judgments.jsonl"))


def test_ctrl_c_pauses_and_says_how_to_go_on(tmp_path: Path) -> None:
    import signal
    import time

    (tmp_path / "slow.py").write_text(
        "import time\nfrom rmbench.core import Judgment\nOPTIONS = frozenset()\n"
        "class Slow:\n"
        "    block = 16\n    settings = {}\n"
        "    def judge(self, items):\n"
        "        for item in items:\n"
        "            time.sleep(0.01)\n            yield Judgment.of(item, [1.0] * len(item.responses))\n"
        "def open(ref, options): return Slow()\n"
    )
    command = [sys.executable, "-m", "rmbench", "eval", "--model", "s", "--adapter", str(tmp_path / "slow.py")]
    command += ["--suite", "starter", "--out", str(tmp_path / "r")]
    for sent in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        lines = 0
        before = lines_in(tmp_path)
        while lines <= before and time.monotonic() < deadline:
            time.sleep(0.05)
            lines = lines_in(tmp_path)
        process.send_signal(sent)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 3
        assert "Run the same command again to go on." in err
        assert "Traceback" not in err
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "383 of 383 items" in done.stdout


def test_sequential_stops_a_clear_regression_early(cli: Cli, tmp_path: Path) -> None:
    assert cli("eval", "--model", "oracle", "--suite", "starter", "--out", tmp_path).exit_code == 0
    args = ("--suite", "starter", "--out", tmp_path, "--sequential", "oracle")
    worse = cli("eval", "--model", "length:shortest", *args)
    assert worse.exit_code == 1
    assert "FAIL" in worse.stdout
    assert "were not needed" in worse.stdout
    path = store.resolve("length:shortest", tmp_path)
    stored = store.read(path)
    assert stored.run.status == "running"
    assert 0 < len(stored.judgments) < 383
    before = (path / store.JUDGMENTS).read_bytes()
    again = cli("eval", "--model", "length:shortest", *args)  # what is known already needs no more judging
    assert again.exit_code == 1
    assert (path / store.JUDGMENTS).read_bytes() == before
    said = json.loads(cli("eval", "--model", "length:shortest", *args, "--json").stdout)["verdict"]
    assert (said["outcome"], said["candidate"]) == ("fail", "length:shortest")
    assert said["stopped_after"] + said["saved"] == 383
    other = cli("eval", "--model", "random", *args, "--limit", "20")
    assert other.exit_code == 3
    assert "was made with all items" in other.stderr
    assert not list(tmp_path.glob("random*"))  # refused before anything is judged
    assert cli("eval", "--model", "oracle", *args).exit_code in (0, 3)
