"""What became of vouchers as a table: the key of each change, and its words; the last row of a key is how it is now.

Law: from the rows in their order the ledger is rebuilt (segue.vouchers.ledger).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.vouchers.answers import change_keys
from segue_kernels.ledger import CHANGE_WORDS

Words = npt.NDArray[np.int64]

_BYTES = 8 * CHANGE_WORDS
LEDGER_SCHEMA = pa.schema(
    [
        pa.field("key", pa.binary(), nullable=False),
        pa.field("change", pa.binary(_BYTES), nullable=False),  # little-endian, in the order of the kernels
    ]
)


def ledger_batch(changes: Words) -> pa.RecordBatch:
    """The rows of changes, int64[n, CHANGE_WORDS]."""
    words = pa.py_buffer(changes.astype("<i8", copy=False).tobytes())
    column = pa.Array.from_buffers(pa.binary(_BYTES), len(changes), [None, words])
    keys = pa.array(change_keys(changes), pa.binary())
    return pa.RecordBatch.from_arrays([keys, column], schema=LEDGER_SCHEMA)


def read_changes(batches: Iterable[pa.RecordBatch]) -> Words:
    """The changes of such rows, int64[n, CHANGE_WORDS]."""
    words = [np.frombuffer(row, "<i8") for batch in batches for row in batch.column("change").to_pylist()]
    return np.array(words, np.int64).reshape(-1, CHANGE_WORDS)
