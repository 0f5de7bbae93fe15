"""State by product or category, exact at any number of keys: slots in the row, the rest spilled to the shard's pool.

A keyed stream's area in the row is [watermark, slots keys, slots entries]. The first word of an entry is its newest
time (or window start; DECAY has its newest epoch and FIRST its only time there: no window ends them). When a key
needs a slot and none is free, the entry longest untouched leaves: into nothing if its window has passed, else into a
spilled entry found through a hash of (row, stream, key). The watermark is the greatest first word that ever
spilled: a key missing from the slots is looked for outside only if that is inside the window.

A spilled entry is a pool block: [next, previous (the customer's list), stream | row << 16, key, entry].
"""

from __future__ import annotations

from segue_kernels.index import EMPTY, LOW, TOMBSTONE, put
from segue_kernels.jit import Array, inline, kernel, outline
from segue_kernels.plan import (
    JOIN_TYPE,
    SENT_TYPE,
    STREAM_ENTRY_WORDS,
    STREAM_OFFSET,
    STREAM_SLOTS,
    STREAM_TYPE,
    STREAM_WINDOW_MS,
)
from segue_kernels.pool import free_block, take_block
from segue_kernels.row import (
    CLOCK,
    CLOCK_MAX,
    COUNT_SPILL_LOADED,
    COUNT_SPILLED,
    SPILL_HEAD,
    SPILL_LIVE,
    SPILL_OLD_POSITION,
    SPILL_USED,
)
from segue_kernels.shard import Shard

SPILL_NEXT = 0
SPILL_PREVIOUS = 1
SPILL_OWNER = 2
SPILL_KEY = 3
SPILL_ENTRY = 4


@inline
def _start(row: int, stream: int, key: int) -> int:
    # both reach the low bits: one product in many streams must not make one long run
    return key ^ (row * 0x9E3779B1) ^ (stream * 0x85EBCA6B)


@inline
def _tag(key: int, stream: int) -> int:
    return ((key >> 33) ^ stream) & 0x7FFFFFFF


@inline
def _find_in(index: Array, pool: Array, row: int, stream: int, key: int) -> int:
    mask = len(index) - 1
    at = _start(row, stream, key) & mask
    tag = _tag(key, stream)
    owner = stream | (row << 16)
    entry = index[at]
    while entry != EMPTY:
        if entry > 0 and (entry >> 32) == tag:
            block = ((entry & LOW) - 1) << 3
            if pool[block + SPILL_KEY] == key and pool[block + SPILL_OWNER] == owner:
                return at
        at = (at + 1) & mask
        entry = index[at]
    return -1


@inline
def _unlink(pool: Array, rows: Array, base: int, block: int) -> None:
    following = pool[block + SPILL_NEXT]
    previous = pool[block + SPILL_PREVIOUS]
    if previous != 0:
        pool[previous + SPILL_NEXT] = following
    else:
        rows[base + SPILL_HEAD] = following
    if following != 0:
        pool[following + SPILL_PREVIOUS] = previous


@inline
def expired(newest: int, window: int, now: int) -> bool:
    """Whether nothing at `newest` can be seen through the window any more (window 0: for ever)."""
    return window > 0 and newest <= now - window


@inline
def spill_entry(shard: Shard, row: int, base: int, stream: int, key: int, words: int, at: int) -> None:
    """Move an entry of `words` words out of the row into a spilled entry of its own."""
    pool = shard.pool
    meta = shard.meta
    block = take_block(pool, meta, SPILL_ENTRY + words)
    head = shard.rows[base + SPILL_HEAD]
    pool[block + SPILL_NEXT] = head
    pool[block + SPILL_PREVIOUS] = 0
    if head != 0:
        pool[head + SPILL_PREVIOUS] = block
    shard.rows[base + SPILL_HEAD] = block
    pool[block + SPILL_OWNER] = stream | (row << 16)
    pool[block + SPILL_KEY] = key
    for i in range(words):
        pool[block + SPILL_ENTRY + i] = shard.rows[at + i]
    if put(shard.spill, _start(row, stream, key), _tag(key, stream), block >> 3):
        meta[SPILL_USED] += 1
    meta[SPILL_LIVE] += 1
    meta[COUNT_SPILLED] += 1


@inline
def link_spilled(shard: Shard, row: int, base: int, stream: int, key: int, block: int, previous: int) -> None:
    """Put a block with an entry into the hash, and into the customer's list behind `previous` (0: as its first)."""
    pool = shard.pool
    pool[block + SPILL_NEXT] = 0
    pool[block + SPILL_PREVIOUS] = previous
    if previous == 0:
        shard.rows[base + SPILL_HEAD] = block
    else:
        pool[previous + SPILL_NEXT] = block
    pool[block + SPILL_OWNER] = stream | (row << 16)
    pool[block + SPILL_KEY] = key
    if put(shard.spill, _start(row, stream, key), _tag(key, stream), block >> 3):
        shard.meta[SPILL_USED] += 1
    shard.meta[SPILL_LIVE] += 1


@inline
def drop_spilled(shard: Shard, base: int, block: int, words: int) -> None:
    """Take a spilled entry out of the hash, the customer's list and the pool."""
    owner = shard.pool[block + SPILL_OWNER]
    stream = owner & 0xFFFF
    row = owner >> 16
    key = shard.pool[block + SPILL_KEY]
    at = _find_in(shard.spill, shard.pool, row, stream, key)
    if at >= 0:
        shard.spill[at] = TOMBSTONE
    else:
        at = _find_in(shard.spill_old, shard.pool, row, stream, key)
        if at >= 0:
            shard.spill_old[at] = TOMBSTONE
    _unlink(shard.pool, shard.rows, base, block)
    free_block(shard.pool, shard.meta, block, SPILL_ENTRY + words)
    shard.meta[SPILL_LIVE] -= 1


