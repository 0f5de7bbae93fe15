"""What was taken back becomes messages: a line each, on the channel that had the action.

There are few of them, so each is made as the message type has it.
"""

from __future__ import annotations

import msgspec

from segue.actions.changes import KINDS
from segue.actions.joined import JoinedDecisions
from segue.actions.messages import Withdrawn
from segue.events.time import time_text
from segue.policy.compiled import CompiledPolicies
from segue_kernels.heap import string_length, string_start
from segue_kernels.record import FLAG_KIND, STRING_CUSTOMER, STRING_MESSAGE
from segue_kernels.shard import (
    WHY_NAMES,
    WITHDRAWN_DECISION_HI,
    WITHDRAWN_DECISION_LO,
    WITHDRAWN_HI,
    WITHDRAWN_LO,
    WITHDRAWN_NOW,
    WITHDRAWN_OFFER,
    WITHDRAWN_RECORD,
    WITHDRAWN_STEP,
    WITHDRAWN_WHY,
)

_json = msgspec.json.Encoder()
_ID_MASK = (1 << 64) - 1


def withdrawn_messages(joined: JoinedDecisions, policies: CompiledPolicies) -> list[Withdrawn]:
    """All that were taken back, in their order."""
    return [_message(row, joined, policies) for row in joined.withdrawn.tolist()]


def withdrawn_line(message: Withdrawn) -> bytes:
    """Its line, newline included."""
    return _json.encode(message) + b"\n"


def _message(row: list[int], joined: JoinedDecisions, policies: CompiledPolicies) -> Withdrawn:
    offer = policies.offer_infos[row[WITHDRAWN_OFFER]]
    journey = policies.journey_infos[offer.journey]
    policy = policies.policies[journey.policy]
    record = row[WITHDRAWN_RECORD]
    return Withdrawn(
        kind="withdrawn",
        action_id=_id(row[WITHDRAWN_HI], row[WITHDRAWN_LO]),
        decision_id=_id(row[WITHDRAWN_DECISION_HI], row[WITHDRAWN_DECISION_LO]),
        customer_id=_text(joined, record, STRING_CUSTOMER),
        customer_kind=KINDS[int(joined.pack[record]) >> 8 & FLAG_KIND],
        channel=offer.channel,
        placement=offer.placement,
        journey=journey.id,
        step=row[WITHDRAWN_STEP],
        offer=offer.id,
        reason=WHY_NAMES[row[WITHDRAWN_WHY]],
        policy_version=f"{policy.name}@{policy.version}",
        time=time_text(row[WITHDRAWN_NOW]),
        causation_id=_text(joined, record, STRING_MESSAGE) or None,
    )


def _id(high: int, low: int) -> str:
    return f"{high & _ID_MASK:016x}{low & _ID_MASK:016x}"


def _text(joined: JoinedDecisions, record: int, string: int) -> str:
    heap = int(joined.heap[record])
    start = int(string_start(heap, string))
    return bytes(joined.text[start : start + int(string_length(heap, string))]).decode()
