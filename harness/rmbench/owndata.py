"""A team's own preference data, without a suite file: columns are recognised, shown, and can be overridden.

Four forms, by their columns (any case), in this order::

    chosen, rejected                          a pair; a prompt beside it, or both as whole conversations
    prompt, response_a, response_b, winner    a pair; winner is a, b or tie
    prompt, responses, grades                 a ranking; higher grades are better (ranks: lower)
    prompt, response, label                   a label 0 or 1; other numbers rank the responses of one prompt

Beside any of them: ``reference`` (a right answer, for judge prompts that show one) and ``unsafe`` (true where the
prompt asks for harm, which Llama 2's combination of heads goes by).

A conversation is a string, a list of ``{role, content}``, or a ``\\n\\nHuman: ...\\n\\nAssistant: ...`` dialogue.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from rmbench import rows
from rmbench.core import Item, Message, Rules, Suite
from rmbench.errors import BadData, UnknownName, UsageError
from rmbench.rows import Row

COLUMNS: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "instruction", "question", "messages", "conversation"),
    "system": ("system",),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "response_a": ("response_a", "response_1", "response1", "answer_a", "output_1"),
    "response_b": ("response_b", "response_2", "response2", "answer_b", "output_2"),
    "winner": ("winner", "preference", "label"),
    "responses": ("responses",),
    "grades": ("grades", "scores"),
    "ranks": ("ranks",),
    "response": ("response", "completion", "answer"),
    "label": ("label", "safe", "score"),
    "id": ("id",),
    "subset": ("subset", "category"),
    "strength": ("strength",),
    "reference": ("reference", "reference_answer"),
    "unsafe": ("unsafe", "unsafe_prompt"),
}
"""What a column can stand for (``--columns chosen=good``) -> the names it is recognised by, the first found wins."""

_KINDS = {
    "pairs": ("chosen", "rejected"),
    "votes": ("prompt", "response_a", "response_b", "winner"),
    "rankings": ("prompt", "responses", "grades"),
    "ranks": ("prompt", "responses", "ranks"),
    "labels": ("prompt", "response", "label"),
}
_BESIDE = ("prompt", "system", "id", "subset", "strength", "reference", "unsafe")
_FIRST = ("a", "1", "model_a", "response_a", "response_1", "first", "a>b", "[[a]]")
_SECOND = ("b", "2", "model_b", "response_b", "response_2", "second", "b>a", "[[b]]")
_TIES = ("tie", "both", "neither", "equal", "a=b", "tie (bothbad)", "tie (inconsistent)", "[[c]]")
_LABELS = {
    **dict.fromkeys(("1", "true", "yes", "safe", "good", "keep", "chosen"), 1.0),
    **dict.fromkeys(("0", "false", "no", "unsafe", "bad", "discard", "rejected"), 0.0),
}


class Recognised(NamedTuple):
    """How a table's columns are read."""

    kind: str
    columns: dict[str, str]
    """What it stands for -> its name in the table."""
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        named = ", ".join(what if what == name else f"{what}={name}" for what, name in self.columns.items())
        return f"read as {self.kind}: {named}" + (f"; not used: {', '.join(self.ignored)}" if self.ignored else "")


