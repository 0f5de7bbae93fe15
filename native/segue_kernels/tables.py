"""Reference tables as they were at any time: the versions of a key, found by its hashes.

A version is a run of words of World.versions: VERSION_*, then the fields that policies look up. The versions of a
key hang together, the latest valid_from first (of equal ones that which arrived last). World.table_index is a hash
table with linear probing from key to the first of them; 0 is an empty slot, and no version begins at word 0.
Whoever adds versions makes room first (src/segue/reference/world.py).

What comes along the way makes a version that says what the one before it says, with other values where the event has
some: a price or a quantity, or (a row) any fields, each in a line of its own (segue_kernels/record.py). An erasure
makes one of the customer's profile in which nothing is known; what begins earlier is taken out of the chain a little
later (wipe_versions), for rows that came before the erasure may still have to be decided.

What a row sees is what had arrived in its shard before it. Where partitions are merged, arrival is one order for all
shards: (clock, row). Where they are not, it is the shard's own: what it heard before the release that the row belongs
to, and of that release what stands before the row (HEARD).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from segue_kernels.fill import hash_word
from segue_kernels.jit import Array, inline, kernel
from segue_kernels.plan import (
    LOOKUP_FIELD,
    LOOKUP_SCALE,
    LOOKUP_TABLE,
    LOOKUP_UNKNOWN,
    TABLE_PRICE,
    TABLE_PROFILE,
    TABLE_STOCK,
)
from segue_kernels.record import (
    CLOCK,
    CUSTOMER_HI,
    CUSTOMER_LO,
    FIELD_NAME,
    FIELD_NUMBER,
    FIELD_TEXT,
    FLAG_HAS_LINES,
    FLAG_HAS_PRICE,
    FLAG_HAS_QUANTITY,
    FLAG_IS_LINE,
    PACK,
    PRICE,
    PRODUCT,
    QUANTITY_MASK,
    QUANTITY_SHIFT,
    SEQUENCE,
    STORE,
    TIME,
)
from segue_kernels.row import COUNT_UNKNOWN_KEYS
from segue_kernels.scan import POWERS
from segue_kernels.shard import Plan, Scratch, World
from segue_kernels.siphash import customer_key, siphash128

whole = cast("Callable[[Any], int]", np.int64)

VERSION_NEXT = 0  # the next older one, 0 = none
VERSION_KEY = 1
VERSION_FROM = 2  # valid from, ms
VERSION_CLOCK = 3  # the place in the order of arrival: partition clock ...
VERSION_SEQUENCE = 4  # ... and row; what a file says was there before any row
VERSION_TOLD = 5  # bit f: field f came along the way, in this version or one before it; ERASED
VERSION_FIELDS = 6

ERASED = 1 << 62  # nothing is known from here on, and what begins earlier is let in no more: an erasure

PLACE_SEQUENCE = 1  # of World.defaults: SEQUENCE of the row that timers fire at

CLOCK_OF_FILES = -1
PARTITION_SHIFT = 48  # of SEQUENCE
LAST_PLACE = 1 << 62  # as `place`: whatever has arrived so far

# what a table's versions look like: int64[plan.TABLES, COLUMN_WORDS]
COLUMN_WIDTH = 0  # words of a version; 0 = nobody looks into this table
COLUMN_UPDATED = 1  # the word that events along the way change, 0 = nobody looks at it
COLUMN_BLANK = 2  # a version of a key that is not known, outside all chains
COLUMN_WORDS = 4

# of a type of event: what it changes
ROWS = 128  # + 1 + table: its lines are fields of a row
NO_TABLE = 255

# fields of all tables: int64[n, FIELD_WORDS]
FIELD_TABLE = 0
FIELD_HASH = 1  # of its name
FIELD_WORD = 2  # of a version
FIELD_UNKNOWN = 3  # the word of no value
FIELD_IS_TEXT = 4
FIELD_WORDS = 5

# state: int64[STATE_WORDS]
STATE_USED = 0  # words of versions
STATE_KEYS = 1  # keys in the index
STATE_DROPPED = 2  # versions given up because a key had too many
STATE_UPDATES = 3  # versions that came along the way
STATE_HEARD = 8  # from here on, a word a partition: SEQUENCE of its last event let in, -1 = none

# World.defaults: behind these words the SEQUENCE of the last row that the shard heard of each partition, -1 = none:
# before the release that is being processed, then up to now
HEARD_PARTITIONS = 2  # their number; 0 = they are merged
HEARD = 4

NUMBER_MAX = 9_000_000_000_000 * LOOKUP_SCALE  # a number of a table lies within ±this

_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0x9E3779B97F4A7C15)
_R29 = np.uint64(29)
_R32 = np.uint64(32)


@inline
def _mixed(word: np.uint64) -> np.uint64:
    word = (word ^ (word >> _R29)) * _MIX_1
    word = (word ^ (word >> _R32)) * _MIX_2
    return word ^ (word >> _R29)


@inline
def table_key(table: int, first: int, second: int) -> int:
    """The key of a row of a table (plan.TABLE_*): product; product and store; customer, low and high."""
    word = _mixed(np.uint64(whole(first)) + np.uint64(table + 1) * _STEP)
    word = _mixed(word ^ np.uint64(whole(second)))
    key = whole(word)
    if key == 0:
        key = whole(1)
    return key


@inline
def record_key(table: int, records: Array, i: int) -> int:
    """The key of a record's row in a table; 0 if it has no product (or no customer) to look up."""
    if table == TABLE_PROFILE:
        if (records[i, CUSTOMER_LO] | records[i, CUSTOMER_HI]) == 0:
            return whole(0)
        return table_key(table, records[i, CUSTOMER_LO], records[i, CUSTOMER_HI])
    if records[i, PRODUCT] == 0:
        return whole(0)
    return table_key(table, records[i, PRODUCT], records[i, STORE] if table == TABLE_STOCK else whole(0))


