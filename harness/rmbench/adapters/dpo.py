"""DPO implicit rewards: how much likelier a policy finds a response than the model it was trained from.

The reward is beta x (log pi(y|x) - log ref(y|x)), summed over the response's tokens (Rafailov et al. 2023, equation 5
without the part that depends on the prompt alone). The prompt is masked; what the chat template writes behind the
response, its end-of-turn token, belongs to the response.

Policy and reference are never in memory together: ``prepare`` scores all items with the policy, keeps the sums on
disk and frees it; ``judge`` brings the reference.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from rmbench import checkpoints, store
from rmbench.adapters import running
from rmbench.adapters.options import Options
from rmbench.adapters.running import Opened
from rmbench.adapters.scalar import render, titled
from rmbench.checkpoints import Checkpoint
from rmbench.core import Item, Judgment, fingerprint
from rmbench.engines.text import Rendered
from rmbench.errors import BadData, BadModel, UsageError

OPTIONS = running.OPTIONS | {"ref_model", "beta", "reference_free"}
BETA = 0.1
CHUNK = 256
"""Items whose texts are held as token ids at a time."""


class Sums(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one item and one model: a line of the file that ``prepare`` writes."""

    hash: str
    """The item's content hash."""
    sums: tuple[float, ...] = ()
    """Log-probability of each response: natural log, summed over its tokens."""
    counts: tuple[int, ...] = ()
    """Tokens of each response."""
    read: int = 0
    truncated: int = 0
    block: str = ""
    """Of the items it was scored with, which move the last places of an exact engine's sums."""
    error: str | None = None


def open(ref: str, options: Options) -> Dpo:
    """``ref`` is the policy; ``--ref-model`` the model it was trained from, or ``--reference-free sum`` or ``mean``.

    Raises UsageError: neither or both given, a beta that is not positive; BadModel: not a language model, or two
    tokenizers that differ.
    """
    free = options.reference_free
    if free not in (None, "sum", "mean"):
        raise UsageError(f"--reference-free {free}: use sum or mean (over the response's tokens)")
    if free and (options.ref_model or options.beta is not None):
        raise UsageError("--reference-free has no reference and no beta; leave --ref-model and --beta out")
    if not free and not options.ref_model:
        raise UsageError(
            f"policy {ref} needs the model it was trained from: add --ref-model REF; without it, "
            "--reference-free mean or sum ranks by the policy's own log-probability, which is another score"
        )
    beta = BETA if options.beta is None else options.beta
    if not 0 < beta < float("inf"):
        raise UsageError(f"--beta {beta:g}: use a positive number")
    policy = checkpoints.read(ref, revision=options.revision, trust_remote_code=options.trust_remote_code)
    checkpoints.want_generative(policy)
    load = {"policy": lambda: running.open_engine(ref, options, "text")}
    described = {}
    if options.ref_model:
        other = checkpoints.read(options.ref_model, trust_remote_code=options.trust_remote_code)
        checkpoints.want_generative(other)
        same_tokenizer(policy, other, options.trust_remote_code)
        limits = [n for c in (policy, other) if isinstance(n := c.config.get("max_position_embeddings"), int)]
        if options.max_length is None and limits:
            options = replace(options, max_length=min(limits))
        described = {"weights": other.weights_hash(), "config": other.config_hash()}
        at_reference = replace(options, revision=None)
        load["reference"] = lambda: running.open_engine(other.ref, at_reference, "text")
    return Dpo(load, beta=beta, free=free, reference=described)


