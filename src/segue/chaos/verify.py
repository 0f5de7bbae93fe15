"""Whether what consumers see is what the input demands: nothing missing, nothing twice, nothing else.

Compared are the input topics and the output topics, both as a `read_committed` reader sees them, by way of an oracle
that decides the same input once more, undisturbed. What is demanded:

- A customer whose events (with those of the anonymous identifiers he is linked to) all lie in one partition has one
  order of events, whoever reads them and however often. Everything said about him must be the oracle's, to the bit:
  actions, rows of the decision log, changes and joins.
- Whose events lie in several partitions has no such order, for what arrives first is decided first; the same holds of
  who has an event dated too far ahead of its arrival. Of these only what holds in every order is demanded: no decision
  twice, log and actions that agree, no limit or cap passed, nothing sent that nobody ever agreed to.
- In the decision log each decision id stands exactly once. On a transactional channel an action stands exactly once; on
  an idempotent one it may be repeated, but every repeat says the same.
- What time alone decides (waits, sessions, windows that end) must have been said when it was due before `due_ms`, may
  have been said when it is due before `may_ms`, and must be as the oracle says it.
- An event may be late because the wall clock had moved an idle partition's clock. That is accepted where the message
  was appended more than the lateness after its event; a late event is then no part of the input.
- What takes an action back stands once for each action, on its channel, and only for one that was sent.
- Dead letters are compared by number.
"""

from __future__ import annotations

import base64
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from segue.chaos.topics import Line, lines_of
from segue.errors import SettingsError
from segue.events.names import CHANNELS, PURPOSES
from segue.kafka.read import Record, read_topics
from segue.kafka.settings import InputTopic, KafkaSettings
from segue.limits import AHEAD_MS_MAX
from segue.outputs import CHANGES, DEAD_LETTERS, DECISIONS, JOINS, LATE
from segue.policy.compiled import CompiledPolicies
from segue_kernels.plan import (
    JOURNEY_LIMITS_END,
    JOURNEY_LIMITS_START,
    LIMIT_STREAM,
    LIMIT_TIMES,
    LIMIT_WINDOW_MS,
    OFFER_CONSENT,
    OFFER_CONSENT_LEAST,
    OFFER_CONTACT,
    STREAM_BY,
    WINDOW_HOUR,
    WINDOW_MONTH,
    WINDOW_WEEK,
)

WITHDRAWN = "withdrawn"  # kind of what takes an action back, and its line in the verdict
SHOWN = 5  # examples of each finding
_BY = ("", "product_id", "category")  # in the order of plan.BY_*
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Person = tuple[str, str]  # kind and identifier


@dataclass
class Expected:
    """What an oracle says. Contents are whatever the oracle compares by.

    actions    by decision id: channel and content; withdrawn by action id, so too
    decisions  by decision id: content
    late, dead   the lines' bytes
    """

    actions: dict[str, tuple[str, Hashable]] = field(default_factory=dict)
    withdrawn: dict[str, tuple[str, Hashable]] = field(default_factory=dict)
    decisions: dict[str, Hashable] = field(default_factory=dict)
    changes: Counter[Hashable] = field(default_factory=Counter)
    joins: Counter[Hashable] = field(default_factory=Counter)
    late: Counter[bytes] = field(default_factory=Counter)
    dead: int = 0


class Oracle(Protocol):
    """Decides the input once more, and brings outputs to the form in which it compares."""

    def decide(
        self, partitions: Sequence[Sequence[bytes]], due_ms: int, may_ms: int
    ) -> tuple[Expected, Expected]:
        """What must have been said, and what may have been said by now (which includes the former)."""

    def action(self, message: Mapping[str, Any]) -> Hashable:
        """The content of an action."""

    def withdrawn(self, message: Mapping[str, Any]) -> Hashable:
        """The content of what takes an action back."""

    def decision(self, row: Mapping[str, Any]) -> Hashable:
        """The content of a row of the decision log."""

    def change(self, row: Mapping[str, Any]) -> Hashable:
        """The content of a row of the changes."""

    def credit(self, row: Mapping[str, Any]) -> Hashable:
        """The content of a row of the joins."""


