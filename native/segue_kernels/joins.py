"""Interval joins: a right event credits the latest left one within the time allowed, and a left one is credited once.

Left events and actions wait unmatched in the join's LEFT stream (in that of their product, for a join by product).
A right event takes the greatest (time, id) with time in (t - within, t] out of it. A left event that comes late
is not matched with right events that were there before it.
"""

from __future__ import annotations

from segue_kernels.jit import Array, inline, outline
from segue_kernels.keyed import slot_entry
from segue_kernels.plan import (
    BY_PRODUCT,
    JOIN_BY,
    JOIN_COUNT_STREAM,
    JOIN_LEFT_ANY_ACTION,
    JOIN_LEFT_JOURNEY,
    JOIN_LEFT_STREAM,
    JOIN_WITHIN_MS,
    STREAM_FLAG_SEQUENCE,
    STREAM_FLAGS,
    STREAM_K,
    STREAM_OFFSET,
    STREAM_WINDOW_MS,
)
from segue_kernels.record import CATEGORY, PRODUCT, TIME
from segue_kernels.row import COUNT_CREDITS, COUNT_JOIN_BOUND_MET, COUNT_SEQUENCE_BOUND_MET
from segue_kernels.shard import (
    CREDIT_ITEM,
    CREDIT_JOIN,
    CREDIT_LEFT_HI,
    CREDIT_LEFT_LO,
    CREDIT_LEFT_TIME,
    CREDIT_RECORD,
    OUT_CREDITS,
    Out,
    Plan,
    Shard,
)
from segue_kernels.windows import add_left, add_time, find_left, pushed_out, remove_left


@inline
def count_time(shard: Shard, streams: Array, s: int, at: int, time: int, now: int) -> None:
    """COUNT: add a time; of a sequence's stream, an entry inside the window that this pushes out is counted."""
    k = streams[s, STREAM_K]
    if streams[s, STREAM_FLAGS] & STREAM_FLAG_SEQUENCE != 0:
        window = streams[s, STREAM_WINDOW_MS]
        if pushed_out(shard.rows, at, k, time) > (now - window if window > 0 else 0):
            shard.meta[COUNT_SEQUENCE_BOUND_MET] += 1
    add_time(shard.rows, at, k, time)


@inline
def wait_for_right(
    shard: Shard, streams: Array, s: int, at: int, time: int, low: int, high: int, now: int
) -> None:
    """Let a left event or action into an entry of a LEFT stream."""
    window = streams[s, STREAM_WINDOW_MS]
    lost = add_left(shard.rows, at, streams[s, STREAM_K], time, low, high)
    if lost > (now - window if window > 0 else 0):
        shard.meta[COUNT_JOIN_BOUND_MET] += 1


@outline
def match_joins(
    shard: Shard,
    plan: Plan,
    out: Out,
    records: Array,
    header: int,
    i: int,
    kind_of_event: int,
    row: int,
    base: int,
    now: int,
    is_item: bool,
    is_header: bool,
) -> None:
    """Match record i as the right side of every join that takes such a record: a row of Out.credits for each match."""
    rows = shard.rows
    streams = plan.streams
    time = records[i, TIME]
    for which in range(plan.join_start[kind_of_event], plan.join_start[kind_of_event + 1]):
        j = plan.join[which]
        s = plan.joins[j, JOIN_LEFT_STREAM]
        by = plan.joins[j, JOIN_BY]
        at = base + streams[s, STREAM_OFFSET]
        if by != 0:
            key = records[i, PRODUCT] if by == BY_PRODUCT else records[i, CATEGORY]
            if key == 0 or not is_item:
                continue
            at = slot_entry(shard, streams, row, base, s, key, now, False)
            if at < 0:
                continue
        elif not is_header:
            continue
        k = streams[s, STREAM_K]
        after = time - plan.joins[j, JOIN_WITHIN_MS]
        window = streams[s, STREAM_WINDOW_MS]
        if window > 0:  # what lies outside may be dropped at any time: it must not matter whether it was
            after = max(after, now - window)
        left = find_left(rows, at, k, after, time)
        if left < 0:
            continue
        credit = out.used[OUT_CREDITS]
        out.used[OUT_CREDITS] = credit + 1
        out.credits[credit, CREDIT_RECORD] = header
        out.credits[credit, CREDIT_ITEM] = i
        out.credits[credit, CREDIT_JOIN] = j
        out.credits[credit, CREDIT_LEFT_TIME] = rows[at + left]
        out.credits[credit, CREDIT_LEFT_LO] = rows[at + k + left]
        out.credits[credit, CREDIT_LEFT_HI] = rows[at + 2 * k + left]
        shard.meta[COUNT_CREDITS] += 1
        remove_left(rows, at, k, left)
        matches = plan.joins[j, JOIN_COUNT_STREAM]
        if matches >= 0:
            window = streams[matches, STREAM_WINDOW_MS]
            if window == 0 or time > now - window:
                count_time(shard, streams, matches, base + streams[matches, STREAM_OFFSET], time, now)


@outline
def note_action(
    shard: Shard,
    plan: Plan,
    journey: int,
    row: int,
    base: int,
    now: int,
    time: int,
    product: int,
    action_lo: int,
    action_hi: int,
) -> None:
    """Let a journey's action, granted at `time`, wait as the left side of the joins that name it."""
    streams = plan.streams
    for j in range(len(plan.joins)):
        left = plan.joins[j, JOIN_LEFT_JOURNEY]
        if left != journey and left != JOIN_LEFT_ANY_ACTION:
            continue
        s = plan.joins[j, JOIN_LEFT_STREAM]
        at = base + streams[s, STREAM_OFFSET]
        if plan.joins[j, JOIN_BY] != 0:
            if product == 0:
                continue
            at = slot_entry(shard, streams, row, base, s, product, now, True)
        wait_for_right(shard, streams, s, at, time, action_lo, action_hi, now)
