"""Rows of customers: found or made for every record of a batch, forgotten, freed, swept."""

from __future__ import annotations

import numpy as np

from segue_kernels.heap import string_length, string_start
from segue_kernels.ids import forget_ids
from segue_kernels.index import LOW, MOVES_PER_INSERT, drop_row, find_row, move_rows, put, tag_of
from segue_kernels.jit import Array, inline, kernel, outline
from segue_kernels.keyed import expired, forget_spilled
from segue_kernels.memory import prefetch
from segue_kernels.plan import (
    JOIN_TYPE,
    SENT_TYPE,
    STREAM_AREA_WORDS,
    STREAM_BY,
    STREAM_ENTRY_WORDS,
    STREAM_OFFSET,
    STREAM_SLOTS,
    STREAM_TYPE,
    STREAM_WINDOW_MS,
)
from segue_kernels.pool import free_block, take_block
from segue_kernels.record import (
    CUSTOMER_HI,
    CUSTOMER_LO,
    FLAG_IS_LINE,
    FLAG_KIND,
    HEAP,
    PACK,
    STRING_CUSTOMER,
)
from segue_kernels.row import (
    CHECK_DUE,
    CLOCK,
    CLOCK_MAX,
    CONSENT,
    CONSENT_WORDS,
    COUNT_EVICTED,
    COUNT_FORGOTTEN,
    CUSTOMERS,
    DIRTY_COUNT,
    ERASED_MASK,
    EVENTS,
    FIRST_SEEN,
    FLAG_ERASED_SHIFT,
    FLAG_IN_USE,
    FLAG_KIND_SHIFT,
    FLAG_NAME_SHIFT,
    FLAGS,
    INDEX_OLD_POSITION,
    INDEX_USED,
    KEY_HI,
    KEY_LO,
    NAME,
    NAME_INLINE_BYTES,
    POOL_BUMP,
    QUARANTINE_UNTIL,
    RATE,
    REDIRECT,
    ROWS_FREE,
    ROWS_USED,
    SEGMENTS,
    SPILL_HEAD,
    STAGE,
    SWEEP_POSITION,
    WAITS,
    WHEEL_DUE,
    ZONE,
)
from segue_kernels.shard import (
    SET_LATENESS_MS,
    SET_POOL_MAX,
    SET_RETENTION_MS,
    SET_ROW_WORDS,
    SET_ROWS_MAX,
    STOP_END,
    STOP_INDEX,
    STOP_POOL,
    STOP_ROWS,
    Plan,
    Shard,
)
from segue_kernels.timers import take_off
from segue_kernels.waits import forget_waits

AHEAD = 8  # records looked at before their turn, so that their cache lines are on the way


@inline
def mark_dirty(shard: Shard, row: int) -> None:
    """Note that a row differs from what the last delta of the shard holds."""
    if shard.dirty[row] == 0:
        shard.dirty[row] = 1
        shard.dirty_rows[shard.meta[DIRTY_COUNT]] = row
        shard.meta[DIRTY_COUNT] += 1


@inline
def erased_at(flags: int) -> int:
    """The time of the latest erasure in a FLAGS word; 0 = never."""
    return (flags >> FLAG_ERASED_SHIFT) & ERASED_MASK


@inline
def mark_erased(shard: Shard, base: int, time: int) -> None:
    """Note an erasure; the latest stays."""
    flags = shard.rows[base + FLAGS]
    latest = max(erased_at(flags), time)
    shard.rows[base + FLAGS] = (flags & ((1 << FLAG_ERASED_SHIFT) - 1)) | (latest << FLAG_ERASED_SHIFT)


@inline
def write_name(shard: Shard, base: int, text: Array, at: int, length: int) -> None:
    """Keep the identifier's bytes: in the row if they fit, else in a pool block."""
    shard.rows[base + FLAGS] |= length << FLAG_NAME_SHIFT
    words = (length + 7) >> 3
    target = shard.rows
    start = int(base + NAME)
    if length > NAME_INLINE_BYTES:
        start = take_block(shard.pool, shard.meta, words)
        shard.rows[base + NAME] = start
        target = shard.pool
    for w in range(words):
        value = np.int64(0)
        for b in range(min(8, length - w * 8)):
            if b == 7:  # the highest byte carries the sign
                value |= ((np.int64(text[at + w * 8 + b]) ^ 0x80) - 0x80) << 56
            else:
                value |= np.int64(text[at + w * 8 + b]) << (8 * b)
        target[start + w] = value


