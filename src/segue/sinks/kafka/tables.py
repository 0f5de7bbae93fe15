"""Rows of a record batch as one message: an Arrow IPC stream of its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue import limits
from segue.actions.log import LOG_FIELDS, LogTable
from segue.outputs import ARROW_STREAM
from segue_kernels.columns import (
    CUT_WORDS,
    PLACE_BODY,
    PLACE_BUFFERS,
    PLACE_NODES,
    PLACE_ROWS,
    PLACES,
    cut_rows,
    write_cuts,
)

CONTENT_TYPE = ARROW_STREAM.encode()
_END = b"\xff\xff\xff\xff\0\0\0\0"
_PREFIX_BYTES = 8  # of a message: a mark, then the length of its metadata
# fields of the Flatbuffers that IPC is made of, by their numbers
_MESSAGE_HEADER, _MESSAGE_BODY = 2, 3
_BATCH_ROWS, _BATCH_NODES, _BATCH_BUFFERS = 0, 1, 2


class TableMessages:
    """Encodes batches of one schema whose dictionaries never change. (They and the schema are the same bytes in each
    message: made once, they cost a copy instead of four fifths of the time.)"""

    def __init__(self) -> None:
        self._start = b""

    def encode(self, batch: pa.RecordBatch) -> bytes:
        """The stream."""
        if not self._start:
            self._start = stream_start(batch)
        return b"".join((self._start, batch.serialize().to_pybytes(), _END))

    def cut(
        self, batch: pa.RecordBatch, start: int, end: int, header_bytes: int
    ) -> Iterator[tuple[int, int, bytes]]:
        """(start, end, stream) of the batch's rows, in messages near limits.MESSAGE_BYTES_TARGET; a row is never cut.

        header_bytes  of a row, beside the stream
        """
        rows_max = max(1, limits.MESSAGE_BYTES_TARGET // (2 * header_bytes))
        spans = [(at, min(at + rows_max, end)) for at in range(start, end, rows_max)]
        spans.reverse()
        while spans:
            first, last = spans.pop()
            stream = self.encode(batch.slice(first, last - first))
            size = len(stream) + header_bytes * (last - first)
            if size > limits.MESSAGE_BYTES_TARGET and last - first > 1:
                middle = (first + last) // 2
                spans += [(middle, last), (first, middle)]
            else:
                yield first, last, stream


class LogMessages:
    """Encodes rows of the decision log as TableMessages does, all messages of a call at once: with a slice and a
    serialisation of pyarrow's for each, a call took three times as long.

    sample  a batch of the log with rows: what its messages have in common is told by one of them
    """

    def __init__(self, sample: pa.RecordBatch) -> None:
        one = sample.slice(0, 1)
        self._start = stream_start(one)
        message = one.serialize().to_pybytes()
        self._template, self._places = batch_template(message)
        self._ends = np.zeros(64, np.int64)

    def cut(
        self, log: LogTable, runs: list[tuple[int, int]], header_bytes: int
    ) -> Iterator[tuple[int, int, int, bytes]]:
        """(number of the run, start, end, stream) of runs of the log's rows, cut as TableMessages.cut does."""
        data, halves = log.buffer.view(np.uint8), log.buffer.view(np.int32)
        cuts = np.empty((log.rows, CUT_WORDS), np.int64)
        count, size = cut_rows(
            log.columns,
            data,
            halves,
            log.rows,
            np.array(runs, np.int64),
            len(self._template),
            len(self._start),
            header_bytes,
            limits.MESSAGE_BYTES_TARGET,
            self._ends,
            cuts,
        )
        out = np.empty(size // 8, np.int64)
        octets = out.view(np.uint8)
        write_cuts(
            log.columns,
            data,
            halves,
            log.rows,
            cuts[:count],
            self._template,
            self._places,
            octets,
            out.view(np.int32),
            out,
        )
        written = octets.data
        for run, first, end, at, length in cuts[:count].tolist():
            yield run, first, end, b"".join((self._start, written[at : at + length]))


def batch_template(message: bytes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The metadata of a batch with rows, as IPC has it in front of the body, and its PLACES
    (segue_kernels/columns.py): of no other batch of the schema are they elsewhere.

    The metadata is a Flatbuffer: a table begins with the distance to its list of fields, a field says where in the
    table it stands, a list begins with its length.
    """

    def word(at: int) -> int:
        return int.from_bytes(message[at : at + 4], "little", signed=True)

    def field(table: int, number: int) -> int:
        fields = table - word(table)
        at = fields + 4 + 2 * number
        return table + int.from_bytes(message[at : at + 2], "little")

    def behind(at: int) -> int:
        return at + word(at)

    root = behind(_PREFIX_BYTES)
    batch = behind(field(root, _MESSAGE_HEADER))
    places = np.zeros(PLACES, np.int64)
    places[PLACE_BODY] = field(root, _MESSAGE_BODY)
    places[PLACE_ROWS] = field(batch, _BATCH_ROWS)
    places[PLACE_NODES] = behind(field(batch, _BATCH_NODES)) + 4
    places[PLACE_BUFFERS] = behind(field(batch, _BATCH_BUFFERS)) + 4
    end = _PREFIX_BYTES + word(4)
    return np.frombuffer(message[:end], np.uint8).copy(), places


def stream_start(batch: pa.RecordBatch) -> bytes:
    """What a stream of batches of this schema and these dictionaries begins with."""
    empty = batch.slice(0, 0)
    return whole_stream(empty)[: -empty.serialize().size - len(_END)]


def whole_stream(batch: pa.RecordBatch) -> bytes:
    """A batch as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _no_rows(schema: pa.Schema) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema):
        pass
    data: bytes = sink.getvalue().to_pybytes()
    return data


NO_ROWS = _no_rows(pa.schema(LOG_FIELDS))  # of the decision log: what its topic holds where none is kept


def rows_of_stream(data: bytes, keep: list[bool]) -> bytes:
    """The stream of one batch with only some of its rows."""
    with pa.ipc.open_stream(data) as reader:
        batch = reader.read_next_batch()
    return whole_stream(batch.filter(pa.array(keep)))
