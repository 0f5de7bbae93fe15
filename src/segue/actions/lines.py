"""Action lines by template: what an offer's actions have in common is encoded once.

The template of an offer is its Action as msgspec encodes it, with marks where the action's own values go, so that the
message has one definition (messages.py). On the benchmark (two actions in a hundred events) actions take 75 ns an event
this way; Action objects and their encoding took 100 to 145.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from segue.actions.messages import Action, Voucher
from segue.errors import PolicyError
from segue.policy.compiled import CompiledPolicies, OfferInfo
from segue_kernels.plan import (
    JOURNEY_KIND,
    OFFER_CAMPAIGN,
    OFFER_DISCOUNT,
    OFFER_F_LEVER,
    OFFER_F_VALUE,
    OFFER_ITEMS_MAX,
    ON_WAIT,
)

# what differs between the actions of an offer, in the order of the message; ids and times as they stand between
# quotes, the others as JSON
DYNAMIC = (
    "action_id",
    "decision_id",
    "customer_id",
    "customer_kind",
    "timezone",
    "segments",
    "stage",
    "step",
    "product_id",
    "category",
    "items",
    "propensity",
    "context_weight",
    "score",
    "voucher.code",
    "voucher.discount",
    "voucher.expires_at",
    "time",
    "not_before",
    "expires_at",
    "causation_id",
)
_QUOTED = frozenset(
    {"action_id", "decision_id", "customer_kind", "voucher.expires_at", "time", "not_before", "expires_at"}
)
_MARK = "\x7f{}\x7f"  # JSON leaves this control character as it is
_MARKED = re.compile(rb'"\x7f([a-z_.]+)\x7f"')


def _mark(name: str) -> Any:
    return _MARK.format(name)


def line_template(policies: CompiledPolicies, number: int) -> bytes:
    """A bytes format that takes the DYNAMIC values of an action of this offer and gives one line, newline included."""
    offer = policies.offer_infos[number]
    value, lever = policies.offers_f[number, [OFFER_F_VALUE, OFFER_F_LEVER]].tolist()
    journey = policies.journey_infos[offer.journey]
    waits = policies.journeys[offer.journey, JOURNEY_KIND] == ON_WAIT
    policy = policies.policies[journey.policy]
    voucher = offer.voucher
    campaign = int(policies.offers[number, OFFER_CAMPAIGN]) - 1
    terms = policies.campaign_infos[campaign].terms if campaign >= 0 else None
    computed = policies.offers[number, OFFER_DISCOUNT] >= 0
    expires = _mark("voucher.expires_at") if voucher is not None and voucher.valid_for_ms else None
    action = Action(
        kind="action",
        action_id=_mark("action_id"),
        decision_id=_mark("decision_id"),
        customer_id=_mark("customer_id"),
        customer_kind=_mark("customer_kind"),
        timezone=_mark("timezone"),
        segments=_mark("segments") if policies.segment_ids else [],
        stage=_mark("stage") if policies.stage_ids else None,
        channel=offer.channel,
        placement=offer.placement,
        journey=journey.id,
        step=_mark("step") if waits else 1,
        offer=offer.id,
        variant=offer.variant,
        is_control=False,
        product_id=_mark("product_id"),
        category=_mark("category"),
        items=_mark("items") if policies.offers[number, OFFER_ITEMS_MAX] else [],
        propensity=_mark("propensity"),
        context_weight=_mark("context_weight"),
        value=value,
        lever=lever,
        score=_mark("score"),
        action_probability=1.0,
        policy_version=f"{policy.name}@{policy.version}",
        model_version=f"{journey.model_name}@{journey.model_version}" if journey.model_name else "",
        reasons=["won"],
        voucher=None
        if voucher is None
        else Voucher(
            code=None if terms is None else _mark("voucher.code"),
            campaign_id=voucher.campaign,
            discount_percent=_mark("voucher.discount")
            if computed and voucher.is_percent
            else voucher.discount_percent,
            discount_amount_minor=_mark("voucher.discount")
            if computed and not voucher.is_percent
            else voucher.discount_amount_minor,
            currency=voucher.currency,
            reservation_expires_at=None,
            expires_at=expires,
            stack_group=voucher.stack_group,
            discount_max_minor=msgspec.UNSET
            if terms is None
            else (terms.depth_minor if terms.percent else None),
            basket_min_minor=msgspec.UNSET if terms is None else terms.basket_min_minor,
        ),
        time=_mark("time"),
        not_before=_mark("not_before"),
        expires_at=_mark("expires_at") if journey.expires_after_ms else None,
        causation_id=_mark("causation_id"),
        correlation_id=None,
    )
    return _as_format(msgspec.json.encode(action), offer)


def _as_format(encoded: bytes, offer: OfferInfo) -> bytes:
    pieces = _MARKED.split(encoded.replace(b"%", b"%%"))
    static, names = pieces[::2], [name.decode() for name in pieces[1::2]]
    if names != [name for name in DYNAMIC if name in names]:
        raise PolicyError(
            "prepare actions", f"the offer {offer.id!r} has a control character in its texts", "take it out"
        )
    given = iter(zip(names, static[1:], strict=True))
    line = static[0]
    name, after = next(given, ("", b""))
    for dynamic in DYNAMIC:
        if dynamic != name:
            line += b"%.0b"  # takes the value and writes nothing
            continue
        line += (b'"%b"' if dynamic in _QUOTED else b"%b") + after
        name, after = next(given, ("", b""))
    return line + b"\n"
