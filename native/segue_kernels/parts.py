"""Several parts of the state in one call, one after the other: each finds its customers, runs its records, looks for
rows to evict, and fires what is due. A call costs what forty events do, whatever is in it; so does taking its outputs.

A part is a row of a table: the addresses and lengths of its arrays, and what it has to do in this call. Whoever fills
the table keeps the arrays alive. All parts of a call share the plan, the settings, the world but for its `defaults`,
the room for one event, and the output: what they say stands there part by part (Out.spans), with copies of the records
that it refers to. The call stops where Python has to help, and goes on there.
"""

from __future__ import annotations

from segue_kernels.calendar import find_new_zone
from segue_kernels.customers import find_or_add, sweep
from segue_kernels.engine import run
from segue_kernels.foreign import bytes_at, halves_at, table_at, words_at
from segue_kernels.heap import string_start, strings_length
from segue_kernels.jit import Array, inline, kernel
from segue_kernels.memory import copy_bytes
from segue_kernels.pending import PENDING_WORDS
from segue_kernels.record import HEAP, RECORD_WORDS, STRING_CUSTOMER
from segue_kernels.row import CLOCK_MAX, TIMERS_SEEN
from segue_kernels.shard import (
    ACTION_ITEM,
    ACTION_RECORD,
    ALONE_WORDS,
    CHANGE_RECORD,
    CREDIT_ITEM,
    CREDIT_RECORD,
    LOG_RECORD,
    OUT_ACTIONS,
    OUT_CHANGES,
    OUT_CREDITS,
    OUT_LOG,
    OUT_SPANS,
    OUT_TIMER_RECORDS,
    OUT_TIMER_TEXT,
    OUT_WITHDRAWN,
    SPAN_ACTIONS_END,
    SPAN_CHANGES_END,
    SPAN_CREDITS_END,
    SPAN_LOG_END,
    SPAN_PART,
    SPAN_SEQUENCE,
    SPAN_WITHDRAWN_END,
    STOP_END,
    STOP_OUT,
    STOP_TIMERS,
    STOP_ZONE,
    WITHDRAWN_RECORD,
    Out,
    Plan,
    Replay,
    Scratch,
    Shard,
    World,
)

# a row of the table: for each array of Shard its address and its length; then
PART_PENDING = 20  # Replay.pending: address, rows
PART_ALONE = 22  # Replay.alone: address, rows
PART_DEFAULTS = 24  # World.defaults: address, length
PART_RECORDS = 26  # address, rows
PART_TEXT = 28  # address, length
PART_WATERMARK = 30  # 0 = no timers fire but those due before a record
PART_CLOCK = 31  # how far time has come at least, 0 = the records say it
PART_TIMERS_MAX = 32  # that fire behind the records
PART_PHASE = 33
PART_POSITION = 34  # of the next record
PART_DONE = 35  # 1 = no timer due before the watermark is left
PART_NUMBER = 36  # of the part (receipt.py)
PART_SEQUENCE = 37  # of its spans: grows by one with each
PART_WORDS = 40

# what a part does next
NAME_ZONES = 0
FIND_ROWS = 1
RUN_RECORDS = 2
FIRE = 3

ALL_TIMERS = 1 << 62
SWEEP_ROWS_MIN = 16  # rows looked at for eviction with each batch, at least


@inline
def shard_at(table: Array, at: int) -> Shard:
    """The arrays of a part."""
    return Shard(
        words_at(table[at, 0], table[at, 1]),
        words_at(table[at, 2], table[at, 3]),
        words_at(table[at, 4], table[at, 5]),
        words_at(table[at, 6], table[at, 7]),
        words_at(table[at, 8], table[at, 9]),
        words_at(table[at, 10], table[at, 11]),
        words_at(table[at, 12], table[at, 13]),
        bytes_at(table[at, 14], table[at, 15]),
        halves_at(table[at, 16], table[at, 17]),
        words_at(table[at, 18], table[at, 19]),
    )


@inline
def _kept(out: Out, records: Array, text: Array, place: Array, at: int) -> int:
    """The row of Out.timer_records that is a copy of records[at]; for at < 0 the timer's."""
    if at < 0:
        return -1 - at
    if place[at] >= 0:
        return int(place[at])
    row = out.used[OUT_TIMER_RECORDS]
    out.used[OUT_TIMER_RECORDS] = row + 1
    place[at] = row
    for w in range(RECORD_WORDS):
        out.timer_records[row, w] = records[at, w]
    heap = records[at, HEAP]
    length = strings_length(heap)
    to = out.used[OUT_TIMER_TEXT]
    copy_bytes(text, string_start(heap, STRING_CUSTOMER), out.timer_text, to, length)
    out.used[OUT_TIMER_TEXT] = to + length
    out.timer_records[row, HEAP] = (to << 32) | (heap & 0xFFFFFFFF)
    return int(row)


