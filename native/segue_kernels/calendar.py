"""Hours, days, weeks and months of a customer's own time zone, through every change of its clocks.

A local day begins at the first instant at which the zone's calendar shows its date or a later one, a week with its
Monday, a month with its first; an hour begins on the full hour that its clocks show, and where they change. So each
moment is in exactly one hour, day, week and month of a zone. The tables know the local dates 2015-01-01 to 2045-12-31;
a moment whose local date is another has the periods of UTC, and its clocks show UTC.
"""

from __future__ import annotations

from segue_kernels.jit import Array, inline, kernel, outline
from segue_kernels.plan import WINDOW_DAY, WINDOW_HOUR, WINDOW_WEEK
from segue_kernels.record import PACK, ZONE_MASK, ZONE_SHIFT
from segue_kernels.shard import World

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
NO_SHIFT = 1 << 62  # ms: the clocks never change again
SHIFTS = 128  # changes of a zone's clocks that the tables have room for, the first of them before all days

# Days are counted from 1970-01-01; the tables begin on the Monday of the week (and the first of the month) before
# the first day known, and end with the month after the last.
TABLE_FIRST_DAY = 16_405  # 2014-12-01
KNOWN_FIRST_DAY = 16_436  # 2015-01-01
KNOWN_LAST_DAY = 27_758  # 2045-12-31
TABLE_DAYS = 27_789 - TABLE_FIRST_DAY + 1  # to 2046-01-31

DEFAULT_ZONE = 0  # of World.defaults (tables.py has another): the zone of a customer who told none

_MONDAY = 3  # 1970-01-01 was a Thursday: (day + 3) % 7 is 0 on Mondays


@inline
def month_day_of(day: int) -> int:
    """The day on which the month of `day` begins, both counted from 1970-01-01."""
    shifted = day + 719_468  # from 0000-03-01
    day_of_era = shifted % 146_097
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    return day - (day_of_year - (153 * month + 2) // 5)


@inline
def _local_day(world: World, zone_row: int, now: int) -> int:
    """The row of the local day of `now` in the tables, -1 if it is none that they know."""
    day = now // DAY_MS - TABLE_FIRST_DAY
    if (
        day < 1 or day > TABLE_DAYS - 3
    ):  # a zone is at most a day away from UTC, and the day after is looked at
        return -1
    while world.day_start[zone_row, day] > now:
        day -= 1
    while world.day_start[zone_row, day + 1] <= now:
        day += 1
    if day < KNOWN_FIRST_DAY - TABLE_FIRST_DAY or day > KNOWN_LAST_DAY - TABLE_FIRST_DAY:
        return -1
    return day


@inline
def weekday_of(day: int) -> int:
    """0 = Monday, of a day counted from 1970-01-01."""
    return (day + _MONDAY) % 7


@inline
def _first_day(day: int, month_day: int, window: int) -> int:
    """The first day of the period that `day` is in."""
    if window == WINDOW_DAY:
        return day
    if window == WINDOW_WEEK:
        return day - weekday_of(day)
    return month_day


@inline
def _zone_row(world: World, zone: int) -> int:
    if zone == 0:
        zone = world.defaults[DEFAULT_ZONE]
    return world.zone_of[zone]


@outline
def clock_at(world: World, zone: int, now: int) -> tuple[int, int, int]:
    """What the clocks of a zone (0: the deployment's) do at `now`, UTC ms: how far they are ahead of UTC, since when,
    and when they change next."""
    zone_row = _zone_row(world, zone)
    if _local_day(world, zone_row, now) < 0:
        return 0, -NO_SHIFT, NO_SHIFT
    first = 0
    behind = SHIFTS
    while behind - first > 1:
        middle = (first + behind) >> 1
        if world.shift_start[zone_row, middle] <= now:
            first = middle
        else:
            behind = middle
    following = world.shift_start[zone_row, behind] if behind < SHIFTS else NO_SHIFT
    return world.shift_ms[zone_row, first], world.shift_start[zone_row, first], following


@inline
def period_start(world: World, zone: int, now: int, window: int) -> int:
    """UTC ms at which the local hour, day, week or month (plan.WINDOW_*) of `now` begins; zone 0: the deployment's."""
    if window == WINDOW_HOUR:
        ahead, since, _ = clock_at(world, zone, now)
        return max(now - (now + ahead) % HOUR_MS, since)
    zone_row = _zone_row(world, zone)
    day = _local_day(world, zone_row, now)
    if day < 0:
        utc_day = now // DAY_MS
        return _first_day(utc_day, month_day_of(utc_day), window) * DAY_MS
    first = _first_day(day + TABLE_FIRST_DAY, world.month_day[day] + TABLE_FIRST_DAY, window)
    return world.day_start[zone_row, first - TABLE_FIRST_DAY]


@inline
def period_end(world: World, zone: int, now: int, window: int) -> int:
    """UTC ms at which the next one begins."""
    if window == WINDOW_HOUR:
        ahead, _, following = clock_at(world, zone, now)
        return min(now - (now + ahead) % HOUR_MS + HOUR_MS, following)
    zone_row = _zone_row(world, zone)
    day = _local_day(world, zone_row, now)
    step = (
        1 if window == WINDOW_DAY else 7 if window == WINDOW_WEEK else 31
    )  # from a first into the next month
    if day < 0:
        utc_day = now // DAY_MS
        following = _first_day(utc_day, month_day_of(utc_day), window) + step
        return _first_day(following, month_day_of(following), window) * DAY_MS
    first = _first_day(day + TABLE_FIRST_DAY, world.month_day[day] + TABLE_FIRST_DAY, window)
    row = first + step - TABLE_FIRST_DAY
    if window != WINDOW_DAY and window != WINDOW_WEEK:
        row = world.month_day[row]
    return world.day_start[zone_row, row]


@kernel
def find_new_zone(records: Array, zone_of: Array, start: int) -> int:
    """The first of records[start:] whose time zone has no row in the calendar yet, or -1."""
    for i in range(start, len(records)):
        zone = (records[i, PACK] >> ZONE_SHIFT) & ZONE_MASK
        if zone != 0 and zone_of[zone] == 0:
            return i
    return -1
