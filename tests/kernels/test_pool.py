"""Blocks of the pool: disjoint, aligned, zeroed; every word is accounted for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue_kernels import row
from segue_kernels.pool import CLASS_WORDS_MIN, CLASSES
from tests.kernels.drivers import give_back, quick, take

LARGEST = CLASS_WORDS_MIN << (CLASSES - 1)


def test_the_free_lists_have_their_words_to_themselves() -> None:
    lists = set(range(row.POOL_FREE, row.POOL_FREE + CLASSES))
    others = [value for name, value in vars(row).items() if name in OTHER_WORDS]
    assert len(others) == len(OTHER_WORDS)
    assert lists.isdisjoint(others)
    assert max(lists) < row.COUNTERS_START
    assert row.COUNTERS_START + len(row.COUNTER_NAMES) <= row.META_WORDS


OTHER_WORDS = (
    *("ROWS_USED", "ROWS_FREE", "CUSTOMERS", "INDEX_USED", "INDEX_OLD_POSITION", "SPILL_USED"),
    *("SPILL_OLD_POSITION", "SPILL_LIVE", "POOL_BUMP", "CLOCK_MAX", "SWEEP_POSITION", "DIRTY_COUNT"),
    *("POOL_WORDS_USED", "REDIRECTS"),
)


def test_the_largest_entry_fits_the_largest_block() -> None:
    from segue.limits import COUNT_UP_TO_MAX
    from segue_kernels.keyed import SPILL_ENTRY

    assert SPILL_ENTRY + 2 * COUNT_UP_TO_MAX <= LARGEST


@quick(100)
@given(
    st.lists(
        st.one_of(
            st.sampled_from((1, 7, 8, 9, 64, 65, 2052, LARGEST)),
            st.integers(-20, -1),  # gives one back
        ),
        max_size=40,
    )
)
def test_blocks_are_disjoint_and_zeroed(steps: list[int]) -> None:
    pool = np.zeros(1 << 18, np.int64)
    meta = np.zeros(row.META_WORDS, np.int64)
    meta[row.POOL_BUMP] = 8
    live: dict[int, int] = {}
    for step in steps:
        if step > 0:
            at = int(take(pool, meta, step))
            size = max(8, 1 << (step - 1).bit_length())
            assert at >= 8
            assert at % 8 == 0
            assert not pool[at : at + size].any()
            assert all(at + size <= other or other + extent <= at for other, extent in live.items())
            pool[at : at + size] = -1
            live[at] = size
        elif live:
            at = sorted(live)[step % len(live)]
            give_back(pool, meta, at, live.pop(at))
        assert meta[row.POOL_WORDS_USED] == sum(live.values())
    for at in list(live):
        give_back(pool, meta, at, live.pop(at))
    assert meta[row.POOL_WORDS_USED] == 0
    touched = set(range(row.POOL_FREE, row.POOL_FREE + CLASSES)) | {row.POOL_BUMP}
    assert not meta[[word for word in range(row.META_WORDS) if word not in touched]].any()
