"""The index of customers while it grows: no row lost, none twice, and no call does more than its share."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from segue.state.shard import ShardState
from segue_kernels import plan, record, row
from segue_kernels.customers import find_or_add
from segue_kernels.index import LOW, MOVES_PER_INSERT
from segue_kernels.shard import STOP_END, STOP_INDEX
from tests.kernels.drivers import Words, find, free, key_of, meta, quick, records_of, state_of, stream

STREAMS = (stream(plan.COUNT),)
Identity = tuple[int, int]


def insert(state: ShardState, identities: list[Identity]) -> list[int]:
    """The rows of these identities, made where there were none; grows the index when a kernel asks."""
    records, text = records_of([{"time": 1} for _ in identities])
    if identities:
        records[:, [record.CUSTOMER_LO, record.CUSTOMER_HI]] = identities
    row_of = np.full(len(identities), -1, np.int64)
    position, stop = 0, STOP_INDEX
    while True:
        position, stop = find_or_add(state.arrays, records, text, row_of, position, state.words)
        if stop == STOP_END:
            return row_of.tolist()
        assert stop == STOP_INDEX
        state.grow_index()


class GrowingIndex(RuleBasedStateMachine):
    """Customers come and go, with long runs of colliding hashes, while tables are replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.state = state_of(STREAMS)
        self.rows: dict[Identity, int] = {}
        self.gone: set[Identity] = set()

    # low bits decide the slot, high bits of the other word the tag: few of both
    identities = st.tuples(
        st.sampled_from((0, 1, 2, 1023, -1, 1 << 40)),
        st.integers(0, 40).map(lambda n: ((n % 3) << 33) | n // 3),
    )

    @rule(identities=st.lists(identities, max_size=20))
    def come(self, identities: list[Identity]) -> None:
        for identity, which in zip(identities, insert(self.state, identities), strict=True):
            assert self.rows.setdefault(identity, which) == which

    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        if self.rows:
            identity = data.draw(st.sampled_from(sorted(self.rows)))
            free(self.state.arrays, self.state.plan, self.rows.pop(identity), self.state.row_words)
            self.gone.add(identity)

    @rule()
    def grow(self) -> None:
        self.state.grow_index()

    @invariant()
    def every_customer_is_found_where_it_is(self) -> None:
        state = self.state
        arrays = state.arrays
        for identity, which in self.rows.items():
            assert find(arrays, state.row_words, *identity) == which
        for identity in self.gone - set(self.rows):
            assert find(arrays, state.row_words, *identity) == -1
        assert len(set(self.rows.values())) == len(self.rows) == state.customers
        entries = np.concatenate([table[table > 0] for table in (arrays.index, arrays.index_old)])
        assert sorted((entries & LOW) - 1) == sorted(self.rows.values())
        assert meta(state, row.INDEX_USED) == np.count_nonzero(arrays.index)
        free_rows, head = 0, meta(state, row.ROWS_FREE)
        while head:
            free_rows += 1
            head = int(arrays.rows[(head - 1) * state.row_words + row.CLOCK])
        assert free_rows + len(self.rows) == meta(state, row.ROWS_USED)


GrowingIndex.TestCase.settings = quick(60)
TestGrowingIndex = GrowingIndex.TestCase


def batches(customers: int, size: int) -> Words:
    keys = np.array([key_of(n) for n in range(customers)], np.int64)
    return keys.reshape(-1, size, 2)


def test_growing_moves_a_few_slots_for_each_customer() -> None:
    """No insert pays for the table's size: the old one is empty long before the new one is full."""
    state = state_of(STREAMS, customers_per_shard_max=1 << 15)
    growths, size = 0, 100
    for identities in batches(20_000, size):
        old, position = state.arrays.index_old, meta(state, row.INDEX_OLD_POSITION)
        insert(state, identities.tolist())
        if state.arrays.index_old is old:
            assert meta(state, row.INDEX_OLD_POSITION) - position <= MOVES_PER_INSERT * size
        else:
            growths += 1
            assert position == len(old)  # nothing was left to move at once
    assert growths == 5  # 1,024 slots to 32,768
    assert len(state.arrays.index) == 1 << 15
    last = batches(20_000, size)[-1]
    assert [find(state.arrays, state.row_words, *identity) for identity in last.tolist()] == list(
        range(19_900, 20_000)
    )


def test_a_table_full_of_tombstones_is_replaced_by_one_of_its_size() -> None:
    state = state_of(STREAMS)
    for identities in batches(6_000, 100):
        rows = insert(state, identities.tolist())
        for which in rows:
            free(state.arrays, state.plan, which, state.row_words)
    assert state.customers == 0
    assert len(state.arrays.index) == 1 << 10
    assert meta(state, row.ROWS_USED) == 100  # freed rows are taken again
