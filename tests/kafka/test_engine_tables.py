"""A table whose rows are messages of a topic, through the whole engine on the real broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition

from deploy.kafka.broker import Broker
from tests.brokers import Topics
from tests.kafka.engines import Deployment, event, now_ms

PRODUCTS = 3_000
BEFORE_MS = 3_600_000  # rows begin so long before the events that look into them
MARGINS = """
policy = "margins"
version = 1
title = "Shows whose margin is known to be high, low, or not known"
currency = "EUR"

[[tables]]
name = "catalogue"
fields = { margin = "number" }
unknown = { margin = -1 }
"""
JOURNEY = """
[[journeys]]
id = "{id}"
on = ["Product Viewed"]
when = '{when}'
[[journeys.offers]]
id = "{id}"
channel = "web"
placement = "hero"
value = 0.5
"""
WHEN = {
    "high": "catalogue.margin >= 0.5",
    "low": "catalogue.margin >= 0 and catalogue.margin < 0.5",
    "unknown": "catalogue.margin < 0",
}


class Shop:
    """An engine, the rows it is told, and what it showed to whom."""

    def __init__(self, brokers: str, topics: Topics, folder: Path) -> None:
        self.topics = topics
        self.topic = topics("products", partitions=2)
        policies = MARGINS + "".join(JOURNEY.format(id=id, when=when) for id, when in WHEN.items())
        self.engine = Deployment(brokers, topics.prefix, folder, policies=policies).make_topics()
        self._producer = Producer({"bootstrap.servers": brokers, "log_level": 0})
        self._users = 0

    def start(self) -> None:
        self.engine.start("--table", f"catalogue=topic:{self.topic}")

    def tell(self, *rows: tuple[str | None, bytes | None], partition: int = 0) -> None:
        for key, value in rows:
            self._producer.produce(self.topic, value, key, partition=partition)
        assert self._producer.flush(60) == 0

    def view(self, *products: str) -> list[str]:
        """Each is looked at by somebody else; who."""
        users = [f"u{number}" for number in range(self._users, self._users + len(products))]
        self._users += len(products)
        views = zip(users, products, strict=True)
        self.engine.send(
            event(user, "Product Viewed", user, now_ms(), product_id=product) for user, product in views
        )
        return users

    def shown(self, users: list[str]) -> list[str]:
        """To each of them, once."""
        found: dict[str, str] = {}

        def all_are_there() -> bool:
            actions = self.engine.actions("web")
            found.update({action["customer_id"]: action["offer"] for action in actions})
            return found.keys() >= set(users)

        self.engine.wait_for(all_are_there)
        return [found[user] for user in users]

    def forget_rows(self) -> None:
        """The topic holds none of them any more."""
        ends = [TopicPartition(self.topic, partition, -1) for partition in range(2)]
        for future in self.topics.admin.delete_records(ends).values():
            future.result(30)


def row(margin: float, at_ms: int) -> bytes:
    return b'{"margin": %f, "updated_at": %d}' % (margin, at_ms)


@pytest.fixture
def shop(broker: Broker, topics: Topics, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(broker.brokers, topics, tmp_path / "engine")
    try:
        yield made
    finally:
        made.engine.close()


def letters(shop: Shop) -> list[dict[str, Any]]:
    return sorted(shop.engine.dead(), key=lambda letter: str(letter["raw"]))


def test_a_topic_of_rows_is_a_table(shop: Shop) -> None:
    """Whole before anything is decided, current as its rows come, and part of the state afterwards."""
    first = shop.view("p0", "p1", f"p{PRODUCTS - 1}", "nobody-knows-it")  # before there is any row
    before = now_ms() - BEFORE_MS
    for partition in range(2):
        rows = [
            (f"p{n}", row(0.9 if n % 2 else 0.1, before)) for n in range(PRODUCTS) if n // 2 % 2 == partition
        ]
        shop.tell(*rows, partition=partition)
    shop.start()
    assert shop.shown(first) == ["low", "high", "high", "unknown"]

    shop.tell(("p0", row(0.7, now_ms())), ("p1", None), ("p2", b"no row"), (None, b"{}"))
    shop.tell(("p3", b'{"margin": "much"}'))
    seen = []
    while seen[-1:] != [["high", "unknown"]]:  # they have been heard; there was no waiting for them
        seen.append(shop.shown(shop.view("p0", "p1")))
    assert [shown for shown in seen if shown not in (["low", "high"], ["high", "high"])] == seen[-1:]
    assert shop.shown(shop.view("p0", "p1", "p2", "p3")) == ["high", "unknown", "low", "high"]
    assert shop.shown(first) == ["low", "high", "high", "unknown"]
    shop.engine.wait_for(lambda: len(letters(shop)) == 3)
    dead = letters(shop)
    assert {letter["file"] for letter in dead} == {f"{shop.topic}/00000"}
    assert [letter["raw"] for letter in dead] == ["no row", '{"margin": "much"}', "{}"]
    for letter, reason in zip(dead, ("not JSON", "margin", "product_id"), strict=True):
        assert reason in letter["reason"]

    shop.forget_rows()
    assert shop.engine.engine is not None
    shop.engine.engine.kill()
    shop.start()
    again = shop.view("p0", "p1", "p2", "p3", f"p{PRODUCTS - 1}", "nobody-knows-it")
    assert shop.shown(again) == ["high", "unknown", "low", "high", "high", "unknown"]
    shop.engine.stop()
    assert len(shop.engine.actions("web")) == len({a["customer_id"] for a in shop.engine.actions("web")})
