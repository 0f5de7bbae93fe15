"""Blocks of the pool: disjoint, aligned, zeroed; every word is accounted for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue_kernels import row
from segue_kernels.pool import BLOCK_WORDS_MAX, CLASSES, size_class
from tests.kernels.drivers import give_back, quick, take

SIZES = sorted({8, *(8 << n for n in range(1, 10)), *(24 << n for n in range(8))})


def size_of(words: int) -> int:
    """Words of the block for `words` words."""
    return min(size for size in SIZES if size >= words)


def test_a_block_is_the_smallest_that_has_room() -> None:
    assert len(SIZES) == CLASSES
    assert SIZES[-1] == BLOCK_WORDS_MAX == 4_096
    for words in range(1, BLOCK_WORDS_MAX + 1):
        assert size_class(words) == (SIZES.index(size_of(words)), size_of(words))


def test_the_free_lists_have_their_words_to_themselves() -> None:
    lists = set(range(row.POOL_FREE, row.POOL_FREE + CLASSES))
    others = [value for name, value in vars(row).items() if name in OTHER_WORDS]
    assert len(others) == len(OTHER_WORDS)
    assert lists.isdisjoint(others)
    assert max(lists) < row.META_WORDS
    assert row.COUNTERS_START + len(row.COUNTER_NAMES) <= row.POOL_FREE


OTHER_WORDS = (
    *("ROWS_USED", "ROWS_FREE", "CUSTOMERS", "INDEX_USED", "INDEX_OLD_POSITION", "SPILL_USED"),
    *("SPILL_OLD_POSITION", "SPILL_LIVE", "POOL_BUMP", "CLOCK_MAX", "SWEEP_POSITION", "DIRTY_COUNT"),
    *("POOL_WORDS_USED", "REDIRECTS"),
)


def test_the_largest_entry_fits_the_largest_block() -> None:
    from segue.limits import COUNT_UP_TO_MAX
    from segue_kernels.keyed import SPILL_ENTRY

    assert SPILL_ENTRY + 2 * COUNT_UP_TO_MAX <= BLOCK_WORDS_MAX


@quick(100)
@given(
    st.lists(
        st.one_of(
            st.sampled_from((1, 7, 8, 9, 16, 17, 24, 25, 64, 65, 96, 97, 2052, BLOCK_WORDS_MAX)),
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
            size = size_of(step)
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
