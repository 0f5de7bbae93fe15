"""The engine of one shard: released rows in, decisions out. The only owner of its customers' state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segue.events.names import CODE_BY_NAME
from segue.policy.compiled import CompiledPolicies
from segue.routing.arrivals import Released
from segue.state.shard import EngineSettings, ShardState
from segue_kernels.customers import find_or_add, sweep
from segue_kernels.engine import run
from segue_kernels.plan import (
    JOURNEY_OFFERS_END,
    JOURNEY_OFFERS_START,
    OFFER_CONSENT,
    OFFER_CONTEXT,
    OFFER_CURRENCY,
    OFFER_SLOT,
    OFFER_WHEN,
)
from segue_kernels.record import FLAG_HAS_HISTORY, PACK, RECORD_WORDS, TIME
from segue_kernels.shard import (
    ACTION_WORDS,
    CHANGE_WORDS,
    CREDIT_WORDS,
    LOG_WORDS,
    OUT_ACTIONS,
    OUT_FIRED,
    OUT_LOG,
    OUT_REASONS,
    OUT_SAMPLE,
    OUT_USED,
    STOP_END,
    STOP_HISTORY,
    STOP_INDEX,
    STOP_OUT,
    STOP_POOL,
    STOP_ROWS,
    STOP_SPILL,
    Out,
    Scratch,
)

Words = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_LOG_ROWS = 8_192  # of the output arrays; a run that fills them hands over and goes on
_SWEEP_ROWS_MIN = 16  # rows looked at for eviction with each batch, at least
_HISTORY_BIT = FLAG_HAS_HISTORY << 8


@dataclass(slots=True)
class Decisions:
    """What one run decided: tables of segue_kernels/shard.py, trimmed, with the rows they point into.

    records, text   the events; LOG_RECORD, ACTION_RECORD and ACTION_ITEM are rows of `records`
    """

    records: Words
    text: Bytes
    log: Words
    reasons: npt.NDArray[np.uint8]
    fired: npt.NDArray[np.uint16]
    actions: Words
    numbers: npt.NDArray[np.float64]
    sample: npt.NDArray[np.float64]


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


class ShardEngine:
    """State and decisions of one shard. `process` is deterministic: the same rows in the same order, however cut
    into batches, give the same decisions."""

    def __init__(self, policies: CompiledPolicies, settings: EngineSettings) -> None:
        words = settings.words(
            policies.row_words, CODE_BY_NAME["Consent Changed"], CODE_BY_NAME["Unsubscribed"]
        )
        self.state = ShardState(policies, settings, words)
        self._words = words
        offers = len(policies.offers)
        width = 1
        if len(policies.journeys):
            per_journey = (
                policies.journeys[:, JOURNEY_OFFERS_END] - policies.journeys[:, JOURNEY_OFFERS_START]
            )
            width = max(1, int(per_journey.max()))
        journeys = max(1, len(policies.journeys))
        slots = max(1, len(policies.slot_hash))
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
            plain=plain_journeys(policies),
        )
        rows = _LOG_ROWS + slots
        self._out = Out(
            used=np.zeros(OUT_USED, np.int64),
            log=np.zeros((rows, LOG_WORDS), np.int64),
            reasons=np.zeros(max(1, offers) + 64 * _LOG_ROWS, np.uint8),
            fired=np.zeros(journeys + 8 * _LOG_ROWS, np.uint16),
            actions=np.zeros((rows, ACTION_WORDS), np.int64),
            numbers=np.zeros((rows, 5), np.float64),
            sample=np.zeros((max(1, offers) + 64 * _LOG_ROWS, 2), np.float64),
            timer_records=np.zeros((_LOG_ROWS, RECORD_WORDS), np.int64),
            timer_text=np.zeros(_LOG_ROWS * 64, np.uint8),
            changes=np.zeros((_LOG_ROWS, CHANGE_WORDS), np.int64),
            credits=np.zeros((_LOG_ROWS, CREDIT_WORDS), np.int64),
            items=np.zeros(_LOG_ROWS * 8, np.int64),
            item_text=np.zeros(_LOG_ROWS * 64, np.uint8),
        )

    def process(self, released: Released) -> list[Decisions]:
        """Run rows in their order; decisions in order, in as many parts as the output arrays were filled."""
        records, text = released.records, released.text
        histories = dict(released.histories)
        if histories:
            records = records.copy()
            for at in histories:
                records[at, PACK] |= _HISTORY_BIT
        row_of = self._rows(records, text)
        state = self.state
        decided: list[Decisions] = []
        position = 0
        while True:
            position, stop = run(
                state.arrays, state.plan, self._scratch, self._out, records, row_of, position, self._words
            )
            if stop == STOP_HISTORY:
                records[position, PACK] &= ~_HISTORY_BIT
                state.join(int(row_of[position]), histories[position], int(records[position, TIME]))
            elif stop == STOP_SPILL:
                state.grow_spill()
            elif stop == STOP_POOL:
                raise state.full("pool for rings and spilled keys")
            else:
                self._hand_over(records, text, decided)
                if stop == STOP_END:
                    break
                assert stop == STOP_OUT
        sweep(state.arrays, state.plan, self._words, max(_SWEEP_ROWS_MIN, len(records) >> 2))
        return decided

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
            raise self.state.full("pool for rings and spilled keys")

    def _hand_over(self, records: Words, text: Bytes, decided: list[Decisions]) -> None:
        out = self._out
        used = out.used
        if used[OUT_LOG]:
            decided.append(
                Decisions(
                    records,
                    text,
                    out.log[: used[OUT_LOG]].copy(),
                    out.reasons[: used[OUT_REASONS]].copy(),
                    out.fired[: used[OUT_FIRED]].copy(),
                    out.actions[: used[OUT_ACTIONS]].copy(),
                    out.numbers[: used[OUT_ACTIONS]].copy(),
                    out.sample[: used[OUT_SAMPLE]].copy(),
                )
            )
        used[:] = 0
