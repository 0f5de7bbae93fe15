"""Open-loop load on Kafka, in a process of its own: the events of benchmarks/stream.py, happening now.

    python -m benchmarks.kafka_load --brokers H:P --topic NAME --rate N --seconds S --schedule FILE
        [--form json|cloudevents|many] [--partitions N] [--customers N] [--seed N] [--first N]

Event n is meant to be sent at start + n / rate, whatever became of those before; its id is n in hexadecimal, so that
whoever sees the id knows the intended time (`Schedule`, written to FILE before the first event). What was sent and how
far it fell behind is told as JSON on standard output.
- Its time is the intended one; 2 % carry a time up to 5 s before it, 1 % are repeats of one shortly before.
- The first customer has ten events a second, as in the reference stream: with a fixed share he and a hundred others
  would be taken for bots here, where more happens in a minute. The bot has its 5 %.
- A customer's events lie in one partition. Forms: `json` and `cloudevents` (binary mode) one event a message; `many`
  up to MANY events of one partition as lines.
A message costs a microsecond: lines are written by a kernel, and handed to librdkafka without an object for each.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numba
import numpy as np
import numpy.typing as npt

from benchmarks.stream import (
    ANONYMOUS,
    DUPLICATE_SHARE,
    HEAVY_SHARE,
    ID,
    MIX,
    OUT_OF_ORDER_MS_MAX,
    OUT_OF_ORDER_SHARE,
    SCORING_TYPES,
    SOURCE,
    SOURCES,
    TIME,
    TYPE,
    USER,
    Facts,
)
from segue.kafka.library import Signatures, load_functions
from segue.simulate.mixing import mix

FORMS = ("json", "cloudevents", "many")
MANY = 200
HEAVY_PER_S = 10.0
AHEAD_S = 1.0  # from the writing of the schedule to its first event
_RING = 1 << 20  # rows whose facts are used again and again, under new ids and times
_TICK_S = 0.002
_TICK_MANY_S = 0.020  # a message with many is filled for so long at most
_REPEAT_BACK = 500
_BEHIND_S = 0.020  # events sent later than this (and a tick) were not sent at their time
_HALF_HOUR_MS = 1_800_000

Words = npt.NDArray[np.int64]


class Schedule(msgspec.Struct, frozen=True):
    """Event `first` + n is meant to be sent `start_ns` (ns since 1970) + n / rate."""

    first: int
    start_ns: int
    rate: float
    events: int

    def intended_ns(self, number: int) -> int:
        """When an event was meant to be sent."""
        return self.start_ns + int((number - self.first) * 1e9 / self.rate)


def read_schedule(path: Path) -> Schedule | None:
    """The schedule in a file; None while there is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Schedule)
    except (OSError, msgspec.DecodeError):
        return None


def write_schedule(path: Path, schedule: Schedule) -> None:
    """Leave it where others find it whole."""
    path.with_suffix(".new").write_bytes(msgspec.json.encode(schedule))
    path.with_suffix(".new").rename(path)


# --- librdkafka, below its Python objects ---------------------------------------------------------------------

_RKT, _PARTITION, _VALUE, _KEY, _FLAGS, _HEADER = 2, 3, 4, 5, 7, 9  # rd_kafka_vtype_t
_COPY = 2
_ARGUMENT_WORDS = 9  # of rd_kafka_vu_t
_HEADERS = ("ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "content-type")
_FULL = -184

_REPORT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_SIGNATURES: Signatures = {
    "rd_kafka_conf_new": (ctypes.c_void_p, []),
    "rd_kafka_conf_set": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t],
    ),
    "rd_kafka_conf_set_dr_msg_cb": (None, [ctypes.c_void_p, _REPORT]),
    "rd_kafka_new": (ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]),
    "rd_kafka_topic_new": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]),
    "rd_kafka_produceva": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]),
    "rd_kafka_error_code": (ctypes.c_int, [ctypes.c_void_p]),
    "rd_kafka_error_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_poll": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int]),
    "rd_kafka_flush": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int]),
    "rd_kafka_outq_len": (ctypes.c_int, [ctypes.c_void_p]),
    "rd_kafka_topic_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_destroy": (None, [ctypes.c_void_p]),
}


