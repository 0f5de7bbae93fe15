"""Timelines drawn by hand whose right answer is obvious, one or two for each rule of the semantics.

In the drawings the numbers are minutes, `v` is an event and `?` the event that asks: the question is
a journey's condition on it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from segue.events.names import CHANNELS, CODE_BY_NAME, PURPOSES
from segue.limits import DAY_MS, HOUR_MS, MINUTE_MS
from segue.policy.expression import compile_condition, compile_number
from segue.policy.scope import Scope
from segue_kernels import plan
from tests.reference import engine
from tests.reference.decoding import DecodeSettings, decode
from tests.reference.engine import Reference, Settings
from tests.reference.event import ANONYMOUS, LOYALTY, USER, Consent, Event, Line
from tests.reference.hashing import field_hash, siphash64, siphash128
from tests.reference.history import currency_code
from tests.reference.journeys import Cap, Journey, Limit, Offer, Policies

MIDNIGHT = 1_772_323_200_000  # 2026-03-01T00:00:00Z
ARRIVAL_MS = MIDNIGHT + 30 * DAY_MS
SETTINGS = Settings()
SCOPE = Scope(
    file="test.toml",
    path="$",
    types=CODE_BY_NAME,
    currency=currency_code("EUR"),
    minor_per_major=100,
    hash_text=lambda text: field_hash(text, SETTINGS.secret),
)
VIEW = "Product Viewed"
ORDER = "Order Completed"
ASK = "Cart Viewed"


def at(minutes: float) -> int:
    return MIDNIGHT + int(minutes * MINUTE_MS)


class Maker:
    """Events with ids of their own, on partition clocks that do not matter here."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, type_name: str, minutes: float, customer: str = "anna", **fields: Any) -> Event:
        self.made += 1
        moment = at(minutes)
        return Event(
            **{
                "id": f"e{self.made}",
                "type": type_name,
                "time_ms": moment,
                "clock_ms": moment,
                "customer": customer,
                "has_price": "price_minor" in fields,
                "has_amount": "amount_minor" in fields,
                **fields,
            }
        )


@pytest.fixture
def make() -> Maker:
    return Maker()


def journey(when: str = "True", *, on: Sequence[str] = (ASK,), **fields: Any) -> Journey:
    offers = fields.pop("offers", (Offer("o", "web"),))
    return Journey(
        id=fields.pop("id", "j"),
        on=tuple(on),
        when=compile_condition(when, SCOPE),
        offers=tuple(offers),
        **fields,
    )


def run(journeys: Journey | Sequence[Journey], events: Sequence[Event], **settings: Any) -> Reference:
    reference = Reference(
        [journeys] if isinstance(journeys, Journey) else journeys, replace(SETTINGS, **settings)
    )
    reference.run(events)
    return reference


def fired(when: str, events: Sequence[Event], **settings: Any) -> list[str]:
    """Ids of the ASK events on which the condition held."""
    return [action.trigger for action in run(journey(when), events, **settings).actions]


def value(expression: str, events: Sequence[Event]) -> float:
    """An expression at the last event, read off as the score's context."""
    context = Offer("o", "web", context=compile_number(expression, SCOPE))
    last = run(journey(offers=[context], score_min=-1e300, on=[events[-1].type]), events).decisions[-1]
    assert last.candidates[0].numbers is not None
    return last.candidates[0].numbers.context


def reasons(reference: Reference) -> list[tuple[str, int]]:
    """(offer, reason) of all candidates, decision by decision."""
    return [(c.offer, c.reason) for d in reference.decisions for c in d.candidates]


# --- windows ------------------------------------------------------------------------------------------


def test_sliding_window_excludes_its_old_border_and_includes_now(make: Maker) -> None:
    # 0         30
    # v         ?      the view is exactly 30 min old: outside (T-30, T]
    #  v        ?      a millisecond younger: inside
    #            v?    at the same time as the question: inside
    within = f'exists("{VIEW}", within="30m")'
    ask = make(ASK, 30)
    assert fired(within, [make(VIEW, 0), ask]) == []
    assert fired(within, [make(VIEW, 0.001), ask]) == [ask.id]
    assert fired(within, [make(VIEW, 30), ask]) == [ask.id]


def test_window_without_within_reaches_back_for_ever(make: Maker) -> None:
    ask = make(ASK, 300 * 24 * 60)
    assert fired(f'count("{VIEW}") >= 2', [make(VIEW, 0), make(VIEW, 1), ask]) == [ask.id]


def test_equal_times_all_count(make: Maker) -> None:
    # 5
    # vvv?
    events = [make(VIEW, 5), make(VIEW, 5), make(VIEW, 5), make(ASK, 5)]
    assert value(f'count("{VIEW}", within="1m")', events) == 3.0


def test_the_asking_event_counts_itself(make: Maker) -> None:
    assert value(f'count("{VIEW}", within="1m")', [make(VIEW, 0), make(VIEW, 5)]) == 1.0


