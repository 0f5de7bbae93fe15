"""The decision log: a row for each slot that had candidates, its winner, and one reason byte a candidate.

The candidates of a row are the offers, in the policies' order, that belong to its slot in the journeys listed; the
schema's metadata has the names (`segue.journeys`, `segue.offers`, `segue.reasons`). Every candidate's propensity and
score stand in the sampled rows only; in the others the two lists are null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.actions.joined import JoinedDecisions
from segue.policy.compiled import CompiledPolicies
from segue_kernels.record import STRING_CUSTOMER, STRING_MESSAGE
from segue_kernels.shard import (
    LOG_CANDIDATES,
    LOG_DECISION_HI,
    LOG_DECISION_LO,
    LOG_FIRED,
    LOG_FIRED_COUNT,
    LOG_NOW,
    LOG_RECORD,
    LOG_SAMPLE,
    LOG_SLOT,
    LOG_WINNER,
    REASON_NAMES,
)
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
    pa.field("scores", pa.list_(pa.float64())),
]


def log_schema(policies: CompiledPolicies) -> pa.Schema:
    """Columns of the log, and what its numbers mean for these policies."""
    journeys = [
        {
            "id": info.id,
            "policy": policies.policies[info.policy].name,
            "version": policies.policies[info.policy].version,
        }
        for info in policies.journey_infos
    ]
    offers = [
        {"id": info.id, "journey": info.journey, "channel": info.channel, "placement": info.placement}
        for info in policies.offer_infos
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


def log_batch(joined: JoinedDecisions, known: LogNames, schema: pa.Schema) -> pa.RecordBatch:
    """The log rows as columns of one batch, in their order."""
    log = joined.log
    n = len(log)
    is_sampled = log[:, LOG_SAMPLE] >= 0
    sample = joined.sample[_spread(log[is_sampled, LOG_SAMPLE], log[is_sampled, LOG_CANDIDATES])]
    sample_offsets = _offsets(np.where(is_sampled, log[:, LOG_CANDIDATES], 0))
    sampled = _bits(is_sampled)
    fired = joined.fired[_spread(log[:, LOG_FIRED], log[:, LOG_FIRED_COUNT])]
    reasons = joined.reasons  # they follow one another in the order of the log rows
    heap = joined.heap[log[:, LOG_RECORD]]
    winners = log[:, LOG_WINNER]
    slots = log[:, LOG_SLOT]
    columns = [
        hex_column(log[:, LOG_DECISION_HI], log[:, LOG_DECISION_LO]),
        record_strings(joined.text, heap, STRING_CUSTOMER),
        times(log[:, LOG_NOW]),
        record_strings(joined.text, heap, STRING_MESSAGE, absent_as_null=True),
        named(slots, known.channels),
        named(slots, known.placements),
        named(winners, known.offers, winners >= 0),
        _lists(pa.uint16(), _offsets(log[:, LOG_FIRED_COUNT]), fired),
        pa.Array.from_buffers(
            pa.binary(),
            n,
            [None, pa.py_buffer(_offsets(log[:, LOG_CANDIDATES])), pa.py_buffer(reasons)],
        ),
        _lists(pa.float64(), sample_offsets, sample[:, 0], sampled),
        _lists(pa.float64(), sample_offsets, sample[:, 1], sampled),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def names(of: Sequence[str]) -> pa.Array:
    """A dictionary for `named`."""
    return pa.array(of, pa.string())


def named(numbers: Words, known: pa.Array, present: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """A column of names by their numbers; null where it is not present."""
    bits = None if present is None else _bits(present)
    buffers = [bits, pa.py_buffer(numbers.astype(np.int32))]
    indices = pa.Array.from_buffers(pa.int32(), len(numbers), buffers)
    return pa.DictionaryArray.from_arrays(indices, known, safe=False)


def times(times_ms: Words) -> pa.Array:
    """A column of times."""
    buffer = pa.py_buffer(np.ascontiguousarray(times_ms))
    return pa.Array.from_buffers(_TIME, len(times_ms), [None, buffer])


def _lists(
    of: pa.DataType, offsets: npt.NDArray[np.int32], values: npt.NDArray[Any], present: pa.Buffer = None
) -> pa.Array:
    items = pa.Array.from_buffers(of, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])
    buffers = [present, pa.py_buffer(offsets)]
    return pa.Array.from_buffers(pa.list_(of), len(offsets) - 1, buffers, children=[items])


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


def _offsets(sizes: Words) -> npt.NDArray[np.int32]:
    offsets = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    return offsets


def _spread(starts: Words, sizes: Words) -> Words:
    """Indices start, start + 1, ... of each run, one run after the other."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - (ends - sizes), sizes) + np.arange(total)


def hex_column(high: Words, low: Words) -> pa.Array:
    """128-bit ids as 32 hexadecimal digits."""
    n = len(high)
    data = np.empty(32 * n, np.uint8)
    write_hex(np.ascontiguousarray(high), np.ascontiguousarray(low), data)
    offsets = np.arange(0, 32 * n + 1, 32, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), n, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
