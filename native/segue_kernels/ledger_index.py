"""Where a voucher is: open addressing that grows without a pause, four bytes a slot.

A table of 2**k slots lies at [2**k, 2**(k+1)) of one array, so the next larger one is there already. While it is
filled from the smaller one, a few slots with each new entry, what is not found in it is looked for in the smaller.
Nothing is ever taken out, so what was copied may stay where it was. An entry is row + 1 below and eight bits of the
hash above; the full key is compared where it points.
"""

from __future__ import annotations

import numpy as np

from segue_kernels.codes import signed
from segue_kernels.jit import Array, inline
from segue_kernels.ledger import (
    CAMPAIGN_MASK,
    CODE,
    CODE_COPIED,
    CODE_SLOTS,
    CODE_USED,
    CUSTOMER_HI,
    CUSTOMER_LO,
    HOLDER_COPIED,
    HOLDER_SLOTS,
    HOLDER_USED,
    PACK,
    Ledger,
)

ROW_BITS = 24
ROW_MASK = (1 << ROW_BITS) - 1
COPIED_PER_ENTRY = 8
FIRST_SLOTS = 1 << 10
FULL_NUMERATOR, FULL_DENOMINATOR = 5, 8  # of a table's slots, then the next larger one begins
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MIX_2 = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
_LOW_31 = np.uint64(0x7FFFFFFF)
_TAG_MASK = 0xFF


@inline
def _mixed(word: np.uint64) -> np.uint64:
    word = (word ^ (word >> _HALF)) * _MIX
    return word ^ (word >> _HALF)


@inline
def _code_hash(code: int) -> np.uint64:
    return _mixed(np.uint64(code))


@inline
def _holder_hash(campaign: int, lo: int, hi: int) -> np.uint64:
    return _mixed(np.uint64(lo) ^ (np.uint64(hi) * _MIX_2) ^ (np.uint64(campaign) * _MIX))


@inline
def _place(hashed: np.uint64) -> int:
    return signed(hashed & _LOW_31)


@inline
def _tag(hashed: np.uint64) -> int:
    return signed(hashed >> _HALF) & _TAG_MASK


@inline
def _put(table: Array, slots: int, hashed: np.uint64, row: int) -> None:
    mask = slots - 1
    at = _place(hashed) & mask
    while table[slots + at] != 0:
        at = (at + 1) & mask
    table[slots + at] = _tag(hashed) << ROW_BITS | (row + 1)


@inline
def _find_code_in(ledger: Ledger, slots: int, hashed: np.uint64, code: int) -> int:
    mask = slots - 1
    at = _place(hashed) & mask
    tag = _tag(hashed)
    entry = signed(ledger.codes[slots + at])
    while entry != 0:
        if entry >> ROW_BITS == tag:
            row = (entry & ROW_MASK) - 1
            if ledger.rows[row, CODE] == code:
                return row
        at = (at + 1) & mask
        entry = signed(ledger.codes[slots + at])
    return -1


@inline
def find_code(ledger: Ledger, code: int) -> int:
    """The row with this code (or alias), or -1."""
    hashed = _code_hash(code)
    slots = ledger.meta[CODE_SLOTS]
    row = _find_code_in(ledger, slots, hashed, code)
    if row < 0 and ledger.meta[CODE_COPIED] < slots >> 1:
        row = _find_code_in(ledger, slots >> 1, hashed, code)
    return row


@inline
def _find_holder_in(ledger: Ledger, slots: int, hashed: np.uint64, campaign: int, lo: int, hi: int) -> int:
    mask = slots - 1
    at = _place(hashed) & mask
    tag = _tag(hashed)
    rows = ledger.rows
    entry = signed(ledger.holders[slots + at])
    while entry != 0:
        if entry >> ROW_BITS == tag:
            row = (entry & ROW_MASK) - 1
            if (
                rows[row, CUSTOMER_LO] == lo
                and rows[row, CUSTOMER_HI] == hi
                and rows[row, PACK] & CAMPAIGN_MASK == campaign
            ):
                return row
        at = (at + 1) & mask
        entry = signed(ledger.holders[slots + at])
    return -1


@inline
def find_holder(ledger: Ledger, campaign: int, lo: int, hi: int) -> int:
    """The first voucher of this campaign and customer, or -1."""
    hashed = _holder_hash(campaign, lo, hi)
    slots = ledger.meta[HOLDER_SLOTS]
    row = _find_holder_in(ledger, slots, hashed, campaign, lo, hi)
    if row < 0 and ledger.meta[HOLDER_COPIED] < slots >> 1:
        row = _find_holder_in(ledger, slots >> 1, hashed, campaign, lo, hi)
    return row


@inline
def _grown(meta: Array, slots_word: int, used_word: int, copied_word: int) -> bool:
    """Begin the next larger table if this one is full; whether one is being filled."""
    slots = meta[slots_word]
    if meta[copied_word] >= slots >> 1 and meta[used_word] * FULL_DENOMINATOR >= slots * FULL_NUMERATOR:
        meta[slots_word] = slots << 1
        meta[copied_word] = 0
        return True
    return meta[copied_word] < slots >> 1


@inline
def add_code(ledger: Ledger, row: int) -> None:
    """Make a row findable by its code, which no other has."""
    meta = ledger.meta
    if _grown(meta, CODE_SLOTS, CODE_USED, CODE_COPIED):
        slots = meta[CODE_SLOTS]
        first = meta[CODE_COPIED]
        end = min(first + COPIED_PER_ENTRY, slots >> 1)
        for at in range(first, end):
            entry = signed(ledger.codes[(slots >> 1) + at])
            if entry != 0:
                old = (entry & ROW_MASK) - 1
                _put(ledger.codes, slots, _code_hash(ledger.rows[old, CODE]), old)
        meta[CODE_COPIED] = end
    _put(ledger.codes, meta[CODE_SLOTS], _code_hash(ledger.rows[row, CODE]), row)
    meta[CODE_USED] += 1


@inline
def _holder_hash_of(ledger: Ledger, row: int) -> np.uint64:
    rows = ledger.rows
    return _holder_hash(rows[row, PACK] & CAMPAIGN_MASK, rows[row, CUSTOMER_LO], rows[row, CUSTOMER_HI])


@inline
def add_holder(ledger: Ledger, row: int) -> None:
    """Make a row findable as the first voucher of its campaign and customer."""
    meta = ledger.meta
    if _grown(meta, HOLDER_SLOTS, HOLDER_USED, HOLDER_COPIED):
        slots = meta[HOLDER_SLOTS]
        first = meta[HOLDER_COPIED]
        end = min(first + COPIED_PER_ENTRY, slots >> 1)
        for at in range(first, end):
            entry = signed(ledger.holders[(slots >> 1) + at])
            if entry != 0:
                old = (entry & ROW_MASK) - 1
                _put(ledger.holders, slots, _holder_hash_of(ledger, old), old)
        meta[HOLDER_COPIED] = end
    _put(ledger.holders, meta[HOLDER_SLOTS], _holder_hash_of(ledger, row), row)
    meta[HOLDER_USED] += 1
