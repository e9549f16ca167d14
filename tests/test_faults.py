"""A real ``rmbench eval``, killed, starved of disk and lied to by its files, goes on to the bytes of one left alone."""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rmbench import adapters, store

ADAPTER = str(Path(__file__).parent / "slow_adapter.py")
COMMAND = [sys.executable, "-W", "error", "-m", "rmbench", "eval", "--suite", "starter"]
SLOW = [*COMMAND, "--model", "m", "--adapter", ADAPTER]
DYING = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def start(out: Path, command: list[str], limit: int | None = None, **told: Any) -> subprocess.Popen[str]:
    """``limit``: no file may grow beyond so many bytes."""

    def confine() -> None:
        # a test that runs in a shell's background would hand down that Ctrl-C is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    return subprocess.Popen(
        [*command, "--out", str(out)],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "RMBENCH_TEST_DELAY": "0.001",
            "PYTHONDONTWRITEBYTECODE": "1",
            **{f"RMBENCH_TEST_{name}": str(value) for name, value in told.items()},
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=confine if limit else None,
    )


def finish(process: subprocess.Popen[str], *codes: int) -> str:
    _, err = process.communicate(timeout=300)
    assert process.returncode in (codes or (0,)), (process.returncode, err)
    assert "Traceback" not in err, err
    return err


def content(root: Path) -> tuple[bytes, bytes]:
    """The sealed judgments and the estimates; that they can be read is part of it."""
    (path,) = store.find(root)
    assert store.read(path).run.status == "complete"
    return (path / store.JUDGMENTS).read_bytes(), (path / store.ESTIMATES).read_bytes()


def judgments(root: Path) -> Path:
    (path,) = (p.parent for p in root.glob(f"*/*/{store.JUDGMENTS}"))
    return path / store.JUDGMENTS


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    root = tmp_path_factory.mktemp("undisturbed")
    finish(start(root, SLOW))
    return content(root)


def killed(root: Path, command: list[str], draw: random.Random, ahead: int, within: float) -> bool:
    """Starts the command and kills it, at most ``within`` seconds after up to ``ahead`` more judgments are on disk;
    False where it came to its end before that."""
    how = draw.choice(DYING)
    wanted, before = judged(root) + draw.randrange(ahead), opened(root)
    process = start(root, command, DELAY=0.005)
    # not before the run is open: a signal to a starting interpreter says nothing about us
    while process.poll() is None and (opened(root) == before or judged(root) < wanted):
        time.sleep(0.005)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(draw.uniform(0, within))
    process.send_signal(how)
    _, err = process.communicate(timeout=300)
    # CPython ends itself by SIGINT, whatever the exit code, if the interrupt fell into an exec() of a string (some
    # libraries do that while they are imported).
    assert process.returncode in (0, 3, -how, -signal.SIGINT), (process.returncode, err)
    if process.returncode == 3:
        assert "Paused: " in err or "Interrupted: " in err  # the suite was not loaded yet
        assert "Run the same command again" in err
    return process.returncode != 0


def opened(root: Path) -> list[int]:
    """When the run was last opened or saved."""
    return [file.stat().st_mtime_ns for file in root.glob(f"*/*/{store.RUN}")]


def judged(root: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in root.glob(f"*/*/{store.JUDGMENTS}"))


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_killed_at_random_points(tmp_path: Path, undisturbed: tuple[bytes, bytes], kills: int) -> None:
    """SIGKILL, SIGTERM and Ctrl-C, so many that hit, over as many runs as that takes; each run goes on to its end."""
    draw = random.Random(kills)
    hits: list[int] = []
    for run in itertools.count():
        if len(hits) == kills:
            break
        root = tmp_path / f"{run}"
        while len(hits) < kills and killed(root, SLOW, draw, 100, 0.05):
            hits.append(judged(root))
        finish(start(root, SLOW))
        assert content(root) == undisturbed
    assert len(set(hits)) > kills // 3  # at many places of the run, not always at the same one


