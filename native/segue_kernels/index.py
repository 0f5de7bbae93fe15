"""Open addressing with linear probing that grows without a pause: a table twice the size is filled a few slots at
a time while the old one still answers.

An entry is value + 1 in the low 32 bits and 31 bits of the hash above; 0 is empty, -1 a tombstone. The caller
compares the full key where the value points. Both tables have a power of two of slots; "no old table" is
a table of one empty slot.
"""

from __future__ import annotations

import numpy as np

from segue_kernels.jit import Array, inline, kernel
from segue_kernels.row import INDEX_OLD_POSITION, INDEX_USED, KEY_HI, KEY_LO

EMPTY = 0
TOMBSTONE = -1
MOVES_PER_INSERT = 8  # old slots moved for each new entry: done long before the new table is full
LOW = 0xFFFFFFFF


@inline
def tag_of(hi: int) -> int:
    return (hi >> 33) & 0x7FFFFFFF


@inline
def put(index: Array, start: int, tag: int, value: int) -> bool:
    """Write an entry into the first free slot of its run; True if that slot was empty (not a tombstone)."""
    mask = len(index) - 1
    at = start & mask
    while index[at] > 0:
        at = (at + 1) & mask
    was_empty = index[at] == EMPTY
    index[at] = (tag << 32) | (value + 1)
    return was_empty


@inline
def find_row(index: Array, rows: Array, row_words: int, lo: int, hi: int) -> int:
    """The row of a customer, or -1."""
    mask = len(index) - 1
    at = lo & mask
    tag = tag_of(hi)
    entry = index[at]
    while entry != EMPTY:
        if entry > 0 and (entry >> 32) == tag:
            row = (entry & LOW) - 1
            base = row * row_words
            if rows[base + KEY_LO] == lo and rows[base + KEY_HI] == hi:
                return row
        at = (at + 1) & mask
        entry = index[at]
    return -1


@inline
def move_rows(index: Array, old: Array, rows: Array, row_words: int, meta: Array, steps: int) -> None:
    """Move up to `steps` slots of the old index of customers into the new one."""
    position = meta[INDEX_OLD_POSITION]
    end = min(position + steps, len(old))
    while position < end:
        entry = old[position]
        if entry > 0:
            base = ((entry & LOW) - 1) * row_words
            if put(index, rows[base + KEY_LO], entry >> 32, (entry & LOW) - 1):
                meta[INDEX_USED] += 1
            old[position] = TOMBSTONE
        position += 1
    meta[INDEX_OLD_POSITION] = position


@kernel
def finish_moving_rows(index: Array, old: Array, rows: Array, row_words: int, meta: Array) -> None:
    """Move whatever the old index of customers still holds."""
    move_rows(index, old, rows, row_words, meta, len(old))


@inline
def drop_row(index: Array, lo: int, hi: int, row: int) -> None:
    """Turn a row's entry into a tombstone, if this table has it."""
    mask = len(index) - 1
    at = lo & mask
    wanted = (tag_of(hi) << 32) | (row + 1)
    entry = index[at]
    while entry != EMPTY:
        if entry == wanted:
            index[at] = TOMBSTONE
            return
        at = (at + 1) & mask
        entry = index[at]


def new_index(slots: int) -> Array:
    """An empty table of `slots` slots (a power of two); its pages are touched only when used."""
    return np.zeros(slots, np.int64)
