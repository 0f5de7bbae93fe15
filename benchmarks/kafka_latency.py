"""How long it takes from the intended send time of an event to the action that it caused, as a consumer sees it.

    python -m benchmarks.kafka_latency --brokers H:P --prefix P --schedule FILE [--skip S]

A `read_committed` consumer of all channels, in a process of its own. It says "ready" when it has found the ends of the
topics, counts until it gets SIGTERM, and then tells its figures as JSON. The event that caused an action is its
causation_id: a number of the schedule (benchmarks/kafka_load.py). Actions that a timer caused are counted apart, for
they are meant to come later; so are repeats (a decision id that came before) and actions of earlier schedules.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from benchmarks.histogram import Histogram, merged
from benchmarks.kafka_load import Schedule, read_schedule
from segue.events.names import CHANNELS
from segue.kafka.read import partitions_of

BY_TIMER_NS = 1_000_000_000  # an action dated so long after its event's intended time was caused by a timer
_BATCH = 5_000


class _Action(msgspec.Struct):
    decision_id: str
    causation_id: str | None
    time: str


@dataclass
class Latencies:
    """What was seen so far: a histogram for each second of intended send time."""

    seconds: dict[int, Histogram] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    repeats: int = 0
    by_timer: int = 0
    of_others: int = 0
    newest_ns: int = 0  # intended time of the newest event that an action came for
    received_ns: int = 0  # when the last one came

    def take(self, values: list[bytes], schedule: Schedule, received_ns: int) -> None:
        """Actions that came at one time."""
        by_second: dict[int, list[int]] = {}
        for value in values:
            action = msgspec.json.decode(value, type=_Action)
            decision = int(action.decision_id, 16)
            if decision in self.seen:
                self.repeats += 1
                continue
            self.seen.add(decision)
            number = _number(action.causation_id)
            if number is None or not 0 <= number - schedule.first < schedule.events:
                self.of_others += 1
                continue
            intended_ns = schedule.intended_ns(number)
            decided_ns = int(datetime.fromisoformat(action.time).timestamp() * 1e9)
            if decided_ns > intended_ns + BY_TIMER_NS:
                self.by_timer += 1
                continue
            second = (intended_ns - schedule.start_ns) // 1_000_000_000
            by_second.setdefault(second, []).append((received_ns - intended_ns) // 1_000)
            self.newest_ns = max(self.newest_ns, intended_ns)
            self.received_ns = received_ns
        for second, latencies in by_second.items():
            self.seconds.setdefault(second, Histogram()).add(np.array(latencies, np.int64))

    def figures(self, skip_s: int) -> dict[str, Any]:
        """All figures of the seconds from `skip_s` on."""
        counted = {second: h for second, h in sorted(self.seconds.items()) if second >= skip_s}
        whole = merged(counted.values())
        return {
            **whole.figures(),
            "repeats": self.repeats,
            "by_timer": self.by_timer,
            "of_others": self.of_others,
            "newest_ns": self.newest_ns,
            "received_ns": self.received_ns,
            "over_time": [{"second": second, **h.figures()} for second, h in counted.items()],
            "histogram_us": whole.buckets(),
        }


def action_number(value: bytes) -> int | None:
    """Number of the event that caused an action; None if it is none of a schedule's."""
    return _number(msgspec.json.decode(value, type=_Action).causation_id)


def _number(causation: str | None) -> int | None:
    try:
        return int(causation or "", 16)
    except ValueError:
        return None


def main(arguments: list[str] | None = None) -> int:
    """Count until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kafka_latency", description=__doc__)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--schedule", type=Path, required=True)
    parser.add_argument("--skip", type=int, default=0, help="seconds at the beginning that do not count")
    chosen = parser.parse_args(arguments)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    consumer = Consumer(
        {
            "bootstrap.servers": chosen.brokers,
            "group.id": "segue-benchmark",
            "enable.auto.commit": "false",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": "20",
        }
    )
    counts = partitions_of(chosen.brokers, [chosen.prefix + channel for channel in CHANNELS])
    places = [TopicPartition(topic, n) for topic, count in counts.items() for n in range(count)]
    for place in places:  # a place, not "the end": what comes while the first fetch is on its way counts
        place.offset = consumer.get_watermark_offsets(place, timeout=10.0)[1] or OFFSET_END
    consumer.assign(places)
    print("ready", flush=True)
    latencies = Latencies()
    schedule: Schedule | None = None
    while not stopped:
        first = consumer.poll(0.1)
        if first is None:
            continue
        messages = [first, *consumer.consume(_BATCH, 0)]
        received_ns = time.time_ns()
        schedule = schedule or read_schedule(chosen.schedule)
        if schedule is not None:
            values = [message.value() or b"" for message in messages if message.error() is None]
            latencies.take(values, schedule, received_ns)
    consumer.close()
    print(json.dumps(latencies.figures(chosen.skip)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
