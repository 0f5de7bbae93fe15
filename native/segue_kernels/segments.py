"""Segments and the stage: looked at, what changed, and when they may change again by time alone.

Membership is the condition's value at the moment it is looked at: after events that are watched, and when a check comes
due. All segments in order, then one step of the stages at most. A change is coded as plan.py says.
"""

from __future__ import annotations

from segue_kernels.calendar import DAY_MS, period_end
from segue_kernels.jit import Array, inline, outline
from segue_kernels.moments import fill_moments, window_after
from segue_kernels.plan import (
    CHECK_AGE,
    CHECK_AGE_MS,
    CHECK_DAILY,
    CHECK_ENTRIES,
    CHECK_KIND,
    CHECK_LEAVES_ANY,
    CHECK_LEAVES_LAST,
    CHECK_STREAM,
    CHECK_TUMBLE,
    CHECK_WINDOW,
    MOMENT_STREAM,
    MOMENT_WINDOW,
    SEGMENT_WHEN,
    STAGE_FROM,
    STAGE_WHEN,
    STREAM_OFFSET,
    STREAM_WIDTH_MS,
    WINDOW_SESSION_MS_MIN,
)
from segue_kernels.programs import evaluate
from segue_kernels.record import ZONE_MASK
from segue_kernels.row import CHECK_DUE, COUNT_CHANGES, SEGMENTS, STAGE, ZONE
from segue_kernels.shard import (
    CHANGE_CODE,
    CHANGE_NOW,
    CHANGE_RECORD,
    OUT_CHANGES,
    Out,
    Plan,
    Scratch,
    Shard,
    World,
)
from segue_kernels.tables import fill_lookups


@outline
def prepare_look(
    shard: Shard,
    plan: Plan,
    world: World,
    scratch: Scratch,
    records: Array,
    i: int,
    base: int,
    now: int,
    place: int,
) -> None:
    """Fill what conditions of segments read beside the row: moments, and fields of the customer's profile."""
    fill_moments(shard, plan, world, scratch, base, now)
    if len(plan.lookups) > 0:
        fill_lookups(plan, world, scratch, shard.meta, records, i, now, place)


@inline
def add_trigger(scratch: Scratch, triggered: int, journey: int) -> int:
    """Put a journey where it belongs among scratch.journey[:triggered], once; how many there are now."""
    at = triggered
    while at > 0 and scratch.journey[at - 1] >= journey:
        at -= 1
    if at < triggered and scratch.journey[at] == journey:
        return triggered
    for t in range(triggered, at, -1):
        scratch.journey[t] = scratch.journey[t - 1]
    scratch.journey[at] = journey
    return triggered + 1


@inline
def note_change(
    shard: Shard, plan: Plan, scratch: Scratch, out: Out, record: int, code: int, now: int, triggered: int
) -> int:
    """Write a change out and add the journeys it triggers; how many are triggered now."""
    at = out.used[OUT_CHANGES]
    out.used[OUT_CHANGES] = at + 1
    out.changes[at, CHANGE_RECORD] = record
    out.changes[at, CHANGE_CODE] = code
    out.changes[at, CHANGE_NOW] = now
    shard.meta[COUNT_CHANGES] += 1
    for which in range(plan.change_start[code], plan.change_start[code + 1]):
        triggered = add_trigger(scratch, triggered, plan.change[which])
    return triggered


@inline
def look(
    shard: Shard,
    plan: Plan,
    scratch: Scratch,
    out: Out,
    records: Array,
    i: int,
    record: int,
    base: int,
    row_words: int,
    now: int,
    triggered: int,
) -> int:
    """Look at all segments and the stage; how many journeys are triggered now.

    record  what the rows of Out.changes refer to
    """
    rows = shard.rows
    before = rows[base + SEGMENTS]
    after = before
    segments = len(plan.segments)
    for s in range(segments):
        when = plan.segments[s, SEGMENT_WHEN]
        holds = evaluate(plan, when, rows, base, row_words, now, records, i, scratch.location) != 0.0
        if holds != (((before >> s) & 1) != 0):
            after ^= 1 << s
            code = 2 * s + (0 if holds else 1)
            triggered = note_change(shard, plan, scratch, out, record, code, now, triggered)
    rows[base + SEGMENTS] = after
    stage = rows[base + STAGE]
    for t in range(len(plan.stages)):
        when = plan.stages[t, STAGE_WHEN]
        if when < 0 or ((plan.stages[t, STAGE_FROM] >> stage) & 1) == 0 or t == stage:
            continue
        if evaluate(plan, when, rows, base, row_words, now, records, i, scratch.location) != 0.0:
            rows[base + STAGE] = t
            return note_change(shard, plan, scratch, out, record, 2 * segments + t, now, triggered)
    return triggered


@inline
def _leaves(
    shard: Shard, plan: Plan, scratch: Scratch, world: World, check: int, base: int, at: int, now: int
) -> int:
    """When an entry at `at` of a CHECK_LEAVES_* may leave its window; 0 if none can."""
    rows = shard.rows
    entries = plan.checks[check, CHECK_ENTRIES]
    window = plan.checks[check, CHECK_WINDOW]
    if window > 0:
        e = entries - 1
        if plan.checks[check, CHECK_KIND] == CHECK_LEAVES_ANY:
            while e > 0 and (rows[at + e] == 0 or rows[at + e] <= now - window):
                e -= 1
        if rows[at + e] == 0 or rows[at + e] <= now - window:
            return 0
        return rows[at + e] + window
    if window == 0 or rows[at] == 0:
        return 0
    for m in range(len(plan.moments)):
        if plan.moments[m, MOMENT_WINDOW] == window:
            if rows[at] <= scratch.location[len(plan.streams) + m]:
                return 0
            if window > -WINDOW_SESSION_MS_MIN:
                return period_end(world, rows[base + ZONE] & ZONE_MASK, now, window)
            session = base + plan.streams[plan.moments[m, MOMENT_STREAM], STREAM_OFFSET]
            return rows[session + 2] - window + 1
    return 0


@inline
def next_check(shard: Shard, plan: Plan, scratch: Scratch, world: World, base: int, now: int) -> int:
    """The least time after `now` at which a segment or stage may change by time alone; 0 = never.

    Moments are filled.
    """
    rows = shard.rows
    first = 0
    for check in range(len(plan.checks)):
        at = base + plan.streams[plan.checks[check, CHECK_STREAM], STREAM_OFFSET]
        kind = plan.checks[check, CHECK_KIND]
        due = 0
        if kind == CHECK_LEAVES_LAST or kind == CHECK_LEAVES_ANY:
            due = _leaves(shard, plan, scratch, world, check, base, at, now)
        elif rows[at] <= window_after(plan, scratch, plan.checks[check, CHECK_WINDOW], now):
            continue  # there is none, or none in the window
        elif kind == CHECK_AGE:
            due = rows[at] + plan.checks[check, CHECK_AGE_MS]
            if due == now:
                due += 1
        elif kind == CHECK_TUMBLE:
            width = plan.streams[plan.checks[check, CHECK_STREAM], STREAM_WIDTH_MS]
            if rows[at] == now - now % width:
                due = rows[at] + width
        elif kind == CHECK_DAILY:
            due = now - now % DAY_MS + DAY_MS
        if due > now and (first == 0 or due < first):
            first = due
    rows[base + CHECK_DUE] = first
    return first
