"""Versions of tables against plain lists: what a lookup sees depends on now and on what arrived before the row."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue import limits
from segue.events.hashing import hash_text, key_words
from segue.events.money import letters_code
from segue.events.names import CODE_BY_NAME, ROW_CODES
from segue.reference.world import ReferenceWorld
from segue_kernels import plan, record, tables
from segue_kernels.jit import kernel
from segue_kernels.row import COUNT_UNKNOWN_KEYS, META_WORDS
from segue_kernels.tables import PARTITION_SHIFT
from tests.kernels.drivers import key_of, quick, records_of

PRICE_UPDATED, INVENTORY_UPDATED = CODE_BY_NAME["Price Updated"], CODE_BY_NAME["Inventory Updated"]
VIEWED = CODE_BY_NAME["Product Viewed"]
NOBODY = -1
MILLION = plan.LOOKUP_SCALE
# (table, field, kind, word for what is not known)
FIELDS = (
    (plan.TABLE_CATALOGUE, "margin", "number", 7),
    (plan.TABLE_PRICE, "amount", "number", -1),
    (plan.TABLE_CATALOGUE, "brand", "text", 99),
    (plan.TABLE_STOCK, "quantity", "number", -2),
    (plan.TABLE_PRICE, "list", "number", -3),
    (plan.TABLE_PROFILE, "tier", "text", 5),
)


def lookups() -> Any:
    rows = np.zeros((len(FIELDS), plan.LOOKUP_WORDS), np.int64)
    count: dict[int, int] = {}
    for row, (table, _, _, unknown) in zip(rows, FIELDS, strict=True):
        row[plan.LOOKUP_TABLE], row[plan.LOOKUP_UNKNOWN] = table, unknown
        row[plan.LOOKUP_FIELD] = tables.VERSION_FIELDS + count.get(table, 0)
        count[table] = count.get(table, 0) + 1
    return rows


LOOKUPS = lookups()


def new_world(monkeypatch: Any = None) -> ReferenceWorld:
    """A world whose catalogue and profiles have no file: rows are loaded by hand."""
    used = [plan.TABLE_PRICE, plan.TABLE_STOCK]
    rows = [n for n, field in enumerate(FIELDS) if field[0] in used]
    names = tuple(("", FIELDS[n][1], FIELDS[n][2]) for n in rows)
    return ReferenceWorld("UTC", np.ascontiguousarray(LOOKUPS[rows]), names)


@kernel
def fill(plans: Any, world: Any, scratch: Any, meta: Any, records: Any, i: int, now: int, place: int) -> None:
    tables.fill_lookups(plans, world, scratch, meta, records, i, now, place)


@dataclass
class Naive:
    """One version, as a row of a list."""

    valid_from: int
    place: tuple[int, int]
    fields: dict[str, int]


UNKNOWN = {"amount": -1, "list": -3, "quantity": -2}
Chains = dict[tuple[Any, ...], list[Naive]]


def seen(chain: list[Naive], now: int, place: tuple[int, int]) -> Naive | None:
    there = [v for v in chain if v.valid_from <= now and v.place < place]
    return max(there, key=lambda v: (v.valid_from, v.place), default=None)


def let_in(chain: list[Naive], valid_from: int, place: tuple[int, int], field: str, value: int) -> None:
    names = ("amount", "list") if field == "amount" else ("quantity",)
    let_in_row(chain, valid_from, place, names, {field: value})


def let_in_row(
    chain: list[Naive], valid_from: int, place: tuple[int, int], names: tuple[str, ...], told: dict[str, int]
) -> None:
    before = seen(chain, valid_from, (1 << 62, 0))
    fields = dict(before.fields) if before else {name: UNKNOWN[name] for name in names}
    chain.append(Naive(valid_from, place, {**fields, **told}))
    arrived = sorted((v for v in chain if v.place[0] >= 0), key=lambda v: (v.valid_from, v.place))
    if len(arrived) > limits.TABLE_VERSIONS_MAX:
        chain.remove(arrived[0])


updates = st.tuples(
    st.booleans(),  # price or stock
    st.integers(0, 2),  # product
    st.integers(0, 2),  # store
    st.integers(-40, 40),  # event time, relative
    st.one_of(st.none(), st.integers(0, 9)),  # price or quantity
    st.sampled_from(("EUR", "JPY", "KWD")),
    st.booleans(),  # about a customer
    st.integers(0, 2),  # lines
)
steps = st.lists(st.one_of(updates, st.just(None)), max_size=40)


def rows_for(drawn: list[Any], start: int) -> tuple[Any, list[tuple[Any, ...]]]:
    """Records of these steps, and what each says: (table, product, store, field, value) or nothing."""
    events, said = [], []
    clock = 1_000
    for n, step in enumerate(drawn):
        if step is None:
            clock += 10
            events.append(
                {"time": clock, "clock": clock, "type": VIEWED, "product": 1, "sequence": start + n}
            )
            said.append(())
            continue
        is_price, product, store, offset, value, currency, customer, lines = step
        time = max(1, clock + offset)
        clock = max(clock, time)
        for line in range(lines + 1):
            flags = (record.FLAG_HAS_LINES if lines else 0) if line == 0 else record.FLAG_IS_LINE
            item = product + line if not lines or line else 0
            if value is not None:
                flags |= record.FLAG_HAS_PRICE if is_price else record.FLAG_HAS_QUANTITY
            events.append(
                {
                    "time": time,
                    "clock": clock,
                    "sequence": start + n,
                    "type": PRICE_UPDATED if is_price else INVENTORY_UPDATED,
                    "customer": 3 if customer else NOBODY,
                    "product": item,
                    "store": store,
                    "flags": flags,
                    "price": value or 0,
                    "quantity": value or 0,
                    "currency": letters_code(currency),
                }
            )
            field = "amount" if is_price else "quantity"
            per_minor = MILLION // {"EUR": 100, "JPY": 1, "KWD": 1_000}[currency]
            word = (value or 0) * (per_minor if is_price else MILLION)
            key = ("price", item) if is_price else ("stock", item, store)
            said.append((key, field, word) if value is not None and item else ())
    records, _ = records_of(events)
    for row, event in zip(records, events, strict=True):
        row[record.STORE] = event.get("store", 0)
        if event.get("customer") == NOBODY:
            row[[record.CUSTOMER_LO, record.CUSTOMER_HI]] = 0
    return records, said


def looked_up(
    world: ReferenceWorld,
    product: int,
    store: int,
    now: int,
    place: tuple[int, int],
    heard: Any = None,
) -> list[int]:
    plans = SimpleNamespace(
        streams=np.zeros((2, 16), np.int64), moments=np.zeros((1, 3), np.int64), lookups=LOOKUPS
    )
    records, _ = records_of([{"time": now, "customer": 3, "product": product, "sequence": place[1]}])
    records[0, record.STORE] = store
    location = np.zeros(3 + len(FIELDS), np.int64)
    meta = np.zeros(META_WORDS, np.int64)
    arrays = world.arrays if heard is None else world.arrays._replace(defaults=heard)
    call(plans, arrays, location, meta, records, now, place[0])
    assert not location[:3].any()
    return [*location[3:].tolist(), int(meta[COUNT_UNKNOWN_KEYS])]


def call(plans: Any, arrays: Any, location: Any, meta: Any, records: Any, now: int, place: int) -> None:
    """fill_lookups takes whole groups of arrays; empty ones stand for what it does not read."""
    from drivers import no_extras

    from segue_kernels.shard import Plan, Scratch

    nothing = np.zeros(0, np.int64)
    full = Plan(**dict.fromkeys(Plan._fields, nothing))._replace(
        **{**no_extras(), "streams": plans.streams, "moments": plans.moments, "lookups": plans.lookups}
    )
    scratch = Scratch(**dict.fromkeys(Scratch._fields, nothing))._replace(location=location)
    fill(full, arrays, scratch, meta, records, 0, now, place)


@quick(150)
@given(
    steps,
    st.lists(st.integers(0, 40), max_size=5),
    st.lists(st.tuples(*[st.integers(0, 80)] * 3), max_size=8),
)
def test_lookups_see_what_had_arrived(
    drawn: list[Any], cuts: list[int], asked: list[tuple[int, ...]]
) -> None:
    world = new_world()
    records, said = rows_for(drawn, 5)
    chains: Chains = {}
    for row, what in zip(records.tolist(), said, strict=True):
        if what:
            key, field, value = what
            place = (row[record.CLOCK], row[record.SEQUENCE])
            let_in(chains.setdefault(key, []), row[record.TIME], place, field, value)
    left = []
    borders = sorted({0, len(records), *(min(cut, len(records)) for cut in cuts)})
    for first, end in pairwise(borders):
        # never between an event and its lines
        while end < len(records) and (records[end, record.PACK] >> 8) & record.FLAG_IS_LINE:
            end += 1
        while first < end and (records[first, record.PACK] >> 8) & record.FLAG_IS_LINE:
            first += 1
        if first < end:
            left.append(world.take(records[first:end].copy()))
            assert len(world.take(records[first:end].copy())) == len(
                left[-1]
            )  # another shard: changes nothing
    about_nobody = np.isin(records[:, record.PACK] & 0xFF, (PRICE_UPDATED, INVENTORY_UPDATED))
    assert np.array_equal(np.concatenate(left) if left else records, records[~about_nobody])
    for product, store, n in [
        (p, s, n * 7 % 80) for p in range(5) for s in range(3) for n, _, _ in asked or [(9, 0, 0)]
    ]:
        now = 960 + 3 * n
        place = (1 << 62, 0) if n % 3 == 0 else (now + n % 7, 5 + n % 11)
        price = seen(chains.get(("price", product), []), now, place) if product else None
        stock = seen(chains.get(("stock", product, store), []), now, place) if product else None
        found = looked_up(world, product, store, now, place)
        unknown = 1 if product == 0 else 1 + 2 + 2 * (price is None) + (stock is None)
        assert found == [
            7,
            price.fields["amount"] if price else -1,
            99,
            stock.fields["quantity"] if stock else -2,
            price.fields["list"] if price else -3,
            5,
            unknown,
        ]


row_updates = st.tuples(
    st.sampled_from(("price", "stock", "catalogue")),  # the last one nobody looks into
    st.integers(0, 2),  # product
    st.integers(0, 1),  # store
    st.integers(-40, 40),  # event time, relative
    st.dictionaries(
        st.sampled_from(("amount", "list", "quantity", "colour")),
        st.one_of(st.none(), st.integers(-9, 9), st.just("text")),
        max_size=3,
    ),
)
WIDTHS = {"price": ("amount", "list"), "stock": ("quantity",)}


def row_records(table: str, product: int, store: int, time: int, clock: int, sequence: int, told: Any) -> Any:
    """A header and a line a field, as decoding makes them."""
    kind = ROW_CODES[("catalogue", "price", "stock").index(table)]
    event = {"time": time, "clock": clock, "sequence": sequence, "type": kind, "product": product}
    lines = []
    for value in told.values():
        flags = record.FLAG_IS_LINE | (record.FLAG_HAS_PRICE if isinstance(value, int) else 0)
        lines.append({**event, "flags": flags, "price": value if isinstance(value, int) else 0})
    records, _ = records_of([{**event, "flags": record.FLAG_HAS_LINES if told else 0}, *lines])
    records[:, record.STORE] = store
    for row, (name, value) in zip(records[1:], told.items(), strict=True):
        row[record.FIELD_NAME] = hash_text(name, *key_words(bytes(16)))
        row[record.FIELD_TEXT] = 77 if value == "text" else 0
    return records


@quick(150)
@given(st.lists(st.one_of(row_updates, updates), max_size=30), st.lists(st.integers(0, 30), max_size=4))
def test_rows_change_what_they_name(drawn: list[Any], cuts: list[int]) -> None:
    """Prices and stock, one field at a time, and rows with several, null ones and ones of no use among them."""
    world = new_world()
    chains: Chains = {}
    clock, parts = 1_000, []
    for n, step in enumerate(drawn):
        if not isinstance(step[0], str):
            records, said = rows_for([step], n)
            records[:, record.TIME] += clock - 1_000
            records[:, record.CLOCK] += clock - 1_000
            clock = int(records[-1, record.CLOCK])
            for row, what in zip(records.tolist(), said, strict=True):
                if what:
                    place = (row[record.CLOCK], n)
                    let_in(chains.setdefault(what[0], []), row[record.TIME], place, what[1], what[2])
        else:
            table, product, store, offset, told = step
            time = max(1, clock + offset)
            clock = max(clock, time)
            records = row_records(table, product, store, time, clock, n, told)
            if table in WIDTHS and product and told:
                # of the other kind, or no field of this table: nothing changes, but a version is made
                named = {name: value for name, value in told.items() if name in WIDTHS[table]}
                words = {name: UNKNOWN[name] if v is None else v for name, v in named.items() if v != "text"}
                key = (table, product) if table == "price" else (table, product, store)
                let_in_row(chains.setdefault(key, []), time, (clock, n), WIDTHS[table], words)
        parts.append(records)
    for first, end in pairwise(sorted({0, len(parts), *(min(cut, len(parts)) for cut in cuts)})):
        batch = np.concatenate(parts[first:end])
        assert len(world.take(batch.copy())) == len(world.take(batch.copy())) == 0
    for product in range(5):
        for store in range(2):
            for now in (940, 990, 1_000, 1_020, 1_060, 1_200):
                price = seen(chains.get(("price", product), []), now, (1 << 62, 0)) if product else None
                stock = (
                    seen(chains.get(("stock", product, store), []), now, (1 << 62, 0)) if product else None
                )
                found = looked_up(world, product, store, now, (1 << 62, 0))
                assert found[1] == (price.fields["amount"] if price else -1)
                assert found[4] == (price.fields["list"] if price else -3)
                assert found[3] == (stock.fields["quantity"] if stock else -2)


@quick(80)
@given(st.lists(st.lists(updates, max_size=5), min_size=2, max_size=3), st.data())
def test_unmerged_lookups_see_what_their_shard_has_heard(
    partitions: list[list[Any]], data: st.DataObject
) -> None:
    """Two shards of one world hear the partitions' rows in different interleavings; each sees its own."""
    world = new_world()
    streams = []
    for p, drawn in enumerate(partitions):
        records, said = rows_for([(*step[:7], 0) for step in drawn], 0)
        records[:, record.SEQUENCE] += p << PARTITION_SHIFT
        streams.append(list(zip(records, said, strict=True)))
    shards = [[list(stream) for stream in streams] for _ in range(2)]
    heard = [world.nothing_heard() for _ in shards]
    chains: list[Chains] = [{}, {}]
    count = 0
    while any(stream for shard in shards for stream in shard):
        n = data.draw(st.integers(0, 1))
        taken = []
        for stream in shards[n]:
            cut = data.draw(st.integers(0, 3))
            taken += stream[:cut]
            del stream[:cut]
        if not taken:
            continue
        taken.sort(key=lambda row: (row[0][record.CLOCK], row[0][record.SEQUENCE]))
        released = np.array([row for row, _ in taken])
        world.note_heard(released, heard[n])
        world.take(released)
        before = {key: list(chain) for key, chain in chains[n].items()}
        for row, what in taken:
            if what:
                count += 1
                place = (count, 0)
                words = (int(row[record.CLOCK]), int(row[record.SEQUENCE]))
                version = Naive(int(row[record.TIME]), place, {what[1]: what[2], "at": words})  # type: ignore[dict-item]
                chains[n].setdefault(what[0], []).append(version)
        middle = (int(released[0, record.CLOCK]), int(released[0, record.SEQUENCE]))
        for product in range(3):
            for now in (990, 1_010, 1_060):
                key = ("price", product)
                first = [v for v in chains[n].get(key, []) if v in before.get(key, ())]
                for place, there in (((1 << 62, 0), chains[n].get(key, [])), (middle, first)):
                    found = looked_up(world, product, 0, now, place, heard[n])
                    valid = [v for v in there if v.valid_from <= now]
                    latest = {
                        v.fields["amount"] for v in valid if v.valid_from == max(w.valid_from for w in valid)
                    }
                    assert found[1] in (latest or {-1}), (product, now, place)


