"""Route decoded rows: one run of records and one run of text for each destination, in the order of the input.

Destination = shard for a known customer; shards + shard of the anonymous identifier for an anonymous one and for an
identify or alias (the anonymous shard passes it on); -1 for events about no customer. Of those (prices, stock) that
all must hear of, each destination gets a copy in its place, without strings; so does each anonymous shard of what is
about a known customer and who else may keep that customer's name (an erasure), and of what is about any customer where
each process keeps something of them all (FOR_ALL_ANONYMOUS: profiles).
"""

from __future__ import annotations

import numpy as np

from segue_kernels.jit import Array, inline, kernel
from segue_kernels.memory import copy_bytes
from segue_kernels.record import (
    ANONYMOUS_HI,
    ANONYMOUS_LO,
    CUSTOMER_HI,
    CUSTOMER_LO,
    FLAG_IS_LINE,
    FLAG_KIND,
    HEAP,
    KIND_ANONYMOUS,
    PACK,
    RECORD_WORDS,
    STRINGS,
)

NOWHERE = -1

# of types about no customer
ABOUT_NOBODY = 1
FOR_ALL = 2
# of types about a customer
FOR_ANONYMOUS = 3
FOR_ALL_ANONYMOUS = 4


@inline
def shard_of(hi: int, shards: int) -> int:
    """The shard of a 128-bit hash, from bits that the shard's own index does not use."""
    return (((hi >> 1) & 0x7FFFFFFF) * shards) >> 31


@inline
def first_to_hear(hears: int, to: int, shards: int) -> int:
    """The first of the destinations that get a copy of a row, which are this and all after it but for `to`."""
    if hears == FOR_ALL:
        return 0
    if hears == FOR_ANONYMOUS and 0 <= to < shards:
        return shards
    if hears == FOR_ALL_ANONYMOUS and to >= 0:
        return shards
    return 2 * shards


@kernel
def choose_destinations(
    records: Array,
    spans: Array,
    shards: int,
    identify: int,
    alias: int,
    nobody: Array,
    destination: Array,
    row_count: Array,
    byte_count: Array,
) -> int:
    """Fill destination[n] and count rows and text bytes of each; returns how many events are about no customer.

    nobody  uint8[256]: ABOUT_NOBODY and FOR_ALL for types that are about no customer, whoever they name;
            FOR_ANONYMOUS and FOR_ALL_ANONYMOUS
    """
    nowhere = 0
    for i in range(len(records)):
        pack = records[i, PACK]
        if (pack >> 8) & FLAG_IS_LINE and i > 0:
            to = destination[i - 1]
        else:
            kind_of_event = pack & 0xFF
            links = (
                (kind_of_event == identify or kind_of_event == alias)
                and ((pack >> 8) & FLAG_KIND) != KIND_ANONYMOUS
                and (records[i, ANONYMOUS_LO] | records[i, ANONYMOUS_HI]) != 0
            )
            if nobody[kind_of_event] == ABOUT_NOBODY or nobody[kind_of_event] == FOR_ALL:
                to = NOWHERE
                nowhere += 1
            elif links:
                to = shards + shard_of(records[i, ANONYMOUS_HI], shards)
            elif (records[i, CUSTOMER_LO] | records[i, CUSTOMER_HI]) == 0:
                to = NOWHERE
                nowhere += 1
            else:
                to = shard_of(records[i, CUSTOMER_HI], shards)
                if ((pack >> 8) & FLAG_KIND) == KIND_ANONYMOUS:
                    to += shards
        destination[i] = to
        for other in range(first_to_hear(nobody[pack & 0xFF], to, shards), 2 * shards):
            if other != to:
                row_count[other] += 1
        if to >= 0:
            row_count[to] += 1
            length = 0
            for s in range(STRINGS):
                length += spans[i, s] & 0xFF
            byte_count[to] += length
    return nowhere


@kernel
def scatter(
    records: Array,
    spans: Array,
    text: Array,
    nobody: Array,
    destination: Array,
    row_at: Array,
    byte_at: Array,
    byte_start: Array,
    records_out: Array,
    text_out: Array,
) -> None:
    """Copy each row and its strings to its destination's run.

    row_at, byte_at   int64 a destination: where its run begins; on return, where it ends
    byte_start        the same as byte_at at first, and left alone
    HEAP of a row counts from the beginning of its destination's text.
    """
    for i in range(len(records)):
        to = destination[i]
        shards = len(row_at) >> 1
        for other in range(first_to_hear(nobody[records[i, PACK] & 0xFF], to, shards), 2 * shards):
            if other == to:
                continue
            row = row_at[other]
            row_at[other] = row + 1
            for w in range(RECORD_WORDS):
                records_out[row, w] = records[i, w]
            records_out[row, HEAP] = (byte_at[other] - byte_start[other]) << 32
        if to < 0:
            continue
        row = row_at[to]
        row_at[to] = row + 1
        source = records[i]
        target = records_out[row]
        for w in range(RECORD_WORDS):
            target[w] = source[w]
        at = byte_at[to]
        heap = (at - byte_start[to]) << 32
        for s in range(STRINGS):
            span = spans[i, s]
            length = span & 0xFF
            heap |= length << (8 * s)
            copy_bytes(text, span >> 8, text_out, at, length)
            at += length
        byte_at[to] = at
        records_out[row, HEAP] = heap


def no_rows() -> tuple[Array, Array]:
    """The records and text of an empty run."""
    return np.zeros((0, RECORD_WORDS), np.int64), np.zeros(0, np.uint8)
