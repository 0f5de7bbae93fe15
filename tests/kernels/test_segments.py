"""When a segment may change by time alone: found at once, against looking at every millisecond."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue.reference.world import empty_world
from segue_kernels import plan, row
from segue_kernels.jit import kernel
from segue_kernels.segments import add_trigger, next_check
from segue_kernels.shard import Scratch
from tests.kernels.drivers import quick, state_for, stream, tables

WINDOW, GAP, WIDTH = 12, 2_000, 10
STREAMS = (
    stream(plan.COUNT, k=3, window_ms=WINDOW),
    stream(plan.TUMBLE_COUNT, window_ms=WIDTH, width_ms=WIDTH),
    stream(plan.FIRST, window_ms=0),
    stream(plan.SESSIONS, k=2, window_ms=0, width_ms=GAP),
)
COUNT, TUMBLE, FIRST, SESSIONS = range(4)
CHECKS = (
    (plan.CHECK_LEAVES_LAST, COUNT, 2, WINDOW, 0),
    (plan.CHECK_LEAVES_ANY, COUNT, 3, WINDOW, 0),
    (plan.CHECK_LEAVES_ANY, COUNT, 3, 0, 0),
    (plan.CHECK_AGE, FIRST, 1, 0, 5),
    (plan.CHECK_AGE, COUNT, 1, WINDOW, 4),
    (plan.CHECK_TUMBLE, TUMBLE, 1, WIDTH, 0),
    (plan.CHECK_LEAVES_LAST, COUNT, 1, -GAP, 0),
)
OFFSETS: list[int] = []


@kernel
def check_of(shard: Any, tables: Any, scratch: Any, world: Any, base: int, now: int) -> int:
    return next_check(shard, tables, scratch, world, base, now)


@kernel
def triggered_by(scratch: Any, triggered: int, journey: int) -> int:
    return add_trigger(scratch, triggered, journey)


def scratch_of(location: list[int], journeys: int = 1) -> Scratch:
    fields = {name: np.zeros(1, np.int64) for name in Scratch._fields}
    fields["location"] = np.array(location, np.int64)
    fields["journey"] = np.zeros(journeys, np.int64)
    return Scratch(**fields)


def value(check: int, times: list[int], first: int, tumbled: int, session: tuple[int, int], now: int) -> Any:
    """What the condition behind a check says at `now`: it may change only when this does."""
    kind, _, entries, window, age = CHECKS[check]
    if kind == plan.CHECK_AGE and window:  # what is not in the window is older than any age
        ages = [now - time for time in times[:1] if time > now - window] or [WINDOW]
        return ages[0] > age, ages[0] >= age
    if kind == plan.CHECK_AGE:
        return first and (now - first > age, now - first >= age)
    if kind == plan.CHECK_TUMBLE:
        return tumbled == now - now % WIDTH
    if window < 0:
        in_session = bool(session[0]) and now - session[1] <= GAP
        return in_session and bool(times) and times[0] >= session[0]
    inside = [time for time in times[:entries] if window == 0 or time > now - window]
    return len(inside) >= entries if kind == plan.CHECK_LEAVES_LAST else len(inside)


@quick(300)
@given(
    st.lists(st.integers(1, 30), max_size=3),
    st.integers(0, 30),
    st.integers(0, 3),
    st.lists(st.integers(1, 30), min_size=2, max_size=2),
    st.booleans(),
    st.integers(0, 20),
    st.sets(st.integers(0, len(CHECKS) - 1), min_size=1),
)
def test_the_next_time_at_which_something_may_change(
    times: list[int],
    first: int,
    tumbled: int,
    session: list[int],
    has_session: bool,
    later: int,
    chosen: set[int],
) -> None:
    shift = 1_000_000  # times are far from 0
    times = sorted((shift + time for time in times), reverse=True)
    first = shift + first if first else 0
    start = shift + tumbled * WIDTH if tumbled else 0
    begin, end = sorted(session)
    sessions = (shift + begin, shift + end) if has_session else (0, 0)
    now = max([*times, first, start, sessions[1], shift]) + later
    checks = [CHECKS[check] for check in sorted(chosen)]
    made = tables(
        STREAMS,
        checks=np.array(checks, np.int64),
        moments=np.array([[-GAP, SESSIONS, 0]], np.int64),
    )
    state = state_for(made)
    rows, offset = state.arrays.rows, made.streams[:, plan.STREAM_OFFSET].tolist()
    rows[offset[COUNT] : offset[COUNT] + len(times)] = times
    rows[offset[TUMBLE]], rows[offset[FIRST]] = start, first
    rows[offset[SESSIONS] + 1 : offset[SESSIONS] + 3] = sessions
    in_session = has_session and now - sessions[1] <= GAP
    location = [-1] * len(STREAMS) + [sessions[0] - 1 if in_session else now]
    found = check_of(state.arrays, state.plan, scratch_of(location), empty_world().arrays, 0, now)
    assert rows[row.CHECK_DUE] == found

    def all_values(at: int) -> list[Any]:
        return [value(check, times, first, start, sessions, at) for check in sorted(chosen)]

    changes = [at for at in range(now + 1, now + GAP + 40) if all_values(at) != all_values(at - 1)]
    assert found == (changes[0] if changes else 0)


@quick(100)
@given(st.lists(st.integers(0, 9), max_size=20))
def test_journeys_triggered_stand_in_order_and_once(journeys: list[int]) -> None:
    scratch = scratch_of([0], 10)
    count = 0
    for journey in journeys:
        count = triggered_by(scratch, count, journey)
    assert scratch.journey[:count].tolist() == sorted(set(journeys))
