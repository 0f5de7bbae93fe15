"""Histories: taken and joined into an empty row they are the row; joining is a union in any order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue.decide.engine import ShardEngine
from segue.reference.world import empty_world
from segue_kernels import plan, record, row
from segue_kernels.customers import find_or_add
from tests.kernels import canonical, naive_timers
from tests.kernels.drivers import (
    DAY_MS,
    START_MS,
    TYPE_A,
    TYPE_B,
    engine_of,
    engine_settings,
    free,
    key_of,
    meta,
    quick,
    records_of,
    released,
    stream,
    tables,
)

HOUR_MS = 3_600_000
STREAMS = (
    stream(plan.COUNT),
    stream(plan.SUM, field=record.AMOUNT, k=2),
    stream(plan.TUMBLE_COUNT, window_ms=HOUR_MS),
    stream(plan.TUMBLE_SUM, window_ms=DAY_MS, field=plan.FIELD_QUANTITY),
    stream(plan.DISTINCT, field=record.PRODUCT, k=2),
    stream(plan.TUMBLE_DISTINCT, field=record.CATEGORY, window_ms=DAY_MS, k=2),
    stream(plan.COUNT, by=plan.BY_PRODUCT, window_ms=0),
    stream(plan.SUM, by=plan.BY_CATEGORY, field=record.AMOUNT, slots=1),
    stream(plan.DISTINCT, by=plan.BY_PRODUCT, field=record.CATEGORY, slots=1),
    stream(plan.TUMBLE_COUNT, by=plan.BY_PRODUCT, window_ms=HOUR_MS, slots=1),
)
MADE = tables(STREAMS)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from((0, 0, 1, 7_000, HOUR_MS // 2, HOUR_MS, 5 * HOUR_MS)),  # after the one before
        st.integers(1, 5),  # product
        st.integers(0, 3),  # category
        st.integers(0, 3),  # amount, quantity
        st.integers(1, 30),  # message
        st.sampled_from((TYPE_A, TYPE_A, TYPE_A, TYPE_B)),
    ),
    max_size=20,
)
Steps = list[tuple[int, int, int, int, int, int]]


def engine() -> ShardEngine:
    return engine_of(MADE, retention_ms=2 * DAY_MS, rate_per_minute_max=6, quarantine_ms=HOUR_MS)


def feed(to: ShardEngine, customer: int, steps: Steps, start: int) -> int:
    """Let a customer do something; the row, empty for a customer that did nothing."""
    clock, events = start, []
    for later, product, category, number, message, kind in steps:
        clock += later
        events.append(
            {
                **{
                    "customer": customer,
                    "time": clock,
                    "product": product,
                    "category": category,
                    "type": kind,
                },
                **{"amount": number, "quantity": number, "message": message},
                "flags": record.FLAG_HAS_AMOUNT | record.FLAG_HAS_QUANTITY,
            }
        )
    to.process(released(*records_of(events)))
    return row_of(to, customer)


def row_of(to: ShardEngine, customer: int) -> int:
    records, text = records_of([{"time": 1, "customer": customer}])
    which = np.zeros(1, np.int64)
    find_or_add(to.state.arrays, records, text, which, 0, to.state.words)
    return int(which[0])


@quick(100)
@given(EVENTS)
def test_taken_and_joined_into_an_empty_row_it_is_the_row(steps: Steps) -> None:
    first, second = engine(), engine()
    which = feed(first, 1, steps, START_MS)
    clock = int(first.state.arrays.rows[which * first.state.row_words + row.CLOCK])
    before = first.state.arrays.rows[: 4 * first.state.row_words].copy()
    history = first.state.history(which)
    assert np.array_equal(before, first.state.arrays.rows[: 4 * first.state.row_words])
    target = row_of(second, 1)
    second.state.join(target, history, max(clock, 1))
    assert canonical.of_row(second.state, target) == canonical.of_row(first.state, which)
    assert meta(second.state, row.COUNT_MERGED) == 1
    assert second.state.take_dirty().tolist() == [target]


@quick(100)
@given(EVENTS)
def test_timers_segments_and_stage_are_in_it(steps: Steps) -> None:
    """What was waited for goes on being waited for, and the row comes up in time."""
    first, second = (engine_of(naive_timers.world(), rate_per_minute_max=99) for _ in range(2))
    which = feed(first, 1, steps, START_MS)
    clock = int(first.state.arrays.rows[which * first.state.row_words + row.CLOCK])
    target = row_of(second, 1)
    second.state.join(target, first.state.history(which), max(clock, 1))
    assert canonical.of_row(second.state, target) == canonical.of_row(first.state, which)
    words = second.state.arrays.rows[target * second.state.row_words :]
    said = canonical.of_row(second.state, target)["waits"]
    waits = [canonical.wait_of(second.state.plan, wait) for wait in said]
    if waits:
        assert 0 < words[row.WHEEL_DUE] <= min(due for due, *_ in waits)
    assert words[row.CHECK_DUE] == 1  # looked at with the next event
    assert meta(second.state, row.TIMERS) == (words[row.WHEEL_DUE] != 0)


@quick(100)
@given(
    st.tuples(EVENTS, EVENTS, EVENTS),
    st.tuples(*[st.sampled_from((0, 0, 1, 60_000, HOUR_MS, DAY_MS, 3 * DAY_MS))] * 3),
    st.permutations((0, 1, 2)),
    st.sampled_from((0, 0, DAY_MS, 3 * DAY_MS)),
)
def test_joining_is_commutative_and_associative(
    parts: tuple[Steps, Steps, Steps], starts: tuple[int, int, int], order: list[int], later: int
) -> None:
    sources = engine()
    rows = [feed(sources, n, parts[n], START_MS + starts[n]) for n in range(3)]
    words = sources.state.arrays.rows.reshape(-1, sources.state.row_words)
    time = int(words[:3, row.CLOCK].max()) + later
    histories = [sources.state.history(which) for which in rows]

    joined = engine()
    one, two, three = (row_of(joined, n) for n in range(3))
    state = joined.state
    for n in (0, 1, 2):  # ((0 + 1) + 2)
        state.join(one, histories[n], time)
    for n in order:
        state.join(two, histories[n], time)
    for n in order[1:]:  # (first + (second + third))
        state.join(three, histories[n], time)
    four = row_of(joined, 3)
    state.join(four, histories[order[0]], time)
    state.join(four, state.history(three), time)

    now = max(time, 1)
    expected = canonical.of_row(state, one, now)
    for other in (two, four):
        found = canonical.of_row(state, other, now)
        assert found == expected
    for which in (one, two, three, four):
        free(state.arrays, state.plan, which, state.row_words)
    assert meta(state, row.POOL_WORDS_USED) == meta(state, row.SPILL_LIVE) == 0


@quick(60)
@given(EVENTS, EVENTS, st.integers(0, 3))
def test_two_halves_joined_are_the_whole(first: Steps, second: Steps, hours: int) -> None:
    """Windows of a customer seen twice are those of one seen once."""
    # no id twice, no bot, and each at its own time: what is dropped depends on who is asked
    first = [(later, *rest[:3], n + 1, rest[4]) for n, (later, *rest) in enumerate(first)]
    second = [(later, *rest[:3], n + 101, rest[4]) for n, (later, *rest) in enumerate(second)]
    apart, together = (engine_of(MADE, retention_ms=90 * DAY_MS, rate_per_minute_max=99) for _ in range(2))
    start = START_MS + hours * HOUR_MS
    left, right = feed(apart, 1, first, START_MS), feed(apart, 2, second, start)
    clock = int(apart.state.arrays.rows.reshape(-1, apart.state.row_words)[[left, right], row.CLOCK].max())
    apart.state.join(left, apart.state.history(right), max(clock, 1))

    # as one customer, in order of time (of equal times, in either order)
    timed: list[tuple[int, tuple[int, int, int, int, int, int]]] = []
    for begins, steps in ((START_MS, first), (start, second)):
        clock = begins
        for step in steps:
            clock += step[0]
            timed.append((clock, step))
    timed.sort(key=lambda pair: pair[0])
    merged, before = [], START_MS
    for clock, step in timed:
        merged.append((clock - before, *step[1:]))
        before = clock
    whole = feed(together, 1, merged, START_MS)
    now = max(before, 1)
    found, expected = canonical.of_row(apart.state, left, now), canonical.of_row(together.state, whole, now)
    for of in ("events", "clock", "ids", "consent", "first_seen"):
        assert found.pop(of) == expected.pop(of)
    del found["rate"], expected["rate"]  # the minute's count needs no event of the other half to restart
    assert found == expected


def test_a_history_larger_than_the_index_of_the_other_shard() -> None:
    """More spilled keys than it has slots arrive at once: the index grows first."""
    made = tables([stream(plan.COUNT, by=plan.BY_PRODUCT, k=1, window_ms=0)])
    first, second = (
        engine_of(made, rate_per_minute_max=1 << 19, pool_words_per_shard_max=1 << 23) for _ in range(2)
    )
    keys = 6_000
    for start in range(0, keys, 2_000):
        events = [
            {"time": START_MS, "product": key, "message": key} for key in range(start + 1, start + 2_001)
        ]
        first.process(released(*records_of(events)))
    history = first.state.history(0)
    target = row_of(second, 0)
    assert len(second.state.arrays.spill) < keys
    second.state.join(target, history, START_MS)
    assert canonical.of_row(second.state, target) == canonical.of_row(first.state, 0)
    second.state.join(target, history, START_MS)  # the same again: every key is there already
    assert meta(second.state, row.SPILL_LIVE) == keys - 2


def test_names_of_listed_products_go_along_to_another_worker() -> None:
    made = tables([stream(plan.DISTINCT, field=record.PRODUCT, k=4, flags=plan.STREAM_FLAG_NAMES)])
    worlds = empty_world(), empty_world()
    first, second = (ShardEngine(made, engine_settings(), world) for world in worlds)  # type: ignore[arg-type]
    events = [{"time": START_MS + n, "product": n % 6 + 1, "message": n + 1} for n in range(9)]
    records, _ = records_of(events)
    text = b"".join(b"product %d" % (n % 6 + 1) for n in range(9))
    records[:, record.HEAP] = [n * 9 << 32 | 9 << 16 for n in range(9)]
    first.process(released(records, np.frombuffer(text, np.uint8)))
    assert worlds[0].arrays.name_state.tolist() == [6, 54]
    target = row_of(second, 0)
    for _ in range(2):  # twice is as once
        second.state.join(target, first.state.history(0), START_MS + 9)
        assert worlds[1].arrays.name_state.tolist() == [4, 36]
        assert worlds[1].arrays.name_text[:36].tobytes() == b"product 3product 2product 1product 6"


def test_names_take_no_room_where_nothing_is_listed() -> None:
    world = empty_world()
    before = world.arrays
    engine_ = ShardEngine(MADE, engine_settings(), world)  # type: ignore[arg-type]
    engine_.process(released(*records_of([{"time": START_MS, "product": 3}])))
    engine_.state.join(0, engine_.state.history(0), START_MS)
    assert world.arrays is before
    assert not world.arrays.names.any()


def test_quarantine_and_consent_outlive_the_retention() -> None:
    both = engine_of(MADE, retention_ms=DAY_MS)
    bot, known = row_of(both, 1), row_of(both, 2)
    words = both.state.arrays.rows.reshape(-1, both.state.row_words)
    words[bot, [row.CLOCK, row.QUARANTINE_UNTIL, row.CONSENT]] = START_MS, START_MS + 9 * DAY_MS, 2 * START_MS
    words[bot, [row.EVENTS, row.RATE, row.FIRST_SEEN]] = 7, (START_MS // 60_000) << 20 | 7, START_MS
    both.state.join(known, both.state.history(bot), START_MS + 2 * DAY_MS)
    assert words[known, row.QUARANTINE_UNTIL] == START_MS + 9 * DAY_MS
    assert words[known, row.CONSENT] == 2 * START_MS
    assert not words[known, [row.EVENTS, row.RATE, row.FIRST_SEEN]].any()
    assert key_of(2) == tuple(words[known, [row.KEY_LO, row.KEY_HI]].tolist())
