"""Clusters to read from: librdkafka's own for unit tests, the real broker for the rest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clusters import Cluster, MockBrokers, real_cluster

from deploy.kafka.broker import Broker


@pytest.fixture(scope="session")
def mock_brokers() -> Iterator[MockBrokers]:
    """A cluster that librdkafka plays."""
    brokers = MockBrokers()
    yield brokers
    brokers.close()


@pytest.fixture
def mock(mock_brokers: MockBrokers) -> Cluster:
    """A new topic of one partition on it."""
    return mock_brokers.topic()


@pytest.fixture
def real(broker: Broker) -> Cluster:
    """A new topic of one partition on the real broker."""
    return real_cluster(broker.brokers)
