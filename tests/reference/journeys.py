"""What the reference runs: policies as plain objects, expressions as trees of segue.policy.ir."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from segue.policy.ir import Node
from segue.vouchers.campaign import Terms


@dataclass(frozen=True)
class Limit:
    """At most `times` sends of the journey in (now - within_ms, now]; `by`: "", "product" or "category"."""

    times: int
    within_ms: int
    by: str = ""


@dataclass(frozen=True)
class Items:
    """Products an action lists: those of the newest `recent` events in a window (as of an atom), each once."""

    recent: str
    window_ms: int
    up_to: int


@dataclass(frozen=True)
class Depth:
    """What a voucher takes off: the least if there is no `value`, else that within bounds, in whole steps above the
    least; in percent or major units, of which the smallest part is 1/scale."""

    value: Node | None
    is_percent: bool
    scale: int
    least: str
    most: str
    step: str | None


@dataclass(frozen=True)
class Offer:
    """One offer. `consent` is the (channel, purpose) it needs; `currency` code 0 = any event's.

    steps   of the journey at which it stands; () = all
    """

    id: str
    channel: str
    placement: str = "default"
    when: Node | None = None
    applicable: Node | None = None
    suitable: Node | None = None
    value: float = 1.0
    lever: float = 1.0
    context: Node | float = 1.0
    bias: float = 0.0
    weights: tuple[float, ...] = ()  # in the order of the journey's features
    consent: tuple[str, str] | None = None
    currency: str = ""
    steps: tuple[int, ...] = ()
    items: Items | None = None
    purpose: str = "marketing"
    campaign: str = ""  # of its voucher, if the policies declare it
    depth: Depth | None = None
    take_back_ms: int = 0  # for so long its action may be taken back; 0 = never

    @property
    def slot(self) -> tuple[str, str]:
        return (self.channel, self.placement)


@dataclass(frozen=True)
class Journey:
    """One journey: `on` are event type names and changes; the offers' weights follow `features`.

    on           'entered("x")', 'left("x")' and 'stage("x")' are changes
    waits_ms     delays after the event that arms it, ascending; () = decided at once
    by           "", "product" or "category": what a wait is armed for
    restart      whether a further event starts the wait anew
    still        asked when a wait is over; None = always
    applicable, suitable   asked for each of its offers, as the offers' own; None = always
    session_ms   gap of the session whose end it is decided on; 0 = none
    expires_ms   for so long its actions hold good
    goal         events that call off what is not sent yet; with `by` of the same product or category
    """

    id: str
    on: tuple[str, ...]
    when: Node
    offers: tuple[Offer, ...]
    priority: int = 50
    alongside: bool = False
    score_min: float = 0.0
    limits: tuple[Limit, ...] = ()
    features: tuple[Node, ...] = ()
    waits_ms: tuple[int, ...] = ()
    by: str = ""
    restart: bool = False
    still: Node | None = None
    session_ms: int = 0
    applicable: Node | None = None
    suitable: Node | None = None
    expires_ms: int = 86_400_000
    goal: tuple[str, ...] = ()


@dataclass(frozen=True)
class Segment:
    id: str
    when: Node


@dataclass(frozen=True)
class Stage:
    """`comes_from`: indexes of the stages it may follow; nobody enters one without `when`."""

    id: str
    when: Node | None
    comes_from: tuple[int, ...] = ()


@dataclass(frozen=True)
class Join:
    """left: an event, "action" (any), or 'action("journey")'; by: "" or "product"."""

    id: str
    left: str
    right: str
    within_ms: int
    by: str = ""
    up_to: int = 8


@dataclass(frozen=True)
class Cap:
    """At most `times` sends of all journeys on these channels for these purposes in a window as of an atom: sliding, or
    the customer's hour, day, week or month."""

    id: str
    times: int
    window_ms: int
    channels: tuple[str, ...]
    purposes: tuple[str, ...]


@dataclass(frozen=True)
class Quiet:
    """Nothing is sent on these channels for these purposes while the customer's clock shows a time (minutes of the day)
    from `start` to before `end`, of the next day if that is not later; it begins on `days` (0 = Monday)."""

    id: str
    start: int
    end: int
    days: tuple[int, ...]
    then: str
    channels: tuple[str, ...]
    purposes: tuple[str, ...]

    def applies(self, local: datetime) -> bool:
        """Whether it is quiet when the clock shows that."""
        minute = local.hour * 60 + local.minute
        today = local.weekday() in self.days
        if self.start < self.end:
            return today and self.start <= minute < self.end
        return (today and minute >= self.start) or (
            (local.weekday() - 1) % 7 in self.days and minute < self.end
        )


@dataclass(frozen=True)
class Field:
    """A field of a table that expressions read: lookup i is the i-th of these."""

    table: str
    name: str
    text: bool
    unknown: str | float


@dataclass(frozen=True)
class Policies:
    """All policies of a deployment; the order is that of the indexes. `granted`: the purposes for which nobody who has
    said nothing is left out."""

    journeys: Sequence[Journey]
    segments: Sequence[Segment] = ()
    stages: Sequence[Stage] = ()
    joins: Sequence[Join] = ()
    fields: Sequence[Field] = ()
    caps: Sequence[Cap] = ()
    granted: Sequence[str] = ()
    campaigns: Sequence[Terms] = ()
    quiet: Sequence[Quiet] = ()
