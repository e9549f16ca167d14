"""PandaLM test set (Wang et al. 2023): pairs of answers judged by three people, ties allowed.

One record (shortened, invented text); an annotator says 1, 2, or 0 for a tie::

    {"idx": 7, "motivation_app": "Gmail", "cmp_key": "llama-7b_opt-7b", "instruction": "Shorten.", "input": "Dear ...",
     "response1": "Hi ...", "response2": "Dear ...", "annotator1": 1, "annotator2": 1, "annotator3": 0}

Checked on all 999 rows: majority labels 105 ties, 422 and 472, as the authors' repository (WeOpenML/PandaLM) prints.
Six responses are JSON booleans, whose text is lost: those rows are left out. 54 responses are empty and kept: the
annotators judged them.
"""

from collections import Counter
from collections.abc import Iterator

from rmbench.core import Item, Message, Rules, Suite
from rmbench.suites import Data

SUITE = Suite(
    name="pandalm",
    version="1",
    about="Three people's majority on pairs of answers, ties a class of their own.",
    categories={"PandaLM": ("testset-v1",)},
    counts={"testset-v1": 993},
    rules=Rules(
        name="pandalm-1",
        about="Accuracy over three classes (first, second, tie) against the majority of three annotators, with macro "
        "precision, recall and F1. A verdict that changes with the order is a tie.",
        ties="wrong",
        gold_ties="class",
        position="conflict-tie",
        metrics={"+pandalm": "three-class"},
    ),
    source="https://github.com/WeOpenML/PandaLM",
    files=("pandalm_test/testset-v1*", "**/PandaLM/data/testset-v1.json", "data/testset-v1.json"),
    licence="Apache-2.0",
    citation="Wang et al., PandaLM: An Automatic Evaluation Benchmark for LLM Instruction Tuning Optimization, "
    "arXiv:2306.05087, 2023.",
)


def items(data: Data) -> Iterator[Item]:
    empty = 0
    prompts: dict[str, str] = {}
    for row in data.rows():
        responses = (row.get("response1"), row.get("response2"))
        if any(isinstance(r, bool) for r in responses):
            data.exclude(row, "a response is a JSON boolean, its text lost")
            continue
        first, second = row.text("response1", empty=True), row.text("response2", empty=True)
        empty += (not first.strip()) + (not second.strip())
        votes = [int(row.number(f"annotator{i}")) for i in (1, 2, 3)]
        if not set(votes) <= {0, 1, 2}:
            raise row.fail(f"annotators say {votes}; they must say 0 (tie), 1 or 2")
        gold, most = Counter(votes).most_common(1)[0]
        if most == 1:
            raise row.fail(f"annotators say {votes}: three opinions, no majority")
        asked = "\n\n".join(
            part for part in (row.text("instruction", empty=True), row.text("input", empty=True)) if part
        )
        yield Item(
            id=f"pandalm-{int(row.number('idx')):03}",
            subset="testset-v1",
            prompt=(Message(role="user", content=asked),),
            responses=(first, second),
            grades={0: (1.0, 1.0), 1: (1.0, 0.0), 2: (0.0, 1.0)}[gold],
            strength=most / 3,
            cluster=prompts.setdefault(asked, f"prompt-{len(prompts)}"),
            meta={"models": row.get("cmp_key"), "votes": votes},
        )
    if empty:
        data.note(f"{empty} responses are empty; kept, since the annotators judged them")
