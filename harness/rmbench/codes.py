"""What the codes of a winner or label stand for: read from the whole column, asked for where two readings fit.

A column of 1 and 2 says which answer won, counted from 1. One of 0 and 1 may count from 0, or may say whether the first
answer is better: the same file would score 0 or 100, so nothing is guessed.
"""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rmbench.errors import BadData, UsageError, listed
from rmbench.rows import Row

Code = float | str
Reading = Mapping[Code, str]

_WORDS: Reading = {
    **dict.fromkeys(("a", "model_a", "response_a", "first", "a>b", "a>>b", "[[a]]", "[[a>b]]", "[[a>>b]]"), "a"),
    **dict.fromkeys(("b", "model_b", "response_b", "second", "b>a", "b>>a", "[[b]]", "[[b>a]]", "[[b>>a]]"), "b"),
    **dict.fromkeys(("tie", "both", "neither", "equal", "a=b", "[[c]]", "[[a=b]]", "tie (inconsistent)"), "tie"),
    **dict.fromkeys(("tie (bothbad)", "bothbad", "both_bad", "both bad", "both_good", "both good"), "tie"),
}
_COUNTED: Reading = {"response_1": "a", "model_1": "a", "response_2": "b", "model_2": "b"}
_NUMBERS: tuple[Reading, ...] = (
    {1.0: "a", 2.0: "b", 0.0: "tie", 1.5: "tie"},
    {0.0: "a", 1.0: "b", 2.0: "tie", 0.5: "tie"},
    {1.0: "a", 0.0: "b", 0.5: "tie"},
)
"""In published sets: the answers counted from 1, from 0, or whether the first is better."""
_TRUTHS: tuple[Reading, ...] = ({"false": "a", "true": "b"}, {"true": "a", "false": "b"})
_LABELS: Reading = {
    **dict.fromkeys(("true", "yes", "safe", "good", "keep", "chosen"), "good"),
    **dict.fromkeys(("false", "no", "unsafe", "bad", "discard", "rejected"), "bad"),
    1.0: "good",
    0.0: "bad",
}
_YES: tuple[Code, ...] = (1.0, "true", "yes")
_NO: tuple[Code, ...] = (0.0, "false", "no")
_OF_HARM = re.compile(r"unsafe|toxic|harm|flagged|bad|reject|spam|jailbr", re.IGNORECASE)

SIDES = {"winner": ("a", "b", "tie"), "label": ("good", "bad")}
"""What a code of either column can stand for."""
_OF_YES_AND_NO = (("bad", "good"), ("good", "bad"))


class Column(NamedTuple):
    """A column of codes: whether a ``winner`` or a ``label``, its name, and how often each code occurs."""

    what: str
    name: str
    table: Sequence[Row]
    counts: Counter[Code]


def code(value: Any) -> Code | None:
    """A cell as it is compared: numbers as numbers, words in lower case; None where there is nothing."""
    if value is None or isinstance(value, bool):
        return value if value is None else str(value).lower()
    text = re.sub(r"\s*([=>]+)\s*", r"\1", str(value).strip().lower())
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return text or None
    return None if math.isnan(number) else number


def asked(what: str, text: str) -> dict[str, str]:
    """``1=a,2=b,0=tie`` (or ``0=good,1=bad``, or ``<0=a,>0=b``) as code -> what it stands for. UsageError otherwise."""
    sides = SIDES[what]
    split = [part.rpartition("=") for part in text.split(",")]
    parts = [(named.strip(), side.strip().lower()) for named, _, side in split]
    for named, side in parts:
        if not named or side not in sides or (named[0] in "<>" and not isinstance(code(named[1:]), float)):
            raise UsageError(
                f"--columns {what}: {f'{named}={side}'!r} does not say what a code stands for: "
                f"{', '.join(sides[:-1])} or {sides[-1]}, as in {what}=column:1={sides[0]},2={sides[1]}"
            )
    return dict(parts)


def meanings(
    table: Sequence[Row], what: str, name: str, answers: Sequence[str], said: Mapping[str, str]
) -> tuple[Callable[[Row], str], str]:
    """What a row's code stands for (one of ``SIDES``), and the mapping with its counts, for the notes.

    ``answers``: the columns of a winner's two answers. ``said``: what ``asked`` gave, or nothing. BadData, with the
    place of the first such row, where a code is not known or two readings fit.
    """
    column = Column(what, name, table, Counter(c for row in table if (c := code(row.get(name))) is not None))
    meaning = _said(said) if said else _of_labels(column) if what == "label" else _of_winners(column, answers)

    def means(row: Row) -> str:
        found = None if (own := code(row.get(name))) is None else meaning(own)
        if found is None:
            raise _unknown(row, column)
        return found

    if not column.counts:
        raise _unknown(table[0], column)
    for row in table:
        if code(row.get(name)) is not None:
            means(row)
    return means, _told(column, meaning, dict(zip("ab", answers, strict=False)))


def are_numbers(table: Sequence[Row], name: str) -> bool:
    """Whether labels are numbers and not all 0 or 1."""
    values = [code(row.get(name)) for row in table]
    return all(isinstance(v, float) and math.isfinite(v) for v in values) and not set(values) <= {0.0, 1.0}


def _said(said: Mapping[str, str]) -> Callable[[Code], str | None]:
    exact = {code(named): side for named, side in said.items() if named[0] not in "<>"}
    ends = [(named[0], float(named[1:]), side) for named, side in said.items() if named[0] in "<>"]

    def meaning(own: Code) -> str | None:
        if own in exact or not isinstance(own, float):
            return exact.get(own)
        return next((side for way, end, side in ends if (own < end if way == "<" else own > end)), None)

    return meaning


