"""Everything the reference knows of one customer: complete lists, and the timers that are pending."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.reference.history import ACTIVITY_TYPES, Match, Seen, session_spans


@dataclass(frozen=True)
class Trigger:
    """What a decision is about: an event, or a timer.

    event     id of the event; of a wait: of the event that armed it; "" = none
    message   (low, high) of the event's or the timer's id
    """

    event: str
    message: tuple[int, int]


@dataclass(frozen=True)
class Sent:
    """A send that counts for the limits of its journey and for the caps on its channel and purposes: one, those of all
    that may go out in its place, or none where it is charged to the limits alone."""

    journey: str
    time_ms: int
    product: int
    category: int
    channel: str
    purposes: tuple[str, ...]


@dataclass(frozen=True)
class Wait:
    """A pending wait: what armed it, which step comes next, and when."""

    subject: Seen
    armed_by: Trigger
    step: int
    due_ms: int

    @property
    def rank(self) -> tuple[int, int]:
        """Greater = armed later."""
        return self.subject.time_ms, self.armed_by.message[0]


@dataclass(frozen=True)
class Held:
    """An action that quiet hours hold: its place is (journey, slot, key). `offer` is its place in the journey."""

    subject: Seen
    trigger: Trigger
    offer: int
    step: int
    first_ms: int
    until_ms: int


@dataclass(frozen=True)
class Outstanding:
    """An action that went out and may be taken back until `until_ms`; `tells_end`: and is, then.

    decision  (low, high) of its decision's id; `offer` is its place in the journey
    """

    time_ms: int
    decision: tuple[int, int]
    journey: int
    step: int
    offer: int
    key: int
    until_ms: int
    tells_end: bool

    @property
    def age(self) -> tuple[int, int, int, int]:
        """Less = older."""
        return self.time_ms, self.decision[0], self.journey, self.step

    @property
    def is_of(self) -> tuple[tuple[int, int], int, int]:
        return self.decision, self.journey, self.step


@dataclass(frozen=True, order=True)
class Left:
    """An unmatched left side of a join: an event or an action by (time, low and high word of its id)."""

    time_ms: int
    low: int
    high: int


@dataclass
class Customer:
    """Everything about one customer, complete."""

    clock_ms: int = 0
    headers: list[Seen] = field(default_factory=list)
    items: list[Seen] = field(default_factory=list)
    matches: list[Match] = field(default_factory=list)
    lefts: dict[tuple[int, int], list[Left]] = field(default_factory=dict)  # by (join, key), newest first
    sent: list[Sent] = field(default_factory=list)
    # by (channel, purpose): time of what was said last, and 0 if it was a grant, 1 a withdrawal, 2 a suppression
    consent: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    arrivals: list[tuple[int, str]] = field(default_factory=list)  # (customer's clock on arrival, event id)
    minute: tuple[int, int] = (0, 0)  # UTC minute, events in it
    quarantined_until_ms: int = 0
    zone: tuple[int, str] = (0, "")  # time of the event that told it, name
    waits: dict[tuple[int, int], Wait] = field(default_factory=dict)  # by (journey, key)
    held: dict[tuple[int, tuple[str, str], int], Held] = field(
        default_factory=dict
    )  # by (journey, slot, key)
    outstanding: list[Outstanding] = field(default_factory=list)  # the oldest first
    closed: dict[int, int] = field(default_factory=dict)  # by gap: end of the session whose end was a trigger
    segments: int = 0  # a bit each
    stage: int = 0
    check_due_ms: int = 0  # when segments and stages are looked at next by time alone; 0 = never
    look: bool = False  # whether they are looked at with the next event, whatever it is

    def forget(self) -> None:
        """Drop behaviour and all that hangs on it; consent and sends stay."""
        self.headers.clear()
        self.items.clear()
        self.matches.clear()
        self.lefts.clear()
        self.waits.clear()
        self.held.clear()
        self.outstanding.clear()
        self.closed.clear()
        self.zone = (0, "")
        self.segments = self.stage = self.check_due_ms = 0
        self.look = False

    def session(self, gap_ms: int) -> tuple[int, int] | None:
        """(start, end) of the newest session."""
        spans = session_spans((seen.time_ms for seen in self.headers if seen.type in ACTIVITY_TYPES), gap_ms)
        return spans[-1] if spans else None

    def take_over(
        self,
        other: Customer,
        rank: Callable[[str], int],
        restarts: Callable[[int], bool],
        up_to: Callable[[int], int],
    ) -> None:
        """Add another customer's past to this one; the order in which several are added does not matter.

        Event ids of one time are ordered by `rank`, which tells the last ones where there are more than are kept.
        restarts(journey) says which of two waits stays, up_to(join) how many left sides do.
        """
        self.clock_ms = max(self.clock_ms, other.clock_ms)
        self.headers += other.headers
        self.items += other.items
        self.matches += other.matches
        for place, lefts in other.lefts.items():
            mine = self.lefts.get(place, [])
            self.lefts[place] = sorted(mine + lefts, reverse=True)[: up_to(place[0])]
        self.sent += other.sent
        for register, value in other.consent.items():
            self.consent[register] = max(value, self.consent.get(register, value))
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
        self.zone = max(self.zone, other.zone)
        for place, wait in other.waits.items():
            both = [wait, self.waits.get(place, wait)]
            chosen = max if restarts(place[0]) else min
            self.waits[place] = chosen(both, key=lambda each: each.rank)
        for at, held in other.held.items():
            both_held = [held, self.held.get(at, held)]
            self.held[at] = max(both_held, key=lambda each: (each.first_ms, each.trigger.message[0]))
        self.outstanding = sorted(self.outstanding + other.outstanding, key=lambda each: each.age)
        for gap, end in other.closed.items():
            self.closed[gap] = max(end, self.closed.get(gap, 0))
        self.segments |= other.segments
        self.stage = max(self.stage, other.stage)

    def next_step(self, place: tuple[int, int], delay_ms: int) -> None:
        """The wait goes on to its next step."""
        wait = self.waits[place]
        self.waits[place] = replace(wait, step=wait.step + 1, due_ms=wait.subject.time_ms + delay_ms)
