"""The steps of a flow, as Bytewax operators: the only place outside flows/ that knows Bytewax.

A stream item is a batch, never an event. Keys are labels of shards, chosen so that shard i runs on worker i modulo
workers for every number of workers that divides LABEL_PERIOD.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import bytewax.operators as op
import numpy as np
import pyarrow as pa
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import KeyedStream, StatefulBatchLogic
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from segue import limits
from segue.actions.encode import DEAD_LETTERS, LATE, TABLE_OUTPUTS, ActionEncoder, encode_dead, encode_late
from segue.clock import WALL_CLOCK, Clock
from segue.decide.engine import Decisions, ShardEngine
from segue.errors import SinkError
from segue.events.decode import Decoder
from segue.events.names import CHANNELS
from segue.identity.anonymous import AnonymousShard
from segue.policy.compiled import CompiledPolicies
from segue.reference.world import leave_world, types_for_all, worker_world
from segue.routing.arrivals import Arrivals
from segue.routing.packet import Packet, packets
from segue.settings import Settings, secret
from segue.sinks.files import open_output
from segue.sinks.interface import Sink
from segue.sources.interface import Source
from segue.sources.pace import Pace
from segue.sources.reader import BatchReader, ReadBatch
from segue.summary import OUTPUT as SUMMARY
from segue.summary import Part, encode_part
from segue_kernels.shard import ACTION_OFFER
from segue_kernels.siphash import hash_bytes

LABEL_PERIOD = 48
WAIT = timedelta(milliseconds=1)  # before a reader held back by its pace looks again
IDLE = timedelta(milliseconds=limits.READ_IDLE_MS)  # ... or one whose live input had nothing
_LIVE_ARRIVAL_MS = (
    253_402_300_799_000  # end of the calendar: live, nothing is refused for being in the future
)

Addressed = tuple[int, Packet]  # (destination, packet)
Output = tuple[str, bytes | pa.RecordBatch]


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


class _PartitionReader(StatefulSourcePartition[ReadBatch, None]):
    def __init__(self, reader: BatchReader, live: bool) -> None:
        self._reader = reader
        self._live = live
        self._awake: datetime | None = None

    def next_batch(self) -> Iterable[ReadBatch]:
        self._awake = None
        if self._reader.ended:
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
        return [read]

    def next_awake(self) -> datetime | None:
        return self._awake

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        self._reader.close()


class _EventSource(FixedPartitionedSource[ReadBatch, None]):
    def __init__(self, source: Source[Any], settings: Settings, pace: Pace, clock: Clock) -> None:
        self._source = source
        self._settings = settings
        self._pace = pace
        self._clock = clock
        self._names = {f"{i:05d} {name}": (i, name) for i, name in enumerate(source.partitions)}

    def list_parts(self) -> list[str]:
        return list(self._names)

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _PartitionReader:
        index, name = self._names[for_part]
        settings = self._settings
        arrival_ms = _LIVE_ARRIVAL_MS if settings.live else settings.arrival_ms
        decoder = Decoder(secret(), settings.currency, arrival_ms, settings.lateness_ms)
        clock = self._clock if settings.live else None
        partition = self._source.open(name)
        reader = BatchReader(partition, index, decoder, self._pace, settings.batch_rows, clock)
        return _PartitionReader(reader, settings.live)


def read_events(
    flow: Dataflow, source: Source[Any], settings: Settings, pace: Pace, clock: Clock = WALL_CLOCK
) -> Stream[ReadBatch]:
    """Batches of decoded, stamped events, with what could not be used. Only a live run looks at the clock."""
    return op.input("events", flow, _EventSource(source, settings, pace, clock))


def rejected(batches: Stream[ReadBatch]) -> Stream[Output]:
    """Dead letters, late events and the readers' counts, as messages."""

    def encode(read: list[ReadBatch]) -> Iterable[Output]:
        for batch in read:
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
    batches: Stream[ReadBatch], policies: CompiledPolicies, settings: Settings, partitions: int
) -> Routes:
    """One packet a shard and batch."""
    shards = settings.shards
    about_nobody = types_for_all(policies)

    def scatter(read: list[ReadBatch]) -> Iterable[tuple[str, Any]]:
        for batch in read:
            for decoded in batch.batches:
                addressed, nobody = packets(decoded, shards, partitions, about_nobody)
                for destination, packet in addressed:
                    if destination < shards:
                        yield shard_label("known", destination), (destination, packet)
                    else:
                        yield shard_label("anonymous", destination - shards), (destination - shards, packet)
                if nobody:
                    yield SUMMARY, encode_part(Part(about_nobody=nobody))

    routed = op.flat_map_batch("route", batches, scatter)
    known = op.filter("to_known", routed, lambda item: item[0].startswith("known"))
    anonymous = op.filter("to_anonymous", routed, lambda item: item[0].startswith("anonymous"))
    nobody = op.filter("to_nobody", routed, lambda item: item[0] == SUMMARY)
    return Routes(known, anonymous, nobody)


