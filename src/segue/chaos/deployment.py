"""A deployment under test: its topics and load, the engine that is started and ended, and whether all is right."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from segue.chaos.engine import STOP_S_MAX, ChaosError, EngineProcess
from segue.chaos.load import POLICY, Load
from segue.chaos.oracle import EngineOracle
from segue.chaos.topics import make_topics
from segue.chaos.verify import Oracle, Verdict, read_input, read_output, rules_of, verify
from segue.kafka.settings import InputTopic, KafkaSettings
from segue.kafka.topics import output_topic
from segue.outputs import DECISIONS
from segue.policy.load import load_policies
from segue.run.runner import free_addresses
from segue.run.warmup import is_warm, warm_up
from segue.settings import SETTINGS_VARIABLE, Settings, save_settings, secret

PARTITIONS = 3
LATENESS_MS = 45_000  # longer than any outage of a run
START_S_MAX = 90.0  # from a start to the first decision: two cores may be shared by many
CATCH_UP_S_MAX = 120.0
POINT_S_MAX = 20.0  # for a kill point to be reached; some lie on ways that are seldom taken
SEGUE_RUN = (sys.executable, "-m", "segue", "run")
_DUE_MARGIN_MS = 5_000  # between a timer's becoming due for good and its action's being demanded
_LOOK_S = 0.05
_CHECK_S = 1.0
_BROKER_S_MAX = 30.0  # for an answer, after it was away

Tell = Callable[[str], None]


@dataclass(frozen=True)
class DeploymentSettings:
    """What is tried. `engine`: the command that stands for `segue run`."""

    seed: int = 1
    rate: float = 500.0
    shards: int = 4
    lanes: int = 2
    epoch_ms: int = 200
    lateness_ms: int = LATENESS_MS
    engine: tuple[str, ...] = SEGUE_RUN


def engine_oracle(settings: Settings) -> Oracle:
    """The engine itself, undisturbed."""
    policies = load_policies(settings.policies, secret=secret(), native=False)
    return EngineOracle(policies, settings.engine(), settings.currency)


class Deployment:
    """One name, one set of topics, one engine at a time unless `launch` is asked for a second one.

    state      folder of the engine's state
    processes  of the engine at its next start
    """

    def __init__(
        self,
        brokers: str,
        folder: Path,
        chosen: DeploymentSettings,
        tell: Tell = lambda _: None,
        oracle_of: Callable[[Settings], Oracle] = engine_oracle,
    ) -> None:
        self.folder = folder
        self.chosen = chosen
        self.state = folder / "state"
        self.processes = 1
        self._tell = tell
        self._oracle_of = oracle_of
        self._launched: list[EngineProcess] = []
        self._engine: list[EngineProcess] = []  # its processes, as far as they were started one by one
        policy = folder / "chaos.toml"
        policy.write_text(POLICY)
        name = f"chaos-{chosen.seed}-{time.time_ns() // 1_000_000}"
        topics = (
            InputTopic(f"{name}.bare", "json"),
            InputTopic(f"{name}.headers", "cloudevents"),
            InputTopic(f"{name}.many", "many"),
        )
        self.settings = Settings(
            policies=(str(policy),),
            lateness_ms=chosen.lateness_ms,
            live=True,
            shards=chosen.shards,
            epoch_ms=chosen.epoch_ms,
            kafka=KafkaSettings(
                brokers=brokers, name=name, topics=topics, prefix=f"{name}.out.", lanes=chosen.lanes
            ),
        )
        if not is_warm():
            warm_up(self._step, lambda text: self._tell(f"       {text}"))
        policies = load_policies(self.settings.policies, secret=secret())  # compiled for all that start
        self._rules = rules_of(policies, self.settings.timezone)
        make_topics(
            self.settings.kafka, {offer.channel for offer in policies.offer_infos}, partitions=PARTITIONS
        )
        self._load = Load(brokers, topics, PARTITIONS, chosen.seed, chosen.rate)
        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": f"{name}-look",
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )

    def close(self) -> None:
        """End all that was started."""
        for engine in self._launched:
            engine.kill()
        self._consumer.close()

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self._tell(f"       {name}")
        yield

    # --- the engine -------------------------------------------------------------------------------------

    def command(self) -> list[str]:
        """What starts the engine."""
        kafka = self.settings.kafka
        words = [*self.chosen.engine, "--brokers", kafka.brokers, "--prefix", kafka.prefix]
        words += ["--name", kafka.name]
        for topic in kafka.topics:
            words += ["--topic", f"{topic.name}:{topic.form}"]
        words += ["--policies", self.settings.policies[0], "--lanes", str(kafka.lanes)]
        words += ["--shards", str(self.settings.shards), "--state", str(self.state)]
        words += ["--epoch", f"{self.settings.epoch_ms}ms", "--lateness", f"{self.settings.lateness_ms}ms"]
        return [*words, "--processes", str(self.processes)]

    def launch(
        self, kill_at: str = "", command: Sequence[str] = (), environment: Mapping[str, str] = {}
    ) -> EngineProcess:
        """A process of an engine, beside the one that there may be."""
        log = self.folder / f"engine-{len(self._launched) + 1:04d}.log"
        engine = EngineProcess(command or self.command(), log, kill_at, environment)
        self._launched.append(engine)
        return engine

    def start(self, kill_at: str = "") -> EngineProcess:
        """The engine. `kill_at`: "name:n", it kills itself at the n-th pass of a point."""
        engine = self.launch(kill_at)
        self._engine = [engine]
        return engine

    def start_cluster(self, processes: int) -> list[EngineProcess]:
        """The engine as Bytewax's own command starts it, each process on its own."""
        settings = self.folder / "settings.json"
        save_settings(msgspec.structs.replace(self.settings, state=str(self.state)), settings)
        command = [sys.executable, "-m", "bytewax.run", "flows.next_best_action:flow"]
        command += ["-r", str(self.state / "recovery"), "-s", "1", "-b", "60"]  # whole seconds
        addresses = ";".join(free_addresses(processes))
        self._engine = [
            self.launch(
                command=[*command, "-i", str(process), "-a", addresses],
                environment={SETTINGS_VARIABLE: str(settings)},
            )
            for process in range(processes)
        ]
        return self._engine

    def take_state_along(self) -> None:
        """The next start uses a copy of the state: it runs elsewhere, and knows nothing of the engine that is here."""
        before, self.state = self.state, self.state.with_name(f"state-{len(self._launched)}")
        if before.exists():
            shutil.copytree(before, self.state)

    def running(self) -> EngineProcess:
        """The engine (its first process), which must not have ended by itself."""
        for engine in self._engine:
            if engine.code is not None:
                found = f"it ended by itself with code {engine.code}\n{engine.last_words()}"
                raise ChaosError("keep the engine running", found)
        return self._engine[0]

    def stop(self) -> None:
        """SIGTERM to all, which ends them in time and with 0."""
        self.running()
        for engine in self._engine:
            engine.send(signal.SIGTERM)
        for engine in self._engine:
            if code := engine.wait(STOP_S_MAX):
                found = f"SIGTERM ended it with {code}\n{engine.last_words()}"
                raise ChaosError("stop the engine", found)

    def crash(self, seconds: float) -> bool:
        """Until the engine has killed itself at its point; after so many seconds it is killed. Whether it did."""
        [engine] = self._engine
        deadline = time.monotonic() + seconds
        while engine.code is None and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        if engine.code is None:
            engine.kill()
            return False
        # of several processes one kills itself, and the others say so
        if engine.code != -signal.SIGKILL and (self.processes == 1 or engine.code == 0):
            found = f"it ended with code {engine.code} before its point\n{engine.last_words()}"
            raise ChaosError("kill the engine at a point", found)
        return True

    def wait_for_life(self, seconds: float = START_S_MAX, *, may_end: bool = False) -> None:
        """Until consumers see a new decision. may_end: the engine may give up meanwhile, for the broker was away;
        then it is started again, as whatever supervises it would."""
        topic = output_topic(self.settings.kafka, DECISIONS)
        lanes = [TopicPartition(topic, lane) for lane in range(self.settings.kafka.lanes)]
        for lane in lanes:
            lane.offset = self._end(lane)
        self._consumer.assign(lanes)
        deadline = time.monotonic() + seconds
        try:
            while True:
                if any(message.error() is None for message in self._consumer.consume(1, _LOOK_S)):
                    return
                if may_end and self._engine[0].code is not None:
                    self._tell(f"       the engine ended with {self._engine[0].code} and is started again")
                    self.start()
                if time.monotonic() > deadline:
                    found = f"no decision for {seconds:.0f} s\n{self.running().last_words()}"
                    raise ChaosError("wait for the engine", found)
                self.running()
        finally:
            self._consumer.unassign()

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

    # --- load and verdict -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def under_load(self) -> Iterator[None]:
        """Steady load meanwhile; all of it is in the topics afterwards."""
        stop = threading.Event()
        failures: list[BaseException] = []

        def send() -> None:
            try:
                while not stop.is_set():
                    self._load.run(0.25)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=send, name="load", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        if failures:
            raise failures[0]
        self._load.finish()

    def check(self, due_ms: int | None = None, seconds: float = CATCH_UP_S_MAX) -> Verdict:
        """Until nothing is missing; fails at once on what is there and must not be. `due_ms`: what time alone decides
        is demanded if it was due before; if not given, a few seconds less than the lateness ago."""
        oracle = self._oracle_of(self.settings)
        kafka = self.settings.kafka
        if due_ms is None:
            due_ms = self.due_ms()
        deadline = time.monotonic() + seconds
        while True:
            self.running()
            output = read_output(kafka.brokers, kafka.prefix)
            verdict = verify(
                read_input(kafka.brokers, kafka.topics),
                output,
                oracle,
                self._rules,
                kafka,
                lateness_ms=self.settings.lateness_ms,
                due_ms=due_ms,
                may_ms=round(time.time() * 1_000),
            )
            if verdict.ok:
                return verdict
            if verdict.beyond_repair or time.monotonic() > deadline:
                (self.folder / "verdict.txt").write_text(f"{verdict}\n")
                raise ChaosError("compare with an undisturbed run", str(verdict))
            time.sleep(_CHECK_S)

    def due_ms(self) -> int:
        """What was due by time alone before this must have been said soon."""
        return round(time.time() * 1_000) - self.settings.lateness_ms - _DUE_MARGIN_MS
