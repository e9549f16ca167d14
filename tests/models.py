"""Tiny seeded checkpoints with tokenizer and chat template, made once per test session in a temporary folder.

``classifier("llama")``, ``causal("qwen3")`` and so on give a folder; the same arguments give the same folder.
Use it from a test as ``import models``.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "llama-3": LLAMA3, "no-system": NO_SYSTEM}
SPECIAL = (
    "<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<start_of_turn>", "<end_of_turn>", "[CLS]", "[SEP]", "[MASK]", "<unk>",
)  # fmt: skip
TEXT = """The quick brown fox jumps over the lazy dog while the user asks the assistant a question about prime numbers.
Write a short function that returns the sum of a list: def total(numbers): return sum(numbers). Is it safe? Yes, it is.
I cannot help with that request, but here is a better answer. Which response is better, A or B? The answer is 42.
Explain step by step: first add 17 and 25, then divide by 6; therefore the result is 7. Thank you, have a nice day!
"""
ARCHITECTURES = ("llama", "qwen3", "gemma2", "gemma3", "mistral", "gpt2", "deberta", "bert")


@functools.cache
def _root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="rmbench-models-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


def tokenizer(
    template: str | None = "chatml",
    *,
    pad: str | None = "<pad>",
    eos: str = "<|im_end|>",
    bos: bool = False,
    cls: bool = False,
) -> Any:
    """A byte-level BPE tokenizer of 600 entries. ``bos`` adds ``<s>`` by itself, as Llama's does; ``cls`` adds
    ``[CLS]`` and ``[SEP]``, as BERT's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator([TEXT], trainer)
    if bos:
        raw.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", raw.token_to_id("<s>"))]
        )
    if cls:
        raw.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(t, raw.token_to_id(t)) for t in ("[CLS]", "[SEP]")],
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token=eos, pad_token=pad, unk_token="<unk>", model_max_length=4096,
        cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        additional_special_tokens=[s for s in SPECIAL if s.startswith(("<|", "<start", "<end"))],
    )  # fmt: skip
    made.chat_template = TEMPLATES.get(template or "", template)
    return made


def config(architecture: str, **changes: Any) -> Any:
    """A config of about 100,000 parameters: hidden 48, 3 layers, 4 heads with 2 for keys and values."""
    import transformers as tf

    sizes: dict[str, Any] = {
        "vocab_size": 640, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": 4096, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 4, "initializer_range": 0.15,
    }  # fmt: skip
    encoder = {k: v for k, v in sizes.items() if k not in ("num_key_value_heads", "head_dim")} | {
        "max_position_embeddings": 512
    }
    # sliding windows wide enough that short texts are full attention, narrow enough that a long text is not
    made: dict[str, Any] = {
        "llama": (tf.LlamaConfig, sizes),
        "qwen3": (tf.Qwen3Config, sizes),
        "mistral": (tf.MistralConfig, sizes | {"sliding_window": 128}),
        "gemma2": (tf.Gemma2Config, sizes | {"sliding_window": 128, "query_pre_attn_scalar": 12}),
        "gemma3": (tf.Gemma3TextConfig, sizes | {"sliding_window": 128, "query_pre_attn_scalar": 12}),
        "gpt2": (tf.GPT2Config, {
            "vocab_size": 640, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 4096, "pad_token_id": 0,
            "bos_token_id": 1, "eos_token_id": 4, "initializer_range": 0.15,
        }),
        "deberta": (tf.DebertaV2Config, encoder | {
            "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
            "type_vocab_size": 0, "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_buckets": 64,
        }),
        "bert": (tf.BertConfig, encoder),
    }  # fmt: skip
    kind, values = made[architecture]
    return kind(**(values | changes))


