"""Saved rows against what a row reaches, read block by block in plain Python; put back, and under another layout."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.decide.engine import ShardEngine
from segue.errors import LimitError
from segue.routing.packet import CLOCK_END
from segue.state.delta import ShardDelta, merge_deltas, read_rest
from segue.state.shard import ShardState
from segue_kernels import plan, record, row
from segue_kernels.jit import kernel
from segue_kernels.keyed import SPILL_ENTRY, SPILL_KEY, SPILL_NEXT, SPILL_OWNER, find_spilled
from segue_kernels.names import NAME_SLOT_WORDS
from segue_kernels.shard import (
    LOG_CANDIDATES,
    LOG_DECISION_HI,
    LOG_DECISION_LO,
    LOG_FIRED_COUNT,
    LOG_NOW,
    LOG_SLOT,
    LOG_WINNER,
    SPAN_SEQUENCE,
)
from segue_kernels.waits import WAIT_NEXT, WAIT_SHAPE
from tests.kernels import canonical
from tests.kernels import naive_timers as timed
from tests.kernels.drivers import (
    DAY_MS,
    START_MS,
    Bytes,
    Words,
    engine_of,
    find,
    key_of,
    meta,
    name_of,
    quick,
    records_of,
    released,
    stream,
    tables,
)
from tests.kernels.test_fire import STEPS, events_of, rows_of
from tests.kernels.test_redirect import resolve_all

NAMES = [b"customer-%d" % n * (1 + 2 * n) for n in range(8)]
PRODUCT_NAMES = [b"", *(b"product-%d" % n * n for n in range(1, 6))]
KEYED = tables(
    [
        stream(plan.COUNT),
        stream(plan.SUM, field=plan.FIELD_QUANTITY, by=plan.BY_PRODUCT, window_ms=0, slots=1),
        stream(plan.COUNT, by=plan.BY_PRODUCT, window_ms=DAY_MS, slots=1),
        stream(plan.DISTINCT, field=record.PRODUCT, flags=plan.STREAM_FLAG_NAMES),
    ]
)
TIMED = timed.world()
LINK = -1
OF_A_DECISION = (
    LOG_SLOT,
    LOG_WINNER,
    LOG_CANDIDATES,
    LOG_FIRED_COUNT,
    LOG_DECISION_LO,
    LOG_DECISION_HI,
    LOG_NOW,
)

KEYED_STEP = st.tuples(
    st.integers(0, 5),  # customer
    st.sampled_from((0, 1, 90_000, DAY_MS // 2, 3 * DAY_MS)),  # after the one before
    st.sampled_from((LINK, 1, 2, 3, 4, 5)),  # product; or a visitor turns out to be somebody
    st.integers(1, 12),  # message
)


def new_engine(made: SimpleNamespace = KEYED) -> ShardEngine:
    return engine_of(made, retention_ms=2 * DAY_MS, lateness_ms=timed.LATENESS_MS, rate_per_minute_max=5)


@kernel
def spilled_at(shard: Any, which: int, stream: int, key: int) -> int:
    return find_spilled(shard, which, stream, key)


def with_names(events: list[dict[str, int]]) -> tuple[Words, Bytes]:
    """Records with the names of their products."""
    records, _ = records_of(events, NAMES)
    text = b""
    for words, event in zip(records, events, strict=True):
        name, product = NAMES[event["customer"]], PRODUCT_NAMES[event["product"]]
        words[record.HEAP] = len(text) << 32 | len(name) | len(product) << 16
        text += name + product
    return records, np.frombuffer(text, np.uint8)


def link(engine: ShardEngine, who: int, clock: int) -> None:
    """A visitor of number 6 turns out to be customer `who`; the row stays, with what it holds, as a redirect."""
    records, text = records_of([{"customer": who, "time": clock}], NAMES)
    records[0, [record.ANONYMOUS_LO, record.ANONYMOUS_HI]] = key_of(6)
    resolve_all(engine.state, records, text)


def feed(engine: ShardEngine, steps: list[tuple[int, int, int, int]], clock: int) -> int:
    """Let these steps happen; the clock after them."""
    for customer, later, product, message in steps:
        clock += later
        if product == LINK:
            link(engine, customer, clock)
            continue
        event = {"customer": customer, "time": clock, "product": product, "message": message}
        engine.process(released(*with_names([event])))
    return clock


def reached(engine: ShardEngine, which: int) -> list[int]:
    """What a saved row is, block by block."""
    state = engine.state
    pool = state.arrays.pool
    words = state.arrays.rows[which * state.row_words : (which + 1) * state.row_words].tolist()
    if not words[row.FLAGS] & row.FLAG_IN_USE:
        return []
    ring, name, redirect = words[row.RING], words[row.NAME], words[row.REDIRECT]
    spilled, wait = words[row.SPILL_HEAD], words[row.WAITS]
    words[row.WHEEL_DUE] = words[row.WHEEL_LINK] = 0
    if ring:
        capacity = 1 << (words[row.RING_STATE] & 7)
        words[row.RING] = 1
        words += pool[ring : ring + capacity + capacity // 2].tolist()
    length = words[row.FLAGS] >> row.FLAG_NAME_SHIFT & 0xFF
    if length > row.NAME_INLINE_BYTES:
        words[row.NAME] = 0
        words += pool[name : name + (length + 7) // 8].tolist()
    if redirect:
        count = row.TARGET_NAME + ((int(pool[redirect + row.TARGET_KIND]) >> 8) + 7) // 8
        words[row.REDIRECT] = count
        words += pool[redirect : redirect + count].tolist()
    words[row.SPILL_HEAD] = words[row.WAITS] = 0
    while spilled:
        owner = int(pool[spilled + SPILL_OWNER])
        assert owner >> 16 == which
        of = owner & 0xFFFF
        count = int(state.plan.streams[of, plan.STREAM_ENTRY_WORDS])
        at = spilled + SPILL_ENTRY
        words += [of, int(pool[spilled + SPILL_KEY]), *pool[at : at + count].tolist()]
        words[row.SPILL_HEAD] += 1
        spilled = int(pool[spilled + SPILL_NEXT])
    while wait:
        count = int(pool[wait + WAIT_SHAPE]) >> 24 & 0xFF
        words += pool[wait + WAIT_SHAPE : wait + count].tolist()
        words[row.WAITS] += 1
        wait = int(pool[wait + WAIT_NEXT])
    return words + names_told(engine, which)


def names_told(engine: ShardEngine, which: int) -> list[int]:
    state = engine.state
    world = engine.world.arrays
    slots = world.names.reshape(-1, NAME_SLOT_WORDS)
    known = {product: (span >> 8, span & 0xFF) for product, span in slots.tolist() if product}
    words = [0]
    for of in state.plan.streams.tolist():
        if not of[plan.STREAM_FLAGS] & plan.STREAM_FLAG_NAMES:
            continue
        at, k = which * state.row_words + of[plan.STREAM_OFFSET], of[plan.STREAM_K]
        for time, product in zip(
            state.arrays.rows[at : at + k].tolist(),
            state.arrays.rows[at + k : at + 2 * k].tolist(),
            strict=True,
        ):
            if time and product in known:
                start, length = known[product]
                text = world.name_text[start : start + length].tobytes()
                padded = text + bytes(-length % 8)
                words += [product, length, *np.frombuffer(padded, "<i8").tolist()]
                words[0] += 1
    return words


def rows_said(delta: ShardDelta) -> dict[int, list[int]]:
    ends = delta.starts.tolist()
    return {which: delta.words[ends[n] : ends[n + 1]].tolist() for n, which in enumerate(delta.rows.tolist())}


def by_identity(engine: ShardEngine) -> dict[tuple[int, int], Any]:
    """Every customer as plain data at the shard's clock."""
    state = engine.state
    words = state.arrays.rows.reshape(-1, state.row_words)[: meta(state, row.ROWS_USED)]
    now = max(1, meta(state, row.CLOCK_MAX))
    return {
        (int(of[row.KEY_LO]), int(of[row.KEY_HI])): canonical.of_row(state, which, now)
        for which, of in enumerate(words)
        if of[row.FLAGS] & row.FLAG_IN_USE
    }


