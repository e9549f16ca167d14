"""Generative judges: pairs in both orders, ratings, best of n; by text or by the probability of the verdict.

A ballot holds the judge's own words as they were parsed. What cannot be parsed is no vote and no half vote: the order
it belongs to lives on its other samples, or the item becomes an error that names the order.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from msgspec.structs import replace

from rmbench import checkpoints
from rmbench.adapters import parsers, prompts, running
from rmbench.adapters.options import Options
from rmbench.adapters.prompts import Mode, Prompt
from rmbench.core import Ballot, Item, Judgment
from rmbench.engines import Engine, Request, Tokens, endpoint
from rmbench.engines.endpoint import Answer, ChatRequest, Reply, Step
from rmbench.engines.text import Text
from rmbench.errors import BadData, UsageError
from rmbench.sampling import latin_square, seed_of, shuffled

_SERVER = ("base_url", "concurrency", "rate", "retries", "timeout", "prices")
_LOCAL = running.OPTIONS - {"engine"}
OPTIONS = frozenset(
    (
        "engine", "judge_prompt", "parser", "orders", "mode", "verdict", "samples", "temperature", "top_p",
        "max_tokens", *_SERVER, *_LOCAL,
    )
)  # fmt: skip
_DEFAULT = {
    "text": {"pairwise": "pairwise", "pointwise": "rating", "n-way": "n-way"},
    "probability": {"pairwise": "pairwise-letter", "pointwise": "rating-digit", "n-way": "n-way"},
}
_BRIEF = "pairwise-brief"
"""For judges too small to reason before they decide."""
_SMALL = 1_000_000_000
"""Parameters: models below answer the default prompt with no verdict at all, and this one with one four times in five
(SmolLM2-135M-Instruct on LLMBar, greedy: 0 of 24 and 16 of 20)."""
_PAIRWISE_TEXT = tuple((v, m) for v in (None, "text") for m in (None, "pairwise"))
_FEW = 8
"""Ballots: below that many, nothing is said of their share."""
_TOP = 20
"""Alternatives per token asked of a server: the most that the common ones give."""
_BLANK = " \t\r\n"
_BLANKS = 4
"""Tokens of white space that may stand before a verdict."""
_CHUNK = 256
"""Requests rendered at a time for an engine that takes token ids."""

Ask = Callable[[Iterable[ChatRequest]], Iterator[Answer]]


class Plan(NamedTuple):
    """How ballots are asked for."""

    prompt: Prompt
    verdict: Literal["text", "probability"] = "text"
    both: bool = True
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 2048
    seed: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "adapter": "judge",
            "mode": self.prompt.mode,
            "prompt": self.prompt.settings,
            "verdict": self.verdict if self.verdict == "text" else "probability-2",
            "orders": "both" if self.both else "one",
            "samples": self.samples,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "material": "split-2",
        }

    @property
    def order(self) -> str:
        """How position enters, in words."""
        if self.prompt.mode == "pointwise":
            return "pointwise: order-free by construction"
        if self.prompt.mode == "n-way":
            return "each response once in each place" if self.both else "one seeded order per item"
        return "both orders of every pair" if self.both else "one seeded order per pair"


class Judge:
    """A plan carried out by an engine: ``chat`` of an endpoint, or token ids through a tokenizer's chat template."""

    why_engine = ""
    """Why this engine, where nobody asked for it."""
    why_prompt = ""
    """The same of the prompt."""
    block = 32  # ballots take long to write, and a killed run loses the block at hand

    def __init__(self, plan: Plan, engine: Any, text: Text | None = None) -> None:
        """``text`` renders for an engine that takes token ids; without it the engine has ``chat``."""
        self.plan = plan
        self.settings: dict[str, Any] = {**plan.settings, **engine.settings}
        self.order = plan.order
        self.exact: bool = engine.exact
        self.device: str = engine.device
        self.engine = str(engine.settings.get("engine", ""))
        self.counted = (*getattr(engine, "counted", ()), "ballots", "outside", "narrow")
        self._engine = engine
        self._text = text
        self._counts: Counter[str] = Counter()
        self._outside = {"items": 0, "mass": 0.0}
        self._narrow = Counter[str]()
        if text is None:
            self._ask: Ask = engine.chat
            # A server that is not deterministic can turn a verdict round; of a probability it moves the last places.
            self.tolerance = 1e-2 if plan.verdict == "probability" else 1.0
        else:
            self._ask = lambda requests: _ask_tokens(engine, text, plan, requests, self._narrow)
            self.tolerance = getattr(engine, "tolerance", 0.0)
        self._pairwise = plan.prompt.mode == "pairwise" and plan.prompt.name != _BRIEF
        self._clean = prompts.cleaner(plan.prompt, control=text is None)

    @property
    def info(self) -> dict[str, Any]:
        """What was measured: ballots by fate, the probability outside the labels, prompts that left less room than
        --max-tokens, and what the engine counted."""
        outside = {"outside": dict(self._outside)} if self._outside["items"] else {}
        narrow = {"narrow": self._narrow["narrow"]} if self._narrow["narrow"] else {}
        return {**self._engine.info, "ballots": dict(sorted(self._counts.items())), **outside, **narrow}

    @property
    def notes(self) -> list[str]:
        """For the reader of the numbers."""
        notes = [*getattr(self._engine, "notes", ()), *([self.why_prompt] if self.why_prompt else ())]
        share = self._outside["mass"] / max(self._outside["items"], 1)
        if share > 0.5:
            # Without the share, which stands in ``info``: a resumed run would have one such note per session.
            notes.append("probability: most of the judge's probability lies outside the labels that were asked for")
        if self._narrow["narrow"]:
            notes.append(
                f"--max-tokens {self.plan.max_tokens} does not fit into the model's context beside every prompt: where "
                "it does not, the judge writes as much as there is room for"
            )
        asked, valid = sum(self._counts.values()), self._counts["valid"]
        if self.plan.verdict == "text" and asked >= _FEW and valid < asked / 2:
            brief = f" or --judge-prompt {_BRIEF}, which asks for the verdict first" if self._pairwise else ""
            notes.append(
                "most of the judge's answers hold no verdict that can be read: try --verdict probability, which needs "
                f"no words of the judge{brief}"
            )
        return notes

    def close(self) -> None:
        """Ends the engine, where it holds anything."""
        if hasattr(self._engine, "close"):
            self._engine.close()

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        """One judgment per item as soon as its last ballot is in, while later items are already being asked."""
        tickets: dict[int, tuple[_Open, tuple[int, ...]]] = {}
        refused: deque[Judgment] = deque()

        def requests() -> Iterator[ChatRequest]:
            number = itertools.count()
            for item in items:
                try:
                    asked = [(shown, self._request(item, shown)) for shown in orders(item, self.plan)]
                except BadData as error:
                    refused.append(Judgment(item_id=item.id, error=str(error)))
                    continue
                opened = _Open(item, [shown for shown, _ in asked])
                for shown, request in asked:
                    tickets[next(number)] = (opened, shown)
                    yield request

        for answer in self._ask(requests()):
            opened, shown = tickets.pop(answer.number)
            opened.tokens += answer.tokens
            opened.generated += sum(reply.tokens for reply in answer.replies)
            opened.ballots[shown] = [
                read_ballot(self.plan, shown, sample, reply) for sample, reply in enumerate(answer.replies)
            ]
            self._counts.update((b.error or "valid").partition(":")[0] for b in opened.ballots[shown])
            if all(opened.ballots.values()):
                judgment = _judgment(opened, self.plan)
                if "outside" in judgment.meta:
                    self._outside["items"] += 1
                    self._outside["mass"] += judgment.meta["outside"]
                yield judgment
            while refused:
                yield refused.popleft()
        yield from refused

    def preview(self, item: Item) -> list[dict[str, Any]]:
        """What the judge reads for each order: the messages, or a checkpoint's exact text and tokens."""
        parts = []
        for shown in orders(item, self.plan):
            messages = self._request(item, shown).messages
            title = f"responses shown: {', '.join(map(str, shown))}"
            if self._text is None:
                parts.append({"title": title, "text": "\n\n".join(f"[{m.role}]\n{m.content}" for m in messages)})
            else:
                parts.append({"title": title, **self._text.preview(self._text.prompts([messages])[0])})
        return parts

    def _request(self, item: Item, shown: tuple[int, ...]) -> ChatRequest:
        plan = self.plan
        return ChatRequest(
            messages=plan.prompt.messages(item, shown, self._clean),
            samples=plan.samples,
            seed=seed_of(plan.seed, item.id, *shown),
            max_tokens=plan.max_tokens,
            temperature=plan.temperature,
            top_p=plan.top_p,
            top=_TOP if plan.verdict == "probability" else 0,
            shown=len(shown),
        )


