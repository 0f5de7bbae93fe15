"""A worker's parts of one step together: packets in, decisions out, in one call for all.

A batch brings each part a packet, one after the other: the part that gets the last one decides for all. Where some get
none, those that got one ask to be called again at once, and the first that is called decides for all that have asked.
Either way each part that changes has been called, and is saved with the epoch (segue.flow.parts).
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from segue.checkpoints.group import Saved
from segue.decide.bench import Bench, Turn
from segue.decide.decisions import Decisions
from segue.flow.parts import AnonymousPart, KnownPart, ShardPart, Step
from segue.identity.anonymous import Taken
from segue.routing.packet import Packet
from segue.run.kill import point
from segue.state.delta import ShardDelta
from segue_kernels.shard import ACTION_OFFER, ACTION_RANKING, SPAN_ACTIONS_END, SPAN_PART

Passed = tuple[int, Packet]  # (shard, packet) for a part of known customers


class Crews:
    """The crews of one step in this process, one a thread."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._crews: dict[int, Crew] = {}  # by thread

    def here(self) -> Crew:
        """That of this thread."""
        thread = threading.get_ident()
        if thread not in self._crews:
            step = self._step
            self._crews[thread] = KnownCrew(step) if step.of_known else AnonymousCrew(step)
        return self._crews[thread]


class Crew:
    """The parts of one step in one thread."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.bench = Bench(step.policies)
        self.parts: dict[int, ShardPart] = {}
        self._arrived: set[int] = set()  # parts for which something has

    def part(self, number: int, saved: Saved | None = None, delta: ShardDelta | None = None) -> ShardPart:
        """A further part begins."""
        part = self.parts[number] = self._made(number)
        part.begin(saved, delta)
        if part.has_arrived:
            self._arrived.add(number)
        return part

    def take_in(self, part: ShardPart, packets: list[Packet]) -> list[Any]:
        """These have arrived for the part; what that causes, if they are the last ones waited for."""
        part.take_in(packets)
        self._arrived.add(part.number)
        return self.process() if len(self._arrived) == len(self.parts) else []

    def process(self) -> list[Any]:
        """What is caused by all that has arrived, and a share of what is due."""
        # what parts of one lane say stands together, and is one message
        lanes = self.step.settings.kafka.lanes if not self.step.merged else 1
        parts = [part for _, part in sorted(self.parts.items()) if part.asks]
        parts.sort(key=lambda part: part.shard % lanes)
        for part in parts:
            part.touch()
            part.has_asked = False
        told: list[Any] = []
        again = False
        while parts:
            told += self._process(parts, again)
            parts = [part for part in parts if part.has_arrived]
            again = True
        self._arrived.clear()
        point("after_engine")
        return told

    def _made(self, number: int) -> ShardPart:
        raise NotImplementedError

    def _process(self, parts: list[Any], again: bool) -> list[Any]:
        """What the first release of each part causes, and its due timers."""
        raise NotImplementedError

    def counted(self, decided: list[Decisions]) -> list[Decisions]:
        """The same, each part's actions counted."""
        for decisions in decided:
            # what becomes of a ranking is counted where the ledger has answered (segue.flow.grant)
            offers = np.where(
                decisions.actions[:, ACTION_RANKING] == 0, decisions.actions[:, ACTION_OFFER], -1
            ).tolist()
            start = 0
            for number, end in decisions.spans[:, [SPAN_PART, SPAN_ACTIONS_END]].tolist():
                counts = self.parts[number].offers
                for offer in offers[start:end]:
                    if offer >= 0:
                        counts[offer] = counts.get(offer, 0) + 1
                start = end
        return decided


class KnownCrew(Crew):
    """A worker's shards of known customers."""

    def _made(self, number: int) -> ShardPart:
        return KnownPart(self.step, number, self.bench)

    def _process(self, parts: list[ShardPart], again: bool) -> list[Any]:
        turns = []
        for part in parts:
            engine = part.engine
            turn = Turn(engine)
            if part.has_arrived:
                released = part.arrivals.release(singly=True)
                part.has_arrived = part.arrivals.has_more
                if released is not None and len(released.records):
                    turn = engine.turn(engine.hear(released))
            turns.append(part.fires(turn, again))
        decided = self.counted(self.bench.process(_with_work(turns)))
        for part, turn in zip(parts, turns, strict=True):
            part.fired(turn)
        return decided


class AnonymousCrew(Crew):
    """A worker's shards of anonymous identifiers. Their timers fire when what is passed on has left, and taken along
    what belongs to it."""

    def _made(self, number: int) -> ShardPart:
        return AnonymousPart(self.step, number, self.bench)

    def _process(self, parts: list[AnonymousPart], again: bool) -> list[Any]:
        decided: list[Decisions] = []
        passed: list[Passed] = []
        taken: list[tuple[AnonymousPart, Taken]] = []
        for part in parts:
            if part.has_arrived:
                some = part.of.take(decided, passed)
                part.has_arrived = part.arrivals.has_more
                if some is not None:
                    taken.append((part, some))
        decided += self.bench.process([some.stays for _, some in taken if some.stays is not None])
        for part, some in taken:
            passed += part.of.pass_on(some, decided)
        turns = [part.fires(Turn(part.engine), again) for part in parts]
        decided += self.bench.process(_with_work(turns))
        for part, turn in zip(parts, turns, strict=True):
            part.fired(turn)
        return [*self.counted(decided), *passed]


def _with_work(turns: list[Turn]) -> list[Turn]:
    return [turn for turn in turns if turn.watermark_ms or len(turn.records)]
