"""A jury of finished runs: their judgments of the same items put together, without running a model again.

``--model a,b,c --adapter jury`` takes runs by model name or folder. ``--weights`` says how jurors count:

    majority          one vote each for the response they put on top; jurors who tie share their vote (the default)
    mean-rank         each response's mean rank, 1 for the best down to 0 for the worst; a binary item's rank is among
                      all binary items that the juror scored
    learned[:SHARE]   votes weighted by log-odds of being right, learned on a share of the items that is not the one
                      being scored (every item is scored by weights it had no part in)
    2,1,1             votes with these weights, in the order of the models
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rmbench import store
from rmbench.adapters.options import Options
from rmbench.core import Ballot, Facts, Item, Judgment
from rmbench.errors import UsageError
from rmbench.metrics.agreement import cohen_kappa, raw
from rmbench.sampling import seed_of
from rmbench.store import Stored

OPTIONS = frozenset({"weights", "results", "suite"})
_SHARE = 0.2


def open(ref: str, options: Options) -> Jury:
    """The runs named in ``ref``, all of one suite with the same items.

    Raises UsageError for fewer than two runs, runs of different items, or weights that do not fit them.
    """
    names = [name.strip() for name in ref.split(",") if name.strip()]
    if len(set(names)) < 2:
        raise UsageError(f"jury {ref!r}: name two or more different runs, as in --model a,b,c --adapter jury")
    root = Path(options.results) if options.results else store.default_root()
    runs = [store.read(store.resolve(name, root, options.suite)) for name in names]
    for name, stored in zip(names, runs, strict=True):
        if stored.run.suite_hash != runs[0].run.suite_hash:
            raise UsageError(
                f"jury: {names[0]} judged {runs[0].run.suite.name} ({runs[0].run.suite_hash}) and {name} judged "
                f"{stored.run.suite.name} ({stored.run.suite_hash}); a jury needs runs of the same items"
            )
        if stored.run.status == "running":
            raise UsageError(f"jury: the run of {name} is not finished ({stored.path}); run its eval to the end first")
    return Jury(names, runs, options.weights or "majority", options.seed)


class Jury:
    """Puts the stored judgments of several runs together; a juror without scores for an item does not vote on it."""

    block = 10_000
    engine = None

    def __init__(self, names: Sequence[str], runs: Sequence[Stored], weights: str, seed: int = 0) -> None:
        models = [stored.run.model for stored in runs]
        # A run's own name holds no folder of this machine; two runs of one model are told apart by what was typed.
        self._names = models if len(set(models)) == len(models) else [Path(name).name for name in names]
        self._runs = [stored.judgments for stored in runs]
        self._facts = max((stored.facts for stored in runs), key=len)
        self._ranked = weights == "mean-rank"
        self._binary = [
            sorted(j.scores[0] for j in run.values() if j.scores is not None and len(j.scores) == 1)
            for run in self._runs
        ]
        self._weights = self._rule(weights, seed)
        self.order = "as its jurors: " + "; ".join(sorted({stored.run.order for stored in runs}))
        self.settings: dict[str, Any] = {
            "adapter": "jury",
            "jurors": [{"model": s.run.model, "fingerprint": s.run.fingerprint} for s in runs],
            "weights": weights,
            "seed": seed,
        }
        self.info: dict[str, Any] = {"agreement": self.agreement()}
        if weights.startswith("learned"):
            self.info["weights"] = dict(zip(self._names, self._learn(self._facts), strict=True))

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        for item in items:
            yield self._judge(item)

    def agreement(self) -> list[dict[str, Any]]:
        """Of every two jurors on the items both judged: share of equal verdicts, Cohen's kappa, number of items."""
        verdicts = [[_verdict(run.get(f.item_id)) for f in self._facts] for run in self._runs]
        return [
            {
                "jurors": [self._names[a], self._names[b]],
                "same": raw(verdicts[a], verdicts[b]),
                "kappa": cohen_kappa(verdicts[a], verdicts[b]),
                "n": sum(x is not None and y is not None for x, y in zip(verdicts[a], verdicts[b], strict=True)),
            }
            for a in range(len(self._names))
            for b in range(a)
        ]

    def _judge(self, item: Item) -> Judgment:
        judgments = [run.get(item.id) for run in self._runs]
        ballots = tuple(_ballot(n, j, item) for n, j in zip(self._names, judgments, strict=True))
        weights = self._weights(item)
        if item.kind == "binary" and not self._ranked:
            return Judgment(item_id=item.id, error="a binary item has nothing to vote on; use --weights mean-rank")
        given: list[tuple[float, Sequence[float]]] = []
        for juror, (weight, judgment) in enumerate(zip(weights, judgments, strict=True)):
            if judgment is not None and judgment.scores is not None:
                scores = judgment.scores
                if item.kind == "binary":
                    votes = [_place(scores[0], self._binary[juror])]
                else:
                    votes = _ranks(scores) if self._ranked else _votes(scores)
                given.append((weight, votes))
        if not given:
            return Judgment(item_id=item.id, error="no juror has scores for this item", ballots=ballots)
        total = sum(weight for weight, _ in given)
        if total == 0:
            return Judgment(item_id=item.id, error="every juror who judged this item has weight 0", ballots=ballots)
        together = [math.fsum(w * v[i] for w, v in given) / total for i in range(len(item.responses))]
        return Judgment.of(item, together, ballots=ballots)

    def _rule(self, weights: str, seed: int) -> Callable[[Item], Sequence[float]]:
        if weights in ("majority", "mean-rank"):
            return lambda _: [1.0] * len(self._names)
        name, _, share = weights.partition(":")
        try:
            if name == "learned":
                return self._folds(float(share or _SHARE), seed)
            fixed = [float(w) for w in weights.split(",")]
        except ValueError:
            fixed = []
        if len(fixed) != len(self._names) or not all(0 <= w < math.inf for w in fixed) or not any(fixed):
            raise UsageError(
                f"--weights {weights}: use majority, mean-rank, learned[:SHARE], or {len(self._names)} numbers"
            )
        return lambda _: fixed

    def _folds(self, share: float, seed: int) -> Callable[[Item], Sequence[float]]:
        """Items are dealt into 1/share folds; fold f is scored by weights learned on fold f + 1. Items of one cluster
        go into one fold, so that nothing is learned from a twin."""
        if not 0 < share <= 0.5:
            raise UsageError(f"--weights learned:{share:g}: the share must be above 0 and at most 0.5")
        count = round(1 / share)

        def fold(cluster: str | None, item_id: str) -> int:
            return seed_of(seed, "jury", cluster or item_id) % count

        dealt: list[list[Facts]] = [[] for _ in range(count)]
        for facts in self._facts:
            dealt[fold(facts.cluster, facts.item_id)].append(facts)
        learned = [self._learn(part) for part in dealt]
        return lambda item: learned[(fold(item.cluster, item.id) + 1) % count]

    def _learn(self, facts: Sequence[Facts]) -> list[float]:
        """Log-odds of each juror's being right (optimal for independent jurors: Nitzan and Paroush 1982), one right
        and one wrong answer added; a juror no better than chance gets 0."""
        weights = []
        for run in self._runs:
            right = wrong = 0.0
            for one in facts:
                judgment = run.get(one.item_id)
                if judgment is None or judgment.scores is None or len(set(one.grades)) < 2:
                    continue
                best = {i for i, g in enumerate(one.grades) if g == max(one.grades)}
                credit = math.fsum(v for i, v in enumerate(_votes(judgment.scores)) if i in best)
                # Of k responses with b best ones chance is b/k; odds are taken against it.
                chance = len(best) / len(one.grades)
                right += credit * (1 - chance)
                wrong += (1 - credit) * chance
            weights.append(max(0.0, math.log((right + 0.5) / (wrong + 0.5))))
        # With nothing learned all count alike: better than no verdict.
        return weights if any(weights) else [1.0] * len(weights)


