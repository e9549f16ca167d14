"""Runs on disk: append, resume, seal, read. The only module that knows file names.

A run's folder ``results/<model>-<fingerprint>/<suite>-v<version>/`` holds::

    run.json          core.Run; "running" until everything is there, replaced atomically
    items.jsonl       core.Facts of the items asked for, in order, and a checksum of the line
    judgments.jsonl   core.Judgment, one a line, plus the item's hash and a checksum of the line; append-only while
                      running (the last line of an item counts), in item order once complete
    estimates.json    derived, can be made again at any time
    damaged.jsonl     only after an accident: lines whose checksum failed, moved aside and computed again

Lines that end in CRLF are read as they were written: git's autocrlf makes them of ours, and no line holds a bare CR.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from rmbench.core import SCHEMA, Estimate, Facts, Judgment, Run
from rmbench.errors import BadRun, StoreError, UnknownName, UsageError

RUN, ITEMS, JUDGMENTS, ESTIMATES, DAMAGED = (
    "run.json",
    "items.jsonl",
    "judgments.jsonl",
    "estimates.json",
    "damaged.jsonl",
)


STOPPED = "stopped"
"""In a run's ``info``: why it was given up before its end."""


class Stored(NamedTuple):
    """A run as read from its folder."""

    path: Path
    run: Run
    facts: tuple[Facts, ...]
    """In item order."""
    judgments: dict[str, Judgment]
    """By item id; only those on disk."""


def default_root() -> Path:
    """``RMBENCH_RESULTS``, else ``results`` below the working directory."""
    return Path(os.environ.get("RMBENCH_RESULTS") or "results")


def slug(name: str) -> str:
    """A file name that cannot leave its folder, whatever the model is called."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "-", name).strip("-.")[:80] or "unnamed"


def folder(root: Path, run: Run) -> Path:
    """Where a run lives below the results root."""
    name = f"{slug(run.suite.name)}-v{slug(run.suite.version)}"
    if run.suite.partial:
        name += "-partial"
    if run.limit is not None:
        name += f"-limit{run.limit}-seed{run.seed}"
    return root / f"{slug(run.model)}-{run.fingerprint}" / name


# Reading

_UNREADABLE = (ValueError, RecursionError)
"""What msgspec raises for bytes that are not what they should be: not JSON, not UTF-8, another shape, too deep."""


def read(path: Path) -> Stored:
    """A run's folder. Raises BadRun where it is none, is damaged, or is of another schema."""
    run = read_run(path)
    facts = tuple(_read_facts(path))
    hashes = {f.item_id: f.hash for f in facts}
    judgments: dict[str, Judgment] = {}
    lines, _, damaged = _read_lines(path / JUDGMENTS)
    if damaged:
        number, _ = damaged[0]
        raise BadRun(
            f"{path / JUDGMENTS}:{number}: the line's checksum does not match; "
            f"run the same eval again: it moves the line to {DAMAGED} and computes it again"
        )
    for item_hash, judgment in lines:
        if hashes.get(judgment.item_id) == item_hash:
            judgments[judgment.item_id] = judgment
    sealed = [judgment.item_id for _, judgment in lines]
    if run.status == "complete" and not (len(judgments) == run.n and sealed == [f.item_id for f in facts]):
        raise BadRun(
            f"{path} should hold {run.n} items in order and has {len(facts)} in {ITEMS} and {len(sealed)} in "
            f"{JUDGMENTS}: they were changed since. Run the same eval again: it computes what is gone"
        )
    return Stored(path, run, facts, {f.item_id: judgments[f.item_id] for f in facts if f.item_id in judgments})