def test_late_event_is_put_where_it_belongs_and_the_clock_stays(make: Maker) -> None:
    # 0    5    10            arrival: v(10), ?(late, at 5)
    # .    ?    v             now = 10, so a window of 4 min is (6, 10]: it sees the view at 10
    view, ask = make(VIEW, 10), make(ASK, 5)
    reference = run(journey(f'exists("{VIEW}", within="4m")'), [view, ask])
    assert [d.now_ms for d in reference.decisions] == [at(10)]
    # 0    5    10   12       arrival: ?(10), v(late, at 5), ?(12)
    late = [make(ASK, 10), make(VIEW, 5), make(ASK, 12)]
    assert fired(f'exists("{VIEW}", within="6m")', late) == []
    assert fired(f'exists("{VIEW}", within="8m")', late) == [late[2].id]


def test_count_as_a_number_saturates(make: Maker) -> None:
    views = [make(VIEW, n / 10) for n in range(40)]
    ask = make(ASK, 5)
    assert value(f'count("{VIEW}")', [*views, ask]) == 32.0
    assert value(f'count("{VIEW}", up_to=3)', [*views, ask]) == 3.0
    assert value(f'count("{VIEW}", up_to=1000)', [*views, ask]) == 40.0


def test_count_compared_with_a_constant_needs_no_bound(make: Maker) -> None:
    views = [make(VIEW, n / 10) for n in range(40)]
    ask = make(ASK, 5)
    assert fired(f'count("{VIEW}") >= 40', [*views, ask]) == [ask.id]
    assert fired(f'count("{VIEW}") == 40', [*views, ask]) == [ask.id]
    assert fired(f'count("{VIEW}") > 40', [*views, ask]) == []


def test_tumbling_window_is_aligned_to_utc(make: Maker) -> None:
    # 58   59 | 60   61       every="1h": the hour of the question only
    # v    v  | v    ?
    events = [make(VIEW, 58), make(VIEW, 59), make(VIEW, 60), make(ASK, 61)]
    assert value(f'count("{VIEW}", every="1h")', events) == 1.0
    # the question in the next hour sees nothing, a day's window sees all
    assert value(f'count("{VIEW}", every="1h")', [*events[:3], make(ASK, 120)]) == 0.0
    assert value(f'count("{VIEW}", every="1d")', [*events[:3], make(ASK, 120)]) == 3.0


def test_late_event_of_an_older_tumbling_window_is_ignored(make: Maker) -> None:
    events = [make(VIEW, 60), make(VIEW, 59), make(VIEW, 62), make(ASK, 63)]
    assert value(f'count("{VIEW}", every="1h")', events) == 2.0


def test_sum_adds_minor_units_and_divides_once(make: Maker) -> None:
    events = [make(ORDER, n, amount_minor=10) for n in range(3)]
    assert value(f'sum("{ORDER}", of="amount")', [*events, make(ASK, 5)]) == 30 / 100


def test_sum_keeps_the_latest_and_of_equal_times_the_largest(make: Maker) -> None:
    # 0     1     2           up_to=2: 700 (time 2) and of time 1 the larger, 500
    # 900   300   700
    #       500
    orders = [(0, 900), (1, 300), (1, 500), (2, 700)]
    events = [make(ORDER, minute, amount_minor=amount) for minute, amount in orders]
    assert value(f'sum("{ORDER}", of="amount", up_to=2)', [*events, make(ASK, 3)]) == 12.0
    assert value(f'sum("{ORDER}", of="amount", every="1h")', [*events, make(ASK, 3)]) == 24.0


def test_an_event_without_the_number_takes_no_place_in_a_sum(make: Maker) -> None:
    # 500   -   ?             up_to=1: the order without an amount does not push the 5.00 out
    events = [make(ORDER, 0, amount_minor=500), make(ORDER, 1), make(ASK, 2)]
    assert value(f'sum("{ORDER}", of="amount", up_to=1)', events) == 5.0


def test_money_in_another_currency_does_not_add(make: Maker) -> None:
    events = [
        make(ORDER, 0, amount_minor=500),
        make(ORDER, 1, amount_minor=800, currency="USD"),
        make(ASK, 2),
    ]
    assert value(f'sum("{ORDER}", of="amount")', events) == 5.0
    assert value(f'sum("{ORDER}", of="quantity")', events) == 2.0
    assert value(f'count("{ORDER}")', events) == 2.0
    assert value("event.amount", [make(ORDER, 0, amount_minor=800, currency="USD")]) == 0.0


def test_distinct_counts_values_once_and_absent_ones_never(make: Maker) -> None:
    # a  b  a  -  ?
    events = [make(VIEW, n, product=product) for n, product in enumerate(["a", "b", "a", ""])]
    assert value(f'distinct("{VIEW}", of="product", within="1h")', [*events, make(ASK, 5)]) == 2.0
    # a last seen at 2, b at 1: only a is in (1, 5]
    assert value(f'distinct("{VIEW}", of="product", within="4m")', [*events, make(ASK, 5)]) == 1.0
    assert value(f'distinct("{VIEW}", of="product", up_to=1)', [*events, make(ASK, 5)]) == 1.0


