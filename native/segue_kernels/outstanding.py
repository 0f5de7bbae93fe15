"""Actions that went out and may be taken back, because they may not have been sent yet: what names them again.

An outstanding action stands in the list of the customer's waits (waits.py): a block of its own form, the newest
SET_OUTSTANDING_MAX of a customer. It ends when its offer's time for that is over; what takes it back before says
takeback.py.
"""

from __future__ import annotations

from segue_kernels.jit import Array, inline, outline
from segue_kernels.plan import (
    BY_NONE,
    BY_PRODUCT,
    JOURNEY_BY,
    JOURNEY_OFFERS_END,
    JOURNEY_OFFERS_START,
    OFFER_EXPIRES_MS,
    OFFER_JOURNEY,
    OFFER_TAKE_BACK_MS,
)
from segue_kernels.pool import take_block
from segue_kernels.record import CATEGORY, PRODUCT
from segue_kernels.row import COUNT_OUTSTANDING_DROPPED, WAITS, WAITS_PENDING
from segue_kernels.shard import SET_OUTSTANDING_MAX, SET_ROW_WORDS, Plan, Shard
from segue_kernels.timers import hang_by
from segue_kernels.waits import (
    OUTSTANDING_DECISION_HI,
    OUTSTANDING_DECISION_LO,
    OUTSTANDING_KEY,
    OUTSTANDING_OFFER,
    OUTSTANDING_UNTIL,
    OUTSTANDING_WORDS,
    WAIT_NEXT,
    WAIT_SHAPE,
    WAIT_TIME,
    drop_wait,
    is_outstanding,
    journey_of,
    make_outstanding,
    step_of,
)


@inline
def outstanding_offer(plan: Plan, words: Array, at: int) -> int:
    """The offer of an outstanding action (as of waits.key_in), or -1: there is no such offer any more."""
    journey = journey_of(words[at + WAIT_SHAPE])
    for offer in range(
        plan.journeys[journey, JOURNEY_OFFERS_START], plan.journeys[journey, JOURNEY_OFFERS_END]
    ):
        if plan.offer_hash[offer] == words[at + OUTSTANDING_OFFER]:
            return offer
    return -1


@inline
def is_older(words: Array, at: int, others: Array, other: int) -> bool:
    """Whether an outstanding action (as of waits.key_in) was decided before another; of two at the same time one is."""
    if words[at + WAIT_TIME] != others[other + WAIT_TIME]:
        return bool(words[at + WAIT_TIME] < others[other + WAIT_TIME])
    low = words[at + OUTSTANDING_DECISION_LO]
    its_low = others[other + OUTSTANDING_DECISION_LO]
    if low != its_low:
        return bool(low < its_low)
    journey = journey_of(words[at + WAIT_SHAPE])
    its_journey = journey_of(others[other + WAIT_SHAPE])
    if journey != its_journey:
        return journey < its_journey
    return step_of(words[at + WAIT_SHAPE]) < step_of(others[other + WAIT_SHAPE])


@outline
def find_outstanding(shard: Shard, base: int, words: Array, at: int) -> tuple[int, int, int]:
    """(the block of the same decision, journey and step as words[at:] or 0, the oldest block or 0, how many there
    are)."""
    pool = shard.pool
    block = shard.rows[base + WAITS]
    same = oldest = count = 0
    while block != 0:
        shape = pool[block + WAIT_SHAPE]
        if is_outstanding(shape):
            count += 1
            if oldest == 0 or is_older(pool, block, pool, oldest):
                oldest = block
            if (
                pool[block + OUTSTANDING_DECISION_LO] == words[at + OUTSTANDING_DECISION_LO]
                and pool[block + OUTSTANDING_DECISION_HI] == words[at + OUTSTANDING_DECISION_HI]
                and journey_of(shape) == journey_of(words[at + WAIT_SHAPE])
                and step_of(shape) == step_of(words[at + WAIT_SHAPE])
            ):
                same = block
        block = pool[block + WAIT_NEXT]
    return same, oldest, count


@outline
def add_outstanding(shard: Shard, plan: Plan, row: int, words: Array, at: int, settings: Array) -> None:
    """Let the row have the outstanding action words[at:] (as of waits.key_in), unless all it may have are newer."""
    row_words = settings[SET_ROW_WORDS]
    base = row * row_words
    pool = shard.pool
    same, oldest, count = find_outstanding(shard, base, words, at)
    if same != 0:
        return
    if count >= settings[SET_OUTSTANDING_MAX]:
        shard.meta[COUNT_OUTSTANDING_DROPPED] += 1
        if is_older(words, at, pool, oldest):
            return
        drop_wait(shard, base, oldest)
    block = take_block(pool, shard.meta, OUTSTANDING_WORDS)
    shard.meta[WAITS_PENDING] += 1
    for w in range(WAIT_SHAPE, OUTSTANDING_WORDS):
        pool[block + w] = words[at + w]
    pool[block + WAIT_NEXT] = shard.rows[base + WAITS]
    shard.rows[base + WAITS] = block
    hang_by(shard, row, row_words, pool[block + OUTSTANDING_UNTIL])


@inline
def key_of_item(plan: Plan, records: Array, item: int, journey: int) -> int:
    """What the journey's waits are kept by, of records[item]; 0 = they are one."""
    by = plan.journeys[journey, JOURNEY_BY]
    if by == BY_NONE:
        return 0
    return int(records[item, PRODUCT if by == BY_PRODUCT else CATEGORY])


@outline
def keep_outstanding(
    shard: Shard,
    plan: Plan,
    words: Array,
    offer: int,
    step: int,
    decision_lo: int,
    decision_hi: int,
    time: int,
    first: int,
    key: int,
    is_certain: bool,
    told: bool,
    row: int,
    settings: Array,
) -> None:
    """Remember an action that was decided at `time`, as far as its offer can be taken back.

    words       int64[OUTSTANDING_WORDS]: room
    first       time of its first decision, from which on it holds good, ms
    is_certain  that it goes out: else its end is not told
    told        that it was taken back before a crash
    """
    lasts = plan.offers[offer, OFFER_TAKE_BACK_MS]
    if lasts == 0:
        return
    expires = first + plan.offers[offer, OFFER_EXPIRES_MS]
    until = min(time + lasts, expires)
    words[WAIT_NEXT] = 0
    words[WAIT_SHAPE] = make_outstanding(
        plan.offers[offer, OFFER_JOURNEY], step, is_certain and until == expires, told
    )
    words[WAIT_TIME] = time
    words[OUTSTANDING_DECISION_LO] = decision_lo
    words[OUTSTANDING_DECISION_HI] = decision_hi
    words[OUTSTANDING_OFFER] = plan.offer_hash[offer]
    words[OUTSTANDING_UNTIL] = until
    words[OUTSTANDING_KEY] = key
    add_outstanding(shard, plan, row, words, 0, settings)
