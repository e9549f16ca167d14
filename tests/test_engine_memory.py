"""The heap and mapped files while a model runs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rmbench.engines import memory

pytest.importorskip("torch")

_MIB = memory.GROWTH // 2**20
needs_glibc = pytest.mark.skipif(memory._glibc() is None, reason="only Linux with glibc can be told about its heap")


def alone(code: str, *arguments: str) -> str:
    """Runs code in a process of its own, whose heap nobody else has touched."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_glibc
def test_holes_are_given_back_once_they_are_large() -> None:
    out = alone("""
        import torch
        from rmbench.engines import memory

        heap = memory.Heap()
        start = memory.resident()
        kept = []
        large = []
        for _ in range(200):  # a small one behind each large one, so that freeing the large ones leaves holes
            large.append(torch.ones(2**18))
            kept.append(torch.ones(16))
        grown = memory.resident() - start
        del large
        kept_by_the_heap = memory.resident() - start
        heap.tidy()
        print(grown >> 20, kept_by_the_heap >> 20, (memory.resident() - start) >> 20)
    """)
    grown, kept, after = map(int, out.split())
    assert grown >= 190
    assert kept >= 190, "freed memory stays ready for the next row"
    assert after <= 20


@needs_glibc
def test_small_growth_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([100, 100 + _MIB, 99, 99 + _MIB, 100 + _MIB])
    monkeypatch.setattr(memory, "resident", lambda: next(sizes) * 2**20)
    heap = memory.Heap()
    shrunk = []
    monkeypatch.setattr(heap, "shrink", lambda: shrunk.append(True))
    counts = []
    for _ in range(4):
        heap.tidy()
        counts.append(len(shrunk))
    assert counts == [0, 0, 0, 1], "measured from the least that was seen"


@needs_glibc
def test_mapped_weights_leave_memory_and_are_read_again(tmp_path: Path) -> None:
    out = alone(
        """
        import sys
        import torch
        from safetensors import safe_open
        from safetensors.torch import save_file
        from rmbench.engines import memory

        made = torch.arange(2**22, dtype=torch.float32)
        save_file({"before": torch.zeros(3), "weight": made}, sys.argv[1])
        with safe_open(sys.argv[1], "pt") as file:
            weight = file.get_tensor("weight")
        assert torch.equal(weight, made)
        touched = memory.resident()
        memory.forget(weight, memory.mapped(".safetensors"))
        print((touched - memory.resident()) >> 20)
        assert torch.equal(weight, made)
        memory.forget(made, memory.mapped(".safetensors"))
        assert torch.equal(weight, made), "memory that belongs to no file is not dropped"
        """,
        str(tmp_path / "model.safetensors"),
    )
    assert int(out) >= 15


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(memory, "_glibc", lambda: None)
    monkeypatch.setattr(memory, "Path", lambda _: Path("/no/such/file"))
    assert memory.resident() == 0
    assert memory.mapped(".safetensors") == []
    heap = memory.Heap()
    heap.tidy()
    heap.shrink()
    weight = torch.ones(4096)
    memory.forget(weight, [range(0, 2**63)])
    assert bool((weight == 1).all())
