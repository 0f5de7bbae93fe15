"""The driver: a batch of records in their order of arrival, and timers in between, through state and decisions.

For each event: its customer's timers that were certainly due before it (the watermark is past them); a history it
brings; consent, quarantine, duplicate; the timers due before its own time; retention, clock, rate; then all its
records update the streams that listen to its type; segments and the stage are looked at; then the journeys that it
triggers are evaluated on each item, and those that fired are decided (decide.py) or begin to wait. What is due already
then (a wait begun by a late event) fires at once. With no records left the wheel turns up to a watermark.

Events and timers are work of one loop, so that what decides is compiled once. The run stops where an array must grow
and goes on from there: what a stop leaves half done is a customer's timers, and meta says whose (row.TIMERS_OF).
"""

from __future__ import annotations

from segue_kernels.consent import note_consent
from segue_kernels.customers import AHEAD, erased_at, forget_behaviour, mark_dirty
from segue_kernels.decide import (
    ANY_OFFER,
    NO_OFFER,
    add_candidates,
    grant,
    keep_held_slots,
    keep_one_slot,
    mark_expired,
)
from segue_kernels.fire import (
    CHECK,
    END,
    NO_TIMER,
    RELEASE,
    WAIT,
    give_up_records,
    hang_sessions,
    keep_record,
    locate_for_journeys,
    next_timer,
)
from segue_kernels.heap import string_length
from segue_kernels.ids import remember, seen_before
from segue_kernels.index import MOVES_PER_INSERT
from segue_kernels.jit import Array, inline, outline
from segue_kernels.keyed import move_spilled
from segue_kernels.locate import locate_entries
from segue_kernels.memory import prefetch
from segue_kernels.moments import fill_moments
from segue_kernels.pending import DECIDED, SENT_BEFORE, SKIPPED, keep_sent, replay_trigger
from segue_kernels.plan import (
    BY_PRODUCT,
    CHECK_STREAM,
    JOURNEY_BY,
    JOURNEY_KIND,
    JOURNEY_STILL,
    JOURNEY_WHEN,
    ON_WAIT,
    STREAM_OFFSET,
)
from segue_kernels.programs import evaluate
from segue_kernels.quiet import quiet_contacts
from segue_kernels.record import (
    CATEGORY,
    FLAG_HAS_HISTORY,
    FLAG_HAS_LINES,
    FLAG_IS_LINE,
    HEAP,
    MESSAGE_LO,
    PACK,
    PRODUCT,
    SEQUENCE,
    STRING_CUSTOMER,
    TIME,
    ZONE_MASK,
    ZONE_SHIFT,
)
from segue_kernels.record import (
    CLOCK as RECORD_CLOCK,
)
from segue_kernels.row import (
    CHECK_DUE,
    CLOCK,
    CLOCK_MAX,
    COUNT_DEDUPE_OVERFLOW,
    COUNT_DUPLICATES,
    COUNT_ERASED_EVENTS,
    COUNT_EVENTS,
    COUNT_FORGOTTEN,
    COUNT_QUARANTINED_EVENTS,
    COUNT_QUARANTINES,
    COUNT_SPILLED,
    EVENTS,
    FIRST_SEEN,
    FLAG_ASKS_CONSENT,
    FLAG_NAME_SHIFT,
    FLAGS,
    PENDING_NOW,
    POOL_BUMP,
    QUARANTINE_UNTIL,
    RATE,
    RING,
    SPILL_OLD_POSITION,
    SPILL_USED,
    TIMERS_LIMIT,
    TIMERS_OF,
    TIMERS_PLACE,
    TIMERS_SEEN,
    WAITS,
    WHEEL_DUE,
    ZONE,
)
from segue_kernels.segments import look, next_check, prepare_look
from segue_kernels.shard import (
    OUT_ACTIONS,
    OUT_CHANGES,
    OUT_CREDITS,
    OUT_FIRED,
    OUT_ITEM_TEXT,
    OUT_ITEMS,
    OUT_LOG,
    OUT_REASONS,
    OUT_SAMPLE,
    OUT_TIMER_RECORDS,
    OUT_TIMER_TEXT,
    OUT_WITHDRAWN,
    RELEASED_EXPIRED,
    RELEASED_OFFER,
    SET_ABOUT_CONSENT,
    SET_CONSENT_TYPE,
    SET_DEDUPE_MAX,
    SET_DEDUPE_MS,
    SET_ERASURE_TYPE,
    SET_LATENESS_MS,
    SET_POOL_MAX,
    SET_POOL_ROOM,
    SET_POOL_ROOM_EACH,
    SET_QUARANTINE_MS,
    SET_RATE_MAX,
    SET_RETENTION_MS,
    SET_ROW_WORDS,
    SET_SPILL_ROOM,
    SET_SPILL_ROOM_EACH,
    SET_UNSUBSCRIBE_TYPE,
    STOP_END,
    STOP_HISTORY,
    STOP_OUT,
    STOP_POOL,
    STOP_ROW,
    STOP_SPILL,
    STOP_TIMERS,
    Out,
    Plan,
    Replay,
    Scratch,
    Shard,
    World,
)
from segue_kernels.tables import HEARD_PARTITIONS, LAST_PLACE, PLACE_SEQUENCE
from segue_kernels.takeback import BY_CONSENT, BY_ERASURE, BY_GOAL, BY_TIME, drop_reached, take_back
from segue_kernels.timers import first_row, hang_by
from segue_kernels.update import update_streams
from segue_kernels.waits import arm, next_step

