"""One customer as a list of events: the plainest History, and the row and locations a plan makes of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from segue.policy import ir
from segue.policy.plan import Layout, entry_words
from segue_kernels import plan, record
from segue_kernels import row as header

EVENT_FIELDS = {
    record.PRICE: "price",
    record.AMOUNT: "amount",
    plan.FIELD_QUANTITY: "quantity",
    record.PRODUCT: "product",
    record.CATEGORY: "category",
    record.STORE: "store",
    record.CODE: "code",
}


@dataclass(frozen=True)
class Event:
    """A single-item event in the words of the record."""

    time: int
    type: int
    product: int = 0
    category: int = 0
    store: int = 0
    code: int = 0
    source: int = 0
    price: int = 0
    amount: int = 0
    quantity: int = 1
    currency: int = 0

    def of(self, word: int) -> int:
        value: int = getattr(self, EVENT_FIELDS[word])
        return value

    def record(self, step: int = 0) -> np.ndarray:
        words = np.zeros(record.RECORD_WORDS, dtype=np.int64)
        words[record.TIME], words[record.SEQUENCE] = self.time, step
        words[record.PRODUCT], words[record.CATEGORY] = self.product, self.category
        words[record.STORE], words[record.CODE], words[record.SOURCE] = self.store, self.code, self.source
        words[record.PRICE], words[record.AMOUNT] = self.price, self.amount
        words[record.PACK] = self.type | self.currency << 16 | self.quantity << 32
        return words


@dataclass
class NaiveHistory:
    """Looks through all events. The last one is the event decided on; now is the greatest time.

    offset_ms   of the customer's clock on the wall
    lookups     words of tables by index
    """

    events: list[Event]
    offset_ms: int = 0
    step: int = 1
    segments: int = 0
    stage: int = 0
    lookups: tuple[int, ...] = ()
    now: int = field(init=False)
    event: Event = field(init=False)

    def __post_init__(self) -> None:
        self.now = max(event.time for event in self.events)
        self.event = self.events[-1]
        self.trigger_ms = self.event.time

    def __getattr__(self, name: str) -> int:
        value: int = getattr(self.event, name)
        return value

    def feeding(self, stream: ir.Stream, key: int) -> Iterator[Event]:
        """Events that the stream remembers."""
        for event in self.events:
            own = {plan.BY_NONE: 0, plan.BY_PRODUCT: event.product, plan.BY_CATEGORY: event.category}
            if event.type != stream.type or own[stream.by] != key:
                continue
            if stream.currency in (0, event.currency) and stream.source in (0, event.source):
                yield event

    def inside(self, time: int, within_ms: int, every_ms: int) -> bool:
        if every_ms:
            return time // every_ms == self.now // every_ms
        if within_ms >= 0:
            return within_ms == 0 or self.now - within_ms < time <= self.now
        then, today = self.on_the_wall(time), self.on_the_wall(self.now)
        if within_ms == plan.WINDOW_HOUR:
            return (then.date(), then.hour) == (today.date(), today.hour)
        if within_ms == plan.WINDOW_DAY:
            return then.date() == today.date()
        if within_ms == plan.WINDOW_WEEK:
            return then.isocalendar()[:2] == today.isocalendar()[:2]
        if within_ms == plan.WINDOW_MONTH:
            return (then.year, then.month) == (today.year, today.month)
        return self.in_session(time, -within_ms)

    def on_the_wall(self, time: int) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time + self.offset_ms)

    def activity(self) -> list[int]:
        return sorted(event.time for event in self.events if event.type < plan.SENT_TYPE)

    def in_session(self, time: int, gap_ms: int) -> bool:
        """Whether no pause longer than the gap lies between the session's begin, at or before `time`, and now."""
        seen = self.activity()
        start = self.now
        while earlier := [t for t in seen if t < start and start - t <= gap_ms]:
            start = min(earlier)
        return time >= start if start in seen else False

    def times(self, stream: ir.Stream, within_ms: int, key: int) -> list[int]:
        every_ms = stream.every_ms
        found = [e.time for e in self.feeding(stream, key) if self.inside(e.time, within_ms, every_ms)]
        return sorted(found, reverse=True)

    def sum(self, stream: ir.Stream, within_ms: int, key: int, up_to: int) -> int:
        found = sorted(
            (
                (e.time, e.of(stream.field))
                for e in self.feeding(stream, key)
                if self.inside(e.time, within_ms, stream.every_ms)
            ),
            reverse=True,
        )
        return sum(value for _, value in (found if stream.every_ms else found[:up_to]))

    def distinct(self, stream: ir.Stream, within_ms: int, key: int, up_to: int) -> int:
        keys = {
            e.of(stream.field)
            for e in self.feeding(stream, key)
            if self.inside(e.time, within_ms, stream.every_ms)
        }
        return min(up_to, len(keys - {0}))

    def decayed_sums(self, stream: ir.Stream, key: int) -> tuple[int, list[int]] | None:
        found = list(self.feeding(stream, key))
        if not found:
            return None
        width = stream.every_ms
        newest = max(e.time // width for e in found)
        sums = [0] * plan.DECAY_EPOCHS
        for event in found:
            epoch, rest = divmod(event.time, width)
            value = (event.of(stream.field) if stream.field else 1) * ir.decay_scale(stream)
            if newest - epoch < plan.DECAY_EPOCHS:
                sums[newest - epoch] += math.floor(value * math.exp2(rest / width) + 0.5)
        return newest, sums

    def first(self, stream: ir.Stream, key: int) -> tuple[int, int] | None:
        found = [(e.time, e.of(stream.field) if stream.field else 0) for e in self.feeding(stream, key)]
        return min(found, default=None)

    def lookup(self, index: int) -> int:
        return self.lookups[index]

    # --- the same as state ----------------------------------------------------------------------------

    def record(self) -> np.ndarray:
        return self.event.record(self.step)

    def row(self, layout: Layout, row_words: int) -> tuple[np.ndarray, np.ndarray]:
        """(row int64[row_words], location) as planned; keyed entries in the first slot."""
        row = np.zeros(row_words, dtype=np.int64)
        row[header.SEGMENTS], row[header.STAGE] = self.segments, self.stage
        location = np.full(len(layout.streams), -1, dtype=np.int64)
        for stream, index in layout.index.items():
            words = layout.streams[index]
            key = {
                plan.BY_NONE: 0,
                plan.BY_PRODUCT: self.event.product,
                plan.BY_CATEGORY: self.event.category,
            }[stream.by]
            start = int(words[plan.STREAM_OFFSET])
            if stream.by:
                start += 1 + int(words[plan.STREAM_SLOTS])
                if not key:
                    continue
            if stream.kind == plan.SESSIONS:
                entry = sessions_of(self.activity(), stream.every_ms, int(words[plan.STREAM_K]))
            else:
                events = list(self.feeding(stream, key))
                if not events:
                    continue
                if stream.by:
                    location[index] = start
                entry = entry_of(words, events)
            row[start : start + len(entry)] = entry
        moments = [self.moment(window, layout, row) for window in layout.moments]
        return row, np.array([*location, *moments, *self.lookups], dtype=np.int64)

    def moment(self, window: int, layout: Layout, row: np.ndarray) -> int:
        """The word of `location` for a window below 0: times after it are inside."""
        today = self.on_the_wall(self.now).replace(hour=0, minute=0, second=0, microsecond=0)
        if window == plan.WINDOW_HOUR:
            start = self.on_the_wall(self.now).replace(minute=0, second=0, microsecond=0)
        elif window == plan.WINDOW_DAY:
            start = today
        elif window == plan.WINDOW_WEEK:
            start = today - timedelta(days=today.weekday())
        elif window == plan.WINDOW_MONTH:
            start = today.replace(day=1)
        else:
            at = layout.offset(ir.Stream(plan.BY_NONE, plan.ANY_TYPE, plan.SESSIONS, every_ms=-window))
            begun, ended = int(row[at + 1]), int(row[at + 2])
            return begun - 1 if self.now - ended <= -window else self.now
        return round(start.timestamp() * 1_000) - self.offset_ms - 1


def sessions_of(times: list[int], gap_ms: int, k: int) -> list[int]:
    """[0, then k times (start, end)]: runs of ascending times with gaps up to `gap_ms`, newest first."""
    runs: list[list[int]] = []
    for time in times:
        if runs and time - runs[-1][1] <= gap_ms:
            runs[-1][1] = time
        else:
            runs.append([time, time])
    words = [word for run in reversed(runs[-k:]) for word in run]
    return [0, *words, *[0] * (2 * k - len(words))]


def entry_of(words: np.ndarray, events: list[Event]) -> list[int]:
    """What a stream keeps of these events."""
    kind, k, width = (int(words[i]) for i in (plan.STREAM_KIND, plan.STREAM_K, plan.STREAM_WIDTH_MS))
    of = int(words[plan.STREAM_FIELD])
    if kind == plan.DECAY:
        return decay_entry(width, of, events)
    if kind == plan.FIRST:
        return list(min((e.time, e.of(of) if of else 0) for e in events))
    if kind in (plan.TUMBLE_COUNT, plan.TUMBLE_SUM, plan.TUMBLE_DISTINCT):
        start = max(e.time // width * width for e in events)
        current = [e for e in events if e.time // width * width == start]
        if kind == plan.TUMBLE_COUNT:
            return [start, len(current)]
        if kind == plan.TUMBLE_SUM:
            return [start, sum(e.of(of) for e in current)]
        keys = sorted({e.of(of) for e in current} - {0})[:k]
        return [start, len(keys), *keys]
    if kind == plan.COUNT:
        return sorted((e.time for e in events), reverse=True)[:k]
    if kind == plan.SUM:
        pairs = sorted(((e.time, e.of(of)) for e in events), reverse=True)[:k]
    else:
        last: dict[int, int] = {}
        for e in events:
            if e.of(of):
                last[e.of(of)] = max(e.time, last.get(e.of(of), 0))
        pairs = sorted(((time, key) for key, time in last.items()), reverse=True)[:k]
    entry = [0] * entry_words(kind, k)
    for i, (time, value) in enumerate(pairs):
        entry[i], entry[k + i] = time, value
    return entry


def decay_entry(half_life: int, of: int, events: list[Event]) -> list[int]:
    """[epoch of the newest event + 1, its sum and those of the epochs before it], event after event."""
    scale = 64 if of in (record.PRICE, record.AMOUNT) else 1 << 20
    by_epoch: dict[int, int] = {}
    for e in events:
        grown = (e.of(of) if of else 1) * scale * math.exp2((e.time % half_life) / half_life)
        by_epoch[e.time // half_life] = by_epoch.get(e.time // half_life, 0) + math.floor(grown + 0.5)
    newest = max(by_epoch)
    return [newest + 1, *(by_epoch.get(newest - j, 0) for j in range(plan.DECAY_EPOCHS))]
