"""Waits of a customer: one a journey and key, bounded, with their strings, joined with another's in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue.state.shard import ShardState
from segue_kernels import plan, record, row
from segue_kernels.history import H_CLOCK
from segue_kernels.jit import kernel
from segue_kernels.waits import (
    JOURNEY_MASK,
    WAIT_DUE,
    WAIT_JOURNEY,
    WAIT_KEY,
    WAIT_LENGTHS,
    WAIT_MESSAGE_LO,
    WAIT_NEXT,
    WAIT_TEXT,
    WAIT_TIME,
    arm,
    drop_wait,
    next_step,
)
from tests.kernels import canonical
from tests.kernels.drivers import START_MS, Bytes, Words, meta, quick, records_of, state_for, stream, tables

DELAYS = ((5, 9, 50), (7,), (3, 4))
RESTARTS = (False, True, True)
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
    for words, delays, restarts in zip(journeys, DELAYS, RESTARTS, strict=True):
        words[plan.JOURNEY_KIND], words[plan.JOURNEY_RESTART] = plan.ON_WAIT, restarts
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


def waits_of(state: ShardState) -> dict[tuple[int, int], tuple[int, ...]]:
    """(journey, key): (due, step, time, message)."""
    pool = state.arrays.pool
    found = {}
    for block in blocks_of(state):
        word = int(pool[block + WAIT_JOURNEY])
        found[word & JOURNEY_MASK, int(pool[block + WAIT_KEY])] = (
            int(pool[block + WAIT_DUE]),
            (word >> 16) & 0xFFFF,
            int(pool[block + WAIT_TIME]),
            int(pool[block + WAIT_MESSAGE_LO]),
        )
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
            records, text = records_of([{"time": time, "message": message + n}])
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
    pool = state.arrays.pool
    return bool(pool[block + WAIT_JOURNEY] & JOURNEY_MASK == journey and pool[block + WAIT_KEY] == key)


@quick(150)
@given(STEPS)
def test_waits_are_armed_step_on_and_are_over(steps: Steps) -> None:
    to = state()
    expected = apply(to, steps)
    assert waits_of(to) == expected
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
        written = [(due, word & JOURNEY_MASK, key) for due, word, key, *_ in canonical.of_row(to, 0)["waits"]]
        assert written == sorted(written)  # in a history they stand in the order in which they come due
    else:
        assert len(waits_of(to)) == WAITS_MAX


@quick(100)
@given(st.binary(max_size=255), st.binary(max_size=255), st.binary(max_size=255))
def test_the_strings_are_kept(message: bytes, product: bytes, category: bytes) -> None:
    to = state()
    records, _ = records_of([{"time": START_MS}])
    lengths = len(message) << 8 | len(product) << 16 | len(category) << 24
    records[0, record.HEAP] = 3 << 32 | 2 | lengths
    text = np.frombuffer(b"...ab" + message + product + category + b"...", np.uint8).copy()
    arm_wait(to.arrays, to.plan, records, text, 0, 0, 0, to.words)
    (block,) = blocks_of(to)
    kept = message + product + category
    pool = to.arrays.pool
    words = pool[block + WAIT_TEXT : block + WAIT_TEXT + (len(kept) + 7) // 8]
    assert words.tobytes()[: len(kept)] == kept
    assert pool[block + WAIT_LENGTHS] == lengths >> 8
