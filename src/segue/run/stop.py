"""Ctrl-C and SIGTERM end a command with an exception in the main thread, wherever it is."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType

from segue.run.failure import Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """The signal that came, if any: an exception raised in a callback of the compiler may get lost."""

    def __init__(self) -> None:
        self.signal_number = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        self.signal_number = number
        raise Stopped(number)


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Meanwhile the signals raise Stopped in the main thread."""
    stop = Stop()
    unraisable = sys.unraisablehook

    def quiet(what: sys.UnraisableHookArgs) -> None:
        if not isinstance(what.exc_value, Stopped):
            unraisable(what)

    try:
        before = [signal.signal(number, stop) for number in _SIGNALS]
    except ValueError:  # not the main thread
        yield stop
        return
    sys.unraisablehook = quiet
    try:
        yield stop
    finally:
        sys.unraisablehook = unraisable
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler)
