"""A chaos run: load, disturbances drawn from a seed, and whether the topics are right at the end.

The engine is a process started by its command line; nothing here knows how it works. After every few steps the load is
stopped until everything is decided, and the topics are compared with an undisturbed run (verify.py).
"""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import typer
from confluent_kafka import Consumer, KafkaException, TopicPartition

from segue.chaos.broker import Broker, own_broker
from segue.chaos.engine import ChaosError, EngineProcess
from segue.chaos.load import POLICY, Load
from segue.chaos.oracle import EngineOracle
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
from segue.chaos.topics import make_topics
from segue.chaos.verify import Oracle, Verdict, read_input, read_output, rules_of, verify
from segue.errors import SegueError
from segue.kafka.settings import InputTopic, KafkaSettings
from segue.policy.load import load_policies
from segue.settings import Settings, secret

PARTITIONS = 3
LATENESS_MS = 45_000  # longer than any outage of a run
WAITS_MS = 13_000  # longer than any wait of the policy
CHECK_EVERY = 6  # steps
START_S_MAX = 90.0  # from a start to the first decision: two cores may be shared by many
CATCH_UP_S_MAX = 120.0
POINT_S_MAX = 20.0  # for a kill point to be reached; some lie on ways that are seldom taken
FENCED_S_MAX = 60.0
_DUE_MARGIN_MS = 5_000  # between a timer's becoming due for good and its action's being demanded
_LOOK_S = 0.3
_BROKER_S_MAX = 30.0  # for an answer, after it was away


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
    engine: tuple[str, ...] = (sys.executable, "-m", "segue", "run")
    epoch_ms: int = 200
    lateness_ms: int = LATENESS_MS

    def command(self) -> str:
        """What repeats the run."""
        words = ["segue", "chaos", "--seed", str(self.seed), "--minutes", f"{self.minutes:g}"]
        words += ["--processes", str(self.processes), "--rate", f"{self.rate:g}"]
        words += ["--brokers", self.brokers] if self.brokers else []
        return shlex.join(words)


class _LoadThread:
    """Load without a pause, until it is told to stop."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._load.run(0.25)
        except BaseException as error:
            self._failure = error

    def finish(self) -> None:
        """Stop, once everything is in the topics."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        self._load.finish()


