"""Naive decoding: one JSON line at a time with json, decimal and datetime, into events or a reason for none.

Shares no code with segue.events.decode. Whether a line is a dead letter must agree with it, not the wording.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from iso4217 import Currency

from segue.events.names import CHANNELS, GA4_NAMES, NAMES, PURPOSES
from segue.limits import (
    EVENT_TIME_MS_MIN,
    FUTURE_MS_MAX,
    IDENTIFIER_BYTES_MAX,
    LATENESS_MS_DEFAULT,
    LINES_PER_EVENT_MAX,
    MESSAGE_BYTES_MAX,
    MONEY_MINOR_MAX,
    QUANTITY_MAX,
)
from tests.reference.event import ANONYMOUS, LOYALTY, USER, Consent, Event, Line
from tests.reference.journeys import Field

ROWS = {
    "Catalogue Updated": "catalogue",
    "Price Row Updated": "price",
    "Stock Row Updated": "stock",
    "Profile Updated": "profile",
}
WITHOUT_CUSTOMER = ("Inventory Updated", "Price Updated")
WITHOUT_CODE = ("Consent Changed", "Unsubscribed")
WIDE = Context(prec=200)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


NEVER_LATE = (
    *("Consent Changed", "Unsubscribed", "Email Bounced", "Email Marked as Spam"),
    *("identify", "alias", "Profile Erasure Requested"),
    *ROWS,
)


class DeadError(Exception):
    """Why a line is a dead letter."""


@dataclass(frozen=True)
class Dead:
    """A line that could not be read, by its partition and line number (from 0)."""

    partition: int
    line: int
    reason: str


@dataclass(frozen=True)
class Late:
    """An event that came further behind its partition's clock than is allowed."""

    partition: int
    line: int
    event: Event


@dataclass(frozen=True)
class DecodeSettings:
    """What a decoder is told: default currency, start of the run, allowed lateness, and the fields of tables that are
    of use: (table, name, whether it is text)."""

    arrival_ms: int
    currency: str = "EUR"
    lateness_ms: int = LATENESS_MS_DEFAULT
    fields: tuple[tuple[str, str, bool], ...] = ()


def looking_into(settings: DecodeSettings, fields: Iterable[Field]) -> DecodeSettings:
    """The same where policies look into these fields."""
    return replace(settings, fields=tuple((field.table, field.name, field.text) for field in fields))


@dataclass(frozen=True)
class Decoded:
    """The events of all partitions in order of arrival, and what was kept from them."""

    events: list[Event]
    dead: list[Dead]
    late: list[Late]
    clock_ms: int = 0  # the greatest clock of a partition


def text(fields: dict[str, Any], *names: str) -> str:
    """The first of the named fields that is there; it must be a string."""
    for name in names:
        value = fields.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise DeadError(f"{name}: expected str")
        if len(value.encode()) > IDENTIFIER_BYTES_MAX:
            raise DeadError(f"{name}: longer than {IDENTIFIER_BYTES_MAX} bytes")
        if value:
            return value
    return ""


def time_ms(value: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time with an offset, rounded down."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise DeadError(f"not a time: {value}") from error
    if moment.tzinfo is None:
        raise DeadError(f"no offset: {value}")
    return (moment - EPOCH) // timedelta(milliseconds=1)


def exponent_of(currency: str) -> int:
    """Digits after the point of a currency; raises DeadError for one that nobody knows."""
    try:
        exponent = Currency(currency).exponent
    except ValueError as error:
        raise DeadError(f"unknown currency: {currency}") from error
    if exponent is None:
        raise DeadError(f"currency without minor units: {currency}")
    return int(exponent)


def minor_units(value: Any, exponent: int) -> int:
    """A decimal as whole minor units; excess digits round half to even."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise DeadError("money: expected number")
    try:
        amount = Decimal(value)
        if not amount.is_finite() or abs(amount) > MONEY_MINOR_MAX:
            raise DeadError("money: out of range")
        minor = int(amount.scaleb(exponent, WIDE).quantize(Decimal(1), ROUND_HALF_EVEN, WIDE))
    except InvalidOperation as error:
        raise DeadError("money: not a decimal number") from error
    if abs(minor) > MONEY_MINOR_MAX:
        raise DeadError("money: out of range")
    return minor


def whole_number(value: Any) -> int:
    """A quantity: a whole number, also written 2.0 or as text."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise DeadError("quantity: expected int")
    try:
        number = Decimal(value)
    except InvalidOperation as error:
        raise DeadError("quantity: not a number") from error
    if not number.is_finite() or not 0 <= number <= QUANTITY_MAX or number != number.to_integral_value():
        raise DeadError("quantity: not a whole number in range")
    return int(number)


def line_of(fields: Any, exponent: int) -> Line:
    """One element of `products`; its amount is price x quantity."""
    if not isinstance(fields, dict):
        raise DeadError("products: expected object")
    price, quantity = fields.get("price"), fields.get("quantity")
    price_minor = 0 if price is None else minor_units(price, exponent)
    count = 1 if quantity is None else whole_number(quantity)
    if abs(price_minor * count) > MONEY_MINOR_MAX:
        raise DeadError("amount: out of range")
    return Line(
        product=text(fields, "product_id"),
        category=text(fields, "category"),
        price_minor=price_minor,
        amount_minor=price_minor * count,
        quantity=count,
        has_price=price is not None,
        has_amount=price is not None,
        has_quantity=quantity is not None,
    )


def consent_of(kind: str, fields: dict[str, Any]) -> Consent | None:
    """What an event says about consent; some suppress a channel for every purpose."""
    if kind in ("Email Bounced", "Email Marked as Spam"):
        return Consent("email", "", False)
    if kind == "Unsubscribed":
        channel = text(fields, "channel") or "email"
        if channel not in CHANNELS:
            raise DeadError("consent: channel")
        return Consent(channel, "", False)
    if kind != "Consent Changed":
        return None
    channel = text(fields, "channel")
    purpose = text(fields, "purpose") or "marketing"
    granted = fields.get("granted")
    if channel not in CHANNELS or purpose not in PURPOSES or not isinstance(granted, bool):
        raise DeadError("consent: channel, purpose or granted")
    return Consent(channel, purpose, granted)


def moment_of(fields: dict[str, Any]) -> int:
    """The event's time: as given, else what receivedAt - (sentAt - originalTimestamp) corrects it to."""
    given = text(fields, "time", "timestamp")
    if given:
        return time_ms(given)
    original, sent, received = (text(fields, name) for name in ("originalTimestamp", "sentAt", "receivedAt"))
    if original and sent and received:
        return time_ms(received) - (time_ms(sent) - time_ms(original))
    raise DeadError("no time")


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones() - {"localtime"})