@inline
def _slot(index: Array, versions: Array, key: int) -> int:
    """The slot of the index that holds the key, else the empty one where it would be."""
    mask = len(index) - 1
    at = key & mask
    while index[at] != 0 and versions[index[at] + VERSION_KEY] != key:
        at = (at + 1) & mask
    return at


@inline
def version_at(world: World, key: int, now: int, place: int, sequence: int) -> int:
    """The version valid at `now` among those that arrived before (place, sequence): its first word, 0 = none."""
    versions = world.versions
    heard = world.defaults
    partitions = heard[HEARD_PARTITIONS]
    at = world.table_index[_slot(world.table_index, versions, key)]
    while at != 0:
        if versions[at + VERSION_FROM] <= now:
            clock = versions[at + VERSION_CLOCK]
            row = versions[at + VERSION_SEQUENCE]
            arrived = clock < place or (clock == place and row < sequence)
            if partitions != 0 and clock != CLOCK_OF_FILES:
                at_partition = HEARD + (row >> PARTITION_SHIFT)
                arrived = row <= heard[at_partition] or (arrived and row <= heard[at_partition + partitions])
            if arrived:
                return at
        at = versions[at + VERSION_NEXT]
    return whole(0)


@inline
def fill_lookups(
    plan: Plan,
    world: World,
    scratch: Scratch,
    shard_meta: Array,
    records: Array,
    i: int,
    now: int,
    place: int,
) -> None:
    """Write the word of every lookup for a record, as of now, into scratch.location behind streams and moments.

    place  the partition clock of the row that decides which versions have arrived. Its SEQUENCE is the record's; where
           that is made for a timer, World.defaults[PLACE_SEQUENCE]. LAST_PLACE: all that are there
    """
    first = len(plan.streams) + len(plan.moments)
    sequence = max(records[i, SEQUENCE], world.defaults[PLACE_SEQUENCE])
    table = whole(-1)
    key = whole(0)
    at = whole(0)
    for row in range(len(plan.lookups)):
        if plan.lookups[row, LOOKUP_TABLE] != table:
            table = plan.lookups[row, LOOKUP_TABLE]
            key = record_key(table, records, i)
            at = whole(0)
            if key != 0:
                at = version_at(world, key, now, place, sequence)
        if at != 0:
            scratch.location[first + row] = world.versions[at + plan.lookups[row, LOOKUP_FIELD]]
        else:
            scratch.location[first + row] = plan.lookups[row, LOOKUP_UNKNOWN]
            if key != 0:
                shard_meta[COUNT_UNKNOWN_KEYS] += 1