def _shard_part(engine: ShardEngine, offers: dict[int, int]) -> Part:
    state = engine.state
    return Part(
        customers=state.customers,
        state_bytes=state.memory_bytes(),
        counters=state.counters(),
        offers=offers,
    )


def _count_offers(offers: dict[int, int], decided: list[Decisions]) -> None:
    for decisions in decided:
        values, counts = np.unique(decisions.actions[:, ACTION_OFFER], return_counts=True)
        for offer, count in zip(values.tolist(), counts.tolist(), strict=True):
            offers[offer] = offers.get(offer, 0) + count


class _ShardLogic(StatefulBatchLogic[Addressed, Any, None]):
    """A shard whose due timers fire a share at a time: the worker's sources are read between two shares, however
    many timers come due in one second. It asks to be woken at once while some are left, and never for later: what
    is due by time alone comes with a packet, for time is what the partitions' clocks say."""

    def __init__(self, settings: Settings) -> None:
        self._share = max(1, limits.TIMERS_PER_READ // settings.shards)
        self._due = False
        self._offers: dict[int, int] = {}

    def advance(self, timers_max: int) -> tuple[list[Decisions], bool]:
        """Fire due timers; whether none is left."""
        raise NotImplementedError

    def engine(self) -> ShardEngine:
        """What owns the shard's state."""
        raise NotImplementedError

    def looked(self) -> list[Decisions]:
        """After a packet: a share of what is due, unless the next one is asked for already."""
        return [] if self._due else self.fire()

    def fire(self) -> list[Decisions]:
        """A share of what is due."""
        decided, done = self.advance(self._share)
        self._due = not done
        return self.counted(decided)

    def counted(self, decided: list[Decisions]) -> list[Decisions]:
        """The same, its actions counted."""
        _count_offers(self._offers, decided)
        return decided

    def on_notify(self) -> tuple[list[Any], bool]:
        return list(self.fire()), StatefulBatchLogic.RETAIN

    def notify_at(self) -> datetime | None:
        return datetime.now(UTC) if self._due else None

    def on_eof(self) -> tuple[list[Any], bool]:
        told: list[Any] = []
        while self._due:
            told += self.fire()
        told.append(_shard_part(self.engine(), self._offers))
        return told, StatefulBatchLogic.RETAIN

    def snapshot(self) -> None:
        return None


class _AnonymousLogic(_ShardLogic):
    def __init__(self, policies: CompiledPolicies, settings: Settings, partitions: int) -> None:
        super().__init__(settings)
        self._policies = policies
        self._settings = settings
        self._partitions = partitions
        self._shard: AnonymousShard | None = None

    def on_batch(self, values: list[Addressed]) -> tuple[list[Any], bool]:
        if self._shard is None:
            number = values[0][0]
            world = worker_world(self._settings, self._policies)
            engine = self._settings.engine()
            self._shard = AnonymousShard(number, self._policies, engine, self._partitions, world)
        for _, packet in values:
            self._shard.arrivals.push(packet)
        decided, passed = self._shard.process()
        return [*self.counted(decided), *passed, *self.looked()], StatefulBatchLogic.RETAIN

    def advance(self, timers_max: int) -> tuple[list[Decisions], bool]:
        assert self._shard is not None
        return self._shard.advance(timers_max)

    def engine(self) -> ShardEngine:
        assert self._shard is not None
        return self._shard.engine


class _KnownLogic(_ShardLogic):
    """In a replay a packet counts as taken when all that is due by it has fired: reading does not run away from the
    timers. Live, reading goes first."""

    def __init__(self, policies: CompiledPolicies, settings: Settings, partitions: int, pace: Pace) -> None:
        super().__init__(settings)
        self._world = worker_world(settings, policies)
        self._engine = ShardEngine(policies, settings.engine(), self._world)
        self._arrivals = Arrivals(partitions, settings.lateness_ms)
        self._pace = pace
        self._live = settings.live
        self._shard: int | None = None
        self._untold: list[tuple[int, int]] = []  # (shard, partition) of packets not yet told to the pace

    def on_batch(self, values: list[Addressed]) -> tuple[list[Any], bool]:
        for shard, packet in values:
            self._shard = shard
            self._arrivals.push(packet)
            if packet.sender < 0:
                self._untold.append((shard, packet.partition))
        if self._live:
            self._tell_pace()
        released = self._arrivals.release()
        decided: list[Decisions] = []
        if released is not None and len(released.records):
            decided = self.counted(self._engine.process(released))
        return [*decided, *self.looked()], StatefulBatchLogic.RETAIN

    def advance(self, timers_max: int) -> tuple[list[Decisions], bool]:
        decided, done = self._engine.advance(self._arrivals.watermark_ms(), timers_max)
        if done:
            self._tell_pace()
        return decided, done

    def engine(self) -> ShardEngine:
        return self._engine

    def on_eof(self) -> tuple[list[Any], bool]:
        told, retain = super().on_eof()
        # the anonymous shards have ended by now: nothing enters this worker's world any more
        world = Part()
        if leave_world(self._world):
            world.state_bytes = self._world.memory_bytes()
        if (
            self._shard == 0
        ):  # every worker's tables are the same, so they are counted where this one shard is
            world.counters = self._world.counters()
        told.append(world)
        return told, retain

    def _tell_pace(self) -> None:
        for shard, partition in self._untold:
            self._pace.taken(shard, partition)
        self._untold.clear()


def decide(
    routes: Routes, policies: CompiledPolicies, settings: Settings, partitions: int, pace: Pace
) -> Stream[Any]:
    """Decisions of all shards (and their counts at the end). Anonymous shards come first: what an identify says
    belongs to a known customer goes on to that customer's shard, which waits for it."""
    anonymous = op.stateful_batch(
        "anonymous", routes.anonymous, lambda _: _AnonymousLogic(policies, settings, partitions)
    )

    def passed_on(items: list[tuple[str, Any]]) -> Iterable[tuple[str, Addressed]]:
        for _, item in items:
            if isinstance(item, tuple):
                yield shard_label("known", item[0]), item

    def decided_here(items: list[tuple[str, Any]]) -> Iterable[Any]:
        return [item for _, item in items if not isinstance(item, tuple)]

    passed = op.flat_map_batch("passed_on", anonymous, passed_on)
    known = op.stateful_batch(
        "known",
        op.merge("arrivals", routes.known, passed),
        lambda _: _KnownLogic(policies, settings, partitions, pace),
    )
    return op.merge(
        "decided",
        op.flat_map_batch("decided_anonymous", anonymous, decided_here),
        op.flat_map_batch("decided_known", known, decided_here),
    )


def encode(decided: Stream[Any], policies: CompiledPolicies) -> Stream[Output]:
    """Decisions as messages, by output."""
    encoder = ActionEncoder(policies)

    def encode_all(items: list[Any]) -> Iterable[Output]:
        yield from encoder.encode([item for item in items if isinstance(item, Decisions)])
        for item in items:
            if isinstance(item, Part):
                yield SUMMARY, encode_part(item)

    return op.flat_map_batch("encode", decided, encode_all)


class _OutputPart(StatefulSinkPartition[bytes | pa.RecordBatch, None]):
    """One output. After the first failure of any of them closing is silent: Bytewax closes all while it unwinds,
    and an exception raised there would abort the process."""

    def __init__(self, sink: Sink, failed: list[SinkError]) -> None:
        self._sink = sink
        self._failed = failed

    def write_batch(self, values: list[bytes | pa.RecordBatch]) -> None:
        with self._noted():
            self._sink.write(values)

    def snapshot(self) -> None:
        with self._noted():
            self._sink.flush()

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


class _FolderSink(FixedPartitionedSink[bytes | pa.RecordBatch, None]):
    def __init__(self, folder: str, names: list[str]) -> None:
        self._folder = folder
        self._names = sorted(names)
        self._failed: list[SinkError] = []

    def list_parts(self) -> list[str]:
        return self._names

    def part_fn(self, item_key: str) -> int:
        return self._names.index(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _OutputPart:
        return _OutputPart(open_output(self._folder, for_part), self._failed)


ALL_OUTPUTS = (*CHANNELS, *TABLE_OUTPUTS, DEAD_LETTERS, LATE, SUMMARY)  # of a run with any policies


def output_names(policies: CompiledPolicies) -> list[str]:
    """The outputs of a run with these policies: its channels, the logs, the summary."""
    return [*ActionEncoder(policies).outputs, DEAD_LETTERS, LATE, SUMMARY]


def write(flow_outputs: list[Stream[Output]], settings: Settings, policies: CompiledPolicies) -> None:
    """Every message into the output it names."""
    outputs = op.merge("outputs", *flow_outputs)
    op.output("out", outputs, _FolderSink(settings.out, output_names(policies)))
