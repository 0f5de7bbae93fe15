"""Segue's outputs and the reference's, brought to one form: bags of rows that a test compares.

Floats stay floats and must be equal to the bit; decision ids are computed anew from what they stand for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.reference.decoding import EPOCH
from tests.reference.engine import Action, Decision, Key, Reference
from tests.reference.hashing import MASK, action_hash, decision_hash, key_hash
from tests.reference.journeys import Journey


@dataclass(frozen=True)
class ActionRow:
    """One action. `stage` "" = there are none, `trigger` "" = no event caused it; `discount` of its voucher in percent,
    or in minor units; `timezone` "" = the deployment's."""

    decision_id: str
    action_id: str
    trigger: str
    kind: str
    customer: str
    channel: str
    placement: str
    journey: str
    step: int
    offer: str
    product: str
    category: str
    propensity: float
    context_weight: float
    value: float
    lever: float
    score: float
    segments: tuple[str, ...]
    stage: str
    items: tuple[str, ...]
    discount: tuple[float | None, int | None] | None
    timezone: str
    time: str


@dataclass(frozen=True)
class ChangeRow:
    """A segment entered or left, a stage entered; `trigger` "" = time did it."""

    customer: str
    kind: str
    name: str
    change: str
    time_ms: int
    trigger: str


@dataclass(frozen=True)
class CreditRow:
    """A right event and the left one it is credited to, by the hexadecimal digits of its id."""

    customer: str
    kind: str
    join: str
    right_ms: int
    left_ms: int
    left: str
    product: str
    trigger: str


@dataclass(frozen=True)
class WithdrawnRow:
    """An action taken back; `trigger` "" = time did it."""

    decision_id: str
    action_id: str
    trigger: str
    kind: str
    customer: str
    channel: str
    placement: str
    journey: str
    step: int
    offer: str
    reason: str
    time: str


@dataclass(frozen=True)
class DecisionRow:
    """One row of the decision log; `winner` "" = none."""

    decision_id: str
    trigger: str
    customer: str
    channel: str
    placement: str
    winner: str
    fired: tuple[str, ...]
    reasons: tuple[int, ...]
    propensities: tuple[float, ...] | None = None
    contexts: tuple[float, ...] | None = None
    scores: tuple[float, ...] | None = None


def _hex(words: tuple[int, int]) -> str:
    """The 32 hexadecimal digits of an id: high word first."""
    low, high = (word & MASK for word in words)
    return f"{high:016x}{low:016x}"


def decision_id(customer: Key, message: tuple[int, int], slot: tuple[str, str], secret: bytes) -> str:
    """A decision's id as outputs show it; `message` is its trigger's id."""
    return _hex(decision_hash(key_hash(customer, secret), message, "/".join(slot), secret))


