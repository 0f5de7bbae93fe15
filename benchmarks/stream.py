"""The stream of the reference work: the same seed, customers and number of events give the same bytes.

Every line is flat JSON of eleven fields (id, type, time, source, userId, anonymousId, product_id, category,
price, quantity, currency), 250 bytes on average. EVENTS_PER_SECOND of event time.
- Customers: Zipf with exponent 1.1, shifted (Zipf-Mandelbrot) so that the first of them, HEAVY_CUSTOMER, has
  1 % of all events. Unshifted, the first of 100,000 would have 13 % and six would pass the bound of
  1,000 events a minute and be dropped as bots, a third of the stream with them.
- BOT has 5 %: 3,000 events a minute, above the bound; HEAVY_CUSTOMER has 600, below.
- 2 % arrive up to 5 s late, 1 % are repeats (the same bytes) that follow their first within 2 s.
- Types: MIX. Two in a thousand grant consent to marketing by e-mail (other fields). Those in SCORING_TYPES trigger
  scoring: 20 % of the events.
- A customer comes back to the same few products within half an hour: three views of one product are common.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segue.simulate.arrivals import Arrivals
from segue.simulate.json_writer import (
    Field,
    JsonWriter,
    hashed,
    integer,
    iso_time,
    money,
    numbered,
    text,
    truth,
    word,
)
from segue.simulate.mixing import mix, pick

EVENTS_PER_SECOND = 1_000
START_MS = 1_772_438_400_000  # 2026-03-02T08:00:00Z
ZIPF_EXPONENT = 1.1
HEAVY_SHARE = 0.01
BOT_SHARE = 0.05
OUT_OF_ORDER_SHARE = 0.02
OUT_OF_ORDER_MS_MAX = 5_000
DUPLICATE_SHARE = 0.01
DUPLICATE_MS_MAX = 2_000
PRODUCTS = 20_000
HEAVY_CUSTOMER = "customer-0000000"
BOT = "customer-9999999"
SCORING_TYPES = ("Product Viewed",)
CONSENT = "Consent Changed"
MIX = {
    "Product List Viewed": 0.248,
    "Product Viewed": 0.20,
    "Product Clicked": 0.155,
    "Products Searched": 0.14,
    "Promotion Viewed": 0.06,
    "Cart Viewed": 0.05,
    "Product Added": 0.05,
    "Product Scanned": 0.03,
    "Checkout Started": 0.02,
    "Order Completed": 0.015,
    "Product Removed": 0.012,
    "Product Added to Wishlist": 0.01,
    "Order Refunded": 0.004,
    "Product Reviewed": 0.004,
    CONSENT: 0.002,
}

_BOT_NUMBER = 9_999_999
CATEGORIES = (
    "bakery", "breakfast", "dairy", "coffee", "cosmetics", "electronics",
    "fruit", "vegetables", "frozen", "garden", "household", "kitchenware",
    "outdoor", "pet-food", "shoes-women", "shoes-men", "stationery", "snacks", "toys",
    "wine",
)  # fmt: skip
SOURCES = ("web", "app", "shop")
_BLOCK_EVENTS = 1 << 16

TYPE, ID, TIME, SOURCE, USER, ANONYMOUS, PRODUCT, CATEGORY, PRICE, QUANTITY = range(10)
_COLUMNS = 10


def _template(name: str) -> list[Field]:
    common = [
        hashed("id", "", ID),
        text("type", name),
        iso_time("time", TIME),
        word("source", SOURCE, len(CATEGORIES)),
        numbered("userId", "customer-", USER, 7),
        hashed("anonymousId", "", ANONYMOUS),
    ]
    if name == CONSENT:
        return [*common, text("channel", "email"), text("purpose", "marketing"), truth("granted", True)]
    return [
        *common,
        numbered("product_id", "p-", PRODUCT, 5),
        word("category", CATEGORY),
        money("price", PRICE),
        integer("quantity", QUANTITY),
        text("currency", "EUR"),
    ]


def _zipf_shift(customers: int, heavy_share: float) -> float:
    """The shift q for which rank 1 of (rank + q) ** -ZIPF_EXPONENT has `heavy_share` of all events.

    Where so few customers are there that no shift can make the first so small, all have nearly the same share.
    """
    wanted = heavy_share / (1.0 - BOT_SHARE)
    ranks = np.arange(1, customers + 1, dtype=np.float64)
    low, high = 0.0, float(customers) * 100
    for _ in range(40):
        middle = (low + high) / 2
        share = (1.0 + middle) ** -ZIPF_EXPONENT / float(((ranks + middle) ** -ZIPF_EXPONENT).sum())
        low, high = (middle, high) if share > wanted else (low, middle)
    return high


class Facts:
    """Rows of events without id and time, and the writer of their lines. heavy_share: of the first customer."""

    def __init__(self, customers: int, seed: int, heavy_share: float = HEAVY_SHARE) -> None:
        if not 1 <= customers < _BOT_NUMBER:
            raise ValueError(f"{customers} customers: expected 1 <= customers < 9,999,999")
        self._seed = seed
        self.writer = JsonWriter([_template(name) for name in MIX], words=CATEGORIES + SOURCES)
        self._types = np.cumsum(list(MIX.values()))
        ranks = np.arange(1, customers + 1, dtype=np.float64) + _zipf_shift(customers, heavy_share)
        self._shares = np.cumsum(ranks**-ZIPF_EXPONENT)
        self._shares /= self._shares[-1]
        prices = np.exp(np.random.default_rng([seed, 1]).normal(2.7, 0.9, PRODUCTS)).clip(0.5, 990.0)
        self._price_cents = np.rint(prices * 100).astype(np.int64)
        self._categories = pick(np.arange(PRODUCTS), len(CATEGORIES), seed)

    def rows(self, rng: np.random.Generator, half_hour: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64[n, columns]; `half_hour`: number of the half hour of each, in which a customer's interest holds."""
        seed = self._seed
        n = half_hour.size
        rows = np.zeros((n, _COLUMNS), dtype=np.int64)
        rows[:, TYPE] = np.searchsorted(self._types[:-1], rng.random(n), side="right")
        who = np.searchsorted(self._shares[:-1], rng.random(n), side="right")
        who[rng.random(n) < BOT_SHARE] = _BOT_NUMBER
        rows[:, USER] = who
        rows[:, ANONYMOUS] = mix(who, seed + 1)
        rows[:, SOURCE] = np.searchsorted((0.6, 0.9), rng.random(n), side="right")
        # six in ten look at one of two products that hold the customer's interest for half an hour
        interest = who * 4_096 + half_hour * 2 + (rng.random(n) < 0.3)
        product = (PRODUCTS * rng.random(n) ** 2).astype(np.int64)
        held = rng.random(n) < 0.6
        product[held] = pick(interest[held], PRODUCTS, seed + 2)
        rows[:, PRODUCT] = product
        rows[:, CATEGORY] = self._categories[product]
        rows[:, PRICE] = self._price_cents[product]
        rows[:, QUANTITY] = np.searchsorted((0.8, 0.95), rng.random(n), side="right") + 1
        return rows