def load(
    ref: str, *, columns: Mapping[str, str] | None, subset_column: str | None
) -> tuple[Suite, Iterator[tuple[str, Item]]]:
    """The card (its ``notes`` say how the columns were read) and each item with the place of its row.

    ``ref`` is a data file or ``hf:org/name[:config]:split``. BadData names file and line.
    """
    table = list(rows.read_hub(ref) if ref.startswith("hf:") else rows.read(Path(ref)))
    if not table:
        raise BadData(f"{ref} has no rows")
    overrides = dict(columns or {}) | ({"subset": subset_column} if subset_column else {})
    read = recognise(list(table[0]), overrides)
    stem = Path(ref.removeprefix("hf:")).name if not ref.startswith("hf:") else ref.removeprefix("hf:")
    name = re.sub(r"[^\w.-]+", "-", re.sub(r"\.(jsonl(\.gz)?|json|csv|parquet)$", "", stem)).strip("-")
    notes = [str(read)]
    if read.kind == "labels" and _are_numbers(table, read.columns["label"]):
        made = _grouped(table, read, name)
        notes.append("labels are not 0 and 1: the responses of one prompt are ranked by them")
    else:
        made = [(row.where, to_item(row, read, f"{name}-{n}")) for n, row in enumerate(table)]
    made, shared = _clustered(made)
    if shared:
        notes.append(f"{shared} items share a prompt with another: standard errors cluster by prompt")
    if equal := sum(len(set(item.responses)) < len(item.responses) for _, item in made):
        notes.append(f"{equal} items hold equal responses")
    card = Suite(
        name=name,
        version="0",
        about=f"Your own data: {Path(ref).name}" if not ref.startswith("hf:") else f"Your own data: {ref}",
        categories={},
        rules=Rules(
            name="own-data-1",
            about="Every subset is a category; overall is the plain mean of the subsets. Equal scores count half; "
            "items graded as ties are left out and counted.",
        ),
        source=ref if ref.startswith("hf:") else f"file:{Path(ref).name}",
        licence="your own",
        citation="your own",
        notes=tuple(notes),
    )
    return card, iter(made)


def recognise(columns: Sequence[str], overrides: Mapping[str, str] | None = None) -> Recognised:
    """Which column stands for what. ``overrides`` (what -> column) go first and decide the form where they can.

    UnknownName for an override of no meaning or no such column; UsageError where no form fits.
    """
    overrides = dict(overrides or {})
    for what, name in overrides.items():
        if what not in COLUMNS:
            raise UnknownName("meaning of a column", what, COLUMNS)
        if name not in columns:
            raise UnknownName("column", name, columns)
    lower = {name.lower(): name for name in reversed(columns)}
    taken = set(overrides.values())

    def find(what: str) -> str | None:
        names = (lower.get(alias) for alias in COLUMNS[what])
        return overrides.get(what) or next((n for n in names if n is not None and n not in taken), None)

    # An override of a form's own column asks for that form.
    asked = [k for k, needs in _KINDS.items() if any(o in needs and o not in _BESIDE for o in overrides)]
    for kind in [*asked, *(k for k in _KINDS if k not in asked)]:
        found = {what: find(what) for what in _KINDS[kind]}
        if all(found.values()):
            found |= {what: find(what) for what in _BESIDE if what not in found}
            used = {what: name for what, name in found.items() if name is not None}
            return Recognised(kind, used, tuple(c for c in columns if c not in used.values()))
    forms = "; or ".join(", ".join(needs) for needs in _KINDS.values())
    raise UsageError(
        f"the columns {', '.join(columns)} are of no known form; needed are {forms}. "
        f"Say which is which with --columns, as in --columns prompt=query,chosen=good,rejected=bad"
    )


def to_item(row: Row, read: Recognised, item_id: str) -> Item:
    """One row as an item; ``item_id`` where the table has no id column. BadData names file, line and column."""
    name = read.columns
    prompt = _prompt(row, read) if "prompt" in name else ()
    turns: tuple[tuple[Message, ...], ...] = ()
    responses: tuple[str, ...]
    grades: tuple[float, ...]
    if read.kind in ("pairs", "votes"):
        pair = ("chosen", "rejected") if read.kind == "pairs" else ("response_a", "response_b")
        talks = [_talk(row, name[side], prompt) for side in pair]
        prompt, turns = _shared(row, talks)
        responses = tuple(talk[-1].content for talk in talks)
        grades = (1.0, 0.0) if read.kind == "pairs" else _winner(row, name["winner"])
    elif read.kind == "labels":
        responses = (row.text(name["response"]),)
        grades = (_label(row, name["label"]),)
    else:
        responses, numbers = (
            _responses(row, name["responses"]),
            _numbers(row, name["grades" if read.kind == "rankings" else "ranks"]),
        )
        if len(responses) != len(numbers):
            raise row.fail(f"{len(responses)} responses and {len(numbers)} {read.kind}; one each")
        grades = tuple(n if read.kind == "rankings" else -n for n in numbers)
        if len(grades) == 1:
            raise row.fail("a ranking needs two responses or more")
    if "system" in name and row.get(name["system"]):
        prompt = (Message(role="system", content=row.text(name["system"])), *prompt)
    return Item(
        id=str(row[name["id"]]) if _given(row, name, "id") else item_id,
        subset=_subset(row, name),
        prompt=prompt,
        turns=turns,
        responses=responses,
        grades=grades,
        strength=row.number(name["strength"]) if _given(row, name, "strength") else None,
        meta=_meta(row, name),
    )


