"""Decisions become messages: a JSON line an action, a column batch for the decision log.

An object is made per action (a few in a hundred events), never per event; the log is built from columns alone.
"""

from __future__ import annotations

import base64
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.actions.log import log_batch, log_schema
from segue.actions.messages import Action, DeadLetterMessage, LateMessage, Voucher
from segue.decide.engine import Decisions
from segue.events.batch import DeadLetter, Late
from segue.policy.compiled import CompiledPolicies, JourneyInfo, OfferInfo, VoucherInfo
from segue_kernels.record import FLAG_KIND, HEAP, PACK, STRING_CATEGORY, STRING_CUSTOMER, STRING_MESSAGE, STRING_PRODUCT
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
_REASONS_WON = ["won"]

_json = msgspec.json.Encoder()


def hex_ids(high: Words, low: Words) -> list[str]:
    """128-bit ids as 32 hexadecimal digits."""
    text = np.stack([high, low], axis=1).astype(">i8").tobytes().hex()
    return [text[i : i + 32] for i in range(0, len(text), 32)]


def rfc3339(times_ms: Words) -> list[str]:
    """UTC times with milliseconds."""
    stamps: list[str] = np.datetime_as_string(times_ms.astype("M8[ms]"), unit="ms", timezone="UTC").tolist()
    return stamps


def _fixed(policies: CompiledPolicies, offer: OfferInfo) -> tuple[OfferInfo, JourneyInfo, str, str]:
    """What is the same in all actions of an offer."""
    journey = policies.journey_infos[offer.journey]
    policy = policies.policies[journey.policy]
    model = f"{journey.model_name}@{journey.model_version}" if journey.model_name else ""
    return offer, journey, f"{policy.name}@{policy.version}", model


class ActionEncoder:
    """Turns decisions of one policy set into messages."""

    def __init__(self, policies: CompiledPolicies) -> None:
        self._policies = policies
        self._schema = log_schema(policies)
        self._offers = [_fixed(policies, offer) for offer in policies.offer_infos]
        self._lives_ms = np.array([journey.expires_after_ms for _, journey, _, _ in self._offers], np.int64)
        vouchers = [offer.voucher for offer in policies.offer_infos]
        self._voucher_lives_ms = np.array([v.valid_for_ms if v else 0 for v in vouchers], np.int64)

    @property
    def channels(self) -> list[str]:
        """The channels that any offer uses, sorted."""
        return sorted({offer.channel for offer in self._policies.offer_infos})

    @property
    def schema(self) -> pa.Schema:
        """The decision log's columns."""
        return self._schema

    def encode(self, decided: list[Decisions]) -> list[Output]:
        """(output, payload): actions by channel as JSON lines, the decision log as a record batch.

        Takes the decisions of many shards at once: a call costs about 300 us, whatever is in it.
        """
        if not decided:
            return []
        outputs: list[Output] = []
        by_channel: dict[str, list[Action]] = {}
        for action in self._actions([decisions for decisions in decided if len(decisions.actions)]):
            by_channel.setdefault(action.channel, []).append(action)
        outputs += [(channel, _json.encode_lines(lines)) for channel, lines in by_channel.items()]
        outputs.append((DECISIONS, log_batch(decided, self._policies, self._schema)))
        return outputs

    def _actions(self, decided: list[Decisions]) -> list[Action]:
        if not decided:
            return []
        rows = np.concatenate([decisions.actions for decisions in decided])
        log = np.concatenate([decisions.log[decisions.actions[:, ACTION_LOG]] for decisions in decided])
        numbers = np.concatenate([decisions.numbers for decisions in decided])
        customers: list[str] = []
        causes: list[str] = []
        products: list[str] = []
        categories: list[str] = []
        kinds: list[str] = []
        for decisions in decided:
            text = decisions.text.tobytes()
            header = decisions.records[decisions.actions[:, ACTION_RECORD]]
            item = decisions.records[decisions.actions[:, ACTION_ITEM], HEAP]
            customers += _strings(text, header[:, HEAP], STRING_CUSTOMER)
            causes += _strings(text, header[:, HEAP], STRING_MESSAGE)
            products += _strings(text, item, STRING_PRODUCT)
            categories += _strings(text, item, STRING_CATEGORY)
            kinds += [KINDS[kind] for kind in ((header[:, PACK] >> 8) & FLAG_KIND).tolist()]
        now = log[:, LOG_NOW]
        offers = rows[:, ACTION_OFFER]
        action_ids = hex_ids(rows[:, ACTION_HI], rows[:, ACTION_LO])
        decision_ids = hex_ids(log[:, LOG_DECISION_HI], log[:, LOG_DECISION_LO])
        times = rfc3339(now)
        expiries = rfc3339(now + self._lives_ms[offers])
        voucher_expiries = rfc3339(now + self._voucher_lives_ms[offers])
        return [
            Action(
                kind="action",
                action_id=action_id,
                decision_id=decision_id,
                customer_id=customer,
                customer_kind=kind,
                channel=offer.channel,
                placement=offer.placement,
                journey=journey.id,
                step=journey.step,
                offer=offer.id,
                variant=offer.variant,
                is_control=False,
                product_id=product or None,
                category=category or None,
                propensity=propensity,
                context_weight=context,
                value=value,
                lever=lever,
                score=score,
                action_probability=1.0,
                policy_version=policy_version,
                model_version=model_version,
                reasons=_REASONS_WON,
                voucher=None if offer.voucher is None else _voucher(offer.voucher, voucher_expiry),
                time=time,
                not_before=time,
                expires_at=expiry if journey.expires_after_ms else None,
                causation_id=cause,
                correlation_id=None,
            )
            for (
                (offer, journey, policy_version, model_version),
                action_id,
                decision_id,
                customer,
                kind,
                product,
                category,
                (propensity, context, value, lever, score),
                time,
                expiry,
                voucher_expiry,
                cause,
            ) in zip(
                [self._offers[offer] for offer in offers.tolist()],
                action_ids,
                decision_ids,
                customers,
                kinds,
                products,
                categories,
                numbers.tolist(),
                times,
                expiries,
                voucher_expiries,
                causes,
                strict=True,
            )
        ]


def _voucher(voucher: VoucherInfo, expires_at: str) -> Voucher:
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


def _strings(text: bytes, heaps: Words, string: int) -> list[str]:
    start = heaps >> 32
    for before in range(string):
        start = start + ((heaps >> (8 * before)) & 0xFF)
    end = start + ((heaps >> (8 * string)) & 0xFF)
    return [text[a:b].decode() for a, b in zip(start.tolist(), end.tolist(), strict=True)]


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
