"""``rmbench show``: what is in a suite, how its number is made, and what a model gets to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rmbench.cli.common import console, echo_json, json_option
from rmbench.cli.options import NAMES, model_options, parse_columns, suite_options


@click.command("show")
@click.argument("suite", metavar="SUITE")
@click.option("--model", help="Show the exact text and tokens that this model gets.")
@click.option("--item", "item_id", help="Which item to show.  [default: the first]")
@model_options
@suite_options
@json_option
def command(
    suite: str,
    model: str | None,
    item_id: str | None,
    data: Path | None,
    columns: str | None,
    subset_column: str | None,
    as_json: bool,
    **model_options: Any,
) -> None:
    """What is in a suite, its licence, how its number is made, its weights and one example.

    With --model: the exact text and tokens of one item as this model gets it.
    """
    from rmbench import adapters, suites
    from rmbench.adapters.options import Options
    from rmbench.errors import BadData, UnknownName, UsageError

    try:
        loaded = suites.load(suite, data=data, columns=parse_columns(columns), subset_column=subset_column)
        problem = None
    except BadData as error:
        if model or item_id or data or suites.own_data(suite):
            raise
        loaded, problem = suites.card(suite), str(error)  # the card can be shown without any rows
    example = loaded.items[0] if loaded.items else None
    if item_id is not None:
        by_id = {item.id: item for item in loaded.items}
        if item_id not in by_id:
            raise UnknownName(f"item of {loaded.name}", item_id, by_id)
        example = by_id[item_id]
    if model is None:
        if as_json:
            echo_json(
                {"suite": loaded.card(), "hash": loaded.content_hash() if loaded.items else None, "item": example}
            )
        else:
            name = loaded.name.partition(":")[0]
            _show(loaded, example, problem, suites.variants(name) if name in suites.names() else [])
        return
    opened = adapters.open(model, Options(**{k: v for k, v in model_options.items() if k in NAMES}))
    preview = getattr(opened, "preview", None)
    if preview is None:
        raise UsageError(f"{model} reads no text, so there is nothing to show; show is for models and judges")
    texts = preview(example)
    if as_json:
        echo_json(texts)
        return
    out = console()
    _warn(out, loaded)
    for part in texts:
        out.print(part["title"], style="bold", markup=False)
        out.print(part["text"], markup=False, soft_wrap=True)
        out.print(f"{len(part['tokens']):,} tokens: {part['tokens']}" if part.get("tokens") else "", style="dim")


def _show(suite: Any, example: Any, problem: str | None, variants: list[str]) -> None:
    from collections import Counter

    from rich.table import Table

    from rmbench import suites

    out = console()
    found = Counter(item.subset for item in suite.items)
    rules = suite.rules
    out.print(f"{suite.name}, version {suite.version}", style="bold", markup=False)
    out.print(suite.about, markup=False)
    out.print(f"\nLicence   {suite.licence}", markup=False)
    out.print(f"Source    {suites.origin(suite)}", markup=False, soft_wrap=True)
    out.print(f"Citation  {suite.citation}", markup=False)
    if variants:
        base = suite.name.partition(":")[0]
        out.print(f"Variants  {', '.join(f'{base}:{v}' for v in variants)}", markup=False)
    if suite.items:
        out.print(f"Hash      {suite.content_hash()}", markup=False)
    out.print(f"\nHow the number is made (rules {rules.name})", style="bold", markup=False)
    out.print(rules.about or "(no words given)", markup=False)
    out.print(
        f"Equal scores: {rules.ties}. Items graded as ties: {rules.gold_ties}. Rankings: {rules.ranking}. "
        f"Overall: {rules.overall}. An error counts as wrong and is listed.",
        markup=False,
    )
    table = Table(box=None, pad_edge=False, header_style="underline")
    for column, justify in (("category", "left"), ("subset", "left"), ("items", "right"), ("weight", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for category, subsets in suite.categories.items():
        for n, subset in enumerate(subsets):
            here = f"{found[subset]}" if suite.items else f"{suite.counts.get(subset, '?')}"
            absent = suite.missing.get(subset)
            weight = suite.weights.get(subset, suite.counts.get(subset, found[subset] if suite.items else None))
            weight_of = suite.category_weights.get(category, 1)
            head = f"{category}{'' if weight_of == 1 else f' (weight {weight_of:g})'}" if n == 0 else ""
            table.add_row(
                head, subset, here + (f" ({absent} absent)" if absent else ""), "?" if weight is None else f"{weight:g}"
            )
    out.print()
    out.print(table)
    for reason, n in suite.excluded.items():
        out.print(f"{n:,} rows left out: {reason}", markup=False)
    for note in suite.notes:
        out.print(note, markup=False, soft_wrap=True)
    if problem:
        out.print(f"\nNo rows at hand: {problem}", style="yellow", markup=False, soft_wrap=True)
    if example is None:
        return
    out.print(f"\nExample {example.id}", style="bold", markup=False)
    _warn(out, suite)
    for message in example.prompt:
        out.print(f"[{message.role}] {_clip(message.content)}", markup=False)
    for n, (response, grade) in enumerate(zip(example.responses, example.grades, strict=True)):
        for message in example.turns[n] if example.turns else ():
            out.print(f"  [{message.role}] {_clip(message.content)}", style="dim", markup=False)
        out.print(f"-- response {n}, grade {grade:g}", style="dim")
        out.print(_clip(response), markup=False)


def _warn(out: Any, suite: Any) -> None:
    if suite.warning:
        out.print(f"Warning: {suite.warning}", style="bold red", markup=False)


def _clip(text: str, most: int = 600) -> str:
    printable = "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return printable if len(printable) <= most else f"{printable[:most]}... ({len(text):,} characters)"
