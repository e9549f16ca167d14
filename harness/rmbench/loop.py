"""The loop: what is missing goes to the adapter, what comes back goes to the store.

Exact adapters work in fixed blocks of the suite's order. A block is scored whole and committed whole, and one that is
not whole on disk is scored again whole, so that a run killed anywhere has the bits of one never killed. Adapters that
batch continuously (``exact = False``) get all missing items at once and promise a tolerance instead.
"""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec.structs import replace

from rmbench import metrics, store, suites
from rmbench.core import SCHEMA, Adapter, Facts, Item, Judgment, Run, Suite, fingerprint
from rmbench.errors import RmbenchError, TooManyErrors, UsageError

BLOCK = 256
"""Items of a fixed block, where the adapter does not say. Long enough to sort by length within."""


STOPPING = 64
"""Items of a block, at most, where the run may stop early: it is asked after each."""


PROBES = 8
"""Items tried alone, all of which fail, that show that it is not the items."""


class Progress(NamedTuple):
    """Where an eval stands."""

    done: int
    """Items judged, those of earlier sessions included; within a block, before it is committed."""
    total: int
    errors: int
    tokens: int
    """Read and written in this session."""
    note: str | None = None
    kept: int = 0
    """Items whose judgments are on disk: what a pause keeps."""


class Backend(Protocol):
    """Who scores blocks: this process, or workers."""

    def __call__(self, blocks: Sequence[tuple[int, Sequence[Item]]]) -> Iterator[tuple[int, Judgment | None]]:
        """Yields (block, judgment) as they come and (block, None) when a block is whole; blocks in any order."""
        ...


def evaluate(
    adapter: Adapter,
    suite: Suite,
    *,
    model: str,
    adapter_name: str,
    root: Path,
    limit: int | None = None,
    seed: int = 0,
    max_errors: float = 0.5,
    command: str = "",
    progress: Callable[[Progress], None] = lambda _: None,
    order: Callable[[Sequence[Facts]], list[int]] | None = None,
    stop: Callable[[Sequence[Judgment]], bool] | None = None,
    backend: Backend | None = None,
) -> store.Stored:
    """Judges what is missing and returns the run as stored.

    ``order`` permutes the items before they are cut into blocks and ``stop`` may end the run early (the sequential
    gate); a run so stopped stays ``running``. ``backend`` replaces this process as the one that scores.

    Raises TooManyErrors when more than ``max_errors`` of the items fail (after 64 of them, or at the end), StoreError
    and BadRun from the store. KeyboardInterrupt passes through; what was committed stays.
    """
    items = suites.limited(suite, limit, seed) if limit is not None else suite.items
    if not items:
        raise UsageError(f"suite {suite.name} has no items")
    exact = bool(getattr(adapter, "exact", True))
    size = int(getattr(adapter, "block", BLOCK))
    if stop:
        size = min(size, STOPPING)
    facts = [Facts.of(item) for item in items]
    places = order(facts) if order else list(range(len(items)))
    settings = dict(adapter.settings)
    if exact:
        settings["block"] = size
    if order:
        settings["order"] = f"permuted, seed {seed}"
    run = Run(
        schema=SCHEMA,
        status="running",
        model=model,
        adapter=adapter_name,
        engine=getattr(adapter, "engine", None),
        fingerprint=fingerprint(settings),
        settings=settings,
        suite=suite.card(),
        suite_hash=suite.content_hash(),
        seed=seed,
        limit=limit,
        n=len(items),
        exact=exact,
        tolerance=float(getattr(adapter, "tolerance", 0.0)),
        started=_now(),
        command=command,
        device=str(getattr(adapter, "device", "")),
        versions={"rmbench": version("rmbench"), "python": platform.python_version()},
        order=str(getattr(adapter, "order", "pointwise: order-free by construction")),
    )
    if (whole := store.finished(root, run, facts)) is not None:
        return _as_it_stands(whole, progress)
    with store.open_run(root, run, facts) as writer:
        loop = _Loop(adapter, writer, progress, max_errors, stop)
        for said in writer.mended:
            progress(loop.state(said))
        blocks = [[items[i] for i in places[at : at + size]] for at in range(0, len(items), size)]
        todo = [(n, block) for n, block in enumerate(blocks) if any(_open(writer, item) for item in block)]
        undone = {item.id for _, block in todo for item in block if exact or _open(writer, item)}
        earlier = [writer.judgments[item.id] for block in blocks for item in block if item.id not in undone]
        if stop and earlier and stop(earlier):
            todo = []
        prepare, scratch = getattr(adapter, "prepare", None), writer.path / "scratch"
        if todo and prepare is not None:
            prepare(blocks, scratch)
        if todo and exact:
            loop.blocks(backend or (lambda these: _here(adapter, these)), dict(todo))
        elif todo:
            loop.stream([item for _, block in todo for item in block if _open(writer, item)])
        finished = loop.run()
        if len(writer.judgments) < len(items):  # stopped early by ``stop``
            writer.save(finished)
        elif finished.errors > max_errors * len(items):
            raise loop.too_many()
        else:
            ended = _now() if todo or not finished.finished else finished.finished
            writer.seal(replace(finished, status="complete", finished=ended))
            shutil.rmtree(scratch, ignore_errors=True)
        stored = store.read(writer.path)
        store.write_estimates(writer.path, metrics.estimates(stored.run.suite, stored.facts, stored.judgments))
    return stored