def _time_text(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms // 1000, UTC) + timedelta(milliseconds=time_ms % 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time_ms(value: Any) -> int:
    """A time of an Arrow column, whatever its type."""
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (moment - EPOCH) // timedelta(milliseconds=1)
    return int(value)


# --- from Segue ---------------------------------------------------------------------------------------


def action_rows(actions: Iterable[Mapping[str, Any]]) -> Counter[ActionRow]:
    """Actions as their JSON lines have them."""
    return Counter(
        ActionRow(
            decision_id=action["decision_id"],
            action_id=action["action_id"],
            trigger=action["causation_id"] or "",
            kind=action["customer_kind"],
            customer=action["customer_id"],
            channel=action["channel"],
            placement=action["placement"],
            journey=action["journey"],
            step=action["step"],
            offer=action["offer"],
            product=action["product_id"] or "",
            category=action["category"] or "",
            propensity=action["propensity"],
            context_weight=action["context_weight"],
            value=action["value"],
            lever=action["lever"],
            score=action["score"],
            segments=tuple(action.get("segments") or ()),
            stage=action.get("stage") or "",
            items=tuple(action.get("items") or ()),
            discount=_discount(action["voucher"]),
            timezone=action["timezone"] or "",
            time=action["time"],
        )
        for action in actions
    )


def _discount(voucher: Mapping[str, Any] | None) -> tuple[float | None, int | None] | None:
    return None if voucher is None else (voucher["discount_percent"], voucher["discount_amount_minor"])


def decision_rows(
    rows: Iterable[Mapping[str, Any]], journeys: Sequence[Journey], numbers: bool = False
) -> Counter[DecisionRow]:
    """Rows of the decision log as dicts; `journeys` gives names to their indexes.

    numbers: compare the sampled numbers too (the log must then be complete).
    """
    found: Counter[DecisionRow] = Counter()
    for row in rows:
        found[
            DecisionRow(
                decision_id=row["decision_id"],
                trigger=row["causation_id"] or "",
                customer=row["customer_id"],
                channel=row["channel"],
                placement=row["placement"],
                winner=row["winner"] or "",
                fired=tuple(journeys[index].id for index in row["journeys"]),
                reasons=tuple(row["reasons"]),
                propensities=tuple(row["propensities"]) if numbers else None,
                contexts=tuple(row["contexts"]) if numbers else None,
                scores=tuple(row["scores"]) if numbers else None,
            )
        ] += 1
    return found


def change_rows(rows: Iterable[Mapping[str, Any]]) -> Counter[ChangeRow]:
    """Rows of the changes as dicts."""
    return Counter(
        ChangeRow(
            customer=row["customer_id"],
            kind=row["customer_kind"],
            name=row["name"],
            change=row["change"],
            time_ms=_time_ms(row["time"]),
            trigger=row["causation_id"] or "",
        )
        for row in rows
    )


def credit_rows(rows: Iterable[Mapping[str, Any]]) -> Counter[CreditRow]:
    """Rows of the joins as dicts."""
    return Counter(
        CreditRow(
            customer=row["customer_id"],
            kind=row["customer_kind"],
            join=row["join"],
            right_ms=_time_ms(row["time"]),
            left_ms=_time_ms(row["left_time"]),
            left=row["left_id"],
            product=row["product_id"] or "",
            trigger=row["causation_id"] or "",
        )
        for row in rows
    )


def of_kind(lines: Iterable[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    """Of what a channel got: "action" or "withdrawn"."""
    return [line for line in lines if line["kind"] == kind]


def withdrawn_rows(lines: Iterable[Mapping[str, Any]]) -> Counter[WithdrawnRow]:
    """What was taken back, as its JSON lines have it."""
    return Counter(
        WithdrawnRow(
            decision_id=line["decision_id"],
            action_id=line["action_id"],
            trigger=line["causation_id"] or "",
            kind=line["customer_kind"],
            customer=line["customer_id"],
            channel=line["channel"],
            placement=line["placement"],
            journey=line["journey"],
            step=line["step"],
            offer=line["offer"],
            reason=line["reason"],
            time=line["time"],
        )
        for line in lines
    )


# --- from the reference -------------------------------------------------------------------------------


def _action_row(action: Action, secret: bytes) -> ActionRow:
    kind, customer = action.customer
    channel, placement = action.slot
    discount: tuple[float | None, int | None] | None = None
    if action.discount is not None:
        of, found = action.discount
        discount = (float(found), None) if of.is_percent else (None, int(found * of.scale))
    decision = decision_hash(key_hash(action.customer, secret), action.message, "/".join(action.slot), secret)
    return ActionRow(
        decision_id=_hex(decision),
        action_id=_hex(action_hash(decision, action.journey, action.step, secret)),
        trigger=action.trigger,
        kind=kind,
        customer=customer,
        channel=channel,
        placement=placement,
        journey=action.journey,
        step=action.step,
        offer=action.offer,
        product=action.product,
        category=action.category,
        propensity=action.numbers.propensity,
        context_weight=action.numbers.context,
        value=action.numbers.value,
        lever=action.numbers.lever,
        score=action.numbers.score,
        segments=action.segments,
        stage=action.stage,
        items=action.items,
        discount=discount,
        timezone=action.timezone,
        time=_time_text(action.time_ms),
    )


def _decision_row(decision: Decision, secret: bytes, numbers: bool) -> DecisionRow:
    channel, placement = decision.slot
    scored = [candidate.numbers for candidate in decision.candidates]
    return DecisionRow(
        decision_id=decision_id(decision.customer, decision.message, decision.slot, secret),
        trigger=decision.trigger,
        customer=decision.customer[1],
        channel=channel,
        placement=placement,
        winner=decision.winner.offer if decision.winner else "",
        fired=decision.fired,
        reasons=tuple(candidate.reason for candidate in decision.candidates),
        propensities=tuple(n.propensity if n else 0.0 for n in scored) if numbers else None,
        contexts=tuple(n.context if n else 0.0 for n in scored) if numbers else None,
        scores=tuple(n.score if n else 0.0 for n in scored) if numbers else None,
    )


def expected_actions(reference: Reference) -> Counter[ActionRow]:
    return Counter(_action_row(action, reference.settings.secret) for action in reference.actions)


def expected_decisions(reference: Reference, numbers: bool = False) -> Counter[DecisionRow]:
    secret = reference.settings.secret
    return Counter(_decision_row(decision, secret, numbers) for decision in reference.decisions)


def expected_changes(reference: Reference) -> Counter[ChangeRow]:
    return Counter(
        ChangeRow(
            customer=change.customer[1],
            kind=change.customer[0],
            name=change.name,
            change=change.change,
            time_ms=change.time_ms,
            trigger=change.event,
        )
        for change in reference.changes
    )


def expected_credits(reference: Reference) -> Counter[CreditRow]:
    return Counter(
        CreditRow(
            customer=credit.customer[1],
            kind=credit.customer[0],
            join=credit.join,
            right_ms=credit.right_ms,
            left_ms=credit.left_ms,
            left=_hex(credit.left),
            product=credit.product,
            trigger=credit.event,
        )
        for credit in reference.credits
    )


def expected_withdrawn(reference: Reference) -> Counter[WithdrawnRow]:
    return Counter(
        WithdrawnRow(
            decision_id=_hex(one.decision),
            action_id=_hex(one.action),
            trigger=one.event,
            kind=one.customer[0],
            customer=one.customer[1],
            channel=one.slot[0],
            placement=one.slot[1],
            journey=one.journey,
            step=one.step,
            offer=one.offer,
            reason=one.reason,
            time=_time_text(one.time_ms),
        )
        for one in reference.withdrawn
    )


# --- what a failing test shows ------------------------------------------------------------------------


def difference(found: Counter[Any], expected: Counter[Any], shown: int = 5) -> str:
    """Rows only one side has, the first few of each; empty if both are the same."""
    missing, extra = expected - found, found - expected
    if not missing and not extra:
        return ""

    def listed(title: str, rows: Counter[Any]) -> list[str]:
        return [f"{title}: {sum(rows.values())}", *(f"  {row} x{n}" for row, n in list(rows.items())[:shown])]

    return "\n".join([*listed("missing", missing), *listed("not expected", extra)])
