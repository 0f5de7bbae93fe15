"""One customer's complete past, asked by scanning it: the History of segue.policy.interpret."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from segue.events.names import NAMES
from segue.limits import MINUTE_MS
from segue.policy.ir import Stream
from segue_kernels import plan, record
from tests.reference.event import Event
from tests.reference.hashing import field_hash

NO_PRODUCT_TYPES = ("identify", "alias")
TUMBLING = (plan.TUMBLE_COUNT, plan.TUMBLE_SUM, plan.TUMBLE_DISTINCT)
EVER_MS = 1 << 62
CALENDAR = (plan.WINDOW_HOUR, plan.WINDOW_DAY, plan.WINDOW_WEEK, plan.WINDOW_MONTH)
NOT_ACTIVITY = (
    # what is done to a customer, or is no doing at all
    *("Email Delivered", "Email Bounced", "Email Marked as Spam", "Unsubscribed"),
    *("Push Notification Received", "Experiment Viewed", "identify", "alias", "Consent Changed"),
    *("Support Case Closed", "Inventory Updated", "Price Updated", "Profile Erasure Requested"),
    *("Catalogue Updated", "Price Row Updated", "Stock Row Updated", "Profile Updated"),
    *("Action Delivered", "Action Viewed", "Action Clicked", "Action Dismissed", "Action Failed"),
)
ACTIVITY_TYPES = frozenset(code for code, name in enumerate(NAMES, start=1) if name not in NOT_ACTIVITY)


def _period_day(now_ms: int, zone: str, window: int) -> date:
    """The local date on which the calendar window of `now_ms` begins."""
    today = datetime.fromtimestamp(now_ms // 1000, UTC).astimezone(ZoneInfo(zone)).date()
    if window == plan.WINDOW_WEEK:
        return today - timedelta(days=today.weekday())
    return today.replace(day=1) if window == plan.WINDOW_MONTH else today


def _day_start_ms(day: date, zone: str) -> int:
    """The first instant of a local date; where midnight is skipped, the instant of the change."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    return int(midnight.timestamp()) * 1000


