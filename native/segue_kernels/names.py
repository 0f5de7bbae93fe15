"""Names of products, for the lists that actions carry: one dictionary a worker, filled as products are seen.

World.names is an open-addressing index (a power of two slots, two words each): product hash (0 = free), offset << 8 |
length of the name in World.name_text. World.name_state says how much of both is in use. Names are never dropped; an
index takes half its slots, whoever adds names makes room first (src/segue/reference/world.py), and a product whose
name finds none is counted each time and left out of lists. Which names a worker knows depends on what it has seen, so
a customer's history carries those of the products he has in lists: [n, n x (hash, length, bytes, eight a word)].
"""

from __future__ import annotations

import numpy as np

from segue_kernels.jit import Array, inline, kernel, outline
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
from segue_kernels.row import COUNT_NAMES_MISSING
from segue_kernels.shard import OUT_ITEM_TEXT, OUT_ITEMS, Out, Plan, Scratch, Shard, World

# a slot of World.names
NAME_PRODUCT = 0
NAME_SPAN = 1
NAME_SLOT_WORDS = 2

# World.name_state
NAMES_USED = 0  # names in the index
NAME_TEXT_USED = 1  # bytes of World.name_text
NAME_STATE_WORDS = 2

# a name in a history
TOLD_PRODUCT = 0
TOLD_LENGTH = 1
TOLD_BYTES = 2


@inline
def _words_of(length: int) -> int:
    return (length + 7) >> 3


@inline
def _slot(names: Array, product: int) -> int:
    """Where the product's slot begins, or the free one where it would."""
    mask = len(names) - 1
    at = (product & (mask >> 1)) * NAME_SLOT_WORDS
    while names[at] != 0 and names[at] != product:
        at = (at + NAME_SLOT_WORDS) & mask
    return at


@inline
def find_name(world: World, product: int) -> int:
    """offset << 8 | length of a product's name in World.name_text, or -1."""
    at = _slot(world.names, product)
    if world.names[at + NAME_PRODUCT] == 0:
        return -1
    span: int = world.names[at + NAME_SPAN]
    return span


@outline
def _new_name(world: World, meta: Array, at: int, product: int, length: int) -> int:
    """Where the bytes of a product's name go that takes the free slot `at`; -1 if the index is full."""
    state = world.name_state
    if 2 * NAME_SLOT_WORDS * (state[NAMES_USED] + 1) > len(world.names):
        meta[COUNT_NAMES_MISSING] += 1
        return -1
    offset: int = state[NAME_TEXT_USED]
    world.names[at + NAME_PRODUCT] = product
    world.names[at + NAME_SPAN] = (offset << 8) | length
    state[NAMES_USED] += 1
    state[NAME_TEXT_USED] = offset + length
    return offset


@outline
def _learn_name(
    world: World, meta: Array, at: int, product: int, text: Array, start: int, length: int
) -> None:
    to = _new_name(world, meta, at, product, length)
    if to >= 0:
        for b in range(length):
            world.name_text[to + b] = text[start + b]


@inline
def note_name(world: World, meta: Array, product: int, text: Array, start: int, length: int) -> None:
    """Keep text[start : start + length] as the name of a product, unless it is known."""
    at = _slot(world.names, product)
    if world.names[at + NAME_PRODUCT] == 0:
        _learn_name(world, meta, at, product, text, start, length)


@kernel
def grow_names(old: Array, names: Array) -> None:
    """Put every name of an index into a larger one (zeros)."""
    for before in range(0, len(old), NAME_SLOT_WORDS):
        if old[before + NAME_PRODUCT] != 0:
            at = _slot(names, old[before + NAME_PRODUCT])
            names[at + NAME_PRODUCT] = old[before + NAME_PRODUCT]
            names[at + NAME_SPAN] = old[before + NAME_SPAN]


@inline
def list_items(
    shard: Shard, plan: Plan, scratch: Scratch, world: World, out: Out, offer: int, base: int, now: int
) -> int:
    """Write the products that an action of this offer lists to Out.items, newest first; how many there are.

    They are the newest of a DISTINCT stream that lie in the window (equal times: greatest hash first); one without
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
        span = find_name(world, shard.rows[at + k + i])
        if span < 0:
            continue
        length = span & 0xFF
        to = out.used[OUT_ITEM_TEXT]
        for b in range(length):
            out.item_text[to + b] = world.name_text[(span >> 8) + b]
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
def names_words(shard: Shard, plan: Plan, world: World, base: int) -> int:
    """How many words write_names will write."""
    words = 1
    for s in range(len(plan.streams)):
        if _lists_products(plan, s):
            at = base + plan.streams[s, STREAM_OFFSET]
            k = plan.streams[s, STREAM_K]
            for i in range(k):
                if shard.rows[at + i] != 0:
                    span = find_name(world, shard.rows[at + k + i])
                    if span >= 0:
                        words += TOLD_BYTES + _words_of(span & 0xFF)
    return words


@inline
def _write_name(world: World, product: int, span: int, history: Array, at: int) -> None:
    length = span & 0xFF
    history[at + TOLD_PRODUCT] = product
    history[at + TOLD_LENGTH] = length
    for w in range(_words_of(length)):
        word = np.int64(0)
        for b in range(min(8, length - w * 8)):
            byte = np.int64(world.name_text[(span >> 8) + w * 8 + b])
            if b == 7:  # the highest byte carries the sign
                byte = (byte ^ 0x80) - 0x80
            word |= byte << (8 * b)
        history[at + TOLD_BYTES + w] = word


@inline
def write_names(shard: Shard, plan: Plan, world: World, base: int, history: Array, at: int) -> int:
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
                    product = shard.rows[entry + k + i]
                    span = find_name(world, product)
                    if span >= 0:
                        _write_name(world, product, span, history, at)
                        at += TOLD_BYTES + _words_of(span & 0xFF)
                        history[count] += 1
    return at


@inline
def read_names(world: World, meta: Array, history: Array, at: int) -> int:
    """Learn the names that write_names wrote at history[at:]; where they end."""
    count = history[at]
    at += 1
    for _ in range(count):
        product = history[at + TOLD_PRODUCT]
        length = history[at + TOLD_LENGTH]
        slot = _slot(world.names, product)
        if world.names[slot + NAME_PRODUCT] == 0:
            to = _new_name(world, meta, slot, product, length)
            if to >= 0:
                for b in range(length):
                    world.name_text[to + b] = (history[at + TOLD_BYTES + (b >> 3)] >> (8 * (b & 7))) & 0xFF
        at += TOLD_BYTES + _words_of(length)
    return at
