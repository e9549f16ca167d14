"""Items a second against Ray workers, for an adapter that only waits: what the hand-out and the one writer can carry.

    python benchmarks/ray_scale.py --workers 1 2 4 8 16 32 64 --delay 0.005 --block 16 --out benchmarks/ray_scale.md

The delay stands for the model, so that 64 workers fit on a small machine. Measured from the first judgment that arrives
to the last block on disk: opening models and making estimates are left out. The ceiling is the same loop without Ray
and without a delay.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rmbench import adapters, cluster, loop
from rmbench.adapters.options import Options
from rmbench.core import Item, Judgment, Message, Rules, Suite

OPTIONS = frozenset[str]()


class Waiting:
    """``delay:BLOCK`` seconds per item, blocks of so many items."""

    def __init__(self, ref: str) -> None:
        delay, block = ref.split(":")
        self.delay, self.block = float(delay), int(block)
        self.settings = {"waiting": ref}

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        if self.delay:
            time.sleep(self.delay * len(items))
        for item in items:
            yield Judgment.of(item, [1.0, 0.0], tokens=1)


def open(ref: str, options: Options) -> Waiting:
    return Waiting(ref)


def suite(n: int) -> Suite:
    """``n`` pairs of 1,500 characters, as RewardBench's are on average."""
    items = tuple(
        Item(
            id=f"i{k:06}",
            subset="s",
            prompt=(Message(role="user", content=f"{k} " + "word " * 60),),
            responses=("good " * 120, "bad " * 150),
            grades=(1, 0),
        )
        for k in range(n)
    )
    return Suite(
        name="waiting", version="1", about="", categories={"s": ("s",)}, rules=Rules(name="waiting-1"),
        source="file:none", licence="", citation="", items=items,
    )  # fmt: skip


def measure(workers: int, delay: float, block: int, n: int) -> tuple[float, float]:
    """Items a second, and the share of the wall that this process computed. ``workers`` 0: without Ray."""
    options = Options(adapter=__file__)
    ref = f"{delay}:{block}"
    moments: list[tuple[int, float]] = []
    adapter: Any = cluster.backend(ref, options, workers) if workers else adapters.open(ref, options)
    try:
        if workers:  # all of them, not only the first
            while len(adapter._idle) < workers:
                list(adapter._answers())
        before = time.process_time()
        with tempfile.TemporaryDirectory(dir=".") as root:
            loop.evaluate(
                adapter,
                suite(n),
                model="waiting",
                adapter_name="waiting",
                root=Path(root),
                backend=adapter if workers else None,
                progress=lambda state: moments.append((state.done, time.perf_counter())),
            )
        spent = time.process_time() - before
    finally:
        if workers:
            adapter.close()
    first, last = moments[0], moments[-1]
    wall = last[1] - first[1]
    return (last[0] - first[0]) / wall, spent / wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--delay", type=float, default=0.005, help="seconds per item")
    parser.add_argument("--block", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10, help="of ideal scoring per measurement")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    command = (
        f"python benchmarks/ray_scale.py --workers {' '.join(map(str, args.workers))} --delay {args.delay:g} "
        f"--block {args.block} --seconds {args.seconds:g}"
    )
    ceiling, _ = measure(0, 0, args.block, 20_000)
    lines = [
        "# Ray workers: items a second for an adapter that only waits",
        "",
        f"`{command}`, {os.cpu_count()} CPU cores for all processes, Python {platform.python_version()}, load "
        f"{os.getloadavg()[0]:.1f} when it began. A worker waits {args.delay * 1000:g} ms per item and has blocks of "
        f"{args.block}; every block is committed with an fsync.",
        "",
        f"The writer alone (no Ray, no delay): {ceiling:,.0f} items/s, {ceiling / args.block:,.0f} blocks/s.",
        "",
        "| workers | items/s | ideal | share of ideal | driver's CPU |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    print(*lines, sep="\n", flush=True)
    for workers in args.workers:
        ideal = workers / args.delay
        rate, busy = measure(workers, args.delay, args.block, int(ideal * args.seconds) // args.block * args.block)
        lines.append(f"| {workers} | {rate:,.0f} | {ideal:,.0f} | {rate / ideal:.0%} | {busy:.0%} |")
        print(lines[-1], flush=True)
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
