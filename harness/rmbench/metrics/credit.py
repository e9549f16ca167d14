"""What an item counts for, given its grades and a judgment: the one place where wins, ties and invalid are decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from rmbench.core import Ballot, Facts, Judgment, Rules

Outcome = Literal["win", "tie", "loss", "error", "absent", "gold tie", "dropped"]
"""``error``: a judgment without scores. ``absent``: no judgment. The last two are left out of n."""

TIE = -1
"""A verdict that is a tie; a response's number otherwise, None when not valid."""

POSITION_RULES = ("average", "both", "net", "conflict-tie", "original", "swapped")


class Credit(NamedTuple):
    """``value`` is None where the item does not count (a gold tie under ``skip``, a tie under ``dropped``)."""

    value: float | None
    outcome: Outcome


def credit(facts: Facts, judgment: Judgment | None, rules: Rules) -> Credit:
    """Credit in [0, 1] of one pair or ranking.

    Judges with ballots in more than one order: by ``rules.position``, else the mean credit over the orders. All
    others: by scores; so too, where the rules name no position, ballots that hold probabilities, whose mean over the
    orders decides (as PairRM and SliC are read). No judgment or an error earns 0 and is never a win.
    """
    grades = facts.grades
    if len(grades) < 2:
        raise ValueError(f"item {facts.item_id!r} has one response; credits are for pairs and rankings")
    all_equal = min(grades) == max(grades)
    if all_equal and rules.gold_ties == "skip":
        return Credit(None, "gold tie")
    if judgment is None:
        return Credit(0.0, "absent")
    verdicts = verdicts_by_order(judgment.ballots, len(grades)) if judgment.ballots else {}
    # JudgeBench's vote counts one order's verdict where the other's is not valid; all other rules need both.
    if judgment.scores is None and not (rules.position == "net" and any(v is not None for v in verdicts.values())):
        return Credit(0.0, "error")
    weighed = rules.position is None and all(b.probabilities is not None for b in judgment.ballots)
    if len(verdicts) > 1 and not (weighed and judgment.scores is not None):
        return by_position(verdicts, grades, rules)
    if judgment.scores is None:
        return Credit(0.0, "error")
    # One opinion holds in both orders by construction.
    return _of_scores(grades, judgment.scores, rules)


def _of_scores(grades: tuple[float, ...], scores: tuple[float, ...], rules: Rules) -> Credit:
    if min(grades) == max(grades):
        return Credit(1.0, "win") if min(scores) == max(scores) else Credit(0.0, "loss")
    best, top = max(grades), max(scores)
    right = wrong = 0
    for s, g in zip(scores, grades, strict=True):
        if s == top:
            if g == best:
                right += 1
            else:
                wrong += 1
    if len(grades) > 2 and rules.ranking == "best-beats-all":
        return Credit(1.0, "win") if wrong == 0 else Credit(0.0, "tie" if right else "loss")
    if wrong == 0:
        return Credit(1.0, "win")
    if right == 0:
        return Credit(0.0, "loss")
    return _tied(rules, right / (right + wrong))


def _tied(rules: Rules, share: float) -> Credit:
    if rules.ties == "dropped":
        return Credit(None, "dropped")
    return Credit({"half": 0.5, "wrong": 0.0, "share": share}[rules.ties], "tie")


def verdicts_by_order(ballots: Sequence[Ballot], k: int) -> dict[tuple[int, ...], int | None]:
    """Order shown -> the plurality of its valid ballots: a response, ``TIE`` (also for a split vote), or None when no
    ballot of that order is valid. Ballots that showed fewer than all ``k`` responses are not comparisons."""
    votes: dict[tuple[int, ...], list[int]] = {}
    for ballot in ballots:
        if len(ballot.shown) != k or k < 2:
            continue
        found = votes.setdefault(ballot.shown, [])
        if ballot.picked is not None:
            found.append(ballot.picked)
        elif ballot.tie:
            found.append(TIE)
    return {order: plurality(found) for order, found in sorted(votes.items())}


def plurality(votes: Sequence[int]) -> int | None:
    """The most frequent verdict; ``TIE`` when the first place is shared; None without votes."""
    if len(votes) < 2:
        return votes[0] if votes else None
    counts: dict[int, int] = {}
    for vote in votes:
        counts[vote] = counts.get(vote, 0) + 1
    top = max(counts.values())
    first = [vote for vote, count in counts.items() if count == top]
    return first[0] if len(first) == 1 else TIE


def _verdict_credit(verdict: int | None, grades: tuple[float, ...], rules: Rules) -> float | None:
    """One order's credit; None for a tie that is dropped. What is not valid earns 0."""
    if verdict is None:
        return 0.0
    if min(grades) == max(grades):
        return float(verdict == TIE)
    if verdict == TIE:
        return _tied(rules, sum(g == max(grades) for g in grades) / len(grades)).value
    return float(grades[verdict] == max(grades))


def merge(verdicts: Sequence[int | None]) -> int | None:
    """Both orders as one verdict: theirs if they agree, else a tie; None if one is not valid (MT-Bench's rule)."""
    if any(v is None for v in verdicts):
        return None
    return verdicts[0] if len(set(verdicts)) == 1 else TIE


def net_sign(verdicts: Sequence[int | None], grades: tuple[float, ...]) -> int:
    """JudgeBench's vote: +1 for a right verdict, -1 for a wrong one, 0 for a tie or none; the sign of the sum. 0 for
    equal grades, where no winner is right."""
    best = max(grades)
    if best == min(grades):
        return 0
    total = sum((1 if grades[v] == best else -1) for v in verdicts if v is not None and v != TIE)
    return (total > 0) - (total < 0)


def by_position(verdicts: dict[tuple[int, ...], int | None], grades: tuple[float, ...], rules: Rules) -> Credit:
    """Credit of one item's verdicts by order shown, by ``rules.position``."""
    rule = rules.position or "average"
    orders = list(verdicts.values())
    if rule == "net":
        return Credit(1.0, "win") if net_sign(orders, grades) > 0 else Credit(0.0, "loss")
    if rule == "both":
        plain = Rules(name="", ties="wrong", gold_ties="class")
        return Credit(1.0, "win") if all(_verdict_credit(v, grades, plain) for v in orders) else Credit(0.0, "loss")
    if rule == "conflict-tie":
        merged = merge(orders)
        value = _verdict_credit(merged, grades, rules)
        if value is None:
            return Credit(None, "dropped")
        return Credit(value, "tie" if merged == TIE and 0 < value < 1 else "win" if value == 1 else "loss")
    if rule in ("original", "swapped"):
        shown = tuple(range(len(grades)))
        chosen = [v for order, v in verdicts.items() if (order == shown) == (rule == "original")]
        orders = chosen[:1]
    elif rule != "average":
        raise ValueError(f"unknown position rule {rule!r}; known: {', '.join(POSITION_RULES)}")
    values = [c for v in orders if (c := _verdict_credit(v, grades, rules)) is not None]
    if not values:
        return Credit(None, "dropped")
    value = sum(values) / len(values)
    return Credit(value, "win" if value == 1 else "loss" if value == 0 else "tie")
