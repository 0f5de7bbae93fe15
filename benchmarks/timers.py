"""Many timers due in the same second: how soon they are all decided, and how long they keep the reader waiting.

    python -m benchmarks.timers [--timers N] [--shards N] [--json FILE]

So many customers put something into their cart within one second and leave. Half an hour later all their waits come
due at once, in the middle of a live stream: the whole flow runs in one worker, on a clock moved by hand, and goes on
reading small batches of other customers' events. Measured from the moment at which the clock makes them due:
- how long until the last of them is decided,
- the gaps between two reads of the source meanwhile (end of one to start of the next), beside those before.
Every wait must fire exactly once, and as of the time it was due.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from bytewax.testing import cluster_main

from benchmarks.engine import machine
from flows.next_best_action import next_best_action
from segue.clock import ManualClock
from segue.decide.bench import Bench, Turn
from segue.decide.decisions import Decisions
from segue.events.time import time_text
from segue.flow.outputs import output_names
from segue.limits import LATENESS_MS_DEFAULT, MINUTE_MS, SHARDS_DEFAULT
from segue.policy.load import load_policies
from segue.run.collector import leave_alone_what_is_here
from segue.run.progress import Silent
from segue.run.warmup import warm_up
from segue.settings import Settings, secret
from segue.sinks.files import prepare_folder
from segue.sources.interface import Chunk, LineChunk, QuietChunk

START_MS = 1_772_438_400_000  # 2026-03-02T08:00:00Z
WAIT_MS = 30 * MINUTE_MS
POLICY = """
policy = "left"
version = 1
title = "A cart was left for half an hour"
currency = "EUR"

