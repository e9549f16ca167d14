"""A team's own preference data, without a suite file: columns are recognised, shown, and can be overridden.

Four forms, by their columns (any case), in this order::

    chosen, rejected                   a pair; a prompt beside it, or both as whole conversations (lists: a ranking)
    response_a, response_b, winner     a pair; winner is a, b or tie; a prompt beside it, or whole conversations
    prompt, responses, grades          a ranking; higher grades are better (ranks: lower)
    prompt, response, label            a label 0 or 1; other numbers rank the responses of one prompt

Beside any of them, all optional: ``id``, ``subset``, ``strength``; ``reference`` (a right answer, for judge prompts
that show one); ``unsafe`` (true where the prompt asks for harm, which Llama 2's combination of heads goes by); and
what belongs to the prompt: ``system``, ``history`` (turns before it), ``input`` (follows an Alpaca ``instruction``),
``turn`` (which answer of whole conversations a vote is on: MT-Bench has both turns beside every vote).
``--columns what=`` leaves a column out.

A conversation is a string, a list of ``{role, content}`` (in CSV as JSON), or a dialogue of the form
``\\n\\nHuman: ...\\n\\nAssistant: ...``.

What the codes of a winner or label mean is read from the whole column and noted with its counts. Where two readings
fit (0 and 1: is 0 the first answer, or is 1?) it is asked for: ``--columns winner=preference:0=a,1=b``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from rmbench import codes, rows
from rmbench.core import Item, Message, Rules, Suite
from rmbench.errors import BadData, UnknownName, UsageError, listed
from rmbench.rows import Row

_SIDES = (
    ("response_a", "response_b"),
    ("response_0", "response_1"),
    ("response_1", "response_2"),
    ("response1", "response2"),
    ("answer_a", "answer_b"),
    ("output_1", "output_2"),
    ("conversation_a", "conversation_b"),
)
"""Names of the two answers of a vote, which go together."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "instruction", "question", "messages", "conversation"),
    "system": ("system", "system_prompt", "system_message"),
    "history": ("history",),
    "input": ("input",),
    "turn": ("turn",),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "response_a": tuple(first for first, _ in _SIDES),
    "response_b": tuple(second for _, second in _SIDES),
    "winner": ("winner", "preference", "better_response_id", "label"),
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
    "votes": ("response_a", "response_b", "winner"),
    "rankings": ("prompt", "responses", "grades"),
    "ranks": ("prompt", "responses", "ranks"),
    "labels": ("prompt", "response", "label"),
}
_BESIDE = ("prompt", "system", "history", "input", "turn", "id", "subset", "strength", "reference", "unsafe")
_TEXTS = ("prompt", "system", "history", "input", "chosen", "rejected", "response_a", "response_b", "response")
_NO_TEXT = ("None", "nan", "NaN", "<NA>", "NaT", "[object Object]")
"""What other programs write for a value that is missing, or has no text."""


class Recognised(NamedTuple):
    """How a table's columns are read."""

    kind: str
    columns: dict[str, str]
    """What it stands for -> its name in the table."""
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        named = ", ".join(what if what == name else f"{what}={name}" for what, name in self.columns.items())
        unused = listed(name or "(no name)" for name in self.ignored)
        return f"read as {self.kind}: {named}" + (f"; not used: {unused}" if unused else "")


