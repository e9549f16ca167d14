"""The transformers engine: heads, log-probabilities, next tokens and generation, in batches that change no score.

Causal models with ordinary attention run in packed rows without padding, a group's shared prompt computed once
(``prefix.py``). What cannot runs in length-sorted padded batches, and what not even that suits, alone. Which of the
three a model gets is found when it is opened, by a self-check against the model's own forward pass.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from rmbench import checkpoints
from rmbench.checkpoints import Checkpoint
from rmbench.engines import Generated, Request, Tokens, memory, onednn, prefix
from rmbench.engines.prefix import Conversation
from rmbench.engines.text import Text, common_prefix, want_rows
from rmbench.errors import BadModel, MissingExtra, UsageError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

DTYPES = ("float32", "bfloat16", "float16")
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
"""Self-check: largest difference between two ways, relative to the length of the vector that is compared."""

CPU_BUDGET = 1024
"""Tokens of a row on a CPU. A rule and no timed probe: a probe on a busy machine would find another number each time,
and another budget is other bits. From 256 to 2048 tokens times differ by a tenth; this is within 4 % of the best."""

PROJECTED = 2**24
"""Logits over the vocabulary that exist at a time."""

_PRE_TOKENIZERS = (None, "default", "gpt-2", "smollm")
"""Of GGUF files: those that cut text as transformers' reader does."""

_SMALLEST = 64  # tokens: below this budget an out-of-memory error is passed on
_REFUSALS = (NotImplementedError, ValueError, TypeError, RuntimeError, AttributeError, IndexError, KeyError)


class _Want(NamedTuple):
    """Hidden states from ``first`` to ``last`` (exclusive) of these tokens, and what to do with them."""

    tokens: Tokens
    first: int
    last: int
    targets: Sequence[int]


def open(
    checkpoint: Checkpoint,
    *,
    task: str = "head",
    dtype: str | None = None,
    device: str | None = None,
    max_length: int | None = None,
    batch_tokens: int | None = None,
    threads: int | None = None,
    share_prefix: bool | None = None,
    chat_template: str | None = None,
    trust_remote_code: bool = False,
    needs_template: bool = True,
) -> Transformers:
    """Load a checkpoint. ``task``: ``head`` (sequence classification) or ``text`` (causal language model).

    Raises BadModel: weights that do not fill the model (a missing head would be a random one), a tokenizer or
    architecture that transformers does not know, no chat template; UsageError: unknown dtype or device.
    """
    # Said before torch is imported, and changes no bit. Threads that spin while they wait make a machine with other
    # work on it ten times slower. Products made ready for one length of row are rarely met again by another row: to
    # keep a thousand of them, as oneDNN and torch do, costs hundreds of megabytes and saves no time. Those of two or
    # three rows are enough; attention in blocks of queries, which is for bfloat16, has more shapes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16" if dtype in (None, "float32") else "32")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "16")
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtra("torch or transformers", "hf", "the transformers engine") from error
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    for name, value in (("max_length", max_length), ("batch_tokens", batch_tokens), ("threads", threads)):
        if value is not None and value < 1:
            raise UsageError(f"{name} {value} is not a positive number")
    place = _device(device)
    cuda = place.startswith("cuda")
    dtype = dtype or ("bfloat16" if cuda else "float32")
    if not cuda:
        torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    model = _load(checkpoint, task, dtype, trust_remote_code).to(place).eval()
    spoken, limit = tokenizer(checkpoint, trust_remote_code, max_length)
    want_rows(spoken, int(model.get_input_embeddings().weight.shape[0]), checkpoint.ref, chat_template)
    text = Text(spoken, chat_template=chat_template, max_length=limit) if needs_template or chat_template else None
    budget = batch_tokens or (_cuda_budget(model) if cuda else CPU_BUDGET)
    return Transformers(
        checkpoint,
        model,
        spoken,
        text,
        task,
        dtype,
        place,
        limit,
        budget,
        share_prefix is not False,
        trust_remote_code and "auto_map" in checkpoint.config,
    )


