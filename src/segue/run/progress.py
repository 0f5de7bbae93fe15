"""How people see that a run goes on: a moving line on a terminal, one line at its end elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from segue.sources.pace import Pace

LOOK_S = 0.1  # between two looks at the board
_RATE_WINDOW_S = 2.0  # events/s is that of the last seconds


@dataclass(frozen=True)
class Total:
    """What there is to read, 0 = not known beforehand: events, or bytes of text."""

    events: int = 0
    payload_bytes: int = 0

    def share(self, events: int, payload_bytes: int) -> float | None:
        """How much of it that is, 0 to 1; None if nobody knows."""
        if self.events:
            return min(1.0, events / self.events)
        if self.payload_bytes:
            return min(1.0, payload_bytes / self.payload_bytes)
        return None


class Rate:
    """Events a second over the last seconds."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def at(self, events: int) -> float:
        """Take a look in; the rate since the oldest one that is kept."""
        now = time.monotonic()
        self._seen.append((now, events))
        while len(self._seen) > 2 and self._seen[0][0] < now - _RATE_WINDOW_S:
            self._seen.pop(0)
        since, before = self._seen[0]
        return (events - before) / (now - since) if now > since else 0.0


class Display(Protocol):
    """What a run tells while it goes on."""

    def step(self, text: str) -> AbstractContextManager[None]:
        """Something takes a while meanwhile."""

    def watch(self, pace: Pace, total: Total) -> AbstractContextManager[None]:
        """The flow runs meanwhile; the board tells how far it is."""

    def count(self, counted: Callable[[], int], total: int) -> AbstractContextManager[None]:
        """Events are written meanwhile."""

    def note(self, text: str) -> None:
        """A line that stays."""


def terminal() -> Console:
    """A console on standard error that goes on writing there while file descriptor 2 is captured."""
    stream: TextIO = sys.stderr
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if sys.stderr.fileno() == 2:
            stream = os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors="replace")
    return Console(file=stream, highlight=False)


def display(console: Console, *, quiet: bool) -> Display:
    """What fits: nothing, a moving line, or plain lines."""
    if quiet:
        return Silent()
    return Moving(console) if console.is_terminal else Plain(console)


@contextlib.contextmanager
def looking(look: Callable[[], None], every_s: float = LOOK_S) -> Iterator[None]:
    """Call `look()` again and again from another thread, and a last time at the end."""
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(every_s):
            look()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        look()


class Silent:
    """Says nothing."""

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Nothing."""
        yield

    @contextlib.contextmanager
    def watch(self, pace: Pace, total: Total) -> Iterator[None]:
        """Nothing."""
        yield

    @contextlib.contextmanager
    def count(self, counted: Callable[[], int], total: int) -> Iterator[None]:
        """Nothing."""
        yield

    def note(self, text: str) -> None:
        """Nothing."""


class Plain:
    """A line a long step, and one line at the end of the run."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """The step and its seconds, if it took long enough to wonder."""
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        if seconds >= 1:
            self._console.print(f"{text}: {seconds:.1f} s")

    @contextlib.contextmanager
    def watch(self, pace: Pace, total: Total) -> Iterator[None]:
        """Events and events/s at the end."""
        started = time.monotonic()
        yield
        seconds = max(1e-9, time.monotonic() - started)
        events, _ = pace.progress()
        self._console.print(f"{events:,} events read in {seconds:.1f} s ({events / seconds:,.0f} events/s)")

    @contextlib.contextmanager
    def count(self, counted: Callable[[], int], total: int) -> Iterator[None]:
        """Nothing: a note follows."""
        yield

    def note(self, text: str) -> None:
        """A line."""
        self._console.print(text, markup=False, soft_wrap=True)


class Moving:
    """A line that moves: spinner, bar where the size is known, events, events/s, time."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """A spinner."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(
            *columns, console=self._console, transient=True, redirect_stdout=False, redirect_stderr=False
        ) as progress:
            progress.add_task(text, total=None)
            yield

    @contextlib.contextmanager
    def watch(self, pace: Pace, total: Total) -> Iterator[None]:
        """A bar."""
        rate = Rate()
        with self._bar() as update:

            def look() -> None:
                events, payload_bytes = pace.progress()
                share = total.share(events, payload_bytes)
                rate_now = rate.at(events)
                update(f"{events:,} events  {payload_bytes / 1e6:,.0f} MB  {rate_now:,.0f} events/s", share)

            with looking(look):
                yield

    @contextlib.contextmanager
    def count(self, counted: Callable[[], int], total: int) -> Iterator[None]:
        """A bar."""
        rate = Rate()
        with self._bar() as update:

            def look() -> None:
                events = counted()
                update(
                    f"{events:,} events  {rate.at(events):,.0f} events/s", events / total if total else None
                )

            with looking(look):
                yield

    def note(self, text: str) -> None:
        """A line."""
        self._console.print(text, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def _bar(self) -> Iterator[Callable[[str, float | None], None]]:
        columns = (
            SpinnerColumn(),
            BarColumn(bar_width=30),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
        )
        with Progress(
            *columns, console=self._console, transient=True, redirect_stdout=False, redirect_stderr=False
        ) as progress:
            task = progress.add_task("", total=None)

            def update(text: str, share: float | None) -> None:
                progress.update(
                    task, description=text, total=None if share is None else 1.0, completed=share or 0.0
                )

            yield update
