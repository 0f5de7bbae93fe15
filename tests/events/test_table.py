"""A table means what the same JSON would mean, whichever types its columns have."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.events.batch import string_of
from segue.events.decode import Decoder, Origin
from segue.events.table import COLUMNS
from segue_kernels import record

ARRIVAL_MS = 1_772_366_400_000
DECODER = Decoder(b"0123456789abcdef", "EUR", ARRIVAL_MS, 300_000)
START = datetime(2026, 3, 1, 10, tzinfo=UTC)

texts = st.one_of(st.none(), st.sampled_from(["", "a", "sku-1", "Zoë", "y" * 256]))
rows_ = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.one_of(st.sampled_from(["m1", "m2"]), texts),
            "type": st.sampled_from(
                ["Product Viewed", "purchase", "identify", "Unsubscribed", "Price Updated", "Nope"]
            ),
            "time": st.integers(-5, 10**8).map(lambda ms: START + timedelta(milliseconds=ms)),
            "source": texts,
            "userId": texts,
            "loyaltyId": texts,
            "anonymousId": texts,
            "product_id": texts,
            "coupon_id": texts,
            "promotion_id": texts,
            "price": st.one_of(
                st.none(),
                st.integers(-(10**6), 10**6).map(lambda v: Decimal(v) / 1000),
                st.just(Decimal("2.675")),
            ),
            "quantity": st.one_of(st.none(), st.integers(-1, 5)),
            "currency": st.sampled_from([None, "EUR", "JPY", "KWD", "XXX"]),
            "timezone": st.sampled_from([None, "", "Europe/Berlin", "Asia/Tokyo", "Europe/Berln"]),
            "amount": st.one_of(st.none(), st.just(Decimal("0.125"))),
            "products": st.sampled_from([None, [], [{"product_id": "a", "price": Decimal("1.255")}]]),
        }
    ),
    min_size=1,
    max_size=8,
)
TYPES = {"quantity": pa.int32(), "price": pa.decimal128(12, 3), "amount": pa.decimal128(12, 3)}
PRODUCTS = pa.list_(pa.struct([("product_id", pa.string()), ("price", pa.decimal128(12, 3))]))


def table_of(rows: list[dict[str, Any]], price: str, time: str) -> pa.RecordBatch:
    arrays = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        kind = TYPES.get(name, PRODUCTS if name == "products" else pa.string())
        if name == "time":
            if time == "text":
                values = [value.isoformat() for value in values]
            elif time == "naive":
                values = [value.replace(tzinfo=None) for value in values]
            kind = {"text": pa.string(), "naive": pa.timestamp("us"), "utc": pa.timestamp("ns", "UTC")}[time]
        if name == "price" and price != "decimal":
            convert = {"float": float, "text": str}[price]
            values = [None if value is None else convert(value) for value in values]
            kind = {"float": pa.float64(), "text": pa.string()}[price]
        if name == "type":
            arrays[name] = pa.array(values, pa.string()).dictionary_encode()
        else:
            arrays[name] = pa.array(values, kind)
    return pa.record_batch(arrays)


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    def plain(value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime) else str(value)

    return b"\n".join(json.dumps(row, default=plain).encode() for row in rows)


@settings(max_examples=120, deadline=None)
@given(
    rows_,
    st.sampled_from(["decimal", "float", "text"]),
    st.sampled_from(["text", "naive", "utc"]),
    st.booleans(),
)
def test_a_table_equals_its_json(rows: list[dict[str, Any]], price: str, time: str, sliced: bool) -> None:
    batch = table_of([*rows, *rows] if sliced else rows, price, time)
    if sliced:
        batch = batch.slice(len(rows))
    found = DECODER.table(batch, Origin("t"))
    expected, _ = DECODER.json_lines(np.frombuffer(as_lines(rows), dtype=np.uint8), 0, 1000, Origin("t"))
    assert found.records.tolist() == expected.records.tolist()
    for row in range(found.rows):
        assert [string_of(found, row, k) for k in range(4)] == [string_of(expected, row, k) for k in range(4)]
    assert [(d.line, d.reason) for d in found.dead] == [(d.line, d.reason) for d in expected.dead]
    assert found.where[:, 1].tolist() == expected.where[:, 1].tolist()


@pytest.mark.parametrize(
    "batch",
    [
        pa.record_batch({"id": pa.array([1, 2])}),
        pa.record_batch({"x": pa.array([1, 2])}),
        pa.record_batch({"id": pa.array([None, None]), "time": pa.array([2**62, None], pa.timestamp("s"))}),
        pa.record_batch({"id": pa.array([b"\xff", b"a"], pa.binary())}),
        pa.record_batch({"id": pa.array([b"\xff", b"a"], pa.binary()).view(pa.string())}),
        pa.record_batch({"id": pa.array(["a", "b"]), "price": pa.array([float("nan"), float("inf")])}),
        pa.record_batch(
            {"id": pa.array(["a", "b"]), "granted": pa.array([1, 2]), "products": pa.array([1, 2])}
        ),
    ],
)
def test_a_bad_table_is_dead_letters(batch: pa.RecordBatch) -> None:
    found = DECODER.table(batch, Origin("t", 10, 9))
    assert found.rows == 0
    assert [(letter.line, letter.offset) for letter in found.dead] == [(10, 9), (11, 10)]


def test_no_rows_are_no_records() -> None:
    schema = pa.schema([("id", pa.string()), ("time", pa.timestamp("ms"))])
    assert DECODER.table(pa.RecordBatch.from_pylist([], schema), Origin("t")).rows == 0


def test_an_alias_speaks_where_its_column_is_silent() -> None:
    batch = pa.record_batch(
        {
            "id": ["", "2"],
            "messageId": ["1", "x"],
            "event": ["Cart Viewed"] * 2,
            "timestamp": pa.array([ARRIVAL_MS] * 2, pa.timestamp("ms")),
            "userId": ["u"] * 2,
        }
    )
    found = DECODER.table(batch, Origin("t"))
    assert [string_of(found, row, 1) for row in range(2)] == ["1", "2"]


def test_a_time_zone_that_is_no_text_is_unknown() -> None:
    batch = pa.record_batch(
        {
            "id": ["1", "2"],
            "type": ["Cart Viewed"] * 2,
            "time": pa.array([ARRIVAL_MS] * 2, pa.timestamp("ms")),
            "userId": ["u"] * 2,
            "timezone": pa.array([120, None]),
        }
    )
    found = DECODER.table(batch, Origin("t"))
    zones = (found.records[:, record.PACK] >> record.ZONE_SHIFT).tolist()
    assert zones == [record.ZONE_UNKNOWN, 0]


def test_columns_come_from_the_type() -> None:
    assert {"id", "messageId", "userId", "product_id", "products", "originalTimestamp"} <= set(COLUMNS)
