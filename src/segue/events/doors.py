"""Every form a message may come in leads to the same Event: bare, CloudEvents, Segment's message and batch.

A message is opened to one Event, or a batch to many; what is wrong with one message of a batch is a
Refusal for
that message alone.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec

from segue import limits
from segue.errors import did_you_mean
from segue.events.refusal import Refusal
from segue.events.types import ENVELOPE_FIELDS, CloudEvent, Event, Message
from segue.events.updates import RowEvent, open_row

_DECODER = msgspec.json.Decoder(Message)
_CLOUD_DECODER = msgspec.json.Decoder(CloudEvent)
_SEGMENT_TYPES = ("track", "identify", "alias", "page", "screen")
# what Segment says outside `properties`
_SEGMENT_FIELDS = (
    "id",
    "message_id",
    "user_id",
    "loyalty_id",
    "anonymous_id",
    "previous_id",
    "time",
    "timestamp",
    "original_timestamp",
    "sent_at",
    "received_at",
    "source",
    "timezone",
)


Opened = Event | RowEvent | Refusal


def open_message(raw: bytes) -> list[tuple[Opened, bytes]]:
    """The events of one message with the bytes each came from. Never raises for what is in `raw`."""
    try:
        row = _row(raw)
        if row is not None:
            return [(row, raw)]
        message = _decode(raw)
        if message.batch is None:
            return [(_one(message), raw)]
        return _batch(message)
    except Refusal as refusal:
        return [(refusal, raw)]


def _row(raw: bytes) -> RowEvent | None:
    """The row of a table that a message is."""
    if len(raw) > limits.MESSAGE_BYTES_MAX:
        return None
    row = open_row(raw)
    if row is not None:
        _check_text(raw)
    return row


def _check_text(raw: bytes) -> None:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        raise Refusal(f"not UTF-8: byte 0x{raw[error.start]:02x} at {error.start}") from None
    if raw.count(b"[") + raw.count(b"{") > limits.NESTING_MAX and _depth(raw) > limits.NESTING_MAX:
        raise Refusal(f"JSON is nested deeper than {limits.NESTING_MAX}")


def _decode(raw: bytes) -> Message:
    if len(raw) > limits.MESSAGE_BYTES_MAX:
        raise Refusal(f"message has {len(raw)} bytes, at most {limits.MESSAGE_BYTES_MAX} are read")
    _check_text(raw)
    try:
        return _DECODER.decode(raw)
    except msgspec.ValidationError as error:
        return _with_extensions(raw, error)
    except msgspec.DecodeError as error:
        raise Refusal(f"not JSON: {error}") from None
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise Refusal(f"not readable: {type(error).__name__}: {error}") from None


def _with_extensions(raw: bytes, error: msgspec.ValidationError) -> Message:
    """A CloudEvent whose extension has the name of one of our fields, and another type; else the error
    stands."""
    try:
        cloud = _CLOUD_DECODER.decode(raw)
    except msgspec.DecodeError:
        raise Refusal(str(error)) from None
    return Message(
        specversion=cloud.specversion,
        id=cloud.id,
        type=cloud.type,
        source=cloud.source,
        time=cloud.time,
        data=cloud.data,
    )


def _depth(raw: bytes) -> int:
    """The deepest nesting of brackets outside strings."""
    depth = deepest = 0
    in_string = escaped = False
    for byte in raw:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _one(message: Message) -> Event:
    if message.specversion is not None:
        return _cloud_event(message)
    if message.properties is not None or message.type == "track":
        return _segment(message)
    message.timezone = message.timezone or _told_zone(message)
    return message


def _cloud_event(message: Message) -> Event:
    if message.specversion != "1.0":
        raise Refusal(
            f"CloudEvents {(message.specversion or '')[:20]!r} is not read: specversion must be '1.0'"
        )
    event = message.data or Event()
    for name in ENVELOPE_FIELDS:
        said = getattr(message, name)
        if said:
            setattr(event, name, said)
    return event


def _segment(message: Message) -> Event:
    call = message.type or ""
    if call not in _SEGMENT_TYPES:
        raise Refusal(f"unknown Segment type {call[:40]!r}: {did_you_mean(call[:40], _SEGMENT_TYPES)}")
    event = message.properties or Event()
    # among the properties these are the shop's own words, not the message's
    event.id = event.time = event.event = None
    for name in _SEGMENT_FIELDS:
        said = getattr(message, name)
        if said:
            setattr(event, name, said)
    event.timezone = message.timezone or _told_zone(message) or event.timezone
    event.type = message.event if call == "track" else call
    return event


class _Zone(msgspec.Struct):
    timezone: Any = None


_ZONE_DECODER = msgspec.json.Decoder(_Zone)


def _told_zone(message: Message) -> Any:
    """The time zone in Segment's context, else among the traits of an identify."""
    for part in (message.context, message.traits):
        if part:
            with suppress(msgspec.DecodeError, ValueError, RecursionError):
                zone = _ZONE_DECODER.decode(part).timezone
                if zone:
                    return zone
    return None


def _batch(message: Message) -> list[tuple[Opened, bytes]]:
    opened: list[tuple[Opened, bytes]] = []
    for part in message.batch or ():
        raw = bytes(part)
        try:
            row = _row(raw)
            if row is not None:
                row.event.sent_at = row.event.sent_at or message.sent_at
                row.event.received_at = row.event.received_at or message.received_at
                opened.append((row, raw))
                continue
            call = _decode(raw)
            call.sent_at = call.sent_at or message.sent_at
            call.received_at = call.received_at or message.received_at
            opened.append((_segment(call), raw))
        except Refusal as refusal:
            opened.append((refusal, raw))
    return opened
