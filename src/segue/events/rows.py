"""One Event becomes one header row and its line rows, or a Refusal that says why not.

This is the definition of what an event means; the scanner kernel gives the same rows for the common shape of
message, faster, and hands every other message here.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from segue import limits
from segue.errors import did_you_mean
from segue.events import names
from segue.events.money import EXPONENTS, currency_code, letters_code, minor_units, times, whole_quantity
from segue.events.refusal import Refusal
from segue.events.time import check_time_ms, parse_time_ms
from segue.events.types import Event, Product
from segue.reference.zones import zone_numbers
from segue_kernels import fill, record

Strings = tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes]
_SPELLINGS = tuple(names.CODE_BY_SPELLING)


@dataclass(frozen=True, slots=True)
class Row:
    """The words of a record without its hashes, and the eight strings they are made from (fill.py's
    order)."""

    words: list[int]
    strings: Strings


@dataclass(frozen=True, slots=True)
class Terms:
    """What a deployment adds to a message: its default currency, when the run began, and of each table (plan.TABLE_*)
    the fields that are of use: name, whether it is text."""

    currency: str
    arrival_ms: int
    fields: tuple[tuple[tuple[str, bool], ...], ...] = ((), (), (), ())


def rows_of(event: Event, terms: Terms) -> list[Row]:
    """The rows of an event, header first; Refusal if it can't be used."""
    message_id = event.id or event.message_id
    if not message_id:
        raise Refusal("no id")
    code = _type_code(event.type or event.event)
    time_ms = event_time_ms(event)
    check_time_ms(time_ms, terms.arrival_ms)
    kind, customer, anonymous = _customer(event, code)
    if not customer and code not in names.REFERENCE_CODES:
        raise Refusal("no customer: give userId, loyaltyId or anonymousId")

    currency = event.currency or terms.currency
    exponent = EXPONENTS[terms.currency] if not event.currency else _exponent(currency)
    pack = code | letters_code(currency) << 16 | _zone(event.timezone) << record.ZONE_SHIFT
    known_by_anonymous = code in (names.IDENTIFY, names.ALIAS)
    products = event.products or []
    if len(products) > limits.LINES_PER_EVENT_MAX:
        raise Refusal(f"{len(products)} products, at most {limits.LINES_PER_EVENT_MAX} are read")

    words = [0] * record.RECORD_WORDS
    words[record.TIME] = time_ms
    flags = kind
    amount = _first(event.amount, event.total, event.revenue, event.value)
    flags |= _price(words, event.price, event.quantity, amount, exponent, pack, "")
    if products:
        flags |= record.FLAG_HAS_LINES
    words[record.PACK] |= flags << 8
    consent = _consent(event, code)
    words[record.CODE] = consent

    plain = not products and not known_by_anonymous
    header = Row(
        words,
        (
            string_bytes(customer, "customer"),
            string_bytes(message_id, "id"),
            string_bytes(event.product_id, "product_id") if plain else b"",
            string_bytes(event.category, "category") if plain else b"",
            string_bytes(event.store_id, "store_id"),
            b""
            if consent
            else string_bytes(event.coupon_id or event.promotion_id, "coupon_id or promotion_id"),
            string_bytes(event.source, "source"),
            string_bytes(anonymous, "anonymousId or previousId"),
        ),
    )
    rows = [header]
    for number, product in enumerate(products):
        rows.append(_line(product, number, words, kind, exponent, pack))
    return rows


def _line(product: Product, number: int, header: list[int], kind: int, exponent: int, pack: int) -> Row:
    path = f"products[{number}]."
    words = [0] * record.RECORD_WORDS
    words[record.TIME] = header[record.TIME]
    flags = kind | record.FLAG_IS_LINE
    flags |= _price(words, product.price, product.quantity, None, exponent, pack, path)
    words[record.PACK] |= flags << 8
    strings: list[bytes] = [b""] * fill.REFERENCES
    strings[fill.REFERENCE_PRODUCT] = string_bytes(product.product_id, path + "product_id")
    strings[fill.REFERENCE_CATEGORY] = string_bytes(product.category, path + "category")
    a, b, c, d, e, f, g, h = strings
    return Row(words, (a, b, c, d, e, f, g, h))