def check_restored(engine: ShardEngine, again: ShardEngine) -> None:
    """What was put back is all there, found by whoever looks for it."""
    state, new = engine.state, again.state
    used = meta(state, row.ROWS_USED)
    assert meta(new, row.ROWS_USED) == used
    free = []
    head = meta(new, row.ROWS_FREE)
    while head:
        free.append(head - 1)
        head = int(new.arrays.rows[(head - 1) * new.row_words + row.CLOCK])
    lists = {}
    for which in range(used):
        old = state.arrays.rows[which * state.row_words : (which + 1) * state.row_words]
        if not old[row.FLAGS] & row.FLAG_IN_USE:
            continue
        lists[which] = reached(again, which)
        assert find(new.arrays, new.row_words, int(old[row.KEY_LO]), int(old[row.KEY_HI])) == which
        assert name_of(new, which) == name_of(state, which)
        spilled = int(new.arrays.rows[which * new.row_words + row.SPILL_HEAD])
        while spilled:
            of, key = (
                int(new.arrays.pool[spilled + SPILL_OWNER]) & 0xFFFF,
                int(new.arrays.pool[spilled + SPILL_KEY]),
            )
            assert spilled_at(new.arrays, which, of, key) == spilled
            spilled = int(new.arrays.pool[spilled + SPILL_NEXT])
    assert free == [which for which in range(used) if which not in lists]
    for word in (row.CUSTOMERS, row.REDIRECTS, row.WAITS_PENDING, row.CLOCK_MAX, row.SWEEP_POSITION):
        assert meta(new, word) == meta(state, word)
    assert meta(new, row.SPILL_LIVE) == sum(words[row.SPILL_HEAD] for words in lists.values())
    hanging = new.arrays.rows.reshape(-1, new.row_words)[:used, row.WHEEL_DUE]
    assert meta(new, row.TIMERS) == np.count_nonzero(hanging)
    assert new.counters()["events"] == state.counters()["events"]
    assert new.take_dirty().tolist() == []


