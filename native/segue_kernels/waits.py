"""Pending waits of a customer: what happened, and when its journey is decided. Pool blocks in a list (row.WAITS).

At most one a journey and key. A further arming event is ignored, or starts the wait anew if its time is later than that
of the pending one's. A block keeps what the journey's programs may ask of the arming record, and its strings: of the
record's words those that are not 0, and nothing that follows from them and the plan (key_of, due_of).
"""

from __future__ import annotations

import numpy as np

from segue_kernels.heap import string_length, string_start
from segue_kernels.jit import Array, inline, outline
from segue_kernels.plan import (
    BY_NONE,
    BY_PRODUCT,
    JOURNEY_BY,
    JOURNEY_RESTART,
    JOURNEY_WAITS_END,
    JOURNEY_WAITS_START,
)
from segue_kernels.pool import free_block, take_block
from segue_kernels.record import (
    AMOUNT,
    HEAP,
    MESSAGE_LO,
    PACK,
    PRODUCT,
    SOURCE,
    STRING_CATEGORY,
    STRING_MESSAGE,
    STRING_PRODUCT,
    TIME,
)
from segue_kernels.row import COUNT_WAITS_ARMED, COUNT_WAITS_REFUSED, WAITS, WAITS_PENDING
from segue_kernels.shard import SET_ROW_WORDS, SET_WAITS_MAX, Plan, Shard
from segue_kernels.timers import hang_by

WAIT_NEXT = 0  # block of the customer's next wait; 0 = none
WAIT_SHAPE = 1  # journey | step << 16 | words of the block << 24 | lengths of the strings << 32 | KEPT << 56
WAIT_TIME = 2  # from here on of the arming record
WAIT_MESSAGE_LO = 3
WAIT_PACK = 4
WAIT_KEPT = (
    5  # the words of KEPT, and behind them the strings (message, product, category), one after the other
)

# KEPT: bit w is word PRODUCT + w of the record (PRODUCT, CATEGORY, STORE, CODE, PRICE, AMOUNT), the last is SOURCE
_KEPT_RUN = AMOUNT + 1 - PRODUCT
_KEPT_SOURCE = _KEPT_RUN
_KEPT_SHIFT = 56
_STEP_SHIFT = 16
_WORDS_SHIFT = 24
_LENGTHS_SHIFT = 32
WAIT_WORDS_MAX = WAIT_KEPT + _KEPT_RUN + 1 + 96  # three strings of 255 bytes


@inline
def journey_of(shape: int) -> int:
    return shape & 0xFFFF


@inline
def step_of(shape: int) -> int:
    return (shape >> _STEP_SHIFT) & 0xFF


@inline
def words_of(shape: int) -> int:
    """Words of the wait's block."""
    return (shape >> _WORDS_SHIFT) & 0xFF


@inline
def lengths_of(shape: int) -> int:
    """Lengths of the strings: message | product << 8 | category << 16."""
    return (shape >> _LENGTHS_SHIFT) & 0xFFFFFF


@inline
def key_in(plan: Plan, words: Array, at: int) -> int:
    """The key of a wait whose words begin at words[at] (its block, or one less than where it stands in a history)."""
    shape = words[at + WAIT_SHAPE]
    by = plan.journeys[journey_of(shape), JOURNEY_BY]
    if by == BY_NONE:
        return 0
    has_product = (shape >> _KEPT_SHIFT) & 1
    key: int = words[at + WAIT_KEPT + (0 if by == BY_PRODUCT else has_product)]
    return key


@inline
def due_in(plan: Plan, words: Array, at: int) -> int:
    """When a wait (as of key_in) is due: the delay of its step after its event."""
    shape = words[at + WAIT_SHAPE]
    first = plan.journeys[journey_of(shape), JOURNEY_WAITS_START]
    due: int = words[at + WAIT_TIME] + plan.waits[first + step_of(shape) - 1]
    return due


@inline
def restore_record(pool: Array, block: int, records: Array, record: int) -> int:
    """Write the words kept of the arming record to records[record], which is 0 there; where the strings lie."""
    kept = pool[block + WAIT_SHAPE] >> _KEPT_SHIFT
    at = block + WAIT_KEPT
    for w in range(_KEPT_RUN):
        if (kept >> w) & 1:
            records[record, PRODUCT + w] = pool[at]
            at += 1
    if (kept >> _KEPT_SOURCE) & 1:
        records[record, SOURCE] = pool[at]
        at += 1
    return at


@inline
def _put_bytes(words: Array, start: int, position: int, text: Array, at: int, length: int) -> None:
    """text[at : at + length] to bytes `position` on of words[start:], which are zero there."""
    for b in range(length):
        byte = np.int64(text[at + b])
        to = position + b
        if to & 7 == 7:  # the highest byte carries the sign
            words[start + (to >> 3)] |= ((byte ^ 0x80) - 0x80) << 56
        else:
            words[start + (to >> 3)] |= byte << (8 * (to & 7))


