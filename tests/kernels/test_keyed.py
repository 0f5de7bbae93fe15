"""Keyed state against a dict: exact at any number of keys, and nothing leaks.

Slots, spill, reload, expiry and growth of the index are the same to whoever asks.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from segue.limits import LINES_PER_EVENT_MAX
from segue.state.shard import ShardState
from segue_kernels import plan, row
from segue_kernels.index import LOW
from segue_kernels.keyed import SPILL_ENTRY, SPILL_KEY, SPILL_NEXT, SPILL_OWNER, SPILL_PREVIOUS
from segue_kernels.record import FLAG_HAS_LINES, FLAG_IS_LINE
from tests.kernels import naive
from tests.kernels.drivers import (
    DAY_MS,
    START_MS,
    Words,
    add_to_key,
    engine_of,
    forget,
    forget_keys,
    locate,
    meta,
    move,
    quick,
    records_of,
    released,
    state_of,
    stream,
    tables,
)

K = 2
WINDOW = 40
STREAMS = (
    stream(plan.COUNT, by=plan.BY_PRODUCT, k=K, window_ms=WINDOW),
    stream(plan.COUNT, by=plan.BY_CATEGORY, k=K, window_ms=0, slots=1),
    stream(plan.COUNT, by=plan.BY_PRODUCT, k=K, window_ms=WINDOW, type=plan.SENT_TYPE),
)
SENT = 2
ROWS = 3
LATENESS = 5


@dataclass
class Model:
    """All times added for (row, stream, key)."""

    clock: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(ROWS), START_MS))
    times: dict[tuple[int, int, int], list[int]] = field(default_factory=lambda: defaultdict(list))


def spilled_blocks(state: ShardState, which: int) -> list[int]:
    """The blocks of a row's list, with its links checked."""
    pool = state.arrays.pool
    blocks: list[int] = []
    previous, block = 0, int(state.arrays.rows[which * state.row_words + row.SPILL_HEAD])
    while block:
        assert pool[block + SPILL_PREVIOUS] == previous
        assert pool[block + SPILL_OWNER] >> 16 == which
        blocks.append(block)
        previous, block = block, int(pool[block + SPILL_NEXT])
    return blocks


def indexed_blocks(index: Words) -> list[int]:
    return [((entry & LOW) - 1) << 3 for entry in index[index > 0].tolist()]


def entry_at(state: ShardState, at: int) -> list[int]:
    return [] if at < 0 else [time for time in state.arrays.rows[at : at + K].tolist() if time]


