"""The whole engine against SCRAM, ACLs and TLS: who has the rights that deploy/kafka/README.md lists runs, who lacks
one is told which within seconds, and no secret stands in anything that is written."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import SecuredBroker
from tests.kafka.engines import OUTPUTS, Deployment, consent, event, now_ms

ENDS_S_MAX = 10.0
SLACK_S = 10.0  # a start takes longer where two cores are shared by many


@pytest.fixture(scope="module")
def topics(secured_broker: SecuredBroker, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Topics that all engines here read and write, with something to decide on."""
    folder = tmp_path_factory.mktemp("topics")
    made = Deployment(secured_broker.brokers, "safe.", folder).make_topics()
    made.send(
        [consent("c", "u", now_ms()), event("v", "Product Viewed", "u", now_ms()) | {"product_id": "p"}]
    )
    return made


@pytest.fixture
def engine(topics: Deployment, tmp_path: Path) -> Iterator[Deployment]:
    """An engine with a state of its own."""
    made = Deployment(topics.brokers, topics.prefix, tmp_path / "engine")
    try:
        yield made
    finally:
        made.close()


def allowed(broker: SecuredBroker, user: str, prefix: str = "safe.", *, without: str = "") -> dict[str, str]:
    """A user with all that an engine needs but one right, and properties to reach the broker."""
    password = secrets.token_hex(12)
    properties = broker.add_user(user, password)
    rights = [("topic", f"{prefix}events", "read"), ("transactional_id", prefix, "write")]
    for output in OUTPUTS:
        rights += [("topic", f"{prefix}{output}", right) for right in ("read", "write")]
    for kind, name, operation in rights:
        if without not in (f"{name} {operation}", name):
            broker.allow(user, kind, name, operation)
    return properties


def file_of(properties: dict[str, str], folder: Path) -> str:
    """The properties in a file."""
    path = folder / "client.properties"
    lines = [f"{name}={value}\n" for name, value in properties.items() if name != "bootstrap.servers"]
    path.write_text("".join(lines))
    return str(path)


def everything_written(deployment: Deployment) -> bytes:
    """What the engine said, and every file of its state."""
    files = [path for path in deployment.state.rglob("*") if path.is_file()]
    logs = list(deployment.folder.glob("engine-*.log"))
    return b"".join(path.read_bytes() for path in [*files, *logs])


def runs(deployment: Deployment, brokers: str, *options: str) -> None:
    """It decides and stops as it should."""
    before = len(deployment.records("heartbeat"))
    deployment.start(*options, brokers=brokers)
    deployment.wait_for(lambda: len(deployment.records("heartbeat")) > before)
    deployment.wait_for_actions(1, "email")
    deployment.stop()


