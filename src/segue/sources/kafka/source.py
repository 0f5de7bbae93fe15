"""Topics of a cluster as a source, checked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from segue.errors import SettingsError, SourceError, did_you_mean
from segue.kafka.client import connect_admin, kafka_error
from segue.kafka.settings import InputTopic, KafkaSettings
from segue.limits import BROKER_WAIT_MS, PARTITIONS_MAX
from segue.reference.cells import TABLE_NAMES
from segue.sources.kafka.partition import KafkaPartition, KafkaPosition

_STEP = "find the topics"
_IDENTITY_SECONDS = 5.0


def partition_name(topic: str, partition: int) -> str:
    """The name of a partition among the inputs."""
    return f"{topic}/{partition:05d}"


def first_to_read(settings: KafkaSettings, partitions: Sequence[str]) -> list[int]:
    """Indices of the partitions that are read to their end before any other: those of tables."""
    tables = {topic.name for topic in settings.topics if topic.table}
    return [index for index, name in enumerate(partitions) if name.rpartition("/")[0] in tables]


class _Place(msgspec.Struct, frozen=True):
    topic: InputTopic
    partition: int


class KafkaSource(msgspec.Struct, frozen=True):
    """Partitions that were there when the cluster was asked. No secret is in it: it is sent to other processes.

    topic_ids  the broker's, by topic, as far as it tells
    """

    settings: KafkaSettings
    places: dict[str, _Place]
    topic_ids: dict[str, str] = {}

    @property
    def partitions(self) -> tuple[str, ...]:
        """Names of the partitions, in the order of their index."""
        return tuple(self.places)

    def open(self, name: str, position: KafkaPosition | None = None) -> KafkaPartition:
        """Begin to read a partition, where the settings say or where `position` says.

        Raises SourceError if there is no such partition, the position is not there any more, or we may not read.
        """
        if name not in self.places:
            raise SourceError(_STEP, f'no input "{name}"', did_you_mean(name, list(self.places)))
        place = self.places[name]
        return KafkaPartition(
            name,
            place.topic.name,
            place.partition,
            place.topic.form,
            TABLE_NAMES.index(place.topic.table) if place.topic.table else -1,
            self.settings,
            len(self.places),
            self.topic_ids.get(place.topic.name, ""),
            position,
        )


def kafka_source(
    settings: KafkaSettings, known: Sequence[str] = (), *, wait_ms: int = BROKER_WAIT_MS
) -> KafkaSource:
    """Ask the cluster for the partitions of the settings' topics.

    known    names of partitions that come first, in this order: those an earlier run has read
    wait_ms  somebody must answer within this time

    Raises SettingsError: no topic, or one twice. SourceError: nobody answers, we may not, a topic (a known partition)
    that is not there, too many partitions.
    """
    if not settings.topics:
        raise SettingsError(
            _STEP, "no topic is given", "name the topics to read (kafka.topics in the settings)"
        )
    names = [topic.name for topic in settings.topics]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(_STEP, f'the topic "{name}" was given twice', "give each topic once")
    admin, cluster = connect_admin(settings, _STEP, SourceError, wait_ms)
    found: dict[str, _Place] = {}
    for topic in settings.topics:
        there = cluster.topics.get(topic.name)
        if there is None:
            near = did_you_mean(topic.name, [name for name in cluster.topics if not name.startswith("__")])
            hint = "make it: segue topics create; or let this user see it (the right to Describe)"
            raise SourceError(
                _STEP,
                f'the topic "{topic.name}" is not on {settings.brokers}',
                f"{near} {hint}" if near.startswith("did") else hint,
            )
        if there.error is not None:
            raise kafka_error(_STEP, (there.error.code(), f"{topic.name}: {there.error.str()}"), SourceError)
        for partition in sorted(there.partitions):
            found[partition_name(topic.name, partition)] = _Place(topic, partition)
    if len(found) > PARTITIONS_MAX:
        raise SourceError(
            _STEP,
            f"{len(found)} partitions; {PARTITIONS_MAX} are possible",
            "read fewer topics, or make them with fewer partitions",
        )
    for name in known:
        if name not in found:
            raise SourceError(
                _STEP,
                f'the partition "{name}" was read before and is not among the topics now',
                "give the same topics as before; a topic that is gone for good needs a fresh start",
            )
    ordered = {name: found[name] for name in (*known, *found)}
    return KafkaSource(settings, ordered, topic_ids(admin, names))


def topic_ids(admin: AdminClient, names: Sequence[str]) -> dict[str, str]:
    """The identity of each topic; brokers before 2.8 have none to tell."""
    ids: dict[str, str] = {}
    if not names:
        return ids
    answers = admin.describe_topics(TopicCollection(list(names)), request_timeout=_IDENTITY_SECONDS)
    for name, answer in answers.items():
        try:
            ids[name] = str(answer.result().topic_id)
        except KafkaException:
            continue
    return ids
