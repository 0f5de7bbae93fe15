"""Parts of the state at work: packets in, decisions out, a worker's parts together.

A part is a key of the stream engine, and is saved alone; what arrived for a worker's parts is decided in one call. A
batch brings each part a packet, one after the other: the part that gets the last one decides for all. Where some get
none, those that got one ask to be called again at once, and the first that is called decides for all that have asked.
Either way each part that changes has been called, and is saved with the epoch. What was taken in and not decided is
part of the state (segue.routing.arrivals).
"""

from __future__ import annotations

import threading
from typing import Any

import msgspec

from segue import limits
from segue.checkpoints.group import Group, Saved, Words
from segue.checkpoints.recovered import Recovered
from segue.checkpoints.world import SavedWorld
from segue.decide.bench import Bench, Turn
from segue.decide.decisions import Decisions
from segue.decide.engine import ShardEngine
from segue.identity.anonymous import AnonymousShard, Taken
from segue.policy.compiled import CompiledPolicies
from segue.reference.world import ReferenceWorld, leave_world, worker_world
from segue.routing.arrivals import Arrivals
from segue.routing.packet import Packet
from segue.run.kill import point
from segue.settings import Settings
from segue.sources.pace import Pace
from segue.state.delta import ShardDelta, read_rest
from segue.summary import Part
from segue_kernels.receipt import ANONYMOUS_PART
from segue_kernels.shard import ACTION_OFFER, SPAN_ACTIONS_END, SPAN_PART

Passed = tuple[int, Packet]  # (shard, packet) for a part of known customers


class Beside(msgspec.Struct, array_like=True):
    """What is saved of a part beside its shard.

    offers   actions by index of the offer
    summed   its part of the summary was told
    """

    offers: dict[int, int]
    summed: bool


_BESIDE = "flow"  # in Rest.more
_ARRIVALS = "arrivals"
_encode_beside = msgspec.msgpack.Encoder().encode
_decode_beside = msgspec.msgpack.Decoder(Beside).decode


class Step:
    """What the parts of one step in this process share, and are saved through."""

    def __init__(
        self,
        policies: CompiledPolicies,
        settings: Settings,
        recovered: Recovered,
        pace: Pace,
        *,
        of_known: bool,
    ) -> None:
        self.policies = policies
        self.settings = settings
        self.partitions = len(recovered.partitions)
        self.pace = pace
        self.recovered = recovered
        self.of_known = of_known
        self.merged = not settings.kafka.brokers
        self.group: Group | None = None
        self._crews: dict[int, Crew] = {}  # by thread
        if recovered.journal is not None:
            self._saved_world = SavedWorld(recovered.world)
            world = self._save_world if of_known else None
            self.group = Group(recovered.journal, world, settings.epoch_ms)

    def crew(self) -> Crew:
        """That of this thread."""
        thread = threading.get_ident()
        if thread not in self._crews:
            self._crews[thread] = KnownCrew(self) if self.of_known else AnonymousCrew(self)
        return self._crews[thread]

    def world(self) -> ReferenceWorld:
        """That of this worker."""
        return worker_world(self.settings, self.policies, self.recovered.world)

    def _save_world(self) -> ShardDelta:
        return self._saved_world.add(self.world().save())


