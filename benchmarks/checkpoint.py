"""What checkpoints cost while it runs, and how soon it is back: the state of a million customers, under load.

    python -m benchmarks.checkpoint [--json FILE] [--customers N] [--rate N] [--seconds S] [--epoch-ms N] [--quick]

The engine (`segue run --state`, one worker, on the broker of deploy/kafka) gets one event of each customer, then the
open-loop load of benchmarks/kafka_load.py: Zipf, many events a message. Measured
- while it runs: the gaps between two reads of the source (the end of one to the begin of the next). The longest of each
  epoch is its pause, fsync included: Bytewax reads on only when all of an epoch is durable. What is told of pauses are
  quantiles over epochs; the first seconds, with their first bases, are left out;
- the same without the time in which the reading thread could run and others had the cores: on a machine that is not
  idle the one bounds from above, the other from below. What the machine did is told: cores used by the engine's
  process, its keeper, the broker, the load, and by all else;
- what the state's folder holds at the end of that, and how many bases were made. --seconds 600 is ten minutes of it;
- after kill -9 in the middle of the load: seconds from the start of the process to the first action whose event was
  sent after the kill, as a `read_committed` consumer sees it, and the CPU the engine took until then. Meanwhile the
  load goes on: what came since the last epoch that was finished is caught up with first.
The oracle: everything that was said about one customer in a thousand is compared with the naive reference.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from benchmarks.engine import machine
from benchmarks.kafka import CHANNEL, Bench, Plan, broker_settings, cpu_seconds
from benchmarks.kafka_latency import action_number
from benchmarks.kafka_load import Schedule, read_schedule
from benchmarks.policies import write_mixed
from benchmarks.reads import between, gaps_ms, longest_ms, own_gaps_ms, reads
from segue.chaos.broker import own_broker
from segue.chaos.engine import EngineProcess
from segue.policy.load import load_policies
from segue.run.progress import Silent
from segue.run.warmup import warm_up
from segue.settings import secret

ROW_BYTES_MIN = 1_024
POLICIES = 8  # mixed ones: enough for such rows
FILL_RATE = 60_000.0
SKIP_S = 10.0
BACK_S_MAX = 120.0
STILL_S = 8.0  # whoever catches up may say nothing for some seconds
QUICK_RATE = 1_000.0
SAMPLE = b"017"  # customers whose number ends so: one in a thousand
_FORM = "many"
_DELIVERY = "idempotent"


@dataclass
class Checkpoints:
    """One run of the benchmark."""

    bench: Bench
    folder: Path
    customers: int
    rate: float
    seconds: float
    epoch_ms: int

    def measure(self) -> dict[str, Any]:
        """All figures."""
        bench = self.bench
        policies = load_policies(bench.settings.policies, secret=secret(), native=False)
        row_bytes = policies.row_words * 8
        if row_bytes < ROW_BYTES_MIN:
            raise RuntimeError(f"rows of {row_bytes} bytes: choose more policies")
        first = self._start("first")
        try:
            _say(f"filling {self.customers:,} customers of {row_bytes:,} bytes")
            filled = self._fill()
            _say(f"{self.rate:,.0f} events/s for {self.seconds:.0f} s, then kill -9")
            path = self.folder / "schedule-load"
            load = bench.load(self.rate, self.seconds + BACK_S_MAX, path)
            schedule = _schedule(path)
            skip_s = min(SKIP_S, self.seconds / 2)
            _sleep_until(schedule.start_ns + int(skip_s * 1e9))
            steady_at = time.monotonic_ns()
            busy = _Busy(self._pids(load.pid))
            _sleep_until(schedule.start_ns + int(self.seconds * 1e9))
            busy_with = busy.figures(self._pids(load.pid))
            kept = _folder_figures(Path(bench.settings.state))
        finally:
            first.kill()
        killed_ns, killed_at = time.time_ns(), time.monotonic_ns()
        steady = between(reads(self.folder / "reads-first"), steady_at, killed_at)
        gaps, own = gaps_ms(steady), own_gaps_ms(steady)
        width_ns = self.epoch_ms * 1_000_000
        second = self._start("second")
        try:
            back_s = self._back_after(killed_ns, schedule)
            back_cpu_s = cpu_seconds(second.family())
            load.terminate()
            load.wait()
            bench.drain(STILL_S)
        finally:
            second.kill()
        verdict = bench.verdict(SAMPLE)
        return {
            "customers": self.customers,
            "row_bytes": row_bytes,
            "rate": self.rate,
            "seconds": self.seconds,
            "filled_s": round(filled, 1),
            "pauses": quantiles(longest_ms(steady, gaps, steady_at, width_ns)),
            "pauses_but_for_cores": quantiles(longest_ms(steady, own, steady_at, width_ns)),
            "gaps": quantiles(gaps),
            "gaps_but_for_cores": quantiles(own),
            "machine_meanwhile": busy_with,
            "folder": kept,
            "restart_s": round(back_s, 2),
            "restart_cpu_s": round(back_cpu_s, 2),
            "oracle": verdict.figures(),
        }

    def _pids(self, load: int) -> dict[str, list[int]]:
        assert self.bench.engine is not None
        engine, *children = self.bench.engine.family()
        broker = [self.bench.broker_pid] if self.bench.broker_pid else []
        return {"engine": [engine], "keeper": children, "broker": broker, "load": [load, os.getpid()]}

    def _start(self, name: str) -> EngineProcess:
        self._started_ns = time.time_ns()
        command = [
            word.replace("{reads}", str(self.folder / f"reads-{name}")) for word in self.bench.command()
        ]
        self.bench.engine = EngineProcess(command, self.folder / f"engine-{name}.log")
        return self.bench.engine

    def _fill(self) -> float:
        began = time.monotonic()
        load = self.bench.load(
            FILL_RATE, self.customers / FILL_RATE, self.folder / "schedule-fill", "--each-once"
        )
        if load.wait():
            raise RuntimeError(f"the load ended with {load.returncode}")
        self.bench.drain()
        return time.monotonic() - began

    def _back_after(self, killed_ns: int, schedule: Schedule) -> float:
        """Seconds from the start to the first action for an event that was sent after the kill."""
        kafka = self.bench.settings.kafka
        consumer = Consumer(
            {
                "bootstrap.servers": kafka.brokers,
                "group.id": "segue-checkpoint",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": "20",
            }
        )
        topic = f"{kafka.prefix}{CHANNEL}"
        places = [TopicPartition(topic, n, OFFSET_BEGINNING) for n in range(kafka.lanes)]
        for place, ends in [(p, consumer.get_watermark_offsets(p, timeout=10.0)) for p in places]:
            place.offset = ends[1]
        consumer.assign(places)
        deadline = time.monotonic() + BACK_S_MAX
        try:
            while time.monotonic() < deadline:
                for message in consumer.consume(1_000, 0.05):
                    number = action_number(message.value() or b"") if message.error() is None else None
                    # no number of the filling: those come before the schedule's first
                    if number is not None and schedule.intended_ns(number) > killed_ns:
                        return (time.time_ns() - self._started_ns) / 1e9
        finally:
            consumer.close()
        assert self.bench.engine is not None
        raise RuntimeError(f"no new action for {BACK_S_MAX:.0f} s\n{self.bench.engine.last_words()}")


class _Busy:
    """Who keeps the cores busy from now on."""

    def __init__(self, pids: dict[str, list[int]]) -> None:
        self._began = time.monotonic()
        self._cpu = {name: cpu_seconds(numbers) for name, numbers in pids.items()}
        self._all = _busy_seconds()
        self._load = os.getloadavg()[0]

    def figures(self, pids: dict[str, list[int]]) -> dict[str, float]:
        """Cores used on average by each, and by all others; load averages of the minutes before begin and end."""
        took = time.monotonic() - self._began
        cores = {name: (cpu_seconds(numbers) - self._cpu[name]) / took for name, numbers in pids.items()}
        cores["others"] = max(0.0, (_busy_seconds() - self._all) / took - sum(cores.values()))
        told = {f"{name}_cores": round(used, 2) for name, used in cores.items()}
        return {**told, "load_begin": round(self._load, 2), "load_end": round(os.getloadavg()[0], 2)}


def _busy_seconds() -> float:
    """CPU time of everybody so far; what the host took counts too."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, interrupts, soft, stolen = (int(field) for field in fields[:8])
    return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")


