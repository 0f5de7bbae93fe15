"""A chaos run: load, disturbances drawn from a seed, and whether the topics are right at the end.

The engine is a process started by its command line; nothing here knows how it works. After every few steps the load is
stopped until everything is decided, and the topics are compared with an undisturbed run (verify.py).
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from segue.chaos.broker import own_broker
from segue.chaos.deployment import (
    LATENESS_MS,
    POINT_S_MAX,
    SEGUE_RUN,
    START_S_MAX,
    Deployment,
    DeploymentSettings,
    Tell,
    engine_oracle,
)
from segue.chaos.engine import ChaosError, EngineProcess
from segue.chaos.schedule import (
    BROKER_KILL,
    BROKER_PAUSE,
    KILL,
    KILL_AT,
    KILL_ONE,
    STOP,
    TWICE,
    ZOMBIE,
    Step,
    steps,
)
from segue.chaos.verify import Oracle, Verdict
from segue.errors import SegueError
from segue.settings import Settings

if TYPE_CHECKING:
    from deploy.kafka.broker import Broker

WAITS_MS = 13_000  # longer than any wait of the policy
CHECK_EVERY = 6  # steps
FENCED_S_MAX = 60.0


@dataclass(frozen=True)
class ChaosSettings:
    """One run. `engine`: the command that stands for `segue run`; `processes`: at most so many.

    brokers  of a broker that is there; "" = an own one, which is disturbed too
    folder   everything that the run leaves; "" = a temporary one, kept only after a failure
    """

    seed: int
    minutes: float
    processes: int = 1
    rate: float = 500.0
    brokers: str = ""
    folder: str = ""
    steps_max: int = 1 << 30
    engine: tuple[str, ...] = SEGUE_RUN
    lateness_ms: int = LATENESS_MS

    def command(self) -> str:
        """What repeats the run."""
        words = ["segue", "chaos", "--seed", str(self.seed), "--minutes", f"{self.minutes:g}"]
        words += ["--processes", str(self.processes), "--rate", f"{self.rate:g}"]
        words += ["--brokers", self.brokers] if self.brokers else []
        return shlex.join(words)


@dataclass
class ChaosRun:
    """The state of a run. `tell` gets a line for people."""

    chosen: ChaosSettings
    folder: Path
    tell: Tell
    oracle_of: Callable[[Settings], Oracle]
    done: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._broker: Broker | None = None
        self._begun = time.monotonic()

    def run(self) -> Verdict:
        """Everything. Raises ChaosError, or what else went wrong."""
        chosen = self.chosen
        try:
            brokers = chosen.brokers
            if not brokers:
                self._broker = own_broker(self.folder / "broker")
                brokers = self._broker.brokers
            settings = DeploymentSettings(
                seed=chosen.seed, rate=chosen.rate, lateness_ms=chosen.lateness_ms, engine=chosen.engine
            )
            self._deployment = Deployment(brokers, self.folder, settings, self.tell, self.oracle_of)
            try:
                return self._disturbed()
            finally:
                self._deployment.close()
        finally:
            if self._broker is not None:
                self._broker.kill()

    def _disturbed(self) -> Verdict:
        chosen, deployment = self.chosen, self._deployment
        deadline = time.monotonic() + 60 * chosen.minutes
        deployment.start()
        plan = steps(chosen.seed, chosen.processes, broker=self._broker is not None)
        number = 0
        while number < chosen.steps_max and (number == 0 or time.monotonic() < deadline):
            with deployment.under_load():
                deployment.wait_for_life()  # one that is still starting would fence whoever takes over from it
                for _ in range(CHECK_EVERY):
                    number += 1
                    self._disturb(number, next(plan))
                    if time.monotonic() > deadline or number == chosen.steps_max:
                        break
            self._check(None)
        # all that the load has begun
        now_ms = round(time.time() * 1_000)
        self.tell(f"{self._clock()}       waiting for the last timers")
        time.sleep((WAITS_MS + now_ms - deployment.due_ms()) / 1_000)
        verdict = self._check(now_ms + WAITS_MS)
        deployment.stop()
        return verdict

    # --- what happens to it -------------------------------------------------------------------------------

    def _disturb(self, number: int, step: Step) -> None:
        self.tell(f"{self._clock()} {number:4d}  {step}")
        self.done.append(step)
        time.sleep(step.quiet_s)
        deployment = self._deployment
        engine = deployment.running()
        if step.kind in (BROKER_KILL, BROKER_PAUSE):
            self._disturb_broker(step)
            return
        if step.kind == ZOMBIE:
            self._outlive(engine, step)
            return
        if step.kind == STOP:
            deployment.stop()
        elif step.kind == KILL_ONE:
            engine.kill_one(number)
            if engine.wait(START_S_MAX) == 0:
                raise ChaosError("kill one process", f"the others ended with 0\n{engine.last_words()}")
        else:
            engine.kill()
        deployment.processes = step.processes
        if step.kind in (KILL_AT, TWICE):
            deployment.start(step.point)
            if not deployment.crash(POINT_S_MAX if step.kind == KILL_AT else step.pause_s):
                self.tell("            the point was not reached: killed as it ran")
        assert step.kind in (KILL, KILL_AT, KILL_ONE, STOP, TWICE)
        deployment.start()
        deployment.wait_for_life()

    def _disturb_broker(self, step: Step) -> None:
        assert self._broker is not None
        if step.kind == BROKER_KILL:
            self._broker.kill()
            time.sleep(step.pause_s)
            self._broker.start(dies_with_parent=True)
        else:
            self._broker.pause()
            time.sleep(step.pause_s)
            self._broker.resume()
        self._deployment.wait_for_life(may_end=True)

    def _outlive(self, old: EngineProcess, step: Step) -> None:
        """The engine stands still while a second one goes on from its state, as on another machine; then it wakes."""
        deployment = self._deployment
        old.pause()
        deployment.take_state_along()
        deployment.processes = step.processes
        deployment.start()
        time.sleep(step.pause_s)
        deployment.wait_for_life()
        old.resume()
        try:
            if old.wait(FENCED_S_MAX) == 0:
                raise ChaosError("wake the zombie", f"it ended with 0\n{old.last_words()}")
        finally:
            old.kill()
        deployment.wait_for_life()

    # --- whether it is right --------------------------------------------------------------------------------

    def _check(self, due_ms: int | None) -> Verdict:
        verdict = self._deployment.check(due_ms)
        said = sum(counts.found for counts in verdict.outputs.values())
        repeated = sum(counts.repeated for counts in verdict.outputs.values())
        self.tell(
            f"{self._clock()}       right: {verdict.events:,} events, {said:,} messages and rows, "
            f"{repeated:,} repeats where they are allowed"
        )
        return verdict

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self._begun)
        return f"{seconds // 60:3d}:{seconds % 60:02d}"


def run_chaos(
    chosen: ChaosSettings,
    tell: Tell = typer.echo,
    oracle_of: Callable[[Settings], Oracle] = engine_oracle,
) -> int:
    """Run it; 0 if everything was right, else 1, with the command that repeats it and the folder with what is left."""
    folder = Path(chosen.folder or tempfile.mkdtemp(prefix="segue-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    run = ChaosRun(chosen, folder, tell, oracle_of)
    tell(f"seed {chosen.seed}, {chosen.minutes:g} min; everything is in {folder}")
    try:
        verdict = run.run()
    except Exception as error:  # whatever it is, the run can be repeated
        known = isinstance(error, SegueError | OSError)
        tell(f"\n{error if known else ''.join(traceback.format_exception(error))}\n")
        tell("what was done:")
        for number, step in enumerate(run.done, 1):
            tell(f"  {number}. {step}")
        tell(f"logs, states and the broker's data are kept in {folder}")
        tell(f"to repeat it:  {chosen.command()}")
        return 1
    tell(str(verdict))
    tell(f"right after {len(run.done)} disturbances (seed {chosen.seed})")
    if not chosen.folder:
        shutil.rmtree(folder, ignore_errors=True)
    return 0
