"""The pace board: both bounds hold, nothing deadlocks, and processes share it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import SourceError
from segue.sources.pace import CLOCK_UNKNOWN_MS, Pace


def test_a_partition_waits_for_the_slowest_shard() -> None:
    pace = Pace.create(1, 2, in_flight=2)
    pace.emitted(0, 10)
    pace.emitted(0, 20)
    pace.taken(0, 0, 2)
    assert not pace.may_read(0)
    assert pace.in_flight_batches(0) == 2
    pace.taken(1, 0)
    assert pace.may_read(0)


def test_a_partition_waits_for_the_slowest_clock() -> None:
    pace = Pace.create(2, 1, in_flight=2)
    for clock_ms in (10, 20, 30):
        assert pace.may_read(0)
        pace.emitted(0, clock_ms)
        pace.taken(0, 0)
    assert not pace.may_read(0)  # two batches ago it stood at 10; the other one has no clock yet
    assert pace.may_read(1)
    pace.emitted(1, 9)
    assert not pace.may_read(0)
    pace.emitted(1, 10)
    assert pace.may_read(0)
    pace.emitted(0, 40)
    pace.taken(0, 0)
    assert not pace.may_read(0)  # 20 > 10
    pace.done(1)
    assert pace.may_read(0)
    assert pace.is_done(1)


def test_unmerged_a_partition_waits_for_no_clock(tmp_path: Path) -> None:
    path = str(tmp_path / "pace")
    Pace.create(2, 1, path, in_flight=2, merged=False)
    pace = Pace.attach(path)
    for clock_ms in (10, 20, 30, 40):
        assert pace.may_read(0)
        pace.emitted(0, clock_ms)
        pace.taken(0, 0)
    assert not pace.is_behind(1)
    pace.emitted(0, 50)
    pace.emitted(0, 60)
    assert not pace.may_read(0)  # but for the slowest shard


def test_a_batch_without_events_leaves_the_clock() -> None:
    pace = Pace.create(1, 1)
    pace.emitted(0)
    assert pace.clock_ms(0) == CLOCK_UNKNOWN_MS
    pace.emitted(0, 50)
    pace.emitted(0)
    assert pace.clock_ms(0) == 50


def test_a_resumed_partition_holds_nobody_at_the_beginning_of_time() -> None:
    pace = Pace.create(2, 1, in_flight=1)
    pace.resumed(0, 100)
    pace.resumed(1, 90)
    pace.emitted(1, 95)
    pace.emitted(1, 99)
    pace.taken(0, 1, 2)
    assert pace.may_read(1)


def test_processes_share_a_board(tmp_path: Path) -> None:
    path = str(tmp_path / "pace")
    pace = Pace.create(3, 2, path)
    other = Pace.attach(path)
    other.emitted(2, 77)
    assert (pace.clock_ms(2), pace.in_flight_batches(2)) == (77, 1)
    code = f"from segue.sources.pace import Pace; p = Pace.attach({path!r}); p.taken(0, 2); p.taken(1, 2)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert pace.in_flight_batches(2) == 0


def test_a_board_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="can't be opened"):
        Pace.attach(str(tmp_path / "none"))
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(SourceError, match="no board"):
        Pace.attach(str(tmp_path / "short"))
    (tmp_path / "other").write_bytes(b"x" * 800)
    with pytest.raises(SourceError, match="not one of this run"):
        Pace.attach(str(tmp_path / "other"))
    with pytest.raises(SourceError, match="can't be written"):
        Pace.create(1, 1, str(tmp_path / "no" / "folder"))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.one_of(st.none(), st.integers(0, 50)), max_size=12), min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_merging_shards_never_deadlock(
    steps: list[list[int | None]], shards: int, in_flight: int, random: Random
) -> None:
    """Readers and shards take turns at random; a shard merges a batch once none can come before it.

    steps: per partition, how far each batch moves its clock (None: a batch without events).
    """
    partitions = len(steps)
    pace = Pace.create(partitions, shards, in_flight=in_flight)
    sent = [0] * partitions
    clocks: list[list[int]] = [[] for _ in range(partitions)]  # after each batch sent
    taken = [[0] * partitions for _ in range(shards)]

    def read(p: int) -> bool:
        if pace.is_done(p):
            return False
        if sent[p] == len(steps[p]):
            pace.done(p)
            return True
        if not pace.may_read(p):
            return False
        step = steps[p][sent[p]]
        before = clocks[p][-1] if clocks[p] else CLOCK_UNKNOWN_MS
        after = before if step is None else max(before, 0) + step
        pace.emitted(p, after)
        clocks[p].append(after)
        sent[p] += 1
        assert pace.in_flight_batches(p) <= in_flight
        if sent[p] > in_flight + 1:
            running = [pace.clock_ms(q) for q in range(partitions) if not pace.is_done(q)]
            assert clocks[p][-in_flight - 2] <= min(running)
        return True

    def merge(s: int) -> bool:
        heads = [(clocks[p][taken[s][p]], p) for p in range(partitions) if taken[s][p] < sent[p]]
        if not heads:
            return False
        clock, p = min(heads)
        others = [q for q in range(partitions) if q != p and not pace.is_done(q)]
        if any(pace.clock_ms(q) < clock for q in others):
            return False
        taken[s][p] += 1
        pace.taken(s, p)
        return True

    actors = [(read, p) for p in range(partitions)] + [(merge, s) for s in range(shards)]
    while True:
        random.shuffle(actors)
        if not any(act(which) for act, which in actors):
            break
    assert sent == [len(batches) for batches in steps]
    assert all(row == sent for row in taken)
