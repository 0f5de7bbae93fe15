"""What every source gives: partitions, read in order, chunk by chunk, each with a position to resume at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.events.updates import TopicRows


class LineChunk(NamedTuple):
    """Complete lines of a text input, in order; the last line of a file may lack its newline.

    payload     uint8[n]; owned by the chunk: nothing writes to it after the chunk was handed out
    file        where it comes from, for people
    offset      of the payload in the file, bytes (of the decompressed text); of a topic: of the first message
    first_line  number of the first line in the file, from 1
    rows_hint   lines in the payload, blank ones included
    offsets     int64[lines], ascending; of a topic: the offset of the message that each line came with
    padded      the payload with PADDING_BYTES (segue_kernels/load.py) of anything behind it, where it lies in such
    """

    payload: npt.NDArray[np.uint8]
    file: str
    offset: int
    first_line: int
    rows_hint: int
    offsets: npt.NDArray[np.int64] | None = None
    padded: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class TableChunk:
    """Rows of a columnar input, in order.

    first_row  number of the first in the file (in the message), from 1
    offset     of a topic: of the message they came with
    """

    batch: pa.RecordBatch
    file: str
    first_row: int
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class RowChunk:
    """Messages of a table's topic, in order. offsets: int64[messages], ascending."""

    rows: TopicRows
    file: str
    offsets: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BrokenChunk:
    """A part of an input that can't be read; reading goes on after it.

    offset  where it begins in the file, bytes (decompressed; 0 in a columnar file); of a topic: of the message
    row     the line or row it stands at, from 1
    reason  for people
    raw     its bytes as far as known, DEAD_LETTER_BYTES_MAX at most
    """

    file: str
    offset: int
    row: int
    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class QuietChunk:
    """A live input (a pipe, a topic) has nothing right now: ask again later. It holds no rows.

    caught_up_ms  wall time up to which it is confirmed that nothing is missing: the reader stands at the end.
                  None while the input is unreachable, the reader lags or resumes, or nobody can tell
    """

    caught_up_ms: int | None = None


Chunk = LineChunk | TableChunk | RowChunk | BrokenChunk | QuietChunk

QUIET = QuietChunk()


class Partition(Protocol):
    """An ordered part of the input with one reader. Reading the same input again gives the same rows."""

    @property
    def name(self) -> str:
        """Unique among the inputs, and the same in every run on the same inputs."""

    def read(self, rows_max: int, bytes_max: int) -> Chunk | None:
        """The next chunk, None = ended: at most `rows_max` rows and `bytes_max` bytes, but one row."""

    def position(self) -> msgspec.Struct:
        """Where the next chunk begins: given to `Source.open`, reading goes on there."""

    def close(self) -> None:
        """Let go of files and connections. May be called again."""


PositionType = TypeVar("PositionType", bound=msgspec.Struct, contravariant=True)


class Source(Protocol[PositionType]):
    """Inputs checked before anything runs; can be pickled to the processes that read it."""

    @property
    def partitions(self) -> tuple[str, ...]:
        """Names of the partitions, in the order of their index."""

    def open(self, name: str, position: PositionType | None = None) -> Partition:
        """Begin to read a partition, at its start or at a position it gave."""
