"""The engine as its own oracle: one undisturbed run over the same log, in this process, without Kafka or Bytewax.

It tells what crashes, outages and rescaling changed. Whether the engine itself decides right is what the naive
reference in the tests is for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import msgspec
import numpy as np

from segue.actions.encode import ActionEncoder
from segue.actions.log import SAMPLED
from segue.chaos.verify import WITHDRAWN, Expected
from segue.decide.decisions import Decisions
from segue.decide.engine import ShardEngine
from segue.events.batch import DeadLetter, Decoded, Origin
from segue.events.decode import Decoder
from segue.identity.anonymous import AnonymousShard
from segue.limits import TIMERS_PER_STEP
from segue.outputs import CHANGES, DECISIONS
from segue.policy.compiled import CompiledPolicies
from segue.reference.world import ReferenceWorld, types_for_all
from segue.routing.arrivals import Arrivals
from segue.routing.packet import CLOCK_END, ROW_BITS, Place, SourceBatch, packets
from segue.state.shard import EngineSettings

ARRIVAL_MS = 253_402_300_799_000  # end of the calendar: live, nothing is refused for being in the future
_BATCH_ROWS = 16_384


class Content(NamedTuple):
    """What is compared of a message: everything, in one spelling."""

    customer: str
    text: bytes


class EngineOracle:
    """Decides with Segue's own engine."""

    def __init__(
        self,
        policies: CompiledPolicies,
        settings: EngineSettings,
        currency: str,
        world: ReferenceWorld | None = None,
    ) -> None:
        self._policies = policies
        self._settings = settings
        self._currency = currency
        self._world = world

    def decide(
        self, partitions: Sequence[Sequence[bytes]], due_ms: int, may_ms: int
    ) -> tuple[Expected, Expected]:
        """See segue.chaos.verify.Oracle."""
        run = UndisturbedRun(self._policies, self._settings, self._currency, self._world, len(partitions))
        for number, lines in enumerate(partitions):
            run.feed(lines, number)
            run.end(number)
        run.expected.dead = len(run.dead)
        run.advance(due_ms)
        must = _copied(run.expected)
        run.advance(may_ms)
        return must, run.expected

    def action(self, message: Mapping[str, Any]) -> Content:
        """All of it."""
        return _content(message)

    def withdrawn(self, message: Mapping[str, Any]) -> Content:
        """All of it."""
        return _content(message)

    def decision(self, row: Mapping[str, Any]) -> Content:
        """All but the sampled numbers."""
        return _content({k: v for k, v in row.items() if k not in SAMPLED})

    def change(self, row: Mapping[str, Any]) -> Content:
        """All of it."""
        return _content(row)

    def credit(self, row: Mapping[str, Any]) -> Content:
        """All of it."""
        return _content(row)


def _content(message: Mapping[str, Any]) -> Content:
    return Content(message["customer_id"], msgspec.json.encode(message, order="sorted"))


def _copied(expected: Expected) -> Expected:
    return Expected(**{name: copy(value) for name, value in vars(expected).items()})


class UndisturbedRun:
    """One run over all partitions in this process. Rows wait for those of the other partitions, as in a replay."""

    def __init__(
        self,
        policies: CompiledPolicies,
        settings: EngineSettings,
        currency: str,
        world: ReferenceWorld | None,
        partitions: int,
    ) -> None:
        self.expected = Expected()
        self.dead: list[DeadLetter] = []
        self._settings = settings
        self._types = types_for_all(policies)
        self._encoder = ActionEncoder(policies)
        self._decoder = Decoder(
            settings.secret, currency, ARRIVAL_MS, settings.lateness_ms, policies.lookup_fields
        )
        self._places: list[Place] = [(-1, partition << ROW_BITS) for partition in range(partitions)]
        self._batches = [0] * partitions
        self._known = [
            (ShardEngine(policies, settings, world), Arrivals(partitions, settings.lateness_ms))
            for _ in range(settings.shards)
        ]
        self._anonymous = [
            AnonymousShard(number, policies, settings, partitions, world) for number in range(settings.shards)
        ]

    def feed(self, lines: Sequence[bytes], partition: int = 0) -> None:
        """Further lines of a partition."""
        payload = np.frombuffer(bytearray(b"".join(line + b"\n" for line in lines)), np.uint8)
        start = 0
        while start < len(payload):
            decoded, start = self._decoder.json_lines(payload, start, _BATCH_ROWS, Origin("-"))
            clock, sequence = self._places[partition]
            after = sequence + decoded.events
            clock = self._decoder.stamp(decoded, clock, partition, sequence & ((1 << ROW_BITS) - 1))
            self.dead += decoded.dead
            self.expected.late.update(event.raw for event in decoded.late)
            self._push(partition, (clock, after), decoded)

    def end(self, partition: int) -> None:
        """Nothing more comes from this partition."""
        self._push(partition, (CLOCK_END, self._places[partition][1]), None)

    def _push(self, partition: int, end: Place, decoded: Decoded | None) -> None:
        shards = self._settings.shards
        batch = SourceBatch(partition, self._batches[partition], self._places[partition], end, decoded)
        self._batches[partition] += 1
        self._places[partition] = end
        addressed, _ = packets(batch, shards, len(self._places), self._types)
        for destination, packet in addressed:
            if destination < shards:
                self._known[destination][1].push(packet)
            else:
                self._anonymous[destination - shards].arrivals.push(packet)
        for shard in self._anonymous:
            decided, passed = shard.process()
            self._take(decided)
            for destination, packet in passed:
                self._known[destination][1].push(packet)
        for engine, arrivals in self._known:
            released = arrivals.release()
            if released is not None and len(released.records):
                self._take(engine.process(released))

    def advance(self, until_ms: int) -> None:
        """Fire all timers due before a time."""
        engines = [*(shard.engine for shard in self._anonymous), *(engine for engine, _ in self._known)]
        for engine in engines:
            done = False
            while not done:
                decided, done = engine.advance(until_ms, TIMERS_PER_STEP)
                self._take(decided)

    def _take(self, decided: list[Decisions]) -> None:
        if not decided:
            return
        expected = self.expected
        for name, payload in self._encoder.encode(decided):
            if isinstance(payload, bytes):
                for line in payload.splitlines():
                    action = msgspec.json.decode(line)
                    if action["kind"] == WITHDRAWN:
                        expected.withdrawn[action["action_id"]] = (name, _content(action))
                    else:
                        expected.actions[action["decision_id"]] = (name, _content(action))
            elif name == DECISIONS:
                rows = payload.drop_columns(list(SAMPLED)).to_pylist()
                expected.decisions.update((row["decision_id"], _content(row)) for row in rows)
            else:
                bag = expected.changes if name == CHANGES else expected.joins
                bag.update(map(_content, payload.to_pylist()))