@inline
def _unlink(world: World, slot: int, wanted: int) -> None:
    """Take a version out of the chain that begins in a slot."""
    versions = world.versions
    previous = whole(0)
    at = world.table_index[slot]
    while at != wanted:
        previous = at
        at = versions[at + VERSION_NEXT]
    if previous == 0:
        world.table_index[slot] = versions[wanted + VERSION_NEXT]
    else:
        versions[previous + VERSION_NEXT] = versions[wanted + VERSION_NEXT]


@inline
def _add_version(
    world: World, state: Array, width: int, key: int, valid_from: int, clock: int, sequence: int, room: int
) -> tuple[int, int]:
    """(the new version in its place in the chain, the one that held before it); its fields are not written yet.

    room  versions of the key, but for erasures, that may have come along the way; one more gives up that which is
          valid the longest.
          The new one is 0 if that is itself, or if an erasure stands at its time or later.
    """
    index = world.table_index
    versions = world.versions
    slot = _slot(index, versions, key)
    previous = whole(0)
    before = index[slot]
    if before == 0:
        state[STATE_KEYS] += 1
    is_erased = False
    while before != 0 and versions[before + VERSION_FROM] > valid_from:
        is_erased = is_erased or versions[before + VERSION_TOLD] & ERASED != 0
        previous = before
        before = versions[before + VERSION_NEXT]
    if before != 0 and versions[before + VERSION_FROM] == valid_from:
        is_erased = is_erased or versions[before + VERSION_TOLD] & ERASED != 0
    if is_erased:
        state[STATE_DROPPED] += 1
        return whole(0), before
    new = state[STATE_USED]
    if clock != CLOCK_OF_FILES:
        arrived = 0
        oldest = whole(0)
        at = index[slot]
        while at != 0:
            if versions[at + VERSION_CLOCK] != CLOCK_OF_FILES and versions[at + VERSION_TOLD] & ERASED == 0:
                arrived += 1
                oldest = at
            at = versions[at + VERSION_NEXT]
        if arrived >= room:
            state[STATE_DROPPED] += 1
            if versions[oldest + VERSION_FROM] > valid_from:
                return whole(0), before
            # its words become the new one's; were it `before`, its fields would already stand where they are copied to
            _unlink(world, slot, oldest)
            new = oldest
    if new == state[STATE_USED]:
        state[STATE_USED] += width
    following = before
    if before == new:
        following = versions[before + VERSION_NEXT]
    versions[new + VERSION_NEXT] = following
    versions[new + VERSION_KEY] = key
    versions[new + VERSION_FROM] = valid_from
    versions[new + VERSION_CLOCK] = clock
    versions[new + VERSION_SEQUENCE] = sequence
    versions[new + VERSION_TOLD] = versions[before + VERSION_TOLD] & ~ERASED if before != 0 else whole(0)
    if previous == 0:
        index[slot] = new
    else:
        versions[previous + VERSION_NEXT] = new
    return new, before


@kernel
def load_versions(
    world: World, state: Array, width: int, keys: Array, valid_from: Array, fields: Array
) -> None:
    """Add what a file says: int64 keys[n], valid_from[n], fields[n, width - VERSION_FIELDS]; there is room for it."""
    for i in range(len(keys)):
        new, _ = _add_version(world, state, width, keys[i], valid_from[i], CLOCK_OF_FILES, 0, 0)
        for f in range(width - VERSION_FIELDS):
            world.versions[new + VERSION_FIELDS + f] = fields[i, f]


