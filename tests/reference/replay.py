"""Segue run step by step, so that it can crash: what it hands out in each step, and the receipts of what was sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from segue.actions.encode import ActionEncoder
from segue.decide.bench import Bench, Turn
from segue.decide.decisions import Decisions, Words
from segue.decide.engine import ShardEngine
from segue.identity.anonymous import AnonymousShard
from segue.kafka.receipts import offer_hash
from segue.outputs import CHANGES, DECISIONS, JOINS
from segue.policy.compiled import CompiledPolicies
from segue.reference.world import ReferenceWorld, types_for_all
from segue.routing.arrivals import Arrivals
from segue.routing.packet import SourceBatch, packets
from segue.state.shard import EngineSettings
from segue_kernels import receipt, record
from segue_kernels import shard as words
from segue_kernels.plan import OFFER_CONTACT
from tests.reference.journeys import Journey
from tests.reference.tables import ALONG_THE_WAY

_TABLES = {DECISIONS: "decisions", CHANGES: "changes", JOINS: "joins"}


class Run:
    """All shards of one deployment in one worker, from nothing; batches are pushed one by one."""

    def __init__(
        self,
        policies: CompiledPolicies,
        settings: EngineSettings,
        partitions: int,
        merged: bool,
        world: ReferenceWorld | None = None,
    ) -> None:
        if world is None:
            world = ReferenceWorld(
                "UTC", policies.lookups, policies.lookup_fields, ALONG_THE_WAY, settings.secret
            )
        self._world = world
        self._policies = policies
        self._settings = settings
        self._partitions = partitions
        self._merged = merged
        self._types = types_for_all(policies)
        shards = self._shards = settings.shards
        self._bench, of_anonymous = Bench(policies), Bench(policies)
        self.known = [
            ShardEngine(policies, settings, world, merged, part, self._bench) for part in range(shards)
        ]
        self._arrivals = [Arrivals(partitions, settings.lateness_ms, merged) for _ in range(shards)]
        self.anonymous = [
            AnonymousShard(n, policies, settings, partitions, world, merged, of_anonymous)
            for n in range(shards)
        ]

    def push(self, batch: SourceBatch) -> list[Decisions]:
        """One batch to all shards, and all that is due by it."""
        decided: list[Decisions] = []
        for destination, packet in packets(batch, self._shards, self._partitions, self._types)[0]:
            if destination < self._shards:
                self._arrivals[destination].push(packet)
            else:
                self.anonymous[destination - self._shards].arrivals.push(packet)
        for shard in self.anonymous:
            here, passed = shard.process()
            due, _ = shard.advance(1 << 40)
            decided += here + due
            for destination, packet in passed:
                self._arrivals[destination].push(packet)
        turns = []
        for engine, arrivals in zip(self.known, self._arrivals, strict=True):
            released = arrivals.release()
            turn = Turn(engine) if released is None else engine.turn(engine.hear(released))
            turns.append(engine.fires(turn, arrivals.watermark_ms(), 1 << 40))
        return decided + self._bench.process(turns)

    def saved(self, policies: CompiledPolicies | None = None) -> Run:
        """One that goes on from what this one saves, perhaps under other policies; this one does not."""
        other = Run(policies or self._policies, self._settings, self._partitions, self._merged, self._world)
        for engine, fresh in zip(self.known, other.known, strict=True):
            fresh.restore(engine.save())
        for shard, new in zip(self.anonymous, other.anonymous, strict=True):
            new.restore(shard.save({}))
        for n, arrivals in enumerate(self._arrivals):
            other._arrivals[n].restore(arrivals.save(), other.known[n].state.carry_history)
        return other

    def engines(self) -> list[ShardEngine]:
        return [*self.known, *(shard.engine for shard in self.anonymous)]

    def charge(self, receipts: Words) -> int:
        """What was sent since, to whom it belongs; how many sends that were."""
        return sum(engine.charge(receipts) for engine in self.engines())

    def counters(self) -> Counter[str]:
        counted: Counter[str] = Counter()
        for engine in self.engines():
            counted.update(engine.state.counters())
        return counted


@dataclass
class Seen:
    """What a consumer of all topics has read: rows as dicts."""

    actions: list[dict[str, Any]] = field(default_factory=list)
    withdrawn: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    joins: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: Seen) -> None:
        self.actions += other.actions
        self.withdrawn += other.withdrawn

    def read(self, encoder: ActionEncoder, decided: Iterable[Decisions]) -> None:
        for name, payload in encoder.encode(list(decided)):
            if name in _TABLES:
                assert not isinstance(payload, bytes)
                getattr(self, _TABLES[name]).extend(payload.to_pylist())
            else:
                assert isinstance(payload, bytes)
                for line in map(msgspec.json.decode, payload.splitlines()):
                    (self.actions if line["kind"] == "action" else self.withdrawn).append(line)


def receipts_of(
    decided: Iterable[Decisions], policies: CompiledPolicies, channels: Sequence[str] | None = None
) -> Words:
    """The receipts in the headers of all messages; with channels, only of these channels' actions and what takes
    them back."""
    rows = []
    for one in decided:
        sent = {int(action[words.ACTION_LOG]): action for action in one.actions}
        counts = np.diff(one.spans[:, words.SPAN_LOG_END], prepend=0)
        whose = np.repeat(one.spans[:, [words.SPAN_PART, words.SPAN_SEQUENCE]], counts, axis=0)
        for n, log in enumerate(one.log.tolist()):
            header = one.records[log[words.LOG_RECORD]]
            row = np.zeros(receipt.RECEIPT_WORDS, np.int64)
            row[[receipt.RECEIPT_PART, receipt.RECEIPT_SEQUENCE]] = whose[n]
            row[receipt.RECEIPT_CUSTOMER_LO] = header[record.CUSTOMER_LO]
            row[receipt.RECEIPT_CUSTOMER_HI] = header[record.CUSTOMER_HI]
            row[receipt.RECEIPT_CUSTOMER_KIND] = (header[record.PACK] >> 8) & record.FLAG_KIND
            row[receipt.RECEIPT_DECISION_LO] = log[words.LOG_DECISION_LO]
            row[receipt.RECEIPT_DECISION_HI] = log[words.LOG_DECISION_HI]
            row[receipt.RECEIPT_TIME] = log[words.LOG_NOW]
            row[receipt.RECEIPT_ZONE] = log[words.LOG_ZONE]
            winner = log[words.LOG_WINNER]
            channel = ""
            if winner >= 0:
                offer = policies.offer_infos[winner]
                channel = offer.channel
                row[receipt.RECEIPT_OFFER] = offer_hash(policies.journey_infos[offer.journey].id, offer.id)
                row[receipt.RECEIPT_CONTACT] = 1 + policies.offers[winner, OFFER_CONTACT]
            if n in sent:
                item = one.records[sent[n][words.ACTION_ITEM]]
                row[receipt.RECEIPT_PRODUCT] = item[record.PRODUCT]
                row[receipt.RECEIPT_CATEGORY] = item[record.CATEGORY]
                if channels is None or channel in channels:
                    rows.append(row.copy())
                    rows[-1][receipt.RECEIPT_FLAGS] = receipt.RECEIPT_IS_SENT
            held = log[words.LOG_HELD]
            if held >= 0:
                offer = policies.offer_infos[held]
                row[receipt.RECEIPT_OFFER] = offer_hash(policies.journey_infos[offer.journey].id, offer.id)
                row[receipt.RECEIPT_FLAGS] = receipt.RECEIPT_IS_HELD
            if channels is None:
                rows.append(row)
                rows[-1][receipt.RECEIPT_FLAGS] |= receipt.RECEIPT_IS_LOGGED
        ends = one.spans[:, words.SPAN_WITHDRAWN_END]
        for n, withdrawn in enumerate(one.withdrawn.tolist()):
            header = one.records[withdrawn[words.WITHDRAWN_RECORD]]
            span = one.spans[int(np.argmax(ends > n))]
            row = np.zeros(receipt.RECEIPT_WORDS, np.int64)
            row[receipt.RECEIPT_PART] = span[words.SPAN_PART]
            row[receipt.RECEIPT_SEQUENCE] = span[words.SPAN_SEQUENCE]
            row[receipt.RECEIPT_CUSTOMER_LO] = header[record.CUSTOMER_LO]
            row[receipt.RECEIPT_CUSTOMER_HI] = header[record.CUSTOMER_HI]
            row[receipt.RECEIPT_CUSTOMER_KIND] = (header[record.PACK] >> 8) & record.FLAG_KIND
            row[receipt.RECEIPT_DECISION_LO] = withdrawn[words.WITHDRAWN_DECISION_LO]
            row[receipt.RECEIPT_DECISION_HI] = withdrawn[words.WITHDRAWN_DECISION_HI]
            row[receipt.RECEIPT_TIME] = withdrawn[words.WITHDRAWN_NOW]
            row[receipt.RECEIPT_FLAGS] = receipt.RECEIPT_IS_WITHDRAWN
            channel = policies.offer_infos[withdrawn[words.WITHDRAWN_OFFER]].channel
            if channels is None or channel in channels:
                rows.append(row)
    return np.array(rows, np.int64).reshape(len(rows), receipt.RECEIPT_WORDS)


def limits_passed(actions: Iterable[dict[str, Any]], journeys: Sequence[Journey]) -> list[str]:
    """Every limit that somebody's actions pass in some window of it."""
    times: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for action in actions:
        key = (action["customer_kind"], action["customer_id"], action["journey"])
        times.setdefault(key, []).append(action)
    passed = []
    for (kind, customer, name), sent in times.items():
        journey = next(journey for journey in journeys if journey.id == name)
        for limit in journey.limits:
            by = {"": "", "product": "product_id", "category": "category"}[limit.by or ""]
            groups: dict[str, list[int]] = {}
            for action in sent:
                if not by or action[by]:
                    at = np.datetime64(action["time"][:-1], "ms").astype(np.int64)
                    groups.setdefault(action[by] if by else "", []).append(int(at))
            for group, moments in groups.items():
                moments.sort()
                for first, last in zip(moments, moments[limit.times :], strict=False):
                    if last - first < limit.within_ms:
                        passed.append(f"{kind} {customer} {name} {limit} {group}: {first} {last}")
    return passed