class Transformers:
    """See engines.Engine. ``text`` renders conversations for this model; ``notes`` say what the reader of a run
    must know; ``info`` holds what was measured."""

    exact = True

    def __init__(
        self, checkpoint: Checkpoint, model: Any, tokenizer: Any, text: Text | None, task: str, dtype: str,
        device: str, max_length: int | None, batch_tokens: int, share: bool, remote_code: bool = False,
    ) -> None:  # fmt: skip
        import tokenizers
        import torch
        import transformers

        self.model = model
        self.tokenizer = tokenizer
        self._text = text
        self.task = task
        self.dtype = dtype
        self.device = device
        self.max_length = max_length
        self.batch_tokens = batch_tokens
        self.padding = "right"
        self.notes: list[str] = []
        self.info: dict[str, Any] = {"tokens_computed": 0, "tokens_read": 0, "tokens_unique": 0}
        self._budget = batch_tokens
        self._window = _window(model.config)
        self._whole = False
        self._tail: prefix.Tail | None = None
        self._onednn = 0
        self._queries = ""
        self.mode = "packed" if share else "padded"
        self._heap = memory.Heap() if device == "cpu" else None
        if checkpoint.gguf and checkpoint.config["pre_tokenizer"] not in _PRE_TOKENIZERS:
            self._note(
                f"the GGUF file asks for pre-tokenizer {checkpoint.config['pre_tokenizer']!r}, which transformers does "
                "not read from it: text may be cut into other tokens than in training; compare `rmbench show --model` "
                "with the original checkpoint"
            )
        self._choose()
        if self._heap:
            self._heap.shrink()
        self.settings: dict[str, Any] = {
            "engine": "transformers",
            "weights": checkpoint.weights_hash(),
            "config": checkpoint.config_hash(),
            **({"quantization": checkpoint.quantization} if checkpoint.quantization else {}),
            **({"remote_code": checkpoint.code_hash()} if remote_code else {}),
            "dtype": dtype,
            "device": device.partition(":")[0],
            "attention": self._attention(),
            "batch_tokens": batch_tokens,
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            **(text.settings if text else {"max_length": max_length}),
        }
        if device == "cpu":
            self.settings["threads"] = torch.get_num_threads()
            self.settings["linear"] = "onednn, packed" if self._onednn else "torch"

    def _attention(self) -> str:
        """How the self-check said that it is computed."""
        said = ["packed, last layer at the ends only" if self._tail else self.mode]
        return ", ".join(said + [f"{self._queries} of queries"] * bool(self._queries))

    @property
    def text(self) -> Text:
        """Raises BadModel where the engine was opened without a chat template and has none."""
        if self._text is None:
            self._text = Text(self.tokenizer, max_length=self.max_length)
        return self._text

    @property
    def labels(self) -> int:
        """Outputs of the head."""
        return int(self.model.config.num_labels)

    # --- the four primitives ---

    def logits(self, groups: Sequence[Sequence[Tokens]]) -> Iterator[list[Array]]:
        """Raw head outputs in float32, one array of shape (labels,) per conversation. NaN is passed on as it is."""
        wants = [[_Want(t, len(t) - 1, len(t), ()) for t in group] for group in groups]
        for made in self._run(wants, self._head):
            yield [m[0] for m in made]

    def logprobs(self, groups: Sequence[Sequence[tuple[Tokens, int]]]) -> Iterator[list[Array]]:
        """For each (tokens, start), start at least 1: natural-log probabilities of tokens[start:] in float32."""
        for group in groups:
            for tokens, start in group:
                if not 1 <= start <= len(tokens):
                    raise ValueError(
                        f"start {start} is not within the {len(tokens)} tokens; the first has no probability"
                    )
        wants = [[_Want(t, s - 1, len(t) - 1, t[s:]) for t, s in group] for group in groups]
        return self._run(wants, self._of_targets)

    def next_token(self, prompts: Sequence[Tokens], ids: Sequence[Sequence[int]]) -> Iterator[Array]:
        """For each prompt: natural-log probabilities of the given ids as its next token, in float32. Neighbours that
        share a long beginning are computed as a group."""
        wants = [_Want(p, len(p) - 1, len(p), i) for p, i in zip(prompts, ids, strict=True)]
        for made in self._run(_neighbours(wants), self._of_ids):
            yield from made

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Generated]]:
        """For each request its samples. Sample i of a request draws from a stream of (seed, i) alone."""
        from rmbench.engines import generation

        return generation.generate(self, requests)

    # --- how they run ---

    def _run(
        self, groups: Sequence[Sequence[_Want]], finish: Callable[[Any, list[_Want]], list[Array]]
    ) -> Iterator[list[Array]]:
        """Results in the order of the groups. Out of memory: the budget is halved and what is missing planned anew."""
        done: dict[int, dict[int, Array]] = {}
        at = 0
        unique: list[list[_Want]] = []
        same: list[list[int]] = []
        for group in groups:
            firsts: dict[tuple[Any, ...], int] = {}
            same.append([firsts.setdefault((w.first, tuple(w.targets), *w.tokens), len(firsts)) for w in group])
            once: list[_Want] = []
            for w, i in zip(group, same[-1], strict=True):
                if i == len(once):
                    once.append(w)
            unique.append(once)
            shared = prefix.shared([Conversation(w.tokens, w.first) for w in once])
            self.info["tokens_read"] += sum(len(w.tokens) for w in group)
            self.info["tokens_unique"] += sum(len(w.tokens) for w in once) - shared * (len(once) - 1)
        while at < len(groups):
            try:
                for g, m, array in self._batches(unique, at, finish):
                    done.setdefault(g, {})[m] = array
                    while at < len(groups) and len(done.get(at, ())) == len(unique[at]):
                        made = done.pop(at, {})
                        yield [made[i] for i in same[at]]
                        at += 1
            except RuntimeError as error:
                if not _out_of_memory(error) or self._budget <= _SMALLEST:
                    raise
                self._budget //= 2
                done.clear()
                self._note(
                    f"out of memory: token budget halved to {self._budget}; scores may differ in the last places"
                )
                self.info["batch_tokens_after_oom"] = self._budget
                _free()

    def _batches(
        self, groups: list[list[_Want]], at: int, finish: Callable[[Any, list[_Want]], list[Array]]
    ) -> Iterator[tuple[int, int, Array]]:
        """(group, member, result) for all groups from ``at`` on."""
        longest = self._window if self.mode == "packed" else 0
        packed: list[int] = []
        others: list[int] = []
        for g in range(at, len(groups)):
            fits = longest is None or all(len(w.tokens) <= longest for w in groups[g])
            (packed if fits and groups[g] else others).append(g)
        yield from self._packed(groups, packed, finish)
        rest = [(g, m) for g in others for m in range(len(groups[g]))]
        yield from self._padded(groups, rest, finish)

    def _packed(
        self, groups: list[list[_Want]], chosen: list[int], finish: Callable[[Any, list[_Want]], list[Array]]
    ) -> Iterator[tuple[int, int, Array]]:
        import torch

        kept: dict[int, dict[Any, Any]] = {}
        conversations = [[Conversation(w.tokens, w.first) for w in groups[g]] for g in chosen]
        for segments in prefix.plan(conversations, self._budget):
            for stale in [g for g in kept if g < segments[0].group]:
                del kept[stale]
            wants = [groups[chosen[s.group]][s.member] for s in segments]
            ends = self._tail and all(w.first == w.last - 1 == len(w.tokens) - 1 for w in wants)
            last = self._tail.attention if ends and self._tail else None
            row = prefix.Row(segments, kept, self.device, last, prefix.ATTEND.get(self._queries))
            where = [i for s, span, w in zip(segments, row.spans, wants, strict=True)
                     for i in range(span.start + w.first - s.begin, span.start + w.last - s.begin)]  # fmt: skip
            with torch.inference_mode(), row.active():
                hidden = self._hidden(row.ids, None, row.positions)[0]
                made = finish(hidden[torch.tensor(where, device=hidden.device, dtype=torch.long)], wants)
            self.info["tokens_computed"] += row.ids.numel()
            del row, hidden
            self.tidy()
            for s, array in zip(segments, made, strict=True):
                yield chosen[s.group], s.member, array

    def _padded(
        self,
        groups: list[list[_Want]],
        chosen: list[tuple[int, int]],
        finish: Callable[[Any, list[_Want]], list[Array]],
    ) -> Iterator[tuple[int, int, Array]]:
        import torch

        # longest first, so that a budget too large for memory shows at once
        order = sorted(chosen, key=lambda c: (-len(groups[c[0]][c[1]].tokens), c))
        while order:
            longest = len(groups[order[0][0]][order[0][1]].tokens)
            size = 1 if self.mode == "single" else max(1, self._budget // longest)
            batch, order = order[:size], order[size:]
            wants = [groups[g][m] for g, m in batch]
            with torch.inference_mode():
                ids, mask, positions, offsets = self.pad([w.tokens for w in wants])
                hidden = self._hidden(ids, mask, positions)
                if hidden.dim() == 2:  # the model's own pooled output
                    picked = hidden
                else:
                    picked = torch.cat(
                        [
                            hidden[i, o + w.first : o + w.last]
                            for i, (o, w) in enumerate(zip(offsets, wants, strict=True))
                        ]
                    )
                made = finish(picked, wants)
            self.info["tokens_computed"] += ids.numel()
            del hidden, picked
            self.tidy()
            for (g, m), array in zip(batch, made, strict=True):
                yield g, m, array

    def pad(self, batch: Sequence[Tokens]) -> tuple[Any, Any, Any, list[int]]:
        """Ids, mask, positions and where each begins. The pad token is never read: any id that exists will do."""
        import torch

        longest = max(map(len, batch))
        # an encoder's pooler reads the first place, so padding must not stand there
        left = self.padding == "left" and not self._whole
        pad = self.model.config.get_text_config().pad_token_id
        ids = torch.full((len(batch), longest), pad if pad is not None and pad >= 0 else 0)
        mask = torch.zeros_like(ids)
        positions = torch.zeros_like(ids)
        offsets = []
        for i, tokens in enumerate(batch):
            start = longest - len(tokens) if left else 0
            ids[i, start : start + len(tokens)] = torch.tensor(tokens)
            mask[i, start : start + len(tokens)] = 1
            positions[i, start : start + len(tokens)] = torch.arange(len(tokens))
            offsets.append(start)
        return ids.to(self.device), mask.to(self.device), positions.to(self.device), offsets

    def _hidden(self, ids: Any, mask: Any, positions: Any) -> Any:
        """Last hidden states (batch, tokens, width); or, where only the whole model will do, its own logits."""
        if self._whole:
            return self.model(input_ids=ids, attention_mask=mask).logits
        if mask is not None and bool(mask.all()):
            mask = None
        return self.model.base_model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state

    @contextmanager
    def another_way(self, mode: str, padding: str = "right") -> Iterator[None]:
        """While it lasts, scores are made ``packed``, ``padded`` or one at a time (``single``), with padding on this
        side: to see how much of a score is the way it was made."""
        before = self.mode, self.padding
        self.mode, self.padding = mode, padding
        try:
            yield
        finally:
            self.mode, self.padding = before

    def step(self, ids: Any, mask: Any, positions: Any, cache: Any) -> Any:
        """Last hidden states of new tokens, whose keys and values are added to ``cache``."""
        model = self.model if self._whole else self.model.base_model
        kind: Any = type(model)
        made = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            **{_cache_name(kind): cache},
        )
        return made.logits if self._whole else made.last_hidden_state

    def _head(self, hidden: Any, wants: list[_Want]) -> list[Array]:
        """In float32 whatever the dtype: a head in bfloat16 would put scores on a grid and make ties."""
        import torch

        if self._whole:
            made = hidden.float()
        else:
            head = self.model.score
            bias = None if head.bias is None else head.bias.float()
            made = torch.nn.functional.linear(hidden.float(), head.weight.float(), bias)
        return [row[None] for row in made.cpu().numpy()]

    def tidy(self) -> None:
        """Between two batches: memory that only has holes in it goes back to the system (on a CPU)."""
        if self._heap:
            self._heap.tidy()

    def out_of_memory(self, error: BaseException) -> bool:
        """Whether this error says so; if it does, what can be freed is freed."""
        if not _out_of_memory(error):
            return False
        self._note("out of memory while generating: batches were halved")
        _free()
        return True

    def project(self, hidden: Any) -> Any:
        """Hidden states -> logits over the vocabulary in float32, with what the architecture does to them."""
        if self._whole:
            return hidden.float()
        logits = self.model.get_output_embeddings()(hidden).float()
        config = self.model.config.get_text_config()
        if scale := getattr(config, "logit_scale", None):
            logits = logits * scale
        if scale := getattr(config, "logits_scaling", None):
            logits = logits / scale
        if cap := getattr(config, "final_logit_softcapping", None):
            logits = (logits / cap).tanh() * cap
        return logits

    def _chunks(self, hidden: Any) -> Iterator[tuple[int, Any]]:
        """Log-probabilities over the vocabulary of a few positions at a time, so that they never exist for all."""
        import torch

        size = max(16, PROJECTED // int(self.model.config.get_text_config().vocab_size))
        for start in range(0, len(hidden), size):
            yield start, torch.log_softmax(self.project(hidden[start : start + size]), -1)

    def _of_targets(self, hidden: Any, wants: list[_Want]) -> list[Array]:
        import numpy as np
        import torch

        targets = torch.tensor([t for w in wants for t in w.targets], device=hidden.device, dtype=torch.long)
        parts = [
            logp.gather(1, targets[start : start + len(logp), None])[:, 0].cpu().numpy()
            for start, logp in self._chunks(hidden)
        ]
        made = np.concatenate(parts) if parts else np.empty(0, np.float32)
        return list(np.split(made, np.cumsum([len(w.targets) for w in wants])[:-1]))

    def _of_ids(self, hidden: Any, wants: list[_Want]) -> list[Array]:
        made = []
        for start, logp in self._chunks(hidden):
            for row, want in zip(logp, wants[start : start + len(logp)], strict=True):
                made.append(row[list(want.targets)].cpu().numpy())
        return made

    # --- the self-check ---

    def _choose(self) -> None:
        """The fastest way that agrees with the model's own forward pass, one conversation at a time."""
        config = self.model.config.get_text_config()
        lean = self._is_lean()
        if _rope_grows(config):
            self.mode = "single"
            self._note("positions are scaled by the longest text of a batch: conversations run one at a time")
        elif self.mode == "packed" and not (lean and self.model.config._attn_implementation == prefix.NAME):
            self.mode = "padded"
            self._note(f"no prefix sharing: {type(self.model).__name__} is not a causal model with ordinary attention")
        groups = self._check_items()
        own, states = self._alone(groups, lean)
        if lean:
            by_hand = _difference(self._from(states), own)
            if by_hand > TOLERANCE[self.dtype]:
                self._note(f"self-check: the head by hand differs by {by_hand:.1e} from the model's own forward pass")
                lean = False
        self._whole = not lean
        # after the reference is there, which must be the model's own
        if self.device == "cpu" and onednn.suits(self.dtype):
            self._onednn = onednn.pack(self.model)
        if not lean and self.task == "head" and not _encoder(self.model):
            self.mode = "single"  # its own pooling may look for pad tokens
        tail = prefix.Tail(self.model) if lean and self.mode == "packed" else None
        ways = {"packed": ["packed", "padded", "single"], "padded": ["padded", "single"]}.get(self.mode, ["single"])
        if tail and tail.parts:
            ways = [*(f"ends, {kind}" for kind in self._quick()), "ends", *ways]
        for way in ways:
            self.mode = "packed" if way.startswith("ends") else way
            self._tail = tail if way.startswith("ends") else None
            self._queries = way.partition(", ")[2]
            try:
                difference = _difference(self._check(groups), states)
            except _REFUSALS as error:
                if _out_of_memory(error):
                    raise
                self._note(f"self-check: {way} refused ({error})")
                continue
            self.info["self_check"] = {
                "way": way, "largest_relative_difference": difference, "tolerance": TOLERANCE[self.dtype],
            }  # fmt: skip
            if difference <= TOLERANCE[self.dtype]:
                break
            self._note(f"self-check: {way} differs by {difference:.1e} relative, so it is not used")
        self.info.update(tokens_computed=0, tokens_read=0, tokens_unique=0)

    def _quick(self) -> list[str]:
        """Which of prefix.ATTEND gain here."""
        gains = {"blocks": onednn.suits_blocks(self.dtype), "parts": self.dtype == "float32"}
        return [kind for kind, gain in gains.items() if gain and self.device == "cpu"][:1]

    def _check_items(self) -> list[list[Tokens]]:
        """Two groups of three made-up conversations that share a prefix; one has more than prefix.BLOCK tokens of its
        own, so that attention by some queries at a time is looked at where it matters."""
        import numpy as np

        config = self.model.config.get_text_config()
        special = set(self.tokenizer.all_special_ids) | {config.pad_token_id}
        usable = [i for i in range(min(len(self.tokenizer), config.vocab_size)) if i not in special] or [0]
        draw = np.random.default_rng(0)

        def some(n: int) -> Tokens:
            return [usable[i] for i in draw.integers(len(usable), size=n)]

        long = prefix.BLOCK + 8
        room = self.max_length or 24 + long
        size = max(2, min(24, room // 2))
        groups = []
        for shared, longest in ((size, max(2, min(long, room - size))), (size // 2, size)):
            start = some(shared)
            groups.append([start + some(n) for n in (size // 2, longest, 1)])
        return groups

    def _alone(self, groups: list[list[Tokens]], lean: bool) -> tuple[Array, Array]:
        """The model's own outputs for each conversation alone, and what the ways are held against: the last hidden
        states, which tell more than a score does; or those outputs, where only the whole model will do."""
        import numpy as np
        import torch

        outputs, states = [], []
        with torch.inference_mode():
            for tokens in (t for group in groups for t in group):
                ids = torch.tensor([tokens], device=self.device)
                made = self.model(input_ids=ids).logits
                outputs.append((made[0] if self.task == "head" else made[0, -1]).float().cpu().numpy())
                if lean:
                    hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
                    states.append(hidden[0, -1].float().cpu().numpy())
        own = np.stack(outputs)
        return own, np.stack(states) if lean else own

    def _from(self, states: Array) -> Array:
        """Hidden states -> outputs, by hand."""
        import numpy as np
        import torch

        with torch.inference_mode():
            hidden = torch.from_numpy(states).to(self.device, getattr(torch, self.dtype))
            if self.task == "head":
                return np.concatenate(self._head(hidden, []))
            made: Array = self.project(hidden).cpu().numpy()
            return made

    def _check(self, groups: list[list[Tokens]]) -> Array:
        import numpy as np

        wants = [[_Want(t, len(t) - 1, len(t), ()) for t in group] for group in groups]

        def states(hidden: Any, wanted: list[_Want]) -> list[Array]:
            return list(hidden.float().cpu().numpy())

        return np.stack([a for made in self._run(wants, states) for a in made])

    def _is_lean(self) -> bool:
        """Whether the last hidden state can be taken from the base model and put through the head by hand."""
        model = self.model
        if model.base_model is model or _encoder(model):
            return False
        if self.task == "head":
            weight = getattr(getattr(model, "score", None), "weight", None)
            return weight is not None and weight.shape[0] == self.labels
        return model.get_output_embeddings() is not None

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def close(self) -> None:
        """Let go of the model's memory."""
        self.model = None
        _free()
        if self._heap:
            self._heap.shrink()


def _device(asked: str | None) -> str:
    import torch

    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(asked).type
    except RuntimeError as error:
        raise UsageError(f"device {asked!r} is not one that torch knows; try cpu or cuda") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {asked!r}: this torch sees no GPU; use --device cpu")
    return asked


def _load(checkpoint: Checkpoint, task: str, dtype: str, trust_remote_code: bool) -> Any:
    import torch
    import transformers
    from safetensors import SafetensorError
    from transformers.utils import logging

    prefix.register()
    kind = transformers.AutoModelForSequenceClassification if task == "head" else transformers.AutoModelForCausalLM
    source: dict[str, Any] = checkpoint.source or {"use_safetensors": True}
    if checkpoint.gguf and task == "head":
        source["num_labels"] = len(checkpoint.labels)
    bar, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        attention = None if _unusual(checkpoint.config) else prefix.NAME
        for way in (attention, None):
            more = {"attn_implementation": way} if way else {}
            try:
                model, found = kind.from_pretrained(
                    checkpoint.folder, dtype=getattr(torch, dtype), output_loading_info=True,
                    trust_remote_code=trust_remote_code, **source, **more,
                )  # fmt: skip
                break
            except (ValueError, ImportError, OSError, KeyError, RuntimeError, SafetensorError) as error:
                if way is None:
                    why = str(error).strip().splitlines()[0]
                    if "auto_map" in checkpoint.config and not trust_remote_code:
                        why = "it brings its own code; add --trust-remote-code if you have read and trust it"
                    raise BadModel(
                        f"model {checkpoint.ref!r}: transformers cannot load it ({why}){_instead(checkpoint)}"
                    ) from error
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
    absent = set(found["missing_keys"])
    if checkpoint.gguf and task == "head" and "score.weight" in absent:  # transformers' reader passes heads over
        with torch.no_grad():
            model.score.weight.copy_(torch.from_numpy(checkpoints.gguf_head(checkpoint).copy()))
        absent.remove("score.weight")
    if absent:
        raise BadModel(
            f"model {checkpoint.ref!r}: its weights hold no {min(absent)!r}"
            f"{f' and {len(absent) - 1} more' if len(absent) > 1 else ''}; it would run with random numbers there. "
            "Give a checkpoint of the kind that its adapter needs"
        )
    return model


def _instead(checkpoint: Checkpoint) -> str:
    """What to do with a GGUF file that transformers cannot read."""
    if not checkpoint.gguf:
        return ""
    return "; use the safetensors checkpoint it was made from, or serve the file with llama.cpp and give --base-url"


def tokenizer(
    checkpoint: Checkpoint, trust_remote_code: bool = False, max_length: int | None = None
) -> tuple[Any, int | None]:
    """The tokenizer, and how many tokens a conversation may have: as asked, or as config and tokenizer say."""
    from transformers import AutoConfig, AutoTokenizer

    try:
        kind = {"trust_remote_code": trust_remote_code, **checkpoint.source}
        made = AutoTokenizer.from_pretrained(checkpoint.folder, **kind)
        config = AutoConfig.from_pretrained(checkpoint.folder, **kind)
    except (ValueError, ImportError, OSError, KeyError, TypeError, NotImplementedError) as error:
        why = str(error).strip().splitlines()[0]
        raise BadModel(
            f"model {checkpoint.ref!r}: its tokenizer cannot be loaded ({why}){_instead(checkpoint)}"
        ) from error
    longest = _longest(config, made)
    if max_length is not None and longest is not None and max_length > longest:
        raise UsageError(
            f"--max-length {max_length} is more than the {longest} tokens that {checkpoint.ref!r} can take"
        )
    return made, max_length or longest


@functools.cache
def _cache_name(kind: Any) -> str:
    """What this kind of model calls the keys and values it goes on from: ``cache`` since transformers 5.24."""
    import inspect

    return "cache" if "cache" in inspect.signature(kind.forward).parameters else "past_key_values"


def _unusual(config: dict[str, Any]) -> bool:
    """Attention that SDPA does not compute: the architecture's own way is left alone."""
    inner = config.get("text_config")
    return bool(config.get("attn_logit_softcapping") or (isinstance(inner, dict) and _unusual(inner)))


def _window(config: Any) -> int | None:
    """Conversations up to this many tokens see full attention in every layer; None: all do."""
    config = config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return min((w for w in windows if w), default=None)


def _rope_grows(config: Any) -> bool:
    said = getattr(config, "rope_parameters", None) or {}
    kinds = [said, *(v for v in said.values() if isinstance(v, dict))]
    return any(k.get("rope_type") in ("dynamic", "longrope") for k in kinds)


def _encoder(model: Any) -> bool:
    """Reads in both directions (BERT, DeBERTa), by the class's own account."""
    config = model.config
    if config.is_encoder_decoder or getattr(config, "is_decoder", False):
        return False
    named = type(model).__name__.removesuffix("ForSequenceClassification")
    import transformers

    return hasattr(transformers, f"{named}ForMaskedLM")


def _longest(config: Any, tokenizer: Any) -> int | None:
    """Tokens that both the model and its tokenizer say they can take."""
    config = config.get_text_config()
    said = [tokenizer.model_max_length, *(getattr(config, n, None) for n in ("max_position_embeddings", "n_positions"))]
    return min((int(n) for n in said if isinstance(n, int) and 0 < n < 10**7), default=None)


def _cuda_budget(model: Any) -> int:
    """Tokens of a row: a power of two from the device's size and the model's, not from what happens to be free, so
    that the same machine always plans the same batches. An optimistic guess is halved when memory runs out."""
    import torch

    config = model.config.get_text_config()
    total = torch.cuda.get_device_properties(0).total_memory
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    wide = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    per_token = 2 * (6 * config.hidden_size + 4 * wide) * 2
    fits = max(0.5 * (total - weights), 0) / per_token
    return int(min(max(2 ** int(max(fits, 1)).bit_length() // 2, 2048), 32768))


def _neighbours(wants: Sequence[_Want]) -> list[list[_Want]]:
    """Runs of prompts that share at least half of their beginning with the one before."""
    groups: list[list[_Want]] = []
    for want in wants:
        if groups:
            before = groups[-1][0].tokens
            shared = common_prefix([before, want.tokens])
            if shared >= max(16, len(want.tokens) // 4):
                groups[-1].append(want)
                continue
        groups.append([want])
    return groups


def _difference(got: Array, reference: Array) -> float:
    """The largest, over rows, of the length of the difference relative to that of the reference."""
    import numpy as np

    finite = np.isfinite(reference)
    if got.shape != reference.shape or not (np.isfinite(got) == finite).all():
        return float("inf")
    got, reference = np.where(finite, got, 0), np.where(finite, reference, 0)
    size = np.maximum(np.linalg.norm(reference, axis=1), 1e-6 + 0.1 * np.abs(reference).max(initial=0))
    return float((np.linalg.norm(got - reference, axis=1) / size).max(initial=0))


def _out_of_memory(error: BaseException) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error) or "can't allocate" in str(error)


def _free() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
