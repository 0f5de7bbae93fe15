"""Reference tables from files: what a key's fields are, and from when on.

Parquet, Arrow, CSV and JSON lines, told by the file's name. Numbers become whole millionths (further digits are
rounded half to even), texts the hashes that events have. An empty cell is what the policies declare as unknown. Of
rows with the same key and valid_from the last one counts.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from segue.errors import SourceError, did_you_mean
from segue.events.batch import read_only
from segue.reference.cells import (
    KIND,
    LOYALTY_COLUMNS,
    PRODUCT_COLUMNS,
    STORE_COLUMNS,
    TABLE_NAMES,
    USER_COLUMNS,
    BadCellError,
    cell_time_ms,
    customer_kind,
    is_empty,
    number_word,
    shown,
    text_bytes,
)
from segue_kernels import plan, record
from segue_kernels.tables import hash_customers, hash_texts, table_keys

Words = npt.NDArray[np.int64]

VALID_FROM = "valid_from"
_ABSENT = -1


@dataclass(frozen=True, slots=True)
class Field:
    """A field that policies look up: its column, "number" or "text", and the word of an empty cell."""

    name: str
    kind: str
    unknown: int


@dataclass(frozen=True, slots=True)
class TableRows:
    """What a file says: int64 keys[n] (segue_kernels/tables.py), valid_from[n] in ms, fields[n, fields asked for]."""

    keys: Words
    valid_from: Words
    fields: Words


@dataclass(slots=True)
class _Column:
    """Different values (None: nobody has it), and the number of each row's (-1: empty)."""

    name: str
    values: list[Any]
    indices: Words


class _File:
    """Columns of a file by name, and the errors that speak of it."""

    def __init__(self, table: str, path: str) -> None:
        self.table = table
        self.path = path
        self.columns: dict[str, Callable[[], _Column]] = {}
        self.rows = 0
        self.row_numbers: Sequence[int] | None = None

    def error(self, found: str, hint: str) -> SourceError:
        return SourceError(f'read the table "{self.table}"', f'"{self.path}"{found}', hint)

    def column(self, *names: str, hint: str) -> _Column:
        """The first of these columns that the file has."""
        for name in names:
            if name in self.columns:
                return self.columns[name]()
        listed = tuple(self.columns)
        raise self.error(f" has no column {names[0]}", f"{hint}; {did_you_mean(names[0], listed)}")

    def bad(self, column: _Column, value: int, problem: BadCellError) -> SourceError:
        """The error for the first row that has a value."""
        row = int(np.flatnonzero(column.indices == value)[0])
        number = self.row_numbers[row] if self.row_numbers is not None else row + 1
        return self.error(f", row {number}, column {column.name}: {problem.found}", problem.hint)

    def converted(self, column: _Column, convert: Callable[[Any], int], empty: int) -> Words:
        """A word for each row; `empty` where there is none."""
        words = np.empty(len(column.values) + 1, np.int64)
        words[-1] = empty  # index -1
        for at, value in enumerate(column.values):
            try:
                words[at] = empty if value is None else convert(value)
            except BadCellError as problem:
                raise self.bad(column, at, problem) from None
        found: Words = words[column.indices]
        return found

    def texts(self, column: _Column) -> tuple[npt.NDArray[np.uint8], Words]:
        """The different values behind each other as UTF-8, and where each begins (and the last ends)."""
        parts: list[bytes] = []
        for at, value in enumerate(column.values):
            try:
                parts.append(b"" if value is None else text_bytes(value))
            except BadCellError as problem:
                raise self.bad(column, at, problem) from None
        offsets = np.cumsum([0, *map(len, parts)]).astype(np.int64)
        return read_only(np.frombuffer(b"".join(parts) + bytes(8), np.uint8)), offsets

    def hashes(self, column: _Column, empty: int, k0: np.uint64, k1: np.uint64) -> Words:
        """The hash of each row's text; `empty` where there is none."""
        text, offsets = self.texts(column)
        words = np.empty(len(column.values) + 1, np.int64)
        hash_texts(text, offsets, k0, k1, words[:-1])
        words[-1] = empty
        found: Words = words[column.indices]
        return found

    def refuse_empty(self, column: _Column) -> None:
        """A key has to be in every row."""
        empty = np.flatnonzero(column.indices == _ABSENT)
        if len(empty):
            raise self.bad(column, _ABSENT, BadCellError("it is empty", "every row needs its key"))


