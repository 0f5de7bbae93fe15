"""The wall clock, behind a protocol: what happens at a time can be tested without waiting for it.

Only live input asks for it: when an event arrived, and up to when nothing is missing. In a replay all time is event
time.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""


class WallClock:
    """The machine's clock. It may be set back; who needs a clock that never goes back keeps the greatest time seen."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return time.time_ns() // 1_000_000


class ManualClock:
    """A clock that moves only when it is told to."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return self._now_ms

    def set(self, now_ms: int) -> None:
        """It is that late now."""
        self._now_ms = now_ms


WALL_CLOCK = WallClock()
