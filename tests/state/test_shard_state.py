"""A shard's arrays from outside the kernels: what changed, how it grows, what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.decide.engine import ShardEngine
from segue.errors import LimitError
from segue.limits import DEDUPE_IDS_MAX, IDENTIFIER_BYTES_MAX
from segue.state.memory import reserve_words
from segue.state.shard import block_words, event_room
from segue_kernels import plan, record, row
from segue_kernels.customers import find_or_add, sweep
from segue_kernels.shard import STOP_END
from tests.kernels import canonical
from tests.kernels.drivers import (
    DAY_MS,
    START_MS,
    Bytes,
    Words,
    engine_of,
    key_of,
    meta,
    quick,
    records_of,
    released,
    stream,
    tables,
)

MADE = tables(
    [
        stream(plan.COUNT),
        stream(plan.SUM, field=plan.FIELD_QUANTITY, by=plan.BY_PRODUCT, window_ms=0, slots=1),
        stream(plan.DISTINCT, field=record.CATEGORY),
    ]
)
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 5),  # customer
        st.sampled_from((0, 1, 90_000, DAY_MS // 2, 3 * DAY_MS)),  # after the one before
        st.integers(1, 4),  # product and category
        st.integers(1, 12),  # message
    ),
    max_size=30,
)
Events = list[tuple[int, int, int, int]]


def events_of(steps: Events) -> list[dict[str, int]]:
    clock, events = START_MS, []
    for customer, later, key, message in steps:
        clock += later
        events.append(
            {"customer": customer, "time": clock, "product": key, "category": key, "message": message}
        )
    return events


def said(engine: ShardEngine) -> dict[tuple[int, int], dict[str, Any]]:
    """Every customer by identity, as plain data at the shard's clock."""
    state = engine.state
    words = state.arrays.rows.reshape(-1, state.row_words)[: meta(state, row.ROWS_USED)]
    now = max(1, meta(state, row.CLOCK_MAX))
    return {
        (int(of[row.KEY_LO]), int(of[row.KEY_HI])): canonical.of_row(state, which, now)
        for which, of in enumerate(words)
        if of[row.FLAGS] & row.FLAG_IN_USE
    }


@quick(80)
@given(EVENTS, st.data())
def test_changed_rows_are_listed_once_and_are_all_that_changed(steps: Events, data: st.DataObject) -> None:
    engine = engine_of(MADE, retention_ms=2 * DAY_MS, rate_per_minute_max=3)
    state = engine.state
    words = state.arrays.rows.reshape(-1, state.row_words)
    records, text = records_of(events_of(steps))
    at = 0
    while at < len(records):
        size = data.draw(st.integers(1, 9))
        before = words[:16].copy()
        engine.process(released(records[at : at + size], text))
        listed = state.take_dirty().tolist()
        assert len(set(listed)) == len(listed)
        changed = np.flatnonzero((words[:16] != before).any(axis=1)).tolist()
        assert set(changed) <= set(listed)
        for which in set(listed) - set(changed):  # came and went between two deltas
            assert not words[which, row.FLAGS] & row.FLAG_IN_USE
        assert not state.arrays.dirty.any()
        at += size
    assert state.take_dirty().tolist() == []