def zone_of(fields: dict[str, Any]) -> str:
    """The customer's time zone, as `timezone` or in `context`; "" if there is none or nobody knows it."""
    context = fields.get("context")
    for holder in (fields, context if isinstance(context, dict) else {}):
        name = holder.get("timezone")
        if isinstance(name, str) and name:
            return name if name in _zones() else ""
    return ""


def event_of(fields: dict[str, Any], settings: DecodeSettings) -> Event:
    """An event from the canonical flat fields."""
    identifier = text(fields, "id", "messageId")
    if not identifier:
        raise DeadError("no id")
    given_type = text(fields, "type", "event")
    kind = GA4_NAMES.get(given_type, given_type)
    if kind not in NAMES:
        raise DeadError(f"unknown type: {given_type}")
    moment = moment_of(fields)
    if not EVENT_TIME_MS_MIN <= moment <= settings.arrival_ms + FUTURE_MS_MAX:
        raise DeadError("time out of range")
    if kind in ROWS:
        return row_of(fields, kind, identifier, moment, settings)
    user, loyalty, anonymous = (text(fields, name) for name in ("userId", "loyaltyId", "anonymousId"))
    if not (user or loyalty or anonymous) and kind not in WITHOUT_CUSTOMER:
        raise DeadError("no customer")
    linked = ""
    if kind in ("identify", "alias") and (user or loyalty):
        linked = anonymous if kind == "identify" else text(fields, "previousId")
    currency = text(fields, "currency") or settings.currency
    exponent = exponent_of(currency)
    products = fields.get("products")
    if products is not None and not isinstance(products, list):
        raise DeadError("products: expected array")
    if products is not None and len(products) > LINES_PER_EVENT_MAX:
        raise DeadError("products: too many lines")
    lines = tuple(line_of(line, exponent) for line in products or ())
    consent = consent_of(kind, fields)
    price, quantity = fields.get("price"), fields.get("quantity")
    amounts = [fields[a] for a in ("amount", "total", "revenue", "value") if fields.get(a) is not None]
    price_minor = 0 if price is None else minor_units(price, exponent)
    count = 1 if quantity is None else whole_number(quantity)
    amount_minor = minor_units(amounts[0], exponent) if amounts else price_minor * count
    if abs(amount_minor) > MONEY_MINOR_MAX:
        raise DeadError("amount: out of range")
    no_product = bool(lines) or kind in ("identify", "alias")
    return Event(
        id=identifier,
        type=kind,
        time_ms=moment,
        customer=user or loyalty or anonymous,
        kind=USER if user else LOYALTY if loyalty else ANONYMOUS,
        anonymous=linked,
        product="" if no_product else text(fields, "product_id"),
        category="" if no_product else text(fields, "category"),
        store=text(fields, "store_id"),
        code="" if kind in WITHOUT_CODE else text(fields, "coupon_id", "promotion_id"),
        source=text(fields, "source"),
        timezone=zone_of(fields),
        price_minor=price_minor,
        amount_minor=amount_minor,
        quantity=count,
        currency=currency,
        has_price=price is not None,
        has_amount=bool(amounts) or price is not None,
        has_quantity=quantity is not None,
        lines=lines,
        consent=consent,
    )