def counted(root: Path, **told: Any) -> int:
    """How many times the run makes something durable."""
    log = root / "count"
    finish(start(root / "counted", SLOW, COUNT=log, **told))
    return int(log.read_text())


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("share", [pytest.param(1.0, marks=pytest.mark.slow), 0.04])
def test_killed_at_every_disk_operation(
    tmp_path: Path, undisturbed: tuple[bytes, bytes], when: str, share: float
) -> None:
    """Dies before or after the k-th fsync or rename, then resumes; every one of them, or a sample."""
    total = counted(tmp_path, BLOCK=32)
    assert total > 12
    whole = content(tmp_path / "counted")
    draw = random.Random(f"{when}{share}")
    for k in sorted(draw.sample(range(1, total + 1), max(2, round(share * total)))):
        root = tmp_path / str(k)
        finish(start(root, SLOW, DIE_AT=k, DIE=when, BLOCK=32), -signal.SIGKILL)
        finish(start(root, SLOW, BLOCK=32))
        assert content(root) == whole, k
        assert not list(root.glob("*/*/.*.tmp")), k
        shutil.rmtree(root)


@pytest.mark.parametrize(
    "limit", [pytest.param(n, marks=[pytest.mark.slow] if n != 30_000 else []) for n in (1, 4000, 30_000, 50_000)]
)
def test_a_file_that_cannot_grow(tmp_path: Path, undisturbed: tuple[bytes, bytes], limit: int) -> None:
    err = finish(start(tmp_path, SLOW, limit=limit), 2)
    assert err.splitlines()[-1].startswith("Error: cannot write to ")
    assert "run the same command again" in err
    finish(start(tmp_path, SLOW))
    assert content(tmp_path) == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """``small_disk("size=64k")``: a tmpfs of that size, or the same one with other options."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def mount(options: str) -> Path:
        nonlocal mounted
        command = ["mount", "-t", "tmpfs", "-o", ("remount," if mounted else "") + options, "tmpfs", str(place)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            pytest.skip(f"no mount command: {error}")
        if done.returncode:
            pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
        mounted = True
        return place

    yield mount
    if mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(
    "size",
    [pytest.param(n, marks=[pytest.mark.slow] if n != 100 else []) for n in (4, 16, 64, 88, 100, 120, 150, 180, 220)],
)
def test_a_full_disk(undisturbed: tuple[bytes, bytes], small_disk: Callable[[str], Path], size: int) -> None:
    """Full on opening, in the middle, while sealing; the same command goes on once there is room."""
    place = small_disk(f"size={size}k")
    err = finish(start(place, SLOW), 0, 2)
    if size <= 100:
        assert "cannot write to" in err
    assert ("cannot write to" in err) == ("Error" in err)
    if err and "Error" in err:
        finish(start(place, SLOW), 0, 2)  # still full: refused again, nothing lost
    small_disk("size=10m")
    finish(start(place, SLOW))
    assert content(place) == undisturbed


def test_a_read_only_folder(undisturbed: tuple[bytes, bytes], small_disk: Callable[[str], Path]) -> None:
    place = small_disk("size=10m")
    process = start(place, SLOW, DELAY=0.02)
    until(lambda: any(f.stat().st_size > 4000 for f in place.glob(f"*/*/{store.JUDGMENTS}")))
    process.kill()
    process.communicate()
    kept = judgments(place).read_bytes()
    small_disk("ro")
    err = finish(start(place, SLOW), 2)
    assert "Read-only file system" in err
    assert err.splitlines()[-1].startswith("Error: cannot write to ")
    assert judgments(place).read_bytes() == kept
    small_disk("rw")
    finish(start(place, SLOW))
    assert content(place) == undisturbed


def flip_a_bit(line: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(line))
    changed = line[at] ^ (1 << draw.randrange(8))
    # a new line ending inside would make two damaged lines of one; that is another case
    return flip_a_bit(line, draw) if changed == 10 else line[:at] + bytes([changed]) + line[at + 1 :]


def cut(line: bytes, draw: random.Random) -> bytes:
    return line[: draw.randrange(1, len(line))]


@pytest.mark.parametrize(
    ("damage", "when"),
    [
        (flip_a_bit, "running"),
        pytest.param(flip_a_bit, "complete", marks=pytest.mark.slow),
        pytest.param(cut, "running", marks=pytest.mark.slow),
        pytest.param(cut, "complete", marks=pytest.mark.slow),
    ],
)
def test_damaged_lines_are_named_moved_aside_and_computed_again(
    tmp_path: Path, undisturbed: tuple[bytes, bytes], damage: Callable[[bytes, random.Random], bytes], when: str
) -> None:
    draw = random.Random(f"{damage.__name__}{when}")
    if when == "complete":
        finish(start(tmp_path, SLOW))
    else:
        process = start(tmp_path, SLOW, DELAY=0.02)
        until(lambda: any(f.read_bytes().count(b"\n") > 20 for f in tmp_path.glob(f"*/*/{store.JUDGMENTS}")))
        process.kill()
        process.communicate()
    file = judgments(tmp_path)
    for _ in range(2):
        lines = file.read_bytes().splitlines()
        hit = sorted(draw.sample(range(len(lines)), 2))
        broken = [damage(lines[n], draw) for n in hit]
        for n, line in zip(hit, broken, strict=True):
            lines[n] = line
        file.write_bytes(b"\n".join(lines) + b"\n")
        err = finish(start(tmp_path, SLOW))
        assert f"damaged, moved to damaged.jsonl and computed again: line {hit[0] + 1}, {hit[1] + 1}" in err
        assert (file.parent / store.DAMAGED).read_bytes().splitlines()[-2:] == broken
        assert content(tmp_path) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("gone", [store.ITEMS, store.ESTIMATES, store.JUDGMENTS])
def test_a_lost_or_broken_file_is_made_again(tmp_path: Path, undisturbed: tuple[bytes, bytes], gone: str) -> None:
    finish(start(tmp_path, SLOW))
    (path,) = store.find(tmp_path)
    for broken in (None, b"", b"\x00" * 100, (path / gone).read_bytes()[:300]):
        (path / gone).unlink(missing_ok=True)
        if broken is not None:
            (path / gone).write_bytes(broken)
        finish(start(tmp_path, SLOW))
        assert content(tmp_path) == undisturbed


def test_a_held_run_refuses_a_second_process_at_once(tmp_path: Path, undisturbed: tuple[bytes, bytes]) -> None:
    first = start(tmp_path, SLOW, DELAY=0.05)
    until(lambda: bool(list(tmp_path.glob(f"*/*/{store.JUDGMENTS}"))))
    err = finish(start(tmp_path, SLOW), 2)
    assert first.poll() is None  # the second one did not wait for it
    assert "another process is writing the run in" in err
    finish(first)
    assert content(tmp_path) == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_bundled_model_killed_at_random_points(tmp_path: Path) -> None:
    """On a suite of four blocks, so that it goes on in the middle."""
    if "starter" not in adapters.bundled():
        pytest.skip("no bundled model in this checkout")
    command = [*COMMAND[:-1], str(suite_of_copies(tmp_path, 4)), "--model", "starter", "--threads", "1"]
    finish(start(tmp_path / "whole", command))
    draw = random.Random(1)
    hits: list[int] = []
    for run in itertools.count():
        if len(hits) == 12:
            break
        root = tmp_path / f"{run}"
        while len(hits) < 12 and killed(root, command, draw, 257, 3):
            hits.append(judged(root))
        finish(start(root, command))
        assert content(root) == content(tmp_path / "whole")
    assert len({n for n in hits if n}) > 1


def suite_of_copies(folder: Path, count: int) -> Path:
    """A suite file: the bundled items ``count`` times over."""
    file = folder / "copies.py"
    file.write_text(
        "from msgspec.structs import replace\n"
        "from rmbench import suites\n"
        "STARTER = suites.load('starter')\n"
        "SUITE = replace(STARTER.card(), name='copies', counts={})\n"
        "def items(data):\n"
        f"    for copy in range({count}):\n"
        "        for item in STARTER.items:\n"
        "            yield replace(item, id=f'{copy}-{item.id}')\n"
    )
    return file


def test_ctrl_c_is_no_failed_gate(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "find", interrupted)
    result = cli("gate", "a", "--baseline", "b")
    assert result.exit_code == 3
    assert "Interrupted: nothing was decided" in result.stderr


# Names and what must not be in the source


NAMES = ("../../x", "..", ".", "/etc/passwd", "a/../../b", "x" * 200, "nul\0byte", "\n", "", "模型", "\u202ex", "-rf",
         "~", "%2e%2e%2f", "C:\\x")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_out_of_the_results_folder(tmp_path: Path, name: str, cli: Callable[..., Any]) -> None:
    root = tmp_path / "in" / "results"
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "?", "chosen": "a", "rejected": "b"}) + "\n")
    before = {p for p in tmp_path.rglob("*") if root not in p.parents}
    result = cli("eval", "--model", name, "--adapter", ADAPTER, "--suite", rows, "--out", root)
    assert result.exit_code in (0, 2), result.stderr
    assert {p for p in tmp_path.rglob("*") if root not in p.parents} - before <= {root, root.parent}
    for path in root.rglob("*"):
        assert path.resolve().is_relative_to(root.resolve())
    if result.exit_code == 0:
        (run,) = store.find(root)
        assert len(run.relative_to(root).parts) == 2


FORBIDDEN = {
    "pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml.load", "yaml.unsafe_load", "eval",
    "exec", "compile", "os.system", "os.popen", "torch.load", "numpy.load", "np.load", "__import__",
}  # fmt: skip
SOURCES = [
    p for d in ("harness", "suites", "benchmarks") for p in sorted((Path(__file__).parents[1] / d).rglob("*.py"))
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: "-".join(p.parts[-2:]))
def test_nothing_in_the_source_runs_what_it_reads(path: Path) -> None:
    """No unpickling, no evaluation, no shell, no code from a model's repository unless the user said so."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in node.names} & FORBIDDEN, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in FORBIDDEN, node.lineno
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in FORBIDDEN, (node.lineno, called)
            for given in node.keywords:
                said = given.value.value if isinstance(given.value, ast.Constant) else None
                assert (given.arg, said) != ("shell", True), node.lineno
                assert given.arg != "trust_remote_code" or said in (None, False), node.lineno
                assert (given.arg, said) != ("weights_only", False), node.lineno
            if called.endswith("Environment") and "andboxed" not in called:
                assert any(k.arg == "autoescape" for k in node.keywords), node.lineno


