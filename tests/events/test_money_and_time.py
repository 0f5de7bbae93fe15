"""Money is exact, half to even; time is ISO 8601 with an offset, whole ms, rounded down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.events.money import EXPONENTS, code_letters, letters_code, minor_units, whole_quantity
from segue.events.refusal import Refusal
from segue.events.time import parse_time_ms, time_text

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "exponent", "minor"),
    [
        ("12.99", 2, 1299),
        ("0.125", 2, 12),
        ("0.135", 2, 14),
        ("-0.125", 2, -12),
        ("99.5", 0, 100),
        ("1e2", 3, 100_000),
    ],
)
def test_minor_units_round_half_to_even(text: str, exponent: int, minor: int) -> None:
    assert minor_units(Decimal(text), exponent, "price") == minor


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e400", "-1e999999999", "10000000000000.01"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match="price"):
        minor_units(Decimal(text), 2, "price")


def test_an_amount_next_to_nothing_is_nothing() -> None:
    assert minor_units(Decimal("1e-999999"), 2, "price") == 0


@pytest.mark.parametrize("text", ["-1", "2.5", "1000001", "NaN", "1e99"])
def test_a_quantity_is_a_whole_number(text: str) -> None:
    assert whole_quantity(Decimal("2.0"), "quantity") == 2
    with pytest.raises(Refusal):
        whole_quantity(Decimal(text), "quantity")


def test_currency_codes_are_their_letters() -> None:
    assert all(code_letters(letters_code(letters)) == letters for letters in EXPONENTS)


@settings(max_examples=100, deadline=None)
@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)), st.integers(-1439, 1439))
def test_times_equal_the_standard_librarys(moment: datetime, offset_minutes: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    assert parse_time_ms(aware.isoformat()) == (aware - EPOCH) // timedelta(milliseconds=1)


def test_time_text_reads_back() -> None:
    assert time_text(1_772_366_400_123) == "2026-03-01T12:00:00.123Z"
    assert parse_time_ms("2026-03-01T12:00:00.123Z") == 1_772_366_400_123
    assert time_text(10**18) == "1000000000000000000 ms"
