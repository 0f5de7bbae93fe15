"""String columns out of scattered bytes, as Arrow lays them out: offsets and data; ids as digits."""

from __future__ import annotations

from segue_kernels.jit import Array, inline, kernel
from segue_kernels.memory import copy_bytes

_LETTERS_FROM = 10


@kernel
def gather_strings(text: Array, start: Array, length: Array, offsets: Array, data: Array) -> None:
    """Copy text[start[i] : start[i] + length[i]] one after the other into `data`, from offsets[0] on.

    offsets  int32 [n + 1]; the first is given, the others are filled
    """
    at = offsets[0]
    for i in range(len(start)):
        offsets[i] = at
        copy_bytes(text, start[i], data, at, length[i])
        at += length[i]
    offsets[len(start)] = at


@inline
def put_digits(word: int, data: Array, to: int) -> None:
    """data[to : to + 16] is a 64-bit word in lower-case hexadecimal digits, the highest first; data uint8."""
    for digit in range(16):
        nibble = (word >> (60 - 4 * digit)) & 15
        data[to + digit] = 48 + nibble if nibble < _LETTERS_FROM else 87 + nibble


@kernel
def write_hex(high: Array, low: Array, data: Array) -> None:
    """128-bit ids as 32 lower-case hexadecimal digits each; data uint8 [32 n]."""
    for i in range(len(high)):
        put_digits(high[i], data, 32 * i)
        put_digits(low[i], data, 32 * i + 16)
