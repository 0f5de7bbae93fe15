"""One event's decision: every candidate gets a reason, a slot at most one winner.

Candidates are the offers of the journeys that fired, journeys ascending. Each is checked for eligibility,
applicability, suitability, currency, consent, the limits of its journey, the caps on its channel and purpose, quiet
hours; those that pass are scored
((propensity x context) x value) x lever. The best of a slot wins it (ties: tie rank); among winners whose journeys do
not stand alongside only the best stays. Winners are granted slot by slot, each grant checking and charging limits and
caps, so that none is ever passed; where it is quiet a winner is held instead.

When held actions are released (held.py) the candidates are those of their journeys once more, but only what was held
can win: by the priority of its journey, then as always; and the slots are granted in that order.

A winner with a voucher of a campaign may be refused by the ledger, which is asked later. Those that stand in for it
then, the next best of the slot down to the first without such a voucher, follow its action; nobody stands in for what
is released. All of them have passed limits and caps, and what any of them would charge is charged, once: only one of
them goes out.
"""

from __future__ import annotations

import math

from segue_kernels.calendar import period_start
from segue_kernels.consent import refusal
from segue_kernels.customers import erased_at
from segue_kernels.discount import depth
from segue_kernels.held import hold
from segue_kernels.jit import Array, inline, outline
from segue_kernels.joins import note_action
from segue_kernels.keyed import slot_entry
from segue_kernels.made_ids import action_id, decision_id
from segue_kernels.names import list_items
from segue_kernels.outstanding import keep_outstanding, key_of_item
from segue_kernels.plan import (
    BY_PRODUCT,
    CAP_CONTACTS,
    CAP_STREAM,
    CAP_TIMES,
    CAP_WINDOW,
    DISCOUNT_PROGRAM,
    JOURNEY_ALONGSIDE,
    JOURNEY_F_SCORE_MIN,
    JOURNEY_FEATURES_COUNT,
    JOURNEY_FEATURES_START,
    JOURNEY_LIMITS_END,
    JOURNEY_LIMITS_START,
    JOURNEY_OFFERS_END,
    JOURNEY_OFFERS_START,
    JOURNEY_PRIORITY,
    JOURNEY_WEIGHTS_START,
    LIMIT_CHARGES,
    LIMIT_STREAM,
    LIMIT_TIMES,
    LIMIT_WINDOW_MS,
    OFFER_APPLICABLE,
    OFFER_CAMPAIGN,
    OFFER_CONSENT,
    OFFER_CONSENT_LEAST,
    OFFER_CONTACT,
    OFFER_CONTEXT,
    OFFER_CURRENCY,
    OFFER_DISCOUNT,
    OFFER_F_CONTEXT,
    OFFER_F_LEVER,
    OFFER_F_VALUE,
    OFFER_ITEMS_STREAM,
    OFFER_JOURNEY,
    OFFER_SLOT,
    OFFER_SUITABLE,
    OFFER_TAKE_BACK_MS,
    OFFER_TIE_RANK,
    OFFER_WHEN,
    STREAM_BY,
    STREAM_FIELD,
    STREAM_K,
    STREAM_OFFSET,
)
from segue_kernels.programs import evaluate
from segue_kernels.record import CATEGORY, PACK, PRODUCT, SEQUENCE, ZONE_MASK
from segue_kernels.row import (
    CONSENT,
    COUNT_ACTIONS,
    COUNT_CANDIDATES,
    COUNT_DECISIONS,
    FLAGS,
    KEY_HI,
    KEY_LO,
    SEGMENTS,
    STAGE,
    ZONE,
)
from segue_kernels.score import logits, propensity
from segue_kernels.shard import (
    ACTION_DISCOUNT,
    ACTION_FIRST,
    ACTION_HI,
    ACTION_ITEM,
    ACTION_ITEMS,
    ACTION_ITEMS_COUNT,
    ACTION_LO,
    ACTION_LOG,
    ACTION_OFFER,
    ACTION_RANKING,
    ACTION_RECORD,
    ACTION_SEGMENTS,
    ACTION_STAGE,
    ACTION_STEP,
    ALONE_CATEGORY,
    ALONE_CONTACT_MASK,
    ALONE_CONTACT_SHIFT,
    ALONE_FLAGS,
    ALONE_HI,
    ALONE_IS_CHARGED,
    ALONE_JOURNEY,
    ALONE_LO,
    ALONE_PRODUCT,
    ALONE_TIME,
    ALONE_ZONE_SHIFT,
    BELOW_MINIMUM,
    CAP,
    CURRENCY,
    EXPIRED,
    HELD,
    LIMIT,
    LOG_CANDIDATES,
    LOG_DECISION_HI,
    LOG_DECISION_LO,
    LOG_FIRED,
    LOG_FIRED_COUNT,
    LOG_HELD,
    LOG_NOW,
    LOG_REASONS,
    LOG_RECORD,
    LOG_SAMPLE,
    LOG_SLOT,
    LOG_WINNER,
    LOG_ZONE,
    NOT_APPLICABLE,
    NOT_ELIGIBLE,
    NOT_SUITABLE,
    OTHER_SLOT,
    OUT_ACTIONS,
    OUT_ITEMS,
    OUT_LOG,
    OUT_REASONS,
    OUT_SAMPLE,
    OUTSCORED,
    QUIET_HOURS,
    RANKING_BITS,
    RELEASED_FIRST,
    RELEASED_OFFER,
    SAMPLE_CONTEXT,
    SAMPLE_PROPENSITY,
    SAMPLE_SCORE,
    SET_SAMPLE,
    WON,
    Out,
    Plan,
    Replay,
    Scratch,
    Shard,
    World,
)
from segue_kernels.windows import add_time

