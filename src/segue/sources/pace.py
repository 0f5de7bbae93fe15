"""How far each source partition may read: not far ahead of the shards, nor of the other partitions."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segue.errors import SourceError
from segue.limits import IN_FLIGHT_BATCHES_MAX

CLOCK_UNKNOWN_MS = int(np.iinfo(np.int64).min)  # before the first event of a partition
_CLOCK_NEVER_MS = int(np.iinfo(np.int64).max)  # of a partition that has ended: it holds nobody back

_MAGIC = 0x5345_4755_4550_4143
_LINE_WORDS = 8  # a cache line: cells of different writers don't share one
_HEAD = _LINE_WORDS  # magic, partitions, shards, in flight, whether partitions are merged
# cells of a partition, then its latest clocks in a ring
_EMITTED, _CLOCK, _DONE, _EVENTS, _BYTES, _FIRST, _RING = range(7)
# of _FIRST: any time, before all others, was read to its end
_ANY, _BEFORE, _WAS_READ = range(3)

Words = npt.NDArray[np.int64]


def _padded(words: int) -> int:
    return -(-words // _LINE_WORDS) * _LINE_WORDS


def _words(partitions: int, shards: int, in_flight: int) -> int:
    return _HEAD + partitions * _padded(_RING + in_flight + 1) + 2 * shards * _padded(partitions)


class Pace:
    """A board of counters that all worker processes see; `may_read` keeps three bounds and cannot deadlock.

    1. A partition has fewer than `in_flight` batches that some shard has not taken.
    2. Where partitions are merged by clock, its own as it stood `in_flight` batches ago is at most the least clock
       of the unfinished ones; so they run ahead of the slowest by that many batches, and the one with the least
       clock is never held back.
    3. While a partition that comes first (a topic of a table) was not read to its end, and heard by all shards, only
       such ones are read.

    Each cell has one writer (a partition's reader, a shard's owner), and all values only grow: who sees an
    old one waits a little longer, nothing else, so there are no locks. Clocks are event times, ms since 1970.
    """

    def __init__(self, words: Words) -> None:
        magic, partitions, shards, in_flight = (int(word) for word in words[:4])
        size = _words(partitions, shards, in_flight) if magic == _MAGIC else -1
        if len(words) != size:
            raise SourceError("share the pace of reading", "the board is not one of this run", "start again")
        self.partitions = partitions
        self.shards = shards
        self.in_flight = in_flight
        self.merged = bool(words[4])
        width = _padded(_RING + in_flight + 1)
        middle = _HEAD + partitions * width
        self._partition: Words = words[_HEAD:middle].reshape(partitions, width)
        # of known customers, then of anonymous identifiers, who count only what comes first
        self._taken: Words = words[middle:].reshape(2 * shards, _padded(partitions))
        self._waits = True  # as far as was seen: some partition that comes first was not read to its end

    @staticmethod
    def create(
        partitions: int,
        shards: int,
        path: str | None = None,
        in_flight: int = IN_FLIGHT_BATCHES_MAX,
        merged: bool = True,
        first: Sequence[int] = (),
    ) -> Pace:
        """A fresh board, made before the workers start: in a file for all of them, else for this process.

        merged: rows wait for the clocks of all partitions (segue.routing.arrivals), not only of their own.
        first: partitions that are read to their end before any other.
        Raises SourceError if the file can't be written.
        """
        words = _words(partitions, shards, in_flight)
        if path is None:
            board = np.frombuffer(mmap.mmap(-1, words * 8), dtype=np.int64)
        else:
            try:
                with open(path, "wb") as file:
                    file.truncate(words * 8)
            except OSError as error:
                found = f'"{path}" can\'t be written: {error.strerror}'
                raise SourceError("share the pace of reading", found, "check the folder") from error
            board = _mapped(path)
        board[:5] = _MAGIC, partitions, shards, in_flight, merged
        pace = Pace(board)
        pace._partition[:, [_CLOCK, *range(_RING, _RING + in_flight + 1)]] = CLOCK_UNKNOWN_MS
        pace._partition[list(first), _FIRST] = _BEFORE
        return pace

    @staticmethod
    def attach(path: str) -> Pace:
        """The board that another process created. Raises SourceError if it is not there or is none."""
        return Pace(_mapped(path))

    def may_read(self, partition: int) -> bool:
        """Whether the partition's reader may emit its next batch now."""
        cells = self._partition[partition]
        emitted = int(cells[_EMITTED])
        if emitted - int(self._taken[: self.shards, partition].min()) >= self.in_flight:
            return False
        if self._waits and cells[_FIRST] == _ANY:
            self._waits = bool((self._partition[:, _FIRST] == _BEFORE).any())
            if self._waits:
                return False
        if not self.merged:
            return True
        before = int(cells[_RING + emitted % (self.in_flight + 1)])
        if before == CLOCK_UNKNOWN_MS:
            return True
        running = self._partition[:, _DONE] == 0
        return before <= int(self._partition[:, _CLOCK].min(where=running, initial=_CLOCK_NEVER_MS))

    def is_behind(self, partition: int) -> bool:
        """Whether another unfinished partition has come further: its rows may wait for this one's clock."""
        if not self.merged:
            return False
        running = self._partition[:, _DONE] == 0
        most = int(self._partition[:, _CLOCK].max(where=running, initial=CLOCK_UNKNOWN_MS))
        return int(self._partition[partition, _CLOCK]) < most

    def emitted(self, partition: int, clock_ms: int = CLOCK_UNKNOWN_MS) -> None:
        """The reader has sent a batch, after which the partition's clock is `clock_ms`.

        A batch without any event (all of it dead letters, say) leaves the clock as it is; a tick has none, but
        moves it.
        """
        cells = self._partition[partition]
        count = int(cells[_EMITTED])
        clock_ms = max(clock_ms, int(cells[_CLOCK]))
        cells[_RING + count % (self.in_flight + 1)] = clock_ms
        cells[_CLOCK] = clock_ms
        cells[_EMITTED] = count + 1

    def resumed(self, partition: int, clock_ms: int) -> None:
        """The reader goes on behind an earlier run that had come to `clock_ms`."""
        self._partition[partition, _CLOCK] = clock_ms

    def done(self, partition: int) -> None:
        """The partition has ended; it holds nobody back any more."""
        self._partition[partition, _DONE] = 1

    def comes_first(self, partition: int) -> bool:
        """Whether others wait until it was read to its end, or have waited."""
        return bool(self._partition[partition, _FIRST] != _ANY)

    def was_read(self, partition: int) -> bool:
        """Whether nobody waits for it (any more)."""
        return bool(self._partition[partition, _FIRST] != _BEFORE)

    def at_end(self, partition: int) -> None:
        """Its reader stands at its end: others need not wait for it once every shard has heard all of it."""
        cells = self._partition[partition]
        if cells[_FIRST] == _BEFORE and int(self._taken[:, partition].min()) >= int(cells[_EMITTED]):
            cells[_FIRST] = _WAS_READ

    def go_on(self, partition: int) -> None:
        """An earlier run has read it to its end."""
        if self.comes_first(partition):
            self._partition[partition, _FIRST] = _WAS_READ

    def heard(self, shard: int, partition: int) -> None:
        """The shard of anonymous identifiers has merged a further batch of a partition that comes first."""
        self._taken[self.shards + shard, partition] += 1

    def taken(self, shard: int, partition: int, batches: int = 1) -> None:
        """The shard has merged so many further batches of the partition (also those without a row for it)."""
        self._taken[shard, partition] += batches

    def progressed(self, partition: int, events: int, payload_bytes: int) -> None:
        """The reader has decoded so many events more, out of so many bytes (0 where it can't tell)."""
        self._partition[partition, _EVENTS] += events
        self._partition[partition, _BYTES] += payload_bytes

    def progress(self) -> tuple[int, int]:
        """(events, bytes of text) that all readers have decoded."""
        return int(self._partition[:, _EVENTS].sum()), int(self._partition[:, _BYTES].sum())

    def clock_ms(self, partition: int) -> int:
        """The partition's clock, CLOCK_UNKNOWN_MS before its first event."""
        return int(self._partition[partition, _CLOCK])

    def is_done(self, partition: int) -> bool:
        """Whether the partition has ended."""
        return bool(self._partition[partition, _DONE])

    def in_flight_batches(self, partition: int) -> int:
        """Batches of the partition that some shard has not taken."""
        taken = int(self._taken[: self.shards, partition].min())
        return int(self._partition[partition, _EMITTED]) - taken


def _mapped(path: str) -> Words:
    try:
        with open(path, "r+b") as file:
            if os.fstat(file.fileno()).st_size < _HEAD * 8:
                raise SourceError("share the pace of reading", f'"{path}" is no board', "start again")
            return np.frombuffer(mmap.mmap(file.fileno(), 0), dtype=np.int64)
    except OSError as error:
        found = f'"{path}" can\'t be opened: {error.strerror}'
        raise SourceError("share the pace of reading", found, "start again") from error