@outline
def new_row(shard: Shard, lo: int, hi: int, kind: int, text: Array, heap: int, row_words: int) -> int:
    """A row for a customer never seen; the caller has made sure of room in the index, the rows and the pool."""
    meta = shard.meta
    free = meta[ROWS_FREE]
    if free != 0:
        row = free - 1
        meta[ROWS_FREE] = shard.rows[row * row_words + CLOCK]
        shard.rows[row * row_words + CLOCK] = 0
    else:
        row = meta[ROWS_USED]
        meta[ROWS_USED] = row + 1
    base = row * row_words
    shard.rows[base + KEY_LO] = lo
    shard.rows[base + KEY_HI] = hi
    shard.rows[base + FLAGS] = FLAG_IN_USE | (kind << FLAG_KIND_SHIFT)
    write_name(shard, base, text, string_start(heap, STRING_CUSTOMER), string_length(heap, STRING_CUSTOMER))
    if put(shard.index, lo, tag_of(hi), row):
        meta[INDEX_USED] += 1
    if meta[INDEX_OLD_POSITION] < len(shard.index_old):
        move_rows(shard.index, shard.index_old, shard.rows, row_words, meta, MOVES_PER_INSERT)
    meta[CUSTOMERS] += 1
    return row


@inline
def find_customer(shard: Shard, row_words: int, lo: int, hi: int) -> int:
    """The row of an identifier, or -1."""
    row = find_row(shard.index, shard.rows, row_words, lo, hi)
    if row < 0:
        row = find_row(shard.index_old, shard.rows, row_words, lo, hi)
    return row


@kernel
def find_or_add(
    shard: Shard, records: Array, text: Array, row_of: Array, start: int, settings: Array
) -> tuple[int, int]:
    """Fill row_of[start:] with each record's row, making rows for new customers.

    Lines share the row of their header. Returns (how far it came, why it stopped).
    """
    row_words = settings[SET_ROW_WORDS]
    n = len(records)
    mask = len(shard.index) - 1
    room = (len(shard.index) * 5) >> 3
    for i in range(start, n):
        if i + 2 * AHEAD < n:
            prefetch(shard.index, records[i + 2 * AHEAD, CUSTOMER_LO] & mask)
        if i + AHEAD < n:
            entry = shard.index[records[i + AHEAD, CUSTOMER_LO] & mask]
            if entry > 0:
                prefetch(shard.rows, ((entry & LOW) - 1) * row_words)
        pack = records[i, PACK]
        if (pack >> 8) & FLAG_IS_LINE and i > 0:
            row_of[i] = row_of[i - 1]
            continue
        lo = records[i, CUSTOMER_LO]
        hi = records[i, CUSTOMER_HI]
        row = find_customer(shard, row_words, lo, hi)
        if row < 0:
            if shard.meta[INDEX_USED] >= room:
                return i, STOP_INDEX
            if shard.meta[ROWS_FREE] == 0 and shard.meta[ROWS_USED] >= settings[SET_ROWS_MAX]:
                return i, STOP_ROWS
            if shard.meta[POOL_BUMP] + 64 > settings[SET_POOL_MAX]:
                return i, STOP_POOL
            kind = (pack >> 8) & FLAG_KIND
            row = new_row(shard, lo, hi, kind, text, records[i, HEAP], row_words)
        row_of[i] = row
    return n, STOP_END


@inline
def is_sent(streams: Array, s: int) -> bool:
    """Whether a stream tells of what was sent: it outlives the behaviour."""
    return bool(SENT_TYPE <= streams[s, STREAM_TYPE] < JOIN_TYPE)


@outline
def forget_behaviour(shard: Shard, plan: Plan, base: int) -> None:
    """Start a customer's behaviour again; identity, consent and what was sent stay.

    His timers are gone too: the row may go on hanging in the wheel until it comes up.
    """
    streams = plan.streams
    for s in range(len(streams)):
        if not is_sent(streams, s):
            at = base + streams[s, STREAM_OFFSET]
            for w in range(streams[s, STREAM_AREA_WORDS]):
                shard.rows[at + w] = 0
    if shard.rows[base + SPILL_HEAD] != 0:
        forget_spilled(shard, streams, base, False)
    forget_ids(shard, base)
    if shard.rows[base + WAITS] != 0:
        forget_waits(shard, base)
    shard.rows[base + RATE] = 0
    shard.rows[base + SEGMENTS] = 0
    shard.rows[base + STAGE] = 0
    shard.rows[base + CHECK_DUE] = 0
    shard.rows[base + ZONE] = 0


