"""HelpSteer2 validation (Wang et al. 2024): two answers a prompt, each rated by people on five attributes from 0 to 4.

Two consecutive records (shortened, invented text); prompts of several turns hold ``<extra_id_1>`` lines::

    {"prompt": "A prime?\\n<extra_id_1>Assistant\\n7.\\n<extra_id_1>User\\nAnother.", "response": "11.",
     "helpfulness": 4, "correctness": 4, "coherence": 4, "complexity": 1, "verbosity": 1}
    {"prompt": "A prime?...", "response": "9.", "helpfulness": 1, "correctness": 0, ...}

A pair's gold is one attribute (the variant's name; by default helpfulness) or a weighted sum of all; ``strength`` is
the difference. Pairs equal in it are left out and counted: of 519, 373 differ in helpfulness, 354 in correctness, 196
in coherence (a public note; the rows themselves could not be reached, the schema is the dataset card's). Weights:
``weighted`` and ``weighted-3`` from the card of nvidia/Llama3-70B-SteerLM-RM and its earlier revision,
``weighted-340b`` from that of nvidia/Nemotron-4-340B-Reward.
"""

from collections.abc import Iterator

from rmbench.core import Item, Message, Rules, Suite
from rmbench.suites import Data, Row

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_WEIGHTS = {
    **{name: tuple(float(name == other) for other in ATTRIBUTES) for name in ATTRIBUTES},
    "weighted": (0.65, 0.8, 0.45, 0.55, -0.4),
    "weighted-3": (0.65, 0.8, 0.45, 0.0, 0.0),
    "weighted-340b": (0.3, 0.74, 0.46, 0.47, -0.33),
}
_KEPT = {"helpfulness": 373, "correctness": 354, "coherence": 196}
_ABOUT = (
    "Pairs by {gold}; equal pairs are left out and counted. Accuracy is the mean over both orders for a judge; both "
    "orders right (position-consistent accuracy) and accuracy by strength stand beside it. Equal scores count half."
)


def _variant(gold: str) -> Suite:
    terms = " ".join(f"{w:+g}*{a}" for a, w in zip(ATTRIBUTES, _WEIGHTS[gold], strict=True) if w)
    return Suite(
        name="helpsteer2",
        version="1",
        about="Which of two answers people rated higher.",
        categories={"HelpSteer2": ("validation",)},
        rules=Rules(
            name=f"helpsteer2-{gold}-1",
            about=_ABOUT.format(gold=f"the sum {terms}"),
        ),
        counts={"validation": _KEPT[gold]} if gold in _KEPT else {},
        source="hf:nvidia/HelpSteer2:validation@990b2711a36180dd19d9c94b8627844866f8982a",
        files=("helpsteer2/validation*", "HelpSteer2/validation*"),
        licence="CC-BY-4.0",
        citation="Wang et al., HelpSteer2: Open-source dataset for training top-performing reward models, "
        "arXiv:2406.08673, 2024.",
    )


SUITE = _variant("helpfulness")
VARIANTS = {gold: _variant(gold) for gold in _WEIGHTS}


def items(data: Data) -> Iterator[Item]:
    gold = data.suite.rules.name.removeprefix("helpsteer2-").removesuffix("-1")
    first: Row | None = None
    kept = pairs = 0
    for row in data.rows():
        if first is None:
            first = row
            continue
        if row.text("prompt") != first.text("prompt"):
            raise row.fail("the prompt differs from the row before; every two consecutive rows must share one")
        pairs += 1
        # Rounded, so that a difference of 0 in decimals is 0.
        difference = round(_score(first, gold) - _score(row, gold), 9)
        if difference:
            kept += 1
            yield Item(
                id=f"validation-{pairs:03}",
                subset="validation",
                prompt=turns(row.text("prompt"), row),
                responses=(first.text("response"), row.text("response")),
                grades=(float(difference > 0), float(difference < 0)),
                strength=abs(difference),
                meta={a: [first.number(a), row.number(a)] for a in ATTRIBUTES},
            )
        else:
            data.exclude(row, f"equal in {gold}")
        first = None
    if first is not None:
        raise first.fail("the last row has no partner; rows come in pairs")
    data.note(f"kept {kept} of {pairs} pairs: those that differ in {gold}")


def _score(row: Row, gold: str) -> float:
    return sum(w * row.number(a) for a, w in zip(ATTRIBUTES, _WEIGHTS[gold], strict=True))


def turns(prompt: str, row: Row) -> tuple[Message, ...]:
    """The messages of a prompt whose turns begin with lines ``<extra_id_1>Assistant`` or ``<extra_id_1>User``."""
    said: list[Message] = []
    for n, part in enumerate(("User\n" + prompt).split("<extra_id_1>")):
        speaker, _, text = part.partition("\n")
        if speaker != ("User", "Assistant")[n % 2]:
            raise row.fail(f"<extra_id_1> is followed by {speaker[:20]!r}; User and Assistant must alternate")
        said.append(Message(role="assistant" if n % 2 else "user", content=text.removesuffix("\n")))
    if len(said) % 2 == 0:
        raise row.fail("the prompt ends with an Assistant turn")
    return tuple(said)
