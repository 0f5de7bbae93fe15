"""The types of an event, written once: key tables, Arrow columns and JSON Schema are all derived from them.

A field that a message leaves out, gives as null, or (identifiers) gives as the empty string is absent.
Unknown fields are ignored. Where a field has aliases (`ALIASES`), the canonical spelling wins over the others, in
order.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from segue import limits

Identifier = Annotated[
    str | None,
    Meta(description=f"at most {limits.IDENTIFIER_BYTES_MAX} bytes of UTF-8; empty is absent"),
]
Money = Annotated[Decimal | None, Meta(description="major units; exact as JSON number and as string")]
Quantity = Annotated[
    Decimal | None, Meta(description=f"a whole number, 0 to {limits.QUANTITY_MAX}; absent is 1")
]
Instant = Annotated[
    str | None,
    Meta(description="ISO 8601 with an offset", extra_json_schema={"examples": ["2026-03-01T12:00:00.000Z"]}),
]
Text = str | None


class Product(Struct, kw_only=True):
    """A line of an order or a cart."""

    product_id: Identifier = None
    category: Identifier = None
    price: Money = None
    quantity: Quantity = None


class Event(Struct, kw_only=True):
    """An event as bare JSON, and the `data` of a CloudEvent or the `properties` of a Segment message."""

    id: Identifier = None
    type: Text = None
    time: Instant = None
    source: Identifier = None
    user_id: Identifier = msgspec.field(default=None, name="userId")
    loyalty_id: Identifier = msgspec.field(default=None, name="loyaltyId")
    anonymous_id: Identifier = msgspec.field(default=None, name="anonymousId")
    previous_id: Identifier = msgspec.field(default=None, name="previousId")
    product_id: Identifier = None
    category: Identifier = None
    store_id: Identifier = None
    coupon_id: Identifier = None
    promotion_id: Identifier = None
    price: Money = None
    quantity: Quantity = None
    currency: Text = None
    amount: Money = None
    channel: Text = None
    purpose: Text = None
    granted: bool | None = None
    timezone: Annotated[Any, Meta(description="the customer's IANA time zone: Europe/Berlin")] = None
    products: list[Product] | None = None
    # aliases
    message_id: Identifier = msgspec.field(default=None, name="messageId")
    event: Text = None
    timestamp: Instant = None
    total: Money = None
    revenue: Money = None
    value: Money = None
    # the three times Segment corrects a client's clock by
    original_timestamp: Instant = msgspec.field(default=None, name="originalTimestamp")
    sent_at: Instant = msgspec.field(default=None, name="sentAt")
    received_at: Instant = msgspec.field(default=None, name="receivedAt")


# attribute of the canonical field -> attributes of its aliases, the first one present wins
ALIASES: dict[str, tuple[str, ...]] = {
    "id": ("message_id",),
    "type": ("event",),
    "time": ("timestamp",),
    "amount": ("total", "revenue", "value"),
}

# what a CloudEvent says in its envelope; everything else stands in `data`
ENVELOPE_FIELDS: tuple[str, ...] = ("id", "type", "time", "source")


class Message(Event, kw_only=True):
    """Whatever may stand at the top of a message: a bare event, a CloudEvent, Segment's message or batch."""

    specversion: Text = None
    data: Event | None = None
    properties: Event | None = None
    batch: list[msgspec.Raw] | None = None
    # only the time zones in them are of use, so nothing in them is wrong
    context: msgspec.Raw = msgspec.Raw()
    traits: msgspec.Raw = msgspec.Raw()


class CloudEvent(Struct, kw_only=True):
    """CloudEvents 1.0, structured mode. Extensions are allowed and ignored."""

    specversion: str
    id: str
    type: str
    source: str
    time: Instant = None
    subject: Text = None
    data: Event | None = None


class SegmentMessage(Struct, kw_only=True):
    """A call of the Segment spec."""

    type: str
    message_id: str = msgspec.field(name="messageId")
    event: Text = None
    user_id: Identifier = msgspec.field(default=None, name="userId")
    anonymous_id: Identifier = msgspec.field(default=None, name="anonymousId")
    previous_id: Identifier = msgspec.field(default=None, name="previousId")
    timestamp: Instant = None
    original_timestamp: Instant = msgspec.field(default=None, name="originalTimestamp")
    sent_at: Instant = msgspec.field(default=None, name="sentAt")
    received_at: Instant = msgspec.field(default=None, name="receivedAt")
    properties: Event | None = None
    context: dict[str, Any] | None = None
    traits: dict[str, Any] | None = None
    timezone: Annotated[Any, Meta(description="the customer's IANA time zone: Europe/Berlin")] = None


class SegmentBatch(Struct, kw_only=True):
    """Segment's HTTP batch: many messages in one."""

    batch: list[SegmentMessage]
    sent_at: Instant = msgspec.field(default=None, name="sentAt")


class _Row(Struct, kw_only=True):
    """What each row of a table may have beside its own fields, of which any number is allowed: numbers, or texts of at
    most 255 bytes. null, "" and (in a topic) a field left out is what the policies declare as unknown."""

    time: Annotated[
        str | int | None, Meta(description="from when on: ISO 8601 with an offset, or ms since 1970")
    ] = None
    updated_at: Annotated[str | int | None, Meta(description="the same, where there is no `time`")] = None


class CatalogueRow(_Row, kw_only=True):
    """A message of a topic of the catalogue, and the `data` of Catalogue Updated: what is true of a product."""

    product_id: Annotated[Identifier, Meta(description="else the message's key")] = None


class PriceRow(_Row, kw_only=True):
    """A message of a topic of prices, and the `data` of Price Row Updated."""

    product_id: Annotated[Identifier, Meta(description="else the message's key")] = None
    amount: Money = None


class StockRow(_Row, kw_only=True):
    """A message of a topic of stock, and the `data` of Stock Row Updated."""

    product_id: Annotated[Identifier, Meta(description="else the message's key")] = None
    store_id: Annotated[Identifier, Meta(description="none: of the shop as a whole")] = None
    quantity: Annotated[Decimal | None, Meta(description="pieces")] = None


class ProfileRow(_Row, kw_only=True):
    """A message of a topic of profiles, and the `data` of Profile Updated: what is known of a customer."""

    user_id: Annotated[Identifier, Meta(description="else the message's key")] = msgspec.field(
        default=None, name="userId"
    )
    loyalty_id: Identifier = msgspec.field(default=None, name="loyaltyId")
    anonymous_id: Identifier = msgspec.field(default=None, name="anonymousId")
    kind: Annotated[
        Literal["user", "loyalty", "anonymous"] | None,
        Meta(description="of the identifier, if it is another"),
    ] = None
