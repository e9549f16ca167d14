"""Real models on real texts: SmolLM2-135M-Instruct and the adapters of examples/real, through what a user would type.

Bounds are multiples of what plain float32 is off by against float64 on the same conversations, never a fixed number.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmbench import adapters, store, suites
from rmbench.adapters.options import Options
from rmbench.core import Item

torch = pytest.importorskip("torch", reason="needs the [hf] extra")
pytest.importorskip("gguf", reason="needs the [gguf] extra")
# What gguf's and transformers' readers warn of is theirs.
pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def items() -> list[Item]:
    """Pairs of the bundled suite from every subset; they need no data of others."""
    suite = suites.load("starter")
    return [i for i in suites.limited(suite, 60, seed=1) if i.kind == "pair"]


def by_hand(folder: Path, items: list[Item], dtype: Any) -> np.ndarray[Any, Any]:
    """Head outputs as transformers gives them, one conversation at a time."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).eval()
    made = []
    with torch.inference_mode():
        for item in items:
            for i in range(len(item.responses)):
                talk = [{"role": m.role, "content": m.content} for m in item.conversation(i)]
                text = tokenizer.apply_chat_template(talk, tokenize=False)
                ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
                made.append(float(model(input_ids=ids).logits[0, 0]))
    return np.array(made).reshape(len(items), -1)


def scores(ref: Path, items: list[Item], **options: Any) -> np.ndarray[Any, Any]:
    adapter = adapters.open(str(ref), Options(**options))
    judgments = list(adapter.judge(items))
    assert [j.error for j in judgments] == [None] * len(items)
    return np.array([j.scores for j in judgments])


def test_the_seed_model_is_one_that_answers(real: Path) -> None:
    from rmbench import checkpoints
    from rmbench.core import Message
    from rmbench.engines import Request, transformers_

    engine = transformers_.open(checkpoints.read(str(real / "smollm2")), task="text")
    asked = (Message(role="user", content="What is the capital of France? Answer in one sentence."),)
    (prompt,) = engine.text.prompts([asked])
    ((made,),) = engine.generate([Request(prompt.tokens, max_tokens=30)])
    assert "Paris" in made.text
    assert made.finish == "stop"


def test_show_prints_the_real_template_and_tokens(real: Path, cli: Cli) -> None:
    from transformers import AutoTokenizer

    item = suites.load("starter").items[0]
    shown = cli("show", "starter", "--item", item.id, "--model", real / "rm-harmless", "--json").stdout
    tokenizer = AutoTokenizer.from_pretrained(real / "rm-harmless")
    talk = [{"role": m.role, "content": m.content} for m in item.conversation(0)]
    text = tokenizer.apply_chat_template(talk, tokenize=False)
    first = json.loads(shown)[0]
    assert first["text"] == text
    assert "<|im_start|>system\nYou are a helpful AI assistant named SmolLM" in text
    assert first["tokens"] == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_real_reward_model_scores_as_transformers_does_by_hand(real: Path, items: list[Item]) -> None:
    folder = real / "rm-harmless"
    few = items[:16]
    exact = by_hand(folder, few, torch.float64)
    plain = np.abs(by_hand(folder, few, torch.float32) - exact).max()
    ours = scores(folder, few)
    assert np.abs(ours - exact).max() <= 8 * plain
    decided = np.abs(exact[:, 0] - exact[:, 1]) > 16 * plain
    assert decided.mean() > 0.9
    assert ((ours[:, 0] > ours[:, 1]) == (exact[:, 0] > exact[:, 1]))[decided].all()


def test_the_adapters_merge_as_peft_does(real: Path) -> None:
    peft = pytest.importorskip("peft", reason="needs the [train] extra")
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    adapter = Path(__file__).parents[1] / "examples" / "real" / "adapters" / "rm-harmless"
    base = AutoModelForSequenceClassification.from_pretrained(real / "smollm2", num_labels=1, dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, adapter).merge_and_unload().state_dict()
    ours = load_file(real / "rm-harmless" / "model.safetensors")
    for name, weight in ours.items():
        # one rounding of a sum of a weight and four products
        assert torch.allclose(weight, theirs[name].float(), rtol=4 * 2**-24, atol=1e-7), name


def test_a_dpo_policy_against_its_reference(real: Path, items: list[Item]) -> None:
    few = items[:12]
    policy, seed = real / "dpo-helpful", str(real / "smollm2")
    ratio = scores(policy, few, ref_model=seed, beta=0.1)
    apart = [scores(ref, few, adapter="dpo", reference_free="sum") for ref in (policy, real / "smollm2")]
    assert ratio == pytest.approx(0.1 * (apart[0] - apart[1]), abs=2e-3)
    assert np.abs(scores(real / "smollm2", few[:4], ref_model=seed)).max() == 0.0


