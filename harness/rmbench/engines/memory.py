"""What the C library keeps of freed memory on Linux, and what the system keeps of mapped files.

glibc hands the large tensors of a layer back to the system and gets them again, page by page, for the next one: of 16
CPU seconds in bfloat16 that took one. Told to keep them, it is left with holes that fit nothing, and memory grows to
several times what is in use. So: keep them, and give the holes back when they have become large. This holds for the
whole process. Elsewhere than on Linux with glibc nothing is done. No bit of a score depends on it.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from pathlib import Path
from typing import Any

GROWTH = 56 * 2**20
"""Bytes by which the process may have grown before holes are given back."""

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # names of mallopt, <malloc.h>
_LARGEST = 32 * 2**20  # that glibc takes for the first of them
_DONTNEED = 4  # of madvise, <sys/mman.h>


class Heap:
    """The process's heap while a model runs in it."""

    def __init__(self) -> None:
        self._c = _glibc()
        if self._c:
            self._c.mallopt(_MMAP_THRESHOLD, _LARGEST)
            self._c.mallopt(_TRIM_THRESHOLD, 2**30)
        self._least = resident()

    def tidy(self) -> None:
        """Between two rows: gives holes back if the process has grown since it last did."""
        now = resident()
        if now > self._least + GROWTH:
            self.shrink()
        else:
            self._least = min(self._least, now)

    def shrink(self) -> None:
        """Gives all holes back."""
        if self._c:
            self._c.malloc_trim(0)
        self._least = resident()


def resident() -> int:
    """Bytes of this process in memory, 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


def mapped(suffix: str) -> list[range]:
    """Addresses at which files whose names end like this are mapped."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    spans = [line.split()[0].split("-") for line in lines if line.endswith(suffix)]
    return [range(int(first, 16), int(last, 16)) for first, last in spans]


def forget(tensor: Any, files: list[range]) -> None:
    """Lets the system drop the pages of a tensor that lies in one of ``files`` (see ``mapped``) and that nobody has
    written to. Whoever reads it again gets it from the file; a tensor that lies elsewhere is left alone."""
    c = _glibc()
    first = tensor.data_ptr()
    last = first + tensor.numel() * tensor.element_size()
    if c is None or not any(first in file and last - 1 in file for file in files):
        return
    first += -first % mmap.PAGESIZE
    last -= last % mmap.PAGESIZE
    if first < last:
        c.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _DONTNEED)


@functools.cache
def _glibc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    c = ctypes.CDLL(None)
    return c if hasattr(c, "mallopt") and hasattr(c, "malloc_trim") and hasattr(c, "gnu_get_libc_version") else None
