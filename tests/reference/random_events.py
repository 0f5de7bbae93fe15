"""Random event streams as JSON Lines: a small world, so that everything meets everything else.

Equal, late and out-of-order times, time zones, duplicates, orders with lines, consent, identify and alias, erasures,
currencies, bursts, and now and then a line that is a dead letter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from segue.limits import DAY_MS, HOUR_MS, MINUTE_MS
from tests.reference.choice import Choice

Message = dict[str, Any]

START_MS = 1_772_323_200_000  # 2026-03-01T00:00:00Z: a Sunday, a midnight
ARRIVAL_MS = START_MS + 3_000 * DAY_MS  # a run that starts after all of it

TYPES = (
    *("Product Viewed",) * 5,
    *("Product Added",) * 3,
    *("Order Completed",) * 3,
    *("Cart Viewed", "Checkout Started", "Coupon Entered", "page", "Store Entered"),
    *("Consent Changed", "Consent Changed"),
    "Unsubscribed",  # or mail that was refused
    *("identify", "identify", "alias"),
    "Profile Erasure Requested",
    *("Price Updated", "Inventory Updated"),
    "Profile Updated",  # or another row of a table
)
# fields of rows of tables, and values that they may have
ROWS: dict[str, dict[str, tuple[Any, ...]]] = {
    "Catalogue Updated": {"margin": (0.25, 0.5, "1.5", 2), "brand": ("ajax", "zoë", 7)},
    "Price Row Updated": {"amount": (1.005, 9.99, 100), "label": ("sale", "new")},
    "Stock Row Updated": {"quantity": (0, 1, 3), "shelf": ("top", "low")},
    "Profile Updated": {"tier": ("gold", "none"), "points": (0, 5, -2.5)},
}
ZONES = (
    *("Europe/Berlin", "America/New_York"),  # forward in the night of 29 and 8 March 2026
    "Australia/Lord_Howe",  # back by half an hour on 5 April
    *("Asia/Kathmandu", "America/Sao_Paulo"),  # without such changes
    "Mars/Phobos",  # nobody knows it
)
GA4_SPELLINGS = {"Product Viewed": "view_item", "Product Added": "add_to_cart", "Order Completed": "purchase"}
GAPS_MS = (
    *(0, 0, 1, 999, 1_000, 20_000),
    *(MINUTE_MS, 5 * MINUTE_MS, 30 * MINUTE_MS - 1, 30 * MINUTE_MS, HOUR_MS, 6 * HOUR_MS),
)
LONG_GAPS_MS = (DAY_MS - 1, DAY_MS, 3 * DAY_MS, 7 * DAY_MS, 40 * DAY_MS)
# among them the hours before clocks go forward in America and Europe, and back in Australia
BEGINNINGS_MS = (
    0,
    1,
    HOUR_MS - 1,
    12 * HOUR_MS,
    7 * DAY_MS,
    27 * DAY_MS + 22 * HOUR_MS,
    35 * DAY_MS - 10 * HOUR_MS,
)
BEHIND_MS = (0, 0, 1, 1_000, MINUTE_MS, 5 * MINUTE_MS - 1, 5 * MINUTE_MS, 5 * MINUTE_MS + 1, HOUR_MS)
PRICES: tuple[Any, ...] = (1, 4.5, "9.99", 12.49, 0, "100.005", 250)
CHANNELS = ("email", "push", "sms", "web")
NO_CHANNEL = "fax"  # an event that names it is a dead letter
DEAD_LINES = (
    b"{",
    b"[1, 2]",
    b'"text"',
    b"null",
    b'{"type":"Product Viewed","time":"2026-03-01T00:00:00Z","userId":"u0"}',
    b'{"id":"x","time":"2026-03-01T00:00:00Z","userId":"u0"}',
    b'{"id":"x","type":"Product Viewed","userId":"u0"}',
    b'{"id":"x","type":"Product Viewed","time":"2026-03-01T00:00:00Z"}',
    b'{"id":"x","type":"Product Vieved","time":"2026-03-01T00:00:00Z","userId":"u0"}',
    b'{"id":"x","type":"Product Viewed","time":"2026-03-01T00:00:00","userId":"u0"}',
    b'{"id":"x","type":"Product Viewed","time":"1999-12-31T23:59:59.999Z","userId":"u0"}',
    b'{"id":"x","type":"Product Viewed","time":"2126-03-01T00:00:00Z","userId":"u0"}',
    b'{"id":"x","type":"Product Viewed","time":"2026-02-30T00:00:00Z","userId":"u0"}',
    b'{"id":"x","type":"Product Viewed","time":"2026-03-01T00:00:00Z","userId":7}',
    b'{"id":"x","type":"Product Viewed","time":"2026-03-01T00:00:00Z","userId":"u0","price":"many"}',
    b'{"id":"x","type":"Product Viewed","time":"2026-03-01T00:00:00Z","userId":"u0","quantity":1.5}',
    b'{"id":"x","type":"Product Viewed","time":"2026-03-01T00:00:00Z","userId":"u0","quantity":-1}',
    b'{"id":"x","type":"Product Viewed","time":"2026-03-01T00:00:00Z","userId":"u0","currency":"EUX"}',
    b'{"id":"x","type":"Consent Changed","time":"2026-03-01T00:00Z","userId":"u0","channel":"fax"}',
    b'{"id":"x","type":"Product Viewed","time":"2026-03-01T00:00:00Z","userId":"\xff"}',
)


@dataclass(frozen=True)
class World:
    """How many of everything there are. More products than a row has slots make keys spill."""

    users: int = 2
    loyalty: int = 1
    anonymous: int = 2
    products: int = 4
    categories: int = 3
    partitions: int = 2

    def customers(self) -> list[tuple[str, str]]:
        """(field, identifier) of everyone; a user and a card share an identifier on purpose."""
        return [
            *(("userId", f"u{n}") for n in range(self.users)),
            *(("loyaltyId", f"u{n}") for n in range(self.loyalty)),
            *(("anonymousId", f"a{n}") for n in range(self.anonymous)),
        ]


def world(choice: Choice) -> World:
    return World(
        users=choice.integer(1, 3),
        loyalty=choice.integer(0, 1),
        anonymous=choice.integer(0, 3),
        products=choice.pick((2, 4, 14)),
        partitions=choice.integer(1, 3),
    )


def crowd(choice: Choice) -> World:
    """Many customers, each with few events, who are identified one after the other."""
    return World(
        users=choice.integer(5, 20),
        loyalty=choice.integer(0, 5),
        anonymous=choice.integer(10, 40),
        products=choice.pick((4, 40)),
        partitions=choice.integer(1, 3),
    )


def bazaar(choice: Choice) -> World:
    """Few customers and many products: keys spill out of the row, expire, and come back."""
    return World(users=choice.integer(1, 3), loyalty=0, anonymous=choice.integer(0, 2), products=40)


def _goods(choice: Choice, world: World) -> Message:
    """Product, category, price and quantity, each of them there or not."""
    fields: Message = {}
    if choice.chance(85):
        fields["product_id"] = f"p{choice.integer(0, world.products - 1)}"
    if choice.chance(60):
        fields["category"] = f"c{choice.integer(0, world.categories - 1)}"
    if choice.chance(60):
        fields["price"] = choice.pick(PRICES)
    if choice.chance(30):
        fields["quantity"] = choice.pick((1, 2, 3, 2.0, 0))
    return fields


def _row(choice: Choice, world: World, kind: str) -> Message:
    """The key of a row of a table, and some of its fields."""
    if kind == "Profile Updated":
        row = dict([choice.pick(world.customers())])
    else:
        row = {"product_id": f"p{choice.integer(0, world.products - 1)}"}
        if choice.chance(30):
            row["store_id"] = f"s{choice.integer(0, 1)}"
    for name, values in ROWS[kind].items():
        if choice.chance(60):
            row[name] = choice.pick((*values, *values, None, "")) if choice.chance(97) else ["wrong"]
    return row


def _message(choice: Choice, world: World, number: int, time_ms: int) -> Message:
    """One event with its canonical field names; `time` is still a number of ms."""
    kind = choice.pick(TYPES)
    if kind == "Profile Erasure Requested" and not choice.chance(30):
        kind = "Cart Viewed"  # people who are forgotten all the time have no history to get wrong
    message: Message = {"id": f"e{number}", "type": kind, "time": time_ms}
    if kind in ("Price Updated", "Inventory Updated"):
        shop = {"store_id": f"s{choice.integer(0, 1)}"} if choice.chance(60) else {}
        return {**message, **_goods(choice, world), **shop}
    if kind in ROWS:
        message["type"] = kind = choice.pick((*ROWS, "Catalogue Updated", "Profile Updated"))
        return {**message, **_row(choice, world, kind)}
    field, customer = choice.pick(world.customers())
    message[field] = customer
    if choice.chance(12):
        message["timezone"] = choice.pick(ZONES)
    if kind in ("identify", "alias"):
        if choice.chance(90):
            message.pop("anonymousId", None)
            message.setdefault("userId", f"u{choice.integer(0, world.users - 1)}")
            name = "anonymousId" if kind == "identify" else "previousId"
            message[name] = f"a{choice.integer(0, max(0, world.anonymous - 1))}"
        return message
    if kind == "Profile Erasure Requested":
        return message
    if kind == "Unsubscribed":
        message["type"] = kind = choice.pick((kind, kind, "Email Bounced", "Email Marked as Spam"))
        if choice.chance(40):
            message["channel"] = choice.pick((*CHANNELS, "", NO_CHANNEL))
    if kind == "Consent Changed":
        message["channel"] = choice.pick(CHANNELS)
        message["granted"] = choice.chance(70)
        if choice.chance(20):
            message["purpose"] = choice.pick(("marketing", "service"))
        return message
    if choice.chance(20):
        message["store_id"] = f"s{choice.integer(0, 1)}"
    if choice.chance(20):
        message[choice.pick(("coupon_id", "promotion_id"))] = f"k{choice.integer(0, 2)}"
    if choice.chance(20):
        message["source"] = choice.pick(("shop", "app"))
    if choice.chance(15):
        message["currency"] = choice.pick(("USD", "EUR", "JPY"))
    if kind == "Order Completed" and choice.chance(70):
        message["products"] = [_goods(choice, world) for _ in range(choice.integer(0, 4))]
        if choice.chance(70):
            message["amount"] = choice.pick(PRICES)
        return message
    message.update(_goods(choice, world))
    if choice.chance(10):
        message["amount"] = choice.pick(PRICES)
    return message


def messages(choice: Choice, world: World, count: int) -> list[list[Message]]:
    """About `count` events, spread over the partitions, each in its order of arrival."""
    partitions: list[list[Message]] = [[] for _ in range(world.partitions)]
    told: list[Message] = []
    now = START_MS + choice.pick(BEGINNINGS_MS)
    burst = 0
    for number in range(count):
        if burst:
            burst -= 1
        elif choice.chance(5):
            burst = choice.integer(3, 12)  # many events within a second
        elif choice.chance(3):
            now += choice.pick(LONG_GAPS_MS)
        else:
            now += choice.pick(GAPS_MS)
        behind = choice.pick(BEHIND_MS) if choice.chance(25) else 0
        if told and choice.chance(8):
            message = dict(choice.pick(told if choice.chance(20) else told[-8:]))
            if choice.chance(70):
                message["time"] = now
        else:
            message = _message(choice, world, number, now - behind)
        told.append(message)
        partitions[choice.integer(0, world.partitions - 1)].append(message)
    return partitions


def _time_text(choice: Choice, time_ms: int) -> str:
    zone = choice.pick((UTC, timezone(timedelta(hours=2)), timezone(timedelta(hours=-5, minutes=-30))))
    moment = datetime.fromtimestamp(time_ms // 1000, zone) + timedelta(milliseconds=time_ms % 1000)
    text = moment.isoformat(timespec=choice.pick(("milliseconds", "microseconds")))
    return text.replace("+00:00", "Z")


def _shuffled(choice: Choice, fields: Message) -> Message:
    """The same fields in another order."""
    names = list(fields)
    return {names.pop(choice.integer(0, len(names) - 1)): None for _ in fields} | fields


def _as_flat(choice: Choice, message: Message) -> Message:
    """Bare JSON, perhaps with other spellings of names and types, in any order of keys."""
    fields = dict(message)
    for name, alias in (("id", "messageId"), ("type", "event"), ("time", "timestamp")):
        if choice.chance(15):
            fields[alias] = fields.pop(name)
    if "amount" in fields and choice.chance(50):
        fields[choice.pick(("total", "revenue", "value"))] = fields.pop("amount")
    if "timezone" in fields and choice.chance(50):
        fields["context"] = {"timezone": fields.pop("timezone"), "locale": "de"}
    if choice.chance(10):
        fields["unknown"] = choice.pick(({"a": [1, {"b": None}]}, 'a "quoted" \\ text', None, 1.5e3, True))
    if choice.chance(10):
        fields.setdefault("store_id", None)
    return _shuffled(choice, fields) if choice.chance(50) else fields


def _as_cloud_event(message: Message) -> Message:
    envelope = {"specversion": "1.0", "source": "shop"}
    envelope |= {name: message[name] for name in ("id", "type", "source", "time") if name in message}
    return {**envelope, "data": {name: v for name, v in message.items() if name not in envelope}}


def _as_segment_batch(messages: Sequence[Message]) -> Message:
    batch = []
    for message in messages:
        own = ("userId", "anonymousId", "previousId", "source")
        item = {"messageId": message["id"], "timestamp": message["time"]}
        item |= {name: message[name] for name in own if name in message}
        if "timezone" in message:
            item["context"] = {"timezone": message["timezone"]}
        if message["type"] in ("identify", "alias", "page"):
            item["type"] = message["type"]
        else:
            item |= {"type": "track", "event": message["type"]}
        taken = (*own, "id", "time", "type", "timezone")
        item["properties"] = {name: value for name, value in message.items() if name not in taken}
        batch.append(item)
    return {"batch": batch}


def _dumped(choice: Choice, fields: Message) -> bytes:
    separators = choice.pick(((",", ":"), (", ", ": ")))
    return json.dumps(fields, separators=separators, ensure_ascii=choice.chance(50)).encode()


def _fits_a_batch(message: Message) -> bool:
    """Segment has no cards; and the reference takes a batch as a whole, or not."""
    return "loyaltyId" not in message and not any(
        wrong in message.values() for wrong in (["wrong"], NO_CHANNEL)
    )


def lines(choice: Choice, messages: Sequence[Message]) -> list[bytes]:
    """The messages as lines of JSON, in one form or another, with a few blank and dead ones between."""
    rendered: list[bytes] = []
    waiting = list(messages)
    while waiting:
        if choice.chance(3):
            rendered.append(choice.pick((b"", b"  ", *DEAD_LINES)))
        taken = [waiting.pop(0)]
        as_batch = choice.chance(8) and _fits_a_batch(taken[0])
        while as_batch and waiting and _fits_a_batch(waiting[0]) and choice.chance(60):
            taken.append(waiting.pop(0))
        written = []
        for message in taken:
            spelled = dict(message)
            spelled["time"] = _time_text(choice, message["time"])
            if message["type"] in GA4_SPELLINGS and choice.chance(15):
                spelled["type"] = GA4_SPELLINGS[message["type"]]
            written.append(spelled)
        if as_batch:
            rendered.append(_dumped(choice, _as_segment_batch(written)))
        elif choice.chance(20):
            rendered.append(_dumped(choice, _as_cloud_event(written[0])))
        else:
            rendered.append(_dumped(choice, _as_flat(choice, written[0])))
    return rendered


def stream(choice: Choice, world: World, count: int) -> list[bytes]:
    """About `count` events as JSON Lines, a payload for each partition; the last newline may be missing."""
    payloads = []
    for partition in messages(choice, world, count):
        payload = b"\n".join(lines(choice, partition))
        payloads.append(payload + b"\n" if choice.chance(80) else payload)
    return payloads


def borders(choice: Choice, rows: int) -> list[int]:
    """Sizes of batches that together have `rows` rows; each at least 1."""
    sizes = []
    while rows > 0:
        sizes.append(min(rows, choice.pick((1, 2, 3, 7, 20, 1_000))))
        rows -= sizes[-1]
    return sizes