class Dpo:
    """One adapter for the log-ratio and for both reference-free variants. Holds one model at a time."""

    order = "pointwise: order-free by construction"

    def __init__(
        self,
        load: Mapping[str, Callable[[], Opened]],
        *,
        beta: float = BETA,
        free: str | None = None,
        reference: Mapping[str, Any] | None = None,
    ) -> None:
        """``load`` opens the "policy" and the "reference" when their turn comes; ``reference`` says in the settings
        which one it is, before that."""
        self._load = load
        self._beta = beta
        self._free = free
        self._sums: dict[str, Sums] = {}
        self._held: tuple[str, Opened] | None = None
        self._infos: dict[str, Any] = {}
        self._way: tuple[str, str] | None = None
        self.notes: list[str] = []
        opened = self._opened("policy")
        engine, self._text = opened.engine, opened.text
        self.exact: bool = engine.exact
        self.device: str = engine.device
        self.engine = str(engine.settings.get("engine", ""))
        if hasattr(engine, "another_way"):
            self.another_way = self._both_another_way
        # the engine's tolerance is of one token's log-probability; a sum has hundreds of them, mostly of both signs
        self.tolerance = getattr(engine, "tolerance", 0.0) * (1 if free == "mean" else 10 if free else 10 * beta)
        self.settings: dict[str, Any] = {
            "adapter": "dpo",
            "variant": f"reference-free-{free}" if free else "log-ratio",
            **({} if free else {"beta": beta}),
            **engine.settings,
            **({"reference": dict(reference)} if reference else {}),
        }

    @property
    def info(self) -> dict[str, Any]:
        """What the engines measured, per model."""
        if self._held:
            self._infos[self._held[0]] = dict(self._held[1].engine.info)
        return self._infos

    def prepare(self, blocks: Sequence[Sequence[Item]], scratch: Path) -> None:
        """The policy's pass over fixed blocks, each kept whole in a file in ``scratch``; what is there is not done
        again. Then the policy is let go."""
        if self._free:
            return
        path = scratch / f"policy-{fingerprint(self.settings)}.jsonl"
        store.make_folder(scratch)
        with store.disk(scratch):
            self._sums |= read(path)
        for block in blocks:
            if self._prepared(block):
                continue
            name = self._name([item.content_hash() for item in block])
            made = [replace(s, block=name) for s in self._measured("policy", block)]
            with store.disk(scratch), path.open("ab") as file:
                file.write(b"".join(msgspec.json.encode(s) + b"\n" for s in made))
                file.flush()
                os.fsync(file.fileno())
            self._sums |= {s.hash: s for s in made}
        self._let_go()

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        """Items that were not prepared are scored with both models, first with the one that is held: each further
        block costs loading one."""
        step = len(items) if self.exact else CHUNK
        for at in range(0, len(items), max(step, 1)):
            chunk = items[at : at + step]
            if self._free:
                for item, sums in zip(chunk, self._measured("policy", chunk), strict=True):
                    yield self._judgment(item, sums, None)
                continue
            made: dict[str, Iterable[Sums]] = {}
            if prepared := self._prepared(chunk):
                made = {"policy": prepared, "reference": self._measured("reference", chunk)}
            else:
                first = self._held[0] if self._held else "policy"
                for which in sorted(self._load, key=lambda which: which != first):
                    made[which] = list(self._measured(which, chunk))
            for item, ours, theirs in zip(chunk, made["policy"], made["reference"], strict=True):
                yield self._judgment(item, ours, theirs)

    def preview(self, item: Item) -> list[dict[str, Any]]:
        """The exact text and tokens of each response's conversation, and where its own tokens begin."""
        (rendered,) = render(self._text, [item], starts=True)
        if isinstance(rendered, str):
            raise BadData(rendered)
        return [
            {"title": titled(f"response {i}, scored from token {r.start}", r), **self._text.preview(r)}
            for i, r in enumerate(rendered)
        ]

    @contextmanager
    def _both_another_way(self, mode: str, padding: str = "right") -> Iterator[None]:
        self._way = (mode, padding)
        try:
            yield
        finally:
            self._way = None

    def close(self) -> None:
        """Lets go of the model that is held."""
        self._let_go()

    def _prepared(self, items: Sequence[Item]) -> list[Sums]:
        """The policy's sums of these items; where bits are promised, as one block. Empty where one is not there."""
        hashes = [item.content_hash() for item in items]
        name = self._name(hashes)
        found = [s for s in map(self._sums.get, hashes) if s is not None and s.block == name]
        return found if len(found) == len(items) else []

    def _name(self, hashes: Sequence[str]) -> str:
        return fingerprint({"items": hashes}) if self.exact else ""

    def _judgment(self, item: Item, policy: Sums, reference: Sums | None) -> Judgment:
        read = policy.read + (reference.read if reference else 0)
        error = policy.error or (reference.error if reference else None)
        if error:
            return Judgment(item_id=item.id, error=error, tokens=read)
        meta: dict[str, Any] = {"policy": policy.sums, "response_tokens": policy.counts}
        if reference is not None:
            meta["reference"] = reference.sums
            scores = [self._beta * (p - r) for p, r in zip(policy.sums, reference.sums, strict=True)]
        elif self._free == "mean":
            scores = [s / n for s, n in zip(policy.sums, policy.counts, strict=True)]
        else:
            scores = list(policy.sums)
        return Judgment.of(item, scores, tokens=read, truncated=policy.truncated, meta=meta)

    def _measured(self, which: str, items: Sequence[Item]) -> Iterator[Sums]:
        """One pass of one model, in the order of the items."""
        rendered = render(self._text, items, starts=True)
        groups = [[(r.tokens, max(r.start, 1)) for r in group] for group in rendered if not isinstance(group, str)]
        engine: Any = self._opened(which).engine
        with engine.another_way(*self._way) if self._way else nullcontext():
            found = iter(engine.logprobs(groups))
            for item, group in zip(items, rendered, strict=True):
                if isinstance(group, str):
                    yield Sums(hash=item.content_hash(), error=group)
                else:
                    yield _summed(item.content_hash(), group, next(found), which)

    def _opened(self, which: str) -> Opened:
        if self._held is None or self._held[0] != which:
            self._let_go()
            self._held = (which, self._load[which]())
        return self._held[1]

    def _let_go(self) -> None:
        if self._held is not None:
            which, engine = self._held[0], self._held[1].engine
            self._infos[which] = dict(engine.info)
            self.notes += [n for n in getattr(engine, "notes", ()) if n not in self.notes]
            engine.close()
            self._held = None


