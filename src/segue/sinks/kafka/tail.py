"""Before a run: who was at work before is fenced, and what was sent since the checkpoint is read back."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from segue import limits
from segue.errors import LimitError, SinkError
from segue.kafka.receipts import ID_BYTES, IDS, RECEIPTS, unpack_receipts
from segue.kafka.settings import KafkaSettings
from segue.outputs import HEARTBEAT
from segue.run.failure import Stopped
from segue.run.stop import STOP
from segue.sinks.kafka.clients import (
    STEP,
    Trouble,
    init_transactions,
    make_producer,
    make_reader,
    patiently,
    sink_error,
)
from segue.sinks.kafka.message import LanePosition, header
from segue_kernels.receipt import RECEIPT_PART, RECEIPT_SEQUENCE, RECEIPT_WORDS

Words = npt.NDArray[np.int64]
Place = tuple[str, int]  # (topic, partition)

_READ = 1_000  # messages asked for at a time
_READ_S = 0.2
# the client looks for its group's coordinator though no group is joined: nobody needs a right for that
_NO_MATTER = (KafkaError._TRANSPORT, KafkaError.GROUP_AUTHORIZATION_FAILED)


class _Patience(Trouble):
    """Nothing has begun yet: a stop ends the waits at once."""

    def check(self) -> None:
        """Raise what was found, or Stopped."""
        super().check()
        if STOP.is_set():
            raise Stopped(signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Tail:
    """What the output topics hold behind a checkpoint.

    receipts   by part: int64[n, RECEIPT_WORDS] in the order of their sequence (receipt.py); of a decision one with
               RECEIPT_IS_SENT, one with RECEIPT_IS_LOGGED, or both
    positions  by lane: the end of what was read, and the ids that stand there
    fenced_at  time.monotonic() when all older producers had been fenced
    """

    receipts: dict[int, Words]
    positions: dict[int, LanePosition]
    fenced_at: float


def prepare_outputs(
    settings: KafkaSettings, topics: Iterable[str], positions: Mapping[int, LanePosition]
) -> Tail:
    """Fence every lane and read its tail: afterwards nobody else writes, and what was written is known.

    topics     all that the run can send to (LaneEncoder.topics)
    positions  by lane, as the checkpoint has them; a lane or topic that is missing is read from its first message
    Raises SinkError: brokers out of reach, topics missing or with too few partitions, messages gone that the checkpoint
    needs. LimitError: more than TAIL_RECEIPTS_MAX receipts. Stopped: STOP was set.
    """
    lanes = range(settings.lanes)
    beyond = sorted(lane for lane in positions if lane not in lanes)
    if beyond:
        found = f"the checkpoint has a lane {beyond[-1]}, the settings have {settings.lanes} lanes"
        raise SinkError(STEP, found, "the number of lanes can't change: set kafka.lanes as it was")
    heartbeat = settings.prefix + HEARTBEAT
    known = sorted({*topics, *(topic for position in positions.values() for topic in position.offsets)})
    trouble = _Patience(settings)
    troubles = [_Patience(settings) for _ in lanes]
    producers = [make_producer(settings, troubles[lane], lane) for lane in lanes]
    reader = make_reader(settings, trouble)
    try:
        for topic in known:
            _check_topic(settings, reader, topic, trouble)
        with ThreadPoolExecutor(settings.lanes) as pool:
            list(pool.map(init_transactions, repeat(settings), producers, troubles))
        fenced_at = time.monotonic()
        starts: dict[Place, int] = {}
        ends: dict[Place, int] = {}
        for lane in lanes:
            position = positions.get(lane, LanePosition())
            for topic in known:
                if topic != heartbeat:
                    place = (topic, lane)
                    starts[place], ends[place] = span(
                        settings, reader, place, position.offsets.get(topic), trouble
                    )
        sent = _Sent()
        ends |= read_to_end(
            settings, reader, {p: at for p, at in starts.items() if at < ends[p]}, sent.add, trouble
        )
    finally:
        reader.close()
    behind = {}
    for lane in lanes:
        pending = dict(positions.get(lane, LanePosition()).pending)
        for topic in known:
            if (topic, lane) in sent.ids:
                pending[topic] = pending.get(topic, b"") + sent.ids[topic, lane]
        offsets = {topic: end for (topic, partition), end in ends.items() if partition == lane}
        behind[lane] = LanePosition(offsets, pending)
    return Tail(sent.by_part(), behind, fenced_at)


def _check_topic(settings: KafkaSettings, reader: Consumer, topic: str, trouble: Trouble) -> None:
    def ask(seconds: float) -> object:
        reader.poll(0)
        trouble.check()
        return reader.list_topics(topic, seconds)

    told = patiently(settings, ask, trouble).topics[topic]
    if told.error is not None:
        raise sink_error(settings, told.error, topic)
    if len(told.partitions) < settings.lanes:
        found = f'topic "{topic}" has {len(told.partitions)} partitions; {settings.lanes} lanes need as many'
        raise SinkError(STEP, found, "give it more partitions: segue topics create")


def span(
    settings: KafkaSettings, reader: Consumer, place: Place, start: int | None, trouble: Trouble
) -> tuple[int, int]:
    """(where to read from, end) of a partition; refused if messages from `start` on are gone."""
    partition = TopicPartition(*place)
    first, end = patiently(settings, lambda s: reader.get_watermark_offsets(partition, s), trouble)
    if start is None:
        return first, end
    name = f'topic "{place[0]}" partition {place[1]}'
    if start < first:
        found = f"{name} begins at {first}, the checkpoint needs it from {start} on: retention has deleted the rest"
        hint = (
            "what was sent in between can't be known: go back to no checkpoint this old; keep messages longer"
        )
        raise SinkError("read back what was sent", found, hint)
    if start > end:
        found = f"{name} ends at {end}, the checkpoint says {start}: it was made anew, or lost messages"
        raise SinkError("read back what was sent", found, "use the topics that belong to this state folder")
    return start, end


def place_of(message: Message) -> Place:
    """Where a message that was read stands."""
    return message.topic() or "", message.partition() or 0


class _Sent:
    """Receipts and ids as they are read."""

    def __init__(self) -> None:
        self.ids: dict[Place, bytearray] = {}
        self._receipts: list[Words] = []
        self._count = 0

    def add(self, message: Message) -> None:
        """One message of the tail. One without receipt or ids is none of ours."""
        headers = message.headers()
        place = place_of(message)
        receipts, ids = header(headers, RECEIPTS), header(headers, IDS)
        try:
            if receipts is not None:
                self._receipts.append(unpack_receipts(receipts))
                self._count += len(self._receipts[-1])
            if ids is not None:
                if len(ids) % ID_BYTES:
                    raise ValueError(f"{len(ids)} bytes are no whole number of ids")
                self.ids.setdefault(place, bytearray()).extend(ids)
        except ValueError as error:
            found = f'topic "{place[0]}" partition {place[1]} offset {message.offset()}: a header of ours says: {error}'
            raise SinkError(
                "read back what was sent", found, "did something else write to this topic?"
            ) from error
        if self._count > limits.TAIL_RECEIPTS_MAX:
            found = f"more than {limits.TAIL_RECEIPTS_MAX} decisions were sent since the checkpoint"
            raise LimitError(
                "read back what was sent", found, "begin with empty topics, or from a later checkpoint"
            )

    def by_part(self) -> dict[int, Words]:
        """Receipts by part, in the order of their sequence."""
        if not self._receipts:
            return {}
        every = np.concatenate(self._receipts)
        every = every[np.lexsort((every[:, RECEIPT_SEQUENCE], every[:, RECEIPT_PART]))]
        parts, starts = np.unique(every[:, RECEIPT_PART], return_index=True)
        found = np.split(every, starts[1:])
        return {
            part: words.reshape(-1, RECEIPT_WORDS) for part, words in zip(parts.tolist(), found, strict=True)
        }


def read_to_end(
    settings: KafkaSettings,
    reader: Consumer,
    starts: Mapping[Place, int],
    take: Callable[[Message], None],
    trouble: Trouble,
) -> dict[Place, int]:
    """Give every committed message from `starts` on to `take`; where each partition ended."""
    ends: dict[Place, int] = {}
    if not starts:
        return ends
    reader.assign([TopicPartition(topic, partition, at) for (topic, partition), at in starts.items()])
    deadline = time.monotonic() + limits.BROKER_WAIT_MS / 1000
    while len(ends) < len(starts):
        messages = reader.consume(_READ, _READ_S)
        trouble.check()
        for message in messages:
            error = message.error()
            if error is None:
                take(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[place_of(message)] = message.offset() or 0
            elif not error.retriable() and error.code() not in _NO_MATTER:
                raise sink_error(settings, error, message.topic() or "")
        if messages:
            deadline = time.monotonic() + limits.BROKER_WAIT_MS / 1000
        elif time.monotonic() > deadline:
            found = f"{settings.brokers} did not answer within {limits.BROKER_WAIT_MS // 1000} s"
            raise SinkError("read back what was sent", found, "start again when the brokers can be reached")
    reader.unassign()
    return ends
