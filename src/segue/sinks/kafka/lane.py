"""A lane: the one producer of its partition of every output topic, in a thread of its own."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from segue import limits
from segue.errors import SegueError, SinkError
from segue.kafka.receipts import IDS, unpack_ids
from segue.kafka.settings import KafkaSettings
from segue.outputs import HEARTBEAT
from segue.run import kill
from segue.run.stop import FAILED
from segue.sinks.kafka.clients import (
    SLICE_S,
    STEP,
    Trouble,
    fatal_error,
    init_transactions,
    make_producer,
    make_reader,
    message_error,
    produce,
    sink_error,
)
from segue.sinks.kafka.message import LaneMessage, LanePosition, header, is_idempotent, is_log
from segue.sinks.kafka.sender import Sender
from segue.sinks.kafka.tables import rows_of_stream
from segue.sinks.kafka.tail import Tail, read_to_end

WAITS_KEPT = 65_536
_LOOK_S = 0.05  # who waits for the thread looks so often for the errors of others
_SEND_S = limits.TRANSACTION_MS_MAX / 1000
_APART_S = limits.TRANSACTIONS_APART_MS / 1000
_open_lanes: weakref.WeakSet[Lane] = weakref.WeakSet()


def clear_of_snapshot(due: float, expected: float) -> float:
    """When a transaction of logs alone begins that is due now, if a snapshot is expected then: whoever asks for one
    while it is under way would wait for it, and for his own one behind it. Seconds of one clock."""
    apart = limits.SNAPSHOT_APART_MS / 1000
    return expected + apart if abs(due - expected) < apart else due


class _Trouble(Trouble):
    """Of a lane's clients: what ends the run ends their waits too."""

    def check(self) -> None:
        """Raise it, or what ended the run."""
        super().check()
        FAILED.raise_if_set()


class _Queued(NamedTuple):
    """Messages for one transaction; before it commits the first `taken_before` messages that go out at once are
    acknowledged: nothing is logged as sent that is not there. `due`: others may come to share it until then."""

    messages: list[LaneMessage]
    taken_before: int
    at: float
    due: float
    only_logs: bool


