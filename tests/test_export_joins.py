"""Rows of other tools' files and the items that they are of: joined by id, by text or by place, turned, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import report_fixtures as made
from rmbench import store
from rmbench.core import Ballot, Facts, Item, Judgment, Message, Run, Suite
from rmbench.errors import BadData, RmbenchError
from rmbench.export import imports, rewardbench
from rmbench.metrics import summary

Row = dict[str, Any]


def pair(
    name: str, a: str, b: str, *, prompt: str = "Which?", subset: str = "sums", grades: Sequence[float] = (1, 0)
) -> Item:
    return Item(
        id=name,
        subset=subset,
        prompt=(Message(role="user", content=prompt),),
        responses=(a, b),
        grades=tuple(float(g) for g in grades),
    )


def suite(*items: Item) -> Suite:
    subsets = tuple(dict.fromkeys(item.subset for item in items))
    return msgspec.structs.replace(made.suite(1), categories={s: (s,) for s in subsets}, items=items)


def read(folder: Path, rows: Sequence[Row], source: str, of: Suite) -> tuple[dict[str, Judgment], dict[str, int]]:
    """The judgments, and how the rows were joined."""
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run, _, judgments = imports.read(file, source, of)
    return judgments, run.info["join"]


def refused(folder: Path, rows: Sequence[Row], source: str, of: Suite) -> str:
    with pytest.raises(BadData) as caught:
        read(folder, rows, source, of)
    return str(caught.value)


def turned(of: Suite) -> Suite:
    """The same items with their sides exchanged, as another revision may have them."""
    return msgspec.structs.replace(
        of,
        items=tuple(
            msgspec.structs.replace(i, responses=i.responses[::-1], grades=i.grades[::-1], turns=i.turns[::-1])
            for i in of.items
        ),
    )


ONE = pair("sums/0", "It is 4.", "It is 5.", prompt="What is 2 + 2?")

VERDICTS: dict[str, tuple[Row, tuple[float, float]]] = {
    "judgebench": (
        {
            "pair_id": "sums/0",
            "question": "What is 2 + 2?",
            "response_A": "It is 4.",
            "response_B": "It is 5.",
            "label": "A>B",
            "judgments": [{"decision": "A>B"}, {"decision": "B>A"}],
        },
        (1, 0),
    ),
    "judgebench of a scalar model": (
        {
            "pair_id": "sums/0",
            "question": "What is 2 + 2?",
            "response_A": "It is 4.",
            "response_B": "It is 5.",
            "judge_name": "reward_model",
            "judgments": [{"judgment": {"scores": [7.5, 2.5]}, "decision": "A>B"}],
        },
        (7.5, 2.5),
    ),
    "llmbar": (
        {
            "input": "What is 2 + 2?",
            "output_1": "It is 4.",
            "output_2": "It is 5.",
            "label": 1,
            "results": [{"swap = False": {"winner": "1"}, "swap = True": {"winner": "2"}}],
        },
        (0.5, 0.5),
    ),
    "alpaca-eval": (
        {"instruction": "What is 2 + 2?", "output_1": "It is 4.", "output_2": "It is 5.", "preference": 1.25},
        (0.75, 0.25),
    ),
    "rewardbench": (
        {
            "id": "sums/0",
            "prompt": "What is 2 + 2?",
            "text_chosen": "It is 4.",
            "text_rejected": "It is 5.",
            "scores_chosen": 3.0,
            "scores_rejected": 1.0,
        },
        (3, 1),
    ),
    "rewardbench without scores": (
        {
            "prompt": "What is 2 + 2?",
            "text_chosen": [
                {"role": "user", "content": "What is 2 + 2?"},
                {"role": "assistant", "content": "It is 4."},
            ],
            "text_rejected": [
                {"role": "user", "content": "What is 2 + 2?"},
                {"role": "assistant", "content": "It is 5."},
            ],
            "results": 0,
        },
        (0, 1),
    ),
    "jsonl": ({"id": "sums/0", "responses": ["It is 4.", "It is 5."], "scores": [9, 2]}, (9, 2)),
    "jsonl with ballots": (
        {
            "id": "sums/0",
            "response_a": "It is 4.",
            "response_b": "It is 5.",
            "ballots": [{"shown": [0, 1], "picked": 0}, {"shown": [1, 0], "picked": 0}],
        },
        (1, 0),
    ),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_the_texts_say_which_side_is_which(name: str, tmp_path: Path) -> None:
    row, scores = VERDICTS[name]
    source = name.split()[0]
    of = suite(ONE)
    straight, counts = read(tmp_path, [row], source, of)
    assert straight["sums/0"].scores == scores
    assert (counts["checked"], counts["turned"]) == (1, 0)
    exchanged, counts = read(tmp_path, [row], source, turned(of))
    assert exchanged["sums/0"].scores == scores[::-1]
    assert (counts["checked"], counts["turned"]) == (1, 1 if source != "rewardbench" else 0)
    for before, after in zip(straight["sums/0"].ballots, exchanged["sums/0"].ballots, strict=True):
        assert after.shown == tuple(1 - k for k in before.shown)
        assert after.picked == (None if before.picked is None else 1 - before.picked)


def test_a_score_file_from_before_a_label_was_corrected(tmp_path: Path) -> None:
    """What the file calls chosen is our rejected response: 100.0 would be told of a model that is always wrong."""
    of = suite(*(pair(f"sums/{n}", f"{n} is right", f"{n} is wrong", prompt=f"{n}?") for n in range(8)))
    rows = [
        {
            "subset": "sums", "id": n, "prompt": f"{n}?", "text_chosen": f"{n} is wrong",
            "text_rejected": f"{n} is right", "scores_chosen": 2.0, "scores_rejected": 1.0, "results": 1,
        }
        for n in range(8)
    ]  # fmt: skip
    judgments, counts = read(tmp_path, rows, "rewardbench", of)
    assert all(j.scores == (1.0, 2.0) for j in judgments.values())
    assert (counts["id"], counts["turned"]) == (8, 8)
    facts = [Facts.of(item) for item in of.items]
    assert summary.main(summary.estimates(of.card(), facts, judgments))["overall"].value == 0.0


TEMPLATES = {
    "chatml": "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{response}<|im_end|>\n",
    "plain": "Human: {prompt}\n\nAssistant: {response}",
}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=list(TEMPLATES))
@pytest.mark.parametrize("trimmed", [False, True])
@pytest.mark.parametrize("ids", [True, False])
def test_texts_inside_a_rendered_conversation(template: str, trimmed: bool, ids: bool, tmp_path: Path) -> None:
    """reward-bench keeps what its chat template made; each answer here stands in the prompt or in the other one."""
    items = (
        pair("sums/0", "yes", "no", prompt="Say yes or no: is 7 prime?"),
        pair("sums/1", "no", "yes", prompt="Say yes or no: is 8 prime?"),
        pair("sums/2", "7", "77 ", prompt="Which is 7 times 11, 7 or 77?"),
        pair("sums/3", "\nab", "", prompt="Write ab."),
    )
    rows: list[Row] = []
    for n, item in enumerate(items):
        texts = [
            template.format(prompt=item.prompt[0].content, response=r.strip() if trimmed else r) for r in item.responses
        ]
        row = {"text_chosen": texts[0], "text_rejected": texts[1], "scores_chosen": n, "scores_rejected": 0.5}
        rows.append(row | ({"subset": "sums", "id": n} if ids else {"prompt": item.prompt[0].content}))
    for of in (suite(*items), turned(suite(*items))):
        judgments, counts = read(tmp_path, rows[::-1], "rewardbench", of)
        assert (counts["id"], counts["text"], counts["checked"]) == ((4, 0, 4) if ids else (0, 4, 4))
        for n, item in enumerate(items):
            said = judgments[item.id].scores
            assert said == ((n, 0.5) if of.items[0].responses == items[0].responses else (0.5, n))


def test_a_rendered_conversation_shows_its_prompt_too(tmp_path: Path) -> None:
    """Answers that many items share, under ids that are off by one: only what is asked gives it away."""
    of = suite(*(pair(f"sums/{n}", "yes", "no", prompt=f"Is {n} prime?") for n in (7, 8)))
    row = {"id": "sums/7", "scores_chosen": 1, "scores_rejected": 0}
    for n in (7, 8):
        for side, said in (("chosen", "yes"), ("rejected", "no")):
            row[f"text_{side}"] = TEMPLATES["chatml"].format(prompt=f"Is {n} prime?", response=said)
        if n == 7:
            assert read(tmp_path, [row], "rewardbench", of)[0]["sums/7"].scores == (1, 0)
    assert "is not that of item 'sums/7'" in refused(tmp_path, [row], "rewardbench", of)


def test_what_follows_an_answer_may_look_like_it(tmp_path: Path) -> None:
    row = {"id": "sums/0", "text_chosen": "Xaaa", "text_rejected": "Xbba", "scores_chosen": 2, "scores_rejected": 1}
    of = suite(pair("sums/0", "bb", "aa", prompt="X"))
    assert read(tmp_path, [row], "rewardbench", of)[0]["sums/0"].scores == (1, 2)


def test_two_pairs_that_differ_in_white_space_alone_stay_two(tmp_path: Path) -> None:
    of = suite(pair("sums/0", "x y", "z"), pair("sums/1", "x  y", "z"))
    rows = [{"prompt": "Which?", "responses": ["z", x], "scores": [1, k]} for k, x in ((2, "x y"), (3, "x  y"))]
    judgments, counts = read(tmp_path, rows, "jsonl", of)
    assert {i: j.scores for i, j in judgments.items()} == {"sums/0": (2, 1), "sums/1": (3, 1)}
    assert counts["text"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"response_A": "It is 6."}, "its text 'It is 6.' is no response of item 'sums/0', which its id names"),
        ({"question": "What is 2 + 3?"}, "its prompt 'What is 2 .* is not that of item 'sums/0'"),
        ({"response_A": "It is 5.", "response_B": "It is 5."}, "is no response of item 'sums/0'"),
        ({"pair_id": "sums/1"}, r"is no response of item 'sums/1', which its id names \(it is that of 'sums/0'\)"),
        ({"subset": "proofs"}, "is of subset 'sums', and the row says 'proofs'"),
    ],
)
def test_texts_that_contradict_the_id_are_refused_by_name(change: Row, message: str, tmp_path: Path) -> None:
    of = suite(ONE, pair("sums/1", "It is 8.", "It is 9.", prompt="What is 4 + 4?"))
    row = VERDICTS["judgebench"][0] | change
    with pytest.raises(BadData, match=r"rows\.jsonl: row 1: .*" + message):
        read(tmp_path, [row], "judgebench", of)


def test_faults_are_counted(tmp_path: Path) -> None:
    of = suite(*(pair(f"sums/{n}", f"{n} a", f"{n} b") for n in range(4)))
    rows = [
        {"id": f"sums/{n}", "responses": [f"{n} a", f"{n} b" if n < 2 else "c"], "scores": [1, 0]} for n in range(4)
    ]
    said = refused(tmp_path, rows, "jsonl", of)
    assert "row 3: its text 'c' is no response of item 'sums/2'" in said
    assert "2 of 4 rows" in said
    assert "--data" in said


def test_white_space_counts_where_it_tells_sides_apart(tmp_path: Path) -> None:
    good, bad = "if x:\n    y()\n    z()", "if x:\n    y()\nz()"
    of = suite(pair("sums/0", good, bad), pair("sums/1", "one  two", "three"))
    rows = [
        {"id": "sums/0", "responses": [bad + "\n", good + "\n"], "scores": [1, 2]},
        {"id": "sums/1", "responses": ["three", "one two\n"], "scores": [1, 2]},
    ]
    judgments, counts = read(tmp_path, rows, "jsonl", of)
    assert [j.scores for j in judgments.values()] == [(2, 1), (2, 1)]
    assert counts["turned"] == 2
    lost = [{"id": "sums/0", "responses": ["if x: y() z()", "if x: y() z()"], "scores": [1, 2]}]
    assert "is no response of item 'sums/0'" in refused(tmp_path, lost, "jsonl", of)


def test_equal_answers_stay_as_the_file_has_them(tmp_path: Path) -> None:
    of = suite(pair("sums/0", "same", "same", grades=(1, 1)))
    judgments, counts = read(tmp_path, [{"id": "sums/0", "responses": ["same", "same"], "scores": [1, 2]}], "jsonl", of)
    assert judgments["sums/0"].scores == (1, 2)
    assert counts["turned"] == 0


def test_a_pair_in_two_subsets_goes_where_the_row_says_or_nowhere(tmp_path: Path) -> None:
    of = suite(pair("sums/0", "a", "b"), pair("proofs/9", "a", "b", subset="proofs"))
    row = {"prompt": "Which?", "text_chosen": "a", "text_rejected": "b", "scores_chosen": 1, "scores_rejected": 0}
    for subset, name in (("sums", "sums/0"), ("proofs", "proofs/9")):
        judgments, counts = read(tmp_path, [row | {"subset": subset}], "rewardbench", of)
        assert list(judgments) == [name]
        assert counts["text"] == 1
    said = refused(tmp_path, [row], "rewardbench", of)
    assert "item 'sums/0' and item 'proofs/9'" in said
    assert "'subset'" in said
    # The prompt tells them apart as well.
    other = suite(of.items[0], pair("proofs/9", "a", "b", subset="proofs", prompt="Which, then?"))
    judgments, _ = read(tmp_path, [row | {"prompt": "Which, then?"}], "rewardbench", other)
    assert list(judgments) == ["proofs/9"]


def test_a_tail_of_an_id_that_two_items_have_is_refused_naming_both(tmp_path: Path) -> None:
    of = suite(
        *(pair(f"{s}/{n}", f"{s} {n} a", f"{s} {n} b", subset=s) for s in ("math", "code") for n in range(3)),
    )
    rows: list[Row] = [{"id": n, "scores": [1, 0]} for n in range(3)]
    said = refused(tmp_path, rows, "jsonl", of)
    assert "id 0 can mean item 'math/0' and item 'code/0'" in said
    for row in rows:
        row["subset"] = "code"
    judgments, counts = read(tmp_path, rows, "jsonl", of)
    assert list(judgments) == ["code/0", "code/1", "code/2"]
    assert counts["id"] == 3
    # Texts tell which is meant; a tail of one item alone needs nothing more.
    judgments, counts = read(
        tmp_path, [{"id": 1, "responses": ["code 1 b", "code 1 a"], "scores": [1, 0]}], "jsonl", of
    )
    assert judgments["code/1"].scores == (0, 1)
    said = refused(tmp_path, [{"id": 1, "responses": ["code 2 b", "code 2 a"], "scores": [1, 0]}], "jsonl", of)
    assert "is no response of item 'math/1', which its id names (it is that of 'code/2')" in said
    assert list(read(tmp_path, [{"id": 2.0, "scores": [1, 0]}], "jsonl", suite(*of.items[:3]))[0]) == ["math/2"]


def test_a_join_by_place_alone_is_said(tmp_path: Path) -> None:
    of = suite(*(pair(f"sums/{n}", f"{n} a", f"{n} b", prompt=f"{n}?") for n in range(4)))
    rows: list[Row] = [{"scores_chosen": float(n), "scores_rejected": 0.5} for n in range(4)]
    rows[0] |= {"text_chosen": "User: 0? Bot: 0 b", "text_rejected": "User: 0? Bot: 0 a"}
    file = tmp_path / "old.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    run, _, judgments = imports.read(file, "rewardbench", of)
    assert [j.scores for j in judgments.values()] == [(0.5, 0), (1, 0.5), (2, 0.5), (3, 0.5)]
    join = run.info["join"]
    assert (join["place"], join["place alone"], join["turned"]) == (4, 3, 1)
    assert any(note.startswith("3 rows were joined by their place in the file alone") for note in run.notes)
    # Texts of another item are not joined by place, and neither is an id that no item has.
    rows[0]["text_chosen"] = "User: 1? Bot: 1 a"
    assert "which its place names" in refused(tmp_path, rows, "rewardbench", of)
    strange = [{"id": 70 + n, "scores_chosen": 1, "scores_rejected": 0} for n in range(4)]
    assert "fit no item" in refused(tmp_path, strange, "rewardbench", of)


def test_the_join_is_reported(tmp_path: Path) -> None:
    of = suite(*(pair(f"sums/{n}", f"{n} a", f"{n} b", prompt=f"{n}?") for n in range(5)))
    rows: list[Row] = [
        {"id": "sums/0", "scores": [1, 0]},
        {"prompt": "1?", "responses": ["1 b", "1 a"], "scores": [1, 0]},
        {"id": 2, "responses": ["2 a", "2 b"], "scores": [1, 0]},
    ]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    run, _, _ = imports.read(file, "jsonl", of)
    assert run.info["join"] == {
        "rows": 3, "id": 2, "text": 1, "place": 0, "place alone": 0, "checked": 2, "turned": 1, "left over": 0,
        "items left over": 2,
    }  # fmt: skip
    assert (
        "rows joined: 2 by id, 1 by text, 0 by place; texts compared in 2; sides exchanged back in 1; left over: "
        "0 rows, 2 items"
    ) in run.notes


@pytest.mark.parametrize(
    ("source", "row"),
    [
        ("judgebench", {"pair_id": "sums/0", "label": "B>A", "judgments": [{"decision": "A>B"}]}),
        ("llmbar", {"id": "sums/0", "label": 2, "winner_original_order": "1", "winner_swapped_order": "1"}),
    ],
)
def test_a_label_that_contradicts_is_refused_where_no_texts_tell(source: str, row: Row, tmp_path: Path) -> None:
    assert "the other side is the better one" in refused(tmp_path, [row], source, suite(ONE))
    agreeing = row | {"label": {"B>A": "A>B", 2: 1}[row["label"]]}
    assert read(tmp_path, [agreeing], source, suite(ONE))[0]["sums/0"].scores == (1, 0)


def test_a_line_of_judgments_of_another_version_of_the_item_is_refused(tmp_path: Path) -> None:
    row = {"item_id": "sums/0", "scores": [1, 0], "hash": ONE.content_hash()}
    assert read(tmp_path, [row], "jsonl", suite(ONE))[0]["sums/0"].scores == (1, 0)
    assert "another version of item 'sums/0'" in refused(tmp_path, [row], "jsonl", turned(suite(ONE)))


def mt_bench(a: str, b: str, turn: int = 1) -> Row:
    def talk(model: str) -> list[Row]:
        said = ["Write a line.", f"{model} wrote", "Once more.", f"{model} again"]
        return [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(said)]

    return {
        "question_id": 81, "turn": turn, "model_a": a, "model_b": b, "judge": "gpt4_pair", "winner": "model_a",
        "conversation_a": talk(a), "conversation_b": talk(b),
    }  # fmt: skip


@pytest.mark.parametrize("turn", [1, 2])
def test_mt_bench_compares_the_answers_of_the_turn(turn: int, tmp_path: Path) -> None:
    word = ("wrote", "again")[turn - 1]
    of = suite(pair(f"81-{turn}-alpaca-gpt-4", f"alpaca {word}", f"gpt-4 {word}", prompt="Write a line."))
    for a, b, scores in (("alpaca", "gpt-4", (1, 0)), ("gpt-4", "alpaca", (0, 1))):
        judgments, counts = read(tmp_path, [mt_bench(a, b, turn)], "mt-bench", of)
        assert [j.scores for j in judgments.values()] == [scores]
        assert (counts["checked"], counts["turned"]) == (1, int(a > b))
        bare = {k: v for k, v in mt_bench(a, b, turn).items() if not k.startswith("conversation")}
        judgments, counts = read(tmp_path, [bare], "mt-bench", of)
        assert [j.scores for j in judgments.values()] == [scores]
        assert (counts["checked"], counts["turned"]) == (0, int(a > b))
    row = mt_bench("alpaca", "gpt-4", turn)
    row["conversation_a"], row["conversation_b"] = row["conversation_b"], row["conversation_a"]
    assert "each model's answer is the other one's" in refused(tmp_path, [row], "mt-bench", of)
    for tie in ("tie", "tie (bothbad)", "both_bad"):
        judgments, _ = read(tmp_path, [mt_bench("alpaca", "gpt-4", turn) | {"winner": tie}], "mt-bench", of)
        assert all(b.tie for j in judgments.values() for b in j.ballots)


# Any suite, any run

EXAMPLES = pytest.mark.parametrize(
    "examples", [60, pytest.param(600, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)


def search(examples: int) -> Callable[[Callable[..., None]], None]:
    return lambda check: settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples <= 100,
        suppress_health_check=list(HealthCheck),
    )(check)()


tricky = st.sampled_from([
    "yes", "no", "Yes", "yes ", " yes", "yes yes", "y", "a", "aa", "aba", "", "Which?", "Say yes or no.", "x  y", "x y",
    "x\ny", "def f():\n  return 1", "def f():\n    return 1", "\u00e9", "e\u0301", "\U0001f600", "{}", "<|im_end|>\n",
])  # fmt: skip
texts = tricky | st.text(alphabet=st.characters(codec="utf-8"), max_size=6)
prompts = st.sampled_from(["Which?", "Say yes or no.", "Which one?\n"])


@st.composite
def suites_and_runs(draw: st.DrawFn, sizes: tuple[int, ...]) -> tuple[Suite, dict[str, Judgment]]:
    """Items that an id or a subset, the prompt and the responses tell apart; one pair may stand in two subsets."""
    items: list[Item] = []
    seen = set()
    for n in range(draw(st.integers(1, 6))):
        k = draw(st.sampled_from(sizes))
        responses = draw(st.lists(texts, min_size=k, max_size=k, unique=True))
        asked = draw(prompts)
        subset = draw(st.sampled_from(["sums", "proofs"]))
        key = (subset, asked, tuple(sorted(responses)))
        if key in seen:
            continue
        seen.add(key)
        turns = [Message(role="user", content="Hello."), Message(role="assistant", content="Hello!")]
        items.append(
            Item(
                id=f"{subset}/{n}",
                subset=subset,
                prompt=(*(turns if draw(st.booleans()) else ()), Message(role="user", content=asked)),
                responses=tuple(responses),
                grades=tuple(float(g) for g in draw(st.permutations([1] + [0] * (len(responses) - 1)))),
            )
        )
    scores = st.floats(-4, 4, allow_nan=False).map(lambda x: round(x, 1))
    judgments = {}
    for item in items:
        k = len(item.responses)
        if draw(st.integers(0, 7)) == 0:
            judgments[item.id] = Judgment(item_id=item.id, error="timed out")
        elif draw(st.booleans()):
            judgments[item.id] = Judgment(item_id=item.id, scores=tuple(draw(scores) for _ in range(k)))
        else:
            shown = [tuple(range(k)), tuple(range(k))[::-1]]
            cast = [Ballot(shown=s, picked=draw(st.sampled_from(s))) for s in shown]
            judgments[item.id] = Judgment.voted(item, cast)
    return suite(*items), judgments


def exchanged(draw: st.DrawFn, of: Suite) -> tuple[Suite, dict[str, tuple[int, ...]]]:
    """The suite with the responses of its items in any order; and per item which response stands where."""
    items, orders = [], {}
    for item in of.items:
        order = tuple(draw(st.permutations(range(len(item.responses)))))
        orders[item.id] = order
        items.append(
            msgspec.structs.replace(
                item,
                responses=tuple(item.responses[k] for k in order),
                grades=tuple(item.grades[k] for k in order),
            )
        )
    return msgspec.structs.replace(of, items=tuple(items)), orders


def numbers(of: Suite, judgments: dict[str, Judgment]) -> dict[str, tuple[Any, ...]]:
    found = summary.main(summary.estimates(of.card(), [Facts.of(i) for i in of.items], judgments, further=False))
    return {
        scope: (None if e.value is None else pytest.approx(e.value), e.n, e.missing, e.errors, e.wins, e.ties, e.losses)
        for scope, e in found.items()
    }


def asked(item: Item) -> Any:
    turns = [{"role": m.role, "content": m.content} for m in item.prompt]
    return turns if len(turns) > 1 else turns[0]["content"]


@EXAMPLES
def test_a_run_written_as_lines_comes_back(examples: int, tmp_path: Path) -> None:
    @search(examples)
    @given(st.data(), suites_and_runs((1, 2, 3, 4)))
    def _(data: st.DataObject, case: tuple[Suite, dict[str, Judgment]]) -> None:
        of, judgments = case
        rows = []
        for item in of.items:
            line = json.loads(msgspec.json.encode(judgments[item.id]))
            line |= {"subset": item.subset, "prompt": asked(item), "responses": list(item.responses)}
            if data.draw(st.booleans()):
                del line["item_id"]
            rows.append(line)
        other, orders = exchanged(data.draw, of)
        back, counts = read(tmp_path, data.draw(st.permutations(rows)), "jsonl", other)
        assert counts["checked"] == counts["rows"] == len(of.items)
        assert counts["turned"] == sum(order != tuple(sorted(order)) for order in orders.values())
        for name, order in orders.items():
            before, after = judgments[name], back[name]
            assert after.error == before.error
            if before.scores is not None:
                assert after.scores == tuple(before.scores[k] for k in order)
            for old, new in zip(before.ballots, after.ballots, strict=True):
                assert tuple(order[k] for k in new.shown) == old.shown
                assert new.picked is not None
                assert order[new.picked] == old.picked
        assert numbers(other, back) == numbers(of, judgments)


@EXAMPLES
@pytest.mark.parametrize("template", [None, *TEMPLATES.values()], ids=["texts", *TEMPLATES])
def test_a_run_exported_as_reward_bench_writes_comes_back(examples: int, template: str | None, tmp_path: Path) -> None:
    stored = store.read(made.run(tmp_path, suite(ONE), "m"))

    @search(examples)
    @given(st.data(), suites_and_runs((2,)))
    def _(data: st.DataObject, case: tuple[Suite, dict[str, Judgment]]) -> None:
        of, judgments = case
        # Of both orders of a judge the format keeps the scores alone.
        judgments = {i: msgspec.structs.replace(j, ballots=()) for i, j in judgments.items()}
        run = msgspec.structs.replace(stored.run, suite=of.card())
        facts = tuple(Facts.of(item) for item in of.items)
        files = rewardbench.export(
            stored._replace(run=run, facts=facts, judgments=judgments), {item.content_hash(): item for item in of.items}
        )
        rows = [json.loads(line) for line in files["m_outputs.jsonl"].splitlines()]
        for row in rows:
            item = next(i for i in of.items if i.id == row["id"])
            if data.draw(st.booleans()):
                del row["id"]
            if data.draw(st.booleans()) and row["scores_chosen"] is not None:  # labels the other way round
                for what in ("text", "scores"):
                    a, b = f"{what}_chosen", f"{what}_rejected"
                    row[a], row[b] = row[b], row[a]
            if template is not None:
                for side in ("text_chosen", "text_rejected"):
                    row[side] = template.format(prompt=item.prompt[-1].content, response=row[side])
                row["prompt"] = item.prompt[-1].content if data.draw(st.booleans()) else row["prompt"]
        other, _ = exchanged(data.draw, of)
        back, counts = read(tmp_path, data.draw(st.permutations(rows)), "rewardbench", other)
        assert counts["checked"] == len(of.items)
        assert numbers(other, back) == numbers(of, judgments)


@EXAMPLES
def test_a_judges_verdicts_written_as_judgebench_does_come_back(examples: int, tmp_path: Path) -> None:
    @search(examples)
    @given(st.data(), suites_and_runs((2,)))
    def _(data: st.DataObject, case: tuple[Suite, dict[str, Judgment]]) -> None:
        of, _ = case
        first, second = (
            st.sampled_from(["A>B", "A>>B", "B>A", "B>>A", "A=B"]),
            st.sampled_from(["A>B", "B>A", "A=B", None]),
        )
        rows: list[Row] = []
        for item in of.items:
            said = [{"decision": data.draw(first)}, {"decision": data.draw(second)}]
            rows.append(
                {
                    "pair_id": item.id, "subset": item.subset, "question": item.prompt[-1].content, "judgments": said,
                    "response_A": item.responses[0], "response_B": item.responses[1],
                }
            )  # fmt: skip
        straight, _ = read(tmp_path, rows, "judgebench", of)
        for row in rows:
            if data.draw(st.booleans()):
                del row["pair_id"]
        other, orders = exchanged(data.draw, of)
        back, counts = read(tmp_path, data.draw(st.permutations(rows)), "judgebench", other)
        assert counts["turned"] == sum(order == (1, 0) for order in orders.values())
        assert numbers(other, back) == numbers(of, straight)


def said(error: RmbenchError, file: Path) -> None:
    assert str(file) in str(error)


scalars = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.just(10**400) | texts | st.just("\ud800")
    | st.sampled_from(["A>B", "A>>B", "model_a", "tie", "1", "2", "sums/0", "0", "sums", "It is 4.", "It is 5."])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "decision", "judgment", "scores", "swap = False", "winner"]), inner
        )
    ),
    max_leaves=8,
)


@EXAMPLES
@pytest.mark.parametrize("source", sorted(imports.FORMATS))
def test_rows_of_any_kind_are_read_or_named(examples: int, source: str, tmp_path: Path) -> None:
    goods = [row for name, (row, _) in VERDICTS.items() if name.startswith(source)] or [mt_bench("alpaca", "gpt-4")]
    of = suite(ONE, pair("81-1-alpaca-gpt-4", "alpaca wrote", "gpt-4 wrote", prompt="Write a line."))
    file = tmp_path / "rows.jsonl"

    @search(examples)
    @given(st.data())
    def _(data: st.DataObject) -> None:
        row: Any = dict(data.draw(st.sampled_from(goods)))
        for key in data.draw(st.lists(st.sampled_from([*row, "subset", "index", "error", "hash"]), max_size=2)):
            row[key] = data.draw(values)
        rows = [row if data.draw(st.integers(0, 20)) else data.draw(values)]
        file.write_text(data.draw(st.sampled_from([json.dumps(rows), "\n".join(map(json.dumps, rows))])))
        try:
            run, facts, judgments = imports.read(file, source, of)
        except RmbenchError as error:
            said(error, file)
            return
        # What was read can be written down.
        assert msgspec.json.decode(msgspec.json.encode(judgments), type=dict[str, Judgment]) == judgments
        assert msgspec.json.decode(msgspec.json.encode(run), type=Run) == run
        assert summary.estimates(of.card(), facts, judgments, further=False)