class Sender:
    """A producer whose messages are pieces of one buffer."""

    def __init__(self, brokers: str, topic: str, form: str) -> None:
        self._library = library = load_functions(_SIGNATURES)
        self.failed = 0
        reason = ctypes.create_string_buffer(512)
        conf = library.rd_kafka_conf_new()
        settings = {
            "bootstrap.servers": brokers,
            # once and in order, for nothing is sent again. With enable.idempotence five requests may be under way, and
            # while the broker keeps them its thread spins: at each pause of the broker it took a whole core from it
            "message.send.max.retries": "0",
            "acks": "all",
            "compression.codec": "lz4",
            "linger.ms": "5",  # as of Kafka's own clients since 4.0
            "queue.buffering.max.messages": "2000000",
            "queue.buffering.max.kbytes": "1048576",
            "delivery.report.only.error": "true",
        }
        for name, value in settings.items():
            if library.rd_kafka_conf_set(conf, name.encode(), value.encode(), reason, len(reason)):
                raise ValueError(reason.value.decode())
        self._report = _REPORT(self._on_failure)
        library.rd_kafka_conf_set_dr_msg_cb(conf, self._report)
        self._handle = library.rd_kafka_new(0, conf, reason, len(reason))
        if not self._handle:
            raise ValueError(reason.value.decode())
        self._topic = library.rd_kafka_topic_new(self._handle, topic.encode(), 0)
        self._form = form
        self._names = [ctypes.create_string_buffer(name.encode()) for name in _HEADERS]
        self._texts = [ctypes.create_string_buffer(text) for text in (b"1.0", b"application/json")]
        headers = len(_HEADERS) if form == "cloudevents" else 0
        arguments = np.zeros((5 + headers, _ARGUMENT_WORDS), np.int64)
        kinds = [_RKT, _FLAGS, _PARTITION, _VALUE, _KEY]
        arguments[:5, 0] = kinds
        arguments[0, 1] = self._topic
        arguments[1, 1] = _COPY
        for header in range(headers):
            arguments[5 + header, 0] = _HEADER
            arguments[5 + header, 1] = ctypes.addressof(self._names[header])
        if headers:
            arguments[5, 2:4] = ctypes.addressof(self._texts[0]), 3
            arguments[10, 2:4] = ctypes.addressof(self._texts[1]), 16
        self._arguments = arguments
        self._send = _sending(library)
        self._send(self._handle, arguments, 0, np.zeros((0, MESSAGE_WORDS), np.int64), 0)  # compiled now

    def _on_failure(self, handle: int, message: int, opaque: int) -> None:
        self.failed += 1

    def send(self, buffer: npt.NDArray[np.uint8], messages: Words) -> None:
        """messages int64[n, 4 + 8]: partition, value's start and length, key's start (its length is KEY_BYTES; -1 = no
        key), and for `cloudevents` start and length of id, type, source and time; starts are places in the buffer."""
        done = 0
        while True:
            done, error = self._send(self._handle, self._arguments, buffer.ctypes.data, messages, done)
            if not error:
                break
            code = self._library.rd_kafka_error_code(error)
            self._library.rd_kafka_error_destroy(error)
            if code != _FULL:
                raise RuntimeError(f"librdkafka: error {code} of a produced message")
            self._library.rd_kafka_poll(self._handle, 1)
        self._library.rd_kafka_poll(self._handle, 0)

    def flush(self, seconds: float) -> int:
        """Wait for everything to be delivered; how many messages were not."""
        self._library.rd_kafka_flush(self._handle, int(seconds * 1_000))
        return int(self._library.rd_kafka_outq_len(self._handle)) + self.failed

    def close(self) -> None:
        """Let go of the connections."""
        self._library.rd_kafka_topic_destroy(self._topic)
        self._library.rd_kafka_destroy(self._handle)


KEY_BYTES = len("customer-0000000")
MESSAGE_WORDS = 12


def _sending(library: ctypes.CDLL) -> Any:
    produce = library.rd_kafka_produceva

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]
    def send(handle: int, arguments: Words, base: int, messages: Words, done: int) -> tuple[int, int]:
        """Produce messages from `done` on; how many are done, and the error that stopped it or 0."""
        count = len(arguments)
        address = arguments.ctypes.data
        for at in range(done, len(messages)):
            message = messages[at]
            arguments[2, 1] = message[0]
            arguments[3, 1] = base + message[1]
            arguments[3, 2] = message[2]
            arguments[4, 1] = base + message[3] if message[3] >= 0 else 0
            arguments[4, 2] = KEY_BYTES if message[3] >= 0 else 0
            if count > 5:
                for header in range(4):
                    arguments[6 + header, 2] = base + message[4 + 2 * header]
                    arguments[6 + header, 3] = message[5 + 2 * header]
            error = produce(handle, address, count)
            if error:
                return at, error
        return len(messages), 0

    return send


