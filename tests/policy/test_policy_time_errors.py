"""Every mistake with the words of time and order gets its place, what was found, and a hint."""

from __future__ import annotations

from dataclasses import replace

import pytest
from random_expressions import scope

from segue.errors import PolicyError
from segue.policy.expression import compile_condition
from segue.policy.scope import Scope

V, A = "Product Viewed", "Product Added"
ALL = scope("$.journeys[0].still")
NO_WAIT = scope("$.journeys[0].when", waiting=False)
CUSTOMER = scope("$.segments[0].when", waiting=False, customer_only=True)
BARE = Scope("test.toml", "$.journeys[0].when", ALL.types, 1, 100, hash)

# fmt: off
ERRORS = [
    # scope, text, place, part of the message, part of the hint
    (ALL, f'exists("{V}", calendar="year")', "column 35", 'knows no "year"', "day"),
    (ALL, f'exists("{V}", calendar="day", session="30m")', "column 1", "both `calendar` and `session`", "one of"),
    (ALL, f'exists("{V}", within="1h", session="30m")', "column 1", "both `within` and `session`", "one of them"),
    (ALL, f'exists("{V}", session="1s")', "column 34", "out of range", "1m to 365d"),
    (ALL, f'exists("{V}", session="400d")', "column 34", "out of range", "1m to 365d"),
    (ALL, f'exists("{V}", session=30)', "column 34", "duration in quotes", "30m"),
    (ALL, f'exists("{V}", source=3)', "column 33", "a source in quotes", "web"),
    (ALL, f'exists("{V}", source="")', "column 33", "empty", "web"),
    (ALL, f'recency("{V}", every="1d") > 3', "column 33", "takes no `every`", ""),
    (ALL, f'exists("{V}", after="1d")', "column 32", "`after=` is reserved", "absent"),
    (ALL, f'exists("{V}", where="1d")', "column 32", "`where=` is reserved", "exists("),
    (ALL, f'exists(any_of("{V}"))', "column 8", "2 to 8", "any_of("),
    (ALL, f'exists(any_of("{V}", "{V}"))', "column 33", "twice", "once"),
    (ALL, f'exists(any_of("{V}", x=1))', "column 8", "2 to 8", "any_of("),
    (ALL, f'exists(any_of("{V}", "Product Add"))', "column 33", '"Product Add"', 'did you mean "Product Added"?'),
    (ALL, f'distinct(any_of("{V}", "{A}"), of="store") > 1', "column 10", "any_of() does not stand", "one event"),
    (ALL, f'any_of("{V}", "{A}")', "column 1", "stands where an event does", "exists(any_of("),
    (ALL, f'sequence("{V}")', "column 1", "2 to 8 events", "sequence("),
    (ALL, "sequence(" + f'"{V}", ' * 9 + ")", "column 1", "2 to 8 events", "sequence("),
    (ALL, f'sequence("{V}", "{A}", up_to=33)', "column 51", "whole number", "1 to 32"),
    (ALL, f'sequence("{V}", "{A}", every="1d")', "column 51", "takes no `every`", ""),
    (ALL, f'sequence("{V}", "{A}", without="{A}")', "column 53", "in `without` too", "never hold"),
    (ALL, f'sequence("{V}", 3)', "column 28", "event's name in quotes", "Product Viewed"),
    (ALL, f'sequence("{V}", "Product Add")', "column 28", '"Product Add"', "did you mean"),
    (ALL, f'sequence("{V}", *x)', "column 28", "`*`", ""),
    (ALL, f'sequence("{V}", "{A}", within="1d") > 1', "column 1", "a condition is not compared", ""),
    (ALL, f'decayed("{V}") > 1', "column 1", "needs `half_life`", 'half_life="7d"'),
    (ALL, f'decayed("{V}", half_life="7x") > 1', "column 37", "not a duration", "30m"),
    (ALL, f'decayed("{V}", half_life="7d", of="size") > 1', "column 46", 'no "size"', "amount"),
    (ALL, f'decayed("{V}", half_life="7d", within="1d") > 1', "column 50", "takes no `within`", ""),
    (ALL, f'trend("{V}", recent="7d") > 1', "column 1", "needs `habit`", "trend("),
    (ALL, f'trend("{V}", recent="30d", habit="7d") > 1', "column 32", "not shorter", "trend("),
    (ALL, f'first("{V}") > 1', "column 1", "needs `of`", "first("),
    (ALL, f'first("{V}", of="price", within="1d") > 1', "column 44", "takes no `within`", ""),
    (ALL, f'last("{V}", of="price", every="1d") > 1', "column 42", "takes no `every`", ""),
    (ALL, f'age("{V}", within="1d") > 1', "column 30", "takes no `within`", ""),
    (ALL, 'joined("x") > 1', "column 8", 'no join "x"', "offer-redeemed"),
    (ALL, 'joined("offer-redemed") > 1', "column 8", "offer-redemed", 'did you mean "offer-redeemed"?'),
    (ALL, "joined() > 1", "column 1", "needs a join", "joined("),
    (BARE, 'joined("x") > 1', "column 8", 'no join "x"', '[[joins]] id = "x"'),
    (ALL, 'segment("loyall")', "column 9", 'no segment "loyall"', 'did you mean "loyal"?'),
    (BARE, 'segment("vip")', "column 9", 'no segment "vip"', '[[segments]] id = "vip"'),
    (ALL, "segment(loyal)", "column 9", "a segment in quotes", "loyal"),
    (ALL, "segment()", "column 1", "takes one segment", "segment("),
    (ALL, 'stage("activ")', "column 7", 'no stage "activ"', 'did you mean "active"?'),
    (ALL, 'segment("loyal") == 1', "column 1", "not compared", "and, or, not"),
    (ALL, "catalogue.margn > 3", "column 1", "no field `margn`", 'did you mean "margin"?'),
    (ALL, "catalogue > 3", "column 1", "`catalogue` is not known without a field", "catalogue.margin"),
    (ALL, "stock() > 3", "column 1", "no function `stock`", "stock.x"),
    (ALL, "catalogue.brand > 3", "column 1", "catalogue.brand is text", "=="),
    (ALL, "catalogue.brand == 3", "column 20", "catalogue.brand is compared with a number", "catalogue.brand =="),
    (ALL, "catalogue.margin.x > 3", "column 1", "only `event` and tables", ""),
    (BARE, "profile.age > 30", "column 1", "no table `profile`", '[[tables]] name = "profile"'),
    (NO_WAIT, f'absent("{V}")', "column 1", "only after a wait", "wait ="),
    (NO_WAIT, "step == 1", "column 1", "only after a wait", "wait ="),
    (ALL, f'absent("{V}", within="1h")', "column 33", "takes no `within`", ""),
    (CUSTOMER, "event.price > 3", "column 1", "`event.price` asks about an event", "profile.x"),
    (CUSTOMER, f'exists("{V}", by="product")', "column 29", "`by` asks about an event", "ever or in a window"),
    (CUSTOMER, "catalogue.margin > 3", "column 1", "`catalogue.margin` asks", "profile.x"),
    (CUSTOMER, "stock.quantity > 3", "column 1", "`stock.quantity` asks", "profile.x"),
    (replace(CUSTOMER, stages={}), 'stage("new")', "column 1", 'stage("new") is not known here', "segments only"),
    (CUSTOMER, "step > 3", "column 1", "only after a wait", ""),
    (ALL, f'repeated("{V}", 3)', "column 1", "reserved", "not yet in this version"),
    (ALL, f'repeated("{V}", 3)', "column 1", "reserved", ">= 3"),
    (ALL, f'not_between("{V}", "{A}")', "column 1", "reserved", "without="),
    (ALL, "local_hour > 3", "column 1", "reserved", "not yet in this version"),
    (ALL, "local_hour() > 3", "column 1", "reserved", "not yet in this version"),
    (ALL, "weather.rain > 3", "column 1", "`weather.rain` is reserved", "not yet in this version"),
    (ALL, "store.open > 3", "column 1", "`store.open` is reserved", "not yet in this version"),
    (ALL, 'entered("loyal")', "column 1", "no function `entered`", "`on` of a journey"),
    (ALL, "\r1 > 0 and\r\nstep", "line 3, column 1", "a number, where a condition", "compare it"),
    (ALL, "sequence > 3", "column 1", "`sequence` is a function", "call it: sequence("),
]
# fmt: on


@pytest.mark.parametrize(("where", "text", "place", "message", "hint"), ERRORS)
def test_errors(where: Scope, text: str, place: str, message: str, hint: str) -> None:
    with pytest.raises(PolicyError) as caught:
        compile_condition(text, where)
    assert caught.value.found.startswith(f"test.toml: `{where.path}`")
    assert f", {place}:" in caught.value.found
    assert message in caught.value.found
    assert hint in caught.value.hint
    assert caught.value.hint


def test_a_profile_is_known_without_an_event() -> None:
    assert compile_condition('profile.age > 30 and profile.tier == "shoes"', CUSTOMER)
