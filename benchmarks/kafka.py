"""Kafka to Kafka: how much one engine sustains, and how long an action takes, counted from the intended send time.

    python -m benchmarks.kafka [--json FILE] [--rates N,…] [--quick] [--forms json,cloudevents,many]
                               [--deliveries idempotent,transactional] [--customers N] [--brokers H:P]

Four processes: the broker (deploy/kafka, its JVM compiling with all it has), the load (kafka_load.py, open loop), the
engine (`segue run`, as anybody starts it, one worker) and the consumer (kafka_latency.py, `read_committed`). All share
the machine's cores; how much of them each took is told.
- Sustainable is a rate at which the load kept its rate and the lag stayed bounded: in no second after the first the p50
  passed LAG_MS_MAX, in the last third it was no more than twice that of the first (and some), and the last action came
  for an event of the last moments. Found by bisection, or the greatest of --rates that passes.
- Latency is read at 50, 80 and 95 % of it, in runs of --seconds.
- The engine's CPU an event is read from /proc over the seconds of those runs in which the load was steady, all threads
  and child processes counted: the Kafka client is in it.
- The oracle: all that was said about one customer in SAMPLE (of about 1,000 events a customer and run on) is compared
  with the naive reference after everything was measured. A difference is an error.
- Topics, journals and bases grow by 100 MB a second and more: a search with all forms and deliveries wants 50 GB.
The work: 64 offers scored by 24 features on 20 % of the events beside three counting policies (benchmarks/policies.py),
one channel, whose delivery is what is compared.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import confluent_kafka

from benchmarks.engine import COUNTING_POLICIES, SCORE_MIN, machine
from benchmarks.kafka_load import FORMS, Schedule, read_schedule
from benchmarks.policies import write_policies
from segue.chaos.broker import own_broker
from segue.chaos.engine import EngineProcess
from segue.chaos.topics import make_topics, parse_topic
from segue.chaos.verify import Verdict, read_input, read_output, rules_of, verify
from segue.kafka.settings import InputTopic, KafkaSettings
from segue.policy.load import load_policies
from segue.run.progress import Silent
from segue.run.warmup import warm_up
from segue.settings import Settings, secret

CHANNEL = "web"  # of the policies' offers
DELIVERIES = ("idempotent", "transactional")
PARTITIONS = 4
SHARES = (0.5, 0.8, 0.95)
SAMPLE = b"17"  # customers whose number ends so: one in a hundred
LAG_MS_MAX = 1_000.0
LAG_GROWTH_MS = 50.0
FIRST_RATE = 20_000.0
RATE_MAX = 800_000.0
BISECTIONS = 5
TRIAL_S = 30.0  # bases are made, and the disk has to keep up, from the first ten seconds on
WARM_S = 15.0
WARM_RATE = 20_000.0
SKIP_S = 3
_DRAIN_S_MAX = 120.0
_START_S_MAX = 180.0
_SETTLE_S = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time of these processes so far, all their threads."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS


@dataclass(frozen=True)
class Plan:
    """How long and how hard. `rates`: tried instead of a bisection."""

    customers: int
    seconds: float
    trial_s: float
    warm_s: float
    warm_rate: float
    rates: tuple[float, ...]
    engine: tuple[str, ...]
    bisections: int = BISECTIONS


@dataclass
class Bench:
    """One form and one delivery: an engine on topics of its own."""

    brokers: str
    broker_pid: int | None
    folder: Path
    form: str
    delivery: str
    plan: Plan
    policies: str = ""  # file or folder; "" = the scoring work
    engine: EngineProcess | None = None
    numbers: int = 1  # of the next event: no id comes twice
    runs: int = 0
    trials: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        name = f"bench-{self.form}-{self.delivery}-{time.time_ns() // 1_000_000}"
        if not self.policies:
            self.policies = str(self.folder / "policies")
            write_policies(Path(self.policies), COUNTING_POLICIES, SCORE_MIN)
        form = parse_topic(f"{name}.events:{self.form}")
        self.settings = Settings(
            policies=(self.policies,),
            live=True,
            state=str(self.folder / f"state-{name}"),
            kafka=KafkaSettings(
                brokers=self.brokers,
                name=name,
                topics=(InputTopic(*form),),
                prefix=f"{name}.out.",
                delivery={CHANNEL: "idempotent" if self.delivery == "idempotent" else "transactional"},
            ),
        )
        kafka = self.settings.kafka
        policies = load_policies(self.settings.policies, secret=secret(), native=False)
        make_topics(kafka, {offer.channel for offer in policies.offer_infos}, PARTITIONS)

    def command(self) -> list[str]:
        """The engine's."""
        kafka = self.settings.kafka
        topic = kafka.topics[0]
        words = [*self.plan.engine, "--brokers", self.brokers, "--topic", f"{topic.name}:{topic.form}"]
        words += ["--prefix", kafka.prefix, "--lanes", str(kafka.lanes), "--name", kafka.name]
        words += ["--state", self.settings.state, "--policies", self.settings.policies[0]]
        is_default = kafka.delivery_of(CHANNEL) == KafkaSettings().delivery_of(CHANNEL)
        return words if is_default else [*words, "--delivery", f"{CHANNEL}={self.delivery}"]

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """The engine runs meanwhile, warm."""
        self.engine = EngineProcess(self.command(), self.folder / f"engine-{self.form}-{self.delivery}.log")
        try:
            self._warm_up()
            yield
        finally:
            self.engine.kill()

    def _warm_up(self) -> None:
        """Load until actions come as soon as they do later."""
        deadline = time.monotonic() + _START_S_MAX
        while not self.run(self.plan.warm_rate, self.plan.warm_s)["sustained"]:
            if time.monotonic() > deadline:
                assert self.engine is not None
                raise RuntimeError(f"the engine gives no timely actions at all\n{self.engine.last_words()}")

    def run(self, rate: float, seconds: float) -> dict[str, Any]:
        """Load at one rate: what it did, the latencies, CPU by process, and whether the rate was sustained."""
        assert self.engine is not None
        if self.engine.code is not None:
            raise RuntimeError(f"the engine ended with {self.engine.code}\n{self.engine.last_words()}")
        path = self.folder / f"schedule-{self.form}-{self.delivery}-{self.runs}"
        self.runs += 1
        kafka = self.settings.kafka
        watch = _started(
            "benchmarks.kafka_latency", "--prefix", kafka.prefix, brokers=self.brokers, schedule=path
        )
        assert watch.stdout is not None
        watch.stdout.readline()  # ready
        load = self.load(rate, seconds, path)
        try:
            cpu = self._steady_cpu(path, seconds, watch.pid)
            told, _ = load.communicate()
            if load.returncode:
                raise RuntimeError(f"the load ended with {load.returncode}")
            sent = json.loads(told)
            schedule = read_schedule(path)
            assert schedule is not None
            self.drain()
        finally:
            load.kill()
            watch.send_signal(signal.SIGTERM)
        seen = json.loads(watch.communicate()[0])
        return {"rate": rate, "load": sent, "latency": seen, **cpu, **sustained(sent, seen, schedule)}

    def load(self, rate: float, seconds: float, path: Path, *more: str) -> subprocess.Popen[str]:
        """Load, started; its events have numbers that no others had."""
        words = [
            "--topic",
            self.settings.kafka.topics[0].name,
            "--form",
            self.form,
            "--partitions",
            str(PARTITIONS),
        ]
        words += ["--rate", str(rate), "--seconds", str(seconds), "--customers", str(self.plan.customers)]
        words += ["--first", str(self.numbers), *more]
        self.numbers += round(rate * seconds)
        return _started("benchmarks.kafka_load", *words, brokers=self.brokers, schedule=path)

    def _steady_cpu(self, path: Path, seconds: float, consumer: int) -> dict[str, Any]:
        """CPU of the steady seconds: from SKIP_S after the first event to the last one's."""
        assert self.engine is not None
        schedule = None
        while schedule is None:
            time.sleep(0.01)
            schedule = read_schedule(path)
        skip_s = min(SKIP_S, seconds / 4)
        pids = {
            "engine": self.engine.family(),
            "consumer": [consumer],
            "broker": [self.broker_pid] if self.broker_pid else [],
        }
        _sleep_until(schedule.start_ns + skip_s * 1e9)
        before = {name: cpu_seconds(numbers) for name, numbers in pids.items()}
        began = time.monotonic()
        _sleep_until(schedule.start_ns + seconds * 1e9)
        took = time.monotonic() - began
        used = {name: cpu_seconds(numbers) - before[name] for name, numbers in pids.items()}
        return {
            "engine_cpu_us_per_event": round(1e6 * used["engine"] / (schedule.rate * took), 3),
            "cores_used": {name: round(seconds / took, 3) for name, seconds in used.items()},
        }

    def drain(self, still_s: float = _SETTLE_S) -> None:
        """Until the decision log has stood still for so long."""
        kafka = self.settings.kafka
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.brokers, "group.id": "segue-drain"})
        places = [confluent_kafka.TopicPartition(f"{kafka.prefix}decisions", n) for n in range(kafka.lanes)]

        def ends() -> list[int]:
            return [consumer.get_watermark_offsets(place, timeout=30.0)[1] for place in places]

        deadline = time.monotonic() + _DRAIN_S_MAX
        before: list[int] = []
        while True:
            late = time.monotonic() > deadline
            try:
                now = ends()
            except (
                confluent_kafka.KafkaException
            ):  # the leader of a topic that was just made may still change
                if late:
                    raise
                now = []
            if late or (now and now == before):
                break
            before = now
            time.sleep(still_s)
        consumer.close()

    # --- the figures --------------------------------------------------------------------------------------

    def sustainable(self) -> float:
        """The greatest rate that is sustained, as far as was tried."""
        if self.plan.rates:
            passed = [rate for rate in self.plan.rates if self._passes(rate)]
            return max(passed, default=0.0)
        low, high = 0.0, FIRST_RATE
        while high <= RATE_MAX and self._passes(high):
            low, high = high, 2 * high
        for _ in range(self.plan.bisections):
            middle = (low + high) / 2
            low, high = (middle, high) if self._passes(middle) else (low, middle)
        return low

    def _passes(self, rate: float) -> bool:
        figures = self.run(rate, self.plan.trial_s)
        why = figures["why_not"] or "sustained"
        _say(f"  {rate:10,.0f} events/s: {why}; p99 {figures['latency']['p99_ms']:,.0f} ms")
        quantiles = {name: told for name, told in figures["latency"].items() if name.endswith("_ms")}
        kept = ("rate", "sustained", "why_not", "engine_cpu_us_per_event", "cores_used")
        self.trials.append({**{name: figures[name] for name in kept}, **quantiles})
        return bool(figures["sustained"])

    def verdict(self, sample: bytes = SAMPLE) -> Verdict:
        """What was said about the sampled customers, compared with the naive reference."""
        from tests.kafka.naive_oracle import NaiveOracle

        settings, kafka = self.settings, self.settings.kafka
        policies = load_policies(settings.policies, secret=secret(), native=False)
        return verify(
            read_input(self.brokers, kafka.topics, holding=sample + b'","anonymousId"'),
            read_output(self.brokers, kafka.prefix, customers=sample.decode()),
            NaiveOracle(settings),
            rules_of(policies),
            kafka,
            lateness_ms=settings.lateness_ms,
            due_ms=1,
            may_ms=round(time.time() * 1_000),
        )


