"""Actions that quiet hours hold: they wait on the customer until those end, and are decided again then.

A held action stands in the list of the customer's waits (waits.py): the record that its journey fired on, its offer,
when it was decided, and when it is released. Of one journey, slot and key (what the journey's waits are by) the newest
stays. Nothing is charged for it before it is released.
"""

from __future__ import annotations

from segue_kernels.jit import Array, outline
from segue_kernels.plan import (
    BY_NONE,
    BY_PRODUCT,
    JOURNEY_BY,
    OFFER_CONTACT,
    OFFER_EXPIRES_MS,
    OFFER_JOURNEY,
)
from segue_kernels.quiet import quiet_until
from segue_kernels.record import CATEGORY, PRODUCT, ZONE_MASK
from segue_kernels.row import (
    COUNT_HELD,
    COUNT_HELD_EXPIRED,
    COUNT_HELD_GONE,
    COUNT_HELD_REFUSED,
    COUNT_HELD_REPLACED,
    WAITS,
    ZONE,
)
from segue_kernels.shard import (
    EXPIRED,
    HELD,
    QUIET_HOURS,
    RELEASED_EXPIRED,
    RELEASED_FIRST,
    RELEASED_OFFER,
    SET_HELD_MAX,
    SET_ROW_WORDS,
    Plan,
    Scratch,
    Shard,
    World,
)
from segue_kernels.timers import hang_by
from segue_kernels.waits import (
    HELD_BIT,
    HELD_FIRST,
    HELD_OFFER,
    HELD_UNTIL,
    HELD_WORDS,
    WAIT_NEXT,
    WAIT_SHAPE,
    drop_wait,
    due_in,
    find_held,
    held_at,
    is_held,
    journey_of,
    keep_wait,
    key_in,
    offer_in,
)


@outline
def hold(
    shard: Shard,
    plan: Plan,
    world: World,
    records: Array,
    text: Array,
    header: int,
    item: int,
    offer: int,
    step: int,
    first: int,
    row: int,
    now: int,
    settings: Array,
) -> int:
    """Hold an offer that won its slot: what becomes of it. HELD; EXPIRED where quiet hours last longer than it holds
    good; QUIET_HOURS where as many are held as may be.

    records[item]  what its journey fired on
    first          when it was decided, ms: at `now` but for what is decided again
    """
    row_words = settings[SET_ROW_WORDS]
    base = row * row_words
    expires = first + plan.offers[offer, OFFER_EXPIRES_MS]
    zone = shard.rows[base + ZONE] & ZONE_MASK
    until = quiet_until(plan, world, zone, plan.offers[offer, OFFER_CONTACT], now, expires)
    if until >= expires:
        shard.meta[COUNT_HELD_EXPIRED] += 1
        return EXPIRED
    journey = plan.offers[offer, OFFER_JOURNEY]
    by = plan.journeys[journey, JOURNEY_BY]
    key = 0
    if by != BY_NONE:
        key = records[item, PRODUCT if by == BY_PRODUCT else CATEGORY]
    block, count = find_held(shard, plan, base, journey, key, offer)
    if block != 0:
        drop_wait(shard, base, block)
        shard.meta[COUNT_HELD_REPLACED] += 1
    elif count >= settings[SET_HELD_MAX]:
        shard.meta[COUNT_HELD_REFUSED] += 1
        return QUIET_HOURS
    pool = shard.pool
    block = keep_wait(shard, records, text, header, item, journey, step, HELD_WORDS, row, row_words)
    pool[block + WAIT_SHAPE] |= HELD_BIT
    at = held_at(pool, block)
    pool[at + HELD_UNTIL] = until
    pool[at + HELD_FIRST] = first
    pool[at + HELD_OFFER] = plan.offer_hash[offer]
    shard.meta[COUNT_HELD] += 1
    hang_by(shard, row, row_words, until)
    return HELD


@outline
def next_released(
    shard: Shard, plan: Plan, world: World, scratch: Scratch, released: int, after: int, base: int, now: int
) -> int:
    """The block of the next held action that is released at `now`, or 0; what is said of it is row `released` of
    scratch.held. They come by journey, key and offer; `after` is the block of the one before, 0 at the beginning.

    One for which it is quiet still, or again (its customer came to another time zone), is held until that ends, or does
    not hold good any more. One whose offer is there no more is dropped.
    """
    pool = shard.pool
    zone = shard.rows[base + ZONE] & ZONE_MASK
    while True:
        best = 0
        block = shard.rows[base + WAITS]
        while block != 0:
            due = is_held(pool[block + WAIT_SHAPE]) and due_in(plan, pool, block) <= now
            behind = due and (after == 0 or _comes_before(plan, pool, after, block))
            if behind and (best == 0 or _comes_before(plan, pool, block, best)):
                best = block
            block = pool[block + WAIT_NEXT]
        if best == 0:
            return 0
        after = best
        offer = offer_in(plan, pool, best)
        if offer < 0:
            continue
        at = held_at(pool, best)
        expires = pool[at + HELD_FIRST] + plan.offers[offer, OFFER_EXPIRES_MS]
        until = quiet_until(plan, world, zone, plan.offers[offer, OFFER_CONTACT], now, expires)
        if now < until < expires:
            pool[at + HELD_UNTIL] = until
            continue
        scratch.held[released, RELEASED_OFFER] = offer
        scratch.held[released, RELEASED_FIRST] = pool[at + HELD_FIRST]
        scratch.held[released, RELEASED_EXPIRED] = 1 if until >= expires else 0
        return int(best)


@outline
def drop_released(shard: Shard, plan: Plan, scratch: Scratch, released: int, base: int, now: int) -> None:
    """Take what next_released has said, and what it dropped, out of the customer's list."""
    pool = shard.pool
    block = shard.rows[base + WAITS]
    gone = 0
    while block != 0:
        following = pool[block + WAIT_NEXT]
        if is_held(pool[block + WAIT_SHAPE]) and due_in(plan, pool, block) <= now:
            drop_wait(shard, base, block)
            gone += 1
        block = following
    shard.meta[COUNT_HELD_GONE] += gone - released
    for k in range(released):
        shard.meta[COUNT_HELD_EXPIRED] += scratch.held[k, RELEASED_EXPIRED]


@outline
def _comes_before(plan: Plan, pool: Array, block: int, other: int) -> bool:
    journey = journey_of(pool[block + WAIT_SHAPE])
    its_journey = journey_of(pool[other + WAIT_SHAPE])
    if journey != its_journey:
        return journey < its_journey
    key = key_in(plan, pool, block)
    its_key = key_in(plan, pool, other)
    if key != its_key:
        return key < its_key
    return offer_in(plan, pool, block) < offer_in(plan, pool, other)
