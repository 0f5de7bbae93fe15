"""The ledger as a person would keep it: a list of vouchers, every sum added up anew each time it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from fractions import Fraction
from zoneinfo import ZoneInfo

from segue.vouchers.campaign import Terms
from segue.vouchers.keys import Keyring
from tests.kernels.test_siphash import naive_siphash
from tests.vouchers import naive_codes

CHARGED = {"reserved", "issued", "redeemed", "expired", "cancelled"}
WAITS = {"reserved", "issued"}
DAYS = 8


@dataclass
class Voucher:
    terms: Terms
    text: str
    state: str = "free"
    decision: tuple[int, int] | None = None
    customer: tuple[int, int] | None = None
    granted: int = 0
    held: int = 0
    discount: int = 0
    redemption: tuple[int, int] | None = None

    @property
    def reserved_until(self) -> int:
        return self.granted + self.terms.reserve_ms

    @property
    def expires(self) -> int:
        return self.granted + self.terms.valid_ms


@dataclass(frozen=True)
class Said:
    """An answer: why, of which code, until when, how much."""

    reason: str
    text: str = ""
    reserved_until: int = 0
    expires: int = 0
    minor: int = 0


class NaiveLedger:
    def __init__(self, terms: Sequence[Terms], keyring: Keyring, code_mask: int) -> None:
        self.terms = {campaign.name: campaign for campaign in terms}
        self.keyring = keyring
        self.mask = code_mask
        self.vouchers: list[Voucher] = []
        self.stopped: dict[str, str] = {}

    def of(self, name: str) -> list[Voucher]:
        return [voucher for voucher in self.vouchers if voucher.terms.name == name]

    def find(self, text: str) -> Voucher | None:
        wanted = naive_codes.canonical(text)
        for voucher in self.vouchers:
            if naive_codes.canonical(voucher.text) == wanted:
                return voucher
        return None

    # --- what is asked ---------------------------------------------------------------------------------

    def grant(
        self,
        name: str,
        customer: tuple[int, int],
        decision: tuple[int, int],
        now: int,
        amount: int,
        currency: int,
    ) -> Said:
        terms = self.terms.get(name)
        if terms is None:
            return Said("unknown_campaign")
        if not 0 < now < 2**43:
            return Said("time_out_of_range")
        for voucher in self.of(name):
            if voucher.decision == decision:
                return _said("again", voucher)
        amount = amount or terms.depth_minor
        reason = "ok"
        if name in self.stopped:
            reason = "campaign_cancelled"
        elif now < terms.start_ms:
            reason = "not_begun"
        elif now >= terms.end_ms:
            reason = "ended"
        elif currency != terms.currency:
            reason = "currency"
        elif not 0 < amount <= terms.depth_minor:
            reason = "amount_out_of_range"
        else:
            reason = self._room(terms, customer, now, amount, late=False)
        if reason != "ok":
            return Said(reason)
        voucher_or_none = self._next_free(terms) if terms.own_codes else self._new(terms, decision, now)
        if voucher_or_none is None:
            return Said("no_code_left")
        voucher = voucher_or_none
        voucher.decision, voucher.customer = decision, customer
        voucher.granted, voucher.held, voucher.state = now, amount, "reserved"
        return _said("ok", voucher)

    def issue_best(
        self, ranking: Sequence[tuple[str, tuple[int, int], tuple[int, int], int, int, int]]
    ) -> tuple[int, Said] | None:
        """Which request of a decision is granted and what is said, None if none is: what it has stands."""
        for place, (name, _, decision, now, _, _) in enumerate(ranking):
            if name in self.terms and 0 < now < 2**43:
                for voucher in self.of(name):
                    if voucher.decision == decision:
                        return place, _said("again", voucher)
        for place, request in enumerate(ranking):
            said = self.grant(*request)
            if said.reason == "ok":
                assert self.issue(said.text, request[3]) == "ok"
                return place, said
        return None

    def redeem(
        self,
        text: str,
        customer: tuple[int, int],
        shop: int,
        basket: int,
        currency: int,
        groups: Sequence[int],
        now: int,
        redemption: tuple[int, int],
    ) -> Said:
        voucher = self.find(text) if len(text.encode()) <= 64 else None
        if voucher is None:
            return Said(self._no_such(text))
        if not 0 < now < 2**43:
            return Said("time_out_of_range", voucher.text)
        reason = self._dead(voucher, now)
        if reason == "redeemed" and voucher.redemption == redemption:
            return _said("again", voucher, voucher.discount)
        if reason == "ok":
            reason = self._unfit(voucher, customer, shop, basket, currency, groups)
        if reason != "ok":
            return _said(reason, voucher, 0)
        off = voucher.held
        if voucher.terms.percent:
            off = min(off, round(Fraction(basket * voucher.terms.percent, 10_000)))
        voucher.discount = min(off, basket)
        voucher.state, voucher.redemption = "redeemed", redemption
        return _said("ok", voucher, voucher.discount)

    def issue(self, text: str, now: int) -> str:
        if not 0 < now < 2**43:
            return "time_out_of_range"
        voucher = self.find(text)
        if voucher is None:
            return "unknown"
        if voucher.state == "free":
            return "not_issued"
        if voucher.state in ("issued", "redeemed", "expired"):
            return "again"
        if voucher.state in ("cancelled", "withdrawn") or self.stopped.get(voucher.terms.name) == "codes":
            return "cancelled"
        if voucher.state in ("lapsed", "released"):
            if now >= voucher.expires:
                return "expired"
            reason = self._room_again(voucher)
            if reason != "ok":
                return reason
        voucher.state = "issued"
        return "ok"

    def release(self, text: str, now: int) -> str:
        if not 0 < now < 2**43:
            return "time_out_of_range"
        voucher = self.find(text)
        if voucher is None:
            return "unknown"
        if voucher.state == "reserved":
            voucher.state = "released"
            return "ok"
        if voucher.state in ("free", "lapsed", "released", "withdrawn"):
            return "again"
        return "redeemed" if voucher.state == "redeemed" else "issued"

    def cancel(self, text: str, now: int) -> str:
        if not 0 < now < 2**43:
            return "time_out_of_range"
        voucher = self.find(text)
        if voucher is None:
            return "unknown"
        if voucher.state in ("cancelled", "withdrawn"):
            return "again"
        if voucher.state in ("redeemed", "expired"):
            return voucher.state
        voucher.state = "cancelled" if voucher.state == "issued" else "withdrawn"
        return "ok"

    def expire(self, now: int) -> list[tuple[int, str]]:
        """(when, code) of what ran out, in order."""
        gone = []
        for voucher in self.vouchers:
            due = voucher.reserved_until if voucher.state == "reserved" else voucher.expires
            if voucher.state in WAITS and due <= now:
                voucher.state = "lapsed" if voucher.state == "reserved" else "expired"
                gone.append((due, voucher.text))
        return sorted(gone)

    def stop(self, name: str, codes_too: bool) -> None:
        if codes_too or name not in self.stopped:
            self.stopped[name] = "codes" if codes_too else "grants"

    def import_codes(self, name: str, texts: Sequence[str]) -> list[str]:
        reasons = []
        for text in texts:
            plain = naive_codes.canonical(text)
            bad = not plain or any(not "!" <= letter <= "~" for letter in plain)
            if bad or len(text.encode()) > 32:
                reasons.append("garbage")
            elif self.find(text) is not None:
                reasons.append("code_taken")
            else:
                reasons.append("ok")
                self.vouchers.append(Voucher(self.terms[name], text))
        return reasons

    # --- the rules -------------------------------------------------------------------------------------

    def _room(self, terms: Terms, customer: tuple[int, int] | None, now: int, amount: int, late: bool) -> str:
        charged = [voucher for voucher in self.of(terms.name) if voucher.state in CHARGED]
        mine = sum(voucher.customer == customer for voucher in charged)
        if terms.per_customer and mine >= terms.per_customer:
            return "customer_limit"
        if terms.per_day:
            day = _day(terms, now)
            drawn = [_day(terms, v.granted) for v in self.of(terms.name) if v.granted]
            if not late and any(other > day and (other - day) % DAYS == 0 for other in drawn):
                return "day_no_longer_counted"
            counted = not any(other > day and (other - day) % DAYS == 0 for other in drawn)
            today = sum(_day(terms, voucher.granted) == day for voucher in charged)
            if counted and today >= terms.per_day:
                return "day_limit"
        if 0 <= terms.budget <= len(charged):
            return "budget_number"
        held = sum(v.held for v in charged if v.state in WAITS)
        spent = sum(v.discount for v in charged if v.state == "redeemed")
        if 0 <= terms.budget_minor < held + spent + amount:
            return "budget_money"
        return "ok"

    def _room_again(self, voucher: Voucher) -> str:
        terms = self.terms[voucher.terms.name]
        return self._room(terms, voucher.customer, voucher.granted, voucher.held, late=True)

    def _next_free(self, terms: Terms) -> Voucher | None:
        return next((voucher for voucher in self.of(terms.name) if voucher.state == "free"), None)

    def _new(self, terms: Terms, decision: tuple[int, int], now: int) -> Voucher | None:
        keys = self.keyring.keys(terms.name)
        key = ([keys[0]] + [key for key in keys if key.from_ms <= now])[-1]
        for attempt in range(64):
            words = [terms.hash_lo, terms.hash_hi, *decision, attempt]
            message = b"".join(word.to_bytes(8, "little", signed=True) for word in words)
            code = naive_siphash(message, key.digits, 1, 3, 128) & self.mask
            text = naive_codes.printed(code)
            if code and code % 37 < 32 and self.find(text) is None:
                self.vouchers.append(Voucher(terms, text))
                return self.vouchers[-1]
        return None

    def _no_such(self, text: str) -> str:
        if len(text.encode()) > 64:
            return "garbage"
        found = naive_codes.read(text)
        if isinstance(found, int):
            return "unknown"
        if found == "mistyped":
            return "mistyped"
        plain = naive_codes.canonical(text)
        own = any(voucher.terms.own_codes for voucher in self.vouchers)
        fits = 0 < len(plain) <= 32 and all("!" <= letter <= "~" for letter in plain)
        return "unknown" if own and fits else "garbage"

    def _dead(self, voucher: Voucher, now: int) -> str:
        if voucher.state == "free":
            return "not_issued"
        if voucher.state == "redeemed":
            return "redeemed"
        if voucher.state in ("cancelled", "withdrawn") or self.stopped.get(voucher.terms.name) == "codes":
            return "cancelled"
        return "expired" if voucher.state == "expired" or now >= voucher.expires else "ok"

    def _unfit(
        self,
        voucher: Voucher,
        customer: tuple[int, int],
        shop: int,
        basket: int,
        currency: int,
        groups: Sequence[int],
    ) -> str:
        terms = self.terms[voucher.terms.name]
        checks: list[tuple[str, Callable[[], bool]]] = [
            ("wrong_customer", lambda: customer not in ((0, 0), voucher.customer)),
            ("wrong_shop", lambda: bool(terms.shops) and shop not in terms.shops),
            ("currency", lambda: currency != terms.currency),
            ("amount_out_of_range", lambda: not 0 <= basket <= 10**15),
            ("stacked", lambda: terms.group != 0 and terms.group in groups),
            ("basket_too_small", lambda: basket < terms.basket_min_minor),
        ]
        for reason, wrong in checks:
            if wrong():
                return reason
        return self._room_again(voucher) if voucher.state in ("lapsed", "released") else "ok"


def _day(terms: Terms, now: int) -> int:
    zone = UTC if terms.timezone == "UTC" else ZoneInfo(terms.timezone)
    return datetime.fromtimestamp(now // 1000, zone).date().toordinal() - date(1970, 1, 1).toordinal()


def _said(reason: str, voucher: Voucher, minor: int | None = None) -> Said:
    told = voucher.held if minor is None else minor
    granted = voucher.granted
    return Said(
        reason, voucher.text, granted + voucher.terms.reserve_ms, granted + voucher.terms.valid_ms, told
    )