def open(ref: str, options: Options) -> Judge:
    """A judge on a server (``--base-url`` or ``--engine endpoint``) or on a local checkpoint.

    Raises UsageError for options that contradict each other, UnknownName for a prompt or parser that is not known.
    """
    served = options.engine == "endpoint" or (options.engine is None and options.base_url is not None)
    given = options.given()
    if wrong := [name for name in (_LOCAL if served else _SERVER) if name in given]:
        named = ", ".join("--" + name.replace("_", "-") for name in wrong)
        raise UsageError(f"{named}: not for {'a server' if served else 'a local checkpoint'}; leave it out")
    if served:
        return Judge(make_plan(options), endpoint.open(ref, options))
    if _asks_for_reasons(options) and (size := _parameters(ref, options)) < _SMALL:
        options = replace(options, judge_prompt=_BRIEF)
        why_prompt = (
            f"judge prompt {_BRIEF}, which asks for the verdict before the reasons, since the model is small "
            f"({size / 1e9:.2g} B parameters); --judge-prompt pairwise asks for reasons first"
        )
    else:
        why_prompt = ""
    plan = make_plan(options)
    writes = not (plan.verdict == "probability" and plan.prompt.parser.direct)
    engine, why = running.pick(options, writes=writes)
    opened = running.open_engine(ref, replace(options, engine=engine), "text")
    made = Judge(plan, opened.engine, opened.text)
    made.why_engine = why
    made.why_prompt = why_prompt
    return made


