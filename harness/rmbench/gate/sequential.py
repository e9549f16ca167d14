"""A candidate watched while it is judged: a clear regression stops early, and looking after every block costs nothing.

Each scope's paired credits, weighted so that their mean over a random item is the scope's difference, are bets against
"not worse than -margin" (metrics.paired.Bets). The evidence may be looked at any time; with k scopes it must reach
k / alpha, so that a candidate at its margins everywhere is stopped with probability at most alpha. Items must come in
random order with clusters whole: ``sequential_order``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from rmbench.core import Facts, Judgment
from rmbench.errors import Undecided
from rmbench.gate.policy import Policy, title
from rmbench.gate.verdict import ScopeVerdict, Verdict
from rmbench.metrics.credit import credit
from rmbench.metrics.paired import Bets
from rmbench.metrics.summary import metric_of, rules_of, scopes
from rmbench.store import Stored


def sequential_order(facts: Sequence[Facts], seed: int) -> list[int]:
    """Positions of all items in a seeded random order of clusters, each cluster whole."""
    members: dict[str, list[int]] = {}
    for i, f in enumerate(facts):
        members.setdefault(f"item {f.item_id}" if f.cluster is None else f"cluster {f.cluster}", []).append(i)
    whole = list(members.values())
    order = np.random.default_rng(seed).permutation(len(whole))
    return [i for g in order for i in whole[g]]


class _Scope:
    """One scope's bets: credit differences by cluster, scaled to the scope's difference."""

    def __init__(self, name: str, margin: float, share: dict[str, float], facts: Sequence[Facts]) -> None:
        self.name, self.margin = name, margin
        n = {s: sum(f.subset == s for f in facts) for s in share}
        total = sum(n.values())
        # An item of subset s counts (weight of s) / (share of s among the items); the mean is then the weighted one.
        self.scale = {s: w * total / n[s] for s, w in share.items() if n[s]}
        most: dict[str, float] = {}
        for f in facts:
            if f.subset in self.scale:
                key = f.cluster or f.item_id
                most[key] = most.get(key, 0.0) + self.scale[f.subset] + margin
        self.bets = Bets(max(most.values(), default=1.0))
        self.sum = 0.0
        self.n = 0


class Sequential:
    """``update`` with each new batch of judgments; a Verdict of ``fail`` as soon as a regression is clear, else None.

    Only credits can be followed item by item: scopes with AUC and the like are left to the gate at the end. Raises
    Undecided where the baseline is not complete or no scope can be followed.
    """

    def __init__(self, baseline: Stored, policy: Policy, *, candidate: str = "candidate") -> None:
        card = baseline.run.suite
        if len(policy.suites) < 2:
            policy.check(card)
        if len(baseline.judgments) < len(baseline.facts):
            done = f"{len(baseline.judgments):,} of {len(baseline.facts):,}"
            raise Undecided(f"the baseline {baseline.run.model} is not complete ({done} items): finish it first")
        self.baseline, self.policy, self._candidate = baseline, policy, candidate
        self._facts = {f.item_id: f for f in baseline.facts}
        self._rules = {}
        single = {f.subset for f in baseline.facts if len(f.grades) == 1}
        for subset in {f.subset for f in baseline.facts} - single:
            try:
                self._rules[subset] = rules_of(card.rules, metric_of(card, subset))
            except ValueError:  # its number is not a mean of item credits
                continue
        # Gold ties that the rules leave out are no observations.
        skipped = card.rules.gold_ties == "skip"
        counted = [f for f in baseline.facts if not (skipped and len(f.grades) > 1 and min(f.grades) == max(f.grades))]
        n = dict(Counter(f.subset for f in counted))
        self._scopes = []
        seen: list[tuple[dict[str, float], float]] = []
        for scope in scopes(card, n):
            wanted = title(scope.name) in policy.scopes if policy.scopes else scope.name != "micro"
            if wanted and scope.reason is None and scope.weights.keys() <= self._rules.keys():
                total = sum(scope.weights.values())
                share = {s: w / total for s, w in scope.weights.items()}
                asked = (share, policy.margin_of(scope.name))
                if asked in seen:  # the only category is the overall: one question
                    continue
                seen.append(asked)
                self._scopes.append(_Scope(scope.name, policy.margin_of(scope.name), share, counted))
        if not self._scopes:
            raise Undecided("no scope of this suite is a mean of item credits that can be followed item by item")
        self._open: dict[str, list[Judgment]] = {}
        self._size: dict[str, int] = {}
        for f in baseline.facts:
            self._size[f.cluster or f.item_id] = self._size.get(f.cluster or f.item_id, 0) + 1
        self.seen = 0

    def update(self, judgments: Sequence[Judgment]) -> Verdict | None:
        """Takes judgments in any batches; a cluster counts once all of it is there."""
        for judgment in judgments:
            facts = self._facts.get(judgment.item_id)
            if facts is None:
                raise Undecided(f"item {judgment.item_id!r} is not in the baseline {self.baseline.run.model}")
            self.seen += 1
            key = facts.cluster or facts.item_id
            waiting = self._open.setdefault(key, [])
            waiting.append(judgment)
            if len(waiting) == self._size[key]:
                del self._open[key]
                self._bet(waiting)
        needed = len(self._scopes) / self.policy.alpha
        failed = [s for s in self._scopes if s.bets.evidence >= needed]
        return self._verdict(failed) if failed else None

    @property
    def evidence(self) -> dict[str, float]:
        """Scope -> evidence so far that the loss exceeds its margin."""
        return {s.name: s.bets.evidence for s in self._scopes}

    def _bet(self, cluster: Sequence[Judgment]) -> None:
        for scope in self._scopes:
            x, counted = 0.0, 0
            for judgment in cluster:
                facts = self._facts[judgment.item_id]
                if facts.subset not in scope.scale:
                    continue
                rules = self._rules[facts.subset]
                one = credit(facts, self.baseline.judgments.get(facts.item_id), rules).value
                two = credit(facts, judgment, rules).value
                if one is None or two is None:
                    continue
                x += scope.scale[facts.subset] * (two - one) + scope.margin
                scope.sum += scope.scale[facts.subset] * (two - one)
                counted += 1
            if counted:
                scope.n += counted
                scope.bets.add(x)

    def _verdict(self, failed: Sequence[_Scope]) -> Verdict:
        total = len(self._facts)
        made = [
            ScopeVerdict(
                scope=s.name,
                outcome="fail",
                why=f"{100 * s.sum / s.n:+.2f} points after {s.n:,} items; evidence {s.bets.evidence:,.0f} to 1 "
                f"that the loss is more than {100 * s.margin:g}",
                margin=s.margin,
                difference=s.sum / s.n,
                n=s.n,
            )
            for s in failed
        ]
        return Verdict(
            outcome="fail",
            suite=self.baseline.run.suite.name,
            candidate=self._candidate,
            baseline=self.baseline.run.model,
            alpha=self.policy.alpha,
            coverage=self.seen / total,
            errors=0,
            scopes=tuple(made),
            stopped_after=self.seen,
            saved=total - self.seen,
        )