# where an event stands
TAKE = 0  # the next one is to be taken, or the next row of the wheel
BEFORE = 1  # timers that the watermark is past fire first
READY = 2  # it counts; timers due before its time fire first
AFTER = 3  # it is done; what is due already fires

NOT_ASKED = -1  # in scratch.fired_at
BEGUN = -2  # a wait

MINUTE_MS = 60_000
NAME_LENGTH = 0xFF << FLAG_NAME_SHIFT


@inline
def prefetch_state(shard: Shard, plan: Plan, base: int, kind_of_event: int) -> None:
    """Ask for what an event of this type will touch: the ids, and the areas of the streams it updates and reads.

    The run took 361 instead of 377 ns an event with it (100 thousand customers of 2.5 KB, two runs each); with what
    segments, stages and waits look at 440 instead of 510 (all shipped policies, customers of 1 KB, four runs each).
    """
    prefetch(shard.pool, shard.rows[base + RING])
    prefetch(shard.pool, shard.rows[base + WAITS])
    for which in range(plan.listen_start[kind_of_event], plan.listen_start[kind_of_event + 1]):
        prefetch(shard.rows, base + plan.streams[plan.listen[which], STREAM_OFFSET])
    for which in range(plan.locate_start[kind_of_event], plan.locate_start[kind_of_event + 1]):
        prefetch(shard.rows, base + plan.streams[plan.locate[which], STREAM_OFFSET])
    if plan.watch[kind_of_event] != 0:
        for check in range(len(plan.checks)):
            prefetch(shard.rows, base + plan.streams[plan.checks[check, CHECK_STREAM], STREAM_OFFSET])


@inline
def is_out_full(out: Out, room: Array) -> bool:
    """Whether an output array may be too small for one more event or timer. room[which]: used up to there is well."""
    used = out.used
    return bool(
        used[OUT_LOG] >= room[OUT_LOG]
        or used[OUT_REASONS] >= room[OUT_REASONS]
        or used[OUT_FIRED] >= room[OUT_FIRED]
        or used[OUT_ACTIONS] >= room[OUT_ACTIONS]
        or used[OUT_SAMPLE] >= room[OUT_SAMPLE]
        or used[OUT_TIMER_RECORDS] >= room[OUT_TIMER_RECORDS]
        or used[OUT_TIMER_TEXT] >= room[OUT_TIMER_TEXT]
        or used[OUT_CHANGES] >= room[OUT_CHANGES]
        or used[OUT_CREDITS] >= room[OUT_CREDITS]
        or used[OUT_ITEMS] >= room[OUT_ITEMS]
        or used[OUT_ITEM_TEXT] >= room[OUT_ITEM_TEXT]
        or used[OUT_WITHDRAWN] >= room[OUT_WITHDRAWN]
    )