def _asks_for_reasons(options: Options) -> bool:
    """Nothing was asked for but what takes the default prompt for a text."""
    return not (options.judge_prompt or options.parser) and (options.verdict, options.mode) in _PAIRWISE_TEXT


def _parameters(ref: str, options: Options) -> int:
    read = checkpoints.read(ref, revision=options.revision, trust_remote_code=options.trust_remote_code)
    return read.parameters()


def make_plan(options: Options) -> Plan:
    """From the options, with the defaults of each mode. Raises UsageError."""
    verdict = options.verdict or "text"
    if verdict not in _DEFAULT:
        raise UsageError(f"--verdict {verdict}: use text or probability")
    mode = options.mode or "pairwise"
    if mode not in _DEFAULT["text"]:
        raise UsageError(f"--mode {mode}: use pairwise, pointwise or n-way")
    prompt = prompts.load(options.judge_prompt or _DEFAULT[verdict][mode], options.parser)
    if options.mode and prompt.mode != options.mode:
        raise UsageError(f"--mode {mode} with --judge-prompt {options.judge_prompt}: that prompt is {prompt.mode}")
    if options.orders not in (None, "both", "one"):
        raise UsageError(f"--orders {options.orders}: use both or one")
    direct = verdict == "probability" and prompt.parser.direct
    samples = 1 if options.samples is None else options.samples
    if samples < 1:
        raise UsageError(f"--samples {samples}: use 1 or more")
    sampled = samples > 1
    temperature = (0.7 if sampled else 0.0) if options.temperature is None else options.temperature
    top_p = (0.9 if sampled else 1.0) if options.top_p is None else options.top_p
    if not (0 <= temperature < math.inf and 0 < top_p <= 1):
        raise UsageError(f"--temperature {temperature:g} --top-p {top_p:g}: use 0 or more, and above 0 up to 1")
    if sampled and temperature == 0:
        raise UsageError(f"--samples {samples} at temperature 0 is one sample {samples} times; raise --temperature")
    if sampled and direct:
        raise UsageError(f"--samples {samples}: prompt {prompt.name} reads its probabilities without sampling")
    max_tokens = options.max_tokens or (16 if direct else 128 if prompt.parser.opens else 2048)
    if max_tokens < 1:
        raise UsageError(f"--max-tokens {max_tokens}: use 1 or more")
    if verdict == "probability":
        if prompt.parser.name == "json":
            raise UsageError("--verdict probability: parser json does not say which token decided; use another one")
        words = _words(prompt, 2)
        if any(a != b and b.startswith(a) for a in words for b in words):
            raise UsageError(
                f"--verdict probability: the labels {', '.join(words)} of prompt {prompt.name} cannot be told apart by "
                "their first token; use single digits (rating-digit) or letters"
            )
    return Plan(
        prompt=prompt,
        verdict=verdict,  # type: ignore[arg-type]
        both=options.orders != "one",
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        seed=options.seed,
    )


