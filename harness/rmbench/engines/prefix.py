"""Packed rows in which a shared prompt is computed once: the plan, and the attention that goes with it.

Conversations are laid end to end in rows of a bounded number of tokens, without padding. Of a group that shares a
prompt, the first conversation stands whole; each other one brings only its own tokens, which attend to the first
one's prefix and to themselves. The prefix is the longest common *token* prefix, so tokenisation is never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple

from rmbench.engines import Tokens
from rmbench.engines.text import common_prefix

NAME = "rmbench_packed"
"""Under this name the attention is registered with transformers; outside a packed row it is plain SDPA."""

BLOCK = 64
"""Queries of a block, see ``in_blocks`` and ``in_parts``; in ``in_blocks`` lengths of keys are multiples of it."""

SHORTEST = 4
"""A common prefix of fewer tokens is not worth its bookkeeping."""


Attend = Callable[[Any, Any, Any, float], Any]
"""(1, heads, n, width) queries; (1, as many heads or fewer, n or more, width) keys and values; the scaling -> causal
attention of these last tokens, in the shape of the queries."""


class Conversation(NamedTuple):
    """Token ids, and from which position on their last hidden states are wanted."""

    tokens: Tokens
    first: int


class Segment(NamedTuple):
    """Consecutive tokens of one conversation in a row; the ``begin`` tokens before them stand elsewhere."""

    group: int
    member: int
    begin: int
    tokens: Tokens
    keep: int
    """Keys and values of this many first tokens are needed by later rows; 0 for none."""


class Span(NamedTuple):
    """Where a segment lies in its row, and where the keys of its prefix are."""

    start: int
    stop: int
    prefix: int
    """Length of the shared prefix; 0 for a conversation that stands whole."""
    source: int
    """Start of the prefix in this row, or -1: kept from an earlier row."""
    group: int
    keep: int
    mask: Any
    """Lower-right causal mask where the prefix is long; else None."""


def plan(groups: Sequence[Sequence[Conversation]], budget: int, *, share: bool = True) -> Iterator[list[Segment]]:
    """Rows of at most ``budget`` tokens (a longer segment has a row of its own), in the order of the groups.

    A function of its input alone, so the same block always gives the same rows.
    """
    row: list[Segment] = []
    used = 0
    for g, group in enumerate(groups):
        prefix = shared(group) if share else 0
        cut = [0] + [prefix] * (len(group) - 1)
        sizes = [len(c.tokens) - b for c, b in zip(group, cut, strict=True)]
        if used and used + sum(sizes) > budget and (sum(sizes) <= budget or used + sizes[0] > budget):
            yield row
            row, used = [], 0
        at = len(row)
        for m, (conversation, begin) in enumerate(zip(group, cut, strict=True)):
            if used and used + sizes[m] > budget:
                if prefix and at >= 0 and row and row[at].group == g:
                    row[at] = row[at]._replace(keep=prefix)
                yield row
                row, used, at = [], 0, -1
            row.append(Segment(g, m, begin, conversation.tokens[begin:], 0))
            used += sizes[m]
    if row:
        yield row


def shared(group: Sequence[Conversation]) -> int:
    """Tokens of the prefix that a group shares. At least one is left to each conversation, and none whose hidden
    state is wanted is in it."""
    if len(group) < 2:
        return 0
    common = min(common_prefix([c.tokens for c in group]), *(min(c.first, len(c.tokens) - 1) for c in group))
    return common if common >= SHORTEST else 0


class Row:
    """One packed row: its ids and positions, and what the attention needs to know.

    ``last_layer``: only the last token of each segment is wanted, so that of this layer's attention, too, only these
    are computed (see ``Tail``). ``attend``: computes attention instead of torch, as ``in_blocks`` does."""

    def __init__(
        self,
        segments: Sequence[Segment],
        kept: dict[int, dict[Any, Any]],
        device: Any,
        last_layer: Any = None,
        attend: Attend | None = None,
    ) -> None:
        import torch

        self.last_layer = last_layer
        self.attend = attend
        self.kept = kept
        ids: list[int] = []
        positions: list[int] = []
        self.spans: list[Span] = []
        owner: dict[int, int] = {}
        for s in segments:
            start = len(ids)
            ids += s.tokens
            positions += range(s.begin, s.begin + len(s.tokens))
            if not s.begin:
                owner.setdefault(s.group, start)
            mask = None
            if s.begin >= len(s.tokens) and not attend:
                shape = (len(s.tokens), s.begin + len(s.tokens))
                mask = torch.ones(shape, dtype=torch.bool, device=device).tril(s.begin)
            source = owner.get(s.group, -1) if s.begin else 0
            self.spans.append(Span(start, len(ids), s.begin, source, s.group, s.keep, mask))
        self.longest = max(positions) + 1
        self.ends = torch.tensor([span.stop - 1 for span in self.spans], device=device)
        self.ids = torch.tensor([ids], device=device)
        self.positions = torch.tensor([positions], device=device)

    @contextmanager
    def active(self) -> Iterator[None]:
        """While it lasts, models that use the attention registered here compute this row."""
        token = _row.set(self)
        try:
            yield
        finally:
            _row.reset(token)


_row: ContextVar[Row | None] = ContextVar("rmbench_row", default=None)


def register() -> None:
    """Make the attention known to transformers; may be called again."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    def mask(*args: Any, **kwargs: Any) -> Any:
        return None if _row.get() is not None else sdpa_mask(*args, **kwargs)

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, mask)


