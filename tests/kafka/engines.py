"""A whole deployment on a broker: `segue run` as a process on topics of its own, fed, watched, judged."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from segue.chaos.engine import STOP_S_MAX, EngineProcess
from segue.chaos.verify import Verdict
from segue.events.names import CHANNELS
from segue.events.time import time_text
from segue.kafka.read import Record, read_topics
from segue.kafka.settings import InputTopic, KafkaSettings
from segue.settings import Settings
from tests.kafka.verifier import judge

TABLES = ("decisions", "changes", "joins")
OUTPUTS = (*CHANNELS, *TABLES, "dead_letters", "late", "heartbeat")
START_S_MAX = 90.0  # two cores may be shared by many
# greets whoever is seen, at most three times in ten seconds, and reminds of a cart left for two seconds
GREETING = """
policy = "greeting"
version = 1
title = "Greets who comes by"
currency = "EUR"

[[journeys]]
id = "seen"
on = ["Product Viewed"]
when = 'count("Product Viewed", within="1h") >= 1'
limits = [{ times = 3, within = "10s" }]
[[journeys.offers]]
id = "hello"
channel = "email"
purpose = "service"
[[journeys.offers]]
id = "banner"
channel = "web"
placement = "hero"
value = 0.5

[[journeys]]
id = "left-cart"
on = ["Product Added"]
when = "event.quantity >= 0"
wait = "2s"
by = "product"
still = 'absent("Order Completed")'
limits = [{ times = 2, within = "20s" }]
[[journeys.offers]]
id = "reminder"
channel = "push"
purpose = "service"
"""


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def event(number: int | str, kind: str, user: str, at_ms: int, **more: Any) -> dict[str, Any]:
    """An event of a known customer."""
    told = {
        "id": f"e{number}",
        "type": kind,
        "source": "web",
        "time": time_text(at_ms),
        "userId": user,
        **more,
    }
    return {name: value for name, value in told.items() if value is not None}


def consent(number: int | str, user: str, at_ms: int, channel: str = "email") -> dict[str, Any]:
    """He agrees to service messages on a channel."""
    more = {"channel": channel, "purpose": "service", "granted": True}
    return event(number, "Consent Changed", user, at_ms, **more)


def make_topics(brokers: str, partitions: Mapping[str, int], config: Mapping[str, str] = {}) -> None:
    """Make topics, with that many partitions each."""
    admin = AdminClient({"bootstrap.servers": brokers, "log_level": 0})
    new = [NewTopic(name, count, 1, config=dict(config)) for name, count in partitions.items()]
    for made in admin.create_topics(new).values():
        made.result(30)


@dataclass
class Deployment:
    """An engine's command line, its topics and its state.

    inputs      name (without the prefix) -> form
    properties  what clients of the test need to reach the broker
    program     what stands for `segue`
    options     of `segue run`, beside those that follow from the rest
    """

    brokers: str
    prefix: str
    folder: Path
    inputs: Mapping[str, str] = field(default_factory=lambda: {"events": "json"})
    policies: str = GREETING
    partitions: int = 2
    lanes: int = 2
    lateness_ms: int = 2_000
    properties: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ("--shards", "4", "--epoch", "200ms", "--no-native")
    program: str = "segue"
    engine: EngineProcess | None = None
    starts: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_policies(self.policies)
        self._producer: Producer | None = None
        self._refused: list[str] = []
        self.sent = 0  # messages

    @property
    def state(self) -> Path:
        """Its state folder."""
        return self.folder / "state"

    def write_policies(self, text: str) -> None:
        """The policies of the next start."""
        (self.folder / "policies.toml").write_text(text)

    def make_topics(self) -> Deployment:
        """All that it reads and writes."""
        appended = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(8 << 20)}
        inputs = {self.prefix + name: self.partitions for name in self.inputs}
        make_topics(self.brokers, inputs, appended)
        make_topics(self.brokers, {f"{self.prefix}{name}": self.lanes for name in OUTPUTS})
        return self

    # --- the engine -------------------------------------------------------------------------------------

    def command(self, *more: str, brokers: str = "") -> list[str]:
        """What starts it."""
        words = [sys.executable, "-m", self.program, "run", "--brokers", brokers or self.brokers]
        for name, form in self.inputs.items():
            words += ["--topic", f"{self.prefix}{name}:{form}"]
        words += ["--prefix", self.prefix, "--name", self.prefix, "--lanes", str(self.lanes)]
        words += ["--state", str(self.state), "--policies", str(self.folder / "policies.toml")]
        return [*words, "--lateness", f"{self.lateness_ms}ms", *self.options, *more]

    def start(self, *more: str, kill_at: str = "", brokers: str = "") -> EngineProcess:
        """Begin, or go on."""
        self.starts += 1
        log = self.folder / f"engine-{self.starts}.log"
        self.engine = EngineProcess(self.command(*more, brokers=brokers), log, kill_at)
        return self.engine

    def ended(self, seconds: float = START_S_MAX) -> tuple[int, str]:
        """(exit code, all it said) of an engine that ends by itself."""
        assert self.engine is not None
        code = self.engine.wait(seconds)
        return code, self.said()

    def said(self) -> str:
        """By the newest start."""
        assert self.engine is not None
        return self.engine.log.read_text(errors="replace")

    def stop(self) -> None:
        """SIGTERM; it must end with 0."""
        assert self.engine is not None
        self.engine.send(signal.SIGTERM)
        code = self.engine.wait(STOP_S_MAX)
        assert code == 0, self.said()

    def close(self) -> None:
        """Whatever still runs is killed."""
        if self.engine is not None:
            self.engine.kill()
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(5)

    # --- what goes in, and what comes out -----------------------------------------------------------------

    def send(
        self,
        events: Iterable[Mapping[str, Any] | bytes | None],
        topic: str = "events",
        partition: int = 0,
        headers: Sequence[tuple[str, bytes]] = (),
        *,
        wait: bool = True,
    ) -> None:
        """A message each; with `wait` they are in the topic afterwards."""
        if self._producer is None:
            config = {"enable.idempotence": "true", "message.max.bytes": str(8 << 20), "log_level": "0"}
            config |= {"bootstrap.servers": self.brokers, "linger.ms": "2", **self.properties}
            self._producer = Producer(config)
        for each in events:
            value = each if each is None or isinstance(each, bytes) else msgspec.json.encode(each)
            self._producer.produce(
                self.prefix + topic,
                value,
                partition=partition,
                headers=list(headers),
                on_delivery=self._delivered,
            )
            self.sent += 1
        if wait:
            self.flush()

    def flush(self) -> None:
        """Wait until all that was sent is in the topics."""
        assert self._producer is not None
        assert self._producer.flush(120) == 0
        assert not self._refused, self._refused[0]

    def _delivered(self, error: Any, message: Message) -> None:
        if error is not None:
            self._refused.append(str(error))

    def records(self, *names: str) -> list[Record]:
        """Messages of output topics that are committed."""
        topics = [self.prefix + name for name in names]
        return list(read_topics(self.brokers, topics, properties=self.properties))

    def actions(self, *channels: str) -> list[dict[str, Any]]:
        """Of these channels; of all, without any."""
        return [msgspec.json.decode(record.value) for record in self.records(*(channels or CHANNELS))]

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Of a table."""
        return [
            row
            for record in self.records(name)
            for row in pa.ipc.open_stream(record.value).read_all().to_pylist()
        ]

    def dead(self) -> list[dict[str, Any]]:
        """Dead letters."""
        return [msgspec.json.decode(record.value) for record in self.records("dead_letters")]

    def wait_for(self, is_so: Callable[[], bool], seconds: float = START_S_MAX) -> None:
        """While the engine runs."""
        deadline = time.monotonic() + seconds
        while not is_so():
            assert self.engine is not None
            assert self.engine.code is None, f"it ended with {self.engine.code}: {self.said()}"
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {self.said()}"
            time.sleep(0.1)

    def wait_for_actions(self, count: int, *channels: str) -> list[dict[str, Any]]:
        """So many, at least."""
        self.wait_for(lambda: len(self.actions(*channels)) >= count)
        return self.actions(*channels)

    def settings(self) -> Settings:
        """What the verifier needs."""
        inputs = tuple(InputTopic(self.prefix + name, form) for name, form in self.inputs.items())  # type: ignore[arg-type]
        return Settings(
            policies=(str(self.folder / "policies.toml"),),
            lateness_ms=self.lateness_ms,
            live=True,
            kafka=KafkaSettings(brokers=self.brokers, prefix=self.prefix, topics=inputs),
        )

    def verdict(self, due_ms: int | None = None) -> Verdict:
        """Of the naive reference, on what consumers see now."""
        return judge(self.settings(), due_ms=due_ms)

    def judged(self, due_ms: int | None = None, seconds: float = 60.0) -> Verdict:
        """Once nothing is missing; fails at once on what must not be there."""
        deadline = time.monotonic() + seconds
        while True:
            verdict = self.verdict(due_ms)
            if verdict.ok:
                return verdict
            assert not verdict.beyond_repair, f"{verdict}\n{self.said()}"
            assert time.monotonic() < deadline, f"{verdict}\n{self.said()}"
            time.sleep(0.3)
