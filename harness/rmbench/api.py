"""``rmbench.evaluate``: what ``rmbench eval`` does, from Python, with a reference, an object or a function."""

from __future__ import annotations

import inspect
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rmbench import adapters, loop, store, suites
from rmbench.adapters.options import Options
from rmbench.core import Adapter, Item, Judgment, Message, Suite

Score = Callable[[Sequence[Message], str], float]
"""A prompt (its messages) and a response to a score; higher is better."""


def evaluate(
    model: str | Adapter | Score,
    suite: str | Suite,
    *,
    name: str | None = None,
    out: Path | str | None = None,
    limit: int | None = None,
    seed: int = 0,
    data: Path | str | None = None,
    max_errors: float = 0.5,
    progress: Callable[[loop.Progress], None] = lambda _: None,
    **options: Any,
) -> store.Stored:
    """Judges a suite and returns the run: its path, run, facts and judgments; ``load_runs`` makes frames of it.

    ``model`` is a reference as ``--model`` takes it, your own object with ``judge(items)``, or a plain function
    ``score(prompt, response) -> float``. An object without ``settings``, and any function, has no fingerprint that
    tells one set of weights from another: such a run always starts anew, in a temporary folder unless ``out`` is
    given. ``options`` are those of the command line (``dtype="bfloat16"``).

    Raises RmbenchError and its kinds, each saying what to do next.
    """
    with _threads_given_back():
        return _evaluate(model, suite, name, out, limit, seed, data, max_errors, progress, options)


@contextmanager
def _threads_given_back() -> Iterator[None]:
    """An engine sets torch's thread count, which decides its bits; the training loop around gets its own back."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 0
    try:
        yield
    finally:
        if torch is not None and torch.get_num_threads() != before:
            torch.set_num_threads(before)


def _evaluate(
    model: str | Adapter | Score,
    suite: str | Suite,
    name: str | None,
    out: Path | str | None,
    limit: int | None,
    seed: int,
    data: Path | str | None,
    max_errors: float,
    progress: Callable[[loop.Progress], None],
    options: dict[str, Any],
) -> store.Stored:
    loaded = suite if isinstance(suite, Suite) else suites.load(suite, data=Path(data) if data else None)
    if isinstance(model, str):
        asked = Options(seed=seed, **options)
        adapter_name, _ = adapters.detect(model, asked)
        adapter, label = adapters.open(model, asked), name or adapters.label(model)
        root = Path(out) if out else store.default_root()
    else:
        adapter = _adapter(model)
        adapter_name = "python"
        label = name or str(getattr(model, "__name__", type(model).__name__))
        root = Path(out) if out else Path(tempfile.mkdtemp(prefix="rmbench-"))
    return loop.evaluate(
        adapter,
        loaded,
        model=label,
        adapter_name=adapter_name,
        root=root,
        limit=limit,
        seed=seed,
        max_errors=max_errors,
        progress=progress,
    )


def _adapter(model: Any) -> Adapter:
    if not hasattr(model, "judge"):
        return _Function(model)
    return model if hasattr(model, "settings") else _Unnamed(model)


def _once() -> dict[str, str]:
    """Settings that no other run has: nothing says what the object's weights were."""
    return {"object": uuid.uuid4().hex}


class _Unnamed:
    def __init__(self, model: Any) -> None:
        self.settings = _once()
        self._model = model

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        yield from self._model.judge(items)


class _Function:
    """A plain function as an adapter; an exception in it is an error judgment of that item."""

    def __init__(self, score: Score) -> None:
        if len(inspect.signature(score).parameters) != 2:
            raise TypeError("a score function takes (prompt, response); an object needs judge(items)")
        self.settings = _once()
        self._score = score

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        for item in items:
            conversations = [item.conversation(i) for i in range(len(item.responses))]
            yield Judgment.of(item, [float(self._score(c[:-1], c[-1].content)) for c in conversations])
