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
    ('exists("Price Updated")', "column 8", "no customer", "an event that a customer makes"),
    ('exist("Product Viewed")', "column 1", "no function `exist`", 'did you mean "exists"?'),
    ('exists("Product Viewed", withn="1h")', "column 32", "takes no `withn`", 'did you mean "within"?'),
    ('exists("Product Viewed", within="1 hour")', "column 33", "not a duration", "30m"),
    ('exists("Product Viewed", within="99999d")', "column 33", "out of range", "at most"),
    ('exists("Product Viewed", within="0d")', "column 33", "out of range", "more than 0"),
    ('exists("Product Viewed", within=30)', "column 33", "duration in quotes", "30m"),
    ('exists("Product Viewed", within="1h", every="1d")', "column 1", "both", "one of them"),
    ('exists("Product Viewed", by="brand")', "column 29", 'no "brand"', "known: category, product"),
    ('exists("Product Viewed", session="30m")', "column 34", "not yet in this version", ""),
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
    ('segment("vip")', "column 1", "reserved", "not yet in this version"),
    ('absent("Order Completed", after="1h")', "column 1", "reserved", "not yet in this version"),
    ("profile.age > 30", "column 1", "`profile.age` is reserved", "not yet in this version"),
    ("catalogue.margin > 3", "column 1", "reserved", "not yet in this version"),
    ("stock() > 3", "column 1", "reserved", "not yet in this version"),
    ("decayed > 3", "column 1", "reserved", "not yet in this version"),
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

# fmt: off
FILES = [
    # what is replaced, by what, path, part of the message, part of the hint
    ("version = 1\n[[", "version = '1'\n[[", "$.version", "Expected `int`", "without quotes"),
    ("version = 1\n[[", "version = 0\n[[", "$.version", ">= 1", ""),
    ("version = 1\n[[", "version = 1\nversoin = 2\n[[", "$", "no field `versoin`", 'did you mean "version"?'),
    ("version = 1\n[[", "[[", "$", "`version` is missing", ""),
    ("version = 1\n[[", "version = 1\nsegments = []\n[[", "$", "segments", "not yet in this version"),
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
    ('id = "o"\n', 'id = "o"\nvalue = -1\n', "offers[0].value", ">= 0", ""),
    ('id = "o"\n', 'id = "o"\ncontext = "x"\n', "offers[0].context", "`x` is not known", ""),
    ('id = "o"\n', 'id = "o"\nwhen = "1"\n', "offers[0].when`, column 1", "a number", "compare"),
    ('value = \'count("Product Viewed"', "value = 'count(\"x\"", "model.features[0].value", '"x"', ""),
    ('name = "views", ', 'name = "Views", ', "model.features[0].name", "regex", ""),
    ("when = 'exists", "expires_after = '3'\nwhen = 'exists", "$.journeys[0].expires_after", '"3"', "30m"),
    ("when = 'exists", "alongside = 'yes'\nwhen = 'exists", "alongside", "bool", "true or false"),
]
# fmt: on


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
