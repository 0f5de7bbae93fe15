"""Discounts of vouchers that are expressions, and sums of money as policies write them.

Law: what an action promises lies within the bounds that the policy gives, in whole steps above the least, to the cent
(segue_kernels/discount.py); bounds and steps are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from segue.events.money import EXPONENTS
from segue.limits import MONEY_MINOR_MAX
from segue.policy import ir, model
from segue.policy.compiled import PERCENT_UNITS
from segue.policy.expression import compile_number
from segue.policy.gather import Source
from segue.policy.rows import DiscountRow
from segue.policy.scope import Scope

_BOUNDS = ("discount_min", "discount_max", "discount_step")


def money_minor(source: Source, path: str, value: float, letters: str, least: int = 1) -> int:
    """A sum in major units of a currency as minor ones; refused if it is none, or less than `least`."""
    exact = Decimal(repr(value)) * 10 ** EXPONENTS[letters]
    minor = int(exact)
    if minor != exact or not least <= minor <= MONEY_MINOR_MAX:
        source.fail(
            path,
            f"{value} is not a sum of money in {letters}",
            f"{letters} has {EXPONENTS[letters]} decimals",
        )
    return minor


def compile_discount(
    source: Source,
    voucher: model.Voucher,
    scope: Scope,
    path: str,
    letters: str,
    program: Callable[[ir.Node], int],
) -> DiscountRow | None:
    """How deep a voucher is whose discount is an expression; None if it is a number, which has no bounds.

    program  gives an expression its index
    """
    name = "discount_amount" if voucher.discount_percent is None else "discount_percent"
    discount = getattr(voucher, name)
    given = {bound: getattr(voucher, bound) for bound in _BOUNDS if getattr(voucher, bound) is not None}
    if not isinstance(discount, str):
        for bound in given:
            source.fail(
                f"{path}.{bound}",
                f"the discount is {discount:g}: there is nothing to bound",
                "leave it out, or give the discount as an expression in quotes",
            )
        return None
    for bound in ("discount_min", "discount_max"):
        if bound not in given:
            source.fail(
                path,
                f"the field `{bound}` is missing: the discount is computed",
                "it needs both, discount_min and discount_max",
            )

    def units(bound: str) -> int:
        at = f"{path}.{bound}"
        if name == "discount_amount":
            return money_minor(source, at, given[bound], letters, least=0)
        exact = Decimal(repr(given[bound])) * PERCENT_UNITS
        if int(exact) != exact or exact > 100 * PERCENT_UNITS:
            source.fail(at, f"{given[bound]:g} is no percentage", "at most 100, two decimals at most")
        return int(exact)

    least, most = units("discount_min"), units("discount_max")
    if least > most:
        source.fail(
            f"{path}.discount_min",
            f"{given['discount_min']:g} is more than discount_max, {given['discount_max']:g}",
            "the least is not above the most",
        )
    return DiscountRow(
        program=program(compile_number(discount, scope.at(f"{path}.{name}"))),
        scale=PERCENT_UNITS if name == "discount_percent" else scope.minor_per_major,
        min=least,
        max=most,
        step=units("discount_step") if "discount_step" in given else 1,
    )
