"""A campaign as it is declared, and checked: what it promises, how much of it there is, and where it holds.

Law: a declaration that passes can't fail later. Its promise (discount, currency, times, basket, group, shops, whose
codes) is fixed for its life; its bounds (budgets, limits, start and end) may be declared anew.

Days are those of the campaign's own time zone, from local midnight to local midnight (segue_kernels.calendar says which
instant that is when the clocks change); UTC unless declared. Validity runs from the grant on, so the time that a
message promises never moves. Money is whole minor units of the campaign's one currency.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NoReturn

import msgspec

from segue import limits
from segue.errors import PolicyError, did_you_mean
from segue.events.money import EXPONENTS, letters_code
from segue.events.refusal import Refusal
from segue.events.time import parse_time_ms
from segue.policy.scope import DURATION, DURATION_HINT, UNITS_MS
from segue.reference.zones import zone_names
from segue_kernels.ledger import TIME_MS_MAX

STEP = "read the campaigns"
_PERCENT_UNIT = 100  # hundredths of a percent
_NAME_BYTES_MAX = 64


class Campaign(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One campaign as people write it.

    budget, budget_minor  vouchers and money that it may cost; without, as many as there are customers
    per_customer, per_day vouchers at most
    start, end            grants from and before; ISO 8601 with an offset
    discount_percent, discount_max_minor  of the basket, and the most it takes off; or discount_minor: an amount
    stack_group           at most one voucher of a group in a basket; without, it goes with every other
    basket_min_minor      of the basket it is good for
    shops                 where it is good; empty: everywhere
    valid_for             from the grant on, "30d"; reserve_for: so long a grant waits for being issued
    own_codes             the shop brings its own codes along
    """

    name: str
    currency: str
    start: str
    end: str
    budget: int | None = None
    budget_minor: int | None = None
    per_customer: int | None = 1
    per_day: int | None = None
    discount_minor: int | None = None
    discount_percent: float | None = None
    discount_max_minor: int | None = None
    stack_group: str = ""
    basket_min_minor: int = 0
    shops: tuple[str, ...] = ()
    valid_for: str = "30d"
    reserve_for: str = "1h"
    timezone: str = "UTC"
    own_codes: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """A campaign as numbers; times in ms, money in minor units, shops and group as hashes, -1 and 0: no bound."""

    name: str
    hash_lo: int
    hash_hi: int
    promise: int
    budget: int
    budget_minor: int
    per_customer: int
    per_day: int
    start_ms: int
    end_ms: int
    currency: int
    percent: int
    depth_minor: int
    group: int
    basket_min_minor: int
    shops: tuple[int, ...]
    valid_ms: int
    reserve_ms: int
    timezone: str
    own_codes: bool


@dataclass(frozen=True, slots=True)
class _Check:
    """What every check needs: the declaration, and where in which document it stands."""

    campaign: Campaign
    path: str
    file: str
    called: Mapping[str, str]

    def fail(self, name: str, found: str, hint: str) -> NoReturn:
        place = f"{self.file}: " if self.file else ""
        raise PolicyError(STEP, f"{place}`{self.path}.{self.called.get(name, name)}`: {found}", hint)

    def number(self, name: str, least: int, most: int) -> int | None:
        value: int | None = getattr(self.campaign, name)
        if value is not None and not least <= value <= most:
            self.fail(name, f"{value} is out of range", f"it is from {least} to {most}")
        return value

    def time_ms(self, name: str) -> int:
        try:
            found = parse_time_ms(getattr(self.campaign, name), name)
        except Refusal as refusal:
            self.fail(name, str(refusal), "write it as 2026-03-01T00:00:00Z")
        if not 0 < found <= TIME_MS_MAX:
            self.fail(name, f"{getattr(self.campaign, name)} is out of range", "years from 1970 to 2248")
        return found

    def duration_ms(self, name: str, most: int) -> int:
        text: str = getattr(self.campaign, name)
        found = DURATION.fullmatch(text)
        if found is None:
            self.fail(name, f'"{text[:40]}" is not a duration', DURATION_HINT)
        value = int(found[1]) * UNITS_MS[found[2]]
        if not 0 < value <= most:
            self.fail(
                name, f'"{text[:40]}" is out of range', f"more than 0 and at most {most // limits.DAY_MS}d"
            )
        return value


