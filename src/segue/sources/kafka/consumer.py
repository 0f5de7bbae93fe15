"""The one consumer of a process, shared by the partitions it reads, and the thread that listens to what it says."""

from __future__ import annotations

import threading
import time

import msgspec

from segue.clock import WALL_CLOCK, Clock
from segue.errors import SegueError, SourceError
from segue.kafka.client import LIBRARY_LOG, LOG, client_properties, is_final, kafka_error
from segue.kafka.library import EVENT_ERROR, EVENT_LOG, Client, Event, RdKafkaError, error_name
from segue.kafka.settings import KafkaSettings
from segue.limits import (
    KAFKA_ANSWER_MS_MAX,
    KAFKA_END_BEHIND_MS,
    KAFKA_END_IDLE_MS,
    KAFKA_FETCH_BYTES_MIN,
    KAFKA_FETCH_WAIT_MS,
    KAFKA_METADATA_MS,
    KAFKA_QUEUE_BYTES,
    KAFKA_QUEUE_MESSAGES,
    KAFKA_TELL_MS,
)

STEP = "read events"
_PYTHON_LEVELS = (50, 50, 50, 40, 30, 25, 20, 10)  # of syslog's 0 to 7


class Reading:
    """A partition as the listening thread sees it. Each attribute has one writer: its reader, or that thread.

    idle      its reader found nothing
    moved     monotonic time at which its reader last found something
    answer    (wall time at which the end was asked for, ms; the end that the broker told)
    """

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.idle = False
        self.moved = 0.0
        self.answer: tuple[int, int] | None = None


class Consumer:
    """Reads partitions from offsets that it is told, and knows where the idle ones end.

    Where a partition ends is asked for all idle ones in one request: each KAFKA_END_BEHIND_MS while another partition
    of the process has events, so that its rows need not wait, else each KAFKA_END_IDLE_MS. Without an answer nothing
    is confirmed. Brokers that can't be reached are told about once, and tried for ever; a broker that refuses us ends
    the reading (`check`).
    """

    def __init__(self, settings: KafkaSettings, partitions: int, clock: Clock = WALL_CLOCK) -> None:
        self._brokers = settings.brokers
        self._clock = clock
        self._failed: SegueError | None = None
        self._readings: list[Reading] = []
        self._questions: dict[int, tuple[int, list[Reading]]] = {}
        self._question = 0
        self._asked = 0.0
        self._away_since: float | None = None
        self._told_away = False
        self._closing = False
        try:
            self.client = Client(_properties(settings, partitions))
        except RdKafkaError as error:
            raise kafka_error(STEP, (error.code, str(error)), SourceError) from error
        self._thread = threading.Thread(target=self._listen, name="segue-kafka-consumer", daemon=True)
        self._thread.start()

    def add(self, reading: Reading) -> None:
        """A partition is read from now on."""
        self._readings = [*self._readings, reading]

    def remove(self, reading: Reading) -> None:
        """It is no longer."""
        self._readings = [other for other in self._readings if other is not reading]

    def check(self) -> None:
        """Raise what has ended the reading, if anything has."""
        if self._failed is not None:
            raise self._failed

    def close(self) -> None:
        """End the thread and the client. No partition may be open."""
        self._closing = True
        self.client.wake()
        self._thread.join()
        self.client.close()

    def _listen(self) -> None:
        while not self._closing:
            wait = self._asked + self._pause() - time.monotonic()
            event = self.client.poll(max(1, int(wait * 1_000)))
            if event is not None:
                self._heard(event)
            now = time.monotonic()
            if now >= self._asked + self._pause():
                self._asked = now
                self._ask()
            if self._away_since is not None and not self._told_away:
                away_ms = (now - self._away_since) * 1_000
                if away_ms >= KAFKA_TELL_MS:
                    self._told_away = True
                    LOG.warning(
                        "no broker of %s can be reached: waiting, and nothing becomes due meanwhile",
                        self._brokers,
                    )

    def _pause(self) -> float:
        """Seconds between two questions."""
        latest = max((reading.moved for reading in self._readings), default=0.0)
        reads = time.monotonic() < latest + KAFKA_END_IDLE_MS / 1_000
        return (KAFKA_END_BEHIND_MS if reads else KAFKA_END_IDLE_MS) / 1_000

    def _ask(self) -> None:
        idle = [reading for reading in self._readings if reading.idle]
        if not idle or self._questions:
            return
        self._question += 1
        self._questions[self._question] = (self._clock.now_ms(), idle)
        places = [(reading.topic, reading.partition) for reading in idle]
        self.client.ask_ends(places, KAFKA_ANSWER_MS_MAX, self._question)

    def _heard(self, event: Event) -> None:
        if event.kind == EVENT_LOG:
            LIBRARY_LOG.log(_PYTHON_LEVELS[min(max(event.code, 0), 7)], "%s", event.text)
        elif event.kind == EVENT_ERROR:
            name = error_name(event.code)
            if is_final(name, event.text):
                if self._failed is None:
                    self._failed = kafka_error(STEP, (event.code, event.text), SourceError)
            elif self._away_since is None:
                self._away_since = time.monotonic()
        elif event.ends is not None:
            self._answered(event.opaque, event.ends)

    def _answered(self, question: int, ends: dict[tuple[str, int], int]) -> None:
        asked_ms, readings = self._questions.pop(question)
        for reading in readings:
            end = ends.get((reading.topic, reading.partition))
            if end is not None:
                reading.answer = (asked_ms, end)
        if ends:
            if self._told_away:
                LOG.warning("a broker of %s can be reached again", self._brokers)
            self._away_since = None
            self._told_away = False


def _properties(settings: KafkaSettings, partitions: int) -> dict[str, str]:
    share = max(1, partitions)
    return client_properties(
        settings,
        "consumer",
        defaults={
            "queued.min.messages": max(1_000, KAFKA_QUEUE_MESSAGES // share),
            "queued.max.messages.kbytes": max(1 << 10, (KAFKA_QUEUE_BYTES >> 10) // share),
            "fetch.wait.max.ms": KAFKA_FETCH_WAIT_MS,
            "fetch.min.bytes": KAFKA_FETCH_BYTES_MIN,
            "fetch.queue.backoff.ms": KAFKA_FETCH_WAIT_MS,
            "fetch.error.backoff.ms": 100,
            # a topic that was deleted is noticed then
            "topic.metadata.refresh.interval.ms": KAFKA_METADATA_MS,
        },
    )


_shared: dict[bytes, tuple[Consumer, int]] = {}  # by settings: the consumer, and how many partitions use it
_lock = threading.Lock()


def shared_consumer(settings: KafkaSettings, partitions: int) -> Consumer:
    """This process's consumer of these settings; each call wants a `leave_consumer`."""
    key = msgspec.json.encode(settings)
    with _lock:
        consumer, users = _shared.get(key) or (Consumer(settings, partitions), 0)
        _shared[key] = (consumer, users + 1)
    return consumer


def leave_consumer(settings: KafkaSettings) -> None:
    """A partition is closed; the last one ends the consumer."""
    key = msgspec.json.encode(settings)
    with _lock:
        consumer, users = _shared.pop(key)
        if users > 1:
            _shared[key] = (consumer, users - 1)
            return
    consumer.close()
