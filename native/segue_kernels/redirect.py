"""Anonymous identifiers: who is still anonymous, and whose events belong to a known customer.

An identify or alias turns the anonymous row into a redirect; from then on its events carry the known customer's
identity and go to that customer's shard. A batch is taken in order, so an event before the identify stays with the
anonymous row and one after it does not.
"""

from __future__ import annotations

import numpy as np

from segue_kernels.customers import erased_at, find_customer, forget_behaviour, mark_dirty, new_row
from segue_kernels.heap import string_length, string_start
from segue_kernels.ids import forget_ids
from segue_kernels.jit import Array, inline, kernel
from segue_kernels.keyed import forget_spilled
from segue_kernels.pool import free_block, take_block, wipe
from segue_kernels.record import (
    ANONYMOUS_HI,
    ANONYMOUS_LO,
    CUSTOMER_HI,
    CUSTOMER_LO,
    FLAG_IS_LINE,
    FLAG_KIND,
    HEAP,
    KIND_ANONYMOUS,
    PACK,
    STRING_CUSTOMER,
    TIME,
)
from segue_kernels.row import (
    CLOCK,
    CONSENT,
    COUNT_ERASED_EVENTS,
    EVENTS,
    FIRST_SEEN,
    FLAGS,
    INDEX_USED,
    POOL_BUMP,
    QUARANTINE_UNTIL,
    REDIRECT,
    REDIRECTS,
    ROWS_FREE,
    ROWS_USED,
    SPILL_HEAD,
    TARGET_HI,
    TARGET_KIND,
    TARGET_LO,
    TARGET_NAME,
)
from segue_kernels.shard import (
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

STAYS = 0
GOES = 1
ERASED = 2  # no later than an erasure: dropped


@inline
def _name_words(length: int) -> int:
    return TARGET_NAME + ((length + 7) >> 3)


@inline
def redirect_words(target_kind: int) -> int:
    """Words of a redirect's block, by its word TARGET_KIND."""
    return _name_words(target_kind >> 8)


@inline
def cut_redirect(shard: Shard, base: int) -> None:
    """Make an anonymous row point at nobody again."""
    block = shard.rows[base + REDIRECT]
    words = _name_words(shard.pool[block + TARGET_KIND] >> 8)
    wipe(shard.pool, block, block + words)
    free_block(shard.pool, shard.meta, block, words)
    shard.rows[base + REDIRECT] = 0
    shard.meta[REDIRECTS] -= 1


@inline
def set_redirect(shard: Shard, base: int, lo: int, hi: int, kind: int, text: Array, heap: int) -> None:
    """Point an anonymous row at a known customer; a later word replaces an earlier one."""
    pool = shard.pool
    block = shard.rows[base + REDIRECT]
    length = string_length(heap, STRING_CUSTOMER)
    if block != 0:
        free_block(pool, shard.meta, block, _name_words(pool[block + TARGET_KIND] >> 8))
    else:
        shard.meta[REDIRECTS] += 1
    block = take_block(pool, shard.meta, _name_words(length))
    shard.rows[base + REDIRECT] = block
    pool[block + TARGET_LO] = lo
    pool[block + TARGET_HI] = hi
    pool[block + TARGET_KIND] = kind | (length << 8)
    at = string_start(heap, STRING_CUSTOMER)
    for w in range(_name_words(length) - TARGET_NAME):
        pool[block + TARGET_NAME + w] = 0
    for b in range(length):
        byte = np.int64(text[at + b])
        w = b >> 3
        if b & 7 == 7:
            pool[block + TARGET_NAME + w] |= ((byte ^ 0x80) - 0x80) << 56
        else:
            pool[block + TARGET_NAME + w] |= byte << (8 * (b & 7))


@kernel
def resolve(
    shard: Shard,
    records: Array,
    text: Array,
    row_of: Array,
    goes: Array,
    history_of: Array,
    names: Array,
    name_at: Array,
    start: int,
    names_used: int,
    settings: Array,
) -> tuple[int, int, int]:
    """Decide for each record whether it stays with its anonymous row or goes to a known customer.

    records        int64 [n, 16], writable: those that go get the known customer's hash and kind
    row_of         int64 [n]: the anonymous row
    goes           uint8 [n]: STAYS, GOES or ERASED
    history_of     int64 [n]: row whose history this identify takes along, else -1 (at most one a row: its first)
    names, name_at uint8 buffer and int64 [n] (offset << 8 | length): name of the customer a record goes to,
                   -1 = its own
    Returns (how far it came, why it stopped, bytes of names used).
    """
    row_words = settings[SET_ROW_WORDS]
    n = len(records)
    room = (len(shard.index) * 5) >> 3
    for i in range(start, n):
        pack = records[i, PACK]
        if (pack >> 8) & FLAG_IS_LINE and i > 0:
            row_of[i] = row_of[i - 1]
            goes[i] = goes[i - 1]
            history_of[i] = -1
            name_at[i] = name_at[i - 1]
            if goes[i] == GOES:
                records[i, CUSTOMER_LO] = records[i - 1, CUSTOMER_LO]
                records[i, CUSTOMER_HI] = records[i - 1, CUSTOMER_HI]
                records[i, PACK] = (pack & ~(FLAG_KIND << 8)) | (records[i - 1, PACK] & (FLAG_KIND << 8))
            continue
        kind = (pack >> 8) & FLAG_KIND
        links = kind != KIND_ANONYMOUS
        lo = records[i, ANONYMOUS_LO] if links else records[i, CUSTOMER_LO]
        hi = records[i, ANONYMOUS_HI] if links else records[i, CUSTOMER_HI]
        if links:
            known = find_customer(shard, row_words, records[i, CUSTOMER_LO], records[i, CUSTOMER_HI])
            if known >= 0 and records[i, TIME] <= erased_at(shard.rows[known * row_words + FLAGS]):
                row_of[i] = known
                goes[i] = ERASED
                history_of[i] = -1
                name_at[i] = -1
                shard.meta[COUNT_ERASED_EVENTS] += 1
                continue
        row = find_customer(shard, row_words, lo, hi)
        if (links or row < 0) and shard.meta[POOL_BUMP] + 128 > settings[SET_POOL_MAX]:
            return i, STOP_POOL, names_used
        if row < 0:
            if shard.meta[INDEX_USED] >= room:
                return i, STOP_INDEX, names_used
            if shard.meta[ROWS_FREE] == 0 and shard.meta[ROWS_USED] >= settings[SET_ROWS_MAX]:
                return i, STOP_ROWS, names_used
            # a row made by an identify has no name of its own: nothing will ever be sent in it
            heap = 0 if links else records[i, HEAP]
            row = new_row(shard, lo, hi, KIND_ANONYMOUS, text, heap, row_words)
        base = row * row_words
        row_of[i] = row
        history_of[i] = -1
        name_at[i] = -1
        if links:
            goes[i] = GOES
            if records[i, TIME] > erased_at(shard.rows[base + FLAGS]):
                if shard.rows[base + REDIRECT] == 0:
                    history_of[i] = row
                mark_dirty(shard, row)
                set_redirect(
                    shard,
                    base,
                    records[i, CUSTOMER_LO],
                    records[i, CUSTOMER_HI],
                    kind,
                    text,
                    records[i, HEAP],
                )
            records[i, ANONYMOUS_LO] = 0  # they are a product and a category from here on: none
            records[i, ANONYMOUS_HI] = 0
        elif shard.rows[base + REDIRECT] != 0 and records[i, TIME] <= erased_at(shard.rows[base + FLAGS]):
            goes[i] = ERASED
            shard.meta[COUNT_ERASED_EVENTS] += 1
        elif shard.rows[base + REDIRECT] != 0:
            goes[i] = GOES
            block = shard.rows[base + REDIRECT]
            records[i, CUSTOMER_LO] = shard.pool[block + TARGET_LO]
            records[i, CUSTOMER_HI] = shard.pool[block + TARGET_HI]
            target_kind = shard.pool[block + TARGET_KIND]
            records[i, PACK] = (pack & ~(FLAG_KIND << 8)) | ((target_kind & FLAG_KIND) << 8)
            length = target_kind >> 8
            name_at[i] = (names_used << 8) | length
            for b in range(length):
                names[names_used + b] = (shard.pool[block + TARGET_NAME + (b >> 3)] >> (8 * (b & 7))) & 0xFF
            names_used += length
        else:
            goes[i] = STAYS
    return n, STOP_END, names_used


@kernel
def leave_redirect(shard: Shard, plan: Plan, row: int, settings: Array) -> None:
    """Empty a row whose history has been taken along: only its identifier and the redirect stay."""
    row_words = settings[SET_ROW_WORDS]
    base = row * row_words
    take_off(shard, row, row_words)
    forget_behaviour(shard, plan, base)
    if shard.rows[base + SPILL_HEAD] != 0:
        forget_spilled(shard, plan.streams, base, True)
    forget_ids(shard, base)
    shard.rows[base + CLOCK] = 0
    shard.rows[base + QUARANTINE_UNTIL] = 0
    shard.rows[base + FIRST_SEEN] = 0
    shard.rows[base + EVENTS] = 0
    for w in range(CONSENT, row_words):
        shard.rows[base + w] = 0
