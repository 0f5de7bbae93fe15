"""What goes out, as messages: of decisions, and of what could not be used. By output: by file, or by lane all that
becomes visible together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import bytewax.operators as op
from bytewax.dataflow import Stream

from segue.actions.encode import ActionEncoder, encode_dead, encode_late
from segue.decide.decisions import Decisions
from segue.flow.items import WAKE, Output
from segue.flow.outputs import output_keys
from segue.outputs import DEAD_LETTERS, LATE, SUMMARY
from segue.policy.compiled import CompiledPolicies
from segue.settings import Settings
from segue.sinks.kafka.message import lane_label
from segue.sources.reader import ReadBatch
from segue.summary import Part, encode_part

if TYPE_CHECKING:  # the client's library is loaded by those who use it
    from segue.sinks.kafka.encode import LaneEncoder


def encode(decided: Stream[Any], policies: CompiledPolicies, settings: Settings) -> Stream[Output]:
    """Decisions as messages."""
    lanes = _lane_encoder(policies, settings)
    encoder = ActionEncoder(policies, settings.is_logged)

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


def rejected(batches: Stream[ReadBatch], policies: CompiledPolicies, settings: Settings) -> Stream[Output]:
    """Dead letters, late events and (for files) the readers' counts, as messages; and what wakes every output."""
    lanes = _lane_encoder(policies, settings)
    names = output_keys(policies, settings)

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


def _lane_encoder(policies: CompiledPolicies, settings: Settings) -> LaneEncoder | None:
    if not settings.kafka.brokers:
        return None
    from segue.sinks.kafka.encode import LaneEncoder

    return LaneEncoder(policies, settings.kafka, settings.is_logged)
