"""A broker by address (SEGUE_TEST_BROKER=host:port), and topics of a test's own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic


@pytest.fixture(scope="session")
def broker() -> SimpleNamespace:
    """`broker.brokers` is its address."""
    address = os.environ.get("SEGUE_TEST_BROKER")
    if not address:
        pytest.skip("no Kafka broker: set SEGUE_TEST_BROKER=host:port")
    return SimpleNamespace(brokers=address)


class Topics:
    """Topics of one test."""

    def __init__(self, brokers: str, prefix: str) -> None:
        self.prefix = prefix
        self.admin = AdminClient({"bootstrap.servers": brokers, "log_level": 0})

    def __call__(self, name: str, partitions: int = 1) -> str:
        """Create prefix + name."""
        whole = self.prefix + name
        self.admin.create_topics([NewTopic(whole, partitions, 1)])[whole].result(30)
        return whole

    def names(self) -> list[str]:
        """Those that are there."""
        return sorted(
            name for name in self.admin.list_topics(timeout=30).topics if name.startswith(self.prefix)
        )


@pytest.fixture
def topics(broker: SimpleNamespace) -> Iterator[Topics]:
    """`topics("events", partitions=4)`; `topics.prefix` is what their names begin with."""
    of_test = Topics(broker.brokers, f"t{uuid.uuid4().hex[:8]}.")
    yield of_test
    if names := of_test.names():
        for future in of_test.admin.delete_topics(names).values():
            future.result(30)
