"""Which item a row of another tool's file is of, and which of its responses is which: by id, by text, by place.

A row is found by its id, else by its texts, else (reward-bench's score files alone) by its place. Where it holds texts,
these have the last word: they say which side is which response, as they are or inside a rendered conversation; and
texts that are not those of the item that the id names are a fault, never a join.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from rmbench.core import Item, Suite

Row = Mapping[str, Any]
Order = tuple[int, ...]
"""Side k of a row is response ``order[k]`` of its item."""

SIDES: dict[str, tuple[tuple[str, ...], ...]] = {
    "rewardbench": (
        ("text_chosen", "text_rejected"),
        ("texts_chosen", "texts_rejected"),
        ("chosen", "rejected"),
        ("text",),
    ),
    "judgebench": (("response_A", "response_B"),),
    "llmbar": (("output_1", "output_2"),),
    "mt-bench": (("conversation_a", "conversation_b"),),
    "alpaca-eval": (("output_1", "output_2"),),
    "jsonl": (
        ("responses",),
        ("chosen", "rejected"),
        ("response_a", "response_b"),
        ("response_A", "response_B"),
        ("response_1", "response_2"),
        ("response1", "response2"),
        ("output_1", "output_2"),
        ("answer_a", "answer_b"),
        ("response",),
    ),
}
"""Format -> the columns that can hold its sides' texts, in the order in which its scores or verdicts name them."""

_KEYS = ("pair_id", "item_id", "id")
_PROMPTS = ("prompt", "instruction", "question", "input")
_TAIL = 256
"""Characters that a chat template may write after an answer."""
_NEXT = "give the --data that was judged, or leave these rows out of the file"


class Join(NamedTuple):
    """A row and its item."""

    item: Item
    order: Order
    how: Literal["id", "text", "place"]
    checked: bool = False
    """The row holds texts, and they are the item's."""
    turned: bool = False
    """The row's sides stand in another order than the item's."""
    fault: str | None = None
    """Why this is no join after all, and the next step."""


class _Said(NamedTuple):
    """What a row says of its item."""

    row: Row
    source: str
    sides: tuple[str, ...]
    prompt: str | None
    subset: Any

    def nameless(self) -> bool:
        return all(self.row.get(key) is None for key in (*_KEYS, "index", "question_id"))


def finder(suite: Suite, source: str) -> Callable[[Row, int, int], Join | None]:
    """A function of a row, its place and the number of rows; None where the row fits no item."""
    index = _Index(suite)

    def find(row: Row, place: int, total: int) -> Join | None:
        said = _Said(row, source, _sides(row, source), _prompt(row, source), row.get("subset"))
        named = index.named(said)
        if len(named) == 1:
            return _checked(said, named[0], "id", index)
        if not named and source == "mt-bench" and not said.nameless():
            return None
        fit = [item for item in named or index.like(said) if said.subset in (None, item.subset)]
        if said.sides:
            fit = _closest([item for item in fit if _order(said.sides, item, _usual(said, item))], said)
        if len(fit) == 1:
            return _checked(said, fit[0], "text", index)
        if fit:
            return Join(fit[0], (), "id", fault=_ambiguous(fit, said, bool(named)))
        if named:
            return _checked(said, named[0], "id", index)
        if source == "rewardbench" and total == len(suite.items) and said.nameless():
            item = suite.items[place]
            return _checked(said, item, "place", index) if said.subset in (None, item.subset) else None
        return None

    return find


# Finding


class _Index:
    """A suite's items by all that a row can say of them."""

    def __init__(self, suite: Suite) -> None:
        self.by_id = {item.id: item for item in suite.items}
        self.by_tail: dict[str, list[Item]] = defaultdict(list)
        self.by_texts: dict[tuple[str, ...], list[Item]] = defaultdict(list)
        self.by_prompt: dict[str, list[Item]] = defaultdict(list)
        for item in suite.items:
            # reward-bench's ids count through the set; ours carry the subset before them.
            _, slash, tail = item.id.rpartition("/")
            if slash:
                self.by_tail[tail].append(item)
            self.by_texts[_words(item.responses)].append(item)
            for asked in _asked(item):
                self.by_prompt[asked].append(item)

    def named(self, said: _Said) -> list[Item]:
        """The items that a row's id can mean."""
        row, subset = said.row, said.subset
        if said.source == "mt-bench" and row.get("question_id") is not None:
            models = "-".join(sorted(str(row.get(k)) for k in ("model_a", "model_b")))
            name = f"{_name(row['question_id'])}-{_name(row.get('turn'))}-{models}"
            return [self.by_id[name]] if name in self.by_id else []
        for key in (row[k] for k in _KEYS if row.get(k) is not None):
            name = _name(key)
            for full in (f"{subset}/{name}", f"{subset}-{name}", name):
                if full in self.by_id:
                    return [self.by_id[full]]
            if tails := [item for item in self.by_tail.get(name, ()) if subset in (None, item.subset)]:
                return tails
        indexed = self.by_id.get(f"{subset}-{_name(row.get('index'))}")
        return [indexed] if indexed is not None else []

    def like(self, said: _Said) -> list[Item]:
        """The items with these responses; else, since conversations may be rendered whole, those with this prompt."""
        if not said.sides:
            return []
        return self.by_texts.get(_words(said.sides)) or self.by_prompt.get(_flat(said.prompt or ""), [])


