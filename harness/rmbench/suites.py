"""A reference becomes a checked Suite: load, count, fingerprint, fetch, refuse what does not match.

A suite file is one module with a card ``SUITE`` and a function ``items(data)``; suites/starter.py is the shortest.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.metadata
import importlib.util
import json
import math
import os
import random
import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FunctionType, ModuleType

import msgspec

from rmbench import owndata, rows
from rmbench.core import Item, Suite
from rmbench.errors import BadData, MissingExtra, NotAtHand, StoreError, UnknownName, UsageError, listed
from rmbench.rows import Row, dialogue, messages

__all__ = [
    "Data",
    "Row",
    "cache",
    "card",
    "dialogue",
    "fetch",
    "limited",
    "load",
    "messages",
    "names",
    "origin",
    "own_data",
    "sources",
    "variants",
]


class Data:
    """Where a suite's rows come from, and what was left out on the way. Handed to the suite's ``items``."""

    def __init__(self, suite: Suite, home: Path, folder: Path | None) -> None:
        self.suite = suite
        """The card, of the variant asked for."""
        self.excluded: Counter[str] = Counter()
        self.notes: list[str] = []
        self.where = suite.name
        """The row being read."""
        self.origin: list[str] = []
        """Files or hub sources that the rows came from."""
        self.of_hub: set[str] = set()
        """Subsets of which a row came from the hub's pinned revision, which must be whole."""
        self.absent: dict[str, UsageError] = {}
        """Parts of a suite of several sources that are nowhere, and why."""
        self._home = home
        self._folder = folder
        self._served: str | None = None
        self.from_hub = False
        """Whether the row being read is the hub's."""
        self.local = False
        """Whether any row came from a file."""

    def rows(self, name: str | None = None) -> Iterator[Row]:
        """The rows of the suite's only source, or of the one called ``name``: from --data, RMBENCH_DATA, what
        ``fetch`` brought, or the hub."""
        globs = [g.partition("=")[2] or g for g in self.suite.files if name is None or g.startswith(f"{name}=")]
        files: list[Path] = []
        try:
            files, source = self._locate(name, globs)
            self.origin.extend(map(str, files))
            found = (row for f in files for row in rows.read(f)) if files else self._of_hub(source, globs)
            self.from_hub, self.local = not files, self.local or bool(files)
            for row in found:
                self.where = row.where
                yield row
        except (NotAtHand, MissingExtra) as error:
            if name is None or files:
                raise
            self.absent[name] = error

    def _of_hub(self, source: str, globs: list[str]) -> Iterator[Row]:
        # Asking takes half a minute where there is no network, and the answer would be the same.
        if offline := next((e for e in self.absent.values() if getattr(e, "unreachable", False)), None):
            raise offline
        self.origin.append(source)
        try:
            yield from rows.read_hub(source)
        except NotAtHand as error:
            self.origin.remove(source)
            error.args = (f"{error}; looked for {', '.join(globs)}",)
            raise

    def exclude(self, row: Row, reason: str) -> None:
        """Counts a row that the suite leaves out by a documented rule."""
        self.excluded[reason] += 1

    def note(self, text: str) -> None:
        """Something a reader of the numbers must know."""
        self.notes.append(text)

    def _locate(self, name: str | None, globs: list[str]) -> tuple[list[Path], str]:
        source = self.suite.source.replace("{key}", name or "")
        if source.startswith("file:"):
            return [self._home / source.removeprefix("file:")], source
        if self._folder is not None and os.path.isfile(self._folder):
            if self._served not in (None, name):
                raise BadData(f"{self.suite.name} reads several files; give --data their folder, not {self._folder}")
            self._served = name
            return [self._folder], source
        places = [self._folder] if self._folder else [Path(p) for p in [os.environ.get("RMBENCH_DATA")] if p]
        for place in places:
            if not os.path.isdir(place):
                raise BadData(f"data folder {place} does not exist; give --data a folder or file of rows")
            for pattern in globs:
                if found := sorted(place.glob(pattern)):
                    return found, source
        if self._folder is not None:
            raise NotAtHand(f"--data {self._folder} holds nothing for {self.suite.name}; looked for {', '.join(globs)}")
        fetched = _fetched(self.suite, name)
        if fetched is not None and os.path.isfile(fetched):
            _check_fetched(fetched, self.suite)
            return [fetched], source
        if not source.startswith("hf:"):
            raise NotAtHand(f"{_off_hub(self.suite)}; looked for {', '.join(globs)}")
        return [], source


