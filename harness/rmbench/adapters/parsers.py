"""From a judge's own words to a verdict: small named parsers, each with a version that a run records.

>>> parse(PARSERS["bracket-letter"], "Both are close. [[B]]", ("A", "B"))
Verdict(word='B', at=18, error=None)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from rmbench.errors import UnknownName

Words = Sequence[str] | None
"""The labels that a verdict can be, or None where it is a number."""

_THOUGHTS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
)
_NUMBER = r"-?\d+(?:\.\d+)?"


class Verdict(NamedTuple):
    """The label or number that the judge decided on, or why there is none."""

    word: str | None = None
    at: int = -1
    """Character offset of the word in the text; -1 where it cannot be told."""
    error: str | None = None


class Found(NamedTuple):
    word: str
    at: int


class Parser(NamedTuple):
    """``find`` gives every verdict in the text; ``rule`` says which one counts."""

    name: str
    version: int
    find: Callable[[str, Words], list[Found]]
    rule: Literal["last", "one", "first-label"]
    """The last in the text; the only one (two different ones are unparsed); the label that is listed first."""
    about: str
    marker: Callable[[Words], str] | None = None
    """Pattern of a verdict as it would stand in a response that tries to vote."""
    direct: bool = False
    """The answer begins with the verdict, so that its probabilities can be read from the first token."""
    opens: bool = False
    """The verdict stands before the reasons, so that an answer that is cut off still holds it."""

    @property
    def id(self) -> str:
        return f"{self.name}@{self.version}"


def parse(parser: Parser, text: str, words: Words) -> Verdict:
    """The verdict in a judge's answer (thinking already taken off)."""
    found = parser.find(text, words)
    if not found:
        return Verdict(error=f"unparsed: no verdict that {parser.name} knows")
    if parser.rule == "one" and len({f.word for f in found}) > 1:
        named = ", ".join(sorted({f.word for f in found}))
        return Verdict(error=f"unparsed: several verdicts ({named})")
    if parser.rule == "first-label" and words is not None:
        found.sort(key=lambda f: (-words.index(f.word), f.at))
    return Verdict(found[-1].word, found[-1].at)


def split_thinking(text: str) -> tuple[str | None, str]:
    """(thinking, answer). Templates often open the thinking in the prompt, so a closing mark alone counts; thinking
    that never closes leaves an empty answer."""
    for begin, end in _THOUGHTS:
        before, mark, after = text.rpartition(end)
        if mark:
            return before.strip().removeprefix(begin).strip(), after.strip()
        if text.lstrip().startswith(begin):
            return text.lstrip().removeprefix(begin).strip(), ""
    return None, text.strip()


def known(name: str) -> Parser:
    """The parser of that name; UnknownName with the nearest ones."""
    if name not in PARSERS:
        raise UnknownName("parser", name, PARSERS)
    return PARSERS[name]


def _any(words: Words) -> str:
    if words is None:
        return _NUMBER
    return "|".join(re.escape(w) for w in sorted(words, key=len, reverse=True))


def _around(before: str, after: str) -> dict[str, Any]:
    """``find`` and ``marker`` of a parser whose verdict stands between two fixed patterns."""

    def pattern(words: Words) -> str:
        return f"{before}\\s*({_any(words)})\\s*{after}"

    def find(text: str, words: Words) -> list[Found]:
        return [Found(m[1], m.start(1)) for m in re.finditer(pattern(words), text)]

    return {"find": find, "marker": pattern}


def _tag(name: str) -> dict[str, Any]:
    return _around(rf"<{name}>\s*(?:\[\[)?", rf"(?:\]\])?\s*</{name}>")


def _compare(text: str, words: Words) -> list[Found]:
    """``[[A>>B]]``, ``[[B>A]]``, ``[[A=B]]``; the third word is the tie."""
    found = []
    for m in re.finditer(_compare_marker(words), text):
        left, sign, right = m.groups()
        word = "C" if "=" in sign else left if ">" in sign else right
        if left != right and words is not None and word in words:
            found.append(Found(word, m.start(1)))
    return found


def _compare_marker(words: Words) -> str:
    return r"\[\[\s*([AB])\s*(>>|>|=|<<|<)\s*([AB])\s*\]\]"


def _opening(words: Words) -> str:
    return rf"(?i:verdict)\W{{1,6}}(?:(?i:answer)\W+)?({_any(words)})\b"


def _verdict_first(text: str, words: Words) -> list[Found]:
    m = re.match(rf"\W*{_opening(words)}", text[:40])
    return [Found(m[1], m.start(1))] if m else []


def _verdict_line(text: str, words: Words) -> list[Found]:
    return [Found(m[1], m.start(1)) for m in re.finditer(_opening(words), text)]


