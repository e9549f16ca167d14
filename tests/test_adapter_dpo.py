import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import models
from rmbench import adapters, store
from rmbench.adapters import dpo
from rmbench.adapters.dpo import Dpo, same_tokenizer
from rmbench.adapters.options import Options
from rmbench.adapters.running import Opened
from rmbench.checkpoints import read
from rmbench.core import Item, Message, Rules, Suite
from rmbench.engines.text import Text
from rmbench.errors import BadModel, UsageError
from rmbench.loop import evaluate

torch = pytest.importorskip("torch", reason="needs the [hf] extra")


def item(name: str, prompt: str, *responses: str) -> Item:
    grades = (1.0, *[0.0] * (len(responses) - 1))
    turns = (Message(role="user", content=prompt),)
    return Item(id=name, subset="s", prompt=turns, responses=responses, grades=grades)


ITEMS = [
    item("a", "Is it safe?", "Yes, it is.", "No."),
    item("b", "Write a short function.", "def total(numbers): return sum(numbers)", "The quick brown fox."),
    item("c", "Which response is better?", "A", "B", "The answer is 42."),
    item("d", "Say nothing.", "", "Thank you, have a nice day!"),
    item("e", "One response only.", "I cannot help with that request."),
]


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    return str(models.causal(request.param)), str(models.causal(request.param, seed=1))


