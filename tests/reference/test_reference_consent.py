"""The judge of consent sees what is wrong, and only that: of a reference that asks nobody, and of one that does."""

from __future__ import annotations

from typing import Any

import pytest

from segue.limits import MINUTE_MS
from tests.reference.consent import judged_actions, run_watched, steps_of
from tests.reference.customer import Customer
from tests.reference.engine import WON, Reference, Settings
from tests.reference.event import ANONYMOUS, Consent, Event
from tests.reference.policies import read_policies
from tests.reference.random_events import START_MS

POLICY = """
policy = "p"
version = 1
[[journeys]]
id = "now"
on = ["Cart Viewed"]
when = 'True'
[[journeys.offers]]
id = "mail"
channel = "email"
[[journeys.offers]]
id = "push"
channel = "push"
purpose = "service"
[[journeys]]
id = "later"
on = ["Product Added"]
wait = "30m"
when = 'True'
[[journeys.offers]]
id = "mail"
channel = "email"
"""
GRANTED = """
[[purposes]]
id = "service"
unknown = "granted"
"""
MAIL = Consent("email", "marketing", True)
NO_MAIL = Consent("email", "marketing", False)
BOUNCED = {"consent": Consent("email", "", False)}
NO_PUSH = Consent("push", "", False)


class Careless(Reference):
    """One that addresses everybody."""

    def refusal(self, customer: Customer, register: tuple[str, str]) -> int:
        return WON


def events(*told: tuple[Any, ...]) -> list[Event]:
    """(type, minute, and perhaps further fields) each, in the order of arrival."""
    made: list[Event] = []
    clock = 0
    for number, (name, minute, *fields) in enumerate(told):
        time = START_MS + minute * MINUTE_MS
        clock = max(clock, time)
        given = {"customer": "anna", **(fields[0] if fields else {})}
        made.append(Event(id=f"e{number}", type=name, time_ms=time, clock_ms=clock, **given))
    return made


def said(consent: Consent) -> dict[str, Any]:
    return {"consent": consent}


ASK = "Cart Viewed"
WAIT = "Product Added"
CHANGED = "Consent Changed"
COOKIE = {"customer": "cookie", "kind": ANONYMOUS}


@pytest.mark.parametrize(
    ("told", "allowed"),
    [
        ([(ASK, 0)], [False]),
        ([(CHANGED, 0, said(MAIL)), (ASK, 1)], [True]),
        ([(CHANGED, 0, said(MAIL)), (CHANGED, 1, said(NO_MAIL)), (ASK, 2)], [False]),
        ([(CHANGED, 1, said(NO_MAIL)), (CHANGED, 0, said(MAIL)), (ASK, 2)], [False]),
        ([(CHANGED, 0, said(MAIL)), (CHANGED, 0, said(NO_MAIL)), (ASK, 2)], [False]),
        ([(CHANGED, 0, said(MAIL)), (ASK, 1), (CHANGED, 2, said(NO_MAIL)), (ASK, 3)], [True, False]),
        ([(CHANGED, 0, said(MAIL)), ("Email Bounced", 1, BOUNCED), (ASK, 2)], [False]),
        ([(CHANGED, 0, said(MAIL)), ("Unsubscribed", 1, said(NO_PUSH)), (ASK, 2)], [True]),
        (
            [(CHANGED, 0, said(MAIL)), ("Email Bounced", 1, BOUNCED), (CHANGED, 2, said(MAIL)), (ASK, 3)],
            [True],
        ),
        ([(CHANGED, 0, said(MAIL)), ("Profile Erasure Requested", 1), (ASK, 2)], [False]),
        (
            [
                (CHANGED, 0, said(MAIL)),
                ("Email Bounced", 1, {**BOUNCED, **COOKIE}),
                (ASK, 2),
                ("identify", 3, {"anonymous": "cookie"}),
                (ASK, 4),
            ],
            [True, False],
        ),
        # a wait is over at 30: what comes after the lateness finds it decided, what comes within it does not
        ([(CHANGED, 0, said(MAIL)), (WAIT, 0), (CHANGED, 36, said(NO_MAIL))], [True]),
        ([(CHANGED, 0, said(MAIL)), (WAIT, 0), (CHANGED, 34, said(NO_MAIL))], [False]),
        ([(CHANGED, 0, said(MAIL)), (WAIT, 0), ("page", 36), (CHANGED, 10, said(NO_MAIL))], [True]),
    ],
)
def test_who_asks_nobody_is_found_out(told: list[tuple[Any, ...]], allowed: list[bool]) -> None:
    policies = read_policies([POLICY], Settings().secret)
    made = events(*told)
    end_ms = made[-1].clock_ms + 60 * MINUTE_MS
    careless = steps_of(Careless(policies, Settings()), made, end_ms)
    found = [may for _, may in judged_actions(careless, policies, Settings().lateness_ms)]
    assert found == allowed
    run_watched(Reference(policies, Settings()), made, end_ms)
    if not all(found):
        with pytest.raises(AssertionError, match="without consent"):
            run_watched(Careless(policies, Settings()), made, end_ms)


@pytest.mark.parametrize(("more", "allowed"), [("", False), (GRANTED, True)])
def test_silence_is_consent_where_that_is_declared(more: str, allowed: bool) -> None:
    text = POLICY.replace('id = "push"', 'id = "push"\nvalue = 2.0')
    policies = read_policies([text + more], Settings().secret)
    made = events((ASK, 0), ("Unsubscribed", 1, said(NO_PUSH)), (ASK, 2))
    careless = steps_of(Careless(policies, Settings()), made, made[-1].clock_ms)
    judged = [(a.offer, may) for a, may in judged_actions(careless, policies, Settings().lateness_ms)]
    assert judged == [("push", allowed), ("push", False)]
