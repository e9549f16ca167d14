"""Sequence-classification reward models: a response's score is the raw output of the head on its conversation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import rmbench.adapters.running as running
from rmbench.adapters.options import Options
from rmbench.core import Item, Judgment
from rmbench.engines.text import Rendered, Text
from rmbench.errors import BadData, UsageError

SERVER = frozenset({"base_url", "concurrency", "rate", "retries", "timeout", "prices"})
OPTIONS = running.OPTIONS | {"head"} | SERVER

AHEAD = 64
"""Items that are tokenised while the model is at the ones before."""

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
"""The order of HelpSteer's attributes in every head that has them."""

PRESETS: dict[str, tuple[int, tuple[float, ...]]] = {
    "helpsteer-llama3-70b": (-5, (0.65, 0.8, 0.45, 0.55, -0.4)),
    "helpsteer-nemotron-340b": (-5, (0.3, 0.74, 0.46, 0.47, -0.33)),
    "armorm-helpsteer": (0, (0.65, 0.8, 0.45, 0.55, -0.4)),
    "armorm-helpfulness": (0, (1.0,)),
}
"""Named combinations of outputs: where the first weighted output stands (from the end, if negative), and weights.

``helpsteer-*``: weights that the cards of Llama3-70B-SteerLM-RM and Nemotron-4-340B-Reward give for HelpSteer's five
attributes, which are the last five outputs. ``armorm-*``: heads of 19 objectives whose first five are HelpSteer's."""


class Head(NamedTuple):
    """Which combination of outputs is the score: index -> weight."""

    name: str
    weights: dict[int, float]

    def score(self, outputs: Sequence[float]) -> float:
        """NaN where a weighted output is NaN."""
        return float(sum(w * float(outputs[i]) for i, w in self.weights.items()))


def head(asked: str | None, labels: Sequence[str], model: str = "the model") -> Head:
    """``--head``: an output's number or label, a preset, or ``name=weight,...``. One output needs no asking.

    Raises UsageError where there are several and none is asked for, or where the one asked for is not there.
    """
    count = len(labels)
    presets = PRESETS if count >= len(ATTRIBUTES) else ()
    known = ", ".join([f"a number from 0 to {count - 1}", *labels[:20], *presets, "or name=weight,..."])
    if asked is None:
        if count == 1:
            return Head("0", {0: 1.0})
        raise UsageError(
            f"{model} has a head of {count} outputs; say which is the score with --head: {known}; a classifier of "
            "safe and unsafe texts takes --adapter guard; one of helpfulness and safety, or of pairs, --adapter heads"
        )
    if asked in PRESETS:
        first, weights = PRESETS[asked]
        if count < len(weights) + max(first, 0) or count < -first:
            raise UsageError(f"--head {asked} needs {max(len(weights), -first)} outputs; {model} has {count}")
        return Head(asked, {(first % count) + i: w for i, w in enumerate(weights)})

    def index(name: str) -> int:
        name = name.strip()
        if name in labels:
            return list(labels).index(name)
        if name.isdigit() and int(name) < count:
            return int(name)
        raise UsageError(f"--head {asked!r}: {model} has no output {name!r}; give {known}")

    if "=" not in asked:
        return Head(asked, {index(asked): 1.0})
    weighted: dict[int, float] = {}
    for part in asked.split(","):
        name, _, value = part.rpartition("=")
        try:
            weighted[index(name)] = float(value)
        except ValueError as error:
            raise UsageError(f"--head {asked!r}: {part!r} is not name=weight") from error
    return Head(asked, weighted)


class Scalar:
    """See core.Adapter."""

    def __init__(self, opened: running.Opened, chosen: Head) -> None:
        self._engine = opened.engine
        self._text = opened.text
        self._head = chosen
        self.settings: dict[str, Any] = {
            "adapter": "scalar-1",
            **opened.engine.settings,
            "head": {str(i): w for i, w in chosen.weights.items()},
        }
        self.engine = str(opened.engine.settings["engine"])
        self.exact = bool(opened.engine.exact)
        self.tolerance = float(getattr(opened.engine, "tolerance", 0.0))
        self.device = str(opened.engine.device)
        if hasattr(opened.engine, "another_way"):
            self.another_way = opened.engine.another_way

    @property
    def text(self) -> Text:
        """How this model gets a conversation."""
        return self._text

    @property
    def info(self) -> dict[str, Any]:
        """Measured so far; changes no score."""
        return dict(self._engine.info)

    @property
    def notes(self) -> list[str]:
        """What the reader of the numbers must know."""
        return list(getattr(self._engine, "notes", ()))

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        """One judgment per item, in order. A conversation that the template refuses, or a score that is not finite,
        is an error of its item alone."""
        for part, rendered in ahead(self._render, items):
            good = [r for r in rendered if not isinstance(r, str)]
            groups = self._engine.logits([[c.tokens for c in r] for r in good])
            for item, r in zip(part, rendered, strict=True):
                if isinstance(r, str):
                    yield Judgment(item_id=item.id, error=r)
                    continue
                scores = [self._head.score(outputs) for outputs in next(groups)]
                yield Judgment.of(
                    item,
                    scores,
                    truncated=sum(c.dropped > 0 for c in r),
                    tokens=sum(len(c.tokens) for c in r),
                )

    def preview(self, item: Item) -> list[dict[str, Any]]:
        """The exact text and tokens of each response's conversation."""
        rendered = self._text.conversations([item.conversation(i) for i in range(len(item.responses))])
        return [{"title": titled(f"response {i}", r), **self._text.preview(r)} for i, r in enumerate(rendered)]

    def close(self) -> None:
        """Let go of the model."""
        close = getattr(self._engine, "close", None)
        if close is not None:
            close()

    def _render(self, items: Sequence[Item]) -> list[list[Rendered] | str]:
        return render(self._text, items)


