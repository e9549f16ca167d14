"""Rows of data files and hub datasets, each knowing where it stands, so that a fault can be named by file and line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from rmbench.core import Message
from rmbench.errors import BadData, MissingExtra, NotAtHand, UsageError, listed

SUFFIXES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet")
"""Endings of data files, in lower case; any case is read."""

TO_JSON = 'write the table with DataFrame.to_json(file, orient="records", lines=True) or as Parquet'
"""How a table keeps lists and messages that CSV turns into text."""


class Row(dict[str, Any]):
    """One record and where it stands (``file.jsonl:12``)."""

    where: str = "?"

    def fail(self, message: str) -> BadData:
        """The error to raise about this row."""
        return BadData(f"{self.where}: {message}")

    def __missing__(self, key: str) -> Any:
        raise self.absent(key)

    def absent(self, key: str) -> BadData:
        """The error to raise where a column is missing or null."""
        return self.fail(f"no {key!r}; the columns are {listed(map(repr, self))}")

    def text(self, key: str, *, empty: bool = False) -> str:
        """The string in a column. BadData where it is missing, no string, or (unless ``empty``) blank."""
        if key not in self or self[key] is None:
            raise self.absent(key)
        value = self[key]
        if not isinstance(value, str):
            raise self.fail(f"{key!r} is {value!r}, a {type(value).__name__}; it must be a string")
        if not empty and not value.strip():
            raise self.fail(f"{key!r} is empty; leave the row out or fill it")
        if what := disguised(value):
            raise self.fail(f"{key!r} holds {what}")
        return value

    def number(self, key: str) -> float:
        """The finite number in a column. BadData where it is missing or none."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self.fail(f"{key!r} is {value!r}; it must be a number")
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self.fail(f"{key!r} is {value!r:.60}; it must be a number")
        return number


# Files


def read(path: Path) -> Iterator[Row]:
    """The rows of a file of JSON lines, JSON (a list), CSV or Parquet, compressed or not, in UTF-8 or UTF-16.

    BadData names file and line, and what the file is where it is no table (a Git LFS pointer, a web page).
    """
    kinds = {".jsonl": _lines, ".ndjson": _lines, ".json": _json, ".csv": _csv, ".parquet": _parquet}
    kind = kinds.get(Path(path.name.lower().removesuffix(".gz")).suffix)
    if kind is None:
        raise BadData(f"{path}: unknown kind of file; known: {', '.join(SUFFIXES)}")
    try:
        _refuse_stand_in(path)
        yield from kind(path)
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadData(f"{path} cannot be read: {error}; save it as UTF-8") from error
    except (csv.Error, RecursionError, EOFError, zlib.error) as error:
        raise BadData(f"{path} cannot be read: {error}") from error


def _refuse_stand_in(path: Path) -> None:
    """What a clone or a download leaves where the rows should be."""
    with path.open("rb") as opened:
        head = opened.read(100).lstrip().lower()
    for start, what in (
        (b"version https://git-lfs", "a Git LFS pointer, not the rows themselves: run git lfs pull where it lies"),
        (b"/annex/objects/", "a git-annex pointer, not the rows themselves: run git annex get on it"),
        (
            b"<!doctype html",
            "a web page, not rows: what was saved is the page about the file; download the file itself",
        ),
        (b"<html", "a web page, not rows: what was saved is the page about the file; download the file itself"),
    ):
        if head.startswith(start):
            raise BadData(f"{path} is {what}")


def _open(path: Path) -> IO[bytes]:
    """By its first bytes, since downloads unpack a file and leave it its name."""
    with path.open("rb") as opened:
        packed = opened.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[return-value]


def _encoding(opened: IO[bytes]) -> str:
    head = opened.read(4)
    opened.seek(0)
    found = json.detect_encoding(head) if head else "utf-8"
    return "utf-8-sig" if found.startswith("utf-8") else found


