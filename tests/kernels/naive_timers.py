"""A customer with timers, written plainly from the rules: lists of all that happened, nothing is updated in place.

The plan it knows is that of `world()`: what waits, sessions, segments and stages may do, each in a small case.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from segue_kernels import plan, vm
from tests.kernels.drivers import DAY_MS, key_of, stream, tables
from tests.reference.hashing import signed, siphash128

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
A, B, C, IDENTIFY = 1, 2, 3, 4
WINDOW_MS = 40 * MINUTE_MS  # of segment 0: two A within it
GAP_MS = 10 * MINUTE_MS
RETENTION_MS = 2 * DAY_MS
LATENESS_MS = 5 * MINUTE_MS
QUARANTINE_MS = HOUR_MS
RATE_MAX = 5
WAITS_MAX = 64

# journeys: (kind, delays, by, restarts)
STEPS, KEYED, SESSION, ENTERED, PLAIN, LEFT = range(6)
DELAYS = {
    STEPS: (3 * MINUTE_MS, 30 * MINUTE_MS, 5 * HOUR_MS),
    KEYED: (20 * MINUTE_MS,),
    LEFT: (15 * MINUTE_MS, 16 * MINUTE_MS),
}
RESTARTS = {STEPS: False, KEYED: True, LEFT: True}
STREAM_A, STREAM_B, STREAM_SESSIONS = range(3)
TRUE, HAS_NO_B, TWO_A, ONE_B = range(4)  # programs
ENTERED_CODE, LEFT_CODE, STAGE_CODE = 0, 1, 2  # changes; STAGE_CODE + t: stage t entered
STAGES = 2


def world() -> SimpleNamespace:
    """The plan: six journeys with one offer each, a slot of its own each."""
    streams = [
        stream(plan.COUNT, type=A, window_ms=WINDOW_MS),
        stream(plan.COUNT, type=B, window_ms=0),
        stream(plan.SESSIONS, type=plan.ANY_TYPE, k=8, window_ms=0, width_ms=GAP_MS),
    ]
    made = tables(streams)
    offsets = made.streams[:, plan.STREAM_OFFSET].tolist()
    listen: list[list[int]] = [[] for _ in range(plan.TYPES)]
    listen[A], listen[B] = [STREAM_A, STREAM_SESSIONS], [STREAM_B, STREAM_SESSIONS]
    journeys = np.zeros((6, plan.JOURNEY_WORDS), np.int64)
    waits: list[int] = []
    for j in range(6):
        journeys[j, plan.JOURNEY_OFFERS_START], journeys[j, plan.JOURNEY_OFFERS_END] = j, j + 1
        journeys[j, plan.JOURNEY_ALONGSIDE] = 1
        journeys[j, plan.JOURNEY_STILL] = -1
        if j in DELAYS:
            journeys[j, plan.JOURNEY_KIND] = plan.ON_WAIT
            journeys[j, plan.JOURNEY_RESTART] = RESTARTS[j]
            journeys[j, plan.JOURNEY_WAITS_START] = len(waits)
            waits += DELAYS[j]
            journeys[j, plan.JOURNEY_WAITS_END] = len(waits)
    journeys[SESSION, plan.JOURNEY_KIND] = plan.ON_SESSION
    journeys[STEPS, plan.JOURNEY_STILL] = HAS_NO_B
    journeys[KEYED, plan.JOURNEY_BY] = plan.BY_PRODUCT
    triggers: list[list[int]] = [[] for _ in range(plan.TYPES)]
    triggers[A], triggers[B] = [STEPS, KEYED], [PLAIN]
    offers = np.zeros((6, plan.OFFER_WORDS), np.int64)
    for j in range(6):
        offers[j, [plan.OFFER_JOURNEY, plan.OFFER_SLOT, plan.OFFER_TIE_RANK]] = j
        offers[j, [plan.OFFER_WHEN, plan.OFFER_APPLICABLE, plan.OFFER_SUITABLE]] = -1
        offers[j, [plan.OFFER_CONSENT, plan.OFFER_CONTEXT, plan.OFFER_ITEMS_STREAM]] = -1
        offers[j, plan.OFFER_DISCOUNT] = -1
    programs = [
        [(vm.NUMBER, 0, 0, 0, 0, 0)],
        [(vm.AT_LEAST, 0, offsets[STREAM_B], 1, HOUR_MS, 0), (vm.NOT, 0, 0, 0, 0, 0)],
        [(vm.AT_LEAST, 0, offsets[STREAM_A], 2, WINDOW_MS, 0)],
        [(vm.AT_LEAST, 0, offsets[STREAM_B], 1, 0, 0)],
    ]
    watch = np.zeros(plan.TYPES, np.uint8)
    watch[[A, B]] = 1
    given: dict[str, Any] = {
        "listen_start": np.cumsum([0, *map(len, listen)]).astype(np.int64),
        "listen": np.concatenate(listen).astype(np.int64),
        "trigger_start": np.cumsum([0, *map(len, triggers)]).astype(np.int64),
        "trigger": np.concatenate(triggers).astype(np.int64),
        "journeys": journeys,
        "journeys_f": np.zeros((6, plan.JOURNEY_F_WORDS)),
        "waits": np.array(waits, np.int64),
        "offers": offers,
        "offers_f": np.ones((6, plan.OFFER_F_WORDS)),
        "slot_hash": np.arange(6, dtype=np.int64),
        "journey_hash": 100 + np.arange(6, dtype=np.int64),
        "program_start": np.cumsum([0, *map(len, programs)]).astype(np.int64),
        "code": np.array([operation for program in programs for operation in program], np.int64),
        "constants": np.array([1.0]),
        "program_address": np.zeros(len(programs), np.int64),
        "watch": watch,
        "segments": np.array([[TWO_A]], np.int64),
        "stages": np.array([[0, -1], [1, ONE_B]], np.int64),
        "checks": np.array([[plan.CHECK_LEAVES_LAST, STREAM_A, 2, WINDOW_MS, 0]], np.int64),
        "change_start": np.array([0, 1, 2, 2, 2], np.int64),
        "change": np.array([ENTERED, LEFT], np.int64),
        "session_ends": np.array([[STREAM_SESSIONS, GAP_MS]], np.int64),
        "session_start": np.array([0, 1], np.int64),
        "session": np.array([SESSION], np.int64),
    }
    return tables(streams, **given)


@dataclass(frozen=True, slots=True)
class Seen:
    """An event of a customer: its items are (product, key of product) of its lines, or its own product."""

    type: int
    time: int
    clock: int
    message: int
    products: tuple[int, ...]  # one: of the event; more: of its lines


@dataclass(slots=True)
class Wait:
    due: int
    step: int
    time: int
    message: int
    product: int


@dataclass(frozen=True, slots=True)
class Said:
    """A decision: what fired, when, on what."""

    now: int
    message: int
    time: int
    step: int
    fired: tuple[int, ...]
    items: tuple[int, ...]  # product on which each fired


@dataclass
class Customer:
    """One customer; `said` and `changes` (code, now) are what came out."""

    number: int
    secret: tuple[int, int]
    clock: int = 0
    times: dict[int, list[int]] = field(default_factory=lambda: {A: [], B: []})
    ids: list[tuple[int, int]] = field(default_factory=list)  # (message, clock on arrival)
    rate: tuple[int, int] = (0, 0)
    quarantine: int = 0
    waits: dict[tuple[int, int], Wait] = field(default_factory=dict)
    closed: int = 0
    segment: bool = False
    stage: int = 0
    check: int = 0
    looks_next: bool = False
    events: int = 0
    fired: int = 0
    said: list[Said] = field(default_factory=list)
    changes: list[tuple[int, int]] = field(default_factory=list)

    def take(self, seen: Seen) -> None:
        """One row of the input."""
        self.fire(seen.clock - LATENESS_MS)
        self.take_after_history(seen)

    def take_after_history(self, seen: Seen) -> None:
        now = max(self.clock, seen.time, seen.clock - LATENESS_MS)
        if self.quarantine > now:
            return
        if any(message == seen.message and at > now - DAY_MS for message, at in self.ids[-64:]):
            return
        self.fire(now)
        if self.clock and now - self.clock > RETENTION_MS:
            self.forget()
        self.clock = now
        self.ids.append((seen.message, now))
        self.events += 1
        minute = now // MINUTE_MS
        self.rate = (minute, self.rate[1] + 1 if self.rate[0] == minute else 1)
        if self.rate[1] > RATE_MAX:
            self.quarantine = now + QUARANTINE_MS
        if seen.type in self.times:
            self.times[seen.type].append(seen.time)
        triggered = {A: [STEPS, KEYED], B: [PLAIN]}.get(seen.type, [])
        if seen.type in (A, B) or self.looks_next or (self.check and self.check <= now):
            triggered = sorted({*triggered, *self.look(now)})
        items = seen.products if len(seen.products) == 1 else (0, *seen.products)
        self.decide(triggered, seen.message, seen.time, 1, items)
        self.fire(now)

    def fire(self, limit: int) -> None:
        """Fire timers due before the limit, in their order."""
        while True:
            timers: list[tuple[int, int, int, int]] = [
                (wait.due, 2, journey, key) for (journey, key), wait in self.waits.items()
            ]
            if self.check:
                timers.append((self.check, 0, 0, 0))
            session = self.session()
            if session and session[1] > self.closed:
                timers.append((session[1] + GAP_MS, 1, 0, 0))
            if not timers or min(timers)[0] >= limit:
                return
            due, kind, journey, key = min(timers)
            if self.clock and due - self.clock > RETENTION_MS:
                self.forget()
                continue
            dropped = self.quarantine > due
            if kind == 0:
                self.check = 0
            elif kind == 1:
                assert session
                self.closed = session[1]
            elif dropped:
                del self.waits[journey, key]
            if dropped:
                continue
            self.clock = now = max(self.clock, due)
            self.fired += kind > 0
            if kind == 0:
                self.decide(self.look(now), self.trigger(0, 0, due, 0), due, 1, (0,))
            elif kind == 1:
                assert session
                message = self.trigger(100 + SESSION, session[0], session[1], 1)
                self.decide([SESSION], message, session[1], 1, (0,))
            else:
                wait = self.waits[journey, key]
                message = self.trigger(100 + journey, key, wait.time, wait.step, wait.message)
                holds = journey != STEPS or not any(time > now - HOUR_MS for time in self.times[B])
                if holds:
                    said = Said(now, message, wait.time, wait.step, (journey,), (wait.product,))
                    self.said.append(said)
                if holds and wait.step < len(DELAYS[journey]):
                    wait.due = wait.time + DELAYS[journey][wait.step]
                    wait.step += 1
                    if wait.due < now:
                        limit = max(limit, wait.due + 1)
                else:
                    del self.waits[journey, key]

    def decide(
        self, triggered: list[int], message: int, time: int, step: int, items: tuple[int, ...]
    ) -> None:
        fired = []
        for journey in triggered:
            if journey == KEYED:
                for product in items[1:] if len(items) > 1 else items:
                    if product:
                        self.arm(journey, product, message, time, product)
            elif journey in DELAYS:
                self.arm(journey, 0, message, time, items[0])
            else:
                fired.append(journey)
        if fired:
            self.said.append(Said(self.clock, message, time, step, tuple(fired), (items[0],) * len(fired)))

    def arm(self, journey: int, key: int, message: int, time: int, product: int) -> None:
        pending = self.waits.get((journey, key))
        if pending and (not RESTARTS[journey] or time <= pending.time):
            return
        if pending is None and len(self.waits) >= WAITS_MAX:
            return
        self.waits[journey, key] = Wait(time + DELAYS[journey][0], 1, time, message, product)

    def look(self, now: int) -> list[int]:
        """Segments and stage anew; the journeys that the changes trigger."""
        self.looks_next = False
        times = sorted((time for time in self.times[A] if time > now - WINDOW_MS), reverse=True)
        triggered = []
        inside = len(times) >= 2
        if inside != self.segment:
            self.segment = inside
            self.changes.append((ENTERED_CODE if inside else LEFT_CODE, now))
            triggered.append(ENTERED if inside else LEFT)
        if self.stage == 0 and self.times[B]:
            self.stage = 1
            self.changes.append((STAGE_CODE + 1, now))
        self.check = times[1] + WINDOW_MS if inside else 0
        return triggered

    def session(self) -> tuple[int, int] | None:
        """Start and end of the newest session."""
        times = sorted(self.times[A] + self.times[B], reverse=True)
        if not times:
            return None
        start = times[0]
        for time in times:
            if start - time > GAP_MS:
                break
            start = time
        return start, times[0]

    def forget(self) -> None:
        self.times = {A: [], B: []}
        self.ids, self.rate, self.waits = [], (0, 0), {}
        self.closed = self.check = self.stage = self.events = 0
        self.segment = self.looks_next = False

    def join(self, other: Customer, time: int) -> None:
        """Everything of an anonymous customer, before the event at `time` that says who he is."""
        now = max(self.clock, other.clock, time)
        if self.clock and now - self.clock > RETENTION_MS:
            self.forget()
        self.quarantine = max(self.quarantine, other.quarantine)
        behaves = now - other.clock <= RETENTION_MS
        self.clock = max(self.clock, other.clock)
        if not behaves:
            return
        for kind in (A, B):
            self.times[kind] += other.times[kind]
        ids = dict(self.ids)
        for message, at in other.ids:
            ids[message] = max(at, ids.get(message, 0))
        self.ids = sorted(ids.items(), key=lambda pair: (pair[1], pair[0]))
        self.rate = (
            (self.rate[0], self.rate[1] + other.rate[1])
            if self.rate[0] == other.rate[0]
            else max(self.rate, other.rate)
        )
        self.closed = max(self.closed, other.closed)
        self.segment = self.segment or other.segment
        self.stage = max(self.stage, other.stage)
        self.check, self.looks_next = 0, True
        for (journey, key), wait in sorted(other.waits.items(), key=lambda pair: (pair[1].due, pair[0])):
            own = self.waits.get((journey, key))
            if own:
                sides = [(own.time, own.message, own), (wait.time, wait.message, wait)]
                if sides[0][:2] != sides[1][:2]:
                    best = max if RESTARTS[journey] else min
                    self.waits[journey, key] = best(sides, key=lambda side: side[:2])[2]
            elif len(self.waits) < WAITS_MAX:
                self.waits[journey, key] = wait

    def trigger(self, hash_: int, key: int, time: int, step: int, armed_by: int = 0) -> int:
        """The low word of the id of a timer that fires."""
        words = np.array([hash_, key, time, step, armed_by], np.int64).astype("<i8").tobytes()
        return signed(siphash128(words, *self.secret)[0])

    @property
    def identity(self) -> tuple[int, int]:
        return key_of(self.number)
