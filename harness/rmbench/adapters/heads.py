"""Heads that need more than one number: helpfulness with safety as in Llama 2, and cross-encoders that read two
responses at once (PairRM-like)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

import rmbench.adapters.running as running
from rmbench.adapters.options import Options
from rmbench.adapters.scalar import ahead, head, render, titled
from rmbench.core import Ballot, Item, Judgment, Message
from rmbench.engines.text import Text
from rmbench.errors import BadData, UsageError

OPTIONS = running.OPTIONS | {"head"}

KINDS = ("llama2", "pairwise")
"""``--head``. ``llama2``: outputs named helpfulness and safety (else the first and second), or two models as
``--model HELPFUL,SAFE``. ``pairwise``: one output, or two of which the first says that the first response is better."""

SAFE = 0.15
"""Below this safety score the safety score counts instead of helpfulness (Touvron et al. 2023, section 3.2.2)."""

SOURCE, CANDIDATE = 1224, 412
"""Tokens of the prompt and of each response that PairRM was trained to read; longer ones lose their end."""

MARKS = (
    "{% for m in messages %}{{ ['<|source|>', '<|candidate1|>', '<|candidate2|>'][loop.index0] }}{{ m['content'] }}"
    "{% endfor %}"
)


class Llama2:
    """See core.Adapter. The safety output where the item says that its prompt is unsafe (``meta["unsafe"]``) or where
    sigmoid(safety) < 0.15; the helpfulness output elsewhere. Scores are logits; whitening, which Llama 2 adds for
    training, is one affine map for all responses and changes no order, so it is left out."""

    order = "pointwise: order-free by construction"

    def __init__(self, opened: Sequence[running.Opened], outputs: tuple[int, int]) -> None:
        self._helpful, self._safe = opened[0], opened[-1]
        self._outputs = outputs
        self.settings = {
            "adapter": "llama2-1",
            "outputs": list(outputs),
            "threshold": SAFE,
            **{f"model_{i}": dict(o.engine.settings) for i, o in enumerate(opened)},
        }
        self._opened = opened
        _facts(self, opened)

    @property
    def notes(self) -> list[str]:
        """Both models', each once."""
        return list(dict.fromkeys(note for o in self._opened for note in o.engine.notes))

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        """One judgment per item, in order."""

        def prepare(part: Sequence[Item]) -> Any:
            first = render(self._helpful.text, part)
            return first, first if self._safe is self._helpful else render(self._safe.text, part)

        for part, (first, second) in ahead(prepare, items):
            good = [not isinstance(a, str) and not isinstance(b, str) for a, b in zip(first, second, strict=True)]
            helpful = self._helpful.engine.logits(
                [[c.tokens for c in r] for r, ok in zip(first, good, strict=True) if ok]
            )
            safe: Iterator[Any] = iter(())
            if self._safe is not self._helpful:
                safe = self._safe.engine.logits(
                    [[c.tokens for c in r] for r, ok in zip(second, good, strict=True) if ok]
                )
            for item, a, b, ok in zip(part, first, second, good, strict=True):
                if not ok:
                    yield Judgment(item_id=item.id, error=a if isinstance(a, str) else b)
                    continue
                made = next(helpful)
                other = made if self._safe is self._helpful else next(safe)
                unsafe = bool(item.meta.get("unsafe"))
                scores = [
                    combined(float(h[self._outputs[0]]), float(s[self._outputs[1]]), unsafe)
                    for h, s in zip(made, other, strict=True)
                ]
                read = [*a] if self._safe is self._helpful else [*a, *b]
                yield Judgment.of(
                    item,
                    scores,
                    truncated=max(sum(c.dropped > 0 for c in r) for r in (a, b)),
                    tokens=sum(len(c.tokens) for c in read),
                )

    def preview(self, item: Item) -> list[dict[str, Any]]:
        """The exact text and tokens of each response's conversation, for each model."""
        parts = []
        for o in [self._helpful, self._safe][: 1 + (self._safe is not self._helpful)]:
            (rendered,) = render(o.text, [item])
            if isinstance(rendered, str):
                raise BadData(rendered)
            parts += [{"title": titled(f"response {i}", r), **o.text.preview(r)} for i, r in enumerate(rendered)]
        return parts


def combined(helpfulness: float, safety: float, unsafe: bool) -> float:
    """Llama 2's R_c before whitening, on logits: NaN where a logit that decides is NaN."""
    if math.isnan(safety):
        return safety
    return safety if unsafe or safety < math.log(SAFE / (1 - SAFE)) else helpfulness


