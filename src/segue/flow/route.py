"""Each row to the shard that owns its customer: one packet a shard and batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream

from segue.checkpoints.recovered import Recovered
from segue.flow.items import ANONYMOUS, KNOWN, Addressed, Output, shard_label
from segue.outputs import SUMMARY
from segue.policy.compiled import CompiledPolicies
from segue.reference.world import types_for_all
from segue.routing.packet import packets
from segue.settings import Settings
from segue.sources.reader import ReadBatch
from segue.summary import Part, encode_part


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
    merged = summed = not settings.kafka.brokers

    def scatter(read: list[ReadBatch]) -> Iterable[tuple[str, Any]]:
        for batch in read:
            if batch.wake:
                for shard in range(shards):
                    yield shard_label(KNOWN, shard), (shard, None)
                    yield shard_label(ANONYMOUS, shard), (shard, None)
            for decoded in batch.batches:
                addressed, nobody = packets(
                    decoded, shards, partitions, about_nobody, together=True, merged=merged
                )
                for destination, packet in addressed:
                    if destination < shards:
                        yield shard_label(KNOWN, destination), (destination, packet)
                    else:
                        yield shard_label(ANONYMOUS, destination - shards), (destination - shards, packet)
                if nobody and summed:
                    yield SUMMARY, encode_part(Part(about_nobody=nobody))

    routed = op.flat_map_batch("route", batches, scatter)

    def only(prefix: str) -> KeyedStream[Any]:
        def chosen(items: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
            return [item for item in items if item[0].startswith(prefix)]

        return op.flat_map_batch(f"to_{prefix}", routed, chosen)

    return Routes(only(KNOWN), only(ANONYMOUS), only(SUMMARY))
