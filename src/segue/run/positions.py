"""Whether what is outside a state folder still fits an epoch in it: topics hold the places that would be gone on from,
output files the bytes that were written by then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from segue.checkpoints.store import ResumePoint
from segue.errors import CheckpointError, SettingsError, SourceError
from segue.kafka.client import connect_admin, kafka_error
from segue.kafka.settings import KafkaSettings
from segue.limits import KAFKA_ADMIN_MS_MAX
from segue.run.execute import KnownRun, read_known_run
from segue.run.report import SUMMARY_FILE
from segue.sinks.files import OutputPosition, numbered, output_path
from segue.sinks.kafka.message import LanePosition
from segue.sources.kafka.partition import KafkaPosition
from segue.sources.kafka.source import topic_ids
from segue.sources.reader import ReaderState

_STEP = "restore a checkpoint"
_LATER = "choose a later epoch (segue checkpoints list), or start afresh with another state folder"


class _Place(NamedTuple):
    """An offset of a partition. `why`: what it is needed for."""

    topic: str
    partition: int
    offset: int
    topic_id: str
    why: str


class Outside:
    """What a run that stands in a state folder reads and writes. Made before the folder is changed.

    brokers, properties_file  where they are not those of the run's first start
    """

    def __init__(self, state: str, brokers: str = "", properties_file: str = "") -> None:
        self._run = read_known_run(state)
        changed = {"brokers": brokers, "properties_file": properties_file}
        kafka = self._run.kafka if self._run is not None and self._run.kafka is not None else KafkaSettings()
        self._kafka = msgspec.structs.replace(kafka, **{k: v for k, v in changed.items() if v})

    def check(self, point: ResumePoint) -> None:
        """Raise CheckpointError if the epoch can't be gone on from."""
        places = list(_places(point))
        if places:
            self._check_topics(point.epoch, places)
        elif self._run is not None:
            _check_files(self._run, point)

    def _check_topics(self, epoch: int, places: list[_Place]) -> None:
        if not self._kafka.brokers:
            found = "nothing tells where the topics are, which must still hold what the epoch goes on with"
            raise SettingsError(_STEP, found, "--brokers HOST:PORT, or --unchecked")
        admin, cluster = connect_admin(self._kafka, _STEP, SourceError, KAFKA_ADMIN_MS_MAX)
        here = {name: set(told.partitions) for name, told in cluster.topics.items()}
        for place in places:
            if place.partition not in here.get(place.topic, ()):
                self._refuse(epoch, place, "it is not there any more")
        ids = topic_ids(admin, sorted({place.topic for place in places if place.topic_id}))
        for place in places:
            if place.topic_id and ids.get(place.topic, place.topic_id) != place.topic_id:
                self._refuse(epoch, place, "it was deleted and made again")
        ends = []
        for spec in (OffsetSpec.earliest(), OffsetSpec.latest()):  # type: ignore[no-untyped-call]
            asked = {TopicPartition(place.topic, place.partition): spec for place in places}
            try:
                answers = admin.list_offsets(asked, request_timeout=KAFKA_ADMIN_MS_MAX / 1_000)
                ends.append({(at.topic, at.partition): told.result().offset for at, told in answers.items()})
            except KafkaException as error:
                raise kafka_error(_STEP, (error.args[0].code(), error.args[0].str()), SourceError) from None
        for place in places:
            first, last = (end[place.topic, place.partition] for end in ends)
            if place.offset < first:
                self._refuse(epoch, place, f"it begins at {first}: retention has deleted the rest")
            if place.offset > last:
                self._refuse(epoch, place, f"it ends at {last}: it was made again, or lost messages")

    @staticmethod
    def _refuse(epoch: int, place: _Place, found: str) -> None:
        where = f'topic "{place.topic}" partition {place.partition}'
        raise CheckpointError(
            _STEP, f"epoch {epoch} {place.why} {where} at offset {place.offset}, and {found}", _LATER
        )


def _places(point: ResumePoint) -> Iterator[_Place]:
    for (_, key), state in point.states.items():
        if isinstance(state, ReaderState) and isinstance(state.position, KafkaPosition):
            topic, _, number = key.partition(" ")[2].rpartition("/")
            position = state.position
            yield _Place(topic, int(number), position.offset, position.topic_id, "goes on reading")
        elif isinstance(state, LanePosition):
            lane = int(key.rpartition("-")[2])
            for topic, offset in state.offsets.items():
                yield _Place(topic, lane, offset, "", "reads back what was sent from")


def _check_files(run: KnownRun, point: ResumePoint) -> None:
    if (Path(run.out) / SUMMARY_FILE).exists():
        found = f'the run is finished: "{Path(run.out) / SUMMARY_FILE}" says what it did'
        raise CheckpointError(_STEP, found, "to run again, start afresh: other output and state folders")
    for (_, key), state in point.states.items():
        if not isinstance(state, OutputPosition):
            continue
        path = numbered(output_path(run.out, key), state.number)
        size = path.stat().st_size if path.exists() else 0
        if size < state.size:
            found = f'"{path}" has {size:,} bytes; at epoch {point.epoch} it had {state.size:,}'
            raise CheckpointError(_STEP, found, "put the file back, or start afresh: other folders")
