"""What was read and checked, row by row, before it is laid out: journeys, offers, stages, joins, caps, what they need.

Law: rows refer to each other and to programs by index, and each index is of something that is there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from segue.policy import ir, model
from segue.policy.compiled import PolicyInfo, VoucherInfo
from segue.policy.gather import Left, Names
from segue.policy.plan import CALENDAR_MS_MAX, Need, needs_of, session_stream, sessions_kept
from segue_kernels import plan, record


@dataclass(frozen=True, slots=True)
class ItemsRow:
    """The list of an offer: products of the newest events of type `code`."""

    code: int
    window: int
    up_to: int

    @property
    def stream(self) -> ir.Stream:
        return ir.Stream(plan.BY_NONE, self.code, plan.DISTINCT, record.PRODUCT)


@dataclass(slots=True)
class JourneyRow:
    """A journey. `programs`: what may run when it fires; its `when` is among them unless it waits."""

    policy: int
    journey: model.Journey
    kind: int
    types: tuple[int, ...]
    changes: tuple[int, ...]
    by: int
    waits_ms: tuple[int, ...]
    gap_ms: int
    when: int
    still: int
    features: list[int]
    limits: list[tuple[ir.Stream, int, int]]  # stream, times, window_ms
    expires_after_ms: int
    programs: list[int]

    @property
    def on_event(self) -> list[int]:
        """The programs that run when one of its events comes."""
        return [self.when] if self.kind == plan.ON_WAIT else self.programs


@dataclass(frozen=True, slots=True)
class OfferRow:
    journey: int
    offer: model.Offer
    when: int
    context: int
    context_constant: float
    consent: int
    contact: int
    voucher: VoucherInfo | None
    currency: int
    items: ItemsRow | None


@dataclass(frozen=True, slots=True)
class StageRow:
    """`from_stages`: bit f is set if stage f may lead here. `when` is -1 for a first stage nobody returns to."""

    from_stages: int
    when: int


@dataclass(frozen=True, slots=True)
class JoinRow:
    join: model.Join
    left: Left
    stream: ir.Stream
    right: int
    within_ms: int


@dataclass(frozen=True, slots=True)
class CapRow:
    """A cap. contacts: bit channel * 2 + purpose is set if such sends count; window as plan.CAP_WINDOW."""

    cap: model.Cap
    policy: int
    path: str
    contacts: int
    window: int

    @property
    def stream(self) -> ir.Stream:
        """The sends that count: caps with the same contacts share it."""
        return ir.Stream(plan.BY_NONE, plan.CAP_TYPE, plan.COUNT, self.contacts)

    @property
    def need(self) -> Need:
        # of a calendar's window how long it may last: when it begins is asked only where something may be sent
        return Need(self.stream, self.cap.times, CALENDAR_MS_MAX.get(self.window, self.window))


@dataclass(slots=True)
class Rows:
    """All that was read. `programs`: each tree once, with its index; `segments` are programs."""

    names: Names = field(default_factory=Names)
    policies: list[PolicyInfo] = field(default_factory=list)
    programs: dict[ir.Node, int] = field(default_factory=dict)
    journeys: list[JourneyRow] = field(default_factory=list)
    offers: list[OfferRow] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    stages: list[StageRow] = field(default_factory=list)
    joins: list[JoinRow] = field(default_factory=list)
    caps: list[CapRow] = field(default_factory=list)

    def gaps_ms(self) -> list[int]:
        """Of the sessions whose end is a trigger, ascending."""
        return sorted({row.gap_ms for row in self.journeys if row.kind == plan.ON_SESSION})

    def needs(self) -> list[Need]:
        """What everything together asks of streams."""
        needs = [need for program in self.programs for need in needs_of(program)]
        for journey in self.journeys:
            needs += [Need(stream, times, window_ms) for stream, times, window_ms in journey.limits]
            if journey.kind == plan.ON_SESSION:
                needs.append(Need(session_stream(journey.gap_ms), sessions_kept(journey.gap_ms), 0))
        for offer in self.offers:
            if offer.items is not None:
                items = offer.items
                needs.append(Need(items.stream, items.up_to, items.window, plan.STREAM_FLAG_NAMES))
        needs += [Need(row.stream, row.join.up_to, row.within_ms) for row in self.joins]
        needs += [row.need for row in self.caps]
        return needs