@outline
def run(
    shard: Shard,
    plan: Plan,
    scratch: Scratch,
    out: Out,
    world: World,
    replay: Replay,
    records: Array,
    text: Array,
    row_of: Array,
    start: int,
    watermark: int,
    timers_max: int,
    settings: Array,
) -> tuple[int, int]:
    """Process records[start:] in order, then fire the shard's timers due before `watermark` (0: none of them), at
    most `timers_max`. Returns (how far it came, why it stopped: STOP_*).

    First of all the timers of the row meta[TIMERS_OF] - 1 due before meta[TIMERS_LIMIT] fire.
    """
    row_words = settings[SET_ROW_WORDS]
    retention = settings[SET_RETENTION_MS]
    rate_max = settings[SET_RATE_MAX]
    dedupe_ms = settings[SET_DEDUPE_MS]
    dedupe_max = settings[SET_DEDUPE_MAX]
    lateness = settings[SET_LATENESS_MS]
    rows = shard.rows
    meta = shard.meta
    slots = len(plan.slot_hash)
    merged = world.defaults[HEARD_PARTITIONS] == 0
    # with more used than this and what each record takes, an event might find too little
    spill_most = ((len(shard.spill) * 5) >> 3) - settings[SET_SPILL_ROOM]
    spill_each = settings[SET_SPILL_ROOM_EACH]
    pool_most = settings[SET_POOL_MAX] - settings[SET_POOL_ROOM]
    pool_each = settings[SET_POOL_ROOM_EACH]
    spilled = meta[COUNT_SPILLED]
    timers_end = meta[TIMERS_SEEN] + timers_max
    n = len(records)
    i = start
    phase = TAKE
    limit = 0
    arrived = LAST_PLACE  # versions of tables that timers see: those that arrived before this clock
    row = 0
    if meta[TIMERS_OF] != 0:
        row = meta[TIMERS_OF] - 1
        limit = meta[TIMERS_LIMIT]
        arrived = meta[TIMERS_PLACE]
        meta[TIMERS_OF] = 0
        phase = AFTER
    base = row * row_words
    header = start
    end = start
    flags = 0
    kind_of_event = 0
    time = 0
    event_now = 0
    while True:
        if phase == TAKE:
            if i >= n:
                if watermark == 0:
                    return n, STOP_END
                row = first_row(shard, row_words, watermark)
                if row < 0:
                    return n, STOP_END
                base = row * row_words
                limit = watermark
                arrived = LAST_PLACE
                phase = AFTER
            else:
                if i + 2 * AHEAD < n:
                    ahead = row_of[i + 2 * AHEAD] * row_words
                    prefetch(rows, ahead)
                    prefetch(rows, ahead + 8)
                if i + AHEAD < n:
                    prefetch_state(
                        shard, plan, row_of[i + AHEAD] * row_words, records[i + AHEAD, PACK] & 0xFF
                    )
                if is_out_full(out, scratch.room):
                    return i, STOP_OUT
                header = i
                world.defaults[PLACE_SEQUENCE] = records[i, SEQUENCE]
                pack = records[i, PACK]
                flags = (pack >> 8) & 0xFF
                kind_of_event = pack & 0xFF
                end = i + 1
                if flags & FLAG_HAS_LINES:
                    while end < n and ((records[end, PACK] >> 8) & FLAG_IS_LINE) != 0:
                        end += 1
                row = row_of[header]
                base = row * row_words
                time = records[header, TIME]
                if merged and records[header, RECORD_CLOCK] > meta[CLOCK_MAX]:
                    meta[CLOCK_MAX] = records[header, RECORD_CLOCK]
                limit = records[header, RECORD_CLOCK] - lateness
                # merged: all that can be valid by then has arrived, for none is later than the lateness
                arrived = LAST_PLACE if merged else records[header, RECORD_CLOCK]
                phase = BEFORE

        timer = NO_TIMER
        waiting = 0  # block of the wait that fires
        triggered = 0
        if rows[base + WHEEL_DUE] != 0 and rows[base + WHEEL_DUE] < limit:
            stop = STOP_END
            if is_out_full(out, scratch.room):
                stop = STOP_OUT
            elif meta[SPILL_USED] + spill_each > spill_most:
                stop = STOP_SPILL
            elif meta[POOL_BUMP] + pool_each > pool_most:
                stop = STOP_POOL
            elif meta[TIMERS_SEEN] >= timers_end:
                stop = STOP_TIMERS
            if stop != STOP_END:
                meta[TIMERS_OF] = row + 1
                meta[TIMERS_LIMIT] = limit
                meta[TIMERS_PLACE] = arrived
                return i, stop
            timer, waiting, triggered = next_timer(shard, plan, world, scratch, out, row, limit, settings)
            meta[TIMERS_SEEN] += 1

        if timer == NO_TIMER:
            if phase == AFTER:
                phase = TAKE
                continue
            if phase == BEFORE:
                about = rows[base + FLAGS]
                if time <= erased_at(about):
                    meta[COUNT_ERASED_EVENTS] += 1
                    i = end
                    phase = TAKE
                    continue
                # a consent or a link may come later than the lateness: it counts as of the watermark, behind
                # which the sweep may have forgotten
                event_now = max(rows[base + CLOCK], time, records[header, RECORD_CLOCK] - lateness)
                if kind_of_event == settings[SET_ERASURE_TYPE]:
                    if rows[base + WAITS] != 0:
                        take_back(
                            shard,
                            plan,
                            replay,
                            out,
                            records,
                            header,
                            end,
                            kind_of_event,
                            BY_ERASURE,
                            header,
                            base,
                            event_now,
                            settings,
                        )
                    return i, STOP_ROW
                if about & NAME_LENGTH == 0 and string_length(records[header, HEAP], STRING_CUSTOMER) != 0:
                    return i, STOP_ROW
                if flags & FLAG_HAS_HISTORY:
                    return i, STOP_HISTORY
                asks_consent = about & FLAG_ASKS_CONSENT != 0
                if (settings[SET_ABOUT_CONSENT + (kind_of_event >> 6)] >> (kind_of_event & 63)) & 1 != 0:
                    has_word = (
                        kind_of_event == settings[SET_CONSENT_TYPE]
                        or kind_of_event == settings[SET_UNSUBSCRIBE_TYPE]
                    )
                    # whatever becomes of the event otherwise
                    note_consent(shard, records, header, base, has_word)
                    mark_dirty(shard, row)
                    asks_consent = True
                if asks_consent and rows[base + WAITS] != 0:
                    take_back(
                        shard,
                        plan,
                        replay,
                        out,
                        records,
                        header,
                        end,
                        kind_of_event,
                        BY_CONSENT,
                        header,
                        base,
                        event_now,
                        settings,
                    )
                if rows[base + QUARANTINE_UNTIL] > event_now:
                    meta[COUNT_QUARANTINED_EVENTS] += 1
                    i = end
                    phase = TAKE
                    continue
                if seen_before(shard, base, records[header, MESSAGE_LO], event_now, dedupe_ms):
                    meta[COUNT_DUPLICATES] += 1
                    i = end
                    phase = TAKE
                    continue
                phase = READY
                limit = event_now
                arrived = records[header, RECORD_CLOCK]
                if rows[base + WHEEL_DUE] != 0 and rows[base + WHEEL_DUE] < limit:
                    continue

            # nothing of it has counted yet: after a stop it is taken once more
            if meta[SPILL_USED] + spill_each * (end - header) > spill_most:
                return i, STOP_SPILL
            if meta[POOL_BUMP] + pool_each * (end - header) > pool_most:
                return i, STOP_POOL
            i = end
            phase = AFTER
            mark_dirty(shard, row)
            clock = rows[base + CLOCK]
            if clock != 0 and event_now - clock > retention:
                forget_behaviour(shard, plan, base)
                if rows[base + FIRST_SEEN] != 0:  # else the sweep was here first
                    meta[COUNT_FORGOTTEN] += 1
                rows[base + FIRST_SEEN] = 0
                rows[base + EVENTS] = 0
            meta[COUNT_DEDUPE_OVERFLOW] += remember(
                shard, base, records[header, MESSAGE_LO], event_now, dedupe_ms, dedupe_max
            )
            rows[base + CLOCK] = event_now
            if rows[base + FIRST_SEEN] == 0 or time < rows[base + FIRST_SEEN]:
                rows[base + FIRST_SEEN] = time
            rows[base + EVENTS] += 1
            meta[COUNT_EVENTS] += 1
            minute = event_now // MINUTE_MS
            rate = rows[base + RATE]
            rate = rate + 1 if (rate >> 20) == minute else (minute << 20) | 1
            rows[base + RATE] = rate
            if (rate & 0xFFFFF) > rate_max:
                rows[base + QUARANTINE_UNTIL] = event_now + settings[SET_QUARANTINE_MS]
                meta[COUNT_QUARANTINES] += 1
            zone = (records[header, PACK] >> ZONE_SHIFT) & ZONE_MASK
            if zone != 0:
                rows[base + ZONE] = max(rows[base + ZONE], (time << 10) | zone)

            if (
                plan.goal_start[kind_of_event] != plan.goal_start[kind_of_event + 1]
                and rows[base + WAITS] != 0
            ):
                drop_reached(shard, plan, records, header, end, kind_of_event, base)
                take_back(
                    shard,
                    plan,
                    replay,
                    out,
                    records,
                    header,
                    end,
                    kind_of_event,
                    BY_GOAL,
                    header,
                    base,
                    event_now,
                    settings,
                )
            if (
                plan.listen_start[kind_of_event] != plan.listen_start[kind_of_event + 1]
                or plan.join_start[kind_of_event] != plan.join_start[kind_of_event + 1]
            ):
                for item in range(header, end):
                    is_header = item == header
                    is_item = end == header + 1 or not is_header
                    update_streams(
                        shard,
                        plan,
                        world,
                        out,
                        records,
                        text,
                        header,
                        item,
                        kind_of_event,
                        row,
                        base,
                        event_now,
                        is_item,
                        is_header,
                    )
                hang_sessions(shard, plan, row, base, row_words)
            if meta[SPILL_OLD_POSITION] < len(shard.spill_old):
                spilled_since = meta[COUNT_SPILLED] - spilled
                move_spilled(
                    shard,
                    plan.streams,
                    row_words,
                    lateness,
                    MOVES_PER_INSERT * (spilled_since + 1),
                )
            spilled = meta[COUNT_SPILLED]

            triggers = plan.trigger_start[kind_of_event]
            triggered = plan.trigger_start[kind_of_event + 1] - triggers
            for t in range(triggered):
                scratch.journey[t] = plan.trigger[triggers + t]

        # --- what is decided: an event, or the record made for a timer --------------------------------------
        source = records
        strings = text
        first = header
        last = end
        record = header
        step = 1
        now = event_now
        place = arrived
        looks = timer == CHECK
        if timer == NO_TIMER:
            place = records[header, RECORD_CLOCK]
            looks = plan.watch[kind_of_event] != 0 or (
                rows[base + CHECK_DUE] != 0 and rows[base + CHECK_DUE] <= now
            )
        else:
            source = out.timer_records
            strings = out.timer_text
            first = out.used[OUT_TIMER_RECORDS]
            last = first + 1
            if timer == RELEASE:
                last = first
                first -= triggered
            record = -1 - first
            step = source[first, SEQUENCE]
            now = rows[base + CLOCK]
            if merged and now > source[first, RECORD_CLOCK]:
                place = min(place, now)  # later than it was due: not all that is valid now has arrived
        rows_before = out.used[OUT_LOG] + out.used[OUT_CHANGES] + out.used[OUT_WITHDRAWN]
        if timer == END:
            now = max(now, source[first, RECORD_CLOCK])
            take_back(shard, plan, replay, out, source, first, last, 0, BY_TIME, record, base, now, settings)
        is_changed = False
        if looks:
            if len(plan.moments) + len(plan.lookups) > 0:
                prepare_look(shard, plan, world, scratch, source, first, base, now, place)
            changes = out.used[OUT_CHANGES]
            triggered = look(
                shard, plan, scratch, out, source, first, record, base, row_words, now, triggered
            )
            is_changed = out.used[OUT_CHANGES] != changes
            check = next_check(shard, plan, scratch, world, base, now)
            if check != 0:
                hang_by(shard, row, row_words, check)

        fired = 0
        if triggered > 0:
            fill_moments(shard, plan, world, scratch, base, now)
            settled = 0
            for t in range(triggered):
                scratch.fired_at[t] = NOT_ASKED
                if timer == RELEASE:  # whether they were to fire was asked when they were held
                    scratch.fired_at[t] = first + t
                    settled += 1
            fired = settled
            located = -1
            for item in range(first, last):
                if settled == triggered:
                    break
                if timer == NO_TIMER:
                    locate_entries(
                        shard, plan, scratch, world, records, item, kind_of_event, row, base, now, place
                    )
                if timer != NO_TIMER or is_changed:
                    locate_for_journeys(
                        shard, plan, scratch, world, source, item, triggered, row, base, now, place
                    )
                located = item
                for t in range(triggered):
                    if scratch.fired_at[t] != NOT_ASKED:
                        continue
                    journey = scratch.journey[t]
                    asked = plan.journeys[journey, JOURNEY_STILL if timer == WAIT else JOURNEY_WHEN]
                    if (
                        asked >= 0
                        and evaluate(plan, asked, rows, base, row_words, now, source, item, scratch.location)
                        == 0.0
                    ):
                        continue
                    if plan.journeys[journey, JOURNEY_KIND] != ON_WAIT or timer == WAIT:
                        scratch.fired_at[t] = item
                        settled += 1
                        fired += 1
                        continue
                    by = plan.journeys[journey, JOURNEY_BY]
                    if by == 0:
                        arm(shard, plan, source, strings, first, item, journey, 0, row, settings)
                        scratch.fired_at[t] = BEGUN
                        settled += 1
                        continue
                    key = source[item, PRODUCT] if by == BY_PRODUCT else source[item, CATEGORY]
                    if key != 0 and (last == first + 1 or item > first):
                        arm(shard, plan, source, strings, first, item, journey, key, row, settings)
            replayed = DECIDED
            if fired > 0 and meta[PENDING_NOW] != 0:
                replayed = replay_trigger(
                    shard,
                    plan,
                    world,
                    scratch,
                    replay,
                    source,
                    strings,
                    first,
                    step,
                    triggered,
                    timer == RELEASE,
                    row,
                    base,
                    now,
                    settings,
                )
            if replayed != DECIDED and rows[base + WAITS] != 0:  # what was sent may be withdrawn by now
                take_back(
                    shard,
                    plan,
                    replay,
                    out,
                    source,
                    first,
                    last,
                    0,
                    BY_CONSENT,
                    record,
                    base,
                    now,
                    settings,
                )
            if fired > 0 and replayed != SKIPPED:
                for slot in range(slots):
                    scratch.best[slot] = -1
                    scratch.candidates[slot] = 0
                count = 0
                dropped = 0
                held = 0
                if len(plan.quiet) > 0:
                    dropped, held = quiet_contacts(plan, world, rows[base + ZONE] & ZONE_MASK, now)
                fired_start = out.used[OUT_FIRED]
                for t in range(triggered):
                    item = scratch.fired_at[t]
                    if item < 0:
                        continue
                    journey = scratch.journey[t]
                    out.fired[out.used[OUT_FIRED]] = journey
                    out.used[OUT_FIRED] += 1
                    if item != located:
                        if timer == NO_TIMER:
                            locate_entries(
                                shard,
                                plan,
                                scratch,
                                world,
                                records,
                                item,
                                kind_of_event,
                                row,
                                base,
                                now,
                                place,
                            )
                        if is_changed or timer == RELEASE:
                            locate_for_journeys(
                                shard, plan, scratch, world, source, item, triggered, row, base, now, place
                            )
                        located = item
                    only = ANY_OFFER
                    if timer == RELEASE:
                        only = scratch.held[t, RELEASED_OFFER]
                        still = plan.journeys[journey, JOURNEY_STILL]
                        if scratch.held[t, RELEASED_EXPIRED] != 0 or (
                            still >= 0
                            and evaluate(
                                plan, still, rows, base, row_words, now, source, item, scratch.location
                            )
                            == 0.0
                        ):
                            only = NO_OFFER
                    start_of_journey = count
                    count = add_candidates(
                        shard,
                        plan,
                        scratch,
                        world,
                        replay.alone,
                        source,
                        item,
                        journey,
                        row,
                        base,
                        row_words,
                        now,
                        dropped,
                        only,
                        count,
                    )
                    if timer == RELEASE and scratch.held[t, RELEASED_EXPIRED] != 0:
                        mark_expired(plan, scratch, t, start_of_journey, count)
                if timer == RELEASE:
                    keep_held_slots(plan, scratch, triggered, slots)
                if replayed == SENT_BEFORE:
                    keep_sent(shard, plan, scratch, replay, count, row, base, now)
                keep_one_slot(plan, scratch, slots, timer == RELEASE)
                grant(
                    shard,
                    plan,
                    scratch,
                    world,
                    replay,
                    out,
                    source,
                    strings,
                    first,
                    record,
                    step,
                    fired_start,
                    fired,
                    count,
                    row,
                    base,
                    now,
                    held,
                    triggered if timer == RELEASE else 0,
                    settings,
                )
        if timer != NO_TIMER:
            if timer == WAIT:
                due = next_step(shard, plan, base, waiting, fired > 0)
                if due != 0 and due < now:
                    limit = max(limit, due + 1)  # its next step was due before now: it fires at once
            told = out.used[OUT_LOG] + out.used[OUT_CHANGES] + out.used[OUT_WITHDRAWN]
            is_told = told != rows_before
            if timer == RELEASE:
                if not is_told:
                    give_up_records(out, first)
            elif is_told:
                keep_record(out)
