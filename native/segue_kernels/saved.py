"""Rows as self-contained words: what a delta of a shard holds, and what a shard is put together from again.

A saved row is the row's words, and behind them whatever blocks of the pool it reaches, in this order:

    [the row] [ring of ids (ids.py)] [long name] [redirect] [spilled: n x (stream, key, entry)]
    [waits: n x wait from WAIT_SHAPE on, in the order of their list] [names of products (names.py)]

In the row's words RING says whether there is a ring, REDIRECT how many words the redirect takes, SPILL_HEAD and WAITS
how many there are. Where the row hangs in the wheel is left out: its first timer follows from the rest. A row that was
given up has no words. Everything else is as it was, to the bit.
"""

from __future__ import annotations

from segue_kernels.fire import NO_TIMER, first_timer
from segue_kernels.history import H_IDS, H_SEGMENTS, H_STAGE, H_WORDS
from segue_kernels.ids import ring_capacity, ring_words
from segue_kernels.index import put, tag_of
from segue_kernels.jit import Array, inline, kernel
from segue_kernels.keyed import SPILL_ENTRY, SPILL_KEY, SPILL_NEXT, SPILL_OWNER, expired, link_spilled
from segue_kernels.memory import prefetch
from segue_kernels.names import TOLD_BYTES, read_names, write_names
from segue_kernels.plan import (
    COUNT,
    DISTINCT,
    HEADER_WORDS,
    LEFT,
    STREAM_BY,
    STREAM_ENTRY_WORDS,
    STREAM_K,
    STREAM_KIND,
    STREAM_OFFSET,
    STREAM_SLOTS,
    STREAM_WINDOW_MS,
    SUM,
    TUMBLE_DISTINCT,
)
from segue_kernels.pool import take_block
from segue_kernels.redirect import redirect_words
from segue_kernels.row import (
    CHECK_DUE,
    CLOCK,
    CLOCK_MAX,
    CUSTOMERS,
    FLAG_IN_USE,
    FLAG_NAME_SHIFT,
    FLAGS,
    INDEX_USED,
    KEY_HI,
    KEY_LO,
    NAME,
    NAME_INLINE_BYTES,
    POOL_BUMP,
    REDIRECT,
    REDIRECTS,
    RING,
    RING_STATE,
    ROWS_FREE,
    ROWS_USED,
    SEGMENTS,
    SPILL_HEAD,
    STAGE,
    TARGET_KIND,
    WAITS,
    WAITS_PENDING,
    WHEEL_DUE,
    WHEEL_LINK,
)
from segue_kernels.shard import (
    SET_LATENESS_MS,
    SET_POOL_MAX,
    SET_ROW_WORDS,
    STOP_END,
    STOP_POOL,
    Plan,
    Shard,
    World,
)
from segue_kernels.timers import hang
from segue_kernels.waits import WAIT_NEXT, WAIT_SHAPE, is_wait, journey_of, step_of, words_of

AHEAD = 8  # rows looked at before their turn, so that their cache lines are on the way
SAVED_SPILLED = 2  # words of a spilled entry before the entry itself
NAME_WORDS_MAX = TOLD_BYTES + 32  # of a product's name: 255 bytes


@inline
def _name_words(flags: int) -> int:
    """Words of a name that does not lie in the row; 0 if it does."""
    length = (flags >> FLAG_NAME_SHIFT) & 0xFF
    return (length + 7) >> 3 if length > NAME_INLINE_BYTES else 0


@inline
def _copy(source: Array, at: int, target: Array, to: int, count: int) -> None:
    for w in range(count):
        target[to + w] = source[at + w]


@inline
def _words_needed(shard: Shard, plan: Plan, base: int, row_words: int) -> int:
    """Words of a saved row but for the names of products."""
    rows = shard.rows
    pool = shard.pool
    words = row_words + _name_words(rows[base + FLAGS])
    if rows[base + RING] != 0:
        words += ring_words(ring_capacity(rows[base + RING_STATE]))
    block = rows[base + REDIRECT]
    if block != 0:
        words += redirect_words(pool[block + TARGET_KIND])
    block = rows[base + SPILL_HEAD]
    while block != 0:
        stream = pool[block + SPILL_OWNER] & 0xFFFF
        words += SAVED_SPILLED + plan.streams[stream, STREAM_ENTRY_WORDS]
        block = pool[block + SPILL_NEXT]
    block = rows[base + WAITS]
    while block != 0:
        words += words_of(pool[block + WAIT_SHAPE]) - WAIT_SHAPE
        block = pool[block + WAIT_NEXT]
    return words


