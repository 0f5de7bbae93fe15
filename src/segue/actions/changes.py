"""Where customers stand, and what was credited: a row for each segment entered or left, stage entered, join matched.

A row says who, what, when, and the id of the event that caused it (null when time alone did).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from segue.actions.joined import JoinedDecisions, Words
from segue.actions.log import DICTIONARY, absent_as_null, hex_column, record_strings
from segue.policy.compiled import CompiledPolicies
from segue_kernels.record import FLAG_KIND, STRING_CUSTOMER, STRING_MESSAGE, STRING_PRODUCT
from segue_kernels.shard import (
    CHANGE_CODE,
    CHANGE_NOW,
    CHANGE_RECORD,
    CREDIT_ITEM,
    CREDIT_JOIN,
    CREDIT_LEFT_HI,
    CREDIT_LEFT_LO,
    CREDIT_LEFT_TIME,
    CREDIT_RECORD,
)

KINDS = ("user", "loyalty", "anonymous")
ENTERED, LEFT, STAGE = range(3)
CHANGE_NAMES = ("entered", "left", "stage")

_TIME = pa.timestamp("ms", tz="UTC")
_CUSTOMER = [
    pa.field("customer_id", pa.string(), nullable=False),
    pa.field("customer_kind", DICTIONARY, nullable=False),
]
CHANGES_SCHEMA = pa.schema(
    [
        *_CUSTOMER,
        pa.field("name", DICTIONARY, nullable=False),
        pa.field("change", DICTIONARY, nullable=False),
        pa.field("time", _TIME, nullable=False),
        pa.field("causation_id", pa.string()),
    ]
)
JOINS_SCHEMA = pa.schema(
    [
        *_CUSTOMER,
        pa.field("join", DICTIONARY, nullable=False),
        pa.field("time", _TIME, nullable=False),
        pa.field("left_time", _TIME, nullable=False),
        pa.field("left_id", pa.string(), nullable=False),
        pa.field("product_id", pa.string()),
        pa.field("causation_id", pa.string()),
    ]
)


def changes_batch(joined: JoinedDecisions, policies: CompiledPolicies) -> pa.RecordBatch:
    """Segments entered and left, stages entered, in their order; `time` is the customer's clock."""
    changes = joined.changes
    names = [*policies.segment_ids, *policies.stage_ids]
    segments = len(policies.segment_ids)
    code = changes[:, CHANGE_CODE]
    of_segment = code < 2 * segments
    name = np.where(of_segment, code >> 1, code - segments)
    change = np.where(of_segment, code & 1, STAGE)
    columns = [
        *_customers(joined, changes[:, CHANGE_RECORD]),
        _named(name, names),
        _named(change, CHANGE_NAMES),
        _times(changes[:, CHANGE_NOW]),
        _causes(joined, changes[:, CHANGE_RECORD]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=CHANGES_SCHEMA)


def joins_batch(joined: JoinedDecisions, policies: CompiledPolicies) -> pa.RecordBatch:
    """Left events credited, in their order; `time` is that of the right event, `left_id` the left one's id as a hash
    (of an action: its action_id)."""
    credits = joined.credits
    columns = [
        *_customers(joined, credits[:, CREDIT_RECORD]),
        _named(credits[:, CREDIT_JOIN], policies.join_ids),
        _times(joined.credit_times),
        _times(credits[:, CREDIT_LEFT_TIME]),
        hex_column(credits[:, CREDIT_LEFT_HI], credits[:, CREDIT_LEFT_LO]),
        absent_as_null(record_strings(joined.text, joined.heap[credits[:, CREDIT_ITEM]], STRING_PRODUCT)),
        _causes(joined, credits[:, CREDIT_RECORD]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=JOINS_SCHEMA)


def _customers(joined: JoinedDecisions, records: Words) -> list[pa.Array]:
    kinds = (joined.pack[records] >> 8) & FLAG_KIND
    return [record_strings(joined.text, joined.heap[records], STRING_CUSTOMER), _named(kinds, KINDS)]


def _causes(joined: JoinedDecisions, records: Words) -> pa.Array:
    return absent_as_null(record_strings(joined.text, joined.heap[records], STRING_MESSAGE))


def _named(numbers: Words, names: list[str] | tuple[str, ...]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(numbers.astype(np.int32)), pa.array(names, pa.string()))


def _times(times_ms: Words) -> pa.Array:
    return pa.array(np.ascontiguousarray(times_ms)).view(_TIME)
