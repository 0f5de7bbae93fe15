"""Lanes on a real broker: what is sent is visible once, what was sent is known after a crash, and a zombie stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

import tests.kafka.lanes
from segue import limits
from segue.errors import SinkError
from segue.kafka.receipts import IDS, pack_ids, row_id
from segue.kafka.settings import KafkaSettings
from segue.run.stop import FAILED
from segue.sinks.kafka.lane import Lane, clear_of_snapshot
from segue.sinks.kafka.message import LaneMessage, LanePosition
from segue.sinks.kafka.tables import whole_stream
from segue.sinks.kafka.tail import Tail, prepare_outputs
from segue_kernels import receipt
from tests.kafka.lanes import LANES, NAMES, item, settings_of, topic_names, values, visible

PROGRAM = Path(tests.kafka.lanes.__file__)
SOAK_VARIABLE = "SEGUE_SOAK_SECONDS"


@pytest.fixture(autouse=True)
def nothing_failed() -> Iterator[None]:
    """FAILED belongs to the process: a test leaves none to the next."""
    FAILED.clear()
    yield
    FAILED.clear()


@pytest.fixture
def settings(broker: Any, topics: Any) -> KafkaSettings:
    """A deployment of two lanes whose topics are there."""
    for name in NAMES:
        topics(name, partitions=LANES)
    return settings_of(broker.brokers, topics.prefix)


def prepared(settings: KafkaSettings, positions: dict[int, LanePosition] | None = None) -> Tail:
    return prepare_outputs(settings, topic_names(settings.prefix), positions or {})


def opened(settings: KafkaSettings, tail: Tail) -> list[Lane]:
    return [Lane(settings, number, tail) for number in range(LANES)]


def send(lanes: list[Lane], settings: KafkaSettings, numbers: range, channel: str = "email") -> None:
    for number in numbers:
        lanes[number % LANES].write([item(settings.prefix, number, number % LANES, channel)])


def close(lanes: list[Lane]) -> None:
    for lane in lanes:
        lane.close()


def sequences(tail: Tail, flag: int) -> list[int]:
    """Numbers of the decisions whose receipts have the flag."""
    words = np.concatenate([*tail.receipts.values(), np.zeros((0, receipt.RECEIPT_WORDS), np.int64)])
    has = words[:, receipt.RECEIPT_FLAGS] & flag != 0
    return sorted(words[has, receipt.RECEIPT_SEQUENCE].tolist())


def process(
    settings: KafkaSettings, items: int, channel: str = "email", **environment: str
) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAM), settings.brokers, settings.prefix, str(items), channel]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})


def ready(running: subprocess.Popen[str]) -> None:
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"


def test_the_tail_is_what_was_sent_since_the_checkpoint(settings: KafkaSettings) -> None:
    lanes = opened(settings, prepared(settings))
    send(lanes, settings, range(20))
    positions = {number: lane.snapshot() for number, lane in enumerate(lanes)}
    send(lanes, settings, range(20, 27))
    send(lanes, settings, range(27, 31), "web")
    close(lanes)
    tail = prepared(settings, positions)
    assert sequences(tail, receipt.RECEIPT_IS_SENT) == list(range(20, 31))
    assert sequences(tail, receipt.RECEIPT_IS_LOGGED) == list(range(20, 31))
    assert set(tail.receipts) == {0, 1}
    for part, words in tail.receipts.items():
        assert (words[:, receipt.RECEIPT_PART] == part).all()
        assert (np.diff(words[:, receipt.RECEIPT_SEQUENCE]) >= 0).all()
    assert sequences(prepared(settings), receipt.RECEIPT_IS_SENT) == list(
        range(31)
    )  # no position: from the beginning
    again = prepared(settings, tail.positions)
    assert (again.receipts, again.positions) == ({}, tail.positions)


@pytest.mark.parametrize("point", ["after_produce", "after_commit"])
def test_a_crash_at_a_commit_leaves_whole_transactions(settings: KafkaSettings, point: str) -> None:
    killed = process(settings, 500, SEGUE_KILL_AT=f"{point}:5")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    tail = prepared(settings)
    actions = visible(settings, "email")
    assert actions == visible(settings, "decisions")
    assert sum(map(len, actions)) > 0
    for lane, numbers in enumerate(actions):
        assert numbers == list(range(lane, lane + 2 * len(numbers), 2))
    assert sequences(tail, receipt.RECEIPT_IS_SENT) == sorted(chain.from_iterable(actions))
    lanes = opened(settings, tail)  # goes on as if nothing had been
    first = [2 * len(numbers) + lane for lane, numbers in enumerate(actions)]
    for lane in range(LANES):
        for number in range(first[lane], 40 + lane, 2):
            lanes[lane].write([item(settings.prefix, number, lane)])
    close(lanes)
    assert [numbers[:20] for numbers in visible(settings, "email")] == [
        list(range(0, 40, 2)),
        list(range(1, 41, 2)),
    ]


def test_of_an_idempotent_channel_nothing_is_logged_that_is_not_there(settings: KafkaSettings) -> None:
    killed = process(settings, 500, "web", SEGUE_KILL_AT="after_produce:6")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    tail = prepared(settings)
    sent, logged = sequences(tail, receipt.RECEIPT_IS_SENT), sequences(tail, receipt.RECEIPT_IS_LOGGED)
    assert set(logged) < set(sent)  # the transaction that was lost had the log of what had gone out
    assert sent == sorted(chain.from_iterable(visible(settings, "web")))
    for lane in range(LANES):
        of_lane = [number for number in sent if number % LANES == lane]
        assert of_lane == list(range(lane, lane + 2 * len(of_lane), 2))


def test_a_zombie_at_work_stops_and_writes_nothing_more(settings: KafkaSettings) -> None:
    zombie = process(settings, 5_000)
    ready(zombie)
    time.sleep(0.3)
    tail = prepared(settings)
    out, _ = zombie.communicate(timeout=20)
    assert zombie.returncode == 3
    assert f'another engine with the name "{settings.name}" has taken over' in out
    assert sequences(tail, receipt.RECEIPT_IS_SENT) == sorted(chain.from_iterable(visible(settings, "email")))
    close(opened(settings, tail))
    FAILED.raise_if_set()


def test_an_idle_zombie_is_fenced_within_two_seconds(settings: KafkaSettings) -> None:
    zombie = process(settings, 0)
    ready(zombie)
    prepared(settings)
    since = time.monotonic()
    out, _ = zombie.communicate(timeout=20)
    assert time.monotonic() - since < 3
    assert "has taken over" in out


def test_a_thawed_zombie_sends_nothing_at_once_without_a_lease(settings: KafkaSettings) -> None:
    zombie = process(settings, 5_000, "web")
    ready(zombie)
    time.sleep(0.3)
    os.kill(zombie.pid, signal.SIGSTOP)
    time.sleep(2.2)  # its lease runs out meanwhile
    tail = prepared(settings)
    os.kill(zombie.pid, signal.SIGCONT)
    out, _ = zombie.communicate(timeout=20)
    assert "has taken over" in out
    assert sequences(tail, receipt.RECEIPT_IS_SENT) == sorted(chain.from_iterable(visible(settings, "web")))


def test_who_writes_between_the_tail_and_the_lane_is_noticed(settings: KafkaSettings) -> None:
    tail = prepared(settings)
    other = opened(settings, prepared(settings))
    send(other, settings, range(2))
    close(other)
    lanes = opened(settings, tail)
    with pytest.raises(SinkError, match=r"another engine with the name .* was at work"):
        lanes[0].snapshot()
    with pytest.raises(SinkError, match="was at work"):
        lanes[0].write([item(settings.prefix, 2, 0)])
    close(lanes)
    assert sum(map(len, visible(settings, "email"))) == 2


def delete_up_to(admin: AdminClient, place: TopicPartition) -> None:
    """As retention does. The mark of a commit may come a moment after the commit's answer."""
    deadline = time.monotonic() + 20
    while True:
        try:
            admin.delete_records([place])[place].result()
            return
        except KafkaException as error:
            late = error.args[0].code() == KafkaError.OFFSET_OUT_OF_RANGE
            if not late or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_logs_keep_clear_of_the_next_snapshot() -> None:
    apart = limits.SNAPSHOT_APART_MS / 1000
    assert clear_of_snapshot(10.0, 11.0) == 10.0
    assert clear_of_snapshot(11.0 - 0.9 * apart, 11.0) == 11.0 + apart
    assert clear_of_snapshot(11.0 + 0.9 * apart, 11.0) == 11.0 + apart
    assert clear_of_snapshot(11.0 + apart, 11.0) == 11.0 + apart  # it did not come: no longer
    assert clear_of_snapshot(12.0, 11.0) == 12.0


