"""What was expected against what came out: every difference, with what probably lies behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from segue.policy.examples import (
    Example,
    Expected,
    ExpectedChange,
    ExpectedWithdrawn,
    offset_ms,
    offset_text,
)
from segue.testing.play import Candidate, Played

_NAMES_IN_ACTION = {"customer": "customer_id", "product": "product_id"}
_NAMES_IN_CHANGE = {"customer": "customer_id"}
_REASON_HINTS = {
    "no_consent": "nobody agreed to that channel: see `consent` of the example and `purpose` of the offer",
    "suppressed": "the customer unsubscribed from that channel, or mail bounced or was marked as spam",
    "limit": "a limit of the journey was reached: see its `limits`",
    "cap": "a cap on the channel or purpose was reached: see the deployment's [[caps]]",
    "held": "it was quiet where the customer is: it is decided again when quiet hours end; set `until`",
    "expired": "it was quiet for longer than `expires_after` of its journey",
    "quiet_hours": "it was quiet where the customer is: see [[quiet_hours]], and `timezone` of the example",
    "below_minimum": "its score was too low: see `score_min`, `bias` and `value`",
    "outscored": "another offer won the slot or the moment: raise `value` or `priority`, or set `alongside`",
    "other_slot": "another slot won the moment: raise `value` or `priority`, or set `alongside`",
    "not_eligible": "the offer's own `when` did not hold, or it is for other steps",
    "not_applicable": "`applicable` of the offer or of its journey did not hold",
    "not_suitable": "`suitable` of the offer or of its journey did not hold",
    "budget": "the budget of its campaign was spent",
    "currency": "the event is in another currency than the voucher",
    "control": "the customer is in a control group",
}


@dataclass(slots=True)
class Verdict:
    """`happened`: (expected or None, actual or None) in order of time; both: as expected. Same for `changed`
    and `taken_back`."""

    happened: list[tuple[Expected | None, dict[str, Any] | None]] = field(default_factory=list)
    changed: list[tuple[ExpectedChange | None, dict[str, Any] | None]] = field(default_factory=list)
    taken_back: list[tuple[ExpectedWithdrawn | None, dict[str, Any] | None]] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.hints


def judge(example: Example, played: Played) -> Verdict:
    """Compare all actions, and all changes and all that is taken back if the example expects any."""
    verdict = Verdict()
    verdict.hints += [f"{problem}: it was not used" for problem in played.unused]
    verdict.happened = _paired(example.expect, played.actions, _NAMES_IN_ACTION)
    if example.expect_changes is not None:
        verdict.changed = _paired(example.expect_changes, played.changes, _NAMES_IN_CHANGE)
    if example.expect_withdrawn is not None:
        verdict.taken_back = _paired(example.expect_withdrawn, played.withdrawn, _NAMES_IN_CHANGE)
    for expected, action in verdict.happened:
        if expected is not None and action is None:
            verdict.hints.append(_missing(example, expected, played))
        elif expected is None and action is not None:
            verdict.hints.append(
                f"at {offset_text(action['at_ms'])}: {action['journey']}, offer {action['offer']} was not expected:"
                " list it in `expect`, or change the conditions that let it happen"
            )
    for change, row in verdict.changed:
        if change is not None and row is None:
            verdict.hints.append(
                f"at {change.at}: {change.change or 'change'} {change.name or ''} is missing"
            )
        elif change is None and row is not None:
            verdict.hints.append(
                f"at {offset_text(row['at_ms'])}: {row['change']} {row['name']} was not expected"
            )
    for withdrawn, row in verdict.taken_back:
        if withdrawn is not None and row is None:
            verdict.hints.append(
                f"at {withdrawn.at}: {described(withdrawn)} was not taken back: see `take_back` of the offer, and"
                " `goal` and `expires_after` of its journey"
            )
        elif withdrawn is None and row is not None:
            verdict.hints.append(
                f"at {offset_text(row['at_ms'])}: that {row['offer']} was taken back ({row['reason']}) was not expected"
            )
    return verdict


def _paired(
    expected: Sequence[Any], actual: Sequence[dict[str, Any]], names: dict[str, str]
) -> list[tuple[Any, Any]]:
    """A greatest matching of what is expected and what happened, and the rest of both, in order of time."""
    possible = [[j for j, row in enumerate(actual) if _fits(each, row, names)] for each in expected]
    taken: dict[int, int] = {}  # actual -> expected

    def place(i: int, tried: set[int]) -> bool:
        for j in possible[i]:
            if j not in tried:
                tried.add(j)
                if j not in taken or place(taken[j], tried):
                    taken[j] = i
                    return True
        return False

    for i in range(len(expected)):
        place(i, set())
    found = {i: j for j, i in taken.items()}
    pairs = [(each, actual[found[i]] if i in found else None) for i, each in enumerate(expected)]
    pairs += [(None, row) for j, row in enumerate(actual) if j not in taken]
    return sorted(pairs, key=_time_of)


def _time_of(pair: tuple[Any, Any]) -> int:
    expected, row = pair
    time_ms: int = row["at_ms"] if row is not None else offset_ms(expected.at)
    return time_ms


def _fits(
    expected: Expected | ExpectedChange | ExpectedWithdrawn, row: dict[str, Any], names: dict[str, str]
) -> bool:
    return offset_ms(expected.at) == row["at_ms"] and _fits_but_for_time(expected, row, names)


def _fits_but_for_time(
    expected: Expected | ExpectedChange | ExpectedWithdrawn, row: dict[str, Any], names: dict[str, str]
) -> bool:
    given = msgspec.structs.asdict(expected)
    return all(
        row[names.get(name, name)] == value
        for name, value in given.items()
        if name != "at" and value is not None
    )


def described(expected: Expected | ExpectedWithdrawn) -> str:
    """What was expected, in words."""
    given = {
        name: value
        for name, value in msgspec.structs.asdict(expected).items()
        if name != "at" and value is not None
    }
    return ", ".join(f"{name} {value}" for name, value in given.items()) or "an action"


def _missing(example: Example, expected: Expected, played: Played) -> str:
    """Why an action probably did not happen: the first that fits."""
    at_ms = offset_ms(expected.at)
    what = f"at {offset_text(at_ms)}: {described(expected)} did not happen"
    if at_ms > example.end_ms:
        return f"{what}: the example ends at {offset_text(example.end_ms)}; set `until`"
    elsewhere = sorted(
        action["at_ms"] for action in played.actions if _fits_but_for_time(expected, action, _NAMES_IN_ACTION)
    )
    lost = [
        candidate
        for time_ms, candidates in played.decisions
        for candidate in candidates
        if time_ms == at_ms and candidate.reason != "won" and _meant(expected, candidate)
    ]
    if lost:
        reasons = dict.fromkeys(candidate.reason for candidate in lost)
        return f"{what}: " + "; ".join(_REASON_HINTS.get(reason, reason) for reason in reasons)
    if elsewhere:
        return f"{what}: it happened at {', '.join(offset_text(time_ms) for time_ms in elsewhere)}"
    if any(time_ms == at_ms for time_ms, _ in played.decisions):
        return f"{what}: other journeys or offers were decided then; see the timeline"
    others = [action for action in played.actions if _meant_alike(expected, action)]
    if others:
        told = "; ".join(
            f"at {offset_text(action['at_ms'])} step {action['step']} was {action['offer']}"
            + (f" of {action['product_id']}" if action["product_id"] else "")
            for action in others
        )
        return (
            f"{what}: nothing was decided then; of this journey, {told}: was a wait over, did `still` hold?"
        )
    return f"{what}: nothing was decided then; the journey's `when` or `still` did not hold, or no event or timer asked"


def _meant_alike(expected: Expected, action: dict[str, Any]) -> bool:
    """Whether it is of the journey that was expected."""
    return expected.journey is not None and expected.journey == action["journey"]


def _meant(expected: Expected, candidate: Candidate) -> bool:
    return all(
        wanted is None or wanted == found
        for wanted, found in (
            (expected.journey, candidate.journey),
            (expected.offer, candidate.offer),
            (expected.channel, candidate.channel),
        )
    )