@quick(80)
@given(st.lists(KEYED_STEP, max_size=30), st.lists(KEYED_STEP, max_size=8), st.data())
def test_deltas_are_what_rows_reach_and_come_back(
    steps: list[tuple[int, int, int, int]], then: list[tuple[int, int, int, int]], data: st.DataObject
) -> None:
    engine = new_engine()
    deltas = [engine.save()]
    at, clock = 0, START_MS
    while at < len(steps):
        size = data.draw(st.integers(1, 9))
        clock = feed(engine, steps[at : at + size], clock)
        at += size
        delta = engine.save()
        deltas.append(delta)
        assert rows_said(delta) == {which: reached(engine, which) for which in delta.rows.tolist()}
    merged = merge_deltas(deltas)
    assert read_rest(merged).is_base
    again = new_engine()
    assert again.restore(merged) == []
    check_restored(engine, again)
    for which, words in rows_said(merged).items():
        assert words
        assert which < meta(engine.state, row.ROWS_USED)
    feed(engine, then, clock)
    feed(again, then, clock)
    assert by_identity(again) == by_identity(engine)


@quick(80)
@given(STEPS, STEPS, st.integers(1, 9), st.booleans())
def test_timers_come_back_with_their_rows(before: list[Any], after: list[Any], size: int, some: bool) -> None:
    engine = new_engine(TIMED)
    events = events_of(before)
    deltas = []
    for at in range(0, len(events), size):
        engine.process(released(*records_of(rows_of(events[at : at + size]), NAMES)))
        if some:
            engine.advance(events[min(at + size, len(events)) - 1][1].clock - timed.LATENESS_MS, 2)
        delta = engine.save()
        deltas.append(delta)
        assert rows_said(delta) == {which: reached(engine, which) for which in delta.rows.tolist()}
    again = new_engine(TIMED)
    again.restore(merge_deltas([*deltas, engine.save()]))
    check_restored(engine, again)
    for which in range(meta(engine.state, row.ROWS_USED)):
        assert reached(again, which) == reached(engine, which)
    later = events_of(after, events[-1][1].clock if events else START_MS)
    outcomes = []
    for one in (engine, again):
        decided = one.process(released(*records_of(rows_of(later), NAMES)))
        decided += one.advance(CLOCK_END >> 20)[0]
        logs = [log[list(OF_A_DECISION)].tolist() for part in decided for log in part.log]
        outcomes.append((sorted(logs), [part.spans[:, SPAN_SEQUENCE].tolist() for part in decided]))
    assert outcomes[0] == outcomes[1]


