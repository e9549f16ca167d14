"""What is printed never decides an exit code: streams that take any text, and crashes told in a line.

A terminal that knows no ``…``, a full disk behind ``>`` and a reader that has gone (``| head``) cost what they must and
nothing else: no traceback, no lost file, no other verdict.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

_PLAIN = str.maketrans({
    "…": "...", "–": "-", "—": "-", "−": "-", "±": "+/-", "×": "x", "≤": "<=", "≥": ">=", "→": "->", "·": "-",
    "‘": "'", "’": "'", "“": '"', "”": '"', "\N{NO-BREAK SPACE}": " ", "\N{REPLACEMENT CHARACTER}": "?",
})  # fmt: skip
"""What our own tables and sentences hold beyond ASCII, for streams that cannot hold it."""


def _held(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    plain = error.object[error.start : error.end].translate(_PLAIN)
    # A name keeps what tells it apart from others, which a row of question marks would not.
    return plain.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error("rmbench", _held)


def held(text: str, encoding: str) -> str:
    """The text in characters that an encoding can hold: ``…`` as ``...`` and, where nothing is like it, ``\\u6a21``."""
    return text.encode(encoding, "rmbench").decode(encoding)


class Stream(io.TextIOBase):
    """A standard stream that takes any text and never fails; what became of it is kept in ``failed``."""

    # click and rich ask for these. There is no ``buffer``: click would write UTF-8 past an ASCII stream.
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failed: OSError | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "strict"

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"a text is written, not {type(text).__name__}")
        if self.failed is None:
            with self._failing():
                self._stream.write(held(text, self.encoding))
        return len(text)

    def flush(self) -> None:
        if self.failed is None:
            with self._failing():
                self._stream.flush()

    def close(self) -> None:
        """Left to whom the stream belongs."""

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failed = error
            # The interpreter flushes what is left when it ends, and would fail with another exit code.
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


@contextlib.contextmanager
def safe_streams() -> Iterator[Stream | None]:
    """Both standard streams as ``Stream`` while it lasts; yields the one for output (None where it is closed)."""
    before = sys.stdout, sys.stderr
    made = [None if stream is None else Stream(stream) for stream in before]
    sys.stdout, sys.stderr = made
    try:
        yield made[0]
    finally:
        for stream in made:
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before


def crashed(error: BaseException) -> str:
    """One line about an error that nobody expected, and where its traceback was written."""
    import platform
    import tempfile
    import traceback
    from importlib.metadata import version

    what = traceback.format_exception_only(error)[-1].strip().splitlines()[0][:300]
    head = f"rmbench {version('rmbench')}, Python {platform.python_version()}, {platform.platform()}\n{sys.argv!r}\n\n"
    told = head + "".join(traceback.format_exception(error))
    for place in (tempfile.gettempdir, os.getcwd):
        with contextlib.suppress(OSError):
            handle, name = tempfile.mkstemp(prefix="rmbench-crash-", suffix=".txt", dir=place())
            with contextlib.ExitStack() as undo, open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                undo.callback(os.unlink, name)
                file.write(told)
                file.flush()
                undo.pop_all()
            return f"Error: unexpected, and no verdict: {what}. The traceback is in {name}; please report it."
    return f"Error: unexpected, and no verdict: {what}. No folder takes a file, so here is the traceback:\n{told}"
