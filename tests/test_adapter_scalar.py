from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

import models
from rmbench import adapters, checkpoints
from rmbench.adapters import scalar
from rmbench.adapters.options import Options
from rmbench.core import Item, Judgment, Message
from rmbench.errors import BadModel, UsageError

ATTRIBUTES = scalar.ATTRIBUTES


def item(n: int, *responses: str, prompt: str = "Is 7 prime?", **more: Any) -> Item:
    grades = tuple(float(len(responses) - i) for i in range(len(responses)))
    turns = (Message(role="user", content=prompt),)
    return Item(id=f"i{n}", subset="s", prompt=turns, responses=responses, grades=grades, **more)


def opened(folder: Path, **options: Any) -> scalar.Scalar:
    return scalar.open(str(folder), Options(threads=1, **options))


def judged(adapter: scalar.Scalar, items: list[Item]) -> list[Judgment]:
    return list(adapter.judge(items))


def test_pairs_rankings_and_single_responses_in_order() -> None:
    adapter = opened(models.classifier("llama"))
    items = [item(0, "Yes.", "No."), item(1, "A", "B", "C", "D"), item(2, "Only one."), item(3, "Yes.", "No.")]
    made = judged(adapter, items)
    assert [j.item_id for j in made] == ["i0", "i1", "i2", "i3"]
    assert [len(j.scores or ()) for j in made] == [2, 4, 1, 2]
    np.testing.assert_allclose(made[0].scores, made[3].scores, atol=1e-5)
    read = [r.tokens for r in adapter.text.conversations([items[0].conversation(i) for i in range(2)])]
    assert made[0].tokens == sum(map(len, read))
    assert adapter.settings["head"] == {"0": 1.0}
    assert (adapter.engine, adapter.device, adapter.exact) == ("transformers", "cpu", True)
    json.dumps(adapter.settings)
    assert judged(adapter, []) == []


def test_more_items_than_are_tokenised_at_a_time() -> None:
    adapter = opened(models.classifier("llama"))
    items = [item(n, f"answer {n}", f"other {n * 7}") for n in range(2 * scalar.AHEAD + 5)]
    made = judged(adapter, items)
    assert [j.item_id for j in made] == [i.id for i in items]
    alone = judged(adapter, [items[100]])[0]
    np.testing.assert_allclose(made[100].scores, alone.scores, atol=1e-5)


def test_equal_responses_score_exactly_equal() -> None:
    (made,) = judged(opened(models.classifier("llama")), [item(0, "same", "same")])
    assert made.scores is not None
    assert made.scores[0] == made.scores[1]


def test_truncation_is_counted() -> None:
    adapter = opened(models.classifier("llama"), max_length=40)
    made = judged(adapter, [item(0, "short", "long " * 60), item(1, "a", "b")])
    assert [j.truncated for j in made] == [1, 0]
    assert made[0].tokens <= 80
    longer = judged(adapter, [item(0, "short", "other beginning " + "long " * 60)])
    np.testing.assert_allclose(longer[0].scores, made[0].scores, atol=1e-5)  # the response's end is what is kept


def test_a_refused_conversation_is_an_error_of_its_item_alone() -> None:
    adapter = opened(models.classifier("llama", template="no-system"))
    lone = Item(
        id="bad", subset="s", prompt=(Message(role="system", content="x"),), responses=("a", "b"), grades=(1, 0)
    )
    made = judged(adapter, [item(0, "a", "b"), lone, item(1, "a", "b")])
    assert [j.error is None for j in made] == [True, False, True]
    assert "refuses a conversation of turns 'system assistant'" in (made[1].error or "")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_errors_never_wins(tmp_path: Path, bad: float) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "bad"
    shutil.copytree(models.classifier("llama"), folder)
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"][:] = bad
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for made in judged(opened(folder), [item(0, "Yes.", "No."), item(1, "a")]):
        assert made.scores is None
        assert "not finite" in (made.error or "")


# --- heads ---


def test_one_output_needs_no_asking_and_several_do() -> None:
    folder = models.classifier("llama", labels=3)
    with pytest.raises(UsageError, match=r"a head of 3 outputs.*--head.*0 to 2.*LABEL_0, LABEL_1, LABEL_2"):
        opened(folder)
    outputs = [judged(opened(folder, head=str(i)), [item(0, "Yes.", "No.")])[0].scores for i in range(3)]
    assert len(set(outputs)) == 3
    weighted = judged(opened(folder, head="0=1,LABEL_1=-2,2=0.5"), [item(0, "Yes.", "No.")])[0].scores
    wanted = np.array([1, -2, 0.5]) @ np.array(outputs)
    np.testing.assert_allclose(weighted, wanted, rtol=1e-5)


