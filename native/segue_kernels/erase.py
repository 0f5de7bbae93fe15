"""Erasure: a person's row is emptied at once, and a mark stays so that nothing older brings the person back.

Of the row its key and kind stay (a hash, no name), and the time of the erasure. Events of that time or before it are
dropped from then on, however late they come; what is later begins anew with nothing.

A known customer's name also stands in the anonymous rows that were linked to it: every shard of anonymous identifiers
hears of the erasure, cuts those links, marks the rows, and keeps a marked row for the customer itself, so that no older
link is made again.
"""

from __future__ import annotations

from segue_kernels.customers import (
    erased_at,
    find_customer,
    is_sent,
    mark_dirty,
    mark_erased,
    new_row,
    write_name,
)
from segue_kernels.fire import NEVER
from segue_kernels.heap import string_length, string_start
from segue_kernels.ids import forget_ids, ring_capacity, ring_words
from segue_kernels.jit import Array, inline, kernel, outline
from segue_kernels.keyed import SPILL_ENTRY, SPILL_NEXT, SPILL_OWNER, drop_spilled
from segue_kernels.plan import (
    HEADER_WORDS,
    STREAM_AREA_WORDS,
    STREAM_BY,
    STREAM_ENTRY_WORDS,
    STREAM_OFFSET,
    STREAM_SLOTS,
)
from segue_kernels.pool import free_block, wipe
from segue_kernels.record import CLOCK as RECORD_CLOCK
from segue_kernels.record import CUSTOMER_HI, CUSTOMER_LO, FLAG_KIND, HEAP, PACK, STRING_CUSTOMER, TIME
from segue_kernels.redirect import cut_redirect
from segue_kernels.row import (
    CLOCK,
    COUNT_ERASURES,
    FLAG_IN_USE,
    FLAG_NAME_SHIFT,
    FLAGS,
    INDEX_USED,
    NAME,
    NAME_INLINE_BYTES,
    PENDING_NOW,
    POOL_BUMP,
    REDIRECT,
    REDIRECTS,
    RING,
    RING_STATE,
    ROWS_FREE,
    ROWS_USED,
    SPILL_HEAD,
    TARGET_HI,
    TARGET_LO,
    WAITS,
    WAITS_PENDING,
)
from segue_kernels.shard import (
    SET_ERASURE_TYPE,
    SET_LATENESS_MS,
    SET_POOL_MAX,
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
from segue_kernels.waits import WAIT_NEXT, WAIT_SHAPE, words_of


@inline
def _forget_times(words: Array, at: int, k: int, after: int) -> None:
    for i in range(at, at + k):
        if words[i] <= after:
            words[i] = 0


@inline
def _forget_waits(shard: Shard, base: int) -> None:
    """waits.forget_waits, and their strings are overwritten."""
    pool = shard.pool
    block = shard.rows[base + WAITS]
    while block != 0:
        following = pool[block + WAIT_NEXT]
        words = words_of(pool[block + WAIT_SHAPE])
        wipe(pool, block, block + words)
        free_block(pool, shard.meta, block, words)
        shard.meta[WAITS_PENDING] -= 1
        block = following
    shard.rows[base + WAITS] = 0


@outline
def _forget_streams(shard: Shard, plan: Plan, base: int, after: int) -> None:
    """Empty the streams, in the row and spilled, but for what was sent later than `after`."""
    streams = plan.streams
    rows = shard.rows
    block = rows[base + SPILL_HEAD]
    while block != 0:
        following = shard.pool[block + SPILL_NEXT]
        s = shard.pool[block + SPILL_OWNER] & 0xFFFF
        if is_sent(streams, s) and shard.pool[block + SPILL_ENTRY] > after:
            _forget_times(shard.pool, block + SPILL_ENTRY, streams[s, STREAM_ENTRY_WORDS], after)
        else:
            words = streams[s, STREAM_ENTRY_WORDS]
            drop_spilled(shard, base, block, words)
            wipe(shard.pool, block + 1, block + SPILL_ENTRY + words)
        block = following
    for s in range(len(streams)):
        at = base + streams[s, STREAM_OFFSET]
        if not is_sent(streams, s):
            for w in range(streams[s, STREAM_AREA_WORDS]):
                rows[at + w] = 0
        elif streams[s, STREAM_BY] == 0:
            _forget_times(rows, at, streams[s, STREAM_ENTRY_WORDS], after)
        else:
            slots = streams[s, STREAM_SLOTS]
            words = streams[s, STREAM_ENTRY_WORDS]
            if rows[at] <= after:
                rows[at] = 0
            for i in range(slots):
                entry = at + 1 + slots + i * words
                _forget_times(rows, entry, words, after)
                if rows[entry] == 0:
                    rows[at + 1 + i] = 0


@inline
def _erase(shard: Shard, plan: Plan, row: int, time: int, after: int, row_words: int) -> None:
    """Empty a row for an erasure at `time`; what was sent later than `after` stays (pending.py), else nothing."""
    rows = shard.rows
    base = row * row_words
    mark_dirty(shard, row)
    block = rows[base + RING]
    if block != 0:
        words = ring_words(ring_capacity(rows[base + RING_STATE]))
        forget_ids(shard, base)
        wipe(shard.pool, block + 1, block + words)
    _forget_waits(shard, base)
    take_off(shard, row, row_words)
    if rows[base + REDIRECT] != 0:
        cut_redirect(shard, base)
    length = (rows[base + FLAGS] >> FLAG_NAME_SHIFT) & 0xFF
    if length > NAME_INLINE_BYTES:
        wipe(shard.pool, rows[base + NAME], rows[base + NAME] + ((length + 7) >> 3))
        free_block(shard.pool, shard.meta, rows[base + NAME], (length + 7) >> 3)
    _forget_streams(shard, plan, base, after)
    for w in range(CLOCK, HEADER_WORDS):
        if w != FLAGS and w != SPILL_HEAD:
            rows[base + w] = 0
    rows[base + FLAGS] &= ~(0xFF << FLAG_NAME_SHIFT)
    mark_erased(shard, base, time)
    shard.meta[COUNT_ERASURES] += 1


@kernel
def prepare_row(
    shard: Shard, plan: Plan, records: Array, text: Array, i: int, row: int, settings: Array
) -> bool:
    """STOP_ROW: give the row of record i its name, or empty it if that is an erasure; whether it was one."""
    row_words = settings[SET_ROW_WORDS]
    base = row * row_words
    if records[i, PACK] & 0xFF != settings[SET_ERASURE_TYPE]:
        heap = records[i, HEAP]
        name_at, length = string_start(heap, STRING_CUSTOMER), string_length(heap, STRING_CUSTOMER)
        write_name(shard, base, text, name_at, length)
        mark_dirty(shard, row)
        return False
    after = NEVER
    if shard.meta[PENDING_NOW] != 0:
        # after a crash what lies in the customer's future was sent, and may be to who came anew
        watermark = records[i, RECORD_CLOCK] - settings[SET_LATENESS_MS]
        after = max(shard.rows[base + CLOCK], records[i, TIME], watermark)
    _erase(shard, plan, row, records[i, TIME], after, row_words)
    return True


@kernel
def hear_erasure(shard: Shard, records: Array, i: int, no_text: Array, settings: Array) -> int:
    """Let a shard of anonymous identifiers know that the known customer of record i was erased; why it stopped, before
    anything was done. no_text: an empty run of bytes."""
    row_words = settings[SET_ROW_WORDS]
    meta = shard.meta
    rows = shard.rows
    lo = records[i, CUSTOMER_LO]
    hi = records[i, CUSTOMER_HI]
    time = records[i, TIME]
    row = find_customer(shard, row_words, lo, hi)
    if row < 0:
        if meta[INDEX_USED] >= (len(shard.index) * 5) >> 3:
            return STOP_INDEX
        if meta[ROWS_FREE] == 0 and meta[ROWS_USED] >= settings[SET_ROWS_MAX]:
            return STOP_ROWS
        if meta[POOL_BUMP] + 64 > settings[SET_POOL_MAX]:
            return STOP_POOL
        row = new_row(shard, lo, hi, (records[i, PACK] >> 8) & FLAG_KIND, no_text, 0, row_words)
    base = row * row_words
    if erased_at(rows[base + FLAGS]) >= time:
        return STOP_END
    mark_erased(shard, base, time)
    mark_dirty(shard, row)
    if meta[REDIRECTS] == 0:
        return STOP_END
    for other in range(meta[ROWS_USED]):
        base = other * row_words
        block = rows[base + REDIRECT]
        if block == 0 or rows[base + FLAGS] & FLAG_IN_USE == 0:
            continue
        if shard.pool[block + TARGET_LO] == lo and shard.pool[block + TARGET_HI] == hi:
            cut_redirect(shard, base)
            mark_erased(shard, base, time)
            mark_dirty(shard, other)
    return STOP_END
