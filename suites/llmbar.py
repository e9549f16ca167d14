"""LLMBar (Zeng et al. 2023): does a judge see which of two answers follows the instruction?

One record (shortened, invented text)::

    {"subset": "adver-manual", "index": 4, "input": "Say hello in French.", "output_1": "Bonjour.",
     "output_2": "French is a Romance language ...", "label": 1}

The authors' own files (Dataset/LLMBar/Natural/dataset.json ...) lack ``subset`` and ``index``; both forms are read, and
counts and schema were checked on all 419 rows. That the paper averages plainly over the five sets is from memory.
"""

from collections.abc import Iterator

from rmbench.core import Item, Rules, Suite
from rmbench.suites import Data, messages

_COUNTS = {"natural": 100, "adver-neighbor": 134, "adver-GPTInst": 92, "adver-GPTOut": 47, "adver-manual": 46}
_FOLDERS = ("Natural", "Adversarial/Neighbor", "Adversarial/GPTInst", "Adversarial/GPTOut", "Adversarial/Manual")

SUITE = Suite(
    name="llmbar",
    version="1",
    about="Following the instruction against pleasing on the surface: natural and adversarial pairs.",
    categories={"Natural": ("natural",), "Adversarial": tuple(_COUNTS)[1:]},
    weights=dict.fromkeys(_COUNTS, 1.0),
    category_weights={"Adversarial": 4.0},
    counts=_COUNTS,
    rules=Rules(
        name="llmbar-1",
        about="Mean over both orders; an adversarial set counts as much as the natural one. An invalid reply is wrong, "
        "a tie counts half. Both orders right stands beside it.",
    ),
    source="https://github.com/princeton-nlp/LLMBar",
    files=(
        *(f"{key}=llmbar/llmbar.jsonl*" for key in _COUNTS),
        *(f"{key}=**/LLMBar/{folder}/dataset.json" for key, folder in zip(_COUNTS, _FOLDERS, strict=True)),
    ),
    licence="MIT",
    citation="Zeng et al., Evaluating Large Language Models at Evaluating Instruction Following, "
    "arXiv:2310.07641, 2023.",
)


def items(data: Data) -> Iterator[Item]:
    for subset in _COUNTS:
        for n, row in enumerate(data.rows(subset)):
            if row.get("subset", subset) != subset:
                continue
            label = row.get("label")
            if label not in (1, 2) or isinstance(label, bool):
                raise row.fail(f"label is {label!r}; it must be 1 or 2")
            yield Item(
                id=f"{subset}-{row.get('index', n)}",
                subset=subset,
                prompt=messages(row.text("input"), row),
                responses=(row.text("output_1"), row.text("output_2")),
                grades=(1.0, 0.0) if label == 1 else (0.0, 1.0),
            )
