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

from segue.actions.encode import DECISIONS, ActionEncoder
from segue.decide.engine import Decisions, ShardEngine
from segue.events.batch import DeadLetter, Late, Origin
from segue.events.decode import Decoder
from segue.identity.anonymous import AnonymousShard
from segue.policy.compiled import CompiledPolicies
from segue.routing.arrivals import Arrivals
from segue.routing.packet import CLOCK_END, ROW_BITS, Place, SourceBatch, packets
from segue.state.shard import EngineSettings
from tests.reference.choice import Choice


@dataclass
class Outcome:
    """What came out: action and decision log rows as dicts, counters summed over the shards."""

    actions: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    late: list[Late] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    about_nobody: int = 0


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


def run_segue(
    payloads: Sequence[bytes],
    policies: CompiledPolicies,
    decoder: Decoder,
    settings: EngineSettings,
    choice: Choice,
    after_step: Callable[[Outcome], None] | None = None,
) -> Outcome:
    """Everything that Segue says about these partitions; `after_step` sees it grow batch by batch."""
    outcome = Outcome()
    waiting = [source_batches(p, n, decoder, choice, outcome) for n, p in enumerate(payloads)]
    known = [
        (ShardEngine(policies, settings), Arrivals(len(payloads), settings.lateness_ms))
        for _ in range(settings.shards)
    ]
    anonymous = [AnonymousShard(n, policies, settings, len(payloads)) for n in range(settings.shards)]
    encoder = ActionEncoder(policies)
    while any(waiting):
        batches = choice.pick([queue for queue in waiting if queue])
        addressed, nobody = packets(batches.pop(0), settings.shards, len(payloads))
        outcome.about_nobody += nobody
        decided: list[Decisions] = []
        for destination, packet in addressed:
            if destination < settings.shards:
                known[destination][1].push(packet)
            else:
                anonymous[destination - settings.shards].arrivals.push(packet)
        for shard in anonymous:
            here, passed = shard.process()
            decided += here
            for destination, packet in passed:
                known[destination][1].push(packet)
        for engine, arrivals in known:
            released = arrivals.release()
            if released is not None and len(released.records):
                decided += engine.process(released)
        if decided:
            _take(encoder.encode(decided), outcome)
            if after_step is not None:
                after_step(outcome)
    for engine in [*(engine for engine, _ in known), *(shard.engine for shard in anonymous)]:
        for name, count in engine.state.counters().items():
            outcome.counters[name] = outcome.counters.get(name, 0) + count
    return outcome


def _take(outputs: Sequence[tuple[str, bytes | pa.RecordBatch]], outcome: Outcome) -> None:
    for name, payload in outputs:
        if name == DECISIONS:
            assert not isinstance(payload, bytes)
            outcome.decisions += payload.to_pylist()
        else:
            assert isinstance(payload, bytes)
            outcome.actions += [msgspec.json.decode(line) for line in payload.splitlines()]
