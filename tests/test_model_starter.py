"""The bundled starter checkpoints: small, safe to load, honest about their data, and better late than early."""

from __future__ import annotations

import hashlib
import json
import math
import random
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from rmbench.models import starter_pairs, train_starter

pytest.importorskip("torch")
pytest.importorskip("transformers")

MODELS = Path(train_starter.__file__).parent
EARLY, FINAL = (MODELS / f"starter-step{n}" for n in (train_starter.EARLY, train_starter.STEPS))
SUITE = train_starter.find_suite()
FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def wilson_low(wins: float, n: int, z: float = 1.959964) -> float:
    share = wins / n
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n)


@cache
def loaded(folder: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(1)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="float32", use_safetensors=True).eval()
    return model, AutoTokenizer.from_pretrained(folder)


@cache
def scores(folder: Path) -> dict[str, list[float]]:
    """Item id -> a score per response."""
    import torch

    model, tokenizer = loaded(folder)
    found: dict[str, list[float]] = {}
    with torch.no_grad():
        for item in items():
            found[item["id"]] = []
            for response in item["responses"]:
                messages = [*item["prompt"], {"role": "assistant", "content": response}]
                text = tokenizer.apply_chat_template(messages, tokenize=False)
                ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
                found[item["id"]].append(float(model(input_ids=ids).logits[0, 0]))
    return found


@cache
def items() -> list[dict[str, Any]]:
    assert SUITE is not None
    return [json.loads(line) for line in SUITE.read_text(encoding="utf-8").splitlines() if line.strip()]


def right_on_pairs(folder: Path) -> list[float]:
    pairs = [i for i in items() if len(i["responses"]) == 2 and i["grades"][0] != i["grades"][1]]
    credit = []
    for item in pairs:
        a, b = scores(folder)[item["id"]]
        better = (a - b) * (item["grades"][0] - item["grades"][1])
        credit.append(1.0 if better > 0 else 0.5 if better == 0 else 0.0)
    return credit


def test_the_checkpoints_hold_only_what_they_need_and_are_small() -> None:
    folders = sorted(p for p in MODELS.iterdir() if p.name.startswith("starter-step"))
    assert folders == sorted((EARLY, FINAL))
    assert all({file.name for file in folder.iterdir()} == FILES for folder in folders)
    assert sum(file.stat().st_size for folder in folders for file in folder.iterdir()) <= 5_000_000


@pytest.mark.parametrize("folder", [EARLY, FINAL], ids=["early", "final"])
def test_it_loads_as_a_reward_model_with_one_head(folder: Path) -> None:
    model, tokenizer = loaded(folder)
    assert model.config.architectures == ["LlamaForSequenceClassification"]
    assert model.config.num_labels == 1
    assert model.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert len(tokenizer) == model.config.vocab_size


@pytest.mark.parametrize("folder", [EARLY, FINAL], ids=["early", "final"])
def test_the_template_gives_one_bos_and_ends_each_turn_with_eos(folder: Path) -> None:
    _, tokenizer = loaded(folder)
    messages = [{"role": r, "content": f"{r} says zß🙂"} for r in ("system", "user", "assistant", "user", "assistant")]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    for added in (False, True):
        ids = tokenizer(text, add_special_tokens=added)["input_ids"]
        assert ids.count(tokenizer.bos_token_id) == 1
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(tokenizer.eos_token_id) == len(messages)
        assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids) == text
    assert tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True).endswith(
        "<|assistant|>"
    )


def test_padding_on_either_side_leaves_the_score() -> None:
    import torch

    model, tokenizer = loaded(FINAL)
    conversations = [
        [{"role": "user", "content": "Name two colours."}, {"role": "assistant", "content": answer}]
        for answer in ("Red and blue.", "I would rather speak at length about something else, such as the weather.")
    ]
    texts = [tokenizer.apply_chat_template(c, tokenize=False) for c in conversations]
    alone = [model(**tokenizer(t, add_special_tokens=False, return_tensors="pt")).logits.item() for t in texts]
    for side in ("right", "left"):
        batch = tokenizer(texts, add_special_tokens=False, padding=True, padding_side=side, return_tensors="pt")
        with torch.no_grad():
            assert model(**batch).logits[:, 0].tolist() == pytest.approx(alone, abs=1e-4)


@pytest.mark.skipif(SUITE is None, reason="the bundled suite is not there")
def test_the_training_data_share_nothing_with_the_suite() -> None:
    assert SUITE is not None
    pairs = train_starter.training_pairs(random.Random(train_starter.SEED), train_starter.STEPS)
    assert starter_pairs.overlaps(pairs, SUITE) == []
    first = items()[0]
    leak = starter_pairs.Pair((first["prompt"][0]["content"],), "one", "two")
    assert starter_pairs.overlaps([leak], SUITE) == [leak.prompt[0]]


def test_held_out_texts_are_not_trained_on() -> None:
    kept, held = starter_pairs.read_seed(), starter_pairs.read_seed(held_out=True)
    for kind in starter_pairs.SPLIT:
        texts = {text for fields in kept[kind] for text in fields}
        assert held[kind]
        assert not texts & {fields[0] for fields in held[kind]}, kind
    trained = train_starter.training_pairs(random.Random(train_starter.SEED), 40)
    assert not set(trained) & set(train_starter.held_out_pairs(500))


def test_length_says_nothing_about_who_wins_in_the_training_data() -> None:
    pairs = starter_pairs.Writer(starter_pairs.read_seed(), random.Random(3)).pairs(6000)
    assert len(pairs) == 6000
    longer = sum(len(p.good) > len(p.bad) for p in pairs) / len(pairs)
    assert longer == pytest.approx(0.5, abs=0.02)
    assert all(p.good != p.bad and p.good.strip() and p.bad.strip() for p in pairs)


@pytest.mark.skipif(SUITE is None, reason="the bundled suite is not there")
def test_the_final_checkpoint_beats_chance_and_the_early_one() -> None:
    early, final = right_on_pairs(EARLY), right_on_pairs(FINAL)
    assert wilson_low(sum(final), len(final)) > 0.5
    assert all(math.isfinite(s) for folder in (EARLY, FINAL) for row in scores(folder).values() for s in row)
    assert sum(final) > sum(early)


def test_it_has_learned_what_it_was_taught() -> None:
    """Fresh pairs of the same writer, from texts held out: those of the model's README."""
    model, tokenizer = loaded(FINAL)
    pairs = train_starter.held_out_pairs(500)
    assert wilson_low(train_starter.right(model, tokenizer, pairs) * len(pairs), len(pairs)) > 0.65


@pytest.mark.slow
def test_the_training_script_is_reproducible(tmp_path: Path) -> None:
    for name in ("a", "b"):
        command = [sys.executable, train_starter.__file__, "--out", str(tmp_path / name), "--steps", "5"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    for file in FILES:
        a, b = ((tmp_path / name / "starter-step5" / file).read_bytes() for name in ("a", "b"))
        assert hashlib.sha256(a).hexdigest() == hashlib.sha256(b).hexdigest(), file
