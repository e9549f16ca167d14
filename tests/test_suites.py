"""Loading suites: real rows, counts, partial data, every kind of file, and what is refused."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rmbench import rows, suites
from rmbench.errors import BadData, UnknownName, UsageError

Write = Callable[..., Path]


def row(n: int, subset: str = "hep-go", **more: Any) -> dict[str, Any]:
    return {"prompt": f"p{n}", "chosen": f"c{n}", "rejected": f"r{n}", "subset": subset, "id": n, **more}


def test_hub_revisions_are_whole_commits() -> None:
    """A short or mistyped revision is found only where there is a network."""
    pinned = {name: source for name in suites.names() if "@" in (source := suites.card(name).source)}
    assert {"rewardbench", "rewardbench2", "mt-bench", "helpsteer2", "helpsteer2-preference", "hh-rlhf"} <= set(pinned)
    for source in pinned.values():
        assert re.fullmatch(r"hf:[^@]+@[0-9a-f]{40}", source), source


def test_every_shipped_suite_has_a_card() -> None:
    for name in suites.names():
        card = suites.card(name)
        assert card.name == name
        assert card.licence
        assert card.citation
        assert card.rules.about, f"{name} does not say how its number is made"
        known = [s for subsets in card.categories.values() for s in subsets]
        assert len(known) == len(set(known)), f"{name}: a subset stands in two categories"
        assert set(card.weights) <= set(known)
        assert set(card.counts) <= set(known)
        assert set(card.category_weights) <= set(card.categories)
        for variant in suites.variants(name):
            assert suites.card(f"{name}:{variant}").name == f"{name}:{variant}"


def test_rewardbench_of_the_real_rows(real_data: Path) -> None:
    suite = suites.load("rewardbench", data=real_data)
    assert len(suite.items) == 1850
    assert sum(suite.missing.values()) == 2985 - 1850
    assert suite.partial
    assert "math-prm" not in suite.missing
    assert suite.missing["alpacaeval-easy"] == 100
    assert suite.weights["math-prm"] == 984
    assert sum(suite.counts.values()) == 2985
    assert suite.content_hash() == suites.load("rewardbench", data=real_data).content_hash()


def test_the_older_protocol_has_another_hash_and_the_same_items(real_data: Path) -> None:
    new, old = suites.load("rewardbench", data=real_data), suites.load("rewardbench:before-2024-09", data=real_data)
    assert old.items == new.items
    assert old.weights["xstest-should-refuse"] == 250
    assert old.content_hash() != new.content_hash()


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.csv", "rows.parquet", "rows.json"])
def test_one_suite_from_every_kind_of_file(tmp_path: Path, name: str) -> None:
    import pandas as pd

    listed = [row(n) for n in range(164)]
    path = tmp_path / name
    frame = pd.DataFrame(listed)
    if name.endswith(".parquet"):
        frame.to_parquet(path)
    elif name.endswith(".csv"):
        frame.to_csv(path, index=False)
    elif name.endswith(".json"):
        path.write_text(json.dumps(listed))
    else:
        data = "".join(json.dumps(r) + "\n" for r in listed).encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    suite = suites.load("rewardbench", data=path)
    assert len(suite.items) == 164
    assert suite.items[7].responses == ("c7", "r7")


def test_a_hub_data_set_is_read_by_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real ``load_dataset``, on a folder of the hub's layout: the hub itself cannot be reached in tests."""
    folder = tmp_path / "allenai" / "reward-bench" / "data"
    folder.mkdir(parents=True)
    complete = [row(n, subset) for subset, k in suites.card("rewardbench").counts.items() for n in range(k)]
    import pandas as pd

    pd.DataFrame(complete).to_parquet(folder / "filtered-00000-of-00001.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    suite = suites.load("rewardbench")
    assert len(suite.items) == 2985
    assert not suite.partial
    fetched = suites.fetch("rewardbench")
    assert len(fetched) == 1
    monkeypatch.chdir(Path(__file__).parent)  # nothing of the hub's layout here: only what was fetched
    again = suites.load("rewardbench")
    assert again.content_hash() == suite.content_hash()
    # The folder can be carried to another machine; a file that changed on the way is refused.
    moved = (tmp_path / "cache").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("RMBENCH_CACHE", str(moved))
    assert suites.load("rewardbench").content_hash() == suite.content_hash()
    (file,) = moved.rglob("rows.jsonl.gz")
    assert json.loads((file.parent / "SHA256.json").read_text()) == {file.name: next(iter(fetched.values()))}
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()).replace(b"c7", b"c8", 1)))
    with pytest.raises(
        BadData, match=r"rows\.jsonl\.gz is not as it was fetched .*; run rmbench fetch rewardbench again"
    ):
        suites.load("rewardbench")


