"""Ray workers: the same bytes as without, whoever is killed and however often; killers set apart; clear errors."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench import cluster, store, suites
from rmbench.adapters.options import Options
from rmbench.core import Item, Judgment, Message
from rmbench.errors import MissingExtra, UsageError

ADAPTER = str(Path(__file__).parent / "slow_adapter.py")
ray = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed"),
]


def needs_ray(test: Callable[..., None]) -> Callable[..., None]:
    for mark in ray:
        test = mark(test)
    return test


def start(out: Path, *args: str, adapter: str | None = ADAPTER, model: str = "m", **env: Any) -> subprocess.Popen[str]:
    told = {f"RMBENCH_TEST_{name}": str(value) for name, value in env.items()}
    command = [sys.executable, "-m", "rmbench", "eval", "--model", model, "--out", str(out), "--json", *args]
    return subprocess.Popen(
        [
            *command,
            *(["--adapter", adapter] if adapter else []),
            *([] if "--suite" in args else ["--suite", "starter"]),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", **told},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )


def heed_ctrl_c() -> None:
    """Tests that run in a shell's background would hand down that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    try:
        out, err = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == code, (process.returncode, out[-500:], err)
    assert "Traceback" not in err, err
    return out, err


def content(root: Path) -> tuple[bytes, bytes]:
    (path,) = store.find(root)
    assert store.read(path).run.status == "complete"
    return (path / store.JUDGMENTS).read_bytes(), (path / store.ESTIMATES).read_bytes()


# A block's way, without Ray


def items(n: int) -> list[Item]:
    return [
        Item(id=str(i), subset="s", prompt=(Message(role="user", content="?"),), responses=("a", "b"), grades=(1, 0))
        for i in range(n)
    ]


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(1, 12),
    killers=st.sets(st.integers(0, 11)),
    together=st.booleans(),
    accidents=st.lists(st.booleans(), max_size=30),
)
def test_a_block_ends_with_one_judgment_per_item_whatever_kills(
    n: int, killers: set[int], together: bool, accidents: list[bool]
) -> None:
    """``together``: the block kills whole and no item alone does. ``accidents``: workers that die of something else."""
    killers = {k for k in killers if k < n} if not together else set()
    luck = iter(accidents)
    block = cluster._Block(7, items(n))
    todo = deque([cluster._Job(block, block._items)])
    asked = 0
    while todo:
        asked += 1
        assert asked < 200
        job = todo.popleft()
        fatal = any(int(i.id) in killers for i in job.items) or (together and len(job.items) == n > 1)
        dies = fatal or next(luck, False)
        made = [Judgment.of(i, [float(len(job.items)), 0.0]) for i in job.items]
        result = block.answered(job, None if dies else made, todo)
        if result is not None:
            break
    assert result is not None
    assert not todo
    assert sorted(j.item_id for j in result) == sorted(i.id for i in items(n))
    dead = {int(j.item_id) for j in result if j.error is not None}
    assert killers <= dead
    if not any(accidents):
        assert dead == killers
        if killers and killers != set(range(n)):  # the rest was scored as one block
            assert {j.scores for j in result if j.scores} == {(float(n - len(killers)), 0.0)}


def test_accidents_leave_no_trace_in_the_scores() -> None:
    block = cluster._Block(0, items(4))
    todo = deque([cluster._Job(block, block._items)])
    for _ in range(cluster.TRIES):  # the whole block is unlucky every time, then nothing kills any more
        block.answered(todo.popleft(), None, todo)
    result = None
    while result is None:
        job = todo.popleft()
        result = block.answered(job, [Judgment.of(i, [float(len(job.items)), 0.0]) for i in job.items], todo)
    assert [j.scores for j in result] == [(4.0, 0.0)] * 4


def test_without_ray_the_pip_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'rmbench\[ray\]'"):
        cluster.backend("random", Options(), 2)


def test_no_workers_is_refused() -> None:
    with pytest.raises(UsageError, match="--workers 0"):
        cluster.backend("random", Options(), 0)


# With a real local Ray


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    root = tmp_path_factory.mktemp("undisturbed")
    finish(start(root))
    return content(root)


