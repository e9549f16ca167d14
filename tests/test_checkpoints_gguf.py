"""GGUF files as model references: the same scores as the checkpoint they were made from, and clear refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import models
from rmbench import adapters, checkpoints
from rmbench.adapters.options import Options
from rmbench.core import Item, Message
from rmbench.errors import BadModel

pytest.importorskip("gguf", reason="the extra [gguf] is not installed")


def items() -> list[Item]:
    said = ("The sum is 42.", "I cannot help.", "Prime numbers: 2, 3, 5 and 7.")
    return [
        Item(
            id=str(i),
            subset="s",
            prompt=(Message(role="user", content=f"Explain {i} + {i}, step by step."),),
            responses=(said[i % 3], said[(i + 1) % 3]),
            grades=(1, 0),
        )
        for i in range(5)
    ]


def scores(ref: Path, **options: object) -> list[float]:
    made = adapters.open(str(ref), Options(**options))  # type: ignore[arg-type]
    judgments = list(made.judge(items()))
    assert all(j.error is None for j in judgments), judgments
    return [s for j in judgments for s in j.scores or ()]


def test_a_policy_a_judge_and_a_head_score_as_the_checkpoint_they_were_made_from() -> None:
    causal, head = models.causal("llama", seed=3), models.classifier("llama", labels=1, seed=3)
    # float32 tensors hold the same bits; only the order of sums may differ.
    for folder, options in (
        (causal, {"reference_free": "mean"}),
        (causal, {"adapter": "judge", "verdict": "probability"}),
        (head, {}),
    ):
        assert scores(models.gguf(folder), **options) == pytest.approx(scores(folder, **options), abs=1e-5)


def test_which_adapter_is_chosen_and_why() -> None:
    file = models.gguf(models.causal("llama", seed=3))
    assert checkpoints.detect(str(file))[0] == "judge"
    assert "GGUF file of a llama model (F32 x " in checkpoints.detect(str(file))[1]
    assert checkpoints.detect(str(file.parent))[0] == "judge"
    assert checkpoints.detect(str(models.gguf(models.classifier("llama", labels=1, seed=3))))[0] == "scalar"


def test_the_fingerprint_covers_the_file_and_its_quantization(tmp_path: Path) -> None:
    file = models.gguf(models.causal("llama", seed=3))
    made = adapters.open(str(file), Options(reference_free="mean"))
    assert made.settings["quantization"] == checkpoints.read(str(file)).quantization
    assert made.settings["weights"] == checkpoints.read(str(file)).weights_hash()
    other = models.gguf(models.causal("llama", seed=4))
    assert checkpoints.read(str(other)).weights_hash() != made.settings["weights"]


def test_refusals_say_what_to_do(tmp_path: Path) -> None:
    file = models.gguf(models.causal("llama", seed=3))
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(file, tmp_path / name)
    with pytest.raises(BadModel, match=r"holds 2 GGUF files; give one of them: a\.gguf, b\.gguf"):
        checkpoints.read(str(tmp_path))
    part = tmp_path / "m-00001-of-00003.gguf"
    shutil.copy(file, part)
    with pytest.raises(BadModel, match="llama-gguf-split --merge"):
        checkpoints.read(str(part))
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(BadModel, match="cannot be read as a GGUF file"):
        checkpoints.read(str(cut))
    cut.write_bytes(b"not a model at all")
    with pytest.raises(BadModel, match="cannot be read as a GGUF file"):
        checkpoints.read(str(cut))


def test_a_file_whose_tensors_are_cut_off_is_refused_before_anything_is_scored() -> None:
    file = models.gguf(models.causal("llama", seed=3), cut=4096)
    with pytest.raises(BadModel, match=r"cannot be read as a GGUF file|transformers cannot load it"):
        adapters.open(str(file), Options(reference_free="mean"))


def test_an_architecture_that_transformers_does_not_read_names_another_way(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    file = tmp_path / "odd.gguf"
    writer = GGUFWriter(file, "rwkv7")
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(BadModel, match=r"serve the file with llama\.cpp and give --base-url"):
        adapters.open(str(file), Options(reference_free="mean"))
