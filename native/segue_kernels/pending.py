"""What was sent before a crash and is decided once more after it: charged before the first row, and not sent again.

Whatever is decided after the crash, in whatever order, counts what was sent since the state was saved (receipt.py).
Each decision's id is kept as pending until its trigger comes by again. Then nothing is decided if it was logged; a slot
whose action was sent and not logged is won by that action, and logged only. What else the action changes (the joins
that wait for it, what may be taken back) changes then, as it did before, and what was held is held again.

What was logged is charged to limits and caps at once: a part's log has no gaps, so nothing earlier is decided again.
What was sent and not logged went out ahead of the log, and what came before it may have been lost: it stands in
Replay.alone until its trigger comes by, is charged then, and until then whatever is decided must leave room for it.

That an action was taken back is pending like a decision, beside it or alone: it is not told again (takeback.py).

A pending decision is a row of Replay.pending (open addressing by its id, linear probing, a power of two of rows).
"""

from __future__ import annotations

from segue_kernels.customers import erased_at, find_customer, mark_dirty, new_row
from segue_kernels.decide import charge_caps, charge_limits, first_alone
from segue_kernels.held import hold
from segue_kernels.index import MOVES_PER_INSERT
from segue_kernels.jit import Array, inline, kernel, outline
from segue_kernels.joins import note_action
from segue_kernels.keyed import move_spilled
from segue_kernels.made_ids import action_id, decision_id
from segue_kernels.outstanding import keep_outstanding, key_of_item
from segue_kernels.plan import JOURNEY_ALONGSIDE, OFFER_CONTACT, OFFER_JOURNEY
from segue_kernels.receipt import (
    RECEIPT_CATEGORY,
    RECEIPT_CONTACT,
    RECEIPT_CUSTOMER_HI,
    RECEIPT_CUSTOMER_KIND,
    RECEIPT_CUSTOMER_LO,
    RECEIPT_DECISION_HI,
    RECEIPT_DECISION_LO,
    RECEIPT_FLAGS,
    RECEIPT_IS_HELD,
    RECEIPT_IS_LOGGED,
    RECEIPT_IS_SENT,
    RECEIPT_IS_WITHDRAWN,
    RECEIPT_OFFER,
    RECEIPT_PRODUCT,
    RECEIPT_TIME,
    RECEIPT_ZONE,
)
from segue_kernels.record import SEQUENCE
from segue_kernels.row import (
    CLOCK,
    COUNT_CHARGED,
    COUNT_OFFERS_UNKNOWN,
    COUNT_PENDING_FORGOTTEN,
    COUNT_REPLAYED_LOGGED,
    COUNT_REPLAYED_SKIPPED,
    COUNT_SPILLED,
    FLAGS,
    INDEX_USED,
    KEY_LO,
    PENDING_NOW,
    PENDING_POSITION,
    PENDING_USED,
    POOL_BUMP,
    ROWS_FREE,
    ROWS_USED,
    SPILL_OLD_POSITION,
    SPILL_USED,
)
from segue_kernels.shard import (
    ALONE_CATEGORY,
    ALONE_CONTACT_MASK,
    ALONE_CONTACT_SHIFT,
    ALONE_DECISION_HI,
    ALONE_DECISION_LO,
    ALONE_FLAGS,
    ALONE_HI,
    ALONE_IS_CHARGED,
    ALONE_JOURNEY,
    ALONE_LO,
    ALONE_OFFER,
    ALONE_PRODUCT,
    ALONE_TIME,
    ALONE_ZONE_SHIFT,
    OTHER_SLOT,
    OUTSCORED,
    RELEASED_FIRST,
    RELEASED_OFFER,
    SET_LATENESS_MS,
    SET_PENDING_MS,
    SET_POOL_MAX,
    SET_POOL_ROOM,
    SET_ROW_WORDS,
    SET_ROWS_MAX,
    SET_SPILL_ROOM,
    STOP_END,
    STOP_INDEX,
    STOP_POOL,
    STOP_ROWS,
    STOP_SPILL,
    WON,
    Plan,
    Replay,
    Scratch,
    Shard,
    World,
)

