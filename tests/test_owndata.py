"""Your own data: which columns are recognised as what, conversations in three forms, faults with their place."""

from __future__ import annotations

import csv
import gzip
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rmbench import suites
from rmbench.core import Facts, Message, Suite
from rmbench.errors import BadData, UnknownName, UsageError
from rmbench.owndata import recognise

Load = Callable[..., Suite]


@pytest.fixture
def of(tmp_path: Path) -> Load:
    def make(*rows: dict[str, Any], file: str = "mine.jsonl", **more: Any) -> Suite:
        path = tmp_path / file
        text = "".join(json.dumps(r) + "\n" for r in rows)
        if file.endswith(".gz"):
            path.write_bytes(gzip.compress(text.encode()))
        elif file.endswith(".csv"):
            with path.open("w", newline="", encoding="utf-8") as opened:
                writer = csv.DictWriter(opened, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        elif file.endswith(".parquet"):
            pa = pytest.importorskip("pyarrow")
            import pyarrow.parquet as parquet

            parquet.write_table(pa.Table.from_pylist(list(rows)), path)
        else:
            path.write_text(text, encoding="utf-8")
        return suites.load(str(path), **more)

    return make


PAIR = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"}


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        (["prompt", "chosen", "rejected"], "pairs"),
        (["chosen", "rejected"], "pairs"),
        (["question", "Chosen", "Rejected", "label"], "pairs"),
        (["instruction", "response_a", "response_b", "winner"], "votes"),
        (["prompt", "response_A", "response_B", "label"], "votes"),
        (["prompt", "response_1", "response_2", "preference"], "votes"),
        (["messages", "responses", "grades"], "rankings"),
        (["prompt", "responses", "scores"], "rankings"),
        (["prompt", "responses", "ranks"], "ranks"),
        (["prompt", "response", "label"], "labels"),
        (["prompt", "response", "safe"], "labels"),
        (["prompt", "response", "score"], "labels"),
    ],
)
def test_forms(columns: list[str], kind: str) -> None:
    assert recognise(columns).kind == kind


def test_the_description_names_what_is_used_and_what_is_not() -> None:
    read = recognise(["question", "chosen", "rejected", "input", "category"])
    assert str(read) == "read as pairs: chosen, rejected, prompt=question, subset=category; not used: input"


def test_overrides_go_first_and_decide_the_form() -> None:
    columns = ["prompt", "chosen", "rejected", "good", "bad", "text", "ok"]
    read = recognise(columns, {"chosen": "good", "rejected": "bad"})
    assert (read.columns["chosen"], read.columns["rejected"]) == ("good", "bad")
    assert recognise(columns, {"response": "text", "label": "ok"}).kind == "labels"
    assert recognise(["a", "b", "q"], {"chosen": "a", "rejected": "b", "prompt": "q"}).kind == "pairs"


def test_what_cannot_be_recognised_says_how_to_go_on() -> None:
    with pytest.raises(UsageError, match=r"columns text, tag fit no known form.*--columns"):
        recognise(["text", "tag"])
    with pytest.raises(UnknownName, match="'choosen'; did you mean chosen"):
        recognise(["a"], {"choosen": "a"})
    with pytest.raises(UnknownName, match="unknown column 'god'; did you mean good"):
        recognise(["good", "rejected"], {"chosen": "god"})


@pytest.mark.parametrize("file", ["mine.jsonl", "mine.jsonl.gz", "mine.csv", "mine.parquet"])
def test_kinds_of_files_give_the_same_items(of: Load, file: str) -> None:
    rows = [PAIR | {"subset": "x"}, {"prompt": 'A, "b"\nc?', "chosen": "é", "rejected": "1", "subset": "y"}]
    suite = of(*rows, file=file)
    assert suite.name == "mine"
    assert [i.id for i in suite.items] == ["mine-0", "mine-1"]
    assert [i.subset for i in suite.items] == ["x", "y"]
    assert suite.items[1].prompt == (Message(role="user", content='A, "b"\nc?'),)
    assert suite.items[1].responses == ("é", "1")
    assert suite.categories == {"x": ("x",), "y": ("y",)}
    assert suite.content_hash() == of(*rows).content_hash()


