"""How long the statistics take: metrics of a 3,000-item run, and 50 models compared with 10,000 resamples.

``OMP_NUM_THREADS=1 python benchmarks/time_metrics.py`` prints the table of time_metrics.md.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rmbench import gate, metrics
from rmbench.core import Ballot, Facts, Judgment, Rules, Run, Suite
from rmbench.gate.compare import shared_facts
from rmbench.gate.ranks import rank
from rmbench.store import Stored

N = 3000
SUBSETS = tuple(f"subset{i}" for i in range(23))
CARD = Suite(
    name="timed",
    version="1",
    about="",
    categories={f"C{k}": SUBSETS[k::4] for k in range(4)},
    rules=Rules(name="timed-1"),
    source="file:none",
    licence="",
    citation="",
)


def facts(rng: np.random.Generator) -> tuple[Facts, ...]:
    """Pairs, two in three in clusters of two."""
    return tuple(
        Facts(
            item_id=f"i{i}",
            hash=f"{i:016x}",
            subset=SUBSETS[i % 23],
            grades=(1.0, 0.0) if i % 2 else (0.0, 1.0),
            lengths=(int(rng.integers(10, 500)), int(rng.integers(10, 500))),
            cluster=None if i % 3 == 0 else f"p{i // 3}",
            strength=float(1 + i % 3),
        )
        for i in range(N)
    )


def scalar(rng: np.random.Generator, items: tuple[Facts, ...], shift: float) -> dict[str, Judgment]:
    scores = rng.normal(size=(N, 2)) + shift * np.array([f.grades for f in items])
    return {
        f.item_id: Judgment(item_id=f.item_id, scores=(float(a), float(b)))
        for f, (a, b) in zip(items, scores, strict=True)
    }


def judge(rng: np.random.Generator, items: tuple[Facts, ...], samples: int) -> dict[str, Judgment]:
    made = {}
    for f in items:
        right = int(f.grades[1] > f.grades[0])
        ballots = tuple(
            Ballot(shown=shown, picked=right if rng.random() < 0.7 else 1 - right, sample=s)
            for shown in ((0, 1), (1, 0))
            for s in range(samples)
        )
        made[f.item_id] = Judgment(item_id=f.item_id, scores=(0.5, 0.5), ballots=ballots)
    return made


def stored(items: tuple[Facts, ...], judgments: dict[str, Judgment], model: str) -> Stored:
    run = Run(
        schema=1,
        status="complete",
        model=model,
        adapter="scripted",
        engine=None,
        fingerprint=model,
        settings={},
        suite=CARD,
        suite_hash="h",
        n=N,
    )
    return Stored(Path(), run, items, judgments)


def timed(name: str, call: Callable[[], object]) -> None:
    """The fastest of three, in CPU seconds: the machine may be shared."""
    best = []
    for _ in range(3):
        start = time.process_time()
        call()
        best.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {name} | {min(best):.2f} | {peak:,.0f} |", flush=True)


def main() -> None:
    rng = np.random.default_rng(0)
    items = facts(rng)
    print("| what | CPU s | peak RSS so far, MiB |\n| --- | ---: | ---: |")
    plain = scalar(rng, items, 1.0)
    timed(f"all metrics, scalar model, {N:,} pairs", lambda: metrics.estimates(CARD, items, plain))
    one, many = judge(rng, items, 1), judge(rng, items, 32)
    timed(f"all metrics, judge in both orders, {N:,} pairs", lambda: metrics.estimates(CARD, items, one))
    timed("the same with 32 samples an order (192,000 ballots)", lambda: metrics.estimates(CARD, items, many))
    runs = [stored(items, scalar(rng, items, 1 + 0.02 * k), f"m{k}") for k in range(50)]
    timed("two runs compared, 29 scopes", lambda: gate.compare_pair(runs[0], runs[1]))
    timed("gate", lambda: gate.gate(runs[1], runs[0], gate.Policy()))
    names = [r.run.model for r in runs]
    timed("ranks of 50 models, 10,000 resamples", lambda: rank(runs, names, shared_facts(runs)))
    timed("50 models: 49 comparisons and ranks", lambda: gate.compare(runs))


if __name__ == "__main__":
    main()
