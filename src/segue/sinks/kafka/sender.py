"""What goes out at once, without a transaction: in a thread of its own, a burst after the other."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, Message

from segue import limits
from segue.errors import SegueError
from segue.kafka.settings import KafkaSettings
from segue.run.stop import FAILED
from segue.sinks.kafka.clients import Trouble, fatal_error, make_producer, message_error, produce, sink_error
from segue.sinks.kafka.message import LaneMessage

_SEND_S = limits.TRANSACTION_MS_MAX / 1000


class Lease(Protocol):
    """Until when it is certain that nobody has taken over."""

    def holds(self) -> bool:
        """Whether it is certain now."""

    def renew(self) -> None:
        """Wait until it is. Raises SegueError."""


class Sender:
    """Sends messages in their order, and tells when they are acknowledged.

    Only under a lease: while it is not certain that nobody has taken over, nothing goes out. And only when all that was
    sent is acknowledged: librdkafka would send no more of a partition anyway, and its thread would spin until it may
    (read 0.25 cores a lane at 10 k messages/s). A burst is in its queue as a whole before any of it goes out, so that
    it is one request a partition; nothing goes out by itself: who is frozen in between finds his lease gone.

    acknowledged  called with topic and offset, in the sender's thread
    heard         called after each burst was sent, and after it was acknowledged
    failed        called with what went wrong; the sender has ended then
    """

    def __init__(
        self,
        settings: KafkaSettings,
        lane: int,
        lease: Lease,
        trouble: Trouble,
        acknowledged: Callable[[str, int], None],
        heard: Callable[[], None],
        failed: Callable[[SegueError], None],
    ) -> None:
        self._settings = settings
        self._lane = lane
        self._lease = lease
        self._trouble = trouble
        self._told_acknowledged = acknowledged
        self._heard = heard
        self._failed = failed
        self._producer = make_producer(settings, trouble)
        self._lock = threading.Condition()
        self._held: list[LaneMessage] = []
        self._closing = False
        self.taken = 0  # messages in all
        self.sent = 0
        self.acknowledged = 0
        self._thread = threading.Thread(target=self._run, name=f"sender-{lane}", daemon=True)
        self._thread.start()

    def take(self, messages: list[LaneMessage]) -> None:
        """Send these next."""
        with self._lock:
            self._held += messages
            self.taken += len(messages)
            self._lock.notify_all()

    def close(self) -> None:
        """Send what was taken, unless something failed, and end."""
        with self._lock:
            self._closing = True
            self._lock.notify_all()
        self._thread.join()

    def _run(self) -> None:
        try:
            while burst := self._next_burst():
                self._send(burst)
        except SegueError as error:
            self._failed(error)
        except KafkaException as error:
            self._failed(sink_error(self._settings, error))
        finally:
            with contextlib.suppress(KafkaException, SystemError):
                self._producer.purge()

    def _next_burst(self) -> list[LaneMessage]:
        with self._lock:
            while not self._held and not self._closing:
                self._lock.wait()
            burst, self._held = self._held, []
        FAILED.raise_if_set()
        return burst

    def _send(self, burst: list[LaneMessage]) -> None:
        while True:
            self._lease.renew()
            for message in burst:
                produce(self._settings, self._producer, message, self._lane, self._on_delivered, self._check)
            if self._lease.holds():
                break
            self._producer.purge(in_queue=True, in_flight=False)
            self._flush(_SEND_S)
        self.sent += len(burst)
        self._heard()
        deadline = time.monotonic() + _SEND_S
        while self._flush(deadline - time.monotonic()):
            self._check()
            if time.monotonic() >= deadline:
                raise sink_error(self._settings, KafkaError(KafkaError._TIMED_OUT))
        self._check()
        self._heard()

    def _flush(self, seconds: float) -> int:
        """Send, and wait for acknowledgements; how many are missing."""
        try:
            return int(self._producer.flush(max(0.0, min(seconds, 0.05))))
        except SystemError as error:
            raise fatal_error(self._settings, self._producer) from error

    def _check(self) -> None:
        FAILED.raise_if_set()
        self._trouble.check()

    def _on_delivered(self, error: KafkaError | None, message: Message) -> None:
        topic = message.topic() or ""
        if error is None:
            self.acknowledged += 1
            if (offset := message.offset()) is not None:
                self._told_acknowledged(topic, offset)
        elif error.code() != KafkaError._PURGE_QUEUE:
            self._trouble.note(message_error(self._settings, error, topic, len(message.value() or b"")))
