"""One customer as a list of events: the plainest History, and the row and locations a plan makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from segue.policy.plan import Layout, entry_words
from segue_kernels import plan, record

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

    def record(self) -> np.ndarray:
        words = np.zeros(record.RECORD_WORDS, dtype=np.int64)
        words[record.TIME] = self.time
        words[record.PRODUCT], words[record.CATEGORY] = self.product, self.category
        words[record.STORE], words[record.CODE], words[record.SOURCE] = self.store, self.code, self.source
        words[record.PRICE], words[record.AMOUNT] = self.price, self.amount
        words[record.PACK] = self.type | self.currency << 16 | self.quantity << 32
        return words


@dataclass
class NaiveHistory:
    """Looks through all events. The last one is the event decided on; now is the greatest time."""

    events: list[Event]
    now: int = field(init=False)
    event: Event = field(init=False)

    def __post_init__(self) -> None:
        self.now = max(event.time for event in self.events)
        self.event = self.events[-1]

    def __getattr__(self, name: str) -> int:
        value: int = getattr(self.event, name)
        return value

    def feeding(self, type: int, by: int, key: int, currency: int = 0) -> Iterator[Event]:
        for event in self.events:
            own = {plan.BY_NONE: 0, plan.BY_PRODUCT: event.product, plan.BY_CATEGORY: event.category}[by]
            if event.type == type and own == key and currency in (0, event.currency):
                yield event

    def inside(self, event: Event, within_ms: int, every_ms: int) -> bool:
        if every_ms:
            return event.time // every_ms == self.now // every_ms
        return within_ms == 0 or self.now - within_ms < event.time <= self.now

    def count(self, type: int, by: int, key: int, within_ms: int, every_ms: int, up_to: int) -> int:
        return min(up_to, sum(self.inside(e, within_ms, every_ms) for e in self.feeding(type, by, key)))

    def sum(
        self, type: int, of: int, by: int, key: int, within_ms: int, every_ms: int, up_to: int, currency: int
    ) -> int:
        found = [
            (e.time, e.of(of))
            for e in self.feeding(type, by, key, currency)
            if self.inside(e, within_ms, every_ms)
        ]
        if not every_ms:
            found = sorted(found, reverse=True)[:up_to]
        return sum(value for _, value in found)

    def distinct(
        self, type: int, of: int, by: int, key: int, within_ms: int, every_ms: int, up_to: int
    ) -> int:
        keys = {e.of(of) for e in self.feeding(type, by, key) if self.inside(e, within_ms, every_ms)}
        return min(up_to, len(keys - {0}))

    def recency(self, type: int, by: int, key: int, within_ms: int) -> int | None:
        times = [e.time for e in self.feeding(type, by, key) if self.inside(e, within_ms, 0)]
        return self.now - max(times) if times else None

    # --- the same as state ----------------------------------------------------------------------------

    def row(self, layout: Layout, row_words: int) -> tuple[np.ndarray, np.ndarray]:
        """(row int64[row_words], location int64[n_streams]) as planned; keyed entries in the first slot."""
        row = np.zeros(row_words, dtype=np.int64)
        location = np.full(len(layout.streams), -1, dtype=np.int64)
        for index, words in enumerate(layout.streams):
            by = int(words[plan.STREAM_BY])
            key = {
                plan.BY_NONE: 0,
                plan.BY_PRODUCT: self.event.product,
                plan.BY_CATEGORY: self.event.category,
            }[by]
            start = int(words[plan.STREAM_OFFSET])
            if by:
                start += 1 + int(words[plan.STREAM_SLOTS])
                if not key:
                    continue
            currency = int(words[plan.STREAM_CURRENCY])
            events = list(self.feeding(int(words[plan.STREAM_TYPE]), by, key, currency))
            if not events:
                continue
            if by:
                location[index] = start
            entry = entry_of(words, events)
            row[start : start + len(entry)] = entry
        return row, location


def entry_of(words: np.ndarray, events: list[Event]) -> list[int]:
    """What a stream keeps of these events."""
    kind, k, width = (int(words[i]) for i in (plan.STREAM_KIND, plan.STREAM_K, plan.STREAM_WINDOW_MS))
    of = int(words[plan.STREAM_FIELD])
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