def test_scram_with_the_rights_that_are_documented(
    secured_broker: SecuredBroker, engine: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything in the environment; the password is nowhere else."""
    properties = allowed(secured_broker, "engine")
    for name, value in properties.items():
        if name != "bootstrap.servers":
            monkeypatch.setenv("SEGUE_KAFKA_" + name.upper().replace(".", "_"), value)
    runs(engine, properties["bootstrap.servers"])
    assert properties["sasl.password"].encode() not in everything_written(engine)


def test_tls(secured_broker: SecuredBroker, engine: Deployment, tmp_path: Path) -> None:
    properties = secured_broker.client_properties("tls")
    runs(engine, properties["bootstrap.servers"], "--kafka-config", file_of(properties, tmp_path))


REFUSED = {
    "safe.events": ('the topic "safe.events" is not on', "Describe"),
    "safe.email write": ("safe.email", "Read and Write on outputs"),
    "safe.decisions read": ('topic "safe.decisions"', "Read and Write on outputs"),
    "safe. write": ("write to Kafka", "transactional ids"),
}


@pytest.mark.parametrize("without", REFUSED)
def test_a_right_that_is_missing_is_told(
    secured_broker: SecuredBroker, engine: Deployment, tmp_path: Path, without: str
) -> None:
    properties = allowed(secured_broker, f"no-{without.replace(' ', '-')}", without=without)
    now = now_ms()
    engine.send([consent(f"c{now}", f"u{now}", now), event(f"v{now}", "Product Viewed", f"u{now}", now)])
    engine.start("--kafka-config", file_of(properties, tmp_path), brokers=properties["bootstrap.servers"])
    begun = time.monotonic()
    code, said = engine.ended()
    assert code == 1
    assert time.monotonic() - begun < ENDS_S_MAX + SLACK_S, said
    for told in REFUSED[without]:
        assert told in said
    assert properties["sasl.password"].encode() not in everything_written(engine)


def test_a_wrong_password_is_told(secured_broker: SecuredBroker, engine: Deployment, tmp_path: Path) -> None:
    properties = {**secured_broker.client_properties("sasl"), "sasl.password": "not-the-one-at-all"}
    engine.start("--kafka-config", file_of(properties, tmp_path), brokers=properties["bootstrap.servers"])
    begun = time.monotonic()
    code, said = engine.ended()
    assert code == 1
    assert time.monotonic() - begun < ENDS_S_MAX + SLACK_S
    assert "refuses who we are" in said
    assert b"not-the-one-at-all" not in everything_written(engine)
    assert os.environ.get("SEGUE_KAFKA_SASL_PASSWORD") is None


TAKEN_BACK = {
    # of a transaction librdkafka does not tell which of its topics was refused: all are named
    "email write": ('"{}email"', "error: write to Kafka", "Read and Write on outputs"),
    "web write": ('topic "{}web"', "error: write to Kafka", "Read and Write on outputs"),
    "events read": ("{}events", 'error: read "{}events/0000', "Read on inputs"),
}


@pytest.mark.parametrize("right", TAKEN_BACK)
def test_a_right_that_is_taken_back_meanwhile(
    secured_broker: SecuredBroker, tmp_path: Path, right: str
) -> None:
    """The engine ends and says which; given back, nothing is lost and nothing there twice."""
    topic, operation = right.split()
    prefix = f"{topic}-taken."
    properties = allowed(secured_broker, f"{topic}-{operation}", prefix)
    engine = Deployment(secured_broker.brokers, prefix, tmp_path / "engine").make_topics()
    options = ("--kafka-config", file_of(properties, tmp_path))
    brokers = properties["bootstrap.servers"]

    mailed: set[str] = set()
    shown: set[str] = set()

    def reached(channel: str) -> set[str]:
        return {action["customer_id"] for action in engine.actions(channel)}

    def seen(name: str) -> None:
        users = [f"{name}{number}" for number in range(30)]
        # the others get no mail, but a banner
        mailed.update(users[::2])
        shown.update(users[1::2])
        engine.send([consent(f"c{user}", user, now_ms()) for user in users[::2]])
        for number in range(2):  # on both partitions
            views = [event(f"v{number}{user}", "Product Viewed", user, now_ms()) for user in users]
            engine.send(views, partition=number)

    try:
        seen("before")
        engine.start(*options, brokers=brokers)
        engine.wait_for_actions(15, "email")
        engine.wait_for_actions(15, "web")
        secured_broker.take_back(f"{topic}-{operation}", "topic", prefix + topic, operation)
        begun = time.monotonic()
        seen("meanwhile")
        code, said = engine.ended()
        assert code == 1
        assert time.monotonic() - begun < ENDS_S_MAX + SLACK_S, said
        for told in TAKEN_BACK[right]:
            assert told.format(prefix) in said
        assert "Traceback" not in said
        seen("afterwards")
        secured_broker.allow(f"{topic}-{operation}", "topic", prefix + topic, operation)
        engine.start(*options, brokers=brokers)
        # the judge demands nothing of them: their events lie in several partitions
        engine.wait_for(lambda: reached("email") >= mailed and reached("web") >= shown)
        engine.judged()
        engine.stop()
        assert properties["sasl.password"].encode() not in everything_written(engine)
    finally:
        engine.close()