class Lane:
    """Sends items in their order: an item's transactional messages in one transaction, its idempotent ones at once.

    The thread fences whoever had the lane and looks whether anything was sent since the tail was read; until then
    writing waits. Any error ends the lane for good: it is noted in FAILED, and every call raises it.
    """

    def __init__(self, settings: KafkaSettings, number: int, tail: Tail) -> None:
        position = tail.positions[number]
        self._settings = settings
        self._number = number
        self._fenced_at = tail.fenced_at
        self._offsets = dict(position.offsets)
        self._pending = {topic: Counter(unpack_ids(ids)) for topic, ids in position.pending.items() if ids}
        self._matched_at = time.monotonic()
        self._at_once = {topic for topic in self._offsets if is_idempotent(settings, topic)}
        self._logs = {topic for topic in self._offsets if is_log(settings, topic)}
        self._gather_s = settings.gather_ms / 1000
        self._gather_logs_s = max(settings.gather_ms, limits.GATHER_LOGS_MS) / 1000
        self._trouble = _Trouble(settings)
        self._sender: Sender | None = None  # of what goes out at once
        lock = threading.RLock()
        self._lock = threading.Condition(lock)  # told of progress
        self._work = threading.Condition(lock)  # told of what the thread has to do
        self._wakes_at = 0.0  # the thread looks again by then
        self._queue: deque[_Queued] = deque()
        self._queued = 0  # messages not yet committed
        self._hurried = False
        self._beat_asked = False
        self._closing = False
        self._ready = False
        self._over = False  # the thread has ended
        self._waits_ms: deque[float] = deque(maxlen=WAITS_KEPT)
        self._asked_at = 0.0  # for the last snapshot
        self._asked_every_s = 0.0
        self._committed_at = 0.0
        self._lease_until = 0.0
        self._last: dict[str, int] = {}  # by topic: the last offset of the transaction under way
        self._topics: set[str] = set()  # of that transaction
        self._thread = threading.Thread(target=self._run, name=f"lane-{number}", daemon=True)
        _open_lanes.add(self)
        self._thread.start()

    def write(self, items: Sequence[list[LaneMessage]]) -> None:
        """Take items; waits while too much is under way. Raises SinkError."""
        for item in items:
            messages = self._not_yet_sent(item) if self._pending else item
            self._wait(lambda: self._ready and self._queued < limits.LANE_QUEUE_MESSAGES_MAX)
            rest = messages
            sender = self._sender
            if sender is not None:
                at_once = [message for message in messages if message.topic in self._at_once]
                if at_once:
                    self._wait(lambda: self._unacknowledged() < limits.LANE_QUEUE_MESSAGES_MAX)
                    sender.take(at_once)
                    rest = [message for message in messages if message.topic not in self._at_once]
            if rest:
                only_logs = all(message.topic in self._logs for message in rest)
                with self._lock:
                    taken = sender.taken if sender is not None else 0
                    now = time.monotonic()
                    due = now + (self._gather_logs_s if only_logs else self._gather_s)
                    self._queue.append(_Queued(rest, taken, now, due, only_logs))
                    self._queued += len(rest)
                    if due < self._wakes_at or self._queued >= limits.TRANSACTION_MESSAGES_MAX:
                        self._work.notify()

    def hurry(self) -> None:
        """Gather no longer: somebody will wait for what is queued."""
        with self._lock:
            if self._queue and not self._hurried:
                self._hurried = True
                self._work.notify()

    def snapshot(self) -> LanePosition:
        """Wait until all that was taken is committed or acknowledged; where the lane stands then. Raises SinkError.

        The other lanes of this process begin to commit too: they are asked next.
        """
        now = time.monotonic()
        self._asked_every_s, self._asked_at = now - self._asked_at, now
        for lane in list(_open_lanes):
            lane.hurry()
        self._wait(lambda: self._ready and not self._queued and not self._unacknowledged())
        if self._pending and time.monotonic() - self._matched_at > limits.PENDING_MS / 1000:
            self._pending = {}
        pending = {topic: b"".join(ids.elements()) for topic, ids in self._pending.items()}
        with self._lock:
            return LanePosition(dict(self._offsets), pending)

    def waits_ms(self) -> npt.NDArray[np.float64]:
        """Of the last WAITS_KEPT items: how long from being written to being visible."""
        with self._lock:
            return np.array(self._waits_ms, np.float64)

    def close(self) -> None:
        """Commit what is queued and let go. May be called again; silent after a failure that was noted before."""
        try:
            FAILED.raise_if_set()
            failed_before = False
        except SegueError:
            failed_before = True
        if self._sender is not None:
            self._sender.close()
        with self._lock:
            self._closing = True
            self._work.notify()
        self._thread.join()
        _open_lanes.discard(self)
        if not failed_before:
            FAILED.raise_if_set()

    def _wait(self, is_so: Callable[[], bool]) -> None:
        with self._lock:
            while True:
                self._check()
                if is_so():
                    return
                self._lock.wait(_LOOK_S)

    def _check(self) -> None:
        FAILED.raise_if_set()
        if self._over:
            raise SinkError(STEP, f"lane {self._number} was closed", "write before closing")

    def _not_yet_sent(self, messages: list[LaneMessage]) -> list[LaneMessage]:
        """Without the rows that the tail has already."""
        left = []
        for message in messages:
            pending = self._pending.get(message.topic)
            told = header(message.headers, IDS) if pending else None
            if not pending or told is None:
                left.append(message)
                continue
            ids = unpack_ids(told)
            keep = []
            for each in ids:
                is_new = pending[each] <= 0
                keep.append(is_new)
                if not is_new:
                    pending[each] -= 1
                    if not pending[each]:
                        del pending[each]
            if not pending:
                del self._pending[message.topic]
            if all(keep):
                left.append(message)
                continue
            self._matched_at = time.monotonic()
            if any(keep):
                kept = b"".join(each for each, is_new in zip(ids, keep, strict=True) if is_new)
                headers = [(IDS, kept), *(each for each in message.headers if each[0] != IDS)]
                left.append(message._replace(value=rows_of_stream(message.value, keep), headers=headers))
        return left

    def _unacknowledged(self) -> int:
        """Messages that go out at once and are not known to be there."""
        sender = self._sender
        return sender.taken - sender.acknowledged if sender is not None else 0

    # --- a lease for what goes out at once ---------------------------------------------------------------

    def holds(self) -> bool:
        """Whether it is certain that nobody has taken over."""
        return time.monotonic() < self._lease_until

    def renew(self) -> None:
        """Wait until it is certain. Raises SinkError."""
        if self.holds():
            return
        with self._lock:
            self._beat_asked = True
            self._work.notify()
            self._lock.notify_all()  # the thread may wait for what can't be sent without a lease
        try:
            self._wait(self.holds)
        finally:
            self._beat_asked = False

    def _on_acknowledged(self, topic: str, offset: int) -> None:
        with self._lock:
            self._offsets[topic] = max(self._offsets.get(topic, 0), offset + 1)

    def _on_sent(self) -> None:
        with self._lock:
            self._lock.notify_all()
            if self._queue:  # perhaps it waited for that
                self._work.notify()

    # --- the thread --------------------------------------------------------------------------------------

    def _on_delivered(self, error: KafkaError | None, message: Message) -> None:
        topic = message.topic() or ""
        if error is None:
            offset = message.offset()
            if offset is not None and offset >= 0:  # of a message that had to be sent again it may be unknown
                self._last[topic] = offset
        elif error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            size = len(message.value() or b"")
            self._trouble.note(message_error(self._settings, error, topic, size))

    def _fail(self, error: SegueError) -> None:
        FAILED.set(error)
        with self._lock:
            self._lock.notify_all()
            self._work.notify()

    def _run(self) -> None:
        producer = None
        try:
            producer = make_producer(self._settings, self._trouble, self._number)
            self._open(producer)
            while (items := self._gathered()) is not None:
                self._commit(producer, items)
        except SegueError as error:
            self._fail(error)
        except KafkaException as error:
            self._fail(self._found(error))
        except BaseException as error:
            self._fail(SinkError(STEP, f"lane {self._number} ended: {type(error).__name__}: {error}", ""))
            raise
        finally:
            self._let_go(producer)
            with self._lock:
                self._over = True
                self._lock.notify_all()

    def _found(self, error: KafkaException) -> SegueError:
        """What a client's thread found out says more than what a call does."""
        try:
            self._trouble.check()
        except SegueError as found:
            return found
        # of what is refused to a whole transaction the client does not tell the topic
        refused = error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        return sink_error(self._settings, error, '" or "'.join(sorted(self._topics)) if refused else "")

    def _open(self, producer: Producer) -> None:
        init_transactions(self._settings, producer, self._trouble)
        fenced_at = time.monotonic()
        if self._at_once:
            self._sender = Sender(
                self._settings,
                self._number,
                self,
                self._trouble,
                self._on_acknowledged,
                self._on_sent,
                self._fail,
            )
            with self._lock:  # until then an older engine may still send what needs no transaction
                until = self._fenced_at + limits.LEASE_MS / 1000
                while (wait_s := until - time.monotonic()) > 0 and not self._closing:
                    self._work.wait(min(wait_s, _LOOK_S))
        reader = make_reader(self._settings, self._trouble)
        try:
            starts = {(topic, self._number): at for topic, at in self._offsets.items()}
            read_to_end(self._settings, reader, starts, self._refuse, self._trouble)
        finally:
            reader.close()
        with self._lock:
            self._committed_at = fenced_at
            self._lease_until = fenced_at + limits.LEASE_MS / 1000
            self._ready = True
            self._lock.notify_all()

    def _refuse(self, message: Message) -> None:
        found = (
            f'topic "{message.topic()}" partition {message.partition()} got a message at {message.offset()} '
        )
        raise SinkError(
            STEP,
            f'{found}while this engine started: another engine with the name "{self._settings.name}" was at work',
            "start again; give each deployment a name of its own (kafka.name)",
        )

    def _gathered(self) -> list[_Queued] | None:
        """What the next transaction takes, nothing for a heartbeat; None = the lane ends."""
        with self._lock:
            while True:
                self._trouble.check()
                now = time.monotonic()
                sent = self._sent_before_commit()
                if self._queue and self._queue[0].taken_before <= sent:
                    full = self._queued >= limits.TRANSACTION_MESSAGES_MAX
                    if self._hurried or self._closing or full or self._beat_asked:
                        due = self._committed_at + _APART_S
                    else:
                        due = min(item.due for item in self._queue)
                        due = max(due, self._committed_at + self._gather_s)
                        if all(item.only_logs for item in self._queue):
                            due = clear_of_snapshot(due, self._asked_at + self._asked_every_s)
                elif self._closing and not self._queue:
                    return None
                elif self._beat_asked:
                    due = self._committed_at + _APART_S
                else:
                    due = self._committed_at + limits.HEARTBEAT_MS / 1000
                if now >= due:
                    break
                self._wakes_at = due
                self._work.wait(due - now)
            self._wakes_at = 0.0
            items: list[_Queued] = []
            messages = 0
            while self._queue and (not items or messages < limits.TRANSACTION_MESSAGES_MAX):
                if self._queue[0].taken_before > sent:
                    break
                items.append(self._queue.popleft())
                messages += len(items[-1].messages)
            self._hurried = self._hurried and bool(self._queue)
            return items

    def _sent_before_commit(self) -> int:
        """How many messages that go out at once are there, or will be before a transaction that begins now commits:
        those under way, unless they were given back and wait for a lease, which a commit has to bring first."""
        sender = self._sender
        if sender is None:
            return 0
        return sender.acknowledged if self._beat_asked else sender.sent

    def _commit(self, producer: Producer, items: list[_Queued]) -> None:
        deadline = time.monotonic() + _SEND_S
        self._last.clear()
        self._topics = {message.topic for item in items for message in item.messages}
        producer.begin_transaction()
        for item in items:
            for message in item.messages:
                produce(
                    self._settings, producer, message, self._number, self._on_delivered, self._trouble.check
                )
        if not items:
            topic = self._settings.prefix + HEARTBEAT
            beat = LaneMessage(topic, None, b"", [])
            produce(self._settings, producer, beat, self._number, self._on_delivered, self._trouble.check)
        while self._flush(producer):
            self._trouble.check()
            if time.monotonic() >= deadline:
                raise sink_error(self._settings, KafkaError(KafkaError._TIMED_OUT))
        self._trouble.check()
        if items and not self._is_acknowledged(items[-1].taken_before):
            producer.abort_transaction(max(0.1, deadline - time.monotonic()))
            with self._lock:
                self._queue.extendleft(reversed(items))
            return
        kill.point("after_produce")
        before = time.monotonic()
        producer.commit_transaction(max(0.1, deadline - before))
        kill.point("after_commit")
        with self._lock:
            for topic, last in self._last.items() if items else ():
                self._offsets[topic] = last + 2  # behind the mark of the commit
            self._committed_at = time.monotonic()
            self._lease_until = before + limits.LEASE_MS / 1000
            self._waits_ms.extend((self._committed_at - item.at) * 1000 for item in items)
            self._queued -= sum(len(item.messages) for item in items)
            self._lock.notify_all()

    def _flush(self, producer: Producer) -> int:
        """Wait a little for what was produced; how many messages are not there yet."""
        try:
            return int(producer.flush(SLICE_S))
        except SystemError as error:
            raise fatal_error(self._settings, producer) from error

    def _is_acknowledged(self, taken_before: int) -> bool:
        """Wait until so many messages that go out at once are there; False: they were given back, and wait for a lease,
        which no transaction that waits for them can bring."""
        sender = self._sender
        if sender is None:
            return True
        self._wait(lambda: sender.acknowledged >= taken_before or self._beat_asked)
        return sender.acknowledged >= taken_before

    def _let_go(self, producer: Producer | None) -> None:
        """Send nothing more."""
        if self._sender is not None:
            self._sender.close()
        if (
            producer is not None and self._queued
        ):  # an open transaction would hold up consumers until it times out
            with contextlib.suppress(KafkaException, SystemError):
                producer.purge()
                producer.abort_transaction(1.0)
