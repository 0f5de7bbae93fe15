"""Where customers stand, and what was credited: a row for each segment entered or left, stage entered, join matched.

A row says who, what, when, and the id of the event that caused it (null when time alone did).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from segue.actions.joined import JoinedDecisions, Words
from segue.actions.log import DICTIONARY, hex_column, named, names, record_strings, times
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


_KINDS = names(KINDS)
_CHANGES = names(CHANGE_NAMES)


class TableNames(NamedTuple):
    """The dictionaries of their columns for one policy set, made once."""

    changing: pa.Array
    segments: int
    joins: pa.Array


def table_names(policies: CompiledPolicies) -> TableNames:
    """The names for these policies."""
    changing = names([*policies.segment_ids, *policies.stage_ids])
    return TableNames(changing, len(policies.segment_ids), names(policies.join_ids))


def changes_batch(joined: JoinedDecisions, known: TableNames) -> pa.RecordBatch:
    """Segments entered and left, stages entered, in their order; `time` is the customer's clock."""
    changes = joined.changes
    segments = known.segments
    code = changes[:, CHANGE_CODE]
    of_segment = code < 2 * segments
    name = np.where(of_segment, code >> 1, code - segments)
    change = np.where(of_segment, code & 1, STAGE)
    columns = [
        *_customers(joined, changes[:, CHANGE_RECORD]),
        named(name, known.changing),
        named(change, _CHANGES),
        times(changes[:, CHANGE_NOW]),
        _causes(joined, changes[:, CHANGE_RECORD]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=CHANGES_SCHEMA)


def joins_batch(joined: JoinedDecisions, known: TableNames) -> pa.RecordBatch:
    """Left events credited, in their order; `time` is that of the right event, `left_id` the left one's id as a hash
    (of an action: its action_id)."""
    credits = joined.credits
    columns = [
        *_customers(joined, credits[:, CREDIT_RECORD]),
        named(credits[:, CREDIT_JOIN], known.joins),
        times(joined.credit_times),
        times(credits[:, CREDIT_LEFT_TIME]),
        hex_column(credits[:, CREDIT_LEFT_HI], credits[:, CREDIT_LEFT_LO]),
        record_strings(
            joined.text, joined.heap[credits[:, CREDIT_ITEM]], STRING_PRODUCT, absent_as_null=True
        ),
        _causes(joined, credits[:, CREDIT_RECORD]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=JOINS_SCHEMA)


def _customers(joined: JoinedDecisions, records: Words) -> list[pa.Array]:
    kinds = (joined.pack[records] >> 8) & FLAG_KIND
    return [record_strings(joined.text, joined.heap[records], STRING_CUSTOMER), named(kinds, _KINDS)]


def _causes(joined: JoinedDecisions, records: Words) -> pa.Array:
    return record_strings(joined.text, joined.heap[records], STRING_MESSAGE, absent_as_null=True)