def test_recency_and_never(make: Maker) -> None:
    assert value(f'recency("{VIEW}")', [make(VIEW, 1), make(ASK, 5)]) == 4 * MINUTE_MS
    assert value(f'recency("{VIEW}", within="4m")', [make(VIEW, 1), make(ASK, 5)]) == 1e18
    assert value(f'recency("{VIEW}")', [make(ASK, 5)]) == 1e18


def test_by_product_sees_the_product_of_the_event_only(make: Maker) -> None:
    # a  a  b  ?(a)  ?(b)  ?(none)
    views = [make(VIEW, n, product=p) for n, p in enumerate("aab")]
    count = f'count("{VIEW}", by="product")'
    assert value(count, [*views, make(ASK, 5, product="a")]) == 2.0
    assert value(count, [*views, make(ASK, 5, product="b")]) == 1.0
    assert value(count, [*views, make(ASK, 5)]) == 0.0
    assert value(f'recency("{VIEW}", by="product")', [*views, make(ASK, 5)]) == 1e18


def test_retention_starts_behaviour_again_but_not_consent_and_sends(make: Maker) -> None:
    # day 0: consent, view, ask (sends)      day 11 (retention 10 d): ask
    consent = make("Consent Changed", 0, consent=Consent("email", "marketing", True))
    first, again = make(ASK, 2), make(ASK, 11 * 24 * 60)
    events = [consent, make(VIEW, 1), first, again]
    email = Offer("o", "email", consent=("email", "marketing"))
    retention = 10 * DAY_MS
    assert fired(f'exists("{VIEW}")', events, retention_ms=retention) == [first.id]
    assert fired(f'exists("{VIEW}")', events, retention_ms=30 * DAY_MS) == [first.id, again.id]
    kept = run(journey(offers=[email], limits=(Limit(1, 30 * DAY_MS),)), events, retention_ms=retention)
    assert reasons(kept) == [("o", engine.WON), ("o", engine.LIMIT)]


# --- orders with lines --------------------------------------------------------------------------------


def test_an_order_counts_once_and_its_lines_by_product(make: Maker) -> None:
    lines = (
        Line("a", "x", 100, 200, 2, has_amount=True),
        Line("a", "x", 100, 100, has_amount=True),
        Line("b", "y", 50, 50, has_amount=True),
    )
    order = make(ORDER, 0, lines=lines, amount_minor=350)
    assert value(f'count("{ORDER}")', [order, make(ASK, 1)]) == 1.0
    assert value(f'count("{ORDER}", by="product")', [order, make(ASK, 1, product="a")]) == 2.0
    assert value(f'sum("{ORDER}", of="amount")', [order, make(ASK, 1)]) == 3.5
    assert value(f'sum("{ORDER}", of="amount", by="product")', [order, make(ASK, 1, product="a")]) == 3.0
    assert value(f'sum("{ORDER}", of="quantity", by="category")', [order, make(ASK, 1, category="x")]) == 3.0
    assert value(f'distinct("{ORDER}", of="product")', [order, make(ASK, 1)]) == 2.0


def test_a_journey_fires_once_for_the_first_line_on_which_it_holds(make: Maker) -> None:
    order = make(
        ORDER, 0, lines=(Line("a", price_minor=100), Line("b", price_minor=900), Line("c", price_minor=950))
    )
    offer = Offer("o", "web", context=compile_number("event.price", SCOPE))
    reference = run(journey("event.price > 5", on=[ORDER], offers=[offer]), [order])
    assert [a.numbers.context for a in reference.actions] == [9.0]
    # the header comes first, has no product, and carries the total
    whole = make(ORDER, 1, amount_minor=2000, lines=order.lines)
    offer = Offer("o", "web", context=compile_number("event.amount", SCOPE))
    reference = run(journey('event.product == "" and event.amount > 5', on=[ORDER], offers=[offer]), [whole])
    assert [a.numbers.context for a in reference.actions] == [20.0]


def test_conditions_on_a_line_see_all_lines_of_the_order(make: Maker) -> None:
    order = make(ORDER, 0, lines=(Line("a"), Line("b"), Line("a")))
    reference = run(
        journey(f'count("{ORDER}", by="product") >= 2', on=[ORDER], limits=(Limit(1, DAY_MS, "product"),)),
        [order],
    )
    customer = reference.customers[USER, "anna"]
    assert [s.product for s in customer.sent] == [field_hash("a", SETTINGS.secret)]


# --- duplicates and floods ----------------------------------------------------------------------------