@inline
def find_wait(shard: Shard, plan: Plan, base: int, journey: int, key: int) -> tuple[int, int]:
    """(block of the wait or 0, how many waits were looked at: all of them if there is none)."""
    block = shard.rows[base + WAITS]
    count = 0
    while block != 0:
        if journey_of(shard.pool[block + WAIT_SHAPE]) == journey and key_in(plan, shard.pool, block) == key:
            return block, count
        count += 1
        block = shard.pool[block + WAIT_NEXT]
    return 0, count


@outline
def drop_wait(shard: Shard, base: int, gone: int) -> None:
    """Take a wait out of the customer's list and give its block back."""
    pool = shard.pool
    following = pool[gone + WAIT_NEXT]
    block = shard.rows[base + WAITS]
    if block == gone:
        shard.rows[base + WAITS] = following
    else:
        while pool[block + WAIT_NEXT] != gone:
            block = pool[block + WAIT_NEXT]
        pool[block + WAIT_NEXT] = following
    free_block(pool, shard.meta, gone, words_of(pool[gone + WAIT_SHAPE]))
    shard.meta[WAITS_PENDING] -= 1


@outline
def forget_waits(shard: Shard, base: int) -> None:
    """Drop all waits of a customer. His row may go on hanging in the wheel until it comes up."""
    pool = shard.pool
    block = shard.rows[base + WAITS]
    while block != 0:
        following = pool[block + WAIT_NEXT]
        free_block(pool, shard.meta, block, words_of(pool[block + WAIT_SHAPE]))
        shard.meta[WAITS_PENDING] -= 1
        block = following
    shard.rows[base + WAITS] = 0


@outline
def arm(
    shard: Shard,
    plan: Plan,
    records: Array,
    text: Array,
    header: int,
    item: int,
    journey: int,
    key: int,
    row: int,
    settings: Array,
) -> None:
    """Let a journey wait for this customer, from the event of records[item] on. `key` is that record's PRODUCT or
    CATEGORY, as the journey's JOURNEY_BY says, else 0."""
    row_words = settings[SET_ROW_WORDS]
    base = row * row_words
    pool = shard.pool
    time = records[item, TIME]
    block, count = find_wait(shard, plan, base, journey, key)
    if block != 0:
        if plan.journeys[journey, JOURNEY_RESTART] == 0 or time <= pool[block + WAIT_TIME]:
            return
        drop_wait(shard, base, block)
    elif count >= settings[SET_WAITS_MAX]:
        shard.meta[COUNT_WAITS_REFUSED] += 1
        return
    heap = records[header, HEAP]
    message_at = string_start(heap, STRING_MESSAGE)
    message = string_length(heap, STRING_MESSAGE)
    heap = records[item, HEAP]
    item_at = string_start(heap, STRING_PRODUCT)
    product = string_length(heap, STRING_PRODUCT)
    category = string_length(heap, STRING_CATEGORY)
    kept = 0
    text_at = WAIT_KEPT
    for w in range(_KEPT_RUN):
        if records[item, PRODUCT + w] != 0:
            kept |= 1 << w
            text_at += 1
    if records[item, SOURCE] != 0:
        kept |= 1 << _KEPT_SOURCE
        text_at += 1
    words = text_at + ((message + product + category + 7) >> 3)
    lengths = message | (product << 8) | (category << 16)
    block = take_block(pool, shard.meta, words)
    shard.meta[WAITS_PENDING] += 1
    pool[block + WAIT_NEXT] = shard.rows[base + WAITS]
    shard.rows[base + WAITS] = block
    pool[block + WAIT_SHAPE] = (
        journey
        | (1 << _STEP_SHIFT)
        | (words << _WORDS_SHIFT)
        | (lengths << _LENGTHS_SHIFT)
        | (kept << _KEPT_SHIFT)
    )
    pool[block + WAIT_TIME] = time
    pool[block + WAIT_MESSAGE_LO] = records[item, MESSAGE_LO]
    pool[block + WAIT_PACK] = records[item, PACK]
    at = block + WAIT_KEPT
    for w in range(_KEPT_RUN):
        if records[item, PRODUCT + w] != 0:
            pool[at] = records[item, PRODUCT + w]
            at += 1
    if records[item, SOURCE] != 0:
        pool[at] = records[item, SOURCE]
    _put_bytes(pool, block + text_at, 0, text, message_at, message)
    _put_bytes(pool, block + text_at, message, text, item_at, product + category)
    shard.meta[COUNT_WAITS_ARMED] += 1
    hang_by(shard, row, row_words, due_in(plan, pool, block))


