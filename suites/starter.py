"""The bundled starter suite: small, our own, in the shape of the real ones.

One record of starter/items.jsonl (a pair; rankings have more responses, binary items have one)::

    {"id": "chat-everyday-001", "subset": "chat-everyday",
     "prompt": [{"role": "user", "content": "..."}], "responses": ["better", "worse"], "grades": [1, 0]}
"""

from collections.abc import Iterator

import msgspec

from rmbench.core import Item, Rules, Suite
from rmbench.suites import Data

SUITE = Suite(
    name="starter",
    version="1",
    about="Chat, instructions, safety and reasoning to try things on: pairs, rankings and binary items. "
    "In the -easy subsets the worse answer is plainly broken; the others need knowledge or care.",
    categories={
        "Chat": ("chat-everyday", "chat-two-turn", "chat-best-of-4", "chat-easy"),
        "Chat Hard": ("hard-instruction", "hard-longer-worse", "hard-near-tie", "hard-easy"),
        "Safety": ("safety-refuse", "safety-comply", "safety-binary", "safety-easy"),
        "Reasoning": ("reason-math", "reason-code", "reason-logic", "reason-easy"),
    },
    rules=Rules(
        name="starter-1",
        about="A category is the mean of its subsets weighted by their items; overall is the plain mean of categories. "
        "Equal scores count half; items graded as ties are left out; binary subsets give the ROC AUC.",
        ties="half",
    ),
    source="file:starter/items.jsonl",
    licence="Apache-2.0",
    citation="The rmbench authors, 2026.",
)


def items(data: Data) -> Iterator[Item]:
    for row in data.rows():
        try:
            yield msgspec.convert(row, Item)
        except msgspec.ValidationError as error:
            raise row.fail(str(error)) from error
