"""Batched generation whose samples depend on their seed, not on their batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rmbench.engines import Generated, Request, Tokens

if TYPE_CHECKING:
    import numpy as np

    from rmbench.engines.transformers_ import Transformers

_ROWS = 64  # more rows read the weights no less often, and hold more keys and values
_HELD = 32768  # prompt and answer tokens whose keys and values are held at once, unless the engine's budget is larger


def generate(engine: Transformers, requests: Sequence[Request]) -> Iterator[list[Generated]]:
    """For each request its samples, in order. Sample i draws from a stream of (seed, i) alone; without temperature
    all samples are the same and are made once."""
    done: dict[int, list[Generated]] = {}
    order = sorted(range(len(requests)), key=lambda i: (-len(requests[i].tokens), i))
    at = 0
    for batch in _batches(requests, order, engine):
        rows = [(i, sample) for i in batch for sample in range(_draws(requests[i]))]
        for (i, _), made in zip(rows, _fitting(engine, requests, rows), strict=True):
            done.setdefault(i, []).append(made)
        engine.tidy()
        while len(done.get(at, ())) == (_draws(requests[at]) if at < len(requests) else -1):
            made_all = done.pop(at)
            yield made_all * (requests[at].samples if len(made_all) == 1 else 1)
            at += 1


def _draws(request: Request) -> int:
    return request.samples if request.temperature > 0 else min(request.samples, 1)


def _batches(requests: Sequence[Request], order: Sequence[int], engine: Transformers) -> Iterator[list[int]]:
    batch: list[int] = []
    rows = 0
    for i in order:
        size = max(len(requests[j].tokens) + requests[j].max_tokens for j in [*batch, i])
        if batch and (
            rows + _draws(requests[i]) > _ROWS
            or (rows + _draws(requests[i])) * size > max(_HELD, 4 * engine.batch_tokens)
        ):
            yield batch
            batch, rows = [], 0
        batch.append(i)
        rows += _draws(requests[i])
    if batch:
        yield batch


def _fitting(engine: Transformers, requests: Sequence[Request], rows: list[tuple[int, int]]) -> list[Generated]:
    """A batch; in halves where memory runs out."""
    try:
        return _batch(engine, requests, rows)
    except RuntimeError as error:
        if not engine.out_of_memory(error) or len(rows) < 2:
            raise
    half = len(rows) // 2
    return _fitting(engine, requests, rows[:half]) + _fitting(engine, requests, rows[half:])


def _batch(engine: Transformers, requests: Sequence[Request], rows: list[tuple[int, int]]) -> list[Generated]:
    import numpy as np
    import torch
    from transformers import DynamicCache

    prompts = list(dict.fromkeys(i for i, _ in rows))
    ends = _ends(engine)
    written: list[Tokens] = [[] for _ in rows]
    finish = ["length"] * len(rows)
    draws = [np.random.Generator(np.random.Philox(key=[requests[i].seed % 2**64, s])) for i, s in rows]
    with torch.inference_mode():
        side, engine.padding = engine.padding, "left"
        ids, mask, positions, _ = engine.pad([requests[i].tokens for i in prompts])
        engine.padding = side
        cache = DynamicCache(config=engine.model.config)
        hidden = engine.step(ids, mask, positions, cache)[:, -1]
        expand = torch.tensor([prompts.index(i) for i, _ in rows], device=ids.device)
        cache.batch_select_indices(expand)
        hidden, mask, last = hidden[expand], mask[expand], positions[expand, -1]
        active = list(range(len(rows)))
        while True:
            chosen = _choose(engine.project(hidden), [requests[rows[r][0]] for r in active], [draws[r] for r in active])
            going = []
            for k, r in enumerate(active):
                request = requests[rows[r][0]]
                if len(written[r]) >= request.max_tokens:
                    continue
                if chosen[k] in ends:
                    finish[r] = "stop"
                    continue
                written[r].append(chosen[k])
                if request.stop and _stopped(engine, written[r], request.stop):
                    finish[r] = "stop"
                elif len(written[r]) < request.max_tokens:
                    going.append(k)
            if not going:
                break
            if len(going) < len(active):
                keep = torch.tensor(going, device=ids.device)
                cache.batch_select_indices(keep)
                mask, last = mask[keep], last[keep]
                active = [active[k] for k in going]
            mask = torch.cat((mask, mask.new_ones(len(active), 1)), 1)
            last = last + 1
            token = torch.tensor([[chosen[k]] for k in going], device=ids.device)
            hidden = engine.step(token, mask, last[:, None], cache)[:, -1]
    made = []
    for r, (i, _) in enumerate(rows):
        text = engine.tokenizer.decode(written[r], skip_special_tokens=True)
        made.append(Generated(_before(text, requests[i].stop), len(written[r]), finish[r]))
    return made


def _choose(logits: Any, requests: Sequence[Request], draws: Sequence[np.random.Generator]) -> list[int]:
    """The next token of each row: the likeliest, or by inverse distribution over tokens in the order of their ids, so
    that a difference in a logit's last place moves a choice only where the draw falls on the border itself."""
    import torch

    best = logits.argmax(-1).tolist()
    warm = [k for k, r in enumerate(requests) if r.temperature > 0]
    if not warm:
        return list(best)
    heat = torch.tensor([requests[k].temperature for k in warm], device=logits.device, dtype=torch.float64)
    p = torch.softmax(logits[warm].double() / heat[:, None], -1)
    tops = torch.tensor([requests[k].top_p for k in warm], device=logits.device, dtype=torch.float64)
    if bool((tops < 1).any()):
        sorted_p, where = torch.sort(p, dim=-1, descending=True, stable=True)
        outside = sorted_p.cumsum(-1) - sorted_p >= tops[:, None]
        p = p.masked_fill(torch.zeros_like(outside).scatter(-1, where, outside), 0.0)
    total = p.cumsum(-1)
    at = torch.tensor([draws[k].random() for k in warm], device=logits.device, dtype=torch.float64)
    found = torch.searchsorted(total, (at * total[:, -1])[:, None], right=True)[:, 0].clamp(max=p.shape[-1] - 1)
    for k, token in zip(warm, found.tolist(), strict=True):
        best[k] = token
    return list(best)


def _ends(engine: Transformers) -> set[int]:
    said = getattr(engine.model.generation_config, "eos_token_id", None)
    ends = set(said if isinstance(said, list) else [said]) | {engine.tokenizer.eos_token_id}
    return {int(e) for e in ends if e is not None}


def _stopped(engine: Transformers, written: Tokens, stops: Sequence[str]) -> bool:
    """Whether the last token brought a stop text: looked for in a tail long enough to hold one."""
    tail = engine.tokenizer.decode(written[-(max(map(len, stops)) + 8) :], skip_special_tokens=True)
    return any(s in tail for s in stops)


def _before(text: str, stops: Sequence[str]) -> str:
    ends = [text.find(s) for s in stops if s in text]
    return text[: min(ends)] if ends else text
