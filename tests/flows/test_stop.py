"""SIGTERM and SIGINT: the epoch is finished, the exit code is 0, and the next start goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest

from segue.errors import SinkError
from segue.run.failure import Stopped
from segue.run.stop import FAILED, STOP, Failed, stoppable, stopping_at_an_epoch
from segue.simulate import SimulationSettings, write_simulation
from tests.flows.resumable import end_of, finished, start
from tests.flows.runs import OFTEN, Case, run_threads, write_case


def simulated(folder: Path, events: int) -> Case:
    file = BytesIO()
    write_simulation(SimulationSettings(customers=300, events=events, seed=2), file)
    return write_case(folder, [file.getvalue()], [OFTEN], batch_rows=10)


def stopped(process: subprocess.Popen[str], case: Case, number: int) -> float:
    """Send a signal once something was written; seconds until the process had ended."""
    email = case.folder / "out" / "email.jsonl"
    size = email.stat().st_size if email.exists() else 0
    while process.poll() is None and (not email.exists() or email.stat().st_size <= size):
        time.sleep(0.005)
    began = time.monotonic()
    process.send_signal(number)
    code, said = end_of(process)
    assert code == 0, said
    assert "stopped" in said
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("number", "processes"), [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGTERM, 2)]
)
def test_a_stopped_run_goes_on(tmp_path: Path, number: int, processes: int) -> None:
    case = simulated(tmp_path, 4_000)
    for _ in range(2):
        assert stopped(start(case, processes), case, number) < 10
    told = finished(case, processes)
    assert told.essence() == run_threads(case).essence()


def test_stopped_before_anything_was_read(tmp_path: Path) -> None:
    case = simulated(tmp_path, 500)
    process = start(case)
    while process.poll() is None and not (tmp_path / "state" / "run.json").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    code, said = end_of(process)
    assert code in (0, -signal.SIGTERM), said
    assert finished(case).essence() == run_threads(case).essence()


def test_the_command_says_how_it_goes_on(tmp_path: Path) -> None:
    case = simulated(tmp_path, 20_000)
    command = [
        *(sys.executable, "-m", "segue", "run", case.settings.inputs[0], "--out", "out", "--state", "state"),
        *(
            "--policies",
            case.settings.policies[0],
            "--batch",
            "20",
            "--epoch",
            "50ms",
            "--quiet",
            "--no-native",
        ),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    stopped_after = tmp_path / "out" / "email.jsonl"
    while process.poll() is None and not (stopped_after.exists() and stopped_after.stat().st_size):
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    code, said = end_of(process)
    assert code == 0, said
    assert said.startswith("stopped; resumes where it was: segue run ")


def test_when_a_worker_dies_the_others_end_and_a_start_resumes(tmp_path: Path) -> None:
    case = simulated(tmp_path, 2_000)
    code, said = end_of(start(case, 2, "after_delta:3"))
    assert code not in (0, -signal.SIGTERM)
    assert "worker process" in said
    assert finished(case, 2).essence() == run_threads(case).essence()


def test_signals_set_the_flag_while_they_are_listened_to() -> None:
    with stopping_at_an_epoch():
        assert not STOP.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert STOP.wait(5)
    assert not STOP.is_set()


class _Ends:
    """A signal that comes while this goes raises where nothing can be raised."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def test_a_stop_whose_exception_gets_lost_comes_again() -> None:
    def lose_it() -> None:
        _Ends()
        time.sleep(10)

    with pytest.raises(Stopped), stoppable():
        lose_it()


def test_a_stop_whose_exception_got_lost_is_not_forgotten_where_a_run_begins() -> None:
    with stoppable():
        with suppress(Stopped):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped), stopping_at_an_epoch():
            pass


NEVER_ENDING = """
import os, signal, time
from segue import limits
from segue.run.stop import FAILED, stopping_at_an_epoch
limits.STOP_MS_MAX = limits.STOP_LATE_MS = 200
with stopping_at_an_epoch():
    os.kill(os.getpid(), signal.SIGTERM)
    while {goes_on}:
        time.sleep(0.01)
    FAILED.raise_if_set()
"""


@pytest.mark.parametrize("goes_on", ["True", "FAILED._error is None"])
def test_who_does_not_end_in_time_is_ended(goes_on: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", NEVER_ENDING.format(goes_on=goes_on)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "stop: the epoch under way could not be finished" in ended.stderr


def test_the_first_failure_is_the_one_that_is_told() -> None:
    failed = Failed()
    failed.raise_if_set()
    failed.set(SinkError("send", "the broker is gone"))
    failed.set(SinkError("send", "another"))
    with pytest.raises(SinkError, match="the broker is gone"):
        failed.raise_if_set()
    failed.clear()
    failed.raise_if_set()
    FAILED.raise_if_set()
