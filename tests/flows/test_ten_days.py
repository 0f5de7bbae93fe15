"""Ten days of a shop whose customers live in five time zones, two of which change their clocks meanwhile.

Days and nights, sessions, carts that are left, people who turn out to be known ones, who agree to mail and take it
back: the flow on one worker and on two, and killed three times, says what the reference says, about every timer,
segment, stage and join, every cap of the customer's own day and week, what is held over night, what is not sent yet and
taken back, and a campaign that runs dry. Who gets what is scarce depends on the order in which the ledger is asked: the
reference is fed that order.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from segue.limits import DAY_MS, HOUR_MS, MINUTE_MS
from segue.settings import secret
from segue.vouchers.keys import load_keys
from segue_kernels.plan import WINDOW_DAY
from segue_kernels.shard import BUDGET, CAP, HELD, NO_CONSENT, QUIET_HOURS, SUPPRESSED
from tests.flows.resumable import with_kills
from tests.flows.runs import Case, check_against, judged, run_threads, write_case
from tests.flows.test_campaigns import Watched, vouchers
from tests.reference.choice import Choice, Seeded
from tests.reference.engine import Reference
from tests.reference.history import period_start_ms
from tests.reference.random_events import START_MS
from tests.reference.vouchers import grant_all

DAYS = 10
FIRST_MS = START_MS + 25 * DAY_MS  # 26 March 2026
ZONES = (
    "Europe/Berlin",  # forward on 29 March
    "Australia/Lord_Howe",  # back by half an hour on 5 April, the 4th in UTC
    "America/New_York",
    "Asia/Kathmandu",
    "America/Sao_Paulo",
)
POLICY = """
policy = "ten-days"
version = 1
currency = "EUR"

[[segments]]
id = "busy-today"
when = 'count("Product Viewed", calendar="day") >= 4'
[[segments]]
id = "on-site"
when = 'exists(any_of("Product Viewed", "page"), session="30m")'
[[segments]]
id = "regular"
when = 'count("Order Completed", within="7d") >= 2'
[[segments]]
id = "warm"
when = 'decayed("Product Viewed", half_life="1d") >= 3'
[[segments]]
id = "big-week"
when = 'sum("Order Completed", of="amount", calendar="week") >= 60'

[[stages]]
id = "visitor"
[[stages]]
id = "customer"
when = 'exists("Order Completed")'
[[stages]]
id = "lapsing"
from = ["customer"]
when = 'recency("Order Completed") > duration("3d") and not segment("on-site")'
[[stages]]
id = "won-back"
from = ["lapsing"]
when = 'exists("Order Completed", within="1d")'

[[joins]]
id = "view-order"
left = "Product Viewed"
right = "Order Completed"
within = "1d"
by = "product"
[[joins]]
id = "reminded"
left = 'action("abandoned")'
right = "Order Completed"
within = "2d"

[[caps]]
id = "day"
times = 2
calendar = "day"
[[caps]]
id = "week"
times = 6
calendar = "week"
[[caps]]
id = "mail"
channels = ["email"]
times = 2
within = "4d"
[[caps]]
id = "gap"
channels = ["email"]
times = 1
within = "8h"

[[journeys]]
id = "abandoned"
on = ["Product Added"]
when = 'event.product != ""'
wait = ["30m", "24h", "72h"]
by = "product"
restart = true
still = 'absent("Order Completed", by="product")'
goal = ["Order Completed"]
[[journeys.offers]]
id = "reminder"
channel = "web"
context = '1 / step'
items = { recent = "Product Added", within = "2d", up_to = 3 }
[[journeys.offers]]
id = "last-call"
channel = "till"
steps = [3]
when = 'price.amount < 50'
[[journeys.offers]]
id = "mail"
channel = "email"
steps = [1, 2]
value = 2.0
take_back = "1d"

[[journeys]]
id = "recap"
session = "30m"
when = 'distinct("Product Viewed", of="product", session="30m") >= 2'
alongside = true
[[journeys.offers]]
id = "seen"
channel = "web"
placement = "recap"
items = { recent = "Product Viewed", session = "30m", up_to = 5 }

[[journeys]]
id = "miss-you"
on = ['stage("lapsing")', 'left("regular")']
when = 'not exists("Order Completed", calendar="day")'
[[journeys.offers]]
id = "voucher"
channel = "web"
context = 'log1p(first("Order Completed", of="amount"))'
[[journeys.offers]]
id = "letter"
channel = "email"
value = 9.0
take_back = "12h"