def load(
    ref: str, *, columns: Mapping[str, str] | None, subset_column: str | None
) -> tuple[Suite, Iterator[tuple[str, Item]]]:
    """The card (its ``notes`` say how the columns were read) and each item with the place of its row.

    ``ref`` is a data file or ``hf:org/name[:config]:split``. BadData names file and line.
    """
    on_hub = ref.startswith("hf:")
    table = list(rows.read_hub(ref) if on_hub else rows.read(Path(ref)))
    if not table:
        raise BadData(f"{ref} has no rows")
    names = list(dict.fromkeys(name for row in table for name in row))
    overrides, said = _overrides(columns or {}, subset_column, names)
    read = recognise(names, overrides)
    stem = re.sub(
        r"\.(jsonl|ndjson|json|csv|parquet)(\.gz)?$", "", ref if on_hub else Path(ref).name, flags=re.IGNORECASE
    )
    name = re.sub(r"[^\w.-]+", "-", stem.removeprefix("hf:")).strip("-")
    _refuse_printed(table, read)
    if read.kind == "labels" and not said and codes.are_numbers(table, read.columns["label"]):
        read = _without(read, ("id", "strength"))
        made = _grouped(table, read, name)
        counted = "labels are not 0 and 1: the responses of one prompt are ranked by them"
    else:
        made, counted = _one_by_one(table, read, said, name)
    notes = [str(read), *([counted] if counted else []), *_warnings(table, read)]
    made, shared = _clustered(made)
    if shared:
        notes.append(f"{shared} items share a prompt with another: standard errors cluster by prompt")
    if equal := sum(len(set(item.responses)) < len(item.responses) for _, item in made):
        notes.append(f"{equal} items hold equal responses")
    card = Suite(
        name=name,
        version="0",
        about=f"Your own data: {ref if on_hub else Path(ref).name}",
        categories={},
        rules=Rules(
            name="own-data-1",
            about="Every subset is a category; overall is the plain mean of the subsets. Equal scores count half; "
            "items graded as ties are left out and counted.",
        ),
        source=ref if on_hub else f"file:{Path(ref).name}",
        licence="your own",
        citation="your own",
        notes=tuple(notes),
        excluded=_without_winner(table, read),
    )
    return card, iter(made)


def recognise(columns: Sequence[str], overrides: Mapping[str, str] | None = None) -> Recognised:
    """Which column stands for what. ``overrides`` (what -> column, or "" for none) go first and decide the form where
    they can.

    UnknownName for an override of no meaning or no such column; UsageError where no form fits.
    """
    overrides = dict(overrides or {})
    for what, name in overrides.items():
        if what not in COLUMNS:
            raise UnknownName("meaning of a column", what, COLUMNS)
        if name and name not in columns:
            raise UnknownName("column", name, columns)
    _refuse_double_use(overrides)
    lower = {name.strip().lower(): name for name in reversed(columns)}
    free = {alias: name for alias, name in lower.items() if name not in overrides.values()}
    sides = dict(zip(("response_a", "response_b"), _sides(free, overrides), strict=True))

    def find(what: str) -> str | None:
        if what in overrides or what in sides:
            return overrides.get(what, sides.get(what)) or None
        return next((free[alias] for alias in COLUMNS[what] if alias in free), None)

    # An override of a form's own column asks for that form.
    asked = [
        k for k, needs in _KINDS.items() if any(n and o in needs and o not in _BESIDE for o, n in overrides.items())
    ]
    for kind in [*asked, *(k for k in _KINDS if k not in asked)]:
        found = {what: find(what) for what in _KINDS[kind]}
        if all(found.values()):
            found |= {what: find(what) for what in _BESIDE if what not in found}
            used = {what: name for what, name in found.items() if name is not None and _belongs(what, found, overrides)}
            if kind == "votes":
                _refuse_more_than_two(used, free)
            return Recognised(kind, used, tuple(c for c in columns if c not in used.values()))
    forms = "; or ".join(", ".join(needs) for needs in _KINDS.values())
    raise UsageError(
        f"the columns {listed(columns)} fit no known form; needed are {forms}. "
        f"Say which is which with --columns, as in --columns prompt=query,chosen=good,rejected=bad"
    )