# a row of Replay.pending
PENDING_LO = 0
PENDING_HI = 1
PENDING_FLAGS = 2  # RECEIPT_IS_* | PENDING_*; 0 = an empty row
PENDING_OFFER = 3  # hash of its names, as in the receipt; 0 = no action, and none held
PENDING_INDEX = 4  # row of the plan's offers; -1 = no action, or there is no such offer any more
PENDING_PRODUCT = 5
PENDING_TIME = 6  # the customer's clock as it was decided, ms
PENDING_WORDS = 8

IS_DECIDED = RECEIPT_IS_SENT | RECEIPT_IS_LOGGED | RECEIPT_IS_HELD

PENDING_CHARGED = 4  # its limits and caps are charged, or nothing can be
PENDING_ALONE = 16  # it stands in Replay.alone, or did
PENDING_GONE = 8  # no longer pending; the row is in use until the table is made anew

# what becomes of a trigger that is decided
DECIDED = 0  # it was not decided before
SKIPPED = 1
SENT_BEFORE = 2  # Replay.sent says what


@inline
def find_pending(pending: Array, lo: int, hi: int) -> int:
    """The row of a pending decision, or -1."""
    mask = len(pending) - 1
    at = lo & mask
    while pending[at, PENDING_FLAGS] != 0:
        if (
            pending[at, PENDING_LO] == lo
            and pending[at, PENDING_HI] == hi
            and pending[at, PENDING_FLAGS] & PENDING_GONE == 0
        ):
            return at
        at = (at + 1) & mask
    return -1


@inline
def _empty_row(pending: Array, lo: int) -> int:
    mask = len(pending) - 1
    at = lo & mask
    while pending[at, PENDING_FLAGS] != 0:
        at = (at + 1) & mask
    return at


@kernel
def add_pending(pending: Array, meta: Array, rows: Array) -> None:
    """Put rows of another table into this one, which has room: those that are pending."""
    for i in range(len(rows)):
        if rows[i, PENDING_FLAGS] == 0 or rows[i, PENDING_FLAGS] & PENDING_GONE != 0:
            continue
        at = _empty_row(pending, rows[i, PENDING_LO])
        for w in range(PENDING_WORDS):
            pending[at, w] = rows[i, w]
        meta[PENDING_NOW] += 1
        meta[PENDING_USED] += 1


@kernel
def note_receipts(pending: Array, meta: Array, receipts: Array, offers: Array) -> None:
    """Note receipts as pending, for which there is room; of a decision first what was sent, then what was logged.
    offers int64[n]: the row of the plan's offers for each, -1 = none."""
    for i in range(len(receipts)):
        low = receipts[i, RECEIPT_DECISION_LO]
        high = receipts[i, RECEIPT_DECISION_HI]
        at = find_pending(pending, low, high)
        if at < 0:
            at = _empty_row(pending, low)
            pending[at, PENDING_LO] = low
            pending[at, PENDING_HI] = high
            pending[at, PENDING_FLAGS] = 0
            pending[at, PENDING_INDEX] = -1
            meta[PENDING_NOW] += 1
            meta[PENDING_USED] += 1
        known = pending[at, PENDING_FLAGS]
        told = receipts[i, RECEIPT_FLAGS] & (IS_DECIDED | RECEIPT_IS_WITHDRAWN)
        pending[at, PENDING_FLAGS] = known | told
        if known & RECEIPT_IS_SENT != 0 and told & RECEIPT_IS_SENT == 0:
            continue  # logged by a later run, whose row does not tell what was sent, nor when
        pending[at, PENDING_TIME] = receipts[i, RECEIPT_TIME]
        if receipts[i, RECEIPT_OFFER] != 0:
            pending[at, PENDING_OFFER] = receipts[i, RECEIPT_OFFER]
            pending[at, PENDING_INDEX] = offers[i]
            pending[at, PENDING_PRODUCT] = receipts[i, RECEIPT_PRODUCT]