def row_of(
    fields: dict[str, Any], kind: str, identifier: str, moment: int, settings: DecodeSettings
) -> Event:
    """A row of a table: its key, and those of its fields that are of use."""
    table = ROWS[kind]
    event = Event(
        id=identifier,
        type=kind,
        time_ms=moment,
        customer="",
        source=text(fields, "source"),
        currency=settings.currency,
        told=tuple(
            (name, cell(fields[name], is_text))
            for of, name, is_text in settings.fields
            if of == table and name in fields
        ),
    )
    if table == "profile":
        for name, of_kind in (("userId", USER), ("loyaltyId", LOYALTY), ("anonymousId", ANONYMOUS)):
            if text(fields, name):
                return replace(event, customer=text(fields, name), kind=of_kind)
        raise DeadError("no customer")
    if not text(fields, "product_id"):
        raise DeadError("no product")
    store = text(fields, "store_id") if table == "stock" else ""
    return replace(event, product=text(fields, "product_id"), store=store)


def cell(value: Any, is_text: bool) -> Any:
    """A value of a row's field: None where there is none."""
    if value is None or value == "":
        return None
    if is_text:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise DeadError("field: expected text")
        return str(value)
    if not isinstance(value, bool | int | Decimal | str):
        raise DeadError("field: expected a number")
    try:
        number = Decimal(value)
    except InvalidOperation as error:
        raise DeadError("field: not a number") from error
    if not number.is_finite() or abs(number) > 9 * 10**12:
        raise DeadError("field: out of range")
    return number


def segment_fields(item: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
    """The flat fields of one element of Segment's batch; what the element lacks it takes from the batch."""
    call = text(item, "type")
    properties = item.get("properties")
    fields = dict(properties) if isinstance(properties, dict) else {}
    for name in ("time", "id", "type", "event"):  # Segment has its own names for these
        fields.pop(name, None)
    for name, value in item.items():
        if name not in ("type", "event", "properties", "traits", "integrations"):
            fields[name] = value
    for name in ("sentAt", "receivedAt"):
        if fields.get(name) is None:
            fields[name] = batch.get(name)
    fields["type"] = item.get("event") if call == "track" else call
    return fields


def _no_constant(name: str) -> None:
    raise DeadError(f"not JSON: {name}")


def decode_line(line: bytes, settings: DecodeSettings) -> list[Event]:
    """The events of one line: one, or as many as a Segment batch has; none for a blank line.

    Raises DeadError if the line is none of the known forms.
    """
    if not line.strip(b" \t\r\n"):
        return []
    if len(line) > MESSAGE_BYTES_MAX:
        raise DeadError("too long")
    try:
        fields = json.loads(line.decode(), parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DeadError("not JSON") from error
    if not isinstance(fields, dict):
        raise DeadError("expected object")
    if fields.get("batch") is not None:
        if not isinstance(fields["batch"], list):
            raise DeadError("batch: expected array")
        for item in fields["batch"]:
            if not isinstance(item, dict):
                raise DeadError("batch: expected object")
        return [event_of(segment_fields(item, fields), settings) for item in fields["batch"]]
    if fields.get("data") is not None:
        if not isinstance(fields["data"], dict):
            raise DeadError("data: expected object")
        envelope = {name: fields[name] for name in ("id", "type", "source", "time") if name in fields}
        return [event_of({**fields["data"], **envelope}, settings)]
    return [event_of(fields, settings)]


def decode_partition(payload: bytes, partition: int, settings: DecodeSettings) -> Decoded:
    """One partition's lines in order, each event with the partition's clock; late ones are split off."""
    events: list[Event] = []
    dead: list[Dead] = []
    late: list[Late] = []
    clock = 0
    row = 0
    for number, line in enumerate(payload.split(b"\n")):
        try:
            decoded = decode_line(line, settings)
        except DeadError as error:
            dead.append(Dead(partition, number, str(error)))
            continue
        for event in decoded:
            clock = max(clock, event.time_ms)
            stamped = replace(event, clock_ms=clock, partition=partition, row=row)
            row += 1
            if event.time_ms < clock - settings.lateness_ms and event.type not in NEVER_LATE:
                late.append(Late(partition, number, stamped))
            else:
                events.append(stamped)
    return Decoded(events, dead, late, clock)


def merged(partitions: Iterable[Sequence[Event]]) -> list[Event]:
    """The order of arrival: by partition clock, then partition, then row."""
    events = [event for partition in partitions for event in partition]
    return sorted(events, key=lambda event: (event.clock_ms, event.partition, event.row))


def decode(partitions: Sequence[bytes], settings: DecodeSettings) -> Decoded:
    """All partitions, each a run of JSON lines, decoded and merged into the order of arrival."""
    each = [decode_partition(payload, n, settings) for n, payload in enumerate(partitions)]
    return Decoded(
        events=merged([one.events for one in each]),
        dead=[d for one in each for d in one.dead],
        late=[event for one in each for event in one.late],
        clock_ms=max((one.clock_ms for one in each), default=0),
    )
