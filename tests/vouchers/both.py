"""The ledger and the naive one, asked the same, step by step.

Codes have nine bits here, so that several attempts, and several campaigns, meet in one code.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from segue.vouchers.answers import change_keys
from segue.vouchers.campaign import Terms
from segue.vouchers.ledger import VoucherLedger
from segue.vouchers.reasons import REASON_NAMES
from segue_kernels import ledger as layout
from segue_kernels.ledger import A_AMOUNT, A_CODE, A_EXPIRES, A_REASON, A_RESERVED_UNTIL, A_ROW
from tests.vouchers import naive_codes
from tests.vouchers.campaigns import (
    START_MS,
    Words,
    campaign,
    compacted,
    grants,
    hashed,
    keyring,
    redemptions,
    terms_of,
)
from tests.vouchers.naive_ledger import NaiveLedger, Said, Voucher

MASK = (1 << 9) - 1
ROWS_MAX = 2_000
NAMES = ("percent", "fixed", "own", "none")
SHOPS = tuple(hashed(shop) for shop in ("north", "south"))
OWN = ("Sale-1", "SALE O2", "sale-i", "sale 1", "", "x" * 33, "Ü1", "0000000016JD", "{spring}", "S" * 32)


def terms(budget: int = 6) -> list[Terms]:
    return terms_of(
        campaign(
            "percent",
            budget=budget,
            budget_minor=4_000,
            per_customer=2,
            per_day=3,
            timezone="Europe/Berlin",
            discount_percent=12.5,
            discount_max_minor=1_200,
            stack_group="spring",
            basket_min_minor=501,
            shops=("north",),
            valid_for="36h",
            reserve_for="30m",
        ),
        campaign("fixed", budget_minor=9_000, per_customer=None, valid_for="2d", reserve_for="2d"),
        campaign("own", own_codes=True, per_day=2, timezone="America/New_York", valid_for="1d"),
    )


class Both:
    """One ledger of each kind, asked the same."""

    def __init__(self) -> None:
        self.now = START_MS
        self.real = VoucherLedger(terms(), keyring(), rows_max=ROWS_MAX, code_mask=MASK)
        self.naive = NaiveLedger(terms(), keyring(), MASK)
        self.log = [self.real.changes()]
        self.codes: dict[str, int] = {}
        self.texts: list[str] = []

    def said(self, answer: Words) -> Said:
        reason = REASON_NAMES[int(answer[A_REASON])]
        if answer[A_ROW] < 0:
            return Said(reason)
        (text,) = self.real.texts(answer[A_ROW : A_ROW + 1])
        times = int(answer[A_RESERVED_UNTIL]), int(answer[A_EXPIRES])
        return Said(reason, text, *times, int(answer[A_AMOUNT]))

    def grant(self, rows: list[tuple[str, int, int, int, int, int]]) -> None:
        asked = [(n, (c, c), (d, -d), self.now + late, a, code) for n, c, d, late, a, code in rows]
        done = self.real.grant(grants([(self.real.campaign(n), *rest) for n, *rest in asked]))
        self.log.append(done.changes)
        for request, answer in zip(asked, done.answers, strict=True):
            said = self.said(answer)
            assert said == self.naive.grant(*request)
            if said.text:
                self.codes[said.text] = int(answer[A_CODE])
                self.texts.append(said.text)

    def issue_best(self, rankings: list[tuple[list[tuple[str, int, int]], int, int, int]]) -> None:
        """Rankings of ([(campaign, amount, currency)], customer, decision, late)."""
        asked = [
            [
                (name, (who, who), (what, -what), self.now + late, amount, code)
                for name, amount, code in wanted
            ]
            for wanted, who, what, late in rankings
        ]
        flat = [(self.real.campaign(name), *rest) for ranking in asked for name, *rest in ranking]
        starts = np.cumsum([0, *map(len, asked)])
        taken, done = self.real.issue_best(grants(flat), starts)
        self.log.append(done.changes)
        for ranking, place, start in zip(asked, taken.tolist(), starts.tolist(), strict=False):
            expected = self.naive.issue_best(ranking)
            if place < 0:
                assert expected is None
                continue
            said = self.said(done.answers[start + place])
            assert (place, said) == expected
            self.codes[said.text] = int(done.answers[start + place, A_CODE])
            self.texts.append(said.text)

    def redeem(self, rows: list[tuple[Any, ...]]) -> None:
        asked = [
            (self.typed(which, worn), (c, c), shop, basket, code, groups, self.now + late, (made, 7))
            for which, worn, c, shop, basket, code, groups, late, made in rows
        ]
        done = self.real.redeem(
            redemptions(
                [(who, shop, basket, code, now, made) for _, who, shop, basket, code, _, now, made in asked]
            ),
            [text for text, *_ in asked],
            [groups for *_, groups, _, _ in asked],
        )
        self.log.append(done.changes)
        for request, answer in zip(asked, done.answers, strict=True):
            assert self.said(answer) == self.naive.redeem(*request)
        for request, answer in zip(asked, done.answers, strict=True):
            if answer[A_REASON] == layout.WRONG_CHECK:
                self.compare_hints(request[0], request[1])

    def compare_hints(self, typed: str, customer: tuple[int, int]) -> None:
        found = self.real.hints(typed, customer, self.now)
        good = set()
        for code in naive_codes.neighbours(typed):
            voucher = self.naive.find(naive_codes.printed(code))
            if (
                voucher
                and self.naive._dead(voucher, self.now) == "ok"
                and customer in ((0, 0), voucher.customer)
            ):
                good.add(naive_codes.printed(code))
        assert set(found) == good if len(good) < 5 else len(found) == 5

    def typed(self, which: int, worn: str) -> str:
        """A code that was seen, as somebody typed it; or something else."""
        if which >= len(self.texts):
            return ("garbage!", "0000-0000-0000-3", OWN[0], "0" * 500, "")[which % 5]
        text = self.texts[-1 - which]
        if worn == "swap":
            return text[:2] + text[3] + text[2] + text[4:]
        if worn == "drop":
            return text[:-2] + text[-1]
        return {"lower": text.lower(), "bare": text.replace("-", " "), "plain": text}[worn]

    def pass_on(self, action: str, which: list[int], late: int) -> None:
        texts = [self.texts[-1 - k] for k in which if k < len(self.texts)]
        codes = np.array([self.codes[text] for text in texts] + [1 << 50], np.int64)
        times = np.full(len(codes), self.now + late)
        done = getattr(self.real, action)(codes, times)
        self.log.append(done.changes)
        expected = [getattr(self.naive, action)(text, self.now + late) for text in [*texts, "never seen"]]
        assert [REASON_NAMES[reason] for reason in done.reasons.tolist()] == expected

    def turn(self, ahead: int, rows_max: int) -> None:
        before = self.now
        self.now += ahead
        gone: list[tuple[int, int, str]] = []
        while len(changes := self.real.expire(self.now, rows_max)):
            self.log.append(changes)
            gone += [self.left(change[1:]) for change in changes]
        # what was overdue before the wheel turned comes first, in any order
        order = [max(due, before) for due, _, _ in gone]
        assert order == sorted(order)
        expected = self.naive.expire(self.now)
        assert sorted((due, text) for due, _, text in gone) == expected

    def left(self, words: Words) -> tuple[int, int, str]:
        """(when, state, code) of a voucher whose time came, from its change."""
        pack = int(words[layout.PACK])
        state = pack >> layout.CAMPAIGN_BITS & layout.STATE_MASK
        row = self.real.arrays.campaigns[pack & layout.CAMPAIGN_MASK]
        wait = row[layout.C_RESERVE if state == layout.LAPSED else layout.C_VALID]
        text = next(text for text, code in self.codes.items() if code == words[layout.CODE])
        return (pack >> layout.GRANTED_SHIFT) + int(wait), state, text

    def bring(self, texts: list[str]) -> None:
        done = self.real.import_codes("own", texts)
        self.log.append(done.changes)
        expected = self.naive.import_codes("own", texts)
        assert [REASON_NAMES[reason] for reason in done.reasons.tolist()] == expected
        codes = done.changes[::2, 1].tolist()
        kept = [text for text, reason in zip(texts, expected, strict=True) if reason == "ok"]
        self.codes.update(zip(kept, codes, strict=True))
        self.texts += kept

    def stop(self, name: str, codes_too: bool) -> None:
        self.log.append(self.real.stop(name, codes_too=codes_too))
        self.naive.stop(name, codes_too)

    def declare(self, budget: int) -> None:
        self.log.append(self.real.declare(terms(budget)))
        self.naive.terms = {declared.name: declared for declared in terms(budget)}

    def rebuild(self, seed: int, compact: bool) -> None:
        """Go on with the ledger that the changes make, their keys in another order."""
        changes = np.concatenate(self.log)
        order = np.array(random.Random(seed).sample(range(len(changes)), len(changes)), np.int64)
        if compact:
            changes = compacted(changes, change_keys(changes), order)
        declared = list(self.naive.terms.values())
        random.Random(seed).shuffle(declared)
        self.real = VoucherLedger.rebuild(declared, keyring(), changes, rows_max=ROWS_MAX, code_mask=MASK)

    def check(self) -> None:
        self.real.check()
        for name in self.naive.terms:
            sums = self.real.sums(name)
            vouchers: list[Voucher] = self.naive.of(name)
            for state in ("free", "reserved", "issued", "redeemed", "expired", "cancelled"):
                assert getattr(sums, state) == sum(voucher.state == state for voucher in vouchers)
            held = sum(voucher.held for voucher in vouchers if voucher.state in ("reserved", "issued"))
            assert (sums.held_minor, sums.spent_minor) == (
                held,
                sum(voucher.discount for voucher in vouchers),
            )
