"""Every Eval Ever (evaleval/every_eval_ever, schema 0.3): an aggregate record and its per-item companion.

Field by field as its published schemas and its merge gate ask: paths ``data/<collection>/<developer>/<model>/<uuid4>``,
values within their bounds, string maps of strings, SHA-256 over the companion's bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from rmbench.core import Estimate, Facts, Item
from rmbench.metrics.credit import Credit
from rmbench.metrics.summary import credits_of
from rmbench.store import Stored, slug

SCHEMA_VERSION = "0.3.0"
NAMES = {"auc": "auroc", "average-precision": "average_precision"}
"""Our metric -> the canonical id there, where it differs."""


def export(stored: Stored, estimates: Sequence[Estimate], items: Mapping[str, Item] | None = None) -> dict[str, bytes]:
    """File name -> content: the record and ``_samples.jsonl``. ``items`` by content hash adds the texts and judges'
    words, without which an item is named by its id alone. The id is made from the run, so that a second export replaces
    the first."""
    run = stored.run
    own = _own(estimates)
    developer, _, name = run.model.partition("/") if "/" in run.model else ("local", "", run.model)
    # Records are looked up by path: the id has to name the folder letter by letter.
    developer, name = slug(developer), slug(name.replace("/", "_"))
    model_id = f"{developer}/{name}"
    identity = f"{run.suite.name}/{model_id}/{run.fingerprint}/{run.suite_hash}/{run.limit}/{run.seed}"
    uuid = str(UUID(bytes=hashlib.sha256(identity.encode()).digest()[:16], version=4))
    folder = f"data/{slug(run.suite.name)}/{model_id}"
    evaluation_id = f"{run.suite.name}/{model_id}/{run.fingerprint}-{run.suite_hash}"
    credits = credits_of(stored.facts, stored.judgments, run.suite.rules)
    samples = b"".join(
        msgspec.json.encode(_sample(stored, f, c, (items or {}).get(f.hash), evaluation_id, model_id)) + b"\n"
        for f, c in zip(stored.facts, credits, strict=True)
    )
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": evaluation_id,
        "evaluation_timestamp": run.finished or run.started or "unknown",
        # Asked for as the time of this record; the run's own end keeps the bytes the same on any day.
        "retrieved_timestamp": _epoch(run.finished or run.started),
        "source_metadata": {
            "source_name": "rmbench",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": "rmbench", "version": run.versions.get("rmbench", "unknown")},
        "model_info": {
            "name": run.model,
            "id": model_id,
            "developer": developer,
            "inference_engine": {"name": run.engine or run.adapter, "version": _engine_version(stored)},
            "additional_details": {
                "deployment_type": "externally_managed" if run.engine == "endpoint" else "self_deployed",
                "model_availability": "unknown",
                "adapter": run.adapter,
                "settings": json.dumps(run.settings, sort_keys=True),
            },
        },
        "evaluation_results": [_result(stored, e) for e in own if e.value is not None],
        "detailed_evaluation_results": {
            "format": "jsonl",
            "file_path": f"{folder}/{uuid}_samples.jsonl",
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(samples).hexdigest(),
            "total_rows": len(stored.facts),
        },
    }
    return {
        f"{folder}/{uuid}.json": msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n",
        f"{folder}/{uuid}_samples.jsonl": samples,
    }


def _own(estimates: Sequence[Estimate]) -> list[Estimate]:
    first: dict[str, Estimate] = {}
    for e in estimates:
        first.setdefault(e.scope, e)
    return list(first.values())


def _result(stored: Stored, e: Estimate) -> dict[str, Any]:
    run = stored.run
    value = e.value if e.value is not None else 0.0
    uncertainty: dict[str, Any] = {"num_samples": e.n}
    if e.se is not None:
        uncertainty["standard_error"] = {"value": e.se, "method": "analytic"}
    if e.low is not None and e.high is not None:
        uncertainty["confidence_interval"] = {
            "lower": e.low, "upper": e.high, "confidence_level": 0.95, "method": e.method,
        }  # fmt: skip
    metric = NAMES.get(e.name, e.name if e.name in ("accuracy", "f1") else f"rmbench.{e.name}")
    return {
        "evaluation_result_id": _result_id(stored, e.scope),
        "evaluation_name": f"{run.suite.name}.{e.scope.replace(':', '.')}",
        "source_data": _source(stored),
        "evaluation_timestamp": run.finished or run.started or "unknown",
        "metric_config": {
            "evaluation_description": f"{run.suite.about} {run.suite.rules.about}".strip(),
            "metric_id": metric,
            "metric_name": e.name,
            "metric_kind": metric.removeprefix("rmbench."),
            "metric_unit": "proportion" if 0 <= value <= 1 else "score",
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": min(0.0, -1.0 if value < 0 else 0.0),
            # RewardBench 2's Ties can reach 1.01.
            "max_score": 1.0 if value <= 1 else 1.01,
            "additional_details": {"rules": run.suite.rules.name, "suite_hash": run.suite_hash, "scope": e.scope},
        },
        "score_details": {
            "score": value,
            "details": {k: f"{getattr(e, k):g}" for k in ("missing", "wins", "ties", "losses", "errors", "truncated")},
            "uncertainty": uncertainty,
        },
    }


def _result_id(stored: Stored, scope: str) -> str:
    return f"{stored.run.fingerprint}-{stored.run.suite_hash}-{slug(scope)}"


def _source(stored: Stored) -> dict[str, Any]:
    suite = stored.run.suite
    details = {"licence": suite.licence, "version": suite.version}
    if suite.source.startswith("hf:"):
        repo, _, rest = suite.source.removeprefix("hf:").partition(":")
        split = rest.split("@")[0].split(":")[-1]
        found: dict[str, Any] = {"dataset_name": suite.name, "source_type": "hf_dataset", "hf_repo": repo.split("@")[0]}
        if split and "{" not in split:  # a suite of several splits names them by a pattern
            found["hf_split"] = split
        return {**found, "samples_number": len(stored.facts), "additional_details": details}
    if suite.source.startswith("http"):
        return {
            "dataset_name": suite.name, "source_type": "url", "url": [suite.source], "additional_details": details,
        }  # fmt: skip
    return {"dataset_name": suite.name, "source_type": "other", "additional_details": details}


def _sample(
    stored: Stored, f: Facts, credit: Credit | None, item: Item | None, evaluation_id: str, model_id: str
) -> dict[str, Any]:
    judgment = stored.judgments.get(f.item_id)
    scores = judgment.scores if judgment is not None else None
    best = max(f.grades)
    raw = f.item_id if item is None else "\n\n".join(f"{m.role}: {m.content}" for m in item.prompt)
    names = [f"response {i + 1}" for i in range(len(f.grades))] if item is None else list(item.responses)
    reference = [n for n, g in zip(names, f.grades, strict=True) if g == best]
    if len(f.grades) == 1:
        reference = [f"label {f.grades[0]:g}"]
    picked = "none" if scores is None else names[max(range(len(scores)), key=scores.__getitem__)]
    value = None if credit is None else credit.value
    score = value if value is not None else (scores[0] if scores is not None and credit is None else 0.0)
    canonical = json.dumps({"raw": raw, "reference": reference}, sort_keys=True, separators=(",", ":"))
    sample: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": evaluation_id,
        "model_id": model_id,
        "evaluation_name": f"{stored.run.suite.name}.subset.{f.subset}",
        "evaluation_result_id": _result_id(stored, f"subset:{f.subset}"),
        "sample_id": f.item_id,
        "sample_hash": hashlib.sha256(canonical.encode()).hexdigest(),
        "interaction_type": "single_turn",
        "input": {"raw": raw, "reference": reference, "choices": names},
        "output": {"raw": _output(stored, f, item)},
        "messages": None,
        "answer_attribution": [
            {
                "turn_idx": 0,
                "source": "output.raw",
                "extracted_value": picked,
                "extraction_method": "highest score",
                "is_terminal": True,
            }
        ],
        "evaluation": {"score": float(score), "is_correct": value == 1.0},
        "error": "not judged" if judgment is None else _error(judgment.error, item),
        "metadata": {"subset": f.subset, "item_hash": f.hash, "grades": json.dumps(f.grades)},
    }
    if judgment is not None and (judgment.tokens or judgment.generated):
        sample["token_usage"] = {
            "input_tokens": judgment.tokens,
            "output_tokens": judgment.generated,
            "total_tokens": judgment.tokens + judgment.generated,
        }
    return sample


def _error(error: str | None, item: Item | None) -> str | None:
    """Without the item's texts, without what the error quotes of a model's."""
    return error if error is None or item is not None else error.split(": ")[0]


def _output(stored: Stored, f: Facts, item: Item | None) -> list[str]:
    """What the model said: a judge's words, which stay out where the item's texts do, else its scores as text."""
    judgment = stored.judgments.get(f.item_id)
    if judgment is None or (judgment.scores is None and not judgment.ballots):
        return []
    words = [b.text for b in judgment.ballots if b.text] if item is not None else []
    return words or [f"response {i + 1}: {s!r}" for i, s in enumerate(judgment.scores or ())]


def _engine_version(stored: Stored) -> str:
    run = stored.run
    return str(run.versions.get(run.engine or "", run.versions.get("rmbench", "unknown")))


def _epoch(text: str) -> str:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return "0"
    return str(int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()))
