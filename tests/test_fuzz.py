"""Generated bad input: rows, scripts, results folders, judges' words, policies. Each is a clear error or harmless;
nothing else is ever raised, and nothing that was changed on disk passes for what was judged.

A few hundred examples in the fast run, the same ones every time; ten thousand fresh ones behind the slow marker.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rmbench import adapters, loop, metrics, store, suites
from rmbench.adapters.parsers import PARSERS, Verdict, parse, split_thinking
from rmbench.core import Item, Suite
from rmbench.errors import RmbenchError
from rmbench.gate import Policy, read_policy

Check = Callable[..., None]


def fuzzed(fast: int, slow: int) -> Any:
    """The test gets ``search``, which turns a check of one example into the search for one that fails it."""

    def search(examples: int) -> Callable[[Check], None]:
        fixed = examples == fast
        return lambda check: settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=fixed,
            suppress_health_check=list(HealthCheck),
        )(check)()

    slowly = pytest.param(search(slow), marks=[pytest.mark.slow, pytest.mark.timeout(1800)], id=str(slow))
    return pytest.mark.parametrize("search", [pytest.param(search(fast), id=str(fast)), slowly])


# Rows

words = st.sampled_from(
    ["", " ", "13 is prime.", "\n\nHuman: hi\n\nAssistant: y", "\u00e9\x00\u202e", "=1+1", "\ud7ff", "x" * 3000]
)
scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.integers() | words | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "k"]), inner, max_size=3)
    ),
    max_leaves=6,
)
GOOD: dict[str, dict[str, Any]] = {
    "pairs": {"prompt": "Name a prime.", "chosen": "13", "rejected": "12", "subset": "s", "id": "1"},
    "votes": {"prompt": "Name a prime.", "response_a": "13", "response_b": "12", "winner": "a"},
    "codes": {"instruction": "Name a prime.", "input": "odd", "output_1": "13", "output_2": "12", "preference": 1.0},
    "talks": {"conversation_a": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "13"}],
              "conversation_b": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "12"}],
              "winner": 2, "system": "s", "history": [["a", "b"]]},
    "rankings": {"prompt": "Name a prime.", "responses": ["13", "12", "11"], "grades": [2, 0, 1]},
    "labels": {"prompt": "Name a prime.", "response": "13", "label": 1},
    "items": {"id": "1", "subset": "chat-everyday", "prompt": [{"role": "user", "content": "?"}], "responses": ["a"],
              "grades": [1], "strength": 1, "meta": {}},
}  # fmt: skip


@st.composite
def tables(draw: st.DrawFn, kinds: tuple[str, ...]) -> list[Any]:
    """Rows of one form with keys lost, renamed, doubled, and values of any kind."""
    good = GOOD[draw(st.sampled_from(kinds))]
    rows: list[Any] = []
    for number in range(draw(st.integers(1, 5))):
        row = dict(good, id=str(number)) if "id" in good else dict(good)
        for key in draw(st.lists(st.sampled_from(sorted(good)), max_size=2)):
            change = draw(st.integers(0, 3))
            if change == 0:
                row.pop(key, None)
            elif change == 1:
                row[key.upper()] = row.pop(key, None)
            else:
                row[key] = draw(values)
        rows.append(row if draw(st.integers(0, 20)) else draw(values))
    return rows


def written(rows: list[Any], suffix: str, spoil: bytes, at: int) -> bytes:
    """The file's bytes, with ``spoil`` put in at some place where it is not empty."""
    if suffix == ".csv":
        out = io.StringIO()
        keyed = [r for r in rows if isinstance(r, dict)] or [{"a": 1}]
        table = csv.DictWriter(out, sorted({str(k) for r in keyed for k in r}), extrasaction="ignore")
        table.writeheader()
        table.writerows({str(k): v for k, v in r.items()} for r in keyed)
        data = out.getvalue().encode("utf-8", "surrogatepass")
    elif suffix == ".json":
        data = json.dumps(rows).encode()
    else:
        data = "".join(json.dumps(r) + "\n" for r in rows).encode()
    if spoil:
        at %= len(data) + 1
        data = data[:at] + spoil + data[at + len(spoil) :]
    if suffix == ".jsonl.gz":
        data = gzip.compress(data)[: None if not spoil else -1 - at % 20]
    return data


