"""Other policies than at the last start: on topics the engine goes on, what stayed keeps its values, what is new starts
empty, and the log says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.kafka.broker import Broker
from tests.brokers import Topics
from tests.kafka.engines import Deployment, event, now_ms

HEAD = 'policy = "visits"\nversion = {}\ntitle = "Says what it counted"\ncurrency = "EUR"\n'
JOURNEY = """
[[journeys]]
id = "{0}"
on = ["{1}"]
when = 'count("{2}", within="1h") >= {3}'
alongside = true
limits = [{{ times = 1, within = "1h" }}]
[[journeys.offers]]
id = "{0}"
channel = "web"
placement = "{0}"
"""
BEFORE = HEAD.format(1) + JOURNEY.format("third-view", "Product Viewed", "Product Viewed", 3)
AFTER = (
    HEAD.format(2)
    + JOURNEY.format("second-cart", "Cart Viewed", "Cart Viewed", 2)
    + JOURNEY.format("third-view", "Product Viewed", "Product Viewed", 3)
    + JOURNEY.format("search", "Products Searched", "Products Searched", 1)
)


@pytest.fixture
def deployment(broker: Broker, topics: Topics, tmp_path: Path) -> Iterator[Deployment]:
    """With the policies of before."""
    made = Deployment(broker.brokers, topics.prefix, tmp_path / "engine", policies=BEFORE).make_topics()
    try:
        yield made
    finally:
        made.close()


def test_changed_policies_go_on(deployment: Deployment) -> None:
    """Two views and a cart before, one of each after: only the views are three. What was sent stays sent."""
    people = [f"u{n}" for n in range(8)]

    def all_do(kind: str, number: int) -> None:
        deployment.send([event(f"{kind}-{number}-{p}", kind, p, now_ms()) for p in people])

    for number in (1, 2):
        all_do("Product Viewed", number)
    all_do("Cart Viewed", 1)
    deployment.send([event(f"x{n}", "Product Viewed", "early", now_ms()) for n in range(3)])
    deployment.start()
    deployment.wait_for_actions(1, "web")
    deployment.stop()

    deployment.write_policies(AFTER)
    all_do("Product Viewed", 3)
    all_do("Cart Viewed", 2)
    all_do("Products Searched", 1)
    deployment.send([event("x3", "Product Viewed", "early", now_ms())])
    deployment.start()
    deployment.wait_for_actions(1 + 2 * len(people), "web")
    deployment.stop()
    sent = sorted((action["customer_id"], action["journey"]) for action in deployment.actions("web"))
    third = [(p, "third-view") for p in [*people, "early"]]
    assert sent == sorted([*third, *((p, "search") for p in people)])
    notes = (deployment.state / "notes.log").read_text()
    for text in (notes, deployment.said()):
        assert re.search(r"histories: .*kept.*new and empty \(.*Cart Viewed", text), text