@outline
def next_step(shard: Shard, plan: Plan, base: int, block: int, fired: bool) -> int:
    """A wait came due: when it is due again (its next step), or 0: it is over, and gone."""
    pool = shard.pool
    shape = pool[block + WAIT_SHAPE]
    journey = journey_of(shape)
    following = plan.journeys[journey, JOURNEY_WAITS_START] + step_of(shape)
    if not fired or following >= plan.journeys[journey, JOURNEY_WAITS_END]:
        drop_wait(shard, base, block)
        return 0
    pool[block + WAIT_SHAPE] = shape + (1 << _STEP_SHIFT)
    return due_in(plan, pool, block)


# --- in a history: the waits in the order in which they come due, each its words from WAIT_SHAPE on -----------


@inline
def waits_words(shard: Shard, base: int) -> int:
    """Words of a customer's waits in a history: their number, and what they hold."""
    words = 1
    block = shard.rows[base + WAITS]
    while block != 0:
        words += words_of(shard.pool[block + WAIT_SHAPE]) - WAIT_SHAPE
        block = shard.pool[block + WAIT_NEXT]
    return words


@inline
def _comes_after(plan: Plan, pool: Array, block: int, due: int, journey: int, key: int) -> bool:
    """Whether a wait stands behind (due, journey, key) in the order in which they come due."""
    own_due = due_in(plan, pool, block)
    if own_due != due:
        return own_due > due
    own_journey = journey_of(pool[block + WAIT_SHAPE])
    if own_journey != journey:
        return own_journey > journey
    return key_in(plan, pool, block) > key


@inline
def write_waits(shard: Shard, plan: Plan, base: int, history: Array, at: int) -> int:
    """Write the waits to history[at:]; where the next section begins."""
    pool = shard.pool
    number = at
    at += 1
    due = -1
    journey = -1
    key = 0
    while True:
        best = 0
        best_due = 0
        best_journey = 0
        best_key = 0
        block = shard.rows[base + WAITS]
        while block != 0:
            if _comes_after(plan, pool, block, due, journey, key) and (
                best == 0 or not _comes_after(plan, pool, block, best_due, best_journey, best_key)
            ):
                best = block
                best_due = due_in(plan, pool, block)
                best_journey = journey_of(pool[block + WAIT_SHAPE])
                best_key = key_in(plan, pool, block)
            block = pool[block + WAIT_NEXT]
        if best == 0:
            return at
        due = best_due
        journey = best_journey
        key = best_key
        for w in range(WAIT_SHAPE, words_of(pool[best + WAIT_SHAPE])):
            history[at] = pool[best + w]
            at += 1
        history[number] += 1


@inline
def skip_waits(history: Array, at: int) -> int:
    """Where the section behind the waits begins."""
    number = history[at]
    at += 1
    for _ in range(number):
        at += words_of(history[at]) - WAIT_SHAPE
    return at


@inline
def read_waits(shard: Shard, plan: Plan, row: int, history: Array, at: int, settings: Array) -> int:
    """Join the waits of history[at:] into a row's; where the next section begins.

    Of two for one journey and key the later arming event's stays if the journey restarts, else the earlier one's.
    """
    row_words = settings[SET_ROW_WORDS]
    base = row * row_words
    pool = shard.pool
    number = history[at]
    at += 1
    for _ in range(number):
        wait = at - WAIT_SHAPE
        journey = journey_of(history[at])
        words = words_of(history[at])
        block, count = find_wait(shard, plan, base, journey, key_in(plan, history, wait))
        takes = True
        if block != 0:
            time = history[wait + WAIT_TIME]
            message = history[wait + WAIT_MESSAGE_LO]
            own = pool[block + WAIT_TIME]
            own_message = pool[block + WAIT_MESSAGE_LO]
            later = time > own or (time == own and message > own_message)
            same = time == own and message == own_message
            takes = not same and later == (plan.journeys[journey, JOURNEY_RESTART] != 0)
            if takes:
                drop_wait(shard, base, block)
        elif count >= settings[SET_WAITS_MAX]:
            shard.meta[COUNT_WAITS_REFUSED] += 1
            takes = False
        if takes:
            block = take_block(pool, shard.meta, words)
            shard.meta[WAITS_PENDING] += 1
            for w in range(WAIT_SHAPE, words):
                pool[block + w] = history[wait + w]
            pool[block + WAIT_NEXT] = shard.rows[base + WAITS]
            shard.rows[base + WAITS] = block
            hang_by(shard, row, row_words, due_in(plan, pool, block))
        at += words - WAIT_SHAPE
    return at
