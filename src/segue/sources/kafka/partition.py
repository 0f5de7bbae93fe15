"""A partition of a topic: its messages as chunks of lines, tables, and what can't be read."""

from __future__ import annotations

import ctypes
import struct
import time

import msgspec
import numpy as np
import pyarrow as pa

from segue.errors import SourceError
from segue.events.updates import TopicRows
from segue.kafka.client import LOG, kafka_error
from segue.kafka.library import (
    RdKafkaError,
    address_of,
    error_name,
    error_text,
    library,
)
from segue.kafka.settings import Form, KafkaSettings
from segue.limits import (
    BATCH_ROWS_DEFAULT,
    BROKER_WAIT_MS,
    DEAD_LETTER_BYTES_MAX,
    KAFKA_LINGER_MESSAGES,
    KAFKA_LINGER_MS,
    KAFKA_MESSAGE_BYTES_MAX,
    MESSAGE_BYTES_MAX,
)
from segue.run.stop import FAILED
from segue.sources.interface import QUIET, BrokenChunk, Chunk, LineChunk, QuietChunk, RowChunk, TableChunk
from segue.sources.kafka.consumer import Consumer, Reading, leave_consumer, shared_consumer
from segue_kernels import messages as kernel
from segue_kernels.load import PADDING_BYTES

_FORMS: dict[Form, int] = {
    "auto": kernel.FORM_AUTO,
    "json": kernel.FORM_JSON,
    "cloudevents": kernel.FORM_CLOUD_EVENTS,
    "many": kernel.FORM_MANY,
    "arrow": kernel.FORM_ARROW,
}
_BUFFER_PADDING_BYTES = 64
_ENVELOPE_BYTES_GUESS = 512  # of a CloudEvent's line beside its payload, until some were seen
_ONE_LINE = (kernel.FORM_JSON, kernel.FORM_CLOUD_EVENTS)  # forms whose messages are a line each
_ASK_MS = 1_000
_LINGER_S = KAFKA_LINGER_MS / 1_000
_MESSAGE = struct.Struct(
    "=i20xQQQQq"
)  # of rd_kafka_message_t: error, payload, its length, key, its length, offset
_GONE = ("_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE")
_UNREADABLE = ("_BAD_MSG", "_BAD_COMPRESSION", "INVALID_MSG", "MSG_SIZE_TOO_LARGE", "INVALID_MSG_SIZE")
_ENDING = (
    "TOPIC_AUTHORIZATION_FAILED",
    "UNKNOWN_TOPIC_OR_PART",
    "_UNKNOWN_TOPIC",
    "_UNKNOWN_PARTITION",
    "UNKNOWN_TOPIC_ID",
    "_FATAL",
)
_SAME_ERRORS_MAX = 10  # at one offset: librdkafka does not get past it


