"""librdkafka itself, the one that confluent-kafka carries: what its Python classes don't show.

Handles are plain addresses. No function of ours is ever called by the library's threads: what it has to say (errors,
log lines, answers) stands in a queue until somebody asks, and what it says of a partition comes while its messages are
taken.
"""

from __future__ import annotations

import ctypes
import threading
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_void_p
from functools import cache
from typing import Any, NamedTuple

import confluent_kafka.cimpl
import numpy as np
import numpy.typing as npt

from segue.limits import KAFKA_CLOSE_MS_MAX

OFFSET_END = -1

# kinds of client
PRODUCER = 0
CONSUMER = 1

EVENT_LOG = 0x4
EVENT_ERROR = 0x8
EVENT_LIST_OFFSETS = 0x400000
_ADMIN_LIST_OFFSETS = 21  # RD_KAFKA_ADMIN_OP_LISTOFFSETS
_ISOLATION_READ_COMMITTED = 1
_NO_CONSUMER_CLOSE = 0x8
_ERROR_BYTES = 512

_ERROR_CALLBACK = ctypes.CFUNCTYPE(None, c_void_p, c_int, c_char_p, c_void_p)

_abandoned: list[Client] = []  # that librdkafka did not end: their callbacks stay

Signatures = dict[str, tuple[Any, list[Any]]]
_SIGNATURES: Signatures = {
    "rd_kafka_conf_new": (c_void_p, []),
    "rd_kafka_conf_destroy": (None, [c_void_p]),
    "rd_kafka_conf_set": (c_int, [c_void_p, c_char_p, c_char_p, c_char_p, c_size_t]),
    "rd_kafka_conf_set_error_cb": (None, [c_void_p, _ERROR_CALLBACK]),
    "rd_kafka_conf_properties_show": (None, [c_void_p]),
    "rd_kafka_new": (c_void_p, [c_int, c_void_p, c_char_p, c_size_t]),
    "rd_kafka_destroy_flags": (None, [c_void_p, c_int]),
    "rd_kafka_err2name": (c_char_p, [c_int]),
    "rd_kafka_err2str": (c_char_p, [c_int]),
    "rd_kafka_last_error": (c_int, []),
    "rd_kafka_set_log_queue": (c_int, [c_void_p, c_void_p]),
    "rd_kafka_topic_new": (c_void_p, [c_void_p, c_char_p, c_void_p]),
    "rd_kafka_topic_destroy": (None, [c_void_p]),
    "rd_kafka_consume_start": (c_int, [c_void_p, c_int32, c_int64]),
    "rd_kafka_consume_stop": (c_int, [c_void_p, c_int32]),
    "rd_kafka_consume_batch_queue": (c_int64, [c_void_p, c_int, c_void_p, c_size_t]),
    "rd_kafka_message_destroy": (None, [c_void_p]),
    "rd_kafka_message_timestamp": (c_int64, [c_void_p, c_void_p]),
    "rd_kafka_message_headers": (c_int, [c_void_p, c_void_p]),
    "rd_kafka_header_get_all": (c_int, [c_void_p, c_size_t, c_void_p, c_void_p, c_void_p]),
    "rd_kafka_position": (c_int, [c_void_p, c_void_p]),
    "rd_kafka_query_watermark_offsets": (
        c_int,
        [c_void_p, c_char_p, c_int32, POINTER(c_int64), POINTER(c_int64), c_int],
    ),
    "rd_kafka_queue_new": (c_void_p, [c_void_p]),
    "rd_kafka_queue_destroy": (None, [c_void_p]),
    "rd_kafka_queue_get_main": (c_void_p, [c_void_p]),
    "rd_kafka_queue_get_partition": (c_void_p, [c_void_p, c_char_p, c_int32]),
    "rd_kafka_queue_forward": (None, [c_void_p, c_void_p]),
    "rd_kafka_queue_length": (c_size_t, [c_void_p]),
    "rd_kafka_queue_poll": (c_void_p, [c_void_p, c_int]),
    "rd_kafka_queue_yield": (None, [c_void_p]),
    "rd_kafka_event_type": (c_int, [c_void_p]),
    "rd_kafka_event_error": (c_int, [c_void_p]),
    "rd_kafka_event_error_string": (c_char_p, [c_void_p]),
    "rd_kafka_event_log": (c_int, [c_void_p, POINTER(c_char_p), POINTER(c_char_p), POINTER(c_int)]),
    "rd_kafka_event_opaque": (c_void_p, [c_void_p]),
    "rd_kafka_event_destroy": (None, [c_void_p]),
    "rd_kafka_topic_partition_list_new": (c_void_p, [c_int]),
    "rd_kafka_topic_partition_list_add": (c_void_p, [c_void_p, c_char_p, c_int32]),
    "rd_kafka_topic_partition_list_destroy": (None, [c_void_p]),
    "rd_kafka_AdminOptions_new": (c_void_p, [c_void_p, c_int]),
    "rd_kafka_AdminOptions_destroy": (None, [c_void_p]),
    "rd_kafka_AdminOptions_set_request_timeout": (c_int, [c_void_p, c_int, c_char_p, c_size_t]),
    "rd_kafka_AdminOptions_set_isolation_level": (c_void_p, [c_void_p, c_int]),
    "rd_kafka_AdminOptions_set_opaque": (None, [c_void_p, c_void_p]),
    "rd_kafka_ListOffsets": (None, [c_void_p, c_void_p, c_void_p, c_void_p]),
    "rd_kafka_event_ListOffsets_result": (c_void_p, [c_void_p]),
    "rd_kafka_ListOffsets_result_infos": (POINTER(c_void_p), [c_void_p, POINTER(c_size_t)]),
    "rd_kafka_ListOffsetsResultInfo_topic_partition": (c_void_p, [c_void_p]),
}


