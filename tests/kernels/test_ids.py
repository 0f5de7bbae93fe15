"""The ring of ids against a complete list: the same duplicates, the same counted losses, no words kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from segue_kernels import plan, row
from tests.kernels import naive
from tests.kernels.drivers import drop_ids, meta, quick, state_of, stream, take_id

HORIZON = 50


@quick(150)
@given(
    st.sampled_from((4, 8, 64)),
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from((0, 0, 0, 1, 2, 30, HORIZON, 80))), max_size=150),
)
def test_the_ring_is_the_last_ids(capacity: int, arrivals: list[tuple[int, int]]) -> None:
    state = state_of([stream(plan.COUNT)])
    clock, given_ids, found, overflow = 1_000, [], [], 0
    for message, later in arrivals:
        clock += later
        given_ids.append((message, clock))
        outcome = take_id(state.arrays, 0, message, clock, HORIZON, capacity)
        found.append(outcome < 0)
        overflow += max(outcome, 0)
    assert (found, overflow) == naive.recent_ids(given_ids, capacity, HORIZON)
    drop_ids(state.arrays, 0)
    assert meta(state, row.POOL_WORDS_USED) == 0
    assert not state.arrays.rows[: state.row_words].any()


def test_a_ring_is_no_larger_than_its_use() -> None:
    state = state_of([stream(plan.COUNT)])
    for message in range(1, 65):
        take_id(state.arrays, 0, message, 1_000, HORIZON, 64)
        capacity = max(4, 1 << (message - 1).bit_length())
        assert meta(state, row.POOL_WORDS_USED) == 2 * capacity
    assert take_id(state.arrays, 0, 65, 1_000, HORIZON, 64) == 1
    assert take_id(state.arrays, 0, 65, 1_000, HORIZON, 64) == -1
    assert take_id(state.arrays, 0, 1, 1_000, HORIZON, 64) == 1  # it had been pushed out
