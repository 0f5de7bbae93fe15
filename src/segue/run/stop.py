"""How a run is ended from outside, and how it ends itself.

Without state Ctrl-C and SIGTERM end a command with an exception in the main thread, wherever it is. With state they
set STOP: sources give nothing more, the epoch is finished and made durable. If that takes longer than STOP_MS_MAX
(brokers do not answer) it is given up as in a crash: the next start goes on from the epoch before. FAILED holds what
went wrong in a thread that nobody waits for: a step that is idle would not hear of it otherwise.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from segue import limits
from segue.errors import SegueError
from segue.run.failure import Stopped, say

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AGAIN_S = 0.05

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
        self.over = False  # it is the handler no more

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        self.signal_number = number
        raise Stopped(number)

    def again(self) -> None:
        """The exception got lost where nothing can be raised: send the signal again, once the main thread is out."""

        def send() -> None:
            time.sleep(_AGAIN_S)
            if not self.over:
                os.kill(os.getpid(), self.signal_number)

        threading.Thread(target=send, name="stop-again", daemon=True).start()


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Meanwhile the signals raise Stopped in the main thread."""
    PREPARING.clear()
    stop = Stop()
    unraisable = sys.unraisablehook

    def quiet(what: sys.UnraisableHookArgs) -> None:
        if isinstance(what.exc_value, Stopped):
            stop.again()
        else:
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
        stop.over = True
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
    ended = threading.Event()
    came = False
    while number := os.read(read_end, 1):
        if number[0] in _SIGNALS and not came:
            came = True
            STOP.set()
            threading.Thread(target=_end_in_time, args=(ended,), name="end-in-time", daemon=True).start()
    ended.set()
    os.close(read_end)


def _end_in_time(ended: threading.Event) -> None:
    """Whoever still waits after STOP_MS_MAX hears that it is over; who does not listen is ended as if by a crash."""
    if ended.wait(limits.STOP_MS_MAX / 1000):
        return
    error = SegueError(
        "stop",
        f"the epoch under way could not be finished within {limits.STOP_MS_MAX // 1000} s",
        "start again, when the brokers (if any) answer: it goes on from the last epoch, and nothing is lost",
    )
    FAILED.set(error)
    if not ended.wait(limits.STOP_LATE_MS / 1000):
        say(f"error: {error}")
        os._exit(1)


@contextlib.contextmanager
def stopping_at_an_epoch() -> Iterator[None]:
    """Meanwhile the signals set STOP, and nothing else; afterwards it is as if none had come. Raises Stopped if one
    came before and its exception got lost."""
    STOP.clear()
    FAILED.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.getsignal(number) for number in _SIGNALS]
    for handler in before:
        if isinstance(handler, Stop) and handler.signal_number:
            raise Stopped(handler.signal_number)
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
