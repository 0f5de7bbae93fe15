"""One customer's complete past, asked by scanning it: the History of segue.policy.interpret."""

from __future__ import annotations

from dataclasses import dataclass

from segue.events.names import NAMES
from segue_kernels import plan, record
from tests.reference.event import Event
from tests.reference.hashing import field_hash

NO_PRODUCT_TYPES = ("identify", "alias")


def currency_code(letters: str) -> int:
    """1 + 676 a + 26 b + c of three capital letters."""
    a, b, c = (ord(letter) - ord("A") for letter in letters)
    return 1 + 26 * 26 * a + 26 * b + c


@dataclass(frozen=True)
class Seen:
    """What is remembered of an event or of one line of it; strings as hashes, absent = 0.

    product_text and category_text are the same two as given, for the action.
    """

    type: int
    time_ms: int
    product: int
    category: int
    store: int
    code: int
    source: int
    currency: int
    price: int
    amount: int
    quantity: int
    has_price: bool
    has_amount: bool
    product_text: str
    category_text: str

    def has(self, word: int) -> bool:
        """Whether a number is there; an absent quantity is 1, so it always is."""
        return self.has_price if word == record.PRICE else self.has_amount if word == record.AMOUNT else True

    def field(self, word: int) -> int:
        """A field by its word in the record, as streams name it."""
        return {
            record.PRICE: self.price,
            record.AMOUNT: self.amount,
            plan.FIELD_QUANTITY: self.quantity,
            record.PRODUCT: self.product,
            record.CATEGORY: self.category,
            record.STORE: self.store,
            record.CODE: self.code,
            record.SOURCE: self.source,
        }[word]


def seen_header(event: Event, secret: bytes) -> Seen:
    """The event as a whole; with lines it has no product of its own."""
    whole = not event.lines and event.type not in NO_PRODUCT_TYPES
    return Seen(
        type=NAMES.index(event.type) + 1,
        time_ms=event.time_ms,
        product=field_hash(event.product, secret) if whole else 0,
        category=field_hash(event.category, secret) if whole else 0,
        store=field_hash(event.store, secret),
        code=field_hash(event.code, secret),
        source=field_hash(event.source, secret),
        currency=currency_code(event.currency),
        price=event.price_minor,
        amount=event.amount_minor,
        quantity=event.quantity,
        has_price=event.has_price,
        has_amount=event.has_amount,
        product_text=event.product if whole else "",
        category_text=event.category if whole else "",
    )


def seen_items(event: Event, secret: bytes) -> list[Seen]:
    """The lines of the event; the event itself if it has none."""
    header = seen_header(event, secret)
    return [
        Seen(
            type=header.type,
            time_ms=header.time_ms,
            product=field_hash(line.product, secret),
            category=field_hash(line.category, secret),
            store=header.store,
            code=header.code,
            source=header.source,
            currency=header.currency,
            price=line.price_minor,
            amount=line.amount_minor,
            quantity=line.quantity,
            has_price=line.has_price,
            has_amount=line.has_amount,
            product_text=line.product,
            category_text=line.category,
        )
        for line in event.lines
    ] or [header]


@dataclass(frozen=True)
class CustomerHistory:
    """All a customer did until now, the event being decided on included; `subject` is it or its line."""

    headers: list[Seen]
    items: list[Seen]
    now_ms: int
    subject: Seen

    def _in_window(self, seen: Seen, within_ms: int, every_ms: int) -> bool:
        if every_ms:
            return seen.time_ms // every_ms == self.now_ms // every_ms
        if within_ms:
            return self.now_ms - within_ms < seen.time_ms <= self.now_ms
        return True

    def _found(self, items: bool, type: int, by: int, key: int, within_ms: int, every_ms: int) -> list[Seen]:
        of_key = {plan.BY_NONE: None, plan.BY_PRODUCT: "product", plan.BY_CATEGORY: "category"}[by]
        return [
            seen
            for seen in (self.items if items else self.headers)
            if seen.type == type
            and (of_key is None or getattr(seen, of_key) == key)
            and self._in_window(seen, within_ms, every_ms)
        ]

    def count(self, type: int, by: int, key: int, within_ms: int, every_ms: int, up_to: int) -> int:
        """By product (category) the lines of orders count one by one, else each event once."""
        return min(up_to, len(self._found(by != plan.BY_NONE, type, by, key, within_ms, every_ms)))

    def sum(
        self, type: int, of: int, by: int, key: int, within_ms: int, every_ms: int, up_to: int, currency: int
    ) -> int:
        """Sliding: the up_to greatest (time, value) of the window; tumbling: all of it."""
        found = [
            (seen.time_ms, seen.field(of))
            for seen in self._found(by != plan.BY_NONE, type, by, key, within_ms, every_ms)
            if currency in (0, seen.currency) and seen.has(of)
        ]
        kept = found if every_ms else sorted(found, reverse=True)[:up_to]
        return sum(value for _, value in kept)

    def distinct(
        self, type: int, of: int, by: int, key: int, within_ms: int, every_ms: int, up_to: int
    ) -> int:
        """Lines count with their own product and category; absent values do not count."""
        found = {seen.field(of) for seen in self._found(True, type, by, key, within_ms, every_ms)}
        return min(up_to, len(found - {0}))

    def recency(self, type: int, by: int, key: int, within_ms: int) -> int | None:
        found = self._found(by != plan.BY_NONE, type, by, key, within_ms, 0)
        return self.now_ms - max(seen.time_ms for seen in found) if found else None

    @property
    def type(self) -> int:
        return self.subject.type

    @property
    def price(self) -> int:
        return self.subject.price

    @property
    def amount(self) -> int:
        return self.subject.amount

    @property
    def quantity(self) -> int:
        return self.subject.quantity

    @property
    def currency(self) -> int:
        return self.subject.currency

    @property
    def product(self) -> int:
        return self.subject.product

    @property
    def category(self) -> int:
        return self.subject.category

    @property
    def store(self) -> int:
        return self.subject.store

    @property
    def code(self) -> int:
        return self.subject.code

    @property
    def source(self) -> int:
        return self.subject.source
