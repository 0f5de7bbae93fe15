"""Properties and errors: who wins, what is refused, and that no secret is ever shown."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Producer

from segue.errors import SettingsError, SinkError
from segue.kafka.client import (
    LIBRARY_LOG,
    Kind,
    client_arguments,
    client_properties,
    is_final,
    is_secret,
    kafka_error,
    variable_of,
)
from segue.kafka.library import known_properties
from segue.kafka.settings import KafkaSettings

SECRET = "hunter2-hunter2"


def settings(properties_file: Path | None = None, **properties: str) -> KafkaSettings:
    named = {name.replace("_", "."): value for name, value in properties.items()}
    return KafkaSettings(brokers="127.0.0.1:9", properties=named, properties_file=str(properties_file or ""))


def test_later_places_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client_properties(settings(), "producer", defaults={"linger.ms": 1})["linger.ms"] == "1"
    given = settings(linger_ms="2")
    assert client_properties(given, "producer", defaults={"linger.ms": 1})["linger.ms"] == "2"
    path = tmp_path / "kafka.properties"
    path.write_text("# of the shop\n\nlinger.ms = 3\nsasl.password=a=b c\n")
    given = settings(path, linger_ms="2")
    found = client_properties(given, "producer")
    assert (found["linger.ms"], found["sasl.password"]) == ("3", "a=b c")
    monkeypatch.setenv("SEGUE_KAFKA_LINGER_MS", "4")
    assert client_properties(given, "producer")["linger.ms"] == "4"


def test_each_kind_gets_what_it_has() -> None:
    given = settings(linger_ms="2", fetch_min_bytes="3")
    assert "fetch.min.bytes" not in client_properties(given, "producer")
    assert "linger.ms" not in client_properties(given, "consumer")
    assert client_properties(given, "consumer")["isolation.level"] == "read_committed"
    assert client_properties(given, "producer")["enable.idempotence"] == "true"


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("enable.auto.commit", "true", "consumer"),
        ("isolation.level", "read_uncommitted", "consumer"),
        ("auto.offset.reset", "earliest", "consumer"),
        ("enable.idempotence", "false", "producer"),
        ("acks", "1", "producer"),
        ("request.required.acks", "0", "producer"),
        ("isolation.level", "read_uncommitted", "producer"),
        ("bootstrap.servers", "elsewhere:1", "admin"),
        ("group.id", "shop", "consumer"),
    ],
)
def test_what_the_guarantees_stand_on_can_t_be_changed(name: str, value: str, kind: Kind) -> None:
    given = KafkaSettings(brokers="127.0.0.1:9", properties={name: value})
    with pytest.raises(SettingsError) as raised:
        client_properties(given, kind)
    assert "kafka.properties" in raised.value.found
    assert raised.value.hint


def test_to_say_the_same_is_allowed() -> None:
    given = settings(enable_auto_commit="false", acks="-1", isolation_level="read_committed")
    for kind in ("consumer", "producer", "admin"):
        client_properties(given, kind)  # type: ignore[arg-type]


def test_what_the_caller_owns_can_t_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGUE_KAFKA_TRANSACTIONAL_ID", "mine")
    with pytest.raises(SettingsError, match="SEGUE_KAFKA_TRANSACTIONAL_ID"):
        client_properties(settings(), "producer", own={"transactional.id": "segue-lane-0"})


def test_unknown_and_wrong_properties() -> None:
    with pytest.raises(SettingsError) as raised:
        client_properties(settings(sasl_usrname="x"), "consumer")
    assert raised.value.hint == 'did you mean "sasl.username"?'
    with pytest.raises(SettingsError, match="is not valid"):
        client_properties(settings(security_protocol="SSSL"), "consumer")
    with pytest.raises(SettingsError, match="no property"):
        client_properties(settings(error_cb="x"), "consumer")
    with pytest.raises(SettingsError, match="no brokers"):
        client_properties(KafkaSettings(), "consumer")


def test_a_properties_file_that_can_t_be_used(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        client_properties(settings(tmp_path / "none"), "consumer")
    path = tmp_path / "kafka.properties"
    path.write_text(f"linger.ms=1\n{SECRET}\n")
    with pytest.raises(SettingsError, match="line 2") as raised:
        client_properties(settings(path), "consumer")
    assert SECRET not in str(raised.value)


def test_every_secret_of_the_library_is_known() -> None:
    for name in known_properties():
        if any(word in name for word in ("password", "passphrase", "secret", ".key.pem", "ssl_key")):
            assert is_secret(name), name
    assert not is_secret("ssl.key.location")
    assert not is_secret("sasl.username")


def test_what_is_no_secret_may_stand_in_the_settings() -> None:
    given = settings(sasl_kerberos_keytab="/etc/shop.keytab", sasl_oauthbearer_client_id="shop")
    assert client_properties(given, "consumer")["sasl.oauthbearer.client.id"] == "shop"


def test_secrets_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SettingsError, match="no place for a secret") as raised:
        client_properties(settings(sasl_password=SECRET), "consumer")
    assert SECRET not in str(raised.value)
    assert variable_of("sasl.password") in raised.value.hint
    monkeypatch.setenv("SEGUE_KAFKA_SASL_PASSWORD", SECRET)
    monkeypatch.setenv("SEGUE_KAFKA_SASL_USERNAME", "shop")
    monkeypatch.setenv("SEGUE_KAFKA_SASL_MECHANISMS", "SCRAM-SHA-512")
    monkeypatch.setenv("SEGUE_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    found = client_properties(settings(), "producer", defaults={"debug": "security,conf"})
    assert found["sasl.password"] == SECRET
    assert SECRET not in f"{found} {found!r}"
    assert "shop" in repr(found)
    with caplog.at_level(logging.DEBUG):
        producer = Producer(client_arguments(found))
        producer.poll(0.2)
    assert SECRET not in caplog.text


def test_the_library_s_log_goes_to_python_and_does_not_repeat_itself(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # a run in this process, of another test, says what the log warns of from then on
    monkeypatch.setattr(logging.getLogger("segue"), "handlers", [])
    producer = Producer(client_arguments(client_properties(settings(), "producer")))
    for _ in range(10):
        producer.poll(0.1)
    failures = [record for record in caplog.records if record.name == LIBRARY_LOG.name]
    assert len([record for record in failures if record.getMessage().startswith("FAIL")]) <= 1
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("code", "found", "hint"),
    [
        (KafkaError._AUTHENTICATION, "refuses who we are", "SEGUE_KAFKA_SASL_PASSWORD"),
        (KafkaError._SSL, "no TLS connection", "ssl.ca.location"),
        (KafkaError._TRANSPORT, "no broker can be reached", "--brokers"),
        (KafkaError._ALL_BROKERS_DOWN, "no broker can be reached", "--brokers"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "does not allow", "ACL"),
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "does not allow", "transactional ids"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "not there", "segue topics create"),
        (KafkaError._FENCED, "taken over", "kafka.name"),
        (KafkaError.MSG_SIZE_TOO_LARGE, "MSG_SIZE_TOO_LARGE", ""),
    ],
)
def test_errors_say_what_to_do(code: int, found: str, hint: str) -> None:
    error = kafka_error("write actions", KafkaError(code, "as librdkafka says."), SinkError)
    assert isinstance(error, SinkError)
    assert error.step == "write actions"
    assert found in error.found
    assert "as librdkafka says" in error.found
    assert hint in error.hint


def test_what_trying_again_can_t_mend() -> None:
    assert is_final("_AUTHENTICATION", "SASL SCRAM-SHA-512 mechanism handshake failed: Authentication failed")
    assert is_final("_SSL", "certificate verify failed: self-signed certificate")
    assert not is_final("_AUTHENTICATION", "Disconnected during the SASL handshake")
    assert not is_final("_SSL", "SSL handshake failed: Disconnected")
    assert not is_final("_TRANSPORT", "Connection refused")