def read_run(path: Path) -> Run:
    """Only run.json of a run's folder."""
    file = path / RUN
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        raise BadRun(f"{path} holds no {RUN}: it is not a run's folder; rmbench list shows the runs") from None
    except OSError as error:
        raise BadRun(f"{file} cannot be read: {error.strerror}") from error
    try:
        schema = msgspec.json.decode(raw, type=dict).get("schema")
        if schema != SCHEMA:
            raise BadRun(
                f"{file} has schema {schema!r}, this rmbench reads {SCHEMA}: "
                f"use the rmbench that wrote it, or another --out folder"
            )
        return msgspec.json.decode(raw, type=Run)
    except _UNREADABLE as error:
        raise BadRun(
            f"{file} cannot be read: {error}; take this one file away and run the same eval again, which keeps the "
            f"judgments beside it"
        ) from error


def find(root: Path, suite: str | None = None) -> list[Path]:
    """All run folders below a results root (or the root itself, if it is one), sorted. Those whose run.json cannot be
    read are among them whatever the suite: reading one says why."""
    if os.path.isfile(root / RUN):
        found = [root]
    else:
        found = sorted(p.parent for p in [*root.glob(f"*/{RUN}"), *root.glob(f"*/*/{RUN}")])
    return [p for p in found if suite is None or (run := _readable(p)) is None or run.suite.name == suite]


def nothing(root: Path) -> str:
    """What to type where ``find`` finds nothing: runs may lie deeper than it looks."""
    deeper = sorted({p.parents[2] for level in ("*/*/*", "*/*/*/*") for p in root.glob(f"{level}/{RUN}")})
    if deeper:
        return f"no runs in {root}, but deeper down: give {' or '.join(map(str, deeper[:3]))} instead"
    return f"no runs in {root}; make one with rmbench eval --model M --suite S"


def _readable(path: Path) -> Run | None:
    try:
        return read_run(path)
    except BadRun:
        return None


def state(path: Path, run: Run) -> str:
    """``complete`` or ``imported``; else ``running`` while a process holds the run, ``failed`` where too many errors
    stopped it, or ``paused``."""
    if run.status != "running":
        return run.status
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return "running"
        finally:
            os.close(handle)
    return "failed" if run.info.get(STOPPED) else "paused"


def resolve(ref: str, root: Path, suite: str | None = None) -> Path:
    """A run's folder from a path or a model's name; asks by error where several fit. A run that cannot be read is in
    nobody's way but its own model's."""
    path = Path(ref)
    if os.path.isfile(path / RUN):
        return path
    matching = find(path, suite) if os.path.isdir(path) else []
    looked = matching or find(root, suite)
    runs = {p: run for p in looked if (run := _readable(p)) is not None}
    names = {ref}
    if not matching and os.path.isdir(path):  # without runs in it: the checkpoint itself, whose runs bear its name
        names |= {path.resolve().name, "/".join(path.resolve().parts[-2:])}
    broken = [p for p in looked if p not in runs]
    for p in broken:
        ours = matching or p.parent.name in names or p.parent.name.rpartition("-")[0] in map(slug, names)
        if ours and (suite is None or p.name.startswith(f"{slug(suite)}-v")):
            read_run(p)  # says what is wrong with it
    matching = matching or [p for p, run in runs.items() if names & {run.model, p.parent.name, run.fingerprint}]
    whole = [p for p in matching if runs[p].limit is None] or matching
    if len(whole) == 1:
        return whole[0]
    if not whole:
        unread = f"; {len(broken)} there cannot be read, rmbench list runs names them" if broken else ""
        raise UnknownName("run", ref, {run.model for run in runs.values()}, f"(looked in {root}{unread})")
    listed = "\n  ".join(str(p) for p in whole)
    raise UsageError(
        f"{ref!r} fits {len(whole)} runs; name one of them by its folder, or its suite by --suite:\n  {listed}"
    )


def read_estimates(path: Path) -> list[Estimate]:
    """The estimates stored in a run's folder."""
    file = path / ESTIMATES
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Estimate])
    except (OSError, *_UNREADABLE) as error:
        raise BadRun(f"{file} cannot be read ({error}); rmbench report makes it again") from error


