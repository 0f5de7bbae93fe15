"""The waits of a customer (waits.py) in a history: their number, then in the order in which they come due each one's
words from WAIT_SHAPE on, held and outstanding actions among them."""

from __future__ import annotations

from segue_kernels.jit import Array, inline
from segue_kernels.outstanding import add_outstanding
from segue_kernels.plan import JOURNEY_RESTART
from segue_kernels.pool import take_block
from segue_kernels.row import COUNT_HELD_REFUSED, COUNT_WAITS_REFUSED, WAITS, WAITS_PENDING
from segue_kernels.shard import SET_HELD_MAX, SET_ROW_WORDS, SET_WAITS_MAX, Plan, Shard
from segue_kernels.timers import hang_by
from segue_kernels.waits import (
    HELD_OFFER,
    OUTSTANDING_DECISION_LO,
    WAIT_MESSAGE_LO,
    WAIT_NEXT,
    WAIT_SHAPE,
    WAIT_TIME,
    drop_wait,
    due_in,
    find_held,
    find_wait,
    held_at,
    is_held,
    is_newer,
    is_outstanding,
    journey_of,
    key_in,
    offer_in,
    step_of,
    words_of,
)


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
def _kind_of(shape: int) -> int:
    if is_outstanding(shape):
        return 2
    return 1 if is_held(shape) else 0


@inline
def _comes_after(plan: Plan, pool: Array, block: int, other: int) -> bool:
    """Whether a wait stands behind another in the order in which they come due, held and outstanding actions last; 0 is
    before all."""
    if other == 0:
        return True
    due = due_in(plan, pool, block)
    other_due = due_in(plan, pool, other)
    if due != other_due:
        return due > other_due
    shape = pool[block + WAIT_SHAPE]
    other_shape = pool[other + WAIT_SHAPE]
    if _kind_of(shape) != _kind_of(other_shape):
        return _kind_of(shape) > _kind_of(other_shape)
    if journey_of(shape) != journey_of(other_shape):
        return journey_of(shape) > journey_of(other_shape)
    if is_outstanding(shape):
        low = pool[block + OUTSTANDING_DECISION_LO]
        other_low = pool[other + OUTSTANDING_DECISION_LO]
        return bool(low > other_low or (low == other_low and step_of(shape) > step_of(other_shape)))
    key = key_in(plan, pool, block)
    other_key = key_in(plan, pool, other)
    if key != other_key or not is_held(shape):
        return key > other_key
    return bool(pool[held_at(pool, block) + HELD_OFFER] > pool[held_at(pool, other) + HELD_OFFER])


@inline
def write_waits(shard: Shard, plan: Plan, base: int, history: Array, at: int) -> int:
    """Write the waits to history[at:]; where the next section begins."""
    pool = shard.pool
    number = at
    at += 1
    last = 0
    while True:
        best = 0
        block = shard.rows[base + WAITS]
        while block != 0:
            if _comes_after(plan, pool, block, last) and (
                best == 0 or not _comes_after(plan, pool, block, best)
            ):
                best = block
            block = pool[block + WAIT_NEXT]
        if best == 0:
            return at
        last = best
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

    Of two for one journey and key the later arming event's stays if the journey restarts, else the earlier one's; of
    two held actions for one journey, slot and key the newer; of outstanding ones the newest.
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
        if is_outstanding(history[at]):
            add_outstanding(shard, plan, row, history, wait, settings)
            at += words - WAIT_SHAPE
            continue
        held = is_held(history[at])
        if held:
            offer = offer_in(plan, history, wait)
            block, count = find_held(shard, plan, base, journey, key_in(plan, history, wait), offer)
        else:
            block, count = find_wait(shard, plan, base, journey, key_in(plan, history, wait))
        takes = True
        if block != 0 and held:
            takes = is_newer(history, wait, pool, block)
            if takes:
                drop_wait(shard, base, block)
        elif block != 0:
            time = history[wait + WAIT_TIME]
            message = history[wait + WAIT_MESSAGE_LO]
            own = pool[block + WAIT_TIME]
            own_message = pool[block + WAIT_MESSAGE_LO]
            later = time > own or (time == own and message > own_message)
            same = time == own and message == own_message
            takes = not same and later == (plan.journeys[journey, JOURNEY_RESTART] != 0)
            if takes:
                drop_wait(shard, base, block)
        elif count >= settings[SET_HELD_MAX if held else SET_WAITS_MAX]:
            shard.meta[COUNT_HELD_REFUSED if held else COUNT_WAITS_REFUSED] += 1
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
