"""A record: one ShardDelta in a journal, or a block of rows in a base. Little-endian int64 words throughout.

    header   RECORD_WORDS words, the last one their checksum
    rows     numbers of the rows, ascending
    starts   where each row begins among the words, and where the last one ends
    packed   the words without their zeros (segue_kernels/sparse.py)
    rest     bytes, filled with zeros to whole words

Each file begins with FILE_WORDS words: its magic number, the version of this layout, what it belongs to.
Checksums are zlib's CRC-32: 5 to 7 GB/s where the processor multiplies without carry, 1 GB/s elsewhere.
"""

from __future__ import annotations

import mmap
import os
import sys
import zlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segue.checkpoints.disk import damaged, unreadable
from segue.state.delta import ShardDelta

Words = npt.NDArray[np.int64]

FORMAT_VERSION = 1
JOURNAL_MAGIC = int.from_bytes(b"SGJOURNL", "little")
BASE_MAGIC = int.from_bytes(b"SGBASE\r\n", "little")
FILE_WORDS = 8
FILE_BYTES = 8 * FILE_WORDS

RECORD_MAGIC = int.from_bytes(b"SGRECORD", "little")
END_MAGIC = int.from_bytes(b"SGEND\r\n\0", "little")  # the last record of a base: all before it is there
(
    _MAGIC,
    _PART,
    _TIME_MS,
    _BACK_GENERATION,  # the part's record before this one: generation and number of its journal; 0 = none
    _BACK_NUMBER,
    _BACK_OFFSET,
    _ROWS,
    _WORDS,
    _PACKED,
    _REST_BYTES,
    _INDEX_CRC,  # of rows and starts
    _BODY_CRC,  # of packed and rest
    _ALL_ROWS,  # END_MAGIC: rows of the whole base
    _ALL_WORDS,
    _SPARE,
    _HEADER_CRC,
) = range(16)
RECORD_WORDS = 16
RECORD_BYTES = 8 * RECORD_WORDS

assert sys.byteorder == "little"