def test_a_hub_folder_that_is_no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("one", "two"):
        folder = tmp_path / "org" / "set" / part
        folder.mkdir(parents=True)
        (folder / "test.jsonl").write_text(json.dumps({"x": part}) + "\n")
    monkeypatch.chdir(tmp_path)
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    assert [dict(r) for r in rows.read_hub("hf:org/set:two:test")] == [{"x": "two"}]
    with pytest.raises(BadData, match="cannot be loaded"):
        list(rows.read_hub("hf:org/set:three:test"))


def test_a_suite_off_the_hub_says_where_its_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for call in (suites.load, suites.fetch):
        with pytest.raises(BadData, match=r"llmbar is not on the Hugging Face Hub\. Clone https"):
            call("llmbar")


def test_one_file_does_not_serve_for_several(write_rows: Write) -> None:
    path = write_rows([{"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}])
    with pytest.raises(BadData, match="reads several files; give --data their folder"):
        suites.load("hh-rlhf", data=path)


def test_without_rows_the_next_step_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadData, match=r"--data DIR or set RMBENCH_DATA .*; looked for rewardbench_v1/"):
        suites.load("rewardbench")
    with pytest.raises(BadData, match="holds nothing for rewardbench"):
        suites.load("rewardbench", data=tmp_path)
    with pytest.raises(BadData, match="does not exist"):
        suites.load("rewardbench", data=tmp_path / "no")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"chosen": None}, r":3: no 'chosen'"),
        ({"chosen": ""}, r":3: 'chosen' is empty"),
        ({"chosen": " \n"}, r":3: 'chosen' is empty"),
        ({"rejected": True}, r":3: 'rejected' is True, a bool"),
        ({"rejected": ["a"]}, r":3: 'rejected' is \['a'\], a list"),
        ({"prompt": ""}, r":3: 'prompt' is empty"),
        ({"prompt": None}, r":3: no 'prompt'; the columns are"),
        ({"prompt": [{"role": "robot", "content": "x"}]}, r":3: 'prompt' is no conversation"),
        ({"id": 1}, r":3: duplicate id 'hep-go/1', first at .*:2"),
        ({"subset": "hep-goo"}, r"unknown subset .*'hep-goo'; did you mean hep-go"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(write_rows: Write, bad: dict[str, Any], said: str) -> None:
    path = write_rows([row(0), row(1), row(2) | bad])
    with pytest.raises((BadData, UnknownName), match=said):
        suites.load("rewardbench", data=path)


def test_a_missing_column_is_named(write_rows: Write) -> None:
    path = write_rows([{k: v for k, v in row(0).items() if k != "chosen"}])
    with pytest.raises(BadData, match=r":1: no 'chosen'; the columns are 'prompt', 'rejected'"):
        suites.load("rewardbench", data=path)


@pytest.mark.parametrize("text", ["{", "[1, 2]", "null", '"x"', "{}x", "\x00"])
def test_a_line_that_is_no_record_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row(0)) + "\n" + text + "\n")
    with pytest.raises(BadData, match=r"rows\.jsonl:2: "):
        suites.load("rewardbench", data=path)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    for name, content in (("a.jsonl", b'{"prompt": "\xff"}\n'), ("a.csv", b"prompt,chosen\n\xff,x\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadData, match=name):
            list(rows.read(tmp_path / name))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"{}\n" * 1000)[:-20])
    with pytest.raises(BadData, match="cannot be read"):
        list(rows.read(tmp_path / "a.jsonl.gz"))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(BadData, match="cannot be read"):
        list(rows.read(tmp_path / "a.parquet"))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path, name: str) -> None:
    text = "prompt,chosen\np,c\n" if name == "a.csv" else '{"prompt": "p", "chosen": "c"}\n'
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert [dict(r) for r in rows.read(tmp_path / name)] == [{"prompt": "p", "chosen": "c"}]