@kernel
def count_updates(records: Array, table_of: Array) -> tuple[int, int]:
    """(how many records are about no customer (table_of uint8[256]: not 0), how many versions they make at most)."""
    count = 0
    versions = 0
    for i in range(len(records)):
        changes = table_of[records[i, PACK] & 0xFF]
        if changes != 0:
            count += 1
            if changes < ROWS or (records[i, PACK] >> 8) & FLAG_IS_LINE == 0:
                versions += 1
    return count, versions


@inline
def _price_number(minor: int, exponent: int) -> int:
    """Minor units as a number of a table."""
    factor = LOOKUP_SCALE // POWERS[exponent]
    if abs(minor) > NUMBER_MAX // factor:
        return whole(NUMBER_MAX) if minor > 0 else whole(-NUMBER_MAX)
    return minor * factor


@inline
def _new_version(
    world: World,
    columns: Array,
    state: Array,
    table: int,
    key: int,
    valid_from: int,
    clock: int,
    sequence: int,
    room: int,
) -> int:
    """A version that says what the one before it says, with room for its own; 0 if it is given up at once."""
    width = columns[table, COLUMN_WIDTH]
    new, before = _add_version(world, state, width, key, valid_from, clock, sequence, room)
    if new != 0:
        if before == 0:
            before = columns[table, COLUMN_BLANK]
        for w in range(VERSION_FIELDS, width):
            world.versions[new + w] = world.versions[before + w]
    return new


@inline
def _put_field(world: World, version: int, word: int, value: int) -> None:
    world.versions[version + word] = value
    world.versions[version + VERSION_TOLD] |= whole(1) << (word - VERSION_FIELDS)


@inline
def _take_line(world: World, fields: Array, table: int, version: int, records: Array, i: int) -> None:
    """Put the field of a row's line into its version; one that nobody looks into as what it is changes nothing."""
    for f in range(len(fields)):
        if fields[f, FIELD_TABLE] == table and fields[f, FIELD_HASH] == records[i, FIELD_NAME]:
            is_number = (records[i, PACK] >> 8) & FLAG_HAS_PRICE != 0
            text = records[i, FIELD_TEXT]
            if not is_number and text == 0:
                _put_field(world, version, fields[f, FIELD_WORD], fields[f, FIELD_UNKNOWN])
            elif fields[f, FIELD_IS_TEXT] == 0 and is_number:
                _put_field(world, version, fields[f, FIELD_WORD], records[i, FIELD_NUMBER])
            elif fields[f, FIELD_IS_TEXT] != 0 and not is_number:
                _put_field(world, version, fields[f, FIELD_WORD], text)


