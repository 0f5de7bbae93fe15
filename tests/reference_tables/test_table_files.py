"""Tables from files: every format says the same, and what is wrong with a file is told with its place."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import SourceError
from segue.events.hashing import hash_customer, hash_text, key_words
from segue.reference.files import Field, TableRows, number_word, read_table
from segue_kernels import plan, record
from segue_kernels.tables import table_keys

K0, K1 = key_words(b"0123456789abcdef")
MARGIN = Field("margin", "number", 111)
BRAND = Field("brand", "text", 222)


def key(table: int, first: int, second: int = 0) -> int:
    keys = np.zeros(1, np.int64)
    table_keys(table, np.array([first], np.int64), np.array([second], np.int64), keys)
    return int(keys[0])


def product(name: str, table: int = plan.TABLE_CATALOGUE, store: str = "") -> int:
    return key(table, hash_text(name, K0, K1), hash_text(store, K0, K1))


def customer(name: str, kind: int = record.KIND_USER) -> int:
    return key(plan.TABLE_PROFILE, *hash_customer(name, kind, K0, K1))


def read(table: str, path: Path, *fields: Field) -> TableRows:
    return read_table(table, str(path), fields, K0, K1)


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / name
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if ".parquet" in name:
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif ".arrow" in name:
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    else:
        if ".csv" in name:
            lines = [columns, *([row.get(column) for column in columns] for row in rows)]
            text = "\n".join(",".join("" if v is None else str(v) for v in line) for line in lines) + "\n"
        else:
            text = "\n".join(json.dumps(row) for row in rows)
        data = text.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


NAMES = ("t.parquet", "t.arrow", "t.csv", "t.csv.gz", "t.jsonl", "t.ndjson.gz")


@pytest.mark.parametrize("name", NAMES)
def test_every_format_says_the_same(name: str, tmp_path: Path) -> None:
    rows = [
        {"product_id": "a", "margin": 0.1, "brand": "Ajax", "other": 1, "valid_from": 1_000},
        {"product_id": "b", "margin": None, "brand": None, "other": 2, "valid_from": None},
        {"product_id": "é 1", "margin": -1234.000001, "brand": "Zoë", "other": 3, "valid_from": 2_000},
    ]
    found = read("catalogue", write(tmp_path, name, rows), MARGIN, BRAND)
    assert found.keys.tolist() == [product(n) for n in ("a", "b", "é 1")]
    assert found.valid_from.tolist() == [1_000, 0, 2_000]
    ajax, zoe = (hash_text(n, K0, K1) for n in ("Ajax", "Zoë"))
    assert found.fields.tolist() == [[100_000, ajax], [111, 222], [-1_234_000_001, zoe]]


def test_columns_of_other_types(tmp_path: Path) -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    table = pa.table(
        {
            "product": pa.array([7, 8, 9], pa.int32()),  # numbers as identifiers are their digits
            "single": pa.array([0.1, None, float("nan")], pa.float32()),
            "exact": pa.array([Decimal("1.2345674"), Decimal("-0.0000005"), None], pa.decimal128(20, 7)),
            "yes": pa.array([True, False, None]),
            "coded": pa.array(["x", None, "x"]).dictionary_encode(),
            "nothing": pa.nulls(3),
            "valid_from": pa.array([at, None, at], pa.timestamp("us", "Europe/Berlin")),
        }
    )
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(table, path)
    names = {"single": "number", "exact": "number", "yes": "number", "coded": "text", "nothing": "number"}
    found = read("price", path, *(Field(name, kind, 5) for name, kind in names.items()))
    assert found.keys.tolist() == [product(str(n), plan.TABLE_PRICE) for n in (7, 8, 9)]
    x = hash_text("x", K0, K1)
    assert found.fields.tolist() == [[100_000, 1_234_567, 1_000_000, x, 5], [5, 0, 0, 5, 5], [5, 5, 5, x, 5]]
    noon = int(at.timestamp()) * 1_000
    assert found.valid_from.tolist() == [noon, 0, noon]


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("2026-03-01T12:00:00Z", 1_772_366_400_000),
        ("2026-03-01T13:00:00.5+01:00", 1_772_366_400_500),
        ("1772366400000", 1_772_366_400_000),
        ("", 0),
    ],
)
def test_valid_from_as_text(text: str, time_ms: int, tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", [{"product_id": "a", "margin": 1, "valid_from": text}])
    assert read("catalogue", path, MARGIN).valid_from.tolist() == [time_ms]


def test_valid_from_as_a_date(tmp_path: Path) -> None:
    path = write(tmp_path, "t.parquet", [{"product_id": "a", "margin": 1, "valid_from": date(2026, 3, 1)}])
    assert read("catalogue", path, MARGIN).valid_from.tolist() == [1_772_323_200_000]


def test_stock_is_by_product_and_store(tmp_path: Path) -> None:
    quantity = Field("quantity", "number", 0)
    rows = [
        {"product_id": "a", "store": "S1", "quantity": 3},
        {"product_id": "a", "store": None, "quantity": 9},
    ]
    found = read("stock", write(tmp_path, "t.jsonl", rows), quantity)
    assert found.keys.tolist() == [product("a", plan.TABLE_STOCK, "S1"), product("a", plan.TABLE_STOCK)]
    found = read("stock", write(tmp_path, "u.jsonl", [{"product_id": "a", "quantity": 9}]), quantity)
    assert found.keys.tolist() == [product("a", plan.TABLE_STOCK)]


def test_profiles_are_of_users_unless_they_say_otherwise(tmp_path: Path) -> None:
    tier = Field("tier", "text", 0)
    rows = [
        {"userId": "u1", "kind": "user", "tier": "gold"},
        {"userId": "u1", "kind": "loyalty", "tier": "gold"},
        {"userId": "u2", "kind": None, "tier": "gold"},
    ]
    found = read("profile", write(tmp_path, "t.csv", rows), tier)
    assert found.keys.tolist() == [customer("u1"), customer("u1", record.KIND_LOYALTY), customer("u2")]
    found = read("profile", write(tmp_path, "u.csv", [{"loyaltyId": "9", "tier": "gold"}]), tier)
    assert found.keys.tolist() == [customer("9", record.KIND_LOYALTY)]


@settings(max_examples=200, deadline=None)
@given(st.decimals(-(10**10), 10**10, allow_nan=False, places=8))
def test_numbers_are_whole_millionths(number: Decimal) -> None:
    exact = int((number * 10**6).to_integral_value("ROUND_HALF_EVEN"))
    assert number_word(number) == number_word(str(number)) == exact
    assert number_word(float(number)) == int((Decimal(repr(float(number))) * 10**6).to_integral_value())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "t.csv",
            "product_id,margin\na,1\nb,1 EUR\n",
            ("row 2", "column margin", '"1 EUR" is no number', "12.5"),
        ),
        ("t.csv", 'product_id,margin\na,"1,5"\n', ("row 1", '"1,5" is no number', "write 1.5, not 1,5")),
        ("t.csv", "product_id,margin\na,1\n,2\n", ("row 2", "column product_id", "it is empty", "its key")),
        ("t.csv", "sku,margin\na,1\n", ("no column product_id", "known: margin, sku")),
        ("t.csv", "product_id,margn\na,1\n", ("no column margin", 'did you mean "margn"?')),
        ("t.csv", "product_id;margin\na;1\n", ("product_id;margin", "separate columns by commas")),
        ("t.csv", "product_id,margin,margin\na,1,2\n", ("two columns margin", "once")),
        (
            "t.csv",
            "product_id,margin\na,1\nb\n",
            ("can't be read", "Expected 2 columns, got 1", "check the file"),
        ),
        ("t.csv", "", ("is empty", "names the columns")),
        ("t.csv", "product_id,margin\na,99999999999999\n", ("row 1", "out of range", "±9000000000000")),
        (
            "t.csv",
            "product_id,margin,valid_from\na,1,2026-03-01\n",
            ("column valid_from", "not ISO 8601", "2026"),
        ),
        (
            "t.csv",
            "product_id,margin,valid_from\na,1,2026-03-01T12:00:00\n",
            ("column valid_from", "no offset"),
        ),
        (
            "t.csv",
            "product_id,margin\n" + "x" * 256 + ",1\n",
            ("column product_id", "256 bytes", "at most 255"),
        ),
        ("t.jsonl", '{"product_id":"a","margin":1}\n\n{"product_id":', ("row 3", "not JSON", "object")),
        ("t.jsonl", '{"product_id":"a","margin":[1]}', ("row 1", "[1] is no number")),
        ("t.jsonl", "[1]", ("row 1", "no object")),
        ("t.jsonl", "", ("is empty",)),
        ("t.jsonl", '{"product_id":1.5,"margin":1}', ("row 1", "column product_id", "1.5 is no text")),
        ("t.parquet", "PAR", ("can't be read", "check the file")),
        ("t.arrow", "no", ("can't be read", "check the file")),
        ("t.csv.gz", "no", ("can't be read", "check the file")),
        ("t.xlsx", "no", ("no known format", ".parquet")),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    name: str, content: str, said: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(SourceError) as error:
        read("catalogue", path, MARGIN)
    text = str(error.value)
    assert text.startswith(f'read the table "catalogue": "{path}"')
    for part in said:
        assert part in text


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file") as error:
        read("catalogue", tmp_path / "none.csv", MARGIN)
    assert error.value.hint == "check the path"


def test_a_column_of_lists(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="margin"):
        read("catalogue", write(tmp_path, "t.parquet", [{"product_id": "a", "margin": [1]}]), MARGIN)


def test_a_bad_kind(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", [{"userId": "u", "kind": "staff", "tier": "x"}])
    with pytest.raises(SourceError, match='column kind: "staff" is no kind of customer'):
        read("profile", path, Field("tier", "text", 0))


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", [{"product_id": "a", "margin": 1}])
    first = read("catalogue", path, MARGIN)
    assert read("catalogue", path, MARGIN) is first
    write(tmp_path, "t.csv", [{"product_id": "a", "margin": 25}])
    assert read("catalogue", path, MARGIN).fields.tolist() == [[25_000_000]]
