"""Whether a Kafka message is as the AsyncAPI document says: payload, headers, columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jsonschema
import msgspec
import pyarrow as pa

from segue.kafka.asyncapi import IDS_HEADER, RECEIPTS_HEADER
from segue.outputs import ARROW_STREAM

Headers = Iterable[tuple[str, bytes | str | None]]
_BINARY = (RECEIPTS_HEADER, IDS_HEADER)


class Contract:
    """Checks messages of topics against a document; raises AssertionError or jsonschema.ValidationError."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._channels = {channel["address"]: channel for channel in document["channels"].values()}
        self._validators: dict[tuple[str, str], jsonschema.Draft7Validator] = {}

    def check(self, topic: str, value: bytes, headers: Headers = ()) -> None:
        """A message of an output topic."""
        told = {key: _text(key, text) for key, text in headers}
        names = list(self._channels[topic]["messages"])
        name = names[0]
        if len(names) > 1:
            name = msgspec.json.decode(value)["kind"]
            assert name in names
        message = self._document["components"]["messages"][name]
        if message["contentType"] == ARROW_STREAM:
            self._check_columns(message["payload"]["x-arrow-schema"], value)
        else:
            self.validator(name, "payload").validate(msgspec.json.decode(value))
        self.validator(name, "headers").validate(told)
        extra = told.keys() - message.get("headers", {}).get("properties", {}).keys()
        assert not extra, f"{topic}: the document knows nothing of the headers {sorted(extra)}"

    def validator(self, message: str, part: str) -> jsonschema.Draft7Validator:
        """Of a message's payload or headers."""
        key = (message, part)
        if key not in self._validators:
            schema = self._document["components"]["messages"][message].get(part, {})
            whole = {**schema, "components": self._document["components"]}
            self._validators[key] = jsonschema.Draft7Validator(whole)
        return self._validators[key]

    @staticmethod
    def _check_columns(told: list[dict[str, Any]], stream: bytes) -> None:
        with pa.ipc.open_stream(stream) as reader:
            reader.read_all()
            real = reader.schema
        columns = [(column["name"], column["type"], column["nullable"]) for column in told]
        assert [(field.name, str(field.type), field.nullable) for field in real] == columns


def _text(key: str, value: bytes | str | None) -> str | None:
    if isinstance(value, bytes):
        return value.decode("latin-1" if key in _BINARY else "utf-8")
    return value
