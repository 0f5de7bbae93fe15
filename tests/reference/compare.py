"""Segue's outputs and the reference's, brought to one form: bags of rows that a test compares.

Floats stay floats and must be equal to the bit; decision ids are computed anew from what they stand for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.reference.engine import Action, Decision, Key, Reference
from tests.reference.event import ANONYMOUS, LOYALTY, USER
from tests.reference.hashing import customer_hash, decision_hash, message_hash
from tests.reference.journeys import Journey

KINDS = (USER, LOYALTY, ANONYMOUS)


@dataclass(frozen=True)
class ActionRow:
    """One action."""

    decision_id: str
    trigger: str
    kind: str
    customer: str
    channel: str
    placement: str
    journey: str
    offer: str
    product: str
    category: str
    propensity: float
    context_weight: float
    value: float
    lever: float
    score: float


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
    scores: tuple[float, ...] | None = None


def decision_id(customer: Key, trigger: str, slot: tuple[str, str], secret: bytes) -> str:
    """The 32 hexadecimal digits of a decision: high word first."""
    kind, identifier = customer
    low, high = decision_hash(
        customer_hash(KINDS.index(kind), identifier, secret),
        message_hash(trigger, secret),
        "/".join(slot),
        secret,
    )
    return f"{high:016x}{low:016x}"


# --- from Segue ---------------------------------------------------------------------------------------


def action_rows(actions: Iterable[Mapping[str, Any]]) -> Counter[ActionRow]:
    """Actions as their JSON lines have them."""
    return Counter(
        ActionRow(
            decision_id=action["decision_id"],
            trigger=action["causation_id"],
            kind=action["customer_kind"],
            customer=action["customer_id"],
            channel=action["channel"],
            placement=action["placement"],
            journey=action["journey"],
            offer=action["offer"],
            product=action["product_id"] or "",
            category=action["category"] or "",
            propensity=action["propensity"],
            context_weight=action["context_weight"],
            value=action["value"],
            lever=action["lever"],
            score=action["score"],
        )
        for action in actions
    )


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
                trigger=row["causation_id"],
                customer=row["customer_id"],
                channel=row["channel"],
                placement=row["placement"],
                winner=row["winner"] or "",
                fired=tuple(journeys[index].id for index in row["journeys"]),
                reasons=tuple(row["reasons"]),
                propensities=tuple(row["propensities"]) if numbers else None,
                scores=tuple(row["scores"]) if numbers else None,
            )
        ] += 1
    return found


# --- from the reference -------------------------------------------------------------------------------


def _action_row(action: Action, secret: bytes) -> ActionRow:
    kind, customer = action.customer
    channel, placement = action.slot
    return ActionRow(
        decision_id=decision_id(action.customer, action.trigger, action.slot, secret),
        trigger=action.trigger,
        kind=kind,
        customer=customer,
        channel=channel,
        placement=placement,
        journey=action.journey,
        offer=action.offer,
        product=action.product,
        category=action.category,
        propensity=action.numbers.propensity,
        context_weight=action.numbers.context,
        value=action.numbers.value,
        lever=action.numbers.lever,
        score=action.numbers.score,
    )


def _decision_row(decision: Decision, secret: bytes, numbers: bool) -> DecisionRow:
    channel, placement = decision.slot
    scored = [candidate.numbers for candidate in decision.candidates]
    return DecisionRow(
        decision_id=decision_id(decision.customer, decision.trigger, decision.slot, secret),
        trigger=decision.trigger,
        customer=decision.customer[1],
        channel=channel,
        placement=placement,
        winner=decision.winner.offer if decision.winner else "",
        fired=decision.fired,
        reasons=tuple(candidate.reason for candidate in decision.candidates),
        propensities=tuple(n.propensity if n else 0.0 for n in scored) if numbers else None,
        scores=tuple(n.score if n else 0.0 for n in scored) if numbers else None,
    )


def expected_actions(reference: Reference) -> Counter[ActionRow]:
    return Counter(_action_row(action, reference.settings.secret) for action in reference.actions)


def expected_decisions(reference: Reference, numbers: bool = False) -> Counter[DecisionRow]:
    secret = reference.settings.secret
    return Counter(_decision_row(decision, secret, numbers) for decision in reference.decisions)


# --- what a failing test shows ------------------------------------------------------------------------


def difference(found: Counter[Any], expected: Counter[Any], shown: int = 5) -> str:
    """Rows only one side has, the first few of each; empty if both are the same."""
    missing, extra = expected - found, found - expected
    if not missing and not extra:
        return ""

    def listed(title: str, rows: Counter[Any]) -> list[str]:
        return [f"{title}: {sum(rows.values())}", *(f"  {row} x{n}" for row, n in list(rows.items())[:shown])]

    return "\n".join([*listed("missing", missing), *listed("not expected", extra)])