ANY_OFFER = -1
NO_OFFER = -2


@inline
def first_alone(alone: Array, customer_lo: int) -> int:
    """The first row of Replay.alone with a customer's ALONE_LO, where his rows begin if there are any; else where it
    would be."""
    first = 0
    behind = len(alone)
    while first < behind:
        middle = (first + behind) >> 1
        if alone[middle, ALONE_LO] < customer_lo:
            first = middle + 1
        else:
            behind = middle
    return first


@inline
def is_alone(
    plan: Plan, alone: Array, which: int, journey: int, stream: int, hi: int, key: int, after: int
) -> bool:
    """Whether row `which` of Replay.alone is a send of the journey to this customer later than `after`, not charged."""
    by = plan.streams[stream, STREAM_BY]
    if (
        alone[which, ALONE_JOURNEY] != journey
        or alone[which, ALONE_HI] != hi
        or alone[which, ALONE_FLAGS] & ALONE_IS_CHARGED != 0
        or alone[which, ALONE_TIME] <= after
    ):
        return False
    return bool(by == 0 or alone[which, ALONE_PRODUCT if by == BY_PRODUCT else ALONE_CATEGORY] == key)


@outline
def passed_with_alone(
    shard: Shard,
    plan: Plan,
    alone: Array,
    journey: int,
    which: int,
    base: int,
    at: int,
    now: int,
    key: int,
    ahead: bool,
) -> bool:
    """Whether one more send at `now` would pass a limit in the window that ends then or, if asked to look `ahead`, at a
    send of Replay.alone that the customer got later. `at`: what is charged, -1 = nothing.

    Each customer's decisions come again as they were: what he got later stood the test with what he got now, and here
    it must be tested as it was. Where they come otherwise no window may have too many either. What he got at `now` and
    is not charged was decided later (a late event moves no clock): it counts only against who looks ahead.
    """
    low = shard.rows[base + KEY_LO]
    first = behind = first_alone(alone, low)
    while behind < len(alone) and alone[behind, ALONE_LO] == low:
        behind += 1
    if first == behind:
        return False
    hi = shard.rows[base + KEY_HI]
    after = erased_at(shard.rows[base + FLAGS])
    stream = plan.limits[which, LIMIT_STREAM]
    window = plan.limits[which, LIMIT_WINDOW_MS]
    for ends in range(first - 1, behind if ahead else first):
        end = now
        if ends >= first:
            end = alone[ends, ALONE_TIME]
            if end <= now or (window != 0 and end - window >= now):
                continue
            if not is_alone(plan, alone, ends, journey, stream, hi, key, after):
                continue
        start = end - window if window != 0 else 0
        count = 0
        if at >= 0:
            for i in range(plan.streams[stream, STREAM_K]):
                if shard.rows[at + i] > start:
                    count += 1
        last = end if ahead else end - 1
        for i in range(first, behind):
            if start < alone[i, ALONE_TIME] <= last and is_alone(
                plan, alone, i, journey, stream, hi, key, after
            ):
                count += 1
        if count >= plan.limits[which, LIMIT_TIMES]:
            return True
    return False


@inline
def limit_reached(
    shard: Shard,
    plan: Plan,
    alone: Array,
    journey: int,
    row: int,
    base: int,
    now: int,
    product: int,
    category: int,
    ahead: bool,
) -> bool:
    """Whether any limit of the journey is used up at `now` (for this product or category, where it is by one). `ahead`:
    for a winner, who must leave room for what was sent later; whether he may compete is asked without."""
    for which in range(
        plan.journeys[journey, JOURNEY_LIMITS_START], plan.journeys[journey, JOURNEY_LIMITS_END]
    ):
        stream = plan.limits[which, LIMIT_STREAM]
        times = plan.limits[which, LIMIT_TIMES]
        window = plan.limits[which, LIMIT_WINDOW_MS]
        by = plan.streams[stream, STREAM_BY]
        at = base + plan.streams[stream, STREAM_OFFSET]
        key = 0
        if by != 0:
            key = product if by == BY_PRODUCT else category
            at = -1
            if key != 0:
                at = slot_entry(shard, plan.streams, row, base, stream, key, now, False)
        if at >= 0:
            sent = shard.rows[at + times - 1]
            if sent != 0 and (window == 0 or sent > now - window):
                return True
        if (
            len(alone) != 0
            and (by == 0 or key != 0)
            and passed_with_alone(shard, plan, alone, journey, which, base, at, now, key, ahead)
        ):
            return True
    return False


