"""Seeds and orders that depend on names alone, never on what else is in a batch or was done before a kill."""

from __future__ import annotations

import hashlib
import random


def seed_of(*parts: object) -> int:
    """31 bits from the parts (run's seed, item id, order shown, ...): the same in every process and machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def shuffled(n: int, *parts: object) -> tuple[int, ...]:
    """0 .. n-1 in an order drawn from the parts."""
    order = list(range(n))
    random.Random(seed_of(*parts)).shuffle(order)
    return tuple(order)


def latin_square(n: int, *parts: object) -> tuple[tuple[int, ...], ...]:
    """n orders of 0 .. n-1 in which everything stands once in every place; rows are rotations of a seeded shuffle."""
    first = shuffled(n, *parts)
    return tuple(first[i:] + first[:i] for i in range(n))
