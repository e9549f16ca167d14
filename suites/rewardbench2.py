"""RewardBench 2 (Malik et al. 2025): best of four in five domains, and Ties, where many answers are right.

One record (shortened, invented text); a Ties id is ``ref:7`` (one right answer) or ``tied:7`` (many)::

    {"id": "12", "prompt": "Name a prime.", "chosen": ["7"], "rejected": ["9", "15", "21"], "num_correct": 1,
     "num_incorrect": 3, "total_completions": 4, "models": ["...", "..."], "subset": "Math",
     "additional_metadata": {"category": null}}

The schema, the counts (issue 268 of allenai/reward-bench) and the Ties formula were read in that repository; the rows
could not be reached, the revision is the one that public scripts pin. The original's Ties score can reach 1.01; it is
capped at 1 here. A judge rates every answer (``--mode pointwise``) or picks the best of four (``--mode n-way``); Ties
needs ratings.
"""

from collections.abc import Iterator

from rmbench.core import Item, Rules, Suite
from rmbench.suites import Data, Row, messages

_COUNTS = {"Factuality": 475, "Focus": 495, "Math": 183, "Precise IF": 160, "Safety": 450, "Ties": 102}

SUITE = Suite(
    name="rewardbench2",
    version="1",
    about="Best of four in five domains; separating many right answers from wrong ones in Ties.",
    categories={name: (name,) for name in _COUNTS},
    counts=_COUNTS,
    rules=Rules(
        name="rewardbench2-1",
        about="Share of prompts whose right answer scores highest, 1/k when it is one of k joint highest; Ties by its "
        "weighted formula, capped at 1 (the original reaches 1.01); overall is the plain mean of the six domains.",
        ties="share",
        metrics={"Ties": "rewardbench2-ties"},
    ),
    source="hf:allenai/reward-bench-2:test@7ff08853b0d5686e79b13fda8677024f566a104a",
    files=("rewardbench2/*", "reward-bench-2/**/test*"),
    licence="ODC-BY 1.0",
    citation="Malik et al., RewardBench 2: Advancing Reward Model Evaluation, arXiv:2506.01937, 2025.",
)


def items(data: Data) -> Iterator[Item]:
    for row in data.rows():
        subset, row_id = row.text("subset"), str(row.get("id"))
        chosen, rejected = _texts(row, "chosen"), _texts(row, "rejected")
        kind, _, prompt_id = row_id.partition(":")
        if subset == "Ties" and (kind not in ("ref", "tied") or not prompt_id):
            raise row.fail(f"id is {row_id!r}; in Ties it must be ref:<n> or tied:<n>")
        if subset != "Ties" and (len(chosen), len(rejected)) != (1, 3):
            raise row.fail(f"{len(chosen)} chosen and {len(rejected)} rejected; outside Ties there are 1 and 3")
        yield Item(
            id=f"{subset}-{row_id}",
            subset=subset,
            prompt=messages(row.get("prompt"), row),
            responses=chosen + rejected,
            grades=(1.0,) * len(chosen) + (0.0,) * len(rejected),
            cluster=f"ties-{prompt_id}" if subset == "Ties" else None,
            meta={"ties": kind, "prompt": prompt_id} if subset == "Ties" else {},
        )


def _texts(row: Row, key: str) -> tuple[str, ...]:
    value = row.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
        raise row.fail(f"{key!r} must be a list of strings with at least one")
    return tuple(value)
