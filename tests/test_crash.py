"""A crash never looks like a verdict: every command under streams, disks and users that refuse; its exit code, its
files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from rmbench import store
from rmbench.cli import main, output
from rmbench.errors import Exit

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
RMBENCH = [sys.executable, "-W", "error", "-m", "rmbench"]

Run = Callable[..., tuple[int, str, str]]
Closed = Callable[[Path], None]
Undisturbed = Callable[[str], tuple[int, str, dict[str, bytes]]]

GATE = ("--results", "results", "--junit", "o/j.xml", "--summary", "o/s.md")
COMMANDS: dict[str, tuple[Exit, tuple[str, ...]]] = {
    "eval": (Exit.FINE, ("eval", "--model", "length:longest", "--suite", "starter", "--out", "o")),
    "eval, refused": (Exit.USAGE, ("eval", "--model", "nobody", "--suite", "starter", "--out", "o")),
    "eval, regression": (
        Exit.FAILED,
        ("eval", "--model", "random:9", "--suite", "starter", "--out", "results", "--sequential", "oracle"),
    ),
    "compare": (Exit.FINE, ("compare", "constant", "oracle", "--results", "results", "--html", "o/c.html")),
    "compare, json": (Exit.FINE, ("compare", "constant", "oracle", "--results", "results", "--json")),
    "gate, pass": (Exit.FINE, ("gate", "oracle", "--baseline", "constant", *GATE)),
    "gate, json": (Exit.FINE, ("gate", "oracle", "--baseline", "constant", *GATE, "--json")),
    "gate, fail": (Exit.FAILED, ("gate", "constant", "--baseline", "oracle", *GATE)),
    "gate, undecided": (Exit.UNDECIDED, ("gate", "length:shortest", "--baseline", "constant", *GATE)),
    "report": (Exit.FINE, ("report", "results", "--out", "o", "--format", "md,csv,tex")),
    "report, stale": (Exit.UNDECIDED, ("report", "results", "--out", "o", "--format", "md", "--check")),
    "report, nothing": (Exit.USAGE, ("report", "empty", "--out", "o")),
    "list": (Exit.FINE, ("list", "--results", "results")),
    "list, json": (Exit.FINE, ("list", "--results", "results", "--json")),
    "show": (Exit.FINE, ("show", "starter")),
    "show, json": (Exit.FINE, ("show", "starter", "--json")),
    "fetch": (Exit.FINE, ("fetch", "starter")),
    "export": (Exit.FINE, ("export", "results/oracle-e0ed3d1f", "--to", "csv", "--out", "o")),
    "export, card": (Exit.FINE, ("export", "results/oracle-e0ed3d1f", "--to", "model-index", "--out", "o")),
    "import": (Exit.FINE, ("import", "scores.jsonl", "--from", "jsonl", "--suite", "starter", "--out", "o")),
    "doctor": (Exit.FINE, ("doctor",)),
    "schema": (Exit.FINE, ("schema",)),
    "help": (Exit.FINE, ("eval", "--help")),
    "version": (Exit.FINE, ("--version",)),
    "no command": (Exit.USAGE, ("leaderboard",)),
}
WRITING = [name for name, (code, args) in COMMANDS.items() if "o" in args or any(a.startswith("o/") for a in args)]


def place(folder: Path) -> Path:
    """A working directory with runs, a file of scores, and a folder for what is written."""
    for run in (
        run for name in ("constant", "length", "oracle", "random", "starter") for run in RESULTS.glob(f"{name}*")
    ):
        shutil.copytree(run / "starter-v1", folder / "results" / run.name / "starter-v1")
    for name in ("o", "empty"):
        (folder / name).mkdir()
    judged = store.read(store.find(RESULTS)[0])
    scores = [json.dumps({"item_id": f.item_id, "scores": list(range(len(f.grades)))}) for f in judged.facts]
    (folder / "scores.jsonl").write_text("\n".join(scores))
    return folder


def environment(**more: str) -> dict[str, str]:
    hidden = ("GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS", "COLUMNS", "PYTHONIOENCODING", "LC_ALL", "PYTHONUTF8")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, "PYTHONPATH": str(ROOT / "harness"), "PYTHONDONTWRITEBYTECODE": "1", **more}


def files(folder: Path) -> dict[str, bytes]:
    """What a command wrote; of a run's own file, which holds times, that it is there."""
    found = sorted(p for part in ("o", "results") for p in (folder / part).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): b"" if p.name == store.RUN else p.read_bytes() for p in found}


