"""`segue test`: the shipped policies do what their examples say, and a file that does not is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segue.cli import app
from segue.policy.examples import read_examples
from segue.policy.load import SHIPPED
from segue.settings import secret
from segue.testing.run import play_files

POLICY = """
policy = "views"
version = 1
[[journeys]]
id = "views"
on = ["Product Viewed"]
when = 'count("Product Viewed", by="product", within="30m") >= 2'
[[journeys.offers]]
id = "mail"
channel = "email"

[[examples]]
name = "a second look"
events = [
    { at = "0m", event = "Product Viewed", product = "p1", anonymous = "device" },
    { at = "1m", event = "identify", anonymous = "device" },
    { at = "2m", event = "Product Viewed", product = "p1" },
]
expect = [{ at = "2m", journey = "views", customer = "customer", product = "p1" }]

[[examples]]
name = "one look"
events = [{ at = "0m", event = "Product Viewed", product = "p1" }]
expect = []
"""


DEPTHS = """
policy = "depths"
version = 1
currency = "EUR"
[[tables]]
name = "catalogue"
fields = { margin = "number" }
[[journeys]]
id = "depths"
on = ["Product Viewed"]
when = 'True'
[[journeys.offers]]
id = "percent"
channel = "web"
[journeys.offers.voucher]
campaign = "last-pairs"
discount_percent = '50 * catalogue.margin - stock.quantity'
discount_min = 5
discount_max = 20
discount_step = 2.5
[[journeys.offers]]
id = "amount"
channel = "till"
when = 'event.price > 100'
value = 2.0
[journeys.offers.voucher]
campaign = "last-pairs"
discount_amount = 'event.price * 0.0333'
discount_min = 3.50
discount_max = 9

[[examples]]
name = "as deep as margin and stock allow, to the cent"
tables = { catalogue = [{ product_id = "a", margin = 0.3 }, { product_id = "b", margin = 0.9 }] }
events = [
    { at = "0m", event = "Product Viewed", product = "a", price = 20.0 },
    { at = "1m", event = "Inventory Updated", product = "a", quantity = 5 },
    { at = "2m", event = "Product Viewed", product = "a", price = 20.0 },
    { at = "3m", event = "Product Viewed", product = "b", price = 20.0 },
    { at = "4m", event = "Product Viewed", product = "c", price = 20.0 },
    { at = "5m", event = "Product Viewed", product = "c", price = 123.45 },
    { at = "6m", event = "Product Viewed", product = "c", price = 100.01 },
    { at = "7m", event = "Product Viewed", product = "c", price = 1000.0 },
]
expect = [
    { at = "0m", discount = 15.0 },
    { at = "2m", discount = 10.0 },
    { at = "3m", discount = 20.0 },
    { at = "4m", discount = 5.0 },
    { at = "5m", offer = "amount", discount = 4.11 },
    { at = "6m", offer = "amount", discount = 3.5 },
    { at = "7m", offer = "amount", discount = 9.0 },
]
"""


def test_how_deep_a_discount_is(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(DEPTHS)
    passed = CliRunner().invoke(app, ["test", str(path)])
    assert passed.exit_code == 0, passed.output
    path.write_text(DEPTHS.replace("discount = 4.11", "discount = 4.12"))
    failed = CliRunner().invoke(app, ["test", str(path)])
    assert failed.exit_code == 1
    assert "discount 4.12" in failed.output
    told = CliRunner().invoke(app, ["check", str(path)]).output
    assert "voucher last-pairs of 5 to 20 %" in told
    assert "voucher last-pairs of 3.5 to 9 EUR" in told


SILENCE = """
[[purposes]]
id = "marketing"
unknown = "granted"

