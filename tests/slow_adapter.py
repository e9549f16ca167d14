"""An adapter file that takes its time, and can be told by the environment to kill itself, fail, or promise no bits.

``--adapter tests/slow_adapter.py``. Its scores depend on an item's place in its block and on the block's size, as a
real model's last bits do: a block that is not scored whole shows.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rmbench.core import Ballot, Item, Judgment
from rmbench.errors import BadModel

OPTIONS = frozenset({"threads"})


def _told(name: str) -> str:
    return os.environ.get(f"RMBENCH_TEST_{name}", "")


class Slow:
    def __init__(self, ref: str) -> None:
        self.block = int(_told("BLOCK") or 8)
        self.exact = not _told("INEXACT")
        self.settings: dict[str, Any] = {"model": ref, "threads": os.environ.get("OMP_NUM_THREADS")}
        self._judged = 0
        if _told("DIFFER"):
            self.settings["pid"] = os.getpid()

    @property
    def info(self) -> dict[str, Any]:
        return {"judged": self._judged, "kind": "slow"}

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        for place, item in enumerate(items):
            time.sleep(float(_told("DELAY") or 0.004))
            if item.id in _told("KILLERS").split(","):
                os.kill(os.getpid(), signal.SIGKILL)
            once = _told("ONCE")
            if once and place == 3 and not Path(once).exists():
                Path(once).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            self._judged += 1
            if item.id in _told("RAISE").split(","):
                raise ValueError("cannot be judged")
            shift = place / 1000 + len(items) / 7 if self.exact else 0.0
            # a whole number as the rating: JSON must not turn it into another one on the way
            ballots = tuple(Ballot(shown=(i,), rating=len(r)) for i, r in enumerate(item.responses))
            yield Judgment.of(item, [len(r) + shift for r in item.responses], tokens=2, ballots=ballots)


def open(ref: str, options: Any) -> Slow:
    if pids := _told("PIDS"):
        (Path(pids) / str(os.getpid())).touch()
    if _told("OPEN") == "refuse":
        raise BadModel(f"model {ref!r}: refused by the test")
    if _told("OPEN") == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if said := _told("SAY"):
        sys.stdout.write(said)
    if _told("COUNT") or _told("DIE_AT"):
        _watch_the_disk()
    return Slow(ref)


def _watch_the_disk() -> None:
    """Counts fsyncs and renames; dies before or after the one that was told."""
    count = 0

    def watched(call: Any) -> Any:
        def made(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if _told("COUNT"):
                Path(_told("COUNT")).write_text(str(count))
            last = str(count) == _told("DIE_AT")
            if last and _told("DIE") == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*args, **kwargs)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return made

    os.fsync = watched(os.fsync)
    Path.replace = watched(Path.replace)  # type: ignore[method-assign]