def test_too_many_rows_are_refused(write_rows: Write) -> None:
    path = write_rows([row(n) for n in range(165)])
    with pytest.raises(BadData, match="'hep-go' has 165 items and should have 164"):
        suites.load("rewardbench", data=path)


def test_an_empty_file_is_refused(write_rows: Write) -> None:
    with pytest.raises(BadData, match="no items"):
        suites.load("rewardbench", data=write_rows([]))


def test_unknown_names_give_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean rewardbench"):
        suites.load("rewardbanch")
    with pytest.raises(UnknownName, match="before-2024-09"):
        suites.card("rewardbench:before-2024")


def test_of_many_names_the_nearest_few_are_given() -> None:
    many = [f"{n}-1-model-a" for n in range(1600)]
    near, far = str(UnknownName("item of x", "81-1-model", many)), str(UnknownName("item of x", "nosuch", many))
    assert "did you mean 81-1-model-a" in near
    assert "and 1,595 more." in far
    assert len(far) < 200
    few = UnknownName("suite", "zzz", ["a", "b"])
    assert str(few) == "unknown suite 'zzz'; known: a, b."
    row = rows.Row({f"column {n}": n for n in range(500)})
    assert str(row.absent("x")).endswith("'column 4' and 495 more")


SUITE_FILE = """
from rmbench.core import Item, Message, Rules, Suite
SUITE = Suite(name="mine", version="1", about="", categories={"All": ("one",)}, rules=Rules(name="mine-1"),
              source="file:mine.jsonl", licence="MIT", citation="")
def items(data):
    for n, row in enumerate(data.rows()):
        if row.get("skip"):
            data.exclude(row, "marked skip")
            continue
        yield Item(id=str(n), subset="one", prompt=(Message(role="user", content=row.text("q")),),
                   responses=tuple(row["a"]), grades=tuple(row["g"]))
"""


def test_a_suite_file_of_ones_own(tmp_path: Path, write_rows: Write) -> None:
    (tmp_path / "mine.py").write_text(SUITE_FILE)
    write_rows([{"q": "?", "a": ["x", "y"], "g": [1, 0]}, {"q": "?", "skip": True}], "mine.jsonl")
    suite = suites.load(str(tmp_path / "mine.py"))
    assert len(suite.items) == 1
    assert suite.excluded == {"marked skip": 1}
    write_rows([{"q": "?", "a": ["x", "y"], "g": [1]}], "mine.jsonl")
    with pytest.raises(BadData, match=r"mine\.jsonl:1: 2 responses and 1 grades"):
        suites.load(str(tmp_path / "mine.py"))
    write_rows([{"question": "?", "a": ["x", "y"], "g": [1, 0]}], "mine.jsonl")
    with pytest.raises(BadData, match=r"mine\.jsonl:1: no 'q'; the columns are 'question', 'a', 'g'"):
        suites.load(str(tmp_path / "mine.py"))
    write_rows([{"q": "?", "a": ["x", True], "g": [1, 0]}], "mine.jsonl")
    with pytest.raises(BadData, match=r"mine\.jsonl:1: id, subset and responses must be texts"):
        suites.load(str(tmp_path / "mine.py"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "it has no SUITE"),
        ("SUITE = 1", r"it has no SUITE \(a suite\)"),
        (SUITE_FILE.replace("def items", "def rows"), r"it has no items \(a function\)"),
        ("SUITE =", r"other\.py cannot be imported: SyntaxError"),
        ("import no_such_module", r"other\.py cannot be imported: ModuleNotFoundError"),
        (
            SUITE_FILE.replace('row["g"]', 'row["g"]["x"]'),
            r"mine\.jsonl:1: .* \(.*other\.py:11: TypeError: list indices",
        ),
    ],
)
def test_a_faulty_suite_file_is_named(tmp_path: Path, write_rows: Write, text: str, said: str) -> None:
    (tmp_path / "other.py").write_text(text)
    write_rows([{"q": "?", "a": ["x", "y"], "g": [1, 0]}], "mine.jsonl")
    with pytest.raises(UsageError, match=said):
        suites.load(str(tmp_path / "other.py"))


