"""Duplicates: an event id is a duplicate if it is among the customer's last 64 within 24 hours.

The ring lives in a pool block of its own that grows with use: [capacity ids, capacity times of 32 bits, two a word], 4
to 64 of them. Times are the customer's clock on arrival, so the ring is in order of time and the oldest leaves first.

A time is kept modulo 2^32 ms, 49 days, and is exact: RING_STATE has the newest in full, and no other in the ring is
older than that by the horizon or more, which is less than 2^32 ms. `remember` sees to it: what the horizon has passed
leaves before something is added. The customer's clock would not do in its place: timers move it on without an id.
"""

from __future__ import annotations

from segue_kernels.jit import Array, inline
from segue_kernels.pool import free_block, take_block
from segue_kernels.row import RING, RING_STATE
from segue_kernels.shard import Shard

CAPACITY_LOG2_MIN = 2

# RING_STATE: log2 of the capacity | count << 3 | head << 10 | newest time << 16
_COUNT_SHIFT = 3
_HEAD_SHIFT = 10
_NEWEST_SHIFT = 16
_LOG2_MASK = 0x7
_COUNT_MASK = 0x7F
_HEAD_MASK = 0x3F
_TIME_MASK = 0xFFFFFFFF


@inline
def ring_capacity(state: int) -> int:
    """Ids that a ring has room for."""
    return 1 << (state & _LOG2_MASK)


@inline
def ring_count(state: int) -> int:
    """Ids in a ring: those from its head on."""
    return (state >> _COUNT_SHIFT) & _COUNT_MASK


@inline
def ring_head(state: int) -> int:
    """Where the oldest id of a ring stands."""
    return (state >> _HEAD_SHIFT) & _HEAD_MASK


@inline
def ring_words(capacity: int) -> int:
    """Words of a ring."""
    return capacity + (capacity >> 1)


@inline
def ring_time(pool: Array, block: int, state: int, i: int) -> int:
    """The time of id i of a ring."""
    newest = state >> _NEWEST_SHIFT
    short = pool[block + ring_capacity(state) + (i >> 1)] >> (32 * (i & 1))
    return newest - ((newest - short) & _TIME_MASK)


@inline
def _set_id(pool: Array, block: int, capacity: int, i: int, message: int, time: int) -> None:
    pool[block + i] = message
    at = block + capacity + (i >> 1)
    if i & 1 == 0:
        pool[at] = ((pool[at] >> 32) << 32) | (time & _TIME_MASK)
    else:  # the high half carries the sign
        high = time & _TIME_MASK
        pool[at] = (((high ^ 0x80000000) - 0x80000000) << 32) | (pool[at] & _TIME_MASK)


@inline
def seen_before(shard: Shard, base: int, message: int, now: int, horizon: int) -> bool:
    """Whether the id is in the ring with a time later than now - horizon."""
    block = shard.rows[base + RING]
    if block == 0:
        return False
    state = shard.rows[base + RING_STATE]
    pool = shard.pool
    hits = 0
    for i in range(ring_capacity(state)):  # no early exit: this loop is a few vector compares
        if pool[block + i] == message:
            hits += 1
    if hits == 0:
        return False
    for i in range(ring_capacity(state)):
        if pool[block + i] == message and ring_time(pool, block, state, i) > now - horizon:
            return True
    return False


@inline
def remember(shard: Shard, base: int, message: int, now: int, horizon: int, capacity_max: int) -> int:
    """Add an id; 1 if the bound pushed out one that still counted, else 0. `now` is no less than at any call before."""
    rows = shard.rows
    pool = shard.pool
    if rows[base + RING] != 0 and (rows[base + RING_STATE] >> _NEWEST_SHIFT) <= now - horizon:
        forget_ids(shard, base)
    block = rows[base + RING]
    if block == 0:
        capacity = 1 << CAPACITY_LOG2_MIN
        block = take_block(pool, shard.meta, ring_words(capacity))
        rows[base + RING] = block
        rows[base + RING_STATE] = CAPACITY_LOG2_MIN | (1 << _COUNT_SHIFT) | (now << _NEWEST_SHIFT)
        _set_id(pool, block, capacity, 0, message, now)
        return 0
    state = rows[base + RING_STATE]
    log2 = state & _LOG2_MASK
    capacity = ring_capacity(state)
    count = ring_count(state)
    head = ring_head(state)
    while count > 0 and ring_time(pool, block, state, head) <= now - horizon:
        pool[block + head] = 0
        head = (head + 1) & (capacity - 1)
        count -= 1
    pushed = 0
    if count == capacity:
        if capacity < capacity_max:
            wider = take_block(pool, shard.meta, ring_words(capacity * 2))
            for i in range(count):
                at = (head + i) & (capacity - 1)
                time = ring_time(pool, block, state, at)
                _set_id(pool, wider, capacity * 2, i, pool[block + at], time)
            free_block(pool, shard.meta, block, ring_words(capacity))
            block = wider
            rows[base + RING] = block
            log2 += 1
            capacity *= 2
            head = 0
        else:
            head = (head + 1) & (capacity - 1)
            count -= 1
            pushed = 1
    _set_id(pool, block, capacity, (head + count) & (capacity - 1), message, now)
    rows[base + RING_STATE] = (
        log2 | ((count + 1) << _COUNT_SHIFT) | (head << _HEAD_SHIFT) | (now << _NEWEST_SHIFT)
    )
    return pushed


@inline
def forget_ids(shard: Shard, base: int) -> None:
    """Drop the ring."""
    block = shard.rows[base + RING]
    if block != 0:
        words = ring_words(ring_capacity(shard.rows[base + RING_STATE]))
        free_block(shard.pool, shard.meta, block, words)
        shard.rows[base + RING] = 0
        shard.rows[base + RING_STATE] = 0