@inline
def _save_row(
    shard: Shard,
    plan: Plan,
    world: World,
    base: int,
    row_words: int,
    words: Array,
    start: int,
    names_max: int,
) -> int:
    """Write a row to words[start:]; where it ends."""
    rows = shard.rows
    pool = shard.pool
    _copy(rows, base, words, start, row_words)
    at = start + row_words
    words[start + WHEEL_DUE] = 0
    words[start + WHEEL_LINK] = 0
    block = rows[base + RING]
    if block != 0:
        words[start + RING] = 1
        count = ring_words(ring_capacity(rows[base + RING_STATE]))
        _copy(pool, block, words, at, count)
        at += count
    count = _name_words(rows[base + FLAGS])
    if count != 0:
        words[start + NAME] = 0
        _copy(pool, rows[base + NAME], words, at, count)
        at += count
    block = rows[base + REDIRECT]
    if block != 0:
        count = redirect_words(pool[block + TARGET_KIND])
        words[start + REDIRECT] = count
        _copy(pool, block, words, at, count)
        at += count
    count = 0
    block = rows[base + SPILL_HEAD]
    while block != 0:
        stream = pool[block + SPILL_OWNER] & 0xFFFF
        entry = plan.streams[stream, STREAM_ENTRY_WORDS]
        words[at] = stream
        words[at + 1] = pool[block + SPILL_KEY]
        _copy(pool, block + SPILL_ENTRY, words, at + SAVED_SPILLED, entry)
        at += SAVED_SPILLED + entry
        count += 1
        block = pool[block + SPILL_NEXT]
    words[start + SPILL_HEAD] = count
    count = 0
    block = rows[base + WAITS]
    while block != 0:
        size = words_of(pool[block + WAIT_SHAPE]) - WAIT_SHAPE
        _copy(pool, block + WAIT_SHAPE, words, at, size)
        at += size
        count += 1
        block = pool[block + WAIT_NEXT]
    words[start + WAITS] = count
    if names_max != 0:
        return write_names(shard, plan, world, base, words, at)
    words[at] = 0
    return at + 1


@kernel
def save_rows(
    shard: Shard,
    plan: Plan,
    world: World,
    listed: Array,
    start: int,
    starts: Array,
    words: Array,
    names_max: int,
    settings: Array,
) -> int:
    """Write rows listed[start:] (ascending) to words[starts[start]:], and to `starts` where each ends; how far it came:
    not to the end if the next row might find too little room in `words`.

    names_max  products that a row lists at most; 0: no names are told
    """
    row_words = settings[SET_ROW_WORDS]
    at = starts[start]
    for i in range(start, len(listed)):
        if i + AHEAD < len(listed):
            base = listed[i + AHEAD] * row_words
            prefetch(shard.rows, base)
            prefetch(shard.rows, base + 8)
        if i + (AHEAD >> 1) < len(listed):
            base = listed[i + (AHEAD >> 1)] * row_words
            prefetch(shard.pool, shard.rows[base + RING])
            prefetch(shard.pool, shard.rows[base + RING] + 8)
            prefetch(shard.pool, shard.rows[base + WAITS])
            prefetch(shard.pool, shard.rows[base + SPILL_HEAD])
        base = listed[i] * row_words
        if shard.rows[base + FLAGS] & FLAG_IN_USE != 0:
            most = _words_needed(shard, plan, base, row_words) + 1 + names_max * NAME_WORDS_MAX
            if at + most > len(words):
                return i
            at = _save_row(shard, plan, world, base, row_words, words, at, names_max)
        starts[i + 1] = at
    return len(listed)


