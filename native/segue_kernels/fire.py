"""A customer's timers in the order in which they come due: the check of segments, ends of sessions, waits,
the release of held actions, the end of outstanding ones.

Each one that fires is a trigger of its own, with a record made for it: what its journeys see as the event, and what
actions name as their cause. The record is written to Out.timer_records behind the used ones; it stays there only if
something refers to it.
"""

from __future__ import annotations

from segue_kernels.customers import forget_behaviour, mark_dirty
from segue_kernels.heap import string_start, strings_length
from segue_kernels.held import drop_released, next_released
from segue_kernels.jit import Array, inline, outline
from segue_kernels.locate import locate_keyed
from segue_kernels.made_ids import trigger_id
from segue_kernels.plan import (
    SESSION_GAP_MS,
    SESSION_STREAM,
    STREAM_OFFSET,
)
from segue_kernels.record import (
    CLOCK as RECORD_CLOCK,
)
from segue_kernels.record import (
    CUSTOMER_HI,
    CUSTOMER_LO,
    FLAG_HAS_LINES,
    FLAG_IS_LINE,
    FLAG_KIND,
    HEAP,
    MESSAGE_HI,
    MESSAGE_LO,
    PACK,
    RECORD_WORDS,
    SEQUENCE,
    STRING_MESSAGE,
    TIME,
)
from segue_kernels.row import (
    CHECK_DUE,
    CLOCK,
    COUNT_FORGOTTEN,
    COUNT_TIMERS_FIRED,
    COUNT_TIMERS_QUARANTINED,
    EVENTS,
    FIRST_SEEN,
    FLAG_KIND_MASK,
    FLAG_KIND_SHIFT,
    FLAG_NAME_SHIFT,
    FLAGS,
    KEY_HI,
    KEY_LO,
    NAME,
    NAME_INLINE_BYTES,
    QUARANTINE_UNTIL,
    WAITS,
    WHEEL_DUE,
)
from segue_kernels.shard import (
    OUT_TIMER_RECORDS,
    OUT_TIMER_TEXT,
    SET_RETENTION_MS,
    SET_ROW_WORDS,
    Out,
    Plan,
    Scratch,
    Shard,
    World,
)
from segue_kernels.tables import fill_lookups
from segue_kernels.timers import hang, hang_by, unhang
from segue_kernels.waits import (
    WAIT_MESSAGE_LO,
    WAIT_NEXT,
    WAIT_PACK,
    WAIT_SHAPE,
    WAIT_TIME,
    drop_wait,
    due_in,
    is_held,
    is_outstanding,
    journey_of,
    key_in,
    lengths_of,
    restore_record,
    step_of,
)

# kinds of timers, in the order in which those due at the same time fire
NO_TIMER = 0
CHECK = 1
SESSION_END = 2
WAIT = 3
RELEASE = 4  # of held actions
END = 5  # of an outstanding action

TIMER_TEXT_MAX = 4 * 255  # bytes of one timer's strings
NEVER = 0x7FFFFFFFFFFFFFFF
LOOK_WITH_NEXT_EVENT = 1  # in row.CHECK_DUE: a history was joined; no timer


@inline
def session_due(shard: Shard, plan: Plan, base: int, which: int) -> int:
    """When the customer's newest session ends for good, or 0 if it has."""
    at = base + plan.streams[plan.session_ends[which, SESSION_STREAM], STREAM_OFFSET]
    end = shard.rows[at + 2]
    if end <= shard.rows[at]:
        return 0
    return end + plan.session_ends[which, SESSION_GAP_MS]


@inline
def first_timer(shard: Shard, plan: Plan, base: int) -> tuple[int, int, int]:
    """(due, kind, session end or pool block of the wait, held or outstanding action) of the timer that fires first;
    NO_TIMER if there is none."""
    rows = shard.rows
    pool = shard.pool
    due = NEVER
    kind = NO_TIMER
    which = 0
    if rows[base + CHECK_DUE] > LOOK_WITH_NEXT_EVENT:
        due = rows[base + CHECK_DUE]
        kind = CHECK
    for s in range(len(plan.session_ends)):
        ends = session_due(shard, plan, base, s)
        if ends != 0 and ends < due:
            due = ends
            kind = SESSION_END
            which = s
    block = rows[base + WAITS]
    while block != 0:
        other = due_in(plan, pool, block)
        shape = pool[block + WAIT_SHAPE]
        its = WAIT
        if is_outstanding(shape):
            its = END
        elif is_held(shape):
            its = RELEASE
        earlier = other < due or (other == due and its < kind)
        if other == due and kind == WAIT and its == WAIT:
            mine = journey_of(shape)
            best = journey_of(pool[which + WAIT_SHAPE])
            earlier = mine < best or (mine == best and key_in(plan, pool, block) < key_in(plan, pool, which))
        if earlier:
            due = other
            kind = its
            which = block
        block = pool[block + WAIT_NEXT]
    return due, kind, which


