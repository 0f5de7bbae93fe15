"""Every form of message is decided on as the same events from a file are, and what can't be read is told and left."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from deploy.kafka.broker import Broker
from segue.explain.logs import FolderLogs, TopicLogs
from segue.explain.moment import Explanation, explain
from segue.kafka.asyncapi import asyncapi
from segue.kafka.settings import InputTopic, KafkaSettings
from segue.limits import DEAD_LETTER_BYTES_MAX
from segue.outputs import HEARTBEAT
from segue.run.progress import Silent
from segue.run.runner import prepare, run
from segue.settings import Settings
from segue.sinks.files import read_decisions
from tests.brokers import Topics
from tests.kafka.contract import Contract
from tests.kafka.engines import OUTPUTS, Deployment, consent, event, now_ms

FORMS = {
    "bare": "json",
    "headers": "cloudevents",
    "arrays": "many",
    "lines": "many",
    "columns": "arrow",
    "told-bare": "auto",
    "told-array": "auto",
    "told-arrow": "auto",
}
USERS = 3
TEXTS = ("id", "type", "source", "time", "userId", "channel", "purpose", "product_id", "category")


def day(topic: str, start_ms: int) -> list[dict[str, Any]]:
    """What the customers of a topic do; theirs alone, so that no other topic's order matters."""
    events = []
    for user in range(USERS):
        name = f"{topic}-{user}"
        at = start_ms + user
        if user:  # the first one gets no mail, but a banner
            events.append(consent(f"{name}-a", name, at))
        events.append(consent(f"{name}-b", name, at + 1, "push"))
        for number in range(5):
            views = event(f"{name}-v{number}", "Product Viewed", name, at + 20 * number + 2)
            events.append(views | {"product_id": f"p{number}", "category": "shoes", "price": 9.5})
        added = event(f"{name}-c", "Product Added", name, at + 200)
        events.append(added | {"product_id": "p1", "category": "shoes", "price": 9.5, "quantity": 1})
    return events


