"""How a run is ended from outside, and how it ends itself.

Without state Ctrl-C and SIGTERM end a command with an exception in the main thread, wherever it is. With state they
set STOP: sources give nothing more, the epoch is finished and made durable. FAILED holds what went wrong in a thread
that nobody waits for: a step that is idle would not hear of it otherwise.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from segue.errors import SegueError
from segue.run.failure import Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

PREPARING = (
    threading.Event()
)  # set by a command whose results only its flow writes; it is cleared when that starts
STOP = threading.Event()  # set: sources end the stream, what is due later stays
STARTED = threading.Event()  # set: all processes of the cluster are there


class Failed:
    """The first error of a thread of this process."""

    def __init__(self) -> None:
        self._error: SegueError | None = None
        self._lock = threading.Lock()

    def set(self, error: SegueError) -> None:
        """Note an error, unless there is one: the first is the cause."""
        with self._lock:
            if self._error is None:
                self._error = error

    def raise_if_set(self) -> None:
        """Raise the error that was noted, if any."""
        if self._error is not None:
            raise self._error

    def clear(self) -> None:
        """Forget it: another run begins in this process."""
        self._error = None


FAILED = Failed()


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
    PREPARING.clear()
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


def stop_on_signals() -> tuple[int, threading.Thread]:
    """From now on the signals set STOP, whatever the main thread does: Bytewax waits for its peers, and for its
    workers, without running a line of Python. Call it in the main thread. Returns a file descriptor to close when
    they no longer shall, and the thread that ends then."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(write_end, False)
    for number in _SIGNALS:
        signal.signal(number, _noted)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    thread = threading.Thread(target=_stop_when_written, args=(read_end,), name="signals", daemon=True)
    thread.start()
    return write_end, thread


def _noted(number: int, frame: FrameType | None) -> None:
    STOP.set()


def _stop_when_written(read_end: int) -> None:
    while number := os.read(read_end, 1):
        if number[0] in _SIGNALS:
            STOP.set()
    os.close(read_end)


@contextlib.contextmanager
def stopping_at_an_epoch() -> Iterator[None]:
    """Meanwhile the signals set STOP, and nothing else; afterwards it is as if none had come."""
    STOP.clear()
    FAILED.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.getsignal(number) for number in _SIGNALS]
    wakeup, thread = stop_on_signals()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler)
        os.close(wakeup)
        thread.join()
        STOP.clear()
