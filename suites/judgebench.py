"""JudgeBench (Tan et al. 2024): pairs of answers by one model to hard questions, one right and one wrong.

One record (shortened, invented text)::

    {"pair_id": "81ec57f2-...", "original_id": 1420, "source": "mmlu-pro-law", "question": "Which ... (A) ... (B) ...",
     "response_model": "gpt-4o-2024-05-13", "response_A": "... AAAAA", "response_B": "... BBBBB", "label": "B>A"}

Schema, rule and the 350 and 270 pairs were read in ScalerLab/JudgeBench; the counts per source in another public
script, and nine in ten published percentages are whole numbers of them (by chance one in a hundred would be). Two
numbers are in print under one name: right in net over both orders (the repository's, used here) and right in both
orders (variant ``both``, EvalPlanner's and J1's). Never compare the two.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from rmbench.core import Item, Rules, Suite
from rmbench.suites import Data, messages

_SOURCES = {
    "Knowledge": "mmlu-pro",
    "Reasoning": "livebench-reasoning",
    "Math": "livebench-math",
    "Coding": "livecodebench",
}
_COUNTS = dict(zip(_SOURCES.values(), (154, 98, 56, 42), strict=True))
_NET = Rules(
    name="judgebench-net-1",
    about="Net vote: a verdict counts +1 if right and -1 if wrong, summed over both orders; right if the sum is above "
    "0. Ties and invalid replies count 0. A model without ballots is right if it scores the right answer higher. "
    "Overall is over all pairs. Right in both orders stands beside it and is another number.",
    ties="wrong",
    overall="micro",
    position="net",
    metrics={"*": "net-vote"},
)
_BOTH = replace(
    _NET,
    name="judgebench-both-1",
    about="Right in both orders; a tie or an invalid reply in either is wrong. Overall is over all pairs.",
    position="both",
    metrics={},
)
SUITE = Suite(
    name="judgebench",
    version="1",
    about="Objectively right against wrong answers in knowledge, reasoning, math and coding.",
    categories={category: (source,) for category, source in _SOURCES.items()},
    counts=_COUNTS,
    rules=_NET,
    source="hf:ScalerLab/JudgeBench:{key}",
    files=(
        *("gpt=judgebench/*gpt*", "gpt=JudgeBench/data/*gpt*"),
        *("claude=judgebench/*claude*", "claude=JudgeBench/data/*claude*"),
    ),
    licence="not stated in the repository; MIT by memory of the hub's card",
    citation="Tan et al., JudgeBench: A Benchmark for Evaluating LLM-based Judges, arXiv:2410.12784, 2024.",
)
VARIANTS = {
    "both": replace(SUITE, rules=_BOTH),
    "claude": replace(SUITE, counts={}, notes=("the 270 pairs by Claude-3.5-Sonnet",)),
    "claude-both": replace(SUITE, counts={}, notes=("the 270 pairs by Claude-3.5-Sonnet",), rules=_BOTH),
}


def items(data: Data) -> Iterator[Item]:
    for row in data.rows("gpt" if data.suite.counts else "claude"):
        source, label = row.text("source"), row.text("label")
        if label not in ("A>B", "B>A"):
            raise row.fail(f"label is {label!r}; it must be A>B or B>A")
        subset = next((s for s in _SOURCES.values() if source.startswith(s)), source)
        yield Item(
            id=row.text("pair_id"),
            subset=subset,
            prompt=messages(row.text("question"), row),
            responses=(row.text("response_A"), row.text("response_B")),
            grades=(1.0, 0.0) if label == "A>B" else (0.0, 1.0),
            cluster=f"{subset}-{row.get('original_id')}",
            meta={"source": source},
        )
