"""The last step: every message into the file or the lane that it names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import bytewax.operators as op
import msgspec
from bytewax.dataflow import Stream
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from segue.actions.encode import ActionEncoder
from segue.checkpoints.journal import Journal
from segue.checkpoints.recovered import Recovered
from segue.errors import SegueError, SinkError
from segue.flow.items import WAKE, Item, Output
from segue.outputs import DEAD_LETTERS, LATE, SUMMARY
from segue.policy.compiled import CompiledPolicies
from segue.run.kill import point
from segue.run.stop import FAILED
from segue.settings import Settings
from segue.sinks.files import open_output
from segue.sinks.interface import Sink
from segue.sinks.kafka.message import LanePosition, lane_label

if TYPE_CHECKING:  # the client's library is loaded by those who use it
    from segue.sinks.kafka.lane import Lane
    from segue.sinks.kafka.tail import Tail


def write(
    flow_outputs: list[Stream[Output]],
    policies: CompiledPolicies,
    settings: Settings,
    recovered: Recovered,
) -> None:
    """Every message into the file or the lane that it names."""
    outputs = op.merge("outputs", *flow_outputs)
    if settings.kafka.brokers:
        assert recovered.tail is not None, "lanes are prepared before the flow is made"
        labels = output_keys(policies, settings)
        op.output("out", outputs, _LaneSink(settings, labels, recovered.tail, recovered.journal))
    else:
        # Bytewax wants every part that it has a position of
        names = sorted({*output_names(policies, settings), *recovered.outputs})
        op.output("out", outputs, _FolderSink(settings.out, names, bool(settings.state)))


def output_names(policies: CompiledPolicies, settings: Settings) -> list[str]:
    """The outputs of a run with these policies: its channels, the logs, the summary."""
    return [*ActionEncoder(policies, settings.is_logged).outputs, DEAD_LETTERS, LATE, SUMMARY]


def output_keys(policies: CompiledPolicies, settings: Settings) -> list[str]:
    """What the items of a run that go out are addressed to: names of files, or labels of lanes."""
    if not settings.kafka.brokers:
        return output_names(policies, settings)
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
    """One lane. Its producer's thread is another: what fails there is in FAILED, whoever looks first.

    Bytewax asks outputs last for their snapshots, and asks those that were written to: while the lane commits, the disk
    makes durable what the parts of the state have appended.
    """

    def __init__(self, lane: Lane, journal: Journal | None) -> None:
        self._lane = lane
        self._journal = journal

    def write_batch(self, values: list[Item]) -> None:
        FAILED.raise_if_set()
        if self._journal is not None:
            self._journal.settled_later = True
        self._lane.write([value for value in values if isinstance(value, list)])

    def snapshot(self) -> LanePosition:
        point("after_manifest")
        FAILED.raise_if_set()
        position = self._lane.snapshot()
        if self._journal is not None and self._journal.settled_later:
            self._journal.settle()
        return position

    def close(self) -> None:
        # Bytewax closes while it unwinds, and would abort the process; FAILED has it
        with suppress(SegueError):
            self._lane.close()


class _LaneSink(FixedPartitionedSink[Item, "LanePosition"]):
    def __init__(self, settings: Settings, labels: list[str], tail: Tail, journal: Journal | None) -> None:
        self._kafka = settings.kafka
        self._labels = labels
        self._tail = tail
        self._journal = journal

    def list_parts(self) -> list[str]:
        return self._labels

    def part_fn(self, item_key: str) -> int:
        return self._labels.index(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: LanePosition | None) -> _LanePart:
        # the position was used before the start, to read the tail: the lane goes on behind that
        from segue.sinks.kafka.lane import Lane

        return _LanePart(Lane(self._kafka, self._labels.index(for_part), self._tail), self._journal)
