"""Every option an adapter or engine can take, by the name it has on the command line."""

from __future__ import annotations

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was asked for. ``None`` means: not given, the adapter chooses. An adapter refuses what it cannot use."""

    adapter: str | None = None
    engine: str | None = None
    """transformers, vllm or endpoint."""
    dtype: str | None = None
    """float32, bfloat16, float16; default: the engine's choice, recorded."""
    device: str | None = None
    max_length: int | None = None
    """Tokens of a whole conversation; longer ones lose the start, never the response's end."""
    revision: str | None = None
    trust_remote_code: bool = False
    chat_template: str | None = None
    """A file, or the name of a built-in one, for a tokenizer that has none."""
    batch_tokens: int | None = None
    threads: int | None = None
    share_prefix: bool | None = None
    seed: int = 0
    head: str | None = None
    """An output's number, a label's name, a preset, or ``name=weight,...``."""
    # judges
    judge_prompt: str | None = None
    parser: str | None = None
    orders: str | None = None
    """both (default) or one."""
    mode: str | None = None
    """pairwise, pointwise or n-way."""
    verdict: str | None = None
    """text (generate and parse) or probability (first decisive token)."""
    samples: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    # DPO
    ref_model: str | None = None
    beta: float | None = None
    reference_free: str | None = None
    """sum or mean."""
    # guards
    role: str | None = None
    # endpoint
    base_url: str | None = None
    concurrency: int | None = None
    rate: float | None = None
    """Requests per second."""
    retries: int | None = None
    timeout: float | None = None
    prices: str | None = None
    """FILE of prices, or ``input,output`` per million tokens."""
    # vLLM
    tensor_parallel: int | None = None
    gpu_memory: float | None = None
    # jury
    weights: str | None = None
    results: str | None = None
    """Where a jury finds finished runs."""
    suite: str | None = None

    def given(self) -> dict[str, object]:
        """The options that differ from the defaults."""
        blank = Options()
        return {f: getattr(self, f) for f in self.__struct_fields__ if getattr(self, f) != getattr(blank, f)}