def _of_labels(column: Column) -> Callable[[Code], str | None]:
    # In a column called toxic, 1 is likely the bad label, and nothing says so for sure.
    plain = [c for c in column.counts if c in _YES + _NO]
    if plain and _OF_HARM.search(column.name):
        raise _ambiguous(column, [{c: yes if c in _YES else no for c in plain} for yes, no in _OF_YES_AND_NO])
    return _LABELS.get


def _of_winners(column: Column, answers: Sequence[str]) -> Callable[[Code], str | None]:
    answers = [name.strip().lower() for name in answers]
    known = {**_WORDS, **({} if answers[0].endswith("0") else _COUNTED), answers[0]: "a", answers[1]: "b"}
    numbers = {c for c in column.counts if isinstance(c, float)}
    if numbers:
        if all(1 <= n <= 2 for n in numbers) and not numbers <= {1.0, 1.5, 2.0}:
            # AlpacaEval: 1 the first answer, 2 the second, and how sure between.
            return lambda c: known.get(c) if isinstance(c, str) else ("a", "tie", "b")[(c > 1.5) + (c >= 1.5)]
        known |= _numbered(column, numbers, answers)
    if {"true", "false"} & set(column.counts):
        raise _ambiguous(column, _TRUTHS)
    return known.get


def _numbered(column: Column, numbers: set[float], answers: Sequence[str]) -> Reading:
    """What numbers stand for, where the answers' names or the numbers themselves leave one reading."""
    ends = [re.search(r"(\d+)$", name) for name in answers]
    if ends[0] and ends[1]:
        named: dict[Code, str] = {float(ends[0][1]): "a", float(ends[1][1]): "b"}
        # PandaLM's 0 beside answers 1 and 2 is a tie; nothing like it is known of answers 0 and 1.
        if _fits(reading := named if 0.0 in named else {**named, 0.0: "tie", 1.5: "tie"}, numbers):
            return reading
    if min(numbers) < 0:
        raise _ambiguous(
            column, [{n: "tie" if n == 0 else one if n < 0 else other for n in numbers} for one, other in ("ab", "ba")]
        )
    fit: list[Reading] = [{n: reading[n] for n in numbers} for reading in _NUMBERS if _fits(reading, numbers)]
    if any(reading != fit[0] for reading in fit):
        raise _ambiguous(column, fit)
    return fit[0] if fit else {}


def _fits(reading: Reading, numbers: set[float]) -> bool:
    """A tie is believed only beside both sides, else 1 and 2 could be the second answer and a tie."""
    used = {reading.get(n) for n in numbers}
    return None not in used and ("tie" not in used or {"a", "b"} <= used)


def _ambiguous(column: Column, readings: Iterable[Reading]) -> BadData:
    first = next(row for row in column.table if code(row.get(column.name)) is not None)
    said = [",".join(f"{_shown(c)}={side}" for c, side in _sorted(reading.items())) for reading in readings]
    ways = dict.fromkeys(f"--columns {shlex.quote(f'{column.what}={column.name}:{mapping}')}" for mapping in said)
    return first.fail(
        f"{column.name!r} is {first.get(column.name)!r}, and what that means can be read in two ways. It must be "
        f"{_wanted(column)}; the column holds {_seen(column)}. Say which is meant: {'; or '.join(ways)}"
    )


def _unknown(row: Row, column: Column) -> BadData:
    form = ",".join(f"{n}={side}" for n, side in zip("120", SIDES[column.what], strict=False))
    return row.fail(
        f"{column.name!r} is {row.get(column.name)!r}; it must be {_wanted(column)}. The column holds {_seen(column)}; "
        f"say what its codes stand for, as in --columns {shlex.quote(f'{column.what}={column.name}:{form}')}"
    )


def _wanted(column: Column) -> str:
    if column.what == "winner":
        return "a, b or tie (or 1, 2; model_a, model_b)"
    return "0 or 1 (or true, false, safe, unsafe, good, bad)"


def _seen(column: Column) -> str:
    return listed([f"{_shown(c)} ({n:,})" for c, n in _sorted(column.counts.items())], 12) or "nothing"


def _told(column: Column, meaning: Callable[[Code], str | None], answers: Mapping[str, str]) -> str:
    """``winner: 1 -> response_a (373), 2 -> response_b (371)``; of many numbers only where they lead."""
    if len(column.counts) <= 12:
        said = [f"{_shown(c)} -> {_answer(meaning(c), answers)} ({n:,})" for c, n in _sorted(column.counts.items())]
        return f"{column.name}: {', '.join(said)}"
    sums = Counter[str]()
    for c, n in column.counts.items():
        sums[_answer(meaning(c), answers)] += n
    return (
        f"{column.name}: {len(column.counts):,} values -> {', '.join(f'{s} ({n:,})' for s, n in sorted(sums.items()))}"
    )


def _answer(side: str | None, answers: Mapping[str, str]) -> str:
    return answers.get(str(side), str(side))


def _sorted(found: Iterable[tuple[Code, Any]]) -> list[tuple[Code, Any]]:
    return sorted(found, key=lambda pair: (isinstance(pair[0], str), pair[0]))


def _shown(own: Code) -> str:
    return f"{own:.12g}" if isinstance(own, float) else own
