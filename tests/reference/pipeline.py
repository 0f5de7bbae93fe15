"""Segue's own way from bytes to messages, in this process and without a flow: what is compared.

Batches, their interleaving and the number of shards are the caller's: none of them may change what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from segue.actions.encode import ActionEncoder
from segue.decide.decisions import Decisions
from segue.decide.engine import ShardEngine
from segue.events.batch import DeadLetter, Late, Origin
from segue.events.decode import Decoder
from segue.identity.anonymous import AnonymousShard
from segue.outputs import CHANGES, DECISIONS, JOINS
from segue.policy.compiled import CompiledPolicies
from segue.reference.world import ReferenceWorld, types_for_all
from segue.routing.arrivals import Arrivals
from segue.routing.packet import CLOCK_END, ROW_BITS, Place, SourceBatch, packets
from segue.state.shard import EngineSettings
from tests.reference.choice import Choice


@dataclass
class Outcome:
    """What came out: actions, what was taken back, and rows of the log, of changes and of joins as dicts, counters
    summed over the shards."""

    actions: list[dict[str, Any]] = field(default_factory=list)
    withdrawn: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    joins: list[dict[str, Any]] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    late: list[Late] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    about_nobody: int = 0


@dataclass
class Parts:
    """All that has a state: known shards with what arrives at them, anonymous shards, and the world they share."""

    policies: CompiledPolicies
    encoder: ActionEncoder
    known: list[tuple[ShardEngine, Arrivals]]
    anonymous: list[AnonymousShard]
    world: ReferenceWorld | None


def new_parts(
    policies: CompiledPolicies, settings: EngineSettings, partitions: int, world: ReferenceWorld | None
) -> Parts:
    """Parts to which nothing has happened."""
    known = [
        (ShardEngine(policies, settings, world, part=part), Arrivals(partitions, settings.lateness_ms))
        for part in range(settings.shards)
    ]
    anonymous = [AnonymousShard(n, policies, settings, partitions, world) for n in range(settings.shards)]
    return Parts(policies, ActionEncoder(policies), known, anonymous, world)


def source_batches(
    payload: bytes, partition: int, decoder: Decoder, choice: Choice, outcome: Outcome
) -> list[SourceBatch]:
    """One partition's batches, cut at random borders, with the one that ends it."""
    words = np.frombuffer(payload, np.uint8)
    batches: list[SourceBatch] = []
    clock, row, start = -1, 0, 0

    def place() -> Place:
        return clock, (partition << ROW_BITS) | row

    while start < len(words):
        decoded, start = decoder.json_lines(words, start, choice.pick((1, 2, 5, 30, 1_000)), Origin("-"))
        before, events = place(), decoded.events
        clock = decoder.stamp(decoded, clock, partition, row)
        row += events
        batches.append(SourceBatch(partition, len(batches), before, place(), decoded))
        outcome.dead += decoded.dead
        outcome.late += decoded.late
    batches.append(SourceBatch(partition, len(batches), place(), (CLOCK_END, place()[1]), None))
    return batches


def advance(
    engine: ShardEngine, arrivals: Arrivals, choice: Choice, at_last: bool = False
) -> list[Decisions]:
    """Let timers fire up to the watermark in steps of any size; now and then not all of them, or none, but at last."""
    decided: list[Decisions] = []
    if not at_last and choice.chance(30):
        return decided
    done = False
    while not done:
        more, done = engine.advance(arrivals.watermark_ms(), choice.pick((1, 2, 7, 1_000)))
        decided += more
        if not at_last and choice.chance(10):
            break
    return decided


def run_segue(
    payloads: Sequence[bytes],
    policies: CompiledPolicies,
    decoder: Decoder,
    settings: EngineSettings,
    choice: Choice,
    after_step: Callable[[Outcome], None] | None = None,
    world: ReferenceWorld | None = None,
    after_batch: Callable[[Parts], Parts] | None = None,
) -> Outcome:
    """Everything that Segue says about these partitions; `after_step` sees it grow batch by batch.

    world        the tables, which all shards share as those of one worker do
    after_batch  what goes on in place of the parts after each batch
    """
    outcome = Outcome()
    waiting = [source_batches(p, n, decoder, choice, outcome) for n, p in enumerate(payloads)]

    parts = new_parts(policies, settings, len(payloads), world)

    def take(decided: list[Decisions]) -> None:
        if decided:
            _take(parts.encoder.encode(decided), outcome)
            if after_step is not None:
                after_step(outcome)

    while any(waiting):
        batches = choice.pick([queue for queue in waiting if queue])
        types = types_for_all(parts.policies)
        addressed, nobody = packets(batches.pop(0), settings.shards, len(payloads), types)
        outcome.about_nobody += nobody
        decided: list[Decisions] = []
        for destination, packet in addressed:
            if destination < settings.shards:
                parts.known[destination][1].push(packet)
            else:
                parts.anonymous[destination - settings.shards].arrivals.push(packet)
        for shard in parts.anonymous:
            here, passed = shard.process()
            decided += here
            for destination, packet in passed:
                parts.known[destination][1].push(packet)
            decided += advance(shard.engine, shard.arrivals, choice)
        for engine, arrivals in parts.known:
            released = arrivals.release()
            if released is not None and len(released.records):
                decided += engine.process(released)
            decided += advance(engine, arrivals, choice)
        take(decided)
        if after_batch is not None:
            parts = after_batch(parts)
    for engine, arrivals in [*((shard.engine, shard.arrivals) for shard in parts.anonymous), *parts.known]:
        take(advance(engine, arrivals, choice, at_last=True))
        for name, count in engine.state.counters().items():
            outcome.counters[name] = outcome.counters.get(name, 0) + count
    return outcome


def _take(outputs: Sequence[tuple[str, bytes | pa.RecordBatch]], outcome: Outcome) -> None:
    tables = {DECISIONS: outcome.decisions, CHANGES: outcome.changes, JOINS: outcome.joins}
    for name, payload in outputs:
        if name in tables:
            assert not isinstance(payload, bytes)
            tables[name] += payload.to_pylist()
        else:
            assert isinstance(payload, bytes)
            for line in map(msgspec.json.decode, payload.splitlines()):
                (outcome.actions if line["kind"] == "action" else outcome.withdrawn).append(line)
