"""What the recipes share: the seed model's folder, the LoRA layout, and how an adapter becomes small enough to commit.

Recipes need ``pip install 'rmbench[train]'`` and ``make real`` once, which builds the seed model in ``.real/smollm2``.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
SEED_MODEL = HERE.parents[1] / ".real" / "smollm2"
LAYERS = range(12, 30)
"""Adapted layers: with rank 4 on every projection of the upper 18 of 30 layers an adapter in float16 is 1.5 MB."""


def lora(task: str) -> LoraConfig:
    """``task``: SEQ_CLS (the score head is saved with the adapter) or CAUSAL_LM."""
    return LoraConfig(
        task_type=task,
        r=4,
        lora_alpha=16,
        lora_dropout=0.0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        layers_to_transform=list(LAYERS),
        modules_to_save=["score"] if task == "SEQ_CLS" else None,
    )


def shared(output: Path, **more: Any) -> dict[str, Any]:
    """Trainer arguments that all recipes have: bfloat16 weights on a CPU, one learning rate schedule, seed 0."""
    return {
        "output_dir": str(output),
        "seed": 0,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,  # the weights are bfloat16 already; LoRA's own stay float32
        "gradient_checkpointing": False,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 10,
        "max_grad_norm": 1.0,
        "logging_steps": 10,
        "report_to": "none",
        "save_strategy": "steps",
        # Batches of like length: without it half of what is computed is padding.
        "train_sampling_strategy": "group_by_length",
        "length_column_name": "length",
        "remove_unused_columns": False,
        **more,
    }


def shrink(checkpoint: Path, to: Path) -> None:
    """A trainer's adapter checkpoint -> adapter_config.json and weights: in float16, the head in float32."""
    to.mkdir(parents=True, exist_ok=True)
    weights = load_file(checkpoint / "adapter_model.safetensors")
    small = {k: v.to(torch.float32 if ".score." in k else torch.float16) for k, v in sorted(weights.items())}
    save_file({k: v.contiguous() for k, v in small.items()}, to / "adapter_model.safetensors", {"format": "pt"})
    config = json.loads((checkpoint / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "HuggingFaceTB/SmolLM2-135M-Instruct"
    (to / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def dataset(rows: list[dict[str, Any]]) -> Dataset:
    """With each pair's length in characters, by which batches are made up."""
    sizes = [max(sum(len(m["content"]) for m in [*r["prompt"], *r[k]]) for k in ("chosen", "rejected")) for r in rows]
    return Dataset.from_list([{**row, "length": size} for row, size in zip(rows, sizes, strict=True)])


def run(trainer: Any, name: str, keep: list[int]) -> None:
    """Train, and put the last checkpoint and those of the steps in ``keep`` under adapters/."""
    start = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - start
    output = Path(trainer.args.output_dir)
    last = int(trainer.state.global_step)
    for step in sorted({*keep, last}):
        shrink(output / f"checkpoint-{step}", HERE / "adapters" / (name if step == last else f"{name}-step{step}"))
    log = {
        "steps": last,
        "seconds": round(seconds),
        "threads": torch.get_num_threads(),
        "log": trainer.state.log_history,
    }
    (HERE / "adapters" / name / "training.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(output)
