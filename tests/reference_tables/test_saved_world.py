"""What changed the tables along the way, out of memory and into a new world: the same versions of every key."""

from __future__ import annotations

import time
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue import limits
from segue.errors import StateError
from segue.events.hashing import hash_text, key_words
from segue.events.names import ERASURE, ROW_CODES
from segue.reference.world import FORMAT, ReferenceWorld, forgets, merge_worlds
from segue.settings import Settings, secret
from segue_kernels import plan, record, tables
from tests.kernels.drivers import Words, quick
from tests.reference.history import currency_code
from tests.reference_tables.test_reference_world import (
    AMOUNT,
    INVENTORY_UPDATED,
    MARGIN,
    PRICE_UPDATED,
    QUANTITY,
    TIER,
    policies_with,
)

EUR = currency_code("EUR")
LABEL = ("price", "label", "text")
BRAND = ("catalogue", "brand", "text")
ALL = (MARGIN, LABEL, AMOUNT, QUANTITY, BRAND, TIER)
FIELDS = {  # of rows of each table: name, whether it is text; one that nobody looks into
    plan.TABLE_CATALOGUE: (("margin", False), ("brand", True), ("colour", True)),
    plan.TABLE_PRICE: (("label", True), ("amount", False)),
    plan.TABLE_STOCK: (("quantity", False),),
    plan.TABLE_PROFILE: (("tier", True), ("points", False)),
}
KINDS = (PRICE_UPDATED, INVENTORY_UPDATED, *ROW_CODES, ERASURE)
UPDATE = st.tuples(
    st.sampled_from(KINDS),
    st.integers(0, 3),  # later on the clock
    st.integers(-40, 0),  # and its own time
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 5_000), st.booleans()),
        min_size=1,
        max_size=3,
    ),  # product, store, value, whether it says it
)
Update = tuple[int, int, int, list[tuple[int, int, int, bool]]]


def field_name(name: str) -> int:
    return hash_text(name, *key_words(secret()))


def rows_of(updates: list[Update], clock: int = 1_000) -> Words:
    """Rows of one partition; an event with several products has lines, and so has a row of a table."""
    made = []
    for n, (kind, later, earlier, lines) in enumerate(updates):
        clock += later
        shared = np.zeros(record.RECORD_WORDS, np.int64)
        shared[record.TIME], shared[record.CLOCK], shared[record.SEQUENCE] = clock + earlier, clock, n
        if kind in ROW_CODES:
            made += _row(kind, lines, shared)
            continue
        if kind == ERASURE:
            shared[record.CUSTOMER_LO], shared[record.PACK] = lines[0][0], kind
            made.append(shared)
            continue
        for line, (product, store, value, told) in enumerate(lines):
            words = shared.copy()
            words[record.PRODUCT], words[record.STORE], words[record.PRICE] = product, store, value
            flags = (record.FLAG_HAS_PRICE | record.FLAG_HAS_QUANTITY) if told else 0
            flags |= record.FLAG_IS_LINE if line else record.FLAG_HAS_LINES if len(lines) > 1 else 0
            words[record.PACK] = kind | flags << 8 | EUR << 16 | value << record.QUANTITY_SHIFT
            made.append(words)
    return np.array(made, np.int64).reshape(-1, record.RECORD_WORDS)


def _row(kind: int, values: list[tuple[int, int, int, bool]], shared: Words) -> list[Words]:
    table = ROW_CODES.index(kind)
    product, store, _, _ = values[0]
    header = shared.copy()
    key = record.CUSTOMER_LO if table == plan.TABLE_PROFILE else record.PRODUCT
    header[key], header[record.STORE] = product, store
    header[record.PACK] = kind | record.FLAG_HAS_LINES << 8
    made = [header]
    for (name, is_text), (_, _, value, told) in zip(FIELDS[table], values, strict=False):
        line = shared.copy()
        line[record.FIELD_NAME] = field_name(name)
        flags = record.FLAG_IS_LINE
        if told and is_text:
            line[record.FIELD_TEXT] = value + 1
        elif told:
            line[record.FIELD_NUMBER] = value
            flags |= record.FLAG_HAS_PRICE
        line[record.PACK] = kind | flags << 8
        made.append(line)
    return made


def new_world(*fields: tuple[str, str, str]) -> ReferenceWorld:
    along = Settings(tables={"catalogue": "events", "profile": "events"})
    made = ReferenceWorld.of(along, policies_with(*(fields or ALL)))
    made.keep_updates()
    return made


def versions(world: ReferenceWorld) -> dict[int, list[list[int]]]:
    """By key what its versions say, in the order of their chain."""
    found = {}
    words = world.arrays.versions
    for entry in world.arrays.table_index.tolist():
        at, chain = entry, []
        while at:
            (width,) = {
                int(world._columns[table, tables.COLUMN_WIDTH])
                for table in range(plan.TABLES)
                if _is_of(table, int(words[at + tables.VERSION_KEY]))
            }
            chain.append(words[at + tables.VERSION_KEY : at + width].tolist())
            at = int(words[at + tables.VERSION_NEXT])
        if chain:
            found[chain[0][0]] = chain
    return found


def _is_of(table: int, key: int) -> bool:
    keys = np.zeros(1, np.int64)
    for first in range(4):
        for second in range(3) if table == plan.TABLE_STOCK else (0,):
            tables.table_keys(table, np.array([first]), np.array([second]), keys)
            if keys[0] == key:
                return True
    return False


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