@pytest.fixture(scope="module")
def ran() -> Iterator[Run]:
    """``ran(folder, args)``: exit code, output, errors, in which nothing looks like a traceback."""
    from forking import Forking

    forking = Forking()

    def run(folder: Path, args: tuple[str, ...], **job: Any) -> tuple[int, str, str]:
        code, out, err = forking.run(args, cwd=str(folder), **{"env": environment(), **job})
        assert "Traceback" not in err, err
        assert "Exception ignored" not in err, err
        return code, out.decode("latin-1" if "env" in job else "utf-8"), err

    yield run
    forking.close()


def really(folder: Path, args: tuple[str, ...], **options: Any) -> tuple[int, str, str]:
    """The same in a process of its own, where its start matters."""
    options = {"env": environment(), **options}
    done = subprocess.run([*RMBENCH, *args], cwd=folder, capture_output=True, timeout=600, check=False, **options)
    err = done.stderr.decode("utf-8", "replace")
    assert "Traceback" not in err, err
    return done.returncode, done.stdout.decode("utf-8"), err


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, ran: Run) -> Undisturbed:
    kept: dict[str, tuple[int, str, dict[str, bytes]]] = {}

    def find(name: str) -> tuple[int, str, dict[str, bytes]]:
        if name not in kept:
            folder = place(tmp_path_factory.mktemp("undisturbed"))
            code, said, err = ran(folder, COMMANDS[name][1])
            assert code == COMMANDS[name][0], err
            kept[name] = code, said, files(folder)
        return kept[name]

    return find


@pytest.mark.parametrize(
    ("name", "encoding"),
    [(name, "ascii") for name in COMMANDS]
    + [(name, other) for name in ("compare", "gate, fail", "list, json") for other in ("latin-1", "cp1252")],
)
def test_a_stream_of_few_characters(
    tmp_path: Path, ran: Run, undisturbed: Undisturbed, name: str, encoding: str
) -> None:
    before, _, written = undisturbed(name)
    folder = place(tmp_path)
    code, said, err = ran(folder, COMMANDS[name][1], env=environment(PYTHONIOENCODING=encoding))
    assert code == before, err
    assert files(folder) == written
    assert encoding != "ascii" or said.isascii()
    if "--json" in COMMANDS[name][1]:
        json.loads(said)