@functools.cache
def classifier(
    architecture: str = "llama", *, labels: int = 1, seed: int = 0, template: str | None = "chatml",
    pad: str | None = "<pad>", eos: str = "<|im_end|>", bos: bool = False, config_pad: int | None = 0,
    names: tuple[str, ...] = (), changes: tuple[tuple[str, Any], ...] = (),
) -> Path:  # fmt: skip
    """A folder with an ``AutoModelForSequenceClassification`` checkpoint whose scores spread (s.d. near 1)."""
    import torch
    import transformers as tf

    more: dict[str, Any] = {"num_labels": labels, "pad_token_id": config_pad, **dict(changes)}
    if names:
        more["id2label"] = dict(enumerate(names))
        more["label2id"] = {n: i for i, n in enumerate(names)}
        del more["num_labels"]
    folder = _folder("classifier", architecture, labels, seed, template, pad, eos, bos, config_pad, names, changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = tf.AutoModelForSequenceClassification.from_config(config(architecture, **more), dtype=torch.float32)
        head = getattr(model, "score", None) or model.classifier
        torch.nn.init.normal_(head.weight, std=0.3)
    model.save_pretrained(folder)
    cls = architecture in ("deberta", "bert")
    tokenizer(template, pad=pad, eos=eos, bos=bos, cls=cls).save_pretrained(folder)
    return folder


@functools.cache
def causal(
    architecture: str = "llama", *, seed: int = 0, template: str | None = "chatml", pad: str | None = "<pad>",
    eos: str = "<|im_end|>", bos: bool = False, changes: tuple[tuple[str, Any], ...] = (),
) -> Path:  # fmt: skip
    """A folder with an ``AutoModelForCausalLM`` checkpoint."""
    import torch
    import transformers as tf

    folder = _folder("causal", architecture, seed, template, pad, eos, bos, changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = tf.AutoModelForCausalLM.from_config(config(architecture, **dict(changes)), dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer(template, pad=pad, eos=eos, bos=bos).save_pretrained(folder)
    return folder


def _folder(*key: Any) -> Path:
    import hashlib

    name = "-".join(str(k) for k in key[:2])
    return _root() / f"{name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:8]}"


@functools.cache
def gguf(folder: Path, *, cut: int = 0) -> Path:
    """The Llama checkpoint in ``folder`` as a GGUF file with float32 tensors, a head included, as llama.cpp names them.
    ``cut``: bytes taken off its end."""
    import json

    import numpy as np
    from gguf import MODEL_ARCH, GGUFWriter, TokenType, get_tensor_name_map
    from safetensors.numpy import load_file

    said = json.loads((folder / "config.json").read_text())
    spoken = json.loads((folder / "tokenizer.json").read_text())
    file = _root() / f"{folder.name}-{cut}" / "model.gguf"
    file.parent.mkdir()
    writer = GGUFWriter(file, "llama")
    writer.add_block_count(said["num_hidden_layers"])
    writer.add_context_length(said["max_position_embeddings"])
    writer.add_embedding_length(said["hidden_size"])
    writer.add_feed_forward_length(said["intermediate_size"])
    writer.add_head_count(said["num_attention_heads"])
    writer.add_head_count_kv(said["num_key_value_heads"])
    writer.add_rope_dimension_count(said["head_dim"])
    writer.add_layer_norm_rms_eps(said["rms_norm_eps"])
    writer.add_rope_freq_base(said["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(said["vocab_size"])
    vocabulary = sorted(spoken["model"]["vocab"].items(), key=lambda pair: pair[1])
    control = {t["id"] for t in spoken["added_tokens"] if t["special"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    unused = range(len(vocabulary), said["vocab_size"])  # a GGUF file has a token for each row of the embedding
    writer.add_token_list([*(token for token, _ in vocabulary), *(f"[unused-{i}]" for i in unused)])
    kinds = [TokenType.CONTROL if i in control else TokenType.NORMAL for _, i in vocabulary]
    writer.add_token_types([*kinds, *(TokenType.UNUSED for _ in unused)])
    writer.add_token_merges([" ".join(pair) for pair in spoken["model"]["merges"]])
    for name, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("pad", writer.add_pad_token_id),
    ):
        add(said[f"{name}_token_id"])
    writer.add_chat_template((folder / "chat_template.jinja").read_text())
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, said["num_hidden_layers"])
    for name, tensor in load_file(folder / "model.safetensors").items():
        stem = name.removesuffix(".weight")
        known = "cls.output" if stem == "score" else names.get_name(stem)
        for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if stem.endswith(part):  # llama.cpp turns pairs of neighbouring places, not halves
                tensor = tensor.reshape(said[heads], 2, -1, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)
        writer.add_tensor(f"{known}.weight", np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if cut:
        file.write_bytes(file.read_bytes()[:-cut])
    return file