def _closest(items: list[Item], said: _Said) -> list[Item]:
    """Those that agree best: letter by letter, else but for white space, else in a part of the prompt."""
    prompt = said.prompt

    def agrees(item: Item) -> tuple[bool, ...]:
        words = sorted(item.responses) == sorted(said.sides)
        if prompt is None:
            return (words,)
        turns = [m.content for m in item.prompt]
        return _asks(item, prompt), words, prompt in ("\n".join(turns), *turns[-1:]), _flat(prompt) in _asked(item)

    best = max(map(agrees, items), default=())
    return [item for item in items if agrees(item) == best]


def _ambiguous(items: Sequence[Item], said: _Said, by_name: bool) -> str:
    given = next((repr(said.row[k]) for k in _KEYS if said.row.get(k) is not None), "")
    what = f"id {given} can mean" if by_name else "its texts are those of"
    more = f" and {len(items) - 2} more" if len(items) > 2 else ""
    return (
        f"{what} item {items[0].id!r} and item {items[1].id!r}{more}, and nothing tells them apart; give the rows a "
        f"column 'subset', or 'id' with the whole id"
    )


# Checking


def _usual(said: _Said, item: Item) -> Order:
    """Which response each side is by the format alone, without a look at texts."""
    n = len(item.responses)
    if said.source == "rewardbench":
        return tuple(sorted(range(n), key=lambda i: -item.grades[i]))
    if said.source == "mt-bench" and str(said.row.get("model_a")) > str(said.row.get("model_b")):
        return (1, 0)
    return tuple(range(n))


def _checked(said: _Said, item: Item, how: Literal["id", "text", "place"], index: _Index) -> Join:
    """The join with the sides in the order that the row's texts say, or with the fault that they show."""
    usual = _usual(said, item)
    own = usual if said.source == "rewardbench" else tuple(range(len(item.responses)))
    join = Join(item, usual, how, turned=usual != own)
    named = f"item {item.id!r}, which its {how} names"
    if said.subset not in (None, item.subset):
        return join._replace(fault=f"{named}, is of subset {item.subset!r}, and the row says {_cut(said.subset)}")
    if said.source == "jsonl" and (fault := _other_version(said.row, item)):
        return join._replace(fault=fault)
    if not said.sides:
        return join._replace(fault=_other_label(said, item))
    order = _order(said.sides, item, usual)
    if order is None:
        whose = next((f" (it is that of {i.id!r})" for i in index.like(said) if _order(said.sides, i, usual)), "")
        return join._replace(fault=f"{_unlike(said, item)} {named}{whose}; {_NEXT}")
    rendered = _flat(said.sides[0]) != _flat(item.responses[order[0]])
    prompt = said.sides[0] if said.prompt is None and rendered else said.prompt
    if prompt is not None and not _asks(item, prompt):
        return join._replace(fault=f"its prompt {_cut(prompt)} is not that of {named}; {_NEXT}")
    if said.source == "mt-bench" and said.row.get("model_a") is not None and order != usual:
        return join._replace(fault=f"each model's answer is the other one's in {named}; {_NEXT}")
    return join._replace(order=order, checked=True, turned=order != own)


def _unlike(said: _Said, item: Item) -> str:
    if len(said.sides) != len(item.responses):
        return f"its {len(said.sides)} texts are not the {len(item.responses)} responses of"
    known = {_flat(r) for r in item.responses}
    side = next((s for s in said.sides if not any(r and r in _flat(s) for r in known)), said.sides[0])
    return f"its text {_cut(side)} is no response of"


def _other_version(row: Row, item: Item) -> str | None:
    """Lines of a run's judgments.jsonl bear the hash of the item that was judged."""
    given = next((row[k] for k in ("hash", "item_hash") if isinstance(row.get(k), str)), None)
    if given in (None, item.content_hash()):
        return None
    return (
        f"it judges another version of item {item.id!r} (hash {given}, now {item.content_hash()}); give the --data "
        f"that was judged, or take 'hash' away where you know that the responses are the same, in the same order"
    )


