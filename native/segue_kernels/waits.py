"""Pending waits of a customer: what happened, and when its journey is decided. Pool blocks in a list (row.WAITS).

At most one a journey and key. A further arming event is ignored, or starts the wait anew if its time is later than that
of the pending one's. A block keeps what the journey's programs may ask of the arming record, and its strings: of the
record's words those that are not 0, and nothing that follows from them and the plan (key_of, due_of).

In the same list stand the customer's held actions (held.py): blocks of the same form, of the record that the journey
fired on, with HELD_WORDS words more at their end; and the outstanding ones (outstanding.py), whose blocks have the
OUTSTANDING_* words behind WAIT_TIME.
"""

from __future__ import annotations

import numpy as np

from segue_kernels.heap import string_length, string_start
from segue_kernels.jit import Array, inline, outline
from segue_kernels.plan import (
    BY_NONE,
    BY_PRODUCT,
    JOURNEY_BY,
    JOURNEY_OFFERS_END,
    JOURNEY_OFFERS_START,
    JOURNEY_RESTART,
    JOURNEY_WAITS_END,
    JOURNEY_WAITS_START,
    OFFER_SLOT,
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
from segue_kernels.row import (
    COUNT_WAITS_ARMED,
    COUNT_WAITS_REFUSED,
    WAITS,
    WAITS_PENDING,
)
from segue_kernels.shard import SET_ROW_WORDS, SET_WAITS_MAX, Plan, Shard
from segue_kernels.timers import hang_by

WAIT_NEXT = 0  # block of the customer's next wait; 0 = none
WAIT_SHAPE = 1  # journey | step << 16 | words of the block << 24 | lengths of the strings << 32 | KEPT << 56 | HELD_BIT
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
_STEP_MASK = 0x7F
_OUTSTANDING_BIT = 1 << 23  # an outstanding action, no wait
_WORDS_SHIFT = 24
_LENGTHS_SHIFT = 32
# of an outstanding action, which has no strings
_TELLS_END_BIT = 1 << _LENGTHS_SHIFT
_IS_TOLD_BIT = 2 << _LENGTHS_SHIFT
HELD_BIT = -(1 << 63)  # a held action, no wait
WAIT_WORDS_MAX = WAIT_KEPT + _KEPT_RUN + 1 + 96  # three strings of 255 bytes

# the last words of a held action's block
HELD_UNTIL = 0  # when it is released, ms
HELD_FIRST = 1  # when it was decided, ms
HELD_OFFER = 2  # Plan.offer_hash
HELD_WORDS = 3

# an outstanding action's block; WAIT_TIME is when it was decided
OUTSTANDING_DECISION_LO = 3
OUTSTANDING_DECISION_HI = 4
OUTSTANDING_OFFER = 5  # Plan.offer_hash
OUTSTANDING_UNTIL = 6  # when it ends, ms
OUTSTANDING_KEY = 7  # what its journey's waits are by, of the record that it fired on
OUTSTANDING_WORDS = 8


@inline
def journey_of(shape: int) -> int:
    return shape & 0xFFFF


@inline
def step_of(shape: int) -> int:
    return (shape >> _STEP_SHIFT) & _STEP_MASK


@inline
def words_of(shape: int) -> int:
    """Words of the wait's block."""
    return (shape >> _WORDS_SHIFT) & 0xFF


@inline
def lengths_of(shape: int) -> int:
    """Lengths of the strings: message | product << 8 | category << 16."""
    return (shape >> _LENGTHS_SHIFT) & 0xFFFFFF


@inline
def is_held(shape: int) -> bool:
    return shape < 0


@inline
def is_outstanding(shape: int) -> bool:
    return shape & _OUTSTANDING_BIT != 0


@inline
def is_wait(shape: int) -> bool:
    return shape >= 0 and shape & _OUTSTANDING_BIT == 0


@inline
def any_outstanding(shard: Shard, base: int) -> bool:
    block = shard.rows[base + WAITS]
    while block != 0:
        if is_outstanding(shard.pool[block + WAIT_SHAPE]):
            return True
        block = shard.pool[block + WAIT_NEXT]
    return False


@inline
def tells_end(shape: int) -> bool:
    """Whether an outstanding action is taken back when it ends: it holds good no longer then."""
    return shape & _TELLS_END_BIT != 0


@inline
def is_told(shape: int) -> bool:
    """Whether it is known already, from before a crash, that the outstanding action is taken back."""
    return shape & _IS_TOLD_BIT != 0


@inline
def make_outstanding(journey: int, step: int, tells: bool, told: bool) -> int:
    """WAIT_SHAPE of an outstanding action."""
    shape = journey | (step << _STEP_SHIFT) | _OUTSTANDING_BIT | (OUTSTANDING_WORDS << _WORDS_SHIFT)
    return shape | (_TELLS_END_BIT if tells else 0) | (_IS_TOLD_BIT if told else 0)


@inline
def held_at(words: Array, at: int) -> int:
    """Where the HELD_* words begin of a held action (as of key_in)."""
    return at + words_of(words[at + WAIT_SHAPE]) - HELD_WORDS


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
    """When a wait (as of key_in) is due: the delay of its step after its event; when a held action is released, or an
    outstanding one ends."""
    shape = words[at + WAIT_SHAPE]
    if is_held(shape):
        until: int = words[held_at(words, at) + HELD_UNTIL]
        return until
    if is_outstanding(shape):
        ends: int = words[at + OUTSTANDING_UNTIL]
        return ends
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
        shape = shard.pool[block + WAIT_SHAPE]
        if is_wait(shape):
            if journey_of(shape) == journey and key_in(plan, shard.pool, block) == key:
                return block, count
            count += 1
        block = shard.pool[block + WAIT_NEXT]
    return 0, count


@inline
def offer_in(plan: Plan, words: Array, at: int) -> int:
    """The offer of a held action (as of key_in), or -1: there is no such offer any more."""
    journey = journey_of(words[at + WAIT_SHAPE])
    hash_ = words[held_at(words, at) + HELD_OFFER]
    for offer in range(
        plan.journeys[journey, JOURNEY_OFFERS_START], plan.journeys[journey, JOURNEY_OFFERS_END]
    ):
        if plan.offer_hash[offer] == hash_:
            return offer
    return -1


@inline
def is_newer(words: Array, at: int, others: Array, other: int) -> bool:
    """Whether a held action (as of key_in) was decided later than another; of two at the same time one is."""
    own = held_at(words, at)
    its = held_at(others, other)
    if words[own + HELD_FIRST] != others[its + HELD_FIRST]:
        return bool(words[own + HELD_FIRST] > others[its + HELD_FIRST])
    if words[at + WAIT_MESSAGE_LO] != others[other + WAIT_MESSAGE_LO]:
        return bool(words[at + WAIT_MESSAGE_LO] > others[other + WAIT_MESSAGE_LO])
    return bool(words[own + HELD_OFFER] > others[its + HELD_OFFER])


@outline
def find_held(shard: Shard, plan: Plan, base: int, journey: int, key: int, offer: int) -> tuple[int, int]:
    """(block of the action held for this journey and key and the slot of this offer, or 0; how many were looked at: all
    of them if there is none). An offer that is there no more is -1."""
    pool = shard.pool
    block = shard.rows[base + WAITS]
    count = 0
    while block != 0:
        shape = pool[block + WAIT_SHAPE]
        if is_held(shape):
            if journey_of(shape) == journey and key_in(plan, pool, block) == key:
                other = offer_in(plan, pool, block)
                if offer == other or (
                    offer >= 0
                    and other >= 0
                    and plan.offers[offer, OFFER_SLOT] == plan.offers[other, OFFER_SLOT]
                ):
                    return block, count
            count += 1
        block = pool[block + WAIT_NEXT]
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


@inline
def keep_wait(
    shard: Shard,
    records: Array,
    text: Array,
    header: int,
    item: int,
    journey: int,
    step: int,
    more: int,
    row: int,
    row_words: int,
) -> int:
    """A block for records[item] in front of the customer's list, with `more` words behind its strings."""
    base = row * row_words
    pool = shard.pool
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
    words = text_at + ((message + product + category + 7) >> 3) + more
    lengths = message | (product << 8) | (category << 16)
    block = take_block(pool, shard.meta, words)
    shard.meta[WAITS_PENDING] += 1
    pool[block + WAIT_NEXT] = shard.rows[base + WAITS]
    shard.rows[base + WAITS] = block
    pool[block + WAIT_SHAPE] = (
        journey
        | (step << _STEP_SHIFT)
        | (words << _WORDS_SHIFT)
        | (lengths << _LENGTHS_SHIFT)
        | (kept << _KEPT_SHIFT)
    )
    pool[block + WAIT_TIME] = records[item, TIME]
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
    return int(block)


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
    block = keep_wait(shard, records, text, header, item, journey, 1, 0, row, row_words)
    shard.meta[COUNT_WAITS_ARMED] += 1
    hang_by(shard, row, row_words, due_in(plan, shard.pool, block))


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