class Served:
    """A head behind vLLM's server (``/pooling``, else ``/classify``), which applies its own chat template. See
    core.Adapter."""

    exact = False
    tolerance = 1e-2  # a server batches as requests come, in the dtype it was started with
    order = "pointwise: order-free by construction"

    def __init__(self, engine: Any, asked: str | None) -> None:
        self._engine = engine
        self._asked = asked
        self.engine = "endpoint"
        self.device = str(engine.device)
        self.counted = tuple(engine.counted)
        self.settings: dict[str, Any] = {"adapter": "scalar-served-1", **engine.settings, "head": asked}

    @property
    def info(self) -> dict[str, Any]:
        """Requests and tokens so far; changes no score."""
        return dict(self._engine.info)

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        """One judgment per item, in order. A conversation that the server does not score is an error of its item."""
        for at in range(0, len(items), AHEAD):
            part = items[at : at + AHEAD]
            groups = [[item.conversation(i) for i in range(len(item.responses))] for item in part]
            for item, outputs in zip(part, self._engine.logits(groups), strict=True):
                yield self._judgment(item, outputs)

    def _judgment(self, item: Item, outputs: Sequence[Any]) -> Judgment:
        counts = {len(o) for o in outputs if all(v == v for v in o)}
        if not counts:
            return Judgment(item_id=item.id, error="the server scored none of its conversations")
        chosen = head(self._asked, [f"LABEL_{i}" for i in range(min(counts))], "the server's model")
        return Judgment.of(item, [chosen.score(o) if len(o) in counts else float("nan") for o in outputs])


def titled(what: str, rendered: Rendered) -> str:
    """With what was cut."""
    return f"{what} ({rendered.dropped} tokens cut at the start)" if rendered.dropped else what


def render(text: Text, items: Sequence[Item], *, starts: bool = False) -> list[list[Rendered] | str]:
    """Per item its conversations, or why the template refuses them."""
    conversations = [[item.conversation(i) for i in range(len(item.responses))] for item in items]
    try:
        made = iter(text.conversations([c for group in conversations for c in group], starts=starts))
        return [[next(made) for _ in group] for group in conversations]
    except BadData:
        if len(items) > 1:
            return [r for item in items for r in render(text, [item], starts=starts)]
        try:
            return [text.conversations(conversations[0], starts=starts)]
        except BadData as error:
            return [str(error)]


def ahead(prepare: Any, items: Sequence[Item]) -> Iterator[tuple[Sequence[Item], Any]]:
    """(items, prepare(items)) a part at a time, the next part being prepared in a thread meanwhile."""
    parts = [items[at : at + AHEAD] for at in range(0, len(items), AHEAD)]
    with ThreadPoolExecutor(1) as pool:
        futures = [pool.submit(prepare, part) for part in parts[:1]]
        for n, part in enumerate(parts):
            if n + 1 < len(parts):
                futures.append(pool.submit(prepare, parts[n + 1]))
            yield part, futures[n].result()


def open(ref: str, options: Options) -> Scalar | Served:
    """Raises BadModel, UsageError or MissingExtra before any item is scored."""
    from rmbench import checkpoints

    served = options.base_url is not None
    if wrong := sorted(set(options.given()) & ((running.OPTIONS - {"engine"}) if served else SERVER)):
        named = ", ".join("--" + name.replace("_", "-") for name in wrong)
        raise UsageError(f"{named}: not for {'a server' if served else 'a local checkpoint'}; leave it out")
    if served:
        from rmbench.engines import endpoint

        return Served(endpoint.open(ref, options), options.head)
    checkpoint = checkpoints.read(ref, revision=options.revision, trust_remote_code=options.trust_remote_code)
    checkpoints.want_scalar(checkpoint)
    chosen = head(options.head, checkpoint.labels, f"model {ref!r}")
    return Scalar(running.open_engine(ref, options, "head"), chosen)
