"""Do the intervals cover, does the gate err as seldom as it says, does peeking cost nothing? Simulated, seeded.

``python benchmarks/simulate_intervals.py`` prints the tables of simulate_intervals.md (about five minutes on one core).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rmbench.core import Facts, Judgment, Rules, Run, Suite
from rmbench.gate import Policy, Sequential, gate, sequential_order
from rmbench.metrics.intervals import combine, interval, mean_measure
from rmbench.metrics.paired import paired_interval
from rmbench.store import Stored

Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray, float]]
"""-> credits (n,), cluster codes (n,), the true mean."""


def independent(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, float]:
    p = rng.uniform(0.55, 0.95)
    return (rng.random(n) < p).astype(float), np.arange(n), p


def tie_heavy(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Two in five are ties, worth half."""
    win = rng.uniform(0.5, 0.95)
    x = np.where(rng.random(n) < 0.4, 0.5, (rng.random(n) < win).astype(float))
    return x, np.arange(n), 0.2 + 0.6 * win


def clustered(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Prompts of one to four items, intra-cluster correlation 0.3."""
    p = rng.uniform(0.55, 0.9)
    sizes = []
    while sum(sizes) < n:
        sizes.append(min(int(rng.integers(1, 5)), n - sum(sizes)))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    a = p * (1 - 0.3) / 0.3
    own = rng.beta(a, a * (1 - p) / p, len(sizes))
    return (rng.random(n) < own[groups]).astype(float), groups, p


def clustered_ties(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, float]:
    x, groups, p = clustered(rng, n)
    tied = rng.random(n) < 0.3
    return np.where(tied, 0.5, x), groups, 0.7 * p + 0.15


def coverage(draw: Draw, n: int, repeats: int, rng: np.random.Generator) -> float:
    hits = 0
    for _ in range(repeats):
        x, groups, truth = draw(rng, n)
        made = interval(mean_measure("accuracy", x, np.arange(n)), groups)
        hits += made.low is not None and made.low <= truth <= made.high  # type: ignore[operator]
    return hits / repeats


def macro_coverage(n: int, repeats: int, rng: np.random.Generator) -> float:
    """Four strata of unequal size and level, equal weights."""
    sizes = np.maximum(2, (np.array([0.1, 0.2, 0.3, 0.4]) * n).astype(int))
    total = int(sizes.sum())
    hits = 0
    for _ in range(repeats):
        p = rng.uniform(0.55, 0.97, 4)
        start, measures = 0, []
        for size, level in zip(sizes, p, strict=True):
            x = (rng.random(size) < level).astype(float)
            measures.append(mean_measure("accuracy", x, np.arange(start, start + size)))
            start += size
        made = combine(measures, [1, 1, 1, 1], np.arange(total)).interval
        hits += made.low <= p.mean() <= made.high  # type: ignore[operator]
    return hits / repeats


def pairs(rng: np.random.Generator, n: int, difference: float, psi: float) -> np.ndarray:
    u = rng.random(n)
    return np.where(u < (psi + difference) / 2, 1.0, np.where(u < psi, -1.0, 0.0))


def paired_coverage(n: int, repeats: int, rng: np.random.Generator, shape: str) -> float:
    hits = 0
    for _ in range(repeats):
        psi = rng.uniform(0.08, 0.3)
        difference = rng.uniform(-psi / 2, psi / 2)
        if shape == "clustered":
            groups = np.arange(n) // 3
            d = pairs(rng, n, difference, psi)
            copied = rng.random(n) < 0.4
            first = np.arange(n) // 3 * 3
            d = np.where(copied, d[first], d)
        else:
            groups = np.arange(n)
            d = pairs(rng, n, difference, psi)
            if shape == "ties":
                d, difference = d * np.where(rng.random(n) < 0.5, 0.5, 1.0), difference * 0.75
        made = paired_interval(d, groups)
        hits += made.low <= difference <= made.high  # type: ignore[operator]
    return hits / repeats


CATEGORIES = {"A": ("a",), "B": ("b", "c"), "C": ("d",)}
SHARES = {"a": 0.2, "b": 0.3, "c": 0.1, "d": 0.4}


def runs(d: np.ndarray, subsets: list[str], clusters: list[str] | None = None) -> tuple[Stored, Stored]:
    """Baseline and candidate whose credits differ by ``d``."""
    card = Suite(
        name="simulated",
        version="1",
        about="",
        categories={c: tuple(s for s in own if s in set(subsets)) for c, own in CATEGORIES.items()}
        if set(subsets) == set(SHARES)
        else {"all": tuple(dict.fromkeys(subsets))},
        rules=Rules(name="simulated-1"),
        source="file:none",
        licence="",
        citation="",
    )
    facts = tuple(
        Facts(
            item_id=str(i),
            hash=str(i),
            subset=s,
            grades=(1.0, 0.0),
            lengths=(1, 1),
            cluster=clusters[i] if clusters else None,
        )
        for i, s in enumerate(subsets)
    )
    stored = []
    for side in ("baseline", "candidate"):
        wins = (d <= 0) if side == "baseline" else (d >= 0)
        judgments = {
            f.item_id: Judgment(item_id=f.item_id, scores=(float(w), 0.5)) for f, w in zip(facts, wins, strict=True)
        }
        run = Run(
            schema=1,
            status="complete",
            model=side,
            adapter="scripted",
            engine=None,
            fingerprint=side,
            settings={},
            suite=card,
            suite_hash="h",
            n=len(facts),
        )
        stored.append(Stored(Path(), run, facts, judgments))
    return stored[0], stored[1]


def gate_rates(
    n: int, difference: float, margin: float, psi: float, repeats: int, rng: np.random.Generator, *, shape: str
) -> tuple[float, float, float, float]:
    """Share passed, failed, undecided, and the mean printed power of the overall. ``shape``: ``plain``, ``macro`` of
    four subsets, or ``clustered``: prompts of ten items, two in five of which say what their prompt's first says."""
    subsets = [s for s, w in SHARES.items() for _ in range(round(w * n))] if shape == "macro" else ["a"] * n
    prompts = np.arange(n) // 10
    clusters = [f"p{k}" for k in prompts] if shape == "clustered" else None
    counts = {"pass": 0, "fail": 0, "undecided": 0}
    power = []
    policy = Policy(margin=margin, scopes=("overall",))
    for _ in range(repeats):
        d = pairs(rng, len(subsets), difference, psi)
        if clusters:
            d = np.where(rng.random(n) < 0.4, d[10 * prompts], d)
        verdict = gate(*reversed(runs(d, subsets, clusters)), policy)
        counts[verdict.outcome] += 1
        power.append(verdict.scopes[0].power or 0.0)
    return (*(counts[k] / repeats for k in ("pass", "fail", "undecided")), float(np.mean(power)))


def all_categories(n: int, margin: float, psi: float, repeats: int, rng: np.random.Generator) -> float:
    """Share passed when one category lies on its margin and the others are as good as the baseline."""
    subsets = [s for s, w in SHARES.items() for _ in range(round(w * n))]
    at = np.array([s == "d" for s in subsets])
    passed = 0
    for _ in range(repeats):
        d = np.where(at, pairs(rng, len(subsets), -margin, psi), pairs(rng, len(subsets), 0.0, psi))
        passed += gate(*reversed(runs(d, subsets)), Policy(margin=margin)).outcome == "pass"
    return passed / repeats


def sequential_rates(
    n: int, difference: float, margin: float, psi: float, repeats: int, rng: np.random.Generator, *, macro: bool
) -> tuple[float, float]:
    """Share stopped when looked at after every item, and mean share of items judged."""
    subsets = [s for s, w in SHARES.items() for _ in range(round(w * n))] if macro else ["a"] * n
    stopped, judged = 0, 0.0
    for repeat in range(repeats):
        baseline, candidate = runs(pairs(rng, len(subsets), difference, psi), subsets)
        watch = Sequential(baseline, Policy(margin=margin))
        seen = 0
        for i in sequential_order(baseline.facts, repeat):
            seen += 1
            if watch.update([candidate.judgments[baseline.facts[i].item_id]]) is not None:
                stopped += 1
                break
        judged += seen / len(subsets)
    return stopped / repeats, judged / repeats


def peeking_at_gate(n: int, margin: float, psi: float, repeats: int, rng: np.random.Generator, looks: int) -> float:
    """What looking at the fixed-size gate again and again costs: share failed at the margin."""
    failed = 0
    for _ in range(repeats):
        d = pairs(rng, n, -margin, psi)
        for look in np.linspace(n / looks, n, looks).astype(int):
            made = paired_interval(d[:look], np.arange(look), confidence=0.9)
            if made.high is not None and made.high < -margin:
                failed += 1
                break
    return failed / repeats


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    repeats = args.repeats
    sizes = (30, 100, 1000)
    print(f"Coverage of 95 % intervals, in per cent; {repeats:,} repeats, seed {args.seed}.\n")
    rows = []
    for name, draw in (
        ("independent", independent),
        ("tie-heavy", tie_heavy),
        ("clustered", clustered),
        ("clustered with ties", clustered_ties),
    ):
        rows.append([name, *(f"{100 * coverage(draw, n, repeats, rng):.1f}" for n in sizes)])
        print(rows[-1], flush=True)
    rows.append(["macro of four strata", *(f"{100 * macro_coverage(n, repeats // 2, rng):.1f}" for n in sizes)])
    print(rows[-1], flush=True)
    for shape in ("plain", "ties", "clustered"):
        name = {"plain": "paired difference", "ties": "paired, half ties", "clustered": "paired, clustered"}[shape]
        rows.append([name, *(f"{100 * paired_coverage(n, repeats, rng, shape):.1f}" for n in sizes)])
        print(rows[-1], flush=True)
    print(table(["data", *(f"n = {n:,}" for n in sizes)], rows))
    few = max(200, repeats // 10)
    print(f"\nThe gate at alpha 0.05, discordance 0.10; {few:,} repeats. Power: printed, at no difference.\n")
    rows = []
    for shape in ("plain", "macro", "clustered"):
        for n in (100, 300, 1000):
            margin = 0.05
            at = gate_rates(n, -margin, margin, 0.10, few, rng, shape=shape)
            same = gate_rates(n, 0.0, margin, 0.10, few, rng, shape=shape)
            worse = gate_rates(n, -0.08, margin, 0.10, few, rng, shape=shape)
            values = (at[0], same[0], same[3], worse[1], worse[0])
            rows.append([shape, f"{n:,}", *(f"{100 * v:.1f}" for v in values)])
            print(rows[-1], flush=True)
    head = ["overall", "n", "passed at the margin", "passed at 0", "power printed", "failed at -8", "passed at -8"]
    print(table(head, rows))
    share = all_categories(1000, 0.05, 0.10, few, rng)
    print(f"\nAll categories asked, one of them on its margin, n = 1,000: passed {100 * share:.1f} %.")
    print(f"\nSequential, looked at after every item, margin 2 points, discordance 0.10; {few:,} repeats.\n")
    rows = []
    for macro in (False, True):
        for difference in (-0.02, 0.0, -0.05, -0.08):
            stop, judged = sequential_rates(1000, difference, 0.02, 0.10, few, rng, macro=macro)
            name = "four scopes" if macro else "one category"
            rows.append([name, f"{100 * difference:+g}", f"{100 * stop:.1f}", f"{100 * judged:.0f}"])
            print(rows[-1], flush=True)
    print(table(["suite of 1,000", "true difference", "stopped, %", "items judged, %"], rows))
    for looks in (1, 5, 20):
        share = peeking_at_gate(1000, 0.02, 0.10, few, rng, looks)
        said = f"a fixed-size bound looked at {looks} times fails a candidate on its margin in {100 * share:.1f} %."
        print(f"Without evidence that may be peeked at: {said}")


if __name__ == "__main__":
    main()