[[examples]]
name = "nobody asked, until they left"
consent = []
events = [
    { at = "0m", event = "Product Viewed", product = "p1" },
    { at = "1m", event = "Product Viewed", product = "p1" },
    { at = "2m", event = "Unsubscribed", channel = "push" },
    { at = "3m", event = "Product Viewed", product = "p1" },
    { at = "4m", event = "Unsubscribed" },
    { at = "5m", event = "Product Viewed", product = "p1" },
]
expect = [{ at = "1m" }, { at = "3m" }]
"""


def test_what_counts_as_consent_is_played_too(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(POLICY + SILENCE)
    passed = CliRunner().invoke(app, ["test", str(tmp_path / "p.toml")])
    assert passed.exit_code == 0, passed.output
    (tmp_path / "p.toml").write_text(
        POLICY + SILENCE.replace('{ at = "3m" }', '{ at = "3m" }, { at = "5m" }')
    )
    failed = CliRunner().invoke(app, ["test", str(tmp_path / "p.toml")])
    assert failed.exit_code == 1
    assert "lost: suppressed" in failed.stdout
    assert "the customer unsubscribed from that channel" in failed.stdout


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_policies(path: Path) -> None:
    examples = read_examples(path).examples
    assert any(example.expect for example in examples)
    assert any(not example.expect for example in examples)
    for result in play_files([str(path)], secret()):
        assert result.passed, "\n".join([result.example, *result.timeline, *result.hints])


def test_what_passes_and_what_fails(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "sub" / "bad.toml"
    bad.parent.mkdir()
    good.write_text(POLICY)
    bad.write_text(POLICY.replace("expect = []", 'expect = [{ at = "0m", journey = "views" }]'))
    passed = CliRunner().invoke(app, ["test", str(good)])
    assert passed.exit_code == 0, passed.output
    assert passed.stdout.splitlines()[-1] == "2 examples, 0 failed"
    failed = CliRunner().invoke(app, ["test", str(good), str(bad.parent)])
    assert failed.exit_code == 1
    assert "FAIL  bad.toml: one look" in failed.stdout
    assert "--x  expected: journey views" in failed.stdout
    assert "hint: at 0m: journey views did not happen: nothing was decided" in failed.stdout
    report = json.loads(CliRunner().invoke(app, ["test", "--json", str(bad)]).stdout)
    assert (report["examples"], report["failed"]) == (2, 1)
    assert [result["passed"] for result in report["results"]] == [True, False]


def test_files_that_are_loaded_together(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(
        POLICY.replace('"views"', '"more-views"').split("[[examples]]")[0].replace("email", "push")
    )
    path = tmp_path / "p.toml"
    path.write_text(POLICY.replace("expect = []", 'with = ["othr.toml"]\nexpect = []'))
    told = CliRunner().invoke(app, ["test", str(path)])
    assert told.exit_code == 1
    assert 'did you mean "other.toml"?' in told.stderr
    path.write_text(POLICY.replace("expect = []", 'with = ["other.toml"]\nexpect = []'))
    assert CliRunner().invoke(app, ["test", str(path)]).exit_code == 0


def test_tables_and_prices_along_the_way(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(
        """
policy = "margins"
version = 1
[[tables]]
name = "catalogue"
fields = { margin = "number" }
[[journeys]]
id = "margins"
on = ["Product Viewed"]
when = "catalogue.margin >= 0.3 and price.amount < 20"
[[journeys.offers]]
id = "web"
channel = "web"

[[examples]]
name = "the price falls"
tables = { catalogue = [{ product_id = "p1", margin = 0.4 }, { product_id = "p2", margin = 0.1 }] }
events = [
    { at = "0m", event = "Price Updated", product = "p1", price = 25.0 },
    { at = "0m", event = "Price Updated", product = "p2", price = 15.0 },
    { at = "1m", event = "Product Viewed", product = "p1" },
    { at = "2m", event = "Price Updated", product = "p1", price = 15.0 },
    { at = "3m", event = "Product Viewed", product = "p2" },
    { at = "4m", event = "Product Viewed", product = "p1" },
]
expect = [{ at = "4m", journey = "margins", product = "p1" }]
"""
    )
    [result] = play_files([str(path)], secret())
    assert result.passed, "\n".join([*result.timeline, *result.hints])


CONTACT = """
policy = "contact"
version = 1

[[caps]]
id = "push-gap"
channels = ["push"]
times = 1
within = "4h"
[[caps]]
id = "a-day"
purposes = ["marketing"]
times = 2
calendar = "day"

[[journeys]]
id = "viewed"
on = ["Product Viewed"]
when = "True"
[[journeys.offers]]
id = "push"
channel = "push"
value = 2.0
[[journeys.offers]]
id = "mail"
channel = "email"

[[journeys]]
id = "ordered"
on = ["Order Completed"]
when = "True"
[[journeys.offers]]
id = "thanks"
channel = "push"
purpose = "service"
[[journeys.offers]]
id = "thanks-mail"
channel = "email"
purpose = "service"
value = 0.5