def _off_hub(suite: Suite) -> str:
    get = "Clone" if "github.com/" in suite.source else "Get the files of"
    return f"{suite.name} is not on the Hugging Face Hub. {get} {suite.source} and pass the folder with --data"


def names() -> list[str]:
    """The suites that can be asked for by name."""
    return sorted(_known())


def variants(ref: str) -> list[str]:
    """What can follow a suite's name after a colon."""
    return sorted(getattr(_module(ref)[0], "VARIANTS", {}))


def card(ref: str) -> Suite:
    """The suite's card: everything but its items. UnknownName gives the nearest names."""
    module, variant, _ = _module(ref)
    base: Suite = module.SUITE
    if variant is None:
        return base
    known: Mapping[str, Suite] = getattr(module, "VARIANTS", {})
    if variant not in known:
        raise UnknownName(f"variant of suite {base.name}", variant, known)
    return msgspec.structs.replace(known[variant], name=f"{base.name}:{variant}")


def own_data(ref: str) -> bool:
    """Whether a reference is a data file or hub dataset by itself, without a suite file."""
    return ref.startswith("hf:") or ref.lower().endswith(rows.SUFFIXES)


def load(
    ref: str,
    *,
    data: Path | None = None,
    columns: Mapping[str, str] | None = None,
    subset_column: str | None = None,
) -> Suite:
    """The suite with its items, checked: unique ids, graded responses, known subsets, counts.

    ``ref`` is a name, ``name:variant``, a suite file ``path/to/suite.py``, a data file, or ``hf:org/name:split``.
    Rows that are absent make the suite partial (``missing``), and so does a source of several that is nowhere; rows too
    many, or of no known subset, raise BadData, and NotAtHand where there are none at all.
    """
    if own_data(ref):
        return _check_own(owndata.load(ref, columns=columns, subset_column=subset_column))
    if columns or subset_column:
        raise UsageError(f"--columns and --subset-column are for your own data, not for suite {ref!r}")
    module, _, home = _module(ref)
    source = Data(card(ref), home, data)
    items = []
    seen: dict[str, str] = {}
    try:
        for item in module.items(source):
            _check_item(item, source, seen)
            items.append(item)
            if source.from_hub:
                source.of_hub.add(item.subset)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadData(f"{source.where}: {_fault(module, error)}") from error
    if not items and source.absent:
        raise next(iter(source.absent.values()))
    return _counted(source, items)


def _fault(module: ModuleType, error: Exception) -> str:
    """Where in a suite file something went wrong, which a stranger's file may do on a row it did not expect."""
    frames = traceback.extract_tb(error.__traceback__)
    line = next((f.lineno for f in reversed(frames) if f.filename == module.__file__), None)
    place = f"{module.__file__}{f':{line}' if line else ''}"
    return f"the suite file does not know what to do with it ({place}: {type(error).__name__}: {error})"


def _counted(data: Data, items: list[Item]) -> Suite:
    suite = data.suite
    found = Counter(item.subset for item in items)
    known = [s for subsets in suite.categories.values() for s in subsets]
    for subset in found:
        if known and subset not in known:
            raise UnknownName(f"subset in {', '.join(data.origin)}", subset, known)
    missing = {}
    all_of_hub = bool(data.of_hub) and not data.absent and not data.local
    for subset, expected in suite.counts.items():
        pinned = subset in data.of_hub or all_of_hub
        if found[subset] > expected or (pinned and found[subset] != expected):
            raise BadData(
                f"{suite.name}: subset {subset!r} has {found[subset]} items and should have {expected} "
                f"(read from {', '.join(data.origin)}); the data is not what this suite was pinned to"
            )
        if found[subset] < expected:
            missing[subset] = expected - found[subset]
    if data.absent:
        data.note(_absent(data))
        missing |= {s: 0 for s in known if not found[s] and s not in missing} or (
            {} if missing else dict.fromkeys(data.absent, 0)
        )
    if not items:
        raise BadData(f"{suite.name}: no items in {', '.join(data.origin)}")
    return msgspec.structs.replace(
        suite,
        items=tuple(items),
        missing=missing,
        excluded=dict(sorted(data.excluded.items())),
        notes=(*suite.notes, *data.notes),
    )