@quick(80)
@given(EVENTS, st.data())
def test_histories_of_the_changed_rows_are_the_shard(steps: Events, data: st.DataObject) -> None:
    """A shard that is told each delta's rows, the last word on each, says what the first one says."""
    engine = engine_of(MADE, retention_ms=2 * DAY_MS)
    state = engine.state
    records, text = records_of(events_of(steps))
    told: dict[tuple[int, int], np.ndarray | None] = {}
    identity_of: dict[int, tuple[int, int]] = {}
    at = 0
    while at < len(records):
        size = data.draw(st.integers(1, 9))
        engine.process(released(records[at : at + size], text))
        for which in state.take_dirty().tolist():
            words = state.arrays.rows[which * state.row_words : (which + 1) * state.row_words]
            if which in identity_of:
                told[identity_of.pop(which)] = None  # evicted, or told anew below
            if words[row.FLAGS] & row.FLAG_IN_USE:
                identity_of[which] = (int(words[row.KEY_LO]), int(words[row.KEY_HI]))
                told[identity_of[which]] = state.history(which)
        at += size
    restored = engine_of(MADE, retention_ms=2 * DAY_MS)
    kept = {identity: history for identity, history in told.items() if history is not None}
    blank, _ = records_of([{"time": 1} for _ in kept])
    if kept:
        blank[:, [record.CUSTOMER_LO, record.CUSTOMER_HI]] = list(kept)
    row_of = np.zeros(len(kept), np.int64)
    find_or_add(restored.state.arrays, blank, text, row_of, 0, restored.state.words)
    for which, history in zip(row_of.tolist(), kept.values(), strict=True):
        restored.state.join(which, history, 1)
    restored.state.arrays.meta[row.CLOCK_MAX] = meta(state, row.CLOCK_MAX)
    assert said(restored) == said(engine)


def rows_of(engine: ShardEngine, records: Words, text: Bytes) -> Words:
    """Each record's row, found or made as a run does."""
    found = np.empty(len(records), np.int64)
    position = 0
    while True:
        state = engine.state
        position, stop = find_or_add(state.arrays, records, text, found, position, state.words)
        if stop == STOP_END:
            return found
        engine.make_room(stop)


def test_growing_does_not_pause() -> None:
    """Customers of the last batches cost no more than those of the first: the table's size does not show.

    Counted, not timed: slots moved and tables finished at once, while 300,000 customers come.
    """
    customers, size = 300_000, 1_000
    engine = engine_of(tables([stream(plan.COUNT)]), customers_per_shard_max=1 << 19)
    state = engine.state
    at_once = []
    moved = []
    for start in range(0, customers, size):
        events = [{"time": START_MS, "customer": n} for n in range(start, start + size)]
        old, position = state.arrays.index_old, meta(state, row.INDEX_OLD_POSITION)
        records, text = records_of(events)
        rows_of(engine, records, text)
        if state.arrays.index_old is old:
            moved.append(meta(state, row.INDEX_OLD_POSITION) - position)
        else:
            # at most this batch's own share was still to do
            at_once.append(len(old) - position)
    assert state.customers == customers
    assert max(moved) <= 8 * size
    assert max(at_once) <= 8 * size
    assert len(state.arrays.index) == 1 << 19
    assert sorted(rows_of(engine, records, text).tolist()) == list(range(customers - size, customers))


def test_memory_of_a_customer() -> None:
    """A row, four ids in their ring, its share of the index: nothing else."""
    engine = engine_of(tables([stream(plan.COUNT, k=8)]), customers_per_shard_max=1 << 15)
    state = engine.state
    before = state.memory_bytes()
    customers = 20_000
    events = [{"time": START_MS, "customer": n, "message": n + 1} for n in range(customers)]
    engine.process(released(*records_of(events)))
    each = (state.memory_bytes() - before) / customers
    ring = 8 * 8
    index = 8 * (1 << 15) * 1.5 / customers  # this table and the one before it
    assert state.row_words * 8 + 5 + ring <= each <= state.row_words * 8 + 5 + ring + index


def test_the_pages_of_a_reservation_exist_once_they_are_touched() -> None:
    with open("/proc/self/statm") as file:
        before = int(file.read().split()[1])
    words = reserve_words(1 << 30, "a test")
    words[0] = words[-1] = 1
    with open("/proc/self/statm") as file:
        after = int(file.read().split()[1])
    assert words[0] == words[-1] == 1
    assert not words[1:4_096].any()
    assert (after - before) * 4_096 < 64 << 20  # of eight GiB