def by_hand(folder: str, tokens: list[int], start: int) -> float:
    """Sum of log-probabilities of tokens[start:], one conversation at a time, in float64 after the model."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([tokens])).logits[0].double()
    logprobs = torch.log_softmax(logits, -1)
    return sum(float(logprobs[i - 1, tokens[i]]) for i in range(start, len(tokens)))


def tokens_by_hand(tokenizer: Any, prompt: str, response: str) -> tuple[list[int], int]:
    asked = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    before = tokenizer(asked, add_special_tokens=False)["input_ids"]
    return before + tokenizer(f"{response}<|im_end|>\n", add_special_tokens=False)["input_ids"], len(before)


def test_the_score_is_beta_times_the_log_ratio_of_the_response_tokens(pair: tuple[str, str]) -> None:
    policy, reference = pair
    adapter = adapters.open(policy, Options(adapter="dpo", ref_model=reference, beta=0.3, threads=1))
    judged = {j.item_id: j for j in adapter.judge(ITEMS)}
    tokenizer = models.tokenizer()
    for one in ITEMS:
        for i, response in enumerate(one.responses):
            tokens, start = tokens_by_hand(tokenizer, one.prompt[0].content, response)
            p, r = by_hand(policy, tokens, start), by_hand(reference, tokens, start)
            judgment = judged[one.id]
            assert judgment.scores is not None
            assert judgment.scores[i] == pytest.approx(0.3 * (p - r), abs=1e-4)
            assert judgment.meta["policy"][i] == pytest.approx(p, abs=1e-3)
            assert judgment.meta["reference"][i] == pytest.approx(r, abs=1e-3)
            assert judgment.meta["response_tokens"][i] == len(tokens) - start
    adapter.close()  # type: ignore[attr-defined]


def test_a_policy_that_is_its_own_reference_scores_exactly_zero(pair: tuple[str, str]) -> None:
    adapter = adapters.open(pair[0], Options(ref_model=pair[0], threads=1))
    assert all(s == 0.0 for j in adapter.judge(ITEMS) for s in j.scores or (1.0,))


@pytest.mark.parametrize("variant", ["sum", "mean"])
def test_reference_free_ranks_by_the_policy_alone(pair: tuple[str, str], variant: str) -> None:
    adapter = adapters.open(pair[0], Options(reference_free=variant, threads=1))
    assert adapter.settings["variant"] == f"reference-free-{variant}"
    assert "beta" not in adapter.settings
    (judged,) = adapter.judge(ITEMS[:1])
    for i, response in enumerate(ITEMS[0].responses):
        tokens, start = tokens_by_hand(models.tokenizer(), "Is it safe?", response)
        expected = by_hand(pair[0], tokens, start) / (len(tokens) - start if variant == "mean" else 1)
        assert judged.scores is not None
        assert judged.scores[i] == pytest.approx(expected, abs=1e-3)


def test_exactly_one_bos_and_the_end_of_turn_token_counts() -> None:
    folder = models.causal("llama", template="llama-3", eos="<|eot_id|>", bos=True)
    adapter = adapters.open(str(folder), Options(reference_free="sum", threads=1))
    assert isinstance(adapter, Dpo)
    (rendered,) = adapter._text.conversations([ITEMS[0].conversation(0)], starts=True)
    spelled = adapter._text.show(rendered.tokens)
    assert spelled.count("<s>") == 1
    assert spelled[rendered.start :][-1] == "<|eot_id|>"
    assert "assistant" in "".join(spelled[: rendered.start])
    assert "".join(spelled[rendered.start : -1]).replace("Ġ", " ") == "Yes, it is."


def test_options_that_do_not_fit_are_refused(pair: tuple[str, str], tmp_path: Any) -> None:
    policy, reference = pair
    for options, said in (
        (Options(adapter="dpo"), "--ref-model REF"),
        (Options(reference_free="norm"), "use sum or mean"),
        (Options(reference_free="sum", ref_model=reference), "leave --ref-model"),
        (Options(reference_free="sum", beta=0.1), "leave --ref-model and --beta out"),
        (Options(ref_model=reference, beta=0.0), "positive"),
        (Options(ref_model=reference, beta=math.nan), "positive"),
        (Options(ref_model=reference, tensor_parallel=2), "does not use --tensor-parallel"),
        (Options(ref_model=str(tmp_path / "absent")), "no such folder"),
    ):
        with pytest.raises(UsageError, match=said):
            adapters.open(policy, options)
    with pytest.raises(BadModel, match="has a head and writes no text"):
        adapters.open(policy, Options(adapter="dpo", ref_model=str(models.classifier("llama"))))


def test_different_tokenizers_are_refused(tmp_path: Any) -> None:
    folder = models.causal("llama")
    renamed, rejoined, padded = tmp_path / "renamed", tmp_path / "rejoined", tmp_path / "padded"
    for to in (renamed, rejoined, padded):
        to.mkdir()
        for name in folder.iterdir():
            (to / name.name).write_bytes(name.read_bytes())
    said = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = said["model"]["vocab"]
    a, b = sorted(vocabulary, key=vocabulary.get)[300:302]
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
    (renamed / "tokenizer.json").write_text(json.dumps(said))
    said = json.loads((folder / "tokenizer.json").read_text())
    said["model"]["merges"] = said["model"]["merges"][::-1]
    (rejoined / "tokenizer.json").write_text(json.dumps(said))
    said = json.loads((folder / "tokenizer.json").read_text())
    said["truncation"] = {"direction": "Right", "max_length": 64, "strategy": "LongestFirst", "stride": 0}
    (padded / "tokenizer.json").write_text(json.dumps(said))
    with pytest.raises(BadModel, match="2 tokens have another id"):
        same_tokenizer(read(str(folder)), read(str(renamed)))
    with pytest.raises(BadModel, match="joined by other rules"):
        adapters.open(str(folder), Options(ref_model=str(rejoined)))
    same_tokenizer(read(str(folder)), read(str(padded)))


def test_settings_name_both_models_and_every_choice(pair: tuple[str, str]) -> None:
    policy, reference = pair
    first = adapters.open(policy, Options(ref_model=reference, threads=1)).settings
    assert first["beta"] == 0.1
    assert first["weights"] == read(policy).weights_hash()
    assert first["reference"]["weights"] == read(reference).weights_hash()
    json.dumps(first)
    for changed in (
        adapters.open(reference, Options(ref_model=policy, threads=1)),
        adapters.open(policy, Options(ref_model=policy, threads=1)),
        adapters.open(policy, Options(ref_model=reference, beta=0.2, threads=1)),
        adapters.open(policy, Options(reference_free="sum", threads=1)),
    ):
        assert changed.settings != first


@dataclass
class Fake:
    """An engine that gives every token the log-probability ``each``; knows whether it is open."""

    name: str
    log: list[str]
    each: float = -1.0
    fail_at: str | None = None
    exact: bool = True
    device: str = "cpu"
    settings: dict[str, Any] = field(default_factory=lambda: {"engine": "fake"})
    info: dict[str, Any] = field(default_factory=dict)

    def logprobs(self, groups: Any) -> Any:
        for group in groups:
            self.log.append(f"{self.name} {len(group)}")
            yield [np.full(len(tokens) - start, self.each, dtype=np.float32) for tokens, start in group]

    def close(self) -> None:
        self.log.append(f"close {self.name}")


def fake(log: list[str], **changes: Any) -> Dpo:
    text = Text(models.tokenizer())

    def load(name: str, each: float) -> Any:
        def opened() -> Opened:
            log.append(f"open {name}")
            return Opened(None, Fake(name, log, each, **changes), text)  # type: ignore[arg-type]

        return opened

    return Dpo({"policy": load("policy", -1.0), "reference": load("reference", -2.0)})


def test_policy_and_reference_are_never_held_together_and_each_is_loaded_once(tmp_path: Any) -> None:
    log: list[str] = []
    adapter = fake(log)
    blocks = [ITEMS[:2], ITEMS[2:]]
    adapter.prepare(blocks, tmp_path)
    judged = [j for block in blocks for j in adapter.judge(block)]
    adapter.close()
    order = [entry for entry in log if entry.startswith(("open", "close"))]
    assert order == ["open policy", "close policy", "open reference", "close reference"]
    for judgment in judged:
        assert judgment.scores == pytest.approx([0.1 * n for n in judgment.meta["response_tokens"]])


def test_what_was_prepared_is_not_done_again_and_a_torn_line_is(tmp_path: Any) -> None:
    blocks = [ITEMS[:2], ITEMS[2:]]
    whole = fake([])
    whole.prepare(blocks, tmp_path)
    (path,) = tmp_path.iterdir()
    bytes_of_whole = path.read_bytes()
    expected = [j for block in blocks for j in whole.judge(block)]
    lines = bytes_of_whole.splitlines(keepends=True)
    for kept, done_again in (
        (bytes_of_whole, []),
        (b"".join(lines[:-1]) + lines[-1][:10], ["policy 3", "policy 2", "policy 1"]),
        (b"".join(lines[:2]), ["policy 3", "policy 2", "policy 1"]),
        (lines[0], ["policy 2", "policy 2", "policy 3", "policy 2", "policy 1"]),
        (b"", ["policy 2", "policy 2", "policy 3", "policy 2", "policy 1"]),
    ):
        path.write_bytes(kept)
        log: list[str] = []
        again = fake(log)
        again.prepare(blocks, tmp_path)
        assert [entry for entry in log if entry.startswith("policy")] == done_again
        assert [j for block in blocks for j in again.judge(block)] == expected
        assert set(dpo.read(path)) == {i.content_hash() for i in ITEMS}


def test_sums_of_other_blocks_are_not_used_where_bits_are_promised(tmp_path: Any) -> None:
    fake([]).prepare([ITEMS[:2], ITEMS[2:]], tmp_path)
    for exact, done_again in ((True, 5), (False, 0)):
        log: list[str] = []
        again = fake(log, exact=exact)
        if not exact:
            again.prepare([ITEMS[:2], ITEMS[2:]], tmp_path / "other")
            log.clear()
        again.prepare([ITEMS], tmp_path if exact else tmp_path / "other")
        assert sum(entry.startswith("policy") for entry in log) == done_again


def test_another_policy_or_beta_does_not_use_these_sums(tmp_path: Any) -> None:
    fake([]).prepare([ITEMS], tmp_path)
    log: list[str] = []
    fake(log, settings={"engine": "fake", "weights": "other"}).prepare([ITEMS], tmp_path)
    assert "policy 2" in log
    assert len(list(tmp_path.iterdir())) == 2


def test_without_prepare_the_scores_are_the_same(tmp_path: Any, pair: tuple[str, str]) -> None:
    options = Options(ref_model=pair[1], threads=1)
    prepared, direct = adapters.open(pair[0], options), adapters.open(pair[0], options)
    prepared.prepare([ITEMS], tmp_path)  # type: ignore[attr-defined]
    assert list(prepared.judge(ITEMS)) == list(direct.judge(ITEMS))


def test_without_prepare_each_further_block_loads_one_model() -> None:
    log: list[str] = []
    adapter = fake(log)
    judged = [j for block in (ITEMS[:2], ITEMS[2:4], ITEMS[4:]) for j in adapter.judge(block)]
    opened = [entry for entry in log if entry.startswith("open")]
    assert opened == ["open policy", "open reference", "open policy", "open reference"]
    for judgment in judged:
        assert judgment.scores == pytest.approx([0.1 * n for n in judgment.meta["response_tokens"]])


def test_sums_of_items_tried_alone_are_not_those_of_their_block() -> None:
    log: list[str] = []
    adapter = fake(log)
    for item in ITEMS[:2]:
        list(adapter.judge([item]))
    log.clear()
    list(adapter.judge(ITEMS[:2]))
    assert sum(entry.startswith("policy") for entry in log) == 2


def test_a_log_probability_that_is_not_finite_is_an_error_of_its_item(tmp_path: Any) -> None:
    adapter = fake([])
    held = adapter._opened("policy").engine
    held.each = -math.inf
    adapter.prepare([ITEMS[:1]], tmp_path)
    (judgment,) = adapter.judge(ITEMS[:1])
    assert judgment.error == "the policy gives response 0 a log-probability of -inf"


def test_a_conversation_that_the_template_refuses_is_an_error_of_its_item() -> None:
    folder = models.causal("llama", template=models.CHATML.replace("{% for", "{% if messages[0].content == 'no' %}"
                           "{{ raise_exception('refused') }}{% endif %}{% for", 1))  # fmt: skip
    adapter = adapters.open(str(folder), Options(reference_free="sum", threads=1))
    good, bad = ITEMS[0], item("x", "no", "yes", "no")
    judged = list(adapter.judge([good, bad]))
    assert judged[0].scores is not None
    assert "refused" in (judged[1].error or "")


def test_what_is_cut_is_counted(pair: tuple[str, str]) -> None:
    adapter = adapters.open(pair[0], Options(reference_free="sum", max_length=24, threads=1))
    long = item("long", "word " * 60, "Yes.", "No. " * 30)
    (judgment,) = adapter.judge([long])
    assert judgment.truncated == 2
    assert judgment.meta["response_tokens"][1] == 23  # all that fits, less the first token, which nothing precedes


def suite() -> Suite:
    return Suite(
        name="dpo-test",
        version="1",
        about="",
        categories={"All": ("s",)},
        rules=Rules(name="test-1"),
        source="file:x",
        licence="none",
        citation="",
        items=tuple(item(f"i{n}", f"Question {n}?", f"Yes, {n}.", "No." * (n % 5 + 1)) for n in range(12)),
    )


def test_a_run_that_was_killed_ends_with_the_same_bytes(tmp_path: Any, pair: tuple[str, str]) -> None:
    def run(root: Any, kill: int | None = None) -> bytes:
        adapter = adapters.open(pair[0], Options(ref_model=pair[1], threads=1))
        adapter.block = 4  # type: ignore[attr-defined]
        if kill is not None:
            inner, count = adapter._measured, 0  # type: ignore[attr-defined]

            def dying(which: str, items: Any) -> Any:
                nonlocal count
                for sums in inner(which, items):
                    count += 1
                    if count > kill:
                        raise KeyboardInterrupt
                    yield sums

            adapter._measured = dying  # type: ignore[attr-defined]
        try:
            stored = evaluate(adapter, suite(), model="m", adapter_name="dpo", root=root)
        except KeyboardInterrupt:
            return b""
        return (stored.path / "judgments.jsonl").read_bytes()

    whole = run(tmp_path / "whole")
    assert whole
    for kill in (2, 9, 14):  # in the policy's first and third block, and in the reference's first
        assert run(tmp_path / f"killed-{kill}", kill) == b""
        assert run(tmp_path / f"killed-{kill}") == whole
    (path,) = store.find(tmp_path / "whole")
    assert store.read(path).run.settings["reference"]["weights"] == read(pair[1]).weights_hash()