@kernel
def close_span(table: Array, at: int, out: Out, records: Array, text: Array, place: Array) -> None:
    """End what the part says: afterwards its rows refer to copies of the records. Nothing, if it said nothing.

    place  int64, at least one a record: overwritten
    """
    used = out.used
    spans = used[OUT_SPANS]
    log = actions = changes = credits = withdrawn = 0
    if spans > 0:
        log = out.spans[spans - 1, SPAN_LOG_END]
        actions = out.spans[spans - 1, SPAN_ACTIONS_END]
        changes = out.spans[spans - 1, SPAN_CHANGES_END]
        credits = out.spans[spans - 1, SPAN_CREDITS_END]
        withdrawn = out.spans[spans - 1, SPAN_WITHDRAWN_END]
    if (
        log == used[OUT_LOG]
        and changes == used[OUT_CHANGES]
        and credits == used[OUT_CREDITS]
        and withdrawn == used[OUT_WITHDRAWN]
    ):
        return
    for i in range(len(records)):
        place[i] = -1
    for i in range(log, used[OUT_LOG]):
        out.log[i, LOG_RECORD] = _kept(out, records, text, place, out.log[i, LOG_RECORD])
    for i in range(actions, used[OUT_ACTIONS]):
        out.actions[i, ACTION_RECORD] = _kept(out, records, text, place, out.actions[i, ACTION_RECORD])
        out.actions[i, ACTION_ITEM] = _kept(out, records, text, place, out.actions[i, ACTION_ITEM])
    for i in range(changes, used[OUT_CHANGES]):
        out.changes[i, CHANGE_RECORD] = _kept(out, records, text, place, out.changes[i, CHANGE_RECORD])
    for i in range(credits, used[OUT_CREDITS]):
        out.credits[i, CREDIT_RECORD] = _kept(out, records, text, place, out.credits[i, CREDIT_RECORD])
        out.credits[i, CREDIT_ITEM] = _kept(out, records, text, place, out.credits[i, CREDIT_ITEM])
    for i in range(withdrawn, used[OUT_WITHDRAWN]):
        cause = out.withdrawn[i, WITHDRAWN_RECORD]
        out.withdrawn[i, WITHDRAWN_RECORD] = _kept(out, records, text, place, cause)
    table[at, PART_SEQUENCE] += 1
    used[OUT_SPANS] = spans + 1
    out.spans[spans, SPAN_PART] = table[at, PART_NUMBER]
    out.spans[spans, SPAN_SEQUENCE] = table[at, PART_SEQUENCE]
    out.spans[spans, SPAN_LOG_END] = used[OUT_LOG]
    out.spans[spans, SPAN_ACTIONS_END] = used[OUT_ACTIONS]
    out.spans[spans, SPAN_CHANGES_END] = used[OUT_CHANGES]
    out.spans[spans, SPAN_CREDITS_END] = used[OUT_CREDITS]
    out.spans[spans, SPAN_WITHDRAWN_END] = used[OUT_WITHDRAWN]


@kernel
def process_parts(
    table: Array,
    turns: Array,
    start: int,
    plan: Plan,
    scratch: Scratch,
    out: Out,
    world: World,
    sent: Array,
    sent_alone: Array,
    row_of: Array,
    place: Array,
    settings: Array,
) -> tuple[int, int]:
    """Process the parts at these rows of the table from turns[start] on: (where it stopped, why: STOP_*).

    sent, sent_alone  of Replay
    row_of, place     int64, at least one a record of the part that has most. What stands in row_of belongs to the part
                      at which a call stopped, until it goes on
    """
    for turn in range(start, len(turns)):
        at = turns[turn]
        shard = shard_at(table, at)
        here = World(
            world.zone_of,
            world.day_start,
            world.month_day,
            world.shift_start,
            world.shift_ms,
            world.table_index,
            world.versions,
            words_at(table[at, PART_DEFAULTS], table[at, PART_DEFAULTS + 1]),
            world.names,
            world.name_text,
            world.name_state,
        )
        replay = Replay(
            table_at(table[at, PART_PENDING], table[at, PART_PENDING + 1], PENDING_WORDS),
            sent,
            sent_alone,
            table_at(table[at, PART_ALONE], table[at, PART_ALONE + 1], ALONE_WORDS),
        )
        n = table[at, PART_RECORDS + 1]
        records = table_at(table[at, PART_RECORDS], n, RECORD_WORDS)
        text = bytes_at(table[at, PART_TEXT], table[at, PART_TEXT + 1])
        watermark = table[at, PART_WATERMARK]
        if table[at, PART_PHASE] == NAME_ZONES:
            position = find_new_zone(records, world.zone_of, table[at, PART_POSITION])
            if position >= 0:
                table[at, PART_POSITION] = position
                return turn, STOP_ZONE
            table[at, PART_PHASE] = FIND_ROWS
            table[at, PART_POSITION] = 0
        if table[at, PART_PHASE] == FIND_ROWS:
            position, stop = find_or_add(shard, records, text, row_of, table[at, PART_POSITION], settings)
            if stop != STOP_END:
                table[at, PART_POSITION] = position
                return turn, stop
            table[at, PART_PHASE] = RUN_RECORDS if n > 0 or watermark == 0 else FIRE
            table[at, PART_POSITION] = 0
        while True:
            fires = table[at, PART_PHASE] == FIRE
            if fires and table[at, PART_CLOCK] > shard.meta[CLOCK_MAX]:
                shard.meta[CLOCK_MAX] = table[at, PART_CLOCK]
            fired = shard.meta[TIMERS_SEEN]
            position, stop = run(
                shard,
                plan,
                scratch,
                out,
                here,
                replay,
                records,
                text,
                row_of[:n],
                table[at, PART_POSITION],
                watermark if fires else 0,
                table[at, PART_TIMERS_MAX] if fires else ALL_TIMERS,
                settings,
            )
            table[at, PART_POSITION] = position
            if fires:
                table[at, PART_TIMERS_MAX] -= shard.meta[TIMERS_SEEN] - fired
            if stop == STOP_TIMERS:
                table[at, PART_DONE] = 0
                break
            if stop == STOP_OUT:
                close_span(table, at, out, records, text, place)
            if stop != STOP_END:
                return turn, stop
            if not fires and n > 0:
                sweep(shard, plan, settings, max(SWEEP_ROWS_MIN, n >> 2))
            if fires or watermark == 0:
                break
            table[at, PART_PHASE] = FIRE
        close_span(table, at, out, records, text, place)
    return len(turns), STOP_END
