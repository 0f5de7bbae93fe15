"""Packets through shared memory: what is taken is what was put, and nothing is overwritten before it was taken."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from segue.routing import exchange
from segue.routing.exchange import SLOTS, Exchange, create_exchange, share_packets
from segue.routing.packet import Packet
from segue.settings import Settings
from segue.sources.pace import Pace
from segue_kernels.record import RECORD_WORDS


@pytest.fixture
def pace() -> Pace:
    return Pace.create(1, 2)


@pytest.fixture
def folder(tmp_path: Path, pace: Pace) -> Iterator[Path]:
    assert create_exchange(str(tmp_path), 1, 1_024)
    share_packets(Settings(exchange_path=str(tmp_path)), pace)
    yield tmp_path
    share_packets(Settings(), pace)


def packet(batch: int, rows: int = 3, counted: bool = True) -> Packet:
    records = np.arange(rows * RECORD_WORDS, dtype=np.int64).reshape(rows, RECORD_WORDS) + batch
    text = np.frombuffer(f"strings of batch {batch}".encode(), np.uint8)
    return Packet(0, batch, (batch, 0), (batch + 1, 0), records, text, via=(1,), counted=counted)


def same(a: Packet, b: Packet) -> bool:
    fields = ("partition", "batch", "start", "end", "via", "sender", "finished", "counted")
    equal = all(getattr(a, name) == getattr(b, name) for name in fields)
    return equal and np.array_equal(a.records, b.records) and np.array_equal(a.text, b.text)


@pytest.mark.parametrize("rows", [0, 1, 500])
def test_a_packet_arrives_as_it_was_sent(folder: Path, rows: int) -> None:
    sent = packet(0, rows)
    data = pickle.dumps(sent)
    assert len(data) < 500, "the rows are not in the message"
    taken = pickle.loads(data)
    assert same(sent, taken)
    taken.records[:] = 0  # the taker's own copy
    assert same(sent, pickle.loads(data))


def test_pickling_again_gives_the_same_bytes(folder: Path) -> None:
    for sent in (packet(0), packet(0, counted=False)):
        assert pickle.dumps(sent) == pickle.dumps(sent)


def test_what_is_not_counted_travels_by_value(folder: Path) -> None:
    sent = packet(0, 100, counted=False)
    data = pickle.dumps(sent)
    assert len(data) > sent.records.nbytes
    assert same(sent, pickle.loads(data))


def test_a_full_slot_sends_by_value(folder: Path) -> None:
    packets = [packet(0, 1_000) for _ in range(4)]
    sizes = [len(pickle.dumps(each)) for each in packets]
    assert sizes[0] < 500 < sizes[-1]
    assert all(same(each, pickle.loads(pickle.dumps(each))) for each in packets)


def test_a_slot_is_written_again_only_when_all_have_taken_its_batch(folder: Path, pace: Pace) -> None:
    first = packet(0)
    waiting = pickle.dumps(first)
    for batch in range(1, SLOTS):
        pickle.dumps(packet(batch))
    pace.taken(0, 0)  # one of the two shards
    by_value = pickle.dumps(packet(SLOTS, 50))
    assert len(by_value) > 50 * RECORD_WORDS * 8
    assert same(first, pickle.loads(waiting))
    pace.taken(1, 0)
    assert len(pickle.dumps(packet(SLOTS, 50))) < 500


def test_without_memory_for_it_there_is_no_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert not create_exchange(str(tmp_path), 2, 1_024)
    assert list(tmp_path.iterdir()) == []
    assert exchange.exchange() is None


def test_two_processes_see_one_memory(folder: Path, pace: Pace) -> None:
    other = Exchange(str(folder), pace)
    sent = packet(0)
    at = Exchange(str(folder), pace).put(0, 0, sent.records, sent.text)
    records, text = other.take(0, at, len(sent.records), len(sent.text))
    assert np.array_equal(records, sent.records)
    assert np.array_equal(text, sent.text)
