"""The decision log: a row for each slot that had candidates, its winner, and one reason byte a candidate.

The candidates of a row are the offers, in the policies' order, that belong to its slot in the journeys listed; the
schema's metadata has the names (`segue.journeys`, `segue.offers`, `segue.reasons`). Every candidate's propensity,
context weight and score stand in the sampled rows only; in the others the three lists are null. The score is
((propensity x context) x value) x lever: value and lever are the offer's own and stand in `segue.offers`. Of what was
not scored, because something forbade it before, all three are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.actions.joined import JoinedDecisions
from segue.policy.compiled import CompiledPolicies
from segue_kernels.columns import (
    COLUMN_BITS,
    COLUMN_FIXED,
    COLUMN_OFFSETS,
    COLUMN_WIDTH,
    COLUMN_WORDS,
)
from segue_kernels.log import (
    COLUMN_CAUSE,
    COLUMN_CHANNEL,
    COLUMN_CONTEXTS,
    COLUMN_CUSTOMER,
    COLUMN_DECISION,
    COLUMN_JOURNEYS,
    COLUMN_PLACEMENT,
    COLUMN_PROPENSITIES,
    COLUMN_REASONS,
    COLUMN_SCORES,
    COLUMN_TIME,
    COLUMN_WINNER,
    LOG_COLUMNS,
    fill_log,
    place_log,
)
from segue_kernels.plan import OFFER_F_LEVER, OFFER_F_VALUE
from segue_kernels.shard import REASON_NAMES
from segue_kernels.strings import gather_strings, write_hex

Words = npt.NDArray[np.int64]

_TIME = pa.timestamp("ms", tz="UTC")
DICTIONARY = pa.dictionary(pa.int32(), pa.string())
LOG_FIELDS = [
    pa.field("decision_id", pa.string(), nullable=False),
    pa.field("customer_id", pa.string(), nullable=False),
    pa.field("time", pa.timestamp("ms", tz="UTC"), nullable=False),
    pa.field("causation_id", pa.string()),
    pa.field("channel", DICTIONARY, nullable=False),
    pa.field("placement", DICTIONARY, nullable=False),
    pa.field("winner", DICTIONARY),
    pa.field("journeys", pa.list_(pa.uint16()), nullable=False),
    pa.field("reasons", pa.binary(), nullable=False),
    pa.field("propensities", pa.list_(pa.float64())),
    pa.field("contexts", pa.list_(pa.float64())),
    pa.field("scores", pa.list_(pa.float64())),
]


SAMPLED = ("propensities", "contexts", "scores")  # null but in sampled rows


def log_schema(policies: CompiledPolicies) -> pa.Schema:
    """Columns of the log, and what its numbers mean for these policies."""
    journeys = [
        {
            "id": info.id,
            "policy": policies.policies[info.policy].name,
            "version": policies.policies[info.policy].version,
            "model": f"{info.model_name}@{info.model_version}" if info.model_name else "",
        }
        for info in policies.journey_infos
    ]
    offers = [
        {
            "id": info.id,
            "journey": info.journey,
            "channel": info.channel,
            "placement": info.placement,
            "value": float(numbers[OFFER_F_VALUE]),
            "lever": float(numbers[OFFER_F_LEVER]),
        }
        for info, numbers in zip(policies.offer_infos, policies.offers_f, strict=True)
    ]
    metadata = {
        "segue.journeys": msgspec.json.encode(journeys).decode(),
        "segue.offers": msgspec.json.encode(offers).decode(),
        "segue.reasons": msgspec.json.encode(REASON_NAMES).decode(),
        "segue.policies": policies.digest,
    }
    return pa.schema(LOG_FIELDS, metadata=metadata)


class LogNames(NamedTuple):
    """What the log's numbers are called: the dictionaries of its columns, made once."""

    channels: pa.Array
    placements: pa.Array
    offers: pa.Array


def log_names(policies: CompiledPolicies) -> LogNames:
    """The names for these policies."""
    return LogNames(
        names([channel for channel, _ in policies.slots]),
        names([placement for _, placement in policies.slots]),
        names([info.id for info in policies.offer_infos]),
    )


