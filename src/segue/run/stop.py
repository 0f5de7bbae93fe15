"""SIGTERM ends a command as Ctrl-C does: with an exception in the main thread."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from segue.run.failure import Stopped


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Meanwhile SIGTERM raises Stopped."""

    def stop(number: int, frame: object) -> None:
        raise Stopped(number)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