def test_a_delta_without_changes_is_empty_and_the_counters_go_on() -> None:
    engine = new_engine()
    feed(engine, [(1, 5, 2, 7)], START_MS)
    first, second = engine.save({"beside": b"it"}), engine.save()
    assert (read_rest(first).is_base, read_rest(second).is_base) == (True, False)
    assert read_rest(first).more["beside"] == b"it"
    assert len(second.rows) == len(second.words) == 0
    merged = merge_deltas([first, second])
    assert rows_said(merged) == rows_said(first)
    again = new_engine()
    again.restore(merged)
    assert again.state.counters()["events"] == 1


def test_words_go_where_there_is_room_for_them() -> None:
    engine, same = new_engine(), new_engine()
    for one in (engine, same):
        feed(one, [(n, 1, 1 + n, 7) for n in range(4)], START_MS)
    room = np.zeros(1 << 12, np.int64)
    delta = engine.save(room=room)
    assert np.shares_memory(delta.words, room)
    assert rows_said(delta) == rows_said(same.save(room=room[:3]))


def test_a_row_that_was_given_up_and_taken_again() -> None:
    engine = new_engine()
    deltas = [engine.save()]
    feed(engine, [(1, 0, 2, 7), (2, 0, 2, 8)], START_MS)
    deltas.append(engine.save())
    feed(engine, [(3, 9 * DAY_MS, 1, 9), (3, 0, 1, 10)], START_MS)
    deltas.append(engine.save())
    assert [] in rows_said(deltas[-1]).values()
    partly = merge_deltas(deltas[1:])
    assert not read_rest(partly).is_base
    assert [] in rows_said(partly).values()  # what came before has to hear of it
    assert [] not in rows_said(merge_deltas(deltas)).values()
    again = new_engine()
    again.restore(merge_deltas([deltas[0], partly]))
    check_restored(engine, again)
    feed(again, [(n, 0, 1, 20 + n) for n in range(5)], START_MS + 9 * DAY_MS)
    assert again.state.customers == 5


def test_what_was_saved_read_only_can_be_restored() -> None:
    engine = new_engine()
    feed(engine, [(n, 1, 1 + n, 7) for n in range(4)], START_MS)
    delta = engine.save()
    words = np.frombuffer(delta.words.tobytes(), np.int64)
    again = new_engine()
    again.restore(ShardDelta(delta.rows, delta.starts, words, delta.rest))
    check_restored(engine, again)


def test_a_shard_too_small_says_so() -> None:
    engine = new_engine()
    feed(engine, [(n, 1, 1 + n, 7) for n in range(4)], START_MS)
    delta = engine.save()
    small = engine_of(KEYED, customers_per_shard_max=3)
    with pytest.raises(LimitError, match="rows for customers"):
        small.restore(delta)


# --- under another layout ------------------------------------------------------------------------------------


def entries(state: ShardState, s: int, which: int) -> dict[int, list[int]]:
    """By key (0: none) what a stream's entries hold, newest first: times, or pairs of time and value."""
    of = state.plan.streams[s]
    k, words, slots = int(of[plan.STREAM_K]), int(of[plan.STREAM_ENTRY_WORDS]), int(of[plan.STREAM_SLOTS])
    at = which * state.row_words + int(of[plan.STREAM_OFFSET])
    rows, pool = state.arrays.rows, state.arrays.pool
    found = {}
    if of[plan.STREAM_BY] == plan.BY_NONE:
        found[0] = rows[at : at + words]
    for slot in range(slots):
        entry = at + 1 + slots + slot * words
        found[int(rows[at + 1 + slot])] = rows[entry : entry + words]
    spilled = int(rows[which * state.row_words + row.SPILL_HEAD])
    while spilled:
        if pool[spilled + SPILL_OWNER] & 0xFFFF == s:
            found[int(pool[spilled + SPILL_KEY])] = pool[
                spilled + SPILL_ENTRY : spilled + SPILL_ENTRY + words
            ]
        spilled = int(pool[spilled + SPILL_NEXT])
    return {key: entry.reshape(-1, k).T.tolist() for key, entry in found.items()}


