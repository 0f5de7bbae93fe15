"""What was sent before a crash, against plain lists: limits count it, decisions wait for their triggers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue import limits
from segue.decide.engine import ShardEngine
from segue.kafka.receipts import offer_hash
from segue_kernels import plan, receipt
from segue_kernels.decide import first_alone
from segue_kernels.pending import PENDING_FLAGS, PENDING_LO, PENDING_OFFER, PENDING_WORDS
from segue_kernels.row import KEY_LO
from segue_kernels.shard import ALONE_DECISION_HI, ALONE_LO, ALONE_WORDS
from tests.kernels.drivers import Words, engine_of, find, key_of, quick, reached, stream, tables

HOUR_MS = limits.HOUR_MS
START_MS = 1_000 * HOUR_MS
PRODUCTS = 4
# times, window, by product
LIMITS = ((3, 4 * HOUR_MS, False), (1, 2 * HOUR_MS, True))


def made() -> SimpleNamespace:
    """One journey: three in four hours at most, each product once in two. One product has its place in the row."""
    streams = [
        stream(plan.COUNT, k=3, type=plan.SENT_TYPE, window_ms=4 * HOUR_MS),
        stream(plan.COUNT, k=1, type=plan.SENT_TYPE, by=plan.BY_PRODUCT, slots=1, window_ms=2 * HOUR_MS),
    ]
    offers = np.zeros((2, plan.OFFER_WORDS), np.int64)
    return tables(
        streams,
        [(n, times, window, 1) for n, (times, window, _) in enumerate(LIMITS)],
        offers=offers,
        offers_f=np.zeros((2, plan.OFFER_F_WORDS)),
        journey_infos=[SimpleNamespace(id="journey")],
        offer_infos=[SimpleNamespace(id="first", journey=0), SimpleNamespace(id="second", journey=0)],
    )


def receipts_for(drawn: list[tuple[int, int, bool, bool]], part: int = 0) -> Words:
    """(decision, sequence, logged, nothing won) a receipt; all else follows from the decision."""
    rows = np.zeros((len(drawn), receipt.RECEIPT_WORDS), np.int64)
    for row, (decision, sequence, logged, nothing) in zip(rows, drawn, strict=True):
        customer, product, time, offer = facts(decision)
        row[receipt.RECEIPT_PART], row[receipt.RECEIPT_SEQUENCE] = part, sequence
        row[[receipt.RECEIPT_CUSTOMER_LO, receipt.RECEIPT_CUSTOMER_HI]] = key_of(customer)
        row[receipt.RECEIPT_DECISION_LO], row[receipt.RECEIPT_DECISION_HI] = decision % 7, decision
        row[receipt.RECEIPT_OFFER] = 0 if nothing else offer_hash("journey", offer)
        row[receipt.RECEIPT_TIME], row[receipt.RECEIPT_PRODUCT] = time, product
        row[receipt.RECEIPT_FLAGS] = receipt.RECEIPT_IS_LOGGED if logged else receipt.RECEIPT_IS_SENT
    return rows


def facts(decision: int) -> tuple[int, int, int, str]:
    """(customer, product, time, offer) of a decision."""
    time = START_MS + decision * 17 % 11 * HOUR_MS
    return decision % 3, decision * 5 % PRODUCTS, time, ("first", "second", "gone")[decision % 5 % 3]


def pending_of(engine: ShardEngine) -> dict[int, tuple[int, int]]:
    return {decision: (flags & 3, offer) for _, decision, flags, offer, *_ in engine.pending_words().tolist()}


def limit_passed(
    charged: list[int], alone: list[int], now: int, times: int, window: int, ahead: bool
) -> bool:
    """Whether one more send at `now` is too many in a window that ends then, or at one of `alone` that comes later."""
    charged = sorted(charged)[-times:] if times == 1 else sorted(charged)[-3:]  # as many as are kept
    ends = [now, *(time for time in alone if ahead and now < time < now + window)]
    alone = [
        time for time in alone if ahead or time != now
    ]  # decided later, though its customer's clock stood still
    if sum(time > now - window for time in charged) >= times:
        return True
    return any(
        sum(time > end - window for time in charged) + sum(end - window < time <= end for time in alone)
        >= times
        for end in ends
    )


def of_decision(drawn: tuple[int, int, bool]) -> tuple[int, int, bool, bool]:
    """(decision, number of the run, logged, nothing won): where nothing wins is nothing sent, whoever tells of it."""
    decision, number, logged = drawn
    nothing = decision % 4 == 3
    return decision, number, logged or nothing, nothing


RECEIPTS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 6), st.booleans()).map(of_decision), max_size=40
)


@quick(120)
@given(RECEIPTS, RECEIPTS, st.integers(0, 3))
def test_receipts_are_charged_once(first: Any, second: Any, known: int) -> None:
    engine = engine_of(made())
    engine.sequence = known
    sends: dict[int, tuple[int, int, int]] = {}
    alone: dict[int, tuple[int, int, int]] = {}
    flags: dict[int, int] = {}
    offers: dict[int, int] = {}
    unknown: set[int] = set()
    for drawn in (first, second):
        charged = set(sends)
        sequence = engine.sequence
        for decision, number, logged, nothing in drawn:
            if number <= sequence:
                continue
            customer, product, time, offer = facts(decision)
            flags[decision] = flags.get(decision, 0) | (2 if logged else 1)
            offers.setdefault(decision, 0)
            if nothing:
                continue
            offers[decision] = offer_hash("journey", offer)
            if offer == "gone":
                unknown.add(decision)
            elif decision not in sends:
                alone[decision] = (customer, product, time)
        for decision in [decision for decision in alone if flags[decision] & 2]:
            sends[decision] = alone.pop(decision)
        assert engine.charge(receipts_for(drawn)) == len(sends.keys() - charged)
        assert engine.sequence == max([sequence, *(number for _, number, _, _ in drawn)])
    counters = engine.state.counters()
    assert counters["charged"] == len(sends)
    assert counters["offers_unknown"] == len(unknown)
    assert counters["pending_now"] == len(flags)
    assert pending_of(engine) == {decision: (flags[decision], offers[decision]) for decision in flags}

    assert sorted(word[ALONE_DECISION_HI] for word in engine.alone_words().tolist()) == sorted(alone)
    other = engine_of(made())
    other.restore_alone(engine.alone_words())
    assert sorted(other.alone_words().tolist()) == sorted(engine.alone_words().tolist())

    state = engine.state
    for customer in range(3):
        row = find(state.arrays, state.row_words, *key_of(customer))
        mine = [(product, time) for who, product, time in sends.values() if who == customer]
        assert (row >= 0) == bool(mine)
        if row < 0:
            continue
        assert state.arrays.rows[row * state.row_words + KEY_LO] == key_of(customer)[0]
        for hour in range(-3, 20):  # in ascending order: looking may let go of what is over by then
            now = START_MS + hour * HOUR_MS
            for product in range(PRODUCTS):
                base = row * state.row_words
                for ahead in (False, True):
                    expected = any(
                        limit_passed(
                            [t for p, t in mine if not by or p == product],
                            [t for w, p, t in alone.values() if w == customer and (not by or p == product)],
                            now,
                            times,
                            window,
                            ahead,
                        )
                        for times, window, by in LIMITS
                        if not by or product
                    )
                    others = state.replay.alone
                    found = reached(state.arrays, state.plan, others, row, base, now, product, 0, ahead)
                    assert found == expected


@quick(100)
@given(st.lists(st.integers(-4, 4), max_size=9), st.integers(-5, 5))
def test_rows_of_a_customer_are_found_among_those_alone(customers: list[int], customer: int) -> None:
    alone = np.zeros((len(customers), ALONE_WORDS), np.int64)
    alone[:, ALONE_LO] = sorted(customers)
    assert first_alone(alone, customer) == sum(other < customer for other in customers)


@quick(60)
@given(RECEIPTS, st.integers(0, 20))
def test_pending_decisions_are_saved_and_forgotten(drawn: Any, hours: int) -> None:
    engine = engine_of(made())
    engine.charge(receipts_for(drawn))
    before = pending_of(engine)
    other = engine_of(made())
    other.restore_pending(engine.pending_words())
    assert pending_of(other) == before
    watermark = START_MS + hours * HOUR_MS
    engine.advance(watermark)
    left = {
        decision: what
        for decision, what in before.items()
        if facts(decision)[2] >= watermark - limits.PENDING_MS
    }
    assert pending_of(engine) == left
    counters = engine.state.counters()
    assert (counters["pending_now"], counters["pending_forgotten"]) == (len(left), len(before) - len(left))
    engine.charge(receipts_for([(decision, 99, True, True) for decision in range(31, 60)]))
    assert pending_of(engine) == left | dict.fromkeys(range(31, 60), (2, 0))


def test_receipts_of_other_parts_are_no_business_of_this_one() -> None:
    engine = engine_of(made())
    assert engine.charge(receipts_for([(1, 5, False, False)], part=1)) == 0
    assert (engine.sequence, pending_of(engine)) == (0, {})


def test_an_offer_that_came_back_is_known_again() -> None:
    words = np.zeros((1, PENDING_WORDS), np.int64)
    words[0, PENDING_LO], words[0, PENDING_FLAGS] = 5, receipt.RECEIPT_IS_SENT
    words[0, PENDING_OFFER] = offer_hash("journey", "second")
    engine = engine_of(made())
    engine.restore_pending(words)
    assert engine.state.replay.pending[:, 4].max() == 1


@pytest.mark.parametrize("count", [5_000])
def test_many_receipts(count: int) -> None:
    """Tables grow on the way."""
    drawn = [(decision, 1, logged, False) for decision in range(count) for logged in (False, True)]
    rows = receipts_for(drawn)
    for row, (decision, *_) in zip(rows, drawn, strict=True):
        row[[receipt.RECEIPT_CUSTOMER_LO, receipt.RECEIPT_CUSTOMER_HI]] = key_of(decision % 2_000)
    engine = engine_of(made())
    assert engine.charge(rows) == sum(facts(decision)[3] != "gone" for decision in range(count))
    assert engine.state.counters()["pending_now"] == count
