"""Real brokers for tests: how one is shared by all processes of a run, topics of a test's own, users and ACLs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from deploy.kafka import broker as deployed
from deploy.kafka.broker import START_SECONDS_MAX, Broker, BrokerError, used

REQUIRED_VARIABLE = "SEGUE_REQUIRE_BROKER"  # set where a missing broker is a failure: .ci/run


def have_broker() -> None:
    """Skip the test where no broker can be had, saying how to get one; fail where one is required."""
    try:
        deployed.java()
        deployed.jars()
    except BrokerError as error:
        what = f"no Kafka broker: {error}"
        if os.environ.get(REQUIRED_VARIABLE):
            pytest.fail(what, pytrace=False)
        pytest.skip(what)


@contextlib.contextmanager
def shared_broker(folder: Path) -> Iterator[Broker]:
    """One broker for every process that asks with the same folder. It ends when the last of them does, however that
    one ends: a keeper beside it watches a lock that the system takes back from the dead."""
    users = folder / "users"
    with contextlib.ExitStack() as stack:
        with open(folder / "starting", "a") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            stack.enter_context(used(users))
            broker = Broker(folder / "broker")
            if not broker.is_ready:
                _start_keeper(broker, users, folder / "keeper.log")
        yield broker


def _start_keeper(broker: Broker, users: Path, log: Path) -> None:
    command = [sys.executable, deployed.__file__, "run", "--port", "0", "--folder", str(broker.folder)]
    out = (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    keeper = os.posix_spawn(
        sys.executable,
        [*command, "--while-used", str(users)],
        os.environ,
        file_actions=[out, (os.POSIX_SPAWN_DUP2, 1, 2)],
        setsid=True,
    )
    deadline = time.monotonic() + START_SECONDS_MAX + 30
    while not (broker.record and broker.is_ready):
        ended, _ = os.waitpid(keeper, os.WNOHANG)
        if ended or time.monotonic() > deadline:
            pytest.fail(f"the shared broker did not start:\n{log.read_text()}", pytrace=False)
        time.sleep(0.1)


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something that must come to hold: brokers hear of changes a little later than the controller."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it did not hold within {seconds} s"
        time.sleep(0.05)


class Topics:
    """Topics of one test: their names begin with a prefix of its own, and they go when it ends."""

    def __init__(self, brokers: str, prefix: str) -> None:
        self.prefix = prefix
        self.admin = AdminClient({"bootstrap.servers": brokers, "log_level": 0})

    def __call__(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """Create prefix + name, wait until it is there, and return the whole name."""
        whole = self.prefix + name
        new = NewTopic(whole, num_partitions=partitions, replication_factor=1, config=dict(config or {}))
        self.admin.create_topics([new], operation_timeout=30)[whole].result(30)
        until(lambda: whole in self.names())
        return whole

    def names(self) -> list[str]:
        """Those that are there."""
        return sorted(
            name for name in self.admin.list_topics(timeout=30).topics if name.startswith(self.prefix)
        )

    def delete(self) -> None:
        """All of them, whoever created them."""
        if names := self.names():
            for future in self.admin.delete_topics(names, operation_timeout=30).values():
                with contextlib.suppress(KafkaException):  # the test was first: the list is a little behind
                    future.result(30)


_Rule = TypeVar("_Rule", AclBinding, AclBindingFilter)


def _rule(make: type[_Rule], user: str, kind: str, name: str, operation: str) -> _Rule:
    return make(
        ResourceType[kind.upper()],
        name,
        ResourcePatternType.PREFIXED,
        f"User:{user}",
        "*",
        AclOperation[operation.upper()],
        AclPermissionType.ALLOW,
    )


class SecuredBroker(Broker):
    """Listeners with SCRAM-SHA-512 and ACLs, and with TLS; its open one may do everything."""

    def add_user(self, name: str, password: str) -> dict[str, str]:
        """Add a user who may do nothing yet; returns a client's properties."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(name, info, password.encode())
        admin = self._admin()
        for future in admin.alter_user_scram_credentials([change]).values():
            future.result(30)
        return {**self.client_properties("sasl"), "sasl.username": name, "sasl.password": password}

    def allow(self, user: str, kind: str, name: str, *operations: str) -> None:
        """Let a user do something with all topics, groups or transactional ids whose names begin so: "topic",
        "group", "transactional_id"; "write", "read", "describe", "create", …"""
        bindings = [_rule(AclBinding, user, kind, name, operation) for operation in operations]
        admin = self._admin()
        for future in admin.create_acls(bindings).values():
            future.result(30)

    def take_back(self, user: str, kind: str, name: str, *operations: str) -> None:
        """What was allowed in the same words is so no longer."""
        filters = [_rule(AclBindingFilter, user, kind, name, operation) for operation in operations]
        admin = self._admin()
        for future in admin.delete_acls(filters).values():
            assert len(future.result(30)) == 1

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.brokers, "log_level": 0})
