"""One event's decision against the rules written plainly: a reason for every candidate, limits never passed."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue_kernels import plan, vm
from segue_kernels import row as row_layout
from segue_kernels.consent import GRANTED, SUPPRESSION, WITHDRAWN
from segue_kernels.shard import (
    ACTION_ITEM,
    ACTION_LOG,
    ACTION_OFFER,
    BELOW_MINIMUM,
    CURRENCY,
    LIMIT,
    LOG_CANDIDATES,
    LOG_FIRED,
    LOG_FIRED_COUNT,
    LOG_REASONS,
    LOG_SLOT,
    LOG_WINNER,
    NO_CONSENT,
    NOT_APPLICABLE,
    NOT_ELIGIBLE,
    NOT_SUITABLE,
    OTHER_SLOT,
    OUTSCORED,
    SUPPRESSED,
    WON,
)
from tests.kernels.drivers import (
    NO_ALONE,
    START_MS,
    charge,
    engine_of,
    quick,
    reached,
    records_of,
    released,
    state_for,
    stream,
    tables,
)

SLOTS = 3
TRUE, FALSE = 0, 1  # programs
CONSENT = 2  # the register asked
UNKNOWN = -1  # nothing was ever said of it


@dataclass(frozen=True)
class Offer:
    journey: int
    slot: int
    when: int
    applicable: int
    suitable: int
    currency: int
    consent: bool
    assumed: bool  # where nothing is known
    bias: float
    value: float
    lever: float
    context: float


@dataclass(frozen=True)
class Journey:
    fires: bool
    alongside: bool
    score_min: float
    times: int  # sends allowed: 0 = no limit


JOURNEY = st.builds(
    Journey,
    st.sampled_from((True, True, False)),
    st.booleans(),
    st.sampled_from((0.0, 0.0, 0.9)),
    st.sampled_from((0, 0, 1, 2)),
)
OFFER = st.builds(
    Offer,
    st.integers(0, 9),
    st.integers(0, SLOTS - 1),
    st.sampled_from((-1, -1, -1, TRUE, FALSE)),
    st.sampled_from((-1, -1, TRUE, FALSE)),
    st.sampled_from((-1, -1, TRUE, FALSE)),
    st.sampled_from((0, 0, 7, 8)),
    st.booleans(),
    st.booleans(),
    st.sampled_from((-1.0, 0.0, 0.0, 3.0)),
    st.sampled_from((1.0, 1.0, 2.5)),
    st.sampled_from((1.0, 0.5)),
    st.sampled_from((1.0, 1.0, 1.3)),
)


def compiled(journeys: list[Journey], offers: list[Offer], ranks: list[int]) -> SimpleNamespace:
    """The plan: all journeys listen to type 1; each has its own unkeyed limit of a day."""
    n = len(journeys)
    sent = [stream(plan.COUNT, k=2, type=plan.SENT_TYPE + j) for j in range(n)]
    words = np.zeros((n, plan.JOURNEY_WORDS), np.int64)
    minimum = np.zeros((n, plan.JOURNEY_F_WORDS))
    limits = []
    for j, journey in enumerate(journeys):
        words[j, plan.JOURNEY_WHEN] = TRUE if journey.fires else FALSE
        words[j, plan.JOURNEY_ALONGSIDE] = journey.alongside
        words[j, plan.JOURNEY_OFFERS_START] = sum(o.journey < j for o in offers)
        words[j, plan.JOURNEY_OFFERS_END] = sum(o.journey <= j for o in offers)
        words[j, plan.JOURNEY_LIMITS_START] = len(limits)
        limits += [(j, journey.times, 1_000, 1)] * (journey.times > 0)
        words[j, plan.JOURNEY_LIMITS_END] = len(limits)
        minimum[j, plan.JOURNEY_F_SCORE_MIN] = journey.score_min
    rows = np.zeros((len(offers), plan.OFFER_WORDS), np.int64)
    numbers = np.zeros((len(offers), plan.OFFER_F_WORDS))
    for row, number, offer, rank in zip(rows, numbers, offers, ranks, strict=True):
        consent = CONSENT if offer.consent else -1
        row[:7] = offer.journey, offer.slot, offer.when, rank, consent, -1, offer.currency
        row[plan.OFFER_APPLICABLE], row[plan.OFFER_SUITABLE] = offer.applicable, offer.suitable
        row[plan.OFFER_CONSENT_LEAST] = not offer.assumed
        row[plan.OFFER_DISCOUNT] = -1
        number[:] = offer.value, offer.lever, offer.context, offer.bias
    triggered = np.zeros(plan.TYPES + 1, np.int64)
    triggered[2:] = n
    code = np.zeros((2, plan.CODE_WORDS), np.int64)
    code[:, plan.CODE_KIND], code[:, plan.CODE_A] = vm.NUMBER, (0, 1)
    return tables(
        sent,
        limits,
        journeys=words,
        journeys_f=minimum,
        offers=rows,
        offers_f=numbers,
        trigger_start=triggered,
        trigger=np.arange(n, dtype=np.int64),
        slot_hash=np.arange(SLOTS, dtype=np.int64),
        journey_hash=np.arange(n, dtype=np.int64),
        program_start=np.array([0, 1, 2]),
        code=code,
        constants=np.array([1.0, 0.0]),
        program_address=np.zeros(2, np.int64),
    )


def plain(
    journeys: list[Journey], offers: list[Offer], ranks: list[int], sent: list[int], known: int
) -> tuple[list[int], list[int]]:
    """(reason of every offer of a fired journey, winners by slot); `sent` counts sends and is charged."""

    def score(o: int) -> float:
        p = 1.0 / (1.0 + exp(-offers[o].bias))
        return p * offers[o].context * offers[o].value * offers[o].lever

    def limited(o: int) -> bool:
        journey = journeys[offers[o].journey]
        return 0 < journey.times <= sent[offers[o].journey]

    reasons: dict[int, int] = {}
    for o, offer in enumerate(offers):
        if not journeys[offer.journey].fires:
            continue
        if offer.when == FALSE:
            reasons[o] = NOT_ELIGIBLE
        elif offer.applicable == FALSE:
            reasons[o] = NOT_APPLICABLE
        elif offer.suitable == FALSE:
            reasons[o] = NOT_SUITABLE
        elif offer.currency not in (0, 7):
            reasons[o] = CURRENCY
        elif offer.consent and known != GRANTED and not (offer.assumed and known == UNKNOWN):
            reasons[o] = SUPPRESSED if known == SUPPRESSION else NO_CONSENT
        elif limited(o):
            reasons[o] = LIMIT
        elif score(o) < journeys[offer.journey].score_min:
            reasons[o] = BELOW_MINIMUM
        else:
            reasons[o] = WON

    def best(of: list[int]) -> int:
        return max(of, key=lambda o: (score(o), -ranks[o]))

    winners = {}
    for slot in range(SLOTS):
        able = [o for o, reason in reasons.items() if reason == WON and offers[o].slot == slot]
        if able:
            winners[slot] = best(able)
            reasons.update((o, OUTSCORED) for o in able if o != winners[slot])
    alone = [o for o in winners.values() if not journeys[offers[o].journey].alongside]
    for o in alone:
        if o != best(alone):
            reasons[o] = OTHER_SLOT
            del winners[offers[o].slot]
    for slot in sorted(winners):
        o = winners[slot]
        if limited(o):
            reasons[o] = LIMIT
            del winners[slot]
        else:
            sent[offers[o].journey] += 1
    return [reasons.get(o, -1) for o in range(len(offers))], [winners.get(s, -1) for s in range(SLOTS)]


@quick(150)
@given(st.lists(JOURNEY, min_size=1, max_size=4), st.lists(OFFER, min_size=1, max_size=8), st.data())
def test_decisions_are_those_of_the_rules(
    journeys: list[Journey], offers: list[Offer], data: st.DataObject
) -> None:
    offers = sorted(
        (Offer(o.journey % len(journeys), *list(o.__dict__.values())[1:]) for o in offers),
        key=lambda o: o.journey,
    )
    ranks = data.draw(st.permutations(range(len(offers))))
    known = data.draw(st.sampled_from((UNKNOWN, GRANTED, GRANTED, WITHDRAWN, SUPPRESSION)))
    engine = engine_of(compiled(journeys, offers, ranks))
    fired = [j for j, journey in enumerate(journeys) if journey.fires]
    sent = [0] * len(journeys)
    for turn in range(3):
        records, text = records_of([{"time": START_MS + turn, "message": turn + 1, "currency": 7}])
        engine.state.arrays.rows[row_layout.CONSENT + CONSENT] = (
            0 if known == UNKNOWN else 4 * START_MS + known
        )
        parts = engine.process(released(records, text))
        reasons, winners = plain(journeys, offers, ranks, sent, known)
        expected = []
        for slot in range(SLOTS):
            said = [reasons[o] for o, offer in enumerate(offers) if offer.slot == slot and reasons[o] >= 0]
            if said:
                expected.append((slot, winners[slot], said, fired))
        found = [
            (
                int(log[LOG_SLOT]),
                int(log[LOG_WINNER]),
                part.reasons[log[LOG_REASONS] : log[LOG_REASONS] + log[LOG_CANDIDATES]].tolist(),
                part.fired[log[LOG_FIRED] : log[LOG_FIRED] + log[LOG_FIRED_COUNT]].tolist(),
            )
            for part in parts
            for log in part.log
        ]
        assert found == expected
        actions = [
            (int(part.log[action[ACTION_LOG], LOG_SLOT]), int(action[ACTION_OFFER]), int(action[ACTION_ITEM]))
            for part in parts
            for action in part.actions
        ]
        assert actions == [(slot, o, 0) for slot, o in enumerate(winners) if o >= 0]


KEYED = ((0, 2, 50, 1), (1, 1, 20, 1), (1, 3, 0, 0))  # two in 50; by product one in 20, three ever


@quick(150)
@given(
    st.lists(
        st.tuples(st.sampled_from((0, 1, 7, 19, 20, 49, 60)), st.integers(0, 4), st.booleans()), max_size=30
    )
)
def test_a_limit_is_reached_by_the_sends_in_its_window(steps: list[tuple[int, int, bool]]) -> None:
    made = tables(
        [
            stream(plan.COUNT, type=plan.SENT_TYPE, window_ms=50),
            stream(plan.COUNT, type=plan.SENT_TYPE, by=plan.BY_PRODUCT, window_ms=0, slots=1),
        ],
        KEYED,
    )
    state = state_for(made)
    now = START_MS
    sends: list[tuple[int, int]] = []
    for later, product, send in steps:
        now += later
        expected = (
            sum(time > now - 50 for time, _ in sends) >= 2
            or (product != 0 and sum(time > now - 20 for time, key in sends if key == product) >= 1)
            or (product != 0 and sum(key == product for _, key in sends) >= 3)
        )
        assert reached(state.arrays, state.plan, NO_ALONE, 0, 0, now, product, 99, True) is expected
        if send:
            charge(state.arrays, state.plan, 0, 0, now, product, 99)
            sends.append((now, product))
