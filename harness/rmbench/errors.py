"""Every error a user can meet. Each message names the thing, the value and the next step.

::

    RmbenchError
    ├── UsageError              exit 2: what was typed cannot be done
    │   ├── UnknownName             no suite, model, adapter, prompt, parser... of that name (nearest ones are given)
    │   ├── MissingExtra            an optional package is not installed (the pip line is given)
    │   ├── BadData                 a row, file or suite that is not what it should be (file and line are given)
    │   │   └── NotAtHand               rows that are nowhere: a folder without them, a hub that cannot be reached
    │   ├── BadModel                a checkpoint that cannot be used as asked
    │   └── BadRun                  a results folder that cannot be read, or is of another schema
    ├── Undecided               exit 3: could not decide (incomplete, other suite hash, too few items, too many errors)
    ├── StoreError              exit 2: the disk is full, the folder not writable, another process holds the run
    └── TooManyErrors           exit 3: an eval stopped because too many items failed; what was done is kept

Any other exception that reaches the command line is exit 4.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable


class Exit(enum.IntEnum):
    """What every command returns. 1 is only ever a failed gate, and what could not be decided is never 0."""

    FINE = 0
    """Done, or the gate passed."""
    FAILED = 1
    """The gate failed."""
    USAGE = 2
    """What was typed, read or written cannot be used: an option, a file, a model, a full disk."""
    UNDECIDED = 3
    """No answer to rely on: an undecided gate, a pause, too many errors, stale reports (``report --check``)."""
    CRASH = 4
    """An unexpected error; one line says what and where its traceback was written."""


class RmbenchError(Exception):
    """Base of all; ``exit_code`` is what the command line returns."""

    exit_code: int = Exit.USAGE


class UsageError(RmbenchError):
    """What was typed cannot be done."""


class UnknownName(UsageError):
    """A name that is not known; of ``known`` the nearest are given."""

    def __init__(self, kind: str, name: str, known: Iterable[str], more: str = "") -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        few = known if len(known) <= 25 else difflib.get_close_matches(name, known, n=5, cutoff=0.2) or known[:5]
        more_known = f" and {len(known) - len(few):,} more" if len(few) < len(known) else ""
        hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(few) or 'none'}{more_known}."
        super().__init__(f"unknown {kind} {name!r}; {hint}{' ' + more if more else ''}")


def listed(names: Iterable[str], most: int = 25) -> str:
    """Names in a row, so few that a message stays readable: the first, and how many more there are."""
    names = list(names)
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:5])} and {len(names) - 5:,} more"


class MissingExtra(UsageError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed: pip install 'rmbench[{extra}]'")


class BadData(UsageError):
    """A row, file or suite that is not what it should be."""


class NotAtHand(BadData):
    """Rows that are nowhere to be found."""

    unreachable = False
    """Whether the hub gave no answer at all."""


class BadModel(UsageError):
    """A checkpoint that cannot be used as asked."""


class BadRun(UsageError):
    """A results folder that cannot be read or is of another schema."""


class Undecided(RmbenchError):
    """The question cannot be answered from what is there."""

    exit_code = Exit.UNDECIDED


class StoreError(RmbenchError):
    """The disk or its locks refuse."""


class TooManyErrors(RmbenchError):
    """An eval stopped because too many items failed."""

    exit_code = Exit.UNDECIDED