@inline
def must_stay(shard: Shard, plan: Plan, base: int, now: int) -> bool:
    """Whether a row holds what is never evicted: a mark of erasure, consent, a quarantine, or a send that a limit
    still counts."""
    if shard.rows[base + QUARANTINE_UNTIL] > now or erased_at(shard.rows[base + FLAGS]) != 0:
        return True
    for w in range(CONSENT_WORDS):
        if shard.rows[base + CONSENT + w] != 0:
            return True
    streams = plan.streams
    for s in range(len(streams)):
        if is_sent(streams, s):
            at = base + streams[s, STREAM_OFFSET]
            window = streams[s, STREAM_WINDOW_MS]
            if streams[s, STREAM_BY] == 0:
                if shard.rows[at] != 0 and not expired(shard.rows[at], window, now):
                    return True
            else:
                if shard.rows[at] != 0 and not expired(shard.rows[at], window, now):
                    return True
                slots = streams[s, STREAM_SLOTS]
                for i in range(slots):
                    newest = shard.rows[at + 1 + slots + i * streams[s, STREAM_ENTRY_WORDS]]
                    if newest != 0 and not expired(newest, window, now):
                        return True
    return False


@inline
def free_row(shard: Shard, plan: Plan, row: int, row_words: int) -> None:
    """Give everything a row has back and take it out of the index."""
    base = row * row_words
    lo = shard.rows[base + KEY_LO]
    hi = shard.rows[base + KEY_HI]
    if shard.rows[base + SPILL_HEAD] != 0:
        forget_spilled(shard, plan.streams, base, True)
    forget_ids(shard, base)
    forget_waits(shard, base)
    take_off(shard, row, row_words)
    length = (shard.rows[base + FLAGS] >> FLAG_NAME_SHIFT) & 0xFF
    if length > NAME_INLINE_BYTES:
        free_block(shard.pool, shard.meta, shard.rows[base + NAME], (length + 7) >> 3)
    drop_row(shard.index, lo, hi, row)
    drop_row(shard.index_old, lo, hi, row)
    for w in range(row_words):
        shard.rows[base + w] = 0
    shard.rows[base + CLOCK] = shard.meta[ROWS_FREE]
    shard.meta[ROWS_FREE] = row + 1
    shard.meta[CUSTOMERS] -= 1


@kernel
def sweep(shard: Shard, plan: Plan, settings: Array, steps: int) -> int:
    """Look at the next `steps` rows; free those idle beyond the retention. Returns how many were freed.

    A row goes only when no event that may still come could see what it holds (its customer's next event would
    find the retention passed), so when the sweep comes by changes no decision. One with timers is left alone.
    """
    row_words = settings[SET_ROW_WORDS]
    meta = shard.meta
    used = meta[ROWS_USED]
    if used == 0:
        return 0
    floor = meta[CLOCK_MAX] - settings[SET_LATENESS_MS] - settings[SET_RETENTION_MS]
    position = meta[SWEEP_POSITION]
    freed = 0
    for _ in range(min(steps, used)):
        if position >= used:
            position = 0
        base = position * row_words
        clock = shard.rows[base + CLOCK]
        in_use = (shard.rows[base + FLAGS] & FLAG_IN_USE) != 0
        idle = clock != 0 and clock < floor and shard.rows[base + WHEEL_DUE] == 0
        if in_use and shard.rows[base + REDIRECT] == 0 and idle:
            if not must_stay(shard, plan, base, meta[CLOCK_MAX] - settings[SET_LATENESS_MS]):
                mark_dirty(shard, position)
                free_row(shard, plan, position, row_words)
                meta[COUNT_EVICTED] += 1
                freed += 1
            elif shard.rows[base + FIRST_SEEN] != 0:
                forget_behaviour(shard, plan, base)
                shard.rows[base + FIRST_SEEN] = 0
                shard.rows[base + EVENTS] = 0
                mark_dirty(shard, position)
                meta[COUNT_FORGOTTEN] += 1
        position += 1
    meta[SWEEP_POSITION] = position
    return freed