def orders(item: Item, plan: Plan) -> list[tuple[int, ...]]:
    """The orders in which the item's responses are shown. Raises BadData where the mode cannot answer it."""
    mode: Mode = plan.prompt.mode
    count = len(item.responses)
    if mode == "pointwise":
        return [(i,) for i in range(count)]
    if item.kind == "binary":
        raise BadData(f"a {mode} judge cannot answer a binary item; use --mode pointwise")
    if mode == "n-way":
        if count > len(plan.prompt.labels):
            raise BadData(f"{count} responses, and prompt {plan.prompt.name} has {len(plan.prompt.labels)} labels")
        if plan.both:
            return list(latin_square(count, plan.seed, item.id))
        return [shuffled(count, plan.seed, item.id)]
    pairs = itertools.combinations(range(count), 2)
    if plan.both:
        return [order for a, b in pairs for order in ((a, b), (b, a))]
    return [(a, b) if seed_of(plan.seed, item.id, a, b) % 2 else (b, a) for a, b in pairs]


def read_ballot(plan: Plan, shown: tuple[int, ...], sample: int, reply: Reply) -> Ballot:
    """One reply as a ballot. Only the judge's own words are read; thinking is kept apart and never parsed."""
    prompt = plan.prompt
    thinking, text = parsers.split_thinking(reply.text)
    thinking = "\n\n".join(t for t in (reply.thinking, thinking) if t) or None
    ballot: dict[str, Any] = {"shown": shown, "sample": sample, "text": text, "thinking": thinking}
    direct = plan.verdict == "probability" and prompt.parser.direct

    def failed(reason: str) -> Ballot:
        return Ballot(**ballot, error=reason)

    if reply.error is not None:
        ballot["text"] = text or None
        return failed(reply.error)
    if reply.finish == "length" and not direct and not prompt.parser.opens:
        # The last word was not said: a verdict so far may be one that the judge only weighs.
        if reply.limit is not None and reply.limit < plan.max_tokens:
            return failed(f"cut off: the model's context had room for {reply.limit} tokens beside the prompt")
        return failed(f"cut off: --max-tokens {plan.max_tokens} ended it before its end")
    verdict = parsers.parse(prompt.parser, text, prompt.words(len(shown)))
    if plan.verdict == "probability" and (direct or verdict.error is None):
        at = None if verdict.at <= 0 and thinking is None else max(verdict.at, 0)
        found = _weigh(reply.steps, text, at, _words(prompt, len(shown)))
        if isinstance(found, str):
            return failed(found)
        return _by_probability(prompt, shown, found, ballot)
    if verdict.word is None:
        return failed(verdict.error or "unparsed")
    if prompt.mode == "pointwise":
        rating = _rating(prompt, verdict.word)
        return (
            failed(f"unparsed: {verdict.word} is off the scale") if rating is None else Ballot(**ballot, rating=rating)
        )
    if verdict.word == prompt.tie:
        return Ballot(**ballot, tie=True)
    return Ballot(**ballot, picked=shown[prompt.labels.index(verdict.word)])


