"""No action without consent, judged from the input alone: it shares no code with the engine, nor with the reference.

Everything that was ever said about consent is kept, and read through whenever an action is to be judged. What counts is
what had arrived: a withdrawal takes nothing back that was decided before it came.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.reference.engine import Action, Key, Reference
from tests.reference.event import ANONYMOUS, Event
from tests.reference.journeys import Policies

MAIL_REFUSED = ("Email Bounced", "Email Marked as Spam")


@dataclass(frozen=True)
class Said:
    """That a channel may be used or not; `purpose` "" = whatever for."""

    time_ms: int
    channel: str
    purpose: str
    granted: bool


def said_by(event: Event) -> Said | None:
    """What an event says about consent."""
    if event.type in MAIL_REFUSED:
        return Said(event.time_ms, "email", "", False)
    if event.consent is None:
        return None
    if event.type == "Unsubscribed":
        return Said(event.time_ms, event.consent.channel, "", False)
    return Said(event.time_ms, event.consent.channel, event.consent.purpose, event.consent.granted)


class Consents:
    """Who may be addressed, after each arrival. `granted`: the purposes for which silence is consent."""

    def __init__(self, granted: Collection[str] = ()) -> None:
        self._granted = granted
        self._said: dict[Key, list[Said]] = defaultdict(list)
        self._known: dict[Key, Key] = {}  # whose an anonymous identifier is
        self._forgotten: dict[Key, int] = {}  # time of the latest erasure

    def arrive(self, event: Event) -> None:
        """The next event in the order of arrival."""
        key = (event.kind, event.customer)
        if event.type == "Profile Erasure Requested":
            self._forget(key, event.time_ms)
            return
        if self._is_forgotten(key, event.time_ms) or self._is_forgotten(self.owner(key), event.time_ms):
            return
        anonymous = (ANONYMOUS, event.anonymous)
        if event.anonymous and not self._is_forgotten(anonymous, event.time_ms):
            self._known[anonymous] = key
            self._said[key] += self._said.pop(anonymous, [])
        said = said_by(event)
        if said is not None:
            self._said[self.owner(key)].append(said)

    def owner(self, key: Key) -> Key:
        """Whose events those of an identifier are by now."""
        return self._known.get(key, key)

    def allow(self, customer: Key, channel: str, purpose: str) -> bool:
        """Whether a customer may be addressed on a channel for a purpose, by what has arrived."""
        about = [
            s for s in self._said.get(customer, ()) if s.channel == channel and s.purpose in ("", purpose)
        ]
        if not about:
            return purpose in self._granted
        latest_ms = max(s.time_ms for s in about)
        return all(s.granted for s in about if s.time_ms == latest_ms)

    def _is_forgotten(self, key: Key, time_ms: int) -> bool:
        return time_ms <= self._forgotten.get(key, -1)

    def _forget(self, key: Key, time_ms: int) -> None:
        if self._is_forgotten(key, time_ms):
            return
        linked = [anonymous for anonymous, known in self._known.items() if known == key]
        for one in (key, *linked):
            self._forgotten[one] = max(time_ms, self._forgotten.get(one, -1))
            self._known.pop(one, None)
        self._said.pop(key, None)


def judged_actions(
    arrivals: Iterable[tuple[Event | None, Sequence[Action]]], policies: Policies, lateness_ms: int
) -> Iterator[tuple[Action, bool]]:
    """Each action, and whether consent as of its decision allowed it.

    arrivals     the events in their order of arrival, None = the end, each with the actions decided as it came
    lateness_ms  what was due before the event's clock less this had been decided before the event was looked at
    """
    needs = {(j.id, offer.id): offer.consent for j in policies.journeys for offer in j.offers}
    consents = Consents(policies.granted)
    for event, actions in arrivals:
        passed_ms = 0 if event is None else event.clock_ms - lateness_ms
        yield from ((a, _may(consents, a, needs)) for a in actions if a.time_ms < passed_ms)
        if event is not None:
            consents.arrive(event)
        yield from ((a, _may(consents, a, needs)) for a in actions if a.time_ms >= passed_ms)


def _may(consents: Consents, action: Action, needs: Mapping[tuple[str, str], tuple[str, str] | None]) -> bool:
    need = needs[action.journey, action.offer]
    return need is None or consents.allow(action.customer, *need)


def steps_of(
    reference: Reference, events: Iterable[Event], end_ms: int
) -> Iterator[tuple[Event | None, Sequence[Action]]]:
    """Run the reference; after each event, and at the end, the actions that it led to."""
    for event in events:
        count = len(reference.actions)
        reference.take(event)
        yield event, reference.actions[count:]
    count = len(reference.actions)
    reference.finish(end_ms)
    yield None, reference.actions[count:]


def run_watched(reference: Reference, events: Iterable[Event], end_ms: int) -> None:
    """Reference.run, with every action judged as it is decided: AssertionError for one without consent."""
    steps = steps_of(reference, events, end_ms)
    for action, allowed in judged_actions(steps, reference.policies, reference.settings.lateness_ms):
        assert allowed, f"{action} without consent"
