"""The largest kernels compiled in processes of their own, while the first process compiles the rest.

A compiler takes one core; what it makes is kept on disk, where everybody finds it (segue_kernels.jit.cache_folder).
On two cores everything is compiled in 40 seconds instead of 65.

    python -m segue.run.ahead engine|histories
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from segue.decide.engine import ShardEngine
from segue.policy.load import load_policies
from segue.routing.arrivals import Released
from segue.settings import Settings, secret
from segue_kernels.route import no_rows


def _engine(engine: ShardEngine) -> None:
    records, text = no_rows()
    engine.process(Released(records, text))


def _histories(engine: ShardEngine) -> None:
    state = engine.state
    state.join(0, state.history(0), 1)


PARTS: dict[str, Callable[[ShardEngine], None]] = {"engine": _engine, "histories": _histories}


@contextmanager
def compiling_ahead(nothing: bool) -> Iterator[Callable[[], None]]:
    """Compile PARTS (or nothing, if that was done before) beside what is done inside; call what is given to wait.

    A part that fails is compiled by whoever needs it, which then says why.
    """
    if nothing or (os.cpu_count() or 1) < 2:
        yield lambda: None
        return
    commands = [[sys.executable, "-m", "segue.run.ahead", part] for part in PARTS]
    started = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in commands
    ]

    def wait() -> None:
        for process in started:
            process.wait()

    try:
        yield wait
    finally:
        for process in started:
            process.kill()
            process.wait()


def main(part: str) -> None:
    """Compile one part."""
    policies = load_policies((), secret=secret(), native=False)
    PARTS[part](ShardEngine(policies, Settings(shards=1).engine()))


if __name__ == "__main__":
    main(sys.argv[1])
