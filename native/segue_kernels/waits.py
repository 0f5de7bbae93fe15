"""Pending waits of a customer: what happened, and when its journey is decided. Pool blocks in a list (row.WAITS).

At most one a journey and key. A further arming event is ignored, or starts the wait anew if its time is later than that
of the pending one's. A block keeps what the journey's programs may ask of the arming record, and its strings.
"""

from __future__ import annotations

import numpy as np

from segue_kernels.jit import Array, inline, outline
from segue_kernels.plan import (
    JOURNEY_RESTART,
    JOURNEY_WAITS_END,
    JOURNEY_WAITS_START,
)
from segue_kernels.pool import free_block, take_block
from segue_kernels.record import (
    AMOUNT,
    CATEGORY,
    CODE,
    HEAP,
    MESSAGE_HI,
    MESSAGE_LO,
    PACK,
    PRICE,
    PRODUCT,
    SOURCE,
    STORE,
    TIME,
)
from segue_kernels.row import COUNT_WAITS_ARMED, COUNT_WAITS_REFUSED, WAITS
from segue_kernels.shard import SET_ROW_WORDS, SET_WAITS_MAX, Plan, Shard
from segue_kernels.timers import hang_by

WAIT_NEXT = 0  # block of the customer's next wait; 0 = none
WAIT_DUE = 1
WAIT_JOURNEY = 2  # journey | step << 16 | words of the block << 32
WAIT_KEY = 3
WAIT_TIME = 4  # from here on of the arming record
WAIT_MESSAGE_LO = 5
WAIT_MESSAGE_HI = 6
WAIT_PRODUCT = 7
WAIT_CATEGORY = 8
WAIT_STORE = 9
WAIT_CODE = 10
WAIT_SOURCE = 11
WAIT_PRICE = 12
WAIT_AMOUNT = 13
WAIT_PACK = 14
WAIT_LENGTHS = 15  # of the strings: message | product << 8 | category << 16
WAIT_TEXT = 16  # their bytes, one after the other
WAIT_WORDS_MAX = WAIT_TEXT + 96  # three strings of 255 bytes

JOURNEY_MASK = 0xFFFF


@inline
def step_of(word: int) -> int:
    """The step of a JOURNEY word."""
    return (word >> 16) & 0xFFFF


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
def find_wait(shard: Shard, base: int, journey: int, key: int) -> tuple[int, int]:
    """(block of the wait or 0, how many waits were looked at: all of them if there is none)."""
    block = shard.rows[base + WAITS]
    count = 0
    while block != 0:
        word = shard.pool[block + WAIT_JOURNEY]
        if (word & JOURNEY_MASK) == journey and shard.pool[block + WAIT_KEY] == key:
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
    free_block(pool, shard.meta, gone, pool[gone + WAIT_JOURNEY] >> 32)


@outline
def forget_waits(shard: Shard, base: int) -> None:
    """Drop all waits of a customer. His row may go on hanging in the wheel until it comes up."""
    pool = shard.pool
    block = shard.rows[base + WAITS]
    while block != 0:
        following = pool[block + WAIT_NEXT]
        free_block(pool, shard.meta, block, pool[block + WAIT_JOURNEY] >> 32)
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
    """Let a journey wait for this customer and key, from the event of records[item] on."""
    row_words = settings[SET_ROW_WORDS]
    base = row * row_words
    pool = shard.pool
    time = records[item, TIME]
    block, count = find_wait(shard, base, journey, key)
    if block != 0:
        if plan.journeys[journey, JOURNEY_RESTART] == 0 or time <= pool[block + WAIT_TIME]:
            return
        drop_wait(shard, base, block)
    elif count >= settings[SET_WAITS_MAX]:
        shard.meta[COUNT_WAITS_REFUSED] += 1
        return
    heap = records[header, HEAP]
    message_at = (heap >> 32) + (heap & 0xFF)
    message = (heap >> 8) & 0xFF
    heap = records[item, HEAP]
    item_at = (heap >> 32) + (heap & 0xFF) + ((heap >> 8) & 0xFF)
    product = (heap >> 16) & 0xFF
    category = (heap >> 24) & 0xFF
    words = WAIT_TEXT + ((message + product + category + 7) >> 3)
    due = time + plan.waits[plan.journeys[journey, JOURNEY_WAITS_START]]
    block = take_block(pool, shard.meta, words)
    pool[block + WAIT_NEXT] = shard.rows[base + WAITS]
    shard.rows[base + WAITS] = block
    pool[block + WAIT_DUE] = due
    pool[block + WAIT_JOURNEY] = journey | (1 << 16) | (words << 32)
    pool[block + WAIT_KEY] = key
    pool[block + WAIT_TIME] = time
    pool[block + WAIT_MESSAGE_LO] = records[item, MESSAGE_LO]
    pool[block + WAIT_MESSAGE_HI] = records[item, MESSAGE_HI]
    pool[block + WAIT_PRODUCT] = records[item, PRODUCT]
    pool[block + WAIT_CATEGORY] = records[item, CATEGORY]
    pool[block + WAIT_STORE] = records[item, STORE]
    pool[block + WAIT_CODE] = records[item, CODE]
    pool[block + WAIT_SOURCE] = records[item, SOURCE]
    pool[block + WAIT_PRICE] = records[item, PRICE]
    pool[block + WAIT_AMOUNT] = records[item, AMOUNT]
    pool[block + WAIT_PACK] = records[item, PACK]
    pool[block + WAIT_LENGTHS] = message | (product << 8) | (category << 16)
    _put_bytes(pool, block + WAIT_TEXT, 0, text, message_at, message)
    _put_bytes(pool, block + WAIT_TEXT, message, text, item_at, product + category)
    shard.meta[COUNT_WAITS_ARMED] += 1
    hang_by(shard, row, row_words, due)


