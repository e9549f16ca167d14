"""Makes the bundled ``starter`` reward model: trains tokenizer and model, saves an early and a final checkpoint.

    python train_starter.py --out DIR

Everything follows from ``--seed``; ``starter_pairs.py`` writes the data.
Ends with a check that no training text shares eight words in a row with the bundled suite, and exits 1 if one does.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rmbench.models.starter_pairs import Pair, Turns, Writer, overlaps, read_seed

HERE = Path(__file__).resolve().parent
SUITE_PLACES = (HERE.parents[2] / "suites", HERE.parent / "_suites")  # a checkout, a wheel
THREADS = 1  # another number of threads sums in another order and gives other last bits
SEED, STEPS, EARLY, WARM_UP, BATCH, LONGEST = 7, 2600, 100, 320, 32, 160
PAD, BEGIN, END = "<|pad|>", "<|begin|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] | trim + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def find_suite() -> Path | None:
    return next((p for folder in SUITE_PLACES if (p := folder / "starter" / "items.jsonl").exists()), None)


def training_pairs(rng: random.Random, steps: int) -> list[Pair]:
    # A very short run still needs enough text for the tokenizer's whole vocabulary.
    writer = Writer(read_seed(), rng)
    return writer.warm_up(BATCH * WARM_UP) + writer.pairs(BATCH * (min(max(steps, WARM_UP + 40), STEPS) - WARM_UP))


def held_out_pairs(n: int) -> list[Pair]:
    """Of the same writer, from texts that no training pair has."""
    return Writer(read_seed(held_out=True), random.Random(2**31)).pairs(n)


def make_tokenizer(pairs: list[Pair], vocabulary: int = 3072) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    inner.decoder = decoders.ByteLevel()
    special = [PAD, BEGIN, END, *ROLES]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator((t for p in pairs for t in (*p.prompt, p.good, p.bad)), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=BEGIN, eos_token=END, pad_token=PAD,
        additional_special_tokens=list(ROLES), model_max_length=1024, padding_side="right",
    )  # fmt: skip
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def encode(tokenizer: Any, prompt: Turns, answer: str) -> list[int]:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate((*prompt, answer))]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def make_model(tokenizer: Any) -> Any:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=320, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=1024, num_labels=1, tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = LlamaForSequenceClassification(config)
    for layer in model.model.layers[1:3]:
        # Equal words attend to each other from the start: whether an answer is about its prompt is learned sooner.
        layer.self_attn.q_proj.weight.data.mul_(3)
        layer.self_attn.k_proj.weight.data.copy_(layer.self_attn.q_proj.weight.data)
    return model


def right(model: Any, tokenizer: Any, pairs: list[Pair]) -> float:
    """The share of the pairs in which the better answer scores higher."""
    import torch

    wins = 0
    with torch.no_grad():
        for pair in pairs:
            good, bad = (
                model(input_ids=torch.tensor([encode(tokenizer, pair.prompt, answer)])).logits.item()
                for answer in (pair.good, pair.bad)
            )
            wins += good > bad
    return wins / len(pairs)


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    import copy

    import torch

    folder.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)


def train(out: Path, seed: int, steps: int, log: Callable[[str], object]) -> list[Pair]:
    """Writes ``starter-step<N>`` folders under ``out``; returns the pairs trained on."""
    import torch
    from torch.nn.functional import logsigmoid

    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    rng = random.Random(seed)
    pairs = training_pairs(rng, steps)
    tokenizer = make_tokenizer(pairs)
    coded = [[encode(tokenizer, p.prompt, answer)[:LONGEST] for answer in (p.good, p.bad)] for p in pairs]
    # Pairs of like length share a batch: half the arithmetic would be padding otherwise.
    window = BATCH * 8
    order: list[list[int]] = []
    for start in range(0, len(coded), window):
        near = sorted(range(start, min(start + window, len(coded))), key=lambda i: max(map(len, coded[i])))
        batches = [near[i : i + BATCH] for i in range(0, len(near), BATCH)]
        rng.shuffle(batches)
        order += batches
    model = make_model(tokenizer).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.9, 0.98), weight_decay=0.02)
    peak, started, seen = 2e-3, time.monotonic(), [0.0, 0.0]
    for step in range(1, steps + 1):
        rate = peak * min(step / 60, 0.5 + 0.5 * math.cos(math.pi * step / (STEPS + 1)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = [coded[i] for i in order[(step - 1) % len(order)]]
        rows = [good for good, _ in batch] + [bad for _, bad in batch]
        ids = torch.full((len(rows), max(map(len, rows))), tokenizer.pad_token_id)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        score = model(input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long()).logits[:, 0]
        good, bad = score.chunk(2)
        # Bradley-Terry; the second term compares across prompts and the third holds the zero, so that a single
        # score means something.
        loss = (
            -logsigmoid(good - bad).mean()
            - 0.15 * logsigmoid(good - bad.roll(1)).mean()
            + 0.005 * (good + bad).pow(2).mean()
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen = [seen[0] + float((good > bad).float().mean()), seen[1] + 1]
        if step % 50 == 0:
            share, spent = seen[0] / seen[1], time.monotonic() - started
            log(f"step {step}  loss {float(loss.detach()):.3f}  pairs right {share:.3f}  {spent:.0f} s\n")
            seen = [0.0, 0.0]
        if step in (EARLY, steps):
            save(model, tokenizer, out / f"starter-step{step}")
            share = right(model, tokenizer, held_out_pairs(500))
            log(f"step {step}  pairs right {share:.3f} of 500 written from held-out texts\n")
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    pairs = train(options.out, options.seed, options.steps, sys.stderr.write)
    suite = find_suite()
    if suite is None:
        sys.exit(f"the bundled suite is in none of {', '.join(map(str, SUITE_PLACES))}")
    shared = overlaps(pairs, suite)
    if shared:
        sys.exit(f"{len(shared)} training texts overlap the suite, change these:\n" + "\n".join(shared[:20]))
    sys.stderr.write(f"{len(pairs)} training pairs share no text and no eight words in a row with {suite.name}\n")


if __name__ == "__main__":
    main()
