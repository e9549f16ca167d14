"""Opens a checkpoint on the engine that was asked for: what all adapters of local models share."""

from __future__ import annotations

import importlib.util
from typing import Any, Literal, NamedTuple

from rmbench import checkpoints
from rmbench.adapters.options import Options
from rmbench.checkpoints import Checkpoint
from rmbench.engines.text import Text
from rmbench.errors import UsageError

ENGINES = ("transformers", "vllm")
_ANY = frozenset({"engine", "dtype", "max_length", "revision", "trust_remote_code", "chat_template", "threads"})
_TRANSFORMERS = frozenset({"device", "batch_tokens", "share_prefix"})
_VLLM = frozenset({"tensor_parallel", "gpu_memory"})
OPTIONS = _ANY | _TRANSFORMERS | _VLLM


class Opened(NamedTuple):
    """A checkpoint, the engine that runs it, and how conversations become its tokens."""

    checkpoint: Checkpoint
    engine: Any
    """An engines.Engine."""
    text: Text
    """Only where ``open_engine`` was asked for a template."""


def pick(options: Options, *, writes: bool = False) -> tuple[str, str]:
    """The engine for a local checkpoint, and why where that is no matter of course. ``writes``: long texts, which vLLM
    makes many times as fast on a GPU; all else stays on transformers, whose scores come out the same to the bit."""
    if options.engine:
        return options.engine, "as asked by --engine"
    if writes and not _TRANSFORMERS & options.given().keys() and importlib.util.find_spec("vllm") and _cuda():
        return "vllm", "installed here beside a GPU, and a judge writes much; --engine transformers for exact bits"
    return "transformers", ""


def _cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def open_engine(ref: str, options: Options, task: Literal["head", "text"], *, needs_template: bool = True) -> Opened:
    """``task``: ``head`` for a sequence classifier's outputs, ``text`` for log-probabilities and generation.
    Without ``needs_template`` the checkpoint may have no chat template, and there is no ``text``.

    Raises BadModel, MissingExtra, and UsageError for an option that the engine does not have.
    """
    name = options.engine or "transformers"
    if name not in ENGINES:
        raise UsageError(f"engine {name!r} does not run a checkpoint; choose {' or '.join(ENGINES)}")
    unused = sorted(set(options.given()) & (_VLLM if name == "transformers" else _TRANSFORMERS))
    if unused:
        raise UsageError(f"engine {name!r} does not use --{unused[0].replace('_', '-')}; leave it out")
    checkpoint = checkpoints.read(ref, revision=options.revision, trust_remote_code=options.trust_remote_code)
    if task == "head":
        checkpoints.want_scalar(checkpoint)
    else:
        checkpoints.want_generative(checkpoint)
    return (_vllm if name == "vllm" else _transformers)(checkpoint, options, task, needs_template)


def _transformers(checkpoint: Checkpoint, options: Options, task: str, needs_template: bool) -> Opened:
    from rmbench.engines import transformers_

    engine = transformers_.open(
        checkpoint,
        task=task,
        dtype=options.dtype,
        device=options.device,
        max_length=options.max_length,
        batch_tokens=options.batch_tokens,
        threads=options.threads,
        share_prefix=options.share_prefix,
        chat_template=options.chat_template,
        trust_remote_code=options.trust_remote_code,
        needs_template=needs_template,
    )
    text: Any = engine.text if needs_template else None
    return Opened(checkpoint, engine, text)


def _vllm(checkpoint: Checkpoint, options: Options, task: str, needs_template: bool) -> Opened:
    from rmbench.engines import vllm_

    engine = vllm_.open(
        checkpoint,
        task=task,
        dtype=options.dtype,
        max_length=options.max_length,
        threads=options.threads,
        chat_template=options.chat_template,
        trust_remote_code=options.trust_remote_code,
        tensor_parallel=options.tensor_parallel,
        gpu_memory=options.gpu_memory,
        needs_template=needs_template,
    )
    text: Any = engine.text if needs_template else None
    return Opened(checkpoint, engine, text)
