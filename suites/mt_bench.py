"""MT-Bench human judgments (Zheng et al. 2023): people's votes on pairs of answers to 80 two-turn questions.

One record (shortened, invented text)::

    {"question_id": 81, "model_a": "alpaca-13b", "model_b": "gpt-4", "winner": "model_b", "judge": "expert_3",
     "conversation_a": [{"role": "user", "content": "Write..."}, {"role": "assistant", "content": "..."}, ...],
     "conversation_b": [...], "turn": 1}

An item is a question, a turn and an unordered pair of models with every vote of experts on it, kept in ``meta`` as
[judge, vote] (0 or 1 the response, -1 a tie). By default each vote is compared (``votes``, FastChat's
compute_agreement.py); in the variant ``majority`` an item's gold is the most frequent vote, shared first places being
a tie. Table 5 of arXiv:2306.05685 (GPT-4 pairwise against humans, turn 1: 66 % with ties, 85 % without; human-human
63 % and 81 %) needs: votes flipped to the sorted order of the two models' names; the 687 votes of the authors left
out (variant ``with-authors``); GPT-4's ``tie (inconsistent)``, its verdict changed with the order, counted as a tie
and not dropped. ``rmbench import gpt4_pair.jsonl.gz --from mt-bench --suite mt-bench`` replays GPT-4's verdicts, which
``fetch`` brings too. Counts were checked on a copy of the published labels; texts come from FastChat's answer files.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from rmbench.core import Item, Message, Rules, Suite
from rmbench.suites import Data, Row, messages

_AREAS = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
_ITEMS = ((98, 97), (111, 110), (104, 103), (102, 100), (99, 98), (99, 97), (105, 104), (103, 103))
_VOTES = ((157, 155), (180, 178), (178, 176), (165, 163), (163, 161), (157, 153), (165, 162), (178, 177))
_ALL_ITEMS = ((108, 107), (122, 121), (112, 112), (110, 108), (112, 112), (113, 112), (118, 117), (115, 115))


def _by_subset(numbers: Sequence[tuple[int, int]]) -> dict[str, int]:
    return {f"{area}-{turn}": pair[turn - 1] for turn in (1, 2) for area, pair in zip(_AREAS, numbers, strict=True)}


SUITE = Suite(
    name="mt-bench",
    version="1",
    about="Agreement with human votes on pairs of answers, per turn and question category.",
    categories={f"Turn {turn}": tuple(f"{area}-{turn}" for area in _AREAS) for turn in (1, 2)},
    rules=Rules(
        name="mt-bench-votes-1",
        about="Share of expert votes that the verdict equals, vote by vote, ties a class of their own (setup S1); a "
        "verdict that changes with the order is a tie. s2 drops every comparison with a tie on either side. A judge "
        "without ballots ties where its scores are equal. The rows human-human are the ceiling.",
        ties="wrong",
        gold_ties="class",
        overall="none",
        position="conflict-tie",
        metrics={"*": "mt-bench-agreement", "+mt-bench": "mt-bench"},
    ),
    weights={subset: float(n) for subset, n in _by_subset(_VOTES).items()},
    counts=_by_subset(_ITEMS),
    source="hf:lmsys/mt_bench_human_judgments:{key}@f7d2896d2cc5d80f8b55c2bbc722613555233c25",
    files=tuple(
        f"{key}={folder}/{key}*"
        for key in ("human", "gpt4_pair")
        for folder in ("mt_bench", "mt_bench_human_judgments/data")
    ),
    licence="CC-BY-4.0",
    citation="Zheng et al., Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena, arXiv:2306.05685, 2023.",
)
_MAJORITY = Rules(
    name="mt-bench-majority-1",
    about="Share of items where the verdict equals the most frequent expert vote, ties a class of their own; an item's "
    "shared first place is a tie, and so is a verdict that changes with the order.",
    ties="wrong",
    gold_ties="class",
    overall="none",
    position="conflict-tie",
    metrics={"+mt-bench": "mt-bench"},
)
VARIANTS = {
    "majority": replace(SUITE, rules=_MAJORITY, weights={}),
    "with-authors": replace(SUITE, counts=_by_subset(_ALL_ITEMS), weights={}),
}


def items(data: Data) -> Iterator[Item]:
    authors = data.suite.counts == VARIANTS["with-authors"].counts
    votes: dict[tuple[int, int, str, str], list[tuple[str, int]]] = {}
    seen: dict[tuple[int, int, str, str], tuple[Row, tuple[Message, ...], tuple[Message, ...]]] = {}
    for row in data.rows("human"):
        if row.text("judge").startswith("author") and not authors:
            data.exclude(row, "votes cast by the paper's authors, which the paper skips too")
            continue
        key, vote, flipped = _key(row)
        talks = [messages(row.get(f"conversation_{side}"), row, f"conversation_{side}") for side in "ab"]
        first, second = reversed(talks) if flipped else talks
        if key in seen and seen[key][1:] != (first, second):
            raise row.fail(f"other answers than at {seen[key][0].where} for the same question, turn and models")
        seen.setdefault(key, (row, first, second))
        votes.setdefault(key, []).append((row.text("judge"), vote))
    equal = 0
    for key in sorted(seen):
        item = _item(key, *seen[key], sorted(votes[key]))
        equal += item.responses[0] == item.responses[1]
        yield item
    if equal:
        kept = "they are kept because the published protocol counts every vote"
        data.note(f"{equal} items have identical answers; {kept}")


def _key(row: Row) -> tuple[tuple[int, int, str, str], int, bool]:
    """Question, turn and the models in sorted order; the vote in that order; whether the row had the other order."""
    a, b, winner = row.text("model_a"), row.text("model_b"), row.text("winner")
    question, turn = int(row.number("question_id")), int(row.number("turn"))
    if turn not in (1, 2) or not 81 <= question <= 160:
        raise row.fail(f"question {question}, turn {turn}: there are questions 81 to 160 and turns 1 and 2")
    if not winner.startswith("tie") and winner not in ("model_a", "model_b"):
        raise row.fail(f"winner is {winner!r}; it must be model_a, model_b or tie")
    flipped = a > b
    vote = -1 if winner.startswith("tie") else int((winner == "model_b") != flipped)
    return (question, turn, min(a, b), max(a, b)), vote, flipped


def _item(
    key: tuple[int, int, str, str],
    row: Row,
    first: tuple[Message, ...],
    second: tuple[Message, ...],
    votes: list[tuple[str, int]],
) -> Item:
    question, turn, a, b = key
    last = 2 * turn - 1
    if len(first) <= last or len(second) <= last or first[0] != second[0]:
        raise row.fail(f"the conversations do not reach turn {turn} of one question")
    counts = Counter(vote for _, vote in votes).most_common()
    top = -1 if len(counts) > 1 and counts[0][1] == counts[1][1] else counts[0][0]
    return Item(
        id=f"{question}-{turn}-{a}-{b}",
        subset=f"{_AREAS[(question - 81) // 10]}-{turn}",
        prompt=first[:1],
        turns=(first[1:last], second[1:last]) if turn == 2 else (),
        responses=(first[last].content, second[last].content),
        grades=(1.0, 1.0) if top < 0 else (float(top == 0), float(top == 1)),
        strength=abs(sum((v == 0) - (v == 1) for _, v in votes)) / len(votes),
        cluster=f"question-{question}",
        meta={"models": [a, b], "turn": turn, "votes": [[judge, vote] for judge, vote in votes]},
    )
