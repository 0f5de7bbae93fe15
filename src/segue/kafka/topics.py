"""Every topic of a deployment, in one place: what it is for, its partitions, what the broker must keep of it.

`create` makes those that are missing and changes nothing that is there; `compare` says where a cluster differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Literal, NamedTuple, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined]

from segue import limits
from segue.errors import SegueError, SettingsError
from segue.events.names import CHANNELS
from segue.kafka.client import connect_admin, kafka_error
from segue.kafka.settings import InputTopic, KafkaSettings
from segue.outputs import CHANGES, DEAD_LETTERS, DECISIONS, HEARTBEAT, JOINS, LATE, LEDGER

Role = Literal["input", "channel", "log", "rejected", "internal"]
Answer = TypeVar("Answer")

_STEP = "look after topics"
_ADMIN_SECONDS = limits.KAFKA_ADMIN_MS_MAX / 1_000


class TopicError(SegueError):
    """The cluster can't be asked about its topics, or refuses to make one."""


class TopicPlan(NamedTuple):
    """A topic as it should be.

    output      channel or output it carries; "" of an input
    partitions  of an output: the lanes
    config      what the broker must be told of it
    """

    name: str
    role: Role
    output: str
    partitions: int
    replication: int
    config: dict[str, str]


class Difference(NamedTuple):
    """Where the cluster is not as planned.

    is_fatal  an engine could lose or double something, or not start at all
    """

    topic: str
    what: str
    planned: str
    found: str
    is_fatal: bool


def output_topic(settings: KafkaSettings, output: str) -> str:
    """The topic of a channel or another output."""
    return settings.prefix + output


def plan(
    settings: KafkaSettings,
    channels: Iterable[str] = CHANNELS,
    *,
    inputs: Sequence[InputTopic] | None = None,
    partitions: int = limits.TOPIC_PARTITIONS_DEFAULT,
    replication: int = 1,
    retention_ms: int = limits.TOPIC_RETENTION_MS_DEFAULT,
    has_campaigns: bool = True,
) -> list[TopicPlan]:
    """All topics of a deployment: inputs (of the settings if not given), channels, logs, what was rejected, heartbeat.

    retention_ms   of inputs, channels and logs: how long an engine may be down, and consumers may lag
    has_campaigns  the policies grant vouchers: the ledger of them has a topic, which is compacted
    """
    replicated = {
        "min.insync.replicas": str(max(1, replication - 1)),
        # a replica that lacks what was acknowledged must never become the leader
        "unclean.leader.election.enable": "false",
        # as the producer packed it: anything else makes the broker pack it again
        "compression.type": "producer",
    }

    def kept(ms: int) -> dict[str, str]:
        return {"cleanup.policy": "delete", "retention.ms": str(ms), "retention.bytes": "-1", **replicated}

    # what an engine may have to read again stays as it came
    compacted = {"cleanup.policy": "compact", "min.compaction.lag.ms": str(retention_ms), **replicated}
    topics = [
        TopicPlan(
            topic.name,
            "input",
            "",
            partitions,
            replication,
            compacted if topic.is_compact else kept(retention_ms),
        )
        for topic in (settings.topics if inputs is None else inputs)
    ]
    rejected_ms = max(retention_ms, limits.TOPIC_REJECTED_RETENTION_MS)
    outputs: list[tuple[str, Role, int]] = [(channel, "channel", retention_ms) for channel in channels]
    outputs += [(name, "log", retention_ms) for name in (DECISIONS, CHANGES, JOINS)]
    outputs += [(name, "rejected", rejected_ms) for name in (DEAD_LETTERS, LATE)]
    outputs += [(HEARTBEAT, "internal", limits.TOPIC_HEARTBEAT_RETENTION_MS)]
    topics += [
        TopicPlan(output_topic(settings, name), role, name, settings.lanes, replication, kept(ms))
        for name, role, ms in outputs
    ]
    if has_campaigns:
        name = output_topic(settings, LEDGER)
        topics.append(TopicPlan(name, "log", LEDGER, settings.lanes, replication, compacted))
    names = [topic.name for topic in topics]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(
                _STEP, f'two topics are called "{name}"', "rename the input, or choose another prefix"
            )
    return topics


