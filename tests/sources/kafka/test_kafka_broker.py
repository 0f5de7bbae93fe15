"""What librdkafka's own cluster does not show: transactions, retention, a topic made again. On a real broker."""

from __future__ import annotations

import time
from contextlib import closing

import msgspec
import pytest
from clusters import Cluster, confirmed, lines_of, read_chunks
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from segue.clock import WALL_CLOCK
from segue.errors import SourceError
from segue.sources.interface import QuietChunk
from segue.sources.kafka.source import kafka_source, partition_name


def test_only_what_was_committed_is_read(real: Cluster) -> None:
    producer = real.producer(**{"transactional.id": real.topic})
    producer.init_transactions()
    with real.reading() as partition:
        for committed in (True, False, True, False):
            producer.begin_transaction()
            producer.produce(real.topic, b"%d" % committed, partition=0)
            producer.flush()
            # the transaction is open: for a reader of what is committed the partition ends before it
            assert confirmed(partition, WALL_CLOCK.now_ms(), 5) is not None
            if committed:
                producer.commit_transaction()
                assert [line for _, line in lines_of(read_chunks(partition, 1))] == [b"1"]
            else:
                producer.abort_transaction()
            # behind the last message stands a marker, or a message and a marker that nobody sees
            assert confirmed(partition, WALL_CLOCK.now_ms() + 50, 5) is not None
        assert partition.position().offset == 8
        position = partition.position()
    with real.reading(position=position) as partition:
        assert confirmed(partition, WALL_CLOCK.now_ms(), 5) is not None


def test_a_silent_partition_is_confirmed_often_while_another_one_reads(real: Cluster) -> None:
    admin = AdminClient({"bootstrap.servers": real.brokers})
    topic = f"{real.topic}-two"
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result()
    two = Cluster(real.brokers, topic)
    with two.reading() as reads, two.reading(partition=1) as silent:
        assert confirmed(silent, WALL_CLOCK.now_ms(), 5) is not None
        gaps = []
        before = None
        until = time.monotonic() + 1
        producer = two.producer()
        while time.monotonic() < until:
            producer.produce(topic, b"{}", partition=0)
            producer.poll(0)
            reads.read(1_000, 1 << 20)
            chunk = silent.read(1_000, 1 << 20)
            assert isinstance(chunk, QuietChunk)
            if chunk.caught_up_ms is not None and chunk.caught_up_ms != before:
                if before is not None:
                    gaps.append(chunk.caught_up_ms - before)
                before = chunk.caught_up_ms
            time.sleep(0.002)
        producer.flush()
    gaps.sort()
    assert gaps[len(gaps) // 2] <= 60


def test_what_retention_deletes_under_the_reader_is_told(real: Cluster) -> None:
    real.send(*[b"{}"] * 10)
    admin = AdminClient({"bootstrap.servers": real.brokers})
    with real.reading() as partition:
        read_chunks(partition, 10)
        position = partition.position()
    real.send(*[b"{}"] * 10)
    admin.delete_records([TopicPartition(real.topic, 0, 15)])[TopicPartition(real.topic, 0)].result()
    with pytest.raises(SourceError, match="retention"):
        real.source().open(partition_name(real.topic, 0), position)


def test_a_topic_that_was_made_again_is_not_the_same(real: Cluster) -> None:
    real.send(*[b"{}"] * 5)
    with real.reading() as partition:
        read_chunks(partition, 2, rows_max=2)
        position = partition.position()
    admin = AdminClient({"bootstrap.servers": real.brokers})
    admin.delete_topics([real.topic])[real.topic].result()
    until = time.monotonic() + 10
    while real.topic in admin.list_topics(timeout=5).topics and time.monotonic() < until:
        time.sleep(0.1)
    admin.create_topics([NewTopic(real.topic, 1, 1)])[real.topic].result()
    real.send(*[b"{}"] * 5)
    ends = admin.list_offsets({TopicPartition(real.topic, 0): OffsetSpec.latest()})
    assert [end.result().offset for end in ends.values()] == [5]
    with pytest.raises(SourceError, match="made again"):
        real.source().open(partition_name(real.topic, 0), position)


def test_a_topic_deleted_under_the_reader_is_told(real: Cluster) -> None:
    real.send(b"{}")
    properties = {"topic.metadata.refresh.interval.ms": "500", "topic.metadata.propagation.max.ms": "500"}
    settings = msgspec.structs.replace(real.settings(), properties=properties)
    with closing(kafka_source(settings).open(partition_name(real.topic, 0))) as partition:
        read_chunks(partition, 1)
        admin = AdminClient({"bootstrap.servers": real.brokers})
        admin.delete_topics([real.topic])[real.topic].result()
        with pytest.raises(SourceError, match="not there"):
            confirmed(partition, 1 << 60, 30)
