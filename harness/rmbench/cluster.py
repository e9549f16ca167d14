"""Workers of a Ray cluster as one adapter: each holds the model, judgments come back to the process that writes.

A block goes whole to one worker. One whose worker dies goes to another, so nothing is lost and, as only whole blocks
are handed on, nothing comes twice. A block that was fatal ``TRIES`` times is searched for the items that kill: each is
tried alone, those that are fatal alone ``TRIES`` times become error judgments, and the rest is scored as one block
again. So the bits depend on the block and on which items kill, never on how many workers there are or when one died.
"""

from __future__ import annotations

import logging
import math
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from rmbench import adapters
from rmbench.adapters.options import Options
from rmbench.core import Item, Judgment
from rmbench.errors import MissingExtra, RmbenchError, TooManyErrors, UsageError
from rmbench.loop import guarded

TRIES = 2
"""Workers that a block, and then an item alone, may cost before it is given up."""

PATIENCE = 10
"""Deaths in a row, or three per worker if that is more, without one answer between them, that end the run."""

STORE = 100 * 2**20
"""Bytes of Ray's object store: blocks and judgments are small."""

_PASSED_ON = ("RMBENCH_", "HF_", "TRANSFORMERS_", "TOKENIZERS_", "VLLM_", "OPENAI_", "OMP_", "MKL_", "DO_NOT_TRACK")
_ATTRIBUTES = ("exact", "tolerance", "order", "engine", "device", "block")
_KILLER = f"its worker died {TRIES} times over this item alone (out of memory, or a crash of the engine)"
_log = logging.getLogger("rmbench.cluster")


def backend(
    ref: str, options: Options, workers: int, address: str | None = None, gpus_per_worker: float | None = None
) -> Cluster:
    """Starts ``workers`` copies of a model on a Ray cluster: the one at ``address`` (``auto`` finds it), or one made
    here for this run. What comes back is both the adapter and the backend that ``evaluate`` takes; close it.

    GPUs per worker: as asked, else one where the cluster has any and the model is not run elsewhere.

    Raises MissingExtra, UsageError where there is no such cluster or not enough in it, and what opening the model
    raises.
    """
    if workers < 1:
        raise UsageError(f"--workers {workers}: it must be 1 or more")
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingExtra("ray", "ray", "--workers") from None
    cpus = options.threads or 1
    ours = not ray.is_initialized()
    if ours:
        _start(address, workers * cpus)
    try:
        gpus = _gpus(ref, options, workers, gpus_per_worker, local=address is None)
        if options.engine == "vllm" and options.tensor_parallel is None and gpus > 1:
            options = replace(options, tensor_parallel=int(gpus))
        kind = ray.remote(_Worker).options(
            num_cpus=cpus if ours else 0, num_gpus=gpus, max_restarts=0, scheduling_strategy="SPREAD"
        )
        return Cluster(lambda: kind.remote(ref, options, os.getcwd(), _environment()), workers, ours)
    except BaseException:
        if ours:
            ray.shutdown()
        raise