def _blocks(events: int, customers: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    if events < 0:
        raise ValueError(f"{events} events: expected 0 or more")
    facts = Facts(customers, seed)
    arrivals = Arrivals(_COLUMNS)
    repeats = round(events * DUPLICATE_SHARE)
    unique = events - repeats
    for first in range(0, unique, _BLOCK_EVENTS):
        rng = np.random.default_rng([seed, 2, first])
        number = np.arange(first, min(first + _BLOCK_EVENTS, unique))
        n = number.size
        time_ms = START_MS + number * 1_000 // EVENTS_PER_SECOND
        rows = facts.rows(rng, number // (EVENTS_PER_SECOND * 1_800))
        rows[:, ID] = mix(number, seed)
        rows[:, TIME] = time_ms
        arrival = time_ms.copy()
        tardy = np.flatnonzero(rng.random(n) < OUT_OF_ORDER_SHARE)
        arrival[tardy] += rng.integers(1, OUT_OF_ORDER_MS_MAX + 1, tardy.size)
        twice = rng.choice(n, repeats * (first + n) // unique - repeats * first // unique, replace=False)
        again = arrival[twice] + rng.integers(1, DUPLICATE_MS_MAX + 1, twice.size)
        arrivals.add(rows, arrival)
        arrivals.add(rows[twice], again)
        until_ms = 2**62 if first + n == unique else int(time_ms[-1]) + 1
        yield from facts.writer.write(*arrivals.take(until_ms)[:2])


def stream_bytes(events: int, customers: int, seed: int = 1) -> NDArray[np.uint8]:
    """The whole stream as uint8[bytes]: 250 bytes an event. Repeats count among `events`."""
    return np.concatenate([np.zeros(0, dtype=np.uint8), *_blocks(events, customers, seed)])


def write_stream(path: str | Path, events: int, customers: int, seed: int = 1) -> int:
    """The stream as a file of JSON Lines; the number of bytes written. Memory does not grow with `events`."""
    size = 0
    with open(path, "wb") as file:
        for block in _blocks(events, customers, seed):
            size += file.write(block.data)
    return size


def main() -> None:
    """python -m benchmarks.stream PATH --events 1000000 --customers 100000 --seed 1"""
    parser = argparse.ArgumentParser(description="Write the stream of the reference work.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(write_stream(given.path, given.events, given.customers, given.seed), "bytes")


if __name__ == "__main__":
    main()