class Pairwise:
    """See core.Adapter. Every pair of responses is read in both orders; a ballot for each. A response's score is the
    mean, over the others, of (logit that it is better, shown first - logit that the other is better, shown first)."""

    order = "cross-encoder: every pair in both orders"

    def __init__(self, opened: running.Opened, outputs: int) -> None:
        self._opened = opened
        self._two = outputs == 2
        self._text = Text(opened.engine.tokenizer, chat_template=MARKS, max_length=opened.engine.max_length)
        self.settings = {
            "adapter": "pairwise-1",
            **opened.engine.settings,
            **self._text.settings,
            "limits": [SOURCE, CANDIDATE],
        }
        self.notes = opened.engine.notes
        _facts(self, [opened])

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        """One judgment per item, in order. An item with a single response is an error: there is nothing to compare."""
        for part, prepared in ahead(lambda these: [self._pairs(item) for item in these], items):
            good = [p for p in prepared if not isinstance(p, str)]
            outputs = self._opened.engine.logits([[r.tokens for r in rendered] for _, rendered, _ in good])
            for item, p in zip(part, prepared, strict=True):
                if isinstance(p, str):
                    yield Judgment(item_id=item.id, error=p)
                    continue
                shown, rendered, cut = p
                logits = [float(o[0] - o[1]) if self._two else float(o[0]) for o in next(outputs)]
                yield self._judgment(item, shown, logits, cut, sum(len(r.tokens) for r in rendered))

    def preview(self, item: Item) -> list[dict[str, Any]]:
        """The exact text and tokens of each pair in each order."""
        pairs = self._pairs(item)
        if isinstance(pairs, str):
            raise BadData(pairs)
        return [
            {"title": titled(f"responses shown: {a}, {b}", r), **self._text.preview(r)}
            for (a, b), r in zip(pairs[0], pairs[1], strict=True)
        ]

    def _judgment(
        self, item: Item, shown: list[tuple[int, int]], logits: list[float], cut: int, tokens: int
    ) -> Judgment:
        count = len(item.responses)
        scores = [0.0] * count
        ballots = []
        for (a, b), logit in zip(shown, logits, strict=True):
            scores[a] += logit / (count - 1)
            scores[b] -= logit / (count - 1)
            if math.isfinite(logit):
                p = 1 / (1 + math.exp(-max(min(logit, 500.0), -500.0)))
                picked = None if logit == 0 else a if logit > 0 else b
                ballots.append(Ballot(shown=(a, b), picked=picked, tie=logit == 0, probabilities=(p, 1 - p)))
        return Judgment.of(item, scores, ballots=tuple(ballots), truncated=cut, tokens=tokens)

    def _pairs(self, item: Item) -> Any:
        if len(item.responses) < 2:
            return "a cross-encoder compares two responses; this item has one"
        if any(m.role == "system" for m in item.prompt) or len(item.prompt) > 1 or item.turns:
            prompt = "\n\n".join(f"{m.role}: {m.content}" for m in item.prompt)
        else:
            prompt = item.prompt[0].content
        source, long = self._short(prompt, SOURCE)
        answers = [self._short(r, CANDIDATE) for r in item.responses]
        shown = list(permutations(range(len(item.responses)), 2))
        talks = [
            (
                Message(role="user", content=source),
                Message(role="assistant", content=answers[a][0]),
                Message(role="assistant", content=answers[b][0]),
            )
            for a, b in shown
        ]
        try:
            rendered = self._text.conversations(talks)
        except BadData as error:
            return str(error)
        cut = sum(
            long or answers[a][1] or answers[b][1] or r.dropped > 0 for (a, b), r in zip(shown, rendered, strict=True)
        )
        return shown, rendered, cut

    def _short(self, text: str, limit: int) -> tuple[str, bool]:
        """The text, cut after ``limit`` tokens; whether it was."""
        tokenizer = self._opened.engine.tokenizer
        ids = tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        if len(ids) <= limit:
            return text, False
        return tokenizer.decode(ids[:limit]), True


def _facts(adapter: Any, opened: Sequence[running.Opened]) -> None:
    """What evaluate reads of any adapter of local models."""
    adapter.engine = str(opened[0].engine.settings["engine"])
    adapter.exact = all(o.engine.exact for o in opened)
    adapter.tolerance = max(float(getattr(o.engine, "tolerance", 0.0)) for o in opened)
    adapter.device = str(opened[0].engine.device)
    adapter.info = (
        opened[0].engine.info
        if len(opened) == 1
        else {n: o.engine.info for n, o in zip(("helpful", "safe"), opened, strict=True)}
    )

    def close() -> None:
        for o in opened:
            o.engine.close()

    adapter.close = close


def open(ref: str, options: Options) -> Llama2 | Pairwise:
    """Raises UsageError where ``--head`` does not name one of KINDS or the outputs do not fit it."""
    from rmbench import checkpoints
    from rmbench.adapters import location

    if options.head not in KINDS:
        raise UsageError(f"--adapter heads needs --head {' or '.join(KINDS)}; for other heads leave --adapter out")
    refs = [location(r) for r in ref.split(",")]
    if len(refs) > 2 or (len(refs) == 2 and options.head != "llama2"):
        raise UsageError(
            f"--head {options.head} takes {'one or two models' if options.head == 'llama2' else 'one model'}"
        )
    labels = [
        checkpoints.read(r, revision=options.revision, trust_remote_code=options.trust_remote_code).labels for r in refs
    ]
    if options.head == "pairwise":
        if len(labels[0]) not in (1, 2):
            raise UsageError(f"--head pairwise needs a model of one or two outputs; {ref!r} has {len(labels[0])}")
        return Pairwise(running.open_engine(refs[0], options, "head", needs_template=False), len(labels[0]))
    if len(refs) == 2:
        outputs = (_only(labels[0], refs[0]), _only(labels[1], refs[1]))
    else:
        if len(labels[0]) < 2:
            raise UsageError(
                f"--head llama2 needs a model of two outputs, or --model HELPFUL,SAFE; {ref!r} has one output"
            )
        low = [name.lower() for name in labels[0]]
        found = [
            next((i for i, name in enumerate(low) if part in name), at) for at, part in enumerate(("help", "safe"))
        ]
        outputs = (found[0], found[1])
    return Llama2([running.open_engine(r, options, "head") for r in refs], outputs)


def _only(labels: Sequence[str], ref: str) -> int:
    (index,) = head(None, labels, f"model {ref!r}").weights
    return index
