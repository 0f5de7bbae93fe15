"""The decision log: a row for each slot that had candidates, its winner, and one reason byte a candidate.

The candidates of a row are the offers, in the policies' order, that belong to its slot in the journeys listed; the
schema's metadata has the names (`segue.journeys`, `segue.offers`, `segue.reasons`). Every candidate's propensity and
score stand in the sampled rows only; in the others the two lists are null.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

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


def log_batch(joined: JoinedDecisions, policies: CompiledPolicies, schema: pa.Schema) -> pa.RecordBatch:
    """The log rows as columns of one batch, in their order."""
    log = joined.log
    n = len(log)
    is_sampled = log[:, LOG_SAMPLE] >= 0
    sample = joined.sample[_spread(log[is_sampled, LOG_SAMPLE], log[is_sampled, LOG_CANDIDATES])]
    sample_offsets = _offsets(np.where(is_sampled, log[:, LOG_CANDIDATES], 0))
    not_sampled = pa.array(~is_sampled)
    fired = joined.fired[_spread(log[:, LOG_FIRED], log[:, LOG_FIRED_COUNT])]
    reasons = joined.reasons  # they follow one another in the order of the log rows
    heap = joined.heap[log[:, LOG_RECORD]]
    winners = log[:, LOG_WINNER]
    slots = pa.array(log[:, LOG_SLOT].astype(np.int32))
    columns = [
        hex_column(log[:, LOG_DECISION_HI], log[:, LOG_DECISION_LO]),
        record_strings(joined.text, heap, STRING_CUSTOMER),
        pa.array(log[:, LOG_NOW]).view(pa.timestamp("ms", tz="UTC")),
        absent_as_null(record_strings(joined.text, heap, STRING_MESSAGE)),
        pa.DictionaryArray.from_arrays(slots, _names([channel for channel, _ in policies.slots])),
        pa.DictionaryArray.from_arrays(slots, _names([placement for _, placement in policies.slots])),
        pa.DictionaryArray.from_arrays(
            pa.array(winners.astype(np.int32), mask=winners < 0),
            _names([info.id for info in policies.offer_infos]),
        ),
        pa.ListArray.from_arrays(_offsets(log[:, LOG_FIRED_COUNT]), pa.array(fired)),
        pa.Array.from_buffers(
            pa.binary(),
            n,
            [None, pa.py_buffer(_offsets(log[:, LOG_CANDIDATES])), pa.py_buffer(reasons)],
        ),
        pa.ListArray.from_arrays(sample_offsets, pa.array(sample[:, 0]), mask=not_sampled),
        pa.ListArray.from_arrays(sample_offsets, pa.array(sample[:, 1]), mask=not_sampled),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _names(names: list[str]) -> pa.Array:
    return pa.array(names, pa.string())


def record_strings(text: npt.NDArray[np.uint8], heaps: Words, string: int) -> pa.Array:
    """One string of each record as a column, empty where it is absent."""
    start = heaps >> 32
    for before in range(string):
        start = start + ((heaps >> (8 * before)) & 0xFF)
    return strings(text, start, (heaps >> (8 * string)) & 0xFF)


def absent_as_null(column: pa.Array) -> pa.Array:
    """The column with null where a string is empty."""
    absent = pc.equal(column, "")
    return pc.if_else(absent, None, column) if absent.true_count else column


def strings(text: npt.NDArray[np.uint8], start: Words, length: Words) -> pa.Array:
    """A string column out of places in a text."""
    n = len(start)
    offsets = np.zeros(n + 1, np.int32)
    data = np.empty(int(length.sum()), np.uint8)
    gather_strings(text, start, length, offsets, data)
    return pa.Array.from_buffers(pa.string(), n, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


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
