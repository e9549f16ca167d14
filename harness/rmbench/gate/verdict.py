"""Pass, fail or undecided: is the candidate clearly not worse than the baseline by more than a margin?

Non-inferiority, not significance: a small run that shows no difference has shown nothing and is undecided. With D the
paired difference (candidate minus baseline) and a one-sided level alpha, in every scope

* pass: the lower bound of D is above -margin;
* fail: the upper bound is below -margin, or the candidate's value is below an absolute floor;
* undecided: neither, or it could not be computed.

All scopes must pass (intersection-union: each at alpha, no correction; Berger 1982). Bounds are Tango's, combined over
strata, so that agreement on few items cannot pass, and half an item (half a cluster where items share a prompt) wider:
Tango's own one-sided level reaches 6 % for alpha 5 % at some n, and 8 % in clusters of ten; so widened it stays below
5 % (counted and simulated; benchmarks/simulate_intervals.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec.structs import replace

from rmbench import store
from rmbench.errors import UnknownName, UsageError
from rmbench.gate.compare import Comparison, Difference, compare_pair, refusal
from rmbench.gate.policy import Policy, title
from rmbench.metrics.further import swap_consistency
from rmbench.metrics.intervals import normal_quantile
from rmbench.store import Stored

Outcome = Literal["pass", "fail", "undecided"]


class ScopeVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for one category or the overall."""

    scope: str
    outcome: Outcome
    why: str
    """One sentence."""
    margin: float
    floor: float | None = None
    candidate: float | None = None
    baseline: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    """One-sided bounds, each at alpha."""
    n: int = 0
    better: int = 0
    worse: int = 0
    detectable: float | None = None
    """A true difference this far from -margin, on either side, is decided four times in five."""
    power: float | None = None
    """Chance that a candidate exactly as good as the baseline passes here."""
    needed: int | None = None
    """Undecided: items that would decide, if the difference and its noise stayed as they are."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The gate's answer for one suite."""

    outcome: Outcome
    suite: str
    candidate: str
    baseline: str
    alpha: float
    coverage: float
    errors: int
    scopes: tuple[ScopeVerdict, ...] = ()
    reasons: tuple[str, ...] = ()
    """What kept the gate from an answer, whatever the scopes say."""
    broken: tuple[str, ...] = ()
    """Ids of items newly wrong, worst margin first."""
    notes: tuple[str, ...] = ()
    stopped_after: int | None = None
    """Sequential: items judged when a regression was clear."""
    saved: int | None = None
    """Sequential: items that were not needed."""


def gate(candidate: Stored, baseline: Stored, policy: Policy, *, limited: bool = False) -> Verdict:
    """The verdict on one suite. Fails closed: runs of other items, missing items, too many errors or an undefined
    number are never a pass. ``limited`` accepts runs made with a limit."""
    card = candidate.run.suite
    blank = Verdict(
        outcome="undecided",
        suite=card.name,
        candidate=candidate.run.model,
        baseline=baseline.run.model,
        alpha=policy.alpha,
        coverage=0.0,
        errors=0,
    )
    if why := refusal(baseline, candidate):
        return replace(blank, reasons=(why,))
    if len(policy.suites) < 2:
        policy.check(card)
    confidence = 1 - 2 * policy.alpha
    made = compare_pair(baseline, candidate, confidence=confidence)
    reasons = list(_preconditions(candidate, baseline, made, policy, limited))
    scopes = [scope_verdict(d, policy) for d in _asked(made, policy)]
    if policy.consistency is not None:
        scopes.extend(_consistency(candidate, policy.consistency))
    if not scopes:
        reasons.append("no scope to judge: the policy's scopes are not in this suite")
    return replace(
        blank,
        outcome=_whole([s.outcome for s in scopes], reasons),
        coverage=_coverage(made),
        errors=made.errors_b,
        scopes=tuple(scopes),
        reasons=tuple(reasons),
        broken=tuple(f.item_id for f in made.broken),
        notes=made.notes,
    )


def _whole(outcomes: Sequence[Outcome], reasons: Sequence[str]) -> Outcome:
    if reasons:
        return "undecided"
    if "fail" in outcomes:
        return "fail"
    return "undecided" if "undecided" in outcomes or not outcomes else "pass"


def _coverage(made: Comparison) -> float:
    return made.n / made.asked if made.asked else 0.0


def _preconditions(
    candidate: Stored, baseline: Stored, made: Comparison, policy: Policy, limited: bool
) -> Sequence[str]:
    reasons = []
    if made.n == 0:
        return ["no item was judged by both runs"]
    if _coverage(made) < policy.coverage:
        reasons.append(
            f"{made.n:,} of {made.asked:,} items were judged by both runs; the policy asks for "
            f"{100 * policy.coverage:g} %: run rmbench eval again, it goes on where it stopped"
        )
    for stored, errors in ((candidate, made.errors_b), (baseline, made.errors_a)):
        if errors > policy.max_errors * made.n:
            reasons.append(
                f"{stored.run.model} failed on {errors:,} of {made.n:,} items; the policy allows "
                f"{100 * policy.max_errors:g} %: rmbench eval tries them again"
            )
    if candidate.run.limit is not None and not limited:
        reasons.append(f"runs limited to {candidate.run.limit:,} items are gated only when asked for (--limited)")
    return reasons


def _asked(made: Comparison, policy: Policy) -> list[Difference]:
    wanted = [d for d in made.differences if d.scope == "overall" or d.scope.startswith("category:")]
    if policy.scopes:
        return [d for d in made.differences if title(d.scope) in policy.scopes and not d.scope.startswith("subset:")]
    # Rules without an overall are judged by their categories.
    return [
        d for d in wanted if not (d.scope == "overall" and d.value is None and "have no overall" in (d.reason or ""))
    ]


