"""Rows of data files and hub datasets, each knowing where it stands, so that a fault can be named by file and line."""

from __future__ import annotations

import codecs
import csv
import gzip
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rmbench.core import Message
from rmbench.errors import BadData, MissingExtra, UsageError

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet")


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
        return self.fail(f"no {key!r}; the columns are {', '.join(map(repr, self))}")

    def text(self, key: str, *, empty: bool = False) -> str:
        """The string in a column. BadData where it is missing, no string, or (unless ``empty``) blank."""
        if key not in self or self[key] is None:
            raise self.absent(key)
        value = self[key]
        if not isinstance(value, str):
            raise self.fail(f"{key!r} is {value!r}, a {type(value).__name__}; it must be a string")
        if not empty and not value.strip():
            raise self.fail(f"{key!r} is empty; leave the row out or fill it")
        return value

    def number(self, key: str) -> float:
        """The number in a column. BadData where it is missing or none."""
        value = self.get(key)
        if isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                pass
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fail(f"{key!r} is {value!r}; it must be a number")
        return float(value)


def read(path: Path) -> Iterator[Row]:
    """The rows of a JSONL, JSONL.gz, JSON (a list), CSV or Parquet file. BadData names file and line."""
    name = path.name
    try:
        if name.endswith((".jsonl", ".jsonl.gz")):
            yield from _jsonl(path)
        elif name.endswith(".json"):
            listed = msgspec.json.decode(path.read_bytes())
            if not isinstance(listed, list):
                raise BadData(f"{path}: a .json file must hold a list of records, not a {type(listed).__name__}")
            yield from (_row(record, f"{path}[{i}]") for i, record in enumerate(listed))
        elif name.endswith(".csv"):
            csv.field_size_limit(1 << 30)  # an answer can be longer than the 128 KiB that the reader takes for a fault
            with path.open(encoding="utf-8-sig", newline="") as opened:  # spreadsheets begin with a byte order mark
                reader = csv.DictReader(opened, strict=True)
                for record in reader:
                    if None in record or None in record.values():
                        raise BadData(f"{path}:{reader.line_num}: the row has not as many cells as the header")
                    yield _row(record, f"{path}:{reader.line_num}")
        elif name.endswith(".parquet"):
            yield from _parquet(path)
        else:
            raise BadData(f"{path}: unknown kind of file; known: {', '.join(SUFFIXES)}")
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error, msgspec.DecodeError, RecursionError, EOFError, zlib.error) as error:
        raise BadData(f"{path} cannot be read: {error}") from error


def _jsonl(path: Path) -> Iterator[Row]:
    with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as opened:
        for number, line in enumerate(opened, 1):
            if line.strip():
                try:
                    record = msgspec.json.decode(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)
                except (msgspec.DecodeError, RecursionError) as error:
                    raise BadData(f"{path}:{number}: not JSON ({error})") from error
                except UnicodeDecodeError as error:
                    raise BadData(f"{path}:{number}: not UTF-8 ({error.reason})") from error
                yield _row(record, f"{path}:{number}")


def _parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow.parquet as parquet  # type: ignore[import-untyped,unused-ignore]
    except ModuleNotFoundError:
        raise MissingExtra("pyarrow", "parquet", "reading a Parquet file") from None
    try:
        number = 0
        with parquet.ParquetFile(path) as opened:
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


_SOURCE = re.compile(r"hf:(?P<path>[^:@]+)(?::(?P<config>[^:@]+))??(?::(?P<split>[^:@]+))?(?:@(?P<revision>.+))?")


def read_hub(source: str) -> Iterator[Row]:
    """The rows of ``hf:org/name[:config]:split[@revision]`` through ``datasets.load_dataset``."""
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
        raise BadData(
            f"{source} cannot be loaded{offline}: {first[:300]}. Offline: give --data DIR or set RMBENCH_DATA to a "
            f"folder with the rows as JSONL, JSONL.gz, CSV or Parquet; or run rmbench fetch where there is a network"
        ) from error
    for number, record in enumerate(table):
        yield _row(record, f"{path}[{split}] row {number}")


# Conversations

_SHAREGPT = {"human": "user", "gpt": "assistant"}
"""Speakers of ``{from, value}`` messages."""


def messages(value: Any, row: Row, key: str = "prompt") -> tuple[Message, ...]:
    """A conversation from a string, a list of ``{role, content}``, or a ``\\n\\nHuman:`` dialogue."""
    if value is None:
        raise row.absent(key)
    if isinstance(value, str):
        if value.lstrip().startswith("Human:"):
            return dialogue(value, row)
        if not value.strip():
            raise row.fail(f"{key!r} is empty")
        return (Message(role="user", content=value),)
    if not isinstance(value, Sequence) or not value:
        raise row.fail(f"{key!r} is {value!r}; it must be a string or a list of messages")
    if other := [m for m in value if not isinstance(m, dict)]:
        raise row.fail(f"{key!r} holds {other[0]!r:.60}; a message is {{role: system|user|assistant, content}}")
    try:
        turns = [(m.get("role", m.get("from")), m.get("content", m.get("value"))) for m in value]
        return msgspec.convert(
            [{"role": _SHAREGPT.get(str(role), role), "content": content} for role, content in turns],
            tuple[Message, ...],
        )
    except msgspec.ValidationError as error:
        raise row.fail(
            f"{key!r} is no conversation: {error}; a message is {{role: system|user|assistant, content}}"
        ) from None


def dialogue(text: str, row: Row) -> tuple[Message, ...]:
    """The turns of a ``\\n\\nHuman: ...\\n\\nAssistant: ...`` text (Anthropic's format)."""
    parts = re.split(r"(?:^|\n\n)(Human|Assistant):", text.strip("\n"))
    if parts[0].strip() or len(parts) < 3:
        raise row.fail("the text is no dialogue of the form '\\n\\nHuman: ...\\n\\nAssistant: ...'")
    return tuple(
        Message(role="user" if speaker == "Human" else "assistant", content=said.strip())
        for speaker, said in zip(parts[1::2], parts[2::2], strict=True)
    )
