"""The whole semantics once more, an event at a time over complete lists: what the engine must agree with.

Nothing is bounded, expired or shared here: each customer keeps all events, and every question scans them.
Bounds that are part of the meaning (up_to, the last 64 ids) are applied when the question is asked. Slow on
purpose: its worth is that a person can check it against the rules line by line.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from segue.events.names import CHANNELS
from segue.limits import (
    DEDUPE_IDS_MAX,
    DEDUPE_MS_MAX,
    LOGIT_MAX,
    MINUTE_MS,
    QUARANTINE_MS,
    RATE_EVENTS_PER_MINUTE_MAX,
    RETENTION_MS_DEFAULT,
)
from segue.policy.interpret import interpret
from segue.policy.ir import Node
from tests.reference.event import ANONYMOUS, Event
from tests.reference.hashing import message_hash, signed
from tests.reference.history import CustomerHistory, Seen, currency_code, seen_header, seen_items
from tests.reference.journeys import Journey, Limit, Offer

WON = 0
NOT_ELIGIBLE = 1
CURRENCY = 2
NO_CONSENT = 3
LIMIT = 4
BELOW_MINIMUM = 5
OUTSCORED = 6
OTHER_SLOT = 7

WITHOUT_CUSTOMER = ("Inventory Updated", "Price Updated")

Key = tuple[str, str]  # kind and identifier of a customer
Slot = tuple[str, str]  # channel and placement


@dataclass(frozen=True)
class Settings:
    """What a deployment sets; times in ms."""

    secret: bytes = bytes(range(16))
    retention_ms: int = RETENTION_MS_DEFAULT
    rate_events_per_minute_max: int = RATE_EVENTS_PER_MINUTE_MAX
    quarantine_ms: int = QUARANTINE_MS
    dedupe_ids_max: int = DEDUPE_IDS_MAX
    dedupe_ms_max: int = DEDUPE_MS_MAX


@dataclass(frozen=True)
class Numbers:
    """How a candidate was scored."""

    propensity: float
    context: float
    value: float
    lever: float
    score: float


@dataclass(frozen=True)
class Candidate:
    """An offer that was considered, why it did not win (0: it won), and its numbers if it was scored."""

    journey: str
    offer: str
    reason: int
    numbers: Numbers | None


@dataclass(frozen=True)
class Decision:
    """What was decided for one slot: there is one for each slot with at least one candidate."""

    trigger: str
    customer: Key
    slot: Slot
    now_ms: int
    fired: tuple[str, ...]  # all journeys that fired on the event, in their order
    winner: Candidate | None
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Action:
    """A granted winner. Product and category are those of the event or line its journey fired on."""

    trigger: str
    customer: Key
    slot: Slot
    journey: str
    offer: str
    product: str
    category: str
    time_ms: int
    numbers: Numbers


@dataclass(frozen=True)
class Sent:
    """A send that counts for the limits of its journey."""

    journey: str
    time_ms: int
    product: int
    category: int


@dataclass
class Customer:
    """Everything about one customer, complete."""

    clock_ms: int = 0
    headers: list[Seen] = field(default_factory=list)
    items: list[Seen] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    consent: dict[tuple[str, str], int] = field(default_factory=dict)  # 2 * time + (1 if withdrawn)
    arrivals: list[tuple[int, str]] = field(default_factory=list)  # (customer's clock on arrival, event id)
    minute: tuple[int, int] = (0, 0)  # UTC minute, events in it
    quarantined_until_ms: int = 0

    def take_over(self, other: Customer, rank: Callable[[str], int]) -> None:
        """Add another customer's past to this one; the order in which several are added does not matter.

        Event ids of one time are ordered by `rank`, which tells the last ones where there are more than are kept.
        """
        self.clock_ms = max(self.clock_ms, other.clock_ms)
        self.headers += other.headers
        self.items += other.items
        self.sent += other.sent
        for register, value in other.consent.items():
            self.consent[register] = max(value, self.consent.get(register, 0))
        latest: dict[str, int] = {}
        for clock, identifier in self.arrivals + other.arrivals:
            latest[identifier] = max(clock, latest.get(identifier, 0))
        self.arrivals = sorted(
            ((clock, identifier) for identifier, clock in latest.items()),
            key=lambda arrival: (arrival[0], rank(arrival[1])),
        )
        if other.minute[0] == self.minute[0]:
            self.minute = (self.minute[0], self.minute[1] + other.minute[1])
        else:
            self.minute = max(self.minute, other.minute)
        self.quarantined_until_ms = max(self.quarantined_until_ms, other.quarantined_until_ms)


@dataclass
class Considered:
    """A candidate on its way to its reason."""

    journey: Journey
    offer: Offer
    subject: Seen
    reason: int = WON
    numbers: Numbers | None = None

    def result(self) -> Candidate:
        return Candidate(self.journey.id, self.offer.id, self.reason, self.numbers)


def propensity(bias: float, weights: Sequence[float], features: Sequence[float]) -> float:
    """The logistic model, summed in the order of the features."""
    z = bias
    for weight, x in zip(weights, features, strict=True):
        z += weight * x
    z = min(max(z, -LOGIT_MAX), LOGIT_MAX)
    return 1.0 / (1.0 + math.exp(-z))


class Reference:
    """Runs journeys (in the order of their index) over events in their order of arrival.

    Winners are granted slot by slot: channels in the order of the registry, then placements by name.
    """

    def __init__(self, journeys: Sequence[Journey], settings: Settings) -> None:
        self.journeys = list(journeys)
        self.settings = settings
        used = {offer.slot for journey in journeys for offer in journey.offers}
        self.slots = sorted(used, key=lambda slot: (CHANNELS.index(slot[0]), slot[1]))
        self.customers: dict[Key, Customer] = {}
        self.redirects: dict[Key, Key] = {}
        self.decisions: list[Decision] = []
        self.actions: list[Action] = []
        self.counters: Counter[str] = Counter()
        ranked = sorted(
            (-journey.priority, offer.id, journey.id, j)
            for j, journey in enumerate(journeys)
            for offer in journey.offers
        )
        self.tie_rank = {(journey, offer): rank for rank, (_, offer, journey, _) in enumerate(ranked)}

    def run(self, events: Iterable[Event]) -> None:
        for event in events:
            self.take(event)

    def take(self, event: Event) -> None:
        """One event, from its arrival to its decisions."""
        if event.type in WITHOUT_CUSTOMER:
            self.counters["reference_events"] += 1
            return
        key = (event.kind, event.customer)
        if event.anonymous:
            self.link((ANONYMOUS, event.anonymous), key, event.time_ms)
        key = self.redirects.get(key, key)
        customer = self.customers.setdefault(key, Customer())
        now = max(customer.clock_ms, event.time_ms)
        self.note_consent(customer, event)
        if now < customer.quarantined_until_ms:
            self.counters["quarantined_events"] += 1
            return
        if self.is_duplicate(customer, event, now):
            self.counters["duplicates"] += 1
            return
        self.counters["events"] += 1
        self.forget_if_idle(customer, now)
        customer.clock_ms = now
        self.remember_arrival(customer, event, now)
        self.count_rate(customer, now)
        self.update(customer, event)
        self.decide(key, customer, event, now)

    def link(self, anonymous: Key, known: Key, time_ms: int) -> None:
        """From now on the anonymous identifier's events are the known customer's; so is its past.

        Even where the event that says so is itself dropped. The latest link of an identifier holds. A side
        idle beyond the retention by then brings its consent and sends, not its behaviour.
        """
        self.redirects[anonymous] = known
        past = self.customers.pop(anonymous, None)
        if past is None:
            return
        customer = self.customers.setdefault(known, Customer())
        now = max(customer.clock_ms, past.clock_ms, time_ms)
        self.forget_if_idle(customer, now)
        self.forget_if_idle(past, now)
        if now - past.clock_ms <= self.settings.retention_ms:  # an idle one may be evicted by then
            self.counters["customers_merged"] += 1
        customer.take_over(past, lambda identifier: signed(message_hash(identifier, self.settings.secret)[0]))

    def forget_if_idle(self, customer: Customer, now: int) -> None:
        """Behaviour starts again after a silence longer than the retention; consent and sends stay."""
        if customer.clock_ms and now - customer.clock_ms > self.settings.retention_ms:
            customer.headers.clear()
            customer.items.clear()
            self.counters["customers_forgotten"] += 1

    def is_duplicate(self, customer: Customer, event: Event, now: int) -> bool:
        last = customer.arrivals[-self.settings.dedupe_ids_max :]
        return any(
            arrival > now - self.settings.dedupe_ms_max and identifier == event.id
            for arrival, identifier in last
        )

    def remember_arrival(self, customer: Customer, event: Event, now: int) -> None:
        last = customer.arrivals[-self.settings.dedupe_ids_max :]
        if len(last) == self.settings.dedupe_ids_max and last[0][0] > now - self.settings.dedupe_ms_max:
            self.counters["dedupe_overflow"] += 1
        customer.arrivals.append((now, event.id))

    def count_rate(self, customer: Customer, now: int) -> None:
        """The event that is too many in its minute still counts; those after it are dropped for a while."""
        minute, events = customer.minute
        customer.minute = (now // MINUTE_MS, events + 1 if minute == now // MINUTE_MS else 1)
        if customer.minute[1] > self.settings.rate_events_per_minute_max:
            customer.quarantined_until_ms = now + self.settings.quarantine_ms
            self.counters["quarantines"] += 1

    def note_consent(self, customer: Customer, event: Event) -> None:
        """Consent counts even where the event is otherwise dropped."""
        if event.consent is not None:
            register = (event.consent.channel, event.consent.purpose)
            value = 2 * event.time_ms + (0 if event.consent.granted else 1)
            customer.consent[register] = max(value, customer.consent.get(register, 0))

    def update(self, customer: Customer, event: Event) -> None:
        customer.headers.append(seen_header(event, self.settings.secret))
        customer.items += seen_items(event, self.settings.secret)

    def decide(self, key: Key, customer: Customer, event: Event, now: int) -> None:
        considered: list[Considered] = []
        fired: list[str] = []
        for journey in self.journeys:
            if event.type in journey.on:
                subject = self.fires_on(journey, customer, event, now)
                if subject is not None:
                    fired.append(journey.id)
                    considered += self.consider(journey, subject, customer, now)
        best = self.best_of_slots(considered)
        self.keep_one_slot(best)
        for slot in self.slots:
            in_slot = [c for c in considered if c.offer.slot == slot]
            if not in_slot:
                continue
            winner = best.get(slot)
            if winner is not None and self.limit_reached(winner.journey, winner.subject, customer, now):
                winner.reason = LIMIT
                winner = None
            decision = Decision(
                trigger=event.id,
                customer=key,
                slot=slot,
                now_ms=now,
                fired=tuple(fired),
                winner=None if winner is None else winner.result(),
                candidates=tuple(c.result() for c in in_slot),
            )
            self.decisions.append(decision)
            if winner is not None and winner.numbers is not None:
                customer.sent.append(
                    Sent(winner.journey.id, now, winner.subject.product, winner.subject.category)
                )
                self.actions.append(
                    Action(
                        trigger=event.id,
                        customer=key,
                        slot=slot,
                        journey=winner.journey.id,
                        offer=winner.offer.id,
                        product=winner.subject.product_text,
                        category=winner.subject.category_text,
                        time_ms=now,
                        numbers=winner.numbers,
                    )
                )

    def value(self, node: Node, customer: Customer, subject: Seen, now: int) -> float:
        return interpret(node, CustomerHistory(customer.headers, customer.items, now, subject))

    def fires_on(self, journey: Journey, customer: Customer, event: Event, now: int) -> Seen | None:
        """The first of the event and its lines on which the journey's condition holds."""
        subjects = [seen_header(event, self.settings.secret)]
        if event.lines:
            subjects += seen_items(event, self.settings.secret)
        for subject in subjects:
            if self.value(journey.when, customer, subject, now):
                return subject
        return None

    def consider(self, journey: Journey, subject: Seen, customer: Customer, now: int) -> list[Considered]:
        """The journey's offers with the reasons that need no other candidate, and the scores of the rest."""
        features = [self.value(node, customer, subject, now) for node in journey.features]
        considered = []
        for offer in journey.offers:
            candidate = Considered(journey, offer, subject)
            considered.append(candidate)
            if offer.when is not None and not self.value(offer.when, customer, subject, now):
                candidate.reason = NOT_ELIGIBLE
            elif offer.currency and currency_code(offer.currency) != subject.currency:
                candidate.reason = CURRENCY
            elif offer.consent is not None and not self.granted(customer, offer.consent):
                candidate.reason = NO_CONSENT
            elif self.limit_reached(journey, subject, customer, now):
                candidate.reason = LIMIT
            else:
                p = propensity(offer.bias, offer.weights, features)
                context = offer.context
                if not isinstance(context, float):
                    context = self.value(context, customer, subject, now)
                score = ((p * context) * offer.value) * offer.lever
                candidate.numbers = Numbers(p, context, offer.value, offer.lever, score)
                if score < journey.score_min:
                    candidate.reason = BELOW_MINIMUM
        return considered

    @staticmethod
    def granted(customer: Customer, register: tuple[str, str]) -> bool:
        value = customer.consent.get(register, 0)
        return value > 0 and value % 2 == 0

    @staticmethod
    def limit_reached(journey: Journey, subject: Seen, customer: Customer, now: int) -> bool:
        """Whether the journey has used up one of its limits; by product (category) only if there is one."""

        def counts(limit: Limit, sent: Sent) -> bool:
            if limit.by == "product" and (subject.product == 0 or sent.product != subject.product):
                return False
            if limit.by == "category" and (subject.category == 0 or sent.category != subject.category):
                return False
            return sent.journey == journey.id and sent.time_ms > now - limit.within_ms

        return any(
            sum(counts(limit, sent) for sent in customer.sent) >= limit.times for limit in journey.limits
        )

    def rank(self, candidate: Considered) -> tuple[float, int]:
        """Greater is better: score, then the smaller tie rank."""
        assert candidate.numbers is not None
        return (candidate.numbers.score, -self.tie_rank[candidate.journey.id, candidate.offer.id])

    def best_of_slots(self, considered: Sequence[Considered]) -> dict[Slot, Considered]:
        best: dict[Slot, Considered] = {}
        for slot in self.slots:
            able = [c for c in considered if c.offer.slot == slot and c.reason == WON]
            if able:
                best[slot] = max(able, key=self.rank)
                for candidate in able:
                    if candidate is not best[slot]:
                        candidate.reason = OUTSCORED
        return best

    def keep_one_slot(self, best: dict[Slot, Considered]) -> None:
        """Of the winners whose journeys do not stand alongside, only the best stays."""
        alone = [c for c in best.values() if not c.journey.alongside]
        if alone:
            only = max(alone, key=self.rank)
            for candidate in alone:
                if candidate is not only:
                    candidate.reason = OTHER_SLOT
                    del best[candidate.offer.slot]
