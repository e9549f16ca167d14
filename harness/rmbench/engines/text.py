"""One path from messages to token ids: chat template, exactly one BOS, truncation that keeps the response's end.

The rule for control tokens in content, stated here once: whatever a message's *content* says is text. A special
token written in it (``<|im_end|>``, ``</s>``, ...) keeps its characters but is encoded as ordinary text, never as
the special id; a turn marker that the template itself writes as ordinary text (``[/INST]``) gets a space after its
first character. Content without either is encoded exactly as the tokenizer does it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rmbench.core import Message
from rmbench.engines import Tokens
from rmbench.errors import BadData, BadModel, UnknownName, UsageError

TEMPLATES = {
    "chatml": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "llama-3": (
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
        "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    ),
    "zephyr": (
        "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    ),
    "vicuna": (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }} "
        "{% elif m['role'] == 'user' %}USER: {{ m['content'] }} "
        "{% else %}ASSISTANT: {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    "plain": (
        "{% for m in messages %}{{ m['content'] }}{{ '\n' if not loop.last or add_generation_prompt }}{% endfor %}"
    ),
}
"""Built-in chat templates for tokenizers that have none."""

DATE = "26 Jul 2024"
"""What templates that print today's date are told, so that a score does not depend on the day."""

_MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>|\[/?[A-Z_]{3,}\]|<</?[A-Z]+>>|</?s>|<(?:start|end)_of_turn>")


class Rendered(NamedTuple):
    """A conversation as the model gets it."""

    tokens: Tokens
    start: int
    """Index of the first token of the response (the end, for a prompt), where it was asked for; else 0."""
    dropped: int
    """Tokens cut off at the start to fit ``max_length``."""
    text: str
    """Before tokenisation and truncation."""


def template(name_or_file: str) -> str:
    """The text of a built-in template or of a Jinja file; Jinja source is given back. Raises UnknownName."""
    if name_or_file in TEMPLATES:
        return TEMPLATES[name_or_file]
    if "{{" in name_or_file:
        return name_or_file
    path = Path(name_or_file)
    if not os.path.isfile(path):
        raise UnknownName("chat template", name_or_file, TEMPLATES, "Or give a Jinja file: --chat-template FILE.")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--chat-template {name_or_file}: cannot be read ({error})") from error