def _given(row: Row, name: Mapping[str, str], what: str) -> bool:
    """Whether the row has a value in the column for ``what``. pandas writes its index as a column without a name."""
    return what in name and row.get(name[what]) not in (None, "")


def _meta(row: Row, name: Mapping[str, str]) -> dict[str, Any]:
    """What judges and heads look up beside the texts, where the row has it."""
    meta: dict[str, Any] = {}
    if _given(row, name, "reference"):
        meta["reference"] = row.text(name["reference"])
    if _given(row, name, "unsafe"):
        said = _plain(row[name["unsafe"]])
        if said not in ("0", "1", "true", "false", "yes", "no"):
            raise row.fail(f"{name['unsafe']!r} is {row[name['unsafe']]!r}; it must be true or false")
        meta["unsafe"] = said in ("1", "true", "yes")
    return meta


def _subset(row: Row, name: Mapping[str, str]) -> str:
    if "subset" not in name:
        return "all"
    value = row.get(name["subset"])
    if not isinstance(value, str | int) or value == "":
        raise row.fail(f"{name['subset']!r} is {value!r}; the subset must be a text")
    return str(value)


def _prompt(row: Row, read: Recognised) -> tuple[Message, ...]:
    column = read.columns["prompt"]
    prompt = rows.messages(_conversation(row.get(column)), row, column)
    if prompt[-1].role == "assistant":
        raise row.fail(f"{column!r} ends with an assistant turn; a prompt ends with the user's")
    return prompt


