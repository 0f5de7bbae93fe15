"""Rows of a record batch as one message: an Arrow IPC stream of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from segue import limits
from segue.outputs import ARROW_STREAM

CONTENT_TYPE = ARROW_STREAM.encode()
_END = b"\xff\xff\xff\xff\0\0\0\0"


class TableMessages:
    """Encodes batches of one schema whose dictionaries never change. (They and the schema are the same bytes in each
    message: made once, they cost a copy instead of four fifths of the time.)"""

    def __init__(self) -> None:
        self._start = b""

    def encode(self, batch: pa.RecordBatch) -> bytes:
        """The stream."""
        if not self._start:
            empty = batch.slice(0, 0)
            rows = empty.serialize().size
            self._start = whole_stream(empty)[: -rows - len(_END)]
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


def whole_stream(batch: pa.RecordBatch) -> bytes:
    """A batch as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def rows_of_stream(data: bytes, keep: list[bool]) -> bytes:
    """The stream of one batch with only some of its rows."""
    with pa.ipc.open_stream(data) as reader:
        batch = reader.read_next_batch()
    return whole_stream(batch.filter(pa.array(keep)))