def _started(module: str, *words: str, brokers: str, schedule: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module, "--brokers", brokers, "--schedule", str(schedule), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _sleep_until(time_ns: float) -> None:
    time.sleep(max(0.0, (time_ns - time.time_ns()) / 1e9))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def sustained(sent: dict[str, Any], seen: dict[str, Any], schedule: Schedule) -> dict[str, Any]:
    """Whether a rate was sustained, and if not, why."""
    # the first second holds what is not steady yet
    medians = [second["p50_ms"] for second in seen["over_time"][1:]]
    third = max(1, len(medians) // 3)
    end_ns = schedule.start_ns + int(schedule.events * 1e9 / schedule.rate)
    if not sent["kept_rate"]:
        why = f"the load itself fell {sent['behind_p99_ms']:,.0f} ms behind"
    elif not medians:
        why = "no action came"
    elif max(medians) > LAG_MS_MAX:
        why = f"half of a second's actions took {max(medians):,.0f} ms"
    elif sum(medians[-third:]) / third > 2 * sum(medians[:third]) / third + LAG_GROWTH_MS:
        why = "the lag grew"
    elif seen["newest_ns"] < end_ns - 1_000_000_000:
        why = "actions of the last second are missing"
    else:
        why = ""
    return {"sustained": not why, "why_not": why}


def measure(bench: Bench) -> dict[str, Any]:
    """All figures of one form and delivery."""
    _say(f"{bench.form}, {bench.delivery}")
    with bench.started():
        rate = bench.sustainable()
        at = {}
        for share in SHARES if rate else ():
            figures = bench.run(rate * share, bench.plan.seconds)
            at[f"{share:.0%}"] = figures
            latency = figures["latency"]
            _say(
                f"  at {share:4.0%}, {rate * share:9,.0f} events/s: p50 {latency['p50_ms']:.1f}, p99 "
                f"{latency['p99_ms']:.1f}, p99.9 {latency['p99.9_ms']:.1f}, longest {latency['max_ms']:.1f} ms; "
                f"engine {figures['engine_cpu_us_per_event']:.2f} µs of CPU an event"
            )
    verdict = bench.verdict()
    right = "right" if verdict.ok else "WRONG"
    _say(f"  oracle: {verdict.found:,} messages and rows of {verdict.customers:,} customers: {right}")
    if not verdict.ok:
        _say(str(verdict))
    return {
        "form": bench.form,
        "delivery": bench.delivery,
        "sustainable_events_per_s": rate,
        "trials": bench.trials,
        "latency_at": at,
        "oracle": verdict.figures(),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and fail if an oracle disagrees."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kafka",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rates", default="", help="try these rates instead of searching: 20000,50000")
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--deliveries", default=",".join(DELIVERIES))
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each run whose latencies are told")
    parser.add_argument("--quick", action="store_true", help="short runs: to see that it works")
    parser.add_argument("--brokers", default="", help="a broker that is there; if not given, one of its own")
    parser.add_argument("--folder", type=Path, help="keep logs and states here")
    parser.add_argument("--engine", default="", help="the command that stands for `segue run`")
    chosen = parser.parse_args(arguments)
    engine = tuple(chosen.engine.split()) or (sys.executable, "-m", "segue", "run")
    rates = tuple(float(rate) for rate in chosen.rates.split(",") if rate)
    plan = Plan(chosen.customers, chosen.seconds, TRIAL_S, WARM_S, min((WARM_RATE, *rates)), rates, engine)
    if chosen.quick:
        plan = Plan(min(5_000, chosen.customers), 5.0, 4.0, 3.0, min((2_000.0, *rates)), rates, engine, 2)
    warm_up(Silent().step)
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        broker = None if chosen.brokers else own_broker(folder / "broker", throughput=True)
        pid = getattr(broker, "pid", None)
        brokers = chosen.brokers or (broker.brokers if broker else "")
        try:
            figures = [
                measure(Bench(brokers, pid, folder, form, delivery, plan))
                for form in chosen.forms.split(",")
                for delivery in chosen.deliveries.split(",")
            ]
        finally:
            if broker is not None:
                broker.kill()
        settings = broker_settings(folder / "broker")
    result = {
        **machine(),
        "librdkafka": confluent_kafka.libversion()[0],
        "confluent_kafka": confluent_kafka.version(),
        "broker": "given" if chosen.brokers else settings,
        "sharing": f"broker, load, engine (one worker) and consumer share {os.cpu_count()} cores; nothing is pinned",
        "customers": plan.customers,
        "partitions": PARTITIONS,
        "figures": figures,
    }
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if all(one["oracle"]["right"] for one in figures) else 1


def broker_settings(folder: Path) -> dict[str, str]:
    """What the broker was told, but for passwords and where it stands."""
    path = folder / "server.properties"
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    left_out = ("password", "jaas", "dirs", "listeners", "voters")
    return {name: value for name, value in pairs if not any(word in name for word in left_out)}


if __name__ == "__main__":
    sys.exit(main())
