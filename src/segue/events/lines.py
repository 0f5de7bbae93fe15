"""The lines of a payload: read by the scanner kernel, or only found, one slow line each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from segue import limits
from segue.events.batch import Bytes, Words, empty_words, read_only
from segue.events.keys import Tables, settings_of, tables
from segue.events.rows import Terms
from segue_kernels.load import PADDING_BYTES
from segue_kernels.scan import ITEM_WORDS, MEMO_WORDS, SCRATCH_ROWS, SCRATCH_WORDS, SLOW_WORDS, scan_lines

_NEWLINE = 0x0A


class Scanned(NamedTuple):
    """Rows read so far; each slow line has one row kept free, whose content means nothing yet.

    records int64[n,16], spans int64[n,4], where int64[n,2], slow int64[m,4] (start, end, row, line number).
    """

    records: Words
    spans: Words
    where: Words
    slow: Words
    lines: int
    next_start: int


def split_lines(payload: Bytes, start: int, rows_max: int, line: int) -> Scanned:
    """Every line that is not blank as a slow line."""
    slow: list[tuple[int, int, int, int]] = []
    first_line = line
    size = int(payload.shape[0])
    data = payload[start:].tobytes()
    at = 0
    while at < len(data) and len(slow) < rows_max:
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        if data[at:end].strip(b" \t\r"):
            slow.append((start + at, start + end, len(slow), line))
        at = end + 1
        line += 1
    rows = len(slow)
    return Scanned(
        empty_words(rows),
        empty_words(rows, 4),
        empty_words(rows, 2),
        np.array(slow, dtype=np.int64).reshape(-1, SLOW_WORDS),
        line - first_line,
        min(start + at, size),
    )


class ScanRoom:
    """What the scanner needs beside the lines, for one decoder: what it remembers of the lines before only makes it
    faster. One thread at a time."""

    def __init__(self, terms: Terms, k0: np.uint64, k1: np.uint64) -> None:
        self.tables: Tables = tables()
        self.settings = settings_of(terms)
        self.k0, self.k1 = k0, k1
        self.scratch = np.full((SCRATCH_ROWS, SCRATCH_WORDS), -1, dtype=np.int64)
        self.memo = np.zeros(MEMO_WORDS, dtype=np.uint64)
        self.items = empty_words(limits.LINES_PER_EVENT_MAX, ITEM_WORDS)
        self.out = np.zeros(4, dtype=np.int64)


def run_scanner(
    payload: Bytes, start: int, rows_max: int, line: int, room: ScanRoom, padded: Bytes | None = None
) -> Scanned:
    """The scanner over the payload, then over a padded copy of its last bytes: it reads up to 64 past a line.

    padded  the payload with at least PADDING_BYTES of anything behind it: nothing is copied if it ends a line
    """
    size = int(payload.shape[0])
    rows_most = rows_max + limits.LINES_PER_EVENT_MAX + 1
    # the shortest event that is taken has some 60 bytes; what is left has two and a newline
    rows_most = min(rows_most, (size - start) // 2 + limits.LINES_PER_EVENT_MAX + 1)
    records = empty_words(rows_most)
    spans = empty_words(rows_most, 4)
    where = empty_words(rows_most, 2)
    slow = empty_words(rows_most, SLOW_WORDS)
    rows = slow_rows = lines = 0
    at = start
    if padded is None or payload[size - 1] != _NEWLINE:
        padded = payload
        body_end = _body_end(payload, start)
    else:
        body_end = size
    if body_end > start:
        filled = records, spans, where, slow
        rows, slow_rows, at, lines = _scan(padded, start, body_end, 0, rows_max, filled, 0, 0, line, room)
    if at >= body_end and rows < rows_max and at < size:
        tail = np.zeros(size - at + 1 + PADDING_BYTES, dtype=np.uint8)
        tail[: size - at] = payload[at:]
        tail[size - at] = _NEWLINE
        # a payload that ends with a newline has no line behind it
        end = size - at if payload[size - 1] == _NEWLINE else size - at + 1
        filled = records, spans, where, slow
        rows, slow_rows, tail_at, tail_lines = _scan(
            tail, 0, end, at, rows_max, filled, rows, slow_rows, line + lines, room
        )
        at = min(at + tail_at, size)
        lines += tail_lines
    return Scanned(records[:rows], spans[:rows], where[:rows], slow[:slow_rows], lines, at)


def _scan(
    buffer: Bytes,
    start: int,
    end: int,
    base: int,
    rows_max: int,
    filled: tuple[Words, Words, Words, Words],
    row: int,
    slow_row: int,
    line: int,
    room: ScanRoom,
) -> list[int]:
    """Rows and slow rows in `filled` now, where to go on in the buffer, and how many lines were read."""
    known = room.tables
    scan_lines(
        read_only(buffer),
        start,
        end,
        base,
        rows_max,
        *filled,
        known.keys,
        known.types,
        known.zones,
        known.consents,
        known.multipliers,
        known.exponents,
        room.settings,
        room.k0,
        room.k1,
        row,
        slow_row,
        line,
        room.scratch,
        room.memo,
        room.items,
        room.out,
    )
    told: list[int] = room.out.tolist()
    return told


def _body_end(payload: Bytes, start: int) -> int:
    """Just behind the last newline that has the scanner's padding behind it; `start` if there is none."""
    high = int(payload.shape[0]) - PADDING_BYTES
    width = 1 << 12
    while high > start:
        low = max(start, high - width)
        found = payload[low:high].tobytes().rfind(b"\n")
        if found >= 0:
            return low + found + 1
        high = low
        width *= 4
    return start
