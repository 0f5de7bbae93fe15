"""Rows of tables along the way: as events of any form, as messages of a topic, and what is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.events.batch import Decoded, Origin
from segue.events.decode import Decoder
from segue.events.hashing import hash_customer, hash_text
from segue.events.names import ROW_CODES
from segue.events.updates import ROW_NAMES, TopicRows
from segue_kernels import plan, record
from tests.kernels.drivers import Words, quick

FIELDS = (
    ("catalogue", "margin", "number"),
    ("catalogue", "brand", "text"),
    ("stock", "shelf", "text"),
    ("stock", "quantity", "number"),
    ("profile", "points", "number"),
    ("profile", "tier", "text"),
)
ARRIVAL_MS = 1_772_366_400_000
DECODER = Decoder(b"0123456789abcdef", "EUR", ARRIVAL_MS, 300_000, FIELDS)
TIME = "2026-03-01T11:00:00Z"
TIME_MS = 1_772_362_800_000
CATALOGUE, PRICE, STOCK, PROFILE = ROW_NAMES


def text(value: str) -> int:
    return hash_text(value, DECODER.k0, DECODER.k1)


def decoded(*events: dict[str, Any]) -> Decoded:
    payload = "".join(json.dumps(event) + "\n" for event in events).encode()
    found, end = DECODER.json_lines(np.frombuffer(payload, np.uint8), 0, 1_000, Origin("-"))
    assert end == len(payload)
    return found


def topic(table: int, *rows: tuple[Any, Any], time_ms: int = TIME_MS) -> Decoded:
    """Messages (key, row) of a table's topic."""
    payloads = [row if row is None or isinstance(row, bytes) else json.dumps(row).encode() for _, row in rows]
    keys = [key if key is None or isinstance(key, bytes) else key.encode() for key, _ in rows]
    told = TopicRows(table, payloads, keys, [time_ms] * len(rows))
    return DECODER.topic_rows(told, Origin("products/00000", offsets=np.arange(10, 10 + len(rows))))


def bare(event_type: str, /, **fields: Any) -> dict[str, Any]:
    return {"id": "e", "type": event_type, "time": TIME, **fields}


def cloud(event_type: str, /, **fields: Any) -> dict[str, Any]:
    return {**bare(event_type), "specversion": "1.0", "source": "shop", "data": fields}


def track(event_type: str, /, **fields: Any) -> dict[str, Any]:
    return {"messageId": "e", "type": "track", "event": event_type, "timestamp": TIME, "properties": fields}


def told(words: Words) -> list[tuple[int, ...]]:
    """Of each record: whether it is a line, key, field's name, text and number."""
    found = []
    for row in words.tolist():
        flags = (row[record.PACK] >> 8) & 0xFF
        if flags & record.FLAG_IS_LINE:
            number = row[record.FIELD_NUMBER] if flags & record.FLAG_HAS_PRICE else -1
            found.append((row[record.FIELD_NAME], row[record.FIELD_TEXT], number))
        else:
            key = (row[record.PRODUCT], row[record.STORE], row[record.CUSTOMER_LO], row[record.CUSTOMER_HI])
            found.append((row[record.PACK] & 0xFF, row[record.TIME], *key))
    return found


@pytest.mark.parametrize("form", [bare, cloud, track])
def test_an_event_becomes_a_header_and_a_line_a_field(form: Any) -> None:
    got = decoded(
        form(CATALOGUE, product_id="a", margin=0.25, brand="Zoë", colour="red", category=5),
        form(CATALOGUE, product_id="b", brand=None),
        form(STOCK, product_id="a", store_id="s", quantity="3"),
        form(PROFILE, userId="u", tier=7, points=""),
    )
    catalogue, _, stock, profile = ROW_CODES
    assert got.dead == []
    assert got.events == 4
    assert told(got.records) == [
        (catalogue, TIME_MS, text("a"), 0, 0, 0),
        (text("margin"), 0, 250_000),
        (text("brand"), text("Zoë"), -1),
        (catalogue, TIME_MS, text("b"), 0, 0, 0),
        (text("brand"), 0, -1),
        (stock, TIME_MS, text("a"), text("s"), 0, 0),
        (text("quantity"), 0, 3_000_000),
        (profile, TIME_MS, 0, 0, *hash_customer("u", record.KIND_USER, DECODER.k0, DECODER.k1)),
        (text("points"), 0, -1),
        (text("tier"), text("7"), -1),
    ]


