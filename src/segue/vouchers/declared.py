"""Campaigns into the ledger's tables: numbered once, for good; their bounds as declared last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from segue.errors import LimitError, PolicyError, StateError
from segue.limits import CAMPAIGNS_MAX
from segue.reference.zones import day_starts
from segue.vouchers.campaign import STEP, Terms
from segue.vouchers.keys import Keyring
from segue_kernels import ledger as layout
from segue_kernels.ledger import CHANGE_CAMPAIGN, CHANGE_KIND, CHANGE_WORDS, Ledger

Words = npt.NDArray[np.int64]

# words of a campaign's change, behind its kind
_HASH_LO, _HASH_HI, _NUMBER, _PROMISE, _STOPPED = range(1, 6)


@cache
def _starts(timezone: str) -> Words:
    """Where the days of a zone begin, int64[1, TABLE_DAYS]."""
    return day_starts(ZoneInfo(timezone)).reshape(1, -1)


class Declared:
    """The campaigns of a ledger by name, and what their changes say."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.terms: dict[int, Terms] = {}
        self._zones = ["UTC"]

    def number(self, name: str) -> int:
        """The number of a campaign, or -1."""
        return self.numbers.get(name, -1)

    def declare(self, ledger: Ledger, terms: Sequence[Terms], keyring: Keyring) -> Ledger:
        """The ledger with these campaigns beside those it has; PolicyError if a promise is another than it was."""
        for campaign in terms:
            number = self.numbers.setdefault(campaign.name, len(self.numbers))
            if number >= CAMPAIGNS_MAX:
                raise LimitError(
                    STEP, f"more than {CAMPAIGNS_MAX} campaigns", "a ledger has no room for more"
                )
            before = self.terms.get(number)
            if before is not None and before.promise != campaign.promise:
                raise PolicyError(
                    STEP,
                    f'campaign "{campaign.name}" promised something else before',
                    "what was promised stays: discount, currency, times, basket, group, shops; declare a new one",
                )
            self.terms[number] = campaign
            if campaign.timezone not in self._zones:
                self._zones.append(campaign.timezone)
                starts = np.concatenate([ledger.day_start, _starts(campaign.timezone)])
                ledger = ledger._replace(day_start=starts)
        ledger.meta[layout.CAMPAIGNS_KNOWN] = len(self.numbers)
        return self._write(ledger, keyring)

    def _write(self, ledger: Ledger, keyring: Keyring) -> Ledger:
        keys: list[tuple[int, int, int]] = []
        shops: list[int] = []
        for number, campaign in self.terms.items():
            row = ledger.campaigns[number]
            row[: layout.C_VALID] = (
                campaign.hash_lo,
                campaign.hash_hi,
                1,
                campaign.budget,
                campaign.budget_minor,
                campaign.per_customer,
                campaign.per_day,
                campaign.start_ms,
                campaign.end_ms,
                campaign.currency,
                campaign.percent,
                campaign.depth_minor,
                campaign.group,
                campaign.basket_min_minor,
                len(shops),
                len(campaign.shops),
            )
            row[layout.C_VALID] = campaign.valid_ms
            row[layout.C_RESERVE] = campaign.reserve_ms
            row[layout.C_ZONE] = self._zones.index(campaign.timezone)
            row[layout.C_KEYS] = len(keys)
            row[layout.C_OWN] = campaign.own_codes
            shops += campaign.shops
            if not campaign.own_codes:
                for key in keyring.keys(campaign.name):
                    low, high = np.frombuffer(key.digits, "<i8").tolist()
                    keys.append((key.from_ms, low, high))
            row[layout.C_KEYS_COUNT] = len(keys) - row[layout.C_KEYS]
        return ledger._replace(
            keys=np.array(keys, np.int64).reshape(-1, layout.KEY_WORDS), shops=np.array(shops, np.int64)
        )

    def changes(self, ledger: Ledger, names: Sequence[str]) -> Words:
        """The rows for the compacted topic that say which numbers these campaigns have, and whether they go on."""
        out = np.zeros((len(names), CHANGE_WORDS), np.int64)
        out[:, CHANGE_KIND] = CHANGE_CAMPAIGN
        for row, name in zip(out, names, strict=True):
            number = self.numbers[name]
            terms = self.terms[number]
            row[_HASH_LO], row[_HASH_HI], row[_PROMISE] = terms.hash_lo, terms.hash_hi, terms.promise
            row[_NUMBER], row[_STOPPED] = number, ledger.campaigns[number, layout.C_STOPPED]
        return out

    def take_numbers(self, ledger: Ledger, terms: Sequence[Terms], changes: Words) -> None:
        """Give campaigns the numbers that they have in these changes; StateError for one that is not declared."""
        by_hash = {(campaign.hash_lo, campaign.hash_hi): campaign for campaign in terms}
        for row in changes[changes[:, CHANGE_KIND] == CHANGE_CAMPAIGN]:
            campaign = by_hash.get((int(row[_HASH_LO]), int(row[_HASH_HI])))
            number = int(row[_NUMBER])
            if campaign is None or not 0 <= number < CAMPAIGNS_MAX:
                raise StateError(
                    "rebuild the ledger",
                    f"its changes have a campaign, number {number}, that is not declared",
                    "declare every campaign that has vouchers; one that is over is declared with its end",
                )
            if campaign.promise != row[_PROMISE]:
                raise StateError(
                    "rebuild the ledger",
                    f'campaign "{campaign.name}" promised something else before',
                    "declare it as it was; what changes is declared as a new campaign",
                )
            self.numbers[campaign.name] = number
            # there may be copies of the row from before it was cancelled: nothing takes a cancellation back
            stopped = ledger.campaigns[number]
            stopped[layout.C_STOPPED] = max(int(stopped[layout.C_STOPPED]), int(row[_STOPPED]))
        if sorted(self.numbers.values()) != list(range(len(self.numbers))):
            raise StateError(
                "rebuild the ledger", "changes of campaigns are missing", "read the topic from its start"
            )
