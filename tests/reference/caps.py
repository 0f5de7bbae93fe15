"""Caps, counted from the actions alone: who got how many within which window, whatever decided it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

from segue_kernels import plan
from tests.reference.history import period_start_ms
from tests.reference.journeys import Policies

Who = tuple[str, str]  # kind and identifier of a customer


def period_of(time_ms: int, zone: str, window: int) -> tuple[int, ...]:
    """What is the same for all moments of a zone's hour, day, week or month."""
    local = datetime.fromtimestamp(time_ms / 1_000, ZoneInfo(zone))
    if window == plan.WINDOW_HOUR:
        return (period_start_ms(time_ms, zone, window),)
    if window == plan.WINDOW_WEEK:
        return tuple(local.isocalendar())[:2]
    if window == plan.WINDOW_MONTH:
        return local.year, local.month
    return local.year, local.month, local.day


def caps_passed(
    actions: Iterable[Mapping[str, Any]], policies: Policies, zone_of: Callable[[Who], str | None]
) -> list[str]:
    """Every cap that somebody's actions pass in some window of it.

    zone_of  the one time zone in which a customer ever was; None if there were several: then windows by the calendar
             are not looked at
    """
    purposes = {(j.id, offer.id): offer.purpose for j in policies.journeys for offer in j.offers}
    sent: dict[Who, list[tuple[int, str, str]]] = defaultdict(list)
    for action in actions:
        time_ms = round(datetime.fromisoformat(action["time"]).timestamp() * 1_000)
        contact = action["channel"], purposes[action["journey"], action["offer"]]
        sent[action["customer_kind"], action["customer_id"]].append((time_ms, *contact))
    passed = []
    for who, mine in sent.items():
        for cap in policies.caps:
            times = sorted(
                t for t, channel, purpose in mine if channel in cap.channels and purpose in cap.purposes
            )
            windows: list[list[int]] = []
            if cap.window_ms > 0:
                windows = [[t for t in times if last - cap.window_ms < t <= last] for last in times]
            elif (zone := zone_of(who)) is not None:
                windows = [
                    list(group)
                    for _, group in groupby(times, lambda t: period_of(t, zone, cap.window_ms))  # noqa: B023
                ]
            passed += [f"{who} {cap}: {window}" for window in windows if len(window) > cap.times]
    return passed
