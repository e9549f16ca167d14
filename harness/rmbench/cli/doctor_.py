"""``rmbench doctor``: what stands here, and how much of a model's score is noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rmbench.cli.common import console, echo_json, json_option
from rmbench.cli.options import NAMES, model_options


@click.command("doctor")
@click.option("--model", help="Measure the numerical noise of this model's scores.")
@click.option(
    "--results", type=click.Path(path_type=Path), help="Results folder.  [default: results, or RMBENCH_RESULTS]"
)
@model_options
@json_option
def command(model: str | None, results: Path | None, as_json: bool, **model_options: Any) -> None:
    """Versions, devices, extras and folders.

    With --model: items of the bundled suite are scored one at a time, padded left and right, with and without shared
    prompts, in float32 and on vLLM where it is installed. How often that alone changes the order of two responses is
    stored with the model's runs, and compare and gate then say so.
    """
    from rmbench import doctor, store
    from rmbench.adapters.options import Options

    report: dict[str, Any] = {"machine": doctor.machine()}
    if model is not None:
        options = Options(**{k: v for k, v in model_options.items() if k in NAMES})
        adapter, ways, failed = doctor.noise(model, options, doctor.sample())
        report["model"] = model
        report["findings"] = [*doctor.findings(adapter), *getattr(adapter, "notes", ()), *failed]
        report["settings"] = dict(adapter.settings)
        report["noise"] = [way._asdict() for way in ways]
        report["noise_floor"] = doctor.floor(ways) if ways else None
        kept, not_kept = doctor.keep(adapter, ways, results or store.default_root()) if ways else ([], [])
        report["kept"] = [str(path) for path in kept]
        report["not_kept"] = not_kept
        close = getattr(adapter, "close", None)
        if close is not None:
            close()
    if as_json:
        echo_json(report)
        return
    _machine(report["machine"])
    if model is not None:
        _model(report)


def _machine(found: dict[str, Any]) -> None:
    from rmbench.doctor import PACKAGES

    rows = {name: str(found[name]) for name in ("rmbench", "python", "system", "processors")}
    rows["memory"] = f"{found['memory_gib']} GiB"
    rows["GPU"] = ", ".join(found["gpus"]) or "none that torch sees"
    for name, version in found["packages"].items():
        rows[name] = version or f"absent: pip install 'rmbench[{PACKAGES[name]}]'"
    for name, folder in found["folders"].items():
        if folder is None:
            rows[name] = "not set"
            continue
        state = ("" if folder["exists"] else "not there yet, ") + ("" if folder["writable"] else "NOT WRITABLE, ")
        rows[name] = f"{folder['path']} ({state}{folder['free_gib']} GiB free)"
    out, width = console(), max(map(len, rows))
    for name, said in rows.items():
        out.print(f"{name:<{width}}  {said}", markup=False, soft_wrap=True)  # a path is never broken


def _model(report: dict[str, Any]) -> None:
    from rich.table import Table

    from rmbench.metrics import clopper_pearson

    out = console()
    out.print(f"\n{report['model']}", style="bold", markup=False)
    for line in report["findings"]:
        out.print(f"- {line}", markup=False, soft_wrap=True)
    if not report["noise"]:
        out.print("No noise floor: only for models with a head and for DPO, on the transformers engine.", markup=False)
        return
    table = Table(box=None, pad_edge=False, header_style="underline")
    for column in ("way", "largest difference", "flips", "ties", "distinct scores"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way in report["noise"]:
        table.add_row(
            way["way"], f"{way['largest']:.2g}", f"{way['flips']} ({100 * way['flip_rate']:.1f} %)", str(way["ties"]),
            str(way["distinct"]),
        )  # fmt: skip
    out.print(table)
    worst = max(report["noise"], key=lambda way: (way["flip_rate"], -way["items"]))
    low, high = (100 * bound for bound in clopper_pearson(worst["flips"], worst["items"]))
    out.print(
        f"Noise alone changes the order in {100 * worst['flip_rate']:.1f} % of {worst['items']} items, "
        f"95 % interval [{low:.1f}, {high:.1f}]: less than that is no difference.",
        markup=False, highlight=False,
    )  # fmt: skip
    for path in report["kept"]:
        out.print(f"Stored with {path}", markup=False, soft_wrap=True)
    for why in report["not_kept"]:
        out.print(f"Not stored with a run: {why}", markup=False, soft_wrap=True)
