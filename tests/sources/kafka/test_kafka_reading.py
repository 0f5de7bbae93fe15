"""What stands in a topic comes as chunks, each message once, with its offset: on the cluster that librdkafka plays."""

from __future__ import annotations

import io
import json
import pickle
import threading
import time
from contextlib import closing

import msgspec
import pyarrow as pa
import pytest
from clusters import Cluster, MockBrokers, broken_of, confirmed, lines_of, read_chunks

from segue.clock import WALL_CLOCK
from segue.errors import SettingsError, SourceError
from segue.events.decode import Decoder
from segue.events.hashing import key_words
from segue.events.lines import ScanRoom, run_scanner
from segue.events.rows import Terms
from segue.kafka.settings import InputTopic, KafkaSettings
from segue.limits import MESSAGE_BYTES_MAX
from segue.sources.interface import LineChunk, TableChunk
from segue.sources.kafka.partition import KafkaPosition
from segue.sources.kafka.source import kafka_source, partition_name
from segue.sources.pace import Pace
from segue.sources.reader import BatchReader, ReadBatch

_TOPIC_AUTHORIZATION_FAILED = 29


def arrow(*tables: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    return sink.getvalue()


def test_each_message_is_a_line_with_its_offset(mock: Cluster) -> None:
    mock.send(*(b'{"n":%d}' % n for n in range(2_500)))
    with mock.reading("json") as partition:
        chunks = read_chunks(partition, 2_500, rows_max=1_000)
        assert lines_of(chunks) == [(n, b'{"n":%d}' % n) for n in range(2_500)]
        assert all(isinstance(chunk, LineChunk) and chunk.rows_hint <= 1_000 for chunk in chunks)
        assert partition.position().offset == 2_500


def test_reading_goes_on_at_a_position(mock: Cluster) -> None:
    mock.send(*(b'{"n":%d}' % n for n in range(30)))
    source = mock.source()
    name = partition_name(mock.topic, 0)
    got: list[tuple[int, bytes]] = []
    position = None
    while len(got) < 30:
        partition = pickle.loads(pickle.dumps(source)).open(name, position)
        got += lines_of(read_chunks(partition, 1, rows_max=7))
        position = partition.position()
        partition.close()
        partition.close()
    assert got == [(n, b'{"n":%d}' % n) for n in range(30)]


def test_the_form_is_told_by_the_first_bytes(mock: Cluster) -> None:
    table = pa.table({"id": ["a", "b"], "type": ["x", "y"]})
    mock.send(
        b'{"n":1}',
        b'[{"n":2},\n {"n":[3]}]',
        b'{"n":4}\n{"n":5}\n',
        b'{\n "n": 6\n}',
        arrow(table, table.slice(1)),
        b"[]",
        b'{"n":7}',
    )
    with mock.reading() as partition:
        chunks = read_chunks(partition, 10)
    assert [(offset, json.loads(line)["n"]) for offset, line in lines_of(chunks)] == [
        (0, 1),
        (1, 2),
        (1, [3]),
        (2, 4),
        (2, 5),
        (3, 6),
        (6, 7),
    ]
    (rows,) = [chunk for chunk in chunks if isinstance(chunk, TableChunk)]
    assert (rows.offset, rows.batch.column("id").to_pylist()) == (4, ["a", "b", "b"])


def test_headers_of_a_cloud_event(mock: Cluster) -> None:
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b'a"1'),
        ("ce_type", b"Product Viewed"),
        ("ce_source", b"web"),
    ]
    mock.send(b'{"userId":"u"}', headers=headers)
    mock.send(b'{"id":"bare"}')
    with mock.reading("cloudevents") as partition:
        lines = [json.loads(line) for _, line in lines_of(read_chunks(partition, 2))]
    assert lines == [
        {
            "specversion": "1.0",
            "id": 'a"1',
            "type": "Product Viewed",
            "source": "web",
            "data": {"userId": "u"},
        },
        {"id": "bare"},
    ]