def test_a_position_that_retention_has_passed_is_refused(settings: KafkaSettings, topics: Any) -> None:
    lanes = opened(settings, prepared(settings))
    send(lanes, settings, range(4))
    early = {number: lane.snapshot() for number, lane in enumerate(lanes)}
    send(lanes, settings, range(4, 12))
    late = {number: lane.snapshot() for number, lane in enumerate(lanes)}
    close(lanes)
    topic = settings.prefix + "email"
    cut = TopicPartition(topic, 1, late[1].offsets[topic])
    delete_up_to(topics.admin, cut)
    with pytest.raises(
        SinkError, match=rf'"{topic}" partition 1 begins at \d+, the checkpoint needs it from \d+ on'
    ):
        prepared(settings, early)
    assert prepared(settings, late).receipts == {}  # deleted up to the checkpoint: nothing is missing


def test_topics_are_checked(settings: KafkaSettings, topics: Any) -> None:
    narrow = topics("narrow", partitions=1)
    names = topic_names(settings.prefix)
    with pytest.raises(SinkError, match=f'"{settings.prefix}absent": it is not there'):
        prepare_outputs(settings, [*names, settings.prefix + "absent"], {})
    with pytest.raises(SinkError, match=f'"{narrow}" has 1 partitions; 2 lanes need as many'):
        prepare_outputs(settings, [*names, narrow], {})
    with pytest.raises(SinkError, match="the checkpoint has a lane 2, the settings have 2 lanes"):
        prepared(settings, {2: LanePosition()})
    far = LanePosition({settings.prefix + "email": 7})
    with pytest.raises(SinkError, match=r"partition 0 ends at 0, the checkpoint says 7"):
        prepared(settings, {0: far})


