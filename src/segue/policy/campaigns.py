"""Campaigns as policies declare them → their terms: what the ledger of vouchers keeps to (segue.vouchers.campaign).

Law: money is read as it is written, in whole minor units of the policy's currency; what is no such sum is refused.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from segue.events.money import EXPONENTS
from segue.limits import MONEY_MINOR_MAX, VOUCHER_MINOR_MAX
from segue.policy import model
from segue.policy.compiled import PERCENT_UNITS, VoucherInfo
from segue.policy.gather import Source
from segue.policy.rows import CampaignRow
from segue.policy.scope import Scope
from segue.vouchers import campaign as vouchers
from segue.vouchers.campaign import Terms, compile_campaign

# what a policy calls the fields of a campaign that the ledger calls otherwise
_CALLED = {
    "name": "id",
    "budget_minor": "budget_amount",
    "discount_minor": "discount_amount",
    "discount_max_minor": "discount_max",
    "basket_min_minor": "basket_min",
}


def terms_of(source: Source, campaign: model.Campaign, scope: Scope, path: str, letters: str) -> Terms:
    """The numbers of a campaign; `letters` is the policy's currency. Raises PolicyError."""
    if (campaign.discount_percent is None) == (campaign.discount_amount is None):
        source.fail(
            path,
            "a campaign has discount_percent or discount_amount",
            "give one of the two",
        )
    if campaign.discount_percent is not None and campaign.discount_max is None:
        source.fail(
            path,
            "a percentage without the most it takes off",
            f'discount_max = "20.00": money is not promised without a bound (in {letters})',
        )
    if campaign.discount_percent is None and campaign.discount_max is not None:
        source.fail(
            f"{path}.discount_max",
            f"{campaign.discount_max}, where the discount is an amount",
            "leave it out: the amount is the most it takes off",
        )

    def money(name: str, least: int, most: int) -> int | None:
        given = getattr(campaign, name)
        return None if given is None else _minor(source, f"{path}.{name}", given, letters, least, most)

    declared = vouchers.Campaign(
        name=campaign.id,
        currency=letters,
        start=campaign.start,
        end=campaign.end,
        budget=campaign.budget,
        budget_minor=money("budget_amount", 0, MONEY_MINOR_MAX),
        per_customer=campaign.per_customer or None,
        per_day=campaign.per_day,
        discount_minor=money("discount_amount", 1, VOUCHER_MINOR_MAX),
        discount_percent=campaign.discount_percent,
        discount_max_minor=money("discount_max", 1, VOUCHER_MINOR_MAX),
        stack_group=campaign.stack_group,
        basket_min_minor=money("basket_min", 0, MONEY_MINOR_MAX) or 0,
        shops=tuple(campaign.shops),
        valid_for=campaign.valid_for,
        reserve_for=min(
            "1h", campaign.valid_for, key=lambda text: scope.at(f"{path}.valid_for").duration_ms(text)
        ),
        timezone=campaign.timezone,
    )
    return compile_campaign(declared, scope.hash_text, path, str(source.path), _CALLED)


def promised_by(row: CampaignRow, letters: str) -> VoucherInfo:
    """What every voucher of the campaign promises; `letters` is its currency."""
    terms = row.terms
    return VoucherInfo(
        campaign=terms.name,
        discount_percent=terms.percent / PERCENT_UNITS if terms.percent else None,
        discount_amount_minor=None if terms.percent else terms.depth_minor,
        is_percent=terms.percent > 0,
        currency=letters,
        valid_for_ms=terms.valid_ms,
        stack_group=row.campaign.stack_group,
    )


def _minor(source: Source, path: str, given: str | float, letters: str, least: int, most: int) -> int:
    """A sum of money that is written as a number, or as text with its decimals, in minor units."""
    decimals = EXPONENTS[letters]
    try:
        exact = Decimal(given if isinstance(given, str) else repr(given)) * 10**decimals
    except InvalidOperation:
        exact = Decimal("nan")
    if not exact.is_finite() or exact != exact.to_integral_value() or not least <= exact <= most:
        source.fail(
            path,
            f"{str(given)[:40]} is not a sum of money from {_major(least, decimals)} to {_major(most, decimals)}",
            f'{letters} has {decimals} decimals: write it as "{_major(1050, decimals)}"',
        )
    return int(exact)


def _major(minor: int, decimals: int) -> str:
    return f"{Decimal(minor).scaleb(-decimals):f}"
