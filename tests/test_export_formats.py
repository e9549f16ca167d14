"""Runs in other tools' formats: what their readers ask for is there, and nothing else."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from click.testing import CliRunner

import report_fixtures as made
from rmbench import store
from rmbench.cli import main
from rmbench.core import Estimate, Item, Suite
from rmbench.errors import UsageError
from rmbench.export import every_eval_ever, hub, imports, rewardbench, tables, trackers
from rmbench.metrics import summary
from rmbench.store import Stored

# Every Eval Ever's two schemas (evaleval/every_eval_ever, read at commit 21b3d1a and, for the companion's path, in its
# types at 09496fc) in our words: the copy at hand names no licence, so its text is not kept here.
TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
WORDS = {"type": "object", "additionalProperties": TEXT}
UUID4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
SOURCES = [
    {"properties": {"source_type": {"const": "url"}, "url": {**TEXTS, "minItems": 1}}, "required": ["url"]},
    {"properties": {"source_type": {"const": "hf_dataset"}}, "required": ["hf_repo"]},
    {"properties": {"source_type": {"const": "other"}}},
]  # fmt: skip
RECORD = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        "schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata", "model_info", "eval_library",
        "evaluation_results",
    ],
    "properties": {
        "schema_version": TEXT,
        "evaluation_id": TEXT,
        "evaluation_timestamp": TEXT,
        "retrieved_timestamp": {"type": "string", "pattern": r"^\d+$"},
        "source_metadata": {
            "type": "object",
            "required": ["source_type", "source_organization_name", "evaluator_relationship"],
            "properties": {
                "source_type": {"enum": ["documentation", "evaluation_run"]},
                "evaluator_relationship": {"enum": ["first_party", "third_party", "collaborative", "other"]},
            },
        },
        "eval_library": {"required": ["name", "version"], "properties": {"name": TEXT, "version": TEXT}},
        "model_info": {
            "type": "object",
            "required": ["name", "id"],
            "properties": {
                "id": {"type": "string", "pattern": "^.+/.+$"},
                "additional_details": {
                    **WORDS,
                    "required": ["deployment_type", "model_availability"],
                    "properties": {
                        "deployment_type": {"enum": ["self_deployed", "externally_managed", "unknown"]},
                        "model_availability": {"enum": ["open_weights", "closed_weights", "unknown"]},
                    },
                },
            },
        },
        "evaluation_results": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["evaluation_name", "source_data", "metric_config", "score_details"],
                "properties": {
                    "source_data": {"required": ["dataset_name", "source_type"], "oneOf": SOURCES},
                    "metric_config": {
                        "required": ["lower_is_better", "score_type", "min_score", "max_score"],
                        "properties": {
                            "lower_is_better": {"type": "boolean"},
                            "score_type": {"const": "continuous"},
                            "min_score": {"type": "number"},
                            "max_score": {"type": "number"},
                            "additional_details": WORDS,
                        },
                    },
                    "score_details": {
                        "required": ["score"],
                        "properties": {
                            "score": {"type": "number"},
                            "details": WORDS,
                            "uncertainty": {
                                "properties": {
                                    "standard_error": {"required": ["value"]},
                                    "confidence_interval": {
                                        "required": ["lower", "upper"],
                                        "properties": {"confidence_level": {"minimum": 0, "maximum": 1}},
                                    },
                                    "num_samples": {"type": "integer"},
                                },
                            },
                        },
                    },
                },
            },
        },
        "detailed_evaluation_results": {
            "required": ["format", "file_path"],
            "properties": {
                "format": {"const": "jsonl"},
                "file_path": {"type": "string", "pattern": f"^data/[^/]+/[^/]+/[^/]+/{UUID4}_samples\\.jsonl$"},
                "hash_algorithm": {"const": "sha256"},
                "total_rows": {"type": "integer", "minimum": 1},
            },
        },
    },
}  # fmt: skip
SAMPLE = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        "schema_version", "evaluation_id", "model_id", "evaluation_name", "sample_id", "interaction_type", "input",
        "output", "answer_attribution", "evaluation",
    ],
    "properties": {
        **dict.fromkeys(["schema_version", "evaluation_id", "model_id", "evaluation_name", "sample_id"], TEXT),
        "evaluation_result_id": TEXT,
        "sample_hash": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "interaction_type": {"const": "single_turn"},
        "messages": {"type": "null"},
        "input": {
            "required": ["raw", "reference"],
            "properties": {"raw": TEXT, "reference": TEXTS, "choices": TEXTS},
        },
        "output": {"type": "object", "required": ["raw"], "properties": {"raw": TEXTS}},
        "answer_attribution": {
            "type": "array",
            "items": {
                "required": ["turn_idx", "source", "extracted_value", "extraction_method", "is_terminal"],
                "properties": {"turn_idx": {"type": "integer"}, "extracted_value": TEXT},
            },
        },
        "evaluation": {
            "required": ["score", "is_correct"],
            "properties": {"score": {"type": "number"}, "is_correct": {"type": "boolean"}},
        },
        "token_usage": {
            "required": ["input_tokens", "output_tokens", "total_tokens"],
            "additionalProperties": {"type": "integer", "minimum": 0},
        },
        "error": {"type": ["string", "null"]},
        "metadata": WORDS,
    },
}  # fmt: skip


def one(root: Path, of: Suite, model: str = "org/good", **more: Any) -> tuple[Stored, list[Estimate]]:
    stored = store.read(made.run(root, of, model, seed=1, **more))
    return stored, summary.estimates(stored.run.suite, stored.facts, stored.judgments)


def by_hash(of: Suite) -> dict[str, Item]:
    return {item.content_hash(): item for item in of.items}


@pytest.mark.parametrize("texts", [True, False])
@pytest.mark.parametrize("judge", [True, False])
@pytest.mark.parametrize("source", ["hf:org/set:test@abc", "https://example.org/set", "file:toy"])
def test_every_eval_ever_follows_the_schemas(tmp_path: Path, texts: bool, judge: bool, source: str) -> None:
    of = made.suite(40, source=source)
    stored, estimates = one(tmp_path, of, judge=judge, errors=(3,))
    files = every_eval_ever.export(stored, estimates, by_hash(of) if texts else None)
    (record_file, record_bytes), (samples_file, samples_bytes) = sorted(files.items())
    assert re.fullmatch(f"data/toy/org/good/{UUID4}\\.json", record_file)
    record = json.loads(record_bytes)
    jsonschema.validate(record, RECORD)
    # The merge gate's further checks: score within bounds, the companion's path, rows, checksum and ids.
    for result in record["evaluation_results"]:
        config = result["metric_config"]
        assert config["min_score"] <= result["score_details"]["score"] <= config["max_score"]
    detail = record["detailed_evaluation_results"]
    assert detail["file_path"] == samples_file
    assert detail["checksum"] == hashlib.sha256(samples_bytes).hexdigest()
    rows = [json.loads(line) for line in samples_bytes.splitlines()]
    assert detail["total_rows"] == len(rows) == 40
    results = {r["evaluation_result_id"]: r["evaluation_name"] for r in record["evaluation_results"]}
    for row in rows:
        jsonschema.validate(row, SAMPLE)
        assert row["evaluation_id"] == record["evaluation_id"]
        assert row["model_id"] == record["model_info"]["id"]
        assert results[row["evaluation_result_id"]] == row["evaluation_name"]
        raw = {"raw": row["input"]["raw"], "reference": row["input"]["reference"]}
        canonical = json.dumps(raw, sort_keys=True, separators=(",", ":"))
        assert row["sample_hash"] == hashlib.sha256(canonical.encode()).hexdigest()
    assert sum(row["error"] is not None for row in rows) == 1
    right = {r.item_id for r, c in _credits(stored) if c == 1.0}
    assert {row["sample_id"] for row in rows if row["evaluation"]["is_correct"]} == right


def test_every_eval_ever_without_texts_has_no_words_either(tmp_path: Path) -> None:
    of = made.suite(16)
    stored, estimates = one(tmp_path, of, judge=True)
    with_texts, without = (
        b"".join(every_eval_ever.export(stored, estimates, items).values()) for items in (by_hash(of), None)
    )
    assert b"I prefer" in with_texts
    assert b"I prefer" not in without


@pytest.mark.parametrize("model", ["org/good", "length:longest", "a/b/c", "scripted:x y.jsonl", "org/" + "n" * 100])
def test_every_eval_ever_is_found_by_the_models_id(tmp_path: Path, model: str) -> None:
    stored, estimates = one(tmp_path, made.suite(8, source="hf:org/set:{key}"), model)
    record_file, *_ = sorted(every_eval_ever.export(stored, estimates))
    record = json.loads(every_eval_ever.export(stored, estimates)[record_file])
    assert record_file.split("/")[2:4] == record["model_info"]["id"].split("/")
    assert record["model_info"]["name"] == model
    assert all("hf_split" not in r["source_data"] for r in record["evaluation_results"])


def test_the_schema_copy_refuses_what_it_should(tmp_path: Path) -> None:
    of = made.suite(8)
    files = every_eval_ever.export(*one(tmp_path, of))
    record = json.loads(min(files.items())[1])
    for spoil in (
        lambda r: r.pop("model_info"),
        lambda r: r.update(extra=1),
        lambda r: r["evaluation_results"][0]["score_details"].update(score="1"),
        lambda r: r["detailed_evaluation_results"].update(file_path="samples.jsonl"),
        lambda r: r["model_info"]["additional_details"].update(n=1),
    ):
        spoilt = json.loads(json.dumps(record))
        spoil(spoilt)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spoilt, RECORD)


def _credits(stored: Stored) -> list[tuple[Any, float | None]]:
    credits = summary.credits_of(stored.facts, stored.judgments, stored.run.suite.rules)
    return [(f, None if c is None else c.value) for f, c in zip(stored.facts, credits, strict=True)]


def test_rewardbench_files_have_the_peers_keys(tmp_path: Path) -> None:
    of = made.suite(40)
    stored, _ = one(tmp_path, of, errors=(2,))
    files = rewardbench.export(stored, by_hash(of))
    assert files.keys() == {
        "org-good.json", "org-good_outputs.jsonl", "eval-set/org/good.json", "eval-set-scores/org/good.json",
    }  # fmt: skip
    overall = json.loads(files["org-good.json"])
    assert overall.keys() == {
        "accuracy", "num_prompts", "model", "ref_model", "tokenizer", "chat_template", "extra_results",
    }  # fmt: skip
    rows = [json.loads(line) for line in files["org-good_outputs.jsonl"].splitlines()]
    pairs = [(f, c) for f, c in _credits(stored) if len(f.grades) == 2]
    assert overall["num_prompts"] == len(rows) == len(pairs) == 35
    assert overall["accuracy"] == pytest.approx(sum(c for _, c in pairs) / len(pairs))
    grouped = json.loads(files["eval-set/org/good.json"])
    assert {k: v for k, v in grouped.items() if k in overall["extra_results"]} == overall["extra_results"]
    scores = json.loads(files["eval-set-scores/org/good.json"])
    assert scores["scores_chosen"] == [r["scores_chosen"] for r in rows]
    for row in rows:
        if row["scores_chosen"] is not None:
            assert row["results"] == int(row["scores_chosen"] > row["scores_rejected"])


def test_rewardbench_files_come_back_as_the_same_run(tmp_path: Path) -> None:
    of = made.suite(40)
    stored, _ = one(tmp_path, of)
    files = rewardbench.export(stored)
    pairs = {f.item_id for f in stored.facts if len(f.grades) == 2}
    for name in ("org-good_outputs.jsonl", "eval-set-scores/org/good.json"):
        file = tmp_path / Path(name).name
        file.write_bytes(files[name])
        run, facts, judgments = imports.read(file, "rewardbench", of)
        assert judgments.keys() == pairs
        assert all(judgments[i].scores == stored.judgments[i].scores for i in pairs)
        assert run.status == "imported"
        assert [f.item_id for f in facts] == [i.id for i in of.items]


def test_rewardbench_refuses_a_run_without_pairs(tmp_path: Path) -> None:
    of = made.suite(16)
    rankings = msgspec.structs.replace(of, items=tuple(i for i in of.items if len(i.grades) == 4))
    with pytest.raises(UsageError, match="pairs only"):
        rewardbench.export(one(tmp_path, rankings)[0])


def test_eval_results_are_what_the_hubs_library_reads(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    import yaml
    from huggingface_hub import parse_eval_result_entries

    of = made.suite(40, source="hf:allenai/reward-bench:filtered@0123abc")
    stored, estimates = one(tmp_path, of)
    ((name, content),) = hub.eval_results(stored, estimates).items()
    assert name == ".eval_results/toy.yaml"
    entries = parse_eval_result_entries(yaml.safe_load(content))
    overall = next(e for e in entries if e.task_id == "overall")
    assert overall.dataset_id == "allenai/reward-bench"
    assert overall.dataset_revision == "0123abc"
    value = next(e.value for e in estimates if e.scope == "overall")
    assert overall.value == pytest.approx(100 * value, abs=1e-3)
    assert "toy-1" in overall.notes
    assert stored.run.suite_hash in overall.notes


CLASHING = {"Chat": ("chat",), "Safety": ("safety", "chat-easy"), "Maths": ("sums", "maths")}
"""A category that is its one subset, and two that share a name with a subset of theirs."""


def test_every_number_has_one_name_of_its_own_at_the_hub(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    import yaml
    from huggingface_hub import ModelCard, parse_eval_result_entries

    of = made.suite(60, categories=CLASHING, source="hf:org/set:test")
    stored, estimates = one(tmp_path, of)
    ((_, content),) = hub.eval_results(stored, estimates).items()
    tasks = [e.task_id for e in parse_eval_result_entries(yaml.safe_load(content))]
    assert tasks == [
        "overall",
        "micro",
        "chat",
        "safety",
        "maths",
        "subset_safety",
        "chat-easy",
        "sums",
        "subset_maths",
    ]
    ((_, card),) = hub.model_index(stored, estimates).items()
    results = ModelCard(card.decode()).data.eval_results
    assert {(r.dataset_name, r.dataset_type) for r in results} == {("toy", "org/set")}
    assert [r.metric_name for r in results] == [
        "overall", "micro", "Chat", "Safety", "Maths", "subset safety", "chat-easy", "sums", "subset maths",
    ]  # fmt: skip
    own = {e.scope: e.value for e in reversed(estimates)}
    for name, scope in (("overall", "overall"), ("Safety", "category:Safety"), ("subset safety", "subset:safety")):
        found = next(r.metric_value for r in results if r.metric_name == name)
        assert found == pytest.approx(100 * own[scope], abs=1e-3)


def test_eval_results_of_a_part_say_so(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    of = made.suite(16, source="hf:org/set:test", missing={"sums": 5}, counts={"sums": 20})
    ((_, content),) = hub.eval_results(*one(tmp_path, of, limit=16)).items()
    assert b"limited to 16 items, seed 0" in content
    assert b"items absent from the data 5" in content


def test_eval_results_need_a_data_set_on_the_hub(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    with pytest.raises(UsageError, match="not from a data set on the hub"):
        hub.eval_results(*one(tmp_path, made.suite(8)))


def test_model_index_is_what_the_hubs_library_reads(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    from huggingface_hub import ModelCard

    stored, estimates = one(tmp_path, made.suite(40))
    ((_, content),) = hub.model_index(stored, estimates).items()
    results = ModelCard(content.decode()).data.eval_results
    value = next(e.value for e in estimates if e.scope == "overall")
    found = next(r.metric_value for r in results if r.metric_name == "overall")
    assert found == pytest.approx(100 * value, abs=1e-3)


def test_push_needs_the_typed_word_and_sends_the_files_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    path = made.run(tmp_path / "r", made.suite(8, source="hf:org/set:test"), "org/good")
    sent: list[tuple[str, dict[str, bytes]]] = []
    monkeypatch.setattr(hub, "push", lambda repo, files: sent.append((repo, files)) or "https://example.org/pr/1")
    base = ["export", str(path), "--to", "eval-results", "--out", str(tmp_path / "out"), "--push", "org/model"]
    refused = CliRunner().invoke(main, base, input="yes\n")
    assert refused.exit_code == 2
    assert sent == []
    taken = CliRunner().invoke(main, base, input="model\n")
    assert taken.exit_code == 0, taken.output
    assert sent[0][0] == "org/model"
    assert list(sent[0][1]) == [".eval_results/toy.yaml"]
    assert (tmp_path / "out" / ".eval_results" / "toy.yaml").read_bytes() == sent[0][1][".eval_results/toy.yaml"]
    assert "value:" in taken.output.split("Type")[0]


def test_csv_and_parquet_hold_the_same_rows(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    stored, estimates = one(tmp_path, made.suite(24), errors=(1,))
    for rows, columns in ((list(tables.responses(stored)), tables.RESPONSES),
                          (list(tables.estimates(stored, estimates)), tables.ESTIMATES)):  # fmt: skip
        a = pd.read_csv(io.BytesIO(tables.to_csv(iter(rows), columns)))
        b = pd.read_parquet(io.BytesIO(tables.to_parquet(iter(rows), columns)))
        assert list(a.columns) == list(b.columns) == list(columns)
        assert len(a) == len(b) == len(rows)
        for column in columns:
            # CSV has one word for nothing: an empty text and an absent one are the same there.
            same, other = (
                [None if pd.isna(x) or x == "" else str(x) for x in frame[column].astype(object)] for frame in (a, b)
            )
            assert same == other, column
    assert len(list(tables.responses(stored))) == sum(len(f.grades) for f in stored.facts)


def test_csv_has_no_formulas(tmp_path: Path) -> None:
    stored, _ = one(tmp_path, made.suite(8), model="=cmd|' /C calc'!A0")
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(tables.responses(stored), tables.RESPONSES).decode())))
    assert all(row["model"].startswith("'=") for row in rows)


def test_an_unfinished_run_is_not_exported(tmp_path: Path) -> None:
    path = made.run(tmp_path, made.suite(8), "m", status="running")
    result = CliRunner().invoke(main, ["export", str(path), "--to", "csv", "--out", str(tmp_path / "o")])
    assert result.exit_code == 2
    assert "not finished" in result.output


def test_same_bytes_twice(tmp_path: Path) -> None:
    of = made.suite(24, source="hf:a/b:c")
    stored, estimates = one(tmp_path, of)
    for make in (
        lambda: every_eval_ever.export(stored, estimates, by_hash(of)),
        lambda: rewardbench.export(stored),
        lambda: tables.to_csv(tables.responses(stored), tables.RESPONSES),
    ):
        assert make() == make()


@pytest.mark.slow
def test_wandb_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="the [track] extra is not installed")
    stored, estimates = one(tmp_path / "r", made.suite(24))
    place = Path(trackers.to_wandb(stored, estimates, tmp_path / "w", "rmbench"))
    files = list(place.rglob("*.wandb"))
    assert len(files) == 1
    assert b"toy/overall/accuracy" in files[0].read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # mlflow's own, with a newer SQLAlchemy
def test_mlflow_in_a_local_file(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the [track] extra is not installed")
    stored, estimates = one(tmp_path / "r", made.suite(24))
    uri = trackers.to_mlflow(stored, estimates, tmp_path / "m", "rmbench")
    client = mlflow.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("rmbench").experiment_id])
    value = next(e.value for e in estimates if e.scope == "overall")
    assert run.data.metrics["toy/overall/accuracy"] == pytest.approx(value)
    assert run.data.params["suite_hash"] == stored.run.suite_hash


@pytest.mark.slow
def test_trackio_in_a_local_folder(tmp_path: Path) -> None:
    if importlib.util.find_spec("trackio") is None:
        pytest.skip("the [track] extra is not installed")
    path = made.run(tmp_path / "r", made.suite(24), "org/good", seed=1)
    ran = subprocess.run(
        [sys.executable, "-m", "rmbench", "export", str(path), "--to", "trackio", "--out", str(tmp_path / "t")],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    (database,) = (tmp_path / "t").rglob("*.db")
    assert b"toy/overall/accuracy" in b"".join(f.read_bytes() for f in database.parent.iterdir() if f.is_file())