def test_heads_by_name_number_preset_and_weights() -> None:
    labels = ("a", "b", "c", "d", *ATTRIBUTES)
    assert scalar.head(None, ("x",)).weights == {0: 1.0}
    assert scalar.head("correctness", labels).weights == {5: 1.0}
    assert scalar.head("3", labels).weights == {3: 1.0}
    assert scalar.head("helpsteer-llama3-70b", labels).weights == dict(
        zip(range(4, 9), (0.65, 0.8, 0.45, 0.55, -0.4), strict=True)
    )
    assert scalar.head("helpsteer-nemotron-340b", ATTRIBUTES).weights[0] == 0.3
    assert list(scalar.head("armorm-helpsteer", [f"o{i}" for i in range(19)]).weights) == [0, 1, 2, 3, 4]
    assert scalar.head("helpfulness=1, verbosity=-0.5", labels).weights == {4: 1.0, 8: -0.5}
    assert np.isnan(scalar.head("0=1,1=1", ("x", "y")).score([float("nan"), 1.0]))


@pytest.mark.parametrize("asked", ["9", "-1", "nope", "a=x", "a=", "nope=1", "", "armorm-helpsteer=1"])
def test_heads_that_are_not_there(asked: str) -> None:
    with pytest.raises(UsageError, match="--head"):
        scalar.head(asked, ("a", "b"))
    with pytest.raises(UsageError, match="needs 5 outputs"):
        scalar.head("helpsteer-llama3-70b", ("a", "b"))


# --- the text a model gets ---


def test_preview_shows_the_exact_text_and_tokens() -> None:
    adapter = opened(models.classifier("llama"))
    first, second = adapter.preview(item(0, "Yes.", "No."))
    assert first["text"] == "<|im_start|>user\nIs 7 prime?<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n"
    assert first["tokens"][0] == 3
    assert first["pieces"][0] == "<|im_start|>"
    assert second["title"] == "response 1"


# --- checkpoints that cannot be used; each with exit code 2 and no traceback through the command line ---


def copy(tmp_path: Path, source: Path) -> Path:
    folder = tmp_path / "ckpt"
    shutil.copytree(source, folder)
    return folder


def pickled(tmp_path: Path) -> Path:
    folder = copy(tmp_path, models.classifier("llama"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return folder


def no_config(tmp_path: Path) -> Path:
    folder = copy(tmp_path, models.classifier("llama"))
    (folder / "config.json").unlink()
    return folder


def broken_config(tmp_path: Path) -> Path:
    folder = no_config(tmp_path)
    (folder / "config.json").write_text("{")
    return folder


def no_weights(tmp_path: Path) -> Path:
    folder = copy(tmp_path, models.classifier("llama"))
    (folder / "model.safetensors").unlink()
    return folder


def torn_weights(tmp_path: Path) -> Path:
    folder = copy(tmp_path, models.classifier("llama"))
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    return folder


def no_architecture(tmp_path: Path) -> Path:
    folder = copy(tmp_path, models.classifier("llama"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "architectures"}))
    return folder


def unknown_architecture(tmp_path: Path) -> Path:
    folder = copy(tmp_path, models.classifier("llama"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "mystery9"}))
    return folder


def peft(tmp_path: Path) -> Path:
    folder = no_config(tmp_path)
    (folder / "adapter_config.json").write_text("{}")
    return folder


def no_template(tmp_path: Path) -> Path:
    return models.classifier("llama", template=None)


def no_tokenizer(tmp_path: Path) -> Path:
    folder = copy(tmp_path, models.classifier("llama"))
    for file in folder.glob("tokenizer*"):
        file.unlink()
    return folder


def several_outputs(tmp_path: Path) -> Path:
    return models.classifier("llama", labels=3)


def absent(tmp_path: Path) -> Path:
    return tmp_path / "nowhere"


def a_file(tmp_path: Path) -> Path:
    (tmp_path / "m.safetensors").write_bytes(b"")
    return tmp_path / "m.safetensors"


TROUBLE: list[tuple[Callable[[Path], Path], str]] = [
    (pickled, "pickled weights only (pytorch_model.bin)"),
    (no_config, "has no config.json"),
    (broken_config, "config.json is not valid JSON"),
    (no_weights, "has no *.safetensors weights"),
    (torn_weights, "transformers cannot load it"),
    (no_architecture, "names no architecture, which fits no adapter; say which with --adapter"),
    (unknown_architecture, "cannot"),
    (peft, "is a PEFT adapter; merge it"),
    (no_template, "--chat-template FILE or a built-in one"),
    (no_tokenizer, "tokenizer"),
    (several_outputs, "say which is the score with --head"),
    (absent, "no such folder"),
    (a_file, "is a file; give a"),
]


