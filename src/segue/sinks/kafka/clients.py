"""librdkafka's clients as the lanes need them, and what their errors mean."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from segue import limits
from segue.errors import SegueError, SettingsError, SinkError
from segue.kafka.client import client_arguments, client_properties, is_final, kafka_error
from segue.kafka.settings import KafkaSettings
from segue.sinks.kafka.message import LaneMessage

STEP = "write to Kafka"
SLICE_S = (
    0.5  # a wait is cut into such slices: what the client's own thread found out is looked at between them
)
_BATCH_MESSAGES_MOST = 1_000_000  # librdkafka takes no more
_BATCH_BYTES_MOST = 2**31 - 1

_FENCED = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.TRANSACTION_COORDINATOR_FENCED,
    }
)
_MISSING = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
)
_TIME = frozenset(
    {
        KafkaError._TIMED_OUT,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError.REQUEST_TIMED_OUT,
    }
)
# a partition has no leader at the moment, or another than the client thinks: it is new, or a broker went
_MOVING = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
    }
)
_AGAIN_S = 0.05


def is_fenced(error: KafkaError) -> bool:
    """Whether a newer producer has taken the place of this one."""
    return error.code() in _FENCED or (error.code() == KafkaError._FATAL and "fenced" in error.str().lower())


def sink_error(settings: KafkaSettings, error: KafkaError | KafkaException, topic: str = "") -> SegueError:
    """What a client said, for people."""
    if isinstance(error, KafkaException):
        return sink_error(settings, error.args[0], topic)
    code, text = error.code(), error.str()
    where = f'topic "{topic}": ' if topic else ""
    if is_fenced(error):
        return SinkError(
            STEP,
            f'another engine with the name "{settings.name}" has taken over',
            "this one wrote nothing more; give each deployment a name of its own (kafka.name)",
        )
    if code in _MISSING and topic:
        return SinkError(STEP, f"{where}it is not there", "make the topics: segue topics create")
    if code == KafkaError.MSG_SIZE_TOO_LARGE:
        hint = "raise message.max.bytes here and max.message.bytes of the topic"
        return SinkError(STEP, f"{where}a message is larger than allowed ({text})", hint)
    if code in _TIME:
        found = f"{where}{settings.brokers} did not answer in time ({text})"
        hint = "start again when the brokers can be reached: nothing is lost, nothing sent twice"
        return SinkError(STEP, found, hint)
    return kafka_error(STEP, (code, where + text), SinkError)


class Trouble:
    """What a client's own threads found out: librdkafka retries for ever what no retry can mend."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._found: SegueError | None = None
        self._lock = threading.Lock()

    def __call__(self, error: KafkaError) -> None:
        """The client's error_cb."""
        if error.fatal() or is_fenced(error) or is_final(error.name(), error.str()):
            self.note(sink_error(self._settings, error))

    def note(self, error: SegueError) -> None:
        """Only the first counts."""
        with self._lock:
            self._found = self._found or error

    def check(self) -> None:
        """Raise it."""
        if self._found is not None:
            raise self._found


def transactional_id(settings: KafkaSettings, lane: int) -> str:
    """Belongs to the lane, whoever runs it."""
    return f"{settings.name}-lane-{lane}"


def make_producer(settings: KafkaSettings, trouble: Trouble, lane: int | None = None) -> Producer:
    """Of a lane's transactions; without a lane, one that sends when flushed and repeats nothing within its life."""
    defaults: dict[str, str | int] = {
        "compression.type": settings.compression,
        "queue.buffering.max.messages": 2 * limits.LANE_QUEUE_MESSAGES_MAX,
        "message.timeout.ms": limits.TRANSACTION_MS_MAX,
        "retry.backoff.ms": 5,
        "retry.backoff.max.ms": 500,
    }
    own: dict[str, str | int] = {}
    if lane is not None:
        defaults["linger.ms"] = 5  # a transaction's messages share requests; its flush does not wait for this
        own["transactional.id"] = transactional_id(settings, lane)
        own["transaction.timeout.ms"] = limits.TRANSACTION_MS_MAX
    else:
        own["message.timeout.ms"] = limits.LEASE_MS  # sender.py
        # only a flush sends, however much there is
        own["linger.ms"] = limits.LEASE_MS - 1
        own["batch.num.messages"] = _BATCH_MESSAGES_MOST
        own["batch.size"] = _BATCH_BYTES_MOST
    properties = client_properties(settings, "producer", defaults=defaults, own=own)
    return _made(Producer, client_arguments(properties, trouble))


