"""Time is ISO 8601 with an offset, read as whole milliseconds since 1970 UTC, rounded down.

A time without an offset is refused: nobody knows when it was.
"""

from __future__ import annotations

import re
from datetime import date

from segue import limits
from segue.events.refusal import Refusal

_FORM = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,32}))?)?"
    r"(?:([Zz])|([+-])([0-9]{2}):?([0-9]{2}))?"
)
_EPOCH_DAY = date(1970, 1, 1).toordinal()


def parse_time_ms(text: str, field: str = "time") -> int:
    """Milliseconds since 1970 UTC of an ISO 8601 date and time; Refusal says what is wrong with it."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise Refusal(f"{field} {text[:40]!r} is not ISO 8601 (2026-03-01T12:00:00.000Z)")
    year, month, day, hour, minute, second, fraction, zulu, sign, offset_hours, offset_minutes = (
        match.groups()
    )
    if zulu is None and sign is None:
        raise Refusal(f"{field} {text[:40]!r} has no offset: add Z or +hh:mm")
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError:
        raise Refusal(f"{field} {text[:40]!r} is no date of the calendar") from None
    seconds = int(second or 0)
    if int(hour) > 23 or int(minute) > 59 or seconds > 59:
        raise Refusal(f"{field} {text[:40]!r} is no time of day")
    ms = ((days * 24 + int(hour)) * 60 + int(minute)) * 60_000 + seconds * 1_000
    ms += int(((fraction or "") + "000")[:3])
    if sign is not None:
        if int(offset_hours) > 23 or int(offset_minutes) > 59:
            raise Refusal(f"{field} {text[:40]!r} has an impossible offset")
        offset_ms = (int(offset_hours) * 60 + int(offset_minutes)) * 60_000
        ms += -offset_ms if sign == "+" else offset_ms
    return ms


def time_text(time_ms: int) -> str:
    """2026-03-01T12:00:00.000Z of a time in milliseconds; a time outside the calendar as its number."""
    days, rest = divmod(time_ms, limits.DAY_MS)
    try:
        day = date.fromordinal(days + _EPOCH_DAY)
    except (ValueError, OverflowError):
        return f"{time_ms} ms"
    hours, rest = divmod(rest, limits.HOUR_MS)
    minutes, rest = divmod(rest, limits.MINUTE_MS)
    return f"{day.isoformat()}T{hours:02}:{minutes:02}:{rest // 1000:02}.{rest % 1000:03}Z"


def check_time_ms(time_ms: int, arrival_ms: int) -> None:
    """Refuse an event time before the year 2000 or too far ahead of the start of the run."""
    if time_ms < limits.EVENT_TIME_MS_MIN:
        raise Refusal(f"time {time_text(time_ms)} is before {time_text(limits.EVENT_TIME_MS_MIN)}")
    if time_ms > arrival_ms + limits.FUTURE_MS_MAX:
        hours = limits.FUTURE_MS_MAX // limits.HOUR_MS
        raise Refusal(
            f"time {time_text(time_ms)} is in the future: more than {hours} h after {time_text(arrival_ms)}"
        )