@pytest.mark.parametrize(("make", "message"), TROUBLE, ids=[make.__name__ for make, _ in TROUBLE])
def test_checkpoints_that_cannot_be_used(
    make: Callable[[Path], Path], message: str, tmp_path: Path, cli: Callable[..., Result]
) -> None:
    folder = make(tmp_path)
    result = cli("eval", "--model", folder, "--suite", "starter", "--out", tmp_path / "results", "--threads", 1)
    said = " ".join(result.stderr.split())
    assert result.exit_code == 2, said
    assert message in said
    assert folder.name in said
    assert "Traceback" not in said


def test_a_generative_checkpoint_is_not_taken_for_a_scalar_one() -> None:
    with pytest.raises(
        BadModel, match=r"is generative \(LlamaForCausalLM\) and has no reward head; use --adapter judge"
    ):
        opened(models.causal("llama"))
    assert checkpoints.detect(str(models.causal("llama")))[0] == "judge"
    assert checkpoints.detect(str(models.classifier("deberta"))) == (
        "scalar",
        "its config names DebertaV2ForSequenceClassification",
    )


def test_options_of_another_engine_are_refused() -> None:
    with pytest.raises(UsageError, match="engine 'transformers' does not use --gpu-memory"):
        opened(models.classifier("llama"), gpu_memory=0.5)
    with pytest.raises(UsageError, match="engine 'endpoint' does not run a checkpoint"):
        opened(models.classifier("llama"), engine="endpoint")
    with pytest.raises(UsageError, match="does not use --beta"):
        adapters.open(str(models.classifier("llama")), Options(beta=0.1))


def test_weights_hash_follows_the_bytes(tmp_path: Path) -> None:
    folder = copy(tmp_path, models.classifier("llama"))
    before = checkpoints.read(str(folder)).weights_hash()
    assert before == checkpoints.read(str(models.classifier("llama"))).weights_hash()
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(data))
    assert checkpoints.read(str(folder)).weights_hash() != before


def test_labels_from_config() -> None:
    assert checkpoints.read(str(models.classifier("llama", labels=3))).labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert checkpoints.read(str(models.classifier("llama"))).labels == ("LABEL_0",)
    named = models.classifier("llama", names=("good", "bad"))
    assert checkpoints.read(str(named)).labels == ("good", "bad")


def test_the_real_rows_score_as_one_at_a_time(real_data: Path) -> None:
    import torch
    import transformers

    from rmbench import suites

    suite = suites.load("rewardbench", data=real_data)
    items = [i for i in suite.items if sum(map(len, i.responses)) < 1500][::150]
    folder = models.classifier("llama")
    adapter = opened(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    for it, made in zip(items, judged(adapter, items), strict=True):
        for i, score in enumerate(made.scores or ()):
            turns = [{"role": m.role, "content": m.content} for m in it.conversation(i)]
            ids = adapter.text.tokenizer.apply_chat_template(turns, return_dict=False, return_tensors="pt")
            with torch.inference_mode():
                assert score == pytest.approx(float(model(ids).logits[0, 0]), abs=1e-4)
    assert len(items) > 5


def test_a_head_behind_a_server(tmp_path: Path) -> None:
    """``--adapter scalar --base-url``: the server applies its template; faults are retried; what it cannot score is an
    error of its item."""
    pytest.importorskip("openai", reason="an endpoint needs the openai client")
    from server import Server

    def answer(body: dict[str, Any]) -> Any:
        said = body["messages"][-1]["content"]
        return (400, {"error": {"message": "too long"}}) if said == "no" else [float(len(said))]

    prompt = (Message(role="user", content="q"),)
    items = [
        Item(id=str(n), subset="s", prompt=prompt, responses=("x" * n, "no" if n == 7 else "yes"), grades=(1, 0))
        for n in range(1, 150)
    ]
    with Server(answer, {"429": 0.1, "500": 0.1}) as server:
        made = scalar.open("m", Options(base_url=server.url))
        judged = {j.item_id: j for j in made.judge(items)}
    assert judged["5"].scores == (5.0, 3.0)
    assert judged["149"].scores == (149.0, 3.0)
    assert "not finite (response 1" in str(judged["7"].error)
    assert len(judged) == len(items)
    with pytest.raises(UsageError, match="--dtype: not for a server"):
        scalar.open("m", Options(base_url="http://127.0.0.1:1/v1", dtype="float32"))
    with pytest.raises(UsageError, match="--concurrency: not for a local checkpoint"):
        scalar.open("m", Options(concurrency=3))
