"""Partitions that are silent, and topics whose messages interleave otherwise when they are read again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from deploy.kafka.broker import Broker
from tests.brokers import Topics
from tests.kafka.engines import Deployment, consent, event, now_ms

SLACK_S = 4.0  # two cores may be shared by many
WAIT_S = 2.0  # of a cart, in the policies
PEOPLE = [f"u{n}" for n in range(12)]
ROUNDS = 5


@pytest.fixture(scope="module")
def deployment(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """An engine on two topics; everybody agreed to be written to."""
    folder = tmp_path_factory.mktemp("order")
    topics = Topics(broker.brokers, f"{folder.name}-{now_ms()}.")
    inputs = {"shop": "json", "counter": "json"}
    made = Deployment(broker.brokers, topics.prefix, folder, inputs, partitions=2).make_topics()
    made.options = (*made.options, "--delivery", "web=transactional")
    try:
        made.send([consent(f"m{p}", p, now_ms()) for p in PEOPLE], "shop")
        made.send([consent(f"p{p}", p, now_ms(), "push") for p in PEOPLE], "shop")
        made.send([event("first", "Product Viewed", "first", now_ms())], "shop")
        made.start()
        made.wait_for_actions(1, "web")
        yield made
    finally:
        made.close()
        topics.delete()


def test_silent_partitions_hold_nothing_back(deployment: Deployment) -> None:
    """Three of four have never had a message that matters; what is due by time alone comes by the clock."""
    begun = time.monotonic()
    at = now_ms()
    cart = {"product_id": "p", "quantity": 1}
    deployment.send([event("quick", "Product Viewed", "quick", at)], "shop")
    deployment.wait_for(lambda: any(a["customer_id"] == "quick" for a in deployment.actions("web")))
    assert time.monotonic() - begun < SLACK_S
    deployment.send([event("cart", "Product Added", "u0", at + 1, **cart)], "shop")
    deployment.wait_for_actions(1, "push")
    assert time.monotonic() - begun < WAIT_S + deployment.lateness_ms / 1_000 + 1 + 2 * SLACK_S
    deployment.judged(due_ms=at + 2 + int(1_000 * WAIT_S))


def test_another_interleaving_after_a_crash(deployment: Deployment) -> None:
    """Both topics are read one after the other then, where they took turns before. Nothing comes twice, limits hold by
    what was sent, and what was sent is what the log says."""
    deployment.stop()
    deployment.start("--epoch", "2m")  # nothing that follows is in a checkpoint
    for number in range(ROUNDS):
        for topic in ("counter", "shop") if number % 2 else ("shop", "counter"):
            deployment.send(
                [event(f"{topic}{number}{p}", "Product Viewed", p, now_ms()) for p in PEOPLE], topic
            )
            seen = len(PEOPLE) * 2 * number
            deployment.wait_for(lambda: len(deployment.rows("decisions")) > seen)  # noqa: B023
    deployment.wait_for(lambda: len(deployment.actions("email")) >= 3 * len(PEOPLE))
    assert deployment.engine is not None
    deployment.engine.kill()
    before = {action["decision_id"]: action for action in deployment.actions()}
    deployment.send([event(f"after{p}", "Product Viewed", p, now_ms()) for p in PEOPLE], "counter", 1)
    deployment.start()
    last = {f"eafter{p}" for p in PEOPLE}
    deployment.wait_for(lambda: last <= {row["causation_id"] for row in deployment.rows("decisions")})
    verdict = deployment.judged()
    assert verdict.unordered >= len(PEOPLE)
    after = deployment.actions()
    assert all(before[a["decision_id"]] == a for a in after if a["decision_id"] in before)
    assert before.keys() <= {action["decision_id"] for action in after}
    times = Counter(action["decision_id"] for action in deployment.actions())
    assert set(times.values()) == {1}
    logged = Counter(row["decision_id"] for row in deployment.rows("decisions"))
    assert set(logged.values()) == {1}
    deployment.stop()
