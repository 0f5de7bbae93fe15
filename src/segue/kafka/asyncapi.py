"""The topics of a deployment for those who consume and produce them: an AsyncAPI 3 document.

Everything in it is taken from what the engine itself uses: message types, columns of the logs, the plan of topics. The
heartbeat is left out: nobody but the engine reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pyarrow as pa

from segue import __version__
from segue.actions.changes import CHANGES_SCHEMA, JOINS_SCHEMA
from segue.actions.log import LOG_FIELDS
from segue.actions.messages import Action, DeadLetterMessage, LateMessage, Withdrawn
from segue.events.names import CHANNELS
from segue.events.schema import with_numbers
from segue.events.types import (
    CatalogueRow,
    CloudEvent,
    Event,
    PriceRow,
    ProfileRow,
    SegmentBatch,
    SegmentMessage,
    StockRow,
)
from segue.kafka.settings import Form, InputTopic, KafkaSettings
from segue.kafka.topics import TopicPlan, plan
from segue.outputs import (
    ARROW_STREAM,
    BINARY,
    CHANGES,
    DEAD_LETTERS,
    DECISIONS,
    HEARTBEAT,
    JOINS,
    LATE,
    LEDGER,
)

JSON = "application/json"
RECEIPTS_HEADER = "segue"
IDS_HEADER = "segue-ids"
_BINDING = "0.5.0"
_COMPONENTS = "#/components"
_ROWS: dict[str, type[msgspec.Struct]] = {
    "catalogue": CatalogueRow,
    "price": PriceRow,
    "stock": StockRow,
    "profile": ProfileRow,
}
_STRUCTS: tuple[type[msgspec.Struct], ...] = (
    Action,
    Withdrawn,
    DeadLetterMessage,
    LateMessage,
    Event,
    CloudEvent,
    SegmentMessage,
    SegmentBatch,
    *_ROWS.values(),
)
_LOGS = {DECISIONS: pa.schema(LOG_FIELDS), CHANGES: CHANGES_SCHEMA, JOINS: JOINS_SCHEMA}
_FORMS: dict[Form, tuple[str, ...]] = {  # messages that a topic of this form may carry
    "json": ("event",),
    "cloudevents": ("event-with-headers",),
    "many": ("events", "segment-batch"),
    "arrow": ("event-columns",),
    "auto": ("event", "cloudevent", "segment-message", "segment-batch", "events", "event-columns"),
}


def asyncapi(
    settings: KafkaSettings, channels: Iterable[str] = CHANNELS, has_campaigns: bool = True
) -> dict[str, Any]:
    """The document."""
    inputs = settings.topics or (InputTopic("events"),)
    topics = [
        topic
        for topic in plan(settings, channels, inputs=inputs, has_campaigns=has_campaigns)
        if topic.output != HEARTBEAT
    ]
    read = {topic.name: (f"{topic.table}-row",) if topic.table else _FORMS[topic.form] for topic in inputs}
    carried = {
        topic.name: read[topic.name] if topic.role == "input" else _messages_of(topic) for topic in topics
    }
    used = {name for names in carried.values() for name in names}
    messages = {name: message for name, message in _messages(settings).items() if name in used}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Segue",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "servers": _servers(settings),
        "defaultContentType": JSON,
        "channels": {topic.name: _channel(topic, carried[topic.name], settings) for topic in topics},
        "operations": {
            f"{'receive' if topic.role == 'input' else 'send'}-{topic.name}": _operation(
                topic, carried[topic.name]
            )
            for topic in topics
        },
        "components": {"messages": messages, "schemas": _schemas()},
    }


_ABOUT = """\
What a retailer's customers do goes in, the next best action comes out: one topic a channel.

Consumers of transactional channels and of the logs read with `isolation.level=read_committed`: each decision id then \
appears once for each `kind`. On idempotent channels a message may be repeated after a crash, with the same kind and \
decision id: drop repeats by both. Fields are only ever added; unknown ones are to be ignored.

