"""The Hugging Face hub's formats: ``.eval_results/*.yaml`` of a model's repository, and the older ``model-index``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from rmbench.core import Estimate, Run
from rmbench.errors import MissingExtra, UsageError
from rmbench.metrics.summary import main
from rmbench.store import Stored, slug


def eval_results(stored: Stored, estimates: Sequence[Estimate]) -> dict[str, bytes]:
    """``.eval_results/<suite>.yaml``: per cent by scope, one task each, with the interval and the rules in the notes.

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
            task_id=_task(name),
            value=round(100 * e.value, 4),
            dataset_revision=revision,
            date=run.finished or None,
            notes=_notes(run, e),
        )
        for name, e in _named(run, estimates).items()
        if e.value is not None
    ]
    if not entries:
        raise UsageError(f"{run.model} on {run.suite.name}: no number is defined, nothing to export")
    text = yaml_dump(eval_result_entries_to_yaml(entries), sort_keys=False, width=10_000)
    return {f".eval_results/{slug(run.suite.name)}.yaml": str(text).encode()}


def model_index(stored: Stored, estimates: Sequence[Estimate]) -> dict[str, bytes]:
    """A model card's metadata block: one result for the suite, with a metric per scope, the overall first."""
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
            # One name for all: the hub's library puts every metric of a data set under the first one's.
            dataset_name=run.suite.name,
            metric_type=e.name,
            metric_name=name,
            metric_value=round(100 * e.value, 4),
            metric_args={"about": _notes(run, e)},
            dataset_revision=_dataset(run)[1] if run.suite.source.startswith("hf:") else None,
        )
        for name, e in _named(run, estimates).items()
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


def _named(run: Run, estimates: Sequence[Estimate]) -> dict[str, Estimate]:
    """The suite's own numbers by a name of their own each: totals, categories, subsets. A category that is its one
    subset stands once; two scopes that would share a name say what they are."""
    own = main(estimates)
    order = ("overall", "micro", "category", "subset")
    kinds = {scope: scope.partition(":")[0] for scope in own}
    alone = {
        f"subset:{subsets[0]}"
        for category, subsets in run.suite.categories.items()
        if len(subsets) == 1 and _task(category) == _task(subsets[0]) and f"category:{category}" in own
    }
    scopes = [s for kind in order for s in own if kinds[s] == kind and s not in alone]
    made: dict[str, Estimate] = {}
    for scope in scopes:
        kind, _, rest = scope.partition(":")
        names = itertools.chain([rest or kind, f"{kind} {rest}"], (f"{kind} {i} {rest}" for i in itertools.count(2)))
        taken = set(map(_task, made))
        made[next(name for name in names if _task(name) not in taken)] = own[scope]
    return made


def _task(name: str) -> str:
    return slug(name.lower().replace(" ", "_"))


def _dataset(run: Run) -> tuple[str, str | None]:
    source = run.suite.source
    if not source.startswith("hf:"):
        raise UsageError(f"suite {run.suite.name} comes from {source}, not from a data set on the hub")
    name, _, revision = source.removeprefix("hf:").partition("@")
    return name.split(":")[0], revision or None


def _notes(run: Run, e: Estimate) -> str:
    interval = "" if e.low is None or e.high is None else f", 95% interval {100 * e.low:.2f} to {100 * e.high:.2f}"
    # Said first: such a number must not pass for one of the whole suite.
    own: dict[str, Any] = {} if run.limit is None else {f"limited to {run.limit} items, seed": run.seed}
    own |= {"items absent from the data": sum(run.suite.missing.values()) or "some"} if run.suite.partial else {}
    own |= {"rules": run.suite.rules.name, "suite hash": run.suite_hash, "settings": run.fingerprint}
    return f"{e.name} x 100{interval}, n {e.n}; " + ", ".join(f"{k} {v}" for k, v in own.items())