_lock = threading.Lock()
_read: dict[tuple[Any, ...], TableRows] = {}
_READ_MAX = 8


def read_table(table: str, path: str, fields: tuple[Field, ...], k0: np.uint64, k1: np.uint64) -> TableRows:
    """The rows of a table's file with the fields that are looked up; SourceError says what is wrong with it.

    A file that did not change is read once a process: its workers share what this gives.
    """
    try:
        state = Path(path).stat()
    except OSError as error:
        raise _File(table, path).error(f" can't be read ({error.strerror})", "check the path") from error
    key = (table, path, state.st_mtime_ns, state.st_size, fields, int(k0), int(k1))
    with _lock:
        if key not in _read:
            file = _File(table, path)
            try:
                _open(file)
                rows = _read_rows(file, fields, k0, k1)
            except (OSError, EOFError, pa.ArrowException) as error:
                found = f" can't be read: {(str(error).splitlines() or [''])[0]}"
                raise file.error(found, "check the file") from error
            while len(_read) >= _READ_MAX:
                del _read[next(iter(_read))]
            _read[key] = rows
        return _read[key]


def _read_rows(file: _File, fields: tuple[Field, ...], k0: np.uint64, k1: np.uint64) -> TableRows:
    keys = _keys(file, k0, k1)
    valid_from = np.zeros(file.rows, np.int64)
    if VALID_FROM in file.columns:
        valid_from = file.converted(file.columns[VALID_FROM](), partial(cell_time_ms, name=VALID_FROM), 0)
    words = np.empty((file.rows, len(fields)), np.int64)
    for at, wanted in enumerate(fields):
        column = file.column(wanted.name, hint="policies look it up")
        if wanted.kind == "number":
            words[:, at] = file.converted(column, number_word, wanted.unknown)
        else:
            words[:, at] = file.hashes(column, wanted.unknown, k0, k1)
    return TableRows(keys, valid_from, words)


def _keys(file: _File, k0: np.uint64, k1: np.uint64) -> Words:
    table = TABLE_NAMES.index(file.table)
    keys = np.zeros(file.rows, np.int64)
    if table == plan.TABLE_PROFILE:
        return _customers(file, k0, k1)
    product = file.column(*PRODUCT_COLUMNS, hint="a product is the key of this table")
    file.refuse_empty(product)
    stores = np.zeros(file.rows, np.int64)
    if table == plan.TABLE_STOCK and any(name in file.columns for name in STORE_COLUMNS):
        stores = file.hashes(file.column(*STORE_COLUMNS, hint=""), 0, k0, k1)
    table_keys(table, file.hashes(product, 0, k0, k1), stores, keys)
    return keys


def _customers(file: _File, k0: np.uint64, k1: np.uint64) -> Words:
    customer = file.column(*USER_COLUMNS, *LOYALTY_COLUMNS, hint="a customer is the key of this table")
    file.refuse_empty(customer)
    usual = record.KIND_LOYALTY if customer.name in LOYALTY_COLUMNS else record.KIND_USER
    kinds = np.full(file.rows, usual, np.int64)
    if KIND in file.columns:
        kinds = file.converted(file.columns[KIND](), customer_kind, usual)
    text, offsets = file.texts(customer)
    keys = np.zeros(file.rows, np.int64)
    for kind in np.unique(kinds).tolist():
        found = np.empty(len(customer.values), np.int64)
        hash_customers(text, offsets, np.full(len(found), kind, np.int64), k0, k1, found)
        mine = kinds == kind
        keys[mine] = found[customer.indices[mine]]
    return keys


# --- files -------------------------------------------------------------------------------------------


