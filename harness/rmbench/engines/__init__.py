"""How a model is run: a few primitives that adapters need, over token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np

Tokens = list[int]


class Request(NamedTuple):
    """One prompt to continue, ``samples`` times. Sample i is seeded by (seed, i) alone, not by its batch."""

    tokens: Tokens
    samples: int = 1
    seed: int = 0
    max_tokens: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()


class Generated(NamedTuple):
    """One continuation."""

    text: str
    tokens: int
    finish: str
    """``stop`` or ``length``."""


class Engine(Protocol):
    """Groups share a prompt (an item's responses), so that an engine may compute the shared prefix once.
    Results come in the order of the input."""

    tokenizer: Any
    settings: dict[str, Any]
    """What can change a score: weights' hash, dtype, threads, versions, attention..."""
    exact: bool
    device: str
    info: dict[str, Any]

    def logits(self, groups: Sequence[Sequence[Tokens]]) -> Iterator[list[np.ndarray[Any, Any]]]:
        """Raw head outputs, one array of shape (labels,) per conversation."""
        ...

    def logprobs(self, groups: Sequence[Sequence[tuple[Tokens, int]]]) -> Iterator[list[np.ndarray[Any, Any]]]:
        """For each (tokens, start): natural-log probabilities of tokens[start:], shape (len - start,)."""
        ...

    def next_token(self, prompts: Sequence[Tokens], ids: Sequence[Sequence[int]]) -> Iterator[np.ndarray[Any, Any]]:
        """For each prompt: natural-log probabilities of the given ids as its next token."""
        ...

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Generated]]:
        """For each request: its samples."""
        ...