[[journeys]]
id = "left"
on = ["Product Added"]
when = "event.quantity >= 0"
wait = "30m"
still = 'absent("Order Completed")'
[[journeys.offers]]
id = "reminder"
channel = "web"
"""
_ARM_ROWS = 5_000  # of a batch while the waits are armed
_TRICKLE_ROWS = 50  # ... and of one of the live stream
_TRICKLE_CUSTOMERS = 5_000
_TRICKLE_MS = 2  # between two batches, in event time
_BEFORE_READS = 300
_DEADLINE_S = 120.0
_FIRST = 2_000


@dataclass
class Stream:
    """The source, its one partition and what was measured. Times in seconds of perf_counter."""

    timers: int
    clock: ManualClock
    begun: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    due_at: float = 0.0
    due_read: int = 0
    fired: int = 0
    last_at: float = 0.0

    def __post_init__(self) -> None:
        self._chunks = self._all()

    name = "stream"
    partitions = ("stream",)

    def open(self, name: str, position: Any = None) -> Stream:
        return self

    def position(self) -> msgspec.Struct:
        raise NotImplementedError("it is read once, from its start")

    def close(self) -> None:
        pass

    def read(self, rows_max: int, bytes_max: int) -> Chunk | None:
        self.begun.append(time.perf_counter())
        chunk = next(self._chunks, None)
        self.ended.append(time.perf_counter())
        return chunk

    def heard(self, decided: list[Decisions]) -> None:
        """What a shard decided; nobody but the waits decides anything."""
        count = sum(len(decisions.actions) for decisions in decided)
        if count:
            self.fired += count
            self.last_at = time.perf_counter()

    def _all(self) -> Iterator[Chunk]:
        number = 0
        for first in range(0, self.timers, _ARM_ROWS):
            customers = range(first, min(first + _ARM_ROWS, self.timers))
            times = [START_MS + 1_000 * customer // self.timers for customer in customers]
            lines = [_line("Product Added", f"c{c}", t) for c, t in zip(customers, times, strict=True)]
            self.clock.set(times[-1])
            yield self._chunk(lines)
        now = START_MS + WAIT_MS
        for _ in range(_BEFORE_READS):
            now += _TRICKLE_MS
            yield self._trickle(now, number)
            number += 1
        now += 1_000 + LATENESS_MS_DEFAULT
        self.clock.set(now)
        self.due_at = time.perf_counter()
        self.due_read = len(self.begun)
        yield QuietChunk(now)
        while self.fired < self.timers and time.perf_counter() < self.due_at + _DEADLINE_S:
            now += _TRICKLE_MS
            yield self._trickle(now, number)
            number += 1

    def _trickle(self, now: int, number: int) -> LineChunk:
        self.clock.set(now)
        first = number * _TRICKLE_ROWS
        customers = [(first + n) % _TRICKLE_CUSTOMERS for n in range(_TRICKLE_ROWS)]
        return self._chunk([_line("page", f"t{customer}", now) for customer in customers])

    def _chunk(self, lines: list[bytes]) -> LineChunk:
        payload = np.frombuffer(bytearray(b"".join(lines)), np.uint8)
        return LineChunk(payload, self.name, 0, 1, len(lines))

    def gaps_ms(self, first: int, end: int) -> npt.NDArray[np.float64]:
        """From the end of each of these reads to the beginning of the next."""
        return 1_000.0 * np.subtract(
            self.begun[first + 1 : end], self.ended[first : end - 1], dtype=np.float64
        )


def _line(kind: str, customer: str, time_ms: int) -> bytes:
    fields = {"id": f"{customer}-{time_ms}", "type": kind, "time": time_text(time_ms), "userId": customer}
    return json.dumps(fields).encode() + b"\n"


def _quantiles(gaps: npt.NDArray[np.float64]) -> dict[str, float]:
    p50, p99, most = np.percentile(gaps, [50, 99, 100]).tolist()
    return {"p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "max_ms": round(most, 3), "reads": len(gaps)}


def _once(out: Path, timers: int) -> bool:
    """Whether each customer got one reminder, as of the time it was due."""
    found: Counter[str] = Counter()
    for line in (out / "web.jsonl").read_bytes().splitlines():
        action = msgspec.json.decode(line)
        customer = action["customer_id"]
        found[customer] += action["time"] == time_text(
            START_MS + 1_000 * int(customer[1:]) // timers + WAIT_MS
        )
    return found == Counter({f"c{n}": 1 for n in range(timers)})


def measure(timers: int, shards: int, folder: Path) -> dict[str, Any]:
    """One run; the figures."""
    policy = folder / "left.toml"
    policy.write_text(POLICY)
    out = folder / "out"
    settings = Settings(out=str(out), policies=(str(policy),), shards=shards, live=True)
    policies = load_policies(settings.policies, secret=secret(), currency=settings.currency)
    prepare_folder(settings.out, output_names(policies, settings))
    stream = Stream(timers, ManualClock(START_MS))
    process = Bench.process

    def processing(bench: Bench, turns: list[Turn]) -> list[Decisions]:
        decided = process(bench, turns)
        stream.heard(decided)
        return decided

    leave_alone_what_is_here()
    Bench.process = processing  # type: ignore[method-assign,assignment]
    try:
        cluster_main(next_best_action(settings, stream, stream.clock), [], 0)  # type: ignore[no-untyped-call]
    finally:
        Bench.process = process  # type: ignore[method-assign]
    first = stream.due_read - _BEFORE_READS
    last = int(np.searchsorted(stream.begun, stream.last_at)) + 1
    return {
        "timers": timers,
        "shards": shards,
        "fired_once": _once(out, timers),
        "due_to_last_ms": round(1_000 * (stream.last_at - stream.due_at), 1),
        "before": _quantiles(stream.gaps_ms(first, stream.due_read)),
        "while_due": _quantiles(stream.gaps_ms(stream.due_read - 1, last)),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and fail if a wait did not fire exactly once."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.timers", description=__doc__)
    parser.add_argument("--timers", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=SHARDS_DEFAULT)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    warm_up(Silent().step)
    for timers in (min(_FIRST, chosen.timers), chosen.timers):  # the first time code is loaded
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(timers, chosen.shards, Path(folder))
    print(f"{figures['timers']:,} waits due in one second, {figures['shards']} shards")
    print(f"all decided after  {figures['due_to_last_ms']:,.0f} ms, each once: {figures['fired_once']}")
    for name in ("before", "while_due"):
        gap = figures[name]
        print(
            f"gap between reads {name.replace('_', ' '):>10}  p50 {gap['p50_ms']:.1f}  p99 {gap['p99_ms']:.1f}"
            f"  longest {gap['max_ms']:.1f} ms  ({gap['reads']} reads)"
        )
    if chosen.json:
        chosen.json.write_text(json.dumps({**machine(), **figures}, indent=2) + "\n")
    return 0 if figures["fired_once"] else 1


if __name__ == "__main__":
    sys.exit(main())
