"""Reference tables as lists of versions: what was known of a key, from when on, in the order in which it arrived."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

from segue_kernels import plan
from tests.reference.decoding import ROWS, exponent_of, time_ms
from tests.reference.event import USER, Event
from tests.reference.hashing import field_hash
from tests.reference.journeys import Field

Value = str | float | Decimal


@dataclass(frozen=True)
class Version:
    """What holds of a key from a time on; `fields` by name.

    key   (product,) in catalogue and price, (product, store) in stock, (kind, customer) in profile
    """

    table: str
    key: tuple[str, ...]
    valid_from_ms: int
    fields: Mapping[str, Value]


def read_tables(paths: Mapping[str, str]) -> list[Version]:
    """The versions in files of JSON lines, by table; other formats are not read here."""
    versions = []
    for table, path in paths.items():
        if path == "events":
            continue
        for line in Path(path).read_text().splitlines():
            row = json.loads(line)
            since = row.pop("valid_from", 0)
            if isinstance(since, str):
                since = time_ms(since)
            if table == "profile":
                key: tuple[str, ...] = (USER, row.pop("userId", "") or row.pop("customer", ""))
            elif table == "stock":
                key = (row.pop("product_id"), row.pop("store", row.pop("store_id", "")))
            else:
                key = (row.pop("product_id"),)
            versions.append(Version(table, key, since, row))
    return versions


# where there is no file of a table, its rows come along the way
ALONG_THE_WAY = {"catalogue": "events", "profile": "events"}


class Tables:
    """What has arrived so far. A question is answered by the latest version that is valid then."""

    def __init__(self, fields: Sequence[Field], versions: Sequence[Version], secret: bytes) -> None:
        self._fields = fields
        self._secret = secret
        self._versions: dict[tuple[str, tuple[str, ...]], list[Version]] = {}
        self._erased: dict[tuple[str, tuple[str, ...]], int] = {}  # times of erasures
        for version in versions:
            self.add(version)

    def add(self, version: Version) -> None:
        if version.valid_from_ms <= self._erased.get((version.table, version.key), -1):
            return
        self._versions.setdefault((version.table, version.key), []).append(version)

    def change(
        self, table: str, key: tuple[str, ...], time_ms: int, told: Mapping[str, Value | None]
    ) -> None:
        """A version of the key that says what the one before it says, but for what is told."""
        before = self._seen(table, key, time_ms)
        fields = {**(before.fields if before else {}), **told}
        self.add(Version(table, key, time_ms, {n: v for n, v in fields.items() if v is not None}))

    def erase(self, customer: tuple[str, str], time_ms: int) -> None:
        """Nothing that begins then or earlier is known of a customer any more, nor let in again."""
        key = ("profile", customer)
        self._erased[key] = max(time_ms, self._erased.get(key, -1))
        versions = self._versions.get(key, [])
        versions[:] = [version for version in versions if version.valid_from_ms > time_ms]

    def _seen(self, table: str, key: tuple[str, ...], now_ms: int) -> Version | None:
        newest = None
        for version in self._versions.get((table, key), []) if key[0] else []:
            if (newest.valid_from_ms if newest else -1) <= version.valid_from_ms <= now_ms:
                newest = version
        return newest

    def take(self, event: Event) -> None:
        """What comes along the way changes the tables it is about: Price Updated, Inventory Updated, and rows."""
        if event.type in ROWS:
            table = ROWS[event.type]
            keys = {"stock": (event.product, event.store), "profile": (event.kind, event.customer)}
            if event.told:
                self.change(table, keys.get(table, (event.product,)), event.time_ms, dict(event.told))
            return
        items = event.lines or (event,)
        for item in items:
            if not item.product:
                continue
            if event.type == "Price Updated" and item.has_price:
                amount = item.price_minor / 10 ** exponent_of(event.currency)
                self.change("price", (item.product,), event.time_ms, {"amount": amount})
            elif event.type == "Inventory Updated" and item.has_quantity:
                key = (item.product, event.store)
                self.change("stock", key, event.time_ms, {"quantity": float(item.quantity)})

    def word(self, index: int, product: str, store: str, customer: tuple[str, str], now_ms: int) -> int:
        """Lookup `index` as an integer: millionths of a number, the hash of a text."""
        asked = self._fields[index]
        key = {
            "catalogue": (product,),
            "price": (product,),
            "stock": (product, store),
            "profile": customer,
        }[asked.table]
        version = self._seen(asked.table, key, now_ms)
        value: Value = version.fields.get(asked.name, asked.unknown) if version else asked.unknown
        if asked.text:
            return field_hash(str(value), self._secret)
        exact = Decimal(value) if isinstance(value, str) else Decimal(str(value))
        return int((exact * plan.LOOKUP_SCALE).to_integral_value(ROUND_HALF_EVEN))