@inline
def charge_limits(
    shard: Shard,
    plan: Plan,
    journey: int,
    row: int,
    base: int,
    now: int,
    time: int,
    product: int,
    category: int,
) -> None:
    """Write a send at `time` into every stream of the journey's limits, once each."""
    for which in range(
        plan.journeys[journey, JOURNEY_LIMITS_START], plan.journeys[journey, JOURNEY_LIMITS_END]
    ):
        if plan.limits[which, LIMIT_CHARGES] == 0:
            continue
        stream = plan.limits[which, LIMIT_STREAM]
        by = plan.streams[stream, STREAM_BY]
        at = base + plan.streams[stream, STREAM_OFFSET]
        if by != 0:
            key = product if by == BY_PRODUCT else category
            if key == 0:
                continue
            at = slot_entry(shard, plan.streams, row, base, stream, key, now, True)
        add_time(shard.rows, at, plan.streams[stream, STREAM_K], time)


@inline
def is_under_cap(plan: Plan, alone: Array, which: int, cap: int, hi: int, after: int) -> bool:
    """Whether row `which` of Replay.alone is a send to this customer that the cap counts, later than `after`, not
    charged."""
    flags = alone[which, ALONE_FLAGS]
    contact = ((flags >> ALONE_CONTACT_SHIFT) & ALONE_CONTACT_MASK) - 1
    return bool(
        contact >= 0
        and (plan.caps[cap, CAP_CONTACTS] >> contact) & 1 != 0
        and alone[which, ALONE_HI] == hi
        and flags & ALONE_IS_CHARGED == 0
        and alone[which, ALONE_TIME] > after
    )


@inline
def counts_after(world: World, zone: int, window: int, end: int) -> int:
    """The time after which a send lies in a cap's window that ends at `end`, for a customer in this zone."""
    if window > 0:
        return end - window
    return period_start(world, zone, end, window) - 1


@outline
def cap_passed_with_alone(
    shard: Shard, plan: Plan, world: World, alone: Array, cap: int, base: int, now: int, ahead: bool
) -> bool:
    """passed_with_alone for a cap: whether one more send at `now` would pass it in the window that ends then or, if
    asked to look `ahead`, at a send of Replay.alone that the customer got later, in the time zone that was his then."""
    low = shard.rows[base + KEY_LO]
    first = behind = first_alone(alone, low)
    while behind < len(alone) and alone[behind, ALONE_LO] == low:
        behind += 1
    if first == behind:
        return False
    hi = shard.rows[base + KEY_HI]
    after = erased_at(shard.rows[base + FLAGS])
    stream = plan.caps[cap, CAP_STREAM]
    window = plan.caps[cap, CAP_WINDOW]
    at = base + plan.streams[stream, STREAM_OFFSET]
    for ends in range(first - 1, behind if ahead else first):
        end = now
        zone = shard.rows[base + ZONE] & ZONE_MASK
        if ends >= first:
            end = alone[ends, ALONE_TIME]
            if end <= now or not is_under_cap(plan, alone, ends, cap, hi, after):
                continue
            zone = (alone[ends, ALONE_FLAGS] >> ALONE_ZONE_SHIFT) & ZONE_MASK
        start = counts_after(world, zone, window, end)
        if start >= now:
            continue
        count = 0
        for i in range(plan.streams[stream, STREAM_K]):
            if shard.rows[at + i] > start:
                count += 1
        last = end if ahead else end - 1
        for i in range(first, behind):
            if start < alone[i, ALONE_TIME] <= last and is_under_cap(plan, alone, i, cap, hi, after):
                count += 1
        if count >= plan.caps[cap, CAP_TIMES]:
            return True
    return False


@outline
def cap_reached(
    shard: Shard, plan: Plan, world: World, alone: Array, contact: int, base: int, now: int, ahead: bool
) -> bool:
    """Whether any cap on sends with this contact is used up at `now`. `ahead` as for limit_reached."""
    zone = shard.rows[base + ZONE] & ZONE_MASK
    for which in range(plan.cap_start[contact], plan.cap_start[contact + 1]):
        cap = plan.cap[which]
        at = base + plan.streams[plan.caps[cap, CAP_STREAM], STREAM_OFFSET]
        sent = shard.rows[at + plan.caps[cap, CAP_TIMES] - 1]
        if sent != 0 and sent > counts_after(world, zone, plan.caps[cap, CAP_WINDOW], now):
            return True
        if len(alone) != 0 and cap_passed_with_alone(shard, plan, world, alone, cap, base, now, ahead):
            return True
    return False


@inline
def charge_caps(shard: Shard, plan: Plan, contact: int, base: int, time: int) -> None:
    """Write a send at `time` into every stream of the caps that count it, once each."""
    for which in range(plan.charge_start[contact], plan.charge_start[contact + 1]):
        stream = plan.charge[which]
        add_time(shard.rows, base + plan.streams[stream, STREAM_OFFSET], plan.streams[stream, STREAM_K], time)


@inline
def better(scratch: Scratch, plan: Plan, a: int, b: int, released: bool) -> bool:
    """Whether candidate a beats candidate b: score, then tie rank; of what is released the priority first."""
    if released:
        priority_a = plan.journeys[plan.offers[scratch.offer[a], OFFER_JOURNEY], JOURNEY_PRIORITY]
        priority_b = plan.journeys[plan.offers[scratch.offer[b], OFFER_JOURNEY], JOURNEY_PRIORITY]
        if priority_a != priority_b:
            return bool(priority_a > priority_b)
    score_a = scratch.score[a]
    score_b = scratch.score[b]
    if score_a != score_b:
        return bool(score_a > score_b)
    return bool(plan.offers[scratch.offer[a], OFFER_TIE_RANK] < plan.offers[scratch.offer[b], OFFER_TIE_RANK])