def arrow(events: list[dict[str, Any]]) -> bytes:
    """One message of all of them."""
    table = pa.Table.from_pylist(
        [{name: str(told) if name == "time" else told for name, told in each.items()} for each in events],
        schema=pa.schema(
            [(name, pa.string()) for name in TEXTS]
            + [("granted", pa.bool_()), ("price", pa.float64()), ("quantity", pa.int64())]
        ),
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def send_as(deployment: Deployment, topic: str, events: list[dict[str, Any]]) -> None:
    """The events in the topic's form, in two messages where one may hold many."""
    half = len(events) // 2
    if topic in ("bare", "told-bare"):
        deployment.send(events, topic, wait=False)
    elif topic == "headers":
        for each in events:
            envelope = {name: each[name] for name in ("id", "type", "source", "time")}
            data = {name: told for name, told in each.items() if name not in envelope}
            headers = [(f"ce_{name}", told.encode()) for name, told in envelope.items()]
            headers += [("ce_specversion", b"1.0"), ("content-type", b"application/json")]
            deployment.send([data], topic, headers=headers, wait=False)
    else:
        for some in (events[:half], events[half:]):
            if topic in ("arrays", "told-array"):
                value = msgspec.json.encode(some)
            elif topic == "lines":
                value = b"\n".join(map(msgspec.json.encode, some)) + b"\n"
            else:
                value = arrow(some)
            deployment.send([value], topic, wait=False)


GOOD = {"id": "x", "type": "Product Viewed", "source": "web", "time": "2026-03-02T08:00:00Z", "userId": "u"}
ENVELOPE = [
    ("ce_specversion", b"1.0"), ("ce_id", b"x"), ("ce_type", b"Product Viewed"), ("ce_source", b"web"),
    ("ce_time", b"2026-03-02T08:00:00Z"),
]  # fmt: skip
# (topic, value, headers, number of dead letters)
POISON: list[tuple[str, bytes | None, list[tuple[str, bytes]], int]] = [
    ("bare", None, [], 1),
    ("bare", b"", [], 1),
    ("bare", b"   ", [], 1),
    ("bare", b'{"id": "x", "type"', [], 1),
    ("bare", b"\xff\xfe\x00broken", [], 1),
    ("bare", b"null", [], 1),
    ("bare", b"[1, 2]", [], 1),
    ("bare", b'"text"', [], 1),
    ("bare", msgspec.json.encode(GOOD | {"time": "0001-01-01T00:00:00Z"}), [], 1),
    ("bare", msgspec.json.encode(GOOD | {"time": 10**30}), [], 1),
    ("bare", msgspec.json.encode(GOOD | {"time": "tomorrow"}), [], 1),
    ("bare", msgspec.json.encode(GOOD | {"userId": ["u"]}), [], 1),
    ("bare", msgspec.json.encode(GOOD | {"userId": "u" * 300}), [], 1),
    ("bare", b"[" * 5_000, [], 1),
    ("bare", b'{"id": "' + b"x" * (1 << 20) + b'"}', [], 1),
    ("headers", b"{}", [], 1),
    ("headers", None, ENVELOPE, 1),
    ("headers", b"{}", ENVELOPE[:2], 1),
    ("headers", b'{"userId": "u"}', [*ENVELOPE[:4], ("ce_time", b"\xff")], 1),
    ("headers", b'{"userId": "u"', ENVELOPE, 1),
    ("arrays", b'[{"id": 1}, 7, {"id"]', [], 1),
    ("arrays", msgspec.json.encode([GOOD | {"time": "never"}, 7, None]), [], 3),
    ("lines", b'{"id"\n\n{"type": 1}\n', [], 2),
    ("columns", b"ARROW1\x00\x00nothing", [], 1),
    ("columns", arrow([GOOD])[:-40], [], 1),
    ("told-arrow", b"\xff\xff\xff\xff\x10\x00\x00\x00short", [], 1),
    ("told-bare", b"", [], 1),
]  # fmt: skip


@pytest.fixture(scope="module")
def told(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """An engine that has read a day and the poison in the middle of it."""
    folder = tmp_path_factory.mktemp("forms")
    topics = Topics(broker.brokers, f"{folder.name}-{now_ms()}.")
    deployment = Deployment(broker.brokers, topics.prefix, folder, FORMS, partitions=1).make_topics()
    start_ms = now_ms() - 10_000
    days = {topic: day(topic, start_ms) for topic in FORMS}
    (folder / "day.jsonl").write_bytes(
        b"\n".join(msgspec.json.encode(each) for events in days.values() for each in events)
        # of a file only events move the time on
        + b"\n"
        + msgspec.json.encode(consent("z", "somebody else", start_ms + 9_000))
    )
    try:
        for topic, events in days.items():
            send_as(deployment, topic, events[:-9])
        for topic, value, headers, _ in POISON:
            deployment.send([value], topic, headers=headers, wait=False)
        for topic, events in days.items():
            send_as(deployment, topic, events[-9:])
        deployment.flush()
        deployment.start()
        count = sum(dead for *_, dead in POISON)
        deployment.wait_for(lambda: len(deployment.dead()) >= count)
        deployment.wait_for_actions(len(FORMS) * USERS, "push")
        deployment.stop()
        yield deployment
    finally:
        deployment.close()
        topics.delete()


def test_every_form_gives_the_decisions_of_a_file(told: Deployment) -> None:
    settings = Settings(
        inputs=(str(told.folder / "day.jsonl"),),
        out=str(told.folder / "out"),
        policies=(str(told.folder / "policies.toml"),),
        native=False,
        shards=4,
        lateness_ms=told.lateness_ms,
        arrival_ms=now_ms(),
    )
    run(prepare(settings), Silent())
    of_file = [row for b in read_decisions(told.folder / "out" / "decisions.arrows") for row in b.to_pylist()]

    def by_id(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {row["decision_id"]: {k: v for k, v in row.items() if k != "scores"} for row in rows}

    assert by_id(told.rows("decisions")) == by_id(of_file)
    for channel in ("email", "web", "push"):
        lines = (told.folder / "out" / f"{channel}.jsonl").read_bytes().splitlines()
        expected = sorted(map(json.loads, lines), key=lambda action: action["decision_id"])
        assert sorted(told.actions(channel), key=lambda action: action["decision_id"]) == expected


def test_topics_explain_what_files_explain(told: Deployment) -> None:
    """After the run on files above: the same moments, reasons and actions."""
    kafka = KafkaSettings(told.brokers, name=told.prefix, prefix=told.prefix)
    topics, files = TopicLogs(kafka), FolderLogs(str(told.folder / "out"))
    action = told.actions("push")[0]
    for asked in (action["action_id"], action["customer_id"]):
        of_topics, of_files = explain(topics, asked), explain(files, asked)
        assert of_topics.moment
        changes = {name: getattr(of_files, name) for name in ("where", "not_used")}
        assert scoreless(msgspec.structs.replace(of_topics, **changes)) == scoreless(of_files)
    nothing = explain(TopicLogs(kafka, from_ms=now_ms() + 60_000), action["customer_id"])
    assert (nothing.moment, nothing.of_others) == ([], 0)


def scoreless(explanation: Explanation) -> dict[str, Any]:
    """As text; what was logged is compared elsewhere."""
    built: dict[str, Any] = msgspec.to_builtins(explanation)
    for decision in built["moment"]:
        decision["candidates"] = [
            {name: value for name, value in each.items() if name != "score"}
            for each in decision["candidates"]
        ]
    return built


def test_what_cannot_be_read_is_a_dead_letter_with_its_place(told: Deployment) -> None:
    values = {(topic, value or b""): count for topic, value, _, count in POISON}
    expected: Counter[tuple[str, int]] = Counter()
    for record in told.records(*FORMS):
        topic = record.topic.removeprefix(told.prefix)
        if (topic, record.value) in values:
            expected[f"{record.topic}/{record.partition:05d}", record.offset] += values[topic, record.value]
    dead = told.dead()
    assert Counter((letter["file"], letter["offset"]) for letter in dead) == expected
    assert sum(expected.values()) == sum(count for *_, count in POISON)
    assert all(letter["reason"] for letter in dead)
    kept = {
        (letter.get("raw") or "").encode() or base64.b64decode(letter.get("raw_base64") or "")
        for letter in dead
    }
    assert {b'{"id": "x", "type"', b"\xff\xfe\x00broken", b"[1, 2]", b""} <= kept
    assert max(map(len, kept)) <= DEAD_LETTER_BYTES_MAX


def test_every_message_is_as_the_document_says(told: Deployment) -> None:
    inputs = tuple(InputTopic(told.prefix + name, form) for name, form in FORMS.items())  # type: ignore[arg-type]
    kafka = KafkaSettings(told.brokers, name=told.prefix, prefix=told.prefix, topics=inputs)
    contract = Contract(asyncapi(kafka))
    seen = set()
    for record in told.records(*(name for name in OUTPUTS if name != HEARTBEAT)):  # which nobody else reads
        contract.check(record.topic, record.value, record.headers)
        seen.add(record.topic.removeprefix(told.prefix))
    assert {"email", "web", "push", "decisions", "dead_letters"} <= seen
