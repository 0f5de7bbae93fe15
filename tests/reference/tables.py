"""Reference tables as lists of versions: what was known of a key, from when on, in the order in which it arrived."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segue_kernels import plan
from tests.reference.decoding import exponent_of, time_ms
from tests.reference.event import Event
from tests.reference.hashing import field_hash
from tests.reference.journeys import Field

Value = str | float


@dataclass(frozen=True)
class Version:
    """What holds of a key from a time on; `fields` by name.

    key   (product,) in catalogue and price, (product, store) in stock, (user,) in profile
    """

    table: str
    key: tuple[str, ...]
    valid_from_ms: int
    fields: Mapping[str, Value]


def read_tables(paths: Mapping[str, str]) -> list[Version]:
    """The versions in files of JSON lines, by table; other formats are not read here."""
    versions = []
    for table, path in paths.items():
        for line in Path(path).read_text().splitlines():
            row = json.loads(line)
            since = row.pop("valid_from", 0)
            if isinstance(since, str):
                since = time_ms(since)
            if table == "profile":
                key: tuple[str, ...] = (row.pop("userId", "") or row.pop("customer", ""),)
            elif table == "stock":
                key = (row.pop("product_id"), row.pop("store", row.pop("store_id", "")))
            else:
                key = (row.pop("product_id"),)
            versions.append(Version(table, key, since, row))
    return versions


class Tables:
    """What has arrived so far. A question is answered by the latest version that is valid then."""

    def __init__(self, fields: Sequence[Field], versions: Sequence[Version], secret: bytes) -> None:
        self._fields = fields
        self._secret = secret
        self._versions: dict[tuple[str, tuple[str, ...]], list[Version]] = {}
        for version in versions:
            self.add(version)

    def add(self, version: Version) -> None:
        self._versions.setdefault((version.table, version.key), []).append(version)

    def take(self, event: Event) -> None:
        """Price Updated and Inventory Updated change the tables they are about."""
        items = event.lines or (event,)
        for item in items:
            if not item.product:
                continue
            if event.type == "Price Updated" and item.has_price:
                amount = item.price_minor / 10 ** exponent_of(event.currency)
                self.add(Version("price", (item.product,), event.time_ms, {"amount": amount}))
            elif event.type == "Inventory Updated" and item.has_quantity:
                key = (item.product, event.store)
                self.add(Version("stock", key, event.time_ms, {"quantity": float(item.quantity)}))

    def word(self, index: int, product: str, store: str, customer: str, now_ms: int) -> int:
        """Lookup `index` as an integer: millionths of a number, the hash of a text."""
        asked = self._fields[index]
        key = {
            "catalogue": (product,),
            "price": (product,),
            "stock": (product, store),
            "profile": (customer,),
        }[asked.table]
        value = asked.unknown
        newest = -1
        for version in self._versions.get((asked.table, key), []) if key[0] else []:
            if newest <= version.valid_from_ms <= now_ms and asked.name in version.fields:
                newest, value = version.valid_from_ms, version.fields[asked.name]
        if asked.text:
            return field_hash(str(value), self._secret)
        return round(float(value) * plan.LOOKUP_SCALE)
