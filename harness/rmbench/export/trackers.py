"""Weights & Biases, MLflow and Trackio: one tracked run per run, with its numbers and its settings.

Nothing leaves the machine: W&B is opened offline, MLflow writes to a local file, Trackio is local first. Their own
commands (``wandb sync``, ...) send what was written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rmbench.core import Estimate
from rmbench.errors import MissingExtra
from rmbench.store import Stored, slug


def metrics(stored: Stored, estimates: Sequence[Estimate]) -> dict[str, float]:
    """``<suite>/<scope>/<metric>`` -> value, with ``.low`` and ``.high`` where there is an interval."""
    made: dict[str, float] = {}
    for e in estimates:
        key = f"{slug(stored.run.suite.name)}/{slug(e.scope.replace(':', '.'))}/{slug(e.name)}"
        bounds = {"": e.value, ".low": e.low, ".high": e.high}
        made |= {f"{key}{end}": float(v) for end, v in bounds.items() if v is not None and f"{key}{end}" not in made}
    return made


def config(stored: Stored) -> dict[str, Any]:
    """What was run, flat; settings as JSON where they are not plain values."""
    run = stored.run
    settings = {
        f"settings.{k}": v if isinstance(v, str | int | float | bool) else json.dumps(v, sort_keys=True)
        for k, v in sorted(run.settings.items())
    }
    return {
        "model": run.model,
        "adapter": run.adapter,
        "engine": run.engine or "",
        "fingerprint": run.fingerprint,
        "suite": run.suite.name,
        "suite_version": run.suite.version,
        "suite_hash": run.suite_hash,
        "rules": run.suite.rules.name,
        "n": run.n,
        "errors": run.errors,
        "truncated": run.truncated,
        **settings,
    }


def to_wandb(stored: Stored, estimates: Sequence[Estimate], folder: Path, project: str) -> str:
    """An offline run below ``folder``; returns where, for ``wandb sync``."""
    try:
        import wandb
    except ImportError:
        raise MissingExtra("wandb", "track", "export to wandb") from None
    folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project=project, name=_name(stored), config=config(stored), dir=str(folder), mode="offline",
        settings=wandb.Settings(silent=True, console="off"),
    )  # fmt: skip
    run.summary.update(metrics(stored, estimates))
    place = str(run.dir)
    run.finish()
    wandb.teardown()  # its service writes the file, and is not done before it ends
    return str(Path(place).parent)


def to_mlflow(stored: Stored, estimates: Sequence[Estimate], folder: Path, project: str) -> str:
    """A run in an MLflow database file below ``folder``; returns the tracking URI."""
    try:
        import mlflow
    except ImportError:
        raise MissingExtra("mlflow", "track", "export to mlflow") from None
    folder.mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{folder.resolve() / 'mlflow.db'}"
    client = mlflow.MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(project)
    experiment = found.experiment_id if found else client.create_experiment(project)
    run = client.create_run(experiment, run_name=_name(stored))
    for key, value in config(stored).items():
        client.log_param(run.info.run_id, key, value)
    for key, value in metrics(stored, estimates).items():
        client.log_metric(run.info.run_id, key, value)
    client.set_terminated(run.info.run_id)
    return uri


def to_trackio(stored: Stored, estimates: Sequence[Estimate], folder: Path, project: str) -> str:
    """A run in Trackio's local store below ``folder``; returns the folder. Trackio reads its place from the environment
    when it is imported: a process that has used it before writes where it wrote then."""
    import os

    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TRACKIO_DIR"] = str(folder.resolve())
    try:
        import trackio
    except ImportError:
        raise MissingExtra("trackio", "track", "export to trackio") from None
    trackio.init(project=project, name=_name(stored), config=config(stored), embed=False)
    trackio.log(metrics(stored, estimates))
    trackio.finish()
    return str(folder)


def _name(stored: Stored) -> str:
    return f"{stored.run.model} on {stored.run.suite.name}"