def _absent(data: Data) -> str:
    """Which parts are nowhere, without the machine's folders: it stands in the run and travels with it."""
    globs = [g.partition("=") for g in data.suite.files]
    looked = [pattern for key, _, pattern in globs if key in data.absent]
    hub = data.suite.source.startswith("hf:")
    offline = any(getattr(error, "unreachable", False) for error in data.absent.values())
    how = f"rmbench fetch {data.suite.name} brings what is on the hub, or give" if hub else "give"
    return (
        f"not at hand, so the suite is partial: {', '.join(data.absent)} (looked for {listed(looked)}"
        f"{'; the hub cannot be reached' if offline else ''}); {how} --data a folder with all parts"
    )


def _check_item(item: Item, data: Data, seen: dict[str, str], way_out: str = "") -> None:
    if item.id in seen:
        raise BadData(f"{data.where}: duplicate id {item.id!r}, first at {seen[item.id]}; ids must be unique{way_out}")
    seen[item.id] = data.where
    if not all(isinstance(text, str) for text in (item.id, item.subset, *item.responses)):
        raise BadData(f"{data.where}: id, subset and responses must be texts, not {item.id!r}, {item.subset!r}, ...")
    if not item.responses or len(item.grades) != len(item.responses):
        raise BadData(f"{data.where}: {len(item.responses)} responses and {len(item.grades)} grades; one grade each")
    if item.turns and len(item.turns) != len(item.responses):
        raise BadData(f"{data.where}: {len(item.turns)} turns for {len(item.responses)} responses; one each or none")
    if not all(math.isfinite(g) for g in item.grades):
        raise BadData(f"{data.where}: grades {item.grades} are not all finite")
    if len(item.grades) == 1 and item.grades[0] not in (0, 1):
        raise BadData(f"{data.where}: the grade of a single response is its label, 0 or 1, not {item.grades[0]}")


def _check_own(made: tuple[Suite, Iterator[tuple[str, Item]]]) -> Suite:
    suite, located = made
    data = Data(suite, Path(), None)
    items: list[Item] = []
    seen: dict[str, str] = {}
    for where, item in located:
        data.where = where
        _check_item(item, data, seen, "; --columns id= leaves the column out")
        items.append(item)
    data.origin = [suite.source]
    data.excluded.update(suite.excluded)
    suite = _counted(data, items)
    subsets = tuple(dict.fromkeys(item.subset for item in items))
    suite = msgspec.structs.replace(suite, categories=suite.categories or {s: (s,) for s in subsets})
    # A user's file has no version of its own; its content is one.
    return msgspec.structs.replace(suite, version=suite.content_hash()[:8])


def limited(suite: Suite, n: int, seed: int) -> tuple[Item, ...]:
    """The first n of a seeded order that is stratified by subset, put back in the suite's order.

    A larger n contains the items of a smaller one.
    """
    if n < 1:
        raise UsageError(f"--limit {n}: it must be 1 or more")
    ranked = []
    for subset in dict.fromkeys(item.subset for item in suite.items):
        places = [i for i, item in enumerate(suite.items) if item.subset == subset]
        random.Random(f"{seed}:{subset}").shuffle(places)
        ranked += [((rank + 0.5) / len(places), subset, i) for rank, i in enumerate(places)]
    return tuple(suite.items[i] for i in sorted(i for _, _, i in sorted(ranked)[:n]))


# Bringing data here


def sources(suite: Suite) -> dict[str | None, str]:
    """Where each of a suite's tables comes from, by its key; None where there is one table only."""
    keys: list[str | None] = [g.partition("=")[0] for g in suite.files if "=" in g] or [None]
    return {key: suite.source.replace("{key}", key or "") for key in keys}


def origin(suite: Suite) -> str:
    """Where a suite's rows come from, for a reader."""
    first, *more = dict.fromkeys(sources(suite).values())
    return f"{first} and {len(more)} more" if more else first


_HASHES = "SHA256.json"


def cache() -> Path | None:
    """``RMBENCH_CACHE``, else ``.cache/rmbench`` in the home folder; None for a user without one."""
    if asked := os.environ.get("RMBENCH_CACHE"):
        return Path(asked)
    try:
        return Path.home() / ".cache" / "rmbench"
    except RuntimeError:
        return None


