"""When a voucher's next time comes: the end of its reservation, or of its validity.

The hierarchical timing wheel of timers.py, whose slots and marks it shares, over the vouchers: a row hangs exactly at
its time, which its state and its campaign tell, so nothing of it is kept but its two neighbours.
"""

from __future__ import annotations

import numpy as np

from segue_kernels.jit import inline
from segue_kernels.ledger import (
    C_RESERVE,
    C_VALID,
    CAMPAIGN_BITS,
    CAMPAIGN_MASK,
    GRANTED_SHIFT,
    ISSUED,
    LINK,
    PACK,
    RESERVED,
    STATE_MASK,
    WHEEL_TIME,
    Ledger,
)
from segue_kernels.load import trailing_zeros
from segue_kernels.timers import LEVEL_BITS, LOW, MARK_BITS, MARKS, SLOTS, slot_of


@inline
def state_of(ledger: Ledger, row: int) -> int:
    return (ledger.rows[row, PACK] >> CAMPAIGN_BITS) & STATE_MASK


@inline
def campaign_of(ledger: Ledger, row: int) -> int:
    return ledger.rows[row, PACK] & CAMPAIGN_MASK


@inline
def granted_at(ledger: Ledger, row: int) -> int:
    return ledger.rows[row, PACK] >> GRANTED_SHIFT


@inline
def reserved_until(ledger: Ledger, row: int) -> int:
    """UTC ms at which the reservation ends."""
    return granted_at(ledger, row) + ledger.campaigns[campaign_of(ledger, row), C_RESERVE]


@inline
def expires_at(ledger: Ledger, row: int) -> int:
    """UTC ms from which on the code is no longer honoured."""
    return granted_at(ledger, row) + ledger.campaigns[campaign_of(ledger, row), C_VALID]


@inline
def waits(state: int) -> bool:
    """Whether a voucher in this state hangs in the wheel."""
    return state == RESERVED or state == ISSUED


@inline
def due_of(ledger: Ledger, row: int) -> int:
    """When the next time of a voucher that waits comes, UTC ms."""
    if state_of(ledger, row) == RESERVED:
        return reserved_until(ledger, row)
    return expires_at(ledger, row)


@inline
def hang(ledger: Ledger, row: int) -> None:
    """Hang a row that waits and does not hang."""
    wheel = ledger.wheel
    slot = slot_of(ledger.meta[WHEEL_TIME], due_of(ledger, row))
    head = wheel[slot]
    ledger.rows[row, LINK] = head
    if head != 0:
        ledger.rows[head - 1, LINK] |= (row + 1) << 32
    else:
        wheel[MARKS + (slot >> MARK_BITS)] |= 1 << (slot & 31)
    wheel[slot] = row + 1


@inline
def unhang(ledger: Ledger, row: int) -> None:
    """Take a row off the wheel; its state is still the one with which it was hung."""
    rows = ledger.rows
    link = rows[row, LINK]
    previous = link >> 32
    following = link & LOW
    if previous != 0:
        other = rows[previous - 1, LINK]
        rows[previous - 1, LINK] = other - (other & LOW) + following
    else:
        slot = slot_of(ledger.meta[WHEEL_TIME], due_of(ledger, row))
        ledger.wheel[slot] = following
        if following == 0:
            ledger.wheel[MARKS + (slot >> MARK_BITS)] ^= 1 << (slot & 31)
    if following != 0:
        rows[following - 1, LINK] = (rows[following - 1, LINK] & LOW) | (previous << 32)
    rows[row, LINK] = 0


@inline
def first_due(ledger: Ledger, limit: int) -> int:
    """Turn the wheel up to `limit`, UTC ms; a row whose time comes before it, the earliest, or -1."""
    meta = ledger.meta
    wheel = ledger.wheel
    while True:
        time = meta[WHEEL_TIME]
        slot = -1
        for w in range(len(wheel) - MARKS):
            if wheel[MARKS + w] != 0:
                slot = (w << MARK_BITS) + trailing_zeros(np.uint64(wheel[MARKS + w]))
                break
        if slot < 0:
            meta[WHEEL_TIME] = max(time, limit - 1)
            return -1
        shift = (slot >> LEVEL_BITS) * LEVEL_BITS
        above = shift + LEVEL_BITS
        start = ((time >> above) << above) | ((slot & (SLOTS - 1)) << shift)
        if start >= limit:
            meta[WHEEL_TIME] = max(time, limit - 1)  # before `start`: its slot keeps its level
            return -1
        meta[WHEEL_TIME] = start
        head = wheel[slot]
        if shift == 0:
            return head - 1
        wheel[slot] = 0
        wheel[MARKS + (slot >> MARK_BITS)] ^= 1 << (slot & 31)
        while head != 0:
            row = head - 1
            head = ledger.rows[row, LINK] & LOW
            hang(ledger, row)