def test_a_refused_reservation_is_said_plainly() -> None:
    with pytest.raises(LimitError, match="GiB of address space for a test"):
        reserve_words(1 << 57, "a test")


def test_full_shards_are_said_plainly() -> None:
    engine = engine_of(MADE, customers_per_shard_max=3)
    with pytest.raises(LimitError, match="rows for customers"):
        engine.process(released(*records_of([{"time": START_MS, "customer": n} for n in range(4)])))
    engine = engine_of(MADE, pool_words_per_shard_max=64)
    with pytest.raises(LimitError, match="pool"):
        engine.process(released(*records_of([{"time": START_MS, "customer": n} for n in range(4)])))


def test_evicted_rows_are_listed_too() -> None:
    engine = engine_of(MADE, retention_ms=DAY_MS)
    state = engine.state
    engine.process(released(*records_of([{"time": START_MS, "customer": 0}])))
    assert state.take_dirty().tolist() == [0]
    engine.process(released(*records_of([{"time": START_MS + 9 * DAY_MS, "customer": 1, "message": 7}])))
    sweep(state.arrays, state.plan, state.words, 5)
    assert sorted(state.take_dirty().tolist()) == [0, 1]
    assert state.customers == 1
    assert said(engine).keys() == {key_of(1)}


def test_the_room_of_an_event_counts_what_can_spill() -> None:
    ring = 4 * DEDUPE_IDS_MAX + block_words(-(-IDENTIFIER_BYTES_MAX // 8))  # and a name
    assert event_room(_plan([stream(plan.COUNT)])) == (0, 0, ring, 0)
    keyed = [stream(plan.COUNT, by=1, k=4), stream(plan.COUNT, by=2, k=60)]
    assert event_room(_plan(keyed)) == (0, 2, ring, 8 + 64)
    other_type = [*keyed, stream(plan.COUNT, by=1, k=4, type=9)]
    assert event_room(_plan(other_type)) == event_room(_plan(keyed))


def test_old_tables_are_let_go_once_they_are_empty() -> None:
    """Customers, and a product of each that spills, until both tables have grown; then batches that add nothing."""
    streams = [stream(plan.COUNT, by=plan.BY_PRODUCT, window_ms=0, slots=1)]
    engine = engine_of(tables(streams))
    state = engine.state
    sizes = set()
    for start in range(0, 2_000, 40):
        events = [
            {"time": START_MS, "customer": n, "product": product, "message": 2 * n + product}
            for n in range(start, start + 40)
            for product in (1, 2)
        ]
        engine.process(released(*records_of(events)))
        arrays = state.arrays
        for old, position in (
            (arrays.index_old, meta(state, row.INDEX_OLD_POSITION)),
            (arrays.spill_old, meta(state, row.SPILL_OLD_POSITION)),
        ):
            sizes.add(len(old))
            assert len(old) == position == 1 or position < len(old)
    assert len(sizes) > 2
    assert len(state.arrays.index_old) == len(state.arrays.spill_old) == 1
    assert meta(state, row.SPILL_LIVE) == state.customers == 2_000


def test_a_table_of_nothing_takes_no_memory() -> None:
    engine = engine_of(tables([stream(plan.COUNT, by=plan.BY_PRODUCT, slots=1)]))
    state = engine.state
    before = state.memory_bytes()
    assert before < state.arrays.wheel.nbytes + 1_000
    engine.process(released(*records_of([{"time": START_MS, "product": 1}])))
    one = state.row_words * 8 + 5 + 8 * 8
    assert state.memory_bytes() == before + one + state.arrays.index.nbytes
    engine.process(released(*records_of([{"time": START_MS, "product": 2, "message": 9}])))
    assert (
        state.memory_bytes() == before + one + 8 * 8 + state.arrays.index.nbytes + state.arrays.spill.nbytes
    )


def _plan(streams: list[dict[str, int]]) -> Any:
    return engine_of(tables(streams)).state.plan
