"""Which rows the real models are trained on and which are held out; as a suite, the pairs that are held out.

::

    rmbench eval --model .real/rm-harmless --suite examples/real/held_out.py

``splits.json`` has the ids of the pairs on each side, never their texts; ``python examples/real/held_out.py`` writes it
anew. Rows come from ``RMBENCH_DATA``. Conversations that open with the same message are all on one side.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from msgspec.structs import replace

from rmbench import suites
from rmbench.core import Item, Rules, Suite

FILE = Path(__file__).with_name("splits.json")
SEED = 0
HELD_OUT = {"hh-rlhf:harmless-base": 600, "pandalm": 60, "mt-bench": 20}
"""Suite -> opening messages (prompts, MT-Bench questions) that are held out."""

SUITE = Suite(
    name="real-held-out",
    version="1",
    about="Pairs that the models of examples/real were not trained on, of the sets that they were trained on.",
    categories={"Harmless": ("harmless-base",), "Helpful": ("mt-bench", "pandalm")},
    rules=Rules(
        name="real-held-out-1",
        about="Share of pairs right, a tie of scores counting half; a category is over all its pairs. Pairs that "
        "people judged equal are left out.",
        overall="none",
    ),
    source="hf:Anthropic/hh-rlhf, lmsys/mt_bench_human_judgments; github:WeOpenML/PandaLM",
    licence="MIT; CC-BY-4.0; Apache-2.0",
    citation="Bai et al., arXiv:2204.05862; Zheng et al., arXiv:2306.05685; Wang et al., arXiv:2306.05087.",
    warning="The dialogues of harmless-base are offensive and upsetting in parts.",
)
_SUBSETS = {"hh-rlhf:harmless-base": "harmless-base", "mt-bench": "mt-bench", "pandalm": "pandalm"}


def items(data: suites.Data) -> Iterator[Item]:
    """The held-out side of every set."""
    for suite, subset in _SUBSETS.items():
        for item in pairs(suite, "held_out"):
            yield replace(item, id=f"{subset}/{item.id.removeprefix(subset + '-')}", subset=subset)


def rows(suite: str) -> dict[str, Item]:
    """A suite's items by id, read from RMBENCH_DATA."""
    data = Path(os.environ.get("RMBENCH_DATA", "../shared/data"))
    return {item.id: item for item in suites.load(suite, data=data).items}


def pairs(suite: str, side: str) -> list[Item]:
    """The pairs of one side, ``train`` or ``held_out``, in the order of their ids in the file; none is a tie."""
    found = rows(suite)
    return [found[i] for i in json.loads(FILE.read_text(encoding="utf-8"))[suite][side]]


def row(item: Item) -> dict[str, list[dict[str, str]]]:
    """A pair as TRL's conversational preference type with an explicit prompt."""
    best = max(range(2), key=lambda i: item.grades[i])

    def said(i: int) -> list[dict[str, str]]:
        return [{"role": m.role, "content": m.content} for m in item.conversation(i)[len(item.prompt) :]]

    prompt = [{"role": m.role, "content": m.content} for m in item.prompt]
    return {"prompt": prompt, "chosen": said(best), "rejected": said(1 - best)}


def split(suite: str) -> dict[str, list[str]]:
    """Ids of the pairs (no ties, no binary items) on each side, both in a seeded order."""
    whole = [i for i in rows(suite).values() if i.kind == "pair" and i.grades[0] != i.grades[1]]
    held = set(random.Random(SEED).sample(sorted({_opening(item) for item in whole}), HELD_OUT[suite]))
    sides: dict[str, list[str]] = {"train": [], "held_out": []}
    for item in whole:
        sides["held_out" if _opening(item) in held else "train"].append(item.id)
    for ids in sides.values():
        random.Random(SEED).shuffle(ids)
    return sides


def overlap(train: Sequence[Item], suite: Iterable[Item]) -> dict[str, int]:
    """How many items of a suite have a prompt, a response, or a run of 13 words in a response that the training rows
    have too. Case, punctuation and white space do not count."""
    prompts = {_words(item.prompt[-1].content) for item in train if item.prompt}
    responses = {_words(r) for item in train for r in item.responses}
    runs = {g for words in responses for g in _runs(words)}
    counts = {"items": 0, "prompt": 0, "response": 0, "13 words": 0}
    for item in suite:
        said = [_words(r) for r in item.responses]
        counts["items"] += 1
        counts["prompt"] += bool(item.prompt) and _words(item.prompt[-1].content) in prompts
        counts["response"] += any(len(words) >= 5 and words in responses for words in said)
        counts["13 words"] += any(g in runs for words in said for g in _runs(words))
    return counts


def _opening(item: Item) -> str:
    """What the conversation begins with: dialogues that share it are not independent."""
    return item.prompt[0].content


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.lower()))


def _runs(words: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + 13]) for i in range(len(words) - 12)}


def main() -> None:
    made = {suite: split(suite) for suite in HELD_OUT}
    lines = [
        f' "{suite}": {{\n' + ",\n".join(f'  "{s}": {json.dumps(ids)}' for s, ids in sides.items()) + "\n }"
        for suite, sides in made.items()
    ]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
