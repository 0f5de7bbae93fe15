"""Window entries against their naive twins: late and equal times, any order, joined in any order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue_kernels import plan, record, row
from segue_kernels.jit import kernel
from segue_kernels.windows import (
    SESSION_REACH_MS,
    add_decayed,
    add_first,
    add_left,
    add_to_session,
    decayed_weight,
    find_left,
    join_stream,
    remove_left,
)
from tests.kernels import naive
from tests.kernels.drivers import (
    START_MS,
    Words,
    add,
    add_to_key,
    entry_words,
    forget_keys,
    join,
    locate,
    meta,
    quick,
    stream,
    tables,
)
from tests.kernels.feeding import Fed

Added = list[tuple[int, int]]

KINDS = (plan.COUNT, plan.SUM, plan.TUMBLE_COUNT, plan.TUMBLE_SUM, plan.DISTINCT, plan.TUMBLE_DISTINCT)
CANARY = -77
WIDTH = 10
# few times and values: equal ones are common
ADDED = st.lists(st.tuples(st.integers(1, 60), st.integers(-5, 5).map(lambda v: v or 9)), max_size=25)
K = st.integers(1, 6)


def empty(kind: int, k: int) -> Words:
    """An entry at word 2 with a guard on both sides."""
    words = np.zeros(entry_words(kind, k) + 4, np.int64)
    words[[0, 1, -2, -1]] = CANARY
    return words


def entry_of(kind: int, k: int, added: Added, after: Sequence[int] = ()) -> tuple[Words, int]:
    words = empty(kind, k)
    cut = 0
    for n, (time, value) in enumerate(added):
        given_value = 1 if kind == plan.TUMBLE_COUNT else value
        cut += add(words, 2, kind, k, WIDTH, time, given_value, after[n] if after else 0)
    assert words[[0, 1, -2, -1]].tolist() == [CANARY] * 4
    return words, cut


def holds(kind: int, k: int, words: Words, added: Added) -> None:
    """The entry says what its twin says of the same additions."""
    found = words[2:-2].tolist()
    if kind == plan.COUNT:
        assert found == naive.count_entry([time for time, _ in added], k)
    elif kind == plan.SUM:
        assert found == naive.sum_entry(added, k)
    elif kind == plan.TUMBLE_COUNT:
        assert found == naive.tumble_count_entry([time for time, _ in added], WIDTH)
    elif kind == plan.TUMBLE_SUM:
        assert found == naive.tumble_sum_entry(added, WIDTH)
    elif kind == plan.DISTINCT:
        assert found == naive.distinct_entry(added, k)
    else:
        expected = naive.tumble_distinct_entry(added, k, WIDTH)
        of_window = {key for time, key in added if time // WIDTH * WIDTH == expected[0]}
        keys = found[2 : 2 + found[1]]
        assert found[:2] == expected[:2]
        assert len(set(keys)) == len(keys)
        assert set(keys) <= of_window


@pytest.mark.parametrize("kind", KINDS)
@quick(150)
@given(k=K, added=ADDED)
def test_an_entry_holds_what_its_twin_says(kind: int, k: int, added: Added) -> None:
    # window 0 begins at 0, which means none: event times are this century's
    added = [(time + WIDTH, value) for time, value in added]
    words, _ = entry_of(kind, k, added)
    holds(kind, k, words, added)
    if kind == plan.TUMBLE_DISTINCT:
        start, n = words[2:4].tolist()
        assert [start, n, *words[4 : 4 + n].tolist()] == naive.tumble_distinct_entry(added, k, WIDTH)[: 2 + n]


@quick(150)
@given(k=K, added=ADDED, moving=st.lists(st.integers(0, 60), min_size=25, max_size=25))
def test_what_a_sum_cuts_is_counted(k: int, added: Added, moving: list[int]) -> None:
    after = sorted(moving)[: len(added)]
    _, cut = entry_of(plan.SUM, k, added, after)
    assert cut == naive.sum_cuts(added, k, after)


@pytest.mark.parametrize("kind", KINDS)
@quick(150)
@given(k=K, parts=st.tuples(ADDED, ADDED, ADDED), data=st.data())
def test_joining_is_a_union_in_any_order(
    kind: int, k: int, parts: tuple[Added, Added, Added], data: st.DataObject
) -> None:
    parts = tuple([(time + WIDTH, value) for time, value in part] for part in parts)  # type: ignore[assignment]
    first, second, third = (entry_of(kind, k, list(part))[0] for part in data.draw(st.permutations(parts)))
    together = [pair for part in parts for pair in part]
    left = first.copy()  # (first + second) + third
    for other in (second, third):
        join(left, 2, other, 2, kind, k, WIDTH if kind >= plan.TUMBLE_COUNT else 0, 100)
    right = second.copy()  # first + (second + third)
    join(right, 2, third, 2, kind, k, WIDTH if kind >= plan.TUMBLE_COUNT else 0, 100)
    whole = first.copy()
    join(whole, 2, right, 2, kind, k, WIDTH if kind >= plan.TUMBLE_COUNT else 0, 100)
    for words in (left, whole):
        assert words[[0, 1, -2, -1]].tolist() == [CANARY] * 4
        holds(kind, k, words, together)
    if kind != plan.TUMBLE_DISTINCT:
        assert left.tolist() == whole.tolist()


@quick(100)
@given(k=K, added=ADDED)
def test_a_full_count_answers_every_window(k: int, added: Added) -> None:
    words, _ = entry_of(plan.COUNT, k, added)
    now = 60
    for window in (0, 1, 7, 30, 60):
        seen = naive.count_in_window([time for time, _ in added], now, window)
        kept = [time for time in words[2:-2].tolist() if time]
        assert naive.count_in_window(kept, now, window) == min(seen, k)


@quick(100)
@given(k=K, added=ADDED, later=st.integers(0, 70))
def test_distinct_saturates_whatever_ties_it_cut(k: int, added: Added, later: int) -> None:
    words, _ = entry_of(plan.DISTINCT, k, added)
    for window in (1, 7, 30, 70):
        seen = sum(time > later - window for time in naive.last_times(added).values())
        kept = sum(time > later - window and time != 0 for time in words[2 : 2 + k].tolist())
        assert kept == min(seen, k)


# --- decayed sums, first events, sessions, unmatched left events --------------------------------------


GAP = 5
HALF_LIFE = 16
MOMENTS = st.integers(1, 150)
IDS = st.integers(-2, 2)


@kernel
def add_new(words: Words, at: int, kind: int, k: int, time: int, value: int, high: int, now: int) -> int:
    if kind == plan.DECAY:
        add_decayed(words, at, time // HALF_LIFE + 1, decayed_weight(value, SCALE, HALF_LIFE, time))
    elif kind == plan.FIRST:
        add_first(words, at, time, value)
    elif kind == plan.SESSIONS:
        return add_to_session(words, at, k, GAP, time, now)
    else:
        return add_left(words, at, k, time, value, high)
    return 0


@kernel
def take_left(words: Words, at: int, k: int, after: int, time: int) -> int:
    which = find_left(words, at, k, after, time)
    if which < 0:
        return 0
    found = words[at + which]
    remove_left(words, at, k, which)
    return found


SCALE = plan.DECAY_MONEY_SCALE
NEW_KINDS = (plan.DECAY, plan.FIRST, plan.SESSIONS, plan.LEFT)
Triple = tuple[int, int, int]


def new_entry(kind: int, k: int, added: Sequence[Triple]) -> Words:
    words = empty(kind, k)
    for time, value, high in added:
        add_new(words, 2, kind, k, time, value, high, time)
    assert words[[0, 1, -2, -1]].tolist() == [CANARY] * 4
    return words


def twin_of(kind: int, k: int, added: Sequence[Triple]) -> list[int]:
    if kind == plan.DECAY:
        return naive.decay_entry([(time, value) for time, value, _ in added], HALF_LIFE, SCALE)
    if kind == plan.FIRST:
        return naive.first_entry((time, value) for time, value, _ in added)
    if kind == plan.SESSIONS:
        return naive.sessions_entry((time for time, _, _ in added), k, GAP)
    return naive.left_entry(added, k)


@pytest.mark.parametrize("kind", NEW_KINDS)
@quick(200)
@given(
    k=K,
    parts=st.lists(st.lists(st.tuples(MOMENTS, IDS, IDS), max_size=10), min_size=1, max_size=3),
    data=st.data(),
)
def test_any_order_of_adding_and_joining_gives_the_same(
    kind: int, k: int, parts: list[list[Triple]], data: st.DataObject
) -> None:
    together = [event for part in parts for event in part]
    if kind == plan.SESSIONS:
        k = 30  # nothing is cut: what a bound cuts is another matter
    expected = twin_of(kind, k, together)
    added = new_entry(kind, k, data.draw(st.permutations(together)))
    assert added[2:-2].tolist() == expected
    entries = [new_entry(kind, k, part) for part in data.draw(st.permutations(parts))]
    while len(entries) > 1:
        other = entries.pop(data.draw(st.integers(1, len(entries) - 1)))
        join(entries[0], 2, other, 2, kind, k, GAP if kind == plan.SESSIONS else 0, 150)
        entries.append(entries.pop(0))
    assert entries[0].tolist() == added.tolist()


@quick(300)
@given(st.lists(st.tuples(st.integers(1, 60_000), st.integers(0, 300_000)), max_size=25), st.integers(2, 8))
def test_sessions_are_exact_or_counted(steps: list[tuple[int, int]], k: int) -> None:
    """Events up to five minutes late: if no cut was counted, all but sessions that no event can reach are there."""
    gap = 20_000
    words = empty(plan.SESSIONS, k)
    now, cut = 10_000_000, 0
    times: list[int] = []
    for step, late in steps:
        now += step
        times.append(now - late)
        cut += add_session(words, 2, k, gap, now - late, now)
    if cut == 0:
        found = [(start, end) for start, end in words[3:-2].reshape(k, 2).tolist() if start]
        expected = naive.sessions(times, gap)
        assert found == expected[: len(found)]
        assert bool(found) == bool(times)
        missing = expected[len(found) : k]
        assert all(end + gap < now - SESSION_REACH_MS for _, end in missing)


@kernel
def add_session(words: Words, at: int, k: int, gap: int, time: int, now: int) -> int:
    return add_to_session(words, at, k, gap, time, now)


def test_a_late_event_joins_two_sessions_and_the_closed_end_stays() -> None:
    words = new_entry(plan.SESSIONS, 3, [(100, 0, 0), (110, 0, 0), (120, 0, 0)])
    words[2] = 100
    add_new(words, 2, plan.SESSIONS, 3, 115, 0, 0, 120)
    assert words[2:-2].tolist() == [100, 110, 120, 100, 100, 0, 0]
    other = new_entry(plan.SESSIONS, 3, [(105, 0, 0)])
    other[2] = 99
    join(words, 2, other, 2, plan.SESSIONS, 3, GAP, 120)
    assert words[2:-2].tolist() == [100, 100, 120, 0, 0, 0, 0]


def test_cut_sessions_and_left_events_are_counted() -> None:
    words = new_entry(plan.SESSIONS, 1, [(100, 0, 0)])
    reach = SESSION_REACH_MS
    assert add_new(words, 2, plan.SESSIONS, 1, 106 + reach, 0, 0, 106 + reach) == 0  # out of reach
    assert add_new(words, 2, plan.SESSIONS, 1, 112 + reach, 0, 0, 112 + reach) == 1
    words = new_entry(plan.LEFT, 2, [(10, 1, 1), (20, 1, 1)])
    assert add_new(words, 2, plan.LEFT, 2, 30, 1, 1, 30) == 10
    assert add_new(words, 2, plan.LEFT, 2, 15, 1, 1, 30) == 15  # itself
    other = new_entry(plan.LEFT, 2, [(25, 1, 1), (26, 1, 1)])
    assert join(words, 2, other, 2, plan.LEFT, 2, 10, 30) == 1  # 25 is in the window of ten, 20 is not
    assert words[2:-2].tolist() == [30, 26, 1, 1, 1, 1]


@quick(200)
@given(
    k=K,
    added=st.lists(st.tuples(MOMENTS, IDS, IDS), max_size=8),
    asked=st.lists(st.tuples(MOMENTS, MOMENTS), max_size=8),
)
def test_the_greatest_left_entry_is_taken_out(
    k: int, added: list[Triple], asked: list[tuple[int, int]]
) -> None:
    words = new_entry(plan.LEFT, k, added)
    kept = sorted(added, reverse=True)[:k]
    for time, within in asked:
        inside = [entry for entry in kept if time - within < entry[0] <= time]
        expected = max(inside, default=(0, 0, 0))
        if inside:
            kept.remove(expected)
        assert take_left(words, 2, k, time - within, time) == expected[0]
        assert words[2:-2].tolist() == naive.left_entry(kept, k)
        assert words[[0, 1, -2, -1]].tolist() == [CANARY] * 4


@quick(100)
@given(st.lists(st.tuples(st.integers(1, 75), st.integers(-1_000, 10**15)), min_size=1, max_size=12))
def test_a_decayed_sum_halves_with_each_half_life(added: list[tuple[int, int]]) -> None:
    """The law of policy/ir.py: what the integer sums say is what exact weights say, to a part of a unit an event."""
    entry = new_entry(plan.DECAY, 1, [(time, value, 0) for time, value in added])[2:-2].tolist()
    newest, now = entry[0] - 1, 75
    total = 0.0
    for age, part in enumerate(entry[1:]):
        total += part * math.exp2(-age)
    found = total * math.exp2((newest * HALF_LIFE - now) / HALF_LIFE) / SCALE
    exact = sum(value * 2.0 ** ((time - now) / HALF_LIFE) for time, value in added)
    size = sum(abs(value) for _, value in added)
    assert abs(found - exact) <= len(added) / SCALE + 1e-12 * size


# --- raw events through update_streams -----------------------------------------------------------------


WEB, SHOP = 11, 12
EUR, USD = 978, 840
RAW = (
    stream(plan.COUNT, k=4, window_ms=50, source=WEB),
    stream(plan.DECAY, k=1, window_ms=0, width_ms=HALF_LIFE),
    stream(plan.DECAY, k=1, window_ms=0, width_ms=HALF_LIFE, field=record.AMOUNT, currency=EUR),
    stream(plan.DECAY, k=1, window_ms=0, width_ms=HALF_LIFE, field=plan.FIELD_QUANTITY, source=SHOP),
    stream(plan.FIRST, k=1, window_ms=0),
    stream(plan.FIRST, k=1, window_ms=0, field=record.PRICE, currency=EUR),
    stream(plan.SESSIONS, k=8, window_ms=GAP, width_ms=GAP),
    stream(plan.LEFT, k=3, window_ms=50, source=WEB, field=7),
    stream(plan.DISTINCT, k=3, window_ms=0, field=record.PRODUCT),
)
KEYED = (
    stream(plan.DECAY, by=plan.BY_PRODUCT, k=1, window_ms=0, width_ms=HALF_LIFE, slots=1),
    stream(plan.FIRST, by=plan.BY_PRODUCT, k=1, window_ms=0, field=record.PRICE, slots=1),
)
RAW_EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "time": st.integers(1, 60).map(lambda time: START_MS + time),
            "source": st.sampled_from((0, WEB, SHOP)),
            "currency": st.sampled_from((EUR, USD)),
            "flags": st.sampled_from(
                (0, record.FLAG_HAS_PRICE, record.FLAG_HAS_AMOUNT | record.FLAG_HAS_PRICE)
            ),
            "price": st.integers(1, 5),
            "amount": st.integers(-5, 5),
            "quantity": st.integers(0, 3),
            "product": st.integers(0, 4),
            "zone": st.just(1 << 20),  # the bits above the quantity are somebody else's
        }
    ),
    max_size=12,
)


@quick(150)
@given(RAW_EVENTS)
def test_raw_events_enter_the_streams_that_take_them(events: list[dict[str, int]]) -> None:
    fed = Fed(tables(RAW + KEYED))
    events = [
        {**event, "message": n + 1, "quantity": event["quantity"] | event["zone"]}
        for n, event in enumerate(events)
    ]
    fed.feed(*events)
    clocks = list(itertools.accumulate((event["time"] for event in events), max))
    pairs = list(zip(events, clocks, strict=True))
    web = [e for e, now in pairs if e["source"] == WEB and e["time"] > now - 50]
    assert fed.entry(0) == naive.count_entry([e["time"] for e in web], 4)
    count, money = plan.DECAY_COUNT_SCALE, plan.DECAY_MONEY_SCALE
    assert fed.entry(1) == naive.decay_entry([(e["time"], 1) for e in events], HALF_LIFE, count)
    paid = [
        (e["time"], e["amount"])
        for e in events
        if e["currency"] == EUR and e["flags"] & record.FLAG_HAS_AMOUNT
    ]
    assert fed.entry(2) == naive.decay_entry(paid, HALF_LIFE, money)
    pieces = [(e["time"], e["quantity"] & 0xFFFFF) for e in events if e["source"] == SHOP]
    assert fed.entry(3) == naive.decay_entry(pieces, HALF_LIFE, count)
    assert fed.entry(4) == naive.first_entry((e["time"], 1) for e in events)
    priced = [e for e in events if e["flags"] & record.FLAG_HAS_PRICE]
    in_euro = [(e["time"], e["price"]) for e in priced if e["currency"] == EUR]
    assert fed.entry(5) == naive.first_entry(in_euro)
    if len(naive.sessions((e["time"] for e in events), GAP)) <= 8:
        session_entry = naive.sessions_entry((e["time"] for e in events), 8, GAP)
        assert fed.entry(6) == session_entry or meta(fed.state, row.COUNT_SESSION_BOUND_MET) > 0
    assert fed.entry(7) == naive.left_entry([(e["time"], e["message"], 0) for e in web], 3)
    seen = [(e["time"], e["product"]) for e in events if e["product"]]
    assert fed.entry(8) == naive.distinct_entry(seen, 3)
    for product in range(1, 5):
        times = [(e["time"], 1) for e in events if e["product"] == product]
        assert keyed_entry(fed, len(RAW), product) == naive.decay_entry(times, HALF_LIFE, count)
        prices = [(e["time"], e["price"]) for e in priced if e["product"] == product]
        assert keyed_entry(fed, len(RAW) + 1, product) == naive.first_entry(prices)


def keyed_entry(fed: Fed, s: int, key: int) -> list[int]:
    """The entry of a key, zeros if there is none."""
    words = int(fed.plan.streams[s, plan.STREAM_ENTRY_WORDS])
    at = locate(fed.state.arrays, fed.plan.streams, 0, 0, s, key, START_MS + 60)
    found: list[int] = fed.state.arrays.rows[at : at + words].tolist() if at >= 0 else [0] * words
    return found


@quick(100)
@given(
    st.lists(st.integers(1, 40), max_size=12), st.lists(st.integers(1, 40), max_size=6), st.integers(0, 30)
)
def test_what_a_sequence_loses_is_counted(times: list[int], joined: list[int], window: int) -> None:
    made = tables([stream(plan.COUNT, k=3, window_ms=window, flags=plan.STREAM_FLAG_SEQUENCE)])
    fed, other = Fed(made), Fed(made)
    fed.feed(*({"time": START_MS + time, "message": n + 1} for n, time in enumerate(times)))
    held: list[int] = []
    lost = 0
    now = START_MS
    for time in times:
        now = max(now, START_MS + time)
        after = now - window if window else 0
        if START_MS + time > after:
            held = sorted([*held, START_MS + time], reverse=True)
            lost += int(len(held) > 3 and held.pop() > after)
    assert fed.entry(0) == naive.count_entry(held, 3)
    assert meta(fed.state, row.COUNT_SEQUENCE_BOUND_MET) == lost
    other.feed(*({"time": START_MS + time, "message": n + 1} for n, time in enumerate(joined)))
    brought = [time for time in other.entry(0) if time]
    now = max([now, *brought])
    for time in brought:
        held = sorted([*held, time], reverse=True)
        lost += int(len(held) > 3 and held.pop() > (now - window if window else 0))
    words = np.array(other.entry(0), np.int64)
    join_into(fed.state.arrays, fed.plan.streams, 0, plan.HEADER_WORDS, words, 0, now)
    assert fed.entry(0) == naive.count_entry(held, 3)
    assert meta(fed.state, row.COUNT_SEQUENCE_BOUND_MET) == lost


@kernel
def join_into(shard: Any, streams: Words, s: int, at: int, other: Words, other_at: int, now: int) -> None:
    join_stream(shard, streams, s, at, other, other_at, now)


def test_joined_streams_count_the_bounds_they_meet() -> None:
    kinds = (plan.SUM, plan.SESSIONS, plan.LEFT)
    made = tables([stream(kind, k=1, window_ms=100, width_ms=GAP) for kind in kinds])
    fed = Fed(made)
    counters = (row.COUNT_SUM_BOUND_MET, row.COUNT_SESSION_BOUND_MET, row.COUNT_JOIN_BOUND_MET)
    for s, counter in enumerate(counters):
        at = int(fed.plan.streams[s, plan.STREAM_OFFSET])
        for time in (START_MS + 10, START_MS + 30, START_MS + 20):
            entry = {plan.SUM: [time, 1], plan.SESSIONS: [0, time, time], plan.LEFT: [time, 1, 1]}[kinds[s]]
            join_into(fed.state.arrays, fed.plan.streams, s, at, np.array(entry, np.int64), 0, START_MS + 30)
        assert meta(fed.state, counter) == 2


def test_forgetting_keys_spares_only_what_was_sent() -> None:
    types = (plan.SENT_TYPE, plan.JOIN_TYPE)
    streams = [stream(plan.COUNT, by=plan.BY_PRODUCT, k=1, window_ms=0, slots=1, type=kind) for kind in types]
    fed = Fed(tables(streams))
    for key in (1, 2):
        for s in (0, 1):
            add_to_key(fed.state.arrays, fed.plan.streams, 0, 0, s, key, START_MS, START_MS)
    assert meta(fed.state, row.SPILL_LIVE) == 2
    forget_keys(fed.state.arrays, fed.plan.streams, 0, False)
    assert meta(fed.state, row.SPILL_LIVE) == 1
    assert locate(fed.state.arrays, fed.plan.streams, 0, 0, 0, 1, START_MS) >= 0