@inline
def holds(
    shard: Shard,
    plan: Plan,
    scratch: Scratch,
    records: Array,
    item: int,
    program: int,
    base: int,
    row_words: int,
    now: int,
) -> bool:
    """Whether a condition holds; -1 always does."""
    return bool(
        program < 0
        or evaluate(plan, program, shard.rows, base, row_words, now, records, item, scratch.location) != 0.0
    )


@inline
def fill_logits(
    shard: Shard,
    plan: Plan,
    scratch: Scratch,
    records: Array,
    item: int,
    journey: int,
    base: int,
    row_words: int,
    now: int,
) -> None:
    """The journey's features, and from them the logits of its offers."""
    first = plan.journeys[journey, JOURNEY_OFFERS_START]
    last = plan.journeys[journey, JOURNEY_OFFERS_END]
    features = plan.journeys[journey, JOURNEY_FEATURES_COUNT]
    features_start = plan.journeys[journey, JOURNEY_FEATURES_START]
    for f in range(features):
        scratch.feature[f] = evaluate(
            plan,
            plan.features[features_start + f],
            shard.rows,
            base,
            row_words,
            now,
            records,
            item,
            scratch.location,
        )
    logits(
        plan.offers_f,
        first,
        last - first,
        plan.weights,
        plan.journeys[journey, JOURNEY_WEIGHTS_START],
        scratch.feature,
        features,
        scratch.logit,
    )


@inline
def add_plain_candidates(
    shard: Shard,
    plan: Plan,
    scratch: Scratch,
    records: Array,
    item: int,
    journey: int,
    base: int,
    row_words: int,
    now: int,
    count: int,
    forbidden: int,
) -> int:
    """add_candidates for a journey whose offers share a slot and all checks: column by column.

    forbidden  the reason if there is one why none of them may go out, else WON

    Took the benchmark's run (64 offers on a fifth of the events) from 456 to 374 ns an event.
    """
    first = plan.journeys[journey, JOURNEY_OFFERS_START]
    n = plan.journeys[journey, JOURNEY_OFFERS_END] - first
    slot = plan.offers[first, OFFER_SLOT]
    scratch.candidates[slot] += n
    # slices: indices from 0, so the compiler sees that they can't be negative and takes several at once
    offer = scratch.offer[count : count + n]
    items = scratch.item[count : count + n]
    reason = scratch.reason[count : count + n]
    p = scratch.propensity[count : count + n]
    context = scratch.context[count : count + n]
    score = scratch.score[count : count + n]
    for o in range(n):
        offer[o] = first + o
        items[o] = item
    if forbidden != WON:
        for o in range(n):
            reason[o] = forbidden
            p[o] = 0.0
            context[o] = 0.0
            score[o] = 0.0
        return count + n
    fill_logits(shard, plan, scratch, records, item, journey, base, row_words, now)
    logit = scratch.logit
    for o in range(n):
        p[o] = propensity(logit[o])
    best_score = -math.inf
    fixed = plan.offers_f[first : first + n]
    for o in range(n):
        context[o] = fixed[o, OFFER_F_CONTEXT]
        score[o] = p[o] * context[o] * fixed[o, OFFER_F_VALUE] * fixed[o, OFFER_F_LEVER]
        best_score = max(best_score, score[o])
    score_min = plan.journeys_f[journey, JOURNEY_F_SCORE_MIN]
    for o in range(n):
        reason[o] = BELOW_MINIMUM if score[o] < score_min else OUTSCORED
    if best_score < score_min:
        return count + n
    best = -1
    for o in range(n):
        if score[o] == best_score and (best < 0 or better(scratch, plan, count + o, count + best, False)):
            best = o
    best += count
    other = scratch.best[slot]
    if other < 0 or better(scratch, plan, best, other, False):
        if other >= 0:
            scratch.reason[other] = OUTSCORED
        scratch.reason[best] = WON
        scratch.best[slot] = best
    return count + n


