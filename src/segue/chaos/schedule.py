"""What happens to the engine and the broker, drawn from a seed: the same seed gives the same steps in order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from segue.run.kill import POINTS

KILL, KILL_ONE, KILL_AT, TWICE, STOP, ZOMBIE, BROKER_KILL, BROKER_PAUSE = (
    "kill",
    "kill_one",
    "kill_at",
    "twice",
    "stop",
    "zombie",
    "broker_kill",
    "broker_pause",
)
_WEIGHTS = {KILL: 4, KILL_ONE: 2, KILL_AT: 7, TWICE: 3, STOP: 3, ZOMBIE: 2, BROKER_KILL: 1, BROKER_PAUSE: 1}
_PASSES_MAX = 60  # of a kill point before it kills


@dataclass(frozen=True)
class Step:
    """One disturbance.

    kind        what happens
    quiet_s     undisturbed load before it
    point       "name:n" of a named kill point: the n-th pass kills (KILL_AT, and the second crash of TWICE)
    pause_s     how long the engine stands still (ZOMBIE), the broker is gone (BROKER_*), or runs between two crashes
    processes   of the engine when it is started again
    """

    kind: str
    quiet_s: float
    point: str = ""
    pause_s: float = 0.0
    processes: int = 1

    def __str__(self) -> str:
        words = {
            KILL: "kill -9",
            KILL_ONE: "kill -9 of one process",
            KILL_AT: f"kill -9 at {self.point}",
            TWICE: f"kill -9, and again {self.pause_s:.1f} s after the start or at {self.point}",
            STOP: "SIGTERM",
            ZOMBIE: f"standing still for {self.pause_s:.1f} s while a second engine takes over",
            BROKER_KILL: f"broker killed, back after {self.pause_s:.1f} s",
            BROKER_PAUSE: f"broker stands still for {self.pause_s:.1f} s",
        }
        then = "" if self.kind in (BROKER_KILL, BROKER_PAUSE) else f"; then {self.processes} process(es)"
        return f"after {self.quiet_s:.1f} s: {words[self.kind]}{then}"


def steps(seed: int, processes_max: int, *, broker: bool) -> Iterator[Step]:
    """Endlessly many steps. broker: whether the broker may be disturbed."""
    chance = random.Random(f"chaos {seed}")
    kinds = [kind for kind in _WEIGHTS if broker or kind not in (BROKER_KILL, BROKER_PAUSE)]
    weights = [_WEIGHTS[kind] for kind in kinds]
    while True:
        kind = chance.choices(kinds, weights)[0]
        # drawn always, so that a step does not depend on what the others are
        point = f"{chance.choice(POINTS)}:{chance.randint(1, _PASSES_MAX)}"
        quiet_s, pause_s = chance.uniform(1, 6), chance.uniform(0.2, 8)
        processes = chance.randint(1, processes_max)
        yield Step(
            kind,
            quiet_s,
            point if kind in (KILL_AT, TWICE) else "",
            pause_s if kind in (TWICE, ZOMBIE, BROKER_KILL, BROKER_PAUSE) else 0.0,
            processes,
        )
