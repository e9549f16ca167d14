"""Ours against the peer's command line, end to end, on the same model, rows, dtype and threads, interleaved.

    python benchmarks/speed_vs_peer.py --peer-python PEER/bin/python --data DATA --model .real/rm-harmless --rows 150

PEER is an environment of its own::

    python -m venv PEER
    PEER/bin/pip install torch==2.13.0 transformers==4.51.0 "numpy>=2" datasets accelerate bitsandbytes tabulate \\
        sentencepiece hf_transfer wandb pandas fschat "setuptools<81"
    PEER/bin/pip install --no-deps rewardbench==0.1.4 trl==0.9.6

Each run is a process of its own, from start to exit. CPU seconds are the figures to compare where the machine is
shared; the load is printed beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import material

HERE = Path(__file__).parent


class Spent(NamedTuple):
    wall: float
    cpu: float
    peak: float
    """MiB"""
    load: float


def run(command: list[str], environment: dict[str, str], folder: Path) -> Spent:
    """Runs to the end; raises with the tail of its output when it fails."""
    with (folder / "log").open("w+") as log:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        if status:
            log.seek(0)
            raise SystemExit(f"{' '.join(command[:4])} ... failed:\n{log.read()[-3000:]}")
    return Spent(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, os.getloadavg()[0])


def peer_padding(model: Path, pairs: list[dict[str, str]], size: int) -> float:
    """Tokens that the peer computes per real token: its batches in file order, chosen and rejected apart."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    computed = real = 0
    for side in ("chosen", "rejected"):
        texts = [[{"role": "user", "content": p["prompt"]}, {"role": "assistant", "content": p[side]}] for p in pairs]
        lengths = [len(tokenizer.apply_chat_template(t, return_dict=False)) for t in texts]
        for at in range(0, len(lengths), size):
            batch = lengths[at : at + size]
            computed += max(batch) * len(batch)
            real += sum(batch)
    return computed / real


def talk(prompt: str, response: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]


def ours_scores(results: Path) -> dict[str, list[float]]:
    (file,) = results.glob("*/*/judgments.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return {j["item_id"]: j["scores"] for j in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True, type=Path)
    parser.add_argument("--data", required=True, type=Path, help="folder that holds rewardbench_v1/")
    parser.add_argument("--model", type=Path, help="a sequence classifier's folder  [default: 27 M random weights]")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8, help="the peer's; 8 is its default")
    parser.add_argument("--grid", type=int, default=0, help="rows of this many responses (9 for 3 x 3); 0: pairs")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        report = measure(args, Path(scratch))
    print(json.dumps(report, indent=2))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


def measure(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    pairs = material.rows(args.data, args.rows)
    folder = scratch / "model"
    model = material.borrowed(args.model, folder) if args.model else material.model(folder, pairs)
    everything = pairs
    ours_rows: list[dict[str, Any]] = pairs
    if args.grid:
        grid = material.grids(pairs[: args.rows // args.grid or 1], args.grid)
        # the peer scores pairs: nine responses are its rows of (1st, 2nd), (3rd, 4th), ... each with the prompt anew
        flat = [(p, r) for p, responses in grid for r in responses]
        flat += flat[: len(flat) % 2]
        everything = [
            {"prompt": p, "chosen": r, "rejected": other}
            for (p, r), (_, other) in zip(flat[::2], flat[1::2], strict=True)
        ]
        grades = list(range(args.grid, 0, -1))
        ours_rows = [{"prompt": p, "responses": r, "grades": grades} for p, r in grid]
    peer_rows = [{side: talk(p["prompt"], p[side]) for side in ("chosen", "rejected")} for p in everything]
    for name, rows in (("ours.jsonl", ours_rows), ("peer.jsonl", peer_rows)):
        (scratch / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    environment = {
        **os.environ, "OMP_NUM_THREADS": str(args.threads), "MKL_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "offline", "TOKENIZERS_PARALLELISM": "false", "HF_HOME": str(scratch / "hf"),
    }  # fmt: skip
    spent: dict[str, list[Spent]] = {"ours": [], "peer": []}
    for n in range(args.rounds):
        results = scratch / f"results-{n}"
        ours = [sys.executable, "-c", "from rmbench.cli import main; main()", "eval"]
        ours += ["--model", str(model), "--suite", str(scratch / "ours.jsonl"), "--dtype", args.dtype]
        ours += ["--threads", str(args.threads), "--out", str(results), "--json"]
        peer = [
            str(args.peer_python), str(HERE / "peer_cli.py"), "--model", str(model), "--dataset",
            str(scratch / "peer.jsonl"), "--load_json", "True", "--batch_size", str(args.batch_size), "--torch_dtype",
            args.dtype, "--not_quantized", "--output_dir", str(scratch / "peer-out"),
        ]  # fmt: skip
        spent["ours"].append(run(ours, environment, scratch))
        spent["peer"].append(run(peer, environment, scratch))
        print(f"round {n + 1}: ours {spent['ours'][-1]}, peer {spent['peer'][-1]}", file=sys.stderr)
    info = json.loads(next((scratch / "results-0").glob("*/*/run.json")).read_text())["info"]
    middle = {
        who: {f: round(statistics.median(getattr(s, f) for s in runs), 2) for f in Spent._fields}
        for who, runs in spent.items()
    }
    report: dict[str, Any] = {
        "machine": material.machine(), "model": args.model.name if args.model else "random",
        "dtype": args.dtype, "threads": args.threads, "rounds": args.rounds,
        "rows": len(ours_rows), "responses": sum(len(r.get("responses", "12")) for r in ours_rows),
        "parameters_without_embedding": material.parameters(model), "median": middle,
        "ratio_wall": round(middle["peer"]["wall"] / middle["ours"]["wall"], 2),
        "ratio_cpu": round(middle["peer"]["cpu"] / middle["ours"]["cpu"], 2),
        "ratio_peak_memory": round(middle["peer"]["peak"] / middle["ours"]["peak"], 2),
        "ours_computed_per_real": round(info["tokens_computed"] / info["tokens_read"], 3),
        "ours_computed_per_unique": round(info["tokens_computed"] / info["tokens_unique"], 3),
        "peer_computed_per_real": round(peer_padding(model, everything, args.batch_size), 3),
    }  # fmt: skip
    if not args.grid:
        report["largest_score_difference"] = difference(scratch, pairs)
    return report


def difference(scratch: Path, pairs: list[dict[str, str]]) -> float:
    """Between our scores and the peer's, over all conversations."""
    (file,) = scratch.rglob("*_outputs.jsonl")
    theirs = [json.loads(line) for line in file.read_text().splitlines()]
    ours = list(ours_scores(scratch / "results-0").values())
    return max(
        max(abs(o[0] - t["scores_chosen"]), abs(o[1] - t["scores_rejected"])) for o, t in zip(ours, theirs, strict=True)
    )


if __name__ == "__main__":
    main()
