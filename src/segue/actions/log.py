"""The decision log: a row for each slot that had candidates, its winner, and one reason byte a candidate.

The candidates of a row are the offers, in the policies' order, that belong to its slot in the journeys listed; the schema's
metadata has the names (`segue.journeys`, `segue.offers`, `segue.reasons`). Every candidate's propensity and score
stand in the sampled rows only; in the others the two lists are null.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.decide.engine import Decisions
from segue.policy.compiled import CompiledPolicies
from segue_kernels.record import HEAP
from segue_kernels.shard import (
    LOG_CANDIDATES,
    LOG_DECISION_HI,
    LOG_DECISION_LO,
    LOG_FIRED,
    LOG_FIRED_COUNT,
    LOG_NOW,
    LOG_REASONS,
    LOG_RECORD,
    LOG_SAMPLE,
    LOG_SLOT,
    LOG_WINNER,
    REASON_NAMES,
)
from segue_kernels.strings import gather_strings, write_hex

Words = npt.NDArray[np.int64]

_DICTIONARY = pa.dictionary(pa.int32(), pa.string())


def log_schema(policies: CompiledPolicies) -> pa.Schema:
    """Columns of the log, and what its numbers mean for these policies."""
    journeys = [
        {"id": info.id, "policy": policies.policies[info.policy].name, "version": policies.policies[info.policy].version}
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
    return pa.schema(
        [
            pa.field("decision_id", pa.string(), nullable=False),
            pa.field("customer_id", pa.string(), nullable=False),
            pa.field("time", pa.timestamp("ms", tz="UTC"), nullable=False),
            pa.field("causation_id", pa.string(), nullable=False),
            pa.field("channel", _DICTIONARY, nullable=False),
            pa.field("placement", _DICTIONARY, nullable=False),
            pa.field("winner", _DICTIONARY),
            pa.field("journeys", pa.list_(pa.uint16()), nullable=False),
            pa.field("reasons", pa.binary(), nullable=False),
            pa.field("propensities", pa.list_(pa.float64())),
            pa.field("scores", pa.list_(pa.float64())),
        ],
        metadata=metadata,
    )


def log_batch(decisions: Decisions, policies: CompiledPolicies, schema: pa.Schema) -> pa.RecordBatch:
    """The log rows of one run as columns."""
    log = decisions.log
    n = len(log)
    heap = decisions.records[log[:, LOG_RECORD], HEAP]
    start = heap >> 32
    customer_bytes = heap & 0xFF
    slots = log[:, LOG_SLOT].astype(np.int32)
    winners = log[:, LOG_WINNER]
    sampled = log[:, LOG_SAMPLE] >= 0
    sample_sizes = np.where(sampled, log[:, LOG_CANDIDATES], 0)
    sample_offsets = _offsets(sample_sizes)
    nulls = pa.array(~sampled)
    picked = _spread(log[:, LOG_SAMPLE][sampled], log[:, LOG_CANDIDATES][sampled])
    sample = decisions.sample[picked]
    fired = decisions.fired[_spread(log[:, LOG_FIRED], log[:, LOG_FIRED_COUNT])]
    columns = [
        _hex_column(log[:, LOG_DECISION_HI], log[:, LOG_DECISION_LO]),
        string_column(decisions.text, start, customer_bytes),
        pa.array(log[:, LOG_NOW]).cast(pa.timestamp("ms", tz="UTC")),
        string_column(decisions.text, start + customer_bytes, (heap >> 8) & 0xFF),
        _dictionary(slots, [channel for channel, _ in policies.slots]),
        _dictionary(slots, [placement for _, placement in policies.slots]),
        pa.DictionaryArray.from_arrays(
            pa.array(winners.astype(np.int32), mask=winners < 0),
            pa.array([info.id for info in policies.offer_infos], pa.string()),
        ),
        pa.ListArray.from_arrays(_offsets(log[:, LOG_FIRED_COUNT]), pa.array(fired, pa.uint16())),
        pa.Array.from_buffers(
            pa.binary(),
            n,
            [None, pa.py_buffer(_offsets(log[:, LOG_CANDIDATES])), pa.py_buffer(_reasons(decisions))],
        ),
        pa.ListArray.from_arrays(sample_offsets, pa.array(sample[:, 0]), mask=nulls),
        pa.ListArray.from_arrays(sample_offsets, pa.array(sample[:, 1]), mask=nulls),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _reasons(decisions: Decisions) -> npt.NDArray[np.uint8]:
    """The reason bytes; log rows follow one another without gaps, so they are one run."""
    first = int(decisions.log[0, LOG_REASONS])
    return decisions.reasons[first:]


def _offsets(sizes: Words) -> npt.NDArray[np.int32]:
    offsets = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    return offsets


def _spread(starts: Words, sizes: Words) -> Words:
    """Indices start, start + 1, ... of each run, one run after the other."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - (ends - sizes), sizes) + np.arange(total)


def _hex_column(high: Words, low: Words) -> pa.Array:
    n = len(high)
    data = np.empty(32 * n, np.uint8)
    write_hex(np.ascontiguousarray(high), np.ascontiguousarray(low), data)
    offsets = np.arange(0, 32 * n + 1, 32, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), n, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def string_column(text: npt.NDArray[np.uint8], start: Words, length: Words) -> pa.Array:
    """A string array out of places in a text."""
    n = len(start)
    offsets = np.empty(n + 1, np.int32)
    data = np.empty(int(length.sum()), np.uint8)
    gather_strings(text, start, length, offsets, data)
    return pa.Array.from_buffers(pa.string(), n, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def _dictionary(indices: npt.NDArray[np.int32], names: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(names, pa.string()))
