"""Quiet hours, looked for in the actions alone; and policies that hold much."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tests.reference.caps import Who
from tests.reference.journeys import Policies

HOLDING = """
policy = "holding"
version = 1

[[purposes]]
id = "marketing"
unknown = "granted"
[[purposes]]
id = "service"
unknown = "granted"

[[caps]]
id = "day"
times = 6
calendar = "day"
[[caps]]
id = "mails-an-hour"
channels = ["email"]
times = 1
calendar = "hour"

[[quiet_hours]]
id = "night"
from = "21:00"
to = "08:00"
then = "hold"
[[quiet_hours]]
id = "morning"
from = "08:00"
to = "09:30"
days = ["sun", "mon", "sat"]
channels = ["email"]
then = "hold"
[[quiet_hours]]
id = "shop"
from = "23:10"
to = "02:31"
channels = ["web"]
then = "drop"

[[journeys]]
id = "seen"
on = ["Product Viewed", "Product Added", "page", "Order Completed"]
when = "event.quantity >= 0"
priority = 20
expires_after = "12h"
limits = [{ times = 2, within = "3h" }]
[[journeys.offers]]
id = "mail"
channel = "email"
when = 'not exists("Order Completed", within="20m")'
context = 'log1p(count("Product Viewed", within="1d"))'
items = { recent = "Product Viewed", within = "1d", up_to = 3 }
[[journeys.offers]]
id = "push"
channel = "push"
value = 0.9
purpose = "service"
[[journeys.offers]]
id = "shop"
channel = "web"
value = 0.1

[[journeys]]
id = "cart"
on = ["Product Viewed", "Product Added"]
when = 'event.product != ""'
wait = ["5m", "2h", "9h"]
by = "product"
restart = true
still = 'absent("Order Completed", by="product")'
priority = 80
expires_after = "10h"
alongside = true
[[journeys.offers]]
id = "push"
channel = "push"
context = "1 / step"
[[journeys.offers]]
id = "text"
channel = "sms"
steps = [2, 3]

[[journeys]]
id = "letters"
on = ["Cart Viewed", "Order Completed", "Product Viewed"]
when = "event.amount >= 0"
alongside = true
expires_after = "2d"
[[journeys.offers]]
id = "mail"
channel = "email"
value = 3.0
[[journeys.offers]]
id = "letter"
channel = "mail"

[[journeys]]
id = "visit"
session = "30m"
when = "True"
expires_after = "3h"
limits = [{ times = 1, within = "1d" }]
[[journeys.offers]]
id = "call"
channel = "call"
"""


def sent_in_quiet(
    actions: Iterable[Mapping[str, Any]], policies: Policies, zone_of: Callable[[Who], str | None]
) -> list[str]:
    """Every action that somebody was sent while his clock showed a time of quiet.

    zone_of  the one time zone in which a customer ever was; None if there were several: then nothing is looked at
    """
    purposes = {(j.id, offer.id): offer.purpose for j in policies.journeys for offer in j.offers}
    found = []
    for action in actions:
        zone = zone_of((action["customer_kind"], action["customer_id"]))
        if zone is None:
            continue
        local = datetime.fromisoformat(action["time"]).astimezone(ZoneInfo(zone))
        purpose = purposes[action["journey"], action["offer"]]
        found += [
            f"{action} at {local} in {quiet}"
            for quiet in policies.quiet
            if action["channel"] in quiet.channels and purpose in quiet.purposes and quiet.applies(local)
        ]
    return found
