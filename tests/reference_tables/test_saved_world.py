"""What changed the tables along the way, out of memory and into a new world: the same versions of every key."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue import limits
from segue.reference.world import ReferenceWorld, merge_worlds
from segue.settings import Settings
from segue_kernels import record, tables
from tests.kernels.drivers import Words, quick
from tests.reference.history import currency_code
from tests.reference_tables.test_reference_world import (
    AMOUNT,
    INVENTORY_UPDATED,
    PRICE_UPDATED,
    QUANTITY,
    policies_with,
)

EUR = currency_code("EUR")
LABEL = ("price", "label", "text")
UPDATE = st.tuples(
    st.sampled_from((PRICE_UPDATED, INVENTORY_UPDATED)),
    st.integers(0, 3),  # later on the clock
    st.integers(-40, 0),  # and its own time
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 5_000), st.booleans()),
        min_size=1,
        max_size=3,
    ),  # product, store, value, whether it says it
)
Update = tuple[int, int, int, list[tuple[int, int, int, bool]]]


def rows_of(updates: list[Update], clock: int = 1_000) -> Words:
    """Rows of one partition; an event with several products has lines."""
    made = []
    for n, (kind, later, earlier, lines) in enumerate(updates):
        clock += later
        for line, (product, store, value, told) in enumerate(lines):
            words = np.zeros(record.RECORD_WORDS, np.int64)
            words[record.TIME], words[record.CLOCK], words[record.SEQUENCE] = clock + earlier, clock, n
            words[record.PRODUCT], words[record.STORE], words[record.PRICE] = product, store, value
            flags = (record.FLAG_HAS_PRICE | record.FLAG_HAS_QUANTITY) if told else 0
            flags |= record.FLAG_IS_LINE if line else record.FLAG_HAS_LINES if len(lines) > 1 else 0
            words[record.PACK] = kind | flags << 8 | EUR << 16 | value << record.QUANTITY_SHIFT
            made.append(words)
    return np.array(made, np.int64).reshape(-1, record.RECORD_WORDS)


def new_world() -> ReferenceWorld:
    made = ReferenceWorld.of(Settings(), policies_with(LABEL, AMOUNT, QUANTITY))
    made.keep_updates()
    return made


def versions(world: ReferenceWorld) -> dict[int, list[list[int]]]:
    """By key what its versions say, in the order of their chain."""
    found = {}
    words = world.arrays.versions
    for entry in world.arrays.table_index.tolist():
        at, chain = entry, []
        while at:
            chain.append(words[at + tables.VERSION_KEY : at + tables.VERSION_FIELDS + 1].tolist())
            at = int(words[at + tables.VERSION_NEXT])
        if chain:
            found[chain[0][0]] = chain
    return found


@quick(150)
@given(st.lists(UPDATE, max_size=40), st.lists(st.integers(1, 9), min_size=1), st.booleans(), st.data())
def test_a_world_comes_back_from_its_saves(
    updates: list[Update], sizes: list[int], merges: bool, data: st.DataObject
) -> None:
    most = limits.TABLE_VERSIONS_MAX
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "TABLE_VERSIONS_MAX", data.draw(st.sampled_from((1, 2, most))))
        world = new_world()
        rows = rows_of(updates)
        events = np.flatnonzero(np.diff(rows[:, record.SEQUENCE], prepend=-1)).tolist()
        saves = [world.save()]
        at = turn = 0
        while at < len(events):
            end = at + sizes[turn % len(sizes)]
            last = events[end] if end < len(events) else len(rows)
            for _ in range(data.draw(st.integers(1, 2))):  # of several shards
                world.heard(rows[events[at] : last])
            if data.draw(st.booleans()):
                saves.append(world.save())
                if merges:
                    saves = [merge_worlds(saves)]
            at, turn = end, turn + 1
        world.arrays.defaults[tables.PLACE_SEQUENCE] = 77
        saves.append(world.save())
        again = new_world()
        again.restore(merge_worlds(saves))
        assert versions(again) == versions(world)
        assert again.counters() == world.counters()
        assert again.arrays.defaults[tables.PLACE_SEQUENCE] == 77
        again.heard(rows)  # once more: they are known
        assert versions(again) == versions(world)
        further = merge_worlds([*saves, again.save()])
        third = new_world()
        third.restore(further)
        assert versions(third) == versions(world)


def test_a_world_may_be_ahead_of_its_shards() -> None:
    rows = rows_of([(PRICE_UPDATED, 1, 0, [(1 + n % 3, 0, n, True)]) for n in range(9)])
    world, full = new_world(), new_world()
    full.heard(rows)
    world.heard(rows[:4])
    first = world.save([rows[4:7]])
    again = new_world()
    again.restore(merge_worlds([first]))
    again.heard(rows)
    assert versions(again) == versions(full)
    world.heard(rows[4:])
    again = new_world()
    again.restore(merge_worlds([first, world.save()]))
    assert versions(again) == versions(full)


def test_only_what_changes_a_table_is_kept() -> None:
    world = ReferenceWorld.of(Settings(), policies_with(QUANTITY))
    world.keep_updates()
    empty = world.save()
    world.heard(rows_of([(PRICE_UPDATED, 1, 0, [(1, 0, 5, True)])]))
    assert world.save() == empty
    world.heard(rows_of([(INVENTORY_UPDATED, 1, 0, [(1, 0, 5, True)])]))
    assert len(world.save()) > len(empty)
    assert world.save() == empty
