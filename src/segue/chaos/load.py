"""The load of a chaos run: a small town whose people do everything at once, some of it anonymous until they log in.

The same seed and numbers give the same events but for their times, which are those of now. A person's events lie in one
partition of one topic, so that their order is certain. What counts is what is in the topics at the end: a message that
was not delivered was no event.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from segue.errors import SegueError
from segue.events.time import time_text
from segue.kafka.settings import Form, InputTopic

PEOPLE = 400
PRODUCTS = 30
CATEGORIES = 6
POLICY = """
policy = "chaos"
version = 1
title = "Says much, on channels of both kinds of delivery, within limits and caps"
currency = "EUR"

[[segments]]
id = "busy"
when = 'count("Product Viewed", within="20s") >= 4'

[[joins]]
id = "bought-after"
left = "Product Viewed"
right = "Order Completed"
within = "5m"

[[caps]]
id = "shown-and-mailed"
channels = ["email", "web"]
times = 3
within = "10s"

[[caps]]
id = "minute"
times = 12
within = "1m"

[[caps]]
id = "day"
channels = ["sms", "push"]
times = 6
calendar = "day"

[[journeys]]
id = "often"
on = ["Product Viewed", "Product Added", "identify"]
when = "event.quantity >= 0"
goal = ["Order Completed"]
expires_after = "25s"
limits = [{ times = 3, within = "10s" }, { times = 15, within = "2m" }, { times = 1, within = "20s", by = "product" }]
[[journeys.offers]]
id = "mail"
channel = "email"
value = 3.0
take_back = "25s"
[[journeys.offers]]
id = "banner"
channel = "web"
placement = "hero"
value = 1.0
take_back = "10s"

[[journeys]]
id = "beside"
on = ["Product Viewed", "Cart Viewed"]
when = 'count("Product Viewed", by="category", within="1m") >= 2'
alongside = true
limits = [{ times = 1, within = "5s" }, { times = 3, within = "1m", by = "category" }]
[[journeys.offers]]
id = "text"
channel = "sms"
purpose = "service"
take_back = "1h"
[[journeys.offers]]
id = "receipt"
channel = "till"
value = 0.5

[[journeys]]
id = "left-cart"
on = ["Product Added"]
when = "event.quantity >= 0"
wait = ["3s", "12s"]
by = "product"
still = 'absent("Order Completed")'
limits = [{ times = 2, within = "20s" }]
[[journeys.offers]]
id = "reminder"
channel = "push"
purpose = "service"
value = 2.0
[[journeys.offers]]
id = "corner"
channel = "web"
placement = "corner"

[[journeys]]
id = "grown-busy"
on = ['entered("busy")']
when = 'True'
limits = [{ times = 1, within = "30s" }]
[[journeys.offers]]
id = "thanks"
channel = "web"
placement = "footer"
"""

Headers = list[tuple[str, str | bytes | None]]

_KINDS = (
    *("Product Viewed",) * 9,
    *("Product Added",) * 3,
    *("Cart Viewed", "Cart Viewed", "Order Completed", "Consent Changed", "identify"),
)
_ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Auckland", "Pacific/Marquesas")
_TELLS_ZONE = 0.3
_TRAVELS = 0.1
_REPEATED = 0.02
_BACK_MS_MAX = 2_000
_OUT_OF_ORDER = 0.05
_MANY = 20  # events of a message with many


@dataclass
class Town:
    """Events of people, one after the other. Person n: user u<n>, on the web a<n> until an identify links the two."""

    seed: int
    made: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(f"town {self.seed}")
        self._agreed: set[int] = set()

    def event(self, now_ms: int) -> tuple[int, dict[str, Any]]:
        """A person's number and what he does now."""
        chance = self._random
        person = min(int(chance.paretovariate(0.7)) - 1, chance.randrange(PEOPLE))
        kind = chance.choice(_KINDS)
        if person not in self._agreed:
            kind = "Consent Changed"
            self._agreed.add(person)
        back_ms = chance.randrange(_BACK_MS_MAX) if chance.random() < _OUT_OF_ORDER else 0
        event: dict[str, Any] = {
            "id": f"{self.seed}-{self.made}",
            "type": kind,
            "source": "web",
            "time": time_text(now_ms - back_ms),
        }
        self.made += 1
        if chance.random() < _TELLS_ZONE:
            event["timezone"] = _ZONES[(person + (chance.random() < _TRAVELS)) % len(_ZONES)]
        anonymous = person % 3 == 0 and chance.random() < 0.5
        if anonymous and kind != "identify":
            event["anonymousId"] = f"a{person}"
        else:
            event["userId"] = f"u{person}"
        if kind == "identify":
            event["anonymousId"] = f"a{person}"
        elif kind == "Consent Changed":
            granted = chance.random() < 0.8
            channel = chance.choice(("email", "email", "sms", "push"))
            purpose = "marketing" if channel == "email" else "service"
            event |= {"channel": channel, "purpose": purpose, "granted": granted}
        elif kind != "Cart Viewed":
            product = chance.randrange(PRODUCTS)
            event |= {"product_id": f"p{product}", "category": f"c{product % CATEGORIES}", "price": 9.99}
            event["quantity"] = chance.randrange(1, 4)
        return person, event