def test_events_in_headers_take_the_fast_road(mock: Cluster) -> None:
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_type", b"Product Viewed"),
        ("ce_source", b"shop/web"),
        ("ce_time", b"2026-03-01T12:00:00.000Z"),
        ("content-type", b"application/json"),
    ]
    mock.send(b'{"userId":"u","price":59.95,\n "product_id":"p"}', headers=headers)
    with mock.reading("cloudevents") as partition:
        (chunk,) = read_chunks(partition, 1)
    assert isinstance(chunk, LineChunk)
    terms = Terms("EUR", 4_000_000_000_000)
    scanned = run_scanner(chunk.payload, 0, 10, 1, ScanRoom(terms, *key_words(b"0123456789abcdef")))
    assert (len(scanned.records), len(scanned.slow)) == (1, 0)


def test_what_can_t_be_read_is_told_and_nothing_else_is_lost(mock: Cluster) -> None:
    cut = arrow(pa.table({"id": ["a"] * 100}))[:300]
    large = b'{"a":"' + b"x" * MESSAGE_BYTES_MAX + b'"}'
    producer = mock.producer(**{"message.max.bytes": "4000000"})
    for payload in (b"{}", None, b"", b"[1,", cut, b"{}"):
        producer.produce(mock.topic, payload, partition=0)
    assert producer.flush(10) == 0
    with mock.reading() as partition:
        chunks = read_chunks(partition, 6)
    assert [offset for offset, _ in lines_of(chunks)] == [0, 5]
    told = dict(broken_of(chunks))
    assert list(told) == [1, 2, 3, 4]
    assert "tombstone" in told[1]
    assert "empty" in told[2]
    assert "array" in told[3]
    assert "Arrow" in told[4]

    producer.produce(mock.topic, large, partition=0)
    assert producer.flush(10) == 0
    with mock.reading("json") as partition:
        (offset, reason) = broken_of(read_chunks(partition, 7))[-1]
    assert offset == 6
    assert str(len(large)) in reason
    assert "are kept" in reason


def test_dead_letters_and_late_events_stand_at_their_offset(mock: Cluster) -> None:
    def event(number: int, hour: int) -> bytes:
        time_ = f"2026-03-01T{hour:02}:00:00Z"
        return json.dumps(
            {"id": str(number), "type": "Product Viewed", "time": time_, "userId": "u"}
        ).encode()

    mock.send(event(1, 12), b"[%b,%b]" % (b'{"no":1}', event(2, 12)), event(3, 13), b"[1]", event(4, 1))
    name = partition_name(mock.topic, 0)
    decoder = Decoder(b"0123456789abcdef", "EUR", 4_000_000_000_000, 60_000)
    reader = BatchReader(mock.source().open(name), 0, decoder, Pace.create(1, 1), 3)
    got = ReadBatch()
    until = time.monotonic() + 15
    while len(got.dead) + len(got.late) < 3 and time.monotonic() < until:
        step = reader.read()
        got.dead += step.dead
        got.late += step.late
    reader.close()
    assert [(letter.file, letter.line, letter.offset) for letter in got.dead] == [(name, 1, 1), (name, 1, 3)]
    assert [(late.file, late.line, late.offset, late.raw) for late in got.late] == [(name, 1, 4, event(4, 1))]


def test_at_low_rates_messages_share_a_batch(mock: Cluster) -> None:
    with mock.reading() as partition:
        mock.send(b"{}")
        read_chunks(partition, 1)
        mock.send(*[b"{}"] * 20)
        time.sleep(0.1)
        chunks = read_chunks(partition, 20)
    assert len(chunks) == 1


def test_partitions_share_a_consumer(mock_brokers: MockBrokers) -> None:
    cluster = mock_brokers.topic(partitions=3)
    source = cluster.source("json")
    assert source.partitions == tuple(f"{cluster.topic}/0000{k}" for k in range(3))
    opened = [source.open(name) for name in source.partitions]
    listening = [thread for thread in threading.enumerate() if thread.name == "segue-kafka-consumer"]
    assert len(listening) == 1
    for k, partition in enumerate(opened):
        cluster.send(b'{"p":%d}' % k, partition=k)
        assert lines_of(read_chunks(partition, 1)) == [(0, b'{"p":%d}' % k)]
    for partition in opened:
        partition.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "segue-kafka-consumer"]


