"""The AsyncAPI document: whole, true to the plan of topics, and true to the messages that a run writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from typer.testing import CliRunner

from segue.cli import app
from segue.events.names import CHANNELS
from segue.kafka.asyncapi import asyncapi
from segue.kafka.settings import InputTopic, KafkaSettings
from segue.kafka.topics import plan
from segue.outputs import ARROW_STREAM, HEARTBEAT
from segue.run.schemas import SCHEMAS
from segue.simulate import SimulationSettings, write_simulation
from tests.kafka.contract import Contract

SETTINGS = KafkaSettings(
    brokers="a:9092, b:9093",
    topics=(
        InputTopic("shop.events"),
        InputTopic("bare", "json"),
        InputTopic("clicks", "cloudevents"),
        InputTopic("old", "many"),
        InputTopic("nightly", "arrow"),
        InputTopic("catalogue", compact=True),
    ),
)
NAME = re.compile(r"[A-Za-z0-9_.-]+")


def found_at(document: dict[str, Any], reference: str) -> Any:
    """What a reference inside the document points to."""
    node: Any = document
    assert reference.startswith("#/")
    for step in reference[2:].split("/"):
        node = node[step]
    return node


def references(node: Any) -> Iterator[str]:
    """All references in a part of a document."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for child in node.values():
            yield from references(child)
    if isinstance(node, list):
        for child in node:
            yield from references(child)


def test_the_document_has_the_parts_that_the_specification_demands() -> None:
    document = asyncapi(SETTINGS)
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    assert [(s["host"], s["protocol"]) for s in document["servers"].values()] == [
        ("a:9092", "kafka"),
        ("b:9093", "kafka"),
    ]
    for reference in references(document):
        assert found_at(document, reference)
    for channel in document["channels"].values():
        assert channel["messages"]
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        of_channel = operation["channel"]["$ref"]
        assert operation["messages"]
        assert all(each["$ref"].startswith(f"{of_channel}/messages/") for each in operation["messages"])
    used = set(references(document["channels"]))
    for name, message in document["components"]["messages"].items():
        assert f"#/components/messages/{name}" in used
        assert {"title", "contentType", "payload", "bindings"} <= message.keys()
        if "headers" in message:
            assert message["headers"]["type"] == "object"
    for part in ("messages", "schemas"):
        assert all(NAME.fullmatch(name) for name in document["components"][part])


def test_every_schema_is_one_of_draft_7() -> None:
    document = asyncapi(SETTINGS)
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft7Validator.check_schema(schema)
    for message in document["components"]["messages"].values():
        jsonschema.Draft7Validator.check_schema(message["payload"])
        jsonschema.Draft7Validator.check_schema(message.get("headers", {}))


def test_channels_are_the_planned_topics_but_for_the_heartbeat() -> None:
    planned = {topic.name: topic for topic in plan(SETTINGS) if topic.output != HEARTBEAT}
    channels = asyncapi(SETTINGS)["channels"]
    assert [channel["address"] for channel in channels.values()] == list(planned)
    for channel in channels.values():
        topic = planned[channel["address"]]
        binding = channel["bindings"]["kafka"]
        assert binding["topicConfiguration"]["cleanup.policy"] == [topic.config["cleanup.policy"]]
        assert binding.get("partitions") == (None if topic.role == "input" else SETTINGS.lanes)


def test_delivery_is_told_where_consumers_look() -> None:
    channels = asyncapi(KafkaSettings(delivery={"email": "idempotent"}))["channels"]
    assert channels["segue.email"]["description"].endswith("idempotent.")
    assert channels["segue.web"]["description"].endswith("idempotent.")
    assert channels["segue.push"]["description"].endswith("transactional.")


def test_encrypted_listeners_are_told() -> None:
    for protocol, told in (
        ("SASL_SSL", "kafka-secure"),
        ("ssl", "kafka-secure"),
        ("SASL_PLAINTEXT", "kafka"),
    ):
        document = asyncapi(KafkaSettings(properties={"security.protocol": protocol}))
        assert document["servers"]["brokers"]["protocol"] == told


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run on simulated shoppers writes, with events that can't be used and one that comes too late."""
    folder = tmp_path_factory.mktemp("run")
    events = folder / "events.jsonl"
    with open(events, "wb") as file:
        write_simulation(SimulationSettings(customers=500, events=20_000), file)
        file.write(b'{"type": "Product Viewed"\n\xff\xfe\n')
        file.write(b'{"id":"l","type":"Product Viewed","userId":"u","time":"2001-01-01T00:00:00Z"}\n')
    done = CliRunner().invoke(app, ["run", str(events), "--out", str(folder / "out"), "--quiet"])
    assert done.exit_code == 0, done.stderr
    return folder