def write_estimates(path: Path, estimates: Sequence[Estimate]) -> None:
    """Replaces estimates.json atomically; the same estimates give the same bytes, and then nothing is written."""
    data = msgspec.json.format(msgspec.json.encode(list(estimates)), indent=1) + b"\n"
    with contextlib.suppress(OSError):
        if (path / ESTIMATES).read_bytes() == data:
            return
    _replace(path / ESTIMATES, data)


def finished(root: Path, run: Run, facts: Sequence[Facts]) -> Stored | None:
    """The run on disk where an eval of it has nothing to do: it is whole, of these items, described as now and without
    errors; in a folder that cannot be written, whole and of these items."""
    path = folder(root, run)
    try:
        there = read(path)
    except BadRun:
        return None
    if there.run.status != "complete" or there.run.suite_hash != run.suite_hash or there.facts != tuple(facts):
        return None
    if not os.access(path, os.W_OK):
        return there
    same = (there.run.suite, there.run.model) == (run.suite, run.model)
    return there if same and not there.run.errors and b"\r" not in (path / JUDGMENTS).read_bytes() else None


# Writing


class Writer:
    """A run's folder, held by one process from ``open_run`` until it is left."""

    def __init__(
        self, path: Path, run: Run, facts: Sequence[Facts], judgments: dict[str, Judgment], mended: Sequence[str]
    ) -> None:
        self.path = path
        self.run = run
        self.judgments = judgments
        """By item id: what was there already and what has been appended."""
        self.mended = mended
        """What was wrong with the judgments on disk and was put right on opening, in words."""
        self._facts = {f.item_id: f for f in facts}
        self._order = [f.item_id for f in facts]
        self._file = _open(path / JUDGMENTS)

    def append(self, judgments: Sequence[Judgment]) -> None:
        """Commits judgments together: all are on disk when this returns."""
        data = b"".join(_line(j, self._facts[j.item_id].hash) for j in judgments)
        with disk(self.path):
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        self.judgments.update((j.item_id, j) for j in judgments)

    def save(self, run: Run) -> None:
        """Replaces run.json atomically."""
        self.run = run
        _write_run(self.path, run)

    def seal(self, run: Run) -> None:
        """Puts the judgments in item order, one line each, then marks the run complete."""
        self._file.close()
        _replace(
            self.path / JUDGMENTS,
            b"".join(_line(self.judgments[i], self._facts[i].hash) for i in self._order if i in self.judgments),
        )
        self.save(run)

    def close(self) -> None:
        with disk(self.path):
            self._file.close()


@contextlib.contextmanager
def open_run(root: Path, run: Run, facts: Sequence[Facts]) -> Iterator[Writer]:
    """Opens a run's folder for writing: makes it, or goes on with what is there.

    Raises StoreError when another process holds it or the disk refuses, BadRun when what stands there is of another
    schema or of another suite hash.
    """
    path = folder(root, run)
    make_folder(path)
    with _lock(path):
        if (path / RUN).exists():
            old = read_run(path)
            if old.suite_hash != run.suite_hash:
                raise BadRun(
                    f"{path} holds a run of {run.suite.name} with hash {old.suite_hash}, the suite now has "
                    f"{run.suite_hash}: the data changed. Move that folder aside or give another --out"
                )
            run = msgspec.structs.replace(
                run,
                seconds=old.seconds,
                started=old.started or run.started,
                finished=old.finished,
                info=old.info,
                notes=old.notes,
            )
        _replace(path / ITEMS, b"".join(map(_facts_line, facts)))
        judgments, mended = _recover(path, facts)
        _write_run(path, run)
        writer = Writer(path, run, facts, judgments, mended)
        try:
            yield writer
        finally:
            writer.close()