def _votes(scores: Sequence[float]) -> list[float]:
    """One vote for the response on top, shared where several are."""
    best = max(scores)
    return [(s == best) / scores.count(best) for s in scores]


def _ranks(scores: Sequence[float]) -> list[float]:
    """1 for the best, 0 for the worst, the mean of their places for equal ones."""
    ordered = sorted(scores)
    return [_place(s, ordered) for s in scores]


def _place(score: float, among: Sequence[float]) -> float:
    """0 to 1: its mean rank in a sorted sequence that holds it."""
    first, last = bisect.bisect_left(among, score), bisect.bisect_right(among, score) - 1
    return (first + last) / 2 / (len(among) - 1) if len(among) > 1 else 0.5


def _verdict(judgment: Judgment | None) -> tuple[int, ...] | None:
    """Which responses are on top."""
    if judgment is None or judgment.scores is None:
        return None
    best = max(judgment.scores)
    return tuple(i for i, s in enumerate(judgment.scores) if s == best)


def _ballot(name: str, judgment: Judgment | None, item: Item) -> Ballot:
    shown = tuple(range(len(item.responses)))
    top = _verdict(judgment)
    if top is None:
        reason = "has not judged this item" if judgment is None else str(judgment.error)
        return Ballot(shown=shown, judge=name, error=reason)
    if len(item.responses) == 1 and judgment is not None and judgment.scores is not None:
        return Ballot(shown=shown, judge=name, rating=judgment.scores[0])
    return Ballot(shown=shown, judge=name, picked=top[0] if len(top) == 1 else None, tie=len(top) > 1)
