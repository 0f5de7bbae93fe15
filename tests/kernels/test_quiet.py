"""Quiet hours against what the clock on the wall shows, by datetime and zoneinfo."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.limits import HOUR_MS, MINUTE_MS
from segue.reference.world import ReferenceWorld, empty_world
from segue.reference.zones import zone_numbers
from segue.state.shard import plan_arrays
from segue_kernels import plan
from segue_kernels.jit import kernel
from segue_kernels.quiet import quiet_contacts, quiet_until
from tests.kernels.drivers import quick, tables
from tests.reference.journeys import Quiet

ZONES = (
    "America/Havana",  # clocks go forward at midnight
    "Australia/Lord_Howe",  # by half an hour
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Europe/Berlin",
    "America/New_York",
    "UTC",
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ALL_DAYS = tuple(range(7))


@kernel
def quiet_at(made: Any, world: Any, zone: int, now: int) -> tuple[int, int]:
    return quiet_contacts(made, world, zone, now)


@kernel
def until(made: Any, world: Any, zone: int, contact: int, now: int, limit: int) -> int:
    return quiet_until(made, world, zone, contact, now, limit)


@cache
def world() -> ReferenceWorld:
    made = empty_world()
    for name in ZONES:
        made.need_zone(zone_numbers()[name])
    return made


def plan_with(declared: list[Quiet]) -> Any:
    """The plan with these, each on the contact of its place in the list."""
    rows = [
        [1 << n, q.start * MINUTE_MS, q.end * MINUTE_MS, sum(1 << day for day in q.days), q.then == "hold"]
        for n, q in enumerate(declared)
    ]
    made: SimpleNamespace = tables([], quiet=np.array(rows, np.int64).reshape(-1, plan.QUIET_WORDS))
    return plan_arrays(made)  # type: ignore[arg-type]


def local(name: str, now_ms: int) -> datetime:
    return (EPOCH + timedelta(milliseconds=now_ms)).astimezone(ZoneInfo(name))


def naive(declared: list[Quiet], name: str, now_ms: int) -> tuple[int, int]:
    found = {"drop": 0, "hold": 0}
    for n, quiet in enumerate(declared):
        if quiet.applies(local(name, now_ms)):
            found[quiet.then] |= 1 << n
    return found["drop"], found["hold"]


times = st.one_of(st.integers(0, 1_439), st.sampled_from((0, 59, 60, 119, 120, 121, 150, 179, 180, 1_439)))
declarations = st.lists(
    st.builds(
        lambda start, more, days, then: Quiet("q", start, (start + more) % 1_440, tuple(days), then, (), ()),
        times,
        st.integers(1, 1_439),
        st.sets(st.integers(0, 6), min_size=1),
        st.sampled_from(("drop", "hold")),
    ),
    max_size=4,
)


def near_changes() -> list[int]:
    """Hours around the changes of 2026, of all these zones."""
    hours = [1_767_225_600_000 + n * HOUR_MS for n in range(365 * 24)]
    found = []
    for name in ZONES:
        offsets = [local(name, at).utcoffset() for at in hours]
        found += [at for at, one, other in zip(hours, offsets, offsets[1:], strict=False) if one != other]
    return found


moments = st.one_of(
    st.integers(1_420_200_000_000, 2_398_200_000_000),  # 2015 to 2045
    st.tuples(st.sampled_from(near_changes()), st.integers(-6 * 60, 6 * 60), st.integers(-1, 1)).map(
        lambda given: given[0] + given[1] * MINUTE_MS + given[2]
    ),
)


@quick(500)
@given(declarations, st.sampled_from(ZONES), moments)
def test_it_is_quiet_while_the_clock_shows_a_time_in_between(
    declared: list[Quiet], name: str, now: int
) -> None:
    made = plan_with(declared)
    assert quiet_at(made, world().arrays, zone_numbers()[name], now) == naive(declared, name, now)


@quick(150)
@given(declarations, st.sampled_from(ZONES), moments, st.sampled_from((1, 90, 1_440, 4_000)))
def test_it_ends_with_the_first_minute_in_which_none_applies(
    declared: list[Quiet], name: str, now: int, minutes: int
) -> None:
    """All of them on one contact: they may touch, overlap, and go on for days."""
    made = plan_with(declared)
    made.quiet[:, plan.QUIET_CONTACTS] = 1
    limit = expected = now + minutes * MINUTE_MS
    for at in (now, *range(now - now % MINUTE_MS + MINUTE_MS, limit, MINUTE_MS)):
        if not any(quiet.applies(local(name, at)) for quiet in declared):
            expected = at
            break
    zone = zone_numbers()[name]
    assert until(made, world().arrays, zone, 0, now, limit) == expected
    assert until(made, world().arrays, zone, 1, now, limit) == now


NIGHT = Quiet("night", 22 * 60, 2 * 60 + 30, ALL_DAYS, "drop", (), ())


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-03-28T20:59", 0),
        ("2026-03-28T21:00", 1),
        (
            "2026-03-29T00:59",
            1,
        ),  # 01:59 in Berlin; then it is 03:00: 02:30 is not shown, and it ends at the jump
        ("2026-03-29T01:00", 0),
        ("2026-10-25T00:29", 1),  # 02:29, the first time
        ("2026-10-25T00:30", 0),  # 02:30
        ("2026-10-25T01:00", 1),  # 02:00 once more
        ("2026-10-25T01:30", 0),
    ],
)
def test_a_time_skipped_and_a_time_shown_twice(now: str, expected: int) -> None:
    now_ms = round((datetime.fromisoformat(now).replace(tzinfo=UTC) - EPOCH).total_seconds() * 1_000)
    found = quiet_at(plan_with([NIGHT]), world().arrays, zone_numbers()["Europe/Berlin"], now_ms)
    assert found == (expected, 0)
