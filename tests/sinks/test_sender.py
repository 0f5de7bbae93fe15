"""What goes out at once, on a client that gives messages back: counted are whole bursts that are there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError

from segue.kafka.settings import KafkaSettings
from segue.sinks.kafka import sender
from segue.sinks.kafka.clients import Trouble
from segue.sinks.kafka.message import LaneMessage

SETTINGS = KafkaSettings(brokers="nowhere:1", name="n", prefix="p.")
BURST = [LaneMessage("p.till", None, b"1", []), LaneMessage("p.web", None, b"2", [])]


class Delivered:
    """A message of the client's."""

    def offset(self) -> int:
        """Where it stands."""
        return 0


class Client:
    """Takes messages; a flush is told of each: of those to `late` the first time that they timed out."""

    def __init__(self, late: str, at_once: str = "") -> None:
        self._late = {late}
        self._at_once = at_once
        self._queue: list[tuple[str, Callable[..., None]]] = []
        self.sent: list[str] = []

    def produce(self, topic: str, *_: Any, on_delivery: Callable[..., None], **__: Any) -> None:
        """The queue is full with a message to `at_once`: it goes out before the flush."""
        if topic == self._at_once:
            self.sent.append(topic)
            on_delivery(None, Delivered())
        else:
            self._queue.append((topic, on_delivery))

    def purge(self, **_: bool) -> None:
        """Give back what was not sent."""
        queue, self._queue = self._queue, []
        for _topic, told in queue:
            told(KafkaError(KafkaError._PURGE_QUEUE), Delivered())

    def flush(self, _seconds: float) -> int:
        """Send."""
        queue, self._queue = self._queue, []
        for topic, told in queue:
            self.sent.append(topic)
            error = KafkaError(KafkaError._MSG_TIMED_OUT) if topic in self._late else None
            self._late.discard(topic)
            told(error, Delivered())
        return 0


class Lease:
    """Notes how far the sender is whenever it asks; `holds` says what it is told to, then yes."""

    def __init__(self, *holds: bool) -> None:
        self._holds = list(holds)
        self.sender: sender.Sender | None = None
        self.there = threading.Event()
        self.counters: list[tuple[int, int]] = []

    def holds(self) -> bool:
        """Whether it is certain now."""
        return self._holds.pop(0) if self._holds else True

    def renew(self) -> None:
        """It always is."""
        assert self.there.wait(10)
        assert self.sender is not None
        self.counters.append((self.sender.sent, self.sender.acknowledged))


def run(client: Client, lease: Lease, monkeypatch: pytest.MonkeyPatch) -> sender.Sender:
    monkeypatch.setattr(sender, "make_producer", lambda *_: client)
    failed: list[Exception] = []
    made = sender.Sender(SETTINGS, 0, lease, Trouble(SETTINGS), lambda *_: None, lambda: None, failed.append)
    lease.sender = made
    lease.there.set()
    made.take(BURST)
    made.close()
    assert not failed
    return made


def test_a_part_of_a_burst_is_not_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first may be missing while the second is there: whose log row waits for one message must not go."""
    client, lease = Client(late="p.till"), Lease()
    made = run(client, lease, monkeypatch)
    assert client.sent == ["p.till", "p.web", "p.till"]
    assert lease.counters == [(0, 0), (2, 0)]
    assert (made.sent, made.acknowledged) == (2, 2)


def test_what_went_out_before_its_flush_counts_though_the_rest_was_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, lease = Client(late="", at_once="p.till"), Lease(False)
    made = run(client, lease, monkeypatch)
    assert client.sent == ["p.till", "p.web"]
    assert lease.counters == [(0, 0), (0, 0)]
    assert (made.sent, made.acknowledged) == (2, 2)