def test_a_message_that_is_too_large_is_an_error_and_takes_its_item_along(settings: KafkaSettings) -> None:
    lanes = opened(settings, prepared(settings))
    send(lanes, settings, range(2))
    for lane in lanes:
        lane.snapshot()
    lanes[0].write([item(settings.prefix, 2, 0, size=2_000_000)])
    with pytest.raises(
        SinkError, match=f'"{settings.prefix}email": a message is larger than allowed .* 2000000 bytes'
    ):
        lanes[0].snapshot()
    with pytest.raises(SinkError, match="larger than allowed"):
        lanes[1].write([item(settings.prefix, 3, 1)])
    close(lanes)
    assert visible(settings, "email") == visible(settings, "decisions") == [[0], [1]]


def test_what_was_refused_or_changed_before_a_crash_is_not_told_again(settings: KafkaSettings) -> None:
    def refused(row: int) -> LaneMessage:
        return LaneMessage(settings.prefix + "late", None, b"%d" % row, [(IDS, row_id(0, row))])

    def changed(*numbers: int) -> LaneMessage:
        ids = pack_ids(np.array([(number, number) for number in numbers], np.int64))
        stream = whole_stream(pa.RecordBatch.from_pydict({"number": numbers}))
        return LaneMessage(settings.prefix + "changes", None, stream, [(IDS, ids)])

    lanes = opened(settings, prepared(settings))
    lanes[0].snapshot()
    lanes[0].write([[refused(1), refused(2)], [refused(3), changed(10, 11)]])
    close(lanes)
    position = {
        0: LanePosition({name: 0 for name in topic_names(settings.prefix) if "heartbeat" not in name})
    }
    lanes = opened(settings, prepared(settings, position))
    lanes[0].write([[refused(1)]])
    half = lanes[0].snapshot()  # a second crash, half way through what was sent before the first
    close(lanes)
    lanes = opened(settings, prepared(settings, {0: half}))
    lanes[0].write([[refused(2), refused(3), refused(4)], [changed(9, 10, 11, 12)], [changed(11)]])
    assert lanes[0].snapshot().pending == {}
    close(lanes)
    assert visible(settings, "late")[0] == [1, 2, 3, 4]
    numbers = []
    for stream in values(settings, "changes")[0]:
        numbers += pa.ipc.open_stream(stream).read_all()["number"].to_pylist()
    assert numbers == [10, 11, 9, 12, 11]


def test_two_thousand_actions_a_second_are_visible_once_and_soon(settings: KafkaSettings) -> None:
    """Commit latency, from writing to visible; SEGUE_SOAK_SECONDS makes it longer."""
    seconds = float(os.environ.get(SOAK_VARIABLE, "3"))
    lanes = opened(settings, prepared(settings))
    for lane in lanes:
        lane.snapshot()
    pauses_ms, sent = [], 0
    begun = time.monotonic()
    next_snapshot = begun + 1
    while (now := time.monotonic()) < begun + seconds:
        due = int((now - begun) * 2_000)
        for number in range(sent, due):
            lanes[number % LANES].write([item(settings.prefix, number, number % LANES, size=700)])
        sent = max(sent, due)
        if now >= next_snapshot:
            next_snapshot += 1
            before = time.monotonic()
            for lane in lanes:
                lane.snapshot()
            pauses_ms.append((time.monotonic() - before) * 1_000)
        time.sleep(0.005)
    waits_ms = np.concatenate([lane.waits_ms() for lane in lanes])
    close(lanes)
    p50, p99 = np.percentile(waits_ms, [50, 99])
    print(
        f"written to visible: p50 {p50:.1f} ms, p99 {p99:.1f} ms; snapshots: p50 {np.median(pauses_ms):.1f} ms, "
    )
    print(f"longest {max(pauses_ms):.1f} ms; {sent} actions in {seconds:.0f} s")
    seen = visible(settings, "email")
    assert seen == [list(range(lane, sent, LANES)) for lane in range(LANES)]
    assert seen == visible(settings, "decisions")
    assert p99 < 500
