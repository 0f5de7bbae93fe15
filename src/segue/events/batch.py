"""What decoding gives: records and their strings in input order; what could not be taken, with its bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segue import limits
from segue_kernels import record
from segue_kernels.stamp import count_headers

Words = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class Origin(NamedTuple):
    """Where a payload comes from.

    file        its name, or topic/partition
    line        number of the line (row) that decoding starts at; the first of a file is 1
    offset      byte offset in the file of the payload's first byte
    offsets     of messages of a topic: the message's offset, for each line from `first_line` on
    first_line  number of the line that offsets[0] is of
    """

    file: str
    line: int = 1
    offset: int = 0
    offsets: Words | None = None
    first_line: int = 1

    def place_of(self, line: int, place: int) -> tuple[int, int]:
        """(line, offset) as people are told them: in a file, or the line inside of a message and the message's."""
        if self.offsets is None:
            return line, self.offset + place
        index = line - self.first_line
        offset = int(self.offsets[index])
        return index - int(np.searchsorted(self.offsets, offset)) + 1, offset


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not be used. `raw` is its original bytes, cut (the reason says so) if very
    long.

    partition, row  what tells it from others when the input is read again; set by the reader (reader.py)
    """

    file: str
    line: int
    offset: int
    reason: str
    raw: bytes
    partition: int = 0
    row: int = 0


@dataclass(frozen=True, slots=True)
class Late:
    """An event behind its partition's clock by more than the lateness allowed; times in ms. `partition` and `row` as
    a DeadLetter's."""

    file: str
    line: int
    offset: int
    raw: bytes
    delay_ms: int
    event_time_ms: int
    partition: int = 0
    row: int = 0


def dead_letter(file: str, line: int, offset: int, reason: str, raw: bytes) -> DeadLetter:
    """A DeadLetter within limits.DEAD_LETTER_BYTES_MAX."""
    if len(raw) > limits.DEAD_LETTER_BYTES_MAX:
        reason = f"{reason} (the first {limits.DEAD_LETTER_BYTES_MAX} of {len(raw)} bytes are kept)"
        raw = raw[: limits.DEAD_LETTER_BYTES_MAX]
    return DeadLetter(file, line, offset, reason, raw)


def _no_raw(place: int) -> bytes:
    return b""


@dataclass(slots=True)
class Decoded:
    """Records in input order.

    records int64[n,16], spans int64[n,4] (offset << 8 | length into text; 0 length is absent), text uint8[],
    where int64[n,2]: (place in the payload: byte offset of the line, or row of the table; line number).
    `text` may be the payload itself: keep the payload unchanged as long as the Decoded is in use.
    events: header records, lines: input lines (rows) consumed, blank ones included.
    unknown_zones: events whose time zone nobody knows; counted, and the zone dropped, when they are stamped.
    """

    records: Words
    spans: Words
    text: Bytes
    where: Words
    dead: list[DeadLetter]
    events: int
    lines: int
    origin: Origin
    late: list[Late] = field(default_factory=list)
    unknown_zones: int = 0
    raw_at: Callable[[int], bytes] = _no_raw  # the message at a place, for late events

    @property
    def rows(self) -> int:
        """The number of records."""
        return int(self.records.shape[0])


def string_of(decoded: Decoded, row: int, string: int) -> str:
    """A string of a record (record.py: STRING_...); empty when absent."""
    span = int(decoded.spans[row, string])
    start = span >> 8
    return decoded.text[start : start + (span & 0xFF)].tobytes().decode()


def empty_words(rows: int, columns: int = record.RECORD_WORDS) -> Words:
    """An uninitialised int64[rows, columns]."""
    return np.empty((rows, columns), dtype=np.int64)


def read_only(array: Bytes) -> Bytes:
    """A view that can't be written: kernels are compiled once, for read-only text."""
    view = array.view()
    view.flags.writeable = False
    return view


def count_events(records: Words) -> int:
    """The number of header records."""
    return int(count_headers(records))
