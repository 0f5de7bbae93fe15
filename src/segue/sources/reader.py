"""A source partition with its decoder: chunks of bytes or columns in, stamped batches out, dead letters beside them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec
import numpy as np

from segue.clock import Clock
from segue.events.batch import DeadLetter, Decoded, Late, Origin
from segue.events.decode import Decoder
from segue.limits import AHEAD_MS_MAX, BATCH_BYTES_MAX, TELL_MS, TICK_BEHIND_MS, TICK_MS
from segue.routing.packet import CLOCK_END, ROW_BITS, Place, SourceBatch
from segue.sources.interface import BrokenChunk, LineChunk, Partition, QuietChunk, RowChunk, TableChunk
from segue.sources.pace import Pace
from segue_kernels.record import FLAG_IS_LINE, PACK, SEQUENCE, TIME
from segue_kernels.stamp import latest_time

_Numbered = LineChunk | TableChunk | RowChunk | BrokenChunk
LINE_BITS = 20  # of the number of what was refused: its line in its message, whose offset stands above them


class ReadCounts(msgspec.Struct):
    """What one partition gave: input lines (rows), events, dead letters, late events, unknown time zones, and (live)
    events that were dated too far ahead of their arrival."""

    lines: int = 0
    events: int = 0
    dead_letters: int = 0
    late: int = 0
    unknown_zones: int = 0
    ahead: int = 0


@dataclass(slots=True)
class ReadBatch:
    """What one step of reading gave; `counts` stands in the partition's last one.

    wake  nothing yet: it goes before all else to every part of the flow, so that each is in the first checkpoint
    """

    batches: list[SourceBatch] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    late: list[Late] = field(default_factory=list)
    counts: ReadCounts | None = None
    wake: bool = False


class ReaderState(msgspec.Struct, frozen=True):
    """Where a reader goes on: what the partition calls its position, and how far clock, rows and batches have come."""

    position: Any
    clock_ms: int
    row: int
    batch: int
    told_ms: int
    ticked_ms: int
    counts: ReadCounts
    ended: bool
    was_read: bool = True  # nobody waits until it is read to its end


class BatchReader:
    """Reads one partition at the pace the others and the shards allow.

    The partition's clock and row numbers move at rows: where chunks and batches end changes nothing. The clock never
    goes back. With a wall clock the input is live:
    - an event more than AHEAD_MS_MAX ahead of its arrival is set to its arrival; one that is less ahead keeps its time,
      but moves the partition's clock no further than to its arrival. One phone with a wrong clock must not make its
      owner's next day late, nor other customers' events, nor have other partitions' rows wait for it;
    - while the partition confirms that nothing is missing, a tick (a batch without rows) moves its clock to the time
      that was confirmed, so that what is due on an idle night comes. Unconfirmed, it stands still: an outage is no
      silence of the customers.
    """

    def __init__(
        self,
        partition: Partition,
        index: int,
        decoder: Decoder,
        pace: Pace,
        batch_rows: int,
        clock: Clock | None = None,
        state: ReaderState | None = None,
    ) -> None:
        self._partition = partition
        self._index = index
        self._decoder = decoder
        self._pace = pace
        self._batch_rows = batch_rows
        self._clock = clock
        self._arrival_ms = 0
        self._ticked_ms = -1
        self._told_ms = -1  # what every shard was told of the clock
        self._clock_ms = -1
        self._row = 0
        self._batch = 0
        self._counts = ReadCounts()
        self._ended = False
        self._quiet = False
        if state is not None:
            self._resume(state)

    def state(self) -> ReaderState:
        """Where the next batch begins: a reader made with it, on the partition opened at its position, gives that."""
        return ReaderState(
            position=self._partition.position(),
            clock_ms=self._clock_ms,
            row=self._row,
            batch=self._batch,
            told_ms=self._told_ms,
            ticked_ms=self._ticked_ms,
            counts=msgspec.structs.replace(self._counts),
            ended=self._ended,
            was_read=self._pace.was_read(self._index),
        )

    def _resume(self, state: ReaderState) -> None:
        self._clock_ms = state.clock_ms
        self._row = state.row
        self._batch = state.batch
        self._told_ms = state.told_ms
        self._ticked_ms = state.ticked_ms
        self._counts = msgspec.structs.replace(state.counts)
        self._ended = state.ended
        self._pace.resumed(self._index, state.clock_ms)
        if state.was_read:
            self._pace.go_on(self._index)
        if self._ended:
            self._pace.done(self._index)

    @property
    def ended(self) -> bool:
        """Whether the batch that says so has been given."""
        return self._ended

    @property
    def quiet(self) -> bool:
        """Whether the input had nothing at the last step: there is time to wait a little."""
        return self._quiet

    def may_read(self) -> bool:
        """Whether the next batch may be read now."""
        return self._pace.may_read(self._index)

    def read(self) -> ReadBatch:
        """The next step: batches of one chunk, a tick, nothing, or the end."""
        chunk = self._partition.read(self._batch_rows, BATCH_BYTES_MAX)
        result = ReadBatch()
        self._quiet = isinstance(chunk, QuietChunk)
        if self._clock is not None:
            self._arrival_ms = self._clock.now_ms()
        if chunk is None:
            self._ended = True
            self._pace.done(self._index)
            end = (CLOCK_END, self._sequence())
            result.batches.append(SourceBatch(self._index, self._batch, self._place(), end, None))
            result.counts = self._counts
        elif isinstance(chunk, LineChunk):
            line = chunk.first_line
            start = 0
            while start < len(chunk.payload):
                origin = Origin(chunk.file, line, chunk.offset, chunk.offsets, chunk.first_line)
                before = start
                decoded, start = self._decoder.json_lines(
                    chunk.payload, start, self._batch_rows, origin, chunk.padded
                )
                line += decoded.lines
                self._add(decoded, result, start - before)
            self._number(result, chunk)
        elif isinstance(chunk, TableChunk):
            offsets = None
            if chunk.offset is not None:
                offsets = np.broadcast_to(np.int64(chunk.offset), chunk.batch.num_rows)
            origin = Origin(chunk.file, chunk.first_row, 0, offsets, chunk.first_row)
            self._add(self._decoder.table(chunk.batch, origin), result)
            self._number(result, chunk)
        elif isinstance(chunk, RowChunk):
            origin = Origin(chunk.file, offsets=chunk.offsets)
            self._add(self._decoder.topic_rows(chunk.rows, origin), result)
            self._number(result, chunk)
        elif isinstance(chunk, BrokenChunk):
            result.dead.append(DeadLetter(chunk.file, chunk.row, chunk.offset, chunk.reason, chunk.raw))
            self._number(result, chunk)
            self._counts.dead_letters += 1
        else:
            assert isinstance(chunk, QuietChunk)
            if chunk.caught_up_ms is not None:
                self._pace.at_end(self._index)
            if self._clock is not None and chunk.caught_up_ms is not None:
                self._tick(chunk.caught_up_ms, result)
        return result

    def _add(self, decoded: Decoded, result: ReadBatch, payload_bytes: int = 0) -> None:
        start = self._place()
        events = decoded.events
        latest_ms = self._arrival_ms
        if self._clock is not None:
            latest_ms = latest_time(decoded.records, latest_ms)
        if latest_ms > self._arrival_ms + AHEAD_MS_MAX:
            self._counts.ahead += _set_to_arrival(decoded, self._arrival_ms)
            latest_ms = latest_time(decoded.records, self._arrival_ms)
        if latest_ms > self._arrival_ms:
            self._clock_ms = self._stamp_ahead(decoded)
        else:
            self._clock_ms = self._decoder.stamp(decoded, self._clock_ms, self._index, self._row)
        self._row += events
        # of what comes first each batch is waited for until all have heard it
        tell_clock = self._clock_ms >= self._told_ms + TELL_MS or self._pace.comes_first(self._index)
        if tell_clock:
            self._told_ms = self._clock_ms
        result.batches.append(
            SourceBatch(self._index, self._batch, start, self._place(), decoded, tell_clock)
        )
        result.dead += decoded.dead
        result.late += decoded.late
        self._counts.lines += decoded.lines
        self._counts.events += events
        self._counts.dead_letters += len(decoded.dead)
        self._counts.late += len(decoded.late)
        self._counts.unknown_zones += decoded.unknown_zones
        self._pace.progressed(self._index, events, payload_bytes)
        self._emitted()

    def _stamp_ahead(self, decoded: Decoded) -> int:
        """Stamp as if what is ahead of its arrival happened when it arrives; the new clock. The times stay."""
        times = decoded.records[:, TIME].copy()
        number = np.cumsum((decoded.records[:, PACK] >> 8) & FLAG_IS_LINE == 0) - 1
        np.minimum(times, self._arrival_ms, out=decoded.records[:, TIME])
        clock_ms = self._decoder.stamp(decoded, self._clock_ms, self._index, self._row)
        kept = np.isin(number, decoded.records[:, SEQUENCE] - self._sequence())
        decoded.records[:, TIME] = times[kept]
        return clock_ms

    def _tick(self, caught_up_ms: int, result: ReadBatch) -> None:
        pause_ms = TICK_BEHIND_MS if self._pace.is_behind(self._index) else TICK_MS
        if caught_up_ms <= self._clock_ms or caught_up_ms < self._ticked_ms + pause_ms:
            return
        start = self._place()
        self._clock_ms = self._ticked_ms = self._told_ms = caught_up_ms
        result.batches.append(SourceBatch(self._index, self._batch, start, self._place(), None))
        self._emitted()

    def _emitted(self) -> None:
        self._batch += 1
        self._pace.emitted(self._index, self._clock_ms)

    def _number(self, result: ReadBatch, chunk: _Numbered) -> None:
        """Give what was refused of this chunk a number that is the same in a replay, however it is cut."""
        if result.dead:
            result.dead = [_numbered(letter, self._index, chunk) for letter in result.dead]
        if result.late:
            result.late = [_numbered(event, self._index, chunk) for event in result.late]

    def _sequence(self) -> int:
        return (self._index << ROW_BITS) | self._row

    def _place(self) -> Place:
        return (self._clock_ms, self._sequence())

    def close(self) -> None:
        """Let go of the input."""
        self._partition.close()


_Refused = TypeVar("_Refused", DeadLetter, Late)


def _numbered(refused: _Refused, partition: int, chunk: _Numbered) -> _Refused:
    """Of a topic: the message's offset and the line within it; of a file the line. (Several events of one line share
    a number: they go out together or not at all.)"""
    of_file = isinstance(chunk, LineChunk) and chunk.offsets is None
    row = refused.line if of_file else refused.offset << LINE_BITS | refused.line
    return replace(refused, partition=partition, row=row)


def _set_to_arrival(decoded: Decoded, arrival_ms: int) -> int:
    """Events further ahead of their arrival than may be happen when they arrive, with their lines; how many."""
    ahead = decoded.records[:, TIME] > arrival_ms + AHEAD_MS_MAX
    decoded.records[ahead, TIME] = arrival_ms
    return int(np.count_nonzero((decoded.records[ahead, PACK] >> 8) & FLAG_IS_LINE == 0))
