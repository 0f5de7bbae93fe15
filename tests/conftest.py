"""What all tests may ask for: a real Kafka broker (tests/brokers.py)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.kafka.broker import Broker
from tests.brokers import SecuredBroker, Topics, have_broker, shared_broker

SLOW = ("kernels_interpreted", "tests/kafka/", "tests/flows/", "tests/cli/", "tests/checkpoints/")
_COMPILE = """
from segue.run.progress import display, terminal
from segue.run.warmup import is_warm, warm_up

if not is_warm():
    shown = display(terminal(), quiet=False)
    warm_up(shown.step, shown.note)
"""


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile the kernels before several processes of tests want them at once."""
    if "PYTEST_XDIST_WORKER" in os.environ or session.config.option.collectonly:
        return
    compiled = subprocess.run([sys.executable, "-c", _COMPILE], check=False)
    if compiled.returncode:
        pytest.exit("the kernels can't be compiled", compiled.returncode)


def pytest_xdist_auto_num_workers() -> int:
    """A process more than cores, for the tests of the broker wait most of the time."""
    return min((os.cpu_count() or 1) + 1, 4)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose tests take long come first (in the order of SLOW): at the end no process waits for another."""

    def turn(item: pytest.Item) -> int:
        path = item.path.as_posix()
        return next((at for at, name in enumerate(SLOW) if name in path), len(SLOW))

    items.sort(key=turn)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that all tests and all processes of the run share: `broker.brokers` is its address. Nobody may stop
    it, and each test keeps to topics, groups and transactional ids that begin with its `unique_name`."""
    have_broker()
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kafka"
    folder.mkdir(exist_ok=True)
    with shared_broker(folder) as shared:
        yield shared


@pytest.fixture
def unique_name(request: pytest.FixtureRequest) -> str:
    """A name that no other test has."""
    told = re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40]
    return f"{told}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def topics(broker: Broker, unique_name: str) -> Iterator[Topics]:
    """`topics("events", partitions=4)` creates a topic of this test on the shared broker and returns its name;
    `topics.prefix` is what their names begin with."""
    of_test = Topics(broker.brokers, f"{unique_name}.")
    yield of_test
    of_test.delete()


@pytest.fixture
def broker_of_own(tmp_path: Path) -> Iterator[Broker]:
    """A broker (3 to 5 s) that the test may `kill`, `start`, `stop`, `pause` and `resume`."""
    have_broker()
    own = Broker(tmp_path / "broker").create(port=0)
    try:
        yield own.start(dies_with_parent=True)
    finally:
        own.kill()
        own.wipe()


@pytest.fixture(scope="module")
def secured_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """A broker with SCRAM, ACLs and TLS: `client_properties("sasl" or "tls")`, `add_user`, `allow`."""
    have_broker()
    secured = SecuredBroker(tmp_path_factory.mktemp("secured") / "broker")
    secured.create(port=0, listeners=("sasl", "tls"))
    try:
        secured.start(dies_with_parent=True)
        yield secured
    finally:
        secured.kill()
        secured.wipe()
