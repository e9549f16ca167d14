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
# fmt: off
FLAWS = (
    "off", "off", "off", "off", "vague", "cut", "cut", "mix", "garble", "tongue", "repeat", "refuse", "refuse", "drift",
    "pad", "echo",
)
FORMS = (
    "case", "case", "word", "one-word", "count", "language", "yes", "number", "one", "two-sentences", "question",
    "brief", "first",
)
BREAKS = (
    ("return", "print"), ("return ", ""), ("+", "-"), ("<", ">"), ("==", "!="), ("[0]", "[1]"), ("(", "["), (":", ""),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "Monday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December", "January",
)
# fmt: on
SPLIT = ("chat", "ask", "comply", "refuse", "harm", "fine", "turn", "code", "logic", "topic")
"""The kinds of seed text of which a part is held out."""


class Pair(NamedTuple):
    """User and assistant turns in alternation, ending in a user turn; the better and the worse answer to it."""

    prompt: Turns
    good: str
    bad: str


def read_seed(held_out: bool = False) -> dict[str, list[list[str]]]:
    """Kind -> entries, each a list of fields. Every eighth text is held out: it is never trained on."""
    seed: dict[str, list[list[str]]] = {}
    for line in SEED_TEXTS.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            kind, *fields = line.replace("\\n", "\n").split(" | ")
            seed.setdefault(kind, []).append(fields)
    for kind in SPLIT:
        seed[kind] = [fields for i, fields in enumerate(seed[kind]) if (i % 8 == 7) == held_out]
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
        self.harmless = [(prompt, good) for prompt, good, *_ in seed["chat"] + seed["ask"] + seed["comply"]]
        self.words = sorted({w for _, good in self.harmless for w in re.findall(r"[a-z]{4,}", good)})

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
        if flaw == "garble":
            return " ".join("".join(rng.sample(w, len(w))) if self.maybe(0.7) else self.made_up(2) for w in words)
        if flaw == "tongue":
            return self.foreign()[1]
        return " ".join(words[: len(words) // 2]) + " " + other

    def foreign(self) -> tuple[str, str]:
        """A language and a piece of text in it."""
        tongue, text = self.rng.choice(self.seed["tongue"])
        words, n = text.split(), self.rng.randint(5, 18)
        start = self.rng.randint(0, len(words) - 5)
        piece = " ".join(words[start : start + n]).rstrip(",:")
        return tongue, piece[0].upper() + piece[1:] + "."

    def rename(self, pair: Pair) -> Pair:
        """Words that prompt and answer share become other words, so that it is the sharing that is learned."""
        rng, spoken = self.rng, " ".join(pair.prompt)
        shared = sorted(set(re.findall(r"[a-z]{4,}", spoken)) & set(re.findall(r"[a-z]{4,}", pair.good)))
        new = {w: self.made_up(rng.randint(2, 3)) if self.maybe(0.4) else rng.choice(self.words) for w in shared}

        def swap(text: str) -> str:
            return re.sub(r"[a-z]{4,}", lambda found: new.get(found[0], found[0]), text)

        return Pair(tuple(map(swap, pair.prompt)), swap(pair.good), swap(pair.bad))

    def dress(self, pair: Pair) -> Pair:
        """Openers and closers on either side at random, so that they carry nothing."""
        prompt = (*pair.prompt[:-1], self.join(self.say("ask"), pair.prompt[-1]))
        good, bad = (
            self.join(self.say("lead"), text, self.say("tail") if text[-1] in ".!?" else "")
            for text in (pair.good, pair.bad)
        )
        return Pair(prompt, good, bad)

    def chat(self) -> Pair:
        if self.maybe(0.3):
            prompt, good, bad = self.rng.choice(self.seed["chat"])
            return self.dress(Pair((prompt,), good, bad))
        prompt, good = self.question()
        pair = Pair((prompt,), good, self.spoil(prompt, good))
        return self.dress(self.rename(pair) if self.maybe(0.4) else pair)

    def on_topic(self) -> Pair:
        (prompt, answer), (_, other) = self.topic(), self.topic()
        good, bad = self.rng.choice(((1, 1), (2, 2), (1, 3), (3, 1), (2, 1), (1, 2)))
        good_text, bad_text = (" ".join(f() for _ in range(n)) for f, n in ((answer, good), (other, bad)))
        return self.dress(Pair((prompt,), good_text, bad_text))

    def match(self) -> Pair:
        """The answer that has the prompt's words, whatever they are, beats one that has others."""
        words = self.rng.sample(self.words, 4)
        if self.maybe(0.3):
            words = [self.made_up(2) for _ in words]
        a, b, c, d = words
        ask, (good, bad) = self.rng.choice(self.variants["pair"]), self.rng.sample(self.variants["both"], 2)
        return Pair((ask.format(a, b),), good.format(*self.rng.sample((a, b), 2)), bad.format(c, d))

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
        if self.maybe(0.6):
            what, ((deed,), (thing, tip)) = "that", (rng.choice(self.seed["harm"]), rng.choice(self.seed["fine"]))
            prompt = self.say("how", v=deed)
            bad = self.join(*(self.say("eager"), *rng.sample(self.variants["glib"], rng.randint(0, 3))))
            if self.maybe(0.25):
                bad = self.join(self.say("eager"), self.advice(thing, tip))
            elif self.maybe(0.25):
                bad = self.join(self.say("eager"), self.advice(deed, self.say("glib").rstrip(".").lower()))
        elif self.maybe(0.5):
            prompt, what, hollow = rng.choice(self.seed["refuse"])
            bad = self.say("hollow", x=hollow) if self.maybe(0.85) else self.question()[1]
        else:
            verb = rng.choice([v for v in self.verbs if v not in ("crack", "cut", "bury")])
            person = self.say("people")
            prompt = self.say("asks", v=f"{verb} the money of" if verb in ("steal", "hack") else verb, p=person)
            hollow = f"wait until {person} is alone, then {rng.choice(('act fast', 'use a tool', 'strike'))}."
            what, bad = rng.choice(("harming someone", f"plans to {verb} {person}")), self.say("hollow", x=hollow)
        prompt = self.join(self.say("ask"), prompt)
        return Pair((prompt,), self.refusal(rng.choice((what, what, "that", "this", "harming people"))), bad)

    def advice(self, deed: str, tip: str) -> str:
        text = self.say("help", v=deed.replace("my ", "your "), x=tip)
        return text[0].upper() + text[1:].rstrip(".") + "."

    def comply(self) -> Pair:
        """A harmless ask, often one that sounds alarming: helping wins over declining."""
        rng = self.rng
        if self.maybe(0.5):
            deed, tip = rng.choice(self.seed["fine"])
            prompt, good, off = self.say("how", v=deed), self.advice(deed, tip), self.say("vague")
        elif self.maybe(0.5):
            verb = rng.choice([v for v, things in self.verbs.items() if len(things) > 1])
            thing, tip = rng.choice(self.verbs[verb])
            prompt, good = self.say("asks", v=verb, p=thing), self.advice(f"{verb} {thing}", tip)
            off = self.say("vague")
        else:
            prompt, good, off = rng.choice(self.seed["comply"])
        if self.maybe(0.85):
            off = self.refusal(rng.choice((prompt.lower().rstrip("?."), "violence", "harming someone", "this")))
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
            big, as_told, other_way = rng.choice(((True, str.upper, str.lower), (False, str.lower, str.upper)))
            names = ("capital", "upper-case", "big") if big else ("lowercase", "lower-case", "small")
            ask = rng.choice(
                ("Use {} letters only.", "Answer in {} letters.", "Write all of it in {} letters, please.")
            )
            asked = f"{prompt} {ask.format(rng.choice(names))}"
            return Pair((asked,), as_told(good), good if self.maybe(0.6) else other_way(good))
        if way == "word":
            word, place = rng.choice(rng.choice(self.topics)[1]), rng.randint(0, len(words))
            ask = rng.choice(("Include the word '{}' in your answer.", "Use the word '{}' somewhere.")).format(word)
            return Pair((f"{prompt} {ask}",), " ".join([*words[:place], word, *words[place:]]) + ".", good)
        if way == "count":
            n = rng.randint(4, 7)
            return Pair((f"{prompt} Use at most {n} words.",), " ".join(words[:n]) + ".", longer)
        if way == "language":
            tongue, text = self.foreign()
            ask = rng.choice(("Answer in {}.", "Reply in {}, please.", "Write in {}."))
            return Pair((f"{prompt} {ask.format(tongue)}",), text, good)
        kind, other = rng.sample(self.kinds, 2)
        right, alien = rng.choice(self.pools[kind]), rng.choice(self.pools[other])
        if way == "one-word":
            ask = rng.choice(
                (
                    "Name one of the {} in one word.",
                    "Pick any of the {}. One word only.",
                    "{}: name one, as a single word.",
                )
            )
            bad = rng.choice(
                (f"One of the {kind} that I like is {right}.", f"{right} and {rng.choice(self.pools[kind])}.", good)
            )
            return Pair((ask.format(kind),), right.capitalize(), bad)
        if way == "yes":
            true = self.maybe(0.5)
            short = rng.choice(("Reply with yes or no only.", "Yes or no?", "Just yes or no, please."))
            ask = f"Is {right if true else alien} one of the {kind}? {short}"
            word, flip = ("Yes", "No") if true else ("No", "Yes")
            bad = rng.choice(
                (
                    f"{flip}.",
                    f"That depends on how you look at {kind}.",
                    good,
                    f"{alien.capitalize()} is well known to many people.",
                )
            )
            return Pair((ask,), word + rng.choice(("", ".")), bad)
        if way == "number":
            n = rng.randint(8, 11)
            ask = f"How many {kind} are here: {', '.join(rng.sample(self.pools[kind], n))}? Give the number only."
            bad = rng.choice((f"There are {n} of them here.", f"I see some {kind}.", good, f"{8 + (n - 7) % 4}"))
            return Pair((ask,), str(n), bad)
        if way == "first":
            word = rng.choice(rng.choice(self.topics)[1]).split()[0].capitalize()
            ask = rng.choice(
                ("Start your answer with the word '{}'.", "The first word must be '{}'.", "Begin with '{}'.")
            )
            return Pair((f"{prompt} {ask.format(word)}",), f"{word}: {good}", good)
        if way == "two-sentences":
            first, second = self.question()[1], self.question()[1]
            two = " ".join(re.split(r"(?<=[.!?])\s", f"{good} {first}")[:2])
            bad = f"{two} {second}" if self.maybe(0.5) else re.split(r"(?<=[.!?])\s", good)[0]
            return Pair((f"{prompt} Answer in two sentences.",), two, bad)
        if way == "one":
            return Pair((f"{prompt} Answer in a single sentence.",), re.split(r"(?<=[.!?])\s", good)[0], longer)
        if way == "brief":
            return Pair(
                (f"{prompt} Keep it brief.",), good, self.join(self.say("padding"), good, self.say("padding"), longer)
            )
        return Pair((f"{prompt} End with a question.",), good + " Does that help you?", good + " That is all.")

    def sum(self) -> tuple[str, str, int, str, str]:
        """A prompt, its working, its result, and the person and the things it is about."""
        rng, name, thing = self.rng, self.rng.choice(self.pools["names"]), self.rng.choice(self.pools["things"])
        sign = rng.choice("+-*")
        b = rng.randint(2, 10)
        a = rng.randint(2, 10) if sign == "*" else rng.randint(b + 1, 20)
        result = {"+": a + b, "-": a - b, "*": a * b}[sign]
        word = {"+": "plus", "-": "minus", "*": "times"}[sign]
        story = {
            "+": (f"{name} has {a} {thing} and finds {b} more. How many {thing} are there now?",
                  f"There are {a} {thing} on a table and {b} on another. How many is that?"),
            "-": (f"{name} has {a} {thing} and loses {b}. How many {thing} are there now?",
                  f"Of {a} {thing}, {name} gives {b} away. How many are left?"),
            "*": (f"{name} fills {a} bags with {b} {thing} each. How many {thing} is that?",
                  f"{a} boxes hold {b} {thing} each. How many {thing} are there in all?"),
        }[sign]  # fmt: skip
        bare = (f"What is {a} {sign} {b}?", f"Compute {a} {word} {b}.", f"How much is {a} {word} {b}?")
        return rng.choice((*story, *bare)), f"{a} {sign} {b}", result, name, thing

    def maths(self) -> Pair:
        """A small sum: a wrong result, one that contradicts the working, or the answer to another sum."""
        prompt, working, result, name, thing = self.sum()
        off = max(0, result + self.rng.choice((-10, -3, -2, -1, 1, 2, 3, 5, 10)))
        ends = (
            f" = {{}}, so the answer is {{}} {thing}.", " = {}. That makes {} in all.", f" = {{}}. {name} counts {{}}.",
            " = {}, so it is {}.", " = {}. The answer is {}.", " = {}.", " is {}.",
        )  # fmt: skip
        style = (
            working + self.rng.choice(ends)
            if self.maybe(0.8)
            else self.rng.choice(("The answer is {}.", "It makes {}."))
        )
        slots = style.count("{}")
        good, flaw = style.format(*[result] * slots), self.rng.random()
        if flaw < 0.2:
            _, other, value, *_ = self.sum()
            return Pair((prompt,), good, style.replace(working, other).format(*[value] * slots))
        if flaw < 0.3:
            return Pair((prompt,), good, self.spoil(prompt, good))
        wrong = [result] * (slots - 1) + [off] if slots > 1 and flaw < 0.8 else [off] * slots
        return Pair((prompt,), good, style.format(*wrong))

    def compare(self) -> Pair:
        """Two numbers or two neighbours in a row, and which comes where."""
        rng = self.rng
        a, b = sorted(rng.sample(range(1, rng.choice((20, 100, 1000))), 2))
        x, y = rng.sample(self.pools["names"], 2)
        thing, more = rng.choice(self.pools["things"]), self.maybe(0.5)
        top, low = (b, a) if more else (a, b)
        way = rng.choice(("plain", "yes", "people", "row", "next"))
        shown = rng.sample((a, b), 2)
        if way == "plain":
            ask = f"Which is {'larger' if more else 'smaller'}, {shown[0]} or {shown[1]}?"
            form = rng.choice(("{} is {}.", "The {1} one is {0}."))
            word = "larger" if more else "smaller"
            return Pair((ask,), form.format(top, word), form.format(low, word))
        if way == "yes":
            word = "more" if more else "less"
            form, true = rng.choice(("{}, {} is {} than {}.", "{}.")), shown[0] == top
            said = ("Yes", "No") if true else ("No", "Yes")
            whole = [f"{said[0]}, {top} is {word} than {low}.", f"{said[1]}, {low} is {word} than {top}."]
            good, bad = whole if "than" in form else [f"{s}." for s in said]
            return Pair((f"Is {shown[0]} {word} than {shown[1]}?",), good, bad)
        if way == "people":
            facts = rng.sample((f"{x} has {top} {thing}.", f"{y} has {low} {thing}."), 2)
            form = rng.choice(("{0} has {1} {2}.", "{0} has {1}, namely {3}.", "It is {0}."))
            word = "more" if more else "fewer"
            good, bad = (form.format(who, word, thing, n) for who, n in ((x, top), (y, low)))
            return Pair((f"{' '.join(facts)} Who has {word} {thing}?",), good, bad)
        if way == "row":
            by = rng.choice((-1, 1))
            ask = f"Which number comes {'after' if by > 0 else 'before'} {b}?"
            return Pair((ask,), f"{b + by}.", f"{b - by if self.maybe(0.5) else b + 5 * by}.")
        row = rng.choice((DAYS, MONTHS))
        i = rng.randrange(len(row) - 1)
        after = self.maybe(0.5)
        given, right = (row[i], row[i + 1]) if after else (row[i + 1], row[i])
        wrong = rng.choice([w for w in row if w not in (given, right)])
        form = rng.choice(("It is {}.", f"{{}} comes {'after' if after else 'before'} {given}."))
        return Pair(
            (f"What comes right {'after' if after else 'before'} {given}?",), form.format(right), form.format(wrong)
        )

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
            return self.compare()
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
        if self.maybe(0.15):
            good = frame.format(f"return {right}")
            return Pair((f"Write a Python function that {what}.",), good, self.spoil(what, good))
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

    def warm_up(self, n: int) -> list[Pair]:
        """Pairs to begin with: answers about their prompt against answers about something else: amid the
        other families, trainings of a few hundred steps did not learn it."""
        return [self.match() if self.maybe(0.75) else self.on_topic() for _ in range(n)]

    def pairs(self, n: int) -> list[Pair]:
        """``n`` pairs, with as many longer as shorter winners at every ratio of lengths: length alone says nothing."""
        # fmt: off
        plan: list[tuple[Callable[[], Pair], float]] = [
            (self.chat, 7.0), (self.match, 4.0), (self.on_topic, 2.0), (self.two_turn, 2.5),
            (self.refuse, 3.0), (self.comply, 3.5), (self.shape, 1.5), (self.form, 3.5),
            (self.maths, 3.5), (self.compare, 1.5), (self.logic, 1.5), (self.code, 1.2),
        ]
        # fmt: on
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
