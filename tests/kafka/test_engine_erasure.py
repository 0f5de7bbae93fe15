"""Who asked to be erased is in no file of a running engine's state once the time that is stated for it is over."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from confluent_kafka import Producer

from deploy.kafka.broker import Broker
from tests.brokers import Topics
from tests.kafka.engines import Deployment, consent, event, make_topics, now_ms

WITHIN_S = 4
SLACK_S = 20.0  # two cores may be shared by many
SHORT = "forget-me"  # fits into a row
LONG = "forget-" + "the-whole-of-a-very-long-identifier-" * 4  # does not
UNKNOWN = "forget-this-device"  # was anonymous until it logged in
STAYS = "remember-me"


POINTS = {  # of people in the table of profiles, in millionths: words that stand nowhere else
    "forget-known": 7_071_067_811_865_475,
    "forget-partly": 2_718_281_828_459_045,
    "forget-anonymous": 1_414_213_562_373_095,
    STAYS: 3_141_592_653_589_793,
}
PROFILES = """
policy = "points"
version = 1
title = "Greets who has points"
currency = "EUR"

[[tables]]
name = "profile"
fields = { points = "number" }

[[journeys]]
id = "points"
on = ["Product Viewed"]
when = "profile.points > 0"
[[journeys.offers]]
id = "thanks"
channel = "web"
placement = "hero"
value = 0.5
"""


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


def found(deployment: Deployment, *names: str | bytes) -> list[str]:
    """Files of the state in which one of these names stands."""
    holding = []
    for path in deployment.state.rglob("*"):
        try:
            held = path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:  # deleted meanwhile
            continue
        sought = ((name, name.encode() if isinstance(name, str) else name) for name in names)
        holding += [f"{path.name}: {name!r}" for name, word in sought if word in held]
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


def word(person: str) -> bytes:
    """The points of somebody as they lie in files: the bytes in front that are not 0."""
    return POINTS[person].to_bytes(8, "little").rstrip(b"\0")


def test_nothing_is_left_in_the_table_of_profiles(deployment: Deployment) -> None:
    """Of rows from a topic and of rows along the way, of known and of anonymous customers; no older row comes back."""
    deployment.write_policies(PROFILES)
    profiles = deployment.prefix + "profiles"
    make_topics(deployment.brokers, {profiles: 1})
    producer = Producer({"bootstrap.servers": deployment.brokers, "log_level": 0})
    began = now_ms() - 60_000

    def tell(person: str, at_ms: int) -> None:
        kind = "anonymousId" if person == "forget-anonymous" else "userId"
        points = Decimal(POINTS[person]) / 1_000_000
        row = f'{{"{kind}": "{person}", "points": {points}, "updated_at": {at_ms}}}'
        producer.produce(profiles, row.encode())
        assert producer.flush(60) == 0

    def view(number: int, person: str) -> dict[str, object]:
        who = {"userId": None, "anonymousId": person} if person == "forget-anonymous" else {}
        return event(f"{number}-{person}", "Product Viewed", person, now_ms(), **who)

    def greeted() -> Counter[str]:
        return Counter(action["customer_id"] for action in deployment.actions("web"))

    def held() -> set[str]:
        places = found(deployment, *map(word, POINTS))
        return {person for person in POINTS if any(repr(word(person)) in place for place in places)}

    for person in POINTS:
        tell(person, began)
    partly = {"points": float(Decimal(POINTS["forget-partly"]) / 1_000_000)}
    deployment.send([event("p", "Profile Updated", "forget-partly", began + 1, **partly)])
    deployment.start("--erase-within", f"{WITHIN_S}s", "--table", f"profile=topic:{profiles}")
    deployment.send(view(1, person) for person in POINTS)
    deployment.wait_for(lambda: set(greeted()) == set(POINTS))
    deployment.wait_for(lambda: held() == set(POINTS))
    asked = now_ms()
    for person in POINTS:
        if person != STAYS:
            who = {"userId": None, "anonymousId": person} if person == "forget-anonymous" else {}
            deployment.send([event(f"e-{person}", "Profile Erasure Requested", person, asked, **who)])
    deployment.send(view(2, person) for person in POINTS)
    tell("forget-known", began + 2)  # too late
    begun = time.monotonic()
    deployment.wait_for(lambda: held() <= {STAYS}, WITHIN_S + SLACK_S)
    print(f"erased from all files after {time.monotonic() - begun:.1f} s")
    deployment.send(view(3, person) for person in POINTS)
    deployment.wait_for(lambda: greeted()[STAYS] == 3)
    deployment.stop()
    assert held() == {STAYS}
    assert greeted() == Counter({**dict.fromkeys(POINTS, 1), STAYS: 3})
    deployment.start("--table", f"profile=topic:{profiles}")
    deployment.send(view(4, person) for person in POINTS)
    deployment.wait_for(lambda: greeted()[STAYS] == 4)
    deployment.stop()
    assert greeted() == Counter({**dict.fromkeys(POINTS, 1), STAYS: 4})
