"""Campaigns, keys and requests that the tests of vouchers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segue.events.hashing import hash_text
from segue.events.money import letters_code
from segue.vouchers.campaign import Campaign, Terms, compile_campaign
from segue.vouchers.keys import Keyring, parse_keys
from segue_kernels.ledger import GRANT_WORDS, REDEEM_WORDS

Words = npt.NDArray[np.int64]
Pair = tuple[int, int]

START_MS = 1_772_280_000_000  # 2026-02-28T12:00:00Z
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
EUR, USD = letters_code("EUR"), letters_code("USD")


def hashed(text: str) -> int:
    """As the deployment hashes shops and groups."""
    return hash_text(text, np.uint64(1), np.uint64(2))


def campaign(name: str, **declared: Any) -> Campaign:
    """A campaign of ten euros from 28 February to 20 March 2026, unless told otherwise."""
    plain: dict[str, Any] = {
        "name": name,
        "currency": "EUR",
        "start": "2026-02-28T12:00:00Z",
        "end": "2026-03-20T00:00:00Z",
    }
    if "discount_percent" not in declared:
        plain["discount_minor"] = 1_000
    return Campaign(**{**plain, **declared})


def terms_of(*campaigns: Campaign) -> list[Terms]:
    """The numbers of campaigns."""
    return [compile_campaign(declared, hashed) for declared in campaigns]


def keyring() -> Keyring:
    """Two keys for all, the second from 2 March on, and one of its own for "fixed"."""
    return parse_keys(
        f"* 1 2026-01-01T00:00:00Z {'0f' * 16}; * 2 2026-03-02T00:00:00Z {'a5' * 16}\n"
        f"fixed 1 2026-01-01T00:00:00Z {'77' * 16}  # its own"
    )


def grants(rows: Sequence[tuple[int, Pair, Pair, int, int, int]]) -> Words:
    """Requests of (campaign, customer, decision, now, amount, currency)."""
    flat = [[number, *who, *what, now, amount, code] for number, who, what, now, amount, code in rows]
    return np.array(flat, np.int64).reshape(-1, GRANT_WORDS)


def redemptions(rows: Sequence[tuple[Pair, int, int, int, int, Pair]]) -> Words:
    """Redemptions of (customer, shop, basket, currency, now, id)."""
    flat = [[*who, shop, basket, code, now, *made] for who, shop, basket, code, now, made in rows]
    return np.array(flat, np.int64).reshape(-1, REDEEM_WORDS)


def compacted(changes: Words, keys: Sequence[bytes], order: npt.NDArray[np.int64]) -> Words:
    """The last change of each key, the keys in the order of `order` (a permutation, as long as the changes)."""
    last = dict(zip(keys, range(len(keys)), strict=True))
    kept = np.array(sorted(last.values(), key=lambda place: order[place]), np.int64)
    return changes[kept]