class KeyedState(RuleBasedStateMachine):
    """Additions, questions, moves, growth and forgetting in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.state = state_of(STREAMS, lateness_ms=LATENESS)
        self.model = Model()

    @property
    def streams(self) -> Words:
        return self.state.plan.streams

    def ask(self, which: int, s: int, key: int) -> None:
        now = self.model.clock[which]
        base = which * self.state.row_words
        found = entry_at(self.state, locate(self.state.arrays, self.streams, which, base, s, key, now))
        window = STREAMS[s]["window_ms"]
        seen = naive.count_in_window(self.model.times[which, s, key], now, window)
        assert naive.count_in_window(found, now, window) == min(seen, K)
        latest = [time for time in self.model.times[which, s, key] if not window or time > now - window]
        if latest:
            assert found[0] == max(latest)

    @rule(
        which=st.integers(0, ROWS - 1),
        s=st.integers(0, 2),
        keys=st.lists(st.integers(1, 12), min_size=1, max_size=12),
        later=st.sampled_from((0, 0, 1, 5, 20, 100)),
        late=st.sampled_from((0, 0, 3, 30)),
    )
    def add(self, which: int, s: int, keys: list[int], later: int, late: int) -> None:
        self.model.clock[which] += later
        now = self.model.clock[which]
        base = which * self.state.row_words
        self.state.arrays.rows[base + row.CLOCK] = now
        time, window = now - late, STREAMS[s]["window_ms"]
        if window and time <= now - window:
            return  # the engine leaves these out
        for key in keys:
            add_to_key(self.state.arrays, self.streams, which, base, s, key, time, now)
            self.model.times[which, s, key].append(time)

    @rule(which=st.integers(0, ROWS - 1), s=st.integers(0, 2), key=st.integers(1, 13))
    def question(self, which: int, s: int, key: int) -> None:
        self.ask(which, s, key)

    @rule()
    def grow(self) -> None:
        self.state.arrays.meta[row.CLOCK_MAX] = min(self.model.clock.values())
        self.state.grow_spill()

    @rule(steps=st.sampled_from((1, 50, 1_000, 1 << 20)))
    def move_on(self, steps: int) -> None:
        move(self.state.arrays, self.streams, self.state.row_words, LATENESS, steps)

    @rule(which=st.integers(0, ROWS - 1), sent_too=st.booleans())
    @precondition(lambda self: any(self.model.times.values()))
    def forget(self, which: int, sent_too: bool) -> None:
        base = which * self.state.row_words
        if sent_too:
            forget_keys(self.state.arrays, self.streams, base, True)
            self.state.arrays.rows[base + plan.HEADER_WORDS : base + self.state.row_words] = 0
        else:
            forget(self.state.arrays, self.state.plan, base)
        for of in self.model.times:
            if of[0] == which and (sent_too or of[1] != SENT):
                self.model.times[of] = []

    @invariant()
    def a_key_has_one_home(self) -> None:
        arrays, streams = self.state.arrays, self.streams
        spilled: list[int] = []
        for which in range(ROWS):
            blocks = spilled_blocks(self.state, which)
            spilled += blocks
            homes = [
                (int(arrays.pool[b + SPILL_OWNER]) & 0xFFFF, int(arrays.pool[b + SPILL_KEY])) for b in blocks
            ]
            for s, of in enumerate(STREAMS):
                at = which * self.state.row_words + int(streams[s, plan.STREAM_OFFSET]) + 1
                homes += [(s, key) for key in arrays.rows[at : at + of["slots"]].tolist() if key]
            assert len(set(homes)) == len(homes)
        found = indexed_blocks(arrays.spill) + indexed_blocks(arrays.spill_old)
        assert sorted(found) == sorted(spilled)
        assert meta(self.state, row.SPILL_LIVE) == len(spilled)
        assert meta(self.state, row.SPILL_USED) == np.count_nonzero(arrays.spill)
        assert meta(self.state, row.POOL_WORDS_USED) == 8 * len(spilled)  # links and an entry of two

    def teardown(self) -> None:
        for which in range(ROWS):
            for s in range(len(STREAMS)):
                for key in range(1, 14):
                    self.ask(which, s, key)
        for which in range(ROWS):
            forget_keys(self.state.arrays, self.streams, which * self.state.row_words, True)
        assert meta(self.state, row.POOL_WORDS_USED) == 0
        assert meta(self.state, row.SPILL_LIVE) == 0


KeyedState.TestCase.settings = quick(60)
TestKeyedState = KeyedState.TestCase


def test_a_late_key_that_spills_hides_no_newer_one() -> None:
    state = state_of([stream(plan.COUNT, by=plan.BY_PRODUCT, k=K, window_ms=WINDOW, slots=1)])
    now = START_MS
    for key, late in ((1, 0), (2, WINDOW - 10), (3, 0)):  # 1 spills, then 2 with an earlier time
        add_to_key(state.arrays, state.plan.streams, 0, 0, 0, key, now - late, now)
    now += 10  # 2 has passed, 1 has not
    assert entry_at(state, locate(state.arrays, state.plan.streams, 0, 0, 0, 1, now)) == [START_MS]


def test_many_keys_of_one_customer_are_exact() -> None:
    """More keys than the first index has slots, each seen again: every one is reloaded from the spill."""
    keys, made = 3_000, tables([stream(plan.COUNT, by=plan.BY_PRODUCT, k=4, window_ms=0)])
    engine = engine_of(made, rate_per_minute_max=1 << 19)
    for turn in range(3):
        events = [
            {"time": START_MS + turn, "product": key, "message": turn * keys + key}
            for key in range(1, keys + 1)
        ]
        engine.process(released(*records_of(events)))
    state = engine.state
    for key in (1, 2, 1_500, keys):
        at = locate(state.arrays, state.plan.streams, 0, 0, 0, key, START_MS + 2)
        assert state.arrays.rows[at : at + 4].tolist() == [START_MS + 2, START_MS + 1, START_MS, 0]
    assert locate(state.arrays, state.plan.streams, 0, 0, 0, keys + 1, START_MS + 2) == -1
    assert meta(state, row.SPILL_LIVE) == keys - 2
    forget(state.arrays, state.plan, 0)
    assert meta(state, row.POOL_WORDS_USED) == 0


def test_the_largest_entries_spill_and_come_back() -> None:
    k = 1_024
    made = tables([stream(plan.SUM, by=plan.BY_PRODUCT, k=k, window_ms=0, field=plan.FIELD_QUANTITY)])
    engine = engine_of(made, pool_words_per_shard_max=1 << 24)
    times = [START_MS + n for n in range(5)]
    for n, time in enumerate(times):
        events = [
            {"time": time, "product": key, "quantity": key, "message": n * 9 + key} for key in range(1, 6)
        ]
        engine.process(released(*records_of(events)))
        assert meta(engine.state, row.CLOCK_MAX) == time
    state = engine.state
    for key in range(1, 6):
        at = locate(state.arrays, state.plan.streams, 0, 0, 0, key, times[-1])
        assert state.arrays.rows[at : at + 5].tolist() == times[::-1]
        assert state.arrays.rows[at + k : at + k + 6].tolist() == [key] * 5 + [0]
    assert meta(state, row.POOL_WORDS_USED) == 3 * 3_072 + 48  # spilled entries, a ring of 32 ids


def test_one_order_may_spill_in_every_stream_at_once() -> None:
    """512 lines of new products in 24 streams: more than the first index would hold."""
    streams = [stream(plan.COUNT, by=plan.BY_PRODUCT, k=1, window_ms=DAY_MS + n) for n in range(24)]
    engine = engine_of(tables(streams))
    assert len(engine.state.arrays.spill) < 24 * LINES_PER_EVENT_MAX
    for order in range(2):
        header = {"time": START_MS, "message": order + 1, "flags": FLAG_HAS_LINES}
        first = 1 + order * LINES_PER_EVENT_MAX
        lines = [
            {"time": START_MS, "message": order + 1, "flags": FLAG_IS_LINE, "product": first + n}
            for n in range(LINES_PER_EVENT_MAX)
        ]
        engine.process(released(*records_of([header, *lines])))
    assert meta(engine.state, row.SPILL_LIVE) == 24 * (2 * LINES_PER_EVENT_MAX - 2)


def test_the_index_of_spilled_keys_grows_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a larger table is asked for, the one before has long been emptied: eight slots for each new entry."""
    width = 6
    streams = [stream(plan.COUNT, by=plan.BY_PRODUCT, k=1, window_ms=0, currency=n) for n in range(width)]
    engine = engine_of(tables(streams), rate_per_minute_max=1 << 19)
    left: list[int] = []
    grow = engine.state.grow_spill

    def counted(records: int = 1) -> None:
        left.append(len(engine.state.arrays.spill_old) - meta(engine.state, row.SPILL_OLD_POSITION))
        grow(records)

    monkeypatch.setattr(engine.state, "grow_spill", counted)
    for start in range(0, 10_000, 500):
        events = [
            {"time": START_MS, "product": product, "message": product}
            for product in range(start + 1, start + 501)
        ]
        engine.process(released(*records_of(events)))
    assert meta(engine.state, row.SPILL_LIVE) == width * (10_000 - 2)
    assert len(left) >= 3
    assert set(left) == {0}


@quick(30)
@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(0, 3)), min_size=1, max_size=60), st.integers(1, 3)
)
def test_entry_sizes_are_given_back(steps: list[tuple[int, int]], slots: int) -> None:
    """Streams of different widths share the pool; after forgetting, no word is in use."""
    state = state_of([stream(plan.COUNT, by=1, k=k, window_ms=WINDOW, slots=slots) for k in (1, 4, 5, 61)])
    now = START_MS
    for key, s in steps:
        now += key % 3
        add_to_key(state.arrays, state.plan.streams, 0, 0, s, key, now, now)
    forget_keys(state.arrays, state.plan.streams, 0, True)
    assert meta(state, row.POOL_WORDS_USED) == meta(state, row.SPILL_LIVE) == 0
    assert state.arrays.rows[row.SPILL_HEAD] == 0
    assert SPILL_ENTRY == 4
