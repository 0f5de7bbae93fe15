"""Hours, days, weeks and months of a zone against a walk over its local dates with datetime and zoneinfo."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from segue.reference.world import ReferenceWorld, empty_world
from segue.reference.zones import zone_names, zone_numbers
from segue_kernels import record
from segue_kernels.calendar import month_day_of, period_end, period_start
from segue_kernels.jit import kernel
from segue_kernels.plan import WINDOW_DAY, WINDOW_HOUR, WINDOW_MONTH, WINDOW_WEEK
from tests.kernels.drivers import quick

MS = timedelta(milliseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR_MS = 3_600_000
WINDOWS = (WINDOW_HOUR, WINDOW_DAY, WINDOW_WEEK, WINDOW_MONTH)
ZONES = (
    "America/Havana",  # clocks go forward at midnight: the day begins at 01:00
    "Asia/Beirut",  # and back at midnight: 23:00 comes twice
    "America/Sao_Paulo",  # both, until 2019
    "Africa/Cairo",  # forward on a Friday at midnight, again since 2023
    "America/Asuncion",
    "Australia/Lord_Howe",  # by half an hour
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Pacific/Kiritimati",  # UTC+14
    "Pacific/Pago_Pago",  # UTC-11
    "Africa/Casablanca",  # four changes a year around Ramadan
    "Europe/Berlin",
    "America/New_York",
    "Etc/GMT+12",
    "UTC",
)


@kernel
def periods(world: Any, zone: int, now: int, window: int) -> tuple[int, int]:
    return period_start(world, zone, now, window), period_end(world, zone, now, window)


@cache
def world() -> ReferenceWorld:
    made = empty_world()
    for name in ZONES:
        made.need_zone(zone_numbers()[name])
    return made


def ms(moment: datetime) -> int:
    return (moment - EPOCH) // MS


def local_date(zone: ZoneInfo, now_ms: int) -> date:
    return (EPOCH + now_ms * MS).astimezone(zone).date()


@cache
def begins(name: str, day: date) -> int:
    """The first minute at which the zone shows this date or a later one, found by walking."""
    zone = ZoneInfo(name)
    now = ms(datetime(day.year, day.month, day.day, tzinfo=UTC)) - 16 * HOUR_MS
    step = HOUR_MS
    while True:
        while local_date(zone, now) < day:
            now += step
        if step == 60_000:
            return now
        now, step = now - step, 60_000


def day_of(name: str, now_ms: int) -> date:
    """The latest date that has begun: when clocks go back over midnight the new day goes on."""
    day = local_date(ZoneInfo(name), now_ms) + timedelta(1)
    while begins(name, day) > now_ms:
        day -= timedelta(1)
    return day


def hour(name: str, now_ms: int) -> tuple[int, int]:
    """The minutes around this one, up to a full hour or a change of the clocks on both sides."""

    def begins_here(at_ms: int) -> bool:
        here, before = ((EPOCH + at * MS).astimezone(ZoneInfo(name)) for at in (at_ms, at_ms - 1))
        return here.minute == 0 or here.utcoffset() != before.utcoffset()

    start = now_ms - now_ms % 60_000
    while not begins_here(start):
        start -= 60_000
    end = start + 60_000
    while not begins_here(end):
        end += 60_000
    return start, end


def naive(name: str, now_ms: int, window: int) -> tuple[int, int]:
    day = day_of(name, now_ms)
    if not date(2015, 1, 1) <= day <= date(2045, 12, 31):
        name, day = "UTC", (EPOCH + now_ms * MS).date()
    if window == WINDOW_HOUR:
        return hour(name, now_ms)
    first, following = day, day + timedelta(1)
    if window == WINDOW_WEEK:
        first = day - timedelta(day.weekday())
        following = first + timedelta(7)
    elif window == WINDOW_MONTH:
        first = day.replace(day=1)
        following = (first + timedelta(31)).replace(day=1)
    return begins(name, first), begins(name, following)


moments = st.one_of(
    st.integers(ms(datetime(2014, 11, 1, tzinfo=UTC)), ms(datetime(2046, 3, 1, tzinfo=UTC))),
    st.integers(ms(datetime(2014, 12, 25, tzinfo=UTC)), ms(datetime(2015, 1, 5, tzinfo=UTC))),
    st.integers(ms(datetime(2045, 12, 25, tzinfo=UTC)), ms(datetime(2046, 2, 5, tzinfo=UTC))),
    st.integers(0, ms(datetime(2100, 1, 1, tzinfo=UTC))),
)


@quick(400)
@example("Pacific/Kiritimati", ms(datetime(2046, 1, 30, 18, tzinfo=UTC)), WINDOW_DAY)
@given(st.sampled_from(ZONES), moments, st.sampled_from(WINDOWS))
def test_any_moment_is_in_the_period_that_the_calendar_says(name: str, now: int, window: int) -> None:
    found = periods(world().arrays, zone_numbers()[name], now, window)
    assert found == naive(name, now, window)
    assert found[0] <= now < found[1]


@quick(60)
@given(st.sampled_from(ZONES[:12]), st.integers(2015, 2045), st.integers(-2, 2), st.data())
def test_around_each_change_of_the_clocks(name: str, year: int, hours: int, data: st.DataObject) -> None:
    zone = ZoneInfo(name)
    days = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(n) for n in range(365)]
    changed = [
        d for d in days if d.astimezone(zone).utcoffset() != (d + timedelta(1)).astimezone(zone).utcoffset()
    ]
    if not changed:
        return
    near = ms(data.draw(st.sampled_from(changed))) + data.draw(st.integers(-6, 30)) * HOUR_MS // 2 + hours
    for window in WINDOWS:
        assert periods(world().arrays, zone_numbers()[name], near, window) == naive(name, near, window)


@pytest.mark.parametrize(
    ("name", "now", "begin", "end"),
    [
        # forward at midnight: 2018-11-04 begins at 01:00, which is 03:00 UTC, and has 23 hours
        ("America/Sao_Paulo", "2018-11-04T12:00", "2018-11-04T03:00", "2018-11-05T02:00"),
        # back at midnight: 2018-02-17 has 25 hours
        ("America/Sao_Paulo", "2018-02-18T02:30", "2018-02-17T02:00", "2018-02-18T03:00"),
        ("America/Havana", "2026-03-08T12:00", "2026-03-08T05:00", "2026-03-09T04:00"),
        ("Asia/Kolkata", "2026-03-01T18:29", "2026-02-28T18:30", "2026-03-01T18:30"),
        ("Australia/Lord_Howe", "2026-04-05T00:00", "2026-04-04T13:00", "2026-04-05T13:30"),
        ("Africa/Cairo", "2024-04-26T12:00", "2024-04-25T22:00", "2024-04-26T21:00"),
    ],
)
def test_days_of_other_lengths(name: str, now: str, begin: str, end: str) -> None:
    def at(text: str) -> int:
        return ms(datetime.fromisoformat(text).replace(tzinfo=UTC))

    assert periods(world().arrays, zone_numbers()[name], at(now), WINDOW_DAY) == (at(begin), at(end))


def test_who_told_no_zone_lives_in_the_default_one() -> None:
    now = ms(datetime(2026, 3, 1, 18, 45, tzinfo=UTC))
    kolkata = ReferenceWorld("Asia/Kolkata")
    expected = naive("Asia/Kolkata", now, WINDOW_DAY)
    assert periods(kolkata.arrays, 0, now, WINDOW_DAY) == expected
    assert periods(empty_world().arrays, 0, now, WINDOW_DAY) == naive("UTC", now, WINDOW_DAY)


@quick(200)
@given(st.integers(0, 40_000))
@example(0)
def test_the_first_of_the_month(day: int) -> None:
    plain = date(1970, 1, 1) + timedelta(day)
    if not hasattr(month_day_of, "py_func"):
        assert month_day_of(day) == (plain.replace(day=1) - date(1970, 1, 1)).days
    else:
        assert month_day_of.py_func(day) == (plain.replace(day=1) - date(1970, 1, 1)).days


def test_zones_are_loaded_when_records_name_them() -> None:
    made = empty_world()
    name = "Antarctica/Troll"
    records = np.zeros((3, record.RECORD_WORDS), np.int64)
    records[1, record.PACK] = zone_numbers()[name] << record.ZONE_SHIFT
    records[2, record.PACK] = 1_000 << record.ZONE_SHIFT  # a number that no name has
    assert made.arrays.zone_of[zone_numbers()[name]] == 0
    made.need_zones(records)
    now = ms(datetime(2026, 7, 1, 22, 30, tzinfo=UTC))
    assert periods(made.arrays, zone_numbers()[name], now, WINDOW_DAY) == naive(name, now, WINDOW_DAY)
    assert periods(made.arrays, 1_000, now, WINDOW_DAY) == naive("UTC", now, WINDOW_DAY)


def test_numbers_fit_into_a_record() -> None:
    assert 400 < len(zone_names()) < record.ZONE_UNKNOWN