@outline
def next_step(shard: Shard, plan: Plan, base: int, block: int, fired: bool) -> int:
    """A wait came due: when it is due again (its next step), or 0: it is over, and gone."""
    pool = shard.pool
    word = pool[block + WAIT_JOURNEY]
    journey = word & JOURNEY_MASK
    step = step_of(word)
    following = plan.journeys[journey, JOURNEY_WAITS_START] + step
    if not fired or following >= plan.journeys[journey, JOURNEY_WAITS_END]:
        drop_wait(shard, base, block)
        return 0
    pool[block + WAIT_JOURNEY] = word + (1 << 16)
    due = pool[block + WAIT_TIME] + plan.waits[following]
    pool[block + WAIT_DUE] = due
    return due


# --- in a history: the waits in the order in which they come due, each its words from WAIT_DUE on -------------


@inline
def waits_words(shard: Shard, base: int) -> int:
    """Words of a customer's waits in a history: their number, and what they hold."""
    words = 1
    block = shard.rows[base + WAITS]
    while block != 0:
        words += (shard.pool[block + WAIT_JOURNEY] >> 32) - WAIT_DUE
        block = shard.pool[block + WAIT_NEXT]
    return words


@inline
def _comes_after(pool: Array, block: int, due: int, journey: int, key: int) -> bool:
    """Whether a wait stands behind (due, journey, key) in the order in which they come due."""
    if pool[block + WAIT_DUE] != due:
        return pool[block + WAIT_DUE] > due
    other = pool[block + WAIT_JOURNEY] & JOURNEY_MASK
    if other != journey:
        return other > journey
    return pool[block + WAIT_KEY] > key


@inline
def write_waits(shard: Shard, base: int, history: Array, at: int) -> int:
    """Write the waits to history[at:]; where the next section begins."""
    pool = shard.pool
    number = at
    at += 1
    due = -1
    journey = -1
    key = 0
    while True:
        best = 0
        block = shard.rows[base + WAITS]
        while block != 0:
            if _comes_after(pool, block, due, journey, key) and (
                best == 0
                or not _comes_after(
                    pool,
                    block,
                    pool[best + WAIT_DUE],
                    pool[best + WAIT_JOURNEY] & JOURNEY_MASK,
                    pool[best + WAIT_KEY],
                )
            ):
                best = block
            block = pool[block + WAIT_NEXT]
        if best == 0:
            return at
        due = pool[best + WAIT_DUE]
        journey = pool[best + WAIT_JOURNEY] & JOURNEY_MASK
        key = pool[best + WAIT_KEY]
        for w in range(WAIT_DUE, pool[best + WAIT_JOURNEY] >> 32):
            history[at] = pool[best + w]
            at += 1
        history[number] += 1


@inline
def skip_waits(history: Array, at: int) -> int:
    """Where the section behind the waits begins."""
    number = history[at]
    at += 1
    for _ in range(number):
        at += (history[at + WAIT_JOURNEY - WAIT_DUE] >> 32) - WAIT_DUE
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
        word = history[at + WAIT_JOURNEY - WAIT_DUE]
        key = history[at + WAIT_KEY - WAIT_DUE]
        journey = word & JOURNEY_MASK
        words = word >> 32
        block, count = find_wait(shard, base, journey, key)
        takes = True
        if block != 0:
            time = history[at + WAIT_TIME - WAIT_DUE]
            message = history[at + WAIT_MESSAGE_LO - WAIT_DUE]
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
            for w in range(WAIT_DUE, words):
                pool[block + w] = history[at + w - WAIT_DUE]
            pool[block + WAIT_NEXT] = shard.rows[base + WAITS]
            shard.rows[base + WAITS] = block
            hang_by(shard, row, row_words, pool[block + WAIT_DUE])
        at += words - WAIT_DUE
    return at
