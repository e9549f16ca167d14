"""Anthropic HH-RLHF test sets (Bai et al. 2022): pairs of dialogues that differ in the last answer.

One record (shortened, invented text)::

    {"chosen": "\\n\\nHuman: Is it safe?\\n\\nAssistant: I doubt it.",
     "rejected": "\\n\\nHuman: Is it safe?\\n\\nAssistant: Sure."}

Two dialogues whose turns before the last answer differ are no pair on one prompt: such rows are left out and counted
(five in harmless-base, which was checked whole: 2,312 rows, four with an empty chosen answer, kept). The row numbers
of the three helpful sets are from memory and sum to the hub's 8,552; each set is also a variant of its own.
"""

from collections.abc import Iterator
from itertools import pairwise

from msgspec.structs import replace

from rmbench.core import Item, Message, Rules, Suite
from rmbench.suites import Data, Row, dialogue

_HELPFUL = ("helpful-base", "helpful-online", "helpful-rejection-sampled")

SUITE = Suite(
    name="hh-rlhf",
    version="1",
    about="The preferred last answer of a dialogue, by helpfulness or harmlessness.",
    categories={"Harmless": ("harmless-base",), "Helpful": _HELPFUL},
    counts={"harmless-base": 2307},
    rules=Rules(
        name="hh-rlhf-1",
        about="A category is over all its pairs; overall is the plain mean of harmless and helpful. A tie counts half.",
    ),
    source="hf:Anthropic/hh-rlhf:{key}:test@09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa",
    files=tuple(
        f"{key}={pattern}"
        for key in ("harmless-base", *_HELPFUL)
        for pattern in (f"hh_rlhf/{key}*", f"hh-rlhf/{key}/test*")
    ),
    licence="MIT",
    citation="Bai et al., Training a Helpful and Harmless Assistant with RLHF, arXiv:2204.05862, 2022.",
    warning="The dialogues are offensive and upsetting in parts.",
)
VARIANTS = {
    "harmless-base": replace(SUITE, categories={"Harmless": ("harmless-base",)}),
    **{name: replace(SUITE, categories={"Helpful": (name,)}, counts={}) for name in _HELPFUL},
}


def items(data: Data) -> Iterator[Item]:
    prompts: dict[tuple[Message, ...], str] = {}
    for subset in (s for subsets in data.suite.categories.values() for s in subsets):
        empty = repeated = 0
        for n, row in enumerate(data.rows(subset)):
            (prompt, chosen), (other, rejected) = _split(row, "chosen"), _split(row, "rejected")
            if prompt != other:
                data.exclude(row, "the two dialogues differ before the last answer")
                continue
            empty += not chosen or not rejected
            repeated += any(a.role == b.role for a, b in pairwise(prompt))
            yield Item(
                id=f"{subset}-{n}",
                subset=subset,
                prompt=prompt,
                responses=(chosen, rejected),
                grades=(1.0, 0.0),
                cluster=prompts.setdefault(prompt, f"prompt-{len(prompts)}"),
            )
        if empty:
            data.note(f"{subset}: {empty} items with an empty answer, kept as judged")
        if repeated:
            data.note(f"{subset}: {repeated} items where a speaker has two turns in a row, kept as found")


def _split(row: Row, key: str) -> tuple[tuple[Message, ...], str]:
    talk = dialogue(row.text(key), row)
    if talk[-1].role != "assistant" or len(talk) < 2:
        raise row.fail(f"{key!r} does not end with an Assistant turn after a Human one")
    return talk[:-1], talk[-1].content