def test_a_duplicate_is_ignored_entirely(make: Maker) -> None:
    view = make(VIEW, 0)
    again = replace(view, time_ms=at(3))
    ask = make(ASK, 4)
    reference = run(journey(f'count("{VIEW}") >= 2'), [view, again, ask])
    assert reference.actions == []
    assert reference.counters["duplicates"] == 1
    # it does not even move the clock
    assert run(journey(), [view, again, make(ASK, 1)]).decisions[0].now_ms == at(1)


def test_an_id_is_forgotten_after_a_day_and_after_64_others(make: Maker) -> None:
    view = make(VIEW, 0)
    count = f'count("{VIEW}") >= 2'
    just = replace(view, time_ms=view.time_ms + DAY_MS - 1)
    day_later = replace(view, time_ms=view.time_ms + DAY_MS)
    ask = make(ASK, 2 * 24 * 60)
    assert fired(count, [view, just, ask]) == []
    assert fired(count, [view, day_later, ask]) == [ask.id]
    others = [make("page", 1) for _ in range(64)]
    ask = make(ASK, 3)
    assert fired(count, [view, *others[:63], replace(view, time_ms=at(2)), ask]) == []
    reference = run(journey(count), [view, *others, replace(view, time_ms=at(2)), ask])
    assert [a.trigger for a in reference.actions] == [ask.id]
    assert reference.counters["dedupe_overflow"] == 3  # the view, and for the last two events one each


def test_the_same_id_of_another_customer_is_no_duplicate(make: Maker) -> None:
    view = make(VIEW, 0)
    reference = run(journey(), [view, replace(view, customer="ben")])
    assert reference.counters["duplicates"] == 0


def test_a_flood_is_dropped_for_a_while(make: Maker) -> None:
    # minute 0: vvv v!   the fourth is one too many (at most 3): it counts, later ones do not, for 60 min
    views = [make(VIEW, 0.1) for _ in range(5)]
    before, after = make(ASK, 60), make(ASK, 60.2)
    settings: dict[str, Any] = {"rate_events_per_minute_max": 3, "quarantine_ms": HOUR_MS}
    reference = run(journey(f'count("{VIEW}") == 4'), [*views, before, after], **settings)
    assert [a.trigger for a in reference.actions] == [after.id]
    assert reference.counters["quarantined_events"] == 2
    assert reference.counters["quarantines"] == 1
    # the same number spread over two UTC minutes is no flood
    spread = [make(VIEW, n) for n in (0.8, 0.9, 0.95, 1.0, 1.1)]
    assert run(journey(), spread, **settings).counters["quarantined_events"] == 0


# --- consent ------------------------------------------------------------------------------------------

EMAIL = Offer("o", "email", consent=("email", "marketing"))


def consent_change(make: Maker, minute: float, granted: bool, **fields: Any) -> Event:
    return make("Consent Changed", minute, consent=Consent("email", "marketing", granted), **fields)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ([], engine.NO_CONSENT),
        ([(0, True)], engine.WON),
        ([(0, True), (1, False)], engine.NO_CONSENT),
        ([(1, False), (0, True)], engine.NO_CONSENT),  # the last by event time, not by arrival
        ([(0, False), (1, True)], engine.WON),
        ([(1, True), (1, False)], engine.NO_CONSENT),  # equal times: withdrawal
        ([(1, False), (1, True)], engine.NO_CONSENT),
    ],
)
def test_consent_is_the_last_by_time_and_withdrawal_wins_a_tie(
    make: Maker, changes: list[tuple[float, bool]], reason: int
) -> None:
    events = [consent_change(make, minute, granted) for minute, granted in changes]
    assert reasons(run(journey(offers=[EMAIL]), [*events, make(ASK, 5)])) == [("o", reason)]


def test_consent_is_per_channel_and_purpose(make: Maker) -> None:
    offers = [EMAIL, replace(EMAIL, id="s", consent=("email", "service"), placement="s"), Offer("w", "web")]
    reference = run(journey(offers=offers, alongside=True), [consent_change(make, 0, True), make(ASK, 1)])
    assert sorted(reasons(reference)) == [("o", engine.WON), ("s", engine.NO_CONSENT), ("w", engine.WON)]


SPAM = "Email Marked as Spam"


def suppression(make: Maker, minute: float, name: str = SPAM, channel: str = "email", **fields: Any) -> Event:
    return make(name, minute, consent=Consent(channel, "", False), **fields)


@pytest.mark.parametrize("name", ["Unsubscribed", "Email Bounced", SPAM])
def test_a_suppression_ends_its_channel_for_every_purpose(make: Maker, name: str) -> None:
    #  0 1 2      3            5
    #  + + + all  suppression  ?
    service = Offer("s", "email", "s", consent=("email", "service"))
    push = Offer("p", "push", consent=("push", "marketing"))
    granted = [
        make("Consent Changed", n, consent=Consent(*offer.consent, True))
        for n, offer in enumerate((EMAIL, service, push))
        if offer.consent
    ]
    events = [*granted, suppression(make, 3, name), make(ASK, 5)]
    reference = run(journey(offers=[EMAIL, service, push], alongside=True), events)
    assert sorted(reasons(reference)) == [
        ("o", engine.SUPPRESSED),
        ("p", engine.WON),
        ("s", engine.SUPPRESSED),
    ]