@inline
def find_spilled(shard: Shard, row: int, stream: int, key: int) -> int:
    """The pool block of a spilled entry, or 0."""
    at = _find_in(shard.spill, shard.pool, row, stream, key)
    if at >= 0:
        return ((shard.spill[at] & LOW) - 1) << 3
    at = _find_in(shard.spill_old, shard.pool, row, stream, key)
    if at >= 0:
        return ((shard.spill_old[at] & LOW) - 1) << 3
    return 0


@outline
def move_spilled(shard: Shard, streams: Array, row_words: int, lateness: int, steps: int) -> None:
    """Move up to `steps` slots of the old spill index to the new one; what no window can see goes for good."""
    meta = shard.meta
    old = shard.spill_old
    position = meta[SPILL_OLD_POSITION]
    end = min(position + steps, len(old))
    while position < end:
        entry = old[position]
        if entry > 0:
            block = ((entry & LOW) - 1) << 3
            owner = shard.pool[block + SPILL_OWNER]
            stream = owner & 0xFFFF
            row = owner >> 16
            key = shard.pool[block + SPILL_KEY]
            base = row * row_words
            now = max(shard.rows[base + CLOCK], meta[CLOCK_MAX] - lateness)
            if expired(shard.pool[block + SPILL_ENTRY], streams[stream, STREAM_WINDOW_MS], now):
                words = streams[stream, STREAM_ENTRY_WORDS]
                old[position] = TOMBSTONE
                _unlink(shard.pool, shard.rows, base, block)
                free_block(shard.pool, meta, block, SPILL_ENTRY + words)
                meta[SPILL_LIVE] -= 1
            else:
                if put(shard.spill, _start(row, stream, key), _tag(key, stream), block >> 3):
                    meta[SPILL_USED] += 1
                old[position] = TOMBSTONE
        position += 1
    meta[SPILL_OLD_POSITION] = position


@kernel
def finish_moving_spilled(shard: Shard, streams: Array, row_words: int, lateness: int) -> None:
    """Move whatever the old spill index still holds."""
    move_spilled(shard, streams, row_words, lateness, len(shard.spill_old))


@inline
def slot_entry(
    shard: Shard, streams: Array, row: int, base: int, stream: int, key: int, now: int, create: bool
) -> int:
    """Where the entry of `key` lies in the flat rows, brought into a slot if it had spilled; -1 if there is none and
    `create` is False."""
    rows = shard.rows
    area = base + streams[stream, STREAM_OFFSET]
    slots = streams[stream, STREAM_SLOTS]
    for i in range(slots):
        if rows[area + 1 + i] == key:
            return area + 1 + slots + i * streams[stream, STREAM_ENTRY_WORDS]
    if rows[area] == 0 and not create:
        return -1
    return entry_not_in_slots(shard, streams, row, base, stream, key, now, create)


@outline
def entry_not_in_slots(
    shard: Shard, streams: Array, row: int, base: int, stream: int, key: int, now: int, create: bool
) -> int:
    """slot_entry for a key that no slot has."""
    rows = shard.rows
    area = base + streams[stream, STREAM_OFFSET]
    slots = streams[stream, STREAM_SLOTS]
    words = streams[stream, STREAM_ENTRY_WORDS]
    entries = area + 1 + slots
    window = streams[stream, STREAM_WINDOW_MS]
    watermark = rows[area]
    block = 0
    # an entry about to be made anew must not leave an expired one behind: a key has one home
    if watermark != 0 and (create or not expired(watermark, window, now)):
        block = find_spilled(shard, row, stream, key)
    if block == 0 and not create:
        return -1
    victim = 0
    oldest = 0x7FFFFFFFFFFFFFFF
    for i in range(slots):
        if rows[area + 1 + i] == 0:
            victim = i
            oldest = 0
            break
        newest = rows[entries + i * words]
        if newest < oldest:
            oldest = newest
            victim = i
    at = entries + victim * words
    # oldest 0: a free slot, or one that a join has emptied
    if oldest != 0 and not expired(oldest, window, now):
        spill_entry(shard, row, base, stream, rows[area + 1 + victim], words, at)
        if oldest > watermark:
            rows[area] = oldest
    rows[area + 1 + victim] = key
    if block != 0:
        for i in range(words):
            rows[at + i] = shard.pool[block + SPILL_ENTRY + i]
        drop_spilled(shard, base, block, words)
        shard.meta[COUNT_SPILL_LOADED] += 1
    else:
        for i in range(words):
            rows[at + i] = 0
    return at


@outline
def forget_spilled(shard: Shard, streams: Array, base: int, sent_too: bool) -> None:
    """Drop a customer's spilled entries: of behaviour, and of what was sent if `sent_too`."""
    block = shard.rows[base + SPILL_HEAD]
    while block != 0:
        following = shard.pool[block + SPILL_NEXT]
        stream = shard.pool[block + SPILL_OWNER] & 0xFFFF
        kind = streams[stream, STREAM_TYPE]
        if sent_too or not (SENT_TYPE <= kind < JOIN_TYPE):
            drop_spilled(shard, base, block, streams[stream, STREAM_ENTRY_WORDS])
        block = following