# --- what is sent ----------------------------------------------------------------------------------------------

_SCORED = list(MIX).index(SCORING_TYPES[0])
_TYPE_BYTES = np.array([len(name) for name in MIX], np.int64)
_SOURCE_BYTES = np.array([len(word) for word in SOURCES], np.int64)
_ID_AT = len('{"id":"')
_TYPE_AT = _ID_AT + 16 + len('","type":"')
_TIME_BYTES = 24


@dataclass
class Load:
    """Rows of facts and the lines of the events that are due. each_once: a view by one customer after the other."""

    form: str
    partitions: int
    customers: int
    rate: float
    seed: int
    ring: int = _RING
    each_once: bool = False

    def __post_init__(self) -> None:
        self._facts = Facts(self.customers, self.seed, min(HEAVY_SHARE, HEAVY_PER_S / self.rate))
        rng = np.random.default_rng([self.seed, 3])
        half_hour = np.full(self.ring, int(time.time() * 1_000) // _HALF_HOUR_MS % 4_000)
        self._rows = self._facts.rows(rng, half_hour)
        self._back_ms = np.zeros(self.ring, np.int64)
        tardy = rng.random(self.ring) < OUT_OF_ORDER_SHARE
        self._back_ms[tardy] = rng.integers(1, OUT_OF_ORDER_MS_MAX + 1, np.count_nonzero(tardy))
        self._is_repeat = rng.random(self.ring) < DUPLICATE_SHARE

    def batch(self, schedule: Schedule, first: int, end: int) -> tuple[npt.NDArray[np.uint8], Words]:
        """Buffer and messages of events [first, end) of the schedule, by partition."""
        number = np.arange(first, end)
        # a repeat is the event so many places before, as it was
        is_repeat = self._is_repeat[number % self.ring] & (not self.each_once)
        original = number - np.where(is_repeat, _REPEAT_BACK, 0)
        original = np.where(original < schedule.first, number, original)
        at = original % self.ring
        rows = self._rows[at]
        rows[:, ID] = original
        # other customers each time round: after a day's worth of actions the same ones would get none any more
        rows[:, USER] = (rows[:, USER] + original // self.ring * (self.customers // 7 + 1)) % self.customers
        if self.each_once:
            rows[:, USER] = (number - schedule.first) % self.customers
            rows[:, TYPE] = _SCORED
        rows[:, ANONYMOUS] = mix(rows[:, USER], self.seed + 1)
        intended_ms = schedule.start_ns // 1_000_000 + ((original - schedule.first) * 1_000 / schedule.rate)
        rows[:, TIME] = intended_ms.astype(np.int64) - self._back_ms[at]
        partition = rows[:, USER] % self.partitions
        order = np.argsort(partition, kind="stable")
        blocks = list(self._facts.writer.write(rows, order))
        buffer = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        line_end = np.flatnonzero(buffer == ord("\n"))
        line_start = np.concatenate(([0], line_end[:-1] + 1))
        partition, rows = partition[order], rows[order]
        if self.form == "many":
            return buffer, _many(partition, line_start, line_end)
        return buffer, _single(self.form, buffer, rows, partition, line_start, line_end)


def _single(
    form: str, buffer: npt.NDArray[np.uint8], rows: Words, partition: Words, start: Words, end: Words
) -> Words:
    messages = np.zeros((len(rows), MESSAGE_WORDS), np.int64)
    type_bytes = _TYPE_BYTES[rows[:, TYPE]]
    source_bytes = _SOURCE_BYTES[rows[:, SOURCE]]
    time_at = start + _TYPE_AT + type_bytes + len('","time":"')
    source_at = time_at + _TIME_BYTES + len('","source":"')
    rest = source_at + source_bytes + 1  # the comma in front of the customer
    messages[:, 0] = partition
    messages[:, 1], messages[:, 2] = start, end - start
    messages[:, 3] = rest + len(',"userId":"')
    if form == "cloudevents":
        buffer[rest] = ord("{")
        messages[:, 1], messages[:, 2] = rest, end - rest
        messages[:, 4], messages[:, 5] = start + _ID_AT, 16
        messages[:, 6], messages[:, 7] = start + _TYPE_AT, type_bytes
        messages[:, 8], messages[:, 9] = source_at, source_bytes
        messages[:, 10], messages[:, 11] = time_at, _TIME_BYTES
    return messages


def _many(partition: Words, start: Words, end: Words) -> Words:
    """Lines that follow one another in a partition, up to MANY in a message."""
    begins = np.concatenate(([0], np.flatnonzero(np.diff(partition)) + 1))
    run = np.arange(len(partition)) - np.repeat(begins, np.diff([*begins, len(partition)]))
    first = np.flatnonzero(run % MANY == 0)
    last = np.concatenate((first[1:], [len(partition)])) - 1
    messages = np.zeros((len(first), MESSAGE_WORDS), np.int64)
    messages[:, 0] = partition[first]
    messages[:, 1] = start[first]
    messages[:, 2] = end[last] + 1 - start[first]
    messages[:, 3] = -1
    return messages


def tick_s(form: str, rate: float, partitions: int) -> float:
    """Time between two rounds of sending: with `many`, as long as a message takes to fill."""
    return min(_TICK_MANY_S, max(_TICK_S, MANY * partitions / rate)) if form == "many" else _TICK_S


def run(sender: Sender, load: Load, seconds: float, first: int, path: Path) -> dict[str, Any]:
    """Send for so many seconds; what came of it."""
    events = round(load.rate * seconds)
    pause = tick_s(load.form, load.rate, load.partitions)
    warm = Schedule(first, time.time_ns(), load.rate, events)
    load.batch(warm, first, first + 10)  # the kernels are compiled before the clock runs
    schedule = Schedule(first, time.time_ns() + int(AHEAD_S * 1e9), load.rate, events)
    write_schedule(path, schedule)
    behind: list[float] = []
    sent = messages = size = 0
    cpu = time.process_time()
    while sent < events:
        now = time.time_ns()
        due = min(events, int((now - schedule.start_ns) * load.rate / 1e9))
        if due <= sent:
            time.sleep(pause)
            continue
        due = min(due, sent + _RING // 8)
        buffer, pieces = load.batch(schedule, first + sent, first + due)
        sender.send(buffer, pieces)
        behind.append((time.time_ns() - schedule.intended_ns(first + sent)) / 1e9)
        sent, messages, size = due, messages + len(pieces), size + len(buffer)
        time.sleep(max(0.0, pause - (time.time_ns() - now) / 1e9))
    undelivered = sender.flush(30.0)
    took = (time.time_ns() - schedule.start_ns) / 1e9
    late = np.array(behind)
    worst = float(np.percentile(late, 99))
    return {
        "form": load.form,
        "rate": load.rate,
        "seconds": seconds,
        "first": first,
        "events": sent,
        "messages": messages,
        "events_per_message": round(sent / max(1, messages), 1),
        "bytes_per_event": round(size / max(1, sent), 1),
        "undelivered": undelivered,
        "behind_p99_ms": round(1e3 * worst, 2),
        "behind_max_ms": round(1e3 * float(late.max()), 2),
        "took_s": round(took, 3),
        "cpu_us_per_event": round(1e6 * (time.process_time() - cpu) / max(1, sent), 3),
        "kept_rate": bool(worst < _BEHIND_S + pause and undelivered == 0),
    }


def main(arguments: list[str] | None = None) -> int:
    """Send, and tell how it went."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kafka_load", description=__doc__)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--form", choices=FORMS, default="json")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--schedule", type=Path, required=True)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, help="number of the first event")
    parser.add_argument(
        "--each-once", action="store_true", help="one customer after the other, to fill a state"
    )
    chosen = parser.parse_args(arguments)
    load = Load(
        chosen.form, chosen.partitions, chosen.customers, chosen.rate, chosen.seed, each_once=chosen.each_once
    )
    sender = Sender(chosen.brokers, chosen.topic, chosen.form)
    print(json.dumps(run(sender, load, chosen.seconds, chosen.first, chosen.schedule)))
    sender.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