class Header(NamedTuple):
    """Where a record is and what it holds."""

    path: str
    offset: int
    part: int
    time_ms: int
    back: tuple[int, int, int]  # generation, number, offset; zeros = none
    rows: int
    words: int
    packed: int
    rest_bytes: int
    index_crc: int
    body_crc: int
    is_end: bool
    all_rows: int
    all_words: int

    @property
    def index_bytes(self) -> int:
        """Bytes of rows and starts."""
        return 8 * (2 * self.rows + 1)

    @property
    def body_bytes(self) -> int:
        """Bytes of packed words and rest."""
        return 8 * (self.packed + (self.rest_bytes + 7) // 8)

    @property
    def end(self) -> int:
        """Where the next record would begin."""
        return self.offset + RECORD_BYTES + self.index_bytes + self.body_bytes


class Room:
    """Memory that is used again and again: fresh memory costs more than what is done with it."""

    def __init__(self) -> None:
        self._words: Words = np.empty(0, np.int64)

    def words(self, count: int) -> Words:
        """So many words, whatever they hold, aligned to a page; what was given out before is overwritten."""
        if len(self._words) < count:
            self._words = self._fresh(count)
        return self._words[:count]

    def more_words(self, count: int, kept: int) -> Words:
        """So many words, of which the first are as they were."""
        if len(self._words) < count:
            before = self._words
            self._words = self._fresh(count)
            self._words[:kept] = before[:kept]
        return self._words[:count]

    @staticmethod
    def _fresh(count: int) -> Words:
        return np.frombuffer(mmap.mmap(-1, 8 * (count + count // 8) + 8), np.int64)


def file_head(magic: int, generation: int, number: int, part: int) -> bytes:
    """The first bytes of a file."""
    words = np.zeros(FILE_WORDS, np.int64)
    words[:5] = magic, FORMAT_VERSION, generation, number, part
    words[-1] = zlib.crc32(words[:-1].data)
    return words.tobytes()


def check_file_head(fd: int, path: str, magic: int) -> None:
    """Raise CheckpointError if the file is not of this kind or version."""
    head = read_exactly(fd, path, 0, FILE_BYTES)
    words = np.frombuffer(head, np.int64)
    if words[0] != magic:
        kind = "journal" if magic == JOURNAL_MAGIC else "base"
        raise damaged(path, 0, f"it does not begin as a {kind} does ({bytes(head[:8])!r})")
    if words[-1] != zlib.crc32(words[:-1].data):
        raise damaged(path, 0, "the checksum of its first bytes differs")
    if words[1] != FORMAT_VERSION:
        raise damaged(path, 8, f"it has version {words[1]} of the layout, this is version {FORMAT_VERSION}")


def record_room(delta: ShardDelta) -> int:
    """Words that a record takes at most."""
    groups = len(delta.words) // 63 + 3
    return RECORD_WORDS + 2 * len(delta.rows) + 1 + len(delta.words) + groups + len(delta.rest) // 8 + 1


def encode_record(
    into: Words,
    part: int,
    delta: ShardDelta,
    time_ms: int,
    back: tuple[int, int, int] = (0, 0, 0),
    end: tuple[int, int] | None = None,
) -> int:
    """Write a record to the beginning of `into`, which has room; how many words it takes. Releases the interpreter
    while it packs and sums up. `end`: it ends a base of so many rows and words."""
    from segue_kernels.sparse import pack_words

    rows = len(delta.rows)
    index = into[RECORD_WORDS : RECORD_WORDS + 2 * rows + 1]
    index[:rows] = delta.rows
    index[rows:] = delta.starts
    body = into[RECORD_WORDS + 2 * rows + 1 :]
    packed = int(pack_words(delta.words, body))
    rest_words = (len(delta.rest) + 7) // 8
    if rest_words:
        body[packed + rest_words - 1] = 0
        rest = body[packed : packed + rest_words].view(np.uint8)
        rest[: len(delta.rest)] = np.frombuffer(delta.rest, np.uint8)
    header = into[:RECORD_WORDS]
    header[:] = 0
    header[_MAGIC] = RECORD_MAGIC if end is None else END_MAGIC
    header[_PART] = part
    header[_TIME_MS] = time_ms
    header[_BACK_GENERATION], header[_BACK_NUMBER], header[_BACK_OFFSET] = back
    header[_ROWS] = rows
    header[_WORDS] = len(delta.words)
    header[_PACKED] = packed
    header[_REST_BYTES] = len(delta.rest)
    header[_INDEX_CRC] = zlib.crc32(index.data)
    header[_BODY_CRC] = zlib.crc32(body[: packed + rest_words].data)
    if end is not None:
        header[_ALL_ROWS], header[_ALL_WORDS] = end
    header[_HEADER_CRC] = zlib.crc32(header[:_HEADER_CRC].data)
    return RECORD_WORDS + 2 * rows + 1 + packed + rest_words


def read_exactly(fd: int, path: str, offset: int, size: int, into: Room | None = None) -> memoryview:
    """`size` bytes from an offset on, in `into` if given. Raises CheckpointError."""
    view = (into or Room()).words((size + 7) // 8).data.cast("B")[:size]
    done = 0
    try:
        while done < size:
            count = os.preadv(fd, [view[done:]], offset + done)
            if count == 0:
                raise damaged(path, offset + done, f"it ends here, {size - done} bytes too early")
            done += count
    except OSError as error:
        raise unreadable(path, error) from error
    return view


def read_header(fd: int, path: str, offset: int) -> Header:
    """The record that begins at an offset. Raises CheckpointError."""
    data = read_exactly(fd, path, offset, RECORD_BYTES)
    words = np.frombuffer(data, np.int64)
    if words[_MAGIC] not in (RECORD_MAGIC, END_MAGIC):
        raise damaged(path, offset, f"no record begins here ({bytes(data[:8])!r})")
    if words[_HEADER_CRC] != zlib.crc32(words[:_HEADER_CRC].data):
        raise damaged(path, offset, "the checksum of the record's header differs")
    word = words.tolist()
    return Header(
        path=path,
        offset=offset,
        part=word[_PART],
        time_ms=word[_TIME_MS],
        back=(word[_BACK_GENERATION], word[_BACK_NUMBER], word[_BACK_OFFSET]),
        rows=word[_ROWS],
        words=word[_WORDS],
        packed=word[_PACKED],
        rest_bytes=word[_REST_BYTES],
        index_crc=word[_INDEX_CRC],
        body_crc=word[_BODY_CRC],
        is_end=word[_MAGIC] == END_MAGIC,
        all_rows=word[_ALL_ROWS],
        all_words=word[_ALL_WORDS],
    )


def read_index(fd: int, header: Header) -> tuple[Words, Words]:
    """Rows and starts of a record. Raises CheckpointError."""
    at = header.offset + RECORD_BYTES
    data = read_exactly(fd, header.path, at, header.index_bytes)
    if zlib.crc32(data) != header.index_crc:
        raise damaged(header.path, at, "the checksum of the record's rows differs")
    index = np.frombuffer(data, np.int64)
    return index[: header.rows], index[header.rows :]


def read_body(fd: int, header: Header, into: Room | None = None) -> tuple[Words, memoryview]:
    """Packed words and rest of a record; they live in `into` if it is given. Raises CheckpointError."""
    at = header.offset + RECORD_BYTES + header.index_bytes
    data = read_exactly(fd, header.path, at, header.body_bytes, into)
    if zlib.crc32(data) != header.body_crc:
        raise damaged(header.path, at, "the checksum of the record's words differs")
    packed = np.frombuffer(data, np.int64, header.packed)
    return packed, data[8 * header.packed : 8 * header.packed + header.rest_bytes]