@quick(60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 99)), max_size=30), updates)
def test_versions_of_a_file_stay_and_lend_their_fields(rows: list[tuple[int, ...]], update: Any) -> None:
    """Of equal valid_from the last row counts; an event changes its field and keeps the others."""
    world = new_world()
    keys = np.array([tables_key(plan.TABLE_PRICE, product, 0) for product, _, _ in rows], np.int64)
    world._make_room(len(rows))
    width = tables.VERSION_FIELDS + 2
    fields = np.array([(value, value + 1) for _, _, value in rows], np.int64).reshape(-1, 2)
    since = np.array([990 + at for _, at, _ in rows], np.int64)
    tables.load_versions(world.arrays, world._state, width, keys, since, fields)
    chains: Chains = {}
    for product, at, value in rows:
        chain = chains.setdefault(("price", product), [])
        chain[:] = [v for v in chain if v.valid_from != 990 + at]
        chain.append(Naive(990 + at, (-1, 0), {"amount": value, "list": value + 1}))
    records, said = rows_for([update], 3)
    world.take(records)
    for row, what in zip(records.tolist(), said, strict=True):
        if what and what[1] == "amount":
            place = (row[record.CLOCK], row[record.SEQUENCE])
            let_in(chains.setdefault(what[0], []), row[record.TIME], place, what[1], what[2])
    for product in range(1, 4):
        for now in (985, 990, 992, 994, 995, 1_000, 1_040):
            version = seen(chains.get(("price", product), []), now, (1 << 62, 0))
            found = looked_up(world, product, 0, now, (1 << 62, 0))
            assert found[1] == (version.fields["amount"] if version else -1)
            assert found[4] == (version.fields["list"] if version else -3)