def _sides(free: Mapping[str, str], overrides: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The columns of a vote's two answers, whose names go together."""
    first, second = overrides.get("response_a"), overrides.get("response_b")
    if first is None and second is None:
        return next(((free[a], free[b]) for a, b in _SIDES if a in free and b in free), (None, None))
    return (
        first if first is not None else next((free[a] for a, _ in _SIDES if a in free), None),
        second if second is not None else next((free[b] for _, b in _SIDES if b in free), None),
    )


def _belongs(what: str, found: Mapping[str, str | None], overrides: Mapping[str, str]) -> bool:
    """Whether a history, input or turn says what was asked: an input follows an instruction; beside a prompt of
    another name it may be anything. UsageError where it was asked for and there is no prompt."""
    prompt = found.get("prompt")
    if what == "turn":
        return "response_a" in found and prompt is None
    if what not in ("history", "input"):
        return True
    if overrides.get(what) and prompt is None:
        raise UsageError(f"--columns {what}={overrides[what]} joins a prompt, and no column is one: add prompt=...")
    alpaca = prompt is not None and prompt.strip().lower() == "instruction"
    return what in overrides or alpaca or (what == "history" and prompt is not None)


def _refuse_more_than_two(used: Mapping[str, str], free: Mapping[str, str]) -> None:
    """Three numbered answers are no vote on the first two."""
    first, second = used["response_a"], used["response_b"]
    stem = first.strip().lower()[:-1]
    alike = sorted(name for alias, name in free.items() if alias[:-1] == stem and alias[-1:].isalnum())
    if len(alike) > 2 and {first, second} < set(alike):
        raise UsageError(
            f"{', '.join(alike)} are more than two answers, and a winner is one of two; say which two with --columns "
            f"response_a={first},response_b={second}, or give responses and grades"
        )


def _overrides(
    columns: Mapping[str, str], subset_column: str | None, names: Sequence[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """What was said on the command line: meaning -> column, and code -> what it stands for (``winner=col:1=a,2=b``)."""
    overrides, said = dict(columns), dict[str, str]()
    for what in codes.SIDES:
        given = overrides.get(what, "")
        column = max((n for n in names if given.startswith(f"{n}:")), key=len, default=None)
        if column is not None and given not in names:
            overrides[what], said = column, codes.asked(what, given[len(column) + 1 :])
    if len([what for what in codes.SIDES if overrides.get(what)]) > 1:
        raise UsageError("--columns gives a winner and a label; rows have one of them")
    if subset_column:
        if overrides.get("subset", subset_column) != subset_column:
            raise UsageError(
                f"--columns says subset={overrides['subset']} and --subset-column {subset_column}; give one"
            )
        overrides["subset"] = subset_column
    return overrides, said


def _refuse_double_use(overrides: Mapping[str, str]) -> None:
    own = {what: name for what, name in overrides.items() if name and (what in _TEXTS or what not in _BESIDE)}
    for what, name in own.items():
        if also := next((w for w, n in own.items() if n == name and w != what), None):
            raise UsageError(f"--columns gives {name!r} two meanings, {what} and {also}; a column has one")


def _one_by_one(
    table: Sequence[Row], read: Recognised, said: Mapping[str, str], name: str
) -> tuple[list[tuple[str, Item]], str]:
    """An item of each row that has something to compare, and what the codes of its winner or label stand for."""
    what = {"votes": "winner", "labels": "label"}.get(read.kind)
    means, counted = lambda row: "", ""
    if what is not None:
        answers = [read.columns[side] for side in ("response_a", "response_b") if side in read.columns]
        means, counted = codes.meanings(table, what, read.columns[what], answers, said)
    voted = read.columns[what] if what == "winner" else None
    made = [
        (row.where, to_item(row, read, f"{name}-{n}", means))
        for n, row in enumerate(table)
        if voted is None or codes.code(row.get(voted)) is not None
    ]
    return made, counted


def _without_winner(table: Sequence[Row], read: Recognised) -> dict[str, int]:
    """Rows on which nobody voted, counted: AlpacaEval writes null where its annotator failed."""
    column = read.columns.get("winner")
    n = 0 if column is None else sum(codes.code(row.get(column)) is None for row in table)
    return {f"no {column!r}, so there is nothing to compare with": n} if n else {}


def _without(read: Recognised, unused: Iterable[str]) -> Recognised:
    lost = {what: name for what, name in read.columns.items() if what in unused}
    kept = {what: name for what, name in read.columns.items() if what not in lost}
    return Recognised(read.kind, kept, (*read.ignored, *lost.values()))


def _warnings(table: Sequence[Row], read: Recognised) -> list[str]:
    """Columns that are not used although most rows hold text in them: what a model should have read may stand there."""
    said = [c for c in read.ignored if 2 * sum(_holds_text(row.get(c)) for row in table) > len(table)]
    if not said:
        return []
    return [
        f"Warning: most rows hold text in {listed(map(repr, said))}, which no model reads; if it belongs to the "
        f"prompt, join it with --columns input={said[0]}"
    ]


def _holds_text(value: Any) -> bool:
    """Three words or more: a name or a date is no text."""
    if isinstance(value, str):
        return len(value.split(maxsplit=2)) > 2
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_holds_text, inner))


_PRINTED = re.compile(r"""\s*[\[{]\s*(?:(')|").*["'\d]\s*[\]}]\s*$""", re.DOTALL)
"""A Python list or dict as text; group 1 where its first text has Python's quotes."""


def _refuse_printed(table: Sequence[Row], read: Recognised) -> None:
    """A whole column of Python lists or dicts as text; a single such text may be an answer like any other."""
    for column in (name for what, name in read.columns.items() if what in _TEXTS):
        cells = [row for row in table if isinstance(row.get(column), str) and row[column].strip()]
        if all(_PRINTED.match(row[column]) for row in cells):
            own = next((row for row in cells if (found := _PRINTED.match(row[column])) and found[1]), None)
            if own is not None:
                raise own.fail(
                    f"{column!r} holds Python lists or dicts as text in every row ({own[column][:40]!r}); "
                    f"{rows.TO_JSON}"
                )


def to_item(row: Row, read: Recognised, item_id: str, means: Callable[[Row], str]) -> Item:
    """One row as an item; ``item_id`` where the table has no id column; ``means`` says what its winner or label stands
    for. BadData names file, line and column."""
    name = read.columns
    prompt = _prompt(row, read)
    turns: tuple[tuple[Message, ...], ...] = ()
    responses: tuple[str, ...]
    grades: tuple[float, ...]
    if read.kind == "pairs" and _lists(row, name):
        responses = (*_responses(row, name["chosen"]), *_responses(row, name["rejected"]))
        right = len(row[name["chosen"]])
        grades = (1.0,) * right + (0.0,) * (len(responses) - right)
    elif read.kind in ("pairs", "votes"):
        pair = ("chosen", "rejected") if read.kind == "pairs" else ("response_a", "response_b")
        talks = [_until_turn(row, name, _talk(row, name[side], prompt)) for side in pair]
        prompt, turns = _shared(row, talks)
        responses = tuple(talk[-1].content for talk in talks)
        grades = (1.0, 0.0) if read.kind == "pairs" else _GRADES[means(row)]
    elif read.kind == "labels":
        responses = (_talk(row, name["response"], prompt)[-1].content,)
        grades = (float(means(row) == "good"),)
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
    own_id = _given(row, name, "id")
    if not isinstance(own_id, str | int | float | None):
        raise row.fail(f"{name['id']!r} is {own_id!r:.60}; an id is a text or a number; {_leave_out('id')}")
    return Item(
        id=item_id if own_id is None else str(own_id),
        subset=_subset(row, name),
        prompt=_with_system(row, name, prompt) if "prompt" not in name else prompt,
        turns=turns,
        responses=responses,
        grades=grades,
        strength=_strength(row, name),
        meta=_meta(row, name),
    )


_GRADES = {"a": (1.0, 0.0), "b": (0.0, 1.0), "tie": (1.0, 1.0)}


def _leave_out(what: str) -> str:
    return f"--columns {what}= leaves the column out"


def _given(row: Row, name: Mapping[str, str], what: str) -> Any:
    """The value of an optional column, or None where the row has none."""
    value = row.get(name[what]) if what in name else None
    return None if value == "" or (isinstance(value, float) and math.isnan(value)) else value


def _beside(row: Row, name: Mapping[str, str], what: str) -> str | None:
    """The text of an optional column, or None where the row has none."""
    value = _given(row, name, what)
    if value is None:
        return None
    if not isinstance(value, str):
        raise row.fail(f"{name[what]!r} is {value!r:.60}; it must be a text; {_leave_out(what)}")
    try:
        return _text(row, name[what], value) if value.strip() else None
    except BadData as error:
        raise BadData(f"{error}; {_leave_out(what)}") from None


def _strength(row: Row, name: Mapping[str, str]) -> float | None:
    value = _given(row, name, "strength")
    if value is None or (isinstance(value, str) and value.strip().lower() == "nan"):
        return None
    try:
        return row.number(name["strength"])
    except BadData as error:
        raise BadData(f"{error}; {_leave_out('strength')}") from None


def _meta(row: Row, name: Mapping[str, str]) -> dict[str, Any]:
    """What judges and heads look up beside the texts, where the row has it."""
    meta: dict[str, Any] = {}
    if (reference := _beside(row, name, "reference")) is not None:
        meta["reference"] = reference
    if (unsafe := _given(row, name, "unsafe")) is not None:
        said = codes.code(unsafe)
        if said not in (0.0, 1.0, "true", "false", "yes", "no"):
            raise row.fail(f"{name['unsafe']!r} is {unsafe!r}; it must be true or false; {_leave_out('unsafe')}")
        meta["unsafe"] = said in (1.0, "true", "yes")
    return meta


def _subset(row: Row, name: Mapping[str, str]) -> str:
    if "subset" not in name:
        return "all"
    value = row.get(name["subset"])
    if not isinstance(value, str | int) or value == "" or str(value).strip() in _NO_TEXT:
        raise row.fail(f"{name['subset']!r} is {value!r}; the subset must be a text; {_leave_out('subset')}")
    return str(value)


# Texts and conversations


def _text(row: Row, column: str, value: str) -> str:
    """A text that is one, and not what a program wrote for something else."""
    said = value.strip()
    if said in _NO_TEXT:
        raise row.fail(
            f"{column!r} is the text {said!r}, which programs write for a value that is missing; leave the row out, or "
            f"end it with a full stop if it is an answer"
        )
    if said.startswith("array(") and said.endswith(")"):
        raise row.fail(f"{column!r} is an array as numpy prints it ({said[:40]!r}); {rows.TO_JSON}")
    if what := rows.disguised(value):
        raise row.fail(f"{column!r} holds {what}")
    return value


def _conversation(row: Row, column: str) -> Any:
    """A text, or the messages of a list or of the JSON in a cell."""
    value = rows.conversation(row.get(column))
    return _text(row, column, value) if isinstance(value, str) else value


def _prompt(row: Row, read: Recognised) -> tuple[Message, ...]:
    """All that comes before the answers and has columns of its own: system, history, prompt, input."""
    if "prompt" not in read.columns:
        return ()
    column = read.columns["prompt"]
    said = rows.messages(_conversation(row, column), row, column)
    if len(said) > 1 and said[-1].role == "assistant" and not said[-1].content.strip():
        said = said[:-1]  # a cue to go on from, not a turn
    if said[-1].role == "assistant":
        raise row.fail(f"{column!r} ends with an assistant turn; a prompt ends with the user's")
    if more := _beside(row, read.columns, "input"):
        said = (*said[:-1], Message(role=said[-1].role, content=f"{said[-1].content}\n\n{more}"))
    own, said = _system_of(said)
    return _with_system(row, read.columns, (*own, *_history(row, read.columns), *said))


def _system_of(talk: tuple[Message, ...]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """The system message that a conversation begins with, if any, and the rest."""
    first = 1 if talk and talk[0].role == "system" else 0
    return talk[:first], talk[first:]


def _with_system(row: Row, name: Mapping[str, str], talk: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation with the system message of a column, which may say again what the conversation begins with."""
    said = _beside(row, name, "system")
    own, rest = _system_of(talk)
    if said is None or (own and own[0].content.strip() == said.strip()):
        return talk
    if own:
        raise row.fail(f"{name['system']!r} is not the system message of the conversation; {_leave_out('system')}")
    return (Message(role="system", content=said), *rest)


def _history(row: Row, name: Mapping[str, str]) -> tuple[Message, ...]:
    """Earlier turns: messages, pairs of what the user and the assistant said, or a dialogue."""
    value = rows.decoded(_given(row, name, "history"))
    if value in (None, [], ""):
        return ()
    if isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        said = [
            {"role": role, "content": text}
            for pair in value
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
        return rows.messages(said, row, name["history"])
    if isinstance(value, str) and not value.lstrip().startswith("Human:"):
        raise row.fail(
            f"{name['history']!r} is a text; earlier turns are a list of messages or of [user, assistant] pairs; "
            f"{_leave_out('history')}"
        )
    return rows.messages(value, row, name["history"])


def _talk(row: Row, column: str, prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    """The whole conversation of one side: a text after the prompt, an assistant's message, or all of it."""
    value = _conversation(row, column)
    if isinstance(value, str) and not re.match(r"\s*Human:.*\n\nAssistant:", value, re.DOTALL):
        if not prompt:
            raise row.fail(f"{column!r} is a text and there is no prompt; name its column with --columns prompt=...")
        return (*prompt, Message(role="assistant", content=row.text(column)))
    talk = rows.messages(value, row, column)
    if talk[-1].role != "assistant":
        raise row.fail(f"{column!r} does not end with the assistant's turn")
    if not talk[-1].content.strip():
        raise row.fail(f"the last turn of {column!r} is empty; leave the row out or fill it")
    if len(talk) == 1:
        if not prompt:
            raise row.fail(f"{column!r} has no turn before the answer and there is no prompt")
        return (*prompt, *talk)
    (before, asked), (own, said) = _system_of(prompt), _system_of(talk)
    if before and own and before != own:
        raise row.fail(f"{column!r} begins with another system message than the prompt")
    if said[: len(asked)] != asked:
        raise row.fail(f"{column!r} does not begin with the prompt in its own column")
    return (*(own or before), *said)


def _until_turn(row: Row, name: Mapping[str, str], talk: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation up to the answer that was judged."""
    if _given(row, name, "turn") is None:
        return talk
    answers = [i for i, message in enumerate(talk, 1) if message.role == "assistant"]
    turn = row.number(name["turn"])
    if turn not in range(1, len(answers) + 1):
        raise row.fail(
            f"{name['turn']!r} is {turn:g} and the conversation has {len(answers)} answers; {_leave_out('turn')}"
        )
    until = talk[: answers[int(turn) - 1]]
    if not until[-1].content.strip():
        raise row.fail(f"the answer of turn {turn:g} is empty; leave the row out or fill it")
    return until


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


# Rankings


def _lists(row: Row, name: Mapping[str, str]) -> bool:
    """Whether both sides are lists of texts: several right and several wrong answers."""
    sides = [row.get(name["chosen"]), row.get(name["rejected"])]
    return all(isinstance(side, list) and side and all(isinstance(text, str) for text in side) for side in sides)


def _responses(row: Row, column: str) -> tuple[str, ...]:
    value = rows.decoded(row.get(column))
    if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
        printed = f"; it is a text, and no JSON: {rows.TO_JSON}" if isinstance(value, str) and value[:1] in "[a" else ""
        raise row.fail(f"{column!r} must be a list of texts that are not empty{printed}")
    return tuple(_text(row, column, text) for text in value)


def _numbers(row: Row, column: str) -> tuple[float, ...]:
    value = rows.decoded(row.get(column))
    if not isinstance(value, list) or any(isinstance(n, bool) or not isinstance(n, int | float) for n in value):
        raise row.fail(f"{column!r} must be a list of numbers")
    try:
        return tuple(float(n) for n in value)
    except OverflowError:
        raise row.fail(f"{column!r} holds a number that is too large") from None


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
            responses=tuple(_talk(row, read.columns["response"], prompt)[-1].content for row in own),
            grades=tuple(row.number(column) for row in own),
            meta=_meta(own[0], read.columns),
        )
        if other := next((row for row in own if _meta(row, read.columns) != item.meta), None):
            raise other.fail(f"another reference or unsafe than at {own[0].where} for the same prompt")
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
