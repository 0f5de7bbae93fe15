"""Duplicates: an event id is a duplicate if it is among the customer's last 64 within 24 hours.

The ring lives in a pool block of its own that grows with use: [capacity ids, capacity times], 4 to 64 of them. Times
are the customer's clock on arrival, so the ring is in order of time and the oldest leaves first.
"""

from __future__ import annotations

from segue_kernels.jit import inline
from segue_kernels.pool import free_block, take_block
from segue_kernels.row import RING, RING_STATE
from segue_kernels.shard import Shard

CAPACITY_MIN = 4


@inline
def seen_before(shard: Shard, base: int, message: int, now: int, horizon: int) -> bool:
    """Whether the id is in the ring with a time later than now - horizon."""
    block = shard.rows[base + RING]
    if block == 0:
        return False
    state = shard.rows[base + RING_STATE]
    capacity = state & 0xFF
    pool = shard.pool
    hits = 0
    for i in range(capacity):  # no early exit: this loop is a few vector compares
        if pool[block + i] == message:
            hits += 1
    if hits == 0:
        return False
    for i in range(capacity):
        if pool[block + i] == message and pool[block + capacity + i] > now - horizon:
            return True
    return False


@inline
def remember(shard: Shard, base: int, message: int, now: int, horizon: int, capacity_max: int) -> int:
    """Add an id; 1 if the bound pushed out one that still counted, else 0."""
    rows = shard.rows
    pool = shard.pool
    block = rows[base + RING]
    if block == 0:
        block = take_block(pool, shard.meta, CAPACITY_MIN * 2)
        rows[base + RING] = block
        rows[base + RING_STATE] = CAPACITY_MIN | (1 << 8)
        pool[block] = message
        pool[block + CAPACITY_MIN] = now
        return 0
    state = rows[base + RING_STATE]
    capacity = state & 0xFF
    count = (state >> 8) & 0xFF
    head = (state >> 16) & 0xFF
    while count > 0 and pool[block + capacity + head] <= now - horizon:
        pool[block + head] = 0
        pool[block + capacity + head] = 0
        head = (head + 1) & (capacity - 1)
        count -= 1
    pushed = 0
    if count == capacity:
        if capacity < capacity_max:
            wider = take_block(pool, shard.meta, capacity * 4)
            for i in range(count):
                at = (head + i) & (capacity - 1)
                pool[wider + i] = pool[block + at]
                pool[wider + capacity * 2 + i] = pool[block + capacity + at]
            free_block(pool, shard.meta, block, capacity * 2)
            block = wider
            rows[base + RING] = block
            capacity *= 2
            head = 0
        else:
            head = (head + 1) & (capacity - 1)
            count -= 1
            pushed = 1
    at = (head + count) & (capacity - 1)
    pool[block + at] = message
    pool[block + capacity + at] = now
    rows[base + RING_STATE] = capacity | ((count + 1) << 8) | (head << 16)
    return pushed


@inline
def forget_ids(shard: Shard, base: int) -> None:
    """Drop the ring."""
    block = shard.rows[base + RING]
    if block != 0:
        free_block(shard.pool, shard.meta, block, (shard.rows[base + RING_STATE] & 0xFF) * 2)
        shard.rows[base + RING] = 0
        shard.rows[base + RING_STATE] = 0
