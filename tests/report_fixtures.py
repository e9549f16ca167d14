"""Made-up suites and runs for the tests of reports and exports, from fixed seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rmbench import store
from rmbench.core import SCHEMA, Ballot, Facts, Item, Judgment, Message, Rules, Run, Suite, fingerprint

HOSTILE = (
    "<script>window.hacked=1</script></script><!-- ]]> <img src=x onerror=window.hacked=1>",
    '<a href="javascript:window.hacked=1">link</a> [link](javascript:alert(1)) \u2028 ${window.hacked=1}',
    "\x1b[31mred\x1b[0m \u202eright to left\u202c nul \x00 lone \\ud800 | pipe & _ % $ # ~ ^ { } \\",
    "=cmd|' /C calc'!A0",
    "x" * 1_000_000,
)
CATEGORIES = {"Chat": ("chat-easy", "chat-hard"), "Safety": ("refuse",), "Maths": ("sums", "proofs")}


def suite(
    n: int = 60, *, name: str = "toy", categories: dict[str, tuple[str, ...]] = CATEGORIES, **card: object
) -> Suite:
    """Pairs, every eighth a best-of-4 ranking; the fifth item of every twenty holds hostile text."""
    subsets = [s for group in categories.values() for s in group]
    items = []
    for i in range(n):
        k = 4 if i % 8 == 7 else 2
        responses = [f"Answer {j} to question {i}: {'word ' * (3 + (i * 7 + j * 5) % 40)}" for j in range(k)]
        if i % 20 == 4:
            responses[1] = HOSTILE[i // 20 % len(HOSTILE)]
        items.append(
            Item(
                id=f"item-{i:04d}",
                subset=subsets[i % len(subsets)],
                prompt=(Message(role="user", content=f"Question {i}: what is {i} + {i}?"),),
                responses=tuple(responses),
                grades=(1.0, *(0.0,) * (k - 1)),
                strength=float(1 + i % 3),
                cluster=f"prompt-{i // 2}",
            )
        )
    made = Suite(
        name=name,
        version="1",
        about="Made up.",
        categories=categories,
        rules=Rules(name="toy-1", about="Mean of categories."),
        source="file:toy",
        licence="Apache-2.0",
        citation="",
        items=tuple(items),
    )
    import msgspec

    return msgspec.structs.replace(made, **card)


def run(
    root: Path,
    of: Suite,
    model: str,
    *,
    skill: float = 1.0,
    seed: int = 0,
    judge: bool = False,
    errors: Sequence[int] = (),
    **more: object,
) -> Path:
    """A finished run of a made-up model: score = skill * grade + noise; a judge also gets ballots in both orders."""
    rng = np.random.default_rng(seed)
    judgments = {}
    for i, item in enumerate(of.items):
        noise = rng.normal(size=len(item.responses))
        scores = tuple(float(round(skill * g + e, 6)) for g, e in zip(item.grades, noise, strict=True))
        if i in errors:
            judgments[item.id] = Judgment(item_id=item.id, error="score not finite (response 0: nan)", tokens=10)
            continue
        ballots: tuple[Ballot, ...] = ()
        if judge and len(scores) == 2:
            ballots = tuple(
                Ballot(
                    shown=shown,
                    picked=int(scores[1] + 0.3 * (shown[0] == 1) > scores[0]),
                    sample=s,
                    text=f"I prefer the better one. <b>{item.id}</b>",
                    thinking="Let me see.",
                )
                for s in range(3)
                for shown in ((0, 1), (1, 0))
            )
        judgments[item.id] = Judgment(
            item_id=item.id, scores=scores, ballots=ballots, truncated=int(i % 29 == 3), tokens=100, generated=5 * judge
        )
    settings = {"model": model, "seed": seed, "skill": skill}
    fields: dict[str, object] = {
        "schema": SCHEMA,
        "status": "complete",
        "model": model,
        "adapter": "judge" if judge else "scalar",
        "engine": "transformers",
        "fingerprint": fingerprint(settings),
        "settings": settings,
        "suite": of.card(),
        "suite_hash": of.content_hash(),
        "n": len(of.items),
        "done": len(of.items),
        "errors": len(errors),
        "truncated": sum(j.truncated > 0 for j in judgments.values()),
        "tokens": sum(j.tokens for j in judgments.values()),
        "generated": sum(j.generated for j in judgments.values()),
        "seconds": 12.5,
        "started": "2026-01-01T00:00:00Z",
        "finished": "2026-01-01T00:01:00Z",
        "command": f"rmbench eval --model {model} --suite {of.name}",
        "device": "cpu",
        "versions": {"rmbench": "0.1.0"},
    }
    if judge:
        fields["order"] = "both orders, every sample"
    made = Run(**{**fields, **more})  # type: ignore[arg-type]
    return store.import_run(root, made, [Facts.of(item) for item in of.items], judgments)


def results(root: Path, of: Suite | None = None) -> Path:
    """Three models, a judge and two baselines on one suite."""
    of = of or suite()
    run(root, of, "org/good", skill=1.5, seed=1)
    run(root, of, "org/better-step-200", skill=2.5, seed=2, errors=(3,))
    run(root, of, "judge", skill=2.0, seed=3, judge=True)
    run(root, of, "random", skill=0.0, seed=4)
    run(root, of, "length:longest", skill=0.1, seed=5)
    return root
