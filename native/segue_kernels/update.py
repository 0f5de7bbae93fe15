"""An event enters every stream that listens to its type."""

from __future__ import annotations

from segue_kernels.jit import Array, inline
from segue_kernels.keyed import slot_entry
from segue_kernels.plan import (
    BY_PRODUCT,
    COUNT,
    DISTINCT,
    FIELD_QUANTITY,
    STREAM_BY,
    STREAM_CURRENCY,
    STREAM_FIELD,
    STREAM_K,
    STREAM_KIND,
    STREAM_OFFSET,
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
    PACK,
    PRICE,
    PRODUCT,
    QUANTITY_MASK,
    QUANTITY_SHIFT,
    TIME,
)
from segue_kernels.row import COUNT_SUM_BOUND_MET
from segue_kernels.shard import Plan, Shard
from segue_kernels.windows import add_key, add_time, add_value, tumble, tumble_key


@inline
def update_streams(
    shard: Shard,
    plan: Plan,
    records: Array,
    i: int,
    kind_of_event: int,
    row: int,
    base: int,
    now: int,
    is_item: bool,
    is_header: bool,
) -> None:
    """Let one record into every stream that listens to its type and takes such a record."""
    rows = shard.rows
    streams = plan.streams
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
        if window > 0 and time <= now - window:
            continue
        value = 1
        if kind == SUM or kind == TUMBLE_SUM:
            currency = streams[s, STREAM_CURRENCY]
            if currency != 0 and currency != (pack >> 16) & 0xFFFF:
                continue
            field = streams[s, STREAM_FIELD]
            if field == FIELD_QUANTITY:
                value = (pack >> QUANTITY_SHIFT) & QUANTITY_MASK
            else:
                if (flags & (FLAG_HAS_PRICE if field == PRICE else FLAG_HAS_AMOUNT)) == 0:
                    continue
                value = records[i, field]
        key = 0
        if kind == DISTINCT or kind == TUMBLE_DISTINCT:
            key = records[i, streams[s, STREAM_FIELD]]
            if key == 0:
                continue
        at = base + streams[s, STREAM_OFFSET]
        if by != 0:
            owner = records[i, PRODUCT] if by == BY_PRODUCT else records[i, CATEGORY]
            if owner == 0:
                continue
            at = slot_entry(shard, streams, row, base, s, owner, now, True)
        k = streams[s, STREAM_K]
        if kind == COUNT:
            add_time(rows, at, k, time)
        elif kind == SUM:
            after = now - window if window > 0 else 0
            shard.meta[COUNT_SUM_BOUND_MET] += add_value(rows, at, k, time, value, after)
        elif kind == TUMBLE_COUNT or kind == TUMBLE_SUM:
            tumble(rows, at, window, time, value)
        elif kind == DISTINCT:
            add_key(rows, at, k, time, key)
        else:
            tumble_key(rows, at, k, window, time, key)
