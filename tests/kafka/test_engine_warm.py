"""After the warm-up an engine on Kafka compiles nothing more, whatever it reads, resumes or is asked to forget."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from deploy.kafka.broker import Broker
from segue_kernels.jit import JIT_DISABLED
from tests.brokers import Topics
from tests.kafka.engines import GREETING, Deployment, consent, event, now_ms
from tests.kafka.watched import TELLS

FORMS = {"events": "json", "headers": "cloudevents", "many": "many", "any": "auto"}
TABLES = """
[[tables]]
name = "profile"
fields = { tier = "text", points = "number" }
[[tables]]
name = "catalogue"
fields = { margin = "number" }

[[journeys]]
id = "gold"
on = ["Product Viewed"]
when = 'profile.tier == "gold" and catalogue.margin > 0 and profile.points > price.amount'
[[journeys.offers]]
id = "thanks"
channel = "web"
placement = "hero"
"""


@pytest.fixture
def deployment(broker: Broker, topics: Topics, tmp_path: Path) -> Iterator[Deployment]:
    """An engine that tells what it compiled."""
    made = Deployment(
        broker.brokers,
        topics.prefix,
        tmp_path / "engine",
        inputs=FORMS,
        policies=GREETING + TABLES,
        program="tests.kafka.watched",
    )
    try:
        yield made.make_topics()
    finally:
        made.close()


def rows(brokers: str, topic: str, *told: tuple[str, bytes | None]) -> None:
    """Messages of a table's topic."""
    producer = Producer({"bootstrap.servers": brokers, "log_level": 0})
    for key, value in told:
        producer.produce(topic, value, key)
    assert producer.flush(60) == 0


@pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")
def test_nothing_is_compiled_while_it_runs(deployment: Deployment, topics: Topics) -> None:
    profiles, products = topics("profiles"), topics("products")
    rows(deployment.brokers, profiles, ("a", b'{"tier":"gold","points":7,"updated_at":1}'), ("b", None))
    rows(deployment.brokers, products, *((f"p{n}", b'{"margin":0.5,"updated_at":1}') for n in range(500)))
    options = ("--table", f"profile=topic:{profiles}", "--table", f"catalogue=topic:{products}")
    for start in range(3):
        people = [f"u{start}-{number}" for number in range(40)]
        for form in FORMS:
            of_form = [consent(f"c{form}{user}", user, now_ms()) for user in people]
            of_form += [consent(f"p{form}{user}", user, now_ms(), "push") for user in people]
            for user in people:
                of_form.append(
                    event(f"v{form}{user}", "Product Viewed", user, now_ms(), product_id=f"p{len(of_form)}")
                )
                cart = {"product_id": "é", "quantity": 1, "price": 1.5}
                of_form.append(event(f"a{form}{user}", "Product Added", user, now_ms(), **cart))
            deployment.send([*of_form, b"no event"], form)
        deployment.send([event(f"x{start}", "Product Viewed", "", now_ms(), userId=None, anonymousId="d")])
        deployment.send([event(f"i{start}", "identify", "u0-0", now_ms(), anonymousId="d")])
        price = {"userId": None, "product_id": "p1", "price": 2.5}
        deployment.send([event(f"r{start}", "Price Updated", "", now_ms(), **price)])
        deployment.send([event(f"e{start}", "Profile Erasure Requested", "u0-1", now_ms())])
        deployment.start(*options)
        deployment.wait_for_actions(20 * (start + 1), "email")
        rows(deployment.brokers, profiles, ("c", b'{"tier":"gold","points":1,"updated_at":1}'))
        deployment.wait_for(lambda start=start: len(deployment.actions("push")) > 20 * start)
        if start == 1:
            assert deployment.engine is not None
            deployment.engine.kill()  # what it sent since it was saved is read back
        else:
            deployment.stop()
            assert TELLS not in deployment.said()