@inline
def _restore_row(
    shard: Shard,
    plan: Plan,
    world: World,
    row: int,
    row_words: int,
    words: Array,
    at: int,
    lateness: int,
) -> None:
    """Put the row saved at words[at:] back to its number, with all it reaches."""
    rows = shard.rows
    pool = shard.pool
    meta = shard.meta
    base = row * row_words
    _copy(words, at, rows, base, row_words)
    at += row_words
    if rows[base + RING] != 0:
        count = ring_words(ring_capacity(rows[base + RING_STATE]))
        block = take_block(pool, meta, count)
        _copy(words, at, pool, block, count)
        rows[base + RING] = block
        at += count
    count = _name_words(rows[base + FLAGS])
    if count != 0:
        block = take_block(pool, meta, count)
        _copy(words, at, pool, block, count)
        rows[base + NAME] = block
        at += count
    count = rows[base + REDIRECT]
    if count != 0:
        block = take_block(pool, meta, count)
        _copy(words, at, pool, block, count)
        rows[base + REDIRECT] = block
        meta[REDIRECTS] += 1
        at += count
    number = rows[base + SPILL_HEAD]
    rows[base + SPILL_HEAD] = 0
    last = 0
    now = max(rows[base + CLOCK], meta[CLOCK_MAX] - lateness)
    for _ in range(number):
        stream = words[at]
        entry = plan.streams[stream, STREAM_ENTRY_WORDS]
        # as when the index of spilled keys grows: what no window can see goes for good
        if not expired(words[at + SAVED_SPILLED], plan.streams[stream, STREAM_WINDOW_MS], now):
            block = take_block(pool, meta, SPILL_ENTRY + entry)
            _copy(words, at + SAVED_SPILLED, pool, block + SPILL_ENTRY, entry)
            link_spilled(shard, row, base, stream, words[at + 1], block, last)
            last = block
        at += SAVED_SPILLED + entry
    number = rows[base + WAITS]
    rows[base + WAITS] = 0
    last = 0
    for _ in range(number):
        count = words_of(words[at])
        block = take_block(pool, meta, count)
        _copy(words, at, pool, block + WAIT_SHAPE, count - WAIT_SHAPE)
        if last == 0:
            rows[base + WAITS] = block
        else:
            pool[last + WAIT_NEXT] = block
        last = block
        meta[WAITS_PENDING] += 1
        at += count - WAIT_SHAPE
    read_names(world, meta, words, at)
    if put(shard.index, rows[base + KEY_LO], tag_of(rows[base + KEY_HI]), row):
        meta[INDEX_USED] += 1
    meta[CUSTOMERS] += 1
    due, kind, _ = first_timer(shard, plan, base)
    if kind != NO_TIMER:
        hang(shard, row, row_words, due)


@kernel
def restore_rows(
    shard: Shard,
    plan: Plan,
    world: World,
    listed: Array,
    start: int,
    end: int,
    starts: Array,
    words: Array,
    settings: Array,
) -> tuple[int, int]:
    """Put the saved rows listed[start:end] back; (how far it came, why it stopped: STOP_END or STOP_POOL).

    The rows are free (all zeros), the indexes have room for all of them, there is room for the names they bring, and
    the shard's clock and the time of its wheel are what they were.
    """
    row_words = settings[SET_ROW_WORDS]
    mask = len(shard.index) - 1
    for i in range(start, end):
        at = starts[i]
        size = starts[i + 1] - at
        if size == 0:
            continue
        if i + AHEAD < end and starts[i + AHEAD] < starts[i + AHEAD + 1]:
            prefetch(shard.index, words[starts[i + AHEAD] + KEY_LO] & mask)
        # a block takes at most four times the words that were saved of it
        if shard.meta[POOL_BUMP] + 4 * (size - row_words) > settings[SET_POOL_MAX]:
            return i, STOP_POOL
        _restore_row(shard, plan, world, listed[i], row_words, words, at, settings[SET_LATENESS_MS])
    return end, STOP_END


@kernel
def list_free_rows(rows: Array, meta: Array, row_words: int) -> None:
    """Put every row below ROWS_USED that is not in use into the list of free rows, the first of them in front."""
    meta[ROWS_FREE] = 0
    for row in range(meta[ROWS_USED] - 1, -1, -1):
        if rows[row * row_words + FLAGS] & FLAG_IN_USE == 0:
            rows[row * row_words + CLOCK] = meta[ROWS_FREE]
            meta[ROWS_FREE] = row + 1


