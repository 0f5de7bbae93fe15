"""Actions that may be taken back: the newest of a customer, joined with another's in any order; each once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue.limits import OUTSTANDING_PER_CUSTOMER_MAX
from segue.state.shard import ShardState
from segue_kernels import plan, row, shard
from segue_kernels.history import H_CLOCK
from segue_kernels.jit import kernel
from segue_kernels.outstanding import keep_outstanding
from segue_kernels.receipt import RECEIPT_IS_WITHDRAWN
from segue_kernels.takeback import BY_CONSENT, BY_ERASURE, BY_GOAL, BY_TIME, take_back
from segue_kernels.waits import OUTSTANDING_WORDS
from tests.kernels.drivers import (
    START_MS,
    TYPE_A,
    TYPE_B,
    Words,
    meta,
    quick,
    records_of,
    state_for,
    stream,
    tables,
)
from tests.kernels.feeding import small_out

# offers, one a journey: what their journey is by, for how long it is outstanding, holds good, and its consent
BYS = (plan.BY_NONE, plan.BY_PRODUCT)
LASTS = (20, 30)
EXPIRES = (20, 50)
CONSENTS = (0, -1)
GOALS = ((TYPE_A, 0), (TYPE_A, 1), (TYPE_B, 1))  # of journeys, by type
WHY = ("consent", "suppressed", "goal", "expired", "erased")


@dataclass(frozen=True, order=True)
class One:
    """An outstanding action, ordered by age."""

    time: int
    decision: int
    journey: int
    step: int
    until: int
    key: int
    tells: bool


@kernel
def keep(
    to: Any, tables: Any, words: Words, offer: int, step: int, one: Words, certain: bool, settings: Words
) -> None:
    keep_outstanding(
        to, tables, words, offer, step, one[0], 7, one[1], one[2], one[3], certain, False, 0, settings
    )


@kernel
def take(
    to: Any, tables: Any, replay: Any, out: Any, records: Words, kind: int, by: int, now: int, words: Words
) -> None:
    take_back(to, tables, replay, out, records, 0, len(records), kind, by, 0, 0, now, words)


def state() -> ShardState:
    journeys = np.zeros((2, plan.JOURNEY_WORDS), np.int64)
    offers = np.full((2, plan.OFFER_WORDS), -1, np.int64)
    for n in range(2):
        journeys[n, plan.JOURNEY_BY] = BYS[n]
        journeys[n, plan.JOURNEY_OFFERS_START], journeys[n, plan.JOURNEY_OFFERS_END] = n, n + 1
        offers[n, plan.OFFER_JOURNEY], offers[n, plan.OFFER_SLOT], offers[n, plan.OFFER_CONTACT] = n, 0, 0
        offers[n, plan.OFFER_TAKE_BACK_MS], offers[n, plan.OFFER_EXPIRES_MS] = LASTS[n], EXPIRES[n]
        offers[n, plan.OFFER_CONSENT], offers[n, plan.OFFER_CONSENT_LEAST] = CONSENTS[n], 0
        offers[n, plan.OFFER_CAMPAIGN] = 0
    ordered = sorted(GOALS)
    start = np.array([sum(kind < k for kind, _ in ordered) for k in range(plan.TYPES + 1)], np.int64)
    made = tables(
        [stream(plan.COUNT)],
        journeys=journeys,
        offers=offers,
        offer_hash=np.array([101, 102]),
        journey_hash=np.array([11, 12]),
        goal_start=start,
        goal=np.array([journey for _, journey in ordered], np.int64),
    )
    return state_for(made)


def newest(found: set[One]) -> list[One]:
    return sorted(found)[-OUTSTANDING_PER_CUSTOMER_MAX:]


KEPT = st.tuples(
    st.just("keep"),
    st.integers(0, 1),  # offer
    st.integers(1, 3),  # step
    st.integers(-3, 3),  # decision
    st.integers(0, 60),  # time
    st.integers(0, 10),  # ago, of the first decision
    st.integers(0, 3),  # product
    st.booleans(),
)
TAKEN = st.tuples(
    st.sampled_from(("goal", "time", "consent", "erasure")), st.integers(0, 80), st.integers(0, 3)
)
Step = tuple[Any, ...]


def kept(to: ShardState, step: Step) -> One:
    """Keep an action; what it is."""
    _, offer, number, decision, time, ago, product, certain = step
    time += START_MS
    key = product if BYS[offer] else 0
    word = np.array([decision, time, time - ago, key])
    room = np.zeros(OUTSTANDING_WORDS, np.int64)
    keep(to.arrays, to.plan, room, offer, number, word, certain, to.words)
    expires = time - ago + EXPIRES[offer]
    until = min(time + LASTS[offer], expires)
    return One(time, decision, offer, number, until, key, certain and until == expires)


def why(one: One, cause: str, now: int, product: int, register: int) -> str:
    """Why it does not stay; "": it does."""
    if cause == "erasure":
        return "erased"
    if cause == "time":
        return "expired" if one.until <= now else ""
    if cause == "goal":
        return "goal" if one.journey == 0 or (product and one.key == product) else ""
    return ("", "consent", "suppressed")[register] if one.journey == 0 else ""


def told(out: shard.Out) -> list[tuple[int, int, int, str]]:
    rows = out.withdrawn[: out.used[shard.OUT_WITHDRAWN]].tolist()
    return [
        (
            of[shard.WITHDRAWN_DECISION_LO],
            of[shard.WITHDRAWN_OFFER],
            of[shard.WITHDRAWN_STEP],
            WHY[of[shard.WITHDRAWN_WHY]],
        )
        for of in rows
    ]


def taken(to: ShardState, cause: str, now: int, product: int) -> list[tuple[int, int, int, str]]:
    out = small_out()._replace(withdrawn=np.zeros((64, shard.WITHDRAWN_WORDS), np.int64))
    records, _ = records_of([{"time": START_MS, "product": product}])
    by = {"goal": BY_GOAL, "time": BY_TIME, "consent": BY_CONSENT, "erasure": BY_ERASURE}[cause]
    take(to.arrays, to.plan, to.replay, out, records, TYPE_A, by, START_MS + now, to.words)
    return told(out)


@quick(150)
@given(st.lists(st.one_of(KEPT, KEPT, KEPT, TAKEN), max_size=60))
def test_each_is_taken_back_once_the_oldest_first(steps: list[Step]) -> None:
    to = state()
    expected: list[One] = []
    dropped = 0
    for step in steps:
        if step[0] == "keep":
            one = kept(to, step)
            same = [
                o
                for o in expected
                if (o.decision, o.journey, o.step) == (one.decision, one.journey, one.step)
            ]
            if not same:
                dropped += len(expected) == OUTSTANDING_PER_CUSTOMER_MAX
                expected = newest({*expected, one})
            continue
        cause, now, product = step
        register = now % 3 if cause == "consent" else 0
        to.arrays.rows[row.CONSENT] = 4 * START_MS + register if register else 0
        reasons = [why(one, cause, START_MS + now, product, register) for one in expected]
        assert taken(to, cause, now, product) == [
            (one.decision, one.journey, one.step, reason)
            for one, reason in zip(expected, reasons, strict=True)
            if reason and (reason != "expired" or one.tells)
        ]
        expected = [one for one, reason in zip(expected, reasons, strict=True) if not reason]
        assert meta(to, row.WAITS_PENDING) == len(expected)
    assert meta(to, row.COUNT_OUTSTANDING_DROPPED) == dropped
    if expected:
        assert to.arrays.rows[row.WHEEL_DUE] <= min(one.until for one in expected)
    taken(to, "erasure", 0, 0)
    assert meta(to, row.POOL_WORDS_USED) == 0


@quick(100)
@given(
    st.lists(st.lists(KEPT, max_size=25), min_size=3, max_size=3),
    st.permutations((0, 1, 2)),
    st.integers(0, 80),
)
def test_joined_in_any_order_the_newest_stay(sides: list[list[Step]], order: list[int], now: int) -> None:
    histories, every = [], set()
    for n, steps in enumerate(sides):
        side = state()
        mine: set[One] = set()
        for step in steps:
            apart = (*step[:3], step[3] + 100 * n, *step[4:])  # decisions of several customers differ
            one = kept(side, apart)
            if all((o.decision, o.journey, o.step) != (one.decision, one.journey, one.step) for o in mine):
                mine = set(newest({*mine, one}))
        every |= mine
        histories.append(side.history(0))
        histories[-1][H_CLOCK] = START_MS
    to = state()
    for n in order:
        to.join(0, histories[n], START_MS)
    stay = newest(every)
    assert bool(to.arrays.rows[row.FLAGS] & row.FLAG_ASKS_CONSENT) == bool(stay)
    assert taken(to, "time", now, 0) == [
        (one.decision, one.journey, one.step, "expired")
        for one in stay
        if one.until <= START_MS + now and one.tells
    ]
    assert taken(to, "erasure", now, 0) == [
        (one.decision, one.journey, one.step, "erased") for one in stay if one.until > START_MS + now
    ]


def test_what_was_taken_back_before_a_crash_is_not_told_again() -> None:
    to = state()
    for decision in (1, 2):
        kept(to, ("keep", 0, 1, decision, 0, 0, 0, True))
    to.make_pending_room(1)
    pending = to.replay.pending
    pending[1, :3] = 1, 7, RECEIPT_IS_WITHDRAWN
    to.arrays.meta[row.PENDING_NOW] = 1
    assert taken(to, "goal", 0, 0) == [(2, 0, 1, "goal")]
    assert meta(to, row.PENDING_NOW) == meta(to, row.WAITS_PENDING) == 0