@pytest.mark.parametrize("text", ["[1, 2]", "[]", '[{"a": 1}]', '["x"]', "[", "[x] done"])
def test_a_text_in_brackets_is_a_text(of: Load, text: str) -> None:
    (item,) = of({"prompt": text, "chosen": text, "rejected": "[2, 1]"}).items
    assert (item.prompt[0].content, item.responses) == (text, (text, "[2, 1]"))
    (item,) = of({"prompt": text, "response": text, "label": 1}, {"prompt": "p", "response": "r", "label": 0}).items[:1]
    assert (item.prompt[0].content, item.responses) == (text, (text,))


def test_a_long_answer_in_a_csv(of: Load) -> None:
    (item,) = of(PAIR | {"chosen": "a" * 300_000}, file="mine.csv").items
    assert len(item.responses[0]) == 300_000


def test_numbers_in_a_csv_may_have_a_point(of: Load) -> None:
    rows = [{"prompt": f"q{i}", "response": "r", "label": value} for i, value in enumerate(("1.0", "0.0", "1"))]
    assert [i.grades for i in of(*rows, file="mine.csv").items] == [(1.0,), (0.0,), (1.0,)]
    vote = {"prompt": "q", "response_a": "a", "response_b": "b", "winner": "2.0"}
    assert of(vote, file="mine.csv").items[0].grades == (0.0, 1.0)


def test_an_empty_id_is_none(of: Load) -> None:
    assert [i.id for i in of(PAIR | {"id": ""}, PAIR | {"id": None}).items] == ["mine-0", "mine-1"]


def test_one_character_changes_the_version(of: Load) -> None:
    assert of(PAIR).version != of(PAIR | {"prompt": "Hi."}).version


def test_subset_column_and_notes(of: Load) -> None:
    suite = of(PAIR | {"team": "billing"}, subset_column="team")
    assert suite.items[0].subset == "billing"
    assert suite.notes[0] == "read as pairs: chosen, rejected, prompt, subset=team"
    with pytest.raises(UnknownName, match="column 'tema'"):
        of(PAIR | {"team": "billing"}, subset_column="tema")
    with pytest.raises(BadData, match=r"mine\.jsonl:1: 'team' is None"):
        of(PAIR | {"team": None}, subset_column="team")


def test_ids_are_taken_or_made(of: Load) -> None:
    assert [i.id for i in of(PAIR | {"id": 7}, PAIR | {"id": "b"}).items] == ["7", "b"]
    with pytest.raises(BadData, match=r"mine\.jsonl:2: duplicate id '7', first at .*mine\.jsonl:1"):
        of(PAIR | {"id": 7}, PAIR | {"id": 7})


# Conversations


def talk(*said: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]


DIALOGUE = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: More\n\nAssistant: "


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": talk("Hi", "Hello", "More"), "chosen": "yes", "rejected": "no"},
        {"messages": talk("Hi", "Hello", "More"), "chosen": talk("Hi", "Hello", "More", "yes"), "rejected": "no"},
        {"prompt": talk("Hi", "Hello", "More"), "chosen": [talk("", "yes")[1]], "rejected": [talk("", "no")[1]]},
        {"chosen": talk("Hi", "Hello", "More", "yes"), "rejected": talk("Hi", "Hello", "More", "no")},
        {"chosen": DIALOGUE + "yes", "rejected": DIALOGUE + "no"},
        {"prompt": DIALOGUE.removesuffix("\n\nAssistant: "), "chosen": "yes", "rejected": "no"},
        {
            "chosen": [{"from": m["role"], "value": m["content"]} for m in talk("Hi", "Hello", "More", "yes")],
            "rejected": [
                {"from": {"user": "human", "assistant": "gpt"}[m["role"]], "value": m["content"]}
                for m in talk("Hi", "Hello", "More", "no")
            ],
        },
    ],
)
def test_conversations_in_every_form_are_the_same_item(of: Load, row: dict[str, Any]) -> None:
    (item,) = of(row).items
    assert [(m.role, m.content) for m in item.prompt] == [("user", "Hi"), ("assistant", "Hello"), ("user", "More")]
    assert item.responses == ("yes", "no")
    assert item.turns == ()


