"""What was sent says what it was: receipts of decisions, and ids of the rows that are no decision, in its headers.

A receipt (segue_kernels/receipt.py) stands in the header RECEIPTS of an action and of what takes one back, and a row in
that of a decision log message. Changes, joins, dead letters and late events have a 128-bit id a row in the header IDS.
Both are read back after a crash. An id is the same when the same row is made again.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from segue.policy.compiled import CompiledPolicies
from segue_kernels.log import write_receipts
from segue_kernels.plan import OFFER_CONTACT
from segue_kernels.receipt import (
    RECEIPT_CUSTOMER_HI,
    RECEIPT_CUSTOMER_KIND,
    RECEIPT_CUSTOMER_LO,
    RECEIPT_DECISION_HI,
    RECEIPT_DECISION_LO,
    RECEIPT_FLAGS,
    RECEIPT_IS_WITHDRAWN,
    RECEIPT_PART,
    RECEIPT_SEQUENCE,
    RECEIPT_TIME,
    RECEIPT_WORDS,
)
from segue_kernels.record import (
    CUSTOMER_HI,
    CUSTOMER_LO,
    FLAG_KIND,
    MESSAGE_HI,
    MESSAGE_LO,
    PACK,
    PRODUCT,
    TIME,
)
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
    SPAN_PART,
    SPAN_SEQUENCE,
    SPAN_WITHDRAWN_END,
    WITHDRAWN_DECISION_HI,
    WITHDRAWN_DECISION_LO,
    WITHDRAWN_NOW,
    WITHDRAWN_RECORD,
)

if TYPE_CHECKING:
    from segue.decide.decisions import Decisions

Words = npt.NDArray[np.int64]

RECEIPTS = "segue"
IDS = "segue-ids"
ID_BYTES = 16
_RECEIPT_BYTES = 8 * RECEIPT_WORDS


def name_hash(*names: str) -> int:
    """An int64 word for a name of several parts; never 0."""
    digest = hashlib.blake2b("\0".join(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or 1


def offer_hash(journey: str, offer: str) -> int:
    """RECEIPT_OFFER of an offer."""
    return name_hash(journey, offer)


def offer_words(policies: CompiledPolicies) -> Words:
    """int64[n, 2]: RECEIPT_OFFER and RECEIPT_CONTACT of each offer, by its number."""
    journeys = policies.journey_infos
    words = np.empty((len(policies.offer_infos), 2), np.int64)
    words[:, 0] = [offer_hash(journeys[info.journey].id, info.id) for info in policies.offer_infos]
    words[:, 1] = policies.offers[:, OFFER_CONTACT] + 1
    return words


def pack_receipts(receipts: Words) -> bytes:
    """A header's bytes."""
    return receipts.astype("<i8", copy=False).tobytes()


def unpack_receipts(data: bytes) -> Words:
    """int64[n, RECEIPT_WORDS] of a header; ValueError if it is none."""
    if len(data) % _RECEIPT_BYTES:
        raise ValueError(f"{len(data)} bytes are no whole number of receipts")
    return np.frombuffer(data, "<i8").astype(np.int64, copy=False).reshape(-1, RECEIPT_WORDS)


def receipts_of(decided: list[Decisions], offers: Words) -> tuple[Words, Words]:
    """(of the log rows, of the actions), all decisions' rows one after the other.

    offers  offer_words of the policies
    """
    rows = np.empty((sum(len(decisions.log) for decisions in decided), RECEIPT_WORDS), np.int64)
    actions = np.empty((sum(len(decisions.actions) for decisions in decided), RECEIPT_WORDS), np.int64)
    row = action = 0
    for decisions in decided:
        if not len(decisions.log):
            continue
        write_receipts(
            decisions.records,
            decisions.log,
            decisions.actions,
            decisions.spans,
            offers,
            rows,
            actions,
            row,
            action,
        )
        row += len(decisions.log)
        action += len(decisions.actions)
    return rows, actions


def withdrawn_receipts(decided: list[Decisions]) -> Words:
    """int64[n, RECEIPT_WORDS] of what was taken back."""
    return np.concatenate([_withdrawn_receipts(decisions) for decisions in decided])