def _talk(row: Row, column: str, prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    """The whole conversation of one side: a text after the prompt, an assistant's message, or all of it."""
    value = _conversation(row.get(column))
    if isinstance(value, str) and not re.match(r"\s*Human:.*\n\nAssistant:", value, re.DOTALL):
        if not prompt:
            raise row.fail(f"{column!r} is a text and there is no prompt; name its column with --columns prompt=...")
        return (*prompt, Message(role="assistant", content=row.text(column)))
    talk = rows.messages(value, row, column)
    if talk[-1].role != "assistant":
        raise row.fail(f"{column!r} does not end with the assistant's turn")
    if len(talk) == 1:
        talk = (*prompt, *talk)
    if len(talk) == 1:
        raise row.fail(f"{column!r} has no turn before the answer and there is no prompt")
    if prompt and talk[: len(prompt)] != prompt:
        raise row.fail(f"{column!r} does not begin with the prompt in its own column")
    if not talk[-1].content.strip():
        raise row.fail(f"the last turn of {column!r} is empty; leave the row out or fill it")
    return talk


def _shared(
    row: Row, talks: Sequence[tuple[Message, ...]]
) -> tuple[tuple[Message, ...], tuple[tuple[Message, ...], ...]]:
    """What the two conversations share, and the turns between that and the answers, where assistants differ."""
    first, second = (talk[:-1] for talk in talks)
    if first == second:
        return first, ()
    if [m for m in first if m.role != "assistant"] != [m for m in second if m.role != "assistant"]:
        raise row.fail("the two conversations differ before the last answer in what the user says; they are no pair")
    same = next(i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
    return first[:same], (first[same:], second[same:])


def _winner(row: Row, column: str) -> tuple[float, float]:
    value = _plain(row.get(column))
    if value in _FIRST:
        return 1.0, 0.0
    if value in _SECOND:
        return 0.0, 1.0
    if value in _TIES:
        return 1.0, 1.0
    why = " (0 means the first side in some sets and the second or a tie in others)" if value in ("0", "false") else ""
    raise row.fail(f"{column!r} is {row.get(column)!r}{why}; it must be a, b or tie (or 1, 2; model_a, model_b)")


def _label(row: Row, column: str) -> float:
    if not _is_label(row, column):
        raise row.fail(
            f"{column!r} is {row.get(column)!r}; it must be 0 or 1 (or true, false, safe, unsafe, good, bad)"
        )
    return _LABELS[_plain(row.get(column))]


def _is_label(row: Row, column: str) -> bool:
    return _plain(row.get(column)) in _LABELS


def _are_numbers(table: Sequence[Row], column: str) -> bool:
    """Whether the labels are numbers and not all 0 or 1."""
    try:
        values = [float(row[column]) for row in table]
    except (KeyError, TypeError, ValueError):
        return False
    return all(map(math.isfinite, values)) and not set(values) <= {0.0, 1.0}


def _plain(value: Any) -> str:
    """In lower case, and a number as it is shortest: a CSV may hold 1.0 for 1."""
    text = str(value).strip().lower()
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def _responses(row: Row, column: str) -> tuple[str, ...]:
    value = _decoded(row.get(column))
    if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
        raise row.fail(f"{column!r} must be a list of texts that are not empty")
    return tuple(value)


def _numbers(row: Row, column: str) -> tuple[float, ...]:
    value = _decoded(row.get(column))
    if not isinstance(value, list) or any(isinstance(n, bool) or not isinstance(n, int | float) for n in value):
        raise row.fail(f"{column!r} must be a list of numbers")
    return tuple(float(n) for n in value)


def _conversation(value: Any) -> Any:
    """A text, or the messages that it holds as JSON; a text such as ``[1, 2]`` is an answer like any other."""
    found = _decoded(value)
    if isinstance(found, list) and all(isinstance(m, dict) and ("role" in m or "from" in m) for m in found):
        return found or value
    return value


def _decoded(value: Any) -> Any:
    """A list or the list that a CSV cell holds as JSON."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            decoded = msgspec.json.decode(value)
        except msgspec.DecodeError:
            return value
        return decoded if isinstance(decoded, list) else value
    return value


def _grouped(table: Sequence[Row], read: Recognised, name: str) -> list[tuple[str, Item]]:
    """Rows of one prompt and subset as one ranking by their number."""
    column = read.columns["label"]
    groups: dict[tuple[tuple[Message, ...], str], list[Row]] = {}
    for row in table:
        groups.setdefault((_prompt(row, read), _subset(row, read.columns)), []).append(row)
    made = []
    for n, ((prompt, subset), own) in enumerate(groups.items()):
        if len(own) == 1:
            raise own[0].fail(
                f"{column!r} is {own[0].get(column)!r}, no label 0 or 1, and its prompt has no other response to be "
                "ranked with"
            )
        item = Item(
            id=f"{name}-{n}",
            subset=subset,
            prompt=prompt,
            responses=tuple(row.text(read.columns["response"]) for row in own),
            grades=tuple(row.number(column) for row in own),
        )
        made.append((own[0].where, item))
    return made


def _clustered(made: list[tuple[str, Item]]) -> tuple[list[tuple[str, Item]], int]:
    """Items that share their prompt, named as clusters, and how many they are."""
    times = Counter(item.prompt for _, item in made)
    names: dict[tuple[Message, ...], str] = {}
    clustered = [
        (where, item)
        if times[item.prompt] == 1
        else (where, msgspec.structs.replace(item, cluster=names.setdefault(item.prompt, f"prompt-{len(names)}")))
        for where, item in made
    ]
    return clustered, sum(n for n in times.values() if n > 1)