def _price(
    words: list[int],
    price: Decimal | None,
    quantity: Decimal | None,
    amount: Decimal | None,
    exponent: int,
    pack: int,
    path: str,
) -> int:
    """Write PRICE, AMOUNT and PACK (without flags); the flags they set."""
    flags = 0
    count = 1
    if quantity is not None:
        count = whole_quantity(quantity, path + "quantity")
        flags |= record.FLAG_HAS_QUANTITY
    if price is not None:
        words[record.PRICE] = minor_units(price, exponent, path + "price")
        flags |= record.FLAG_HAS_PRICE | record.FLAG_HAS_AMOUNT
    if amount is not None:
        words[record.AMOUNT] = minor_units(amount, exponent, path + "amount")
        flags |= record.FLAG_HAS_AMOUNT
    elif price is not None:
        words[record.AMOUNT] = times(words[record.PRICE], count, path + "price x quantity")
    words[record.PACK] = pack | count << record.QUANTITY_SHIFT
    return flags


def _type_code(name: str | None) -> int:
    if not name:
        raise Refusal("no type")
    code = names.CODE_BY_SPELLING.get(name)
    if code is None:
        raise Refusal(f"unknown type {name[:60]!r}: {did_you_mean(name[:60], _SPELLINGS)}")
    return code


def event_time_ms(event: Event) -> int:
    """When it happened, by the client's clock corrected if need be."""
    if event.time:
        return parse_time_ms(event.time, "time")
    if event.timestamp:
        return parse_time_ms(event.timestamp, "timestamp")
    if event.received_at and event.sent_at and event.original_timestamp:
        skew_ms = parse_time_ms(event.sent_at, "sentAt") - parse_time_ms(
            event.original_timestamp, "originalTimestamp"
        )
        return parse_time_ms(event.received_at, "receivedAt") - skew_ms
    raise Refusal("no time: give time or timestamp, or receivedAt, sentAt and originalTimestamp")


def _customer(event: Event, code: int) -> tuple[int, str | None, str | None]:
    """(kind, identifier, the anonymous identifier an identify or alias brings along)."""
    anonymous = None
    if code == names.IDENTIFY:
        anonymous = event.anonymous_id
    elif code == names.ALIAS:
        anonymous = event.previous_id
    if event.user_id:
        return record.KIND_USER, event.user_id, anonymous
    if event.loyalty_id:
        return record.KIND_LOYALTY, event.loyalty_id, anonymous
    if event.anonymous_id:
        return record.KIND_ANONYMOUS, event.anonymous_id, None
    return record.KIND_USER, None, None


def _consent(event: Event, code: int) -> int:
    """The CODE word of Consent Changed and Unsubscribed; 0 for every other."""
    if code not in (names.CONSENT_CHANGED, names.UNSUBSCRIBED):
        return 0
    channel = event.channel or ("" if code == names.CONSENT_CHANGED else names.CHANNEL_DEFAULT)
    if channel not in names.CHANNELS:
        raise Refusal(f"unknown channel {channel[:20]!r}: {did_you_mean(channel[:20], names.CHANNELS)}")
    if code == names.UNSUBSCRIBED:
        return names.suppression_word(names.CHANNELS.index(channel))
    purpose = event.purpose or names.PURPOSE_DEFAULT
    if purpose not in names.PURPOSES:
        raise Refusal(f"unknown purpose {purpose[:20]!r}: {did_you_mean(purpose[:20], names.PURPOSES)}")
    if event.granted is None:
        raise Refusal("no granted: Consent Changed needs true or false")
    return names.consent_word(names.CHANNELS.index(channel), names.PURPOSES.index(purpose), event.granted)


def _exponent(currency: str) -> int:
    currency_code(currency)
    return EXPONENTS[currency]


def _zone(name: Any) -> int:
    """The number of a time zone; an unknown one is no reason to lose the event."""
    if not name:
        return 0
    return zone_numbers().get(name, record.ZONE_UNKNOWN) if isinstance(name, str) else record.ZONE_UNKNOWN


def _first(*values: Decimal | None) -> Decimal | None:
    return next((value for value in values if value is not None), None)


def string_bytes(text: str | None, field: str) -> bytes:
    """UTF-8 of an identifier, of at most IDENTIFIER_BYTES_MAX bytes."""
    if not text:
        return b""
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise Refusal(f"{field} has half of a surrogate pair") from None
    if len(encoded) > limits.IDENTIFIER_BYTES_MAX:
        raise Refusal(f"{field} has {len(encoded)} bytes, at most {limits.IDENTIFIER_BYTES_MAX}")
    return encoded
