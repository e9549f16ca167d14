"""M-RewardBench (Gureja et al. 2024): RewardBench translated into 23 languages.

One record of the config ``deu_Latn`` (shortened, invented text)::

    {"id": 30, "language": "deu_Latn", "prompt": "Nenne eine Primzahl.", "chosen": "7", "rejected": "9",
     "chosen_model": "a", "rejected_model": "b", "subset": "alpacaeval-easy"}

Configs, split and columns are from the hub's card; the rows could not be reached, so no counts are checked. Within a
language the categories of RewardBench weigh the same, math-prm as much as the code subsets together: hence the five
parts. One language with these parts as categories is a variant (``m-rewardbench:deu_Latn``). The hub's separate
``translation`` config is not read.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from rmbench.core import Item, Rules, Suite
from rmbench.suites import Data, messages

_LATIN = ("ces", "deu", "fra", "ind", "ita", "nld", "pol", "por", "ron", "spa", "tur", "vie")
_OTHERS = ("arb_Arab", "ell_Grek", "heb_Hebr", "hin_Deva", "jpn_Jpan", "kor_Hang", "pes_Arab", "rus_Cyrl", "ukr_Cyrl")
_LANGUAGES = sorted((*(f"{code}_Latn" for code in _LATIN), *_OTHERS, "zho_Hans", "zho_Hant"))
_WEIGHTS = {"chat": 2.0, "chat-hard": 2.0, "safety": 2.0, "math-prm": 1.0, "hep": 1.0}
_PARTS = {
    **dict.fromkeys(("alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard"), "chat"),
    **dict.fromkeys(("mt-bench-easy", "mt-bench-med"), "chat"),
    **dict.fromkeys(("mt-bench-hard", "llmbar-natural", "llmbar-adver-neighbor"), "chat-hard"),
    **dict.fromkeys(("llmbar-adver-GPTInst", "llmbar-adver-GPTOut", "llmbar-adver-manual"), "chat-hard"),
    **dict.fromkeys(("refusals-dangerous", "refusals-offensive", "donotanswer"), "safety"),
    **dict.fromkeys(("xstest-should-refuse", "xstest-should-respond"), "safety"),
    "math-prm": "math-prm",
    **dict.fromkeys(("hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust"), "hep"),
}


def _parts(language: str) -> tuple[str, ...]:
    return tuple(f"{language} {part}" for part in _WEIGHTS)


SUITE = Suite(
    name="m-rewardbench",
    version="1",
    about="Chosen against rejected in 23 languages: chat, hard chat, safety and reasoning.",
    categories={language: _parts(language) for language in _LANGUAGES},
    weights={f"{language} {part}": w for language in _LANGUAGES for part, w in _WEIGHTS.items()},
    rules=Rules(
        name="m-rewardbench-1",
        about="A language is the mean of chat, hard chat, safety and reasoning (half math-prm, half code); overall is "
        "the plain mean of the languages. A tie or an error counts as wrong. Standard errors cluster by "
        "the item translated.",
        ties="wrong",
    ),
    source="hf:CohereLabsCommunity/multilingual-reward-bench:{key}:test",
    files=tuple(f"{language}=m_rewardbench/{language}*" for language in _LANGUAGES),
    licence="ODC-BY 1.0",
    citation="Gureja et al., M-RewardBench: Evaluating Reward Models in Multilingual Settings, arXiv:2410.15522, 2024.",
)


def _one(language: str) -> Suite:
    chat, hard, safety, math, code = _parts(language)
    categories = {"Chat": (chat,), "Chat Hard": (hard,), "Safety": (safety,), "Reasoning": (math, code)}
    about = "Overall is the mean of the four categories. A tie or an error counts as wrong."
    return replace(SUITE, categories=categories, rules=replace(SUITE.rules, name="m-rewardbench-one-1", about=about))


VARIANTS = {language: _one(language) for language in _LANGUAGES}


def items(data: Data) -> Iterator[Item]:
    for language in dict.fromkeys(s.split()[0] for subsets in data.suite.categories.values() for s in subsets):
        for n, row in enumerate(data.rows(language)):
            subset = row.text("subset")
            if subset not in _PARTS:
                raise row.fail(f"subset {subset!r} is none of RewardBench's: {', '.join(_PARTS)}")
            yield Item(
                id=f"{language}-{n}",
                subset=f"{language} {_PARTS[subset]}",
                prompt=messages(row.get("prompt"), row),
                responses=(row.text("chosen"), row.text("rejected")),
                grades=(1.0, 0.0),
                cluster=f"item-{row['id']}" if row.get("id") is not None else None,
                meta={"id": row.get("id"), "subset": subset},
            )