@inline
def _write_bytes(out: Out, to: int, words: Array, start: int, length: int) -> None:
    for b in range(length):
        out.timer_text[to + b] = (words[start + (b >> 3)] >> (8 * (b & 7))) & 0xFF


@inline
def _make_record(
    shard: Shard,
    out: Out,
    base: int,
    due: int,
    time: int,
    step: int,
    hash_: int,
    key: int,
    message: int,
    settings: Array,
) -> int:
    """The part of a timer's record that all kinds share; its row of Out.timer_records.

    hash_, key, message  words of its id (trigger_id)
    """
    rows = shard.rows
    record = out.used[OUT_TIMER_RECORDS]
    made = out.timer_records
    for w in range(RECORD_WORDS):
        made[record, w] = 0
    made[record, TIME] = time
    made[record, RECORD_CLOCK] = due
    made[record, CUSTOMER_LO] = rows[base + KEY_LO]
    made[record, CUSTOMER_HI] = rows[base + KEY_HI]
    made[record, MESSAGE_LO], made[record, MESSAGE_HI] = trigger_id(hash_, key, time, step, message, settings)
    made[record, PACK] = ((rows[base + FLAGS] & FLAG_KIND_MASK) >> FLAG_KIND_SHIFT) << 8
    made[record, SEQUENCE] = step
    length = (rows[base + FLAGS] >> FLAG_NAME_SHIFT) & 0xFF
    at = out.used[OUT_TIMER_TEXT]
    made[record, HEAP] = (at << 32) | length
    if length > NAME_INLINE_BYTES:
        _write_bytes(out, at, shard.pool, rows[base + NAME], length)
    else:
        _write_bytes(out, at, rows, base + NAME, length)
    return record


@inline
def _fill_wait(shard: Shard, out: Out, record: int, block: int) -> None:
    """What the record of a wait tells of the event that armed it."""
    pool = shard.pool
    made = out.timer_records
    text_at = restore_record(pool, block, made, record)
    kind = made[record, PACK]  # an anonymous customer's wait may have become a known one's
    pack = pool[block + WAIT_PACK] & ~((FLAG_KIND | FLAG_IS_LINE | FLAG_HAS_LINES) << 8)
    made[record, PACK] = pack | kind
    lengths = lengths_of(pool[block + WAIT_SHAPE])
    heap = made[record, HEAP]
    to = string_start(heap, STRING_MESSAGE)
    made[record, HEAP] = heap | (lengths << 8)
    length = (lengths & 0xFF) + ((lengths >> 8) & 0xFF) + (lengths >> 16)
    _write_bytes(out, to, pool, text_at, length)


@inline
def keep_record(out: Out) -> None:
    """Something refers to the record of the timer that fired last: it and its strings stay."""
    record = out.used[OUT_TIMER_RECORDS]
    heap = out.timer_records[record, HEAP]
    out.used[OUT_TIMER_RECORDS] = record + 1
    out.used[OUT_TIMER_TEXT] += strings_length(heap)


@inline
def give_up_records(out: Out, first: int) -> None:
    """Nothing refers to the records from `first` on."""
    out.used[OUT_TIMER_RECORDS] = first
    out.used[OUT_TIMER_TEXT] = out.timer_records[first, HEAP] >> 32


@outline
def _release(
    shard: Shard, plan: Plan, world: World, scratch: Scratch, out: Out, base: int, due: int, settings: Array
) -> int:
    """Release the customer's held actions that are due by his clock: how many there are. Their records are kept, their
    journeys are in scratch.journey; all have the id of the one trigger that this is."""
    pool = shard.pool
    now = shard.rows[base + CLOCK]
    low, high = trigger_id(0, 0, now, 1, 0, settings)
    released = 0
    block = 0
    while True:
        block = next_released(shard, plan, world, scratch, released, block, base, now)
        if block == 0:
            break
        shape = pool[block + WAIT_SHAPE]
        time = pool[block + WAIT_TIME]
        record = _make_record(shard, out, base, due, time, step_of(shape), 0, 0, 0, settings)
        out.timer_records[record, MESSAGE_LO] = low
        out.timer_records[record, MESSAGE_HI] = high
        _fill_wait(shard, out, record, block)
        keep_record(out)
        scratch.journey[released] = journey_of(shape)
        released += 1
    drop_released(shard, plan, scratch, released, base, now)
    return released


