"""The messages that go out. Fields are only ever added."""

from __future__ import annotations

import msgspec


class Voucher(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a voucher offer promises. `code` is null where the policies don't declare its campaign.

    discount_max_minor, basket_min_minor  of a declared campaign: the most that a percentage takes off, and the basket
                                          that the code is good for
    """

    code: str | None
    campaign_id: str
    discount_percent: float | None
    discount_amount_minor: int | None
    currency: str
    reservation_expires_at: str | None
    expires_at: str | None
    stack_group: str
    discount_max_minor: int | msgspec.UnsetType | None = msgspec.UNSET
    basket_min_minor: int | msgspec.UnsetType = msgspec.UNSET


class Action(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message to one channel about one customer. Repeats carry the same `kind` and `decision_id`.

    Times are RFC 3339 in UTC. score = propensity x context_weight x value x lever.

    timezone         that the customer's events named last, by its IANA name; null for the deployment's
    segments, stage  where the customer stands as it is decided; stage is null where policies have no stages
    step             which wait of the journey was over; 1 for all other journeys
    items            products that the offer lists, newest first
    causation_id     id of the event that caused it: of a wait, the one that began it; null when time alone did
    """

    kind: str
    action_id: str
    decision_id: str
    customer_id: str
    customer_kind: str
    timezone: str | None
    segments: list[str]
    stage: str | None
    channel: str
    placement: str
    journey: str
    step: int
    offer: str
    variant: str
    is_control: bool
    product_id: str | None
    category: str | None
    items: list[str]
    propensity: float
    context_weight: float
    value: float
    lever: float
    score: float
    action_probability: float
    policy_version: str
    model_version: str
    reasons: list[str]
    voucher: Voucher | None
    time: str
    not_before: str
    expires_at: str | None
    causation_id: str | None
    correlation_id: str | None


class Withdrawn(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """That an action is taken back: whoever has not sent it yet does not send it any more. On the channel that had it.

    kind          "withdrawn", where an action has "action"
    action_id     of the action; it is taken back once
    reason        "consent": it was withdrawn; "suppressed": unsubscribed, bounced or marked as spam; "goal" of the
                  journey was reached; "expired": its `expires_at` has come; "erased": the person was
    causation_id  id of the event that took it back; null when time alone did
    time          when, RFC 3339 in UTC
    """

    kind: str
    action_id: str
    decision_id: str
    customer_id: str
    customer_kind: str
    channel: str
    placement: str
    journey: str
    step: int
    offer: str
    reason: str
    policy_version: str
    time: str
    causation_id: str | None


class DeadLetterMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An input that could not be used: where it stood, why, and its bytes (`raw`; `raw_base64` if not UTF-8)."""

    file: str
    line: int
    offset: int
    reason: str
    raw: str | None = None
    raw_base64: str | None = None


class LateMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event that came after its partition's clock had passed it by more than the allowed lateness."""

    file: str
    line: int
    offset: int
    event_time: str
    delay_ms: int
    raw: str | None = None
    raw_base64: str | None = None