@inline
def add_candidates(
    shard: Shard,
    plan: Plan,
    scratch: Scratch,
    world: World,
    alone: Array,
    records: Array,
    item: int,
    journey: int,
    row: int,
    base: int,
    row_words: int,
    now: int,
    quiet: int,
    only: int,
    count: int,
) -> int:
    """Check and score the offers of one journey that fired on `item`; the new number of candidates.

    quiet  the contacts whose quiet hours drop what would be sent, a bit each
    only   the offer that may win, ANY_OFFER or NO_OFFER
    """
    first = plan.journeys[journey, JOURNEY_OFFERS_START]
    last = plan.journeys[journey, JOURNEY_OFFERS_END]
    limited = limit_reached(
        shard, plan, alone, journey, row, base, now, records[item, PRODUCT], records[item, CATEGORY], False
    )
    has_caps = len(plan.caps) > 0
    asked = -1  # the contact whose caps `capped` tells of
    capped = False
    layered = scratch.layered[journey] != 0
    # conditions that offers share are asked once: these are the programs that `applicable` and `suitable` tell of
    applies = suits = -1
    applicable = suitable = True
    if scratch.plain[journey] != 0 and only == ANY_OFFER:
        forbidden = WON
        applies = plan.offers[first, OFFER_APPLICABLE]
        suits = plan.offers[first, OFFER_SUITABLE]
        if not holds(shard, plan, scratch, records, item, applies, base, row_words, now):
            forbidden = NOT_APPLICABLE
        elif not holds(shard, plan, scratch, records, item, suits, base, row_words, now):
            forbidden = NOT_SUITABLE
        elif limited:
            forbidden = LIMIT
        elif has_caps:
            asked = plan.offers[first, OFFER_CONTACT]
            if cap_reached(shard, plan, world, alone, asked, base, now, False):
                forbidden = CAP
        if forbidden == WON and (quiet >> plan.offers[first, OFFER_CONTACT]) & 1:
            forbidden = QUIET_HOURS
        return add_plain_candidates(
            shard, plan, scratch, records, item, journey, base, row_words, now, count, forbidden
        )
    event_currency = (records[item, PACK] >> 16) & 0xFFFF
    start = count
    eligible = 0
    for offer in range(first, last):
        reason = WON
        when = plan.offers[offer, OFFER_WHEN]
        if (only != ANY_OFFER and offer != only) or (
            when >= 0
            and (
                evaluate(plan, when, shard.rows, base, row_words, now, records, item, scratch.location) == 0.0
            )
        ):
            reason = NOT_ELIGIBLE
        else:
            if layered and plan.offers[offer, OFFER_APPLICABLE] != applies:
                applies = plan.offers[offer, OFFER_APPLICABLE]
                applicable = holds(shard, plan, scratch, records, item, applies, base, row_words, now)
            if layered and plan.offers[offer, OFFER_SUITABLE] != suits:
                suits = plan.offers[offer, OFFER_SUITABLE]
                suitable = holds(shard, plan, scratch, records, item, suits, base, row_words, now)
            if not applicable:
                reason = NOT_APPLICABLE
            elif not suitable:
                reason = NOT_SUITABLE
            elif (
                plan.offers[offer, OFFER_CURRENCY] != 0
                and plan.offers[offer, OFFER_CURRENCY] != event_currency
            ):
                reason = CURRENCY
        if reason == WON:
            consent = plan.offers[offer, OFFER_CONSENT]
            if consent >= 0:
                reason = refusal(
                    shard.rows[base + CONSENT + consent], plan.offers[offer, OFFER_CONSENT_LEAST]
                )
            if reason == WON and limited:
                reason = LIMIT
            if reason == WON and has_caps:
                if plan.offers[offer, OFFER_CONTACT] != asked:
                    asked = plan.offers[offer, OFFER_CONTACT]
                    capped = cap_reached(shard, plan, world, alone, asked, base, now, False)
                if capped:
                    reason = CAP
            if reason == WON and (quiet >> plan.offers[offer, OFFER_CONTACT]) & 1:
                reason = QUIET_HOURS
            if reason == WON:
                eligible += 1
        scratch.offer[count] = offer
        scratch.item[count] = item
        scratch.reason[count] = reason
        scratch.propensity[count] = 0.0
        scratch.context[count] = 0.0
        scratch.score[count] = 0.0
        scratch.candidates[plan.offers[offer, OFFER_SLOT]] += 1
        count += 1
    if eligible == 0:
        return count
    fill_logits(shard, plan, scratch, records, item, journey, base, row_words, now)
    score_min = plan.journeys_f[journey, JOURNEY_F_SCORE_MIN]
    for at in range(start, count):
        if scratch.reason[at] != WON:
            continue
        offer = scratch.offer[at]
        context = plan.offers_f[offer, OFFER_F_CONTEXT]
        program = plan.offers[offer, OFFER_CONTEXT]
        if program >= 0:
            context = evaluate(
                plan, program, shard.rows, base, row_words, now, records, item, scratch.location
            )
        p = propensity(scratch.logit[offer - first])
        score = p * context * plan.offers_f[offer, OFFER_F_VALUE] * plan.offers_f[offer, OFFER_F_LEVER]
        scratch.propensity[at] = p
        scratch.context[at] = context
        scratch.score[at] = score
        if score < score_min:
            scratch.reason[at] = BELOW_MINIMUM
            continue
        computed = plan.offers[offer, OFFER_DISCOUNT]
        if computed >= 0:
            program = plan.discounts[computed, DISCOUNT_PROGRAM]
            value = evaluate(plan, program, shard.rows, base, row_words, now, records, item, scratch.location)
            scratch.discount[at] = depth(plan.discounts, computed, value)
        slot = plan.offers[offer, OFFER_SLOT]
        best = scratch.best[slot]
        if best < 0:
            scratch.best[slot] = at
        elif better(scratch, plan, at, best, only != ANY_OFFER):
            scratch.reason[best] = OUTSCORED
            scratch.best[slot] = at
        else:
            scratch.reason[at] = OUTSCORED
    return count