@pytest.mark.parametrize(
    ("granted", "suppressed", "withdrawn", "reason"),
    [
        (2, 1, None, engine.WON),  # a later grant lifts it
        (1, 2, None, engine.SUPPRESSED),
        (1, 1, None, engine.SUPPRESSED),
        (0, 1, 2, engine.NO_CONSENT),  # the last tells why
        (0, 2, 1, engine.SUPPRESSED),
        (0, 1, 1, engine.SUPPRESSED),
        (3, 1, 2, engine.WON),
    ],
)
def test_of_grants_withdrawals_and_suppressions_the_last_by_time_holds(
    make: Maker, granted: int, suppressed: int, withdrawn: int | None, reason: int
) -> None:
    said = [consent_change(make, granted, True), suppression(make, suppressed)]
    said += [] if withdrawn is None else [consent_change(make, withdrawn, False)]
    for order in permutations(said):
        assert reasons(run(journey(offers=[EMAIL]), [*order, make(ASK, 5)])) == [("o", reason)]


def test_a_suppression_travels_with_a_merge_and_outlives_the_retention(make: Maker) -> None:
    events = [
        consent_change(make, 0, True),
        anonymous(suppression(make, 1)),
        identify(make, 2),
        make(ASK, 3),
        make(ASK, 20 * 24 * 60),
    ]
    reference = run(journey(offers=[EMAIL]), events, retention_ms=10 * DAY_MS)
    assert reasons(reference) == [("o", engine.SUPPRESSED)] * 2


def test_an_erasure_takes_a_suppression_with_it(make: Maker) -> None:
    erasure = make("Profile Erasure Requested", 2)
    events = [suppression(make, 1), erasure, make(ASK, 3)]
    assert reasons(run(journey(offers=[EMAIL]), events)) == [("o", engine.NO_CONSENT)]


def test_silence_is_consent_where_that_is_declared(make: Maker) -> None:
    service = Offer("s", "email", "s", consent=("email", "service"))
    policies = Policies([journey(offers=[EMAIL, service], alongside=True)], granted=["service"])
    reference = Reference(policies, SETTINGS)
    reference.run(
        [
            make(ASK, 0),
            make("Consent Changed", 1, consent=Consent("email", "service", False)),
            make(ASK, 2),
            make("Profile Erasure Requested", 3),
            make(ASK, 4),
        ]
    )
    refused, allowed = ("o", engine.NO_CONSENT), ("s", engine.WON)
    assert reasons(reference) == [refused, allowed, refused, ("s", engine.NO_CONSENT), refused, allowed]


# --- limits -------------------------------------------------------------------------------------------


def test_a_limit_counts_sends_in_its_window(make: Maker) -> None:
    # 0    1    60   61            at most 2 within 1h
    # ?s   ?s   ?s   ?s            at 60 the first send (0) has left (0, 60]
    # and at 59.9 it has not
    asks = [make(ASK, minute) for minute in (0, 1, 59.9, 60, 60.5)]
    reference = run(journey(limits=(Limit(2, HOUR_MS),)), asks)
    assert [a.trigger for a in reference.actions] == [asks[0].id, asks[1].id, asks[3].id]


def test_a_limit_by_product_holds_for_each_product(make: Maker) -> None:
    asks = [make(ASK, n, product=p) for n, p in enumerate(["a", "b", "a", "", ""])]
    reference = run(journey(limits=(Limit(1, DAY_MS, "product"),)), asks)
    # without a product the limit does not bind
    assert [a.trigger for a in reference.actions] == [asks[0].id, asks[1].id, asks[3].id, asks[4].id]


def test_all_limits_of_a_journey_bind(make: Maker) -> None:
    asks = [make(ASK, n, product=p) for n, p in enumerate(["a", "a", "b", "c"])]
    reference = run(journey(limits=(Limit(1, DAY_MS, "product"), Limit(2, DAY_MS))), asks)
    assert [a.trigger for a in reference.actions] == [asks[0].id, asks[2].id]


def test_a_late_trigger_is_sent_at_the_customers_clock(make: Maker) -> None:
    # the question at 5 arrives when the clock shows 30: the send is at 30, so it still binds at 89
    asks = [make(VIEW, 30), make(ASK, 5), make(ASK, 89), make(ASK, 90)]
    reference = run(journey(limits=(Limit(1, HOUR_MS),)), asks)
    assert [a.trigger for a in reference.actions] == [asks[1].id, asks[3].id]


def test_winners_of_one_event_recheck_the_limit_slot_by_slot(make: Maker) -> None:
    offers = [Offer("e", "email"), Offer("w", "web")]
    reference = run(journey(offers=offers, alongside=True, limits=(Limit(1, DAY_MS),)), [make(ASK, 0)])
    assert reasons(reference) == [("e", engine.WON), ("w", engine.LIMIT)]


