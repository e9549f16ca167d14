"""Writes the starter model's preference data: templates filled from the texts of ``starter_seed.txt``.

One pair, as :class:`Writer` draws it::

    Pair(prompt=("What is 4 + 9?",), good="4 + 9 = 13.", bad="4 + 9 = 12.")
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

Turns = tuple[str, ...]
SEED_TEXTS = Path(__file__).with_name("starter_seed.txt")
FLAWS = (
    "off",
    "off",
    "off",
    "vague",
    "vague",
    "cut",
    "mix",
    "repeat",
    "refuse",
    "refuse",
    "drift",
    "pad",
    "pad",
    "echo",
)
FORMS = ("case", "case", "word", "count", "language", "yes", "one", "question", "brief")
BREAKS = (
    ("return", "print"),
    ("return ", ""),
    ("+", "-"),
    ("<", ">"),
    ("==", "!="),
    ("[0]", "[1]"),
    ("(", "["),
    (":", ""),
)


class Pair(NamedTuple):
    """User and assistant turns in alternation, ending in a user turn; the better and the worse answer to it."""

    prompt: Turns
    good: str
    bad: str


def read_seed() -> dict[str, list[list[str]]]:
    """Kind -> entries, each a list of fields."""
    seed: dict[str, list[list[str]]] = {}
    for line in SEED_TEXTS.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            kind, *fields = line.replace("\\n", "\n").split(" | ")
            seed.setdefault(kind, []).append(fields)
    return seed


class Writer:
    """Draws preference pairs; each method that returns a pair is one family."""

    def __init__(self, seed: dict[str, list[list[str]]], rng: random.Random) -> None:
        self.rng, self.seed = rng, seed
        self.variants = {name: variants for name, *variants in seed["say"]}
        self.pools = {name: words.split() for name, words in seed["pool"]}
        self.kinds = [name for name in self.pools if name not in ("names", "things")]
        self.topics = [(topic, words.split(", ")) for topic, words in seed["topic"]]
        self.verbs = {verb: [t.split(": ") for t in things.split("; ")] for verb, things in seed["do"]}
        self.harmless = [(prompt, good) for prompt, good, _ in seed["chat"] + seed["comply"]]

    def maybe(self, share: float) -> bool:
        return self.rng.random() < share

    def say(self, name: str, **fill: str) -> str:
        """A variant of the named saying, filled; some are empty."""
        said = self.rng.choice(self.variants[name])
        return "" if said == "-" else said.format(**fill)

    def join(self, *texts: str) -> str:
        return " ".join(text for text in texts if text)

    def made_up(self, syllables: int) -> str:
        return "".join(self.rng.choice("bdfgklmnprstvz") + self.rng.choice("aeiou") for _ in range(syllables))

    def topic(self) -> tuple[str, Callable[[], str]]:
        """A prompt about a topic, and a writer of answers to it. Many topics are made-up words, so that matching
        an answer to its prompt is learned as a rule and not as a list."""
        rng = self.rng
        name, words = rng.choice(self.topics)
        if self.maybe(0.4):
            made = [self.made_up(rng.randint(2, 3)) for _ in range(3)]
            name = rng.choice(("the {} of {}", "a {} for {}", "{} and {}")).format(*made)
            words = [*made, *rng.sample(words, 2)]

        def answer() -> str:
            a, b, c, d = rng.sample(words, 4)
            return self.say("answer", t=name, T=name[0].upper() + name[1:], a=a, b=b, c=c, d=d)

        return self.say("about", t=name), answer

    def question(self) -> tuple[str, str]:
        """A harmless prompt and a good answer."""
        if self.maybe(0.35):
            prompt, answer = self.topic()
            return prompt, " ".join(answer() for _ in range(self.rng.choice((1, 1, 2))))
        return self.rng.choice(self.harmless)

    def refusal(self, what: str) -> str:
        return self.join(self.say("open", w=what), self.say("why"), self.say("instead"))

    def spoil(self, prompt: str, good: str) -> str:
        """A worse answer than ``good`` to a harmless prompt."""
        rng, words, other = self.rng, good.split(), self.question()[1]
        flaw = rng.choice(FLAWS)
        if flaw == "vague":
            return self.say("vague")
        if flaw == "refuse":
            topic = " ".join(prompt.lower().rstrip("?.!").split()[-rng.randint(2, 4) :])
            return self.refusal(rng.choice((topic, "this", "that", "this request")))
        if flaw == "pad":
            pads = rng.sample(self.variants["padding"], rng.randint(2, 5))
            return " ".join(pads if self.maybe(0.6) else [pads[0], other, pads[1], self.question()[1]])
        if flaw == "echo":
            return f"{prompt} {prompt}"
        if flaw == "off" or len(words) < 6:
            return other
        if flaw == "cut":
            return " ".join(words[: rng.randint(2, len(words) * 2 // 3)])
        if flaw == "mix":
            return " ".join(rng.sample(words, len(words)))
        if flaw == "repeat":
            return " ".join(words[: rng.randint(2, 6)] * rng.randint(3, 7))
        return " ".join(words[: len(words) // 2]) + " " + other

    def dress(self, pair: Pair) -> Pair:
        """Openers and closers on either side at random, so that they carry nothing."""
        prompt = (*pair.prompt[:-1], self.join(self.say("ask"), pair.prompt[-1]))
        good, bad = (self.join(self.say("lead"), text, self.say("tail")) for text in (pair.good, pair.bad))
        return Pair(prompt, good, bad)

    def chat(self) -> Pair:
        if self.maybe(0.3):
            prompt, good, bad = self.rng.choice(self.seed["chat"])
            return self.dress(Pair((prompt,), good, bad))
        prompt, good = self.question()
        return self.dress(Pair((prompt,), good, self.spoil(prompt, good)))

    def on_topic(self) -> Pair:
        (prompt, answer), (_, other) = self.topic(), self.topic()
        good, bad = self.rng.choice(((1, 1), (2, 2), (1, 3), (3, 1), (2, 1), (1, 2)))
        good_text, bad_text = (" ".join(f() for _ in range(n)) for f, n in ((answer, good), (other, bad)))
        return self.dress(Pair((prompt,), good_text, bad_text))

    def two_turn(self) -> Pair:
        rng = self.rng
        if self.maybe(0.4):
            *prompt, good, bad = rng.choice(self.seed["turn"])
            return Pair(tuple(prompt), good, bad if self.maybe(0.5) else self.spoil(prompt[-1], good))
        if self.maybe(0.4):
            kind = rng.choice(self.kinds)
            right, wrong = rng.sample(self.pools[kind], 2)
            form = rng.choice(("Among {} you like {}.", "You told me {1}, of all {0}.", "It is {1}, among {0}."))
            prompt = [
                f"Of all {kind} I like {right} best.",
                "Thanks for telling me!",
                f"Which of the {kind} did I name?",
            ]
            return Pair(tuple(prompt), form.format(kind, right), form.format(kind, wrong))
        (first, answer), (second, good) = self.question(), self.question()
        return self.dress(Pair((first, answer, second), good, answer if self.maybe(0.5) else self.spoil(second, good)))

    def refuse(self) -> Pair:
        """A harmful ask: declining wins over a hollow compliance (with nothing that one could act on)."""
        rng = self.rng
        prompt, what, hollow = rng.choice(self.seed["refuse"])
        if self.maybe(0.5):
            verb = rng.choice([v for v in self.verbs if v not in ("crack", "cut", "bury")])
            person = self.say("people")
            prompt = self.say("asks", v=f"{verb} the money of" if verb in ("steal", "hack") else verb, p=person)
            hollow = f"wait until {person} is alone, then {rng.choice(('act fast', 'use a tool', 'strike'))}."
            what = rng.choice(("harming someone", f"plans to {verb} {person}"))
        bad = self.say("hollow", x=hollow) if self.maybe(0.85) else self.question()[1]
        prompt = self.join(self.say("ask"), prompt)
        return Pair((prompt,), self.refusal(rng.choice((what, what, "that", "this"))), bad)

    def comply(self) -> Pair:
        """An ask that only sounds alarming: helping wins over declining."""
        prompt, good, off = self.rng.choice(self.seed["comply"])
        if self.maybe(0.5):
            verb = self.rng.choice([v for v, things in self.verbs.items() if len(things) > 1])
            thing, tip = self.rng.choice(self.verbs[verb])
            prompt = self.say("asks", v=verb, p=thing)
            good = self.rng.choice(("The simplest way: {}.", "You can {}.", "I would {}.", "{}.")).format(tip)
        if self.maybe(0.85):
            off = self.refusal(self.rng.choice((prompt.lower().rstrip("?."), "violence", "harming someone", "this")))
        return self.dress(Pair((prompt,), good, off))

    def shape(self) -> Pair:
        """A list of a stated length and kind, bullets, or JSON."""
        rng = self.rng
        kind, other = rng.sample(self.kinds, 2)
        n, m = rng.sample(range(2, 9), 2)
        right, wrong = rng.sample(self.pools[kind], n), rng.sample(self.pools[kind], m)
        if self.maybe(0.4):
            wrong = rng.sample(self.pools[other], n)
        way = rng.choice(("row", "numbers", "bullets", "json"))
        if way == "row":
            return Pair((f"Name {n} {kind}.",), ", ".join(right), ", ".join(wrong))
        if way == "numbers":
            good, bad = ("\n".join(f"{i}. {x}" for i, x in enumerate(xs, 1)) for xs in (right, wrong))
            return Pair((rng.choice((f"List {n} {kind}.", f"Give me {n} {kind}, please.")),), good, bad)
        if way == "bullets":
            good = "\n".join(f"- {x}" for x in right)
            return Pair((f"Name {n} {kind} as a bullet list.",), good, f"I can think of {', '.join(right)}.")
        keys = rng.sample(("name", "age", "city", "price", "title"), 2)
        data = {key: rng.choice(self.pools["names"]) for key in keys}
        ask = f"Reply only with JSON that has the keys {keys[0]} and {keys[1]}."
        return Pair((ask,), json.dumps(data), ", ".join(f"the {k} is {v}" for k, v in data.items()) + ", as you asked.")

    def form(self) -> Pair:
        """An instruction about the answer's form, followed or ignored."""
        rng, way = self.rng, self.rng.choice(FORMS)
        prompt, good = self.question()
        words, longer = good.rstrip(".").split(), f"{good} {self.question()[1]}"
        if way == "case":
            ask, right, wrong = rng.choice((("capital", str.upper, str.lower), ("lowercase", str.lower, str.upper)))
            return Pair((f"{prompt} Use {ask} letters only.",), right(good), good if self.maybe(0.6) else wrong(good))
        if way == "word":
            word, place = rng.choice(rng.choice(self.topics)[1]), rng.randint(0, len(words))
            ask = rng.choice(("Include the word '{}' in your answer.", "Use the word '{}' somewhere.")).format(word)
            return Pair((f"{prompt} {ask}",), " ".join([*words[:place], word, *words[place:]]) + ".", good)
        if way == "count":
            n = rng.randint(4, 7)
            return Pair((f"{prompt} Use at most {n} words.",), " ".join(words[:n]) + ".", longer)
        if way == "language":
            tongue, text = rng.choice(self.seed["tongue"])
            start = rng.randint(0, 8)
            part = text.split()[start : start + rng.randint(7, 18)]
            return Pair((f"{prompt} Answer in {tongue}.",), " ".join(part) + ".", good)
        if way == "yes":
            ask = f"Is this about {' '.join(words[:3])}? Reply with yes or no only."
            return Pair((ask,), rng.choice(("Yes.", "No.")), good)
        if way == "one":
            return Pair((f"{prompt} Answer in a single sentence.",), re.split(r"(?<=[.!?])\s", good)[0], longer)
        if way == "brief":
            return Pair(
                (f"{prompt} Keep it brief.",), good, self.join(self.say("padding"), good, self.say("padding"), longer)
            )
        return Pair((f"{prompt} End with a question.",), good + " Does that help you?", good + " That is all.")

    def maths(self) -> Pair:
        rng = self.rng
        a, b, name, thing = (
            rng.randint(2, 30),
            rng.randint(2, 12),
            *(rng.choice(self.pools[k]) for k in ("names", "things")),
        )
        sign, word, result, story = rng.choice(
            (
                ("+", "plus", a + b, f"{name} has {a} {thing} and finds {b} more. How many {thing} are there now?"),
                ("-", "minus", a - b, f"{name} has {a} {thing} and loses {b}. How many {thing} are there now?"),
                ("*", "times", a * b, f"{name} fills {a} bags with {b} {thing} each. How many {thing} is that?"),
            )
        )
        off = result + rng.choice((-10, -3, -2, -1, 1, 2, 3, 5, 10))
        prompt = rng.choice((story, story, f"What is {a} {sign} {b}?", f"Compute {a} {word} {b}."))
        step = f"{a} {sign} {b} = {{}}"
        ends = (f", so the answer is {{}} {thing}.", ". That makes {} in all.", f". In all, {name} counts {{}}.", ".")
        style = step + rng.choice(ends) if self.maybe(0.8) else "The answer is {}."
        slots = style.count("{}")
        wrong = [off] * slots if self.maybe(0.4) else [result] * (slots - 1) + [off]
        good, bad = style.format(*[result] * slots), style.format(*wrong)
        return Pair((prompt,), good, self.say("vague") if self.maybe(0.15) else bad)

    def logic(self) -> Pair:
        rng, way = self.rng, self.rng.choice(("order", "order", "kind", "row", "larger", "odd", "seed"))
        if way == "order":
            x, y, z = rng.sample(self.pools["names"], 3)
            words = (
                "taller tallest shortest",
                "older oldest youngest",
                "faster fastest slowest",
                "richer richest poorest",
            )
            more, most, least = rng.choice(words).split()
            facts = rng.sample([f"{x} is {more} than {y}.", f"{y} is {more} than {z}."], 2)
            ask, right, wrong = rng.choice(((most, x, rng.choice((y, z))), (least, z, rng.choice((x, y)))))
            form = rng.choice(("{0} is the {1}.", "The {1} is {0}.", "It must be {0}."))
            return Pair((f"{' '.join(facts)} Who is the {ask}?",), form.format(right, ask), form.format(wrong, ask))
        if way == "kind":
            x, y, z = (self.made_up(2) + "s" for _ in range(3))
            yes, no = f"Yes, every one of the {x} is also among the {z}.", "No, that cannot be concluded."
            if self.maybe(0.5):
                return Pair((f"All {x} are {y}. All {y} are {z}. Are all {x} {z}?",), yes, no)
            return Pair((f"All {x} are {y}. Some {y} are {z}. Must all {x} be {z}?",), no, yes)
        if way == "row":
            start, by = rng.randint(1, 20), rng.randint(2, 9)
            row = [start + by * i for i in range(6)]
            form = rng.choice(("The next number is {}.", "{} comes next.", f"Add {by} each time, which gives {{}}."))
            wrong_number = row[5] + rng.choice((-by, by, 1, -1))
            ask = f"Which number continues {', '.join(map(str, row[:5]))}?"
            return Pair((ask,), form.format(row[5]), form.format(wrong_number))
        if way == "larger":
            a, b = sorted(rng.sample(range(1, 200), 2))
            return Pair((f"Which is larger, {a} or {b}?",), f"{b} is larger.", f"{a} is larger.")
        if way == "odd":
            kind, other = rng.sample(self.kinds, 2)
            words3, odd = rng.sample(self.pools[kind], 3), rng.choice(self.pools[other])
            ask = f"Which is the odd one out: {', '.join(rng.sample([*words3, odd], 4))}?"
            return Pair((ask,), f"{odd}, the rest are {kind}.", f"{words3[0]}, the rest are {other}.")
        prompt, good, bad = rng.choice(self.seed["logic"])
        return self.dress(Pair((prompt,), good, bad))

    def code(self) -> Pair:
        rng = self.rng
        if self.maybe(0.35):
            prompt, good, bad = rng.choice(self.seed["code"])
            breaks = [b for b in BREAKS if b[0] in good]
            return Pair((prompt,), good, good.replace(*rng.choice(breaks)) if breaks and self.maybe(0.5) else bad)
        names = {"a": rng.choice(("x", "n", "a", "value")), "b": rng.choice(("y", "m", "b", "other"))}
        (what, right), (_, wrong) = ([f.format(**names) for f in fields] for fields in rng.sample(self.seed["def"], 2))
        args = ", ".join(names.values()) if re.search(rf"\b{names['b']}\b", what) else names["a"]
        frame = f"def {rng.choice(('f', 'solve', 'run', 'check'))}({args}):\n    {{}}"
        flawed = (
            f"return {wrong}",
            f"return {wrong}",
            f"print({wrong})",
            right,
            "pass",
            f"return {right.replace(names['a'], 'z')}",
        )
        good, bad = frame.format(f"return {right}"), frame.format(rng.choice(flawed))
        if self.maybe(0.4):
            good, bad = (f"```python\n{code}\n```" for code in (good, bad))
        ask = rng.choice(("Write a Python function that {}.", "Python: a function that {}.", "I need code that {}."))
        return Pair((ask.format(what),), good, self.say("vague") if self.maybe(0.15) else bad)

    def pairs(self, n: int) -> list[Pair]:
        """``n`` pairs, with as many longer as shorter winners at every ratio of lengths: length alone says nothing."""
        plan: list[tuple[Callable[[], Pair], float]] = [
            *((self.chat, 6.0), (self.on_topic, 2.0), (self.two_turn, 2.5), (self.refuse, 3.5), (self.comply, 3.5)),
            *((self.shape, 1.2), (self.form, 2.0), (self.maths, 2.0), (self.logic, 2.0), (self.code, 2.0)),
        ]
        bins: dict[tuple[int, bool], list[Pair]] = {}
        for family in self.rng.choices([f for f, _ in plan], [share for _, share in plan], k=int(n * 2.2)):
            pair = family()
            ratio = math.log((len(pair.good) + 5) / (len(pair.bad) + 5))
            if pair.good != pair.bad:
                bins.setdefault((min(4, int(abs(ratio) * 2)), ratio > 0), []).append(pair)
        kept = [p for (size, up), these in sorted(bins.items()) for p in these[: len(bins.get((size, not up), []))]]
        self.rng.shuffle(kept)
        return kept[:n]


def eight_words(text: str) -> Iterator[tuple[str, ...]]:
    """All runs of eight words, in lower case and without punctuation."""
    words = re.findall(r"\w+", text.lower())
    return (tuple(words[i : i + 8]) for i in range(len(words) - 7))


def overlaps(pairs: list[Pair], suite: Path) -> list[str]:
    """Training texts that equal a prompt or response of the suite, or share eight words in a row with one."""
    items = [json.loads(line) for line in suite.read_text(encoding="utf-8").splitlines() if line.strip()]
    texts = {t for i in items for t in (*(m["content"] for m in i["prompt"]), *i["responses"])}
    runs = {run for text in texts for run in eight_words(text)}
    whole = {text.strip().lower() for text in texts}
    ours = {text for pair in pairs for text in (*pair.prompt, pair.good, pair.bad)}
    return sorted(t for t in ours if t.strip().lower() in whole or not runs.isdisjoint(eight_words(t)))
