"""The trainer's callback: every saved checkpoint becomes a run."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the [hf] extra is not installed")

import models
from rmbench import store
from rmbench.callback import EvaluateCheckpoints
from rmbench.errors import RmbenchError


def saved(folder: Path, step: int) -> tuple[Any, Any]:
    """A trainer's state after it saved a checkpoint there."""
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.symlink_to(models.classifier("llama"), target_is_directory=True)
    state = types.SimpleNamespace(global_step=step, is_world_process_zero=True, log_history=[])
    return types.SimpleNamespace(output_dir=str(folder)), state


def test_each_checkpoint_is_a_run_with_its_step(tmp_path: Path) -> None:
    heard: list[tuple[int, dict[str, float]]] = []
    callback = EvaluateCheckpoints(
        "starter", out=tmp_path / "results", limit=12, report=lambda step, found: heard.append((step, found))
    )
    for step in (10, 20):
        args, state = saved(tmp_path / "training", step)
        callback.on_save(args, state, None)
        assert state.log_history == [{"step": step, **heard[-1][1]}]
    names = {store.read_run(p).model for p in store.find(tmp_path / "results")}
    assert names == {"training-step-10", "training-step-20"}
    assert len(callback.runs) == 2
    assert heard[0][0] == 10
    assert all(key.startswith("rmbench/starter/") and 0 <= v <= 1 for key, v in heard[0][1].items())


def test_every_other_save_and_other_processes(tmp_path: Path) -> None:
    callback = EvaluateCheckpoints("starter", out=tmp_path / "results", limit=4, every=2)
    for step in (1, 2, 3):
        args, state = saved(tmp_path / "training", step)
        state.is_world_process_zero = step != 3
        callback.on_save(args, state, None)
    assert [r.run.model for r in callback.runs] == ["training-step-1"]


def test_an_unusable_checkpoint_stops_or_warns(tmp_path: Path) -> None:
    args = types.SimpleNamespace(output_dir=str(tmp_path / "t"))
    state = types.SimpleNamespace(global_step=1, is_world_process_zero=True, log_history=[])
    with pytest.raises(RmbenchError):
        EvaluateCheckpoints("starter", out=tmp_path / "r").on_save(args, state, None)
    with pytest.warns(UserWarning, match="was not evaluated on starter"):
        EvaluateCheckpoints("starter", out=tmp_path / "r", strict=False).on_save(args, state, None)
    with pytest.raises(ValueError, match="needs a suite"):
        EvaluateCheckpoints()


def test_the_training_keeps_its_threads(tmp_path: Path) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        callback = EvaluateCheckpoints("starter", out=tmp_path / "results", limit=4, threads=2)
        callback.on_save(*saved(tmp_path / "training", 1), None)
        assert callback.runs[0].run.settings["threads"] == 2
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
def test_with_a_real_trainer(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate, which is not installed")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    folder = models.classifier("llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [{**tokenizer("a b c", padding="max_length", max_length=8), "labels": float(i % 2)} for i in range(8)]
    callback = EvaluateCheckpoints("starter", out=tmp_path / "results", limit=4)
    arguments = TrainingArguments(
        str(tmp_path / "training"), max_steps=4, save_steps=2, report_to="none", use_cpu=True, disable_tqdm=True
    )
    trainer = Trainer(
        model=AutoModelForSequenceClassification.from_pretrained(folder),
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[callback],
    )
    trainer.train()
    assert [r.run.model for r in callback.runs] == ["training-step-2", "training-step-4"]
    assert len({r.run.fingerprint for r in callback.runs}) == 2
    logged = [entry for entry in trainer.state.log_history if any(k.startswith("rmbench/starter/") for k in entry)]
    assert [entry["step"] for entry in logged] == [2, 4]
