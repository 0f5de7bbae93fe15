"""The engine of one shard: released rows in, decisions out. The only owner of its customers' state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segue.events.names import CODE_BY_NAME
from segue.kafka.receipts import offer_hash
from segue.limits import LINES_PER_EVENT_MAX, PENDING_ROWS_PER_BATCH, TIMERS_PER_STEP
from segue.policy.compiled import CompiledPolicies
from segue.reference.world import ReferenceWorld, empty_world
from segue.routing.arrivals import Released
from segue.state.delta import ShardDelta, read_rest
from segue.state.shard import EngineSettings, ShardState
from segue_kernels.customers import find_or_add, sweep
from segue_kernels.engine import run
from segue_kernels.erase import prepare_row
from segue_kernels.fire import TIMER_TEXT_MAX
from segue_kernels.history import H_ZONE
from segue_kernels.pending import (
    PENDING_FLAGS,
    PENDING_GONE,
    PENDING_INDEX,
    PENDING_OFFER,
    PENDING_WORDS,
    add_pending,
    charge_receipts,
    forget_pending,
    note_receipts,
    sends_alone,
)
from segue_kernels.plan import (
    JOURNEY_OFFERS_END,
    JOURNEY_OFFERS_START,
    LIMIT_WINDOW_MS,
    OFFER_CONSENT,
    OFFER_CONTEXT,
    OFFER_CURRENCY,
    OFFER_ITEMS_MAX,
    OFFER_JOURNEY,
    OFFER_SLOT,
    OFFER_WHEN,
)
from segue_kernels.receipt import RECEIPT_OFFER, RECEIPT_PART, RECEIPT_SEQUENCE
from segue_kernels.record import (
    CLOCK,
    FLAG_HAS_HISTORY,
    FLAG_IS_LINE,
    HEAP,
    PACK,
    RECORD_WORDS,
    TIME,
    ZONE_MASK,
)
from segue_kernels.row import (
    CLOCK_MAX,
    COUNT_CHARGED,
    PENDING_NOW,
    ROWS_USED,
    TIMERS_LIMIT,
    TIMERS_OF,
    TIMERS_PLACE,
    TIMERS_SEEN,
)
from segue_kernels.row import ZONE as ROW_ZONE
from segue_kernels.shard import (
    ACTION_ITEM,
    ACTION_RECORD,
    ACTION_WORDS,
    ALONE_IS_CHARGED,
    ALONE_JOURNEY,
    ALONE_LO,
    ALONE_OFFER,
    ALONE_TIME,
    ALONE_WORDS,
    CHANGE_RECORD,
    CHANGE_WORDS,
    CREDIT_WORDS,
    LOG_RECORD,
    LOG_WORDS,
    OUT_ACTIONS,
    OUT_CHANGES,
    OUT_CREDITS,
    OUT_FIRED,
    OUT_ITEM_TEXT,
    OUT_ITEMS,
    OUT_LOG,
    OUT_REASONS,
    OUT_SAMPLE,
    OUT_TIMER_RECORDS,
    OUT_TIMER_TEXT,
    OUT_USED,
    SET_LATENESS_MS,
    STOP_END,
    STOP_HISTORY,
    STOP_INDEX,
    STOP_OUT,
    STOP_POOL,
    STOP_ROW,
    STOP_ROWS,
    STOP_SPILL,
    STOP_TIMERS,
    Out,
    Scratch,
)
from segue_kernels.tables import HEARD, LAST_PLACE, PLACE_SEQUENCE

Words = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_LOG_ROWS = 8_192  # of the output arrays; a run that fills them hands over and goes on
_SWEEP_ROWS_MIN = 16  # rows looked at for eviction with each batch, at least
_STRING_BYTES_MAX = 255
_ALL_TIMERS = 1 << 62
_NO_RECORDS = np.zeros((0, RECORD_WORDS), np.int64)
_NO_TEXT = np.zeros(0, np.uint8)
_NOTHING_PENDING = np.zeros((0, PENDING_WORDS), np.int64)
_NO_ROWS = np.zeros(0, np.int64)
_HISTORY_BIT = FLAG_HAS_HISTORY << 8
_LINE_BIT = FLAG_IS_LINE << 8
_SEQUENCE = "sequence"  # in Rest.more
_HEARD = "heard"
_ALONE = "alone"
_PENDING = "pending"


@dataclass(slots=True)
class Decisions:
    """What one run decided: tables of segue_kernels/shard.py, trimmed, with the rows they point into.

    records, text   the events, and behind them the records made for timers that decided something; LOG_RECORD,
                    ACTION_RECORD, ACTION_ITEM, CHANGE_RECORD, CREDIT_RECORD and CREDIT_ITEM are rows of `records`
    items           ACTION_ITEMS: offset << 8 | length in `item_text`
    part, sequence  who decided it, and the number of its runs up to this one (segue_kernels/receipt.py)
    """

    records: Words
    text: Bytes
    log: Words
    reasons: npt.NDArray[np.uint8]
    fired: npt.NDArray[np.uint16]
    actions: Words
    numbers: npt.NDArray[np.float64]
    sample: npt.NDArray[np.float64]
    changes: Words
    credits: Words
    items: Words
    item_text: Bytes
    part: int = 0
    sequence: int = 0


def plain_journeys(policies: CompiledPolicies) -> npt.NDArray[np.uint8]:
    """Which journeys' offers share a slot and have no condition, currency, consent or context of their own."""
    plain = np.zeros(max(1, len(policies.journeys)), np.uint8)
    for journey, (first, last) in enumerate(
        policies.journeys[:, [JOURNEY_OFFERS_START, JOURNEY_OFFERS_END]].tolist()
    ):
        offers = policies.offers[first:last]
        unchecked = (offers[:, [OFFER_WHEN, OFFER_CONSENT, OFFER_CONTEXT]] < 0).all()
        one_slot = len(set(offers[:, OFFER_SLOT].tolist())) == 1
        plain[journey] = bool(unchecked and one_slot and not offers[:, OFFER_CURRENCY].any())
    return plain


