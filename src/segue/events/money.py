"""Money is decimal text turned into whole minor units by the currency's ISO 4217 exponent; never a float.

Excess decimals are rounded half to even; an amount beyond limits.MONEY_MINOR_MAX minor units is refused.
"""

from __future__ import annotations

from decimal import Context, Decimal
from functools import cache

import iso4217
import numpy as np
from numpy.typing import NDArray

from segue import limits
from segue.errors import did_you_mean
from segue.events.refusal import Refusal

CURRENCY_CODES = 1 + 26 * 26 * 26
# wide enough that shifting a value within bounds never rounds by itself
_CONTEXT = Context(prec=60)


def letters_code(currency: str) -> int:
    """1 + 676 a + 26 b + c of three capital letters: the currency code of a record."""
    a, b, c = (ord(letter) - 65 for letter in currency)
    return 1 + 676 * a + 26 * b + c


def code_letters(code: int) -> str:
    """The three letters of a currency code."""
    rest = code - 1
    return chr(65 + rest // 676) + chr(65 + rest // 26 % 26) + chr(65 + rest % 26)


EXPONENTS: dict[str, int] = {
    str(currency.code): int(currency.exponent)
    for currency in iso4217.Currency
    if currency.exponent is not None
}


@cache
def exponent_table() -> NDArray[np.int64]:
    """Exponent by currency code, int64[17577]; -1 where there is no such currency."""
    table = np.full(CURRENCY_CODES, -1, dtype=np.int64)
    for letters, exponent in EXPONENTS.items():
        table[letters_code(letters)] = exponent
    return table


def currency_code(currency: str) -> int:
    """The code of an ISO 4217 currency with minor units; Refusal with a did-you-mean otherwise."""
    if currency not in EXPONENTS:
        raise Refusal(f"unknown currency {currency[:20]!r}: {did_you_mean(currency[:20], tuple(EXPONENTS))}")
    return letters_code(currency)


def minor_units(value: Decimal, exponent: int, field: str) -> int:
    """`value` in minor units, half to even; Refusal when it is no number or beyond the bound."""
    if not value.is_finite():
        raise Refusal(f"{field} is not a number: {value}")
    # adjusted() first: quantising 1e999999999 would build a billion digits
    if value and value.adjusted() > 18:
        raise Refusal(f"{field} is beyond ±{limits.MONEY_MINOR_MAX} minor units")
    if value.adjusted() < -30:
        return 0
    minor = int(value.scaleb(exponent, _CONTEXT).to_integral_value(rounding="ROUND_HALF_EVEN"))
    if not -limits.MONEY_MINOR_MAX <= minor <= limits.MONEY_MINOR_MAX:
        raise Refusal(f"{field} is beyond ±{limits.MONEY_MINOR_MAX} minor units")
    return minor


def times(price: int, quantity: int, field: str) -> int:
    """price x quantity in minor units; Refusal beyond the bound."""
    amount = price * quantity
    if not -limits.MONEY_MINOR_MAX <= amount <= limits.MONEY_MINOR_MAX:
        raise Refusal(f"{field} is beyond ±{limits.MONEY_MINOR_MAX} minor units")
    return amount


def whole_quantity(value: Decimal, field: str) -> int:
    """A whole number 0..QUANTITY_MAX (2.0 is 2); Refusal otherwise."""
    if not value.is_finite() or (value and value.adjusted() > 8) or not 0 <= value <= limits.QUANTITY_MAX:
        raise Refusal(f"{field} must be a whole number from 0 to {limits.QUANTITY_MAX}")
    if value != value.to_integral_value():
        raise Refusal(f"{field} must be a whole number, got {str(value)[:40]}")
    return int(value)