def _folder_figures(state: Path) -> dict[str, float]:
    """MB and files by folder, and how many bases were made."""
    told: dict[str, float] = {}
    for name in ("journals", "bases", "recovery"):
        files = [entry.stat() for entry in (state / name).iterdir() if entry.is_file()]
        told[f"{name}_mb"] = round(sum(512 * file.st_blocks for file in files) / 1e6, 1)
        told[f"{name}_files"] = len(files)
    numbers = [int(entry.name.split("-")[1]) for entry in (state / "bases").glob("*.base")]
    told["bases_made"] = max(numbers, default=0)
    return told


def _schedule(path: Path) -> Schedule:
    while (schedule := read_schedule(path)) is None:
        time.sleep(0.01)
    return schedule


def _sleep_until(time_ns: int) -> None:
    time.sleep(max(0.0, (time_ns - time.time_ns()) / 1e9))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def quantiles(gaps: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    """Of gaps in ms."""
    if not len(gaps):
        return {"count": 0}
    p50, p99, p999, most = np.percentile(gaps, [50, 99, 99.9, 100]).tolist()
    return {
        "count": len(gaps),
        "p50_ms": round(p50, 3),
        "p99_ms": round(p99, 3),
        "p99.9_ms": round(p999, 3),
        "max_ms": round(most, 3),
    }


def _told(found: dict[str, float]) -> str:
    names = ("p50_ms", "p99_ms", "p99.9_ms", "max_ms")
    return (
        "  ".join(f"{name[:-3]} {found.get(name, 0):.1f}" for name in names) + f" ms  of {found['count']:,}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and fail if the oracle disagrees."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.checkpoint",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=50_000.0)
    parser.add_argument("--seconds", type=float, default=130.0)
    parser.add_argument("--epoch-ms", type=int, default=1_000)
    parser.add_argument("--quick", action="store_true", help="few customers, short: to see that it works")
    parser.add_argument("--folder", type=Path, help="keep logs and states here")
    parser.add_argument(
        "--engine", default="", help="the command that stands for `segue run`; no gaps are seen"
    )
    chosen = parser.parse_args(arguments)
    customers, rate, seconds = chosen.customers, chosen.rate, chosen.seconds
    if chosen.quick:
        customers, rate, seconds = min(customers, 2_000), min(rate, QUICK_RATE), min(seconds, 10.0)
    warm_up(Silent().step)
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        policies = folder / "policies"
        write_mixed(policies, POLICIES)
        broker = own_broker(folder / "broker", throughput=True)
        try:
            engine = tuple(chosen.engine.split()) or (
                sys.executable,
                "-m",
                "benchmarks.reads",
                "{reads}",
                "run",
            )
            engine += ("--epoch", f"{chosen.epoch_ms}ms")
            plan = Plan(customers, seconds, 0.0, 0.0, 0.0, (), engine)
            bench = Bench(
                broker.brokers, getattr(broker, "pid", None), folder, _FORM, _DELIVERY, plan, str(policies)
            )
            figures = Checkpoints(bench, folder, customers, rate, seconds, chosen.epoch_ms).measure()
        finally:
            broker.kill()
        settings = broker_settings(folder / "broker")
    print(
        f"{customers:,} customers of {figures['row_bytes']:,} bytes, {rate:,.0f} events/s, "
        f"epochs of {chosen.epoch_ms} ms"
    )
    for name, what in (("pauses", "longest gap of an epoch"), ("gaps", "gap between two reads")):
        print(f"{what:24}{_told(figures[name])}")
        print(f"{'  but for cores':24}{_told(figures[name + '_but_for_cores'])}")
    print(
        "meanwhile  " + "  ".join(f"{name} {value}" for name, value in figures["machine_meanwhile"].items())
    )
    print("folder  " + "  ".join(f"{name} {value:,}" for name, value in figures["folder"].items()))
    print(
        f"kill -9 to the first new action  {figures['restart_s']:.1f} s from the start of the process, "
        f"{figures['restart_cpu_s']:.1f} s of CPU"
    )
    print(f"oracle: {figures['oracle']}")
    if chosen.json:
        result = {**machine(), "epoch_ms": chosen.epoch_ms, "broker": settings, **figures}
        chosen.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if figures["oracle"]["right"] else 1


if __name__ == "__main__":
    sys.exit(main())
