"""Moments: when the windows of a customer's day and of his session begin."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue_kernels import plan, row
from segue_kernels.calendar import period_start
from segue_kernels.jit import kernel
from segue_kernels.locate import locate_entries
from segue_kernels.moments import fill_moments
from tests.kernels import naive
from tests.kernels.drivers import DAY_MS, START_MS, TYPE_A, Words, quick, records_of, stream, tables
from tests.kernels.feeding import Fed, small_scratch, world_in_utc

GAP = 5_000
WINDOWS = (-GAP, -2 * GAP, plan.WINDOW_DAY, plan.WINDOW_WEEK, plan.WINDOW_MONTH, plan.WINDOW_HOUR)


@kernel
def fill(shard: Any, tables: Any, world: Any, scratch: Any, base: int, now: int) -> None:
    fill_moments(shard, tables, world, scratch, base, now)


@kernel
def start_of(world: Any, zone: int, now: int, window: int) -> int:
    return period_start(world, zone, now, window)


@kernel
def locate_all(
    shard: Any, tables: Any, scratch: Any, world: Any, records: Words, base: int, now: int
) -> None:
    locate_entries(shard, tables, scratch, world, records, 0, TYPE_A, 0, base, now, now)


def made() -> Any:
    streams = [
        stream(plan.COUNT, k=2),
        *(stream(plan.SESSIONS, k=3, window_ms=0, width_ms=gap) for gap in (GAP, 2 * GAP)),
    ]
    moments = np.zeros((len(WINDOWS), plan.MOMENT_WORDS), np.int64)
    moments[:, plan.MOMENT_WINDOW] = WINDOWS
    moments[:2, plan.MOMENT_STREAM] = 1, 2
    return tables(streams, moments=moments)


@quick(150)
@given(
    st.lists(st.integers(0, 40_000), max_size=12),
    st.integers(0, 20_000),
    st.sampled_from((0, 1, DAY_MS * 40)),
)
def test_windows_begin_where_they_should(times: list[int], later: int, day: int) -> None:
    fed = Fed(made(), row=1)
    scratch, world = small_scratch(fed.plan), world_in_utc()
    fed.feed(*({"time": START_MS + day + time, "message": n + 1} for n, time in enumerate(times)))
    now = START_MS + day + max(times, default=0) + later
    zone = 0
    fed.state.arrays.rows[fed.base + row.ZONE] = now << 10 | zone
    fill(fed.state.arrays, fed.plan, world, scratch, fed.base, now)
    first = len(fed.plan.streams)
    for m, window in enumerate(WINDOWS):
        after = int(scratch.location[first + m])
        if window in (-GAP, -2 * GAP):
            runs = naive.sessions((START_MS + day + time for time in times), -window)
            current = bool(runs) and now - runs[0][1] <= -window
            assert after == (runs[0][0] - 1 if current else now)
        else:
            assert after == start_of(world, zone, now, window) - 1
    assert scratch.location[first + 2] == now - now % DAY_MS - 1
    assert scratch.location[:first].tolist() == [-1] * first


def test_a_plan_without_moments_asks_nothing() -> None:
    fed = Fed(tables([stream(plan.COUNT)]))
    scratch = small_scratch(fed.plan)
    fill(fed.state.arrays, fed.plan, world_in_utc(), scratch, 0, START_MS)
    assert scratch.location.tolist() == [-1]


def test_lookups_are_filled_for_the_types_that_read_them() -> None:
    lookups = np.array([[plan.TABLE_CATALOGUE, 2, 77, 0]], np.int64)
    for asked in (0, 1):
        types = np.zeros(plan.TYPES, np.uint8)
        types[TYPE_A] = asked
        fed = Fed(tables([stream(plan.COUNT)], lookups=lookups, lookup_types=types))
        scratch = small_scratch(fed.plan)
        records, _ = records_of([{"time": START_MS, "product": 3}])
        locate_all(fed.state.arrays, fed.plan, scratch, world_in_utc(), records, 0, START_MS)
        assert scratch.location[1] == (77 if asked else -1)
