"""The engine as a process that is started, killed, stopped and made to stand still; each start has a log of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from segue.errors import SegueError

KILL_AT_VARIABLE = "SEGUE_KILL_AT"
STOP_S_MAX = 10.0  # from SIGTERM to the end
_GONE_S_MAX = 20.0
_LOG_LINES = 15
_LOOK_S = 0.02


class ChaosError(SegueError):
    """Something held that must not, or did not hold that must."""


class EngineProcess:
    """One start of the engine. `command` is complete; its output goes to the log."""

    def __init__(
        self, command: Sequence[str], log: Path, kill_at: str = "", environment: Mapping[str, str] = {}
    ) -> None:
        inherited = {name: text for name, text in os.environ.items() if name != KILL_AT_VARIABLE}
        environment = {**inherited, **environment}
        if kill_at:
            environment[KILL_AT_VARIABLE] = kill_at
        self.log = log
        with open(log, "wb") as file:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def family(self) -> list[int]:
        """It and all processes it started, itself first."""
        return list(_family(self._process.pid)) if self.code is None else []

    def kill(self) -> None:
        """kill -9 of everything at once: as when the machine goes."""
        for pid in self.family():
            _signal(pid, signal.SIGKILL)
        self.wait(_GONE_S_MAX)

    def kill_one(self, which: int) -> None:
        """kill -9 of one process; the others have to see to it themselves."""
        family = self.family()
        if family:
            _signal(family[which % len(family)], signal.SIGKILL)

    def send(self, number: int) -> None:
        """A signal to the process that was started."""
        _signal(self._process.pid, number)

    def pause(self) -> None:
        """It stands still, with all connections and locks."""
        for pid in self.family():
            _signal(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """After `pause`."""
        for pid in self.family():
            _signal(pid, signal.SIGCONT)

    def wait(self, seconds: float) -> int:
        """Its exit code, once it has ended."""
        deadline = time.monotonic() + seconds
        while self.code is None:
            if time.monotonic() > deadline:
                raise ChaosError(
                    "stop the engine", f"it still runs after {seconds:.0f} s\n{self.last_words()}"
                )
            time.sleep(_LOOK_S)
        return int(self._process.returncode)

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return "\n".join([f"{self.log} ends with:", *(f"  {line}" for line in lines)])


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                yield from _family(int(child))
