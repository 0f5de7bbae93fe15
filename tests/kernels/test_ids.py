"""The ring of ids against a complete list: the same duplicates, the same counted losses, no words kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from segue import limits
from segue_kernels import plan, row
from segue_kernels.history import H_IDS
from tests.kernels import naive
from tests.kernels.drivers import START_MS, Words, drop_ids, meta, quick, state_of, stream, take_id

SHORT = 1 << 32  # times are kept modulo this
HORIZON = 50
HORIZONS = (HORIZON, limits.DEDUPE_MS_MAX, SHORT - 1)


@quick(200)
@given(
    st.sampled_from((4, 8, 64)),
    st.sampled_from(HORIZONS),
    st.sampled_from((1_000, START_MS, START_MS // SHORT * SHORT - 1, START_MS // SHORT * SHORT + SHORT // 2)),
    st.lists(
        st.tuples(
            st.integers(1, 40),
            # a part of the horizon and a little more
            st.sampled_from((0, 0, 0, 0.01, 0.6, 1, 1.6, 3)),
            st.sampled_from((0, 0, 1, 2, SHORT - 1, SHORT, SHORT + 1)),
        ),
        max_size=150,
    ),
)
def test_the_ring_is_the_last_ids(
    capacity: int, horizon: int, start: int, arrivals: list[tuple[int, float, int]]
) -> None:
    state = state_of([stream(plan.COUNT)])
    clock, given_ids, found, overflow = start, [], [], 0
    for message, share, more in arrivals:
        clock += int(share * horizon) + more
        given_ids.append((message, clock))
        outcome = take_id(state.arrays, 0, message, clock, horizon, capacity)
        found.append(outcome < 0)
        overflow += max(outcome, 0)
        listed = ids_of(state.history(0))
        assert listed == sorted(listed, key=lambda pair: pair[1])
        assert set(listed) <= set(given_ids)  # a history has times in full
    assert (found, overflow) == naive.recent_ids(given_ids, capacity, horizon)
    drop_ids(state.arrays, 0)
    assert meta(state, row.POOL_WORDS_USED) == 0
    assert not state.arrays.rows[: state.row_words].any()


def ids_of(history: Words) -> list[tuple[int, int]]:
    """(id, time) as a history has them."""
    n = int(history[H_IDS])
    ids, times = history[H_IDS + 1 : H_IDS + 1 + 2 * n].reshape(2, n).tolist()
    return list(zip(ids, times, strict=True))


def test_a_ring_is_no_larger_than_its_use() -> None:
    state = state_of([stream(plan.COUNT)])
    blocks = {4: 8, 8: 16, 16: 24, 32: 48, 64: 96}
    for message in range(1, 65):
        take_id(state.arrays, 0, message, 1_000, HORIZON, 64)
        assert meta(state, row.POOL_WORDS_USED) == blocks[max(4, 1 << (message - 1).bit_length())]
    assert take_id(state.arrays, 0, 65, 1_000, HORIZON, 64) == 1
    assert take_id(state.arrays, 0, 65, 1_000, HORIZON, 64) == -1
    assert take_id(state.arrays, 0, 1, 1_000, HORIZON, 64) == 1  # it had been pushed out
    assert take_id(state.arrays, 0, 1, 1_000 + HORIZON, HORIZON, 64) == 0  # all have passed
    assert meta(state, row.POOL_WORDS_USED) == blocks[4]


def test_a_short_time_tells_all_that_counts() -> None:
    assert max(HORIZONS) < SHORT
    assert limits.DEDUPE_MS_MAX < SHORT
    assert limits.DEDUPE_IDS_MAX in (4, 8, 16, 32, 64)