def scope_verdict(d: Difference, policy: Policy) -> ScopeVerdict:
    """One scope's answer from its one-sided bounds."""
    margin, floor = policy.margin_of(d.scope), policy.floor_of(d.scope)
    common = {"scope": d.scope, "margin": margin, "floor": floor, "candidate": d.b, "baseline": d.a, "n": d.n}
    if d.value is None or d.low is None or d.high is None:
        return ScopeVerdict(outcome="undecided", why=d.reason or "undefined", **common)  # type: ignore[arg-type]
    z = normal_quantile(1 - 2 * policy.alpha)
    low, high = max(d.low - d.step / 2, -1.0), min(d.high + d.step / 2, 1.0)
    below, above = d.value - low, high - d.value
    # One item more that differs, so that none seen is not taken for certainty.
    spread = below / z if d.se is None else math.hypot(d.se, 1 / max(d.n, 1))
    power = _phi((margin - below) / spread) if spread > 0 else None
    numbers = {
        **common,
        "difference": d.value,
        "low": low,
        "high": high,
        "better": d.better,
        "worse": d.worse,
        "detectable": (z + normal_quantile(0.6)) * max(below, above) / z,
        "power": power,
    }
    points = f"{100 * d.value:+.2f} points"
    if floor is not None and d.b is not None and d.b < floor:
        why = f"{100 * d.b:.2f} is below the floor of {100 * floor:g}"
        return ScopeVerdict(outcome="fail", why=why, **numbers)  # type: ignore[arg-type]
    if low > -margin:
        why = f"{points}, and a loss of more than {100 * margin:g} is ruled out (lower bound {100 * low:+.2f})"
        return ScopeVerdict(outcome="pass", why=why, **numbers)  # type: ignore[arg-type]
    if high < -margin:
        why = f"{points}: the loss is more than {100 * margin:g} (upper bound {100 * high:+.2f})"
        return ScopeVerdict(outcome="fail", why=why, **numbers)  # type: ignore[arg-type]
    needed = _needed(d, margin, below, above, z)
    more = f"about {needed:,} items would decide" if needed is not None else "no number of items is sure to decide"
    why = f"{points}, between {100 * low:+.2f} and {100 * high:+.2f}, contains -{100 * margin:g}; {more}"
    return ScopeVerdict(outcome="undecided", why=why, needed=needed, **numbers)  # type: ignore[arg-type]


def _needed(d: Difference, margin: float, below: float, above: float, z: float) -> int | None:
    """Items for the bound on the near side to reach -margin; None at the margin. A score bound w off the value solves
    w^2 = z^2/n (V + k w): the items' variance V shrinks with the root of n, what is left without discordance (k)
    with n itself."""
    gap = (d.value or 0.0) + margin
    if abs(gap) < 1e-4:
        return None
    width = below if gap > 0 else above
    variance = d.n * width**2 / z**2
    own = variance if d.se is None else min(d.n * d.se**2, variance)
    return math.ceil(z * z * (own + (variance - own) / width * abs(gap)) / gap**2)


def _phi(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _consistency(candidate: Stored, floor: float) -> list[ScopeVerdict]:
    """Judges only: the share of items with one verdict in both orders against its floor."""
    value, n = swap_consistency(candidate.facts, candidate.judgments)
    if value is None:
        if all(len(b.shown) < 2 for j in candidate.judgments.values() for b in j.ballots):
            return []  # order-free by construction
        why = "no item was shown in both orders, so consistency cannot be said"
        return [ScopeVerdict(scope="consistency", outcome="undecided", why=why, margin=0.0, floor=floor)]
    said = f"the same verdict in both orders on {100 * value:.1f} % of {n:,} items; the floor is {100 * floor:g} %"
    outcome: Outcome = "pass" if value >= floor else "fail"
    return [ScopeVerdict(scope="consistency", outcome=outcome, why=said, margin=0.0, floor=floor, candidate=value, n=n)]


def _known(ref: str, root: Path) -> bool:
    """Whether a reference names any run: else it is a typing mistake, not a suite that is missing."""
    try:
        store.resolve(ref, root)
    except UnknownName:
        return False
    except UsageError:  # several
        return True
    return True


OUTCOMES: dict[int, Outcome] = {0: "pass", 1: "fail", 3: "undecided"}


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """0 only if all pass; 1 if one fails; else 3."""
    outcomes = [v.outcome for v in verdicts]
    if "fail" in outcomes:
        return 1
    return 0 if outcomes and set(outcomes) == {"pass"} else 3


def gate_runs(
    candidate: str,
    baseline: str,
    policy: Policy,
    *,
    root: Path,
    suites: Sequence[str] = (),
    limited: bool = False,
) -> list[Verdict]:
    """A verdict per suite asked for (``suites``, else the policy's, else the one suite there is). A suite that one side
    has not run is undecided, never skipped."""
    made = []
    cards = []
    for suite in suites or policy.suites or (None,):
        try:
            sides = [store.read(store.resolve(ref, root, suite)) for ref in (candidate, baseline)]
        except UnknownName as error:
            if suite is None or not all(_known(ref, root) for ref in (candidate, baseline)):
                raise
            made.append(
                Verdict(
                    outcome="undecided",
                    suite=suite,
                    candidate=candidate,
                    baseline=baseline,
                    alpha=policy.alpha,
                    coverage=0.0,
                    errors=0,
                    reasons=(f"no run of {suite}: {error}",),
                )
            )
            continue
        made.append(gate(sides[0], sides[1], policy, limited=limited))
        cards.append(sides[0].run.suite)
    # With several suites a name may belong to any of them; with one missing it may be that one's.
    if len(cards) > 1 and len(cards) == max(len(made), len(policy.suites)):
        policy.check(*cards)
    return made
