"""A customer's history as one run of words: what an anonymous row brings to the known one, and what a delta stores.

Joining is a union in every part (the latest of consent, the greatest clock, the k largest of each window), so the order
in which rows are joined does not matter.

    [words in all, clock, first seen, events, rate, quarantined until, segments, stage, zone, 7 spare]
    [consent: 16] [ids: n, n ids, n times] [areas of the streams as in the row] [spilled: n, n x (stream, key, entry)]
    [waits: n, n x wait (waits.py)] [names of products (names.py)]
"""

from __future__ import annotations

import numpy as np

from segue_kernels.customers import forget_behaviour, is_sent, mark_dirty
from segue_kernels.fire import LOOK_WITH_NEXT_EVENT, hang_sessions
from segue_kernels.ids import forget_ids, remember, ring_capacity, ring_count, ring_head, ring_time
from segue_kernels.jit import Array, allocating, inline
from segue_kernels.keyed import SPILL_ENTRY, SPILL_KEY, SPILL_NEXT, SPILL_OWNER, expired, slot_entry
from segue_kernels.names import names_words, read_names, write_names
from segue_kernels.plan import (
    HEADER_WORDS,
    STREAM_BY,
    STREAM_ENTRY_WORDS,
    STREAM_OFFSET,
    STREAM_SLOTS,
    STREAM_WINDOW_MS,
)
from segue_kernels.row import (
    CHECK_DUE,
    CLOCK,
    CONSENT,
    CONSENT_WORDS,
    COUNT_DEDUPE_OVERFLOW,
    COUNT_MERGED,
    EVENTS,
    FIRST_SEEN,
    FLAG_ASKS_CONSENT,
    FLAGS,
    QUARANTINE_UNTIL,
    RATE,
    RING,
    RING_STATE,
    SEGMENTS,
    SPILL_HEAD,
    STAGE,
    ZONE,
)
from segue_kernels.shard import (
    SET_DEDUPE_MAX,
    SET_DEDUPE_MS,
    SET_RETENTION_MS,
    SET_ROW_WORDS,
    Plan,
    Shard,
    World,
)
from segue_kernels.waits import any_outstanding
from segue_kernels.waits_history import read_waits, skip_waits, waits_words, write_waits
from segue_kernels.windows import join_stream

H_WORDS = 0
H_CLOCK = 1
H_FIRST_SEEN = 2
H_EVENTS = 3
H_RATE = 4
H_QUARANTINE_UNTIL = 5
H_SEGMENTS = 6
H_STAGE = 7
H_ZONE = 8
H_CONSENT = 16
H_IDS = H_CONSENT + CONSENT_WORDS
RATE_COUNT = 0xFFFFF


@inline
def history_words(shard: Shard, plan: Plan, world: World, base: int, row_words: int) -> int:
    words = H_IDS + 1 + 2 * ring_count(shard.rows[base + RING_STATE]) + row_words - HEADER_WORDS + 1
    block = shard.rows[base + SPILL_HEAD]
    while block != 0:
        stream = shard.pool[block + SPILL_OWNER] & 0xFFFF
        words += 2 + plan.streams[stream, STREAM_ENTRY_WORDS]
        block = shard.pool[block + SPILL_NEXT]
    return words + waits_words(shard, base) + names_words(shard, plan, world, base)


@allocating
def take_history(shard: Shard, plan: Plan, world: World, row: int, settings: Array) -> Array:
    """The history of a row, int64; the row itself stays as it is."""
    row_words = settings[SET_ROW_WORDS]
    rows = shard.rows
    base = row * row_words
    history = np.zeros(history_words(shard, plan, world, base, row_words), np.int64)
    history[H_WORDS] = len(history)
    history[H_CLOCK] = rows[base + CLOCK]
    history[H_FIRST_SEEN] = rows[base + FIRST_SEEN]
    history[H_EVENTS] = rows[base + EVENTS]
    history[H_RATE] = rows[base + RATE]
    history[H_QUARANTINE_UNTIL] = rows[base + QUARANTINE_UNTIL]
    history[H_SEGMENTS] = rows[base + SEGMENTS]
    history[H_STAGE] = rows[base + STAGE]
    history[H_ZONE] = rows[base + ZONE]
    for w in range(CONSENT_WORDS):
        history[H_CONSENT + w] = rows[base + CONSENT + w]
    at = H_IDS
    block = rows[base + RING]
    state = rows[base + RING_STATE]
    count = ring_count(state)
    for i in range(count):
        p = (ring_head(state) + i) & (ring_capacity(state) - 1)
        history[at + 1 + i] = shard.pool[block + p]
        history[at + 1 + count + i] = ring_time(shard.pool, block, state, p)
    history[at] = count
    at += 1 + 2 * count
    for w in range(HEADER_WORDS, row_words):
        history[at] = rows[base + w]
        at += 1
    spilled = at
    at += 1
    block = rows[base + SPILL_HEAD]
    while block != 0:
        stream = shard.pool[block + SPILL_OWNER] & 0xFFFF
        history[at] = stream
        history[at + 1] = shard.pool[block + SPILL_KEY]
        at += 2
        for w in range(plan.streams[stream, STREAM_ENTRY_WORDS]):
            history[at] = shard.pool[block + SPILL_ENTRY + w]
            at += 1
        history[spilled] += 1
        block = shard.pool[block + SPILL_NEXT]
    at = write_waits(shard, plan, base, history, at)
    write_names(shard, plan, world, base, history, at)
    return history