@inline
def is_withdrawn(pending: Array, meta: Array, lo: int, hi: int) -> bool:
    """Whether a decision's action was taken back before the crash; where that is all that is pending of it, it is so no
    more."""
    at = find_pending(pending, lo, hi)
    if at < 0 or pending[at, PENDING_FLAGS] & RECEIPT_IS_WITHDRAWN == 0:
        return False
    if pending[at, PENDING_FLAGS] & IS_DECIDED == 0:
        pending[at, PENDING_FLAGS] |= PENDING_GONE
        meta[PENDING_NOW] -= 1
    return True


@inline
def _contact_of(plan: Plan, receipts: Array, i: int, offer: int) -> int:
    """The contact of what a receipt tells of: by what was sent, else by the offer of these policies; -1 = unknown."""
    if receipts[i, RECEIPT_CONTACT] > 0:
        return int(receipts[i, RECEIPT_CONTACT] - 1)
    return int(plan.offers[offer, OFFER_CONTACT]) if offer >= 0 else -1


@kernel
def charge_receipts(
    shard: Shard,
    plan: Plan,
    replay: Replay,
    receipts: Array,
    offers: Array,
    no_text: Array,
    start: int,
    settings: Array,
) -> tuple[int, int]:
    """Charge those of receipts[start:], all of them noted, that tell of something sent and logged: each decision once,
    by what the action says, which comes before its log row. What was sent of an offer that is there no more is charged
    to caps, logged or not.

    no_text: an empty run of bytes. Customers are made where they are missing. Returns (how far it came, why it
    stopped: STOP_*).
    """
    row_words = settings[SET_ROW_WORDS]
    meta = shard.meta
    pending = replay.pending
    for i in range(start, len(receipts)):
        low = receipts[i, RECEIPT_DECISION_LO]
        high = receipts[i, RECEIPT_DECISION_HI]
        at = find_pending(pending, low, high)
        flags = pending[at, PENDING_FLAGS]
        offer = offers[i]
        if receipts[i, RECEIPT_OFFER] == 0 or flags & (PENDING_CHARGED | RECEIPT_IS_HELD) != 0:
            continue
        if offer >= 0 and flags & RECEIPT_IS_LOGGED == 0:
            continue
        contact = -1
        if len(plan.caps) > 0:
            contact = _contact_of(plan, receipts, i, offer)
        if offer >= 0 or contact >= 0:
            lo = receipts[i, RECEIPT_CUSTOMER_LO]
            hi = receipts[i, RECEIPT_CUSTOMER_HI]
            row = find_customer(shard, row_words, lo, hi)
            if meta[SPILL_USED] > ((len(shard.spill) * 5) >> 3) - settings[SET_SPILL_ROOM]:
                return i, STOP_SPILL
            if meta[POOL_BUMP] > settings[SET_POOL_MAX] - settings[SET_POOL_ROOM]:
                return i, STOP_POOL
            if row < 0:
                if meta[INDEX_USED] >= (len(shard.index) * 5) >> 3:
                    return i, STOP_INDEX
                if meta[ROWS_FREE] == 0 and meta[ROWS_USED] >= settings[SET_ROWS_MAX]:
                    return i, STOP_ROWS
                row = new_row(shard, lo, hi, receipts[i, RECEIPT_CUSTOMER_KIND], no_text, 0, row_words)
            base = row * row_words
            time = receipts[i, RECEIPT_TIME]
            # an earlier crash left it, and its trigger was decided again since: what was sent stands in `alone`
            which = find_alone(replay.alone, lo, low, high) if flags & PENDING_ALONE != 0 else -1
            spilled = meta[COUNT_SPILLED]
            mark_dirty(shard, row)
            if which >= 0:
                _charge_alone(shard, plan, replay.alone, which, row, base, shard.rows[base + CLOCK])
                replay.alone[which, ALONE_FLAGS] |= ALONE_IS_CHARGED
            elif erased_at(shard.rows[base + FLAGS]) < time:
                if offer >= 0:
                    charge_limits(
                        shard,
                        plan,
                        plan.offers[offer, OFFER_JOURNEY],
                        row,
                        base,
                        shard.rows[
                            base + CLOCK
                        ],  # what counts until then is not given up for what was sent later
                        time,
                        receipts[i, RECEIPT_PRODUCT],
                        receipts[i, RECEIPT_CATEGORY],
                    )
                if contact >= 0:
                    charge_caps(shard, plan, contact, base, time)
                meta[COUNT_CHARGED] += 1
            if meta[SPILL_OLD_POSITION] < len(shard.spill_old):
                steps = MOVES_PER_INSERT * (meta[COUNT_SPILLED] - spilled + 1)
                move_spilled(shard, plan.streams, row_words, settings[SET_LATENESS_MS], steps)
        if offer < 0:
            meta[COUNT_OFFERS_UNKNOWN] += 1
        pending[at, PENDING_FLAGS] = flags | PENDING_CHARGED
    return len(receipts), STOP_END