@pytest.mark.parametrize("name", ["list, json", "gate, pass", "gate, fail"])
def test_a_posix_locale(tmp_path: Path, undisturbed: Undisturbed, name: str) -> None:
    """As it is on a machine without any other, which the interpreter must be told not to mend."""
    before, _, written = undisturbed(name)
    folder = place(tmp_path)
    locale = environment(LC_ALL="POSIX", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    code, said, err = really(folder, COMMANDS[name][1], env=locale)
    assert code == before, err
    assert files(folder) == written
    assert said.isascii()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_behind_the_output(tmp_path: Path, ran: Run, undisturbed: Undisturbed, name: str) -> None:
    before, _, written = undisturbed(name)
    folder = place(tmp_path)
    code, _, err = ran(folder, COMMANDS[name][1], stdout="full")
    assert code == (before or Exit.USAGE)  # not everything that was asked for was delivered
    assert before or "Error: cannot write the output: No space left on device" in err.splitlines()
    assert files(folder) == written


@pytest.mark.parametrize("name", COMMANDS)
def test_a_reader_that_has_gone(tmp_path: Path, ran: Run, undisturbed: Undisturbed, name: str) -> None:
    before, _, written = undisturbed(name)
    folder = place(tmp_path)
    code, _, err = ran(folder, COMMANDS[name][1], stdout="gone")
    assert code == before, err
    assert "cannot write" not in err
    assert files(folder) == written


@pytest.mark.parametrize("name", ["gate, pass", "gate, fail", "report", "list, json", "no command"])
@pytest.mark.parametrize("how", ["closed", "full", "gone"])
def test_neither_stream_takes_anything(tmp_path: Path, ran: Run, undisturbed: Undisturbed, name: str, how: str) -> None:
    before, _, written = undisturbed(name)
    folder = place(tmp_path)
    code, _, _ = ran(folder, COMMANDS[name][1], stdout=how, stderr=how)
    assert code == (before or (Exit.USAGE if how == "full" else Exit.FINE))
    assert files(folder) == written


@pytest.mark.parametrize("name", WRITING)
def test_a_disk_that_takes_no_more(tmp_path: Path, ran: Run, undisturbed: Undisturbed, name: str) -> None:
    """No file grows beyond 100 bytes: one clear line, the verdict's code or 2, and no half of a file."""
    before, _, written = undisturbed(name)
    folder = place(tmp_path)
    code, said, err = ran(folder, COMMANDS[name][1], limit=100)
    if before == Exit.FINE:
        assert code == Exit.USAGE
        assert "cannot write" in err.splitlines()[-1]
        assert "File too large" in err.splitlines()[-1]
    else:
        assert code == before
    if name.startswith("gate"):
        assert said  # the verdict is not lost with its files
    whole = {k: v for k, v in files(folder).items() if Path(k).name not in (store.RUN, store.JUDGMENTS)}
    assert whole.items() <= written.items()


@pytest.mark.parametrize("name", WRITING)
def test_a_file_where_the_folder_should_be(tmp_path: Path, ran: Run, undisturbed: Undisturbed, name: str) -> None:
    before, _, _ = undisturbed(name)
    folder = place(tmp_path)
    (folder / "o").rmdir()
    (folder / "o").write_text("in the way")
    code, _, err = ran(folder, COMMANDS[name][1])
    assert code == (before or Exit.USAGE)
    assert before or "cannot write" in err
    assert (folder / "o").read_text() == "in the way"


def test_devices_pipes_and_links_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    store.write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    store.append_file(tmp_path / "link", b"er")
    assert (tmp_path / "real").read_bytes() == b"newer"
    store.write_file(Path(os.devnull), b"gone")
    store.append_file(Path(os.devnull), b"gone")
    assert Path(os.devnull).is_char_device()
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE)
    store.write_file(tmp_path / "pipe", b"through")
    assert reader.communicate(timeout=60)[0] == b"through"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "pipe", "real"]


# Users and places


@pytest.fixture
def stranger() -> dict[str, Any]:
    """A user without a name and a home, to whom nothing belongs."""
    hidden = ("HOME", "USER", "LOGNAME", "RMBENCH_CACHE")
    return {"stranger": True, "env": {name: said for name, said in environment().items() if name not in hidden}}


@pytest.fixture
def closed() -> Iterator[Closed]:
    """``closed(folder)``: nothing in it can be written, until the test is over."""
    folders: list[Path] = []

    def mark(folder: Path, folders_as: int, files_as: int) -> None:
        for path in (folder, *folder.rglob("*")):
            path.chmod(folders_as if path.is_dir() else files_as)

    def close(folder: Path) -> None:
        folders.append(folder)
        mark(folder, 0o555, 0o444)

    yield close
    for folder in folders:
        mark(folder, 0o755, 0o644)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_user_without_name_and_home_in_a_place_that_is_not_theirs(
    tmp_path: Path, ran: Run, undisturbed: Undisturbed, stranger: dict[str, Any], closed: Closed, name: str
) -> None:
    """Whatever must be written says that it cannot be; the rest works."""
    before, _, _ = undisturbed(name)
    folder = place(tmp_path)
    closed(folder)
    held = files(folder)
    code, _, err = ran(folder, COMMANDS[name][1], **stranger)
    writes = name in WRITING and before in (Exit.FINE,)
    if name == "eval, regression":
        assert code == Exit.USAGE
    else:
        assert code == (Exit.USAGE if writes else before), err
    assert not writes or "Permission denied" in err
    assert files(folder) == held


def test_a_finished_run_in_a_folder_that_cannot_be_written_is_reported(
    tmp_path: Path, ran: Run, stranger: dict[str, Any], closed: Closed
) -> None:
    folder = place(tmp_path)
    args = ("eval", "--model", "oracle", "--suite", "starter", "--out", "results")
    closed(folder)
    code, said, err = ran(folder, args, **stranger)
    assert (code, "100.0" in said) == (0, True), err
    assert "This run was complete; nothing was judged again" in err