@dataclass
class Load:
    """Sends a town's events to the input topics at a steady rate, as far as the broker lets it."""

    brokers: str
    topics: tuple[InputTopic, ...]
    partitions: int
    seed: int
    rate: float
    properties: Mapping[str, str] = field(default_factory=dict)
    sent: int = 0

    def __post_init__(self) -> None:
        self._town = Town(self.seed)
        self._random = random.Random(f"load {self.seed}")
        self._pending: dict[tuple[str, int], list[bytes]] = {}
        self._last: bytes = b""
        self._failure: str = ""
        self._producer = Producer(
            {
                "linger.ms": "5",
                **self.properties,
                "bootstrap.servers": self.brokers,
                "enable.idempotence": "true",
                "message.timeout.ms": "300000",
                "queue.buffering.max.messages": "1000000",
                "log_level": "0",  # a broker that is away is what a run is about
            }
        )

    def run(self, seconds: float) -> None:
        """Send for so long."""
        end = time.monotonic() + seconds
        begun = time.monotonic()
        due = 0
        while (now := time.monotonic()) < end:
            while due < (now - begun) * self.rate:
                self._send_one()
                due += 1
            self._flush_many()
            self._producer.poll(0.005)
            if self._failure:
                raise SegueError("send load", self._failure, "look at the broker's log")

    def finish(self, seconds: float = 120.0) -> None:
        """Wait until everything is in the topics."""
        self._flush_many()
        left = self._producer.flush(seconds)
        if left:
            raise SegueError("send load", f"{left} messages could not be delivered", "is the broker there?")

    def _send_one(self) -> None:
        person, event = self._town.event(round(time.time() * 1_000))
        topic = self.topics[person % len(self.topics)]
        partition = person // len(self.topics) % self.partitions
        repeats = 2 if self._random.random() < _REPEATED else 1
        for _ in range(repeats):
            self._send(topic.name, topic.form, partition, event)
        self.sent += repeats

    def _send(self, topic: str, form: Form, partition: int, event: dict[str, Any]) -> None:
        if form == "many":
            self._pending.setdefault((topic, partition), []).append(msgspec.json.encode(event))
            return
        headers: Headers = []
        if form == "cloudevents":
            envelope = {name: event[name] for name in ("id", "type", "source", "time")}
            event = {name: value for name, value in event.items() if name not in envelope}
            headers = [("ce_specversion", b"1.0"), ("content-type", b"application/json")]
            headers += [(f"ce_{name}", str(value).encode()) for name, value in envelope.items()]
        self._produce(topic, partition, msgspec.json.encode(event), headers)

    def _flush_many(self) -> None:
        for (topic, partition), lines in self._pending.items():
            for first in range(0, len(lines), _MANY):
                some = lines[first : first + _MANY]
                as_array = self._random.random() < 0.5
                value = b"[" + b",".join(some) + b"]" if as_array else b"\n".join(some)
                self._produce(topic, partition, value, [])
        self._pending.clear()

    def _produce(self, topic: str, partition: int, value: bytes, headers: Headers) -> None:
        self._producer.produce(
            topic, value, partition=partition, headers=headers, on_delivery=self._delivered
        )

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failure = f"{message.topic()}/{message.partition()}: {error}"
