"""The files of allenai/reward-bench (commit 05a9005), so that its scripts read our runs, and ours read its.

``<model>.json`` and ``<model>_outputs.jsonl`` are what its command line writes; ``eval-set/<model>.json`` and
``eval-set-scores/<model>.json`` are what its scripts write and its analysis reads.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rmbench.core import Facts, Item
from rmbench.errors import UsageError
from rmbench.metrics.summary import credits_of
from rmbench.store import Stored, slug

TYPES = {"scalar": "Seq. Classifier", "dpo": "DPO", "judge": "Generative"}
"""Our adapter -> its kind of model there."""


def export(stored: Stored, items: Mapping[str, Item] | None = None) -> dict[str, bytes]:
    """File name -> content. ``items`` by content hash adds the texts. Raises UsageError for a run without pairs."""
    run = stored.run
    pairs = [
        (f, c.value)
        for f, c in zip(stored.facts, credits_of(stored.facts, stored.judgments, run.suite.rules), strict=True)
        if len(f.grades) == 2 and c is not None and c.value is not None
    ]
    if not pairs:
        raise UsageError(f"{run.model} on {run.suite.name}: no pair with a better side; the format holds pairs only")
    by_subset: dict[str, list[float]] = {}
    for f, credit in pairs:
        by_subset.setdefault(f.subset, []).append(credit)
    accuracy = {s: sum(v) / len(v) for s, v in by_subset.items()}
    template = str(run.settings.get("chat_template") or "tokenizer")
    head = {"model": run.model, "model_type": TYPES.get(run.adapter, run.adapter)}
    overall = {
        "accuracy": sum(c for _, c in pairs) / len(pairs),
        "num_prompts": len(pairs),
        "model": run.model,
        "ref_model": run.settings.get("ref_model"),
        "tokenizer": str(run.settings.get("tokenizer") or run.model),
        "chat_template": template,
        "extra_results": accuracy,
    }
    rows = [_row(stored, f, credit, (items or {}).get(f.hash)) for f, credit in pairs]
    if all(row["error"] is None for row in rows):
        for row in rows:
            del row["error"]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    # The analysis scripts look for one folder per organisation.
    org, _, name = run.model.rpartition("/")
    place = f"{slug(org) if org else 'local'}/{slug(name)}.json"
    flat = slug(run.model)
    return {
        f"{flat}.json": _json(overall),
        f"{flat}_outputs.jsonl": b"".join(msgspec.json.encode(row) + b"\n" for row in rows),
        f"eval-set/{place}": _json({**head, "chat_template": template, **accuracy}),
        f"eval-set-scores/{place}": _json({**columns, **head, "chat_template": template}),
    }


def _row(stored: Stored, f: Facts, credit: float, item: Item | None) -> dict[str, object]:
    judgment = stored.judgments.get(f.item_id)
    scores = judgment.scores if judgment is not None else None
    best = int(f.grades[1] > f.grades[0])
    row: dict[str, object] = {}
    if item is not None:
        prompt = [{"role": m.role, "content": m.content} for m in item.prompt]
        row["prompt"] = prompt if len(prompt) > 1 else prompt[0]["content"]
        row["text_chosen"], row["text_rejected"] = item.responses[best], item.responses[1 - best]
    row["results"] = int(credit) if credit in (0.0, 1.0) else credit
    row["subset"] = f.subset
    row["id"] = f.item_id
    row["scores_chosen"] = None if scores is None else scores[best]
    row["scores_rejected"] = None if scores is None else scores[1 - best]
    # Their format has 0 for an error and for a loss alike; ours tells them apart when it is read again.
    error = "not judged" if judgment is None else judgment.error
    row["error"] = error if error is None or item is not None else error.split(": ")[0]  # it may quote the texts
    return row


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
