"""RewardBench's prior sets (Lambert et al. 2024): four older preference test sets in one format.

One record of the split ``anthropic_helpful`` (shortened, invented text)::

    {"prompt": [{"role": "user", "content": "How do I ..."}], "chosen": "You can ...", "rejected": "No idea."}

The column names and that ``prompt`` is a list of messages were read in two public scripts that use the set; the counts
in the tests of allenai/reward-bench (the name there is allenai/pref-test-sets); the rows could not be reached. The
older overall of RewardBench takes this suite's overall as a fifth category at half weight:
``(Chat + Chat Hard + Safety + Reasoning + 0.5 * Prior Sets) / 4.5``, the variant ``rewardbench:with-prior-sets``.
"""

from collections.abc import Iterator

from rmbench.core import Item, Message, Rules, Suite
from rmbench.suites import Data, messages

_COUNTS = {"anthropic_helpful": 6192, "anthropic_hhh": 221, "shp": 1741, "summarize": 9000}

SUITE = Suite(
    name="rewardbench-prior-sets",
    version="1",
    about="Pairs of Anthropic Helpful and HHH, Stanford Human Preferences and learning to summarize.",
    categories={"Prior Sets": tuple(_COUNTS)},
    weights=dict.fromkeys(_COUNTS, 1.0),
    counts=_COUNTS,
    rules=Rules(
        name="rewardbench-prior-sets-1",
        about="Plain mean of the four sets. A tie or an error counts as wrong. In RewardBench's older overall this "
        "number weighs half of a category. Standard errors cluster by prompt.",
        ties="wrong",
    ),
    source="hf:allenai/preference-test-sets:{key}",
    files=tuple(f"{key}=preference_test_sets/{key}*" for key in _COUNTS),
    licence="as the parts: MIT (Anthropic HH), custom (SHP, Reddit), modified MIT (summarize)",
    citation="Lambert et al., RewardBench, arXiv:2403.13787, 2024, section on prior test sets.",
    warning="anthropic_helpful and anthropic_hhh hold some offensive text.",
)


def items(data: Data) -> Iterator[Item]:
    prompts: dict[tuple[Message, ...], str] = {}
    for subset in _COUNTS:
        for n, row in enumerate(data.rows(subset)):
            prompt = messages(row.get("prompt"), row)
            yield Item(
                id=f"{subset}-{n}",
                subset=subset,
                prompt=prompt,
                responses=(row.text("chosen", empty=True), row.text("rejected", empty=True)),
                grades=(1.0, 0.0),
                cluster=prompts.setdefault(prompt, f"prompt-{len(prompts)}"),
            )