@dataclass(frozen=True)
class Rules:
    """What holds in every order of events: limits by journey as (times, within_ms, field), caps as (times, window as
    plan.CAP_WINDOW, contacts), the contact of an offer and the consent (channel, purpose) that it needs, by journey and
    offer.

    Not among them is consent where what is not known counts as granted: none must have been given in every order.

    timezone  of customers who have named none
    """

    limits: Mapping[str, Sequence[tuple[int, int, str]]]
    caps: Sequence[tuple[int, int, int]]
    contacts: Mapping[tuple[str, str], int]
    consents: Mapping[tuple[str, str], tuple[str, str]]
    reads_tables: bool
    timezone: str


def rules_of(policies: CompiledPolicies, timezone: str = "UTC") -> Rules:
    """The rules of compiled policies, in a deployment with this time zone."""
    limits: dict[str, list[tuple[int, int, str]]] = {}
    for info, journey in zip(policies.journey_infos, policies.journeys.tolist(), strict=True):
        rows = policies.limits[journey[JOURNEY_LIMITS_START] : journey[JOURNEY_LIMITS_END]].tolist()
        limits[info.id] = [
            (row[LIMIT_TIMES], row[LIMIT_WINDOW_MS], _BY[int(policies.streams[row[LIMIT_STREAM], STREAM_BY])])
            for row in rows
        ]
    consents = {}
    asked = policies.offers[:, [OFFER_CONSENT, OFFER_CONSENT_LEAST]].tolist()
    for offer, (code, least) in zip(policies.offer_infos, asked, strict=True):
        if code >= 0 and least > 0:
            need = (CHANNELS[code // len(PURPOSES)], PURPOSES[code % len(PURPOSES)])
            consents[policies.journey_infos[offer.journey].id, offer.id] = need
    caps = [(cap.times, cap.window, cap.contacts) for cap in policies.cap_infos]
    contacts = {
        (policies.journey_infos[offer.journey].id, offer.id): contact
        for offer, contact in zip(
            policies.offer_infos, policies.offers[:, OFFER_CONTACT].tolist(), strict=True
        )
    }
    return Rules(limits, caps, contacts, consents, bool(len(policies.lookups)), timezone)


@dataclass
class Counts:
    """Of one output. `repeated`: further copies of an action on an idempotent channel, which is allowed."""

    found: int = 0
    missing: int = 0
    doubled: int = 0
    wrong: int = 0
    repeated: int = 0


@dataclass
class Verdict:
    """What was found, by output; `examples` says the first few of each kind in words."""

    outputs: dict[str, Counts] = field(default_factory=dict)
    passed_caps: int = 0
    no_consent: int = 0
    events: int = 0
    customers: int = 0
    unordered: int = 0
    examples: dict[str, list[str]] = field(default_factory=dict)

    def of(self, output: str) -> Counts:
        """The counts of an output."""
        return self.outputs.setdefault(output, Counts())

    def tell(self, kind: str, text: str) -> None:
        """Keep an example."""
        examples = self.examples.setdefault(kind, [])
        if len(examples) < SHOWN:
            examples.append(text)

    @property
    def missing(self) -> int:
        """What is missing, in all outputs."""
        return sum(counts.missing for counts in self.outputs.values())

    @property
    def beyond_repair(self) -> int:
        """What no waiting can make good: what is there and must not be."""
        return sum(c.doubled + c.wrong for c in self.outputs.values()) + self.passed_caps + self.no_consent

    @property
    def ok(self) -> bool:
        """Nothing missing, doubled or wrong."""
        return self.missing + self.beyond_repair == 0

    @property
    def found(self) -> int:
        """What was compared, in all outputs."""
        return sum(counts.found for counts in self.outputs.values())

    def figures(self) -> dict[str, Any]:
        """As a benchmark reports it: right only if something was compared."""
        return {
            "customers": self.customers,
            "compared": self.found,
            "missing": self.missing,
            "wrong": self.beyond_repair,
            "right": self.ok and self.found > 0,
        }

    def __str__(self) -> str:
        lines = [
            f"{self.events:,} events of {self.customers:,} customers, {self.unordered:,} of them in several partitions",
            f"{'output':16s} {'found':>9s} {'missing':>8s} {'doubled':>8s} {'wrong':>8s} {'repeated':>8s}",
        ]
        for name, c in sorted(self.outputs.items()):
            lines.append(
                f"{name:16s} {c.found:9,d} {c.missing:8,d} {c.doubled:8,d} {c.wrong:8,d} {c.repeated:8,d}"
            )
        lines.append(f"limits and caps passed {self.passed_caps:,}, sent without consent {self.no_consent:,}")
        for kind, examples in self.examples.items():
            lines += [f"{kind}:", *(f"  {text}" for text in examples)]
        return "\n".join(lines)


# --- what came in -------------------------------------------------------------------------------------------


class _Sender(msgspec.Struct):
    """What tells whose an event is."""

    id: str = ""
    messageId: str = ""  # noqa: N815
    type: str = ""
    event: str = ""
    time: str = ""
    userId: str = ""  # noqa: N815
    loyaltyId: str = ""  # noqa: N815
    anonymousId: str = ""  # noqa: N815
    previousId: str = ""  # noqa: N815
    channel: str = ""
    purpose: str = ""
    granted: bool = False
    data: msgspec.Raw = msgspec.Raw()
    batch: list[msgspec.Raw] = []


class _Groups:
    """Identifiers that an identify or alias links belong to one group."""

    def __init__(self) -> None:
        self._parent: dict[Person, Person] = {}

    def root(self, person: Person) -> Person:
        """The group's name."""
        parent = self._parent.setdefault(person, person)
        while parent != person:
            self._parent[person] = self._parent[parent]
            person, parent = parent, self._parent[parent]
        return person

    def link(self, a: Person, b: Person) -> None:
        """They are one from now on."""
        first, second = sorted((self.root(a), self.root(b)))
        self._parent[second] = first

    def everyone(self) -> list[Person]:
        """All identifiers seen."""
        return list(self._parent)


def _sender(raw: bytes) -> _Sender | None:
    try:
        return msgspec.json.decode(raw, type=_Sender, strict=False)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return None


def _senders(line: bytes) -> list[_Sender]:
    """Whose the events of a line are; none if it can't be read."""
    sender = _sender(line)
    if sender is None:
        return []
    if sender.batch:
        return [each for each in map(_sender, map(bytes, sender.batch)) if each is not None]
    if bytes(sender.data):
        inner = _sender(bytes(sender.data))
        if inner is None:
            return []
        inner.type, inner.time = sender.type, sender.time
        return [inner]
    return [sender]


def _persons(sender: _Sender) -> list[Person]:
    """Who it is about, and whom it links to him."""
    kind = sender.type if sender.type != "track" else sender.event
    if sender.userId:
        who = ("user", sender.userId)
    elif sender.loyaltyId:
        who = ("loyalty", sender.loyaltyId)
    else:
        return [("anonymous", sender.anonymousId)] if sender.anonymousId else []
    linked = {"identify": sender.anonymousId, "alias": sender.previousId}.get(kind, "")
    return [who, ("anonymous", linked)] if linked else [who]


def _time_ms(text: str) -> int | None:
    try:
        return int((datetime.fromisoformat(text) - _EPOCH).total_seconds() * 1_000)
    except (ValueError, TypeError):
        return None


@dataclass
class Input:
    """The input topics, partition by partition, and what follows from them alone.

    unordered  identifiers of which only what holds in every order may be demanded
    granted    (channel, purpose) that anybody of a group ever agreed to
    """

    partitions: dict[str, list[Line]]
    groups: _Groups = field(default_factory=_Groups)
    unordered: set[str] = field(default_factory=set)
    granted: dict[Person, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    customers: int = 0

    def study(self) -> None:
        """Find out who belongs together and whose order is certain."""
        homes: dict[Person, set[str]] = defaultdict(set)
        ahead: set[Person] = set()
        consents: list[tuple[Person, tuple[str, str]]] = []
        for name, lines in self.partitions.items():
            for line in lines:
                for sender in _senders(line.line):
                    persons = _persons(sender)
                    for person in persons:
                        self.groups.root(person)
                        homes[person].add(name)
                    if len(persons) == 2:
                        self.groups.link(*persons)
                    moment = _time_ms(sender.time)
                    if persons and moment is not None and moment > line.time_ms + AHEAD_MS_MAX:
                        ahead.add(persons[0])
                    if persons and sender.type == "Consent Changed" and sender.granted:
                        consents.append((persons[0], (sender.channel, sender.purpose or "marketing")))
        by_group: dict[Person, set[str]] = defaultdict(set)
        for person, names in homes.items():
            by_group[self.groups.root(person)] |= names
        uncertain = {root for root, names in by_group.items() if len(names) > 1}
        uncertain |= {self.groups.root(person) for person in ahead}
        self.unordered = {p[1] for p in self.groups.everyone() if self.groups.root(p) in uncertain}
        for person, register in consents:
            self.granted[self.groups.root(person)].add(register)
        self.customers = len(by_group)

    def sampled(self, one_in: int) -> Callable[[str], bool]:
        """Keep the lines of one group in so many; tells whether an identifier is among those kept."""
        if one_in == 1:
            return lambda _: True

        def chosen(person: Person) -> bool:
            return zlib.crc32("/".join(self.groups.root(person)).encode()) % one_in == 0

        everyone = self.groups.everyone()
        dropped = {person[1] for person in everyone if not chosen(person)}
        kept = {person[1] for person in everyone if chosen(person)} - dropped
        for name, lines in self.partitions.items():
            self.partitions[name] = [
                line
                for line in lines
                if any(person[1] in kept for s in _senders(line.line) for person in _persons(s))
            ]
        return lambda identifier: identifier in kept


def read_input(
    brokers: str, topics: Sequence[InputTopic], properties: Mapping[str, str] = {}, holding: bytes = b""
) -> Input:
    """Everything in the input topics; or only the events that hold these bytes, which is quick."""
    forms = {topic.name: topic.form for topic in topics}
    partitions: dict[str, list[Line]] = {}
    for record in read_topics(brokers, list(forms), properties=properties):
        if holding not in record.value:
            continue
        lines = [line for line in lines_of(record, forms[record.topic]) if holding in line.raw]
        partitions.setdefault(f"{record.topic}/{record.partition:05d}", []).extend(lines)
    return Input(dict(sorted(partitions.items())))


# --- what came out ------------------------------------------------------------------------------------------


@dataclass
class Output:
    """The output topics: messages as they are, tables as rows."""

    actions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by channel
    withdrawn: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by channel
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    lines: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))  # dead letters and late
    misplaced: list[str] = field(default_factory=list)


def read_output(brokers: str, prefix: str, properties: Mapping[str, str] = {}, customers: str = "") -> Output:
    """Everything in the output topics; or only what is about customers whose identifiers end so."""
    output = Output()
    others = (DECISIONS, CHANGES, JOINS, DEAD_LETTERS, LATE)
    names = {prefix + name: name for name in (*CHANNELS, *others)}
    for record in read_topics(brokers, list(names), properties=properties):
        name = names[record.topic]
        if name in (DECISIONS, CHANGES, JOINS):
            table = pa.ipc.open_stream(record.value).read_all()
            if customers:
                table = table.filter(pc.ends_with(table["customer_id"], customers))
            output.tables[name] += table.to_pylist()
        elif name in (DEAD_LETTERS, LATE):
            output.lines[name] += [line for line in record.value.split(b"\n") if line.strip()]
        elif (record.key or b"").endswith(customers.encode()):
            _take_action(output, name, record)
    return output


def _take_action(output: Output, channel: str, record: Record) -> None:
    action = msgspec.json.decode(record.value)
    of = output.withdrawn if action["kind"] == WITHDRAWN else output.actions
    of.setdefault(channel, []).append(action)
    if action["channel"] != channel or record.key != action["customer_id"].encode():
        output.misplaced.append(
            f"{record.topic}/{record.partition} offset {record.offset}: key {record.key!r}"
        )


# --- the verdict --------------------------------------------------------------------------------------------


def verify(
    input_: Input,
    output: Output,
    oracle: Oracle,
    rules: Rules,
    kafka: KafkaSettings,
    *,
    lateness_ms: int,
    due_ms: int,
    may_ms: int,
    one_in: int = 1,
) -> Verdict:
    """Compare what came out with what the input demands.

    due_ms, may_ms  what time alone decides must have been said, and may have been said, before these (ms since 1970)
    one_in          look at one group of identifiers in so many
    """
    verdict = Verdict()
    input_.study()
    verdict.customers = input_.customers
    chosen = input_.sampled(one_in)
    unordered = {p[1] for p in input_.groups.everyone()} if rules.reads_tables else input_.unordered
    verdict.unordered = len(unordered)
    judge = _Judge(verdict, oracle, unordered, chosen)
    late = judge.late(input_, output, lateness_ms)
    verdict.events = sum(map(len, input_.partitions.values()))
    partitions = [[line.line for line in lines] for lines in input_.partitions.values()]
    must, may = oracle.decide(partitions, due_ms, may_ms)
    if one_in == 1:
        judge.bag(LATE, late, must.late, must.late)
        judge.dead(len(output.lines[DEAD_LETTERS]), must.dead)
    actions = judge.actions(output, must, may, kafka)
    log = judge.log(output.tables[DECISIONS], must, may)
    judge.agreement(actions, log)
    judge.withdrawn(output, must, may, kafka, actions)
    judge.rows(CHANGES, output.tables[CHANGES], oracle.change, must.changes, may.changes)
    judge.rows(JOINS, output.tables[JOINS], oracle.credit, must.joins, may.joins)
    judge.limits(actions.values(), rules)
    judge.caps(actions.values(), rules)
    judge.consent(actions.values(), rules, input_)
    for place in output.misplaced:
        verdict.of("placement").wrong += 1
        verdict.tell("an action in the wrong place, or with the wrong key", place)
    return verdict


class _Judge:
    def __init__(
        self, verdict: Verdict, oracle: Oracle, unordered: set[str], chosen: Callable[[str], bool]
    ) -> None:
        self.verdict = verdict
        self.oracle = oracle
        self.unordered = unordered
        self.chosen = chosen

    def late(self, input_: Input, output: Output, lateness_ms: int) -> Counter[bytes]:
        """Take late events that the wall clock explains out of the input; the others."""
        told = Counter(_raw(line) for line in output.lines[LATE])
        self.verdict.of(LATE).found = sum(told.values())
        if not told:
            return told
        for name, lines in input_.partitions.items():
            kept = []
            for line in lines:
                if told[line.raw] and _is_explained(line, lateness_ms):
                    told[line.raw] -= 1
                else:
                    kept.append(line)
            input_.partitions[name] = kept
        return +told

    def dead(self, found: int, expected: int) -> None:
        """Dead letters by number."""
        counts = self.verdict.of(DEAD_LETTERS)
        counts.found = found
        counts.missing = max(0, expected - found)
        counts.doubled = max(0, found - expected)

    def actions(
        self, output: Output, must: Expected, may: Expected, kafka: KafkaSettings
    ) -> dict[str, dict[str, Any]]:
        """Actions of all channels, each once, by decision id."""
        once: dict[str, dict[str, Any]] = {}
        for channel, messages in sorted(output.actions.items()):
            counts = self.verdict.of(channel)
            transactional = kafka.delivery_of(channel) == "transactional"
            for message in messages:
                if not self.chosen(message["customer_id"]):
                    continue
                counts.found += 1
                name = message["decision_id"]
                content = self.oracle.action(message)
                if name in once:
                    if self.oracle.action(once[name]) != content:
                        counts.wrong += 1
                        self.verdict.tell("a repeat that says something else", f"{once[name]}\n    {message}")
                    elif transactional:
                        counts.doubled += 1
                        self.verdict.tell("an action twice", f"{channel} {_who(message)}")
                    else:
                        counts.repeated += 1
                    continue
                once[name] = message
                if message["customer_id"] not in self.unordered and may.actions.get(name) != (
                    channel,
                    content,
                ):
                    counts.wrong += 1
                    wanted = may.actions.get(name, "no such action")
                    self.verdict.tell("a wrong action", f"{message}\n    expected: {wanted}")
        for name, (channel, content) in must.actions.items():
            if name not in once and not self._is_about_unordered(content):
                self.verdict.of(channel).missing += 1
                self.verdict.tell("a missing action", f"{channel} {name} {content}")
        return once

    def withdrawn(
        self,
        output: Output,
        must: Expected,
        may: Expected,
        kafka: KafkaSettings,
        actions: Mapping[str, dict[str, Any]],
    ) -> None:
        """What takes actions back, each once by action id, and only what was sent. That holds in every order."""
        counts = self.verdict.of(WITHDRAWN)
        sent = {action["action_id"] for action in actions.values()}
        once: dict[str, Hashable] = {}
        for channel, messages in sorted(output.withdrawn.items()):
            transactional = kafka.delivery_of(channel) == "transactional"
            for message in messages:
                if not self.chosen(message["customer_id"]):
                    continue
                counts.found += 1
                name = message["action_id"]
                content = self.oracle.withdrawn(message)
                if name in once:
                    if once[name] == content and not transactional:
                        counts.repeated += 1
                    else:
                        counts.doubled += 1
                        self.verdict.tell("an action taken back twice", f"{channel} {_who(message)}")
                    continue
                once[name] = content
                ordered = message["customer_id"] not in self.unordered
                if name not in sent or (ordered and may.withdrawn.get(name) != (channel, content)):
                    counts.wrong += 1
                    wanted = may.withdrawn.get(name, "that it stands")
                    self.verdict.tell("wrongly taken back", f"{message}\n    expected: {wanted}")
        for name, (channel, content) in must.withdrawn.items():
            if name not in once and not self._is_about_unordered(content):
                counts.missing += 1
                self.verdict.tell("not taken back", f"{channel} {name} {content}")

    def log(self, rows: Iterable[dict[str, Any]], must: Expected, may: Expected) -> dict[str, dict[str, Any]]:
        """Rows of the decision log, each once, by decision id."""
        counts = self.verdict.of(DECISIONS)
        once: dict[str, dict[str, Any]] = {}
        for row in rows:
            if not self.chosen(row["customer_id"]):
                continue
            counts.found += 1
            name = row["decision_id"]
            if name in once:
                counts.doubled += 1
                self.verdict.tell("a decision twice", _who(row))
                continue
            once[name] = row
            content = self.oracle.decision(row)
            if row["customer_id"] not in self.unordered and may.decisions.get(name) != content:
                counts.wrong += 1
                wanted = may.decisions.get(name, "no such decision")
                self.verdict.tell("a wrong decision", f"{content}\n    expected: {wanted}")
        for name, content in must.decisions.items():
            if name not in once and not self._is_about_unordered(content):
                counts.missing += 1
                self.verdict.tell("a missing decision", f"{name} {content}")
        return once

    def agreement(self, actions: Mapping[str, dict[str, Any]], log: Mapping[str, dict[str, Any]]) -> None:
        """What the log says was sent was sent, and nothing else. Holds in every order."""
        for name, row in log.items():
            if row["winner"] and name not in actions:
                self.verdict.of(row["channel"]).missing += 1
                self.verdict.tell("decided, but not sent", _who(row))
        for name, action in actions.items():
            said = log.get(name)
            if said is None:
                self.verdict.of(DECISIONS).missing += 1
                self.verdict.tell("sent, but not in the log", _who(action))
            elif (said["winner"], said["customer_id"]) != (action["offer"], action["customer_id"]):
                self.verdict.of(DECISIONS).wrong += 1
                self.verdict.tell("the log has another winner", f"{_who(action)}, log: {said['winner']}")

    def rows(
        self,
        name: str,
        rows: Sequence[Mapping[str, Any]],
        content: Callable[[Mapping[str, Any]], Hashable],
        must: Counter[Hashable],
        may: Counter[Hashable],
    ) -> None:
        """Rows without an id of their own, as bags."""
        mine = [row for row in rows if self.chosen(row["customer_id"])]
        certain = [row for row in mine if row["customer_id"] not in self.unordered]
        ordered = Counter({c: n for c, n in must.items() if not self._is_about_unordered(c)})
        self.bag(name, Counter(map(content, certain)), ordered, may)
        self.verdict.of(name).found = len(mine)

    def bag(self, name: str, found: Counter[Any], must: Counter[Any], may: Counter[Any]) -> None:
        """Counts of things without an id."""
        counts = self.verdict.of(name)
        for thing, number in (must - found).items():
            counts.missing += number
            self.verdict.tell(f"missing in {name}", str(thing))
        for thing, number in (found - may).items():
            if may[thing]:
                counts.doubled += number
                self.verdict.tell(f"twice in {name}", str(thing))
            else:
                counts.wrong += number
                self.verdict.tell(f"wrong in {name}", str(thing))

    def limits(self, actions: Iterable[Mapping[str, Any]], rules: Rules) -> None:
        """How many actions came though a limit was reached, by what customers got."""
        sent: dict[tuple[str, str, str], list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
        for action in actions:
            key = (action["customer_kind"], action["customer_id"], action["journey"])
            sent[key].append((_time_ms(action["time"]) or 0, action))
        for (_, _, journey), mine in sent.items():
            mine.sort(key=lambda pair: pair[0])
            for times, within_ms, name in rules.limits.get(journey, ()):
                by_value: dict[Any, list[int]] = defaultdict(list)
                for time_ms, action in mine:
                    value = action[name] if name else ""
                    if value is None:
                        continue
                    earlier = by_value[value]
                    if len(earlier) >= times and earlier[-times] > time_ms - within_ms:
                        self.verdict.passed_caps += 1
                        self.verdict.tell(
                            "a limit was passed", f"{times} in {within_ms} ms {name}: {_who(action)}"
                        )
                    earlier.append(time_ms)

    def caps(self, actions: Iterable[Mapping[str, Any]], rules: Rules) -> None:
        """How many actions came though a cap was reached, by what customers got and the time zones that it names."""
        sent: dict[Person, list[tuple[int, int, Mapping[str, Any]]]] = defaultdict(list)
        for action in actions:
            contact = rules.contacts.get((action["journey"], action["offer"]))
            if contact is not None:
                key = (action["customer_kind"], action["customer_id"])
                sent[key].append((_time_ms(action["time"]) or 0, contact, action))
        for mine in sent.values():
            mine.sort(key=lambda each: each[0])
            for times, window, contacts in rules.caps:
                earlier: list[int] = []
                for time_ms, contact, action in mine:
                    if not contacts >> contact & 1:
                        continue
                    start_ms = time_ms - window + 1
                    if window < 0:
                        start_ms = period_start_ms(time_ms, action["timezone"] or rules.timezone, window)
                    if len(earlier) >= times and earlier[-times] >= start_ms:
                        self.verdict.passed_caps += 1
                        said = f"{times} from {start_ms} to {time_ms} ms: {_who(action)}"
                        self.verdict.tell("a cap was passed", said)
                    earlier.append(time_ms)

    def consent(self, actions: Iterable[Mapping[str, Any]], rules: Rules, input_: Input) -> None:
        """How many actions went to somebody who never agreed to such a thing."""
        for action in actions:
            need = rules.consents.get((action["journey"], action["offer"]))
            if need is None:
                continue
            root = input_.groups.root((action["customer_kind"], action["customer_id"]))
            if need not in input_.granted.get(root, ()):
                self.verdict.no_consent += 1
                self.verdict.tell("sent without consent", f"{need}: {_who(action)}")

    def _is_about_unordered(self, content: Any) -> bool:
        return content.customer in self.unordered


def _who(row: Mapping[str, Any]) -> str:
    return f"{row['decision_id']} {row['customer_id']} {row['channel']} caused by {row['causation_id']}"


def _raw(line: bytes) -> bytes:
    """The bytes of a late event or dead letter."""
    told = msgspec.json.decode(line)
    return (
        base64.b64decode(told["raw_base64"]) if told.get("raw_base64") else (told.get("raw") or "").encode()
    )


def _is_explained(line: Line, lateness_ms: int) -> bool:
    """Whether it was appended so late that the wall clock had passed it by."""
    times = [_time_ms(sender.time) for sender in _senders(line.line)]
    return any(moment is not None and line.time_ms - moment > lateness_ms for moment in times)


def period_start_ms(time_ms: int, timezone: str, window: int) -> int:
    """When the zone's hour, day, week or month (plan.WINDOW_*) began that a time lies in: the first instant that shows
    its date or a later one; an hour also begins where the clocks change."""
    zone = ZoneInfo(timezone)
    local = datetime.fromtimestamp(time_ms / 1_000, zone)
    if window == WINDOW_HOUR:
        first = time_ms - 1_000 * (60 * local.minute + local.second) - time_ms % 1_000
        last = time_ms  # a change of the clocks since the full hour lies in (first, last]
        while datetime.fromtimestamp(first / 1_000, zone).utcoffset() != local.utcoffset():
            middle = (first + last) // 2
            if middle == first:
                return last
            if datetime.fromtimestamp(middle / 1_000, zone).utcoffset() == local.utcoffset():
                last = middle
            else:
                first = middle
        return first
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if window == WINDOW_WEEK:
        midnight -= timedelta(days=midnight.weekday())
    elif window == WINDOW_MONTH:
        midnight = midnight.replace(day=1)
    return round(midnight.timestamp() * 1_000)


def check_topics(topics: Sequence[InputTopic]) -> None:
    """At least one, each once."""
    names = [topic.name for topic in topics]
    if not names or len(set(names)) < len(names):
        raise SettingsError("verify", f"input topics: {', '.join(names) or 'none'}", "name each topic once")
