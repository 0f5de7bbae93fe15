"""What takes outstanding actions back (outstanding.py): each once, oldest first, with a row of Out.withdrawn.

A withdrawal of consent or a suppression; a goal of the journey, which calls off what is held of it, too; the end of the
time for which the action holds good; an erasure. What was taken back before a crash (pending.py) is not told again.
"""

from __future__ import annotations

from segue_kernels.consent import refusal
from segue_kernels.jit import Array, inline, outline
from segue_kernels.made_ids import action_id
from segue_kernels.outstanding import is_older, key_of_item, outstanding_offer
from segue_kernels.pending import is_withdrawn
from segue_kernels.plan import BY_NONE, JOURNEY_BY, OFFER_CONSENT, OFFER_CONSENT_LEAST
from segue_kernels.row import (
    CONSENT,
    COUNT_HELD_REACHED,
    COUNT_WITHDRAWN,
    FLAG_ASKS_CONSENT,
    FLAGS,
    PENDING_NOW,
    WAITS,
)
from segue_kernels.shard import (
    NO_CONSENT,
    OUT_WITHDRAWN,
    SUPPRESSED,
    WHY_CONSENT,
    WHY_ERASED,
    WHY_EXPIRED,
    WHY_GOAL,
    WHY_SUPPRESSED,
    WITHDRAWN_DECISION_HI,
    WITHDRAWN_DECISION_LO,
    WITHDRAWN_HI,
    WITHDRAWN_LO,
    WITHDRAWN_NOW,
    WITHDRAWN_OFFER,
    WITHDRAWN_RECORD,
    WITHDRAWN_STEP,
    WITHDRAWN_WHY,
    Out,
    Plan,
    Replay,
    Shard,
)
from segue_kernels.waits import (
    OUTSTANDING_DECISION_HI,
    OUTSTANDING_DECISION_LO,
    OUTSTANDING_KEY,
    OUTSTANDING_UNTIL,
    WAIT_NEXT,
    WAIT_SHAPE,
    drop_wait,
    is_held,
    is_outstanding,
    is_told,
    journey_of,
    key_in,
    step_of,
    tells_end,
)

# why outstanding actions are looked at
BY_CONSENT = 0
BY_GOAL = 1
BY_TIME = 2
BY_ERASURE = 3

STAYS = -1


@inline
def _is_goal(
    plan: Plan, records: Array, header: int, end: int, kind_of_event: int, journey: int, key: int
) -> bool:
    """Whether the event is a goal of the journey: of this product or category, where its waits are by one."""
    is_its = False
    for which in range(plan.goal_start[kind_of_event], plan.goal_start[kind_of_event + 1]):
        if plan.goal[which] == journey:
            is_its = True
    if not is_its or plan.journeys[journey, JOURNEY_BY] == BY_NONE:
        return is_its
    for item in range(header if end == header + 1 else header + 1, end):
        if key != 0 and key_of_item(plan, records, item, journey) == key:
            return True
    return False


@inline
def _why(
    shard: Shard,
    plan: Plan,
    records: Array,
    header: int,
    end: int,
    kind_of_event: int,
    by: int,
    block: int,
    base: int,
    now: int,
) -> int:
    """Why an outstanding action does not stay: WHY_*, or STAYS."""
    pool = shard.pool
    if by == BY_ERASURE:
        return WHY_ERASED
    if by == BY_TIME:
        return WHY_EXPIRED if pool[block + OUTSTANDING_UNTIL] <= now else STAYS
    if by == BY_GOAL:
        journey = journey_of(pool[block + WAIT_SHAPE])
        key = pool[block + OUTSTANDING_KEY]
        reached = _is_goal(plan, records, header, end, kind_of_event, journey, key)
        return WHY_GOAL if reached else STAYS
    offer = outstanding_offer(plan, pool, block)
    if offer < 0 or plan.offers[offer, OFFER_CONSENT] < 0:
        return STAYS
    register = shard.rows[base + CONSENT + plan.offers[offer, OFFER_CONSENT]]
    refused = refusal(register, plan.offers[offer, OFFER_CONSENT_LEAST])
    if refused == NO_CONSENT:
        return WHY_CONSENT
    return WHY_SUPPRESSED if refused == SUPPRESSED else STAYS


@inline
def _take_back_one(
    shard: Shard,
    plan: Plan,
    replay: Replay,
    out: Out,
    block: int,
    record: int,
    why: int,
    base: int,
    now: int,
    settings: Array,
) -> None:
    pool = shard.pool
    shape = pool[block + WAIT_SHAPE]
    low = pool[block + OUTSTANDING_DECISION_LO]
    high = pool[block + OUTSTANDING_DECISION_HI]
    offer = outstanding_offer(plan, pool, block)
    drop_wait(shard, base, block)
    if offer < 0 or is_told(shape) or (why == WHY_EXPIRED and not tells_end(shape)):
        return
    if shard.meta[PENDING_NOW] != 0 and is_withdrawn(replay.pending, shard.meta, low, high):
        return
    journey = journey_of(shape)
    row = out.used[OUT_WITHDRAWN]
    out.used[OUT_WITHDRAWN] = row + 1
    told = out.withdrawn
    told[row, WITHDRAWN_RECORD] = record
    told[row, WITHDRAWN_OFFER] = offer
    told[row, WITHDRAWN_STEP] = step_of(shape)
    told[row, WITHDRAWN_LO], told[row, WITHDRAWN_HI] = action_id(
        low, high, plan.journey_hash[journey], step_of(shape), settings
    )
    told[row, WITHDRAWN_DECISION_LO] = low
    told[row, WITHDRAWN_DECISION_HI] = high
    told[row, WITHDRAWN_WHY] = why
    told[row, WITHDRAWN_NOW] = now
    shard.meta[COUNT_WITHDRAWN] += 1


@outline
def take_back(
    shard: Shard,
    plan: Plan,
    replay: Replay,
    out: Out,
    records: Array,
    header: int,
    end: int,
    kind_of_event: int,
    by: int,
    record: int,
    base: int,
    now: int,
    settings: Array,
) -> None:
    """Take back those of a customer's outstanding actions that do not stay.

    by      BY_*: why they are looked at
    record  what the rows refer to: the header of an event, or -1 - t for row t of Out.timer_records
    """
    pool = shard.pool
    if by == BY_CONSENT:
        shard.rows[base + FLAGS] &= ~FLAG_ASKS_CONSENT
    while True:
        oldest = 0
        why = STAYS
        block = shard.rows[base + WAITS]
        while block != 0:
            if is_outstanding(pool[block + WAIT_SHAPE]) and (
                oldest == 0 or is_older(pool, block, pool, oldest)
            ):
                its = _why(shard, plan, records, header, end, kind_of_event, by, block, base, now)
                if its != STAYS:
                    oldest = block
                    why = its
            block = pool[block + WAIT_NEXT]
        if oldest == 0:
            return
        _take_back_one(shard, plan, replay, out, oldest, record, why, base, now, settings)


@outline
def drop_reached(
    shard: Shard, plan: Plan, records: Array, header: int, end: int, kind_of_event: int, base: int
) -> None:
    """Call off what is held of journeys whose goal the event is."""
    pool = shard.pool
    block = shard.rows[base + WAITS]
    while block != 0:
        following = pool[block + WAIT_NEXT]
        shape = pool[block + WAIT_SHAPE]
        if is_held(shape):
            key = key_in(plan, pool, block)
            if _is_goal(plan, records, header, end, kind_of_event, journey_of(shape), key):
                drop_wait(shard, base, block)
                shard.meta[COUNT_HELD_REACHED] += 1
        block = following