@inline
def keep_one_slot(plan: Plan, scratch: Scratch, slots: int, released: bool) -> None:
    """Of the slots' winners that do not stand alongside, leave only the best."""
    only = -1
    for slot in range(slots):
        at = scratch.best[slot]
        if at < 0:
            continue
        if plan.journeys[plan.offers[scratch.offer[at], OFFER_JOURNEY], JOURNEY_ALONGSIDE] == 1:
            continue
        if only < 0:
            only = at
            continue
        loser = at
        if better(scratch, plan, at, only, released):
            loser = only
            only = at
        scratch.reason[loser] = OTHER_SLOT
        scratch.best[plan.offers[scratch.offer[loser], OFFER_SLOT]] = -1


@outline
def mark_expired(plan: Plan, scratch: Scratch, released: int, start: int, count: int) -> None:
    """Of the candidates from `start` on, the one that row `released` of scratch.held is about holds good no more."""
    for at in range(start, count):
        if scratch.offer[at] == scratch.held[released, RELEASED_OFFER]:
            scratch.reason[at] = EXPIRED


@outline
def keep_held_slots(plan: Plan, scratch: Scratch, released: int, slots: int) -> None:
    """Leave only the candidates of slots for which something was held."""
    for slot in range(slots):
        if first_held(plan, scratch, released, slot) < 0:
            scratch.candidates[slot] = 0


@inline
def first_held(plan: Plan, scratch: Scratch, released: int, slot: int) -> int:
    """The first row of scratch.held with an offer of this slot, or -1."""
    for k in range(released):
        if plan.offers[scratch.held[k, RELEASED_OFFER], OFFER_SLOT] == slot:
            return k
    return -1


@outline
def next_slot(plan: Plan, scratch: Scratch, replay: Replay, slots: int) -> int:
    """The slot that is granted next when held actions are released: that of the best winner, then those without one."""
    found = -1
    for slot in range(slots):
        best = scratch.best[slot]
        if best >= 0 and (found < 0 or better(scratch, plan, best, scratch.best[found], True)):
            found = slot
    if found >= 0:
        return found
    for slot in range(slots):
        if scratch.candidates[slot] != 0 or replay.sent[slot] >= 0:
            return slot
    return 0


@inline
def next_best(plan: Plan, scratch: Scratch, count: int, slot: int, after: int) -> int:
    """The best of the slot's candidates that were outscored which `after` beats, or -1."""
    found = -1
    for at in range(count):
        if (
            scratch.reason[at] == OUTSCORED
            and plan.offers[scratch.offer[at], OFFER_SLOT] == slot
            and better(scratch, plan, after, at, False)
            and (found < 0 or better(scratch, plan, at, found, False))
        ):
            found = at
    return found


@outline
def rank_behind(
    shard: Shard,
    plan: Plan,
    scratch: Scratch,
    world: World,
    alone: Array,
    records: Array,
    count: int,
    row: int,
    base: int,
    now: int,
    quiet: int,
) -> int:
    """Fill scratch.ranking behind its first, a winner with a voucher of a campaign, with those that stand in for it;
    how many there are in all. One that a limit, a cap, another slot's winner or quiet hours forbid is left out, and
    says so.

    quiet  the contacts with which what would be sent is held, a bit each
    """
    winner = scratch.ranking[0]
    slot = plan.offers[scratch.offer[winner], OFFER_SLOT]
    is_alongside = plan.journeys[plan.offers[scratch.offer[winner], OFFER_JOURNEY], JOURNEY_ALONGSIDE] == 1
    ranked = 1
    last = winner
    while plan.offers[scratch.offer[scratch.ranking[ranked - 1]], OFFER_CAMPAIGN] != 0:
        last = next_best(plan, scratch, count, slot, last)
        if last < 0:
            break
        item = scratch.item[last]
        offer = scratch.offer[last]
        journey = plan.offers[offer, OFFER_JOURNEY]
        product = records[item, PRODUCT]
        category = records[item, CATEGORY]
        if is_alongside and plan.journeys[journey, JOURNEY_ALONGSIDE] == 0:
            scratch.reason[last] = OTHER_SLOT  # it would stand beside a winner that stands alone
        elif limit_reached(shard, plan, alone, journey, row, base, now, product, category, True):
            scratch.reason[last] = LIMIT
        elif len(plan.caps) > 0 and cap_reached(
            shard, plan, world, alone, plan.offers[offer, OFFER_CONTACT], base, now, True
        ):
            scratch.reason[last] = CAP
        elif (quiet >> plan.offers[offer, OFFER_CONTACT]) & 1:
            scratch.reason[last] = QUIET_HOURS
        else:
            scratch.ranking[ranked] = last
            ranked += 1
    return ranked


@inline
def leads_its_journey(plan: Plan, scratch: Scratch, place: int) -> bool:
    """Whether no better one of scratch.ranking is of the same journey."""
    journey = plan.offers[scratch.offer[scratch.ranking[place]], OFFER_JOURNEY]
    for before in range(place):
        if plan.offers[scratch.offer[scratch.ranking[before]], OFFER_JOURNEY] == journey:
            return False
    return True


