"""A part of the state at work: what has arrived for it, what is due, what it said; saved and restored.

A part is a key of the stream engine, and is saved alone; what arrived for a worker's parts is decided in one call
(segue.flow.crew). What was taken in and not decided is part of the state (segue.routing.arrivals).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from segue import limits
from segue.checkpoints.group import Group, Saved, Words
from segue.checkpoints.recovered import Recovered
from segue.checkpoints.world import SavedWorld
from segue.decide.bench import Bench, Turn
from segue.decide.engine import ShardEngine
from segue.identity.anonymous import AnonymousShard
from segue.policy.compiled import CompiledPolicies
from segue.reference.world import ReferenceWorld, leave_world, worker_world
from segue.routing.arrivals import Arrivals
from segue.routing.packet import Packet
from segue.settings import Settings
from segue.sources.pace import Pace
from segue.state.delta import ShardDelta, read_rest
from segue.summary import Part
from segue_kernels.receipt import ANONYMOUS_PART


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
        if recovered.journal is not None:
            self._saved_world = SavedWorld(recovered.world)
            world = self._save_world if of_known else None
            self.group = Group(recovered.journal, world, settings.epoch_ms)

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

    def end(self, process: Callable[[], list[Any]]) -> list[Any]:
        """The stream has ended: if the input has, too, the rest is told; else the run was stopped and will go on.

        process  of its crew (segue.flow.crew)
        """
        told = process() if self.has_arrived else []
        if self.arrivals.ended and not self._summed:
            self.touch()
            while self.due:
                told += process()
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
