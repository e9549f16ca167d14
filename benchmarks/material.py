"""Makes what the speed measurements run on: rows with RewardBench's real lengths, and a model of a stated size."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def rows(data: Path, count: int, seed: int = 0) -> list[dict[str, str]]:
    """``count`` real RewardBench pairs (prompt, chosen, rejected), drawn with a seed and kept in file order."""
    file = data / "rewardbench_v1" / "filtered_partial_1850.jsonl.gz"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    chosen = sorted(random.Random(seed).sample(range(len(found)), min(count, len(found))))
    return [{k: found[i][k] for k in ("prompt", "chosen", "rejected")} for i in chosen]


def grids(pairs: list[dict[str, str]], answers: int = 9) -> list[tuple[str, list[str]]]:
    """Prompts with ``answers`` responses each, of real lengths: the shape of a 3 x 3 suite."""
    texts = [t for p in pairs for t in (p["chosen"], p["rejected"])]
    return [(p["prompt"], [texts[(2 * i + k) % len(texts)] for k in range(answers)]) for i, p in enumerate(pairs)]


def model(
    folder: Path, pairs: list[dict[str, str]], *, vocabulary: int = 16384, hidden: int = 512, layers: int = 6,
    heads: int = 8, kv_heads: int = 4, intermediate: int = 1536, seed: int = 0, kind: str = "llama",
) -> Path:  # fmt: skip
    """A classifier with random weights and a byte-level BPE tokenizer learned from the rows."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    raw.train_from_iterator((t for p in pairs for t in p.values()), trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=8192,
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.chat_template = CHATML
    sizes: dict[str, Any] = {
        "vocab_size": vocabulary, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "intermediate_size": intermediate, "max_position_embeddings": 8192,
        "head_dim": hidden // heads, "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": None, "num_labels": 1,
    }  # fmt: skip
    config = {"llama": transformers.LlamaConfig, "qwen3": transformers.Qwen3Config}[kind](**sizes)
    torch.manual_seed(seed)
    made = transformers.AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # transformers 4, where the peer runs, does not know the name that transformers 5 writes
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


def borrowed(folder: Path, to: Path) -> Path:
    """A checkpoint saved by transformers 5 as transformers 4, where the peer runs, reads it too: links to its files,
    and config and tokenizer in the older names."""
    to.mkdir(parents=True)
    for file in folder.iterdir():
        if file.name not in ("config.json", "tokenizer_config.json"):
            (to / file.name).symlink_to(file.resolve())
    config = json.loads((folder / "config.json").read_text())
    rope = config.get("rope_parameters") or {}
    config |= {"torch_dtype": config.get("dtype"), "rope_theta": rope.get("rope_theta", 10000.0)}
    (to / "config.json").write_text(json.dumps(config, indent=1))
    spoken = json.loads((folder / "tokenizer_config.json").read_text())
    (to / "tokenizer_config.json").write_text(json.dumps(spoken | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    return to


def parameters(folder: Path) -> int:
    """Weights that take part in every token: all but the embedding table."""
    from safetensors import safe_open

    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                if "embed_tokens" not in name:
                    total += tensors.get_tensor(name).numel()
    return total


def machine() -> str:
    """The processor, as the system names it."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return f"{len(names)} x {names[0]}" if names else "unknown"