@needs_ray
@pytest.mark.parametrize("workers", [1, 2])
def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path, undisturbed: tuple[bytes, bytes], workers: int) -> None:
    out, err = finish(start(tmp_path, "--workers", str(workers), SAY="noise of a worker"))
    assert content(tmp_path) == undisturbed
    assert json.loads(out)["status"] == "complete"  # and nothing else stands on stdout
    assert err == ""
    (path,) = store.find(tmp_path)
    measured = store.read_run(path).info["workers"]
    assert (measured["asked"], measured["killed"]) == (workers, 0)
    assert sum(worker["judged"] for worker in measured["each"]) == 383
    assert store.read_run(path).info["kind"] == "slow"


@needs_ray
def test_a_real_checkpoint_gives_the_same_bytes(tmp_path: Path) -> None:
    import models

    copies = tmp_path / "threefold.py"
    copies.write_text(
        "from msgspec.structs import replace\n"
        "from rmbench import suites\n"
        "STARTER = suites.load('starter')\n"
        "SUITE = replace(STARTER.card(), name='threefold')\n"
        "def items(data):\n"
        "    for copy in 'abc':\n"
        "        for item in STARTER.items:\n"
        "            yield replace(item, id=f'{copy}-{item.id}')\n"
    )
    model = str(models.classifier("llama"))
    found = []
    for workers in (None, 1, 2):
        root = tmp_path / str(workers)
        more = ["--workers", str(workers)] if workers else []
        finish(start(root, "--suite", str(copies), "--threads", "1", *more, adapter=None, model=model))
        found.append(content(root))
    assert found[0][0].count(b"\n") == 3 * 383
    assert found == [found[0]] * 3


@needs_ray
def test_workers_killed_mid_block_lose_nothing(tmp_path: Path, undisturbed: tuple[bytes, bytes]) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    process = start(tmp_path / "out", "--workers", "2", PIDS=pids, DELAY=0.03)
    draw = random.Random(5)
    killed: set[int] = set()
    while process.poll() is None and len(killed) < 6:
        time.sleep(draw.uniform(0.3, 1.2))
        for pid in draw.sample(sorted(pids.iterdir()), k=min(1, len(list(pids.iterdir())))):
            pid.unlink()
            killed.add(int(pid.name))
            os.kill(int(pid.name), signal.SIGKILL)
    finish(process)
    assert len(killed) >= 3
    (path,) = store.find(tmp_path / "out")
    assert store.read_run(path).info["workers"]["killed"] >= 3
    assert content(tmp_path / "out") == undisturbed