def _fetched(suite: Suite, key: str | None) -> Path | None:
    root = cache()
    if root is None:
        return None
    folder = root / "data" / f"{suite.name.partition(':')[0]}-v{suite.version}"
    return folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', key or 'rows')}.jsonl.gz"


def _hashes(folder: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode((folder / _HASHES).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        return {}


def _check_fetched(file: Path, suite: Suite) -> None:
    if hashlib.sha256(file.read_bytes()).hexdigest() != _hashes(file.parent).get(file.name):
        raise BadData(f"{file} is not as it was fetched (SHA-256); run rmbench fetch {suite.name} again")


def fetch(ref: str) -> dict[str, str]:
    """Writes a suite's hub rows as JSONL.gz where ``load`` finds them; returns file -> SHA-256.

    Raises BadData where the hub cannot be reached, StoreError where the disk refuses.
    """
    suite = card(ref)
    if suite.source.startswith("file:"):
        return {}
    if not suite.source.startswith("hf:"):
        raise BadData(_off_hub(suite))
    hashes = {}
    for key, source in sources(suite).items():
        file = _fetched(suite, key)
        if file is None:
            raise StoreError("this user has no home folder to keep data in: set RMBENCH_CACHE to a folder")
        found = rows.read_hub(source)
        # Rows are gathered before the file is opened, so that a broken download leaves no file behind.
        data = b"".join(msgspec.json.encode(dict(row)) + b"\n" for row in found)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            beside = file.with_name(f".{file.name}.tmp")
            beside.write_bytes(gzip.compress(data, mtime=0))
            beside.replace(file)
            hashes[str(file)] = hashlib.sha256(file.read_bytes()).hexdigest()
            known = _hashes(file.parent) | {file.name: hashes[str(file)]}
            (file.parent / _HASHES).write_text(json.dumps(known, indent=1))
        except OSError as error:
            raise StoreError(f"cannot write {file}: {error.strerror or error}; set RMBENCH_CACHE elsewhere") from error
    return hashes


# Suite files: in the checkout or the wheel, by path, or by entry point


def _home() -> Path:
    package = Path(__file__).parent
    shipped = package / "_suites"
    return shipped if shipped.is_dir() else package.parent.parent / "suites"


@functools.cache
def _known() -> dict[str, Path | importlib.metadata.EntryPoint]:
    known: dict[str, Path | importlib.metadata.EntryPoint] = {
        f.stem.replace("_", "-"): f for f in _home().glob("[!_]*.py")
    }
    known.update((e.name, e) for e in importlib.metadata.entry_points(group="rmbench.suites"))
    return known


def _module(ref: str) -> tuple[ModuleType, str | None, Path]:
    """The suite's module, the variant asked for, and the folder its files stand in."""
    if ref.endswith(".py") or ".py:" in ref:
        path, _, variant = ref.partition(".py")
        file = Path(path + ".py")
        if not os.path.isfile(file):
            raise UsageError(f"suite file {file} does not exist")
        return _import(file), variant.removeprefix(":") or None, file.parent
    name, _, variant = ref.partition(":")
    if name not in _known():
        if Path(ref).is_file():
            raise UsageError(f"{ref} is no kind of data file that is read; known: {', '.join(rows.SUFFIXES)}")
        raise UnknownName("suite", name, _known(), "A path to a suite.py or a data file works too.")
    place = _known()[name]
    if isinstance(place, Path):
        return _import(place), variant or None, place.parent
    module = _suite_module(place.load, f"suite {name} of package {place.dist.name if place.dist else '?'}")
    return module, variant or None, Path(module.__file__ or ".").parent


@functools.cache
def _import(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"rmbench_suite_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file} cannot be imported as a suite file")
    module, run = importlib.util.module_from_spec(spec), spec.loader.exec_module

    def load() -> ModuleType:
        run(module)
        return module

    return _suite_module(load, f"suite file {file}")


def _suite_module(load: Callable[[], ModuleType], what: str) -> ModuleType:
    try:
        module = load()
    except (SyntaxError, ImportError, NameError, AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"{what} cannot be imported: {type(error).__name__}: {error}") from error
    for name, kind in (("SUITE", Suite), ("items", FunctionType)):
        if not isinstance(getattr(module, name, None), kind):
            form = "suites/starter.py shows the form"
            raise UsageError(f"{what} is no suite: it has no {name} (a {kind.__name__.lower()}); {form}")
    return module