class Cluster:
    """See core.Adapter and loop.Backend. What it says of itself is what its workers say, all alike."""

    def __init__(self, spawn: Callable[[], Any], workers: int, ours: bool) -> None:
        self._spawn = spawn
        self._workers = workers
        self._ours = ours
        self._owed: dict[Any, tuple[Any, _Job | None]] = {}
        """Reference to an answer -> the worker that owes it, and for which job. No job: the worker describes itself,
        or what it works on is not waited for any more."""
        self._idle: list[Any] = []
        self._about: dict[str, Any] = {}
        self._measured: dict[Any, tuple[dict[str, Any], list[str]]] = {}
        self._killed = self._in_a_row = 0
        for _ in range(workers):
            self._hire()
        while not self._about:
            list(self._answers())

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self._about["settings"])

    @property
    def notes(self) -> list[str]:
        """Every worker's, each once."""
        return list(dict.fromkeys(note for _, notes in self._measured.values() for note in notes))

    @property
    def info(self) -> dict[str, Any]:
        """What all workers measured alike, and each one's own."""
        each = [info for info, _ in self._measured.values()]
        alike = {k: v for k, v in (each or [{}])[0].items() if all(k in other and other[k] == v for other in each)}
        return {**alike, "workers": {"asked": self._workers, "killed": self._killed, "each": each}}

    def __getattr__(self, name: str) -> Any:
        # What an adapter leaves out has a default in evaluate; then it must be absent here too.
        if name in _ATTRIBUTES and name in self._about:
            return self._about[name]
        raise AttributeError(name)

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        """Judgments as they come: of the items as one block, or in parts where the adapter promises no bits."""
        exact = self._about.get("exact", True)
        size = max(1, len(items) if exact else min(256, math.ceil(len(items) / (4 * self._workers))))
        parts = [items[at : at + size] for at in range(0, len(items), size)]
        return (judgment for _, judgment in self(list(enumerate(parts))) if judgment is not None)

    def __call__(self, blocks: Sequence[tuple[int, Sequence[Item]]]) -> Iterator[tuple[int, Judgment | None]]:
        """Raises TooManyErrors when workers die one after the other."""
        todo = deque(_Job(_Block(number, items), items) for number, items in blocks)
        open_blocks = len(todo)
        try:
            while open_blocks:
                while todo and self._idle:
                    worker, job = self._idle.pop(0), todo.popleft()
                    self._owed[worker.judge.remote(job.items)] = (worker, job)
                for job, judgments in self._answers():
                    whole = job.block.answered(job, judgments, todo)
                    if whole is not None:
                        open_blocks -= 1
                        yield from ((job.block.number, judgment) for judgment in whole)
                        yield job.block.number, None
        finally:
            self._owed = {ref: (worker, None) for ref, (worker, _) in self._owed.items()}

    def close(self) -> None:
        """Lets go of the workers, and of the cluster if it was made here."""
        import ray

        for worker in [*self._idle, *(worker for worker, _ in self._owed.values())]:
            ray.kill(worker)
        self._idle, self._owed = [], {}
        if self._ours:
            ray.shutdown()

    def _hire(self) -> None:
        worker = self._spawn()
        self._owed[worker.about.remote()] = (worker, None)

    def _answers(self) -> Iterator[tuple[_Job, list[Judgment] | None]]:
        """Waits for the next answers: jobs with their judgments, or None where the worker died over it."""
        import ray
        from ray import exceptions as gone

        ready, _ = ray.wait(list(self._owed), timeout=60)
        if not ready and not self._about:
            _log.warning("no worker has opened the model yet; the cluster has %s", _resources())
        for ref in ready:
            worker, job = self._owed.pop(ref)
            try:
                answer = ray.get(ref)
            except (gone.RayActorError, gone.WorkerCrashedError, gone.OutOfMemoryError, gone.NodeDiedError) as error:
                self._replace(worker, error)
                if job is not None:
                    yield job, None
                continue
            except gone.RayError as error:
                raise RmbenchError(f"a Ray worker failed: {str(error).strip()[-500:]}") from error
            if isinstance(answer, _Refused):
                refused = RmbenchError(answer.said)
                refused.exit_code = answer.exit_code
                raise refused
            self._idle.append(worker)
            if isinstance(answer, dict):
                self._introduce(answer)
                continue
            judgments, *measured = answer
            self._measured[worker] = (measured[0], measured[1])
            self._in_a_row = 0
            if job is not None:
                yield job, judgments

    def _introduce(self, about: dict[str, Any]) -> None:
        self._about = self._about or about
        known, new = self._about["settings"], about["settings"]
        if differ := [k for k in {**known, **new} if known.get(k) != new.get(k)]:
            listed = ", ".join(f"{k} ({known.get(k)!r} and {new.get(k)!r})" for k in sorted(differ))
            raise UsageError(
                f"workers differ in {listed}: their scores do not belong in one run. Give the nodes the same software "
                f"and files, and --threads, --dtype or --device where that is what differs"
            )

    def _replace(self, worker: Any, error: Exception) -> None:
        import ray

        self._killed += 1
        self._in_a_row += 1
        ray.kill(worker)  # one that cannot be reached may still be alive
        if self._in_a_row > max(PATIENCE, 3 * self._workers):
            raise TooManyErrors(
                f"{self._in_a_row} workers died one after the other: {str(error).strip().splitlines()[-1][:300]}. "
                f"What was done is kept; look at the machine's memory, or give fewer --workers, and run the same "
                f"command again"
            )
        self._hire()


class _Job(NamedTuple):
    """Items for one worker: a whole block, or one item of a block that kills."""

    block: _Block
    items: Sequence[Item]
    alone: bool = False


