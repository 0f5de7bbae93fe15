"""After the warm-up an engine on Kafka compiles nothing more, in no process of its, whatever it reads, resumes or is
asked to forget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from confluent_kafka import Producer

from deploy.kafka.broker import Broker
from segue_kernels.jit import JIT_DISABLED
from tests.brokers import Topics
from tests.kafka.engines import GREETING, Deployment, consent, event, now_ms
from tests.kafka.watched import TELLS, WATCHED

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


def _send_form(deployment: Deployment, form: str, people: Sequence[str], partition: int) -> None:
    """Events of all these in one form."""
    of_form = [consent(f"c{form}{user}", user, now_ms()) for user in people]
    of_form += [consent(f"p{form}{user}", user, now_ms(), "push") for user in people]
    for user in people:
        product = f"p{len(of_form)}"
        of_form.append(event(f"v{form}{user}", "Product Viewed", user, now_ms(), product_id=product))
        cart = {"product_id": "é", "quantity": 1, "price": 1.5}
        of_form.append(event(f"a{form}{user}", "Product Added", user, now_ms(), **cart))
    deployment.send([*of_form, b"no event"], form, partition)


def _sent(deployment: Deployment, channel: str, people: str) -> int:
    """Actions to customers whose names begin so."""
    return sum(action["customer_id"].startswith(people) for action in deployment.actions(channel))


@pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")
@pytest.mark.parametrize(
    ("processes", "ends"), [(1, ("stopped", "killed", "stopped")), (2, ("killed", "stopped"))]
)
def test_nothing_is_compiled_while_it_runs(
    deployment: Deployment, topics: Topics, processes: int, ends: tuple[str, ...]
) -> None:
    profiles, products = topics("profiles"), topics("products")
    rows(deployment.brokers, profiles, ("a", b'{"tier":"gold","points":7,"updated_at":1}'), ("b", None))
    rows(deployment.brokers, products, *((f"p{n}", b'{"margin":0.5,"updated_at":1}') for n in range(500)))
    options = ["--table", f"profile=topic:{profiles}", "--table", f"catalogue=topic:{products}"]
    options += ["--processes", str(processes)]
    for start, end in enumerate(ends):
        people = [f"u{start}-{number}" for number in range(40)]
        for partition in range(deployment.partitions):  # each process reads some
            for form in FORMS:
                _send_form(deployment, form, people[partition :: deployment.partitions], partition)
            unknown = {"userId": None, "anonymousId": "d"}
            price = {"userId": None, "product_id": "p1", "price": 2.5}
            number = f"{start}{partition}"
            told = [
                event(f"x{number}", "Product Viewed", "", now_ms(), **unknown),
                event(f"i{number}", "identify", "u0-0", now_ms(), anonymousId="d"),
                event(f"r{number}", "Price Updated", "", now_ms(), **price),
                event(f"e{number}", "Profile Erasure Requested", "u0-1", now_ms()),
            ]
            deployment.send(told, partition=partition)
        # nothing is saved before it is killed: all that it sent is read back
        deployment.start(*options, "--epoch", "60s" if end == "killed" else "200ms")
        deployment.wait_for(lambda start=start: _sent(deployment, "email", f"u{start}-") > 20)
        rows(deployment.brokers, profiles, ("c", b'{"tier":"gold","points":1,"updated_at":1}'))
        deployment.wait_for(lambda start=start: _sent(deployment, "push", f"u{start}-") > 20)
        if end == "killed":
            assert deployment.engine is not None
            deployment.engine.kill()
        else:
            deployment.stop()
            said = deployment.said()
            assert TELLS not in said
            assert f"{WATCHED}: {processes if processes > 1 else 0}" in said