def said(error: RmbenchError, path: Path | str = "", allowed: bool = True) -> None:
    """The message says something, and which file it is about."""
    assert str(error).strip()
    assert str(path) in str(error)
    assert allowed, error


def must_be_sound(suite: Suite, rows: int | None) -> None:
    """What was accepted is what a suite must be, and a number can be made of it."""
    assert suite.items
    assert rows is None or len(suite.items) + sum(suite.excluded.values()) <= rows
    assert len({item.id for item in suite.items}) == len(suite.items)
    for item in suite.items:
        assert len(item.grades) == len(item.responses) >= 1
        assert all(math.isfinite(g) for g in item.grades)
        msgspec.json.decode(msgspec.json.encode(item), type=Item)
    oracle = adapters.open("oracle")
    judgments = {j.item_id: j for j in loop.guarded(oracle, suite.items)}
    facts = [loop.Facts.of(item) for item in suite.items]
    for estimate in metrics.estimates(suite.card(), facts, judgments):
        assert estimate.value is not None or estimate.reason


SUITE = """
import msgspec
from rmbench.core import Item, Rules, Suite

SUITE = Suite(
    name="strange", version="1", about="", categories={"Chat": ("chat-everyday",)}, rules=Rules(name="r"),
    source="hf:no/where:test", licence="", citation="",
)

def items(data):
    for row in data.rows():
        try:
            yield msgspec.convert(row, Item)
        except msgspec.ValidationError as error:
            raise row.fail(str(error)) from error
"""
spoils = (
    st.just(b"")
    | st.just(b"")
    | st.binary(min_size=1, max_size=4)
    | st.sampled_from([b"[" * 3000, b"\xff\xfe", b'"', b"\x00"])
)


@fuzzed(60, 2500)
def test_a_users_rows(search: Callable[[Check], None], tmp_path: Path) -> None:
    @search
    @given(
        tables(("pairs", "votes", "codes", "talks", "rankings", "labels")),
        st.sampled_from([".jsonl", ".ndjson", ".JSONL", ".jsonl.gz", ".json", ".csv"]),
        spoils,
        st.integers(0, 10_000),
    )
    def _(rows: list[Any], suffix: str, spoil: bytes, at: int) -> None:
        path = tmp_path / f"rows{suffix}"
        path.write_bytes(written(rows, suffix, spoil, at))
        try:
            suite = suites.load(str(path))
        except RmbenchError as error:
            said(error)
            return
        must_be_sound(suite, None if spoil else len(rows))


@fuzzed(30, 1500)
def test_a_suites_rows(search: Callable[[Check], None], tmp_path: Path) -> None:
    path, file = tmp_path / "rows.jsonl", tmp_path / "strange.py"
    file.write_text(SUITE)

    @search
    @given(tables(("items",)), spoils, st.integers(0, 10_000))
    def _(rows: list[Any], spoil: bytes, at: int) -> None:
        path.write_bytes(written(rows, ".jsonl", spoil, at))
        try:
            suite = suites.load(str(file), data=path)
        except RmbenchError as error:
            said(error)
            return
        must_be_sound(suite, None if spoil else len(rows))


@fuzzed(30, 1000)
def test_scripts_of_scores_and_ballots(search: Callable[[Check], None], tmp_path: Path) -> None:
    items = suites.load("starter").items[:4]
    path = tmp_path / "script.jsonl"
    ballot = {"shown": [0, 1], "picked": 0}
    lines = st.fixed_dictionaries(
        {"item_id": st.sampled_from([i.id for i in items]) | values},
        optional={
            "scores": st.lists(st.floats() | st.none() | st.integers(), max_size=3) | values,
            "ballots": st.lists(
                st.just(ballot) | st.fixed_dictionaries({"shown": values, "picked": values}), max_size=3
            ),
            "error": words | values,
        },
    )

    @search
    @given(st.lists(lines, max_size=4), spoils, st.integers(0, 10_000))
    def _(made: list[Any], spoil: bytes, at: int) -> None:
        path.write_bytes(
            written(made, ".jsonl", spoil.decode("latin-1").encode(), at).decode(errors="replace").encode()
        )
        try:
            judgments = list(loop.guarded(adapters.open(f"scripted:{path}"), items))
        except RmbenchError as error:
            said(error)
            return
        assert sorted(j.item_id for j in judgments) == sorted(i.id for i in items)
        for item, judgment in zip(items, judgments, strict=True):
            assert judgment.scores is None or len(judgment.scores) == len(item.responses)