@kernel
def apply_updates(
    world: World,
    records: Array,
    table_of: Array,
    columns: Array,
    fields: Array,
    exponents: Array,
    state: Array,
    versions_max: int,
    keep: Array,
    made: Array,
) -> tuple[int, int]:
    """Let prices, stock and rows of tables among these rows into the tables; what was let in before changes nothing.

    table_of uint8[256] a type: 1 + the table it changes, ROWS + 1 + the table whose row its lines are; NO_TABLE for
    types about no customer that change none; 0 for all others. keep uint8[n]: 1 for those others. The rows of a
    partition come in their order, those of several in any; all shards hear the same. versions_max: of a key, of those
    that come along the way. There is room for a version and a key a row. The fields that an event does not speak of
    stay as they were at its time.

    Returns (how many are kept, versions made); made int64[>= that, 2]: where they begin (words that were used again
    are there twice), and the table.
    """
    kept = 0
    count = 0
    is_new = False
    version = whole(0)  # of the row whose lines follow
    for i in range(len(records)):
        pack = records[i, PACK]
        changes = whole(table_of[pack & 0xFF])
        keep[i] = 1 if changes == 0 else 0
        kept += keep[i]
        if changes == 0 or changes == NO_TABLE:
            continue
        clock = records[i, CLOCK]
        sequence = records[i, SEQUENCE]
        flags = (pack >> 8) & 0xFF
        if flags & FLAG_IS_LINE == 0:
            last = STATE_HEARD + (sequence >> PARTITION_SHIFT)
            is_new = sequence > state[last]
            if is_new:
                state[last] = sequence
        if not is_new:
            continue
        if changes > ROWS:
            table = changes - ROWS - 1
            if flags & FLAG_IS_LINE == 0:
                version = whole(0)
                key = record_key(table, records, i)
                if flags & FLAG_HAS_LINES == 0 or columns[table, COLUMN_WIDTH] == 0 or key == 0:
                    continue
                state[STATE_UPDATES] += 1
                version = _new_version(
                    world, columns, state, table, key, records[i, TIME], clock, sequence, versions_max
                )
                if version != 0:
                    made[count, 0] = version
                    made[count, 1] = table
                    count += 1
            elif version != 0:
                _take_line(world, fields, table, version, records, i)
            continue
        table = changes - 1
        word = columns[table, COLUMN_UPDATED]
        if word == 0 or records[i, PRODUCT] == 0:
            continue
        if flags & (FLAG_HAS_PRICE if table == TABLE_PRICE else FLAG_HAS_QUANTITY) == 0:
            continue
        if table == TABLE_PRICE:
            number = _price_number(records[i, PRICE], exponents[(pack >> 16) & 0xFFFF])
        else:
            number = ((pack >> QUANTITY_SHIFT) & QUANTITY_MASK) * LOOKUP_SCALE
        state[STATE_UPDATES] += 1
        new = _new_version(
            world,
            columns,
            state,
            table,
            record_key(table, records, i),
            records[i, TIME],
            clock,
            sequence,
            versions_max,
        )
        if new != 0:
            _put_field(world, new, word, number)
            made[count, 0] = new
            made[count, 1] = table
            count += 1
    return kept, count


@inline
def _add_erasure(
    world: World, columns: Array, state: Array, key: int, time: int, clock: int, sequence: int
) -> int:
    """The version of an erasure, 0 if one of that time or later is there."""
    versions = world.versions
    at = world.table_index[_slot(world.table_index, versions, key)]
    while at != 0:
        if versions[at + VERSION_TOLD] & ERASED != 0 and versions[at + VERSION_FROM] >= time:
            return whole(0)
        at = versions[at + VERSION_NEXT]
    width = columns[TABLE_PROFILE, COLUMN_WIDTH]
    no_bound = LAST_PLACE
    new, _ = _add_version(world, state, width, key, time, clock, sequence, no_bound)
    versions[new + VERSION_TOLD] = ERASED
    blank = columns[TABLE_PROFILE, COLUMN_BLANK]
    for w in range(VERSION_FIELDS, width):
        versions[new + w] = versions[blank + w]
    return new


@inline
def _wipe(world: World, state: Array, width: int, key: int, time: int) -> None:
    """Take what an erasure at `time` has ended out of a chain, and overwrite it."""
    index = world.table_index
    versions = world.versions
    slot = _slot(index, versions, key)
    previous = whole(0)
    at = index[slot]
    while at != 0:
        following = versions[at + VERSION_NEXT]
        begins = versions[at + VERSION_FROM]
        if begins > time or (begins == time and versions[at + VERSION_TOLD] & ERASED != 0):
            previous = at
        else:
            if previous == 0:
                index[slot] = following
            else:
                versions[previous + VERSION_NEXT] = following
            if versions[at + VERSION_CLOCK] != CLOCK_OF_FILES:
                state[STATE_DROPPED] += 1
            for w in range(width):
                versions[at + w] = 0
        at = following


@kernel
def erase_version(world: World, columns: Array, state: Array, records: Array, i: int, made: Array) -> int:
    """Let the erasure in record i into the profiles, for which there is room: the customer's key, 0 if it was known or
    names nobody. made int64[1, 2]: as apply_updates."""
    key = record_key(TABLE_PROFILE, records, i)
    if key == 0:
        return whole(0)
    version = _add_erasure(
        world, columns, state, key, records[i, TIME], records[i, CLOCK], records[i, SEQUENCE]
    )
    if version == 0:
        return whole(0)
    state[STATE_UPDATES] += 1
    made[0, 0] = version
    made[0, 1] = TABLE_PROFILE
    return key


