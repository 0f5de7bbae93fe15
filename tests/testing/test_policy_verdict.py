"""What was expected against what came out: matched as well as can be, drawn in time, each difference with a hint."""

from __future__ import annotations

from typing import Any

import msgspec

from segue.policy.examples import Example
from segue.testing.judge import judge
from segue.testing.play import Candidate, Played
from segue.testing.timeline import timeline

HOUR_MS = 3_600_000


def example(expect: list[dict[str, Any]], **fields: Any) -> Example:
    events = [{"at": "0m", "event": "Product Added", "product": "tent", "price": 199.0}]
    return msgspec.convert(
        {"name": "e", "events": events, "expect": expect, "until": "1d", **fields}, Example
    )


def action(at_ms: int, **fields: Any) -> dict[str, Any]:
    plain = {
        "at_ms": at_ms,
        "customer_id": "customer",
        "journey": "cart",
        "step": 1,
        "offer": "mail",
        "channel": "email",
        "product_id": "tent",
        "category": None,
        "items": [],
    }
    return {**plain, **fields}


def drawn(of: Example, played: Played) -> str:
    return "\n".join(timeline(of, played, judge(of, played)))


def test_as_expected() -> None:
    of = example([{"at": "1h", "journey": "cart", "step": 1, "product": "tent"}])
    played = Played(actions=[action(HOUR_MS)])
    assert judge(of, played).passed
    assert [line.split() for line in drawn(of, played).splitlines()] == [
        ["0m", "--o", "Product", "Added,", "tent,", "199"],
        ["1h", "--*", "cart", "step", "1:", "mail", "(email),", "tent"],
        ["1d", "--+", "end"],
    ]


def test_the_vaguer_expectation_takes_what_is_left() -> None:
    of = example([{"at": "1h"}, {"at": "1h", "offer": "mail"}])
    assert judge(of, Played(actions=[action(HOUR_MS), action(HOUR_MS, offer="push")])).passed
    assert not judge(of, Played(actions=[action(HOUR_MS)])).passed


def test_nothing_may_happen_where_nothing_is_expected() -> None:
    of = example([])
    assert judge(of, Played()).passed
    verdict = judge(of, Played(actions=[action(HOUR_MS)]))
    assert verdict.hints == [
        "at 1h: cart, offer mail was not expected: list it in `expect`, or change the conditions that let it happen"
    ]
    assert "--!  not expected: cart step 1" in drawn(of, Played(actions=[action(HOUR_MS)]))


def test_hints_say_why_it_did_not_happen() -> None:
    wanted = [{"at": "1h", "journey": "cart"}]

    def hint(played: Played, **fields: Any) -> str:
        [told] = [text for text in judge(example(wanted, **fields), played).hints if "did not" in text]
        return told

    assert "set `until`" in hint(Played(), until="30m")
    assert "nothing was decided" in hint(Played())
    assert "it happened at 2h" in hint(Played(actions=[action(2 * HOUR_MS)]))
    lost = Played(decisions=[(HOUR_MS, [Candidate("cart", "mail", "email", "no_consent", 0.0)])])
    assert "nobody agreed" in hint(lost)
    assert "cart: mail (email) lost: no_consent" in drawn(example(wanted), lost)
    other = Played(decisions=[(HOUR_MS, [Candidate("else", "mail", "email", "limit", 0.0)])])
    assert "other journeys" in hint(other)


def test_changes_are_compared_only_if_expected() -> None:
    change = {"at_ms": HOUR_MS, "name": "keen", "change": "entered", "customer_id": "customer"}
    assert judge(example([]), Played(changes=[change])).passed
    assert not judge(example([], expect_changes=[]), Played(changes=[change])).passed
    expected = [{"at": "1h", "name": "keen", "change": "entered"}]
    of = example([], expect_changes=expected)
    assert judge(of, Played(changes=[change])).passed
    assert judge(of, Played()).hints == ["at 1h: entered keen is missing"]
    assert "--*  entered keen" in drawn(of, Played(changes=[change]))


def test_what_is_taken_back_is_compared_only_if_expected() -> None:
    back = {**action(HOUR_MS), "reason": "goal"}
    assert judge(example([]), Played(withdrawn=[back])).passed
    assert "--.  cart step 1: mail (email) taken back: goal" in drawn(example([]), Played(withdrawn=[back]))
    none = example([], expect_withdrawn=[])
    [hint] = judge(none, Played(withdrawn=[back])).hints
    assert hint == "at 1h: that mail was taken back (goal) was not expected"
    assert "--!  not expected: cart step 1" in drawn(none, Played(withdrawn=[back]))
    of = example([], expect_withdrawn=[{"at": "1h", "offer": "mail", "reason": "goal"}])
    assert judge(of, Played(withdrawn=[back])).passed
    [hint] = judge(of, Played(withdrawn=[{**back, "reason": "consent"}])).hints[:1]
    assert "at 1h: offer mail, reason goal was not taken back" in hint
    assert "--x  expected: offer mail, reason goal taken back" in drawn(of, Played())


def test_events_that_were_not_used_are_a_failure() -> None:
    verdict = judge(example([]), Played(unused=["event 2: it came 10m after its time"]))
    assert verdict.hints == ["event 2: it came 10m after its time: it was not used"]
