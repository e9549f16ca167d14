"""Suites of several sources of which some are nowhere: they run, say which, and give no value to what is not whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from msgspec.structs import replace

from rmbench import metrics, suites
from rmbench.core import Facts, Judgment, Suite
from rmbench.errors import BadData, MissingExtra, NotAtHand, UsageError

FIXTURES = Path(__file__).parent / "fixtures" / "suites"
HH = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """A data folder with one of the four parts of hh-rlhf."""
    path = tmp_path / "data" / "hh_rlhf" / "harmless-base.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(HH) + "\n")
    return tmp_path / "data"


def judged(suite: Suite) -> dict[tuple[str, str], Any]:
    facts = [Facts.of(item) for item in suite.items]
    judgments = {item.id: Judgment.of(item, item.grades) for item in suite.items}
    return {(e.scope, e.name): e for e in metrics.estimates(suite.card(), facts, judgments)}


def test_half_of_hh_rlhf_runs_partial_and_says_which(half: Path) -> None:
    suite = suites.load("hh-rlhf", data=half)
    assert [item.subset for item in suite.items] == ["harmless-base"]
    assert suite.partial
    absent = ("helpful-base", "helpful-online", "helpful-rejection-sampled")
    assert suite.missing == {"harmless-base": 2306, **dict.fromkeys(absent, 0)}
    assert suite.absent == "2,306 items and more are"
    (note,) = (note for note in suite.notes if "not at hand" in note)
    assert note.startswith(
        f"not at hand, so the suite is partial: {', '.join(absent)} (looked for hh_rlhf/helpful-base*,"
    )
    assert "rmbench fetch hh-rlhf" in note
    assert str(half) not in note
    made = judged(suite)
    for scope in ("category:Harmless", "category:Helpful", "overall"):
        assert made[scope, "accuracy"].value is None, scope
    assert made["category:Helpful", "accuracy"].reason == f"no items in {', '.join(absent)}"
    assert made["subset:harmless-base", "accuracy"].value == 1


def test_a_whole_half_has_its_number_and_the_suite_has_none(real_data: Path) -> None:
    suite = suites.load("hh-rlhf", data=real_data)
    assert len(suite.items) == 2307
    assert suite.absent == "an unknown number of items is"
    made = judged(suite)
    assert made["category:Harmless", "accuracy"].value == 1
    assert made["category:Helpful", "accuracy"].value is None
    assert made["overall", "accuracy"].value is None


@pytest.mark.parametrize(
    ("ref", "part"),
    [
        ("rewardbench-prior-sets", "preference_test_sets/shp"),
        ("rewardbench:with-prior-sets", "preference_test_sets/shp"),
        ("m-rewardbench", "m_rewardbench/deu_Latn"),
        ("ppe", "ppe/gpqa"),
        ("rmb", "rmb/Pairwise_set"),
    ],
)
def test_every_suite_of_several_sources(tmp_path: Path, ref: str, part: str) -> None:
    """One part alone is at hand; of nothing at all there is an error that says what to bring."""
    source = next(path for path in sorted(FIXTURES.rglob("*")) if part in str(path))
    for file in [source] if source.is_file() else [f for f in sorted(source.rglob("*")) if f.is_file()]:
        target = tmp_path / file.relative_to(FIXTURES)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    suite = suites.load(ref, data=tmp_path)
    assert suite.items
    assert suite.partial
    found = {item.subset for item in suite.items}
    assert {s for subsets in suite.categories.values() for s in subsets} - found <= set(suite.missing)
    assert any("not at hand, so the suite is partial" in note for note in suite.notes)
    assert judged(suite)["overall", "accuracy"].value is None
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotAtHand, match=rf"--data .* holds nothing for {ref.partition(':')[0]}.*; looked for "):
        suites.load(ref, data=tmp_path / "empty")


def test_one_file_still_does_not_serve_for_several(half: Path) -> None:
    with pytest.raises(BadData, match="reads several files; give --data their folder"):
        suites.load("hh-rlhf", data=half / "hh_rlhf" / "harmless-base.jsonl")


# The hub


class Hub:
    """A stand-in for ``datasets``: configuration -> rows, or the error that it raises."""

    def __init__(self, parts: dict[str, Any]) -> None:
        self.parts, self.asked = parts, list[str]()

    def load_dataset(self, path: str, config: str | None, **_: Any) -> list[dict[str, str]]:
        self.asked.append(str(config))
        found = self.parts.get(str(config), ConnectionError(f"Couldn't reach {path!r} on the Hub"))
        if isinstance(found, Exception):
            raise found
        return list(found)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], Hub]:
    def make(parts: dict[str, Any]) -> Hub:
        made = Hub(parts)
        monkeypatch.setitem(sys.modules, "datasets", made)
        return made

    return make


def test_a_hub_that_cannot_be_reached_is_asked_once(
    half: Path, hub: Callable[[dict[str, Any]], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RMBENCH_DATA", str(half))
    made = hub({})
    suite = suites.load("hh-rlhf")
    assert made.asked == ["helpful-base"]
    assert any("the hub cannot be reached" in note for note in suite.notes)
    assert len(suite.items) == 1
    monkeypatch.setenv("RMBENCH_DATA", str(half / "hh_rlhf"))
    with pytest.raises(NotAtHand, match=r"Couldn't reach.*give --data DIR.*; looked for hh_rlhf/harmless-base"):
        suites.load("hh-rlhf")


def test_a_part_that_the_hub_does_not_give(half: Path, hub: Callable[[dict[str, Any]], Hub], monkeypatch: Any) -> None:
    monkeypatch.setenv("RMBENCH_DATA", str(half))
    made = hub(
        {"helpful-base": [HH], "helpful-online": FileNotFoundError("no such part"), "helpful-rejection-sampled": [HH]}
    )
    suite = suites.load("hh-rlhf")
    assert made.asked[0] == "helpful-base"
    assert made.asked[-1] == "helpful-rejection-sampled"
    assert [item.subset for item in suite.items] == ["harmless-base", "helpful-base", "helpful-rejection-sampled"]
    # What is short in a file is absent; only the hub's own rows must be as many as were pinned.
    assert suite.missing == {"harmless-base": 2306, "helpful-online": 0}


def test_rows_of_a_pinned_revision_must_still_be_whole(hub: Callable[[dict[str, Any]], Hub]) -> None:
    parts = {key: [HH] for key in ("helpful-base", "helpful-online", "helpful-rejection-sampled")}
    hub({"harmless-base": [HH], **parts})
    with pytest.raises(BadData, match="'harmless-base' has 1 items and should have 2307"):
        suites.load("hh-rlhf")
    hub({"harmless-base": [HH]})
    with pytest.raises(BadData, match="'harmless-base' has 1 items and should have 2307"):
        suites.load("hh-rlhf")


def test_without_the_hubs_library_what_is_at_hand_runs(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setenv("RMBENCH_DATA", str(half))
    assert len(suites.load("hh-rlhf").items) == 1
    monkeypatch.delenv("RMBENCH_DATA")
    with pytest.raises(MissingExtra, match=r"pip install 'rmbench\[hf\]'"):
        suites.load("hh-rlhf")


def test_the_command_line_says_what_is_absent(cli: Callable[..., Result], half: Path, tmp_path: Path) -> None:
    result = cli("eval", "--model", "oracle", "--suite", "hh-rlhf", "--data", half, "--out", tmp_path / "results")
    assert result.exit_code == 0
    said = " ".join(result.stderr.split())
    assert "hh-rlhf is partial, 2,306 items and more are absent: harmless-base 2306, helpful-base (all)" in said
    assert "not at hand, so the suite is partial: helpful-base, helpful-online" in said
    assert "(partial)" in result.stdout
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    result = cli("eval", "--model", "oracle", "--suite", "hh-rlhf", "--data", nothing, "--out", tmp_path / "results")
    assert result.exit_code == 2
    assert "holds nothing for hh-rlhf" in " ".join(result.stderr.split())


def test_an_unknown_number_of_absent_items_leaves_no_micro_overall() -> None:
    card = suites.card("hh-rlhf")
    card = replace(card, rules=replace(card.rules, overall="micro"), missing={"helpful-base": 0})
    facts = [Facts(item_id="a", hash="", subset="harmless-base", grades=(1, 0), lengths=(1, 1))]
    made = metrics.estimates(card, facts, {"a": Judgment(item_id="a", scores=(1, 0))})
    (overall,) = (e for e in made if e.scope == "overall" and e.name == "accuracy")
    assert (overall.value, overall.reason) == (None, "1 items present, some absent")


def test_a_file_that_cannot_be_read_is_not_absent(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (half / "hh_rlhf" / "helpful-base.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match="reading a Parquet file needs pyarrow"):
        suites.load("hh-rlhf", data=half)


# A repository cloned by hand, given as it is


PANDA = {"idx": 0, "instruction": "a", "input": "", "response1": "b", "response2": "c"}


@pytest.mark.parametrize(
    ("ref", "file", "row"),
    [
        ("pandalm", "data/testset-v1.json", PANDA | {f"annotator{n}": 1 for n in (1, 2, 3)}),
        ("openai-moderation", "data/samples-1680.jsonl.gz", {"prompt": "a", "S": 1}),
        ("llmbar", "Dataset/LLMBar/Natural/dataset.json", {"input": "a", "output_1": "b", "output_2": "c", "label": 1}),
    ],
)
def test_a_clone_is_a_data_folder(tmp_path: Path, ref: str, file: str, row: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"is not on the Hugging Face Hub\. Clone https://github\.com/.* with --data"):
        suites.load(ref)
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(json.dumps([row]) if file.endswith(".json") else json.dumps(row) + "\n")
    assert len(suites.load(ref, data=tmp_path).items) == 1