@dataclass
class ChaosRun:
    """The state of a run. `tell` gets a line for people."""

    chosen: ChaosSettings
    folder: Path
    tell: Callable[[str], None]
    oracle_of: Callable[[Settings], Oracle]
    done: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._broker: Broker | None = None
        self._engine: EngineProcess | None = None
        self._starts = 0
        self._state = 1
        self._processes = 1
        self._begun = time.monotonic()

    def run(self) -> Verdict:
        """Everything. Raises ChaosError, or what else went wrong."""
        chosen = self.chosen
        try:
            brokers = chosen.brokers
            if not brokers:
                self._broker = own_broker(self.folder / "broker")
                brokers = self._broker.brokers
            self._prepare(brokers)
            load = Load(brokers, self.settings.kafka.topics, PARTITIONS, chosen.seed, chosen.rate)
            deadline = time.monotonic() + 60 * chosen.minutes
            self._start()
            plan = steps(chosen.seed, chosen.processes, broker=self._broker is not None)
            number = 0
            while number < chosen.steps_max and (number == 0 or time.monotonic() < deadline):
                thread = _LoadThread(load)
                try:
                    self._wait_for_life()  # one that is still starting would fence whoever takes over from it
                    for _ in range(CHECK_EVERY):
                        number += 1
                        self._disturb(number, next(plan))
                        if time.monotonic() > deadline or number == chosen.steps_max:
                            break
                finally:
                    thread.finish()
                self._check(catch_up_timers=False)
            verdict = self._check(catch_up_timers=True)
            self._stop()
            return verdict
        finally:
            if self._engine is not None:
                self._engine.kill()
            if self._broker is not None:
                self._broker.kill()

    # --- the set-up -------------------------------------------------------------------------------------

    def _prepare(self, brokers: str) -> None:
        policy = self.folder / "chaos.toml"
        policy.write_text(POLICY)
        name = f"chaos-{self.chosen.seed}-{time.time_ns() // 1_000_000}"
        topics = (
            InputTopic(f"{name}.bare", "json"),
            InputTopic(f"{name}.headers", "cloudevents"),
            InputTopic(f"{name}.many", "many"),
        )
        self.settings = Settings(
            policies=(str(policy),),
            lateness_ms=self.chosen.lateness_ms,
            live=True,
            kafka=KafkaSettings(brokers=brokers, name=name, topics=topics, prefix=f"{name}.out."),
        )
        config = {"message.timestamp.type": "LogAppendTime"}
        make_topics(brokers, {topic.name: PARTITIONS for topic in topics}, config)
        self._consumer = Consumer({"bootstrap.servers": brokers, "group.id": "segue-chaos"})
        policies = load_policies(self.settings.policies, secret=secret(), native=False)
        self._rules = rules_of(policies)
        outputs = sorted({offer.channel for offer in policies.offer_infos})
        outputs += ["decisions", "changes", "joins", "dead_letters", "late", "heartbeat"]
        make_topics(brokers, {f"{name}.out.{output}": self.settings.kafka.lanes for output in outputs})

    @property
    def _state_folder(self) -> Path:
        return self.folder / f"state-{self._state}"

    def _engine_command(self) -> list[str]:
        kafka = self.settings.kafka
        words = [
            *self.chosen.engine,
            "--brokers",
            kafka.brokers,
            "--prefix",
            kafka.prefix,
            "--name",
            kafka.name,
        ]
        for topic in kafka.topics:
            words += ["--topic", f"{topic.name}:{topic.form}"]
        words += ["--policies", self.settings.policies[0], "--lanes", str(kafka.lanes)]
        words += ["--state", str(self._state_folder), "--epoch", f"{self.chosen.epoch_ms}ms"]
        words += ["--lateness", f"{self.chosen.lateness_ms}ms", "--processes", str(self._processes)]
        return words

    # --- the engine -------------------------------------------------------------------------------------

    def _launch(self, kill_at: str = "") -> EngineProcess:
        self._starts += 1
        log = self.folder / f"engine-{self._starts:04d}.log"
        return EngineProcess(self._engine_command(), log, kill_at)

    def _start(self, kill_at: str = "") -> EngineProcess:
        self._engine = self._launch(kill_at)
        return self._engine

    def _running(self) -> EngineProcess:
        """The engine, which must not have ended by itself."""
        assert self._engine is not None
        if self._engine.code is not None:
            found = f"it ended by itself with code {self._engine.code}\n{self._engine.last_words()}"
            raise ChaosError("keep the engine running", found)
        return self._engine

    def _stop(self) -> None:
        code = self._running().terminate()
        if code != 0:
            assert self._engine is not None
            raise ChaosError("stop the engine", f"SIGTERM ended it with {code}\n{self._engine.last_words()}")

    def _written(self) -> int:
        """How far the decision log has come."""
        topic = f"{self.settings.kafka.prefix}decisions"
        return sum(self._end(TopicPartition(topic, lane)) for lane in range(self.settings.kafka.lanes))

    def _end(self, place: TopicPartition) -> int:
        """Where a partition ends; a broker that has just come back is asked again."""
        deadline = time.monotonic() + _BROKER_S_MAX
        while True:
            try:
                ends = self._consumer.get_watermark_offsets(place, timeout=_BROKER_S_MAX)
                if ends is not None:
                    return int(ends[1])
                found = "no answer"
            except KafkaException as error:
                found = str(error)
            if time.monotonic() > deadline:
                raise ChaosError("look at the decision log", found, "is the broker up?")
            time.sleep(_LOOK_S)

    def _wait_for_life(self, *, may_end: bool = False) -> None:
        """Until the engine writes again. may_end: it may give up meanwhile, for the broker was away; then it is
        started again, as whatever supervises it would."""
        before = self._written()
        deadline = time.monotonic() + START_S_MAX
        while True:
            if may_end and self._engine is not None and self._engine.code is not None:
                self.tell(f"       the engine ended with {self._engine.code} and is started again")
                self._start()
            engine = self._running()
            if self._written() > before:
                return
            if time.monotonic() > deadline:
                found = f"no decision for {START_S_MAX:.0f} s\n{engine.last_words()}"
                raise ChaosError("wait for the engine", found)
            time.sleep(_LOOK_S)

    # --- what happens to it -------------------------------------------------------------------------------

    def _disturb(self, number: int, step: Step) -> None:
        self.tell(f"{self._clock()} {number:4d}  {step}")
        self.done.append(step)
        time.sleep(step.quiet_s)
        engine = self._running()
        if step.kind in (BROKER_KILL, BROKER_PAUSE):
            self._disturb_broker(step)
            return
        if step.kind == ZOMBIE:
            self._outlive(engine, step)
            return
        if step.kind == STOP:
            self._stop()
        elif step.kind == KILL_ONE:
            engine.kill_one(number)
            if engine.wait(START_S_MAX) == 0:
                raise ChaosError("kill one process", f"the others ended with 0\n{engine.last_words()}")
        else:
            engine.kill()
        self._processes = step.processes
        if step.kind in (KILL_AT, TWICE):
            self._start(step.point)
            self._crash(POINT_S_MAX if step.kind == KILL_AT else step.pause_s)
        assert step.kind in (KILL, KILL_AT, KILL_ONE, STOP, TWICE)
        self._start()
        self._wait_for_life()

    def _crash(self, seconds: float) -> None:
        """Until the engine has killed itself at its point; after so many seconds it is killed."""
        engine = self._engine
        assert engine is not None
        deadline = time.monotonic() + seconds
        while engine.code is None and time.monotonic() < deadline:
            time.sleep(_LOOK_S / 10)
        if engine.code is None:
            self.tell("            the point was not reached: killed as it ran")
            engine.kill()
        elif engine.code != -signal.SIGKILL and (self._processes == 1 or engine.code == 0):
            # of several processes one kills itself, and the others say so
            found = f"it ended with code {engine.code} before its point\n{engine.last_words()}"
            raise ChaosError("kill the engine at a point", found)

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
        self._wait_for_life(may_end=True)

    def _outlive(self, old: EngineProcess, step: Step) -> None:
        """The engine stands still while a second one goes on from its state, as on another machine; then it wakes."""
        old.pause()
        before = self._state_folder
        self._state += 1
        if before.exists():
            shutil.copytree(before, self._state_folder)
        self._processes = step.processes
        self._start()
        time.sleep(step.pause_s)
        self._wait_for_life()
        old.resume()
        try:
            if old.wait(FENCED_S_MAX) == 0:
                raise ChaosError("wake the zombie", f"it ended with 0\n{old.last_words()}")
        finally:
            old.kill()
        self._wait_for_life()

    # --- whether it is right --------------------------------------------------------------------------------

    def _check(self, *, catch_up_timers: bool) -> Verdict:
        """Until nothing is missing; fails at once on what is there and must not be."""
        now_ms = round(time.time() * 1_000)
        due_ms = now_ms - self.chosen.lateness_ms - _DUE_MARGIN_MS
        if catch_up_timers:  # all that the load has begun
            self.tell(f"{self._clock()}       waiting for the last timers")
            time.sleep((WAITS_MS + now_ms - due_ms) / 1_000)
            due_ms = now_ms + WAITS_MS
        oracle = self.oracle_of(self.settings)
        kafka = self.settings.kafka
        deadline = time.monotonic() + CATCH_UP_S_MAX
        while True:
            self._running()
            output = read_output(kafka.brokers, kafka.prefix)
            verdict = verify(
                read_input(kafka.brokers, kafka.topics),
                output,
                oracle,
                self._rules,
                kafka,
                lateness_ms=self.chosen.lateness_ms,
                due_ms=due_ms,
                may_ms=round(time.time() * 1_000),
            )
            if verdict.ok:
                said = sum(counts.found for counts in verdict.outputs.values())
                repeated = sum(counts.repeated for counts in verdict.outputs.values())
                self.tell(
                    f"{self._clock()}       right: {verdict.events:,} events, {said:,} messages and rows, "
                    f"{repeated:,} repeats where they are allowed"
                )
                return verdict
            if verdict.beyond_repair or time.monotonic() > deadline:
                (self.folder / "verdict.txt").write_text(f"{verdict}\n")
                raise ChaosError("compare with an undisturbed run", str(verdict))
            time.sleep(1.0)

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self._begun)
        return f"{seconds // 60:3d}:{seconds % 60:02d}"


def engine_oracle(settings: Settings) -> Oracle:
    """The engine itself, undisturbed."""
    policies = load_policies(settings.policies, secret=secret(), native=False)
    return EngineOracle(policies, settings.engine(), settings.currency)


def run_chaos(
    chosen: ChaosSettings,
    tell: Callable[[str], None] = typer.echo,
    oracle_of: Callable[[Settings], Oracle] = engine_oracle,
) -> int:
    """Run it; 0 if everything was right, else 1, with the command that repeats it and the folder with what is left."""
    folder = Path(chosen.folder or tempfile.mkdtemp(prefix="segue-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    run = ChaosRun(chosen, folder, tell, oracle_of)
    tell(f"seed {chosen.seed}, {chosen.minutes:g} min; everything is in {folder}")
    try:
        verdict = run.run()
    except (SegueError, OSError) as error:
        tell(f"\n{error}\n")
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
