"""What must hold of everything sent, recomputed from inputs and outputs alone, after every step of long streams.

By default a few seeds; SEGUE_FLOW_SEEDS=200 runs that many (about a second each), SEGUE_FLOW_SEEDS=17:18 seed 17
alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from segue.events.decode import Decoder
from segue.limits import DAY_MS, HOUR_MS, LATENESS_MS_DEFAULT
from segue.policy.load import load_policies
from segue.settings import secret
from segue.state.shard import EngineSettings
from tests.flows.runs import OFTEN, seeds
from tests.reference import random_events, random_policies
from tests.reference.choice import Choice, Seeded
from tests.reference.consent import Consents
from tests.reference.decoding import DecodeSettings, decode
from tests.reference.engine import ERASURE
from tests.reference.event import ANONYMOUS, Event
from tests.reference.journeys import Policies
from tests.reference.pipeline import Outcome, run_segue
from tests.reference.policies import read_policies
from tests.reference.quiet import sent_in_quiet

SHARED = """
[[caps]]
id = "gap"
channels = ["email", "sms"]
times = 1
within = "40m"
[[caps]]
id = "marketing"
purposes = ["marketing"]
times = 5
within = "2d"
"""
Key = tuple[str, str]  # kind and identifier


@dataclass
class Sent:
    """An action that counts for limits and caps."""

    at: int  # place of its trigger in the order of arrival
    owner: Key
    journey: str
    time_ms: int
    product: str
    category: str
    channel: str
    purpose: str


@dataclass(frozen=True)
class Revocable:
    """An action that may be taken back until then. register: the consent that it needs."""

    action_id: str
    at: int
    owner: Key
    register: tuple[str, str] | None
    time_ms: int
    until_ms: int


class Watch:
    """Checks the actions and the log as they come, against the input in its order of arrival."""

    def __init__(self, events: Sequence[Event], policies: Policies) -> None:
        journeys = policies.journeys
        self.policies = policies
        self.caps = [cap for cap in policies.caps if cap.window_ms > 0]
        self.journeys = {journey.id: journey for journey in journeys}
        self.needs = {(j.id, offer.id): offer.consent for j in journeys for offer in j.offers}
        self.offers = {(j.id, offer.id): offer for j in journeys for offer in j.offers}
        self.purposes = {(j.id, offer.id): offer.purpose for j in journeys for offer in j.offers}
        self.place: dict[tuple[str, Key], int] = {}  # (event id, whose it is) -> where it first arrives
        self.allowed: list[set[tuple[str, str]]] = []  # what its customer may be sent, after each event
        self.merged: dict[Key, tuple[int, Key]] = {}  # anonymous -> (where it became known, who it is)
        self.links: dict[tuple[Key, int], Key] = {}  # (anonymous, where it becomes known) -> who it is
        self.erasures: dict[
            Key, list[int]
        ] = {}  # where whose were asked for: what was sent before is forgotten
        self.sent: list[Sent] = []
        self.granted: Counter[Key | tuple[str, Key, str]] = Counter()
        self.winners: dict[str, str] = {}
        self.seen = self.logged = 0
        self.revocable: dict[str, Revocable] = {}
        self.withdrawn: dict[str, dict[str, Any]] = {}
        self.events = events
        self.owners: list[Key] = []  # whose each event is, as it arrives
        self._read(events, Consents(policies.granted))

    def _read(self, events: Sequence[Event], consents: Consents) -> None:
        owners: dict[Key, Key] = {}
        asked = {need for need in self.needs.values() if need is not None}
        erased: dict[Key, int] = {}

        def is_erased(key: Key, time_ms: int) -> bool:
            return time_ms <= erased.get(key, -1)

        for at, event in enumerate(events):
            key = (event.kind, event.customer)
            consents.arrive(event)
            owner = consents.owner(key)
            self.owners.append(owner)
            self.allowed.append({need for need in asked if consents.allow(owner, *need)})
            gone = is_erased(key, event.time_ms) or is_erased(owners.get(key, key), event.time_ms)
            if event.type == ERASURE and not is_erased(key, event.time_ms):
                linked = [anonymous for anonymous, known in owners.items() if known == key]
                for one in (key, *linked):
                    erased[one] = max(event.time_ms, erased.get(one, -1))
                    owners.pop(one, None)
                    self.erasures.setdefault(one, []).append(at)
            if event.type == ERASURE or gone:
                self.place.setdefault((event.id, key), at)
                continue
            anonymous = (ANONYMOUS, event.anonymous)
            if event.anonymous and not is_erased(anonymous, event.time_ms):
                owners[anonymous] = key
                self.merged.setdefault(anonymous, (at, key))
                self.links[anonymous, at] = key
            key = owners.get(key, key)
            self.place.setdefault((event.id, key), at)

    def __call__(self, outcome: Outcome) -> None:
        log = {row["decision_id"]: row for row in outcome.decisions[self.logged :]}
        assert len(log) == len(outcome.decisions) - self.logged
        assert not log.keys() & self.winners.keys(), "a decision was made twice"
        actions = {action["decision_id"]: action for action in outcome.actions[self.seen :]}
        assert len(actions) == len(outcome.actions) - self.seen
        self.logged, self.seen = len(outcome.decisions), len(outcome.actions)
        for row in log.values():
            assert list(row["reasons"]).count(0) == (row["winner"] is not None)
            self.winners[row["decision_id"]] = row["winner"] or ""
        assert actions.keys() == {name for name, row in log.items() if row["winner"]}
        for name, action in actions.items():
            row = log[name]
            assert (row["winner"], row["customer_id"]) == (action["offer"], action["customer_id"])
            assert (row["channel"], row["placement"]) == (action["channel"], action["placement"])
        # a step gives them channel by channel; what was held goes out behind what came after its cause
        for action in sorted(actions.values(), key=lambda each: (each["time"], self.place_of(each))):
            self.check(action)
        for withdrawn in outcome.withdrawn[len(self.withdrawn) :]:
            self.check_withdrawn(withdrawn)

    def check_withdrawn(self, withdrawn: dict[str, Any]) -> None:
        """It takes back once what went out and may be taken back; consent is the reason only where there is none."""
        name = withdrawn["action_id"]
        assert name not in self.withdrawn, "an action was taken back twice"
        self.withdrawn[name] = withdrawn
        of = self.revocable[name]
        assert of.time_ms <= time_ms_of(withdrawn) or withdrawn["reason"] != "expired"
        assert withdrawn["reason"] == "expired" or withdrawn["causation_id"]
        if withdrawn["reason"] in ("consent", "suppressed"):
            at = self.place[withdrawn["causation_id"], (withdrawn["customer_kind"], withdrawn["customer_id"])]
            assert of.register is not None
            assert of.register not in self.allowed[at], f"{withdrawn}: consent is given"

    def still_out(self) -> list[Revocable]:
        """What should have been taken back, for want of consent or by an erasure, and was not."""
        found = []
        for one in self.revocable.values():
            if one.action_id in self.withdrawn or one.register is None:
                continue
            owner, now = one.owner, one.time_ms
            for at in range(one.at + 1, len(self.events)):
                owner = self.links.get((owner, at), owner)
                if self.owners[at] != owner:
                    continue
                now = max(now, self.events[at].clock_ms - LATENESS_MS_DEFAULT, self.events[at].time_ms)
                if now >= one.until_ms or at in self.erasures.get(owner, ()):
                    break
                if one.register not in self.allowed[at]:
                    found.append(one)
                    break
        return found

    def place_of(self, action: dict[str, Any]) -> int:
        return self.place[action["causation_id"], (action["customer_kind"], action["customer_id"])]

    def check(self, action: dict[str, Any]) -> None:
        owner = (action["customer_kind"], action["customer_id"])
        journey = self.journeys[action["journey"]]
        at = self.place_of(action)
        register = self.needs[journey.id, action["offer"]]
        assert register is None or register in self.allowed[at], f"{action} without consent"
        product = action["product_id"] or ""
        category = action["category"] or ""
        time_ms = time_ms_of(action)
        for limit in journey.limits:
            count = 0
            for sent in self.sent:
                same = {"": True, "product": product != "" and product == sent.product}
                same["category"] = category != "" and category == sent.category
                if (
                    sent.journey == journey.id
                    and sent.time_ms > time_ms - limit.within_ms
                    and same[limit.by]
                    and self.belongs(sent, owner, at)
                ):
                    count += 1
            assert count < limit.times, f"{action} passes {limit}"
        channel, purpose = action["channel"], self.purposes[journey.id, action["offer"]]
        for cap in self.caps:
            count = sum(
                sent.channel in cap.channels
                and sent.purpose in cap.purposes
                and sent.time_ms > time_ms - cap.window_ms
                and self.belongs(sent, owner, at)
                for sent in self.sent
            )
            if channel in cap.channels and purpose in cap.purposes:
                assert count < cap.times, f"{action} passes {cap}"
        quiet = sent_in_quiet([action], self.policies, lambda _: action["timezone"] or "UTC")
        assert not quiet, quiet[0]
        offer = self.offers[journey.id, action["offer"]]
        if offer.take_back_ms:
            until_ms = time_ms + offer.take_back_ms
            one = Revocable(action["action_id"], at, owner, register, time_ms, until_ms)
            self.revocable[one.action_id] = one
        self.sent.append(Sent(at, owner, journey.id, time_ms, product, category, channel, purpose))
        if not journey.alongside:
            alone = (action["causation_id"], owner, "alone")
            self.granted[alone] += 1
            assert self.granted[alone] == 1, "two slots for one trigger"
        score = ((action["propensity"] * action["context_weight"]) * action["value"]) * action["lever"]
        assert score == action["score"]
        assert score >= journey.score_min

    def belongs(self, sent: Sent, owner: Key, at: int) -> bool:
        if any(
            sent.at < erasure <= at for one in (sent.owner, owner) for erasure in self.erasures.get(one, ())
        ):
            return False
        if sent.owner == owner:
            return True
        merged = self.merged.get(sent.owner)
        return merged is not None and merged[1] == owner and sent.at < merged[0] <= at


def time_ms_of(message: dict[str, Any]) -> int:
    return round(datetime.fromisoformat(message["time"]).timestamp() * 1_000)


def stream(choice: Choice, count: int) -> list[bytes]:
    """Like random_events.stream, but repeats are true copies that come soon after: none is ever taken twice."""
    world = random_events.crowd(choice) if choice.chance(50) else random_events.world(choice)
    told: set[str] = set()
    payloads = []
    for messages in random_events.messages(choice, replace(world, partitions=choice.integer(1, 3)), count):
        own: list[random_events.Message] = []
        for message in messages:
            if message["id"] not in told:
                told.add(message["id"])
                own.append(message)
        copied: list[random_events.Message] = []
        for n, message in enumerate(own):
            copied.append(message)
            back = own[max(0, n - choice.integer(0, 5))]
            if choice.chance(8) and abs(back["time"] - message["time"]) < HOUR_MS:
                copied.append(dict(back))
        payloads.append(b"\n".join(random_events.lines(choice, copied)))
    return payloads


@pytest.mark.parametrize("seed", seeds(6))
def test_nothing_forbidden_is_ever_sent(seed: int, tmp_path: Path) -> None:
    choice = Seeded(30_000 + seed)
    texts = [OFTEN.replace('channel = "email"', 'channel = "email"\ntake_back = "1d"') + SHARED]
    texts += [random_policies.policy(choice, "random", timers=False)]
    payloads = stream(choice, 1_500)
    for n, text in enumerate(texts):
        (tmp_path / f"{n}.toml").write_text(text)
    policies = load_policies([tmp_path], secret=secret(), native=choice.chance(50))
    settings = EngineSettings(
        secret=secret(),
        shards=choice.pick((1, 3, 16)),
        retention_ms=choice.pick((30, 400)) * DAY_MS,
        sample_share=1.0,
        customers_per_shard_max=1 << 12,
        pool_words_per_shard_max=1 << 22,
    )
    decoder = Decoder(secret(), "EUR", random_events.ARRIVAL_MS, LATENESS_MS_DEFAULT)
    events = decode(payloads, DecodeSettings(random_events.ARRIVAL_MS)).events
    watch = Watch(events, read_policies(texts, secret()))
    outcome = run_segue(payloads, policies, decoder, settings, choice, watch)
    assert len(watch.sent) == len(outcome.actions) > 10
    assert outcome.counters["outstanding_dropped"] > 0 or watch.still_out() == []
    assert outcome.counters["duplicates"] > 0
    again = run_segue(payloads, policies, decoder, settings, Seeded(seed))
    assert Counter(map(repr, again.decisions)) == Counter(map(repr, outcome.decisions))
    assert Counter(map(repr, again.actions)) == Counter(map(repr, outcome.actions))


def test_the_watch_sees_what_is_wrong(tmp_path: Path) -> None:
    """Without consent in the input, or with the input's consent withdrawn, the same action is refused."""
    action = {
        "customer_kind": "user", "customer_id": "u0", "journey": "often", "offer": "mail", "causation_id": "e1",
        "channel": "email", "product_id": "p", "category": None, "time": "2026-03-01T00:00:00.000Z", "propensity": 0.5,
        "context_weight": 1.0, "value": 3.0, "lever": 1.0, "score": 1.5,
        "timezone": None,
    }  # fmt: skip
    policies = read_policies([OFTEN + SHARED], secret())

    def watch(*consents: str) -> Watch:
        lines = [
            *consents,
            '{"id":"e1","type":"Product Viewed","userId":"u0","product_id":"p","time":"2026-03-01T00:00:00Z"}',
        ]
        decoded = decode(["\n".join(lines).encode()], DecodeSettings(random_events.ARRIVAL_MS))
        assert not decoded.dead
        return Watch(decoded.events, policies)

    def consent(number: int, granted: str) -> str:
        return (
            f'{{"id":"c{number}","type":"Consent Changed","userId":"u0","channel":"email","granted":{granted},'
            f'"time":"2026-02-0{number}T00:00:00Z"}}'
        )

    allowed = watch(consent(1, "true"))
    allowed.check(action)
    with pytest.raises(AssertionError, match="passes Limit"):
        allowed.check(action | {"causation_id": "e1", "time": "2026-03-01T00:30:00.000Z"})
    other = action | {"journey": "beside", "causation_id": "e1", "time": "2026-03-01T00:39:59.999Z"}
    with pytest.raises(AssertionError, match="passes Cap"):
        allowed.check(other)
    beside = other | {"time": "2026-03-01T00:40:00.000Z", "propensity": 0.5, "score": 1.5}
    allowed.check(beside)
    with pytest.raises(AssertionError, match="without consent"):
        watch().check(action)
    with pytest.raises(AssertionError, match="without consent"):
        watch(consent(1, "true"), consent(2, "false")).check(action)
