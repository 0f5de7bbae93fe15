"""Who asked to be erased is in no file of a running engine's state once the time that is stated for it is over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.kafka.broker import Broker
from tests.brokers import Topics
from tests.kafka.engines import Deployment, consent, event, now_ms

WITHIN_S = 4
SLACK_S = 20.0  # two cores may be shared by many
SHORT = "forget-me"  # fits into a row
LONG = "forget-" + "the-whole-of-a-very-long-identifier-" * 4  # does not
UNKNOWN = "forget-this-device"  # was anonymous until it logged in
STAYS = "remember-me"


@pytest.fixture
def deployment(broker: Broker, topics: Topics, tmp_path: Path) -> Iterator[Deployment]:
    """An engine that erases within seconds."""
    folder = tmp_path / "engine"
    made = Deployment(
        broker.brokers, topics.prefix, folder, lateness_ms=60_000, program="tests.kafka.hurried"
    )
    try:
        yield made.make_topics()
    finally:
        made.close()


def found(deployment: Deployment, *names: str) -> list[str]:
    """Files of the state in which one of these names stands."""
    holding = []
    for path in deployment.state.rglob("*"):
        try:
            held = path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:  # deleted meanwhile
            continue
        holding += [f"{path.name}: {name}" for name in names if name.encode() in held]
    return holding


def test_nothing_is_left_of_who_was_erased(deployment: Deployment) -> None:
    """Known, anonymous and linked; of waits that are not over; of words in events."""
    now = now_ms()
    anonymous = {"userId": None, "anonymousId": UNKNOWN}
    deployment.send([event("a", "Product Viewed", "", now, **anonymous, product_id="forget-product")])
    deployment.send([event("i", "identify", SHORT, now + 1, anonymousId=UNKNOWN)])
    for name in (SHORT, LONG, STAYS):
        deployment.send([consent(f"c{name[:12]}", name, now + 2)])
        cart = {"product_id": f"{name}-product", "quantity": 1}
        deployment.send([event(f"v{name[:12]}", "Product Viewed", name, now + 3)])
        deployment.send([event(f"p{name[:12]}", "Product Added", name, now + 4, **cart)])
    deployment.start("--erase-within", f"{WITHIN_S}s")
    deployment.wait_for_actions(3, "email")
    deployment.wait_for(lambda: len(found(deployment, SHORT, LONG, UNKNOWN, STAYS)) >= 4)
    deployment.send(
        [event(f"e{n}", "Profile Erasure Requested", name, now_ms()) for n, name in enumerate((SHORT, LONG))]
    )
    deployment.send([event("ea", "Profile Erasure Requested", "", now_ms(), **anonymous)])
    asked = time.monotonic()
    deployment.wait_for(lambda: not found(deployment, "forget-"), WITHIN_S + SLACK_S)
    print(f"erased from all files after {time.monotonic() - asked:.1f} s")
    assert found(deployment, STAYS)
    deployment.stop()
    assert not found(deployment, "forget-")
    assert found(deployment, STAYS)