class Cluster:
    """What a cluster says about its topics. Raises TopicError where it can't be asked."""

    def __init__(self, settings: KafkaSettings, wait_ms: int = limits.KAFKA_ADMIN_MS_MAX) -> None:
        self.brokers = settings.brokers
        self._admin, metadata = connect_admin(settings, _STEP, TopicError, wait_ms)
        self.size = len(metadata.brokers)

    def _result(self, future: Future[Answer], asked: str) -> Answer:
        try:
            return future.result(_ADMIN_SECONDS + 5)
        except KafkaException as error:
            code = error.args[0].code()
            if code in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED):
                hint = "an ACL must allow Describe, DescribeConfigs and (to create) Create on the topics"
                raise TopicError(_STEP, f"{asked}: this user is not authorised", hint) from error
            if code in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN):
                raise kafka_error(_STEP, error.args[0], TopicError) from error
            raise

    def describe(self, names: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Partitions and replicas of those that are there."""
        if not names:
            return {}
        asked = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=_ADMIN_SECONDS)
        found: dict[str, tuple[int, int]] = {}
        for name, future in asked.items():
            try:
                topic = self._result(future, f'topic "{name}"')
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise TopicError(_STEP, f'topic "{name}": {error.args[0].str()}') from error
            else:
                found[name] = (len(topic.partitions), min(len(each.replicas) for each in topic.partitions))
        return found

    def configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """The configuration of topics that are there."""
        if not names:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        asked = self._admin.describe_configs(resources, request_timeout=_ADMIN_SECONDS)
        found: dict[str, dict[str, str]] = {}
        for resource, future in asked.items():
            try:
                entries = self._result(future, f'configuration of topic "{resource.name}"')
            except KafkaException as error:
                raise TopicError(_STEP, f'topic "{resource.name}": {error.args[0].str()}') from error
            found[resource.name] = {entry.name: entry.value for entry in entries.values()}
        return found

    def create(self, topics: Sequence[TopicPlan]) -> list[str]:
        """Make those that are missing; returns their names. Those that are there stay as they are."""

        there = self.describe([topic.name for topic in topics])
        missing = [topic for topic in topics if topic.name not in there]
        if not missing:
            return []
        asked = self._admin.create_topics(
            [
                NewTopic(
                    topic.name,
                    num_partitions=topic.partitions,
                    replication_factor=topic.replication,
                    config=topic.config,
                )
                for topic in missing
            ],
            operation_timeout=_ADMIN_SECONDS,
            request_timeout=_ADMIN_SECONDS,
        )
        made: list[str] = []
        for name, future in asked.items():
            try:
                self._result(future, f'create topic "{name}"')
            except KafkaException as error:
                if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:  # somebody else was first
                    continue
                hint = (
                    "see --partitions, --replication and the names" if made == [] else "the others are made"
                )
                raise TopicError(
                    _STEP, f'topic "{name}" can\'t be made: {error.args[0].str()}', hint
                ) from error
            made.append(name)
        self._wait_until_there(made)
        return made

    def _wait_until_there(self, names: Sequence[str]) -> None:
        """The controller has made them; each broker hears of it a little later."""
        deadline = time.monotonic() + _ADMIN_SECONDS
        while len(self.describe(names)) < len(names):
            if time.monotonic() > deadline:
                hint = "look at the broker's log"
                raise TopicError(_STEP, f"{self.brokers} made topics and does not show them", hint)
            time.sleep(0.02)


def compare(topics: Sequence[TopicPlan], cluster: Cluster) -> list[Difference]:
    """Where the cluster differs from the plan, topic by topic."""
    there = cluster.describe([topic.name for topic in topics])
    configs = cluster.configs(list(there))
    differences: list[Difference] = []
    for topic in topics:
        if topic.name not in there:
            differences.append(Difference(topic.name, "topic", "there", "missing", True))
            continue
        partitions, replicas = there[topic.name]
        differences += _of_partitions(topic, partitions)
        if replicas < topic.replication:
            differences.append(
                Difference(topic.name, "replication", str(topic.replication), str(replicas), False)
            )
        differences += _of_config(topic, configs[topic.name])
    return differences


def _of_partitions(topic: TopicPlan, partitions: int) -> list[Difference]:
    if topic.role == "input":
        is_fewer = partitions < topic.partitions
        return [
            Difference(topic.name, "partitions", str(topic.partitions), str(partitions), False)
        ] * is_fewer
    if partitions == topic.partitions:
        return []
    # without a partition for each lane nothing works; partitions above the lanes stay empty
    return [
        Difference(
            topic.name, "partitions", str(topic.partitions), str(partitions), partitions < topic.partitions
        )
    ]


def _of_config(topic: TopicPlan, found: Mapping[str, str]) -> list[Difference]:
    least_ms = min(limits.TOPIC_RETENTION_MS_MIN, int(topic.config.get("retention.ms", "0")))
    checks: dict[str, Callable[[str, str], bool | None]] = {  # None: as it should be; else: is it fatal?
        "cleanup.policy": lambda planned, real: None if planned == real else True,
        "retention.ms": lambda planned, real: (
            None if real == "-1" or int(real) >= int(planned) else int(real) < least_ms
        ),
        "retention.bytes": lambda planned, real: None if real == "-1" else True,
        "min.compaction.lag.ms": lambda planned, real: (
            None if int(real) >= int(planned) else int(real) < limits.TOPIC_RETENTION_MS_MIN
        ),
        "min.insync.replicas": lambda planned, real: None if int(real) >= int(planned) else False,
        "unclean.leader.election.enable": lambda planned, real: None if planned == real else True,
        "compression.type": lambda planned, real: None if planned == real else False,
    }
    differences = []
    for name, planned in topic.config.items():
        real = found.get(name, "")
        is_fatal = checks[name](planned, real)
        if is_fatal is not None:
            differences.append(Difference(topic.name, name, planned, real, is_fatal))
    return differences
