"""What was read and checked, row by row, before it is laid out: journeys, offers, stages, joins, caps, quiet hours, and
what they need.

Law: rows refer to each other and to programs by index, and each index is of something that is there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from segue.limits import DAY_MS, MINUTE_MS
from segue.policy import ir, model
from segue.policy.compiled import PolicyInfo, VoucherInfo
from segue.policy.gather import Left, Names
from segue.policy.plan import CALENDAR_MS_MAX, Need, needs_of, session_stream, sessions_kept
from segue.vouchers.campaign import Terms
from segue_kernels import plan, record

DAY_MINUTES = DAY_MS // MINUTE_MS


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
    goals: tuple[int, ...]
    programs: list[int]

    @property
    def on_event(self) -> list[int]:
        """The programs that run when one of its events comes."""
        return [self.when] if self.kind == plan.ON_WAIT else self.programs


@dataclass(frozen=True, slots=True)
class DiscountRow:
    """A depth that is computed: plan.DISCOUNTS. min, max, step in units, of which `scale` are one of the program's."""

    program: int
    scale: int
    min: int
    max: int
    step: int


@dataclass(frozen=True, slots=True)
class OfferRow:
    journey: int
    offer: model.Offer
    when: int
    applicable: int
    suitable: int
    context: int
    context_constant: float
    consent: int
    contact: int
    voucher: VoucherInfo | None
    discount: DiscountRow | None
    campaign: int  # of `Rows.campaigns`, -1: none that is declared
    currency: int
    items: ItemsRow | None
    take_back_ms: int  # 0: never


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


@dataclass(frozen=True, slots=True)
class CampaignRow:
    """A campaign: what its vouchers promise, and the condition of all its offers."""

    campaign: model.Campaign
    policy: int
    path: str
    terms: Terms
    when: ir.Node


@dataclass(frozen=True, slots=True)
class QuietRow:
    """Quiet hours. contacts as of a cap; times of the local day in ms; days: bit 0 is set if they begin on Mondays."""

    quiet: model.QuietHours
    policy: int
    path: str
    contacts: int
    from_ms: int
    to_ms: int
    days: int

    @property
    def holds(self) -> bool:
        return self.quiet.then == "hold"

    @property
    def minutes(self) -> int:
        """Of a week in which clocks do not change, those in which it is quiet: bit 0 is Monday's first."""
        start, end = self.from_ms // MINUTE_MS, self.to_ms // MINUTE_MS
        lasts = (1 << (end - start) % DAY_MINUTES) - 1
        begins = [d * DAY_MINUTES + start for d in range(7) if self.days >> d & 1]
        line = reduce(or_, (lasts << begin for begin in begins))
        week = 7 * DAY_MINUTES
        return (line | line >> week) & (1 << week) - 1


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
    campaigns: list[CampaignRow] = field(default_factory=list)
    quiet: list[QuietRow] = field(default_factory=list)
    models: list[str] = field(default_factory=list)  # SHA-256 of the models' files

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