What a channel has not sent yet may be taken back: `kind` is then `withdrawn`, and `action_id` says which. Drop the \
action if it has not been sent; else there is nothing to do."""


def _messages_of(topic: TopicPlan) -> tuple[str, ...]:
    if topic.role == "channel":
        return "action", "withdrawn"
    return ({DEAD_LETTERS: "dead-letter", LATE: "late"}.get(topic.output, topic.output),)


def _servers(settings: KafkaSettings) -> dict[str, Any]:
    is_encrypted = "SSL" in settings.properties.get("security.protocol", "").upper()
    protocol = "kafka-secure" if is_encrypted else "kafka"
    hosts = [host.strip() for host in settings.brokers.split(",") if host.strip()]
    if not hosts:
        variable = {"default": "localhost:9092", "description": "host:port of the deployment's brokers"}
        return {"brokers": {"host": "{brokers}", "protocol": protocol, "variables": {"brokers": variable}}}
    return {f"broker-{i + 1}": {"host": host, "protocol": protocol} for i, host in enumerate(hosts)}


def _channel(topic: TopicPlan, messages: tuple[str, ...], settings: KafkaSettings) -> dict[str, Any]:
    policies = topic.config["cleanup.policy"].split(",")
    configuration: dict[str, Any] = {"cleanup.policy": policies}
    if "retention.ms" in topic.config:
        configuration["retention.ms"] = int(topic.config["retention.ms"])
    channel: dict[str, Any] = {
        "address": topic.name,
        "description": _description(topic, settings),
        "messages": {name: {"$ref": f"{_COMPONENTS}/messages/{name}"} for name in messages},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "topicConfiguration": configuration,
                "bindingVersion": _BINDING,
            }
        },
    }
    if topic.role != "input":  # the number of an input's partitions is its producers' business
        channel["bindings"]["kafka"]["partitions"] = topic.partitions
    return channel


def _description(topic: TopicPlan, settings: KafkaSettings) -> str:
    if topic.role == "input":
        table = next((each.table for each in settings.topics if each.name == topic.name), "")
        if table:
            return (
                f"Rows of the table {table}, each complete: read to its end before any event is decided on."
            )
        return "What happened; several topics are read side by side."
    if topic.role == "channel":
        how = settings.delivery_of(topic.output)
        return f"Actions on the channel {topic.output}, and which are taken back; delivery is {how}."
    return {
        DECISIONS: "Why each decision was made: a row a slot, a reason for every candidate; with --log off no rows. "
        "Transactional.",
        CHANGES: "Segments that customers entered or left, stages they entered. Transactional.",
        JOINS: "What was credited to what by joins. Transactional.",
        LEDGER: "What became of every voucher; the newest of a key is how it is. The engine reads it at its start: "
        "nobody else writes to it, and it is never emptied. Transactional.",
        DEAD_LETTERS: "Inputs that could not be used, with the reason. Transactional.",
        LATE: "Events that came later than the allowed lateness. Transactional.",
    }[topic.output]


def _operation(topic: TopicPlan, messages: tuple[str, ...]) -> dict[str, Any]:
    channel = f"#/channels/{topic.name}"
    return {
        "action": "receive" if topic.role == "input" else "send",
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{name}"} for name in messages],
    }


def _ref(struct: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": f"{_COMPONENTS}/schemas/{struct.__name__}"}


def _schemas() -> dict[str, Any]:
    _, components = msgspec.json.schema_components(_STRUCTS, ref_template=f"{_COMPONENTS}/schemas/{{name}}")
    schemas: dict[str, Any] = with_numbers(components)
    return schemas


def _message(
    title: str,
    payload: dict[str, Any],
    content_type: str,
    headers: dict[str, Any],
    key: str,
    optional: tuple[str, ...] = (),
) -> dict[str, Any]:
    message: dict[str, Any] = {"title": title, "contentType": content_type, "payload": payload}
    if headers:
        required = [name for name in headers if name not in optional]
        message["headers"] = {"type": "object", "properties": headers, "required": required}
    binding: dict[str, Any] = {"bindingVersion": _BINDING}
    if key:
        binding["key"] = {"type": "string", "description": key}
    message["bindings"] = {"kafka": binding}
    return message


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _receipts(rows: str) -> dict[str, Any]:
    return {
        RECEIPTS_HEADER: _text(
            f"binary, the engine's own: a receipt of 128 bytes {rows}, read back after a crash; ignore it"
        )
    }


_IDS = {
    IDS_HEADER: _text(
        "binary, the engine's own: an id of 16 bytes for each row, the same when the row is made again"
    )
}


def _messages(settings: KafkaSettings) -> dict[str, Any]:
    customer = "the customer's id, as in the message"
    nobody = ""
    input_key = "the customer, or the identifier that is known of one; of tables what the row is about"
    cloud_events = {
        "ce_specversion": _text("CloudEvents 1.0, binary mode", const="1.0"),
        "ce_id": _text("the action id", pattern="^[0-9a-f]{32}$"),
        "ce_type": _text("what it is", const="segue.action"),
        "ce_source": _text("the deployment", const=f"segue/{settings.name}"),
        "ce_time": _text("the action's time", format="date-time"),
        "ce_subject": _text("the customer's id"),
        "content-type": _text("of the value", const=JSON),
    }
    of_withdrawn = cloud_events | {
        "ce_id": _text("the action id and -withdrawn", pattern="^[0-9a-f]{32}-withdrawn$"),
        "ce_type": _text("what it is", const="segue.withdrawn"),
        "ce_time": _text("when the action was taken back", format="date-time"),
    }
    envelope = {
        "ce_specversion": _text("CloudEvents 1.0, binary mode", const="1.0"),
        "ce_id": _text("id of the event"),
        "ce_type": _text("type of the event: Product Viewed, …"),
        "ce_source": _text("who produced it"),
        "ce_time": _text("when it happened", format="date-time"),
    }
    action = _message("Action", _ref(Action), JSON, _receipts("for the action") | cloud_events, customer)
    action["correlationId"] = {"location": "$message.payload#/correlation_id"}
    withdrawn_headers = _receipts("for what is taken back") | of_withdrawn
    json_type = {"content-type": _text("of the value", const=JSON)}
    arrow_type = {"content-type": _text("of the value", const=ARROW_STREAM)}
    one_a_row = _receipts("for each row")
    return {
        "action": action,
        "withdrawn": _message("Action taken back", _ref(Withdrawn), JSON, withdrawn_headers, customer),
        DECISIONS: _table("Rows of the decision log", _LOGS[DECISIONS], one_a_row | arrow_type),
        CHANGES: _table("Changes of segments and stages", _LOGS[CHANGES], _IDS | arrow_type),
        JOINS: _table("Matches of joins", _LOGS[JOINS], _IDS | arrow_type),
        LEDGER: _message(
            "Change of a voucher, or of a campaign",
            _text("binary, the engine's own: nine words of 64 bits, little-endian"),
            BINARY,
            {"content-type": _text("of the value", const=BINARY)},
            "binary: what kind it is, and the voucher's code or the campaign",
        ),
        "dead-letter": _message("Dead letter", _ref(DeadLetterMessage), JSON, _IDS | json_type, nobody),
        "late": _message("Late event", _ref(LateMessage), JSON, _IDS | json_type, nobody),
        "event": _message("Event as bare JSON", _ref(Event), JSON, {}, input_key),
        "event-with-headers": _message(
            "Event in CloudEvents binary mode", _ref(Event), JSON, envelope, input_key, ("ce_time",)
        ),
        "cloudevent": _message(
            "Event in CloudEvents structured mode",
            _ref(CloudEvent),
            "application/cloudevents+json",
            {},
            input_key,
        ),
        "segment-message": _message("Call of the Segment spec", _ref(SegmentMessage), JSON, {}, input_key),
        "segment-batch": _message("Segment's HTTP batch", _ref(SegmentBatch), JSON, {}, nobody),
        "events": _message(
            "Many events: an array, or a line each",
            {"type": "array", "items": _ref(Event), "description": "or JSON Lines: an event a line"},
            JSON,
            {},
            nobody,
        ),
        **{
            f"{table}-row": _message(
                f"Row of the table {table}; without a value (a tombstone) it is gone",
                {"oneOf": [_ref(row), {"type": "null"}]},
                JSON,
                {},
                "the customer's id"
                if table == "profile"
                else "the product's id, or an object with the row's keys",
            )
            for table, row in _ROWS.items()
        },
        "event-columns": _message(
            "Many events as columns",
            _text("an Arrow IPC stream with a column for each field of an event, or some of them"),
            ARROW_STREAM,
            {},
            nobody,
        ),
    }


def _table(title: str, schema: pa.Schema, headers: dict[str, Any]) -> dict[str, Any]:
    payload = _text(f"an Arrow IPC stream. Columns: {', '.join(schema.names)}")
    payload["x-arrow-schema"] = [
        {"name": field.name, "type": str(field.type), "nullable": field.nullable} for field in schema
    ]
    return _message(title, payload, ARROW_STREAM, headers, "")