@kernel
def sends_alone(pending: Array, plan: Plan, receipts: Array, offers: Array, alone: Array) -> int:
    """Fill `alone` with what charge_receipts has left: sends without a log row, each once. Returns their number."""
    count = 0
    for i in range(len(receipts)):
        at = find_pending(pending, receipts[i, RECEIPT_DECISION_LO], receipts[i, RECEIPT_DECISION_HI])
        if (
            receipts[i, RECEIPT_OFFER] == 0
            or pending[at, PENDING_FLAGS] & (PENDING_CHARGED | PENDING_ALONE | RECEIPT_IS_HELD) != 0
        ):
            continue
        pending[at, PENDING_FLAGS] |= PENDING_ALONE
        alone[count, ALONE_LO] = receipts[i, RECEIPT_CUSTOMER_LO]
        alone[count, ALONE_HI] = receipts[i, RECEIPT_CUSTOMER_HI]
        alone[count, ALONE_DECISION_LO] = receipts[i, RECEIPT_DECISION_LO]
        alone[count, ALONE_DECISION_HI] = receipts[i, RECEIPT_DECISION_HI]
        alone[count, ALONE_OFFER] = receipts[i, RECEIPT_OFFER]
        alone[count, ALONE_JOURNEY] = plan.offers[offers[i], OFFER_JOURNEY]
        alone[count, ALONE_TIME] = receipts[i, RECEIPT_TIME]
        alone[count, ALONE_PRODUCT] = receipts[i, RECEIPT_PRODUCT]
        alone[count, ALONE_CATEGORY] = receipts[i, RECEIPT_CATEGORY]
        contact = _contact_of(plan, receipts, i, offers[i])
        alone[count, ALONE_FLAGS] = ((contact + 1) << ALONE_CONTACT_SHIFT) | (
            receipts[i, RECEIPT_ZONE] << ALONE_ZONE_SHIFT
        )
        count += 1
    return count


@inline
def find_alone(alone: Array, customer_lo: int, decision_lo: int, decision_hi: int) -> int:
    """The row of a decision that is not charged, or -1."""
    at = first_alone(alone, customer_lo)
    while at < len(alone) and alone[at, ALONE_LO] == customer_lo:
        if (
            alone[at, ALONE_DECISION_LO] == decision_lo
            and alone[at, ALONE_DECISION_HI] == decision_hi
            and alone[at, ALONE_FLAGS] & ALONE_IS_CHARGED == 0
        ):
            return at
        at += 1
    return -1


@inline
def _charge_alone(shard: Shard, plan: Plan, alone: Array, which: int, row: int, base: int, now: int) -> None:
    journey = alone[which, ALONE_JOURNEY]
    time = alone[which, ALONE_TIME]
    if erased_at(shard.rows[base + FLAGS]) >= time:
        return
    contact = ((alone[which, ALONE_FLAGS] >> ALONE_CONTACT_SHIFT) & ALONE_CONTACT_MASK) - 1
    if contact >= 0:
        charge_caps(shard, plan, contact, base, time)
    if journey >= 0:
        product = alone[which, ALONE_PRODUCT]
        charge_limits(shard, plan, journey, row, base, now, time, product, alone[which, ALONE_CATEGORY])
        shard.meta[COUNT_CHARGED] += 1


