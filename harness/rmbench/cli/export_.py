"""``rmbench export``: runs in other tools' formats, written here; sent only with ``--push`` and a typed word."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmbench.cli.common import echo_json, json_option
from rmbench.errors import UsageError

if TYPE_CHECKING:
    from rmbench.core import Estimate, Item
    from rmbench.store import Stored

FORMATS = (
    "csv", "parquet", "rewardbench", "eval-results", "model-index", "every-eval-ever", "wandb", "mlflow", "trackio",
)  # fmt: skip
TRACKERS = ("wandb", "mlflow", "trackio")


@click.command("export")
@click.argument("runs", nargs=-1, required=True)
@click.option("--to", "target", required=True, type=click.Choice(FORMATS))
@click.option("--suite", help="Where a model has runs of several suites.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("exports"), show_default=True, help="Folder.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder with the suite's rows: adds the texts.")
@click.option(
    "--no-texts",
    is_flag=True,
    help="Leave prompts, responses and judges' words out.",
)
@click.option("--project", default="rmbench", show_default=True, help="Of a tracker.")
@click.option("--push", metavar="REPO", help="eval-results: then open a pull request on this model repository.")
@json_option
def command(
    runs: tuple[str, ...],
    target: str,
    suite: str | None,
    out: Path,
    data: Path | None,
    no_texts: bool,
    project: str,
    push: str | None,
    as_json: bool,
) -> None:
    """Write RUNS (folders or model names) in another tool's format."""
    from rmbench import store
    from rmbench.metrics import summary

    if push and target != "eval-results":
        raise UsageError(f"--push sends eval-results; --to {target} is only written here")
    if push and as_json:
        raise UsageError("--push asks for a typed word; leave out --json")
    files: dict[str, bytes] = {}
    places: list[str] = []
    for ref in runs:
        stored = store.read(store.resolve(ref, store.default_root(), suite))
        if stored.run.status == "running":
            raise UsageError(f"{ref} is not finished: run the same eval again to go on, then export")
        estimates = summary.estimates(stored.run.suite, stored.facts, stored.judgments)
        if target in TRACKERS:
            store.make_folder(out)
            places.append(_track(target, stored, estimates, out, project))
            continue
        items = {} if no_texts else _items(stored, data)
        for name, content in _files(target, stored, estimates, items).items():
            if name in files:
                raise UsageError(f"two of these runs would be written to {name}; export them into folders of their own")
            files[name] = content
    for name, content in files.items():
        store.make_folder((out / name).parent)
        store.write_file(out / name, content)
        places.append(str(out / name))
    if as_json:
        echo_json({"to": target, "written": places})
        return
    for place in places:
        click.echo(place)
    if target == "eval-results":
        for name, content in files.items():
            click.echo(f"\n# {name}\n{content.decode()}")
    if push:
        _push(push, files)


def _files(target: str, stored: Stored, estimates: list[Estimate], items: Mapping[str, Item]) -> Mapping[str, bytes]:
    from rmbench.export import every_eval_ever, hub, rewardbench, tables
    from rmbench.store import slug

    if target in ("csv", "parquet"):
        write = tables.to_csv if target == "csv" else tables.to_parquet
        limit = f"-limit{stored.run.limit}" if stored.run.limit is not None else ""
        name = f"{slug(stored.run.model)}-{stored.run.fingerprint}-{slug(stored.run.suite.name)}{limit}"
        return {
            f"{name}.{target}": write(tables.responses(stored), tables.RESPONSES),
            f"{name}-estimates.{target}": write(tables.estimates(stored, estimates), tables.ESTIMATES),
        }
    if target == "rewardbench":
        return rewardbench.export(stored, items)
    if target == "eval-results":
        return hub.eval_results(stored, estimates)
    if target == "model-index":
        return hub.model_index(stored, estimates)
    return every_eval_ever.export(stored, estimates, items)


def _track(target: str, stored: Stored, estimates: list[Estimate], out: Path, project: str) -> str:
    from rmbench.export import trackers

    if target == "wandb":
        return trackers.to_wandb(stored, estimates, out, project)
    if target == "mlflow":
        return trackers.to_mlflow(stored, estimates, out, project)
    return trackers.to_trackio(stored, estimates, out, project)


def _items(stored: Stored, data: Path | None) -> dict[str, Item]:
    """The suite's items by content hash, where they are at hand on this machine."""
    from rmbench.cli.report_ import suite_items

    items, _ = suite_items(stored.run.suite.name, data)
    return {item.content_hash(): item for item in items or ()}


def _push(repo: str, files: Mapping[str, bytes]) -> None:
    from rmbench.export import hub

    word = repo.rpartition("/")[2]
    typed = click.prompt(f"This opens a public pull request on {repo}. Type {word!r} to send it", default="", type=str)
    if typed != word:
        raise UsageError(f"not sent: {typed!r} is not {word!r}")
    click.echo(hub.push(repo, dict(files)))
