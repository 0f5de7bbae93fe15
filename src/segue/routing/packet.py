"""A packet: the rows of one source batch that belong to one shard, with their strings.

In one process a packet is views into the batch's run; when it crosses to another process only its own rows and
bytes are pickled (an Arrow or NumPy slice would ship its whole parent).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from segue.events.batch import Decoded
from segue.events.names import CODE_BY_NAME, REFERENCE_CODES
from segue_kernels.memory import STRIDE
from segue_kernels.plan import TYPES
from segue_kernels.record import RECORD_WORDS
from segue_kernels.route import ABOUT_NOBODY, choose_destinations, no_rows, scatter

Words = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

CLOCK_END = 1 << 62  # the clock of a partition that has ended
ANY_PLACE = (CLOCK_END + 1, 0)  # start and end of rows whose batch is not known: each row stands for itself
ROW_BITS = 48  # of SEQUENCE; the partition stands above them

Place = tuple[int, int]  # (clock of the partition, SEQUENCE): the order of arrival of rows


@dataclass(slots=True)
class Packet:
    """Rows for one shard from one source batch.

    start, end   places: all rows of the batch lie in [start, end); none of this partition after it lies before `end`
    via          anonymous shards that got rows of the same batch and may pass some on
    sender       the anonymous shard that passes these rows on, -1 when they come straight from the source
    finished     with a sender: (partition, batch) of which it has no more rows to pass on
    histories    (index of the identify record, history) that come with it
    heard        its rows are only what all shards must hear of: nothing will be passed on, nobody waits for it
    """

    partition: int
    batch: int
    start: Place
    end: Place
    records: Words
    text: Bytes
    via: tuple[int, ...] = ()
    sender: int = -1
    finished: tuple[tuple[int, int], ...] = ()
    histories: list[tuple[int, Words]] = field(default_factory=list)
    heard: bool = False
    _reduced: tuple[Any, ...] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Bytewax pickles what it sends twice, the first time to learn the length
        if self._reduced is None:
            self._reduced = self._reduce()
        return self._reduced

    def _reduce(self) -> tuple[Any, ...]:
        histories = [(at, words.tobytes()) for at, words in self.histories]
        place = (self.partition, self.batch, self.start, self.end, self.via)
        values = (
            self.records.tobytes(),
            self.text.tobytes(),
            self.sender,
            self.finished,
            histories,
            self.heard,
        )
        return _unpack, (*place, *values)


def _unpack(
    partition: int,
    batch: int,
    start: Place,
    end: Place,
    via: tuple[int, ...],
    records: bytes,
    text: bytes,
    sender: int,
    finished: tuple[tuple[int, int], ...],
    histories: list[tuple[int, bytes]],
    heard: bool,
) -> Packet:
    return Packet(
        partition,
        batch,
        start,
        end,
        np.frombuffer(bytearray(records), np.int64).reshape(-1, RECORD_WORDS),
        np.frombuffer(bytearray(text), np.uint8),
        via,
        sender,
        finished,
        [(at, np.frombuffer(words, np.int64)) for at, words in histories],
        heard,
    )


@dataclass(slots=True)
class SourceBatch:
    """One decoded batch of one source partition.

    decoded     None = no rows: the partition has ended (`end` says so), or the wall clock has moved its clock
    tell_clock  anonymous shards without a row of it get a packet too, for they have to know how late it is
    """

    partition: int
    batch: int
    start: Place
    end: Place
    decoded: Decoded | None
    tell_clock: bool = False


@dataclass(slots=True)
class Routed:
    """Runs of rows by destination: 0 .. shards - 1 known customers, then the anonymous identifiers' shards.

    destination  int32 a row; -1 for the `about_nobody` events that have no customer
    own          rows of each destination that are about its customers, not heard by all
    """

    records: list[Words]
    texts: list[Bytes]
    destination: npt.NDArray[np.int32]
    about_nobody: int
    own: list[int]


REFERENCE_TYPES = np.zeros(TYPES, np.uint8)
REFERENCE_TYPES[list(REFERENCE_CODES)] = ABOUT_NOBODY


def scatter_rows(
    records: Words,
    spans: Words,
    text: Bytes,
    shards: int,
    *,
    resolved: bool = False,
    nobody: npt.NDArray[np.uint8] = REFERENCE_TYPES,
) -> Routed:
    """Copy rows to one run for each destination, in their order.

    nobody    uint8 a type: what is about no customer, and what further destinations hear (segue_kernels/route.py)
    resolved  the rows come from an anonymous shard: an identify among them goes straight to its customer
    """
    identify = -1 if resolved else CODE_BY_NAME["identify"]
    alias = -1 if resolved else CODE_BY_NAME["alias"]
    destination = np.empty(len(records), np.int32)
    row_count = np.zeros(2 * shards, np.int64)
    byte_count = np.zeros(2 * shards, np.int64)
    about_nobody = choose_destinations(
        records, spans, shards, identify, alias, nobody, destination, row_count, byte_count
    )
    row_end = np.cumsum(row_count)
    row_start = row_end - row_count
    room = byte_count + STRIDE  # strings are copied in strides: one run's last must not reach the next run
    byte_start = np.cumsum(room) - room
    records_out = np.empty((int(row_end[-1]), RECORD_WORDS), np.int64)
    text_out = np.empty(int(room.sum()), np.uint8)
    scatter(
        records,
        spans,
        text,
        nobody,
        destination,
        row_start.copy(),
        byte_start.copy(),
        byte_start,
        records_out,
        text_out,
    )
    rows = zip(row_start.tolist(), row_end.tolist(), strict=True)
    texts = zip(byte_start.tolist(), (byte_start + byte_count).tolist(), strict=True)
    own = np.bincount(destination[destination >= 0], minlength=2 * shards).tolist()
    return Routed(
        [records_out[a:b] for a, b in rows], [text_out[a:b] for a, b in texts], destination, about_nobody, own
    )


def packets(
    batch: SourceBatch,
    shards: int,
    partitions: int,
    nobody: npt.NDArray[np.uint8] = REFERENCE_TYPES,
    together: bool = False,
    merged: bool = True,
) -> tuple[list[tuple[int, Packet]], int]:
    """(destination, packet) for one source batch, and how many of its events are about no customer.

    Every shard of known customers gets one, empty or not, for it has to know how far the partition has come;
    so does every anonymous shard when there are several partitions to merge, when the batch says so, when it has
    rows that all must hear of, or, with `together`, when any of them has rows: a batch that comes to all is decided
    in one go (segue.flow.crew).
    nobody  uint8 a type (segue.reference.world.types_for_all)
    merged  rows wait for all partitions, not only for their own (segue.routing.arrivals)
    """
    if batch.decoded is None:
        records, text = no_rows()
        routed = Routed(
            [records] * (2 * shards), [text] * (2 * shards), np.zeros(0, np.int32), 0, [0] * (2 * shards)
        )
    else:
        decoded = batch.decoded
        routed = scatter_rows(decoded.records, decoded.spans, decoded.text, shards, nobody=nobody)
    via = tuple(shard for shard in range(shards) if routed.own[shards + shard])
    told = together and len(via) > 0
    everyone = told or batch.tell_clock or batch.decoded is None or (merged and partitions > 1)
    return list(_packets(batch, routed, shards, via, everyone)), routed.about_nobody


def _packets(
    batch: SourceBatch, routed: Routed, shards: int, via: tuple[int, ...], to_all: bool
) -> Iterator[tuple[int, Packet]]:
    for destination in range(2 * shards):
        records = routed.records[destination]
        known = destination < shards
        if known or len(records) or to_all:
            yield (
                destination,
                Packet(
                    batch.partition,
                    batch.batch,
                    batch.start,
                    batch.end,
                    records,
                    routed.texts[destination],
                    via if known else (),
                    heard=len(records) > 0 and routed.own[destination] == 0,
                ),
            )
