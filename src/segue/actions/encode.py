"""Decisions become messages: a JSON line an action, a column batch for the decision log.

An object is made per action (a few in a hundred events), never per event; the log is built from columns alone.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.actions.log import log_batch, log_schema
from segue.actions.types import Action, DeadLetterMessage, LateMessage, Voucher
from segue.decide.engine import Decisions
from segue.events.batch import DeadLetter, Late
from segue.policy.compiled import CompiledPolicies, OfferInfo
from segue_kernels.record import HEAP, PACK, STRING_CATEGORY, STRING_CUSTOMER, STRING_MESSAGE, STRING_PRODUCT
from segue_kernels.shard import (
    ACTION_HI,
    ACTION_ITEM,
    ACTION_LO,
    ACTION_LOG,
    ACTION_OFFER,
    ACTION_RECORD,
    LOG_DECISION_HI,
    LOG_DECISION_LO,
    LOG_NOW,
)

Words = npt.NDArray[np.int64]
Output = tuple[str, bytes | pa.RecordBatch]

KINDS = ("user", "loyalty", "anonymous")
DECISIONS = "decisions"
DEAD_LETTERS = "dead_letters"
LATE = "late"

_json = msgspec.json.Encoder()


def hex_ids(high: Words, low: Words) -> list[str]:
    """128-bit ids as 32 hexadecimal digits."""
    text = np.stack([high, low], axis=1).astype(">i8").tobytes().hex()
    return [text[i : i + 32] for i in range(0, len(text), 32)]


def rfc3339(times_ms: Words) -> list[str]:
    """UTC times with milliseconds."""
    stamps: list[str] = np.datetime_as_string(times_ms.astype("M8[ms]"), unit="ms", timezone="UTC").tolist()
    return stamps


class ActionEncoder:
    """Turns decisions of one policy set into messages."""

    def __init__(self, policies: CompiledPolicies) -> None:
        self._policies = policies
        self._schema = log_schema(policies)
        self._versions = [f"{policy.name}@{policy.version}" for policy in policies.policies]

    @property
    def channels(self) -> list[str]:
        """The channels that any offer uses, sorted."""
        return sorted({offer.channel for offer in self._policies.offer_infos})

    @property
    def schema(self) -> pa.Schema:
        """The decision log's columns."""
        return self._schema

    def encode(self, decisions: Decisions) -> list[Output]:
        """(output, payload): actions by channel as JSON lines, the decision log as a record batch."""
        outputs: list[Output] = []
        if len(decisions.actions):
            by_channel: dict[str, list[Action]] = {}
            for action in self._actions(decisions):
                by_channel.setdefault(action.channel, []).append(action)
            outputs += [(channel, _json.encode_lines(lines)) for channel, lines in by_channel.items()]
        outputs.append((DECISIONS, log_batch(decisions, self._policies, self._schema)))
        return outputs

    def _actions(self, decisions: Decisions) -> Iterable[Action]:
        policies = self._policies
        rows = decisions.actions
        log = decisions.log[rows[:, ACTION_LOG]]
        records = decisions.records
        headers = rows[:, ACTION_RECORD]
        items = rows[:, ACTION_ITEM]
        now = log[:, LOG_NOW]
        offers = rows[:, ACTION_OFFER].tolist()
        journeys = [policies.journey_infos[policies.offer_infos[offer].journey] for offer in offers]
        lives = np.array([journey.expires_after_ms for journey in journeys], np.int64)
        voucher_lives = np.array([_voucher_ms(policies.offer_infos[offer]) for offer in offers], np.int64)
        text = decisions.text
        customers = _strings(text, records[headers, HEAP], STRING_CUSTOMER)
        messages = _strings(text, records[headers, HEAP], STRING_MESSAGE)
        products = _strings(text, records[items, HEAP], STRING_PRODUCT)
        categories = _strings(text, records[items, HEAP], STRING_CATEGORY)
        kinds = ((records[headers, PACK] >> 8) & 3).tolist()
        times = rfc3339(now)
        expiries = rfc3339(now + lives)
        voucher_expiries = rfc3339(now + voucher_lives)
        action_ids = hex_ids(rows[:, ACTION_HI], rows[:, ACTION_LO])
        decision_ids = hex_ids(log[:, LOG_DECISION_HI], log[:, LOG_DECISION_LO])
        numbers = decisions.numbers.tolist()
        for i, offer_index in enumerate(offers):
            offer = policies.offer_infos[offer_index]
            journey = journeys[i]
            propensity, context, value, lever, score = numbers[i]
            yield Action(
                kind="action",
                action_id=action_ids[i],
                decision_id=decision_ids[i],
                customer_id=customers[i],
                customer_kind=KINDS[kinds[i]],
                channel=offer.channel,
                placement=offer.placement,
                journey=journey.id,
                step=journey.step,
                offer=offer.id,
                variant=offer.variant,
                is_control=False,
                product_id=products[i] or None,
                category=categories[i] or None,
                propensity=propensity,
                context_weight=context,
                value=value,
                lever=lever,
                score=score,
                action_probability=1.0,
                policy_version=self._versions[journey.policy],
                model_version=f"{journey.model_name}@{journey.model_version}" if journey.model_name else "",
                reasons=["won"],
                voucher=_voucher(offer, voucher_expiries[i]),
                time=times[i],
                not_before=times[i],
                expires_at=expiries[i] if journey.expires_after_ms else None,
                causation_id=messages[i],
                correlation_id=None,
            )


def _voucher_ms(offer: OfferInfo) -> int:
    return offer.voucher.valid_for_ms if offer.voucher is not None else 0


def _voucher(offer: OfferInfo, expires_at: str) -> Voucher | None:
    voucher = offer.voucher
    if voucher is None:
        return None
    return Voucher(
        code=None,
        campaign_id=voucher.campaign,
        discount_percent=voucher.discount_percent,
        discount_amount_minor=voucher.discount_amount_minor,
        currency=voucher.currency,
        reservation_expires_at=None,
        expires_at=expires_at if voucher.valid_for_ms else None,
        stack_group=voucher.stack_group,
    )


def _strings(text: npt.NDArray[np.uint8], heaps: Words, string: int) -> list[str]:
    start = heaps >> 32
    for before in range(string):
        start = start + ((heaps >> (8 * before)) & 0xFF)
    length = (heaps >> (8 * string)) & 0xFF
    return [
        text[at : at + size].tobytes().decode() if size else ""
        for at, size in zip(start.tolist(), length.tolist(), strict=True)
    ]


def encode_dead(letters: list[DeadLetter]) -> bytes:
    """Dead letters as JSON lines."""
    return _json.encode_lines(
        [
            DeadLetterMessage(
                file=letter.file,
                line=letter.line,
                offset=letter.offset,
                reason=letter.reason,
                raw=_as_text(letter.raw),
                raw_base64=_as_base64(letter.raw),
            )
            for letter in letters
        ]
    )


def encode_late(events: list[Late]) -> bytes:
    """Late events as JSON lines."""
    times = rfc3339(np.array([event.event_time_ms for event in events], np.int64))
    return _json.encode_lines(
        [
            LateMessage(
                file=event.file,
                line=event.line,
                offset=event.offset,
                event_time=time,
                delay_ms=event.delay_ms,
                raw=_as_text(event.raw),
                raw_base64=_as_base64(event.raw),
            )
            for event, time in zip(events, times, strict=True)
        ]
    )


def _as_text(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _as_base64(raw: bytes) -> str | None:
    return base64.b64encode(raw).decode() if _as_text(raw) is None else None
