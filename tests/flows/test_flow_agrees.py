"""The real flow against the reference: on one worker, several threads and two processes, always the same.

By default a few seeds; SEGUE_FLOW_SEEDS=500 runs that many of each test (about a second each, three for a run in two
processes), SEGUE_FLOW_SEEDS=17:18 seed 17 alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.flows.runs import (
    OFTEN,
    check_against,
    judged,
    random_case,
    run_processes,
    run_threads,
    seeded_case,
    seeds,
    write_case,
)
from tests.reference.choice import Drawn
from tests.reference.random_events import DEAD_LINES


@pytest.mark.parametrize("seed", seeds(16))
def test_one_worker_and_several_threads(seed: int, tmp_path: Path) -> None:
    case = seeded_case(tmp_path, seed, 250)
    one = run_threads(case)
    check_against(one, judged(case))
    for workers in (2, 3):
        assert run_threads(case, workers).essence() == one.essence(), f"{workers} threads"


ANY_STREAM = settings(
    deadline=None,
    # shrinking a stream event by event takes minutes: the first failure is short enough to read
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@settings(ANY_STREAM, max_examples=12)
@given(st.data())
def test_any_stream_on_one_and_two_workers(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        case = random_case(Path(folder), Drawn(data.draw), 60)
        one = run_threads(case)
        check_against(one, judged(case))
        assert run_threads(case, 2).essence() == one.essence()


@settings(ANY_STREAM, max_examples=3)
@given(st.data())
def test_any_stream_in_two_processes(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        case = random_case(Path(folder), Drawn(data.draw), 60).with_settings(native=False)
        check_against(run_processes(case), judged(case))


@pytest.mark.parametrize("seed", seeds(3))
def test_two_processes(seed: int, tmp_path: Path) -> None:
    case = seeded_case(tmp_path, 10_000 + seed, 400).with_settings(
        batch_rows=(1, 20, 65_536)[seed % 3],
        native=False,  # worker processes keep the objects of random policies in the user's cache
    )
    two = run_processes(case)
    check_against(two, judged(case))
    assert run_threads(case).essence() == two.essence()


@pytest.mark.parametrize("seed", seeds(1))
def test_batches_and_shards_change_nothing(seed: int, tmp_path: Path) -> None:
    """Action ids too: the lines are compared as they are."""
    case = seeded_case(tmp_path, 20_000 + seed, 300, [OFTEN])
    reference = judged(case)
    assert reference.actions
    first = None
    for batch_rows in (1, 7, 1_000):
        for shards in (1, 3, 16):
            told = run_threads(case.with_settings(batch_rows=batch_rows, shards=shards))
            if first is None:
                first = told
                check_against(first, reference)
            assert told.essence() == first.essence(), f"batches of {batch_rows}, {shards} shards"


def test_partitions_without_events_hold_nobody_back(tmp_path: Path) -> None:
    events = [
        {"id": f"e{n}", "type": "page", "userId": f"u{n % 3}", "time": f"2026-03-01T00:00:{n:02}Z"}
        for n in range(30)
    ]
    payloads = [
        b"",
        b"\n".join(DEAD_LINES),
        "".join(json.dumps(event) + "\n" for event in events).encode(),
        b"\n \n",
    ]
    case = write_case(tmp_path, payloads, [OFTEN], batch_rows=4, shards=2)
    told = run_threads(case, workers=2)
    check_against(told, judged(case))
    assert told.summary.events == len(events)
    assert told.summary.actions > 0