# Results folders


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one complete run of 12 items."""
    root = tmp_path_factory.mktemp("finished")
    loop.evaluate(
        adapters.open("length:longest"),
        suites.load("starter"),
        model="m",
        adapter_name="baselines",
        root=root,
        limit=12,
    )
    return root


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    kind = draw(st.sampled_from(["byte", "bit", "cut", "insert", "lose", "twice", "swap", "value", "empty"]))
    n, m = draw(st.integers(0, 10**6)), draw(st.integers(0, 255))
    value = draw(values)

    def damage(data: bytes) -> bytes:
        at = n % max(len(data), 1)
        lines = data.splitlines(keepends=True)
        k = n % max(len(lines), 1)
        match kind:
            case "byte":
                return data[:at] + bytes([m]) + data[at + 1 :]
            case "bit":
                return data[:at] + bytes([data[at] ^ (1 << m % 8)]) + data[at + 1 :]
            case "cut":
                return data[:at]
            case "insert":
                return data[:at] + bytes([m]) * (m % 7) + data[at:]
            case "lose":
                return b"".join(lines[:k] + lines[k + 1 :])
            case "twice":
                return b"".join([*lines[: k + 1], *lines[k:]])
            case "swap":
                return b"".join(lines[k:] + lines[:k])
            case "value":
                return _another_value(data, n, value)
        return b""

    return damage


def _another_value(data: bytes, n: int, value: Any) -> bytes:
    """Some value of a JSON document becomes another one: what a hand or a merge would do."""
    try:
        whole = json.loads(data)
    except ValueError:
        lines = data.splitlines(keepends=True)
        k = n % len(lines)
        return b"".join([*lines[:k], _another_value(lines[k].strip(), n // 7, value) + b"\n", *lines[k + 1 :]])
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(whole)
    if places:
        holder, key = places[n % len(places)]
        holder[key] = value
    return json.dumps(whole).encode()


@fuzzed(90, 3000)
def test_results_folders(search: Callable[[Check], None], finished: Path, tmp_path: Path) -> None:
    (source,) = store.find(finished)
    good = store.read(source)
    sealed = (source / store.JUDGMENTS).read_bytes()
    suite = suites.load("starter")
    root = tmp_path / "root"

    @search
    @given(st.sampled_from([store.RUN, store.ITEMS, store.JUDGMENTS, store.JUDGMENTS, store.ESTIMATES]), damages())
    def _(name: str, damage: Callable[[bytes], bytes]) -> None:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(finished, root)
        path = root / source.relative_to(finished)
        before = (path / name).read_bytes()
        changed = damage(before)
        (path / name).write_bytes(changed)
        try:
            found = store.read(path)
        except RmbenchError as error:
            said(error, path)
        else:
            # whatever happened to the file, nothing that was not judged is read
            assert found.facts == good.facts or name == store.RUN
            assert all(good.judgments[i] == j for i, j in found.judgments.items())
            assert found.run.status != "complete" or found.judgments == good.judgments
            assert metrics.estimates(found.run.suite, found.facts, found.judgments)
        for use in (
            lambda: store.find(root, "starter"),
            lambda: store.resolve("m", root),
            lambda: store.read_estimates(path),
        ):
            try:
                use()
            except RmbenchError as error:
                said(error)
        try:
            loop.evaluate(
                adapters.open("length:longest"), suite, model="m", adapter_name="baselines", root=root, limit=12
            )
        except RmbenchError as error:
            said(error, path, name == store.RUN)
        else:
            assert (path / store.JUDGMENTS).read_bytes() == sealed
            assert store.read(path).judgments == good.judgments


# Judges' words

MARKS = [
    "[[A]]",
    "[[B]]",
    "[[C]]",
    "[[7]]",
    "[[-1.5]]",
    "[[",
    "]]",
    "A",
    "B",
    "tie",
    "A>>B",
    "[[A>>B]]",
    "[[B=A]]",
    "\\boxed{A}",
    "<answer>A</answer>",
    "<answer>",
    "<think>",
    "</think>",
    "Rating: 7",
    "7/10",
    "yes",
    "no",
    "safe",
    "unsafe\nS1,S9",
    "### Answer: B",
    "Final verdict: B",
    '{"winner": "A"}',
    '{"score": 1e999}',
    '{"a":' * 50,
    "Assistant A",
    "Output (a)",
    "\u0661",
    "NaN",
    "1" * 400,
    "**B**",
    "\n",
    " ",
    "0",
    "<result>",
    "[RESULT] 3",
    "Response 1 is better",
    "`A`",
]
NUMBERS = ("bracket-rating", "result-tag", "json", "trailing-number")
"""Parsers that are asked for a number here; the others for one of some labels."""
speech = st.lists(st.sampled_from(MARKS) | st.text(max_size=12), max_size=12).map("".join)


@fuzzed(60, 1500)
def test_judges_words(search: Callable[[Check], None]) -> None:
    @search
    @given(
        speech,
        st.sampled_from(sorted(PARSERS)),
        st.sampled_from([("A", "B"), ("A", "B", "C"), ("yes", "no"), ("safe", "unsafe"), ("A>B", "B>A"), ("1", "2")]),
    )
    def _(text: str, name: str, asked: tuple[str, ...]) -> None:
        labels = asked if name not in NUMBERS else None
        thinking, answer = split_thinking(text)
        assert thinking is None or len(thinking) + len(answer) <= len(text)
        verdict = parse(PARSERS[name], answer, labels)
        assert isinstance(verdict, Verdict)
        assert (verdict.word is None) != (verdict.error is None)
        if verdict.word is not None:
            assert labels is None or verdict.word in labels
            assert labels is not None or float(verdict.word) == float(verdict.word)
            assert -1 <= verdict.at < max(len(answer), 1)


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_no_answer_takes_a_parser_long(name: str) -> None:
    began = time.process_time()
    for mark in ("[", "[[", "A", "{", '{"a":', "<answer>", "\n", " ", "1", "-", "**", "a b ", "\\boxed{", "[[A"):
        parse(PARSERS[name], mark * (20_000 // len(mark)), None if name in NUMBERS else ("A", "B"))
    assert time.process_time() - began < 5


# Policies


@fuzzed(30, 500)
def test_policies(search: Callable[[Check], None], tmp_path: Path) -> None:
    path = tmp_path / "rmbench.toml"
    keys = st.sampled_from([*Policy.__struct_fields__, "Margin", "margins.Safety", '"a b"', "gate"])
    literals = st.sampled_from(
        [
            "0.02",
            "1",
            "-1",
            "2",
            "nan",
            "inf",
            "-inf",
            "true",
            '"x"',
            "[]",
            '["overall"]',
            "{}",
            "{Safety = 0.5}",
            "{Safety = nan}",
            "{Safety = 9}",
            "1979-05-27",
            "''",
            "0.5",
            "[1, 'a']",
        ]
    )
    tables = st.sampled_from(["[gate]", "[gate]", "[gate.margins]", "[other]", "[[gate]]", ""])

    @search
    @given(st.lists(st.tuples(tables, keys, literals), max_size=4), spoils, st.integers(0, 10_000))
    def _(entries: list[tuple[str, str, str]], spoil: bytes, at: int) -> None:
        data = "\n".join(f"{table}\n{key} = {literal}" for table, key, literal in entries).encode()
        at %= len(data) + 1
        path.write_bytes(data[:at] + spoil[:20].decode("latin-1").encode() + data[at:])
        try:
            policy = read_policy(path)
        except RmbenchError as error:
            said(error, path)
            return
        assert 0 <= policy.margin <= 1
        assert 0 < policy.alpha < 0.5
        assert 0 <= policy.coverage <= 1
        assert all(0 <= m <= 1 for m in policy.margins.values())
        assert all(math.isfinite(f) for f in policy.floors.values())
