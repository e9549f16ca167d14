"""Judge prompts: named, versioned Jinja files that turn an item into the messages that a judge reads.

A prompt opens with a comment that says what it is, and has one block per message::

    {# name: short
       version: 1
       mode: pairwise
       parser: bracket-letter #}
    {% block system %}Which answer is better? End with [[A]] or [[B]].{% endblock %}
    {% block user %}{{ question }} -- A: {{ answer_a }} -- B: {{ answer_b }}{% endblock %}

Keys: ``mode`` (pairwise, pointwise, n-way), ``parser``, ``tie`` (label of a tie), ``labels`` (of the responses in the
order shown; of a yes-no prompt: the good one, then the bad one), ``scale`` (lowest and highest rating), ``needs``
(``reference``). A file without blocks is one user message. Newlines at a block's ends are taken off; all else is kept
to the byte, so that a public judge's own prompt can be used as it is. Variables are listed in ``VARIABLES``. Material
is kept apart from the prompt by ``fence``, or by the filter ``quoted``, which small models do not copy: ``> `` before
every line, so that no line of a response can pass for one of the prompt's.
"""

from __future__ import annotations

import hashlib
import os
import re
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from rmbench.adapters import parsers
from rmbench.adapters.parsers import Parser
from rmbench.core import Item, Message
from rmbench.errors import BadData, UnknownName, UsageError

if TYPE_CHECKING:
    from jinja2 import Template

Mode = Literal["pairwise", "pointwise", "n-way"]

VARIABLES = {
    "question": "what was asked: the user's text, or the shared conversation as a transcript",
    "conversation": "the same as a list of messages (role, content)",
    "answer": "the response to rate (pointwise)",
    "answer_a": "the response shown first (pairwise)",
    "answer_b": "the response shown second (pairwise)",
    "answers": "all shown: label, text, conversation (messages up to and with this response)",
    "labels": "the labels in the order shown",
    "reference": "the reference answer in the item's meta, or nothing",
    "fence": "8 hex digits that no response can know, to mark where material begins and ends",
}
_NEEDED = {
    "pairwise": ({"answer_a", "answer_b"}, {"answers"}),
    "n-way": ({"answers"},),
    "pointwise": ({"answer"}, {"answers"}),
}
_ASKED = {"question", "conversation", "answers"}
_KEYS = {"name", "version", "mode", "parser", "tie", "labels", "scale", "needs"}
_HEADER = re.compile(r"\s*\{#-?(.*?)-?#\}", re.DOTALL)

_LINE_END = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")

# Control tokens of the chat templates in use. A server tokenises what it is sent, so a response could end its turn and
# speak as another: every one is split by a space after its first character. (With a tokenizer at hand, engines.text
# knows the model's own tokens and encodes them as text.)
_CONTROL = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|<\|[a-z_]{1,20}>|<[a-z_]{1,20}\|>|<｜[^<>｜]{1,40}｜>|\[/?INST\]|<</?SYS>>"
    r"|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]"
    r"|</?(?:s|bos|eos|pad|unk|start_of_turn|end_of_turn|turn|begin_of_text)>|\[gMASK\]"
)
# What a parser would take for the judge's own, whatever the prompt's verdict looks like.
_THINKING = r"</?(?:think|thinking|reasoning)>|\[/?THINK\]"