@kernel
def merge_rows(listed: Array, source_starts: Array, source: Array, starts: Array, words: Array) -> None:
    """Copy saved rows from one delta into the merged one: listed[i] = its place there, -1 = a newer one has it."""
    for i in range(len(listed)):
        place = listed[i]
        if place >= 0:
            _copy(source, source_starts[i], words, starts[place], source_starts[i + 1] - source_starts[i])


# --- another layout: the same customers under changed policies -----------------------------------------------


@inline
def _change_entry(
    kind: int, source: Array, at: int, k: int, target: Array, to: int, kept: int, size: int
) -> None:
    """An entry that kept k for one that keeps `kept`: the newest that both have room for. size: words of the least."""
    least = min(k, kept)
    if kind == COUNT or kind == SUM or kind == DISTINCT or kind == LEFT:
        runs = 1
        if kind == SUM or kind == DISTINCT:
            runs = 2
        elif kind == LEFT:
            runs = 3
        for run in range(runs):
            _copy(source, at + run * k, target, to + run * kept, least)
        return
    _copy(source, at, target, to, size)
    if kind == TUMBLE_DISTINCT:
        target[to + 1] = min(source[at + 1], kept)


@inline
def _change_areas(
    streams: Array, new_streams: Array, stream_to: Array, words: Array, at: int, new_words: Array, to: int
) -> None:
    """The areas of the streams that stay, from words[at + STREAM_OFFSET] to new_words[to + STREAM_OFFSET]; 0 there."""
    for s in range(len(streams)):
        n = stream_to[s]
        if n < 0:
            continue
        kind = streams[s, STREAM_KIND]
        entry = streams[s, STREAM_ENTRY_WORDS]
        new_entry = new_streams[n, STREAM_ENTRY_WORDS]
        size = min(entry, new_entry)
        area = at + streams[s, STREAM_OFFSET]
        new_area = to + new_streams[n, STREAM_OFFSET]
        k = streams[s, STREAM_K]
        kept = new_streams[n, STREAM_K]
        if streams[s, STREAM_BY] == 0:
            _change_entry(kind, words, area, k, new_words, new_area, kept, size)
            continue
        slots = streams[s, STREAM_SLOTS]
        _copy(words, area, new_words, new_area, 1 + slots)
        for slot in range(slots):
            start = area + 1 + slots + slot * entry
            new_start = new_area + 1 + slots + slot * new_entry
            _change_entry(kind, words, start, k, new_words, new_start, kept, size)


@inline
def _change_spilled(
    streams: Array,
    new_streams: Array,
    stream_to: Array,
    words: Array,
    at: int,
    number: int,
    new_words: Array,
    to: int,
) -> tuple[int, int, int]:
    """So many spilled entries from words[at:] to new_words[to:]; (where they end, there too, how many stay)."""
    stay = 0
    for _ in range(number):
        s = words[at]
        n = stream_to[s]
        if n >= 0:
            new_words[to] = n
            new_words[to + 1] = words[at + 1]
            entry = new_streams[n, STREAM_ENTRY_WORDS]
            for w in range(entry):
                new_words[to + SAVED_SPILLED + w] = 0
            _change_entry(
                streams[s, STREAM_KIND],
                words,
                at + SAVED_SPILLED,
                streams[s, STREAM_K],
                new_words,
                to + SAVED_SPILLED,
                new_streams[n, STREAM_K],
                min(streams[s, STREAM_ENTRY_WORDS], entry),
            )
            to += SAVED_SPILLED + entry
            stay += 1
        at += SAVED_SPILLED + streams[s, STREAM_ENTRY_WORDS]
    return at, to, stay


@inline
def _change_waits(
    journey_to: Array, journey_steps: Array, words: Array, at: int, number: int, new_words: Array, to: int
) -> tuple[int, int, int]:
    """So many waits from words[at:] to new_words[to:]; (where they end, there too, how many stay)."""
    stay = 0
    for _ in range(number):
        shape = words[at]
        journey = journey_of(shape)
        size = words_of(shape) - WAIT_SHAPE
        n = journey_to[journey]
        if n >= 0 and (not is_wait(shape) or step_of(shape) <= journey_steps[journey]):
            _copy(words, at, new_words, to, size)
            new_words[to] = shape - journey + n
            to += size
            stay += 1
        at += size
    return at, to, stay