def test_answers_of_earlier_turns_may_differ(of: Load) -> None:
    (item,) = of({"chosen": talk("Hi", "A1", "More", "A2"), "rejected": talk("Hi", "B1", "More", "B2")}).items
    assert [m.content for m in item.conversation(0)] == ["Hi", "A1", "More", "A2"]
    assert [m.content for m in item.conversation(1)] == ["Hi", "B1", "More", "B2"]
    assert [m.content for m in item.prompt] == ["Hi"]


def test_a_system_message_goes_first(of: Load) -> None:
    (item,) = of(PAIR | {"system": "Be brief."}).items
    assert item.prompt[0] == Message(role="system", content="Be brief.")


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"chosen": talk("Hi", "a"), "rejected": talk("Ho", "b")}, "differ before the last answer"),
        ({"chosen": talk("Hi", "a"), "rejected": talk("Hi", "b", "More", "c")}, "differ before the last answer"),
        ({"chosen": "a", "rejected": "b"}, "there is no prompt"),
        (PAIR | {"prompt": ["Hi"]}, "'prompt' holds 'Hi'; a message is"),
        ({"chosen": talk("Hi", "a", "More"), "rejected": talk("Hi", "b")}, "does not end with the assistant"),
        ({"chosen": [talk("", "a")[1]], "rejected": [talk("", "b")[1]]}, "no turn before the answer"),
        ({"prompt": "Ho", "chosen": talk("Hi", "a"), "rejected": talk("Hi", "b")}, "does not begin with the prompt"),
        ({"prompt": talk("Hi", "a"), "chosen": "x", "rejected": "y"}, "ends with an assistant turn"),
        (PAIR | {"chosen": None}, "no 'chosen'; the columns are"),
        (PAIR | {"chosen": " "}, "'chosen' is empty"),
        (PAIR | {"chosen": True}, "'chosen' is True"),
        (PAIR | {"prompt": ""}, "'prompt' is empty"),
        (PAIR | {"prompt": [{"role": "bot", "content": "x"}]}, "no conversation"),
        ({"chosen": talk("Hi", " "), "rejected": talk("Hi", "b")}, "is empty"),
    ],
)
def test_pairs_that_are_none(of: Load, row: dict[str, Any], fault: str) -> None:
    with pytest.raises(BadData, match=r"mine\.jsonl:1: .*(" + fault + ")"):
        of(row)


# Votes, rankings, labels


@pytest.mark.parametrize(
    ("winner", "grades"),
    [
        ("a", (1, 0)),
        ("B", (0, 1)),
        ("model_b", (0, 1)),
        ("A>B", (1, 0)),
        (2.0, (0, 1)),
        ("A>>B", (1, 0)),
        ("both_bad", (1, 1)),
        ("tie", (1, 1)),
        ("tie (bothbad)", (1, 1)),
    ],
)
def test_winners(of: Load, winner: Any, grades: tuple[float, float]) -> None:
    (item,) = of({"prompt": "Hi", "response_a": "x", "response_b": "y", "winner": winner}).items
    assert item.grades == grades


@pytest.mark.parametrize("winner", [0, 1, False, True, None, "", "c", -2, 3])
def test_winners_that_could_mean_anything(of: Load, winner: Any) -> None:
    with pytest.raises(BadData, match=r"mine\.jsonl:1: 'winner' is .* must be a, b or tie.*--columns winner=winner:"):
        of({"prompt": "Hi", "response_a": "x", "response_b": "y", "winner": winner})


