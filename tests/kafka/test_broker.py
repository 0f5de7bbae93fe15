"""The broker that everything on Kafka is tested with: what its fixtures promise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from deploy.kafka import broker as deployed
from deploy.kafka.broker import Broker
from tests.brokers import REQUIRED_VARIABLE, Topics, have_broker, until

COMMAND = deployed.__file__


def send(brokers: str, topic: str, *values: bytes) -> None:
    """Produce, or fail."""
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "log_level": 3})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(60) == 0


def received(brokers: str, topic: str, count: int) -> list[bytes]:
    """The first so many values of a topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": topic,
            "enable.auto.commit": False,
            "log_level": 3,
        }
    )
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    values: list[bytes] = []
    deadline = time.monotonic() + 60
    while len(values) < count and time.monotonic() < deadline:
        values += [bytes(message.value()) for message in consumer.consume(count, 0.2) if not message.error()]
    consumer.close()
    return values


def test_topics_of_a_test_carry_its_prefix_and_hold_what_was_sent(broker: Broker, topics: Topics) -> None:
    name = topics("events", partitions=1)
    assert topics.names() == [name]
    send(broker.brokers, name, b"a", b"b")
    assert received(broker.brokers, name, 2) == [b"a", b"b"]


def test_a_killed_broker_has_what_it_had_acknowledged(broker_of_own: Broker) -> None:
    topic = Topics(broker_of_own.brokers, "kept.")("events")
    send(broker_of_own.brokers, topic, b"before")
    address = broker_of_own.brokers
    broker_of_own.kill()
    assert not broker_of_own.is_ready
    broker_of_own.start(dies_with_parent=True)
    assert broker_of_own.brokers == address
    send(address, topic, b"after")
    assert received(address, topic, 2) == [b"before", b"after"]


def test_a_paused_broker_answers_nothing_until_it_is_resumed(broker_of_own: Broker) -> None:
    broker_of_own.pause()
    assert not broker_of_own.is_ready
    assert broker_of_own.pid is not None
    broker_of_own.resume()
    until(lambda: broker_of_own.is_ready)


def test_a_missing_broker_is_a_skip_and_a_failure_where_it_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(deployed.JARS_VARIABLE, str(tmp_path))
    monkeypatch.delenv(REQUIRED_VARIABLE, raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"(?s)no Kafka broker: .*hint: "):
        have_broker()
    monkeypatch.setenv(REQUIRED_VARIABLE, "1")
    with pytest.raises(pytest.fail.Exception, match="no Kafka broker"):
        have_broker()


def test_it_ends_with_the_last_who_used_it_even_if_that_one_was_killed(tmp_path: Path) -> None:
    have_broker()
    program = (
        "import sys, time; from pathlib import Path; from tests.brokers import shared_broker\n"
        f"with shared_broker(Path({str(tmp_path)!r})) as broker:\n"
        "    print(broker.pid, flush=True); time.sleep(600)\n"
    )
    users = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(COMMAND).parents[2],
        )
        for _ in range(2)
    ]
    told = {user.stdout.readline().strip() for user in users if user.stdout}
    assert len(told) == 1
    pid = int(told.pop())
    for user, number in zip(users, (signal.SIGKILL, signal.SIGKILL), strict=True):
        os.kill(pid, 0)
        user.send_signal(number)
        user.communicate()
        time.sleep(0.5)
    deadline = time.monotonic() + 20
    while (tmp_path / "broker").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not (tmp_path / "broker").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command."""
    return subprocess.run(
        [sys.executable, COMMAND, *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def test_start_status_stop(tmp_path: Path) -> None:
    have_broker()
    folder = ("--folder", str(tmp_path / "broker"))
    assert run("status", *folder).returncode == 3
    started = run("start", "--port", "0", *folder)
    try:
        assert started.returncode == 0, started.stderr
        assert f"brokers: {Broker(tmp_path / 'broker').brokers}" in started.stdout
        assert "stop it: python" in started.stdout
        assert "was running already" in run("start", *folder).stdout
        assert run("status", *folder).returncode == 0
        taken = run(
            "start", "--port", Broker(tmp_path / "broker").brokers[-5:], "--folder", str(tmp_path / "b")
        )
        assert taken.returncode == 1
        assert "is in use" in taken.stderr
    finally:
        stopped = run("stop", "--wipe", *folder)
    assert stopped.stdout == "stopped\nwiped\n"
    assert not (tmp_path / "broker").exists()


def test_a_broker_that_dies_at_once_shows_the_end_of_its_log(tmp_path: Path) -> None:
    have_broker()
    ended = run("start", "--port", "0", "--folder", str(tmp_path / "b"), "--set", "log.segment.bytes=many")
    assert ended.returncode == 1
    assert "log.segment.bytes" in ended.stderr


def test_what_is_missing_is_said_with_the_way_to_get_it(tmp_path: Path) -> None:
    folder = ("--folder", str(tmp_path / "b"))
    no_java = run("start", "--port", "0", *folder, PATH=str(tmp_path), JAVA_HOME=str(tmp_path))
    assert no_java.returncode == 1
    assert "no java found" in no_java.stderr
    assert "hint: install Java 17" in no_java.stderr
    no_jars = run("start", "--port", "0", *folder, SEGUE_BROKER_JARS=str(tmp_path))
    assert no_jars.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--set", "compression"), "is not NAME=VALUE"), (("--listeners", "ssl"), 'no listener "ssl"')],
)
def test_wrong_options_are_told(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = run("start", "--folder", str(tmp_path / "b"), *arguments)
    assert done.returncode == 1
    assert said in done.stderr


def test_a_folder_that_is_not_a_brokers_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    assert "holds no broker" in run("start", "--port", "0", "--folder", str(tmp_path)).stderr
    run("stop", "--wipe", "--folder", str(tmp_path))
    assert (tmp_path / "precious").exists()
