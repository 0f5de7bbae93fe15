"""The first step: batches of decoded, stamped events, read a partition at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from segue import limits
from segue.checkpoints.recovered import Recovered
from segue.clock import WALL_CLOCK, Clock
from segue.events.decode import Decoder
from segue.policy.compiled import CompiledPolicies
from segue.run.kill import point
from segue.run.stop import FAILED, STARTED, STOP
from segue.settings import Settings, secret
from segue.sources.interface import Source
from segue.sources.pace import Pace
from segue.sources.reader import BatchReader, ReadBatch, ReaderState

WAIT = timedelta(milliseconds=1)  # before a reader held back by its pace looks again
# end of the calendar: live, nothing is refused for being in the future
_LIVE_ARRIVAL_MS = 253_402_300_799_000


def read_events(
    flow: Dataflow,
    source: Source[Any],
    policies: CompiledPolicies,
    settings: Settings,
    recovered: Recovered,
    pace: Pace,
    clock: Clock = WALL_CLOCK,
) -> Stream[ReadBatch]:
    """Batches of decoded, stamped events, with what could not be used. Only a live run looks at the clock."""
    fields = policies.lookup_fields
    return op.input("events", flow, _EventSource(source, fields, settings, recovered.partitions, pace, clock))


class _PartitionReader(StatefulSourcePartition[ReadBatch, ReaderState | None]):
    """Its first batch wakes the whole flow. A part that had no item in the first epoch would be missing from that
    epoch's snapshots, and what an earlier, unfinished epoch of the same number left of it would count later; and a
    worker's parts decide together as soon as all are there.
    """

    def __init__(self, reader: BatchReader, live: bool, saves: bool) -> None:
        self._reader = reader
        self._live = live
        self._saves = saves
        self._wakes = True
        self._saved = False
        self._awake: datetime | None = None

    def next_batch(self) -> Iterable[ReadBatch]:
        FAILED.raise_if_set()
        if self._saved:
            self._saved = False
            point("after_epoch")
        self._awake = None
        if self._wakes:
            self._wakes = False
            return [ReadBatch(wake=True)]
        if self._reader.ended or STOP.is_set():
            raise StopIteration
        if not self._reader.may_read():
            self._awake = datetime.now(UTC) + WAIT
            return []
        read = self._reader.read()
        if self._reader.quiet:
            if self._live:
                self._awake = datetime.now(UTC) + _until_next_look()
            if not read.batches:
                return []
        point("after_poll")
        return [read]

    def next_awake(self) -> datetime | None:
        return self._awake

    def snapshot(self) -> ReaderState | None:
        if not self._saves:
            return None
        FAILED.raise_if_set()
        self._saved = True
        return self._reader.state()

    def close(self) -> None:
        self._reader.close()


def _until_next_look() -> timedelta:
    """At live inputs that had nothing: at all of them together, for what they give is then decided in one call."""
    every_s = limits.READ_IDLE_MS / 1_000
    return timedelta(seconds=every_s - time.monotonic() % every_s)


class _EventSource(FixedPartitionedSource[ReadBatch, "ReaderState | None"]):
    def __init__(
        self,
        source: Source[Any],
        fields: tuple[tuple[str, str, str], ...],
        settings: Settings,
        partitions: tuple[str, ...],
        pace: Pace,
        clock: Clock,
    ) -> None:
        self._source = source
        self._fields = fields
        self._settings = settings
        self._pace = pace
        self._clock = clock
        index = {name: i for i, name in enumerate(partitions)}
        self._names = {f"{index[name]:05d} {name}": (index[name], name) for name in source.partitions}

    def list_parts(self) -> list[str]:
        STARTED.set()  # Bytewax asks when it has connected the cluster
        return list(self._names)

    def build_part(self, step_id: str, for_part: str, resume_state: ReaderState | None) -> _PartitionReader:
        index, name = self._names[for_part]
        settings = self._settings
        arrival_ms = _LIVE_ARRIVAL_MS if settings.is_live else settings.arrival_ms
        decoder = Decoder(secret(), settings.currency, arrival_ms, settings.lateness_ms, self._fields)
        clock = self._clock if settings.is_live else None
        partition = self._source.open(name, resume_state.position if resume_state else None)
        rows = settings.batch_rows
        reader = BatchReader(partition, index, decoder, self._pace, rows, clock, resume_state)
        return _PartitionReader(reader, settings.is_live, bool(settings.state))