def test_rankings_by_grades_scores_and_ranks(of: Load) -> None:
    row = {"prompt": "Hi", "responses": ["x", "y", "z"]}
    assert of(row | {"grades": [3, 1.5, 2]}).items[0].grades == (3, 1.5, 2)
    assert of(row | {"scores": [0, 0, 1]}).items[0].grades == (0, 0, 1)
    assert of(row | {"ranks": [1, 3, 2]}).items[0].grades == (-1, -3, -2)
    cell = {"prompt": "Hi", "responses": '["x", "y"]', "grades": "[1, 0]"}
    assert of(cell, file="mine.csv").items[0].responses == ("x", "y")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"grades": [1, 2]}, "3 responses and 2"),
        ({"grades": [1, 2, "3"]}, "list of numbers"),
        ({"grades": [1, 2, True]}, "list of numbers"),
        ({"grades": "1"}, "list of numbers"),
        ({"responses": ["x", "", "z"]}, "texts that are not empty"),
        ({"responses": "x"}, "texts that are not empty"),
        ({"responses": ["x"], "grades": [1]}, "two responses or more"),
    ],
)
def test_rankings_that_are_none(of: Load, change: dict[str, Any], fault: str) -> None:
    with pytest.raises(BadData, match=r"mine\.jsonl:1: .*" + fault):
        of({"prompt": "Hi", "responses": ["x", "y", "z"], "grades": [1, 2, 3]} | change)


@pytest.mark.parametrize(
    ("label", "grade"), [(1, 1), (0, 0), (True, 1), (False, 0), ("safe", 1), ("Unsafe", 0), (1.0, 1), ("0", 0)]
)
def test_labels(of: Load, label: Any, grade: float) -> None:
    (item,) = of({"prompt": "Hi", "response": "x", "safe": label}).items
    assert (item.kind, item.grades) == ("binary", (grade,))


def test_other_numbers_rank_the_responses_of_a_prompt(of: Load) -> None:
    rows = [("Hi", "x", 0.5), ("Ho", "u", 1), ("Hi", "y", 2), ("Ho", "v", 0)]
    suite = of(*({"prompt": p, "response": r, "score": s} for p, r, s in rows))
    assert [(i.responses, i.grades) for i in suite.items] == [(("x", "y"), (0.5, 2)), (("u", "v"), (1, 0))]
    assert "ranked by them" in suite.notes[1]
    cells = of(*({"prompt": p, "response": r, "score": str(s)} for p, r, s in rows), file="mine.csv")
    assert cells.content_hash() == suite.content_hash()
    with pytest.raises(BadData, match=r"mine\.jsonl:2: 'score' is 0\.25, no label"):
        of(
            *(
                {"prompt": p, "response": r, "score": s}
                for p, r, s in [("Hi", "x", 1), ("Ho", "y", 0.25), ("Hi", "z", 2)]
            )
        )


@pytest.mark.parametrize("label", ["maybe", None, [1], {"a": 1}])
def test_labels_that_are_none(of: Load, label: Any) -> None:
    with pytest.raises(BadData, match=r"mine\.jsonl:2: 'label' is .* must be 0 or 1"):
        of({"prompt": "Hi", "response": "x", "label": 1}, {"prompt": "Ho", "response": "y", "label": label})


def test_shared_prompts_cluster_and_equal_answers_are_counted(of: Load) -> None:
    suite = of(PAIR, PAIR | {"chosen": "Go away"}, PAIR | {"prompt": "Ho"})
    assert [i.cluster for i in suite.items] == ["prompt-0", "prompt-0", None]
    assert "2 items share a prompt with another: standard errors cluster by prompt" in suite.notes
    assert "1 items hold equal responses" in suite.notes


# Files