def _open(file: _File) -> None:
    """Take the file's columns; those of Parquet are read when they are asked for."""
    name = file.path.lower()
    if name.endswith(".parquet"):
        parquet = pyarrow.parquet.ParquetFile(file.path)
        file.rows = parquet.metadata.num_rows
        for column in parquet.schema_arrow.names:
            file.columns[column] = partial(_parquet_column, file, column, parquet)
    elif name.endswith((".arrow", ".feather")):
        _take_arrow(file, _arrow(Path(file.path).read_bytes()))
    elif name.endswith((".csv", ".csv.gz")):
        _take_csv(file, _bytes(file.path))
    elif name.endswith((".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")):
        _take_lines(file, _bytes(file.path))
    else:
        raise file.error(" is in no known format", "name it .parquet, .arrow, .csv or .jsonl")
    if not file.columns:
        raise file.error(" is empty", "a table has at least its key and what is looked up")


def _bytes(path: str) -> bytes:
    data = Path(path).read_bytes()
    return gzip.decompress(data) if path.lower().endswith(".gz") else data


def _arrow(data: bytes) -> Any:
    try:
        return pa.ipc.open_file(pa.BufferReader(data)).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_stream(pa.BufferReader(data)).read_all()


def _parquet_column(file: _File, name: str, parquet: Any) -> _Column:
    return _arrow_column(file, name, parquet.read(columns=[name]).column(0))


def _take_arrow(file: _File, data: Any) -> None:
    file.rows = data.num_rows
    for name in data.schema.names:
        file.columns[name] = partial(_arrow_column, file, name, data.column(name))


def _arrow_column(file: _File, name: str, column: Any) -> _Column:
    """A column of Arrow; empty text and NaN are empty cells."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_null(kind):
        return _Column(name, [], np.full(file.rows, _ABSENT, np.int64))
    if pa.types.is_string_view(kind):
        column = column.cast(pa.large_string())
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("ms", kind.tz), safe=False).cast(pa.int64())
    try:
        encoded = column.combine_chunks().dictionary_encode()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
    except pa.ArrowException:
        raise file.error(f", column {name}: it holds {kind}", "store it as numbers or as text") from None
    values = encoded.dictionary.to_pylist()
    if pa.types.is_float32(kind) or pa.types.is_float16(kind):
        values = [None if value is None else np.float32(value) for value in values]
    indices = pc.fill_null(encoded.indices.cast(pa.int64()), _ABSENT).to_numpy(zero_copy_only=False)
    return _without_empty(_Column(name, values, indices.astype(np.int64)))


def _without_empty(column: _Column) -> _Column:
    for at, value in enumerate(column.values):
        if is_empty(value):
            column.indices[column.indices == at] = _ABSENT
            column.values[at] = None
    return column


def _take_csv(file: _File, data: bytes) -> None:
    first = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", errors="replace", newline="")
    header = next(csv.reader(first), [])
    if not header:
        raise file.error(" is empty", "the first line names the columns")
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise file.error(f" has two columns {twice}", "name each column once")
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise file.error(f': its first line is "{header[0][:60]}"', "separate columns by commas")
    table = pyarrow.csv.read_csv(
        pa.BufferReader(data),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string())),
    )
    _take_arrow(file, table)


def _take_lines(file: _File, data: bytes) -> None:
    found: dict[str, _Column] = {}
    numbers: list[int] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line, parse_float=Decimal)
        except (ValueError, RecursionError) as error:
            raise file.error(f", row {number}: not JSON: {error}", "each line is an object") from None
        if not isinstance(fields, dict):
            raise file.error(f", row {number}: {shown(fields)} is no object", "each line is an object")
        for name in fields:
            if name not in found:
                found[name] = _Column(name, [], np.zeros(0, np.int64))
        numbers.append(number)
        for name, column in found.items():
            column.values.append(fields.get(name))
    # a column that begins later was empty before
    for name, column in found.items():
        column.values = [None] * (len(numbers) - len(column.values)) + column.values
        file.columns[name] = partial(_distinct, column)
    file.rows = len(numbers)
    file.row_numbers = numbers


def _distinct(column: _Column) -> _Column:
    seen: dict[tuple[type, Any], int] = {}
    values: list[Any] = []
    indices = np.empty(len(column.values), np.int64)
    for row, value in enumerate(column.values):
        key = (type(value), value if isinstance(value, str | int | Decimal) else id(value))
        at = seen.setdefault(key, len(values))
        if at == len(values):
            values.append(value)
        indices[row] = at
    return _without_empty(_Column(column.name, values, indices))