def _as_it_stands(stored: store.Stored, progress: Callable[[Progress], None]) -> store.Stored:
    """A run with nothing left to do; its estimates are made again where their file is not what it should be."""
    run = stored.run
    if os.access(stored.path, os.W_OK):
        store.write_estimates(stored.path, metrics.estimates(run.suite, stored.facts, stored.judgments))
    elif run.errors:
        said = f"{stored.path} cannot be written: its {run.errors:,} errors are not tried again"
        progress(Progress(run.n, run.n, run.errors, 0, said, run.n))
    return stored


class _Loop:
    """The state of one session: counts, time, and the writer."""

    def __init__(
        self,
        adapter: Adapter,
        writer: store.Writer,
        progress: Callable[[Progress], None],
        max_errors: float,
        stop: Callable[[Sequence[Judgment]], bool] | None,
    ) -> None:
        self._adapter = adapter
        self._writer = writer
        self._progress = progress
        self._max_errors = max_errors
        self._stop = stop
        self._began = self._saved = time.monotonic()
        self._before = writer.run.seconds
        self._earlier = {name: said for name, said in writer.run.info.items() if name != store.STOPPED}
        self._judged = False
        self._tokens = 0
        # Counted along: after each of many small blocks, a count over all judgments would be the slowest part.
        self._errors = sum(j.error is not None for j in writer.judgments.values())
        self._fresh = 0
        self._failed = 0
        self._last: str | None = None

    def state(self, note: str | None = None) -> Progress:
        kept = len(self._writer.judgments)
        return Progress(kept, self._writer.run.n, self._errors, self._tokens, note, kept)

    def blocks(self, backend: Backend, todo: dict[int, Sequence[Item]]) -> None:
        """Scores blocks; a block is committed when all of its judgments are there."""
        self._judged = True
        pending: dict[int, dict[str, Judgment]] = {}
        base = self.state()
        waiting = 0
        for number, judgment in backend(list(todo.items())):
            if judgment is not None:
                made = pending.setdefault(number, {})
                # An item is judged twice where another of its block failed: the later judgment counts, and one item.
                waiting += judgment.item_id not in self._writer.judgments and judgment.item_id not in made
                made[judgment.item_id] = judgment
                self._tokens += judgment.tokens + judgment.generated
                self._progress(base._replace(done=base.done + waiting, tokens=self._tokens))
                continue
            done = pending.pop(number, {})
            if self._commit([_complete(done, item) for item in todo[number]]):
                return
            base, waiting = self.state(), sum(len(p) for p in pending.values())
            self._progress(base._replace(done=min(base.done + waiting, base.total)))

    def stream(self, items: Sequence[Item]) -> None:
        """Judges items one by one as they come; each is committed by itself."""
        self._judged = True
        by_id = {item.id: item for item in items}
        batch: list[Judgment] = []
        flushed = time.monotonic()
        try:
            for judgment in guarded(self._adapter, items):
                if by_id.pop(judgment.item_id, None) is None:
                    continue
                self._tokens += judgment.tokens + judgment.generated
                batch.append(judgment)
                # A disk flush per judgment would be the slowest part of a fast endpoint.
                if time.monotonic() - flushed > 0.2:
                    committed, batch = batch, []
                    if self._commit(committed):
                        return
                    flushed = time.monotonic()
                    self._progress(self.state())
            batch += [_complete({}, item) for item in by_id.values()]
        finally:
            if batch:
                self._commit(batch)
                self._progress(self.state())

    def _commit(self, judgments: Sequence[Judgment]) -> bool:
        held = (self._writer.judgments.get(j.item_id) for j in judgments)
        before = sum(j is not None and j.error is not None for j in held)
        self._writer.append(judgments)
        self._fresh += len(judgments)
        failed = [j for j in judgments if j.error is not None]
        self._failed += len(failed)
        self._errors += len(failed) - before
        self._last = failed[-1].error if failed else self._last
        if time.monotonic() - self._saved > 5:
            self._writer.save(self.run())
            self._saved = time.monotonic()
        if self._fresh >= 64 and self._failed > self._max_errors * self._fresh:
            raise self.too_many()
        return self._stop is not None and self._stop(judgments)

    def too_many(self) -> TooManyErrors:
        """The error to raise, after the run was saved as given up."""
        run = self.run()
        self._writer.save(replace(run, info={**run.info, store.STOPPED: "too many errors"}))
        notes = "".join(f" Note: {note}." for note in getattr(self._adapter, "notes", ()))
        return TooManyErrors(
            f"{self._failed} of {self._fresh} items failed, more than the share of {self._max_errors:g} allowed by "
            f"--max-errors; the last one: {self._last}. What was done is kept in {self._writer.path}; mend the cause "
            f"and run the same command again.{notes}"
        )

    def run(self) -> Run:
        held = self._writer.judgments.values()
        notes = (*self._writer.run.notes, *(str(note) for note in getattr(self._adapter, "notes", ())))
        return replace(
            self._writer.run,
            done=len(held),
            errors=sum(j.error is not None for j in held),
            truncated=sum(j.truncated > 0 for j in held),
            tokens=sum(j.tokens for j in held),
            generated=sum(j.generated for j in held),
            seconds=round(self._before + (time.monotonic() - self._began if self._fresh else 0), 3),
            notes=tuple(dict.fromkeys(notes)),
            info=self._info(),
        )

    def _info(self) -> dict[str, Any]:
        """What this session measured over what earlier ones did; what the adapter counts (``counted``) adds up."""
        if not self._judged:
            return self._earlier
        now = dict(getattr(self._adapter, "info", {}))
        for name in getattr(self._adapter, "counted", ()):
            if name in now and name in self._earlier:
                now[name] = _added(self._earlier[name], now[name])
        return {**self._earlier, **now}


