"""Ctrl-C and SIGTERM end a command with an exception in the main thread, wherever it is."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from segue.errors import SegueError
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


class Failed:
    """The first error of a thread that nobody waits for; sources, sinks and snapshots of the process raise it."""

    def __init__(self) -> None:
        self._error: SegueError | None = None
        self._lock = threading.Lock()

    def set(self, error: SegueError) -> None:
        """Note an error; only the first counts."""
        with self._lock:
            if self._error is None:
                self._error = error

    def raise_if_set(self) -> None:
        """Raise what was noted."""
        if self._error is not None:
            raise self._error

    def clear(self) -> None:
        """Forget it: a new run begins in this process."""
        with self._lock:
            self._error = None


FAILED = Failed()
