"""`segue` that tells at its end which kernels it, or a worker process of its, compiled or loaded beyond those of the
warm-up: python -m tests.kafka.watched run …"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from segue.cli import main
from segue.run import worker
from segue.run.warmup import warm_up
from tests.run.test_run_warmup import compiled

TELLS = "after the warm-up"
WATCHED = "workers watched"
_FOLDER_VARIABLE = "SEGUE_WATCHED_FOLDER"  # of the process that watches: to its workers
_KNOWN = "known.json"  # there: the kernels of the warm-up

Kernels = set[tuple[str, str, str]]


class _Watching(subprocess.Popen[bytes]):
    """A process; a worker is started as this module."""

    def __init__(self, command: list[str], **options: Any) -> None:
        words = [__spec__.name if word == worker.__name__ else word for word in command]
        super().__init__(words, **options)


def _run(folder: Path) -> None:
    """The command itself. A worker loads what it needs as it goes, as ever: only this process warms up."""
    warm_up(lambda _: contextlib.nullcontext())
    known = compiled()
    (folder / _KNOWN).write_bytes(msgspec.json.encode(known))
    os.environ[_FOLDER_VARIABLE] = str(folder)
    subprocess.Popen = _Watching  # type: ignore[misc]
    try:
        main()
    finally:
        reports = sorted(folder.glob("worker-*"))
        for path in reports:
            _tell(path.name, msgspec.json.decode(path.read_bytes(), type=Kernels))
        _tell("", compiled() - known)
        print(f"{WATCHED}: {len(reports)}")


def _tell(who: str, kernels: Kernels) -> None:
    for kernel in sorted(kernels):
        print(f"{TELLS}, {who}: {kernel}" if who else f"{TELLS}: {kernel}")


def _work(folder: Path) -> int:
    """A worker process; its number is its second argument."""
    code = worker.main(sys.argv[1:])
    known = msgspec.json.decode((folder / _KNOWN).read_bytes(), type=Kernels)
    (folder / f"worker-{sys.argv[2]}").write_bytes(msgspec.json.encode(compiled() - known))
    return code


if __name__ == "__main__":
    if _FOLDER_VARIABLE in os.environ:
        sys.exit(_work(Path(os.environ[_FOLDER_VARIABLE])))
    with tempfile.TemporaryDirectory(prefix="segue-") as own:
        _run(Path(own))
