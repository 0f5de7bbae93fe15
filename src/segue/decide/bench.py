"""Where a worker's parts of the state are processed: several in one call, in room that they share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from segue.decide.decisions import Decisions, take_decisions
from segue.limits import (
    HELD_PER_CUSTOMER_MAX,
    LINES_PER_EVENT_MAX,
    OUTSTANDING_PER_CUSTOMER_MAX,
    PENDING_ROWS_PER_BATCH,
)
from segue.policy.compiled import CompiledPolicies
from segue.state.shard import plan_arrays
from segue_kernels.erase import prepare_row
from segue_kernels.fire import TIMER_TEXT_MAX
from segue_kernels.history import H_ZONE
from segue_kernels.parts import (
    ALL_TIMERS,
    NAME_ZONES,
    PART_DEFAULTS,
    PART_DONE,
    PART_NUMBER,
    PART_POSITION,
    PART_RECORDS,
    PART_WORDS,
    process_parts,
)
from segue_kernels.pending import forget_pending
from segue_kernels.plan import (
    JOURNEY_OFFERS_END,
    JOURNEY_OFFERS_START,
    OFFER_APPLICABLE,
    OFFER_CAMPAIGN,
    OFFER_CONSENT,
    OFFER_CONTACT,
    OFFER_CONTEXT,
    OFFER_CURRENCY,
    OFFER_ITEMS_MAX,
    OFFER_JOURNEY,
    OFFER_SLOT,
    OFFER_SUITABLE,
    OFFER_TAKE_BACK_MS,
    OFFER_WHEN,
    QUIET_CONTACTS,
    QUIET_HOLDS,
)
from segue_kernels.record import (
    CLOCK,
    FLAG_HAS_HISTORY,
    FLAG_IS_LINE,
    PACK,
    RECORD_WORDS,
    TIME,
    ZONE_MASK,
)
from segue_kernels.row import PENDING_NOW
from segue_kernels.shard import (
    ACTION_WORDS,
    CHANGE_WORDS,
    CREDIT_WORDS,
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
    OUT_WITHDRAWN,
    RELEASED_WORDS,
    SAMPLE_WORDS,
    SET_LATENESS_MS,
    SPAN_WORDS,
    STOP_END,
    STOP_HISTORY,
    STOP_OUT,
    STOP_ROW,
    STOP_SPILL,
    STOP_ZONE,
    WITHDRAWN_WORDS,
    Out,
    Scratch,
)
from segue_kernels.waits import OUTSTANDING_WORDS

if TYPE_CHECKING:
    from segue.decide.engine import ShardEngine

Words = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_LOG_ROWS = 8_192  # of the output arrays; a run that fills them hands over and goes on
_STRING_BYTES_MAX = 255
_ROWS_FIRST = 4_096
_HISTORY_BIT = FLAG_HAS_HISTORY << 8
_LINE_BIT = FLAG_IS_LINE << 8
_NO_RECORDS = np.zeros((0, RECORD_WORDS), np.int64)
_NO_TEXT = np.zeros(0, np.uint8)


def plain_journeys(policies: CompiledPolicies) -> npt.NDArray[np.uint8]:
    """Which journeys' offers share a slot, caps, quiet hours, applicability and suitability, and have no other
    condition, currency, consent or context of their own."""
    plain = np.zeros(max(1, len(policies.journeys)), np.uint8)
    for journey, (first, last) in enumerate(
        policies.journeys[:, [JOURNEY_OFFERS_START, JOURNEY_OFFERS_END]].tolist()
    ):
        offers = policies.offers[first:last]
        unchecked = (offers[:, [OFFER_WHEN, OFFER_CONSENT, OFFER_CONTEXT]] < 0).all()
        one_slot = len(set(offers[:, OFFER_SLOT].tolist())) == 1
        caps = {
            tuple(policies.cap[policies.cap_start[contact] : policies.cap_start[contact + 1]].tolist())
            for contact in offers[:, OFFER_CONTACT].tolist()
        }
        quiet = {
            tuple((policies.quiet[:, QUIET_CONTACTS] >> contact & 1).tolist())
            for contact in offers[:, OFFER_CONTACT].tolist()
        }
        layers = {tuple(pair) for pair in offers[:, [OFFER_APPLICABLE, OFFER_SUITABLE]].tolist()}
        alike = one_slot and len(caps) == len(quiet) == len(layers) == 1
        plain[journey] = bool(unchecked and alike and not offers[:, OFFER_CURRENCY].any())
    return plain


def layered_journeys(policies: CompiledPolicies) -> npt.NDArray[np.uint8]:
    """Which journeys ask applicability or suitability of some of their offers."""
    layered = np.zeros(max(1, len(policies.journeys)), np.uint8)
    asked = (policies.offers[:, [OFFER_APPLICABLE, OFFER_SUITABLE]] >= 0).any(axis=1)
    layered[policies.offers[asked, OFFER_JOURNEY]] = 1
    return layered


def records_of_event(records: Words, at: int) -> int:
    """How many records the event at `at` has: its header and its lines; 1 behind the last event."""
    end = at + 1
    while end < len(records) and records[end, PACK] & _LINE_BIT:
        end += 1
    return end - at


@dataclass(slots=True)
class Turn:
    """What a part does in a call: first these records, then its timers due before the watermark.

    histories     by record
    watermark_ms  0 = no timers but those due before a record; without records that of one customer (fire_timers_of)
    timers_max    that fire behind the records
    clock_ms      how far time has come at least; 0 = the records say it
    done          afterwards: whether no timer due before the watermark is left
    """

    engine: ShardEngine
    records: Words = field(default_factory=lambda: _NO_RECORDS)
    text: Bytes = field(default_factory=lambda: _NO_TEXT)
    histories: dict[int, Words] = field(default_factory=dict)
    watermark_ms: int = 0
    timers_max: int = ALL_TIMERS
    clock_ms: int = 0
    done: bool = True


class Bench:
    """Room for one event and for what is decided, shared by engines that run in one thread, of the same policies,
    settings and world."""

    def __init__(self, policies: CompiledPolicies) -> None:
        self._plan = plan_arrays(policies)
        self._sent = np.full(max(1, len(policies.slot_hash)), -1, np.int64)
        self._sent_alone = self._sent.copy()
        self.table = np.zeros((0, PART_WORDS), np.int64)
        self._row_of = np.zeros(0, np.int64)
        self._place = np.zeros(0, np.int64)
        offers = len(policies.offers)
        width = 1
        if len(policies.journeys):
            per_journey = (
                policies.journeys[:, JOURNEY_OFFERS_END] - policies.journeys[:, JOURNEY_OFFERS_START]
            )
            width = max(1, int(per_journey.max()))
        journeys = max(1, len(policies.journeys))
        slots = max(1, len(policies.slot_hash))
        held = HELD_PER_CUSTOMER_MAX if policies.quiet[:, QUIET_HOLDS].any() else 0
        candidates = max(1, offers, held * width)  # a journey may be decided several times in a release
        # those that stand in for a winner with a voucher of a campaign have actions, too
        actions = max(slots, offers) if policies.offers[:, OFFER_CAMPAIGN].any() else slots
        items = actions * (int(policies.offers[:, OFFER_ITEMS_MAX].max()) if offers else 0)
        changes = len(policies.segments) + 1
        credits = (LINES_PER_EVENT_MAX + 1) * len(policies.joins)
        # by consent as an event comes, by its goal after timers that may have sent more
        withdrawn = 2 * OUTSTANDING_PER_CUSTOMER_MAX if policies.offers[:, OFFER_TAKE_BACK_MS].any() else 0
        # what one event or timer may add at most
        most = {
            OUT_LOG: slots,
            OUT_REASONS: candidates,
            OUT_FIRED: max(journeys, held),
            OUT_ACTIONS: actions,
            OUT_SAMPLE: candidates,
            OUT_TIMER_RECORDS: max(1, held),
            OUT_TIMER_TEXT: max(1, held) * TIMER_TEXT_MAX,
            OUT_CHANGES: changes,
            OUT_CREDITS: credits,
            OUT_ITEMS: items,
            OUT_ITEM_TEXT: items * _STRING_BYTES_MAX,
            OUT_WITHDRAWN: withdrawn,
        }
        self.scratch = Scratch(
            location=np.full(
                max(1, len(policies.streams) + len(policies.moments) + len(policies.lookups)), -1, np.int64
            ),
            journey=np.zeros(max(journeys, held), np.int64),
            fired_at=np.zeros(max(journeys, held), np.int64),
            offer=np.zeros(candidates, np.int64),
            item=np.zeros(candidates, np.int64),
            reason=np.zeros(candidates, np.uint8),
            propensity=np.zeros(candidates, np.float64),
            context=np.zeros(candidates, np.float64),
            score=np.zeros(candidates, np.float64),
            discount=np.zeros(candidates, np.int64),
            logit=np.zeros(width, np.float64),
            feature=np.zeros(max(1, len(policies.features)), np.float64),
            best=np.zeros(slots, np.int64),
            ranking=np.zeros(max(1, offers), np.int64),
            candidates=np.zeros(slots, np.int64),
            held=np.zeros((held, RELEASED_WORDS), np.int64),
            outstanding=np.zeros(OUTSTANDING_WORDS, np.int64),
            room=np.zeros(OUT_USED, np.int64),
            plain=plain_journeys(policies),
            layered=layered_journeys(policies),
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
            self.scratch.room[which] = room.get(which, _LOG_ROWS)
        size = {which: room.get(which, _LOG_ROWS) + added for which, added in most.items()}
        # records that these rows refer to, copied when a part is done; what is never touched is no memory
        copied = size[OUT_LOG] + size[OUT_ACTIONS] + size[OUT_CHANGES] + 2 * size[OUT_CREDITS]
        copied += size[OUT_WITHDRAWN]
        size[OUT_TIMER_RECORDS] += copied
        size[OUT_TIMER_TEXT] += copied * TIMER_TEXT_MAX
        self._out = Out(
            used=np.zeros(OUT_USED, np.int64),
            log=np.zeros((size[OUT_LOG], LOG_WORDS), np.int64),
            reasons=np.zeros(size[OUT_REASONS], np.uint8),
            fired=np.zeros(size[OUT_FIRED], np.uint16),
            actions=np.zeros((size[OUT_ACTIONS], ACTION_WORDS), np.int64),
            numbers=np.zeros((size[OUT_ACTIONS], 5), np.float64),
            sample=np.zeros((size[OUT_SAMPLE], SAMPLE_WORDS), np.float64),
            timer_records=np.zeros((size[OUT_TIMER_RECORDS], RECORD_WORDS), np.int64),
            timer_text=np.zeros(size[OUT_TIMER_TEXT], np.uint8),
            changes=np.zeros((size[OUT_CHANGES], CHANGE_WORDS), np.int64),
            credits=np.zeros((size[OUT_CREDITS], CREDIT_WORDS), np.int64),
            items=np.zeros(size[OUT_ITEMS], np.int64),
            item_text=np.zeros(size[OUT_ITEM_TEXT], np.uint8),
            withdrawn=np.zeros((size[OUT_WITHDRAWN], WITHDRAWN_WORDS), np.int64),
            spans=np.zeros((0, SPAN_WORDS), np.int64),
        )

    def join(self, engine: ShardEngine) -> int:
        """A further engine; its row of the table."""
        row = np.zeros((1, PART_WORDS), np.int64)
        row[0, PART_NUMBER] = engine.part
        row[0, PART_DEFAULTS : PART_DEFAULTS + 2] = engine.defaults.ctypes.data, len(engine.defaults)
        self.table = np.concatenate([self.table, row])
        self._out = self._out._replace(spans=np.zeros((len(self.table), SPAN_WORDS), np.int64))
        return len(self.table) - 1

    def process(self, turns: list[Turn]) -> list[Decisions]:
        """Take these turns, one after the other; decisions in order, in as many parts as the output was filled."""
        decided: list[Decisions] = []
        if not turns:
            return decided
        first = turns[0].engine
        rows = [self._prepare(turn) for turn in turns]
        most = max(len(turn.records) for turn in turns)
        if most > len(self._row_of):
            self._row_of = np.empty(max(2 * most, _ROWS_FIRST), np.int64)
            self._place = np.empty(len(self._row_of), np.int64)
        first.state.make_name_room(sum(len(turn.records) for turn in turns))
        order = np.array(rows, np.int64)
        at = 0
        while True:
            at, stop = process_parts(
                self.table,
                order,
                at,
                self._plan,
                self.scratch,
                self._out,
                first.world.arrays,
                self._sent,
                self._sent_alone,
                self._row_of,
                self._place,
                first.words,
            )
            if stop == STOP_END:
                break
            if stop == STOP_OUT:
                self._hand_over(decided)
            else:
                self._help(turns[at], rows[at], stop)
        self._hand_over(decided)
        for turn, row in zip(turns, rows, strict=True):
            self._finish(turn, row)
        return decided

    def _prepare(self, turn: Turn) -> int:
        engine = turn.engine
        row = engine.row
        self._place_arrays(engine)
        records, text = turn.records, turn.text
        self.table[row, PART_RECORDS : PART_DONE + 1] = (
            records.ctypes.data,
            len(records),
            text.ctypes.data,
            len(text),
            turn.watermark_ms,
            turn.clock_ms,
            turn.timers_max,
            NAME_ZONES,
            0,
            1,
        )
        return row

    def _place_arrays(self, engine: ShardEngine) -> None:
        """Where the engine's arrays are now, if others have taken their place."""
        state = engine.state
        if engine.placed[0] is state.arrays and engine.placed[1] is state.replay:
            return
        engine.placed = (state.arrays, state.replay)
        words = [word for array in state.arrays for word in (array.ctypes.data, len(array))]
        for rows in (state.replay.pending, state.replay.alone):
            words += [rows.ctypes.data, len(rows)]
        self.table[engine.row, :PART_DEFAULTS] = words

    def _help(self, turn: Turn, row: int, stop: int) -> None:
        """Do what the kernel can't, so that the turn can go on."""
        engine, records = turn.engine, turn.records
        state, world = engine.state, engine.world
        position = int(self.table[row, PART_POSITION])
        if stop == STOP_ZONE:
            world.need_zones(records[position:])
        elif stop == STOP_HISTORY:
            records[position, PACK] &= ~_HISTORY_BIT
            history = turn.histories[position]
            world.need_zone(int(history[H_ZONE]) & ZONE_MASK)
            watermark = int(records[position, CLOCK] - engine.words[SET_LATENESS_MS])
            time = max(int(records[position, TIME]), watermark)
            state.join(int(self._row_of[position]), history, time)
        elif stop == STOP_ROW:
            of = int(self._row_of[position])
            if prepare_row(state.arrays, state.plan, records, turn.text, position, of, engine.words):
                self.table[row, PART_POSITION] += records_of_event(records, position)
        elif stop == STOP_SPILL:
            state.grow_spill(records_of_event(records, position))
        else:
            engine.make_room(stop)
        self._place_arrays(engine)

    def _finish(self, turn: Turn, row: int) -> None:
        state = turn.engine.state
        turn.done = bool(self.table[row, PART_DONE])
        if len(state.replay.pending) > 1 and turn.watermark_ms and turn.done:
            meta = state.arrays.meta
            if meta[PENDING_NOW]:
                forget_pending(
                    state.replay.pending, meta, turn.watermark_ms, turn.engine.words, PENDING_ROWS_PER_BATCH
                )
        if len(turn.records):
            state.drop_old_tables()

    def _hand_over(self, decided: list[Decisions]) -> None:
        decisions = take_decisions(self._out)
        if decisions is not None:
            decided.append(decisions)
