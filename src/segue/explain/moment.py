"""What is to be explained, found in what a run wrote: a moment of a customer, and all that was ever said to them.

A moment is one trigger: the decisions of all slots that one event, or one timer, led to. An action or decision is
explained by its moment; a customer by the latest moment, or the latest until a time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from segue.errors import SegueError
from segue.events.time import time_text
from segue.explain.logs import Logs
from segue.explain.rows import STEP, Decision, decisions_of

ID = re.compile("[0-9a-f]{32}")


class Refused(msgspec.Struct, frozen=True):
    """An offer that did not go out, why, and how often."""

    offer: str
    journey: str
    channel: str
    reason: str
    times: int


class Explanation(msgspec.Struct, frozen=True):
    """The answer.

    moment    decisions of the moment; empty: nothing was ever decided for this customer (until the time asked)
    actions   by decision id: the messages that went out at that moment
    sent      all actions of the customer in the log, oldest first, until the time asked
    withdrawn by action id: the messages that took some of them back, until the time asked
    refused   how often which offer did not go out, most often first
    decided   decisions that were made for this customer until the time asked
    of_others decisions in the log for other customers
    not_used  late events and dead letters in which the customer is named
    """

    asked: str
    where: str
    customer_id: str
    moment: list[Decision]
    actions: dict[str, dict[str, Any]]
    sent: list[dict[str, Any]]
    withdrawn: dict[str, dict[str, Any]]
    refused: list[Refused]
    decided: int
    of_others: int
    not_used: dict[str, int]


def explain(logs: Logs, asked: str, at_ms: int | None = None) -> Explanation:
    """What the logs say about an action id, a decision id or a customer.

    at_ms  of a customer: as if it were then; None = now

    Raises SegueError: there is no such id, or no log.
    """
    customer, decision = asked, ""
    if ID.fullmatch(asked):
        owner = _owner(logs, asked)
        if owner is not None:
            customer, decision = owner
    found: list[Decision] = []
    others = 0
    for batch in logs.decisions():
        mine = _where(batch, "customer_id", customer)
        others += batch.num_rows - mine.num_rows
        found += decisions_of(mine)
    if decision:
        at_ms = next(each.time_ms for each in found if each.decision_id == decision)
    elif ID.fullmatch(asked) and not found:
        raise SegueError(
            STEP,
            f"no action, decision or customer {asked} in {logs.where}",
            "is it from another run, or older than what is kept? The ids of all actions stand in their messages",
        )
    found = sorted(
        (each for each in found if at_ms is None or each.time_ms <= at_ms), key=lambda each: each.time_ms
    )
    last = next((each for each in found if each.decision_id == decision), found[-1] if found else None)
    moment = [each for each in found if last is not None and _trigger(each) == _trigger(last)]
    by_id = {each.decision_id: each for each in found}
    told = [each for each in logs.actions(customer) if each["decision_id"] in by_id]
    sent = [each for each in told if each["kind"] == "action"]
    until = None if at_ms is None or decision else time_text(at_ms)
    sent.sort(key=lambda action: action["time"])
    shown = {each.decision_id for each in moment}
    return Explanation(
        asked=asked,
        where=logs.where,
        customer_id=customer,
        moment=moment,
        actions={action["decision_id"]: action for action in sent if action["decision_id"] in shown},
        sent=sent,
        withdrawn={
            each["action_id"]: each
            for each in told
            if each["kind"] == "withdrawn" and (until is None or each["time"] <= until)
        },
        refused=_refused(found),
        decided=len(found),
        of_others=others,
        not_used=logs.not_used(customer),
    )


def _owner(logs: Logs, asked: str) -> tuple[str, str] | None:
    """(customer, decision) of an action's or a decision's id; None: it is neither."""
    for batch in logs.decisions():
        row: pa.RecordBatch = _where(batch, "decision_id", asked)
        if row.num_rows:
            return row["customer_id"][0].as_py(), asked
    for action in logs.actions(asked):
        if action["action_id"] == asked:
            return action["customer_id"], action["decision_id"]
    return None


def _where(batch: pa.RecordBatch, column: str, value: str) -> pa.RecordBatch:
    if column not in batch.schema.names:
        return batch  # who takes the rows apart says what is wrong
    return batch.filter(pc.equal(batch[column], value))


def _trigger(decision: Decision) -> tuple[int, str | None]:
    return decision.time_ms, decision.causation_id


def _refused(decisions: list[Decision]) -> list[Refused]:
    counts = Counter(_losers(decisions))
    return [Refused(*loser, times) for loser, times in counts.most_common()]


def _losers(decisions: list[Decision]) -> Iterator[tuple[str, str, str, str]]:
    for decision in decisions:
        for candidate in decision.candidates:
            if candidate.reason != "won":
                yield candidate.offer, candidate.journey, decision.channel, candidate.reason