[[journeys]]
id = "thanks"
on = ["Order Completed", 'entered("big-week")']
when = '''
sequence("Product Viewed", "Product Added", "Order Completed", within="1d", without="Cart Viewed")
or joined("reminded") >= 1
'''
[[journeys.offers]]
id = "points"
channel = "till"
"""

BONUS = """
policy = "bonus"
version = 1
currency = "EUR"

[[quiet_hours]]
id = "night"
channels = ["email"]
from = "20:00"
to = "08:30"
then = "hold"
[[quiet_hours]]
id = "closed"
channels = ["till"]
from = "23:00"
to = "09:00"
then = "drop"

[[campaigns]]
id = "spring"
start = "2026-03-27T00:00:00+01:00"
end = "2026-04-03T00:00:00+02:00"
budget = 20
per_customer = 2
per_day = 6
timezone = "Europe/Berlin"
discount_amount = "5.00"
[[campaigns]]
id = "post"
start = "2026-03-01T00:00:00+01:00"
end = "2026-05-01T00:00:00+02:00"
budget_amount = 20
per_customer = 0
discount_percent = 10
discount_max = "2.50"

[[journeys]]
id = "bonus"
on = ["Product Added", "Order Completed"]
when = "True"
wait = ["1m", "26h"]
goal = ["Cart Viewed"]
alongside = true
[[journeys.offers]]
id = "off"
channel = "till"
placement = "bonus"
value = 3.0
voucher = { campaign = "spring" }
[[journeys.offers]]
id = "thanks"
channel = "till"
placement = "bonus"
[[journeys.offers]]
id = "mail-off"
channel = "email"
value = 3.0
take_back = "1d"
voucher = { campaign = "post" }
[[journeys.offers]]
id = "mail-thanks"
channel = "email"
value = 1.5
take_back = "1d"
"""


def ten_days(choice: Choice, customers: int, partitions: int, tells: int = 30) -> list[bytes]:
    """JSON Lines, a payload for each partition. `tells`: percent of the events that name the time zone."""
    events: list[tuple[int, dict[str, Any]]] = []

    def say(time_ms: int, who: dict[str, str], zone: str, kind: str, **fields: Any) -> None:
        message = {"id": f"e{len(events)}", "type": kind, "time": time_ms, **who, **fields}
        if choice.chance(tells):
            message["timezone"] = zone
        events.append((time_ms + (choice.integer(0, 4 * MINUTE_MS) if choice.chance(10) else 0), message))

    for n in range(customers):
        zone = ZONES[n % len(ZONES)]
        user, device = {"userId": f"u{n}"}, {"anonymousId": f"a{n}"}
        fields: dict[str, Any]
        known_from = choice.integer(0, DAYS * DAY_MS) if choice.chance(50) else 0
        told = False
        for day in range(DAYS):
            midnight = period_start_ms(FIRST_MS + day * DAY_MS, zone, WINDOW_DAY)
            for _ in range(choice.pick((0, 0, 1, 1, 2))):
                # now and then just before or after local midnight
                hour = choice.pick((9, 13, 18, 20, 23, 24))
                time_ms = max(FIRST_MS, midnight + hour * HOUR_MS - choice.integer(0, 20 * MINUTE_MS))
                if choice.chance(25):
                    word = choice.pick(("Consent Changed",) * 4 + ("Unsubscribed",))
                    fields = {"channel": "email", "granted": choice.chance(80)}
                    say(time_ms, user, zone, word, **(fields if word == "Consent Changed" else {}))
                for _ in range(choice.integer(1, 6)):
                    known = time_ms - FIRST_MS >= known_from
                    if known and known_from and not told:
                        say(time_ms, {**user, **device}, zone, "identify")
                        told = True
                    kind = choice.pick(
                        ("Product Viewed",) * 5 + ("Product Added",) * 3 + ("page", "Cart Viewed")
                    )
                    kind = "Order Completed" if choice.chance(12) else kind
                    fields = {"product_id": f"p{choice.integer(0, 7)}", "category": "c"}
                    if kind == "Order Completed":
                        fields["amount"] = choice.pick((9.99, 25, 49.5))
                    say(time_ms, user if known else device, zone, kind, **fields)
                    time_ms += choice.pick(
                        (0, 1, MINUTE_MS, 10 * MINUTE_MS, 30 * MINUTE_MS, 30 * MINUTE_MS + 1)
                    )
    for n in range(8):
        for _ in range(3):
            time_ms = FIRST_MS + choice.integer(0, DAYS * DAY_MS)
            price = {"product_id": f"p{n}", "price": choice.integer(20, 80)}
            events.append(
                (time_ms, {"id": f"e{len(events)}", "type": "Price Updated", "time": time_ms, **price})
            )
    payloads: list[list[bytes]] = [[] for _ in range(partitions)]
    for _, message in sorted(events, key=lambda event: event[0]):
        message["time"] = _text(message["time"])
        payloads[choice.integer(0, partitions - 1)].append(json.dumps(message).encode())
    return [b"\n".join(lines) for lines in payloads]


def _text(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")


def case_of(folder: Path, seed: int, **settings: Any) -> Case:
    choice = Seeded(seed)
    payloads = ten_days(choice, 25, 3)
    return write_case(folder, payloads, [POLICY, BONUS], native=False, **settings)


def granted(case: Case, order: list[str]) -> Reference:
    """The reference after the case, its vouchers granted in the order in which a run's ledger was asked."""
    reference = judged(case)
    grant_all(reference, load_keys(secret()), order)
    return reference