def test_a_judge_in_both_orders_by_probability_and_by_text(real: Path, items: list[Item]) -> None:
    few = items[:6]
    adapter = adapters.open(str(real / "smollm2"), Options(adapter="judge", verdict="probability"))
    for judgment in adapter.judge(few):
        assert judgment.error is None
        assert [b.shown for b in judgment.ballots] == [(0, 1), (1, 0)]
        assert all(0 < sum(b.probabilities or ()) <= 1 for b in judgment.ballots)
    made = adapters.open(str(real / "smollm2"), Options(adapter="judge", judge_prompt="pairwise-brief"))
    ballots = [b for j in made.judge(few) for b in j.ballots]
    assert sum(b.valid for b in ballots) >= len(ballots) / 4
    assert all(b.text for b in ballots)


def test_a_gguf_file_scores_as_the_checkpoint_converted_from_it(real: Path, items: list[Item]) -> None:
    file = real / "SmolLM2-135M-Instruct.Q4_1.gguf"
    few = items[:12]
    converted = scores(real / "smollm2", few, reference_free="mean")
    assert (scores(file, few, reference_free="mean") == converted).all()
    assert "Q4_1 x 210" in adapters.open(str(file), Options(reference_free="mean")).settings["quantization"]


def run(out: Path, model: Path, *more: str, kill: bool = False) -> None:
    command = [sys.executable, "-m", "rmbench", "eval", "--model", str(model), "--suite", "starter", "--out", str(out)]
    process = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if kill:
        deadline = time.monotonic() + 300
        while not any(p.stat().st_size for p in out.glob(f"*/*/{store.JUDGMENTS}")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        return
    out_text, err = process.communicate(timeout=900)
    assert process.returncode == 0, out_text + err


@pytest.fixture(scope="module")
def whole(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rm-harmless on the bundled suite, undisturbed."""
    root = tmp_path_factory.mktemp("whole")
    run(root, real / "rm-harmless")
    return root


def sealed(root: Path) -> bytes:
    (path,) = store.find(root)
    return (path / store.JUDGMENTS).read_bytes() + (path / store.ESTIMATES).read_bytes()


def test_killed_and_resumed_it_has_the_same_bytes(real: Path, whole: Path, tmp_path: Path) -> None:
    run(tmp_path, real / "rm-harmless", kill=True)
    run(tmp_path, real / "rm-harmless")
    assert sealed(tmp_path) == sealed(whole)


def test_two_workers_give_the_same_bytes(real: Path, whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the [ray] extra")
    threads = str(torch.get_num_threads())
    run(tmp_path, real / "rm-harmless", "--workers", "2", "--threads", threads)
    assert sealed(tmp_path) == sealed(whole)


def test_doctor_measures_a_noise_floor_far_below_the_margins(real: Path, whole: Path, cli: Cli) -> None:
    said = json.loads(cli("doctor", "--model", real / "rm-harmless", "--json").stdout)
    (path,) = store.find(whole)
    margins = [
        abs(j.scores[0] - j.scores[1]) for j in store.read(path).judgments.values() if j.scores and len(j.scores) == 2
    ]
    assert {way["flips"] for way in said["noise"]} == {0}
    assert max(way["largest"] for way in said["noise"]) < np.median(margins) / 100


def test_compare_and_gate_of_two_real_checkpoints(real: Path, whole: Path, tmp_path: Path, cli: Cli) -> None:
    run(whole, real / "rm-harmless-step50")
    paths = {store.read(p).run.model: p for p in store.find(whole)}
    before, after = paths["rm-harmless-step50"], paths["rm-harmless"]
    (compared,) = json.loads(cli("compare", before, after, "--json").stdout)["pairs"]
    overall = next(d for d in compared["differences"] if d["scope"] == "overall")
    assert overall["low"] <= overall["value"] <= overall["high"]
    policy = tmp_path / "gate.toml"
    policy.write_text("[gate]\nmargin = 0.2\n")
    gate = cli("gate", after, "--baseline", before, "--policy", policy)
    assert gate.exit_code in (0, 1, 3)
    assert ("PASS" in gate.stdout) == (gate.exit_code == 0)


def test_the_committed_figures_come_out_on_this_machine(real: Path, real_data: Path, tmp_path: Path, cli: Cli) -> None:
    root = Path(__file__).parents[1] / "results"
    committed = [p for p in store.find(root) if p.parent.name.startswith("rm-harmless-") and "hhh" in p.name]
    (kept,) = [p for p in committed if store.read(p).run.model == "rm-harmless"]
    os.environ["RMBENCH_DATA"] = str(real_data)
    try:
        assert (
            cli("eval", "--model", real / "rm-harmless", "--suite", "hhh-alignment", "--out", tmp_path).exit_code == 0
        )
    finally:
        del os.environ["RMBENCH_DATA"]
    (here,) = store.find(tmp_path)
    before, now = ({(e.scope, e.name): e.value for e in store.read_estimates(p)} for p in (kept, here))
    for key in (("overall", "accuracy"), ("micro", "accuracy")):
        assert abs(before[key] - now[key]) <= 0.005, key
