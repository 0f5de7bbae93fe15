"""Names of products: known once seen, carried with a customer's lists, left out where they found no room."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue_kernels import plan, record, row
from segue_kernels.jit import kernel
from segue_kernels.names import (
    find_name,
    list_items,
    names_words,
    note_name,
    read_names,
    write_names,
)
from segue_kernels.shard import OUT_ITEM_TEXT, OUT_ITEMS, Scratch
from tests.kernels.drivers import START_MS, TYPE_A, Bytes, Words, meta, quick, stream, tables
from tests.kernels.feeding import Fed, small_scratch

LISTED = {"k": 4, "field": record.PRODUCT, "flags": plan.STREAM_FLAG_NAMES}
NAMES = st.text(max_size=20).map(lambda name: name.encode()[:255] or b"\xff\x80")


@kernel
def learn(shard: Any, product: int, text: Bytes, at: int, length: int) -> None:
    note_name(shard, product, text, at, length)


@kernel
def block_of(shard: Any, product: int) -> int:
    return find_name(shard, product)


@kernel
def words_needed(shard: Any, tables: Any, base: int) -> int:
    return names_words(shard, tables, base)


@kernel
def write(shard: Any, tables: Any, base: int, history: Words, at: int) -> int:
    return write_names(shard, tables, base, history, at)


@kernel
def read(shard: Any, history: Words, at: int) -> int:
    return read_names(shard, history, at)


@kernel
def listed(shard: Any, tables: Any, out: Any, scratch: Any, offer: int, base: int, now: int) -> int:
    return list_items(shard, tables, out, scratch, offer, base, now)


def name_in(fed: Fed, product: int) -> bytes | None:
    block = block_of(fed.state.arrays, product)
    if block == 0:
        return None
    pool = fed.state.arrays.pool
    assert pool[block] == product
    length = int(pool[block + 1])
    return pool[block + 2 : block + 2 + (length + 7) // 8].astype("<i8").tobytes()[:length]


def plan_with(offers: list[tuple[int, int]], windows: tuple[int, ...] = ()) -> Any:
    """A plan with one list of products, and offers of (most, window) of it."""
    rows = np.zeros((len(offers), plan.OFFER_WORDS), np.int64)
    for offer, (most, window) in zip(rows, offers, strict=True):
        offer[plan.OFFER_ITEMS_STREAM] = 1
        offer[plan.OFFER_ITEMS_MAX], offer[plan.OFFER_ITEMS_WINDOW] = most, window
    streams = [
        stream(plan.COUNT, k=2),
        stream(plan.DISTINCT, window_ms=0, **LISTED),
        stream(plan.DISTINCT, k=2, window_ms=0, field=record.CATEGORY),
    ]
    moments = np.zeros((len(windows), plan.MOMENT_WORDS), np.int64)
    moments[:, plan.MOMENT_WINDOW] = windows
    return tables(streams, offers=rows, moments=moments)


def items_of(fed: Fed, scratch: Scratch, offer: int, now: int) -> list[bytes]:
    first = int(fed.out.used[OUT_ITEMS])
    count = listed(fed.state.arrays, fed.plan, fed.out, scratch, offer, fed.base, now)
    assert fed.out.used[OUT_ITEMS] == first + count
    items = fed.out.items[first : first + count].tolist()
    text = fed.out.item_text[: fed.out.used[OUT_ITEM_TEXT]].tobytes()
    return [text[item >> 8 : (item >> 8) + (item & 0xFF)] for item in items]


@quick(100)
@given(st.lists(st.tuples(st.integers(-6, 6).map(lambda p: p or 7), NAMES), max_size=20), st.integers(0, 5))
def test_a_name_is_the_first_one_heard_of(given_names: list[tuple[int, bytes]], bits: int) -> None:
    fed = Fed(plan_with([]), names=1 << bits)
    room = (5 << bits) // 8
    known: dict[int, bytes] = {}
    missing = 0
    for product, name in given_names:
        text = np.frombuffer(b"--" + name, np.uint8)
        learn(fed.state.arrays, product, text, 2, len(name))
        if product not in known:
            if len(known) < room:
                known[product] = name
            else:
                missing += 1
    for product in range(-6, 8):
        assert name_in(fed, product) == known.get(product)
    assert meta(fed.state, row.NAMES_USED) == len(known)
    assert meta(fed.state, row.COUNT_NAMES_MISSING) == missing


SEEN = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 6), st.lists(st.integers(0, 6), max_size=2)), max_size=10
)


def product_name(product: int) -> bytes:
    return b"" if product == 0 else b"product " + bytes([0xE0 + product]) * product


@quick(150)
@given(
    seen=SEEN,
    unknown=st.sets(st.integers(1, 6), max_size=2),
    most=st.integers(1, 5),
    window=st.integers(0, 30),
)
def test_an_action_lists_the_newest_products(
    seen: list[tuple[int, int, list[int]]], unknown: set[int], most: int, window: int
) -> None:
    fed = Fed(plan_with([(most, window), (most, plan.WINDOW_DAY)], (plan.WINDOW_DAY,)), row=1, names=64)
    scratch = small_scratch(fed.plan)
    times: dict[int, int] = {}
    for n, (time, product, lines) in enumerate(seen):
        items = lines if lines else [product]
        fed.feed(
            {
                "time": START_MS + time,
                "type": TYPE_A,
                "message": n + 1,
                "product": product,
                "category": product,
                "name": product_name(product),
                "lines": [{"product": line, "name": product_name(line)} for line in lines],
            }
        )
        for item in items:
            if item:
                times[item] = max(times.get(item, 0), START_MS + time)
    assert all(name_in(fed, product) == product_name(product) for product in times)
    for product in unknown & set(times):
        block = block_of(fed.state.arrays, product)
        fed.state.arrays.pool[block] = 1 << 40  # as if it had found no room
    now = START_MS + 40
    kept = sorted(((time, product) for product, time in times.items()), reverse=True)[:4]
    for offer, after in ((0, now - window if window else 0), (1, START_MS + 20)):
        scratch.location[len(fed.plan.streams)] = START_MS + 20
        inside = [product for time, product in kept if time > after and product not in unknown]
        assert items_of(fed, scratch, offer, now) == [product_name(product) for product in inside[:most]]


@quick(100)
@given(SEEN)
def test_a_history_brings_the_names_of_the_products_listed(
    seen: list[tuple[int, int, list[int]]],
) -> None:
    fed, other = Fed(plan_with([]), row=1, names=64), Fed(plan_with([]), names=16)
    for n, (time, product, _) in enumerate(seen):
        name = product_name(product)
        fed.feed({"time": START_MS + time, "message": n + 1, "product": product, "name": name})
    needed = words_needed(fed.state.arrays, fed.plan, fed.base)
    history = np.full(needed + 4, -77, np.int64)
    assert write(fed.state.arrays, fed.plan, fed.base, history, 2) == needed + 2
    assert history[[0, 1, -2, -1]].tolist() == [-77] * 4
    for _ in range(2):  # twice is as once
        assert read(other.state.arrays, history, 2) == needed + 2
    listed_products = {product for product in fed.entry(1)[4:] if product}
    for product in range(1, 7):
        assert name_in(other, product) == (product_name(product) if product in listed_products else None)
    assert meta(other.state, row.NAMES_USED) == len(listed_products) == history[2]


def test_an_offer_without_a_list_lists_nothing() -> None:
    made = plan_with([(3, 0)])
    made.offers[0, plan.OFFER_ITEMS_STREAM] = -1
    fed = Fed(made, names=16)
    fed.feed({"time": START_MS, "message": 1, "product": 3, "name": b"three"})
    assert items_of(fed, small_scratch(fed.plan), 0, START_MS) == []