def _withdrawn_receipts(decisions: Decisions) -> Words:
    rows = decisions.withdrawn
    heads = decisions.records[rows[:, WITHDRAWN_RECORD]]
    spans = np.searchsorted(decisions.spans[:, SPAN_WITHDRAWN_END], np.arange(len(rows)), side="right")
    receipts = np.zeros((len(rows), RECEIPT_WORDS), np.int64)
    receipts[:, [RECEIPT_PART, RECEIPT_SEQUENCE]] = decisions.spans[spans][:, [SPAN_PART, SPAN_SEQUENCE]]
    receipts[:, [RECEIPT_CUSTOMER_LO, RECEIPT_CUSTOMER_HI]] = heads[:, [CUSTOMER_LO, CUSTOMER_HI]]
    receipts[:, RECEIPT_CUSTOMER_KIND] = heads[:, PACK] >> 8 & FLAG_KIND
    receipts[:, RECEIPT_DECISION_LO] = rows[:, WITHDRAWN_DECISION_LO]
    receipts[:, RECEIPT_DECISION_HI] = rows[:, WITHDRAWN_DECISION_HI]
    receipts[:, RECEIPT_TIME] = rows[:, WITHDRAWN_NOW]
    receipts[:, RECEIPT_FLAGS] = RECEIPT_IS_WITHDRAWN
    return receipts


def change_ids(decided: list[Decisions], policies: CompiledPolicies) -> Words:
    """int64[n, 2]: who changed how, when and by which event."""
    names = [(change, name) for name in policies.segment_ids for change in ("entered", "left")]
    names += [("stage", name) for name in policies.stage_ids]
    codes = np.array([name_hash(*name) for name in names], np.int64)
    changes = np.concatenate([decisions.changes for decisions in decided])
    heads = np.concatenate([each.records[each.changes[:, CHANGE_RECORD]] for each in decided])
    return _mixed([*_who(heads), codes[changes[:, CHANGE_CODE]], changes[:, CHANGE_NOW]])


def credit_ids(decided: list[Decisions], policies: CompiledPolicies) -> Words:
    """int64[n, 2]: which two events were joined, on which of the right one's lines."""
    names = np.array([name_hash(name) for name in policies.join_ids], np.int64)
    credits = np.concatenate([decisions.credits for decisions in decided])
    heads = np.concatenate([each.records[each.credits[:, CREDIT_RECORD]] for each in decided])
    items = np.concatenate([each.records[each.credits[:, CREDIT_ITEM]] for each in decided])
    return _mixed(
        [
            *_who(heads),
            heads[:, TIME],
            items[:, PRODUCT],
            names[credits[:, CREDIT_JOIN]],
            credits[:, CREDIT_LEFT_TIME],
            credits[:, CREDIT_LEFT_LO],
            credits[:, CREDIT_LEFT_HI],
        ]
    )


def _who(heads: Words) -> list[Words]:
    return [heads[:, column] for column in (CUSTOMER_LO, CUSTOMER_HI, MESSAGE_LO, MESSAGE_HI)]


def row_id(partition: int, row: int) -> bytes:
    """The id of a row of an input partition that was refused."""
    return np.array([partition, row], "<i8").tobytes()


def pack_ids(ids: Words) -> bytes:
    """A header's bytes."""
    return ids.astype("<i8", copy=False).tobytes()


def unpack_ids(data: bytes) -> list[bytes]:
    """The ids of a header; ValueError if it is none."""
    if len(data) % ID_BYTES:
        raise ValueError(f"{len(data)} bytes are no whole number of ids")
    return [data[at : at + ID_BYTES] for at in range(0, len(data), ID_BYTES)]


def _mixed(columns: list[Words]) -> Words:
    """128 bits of each row's words: two chains of a 64-bit finaliser. The words are keyed hashes and times already."""
    mixed = np.empty((len(columns[0]), 2), np.int64)
    for half, seed in enumerate((0x9E3779B97F4A7C15, 0xD1B54A32D192ED03)):
        state = np.full(len(columns[0]), seed, np.uint64)
        for column in columns:
            state ^= column.astype(np.uint64)
            state ^= state >> np.uint64(33)
            state *= np.uint64(0xFF51AFD7ED558CCD)
            state ^= state >> np.uint64(33)
            state *= np.uint64(0xC4CEB9FE1A85EC53)
            state ^= state >> np.uint64(33)
            state += np.uint64(seed)
        mixed[:, half] = state.view(np.int64)
    return mixed
