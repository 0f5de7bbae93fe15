"""A run with state in a process of its own, to be killed: python -m tests.flows.resumable SETTINGS PROCESSES"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from segue.run.failure import NothingToDo
from segue.run.kill import VARIABLE
from segue.run.progress import Silent
from segue.run.report import Summary
from segue.run.runner import SUMMARY_FILE, prepare, run
from segue.settings import Settings
from tests.flows.runs import Case, Told, told_in

KILLED = -signal.SIGKILL


def main(path: str, processes: str) -> int:
    """The run; 0 when it is finished or was stopped."""
    settings = msgspec.json.decode(Path(path).read_bytes(), type=Settings)
    try:
        run(prepare(settings, int(processes)), Silent())
    except NothingToDo as nothing:
        print(nothing)
    return 0


def start(case: Case, processes: int = 1, kill_at: str = "") -> subprocess.Popen[str]:
    """The run of a case in a process; it writes to the case's folders "out" and "state"."""
    folders = {"out": str(case.folder / "out"), "state": str(case.folder / "state")}
    # in the virtual machine there is nothing to compile for each process
    settings = msgspec.structs.replace(case.settings, **folders, epoch_ms=50, native=False)
    path = case.folder / "settings.json"
    path.write_bytes(msgspec.json.encode(settings))
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if kill_at:
        environment[VARIABLE] = kill_at
    return subprocess.Popen(
        [sys.executable, "-m", "tests.flows.resumable", str(path), str(processes)],
        env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """(exit code, all it said)."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out + err


def killed_after(case: Case, seconds: float, processes: int = 1) -> bool:
    """Start the run and kill it so long after its state folder was there; whether it was still running."""
    process = start(case, processes)
    store = case.folder / "state" / "run.json"
    while not store.exists() and process.poll() is None:
        time.sleep(0.005)
    time.sleep(seconds)
    process.kill()
    code, said = end_of(process)
    assert code in (0, KILLED), said
    return code == KILLED


def finished(case: Case, processes: int = 1) -> Told:
    """Run to the end; what all runs of the case together wrote."""
    code, said = end_of(start(case, processes))
    assert code == 0, said
    out = case.folder / "out"
    return told_in(out, msgspec.json.decode((out / SUMMARY_FILE).read_bytes(), type=Summary))


def with_kills(case: Case, kills: Iterable[str], processes: Sequence[int] = (1,)) -> Told:
    """Run and die at each point in turn, then run to the end (`processes`: of each start)."""
    numbers = list(processes)
    for kill_at in kills:
        number = numbers.pop(0) if len(numbers) > 1 else numbers[0]
        code, said = end_of(start(case, number, kill_at))
        assert code != 0, f"{kill_at} was not come by: {said}"
        assert code == KILLED or "SIGKILL" in said, said
    return finished(case, numbers[-1])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