def tables_key(table: int, first: int, second: int) -> int:
    keys = np.zeros(1, np.int64)
    tables.table_keys(table, np.array([first], np.int64), np.array([second], np.int64), keys)
    return int(keys[0])


def test_a_key_keeps_a_bounded_number_of_versions() -> None:
    world = new_world()
    many = limits.TABLE_VERSIONS_MAX + 5
    drawn = [(True, 1, 0, 10, n % 9, "JPY", False, 0) for n in range(many)]
    records, _ = rows_for(drawn, 0)
    world.take(records)
    assert world.counters() == {"table_keys": 1, "table_updates": many, "table_versions_dropped": 5}
    assert looked_up(world, 1, 0, 1_000 + 10 * 5, (1 << 62, 0))[1] == -1
    assert looked_up(world, 1, 0, 1_000 + 10 * 6, (1 << 62, 0))[1] == 5 * MILLION
    words = int(world._state[tables.STATE_USED])
    again, _ = rows_for([(True, 1, 0, 9_000, 1, "JPY", False, 0)], many)
    world.take(again)
    assert world._state[tables.STATE_USED] == words  # their room is used again


def test_many_keys() -> None:
    """Arrays grow on the way, and every key is still found."""
    world = new_world()
    for start in range(0, 3_000, 500):
        events = [
            {"time": 1_000 + n, "type": INVENTORY_UPDATED, "product": n + 1, "quantity": n, "sequence": n}
            for n in range(start, start + 500)
        ]
        for event in events:
            event["flags"] = record.FLAG_HAS_QUANTITY
        records, _ = records_of(events)
        records[:, [record.CUSTOMER_LO, record.CUSTOMER_HI]] = 0
        assert len(world.take(records)) == 0
    for product in (1, 2, 500, 501, 1_777, 3_000):
        assert looked_up(world, product, 0, 10_000, (1 << 62, 0))[3] == (product - 1) * MILLION


@quick(30)
@given(st.integers(-(10**15), 10**15), st.sampled_from((("EUR", 100), ("JPY", 1), ("CLF", 10_000))))
def test_a_price_is_kept_to_the_last_digit_or_at_the_bound(minor: int, currency: tuple[str, int]) -> None:
    world = new_world()
    event = {"time": 1, "type": PRICE_UPDATED, "product": 1, "price": minor, "flags": record.FLAG_HAS_PRICE}
    records, _ = records_of([{**event, "currency": letters_code(currency[0]), "customer": NOBODY}])
    records[:, [record.CUSTOMER_LO, record.CUSTOMER_HI]] = 0
    world.take(records)
    exact = minor * (MILLION // currency[1])
    assert looked_up(world, 1, 0, 1, (1 << 62, 0))[1] == max(
        -tables.NUMBER_MAX, min(tables.NUMBER_MAX, exact)
    )


def test_keys_of_different_tables_differ() -> None:
    low, high = key_of(5)
    keys = {tables_key(table, low, high) for table in range(plan.TABLES)} | {tables_key(0, high, low)}
    assert len(keys) == plan.TABLES + 1
    assert 0 not in keys