@outline
def _hold_again(
    shard: Shard,
    plan: Plan,
    world: World,
    scratch: Scratch,
    records: Array,
    text: Array,
    header: int,
    step: int,
    triggered: int,
    offer: int,
    first: int,
    row: int,
    now: int,
    settings: Array,
) -> None:
    """Hold what was held before the crash, if its journey fires again."""
    for t in range(triggered):
        item = scratch.fired_at[t]
        if item >= 0 and scratch.journey[t] == plan.offers[offer, OFFER_JOURNEY]:
            hold(shard, plan, world, records, text, header, item, offer, step, first, row, now, settings)
            return


@inline
def _place_of_released(scratch: Scratch, released: int, offer: int) -> int:
    """The row of scratch.held of an offer that is released now, or -1."""
    for k in range(released):
        if scratch.held[k, RELEASED_OFFER] == offer:
            return k
    return -1


@inline
def _key_again(plan: Plan, scratch: Scratch, records: Array, triggered: int, journey: int) -> int:
    """What the journey's waits are by, of the record that it fires on; 0 = it does not fire again."""
    for t in range(triggered):
        item = scratch.fired_at[t]
        if item >= 0 and scratch.journey[t] == journey:
            return key_of_item(plan, records, item, journey)
    return 0


@outline
def _send_again(
    shard: Shard,
    plan: Plan,
    scratch: Scratch,
    pending: Array,
    records: Array,
    header: int,
    step: int,
    triggered: int,
    is_release: bool,
    at: int,
    row: int,
    now: int,
    settings: Array,
) -> None:
    """What else the action of pending[at] changes beside limits and caps: joins, and what may be taken back."""
    offer = pending[at, PENDING_INDEX]
    journey = plan.offers[offer, OFFER_JOURNEY]
    low = pending[at, PENDING_LO]
    high = pending[at, PENDING_HI]
    time = pending[at, PENDING_TIME]
    first = time
    if is_release:
        which = _place_of_released(scratch, triggered, offer)
        step = 1
        if which >= 0:
            step = records[header + which, SEQUENCE]
            first = scratch.held[which, RELEASED_FIRST]
    keep_outstanding(
        shard,
        plan,
        scratch.outstanding,
        offer,
        step,
        low,
        high,
        time,
        first,
        _key_again(plan, scratch, records, triggered, journey),
        True,
        pending[at, PENDING_FLAGS] & RECEIPT_IS_WITHDRAWN != 0,
        row,
        settings,
    )
    if len(plan.joins) > 0:
        base = row * settings[SET_ROW_WORDS]
        product = pending[at, PENDING_PRODUCT]
        action_lo, action_hi = action_id(low, high, plan.journey_hash[journey], step, settings)
        note_action(shard, plan, journey, row, base, now, time, product, action_lo, action_hi)


