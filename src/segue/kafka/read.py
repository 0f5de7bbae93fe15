"""Topics read from their beginning, or a time, to their end: for those who look into them, not for the engine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from segue.errors import SegueError

STEP = "read topics"
PATIENCE_S = 60.0  # without any message, before the broker counts as gone
_BATCH = 10_000


class Record(NamedTuple):
    """A message as consumers see it. `time_ms`: when it was produced, or appended (the topic says which)."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def partitions_of(
    brokers: str,
    topics: Sequence[str],
    properties: Mapping[str, str] = {},
    patience_s: float = PATIENCE_S,
) -> dict[str, int]:
    """How many partitions each of these topics has; one that is not there is left out."""
    admin = AdminClient({"log_level": "0", **properties, "bootstrap.servers": brokers})
    try:
        found = admin.list_topics(timeout=patience_s).topics
    except KafkaException as error:
        raise SegueError(STEP, f"{brokers}: {error}", "is the broker there?") from error
    return {topic: len(found[topic].partitions) for topic in topics if topic in found}


def read_topics(
    brokers: str,
    topics: Sequence[str],
    *,
    properties: Mapping[str, str] = {},
    from_ms: int = 0,
    patience_s: float = PATIENCE_S,
) -> Iterator[Record]:
    """Every committed message of these topics, from their beginning to what their end is now.

    from_ms  only messages from the first on that was written at this time or later
    """
    counts = partitions_of(brokers, topics, properties)
    waiting = {(topic, number) for topic, count in counts.items() for number in range(count)}
    if not waiting:
        return
    consumer = Consumer(
        {
            "fetch.wait.max.ms": "10",
            "queued.min.messages": "200000",
            **properties,
            "bootstrap.servers": brokers,
            "group.id": "segue-verifier",
            "enable.auto.commit": "false",
            "isolation.level": "read_committed",
            "enable.partition.eof": "true",
            "log_level": "0",
        }
    )
    try:
        places = [TopicPartition(topic, number, from_ms or OFFSET_BEGINNING) for topic, number in waiting]
        if from_ms:
            places = consumer.offsets_for_times(places, timeout=patience_s)
        consumer.assign(places)
        heard = time.monotonic()
        while waiting:
            messages = consumer.consume(_BATCH, 0.1)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() > heard + patience_s:
                left = ", ".join(sorted({topic for topic, _ in waiting}))
                raise SegueError(
                    STEP, f"nothing came from {left} for {patience_s:.0f} s", "is the broker there?"
                )
            for message in messages:
                error = message.error()
                if error is None:
                    yield Record(
                        message.topic() or "",
                        message.partition() or 0,
                        message.offset() or 0,
                        message.timestamp()[1],
                        message.key(),
                        message.value() or b"",
                        cast(tuple[tuple[str, bytes], ...], tuple(message.headers() or ())),
                    )
                elif error.code() == KafkaError._PARTITION_EOF:
                    waiting.discard((message.topic(), message.partition()))
                elif not error.retriable() and error.code() != KafkaError._TRANSPORT:
                    raise SegueError(STEP, f"{message.topic()}: {error}", "look at the broker's log")
    finally:
        consumer.close()
