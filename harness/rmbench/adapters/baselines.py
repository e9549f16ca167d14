"""Adapters without a model: random, length, constant, oracle, and scripted, which replays given scores or ballots.

They are rows of every table and the fakes of the tests. One line of a script (``scripted:FILE``)::

    {"item_id": "chat-001", "scores": [1.5, -0.2]}
    {"item_id": "chat-002", "ballots": [{"shown": [0, 1], "picked": 0}, {"shown": [1, 0], "picked": 0}]}
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rmbench.adapters.options import Options
from rmbench.core import Adapter, Ballot, Item, Judgment
from rmbench.errors import BadData, UnknownName, UsageError

OPTIONS: frozenset[str] = frozenset()
KNOWN = ("random[:seed]", "length:longest", "length:shortest", "constant", "oracle", "scripted:FILE")


def open(ref: str, options: Options) -> Adapter:
    """``random[:seed]``, ``length:longest``, ``length:shortest``, ``constant``, ``oracle`` or ``scripted:FILE``."""
    name, _, argument = ref.partition(":")
    if name == "scripted" and argument:
        return Scripted(Path(argument))
    if name == "random":
        try:
            seed = int(argument or "0")  # 007 is 7: one seed, one set of scores
        except ValueError:
            raise UsageError(f"random:{argument}: the seed must be a whole number, as in random:7") from None
        return Baseline({"baseline": "random", "seed": seed}, lambda item: _random(item, seed))
    if ref == "length:longest":
        return Baseline({"baseline": ref}, lambda item: [float(len(r)) for r in item.responses])
    if ref == "length:shortest":
        return Baseline({"baseline": ref}, lambda item: [-float(len(r)) for r in item.responses])
    if ref == "constant":
        return Baseline({"baseline": ref}, lambda item: [0.0] * len(item.responses))
    if ref == "oracle":
        return Baseline({"baseline": ref}, lambda item: list(item.grades))
    raise UnknownName("baseline", ref, KNOWN)


class Baseline:
    """A rule that scores an item without a model."""

    block = 10_000

    def __init__(self, settings: Mapping[str, Any], rule: Callable[[Item], list[float]]) -> None:
        self.settings = settings
        self._rule = rule

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        for item in items:
            yield Judgment.of(item, self._rule(item))


def _random(item: Item, seed: int) -> list[float]:
    # Seeded by the item, so that order, blocks and workers do not matter.
    draw = random.Random(f"{seed}:{item.id}")
    return [draw.random() for _ in item.responses]


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    item_id: str
    scores: list[float | None] | None = None
    ballots: tuple[Ballot, ...] = ()
    error: str | None = None


class Scripted:
    """Replays scores or ballots from a JSON-lines file; an item without a line is an error judgment."""

    block = 10_000
    order = "as replayed"

    def __init__(self, path: Path) -> None:
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise BadData(f"script {path} cannot be read: {error.strerror or error}") from error
        self.settings = {"script": hashlib.sha256(raw).hexdigest()[:16]}
        self._lines: dict[str, _Line] = {}
        decoder = msgspec.json.Decoder(_Line)
        for number, text in enumerate(raw.splitlines(), 1):
            if not text.strip():
                continue
            try:
                line = decoder.decode(text)
            except (ValueError, RecursionError) as error:
                raise BadData(f"{path}:{number}: {error}") from error
            if line.item_id in self._lines:
                raise BadData(f"{path}:{number}: a second line for item {line.item_id!r}")
            self._lines[line.item_id] = line

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        for item in items:
            yield self._judgment(item)

    def _judgment(self, item: Item) -> Judgment:
        line = self._lines.get(item.id)
        if line is None:
            return Judgment(item_id=item.id, error="the script has no line for this item")
        if line.error is not None:
            return Judgment(item_id=item.id, error=line.error, ballots=line.ballots)
        if line.scores is not None:
            if len(line.scores) != len(item.responses):
                return Judgment(
                    item_id=item.id,
                    error=f"the script gives {len(line.scores)} scores for {len(item.responses)} responses",
                )
            # JSON has no NaN; a null stands for it.
            scores = [float("nan") if s is None else s for s in line.scores]
            return Judgment.of(item, scores, ballots=line.ballots)
        return Judgment.voted(item, line.ballots)
