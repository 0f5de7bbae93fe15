"""Clusters to read from: librdkafka's own for unit tests, and the broker that SEGUE_TEST_BROKER names for the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from clusters import Cluster, MockBrokers, real_cluster


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
def real() -> Cluster:
    """A new topic of one partition on a real broker."""
    brokers = os.environ.get("SEGUE_TEST_BROKER", "")
    if not brokers:
        pytest.skip("no broker: set SEGUE_TEST_BROKER=host:port")
    return real_cluster(brokers)