@quick(60)
@given(
    st.lists(KEYED_STEP, max_size=25),
    st.permutations(range(5)),
    st.integers(0, 5),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_streams_that_stay_keep_their_newest_entries(
    steps: list[tuple[int, int, int, int]], order: list[int], count: int, k: int, new_k: int
) -> None:
    def streams(kept: int) -> list[dict[str, int]]:
        return [
            stream(plan.COUNT, k=kept, window_ms=0),
            stream(plan.SUM, k=kept, field=plan.FIELD_QUANTITY, by=plan.BY_PRODUCT, window_ms=0, slots=1),
            stream(plan.DISTINCT, k=kept, field=record.PRODUCT, window_ms=0),
            stream(plan.COUNT, k=kept, by=plan.BY_PRODUCT, window_ms=0, slots=2),
            stream(plan.COUNT, k=kept, type=2, window_ms=0),
        ]

    old = new_engine(tables(streams(k)))
    feed(old, steps, START_MS)
    chosen = order[:count]
    made = tables([streams(new_k)[s] for s in chosen])
    again = new_engine(made)
    merged = old.save()
    again.restore(merged)
    used = meta(old.state, row.ROWS_USED)
    for which in range(used):
        header = old.state.arrays.rows[which * old.state.row_words :][: plan.HEADER_WORDS]
        if not header[row.FLAGS] & row.FLAG_IN_USE:
            continue
        assert name_of(again.state, which) == name_of(old.state, which)
        for n, s in enumerate(chosen):
            kept = entries(again.state, n, which)
            for key, entry in entries(old.state, s, which).items():
                least = min(k, new_k)
                assert kept[key][:least] == entry[:least]
                assert not np.any(kept[key][least:])
    if made.row_words != old.state.row_words or chosen != list(range(5)) or k != new_k:
        assert len(again.save().rows) == again.state.customers  # all there is, in the new layout
    assert again.state.counters()["events"] == old.state.counters()["events"]


def test_waits_segments_and_stages_go_by_name() -> None:
    engine = new_engine(TIMED)
    events = [
        {"customer": 1, "type": timed.A, "time": START_MS + n, "message": n, "product": 3} for n in range(2)
    ]
    events.append({"customer": 1, "type": timed.B, "time": START_MS + 5, "message": 9, "product": 3})
    engine.process(released(*records_of(events, NAMES)))
    words = engine.state.arrays.rows
    assert (words[row.SEGMENTS], words[row.STAGE]) == (1, 1)
    waits = reached(engine, 0)[row.WAITS]
    assert waits == 2
    delta = engine.save()

    other = timed.world()
    other.segment_ids = ("another",)
    other.stage_ids = ("stage-1", "stage-0")
    other.journey_hash = other.journey_hash.copy()
    other.journey_hash[timed.KEYED] = 999  # it has another name now
    other.journey_infos = (
        *other.journey_infos[: timed.KEYED],
        SimpleNamespace(id="other"),
        *other.journey_infos[2:],
    )
    again = new_engine(other)
    said = again.restore(delta)
    words = again.state.arrays.rows
    assert (words[row.SEGMENTS], words[row.STAGE]) == (0, 0)
    assert words[row.WAITS] != 0
    assert again.state.counters()["waits_now"] == waits - 1
    assert said == [
        "histories: 3 kept",
        "segments: 1 new and empty (another), 1 dropped (segment-0)",
        "stages: 2 kept",
        "journeys that wait, hold or take back: 2 kept, 1 new and empty (other), 1 dropped (journey-1)",
        "waits called off with their journeys: 1",
    ]