def credits(ballot: Ballot, tie: bool) -> dict[int, float]:
    """What a valid ballot gives to each response shown; sums to 1. ``tie``: the last probability is the tie's."""
    shown = ballot.shown
    if ballot.probabilities is not None:
        total = sum(ballot.probabilities)
        half = ballot.probabilities[-1] / len(shown) if tie else 0.0
        return {i: (p + half) / total for i, p in zip(shown, ballot.probabilities, strict=False)}
    if ballot.tie:
        return dict.fromkeys(shown, 1 / len(shown))
    return {i: float(i == ballot.picked) for i in shown}


class _Open:
    """An item whose ballots are coming in."""

    def __init__(self, item: Item, asked: Sequence[tuple[int, ...]]) -> None:
        self.item = item
        self.ballots: dict[tuple[int, ...], list[Ballot]] = {shown: [] for shown in asked}
        self.tokens = 0
        self.generated = 0


def _judgment(opened: _Open, plan: Plan) -> Judgment:
    """Scores: the mean rating, or the mean over orders of the mean credit over an order's valid ballots."""
    item = opened.item
    ballots = tuple(itertools.chain.from_iterable(opened.ballots.values()))
    more: dict[str, Any] = {"ballots": ballots, "tokens": opened.tokens, "generated": opened.generated}
    outside = [1 - sum(b.probabilities) for b in ballots if b.probabilities is not None]
    if outside:
        more["meta"] = {"outside": sum(outside) / len(outside)}
    totals = [0.0] * len(item.responses)
    counts = [0] * len(item.responses)
    for shown, cast in opened.ballots.items():
        valid = [b for b in cast if b.valid]
        if not valid:
            return Judgment(item_id=item.id, error=_why_none(shown, cast), **more)
        for i in shown:
            if plan.prompt.mode == "pointwise":
                given = [b.rating for b in valid if b.rating is not None]
            else:
                given = [credits(b, plan.prompt.tie is not None)[i] for b in valid]
            totals[i] += math.fsum(given) / len(given)
            counts[i] += 1
    return Judgment.of(item, [t / c for t, c in zip(totals, counts, strict=True)], **more)


def _why_none(shown: tuple[int, ...], cast: Sequence[Ballot]) -> str:
    reasons = Counter(b.error or "no reply" for b in cast)
    named = "; ".join(f"{reason} (x{n})" if n > 1 else reason for reason, n in reasons.most_common(3))
    what = f"response {shown[0]}" if len(shown) == 1 else f"order {', '.join(map(str, shown))}"
    return f"no valid ballot for {what}: {named}"


def _rating(prompt: Prompt, word: str) -> float | None:
    """On the prompt's scale; 1 and 0 for the good and the bad label; None for what is off it."""
    if prompt.scale is None:
        return float(word == prompt.labels[0])
    value = float(word)
    return value if prompt.scale[0] <= value <= prompt.scale[1] else None


def _words(prompt: Prompt, shown: int) -> tuple[str, ...]:
    """Labels whose probabilities are read; of a scale, its whole numbers."""
    words = prompt.words(shown)
    if words is None and prompt.scale is not None:
        low, high = prompt.scale
        words = tuple(str(i) for i in range(math.ceil(low), math.floor(high) + 1))
    return words or ()


def _by_probability(
    prompt: Prompt, shown: tuple[int, ...], found: Sequence[float], ballot: Mapping[str, Any]
) -> Ballot:
    kept = {**ballot, "probabilities": tuple(found)}
    total = sum(found)
    if prompt.mode == "pointwise":
        worth = [_rating(prompt, word) or 0.0 for word in _words(prompt, 1)]
        return Ballot(**kept, rating=math.fsum(p * w for p, w in zip(found, worth, strict=True)) / total)
    best = max(found)
    winners = [i for i, p in enumerate(found) if p == best]
    if len(winners) > 1 or winners[0] >= len(shown):
        return Ballot(**kept, tie=True)
    return Ballot(**kept, picked=shown[winners[0]])