def import_run(root: Path, run: Run, facts: Sequence[Facts], judgments: Mapping[str, Judgment]) -> Path:
    """Writes a whole finished run at once; replaces one of the same folder."""
    path = folder(root, run)
    make_folder(path)
    with _lock(path):
        _replace(path / ITEMS, b"".join(map(_facts_line, facts)))
        _replace(
            path / JUDGMENTS,
            b"".join(_line(judgments[f.item_id], f.hash) for f in facts if f.item_id in judgments),
        )
        _write_run(path, run)
    return path


def annotate(path: Path, info: Mapping[str, Any]) -> None:
    """Adds to what was measured about a run; nothing else of it changes."""
    with _lock(path):
        run = read_run(path)
        _write_run(path, msgspec.structs.replace(run, info={**run.info, **info}))


# The lines of judgments.jsonl

_TAIL = re.compile(rb',"hash":"([0-9a-f]{16})","crc":"([0-9a-f]{8})"}$')
_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Judgment)
_facts_decoder = msgspec.json.Decoder(Facts)


def _line(judgment: Judgment, item_hash: str) -> bytes:
    body = _encoder.encode(judgment)[:-1] + b',"hash":"' + item_hash.encode() + b'"'
    return body + b',"crc":"%08x"}\n' % zlib.crc32(body)


def _facts_line(facts: Facts) -> bytes:
    body = msgspec.json.encode(facts)[:-1]
    return body + b',"crc":"%08x"}\n' % zlib.crc32(body)


def _parse_facts(line: bytes) -> Facts:
    body, _, tail = line.rpartition(b',"crc":"')
    if tail != b'%08x"}' % zlib.crc32(body):
        raise ValueError("the line's checksum does not match")
    return _facts_decoder.decode(body + b"}")


def _parse(line: bytes) -> tuple[str, Judgment] | None:
    """The item's hash and the judgment, or None for a line that is not what was written."""
    tail = _TAIL.search(line)
    if tail is None or zlib.crc32(line[: tail.end(1) + 1]) != int(tail[2], 16):
        return None
    try:
        return tail[1].decode(), _decoder.decode(line[: tail.start()] + b"}")
    except _UNREADABLE:
        return None


def _read_lines(file: Path) -> tuple[list[tuple[str, Judgment]], int, list[tuple[int, bytes]]]:
    """The good lines, the length of a torn last line in bytes, and the damaged lines with their numbers."""
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        return [], 0, []
    except OSError as error:
        raise BadRun(f"{file} cannot be read: {error.strerror}") from error
    lines = raw.split(b"\n")
    torn = lines.pop()
    good, damaged = [], []
    for number, line in enumerate(lines, 1):
        parsed = _parse(line.removesuffix(b"\r"))
        if parsed is None:
            damaged.append((number, line))
        else:
            good.append(parsed)
    return good, len(torn), damaged


def _read_facts(path: Path) -> Iterator[Facts]:
    file = path / ITEMS
    again = "run the same eval again, it writes the file anew"
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise BadRun(f"{file} cannot be read: {error.strerror}; {again}") from error
    for number, line in enumerate(raw.splitlines(), 1):
        try:
            yield _parse_facts(line)
        except _UNREADABLE as error:
            raise BadRun(f"{file}:{number}: {error}; {again}") from error


def _recover(path: Path, facts: Sequence[Facts]) -> tuple[dict[str, Judgment], list[str]]:
    """What earlier sessions left, and what a reader must know of it: drops a torn last line, moves damaged lines
    aside, keeps the rest."""
    file = path / JUDGMENTS
    lines, torn, damaged = _read_lines(file)
    crlf = bool(lines) and b"\r" in file.read_bytes()
    if damaged:
        with disk(path), (path / DAMAGED).open("ab") as aside:
            aside.write(b"".join(line + b"\n" for _, line in damaged))
            os.fsync(aside.fileno())
    if damaged or crlf:
        _replace(file, b"".join(_line(judgment, item_hash) for item_hash, judgment in lines))
    elif torn:
        with disk(path), file.open("rb+") as opened:
            opened.truncate(file.stat().st_size - torn)
    hashes = {f.item_id: f.hash for f in facts}
    # A later line of the same item replaces an earlier one: a retried error, a block scored again.
    return {j.item_id: j for item_hash, j in lines if hashes.get(j.item_id) == item_hash}, _said(path, damaged, crlf)