def _result(text: str, words: Words) -> list[Found]:
    m = re.search(rf"\[RESULT\]\s*\(?({_any(words)})\)?[\s.*]*$", text[-200:])
    return [Found(m[1], max(0, len(text) - 200) + m.start(1))] if m else []


def _last_line(text: str) -> tuple[str, int]:
    """Its text and offset; an over-long line is prose, not a verdict, and is given as empty."""
    line = text.rstrip().rpartition("\n")[2]
    return (line, text.rstrip().rfind("\n") + 1) if len(line) <= 80 else ("", 0)


def _letter(text: str, words: Words) -> list[Found]:
    line, start = _last_line(text)
    m = re.match(rf"\W*(?i:(?:my |the )?(?:final )?(?:answer|verdict|choice)(?: is)?\W+)?({_any(words)})\W*$", line)
    return [Found(m[1], start + m.start(1))] if m else []


def _first_word(text: str, words: Words) -> list[Found]:
    """The first word of the answer and of its last line, where these are among the labels."""
    if words is None:
        return []
    lower = {w.lower(): w for w in words}
    found = []
    line, start = _last_line(text)
    for part, offset in ((text[:80], 0), (line, start)):
        m = re.match(rf"\W*(?i:answer\W+)?((?i:{_any(words)}))\b", part)
        if m:
            found.append(Found(lower[m[1].lower()], offset + m.start(1)))
    return found


def _trailing(text: str, words: Words) -> list[Found]:
    """A number at the very end; of ``8/10`` the 8."""
    tail = text[-80:]
    m = re.search(rf"(?<![\d./-])({_any(words)})(?:\s*/\s*\d+)?\W*$", tail)
    return [Found(m[1], len(text) - len(tail) + m.start(1))] if m else []


_JSON_KEYS = ("verdict", "winner", "choice", "answer", "rating", "score")


def _objects(text: str) -> Iterator[tuple[dict[str, Any], int]]:
    """JSON objects in the text from the back; the last 50 openings are tried, so that junk cannot cost hours."""
    decoder, at = json.JSONDecoder(), len(text)
    for _ in range(50):
        at = text.rfind("{", 0, at)
        if at < 0:
            return
        try:
            value, _end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            continue
        yield value, at


def _json(text: str, words: Words) -> list[Found]:
    for value, _at in _objects(text):
        for key in _JSON_KEYS:
            if isinstance(value.get(key), str | int | float) and not isinstance(value[key], bool):
                word = str(value[key]).strip()
                known_word = re.fullmatch(_NUMBER, word) if words is None else word in words
                # Where in the text the word stands is left open: the same letter may stand in a key before it.
                return [Found(word, -1)] if known_word else []
    return []


_BRACKET = _around(r"\[\[", r"\]\]")

PARSERS: dict[str, Parser] = {
    p.name: p
    for p in (
        Parser("bracket-letter", 1, rule="last", about="[[A]]; the last one counts", **_BRACKET),
        Parser("bracket-letter-strict", 1, rule="one", about="[[A]]; two different ones are unparsed", **_BRACKET),
        Parser(
            "bracket-letter-a-first",
            1,
            rule="first-label",
            about="[[A]] anywhere wins over [[B]], as some published scores were made",
            **_BRACKET,
        ),
        Parser("bracket-rating", 1, rule="last", about="[[7]]; the last one counts", **_BRACKET),
        Parser(
            "bracket-compare",
            1,
            _compare,
            "last",
            "[[A>>B]], [[A>B]], [[A=B]]; the last one counts, its strength does not",
            marker=_compare_marker,
        ),
        Parser("verdict-tag", 1, rule="last", about="<verdict>A</verdict>; the last one counts", **_tag("verdict")),
        Parser(
            "answer-tag", 1, rule="one", about="<answer>A</answer>; two different ones are unparsed", **_tag("answer")
        ),
        Parser(
            "result-tag",
            1,
            _result,
            "last",
            "[RESULT] A at the very end",
            marker=lambda words: rf"\[RESULT\]\s*\(?(?:{_any(words)})",
        ),
        Parser(
            "json",
            1,
            _json,
            "last",
            f"the last JSON object, key {', '.join(_JSON_KEYS)}",
            marker=lambda words: rf'"(?:{"|".join(_JSON_KEYS)})"\s*:',
        ),
        Parser("verdict-line", 1, _verdict_line, "last", "Verdict: A; the last one counts", marker=_opening),
        Parser(
            "verdict-first",
            1,
            _verdict_first,
            "one",
            "the answer opens with Verdict: A; what follows may be cut off",
            marker=_opening,
            opens=True,
        ),
        Parser("letter", 1, _letter, "last", "the last line is the label", direct=True),
        Parser("yes-no", 1, _first_word, "one", "first word of the answer or of its last line", direct=True),
        Parser("trailing-number", 1, _trailing, "last", "a number at the very end", direct=True),
    )
}
