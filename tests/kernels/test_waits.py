"""Waits of a customer: one a journey and key, bounded, with their strings, joined with another's in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue.state.shard import ShardState, block_words
from segue_kernels import plan, record, row
from segue_kernels.history import H_CLOCK
from segue_kernels.jit import kernel
from segue_kernels.waits import (
    WAIT_KEPT,
    WAIT_NEXT,
    WAIT_SHAPE,
    WAIT_WORDS_MAX,
    arm,
    drop_wait,
    next_step,
    restore_record,
    words_of,
)
from tests.kernels import canonical
from tests.kernels.drivers import START_MS, Bytes, Words, meta, quick, records_of, state_for, stream, tables

DELAYS = ((5, 9, 50), (7,), (3, 4))
RESTARTS = (False, True, True)
BYS = (plan.BY_PRODUCT, plan.BY_CATEGORY, plan.BY_PRODUCT)
KEYS = {plan.BY_PRODUCT: "product", plan.BY_CATEGORY: "category"}
WAITS_MAX = 64


@kernel
def arm_wait(
    shard: Any, tables: Any, records: Words, text: Bytes, item: int, journey: int, key: int, words: Words
) -> None:
    arm(shard, tables, records, text, item, item, journey, key, 0, words)


@kernel
def step_on(shard: Any, tables: Any, block: int, fired: bool) -> int:
    return next_step(shard, tables, 0, block, fired)


@kernel
def drop(shard: Any, block: int) -> None:
    drop_wait(shard, 0, block)


def state() -> ShardState:
    journeys = np.zeros((len(DELAYS), plan.JOURNEY_WORDS), np.int64)
    waits: list[int] = []
    for words, delays, restarts, by in zip(journeys, DELAYS, RESTARTS, BYS, strict=True):
        words[plan.JOURNEY_KIND], words[plan.JOURNEY_RESTART] = plan.ON_WAIT, restarts
        words[plan.JOURNEY_BY] = by
        words[plan.JOURNEY_WAITS_START] = len(waits)
        waits += delays
        words[plan.JOURNEY_WAITS_END] = len(waits)
    return state_for(tables([stream(plan.COUNT)], journeys=journeys, waits=np.array(waits, np.int64)))


def blocks_of(state: ShardState) -> list[int]:
    found = []
    block = int(state.arrays.rows[row.WAITS])
    while block:
        found.append(block)
        block = int(state.arrays.pool[block + WAIT_NEXT])
    return found


def wait_at(state: ShardState, block: int) -> tuple[int, ...]:
    """The wait of a block: (due, journey, key, step, time, message)."""
    return canonical.wait_of(
        state.plan, state.arrays.pool[block + WAIT_SHAPE : block + WAIT_WORDS_MAX].tolist()
    )


def waits_of(state: ShardState) -> dict[tuple[int, int], tuple[int, ...]]:
    """(journey, key): (due, step, time, message)."""
    found = {}
    for block in blocks_of(state):
        due, journey, key, *rest = wait_at(state, block)
        found[journey, key] = (due, *rest)
    return found


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("arm", "arm", "arm", "fires", "over")),
        st.integers(0, 2),  # journey
        st.integers(1, 40),  # key
        st.integers(0, 20),  # time
    ),
    max_size=120,
)
Steps = list[tuple[str, int, int, int]]


def apply(to: ShardState, steps: Steps, message: int = 1) -> dict[tuple[int, int], tuple[int, ...]]:
    """What the waits must be after these steps."""
    expected: dict[tuple[int, int], tuple[int, ...]] = {}
    refused = 0
    for n, (what, journey, key, time) in enumerate(steps):
        time += START_MS
        pending = expected.get((journey, key))
        if what == "arm":
            of_key = {KEYS[BYS[journey]]: key, "price": n % 3, "source": n % 2}
            records, text = records_of([{"time": time, "message": message + n, **of_key}])
            arm_wait(to.arrays, to.plan, records, text.copy(), 0, journey, key, to.words)
            if pending is None and len(expected) == WAITS_MAX:
                refused += 1
            elif pending is None or (RESTARTS[journey] and time > pending[2]):
                expected[journey, key] = (time + DELAYS[journey][0], 1, time, message + n)
        elif pending is not None:
            block = next(b for b in blocks_of(to) if _is(to, b, journey, key))
            step = pending[1]
            again = what == "fires" and step < len(DELAYS[journey])
            due = step_on(to.arrays, to.plan, block, what == "fires")
            if again:
                assert due == pending[2] + DELAYS[journey][step]
                expected[journey, key] = (due, step + 1, *pending[2:])
            else:
                assert due == 0
                del expected[journey, key]
    assert meta(to, row.COUNT_WAITS_REFUSED) == refused
    return expected


def _is(state: ShardState, block: int, journey: int, key: int) -> bool:
    return wait_at(state, block)[1:3] == (journey, key)


@quick(150)
@given(STEPS)
def test_waits_are_armed_step_on_and_are_over(steps: Steps) -> None:
    to = state()
    expected = apply(to, steps)
    assert waits_of(to) == expected
    assert meta(to, row.WAITS_PENDING) == len(expected)
    if expected:
        assert to.arrays.rows[row.WHEEL_DUE] <= min(due for due, *_ in expected.values())
    for block in blocks_of(to):
        drop(to.arrays, block)
    assert meta(to, row.POOL_WORDS_USED) == 0


@quick(100)
@given(STEPS, STEPS, STEPS, st.permutations((0, 1, 2)))
def test_joining_waits_is_commutative(first: Steps, second: Steps, third: Steps, order: list[int]) -> None:
    sides, expected = [], []
    for n, steps in enumerate((first, second, third)):
        side = state()
        expected.append(apply(side, steps, 1 + 1_000 * n))
        sides.append(side.history(0))
        sides[-1][H_CLOCK] = START_MS
    merged: dict[tuple[int, int], tuple[int, ...]] = {}
    for waits in expected:
        for of, wait in waits.items():
            best = max if RESTARTS[of[0]] else min
            merged[of] = best(merged.get(of, wait), wait, key=lambda one: one[2:])
    to = state()
    for n in order:
        to.join(0, sides[n], START_MS)
    if len(merged) <= WAITS_MAX:
        assert waits_of(to) == merged
        written = [canonical.wait_of(to.plan, wait)[:3] for wait in canonical.of_row(to, 0)["waits"]]
        assert written == sorted(written)  # in a history they stand in the order in which they come due
    else:
        assert len(waits_of(to)) == WAITS_MAX


KEPT = {
    **{"product": record.PRODUCT, "category": record.CATEGORY, "store": record.STORE, "code": record.CODE},
    **{"price": record.PRICE, "amount": record.AMOUNT, "source": record.SOURCE},
}


@kernel
def restored(shard: Any, block: int, records: Words) -> int:
    return restore_record(shard.pool, block, records, 0)


@quick(150)
@given(
    st.fixed_dictionaries({name: st.sampled_from((0, 0, 1, -1, 1 << 62, -(1 << 63))) for name in KEPT}),
    st.binary(max_size=255),
    st.binary(max_size=255),
    st.binary(max_size=255),
)
def test_words_and_strings_are_kept(
    given_words: dict[str, int], message: bytes, product: bytes, category: bytes
) -> None:
    to = state()
    records, _ = records_of([{"time": START_MS, "quantity": 7}])
    for name, word in given_words.items():
        records[0, KEPT[name]] = word
    lengths = len(message) << 8 | len(product) << 16 | len(category) << 24
    records[0, record.HEAP] = 3 << 32 | 2 | lengths
    strings = message + product + category
    text = np.frombuffer(b"...ab" + strings + b"...", np.uint8).copy()
    arm_wait(to.arrays, to.plan, records, text, 0, 1, given_words["category"], to.words)
    (block,) = blocks_of(to)
    made = np.zeros((1, record.RECORD_WORDS), np.int64)
    at = restored(to.arrays, block, made)
    assert {name: made[0, word] for name, word in KEPT.items()} == given_words
    pool = to.arrays.pool
    assert pool[at : at + (len(strings) + 7) // 8].tobytes()[: len(strings)] == strings
    words = int(words_of(int(pool[block + WAIT_SHAPE])))
    assert words == WAIT_KEPT + sum(word != 0 for word in given_words.values()) + (len(strings) + 7) // 8
    assert meta(to, row.POOL_WORDS_USED) == block_words(words)
    step_on(to.arrays, to.plan, block, False)
    assert meta(to, row.POOL_WORDS_USED) == 0


def test_a_wait_is_small() -> None:
    """A product with its category, source and price, and an id of 36 characters: two cache lines."""
    to = state()
    records, _ = records_of(
        [{"time": START_MS, "product": 1, "category": 2, "source": 3, "price": 4, "quantity": 5}]
    )
    records[0, record.HEAP] = 36 << 8 | 12 << 16 | 8 << 24
    arm_wait(to.arrays, to.plan, records, np.zeros(64, np.uint8), 0, 0, 1, to.words)
    assert meta(to, row.POOL_WORDS_USED) == 16
