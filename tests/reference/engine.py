"""The whole semantics once more, an event at a time over complete lists: what the engine must agree with.

Nothing is bounded, expired or shared here: each customer keeps all events, and every question scans them.
Bounds that are part of the meaning (up_to, the last 64 ids) are applied when the question is asked. Slow on
purpose: its worth is that a person can check it against the rules line by line.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from zoneinfo import ZoneInfo

from segue.events.names import CHANNELS, NAMES, PURPOSES
from segue.limits import (
    DEDUPE_IDS_MAX,
    DEDUPE_MS_MAX,
    HELD_PER_CUSTOMER_MAX,
    LATENESS_MS_DEFAULT,
    LOGIT_MAX,
    MINUTE_MS,
    OUTSTANDING_PER_CUSTOMER_MAX,
    QUARANTINE_MS,
    RATE_EVENTS_PER_MINUTE_MAX,
    RETENTION_MS_DEFAULT,
    WAITS_PER_CUSTOMER_MAX,
)
from segue.policy.interpret import interpret
from segue.policy.ir import Lookup, LookupIs, Node, Stream, walk
from segue_kernels import plan, record
from tests.reference.customer import Customer, Held, Left, Outstanding, Sent, Trigger, Wait
from tests.reference.event import ANONYMOUS, Event
from tests.reference.hashing import action_hash, decision_hash, key_hash, message_hash, signed, timer_hash
from tests.reference.history import (
    CustomerHistory,
    Match,
    Seen,
    currency_code,
    nothing_seen,
    period_start_ms,
    seen_header,
    seen_items,
)
from tests.reference.journeys import Cap, Depth, Journey, Limit, Offer, Policies
from tests.reference.looks import DAILY, checks_of, due, every_change, listened_to
from tests.reference.tables import Tables, Version

WON = 0
NOT_ELIGIBLE = 1
CURRENCY = 2
NO_CONSENT = 3
LIMIT = 4
BELOW_MINIMUM = 5
OUTSCORED = 6
OTHER_SLOT = 7
CAP = 9
SUPPRESSED = 10
HELD = 11
QUIET_HOURS = 12
EXPIRED = 13
NOT_APPLICABLE = 15
NOT_SUITABLE = 16

ERASURE = "Profile Erasure Requested"
WITHOUT_CUSTOMER = (
    *("Inventory Updated", "Price Updated"),
    *("Catalogue Updated", "Price Row Updated", "Stock Row Updated", "Profile Updated"),
)

Key = tuple[str, str]  # kind and identifier of a customer
Slot = tuple[str, str]  # channel and placement

# a timer: when it is due, what it is, then for a session's end which gap, for a wait its journey and key, for what is
# held its journey, key and place among the journey's offers
Timer = tuple[int, int, int, int, int]
CHECK, SESSION_END, WAIT, RELEASE, END = range(5)  # of one time, in this order


@dataclass(frozen=True)
class Settings:
    """What a deployment sets; times in ms."""

    secret: bytes = bytes(range(16))
    retention_ms: int = RETENTION_MS_DEFAULT
    rate_events_per_minute_max: int = RATE_EVENTS_PER_MINUTE_MAX
    quarantine_ms: int = QUARANTINE_MS
    dedupe_ids_max: int = DEDUPE_IDS_MAX
    dedupe_ms_max: int = DEDUPE_MS_MAX
    lateness_ms: int = LATENESS_MS_DEFAULT
    timezone: str = "UTC"
    waits_per_customer_max: int = WAITS_PER_CUSTOMER_MAX
    held_per_customer_max: int = HELD_PER_CUSTOMER_MAX
    outstanding_per_customer_max: int = OUTSTANDING_PER_CUSTOMER_MAX


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
    """What was decided for one slot: there is one for each slot with at least one candidate.

    trigger   id of the event, of a wait: of the event that armed it; "" = none
    message   (low, high) of the trigger's id
    """

    trigger: str
    message: tuple[int, int]
    customer: Key
    slot: Slot
    now_ms: int
    fired: tuple[str, ...]  # all journeys that fired on the event, in their order
    winner: Candidate | None
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Action:
    """A granted winner. Product and category are those of the event or line its journey fired on.

    segments and stage are the customer's ("" = the policies have none), items the products it lists. `discount`: what
    its voucher takes off, in percent or major units.
    """

    trigger: str
    message: tuple[int, int]
    customer: Key
    slot: Slot
    journey: str
    offer: str
    product: str
    category: str
    time_ms: int
    numbers: Numbers
    step: int = 1
    segments: tuple[str, ...] = ()
    stage: str = ""
    items: tuple[str, ...] = ()
    discount: tuple[Depth, Fraction] | None = None
    timezone: str = ""


@dataclass(frozen=True)
class Change:
    """A customer entered or left a segment ("entered", "left"), or entered a stage ("stage")."""

    customer: Key
    name: str
    change: str
    time_ms: int
    event: str  # id of the event that caused it; "" = time did


@dataclass(frozen=True)
class Withdrawn:
    """An action was taken back: `decision` and `action` are (low, high) of ids."""

    customer: Key
    decision: tuple[int, int]
    action: tuple[int, int]
    slot: Slot
    journey: str
    step: int
    offer: str
    reason: str
    time_ms: int
    event: str  # id of the event that took it back; "" = time did


@dataclass(frozen=True)
class Credit:
    """A join matched: `left` is the id of the left event or action."""

    customer: Key
    join: str
    event: str
    right_ms: int
    left_ms: int
    left: tuple[int, int]
    product: str


@dataclass(frozen=True)
class Ranking:
    """What a ledger of vouchers is asked: which of `actions`, the best first, goes out. campaigns: of each, "" = none.

    decision, action  where the decision and what goes out stand among the reference's
    """

    decision: int
    action: int
    actions: Sequence[Action]
    campaigns: Sequence[str]


@dataclass
class Considered:
    """A candidate on its way to its reason. `held`: for what is released, what was held of its journey."""

    journey: Journey
    offer: Offer
    subject: Seen
    step: int = 1
    reason: int = WON
    numbers: Numbers | None = None
    discount: tuple[Depth, Fraction] | None = None
    held: Held | None = None

    def result(self) -> Candidate:
        return Candidate(self.journey.id, self.offer.id, self.reason, self.numbers)


Rank = Callable[[Considered], tuple[float, ...]]


def propensity(bias: float, weights: Sequence[float], features: Sequence[float]) -> float:
    """The logistic model, summed in the order of the features."""
    z = bias
    for weight, x in zip(weights, features, strict=True):
        z += weight * x
    z = min(max(z, -LOGIT_MAX), LOGIT_MAX)
    return 1.0 / (1.0 + math.exp(-z))


def depth(of: Depth, value: float) -> Fraction:
    """What a voucher takes off, in percent or major units; half of the smallest part is rounded up."""
    unit = Fraction(1, of.scale)
    least, most = Fraction(of.least), Fraction(of.most)
    step = unit if of.step is None else Fraction(of.step)
    asked = min(max(math.floor(value * of.scale + 0.5) * unit, least), most)
    return least + (asked - least) // step * step


class Reference:
    """Runs journeys (in the order of their index) over events in their order of arrival, and fires timers between them.

    Winners are granted slot by slot: channels in the order of the registry, then placements by name.

    verify   at every moment between two looks at which a window or an age of a segment's or stage's condition could
             end, assert that nothing has changed: the looks by time alone are enough
    """

    def __init__(
        self,
        policies: Policies | Sequence[Journey],
        settings: Settings,
        tables: Sequence[Version] = (),
        verify: bool = False,
    ) -> None:
        self.policies = policies if isinstance(policies, Policies) else Policies(policies)
        journeys = self.journeys = list(self.policies.journeys)
        self.settings = settings
        self.verify = verify
        used = {offer.slot for journey in journeys for offer in journey.offers}
        self.slots = sorted(used, key=lambda slot: (CHANNELS.index(slot[0]), slot[1]))
        self.customers: dict[Key, Customer] = {}
        self.redirects: dict[Key, Key] = {}
        self.erased: dict[Key, int] = {}  # time of the latest erasure
        self.decisions: list[Decision] = []
        self.actions: list[Action] = []
        self.rankings: list[Ranking] = []
        self.changes: list[Change] = []
        self.credits: list[Credit] = []
        self.withdrawn: list[Withdrawn] = []
        self.counters: Counter[str] = Counter()
        self.tables = Tables(self.policies.fields, tables, settings.secret)
        ranked = sorted(
            (-journey.priority, offer.id, journey.id, j)
            for j, journey in enumerate(journeys)
            for offer in journey.offers
        )
        self.tie_rank = {(journey, offer): rank for rank, (_, offer, journey, _) in enumerate(ranked)}
        self.gaps = sorted({journey.session_ms for journey in journeys if journey.session_ms})
        self.conditions = [segment.when for segment in self.policies.segments]
        self.conditions += [stage.when for stage in self.policies.stages if stage.when is not None]
        self.checks = [check for node in self.conditions for check in checks_of(node)]
        self.exact = sum(
            1 << bit
            for bit, segment in enumerate(self.policies.segments)
            if not any(check.kind == DAILY for check in checks_of(segment.when))
            and not any(isinstance(node, (Lookup, LookupIs)) for node in walk(segment.when))
        )
        joined = {j: NAMES.index(join.right) + 1 for j, join in enumerate(self.policies.joins)}
        self.watched = listened_to(self.conditions, joined)

    def run(self, events: Iterable[Event], end_ms: int | None = None) -> None:
        """All events, then the end of the input; `end_ms` is the final clock if it is not the last event's."""
        clock = 0
        for event in events:
            self.take(event)
            clock = max(clock, event.clock_ms)
        self.finish(clock if end_ms is None else end_ms)

    def take(self, event: Event) -> None:
        """One event, from its arrival to its decisions."""
        if event.type in WITHOUT_CUSTOMER:
            self.counters["reference_events"] += 1
            self.tables.take(event)
            return
        key = (event.kind, event.customer)
        passed = event.clock_ms - self.settings.lateness_ms
        if event.type == ERASURE:
            self.fire_due(key, passed)
            if key in self.customers and not self.is_erased(key, event.time_ms):
                customer = self.customers[key]
                now = max(customer.clock_ms, event.time_ms, passed)
                self.take_back(key, customer, lambda _: "erased", event.id, now)
            self.erase(key, event.time_ms)
            self.tables.erase(key, event.time_ms)
            return
        self.fire_due(self.redirects.get(key, key), passed)
        if event.anonymous:
            self.fire_due((ANONYMOUS, event.anonymous), passed)
        if self.is_erased(key, event.time_ms) or self.is_erased(self.redirects.get(key, key), event.time_ms):
            self.counters["erased_events"] += 1
            return
        if event.anonymous and not self.is_erased((ANONYMOUS, event.anonymous), event.time_ms):
            self.link((ANONYMOUS, event.anonymous), key, max(event.time_ms, passed))
        key = self.redirects.get(key, key)
        customer = self.customers.setdefault(key, Customer())
        now = max(customer.clock_ms, event.time_ms, passed)
        self.note_consent(customer, event)
        self.take_back(key, customer, lambda one: self.refused(customer, one), event.id, now)
        if now < customer.quarantined_until_ms:
            self.counters["quarantined_events"] += 1
            return
        if self.is_duplicate(customer, event, now):
            self.counters["duplicates"] += 1
            return
        self.fire_due(key, now)
        self.counters["events"] += 1
        self.forget_if_idle(customer, now)
        customer.clock_ms = now
        self.remember_arrival(customer, event, now)
        self.count_rate(customer, now)
        self.reach_goals(key, customer, event, now)
        trigger = Trigger(event.id, message_hash(event.id, self.settings.secret))
        self.update(key, customer, event, trigger, now)
        changes: set[str] = set()
        header = seen_header(event, self.settings.secret)
        if customer.look or header.type in self.watched or 0 < customer.check_due_ms <= now:
            changes = self.look(key, customer, trigger, now)
        lines = seen_items(event, self.settings.secret) if event.lines else []
        self.decide(key, customer, trigger, [header, *lines], {event.type} | changes, now)
        self.fire_due(key, now)

    def finish(self, clock_ms: int) -> None:
        """The end of the input: nothing can come, so every timer up to the final clock fires."""
        for key in list(self.customers):
            self.fire_due(key, clock_ms + 1)

    # --- timers -------------------------------------------------------------------------------------------

    def next_timer(self, customer: Customer) -> Timer | None:
        """The customer's earliest timer: by due time, then the check, ends of sessions, waits, what is held."""
        timers: list[Timer] = []
        if customer.check_due_ms:
            timers.append((customer.check_due_ms, CHECK, 0, 0, 0))
        for at, gap in enumerate(self.gaps):
            newest = customer.session(gap)
            if newest is not None and newest[1] > customer.closed.get(gap, 0):
                timers.append((newest[1] + gap, SESSION_END, at, 0, 0))
        timers += [(wait.due_ms, WAIT, *place, 0) for place, wait in customer.waits.items()]
        timers += [
            (held.until_ms, RELEASE, journey, key, held.offer)
            for (journey, _, key), held in customer.held.items()
        ]
        timers += [(one.until_ms, END, 0, 0, 0) for one in customer.outstanding]
        return min(timers, default=None)

    def fire_due(self, key: Key, limit_ms: int) -> None:
        """Fire the timers due before the limit, one after the other."""
        customer = self.customers.get(key)
        while customer is not None:
            timer = self.next_timer(customer)
            if timer is None or timer[0] >= limit_ms:
                return
            self.fire(key, customer, timer)

    def fire(self, key: Key, customer: Customer, timer: Timer) -> None:
        due, kind, at, by, _ = timer
        if due - customer.clock_ms > self.settings.retention_ms:
            customer.forget()
            self.counters["customers_forgotten"] += 1
            return
        if kind == END:
            self.end_outstanding(key, customer, max(due, customer.clock_ms))
            return
        if due < customer.quarantined_until_ms:
            self.counters["timers_quarantined"] += 1
            self.drop(customer, timer)
            return
        if self.verify and kind == CHECK:
            self.check_between(key, customer, due)
        now = customer.clock_ms = max(due, customer.clock_ms)
        if kind == CHECK:
            self.fire_check(key, customer, due, now)
        elif kind == SESSION_END:
            self.fire_session(key, customer, self.gaps[at], now)
        elif kind == WAIT:
            self.fire_wait(key, customer, (at, by), now)
        else:
            self.release(key, customer, now)

    def drop(self, customer: Customer, timer: Timer) -> None:
        """A timer that came due in quarantine says nothing; a wait's later steps neither."""
        _, kind, at, by, offer = timer
        if kind == WAIT:
            del customer.waits[at, by]
        elif kind == RELEASE:
            del customer.held[at, self.journeys[at].offers[offer].slot, by]
        elif kind == SESSION_END:
            newest = customer.session(self.gaps[at])
            assert newest is not None
            customer.closed[self.gaps[at]] = newest[1]
        else:
            customer.check_due_ms = 0  # until something is looked at again

    def fire_wait(self, key: Key, customer: Customer, place: tuple[int, int], now: int) -> None:
        wait = customer.waits[place]
        self.counters["timers_fired"] += 1
        journey = self.journeys[place[0]]
        if journey.still is not None and not self.value(
            journey.still, key, customer, wait.subject, now, wait.step
        ):
            del customer.waits[place]
            return
        message = timer_hash(
            journey.id,
            place[1],
            wait.subject.time_ms,
            wait.step,
            self.settings.secret,
            wait.armed_by.message[0],
        )
        self.settle(
            key, customer, Trigger(wait.armed_by.event, message), [(journey, wait.subject)], now, wait.step
        )
        if wait.step < len(journey.waits_ms):
            customer.next_step(place, journey.waits_ms[wait.step])
        else:
            del customer.waits[place]

    def fire_session(self, key: Key, customer: Customer, gap: int, now: int) -> None:
        """One decision of all journeys that listen; the first of them gives the trigger its id."""
        newest = customer.session(gap)
        assert newest is not None
        start, end = newest
        customer.closed[gap] = end
        self.counters["timers_fired"] += 1
        subject = nothing_seen(end)
        listening = [journey for journey in self.journeys if journey.session_ms == gap]
        fired = [
            (journey, subject)
            for journey in listening
            if self.value(journey.when, key, customer, subject, now)
        ]
        message = timer_hash(listening[0].id, start, end, 1, self.settings.secret)
        self.settle(key, customer, Trigger("", message), fired, now)

    def fire_check(self, key: Key, customer: Customer, due: int, now: int) -> None:
        trigger = Trigger("", timer_hash("", 0, due, 0, self.settings.secret))
        changes = self.look(key, customer, trigger, now)
        if changes:
            self.decide(key, customer, trigger, [nothing_seen(due)], changes, now)

    # --- quiet hours --------------------------------------------------------------------------------------

    def is_quiet(self, offer: Offer, customer: Customer, now: int, *then: str) -> bool:
        """Whether it is quiet for this offer by the customer's clock, and one of `then` becomes of it."""
        zone = ZoneInfo(customer.zone[1] or self.settings.timezone)
        local = datetime.fromtimestamp(now // 1_000, UTC).astimezone(zone)
        return any(
            quiet.applies(local)
            for quiet in self.policies.quiet
            if quiet.then in then and offer.channel in quiet.channels and offer.purpose in quiet.purposes
        )

    def quiet_until(self, offer: Offer, customer: Customer, now: int, limit: int) -> int:
        """The first minute before the limit, or `now`, in which it is not quiet; else the limit."""
        while now < limit and self.is_quiet(offer, customer, now, "hold", "drop"):
            now += MINUTE_MS - now % MINUTE_MS
        return min(now, limit)

    def hold(self, customer: Customer, trigger: Trigger, winner: Considered, now: int) -> int:
        """Hold a winner until it is not quiet any more; the reason that it has then."""
        journey, offer, subject = winner.journey, winner.offer, winner.subject
        expires = now + journey.expires_ms
        until = self.quiet_until(offer, customer, now, expires)
        if until == expires:
            self.counters["held_expired"] += 1
            return EXPIRED
        by = {"": 0, "product": subject.product, "category": subject.category}[journey.by]
        place = (self.journeys.index(journey), offer.slot, by)
        if place in customer.held:
            self.counters["held_replaced"] += 1
        elif len(customer.held) >= self.settings.held_per_customer_max:
            self.counters["held_refused"] += 1
            return QUIET_HOURS
        self.counters["held"] += 1
        message = (signed(trigger.message[0]), signed(trigger.message[1]))
        which = journey.offers.index(offer)
        customer.held[place] = Held(subject, Trigger(trigger.event, message), which, winner.step, now, until)
        return HELD

    def release(self, key: Key, customer: Customer, now: int) -> None:
        """What is held and due is decided once more: its journeys' offers are candidates, only it can win."""
        released: list[tuple[Held, Journey, bool]] = []
        for place in sorted(customer.held, key=lambda at: (at[0], at[2], customer.held[at].offer)):
            held, journey = customer.held[place], self.journeys[place[0]]
            if held.until_ms > now:
                continue
            expires = held.first_ms + journey.expires_ms
            until = self.quiet_until(journey.offers[held.offer], customer, now, expires)
            if now < until < expires:  # its customer went to another time zone
                customer.held[place] = replace(held, until_ms=until)
                continue
            del customer.held[place]
            released.append((held, journey, until == expires))
        if released:
            self.counters["timers_fired"] += 1
            self.settle_released(key, customer, released, now)

    def settle_released(
        self, key: Key, customer: Customer, released: list[tuple[Held, Journey, bool]], now: int
    ) -> None:
        considered: list[Considered] = []
        for held, journey, is_expired in released:
            still = journey.still is None or self.value(
                journey.still, key, customer, held.subject, now, held.step
            )
            for n, candidate in enumerate(
                self.consider(journey, held.subject, key, customer, now, held.step)
            ):
                candidate.held = held
                if n != held.offer or not still:
                    candidate.reason, candidate.numbers = NOT_ELIGIBLE, None
                if n == held.offer and is_expired:
                    candidate.reason, candidate.numbers = EXPIRED, None
                    self.counters["held_expired"] += 1
                considered.append(candidate)
        message = timer_hash("", 0, now, 1, self.settings.secret)
        trigger = Trigger("", message)
        slots = {journey.offers[held.offer].slot: held for held, journey, _ in reversed(released)}
        considered = [c for c in considered if c.offer.slot in slots]
        best = self.best_of_slots(considered, self.rank_released)
        self.keep_one_slot(best, self.rank_released)
        order = sorted(best, key=lambda slot: self.rank_released(best[slot]), reverse=True)
        order += [slot for slot in self.slots if slot in slots and slot not in best]
        fired = tuple(journey.id for _, journey, _ in released)
        for slot in order:
            cause = slots[slot] if slot not in best else best[slot].held
            assert cause is not None
            of_slot = replace(trigger, event=cause.trigger.event)
            self.settle_slot(key, customer, of_slot, slot, considered, best.get(slot), fired, now)

    def rank_released(self, candidate: Considered) -> tuple[int, float, int]:
        return (candidate.journey.priority, *self.rank(candidate))

    # --- what may be taken back ---------------------------------------------------------------------------

    def remember(
        self,
        key: Key,
        customer: Customer,
        trigger: Trigger,
        slot: Slot,
        ranked: Sequence[Considered],
        now: int,
    ) -> None:
        """What goes out, or may, can be taken back; the newest of them."""
        secret = self.settings.secret
        low, high = decision_hash(key_hash(key, secret), trigger.message, "/".join(slot), secret)
        first = now if ranked[0].held is None else ranked[0].held.first_ms
        for candidate in ranked:
            journey, offer, subject = candidate.journey, candidate.offer, candidate.subject
            expires = first + journey.expires_ms
            until = min(now + offer.take_back_ms, expires)
            one = Outstanding(
                time_ms=now,
                decision=(signed(low), signed(high)),
                journey=self.journeys.index(journey),
                step=candidate.step,
                offer=journey.offers.index(offer),
                key={"": 0, "product": subject.product, "category": subject.category}[journey.by],
                until_ms=until,
                tells_end=until == expires and candidate is ranked[0] and not offer.campaign,
            )
            if offer.take_back_ms and one.is_of not in [each.is_of for each in customer.outstanding]:
                customer.outstanding.append(one)
        self.keep_newest(customer)

    def keep_newest(self, customer: Customer) -> None:
        newest = sorted(customer.outstanding, key=lambda one: one.age)
        self.counters["outstanding_dropped"] += max(
            0, len(newest) - self.settings.outstanding_per_customer_max
        )
        customer.outstanding = newest[-self.settings.outstanding_per_customer_max :]

    def take_back(
        self, key: Key, customer: Customer, why: Callable[[Outstanding], str], event: str, now: int
    ) -> None:
        """Take back what `why` gives a reason for."""
        secret = self.settings.secret
        for one in list(customer.outstanding):
            reason = why(one)
            if not reason:
                continue
            customer.outstanding.remove(one)
            if reason == "expired" and not one.tells_end:
                continue
            journey = self.journeys[one.journey]
            offer = journey.offers[one.offer]
            self.counters["withdrawn"] += 1
            action = action_hash(one.decision, journey.id, one.step, secret)
            self.withdrawn.append(
                Withdrawn(
                    customer=key,
                    decision=one.decision,
                    action=action,
                    slot=offer.slot,
                    journey=journey.id,
                    step=one.step,
                    offer=offer.id,
                    reason=reason,
                    time_ms=now,
                    event=event,
                )
            )

    def refused(self, customer: Customer, one: Outstanding) -> str:
        """Why consent takes it back; "": it does not."""
        consent = self.journeys[one.journey].offers[one.offer].consent
        reason = WON if consent is None else self.refusal(customer, consent)
        return {WON: "", NO_CONSENT: "consent", SUPPRESSED: "suppressed"}[reason]

    def reach_goals(self, key: Key, customer: Customer, event: Event, now: int) -> None:
        """A goal takes back what went out of its journeys, and calls off what is held."""
        items = seen_items(event, self.settings.secret)

        def is_reached(journey: Journey, by: int) -> bool:
            keys = {
                "product": {item.product for item in items},
                "category": {item.category for item in items},
                "": {0},
            }
            return event.type in journey.goal and by in keys[journey.by] and (by != 0 or not journey.by)

        for place in list(customer.held):
            if is_reached(self.journeys[place[0]], place[2]):
                del customer.held[place]
                self.counters["held_reached"] += 1

        def reason(one: Outstanding) -> str:
            return "goal" if is_reached(self.journeys[one.journey], one.key) else ""

        self.take_back(key, customer, reason, event.id, now)

    def end_outstanding(self, key: Key, customer: Customer, now: int) -> None:
        self.take_back(key, customer, lambda one: "expired" if one.until_ms <= now else "", "", now)

    # --- segments and stages ------------------------------------------------------------------------------

    def next_check(self, customer: Customer, now: int) -> int:
        return due(self.checks, self.history(customer, nothing_seen(now), now))

    def look(self, key: Key, customer: Customer, trigger: Trigger, now: int) -> set[str]:
        """Bring segments and stage up to date; the changes, as journeys name them.

        A segment holds those for whom its condition holds now. The stage changes at most once.
        """
        customer.look = False
        changes: set[str] = set()
        subject = nothing_seen(now)

        def changed(name: str, change: str) -> None:
            changes.add(f'{change}("{name}")')
            self.changes.append(Change(key, name, change, now, trigger.event))

        before, customer.segments = customer.segments, self.memberships(key, customer, now)
        for bit, segment in enumerate(self.policies.segments):
            if (before ^ customer.segments) >> bit & 1:
                changed(segment.id, "entered" if customer.segments >> bit & 1 else "left")
        for index, stage in enumerate(self.policies.stages):
            may = customer.stage in stage.comes_from and customer.stage != index
            if may and stage.when is not None and self.value(stage.when, key, customer, subject, now):
                customer.stage = index
                changed(stage.id, "stage")
                break
        customer.check_due_ms = self.next_check(customer, now)
        return changes

    def memberships(self, key: Key, customer: Customer, now: int) -> int:
        subject = nothing_seen(now)
        return sum(
            1 << bit
            for bit, segment in enumerate(self.policies.segments)
            if self.value(segment.when, key, customer, subject, now)
        )

    def check_between(self, key: Key, customer: Customer, before_ms: int) -> None:
        """Nothing changes by time alone between the customer's clock and the next look, but what changes steadily."""
        history = self.history(customer, nothing_seen(customer.clock_ms), customer.clock_ms)
        for moment in every_change(self.conditions, history, customer.clock_ms, before_ms):
            changed = (self.memberships(key, customer, moment) ^ customer.segments) & self.exact
            assert not changed, (key, moment, changed)

    # --- events -------------------------------------------------------------------------------------------

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
            customer.check_due_ms, customer.look = 0, True
        customer.take_over(
            past,
            lambda identifier: signed(message_hash(identifier, self.settings.secret)[0]),
            lambda journey: self.journeys[journey].restart,
            lambda join: self.policies.joins[join].up_to,
        )
        self.keep_newest(customer)

    def is_erased(self, key: Key, time_ms: int) -> bool:
        """Whether what happened then is not to be known of any more."""
        return time_ms <= self.erased.get(key, -1)

    def erase(self, key: Key, time_ms: int) -> None:
        """Nothing stays but the time; nor do the links to a known customer, whose anonymous rows are marked too."""
        if self.is_erased(key, time_ms):
            self.counters["erased_events"] += 1
            return
        self.counters["erasures"] += 1
        self.erased[key] = time_ms
        self.customers.pop(key, None)
        self.redirects.pop(key, None)
        for anonymous in [each for each, known in self.redirects.items() if known == key]:
            del self.redirects[anonymous]
            self.erased[anonymous] = max(time_ms, self.erased.get(anonymous, -1))

    def forget_if_idle(self, customer: Customer, now: int) -> None:
        """Behaviour starts again after a silence longer than the retention; consent and sends stay."""
        if customer.clock_ms and now - customer.clock_ms > self.settings.retention_ms:
            customer.forget()
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
        said = event.consent
        if said is not None:
            value = (event.time_ms, 2 if said.is_suppression else 0 if said.granted else 1)
            for purpose in PURPOSES if said.is_suppression else (said.purpose,):
                register = (said.channel, purpose)
                customer.consent[register] = max(value, customer.consent.get(register, value))

    def update(self, key: Key, customer: Customer, event: Event, trigger: Trigger, now: int) -> None:
        header, items = seen_header(event, self.settings.secret), seen_items(event, self.settings.secret)
        if event.timezone:
            customer.zone = max(customer.zone, (event.time_ms, event.timezone))
        for j, join in enumerate(self.policies.joins):
            if join.right == event.type:
                for seen in items if join.by else [header]:
                    self.match(key, customer, j, seen, trigger, now)
        for j, join in enumerate(self.policies.joins):
            if join.left == event.type:
                for seen in items if join.by else [header]:
                    if seen.time_ms > now - join.within_ms:
                        self.add_left(
                            customer, j, seen.product, Left(seen.time_ms, *map(signed, trigger.message))
                        )
        customer.headers.append(header)
        customer.items += items

    def match(self, key: Key, customer: Customer, j: int, right: Seen, trigger: Trigger, now: int) -> None:
        """Credit the newest left side of the join that is there, once; none that is out of its time by now."""
        join = self.policies.joins[j]
        lefts = customer.lefts.get((j, right.product if join.by else 0), [])
        after = max(right.time_ms, now) - join.within_ms
        found = [left for left in lefts if after < left.time_ms <= right.time_ms]
        if not found or (join.by and not right.product):
            return
        left = max(found)
        lefts.remove(left)
        customer.matches.append(Match(j, right.time_ms))
        self.credits.append(
            Credit(
                customer=key,
                join=join.id,
                event=trigger.event,
                right_ms=right.time_ms,
                left_ms=left.time_ms,
                left=(left.low, left.high),
                product=right.product_text,
            )
        )

    def add_left(self, customer: Customer, j: int, product: int, left: Left) -> None:
        """Remember a left side; the newest `up_to` stay."""
        join = self.policies.joins[j]
        if join.by and not product:
            return
        place = (j, product if join.by else 0)
        lefts = [*customer.lefts.get(place, []), left]
        customer.lefts[place] = sorted(lefts, reverse=True)[: join.up_to]

    def decide(
        self, key: Key, customer: Customer, trigger: Trigger, subjects: list[Seen], on: set[str], now: int
    ) -> None:
        """Journeys on any of `on`: those that wait are armed, the others fire."""
        fired: list[tuple[Journey, Seen]] = []
        for index, journey in enumerate(self.journeys):
            if not on.intersection(journey.on):
                continue
            if journey.waits_ms:
                self.arm(key, customer, trigger, index, subjects, now)
                continue
            subject = self.fires_on(journey, key, customer, subjects, now)
            if subject is not None:
                fired.append((journey, subject))
        self.settle(key, customer, trigger, fired, now)

    def arm(
        self, key: Key, customer: Customer, trigger: Trigger, index: int, subjects: list[Seen], now: int
    ) -> None:
        """Start the journey's waits: for every item by product or category, else for the first that holds."""
        journey = self.journeys[index]
        if not journey.by:
            subject = self.fires_on(journey, key, customer, subjects, now)
            if subject is not None:
                self.arm_one(customer, trigger, index, 0, subject)
            return
        for item in subjects[1:] or subjects:
            by = item.product if journey.by == "product" else item.category
            if by and self.value(journey.when, key, customer, item, now):
                self.arm_one(customer, trigger, index, by, item)

    def arm_one(self, customer: Customer, trigger: Trigger, index: int, by: int, subject: Seen) -> None:
        journey = self.journeys[index]
        pending = customer.waits.get((index, by))
        if pending is not None and (not journey.restart or subject.time_ms <= pending.subject.time_ms):
            return
        if pending is None and len(customer.waits) >= self.settings.waits_per_customer_max:
            self.counters["waits_refused"] += 1
            return
        self.counters["waits_armed"] += 1
        message = (signed(trigger.message[0]), signed(trigger.message[1]))
        armed_by = Trigger(trigger.event, message)
        customer.waits[index, by] = Wait(subject, armed_by, 1, subject.time_ms + journey.waits_ms[0])

    def settle(
        self,
        key: Key,
        customer: Customer,
        trigger: Trigger,
        fired: list[tuple[Journey, Seen]],
        now: int,
        step: int = 1,
    ) -> None:
        """The journeys that fired compete: a decision a slot."""
        considered: list[Considered] = []
        for journey, subject in fired:
            considered += self.consider(journey, subject, key, customer, now, step)
        best = self.best_of_slots(considered, self.rank)
        self.keep_one_slot(best, self.rank)
        names = tuple(journey.id for journey, _ in fired)
        for slot in self.slots:
            if any(c.offer.slot == slot for c in considered):
                self.settle_slot(key, customer, trigger, slot, considered, best.get(slot), names, now)

    def settle_slot(
        self,
        key: Key,
        customer: Customer,
        trigger: Trigger,
        slot: Slot,
        considered: Sequence[Considered],
        winner: Considered | None,
        fired: tuple[str, ...],
        now: int,
    ) -> None:
        """Grant the slot's winner, if nothing that was granted before forbids it; hold it if it is quiet."""
        if winner is not None:
            if self.limit_reached(winner.journey, winner.subject, customer, now):
                winner.reason = LIMIT
            elif self.cap_reached(winner.offer, customer, now):
                winner.reason = CAP
            elif self.is_quiet(winner.offer, customer, now, "hold"):
                winner.reason = self.hold(customer, trigger, winner, now)
            if winner.reason != WON:
                winner = None
        in_slot = [c for c in considered if c.offer.slot == slot]
        ranked = [] if winner is None else self.ranked(winner, in_slot, customer, now)
        decision = Decision(
            trigger=trigger.event,
            message=trigger.message,
            customer=key,
            slot=slot,
            now_ms=now,
            fired=fired,
            winner=None if winner is None else winner.result(),
            candidates=tuple(c.result() for c in in_slot),
        )
        self.decisions.append(decision)
        if ranked:
            self.grant(key, customer, trigger, slot, ranked, now)

    def ranked(
        self, winner: Considered, in_slot: Sequence[Considered], customer: Customer, now: int
    ) -> list[Considered]:
        """The winner and, as long as these have vouchers of campaigns, those that stand in for it: the next best.
        Nobody stands in for what was held."""
        ranked = [winner]
        behind = [] if winner.held is not None else [c for c in in_slot if c.reason == OUTSCORED]
        for candidate in sorted(behind, key=self.rank, reverse=True):
            if not ranked[-1].offer.campaign:
                break
            if winner.journey.alongside and not candidate.journey.alongside:
                candidate.reason = OTHER_SLOT
            elif self.limit_reached(candidate.journey, candidate.subject, customer, now):
                candidate.reason = LIMIT
            elif self.cap_reached(candidate.offer, customer, now):
                candidate.reason = CAP
            elif self.is_quiet(candidate.offer, customer, now, "hold"):
                candidate.reason = QUIET_HOURS
            else:
                ranked.append(candidate)
        return ranked

    def grant(
        self,
        key: Key,
        customer: Customer,
        trigger: Trigger,
        slot: Slot,
        ranked: Sequence[Considered],
        now: int,
    ) -> None:
        """One of these goes out, the first unless a ledger refuses it; what any of them charges is charged, once."""
        purposes = tuple(dict.fromkeys(c.offer.purpose for c in ranked))
        journeys = {c.journey.id: c for c in reversed(ranked)}
        for candidate in ranked:
            if journeys[candidate.journey.id] is not candidate:
                continue
            subject = candidate.subject
            customer.sent.append(
                Sent(
                    candidate.journey.id,
                    now,
                    subject.product,
                    subject.category,
                    slot[0],
                    purposes if candidate is ranked[0] else (),
                )
            )
            self.note_left(key, customer, trigger, slot, candidate, now)
        actions = [self.action(key, customer, trigger, slot, candidate, now) for candidate in ranked]
        if ranked[0].offer.campaign:
            campaigns = [candidate.offer.campaign for candidate in ranked]
            self.rankings.append(Ranking(len(self.decisions) - 1, len(self.actions), actions, campaigns))
        self.actions.append(actions[0])
        self.remember(key, customer, trigger, slot, ranked, now)

    def action(
        self, key: Key, customer: Customer, trigger: Trigger, slot: Slot, winner: Considered, now: int
    ) -> Action:
        assert winner.numbers is not None
        subject, stages = winner.subject, self.policies.stages
        return Action(
            trigger=trigger.event,
            message=trigger.message,
            customer=key,
            slot=slot,
            journey=winner.journey.id,
            offer=winner.offer.id,
            product=subject.product_text,
            category=subject.category_text,
            time_ms=now,
            numbers=winner.numbers,
            step=winner.step,
            segments=tuple(
                s.id for bit, s in enumerate(self.policies.segments) if customer.segments >> bit & 1
            ),
            stage=stages[customer.stage].id if stages else "",
            items=self.listed(winner.offer, customer, now),
            discount=winner.discount,
            timezone=customer.zone[1],
        )

    def note_left(
        self, key: Key, customer: Customer, trigger: Trigger, slot: Slot, winner: Considered, now: int
    ) -> None:
        """The action is the left side of joins."""
        journey, subject = winner.journey, winner.subject
        secret = self.settings.secret
        low_high: tuple[int, int] | None = None
        for j, join in enumerate(self.policies.joins):
            if join.left in ("action", f'action("{journey.id}")'):
                if low_high is None:
                    decision = decision_hash(key_hash(key, secret), trigger.message, "/".join(slot), secret)
                    low_high = action_hash(decision, journey.id, winner.step, secret)
                self.add_left(customer, j, subject.product, Left(now, *map(signed, low_high)))

    def listed(self, offer: Offer, customer: Customer, now: int) -> tuple[str, ...]:
        """The products an action lists: newest first, of one time the one with the greater hash first."""
        if offer.items is None:
            return ()
        code = NAMES.index(offer.items.recent) + 1
        stream = Stream(plan.BY_NONE, code, plan.DISTINCT, record.PRODUCT)
        history = self.history(customer, nothing_seen(now), now)
        latest = history.latest_of_each(stream, offer.items.window_ms, 0)
        newest = sorted(((time, product) for product, time in latest.items()), reverse=True)
        text_of = {seen.product: seen.product_text for seen in customer.items}
        return tuple(text_of[product] for _, product in newest[: offer.items.up_to])

    def history(self, customer: Customer, subject: Seen, now: int) -> CustomerHistory:
        """What an expression may ask, but for tables."""
        return CustomerHistory(
            customer.headers,
            customer.items,
            now,
            subject,
            matches=customer.matches,
            segments=customer.segments,
            stage=customer.stage,
            zone=customer.zone[1] or self.settings.timezone,
        )

    def value(
        self, node: Node, key: Key, customer: Customer, subject: Seen, now: int, step: int = 1
    ) -> float:
        def looked_up(index: int) -> int:
            return self.tables.word(index, subject.product_text, subject.store_text, key, now)

        history = replace(self.history(customer, subject, now), step=step, looked_up=looked_up)
        return interpret(node, history)

    def fires_on(
        self, journey: Journey, key: Key, customer: Customer, subjects: list[Seen], now: int
    ) -> Seen | None:
        """The first of the event and its lines on which the journey's condition holds."""
        for subject in subjects:
            if self.value(journey.when, key, customer, subject, now):
                return subject
        return None

    def consider(
        self, journey: Journey, subject: Seen, key: Key, customer: Customer, now: int, step: int
    ) -> list[Considered]:
        """The journey's offers with the reasons that need no other candidate, and the scores of the rest."""

        def value(node: Node) -> float:
            return self.value(node, key, customer, subject, now, step)

        def refused(*layer: Node | None) -> bool:
            return any(node is not None and not value(node) for node in layer)

        features = [value(node) for node in journey.features]
        considered = []
        for offer in journey.offers:
            candidate = Considered(journey, offer, subject, step)
            considered.append(candidate)
            if (offer.steps and step not in offer.steps) or refused(offer.when):
                candidate.reason = NOT_ELIGIBLE
            elif refused(journey.applicable, offer.applicable):
                candidate.reason = NOT_APPLICABLE
            elif refused(journey.suitable, offer.suitable):
                candidate.reason = NOT_SUITABLE
            elif offer.currency and currency_code(offer.currency) != subject.currency:
                candidate.reason = CURRENCY
            elif offer.consent is not None and (refusal := self.refusal(customer, offer.consent)):
                candidate.reason = refusal
            elif self.limit_reached(journey, subject, customer, now):
                candidate.reason = LIMIT
            elif self.cap_reached(offer, customer, now):
                candidate.reason = CAP
            elif self.is_quiet(offer, customer, now, "drop"):
                candidate.reason = QUIET_HOURS
            else:
                p = propensity(offer.bias, offer.weights, features)
                context = offer.context if isinstance(offer.context, float) else value(offer.context)
                score = ((p * context) * offer.value) * offer.lever
                candidate.numbers = Numbers(p, context, offer.value, offer.lever, score)
                if score < journey.score_min:
                    candidate.reason = BELOW_MINIMUM
                if offer.depth is not None:
                    asked = 0.0 if offer.depth.value is None else value(offer.depth.value)
                    candidate.discount = (offer.depth, depth(offer.depth, asked))
        return considered

    def refusal(self, customer: Customer, register: tuple[str, str]) -> int:
        """Why nothing may be sent on this channel for this purpose; 0: it may."""
        if register not in customer.consent:
            return WON if register[1] in self.policies.granted else NO_CONSENT
        return (WON, NO_CONSENT, SUPPRESSED)[customer.consent[register][1]]

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

    def cap_reached(self, offer: Offer, customer: Customer, now: int) -> bool:
        """Whether a cap that the offer is under is used up: by the sends to the customer of all journeys together."""

        def after(cap: Cap) -> int:
            if cap.window_ms > 0:
                return now - cap.window_ms
            return period_start_ms(now, customer.zone[1] or self.settings.timezone, cap.window_ms) - 1

        return any(
            sum(
                sent.channel in cap.channels
                and any(purpose in cap.purposes for purpose in sent.purposes)
                and sent.time_ms > after(cap)
                for sent in customer.sent
            )
            >= cap.times
            for cap in self.policies.caps
            if offer.channel in cap.channels and offer.purpose in cap.purposes
        )

    def rank(self, candidate: Considered) -> tuple[float, int]:
        """Greater is better: score, then the smaller tie rank."""
        assert candidate.numbers is not None
        return (candidate.numbers.score, -self.tie_rank[candidate.journey.id, candidate.offer.id])

    def best_of_slots(self, considered: Sequence[Considered], rank: Rank) -> dict[Slot, Considered]:
        best: dict[Slot, Considered] = {}
        for slot in self.slots:
            able = [c for c in considered if c.offer.slot == slot and c.reason == WON]
            if able:
                best[slot] = max(able, key=rank)
                for candidate in able:
                    if candidate is not best[slot]:
                        candidate.reason = OUTSCORED
        return best

    def keep_one_slot(self, best: dict[Slot, Considered], rank: Rank) -> None:
        """Of the winners whose journeys do not stand alongside, only the best stays."""
        alone = [c for c in best.values() if not c.journey.alongside]
        if alone:
            only = max(alone, key=rank)
            for candidate in alone:
                if candidate is not only:
                    candidate.reason = OTHER_SLOT
                    del best[candidate.offer.slot]
