"""The options that say which model is judged with what, shared by the commands that open one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_MODEL: list[tuple[str, dict[str, Any]]] = [
    (
        "--adapter",
        {"help": "What the output means; a name (see rmbench list) or an adapter.py. Default: read off the model."},
    ),
    ("--engine", {"type": click.Choice(["transformers", "vllm", "endpoint"]), "help": "How the model is run."}),
    ("--dtype", {"type": click.Choice(["float32", "bfloat16", "float16"])}),
    ("--device", {"help": "cpu, cuda, cuda:1, ..."}),
    (
        "--max-length",
        {"type": click.IntRange(min=8), "help": "Tokens of a conversation; a longer one loses its start."},
    ),
    ("--revision", {"help": "Of a hub model."}),
    ("--trust-remote-code", {"is_flag": True, "help": "Run code that comes with the checkpoint. Off unless given."}),
    ("--chat-template", {"help": "FILE or built-in name, for a tokenizer without one."}),
    ("--batch-tokens", {"type": click.IntRange(min=1), "help": "Tokens computed at once."}),
    ("--threads", {"type": click.IntRange(min=1)}),
    ("--share-prefix/--no-share-prefix", {"default": None, "help": "Compute a prompt once for all its responses."}),
    ("--head", {"help": "Of a model with several outputs: number, label, preset, or name=weight,..."}),
    ("--judge-prompt", {"help": "Built-in name or a Jinja2 FILE."}),
    ("--parser", {"help": "How a verdict is read from a judge's words."}),
    ("--orders", {"type": click.Choice(["both", "one"]), "help": "Default both."}),
    ("--mode", {"type": click.Choice(["pairwise", "pointwise", "n-way"])}),
    ("--verdict", {"type": click.Choice(["text", "probability"])}),
    ("--samples", {"type": click.IntRange(min=1), "help": "Verdicts per order."}),
    ("--temperature", {"type": click.FloatRange(min=0)}),
    ("--top-p", {"type": click.FloatRange(min=0, max=1, min_open=True)}),
    ("--max-tokens", {"type": click.IntRange(min=1), "help": "A judge may write."}),
    ("--ref-model", {"help": "DPO: the reference model."}),
    ("--beta", {"type": click.FloatRange(min=0, min_open=True), "help": "DPO."}),
    ("--reference-free", {"type": click.Choice(["sum", "mean"]), "help": "DPO without a reference."}),
    ("--role", {"type": click.Choice(["user", "assistant"]), "help": "Guards: whose turn is classified."}),
    ("--base-url", {"help": "An OpenAI-compatible server; its key is read from OPENAI_API_KEY."}),
    ("--concurrency", {"type": click.IntRange(min=1)}),
    ("--rate", {"type": click.FloatRange(min=0, min_open=True), "help": "Requests per second."}),
    ("--retries", {"type": click.IntRange(min=0)}),
    ("--timeout", {"type": click.FloatRange(min=0, min_open=True), "help": "Seconds per request."}),
    ("--prices", {"help": "FILE, or input,output per million tokens: adds the cost of the run."}),
    ("--tensor-parallel", {"type": click.IntRange(min=1), "help": "vLLM."}),
    (
        "--gpu-memory",
        {"type": click.FloatRange(min=0, max=1, min_open=True), "help": "vLLM: share of the GPU's memory."},
    ),
    ("--weights", {"help": "Jury: majority, mean-rank, or learned."}),
]

_SUITE: list[tuple[str, dict[str, Any]]] = [
    (
        "--data",
        {"type": click.Path(path_type=Path), "help": "Folder or file of rows, instead of the hub. Also RMBENCH_DATA."},
    ),
    (
        "--columns",
        {
            "help": "Your own data: which column is what, as in chosen=good,rejected=bad; id= leaves a column out; "
            "winner=vote:1=a,2=b,0=tie says what codes stand for."
        },
    ),
    ("--subset-column", {"help": "Your own data: the column that names the subset."}),
]

NAMES = [declaration.split("/")[0].removeprefix("--").replace("-", "_") for declaration, _ in _MODEL]


def model_options(command: F) -> F:
    """Adds every option that an adapter or engine can take."""
    for declaration, settings in reversed(_MODEL):
        command = click.option(declaration, **settings)(command)
    return command


def suite_options(command: F) -> F:
    """Adds what says where a suite's rows come from."""
    for declaration, settings in reversed(_SUITE):
        command = click.option(declaration, **settings)(command)
    return command


def parse_columns(text: str | None) -> dict[str, str] | None:
    """``chosen=good,id=,winner=vote:1=a,2=b`` as a mapping of what a column is to its name and codes."""
    if text is None:
        return None
    from rmbench.owndata import COLUMNS

    columns: dict[str, str] = {}
    coded = None
    for part in text.split(","):
        name, eq, column = (piece.strip() for piece in part.partition("="))
        if coded and name not in COLUMNS:
            columns[coded] += f",{part.strip()}"
            continue
        if not name or not eq:
            raise click.BadParameter(f"{text!r} is not of the form chosen=good,rejected=bad", param_hint="--columns")
        if name in columns:
            raise click.BadParameter(f"{text!r} gives {name!r} twice", param_hint="--columns")
        columns[name] = column
        coded = name if ":" in column and name in ("winner", "label") else None
    return columns