def lines(path: Path, count: int = 300) -> list[dict[str, Any]]:
    """Some of a file's lines."""
    found = path.read_bytes().splitlines()
    return [msgspec.json.decode(line) for line in found[:count]]


def test_real_messages_are_as_the_schemas_say(outputs: Path) -> None:
    document = asyncapi(SETTINGS)
    actions = [each for channel in CHANNELS for each in _if_there(outputs / "out" / f"{channel}.jsonl")]
    real = {
        "action": actions,
        "dead-letter": lines(outputs / "out" / "dead_letters.jsonl"),
        "late": lines(outputs / "out" / "late.jsonl"),
    }
    for message, values in real.items():
        assert values, f"the run made no {message}"
        for check in (
            Contract(document).validator(message, "payload"),
            jsonschema.Draft202012Validator(SCHEMAS[message]()),
        ):
            for value in values:
                check.validate(value)


def _if_there(path: Path) -> list[dict[str, Any]]:
    return lines(path) if path.exists() else []


def test_real_events_are_as_the_schemas_say(outputs: Path) -> None:
    check = Contract(asyncapi(SETTINGS)).validator("event", "payload")
    for event in lines(outputs / "events.jsonl"):
        check.validate(event)


def test_a_message_that_lacks_a_field_or_has_a_wrong_one_is_told(outputs: Path) -> None:
    check = Contract(asyncapi(SETTINGS)).validator("dead-letter", "payload")
    (good, *_) = lines(outputs / "out" / "dead_letters.jsonl")
    check.validate(good)
    assert not check.is_valid({name: value for name, value in good.items() if name != "reason"})
    assert not check.is_valid({**good, "line": "first"})


def test_messages_of_topics_are_checked_with_headers_and_columns(outputs: Path) -> None:
    contract = Contract(asyncapi(SETTINGS))
    arrow = [("content-type", ARROW_STREAM.encode())]
    for table, header in (("decisions", "segue"), ("changes", "segue-ids")):
        stream = (outputs / "out" / f"{table}.arrows").read_bytes()
        contract.check(f"segue.{table}", stream, [*arrow, (header, b"\xff" * 16)])
    with pytest.raises(AssertionError):
        contract.check("segue.joins", stream, [*arrow, ("segue-ids", b"")])  # these are columns of changes
    action, *_ = (outputs / "out" / "web.jsonl").read_bytes().splitlines()
    headers = [
        ("segue", bytes(range(128))),
        ("ce_id", b"0" * 32),
        ("ce_time", b"2026-03-01T12:00:00.000Z"),
        ("ce_subject", "Zoë".encode()),
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_type", b"segue.action"),
        ("ce_source", b"segue/segue"),
    ]
    contract.check("segue.web", action, headers)
    with pytest.raises(jsonschema.ValidationError, match="'ce_source' is a required property"):
        contract.check("segue.web", action, headers[:-1])
    with pytest.raises(AssertionError, match="knows nothing of the headers"):
        contract.check("segue.web", action, [*headers, ("x", b"")])


def test_the_command(tmp_path: Path) -> None:
    def told(*arguments: str) -> dict[str, Any]:
        done = CliRunner().invoke(app, ["schema", "asyncapi", *arguments], env={"SEGUE_SETTINGS": ""})
        assert done.exit_code == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    assert told() == asyncapi(KafkaSettings())
    document = told("--brokers", "k:9092", "--prefix", "shop.", "--input", "clicks")
    assert document["servers"]["broker-1"]["host"] == "k:9092"
    assert {"clicks", "shop.email", "shop.decisions"} <= document["channels"].keys()
    policy = Path(__file__).parents[2] / "src/segue/policy/shipped/a10_abandonment.toml"
    assert "segue.call" not in told("--policies", str(policy))["channels"]
