"""The load and the latencies of the Kafka benchmark say what they mean."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.histogram import SUB, Histogram, merged
from benchmarks.kafka_latency import Latencies
from benchmarks.kafka_load import FORMS, MANY, Load, Schedule, Sender, read_schedule, run, tick_s
from deploy.kafka.broker import Broker
from segue.chaos.topics import lines_of
from segue.events.time import time_text
from segue.kafka.read import read_topics
from segue.kafka.settings import Form
from tests.brokers import Topics

START_MS = 1_772_438_400_000


def test_a_histogram_is_exact_to_a_per_cent() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate(
        [rng.integers(0, SUB, 1_000), np.exp(rng.uniform(0, 20, 50_000)).astype(np.int64)]
    )
    whole, parts = Histogram(), [Histogram() for _ in range(3)]
    whole.add(values)
    for number, part in enumerate(parts):
        part.add(values[number::3])
    assert np.array_equal(merged(parts).counts, whole.counts)
    assert whole.total == len(values) == sum(count for _, count in whole.buckets())
    ordered = np.sort(values)
    for percent in (1.0, 50.0, 90.0, 99.0, 99.9, 100.0):
        exact = int(ordered[max(0, int(np.ceil(len(values) * percent / 100)) - 1)])
        assert exact <= whole.quantile_us(percent) <= exact * 1.01 + 1
    assert whole.figures()["max_ms"] == round(values.max() / 1e3, 2)


def test_small_and_negative_values() -> None:
    histogram = Histogram()
    assert histogram.quantile_us(99.0) == 0
    histogram.add(np.array([-5, 0, 1, 255, 256, 257, 1 << 40]))
    assert [value for value, _ in histogram.buckets()][:5] == [0, 1, 255, 257, (1 << 36) + (1 << 29) - 1]
    assert histogram.quantile_us(1.0) == 0
    assert histogram.quantile_us(100.0) == 1 << 36


def action(number: int, decided_ms: int, decision: int) -> bytes:
    return msgspec.json.encode(
        {"decision_id": f"{decision:032x}", "causation_id": f"{number:016x}", "time": time_text(decided_ms)}
    )


def test_latency_counts_from_the_intended_time() -> None:
    schedule = Schedule(first=100, start_ns=START_MS * 1_000_000, rate=1_000.0, events=5_000)
    latencies = Latencies()
    at_ns = schedule.start_ns + 60_000_000
    values = [
        action(110, START_MS + 10, 1),  # meant for 10 ms after the start, came 50 ms later
        action(120, START_MS + 15, 2),  # ... 40 ms
        action(110, START_MS + 10, 1),  # a repeat
        action(110, START_MS + 30_000, 3),  # a wait was over
        action(99, START_MS, 4),  # of an earlier schedule
    ]
    latencies.take(values, schedule, at_ns)
    latencies.take([action(1_600, START_MS + 1_500, 5)], schedule, schedule.start_ns + 1_510_000_000)
    figures = latencies.figures(0)
    assert (figures["count"], figures["max_ms"]) == (3, 50.0)
    assert (figures["repeats"], figures["by_timer"], figures["of_others"]) == (1, 1, 1)
    assert [(s["second"], s["count"]) for s in figures["over_time"]] == [(0, 2), (1, 1)]
    assert latencies.figures(1)["max_ms"] == 10.0


@pytest.mark.parametrize("form", FORMS)
def test_the_load_is_what_its_schedule_says(
    form: Form, broker: Broker, topics: Topics, tmp_path: Path
) -> None:
    rate, partitions, first = 4_000.0, 3, 1 << 20
    topic = topics("load", partitions=partitions)
    load = Load(form, partitions, 500, rate, 7, ring=1 << 12)
    before_ns = time.time_ns()
    sender = Sender(broker.brokers, topic, form)
    figures = run(sender, load, 0.5, first, tmp_path / "schedule")
    sender.close()
    schedule = read_schedule(tmp_path / "schedule")
    assert schedule is not None
    assert schedule.start_ns > before_ns
    assert (schedule.first, schedule.events) == (first, 2_000)
    assert (figures["events"], figures["undelivered"]) == (2_000, 0)
    numbers: list[int] = []
    homes: dict[str, set[int]] = {}
    for record in read_topics(broker.brokers, [topic]):
        lines = lines_of(record, form)
        assert len(lines) <= (MANY if form == "many" else 1)
        for line in lines:
            event = msgspec.json.decode(line.line)
            event |= event.pop("data", {})
            numbers.append(int(event["id"], 16))
            homes.setdefault(event["userId"], set()).add(record.partition)
            behind_ns = schedule.intended_ns(numbers[-1]) - _ns(event["time"])
            assert -2_000_000 <= behind_ns <= 5_002_000_000
            assert record.key is None or record.key.decode() == event["userId"]
    assert all(len(partition) == 1 for partition in homes.values())
    assert len(numbers) == 2_000
    assert 0 < 2_000 - len(set(numbers)) < 60  # repeats
    assert min(numbers) == first


def _ns(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e9)


def test_a_message_of_many_has_time_to_fill() -> None:
    assert tick_s("json", 1_000.0, 4) == tick_s("many", 1e9, 4) == 0.002
    assert tick_s("many", 1_000.0, 4) == 0.02
    assert tick_s("many", 80_000.0, 4) == pytest.approx(0.01)