def test_who_was_erased_is_in_no_save_any_more() -> None:
    """Nor in the table; what begins earlier does not come back, what begins later begins with nothing."""
    profile = ROW_CODES[plan.TABLE_PROFILE]
    points = ("profile", "points", "number")
    row = (profile, 1, 0, [(1, 0, 4_711, True), (0, 0, 8_000, True)])
    of_another = (profile, 1, 0, [(2, 0, 4_712, True)])
    too_late = (profile, 1, -30, [(1, 0, 4_713, True)])
    later = (profile, 1, 0, [(1, 0, 4_714, True)])
    rows = rows_of([row, of_another, (ERASURE, 1, 0, [(1, 0, 0, True)]), too_late, later])
    until = np.searchsorted(rows[:, record.SEQUENCE], range(6)).tolist()
    world = new_world(TIER, points)
    for start, end in pairwise(until[:5]):
        world.heard(rows[start:end])
        world.heard(rows[start:end])  # by another shard
    words = [np.int64(word).tobytes() for word in (4_712, 8_000, 4_714, 4_713)]
    assert [word in world.arrays.versions.tobytes() for word in words] == [True, True, False, True]
    saved = world.save()
    before = new_world(TIER, points)
    before.heard(rows[: until[2]])
    merged = merge_worlds([before.save(), saved])
    for where in (world.arrays.versions.tobytes(), saved, merged):
        assert [word in where for word in words] == [False, False, False, True]
    again = new_world(TIER, points)
    again.restore(merged)
    assert versions(again) == versions(world)
    for told in (world, again):
        told.heard(rows[until[4] :])
        ((newest, erased),) = (chain for chain in versions(told).values() if len(chain) == 2)
        assert newest[-2:] == [4_715, 0]
        assert erased[-2:] == [0, 0]


def test_saves_are_written_anew_when_the_time_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """An eighth of the time in which who was erased is gone from all files."""
    seconds = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    world = new_world(TIER)
    world.heard(rows_of([(ERASURE, 1, 0, [(1, 0, 0, True)])]))
    assert not forgets(world.save())
    seconds[0] = limits.ERASE_WITHIN_MS_DEFAULT / 8_000
    assert [forgets(world.save()) for _ in range(2)] == [True, False]


def test_worlds_of_several_processes_say_each_update_once() -> None:
    rows = rows_of([(PRICE_UPDATED, 1, 0, [(1 + n % 3, 0, n, True), (1, 0, n, True)]) for n in range(9)])
    ahead, behind = new_world(), new_world()
    ahead.heard(rows)
    behind.heard(rows[:8])
    again = new_world()
    again.restore(merge_worlds([behind.save(), ahead.save()]))
    assert versions(again) == versions(ahead)
    again.heard(rows)
    assert versions(again) == versions(ahead)


def test_another_format_is_refused() -> None:
    """Also where it would have to be merged with others, and whatever it is made of."""
    saved = new_world().save()
    assert msgspec.msgpack.decode(saved)[0] == FORMAT
    other = msgspec.msgpack.encode([FORMAT + 1, "what nobody knows yet"])
    for restored in (new_world().restore, lambda save: merge_worlds([saved, save])):
        with pytest.raises(
            StateError, match=f"saved in format {FORMAT + 1}; this version reads format {FORMAT}"
        ):
            restored(other)


def test_one_update_that_several_processes_heard_is_one() -> None:
    rows = rows_of([(PRICE_UPDATED, 1, 0, [(1, 0, 5, True)])])
    worlds = [new_world(), new_world()]
    for world in worlds:
        world.heard(rows)
    again = new_world()
    again.restore(merge_worlds([world.save() for world in worlds]))
    assert versions(again) == versions(worlds[0])


def test_only_what_changes_a_table_is_kept() -> None:
    world = new_world(QUANTITY)
    empty = world.save()
    world.heard(rows_of([(PRICE_UPDATED, 1, 0, [(1, 0, 5, True)])]))
    assert len(world.save()) <= len(empty) + 8  # that it was heard
    world.heard(rows_of([(INVENTORY_UPDATED, 1, 0, [(1, 0, 5, True)])] * 2))
    assert len(world.save()) > len(empty) + 8 * tables.VERSION_FIELDS


def test_other_policies_find_the_fields_that_stayed() -> None:
    catalogue = ROW_CODES[plan.TABLE_CATALOGUE]
    row = (catalogue, 1, 0, [(1, 0, 5, True), (0, 0, 7, True), (0, 0, 9, True)])  # margin, brand, colour
    first = new_world(MARGIN, BRAND)
    first.heard(rows_of([row]))
    saved = first.save()
    other = new_world(BRAND, ("catalogue", "colour", "text"), ("catalogue", "margin", "text"))
    other.restore(saved)
    (((*_, brand, colour, margin),),) = _catalogue(other)
    assert (brand, colour, margin) == (8, 0, 0)  # another kind of field is another field
    back = new_world(MARGIN, BRAND)
    back.restore(merge_worlds([saved, other.save()]))
    assert _catalogue(back)[0][0][-1] == 8
    nothing = new_world(AMOUNT)
    nothing.restore(saved)
    assert versions(nothing) == {}


def _catalogue(world: ReferenceWorld) -> list[list[list[int]]]:
    return list(versions(world).values())
