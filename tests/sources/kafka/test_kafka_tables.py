"""Topics of tables: whole rows as messages, read to their end before anything else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import numpy as np
import pytest

from segue.events.decode import Decoder
from segue.kafka.settings import InputTopic, KafkaSettings
from segue.reference.world import ReferenceWorld
from segue.sources.interface import QuietChunk, RowChunk
from segue.sources.kafka.partition import KafkaPosition
from segue.sources.kafka.source import KafkaSource, first_to_read, kafka_source, partition_name
from segue.sources.pace import Pace
from segue.sources.reader import BatchReader, ReadBatch
from segue_kernels import plan
from tests.reference_tables.test_reference_world import MARGIN, policies_with
from tests.sources.kafka.clusters import Cluster, MockBrokers

SECRET = b"segue embedded 1"


@pytest.fixture(scope="module")
def mock_brokers() -> Iterator[MockBrokers]:
    brokers = MockBrokers()
    yield brokers
    brokers.close()


def source_of(products: Cluster, events: Cluster | None = None) -> KafkaSource:
    topics = [InputTopic(products.topic, table="catalogue")]
    if events is not None:
        topics.insert(0, InputTopic(events.topic, "json"))
    return kafka_source(KafkaSettings(brokers=products.brokers, topics=tuple(topics), start="latest"))


def send(cluster: Cluster, *rows: tuple[str | None, bytes | None], timestamp: int = 0) -> None:
    producer = cluster.producer()
    for key, payload in rows:
        producer.produce(cluster.topic, payload, key, timestamp=timestamp)
    assert producer.flush(30) == 0


def row_chunk(source: KafkaSource, name: str, position: KafkaPosition | None = None) -> RowChunk:
    partition = source.open(name, position)
    try:
        until = time.monotonic() + 15
        while time.monotonic() < until:
            chunk = partition.read(1_000, 1 << 20)
            if isinstance(chunk, RowChunk):
                return chunk
            assert isinstance(chunk, QuietChunk)
            time.sleep(0.005)
        raise AssertionError("nothing came")
    finally:
        partition.close()


def test_messages_are_rows(mock_brokers: MockBrokers) -> None:
    products = mock_brokers.topic()
    send(products, ("a", b'{"margin":0.5}'), ("a", None), (None, b"no row"), timestamp=1_772_362_800_000)
    name = partition_name(products.topic, 0)
    chunk = row_chunk(source_of(products), name)  # from the beginning, whatever `start` says of events
    assert chunk.offsets.tolist() == [0, 1, 2]
    assert chunk.rows.table == plan.TABLE_CATALOGUE
    assert list(chunk.rows.payloads) == [b'{"margin":0.5}', None, b"no row"]
    assert list(chunk.rows.keys) == [b"a", b"a", None]
    assert list(chunk.rows.times_ms) == [1_772_362_800_000] * 3
    assert row_chunk(source_of(products), name, KafkaPosition(2)).offsets.tolist() == [2]


def test_which_partitions_are_read_first() -> None:
    topics = (InputTopic("events"), InputTopic("shop/stock", table="stock"), InputTopic("events/of"))
    partitions = ["shop/stock/00001", "events/00000", "shop/stock/00000", "events/of/00000"]
    assert first_to_read(KafkaSettings(topics=topics), partitions) == [0, 2]


def test_events_wait_for_the_tables(mock_brokers: MockBrokers) -> None:
    """Until all rows were read, and heard by each shard; and not again after a resume."""
    products, events = mock_brokers.topic(), mock_brokers.topic()
    send(products, *((f"p{n}", b'{"margin":0.5}') for n in range(20)))
    event = {"id": "1", "type": "Product Viewed", "time": "2026-03-01T12:00:00Z", "userId": "u"}
    events.send(json.dumps(event).encode())
    source = source_of(products, events)
    first = first_to_read(source.settings, source.partitions)
    assert first == [1]
    pace = Pace.create(2, 1, merged=False, first=first)
    decoder = Decoder(SECRET, "EUR", 4_000_000_000_000, 60_000, (MARGIN,))
    readers = [
        BatchReader(source.open(name), index, decoder, pace, 1_000)
        for index, name in enumerate(source.partitions)
    ]
    read = ReadBatch()
    until = time.monotonic() + 15
    while not pace.was_read(1) and time.monotonic() < until:
        assert not readers[0].may_read()
        assert readers[1].may_read()
        assert not readers[1].state().was_read
        step = readers[1].read()
        for batch in step.batches:
            read.batches.append(batch)
            assert not readers[0].may_read()
            pace.taken(0, 1)
            assert not readers[0].may_read()
            pace.heard(0, 1)
        time.sleep(0.005)
    rows = np.concatenate([batch.decoded.records for batch in read.batches if batch.decoded])
    assert len(rows) == 40
    assert readers[0].may_read()
    state = readers[1].state()
    assert state.was_read
    for reader in readers:
        reader.close()
    again = Pace.create(2, 1, merged=False, first=first)
    assert not again.may_read(0)
    BatchReader(source.open(source.partitions[1]), 1, decoder, again, 1_000, state=state).close()
    assert again.may_read(0)


def test_many_rows_are_there_at_once(mock_brokers: MockBrokers) -> None:
    """The brokers that are played keep 5 MiB of a partition."""
    products = mock_brokers.topic()
    count = 50_000
    producer = products.producer(**{"queue.buffering.max.messages": "200000", "batch.num.messages": "10000"})
    for n in range(count):
        producer.produce(
            products.topic, b'{"margin":%d.%02d,"name":"product %d"}' % (n % 90, n % 100, n), f"p{n}"
        )
        if n % 10_000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0
    source = source_of(products)
    decoder = Decoder(SECRET, "EUR", 4_000_000_000_000, 60_000, (MARGIN,))
    world = ReferenceWorld("UTC", policies_with(MARGIN).lookups, (MARGIN,), {"catalogue": "events"}, SECRET)
    reader = BatchReader(
        source.open(source.partitions[0]), 0, decoder, Pace.create(1, 1, in_flight=10_000), 65_536
    )
    until, got = time.monotonic() + 60, 0
    started = time.process_time()
    while got < count and time.monotonic() < until:
        for batch in reader.read().batches:
            assert batch.decoded is not None
            got += batch.decoded.events
            assert len(world.take(batch.decoded.records)) == 0
        if reader.quiet:
            time.sleep(0.001)
    spent = time.process_time() - started
    reader.close()
    assert got == count
    assert world.counters() == {"table_keys": count, "table_updates": count, "table_versions_dropped": 0}
    assert spent / count < 60e-6
