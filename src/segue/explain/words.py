"""Reasons in words, with what the policies say where they are at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segue.explain.rows import Candidate, Decision
from segue.policy.gather import read_sources
from segue.policy.model import Journey, Offer

# in the order of segue_kernels.shard.REASON_NAMES
REASONS = {
    "won": "goes out",
    "not_eligible": "its own condition does not hold",
    "currency": "the event is in another currency than the policy",
    "no_consent": "no consent for this channel",
    "limit": "sent as often as its journey's limits allow",
    "below_minimum": "its score is below the journey's least",
    "outscored": "another offer of this slot scored higher",
    "other_slot": "one action a moment: that of another slot scored higher",
    "control": "in the control group: nothing is sent",
    "cap": "a cap on all that is sent was reached",
    "suppressed": "unsubscribed from this channel, or mail bounced or was marked as spam",
    "held": "quiet hours: held until they end",
    "quiet_hours": "quiet hours: dropped",
    "expired": "quiet hours last longer than it holds good",
    "budget": "the budget of its campaign is spent",
    "not_applicable": "it does not apply to this situation",
    "not_suitable": "it would not do this customer good",
}


# in the order of segue_kernels.shard.WHY_NAMES
TAKEN_BACK = {
    "consent": "consent was withdrawn",
    "suppressed": "unsubscribed from this channel, or mail bounced or was marked as spam",
    "goal": "the journey's goal was reached",
    "expired": "it held good no longer",
    "erased": "the person was erased",
}


class Written(NamedTuple):
    """What a policy file says of a candidate."""

    journey: Journey
    offer: Offer


class Policies:
    """The policy files at hand, by what the log calls them. Raises PolicyError: one can't be read."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._written: dict[tuple[str, str, str], Written] = {}
        for source in read_sources(paths):
            policy = f"{source.file.policy}@{source.file.version}"
            for journey in source.file.journeys:
                for offer in journey.offers:
                    self._written[policy, journey.id, offer.id] = Written(journey, offer)

    def written(self, candidate: Candidate) -> Written | None:
        """What is written of a candidate; None: the policy is not at hand in this version."""
        return self._written.get((candidate.policy, candidate.journey, candidate.offer))


def why(decision: Decision, candidate: Candidate, moment: Sequence[Decision], policies: Policies) -> str:
    """Why a candidate won or did not, in a phrase."""
    text = REASONS.get(candidate.reason, candidate.reason)
    written = policies.written(candidate)
    if candidate.reason == "not_eligible" and written is not None:
        return f"{text}: {_short(written.offer.when)}"
    if candidate.reason == "not_applicable" and written is not None:
        return f"{text}: {_both(written.journey.applicable, written.offer.applicable)}"
    if candidate.reason == "not_suitable" and written is not None:
        return f"{text}: {_both(written.journey.suitable, written.offer.suitable)}"
    if candidate.reason == "no_consent" and written is not None:
        return f"no consent for {decision.channel} ({written.offer.purpose})"
    if candidate.reason == "limit" and written is not None and written.journey.limits:
        limits = ", ".join(
            f"{limit.times} in {limit.within}{f' by {limit.by}' if limit.by else ''}"
            for limit in written.journey.limits
        )
        return f"{text}: {limits}"
    if candidate.reason == "below_minimum" and written is not None:
        return f"{text}, {written.journey.score_min:g}"
    if candidate.reason == "outscored" and decision.winner is not None:
        return f"{decision.winner} scored higher"
    if candidate.reason == "other_slot":
        winners = [f"{each.winner} ({each.channel})" for each in moment if each.winner is not None]
        return f"one action a moment: {' and '.join(winners)} scored higher" if winners else text
    return text


def taken_back(withdrawn: Mapping[str, Any]) -> str:
    """When and why an action was taken back, in a phrase."""
    reason = TAKEN_BACK.get(withdrawn["reason"], withdrawn["reason"])
    cause = f" (event {withdrawn['causation_id']})" if withdrawn["causation_id"] else ""
    return f"taken back at {withdrawn['time']}, in case it was not sent yet: {reason}{cause}"


def condition(candidate: Candidate, policies: Policies) -> str:
    """The condition for which the candidate's journey was looked at; empty if its policy is not at hand."""
    written = policies.written(candidate)
    return _short(written.journey.when) if written is not None else ""


def _both(of_all: str, own: str) -> str:
    """A condition of a journey for all its offers and an offer's own, as far as they are written."""
    return " and ".join(_short(text) for text in (of_all, own) if text != "True")


def _short(text: str) -> str:
    return " ".join(text.split())