# --- caps ---------------------------------------------------------------------------------------------


def capped(
    caps: Sequence[Cap], journeys: Sequence[Journey], events: Sequence[Event], **fields: Any
) -> Reference:
    reference = Reference(Policies(journeys, caps=caps), replace(SETTINGS, **fields))
    reference.run(events)
    return reference


def cap(times: int, window_ms: int, channels: Sequence[str] = CHANNELS, purpose: str = "") -> Cap:
    return Cap("c", times, window_ms, tuple(channels), (purpose,) if purpose else PURPOSES)


def test_a_cap_counts_the_sends_of_all_journeys(make: Maker) -> None:
    # 0    1    59.9  60         at most 1 within 1h, of either journey
    # a?   b?   b?    b?
    journeys = [journey(id="a", on=[VIEW]), journey(id="b", on=[ASK])]
    events = [make(VIEW, 0), make(ASK, 1), make(ASK, 59.9), make(ASK, 60)]
    reference = capped([cap(1, HOUR_MS)], journeys, events)
    assert [a.trigger for a in reference.actions] == [events[0].id, events[3].id]
    assert [reason for _, reason in reasons(reference)] == [engine.WON, engine.CAP, engine.CAP, engine.WON]


def test_a_cap_binds_its_channels_and_purposes_alone(make: Maker) -> None:
    offers = [Offer("w", "web"), Offer("t", "till"), Offer("s", "web", "hero", purpose="service")]
    asks = [make(ASK, 0), make(ASK, 1)]
    beside = journey(offers=offers, alongside=True)
    for bound, expected in (
        (cap(1, HOUR_MS, ["web"]), ["w", "t", "t"]),  # the hero comes after the web's default
        (cap(1, HOUR_MS, ["web"], "marketing"), ["w", "s", "t", "s", "t"]),
        (cap(3, HOUR_MS), ["w", "s", "t"]),
        (cap(4, HOUR_MS), ["w", "s", "t", "w"]),
    ):
        found = [action.offer for action in capped([bound], [beside], asks).actions]
        assert sorted(found) == sorted(expected)


def test_the_limit_of_a_journey_is_asked_before_caps(make: Maker) -> None:
    asks = [make(ASK, 0), make(ASK, 1)]
    reference = capped([cap(1, DAY_MS)], [journey(limits=(Limit(1, HOUR_MS),))], asks)
    assert reasons(reference) == [("o", engine.WON), ("o", engine.LIMIT)]


def test_a_calendar_cap_begins_anew_with_the_customers_day(make: Maker) -> None:
    # Berlin's days of March 2026 begin at 23:00 UTC; that of the 30th at 22:00, for the clocks went forward
    days = 24 * 60
    evenings = [22.5 * 60, 23.5 * 60, 28 * days + 21.5 * 60, 28 * days + 22.5 * 60]
    asks = [make(ASK, minute, timezone="Europe/Berlin") for minute in evenings]
    reference = capped([cap(1, plan.WINDOW_DAY)], [journey()], asks)
    assert len(reference.actions) == 4
    reference = capped([cap(1, plan.WINDOW_DAY)], [journey()], [make(ASK, 22.5 * 60), make(ASK, 23.5 * 60)])
    assert len(reference.actions) == 1  # one day in UTC


def test_sends_of_both_sides_of_a_merge_count(make: Maker) -> None:
    events = [
        make(ASK, 0, "device", kind=ANONYMOUS),
        make(ASK, 1),
        make("identify", 2, anonymous="device"),
        make(ASK, 3),
    ]
    assert len(capped([cap(3, HOUR_MS)], [journey()], events).actions) == 3
    assert len(capped([cap(2, HOUR_MS)], [journey()], events).actions) == 2


# --- the choice ---------------------------------------------------------------------------------------


def test_reasons_are_given_in_order(make: Maker) -> None:
    never = compile_condition("False", SCOPE)
    offers = [
        Offer("a", "web", when=never, applicable=never, suitable=never),
        Offer("a2", "web", applicable=never, suitable=never, currency="USD"),
        Offer("a3", "web", suitable=never, currency="USD", consent=("web", "marketing")),
        Offer("b", "web", currency="USD", consent=("web", "marketing")),
        Offer("c", "web", consent=("web", "marketing")),
        Offer("d", "web", value=0.1),
        Offer("e", "web", value=2.0),
        Offer("f", "web", value=3.0),
        Offer("g", "till", value=9.0),
    ]
    reference = run(journey(offers=offers, score_min=0.5), [make(ASK, 0)])
    assert dict(reasons(reference)) == {
        "a": engine.NOT_ELIGIBLE,
        "a2": engine.NOT_APPLICABLE,
        "a3": engine.NOT_SUITABLE,
        "b": engine.CURRENCY,
        "c": engine.NO_CONSENT,
        "d": engine.BELOW_MINIMUM,
        "e": engine.OUTSCORED,
        "f": engine.OTHER_SLOT,
        "g": engine.WON,
    }
    assert reference.actions[0].numbers.propensity == 0.5


