"""Dirty rows of the published sets: each is a counted exclusion, a counted peculiarity, or an error with its place."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rmbench import suites
from rmbench.core import Suite
from rmbench.errors import BadData, UnknownName

Load = Callable[..., Suite]
FIXTURES = Path(__file__).parent / "fixtures" / "suites"


@pytest.fixture
def of(tmp_path: Path) -> Load:
    def make(ref: str, file: str, *rows: dict[str, Any]) -> Suite:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(r) + "\n" for r in rows)
        path.write_text(json.dumps(rows) if file.endswith(".json") else text)
        return suites.load(ref, data=tmp_path)

    return make


# HH-RLHF


def hh(chosen: str, rejected: str) -> dict[str, str]:
    return {"chosen": chosen, "rejected": rejected}


HUMAN = "\n\nHuman: Is it safe?\n\nAssistant:"


def test_dialogues_whose_prompts_differ_are_left_out_and_counted(real_data: Path) -> None:
    suite = suites.load("hh-rlhf:harmless-base", data=real_data)
    assert suite.excluded == {"the two dialogues differ before the last answer": 5}
    left_out = set(range(2312)) - {int(i.id.rpartition("-")[2]) for i in suite.items}
    assert left_out == {1254, 1688, 1950, 1952, 2036}
    assert sum(not r for i in suite.items for r in i.responses) == 4
    assert any("4 items with an empty answer" in note for note in suite.notes)


def test_a_dialogue_is_split_before_its_last_answer(of: Load) -> None:
    before = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Is it safe?\n\nAssistant:"
    suite = of("hh-rlhf:harmless-base", "hh_rlhf/harmless-base.jsonl", hh(before + " No.", before + " Sure,\n\ngo on."))
    (item,) = suite.items
    assert [(m.role, m.content) for m in item.prompt] == [
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Is it safe?"),
    ]
    assert item.responses == ("No.", "Sure,\n\ngo on.")


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (hh(HUMAN + " No.", "\n\nHuman: Is it safe?"), "'rejected' does not end with an Assistant turn"),
        (hh("No.", HUMAN + " Yes."), "no dialogue"),
        ({"chosen": HUMAN + " No."}, "no 'rejected'"),
        ({"chosen": HUMAN + " No.", "rejected": None}, "no 'rejected'"),
        ({"chosen": HUMAN + " No.", "rejected": ["Yes."]}, "'rejected' is .* a list"),
    ],
)
def test_what_is_no_dialogue_is_an_error(of: Load, row: dict[str, Any], fault: str) -> None:
    with pytest.raises(BadData, match=r"harmless-base\.jsonl:1: .*" + fault):
        of("hh-rlhf:harmless-base", "hh_rlhf/harmless-base.jsonl", row)


# PandaLM


def panda(*annotators: int, **more: Any) -> dict[str, Any]:
    row = {"idx": 0, "cmp_key": "a_b", "instruction": "Shorten.", "input": "", "response1": "x", "response2": "y"}
    return row | {f"annotator{i + 1}": a for i, a in enumerate(annotators)} | more


def test_booleans_are_left_out_and_empty_responses_kept(real_data: Path) -> None:
    suite = suites.load("pandalm", data=real_data)
    assert suite.excluded == {"a response is a JSON boolean, its text lost": 6}
    indices = {int(i.id.rpartition("-")[2]) for i in suite.items}
    assert set(range(999)) - indices == {157, 158, 159, 161, 162, 164}
    assert sum(not r.strip() for i in suite.items for r in i.responses) == 54
    assert any("54 responses are empty" in note for note in suite.notes)


def test_majority_labels_are_those_the_authors_print(real_data: Path) -> None:
    suite = suites.load("pandalm", data=real_data)
    kept = Counter(i.grades for i in suite.items)
    with gzip.open(real_data / "pandalm_test" / "testset-v1.jsonl.gz", "rt") as rows:
        lost = [
            r for r in map(json.loads, rows) if isinstance(r["response1"], bool) or isinstance(r["response2"], bool)
        ]
    for row in lost:
        gold = Counter(row[f"annotator{i}"] for i in (1, 2, 3)).most_common(1)[0][0]
        kept[{0: (1.0, 1.0), 1: (1.0, 0.0), 2: (0.0, 1.0)}[gold]] += 1
    assert kept == {(1.0, 1.0): 105, (1.0, 0.0): 422, (0.0, 1.0): 472}


def test_three_opinions_are_no_majority(of: Load) -> None:
    file = "pandalm_test/testset-v1.jsonl"
    with pytest.raises(BadData, match=r"testset-v1\.jsonl:1: .*no majority"):
        of("pandalm", file, panda(0, 1, 2))
    with pytest.raises(BadData, match="must say 0"):
        of("pandalm", file, panda(1, 1, 3))
    with pytest.raises(BadData, match="duplicate id 'pandalm-000', first at"):
        of("pandalm", file, panda(1, 1, 2), panda(1, 1, 1))
    with pytest.raises(BadData, match="'response1' is 7, a int"):
        of("pandalm", file, panda(1, 1, 2, response1=7))


# XSTest


def test_free_text_and_partial_refusals(real_data: Path) -> None:
    human, gpt4 = (suites.load(ref, data=real_data) for ref in ("xstest", "xstest:gpt4"))
    assert human.excluded == {"a partial refusal, neither compliance nor refusal": 176}
    assert gpt4.excluded == {
        "a partial refusal, neither compliance nor refusal": 29,
        "gpt4_label is free text instead of a label": 11,
    }


def test_good_is_compliance_with_safe_and_refusal_of_unsafe(real_data: Path) -> None:
    suite = suites.load("xstest", data=real_data)
    assert Counter((i.subset, i.grades[0]) for i in suite.items) == {
        ("should-respond", 1.0): 955,
        ("should-respond", 0.0): 172,
        ("should-refuse", 1.0): 811,
        ("should-refuse", 0.0): 136,
    }
    prompts = [json.loads(line) for line in (real_data / "xstest" / "prompts.jsonl").read_text().splitlines()]
    unsafe = {f"v2-{p['id']}" for p in prompts if p["label"] == "unsafe"}
    assert {i.cluster for i in suite.items if i.subset == "should-refuse"} <= unsafe
    assert not {i.cluster for i in suite.items if i.subset == "should-respond"} & unsafe


def test_xstest_reads_the_authors_own_files(tmp_path: Path, real_data: Path) -> None:
    import csv

    folder = tmp_path / "xstest" / "model_completions"
    folder.mkdir(parents=True)
    columns = ("id", "type", "prompt", "completion", "annotation_1", "annotation_2", "agreement", "final_label")
    with gzip.open(real_data / "xstest" / "completions_labelled.jsonl.gz", "rt") as opened:
        rows = [json.loads(line) for line in opened]
    for model in {r["model"] for r in rows}:
        with (folder / f"xstest_v2_completions_{model}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(r for r in rows if r["model"] == model)
    suite = suites.load("xstest", data=tmp_path)
    assert suite.content_hash() == suites.load("xstest", data=real_data).content_hash()
    with pytest.raises(BadData, match="no 'gpt4_label'"):
        suites.load("xstest:gpt4", data=tmp_path)


# OpenAI moderation


def test_minors_are_left_out_and_absent_labels_open(of: Load) -> None:
    suite = of(
        "openai-moderation",
        "openai_moderation/samples.jsonl",
        {"prompt": "a", "S": 0, "H": 0},
        {"prompt": "b", "S": 1, "S3": 1},
        {"prompt": "c", "HR": 1},
    )
    assert suite.excluded == {"sexual content involving minors, left out on purpose": 1}
    assert [i.grades for i in suite.items] == [(1.0,), (0.0,)]
    assert suite.items[1].meta["labels"] == {"HR": 1}
    assert suite.missing == {"texts": 1593}


@pytest.mark.parametrize("row", [{"prompt": "a"}, {"prompt": "a", "S": 2}, {"prompt": "a", "S": None}])
def test_labels_must_be_labels(of: Load, row: dict[str, Any]) -> None:
    with pytest.raises(BadData, match=r"samples\.jsonl:1: labels are"):
        of("openai-moderation", "openai_moderation/samples.jsonl", row)


def test_real_texts_with_replacement_characters_are_counted(real_data: Path) -> None:
    notes = suites.load("openai-moderation", data=real_data).notes
    assert "2 texts hold replacement characters, as found" in notes
    assert "821 texts count as clean though not every label was judged" in notes


# The others: what does not match the published layout is named


def first(file: str) -> dict[str, Any]:
    text = (FIXTURES / file).read_text(encoding="utf-8")
    return json.loads(text)[0] if file.endswith(".json") else json.loads(text.splitlines()[0])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("ref", "file", "change", "fault"),
    [
        ("rewardbench2", "rewardbench2/test.jsonl", {"rejected": ["a", "b"]}, "1 chosen and 2 rejected"),
        ("rewardbench2", "rewardbench2/test.jsonl", {"chosen": []}, "'chosen' must be a list"),
        ("rewardbench2", "rewardbench2/test.jsonl", {"subset": "Ties"}, "must be ref:<n> or tied:<n>"),
        ("rm-bench", "rm_bench/total_dataset.jsonl", {"chosen": ["a", "b"]}, "three strings each"),
        ("rm-bench", "rm_bench/total_dataset.jsonl", {"rejected": None}, "three strings each"),
        ("judgebench", "judgebench/gpt.jsonl", {"label": "A=B"}, "it must be A>B or B>A"),
        ("judgebench", "judgebench/gpt.jsonl", {"response_A": ""}, "'response_A' is empty"),
        ("llmbar", "llmbar/llmbar.jsonl", {"label": 0}, "it must be 1 or 2"),
        ("m-rewardbench:deu_Latn", "m_rewardbench/deu_Latn.jsonl", {"subset": "news"}, "none of RewardBench's"),
        ("ppe:human", "ppe/human.jsonl", {"winner": "draw"}, "winner is 'draw'"),
        ("ppe:correctness", "ppe/mmlu-pro.jsonl", {"scores": [0.5]}, "right .1. and wrong .0."),
        ("ppe:correctness", "ppe/mmlu-pro.jsonl", {"sampled_conflict_pairs": [[0, 3]]}, "pairs of a right and a wrong"),
        (
            "ppe:correctness",
            "ppe/mmlu-pro.jsonl",
            {"sampled_conflict_pairs": [[0, 99]]},
            "pairs of a right and a wrong",
        ),
        ("ppe:correctness", "ppe/mmlu-pro.jsonl", {"response_32": None}, "no 'response_32'"),
        ("rewardbench-prior-sets", "preference_test_sets/anthropic_helpful.jsonl", {"prompt": []}, "'prompt' is"),
    ],
)
def test_rows_of_another_layout_are_errors(of: Load, ref: str, file: str, change: dict[str, Any], fault: str) -> None:
    row = first(file) if (FIXTURES / file).exists() else {"input": "Q", "output_1": "a", "output_2": "b", "label": 1}
    with pytest.raises(BadData, match=r"json(l:1|\[0\]): .*" + fault):
        of(ref, file, row | change)


def test_unknown_subsets_are_refused(of: Load) -> None:
    row = first("rewardbench2/test.jsonl")
    with pytest.raises(UnknownName, match=r"'Maths'.*did you mean Math"):
        of("rewardbench2", "rewardbench2/test.jsonl", row | {"subset": "Maths"})
    row = first("judgebench/gpt.jsonl")
    with pytest.raises(UnknownName, match="gsm8k"):
        of("judgebench", "judgebench/gpt.jsonl", row | {"source": "gsm8k"})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"category_path": "Pairwise_set"}, "must begin with Pairwise_set/<goal>/"),
        ({"reject": {"llm_name": "m2"}}, "an answer must be"),
        ({"chosen": "text"}, "an answer must be"),
    ],
)
def test_rmb_rows(of: Load, tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    (tmp_path / "BoN_set" / "x").mkdir(parents=True)
    (tmp_path / "BoN_set" / "x" / "y.json").write_text("[]")
    row = first("rmb/Pairwise_set/Helpfulness/Chat/Discussion.json")
    with pytest.raises(BadData, match=r"x\.json\[0\]: .*" + fault):
        of("rmb", "Pairwise_set/Helpfulness/Chat/x.json", row | change)


def test_llmbar_reads_the_authors_own_folders(tmp_path: Path, real_data: Path) -> None:
    with gzip.open(real_data / "llmbar" / "llmbar.jsonl.gz", "rt") as opened:
        rows = [json.loads(line) for line in opened]
    folders = {"natural": "Natural"} | {
        f"adver-{n}": f"Adversarial/{n[0].upper()}{n[1:]}" for n in ("neighbor", "GPTInst", "GPTOut", "manual")
    }
    for subset, folder in folders.items():
        place = tmp_path / "LLMBar" / "Dataset" / "LLMBar" / folder
        place.mkdir(parents=True)
        own = [{k: r[k] for k in ("input", "output_1", "output_2", "label")} for r in rows if r["subset"] == subset]
        (place / "dataset.json").write_text(json.dumps(own))
    suite = suites.load("llmbar", data=tmp_path)
    assert suite.content_hash() == suites.load("llmbar", data=real_data).content_hash()


def test_hhh_reads_the_hubs_rows(tmp_path: Path) -> None:
    (tmp_path / "hhh_alignment").mkdir()
    rows = (FIXTURES / "hhh_hub" / "harmless.jsonl").read_text()
    for subset in ("harmless", "helpful", "honest", "other"):
        (tmp_path / "hhh_alignment" / f"{subset}.jsonl").write_text(rows)
    suite = suites.load("hhh-alignment", data=tmp_path)
    assert len(suite.items) == 4 * 3
    assert suite.items[0].responses == ("I will not help with that.", "Like this.")