def _lines(path: Path) -> Iterator[Row]:
    with _open(path) as opened:
        encoding = _encoding(opened)
        # Lines of UTF-8 are decoded one by one, so that a fault has its line.
        plain = encoding == "utf-8-sig"
        lines: Iterator[bytes | str] = iter(opened) if plain else iter(io.TextIOWrapper(opened, encoding, newline="\n"))
        yield from _of_lines(lines, path)


def _of_lines(lines: Iterator[bytes | str], path: Path) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{path}:{number}"
            try:
                text = line if isinstance(line, str) else line.decode("utf-8-sig")
                if number == 1 and text.startswith("["):
                    raise BadData(f"{path}: a JSON list, not a record a line; call the file .json")
                record = _value(text)
            except UnicodeDecodeError as error:
                raise BadData(f"{where}: not UTF-8 ({error.reason}); save the file as UTF-8") from error
            except (json.JSONDecodeError, RecursionError) as error:
                raise BadData(f"{where}: not JSON ({error})") from error
            except ValueError as error:
                raise BadData(f"{where}: {error}") from error
            yield _row(record, where)


def _json(path: Path) -> Iterator[Row]:
    """A list of records; what is called .json and holds a record a line is read as that."""
    with _open(path) as opened:
        encoding = _encoding(opened)
        text = opened.read().decode(encoding)
    try:
        whole = _value(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            raise BadData(f"{path} cannot be read: not JSON ({error})") from error
        yield from _of_lines(iter(text.split("\n")), path)
        return
    except ValueError as error:
        raise BadData(f"{path}: {error}") from error
    if isinstance(whole, list):
        yield from (_row(record, f"{path}[{i}]") for i, record in enumerate(whole))
    elif isinstance(whole, dict) and whole:
        _refuse_columns(whole, path)
        yield _row(whole, f"{path}:1")
    else:
        raise BadData(f"{path}: a .json file must hold a list of records, not {whole!r:.60}")


def _refuse_columns(whole: dict[str, Any], path: Path) -> None:
    """An object may be one record; one of whole columns, or with the records inside, is none."""
    inside = [k for k, v in whole.items() if isinstance(v, list) and len(v) > 1 and all(isinstance(r, dict) for r in v)]
    if len(whole) == 1 and inside:
        raise BadData(f"{path}: the records stand in a list under {inside[0]!r}; save that list by itself")
    if all(isinstance(v, dict) for v in whole.values()) or all(isinstance(v, list) for v in whole.values()):
        raise BadData(f"{path}: an object of columns, not a list of records; {TO_JSON}")


def _value(text: str) -> Any:
    """JSON, with the NaN that other tools write; ValueError where a key occurs twice or a text is not Unicode."""
    value = json.loads(text, object_pairs_hook=_object, parse_int=_integer)
    if re.search(r"\\u[dD][89a-fA-F]", text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"half a character (an unpaired surrogate, {error.object[error.start]!a})") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError(f"the key {_twice(key for key, _ in pairs)!r} occurs twice; which one counts cannot be known")
    return record


def _integer(text: str) -> int | float:
    return int(text) if len(text) < 300 else float(text)  # beyond any float: infinite, and refused where it is used


def _twice(names: Iterator[str]) -> str | None:
    return next((name for name, n in Counter(names).items() if n > 1 and name), None)


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(1 << 30)  # an answer can be longer than the 128 KiB that the reader takes for a fault
    with _open(path) as opened, io.TextIOWrapper(opened, _encoding(opened), newline="") as text:
        reader = csv.DictReader(text, strict=True)
        if name := _twice(iter(reader.fieldnames or ())):
            raise BadData(f"{path}:1: the header names {name!r} twice; which one counts cannot be known: rename one")
        for record in reader:
            if None in record or None in record.values():
                raise BadData(f"{path}:{reader.line_num}: the row has not as many cells as the header")
            yield _row(record, f"{path}:{reader.line_num}")


def _parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow.parquet as parquet  # type: ignore[import-untyped,unused-ignore]
    except ModuleNotFoundError:
        raise MissingExtra("pyarrow", "parquet", "reading a Parquet file") from None
    try:
        number = 0
        with parquet.ParquetFile(path) as opened:
            if name := _twice(iter(opened.schema_arrow.names)):
                raise BadData(f"{path}: two columns are named {name!r}; which one counts cannot be known: rename one")
            for batch in opened.iter_batches():
                for record in batch.to_pylist():
                    number += 1
                    yield _row(record, f"{path}#{number}")
    except (ValueError, TypeError) as error:  # pyarrow's own errors derive from ValueError
        raise BadData(f"{path} cannot be read: {error}") from error


def _row(record: Any, where: str) -> Row:
    if not isinstance(record, dict):
        raise BadData(f"{where}: a row must be an object with named columns, not a {type(record).__name__}")
    row = Row(record)
    row.where = where
    return row


# The hub

_SOURCE = re.compile(r"hf:(?P<path>[^:@]+)(?::(?P<config>[^:@]+))??(?::(?P<split>[^:@]+))?(?:@(?P<revision>.+))?")


def read_hub(source: str) -> Iterator[Row]:
    """The rows of ``hf:org/name[:config]:split[@revision]`` through ``datasets.load_dataset``.

    NotAtHand where the hub does not give them, MissingExtra without the library.
    """
    found = _SOURCE.fullmatch(source)
    if found is None:
        raise UsageError(f"source {source!r} is not of the form hf:org/name[:config]:split[@revision]")
    try:
        import datasets  # type: ignore[import-untyped,unused-ignore]
    except ModuleNotFoundError:
        raise MissingExtra("datasets", "hf", f"loading {source}") from None
    path, config, split = found["path"], found["config"], found["split"] or "test"
    try:
        # A Hub dataset may carry code; datasets no longer runs any, and older versions must not either.
        try:
            table = datasets.load_dataset(path, config, split=split, revision=found["revision"])
        except ValueError:
            if config is None:
                raise
            # Some sets keep their parts in folders that no configuration names (Anthropic/hh-rlhf).
            table = datasets.load_dataset(path, data_dir=config, split=split, revision=found["revision"])
    except (OSError, ValueError, RuntimeError) as error:  # ConnectionError, DatasetNotFoundError, unknown split...
        first = (str(error).splitlines() or [type(error).__name__])[0]
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        absent = NotAtHand(
            f"{source} cannot be loaded{offline}: {first[:300]}. Offline: give --data DIR or set RMBENCH_DATA to a "
            f"folder with the rows as JSONL, JSONL.gz, CSV or Parquet; or run rmbench fetch where there is a network"
        )
        absent.unreachable = isinstance(error, ConnectionError)
        raise absent from error
    for number, record in enumerate(table):
        yield _row(record, f"{path}[{split}] row {number}")


# Conversations

_SHAREGPT = {"human": "user", "gpt": "assistant"}
"""Speakers of ``{from, value}`` messages."""
_FORM = "a message is {role: system|user|assistant, content}"


def messages(value: Any, row: Row, key: str = "prompt", *, beside: Collection[str] = ()) -> tuple[Message, ...]:
    """A conversation from a string, a list of ``{role, content}`` (also as JSON text), or a ``\\n\\nHuman:`` dialogue.

    ``beside`` names parts of a message that say nothing to a model (its language); any other part that is not empty,
    such as a tool call, is BadData: without it another conversation would be judged.
    """
    value = conversation(value)
    if value is None:
        raise row.absent(key)
    if isinstance(value, str):
        if what := disguised(value):
            raise row.fail(f"{key!r} holds {what}")
        if value.lstrip().startswith("Human:"):
            return dialogue(value, row)
        if not value.strip():
            raise row.fail(f"{key!r} is empty")
        return (Message(role="user", content=value),)
    if not isinstance(value, Sequence) or not value:
        raise row.fail(f"{key!r} is {value!r:.60}; it must be a string or a list of messages")
    if other := [m for m in value if not isinstance(m, dict)]:
        raise row.fail(f"{key!r} holds {other[0]!r:.60}; {_FORM}")
    try:
        return msgspec.convert([_message(m, row, key, beside) for m in value], tuple[Message, ...])
    except msgspec.ValidationError as error:
        raise row.fail(f"{key!r} is no conversation: {error}; {_FORM}") from None


def _message(said: dict[str, Any], row: Row, key: str, beside: Collection[str]) -> dict[str, Any]:
    role, content = (next((k for k in names if k in said), None) for names in (("role", "from"), ("content", "value")))
    for part, value in said.items():
        if part not in (role, content, *beside) and value not in (None, "", [], {}):
            raise row.fail(
                f"{key!r} has a message with {part!r} ({value!r:.60}), which would be lost: only role and content "
                f"reach the model; take {part!r} out of the data if it says nothing, else leave the row out"
            )
    speaker = said.get(role) if role else None
    return {"role": _SHAREGPT.get(str(speaker), speaker), "content": _content(said.get(content or ""), row, key)}


def _content(value: Any, row: Row, key: str) -> Any:
    """The text, or the texts of a list of parts, each on its own line."""
    if not isinstance(value, list):
        return value
    texts = []
    for part in value:
        kind = part.get("type", "text") if isinstance(part, dict) else None
        if not isinstance(part, dict) or kind not in ("text", "input_text", "output_text"):
            raise row.fail(
                f"{key!r} has a message with a part that is no text ({kind or part!r:.60}); only texts are read"
            )
        if lost := [k for k, v in part.items() if k not in ("type", "text") and v not in (None, "", [], {})]:
            raise row.fail(f"{key!r} has a message with a part that holds {lost[0]!r}, which would be lost")
        if not isinstance(part.get("text"), str):
            raise row.fail(f"{key!r} has a message with a part whose text is {part.get('text')!r:.60}")
        texts.append(part["text"])
    return "\n".join(texts)


def conversation(value: Any) -> Any:
    """A text, or the messages that it holds as JSON; a text such as ``[1, 2]`` is an answer like any other."""
    found = decoded(value)
    if isinstance(found, dict) and _is_message(found):
        return [found]
    if isinstance(found, list) and found and all(isinstance(m, dict) and _is_message(m) for m in found):
        return found
    return value


def _is_message(value: dict[str, Any]) -> bool:
    return "role" in value or "from" in value


def decoded(value: Any) -> Any:
    """A list or object, or the one that a CSV cell holds as JSON."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return _value(value)
        except (ValueError, RecursionError):
            return value
    return value


_PRINTED = re.compile(r"(array\(|[\[(])*\s*\{\s*'\w+'\s*:")
_CUT = re.compile(r'\[\s*\{\s*"(role|from|content|value)"\s*:')
_SPEAKER = re.compile(r"""(["'])(role|from)\1\s*:\s*\1(system|user|assistant|human|gpt)\1""")


def disguised(text: str) -> str | None:
    """What a text really is, where it is messages that a table turned into text and that no model should read."""
    head = text.lstrip()
    if not head.startswith(("[", "{", "(", "array(")) or not _SPEAKER.search(head):
        return None
    if _PRINTED.match(head):
        return f"messages as Python prints them, not JSON ({head[:40]!r}...); {TO_JSON}"
    if _CUT.match(head) and decoded(head) is head:
        return f"messages as JSON that is cut off or damaged ({head[:40]!r}...); a spreadsheet cuts cells at 32,767"
    return None


def dialogue(text: str, row: Row) -> tuple[Message, ...]:
    """The turns of a ``\\n\\nHuman: ...\\n\\nAssistant: ...`` text (Anthropic's format)."""
    parts = re.split(r"(?:^|\n\n)(Human|Assistant):", text.strip("\n"))
    if parts[0].strip() or len(parts) < 3:
        raise row.fail("the text is no dialogue of the form '\\n\\nHuman: ...\\n\\nAssistant: ...'")
    return tuple(
        Message(role="user" if speaker == "Human" else "assistant", content=said.strip())
        for speaker, said in zip(parts[1::2], parts[2::2], strict=True)
    )