def test_score_is_propensity_context_value_lever_in_that_order(make: Maker) -> None:
    features = tuple(compile_number(text, SCOPE) for text in ("event.price", "event.quantity"))
    offer = Offer("o", "web", bias=-0.1, weights=(0.3, -0.7), context=1.1, value=3.3, lever=0.9)
    reference = run(journey(offers=[offer], features=features), [make(ASK, 0, price_minor=123, quantity=3)])
    z = -0.1
    z += 0.3 * 1.23
    z += -0.7 * 3.0
    p = 1.0 / (1.0 + math.exp(-z))
    assert reference.actions[0].numbers.score == p * 1.1 * 3.3 * 0.9


def test_logit_is_clamped() -> None:
    assert engine.propensity(1e9, [], []) == 1.0 / (1.0 + math.exp(-60.0))
    assert engine.propensity(-1e9, [], []) == 1.0 / (1.0 + math.exp(60.0))


def test_a_tie_goes_to_priority_then_offer_then_journey(make: Maker) -> None:
    low = journey(id="a", priority=10, offers=[Offer("a", "web")])
    high = journey(id="b", priority=20, offers=[Offer("z", "web"), Offer("y", "web")])
    same = journey(id="a2", priority=20, offers=[Offer("y", "web")])
    winner = run([low, high, same], [make(ASK, 0)]).actions
    assert [(a.journey, a.offer) for a in winner] == [("a2", "y")]


def test_one_slot_wins_unless_its_journey_stands_alongside(make: Maker) -> None:
    #           web   till   email
    # plain      3     2
    # alongside              1
    plain = journey(id="plain", offers=[Offer("w", "web", value=3.0), Offer("t", "till", value=2.0)])
    beside = journey(id="beside", offers=[Offer("e", "email", value=1.0)], alongside=True)
    reference = run([plain, beside], [make(ASK, 0)])
    assert sorted(reasons(reference)) == [("e", engine.WON), ("t", engine.OTHER_SLOT), ("w", engine.WON)]


# --- who the customer is ------------------------------------------------------------------------------


def anonymous(event: Event) -> Event:
    return replace(event, customer="cookie", kind=ANONYMOUS)


def identify(make: Maker, minute: float, customer: str = "anna") -> Event:
    return make("identify", minute, customer, anonymous="cookie")


def test_identify_brings_the_past_along_before_it_is_decided_on(make: Maker) -> None:
    # cookie  v  v  .
    # anna    .  .  i      two views at the identify itself
    events = [anonymous(make(VIEW, 0)), anonymous(make(VIEW, 1)), identify(make, 2)]
    assert value(f'count("{VIEW}")', events) == 2.0


def test_events_of_a_known_cookie_belong_to_the_customer(make: Maker) -> None:
    ask = make(ASK, 3)
    events = [identify(make, 0), anonymous(make(VIEW, 1)), ask]
    reference = run(journey(f'exists("{VIEW}")'), events)
    assert [(a.trigger, a.customer) for a in reference.actions] == [(ask.id, (USER, "anna"))]


def test_kinds_of_identifiers_do_not_mix(make: Maker) -> None:
    events = [make(VIEW, 0, kind=LOYALTY), make(VIEW, 1, kind=ANONYMOUS), make(ASK, 2)]
    assert fired(f'exists("{VIEW}")', events) == []


def test_merging_keeps_consent_sends_and_ids(make: Maker) -> None:
    view = make(VIEW, 0)
    sent = anonymous(make(ASK, 1))
    events = [
        consent_change(make, 2, True),
        anonymous(consent_change(make, 3, False)),
        anonymous(view),
        sent,
        identify(make, 4),
        view,  # a duplicate now, whichever way it comes
        make(ASK, 5),
    ]
    web = Offer("w", "web")
    reference = run(journey(offers=[EMAIL, web], limits=(Limit(1, DAY_MS),)), events)
    assert reference.counters["duplicates"] == 1
    assert reasons(reference)[:2] == [("o", engine.NO_CONSENT), ("w", engine.WON)]
    assert reasons(reference)[2:] == [("o", engine.NO_CONSENT), ("w", engine.LIMIT)]


def test_the_order_of_merging_does_not_matter(make: Maker) -> None:
    # two cookies with interleaved views become anna, in either order
    one = [replace(make(VIEW, n, product=p), customer="c1", kind=ANONYMOUS) for n, p in ((0, "a"), (4, "b"))]
    two = [replace(make(VIEW, n, product=p), customer="c2", kind=ANONYMOUS) for n, p in ((2, "b"), (3, "c"))]
    first, second = (make("identify", 6, anonymous=cookie) for cookie in ("c1", "c2"))
    for links in ([first, second], [second, first]):
        events = [*one, *two, *links, make(ASK, 8)]
        assert value(f'distinct("{VIEW}", of="product", within="6m")', events) == 2.0
        assert value(f'count("{VIEW}")', events) == 4.0
        assert value(f'recency("{VIEW}")', events) == 4 * MINUTE_MS