@outline
def next_timer(
    shard: Shard, plan: Plan, world: World, scratch: Scratch, out: Out, row: int, limit: int, settings: Array
) -> tuple[int, int, int]:
    """Let the customer's first timer fire if it is due before `limit`: (kind, block of a wait, journeys triggered).

    Its record is row used[OUT_TIMER_RECORDS] of Out.timer_records, the journeys are in scratch.journey. Of a RELEASE
    there is a record for each of them, the last ones before that row. With NO_TIMER the row hangs in the wheel at the
    time of its first timer, or not at all.
    """
    row_words = settings[SET_ROW_WORDS]
    base = row * row_words
    rows = shard.rows
    while True:
        due, kind, which = first_timer(shard, plan, base)
        if due >= limit:
            if rows[base + WHEEL_DUE] != 0:
                unhang(shard, row, row_words)
            if kind != NO_TIMER:
                hang(shard, row, row_words, due)
            return NO_TIMER, 0, 0
        mark_dirty(shard, row)
        clock = rows[base + CLOCK]
        if clock != 0 and due - clock > settings[SET_RETENTION_MS]:
            forget_behaviour(shard, plan, base)
            if rows[base + FIRST_SEEN] != 0:
                shard.meta[COUNT_FORGOTTEN] += 1
            rows[base + FIRST_SEEN] = 0
            rows[base + EVENTS] = 0
            continue
        end = 0
        if kind == SESSION_END:
            at = base + plan.streams[plan.session_ends[which, SESSION_STREAM], STREAM_OFFSET]
            end = rows[at + 2]
            rows[at] = end
        elif kind == CHECK:
            rows[base + CHECK_DUE] = 0
        if kind == END:  # no time of the customer's, and no matter who he is
            _make_record(shard, out, base, due, due, 1, 0, 0, 0, settings)
            return END, 0, 0
        if rows[base + QUARANTINE_UNTIL] > due:
            shard.meta[COUNT_TIMERS_QUARANTINED] += 1
            if kind == WAIT or kind == RELEASE:
                drop_wait(shard, base, which)
            continue
        rows[base + CLOCK] = max(clock, due)
        if kind == CHECK:
            _make_record(shard, out, base, due, due, 1, 0, 0, 0, settings)
            # of a check's id the step is no part
            low, high = trigger_id(0, 0, due, 0, 0, settings)
            record = out.used[OUT_TIMER_RECORDS]
            out.timer_records[record, MESSAGE_LO] = low
            out.timer_records[record, MESSAGE_HI] = high
            return CHECK, 0, 0
        if kind == RELEASE:
            released = _release(shard, plan, world, scratch, out, base, due, settings)
            if released == 0:
                continue
            shard.meta[COUNT_TIMERS_FIRED] += 1
            return RELEASE, 0, released
        shard.meta[COUNT_TIMERS_FIRED] += 1
        if kind == SESSION_END:
            first = plan.session_start[which]
            triggered = plan.session_start[which + 1] - first
            for t in range(triggered):
                scratch.journey[t] = plan.session[first + t]
            begin = rows[base + plan.streams[plan.session_ends[which, SESSION_STREAM], STREAM_OFFSET] + 1]
            hash_ = plan.journey_hash[plan.session[first]]
            _make_record(shard, out, base, due, end, 1, hash_, begin, 0, settings)
            return SESSION_END, 0, triggered
        shape = shard.pool[which + WAIT_SHAPE]
        journey = journey_of(shape)
        record = _make_record(
            shard,
            out,
            base,
            due,
            shard.pool[which + WAIT_TIME],
            step_of(shape),
            plan.journey_hash[journey],
            key_in(plan, shard.pool, which),
            shard.pool[which + WAIT_MESSAGE_LO],
            settings,
        )
        _fill_wait(shard, out, record, which)
        scratch.journey[0] = journey
        return WAIT, which, 1


@outline
def locate_for_journeys(
    shard: Shard,
    plan: Plan,
    scratch: Scratch,
    world: World,
    records: Array,
    i: int,
    triggered: int,
    row: int,
    base: int,
    now: int,
    place: int,
) -> None:
    """locate_entries for journeys triggered by a timer or a change: what scratch.journey[:triggered] read."""
    if len(plan.lookups) > 0:
        fill_lookups(plan, world, scratch, shard.meta, records, i, now, place)
    for t in range(triggered):
        journey = scratch.journey[t]
        for which in range(plan.journey_locate_start[journey], plan.journey_locate_start[journey + 1]):
            locate_keyed(shard, plan, scratch, records, i, plan.journey_locate[which], row, base, now)


@inline
def hang_sessions(shard: Shard, plan: Plan, row: int, base: int, row_words: int) -> None:
    """See to it that the row comes up when its sessions end."""
    for s in range(len(plan.session_ends)):
        due = session_due(shard, plan, base, s)
        if due != 0:
            hang_by(shard, row, row_words, due)