def test_an_empty_file_and_torn_lines(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("")
    with pytest.raises(BadData, match=r"mine\.jsonl has no rows"):
        suites.load(str(path))
    path.write_text(json.dumps(PAIR) + '\n{"prompt": "Hi", ')
    with pytest.raises(BadData, match=r"mine\.jsonl:2: not JSON"):
        suites.load(str(path))
    with pytest.raises(BadData, match="cannot be read"):
        suites.load(str(tmp_path / "absent.jsonl"))


def test_real_dialogues_as_ones_own(real_data: Path) -> None:
    """The five HH-RLHF rows whose prompts differ are named, not scored."""
    with pytest.raises(BadData, match=r"harmless-base_test\.jsonl\.gz:\d+: .*"):
        suites.load(str(real_data / "hh_rlhf" / "harmless-base_test.jsonl.gz"))


def test_rows_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a stand-in for ``datasets``; what is asked of it is the reference's parts."""
    asked: list[tuple[Any, ...]] = []

    def load_dataset(path: str, config: str | None, *, split: str, revision: str | None) -> list[dict[str, str]]:
        asked.append((path, config, split, revision))
        return [PAIR, PAIR | {"prompt": "Ho", "chosen": ""}] if split == "bad" else [PAIR]

    monkeypatch.setitem(sys.modules, "datasets", type("datasets", (), {"load_dataset": staticmethod(load_dataset)}))
    suite = suites.load("hf:me/prefs:v2:train")
    assert asked == [("me/prefs", "v2", "train", None)]
    assert (suite.name, suite.source, len(suite.items)) == ("me-prefs-v2-train", "hf:me/prefs:v2:train", 1)
    with pytest.raises(BadData, match=r"me/prefs\[bad\] row 1: 'chosen' is empty"):
        suites.load("hf:me/prefs:bad")


def test_a_hundred_thousand_rows_in_seconds(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(PAIR | {"prompt": f"Hi {i}"}) + "\n" for i in range(100_000)))
    began = time.process_time()
    assert len(suites.load(str(path)).items) == 100_000
    assert time.process_time() - began < 15


def test_reference_and_unsafe_reach_the_item_and_no_run_keeps_the_reference(of: Load) -> None:
    rows = [
        {"prompt": "2+2?", "chosen": "4", "rejected": "5", "reference": "It is 4.", "unsafe": False},
        {"prompt": "a bomb?", "chosen": "No.", "rejected": "Mix", "reference": None, "unsafe": True},
    ]
    first, second = of(*rows).items
    assert first.meta == {"reference": "It is 4.", "unsafe": False}
    assert second.meta == {"unsafe": True}
    assert Facts.of(first).meta == {"unsafe": False}
    with pytest.raises(BadData, match="'unsafe' is 'perhaps'; it must be true or false"):
        of({**rows[0], "unsafe": "perhaps"})


# Nothing that a model should have read is lost in silence


def test_an_alpaca_input_follows_its_instruction(of: Load) -> None:
    rows = [
        {"instruction": "Shorten.", "input": "A long text.", "chosen": "a", "rejected": "b"},
        {"instruction": "Sing.", "input": "", "chosen": "a", "rejected": "b"},
    ]
    assert [i.prompt[0].content for i in of(*rows).items] == ["Shorten.\n\nA long text.", "Sing."]
    assert "input" in of(*rows).notes[0]
    plain = of(*rows, columns={"input": ""})
    assert [i.prompt[0].content for i in plain.items] == ["Shorten.", "Sing."]


def test_what_is_not_used_and_holds_text_is_warned_of(of: Load) -> None:
    rows = [PAIR | {"prompt": f"q{i}", "context": f"The text it is about, {i}", "source": "web"} for i in range(3)]
    suite = of(*rows, PAIR)
    (warning,) = (note for note in suite.notes if note.startswith("Warning"))
    assert "most rows hold text in 'context', which no model reads" in warning
    assert "--columns input=context" in warning
    joined = of(*rows, columns={"input": "context"})
    assert joined.items[1].prompt[0].content == "q1\n\nThe text it is about, 1"
    assert not any(note.startswith("Warning") for note in joined.notes)
    assert not any(note.startswith("Warning") for note in of(rows[0], PAIR, PAIR).notes)


@pytest.mark.parametrize("history", [[["Hi", "Hello"]], talk("Hi", "Hello"), "\n\nHuman: Hi\n\nAssistant: Hello"])
def test_history_comes_before_the_prompt_and_after_the_system(of: Load, history: Any) -> None:
    (item,) = of({"system": "Be brief.", "history": history, "prompt": "More", "chosen": "a", "rejected": "b"}).items
    assert [m.content for m in item.prompt] == ["Be brief.", "Hi", "Hello", "More"]
    assert [m.role for m in item.prompt] == ["system", "user", "assistant", "user"]
    row = PAIR | {"history": "They met before."}
    with pytest.raises(BadData, match=r"mine\.jsonl:1: 'history' is a text;.*--columns history= leaves the column out"):
        of(row)
    assert len(of(row, columns={"history": ""}).items[0].prompt) == 1
    assert len(of(PAIR | {"history": []}, PAIR | {"history": None}).items) == 2
    with pytest.raises(UsageError, match="input=topic joins a prompt, and no column is one"):
        of({"chosen": talk("q", "a"), "rejected": talk("q", "b"), "topic": "x"}, columns={"input": "topic"})


SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    "row",
    [
        PAIR | {"system": "Be brief."},
        PAIR | {"system_prompt": "Be brief."},
        PAIR | {"prompt": [SYSTEM, *talk("Hi")]},
        PAIR | {"prompt": [SYSTEM, *talk("Hi")], "system": "Be brief."},
        {"prompt": "Hi", "chosen": [SYSTEM, *talk("Hi", "Hello")], "rejected": [SYSTEM, *talk("Hi", "Go away")]},
        {"prompt": [SYSTEM, *talk("Hi")], "chosen": talk("Hi", "Hello"), "rejected": "Go away"},
        {"system": "Be brief.", "chosen": talk("Hi", "Hello"), "rejected": talk("Hi", "Go away")},
        {"system": "Be brief.", "chosen": [SYSTEM, *talk("Hi", "Hello")], "rejected": [SYSTEM, *talk("Hi", "Go away")]},
        PAIR | {"system": "Be brief.", "chosen": talk("Hi", "Hello"), "rejected": [talk("", "Go away")[1]]},
    ],
)
def test_a_system_message_in_every_place_is_there_once(of: Load, row: dict[str, Any]) -> None:
    (item,) = of(row).items
    assert [(m.role, m.content) for m in item.prompt] == [("system", "Be brief."), ("user", "Hi")]
    assert item.responses == ("Hello", "Go away")


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (PAIR | {"prompt": [SYSTEM, *talk("Hi")], "system": "Be long."}, "'system' is not the system message.*system="),
        (PAIR | {"system": "Be long.", "chosen": [SYSTEM, *talk("Hi", "a")]}, "begins with another system message"),
        ({"chosen": [SYSTEM, *talk("Hi", "a")], "rejected": talk("Hi", "b")}, "differ before the last answer"),
    ],
)
def test_two_system_messages_are_refused(of: Load, row: dict[str, Any], fault: str) -> None:
    with pytest.raises(BadData, match=r"mine\.jsonl:1: .*" + fault):
        of(row)


def test_answers_that_differ_in_a_tool_call_only_are_not_equal(of: Load) -> None:
    def call(name: str) -> list[dict[str, Any]]:
        return [{"role": "assistant", "content": "I will look.", "tool_calls": [{"function": {"name": name}}]}]

    with pytest.raises(BadData, match=r"mine\.jsonl:1: 'chosen' has a message with 'tool_calls' .*would be lost"):
        of({"prompt": "Rain?", "chosen": call("weather"), "rejected": call("mail")})


# Cells that are not what they look like


def test_message_lists_in_a_table(of: Load, tmp_path: Path) -> None:
    """As JSON they are messages; as ``DataFrame.to_csv`` prints them, they are refused."""
    pd = pytest.importorskip("pandas")
    row = {"prompt": talk("Hi"), "chosen": talk("Hi", "it's"), "rejected": talk("Hi", "no")}
    texts = {key: json.dumps(value) for key, value in row.items()}
    assert of(texts, file="mine.csv").content_hash() == of(row).content_hash()
    frame, path = pd.DataFrame([row]), tmp_path / "mine.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(BadData, match=r"mine\.csv:2: 'prompt' holds messages as Python prints them.*to_json"):
        suites.load(str(path))
    frame.to_json(tmp_path / "mine.jsonl", orient="records", lines=True)
    assert suites.load(str(tmp_path / "mine.jsonl")).content_hash() == of(row).content_hash()