def test_whose_profile_it_is() -> None:
    keys = (("loyaltyId", record.KIND_LOYALTY), ("anonymousId", record.KIND_ANONYMOUS), ("customer", 0))
    for column, kind in keys:
        got = decoded(bare(PROFILE, **{column: "u"}, tier="gold"))
        assert told(got.records)[0][4:] == hash_customer("u", kind, DECODER.k0, DECODER.k1)
    got = decoded({**track(PROFILE, tier="gold"), "userId": "u"})
    assert told(got.records)[0][4:] == hash_customer("u", 0, DECODER.k0, DECODER.k1)


def test_what_nobody_looks_into_makes_no_lines() -> None:
    got = decoded(bare(PRICE, product_id="a", amount=1), bare(CATALOGUE, product_id="a", colour="red"))
    assert len(got.records) == got.events == 2
    assert not (got.records[:, record.PACK] >> 8 & record.FLAG_HAS_LINES).any()


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (cloud(CATALOGUE, product_id="a", margin="high"), ("data.margin", '"high" is no number', "12.5")),
        (bare(CATALOGUE, product_id="a", margin=[1]), ("margin", "[1] is no number", "write a number")),
        (track(CATALOGUE, product_id="a", brand=1.5), ("properties.brand", "1.5 is no text", "as text")),
        (bare(CATALOGUE, product_id="a", brand="x" * 256), ("brand", "256 bytes", "at most 255")),
        (bare(CATALOGUE, margin=1), ("no product_id", "catalogue")),
        (bare(PROFILE, tier="gold"), ("no customer", "userId")),
        (bare(PROFILE, userId="u", kind="staff"), ("kind", "no kind of customer", "loyalty")),
        ({**bare(CATALOGUE, product_id="a"), "time": 5}, ("time",)),
        ({**bare(CATALOGUE, product_id="a"), "id": None}, ("no id",)),
        ({**cloud(CATALOGUE), "data": [1]}, ("data", "no object")),
        ({**cloud(CATALOGUE, product_id="a"), "specversion": "0.3"}, ("0.3", "1.0")),
    ],
)
def test_what_is_wrong_with_an_event_is_told(event: dict[str, Any], said: tuple[str, ...]) -> None:
    (letter,) = decoded(event).dead
    for part in said:
        assert part in letter.reason


def test_a_table_of_columns_means_the_same() -> None:
    rows = [
        bare(CATALOGUE, product_id="a", margin=0.25, brand="x"),
        bare(CATALOGUE, product_id="b", margin=1.5),
    ]
    found = DECODER.table(pa.RecordBatch.from_pylist(rows, pa.Table.from_pylist(rows).schema), Origin("-"))
    assert np.array_equal(found.records, decoded(*rows).records)


# --- topics -------------------------------------------------------------------------------------------

cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(-1e9, 1e9),
    st.sampled_from(("", "x", "Zoë", "1.5", " 2 ", "1e3", [1], {"a": 1})),
)
keyed = st.tuples(
    st.sampled_from(("p", "u 1", "é")),
    st.booleans(),
    st.dictionaries(st.sampled_from([f[1] for f in FIELDS]), cells),
)