def attention(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None, **kwargs: Any
) -> tuple[Any, None]:
    """``query``: (1, heads, tokens, width); ``key`` and ``value`` with as many heads or fewer.
    Gives (1, tokens, heads, width), as transformers' own functions do. Raises NotImplementedError for kinds of
    attention that it does not compute: the caller falls back."""
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    row = _row.get()
    if row is None:
        plain: tuple[Any, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return plain
    _refuse(module, kwargs, row)
    ends_only = module is row.last_layer
    out = query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])
    sdpa = torch.nn.functional.scaled_dot_product_attention
    gqa = query.shape[1] != key.shape[1]
    for span in row.spans:
        q, k, v = (t[:, :, span.start : span.stop] for t in (query, key, value))
        if span.keep:
            row.kept.setdefault(span.group, {})[module] = (k[:, :, : span.keep].clone(), v[:, :, : span.keep].clone())
        if not (span.prefix or ends_only or row.attend):
            made = sdpa(q, k, v, is_causal=True, scale=scaling, enable_gqa=gqa)
            out[:, span.start : span.stop] = made.transpose(1, 2)
            continue
        if span.prefix:
            if span.source >= 0:
                before = slice(span.source, span.source + span.prefix)
                first_k, first_v = key[:, :, before], value[:, :, before]
            else:
                first_k, first_v = row.kept[span.group][module]
            k, v = torch.cat((first_k, k), 2), torch.cat((first_v, v), 2)
        if ends_only:
            out[:, span.stop - 1] = sdpa(q[:, :, -1:], k, v, scale=scaling, enable_gqa=gqa)[:, :, 0]
            continue
        if row.attend:
            made = row.attend(q, k, v, q.shape[3] ** -0.5 if scaling is None else scaling)
        elif span.mask is None:
            # a short prefix: a square causal call skips half the work, and the rows of the prefix are dropped
            q = torch.cat((q.new_zeros(1, q.shape[1], span.prefix, q.shape[3]), q), 2)
            made = sdpa(q, k, v, is_causal=True, scale=scaling, enable_gqa=gqa)[:, :, span.prefix :]
        else:
            made = sdpa(q, k, v, attn_mask=span.mask, scale=scaling, enable_gqa=gqa)
        out[:, span.start : span.stop] = made.transpose(1, 2)
    return out, None