[[examples]]
name = "no two pushes within four hours, no more than two of marketing on Berlin's day"
timezone = "Europe/Berlin"
start = "2026-03-28T20:00:00Z"
events = [
    { at = "0m", event = "Product Viewed", product = "p1" },
    { at = "1h", event = "Product Viewed", product = "p1" },
    { at = "2h", event = "Product Viewed", product = "p1" },
    { at = "3h", event = "Product Viewed", product = "p1" },
    { at = "4h", event = "Product Viewed", product = "p1" },
    { at = "25h", event = "Product Viewed", product = "p1" },
    { at = "26h", event = "Product Viewed", product = "p1" },
]
expect = [
    { at = "0m", offer = "push" },
    { at = "1h", offer = "mail" },
    { at = "3h", offer = "mail" },
    { at = "4h", offer = "push" },
    { at = "26h", offer = "push" },
]
"""


def test_caps(tmp_path: Path) -> None:
    """The day of Berlin begins at 23:00 UTC, the next one, after 23 hours, at 22:00."""
    path = tmp_path / "contact.toml"
    path.write_text(CONTACT)
    [result] = play_files([str(path)], secret())
    assert result.passed, "\n".join([*result.timeline, *result.hints])
    path.write_text(CONTACT.replace('{ at = "1h", offer = "mail" }', '{ at = "1h", offer = "push" }'))
    [result] = play_files([str(path)], secret())
    assert not result.passed
    assert "lost: cap" in "\n".join(result.timeline)
    assert "cap on the channel or purpose" in "\n".join(result.hints)


def test_a_file_that_does_not_load(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text('policy = "p"\nversion = "one"\n')
    told = CliRunner().invoke(app, ["test", str(path)])
    assert told.exit_code == 1
    assert "version" in told.stderr


VOUCHERS = """
policy = "vouchers"
version = 1
currency = "EUR"
[[campaigns]]
id = "two"
start = "2026-01-01T00:00:00Z"
end = "2026-12-31T00:00:00Z"
budget = 2
discount_amount = "5.00"
[[journeys]]
id = "vouchers"
on = ["Product Viewed"]
when = 'True'
[[journeys.offers]]
id = "five-off"
channel = "web"
value = 2
voucher = { campaign = "two" }
[[journeys.offers]]
id = "hello"
channel = "web"

[[examples]]
name = "the third gets no voucher, and who comes again neither"
events = [
    { at = "0m", event = "Product Viewed", product = "p1", price = 9.5, user = "anna" },
    { at = "1m", event = "Product Viewed", product = "p1", price = 9.5, user = "anna" },
    { at = "2m", event = "Product Viewed", product = "p1", price = 9.5, user = "ben" },
    { at = "3m", event = "Product Viewed", product = "p1", price = 9.5, user = "cleo" },
]
expect = [
    { at = "0m", customer = "anna", offer = "five-off", campaign = "two", discount = 5.0 },
    { at = "1m", customer = "anna", offer = "hello" },
    { at = "2m", customer = "ben", offer = "five-off", campaign = "two" },
    { at = "3m", customer = "cleo", offer = "hello" },
]
"""


def test_vouchers_are_granted_while_there_are_any(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(VOUCHERS)
    passed = CliRunner().invoke(app, ["test", str(path)])
    assert passed.exit_code == 0, passed.output
    path.write_text(VOUCHERS.replace("budget = 2", "budget = 1"))
    failed = CliRunner().invoke(app, ["test", str(path)])
    assert failed.exit_code == 1
    assert "lost: budget" in failed.output


TAKEN_BACK = """
policy = "back"
version = 1
[[journeys]]
id = "cart"
on = ["Product Added"]
when = "True"
goal = ["Order Completed"]
[[journeys.offers]]
id = "mail"
channel = "email"
take_back = "6h"

[[examples]]
name = "ordered before it was sent"
events = [
    { at = "0m", event = "Product Added", product = "tent" },
    { at = "2h", event = "Order Completed" },
]
expect = [{ at = "0m", offer = "mail" }]
expect_withdrawn = [{ at = "2h", journey = "cart", offer = "mail", channel = "email", reason = "goal" }]

[[examples]]
name = "ordered too late for that"
events = [
    { at = "0m", event = "Product Added", product = "tent" },
    { at = "7h", event = "Order Completed" },
]
expect = [{ at = "0m", offer = "mail" }]
expect_withdrawn = []
"""


def test_examples_tell_what_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "back.toml"
    path.write_text(TAKEN_BACK)
    assert CliRunner().invoke(app, ["test", str(path)]).exit_code == 0
    path.write_text(TAKEN_BACK.replace('reason = "goal"', 'reason = "consent"'))
    told = CliRunner().invoke(app, ["test", str(path)])
    assert told.exit_code == 1
    assert "was not taken back" in told.output
    path.write_text(TAKEN_BACK.replace('reason = "goal"', 'reason = "goals"'))
    assert "goals" in CliRunner().invoke(app, ["test", str(path)]).output
