"""Messages of rows of a table: the bytes that pyarrow writes for a slice of the same batch."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from segue import limits
from segue.actions.log import LogTable
from segue.sinks.kafka.tables import LogMessages, TableMessages
from segue_kernels.columns import (
    COLUMN_BITS,
    COLUMN_BYTES,
    COLUMN_FIXED,
    COLUMN_KIND,
    COLUMN_LIST,
    COLUMN_OFFSETS,
    COLUMN_VALUES,
    COLUMN_WIDTH,
    COLUMN_WORDS,
)
from tests.kernels.drivers import quick

TYPES = {
    "number": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "name": (pa.int32(), st.none() | st.integers(0, 9)),
    "text": (pa.string(), st.none() | st.text(max_size=30)),
    "bytes": (pa.binary(), st.binary(max_size=60)),
    "small": (pa.list_(pa.uint16()), st.lists(st.integers(0, 2**16 - 1), max_size=4)),
    "wide": (pa.list_(pa.float64()), st.none() | st.lists(st.floats(allow_nan=False), max_size=9)),
}
SCHEMA = pa.schema([(name, of) for name, (of, _) in TYPES.items()])


def table_of(batch: pa.RecordBatch) -> LogTable:
    """The batch's buffers one after the other."""
    columns = np.full((batch.num_columns, COLUMN_WORDS), -1, np.int64)
    whole = bytearray()

    def place(buffer: pa.Buffer | None) -> int:
        at = len(whole)
        data = buffer.to_pybytes() if buffer is not None else b""
        whole.extend(data + b"\xee" * (-len(data) % 8))
        return at

    for column, array in zip(columns, batch.columns, strict=True):
        buffers = array.buffers()
        if buffers[0] is not None:
            column[COLUMN_BITS] = place(buffers[0])
        column[COLUMN_KIND] = COLUMN_FIXED if len(buffers) == 2 else COLUMN_BYTES
        column[COLUMN_WIDTH] = array.type.bit_width // 8 if len(buffers) == 2 else 1
        if pa.types.is_list(array.type):
            column[COLUMN_KIND] = COLUMN_LIST
            column[COLUMN_WIDTH] = array.type.value_type.bit_width // 8
        if len(buffers) > 2:
            column[COLUMN_OFFSETS] = place(buffers[1])
        column[COLUMN_VALUES] = place(buffers[-1])
    return LogTable(batch.num_rows, columns, np.frombuffer(whole, np.int64))


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    rows = draw(st.integers(1, 90))
    few = draw(st.integers(1, rows))
    arrays = []
    for of, values in TYPES.values():
        drawn = draw(st.lists(values, min_size=few, max_size=few))
        arrays.append(pa.array((drawn * rows)[:rows], of))
    return pa.record_batch(arrays, schema=SCHEMA)


@quick(150)
@given(batches(), st.data(), st.integers(1, 40), st.integers(400, 4_000))
def test_messages_are_those_of_pyarrow(
    batch: pa.RecordBatch, data: st.DataObject, header_bytes: int, target: int
) -> None:
    rows = batch.num_rows
    bounds = sorted(data.draw(st.lists(st.integers(0, rows), max_size=6)))
    runs = list(zip([0, *bounds], [*bounds, rows], strict=True))
    with patch.object(limits, "MESSAGE_BYTES_TARGET", target):
        found = list(LogMessages(batch).cut(table_of(batch), runs, header_bytes))
        plain = TableMessages()
        expected: list[Any] = []
        for run, (start, end) in enumerate(runs):
            expected += [(run, *cut) for cut in plain.cut(batch, start, end, header_bytes)]
    assert found == expected
    read = []
    for *_, stream in found:
        with pa.ipc.open_stream(stream) as reader:
            part = reader.read_next_batch()
        part.validate(full=True)
        read += part.to_pylist()
    assert read == batch.to_pylist()
