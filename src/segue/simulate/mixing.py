"""A bijection of 64-bit numbers that looks like chance: ids that never repeat, facts that need no memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def mix(numbers: NDArray[np.int64], salt: int = 0) -> NDArray[np.int64]:
    """The finaliser of SplitMix64 of (number + salt): distinct numbers give distinct results; int64[n]."""
    with np.errstate(over="ignore"):
        z = numbers.astype(np.uint64) + np.uint64((salt * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
        z += _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _FIRST
        z = (z ^ (z >> np.uint64(27))) * _SECOND
        return (z ^ (z >> np.uint64(31))).view(np.int64)


def pick(numbers: NDArray[np.int64], size: int, salt: int = 0) -> NDArray[np.int64]:
    """A fixed choice from 0..size-1 for each number; int64[n]. size < 2**31."""
    return ((mix(numbers, salt) >> 32) & 0x7FFFFFFF) % size