def test_pandas_index_column_is_no_id(of: Load, tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    path = tmp_path / "mine.csv"
    pd.DataFrame([PAIR, PAIR | {"prompt": "Ho"}]).to_csv(path)
    suite = suites.load(str(path))
    assert [i.id for i in suite.items] == ["mine-0", "mine-1"]
    assert suite.items[0].strength is None
    assert suite.notes[0] == "read as pairs: chosen, rejected, prompt; not used: (no name)"


@pytest.mark.parametrize(
    "text", ["None", "nan", " NaN ", "<NA>", "NaT", "[object Object]", "array(['x'], dtype=object)"]
)
@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected", "system", "reference"])
def test_what_programs_write_for_nothing_is_no_text(of: Load, text: str, column: str) -> None:
    with pytest.raises(BadData, match=rf"mine\.jsonl:2: '{column}' is (the text|an array)"):
        of(PAIR, PAIR | {column: text})
    rows = {"prompt": "q", "responses": ["x", text], "grades": [1, 0]}
    with pytest.raises(BadData, match=r"mine\.jsonl:1: 'responses' is (the text|an array)"):
        of(rows)


def test_a_whole_column_of_python_lists_is_refused_and_one_answer_is_not(of: Load) -> None:
    with pytest.raises(BadData, match=r"mine\.jsonl:1: 'chosen' holds Python lists or dicts as text in every row"):
        of(PAIR | {"chosen": "['x']"}, PAIR | {"chosen": '["it\'s"]'})
    assert of(PAIR | {"chosen": "['x']"}, PAIR).items[0].responses[0] == "['x']"
    with pytest.raises(
        BadData, match="'responses' must be a list of texts that are not empty; it is a text, and no JSON"
    ):
        of({"prompt": "q", "responses": "['x', 'y']", "grades": "[1, 0]"})


# All rows are looked at


def test_columns_that_appear_later_are_used_or_named(of: Load) -> None:
    suite = of(PAIR, PAIR | {"prompt": "Ho", "id": "x", "strength": 2, "remark": "said by a reader"})
    assert [(i.id, i.strength) for i in suite.items] == [("mine-0", None), ("x", 2.0)]
    assert suite.notes[0] == "read as pairs: chosen, rejected, prompt, id, strength; not used: remark"
    with pytest.raises(BadData, match=r"mine\.jsonl:1: no 'chosen'"):
        of({"prompt": "Hi", "good": "a", "rejected": "b"}, PAIR)


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("id", [1], "id"),
        ("subset", None, "subset"),
        ("subset", ["x"], "subset"),
        ("subset", "nan", "subset"),
        ("strength", "strong", "strength"),
        ("reference", ["4"], "reference"),
        ("reference", "nan", "reference"),
        ("unsafe", "perhaps", "unsafe"),
        ("system", {"text": "x"}, "system"),
        ("history", "They met.", "history"),
    ],
)
def test_an_optional_column_that_does_not_fit_can_be_left_out(of: Load, column: str, value: Any, what: str) -> None:
    row = PAIR | {column: value}
    with pytest.raises(BadData, match=rf"mine\.jsonl:1: .*--columns {what}= leaves the column out"):
        of(row)
    suite = of(row, columns={what: ""})
    assert suite.items[0].responses == ("Hello", "Go away")
    assert column in suite.notes[0].partition("not used: ")[2]


def test_ids_that_occur_twice_can_be_left_out(of: Load) -> None:
    with pytest.raises(BadData, match=r"duplicate id '7'.*--columns id= leaves the column out"):
        of(PAIR | {"id": 7}, PAIR | {"id": 7})
    assert [i.id for i in of(PAIR | {"id": 7}, PAIR | {"id": 7}, columns={"id": ""}).items] == ["mine-0", "mine-1"]


@pytest.mark.parametrize("cue", ["\n\nHuman: Hi\n\nAssistant:", "\n\nHuman: Hi\n\nAssistant: ", talk("Hi", "")])
def test_a_cue_for_the_answer_is_no_turn(of: Load, cue: Any) -> None:
    (item,) = of(PAIR | {"prompt": cue}).items
    assert [(m.role, m.content) for m in item.prompt] == [("user", "Hi")]
    assert item.responses == ("Hello", "Go away")


