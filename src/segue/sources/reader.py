"""A source partition with its decoder: chunks of bytes or columns in, stamped batches out, dead letters beside them."""

from __future__ import annotations

from dataclasses import dataclass, field

from segue.events.batch import DeadLetter, Decoded, Late, Origin
from segue.events.decode import Decoder
from segue.limits import BATCH_BYTES_MAX
from segue.routing.packet import CLOCK_END, ROW_BITS, Place, SourceBatch
from segue.sources.interface import BrokenChunk, LineChunk, Partition, QuietChunk, TableChunk
from segue.sources.pace import Pace


@dataclass(slots=True)
class ReadCounts:
    """What one partition gave: input lines (rows), events, dead letters, late events, unknown time zones."""

    lines: int = 0
    events: int = 0
    dead_letters: int = 0
    late: int = 0
    unknown_zones: int = 0


@dataclass(slots=True)
class ReadBatch:
    """What one step of reading gave; `counts` stands in the partition's last one."""

    batches: list[SourceBatch] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    late: list[Late] = field(default_factory=list)
    counts: ReadCounts | None = None


class BatchReader:
    """Reads one partition at the pace the others and the shards allow.

    The partition's clock and row numbers move at rows: where chunks and batches end changes nothing.
    """

    def __init__(
        self, partition: Partition, index: int, decoder: Decoder, pace: Pace, batch_rows: int
    ) -> None:
        self._partition = partition
        self._index = index
        self._decoder = decoder
        self._pace = pace
        self._batch_rows = batch_rows
        self._clock_ms = -1
        self._row = 0
        self._batch = 0
        self._counts = ReadCounts()
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the batch that says so has been given."""
        return self._ended

    def may_read(self) -> bool:
        """Whether the next batch may be read now."""
        return self._pace.may_read(self._index)

    def read(self) -> ReadBatch:
        """The next step: batches of one chunk, or the end."""
        chunk = self._partition.read(self._batch_rows, BATCH_BYTES_MAX)
        result = ReadBatch()
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
                origin = Origin(chunk.file, line, chunk.offset)
                decoded, start = self._decoder.json_lines(chunk.payload, start, self._batch_rows, origin)
                line += decoded.lines
                self._add(decoded, result)
            self._pace.progressed(self._index, 0, len(chunk.payload))
        elif isinstance(chunk, TableChunk):
            self._add(self._decoder.table(chunk.batch, Origin(chunk.file, chunk.first_row)), result)
        elif isinstance(chunk, BrokenChunk):
            result.dead.append(DeadLetter(chunk.file, chunk.row, chunk.offset, chunk.reason, chunk.raw))
            self._counts.dead_letters += 1
        else:
            assert isinstance(chunk, QuietChunk)
        return result

    def _add(self, decoded: Decoded, result: ReadBatch) -> None:
        start = self._place()
        events = decoded.events
        self._clock_ms = self._decoder.stamp(decoded, self._clock_ms, self._index, self._row)
        self._row += events
        result.batches.append(SourceBatch(self._index, self._batch, start, self._place(), decoded))
        result.dead += decoded.dead
        result.late += decoded.late
        self._counts.lines += decoded.lines
        self._counts.events += events
        self._counts.dead_letters += len(decoded.dead)
        self._counts.late += len(decoded.late)
        self._counts.unknown_zones += decoded.unknown_zones
        self._batch += 1
        self._pace.progressed(self._index, events, 0)
        self._pace.emitted(self._index, self._clock_ms)

    def _sequence(self) -> int:
        return (self._index << ROW_BITS) | self._row

    def _place(self) -> Place:
        return (self._clock_ms, self._sequence())

    def close(self) -> None:
        """Let go of the input."""
        self._partition.close()