@inline
def _change_segments(segment_to: Array, segments: int) -> int:
    changed = 0
    for s in range(len(segment_to)):
        if segment_to[s] >= 0 and (segments >> s) & 1:
            changed |= 1 << segment_to[s]
    return changed


@inline
def _change_stage(stage_to: Array, stage: int) -> int:
    if stage >= len(stage_to):
        return 0
    changed: int = stage_to[stage]
    return changed


@kernel
def change_layout(
    streams: Array,
    new_streams: Array,
    stream_to: Array,
    segment_to: Array,
    stage_to: Array,
    journey_to: Array,
    journey_steps: Array,
    looks: int,
    row_words: int,
    new_row_words: int,
    starts: Array,
    words: Array,
    new_starts: Array,
    new_words: Array,
) -> int:
    """Write saved rows of one layout as saved rows of another; how many waits went with their journeys.

    stream_to, segment_to, stage_to, journey_to   what became of each by number, -1 = it is gone (a stage: 0)
    journey_steps  how many steps each of the old journeys' waits has now: a wait for a later one is over; what is held
                   stays
    looks          CHECK_DUE of a row that has none; 0 = nobody looks
    """
    to = 0
    gone = 0
    for i in range(len(starts) - 1):
        new_starts[i] = to
        row = starts[i]
        if row == starts[i + 1]:
            continue
        new = to
        _copy(words, row, new_words, new, HEADER_WORDS)
        for w in range(HEADER_WORDS, new_row_words):
            new_words[new + w] = 0
        new_words[new + SEGMENTS] = _change_segments(segment_to, words[row + SEGMENTS])
        new_words[new + STAGE] = _change_stage(stage_to, words[row + STAGE])
        if words[row + CHECK_DUE] == 0 or looks == 0:
            new_words[new + CHECK_DUE] = looks if words[row + CLOCK] != 0 else 0
        _change_areas(streams, new_streams, stream_to, words, row, new_words, new)
        at = row + row_words
        to = new + new_row_words
        blocks = _name_words(words[row + FLAGS]) + words[row + REDIRECT]
        if words[row + RING] != 0:
            blocks += ring_words(ring_capacity(words[row + RING_STATE]))
        _copy(words, at, new_words, to, blocks)
        at, to, stay = _change_spilled(
            streams,
            new_streams,
            stream_to,
            words,
            at + blocks,
            words[row + SPILL_HEAD],
            new_words,
            to + blocks,
        )
        new_words[new + SPILL_HEAD] = stay
        at, to, stay = _change_waits(journey_to, journey_steps, words, at, words[row + WAITS], new_words, to)
        new_words[new + WAITS] = stay
        gone += words[row + WAITS] - stay
        size = starts[i + 1] - at
        _copy(words, at, new_words, to, size)
        to += size
    new_starts[len(starts) - 1] = to
    return gone


@kernel
def change_history(
    streams: Array,
    new_streams: Array,
    stream_to: Array,
    segment_to: Array,
    stage_to: Array,
    journey_to: Array,
    journey_steps: Array,
    row_words: int,
    new_row_words: int,
    words: Array,
    new_words: Array,
) -> int:
    """As change_layout, for a history (history.py) on its way; how many words it has now."""
    areas = H_IDS + 1 + 2 * words[H_IDS]
    new_end = areas + new_row_words - HEADER_WORDS
    _copy(words, 0, new_words, 0, areas)
    for w in range(areas, new_end):
        new_words[w] = 0
    new_words[H_SEGMENTS] = _change_segments(segment_to, words[H_SEGMENTS])
    new_words[H_STAGE] = _change_stage(stage_to, words[H_STAGE])
    _change_areas(
        streams, new_streams, stream_to, words, areas - HEADER_WORDS, new_words, areas - HEADER_WORDS
    )
    number = areas + row_words - HEADER_WORDS
    new_number = new_end
    at, to, stay = _change_spilled(
        streams, new_streams, stream_to, words, number + 1, words[number], new_words, new_number + 1
    )
    new_words[new_number] = stay
    number = at
    new_number = to
    at, to, stay = _change_waits(
        journey_to, journey_steps, words, number + 1, words[number], new_words, new_number + 1
    )
    new_words[new_number] = stay
    size = len(words) - at
    _copy(words, at, new_words, to, size)
    new_words[H_WORDS] = to + size
    return to + size