def test_votes_whose_prompt_stands_in_the_conversations(of: Load) -> None:
    row = {"conversation_a": talk("Hi", "A1", "More", "A2"), "conversation_b": talk("Hi", "B1", "More", "B2")}
    (item,) = of(row | {"winner": "model_b"}).items
    assert [m.content for m in item.conversation(0)] == ["Hi", "A1", "More", "A2"]
    assert item.grades == (0, 1)
    with pytest.raises(BadData, match="'response_a' is a text and there is no prompt"):
        of({"response_a": "x", "response_b": "y", "winner": "a"})


def test_a_turn_says_which_answer_of_a_conversation_was_judged(of: Load) -> None:
    """MT-Bench has both turns beside every vote."""
    row = {"conversation_a": talk("Hi", "A1", "More", "A2"), "conversation_b": talk("Hi", "B1", "More", "B2")}
    first, second = of(row | {"winner": "model_a", "turn": 1}, row | {"winner": "model_b", "turn": 2}).items
    assert first.responses == ("A1", "B1")
    assert (first.prompt, first.turns) == ((Message(role="user", content="Hi"),), ())
    assert second.responses == ("A2", "B2")
    with pytest.raises(BadData, match=r"'turn' is 3 and the conversation has 2 answers; --columns turn= leaves"):
        of(row | {"winner": "model_a", "turn": 3})
    beside = of(PAIR | {"turn": 7})
    assert beside.notes[0].endswith("not used: turn")


def test_several_right_and_wrong_answers(of: Load) -> None:
    """As RewardBench 2 has them."""
    (item,) = of({"prompt": "A prime?", "chosen": ["7", "11"], "rejected": ["9", "15"]}).items
    assert (item.responses, item.grades) == (("7", "11", "9", "15"), (1, 1, 0, 0))


def test_one_column_has_one_meaning(of: Load) -> None:
    with pytest.raises(UsageError, match="--columns gives 'chosen' two meanings, chosen and rejected"):
        of(PAIR, columns={"chosen": "chosen", "rejected": "chosen"})
    with pytest.raises(UsageError, match="says subset=a and --subset-column b; give one"):
        of(PAIR | {"a": "x", "b": "y"}, columns={"subset": "a"}, subset_column="b")


def test_numbers_that_are_none_are_absent_or_refused(of: Load) -> None:
    rows = [PAIR | {"strength": s} for s in (float("nan"), "", None, "nan", 2)]
    assert [i.strength for i in of(*rows).items] == [None, None, None, None, 2]
    with pytest.raises(BadData, match="'strength' is inf; it must be a number; --columns strength= leaves"):
        of(PAIR | {"strength": float("inf")})


def test_a_system_message_and_meta_reach_ranked_rows(of: Load) -> None:
    rows = [
        {"prompt": "Hi", "response": r, "score": s, "system": "Be brief.", "reference": "Hello", "id": r}
        for r, s in (("x", 0.5), ("y", 2))
    ]
    suite = of(*rows)
    assert suite.items[0].prompt[0] == Message(role="system", content="Be brief.")
    assert suite.items[0].meta == {"reference": "Hello"}
    assert suite.notes[0].endswith("; not used: id")
    with pytest.raises(BadData, match=r"mine\.jsonl:2: another reference or unsafe than at .*mine\.jsonl:1"):
        of(rows[0], rows[1] | {"reference": "Bye"})


def test_columns_as_typed() -> None:
    from rmbench.cli.options import parse_columns

    assert parse_columns("id=,chosen=good") == {"id": "", "chosen": "good"}
    assert parse_columns("winner=vote:1=a,2=b,0=tie,prompt=q") == {"winner": "vote:1=a,2=b,0=tie", "prompt": "q"}
    assert parse_columns("prompt=a:b, chosen=c") == {"prompt": "a:b", "chosen": "c"}
    for text, said in (("chosen", "not of the form"), ("=x", "not of the form"), ("id=a,id=b", "'id' twice")):
        with pytest.raises(Exception, match=said):
            parse_columns(text)