def _weigh(steps: Sequence[Step], text: str, at: int | None, words: Sequence[str]) -> list[float] | str:
    """Probability of each word at the token that wrote offset ``at`` of ``text`` (None: the first that is not blank),
    or why there is none."""
    if not steps:
        return "no log-probabilities in the reply; this server gives none, use --verdict text"
    # An engine that takes token ids gives the decisive step alone, without a token.
    alone = len(steps) == 1 and not steps[0].token
    step = steps[0] if alone else _step_at(steps, text, at)
    if step is None:
        return "the log-probabilities in the reply are not those of its text"
    sums = dict.fromkeys(words, 0.0)
    for whole_word in (True, False):
        missing = {w for w, p in sums.items() if p == 0.0}
        for token, logprob in step.alternatives:
            word = means(token, words, whole_word)
            if word in missing:
                sums[word] += math.exp(min(logprob, 0.0))
    total = sum(sums.values())
    if not total > 0:
        return f"none of {', '.join(words)} is among the likely tokens of the verdict"
    # Rounded log-probabilities can sum to a hair above 1.
    return [p / max(total, 1.0) for p in sums.values()]


def _step_at(steps: Sequence[Step], text: str, at: int | None) -> Step | None:
    if at is None:
        return next((s for s in steps if s.token.strip()), steps[-1])
    whole = b"".join(s.token for s in steps)
    # The text as a whole is sought first; where odd bytes were replaced in it, what follows the verdict will do.
    start = whole.rfind(text.encode())
    target = start + len(text[:at].encode()) if start >= 0 else whole.rfind(text[at:].encode())
    ends = itertools.accumulate(len(s.token) for s in steps)
    return next((s for s, end in zip(steps, ends, strict=True) if end > target >= 0), None)


def means(token: str, words: Sequence[str], whole: bool) -> str | None:
    """The word that a token spells, whatever white space and punctuation stand around it (``" A"``, ``"[[A"``); not
    ``whole``: the word it begins. Letters must be of the same case, longer words need not."""
    bare = re.sub(r"^\W+|\W+$", "", token)
    if not bare:
        return None
    for word in words:
        same = bare == word if len(word) == 1 else bare.lower() == word.lower()
        if same if whole else (word.lower().startswith(bare.lower()) and len(bare) < len(word)):
            return word
    return None


def _ask_tokens(
    engine: Engine, text: Text, plan: Plan, requests: Iterable[ChatRequest], counts: Counter[str]
) -> Iterator[Answer]:
    """The seam for engines that take token ids: generate, and where probabilities are asked for, look at the verdict's
    place again. Answers come in order; ``counts["narrow"]`` counts prompts beside which the model's context has
    less room than ``--max-tokens``."""
    known: dict[tuple[str, ...], dict[int, str]] = {}
    direct = plan.verdict == "probability" and plan.prompt.parser.direct
    waiting = enumerate(requests)
    while chunk := list(itertools.islice(waiting, _CHUNK)):
        replies: dict[int, list[Reply]] = {}
        prompted: dict[int, tuple[ChatRequest, Tokens]] = {}
        rendered = text.prompts([request.messages for _, request in chunk])
        for (index, request), prompt in zip(chunk, rendered, strict=True):
            longest = getattr(engine, "max_length", None)
            length = len(prompt.tokens) + prompt.dropped
            room = request.max_tokens if longest is None else longest - length
            if room < 1:
                why = f"does not fit: {length} tokens, where the model takes {longest} with what it writes"
                replies[index] = [Reply(error=why)] * request.samples
                continue
            counts["narrow"] += not direct and room < request.max_tokens
            prompted[index] = (request._replace(max_tokens=min(request.max_tokens, room)), prompt.tokens)
        if direct:
            replies |= {index: [Reply()] for index in prompted}
        else:
            asked = [
                Request(tokens, r.samples, r.seed, r.max_tokens, r.temperature, r.top_p)
                for r, tokens in prompted.values()
            ]
            for (index, (r, _)), samples in zip(prompted.items(), engine.generate(asked), strict=True):
                replies[index] = [Reply(g.text, tokens=g.tokens, finish=g.finish, limit=r.max_tokens) for g in samples]
        if plan.verdict == "probability":
            _look(engine, text, plan, {i: r for i, (r, _) in prompted.items()}, replies, known)
        for index, _ in chunk:
            tokens = len(prompted[index][1]) if index in prompted else 0
            yield Answer(index, replies[index], tokens)


