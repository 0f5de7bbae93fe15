"""The engine of one shard: released rows in, decisions out. The only owner of its customers' state."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from segue.decide.bench import Bench, Turn
from segue.decide.decisions import Decisions
from segue.events.names import CODE_BY_NAME
from segue.kafka.receipts import offer_hash
from segue.limits import TIMERS_PER_STEP
from segue.policy.compiled import CompiledPolicies
from segue.reference.world import ReferenceWorld, empty_world
from segue.routing.arrivals import Released
from segue.state.delta import ShardDelta, read_rest
from segue.state.shard import EngineSettings, ShardState
from segue_kernels.parts import PART_SEQUENCE
from segue_kernels.pending import (
    PENDING_FLAGS,
    PENDING_GONE,
    PENDING_INDEX,
    PENDING_OFFER,
    PENDING_WORDS,
    add_pending,
    charge_receipts,
    note_receipts,
    sends_alone,
)
from segue_kernels.plan import CAP_STREAM, LIMIT_WINDOW_MS, OFFER_CONTACT, OFFER_JOURNEY, STREAM_WINDOW_MS
from segue_kernels.receipt import (
    RECEIPT_FLAGS,
    RECEIPT_IS_SENT,
    RECEIPT_OFFER,
    RECEIPT_PART,
    RECEIPT_SEQUENCE,
    RECEIPT_ZONE,
)
from segue_kernels.record import FLAG_HAS_HISTORY, PACK, ZONE_MASK
from segue_kernels.row import (
    CLOCK_MAX,
    COUNT_CHARGED,
    PENDING_NOW,
    ROWS_USED,
    TIMERS_LIMIT,
    TIMERS_OF,
    TIMERS_PLACE,
)
from segue_kernels.row import ZONE as ROW_ZONE
from segue_kernels.shard import (
    ALONE_CONTACT_MASK,
    ALONE_CONTACT_SHIFT,
    ALONE_FLAGS,
    ALONE_IS_CHARGED,
    ALONE_JOURNEY,
    ALONE_LO,
    ALONE_OFFER,
    ALONE_TIME,
    ALONE_WORDS,
    ALONE_ZONE_SHIFT,
    STOP_END,
    STOP_INDEX,
    STOP_ROWS,
    STOP_SPILL,
    Replay,
    Shard,
)
from segue_kernels.tables import HEARD, LAST_PLACE, PLACE_SEQUENCE

Words = npt.NDArray[np.int64]

_NO_TEXT = np.zeros(0, np.uint8)
_NOTHING_PENDING = np.zeros((0, PENDING_WORDS), np.int64)
_HISTORY_BIT = FLAG_HAS_HISTORY << 8
_SEQUENCE = "sequence"  # in Rest.more
_HEARD = "heard"
_ALONE = "alone"
_PENDING = "pending"


class ShardEngine:
    """State and decisions of one shard. Deterministic: the same rows in the same order, however cut into batches and
    whenever `advance` is called in between (with a watermark that no row to come is behind), decide the same.

    merged  rows come in the order of the clocks of all partitions (segue.routing.arrivals), so that each row's says how
            far time has come; otherwise only `advance` does, and what a row sees of the tables is what this shard has
            heard by then
    part    its number among the parts of the state, and in receipts (segue_kernels/receipt.py)
    bench   where it runs; one of its own, if it shares none

    `sequence` is saved with the state, as `heard` and the pending decisions are.
    """

    def __init__(
        self,
        policies: CompiledPolicies,
        settings: EngineSettings,
        world: ReferenceWorld | None = None,
        merged: bool = True,
        part: int = 0,
        bench: Bench | None = None,
    ) -> None:
        words = settings.words(
            policies.row_words, CODE_BY_NAME["Consent Changed"], CODE_BY_NAME["Unsubscribed"]
        )
        self.words = words
        self.world = empty_world() if world is None else world
        self.part = part
        self._offers: dict[int, int] | None = None  # rows of the plan's offers by the hashes in receipts
        self._policies = policies
        self._merged = merged
        self.heard = self.world.nothing_heard()
        self.state = ShardState(policies, settings, words, self.world)
        self.bench = Bench(policies) if bench is None else bench
        self.placed: tuple[Shard | None, Replay | None] = (None, None)  # whose addresses the bench has
        self.row = self.bench.join(self)

    @property
    def defaults(self) -> Words:
        """World.defaults as this engine's events see them."""
        return self.world.arrays.defaults if self._merged else self.heard

    @property
    def sequence(self) -> int:
        """How often it has said something: grows by one with each of its spans in Decisions."""
        return int(self.bench.table[self.row, PART_SEQUENCE])

    @sequence.setter
    def sequence(self, sequence: int) -> None:
        self.bench.table[self.row, PART_SEQUENCE] = sequence

    def process(self, released: Released) -> list[Decisions]:
        """Run rows in their order; decisions in order, in as many parts as the output arrays were filled."""
        return self.decide(self.hear(released))

    def hear(self, released: Released) -> Released:
        """Let what all shards hear of into the tables; the rows that are left, to be decided next."""
        if not self._merged:
            self.world.note_heard(released.records, self.heard)
        return self.world.take_released(released)

    def decide(self, released: Released) -> list[Decisions]:
        """As process, for rows of a release that `hear` has left."""
        return self.bench.process([self.turn(released)])

    def turn(self, released: Released) -> Turn:
        """Rows of a release that `hear` has left, to be decided with others' in one call."""
        records, text, histories = released.records, released.text, dict(released.histories)
        if histories:
            records = records.copy()
            for at in histories:
                records[at, PACK] |= _HISTORY_BIT
        if not text.flags.writeable:
            text = text.copy()  # the kernels are compiled for one kind of array
        return Turn(self, records, text, histories)

    def advance(self, watermark_ms: int, timers_max: int = TIMERS_PER_STEP) -> tuple[list[Decisions], bool]:
        """Fire timers due before the watermark, at most `timers_max`; whether those were all of them.

        The watermark: the least clock that a row to come can have, less the lateness; a call with one that is not
        greater than that of an earlier call goes on with what is left.
        """
        turn = self.fires(Turn(self), watermark_ms, timers_max)
        return self.bench.process([turn]), turn.done

    def fires(self, turn: Turn, watermark_ms: int, timers_max: int) -> Turn:
        """The turn, with what `advance` does behind its rows."""
        turn.watermark_ms = max(watermark_ms, 1)
        turn.timers_max = timers_max
        turn.clock_ms = 0 if self._merged else watermark_ms + self.state.lateness_ms
        return turn

    def charge(self, receipts: Words) -> int:
        """Take up what was sent since this state was saved, before the first row; how many sends were charged. One that
        no log row tells of is charged when its trigger comes by, and counts until then (pending.py).

        receipts  int64[n, RECEIPT_WORDS], of any parts and in any order; those that the state knows of are left out
        """
        state = self.state
        own = receipts[:, RECEIPT_PART] == self.part
        receipts = np.ascontiguousarray(receipts[own & (receipts[:, RECEIPT_SEQUENCE] > self.sequence)])
        if not len(receipts):
            return 0
        self.sequence = int(receipts[:, RECEIPT_SEQUENCE].max())
        # actions first: a row that a later run logged of something sent before does not tell what it was about, or when
        receipts = receipts[np.argsort(receipts[:, RECEIPT_FLAGS] & RECEIPT_IS_SENT == 0, kind="stable")]
        state.make_pending_room(len(receipts))
        offers = self._offers_of(receipts[:, RECEIPT_OFFER])
        self._need_zones(receipts[:, RECEIPT_ZONE])
        before = int(state.arrays.meta[COUNT_CHARGED])
        note_receipts(state.replay.pending, state.arrays.meta, receipts, offers)
        position = 0
        while True:
            position, stop = charge_receipts(
                state.arrays,
                state.plan,
                state.replay,
                receipts,
                offers,
                _NO_TEXT,
                position,
                self.words,
            )
            if stop == STOP_END:
                break
            if stop == STOP_SPILL:
                state.grow_spill()
            else:
                self.make_room(stop)
        alone = np.empty((len(receipts), ALONE_WORDS), np.int64)
        count = sends_alone(state.replay.pending, state.plan, receipts, offers, alone)
        self._set_alone(np.concatenate([self.alone_words(), alone[:count]]))
        return int(state.arrays.meta[COUNT_CHARGED]) - before

    def alone_words(self) -> Words:
        """The sends that wait for their triggers to be charged, int64[n, ALONE_WORDS]: part of the state that is
        saved."""
        alone = self.state.replay.alone
        words: Words = alone[alone[:, ALONE_FLAGS] & ALONE_IS_CHARGED == 0]
        return words

    def restore_alone(self, words: Words) -> None:
        """Take over what `alone_words` gave, perhaps under other policies."""
        offers = self._offers_of(words[:, ALONE_OFFER])
        alone = words.copy()
        alone[:, ALONE_JOURNEY] = np.where(offers < 0, -1, self._policies.offers[offers, OFFER_JOURNEY])
        unknown = (alone[:, ALONE_FLAGS] >> ALONE_CONTACT_SHIFT) & ALONE_CONTACT_MASK == 0
        told = unknown & (offers >= 0)  # by the policies, where the receipt did not
        alone[told, ALONE_FLAGS] |= (
            self._policies.offers[offers[told], OFFER_CONTACT] + 1 << ALONE_CONTACT_SHIFT
        )
        self._need_zones((alone[:, ALONE_FLAGS] >> ALONE_ZONE_SHIFT) & ZONE_MASK)
        self._set_alone(alone)

    def _set_alone(self, alone: Words) -> None:
        state = self.state
        windows_ms = np.concatenate(
            [
                state.plan.limits[:, LIMIT_WINDOW_MS],
                state.plan.streams[state.plan.caps[:, CAP_STREAM], STREAM_WINDOW_MS],
            ]
        )
        if len(windows_ms) and windows_ms.min() > 0:  # what no window reaches any more does not come again
            now_ms = int(state.arrays.meta[CLOCK_MAX]) - state.lateness_ms
            alone = alone[alone[:, ALONE_TIME] > now_ms - int(windows_ms.max())]
        alone = np.ascontiguousarray(alone[np.argsort(alone[:, ALONE_LO], kind="stable")])
        state.replay = state.replay._replace(alone=alone)

    def _need_zones(self, zones: Words) -> None:
        """Let the calendar know these time zones."""
        for zone in np.unique(zones).tolist():
            self.world.need_zone(zone)

    def pending_words(self) -> Words:
        """The decisions that are pending, int64[n, PENDING_WORDS]: part of the state that is saved."""
        if not self.state.arrays.meta[PENDING_NOW]:
            return _NOTHING_PENDING
        pending = self.state.replay.pending
        flags = pending[:, PENDING_FLAGS]
        words: Words = pending[(flags != 0) & (flags & PENDING_GONE == 0)]
        return words

    def restore_pending(self, words: Words) -> None:
        """Take over what `pending_words` gave, perhaps under other policies."""
        if not len(words):
            return
        rows = words.copy()
        rows[:, PENDING_INDEX] = self._offers_of(rows[:, PENDING_OFFER])
        self.state.make_pending_room(len(rows))
        add_pending(self.state.replay.pending, self.state.arrays.meta, rows)

    def _offers_of(self, hashes: Words) -> Words:
        """Rows of the plan's offers by their hashes, -1 = none."""
        if self._offers is None:
            journeys = self._policies.journey_infos
            self._offers = {
                offer_hash(journeys[offer.journey].id, offer.id): number
                for number, offer in enumerate(self._policies.offer_infos)
            }
        return np.array([self._offers.get(word, -1) for word in hashes.tolist()], np.int64)

    def fire_timers_of(self, row: int, limit_ms: int) -> list[Decisions]:
        """Fire one customer's timers due before the limit: before his history is taken along."""
        decided: list[Decisions] = []
        meta = self.state.arrays.meta
        if meta[TIMERS_OF]:  # of another one, left behind by `advance`
            decided += self.bench.process([Turn(self)])
        meta[TIMERS_OF] = row + 1
        meta[TIMERS_LIMIT] = limit_ms
        meta[TIMERS_PLACE] = LAST_PLACE
        return decided + self.bench.process([Turn(self)])

    def make_room(self, stop: int) -> None:
        """Grow what a kernel ran out of, or say that it can't."""
        if stop == STOP_INDEX:
            self.state.grow_index()
        elif stop == STOP_ROWS:
            raise self.state.full("rows for customers")
        else:
            raise self.state.full("pool for rings, waits and spilled keys")

    # --- out of memory and back ---------------------------------------------------------------------------

    def save(self, more: Mapping[str, bytes] | None = None, room: Words | None = None) -> ShardDelta:
        """What changed since the last call, and all else that the engine needs to go on (ShardState.save)."""
        own = {
            _SEQUENCE: self.sequence.to_bytes(8, "little"),
            _HEARD: self.heard.tobytes(),
            _PENDING: self.pending_words().tobytes(),
            _ALONE: self.alone_words().tobytes(),
        }
        return self.state.save({**(more or {}), **own}, room)

    def restore(self, delta: ShardDelta) -> list[str]:
        """Put an engine that has processed nothing into the state that was saved; see ShardState.restore."""
        sentences = self.state.restore(delta)
        own = read_rest(delta).more
        self.sequence = int.from_bytes(own[_SEQUENCE], "little")
        heard = np.frombuffer(own[_HEARD], np.int64)
        self.heard[PLACE_SEQUENCE] = heard[PLACE_SEQUENCE]  # the time zone is that of this run
        self.heard[HEARD:] = heard[HEARD:]
        self.restore_pending(np.frombuffer(own[_PENDING], np.int64).reshape(-1, PENDING_WORDS))
        self.restore_alone(np.frombuffer(own[_ALONE], np.int64).reshape(-1, ALONE_WORDS))
        rows = self.state.arrays.rows.reshape(-1, self.state.row_words)
        self._need_zones(rows[: self.state.arrays.meta[ROWS_USED], ROW_ZONE] & ZONE_MASK)
        return sentences