def make_reader(settings: KafkaSettings, trouble: Trouble) -> Consumer:
    """Reads what is committed, and says where a partition ends."""
    own: dict[str, str | int] = {
        "group.id": f"{settings.name}-tail",  # never joined: partitions are assigned by hand
        "enable.partition.eof": "true",
    }
    defaults: dict[str, str | int] = {"fetch.wait.max.ms": 10}
    properties = client_properties(settings, "consumer", defaults=defaults, own=own)
    return _made(Consumer, client_arguments(properties, trouble))


_Client = TypeVar("_Client", Producer, Consumer)


def _made(kind: type[_Client], config: dict[str, Any]) -> _Client:
    try:
        return kind(config)
    except KafkaException as error:
        found = f"a client can't be made: {error.args[0].str()}"
        raise SettingsError(STEP, found, "check the properties of kafka in the settings") from None


def fatal_error(settings: KafkaSettings, producer: Producer) -> SegueError:
    """What made a client useless. (confluent-kafka 2.16 ends the call that meets a fatal error with a bare SystemError,
    its exception lost; the next call of a producer with transactions says what it was.)"""
    try:
        producer.begin_transaction()
    except KafkaException as error:
        return sink_error(settings, error)
    return SinkError(
        STEP, "the client met an error that it can't recover from", "its log says more; start again"
    )


def message_error(settings: KafkaSettings, error: KafkaError, topic: str, size: int) -> SegueError:
    """What happened to a message of so many bytes."""
    failure = sink_error(settings, error, topic)
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        found = f"{failure.found}: it has {size} bytes and its headers"
        return SinkError(failure.step, found, failure.hint)
    return failure


def produce(
    settings: KafkaSettings,
    producer: Producer,
    message: LaneMessage,
    partition: int,
    told: Callable[[KafkaError | None, Message], None],
    check: Callable[[], None],
) -> None:
    """Give a message to the client; waits while its queue is full and `check` raises nothing. Raises SinkError."""
    while True:
        try:
            producer.produce(
                message.topic,
                message.value,
                message.key,
                partition,
                on_delivery=told,
                headers=list(message.headers),
            )
            return
        except BufferError:  # the client's own queue is full: its messages have to leave first
            check()
            try:
                producer.poll(0.01)
            except SystemError as error:
                raise fatal_error(settings, producer) from error
        except KafkaException as error:
            raise message_error(settings, error.args[0], message.topic, len(message.value)) from error


def init_transactions(settings: KafkaSettings, producer: Producer, trouble: Trouble) -> None:
    """Fence whoever had the producer's id; their open transaction is over afterwards."""

    def init(seconds: float) -> None:
        producer.poll(0)
        trouble.check()
        producer.init_transactions(seconds)

    patiently(settings, init, trouble)


def patiently(settings: KafkaSettings, ask: Callable[[float], Any], trouble: Trouble) -> Any:
    """Ask in short slices until the brokers answer; SinkError when they don't, or what stood in the way.

    ask  takes seconds; asking again after a time-out goes on with the same question
    """
    deadline = time.monotonic() + limits.BROKER_WAIT_MS / 1000
    while True:
        trouble.check()
        try:
            return ask(SLICE_S)
        except KafkaException as error:
            found: KafkaError = error.args[0]
            trouble.check()
            passing = found.retriable() or found.code() in _TIME or found.code() in _MOVING
            if not passing or time.monotonic() > deadline:
                raise sink_error(settings, found) from error
            time.sleep(_AGAIN_S)