class Prompt(NamedTuple):
    """A judge prompt, checked."""

    name: str
    version: int
    mode: Mode
    parser: Parser
    digest: str
    """Of the file's bytes."""
    template: Template
    labels: tuple[str, ...] = tuple(string.ascii_uppercase)
    tie: str | None = None
    scale: tuple[float, float] | None = None
    reference: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What can change a score."""
        return {"name": self.name, "version": self.version, "digest": self.digest, "parser": self.parser.id}

    def words(self, shown: int) -> tuple[str, ...] | None:
        """The labels a verdict over ``shown`` responses can be; None for a rating that is free within its scale."""
        if self.mode == "pointwise":
            return None if self.scale else self.labels[:2]
        return (*self.labels[:shown], self.tie) if self.tie else self.labels[:shown]

    def messages(self, item: Item, shown: Sequence[int], clean: Callable[[str], str]) -> tuple[Message, ...]:
        """What the judge reads of the item, responses in the order ``shown``; ``clean`` makes material harmless."""
        reference = _reference(item)
        if self.reference and reference is None:
            raise BadData(
                f"item {item.id!r} has no reference answer, and prompt {self.name} needs one: a suite file gives it as "
                "meta={'reference': ...}, your own data in a column named reference; or choose another --judge-prompt"
            )
        return self._render(
            [Message(role=m.role, content=clean(m.content)) for m in item.prompt],
            [
                [Message(role=m.role, content=clean(m.content)) for m in item.conversation(i)[len(item.prompt) :]]
                for i in shown
            ],
            [Message(role=m.role, content=clean(m.content)) for m in item.prompt],
            None if reference is None else clean(reference),
            item.content_hash()[:8],
        )

    def _render(
        self,
        shared: list[Message],
        answers: list[list[Message]],
        conversation: list[Message],
        reference: str | None,
        fence: str,
    ) -> tuple[Message, ...]:
        texts = [_transcript(a[:-1], a[-1].content) for a in answers]
        values: dict[str, Any] = {
            "question": _transcript(shared),
            "conversation": conversation,
            "answers": [
                {"label": label, "text": text, "conversation": [*conversation, *turns]}
                for label, text, turns in zip(self.labels, texts, answers, strict=False)
            ],
            "labels": self.labels[: len(answers)],
            "reference": reference,
            "fence": fence,
        }
        if self.mode == "pairwise":
            values |= {"answer_a": texts[0], "answer_b": texts[1]}
        if self.mode == "pointwise":
            values["answer"] = texts[0]
        context = self.template.new_context(values)
        blocks = self.template.blocks or {"user": self.template.root_render_func}
        messages = [
            Message(role=role, content="".join(blocks[role](context)).strip("\n"))
            for role in ("system", "user")
            if role in blocks
        ]
        return tuple(messages)


def quoted(text: str) -> str:
    """With ``> `` before each line, whatever ends the line before it; no character is lost."""
    return "> " + _LINE_END.sub(r"\g<0>> ", text)


def cleaner(prompt: Prompt, *, control: bool = True) -> Callable[[str], str]:
    """What is done to every text that is judged: a verdict as the prompt's parser knows it and marks of thinking get a
    space after their first character, so that a judge who quotes a response casts no vote and hides none; with
    ``control``, so do control tokens."""
    patterns = [_THINKING, _CONTROL.pattern] if control else [_THINKING]
    if prompt.parser.marker is not None:
        patterns.append(prompt.parser.marker(prompt.words(len(prompt.labels))))
    found = re.compile("|".join(f"(?:{p})" for p in patterns))
    return lambda text: found.sub(_split, text)


def names() -> list[str]:
    """Of the built-in prompts."""
    return sorted(p.stem for p in _folder().glob("*.jinja"))


def load(ref: str, parser: str | None = None) -> Prompt:
    """A built-in prompt or a FILE, checked: its syntax, its header, that it uses what it must, that order matters.

    Raises UnknownName for a name that is neither, UsageError for a prompt that cannot be used.
    """
    path = Path(ref)
    if not (path.suffix or "/" in ref) or not os.path.exists(path):
        path = _folder() / f"{ref}.jinja"
        if not os.path.exists(path):
            raise UnknownName("judge prompt", ref, names(), "A file of your own is given by its path.")
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"judge prompt {ref}: cannot be read ({error})") from error
    return compile_prompt(source, path.name, parser)


def compile_prompt(source: str, where: str, parser: str | None = None) -> Prompt:
    """``load`` for a text that is already in hand; ``where`` names it in errors."""
    from jinja2 import StrictUndefined, TemplateSyntaxError, meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def fail(message: str) -> UsageError:
        return UsageError(f"judge prompt {where}: {message}")

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, autoescape=False)
    environment.filters["quoted"] = quoted
    try:
        used = meta.find_undeclared_variables(environment.parse(source))
        template = environment.from_string(source)
    except TemplateSyntaxError as error:
        raise fail(f"line {error.lineno}: {error.message}") from error
    header = _header(source, fail)
    mode = header.get("mode", "pairwise")
    if mode not in get_args(Mode):
        raise fail(f"mode is {mode!r}; use pairwise, pointwise or n-way")
    name = parser or header.get("parser")
    if name is None:
        raise fail("no parser named; add {# parser: bracket-letter #} at its top or give --parser")
    if unknown := used - set(VARIABLES):
        raise fail(f"unknown variable {', '.join(sorted(unknown))}; there are {', '.join(VARIABLES)}")
    if not any(needed <= used for needed in _NEEDED[mode]):
        choice = " or ".join(" and ".join(sorted(n)) for n in _NEEDED[mode])
        raise fail(f"a {mode} prompt must show {choice}")
    if not used & _ASKED:
        raise fail("it never shows question or conversation, so the judge would not know what was asked")
    if unknown := set(template.blocks) - {"system", "user"}:
        raise fail(f"block {', '.join(sorted(unknown))}; a prompt has a system and a user block")
    if template.blocks and "user" not in template.blocks:
        raise fail("it has no user block")
    needs = header.get("needs")
    if needs not in (None, "reference"):
        raise fail(f"needs is {needs!r}; only reference can be needed")
    if needs and "reference" not in used:
        raise fail("it needs a reference and never shows one")
    prompt = Prompt(
        name=header.get("name", Path(where).stem),
        version=_whole(header.get("version", "1"), fail),
        mode=mode,  # type: ignore[arg-type]
        parser=parsers.known(name),
        digest=hashlib.sha256(source.encode()).hexdigest()[:16],
        template=template,
        labels=tuple(header["labels"].split()) if "labels" in header else tuple(string.ascii_uppercase),
        tie=header.get("tie"),
        scale=_scale(header["scale"], fail) if "scale" in header else None,
        reference=needs is not None,
    )
    _check_labels(prompt, fail)
    _try(prompt, fail)
    return prompt


def _check_labels(prompt: Prompt, fail: Callable[[str], UsageError]) -> None:
    if len(set(prompt.labels)) < max(2, len(prompt.labels)):
        raise fail(f"labels {' '.join(prompt.labels)}: two or more different ones are needed")
    if prompt.mode == "pairwise" and prompt.tie in prompt.labels[:2]:
        raise fail(f"tie label {prompt.tie} is the label of a response")
    if prompt.mode == "n-way" and prompt.tie in prompt.labels:
        raise fail(f"tie label {prompt.tie} is the label of a response")
    if prompt.mode != "pointwise" and prompt.scale:
        raise fail(f"a {prompt.mode} prompt gives verdicts, and has no scale")
    if prompt.mode == "pointwise" and not prompt.scale and prompt.labels == tuple(string.ascii_uppercase):
        raise fail("a pointwise prompt says its scale (scale: 1 10) or its labels (labels: Yes No)")


def _try(prompt: Prompt, fail: Callable[[str], UsageError]) -> None:
    """Rendered once with stand-ins: what was found in the source must arrive in the text, and in the order shown."""
    count = {"pairwise": 2, "pointwise": 1, "n-way": 3}[prompt.mode]
    asked, parts = "asked-5b1f", [f"part-{i}-77c1" for i in range(count)]

    def render(shown: list[str]) -> tuple[Message, ...]:
        shared = [Message(role="user", content=asked)]
        return prompt._render(
            shared, [[Message(role="assistant", content=s)] for s in shown], shared, "known-19d3", "00000000"
        )

    from jinja2 import TemplateError

    try:
        messages = render(parts)
        swapped = render(parts[::-1])
    except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError) as error:
        raise fail(f"cannot be rendered: {error}") from error
    text = "\n".join(m.content for m in messages)
    for stand_in, what in ((asked, "what was asked"), *((p, f"response {i}") for i, p in enumerate(parts))):
        if stand_in not in text:
            raise fail(f"the text it makes does not show {what}")
    if count > 1 and swapped == messages:
        raise fail("the text does not change when the responses change places")


def _header(source: str, fail: Callable[[str], UsageError]) -> dict[str, str]:
    match = _HEADER.match(source)
    header = {}
    for line in match[1].splitlines() if match else ():
        key, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon or key.strip() not in _KEYS:
            raise fail(f"header line {line.strip()!r}; write one of {', '.join(sorted(_KEYS))} and a colon")
        header[key.strip()] = value.strip()
    return header


def _whole(value: str, fail: Callable[[str], UsageError]) -> int:
    if not value.isdigit():
        raise fail(f"version is {value!r}; use a whole number")
    return int(value)


def _scale(value: str, fail: Callable[[str], UsageError]) -> tuple[float, float]:
    try:
        low, high = (float(v) for v in value.split())
    except ValueError as error:
        raise fail(f"scale is {value!r}; write two numbers, as in scale: 1 10") from error
    if not low < high:
        raise fail(f"scale {value} has no room between its ends")
    return low, high


def _transcript(messages: Sequence[Message], last: str | None = None) -> str:
    """One user message stands as it is; more become ``User: ...`` and ``Assistant: ...`` paragraphs."""
    if last is not None:
        return f"{_transcript(messages)}\n\nAssistant: {last}" if messages else last
    if len(messages) == 1 and messages[0].role == "user" and last is None:
        return messages[0].content
    return "\n\n".join(f"{m.role.capitalize()}: {m.content}" for m in messages)


def _reference(item: Item) -> str | None:
    """A text, or one text per turn (joined), under ``reference`` in the item's meta."""
    value = item.meta.get("reference")
    if isinstance(value, list | tuple) and value and all(isinstance(v, str) for v in value):
        value = "\n\n".join(f"Turn {i}: {v}" for i, v in enumerate(value, start=1))
    return value if isinstance(value, str) and value.strip() else None


def _split(match: re.Match[str]) -> str:
    return f"{match[0][0]} {match[0][1:]}"


def _folder() -> Path:
    return Path(__file__).parent.parent / "prompts"