KEY = "sk-planted-5d1b9c0a7e"


@pytest.mark.parametrize("told", [0.0, 1.0])
def test_a_key_is_in_no_file_and_no_line(tmp_path: Path, told: float) -> None:
    """Also where the server repeats it in its errors."""
    pytest.importorskip("openai")
    from server import Server

    count = 0

    def answer(body: dict[str, Any]) -> Any:
        nonlocal count
        count += 1
        if count > 2 and told:
            return 400, {"error": {"message": f"Incorrect API key provided: {KEY}.", "code": "x"}}
        return "[[A]]"

    with Server(answer) as server:
        process = subprocess.run(
            [sys.executable, *COMMAND[3:], "--model", "judge-1", "--base-url", server.url,
             "--limit", "12", "--concurrency", "2", "--retries", "1", "--out", str(tmp_path), "--max-errors", "1"],
            env={**os.environ, "OPENAI_API_KEY": KEY},
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        sent = [headers.get("authorization") for headers in server.headers]
    assert f"Bearer {KEY}" in sent  # it was planted indeed
    assert process.returncode == 0, process.stderr
    assert KEY not in process.stdout + process.stderr
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert any(p.name == store.JUDGMENTS for p in files)
    assert not [p for p in files if KEY.encode() in p.read_bytes()]


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
