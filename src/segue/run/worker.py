"""One worker process of a run: python -m segue.run.worker FOLDER PROCESS FD ADDRESS…

FD is a pipe that closes when the process that started this one goes; then this one goes too.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from pathlib import Path

import msgspec

from segue.errors import SegueError, root_cause
from segue.run.execute import execute, state_folder
from segue.run.failure import as_failure, say_warnings
from segue.run.runner import WorkerReport, report_path
from segue.run.stop import STARTED, STOP, stop_on_signals
from segue.settings import load_settings
from segue.sources.open import open_source

_LOOK_S = 0.002
_HEAD_START_S = 0.02


def main(arguments: list[str]) -> int:
    """Run this process's share of the flow; 0, or 1 with the failure in the report."""
    folder, process, alive, *addresses = arguments
    threading.Thread(target=_go_with, args=(int(alive),), daemon=True).start()
    say_warnings()
    path = report_path(Path(folder), int(process))
    noted: list[SegueError] = []

    def note(error: SegueError) -> None:
        # the first is the cause; a panic that follows may hide it, or end this process before it can tell
        if not noted:
            noted.append(error)
            _write(path, WorkerReport(failure=as_failure(error)))

    SegueError.noted = note
    report = WorkerReport()
    try:
        settings = load_settings()
        source = open_source(settings)
        state = None
        if settings.state:
            stop_on_signals()
            threading.Thread(target=_go_when_stopped, daemon=True).start()
            state = state_folder(settings, source, int(process), len(addresses))

        def ready() -> None:
            _wait_for_the_others(Path(folder), int(process), len(addresses))
            report.started = time.time()

        execute(settings, source, state, addresses, int(process), ready=ready)
        report.ended = time.time()
    except BaseException as error:  # Rust's panics are no Exception
        traceback.print_exc()
        cause = root_cause(error)
        report.failure = as_failure(noted[0] if noted and not isinstance(cause, SegueError) else cause)
    _write(path, report)
    return 1 if report.failure else 0


def _wait_for_the_others(folder: Path, process: int, processes: int) -> None:
    """Return when every process is ready, the first a little earlier: whoever finds nobody listening waits a second.

    If one of them dies, whoever started them ends this one.
    """
    (folder / f"ready-{process}").touch()
    while not all((folder / f"ready-{other}").exists() for other in range(processes)):
        time.sleep(_LOOK_S)
    time.sleep(process * _HEAD_START_S)


def _write(path: Path, report: WorkerReport) -> None:
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(msgspec.json.encode(report))
    unfinished.rename(path)


def _go_when_stopped() -> None:
    """Before the cluster is there a stop ends this process at once: nothing has begun, and Bytewax would go on waiting
    for a peer that has gone."""
    STOP.wait()
    if not STARTED.is_set():
        os._exit(0)


def _go_with(alive: int) -> None:
    os.read(alive, 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
