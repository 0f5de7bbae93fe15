"""The strings of a record: one after the other in its records' text, from where its word HEAP says (record.py)."""

from __future__ import annotations

from segue_kernels.jit import Array, inline
from segue_kernels.record import STRINGS


@inline
def string_length(heap: int, string: int) -> int:
    """Bytes of one of a record's strings (STRING_*), at most 255; 0 where it is absent."""
    return (heap >> (8 * string)) & 0xFF


@inline
def string_start(heap: int, string: int) -> int:
    """Where one of a record's strings begins in the text, in bytes."""
    start = heap >> 32
    for before in range(string):
        start += string_length(heap, before)
    return start


@inline
def strings_length(heap: int) -> int:
    """Bytes of all strings of a record."""
    length = 0
    for string in range(STRINGS):
        length += string_length(heap, string)
    return length


@inline
def put_string(text: Array, heap: int, string: int, data: Array, to: int) -> int:
    """data[to:] begins with one of a record's strings; where it ends there. What lies behind stays as it was.

    text, data  uint8; nothing is checked: `data` has room for the string, 255 bytes at most
    """
    start = string_start(heap, string)
    length = string_length(heap, string)
    for k in range(length):
        data[to + k] = text[start + k]
    return to + length