class TopicPartition(ctypes.Structure):
    """rd_kafka_topic_partition_t."""

    _fields_ = (
        ("topic", c_char_p),
        ("partition", c_int32),
        ("offset", c_int64),
        ("metadata", c_void_p),
        ("metadata_size", c_size_t),
        ("opaque", c_void_p),
        ("error", c_int),
        ("private", c_void_p),
    )


class Event(NamedTuple):
    """What a client had to say.

    kind    EVENT_LOG, EVENT_ERROR, EVENT_LIST_OFFSETS
    code    librdkafka's error, 0 = none; of a log line its level (syslog's)
    opaque  given with the question that this answers
    ends    end offset by (topic, partition), of those that could be told
    """

    kind: int
    code: int
    text: str
    opaque: int = 0
    ends: dict[tuple[str, int], int] | None = None


class RdKafkaError(Exception):
    """What librdkafka returned; `code` is its number."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@cache
def library() -> Any:
    """The C functions, with their signatures."""
    return load_functions(_SIGNATURES)


def load_functions(signatures: Signatures) -> Any:
    """These C functions of librdkafka by name, each with (type of its result, types of its arguments)."""
    # looked up through the extension module: whichever file its own copy of the library is in
    loaded = ctypes.CDLL(confluent_kafka.cimpl.__file__)
    for name, (result, arguments) in signatures.items():
        function = getattr(loaded, name)
        function.restype = result
        function.argtypes = arguments
    return loaded


def address_of(name: str) -> int:
    """Where a function stands in memory."""
    return int(ctypes.cast(getattr(library(), name), c_void_p).value or 0)


@cache
def known_properties() -> dict[str, str]:
    """Every property the library knows, with who uses it: "C" consumers, "P" producers, "*" all."""
    libc = ctypes.CDLL(None)
    libc.open_memstream.restype = c_void_p
    libc.fclose.argtypes = [c_void_p]
    libc.free.argtypes = [c_void_p]
    text, size = c_void_p(), c_size_t()
    stream = libc.open_memstream(byref(text), byref(size))
    library().rd_kafka_conf_properties_show(stream)
    libc.fclose(stream)
    assert text.value is not None
    lines = ctypes.string_at(text.value, size.value).decode().splitlines()
    libc.free(text)
    known: dict[str, str] = {}
    for line in lines:
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 4 and cells[1] in ("C", "P", "*"):
            name, users = cells[0], cells[1]
            known[name] = users if known.get(name, users) == users else "*"
    return known


def refusal_of(name: str, value: str) -> str | None:
    """Why the library would not take a property, None = it does."""
    functions = library()
    conf = functions.rd_kafka_conf_new()
    text = ctypes.create_string_buffer(_ERROR_BYTES)
    try:
        taken = functions.rd_kafka_conf_set(conf, name.encode(), value.encode(), text, _ERROR_BYTES)
        return None if taken == 0 else text.value.decode(errors="replace")
    finally:
        functions.rd_kafka_conf_destroy(conf)


class Client:
    """A consumer without a group: partitions are read from offsets that the caller keeps."""

    def __init__(self, properties: dict[str, str]) -> None:
        functions = self._functions = library()
        text = ctypes.create_string_buffer(_ERROR_BYTES)
        conf = functions.rd_kafka_conf_new()
        for name, value in {**properties, "log.queue": "true"}.items():
            if functions.rd_kafka_conf_set(conf, name.encode(), value.encode(), text, _ERROR_BYTES) != 0:
                functions.rd_kafka_conf_destroy(conf)
                raise RdKafkaError(-186, f"{name} is refused")  # _INVALID_ARG; the text might show a secret
        # errors of a partition as a whole (it was deleted) are no messages: `take` calls this for them
        self._said: list[tuple[int, str]] = []
        self._on_error = _ERROR_CALLBACK(self._note)
        functions.rd_kafka_conf_set_error_cb(conf, self._on_error)
        handle = functions.rd_kafka_new(CONSUMER, conf, text, _ERROR_BYTES)
        if not handle:
            functions.rd_kafka_conf_destroy(conf)
            raise RdKafkaError(functions.rd_kafka_last_error(), text.value.decode(errors="replace"))
        self._handle: int = handle
        self._events: int = functions.rd_kafka_queue_new(handle)
        functions.rd_kafka_set_log_queue(handle, self._events)
        main = functions.rd_kafka_queue_get_main(handle)
        functions.rd_kafka_queue_forward(main, self._events)
        functions.rd_kafka_queue_destroy(main)

    def topic(self, name: str) -> int:
        """A handle of a topic; `release_topic` lets go of it."""
        return int(self._functions.rd_kafka_topic_new(self._handle, name.encode(), None))

    def release_topic(self, topic: int) -> None:
        """Let go of a topic's handle."""
        self._functions.rd_kafka_topic_destroy(topic)

    def start(self, topic: int, name: str, partition: int, offset: int) -> int:
        """Begin to fetch a partition; the queue its messages come to."""
        queue = self._functions.rd_kafka_queue_get_partition(self._handle, name.encode(), partition)
        if not queue or self._functions.rd_kafka_consume_start(topic, partition, offset) != 0:
            raise RdKafkaError(*self.last_error())
        return int(queue)

    def _note(self, handle: int, code: int, text: bytes | None, opaque: int | None) -> None:
        self._said.append((code, (text or b"").decode(errors="replace")))

    def take(
        self, queue: int, messages: npt.NDArray[np.int64], count: int
    ) -> tuple[int, list[tuple[int, str]]]:
        """Put the addresses of `count` messages at most, those that are there, into `messages`: how many they are, and
        what is wrong with the partition, as (code, text). One thread at a time."""
        got = self._functions.rd_kafka_consume_batch_queue(queue, 0, messages.ctypes.data, count)
        said, self._said = self._said, []
        return max(0, got), said

    def stop(self, topic: int, partition: int, queue: int) -> None:
        """Fetch no more of a partition; what stands in its queue is gone."""
        self._functions.rd_kafka_consume_stop(topic, partition)
        self._functions.rd_kafka_queue_destroy(queue)

    def last_error(self) -> tuple[int, str]:
        """The error of this thread's last call."""
        code = self._functions.rd_kafka_last_error()
        return code, error_text(code)

    def watermarks(self, topic: str, partition: int, wait_ms: int) -> tuple[int, int]:
        """The first offset that is there, and the one behind the last that can be read. Raises RdKafkaError."""
        low, high = c_int64(), c_int64()
        code = self._functions.rd_kafka_query_watermark_offsets(
            self._handle, topic.encode(), partition, byref(low), byref(high), wait_ms
        )
        if code != 0:
            raise RdKafkaError(code, error_text(code))
        return low.value, high.value

    def read_up_to(self, topic: str, partition: int) -> int | None:
        """The offset behind what was taken from a partition's queue, transaction markers included."""
        functions = self._functions
        wanted = functions.rd_kafka_topic_partition_list_new(1)
        try:
            element = functions.rd_kafka_topic_partition_list_add(wanted, topic.encode(), partition)
            if functions.rd_kafka_position(self._handle, wanted) != 0:
                return None
            offset = int(TopicPartition.from_address(element).offset)
            return offset if offset >= 0 else None
        finally:
            functions.rd_kafka_topic_partition_list_destroy(wanted)

    def ask_ends(self, partitions: list[tuple[str, int]], wait_ms: int, opaque: int) -> None:
        """Ask where partitions end for those who read what is committed: an EVENT_LIST_OFFSETS answers."""
        functions = self._functions
        text = ctypes.create_string_buffer(_ERROR_BYTES)
        wanted = functions.rd_kafka_topic_partition_list_new(len(partitions))
        options = functions.rd_kafka_AdminOptions_new(self._handle, _ADMIN_LIST_OFFSETS)
        try:
            for topic, partition in partitions:
                element = functions.rd_kafka_topic_partition_list_add(wanted, topic.encode(), partition)
                TopicPartition.from_address(element).offset = OFFSET_END
            functions.rd_kafka_AdminOptions_set_request_timeout(options, wait_ms, text, _ERROR_BYTES)
            refused = functions.rd_kafka_AdminOptions_set_isolation_level(options, _ISOLATION_READ_COMMITTED)
            assert not refused, "librdkafka has other numbers than ours"
            functions.rd_kafka_AdminOptions_set_opaque(options, opaque)
            functions.rd_kafka_ListOffsets(self._handle, wanted, options, self._events)
        finally:
            functions.rd_kafka_AdminOptions_destroy(options)
            functions.rd_kafka_topic_partition_list_destroy(wanted)

    def poll(self, wait_ms: int) -> Event | None:
        """What the library has to say, None = nothing within this time."""
        functions = self._functions
        event = functions.rd_kafka_queue_poll(self._events, wait_ms)
        if not event:
            return None
        try:
            kind = functions.rd_kafka_event_type(event)
            if kind == EVENT_LOG:
                facility, text, level = c_char_p(), c_char_p(), c_int()
                functions.rd_kafka_event_log(event, byref(facility), byref(text), byref(level))
                return Event(kind, level.value, (text.value or b"").decode(errors="replace"))
            code = functions.rd_kafka_event_error(event)
            said = (functions.rd_kafka_event_error_string(event) or b"").decode(errors="replace")
            if kind != EVENT_LIST_OFFSETS:
                return Event(kind, code, said)
            opaque = functions.rd_kafka_event_opaque(event) or 0
            return Event(kind, code, said, opaque, self._ends(event) if code == 0 else {})
        finally:
            functions.rd_kafka_event_destroy(event)

    def _ends(self, event: int) -> dict[tuple[str, int], int]:
        functions = self._functions
        count = c_size_t()
        infos = functions.rd_kafka_ListOffsets_result_infos(
            functions.rd_kafka_event_ListOffsets_result(event), byref(count)
        )
        ends = {}
        for k in range(count.value):
            place = functions.rd_kafka_ListOffsetsResultInfo_topic_partition(infos[k])
            told = TopicPartition.from_address(place)
            if told.error == 0 and told.offset >= 0:
                ends[told.topic.decode(), int(told.partition)] = int(told.offset)
        return ends

    def wake(self) -> None:
        """End a `poll` that is under way in another thread."""
        self._functions.rd_kafka_queue_yield(self._events)

    def close(self) -> None:
        """End the client; no partition may be in use, and nobody in `poll`."""
        self._functions.rd_kafka_queue_destroy(self._events)
        # of a topic that was deleted while it was read librdkafka keeps a reference, and waits for it for ever
        ending = threading.Thread(
            target=self._functions.rd_kafka_destroy_flags,
            args=(self._handle, _NO_CONSUMER_CLOSE),
            daemon=True,
        )
        ending.start()
        ending.join(KAFKA_CLOSE_MS_MAX / 1_000)
        if ending.is_alive():
            _abandoned.append(self)


def error_text(code: int) -> str:
    """librdkafka's words for an error."""
    return bytes(library().rd_kafka_err2str(code)).decode()


def error_name(code: int) -> str:
    """librdkafka's name for an error: _TRANSPORT, TOPIC_AUTHORIZATION_FAILED."""
    return bytes(library().rd_kafka_err2name(code)).decode()
