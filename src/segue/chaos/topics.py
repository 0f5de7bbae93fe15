"""Topics as logs: everything that a topic's readers can see, and the lines of events in its messages."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, cast, get_args

import msgspec
import pyarrow as pa
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from segue.errors import SegueError, SettingsError
from segue.kafka.settings import Form, KafkaSettings
from segue.kafka.topics import Cluster, plan

STEP = "read topics"
PATIENCE_S = 60.0  # without any message, before the broker counts as gone
_BATCH = 10_000
_APPENDED = {"message.timestamp.type": "LogAppendTime"}
_ENVELOPE = (b"id", b"type", b"source", b"time")


class Record(NamedTuple):
    """A message as consumers see it. `time_ms`: when it was produced, or appended (the topic says which)."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class Line(NamedTuple):
    """An event as a JSON line (or what should have been one), and the bytes that it came as."""

    line: bytes
    raw: bytes
    time_ms: int


def partitions_of(brokers: str, topics: Sequence[str], properties: Mapping[str, str] = {}) -> dict[str, int]:
    """How many partitions each of these topics has; one that is not there is left out."""
    admin = AdminClient({"log_level": "0", **properties, "bootstrap.servers": brokers})
    try:
        found = admin.list_topics(timeout=PATIENCE_S).topics
    except KafkaException as error:
        raise SegueError(STEP, f"{brokers}: {error}", "is the broker there?") from error
    return {topic: len(found[topic].partitions) for topic in topics if topic in found}


def make_topics(settings: KafkaSettings, channels: Iterable[str], partitions: int) -> None:
    """Make the topics of a deployment that are not there yet. Inputs tell when a message was appended: one that waited
    for a broker is as late as it was."""
    topics = plan(settings, channels, partitions=partitions)
    Cluster(settings).create(
        [
            topic._replace(config={**topic.config, **_APPENDED}) if topic.role == "input" else topic
            for topic in topics
        ]
    )


def read_topics(
    brokers: str,
    topics: Sequence[str],
    *,
    properties: Mapping[str, str] = {},
    patience_s: float = PATIENCE_S,
) -> Iterator[Record]:
    """Every committed message of these topics, from their beginning to what their end is now."""
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
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for topic, number in waiting])
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


def lines_of(record: Record, form: Form) -> list[Line]:
    """The events of a message, each as one JSON line; what can't be read is one line that no decoder accepts."""
    value = record.value
    envelope = {name[3:].encode(): text for name, text in record.headers if name.startswith("ce_")}
    if form == "cloudevents" or (form == "auto" and envelope):
        return [Line(_with_envelope(envelope, value), value, record.time_ms)]
    if form == "arrow":
        try:
            rows = pa.ipc.open_stream(value).read_all().to_pylist()
        except pa.ArrowInvalid:
            return [Line(b"{not Arrow", value, record.time_ms)]
        encoded = [msgspec.json.encode({k: v for k, v in row.items() if v is not None}) for row in rows]
        return [Line(line, line, record.time_ms) for line in encoded]
    if form == "json":
        return [Line(_on_one_line(value), value, record.time_ms)]
    if value.lstrip()[:1] == b"[":
        try:
            each = msgspec.json.decode(value, type=list[msgspec.Raw])
        except msgspec.DecodeError:
            return [Line(_on_one_line(value), value, record.time_ms)]
        return [Line(_on_one_line(bytes(raw)), bytes(raw), record.time_ms) for raw in each]
    return [Line(line, line, record.time_ms) for line in value.split(b"\n") if line.strip()]


def _on_one_line(value: bytes) -> bytes:
    """JSON has newlines between its parts only, where a blank says the same."""
    return value.replace(b"\n", b" ").replace(b"\r", b" ") or b"{empty"


def _with_envelope(envelope: Mapping[bytes, bytes], data: bytes) -> bytes:
    fields = [
        b'"%b":%b' % (name, msgspec.json.encode(envelope[name].decode(errors="replace")))
        for name in _ENVELOPE
        if name in envelope
    ]
    return b"{" + b",".join([b'"specversion":"1.0"', *fields, b'"data":' + _on_one_line(data)]) + b"}"


def parse_topic(text: str) -> tuple[str, Form]:
    """NAME or NAME:FORM, as the command line has it."""
    name, colon, form = text.partition(":")
    forms: tuple[Form, ...] = get_args(Form)
    known = next((known for known in forms if known == (form if colon else "auto")), None)
    if not name or known is None:
        hint = f"NAME or NAME:FORM of {', '.join(forms)}"
        raise SettingsError("read the arguments", f'--topic: "{text}"', hint)
    return name, known
