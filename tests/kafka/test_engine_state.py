"""The state folder of a whole engine on the real broker: a full disk, no permission, damage, going back, and topics
that no longer hold what would be read again. After each of them what consumers see is exact."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from typer.testing import CliRunner, Result

from deploy.kafka.broker import Broker
from segue.checkpoints.store import list_cuts
from segue.cli import app
from tests.brokers import Topics
from tests.kafka.engines import Deployment, event, now_ms

DISK = "150m"  # room for two files of the journal, 64 MB each, and little more


def mounted(folder: Path, *options: str) -> bool:
    """A small disk, where that is allowed."""
    if os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", ",".join((f"size={DISK}", *options)), "none", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """A folder on a small disk of its own; None where none can be had."""
    folder = tmp_path_factory.mktemp("disk")
    if not mounted(folder):
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def deployment(
    broker: Broker, disk: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """An engine that has begun and was stopped. Tests go on with it, one after the other."""
    folder = tmp_path_factory.mktemp("state")
    if disk is not None:
        (disk / "state").mkdir()
        (folder / "state").symlink_to(disk / "state")
    topics = Topics(broker.brokers, f"{folder.name}-{now_ms()}.")
    made = Deployment(broker.brokers, topics.prefix, folder).make_topics()
    try:
        seen(made, 100)
        made.start()
        made.judged()
        yield made
    finally:
        made.close()
        topics.delete()


def seen(deployment: Deployment, count: int) -> None:
    """So many views of a hundred people."""
    first = deployment.sent
    views = [event(f"v{n}", "Product Viewed", f"u{n % 100}", now_ms()) for n in range(first, first + count)]
    deployment.send(views, partition=0)


def goes_on(deployment: Deployment) -> None:
    """Exactly, and stops."""
    deployment.start()
    seen(deployment, 20)
    assert deployment.judged().events == deployment.sent
    deployment.stop()


def checkpoints(deployment: Deployment, command: str, *options: str) -> Result:
    """`segue checkpoints COMMAND`."""
    return CliRunner().invoke(app, ["checkpoints", command, "--state", str(deployment.state), *options])


def fill(disk: Path) -> None:
    """Until nothing is left."""
    with open(disk / "filler", "ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))


def test_the_disk_is_full(deployment: Deployment, disk: Path | None) -> None:
    if disk is None:
        pytest.skip("a small disk can't be mounted here: root only")
    fill(disk)
    seen(deployment, 100)
    code, said = deployment.ended()
    assert code == 1
    assert "error: write a checkpoint" in said
    assert "can't be written" in said
    assert "free some space" in said
    fill(disk)
    deployment.start()
    code, said = deployment.ended()
    assert code == 1
    assert "can't be written: No space left on device" in said
    (disk / "filler").unlink()
    goes_on(deployment)


def test_no_permission(deployment: Deployment, disk: Path | None) -> None:
    if disk is None:
        pytest.skip("a small disk can't be mounted here: root only")
    remount = ["mount", "-o", "remount,{}", str(disk)]
    subprocess.run([word.format("ro") for word in remount], check=True)
    try:
        seen(deployment, 100)
        deployment.start()
        code, said = deployment.ended()
    finally:
        subprocess.run([word.format("rw") for word in remount], check=True)
    assert code == 1
    assert re.search(r'error: write a checkpoint: ".*/state/.*" can\'t be written: Read-only', said), said
    goes_on(deployment)


def damage(state: Path) -> Path:
    """A byte of the newest journal's last record is another one now."""
    newest = max(
        (path for path in (state / "journals").iterdir() if path.stat().st_size), key=lambda p: p.name
    )
    held = bytearray(newest.read_bytes())
    at = max(place for place, byte in enumerate(held) if byte)
    held[at] ^= 0x10
    newest.write_bytes(held)
    return newest


def test_a_damaged_file_is_refused_and_the_last_good_checkpoint_is_gone_back_to(
    deployment: Deployment,
) -> None:
    """What was sent since is counted, and not repeated."""
    if deployment.engine is not None and deployment.engine.code is None:
        deployment.stop()
    file = damage(deployment.state)
    verified = checkpoints(deployment, "verify")
    assert verified.exit_code == 1
    assert file.name in verified.output
    deployment.start()
    code, said = deployment.ended()
    assert code == 1
    assert f'{file.name}" is damaged at byte' in said
    assert "segue checkpoints restore --state" in said
    restored = checkpoints(deployment, "restore")
    assert restored.exit_code == 0, restored.output
    assert "sends none of it again" in " ".join(restored.output.split())
    assert checkpoints(deployment, "verify").exit_code == 0
    assert "the next start resumes here" in " ".join(checkpoints(deployment, "list").output.split())
    goes_on(deployment)


def test_a_checkpoint_is_not_gone_back_to_when_the_topic_no_longer_holds_it(deployment: Deployment) -> None:
    cuts = list_cuts(deployment.state)
    topic = f"{deployment.prefix}events"
    admin = Topics(deployment.brokers, deployment.prefix).admin
    (future,) = admin.delete_records([TopicPartition(topic, 0, deployment.sent - 10)]).values()
    future.result(30)
    refused = checkpoints(deployment, "restore", "--epoch", str(cuts[-1].epoch))
    said = " ".join(refused.output.split())
    assert refused.exit_code == 1, said
    assert f'epoch {cuts[-1].epoch} goes on reading topic "{topic}" partition 0 at offset' in said
    assert f"begins at {deployment.sent - 10}: retention has deleted the rest" in said
    assert "choose a later epoch" in said
    newest = checkpoints(deployment, "restore")
    assert newest.exit_code == 0, newest.output
    assert f"resumes at epoch {cuts[0].epoch}" in newest.output
