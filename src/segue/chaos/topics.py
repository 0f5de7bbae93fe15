"""A deployment's topics made, and the lines of events in messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, get_args

import msgspec
import pyarrow as pa

from segue.errors import SettingsError
from segue.kafka.read import Record
from segue.kafka.settings import Form, KafkaSettings
from segue.kafka.topics import Cluster, plan

_APPENDED = {"message.timestamp.type": "LogAppendTime"}
_ENVELOPE = (b"id", b"type", b"source", b"time")


class Line(NamedTuple):
    """An event as a JSON line (or what should have been one), and the bytes that it came as."""

    line: bytes
    raw: bytes
    time_ms: int


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
