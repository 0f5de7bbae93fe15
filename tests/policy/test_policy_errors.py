"""Every mistake in a policy gets its file, path, column and a hint; none gets a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_expressions import conditions, scope

from segue.errors import PolicyError
from segue.policy.expression import compile_condition, compile_number
from segue.policy.load import SHIPPED, load_policies
from segue.policy.model import read_policy

SECRET = bytes(range(16))

EXPRESSIONS = [
    # text, place, part of the message, part of the hint
    ("", "", "empty", "for example"),
    ('exists("Product Viewd")', "column 8", 'no event "Product Viewd"', 'did you mean "Product Viewed"?'),
    ('exists("Profile Erasure Requested")', "column 8", "leaves nothing to decide on", "is not written to"),
    ('exists("Price Updated")', "column 8", "no customer", "an event that a customer makes"),
    ('exist("Product Viewed")', "column 1", "no function `exist`", 'did you mean "exists"?'),
    ('exists("Product Viewed", withn="1h")', "column 32", "takes no `withn`", 'did you mean "within"?'),
    ('exists("Product Viewed", within="1 hour")', "column 33", "not a duration", "30m"),
    ('exists("Product Viewed", within="99999d")', "column 33", "out of range", "at most"),
    ('exists("Product Viewed", within="0d")', "column 33", "out of range", "more than 0"),
    ('exists("Product Viewed", within=30)', "column 33", "duration in quotes", "30m"),
    ('exists("Product Viewed", within="1h", every="1d")', "column 1", "both", "one of them"),
    ('exists("Product Viewed", by="brand")', "column 29", 'no "brand"', "known: category, product"),
    ("exists(Product)", "column 8", "`Product` stands where", "Product Viewed"),
    ("exists()", "column 1", "needs an event", "exists("),
    ('exists("Product Viewed", "x")', "column 26", "no further argument", ""),
    ('exists("Product Viewed", **x)', "column 28", "not in the language", ""),
    ('count("Product Viewed")', "column 1", "a number, where a condition", "compare it"),
    ('count("Product Viewed") > "3"', "column 27", "text, where a number", ""),
    ('count("Product Viewed") >= 5000', "column 1", "at most 1024", ""),
    ('count("Product Viewed", up_to=3) >= 5', "column 1", "at most 3", "leave up_to out"),
    ('count("Product Viewed", up_to=0) >= 5', "column 31", "whole number", "1 to 1024"),
    ('recency("Product Viewed") < "30m"', "column 29", "number is needed", 'duration("30m")'),
    ('recency("Product Viewed", every="1d") < 3', "column 33", "takes no `every`", ""),
    ('sum("Order Completed") > 1', "column 1", "needs `of`", "price"),
    ('sum("Order Completed", of="total") > 1', "column 27", 'no "total"', "amount"),
    (
        'sum("Order Completed", of="amount", every="1d", up_to=3) > 1',
        "column 55",
        "no bound",
        "leave up_to out",
    ),
    ('distinct("Product Viewed", of="product", by="product") > 1', "column 1", "1 at most", "exists()"),
    ('event.categry == "shoes"', "column 1", "no field `categry`", 'did you mean "category"?'),
    ('event.category < "shoes"', "column 1", "text", "==, != or in"),
    ("event.category == 3", "column 19", "compared with a number", "quotes"),
    ("event.category", "column 1", "text field, where a condition", "compare it"),
    ("not event.category", "column 5", "text field, where a condition", "=="),
    ('event.category in "shoes"', "column 19", "list of text", "("),
    ("event.category in ()", "column 19", "empty", ""),
    ("event.category in (1, 2)", "column 20", "text is needed", "quotes"),
    ('event.price in ("a", "b")', "column 1", "`in` looks for a number", "only text fields"),
    ('event.type == "Product View"', "column 15", 'no event "Product View"', "Product Viewed"),
    ("event", "column 1", "needs a field", "event.price"),
    ("price > 3", "column 1", "`price` is not known", ""),
    ("weather.rain > 3", "column 1", "reserved", "not yet in this version"),
    ("local_hour() > 3", "column 1", "reserved", "not yet in this version"),
    ("event.price ** 2 > 3", "column 1", "`**`", "+ - * /"),
    ("event.price is 3", "column 1", "`is`", "=="),
    ("(event.price > 3) + 1 > 1", "column 2", "a condition, where a number", "1 if"),
    ("(event.price > 3) == True", "column 2", "not compared", "and, or, not"),
    ("1 if event.price > 1 else event.price > 2", "column 1", "one branch", "one type"),
    ("event.price > 3 and", "column 20", "not an expression", ""),
    ("event.price > 3 && True", "column 18", "not an expression", "and, or, not"),
    ("a) or (b", "column 1", "closes before it opens", "must close"),
    ("abs)(1", "column 1", "closes before it opens", "must close"),
    ("1, 2", "column", "a list stands only after", "in"),
    ("lambda: 1", "column 1", "not in the language", ""),
    ("[x for x in event]", "column 1", "not in the language", ""),
    ("__import__('os').system('x')", "column 1", "only a function's name", ""),
    ("__import__('os')", "column 1", "no function `__import__`", ""),
    ("min(1) > 0", "column 1", "2 to 8", ""),
    ("sqrt(1, 2) > 0", "column 1", "one number", ""),
    ("abs(x=1) > 0", "column 1", "no named arguments", ""),
    ("duration(30) > 1", "column 1", "one text", "30m"),
    ("1e999 > 1", "column 1", "too large", ""),
    ("1j > 1", "column 1", "not in the language", ""),
    ("'\\ud800' == event.category", "column 1", "Unicode", ""),
    (f"event.category == '{'x' * 256}'", "column 19", "256 bytes", ""),
    ("x" * 5_000, "", "5000 characters", "split"),
    ("(" * 100 + "1" + ")" * 100 + " > 0 and x", "", "not known", ""),
    ("(" * 1_000, "column", "not an expression", ""),
    ("not " * 50 + "True", "column 1", "nested deeper", "split"),
    ("1" + "+1" * 400 + " > 0", "column 1", "chain longer", "split"),
    ("\x00", "column 1", "not an expression", ""),
    ("True and\n  exists('Product Viewd')", "line 2, column 10", "Product Viewd", "did you mean"),
    ("'é' == event.category and exists('x')", "column 34", 'no event "x"', ""),
]


@pytest.mark.parametrize(("text", "place", "message", "hint"), EXPRESSIONS)
def test_expression_errors(text: str, place: str, message: str, hint: str) -> None:
    with pytest.raises(PolicyError) as caught:
        compile_condition(text, scope("$.journeys[0].when"))
    assert caught.value.found.startswith("test.toml: `$.journeys[0].when`")
    assert place in caught.value.found
    assert message in caught.value.found
    assert hint in caught.value.hint
    assert caught.value.hint


POLICY = """
policy = "p"
version = 1
[[journeys]]
id = "j"
on = ["Product Viewed"]
when = 'exists("Product Viewed", within="1h")'
limits = [{ times = 1, within = "1d" }]
[journeys.model]
name = "m"
version = "1"
features = [{ name = "views", value = 'count("Product Viewed", within="1h")' }]
[[journeys.offers]]
id = "o"
channel = "email"
weights = { views = 0.5 }
voucher = { campaign = "c", discount_percent = 10 }
"""

BOUNDS = ", discount_min = 1, discount_max = 2"

# fmt: off
FILES = [
    # what is replaced, by what, path, part of the message, part of the hint
    ("version = 1\n[[", "version = '1'\n[[", "$.version", "Expected `int`", "without quotes"),
    ("version = 1\n[[", "version = 0\n[[", "$.version", ">= 1", ""),
    ("version = 1\n[[", "version = 1\nversoin = 2\n[[", "$", "no field `versoin`", 'did you mean "version"?'),
    ("version = 1\n[[", "[[", "$", "`version` is missing", ""),
    ("version = 1\n[[", "version = 1\nexperiments = []\n[[", "$", "experiments", "not yet in this version"),
    ("version = 1\n[[", 'version = 1\ncurrency = "EURO"\n[[', "$.currency", "EURO", 'did you mean "EUR"?'),
    ('policy = "p"', 'policy = "P P"', "$.policy", "regex", "small letters"),
    ('policy = "p"', "policy = p", "", "not TOML", ""),
    ('"Product Viewed"]', '"Product Viewd"]', "$.journeys[0].on[0]", "Product Viewd", "did you mean"),
    ('"Product Viewed"]', '"view_item"]', "$.journeys[0].on[0]", "view_item", ""),
    ('"Product Viewed"]', '"Product Viewed", "Product Viewed"]', "$.journeys[0].on[1]", "twice", ""),
    ('on = ["Product Viewed"]', "on = []", "$.journeys[0].on", "length >= 1", ""),
    ('on = ["Product Viewed"]', 'on = "x"', "$.journeys[0].on", "Expected `array`", "[ ]"),
    ("times = 1,", "times = 0,", "$.journeys[0].limits[0].times", ">= 1", ""),
    ("times = 1,", "times = 1, by = 'shop',", "$.journeys[0].limits[0].by", "shop", "product"),
    ('within = "1d"', 'within = "day"', "$.journeys[0].limits[0].within", "day", "30m"),
    ('within = "1d"', 'withn = "1d"', "$.journeys[0].limits[0]", "withn", "within"),
    ('channel = "email"', 'channel = "mial"', "offers[0].channel", "mial", 'did you mean "mail"?'),
    ('channel = "email"', 'channel = "web"\npurpose = "spam"', "offers[0].purpose", "spam", "marketing"),
    ("views = 0.5", "view = 0.5", "offers[0].weights", '"view"', 'did you mean "views"?'),
    ("views = 0.5", "views = nan", "offers[0].weights", "", ""),
    ("views = 0.5", "views = inf", "offers[0].weights", "", ""),
    ("discount_percent = 10", "discount_percent = 0", "offers[0].voucher.discount_percent", "> 0", ""),
    (", discount_percent = 10", "", "offers[0].voucher", "discount", "one of the two"),
    ("_percent = 10", "_amount = 0.001", "offers[0].voucher.discount_amount", "0.001", "2 decimals"),
    ("_percent = 10", "_percent = 10, valid_for = '1x'", "offers[0].voucher.valid_for", "1x", "30m"),
    ("_percent = 10", "_percent = 10, discount_min = 5", "offers[0].voucher.discount_min", "is 10", "expression"),
    ("_percent = 10", "_percent = 'x'" + BOUNDS, "offers[0].voucher.discount_percent", "`x` is not known", ""),
    ("_percent = 10", "_percent = '5', discount_min = 5", "offers[0].voucher", "`discount_max` is missing", "both"),
    ("_percent = 10", "_percent = '5', discount_min = 5, discount_max = 4", "voucher.discount_min", "5 is more", ""),
    ("_percent = 10", "_percent = '5', discount_min = 1, discount_max = 101", "discount_max", "101 is no", "most 100"),
    ("_percent = 10", "_percent = '5'" + BOUNDS + ", discount_step = 0.001", ".discount_step", "0.001", "decimals"),
    ("_percent = 10", "_amount = '5'" + BOUNDS + ", discount_step = 0.001", ".discount_step", "0.001", "2 decimals"),
    ("_percent = 10", "_amount = '5', discount_min = -1", ".discount_min", ">= 0", ""),
    ('id = "o"\n', 'id = "o"\nvalue = -1\n', "offers[0].value", ">= 0", ""),
    ('id = "o"\n', 'id = "o"\ncontext = "x"\n', "offers[0].context", "`x` is not known", ""),
    ('id = "o"\n', 'id = "o"\nwhen = "1"\n', "offers[0].when`, column 1", "a number", "compare"),
    ('id = "o"\n', 'id = "o"\napplicable = "1"\n', "offers[0].applicable`, column 1", "a number", "compare"),
    ('id = "o"\n', 'id = "o"\nsuitable = "x"\n', "offers[0].suitable`, column 1", "`x` is not known", ""),
    ('id = "o"\n', 'id = "o"\nsuitabel = "x"\n', "offers[0]`", "suitabel", 'did you mean "suitable"?'),
    ("when = 'exists", "applicable = 'step'\nwhen = 'exists", "$.journeys[0].applicable`", "step", "wait"),
    ('value = \'count("Product Viewed"', "value = 'count(\"x\"", "model.features[0].value", '"x"', ""),
    ('name = "views", ', 'name = "Views", ', "model.features[0].name", "regex", ""),
    ("when = 'exists", "expires_after = '3'\nwhen = 'exists", "$.journeys[0].expires_after", '"3"', "30m"),
    ("when = 'exists", "alongside = 'yes'\nwhen = 'exists", "alongside", "bool", "true or false"),
]
# fmt: on


# `on`, and what stands beside it: a journey that waits, one on sessions, and one on changes
WAITS = 'on = ["Product Viewed"]\nwait = ["30m", "1d"]'
NINE_WAITS = [f"{n}m" for n in range(1, 10)]
SESSIONS = 'session = "30m"'
CHANGES = "on = ['entered(\"loyal\")']"
OVER = 'id = "o"\n'  # an offer's first line
VOUCHER = 'voucher = { campaign = "c", discount_percent = 10 }\n'
# what may follow the offer of the policy above
SEGMENT = """[[segments]]
id = "loyal"
when = 'exists("Order Completed")'
"""
STAGES = """[[stages]]
id = "new"
[[stages]]
id = "search"
when = 'exists("Product Viewed")'
"""
RING = """[[stages]]
id = "gone"
when = 'exists("Order Completed")'
from = "back"
[[stages]]
id = "back"
when = 'exists("Product Viewed")'
from = "gone"
"""
JOIN = """[[joins]]
id = "click"
left = "Email Link Clicked"
right = "Order Completed"
within = "7d"
"""
TABLE = """[[tables]]
name = "catalogue"
fields = { margin = "number", brand = "text" }
unknown = { margin = 0.5 }
"""
PURPOSES = """[[purposes]]
id = "service"
unknown = "granted"
"""
# fmt: off
TIME = [
    # what `on` becomes, what is added at the end, what is replaced there, by what, path, message, hint
    ("", "", "", "", "$.journeys[0]", "`on` is missing", "session"),
    (f"on = ['Product Viewed']\n{SESSIONS}", "", "", "", "$.journeys[0].on", "with `session` has no `on`", "leave"),
    (f'{SESSIONS}\nwait = "1d"', "", "", "", "$.journeys[0].wait", "with `session` has no `wait`", "leave"),
    (f"{SESSIONS}\nstill = 'True'", "", "", "", "$.journeys[0].still", "has no `still`", "leave"),
    ('session = "10s"', "", "", "", "$.journeys[0].session", '"10s" is no gap', "1m to 365d"),
    ('session = "366d"', "", "", "", "$.journeys[0].session", '"366d" is no gap', "1m to 365d"),
    ('session = "half an hour"', "", "", "", "$.journeys[0].session", "not a duration", "30m"),
    (f'{SESSIONS}\nby = "product"', "", "", "", "$.journeys[0].by", "has no `by`", "leave"),
    ("on = ['Product Viewed']\nby = 'product'", "", "", "", "$.journeys[0].by", "only beside `wait`", "add wait"),
    ("on = ['Product Viewed']\nrestart = true", "", "", "", "$.journeys[0].restart", "only beside `wait`", "add wait"),
    ("on = ['Product Viewed']\nstill = 'True'", "", "", "", "$.journeys[0].still", "only beside `wait`", "add wait"),
    (WAITS.replace("30m", "1d"), "", "", "", "$.journeys[0].wait[1]", "not longer than the wait before", "ascend"),
    (WAITS.replace("30m", "400d"), "", "", "", "$.journeys[0].wait[0]", '"400d" is too long', "at most 365d"),
    ('on = ["Product Viewed"]\nwait = "soon"', "", "", "", "$.journeys[0].wait", "not a duration", "30m"),
    ('on = ["Product Viewed"]\nwait = []', "", "", "", "$.journeys[0].wait", "length >= 1, found 0", "at least 1"),
    (f'on = ["page"]\nwait = {NINE_WAITS}', "", "", "", "$.journeys[0].wait", "length <= 8, found 9", "at most 8"),
    ('on = ["Product Viewed"]\nwait = 30', "", "", "", "$.journeys[0].wait", "Expected `str | array`", "quotes"),
    (WAITS + '\nby = "store"', "", "", "", "$.journeys[0].by", 'no "store"', "product"),
    (WAITS + '\nrestart = "yes"', "", "", "", "$.journeys[0].restart", "bool", "true or false"),
    (WAITS + "\nstill = 'absent(\"Order\")'", "", "", "", "$.journeys[0].still`, column 8", 'no event "Order"', ""),
    (CHANGES, SEGMENT, '"loyal"', '"loyl"', "$.journeys[0].on[0]", 'no segment "loyal"', 'did you mean "loyl"?'),
    (CHANGES, "", "", "", "$.journeys[0].on[0]", 'no segment "loyal"', "[[segments]]"),
    (CHANGES.replace("entered", "stage"), STAGES, "", "", "$.journeys[0].on[0]", 'no stage "loyal"', "search"),
    (CHANGES.replace("entered", "enters"), SEGMENT, "", "", "on[0]", "no change `enters`", 'did you mean "entered"?'),
    (CHANGES.replace('"loyal"', "loyal"), SEGMENT, "", "", "on[0]", "`entered(loyal)` is not a change", "entered("),
    (CHANGES.replace("]", ", 'entered(\"loyal\")']"), SEGMENT, "", "", "on[1]", "twice", "once"),
    (CHANGES + '\nwait = "1d"', SEGMENT, "", "", "on[0]", "cannot begin a wait", "an event"),
    (CHANGES, SEGMENT * 2, "", "", "$.segments[1].id", '"loyal" is the id of a segment', "unique"),
    (CHANGES, SEGMENT, "Order Completed", "Order", "$.segments[0].when`, column 8", 'no event "Order"', ""),
    (CHANGES, SEGMENT, 'exists("Order Completed")', 'event.type == "page"', "$.segments[0].when", "event", ""),
    (CHANGES, SEGMENT, 'exists("Order Completed")', 'segment("loyal")', "$.segments[0].when", "segment", ""),
    (CHANGES, SEGMENT, "when", "if", "$.segments[0]", "no field `if`", ""),
    (WAITS, STAGES, '"search"', '"new"', "$.stages[1].id", '"new" is the id of a stage', "unique"),
    (WAITS, STAGES, "when = 'exists(\"Product Viewed\")'", "", "$.stages[1]", "`when` is missing", "first stage"),
    (WAITS, STAGES, 'id = "new"', 'id = "new"\nfrom = "search"', "$.stages[0]", "everybody begins", "both or neither"),
    (WAITS, STAGES, 'id = "search"', 'id = "search"\nfrom = "old"', "$.stages[1].from", 'no stage "old"', "new"),
    (WAITS, STAGES, 'id = "search"', 'id = "search"\nfrom = ["search"]', "$.stages[1].from", "this stage itself", ""),
    (WAITS, STAGES + RING, "", "", "$.stages[2].from", 'no way leads from the first stage to "gone"', 'from = "new"'),
    (WAITS, STAGES, "exists(\"Product Viewed\")", 'stage("new")', "$.stages[1].when", "not known here", "segments"),
    (WAITS, JOIN * 2, "", "", "$.joins[1].id", '"click" is the id of a join', "unique"),
    (WAITS, JOIN, '"Email Link Clicked"', '"Email Clicked"', "$.joins[0].left", "Email Clicked", "did you mean"),
    (WAITS, JOIN, '"Email Link Clicked"', "'action(\"k\")'", "$.joins[0].left", 'no journey "k"', "known: j"),
    (WAITS, JOIN, '"Order Completed"', '"Price Updated"', "$.joins[0].right", "no customer", ""),
    (WAITS, JOIN, 'within = "7d"\n', "", "$.joins[0]", "`within` is missing", ""),
    (WAITS, JOIN, 'within = "7d"', 'within = "7"', "$.joins[0].within", "not a duration", "30m"),
    (WAITS, JOIN, 'within = "7d"', 'within = "7d"\nby = "category"', "$.joins[0].by", "category", "product"),
    (WAITS, JOIN, 'within = "7d"', 'within = "7d"\nup_to = 0', "$.joins[0].up_to", ">= 1", ""),
    (WAITS, TABLE * 2, "", "", "$.tables[1].name", "declared in", "once"),
    (WAITS, TABLE, '"catalogue"', '"catalog"', "$.tables[0].name", "catalog", 'did you mean "catalogue"?'),
    (WAITS, TABLE, '"number"', '"float"', "$.tables[0].fields.margin", '"float"', "number"),
    (WAITS, TABLE, "brand =", "Brand =", "$.tables[0].fields.Brand", '"Brand" is no name', "small letters"),
    (WAITS, TABLE, "brand =", "class =", "$.tables[0].fields.class", '"class" is no name', "small letters"),
    (WAITS, TABLE, "brand =", "product_id =", "$.tables[0].fields.product_id", "is a key", "other columns"),
    (WAITS, TABLE, '{ margin = "number", brand = "text" }', "{}", "$.tables[0].fields", "at least one", "margin"),
    (WAITS, TABLE, "margin = 0.5", "marge = 0.5", "$.tables[0].unknown.marge", "marge", 'did you mean "margin"?'),
    (WAITS, TABLE, "margin = 0.5", 'margin = "0.5"', "$.tables[0].unknown.margin", "this is text", "quotes"),
    (WAITS, TABLE, "margin = 0.5", "brand = 0.5", "$.tables[0].unknown.brand", "this is a number", "quotes"),
    (WAITS, TABLE, "margin = 0.5", "margin = nan", "$.tables[0].unknown", "", ""),
    (WAITS, TABLE.replace('"catalogue"', '"stock"'), 'margin = "number"', 'quantity = "text"',
     "$.tables[0].fields.quantity", "`stock.quantity` is a number", "events"),
    (WAITS, PURPOSES, '"service"', '"servic"', "$.purposes[0].id", 'no purpose "servic"', 'did you mean "service"?'),
    (WAITS, PURPOSES, '"granted"', '"grant"', "$.purposes[0].unknown", 'not "grant"', 'did you mean "granted"?'),
    (WAITS, PURPOSES, '"granted"', "true", "$.purposes[0].unknown", "Expected `str`", "quotes"),
    (WAITS, PURPOSES, 'unknown = "granted"\n', "", "$.purposes[0]", "`unknown` is missing", "needed here"),
    (WAITS, PURPOSES * 2, "", "", "$.purposes[1].id", '"service" stands here twice', "once"),
]
OFFERS = [
    # `on`, what is added to the offer, path, message, hint
    ("on = ['page']", "steps = [1]", ".steps", "only in a journey with `wait`", "leave it out"),
    (WAITS, "steps = [3]", ".steps", "no step 3", "1 to 2"),
    (WAITS, "steps = [0]", ".steps", "no step 0", "1 to 2"),
    (WAITS, "steps = [2, 2]", ".steps", "2 stands here twice", "once"),
    (WAITS, "steps = 1", ".steps", "array", "[ ]"),
    (WAITS, "items = { recent = 'Product View' }", ".items.recent", "Product View", "did you mean"),
    (WAITS, "items = { recent = 'page', within = '1d', session = '30m' }", ".items", "both `within` and `session`", ""),
    (WAITS, "items = { recent = 'page', calendar = 'year' }", ".items.calendar", '"year"', "month"),
    (WAITS, "items = { recent = 'page', session = '1s' }", ".items.session", "no gap", "1m"),
    (WAITS, "items = { recent = 'page', up_to = 99 }", ".items.up_to", "<= 32, found 99", "at most 32"),
    (WAITS, "items = { within = '1d' }", ".items", "`recent` is missing", ""),
    (WAITS, "when = 'step > 1 and stage(\"x\")'", ".when`, column", "x", ""),
    ("on = ['page']", "when = 'absent(\"Order Completed\")'", ".when`, column 1", "absent", "wait"),
    (SESSIONS, "when = 'step > 1'", ".when`, column 1", "step", "wait"),
    (SESSIONS, "", ".voucher", "no event, and a voucher needs one", "`wait`"),
]
# fmt: on


@pytest.mark.parametrize(("on", "added", "old", "new", "path", "message", "hint"), TIME)
def test_errors_of_time(
    tmp_path: Path, on: str, added: str, old: str, new: str, path: str, message: str, hint: str
) -> None:
    assert old in added
    text = POLICY.replace('on = ["Product Viewed"]', on) + added.replace(old, new, 1)
    _refused(tmp_path, text, path, message, hint)


@pytest.mark.parametrize(("on", "added", "path", "message", "hint"), OFFERS)
def test_errors_of_offers_in_time(
    tmp_path: Path, on: str, added: str, path: str, message: str, hint: str
) -> None:
    text = POLICY.replace('on = ["Product Viewed"]', on).replace(OVER, f"{OVER}{added}\n")
    _refused(tmp_path, text, f"$.journeys[0].offers[0]{path}", message, hint)


@pytest.mark.parametrize("added", [SEGMENT, STAGES, JOIN, TABLE, PURPOSES, SEGMENT + STAGES + JOIN + TABLE])
@pytest.mark.parametrize("on", [WAITS, SESSIONS, 'on = ["page"]'])
def test_what_the_errors_are_made_from_loads(tmp_path: Path, on: str, added: str) -> None:
    policy = POLICY.replace('on = ["Product Viewed"]', on)
    if on == SESSIONS:
        policy = policy.replace(VOUCHER, "")
    (tmp_path / "p.toml").write_text(policy + added)
    assert load_policies([tmp_path], secret=SECRET, native=False).policies


def test_bounds_of_a_deployment(tmp_path: Path) -> None:
    def many(text: str, name: str, count: int) -> str:
        return POLICY + "".join(text.replace(f'"{name}"', f'"{name}{i}"') for i in range(count))

    _refused(tmp_path, many(SEGMENT, "loyal", 61), "$.segments[60]", "more than 60 segments", "fewer")
    _refused(tmp_path, many(JOIN, "click", 65), "$.joins[64]", "more than 64 joins", "fewer")
    stages = STAGES.split("[[stages]]\n")[2]
    added = "[[stages]]\n" + "[[stages]]\n".join(stages.replace("search", f"s{i}") for i in range(16))
    _refused(
        tmp_path, POLICY + '[[stages]]\nid = "new"\n' + added, "$.stages[16]", "more than 16 stages", "fewer"
    )
    fields = ", ".join(f'f{i} = "number"' for i in range(33))
    table = f'[[tables]]\nname = "profile"\nfields = {{ {fields} }}\n'
    _refused(tmp_path, POLICY + table, "$.tables[0].fields", "more than 32 fields", "in use")


def test_an_empty_policy(tmp_path: Path) -> None:
    _refused(tmp_path, 'policy = "p"\nversion = 1\n', "$", "the policy is empty", "[[journeys]]")


def test_what_is_defined_once_in_a_deployment(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        'policy = "a"\nversion = 1\n' + STAGES + SEGMENT + TABLE + JOIN + PURPOSES
    )
    for text, path, message in (
        (STAGES, "$.stages", "the stages are defined in"),
        (SEGMENT, "$.segments[0].id", "is the id of a segment in"),
        (TABLE, "$.tables[0].name", "is declared in"),
        (JOIN, "$.joins[0].id", "is the id of a join in"),
        (PURPOSES, "$.purposes", "the purposes are declared in"),
    ):
        _refused(tmp_path, 'policy = "p"\nversion = 1\n' + text, path, message, "")


def _refused(folder: Path, text: str, path: str, message: str, hint: str) -> None:
    file = folder / "p.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError) as caught:
        load_policies([folder], secret=SECRET, native=False)
    assert caught.value.found.startswith(f"{file}: ")
    assert path in caught.value.found
    assert message in caught.value.found
    assert hint in caught.value.hint
    assert caught.value.hint


@pytest.mark.parametrize(("old", "new", "path", "message", "hint"), FILES)
def test_file_errors(tmp_path: Path, old: str, new: str, path: str, message: str, hint: str) -> None:
    assert old in POLICY
    file = tmp_path / "p.toml"
    file.write_text(POLICY.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(PolicyError) as caught:
        load_policies([file], secret=SECRET, native=False)
    assert caught.value.found.startswith(f"{file}: ")
    assert path in caught.value.found
    assert message in caught.value.found
    assert hint in caught.value.hint
    assert caught.value.hint


def test_the_policy_without_mistakes_loads(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(POLICY, encoding="utf-8")
    assert load_policies([tmp_path], secret=SECRET, native=False).policies[0].name == "p"


def test_names_are_unique_across_files(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "b.toml").write_text(POLICY, encoding="utf-8")
    with pytest.raises(PolicyError, match="is the name of"):
        load_policies([tmp_path], secret=SECRET, native=False)
    (tmp_path / "b.toml").write_text(POLICY.replace('policy = "p"', 'policy = "q"'), encoding="utf-8")
    with pytest.raises(PolicyError, match="id of a journey"):
        load_policies([tmp_path], secret=SECRET, native=False)


def test_missing_paths_and_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "welcome.toml").write_text(POLICY, encoding="utf-8")
    with pytest.raises(PolicyError, match=r"welcom\.toml"):
        load_policies([tmp_path / "welcom.toml"], secret=SECRET)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PolicyError, match=r"no \*\.toml file"):
        load_policies([tmp_path / "empty"], secret=SECRET)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    for data in (b"\xff\xfe", b"a = [" + b"[" * 5_000, b"a = 1\x00", b"x" * (1 << 21)):
        with pytest.raises(PolicyError):
            read_policy(data, "p.toml")


def _check_shown(error: PolicyError) -> None:
    assert ".toml" in str(error)


RELAXED = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


@RELAXED
@given(st.text(max_size=80))
def test_any_text_is_an_expression_or_an_error(text: str) -> None:
    for read in (compile_condition, compile_number):
        try:
            read(text, scope())
        except PolicyError as error:
            _check_shown(error)


@RELAXED
@given(conditions(2), st.data())
def test_a_damaged_expression_is_one_or_an_error(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(at, min(len(text), at + 6)))
    damage = data.draw(
        st.sampled_from(["", "(", ")", '"', "'", ",", "=", "==", " not ", " in ", ".", "1", "x", "\n", "*"])
    )
    try:
        compile_condition(text[:at] + damage + text[end:], scope())
    except PolicyError as error:
        _check_shown(error)


@RELAXED
@given(st.data())
def test_a_damaged_file_loads_or_is_an_error(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([POLICY, *(p.read_text() for p in sorted(SHIPPED.glob("*.toml")))]))
    lines = text.split("\n")
    at = data.draw(st.integers(0, len(lines) - 1))
    change = data.draw(st.sampled_from(["drop", "twice", "cut", "swap"]))
    if change == "drop":
        del lines[at]
    elif change == "twice":
        lines.insert(at, lines[at])
    elif change == "cut":
        lines[at] = lines[at][: data.draw(st.integers(0, len(lines[at])))]
    else:
        word = data.draw(
            st.sampled_from(["1", '"x"', "[]", "{}", "true", "1979-05-27", "nan", "-1", "1e400"])
        )
        lines[at] = lines[at].split("=")[0] + "= " + word
    try:
        read_policy("\n".join(lines).encode(), "p.toml")
    except PolicyError as error:
        _check_shown(error)