@quick(150)
@given(st.sampled_from(range(plan.TABLES)), st.lists(keyed, max_size=6))
def test_a_message_is_the_event_that_tells_all_fields(
    table: int, drawn: list[tuple[str, bool, dict[str, Any]]]
) -> None:
    name = "userId" if table == plan.TABLE_PROFILE else "product_id"
    of_table = [field for of, field, _ in FIELDS if of == ("catalogue", "price", "stock", "profile")[table]]
    events, rows = [], []
    for key, in_row, fields in drawn:
        row = {**fields, "updated_at": TIME}
        rows.append((None if in_row else key, {**row, name: key} if in_row else row))
        whole = {field: fields.get(field) for field in of_table}
        events.append({**bare(ROW_NAMES[table], **whole), name: key})
    got, expected = topic(table, *rows, time_ms=5), decoded(*events)
    words = [
        word for word in range(record.RECORD_WORDS) if word not in (record.MESSAGE_LO, record.MESSAGE_HI)
    ]
    assert np.array_equal(got.records[:, words], expected.records[:, words])
    assert [letter.reason for letter in got.dead] == [letter.reason for letter in expected.dead]
    assert got.events == expected.events


def test_a_tombstone_takes_all_fields_away() -> None:
    got = topic(plan.TABLE_CATALOGUE, ("a", {"margin": 1}), ("a", None))
    nothing = [(text("margin"), 0, -1), (text("brand"), 0, -1)]
    header = (ROW_CODES[0], TIME_MS, text("a"), 0, 0, 0)
    assert told(got.records) == [header, (text("margin"), 0, 1_000_000), nothing[1], header, *nothing]


def test_a_key_may_be_an_object() -> None:
    got = topic(
        plan.TABLE_STOCK, ('{"product_id":"a","store_id":"s"}', None), ('{"store_id":"s"}', {"product": "b"})
    )
    assert [row[2:4] for row in told(got.records) if len(row) > 3] == [
        (text("a"), text("s")),
        (text("b"), text("s")),
    ]


def test_the_time_of_a_row() -> None:
    at = [
        ("a", {"time": TIME}),
        ("a", {"updated_at": TIME_MS}),
        ("a", {"updated_at": "2026-03-01T11:00Z"}),
        ("a", {}),
    ]
    got = topic(plan.TABLE_CATALOGUE, *at, time_ms=TIME_MS + 9)
    assert got.records[::3, record.TIME].tolist() == [TIME_MS] * 3 + [TIME_MS + 9]
    got = topic(plan.TABLE_CATALOGUE, ("a", {}), time_ms=-1)
    assert "no time" in got.dead[0].reason


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ((None, {"margin": 1}), "no product_id"),
        (("a", b"[1]"), "a row is an object"),
        (("a", b'{"margin":'), "not JSON"),
        (("a", b'{"x":"\xff"}'), "not UTF-8"),
        ((b"\xff", {"margin": 1}), "the message's key is not UTF-8"),
        (("{", {"margin": 1}), "the message's key is no JSON object"),
        (("a", {"updated_at": "yesterday"}), "updated_at"),
        (("a", {"updated_at": 5}), "before 2000"),
        (("a", b"{}" + b" " * (1 << 20)), "bytes, at most"),
    ],
)
def test_what_is_wrong_with_a_message_is_told(row: tuple[Any, Any], said: str) -> None:
    got = topic(plan.TABLE_CATALOGUE, ("b", {}), row, ("c", {}))
    (letter,) = got.dead
    assert said in letter.reason
    assert (letter.file, letter.line, letter.offset) == ("products/00000", 1, 11)
    assert got.events == 2


def test_rows_are_never_late_and_their_place_is_known() -> None:
    got = topic(
        plan.TABLE_CATALOGUE, ("a", {"updated_at": TIME}), ("b", {"updated_at": "2020-01-01T00:00:00Z"})
    )
    assert DECODER.stamp(got, -1, 3, 7) == TIME_MS
    assert got.late == []
    assert got.records[:, record.SEQUENCE].tolist() == [(3 << 48) + 7] * 3 + [(3 << 48) + 8] * 3
    assert got.raw_at(1) == b'{"updated_at": "2020-01-01T00:00:00Z"}'
