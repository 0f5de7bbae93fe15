"""A record's hashes are keyed functions of its strings alone, whichever road the strings came by.

fill_hashes(records int64[n,16], references int64[n,8], text uint8[], k0, k1): a reference is offset << 8 |
length into `text`, length 0 is absent. A line (FLAG_IS_LINE) takes over its header's identifiers: the row
before it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segue_kernels.jit import inline, kernel
from segue_kernels.record import (
    ANONYMOUS_HI,
    ANONYMOUS_LO,
    CATEGORY,
    CODE,
    CUSTOMER_HI,
    CUSTOMER_LO,
    FLAG_IS_LINE,
    FLAG_KIND,
    KIND_ANONYMOUS,
    MESSAGE_HI,
    MESSAGE_LO,
    PACK,
    PRODUCT,
    SOURCE,
    STORE,
)
from segue_kernels.siphash import customer_key, siphash64, siphash128

# the first four are the strings of a record (record.py), in its order
REFERENCE_CUSTOMER = 0
REFERENCE_MESSAGE = 1
REFERENCE_PRODUCT = 2
REFERENCE_CATEGORY = 3
REFERENCE_STORE = 4
REFERENCE_CODE = 5
REFERENCE_SOURCE = 6
REFERENCE_ANONYMOUS = 7
REFERENCES = 8


@inline
def hash_word(text: NDArray[np.uint8], start: int, end: int, k0: np.uint64, k1: np.uint64) -> int:
    """siphash64 as a record holds it: int64, never 0."""
    word: int = np.int64(siphash64(text, start, end, k0, k1))  # type: ignore[assignment]
    if word == 0:
        word = np.int64(1)  # type: ignore[assignment]
    return word


@inline
def _referenced(text: NDArray[np.uint8], reference: int, k0: np.uint64, k1: np.uint64) -> int:
    length = reference & 0xFF
    if length == 0:
        return 0
    return hash_word(text, reference >> 8, (reference >> 8) + length, k0, k1)


@kernel
def fill_hashes(
    records: NDArray[np.int64],
    references: NDArray[np.int64],
    text: NDArray[np.uint8],
    k0: np.uint64,
    k1: np.uint64,
) -> None:
    """Write the hash words of every record from its references; CODE stays where there is no code string."""
    for row in range(records.shape[0]):
        flags = (records[row, PACK] >> 8) & 0xFF
        if flags & FLAG_IS_LINE:
            for word in (CUSTOMER_LO, CUSTOMER_HI, MESSAGE_LO, MESSAGE_HI, STORE, CODE, SOURCE):
                records[row, word] = records[row - 1, word]
        else:
            reference = references[row, REFERENCE_CUSTOMER]
            if reference & 0xFF:
                key = customer_key(k0, flags & FLAG_KIND)
                low, high = siphash128(text, reference >> 8, (reference >> 8) + (reference & 0xFF), key, k1)
                records[row, CUSTOMER_LO] = np.int64(low)
                records[row, CUSTOMER_HI] = np.int64(high)
            reference = references[row, REFERENCE_MESSAGE]
            if reference & 0xFF:
                low, high = siphash128(text, reference >> 8, (reference >> 8) + (reference & 0xFF), k0, k1)
                records[row, MESSAGE_LO] = np.int64(low)
                records[row, MESSAGE_HI] = np.int64(high)
            records[row, STORE] = _referenced(text, references[row, REFERENCE_STORE], k0, k1)
            records[row, SOURCE] = _referenced(text, references[row, REFERENCE_SOURCE], k0, k1)
            if references[row, REFERENCE_CODE] & 0xFF:
                records[row, CODE] = _referenced(text, references[row, REFERENCE_CODE], k0, k1)
        reference = references[row, REFERENCE_ANONYMOUS]
        if reference & 0xFF:
            key = customer_key(k0, KIND_ANONYMOUS)
            low, high = siphash128(text, reference >> 8, (reference >> 8) + (reference & 0xFF), key, k1)
            records[row, ANONYMOUS_LO] = np.int64(low)
            records[row, ANONYMOUS_HI] = np.int64(high)
        else:
            records[row, PRODUCT] = _referenced(text, references[row, REFERENCE_PRODUCT], k0, k1)
            records[row, CATEGORY] = _referenced(text, references[row, REFERENCE_CATEGORY], k0, k1)
