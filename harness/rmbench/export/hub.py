"""The Hugging Face hub's formats: ``.eval_results/*.yaml`` of a model's repository, and the older ``model-index``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rmbench.core import Estimate, Run
from rmbench.errors import MissingExtra, UsageError
from rmbench.store import Stored, slug


def eval_results(stored: Stored, estimates: Sequence[Estimate]) -> dict[str, bytes]:
    """``.eval_results/<suite>.yaml``: per cent by scope, with the interval and the rules in the notes.

    Raises UsageError for a suite that has no data set on the hub, or nothing defined.
    """
    try:
        from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
        from huggingface_hub.utils import yaml_dump
    except ImportError:
        raise MissingExtra("huggingface_hub", "hf", "export to eval-results") from None
    run = stored.run
    dataset, revision = _dataset(run)
    entries = [
        EvalResultEntry(
            dataset_id=dataset,
            task_id=_task(e),
            value=round(100 * e.value, 4),
            dataset_revision=revision,
            date=run.finished or None,
            notes=_notes(run, e),
        )
        for e in _shown(estimates)
        if e.value is not None
    ]
    if not entries:
        raise UsageError(f"{run.model} on {run.suite.name}: no number is defined, nothing to export")
    text = yaml_dump(eval_result_entries_to_yaml(entries), sort_keys=False, width=10_000)
    return {f".eval_results/{slug(run.suite.name)}.yaml": str(text).encode()}


def model_index(stored: Stored, estimates: Sequence[Estimate]) -> dict[str, bytes]:
    """A model card's metadata block with one result per scope."""
    try:
        from huggingface_hub import EvalResult, ModelCardData
    except ImportError:
        raise MissingExtra("huggingface_hub", "hf", "export to model-index") from None
    run = stored.run
    dataset = _dataset(run)[0] if run.suite.source.startswith("hf:") else run.suite.name
    results = [
        EvalResult(
            task_type="preference-evaluation",
            task_name="Preference evaluation",
            dataset_type=dataset,
            dataset_name=f"{run.suite.name} ({e.scope})",
            metric_type=e.name,
            metric_name=_task(e),
            metric_value=round(100 * e.value, 4),
            metric_args={"about": _notes(run, e)},
            dataset_revision=_dataset(run)[1] if run.suite.source.startswith("hf:") else None,
        )
        for e in _shown(estimates)
        if e.value is not None
    ]
    if not results:
        raise UsageError(f"{run.model} on {run.suite.name}: no number is defined, nothing to export")
    card = ModelCardData(model_name=run.model, eval_results=results)
    return {f"{slug(run.model)}-{slug(run.suite.name)}-model-index.md": f"---\n{card.to_yaml()}\n---\n".encode()}


def push(repo: str, files: dict[str, bytes]) -> str:
    """Opens a pull request with the files on a model's repository and returns its address."""
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in files.items()]
    try:
        made = HfApi().create_commit(
            repo, operations, commit_message="Add evaluation results from rmbench", create_pr=True
        )
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
        raise UsageError(f"the hub did not take the results for {repo}: {error}; hf auth login gives access") from error
    return str(made.pr_url)


def _shown(estimates: Sequence[Estimate]) -> list[Estimate]:
    """The suite's own numbers: the first of each scope."""
    first: dict[str, Estimate] = {}
    for e in estimates:
        first.setdefault(e.scope, e)
    return list(first.values())


def _dataset(run: Run) -> tuple[str, str | None]:
    source = run.suite.source
    if not source.startswith("hf:"):
        raise UsageError(f"suite {run.suite.name} comes from {source}, not from a data set on the hub")
    name, _, revision = source.removeprefix("hf:").partition("@")
    return name.split(":")[0], revision or None


def _task(e: Estimate) -> str:
    return slug(e.scope.split(":", 1)[-1].lower().replace(" ", "_"))


def _notes(run: Run, e: Estimate) -> str:
    interval = "" if e.low is None or e.high is None else f", 95% interval {100 * e.low:.2f} to {100 * e.high:.2f}"
    # Said first: such a number must not pass for one of the whole suite.
    own: dict[str, Any] = {} if run.limit is None else {f"limited to {run.limit} items, seed": run.seed}
    own |= {"items absent from the data": sum(run.suite.missing.values()) or "some"} if run.suite.partial else {}
    own |= {"rules": run.suite.rules.name, "suite hash": run.suite_hash, "settings": run.fingerprint}
    return f"{e.name} x 100{interval}, n {e.n}; " + ", ".join(f"{k} {v}" for k, v in own.items())
