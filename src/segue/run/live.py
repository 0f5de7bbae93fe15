"""The live view of a run: what its output files hold so far, as it grows."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from rich import live
from rich.columns import Columns
from rich.console import Console, Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from segue.outputs import DEAD_LETTERS, DECISIONS, LATE, SUMMARY
from segue.run.progress import Moving, Rate, Total, looking
from segue.sinks.files import output_path, read_decisions
from segue_kernels.shard import REASON_NAMES

if TYPE_CHECKING:
    from segue.sources.pace import Pace

_LAST = 8  # actions shown
_LOOK_S = 0.2
_REASONS = {
    "won": "sent",
    "not_eligible": "not eligible for the offer",
    "not_applicable": "not applicable to the situation",
    "not_suitable": "not suitable for the customer",
    "currency": "another currency",
    "no_consent": "no consent for the channel",
    "suppressed": "unsubscribed, bounced or marked as spam",
    "limit": "limit reached: not so often",
    "cap": "cap reached: enough by all journeys together",
    "quiet_hours": "quiet hours where the customer is",
    "held": "quiet hours: held until they end",
    "expired": "quiet hours outlast it",
    "below_minimum": "score below the minimum",
    "outscored": "another offer scored higher",
    "other_slot": "the customer got another one",
    "control": "control group",
    "budget": "campaign's budget spent",
}


_ACTION = b'{"kind":"action"'  # not what takes one back


class _Line(msgspec.Struct):
    """The fields of an action that are shown."""

    time: str
    customer_id: str
    channel: str
    offer: str
    score: float
    product_id: str | None = None
    category: str | None = None


class Tail:
    """New whole lines of a growing file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def lines(self) -> list[bytes]:
        """The lines that were added since the last look."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        end = data.rfind(b"\n") + 1
        self._offset += end
        return data[:end].splitlines()


class Live(Moving):
    """Events, customers' decisions, actions by channel and the last of them, reasons for not acting."""

    def __init__(self, console: Console, out: Path, events: int) -> None:
        super().__init__(console)
        self._console = console
        self._out = out
        self._events = events
        self._tails: dict[str, Tail] = {}
        self._actions: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._customers = 0
        self._last: deque[_Line] = deque(maxlen=_LAST)
        self._log_bytes = 0

    @contextlib.contextmanager
    def watch(self, pace: Pace, total: Total) -> Iterator[None]:
        """The view; its last frame stays on the screen."""
        rate = Rate()
        started = time.monotonic()
        with live.Live(
            console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        ) as screen:

            def look() -> None:
                with contextlib.suppress(OSError, msgspec.DecodeError):
                    self._read()
                events, _ = pace.progress()
                screen.update(self._frame(events, rate.at(events), time.monotonic() - started), refresh=True)

            with looking(look, _LOOK_S):
                yield

    def _read(self) -> None:
        for path in sorted(self._out.glob("*.jsonl")):
            if path.stem in (SUMMARY, DEAD_LETTERS, LATE):
                continue
            told = self._tails.setdefault(path.stem, Tail(path)).lines()
            lines = [line for line in told if line.startswith(_ACTION)]
            self._actions[path.stem] += len(lines)
            self._last += [msgspec.json.decode(line, type=_Line) for line in lines[-_LAST:]]
        log = output_path(self._out, DECISIONS)
        size = log.stat().st_size
        if size != self._log_bytes:
            self._log_bytes = size
            self._read_decisions(log)

    def _read_decisions(self, log: Path) -> None:
        """The log is a compressed stream: read again as a whole, which takes milliseconds at this size."""
        reasons = np.zeros(256, np.int64)
        customers: set[str] = set()
        for batch in read_decisions(log):
            data = b"".join(batch.column("reasons").to_pylist())
            reasons += np.bincount(np.frombuffer(data, np.uint8), minlength=256)
            customers.update(batch.column("customer_id").to_pylist())
        self._reasons = Counter({name: int(reasons[i]) for i, name in enumerate(REASON_NAMES) if reasons[i]})
        self._customers = len(customers)

    def _frame(self, events: int, events_per_second: float, seconds: float) -> Any:
        head = Text.assemble(
            (f"{events:>9,}", "bold"), " events   ",
            (f"{events_per_second:>9,.0f}", "bold"), " events/s   ",
            (f"{self._customers:>7,}", "bold"), " customers decided on   ",
            (f"{sum(self._actions.values()):>6,}", "bold"), " actions   ",
            f"{seconds:.1f} s",
        )  # fmt: skip
        bar = ProgressBar(total=max(1, self._events), completed=events, width=60)
        last = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for line in sorted(self._last, key=lambda line: line.time)[-_LAST:]:
            about = line.product_id or line.category or ""
            last.add_row(
                line.time[11:19],
                line.customer_id,
                Text(line.channel, style="cyan"),
                line.offer,
                about,
                f"{line.score:.2f}",
            )
        channels = _counts(self._actions, lambda name: name)
        reasons = _counts(self._reasons, lambda name: _REASONS.get(name, name))
        return Group(
            head,
            bar,
            Columns(
                [
                    Panel(channels, title="actions by channel", width=30),
                    Panel(reasons, title="what became of each candidate", width=46),
                ]
            ),
            Panel(last, title="last actions: time, customer, channel, offer, about, score", width=100),
        )


def _counts(counts: Counter[str], label: Callable[[str], str]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(label(name), f"{count:,}")
    return table