def in_blocks(query: Any, key: Any, value: Any, scaling: float) -> Any:
    """See Attend. As plain matrix products: blocks of queries against the keys up to them, padded to whole blocks, so
    that the products come in few sizes, each of which is made ready once."""
    import torch

    heads, n, width = query.shape[1:]
    groups, keys = key.shape[1:3]
    before = keys - n
    pad = torch.nn.functional.pad
    padded = before + n + -n % BLOCK
    padded += -padded % BLOCK
    shared = heads // groups  # heads that read the same keys
    q = pad(query[0] * scaling, (0, 0, 0, -n % BLOCK)).view(groups, shared, -1, BLOCK, width)
    q = q.permute(2, 0, 1, 3, 4).reshape(-1, groups, shared * BLOCK, width)
    k = pad(key[0], (0, 0, 0, padded - keys))
    v = pad(value[0], (0, 0, 0, padded - keys))
    later = query.new_full((BLOCK, 2 * BLOCK), float("-inf")).triu(1)
    out = torch.empty_like(q)
    for i, block in enumerate(q):
        seen = before + i * BLOCK
        end = seen + BLOCK
        end += -end % BLOCK
        weights = torch.bmm(block, k[:, :end].contiguous().transpose(1, 2))
        weights.view(groups, shared, BLOCK, end)[..., seen:].add_(later[:, : end - seen])
        torch.bmm(torch.softmax(weights, -1), v[:, :end], out=out[i])
    out = out.view(-1, groups, shared, BLOCK, width).permute(1, 2, 0, 3, 4)
    return out.reshape(1, heads, -1, width)[:, :, :n]


def in_parts(query: Any, key: Any, value: Any, scaling: float) -> Any:
    """See Attend. By torch's own, some queries at a time against the keys up to them: given all queries at once, it
    multiplies those of a short text with all keys and masks half of the products."""
    import torch

    sdpa = torch.nn.functional.scaled_dot_product_attention
    gqa = query.shape[1] != key.shape[1]
    n, keys = query.shape[2], key.shape[2]
    if n == keys <= BLOCK:
        return sdpa(query, key, value, is_causal=True, scale=scaling, enable_gqa=gqa)
    before = keys - n
    length = 1 << max(10, (keys - 1).bit_length())  # few lengths of mask
    mask = _stair(length, query.dtype)
    made = []
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        k, v = key[:, :, : before + stop], value[:, :, : before + stop]
        seen = mask[: stop - start, length - before - start : length + stop - start]
        made.append(sdpa(query[:, :, start:stop], k, v, attn_mask=seen, scale=scaling, enable_gqa=gqa))
    return torch.cat(made, 2) if len(made) > 1 else made[0]


@lru_cache(maxsize=4)
def _stair(before: int, dtype: Any) -> Any:
    """A causal mask for the last ``BLOCK`` queries after ``before`` keys: (BLOCK, before + BLOCK), 0 or -inf."""
    import torch

    return torch.full((BLOCK, before + BLOCK), float("-inf"), dtype=dtype).triu(before + 1)


ATTEND: dict[str, Attend] = {"blocks": in_blocks, "parts": in_parts}


class Tail:
    """The last layer, where only the tokens that are read out need queries, output projection and MLP: everything
    else in it computes what nobody looks at. Works on modules that treat every token by itself."""

    def __init__(self, model: Any) -> None:
        last = (getattr(model.base_model, "layers", None) or [None])[-1]
        self.attention = getattr(last, "self_attn", None)
        parts = [
            getattr(self.attention, "q_proj", None),
            getattr(self.attention, "o_proj", None),
            getattr(last, "mlp", None),
        ]
        self.parts = [part for part in parts if part is not None] if None not in parts else []
        for part in self.parts:
            part.register_forward_pre_hook(self._narrow)
            part.register_forward_hook(self._widen)

    def _narrow(self, module: Any, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
        row = _row.get()
        if row is None or row.last_layer is not self.attention:
            return None
        return (given[0][:, row.ends], *given[1:])

    def _widen(self, module: Any, given: tuple[Any, ...], made: Any) -> Any:
        row = _row.get()
        if row is None or row.last_layer is not self.attention:
            return None
        wide = made.new_zeros(1, row.ids.shape[1], made.shape[-1])
        wide[:, row.ends] = made
        return wide


def _refuse(module: Any, kwargs: dict[str, Any], row: Row) -> None:
    named = [k for k in ("softcap", "s_aux", "position_bias", "cache") if kwargs.get(k) is not None]
    if named:
        raise NotImplementedError(f"attention with {named[0]}")
    if kwargs.get("is_causal") is False or not getattr(module, "is_causal", True):
        raise NotImplementedError("attention that is not causal")
    if kwargs.get("dropout"):
        raise NotImplementedError("attention with dropout")
    window = kwargs.get("sliding_window")
    if window is not None and row.longest > window:
        raise NotImplementedError(f"a sliding window of {window} over {row.longest} tokens")
