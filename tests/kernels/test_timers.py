"""The wheel against a sorted list: whatever hangs, is moved and taken off, rows come up in order of time, each once."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue_kernels import plan, row
from segue_kernels.jit import kernel
from segue_kernels.timers import first_row, hang, hang_by, unhang
from tests.kernels.drivers import DAY_MS, START_MS, meta, quick, state_of, stream

ROWS = 24
FAR = (0, 0, 1, 2, 63, 64, 65, 4_095, 4_096, 60_000, 3_600_000, DAY_MS, 30 * DAY_MS, 400 * DAY_MS)


@kernel
def hang_row(shard: Any, which: int, row_words: int, due: int) -> None:
    hang(shard, which, row_words, due)


@kernel
def unhang_row(shard: Any, which: int, row_words: int) -> None:
    unhang(shard, which, row_words)


@kernel
def hang_row_by(shard: Any, which: int, row_words: int, due: int) -> None:
    hang_by(shard, which, row_words, due)


@kernel
def first_of(shard: Any, row_words: int, limit: int) -> int:
    return first_row(shard, row_words, limit)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("hang", "hang", "hang", "by", "unhang", "turn", "turn")),
        st.integers(0, ROWS - 1),
        st.sampled_from(FAR),
        st.integers(-3, 3),
        st.booleans(),  # rows that come up hang again
    ),
    max_size=60,
)


@quick(400)
@given(st.sampled_from((0, START_MS, START_MS + 12_345_678)), STEPS)
def test_rows_come_up_in_order_and_once(start: int, steps: list[tuple[str, int, int, int, bool]]) -> None:
    state = state_of([stream(plan.COUNT)])
    shard, row_words = state.arrays, state.row_words
    hangs: dict[int, int] = {}
    now = start
    first_of(shard, row_words, start)
    for step, which, ahead, jitter, again in steps:
        due = max(1, now + ahead + jitter)
        if step == "hang" and which not in hangs:
            hang_row(shard, which, row_words, due)
            hangs[which] = due
        elif step == "by":
            hang_row_by(shard, which, row_words, due)
            hangs[which] = min(hangs.get(which, due), due)
        elif step == "unhang" and which in hangs:
            unhang_row(shard, which, row_words)
            del hangs[which]
        elif step == "turn":
            limit = now + ahead
            before = 0
            while (up := first_of(shard, row_words, limit)) >= 0:
                assert hangs[up] < limit
                # what was overdue before the wheel turned comes first, in any order
                assert hangs[up] == min(hangs.values()) or max(hangs[up], now) == max(
                    min(hangs.values()), now
                )
                assert max(hangs[up], now) >= before
                before = max(hangs[up], now)
                unhang_row(shard, up, row_words)
                del hangs[up]
                if again:
                    hang_row(shard, up, row_words, limit + jitter + 3)
                    hangs[up] = limit + jitter + 3
            assert all(time >= limit for time in hangs.values())
            now = limit
        words = shard.rows.reshape(-1, row_words)[:ROWS, row.WHEEL_DUE]
        assert words.tolist() == [hangs.get(which, 0) for which in range(ROWS)]
        assert meta(state, row.TIMERS) == len(hangs)
    for which in list(hangs):
        unhang_row(shard, which, row_words)
    assert not shard.wheel.any()
    assert not shard.rows.reshape(-1, row_words)[:ROWS].any()


def test_an_empty_stretch_costs_nothing() -> None:
    """A row that hangs a year ahead is moved once a level, not once a slot, and only when its time is near."""
    state = state_of([stream(plan.COUNT)])
    shard, row_words = state.arrays, state.row_words
    first_of(shard, row_words, START_MS)
    due = START_MS + 365 * DAY_MS + 12_345
    hang_row(shard, 0, row_words, due)
    for day in range(365):
        assert first_of(shard, row_words, START_MS + day * DAY_MS) == -1
    assert first_of(shard, row_words, due) == -1
    assert meta(state, row.WHEEL_TIME) == due - 1
    assert first_of(shard, row_words, due + 1) == 0
    assert np.count_nonzero(shard.wheel) == 2  # its head and its mark