def tokenizer_hash(tokenizer: Any) -> str:
    """16 hex digits over the vocabulary, merges, normalisation and special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    described += repr(sorted((k, str(v)) for k, v in tokenizer.special_tokens_map.items()))
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def want_rows(tokenizer: Any, rows: int, model: str, chat_template: str | None = None) -> None:
    """Raises BadModel where a text can hold a token for which the embedding has no row.

    A special token comes from the template alone, never from a message's content: one that the template does not write
    does no harm, such as a padding token, or the ``<|endoftext|>`` that transformers adds to some GGUF files.
    """
    lacking = {i: t for t, i in tokenizer.get_vocab().items() if i >= rows}
    if not lacking:
        return
    written = (template(chat_template) if chat_template else _own_template(tokenizer)) or ""
    named = {str(tokenizer.special_tokens_map.get(f"{n}_token")) for n in ("bos", "eos", "unk", "cls", "sep", "mask")}
    special = _special_strings(tokenizer)
    met = {i: t for i, t in lacking.items() if t not in special or t in written or t in named}
    if met:
        first = min(met)
        raise BadModel(
            f"model {model!r}: its tokenizer knows {max(lacking) + 1} tokens and its embedding has {rows} rows, so "
            f"that {met[first]!r} (id {first}) has none. Save the model again after resize_token_embeddings, or with "
            "the tokenizer it was trained with"
        )


def common_prefix(sequences: Sequence[Tokens]) -> int:
    """Length of the longest token prefix that all share; 0 for none."""
    if not sequences:
        return 0
    low, high = min(sequences), max(sequences)  # in lexical order the extremes differ first
    for i, (a, b) in enumerate(zip(low, high, strict=False)):
        if a != b:
            return i
    return min(len(low), len(high))


class Text:
    """Renders for one tokenizer. ``max_length`` counts all tokens of a conversation; None is no limit.

    Raises BadModel where there is no chat template and none is given, or where the template cannot be compiled.
    """

    def __init__(self, tokenizer: Any, *, chat_template: str | None = None, max_length: int | None = None) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        source = template(chat_template) if chat_template else _own_template(tokenizer)
        if source is None:
            raise BadModel(
                f"the tokenizer of {tokenizer.name_or_path!r} has no chat template; give one with --chat-template FILE "
                f"or a built-in one ({', '.join(TEMPLATES)})"
            )
        self._template = source
        if "strftime_now" in source:
            self._template = f"{{% macro strftime_now(format) %}}{DATE}{{% endmacro %}}{source}"
        self._control: re.Pattern[str] | None = None
        self._special = _special_strings(tokenizer)
        self._before, self._after, self.bos = _wrapping(tokenizer)
        turns = [Message(role="user", content="a"), Message(role="assistant", content="b")]
        written = self._string(turns, ask=True)
        self._marks = sorted(set(_MARK.findall(written)) - set(self._special))
        spelled = sorted({*self._special, *self._marks}, key=len, reverse=True)
        if spelled:
            self._control = re.compile("|".join(map(re.escape, spelled)))
        self.settings: dict[str, Any] = {
            "tokenizer": tokenizer_hash(tokenizer),
            "chat_template": hashlib.sha256(source.encode()).hexdigest()[:16],
            "max_length": max_length,
            "control_tokens": "text-1",
        }
        if "strftime_now" in source or "date_string" in source:
            self.settings["date"] = DATE

    def conversations(self, batch: Sequence[Sequence[Message]], *, starts: bool = False) -> list[Rendered]:
        """Whole conversations that end in a response. ``starts``: also find the response's first token, which is
        where the conversation's tokens leave those of its prompt. Raises BadData where the template refuses."""
        rendered = self._encode([self._string(m) for m in batch])
        if not starts:
            return [self._cut(tokens, 0, text) for tokens, text in rendered]
        prompts = self._encode([self._string(m[:-1], ask=True) for m in batch])
        return [
            self._cut(tokens, min(common_prefix([tokens, asked]), len(tokens) - 1), text)
            for (tokens, text), (asked, _) in zip(rendered, prompts, strict=True)
        ]

    def prompts(self, batch: Sequence[Sequence[Message]], *, prefill: str = "") -> list[Rendered]:
        """Conversations up to where the assistant is to speak; ``prefill`` is put in its mouth."""
        rendered = self._encode([self._string(m, ask=True) + prefill for m in batch])
        return [self._cut(tokens, len(tokens), text) for tokens, text in rendered]

    def plain(self, texts: Sequence[str]) -> list[Rendered]:
        """Texts without a template, one BOS where the tokenizer has one; control tokens in them are text."""
        rendered = self._encode([self._hide([t])[0] for t in texts])
        return [self._cut(tokens, 0, text) for tokens, text in rendered]

    def show(self, tokens: Tokens) -> list[str]:
        """Each token as the tokenizer spells it."""
        return [str(t) for t in self.tokenizer.convert_ids_to_tokens(tokens)]

    def preview(self, rendered: Rendered) -> dict[str, Any]:
        """For a reader: the text, its tokens, and how these are spelled."""
        return {"text": rendered.text, "tokens": rendered.tokens, "pieces": self.show(rendered.tokens)}

    def _string(self, messages: Sequence[Message], *, ask: bool = False) -> str:
        """The template's text, with control strings of the contents replaced by private-use characters."""
        hidden = self._hide([m.content for m in messages])
        turns = [{"role": m.role, "content": c} for m, c in zip(messages, hidden, strict=True)]
        try:
            return self._apply(turns, ask)
        except _refusals() as error:
            if len(turns) > 1 and turns[0]["role"] == "system" and turns[1]["role"] == "user":
                # many templates have no system turn: its text then opens the first user turn
                merged = {"role": "user", "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}
                try:
                    return self._apply([merged, *turns[2:]], ask)
                except _refusals():
                    pass
            roles = " ".join(t["role"] for t in turns)
            raise BadData(f"the chat template refuses a conversation of turns {roles!r}: {error}") from error

    def _apply(self, turns: list[dict[str, str]], ask: bool) -> str:
        made = self.tokenizer.apply_chat_template(
            turns, chat_template=self._template, tokenize=False, add_generation_prompt=ask, date_string=DATE
        )
        return str(made)

    def _hide(self, contents: Sequence[str]) -> list[str]:
        if self._control is None or not any(self._control.search(c) for c in contents):
            return list(contents)
        if any(_HIDDEN.search(c) for c in contents):
            contents = [_HIDDEN.sub("\ufffd", c) for c in contents]

        def hide(match: re.Match[str]) -> str:
            found = match.group()
            if found in self._special:
                return chr(_FIRST + self._special[found])
            return f"{found[0]} {found[1:]}"

        return [self._control.sub(hide, c) for c in contents]

    def _encode(self, texts: list[str]) -> list[tuple[Tokens, str]]:
        if not texts:
            return []
        encoded = self._ids([t for t in texts if not _HIDDEN.search(t)])
        ordinary = iter(encoded)
        result = []
        for text in texts:
            if _HIDDEN.search(text):
                tokens, text = self._encode_hidden(text)
            else:
                tokens = next(ordinary)
            result.append((self._wrap(tokens), text))
        return result

    def _encode_hidden(self, text: str) -> tuple[Tokens, str]:
        """Pieces between hidden control strings as usual; the strings themselves as ordinary text."""
        names = {i: s for s, i in self._special.items()}
        tokens: Tokens = []
        shown = ""
        for piece in re.split(f"({_HIDDEN.pattern})", text):
            if _HIDDEN.fullmatch(piece):
                piece = names[ord(piece) - _FIRST]
                tokens += self._as_text(piece)
            elif piece:
                tokens += self._ids([piece])[0]
            shown += piece
        return tokens, shown

    def _as_text(self, string: str) -> Tokens:
        """Ids of a special token's characters: cut after the first one, so that it is not seen as a whole."""
        special = set(self.tokenizer.all_special_ids) | {
            i for i, t in self.tokenizer.added_tokens_decoder.items() if t.content in self._special
        }
        special.discard(self.tokenizer.unk_token_id)
        for pieces in ([string[:1], string[1:]], list(string)):
            tokens = [t for ids in self._ids([p for p in pieces if p]) for t in ids]
            if not special & set(tokens):
                return tokens
        return [t for t in tokens if t not in special]

    def _ids(self, texts: list[str]) -> list[Tokens]:
        if not texts:
            return []
        found = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
        return list(found["input_ids"])

    def _wrap(self, tokens: Tokens) -> Tokens:
        """Exactly one BOS where the tokenizer or the template writes one; [CLS] and [SEP] for encoders."""
        bos = self._before[-1] if self._before else self.tokenizer.bos_token_id
        while bos is not None and len(tokens) > 1 and tokens[0] == tokens[1] == bos:
            tokens = tokens[1:]
        if self._before and tokens[: len(self._before)] != self._before:
            tokens = self._before + tokens
        if self._after and tokens[-len(self._after) :] != self._after:
            tokens = tokens + self._after
        return tokens

    def _cut(self, tokens: Tokens, start: int, text: str) -> Rendered:
        limit = self.max_length
        if not tokens:
            raise BadData("a conversation renders to no tokens at all; check the chat template")
        if limit is None or len(tokens) <= limit:
            return Rendered(tokens, start, 0, text)
        first = tokens[:1] if tokens[0] in (self.tokenizer.bos_token_id, self.tokenizer.cls_token_id) else []
        dropped = len(tokens) - limit
        kept = first + tokens[dropped + len(first) :]
        return Rendered(kept, max(start - dropped, len(first)) if start else 0, dropped, text)


_FIRST = 0xF0000  # plane 15 is private use: no tokenizer gives it a meaning, no text should hold it
_HIDDEN = re.compile("[\U000f0000-\U000ffffd]")


def _refusals() -> tuple[type[Exception], ...]:
    from jinja2 import TemplateError

    return (TemplateError, TypeError, ValueError, KeyError)


def _own_template(tokenizer: Any) -> str | None:
    own = getattr(tokenizer, "chat_template", None)
    if isinstance(own, dict):
        own = own.get("default")
    return own or None


def _special_strings(tokenizer: Any) -> dict[str, int]:
    """Special tokens' spellings, numbered: those marked special, and added ones that look like ``<|...|>``."""
    added: Iterable[Any] = getattr(tokenizer, "added_tokens_decoder", {}).values()
    found = {t.content for t in added if t.special or re.fullmatch(r"<\|.*\|>", t.content)}
    found |= set(tokenizer.all_special_tokens)
    return {s: i for i, s in enumerate(sorted(s for s in found if s.strip()))}


def _wrapping(tokenizer: Any) -> tuple[Tokens, Tokens, str]:
    """What the tokenizer itself puts before and after a text: BOS, or [CLS] and [SEP]. A decoder's EOS is left to
    the template."""
    bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    full = list(tokenizer("a")["input_ids"])
    for i in range(len(full) - len(bare) + 1):
        if full[i : i + len(bare)] == bare:
            before, after = full[:i], full[i + len(bare) :]
            encoder = bool(before) and before[-1] == tokenizer.cls_token_id
            return before, after if encoder else [], "tokenizer" if before else "template"
    return [], [], "template"