@outline
def charge_behind(
    shard: Shard, plan: Plan, scratch: Scratch, records: Array, ranked: int, row: int, base: int, now: int
) -> None:
    """Charge what the others of scratch.ranking would, as far as its first, which is charged, has not."""
    charged = 1 << plan.offers[scratch.offer[scratch.ranking[0]], OFFER_CONTACT]
    for place in range(1, ranked):
        at = scratch.ranking[place]
        item = scratch.item[at]
        offer = scratch.offer[at]
        if leads_its_journey(plan, scratch, place):
            journey = plan.offers[offer, OFFER_JOURNEY]
            product = records[item, PRODUCT]
            charge_limits(shard, plan, journey, row, base, now, now, product, records[item, CATEGORY])
        contact = plan.offers[offer, OFFER_CONTACT]
        if len(plan.caps) > 0:
            for which in range(plan.charge_start[contact], plan.charge_start[contact + 1]):
                stream = plan.charge[which]
                if plan.streams[stream, STREAM_FIELD] & charged == 0:
                    at = base + plan.streams[stream, STREAM_OFFSET]
                    add_time(shard.rows, at, plan.streams[stream, STREAM_K], now)
        charged |= 1 << contact


@inline
def place_in_slot(plan: Plan, scratch: Scratch, slot: int, at: int) -> int:
    """How many candidates of the slot stand before candidate `at`."""
    place = 0
    for before in range(at):
        if plan.offers[scratch.offer[before], OFFER_SLOT] == slot:
            place += 1
    return place


