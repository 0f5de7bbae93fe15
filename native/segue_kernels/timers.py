"""The wheel of one shard's timers: which customer's timers may come due next, at any distance, in constant time.

A hierarchical timing wheel: LEVELS levels of SLOTS slots, a slot of level l as wide as SLOTS ** l milliseconds. A row
hangs in at most one slot, in a list that runs through the rows themselves (row.WHEEL_LINK); shard.wheel holds the heads
and a bit for each slot that is not empty, so that an empty stretch of days costs as much as one of a millisecond. A
slot of a higher level is spread over the lower ones when its time begins.

A row hangs at a time that is never later than its first timer (row.WHEEL_DUE): a timer that is put off or called off
leaves it where it is, and when it comes up whoever asked looks at the timers themselves and hangs it anew.
"""

from __future__ import annotations

import numpy as np

from segue_kernels.jit import inline, kernel, outline
from segue_kernels.load import trailing_zeros
from segue_kernels.row import TIMERS, WHEEL_DUE, WHEEL_LINK, WHEEL_TIME
from segue_kernels.shard import Shard

LEVELS = 8  # times below 2 ** 48
LEVEL_BITS = 6
SLOTS = 1 << LEVEL_BITS
MARKS = LEVELS * SLOTS  # from here on a bit a slot, 32 a word: no word is negative
MARK_BITS = 5
WHEEL_WORDS = MARKS + (LEVELS * SLOTS >> MARK_BITS)
LOW = 0xFFFFFFFF


@inline
def slot_of(time: int, due: int) -> int:
    """The slot of a due time when the wheel stands at `time`; what is overdue goes to the slot of now.

    It stays the right one until that slot's own time: the level is that of the highest digit in which both differ.
    """
    at = max(due, time)
    level = 0
    difference = (at ^ time) >> LEVEL_BITS
    while difference != 0:
        difference >>= LEVEL_BITS
        level += 1
    return level * SLOTS + ((at >> (LEVEL_BITS * level)) & (SLOTS - 1))


@inline
def _link(shard: Shard, row: int, row_words: int, due: int) -> None:
    wheel = shard.wheel
    slot = slot_of(shard.meta[WHEEL_TIME], due)
    head = wheel[slot]
    shard.rows[row * row_words + WHEEL_LINK] = head
    if head != 0:
        shard.rows[(head - 1) * row_words + WHEEL_LINK] |= (row + 1) << 32
    else:
        wheel[MARKS + (slot >> MARK_BITS)] |= 1 << (slot & 31)
    wheel[slot] = row + 1


@outline
def hang(shard: Shard, row: int, row_words: int, due: int) -> None:
    """Hang a row that does not hang."""
    shard.rows[row * row_words + WHEEL_DUE] = due
    shard.meta[TIMERS] += 1
    _link(shard, row, row_words, due)


@outline
def unhang(shard: Shard, row: int, row_words: int) -> None:
    """Take a row that hangs off the wheel."""
    rows = shard.rows
    base = row * row_words
    link = rows[base + WHEEL_LINK]
    previous = link >> 32
    following = link & LOW
    if previous != 0:
        at = (previous - 1) * row_words + WHEEL_LINK
        rows[at] = rows[at] - (rows[at] & LOW) + following
    else:
        slot = slot_of(shard.meta[WHEEL_TIME], rows[base + WHEEL_DUE])
        shard.wheel[slot] = following
        if following == 0:
            shard.wheel[MARKS + (slot >> MARK_BITS)] ^= 1 << (slot & 31)
    if following != 0:
        at = (following - 1) * row_words + WHEEL_LINK
        rows[at] = (rows[at] & LOW) | (previous << 32)
    rows[base + WHEEL_DUE] = 0
    rows[base + WHEEL_LINK] = 0
    shard.meta[TIMERS] -= 1


@inline
def hang_by(shard: Shard, row: int, row_words: int, due: int) -> None:
    """See to it that a row comes up by `due`."""
    hangs_at = shard.rows[row * row_words + WHEEL_DUE]
    if hangs_at == 0 or due < hangs_at:
        if hangs_at != 0:
            unhang(shard, row, row_words)
        hang(shard, row, row_words, due)


@outline
def first_row(shard: Shard, row_words: int, limit: int) -> int:
    """Turn the wheel up to `limit`; a row that hangs before it (the earliest; it goes on hanging), or -1."""
    meta = shard.meta
    wheel = shard.wheel
    while True:
        time = meta[WHEEL_TIME]
        slot = -1
        for w in range(len(wheel) - MARKS):
            if wheel[MARKS + w] != 0:
                slot = (w << MARK_BITS) + trailing_zeros(np.uint64(wheel[MARKS + w]))
                break
        if slot < 0:
            meta[WHEEL_TIME] = max(time, limit - 1)
            return -1
        shift = (slot >> LEVEL_BITS) * LEVEL_BITS
        above = shift + LEVEL_BITS
        start = ((time >> above) << above) | ((slot & (SLOTS - 1)) << shift)
        if start >= limit:
            meta[WHEEL_TIME] = max(time, limit - 1)  # before `start`: its slot keeps its level
            return -1
        meta[WHEEL_TIME] = start
        head = wheel[slot]
        if shift == 0:
            return head - 1
        wheel[slot] = 0
        wheel[MARKS + (slot >> MARK_BITS)] ^= 1 << (slot & 31)
        while head != 0:
            row = head - 1
            head = shard.rows[row * row_words + WHEEL_LINK] & LOW
            _link(shard, row, row_words, shard.rows[row * row_words + WHEEL_DUE])


@kernel
def take_off(shard: Shard, row: int, row_words: int) -> None:
    """unhang, if the row hangs."""
    if shard.rows[row * row_words + WHEEL_DUE] != 0:
        unhang(shard, row, row_words)
