"""RMB (Zhou et al. 2024): helpfulness and harmlessness over 49 scenarios, as pairs and as best of n.

One record of each kind (shortened, invented text); files lie in Pairwise_set/ and BoN_set/ by goal and scenario::

    {"pair_uid": "17", "conversation_input": [{"role": "user", "content": "...", "language": "English"}],
     "chosen": {"llm_name": "m1", "answer": "..."}, "reject": {"llm_name": "m2", "answer": "..."},
     "category_path": "Pairwise_set/Helpfulness/Chat/Discussion"}
    {"bon_uid": "3", "conversation_input": [...], "bon_best": {"llm_name": "m1", "answer": "..."},
     "loser_list": [{"llm_name": "m2", "answer": "..."}, ...], "category_path": "BoN_set/Harmlessness/S9"}

Schema, file layout and 3,786 best-of-n rows were read in Zhou-Zoey/RMB-Reward-Model-Benchmark, which states no licence
and is not on the hub: clone it into the data folder. The number of pairs was not checked.
"""

from collections.abc import Iterator

from rmbench.core import Item, Message, Rules, Suite
from rmbench.suites import Data, Row, messages

_GOALS = ("Helpfulness", "Harmlessness")
_KINDS = {"Pairwise_set": "pairs", "BoN_set": "best-of-n"}

SUITE = Suite(
    name="rmb",
    version="1",
    about="Pairs and best of n in 49 scenarios of helpfulness and harmlessness.",
    categories={f"{goal} {kind}": (f"{goal} {kind}",) for goal in _GOALS for kind in _KINDS.values()},
    rules=Rules(
        name="rmb-1",
        about="Best of n counts when the best answer scores strictly higher than every other; a tie is wrong. Overall "
        "is the plain mean of the four categories. Standard errors cluster by prompt.",
        ties="wrong",
        ranking="best-beats-all",
    ),
    source="https://github.com/Zhou-Zoey/RMB-Reward-Model-Benchmark",
    files=tuple(f"{kind}=**/{kind}/**/*.json" for kind in _KINDS),
    licence="none stated",
    citation="Zhou et al., RMB: Comprehensively Benchmarking Reward Models in LLM Alignment, arXiv:2410.09893, 2024.",
    warning="The harmlessness part holds offensive text.",
)


def items(data: Data) -> Iterator[Item]:
    prompts: dict[tuple[Message, ...], str] = {}
    for kind, name in _KINDS.items():
        for row in data.rows(kind):
            path = row.text("category_path").split("/")
            goal = path[1] if len(path) > 1 else ""
            if path[0] != kind or goal not in _GOALS:
                raise row.fail(f"category_path is {row['category_path']!r}; it must begin with {kind}/<goal>/")
            best, losers, uid = ("chosen", "reject", "pair_uid") if name == "pairs" else ("bon_best", "", "bon_uid")
            rest = [row.get(losers)] if losers else row.get("loser_list") or []
            answers = tuple(_answer(a, row) for a in (row.get(best), *rest))
            prompt = messages(row.get("conversation_input"), row, "conversation_input", beside=("language",))
            yield Item(
                id=f"{kind}-{row.get(uid)}",
                subset=f"{goal} {name}",
                prompt=prompt,
                responses=answers,
                grades=(1.0,) + (0.0,) * (len(answers) - 1),
                cluster=prompts.setdefault(prompt, f"prompt-{len(prompts)}"),
                meta={"scenario": "/".join(path[2:])},
            )


def _answer(value: object, row: Row) -> str:
    if not isinstance(value, dict) or not isinstance(value.get("answer"), str):
        raise row.fail("an answer must be {llm_name, answer}")
    return str(value["answer"])