def test_suites_of_other_packages(tmp_path: Path, write_rows: Write, monkeypatch: pytest.MonkeyPatch, cli: Any) -> None:
    """By entry point, as an installed package brings them; a faulty one hides nothing."""
    (tmp_path / "acme_suite.py").write_text(SUITE_FILE)
    write_rows([{"q": "?", "a": ["x", "y"], "g": [1, 0]}], "mine.jsonl")
    meta = tmp_path / "acme-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text("[rmbench.suites]\nacme = acme_suite\nbroken = acme_nothing\nother = json\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    suites._known.cache_clear()
    try:
        assert len(suites.load("acme").items) == 1
        for name, said in (("broken", "of package acme cannot be imported"), ("other", "is no suite: it has no SUITE")):
            with pytest.raises(UsageError, match=said):
                suites.card(name)
        listed = cli("list", "suites")
        assert listed.exit_code == 0
        assert all(name in listed.stdout for name in ("acme", "broken", "rewardbench"))
    finally:
        suites._known.cache_clear()


def test_limited_is_seeded_stratified_and_nested() -> None:
    suite = suites.load("starter")
    ten, fifty = suites.limited(suite, 10, 0), suites.limited(suite, 50, 0)
    assert {i.id for i in ten} < {i.id for i in fifty}
    assert [i.id for i in fifty] == [i.id for i in suite.items if i.id in {j.id for j in fifty}]
    assert {i.id for i in suites.limited(suite, 50, 1)} != {i.id for i in fifty}
    assert len({i.subset for i in suites.limited(suite, 32, 0)}) == 16
    assert len(suites.limited(suite, 10_000, 0)) == len(suite.items)
    with pytest.raises(UsageError, match="--limit 0"):
        suites.limited(suite, 0, 0)


def test_dialogues() -> None:
    here = rows.Row()
    turns = rows.dialogue("\n\nHuman: a: b\n\nAssistant: c\n\nd\n\nHuman: e\n\nAssistant:", here)
    assert [(m.role, m.content) for m in turns] == [
        ("user", "a: b"),
        ("assistant", "c\n\nd"),
        ("user", "e"),
        ("assistant", ""),
    ]
    with pytest.raises(BadData, match="no dialogue"):
        rows.dialogue("hello", here)


def test_a_hundred_thousand_rows_load_in_seconds(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "big.jsonl"
    with path.open("w") as opened:
        for n in range(100_000):
            opened.write(
                json.dumps({"prompt": f"question {n} " * 5, "chosen": "yes " * 40, "rejected": "no " * 40}) + "\n"
            )
    suite = suites.load(str(path))
    assert len(suite.items) == 100_000
    # Not a timed test: the bound is on memory, and 2 GB is what the product promises.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2_000_000
