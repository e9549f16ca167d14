"""The OpenAI protocol as servers speak it: the bytes of an answer in; replies, or why there are none, out.

What a verdict needs is read strictly: the text, and log-probabilities where they decide. What is only noted (usage,
reasoning, the name of what is served) is read as far as it goes: bookkeeping costs no answer that was paid for.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from rmbench.engines.faults import Failure, mended, of_answer


class Step(NamedTuple):
    """One token written: its bytes, and (text, natural-log probability) of what could have stood there."""

    token: bytes
    alternatives: tuple[tuple[str, float], ...]


class Reply(NamedTuple):
    """One sample, or why there is none."""

    text: str = ""
    thinking: str | None = None
    """What the server gave apart from the answer."""
    tokens: int = 0
    """Written."""
    finish: str = "stop"
    """``stop`` or ``length``."""
    steps: tuple[Step, ...] = ()
    error: str | None = None
    limit: int | None = None
    """Tokens that it could write at most, where the engine knows."""


class Body(msgspec.Struct):
    """What every answer may hold beside itself."""

    error: Any = None
    usage: Any = None

    @property
    def counted(self) -> tuple[int, int]:
        """Tokens (read, written); 0 for what the server does not count in numbers."""
        usage = self.usage if isinstance(self.usage, Mapping) else {}
        return _whole(usage.get("prompt_tokens")), _whole(usage.get("completion_tokens"))


class _Part(msgspec.Struct):
    type: str = "text"
    text: Any = None


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None
    refusal: Any = None
    reasoning: Any = None
    reasoning_content: Any = None


class Choice(msgspec.Struct):
    """One sample as the server sent it."""

    message: _Message | None = None
    finish_reason: Any = None
    logprobs: Any = None
    error: Any = None


class Chat(Body):
    """``/chat/completions``."""

    choices: list[Choice] = []
    model: Any = None
    system_fingerprint: Any = None

    @property
    def served(self) -> str:
        """What the server says it serves, as far as it says so in text."""
        return " ".join(v for v in (self.model, self.system_fingerprint) if isinstance(v, str) and v)


class Head(Body):
    """vLLM's own routes."""

    data: list[Any] = []


class _Vector(msgspec.Struct):
    data: list[float]


class Pooled(Head):
    """vLLM's ``/pooling``."""

    data: list[_Vector] = []


class _Label(msgspec.Struct):
    probs: list[float]


class Classified(Head):
    """vLLM's ``/classify``."""

    data: list[_Label] = []


class _Score(msgspec.Struct):
    score: float


class Scores(Head):
    """vLLM's ``/score``."""

    data: list[_Score] = []


class _Alternative(msgspec.Struct):
    token: str
    logprob: float