def records_of_event(records: Words, at: int) -> int:
    """How many records the event at `at` has: its header and its lines; 1 behind the last event."""
    end = at + 1
    while end < len(records) and records[end, PACK] & _LINE_BIT:
        end += 1
    return end - at


class ShardEngine:
    """State and decisions of one shard. Deterministic: the same rows in the same order, however cut into batches and
    whenever `advance` is called in between (with a watermark that no row to come is behind), decide the same.

    part      its number among the parts of the state (segue_kernels/receipt.py)
    sequence  grows by one with each Decisions that it hands out
    merged  rows come in the order of the clocks of all partitions (segue.routing.arrivals), so that each row's says how
            far time has come; otherwise only `advance` does, and what a row sees of the tables is what this shard has
            heard by then
    part    its number in receipts (segue_kernels/receipt.py)

    `sequence` numbers the Decisions it hands out; it is saved with the state, as `heard` and the pending decisions are.
    """

    def __init__(
        self,
        policies: CompiledPolicies,
        settings: EngineSettings,
        world: ReferenceWorld | None = None,
        merged: bool = True,
        part: int = 0,
    ) -> None:
        words = settings.words(
            policies.row_words, CODE_BY_NAME["Consent Changed"], CODE_BY_NAME["Unsubscribed"]
        )
        self._words = words
        self._world = empty_world() if world is None else world
        self.part = part
        self.sequence = 0
        self._offers: dict[int, int] | None = None  # rows of the plan's offers by the hashes in receipts
        self._policies = policies
        self._merged = merged
        self.heard = self._world.nothing_heard()
        self.state = ShardState(policies, settings, words, self._world)
        offers = len(policies.offers)
        width = 1
        if len(policies.journeys):
            per_journey = (
                policies.journeys[:, JOURNEY_OFFERS_END] - policies.journeys[:, JOURNEY_OFFERS_START]
            )
            width = max(1, int(per_journey.max()))
        journeys = max(1, len(policies.journeys))
        slots = max(1, len(policies.slot_hash))
        items = slots * (int(policies.offers[:, OFFER_ITEMS_MAX].max()) if offers else 0)
        changes = len(policies.segments) + 1
        credits = (LINES_PER_EVENT_MAX + 1) * len(policies.joins)
        # what one event or timer may add at most
        most = {
            OUT_LOG: slots,
            OUT_REASONS: offers,
            OUT_FIRED: journeys,
            OUT_ACTIONS: slots,
            OUT_SAMPLE: offers,
            OUT_TIMER_RECORDS: 1,
            OUT_TIMER_TEXT: TIMER_TEXT_MAX,
            OUT_CHANGES: changes,
            OUT_CREDITS: credits,
            OUT_ITEMS: items,
            OUT_ITEM_TEXT: items * _STRING_BYTES_MAX,
        }
        self._scratch = Scratch(
            location=np.full(
                max(1, len(policies.streams) + len(policies.moments) + len(policies.lookups)), -1, np.int64
            ),
            journey=np.zeros(journeys, np.int64),
            fired_at=np.zeros(journeys, np.int64),
            offer=np.zeros(max(1, offers), np.int64),
            item=np.zeros(max(1, offers), np.int64),
            reason=np.zeros(max(1, offers), np.uint8),
            propensity=np.zeros(max(1, offers), np.float64),
            context=np.zeros(max(1, offers), np.float64),
            score=np.zeros(max(1, offers), np.float64),
            logit=np.zeros(width, np.float64),
            feature=np.zeros(max(1, len(policies.features)), np.float64),
            best=np.zeros(slots, np.int64),
            candidates=np.zeros(slots, np.int64),
            room=np.zeros(OUT_USED, np.int64),
            plain=plain_journeys(policies),
        )
        room = {
            OUT_REASONS: 64 * _LOG_ROWS,
            OUT_FIRED: 8 * _LOG_ROWS,
            OUT_SAMPLE: 64 * _LOG_ROWS,
            OUT_TIMER_TEXT: 64 * _LOG_ROWS,
            OUT_ITEMS: 8 * _LOG_ROWS,
            OUT_ITEM_TEXT: 64 * _LOG_ROWS,
        }
        for which in most:
            self._scratch.room[which] = room.get(which, _LOG_ROWS)
        size = {which: room.get(which, _LOG_ROWS) + added for which, added in most.items()}
        self._out = Out(
            used=np.zeros(OUT_USED, np.int64),
            log=np.zeros((size[OUT_LOG], LOG_WORDS), np.int64),
            reasons=np.zeros(size[OUT_REASONS], np.uint8),
            fired=np.zeros(size[OUT_FIRED], np.uint16),
            actions=np.zeros((size[OUT_ACTIONS], ACTION_WORDS), np.int64),
            numbers=np.zeros((size[OUT_ACTIONS], 5), np.float64),
            sample=np.zeros((size[OUT_SAMPLE], 2), np.float64),
            timer_records=np.zeros((size[OUT_TIMER_RECORDS], RECORD_WORDS), np.int64),
            timer_text=np.zeros(size[OUT_TIMER_TEXT], np.uint8),
            changes=np.zeros((size[OUT_CHANGES], CHANGE_WORDS), np.int64),
            credits=np.zeros((size[OUT_CREDITS], CREDIT_WORDS), np.int64),
            items=np.zeros(size[OUT_ITEMS], np.int64),
            item_text=np.zeros(size[OUT_ITEM_TEXT], np.uint8),
        )

    def process(self, released: Released) -> list[Decisions]:
        """Run rows in their order; decisions in order, in as many parts as the output arrays were filled."""
        return self.decide(self.hear(released))

    def hear(self, released: Released) -> Released:
        """Let what all shards hear of into the tables; the rows that are left, to be decided next."""
        if not self._merged:
            self._world.note_heard(released.records, self.heard)
        return self._world.take_released(released)

    def decide(self, released: Released) -> list[Decisions]:
        """As process, for rows of a release that `hear` has left."""
        records, text, histories = released.records, released.text, dict(released.histories)
        if histories:
            records = records.copy()
            for at in histories:
                records[at, PACK] |= _HISTORY_BIT
        if not text.flags.writeable:
            text = text.copy()  # the kernels are compiled for one kind of array
        self._world.need_zones(records)
        self.state.make_name_room(len(records))
        row_of = self._rows(records, text)
        decided: list[Decisions] = []
        self._run(decided, records, text, row_of, histories)
        sweep(self.state.arrays, self.state.plan, self._words, max(_SWEEP_ROWS_MIN, len(records) >> 2))
        self.state.drop_old_tables()
        return decided

    def advance(self, watermark_ms: int, timers_max: int = TIMERS_PER_STEP) -> tuple[list[Decisions], bool]:
        """Fire timers due before the watermark, at most `timers_max`; whether those were all of them.

        The watermark: the least clock that a row to come can have, less the lateness; a call with one that is not
        greater than that of an earlier call goes on with what is left.
        """
        decided: list[Decisions] = []
        if not self._merged:
            clock_ms = watermark_ms + self.state.lateness_ms
            meta = self.state.arrays.meta
            meta[CLOCK_MAX] = max(int(meta[CLOCK_MAX]), clock_ms)
        done = self._run(decided, watermark_ms=max(watermark_ms, 1), timers_max=timers_max)
        if done and self.state.arrays.meta[PENDING_NOW]:
            forget_pending(
                self.state.replay.pending,
                self.state.arrays.meta,
                watermark_ms,
                self._words,
                PENDING_ROWS_PER_BATCH,
            )
        return decided, done

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
        state.make_pending_room(len(receipts))
        offers = self._offers_of(receipts[:, RECEIPT_OFFER])
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
                self._words,
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
        words: Words = alone[alone[:, ALONE_IS_CHARGED] == 0]
        return words

    def restore_alone(self, words: Words) -> None:
        """Take over what `alone_words` gave, perhaps under other policies."""
        offers = self._offers_of(words[:, ALONE_OFFER])
        alone = words.copy()
        alone[:, ALONE_JOURNEY] = np.where(offers < 0, -1, self._policies.offers[offers, OFFER_JOURNEY])
        self._set_alone(alone)

    def _set_alone(self, alone: Words) -> None:
        state = self.state
        windows_ms = state.plan.limits[:, LIMIT_WINDOW_MS]
        if len(windows_ms) and windows_ms.min() > 0:  # what no window reaches any more does not come again
            now_ms = int(state.arrays.meta[CLOCK_MAX]) - state.lateness_ms
            alone = alone[alone[:, ALONE_TIME] > now_ms - int(windows_ms.max())]
        alone = np.ascontiguousarray(alone[np.argsort(alone[:, ALONE_LO], kind="stable")])
        state.replay = state.replay._replace(alone=alone)

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
            self._run(decided)
        meta[TIMERS_OF] = row + 1
        meta[TIMERS_LIMIT] = limit_ms
        meta[TIMERS_PLACE] = LAST_PLACE
        self._run(decided)
        return decided

    def _run(
        self,
        decided: list[Decisions],
        records: Words = _NO_RECORDS,
        text: Bytes = _NO_TEXT,
        row_of: Words = _NO_ROWS,
        histories: dict[int, Words] | None = None,
        watermark_ms: int = 0,
        timers_max: int = _ALL_TIMERS,
    ) -> bool:
        """Rows, then timers; whether no timer due before the watermark is left."""
        state = self.state
        position = 0
        while True:
            fired = int(state.arrays.meta[TIMERS_SEEN])
            position, stop = run(
                state.arrays,
                state.plan,
                self._scratch,
                self._out,
                self._world.arrays if self._merged else self._world.arrays._replace(defaults=self.heard),
                state.replay,
                records,
                text,
                row_of,
                position,
                watermark_ms,
                timers_max,
                self._words,
            )
            timers_max -= int(state.arrays.meta[TIMERS_SEEN]) - fired
            if stop == STOP_HISTORY:
                assert histories is not None
                records[position, PACK] &= ~_HISTORY_BIT
                history = histories[position]
                self._world.need_zone(int(history[H_ZONE]) & ZONE_MASK)
                watermark = int(records[position, CLOCK] - self._words[SET_LATENESS_MS])
                time = max(int(records[position, TIME]), watermark)
                state.join(int(row_of[position]), history, time)
            elif stop == STOP_ROW:
                row = int(row_of[position])
                if prepare_row(state.arrays, state.plan, records, text, position, row, self._words):
                    position += records_of_event(records, position)
            elif stop == STOP_SPILL:
                state.grow_spill(records_of_event(records, position))
            elif stop == STOP_POOL:
                raise state.full("pool for rings, waits and spilled keys")
            else:
                self._hand_over(records, text, decided)
                if stop in (STOP_END, STOP_TIMERS):
                    return bool(stop == STOP_END)
                assert stop == STOP_OUT

    def _rows(self, records: Words, text: Bytes) -> Words:
        row_of = np.empty(len(records), np.int64)
        position = 0
        while True:
            position, stop = find_or_add(self.state.arrays, records, text, row_of, position, self._words)
            if stop == STOP_END:
                return row_of
            self.make_room(stop)

    def make_room(self, stop: int) -> None:
        """Grow what a kernel ran out of, or say that it can't."""
        if stop == STOP_INDEX:
            self.state.grow_index()
        elif stop == STOP_ROWS:
            raise self.state.full("rows for customers")
        else:
            raise self.state.full("pool for rings, waits and spilled keys")

    def _hand_over(self, records: Words, text: Bytes, decided: list[Decisions]) -> None:
        out = self._out
        used = out.used
        if used[OUT_LOG] or used[OUT_CHANGES] or used[OUT_CREDITS]:
            log = out.log[: used[OUT_LOG]].copy()
            actions = out.actions[: used[OUT_ACTIONS]].copy()
            changes = out.changes[: used[OUT_CHANGES]].copy()
            made = out.timer_records[: used[OUT_TIMER_RECORDS]].copy()
            if len(made):
                made[:, HEAP] += len(text) << 32
                columns = (
                    log[:, LOG_RECORD],
                    actions[:, ACTION_RECORD],
                    actions[:, ACTION_ITEM],
                    changes[:, CHANGE_RECORD],
                )
                for column in columns:
                    column[column < 0] = len(records) - 1 - column[column < 0]
                records = np.concatenate([records, made])
                text = np.concatenate([text, out.timer_text[: used[OUT_TIMER_TEXT]]])
            self.sequence += 1
            decided.append(
                Decisions(
                    records,
                    text,
                    log,
                    out.reasons[: used[OUT_REASONS]].copy(),
                    out.fired[: used[OUT_FIRED]].copy(),
                    actions,
                    out.numbers[: used[OUT_ACTIONS]].copy(),
                    out.sample[: used[OUT_SAMPLE]].copy(),
                    changes,
                    out.credits[: used[OUT_CREDITS]].copy(),
                    out.items[: used[OUT_ITEMS]].copy(),
                    out.item_text[: used[OUT_ITEM_TEXT]].copy(),
                    self.part,
                    self.sequence,
                )
            )
        used[:] = 0

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
        zones = rows[: self.state.arrays.meta[ROWS_USED], ROW_ZONE] & ZONE_MASK
        for zone in np.unique(zones).tolist():
            self._world.need_zone(zone)
        return sentences