def compile_campaign(
    campaign: Campaign,
    hash_text: Callable[[str], int],
    path: str = "$",
    file: str = "",
    called: Mapping[str, str] | None = None,
) -> Terms:
    """The numbers of a declaration; PolicyError with path, value and hint for one that can't be.

    hash_text  the deployment's hash of shops and groups (segue.events.hashing), as events carry it
    path       of the declaration in its document `file`
    called     what the document calls fields that it calls otherwise
    """
    check = _Check(campaign, path, file, called or {})
    if not 0 < len(campaign.name.encode()) <= _NAME_BYTES_MAX:
        check.fail("name", f"it has {len(campaign.name.encode())} bytes", f"1 to {_NAME_BYTES_MAX}")
    if campaign.currency not in EXPONENTS:
        check.fail(
            "currency",
            f'"{campaign.currency[:20]}" is no currency with minor units',
            did_you_mean(campaign.currency[:20], tuple(EXPONENTS)),
        )
    if campaign.timezone != "UTC" and campaign.timezone not in zone_names():
        check.fail(
            "timezone",
            f'unknown time zone "{campaign.timezone[:40]}"',
            did_you_mean(campaign.timezone[:40], zone_names()),
        )
    start_ms, end_ms = check.time_ms("start"), check.time_ms("end")
    if end_ms <= start_ms:
        check.fail(
            "end",
            f"{campaign.end} is not after the start, {campaign.start}",
            "a campaign ends after it starts",
        )
    percent, depth = _discount(check)
    if len(campaign.shops) > limits.SHOPS_PER_CAMPAIGN_MAX:
        check.fail(
            "shops", f"there are {len(campaign.shops)}", f"{limits.SHOPS_PER_CAMPAIGN_MAX} at most; none: all"
        )
    for place, shop in enumerate(campaign.shops):
        if not shop:
            check.fail(f"shops[{place}]", "it is empty", "name the shop as its events do")
    name_hash = hashlib.blake2b(campaign.name.encode(), digest_size=16).digest()
    budget = check.number("budget", 0, limits.VOUCHERS_MAX)
    budget_minor = check.number("budget_minor", 0, limits.MONEY_MINOR_MAX)
    group = hash_text(campaign.stack_group)
    basket_min = check.number("basket_min_minor", 0, limits.MONEY_MINOR_MAX) or 0
    shops = tuple(sorted(hash_text(shop) for shop in set(campaign.shops)))
    valid_ms = check.duration_ms("valid_for", limits.VOUCHER_VALID_MS_MAX)
    reserve_ms = check.duration_ms("reserve_for", limits.VOUCHER_RESERVE_MS_MAX)
    if reserve_ms > valid_ms:
        check.fail(
            "reserve_for",
            f'"{campaign.reserve_for}" is longer than a code is good, {campaign.valid_for}',
            "reserve for less",
        )
    promised = repr(
        (
            campaign.currency,
            percent,
            depth,
            group,
            basket_min,
            shops,
            valid_ms,
            reserve_ms,
            campaign.timezone,
            campaign.own_codes,
        )
    )
    return Terms(
        name=campaign.name,
        hash_lo=int.from_bytes(name_hash[:8], "little", signed=True),
        hash_hi=int.from_bytes(name_hash[8:], "little", signed=True),
        promise=int.from_bytes(
            hashlib.blake2b(promised.encode(), digest_size=8).digest(), "little", signed=True
        ),
        budget=-1 if budget is None else budget,
        budget_minor=-1 if budget_minor is None else budget_minor,
        per_customer=check.number("per_customer", 1, limits.VOUCHERS_PER_CUSTOMER_MAX) or 0,
        per_day=check.number("per_day", 1, limits.VOUCHERS_MAX) or 0,
        start_ms=start_ms,
        end_ms=end_ms,
        currency=letters_code(campaign.currency),
        percent=percent,
        depth_minor=depth,
        group=group,
        basket_min_minor=basket_min,
        shops=shops,
        valid_ms=valid_ms,
        reserve_ms=reserve_ms,
        timezone=campaign.timezone,
        own_codes=campaign.own_codes,
    )


def _discount(check: _Check) -> tuple[int, int]:
    """Hundredths of a percent (0: an amount) and the most that one voucher takes off."""
    campaign = check.campaign
    if (campaign.discount_minor is None) == (campaign.discount_percent is None):
        check.fail(
            "discount_minor",
            "a campaign has discount_minor or discount_percent, one of the two",
            "an amount in minor units, or a percentage with discount_max_minor",
        )
    if campaign.discount_percent is None:
        if campaign.discount_max_minor is not None:
            check.fail(
                "discount_max_minor",
                f"{campaign.discount_max_minor}, where the discount is an amount",
                "leave it out: the amount is the most it takes off",
            )
        return 0, check.number("discount_minor", 1, limits.VOUCHER_MINOR_MAX) or 0
    exact = Decimal(repr(campaign.discount_percent)) * _PERCENT_UNIT
    if not exact.is_finite() or exact != exact.to_integral_value() or not 0 < exact <= 100 * _PERCENT_UNIT:
        check.fail(
            "discount_percent",
            f"{campaign.discount_percent} is no percentage",
            "more than 0, at most 100, with two decimals at most",
        )
    if campaign.discount_max_minor is None:
        check.fail(
            "discount_max_minor",
            "a percentage without the most it takes off",
            "money can't be promised without a bound: give it in minor units",
        )
    return int(exact), check.number("discount_max_minor", 1, limits.VOUCHER_MINOR_MAX) or 0