def _open(writer: store.Writer, item: Item) -> bool:
    """Still to be judged: never judged, or an error, which is tried again."""
    held = writer.judgments.get(item.id)
    return held is None or held.error is not None


def _here(adapter: Adapter, blocks: Iterable[tuple[int, Sequence[Item]]]) -> Iterator[tuple[int, Judgment | None]]:
    """The backend of one process."""
    for number, block in blocks:
        for judgment in guarded(adapter, block):
            yield number, judgment
        yield number, None


def guarded(adapter: Adapter, items: Sequence[Item]) -> Iterator[Judgment]:
    """The adapter's judgments of a block, each as it will be read from disk. An exception in it costs only the items at
    which it is raised: they become error judgments.

    Each item is then tried alone, and the rest is scored as one block again (a later judgment of an item replaces an
    earlier one), as where workers die over an item (see cluster): so the bits depend on the block and on which items
    fail. A rest that fails as well, though none of it does alone, keeps what its items gave alone. An adapter that
    promises no bits is asked for what it still owes, in halves.
    """
    owed = {item.id: item for item in items}
    raised: list[str] = []
    for judgment in _tried(adapter, items, raised):
        owed.pop(judgment.item_id, None)
        yield judgment
    if not raised:
        return
    if len(items) == 1:
        yield from (Judgment(item_id=i, error=raised[0]) for i in owed)
    elif not getattr(adapter, "exact", True):
        rest = list(owed.values())
        for part in (rest[: len(rest) // 2], rest[len(rest) // 2 :]):
            yield from guarded(adapter, part) if part else ()
    else:
        alone, failed = _alone(adapter, items, raised[0])
        yield from (Judgment(item_id=i, error=said) for i, said in failed.items())
        if rest := [item for item in items if item.id not in failed]:
            raised.clear()
            again = {judgment.item_id: judgment for judgment in _tried(adapter, rest, raised)}
            # One that is not judged this time must not keep what it got beside the items that fail.
            yield from (_complete(again, item) for item in rest if not raised)
            yield from (judgment for item in rest for judgment in alone[item.id] if raised)


def _alone(adapter: Adapter, items: Sequence[Item], said: str) -> tuple[dict[str, list[Judgment]], dict[str, str]]:
    """What items give when each is tried alone, and the errors of those at which the adapter then raises. Where it does
    at all of the first ``PROBES``, from all over the block, it is the adapter that fails: the rest is not tried."""
    alone: dict[str, list[Judgment]] = {}
    failed: dict[str, str] = {}
    step = max(1, len(items) // PROBES)
    for tried, item in enumerate(item for start in range(step) for item in items[start::step]):
        raised: list[str] = []
        if tried == len(failed) >= PROBES:
            raised.append(said)
        else:
            alone[item.id] = list(_tried(adapter, [item], raised))
        if raised:
            failed[item.id] = raised[0]
    return alone, failed


def _tried(adapter: Adapter, items: Sequence[Item], raised: list[str]) -> Iterator[Judgment]:
    """The adapter's judgments until it raises; what it then said is put into ``raised``."""
    responses = {item.id: len(item.responses) for item in items}
    try:
        for judgment in adapter.judge(items):
            # What disk would change (a rating of 7 becomes 7.0) or refuse must be so from the start: a run that was
            # resumed has the bits of one that was not.
            made = msgspec.json.decode(msgspec.json.encode(judgment), type=Judgment)
            asked = responses.get(made.item_id)
            if asked is not None and made.scores is not None and len(made.scores) != asked:
                said = f"the adapter gave {len(made.scores)} scores for {asked} responses"
                made = Judgment(item_id=made.item_id, error=said, ballots=made.ballots)
            yield made
    except RmbenchError:
        raise
    except Exception as error:  # noqa: BLE001 - the one batch boundary: one bad batch must not end a long run
        said = f"{type(error).__name__}: {error}".strip()[:500]
        raised.append(said.encode("utf-8", "backslashreplace").decode())  # lone surrogates cannot be stored


def _added(before: Any, now: Any) -> Any:
    """Two counts, or two tables of counts."""
    if isinstance(now, dict):
        return {k: before.get(k, 0) + now.get(k, 0) for k in sorted({*before, *now})}
    return round(before + now, 6) if isinstance(now, float) else before + now


def _complete(done: dict[str, Judgment], item: Item) -> Judgment:
    return done.get(item.id) or Judgment(item_id=item.id, error="the adapter gave no judgment for this item")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
