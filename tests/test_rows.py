"""Files that are not what they are called, keys that occur twice, and messages with parts that would be lost."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from rmbench import rows, suites
from rmbench.errors import BadData, UsageError
from rmbench.rows import Row

PAIR = {"prompt": "Hi", "chosen": "Hé", "rejected": "Go"}
LINES = json.dumps(PAIR, ensure_ascii=False) + "\n" + json.dumps(PAIR | {"prompt": "Ho"}, ensure_ascii=False) + "\n"
TABLE = "prompt,chosen,rejected\nHi,Hé,Go\nHo,Hé,Go\n"


def read(path: Path) -> list[dict[str, Any]]:
    return [dict(row) for row in rows.read(path)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES.encode()),
        ("a.json", LINES.encode()),
        ("a.json", json.dumps([json.loads(line) for line in LINES.splitlines()], indent=1).encode("utf-8-sig")),
        ("a.json.gz", gzip.compress(LINES.encode())),
        ("a.ndjson", LINES.encode()),
        ("a.ndjson", LINES.replace("\n", "\r\n").encode()),
        ("A.JSONL", LINES.encode("utf-8-sig")),
        ("a.Jsonl.GZ", gzip.compress(LINES.encode())),
        ("a.jsonl.gz", LINES.encode()),  # unpacked on the way, its name kept
        ("a.jsonl", gzip.compress(LINES.encode())),
        *(("a.jsonl", LINES.encode(code)) for code in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")),
        *(("a.json", LINES.encode(code)) for code in ("utf-16", "utf-16-le")),
        ("a.CSV", TABLE.encode()),
        ("a.csv.gz", gzip.compress(TABLE.encode())),
        *(("a.csv", TABLE.encode(code)) for code in ("utf-8-sig", "utf-16", "utf-16-le")),
    ],
)
def test_one_table_in_every_dress(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert read(path) == [PAIR, PAIR | {"prompt": "Ho"}]
    suite = suites.load(str(path))
    assert suite.name.lower() == "a"
    assert [item.responses for item in suite.items] == [("Hé", "Go")] * 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.jsonl",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n",
            "a Git LFS pointer.*lfs pull",
        ),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "a Git LFS pointer"),
        ("a.jsonl.gz", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "a Git LFS pointer"),
        ("a.csv", b"/annex/objects/MD5E-s2--1.csv\n", "a git-annex pointer"),
        ("a.json", b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page, not rows"),
        ("a.csv", TABLE.encode("latin-1"), "save it as UTF-8"),
        ("a.jsonl", b'{"prompt": "\xe9"}\n', r"a\.jsonl:1: not UTF-8 .*save the file as UTF-8"),
        ("a.json", b'{"prompt": {"0": "Hi"}, "chosen": {"0": "a"}}', r"an object of columns.*to_json"),
        ("a.json", b'{"prompt": ["Hi"], "chosen": ["a"]}', "an object of columns"),
        ("a.json", b'{"data": [{"prompt": "Hi"}, {"prompt": "Ho"}]}', "under 'data'"),
        ("a.json", b"7", "must hold a list of records, not 7"),
        ("a.json", b'{"a": 1}\n{"a": \n', r"a\.json:2: not JSON"),
        ("a.csv", b"prompt,chosen,rejected,chosen\nHi,a,b,c\n", r"a\.csv:1: the header names 'chosen' twice"),
        ("a.jsonl", b'[{"a": 1}]', r"a\.jsonl: a JSON list, not a record a line; call the file \.json"),
        ("a.jsonl", b'{"a": 1}\n{"a": 1, "b": 2, "a": 3}\n', r"a\.jsonl:2: the key 'a' occurs twice"),
        ("a.jsonl", b'{"a": [{"role": "x", "role": "y"}]}\n', r"a\.jsonl:1: the key 'role' occurs twice"),
        ("a.json", b'[{"a": 1, "a": 1}]', r"a\.json: the key 'a' occurs twice"),
        ("a.jsonl", b'{"a": "\\ud800 half"}\n', r"a\.jsonl:1: half a character"),
        ("a.jsonl", b'{"a": 1' + b"0" * 5000 + b", }\n", r"a\.jsonl:1: not JSON"),
        ("a.xlsx", b"PK", r"unknown kind of file; known: \.jsonl"),
    ],
)
def test_files_are_named_for_what_they_are(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadData, match=said):
        read(path)


def test_a_file_of_no_known_kind_is_no_suite_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.xlsx"
    path.write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"mine\.xlsx is no kind of data file that is read; known: \.jsonl"):
        suites.load(str(path))


def test_two_columns_of_one_name_in_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], ["a", "a"]), tmp_path / "a.parquet")
    with pytest.raises(BadData, match="two columns are named 'a'"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1" + "0" * 400, '"nan"', "true", '"x"', "[1]", "null"]
)
def test_what_is_no_finite_number_is_read_and_refused_where_it_is_used(tmp_path: Path, number: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1, "other": ' + number + "}\n")
    (row,) = rows.read(path)
    assert row.number("n") == 1
    with pytest.raises(BadData, match=r"a\.jsonl:1: 'other' is .*; it must be a number"):
        row.number("other")


# Messages


def said(*messages: Any) -> list[tuple[str, str]]:
    row = Row()
    row.where = "a.jsonl:7"
    return [(m.role, m.content) for m in rows.messages(list(messages), row)]


@pytest.mark.parametrize(
    "more",
    [
        {"tool_calls": [{"name": "weather"}]},
        {"reasoning_content": "Let me see."},
        {"name": "Ann"},
        {"function_call": {"name": "f"}},
        {"weight": 0},
        {"prefix": False},
        {"value": "another text"},
        {"from": "gpt"},
    ],
)
def test_a_part_that_would_be_lost_is_refused_by_name(more: dict[str, Any]) -> None:
    with pytest.raises(BadData, match=rf"a\.jsonl:7: 'prompt' has a message with {next(iter(more))!r} .*would be lost"):
        said({"role": "user", "content": "Hi", **more})


@pytest.mark.parametrize("nothing", [None, "", [], {}])
def test_an_empty_part_is_nothing_lost(nothing: Any) -> None:
    assert said({"role": "user", "content": "Hi", "tool_calls": nothing, "name": nothing}) == [("user", "Hi")]


def test_texts_in_parts_are_joined_and_other_parts_refused() -> None:
    def parts(*found: Any) -> list[tuple[str, str]]:
        return said({"role": "user", "content": list(found)})

    assert parts({"type": "text", "text": "Hi"}) == [("user", "Hi")]
    assert parts({"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}) == [("user", "Hi\nthere")]
    with pytest.raises(BadData, match=r"a part that is no text \('image_url'\)"):
        parts({"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "x"}})
    with pytest.raises(BadData, match="a part that holds 'cache_control', which would be lost"):
        parts({"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}})
    with pytest.raises(BadData, match="a part whose text is 7"):
        parts({"type": "text", "text": 7})
    with pytest.raises(BadData, match="a part that is no text"):
        parts("Hi")


def test_what_a_suite_knows_to_say_nothing_may_stand_beside() -> None:
    message = {"role": "user", "content": "Hi", "language": "English"}
    assert len(rows.messages([message], Row(), beside=("language",))) == 1
    with pytest.raises(BadData, match="'language'"):
        rows.messages([message], Row())


def test_one_message_and_messages_as_json() -> None:
    row = Row()
    message = {"role": "user", "content": "Hi"}
    for value in (message, [message], json.dumps(message), json.dumps([message])):
        assert rows.messages(value, row) == rows.messages("Hi", row)


PRINTED = [
    "[{'role': 'user', 'content': \"it's\"}, {'role': 'assistant', 'content': 'y'}]",
    "[{'content': 'x', 'role': 'user'}\n {'content': 'y', 'role': 'assistant'}]",
    "array([{'content': 'x', 'role': 'user'}], dtype=object)",
    "{'role': 'assistant', 'content': 'x'}",
    "[{'from': 'human', 'value': 'x'}]",
    "({'role': 'user', 'content': 'x'},)",
]


@pytest.mark.parametrize("text", PRINTED)
def test_messages_that_a_table_printed_are_no_text(text: str) -> None:
    row = Row(a=text)
    for call in (lambda: rows.messages(text, row), lambda: row.text("a")):
        with pytest.raises(BadData, match=r"messages as Python prints them.*to_json\(file, orient=\"records\""):
            call()


def test_messages_cut_off_by_a_spreadsheet_are_no_text() -> None:
    whole = json.dumps([{"role": "user", "content": "x" * 100}])
    row = Row(a=whole[:60])
    with pytest.raises(BadData, match="messages as JSON that is cut off"):
        row.text("a")
    with pytest.raises(BadData, match="messages as JSON that is cut off"):
        rows.messages(whole[:60], row)


@pytest.mark.parametrize("text", ["[1, 2]", "{'a': 1}", "['x']", '{"role": "admin"} is the answer', "[x] done", "(a)"])
def test_texts_that_look_like_code_are_texts(text: str) -> None:
    assert rows.disguised(text) is None
    assert rows.messages(text, Row())[0].content == text