def test_the_stream_reaches_what_it_is_for(tmp_path: Path) -> None:
    """By the reference alone: all journeys, steps, changes and joins, in every zone."""
    reference = judged(case_of(tmp_path, 1))
    sent = Counter((action.journey, action.step) for action in reference.actions)
    assert sent.keys() >= {("abandoned", step) for step in (1, 2, 3)} | {
        ("recap", 1),
        ("miss-you", 1),
        ("thanks", 1),
    }
    changed = Counter((change.name, change.change, bool(change.event)) for change in reference.changes)
    assert {("busy-today", "left", False), ("on-site", "left", False)} <= changed.keys()
    assert {("lapsing", "stage", False), ("won-back", "stage", True)} <= changed.keys()
    reasons = Counter(c.reason for d in reference.decisions for c in d.candidates)
    assert min(reasons[reason] for reason in (CAP, NO_CONSENT, SUPPRESSED, HELD, QUIET_HOURS)) > 5, reasons
    assert any(action.slot[0] == "email" for action in reference.actions)
    taken_back = Counter(one.reason for one in reference.withdrawn)
    assert taken_back.keys() >= {"suppressed", "goal", "expired"}, taken_back
    assert reference.counters["held_reached"] > 0
    assert {credit.join for credit in reference.credits} == {"view-order", "reminded"}
    assert reference.counters["customers_merged"] > 0
    zones = {customer.zone[1] for customer in reference.customers.values()}
    assert zones >= set(ZONES)
    # a busy day ends at local midnight, or in UTC for those who have told no zone yet
    midnights = [
        c for c in reference.changes if c.name == "busy-today" and c.change == "left" and not c.event
    ]
    for change in midnights:
        if change.customer not in reference.customers:
            continue  # known by another name since
        zones = {reference.customers[change.customer].zone[1] or "UTC", "UTC"}
        assert change.time_ms in {period_start_ms(change.time_ms, zone, WINDOW_DAY) for zone in zones}


@pytest.mark.parametrize("seed", [1, 2])
def test_one_and_two_workers_say_what_the_reference_says(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = case_of(tmp_path, seed, batch_rows=(1_000, 40)[seed % 2], shards=5)
    watched = Watched(monkeypatch)
    for workers in (1, 2):
        told = run_threads(case, workers)
        reference = granted(case, watched.taken())
        check_against(told, reference)
        issued = Counter(voucher["campaign_id"] for voucher in vouchers(told).values())
        assert issued == {"spring": 20, "post": 8}  # all there is
        reasons = Counter(c.reason for d in reference.decisions for c in d.candidates)
        assert reasons[BUDGET] > 20, reasons


def test_killed_three_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker asks in an order of its own: what was killed grants what it would have granted."""
    case = case_of(tmp_path, 4, batch_rows=40, shards=5)
    watched = Watched(monkeypatch)
    undisturbed = run_threads(case)
    told = with_kills(case, ["after_engine:4", "after_delta:2", "after_manifest:3"])
    check_against(told, granted(case, watched.taken()))
    assert vouchers(told) == vouchers(undisturbed)


def test_borders_of_batches_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(tmp_path, 3, batch_rows=65_536, shards=1)
    watched = Watched(monkeypatch)
    for batch_rows, shards in ((65_536, 1), (7, 16), (200, 3)):
        told = run_threads(case.with_settings(batch_rows=batch_rows, shards=shards))
        check_against(told, granted(case, watched.taken()))
