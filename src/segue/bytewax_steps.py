"""The steps of a flow, as Bytewax operators: the only place outside flows/ that knows Bytewax.

A stream item is a batch, never an event. Keys are labels of shards, chosen so that shard i runs on worker i modulo
workers for every number of workers that divides LABEL_PERIOD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import bytewax.operators as op
import msgspec
import numpy as np
import pyarrow as pa
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import KeyedStream, StatefulBatchLogic
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from segue import limits
from segue.actions.encode import ActionEncoder, encode_dead, encode_late
from segue.checkpoints.group import Saved
from segue.checkpoints.recovered import Recovered
from segue.clock import WALL_CLOCK, Clock
from segue.decide.decisions import Decisions
from segue.errors import SegueError, SinkError
from segue.events.decode import Decoder
from segue.events.names import CHANNELS
from segue.flow.parts import ShardPart, Step
from segue.outputs import DEAD_LETTERS, LATE, TABLE_OUTPUTS
from segue.policy.compiled import CompiledPolicies
from segue.reference.world import types_for_all
from segue.routing.packet import Packet, packets
from segue.run.kill import point
from segue.run.stop import FAILED, STARTED, STOP
from segue.settings import Settings, secret
from segue.sinks.files import open_output
from segue.sinks.interface import Sink
from segue.sinks.kafka.message import LaneMessage, LanePosition, lane_label
from segue.sources.interface import Source
from segue.sources.pace import Pace
from segue.sources.reader import BatchReader, ReadBatch, ReaderState
from segue.summary import OUTPUT as SUMMARY
from segue.summary import Part, encode_part
from segue_kernels.receipt import ANONYMOUS_PART
from segue_kernels.siphash import hash_bytes

if TYPE_CHECKING:  # the client's library is loaded by those who use it
    from segue.sinks.kafka.encode import LaneEncoder
    from segue.sinks.kafka.lane import Lane
    from segue.sinks.kafka.tail import Tail

LABEL_PERIOD = 48
_KNOWN, _ANONYMOUS = "known", "anonymous"  # prefixes of labels
_AT_ONCE = datetime.fromtimestamp(0, UTC)
WAIT = timedelta(milliseconds=1)  # before a reader held back by its pace looks again
IDLE = timedelta(milliseconds=limits.READ_IDLE_MS)  # ... or one whose live input had nothing
_LIVE_ARRIVAL_MS = (
    253_402_300_799_000  # end of the calendar: live, nothing is refused for being in the future
)

WAKE = None  # to an output: nothing to write, but it belongs into the next snapshot

Addressed = tuple[int, Packet | None]  # (shard, packet); None only wakes it
Item: TypeAlias = bytes | pa.RecordBatch | list[LaneMessage] | None
Output = tuple[str, Item]


@cache
def shard_label(prefix: str, shard: int) -> str:
    """The key of a shard: Bytewax sends a key to worker SipHash-1-3(key, 0xff) modulo workers."""
    zero = np.uint64(0)
    suffix = 0
    while True:
        label = f"{prefix}-{shard:04d}-{suffix}"
        hashed = int(hash_bytes(np.frombuffer(label.encode() + b"\xff", np.uint8), zero, zero))
        if hashed % LABEL_PERIOD == shard % LABEL_PERIOD:
            return label
        suffix += 1


class _PartitionReader(StatefulSourcePartition[ReadBatch, ReaderState | None]):
    """Its first batch wakes the whole flow. A part that had no item in the first epoch would be missing from that
    epoch's snapshots, and what an earlier, unfinished epoch of the same number left of it would count later; and a
    worker's parts decide together as soon as all are there.

    ending  called when an epoch ends: sources are the first to know
    """

    def __init__(
        self, reader: BatchReader, live: bool, saves: bool, ending: Callable[[], None] = lambda: None
    ) -> None:
        self._reader = reader
        self._ending = ending
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
                self._awake = datetime.now(UTC) + IDLE
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
        self._ending()
        self._saved = True
        return self._reader.state()

    def close(self) -> None:
        self._reader.close()


def _hurry_lanes() -> Callable[[], None]:
    from segue.sinks.kafka.lane import hurry_lanes

    return hurry_lanes


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
        ending = _hurry_lanes() if settings.kafka.brokers else lambda: None
        return _PartitionReader(reader, settings.is_live, bool(settings.state), ending)


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


def rejected(batches: Stream[ReadBatch], policies: CompiledPolicies, settings: Settings) -> Stream[Output]:
    """Dead letters, late events and (for files) the readers' counts, as messages; and what wakes every output."""
    lanes = _lane_encoder(policies, settings)
    names = output_names(policies) if lanes is None else _lane_labels(settings)

    def encode(read: list[ReadBatch]) -> Iterable[Output]:
        for batch in read:
            if batch.wake:
                yield from ((name, WAKE) for name in names)
            if lanes is not None:
                for lane, messages in lanes.refused(batch.dead, batch.late):
                    yield lane_label(lane), messages
                continue
            if batch.dead:
                yield DEAD_LETTERS, encode_dead(batch.dead)
            if batch.late:
                yield LATE, encode_late(batch.late)
            if batch.counts is not None:
                counts = batch.counts
                part = Part(
                    lines=counts.lines,
                    events=counts.events,
                    dead_letters=counts.dead_letters,
                    late=counts.late,
                    counters={"unknown_zones": counts.unknown_zones} if counts.unknown_zones else {},
                    ahead=counts.ahead,
                )
                yield SUMMARY, encode_part(part)

    return op.flat_map_batch("rejected", batches, encode)