def _hour_ms(now_ms: int, zone: str, step: int) -> int:
    """The nearest minute from the one of `now_ms` on, step by step, at which a full hour or other clocks begin."""

    def local(at_ms: int) -> datetime:
        return datetime.fromtimestamp(at_ms // 1_000, UTC).astimezone(ZoneInfo(zone))

    at = now_ms - now_ms % MINUTE_MS + (MINUTE_MS if step > 0 else 0)
    while local(at).minute and local(at).utcoffset() == local(at - 1_000).utcoffset():
        at += step * MINUTE_MS
    return at


def period_start_ms(now_ms: int, zone: str, window: int) -> int:
    """When the customer's local hour, day, week (Monday) or month of `now_ms` began."""
    if window == plan.WINDOW_HOUR:
        return _hour_ms(now_ms, zone, -1)
    return _day_start_ms(_period_day(now_ms, zone, window), zone)


def period_end_ms(now_ms: int, zone: str, window: int) -> int:
    """When the next one begins."""
    if window == plan.WINDOW_HOUR:
        return _hour_ms(now_ms, zone, 1)
    day = _period_day(now_ms, zone, window)
    if window == plan.WINDOW_DAY:
        following = day + timedelta(days=1)
    elif window == plan.WINDOW_WEEK:
        following = day + timedelta(days=7)
    else:
        following = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
    return _day_start_ms(following, zone)


def currency_code(letters: str) -> int:
    """1 + 676 a + 26 b + c of three capital letters."""
    a, b, c = (ord(letter) - ord("A") for letter in letters)
    return 1 + 26 * 26 * a + 26 * b + c


@dataclass(frozen=True)
class Seen:
    """What is remembered of an event or of one line of it; strings as hashes, absent = 0.

    product_text, category_text and store_text are the same as given, for the action and for tables.
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
    store_text: str

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
        store_text=event.store,
    )


def nothing_seen(time_ms: int) -> Seen:
    """What a timer decides on that no event armed."""
    return Seen(
        type=0,
        time_ms=time_ms,
        product=0,
        category=0,
        store=0,
        code=0,
        source=0,
        currency=0,
        price=0,
        amount=0,
        quantity=0,
        has_price=False,
        has_amount=False,
        product_text="",
        category_text="",
        store_text="",
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
            store_text=event.store,
        )
        for line in event.lines
    ] or [header]


@dataclass(frozen=True)
class Match:
    """A right event of an interval join that found its left one."""

    join: int
    time_ms: int


def session_spans(times: Iterable[int], gap_ms: int) -> list[tuple[int, int]]:
    """(start, end) of the maximal runs whose gaps are at most `gap_ms`, oldest first."""
    spans: list[tuple[int, int]] = []
    for time in sorted(times):
        if spans and time - spans[-1][1] <= gap_ms:
            spans[-1] = (spans[-1][0], time)
        else:
            spans.append((time, time))
    return spans


@dataclass(frozen=True)
class CustomerHistory:
    """All a customer did until now, the event being decided on included; `subject` is it or its line."""

    headers: list[Seen]
    items: list[Seen]
    now_ms: int
    subject: Seen
    matches: list[Match] = field(default_factory=list)
    step: int = 1
    segments: int = 0
    stage: int = 0
    zone: str = "UTC"
    looked_up: Callable[[int], int] | None = None

    @property
    def now(self) -> int:
        return self.now_ms

    @property
    def trigger_ms(self) -> int:
        return self.subject.time_ms

    # --- streams ------------------------------------------------------------------------------------------

    def _fed(self, stream: Stream, key: int) -> list[Seen]:
        """What the stream listens to: by product (category) and for DISTINCT each line by itself, else each event."""
        of_key = {plan.BY_NONE: None, plan.BY_PRODUCT: "product", plan.BY_CATEGORY: "category"}[stream.by]
        distinct = stream.kind in (plan.DISTINCT, plan.TUMBLE_DISTINCT)
        types = ACTIVITY_TYPES if stream.type == plan.ANY_TYPE else {stream.type}
        return [
            seen
            for seen in (self.items if of_key or distinct else self.headers)
            if seen.type in types
            and (of_key is None or getattr(seen, of_key) == key)
            and stream.currency in (0, seen.currency)
            and stream.source in (0, seen.source)
        ]

    def _window(self, stream: Stream, within_ms: int) -> tuple[int, int]:
        """First and last ms of an atom's window; the last before the first where there is none."""
        if stream.kind in TUMBLING:
            start = self.now_ms // stream.every_ms * stream.every_ms
            return start, start + stream.every_ms - 1
        return self.window(within_ms)

    def window(self, within_ms: int) -> tuple[int, int]:
        if within_ms > 0:
            return self.now_ms - within_ms + 1, self.now_ms
        if within_ms == 0:
            return 0, EVER_MS
        if within_ms in CALENDAR:
            return period_start_ms(self.now_ms, self.zone, within_ms), EVER_MS
        current = self.session(-within_ms)
        return (EVER_MS, 0) if current is None else (current[0], EVER_MS)

    def session(self, gap_ms: int) -> tuple[int, int] | None:
        """(start, end) of the session that goes on."""
        spans = session_spans((s.time_ms for s in self.headers if s.type in ACTIVITY_TYPES), gap_ms)
        return spans[-1] if spans and self.now_ms - spans[-1][1] <= gap_ms else None

    def times(self, stream: Stream, within_ms: int, key: int) -> list[int]:
        if stream.type >= plan.JOIN_TYPE:
            times = [match.time_ms for match in self.matches if match.join == stream.type - plan.JOIN_TYPE]
        else:
            times = [seen.time_ms for seen in self._fed(stream, key)]
        first, last = self._window(stream, within_ms)
        return sorted((time for time in times if first <= time <= last), reverse=True)

    def times_with_field(self, stream: Stream, within_ms: int, key: int) -> list[int]:
        """Times of the events that have the stream's field, newest first."""
        first, last = self._window(stream, within_ms)
        found = (seen for seen in self._fed(stream, key) if seen.has(stream.field))
        return sorted((seen.time_ms for seen in found if first <= seen.time_ms <= last), reverse=True)

    def tumbled_times(self, stream: Stream) -> list[int]:
        """Times of all that an aligned window took in, whichever it was; newest first."""
        if stream.kind == plan.TUMBLE_DISTINCT:
            taken = [seen for seen in self._fed(stream, 0) if seen.field(stream.field)]
        else:
            taken = [seen for seen in self._fed(stream, 0) if not stream.field or seen.has(stream.field)]
        return sorted((seen.time_ms for seen in taken), reverse=True)

    def sum(self, stream: Stream, within_ms: int, key: int, up_to: int) -> int:
        """Not tumbling: the up_to greatest (time, value) of the window; tumbling: all of it."""
        first, last = self._window(stream, within_ms)
        found = sorted(
            (
                (seen.time_ms, seen.field(stream.field))
                for seen in self._fed(stream, key)
                if seen.has(stream.field) and first <= seen.time_ms <= last
            ),
            reverse=True,
        )
        return sum(value for _, value in (found if stream.kind in TUMBLING else found[:up_to]))

    def distinct(self, stream: Stream, within_ms: int, key: int, up_to: int) -> int:
        """Lines count with their own product and category; absent values do not count."""
        return min(up_to, len(self.latest_of_each(stream, within_ms, key)))

    def latest_of_each(self, stream: Stream, within_ms: int, key: int) -> dict[int, int]:
        """The different values of the stream's field in the window, each with its latest time."""
        latest: dict[int, int] = {}
        start, end = self._window(stream, within_ms)
        for seen in self._fed(stream, key):
            value = seen.field(stream.field)
            if value and start <= seen.time_ms <= end:
                latest[value] = max(seen.time_ms, latest.get(value, seen.time_ms))
        return latest

    def decayed_sums(self, stream: Stream, key: int) -> tuple[int, list[int]] | None:
        half_life = stream.every_ms
        sums: dict[int, int] = {}
        for seen in self._fed(stream, key):
            if stream.field in (0, plan.FIELD_QUANTITY):
                weight = (seen.quantity if stream.field else 1) * plan.DECAY_COUNT_SCALE
            elif seen.has(stream.field):
                weight = seen.field(stream.field) * plan.DECAY_MONEY_SCALE
            else:
                continue
            epoch, phase = divmod(seen.time_ms, half_life)
            sums[epoch] = sums.get(epoch, 0) + math.floor(weight * math.exp2(phase / half_life) + 0.5)
        if not sums:
            return None
        newest = max(sums)
        return newest, [sums.get(newest - j, 0) for j in range(plan.DECAY_EPOCHS)]

    def first(self, stream: Stream, key: int) -> tuple[int, int] | None:
        found = [
            (seen.time_ms, seen.field(stream.field) if stream.field else 0)
            for seen in self._fed(stream, key)
            if not stream.field or seen.has(stream.field)
        ]
        return min(found) if found else None

    # --- what is not an event's ----------------------------------------------------------------------------

    def lookup(self, index: int) -> int:
        assert self.looked_up is not None
        return self.looked_up(index)

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
