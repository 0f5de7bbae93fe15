"""What the reference runs: journeys and offers as plain objects, expressions as trees of segue.policy.ir."""

from __future__ import annotations

from dataclasses import dataclass

from segue.policy.ir import Node


@dataclass(frozen=True)
class Limit:
    """At most `times` sends of the journey in (now - within_ms, now]; `by`: "", "product" or "category"."""

    times: int
    within_ms: int
    by: str = ""


@dataclass(frozen=True)
class Offer:
    """One offer. `consent` is the (channel, purpose) it needs; `currency` code 0 = any event's."""

    id: str
    channel: str
    placement: str = "default"
    when: Node | None = None
    value: float = 1.0
    lever: float = 1.0
    context: Node | float = 1.0
    bias: float = 0.0
    weights: tuple[float, ...] = ()  # in the order of the journey's features
    consent: tuple[str, str] | None = None
    currency: str = ""

    @property
    def slot(self) -> tuple[str, str]:
        return (self.channel, self.placement)


@dataclass(frozen=True)
class Journey:
    """One journey: `on` are event type names; the offers' weights follow `features`."""

    id: str
    on: tuple[str, ...]
    when: Node
    offers: tuple[Offer, ...]
    priority: int = 50
    alongside: bool = False
    score_min: float = 0.0
    limits: tuple[Limit, ...] = ()
    features: tuple[Node, ...] = ()