class KafkaPosition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the next chunk of a partition begins.

    offset    of the next message
    topic_id  the broker's, "" = unknown: a topic that was made again has another
    """

    offset: int
    topic_id: str = ""


class KafkaPartition:
    """Messages in the order of their offsets; a chunk holds whole messages, one at least.

    A message that can't be read becomes a BrokenChunk with its offset, and reading goes on behind it. After a chunk
    the partition is quiet for KAFKA_LINGER_MS unless KAFKA_LINGER_MESSAGES have come: at low rates messages share a
    batch. Messages that are rows of a table (`table`: plan.TABLE_*, -1 = none) come as RowChunk. It is confirmed to be
    caught up when the broker told an end that was read up to.
    """

    def __init__(
        self,
        name: str,
        topic: str,
        partition: int,
        form: Form,
        table: int,
        settings: KafkaSettings,
        partitions: int,
        topic_id: str,
        position: KafkaPosition | None,
    ) -> None:
        self._name = name
        self._topic_name = topic
        self._number = partition
        self._form = _FORMS[form]
        self._table = table
        self._settings = settings
        self._topic_id = topic_id
        self._functions = library()
        self._consumer: Consumer | None = shared_consumer(settings, partitions)
        self._client = self._consumer.client
        self._topic = self._client.topic(topic)
        self._queue = 0
        try:
            self._next = self._begin(position)
            self._queue = self._client.start(self._topic, topic, partition, self._next)
        except RdKafkaError as error:
            self.close()
            raise kafka_error(f'read "{name}"', (error.code, str(error)), SourceError) from error
        except BaseException:
            self.close()
            raise
        self._reading = Reading(topic, partition)
        self._consumer.add(self._reading)
        self._messages = np.zeros(
            BATCH_ROWS_DEFAULT, np.int64
        )  # taken from the queue: those not handed out ...
        self._first = 0  # ... begin here
        self._last = 0
        self._more_at = 0.0  # monotonic time before which a few messages are none yet
        self._envelope_bytes = _ENVELOPE_BYTES_GUESS if self._form == kernel.FORM_CLOUD_EVENTS else 1
        self._said: list[tuple[int, str]] = []  # what is wrong with the partition
        self._same_errors = (-1, 0)  # (offset, how often)
        self._calls = np.array(
            [
                address_of("rd_kafka_message_destroy"),
                address_of("rd_kafka_message_headers"),
                address_of("rd_kafka_header_get_all"),
            ],
            np.int64,
        )
        self._limits = np.array([0, 0, MESSAGE_BYTES_MAX, KAFKA_MESSAGE_BYTES_MAX], np.int64)
        self._scratch = np.zeros(kernel.SCRATCH_WORDS, np.int64)
        self._scratch_address = self._scratch.ctypes.data
        self._out = np.zeros(kernel.OUT_WORDS, np.int64)

    @property
    def name(self) -> str:
        """topic/partition, the partition with five digits."""
        return self._name

    def read(self, rows_max: int, bytes_max: int) -> Chunk:
        """The next chunk; a topic has no end. Raises SourceError when there is no going on."""
        consumer = self._consumer
        assert consumer is not None
        consumer.check()
        while True:
            if self._first == self._last and not self._fetch(max(rows_max, 1)):
                return self._quiet()
            chunk = self._take(max(rows_max, 1), bytes_max)
            if chunk is not None:
                now = time.monotonic()
                self._reading.moved = now
                # the same moment for all partitions: what they give is then decided in one call
                self._more_at = (now // _LINGER_S + 1) * _LINGER_S
                return chunk

    def position(self) -> KafkaPosition:
        """Where the next chunk begins."""
        return KafkaPosition(self._next, self._topic_id)

    def close(self) -> None:
        """Fetch no more, let go of the messages not handed out."""
        if self._consumer is None:
            return
        if self._queue:
            for message in self._messages[self._first : self._last].tolist():
                self._functions.rd_kafka_message_destroy(message)
            self._consumer.remove(self._reading)
            self._client.stop(self._topic, self._number, self._queue)
        self._client.release_topic(self._topic)
        self._consumer = None
        leave_consumer(self._settings)

    def _begin(self, position: KafkaPosition | None) -> int:
        """The offset to begin at, once it is known to be there."""
        first, end = self._watermarks()
        if position is None:
            return first if self._settings.start == "earliest" or self._table >= 0 else end
        step = f'go on reading "{self._name}"'
        back = "restore a checkpoint that the topic still covers (segue checkpoints list), or start afresh"
        if position.topic_id and self._topic_id and position.topic_id != self._topic_id:
            raise SourceError(step, f'the topic "{self._topic_name}" was deleted and made again', back)
        if position.offset < first:
            raise SourceError(
                step,
                f"offset {position.offset} is where to go on, but the first one there is {first}: "
                "the topic's retention has deleted what was not read",
                back,
            )
        if position.offset > end:
            raise SourceError(
                step,
                f"offset {position.offset} is where to go on, but the partition ends at {end}: "
                "the topic was made again, or its broker lost data",
                back,
            )
        return position.offset

    def _watermarks(self) -> tuple[int, int]:
        assert self._consumer is not None
        deadline = time.monotonic() + BROKER_WAIT_MS / 1_000
        while True:
            self._consumer.check()
            FAILED.raise_if_set()
            try:
                return self._client.watermarks(self._topic_name, self._number, _ASK_MS)
            except RdKafkaError as error:
                if error_name(error.code) in _ENDING or time.monotonic() > deadline:
                    raise

    def _fetch(self, rows_max: int) -> bool:
        """Take what stands in the queue, if it is time to."""
        for code, text in self._said:  # once the messages that came with it are handed out
            self._refused(code, text, -1)
        self._said = []
        waiting = self._functions.rd_kafka_queue_length(self._queue)
        if waiting == 0:
            self._reading.idle = True
            return False
        self._reading.idle = False
        if waiting < KAFKA_LINGER_MESSAGES and time.monotonic() < self._more_at:
            return False
        wanted = min(waiting, rows_max, len(self._messages))
        self._first = 0
        self._last, self._said = self._client.take(self._queue, self._messages, wanted)
        return self._last > 0

    def _quiet(self) -> QuietChunk:
        answer = self._reading.answer
        if answer is None or not self._reading.idle:
            return QUIET
        asked_ms, end = answer
        if self._next < end:
            # behind the last message may stand markers of transactions
            read = self._client.read_up_to(self._topic_name, self._number)
            if read is None or read < end:
                return QUIET
            self._next = read
        return QuietChunk(asked_ms)

    def _take(self, rows_max: int, bytes_max: int) -> Chunk | None:
        """What becomes of the messages from the first on; None = nothing that has to be told."""
        if self._table >= 0:
            return self._take_rows(rows_max, bytes_max)
        last = min(self._last, self._first + rows_max)
        limits = self._limits
        limits[kernel.LIMIT_LINES], limits[kernel.LIMIT_BYTES] = rows_max, bytes_max
        count = last - self._first
        payload_bytes = kernel.message_bytes(self._messages, self._first, last)
        room = min(payload_bytes, bytes_max) + count * self._envelope_bytes
        offsets = np.empty(count, np.int64)
        lines = np.empty(count, np.int64)
        out = self._out
        while True:
            padded = np.empty(room + _BUFFER_PADDING_BYTES + PADDING_BYTES, np.uint8)
            buffer = padded[:-PADDING_BYTES]
            kernel.take_messages(
                self._messages,
                self._first,
                last,
                self._form,
                limits,
                buffer,
                offsets,
                lines,
                self._calls,
                self._scratch,
                self._scratch_address,
                out,
            )
            self._first, rows, size, taken, stop, needed = out.tolist()
            if stop == kernel.STOP_ROOM:
                self._envelope_bytes = max(self._envelope_bytes, needed)
                if taken == 0:
                    room = needed
                    continue
            break
        if taken:
            self._next = int(offsets[taken - 1]) + 1
        if rows:
            each = offsets[:taken]
            if self._form not in _ONE_LINE or rows != taken:
                each = np.repeat(each, lines[:taken])
            return LineChunk(buffer[:size], self._name, int(offsets[0]), 1, rows, each, padded)
        if taken or stop == kernel.STOP_END:
            return None
        return self._strange(stop)

    def _take_rows(self, rows_max: int, bytes_max: int) -> Chunk | None:
        payloads: list[bytes | None] = []
        keys: list[bytes | None] = []
        times: list[int] = []
        offsets: list[int] = []
        size = 0
        while self._first < self._last and len(payloads) < rows_max and size <= bytes_max:
            message = int(self._messages[self._first])
            error, payload, length, key, key_length, offset = _MESSAGE.unpack_from(
                ctypes.string_at(message, _MESSAGE.size)
            )
            if error:
                break
            payloads.append(ctypes.string_at(payload, length) if payload else None)
            keys.append(ctypes.string_at(key, key_length) if key else None)
            times.append(self._functions.rd_kafka_message_timestamp(message, None))
            offsets.append(offset)
            size += length
            self._functions.rd_kafka_message_destroy(message)
            self._first += 1
        if not payloads:
            return self._strange(kernel.STOP_ERROR)
        self._next = offsets[-1] + 1
        return RowChunk(
            TopicRows(self._table, payloads, keys, times), self._name, np.array(offsets, np.int64)
        )

    def _strange(self, stop: int) -> Chunk | None:
        """The message at the front, which is no line; it is destroyed."""
        message = int(self._messages[self._first])
        try:
            payload = ctypes.c_uint64.from_address(message + kernel.MESSAGE_PAYLOAD).value
            length = ctypes.c_uint64.from_address(message + kernel.MESSAGE_LENGTH).value
            offset = ctypes.c_int64.from_address(message + kernel.MESSAGE_OFFSET).value
            if stop == kernel.STOP_ERROR:
                code = ctypes.c_int32.from_address(message + kernel.MESSAGE_ERROR).value
                text = ctypes.string_at(payload, length).decode(errors="replace") if payload else ""
                return self._refused(code, text or error_text(code), offset)
            self._next = offset + 1
            raw = ctypes.string_at(payload, min(length, DEAD_LETTER_BYTES_MAX)) if payload else b""
            if stop == kernel.STOP_NULL:
                reason = "a message without a payload (a tombstone)"
            elif stop == kernel.STOP_BLANK:
                reason = "an empty message"
            elif stop == kernel.STOP_LARGE:
                most = MESSAGE_BYTES_MAX if self._form in _ONE_LINE else KAFKA_MESSAGE_BYTES_MAX
                reason = f"a message of {length} bytes; the longest that is read has {most}"
            elif stop == kernel.STOP_ARRAY:
                reason = "not JSON: it begins as an array and is none"
            else:
                assert stop == kernel.STOP_ARROW
                try:
                    table = _table(ctypes.string_at(payload, length))
                except (pa.ArrowException, OSError, ValueError) as error:
                    said = str(error).splitlines()[0] if str(error) else type(error).__name__
                    reason = f"Arrow IPC can't be read: {said}"
                else:
                    return TableChunk(table, self._name, 1, offset) if table is not None else None
            if len(raw) < length:
                reason = f"{reason} (the first {len(raw)} of {length} bytes are kept)"
            return BrokenChunk(self._name, offset, 1, reason, raw)
        finally:
            self._functions.rd_kafka_message_destroy(message)
            self._first += 1

    def _refused(self, code: int, text: str, offset: int) -> BrokenChunk | None:
        """What librdkafka says instead of a message."""
        name = error_name(code)
        step = f'read "{self._name}"'
        if name in _GONE:
            raise SourceError(
                step,
                f"offset {self._next if offset < 0 else offset} is gone: {text}",
                "the topic was made again, or its retention deleted what was not read: "
                "restore a checkpoint that it still covers (segue checkpoints list), or start afresh",
            )
        if name in _ENDING:
            raise kafka_error(step, (code, text), SourceError)
        if name in _UNREADABLE:
            before, times = self._same_errors
            times = times + 1 if offset == before else 1
            self._same_errors = (offset, times)
            if times > _SAME_ERRORS_MAX:
                raise SourceError(step, f"there is no getting past offset {offset}: {text}")
            return BrokenChunk(self._name, offset, 1, text, b"") if times == 1 else None
        LOG.warning("%s: %s (%s)", self._name, text, name)
        return None


def _table(payload: bytes) -> pa.RecordBatch | None:
    """The rows of an Arrow IPC stream as one batch, checked in full: its offsets are not to be trusted."""
    with pa.ipc.open_stream(pa.py_buffer(payload)) as reader:
        batches = [batch for batch in reader if batch.num_rows]
    for batch in batches:
        batch.validate(full=True)
    if len(batches) <= 1:
        return batches[0] if batches else None
    return pa.concat_batches(batches)
