"""What is not yet sent is taken back once: on channels of both kinds, the engine killed at a named point in between,
one process before and two after."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.kafka.broker import Broker
from segue.kafka.asyncapi import asyncapi
from segue.kafka.settings import InputTopic, KafkaSettings
from tests.brokers import Topics
from tests.kafka.contract import Contract
from tests.kafka.engines import Deployment, event, now_ms

PEOPLE = [f"u{n}" for n in range(24)]
POLICY = """
policy = "back"
version = 1
currency = "EUR"
[[purposes]]
id = "service"
unknown = "granted"

[[journeys]]
id = "seen"
on = ["Product Viewed"]
when = "True"
goal = ["Order Completed"]
expires_after = "1h"
[[journeys.offers]]
id = "mail"
channel = "email"
purpose = "service"
take_back = "1h"

[[journeys]]
id = "beside"
on = ["Product Viewed"]
when = "True"
alongside = true
goal = ["Cart Viewed", "Order Completed"]
[[journeys.offers]]
id = "banner"
channel = "web"
take_back = "1h"
"""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def deployment(broker: Broker, topics: Topics, tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(broker.brokers, topics.prefix, tmp_path / "engine", policies=POLICY).make_topics()
    try:
        yield made
    finally:
        made.close()


def told(deployment: Deployment, channel: str, kind: str) -> list[dict[str, Any]]:
    messages = (msgspec.json.decode(record.value) for record in deployment.records(channel))
    return [message for message in messages if message["kind"] == kind]


KILLED = ("after_commit:3", "after_commit:2", "after_produce:3", "after_manifest:9")


@pytest.mark.parametrize("point", ["", *(pytest.param(point, marks=pytest.mark.long) for point in KILLED)])
def test_each_is_taken_back_once(deployment: Deployment, point: str) -> None:
    """Undisturbed; with `python -m pytest -m long` on this file also killed, some 15 seconds each."""
    ordered, refused, stayed = PEOPLE[::3], PEOPLE[1::3], PEOPLE[2::3]
    engine = deployment.start(kill_at=point)
    deployment.send([event(f"v-{p}", "Product Viewed", p, now_ms(), product_id="p") for p in PEOPLE])
    deadline = time.monotonic() + 10.0
    while engine.code is None and time.monotonic() < deadline and len(deployment.actions()) < len(PEOPLE):
        time.sleep(0.1)
    deployment.send([event(f"o-{p}", "Order Completed", p, now_ms()) for p in ordered])
    no = {"channel": "email", "purpose": "service", "granted": False}
    deployment.send([event(f"n-{p}", "Consent Changed", p, now_ms(), **no) for p in refused])
    if point:
        while engine.code is None and time.monotonic() < deadline:
            time.sleep(0.1)
        engine.kill()
        deployment.start("--processes", "2")
    deployment.send([event(f"c-{p}", "Cart Viewed", p, now_ms()) for p in stayed])
    deployment.wait_for(lambda: len(told(deployment, "web", "withdrawn")) >= len(ordered) + len(stayed))
    deployment.wait_for(lambda: len(told(deployment, "email", "withdrawn")) >= len(ordered) + len(refused))
    deployment.stop()

    mail = told(deployment, "email", "withdrawn")
    assert Counter((each["customer_id"], each["reason"]) for each in mail) == Counter(
        [(p, "goal") for p in ordered] + [(p, "consent") for p in refused]
    )
    sent = {each["action_id"]: each["decision_id"] for each in told(deployment, "email", "action")}
    assert len(sent) == len(PEOPLE)
    assert all(sent[each["action_id"]] == each["decision_id"] for each in mail)
    web = {(each["customer_id"], each["reason"]) for each in told(deployment, "web", "withdrawn")}
    assert web == {(p, "goal") for p in (*ordered, *stayed)}
    print(deployment.judged())

    settings = KafkaSettings(
        brokers=deployment.brokers,
        name=deployment.prefix,
        prefix=deployment.prefix,
        lanes=deployment.lanes,
        topics=(InputTopic(f"{deployment.prefix}events", "json"),),
    )
    contract = Contract(asyncapi(settings))
    for record in deployment.records("email", "web"):
        contract.check(record.topic, record.value, record.headers)
