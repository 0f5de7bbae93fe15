"""The world's time zones: a number for each name, and where the local days of each begin, and when its clocks change.

The rules come from the system's time zone database, else from the tzdata package (zoneinfo looks in this order).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import numpy.typing as npt

from segue.errors import SettingsError, did_you_mean
from segue_kernels.calendar import DAY_MS, NO_SHIFT, SHIFTS, TABLE_DAYS, TABLE_FIRST_DAY
from segue_kernels.record import ZONE_UNKNOWN

Words = npt.NDArray[np.int64]

UTC_ROW = 0  # of the calendar; zones have the rows of their numbers
_DAY_S = 86_400
_EPOCH = date(1970, 1, 1).toordinal()


@cache
def zone_names() -> tuple[str, ...]:
    """All names in order: a zone's number is 1 + its place here, the same wherever the same database is."""
    # "localtime" is a different zone on each machine
    return tuple(sorted(available_timezones() - {"localtime"}))[: ZONE_UNKNOWN - 1]


@cache
def zone_numbers() -> dict[str, int]:
    """Name -> number."""
    return {name: number for number, name in enumerate(zone_names(), start=1)}


def zone_number(name: str) -> int:
    """The number of a zone that a deployment is told; 0 for UTC; SettingsError with a did-you-mean otherwise."""
    if name == "UTC":
        return 0
    number = zone_numbers().get(name)
    if number is None:
        raise SettingsError(
            "read the settings", f'unknown time zone "{name}"', did_you_mean(name, zone_names())
        )
    return number


def changes(zone: tzinfo, start_s: int, end_s: int) -> list[tuple[int, int]]:
    """(second, UTC offset in seconds from then on), from start_s on: found by looking once a day and bisecting.

    Two changes within one day that cancel out are missed: no zone has had any since standard time began.
    """

    at = datetime.fromtimestamp
    seconds = range(start_s, end_s + 2 * _DAY_S, _DAY_S)
    offsets = [at(second, zone).utcoffset() for second in seconds]
    found = [(start_s, _seconds(offsets[0]))]
    for second, offset, later in zip(seconds, offsets, offsets[1:], strict=False):
        if later != offset:
            low, high = second, second + _DAY_S  # the old one holds at `low`, another at `high`
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if at(middle, zone).utcoffset() == offset else (low, middle)
            found.append((high, _seconds(later)))
    return found


def _seconds(offset: timedelta | None) -> int:
    assert offset is not None
    return offset // timedelta(seconds=1)


def day_starts(zone: tzinfo) -> Words:
    """UTC ms at which each local day of the calendar's tables begins, int64[TABLE_DAYS].

    The first instant at which the zone shows the date or a later one: behind a gap at midnight it is when the clocks
    went forward; of a midnight that comes twice, the first.
    """
    return _day_starts(_table_changes(zone))


def _table_changes(zone: tzinfo) -> list[tuple[int, int]]:
    """As changes, for all the days of the calendar's tables."""
    return changes(zone, (TABLE_FIRST_DAY - 2) * _DAY_S, (TABLE_FIRST_DAY + TABLE_DAYS + 1) * _DAY_S)


def _day_starts(segments: Sequence[tuple[int, int]]) -> Words:
    starts = np.empty(TABLE_DAYS, np.int64)
    first, last = TABLE_FIRST_DAY, TABLE_FIRST_DAY + TABLE_DAYS - 1
    ends = [second for second, _ in segments[1:]] + [(last + 3) * _DAY_S]
    reached = first - 3  # the latest date shown so far
    for (begin, offset), end in zip(segments, ends, strict=True):
        shown = (begin + offset) // _DAY_S
        jumped = range(max(reached + 1, first), min(shown, last) + 1)
        starts[jumped.start - first : max(jumped.stop, jumped.start) - first] = begin * 1_000
        reached = max(reached, shown)
        latest = (end - 1 + offset) // _DAY_S
        days = np.arange(max(reached + 1, first), min(latest, last) + 1)
        starts[days - first] = (days * _DAY_S - offset) * 1_000
        reached = max(reached, latest)
    return starts


def _month_days() -> Words:
    """The row of the first of its month, for each row of the tables."""
    dates = (date.fromordinal(_EPOCH + TABLE_FIRST_DAY + row) for row in range(TABLE_DAYS))
    return np.array([row - (day.day - 1) for row, day in enumerate(dates)], np.int64)


class Calendar:
    """The calendar's tables of one process: all that run in it share them, and zones are loaded when first met.

    zone_of int64[1024]: the row of a zone number, UTC_ROW while it is not loaded.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.zone_of = np.zeros(ZONE_UNKNOWN + 1, np.int64)
        # pages of zones that nobody lives in are never touched
        self.day_start = np.zeros((len(zone_names()) + 1, TABLE_DAYS), np.int64)
        self.day_start[UTC_ROW] = np.arange(TABLE_FIRST_DAY, TABLE_FIRST_DAY + TABLE_DAYS) * DAY_MS
        self.month_day = _month_days()
        self.shift_start = np.full((len(self.day_start), SHIFTS), NO_SHIFT, np.int64)
        self.shift_start[:, 0] = -NO_SHIFT
        self.shift_ms = np.zeros(self.shift_start.shape, np.int64)

    def load(self, number: int) -> None:
        """Make sure that a zone's days are there; a number that is none is left at UTC."""
        if not 0 < number < len(self.day_start) or self.zone_of[number]:
            return
        with self._lock:
            if not self.zone_of[number]:
                name = zone_names()[number - 1]
                segments = _table_changes(UTC if name == "UTC" else ZoneInfo(name))
                self.day_start[number] = _day_starts(segments)
                self.shift_start[number, 1 : len(segments)] = [begin * 1_000 for begin, _ in segments[1:]]
                self.shift_ms[number, : len(segments)] = [ahead * 1_000 for _, ahead in segments]
                self.zone_of[number] = number  # last: a kernel in another thread may be looking


_calendar: Calendar | None = None
_calendar_lock = threading.Lock()


def calendar() -> Calendar:
    """This process's calendar."""
    global _calendar
    with _calendar_lock:
        if _calendar is None:
            _calendar = Calendar()
        return _calendar
