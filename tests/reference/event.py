"""A decoded event as the reference sees it: identifiers as given, no hashes; absent strings are empty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

USER = "user"
LOYALTY = "loyalty"
ANONYMOUS = "anonymous"


@dataclass(frozen=True)
class Consent:
    """One channel and purpose, granted or withdrawn; or a suppression, which has no purpose: it is for all."""

    channel: str
    purpose: str
    granted: bool

    @property
    def is_suppression(self) -> bool:
        return self.purpose == ""


@dataclass(frozen=True)
class Line:
    """One line of an order. Money in minor units; an absent price or amount is 0, an absent quantity 1."""

    product: str = ""
    category: str = ""
    price_minor: int = 0
    amount_minor: int = 0
    quantity: int = 1
    has_price: bool = False
    has_amount: bool = False
    has_quantity: bool = False


@dataclass(frozen=True)
class Event:
    """One event. `anonymous` is set only where an identify or alias links it to a known customer.

    `clock_ms` is the largest event time of the source partition up to this event.
    """

    id: str
    type: str
    time_ms: int
    customer: str
    kind: str = USER
    clock_ms: int = 0
    partition: int = 0
    row: int = 0
    anonymous: str = ""
    product: str = ""
    category: str = ""
    store: str = ""
    code: str = ""
    source: str = ""
    timezone: str = ""
    price_minor: int = 0
    amount_minor: int = 0
    quantity: int = 1
    currency: str = "EUR"
    has_price: bool = False
    has_amount: bool = False
    has_quantity: bool = False
    lines: tuple[Line, ...] = ()
    consent: Consent | None = None
    told: tuple[tuple[str, Any], ...] = ()  # of a row of a table: its fields, None = not known
