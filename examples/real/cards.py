"""Writes each adapter's card, ``adapters/<name>/README.md``, from its training log, the splits and the committed runs.

``RMBENCH_DATA=... python examples/real/cards.py``
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import held_out
from rmbench import store, suites
from rmbench.core import Item
from rmbench.errors import BadData

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "results"
SOURCES = {
    "hh-rlhf:harmless-base": "harmless-base test pairs of Anthropic HH-RLHF (MIT)",
    "mt-bench": "people's votes on MT-Bench answers (CC-BY-4.0)",
    "pandalm": "the human-labelled test set of PandaLM (Apache-2.0)",
}


class Recipe(NamedTuple):
    about: str
    file: str
    trained_on: tuple[str, ...]


RECIPES = {
    "rm-harmless": Recipe("A harmlessness reward model", "rm_harmless.py", ("hh-rlhf:harmless-base",)),
    "rm-helpful": Recipe("A helpfulness reward model", "rm_helpful.py", ("mt-bench", "pandalm")),
    "dpo-helpful": Recipe("A DPO policy", "dpo_helpful.py", ("pandalm",)),
}


def card(adapter: Path) -> str:
    """The card's text."""
    name, _, step = adapter.name.partition("-step")
    recipe = RECIPES[name]
    log = json.loads((HERE / "adapters" / name / "training.json").read_text(encoding="utf-8"))
    train = {suite: held_out.pairs(suite, "train") for suite in recipe.trained_on}
    at = f", at step {step} of {log['steps']}" if step else ""
    head = ", with a score head," if name.startswith("rm") else ""
    lines = [
        f"# {adapter.name}",
        "",
        f"{recipe.about}{at}: a LoRA adapter of rank 4{head} for",
        "SmolLM2-135M-Instruct (Apache-2.0). It is here to have something real to measure, not to be used: it has 135",
        "million parameters and was trained for minutes on a CPU. `make real` merges it into the seed model.",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| trained on | {len(items):,} pairs: {SOURCES[suite]} |" for suite, items in train.items()),
        f"| recipe | [{recipe.file}](../../{recipe.file}), seed 0, by TRL; longer pairs are left out as it says |",
        f"| training | {log['steps']} steps, {log['seconds']:,} seconds with {log['threads']} threads |",
        "| licence of these weights | Apache-2.0 |",
        "",
        "## Figures",
        "",
        "Scores in points with 95 % intervals; `length:` are the baselines on the same items.",
        "",
        *_figures(adapter.name),
        "",
        "## Overlap of the training pairs with suites",
        "",
        "Items of a suite with a prompt, a whole response (of five words or more), or 13 words in a row of a response",
        "that also stand in a training pair:",
        "",
        "| suite | items | prompt | response | 13 words |",
        "| --- | ---: | ---: | ---: | ---: |",
        *_overlaps([item for items in train.values() for item in items]),
        "",
    ]
    return "\n".join(lines)


def _figures(model: str) -> Iterator[str]:
    runs = {}
    for path in store.find(RESULTS):
        run = store.read_run(path)
        runs[run.model, run.suite.name] = {(e.scope, e.name): e for e in store.read_estimates(path)}
    beside = ("length:longest", "length:shortest")
    yield f"| suite | | {model} | {' | '.join(beside)} |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for suite in sorted(s for m, s in runs if m == model):
        mine = runs[model, suite]
        for key, e in mine.items():
            if (
                key[0].startswith("category:")
                and e.value is not None
                and e is next(v for k, v in mine.items() if k[0] == key[0])
            ):
                cells = [_cell(runs.get((m, suite), {}).get(key)) for m in (model, *beside)]
                yield f"| {suite} | {key[0].removeprefix('category:')} | {' | '.join(cells)} |"


def _cell(e: object) -> str:
    value = getattr(e, "value", None)
    if value is None:
        return "–"
    return f"{100 * value:.1f} [{100 * e.low:.1f}, {100 * e.high:.1f}]"  # type: ignore[attr-defined]


def _overlaps(train: list[Item]) -> Iterator[str]:
    data = Path(os.environ.get("RMBENCH_DATA", "../shared/data"))
    for name in [str(HERE / "held_out.py"), *suites.names()]:
        try:
            suite = suites.load(name, data=None if name.endswith(".py") or name == "starter" else data)
        except BadData:
            continue  # no rows at hand
        counts = held_out.overlap(train, suite.items)
        if any(counts[k] for k in ("prompt", "response", "13 words")):
            yield f"| {suite.name} | {' | '.join(f'{n:,}' for n in counts.values())} |"


def main() -> None:
    for config in sorted(HERE.glob("adapters/*/adapter_config.json")):
        (config.parent / "README.md").write_text(card(config.parent), encoding="utf-8")
        print(f"wrote {config.parent.name}")


if __name__ == "__main__":
    main()