def test_estimates_that_are_stale_and_cannot_be_written_are_not_what_is_shown(
    tmp_path: Path, ran: Run, stranger: dict[str, Any], closed: Closed
) -> None:
    folder = place(tmp_path)
    (estimates,) = (folder / "results").glob(f"oracle-*/*/{store.ESTIMATES}")
    estimates.write_text("[]")
    closed(folder)
    code, said, err = ran(folder, ("eval", "--model", "oracle", "--suite", "starter", "--out", "results"), **stranger)
    assert (code, "100.0" in said) == (0, True), err
    assert estimates.read_text() == "[]"


def test_errors_of_a_finished_run_in_such_a_folder_are_said_and_kept(
    tmp_path: Path, ran: Run, stranger: dict[str, Any], closed: Closed
) -> None:
    folder = place(tmp_path)
    (folder / "few.jsonl").write_text((folder / "scores.jsonl").read_text().partition("\n")[0])
    args = ("eval", "--model", "scripted:few.jsonl", "--suite", "starter", "--out", "o", "--max-errors", "1")
    assert ran(folder, args)[0] == 0
    held = files(folder)
    closed(folder)
    code, said, err = ran(folder, args, **stranger)
    assert code == 0, err
    assert "cannot be written: its 382 errors are not tried again" in err
    assert "382 errors" in said
    assert files(folder) == held