@outline
def replay_trigger(
    shard: Shard,
    plan: Plan,
    world: World,
    scratch: Scratch,
    replay: Replay,
    records: Array,
    text: Array,
    header: int,
    step: int,
    triggered: int,
    is_release: bool,
    row: int,
    base: int,
    now: int,
    settings: Array,
) -> int:
    """What becomes of a trigger about to be decided: DECIDED, SKIPPED, SENT_BEFORE. Its decisions are pending no more.

    Of one that was logged in any slot all was: its decisions go out together. What it held is held again.
    """
    pending = replay.pending
    slots = len(plan.slot_hash)
    found = 0
    skips = False
    for slot in range(slots):
        low, high = decision_id(records, header, plan.slot_hash[slot], settings)
        at = find_pending(pending, low, high)
        if at >= 0 and pending[at, PENDING_FLAGS] & IS_DECIDED == 0:
            at = -1  # decided before what was read back
        replay.sent[slot] = at
        replay.sent_alone[slot] = -1
        if at >= 0:
            found += 1
            if len(replay.alone) != 0:
                alone = find_alone(
                    replay.alone, shard.rows[base + KEY_LO], pending[at, PENDING_LO], pending[at, PENDING_HI]
                )
                replay.sent_alone[slot] = alone
                if alone >= 0:  # the trigger is decided as it was, without it; then it is charged
                    replay.alone[alone, ALONE_FLAGS] |= ALONE_IS_CHARGED
            # an offer that is gone can't be logged any more
            if pending[at, PENDING_FLAGS] & RECEIPT_IS_LOGGED != 0 or pending[at, PENDING_INDEX] < 0:
                skips = True
    if found == 0:
        return DECIDED
    for slot in range(slots):
        at = replay.sent[slot]
        if at < 0:
            continue
        offer = pending[at, PENDING_INDEX]
        if pending[at, PENDING_FLAGS] & RECEIPT_IS_HELD != 0:
            if offer >= 0:
                first = pending[at, PENDING_TIME]
                _hold_again(
                    shard,
                    plan,
                    world,
                    scratch,
                    records,
                    text,
                    header,
                    step,
                    triggered,
                    offer,
                    first,
                    row,
                    now,
                    settings,
                )
        elif offer >= 0:
            _send_again(
                shard,
                plan,
                scratch,
                pending,
                records,
                header,
                step,
                triggered,
                is_release,
                at,
                row,
                now,
                settings,
            )
        pending[at, PENDING_FLAGS] |= PENDING_GONE
        shard.meta[PENDING_NOW] -= 1
        replay.sent[slot] = -1 if skips else offer
        if skips and replay.sent_alone[slot] >= 0:
            _charge_alone(shard, plan, replay.alone, replay.sent_alone[slot], row, base, now)
    if skips:
        shard.meta[COUNT_REPLAYED_SKIPPED] += 1
        return SKIPPED
    shard.meta[COUNT_REPLAYED_LOGGED] += found
    return SENT_BEFORE


@outline
def keep_sent(
    shard: Shard, plan: Plan, scratch: Scratch, replay: Replay, count: int, row: int, base: int, now: int
) -> None:
    """The winners of slots whose action was sent before stand and are charged: no candidate of such a slot can win it
    any more, and none of another slot that would not have stood alongside."""
    alone = False
    for slot in range(len(plan.slot_hash)):
        offer = replay.sent[slot]
        if offer < 0:
            continue
        if replay.sent_alone[slot] >= 0:
            _charge_alone(shard, plan, replay.alone, replay.sent_alone[slot], row, base, now)
        if plan.journeys[plan.offers[offer, OFFER_JOURNEY], JOURNEY_ALONGSIDE] == 0:
            alone = True
        best = scratch.best[slot]
        won = -1
        if best >= 0:
            scratch.reason[best] = OUTSCORED
            scratch.best[slot] = -1
            if scratch.offer[best] == offer:
                won = best
        for at in range(count):  # of what is released an offer may be there several times
            if won < 0 and scratch.offer[at] == offer:
                won = at
        if won >= 0:
            scratch.reason[won] = WON
    if not alone:
        return
    for slot in range(len(plan.slot_hash)):
        best = scratch.best[slot]
        if best < 0:
            continue
        if plan.journeys[plan.offers[scratch.offer[best], OFFER_JOURNEY], JOURNEY_ALONGSIDE] == 0:
            scratch.reason[best] = OTHER_SLOT
            scratch.best[slot] = -1


@kernel
def forget_pending(pending: Array, meta: Array, watermark: int, settings: Array, steps: int) -> None:
    """Look at the next `steps` rows; those whose trigger should have come by long ago are pending no more. All timers
    due before the watermark have fired."""
    limit = watermark - settings[SET_PENDING_MS]
    position = meta[PENDING_POSITION]
    for _ in range(min(steps, len(pending))):
        if position >= len(pending):
            position = 0
        flags = pending[position, PENDING_FLAGS]
        if flags != 0 and flags & PENDING_GONE == 0 and pending[position, PENDING_TIME] < limit:
            pending[position, PENDING_FLAGS] = flags | PENDING_GONE
            meta[PENDING_NOW] -= 1
            meta[COUNT_PENDING_FORGOTTEN] += 1
        position += 1
    meta[PENDING_POSITION] = position
