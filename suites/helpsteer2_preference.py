"""HelpSteer2-Preference (Wang et al. 2024): which of two answers people preferred, and how clearly, from -3 to 3.

One record (shortened, invented text); a negative strength prefers response 1, zero is a tie::

    {"split": "val", "prompt": "A prime?", "response_1": "11.", "response_2": "9.", "preference_strength": -3,
     "preference_statement": "@Response 1 is much better ...", "preference_elaboration": "..."}

The rows of the hub's ``preference/`` folder whose split is ``val`` or ``validation`` (its name there was not seen) are
the suite, 352 by memory, so not checked. The variant ``sample`` reads 100 rows of the train side whose sides are
already sorted (``conversation, chosen, rejected, preference_strength`` 0..3): the sign of a strength is gone there, and
29 zeros are ties although a side is "chosen".
"""

from collections.abc import Iterator

from msgspec.structs import replace

from rmbench.core import Item, Message, Rules, Suite
from rmbench.suites import Data, Row, messages

SUITE = Suite(
    name="helpsteer2-preference",
    version="1",
    about="Which of two answers people preferred, with the strength of the preference.",
    categories={"HelpSteer2-Preference": ("validation",)},
    rules=Rules(
        name="helpsteer2-preference-1",
        about="Strength zero is a tie and is skipped and counted. Accuracy is the mean over both orders for a judge; "
        "both orders right and accuracy by strength stand beside it. Equal scores count half.",
    ),
    source="hf:nvidia/HelpSteer2:preference:train@990b2711a36180dd19d9c94b8627844866f8982a",
    files=("helpsteer2/preference.jsonl*", "HelpSteer2/preference/preference.jsonl*"),
    licence="CC-BY-4.0",
    citation="Wang et al., HelpSteer2-Preference: Complementing Ratings with Preferences, arXiv:2410.01257, 2024.",
)
VARIANTS = {
    "sample": replace(
        SUITE,
        categories={"HelpSteer2-Preference": ("sample",)},
        counts={"sample": 100},
        files=("helpsteer2/preference_sample_100.jsonl",),
        notes=("100 rows of the train side, drawn by a third party; not the validation set",),
    )
}


def items(data: Data) -> Iterator[Item]:
    sample = "sample" in data.suite.counts
    damaged = 0
    for n, row in enumerate(data.rows()):
        if not sample and row.text("split") not in ("val", "validation"):
            continue
        strength = row.number("preference_strength")
        if strength not in range(0 if sample else -3, 4):
            raise row.fail(f"preference_strength is {strength:g}; it must be a whole number from -3 to 3")
        if sample:
            prompt, pair, strength = messages(row.get("conversation"), row), ("chosen", "rejected"), -strength
        else:
            prompt, pair = _turns(row), ("response_1", "response_2")
        responses = (row.text(pair[0]), row.text(pair[1]))
        damaged += any("\ufffd" in text for text in (*responses, *(m.content for m in prompt)))
        yield Item(
            id=f"{'sample' if sample else 'validation'}-{n:05}",
            subset="sample" if sample else "validation",
            prompt=prompt,
            responses=responses,
            grades=(float(strength <= 0), float(strength >= 0)),
            strength=abs(strength),
        )
    if damaged:
        data.note(f"{damaged} items hold replacement characters, as found")


def _turns(row: Row) -> tuple[Message, ...]:
    """The prompt's turns, which begin with lines ``<extra_id_1>Assistant`` or ``<extra_id_1>User``."""
    said: list[Message] = []
    for n, part in enumerate(("User\n" + row.text("prompt")).split("<extra_id_1>")):
        speaker, _, text = part.partition("\n")
        if speaker != ("User", "Assistant")[n % 2]:
            raise row.fail(f"<extra_id_1> is followed by {speaker[:20]!r}; User and Assistant must alternate")
        said.append(Message(role="assistant" if n % 2 else "user", content=text.removesuffix("\n")))
    return tuple(said)
