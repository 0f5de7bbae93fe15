"""Names of products, for the lists that actions carry: one dictionary a shard, filled as products are seen.

shard.names is an open-addressing index of fixed size (a power of two): product hash -> pool block, 0 = free. A
block is [hash, length, bytes, eight a word]. Names are never dropped; at 5/8 the index is full, and a product
whose name finds no room is counted each time and left out of lists. Which names a shard knows depends on what it
has seen, so a customer's history carries those of the products he has in lists: [n, n x (hash, length, bytes)].
"""

from __future__ import annotations

import numpy as np

from segue_kernels.jit import Array, inline, outline
from segue_kernels.moments import window_after
from segue_kernels.plan import (
    BY_NONE,
    DISTINCT,
    OFFER_ITEMS_MAX,
    OFFER_ITEMS_STREAM,
    OFFER_ITEMS_WINDOW,
    STREAM_BY,
    STREAM_FLAG_NAMES,
    STREAM_FLAGS,
    STREAM_K,
    STREAM_KIND,
    STREAM_OFFSET,
)
from segue_kernels.pool import take_block
from segue_kernels.row import COUNT_NAMES_MISSING, NAMES_USED
from segue_kernels.shard import OUT_ITEM_TEXT, OUT_ITEMS, Out, Plan, Scratch, Shard

BLOCK_HASH = 0
BLOCK_LENGTH = 1
BLOCK_BYTES = 2


@inline
def _words_of(length: int) -> int:
    return (length + 7) >> 3


@inline
def _slot(shard: Shard, product: int) -> int:
    """Where the product stands in the index, or the free slot where it would."""
    mask = len(shard.names) - 1
    at = product & mask
    block = shard.names[at]
    while block != 0 and shard.pool[block + BLOCK_HASH] != product:
        at = (at + 1) & mask
        block = shard.names[at]
    return at


@inline
def find_name(shard: Shard, product: int) -> int:
    """The pool block with a product's name, or 0."""
    block: int = shard.names[_slot(shard, product)]
    return block


@outline
def _new_name(shard: Shard, product: int, length: int) -> int:
    """A block for the name of a product that has none; 0 if the index is full."""
    meta = shard.meta
    if meta[NAMES_USED] >= (len(shard.names) * 5) >> 3:
        meta[COUNT_NAMES_MISSING] += 1
        return 0
    block = take_block(shard.pool, meta, BLOCK_BYTES + _words_of(length))
    shard.pool[block + BLOCK_HASH] = product
    shard.pool[block + BLOCK_LENGTH] = length
    shard.names[_slot(shard, product)] = block
    meta[NAMES_USED] += 1
    return block


@outline
def _learn_name(shard: Shard, product: int, text: Array, at: int, length: int) -> None:
    block = _new_name(shard, product, length)
    if block == 0:
        return
    for w in range(_words_of(length)):
        word = np.int64(0)
        for b in range(min(8, length - w * 8)):
            byte = np.int64(text[at + w * 8 + b])
            if b == 7:  # the highest byte carries the sign
                byte = (byte ^ 0x80) - 0x80
            word |= byte << (8 * b)
        shard.pool[block + BLOCK_BYTES + w] = word


@inline
def note_name(shard: Shard, product: int, text: Array, at: int, length: int) -> None:
    """Keep text[at : at + length] as the name of a product, unless it is known."""
    if find_name(shard, product) == 0:
        _learn_name(shard, product, text, at, length)


@inline
def list_items(shard: Shard, plan: Plan, out: Out, scratch: Scratch, offer: int, base: int, now: int) -> int:
    """Write the products that an action of this offer lists to Out.items, newest first; how many there are.

    They are the newest of a DISTINCT stream that lie in the window (equal times: smallest hash first); one without
    a known name is left out and the next one takes its place.
    """
    s = plan.offers[offer, OFFER_ITEMS_STREAM]
    if s < 0:
        return 0
    at = base + plan.streams[s, STREAM_OFFSET]
    k = plan.streams[s, STREAM_K]
    after = window_after(plan, scratch, plan.offers[offer, OFFER_ITEMS_WINDOW], now)
    most = plan.offers[offer, OFFER_ITEMS_MAX]
    item = out.used[OUT_ITEMS]
    count = 0
    for i in range(k):
        time = shard.rows[at + i]
        if count == most or time == 0 or time <= after:
            break
        block = find_name(shard, shard.rows[at + k + i])
        if block == 0:
            continue
        length = shard.pool[block + BLOCK_LENGTH]
        to = out.used[OUT_ITEM_TEXT]
        for b in range(length):
            out.item_text[to + b] = (shard.pool[block + BLOCK_BYTES + (b >> 3)] >> (8 * (b & 7))) & 0xFF
        out.items[item + count] = (to << 8) | length
        out.used[OUT_ITEM_TEXT] = to + length
        count += 1
    out.used[OUT_ITEMS] = item + count
    return count


@inline
def _lists_products(plan: Plan, s: int) -> bool:
    return bool(
        plan.streams[s, STREAM_FLAGS] & STREAM_FLAG_NAMES != 0
        and plan.streams[s, STREAM_KIND] == DISTINCT
        and plan.streams[s, STREAM_BY] == BY_NONE
    )


@inline
def names_words(shard: Shard, plan: Plan, base: int) -> int:
    """How many words write_names will write."""
    words = 1
    for s in range(len(plan.streams)):
        if _lists_products(plan, s):
            at = base + plan.streams[s, STREAM_OFFSET]
            k = plan.streams[s, STREAM_K]
            for i in range(k):
                if shard.rows[at + i] != 0:
                    block = find_name(shard, shard.rows[at + k + i])
                    if block != 0:
                        words += 2 + _words_of(shard.pool[block + BLOCK_LENGTH])
    return words


@inline
def write_names(shard: Shard, plan: Plan, base: int, history: Array, at: int) -> int:
    """Write the names of the products in a row's lists to history[at:]; where they end."""
    count = at
    history[count] = 0
    at += 1
    for s in range(len(plan.streams)):
        if _lists_products(plan, s):
            entry = base + plan.streams[s, STREAM_OFFSET]
            k = plan.streams[s, STREAM_K]
            for i in range(k):
                if shard.rows[entry + i] != 0:
                    block = find_name(shard, shard.rows[entry + k + i])
                    if block != 0:
                        words = 2 + _words_of(shard.pool[block + BLOCK_LENGTH])
                        for w in range(words):
                            history[at + w] = shard.pool[block + w]
                        at += words
                        history[count] += 1
    return at


@inline
def read_names(shard: Shard, history: Array, at: int) -> int:
    """Learn the names that write_names wrote at history[at:]; where they end."""
    count = history[at]
    at += 1
    for _ in range(count):
        length = history[at + BLOCK_LENGTH]
        if find_name(shard, history[at + BLOCK_HASH]) == 0:
            block = _new_name(shard, history[at + BLOCK_HASH], length)
            if block != 0:
                for w in range(_words_of(length)):
                    shard.pool[block + BLOCK_BYTES + w] = history[at + BLOCK_BYTES + w]
        at += BLOCK_BYTES + _words_of(length)
    return at