def _other_label(said: _Said, item: Item) -> str | None:
    """JudgeBench's and LLMBar's rows say which side is better, and may do so without texts."""
    label = said.row.get("label") if said.source in ("judgebench", "llmbar") else None
    first = {"A>B": True, "1": True, "B>A": False, "2": False}.get(_name(label))
    if first is None or len(item.grades) != 2 or item.grades[0] == item.grades[1]:
        return None
    if first == (item.grades[0] > item.grades[1]):
        return None
    return (
        f"its label is {label!r}, and of item {item.id!r} the other side is the better one: exchanged sides, or "
        f"a corrected label? Add the texts to the rows, which tell, or take 'label' away"
    )


def _asked(item: Item) -> tuple[str, ...]:
    """What a row may call the prompt: all of it, or its last turn."""
    said = [_flat(m.content) for m in item.prompt]
    return tuple(dict.fromkeys((" ".join(said), said[-1]))) if said else ()


def _asks(item: Item, prompt: str) -> bool:
    given, asked = _flat(prompt), _asked(item)
    return not given or not asked or asked[-1] in given or given in asked[0]


def _order(sides: Sequence[str], item: Item, usual: Order) -> Order | None:
    """Which response each side is; None where they are not the item's responses."""
    if len(sides) != len(item.responses):
        return None
    # Answers may differ in white space alone, so it counts where it can.
    for same in (str, str.strip, _flat):
        responses = [same(r) for r in item.responses]
        apart = len(set(responses)) == len(set(item.responses))
        if apart and (order := _matched([same(s) for s in sides], responses, usual)):
            return order
    return _rendered(sides, item.responses, usual) or _rendered(sides, [r.strip() for r in item.responses], usual)


def _matched(sides: Sequence[str | None], responses: Sequence[str], usual: Order) -> Order | None:
    if all(side == responses[i] for side, i in zip(sides, usual, strict=True)):
        return usual
    left: dict[str | None, list[int]] = defaultdict(list)
    for i in usual:
        left[responses[i]].append(i)
    if any(not left[side] for side in sides) or sorted(map(str, sides)) != sorted(responses):
        return None
    return tuple(left[side].pop(0) for side in sides)


def _rendered(sides: Sequence[str], responses: Sequence[str], usual: Order) -> Order | None:
    """The order in which the sides are one text but for the responses in it: a chat template's."""
    lengths = [len(r) for r in responses]
    around = {s - r for s, r in zip(sorted(map(len, sides)), sorted(lengths), strict=True)}
    if len(around) != 1 or len(set(responses)) != len(responses):
        return None
    anchor = max(sides, key=len)
    found: set[Order] = set()
    for response in responses:
        at = anchor.rfind(response) if len(response) == max(lengths) else -1
        while at >= 0 and at + len(response) + _TAIL >= len(anchor):
            before, after = anchor[:at], anchor[at + len(response) :]
            inner = [
                side[at : len(side) - len(after)] if side.startswith(before) and side.endswith(after) else None
                for side in sides
            ]
            if order := _matched(inner, responses, usual):
                found.add(order)
            at = anchor.rfind(response, 0, at + len(response) - 1)
    return found.pop() if len(found) == 1 else None


# Reading a row


def _sides(row: Row, source: str) -> tuple[str, ...]:
    """The texts of a row's sides, in the order of its scores or verdicts; none where a text is missing."""
    for columns in SIDES[source]:
        if all(row.get(column) is not None for column in columns):
            turn = row.get("turn") if source == "mt-bench" else None
            found = [_texts(row[column], turn) for column in columns]
            if all(found):
                return tuple(text for texts in found for text in texts)
    return ()


def _texts(value: Any, turn: Any = None) -> list[str]:
    """A text, the last turn of a conversation, or each of a list of these; nothing of anything else."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        return []
    if all(isinstance(m, dict) and isinstance(m.get("content"), str) for m in value):
        last = 2 * int(turn) - 1 if turn in (1, 2) and 2 * turn <= len(value) else -1
        return [value[last]["content"]]
    found = [_texts(one) for one in value]
    return [texts[0] for texts in found] if all(len(texts) == 1 for texts in found) else []


def _prompt(row: Row, source: str) -> str | None:
    for column in _PROMPTS:
        value = row.get(column)
        if isinstance(value, str):
            return value
        if isinstance(value, list) and (said := [text for one in value for text in _texts([one])]):
            return "\n".join(said)
    for columns in SIDES[source]:
        talk = row.get(columns[0])
        if isinstance(talk, list) and len(talk) > 1 and all(isinstance(m, dict) for m in talk):
            return "\n".join(text for one in talk[:-1] for text in _texts([one]))
    return None


def _words(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(map(_flat, texts)))


def _flat(text: str) -> str:
    return " ".join(text.split())


def _name(key: Any) -> str:
    """An id as text; a table of numbers with gaps holds 12 as 12.0."""
    return str(int(key)) if isinstance(key, float) and key.is_integer() else str(key)


def _cut(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
