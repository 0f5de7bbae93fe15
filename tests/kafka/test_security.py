"""Clients against listeners with SCRAM, ACLs and TLS: who may, may; who may not is told so and why."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Message, Producer
from typer.testing import CliRunner, Result

from segue.cli import app
from segue.kafka.settings import KafkaSettings
from segue.kafka.topics import Cluster, TopicError, TopicPlan, compare, plan
from tests.brokers import SecuredBroker, Topics, until

PASSWORD = "open-sesame-1"


@pytest.fixture
def kept(secured_broker: SecuredBroker, unique_name: str) -> Topics:
    """Topics on the secured broker, made by who may do everything."""
    return Topics(secured_broker.brokers, f"{unique_name}.")


@pytest.fixture
def settings_of(tmp_path: Path) -> Callable[[dict[str, str]], KafkaSettings]:
    """Settings that reach a broker with a client's properties; these stand in a file, as secrets must."""

    def call(properties: dict[str, str]) -> KafkaSettings:
        path = tmp_path / "client.properties"
        path.write_text(
            "".join(f"{name}={value}\n" for name, value in properties.items() if name != "bootstrap.servers")
        )
        return KafkaSettings(properties["bootstrap.servers"], properties_file=str(path))

    return call


def error_of_sending(properties: dict[str, str], topic: str) -> KafkaError | None:
    """What the delivery report says."""
    producer = Producer({**properties, "log_level": 0, "message.timeout.ms": 10_000})
    reports: list[KafkaError | None] = []

    def report(error: KafkaError | None, message: Message) -> None:
        reports.append(error)

    producer.produce(topic, b"x", on_delivery=report)
    producer.flush(30)
    (error,) = reports
    return error


def test_a_user_does_what_an_acl_allows_and_nothing_else(secured_broker: SecuredBroker, kept: Topics) -> None:
    topic = kept("email")
    user = secured_broker.add_user("channel", PASSWORD)
    refused = error_of_sending(user, topic)
    assert refused is not None
    assert refused.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    secured_broker.allow("channel", "topic", kept.prefix, "write", "describe")
    until(lambda: error_of_sending(user, topic) is None)


def test_topics_of_who_may_not_see_them_are_refused_with_the_acl_it_takes(
    secured_broker: SecuredBroker, kept: Topics, settings_of: Callable[[dict[str, str]], KafkaSettings]
) -> None:
    planned = plan(KafkaSettings(prefix=kept.prefix), ("email",))
    user = settings_of(secured_broker.add_user("nobody", PASSWORD))
    with pytest.raises(TopicError, match="this user is not authorised") as refused:
        compare(planned, Cluster(user))
    assert "ACL" in refused.value.hint
    secured_broker.allow("nobody", "topic", kept.prefix, "describe", "describe_configs")
    until(lambda: allowed(user, planned))
    assert {difference.found for difference in compare(planned, Cluster(user))} == {"missing"}
    with pytest.raises(TopicError, match="this user is not authorised"):
        Cluster(user).create(planned)
    secured_broker.allow("nobody", "topic", kept.prefix, "create")
    until(lambda: created(user, planned))
    assert compare(planned, Cluster(user)) == []


def allowed(user: KafkaSettings, planned: list[TopicPlan]) -> bool:
    """Whether the brokers know of the ACL yet."""
    try:
        compare(planned, Cluster(user))
    except TopicError:
        return False
    return True


def created(user: KafkaSettings, planned: list[TopicPlan]) -> bool:
    """Whether the topics are there now."""
    try:
        Cluster(user).create(planned)
    except TopicError:
        return False
    return True


def run(settings: KafkaSettings, *arguments: str) -> Result:
    """A command about topics."""
    options = ("--brokers", settings.brokers, "--properties", settings.properties_file)
    return CliRunner().invoke(app, ["topics", *arguments, *options], env={"SEGUE_SETTINGS": ""})


def test_a_wrong_password_is_told_and_stands_in_no_message(
    secured_broker: SecuredBroker, settings_of: Callable[[dict[str, str]], KafkaSettings]
) -> None:
    properties = {**secured_broker.client_properties("sasl"), "sasl.password": "not-the-one"}
    done = run(settings_of(properties), "check", "events")
    assert done.exit_code == 1
    assert "refuses who we are" in done.stderr
    assert "sasl.password" in done.stderr
    assert "not-the-one" not in done.stderr + done.stdout


def test_tls_with_the_right_certificate(
    secured_broker: SecuredBroker, kept: Topics, settings_of: Callable[[dict[str, str]], KafkaSettings]
) -> None:
    properties = secured_broker.client_properties("tls")
    assert error_of_sending(properties, kept("email")) is None
    assert run(settings_of(properties), "list", "--prefix", kept.prefix).exit_code == 0


def test_tls_with_another_certificate_is_refused(
    secured_broker: SecuredBroker, tmp_path: Path, settings_of: Callable[[dict[str, str]], KafkaSettings]
) -> None:
    other = tmp_path / "other.pem"
    store = ["-storetype", "PKCS12", "-keystore", str(tmp_path / "other.p12"), "-storepass", "changeit"]
    tool = shutil.which("keytool")
    assert tool is not None
    make = [tool, "-genkeypair", "-alias", "o", "-keyalg", "EC", "-dname", "CN=other", "-ext", "bc:c", *store]
    for command in (make, [tool, "-exportcert", "-rfc", "-alias", "o", "-file", str(other), *store]):
        subprocess.run(command, check=True, capture_output=True)
    properties = {**secured_broker.client_properties("tls"), "ssl.ca.location": str(other)}
    done = run(settings_of(properties), "check", "events")
    assert done.exit_code == 1
    assert "no TLS connection" in done.stderr
    assert "ssl.ca.location" in done.stderr


def test_the_wrong_protocol_is_told(secured_broker: SecuredBroker) -> None:
    with pytest.raises(TopicError, match="no broker can be reached") as told:
        Cluster(KafkaSettings(secured_broker.address("tls")), wait_ms=500)
    assert "security.protocol" in told.value.hint
