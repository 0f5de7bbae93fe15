"""What goes out at once, without a transaction: in a thread of its own, a burst after the other."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, Message

from segue import limits
from segue.errors import SegueError, SinkError
from segue.kafka.settings import KafkaSettings
from segue.sinks.kafka.clients import (
    STEP,
    Trouble,
    fatal_error,
    make_producer,
    message_error,
    produce,
    sink_error,
)
from segue.sinks.kafka.message import LaneMessage

_SEND_S = limits.TRANSACTION_MS_MAX / 1000
_LOOK_S = 0.05  # who waits for acknowledgements looks so often for the errors of others
_NOT_SENT = frozenset({KafkaError._PURGE_QUEUE, KafkaError._MSG_TIMED_OUT})


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
    it is one request a partition; only a flush sends it, after a last look at the lease; and what librdkafka could not
    send while the lease may have run out it gives back: who was frozen at any point sends nothing when he is thawed.

    acknowledged  called with topic and offset, in the sender's thread
    heard         called after each burst was sent, and after it was acknowledged
    failed        called with what went wrong; the sender has ended then

    Its counters name whole bursts: a part of one that was acknowledged need not be its first part.
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
        self._again: list[LaneMessage] = []  # that were given back
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
        except BaseException as error:
            found = f"the sender of lane {self._lane} ended: {type(error).__name__}: {error}"
            self._failed(SinkError(STEP, found, ""))
            raise
        finally:
            with contextlib.suppress(KafkaException, SystemError):
                self._producer.purge()

    def _next_burst(self) -> list[LaneMessage]:
        with self._lock:
            while not self._held and not self._closing:
                self._lock.wait()
            burst, self._held = self._held, []
        self._trouble.check()
        return burst

    def _send(self, burst: list[LaneMessage]) -> None:
        deadline = time.monotonic() + _SEND_S
        end = self.sent + len(burst)
        while burst:
            self._lease.renew()
            for message in burst:
                told = partial(self._on_delivered, message)
                produce(self._settings, self._producer, message, self._lane, told, self._trouble.check)
            if not self._lease.holds():
                self._producer.purge(in_queue=True, in_flight=False)
            elif self.sent < end:
                self.sent = end
                self._heard()
            while self._flush():
                self._trouble.check()
            self._trouble.check()
            burst, self._again = self._again, []
            if burst and time.monotonic() >= deadline:
                raise sink_error(self._settings, KafkaError(KafkaError._TIMED_OUT))
        self.sent = self.acknowledged = end
        self._heard()

    def _flush(self) -> int:
        """Send, and wait a little for acknowledgements; how many are missing."""
        try:
            return int(self._producer.flush(_LOOK_S))
        except SystemError as error:
            raise fatal_error(self._settings, self._producer) from error

    def _on_delivered(self, message: LaneMessage, error: KafkaError | None, delivered: Message) -> None:
        if error is None:
            if (offset := delivered.offset()) is not None:
                self._told_acknowledged(message.topic, offset)
        elif error.code() in _NOT_SENT:
            self._again.append(message)
        else:
            self._trouble.note(message_error(self._settings, error, message.topic, len(message.value)))