class ShardPart:
    """A part: a shard, and what has arrived for it. Due timers fire a share at a time: the worker's sources are read
    between two shares, however many timers come due in one second. They are never asked for later: what is due by time
    alone comes with a packet, for time is what the partitions' clocks say."""

    engine: ShardEngine
    arrivals: Arrivals

    def __init__(self, step: Step, number: int) -> None:
        self.step = step
        self.number = number
        self.shard = number % ANONYMOUS_PART
        self.has_arrived = False
        self.due = False
        self.has_asked = False  # to be called, and nothing was done for it since
        self.offers: dict[int, int] = {}
        self._summed = False
        # partitions of packets not yet told to the pace, which begins anew with each start
        self._untold: list[int] = []

    @property
    def asks(self) -> bool:
        """Whether it has anything to do at once."""
        return self.has_arrived or self.due

    def ask(self) -> bool:
        """Whether it wants to be called again at once."""
        self.has_asked = self.asks
        return self.has_asked

    def begin(self, saved: Saved | None = None, delta: ShardDelta | None = None) -> None:
        """Begin, or go on from what was saved."""
        step = self.step
        if step.group is not None:
            step.group.join(self.number, self._save, saved, lambda: self.engine.state.changed_rows)
        if delta is not None:
            beside = _decode_beside(read_rest(delta).more[_BESIDE])
            self.offers, self._summed = beside.offers, beside.summed
            step.recovered.tell(self.restore(delta))
            self.has_arrived = self.due = True  # some may have been left
        # what was sent behind the snapshot is the truth: it counts before anything is decided again
        receipts = step.recovered.receipts(self.number)
        if receipts is not None:
            self.engine.charge(receipts)

    def take_in(self, packets: list[Packet]) -> None:
        """These have arrived."""
        for packet in packets:
            self.arrivals.push(packet)
        self._untold += [packet.partition for packet in packets if packet.sender < 0]
        self.has_arrived = True

    def tell_pace(self) -> None:
        """What has arrived counts as taken."""
        for partition in self._untold:
            self.tell(partition)
        self._untold.clear()

    def tell(self, partition: int) -> None:
        """A packet of the partition counts as taken."""
        raise NotImplementedError

    def save(self, more: dict[str, bytes], room: Words | None) -> ShardDelta:
        """What changed since the last call, and `more` with it; the words may live in `room`."""
        raise NotImplementedError

    def restore(self, delta: ShardDelta) -> list[str]:
        """Put back what was saved; what other policies made of it, in sentences."""
        raise NotImplementedError

    def _save(self, room: Words | None) -> ShardDelta:
        return self.save({_BESIDE: _encode_beside(Beside(self.offers, self._summed))}, room)

    def touch(self) -> None:
        """It is about to change."""
        if self.step.group is not None:
            self.step.group.touch(self.number)

    def fires(self, turn: Turn, again: bool) -> Turn:
        """The turn, with a share of what is due behind it; `again`: unless more is due than the share before it."""
        if again and self.due:
            return turn
        share = max(1, limits.TIMERS_PER_READ // self.step.settings.shards)
        return self.engine.fires(turn, self.arrivals.watermark_ms(), share)

    def fired(self, turn: Turn) -> None:
        """The turn was taken."""
        if turn.watermark_ms:
            self.due = not turn.done

    def end(self, crew: Crew) -> list[Any]:
        """The stream has ended: if the input has, too, the rest is told; else the run was stopped and will go on."""
        told = crew.process() if self.has_arrived else []
        if self.arrivals.ended and not self._summed:
            self.touch()
            while self.due:
                told += crew.process()
            told += self.summary()
            self._summed = True
        return told

    def summary(self) -> list[Part]:
        """What the shard counted."""
        state = self.engine.state
        part = Part(
            customers=state.customers,
            state_bytes=state.memory_bytes(),
            counters=state.counters(),
            offers=self.offers,
        )
        return [part]


class AnonymousPart(ShardPart):
    """A shard of anonymous identifiers."""

    def __init__(self, step: Step, number: int, bench: Bench) -> None:
        super().__init__(step, number)
        self.of = AnonymousShard(
            self.shard,
            step.policies,
            step.settings.engine(),
            step.partitions,
            step.world(),
            step.merged,
            bench,
        )
        self.engine, self.arrivals = self.of.engine, self.of.arrivals

    def fired(self, turn: Turn) -> None:
        super().fired(turn)
        if not self.has_arrived:
            self.tell_pace()

    def tell(self, partition: int) -> None:
        if self.step.pace.comes_first(partition):
            self.step.pace.heard(self.shard, partition)

    def save(self, more: dict[str, bytes], room: Words | None) -> ShardDelta:
        return self.of.save(more, room)

    def restore(self, delta: ShardDelta) -> list[str]:
        return self.of.restore(delta)


class KnownPart(ShardPart):
    """A shard of known customers. In a replay a packet counts as taken when all that is due by it has fired: reading
    does not run away from the timers. Live, reading goes first."""

    def __init__(self, step: Step, number: int, bench: Bench) -> None:
        super().__init__(step, number)
        self._world = step.world()
        self.engine = ShardEngine(
            step.policies, step.settings.engine(), self._world, step.merged, number, bench
        )
        self.arrivals = Arrivals(step.partitions, step.settings.lateness_ms, step.merged)

    def fires(self, turn: Turn, again: bool) -> Turn:
        if self.step.settings.is_live:
            self.tell_pace()
        return super().fires(turn, again)

    def fired(self, turn: Turn) -> None:
        super().fired(turn)
        if not self.asks:
            self.tell_pace()

    def tell(self, partition: int) -> None:
        self.step.pace.taken(self.shard, partition)

    def save(self, more: dict[str, bytes], room: Words | None) -> ShardDelta:
        return self.engine.save({**more, _ARRIVALS: self.arrivals.save()}, room)

    def restore(self, delta: ShardDelta) -> list[str]:
        told = self.engine.restore(delta)  # first: histories that wait are carried over by its layout
        self.arrivals.restore(read_rest(delta).more[_ARRIVALS], self.engine.state.carry_history)
        return told

    def summary(self) -> list[Part]:
        # the anonymous shards have ended by now: nothing enters this worker's world any more
        world = Part()
        if leave_world(self._world):
            world.state_bytes = self._world.memory_bytes()
        if self.shard == 0:  # every worker's tables are the same, so they are counted where this shard is
            world.counters = self._world.counters()
        return [*super().summary(), world]


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
            offers = decisions.actions[:, ACTION_OFFER].tolist()
            start = 0
            for number, end in decisions.spans[:, [SPAN_PART, SPAN_ACTIONS_END]].tolist():
                counts = self.parts[number].offers
                for offer in offers[start:end]:
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
