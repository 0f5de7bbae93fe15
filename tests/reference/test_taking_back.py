"""What is taken back, told in examples: Segue and the reference say the same, and it is this."""

from __future__ import annotations

import json
from typing import Any

import pytest

from segue.events.time import time_text
from segue.limits import DAY_MS, HOUR_MS, MINUTE_MS
from tests.reference.choice import Seeded
from tests.reference.engine import Settings
from tests.reference.test_segue_agrees import check, own_cache

__all__ = ["own_cache"]  # the fixture

START_MS = 1_772_355_600_000  # 2026-03-01T09:00:00Z
POLICY = """
policy = "p"
version = 1
currency = "EUR"
[[purposes]]
id = "service"
unknown = "granted"
[[journeys]]
id = "j"
on = ["Product Viewed"]
when = "True"
goal = ["Order Completed"]
expires_after = "4h"
[[journeys.offers]]
id = "o"
channel = "email"
purpose = "service"
take_back = "{}"
"""
NIGHT = """
[[quiet_hours]]
id = "night"
from = "09:30"
to = "11:00"
then = "hold"
"""
WAITING = """
[[journeys]]
id = "w"
on = ["Product Added"]
when = "True"
wait = "10m"
by = "product"
goal = ["Order Completed"]
[[journeys.offers]]
id = "o"
channel = "push"
purpose = "service"
take_back = "6h"
"""


def at(minutes: float, kind: str, user: str = "u", **more: Any) -> dict[str, Any]:
    return {"minutes": minutes, "type": kind, "userId": user, **more}


def no(minutes: float, **more: Any) -> dict[str, Any]:
    return at(minutes, "Consent Changed", channel="email", purpose="service", granted=False, **more)


def taken_back(
    *events: dict[str, Any], policy: str = POLICY.format("3h")
) -> list[tuple[float, str, str, str]]:
    """(minutes from the start, customer, journey, reason) of all that is."""
    lines = []
    for n, event in enumerate(events):
        told = {"id": f"e{n}", "time": time_text(START_MS + round(event["minutes"] * MINUTE_MS)), **event}
        lines.append(json.dumps(told))
    reference = check([policy], ["\n".join(lines).encode()], Settings(), Seeded(1), native=False)
    assert reference.actions
    return [
        ((one.time_ms - START_MS) / MINUTE_MS, one.customer[1], one.journey, one.reason)
        for one in reference.withdrawn
    ]


VIEW = ("Product Viewed",)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        # o view   x refused
        ([at(0, *VIEW), no(20)], [(20, "u", "j", "consent")]),
        # o view   x unsubscribed   (twice: it is taken back once)
        (
            [at(0, *VIEW), at(20, "Unsubscribed", channel="email"), at(21, "Unsubscribed", channel="email")],
            [(20, "u", "j", "suppressed")],
        ),
        ([at(0, *VIEW), at(20, "Email Bounced")], [(20, "u", "j", "suppressed")]),
        # another channel's consent is nothing to it
        ([at(0, *VIEW), at(20, "Unsubscribed", channel="push")], []),
        # o view   x ordered   ... and what is decided later stands
        ([at(0, *VIEW), at(20, "Order Completed"), at(30, *VIEW)], [(20, "u", "j", "goal")]),
        # a goal that comes late takes back, too
        ([at(0, *VIEW), at(-3, "Order Completed")], [(0, "u", "j", "goal")]),
        # not outstanding any more after three hours; at that very moment it is
        ([at(0, *VIEW), no(180)], [(180, "u", "j", "consent")]),
        ([at(0, *VIEW), at(181, "page"), no(182)], []),
        (
            [at(0, *VIEW), at(20, "Profile Erasure Requested"), at(30, "Order Completed")],
            [(20, "u", "j", "erased")],
        ),
        # consent that is given once more does not bring it back
        (
            [
                at(0, *VIEW),
                no(20),
                at(21, "Consent Changed", channel="email", purpose="service", granted=True),
            ],
            [(20, "u", "j", "consent")],
        ),
    ],
)
def test_why_and_when(events: list[dict[str, Any]], expected: list[tuple[float, str, str, str]]) -> None:
    assert taken_back(*events) == expected


def test_what_holds_good_no_longer_is_taken_back_where_it_may_still_be_unsent() -> None:
    later = at(2 * DAY_MS / MINUTE_MS, "page", "v")
    assert taken_back(at(0, *VIEW), later, policy=POLICY.format("4h")) == [(240, "u", "j", "expired")]
    assert taken_back(at(0, *VIEW), later, policy=POLICY.format("3h")) == []


def test_of_a_visitor_who_turns_out_to_have_refused() -> None:
    visit = {"minutes": 10, "type": "Product Viewed", "anonymousId": "a"}
    known = at(20, "identify", anonymousId="a")
    assert taken_back(no(0), visit, known) == [(20, "u", "j", "consent")]


def test_goals_by_product_and_of_what_is_held() -> None:
    events = [
        at(0, "Product Added", product_id="tent"),
        at(1, "Product Added", product_id="lamp"),
        at(15, "Order Completed", products=[{"product_id": "lamp", "quantity": 1, "price": 1.0}]),
    ]
    assert taken_back(*events, policy=POLICY.format("3h") + WAITING) == [(15, "u", "w", "goal")]
    # held at 09:40, called off at 09:50: nothing goes out at 11:00 but what was sent at 09:00
    held = [at(0, *VIEW, "v"), at(40, *VIEW), at(50, "Order Completed"), at(3 * HOUR_MS / MINUTE_MS, "page")]
    assert taken_back(*held, policy=POLICY.format("3h") + NIGHT) == []
