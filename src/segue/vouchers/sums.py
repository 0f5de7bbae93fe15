"""What a campaign's vouchers add up to, and whether they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from segue.errors import StateError
from segue_kernels import ledger as layout
from segue_kernels.ledger import STATES, Ledger
from segue_kernels.ledger_rebuild import sum_up

STATE_NAMES = (
    "free",
    "reserved",
    "issued",
    "redeemed",
    "expired",
    "cancelled",
    "lapsed",
    "released",
    "withdrawn",
)
_CHARGED = (layout.RESERVED, layout.ISSUED, layout.REDEEMED, layout.EXPIRED, layout.CANCELLED)


@dataclass(frozen=True, slots=True)
class Sums:
    """Vouchers by state, and minor units; -1 where there is no bound."""

    free: int
    reserved: int
    issued: int
    redeemed: int
    expired: int
    cancelled: int
    lapsed: int
    released: int
    withdrawn: int
    held_minor: int
    spent_minor: int
    left: int
    left_minor: int

    @property
    def charged(self) -> int:
        """Vouchers that count against the budget in number."""
        return self.reserved + self.issued + self.redeemed + self.expired + self.cancelled


def sums_of(ledger: Ledger, number: int) -> Sums:
    """The sums of one campaign."""
    row = ledger.campaigns[number].tolist()
    counts = row[layout.C_COUNTS : layout.C_COUNTS + STATES]
    charged = sum(counts[state] for state in _CHARGED)
    held, spent = row[layout.C_HELD], row[layout.C_SPENT]
    budget, money = row[layout.C_BUDGET], row[layout.C_MONEY]
    left = -1 if budget < 0 else max(0, budget - charged)
    left_minor = -1 if money < 0 else max(0, money - held - spent)
    by_state = dict(zip(STATE_NAMES, counts, strict=True))
    return Sums(**by_state, held_minor=held, spent_minor=spent, left=left, left_minor=left_minor)


def check_sums(ledger: Ledger, numbers: Mapping[str, int]) -> None:
    """StateError unless the vouchers of every campaign add up to what it counts."""
    found = np.zeros((max(1, len(numbers)), STATES + 3), np.int64)
    sum_up(ledger, found)
    for name, number in numbers.items():
        row = ledger.campaigns[number]
        counts = row[layout.C_COUNTS : layout.C_COUNTS + STATES]
        told = [*counts.tolist(), int(row[layout.C_HELD]), int(row[layout.C_SPENT])]
        told.append(sum(int(counts[state]) for state in _CHARGED))
        if told != found[number].tolist():
            raise StateError(
                "check the ledger",
                f'campaign "{name}" counts {told}, its vouchers add up to {found[number].tolist()}',
                "rebuild it from its changes",
            )