@kernel
def wipe_versions(world: World, columns: Array, state: Array, keys: Array, times: Array) -> None:
    """Overwrite what erasures of profiles have ended: of keys[k] all that begins at times[k] or earlier."""
    for k in range(len(keys)):
        _wipe(world, state, columns[TABLE_PROFILE, COLUMN_WIDTH], keys[k], times[k])


@kernel
def restore_versions(
    world: World, columns: Array, state: Array, table: int, saved: Array, words: Array, versions_max: int
) -> None:
    """Let in what came along the way of one table in an earlier run, in its order: int64 saved[n, VERSION_FIELDS + m],
    as the versions were, but their VERSION_TOLD is over their own m fields; words int64[m]: where each stands now,
    0 = nowhere. There is room for them."""
    for i in range(len(saved)):
        state[STATE_UPDATES] += 1
        if saved[i, VERSION_TOLD] & ERASED != 0:
            key = saved[i, VERSION_KEY]
            time = saved[i, VERSION_FROM]
            clock = saved[i, VERSION_CLOCK]
            _add_erasure(world, columns, state, key, time, clock, saved[i, VERSION_SEQUENCE])
            _wipe(world, state, columns[table, COLUMN_WIDTH], key, time)
            continue
        new = _new_version(
            world,
            columns,
            state,
            table,
            saved[i, VERSION_KEY],
            saved[i, VERSION_FROM],
            saved[i, VERSION_CLOCK],
            saved[i, VERSION_SEQUENCE],
            versions_max,
        )
        if new != 0:
            for f in range(len(words)):
                if (saved[i, VERSION_TOLD] >> f) & 1 and words[f] != 0:
                    _put_field(world, new, words[f], saved[i, VERSION_FIELDS + f])


@kernel
def grow_table_index(old: Array, versions: Array, index: Array) -> None:
    """Put every key of an index into a larger one (zeros)."""
    for entry in old:
        if entry != 0:
            index[_slot(index, versions, versions[entry + VERSION_KEY])] = entry


@kernel
def hash_texts(text: NDArray[np.uint8], offsets: Array, k0: np.uint64, k1: np.uint64, hashes: Array) -> None:
    """hashes[k] of text[offsets[k]:offsets[k + 1]], as a record holds it; 0 of an empty one."""
    for k in range(len(hashes)):
        start = offsets[k]
        end = offsets[k + 1]
        hashes[k] = hash_word(text, start, end, k0, k1) if end > start else whole(0)


@kernel
def hash_customers(
    text: NDArray[np.uint8], offsets: Array, kinds: Array, k0: np.uint64, k1: np.uint64, keys: Array
) -> None:
    """keys[k]: the key in the table of profiles of the customer text[offsets[k]:offsets[k + 1]] of kinds[k]."""
    for k in range(len(keys)):
        low, high = siphash128(text, offsets[k], offsets[k + 1], customer_key(k0, kinds[k]), k1)
        keys[k] = table_key(TABLE_PROFILE, whole(low), whole(high))


@kernel
def hash_identifiers(
    text: NDArray[np.uint8], offsets: Array, kinds: Array, k0: np.uint64, k1: np.uint64, hashes: Array
) -> None:
    """hashes[k]: low and high of the customer text[offsets[k]:offsets[k + 1]] of kinds[k], as a record holds them."""
    for k in range(len(hashes)):
        low, high = siphash128(text, offsets[k], offsets[k + 1], customer_key(k0, kinds[k]), k1)
        hashes[k, 0] = whole(low)
        hashes[k, 1] = whole(high)


@kernel
def table_keys(table: int, first: Array, second: Array, keys: Array) -> None:
    """keys[k] of the hashes first[k] and second[k] in a table."""
    for k in range(len(keys)):
        keys[k] = table_key(table, first[k], second[k])
