"""What the Kafka benchmarks conclude from what they read."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import reads
from benchmarks.checkpoint import quantiles
from benchmarks.kafka import broker_settings, cpu_seconds, sustained
from benchmarks.kafka_load import Load, Schedule

SCHEDULE = Schedule(first=1, start_ns=10**18, rate=1_000.0, events=10_000)
END_NS = SCHEDULE.start_ns + 10**10


def conclusion(medians: list[float], *, kept_rate: bool = True, newest_ns: int = END_NS) -> str:
    seen: dict[str, Any] = {
        "over_time": [{"second": n, "p50_ms": p50} for n, p50 in enumerate(medians)],
        "newest_ns": newest_ns,
    }
    return str(sustained({"kept_rate": kept_rate, "behind_p99_ms": 70.0}, seen, SCHEDULE)["why_not"])


def test_a_rate_is_sustained_while_the_lag_is_bounded() -> None:
    assert conclusion([900.0, *(20.0,) * 9]) == ""  # what the first second shows is the start
    assert conclusion([20.0, *range(20, 400, 40)]) == "the lag grew"
    assert "took 1,200 ms" in conclusion([20.0, 20.0, 20.0, 1_200.0, 20.0, 20.0])
    assert conclusion([20.0] * 8, newest_ns=END_NS - 2 * 10**9) == "actions of the last second are missing"
    assert conclusion([]) == "no action came"
    assert "70 ms behind" in conclusion([20.0] * 10, kept_rate=False)


def test_gaps_are_from_the_end_of_a_read_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "reads"
    assert len(reads.reads(path)) == 0
    times = np.memmap(path, np.int64, "w+", shape=(100, 4))
    times[:4, :2] = [[1, 2_000_001], [5_000_001, 6_000_001], [6_000_001, 7_000_001], [9_500_001, 9_600_001]]
    times[:4, 2:] = [[0, 500_000], [1_500_000, 1_500_000], [1_500_000, 1_600_000], [1_600_000, 1_600_000]]
    noted = reads.reads(path)
    gaps = reads.gaps_ms(noted)
    assert gaps.tolist() == [3.0, 0.0, 2.5]
    assert reads.own_gaps_ms(noted).tolist() == [2.0, 0.0, 2.5]
    assert reads.gaps_ms(reads.between(noted, 6_000_000, 8_000_000)).tolist() == [0.0]
    assert reads.longest_ms(noted, gaps, 1, 6_500_000).tolist() == [3.0, 2.5]
    assert reads.longest_ms(noted[:0], gaps[:0], 1, 5).tolist() == []
    assert quantiles(np.array([1.0, 2.0, 9.0])) == {
        "count": 3, "p50_ms": 2.0, "p99_ms": 8.86, "p99.9_ms": 8.986, "max_ms": 9.0
    }  # fmt: skip
    assert quantiles(np.zeros(0)) == {"count": 0}


def test_cpu_of_a_process_grows_with_its_work() -> None:
    before = cpu_seconds([os.getpid()])
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    assert 0.1 < cpu_seconds([os.getpid()]) - before < 2.0
    assert cpu_seconds([1 << 30]) == 0.0


def test_a_state_is_filled_one_customer_after_the_other() -> None:
    load = Load("many", 2, 300, 1_000.0, 1, ring=1 << 10, each_once=True)
    buffer, messages = load.batch(Schedule(7, 10**18, 1_000.0, 300), 7, 307)
    lines = buffer.tobytes().splitlines()
    assert len({line.split(b'"userId":"')[1][:16] for line in lines}) == len(lines) == 300
    assert all(b'"type":"Product Viewed"' in line for line in lines)
    assert messages[:, 2].sum() == len(buffer)


def test_passwords_are_not_told(tmp_path: Path) -> None:
    text = "num.partitions=4\nssl.keystore.password=abc\nx.sasl.jaas.config=secret;\n"
    (tmp_path / "server.properties").write_text(text)
    assert broker_settings(tmp_path) == {"num.partitions": "4"}
    assert broker_settings(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("form", ["json", "cloudevents"])
def test_messages_are_pieces_of_one_buffer(form: str) -> None:
    load = Load(form, 3, 500, 1_000.0, 1, ring=1 << 10)
    buffer, messages = load.batch(Schedule(1, 10**18, 1_000.0, 200), 1, 201)
    text = buffer.tobytes()
    assert (np.diff(messages[:, 0]) >= 0).all()
    for _, value, size, key, *headers in messages.tolist():
        assert text[key : key + 9] == b"customer-"
        assert text[value : value + 1] == b"{"
        assert text[value + size - 1 : value + size + 1] == b"}\n"
        if form == "cloudevents":
            places = zip(headers[::2], headers[1::2], strict=True)
            number, kind, source, moment = (text[at : at + length] for at, length in places)
            assert len(number) == 16
            assert b'"' not in kind + source
            assert source in (b"web", b"app", b"shop")
            assert moment.endswith(b"Z")