def _look(
    engine: Engine,
    text: Text,
    plan: Plan,
    requests: Mapping[int, ChatRequest],
    replies: dict[int, list[Reply]],
    known: dict[tuple[str, ...], dict[int, str]],
) -> None:
    """Puts the decisive step into each reply that has one: the log-probabilities of the labels' tokens where the
    verdict was written, given the prompt and the judge's text up to there."""
    direct = plan.prompt.parser.direct
    places: list[tuple[int, int]] = []
    prefixes: list[Tokens] = []
    wanted: list[dict[int, str]] = []
    for index, request in requests.items():
        shown = request.shown
        words = _words(plan.prompt, shown)
        if words not in known:
            known[words] = _label_tokens(engine.tokenizer, words)
        for sample, reply in enumerate(replies[index]):
            said = ""
            if not direct:
                _, answer = parsers.split_thinking(reply.text)
                at = parsers.parse(plan.prompt.parser, answer, plan.prompt.words(shown)).at
                if at < 0 or (reply.finish == "length" and not plan.prompt.parser.opens):
                    continue
                said = reply.text[: reply.text.rindex(answer) + at].rstrip(" ")
            places.append((index, sample))
            prefixes.append(text.prompts([request.messages], prefill=said)[0].tokens)
            wanted.append(known[words])
    if direct and () not in known:
        known[()] = dict.fromkeys(_blank_tokens(engine.tokenizer), "")
    blanks = list(known[()]) if direct else []
    found = [list(map(float, p)) for p in engine.next_token(prefixes, [[*ids, *blanks] for ids in wanted])]
    # A model may open its answer with a line end, and the verdict then stands behind it.
    later = [n for n, (ids, p) in enumerate(zip(wanted, found, strict=True)) if max(p) > max(p[: len(ids)])]
    behind = _behind_blanks(engine, [prefixes[n] for n in later])
    later = [n for n, prefix in zip(later, behind, strict=True) if prefix]
    again = engine.next_token([prefix for prefix in behind if prefix], [list(wanted[n]) for n in later])
    for n, p in zip(later, again, strict=True):
        found[n] = list(map(float, p))
    for (index, sample), ids, logprobs in zip(places, wanted, found, strict=True):
        step = Step(b"", tuple(zip(ids.values(), logprobs, strict=False)))
        replies[index][sample] = replies[index][sample]._replace(steps=(step,))


def _behind_blanks(engine: Engine, prefixes: Sequence[Tokens]) -> list[Tokens]:
    """Each prefix with the blanks that the model itself writes next; empty where it writes none."""
    made: list[Tokens] = []
    for prefix, (written, *_) in zip(
        prefixes, engine.generate([Request(p, max_tokens=_BLANKS) for p in prefixes]), strict=True
    ):
        blank = written.text[: len(written.text) - len(written.text.lstrip(_BLANK))].rstrip(" ")
        tokens = list(engine.tokenizer(blank, add_special_tokens=False)["input_ids"]) if blank else []
        made.append([*prefix, *tokens] if tokens else [])
    return made


def _blank_tokens(tokenizer: Any) -> list[int]:
    """Ids of the shortest tokens that are white space and nothing else."""
    spelled = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    return sorted((i for i, s in enumerate(spelled) if s and not s.strip(_BLANK)), key=lambda i: (len(spelled[i]), i))[
        :64
    ]


def _label_tokens(tokenizer: Any, words: tuple[str, ...]) -> dict[int, str]:
    """Token id -> the label it writes: all white-space variants; where no single token spells it, its beginnings."""
    spelled = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    ids = {i: s.strip() for i, s in enumerate(spelled) if s.strip() in words}
    for word in set(words) - set(ids.values()):
        ids |= {i: word for i, s in enumerate(spelled) if s.strip() and word.startswith(s.strip())}
    return ids
