"""The whole engine on the real broker, under load: killed, stopped, rescaled, fenced. Consumers see every decision
once, and what the naive reference says.

Points and passes are drawn from a seed that rotates: SEGUE_KILL_SEED=N repeats a run. All points at many passes, by one
and two processes: python -m tests.kafka.kill_matrix.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from deploy.kafka.broker import Broker
from segue.chaos.deployment import Deployment
from segue.chaos.engine import EngineProcess
from segue.run.kill import POINTS
from tests.kafka.kill_matrix import SETTINGS, survive, verified

PASSES_MAX = 12
FENCED_S_MAX = 60.0
OTHERS_S_MAX = 60.0  # for the others to end when one process has died

pytestmark = pytest.mark.timeout(900)  # a minute on two cores; they may be shared by many


@pytest.fixture
def deployment(broker: Broker, tmp_path: Path, seed: int) -> Iterator[Deployment]:
    made = Deployment(broker.brokers, tmp_path, replace(SETTINGS, seed=seed), print)
    try:
        yield made
    finally:
        made.close()


def test_killed_at_every_point(deployment: Deployment, seed: int) -> None:
    chance = random.Random(seed)
    points = list(POINTS)
    chance.shuffle(points)
    kills = [f"{point}:{chance.randint(1, PASSES_MAX)}" for point in points]
    # two in a row: what was sent after the checkpoint is being decided again, and nothing of it is saved yet
    kills.insert(
        kills.index(next(kill for kill in kills if kill.startswith("after_commit"))) + 1, "after_commit:1"
    )
    survive(deployment, kills, print)
    print(verified(deployment))


def test_stopped_and_rescaled(deployment: Deployment) -> None:
    with deployment.under_load():
        deployment.start()
        deployment.wait_for_life()
        for processes in (3, 2):
            deployment.stop()
            deployment.processes = processes
            deployment.start()
            deployment.wait_for_life()
        engine = deployment.running()
        engine.kill_one(2)  # the engine's own process starts the two that work
        assert engine.wait(OTHERS_S_MAX) == 1
        assert "worker process 1 was ended by SIGKILL" in engine.last_words()
        deployment.start()
        deployment.wait_for_life()
    print(verified(deployment))


def test_a_cluster_that_bytewax_starts(deployment: Deployment) -> None:
    with deployment.under_load():
        processes = deployment.start_cluster(2)
        deployment.wait_for_life()
        processes[1].kill()
        assert processes[0].wait(OTHERS_S_MAX) not in (0, None)
        deployment.start_cluster(2)
        deployment.wait_for_life()
    print(verified(deployment))


def ends(deployment: Deployment) -> dict[tuple[str, int], int]:
    """How far everything that the engine writes has come."""
    kafka = deployment.settings.kafka
    consumer = Consumer(
        {"bootstrap.servers": kafka.brokers, "group.id": kafka.name, "isolation.level": "read_uncommitted"}
    )
    try:
        topics = [name for name in consumer.list_topics(timeout=30).topics if name.startswith(kafka.prefix)]
        places = [(topic, lane) for topic in topics for lane in range(kafka.lanes)]
        return {place: consumer.get_watermark_offsets(TopicPartition(*place), 30)[1] for place in places}
    finally:
        consumer.close()


def writes_nothing_more(deployment: Deployment, zombie: EngineProcess) -> str:
    """Wake it; its last words."""
    before = ends(deployment)
    zombie.resume()
    assert zombie.wait(FENCED_S_MAX) == 1
    after = ends(deployment)
    assert {place: (before[place], end) for place, end in after.items() if end != before[place]} == {}
    return zombie.last_words()


def replaced(deployment: Deployment) -> None:
    """Another engine goes on from the state, as on another machine, and has ended again."""
    deployment.take_state_along()
    deployment.start()
    deployment.wait_for_life()
    deployment.stop()


def test_zombies_write_nothing_more(deployment: Deployment) -> None:
    with deployment.under_load():
        running = deployment.start()
        deployment.wait_for_life()
        running.pause()
        second = deployment.start()
        assert second.wait(OTHERS_S_MAX) == 1
        assert "is used by another engine" in second.last_words()
        replaced(deployment)
        said = writes_nothing_more(deployment, running)
        assert "has taken over" in said, said

        generations = deployment.state / "generations"
        known = len(list(generations.iterdir()))
        starting = deployment.start()
        while (
            len(list(generations.iterdir())) == known
        ):  # it has fenced, read what was sent, and loads its state
            assert starting.code is None, starting.last_words()
            time.sleep(0.001)
        starting.pause()
        replaced(deployment)
        said = writes_nothing_more(deployment, starting)
        assert "another engine" in said, said

        deployment.start()
        deployment.wait_for_life()
    print(verified(deployment))