def test_the_order_of_partitions_known_before_is_kept(mock_brokers: MockBrokers) -> None:
    cluster = mock_brokers.topic(partitions=3)
    names = [partition_name(cluster.topic, k) for k in range(3)]
    source = kafka_source(cluster.settings(), known=[names[2], names[0]])
    assert source.partitions == (names[2], names[0], names[1])
    with pytest.raises(SourceError, match="was read before"):
        kafka_source(cluster.settings(), known=["gone/00000"])


def test_a_topic_that_is_not_there(mock: Cluster) -> None:
    settings = KafkaSettings(brokers=mock.brokers, topics=(InputTopic(mock.topic[:-1]),))
    with pytest.raises(SourceError, match="is not on") as raised:
        kafka_source(settings)
    assert f'did you mean "{mock.topic}"' in raised.value.hint
    assert "segue topics create" in raised.value.hint


def test_topics_are_given_once_and_at_all(mock: Cluster) -> None:
    with pytest.raises(SettingsError, match="no topic"):
        kafka_source(KafkaSettings(brokers=mock.brokers))
    twice = KafkaSettings(brokers=mock.brokers, topics=(InputTopic("a"), InputTopic("a", "json")))
    with pytest.raises(SettingsError, match="twice"):
        kafka_source(twice)


def test_nobody_answers() -> None:
    settings = KafkaSettings(brokers="127.0.0.1:1", topics=(InputTopic("a"),))
    with pytest.raises(SourceError, match="no broker can be reached"):
        kafka_source(settings, wait_ms=500)


def test_only_an_answer_confirms_the_end(mock_brokers: MockBrokers, caplog: pytest.LogCaptureFixture) -> None:
    mock = mock_brokers.topic()
    mock.send(b"{}")
    with mock.reading() as partition:
        read_chunks(partition, 1)
        asked_ms = WALL_CLOCK.now_ms()
        told_ms = confirmed(partition, asked_ms, 5)
        assert told_ms is not None
        assert told_ms <= WALL_CLOCK.now_ms()
        mock_brokers.down()
        try:
            assert confirmed(partition, WALL_CLOCK.now_ms() + 100, 6) is None
        finally:
            mock_brokers.up()
        mock.send(b"{}")
        read_chunks(partition, 1)
        assert confirmed(partition, WALL_CLOCK.now_ms(), 10) is not None
    said = [record.getMessage() for record in caplog.records if record.name == "segue.kafka"]
    assert [text.split(" ")[0] for text in said] == ["no", "a"]


def test_a_position_that_retention_has_deleted(mock_brokers: MockBrokers) -> None:
    mock = mock_brokers.topic()
    mock.send(*[b"{}"] * 10)
    mock_brokers.forget(mock.topic, 5)
    with mock.reading() as partition:
        assert [offset for offset, _ in lines_of(read_chunks(partition, 5))] == [5, 6, 7, 8, 9]
    with pytest.raises(SourceError, match="offset 4 is where to go on, but the first one there is 5"):
        mock.source().open(partition_name(mock.topic, 0), KafkaPosition(4))


def test_a_position_behind_the_end(mock: Cluster) -> None:
    mock.send(b"{}")
    name = partition_name(mock.topic, 0)
    with pytest.raises(SourceError, match="ends at 1"):
        mock.source().open(name, KafkaPosition(2))
    with pytest.raises(SourceError, match="deleted and made again"):
        mock.source().open(name, KafkaPosition(1, "another"))


def test_the_latest_is_where_a_run_began(mock: Cluster) -> None:
    mock.send(b"1", b"2")
    settings = msgspec.structs.replace(mock.settings(), start="latest")
    partition = kafka_source(settings).open(partition_name(mock.topic, 0))
    assert partition.position().offset == 2
    mock.send(b"3")
    assert lines_of(read_chunks(partition, 1)) == [(2, b"3")]
    partition.close()


def test_a_topic_that_may_not_be_read_ends_the_reading() -> None:
    # brokers of its own: refusals that nobody fetched would be left to other tests
    with closing(MockBrokers()) as brokers, brokers.topic().reading() as partition:
        assert confirmed(partition, WALL_CLOCK.now_ms(), 5) is not None
        brokers.refuse_fetches(_TOPIC_AUTHORIZATION_FAILED, 3)
        with pytest.raises(SourceError, match="the broker does not allow it"):
            confirmed(partition, 1 << 60, 20)
