"""Campaigns in policy files: what they promise, what is wrong with one, what their offers take from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue.errors import PolicyError
from segue.policy.check import check, render
from segue.policy.compiled import CompiledPolicies
from segue.policy.load import load_policies
from segue_kernels import plan

SECRET = bytes(range(16))
CAMPAIGN = """
[[campaigns]]
id = "spring"
start = "2026-03-01T00:00:00Z"
end = "2026-04-01T00:00:00+01:00"
budget = 500
budget_amount = "2500.50"
per_day = 20
discount_percent = 12.5
discount_max = 7.05
basket_min = 20
valid_for = "48h"
stack_group = "season"
shops = ["north"]
timezone = "Europe/Berlin"
when = 'catalogue.margin >= 0.15 and stock.quantity > 0'
"""
TABLE = """
[[tables]]
name = "catalogue"
fields = { margin = "number" }
"""
JOURNEY = """
[[journeys]]
id = "j"
on = ["Product Viewed"]
when = 'True'
[[journeys.offers]]
id = "voucher"
channel = "web"
when = 'event.price > 10'
voucher = { campaign = "spring" }
[[journeys.offers]]
id = "plain"
channel = "web"
"""


def load(folder: Path, *texts: str, currency: str = "EUR") -> CompiledPolicies:
    for n, text in enumerate(texts):
        (folder / f"{n}.toml").write_text(f'policy = "p{n}"\nversion = 1\n{text}')
    return load_policies([folder], secret=SECRET, currency=currency, native=False)


def test_what_a_campaign_says_is_said_for_its_offers(tmp_path: Path) -> None:
    """Whichever file declares it; money is exact in minor units."""
    compiled = load(tmp_path, JOURNEY, CAMPAIGN + TABLE)
    [info] = compiled.campaign_infos
    terms = info.terms
    assert (terms.percent, terms.depth_minor, terms.basket_min_minor) == (1_250, 705, 2_000)
    assert (terms.budget, terms.budget_minor, terms.per_customer, terms.per_day) == (500, 250_050, 1, 20)
    assert (terms.end_ms - terms.start_ms, terms.valid_ms) == (31 * 86_400_000 - 3_600_000, 2 * 86_400_000)
    voucher, plain = compiled.offer_infos
    assert voucher.voucher is not None
    assert plain.voucher is None
    assert (voucher.voucher.discount_percent, voucher.voucher.stack_group) == (12.5, "season")
    assert compiled.offers[:, plan.OFFER_CAMPAIGN].tolist() == [1, 0]
    whens = compiled.offers[:, plan.OFFER_WHEN].tolist()
    assert whens[0] >= 0
    assert whens[1] == -1
    assert len(compiled.lookups) == 2  # its condition is the offer's: margin and stock
    text = render(check(compiled))
    assert (
        "spring: 12.5% off, at most 7.05 EUR, valid 2d, baskets from 20.00 EUR, at most 500 vouchers, 2,500.50 EUR, "
        "20 a day, 1 a customer, from 2026-03-01T00:00:00.000Z to 2026-03-31T23:00:00.000Z" in text
    )


def test_what_is_not_declared_stays_the_offers_own(tmp_path: Path) -> None:
    other = JOURNEY.replace('"spring" }', '"autumn", discount_percent = 5.0 }')
    compiled = load(tmp_path, other, CAMPAIGN + TABLE)
    assert not compiled.offers[:, plan.OFFER_CAMPAIGN].any()


def test_money_has_the_decimals_of_its_currency(tmp_path: Path) -> None:
    amount = CAMPAIGN.replace("discount_percent = 12.5\ndiscount_max = 7.05", "discount_amount = 700")
    yen = amount.replace('"2500.50"', "2500")
    [info] = load(tmp_path, yen + TABLE, currency="JPY").campaign_infos
    assert (info.terms.depth_minor, info.terms.budget_minor) == (700, 2_500)


@pytest.mark.parametrize(
    ("said", "instead", "path", "found"),
    [
        ("budget = 500", "budget = -1", "campaigns[0].budget", "-1 is out of range"),
        ('"2500.50"', '"-3.00"', "campaigns[0].budget_amount", "-3.00 is not a sum of money from 0.00"),
        ('"2500.50"', '"3.001"', "campaigns[0].budget_amount", "EUR has 2 decimals"),
        ('"2500.50"', '"much"', "campaigns[0].budget_amount", "much is not a sum"),
        ('"2500.50"', "inf", "campaigns[0].budget_amount", "inf is not a sum"),
        ("7.05", "0", "campaigns[0].discount_max", "0.0 is not a sum of money from 0.01"),
        ("7.05", "30000000", "campaigns[0].discount_max", "to 21474836.47"),
        ("12.5", "112.5", "campaigns[0].discount_percent", "112.5 is no percentage"),
        ("12.5\n", "12.5\ndiscount_amount = 1\n", "campaigns[0]", "discount_percent or discount_amount"),
        ("discount_max = 7.05\n", "", "campaigns[0]", "without the most it takes off"),
        ("discount_percent = 12.5\n", "discount_amount = 1\n", "campaigns[0].discount_max", "an amount"),
        ("2026-04-01", "2026-02-01", "campaigns[0].end", "is not after the start"),
        ('"2026-03-01T00:00:00Z"', '"soon"', "campaigns[0].start", "ISO 8601"),
        ("Europe/Berlin", "Europe/Berlim", "campaigns[0].timezone", 'did you mean "Europe/Berlin"'),
        ("per_day = 20", "per_day = 0", "campaigns[0].per_day", "0 is out of range"),
        ("per_day = 20", "per_customer = -1", "campaigns[0].per_customer", "-1 is out of range"),
        ('"48h"', '"2 days"', "campaigns[0].valid_for", "not a duration"),
        ('"48h"', '"900d"', "campaigns[0].valid_for", "out of range"),
        ("basket_min = 20", "basket_min = -20", "campaigns[0].basket_min", "-20.0 is not a sum"),
        ('["north"]', '["north", ""]', "campaigns[0].shops[1]", "it is empty"),
        ("catalogue.margin >", "catalogue.margim >", "campaigns[0].when", 'did you mean "margin"'),
        ('id = "spring"', 'id = "Spring!"', "campaigns[0].id", "a name has small letters"),
        ("budget = 500", "budged = 500", "campaigns[0]", 'did you mean "budget"'),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, said: str, instead: str, path: str, found: str) -> None:
    assert said in CAMPAIGN
    with pytest.raises(PolicyError) as error:
        load(tmp_path, CAMPAIGN.replace(said, instead) + TABLE + JOURNEY)
    assert f"`$.{path}`" in str(error.value)
    assert found in str(error.value)


@pytest.mark.parametrize("field", ["discount_percent = 5.0", 'valid_for = "1d"', 'stack_group = "x"'])
def test_an_offer_adds_nothing_to_its_campaign(tmp_path: Path, field: str) -> None:
    with pytest.raises(PolicyError, match="is what the campaign `spring` says"):
        load(tmp_path, CAMPAIGN + TABLE + JOURNEY.replace('"spring" }', f'"spring", {field} }}'))


def test_a_campaign_has_one_currency(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="the offer is in USD, the campaign `spring` in EUR"):
        load(tmp_path, CAMPAIGN + TABLE, 'currency = "USD"\n' + JOURNEY)


def test_an_id_is_given_once(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match='"spring" is the id of a campaign'):
        load(tmp_path, CAMPAIGN + TABLE, CAMPAIGN)