@needs_ray
def test_items_that_kill_are_set_apart_and_the_rest_goes_on(tmp_path: Path) -> None:
    suite = suites.load("starter")
    ids = [item.id for item in suite.items]
    killers = {ids[17], ids[18], ids[100], ids[254]}
    found = []
    for workers in ("1", "2"):
        root = tmp_path / workers
        finish(start(root, "--workers", workers, DELAY=0.001, KILLERS=",".join(killers)))
        (path,) = store.find(root)
        judgments = store.read(path).judgments
        assert list(judgments) == ids
        assert {i for i, j in judgments.items() if j.error is not None} == killers
        assert all("died 2 times" in str(judgments[k].error) for k in killers)
        for i, item in enumerate(suite.items):  # the rest of a block is scored as one block
            block = [n for n in range(i // 8 * 8, min(i // 8 * 8 + 8, 383)) if ids[n] not in killers]
            if i in block:
                shift = block.index(i) / 1000 + len(block) / 7
                assert judgments[item.id].scores == tuple(len(r) + shift for r in item.responses)
        found.append(content(root))
    assert found[0] == found[1]


@needs_ray
def test_items_that_raise_cost_only_themselves_wherever_they_are_judged(tmp_path: Path) -> None:
    ids = [item.id for item in suites.load("starter").items]
    raising = {ids[17], ids[18], ids[382]}
    found = []
    for workers in ((), ("--workers", "2")):
        root = tmp_path / str(len(workers))
        finish(start(root, *workers, DELAY=0.001, RAISE=",".join(raising)))
        (path,) = store.find(root)
        assert {i for i, j in store.read(path).judgments.items() if j.error is not None} == raising
        found.append(content(root))
    assert found[0] == found[1]


@needs_ray
def test_a_killed_driver_leaves_no_workers_and_goes_on_with_another_number(
    tmp_path: Path, undisturbed: tuple[bytes, bytes]
) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    for how in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        process = start(tmp_path / "out", "--workers", "2", PIDS=pids, DELAY=0.1)
        before = done(tmp_path / "out")
        until(lambda: process.poll() is not None or done(tmp_path / "out") > before + 8)  # noqa: B023
        process.send_signal(how)
        _, err = finish(process, -9 if how == signal.SIGKILL else 3)
        assert how == signal.SIGKILL or "Paused: " in err
        until(lambda: not any(alive(int(p.name)) for p in pids.iterdir()))
    finish(start(tmp_path / "out", "--workers", "1"))
    assert content(tmp_path / "out") == undisturbed


@needs_ray
def test_adapters_without_bits_stream_from_all_workers(tmp_path: Path) -> None:
    finish(start(tmp_path, "--workers", "2", INEXACT=1, RAISE="chat-everyday-001"))
    (path,) = store.find(tmp_path)
    stored = store.read(path)
    first = suites.load("starter").items[0].id
    assert len(stored.judgments) == 383
    assert all(w["judged"] > 20 for w in stored.run.info["workers"]["each"])
    assert not stored.run.exact
    if first == "chat-everyday-001":
        assert stored.judgments[first].error == "ValueError: cannot be judged"


@needs_ray
def test_what_goes_wrong_is_said(tmp_path: Path) -> None:
    _, err = finish(start(tmp_path, "--workers", "2", OPEN="refuse"), 2)
    assert err == "Error: model 'm': refused by the test\n"
    _, err = finish(start(tmp_path, "--workers", "2", OPEN="die"), 3)
    assert "workers died one after the other" in err
    assert not any(file.stat().st_size for file in tmp_path.glob(f"*/*/{store.JUDGMENTS}"))
    # The first worker to stand up may have judged a block before the second is found to differ.
    _, err = finish(start(tmp_path, "--workers", "2", DIFFER=1), 2)
    assert "workers differ in pid (" in err
    _, err = finish(start(tmp_path, "--ray", "127.0.0.1:1"), 2)
    assert "no Ray cluster at 127.0.0.1:1" in err
    _, err = finish(start(tmp_path, "--workers", "2", "--gpus-per-worker", "64"), 2)
    assert "2 workers of 64 GPUs each" in err


@needs_ray
def test_a_lost_node(tmp_path: Path, undisturbed: tuple[bytes, bytes]) -> None:
    with nodes(tmp_path) as (address, lose):
        process = start(tmp_path / "out", "--workers", "2", "--ray", address, DELAY=0.05)
        until(lambda: process.poll() is not None or done(tmp_path / "out") > 16)
        lose()
        finish(process)
    (path,) = store.find(tmp_path / "out")
    assert store.read_run(path).info["workers"]["killed"] >= 1
    assert content(tmp_path / "out") == undisturbed


@needs_ray
def test_a_key_is_passed_on_and_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-planted-5d1b9c0a7e"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    began = time.time()
    out, err = finish(start(tmp_path, "--workers", "1"))
    assert key not in out + err
    logs = [p for p in Path("/tmp/ray").glob("session_2*/logs/**/*") if p.is_file() and p.stat().st_mtime >= began]
    assert logs
    for file in [*logs, *(p for p in tmp_path.rglob("*") if p.is_file())]:
        assert key.encode() not in file.read_bytes(), file


class nodes:
    """A head without workers and two more nodes, as processes; ``lose()`` kills one of the two."""

    CODE = """
import logging, sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
more = [cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20) for _ in range(2)]
print("address", cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(more[0], allow_graceful=False)
print("lost", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> tuple[str, Callable[[], None]]:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"},
        )
        return self._await("address").split()[1], self._lose

    def _await(self, word: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(word):
                return line
        raise AssertionError("the cluster did not start")

    def _say(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def _lose(self) -> None:
        self._say()
        self._await("lost")

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._say()
            self._process.communicate(timeout=60)


def done(root: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in root.glob(f"*/*/{store.JUDGMENTS}"))


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
