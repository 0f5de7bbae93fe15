"""The memory of a ledger: address space for as much as it may hold, pages for as much as it holds."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from segue.limits import CAMPAIGNS_MAX, CODE_ATTEMPTS_MAX
from segue_kernels.calendar import DAY_MS, TABLE_DAYS, TABLE_FIRST_DAY
from segue_kernels.codes import CODE_MASK
from segue_kernels.ledger import (
    ATTEMPTS,
    CAMPAIGN_WORDS,
    CODE_COPIED,
    CODE_MASK_NOW,
    CODE_SLOTS,
    DAYS_KEPT,
    HOLDER_COPIED,
    HOLDER_SLOTS,
    KEY_WORDS,
    META_WORDS,
    REASONS,
    VOUCHER_WORDS,
    Ledger,
)
from segue_kernels.ledger_index import FIRST_SLOTS, FULL_DENOMINATOR, FULL_NUMERATOR
from segue_kernels.timers import WHEEL_WORDS

_SLOT_BYTES = 4


class Slots:
    """The array of an index; what its smaller tables took can be given back."""

    def __init__(self, rows_max: int) -> None:
        slots = FIRST_SLOTS
        while slots * FULL_NUMERATOR <= rows_max * FULL_DENOMINATOR:
            slots *= 2
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._memory = mmap.mmap(-1, 2 * slots * _SLOT_BYTES, flags=flags)
        self.array: npt.NDArray[Any] = np.frombuffer(self._memory, np.uint32)
        self._given_back = FIRST_SLOTS

    def give_back(self, slots: int, copied: int) -> None:
        """The table has `slots` now, and of the smaller one `copied` were copied: once all were, its memory goes."""
        if slots > self._given_back and copied == slots // 2:
            self._memory.madvise(mmap.MADV_DONTNEED, 0, slots * _SLOT_BYTES)
            self._given_back = slots


def new_ledger(rows_max: int, code_mask: int = CODE_MASK) -> tuple[Ledger, Slots, Slots]:
    """An empty ledger for so many rows, and its two indices' memory. code_mask: the bits that codes have."""
    codes, holders = Slots(rows_max), Slots(rows_max)
    meta = np.zeros(META_WORDS, np.int64)
    meta[CODE_MASK_NOW] = code_mask
    meta[ATTEMPTS] = CODE_ATTEMPTS_MAX
    meta[[CODE_SLOTS, HOLDER_SLOTS]] = FIRST_SLOTS
    meta[[CODE_COPIED, HOLDER_COPIED]] = FIRST_SLOTS // 2  # there is no smaller table
    days = np.zeros((CAMPAIGNS_MAX, DAYS_KEPT, 2), np.int64)
    days[:, :, 0] = -1
    ledger = Ledger(
        rows=np.zeros((rows_max, VOUCHER_WORDS), np.int64),
        codes=codes.array,
        holders=holders.array,
        held=np.zeros(rows_max, np.uint16),
        wheel=np.zeros(WHEEL_WORDS, np.int64),
        campaigns=np.zeros((CAMPAIGNS_MAX, CAMPAIGN_WORDS), np.int64),
        days=days,
        day_start=(np.arange(TABLE_FIRST_DAY, TABLE_FIRST_DAY + TABLE_DAYS) * DAY_MS).reshape(1, -1),
        keys=np.zeros((0, KEY_WORDS), np.int64),
        shops=np.zeros(0, np.int64),
        meta=meta,
        answered=np.zeros(REASONS, np.int64),
    )
    return ledger, codes, holders