@dataclass(frozen=True)
class Routes:
    """Rows by shard: of known customers, and of anonymous identifiers; and what concerned nobody."""

    known: KeyedStream[Addressed]
    anonymous: KeyedStream[Addressed]
    nobody: Stream[Output]


def route(
    batches: Stream[ReadBatch], policies: CompiledPolicies, settings: Settings, recovered: Recovered
) -> Routes:
    """One packet a shard and batch."""
    shards = settings.shards
    partitions = len(recovered.partitions)
    about_nobody = types_for_all(policies)
    summed = not settings.kafka.brokers

    def scatter(read: list[ReadBatch]) -> Iterable[tuple[str, Any]]:
        for batch in read:
            if batch.wake:
                for shard in range(shards):
                    yield shard_label(_KNOWN, shard), (shard, None)
                    yield shard_label(_ANONYMOUS, shard), (shard, None)
            for decoded in batch.batches:
                addressed, nobody = packets(decoded, shards, partitions, about_nobody, to_all=True)
                for destination, packet in addressed:
                    if destination < shards:
                        yield shard_label(_KNOWN, destination), (destination, packet)
                    else:
                        yield shard_label(_ANONYMOUS, destination - shards), (destination - shards, packet)
                if nobody and summed:
                    yield SUMMARY, encode_part(Part(about_nobody=nobody))

    routed = op.flat_map_batch("route", batches, scatter)

    def only(prefix: str) -> KeyedStream[Any]:
        def chosen(items: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
            return [item for item in items if item[0].startswith(prefix)]

        return op.flat_map_batch(f"to_{prefix}", routed, chosen)

    return Routes(only(_KNOWN), only(_ANONYMOUS), only(SUMMARY))


class _PartLogic(StatefulBatchLogic[Addressed, Any, "Saved | None"]):
    """A part of the state (segue.flow.parts). It is opened by its first item, or by what was saved of it: Bytewax tells
    no logic its key. All that ask for it are called in one go, and before the epoch is saved."""

    def __init__(self, step: Step, saved: Saved | None) -> None:
        self._step = step
        self._crew = step.crew()
        self._part: ShardPart | None = None
        if saved is not None:
            number, delta = step.recovered.load(saved)
            self._part = self._crew.part(number, saved, delta)

    def on_batch(self, values: list[Addressed]) -> tuple[list[Any], bool]:
        if self._part is None:
            shard = values[0][0]
            self._part = self._crew.part(shard if self._step.of_known else shard + ANONYMOUS_PART)
        self._part.touch()
        packets = [packet for _, packet in values if packet is not None]
        told = self._crew.take_in(self._part, packets) if packets else []
        return told, StatefulBatchLogic.RETAIN

    def on_notify(self) -> tuple[list[Any], bool]:
        # one share of due timers for all: not one for each part that asked
        asks = self._part is not None and self._part.has_asked
        return self._crew.process() if asks else [], StatefulBatchLogic.RETAIN

    def notify_at(self) -> datetime | None:
        return _AT_ONCE if self._part is not None and self._part.ask() else None

    def on_eof(self) -> tuple[list[Any], bool]:
        return self._part.end(self._crew) if self._part is not None else [], StatefulBatchLogic.RETAIN

    def snapshot(self) -> Saved | None:
        group = self._step.group
        if group is None:
            return None
        FAILED.raise_if_set()
        assert self._part is not None
        return group.saved(self._part.number)


def decide(
    routes: Routes, policies: CompiledPolicies, settings: Settings, recovered: Recovered, pace: Pace
) -> Stream[Any]:
    """Decisions of all shards (and their counts at the end). Anonymous shards come first: what an identify says
    belongs to a known customer goes on to that customer's shard, which waits for it."""
    of_anonymous = Step(policies, settings, recovered, pace, of_known=False)
    of_known = Step(policies, settings, recovered, pace, of_known=True)
    anonymous = op.stateful_batch(
        "anonymous", routes.anonymous, lambda saved: _PartLogic(of_anonymous, saved)
    )

    def passed_on(items: list[tuple[str, Any]]) -> Iterable[tuple[str, Addressed]]:
        for _, item in items:
            if isinstance(item, tuple):
                yield shard_label(_KNOWN, item[0]), item

    def decided_here(items: list[tuple[str, Any]]) -> Iterable[Any]:
        return [item for _, item in items if not isinstance(item, tuple)]

    passed = op.flat_map_batch("passed_on", anonymous, passed_on)
    known = op.stateful_batch(
        "known",
        op.merge("arrivals", routes.known, passed),
        lambda saved: _PartLogic(of_known, saved),
    )
    return op.merge(
        "decided",
        op.flat_map_batch("decided_anonymous", anonymous, decided_here),
        op.flat_map_batch("decided_known", known, decided_here),
    )


def encode(decided: Stream[Any], policies: CompiledPolicies, settings: Settings) -> Stream[Output]:
    """Decisions as messages, by output: by file, or by lane all that becomes visible together."""
    lanes = _lane_encoder(policies, settings)
    encoder = ActionEncoder(policies)

    def for_files(items: list[Any]) -> Iterable[Output]:
        yield from encoder.encode([item for item in items if isinstance(item, Decisions)])
        for item in items:
            if isinstance(item, Part):
                yield SUMMARY, encode_part(item)

    def for_lanes(items: list[Any]) -> Iterable[Output]:
        assert lanes is not None
        for lane, messages in lanes.encode([item for item in items if isinstance(item, Decisions)]):
            yield lane_label(lane), messages

    return op.flat_map_batch("encode", decided, for_files if lanes is None else for_lanes)


def _lane_encoder(policies: CompiledPolicies, settings: Settings) -> LaneEncoder | None:
    if not settings.kafka.brokers:
        return None
    from segue.sinks.kafka.encode import LaneEncoder

    return LaneEncoder(policies, settings.kafka)


def _lane_labels(settings: Settings) -> list[str]:
    return [lane_label(lane) for lane in range(settings.kafka.lanes)]


class _OutputPart(StatefulSinkPartition[Item, "msgspec.Struct | None"]):
    """One output. After the first failure of any of them closing is silent: Bytewax closes all while it unwinds,
    and an exception raised there would abort the process."""

    def __init__(self, sink: Sink, failed: list[SinkError], saves: bool) -> None:
        self._sink = sink
        self._failed = failed
        self._saves = saves

    def write_batch(self, values: list[Item]) -> None:
        with self._noted():
            self._sink.write([value for value in values if value is not WAKE])

    def snapshot(self) -> msgspec.Struct | None:
        point("after_manifest")
        with self._noted():
            if self._saves:
                return self._sink.position()
            self._sink.flush()
        return None

    def close(self) -> None:
        if self._failed:
            with suppress(SinkError):
                self._sink.close()
        else:
            with self._noted():
                self._sink.close()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except SinkError as error:
            self._failed.append(error)
            raise


class _FolderSink(FixedPartitionedSink[Item, "msgspec.Struct | None"]):
    def __init__(self, folder: str, names: list[str], saves: bool) -> None:
        self._folder = folder
        self._names = sorted(names)
        self._saves = saves
        self._failed: list[SinkError] = []

    def list_parts(self) -> list[str]:
        return self._names

    def part_fn(self, item_key: str) -> int:
        return self._names.index(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> _OutputPart:
        # what a run wrote that left no snapshot is in no epoch: it comes again
        output = open_output(self._folder, for_part, resume_state, replace=self._saves)
        return _OutputPart(output, self._failed, self._saves)


class _LanePart(StatefulSinkPartition[Item, "LanePosition"]):
    """One lane. Its producer's thread is another: what fails there is in FAILED, whoever looks first."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    def write_batch(self, values: list[Item]) -> None:
        FAILED.raise_if_set()
        self._lane.write([value for value in values if isinstance(value, list)])

    def snapshot(self) -> LanePosition:
        point("after_manifest")
        FAILED.raise_if_set()
        return self._lane.snapshot()

    def close(self) -> None:
        with suppress(
            SegueError
        ):  # Bytewax closes while it unwinds, and would abort the process; FAILED has it
            self._lane.close()


class _LaneSink(FixedPartitionedSink[Item, "LanePosition"]):
    def __init__(self, settings: Settings, tail: Tail) -> None:
        self._kafka = settings.kafka
        self._labels = _lane_labels(settings)
        self._tail = tail

    def list_parts(self) -> list[str]:
        return self._labels

    def part_fn(self, item_key: str) -> int:
        return self._labels.index(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: LanePosition | None) -> _LanePart:
        # the position was used before the start, to read the tail: the lane goes on behind that
        from segue.sinks.kafka.lane import Lane

        return _LanePart(Lane(self._kafka, self._labels.index(for_part), self._tail))


ALL_OUTPUTS = (*CHANNELS, *TABLE_OUTPUTS, DEAD_LETTERS, LATE, SUMMARY)  # of a run with any policies


def output_names(policies: CompiledPolicies) -> list[str]:
    """The outputs of a run with these policies: its channels, the logs, the summary."""
    return [*ActionEncoder(policies).outputs, DEAD_LETTERS, LATE, SUMMARY]


def write(
    flow_outputs: list[Stream[Output]],
    policies: CompiledPolicies,
    settings: Settings,
    recovered: Recovered,
) -> None:
    """Every message into the file or the lane it names."""
    outputs = op.merge("outputs", *flow_outputs)
    if settings.kafka.brokers:
        assert recovered.tail is not None, "lanes are prepared before the flow is made"
        op.output("out", outputs, _LaneSink(settings, recovered.tail))
    else:
        # Bytewax wants every part that it has a position of
        names = sorted({*output_names(policies), *recovered.outputs})
        op.output("out", outputs, _FolderSink(settings.out, names, bool(settings.state)))