def test_a_name_that_is_not_utf8(tmp_path: Path, ran: Run) -> None:
    folder = place(tmp_path)
    rows = os.path.join(os.fsencode(folder), b"r\xff.jsonl")
    with open(rows, "wb") as file:
        file.write(b'{"prompt": "?", "chosen": "a", "rejected": "bb"}\n')
    done = subprocess.run(
        [*map(os.fsencode, RMBENCH), b"eval", b"--model", b"oracle", b"--suite", rows],
        cwd=folder, env=environment(), capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"r\\udcff.jsonl' is not text in this system's encoding (utf-8): rename the file" in done.stderr
    # A folder of such a name among the results is in nobody's way.
    shutil.copytree(folder / "results" / "oracle-e0ed3d1f", os.fsdecode(b"%b/m\xff" % os.fsencode(folder / "results")))
    code, said, err = ran(folder, ("list", "runs", "--results", "results"))
    assert (code, err) == (0, "")
    assert "results/m\\udcff/starter-v1" in said
    code, said, err = ran(folder, ("list", "runs", "--results", "results", "--json"))
    assert "results/m\udcff/starter-v1" in {run["path"] for run in json.loads(said)["runs"]}
    assert ran(folder, ("report", "results", "--out", "o"))[0] == 0


def test_a_checkpoint_in_a_folder_that_is_not_utf8_has_a_name_that_can_be_stored(tmp_path: Path) -> None:
    from rmbench import adapters

    name = os.fsdecode(b"m\xff")
    (tmp_path / name).mkdir()
    assert adapters.label(str(tmp_path / name)) == "m\\udcff"


def test_piped_output_is_as_wide_as_columns_says_and_breaks_no_path(tmp_path: Path, ran: Run) -> None:
    folder = place(tmp_path)
    args = COMMANDS["gate, undecided"][1]
    narrow = ran(folder, args)[1].splitlines()
    wide = ran(folder, args, env=environment(COLUMNS="300"))[1].splitlines()
    assert max(map(len, narrow)) <= 80 < max(map(len, wide)) <= 300
    for name in ("show", "report", "gate, fail"):
        code, _, err = ran(folder, COMMANDS[name][1], env=environment(COLUMNS="20"))
        assert code == COMMANDS[name][0], err
    shutil.copytree(folder / "results" / "oracle-e0ed3d1f", folder / "results" / ("m" * 90))
    for columns in ("", "20", "300", "no number", "0"):
        said = ran(folder, ("list", "runs", "--results", "results"), env=environment(COLUMNS=columns))[1]
        assert f"results/{'m' * 90}/starter-v1" in said


def test_a_name_that_looks_like_markup_is_printed_as_it_is(tmp_path: Path, ran: Run) -> None:
    folder = place(tmp_path)
    shutil.copytree(folder / "results" / "oracle-e0ed3d1f", folder / "results" / "[x] a[b] :smile:")
    code, said, err = ran(folder, ("list", "runs", "--results", "results"))
    assert code == 0, err
    assert "results/[x] a[b] :smile:/starter-v1" in said


# What nobody expected


def crash(monkeypatch: pytest.MonkeyPatch, error: BaseException, *args: str) -> Any:
    def raises(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(store, "find", raises)
    return CliRunner().invoke(main, args or ("list", "runs"))


@pytest.mark.parametrize(
    "error",
    [RuntimeError("no \udcff luck\nsecond line"), SystemExit(1), SystemExit(0), SystemExit("x"), EOFError(),
     BrokenPipeError(32, "Broken pipe"), RecursionError(), MemoryError(), UnicodeEncodeError("ascii", "é", 0, 1, "no")],
    ids=repr,
)  # fmt: skip
def test_an_unexpected_error_is_code_4_a_line_and_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = crash(monkeypatch, error)
    assert result.exit_code == Exit.CRASH
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: unexpected, and no verdict: {type(error).__name__}")
    (file,) = tmp_path.iterdir()
    assert f"The traceback is in {file}" in line
    told = file.read_text()
    assert "Traceback (most recent call last)" in told
    assert "in raises" in told


def test_where_no_folder_takes_a_file_the_traceback_is_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    result = crash(monkeypatch, RuntimeError("no luck"))
    assert result.exit_code == Exit.CRASH
    assert "Traceback (most recent call last)" in result.stderr
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.gettempdir", full)  # no folder for temporary files: the working directory
    assert f"The traceback is in {tmp_path}" in crash(monkeypatch, RuntimeError("no luck")).stderr


@pytest.mark.parametrize("error", [click.Abort(), KeyboardInterrupt()], ids=repr)
def test_an_end_of_input_where_a_word_is_asked_for_is_no_failed_gate(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    result = crash(monkeypatch, error)
    assert result.exit_code == Exit.UNDECIDED
    assert "nothing was decided" in result.stderr


ADAPTERS = {
    "import os\nraise ValueError('no weights')": (2, "cannot be imported: ValueError: no weights ("),
    "import nothing_of_that_name": (2, "cannot be imported: ModuleNotFoundError: No module named"),
    "def open(": (2, "cannot be imported: SyntaxError"),
    "import sys\nsys.exit(1)": (4, "unexpected, and no verdict: SystemExit: 1"),
    "OPTIONS = frozenset()\ndef open(ref, options):\n    raise KeyError('head')": (
        2,
        "mine.py' cannot open 'm': KeyError: 'head' (",
    ),
    "OPTIONS = frozenset()\ndef open(ref, options): pass": (
        2,
        "what open returns has no settings and no judge; an adapter has OPTIONS, a frozenset, and open(ref, options)",
    ),
    "OPTIONS = frozenset()\nimport sys\ndef open(ref, options): sys.exit(1)": (4, "SystemExit: 1"),
    "OPTIONS = frozenset()\nclass A:\n    settings = {}\n    def judge(self, items):\n        raise SystemExit(1)\n"
    "def open(ref, options): return A()": (4, "SystemExit: 1"),
}


@pytest.mark.parametrize("code", ADAPTERS)
def test_an_adapter_that_raises_has_its_reason_said(tmp_path: Path, ran: Run, code: str) -> None:
    (tmp_path / "mine.py").write_text(code)
    args = ("eval", "--model", "m", "--adapter", str(tmp_path / "mine.py"), "--suite", "starter", "--out", "o")
    wanted, said = ADAPTERS[code]
    got, _, err = ran(tmp_path, args, env=environment(TMPDIR=str(tmp_path)))
    assert got == wanted, err
    assert said in err
    assert len(err.splitlines()) <= 2  # the adapter's name, why it stopped
    assert wanted == 4 or "mine.py" in err


# Streams by themselves


def test_characters_fall_back_to_what_a_stream_can_hold() -> None:
    text = "a … – ± × ≤ → 模 \udcff \N{NO-BREAK SPACE}é😀"
    assert output.held(text, "ascii") == "a ... - +/- x <= -> \\u6a21 \\udcff  \\xe9\\U0001f600"
    assert output.held(text, "latin-1") == "a ... - ± × <= -> \\u6a21 \\udcff \N{NO-BREAK SPACE}é\\U0001f600"
    assert output.held(text, "utf-8") == text.replace("\udcff", "\\udcff")
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("utf-8", "rmbench")
