"""What was refused has a number that is the same in a replay, wherever chunks and batches end."""

from __future__ import annotations

import json
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from segue.clock import ManualClock
from segue.events.decode import Decoder
from segue.limits import LATENESS_MS_DEFAULT
from segue.settings import secret
from segue.sources.interface import BrokenChunk, Chunk, LineChunk
from segue.sources.pace import Pace
from segue.sources.reader import LINE_BITS, BatchReader

START_MS = 1_772_438_400_000
_FAR_MS = 253_402_300_799_000


class _Chunks:
    """A partition of given chunks."""

    name = "t/00000"

    def __init__(self, chunks: list[Chunk]) -> None:
        self._chunks = chunks

    def read(self, rows_max: int, bytes_max: int) -> Chunk | None:
        return self._chunks.pop(0) if self._chunks else None

    def position(self) -> msgspec.Struct:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""


def refused(chunks: list[Chunk], batch_rows: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(partition, row) of dead letters and of late events."""
    decoder = Decoder(secret(), "EUR", _FAR_MS, LATENESS_MS_DEFAULT)
    pace = Pace.create(4, 1, in_flight=1_000)
    reader = BatchReader(_Chunks(chunks), 3, decoder, pace, batch_rows, ManualClock(START_MS))
    dead, late = [], []
    while not reader.ended:
        read = reader.read()
        dead += [(each.partition, each.row) for each in read.dead]
        late += [(each.partition, each.row) for each in read.late]
    return dead, late


def event(at_ms: int) -> bytes:
    fields = {"messageId": "m", "type": "page", "userId": "u"}
    stamp = str(np.datetime64(START_MS + at_ms, "ms")) + "Z"
    return json.dumps({**fields, "timestamp": stamp}).encode()


# (offset of the message, line): two messages of several lines
LINES = [
    (7, event(0)),
    (7, b"no json"),
    (7, b"[1]"),
    (12, event(-3_600_000)),
    (12, b"{"),
    (12, event(-7_200_000)),
    (15, b"?"),
]


def chunk(lines: list[tuple[int, bytes]]) -> LineChunk:
    payload = np.frombuffer(b"".join(line + b"\n" for _, line in lines), np.uint8)
    offsets = np.array([offset for offset, _ in lines], np.int64)
    return LineChunk(payload, "t/00000", 0, 1, len(lines), offsets)


@pytest.mark.parametrize("batch_rows", [1, 2, 1_000])
@pytest.mark.parametrize("cuts", [[0, 7], [0, 3, 7], [0, 6, 7], [0, 3, 6, 7]])
def test_of_a_topic_it_is_the_message_and_its_line(batch_rows: int, cuts: list[int]) -> None:
    chunks: list[Chunk] = [chunk(LINES[a:b]) for a, b in pairwise(cuts)]
    chunks.append(BrokenChunk("t/00000", 20, 1, "too long", b"x"))
    dead, late = refused(chunks, batch_rows)
    places = [(7, 2), (7, 3), (12, 2), (15, 1), (20, 1)]
    assert dead == [(3, offset << LINE_BITS | line) for offset, line in places]
    assert late == [(3, 12 << LINE_BITS | 1), (3, 12 << LINE_BITS | 3)]


def test_of_a_file_it_is_the_line() -> None:
    payload = np.frombuffer(b"".join(line + b"\n" for _, line in LINES), np.uint8)
    dead, late = refused([LineChunk(payload, "f", 0, 1, len(LINES))], 2)
    assert dead == [(3, 2), (3, 3), (3, 5), (3, 7)]
    assert late == [(3, 4), (3, 6)]
