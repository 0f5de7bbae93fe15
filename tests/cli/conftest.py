"""Events for the command line's tests, simulated once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segue.simulate import SimulationSettings, write_simulation

Segue = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def events_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20,000 events of 1,000 shoppers."""
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    with open(path, "wb") as file:
        write_simulation(SimulationSettings(customers=1_000, events=20_000), file)
    return path


def bound(file_bytes_max: int | None) -> list[str]:
    """What starts a command that may write no larger file. Not a `preexec_fn`: that forks the test process, for which
    a machine may have too little memory left."""
    if file_bytes_max is None:
        return []
    program = (
        "import os, resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({file_bytes_max}, {file_bytes_max}))\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    return [sys.executable, "-c", program]


@pytest.fixture
def segue(tmp_path: Path) -> Segue:
    """Run the command in a process and folder of its own."""

    def call(
        *arguments: str | Path,
        stdin: bytes | None = None,
        file_bytes_max: int | None = None,
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*bound(file_bytes_max), sys.executable, "-m", "segue", *map(str, arguments)],
            check=False,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "200", **variables},
            timeout=240,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    return call


@pytest.fixture(autouse=True, scope="session")
def _compiled() -> None:
    """Kernels are there before any test bounds what its process may write."""
    from contextlib import nullcontext

    from segue.run.warmup import is_warm, warm_up

    if not is_warm():
        warm_up(lambda _: nullcontext())
