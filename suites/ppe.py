"""Preference Proxy Evaluations (Frick et al. 2024): human votes on pairs, and picking a right answer out of 32.

One record of each kind (shortened, invented text)::

    {"question_id": "5e1f", "model_a": "m1", "model_b": "m2", "winner": "model_a", "language": "English",
     "prompt": "Write ...", "response_1": "...", "response_2": "..."}
    {"question_id": "117", "model_name": "m3", "prompt": "Solve ...", "response_1": "...", ..., "response_32": "...",
     "scores": [true, false, ...], "sampled_conflict_pairs": [[0, 5], [3, 1]], "category": "algebra"}

Columns and splits were read in public scripts that use the sets; that a correctness set has 512 prompts, and 16,038
votes in the human one, is secondary; the rows could not be reached. ``ppe:human`` and ``ppe:correctness`` are halves.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from rmbench.core import Item, Rules, Suite
from rmbench.suites import Data, Row, messages

_SETS = {
    "human": "Human-Preference-V1:test",
    "mmlu-pro": "MMLU-Pro-Best-of-K:train",
    "math": "MATH-Best-of-K:train",
    "gpqa": "GPQA-Best-of-K:train",
    "ifeval": "IFEval-Best-of-K:train",
    "mbpp-plus": "MBPP-Plus-Best-of-K:train",
}
_CORRECT = tuple(_SETS)[1:]

SUITE = Suite(
    name="ppe",
    version="1",
    about="Human preference pairs; verifiable correctness as best of 32 and as pairs of a right and a wrong answer.",
    categories={"Human preference": ("human",), "Correctness": _CORRECT},
    weights=dict.fromkeys(_SETS, 1.0),
    rules=Rules(
        name="ppe-1",
        about="Pairs: accuracy, human ties skipped and counted. Correctness: is the highest of 32 a right answer, 1/k "
        "credit for k joint highest; pair-accuracy over the set's own pairs of a right and a wrong answer stands "
        "beside it. Correctness is the plain mean of five sets, overall of both categories.",
        ties="share",
        metrics={"+pairs": "ppe-pairs"},
    ),
    source="hf:lmarena-ai/PPE-{key}",
    files=tuple(f"{source}=ppe/{key}*" for key, source in _SETS.items()),
    licence="prompts CC-BY-4.0, answers under the terms of the models' makers",
    citation="Frick et al., How to Evaluate Reward Models for RLHF, arXiv:2410.14872, 2024.",
)
VARIANTS = {
    "human": replace(SUITE, categories={"Human preference": ("human",)}),
    "correctness": replace(SUITE, categories={"Correctness": _CORRECT}),
}


def items(data: Data) -> Iterator[Item]:
    for subset in (s for subsets in data.suite.categories.values() for s in subsets):
        for n, row in enumerate(data.rows(_SETS[subset])):
            yield (_human if subset == "human" else _best_of_k)(row, subset, n)


def _human(row: Row, subset: str, n: int) -> Item:
    winner = row.text("winner")
    if not winner.startswith("tie") and winner not in ("model_a", "model_b"):
        raise row.fail(f"winner is {winner!r}; it must be model_a, model_b or tie...")
    return Item(
        id=f"{subset}-{n}",
        subset=subset,
        prompt=messages(row.get("prompt"), row),
        responses=(row.text("response_1", empty=True), row.text("response_2", empty=True)),
        grades=(float(winner != "model_b"), float(winner != "model_a")),
        meta={"language": row.get("language"), "models": [row.get("model_a"), row.get("model_b")]},
    )


def _best_of_k(row: Row, subset: str, n: int) -> Item:
    scores = row.get("scores")
    if not isinstance(scores, list) or not scores or any(s not in (0, 1) for s in scores):
        raise row.fail("'scores' must be a list of right (1) and wrong (0) answers")
    pairs = row.get("sampled_conflict_pairs") or []
    if any(len(p) != 2 or not all(0 <= i < len(scores) for i in p) or scores[p[0]] == scores[p[1]] for p in pairs):
        raise row.fail("'sampled_conflict_pairs' must hold pairs of a right and a wrong answer")
    return Item(
        id=f"{subset}-{n}",
        subset=subset,
        prompt=messages(row.get("prompt"), row),
        responses=tuple(row.text(f"response_{i + 1}", empty=True) for i in range(len(scores))),
        grades=tuple(float(s) for s in scores),
        meta={"model": row.get("model_name"), "pairs": pairs},
    )
