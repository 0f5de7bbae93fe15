"""A topic to write to and to read back."""

from __future__ import annotations

import ctypes
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from segue.kafka.library import Client, library
from segue.kafka.settings import Form, InputTopic, KafkaSettings
from segue.sources.interface import BrokenChunk, Chunk, LineChunk, QuietChunk, TableChunk
from segue.sources.kafka.partition import KafkaPartition, KafkaPosition
from segue.sources.kafka.source import KafkaSource, kafka_source, partition_name

_FETCH = 1  # number of the request
Headers = list[tuple[str, bytes]]


class MockBrokers:
    """A cluster of one broker that librdkafka plays, and its faults."""

    def __init__(self) -> None:
        self._host = Client({"bootstrap.servers": "127.0.0.1:1", "log_level": "0"})
        self._functions = library()
        handle, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        for name, result, arguments in (
            ("cluster_new", handle, [handle, number]),
            ("cluster_destroy", None, [handle]),
            ("cluster_bootstraps", text, [handle]),
            ("set_controller_id", number, [handle, number]),
            ("topic_create", number, [handle, text, number, number]),
            ("push_request_errors_array", None, [handle, ctypes.c_int16, ctypes.c_size_t, handle]),
            ("partition_delete_records", number, [handle, text, number, ctypes.c_int64]),
            ("broker_set_down", number, [handle, number]),
            ("broker_set_up", number, [handle, number]),
        ):
            function = getattr(self._functions, f"rd_kafka_mock_{name}")
            function.restype, function.argtypes = result, arguments
        self._cluster = self._functions.rd_kafka_mock_cluster_new(self._host._handle, 1)
        # questions about topics go to the controller
        self._functions.rd_kafka_mock_set_controller_id(self._cluster, 1)
        self.address = self._functions.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def topic(self, partitions: int = 1) -> Cluster:
        """A new topic."""
        name = f"events-{uuid.uuid4().hex[:8]}"
        assert self._functions.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1) == 0
        return Cluster(self.address, name)

    def forget(self, topic: str, offset: int) -> None:
        """Retention: what stands before the offset is gone."""
        self._functions.rd_kafka_mock_partition_delete_records(self._cluster, topic.encode(), 0, offset)

    def refuse_fetches(self, code: int, times: int) -> None:
        """The next fetches are answered by this error."""
        codes = (ctypes.c_int * times)(*[code] * times)
        self._functions.rd_kafka_mock_push_request_errors_array(
            self._cluster, _FETCH, times, ctypes.addressof(codes)
        )

    def down(self) -> None:
        """The broker goes away."""
        self._functions.rd_kafka_mock_broker_set_down(self._cluster, 1)

    def up(self) -> None:
        """It is back."""
        self._functions.rd_kafka_mock_broker_set_up(self._cluster, 1)

    def close(self) -> None:
        """End the cluster."""
        self._functions.rd_kafka_mock_cluster_destroy(self._cluster)
        self._host.close()


class Cluster:
    """One topic of a cluster."""

    def __init__(self, brokers: str, topic: str) -> None:
        self.brokers = brokers
        self.topic = topic

    def producer(self, **properties: str) -> Producer:
        return Producer({"bootstrap.servers": self.brokers, "linger.ms": 0, **properties})

    def send(self, *payloads: bytes | None, partition: int = 0, headers: Headers | None = None) -> None:
        producer = self.producer()
        for payload in payloads:
            producer.produce(self.topic, payload, partition=partition, headers=headers or [])
        assert producer.flush(10) == 0

    def settings(self, form: Form = "auto") -> KafkaSettings:
        return KafkaSettings(brokers=self.brokers, topics=(InputTopic(self.topic, form),))

    def source(self, form: Form = "auto") -> KafkaSource:
        return kafka_source(self.settings(form), wait_ms=10_000)

    @contextmanager
    def reading(
        self, form: Form = "auto", position: KafkaPosition | None = None, partition: int = 0
    ) -> Iterator[KafkaPartition]:
        opened = self.source(form).open(partition_name(self.topic, partition), position)
        try:
            yield opened
        finally:
            opened.close()


def real_cluster(brokers: str, partitions: int = 1) -> Cluster:
    """A new topic, once its leader is known."""
    topic = f"events-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        there = admin.list_topics(timeout=5).topics.get(topic)
        if there is not None and all(part.leader >= 0 for part in there.partitions.values()):
            break
        time.sleep(0.05)
    return Cluster(brokers, topic)


def read_chunks(
    partition: KafkaPartition,
    count: int,
    rows_max: int = 1_000,
    seconds: float = 15,
    bytes_max: int = 1 << 20,
) -> list[Chunk]:
    """Chunks until so many lines, rows and broken messages have come."""
    chunks: list[Chunk] = []
    until = time.monotonic() + seconds
    while count > 0:
        chunk = partition.read(rows_max, bytes_max)
        if isinstance(chunk, QuietChunk):
            assert time.monotonic() < until, chunks
            time.sleep(0.002)
            continue
        chunks.append(chunk)
        count -= rows_of(chunk)
    return chunks


def rows_of(chunk: Chunk) -> int:
    if isinstance(chunk, LineChunk):
        return chunk.rows_hint
    return chunk.batch.num_rows if isinstance(chunk, TableChunk) else 1


def lines_of(chunks: list[Chunk]) -> list[tuple[int, bytes]]:
    """(offset, line) of all lines."""
    found: list[tuple[int, bytes]] = []
    for chunk in chunks:
        if isinstance(chunk, LineChunk):
            assert chunk.offsets is not None
            lines = chunk.payload.tobytes().split(b"\n")[:-1]
            found += zip(chunk.offsets.tolist(), lines, strict=True)
    return found


def broken_of(chunks: list[Chunk]) -> list[tuple[int, str]]:
    """(offset, reason) of what could not be read."""
    return [(chunk.offset, chunk.reason) for chunk in chunks if isinstance(chunk, BrokenChunk)]


def confirmed(partition: KafkaPartition, since_ms: int, seconds: float) -> int | None:
    """The time up to which nothing is missing, once it is `since_ms` or later."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        chunk = partition.read(1_000, 1 << 20)
        if (
            isinstance(chunk, QuietChunk)
            and chunk.caught_up_ms is not None
            and chunk.caught_up_ms >= since_ms
        ):
            return chunk.caught_up_ms
        time.sleep(0.002)
    return None
