from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from rmbench import checkpoints
from rmbench.core import Message
from rmbench.engines import Request, onednn, prefix, transformers_
from rmbench.engines.text import common_prefix
from rmbench.engines.transformers_ import Transformers
from rmbench.errors import BadModel, UsageError

Groups = list[list[list[int]]]


def opened(folder: Path, **options: Any) -> Transformers:
    return transformers_.open(checkpoints.read(str(folder)), **{"threads": 1, "batch_tokens": 512, **options})


def say(draw: random.Random, words: int) -> str:
    return " ".join(draw.choice(models.TEXT.split()) for _ in range(words))


def groups(engine: Transformers, seed: int = 0, count: int = 12, longest: int = 90) -> Groups:
    """Token ids of prompts with one to five responses each, of very different lengths."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        prompt = Message(role="user", content=say(draw, draw.randint(1, 60)))
        talks = [
            (prompt, Message(role="assistant", content=say(draw, draw.randint(1, longest))))
            for _ in range(draw.choice([1, 2, 2, 5]))
        ]
        made.append([r.tokens for r in engine.text.conversations(talks)])
    return made


def alone(folder: Path, given: Groups) -> list[float]:
    """Scores by plain transformers, one conversation at a time: what everything is held against."""
    import torch
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return [float(model(input_ids=torch.tensor([t])).logits[0, 0]) for group in given for t in group]


def scores(engine: Transformers, given: Sequence[Sequence[list[int]]]) -> list[float]:
    return [float(array[0]) for group in engine.logits(given) for array in group]


MODES = {
    "llama": "packed",
    "qwen3": "packed",
    "gemma3": "packed",
    "mistral": "packed",
    "gpt2": "packed",
    "gemma2": "padded",
    "deberta": "padded",
    "bert": "padded",
}


@pytest.mark.parametrize("architecture", MODES)
def test_scores_are_those_of_one_conversation_at_a_time(architecture: str) -> None:
    folder = models.classifier(architecture)
    engine = opened(folder)
    given = groups(engine)
    reference = alone(folder, given)
    got = scores(engine, given)
    assert engine.mode == MODES[architecture]
    assert engine.settings["attention"].startswith(engine.mode)
    assert bool(engine.notes) == (engine.mode == "padded"), "a fallback is said"
    assert np.std(reference) > 0.05
    np.testing.assert_allclose(got, reference, rtol=1e-5, atol=1e-5)
    assert list(np.argsort(got)) == list(np.argsort(reference))


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "deberta"])
@pytest.mark.parametrize("budget", [64, 300, 5000])
@pytest.mark.parametrize("side", ["left", "right"])
def test_neither_batch_size_nor_padding_side_matters(architecture: str, budget: int, side: str) -> None:
    folder = models.classifier(architecture)
    whole = opened(folder)
    given = groups(whole, seed=1)
    engine = opened(folder, batch_tokens=budget, share_prefix=False)
    engine.padding = side
    np.testing.assert_allclose(scores(engine, given), scores(whole, given), atol=1e-4)
    shared = opened(folder, batch_tokens=budget)
    np.testing.assert_allclose(scores(shared, given), scores(whole, given), atol=1e-4)


@pytest.mark.parametrize(
    ("pad", "config_pad"),
    [(None, None), ("<|im_end|>", 4), ("<|im_end|>", None), ("<pad>", 212)],
    ids=["none", "eos", "eos, not in the config", "the line break that ends every conversation"],
)
@pytest.mark.parametrize("share", [True, False])
def test_pad_token_missing_or_what_a_conversation_ends_with(
    tmp_path: Path, pad: str | None, config_pad: int | None, share: bool
) -> None:
    plain = models.classifier("llama")
    given = groups(opened(plain), seed=2)
    assert all(t[-2:] == [4, 212] for g in given for t in g)
    folder = tmp_path / "odd"
    shutil.copytree(plain, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": config_pad}))
    models.tokenizer(pad=pad).save_pretrained(folder)
    odd = opened(folder, share_prefix=share)
    assert odd.mode == ("packed" if share else "padded")
    np.testing.assert_allclose(scores(odd, given), alone(plain, given), atol=1e-4)


def test_nothing_is_computed_twice() -> None:
    engine = opened(models.classifier("llama"), batch_tokens=256)
    given = groups(engine, seed=3, count=30)
    engine.info.update(tokens_computed=0, tokens_unique=0, tokens_read=0)
    got = scores(engine, given)
    unique = 0
    for group in given:
        shared = common_prefix(group) if len(group) > 1 else 0
        shared = min([shared, *(len(t) - 1 for t in group)])
        unique += shared + sum(len(t) - shared for t in group)
    assert engine.info["tokens_unique"] == unique
    assert engine.info["tokens_computed"] <= 1.05 * unique
    assert engine.info["tokens_read"] == sum(len(t) for g in given for t in g) > 1.2 * unique
    twice = [[*group, group[0]] for group in given]
    engine.info.update(tokens_computed=0)
    again = scores(engine, twice)
    assert engine.info["tokens_computed"] == unique, "equal conversations are computed once"
    assert len(again) == len(got) + len(given)


def test_rows_stay_within_the_budget_and_a_longer_conversation_runs_alone() -> None:
    draw = random.Random(0)
    start = [draw.randrange(600) for _ in range(40)]
    given = [
        [prefix.Conversation(start + [draw.randrange(600) for _ in range(n)], 40 + n - 1) for n in (10, 300, 50, 7)],
        [prefix.Conversation([draw.randrange(600) for _ in range(n)], n - 1) for n in (90, 20)],
        [prefix.Conversation([3], 0)],
    ]
    rows = list(prefix.plan(given, 128))
    for row in rows:
        assert sum(len(s.tokens) for s in row) <= 128 or len(row) == 1
    assert sum(len(s.tokens) for row in rows for s in row) == 40 + 10 + 300 + 50 + 7 + 90 + 20 + 1
    seen = {(s.group, s.member): given[s.group][0].tokens[: s.begin] + s.tokens for row in rows for s in row}
    assert seen == {(g, m): c.tokens for g, group in enumerate(given) for m, c in enumerate(group)}
    assert rows == list(prefix.plan(given, 128))


def test_a_group_spread_over_rows_keeps_its_prefix() -> None:
    folder = models.classifier("llama")
    engine = opened(folder, batch_tokens=64)
    draw = random.Random(5)
    start = [draw.randrange(20, 600) for _ in range(50)]
    given = [[start + [draw.randrange(20, 600) for _ in range(n)] for n in (5, 30, 60, 100, 3, 9)] for _ in range(3)]
    engine.info.update(tokens_computed=0)
    np.testing.assert_allclose(scores(engine, given), alone(folder, given), atol=1e-5)
    assert engine.info["tokens_computed"] == 3 * 50 + sum(len(t) - 50 for g in given for t in g)


@pytest.mark.parametrize("architecture", ["mistral", "gemma3"])
def test_beyond_a_sliding_window_prefixes_are_not_shared(architecture: str) -> None:
    folder = models.classifier(architecture)
    engine = opened(folder, batch_tokens=1024)
    given = groups(engine, seed=4, longest=250)
    assert max(len(t) for g in given for t in g) > 2 * 128
    assert any(all(len(t) <= 128 for t in g) for g in given)
    np.testing.assert_allclose(scores(engine, given), alone(folder, given), atol=2e-5)


def test_the_same_block_gives_the_same_bits_whatever_ran_before() -> None:
    for share in (True, False):
        engine = opened(models.classifier("llama"), share_prefix=share)
        first, other = groups(engine, seed=6), groups(engine, seed=7)
        before = scores(engine, first)
        scores(engine, other)
        assert scores(engine, first) == before
        fresh = opened(models.classifier("llama"), share_prefix=share)
        scores(fresh, other[:3])
        assert scores(fresh, first) == before


def test_bfloat16_is_near_and_makes_no_grid() -> None:
    folder = models.classifier("llama")
    engine = opened(folder, dtype="bfloat16")
    given = groups(engine, seed=8)
    reference = alone(folder, given)
    got = scores(engine, given)
    assert engine.mode == "packed"
    assert 0 < np.abs(np.array(got) - reference).max() < 0.2
    assert any(float(np.float32(g)) != g or np.float32(g).view(np.uint32) & 0xFFFF for g in got), "the head is float32"


def test_nan_comes_back_as_nan(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "nan"
    shutil.copytree(models.classifier("llama"), folder)
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    engine = opened(folder)
    assert all(np.isnan(scores(engine, groups(engine, count=3))))


# --- the self-check ---


def test_an_attention_made_to_differ_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = prefix.attention

    def wrong(module: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        out, _ = real(module, query, key, value, *args, **kwargs)
        return out * 1.01, None

    monkeypatch.setattr(prefix, "attention", lambda *a, **k: wrong(*a, **k) if prefix._row.get() else real(*a, **k))
    folder = models.classifier("llama")
    engine = opened(folder)
    assert engine.mode == engine.settings["attention"] == "padded"
    assert any("packed differs by" in n and "not used" in n for n in engine.notes)
    given = groups(engine)
    np.testing.assert_allclose(scores(engine, given), alone(folder, given), atol=1e-5)


@pytest.mark.parametrize("kind", ["blocks", "parts"])
@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("before", [0, 5, 64, 130])
def test_attention_by_some_queries_at_a_time_is_causal_attention(kind: str, tokens: int, before: int) -> None:
    import torch

    draw = torch.Generator().manual_seed(tokens + before)
    query = torch.randn(1, 4, before + tokens, 16, generator=draw)
    key, value = (torch.randn(1, 2, before + tokens, 16, generator=draw) for _ in range(2))
    attend = torch.nn.functional.scaled_dot_product_attention
    want = attend(query, key, value, is_causal=True, enable_gqa=True, scale=0.2)
    got = prefix.ATTEND[kind](query[:, :, before:], key, value, 0.2)
    assert got.shape == (1, 4, tokens, 16)
    assert torch.allclose(got, want[:, :, before:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["blocks", "parts"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3"])
def test_attention_by_some_queries_at_a_time_changes_no_score(
    kind: str, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onednn, "suits_blocks", lambda dtype: kind == "blocks")
    folder = models.classifier(architecture)
    engine = opened(folder)
    given = groups(engine)
    assert engine.settings["attention"] == f"packed, last layer at the ends only, {kind} of queries"
    reference = alone(folder, given)
    # against float64 the reference itself is off by 7e-7 of its largest score
    near = 1e-6 if kind == "blocks" else 1e-6 * np.abs(reference).max()
    assert np.allclose(scores(engine, given), reference, rtol=1e-5, atol=near)


@pytest.mark.parametrize("kind", ["blocks", "parts"])
def test_attention_by_some_queries_at_a_time_that_differs_is_not_used(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = prefix.ATTEND[kind]
    monkeypatch.setattr(onednn, "suits_blocks", lambda dtype: kind == "blocks")
    monkeypatch.setitem(prefix.ATTEND, kind, lambda *args: 1.5 * real(*args))
    folder = models.classifier("llama")
    engine = opened(folder)
    assert engine.settings["attention"] == "packed, last layer at the ends only"
    assert any(f"{kind} differs by" in note for note in engine.notes)
    given = groups(engine)
    assert np.allclose(scores(engine, given), alone(folder, given), rtol=1e-5, atol=1e-6)


def test_a_model_whose_own_forward_pass_differs_runs_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    real = transformers.LlamaForSequenceClassification.forward

    def gated(self: Any, *args: Any, **kwargs: Any) -> Any:
        out = real(self, *args, **kwargs)
        out.logits = out.logits.tanh() * 3 + 1
        return out

    monkeypatch.setattr(transformers.LlamaForSequenceClassification, "forward", gated)
    folder = models.classifier("llama")
    engine = opened(folder)
    assert engine.mode == "single"
    given = groups(engine, count=4)
    np.testing.assert_allclose(scores(engine, given), alone(folder, given), atol=1e-5)


def test_positions_scaled_by_the_batch_run_one_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "dynamic"
    shutil.copytree(models.classifier("llama"), folder)
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 64}))
    engine = opened(folder)
    assert engine.mode == "single"
    assert any("longest text of a batch" in n for n in engine.notes)


# --- packed weights ---


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2", "deberta"])
def test_packed_weights_change_no_score(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no oneDNN products")
    monkeypatch.setattr(onednn, "suits", lambda _: False)
    plain = opened(models.classifier(architecture))
    monkeypatch.setattr(onednn, "suits", lambda _: True)
    packed = opened(models.classifier(architecture))
    assert plain.settings["linear"] == "torch"
    assert packed.settings["linear"] == ("torch" if architecture == "gpt2" else "onednn, packed")
    assert packed.mode == plain.mode
    given = groups(plain, seed=10)
    np.testing.assert_allclose(scores(packed, given), scores(plain, given), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 600), (3, 200), (1, 256), (1, 1)])
def test_a_packed_mlp_takes_any_number_of_rows(shape: tuple[int, int]) -> None:
    import torch

    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no oneDNN products")
    model = opened(models.classifier("llama")).model
    (mlp,) = [m for m in model.modules() if onednn._gated(m)][:1]
    again = type(mlp)(model.config).eval()
    holder = torch.nn.Module()
    holder.base_model = again
    x = torch.randn(*shape, model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = again(x)
        assert onednn.pack(holder) == 3
        assert "forward" in vars(again), "the whole is packed, not its three products"
        torch.testing.assert_close(again(x), before, atol=1e-5, rtol=1e-5)


def test_a_layer_whose_packed_form_differs_stays_as_it_is() -> None:
    import torch

    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate_proj, self.up_proj, self.down_proj = (torch.nn.Linear(8, 8) for _ in range(3))
            self.act_fn = torch.nn.SiLU()

        def forward(self, x: Any) -> Any:
            return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x) * 1.5)

    odd = Odd().eval()
    x = torch.randn(1, 5, 8)
    with torch.inference_mode():
        before = odd(x)
        holder = torch.nn.Module()
        holder.base_model = odd
        assert onednn.pack(holder) == 3, "its three products, not the whole"
        assert not holder.base_model.up_proj.weight.numel()
        torch.testing.assert_close(odd(x), before)


# --- memory ---


class _Full:
    """Raises as torch does once more than ``limit`` tokens are computed at a time."""

    def __init__(self, engine: Transformers, limit: int) -> None:
        self.real = engine._hidden
        self.limit = limit
        self.raised = 0

    def __call__(self, ids: Any, mask: Any, positions: Any) -> Any:
        import torch

        if ids.numel() > self.limit:
            self.raised += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is.")
        return self.real(ids, mask, positions)


@pytest.mark.parametrize("share", [True, False])
def test_out_of_memory_halves_the_budget_and_goes_on(monkeypatch: pytest.MonkeyPatch, share: bool) -> None:
    engine = opened(models.classifier("llama"), batch_tokens=2048, share_prefix=share)
    given = groups(engine, seed=9)
    calm = scores(engine, given)
    full = _Full(engine, 600)
    monkeypatch.setattr(engine, "_hidden", full)
    np.testing.assert_allclose(scores(engine, given), calm, atol=1e-5)
    assert full.raised == 2
    assert engine.info["batch_tokens_after_oom"] == 512
    assert any("halved to 512" in n for n in engine.notes)
    scores(engine, given)
    assert full.raised == 2, "the smaller budget stays"


def test_out_of_memory_at_the_smallest_budget_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(models.classifier("llama"))
    given = groups(engine)
    monkeypatch.setattr(engine, "_hidden", _Full(engine, 0))
    with pytest.raises(RuntimeError, match="out of memory"):
        scores(engine, given)


def test_other_errors_are_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(models.classifier("llama"))
    given = groups(engine)

    def broken(*_: Any) -> Any:
        raise RuntimeError("expected scalar type Float")

    monkeypatch.setattr(engine, "_hidden", broken)
    with pytest.raises(RuntimeError, match="expected scalar type"):
        scores(engine, given)


# --- language models ---


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma2", "gemma3", "gpt2"])
def test_log_probabilities_are_those_of_the_plain_model(architecture: str) -> None:
    import torch
    import transformers

    folder = models.causal(architecture)
    engine = opened(folder, task="text")
    draw = random.Random(0)
    talks = []
    for _ in range(6):
        prompt = Message(role="user", content=say(draw, draw.randint(1, 40)))
        answers = [say(draw, draw.randint(1, 60)) for _ in range(3)]
        talks.append([(prompt, Message(role="assistant", content=a)) for a in answers])
    rendered = [engine.text.conversations(t, starts=True) for t in talks]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        for group, got in zip(
            rendered, engine.logprobs([[(r.tokens, r.start) for r in g] for g in rendered]), strict=True
        ):
            for r, array in zip(group, got, strict=True):
                logp = torch.log_softmax(model(torch.tensor([r.tokens])).logits[0].float(), -1)
                places = torch.arange(r.start - 1, len(r.tokens) - 1)
                np.testing.assert_allclose(array, logp[places, torch.tensor(r.tokens[r.start :])], atol=2e-5)
        prompts = [p.tokens for g in talks for p in engine.text.prompts([t[:-1] for t in g])]
        wanted = [[i, 5, 600 - i] for i in range(len(prompts))]
        for tokens, ids, array in zip(prompts, wanted, engine.next_token(prompts, wanted), strict=True):
            logp = torch.log_softmax(model(torch.tensor([tokens])).logits[0, -1].float(), -1)
            np.testing.assert_allclose(array, logp[ids], atol=2e-5)


def test_log_probabilities_of_a_long_text_are_made_a_few_positions_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(models.causal("llama"), task="text")
    tokens = [random.Random(0).randrange(600) for _ in range(300)]
    calm = next(engine.logprobs([[(tokens, 1)]]))[0]
    seen: list[int] = []
    real = engine.project

    def watched(hidden: Any) -> Any:
        seen.append(len(hidden))
        return real(hidden)

    monkeypatch.setattr(engine, "project", watched)
    monkeypatch.setattr(transformers_, "PROJECTED", 640 * 32)
    np.testing.assert_allclose(next(engine.logprobs([[(tokens, 1)]]))[0], calm, atol=1e-6)
    assert max(seen) == 32
    assert sum(seen) == 299


def test_log_probabilities_need_something_before_them() -> None:
    engine = opened(models.causal("llama"), task="text")
    with pytest.raises(ValueError, match="the first has no probability"):
        engine.logprobs([[([1, 2, 3], 0)]])


def test_two_orders_of_a_judge_share_their_beginning() -> None:
    engine = opened(models.causal("llama"), task="text")
    draw = random.Random(0)
    start = [draw.randrange(600) for _ in range(60)]
    prompts = [start + [draw.randrange(600) for _ in range(10)] for _ in range(2)]
    engine.info.update(tokens_computed=0)
    list(engine.next_token(prompts, [[1]] * 2))
    assert engine.info["tokens_computed"] == 80


def requests(engine: Transformers, count: int = 8, **more: Any) -> list[Request]:
    draw = random.Random(1)
    prompts = [
        engine.text.prompts([[Message(role="user", content=say(draw, draw.randint(1, 40)))]])[0] for _ in range(count)
    ]
    return [Request(p.tokens, seed=i, max_tokens=12, **more) for i, p in enumerate(prompts)]


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gemma3"])
def test_greedy_generation_is_that_of_transformers(architecture: str) -> None:
    import torch
    import transformers

    folder = models.causal(architecture)
    engine = opened(folder, task="text")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    asked = requests(engine)
    for request, (made,) in zip(asked, engine.generate(asked), strict=True):
        ids = torch.tensor([request.tokens])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, pad_token_id=0
        )
        assert made.text == engine.tokenizer.decode(out[0, len(request.tokens) :], skip_special_tokens=True)


def test_samples_depend_on_their_seed_and_number_not_on_their_batch() -> None:
    engine = opened(models.causal("llama"), task="text")
    asked = requests(engine, samples=3, temperature=1.0, top_p=0.95)
    together = list(engine.generate(asked))
    assert [next(engine.generate([r])) for r in asked] == together
    assert list(engine.generate(asked[::-1]))[::-1] == together
    assert [len(m) for m in together] == [3] * len(asked)
    assert len({m.text for m in together[0]}) > 1, "samples differ"
    first = list(engine.generate([r._replace(samples=1) for r in asked]))
    assert [m[0] for m in first] == [m[0] for m in together]
    other = list(engine.generate([r._replace(seed=r.seed + 100) for r in asked]))
    assert other != together


def test_samples_follow_the_models_distribution() -> None:
    engine = opened(models.causal("llama"), task="text")
    (request,) = requests(engine, count=1, samples=400, temperature=1.0)
    made = next(engine.generate([request._replace(max_tokens=1)]))
    p = np.exp(next(engine.next_token([request.tokens], [list(range(640))])))
    assert p.sum() == pytest.approx(1, abs=1e-5)
    texts = [engine.tokenizer.decode([i], skip_special_tokens=True) for i in range(640)]
    top = max((i for i in range(640) if texts.count(texts[i]) == 1), key=lambda i: p[i])
    spelled = texts[top]
    share = np.mean([m.text == spelled and m.tokens == 1 for m in made])
    assert abs(share - p[top]) < 4 * np.sqrt(p[top] * (1 - p[top]) / 400)
    narrow = next(engine.generate([request._replace(max_tokens=1, top_p=1e-6, samples=20)]))
    assert {m.text for m in narrow} == {texts[int(p.argmax())]}


def test_generation_goes_on_in_halves_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(models.causal("llama"), task="text")
    asked = requests(engine, samples=2, temperature=1.0)
    calm = list(engine.generate(asked))
    real, sizes = engine.step, []

    def step(ids: Any, *rest: Any) -> Any:
        sizes.append(len(ids))
        if len(ids) > 4:
            raise RuntimeError("CUDA out of memory")
        return real(ids, *rest)

    monkeypatch.setattr(engine, "step", step)
    assert list(engine.generate(asked)) == calm
    assert max(sizes) > 4
    assert any("halved" in n for n in engine.notes)


def test_stop_texts_end_a_sample_and_are_left_out() -> None:
    engine = opened(models.causal("llama"), task="text")
    (request,) = requests(engine, count=1)
    (free,) = next(engine.generate([request]))
    stop = free.text[4:6]
    (made,) = next(engine.generate([request._replace(stop=(stop, "never seen"))]))
    assert made.text == free.text[: free.text.index(stop)]
    assert made.finish == "stop"
    assert made.tokens < free.tokens
    assert free.finish == "length"


# --- what cannot be opened ---


def test_a_generative_checkpoint_has_no_head() -> None:
    with pytest.raises(BadModel, match=r"hold no 'score.weight'.*random"):
        opened(models.causal("llama"))


def test_a_checkpoints_own_code_runs_only_when_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    plain = models.classifier("llama")
    folder = tmp_path / "own_code"
    shutil.copytree(plain, folder)
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "own"
    config["auto_map"] = {
        "AutoConfig": "own.OwnConfig",
        "AutoModelForSequenceClassification": "own.OwnForSequenceClassification",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(
        "from pathlib import Path\n"
        "from transformers import AutoModel, LlamaConfig, LlamaForSequenceClassification, LlamaModel\n"
        f"Path({str(tmp_path / 'it-ran')!r}).touch()\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaModel):\n    config_class = OwnConfig\n"
        "AutoModel.register(OwnConfig, OwnModel)\n"
        "class OwnForSequenceClassification(LlamaForSequenceClassification):\n    config_class = OwnConfig\n"
        "    def forward(self, *args, **kwargs):\n        out = super().forward(*args, **kwargs)\n"
        "        out.logits = 2 * out.logits\n        return out\n"
    )
    with pytest.raises(BadModel, match="brings its own code; add --trust-remote-code"):
        opened(folder)
    assert not (tmp_path / "it-ran").exists()
    engine = opened(folder, trust_remote_code=True)
    assert (tmp_path / "it-ran").exists()
    assert engine.mode == "single"
    assert engine.settings["remote_code"]
    given = groups(engine, count=3)
    np.testing.assert_allclose(scores(engine, given), 2 * np.array(alone(plain, given)), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype 'int8' is not one of"),
        ({"device": "tpu7"}, "device 'tpu7'"),
        ({"max_length": 0}, "max_length 0 is not a positive number"),
        ({"max_length": 5000}, "more than the 4096 tokens"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        opened(models.classifier("llama"), **options)


def test_settings_tell_what_can_change_a_score_apart() -> None:
    base = opened(models.classifier("llama")).settings
    for other in (
        opened(models.classifier("llama"), dtype="bfloat16"),
        opened(models.classifier("llama"), max_length=100),
        opened(models.classifier("llama"), batch_tokens=100),
        opened(models.classifier("llama"), share_prefix=False),
        opened(models.classifier("llama"), chat_template="zephyr"),
        opened(models.classifier("llama", seed=1)),
    ):
        assert other.settings != base
    assert opened(models.classifier("llama")).settings == base
    assert {"weights", "tokenizer", "chat_template", "dtype", "max_length", "attention", "threads", "torch"} <= set(
        base
    )