class LogTable(NamedTuple):
    """The log rows as columns in one buffer (segue_kernels/columns.py)."""

    rows: int
    columns: Words
    buffer: Words

    def batch(self, known: LogNames, schema: pa.Schema) -> pa.RecordBatch:
        """The same as Arrow's; its columns lie in this buffer."""
        rows, whole = self.rows, pa.py_buffer(self.buffer)
        halves = self.buffer.view(np.int32)
        placed = self.columns.tolist()

        def values(column: int) -> pa.Buffer:
            kind, width, _, offsets, start = placed[column]
            count = rows if kind == COLUMN_FIXED else int(halves[offsets // 4 + rows])
            return whole.slice(start, count * width)

        def bits(column: int) -> pa.Buffer | None:
            start = placed[column][COLUMN_BITS]
            return whole.slice(start, (rows + 7) // 8) if start >= 0 else None

        def offsets(column: int) -> pa.Buffer:
            return whole.slice(placed[column][COLUMN_OFFSETS], 4 * (rows + 1))

        def fixed(column: int, of: pa.DataType) -> pa.Array:
            return pa.Array.from_buffers(of, rows, [bits(column), values(column)])

        def texts(column: int, of: pa.DataType) -> pa.Array:
            return pa.Array.from_buffers(of, rows, [bits(column), offsets(column), values(column)])

        def lists(column: int, of: pa.DataType) -> pa.Array:
            data = values(column)
            items = pa.Array.from_buffers(of, data.size // placed[column][COLUMN_WIDTH], [None, data])
            buffers = [bits(column), offsets(column)]
            return pa.Array.from_buffers(pa.list_(of), rows, buffers, children=[items])

        def words(column: int, of: pa.Array) -> pa.Array:
            return pa.DictionaryArray.from_arrays(fixed(column, pa.int32()), of, safe=False)

        columns = [
            texts(COLUMN_DECISION, pa.string()),
            texts(COLUMN_CUSTOMER, pa.string()),
            fixed(COLUMN_TIME, _TIME),
            texts(COLUMN_CAUSE, pa.string()),
            words(COLUMN_CHANNEL, known.channels),
            words(COLUMN_PLACEMENT, known.placements),
            words(COLUMN_WINNER, known.offers),
            lists(COLUMN_JOURNEYS, pa.uint16()),
            texts(COLUMN_REASONS, pa.binary()),
            lists(COLUMN_PROPENSITIES, pa.float64()),
            lists(COLUMN_CONTEXTS, pa.float64()),
            lists(COLUMN_SCORES, pa.float64()),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=schema)


def log_table(joined: JoinedDecisions) -> LogTable:
    """The log rows as columns, in their order."""
    columns = np.empty((LOG_COLUMNS, COLUMN_WORDS), np.int64)
    size = place_log(joined.log, joined.heap, columns)
    buffer = np.empty(size // 8, np.int64)
    fill_log(
        joined.log,
        joined.heap,
        joined.text,
        joined.reasons,
        joined.fired,
        joined.sample.view(np.int64),
        columns,
        buffer.view(np.uint8),
        buffer.view(np.int32),
        buffer,
    )
    return LogTable(len(joined.log), columns, buffer)


def names(of: Sequence[str]) -> pa.Array:
    """A dictionary for `named`."""
    return pa.array(of, pa.string())


def named(numbers: Words, known: pa.Array) -> pa.Array:
    """A column of names by their numbers."""
    buffers = [None, pa.py_buffer(numbers.astype(np.int32))]
    indices = pa.Array.from_buffers(pa.int32(), len(numbers), buffers)
    return pa.DictionaryArray.from_arrays(indices, known, safe=False)


def times(times_ms: Words) -> pa.Array:
    """A column of times."""
    buffer = pa.py_buffer(np.ascontiguousarray(times_ms))
    return pa.Array.from_buffers(_TIME, len(times_ms), [None, buffer])


def _bits(present: npt.NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(present, bitorder="little"))


def record_strings(
    text: npt.NDArray[np.uint8], heaps: Words, string: int, absent_as_null: bool = False
) -> pa.Array:
    """One string of each record as a column, empty or null where it is absent."""
    start = heaps >> 32
    for before in range(string):
        start = start + ((heaps >> (8 * before)) & 0xFF)
    length = (heaps >> (8 * string)) & 0xFF
    n = len(start)
    offsets = np.zeros(n + 1, np.int32)
    data = np.empty(int(length.sum()), np.uint8)
    gather_strings(text, start, length, offsets, data)
    present = _bits(length > 0) if absent_as_null and not length.all() else None
    return pa.Array.from_buffers(pa.string(), n, [present, pa.py_buffer(offsets), pa.py_buffer(data)])


def hex_column(high: Words, low: Words) -> pa.Array:
    """128-bit ids as 32 hexadecimal digits."""
    n = len(high)
    data = np.empty(32 * n, np.uint8)
    write_hex(np.ascontiguousarray(high), np.ascontiguousarray(low), data)
    offsets = np.arange(0, 32 * n + 1, 32, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), n, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
