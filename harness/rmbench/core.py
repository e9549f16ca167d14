"""The types that everything else speaks: items, ballots, judgments, suites, runs, estimates.

One item, as it stands in a JSON-lines file::

    {"id": "chat-001", "subset": "chat-everyday",
     "prompt": [{"role": "user", "content": "Name a prime between 10 and 15."}],
     "responses": ["13 is prime.", "12 is prime."], "grades": [1, 0],
     "strength": 2, "cluster": null, "meta": {}}

This module imports nothing of ours and nothing heavy.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

SCHEMA = 1
"""Version of the files in a run's folder; a folder of another version is refused, never guessed at."""

Kind = Literal["pair", "ranking", "binary"]


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A prompt and its graded responses: a pair, a ranking, or one response with a binary label."""

    id: str
    subset: str
    prompt: tuple[Message, ...]
    """What all responses share."""
    responses: tuple[str, ...]
    """The last assistant turn of each conversation."""
    grades: tuple[float, ...]
    """One per response, higher is better. Equal grades are a tie; a single grade is a 0/1 label."""
    turns: tuple[tuple[Message, ...], ...] = ()
    """Turns between the shared prompt and response i, where they differ (MT-Bench's second turn); else empty."""
    strength: float | None = None
    """How clear the preference is, in the suite's own unit."""
    cluster: str | None = None
    """Names what is not independent (a shared prompt), for standard errors."""
    meta: dict[str, Any] = {}
    """What a metric or adapter looks up: ``reference`` (a right answer, for judges; no run keeps it), ``unsafe`` (the
    prompt asks for harm), or the suite's own."""

    @property
    def kind(self) -> Kind:
        return {1: "binary", 2: "pair"}.get(len(self.responses), "ranking")  # type: ignore[return-value]

    def conversation(self, index: int) -> tuple[Message, ...]:
        """The whole conversation that ends in response ``index``."""
        between = self.turns[index] if self.turns else ()
        return (*self.prompt, *between, Message(role="assistant", content=self.responses[index]))

    def content_hash(self) -> str:
        """16 hex digits over everything in the item; two items that differ in one character differ in hash."""
        return _digest(_encoder.encode(self))[:16]


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an estimate needs of an item, without its texts: a run's folder keeps these, so that every
    number can be made again without the suite."""

    item_id: str
    hash: str
    subset: str
    grades: tuple[float, ...]
    lengths: tuple[int, ...]
    """Characters of each response."""
    strength: float | None = None
    cluster: str | None = None
    meta: dict[str, Any] = {}

    @classmethod
    def of(cls, item: Item) -> Facts:
        return cls(
            item_id=item.id,
            hash=item.content_hash(),
            subset=item.subset,
            grades=item.grades,
            lengths=tuple(len(r) for r in item.responses),
            strength=item.strength,
            cluster=item.cluster,
            meta={k: v for k, v in item.meta.items() if k != "reference"},  # a text
        )


class Ballot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One verdict of one judge, in the order in which the responses were shown. Raw evidence, always stored.

    ``shown`` and ``picked`` count responses as the item does: ``shown=(1, 0), picked=1`` says that response 1
    was shown first and won. A pointwise ballot shows one response and carries a ``rating``.
    """

    shown: tuple[int, ...]
    picked: int | None = None
    tie: bool = False
    sample: int = 0
    text: str | None = None
    """The judge's own words, as parsed."""
    thinking: str | None = None
    """What a reasoning model wrote before its answer; never parsed."""
    rating: float | None = None
    probabilities: tuple[float, ...] | None = None
    """Where the verdict was read from token probabilities: per shown slot, then of the tie if there is one; pointwise:
    per label or point of the scale. Mass outside is 1 - sum."""
    labels: tuple[str, ...] = ()
    """Category codes a guard named (S1, S9, ...)."""
    judge: str | None = None
    """Which judge, in a jury."""
    error: str | None = None
    """Why there is no verdict (unparsable, refused, ...)."""

    @property
    def valid(self) -> bool:
        return self.picked is not None or self.tie or self.rating is not None

    def credit(self, response: int) -> float:
        """What this (valid) ballot gives to a response that it showed."""
        if self.rating is not None:
            return self.rating
        return 1 / len(self.shown) if self.tie else float(self.picked == response)


class Judgment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A finite score per response, or why there is none. Never both, never NaN."""

    item_id: str
    scores: tuple[float, ...] | None = None
    ballots: tuple[Ballot, ...] = ()
    error: str | None = None
    truncated: int = 0
    """How many of the item's conversations lost text."""
    tokens: int = 0
    """Prompt tokens read by the model."""
    generated: int = 0
    """Tokens written by the model."""
    meta: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if (self.scores is None) == (self.error is None):
            raise ValueError(f"judgment of {self.item_id!r} needs scores or an error, and not both")
        if self.scores is not None and not all(math.isfinite(s) for s in self.scores):
            raise ValueError(f"judgment of {self.item_id!r} has a score that is not finite: {self.scores}")

    @classmethod
    def of(cls, item: Item, scores: Sequence[float], **more: Any) -> Judgment:
        """A judgment from raw scores: a NaN or infinite one becomes an error, never a win or a loss."""
        bad = [i for i, s in enumerate(scores) if not math.isfinite(s)]
        if bad:
            named = ", ".join(f"response {i}: {scores[i]}" for i in bad)
            return cls(item_id=item.id, error=f"score not finite ({named})", **more)
        return cls(item_id=item.id, scores=tuple(float(s) for s in scores), **more)

    @classmethod
    def voted(cls, item: Item, ballots: Sequence[Ballot], **more: Any) -> Judgment:
        """A judgment from ballots. A response's score is its mean credit (a pick 1, a tie 1/k of the k shown, a rating
        itself) over the valid ballots of one order, then over the orders it was shown in; an order without one valid
        ballot is an error, so that half an answer never counts as a whole one."""
        orders: dict[tuple[int, ...], list[Ballot]] = {}
        for ballot in ballots:
            orders.setdefault(ballot.shown, []).append(ballot)
        credits: list[list[float]] = [[] for _ in item.responses]
        problem = None if orders else "no ballots"
        for shown, cast in orders.items():
            if not set(shown) <= set(range(len(credits))):
                problem = f"a ballot shows {list(shown)} of {len(credits)} responses"
                break
            valid = [b for b in cast if b.valid]
            if not valid:
                first = next((b.error for b in cast if b.error), "unparsable")
                problem = f"no valid verdict of {len(cast)} with responses shown as {list(shown)}: {first}"
                break
            for response in shown:
                credits[response].append(sum(b.credit(response) for b in valid) / len(valid))
        if problem is None and not all(credits):
            problem = f"response {next(i for i, c in enumerate(credits) if not c)} was never shown"
        if problem is not None:
            return cls(item_id=item.id, error=problem, ballots=tuple(ballots), **more)
        return cls.of(item, [sum(c) / len(c) for c in credits], ballots=tuple(ballots), **more)


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a suite's number is made. Named and versioned, because one name hides different numbers in the field."""

    name: str
    """With a version in it: ``rewardbench-2024-09``."""
    about: str = ""
    """One or two sentences for the reader of a table."""
    ties: Literal["half", "wrong", "dropped", "share"] = "half"
    """Credit for equal scores: 0.5, 0, left out, or 1/k of a k-way tie at the top."""
    gold_ties: Literal["skip", "class"] = "skip"
    """Items whose grades are all equal: left out and counted, or a class of its own (right when scores tie)."""
    ranking: Literal["top-1", "best-beats-all"] = "top-1"
    """Rankings: is a best-graded response on top (ties by the rule above), or does it strictly beat every other?"""
    overall: Literal["macro", "micro", "none"] = "macro"
    """Mean of categories with ``category_weights``, mean over items, or no overall at all."""
    metrics: dict[str, str] = {}
    """Subset (or ``*``) -> metric name where the default for its kind is not meant. Defaults: pairs ``accuracy``,
    rankings ``accuracy`` by the ranking rule, binary ``auc``."""
    position: str | None = None
    """Rule for judges with ballots in both orders (see metrics.position); None: the mean credit of both orders, or, of
    ballots with probabilities, the higher mean probability."""


class Suite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pinned items and how their number is made. A suite's card is a Suite without items."""

    name: str
    version: str
    about: str
    categories: dict[str, tuple[str, ...]]
    """Category -> its subsets, in the order of tables."""
    rules: Rules
    source: str
    """``hf:org/name[:config]:split[@revision]`` or ``file:name`` beside the suite file."""
    licence: str
    citation: str
    files: tuple[str, ...] = ()
    """Offline: globs looked for in the data folder, first match wins."""
    weights: dict[str, float] = {}
    """Subset -> its weight within its category; absent: the number of its items. Never a count."""
    category_weights: dict[str, float] = {}
    """Category -> its weight in the overall; absent: 1."""
    counts: dict[str, int] = {}
    """Subset -> its number of items, checked on load; empty: not checked (a user's own data)."""
    warning: str | None = None
    """Shown before an example of an offensive set."""
    excluded: dict[str, int] = {}
    """Reason -> rows left out while loading."""
    missing: dict[str, int] = {}
    """Subset -> items that should be there and are not; 0: their number is not known. Any: the suite is partial."""
    notes: tuple[str, ...] = ()
    items: tuple[Item, ...] = ()

    @property
    def partial(self) -> bool:
        return bool(self.missing)

    @property
    def absent(self) -> str:
        """How many items are absent from the data, in words with a verb: ``3 items are``."""
        n, all_known = sum(self.missing.values()), all(self.missing.values())
        if not all_known:
            return f"{n:,} items and more are" if n else "an unknown number of items is"
        return "1 item is" if n == 1 else f"{n:,} items are"

    def card(self) -> Suite:
        """The suite without its items, as a run keeps it."""
        return msgspec.structs.replace(self, items=())

    def content_hash(self) -> str:
        """16 hex digits over the items in order, rules, categories and weights."""
        head = (self.name, self.version, self.rules, self.categories, self.weights, self.category_weights)
        digest = hashlib.sha256(_encoder.encode(head))
        for item in self.items:
            digest.update(_encoder.encode(item))
            digest.update(b"\n")
        return digest.hexdigest()[:16]


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was run with what: enough to run it again."""

    schema: int
    status: Literal["running", "complete", "imported"]
    model: str
    """The reference as given, without the machine's folders: a name for tables."""
    adapter: str
    engine: str | None
    fingerprint: str
    """8 hex digits over ``settings``."""
    settings: dict[str, Any]
    """Everything that can change a score: weights' hash, tokenizer, template, dtype, lengths, versions, threads..."""
    suite: Suite
    """The card."""
    suite_hash: str
    seed: int = 0
    limit: int | None = None
    n: int = 0
    """Items asked for (after ``limit``)."""
    done: int = 0
    errors: int = 0
    truncated: int = 0
    """Items of which a conversation lost text."""
    tokens: int = 0
    generated: int = 0
    order: str = "pointwise: order-free by construction"
    """How position enters: in words, for every adapter."""
    exact: bool = True
    """Bits are promised on resume (fixed blocks), or a tolerance only."""
    tolerance: float = 0.0
    seconds: float = 0.0
    """Seconds of scoring, summed over sessions."""
    started: str = ""
    finished: str = ""
    command: str = ""
    device: str = ""
    versions: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    """What the reader of the numbers must know (fell back, truncated, imported from ...)."""
    info: dict[str, Any] = {}
    """Measured on the way, changes no score: self-check, noise floor, cache hit rate, cost."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number nobody can misread. Undefined is ``None`` with a reason, never 0 and never NaN."""

    name: str
    """The metric: ``accuracy``, ``auc``, ``consistency``..."""
    scope: str
    """``subset:math-prm``, ``category:Reasoning``, ``overall``, ``micro``."""
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    """Items the value is made of."""
    missing: int = 0
    """Items that should have been there: errors, rows absent from a partial suite."""
    method: str = ""
    """Of the interval: ``wilson``, ``t``, ``stratified t``, ``cluster t (CR1)``, ..."""
    reason: str | None = None
    """Why the value or its interval is None."""
    se: float | None = None
    wins: float = 0
    ties: float = 0
    losses: float = 0
    errors: int = 0
    truncated: int = 0
    """Items of which a conversation lost text."""
    extra: dict[str, float | str | None] = {}

    def __post_init__(self) -> None:
        if self.value is None and self.reason is None:
            raise ValueError(f"estimate {self.name!r} of {self.scope!r} is undefined and gives no reason")
        for bound in (self.value, self.low, self.high, self.se):
            if bound is not None and not math.isfinite(bound):
                raise ValueError(f"estimate {self.name!r} of {self.scope!r} holds {bound}")


@runtime_checkable
class Adapter(Protocol):
    """What a model's output means. One method and a description; see CONTRIBUTING.md."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that can change a score, JSON-encodable; hashed into the run's fingerprint."""
        ...

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        """One judgment per item, in any order. An exception fails the whole batch of items."""
        ...


def fingerprint(settings: Mapping[str, Any]) -> str:
    """8 hex digits over settings, independent of key order."""
    return _digest(_encoder.encode(settings))[:8]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


_encoder = msgspec.json.Encoder(order="deterministic")