@allocating
def join_ids(shard: Shard, base: int, history: Array, settings: Array) -> None:
    """The last ids of both by (time, id), an id once with its latest time."""
    n = history[H_IDS]
    if n == 0:
        return
    pool = shard.pool
    block = shard.rows[base + RING]
    state = shard.rows[base + RING_STATE]
    own = ring_count(state)
    ids = np.zeros(own + n, np.int64)
    times = np.zeros(own + n, np.int64)
    for i in range(own):
        p = (ring_head(state) + i) & (ring_capacity(state) - 1)
        ids[i] = pool[block + p]
        times[i] = ring_time(pool, block, state, p)
    count = own
    for i in range(n):
        id_ = history[H_IDS + 1 + i]
        time = history[H_IDS + 1 + n + i]
        j = 0
        while j < own and ids[j] != id_:
            j += 1
        if j < own:
            times[j] = max(times[j], time)
        else:
            ids[count] = id_
            times[count] = time
            count += 1
    for i in range(1, count):  # insertion sort: two short sorted runs
        id_ = ids[i]
        time = times[i]
        j = i
        while j > 0 and (times[j - 1] > time or (times[j - 1] == time and ids[j - 1] > id_)):
            ids[j] = ids[j - 1]
            times[j] = times[j - 1]
            j -= 1
        ids[j] = id_
        times[j] = time
    forget_ids(shard, base)
    for i in range(count):
        shard.meta[COUNT_DEDUPE_OVERFLOW] += remember(
            shard, base, ids[i], times[i], settings[SET_DEDUPE_MS], settings[SET_DEDUPE_MAX]
        )


@allocating
def join_history(
    shard: Shard, plan: Plan, world: World, row: int, history: Array, time: int, settings: Array
) -> None:
    """Join a history into a row before the event at `time` that says they are one customer.

    Whichever side has been idle beyond the retention by then brings consent, quarantine and sends, not behaviour.
    Segments and the stage are those of both; the next event that counts looks at them anew.
    """
    row_words = settings[SET_ROW_WORDS]
    retention = settings[SET_RETENTION_MS]
    rows = shard.rows
    streams = plan.streams
    base = row * row_words
    clock = max(rows[base + CLOCK], history[H_CLOCK])
    now = max(clock, time)
    if rows[base + CLOCK] != 0 and now - rows[base + CLOCK] > retention:
        forget_behaviour(shard, plan, base)
        rows[base + FIRST_SEEN] = 0
        rows[base + EVENTS] = 0
    behaves = now - history[H_CLOCK] <= retention
    mark_dirty(shard, row)
    if behaves:  # of an idle side the sweep may have left nothing: whether it has must not show in the count
        shard.meta[COUNT_MERGED] += 1
    for w in range(CONSENT_WORDS):
        rows[base + CONSENT + w] = max(rows[base + CONSENT + w], history[H_CONSENT + w])
    rows[base + QUARANTINE_UNTIL] = max(rows[base + QUARANTINE_UNTIL], history[H_QUARANTINE_UNTIL])
    if behaves:
        first = history[H_FIRST_SEEN]
        if rows[base + FIRST_SEEN] == 0 or (first != 0 and first < rows[base + FIRST_SEEN]):
            rows[base + FIRST_SEEN] = first
        rows[base + EVENTS] += history[H_EVENTS]
        other = history[H_RATE]
        mine = rows[base + RATE]
        if (other >> 20) > (mine >> 20):
            rows[base + RATE] = other
        elif (other >> 20) == (mine >> 20):
            total = min((mine & RATE_COUNT) + (other & RATE_COUNT), RATE_COUNT)
            rows[base + RATE] = ((mine >> 20) << 20) | total
        join_ids(shard, base, history, settings)
        rows[base + SEGMENTS] |= history[H_SEGMENTS]
        rows[base + STAGE] = max(rows[base + STAGE], history[H_STAGE])
        rows[base + ZONE] = max(rows[base + ZONE], history[H_ZONE])
        if len(plan.segments) + len(plan.stages) > 0:
            rows[base + CHECK_DUE] = LOOK_WITH_NEXT_EVENT
    rows[base + CLOCK] = clock
    areas = H_IDS + 1 + 2 * history[H_IDS]
    for s in range(len(streams)):
        if not behaves and not is_sent(streams, s):
            continue
        window = streams[s, STREAM_WINDOW_MS]
        at = areas + streams[s, STREAM_OFFSET] - HEADER_WORDS
        if streams[s, STREAM_BY] == 0:
            join_stream(shard, streams, s, base + streams[s, STREAM_OFFSET], history, at, now)
            continue
        slots = streams[s, STREAM_SLOTS]
        for i in range(slots):
            key = history[at + 1 + i]
            entry = at + 1 + slots + i * streams[s, STREAM_ENTRY_WORDS]
            if key != 0 and not expired(history[entry], window, now):
                target = slot_entry(shard, streams, row, base, s, key, now, True)
                join_stream(shard, streams, s, target, history, entry, now)
    at = areas + row_words - HEADER_WORDS
    n = history[at]
    at += 1
    for _ in range(n):
        s = history[at]
        key = history[at + 1]
        entry = at + 2
        window = streams[s, STREAM_WINDOW_MS]
        if (behaves or is_sent(streams, s)) and not expired(history[entry], window, now):
            target = slot_entry(shard, streams, row, base, s, key, now, True)
            join_stream(shard, streams, s, target, history, entry, now)
        at = entry + streams[s, STREAM_ENTRY_WORDS]
    if behaves:
        at = read_waits(shard, plan, row, history, at, settings)
        hang_sessions(shard, plan, row, base, row_words)
    else:
        at = skip_waits(history, at)
    if any_outstanding(shard, base):
        rows[base + FLAGS] |= FLAG_ASKS_CONSENT
    read_names(world, shard.meta, history, at)
