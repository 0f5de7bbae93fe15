"""Declarations of campaigns: what is wrong with one is said with its path, what was found, and a hint."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from segue.errors import PolicyError
from segue.vouchers.campaign import Campaign, Terms, compile_campaign
from tests.vouchers.campaigns import campaign, hashed, terms_of


def compiled(declared: Campaign) -> Terms:
    return compile_campaign(declared, hashed, "$.campaigns[3]", "spring.toml")


def test_the_numbers_of_a_declaration() -> None:
    terms = compiled(
        campaign(
            "a",
            budget=10,
            discount_percent=12.25,
            discount_max_minor=900,
            shops=("north", "north"),
            per_customer=None,
        )
    )
    assert (terms.percent, terms.depth_minor, terms.budget, terms.budget_minor) == (1_225, 900, 10, -1)
    assert (terms.per_customer, terms.per_day, terms.group) == (0, 0, 0)
    assert terms.shops == (hashed("north"),)
    assert (terms.valid_ms, terms.reserve_ms) == (30 * 86_400_000, 3_600_000)


@pytest.mark.parametrize(
    ("declared", "path", "found"),
    [
        ({"budget": -1}, "budget", "-1 is out of range"),
        ({"budget_minor": -5}, "budget_minor", "-5 is out of range"),
        ({"per_customer": 0}, "per_customer", "0 is out of range"),
        ({"per_day": -2}, "per_day", "-2 is out of range"),
        ({"end": "2026-02-28T12:00:00Z"}, "end", "is not after the start"),
        ({"start": "tomorrow"}, "start", "not ISO 8601"),
        ({"start": "1960-01-01T00:00:00Z"}, "start", "out of range"),
        ({"currency": "EUO"}, "currency", 'did you mean "EUR"?'),
        ({"timezone": "Europe/Berlim"}, "timezone", 'did you mean "Europe/Berlin"?'),
        ({"discount_minor": 0}, "discount_minor", "0 is out of range"),
        ({"discount_minor": 1 << 31}, "discount_minor", "out of range"),
        ({"discount_minor": None}, "discount_minor", "one of the two"),
        ({"discount_max_minor": 5}, "discount_max_minor", "5, where the discount is an amount"),
        ({"discount_percent": 10.0}, "discount_max_minor", "without the most"),
        ({"discount_percent": 10.001, "discount_max_minor": 5}, "discount_percent", "no percentage"),
        ({"discount_percent": 100.5, "discount_max_minor": 5}, "discount_percent", "no percentage"),
        ({"discount_percent": float("nan"), "discount_max_minor": 5}, "discount_percent", "no percentage"),
        ({"valid_for": "3 days"}, "valid_for", '"3 days" is not a duration'),
        ({"valid_for": "800d"}, "valid_for", '"800d" is out of range'),
        ({"valid_for": "1h", "reserve_for": "2h"}, "reserve_for", "longer than a code is good"),
        ({"basket_min_minor": -1}, "basket_min_minor", "-1 is out of range"),
        ({"shops": ("north", "")}, "shops[1]", "it is empty"),
        ({"shops": tuple(map(str, range(1_025)))}, "shops", "there are 1025"),
        ({"name": "n" * 65}, "name", "it has 65 bytes"),
        ({"name": ""}, "name", "it has 0 bytes"),
    ],
)
def test_what_cannot_be_is_said_with_its_path(declared: dict[str, Any], path: str, found: str) -> None:
    with pytest.raises(PolicyError) as error:
        compiled(campaign(**{"name": "a", **declared}))
    text = str(error.value)
    assert f"spring.toml: `$.campaigns[3].{path}`" in text
    assert found in text
    assert error.value.hint


def test_a_field_that_nobody_knows_is_an_error_with_a_path() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `bugdet`"):
        msgspec.json.decode(b'{"name":"a","currency":"EUR","start":"","end":"","bugdet":1}', type=Campaign)


def test_bounds_may_change_and_the_promise_tells_itself_apart() -> None:
    first, wider, deeper = terms_of(
        campaign("a", budget=1), campaign("a", budget=2), campaign("a", discount_minor=5)
    )
    assert first.promise == wider.promise != deeper.promise
    assert (first.hash_lo, first.hash_hi) == (deeper.hash_lo, deeper.hash_hi)