@inline
def grant(
    shard: Shard,
    plan: Plan,
    scratch: Scratch,
    world: World,
    replay: Replay,
    out: Out,
    records: Array,
    text: Array,
    header: int,
    record: int,
    step: int,
    fired: int,
    fired_count: int,
    count: int,
    row: int,
    base: int,
    now: int,
    quiet: int,
    released: int,
    settings: Array,
) -> None:
    """Grant the winners slot by slot and write a log row for each slot that had candidates.

    record    what these rows refer to: the header of an event, or -1 - t for row t of Out.timer_records
    step      of the journey: 1 but for later waits
    quiet     the contacts with which what would be sent is held, a bit each
    released  held actions that are decided: records[header + k] is of row k of scratch.held; 0 = none
    """
    slots = len(plan.slot_hash)
    first = header
    for place in range(slots):
        slot = place
        if released > 0:
            slot = next_slot(plan, scratch, replay, slots)
        candidates = scratch.candidates[slot]
        sent = replay.sent[slot]  # it won the slot, and all but the log row is done
        if candidates == 0 and sent < 0:
            continue
        replay.sent[slot] = -1
        winner = scratch.best[slot]
        decided = now
        held = -1
        if released > 0:
            # the record that the slot's rows refer to is that of what won, else of what was held first
            header = first + max(0, first_held(plan, scratch, released, slot))
            if winner >= 0:
                header = scratch.item[winner]
            for at in range(count):
                if sent >= 0 and scratch.offer[at] == sent and scratch.reason[at] == WON:
                    header = scratch.item[at]
            record = -1 - header
            step = records[header, SEQUENCE]
            decided = scratch.held[header - first, RELEASED_FIRST]
            scratch.best[slot] = -1
            scratch.candidates[slot] = 0
        ranked = 0
        if winner >= 0:
            item = scratch.item[winner]
            journey = plan.offers[scratch.offer[winner], OFFER_JOURNEY]
            contact = plan.offers[scratch.offer[winner], OFFER_CONTACT]
            product = records[item, PRODUCT]
            category = records[item, CATEGORY]
            is_quiet = (quiet >> contact) & 1 != 0
            # who is sent nothing now need not leave room for what was sent later
            if limit_reached(
                shard, plan, replay.alone, journey, row, base, now, product, category, not is_quiet
            ):
                scratch.reason[winner] = LIMIT
                winner = -1
            elif len(plan.caps) > 0 and cap_reached(
                shard, plan, world, replay.alone, contact, base, now, not is_quiet
            ):
                scratch.reason[winner] = CAP
                winner = -1
            elif is_quiet:
                offer = scratch.offer[winner]
                reason = hold(
                    shard, plan, world, records, text, header, item, offer, step, now, row, now, settings
                )
                scratch.reason[winner] = reason
                if reason == HELD:
                    held = offer
                winner = -1
            else:
                scratch.ranking[0] = winner
                ranked = 1
                if released == 0 and plan.offers[scratch.offer[winner], OFFER_CAMPAIGN] != 0:
                    ranked = rank_behind(
                        shard, plan, scratch, world, replay.alone, records, count, row, base, now, quiet
                    )
                charge_limits(shard, plan, journey, row, base, now, now, product, category)
                if len(plan.caps) > 0:
                    charge_caps(shard, plan, contact, base, now)
                if ranked > 1:
                    charge_behind(shard, plan, scratch, records, ranked, row, base, now)
        decision_lo, decision_hi = decision_id(records, header, plan.slot_hash[slot], settings)
        log = out.used[OUT_LOG]
        out.used[OUT_LOG] = log + 1
        reasons = out.used[OUT_REASONS]
        out.used[OUT_REASONS] = reasons + candidates
        sample = -1
        if ((decision_hi >> 11) & 0x1FFFFFFFFFFFFF) < settings[SET_SAMPLE]:
            sample = out.used[OUT_SAMPLE]
            out.used[OUT_SAMPLE] = sample + candidates
        if candidates == count:  # the only slot: its candidates lie side by side
            target = out.reasons[reasons : reasons + count]
            for at in range(count):
                target[at] = scratch.reason[at]
            if sample >= 0:
                for at in range(count):
                    out.sample[sample + at, SAMPLE_PROPENSITY] = scratch.propensity[at]
                    out.sample[sample + at, SAMPLE_CONTEXT] = scratch.context[at]
                    out.sample[sample + at, SAMPLE_SCORE] = scratch.score[at]
        else:
            n = 0
            for at in range(count):
                if plan.offers[scratch.offer[at], OFFER_SLOT] == slot:
                    out.reasons[reasons + n] = scratch.reason[at]
                    if sample >= 0:
                        out.sample[sample + n, SAMPLE_PROPENSITY] = scratch.propensity[at]
                        out.sample[sample + n, SAMPLE_CONTEXT] = scratch.context[at]
                        out.sample[sample + n, SAMPLE_SCORE] = scratch.score[at]
                    n += 1
        out.log[log, LOG_RECORD] = record
        out.log[log, LOG_SLOT] = slot
        out.log[log, LOG_WINNER] = scratch.offer[winner] if winner >= 0 else sent
        out.log[log, LOG_CANDIDATES] = candidates
        out.log[log, LOG_REASONS] = reasons
        out.log[log, LOG_FIRED] = fired
        out.log[log, LOG_FIRED_COUNT] = fired_count
        out.log[log, LOG_DECISION_LO] = decision_lo
        out.log[log, LOG_DECISION_HI] = decision_hi
        out.log[log, LOG_NOW] = now
        out.log[log, LOG_SAMPLE] = sample
        out.log[log, LOG_ZONE] = shard.rows[base + ZONE] & ZONE_MASK
        out.log[log, LOG_HELD] = held
        shard.meta[COUNT_DECISIONS] += 1
        shard.meta[COUNT_CANDIDATES] += candidates
        for rank in range(ranked):
            at = scratch.ranking[rank]
            offer = scratch.offer[at]
            journey = plan.offers[offer, OFFER_JOURNEY]
            item = scratch.item[at]
            low, high = action_id(decision_lo, decision_hi, plan.journey_hash[journey], step, settings)
            action = out.used[OUT_ACTIONS]
            out.used[OUT_ACTIONS] = action + 1
            out.actions[action, ACTION_LOG] = log
            out.actions[action, ACTION_RECORD] = record
            out.actions[action, ACTION_ITEM] = record + (item - header)
            out.actions[action, ACTION_OFFER] = offer
            out.actions[action, ACTION_LO] = low
            out.actions[action, ACTION_HI] = high
            out.actions[action, ACTION_STEP] = step
            out.actions[action, ACTION_FIRST] = decided
            out.actions[action, ACTION_SEGMENTS] = shard.rows[base + SEGMENTS]
            out.actions[action, ACTION_STAGE] = shard.rows[base + STAGE]
            out.actions[action, ACTION_ITEMS] = out.used[OUT_ITEMS]
            listed = 0
            if plan.offers[offer, OFFER_ITEMS_STREAM] >= 0:
                listed = list_items(shard, plan, scratch, world, out, offer, base, now)
            out.actions[action, ACTION_ITEMS_COUNT] = listed
            out.actions[action, ACTION_DISCOUNT] = 0
            if plan.offers[offer, OFFER_DISCOUNT] >= 0:
                out.actions[action, ACTION_DISCOUNT] = scratch.discount[at]
            out.actions[action, ACTION_RANKING] = 0
            if rank > 0 or plan.offers[offer, OFFER_CAMPAIGN] != 0:
                candidate = place_in_slot(plan, scratch, slot, at)
                out.actions[action, ACTION_RANKING] = ((candidate + 1) << RANKING_BITS) | (ranked - 1 - rank)
            if plan.offers[offer, OFFER_TAKE_BACK_MS] != 0:
                keep_outstanding(
                    shard,
                    plan,
                    scratch.outstanding,
                    offer,
                    step,
                    decision_lo,
                    decision_hi,
                    now,
                    decided,
                    key_of_item(plan, records, item, journey),
                    out.actions[action, ACTION_RANKING] == 0,
                    False,
                    row,
                    settings,
                )
            if len(plan.joins) > 0 and leads_its_journey(plan, scratch, rank):
                note_action(
                    shard,
                    plan,
                    journey,
                    row,
                    base,
                    now,
                    now,
                    records[item, PRODUCT],
                    out.actions[action, ACTION_LO],
                    out.actions[action, ACTION_HI],
                )
            out.numbers[action, 0] = scratch.propensity[at]
            out.numbers[action, 1] = scratch.context[at]
            out.numbers[action, 2] = plan.offers_f[offer, OFFER_F_VALUE]
            out.numbers[action, 3] = plan.offers_f[offer, OFFER_F_LEVER]
            out.numbers[action, 4] = scratch.score[at]
            if rank == 0:
                shard.meta[COUNT_ACTIONS] += 1