class _Block:
    """One block on its way, and what is known of its killers."""

    def __init__(self, number: int, items: Sequence[Item]) -> None:
        self.number = number
        self._items = items
        self._deaths: Counter[str | None] = Counter()
        """By item tried alone; the whole block under None."""
        self._alone: dict[str, list[Judgment]] | None = None
        """What items gave when tried alone; a killer its error. None: not searched yet."""

    def answered(self, job: _Job, judgments: list[Judgment] | None, todo: deque[_Job]) -> list[Judgment] | None:
        """The block's judgments, if this answer (None: the worker died) completes it; else ``todo`` gets more."""
        tried = job.items[0].id if job.alone else None
        if judgments is None:
            self._deaths[tried] += 1
            if self._deaths[tried] < TRIES:
                todo.appendleft(job)
                return None
        if not job.alone:
            if judgments is not None:
                return judgments + self._killers()
            if self._alone is not None:  # dies whole, even without its killers, and none of the rest alone
                return [judgment for made in self._alone.values() for judgment in made]
            self._alone = {}
            todo.extendleft(_Job(self, [item], alone=True) for item in reversed(self._items))
            return None
        found = self._alone if self._alone is not None else {}
        found[job.items[0].id] = [Judgment(item_id=job.items[0].id, error=_KILLER)] if judgments is None else judgments
        if len(found) < len(self._items):
            return None
        self._deaths[None] = 0
        if rest := [item for item in self._items if self._deaths[item.id] < TRIES]:
            todo.appendleft(_Job(self, rest))
            return None
        return self._killers()

    def _killers(self) -> list[Judgment]:
        return [Judgment(item_id=i, error=_KILLER) for i, n in self._deaths.items() if i is not None and n >= TRIES]


class _Refused(NamedTuple):
    """An error of ours that a worker met. Errors themselves do not always survive pickling."""

    said: str
    exit_code: int


class _Worker:
    """The actor: an adapter in a process of its own."""

    def __init__(self, ref: str, options: Options, folder: str, environment: dict[str, str]) -> None:
        # Ray sets OMP_NUM_THREADS, which would give other bits than a run without it.
        if "OMP_NUM_THREADS" not in environment:
            os.environ.pop("OMP_NUM_THREADS", None)
        os.environ.update(environment)
        if Path(folder).is_dir():  # relative paths mean what they mean to the caller
            os.chdir(folder)
        self._ref = ref
        self._options = options
        self._adapter: Any = None

    def about(self) -> dict[str, Any] | _Refused:
        try:
            self._adapter = adapters.open(self._ref, self._options)
        except RmbenchError as error:
            return _Refused(str(error), error.exit_code)
        said = {name: getattr(self._adapter, name) for name in _ATTRIBUTES if hasattr(self._adapter, name)}
        return {"settings": dict(self._adapter.settings), **said}

    def judge(self, items: Sequence[Item]) -> tuple[list[Judgment], dict[str, Any], list[str]] | _Refused:
        try:
            judgments = list(guarded(self._adapter, items))
        except RmbenchError as error:
            return _Refused(str(error), error.exit_code)
        return (
            judgments,
            dict(getattr(self._adapter, "info", {})),
            [str(n) for n in getattr(self._adapter, "notes", ())],
        )


def _start(address: str | None, cpus: int) -> None:
    import ray

    # Set, not only defaulted: nothing is sent anywhere unasked.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if hasattr(ray._private.worker, "print_to_stdstream"):
        # Ray prints a notice of each dead worker to stdout, where --json stands.
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
    try:
        if address is None:
            ray.init("local", num_cpus=cpus, include_dashboard=False, object_store_memory=STORE, **quiet)
        else:
            host, colon, port = address.rpartition("://")[2].rpartition(":")
            if colon:  # where nobody answers, Ray itself would wait for many minutes
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"no Ray cluster {f'at {address}' if address else 'could be started'}: {first}. "
            f"Start one with ray start --head, give its --ray ADDRESS, or leave --ray out for one on this machine"
        ) from error


def _gpus(ref: str, options: Options, workers: int, asked: float | None, local: bool) -> float:
    import ray

    there = float(ray.cluster_resources().get("GPU", 0))
    elsewhere = options.device == "cpu" or options.base_url or ref.partition(":")[0] in adapters.BASELINES
    gpus = asked if asked is not None else 0.0 if elsewhere or not there else 1.0
    if workers * gpus > there and (local or there):
        raise UsageError(
            f"{workers} workers of {gpus:g} GPUs each need {workers * gpus:g}, and the cluster has {there:g}: "
            f"give fewer --workers, another --gpus-per-worker (0.5: two share one), or --device cpu"
        )
    return gpus


def _resources() -> str:
    import ray

    return ", ".join(f"{n:g} {k}" for k, n in sorted(ray.cluster_resources().items()) if k in ("CPU", "GPU"))


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
