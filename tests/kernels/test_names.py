"""Names of products: known once seen, carried with a customer's lists, left out where they found no room."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue import limits
from segue.reference.world import ReferenceWorld, empty_world
from segue_kernels import plan, record, row
from segue_kernels.jit import kernel
from segue_kernels.names import (
    NAMES_USED,
    find_name,
    list_items,
    names_words,
    note_name,
    read_names,
    write_names,
)
from segue_kernels.shard import OUT_ITEM_TEXT, OUT_ITEMS, Scratch
from tests.kernels.drivers import START_MS, TYPE_A, Bytes, Words, quick, stream, tables
from tests.kernels.feeding import Fed, small_scratch

LISTED = {"k": 4, "field": record.PRODUCT, "flags": plan.STREAM_FLAG_NAMES}
ODD_PRODUCTS = (*range(-6, 0), *range(1, 8), -(2**63), 2**63 - 1, 1 << 40)
PRODUCTS = st.sampled_from(ODD_PRODUCTS)
NAMES = st.text(max_size=20).map(lambda name: name.encode()[:255] or b"\xff\x80")


@kernel
def learn(world: Any, counts: Words, product: int, text: Bytes, at: int, length: int) -> None:
    note_name(world, counts, product, text, at, length)


@kernel
def span_of(world: Any, product: int) -> int:
    return find_name(world, product)


@kernel
def words_needed(shard: Any, tables: Any, world: Any, base: int) -> int:
    return names_words(shard, tables, world, base)


@kernel
def write(shard: Any, tables: Any, world: Any, base: int, history: Words, at: int) -> int:
    return write_names(shard, tables, world, base, history, at)


@kernel
def read(world: Any, counts: Words, history: Words, at: int) -> int:
    return read_names(world, counts, history, at)


@kernel
def listed(
    shard: Any, tables: Any, scratch: Any, world: Any, out: Any, offer: int, base: int, now: int
) -> int:
    return list_items(shard, tables, scratch, world, out, offer, base, now)


def name_in(world: ReferenceWorld, product: int) -> bytes | None:
    span = span_of(world.arrays, product)
    if span < 0:
        return None
    return world.arrays.name_text[span >> 8 : (span >> 8) + (span & 0xFF)].tobytes()


def names_in(world: ReferenceWorld) -> int:
    return int(world.arrays.name_state[NAMES_USED])


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
    count = listed(fed.state.arrays, fed.plan, scratch, fed.world.arrays, fed.out, offer, fed.base, now)
    assert fed.out.used[OUT_ITEMS] == first + count
    items = fed.out.items[first : first + count].tolist()
    text = fed.out.item_text[: fed.out.used[OUT_ITEM_TEXT]].tobytes()
    return [text[item >> 8 : (item >> 8) + (item & 0xFF)] for item in items]


@quick(100)
@given(
    st.lists(st.tuples(PRODUCTS, NAMES, st.integers(0, 3)), max_size=20),
    st.sampled_from((0, 1, 2, 4, 8, 1 << 22)),
)
def test_a_name_is_the_first_one_heard_of(given_names: list[tuple[int, bytes, int]], most: int) -> None:
    """However the index and the text grow, up to the bound; what is beyond it is counted."""
    world, counts = empty_world(), np.zeros(row.META_WORDS, np.int64)
    known: dict[int, bytes] = {}
    missing = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "PRODUCT_NAMES_MAX", most)
        for product, name, ahead in given_names:
            text = np.frombuffer(b"--" + name, np.uint8)
            world.make_name_room(1 + ahead)
            learn(world.arrays, counts, product, text, 2, len(name))
            if product not in known:
                if len(known) < most:
                    known[product] = name
                else:
                    missing += 1
    for product in ODD_PRODUCTS:
        assert name_in(world, product) == known.get(product)
    assert names_in(world) == len(known)
    assert counts[row.COUNT_NAMES_MISSING] == missing == counts.sum()
    assert world.memory_bytes() - empty_world().memory_bytes() == (
        world.arrays.names.nbytes - empty_world().arrays.names.nbytes + sum(map(len, known.values()))
    )


def test_without_room_a_name_is_missing() -> None:
    world, counts = empty_world(), np.zeros(row.META_WORDS, np.int64)
    learn(world.arrays, counts, 3, np.frombuffer(b"three", np.uint8), 0, 5)
    assert name_in(world, 3) is None
    assert counts[row.COUNT_NAMES_MISSING] == 1


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
    fed = Fed(plan_with([(most, window), (most, plan.WINDOW_DAY)], (plan.WINDOW_DAY,)), row=1)
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
    assert all(name_in(fed.world, product) == product_name(product) for product in times)
    for product in unknown & set(times):
        index = fed.world.arrays.names
        at = 2 * index[::2].tolist().index(product)
        index[at] = 1 << 40  # as if it had found no room
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
    fed, other, counts = Fed(plan_with([]), row=1), empty_world(), np.zeros(row.META_WORDS, np.int64)
    for n, (time, product, _) in enumerate(seen):
        name = product_name(product)
        fed.feed({"time": START_MS + time, "message": n + 1, "product": product, "name": name})
    needed = words_needed(fed.state.arrays, fed.plan, fed.world.arrays, fed.base)
    history = np.full(needed + 4, -77, np.int64)
    assert write(fed.state.arrays, fed.plan, fed.world.arrays, fed.base, history, 2) == needed + 2
    assert history[[0, 1, -2, -1]].tolist() == [-77] * 4
    for _ in range(2):  # twice is as once
        other.make_name_room(4)
        assert read(other.arrays, counts, history, 2) == needed + 2
    listed_products = {product for product in fed.entry(1)[4:] if product}
    for product in range(1, 7):
        assert name_in(other, product) == (product_name(product) if product in listed_products else None)
    assert names_in(other) == len(listed_products) == history[2]
    assert not counts.any()


def test_an_offer_without_a_list_lists_nothing() -> None:
    made = plan_with([(3, 0)])
    made.offers[0, plan.OFFER_ITEMS_STREAM] = -1
    fed = Fed(made)
    fed.feed({"time": START_MS, "message": 1, "product": 3, "name": b"three"})
    assert items_of(fed, small_scratch(fed.plan), 0, START_MS) == []
