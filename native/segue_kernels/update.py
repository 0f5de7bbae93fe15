"""An event enters every stream that listens to its type."""

from __future__ import annotations

from segue_kernels.heap import string_length, string_start
from segue_kernels.jit import Array, inline
from segue_kernels.joins import count_time, match_joins, wait_for_right
from segue_kernels.keyed import slot_entry
from segue_kernels.names import note_name
from segue_kernels.plan import (
    BY_PRODUCT,
    COUNT,
    DECAY,
    DECAY_COUNT_SCALE,
    DECAY_MONEY_SCALE,
    DISTINCT,
    FIELD_QUANTITY,
    FIRST,
    LEFT,
    SESSIONS,
    STREAM_BY,
    STREAM_CURRENCY,
    STREAM_FIELD,
    STREAM_FLAG_NAMES,
    STREAM_FLAGS,
    STREAM_K,
    STREAM_KIND,
    STREAM_OFFSET,
    STREAM_SOURCE,
    STREAM_WIDTH_MS,
    STREAM_WINDOW_MS,
    SUM,
    TUMBLE_COUNT,
    TUMBLE_DISTINCT,
    TUMBLE_SUM,
)
from segue_kernels.record import (
    CATEGORY,
    FLAG_HAS_AMOUNT,
    FLAG_HAS_PRICE,
    FLAG_IS_LINE,
    HEAP,
    MESSAGE_HI,
    MESSAGE_LO,
    PACK,
    PRICE,
    PRODUCT,
    QUANTITY_MASK,
    QUANTITY_SHIFT,
    SOURCE,
    STRING_PRODUCT,
    TIME,
)
from segue_kernels.row import COUNT_SESSION_BOUND_MET, COUNT_SUM_BOUND_MET
from segue_kernels.shard import Out, Plan, Shard, World
from segue_kernels.windows import (
    add_decayed,
    add_first,
    add_key,
    add_to_session,
    add_value,
    decayed_weight,
    tumble,
    tumble_key,
)


@inline
def note_product(world: World, meta: Array, records: Array, i: int, text: Array) -> None:
    """Keep the name of a record's product."""
    heap = records[i, HEAP]
    at, length = string_start(heap, STRING_PRODUCT), string_length(heap, STRING_PRODUCT)
    note_name(world, meta, records[i, PRODUCT], text, at, length)


@inline
def update_streams(
    shard: Shard,
    plan: Plan,
    world: World,
    out: Out,
    records: Array,
    text: Array,
    header: int,
    i: int,
    kind_of_event: int,
    row: int,
    base: int,
    now: int,
    is_item: bool,
    is_header: bool,
) -> None:
    """Let one record into every stream that listens to its type and takes such a record.

    With the header, all of the event's records are matched as right sides of joins: before any enters as a left.
    """
    rows = shard.rows
    streams = plan.streams
    if is_header and plan.join_start[kind_of_event] != plan.join_start[kind_of_event + 1]:
        match_joins(shard, plan, out, records, header, i, kind_of_event, row, base, now, is_item, True)
        line = i + 1
        if not is_item:
            while line < len(records) and ((records[line, PACK] >> 8) & FLAG_IS_LINE) != 0:
                match_joins(
                    shard, plan, out, records, header, line, kind_of_event, row, base, now, True, False
                )
                line += 1
    time = records[i, TIME]
    pack = records[i, PACK]
    flags = (pack >> 8) & 0xFF
    for which in range(plan.listen_start[kind_of_event], plan.listen_start[kind_of_event + 1]):
        s = plan.listen[which]
        kind = streams[s, STREAM_KIND]
        by = streams[s, STREAM_BY]
        window = streams[s, STREAM_WINDOW_MS]
        if by != 0 or kind == DISTINCT or kind == TUMBLE_DISTINCT:
            if not is_item:
                continue
        elif not is_header:
            continue
        # what a decayed sum, a first event and a session hold does not leave through a window
        if window > 0 and time <= now - window and (kind < DECAY or kind == LEFT):
            continue
        source = streams[s, STREAM_SOURCE]
        if source != 0 and source != records[i, SOURCE]:
            continue
        value = 1
        key = 0
        if kind != COUNT:
            field = streams[s, STREAM_FIELD]
            if kind == DISTINCT or kind == TUMBLE_DISTINCT:
                key = records[i, field]
                if key == 0:
                    continue
            elif field != 0 and kind != LEFT:
                currency = streams[s, STREAM_CURRENCY]
                if currency != 0 and currency != (pack >> 16) & 0xFFFF:
                    continue
                if field == FIELD_QUANTITY:
                    value = (pack >> QUANTITY_SHIFT) & QUANTITY_MASK
                else:
                    if (flags & (FLAG_HAS_PRICE if field == PRICE else FLAG_HAS_AMOUNT)) == 0:
                        continue
                    value = records[i, field]
        at = base + streams[s, STREAM_OFFSET]
        if by != 0:
            owner = records[i, PRODUCT] if by == BY_PRODUCT else records[i, CATEGORY]
            if owner == 0:
                continue
            at = slot_entry(shard, streams, row, base, s, owner, now, True)
        k = streams[s, STREAM_K]
        if kind == COUNT:
            count_time(shard, streams, s, at, time, now)
        elif kind == SUM:
            after = now - window if window > 0 else 0
            shard.meta[COUNT_SUM_BOUND_MET] += add_value(rows, at, k, time, value, after)
        elif kind == TUMBLE_COUNT or kind == TUMBLE_SUM:
            tumble(rows, at, window, time, value)
        elif kind == DISTINCT:
            add_key(rows, at, k, time, key)
            if streams[s, STREAM_FLAGS] & STREAM_FLAG_NAMES != 0:
                note_product(world, shard.meta, records, i, text)
        elif kind == SESSIONS:
            gap = streams[s, STREAM_WIDTH_MS]
            shard.meta[COUNT_SESSION_BOUND_MET] += add_to_session(rows, at, k, gap, time, now)
        elif kind == DECAY:
            field = streams[s, STREAM_FIELD]
            scale = DECAY_COUNT_SCALE if field == 0 or field == FIELD_QUANTITY else DECAY_MONEY_SCALE
            half_life = streams[s, STREAM_WIDTH_MS]
            weight = decayed_weight(value, scale, half_life, time)
            add_decayed(rows, at, time // half_life + 1, weight)
        elif kind == FIRST:
            add_first(rows, at, time, value)
        elif kind == LEFT:
            wait_for_right(shard, streams, s, at, time, records[i, MESSAGE_LO], records[i, MESSAGE_HI], now)
        else:
            tumble_key(rows, at, k, window, time, key)