def test_reference_events_belong_to_nobody(make: Maker) -> None:
    reference = run(journey(), [make("Price Updated", 0, customer="")])
    assert reference.customers == {}
    assert reference.counters["reference_events"] == 1


# --- decoding -----------------------------------------------------------------------------------------

DECODING = DecodeSettings(arrival_ms=ARRIVAL_MS)
PLAIN = {"id": "1", "type": VIEW, "time": "2026-03-01T01:00:00+01:00", "userId": "anna"}


def decode_one(message: Any) -> Event:
    decoded = decode([json.dumps(message).encode()], DECODING)
    assert decoded.dead == []
    (event,) = decoded.events
    return event


def test_the_forms_of_a_message_say_the_same() -> None:
    plain = decode_one({**PLAIN, "product_id": "a", "price": "1.005", "source": "shop"})
    assert (plain.time_ms, plain.product, plain.price_minor, plain.amount_minor) == (MIDNIGHT, "a", 100, 100)
    envelope = {
        "specversion": "1.0",
        "id": "1",
        "type": VIEW,
        "source": "shop",
        "time": "2026-03-01T00:00:00.0009Z",
    }
    assert decode_one({**envelope, "data": {"userId": "anna", "product_id": "a", "price": 1.005}}) == plain
    segment = {
        "type": "track",
        "event": "view_item",
        "messageId": "1",
        "userId": "anna",
        "originalTimestamp": "2026-03-01T05:00:00Z",
        "sentAt": "2026-03-01T05:00:10Z",
        "receivedAt": "2026-03-01T00:00:10Z",
        "source": "shop",
        "properties": {"product_id": "a", "price": 1.005},
    }
    assert decode_one({"batch": [segment]}) == plain


def test_money_is_decimal_text_rounded_half_to_even_by_the_currency() -> None:
    assert decode_one({**PLAIN, "price": "0.125"}).price_minor == 12
    assert decode_one({**PLAIN, "price": "0.135"}).price_minor == 14
    assert decode_one({**PLAIN, "price": 7, "currency": "JPY", "quantity": 3}).amount_minor == 21
    assert decode_one({**PLAIN, "price": "1.2345", "currency": "KWD"}).price_minor == 1234


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": ""},
        {"type": "Product Vieved"},
        {"time": None},
        {"time": "2026-03-01T00:00:00"},
        {"time": "1999-12-31T23:59:59Z"},
        {"time": "2026-04-02T00:00:00Z"},
        {"userId": None},
        {"userId": 7},
        {"currency": "EUX"},
        {"price": "many"},
        {"price": True},
        {"quantity": 1.5},
        {"quantity": -1},
        {"products": {}},
        {"type": "Consent Changed", "channel": "pigeon", "granted": True},
        {"type": "Unsubscribed", "channel": "pigeon"},
    ],
)
def test_dead_letters(change: dict[str, Any]) -> None:
    decoded = decode([json.dumps({**PLAIN, **change}).encode()], DECODING)
    assert decoded.events == []
    assert len(decoded.dead) == 1


def test_late_events_are_split_off_by_their_partitions_clock() -> None:
    # partition 0:  10  4  5  |  partition 1:  4     lateness 5 min: 4 is late in 0, just in time in 1
    def message(identifier: str, minute: int) -> str:
        return json.dumps({**PLAIN, "id": identifier, "time": f"2026-03-01T00:{minute:02}:00Z"})

    one = "\n".join([message("a", 10), message("b", 4), message("c", 5)]).encode()
    two = message("d", 4).encode() + b"\n\n"
    decoded = decode([one, two], DECODING)
    assert [late.event.id for late in decoded.late] == ["b"]
    assert [(e.id, e.clock_ms) for e in decoded.events] == [("d", at(4)), ("a", at(10)), ("c", at(10))]


# --- hashes -------------------------------------------------------------------------------------------


def test_hashes_are_those_of_the_published_function() -> None:
    # vectors of SipHash-1-3 with key 00 01 .. 0f, messages of 0 and 15 bytes 00 01 ..
    import numpy as np

    from segue_kernels.siphash import hash_bytes, hash_bytes128

    k0, k1 = (int.from_bytes(bytes(range(s, s + 8)), "little") for s in (0, 8))
    assert siphash64(b"", k0, k1) == 0xABAC0158050FC4DC
    for length in range(20):
        message = bytes(range(length))
        words = np.frombuffer(message, np.uint8)
        assert siphash64(message, k0, k1) == int(hash_bytes(words, np.uint64(k0), np.uint64(k1)))
        low, high = hash_bytes128(words, np.uint64(k0), np.uint64(k1))
        assert siphash128(message, k0, k1) == (int(low), int(high))
