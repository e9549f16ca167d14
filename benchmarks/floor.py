"""Scoring alone, against a plain loop, the peer's way of batching and the arithmetic floor, in one process.

    python benchmarks/floor.py --data DATA --model .real/rm-harmless --rows 60 --dtype float32
    python benchmarks/floor.py --device cuda --dtype bfloat16 --random-rows --size 0.5b

The floor is what the unique tokens cost at the speed at which this machine multiplies matrices of the model's own
shapes in this dtype, measured between the variants: 2 FLOPs per weight and token, and 4 x width per layer for each
key that a token attends to. CPU seconds on a CPU (the machine may be shared), wall seconds on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import material

from rmbench import checkpoints
from rmbench.core import Message
from rmbench.engines import onednn, prefix, transformers_

Groups = list[list[list[int]]]
SIZES: dict[str, dict[str, int]] = {
    "26m": {},
    "0.5b": {"vocabulary": 32000, "hidden": 1024, "layers": 28, "heads": 16, "kv_heads": 8, "intermediate": 3072},
    "8b": {"vocabulary": 32000, "hidden": 4096, "layers": 32, "heads": 32, "kv_heads": 8, "intermediate": 14336},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds rewardbench_v1/")
    parser.add_argument("--random-rows", action="store_true", help="random token ids of RewardBench-like lengths")
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--grid", type=int, default=0, help="rows of this many responses (9 for 3 x 3)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-tokens", type=int)
    parser.add_argument("--model", type=Path, help="a sequence classifier's folder  [default: random, of --size]")
    parser.add_argument("--size", default="26m", choices=SIZES)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        report = measure(args, Path(scratch))
    print(json.dumps(report, indent=2))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


def measure(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    import torch
    import transformers

    pairs = (
        [{"prompt": "a", "chosen": "b c", "rejected": "d"}] if args.random_rows else material.rows(args.data, args.rows)
    )
    folder = args.model or material.model(scratch, pairs, **SIZES[args.size])
    checkpoint = checkpoints.read(str(folder))
    options = {"dtype": args.dtype, "device": args.device, "threads": args.threads, "batch_tokens": args.batch_tokens}
    engine = transformers_.open(checkpoint, **options)
    padded = transformers_.open(checkpoint, share_prefix=False, **options)
    untouched = (
        transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=getattr(torch, args.dtype))
        .to(args.device)
        .eval()
    )
    groups = random_groups(args.rows, args.grid or 2) if args.random_rows else real_groups(engine, pairs, args.grid)
    cuda = args.device.startswith("cuda")
    clock = time.perf_counter if cuda else time.process_time
    variants: dict[str, Callable[[], list[float]]] = {
        "ours": lambda: [float(a[0]) for g in engine.logits(groups) for a in g],
        "sorted, padded": lambda: [float(a[0]) for g in padded.logits(groups) for a in g],
        "plain loop": lambda: plain(untouched, groups, 1),
        "peer's batching, 8": lambda: plain(untouched, groups, 8),
    }
    spent: dict[str, list[float]] = {name: [] for name in variants}
    rates: list[float] = []
    scores: dict[str, list[float]] = {}
    list(engine.logits(groups[:2]))
    for _ in range(args.rounds):
        for name, score in variants.items():
            rates.append(rate(engine.model, args.dtype, args.device, clock))
            start = clock()
            scores[name] = score()
            if cuda:
                torch.cuda.synchronize()
            spent[name].append(clock() - start)
    middle = {name: statistics.median(times) for name, times in spent.items()}
    speed = statistics.median(rates)
    flops, unique = work(engine.model.config, material.parameters(folder), groups)
    real = sum(len(t) for g in groups for t in g)
    report: dict[str, Any] = {
        "machine": material.machine(), "device": args.device, "dtype": args.dtype, "threads": args.threads,
        "model": args.model.name if args.model else f"random, {args.size}",
        "rows": len(groups), "tokens": real, "unique_tokens": unique,
        "batch_tokens": engine.batch_tokens, "matrix_gflops": round(speed / 1e9, 1), "rounds": args.rounds,
        "load": round(os.getloadavg()[0], 1), "unit": "wall seconds" if cuda else "CPU seconds",
        "seconds": {name: round(s, 2) for name, s in middle.items()},
        "tokens_per_second": {name: round(real / s) for name, s in middle.items()},
        "share_of_floor": {name: round(flops / speed / s, 3) for name, s in middle.items()},
        "ratio_to_peers_batching": {n: round(middle["peer's batching, 8"] / s, 2) for n, s in middle.items()},
        "largest_difference_to_plain_loop": {
            name: max(abs(a - b) for a, b in zip(values, scores["plain loop"], strict=True))
            for name, values in scores.items()
        },
    }  # fmt: skip
    return report


def real_groups(engine: Any, pairs: list[dict[str, str]], grid: int) -> Groups:
    rows = [(p["prompt"], [p["chosen"], p["rejected"]]) for p in pairs]
    if grid:
        rows = material.grids(pairs, grid)[: max(1, len(pairs) // grid)]
    talks = [
        [(Message(role="user", content=p), Message(role="assistant", content=r)) for r in responses]
        for p, responses in rows
    ]
    return [[r.tokens for r in engine.text.conversations(t)] for t in talks]


def random_groups(count: int, size: int) -> Groups:
    """Prompts of median 60 and responses of median 150 tokens, with a long tail."""
    draw = random.Random(0)

    def some(median: float) -> list[int]:
        return [draw.randrange(3, 200) for _ in range(max(2, min(1500, int(draw.lognormvariate(0, 0.9) * median))))]

    return [[start + some(150) for _ in range(size)] for start in (some(60) for _ in range(count))]


def plain(model: Any, groups: Groups, size: int) -> list[float]:
    """Plain transformers: batches in the order of the file, each side apart, padded to the longest on the left."""
    import torch

    made: dict[tuple[int, int], float] = {}
    for side in range(max(map(len, groups))):
        order = [(g, side) for g in range(len(groups)) if side < len(groups[g])]
        for at in range(0, len(order), size):
            batch = [groups[g][m] for g, m in order[at : at + size]]
            longest = max(map(len, batch))
            ids = torch.tensor([[0] * (longest - len(t)) + t for t in batch], device=model.device)
            mask = torch.tensor([[0] * (longest - len(t)) + [1] * len(t) for t in batch], device=model.device)
            with torch.no_grad():
                out = model(input_ids=ids, attention_mask=mask).logits[:, 0].float().tolist()
            made.update(zip(order[at : at + size], out, strict=True))
    return [made[g, m] for g in range(len(groups)) for m in range(len(groups[g]))]


def work(config: Any, weights: int, groups: Groups) -> tuple[float, int]:
    """FLOPs and tokens, every unique token counted once."""
    width = config.num_attention_heads * config.head_dim
    tokens = keys = 0
    for group in groups:
        shared = prefix.shared([prefix.Conversation(t, len(t) - 1) for t in group])
        for i, conversation in enumerate(group):
            n, begin = len(conversation), shared if i else 0
            tokens += n - begin
            keys += n * (n + 1) // 2 - begin * (begin + 1) // 2
    return 2.0 * weights * tokens + 4.0 * width * config.num_hidden_layers * keys, tokens


def rate(model: Any, dtype: str, device: str, clock: Callable[[], float]) -> float:
    """FLOP/s of the model's own widest matrix product: the best of a few, and of torch's own and oneDNN's."""
    import torch

    config = model.config
    many = 16384 if device.startswith("cuda") else 1024
    kind = getattr(torch, dtype)
    a = torch.randn(many, config.hidden_size, dtype=kind, device=device)
    w = torch.randn(config.intermediate_size, config.hidden_size, dtype=kind, device=device)
    products = [lambda: torch.nn.functional.linear(a, w)]
    if not device.startswith("cuda") and onednn.suits(dtype):
        packed = torch.ops.mkldnn._reorder_linear_weight(w, many)
        products.append(lambda: torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], ""))
    best = float("inf")
    with torch.inference_mode():
        for product in products * 8:
            start = clock()
            for _ in range(4):
                product()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            best = min(best, (clock() - start) / 4)
    return 2.0 * many * config.hidden_size * config.intermediate_size / best


if __name__ == "__main__":
    sys.exit(main())