def _summed(key: str, rendered: Sequence[Rendered], arrays: Sequence[Any], which: str) -> Sums:
    sums = tuple(float(a.sum(dtype="float64")) for a in arrays)
    counts = tuple(len(a) for a in arrays)
    cut = sum(r.dropped > 0 for r in rendered)
    read = sum(len(r.tokens) for r in rendered)
    for i, (value, count) in enumerate(zip(sums, counts, strict=True)):
        if not count:
            return Sums(hash=key, read=read, error=f"response {i} has no tokens of its own")
        if not math.isfinite(value):
            return Sums(hash=key, read=read, error=f"the {which} gives response {i} a log-probability of {value}")
    return Sums(hash=key, sums=sums, counts=counts, read=read, truncated=cut)


def read(path: Path) -> dict[str, Sums]:
    """Whole lines of a file of sums, by item hash; a torn last line is cut off, so that it can be appended to."""
    if not path.exists():
        return {}
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
    lines = (msgspec.json.decode(line, type=Sums) for line in data[:whole].splitlines())
    return {s.hash: s for s in lines}


def same_tokenizer(policy: Checkpoint, reference: Checkpoint, trust_remote_code: bool = False) -> None:
    """Raises BadModel unless both write the same ids for the same pieces, joined by the same rules."""
    from transformers import AutoTokenizer

    a, b = (
        AutoTokenizer.from_pretrained(c.folder, trust_remote_code=trust_remote_code, **c.source)
        for c in (policy, reference)
    )
    vocabularies = a.get_vocab(), b.get_vocab()
    differ = sorted(t for t, _ in set(vocabularies[0].items()) ^ set(vocabularies[1].items()))
    if differ:
        why = f"{len(set(differ))} tokens have another id or are in one only, such as {differ[0]!r}"
    elif _pieces(a) != _pieces(b):
        why = "the same vocabulary, but pieces are joined by other rules"
    else:
        return
    raise BadModel(
        f"policy {policy.ref!r} and reference {reference.ref!r} have different tokenizers ({why}); log-probabilities "
        "of different tokens cannot be subtracted: give the model that the policy was trained from as --ref-model"
    )


def _pieces(tokenizer: Any) -> str:
    """Hash of how text is cut into pieces, less what does not change them (padding, truncation, BOS)."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return ""
    said = json.loads(backend.to_str())
    kept = {k: said.get(k) for k in ("model", "normalizer", "pre_tokenizer")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
