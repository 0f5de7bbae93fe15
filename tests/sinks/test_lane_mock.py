"""What a lane does by itself, against librdkafka's own mock of a cluster; the guarantees: tests/kafka/test_lanes.py."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from segue import limits
from segue.errors import SettingsError, SinkError
from segue.kafka.settings import KafkaSettings
from segue.run.stop import FAILED
from segue.sinks.kafka.clients import Trouble, make_producer, make_reader, patiently
from segue.sinks.kafka.lane import Lane
from segue.sinks.kafka.message import LaneMessage
from segue.sinks.kafka.tail import prepare_outputs
from tests.kafka.lanes import LANES, item, settings_of, topic_names, visible


@pytest.fixture
def settings() -> Iterator[KafkaSettings]:
    """A deployment on a mock, which makes topics as they are asked for."""
    FAILED.clear()
    mock = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 0})
    [broker] = mock.list_topics(timeout=10).brokers.values()
    for topic in topic_names("mock."):
        mock.list_topics(topic, timeout=10)
    yield settings_of(f"{broker.host}:{broker.port}", "mock.")
    FAILED.clear()


def test_a_partition_whose_leader_moves_is_waited_for(settings: KafkaSettings) -> None:
    refused = [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE]

    def ask(_seconds: float) -> int:
        if refused:
            raise KafkaException(KafkaError(refused.pop()))
        return 7

    assert patiently(settings, ask, Trouble(settings)) == 7


def opened(settings: KafkaSettings) -> list[Lane]:
    tail = prepare_outputs(settings, topic_names("mock."), {})
    return [Lane(settings, number, tail) for number in range(LANES)]


def test_items_keep_their_order_and_a_snapshot_waits_for_them(settings: KafkaSettings) -> None:
    lanes = opened(settings)
    for number in range(50):
        lanes[number % LANES].write([item("mock.", number, 0)])
    for lane in lanes:
        lane.snapshot()
    assert (
        visible(settings, "email")
        == visible(settings, "decisions")
        == [list(range(0, 50, 2)), list(range(1, 50, 2))]
    )
    assert sum(len(lane.waits_ms()) for lane in lanes) == 50
    for lane in lanes:
        lane.close()
        lane.close()
    with pytest.raises(SinkError, match="lane 1 was closed"):
        lanes[1].write([item("mock.", 50, 0)])


def test_closing_commits_what_is_queued(settings: KafkaSettings) -> None:
    lanes = opened(settings)
    lanes[1].write([item("mock.", 1, 0), item("mock.", 2, 0)])
    for lane in lanes:
        lane.close()
    assert visible(settings, "email") == [[], [1, 2]]


def test_logs_alone_wait_for_others_and_go_with_what_does_not(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segue.limits.GATHER_LOGS_MS", 3_600_000)
    lanes = opened(settings)

    def log(number: int) -> list[LaneMessage]:
        return [message for message in item("mock.", number, 0) if message.topic == "mock.decisions"]

    lanes[0].write([log(0)])
    lanes[1].write([log(1)])
    lanes[1].write([item("mock.", 3, 0)])  # an action, which does not wait
    while not len(lanes[1].waits_ms()):
        FAILED.raise_if_set()
        time.sleep(0.01)
    assert visible(settings, "decisions") == [[], [1, 3]]
    assert not len(lanes[0].waits_ms())
    lanes[0].snapshot()  # somebody waits
    assert visible(settings, "decisions") == [[0], [1, 3]]
    for lane in lanes:
        lane.close()


def test_only_a_flush_sends_what_needs_a_lease(settings: KafkaSettings) -> None:
    """However much there is: more than librdkafka's own batch of 10,000 messages, and than one of 1,000,000 bytes."""
    producer = make_producer(settings, Trouble(settings))
    reader = make_reader(settings, Trouble(settings))

    def arrived() -> int:
        return int(reader.get_watermark_offsets(TopicPartition("mock.email", 0), timeout=10)[1])

    for _ in range(20_000):
        producer.produce("mock.email", b"x" * 100, partition=0)
    until = time.monotonic() + limits.LEASE_MS / 4_000
    while time.monotonic() < until:
        producer.poll(0.01)
    assert arrived() == 0
    assert producer.flush(30) == 0
    assert arrived() == 20_000
    reader.close()


def test_a_failure_elsewhere_ends_writing_and_waiting(settings: KafkaSettings) -> None:
    lanes = opened(settings)
    lanes[0].snapshot()
    failure = SinkError("write results", "the disk is full", "make room")
    lanes[0].write([item("mock.", 1, 0)])
    FAILED.set(failure)
    for call in (lambda: lanes[0].write([item("mock.", 2, 0)]), lanes[0].snapshot, lanes[1].snapshot):
        with pytest.raises(SinkError, match="the disk is full"):
            call()
    before = time.monotonic()
    for lane in lanes:
        lane.close()  # silent: the failure is known
    assert time.monotonic() - before < 5


def test_brokers_that_do_not_answer_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segue.limits.BROKER_WAIT_MS", 300)
    with pytest.raises(SinkError, match=r"127\.0\.0\.1:1 did not answer in time"):
        prepare_outputs(settings_of("127.0.0.1:1", "none."), topic_names("none."), {})


def test_properties_that_contradict_the_protocol_are_refused() -> None:
    settings = settings_of("127.0.0.1:1", "none.", properties={"transaction.timeout.ms": "1000"})
    with pytest.raises(SettingsError, match=r"transaction\.timeout\.ms"):
        prepare_outputs(settings, topic_names("none."), {})
