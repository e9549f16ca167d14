"""RewardBench (Lambert et al. 2024): 2,985 chosen/rejected pairs in four categories.

One record (shortened, invented text)::

    {"prompt": "Write fizzbuzz in Go.", "chosen": "func fizz...", "rejected": "func fizz... (a bug)",
     "chosen_model": "human", "rejected_model": "human", "subset": "hep-go", "id": 5211}

Three rules circulate for its number (allenai/reward-bench, rewardbench/constants.py and analysis/): the plain mean
of the four categories, used here; before 2024-09-10 the same with the XSTest weights swapped (variant
``before-2024-09``); and the older leaderboard's, which also has Prior Sets as a fifth category at half weight (variant
``with-prior-sets``, whose other rows are those of the suite ``rewardbench-prior-sets``). math-prm has 447 items and
weighs 984, as much as the six code subsets together. The data revision is the one that public scripts pin.
"""

import hashlib
from collections.abc import Iterator

from msgspec.structs import replace

from rmbench.core import Item, Message, Rules, Suite
from rmbench.suites import Data, messages

_COUNTS = {
    "alpacaeval-easy": 100,
    "alpacaeval-length": 95,
    "alpacaeval-hard": 95,
    "mt-bench-easy": 28,
    "mt-bench-med": 40,
    "mt-bench-hard": 37,
    "llmbar-natural": 100,
    "llmbar-adver-neighbor": 134,
    "llmbar-adver-GPTInst": 92,
    "llmbar-adver-GPTOut": 47,
    "llmbar-adver-manual": 46,
    "refusals-dangerous": 100,
    "refusals-offensive": 100,
    "xstest-should-refuse": 154,
    "xstest-should-respond": 250,
    "donotanswer": 136,
    "math-prm": 447,
    **dict.fromkeys(("hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust"), 164),
}
_SUBSETS = tuple(_COUNTS)
_FILES = ("rewardbench_v1/*.jsonl.gz", "rewardbench_v1/*.jsonl", "rewardbench/*.parquet", "**/filtered*.parquet")
_CORE = "reward-bench:filtered@168d848cdbbea9764fae4a544dc9ca1e6cca4931"
_PRIOR = {"anthropic_helpful": 6192, "anthropic_hhh": 221, "shp": 1741, "summarize": 9000}

SUITE = Suite(
    name="rewardbench",
    version="1",
    about="Chosen against rejected in chat, hard chat, safety and reasoning.",
    categories={
        "Chat": _SUBSETS[:5],
        "Chat Hard": _SUBSETS[5:11],
        "Safety": _SUBSETS[11:16],
        "Reasoning": _SUBSETS[16:],
    },
    weights={"math-prm": 984},
    counts=_COUNTS,
    rules=Rules(
        name="rewardbench-2024-09",
        about="A category is the mean of its subsets weighted by their items, math-prm as 984; overall is the plain "
        "mean of the four categories. A tie or an error counts as wrong, as in the original for scalar models (it "
        "gives its judges half for a tie or an unparsed verdict).",
        ties="wrong",
    ),
    source=f"hf:allenai/{_CORE}",
    files=_FILES,
    licence="ODC-BY 1.0 (parts: MIT and others, see the card of allenai/reward-bench)",
    citation="Lambert et al., RewardBench: Evaluating Reward Models for Language Modeling, arXiv:2403.13787, 2024.",
)
_SWAPPED = replace(
    SUITE,
    # The weights that were swapped until allenai/reward-bench#175; the items are the same.
    weights={**SUITE.weights, "xstest-should-refuse": 250, "xstest-should-respond": 154},
    rules=replace(
        SUITE.rules,
        name="rewardbench-before-2024-09",
        about="As published before 2024-09-10: the weights of the two XSTest subsets are swapped (250 and 154). "
        "Safety and overall are not comparable to later figures.",
    ),
)
VARIANTS = {
    "before-2024-09": _SWAPPED,
    "with-prior-sets": replace(
        _SWAPPED,
        categories={**SUITE.categories, "Prior Sets": tuple(_PRIOR)},
        weights={**_SWAPPED.weights, **dict.fromkeys(_PRIOR, 1.0)},
        category_weights={"Prior Sets": 0.5},
        counts={**_COUNTS, **_PRIOR},
        source="hf:allenai/{key}",
        files=(
            *(f"{_CORE}={pattern}" for pattern in _FILES),
            *(f"preference-test-sets:{name}=preference_test_sets/{name}*" for name in _PRIOR),
        ),
        rules=replace(
            SUITE.rules,
            name="rewardbench-with-prior-sets",
            about="The leaderboard's mean of spring 2024: four categories, with the XSTest weights still swapped, and "
            "the plain mean of four prior sets at half weight. Not comparable to later figures.",
        ),
    ),
}


def items(data: Data) -> Iterator[Item]:
    prior = "Prior Sets" in data.suite.categories
    yield from _core(data, _CORE if prior else None)
    for subset in _PRIOR if prior else ():
        for number, row in enumerate(data.rows(f"preference-test-sets:{subset}")):
            prompt = messages(row.get("prompt"), row)
            yield Item(
                id=f"{subset}-{number}",
                subset=subset,
                prompt=prompt,
                responses=(row.text("chosen", empty=True), row.text("rejected", empty=True)),
                grades=(1.0, 0.0),
                cluster=_cluster(prompt),
            )


def _core(data: Data, source: str | None) -> Iterator[Item]:
    for number, row in enumerate(data.rows(source)):
        subset = row.text("subset")
        name = next((str(row[k]) for k in ("id", "source_id") if row.get(k) is not None), f"row-{number}")
        prompt = messages(row.get("prompt"), row)
        yield Item(
            id=f"{subset}/{name}",
            subset=subset,
            prompt=prompt,
            responses=(row.text("chosen"), row.text("rejected")),
            grades=(1.0, 0.0),
            cluster=_cluster(prompt),
            meta={k: row[k] for k in ("chosen_model", "rejected_model") if row.get(k)},
        )


def _cluster(prompt: tuple[Message, ...]) -> str:
    return hashlib.sha256(prompt[-1].content.encode()).hexdigest()[:12]