def _said(path: Path, damaged: Sequence[tuple[int, bytes]], crlf: bool) -> list[str]:
    said = []
    if damaged:
        listed = ", ".join(str(number) for number, _ in damaged)
        said.append(f"{path / JUDGMENTS}: damaged, moved to {DAMAGED} and computed again: line {listed}")
    if crlf:
        said.append(
            f"{path / JUDGMENTS}: its lines ended in CRLF, as git's autocrlf makes them; put back, nothing is computed "
            f"again. A .gitattributes with 'results/** -text' keeps git from it"
        )
    return said


# The disk


def _write_run(path: Path, run: Run) -> None:
    # Categories stand in the order of tables, so keys are not sorted.
    _replace(path / RUN, msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")


def write_file(file: Path, data: bytes) -> None:
    """Writes any file, whole or not at all. A pipe or a device is written to as it is.

    Raises StoreError where the disk refuses.
    """
    with _naming(file):
        if _is_special(file):
            file.write_bytes(data)
        else:
            _put(Path(os.path.realpath(file)), data)  # a link stays a link


def append_file(file: Path, data: bytes) -> None:
    """Adds to the end of a file all of the data or nothing. Raises StoreError where the disk refuses."""
    with _naming(file):
        special = _is_special(file)
        before = file.stat().st_size if file.exists() else None
        try:
            with file.open("ab") as opened:
                opened.write(data)
        except OSError:
            with contextlib.suppress(OSError):
                if before is None:
                    file.unlink()
                elif not special:
                    os.truncate(file, before)
            raise


def _is_special(file: Path) -> bool:
    """A pipe, a device, or a name of a stream: renaming a file over it would take it away."""
    real = Path(os.path.realpath(file))
    return real.is_relative_to("/dev") or real.is_relative_to("/proc") or (file.exists() and not file.is_file())


@contextlib.contextmanager
def _naming(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise StoreError(f"cannot write {file}: {why}; name another file, or free some space") from error


def _replace(file: Path, data: bytes) -> None:
    with disk(file.parent):
        _put(file, data)
    _sync(file.parent)


def _put(file: Path, data: bytes) -> None:
    """Writes beside and renames, so that a reader or a crash sees the old or the new file, never half of one."""
    beside = file.with_name(f".{file.name}.tmp")
    try:
        with beside.open("wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        beside.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)  # half a file is in the way on a full disk
        raise


def _open(file: Path) -> BinaryIO:
    with disk(file.parent):
        opened = file.open("ab")
    _sync(file.parent)
    return opened


def make_folder(path: Path) -> None:
    """Makes a folder and those above it. Raises StoreError where the disk refuses, or a file stands there."""
    with disk(path):
        path.mkdir(parents=True, exist_ok=True)
    for above in path.parents[:2]:
        _sync(above)


def _sync(folder: Path) -> None:
    """A new or renamed file is lost with the machine's power until its folder is on disk too."""
    with contextlib.suppress(OSError):  # not every file system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def disk(path: Path) -> Iterator[None]:
    """An OSError while it lasts is a StoreError about this folder."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write to {path}: {error.strerror or error}. What was written before stays readable; "
            f"free some space or give another --out, then run the same command again"
        ) from error


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    # The folder itself is locked: the kernel lets go when the process dies, and no lock file is left behind.
    with disk(path):
        handle = os.open(path, os.O_RDONLY)
    try:
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.1)  # ``state`` may be looking, for a moment
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"another process is writing the run in {path}; wait for it, or give another --out"
            ) from None
        except OSError as error:
            raise StoreError(
                f"{path} cannot be locked: {error.strerror or error}; give an --out on a file system with locks"
            ) from error
        yield
    finally:
        os.close(handle)