class _Token(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[_Alternative] | None = None


class _Tokens(msgspec.Struct):
    content: list[_Token] | None = None


B = TypeVar("B", bound=Body)


def read(content: bytes, shape: type[B]) -> B:
    """An answer, which ``check`` has still to look at. Raises Failure for what has another shape."""
    try:
        return msgspec.json.decode(content, type=shape)
    except (ValueError, RecursionError):
        try:
            return msgspec.convert(_values(content), shape)
        except (ValueError, TypeError, RecursionError) as error:
            page = "a page of HTML; " if content.lstrip()[:1] == b"<" else ""
            raise Failure(f"malformed body ({page}{error})") from None


def check(body: Body, *, steps: bool = False) -> None:
    """Raises Failure for an error where an answer should be, and for an answer that lacks what is needed; ``steps``:
    log-probabilities were asked for. A choice may be left that failed beside others that did not."""
    if body.error:
        raise of_answer(body.error)
    if not (body.choices if isinstance(body, Chat) else isinstance(body, Head) and body.data):
        raise Failure("malformed body (it holds no answer)")
    if not isinstance(body, Chat):
        return
    failures = [failure for choice in body.choices if (failure := failure_of(choice)) is not None]
    if len(failures) == len(body.choices):
        # First the one that may be asked again: the others may then come as well.
        raise min(failures, key=lambda f: f.after is None)
    for choice in body.choices:
        if failure_of(choice) is None:
            _check_choice(choice, steps)


def _check_choice(choice: Choice, steps: bool) -> None:
    if choice.message is None and not _filtered(choice):
        raise Failure("malformed body (a choice without a message)")
    parts = choice.message.content if choice.message is not None else None
    if isinstance(parts, list) and not all(isinstance(p.text, str | None) for p in parts if _said(p)):
        raise Failure("malformed body (a part that is no text)")
    try:
        choice.logprobs = msgspec.convert(choice.logprobs, _Tokens | None) if steps else None
    except msgspec.ValidationError as error:
        raise Failure(f"malformed body ({error})") from None


def failure_of(choice: Choice) -> Failure | None:
    """A provider's error that stands in a choice (OpenRouter), beside whatever was written before it."""
    if choice.error:
        return of_answer(choice.error)
    return of_answer("error, without a reason") if choice.finish_reason == "error" else None


def reply(choice: Choice, written: int) -> Reply:
    """A choice without an error as a sample of ``written`` tokens."""
    if _filtered(choice) or choice.message is None:
        return Reply(error="content filter", tokens=written)
    message = choice.message
    content = message.content
    if isinstance(content, list):
        content = "".join(part.text or "" for part in content if _said(part))
    thinking = _noted(message.reasoning_content) or _noted(message.reasoning)
    if refusal := _noted(message.refusal):
        return Reply(error=f"refused: {refusal[:200]}", tokens=written)
    if content is None and thinking is None:
        return Reply(error="empty answer", tokens=written)
    return Reply(
        text=content or "",
        thinking=thinking,
        tokens=written,
        finish="length" if choice.finish_reason in ("length", "max_tokens") else "stop",
        steps=tuple(_step(s) for s in (choice.logprobs.content if choice.logprobs else None) or ()),
    )


def _filtered(choice: Choice) -> bool:
    return bool(choice.finish_reason == "content_filter")


def _said(part: _Part) -> bool:
    return part.type in ("text", "output_text")


def _noted(value: Any) -> str | None:
    """What is kept beside the answer, as text whatever its shape."""
    if isinstance(value, str):
        return value or None
    return msgspec.json.encode(value).decode() if isinstance(value, Mapping | list) and value else None


def _step(token: _Token) -> Step:
    raw = token.token.encode() if token.bytes is None else bytes(b & 255 for b in token.bytes)
    seen = {a.token: a.logprob for a in token.top_logprobs or ()} | {token.token: token.logprob}
    return Step(raw, tuple(seen.items()))


def _whole(value: Any) -> int:
    try:
        return max(0, int(float(value)))
    except (TypeError, ValueError, OverflowError):
        return 0


def _values(content: bytes) -> Any:
    """What is not plain JSON in UTF-8: with a byte-order mark, halves of characters, -Infinity, or in events.

    Raises ValueError for what is no answer in any of these forms.
    """
    text = content.decode(json.detect_encoding(content), errors="replace")
    if re.match(r"\s*(data|event|id|retry)?:", text):
        return _storable(_together(text))
    return _storable(_json(text))


def _json(text: str) -> Any:
    # A raw line end within a text is wrong and clear; what is no number must not pass for certainty.
    return json.loads(text, strict=False, parse_constant=lambda name: -math.inf if name[0] == "-" else math.nan)


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return mended(value)
    if isinstance(value, list):
        return [_storable(v) for v in value]
    return {mended(k): _storable(v) for k, v in value.items()} if isinstance(value, dict) else value


def _together(stream: str) -> dict[str, Any]:
    """The chunks of an event stream as one answer. Raises ValueError for a stream that is cut short."""
    whole: dict[str, Any] = {}
    choices: dict[str, dict[str, Any]] = {}
    done = False
    for line in re.split(r"\r\n|\n|\r", stream):
        data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
        if data == "[DONE]":
            done = True
        elif data:
            chunk = _mapping(_json(data))
            whole |= {k: v for k, v in chunk.items() if k != "choices" and v is not None}
            for part in map(_mapping, chunk.get("choices") or ()):
                _join(choices.setdefault(str(part.get("index", 0)), {}), part)
    if "error" not in whole and not done and not all(c.get("finish_reason") for c in choices.values()):
        raise ValueError("the event stream ends early")
    in_order = sorted(choices, key=lambda index: (len(index), index))
    return {**whole, "choices": [choices[index] for index in in_order]}


def _join(choice: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Adds a chunk's part of a choice to what came before: texts and lists go on, all else is as said last."""
    for key, value in part.items():
        key = "message" if key == "delta" else key
        before = choice.get(key)
        if value is None:
            continue
        if isinstance(before, dict) and isinstance(value, dict):
            _join(before, value)
        elif key in ("content", "reasoning", "reasoning_content", "refusal") and type(before) is type(value):
            choice[key] = before + value  # type: ignore[operator]
        elif isinstance(value, dict):
            choice[key] = {}
            _join(choice[key], value)
        else:
            choice[key] = value


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"an event that holds {str(value)[:40]!r}")
    return value
