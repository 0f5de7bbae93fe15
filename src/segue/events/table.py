"""Rows of an Arrow batch become records a column at a time; what a column can't settle goes the msgspec road.

Such a row (an order's lines, consent, an odd value) is written as JSON and read like any message, so a table
means exactly what the same JSON would mean. A bad row is a dead letter whose bytes are that JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from segue import limits
from segue.events import names
from segue.events.batch import Bytes, Decoded, Origin, Words, count_events, read_only
from segue.events.merge import Rows, merge
from segue.events.money import EXPONENTS, letters_code
from segue.events.rows import Terms
from segue.events.slow import SlowRows
from segue.events.types import ALIASES, Event
from segue.events.updates import ROW_NAMES
from segue.reference.zones import zone_numbers
from segue_kernels import fill, record
from segue_kernels.load import PADDING_BYTES
from segue_kernels.scan import MEMO_WORDS, parse_times

Mask = NDArray[np.bool_]

_NAME_OF = {field.name: field.encode_name for field in msgspec.structs.fields(Event)}
# JSON keys a table's columns may have, from the type itself
COLUMNS: tuple[str, ...] = tuple(_NAME_OF.values())
_SETTLED_BY_MSGSPEC = (
    *(names.CONSENT_CHANGED, names.UNSUBSCRIBED, names.IDENTIFY, names.ALIAS),
    *names.ROW_CODES,
)
_TYPE_COLUMNS = ("type", "event")


@dataclass(slots=True)
class _Text:
    """The columns' strings behind each other."""

    parts: list[Bytes] = field(default_factory=list)
    size: int = 0

    def append(self, part: Bytes) -> int:
        """Where the part begins."""
        start = self.size
        self.parts.append(part)
        self.size += int(part.shape[0])
        return start


@dataclass(slots=True)
class _Columns:
    """The batch by canonical field, and the rows that must go the msgspec road."""

    batch: Any
    slow: Mask
    text: _Text

    def get(self, name: str) -> Any | None:
        """The column of a field (an Event attribute) or None. Rows where only an alias speaks become slow."""
        key = _NAME_OF[name]
        schema = self.batch.schema.names
        column = self.batch.column(schema.index(key)) if key in schema else None
        for alias in ALIASES.get(name, ()):
            alias_key = _NAME_OF[alias]
            if alias_key not in schema:
                continue
            other = self.batch.column(schema.index(alias_key))
            if column is None:
                column = other
                continue
            silent = _mask(pc.is_null(column))
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                silent |= _mask(pc.equal(column, ""))
            self.slow |= silent & ~_mask(pc.is_null(other))
        if column is not None and pa.types.is_null(column.type):
            return None
        if column is not None and pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        return column

    def references(self, name: str) -> Words:
        """offset << 8 | length of a string column's values in the text; 0 where absent."""
        rows = self.slow.shape[0]
        column = self.get(name)
        if column is None:
            return np.zeros(rows, dtype=np.int64)
        valid = ~_mask(pc.is_null(column))
        if not _is_text(column.type):
            self.slow |= valid
            return np.zeros(rows, dtype=np.int64)
        column = column.cast(pa.large_string())
        _, offsets_buffer, data = column.buffers()
        if rows == 0 or data is None:
            return np.zeros(rows, dtype=np.int64)
        offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[column.offset : column.offset + rows + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        base = self.text.append(np.frombuffer(data, dtype=np.uint8)[first:last])
        lengths = np.where(valid, np.diff(offsets), 0)
        self.slow |= lengths > limits.IDENTIFIER_BYTES_MAX
        references: Words = (offsets[:-1] - first + base) << 8 | np.minimum(lengths, 255)
        references[lengths == 0] = 0
        return references

    def codes(self, name: str, known: dict[str, int], absent: int, unknown: int = -1) -> Words:
        """A string column looked up in a registry; rows with an unknown string become slow if `unknown` is -1."""
        rows = self.slow.shape[0]
        column = self.get(name)
        if column is None:
            return np.full(rows, absent, dtype=np.int64)
        if not _is_text(column.type):
            self.slow |= ~_mask(pc.is_null(column))
            return np.full(rows, absent, dtype=np.int64)
        encoded = column.cast(pa.large_string()).dictionary_encode()
        words = [known.get(word, unknown) if word else absent for word in encoded.dictionary.to_pylist()]
        table = np.array([*words, absent], dtype=np.int64)
        found = table[pc.fill_null(encoded.indices, len(words)).to_numpy(zero_copy_only=False)]
        self.slow |= found < 0
        known_codes: Words = np.maximum(found, 0)
        return known_codes

    def money(self, name: str, exponents: Words) -> tuple[Words, Mask]:
        """(minor units, where there is a value) of a column of integers, decimals or floats."""
        rows = self.slow.shape[0]
        column = self.get(name)
        if column is None:
            return np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=bool)
        valid = ~_mask(pc.is_null(column))
        kind = column.type
        if pa.types.is_integer(kind):
            values = pc.fill_null(column, 0).to_numpy(zero_copy_only=False).astype(np.float64)
            minor, certain = _shifted(values, exponents)
        elif pa.types.is_floating(kind):
            values = pc.fill_null(column, 0).to_numpy(zero_copy_only=False).astype(np.float64)
            if not pa.types.is_float64(kind):
                # a float32's shortest text is not its float64's
                self.slow |= valid
            minor, certain = _shifted(values, exponents)
        elif pa.types.is_decimal(kind) and kind.scale <= 4 and kind.precision <= 15:
            values = pc.fill_null(column, Decimal(0)).cast(pa.float64()).to_numpy(zero_copy_only=False)
            minor, certain = _shifted(values, exponents)
        else:
            self.slow |= valid
            return np.zeros(rows, dtype=np.int64), valid
        self.slow |= valid & ~certain
        return np.where(valid & certain, minor, 0), valid

    def whole(self, name: str) -> tuple[Words, Mask]:
        """(quantity or 1, where there is one)."""
        rows = self.slow.shape[0]
        column = self.get(name)
        if column is None:
            return np.ones(rows, dtype=np.int64), np.zeros(rows, dtype=bool)
        valid = ~_mask(pc.is_null(column))
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            self.slow |= valid
            return np.ones(rows, dtype=np.int64), valid
        values = pc.fill_null(column, 1).to_numpy(zero_copy_only=False).astype(np.float64)
        good = (values >= 0) & (values <= limits.QUANTITY_MAX) & (values == np.floor(values))
        self.slow |= valid & ~good
        return np.where(valid & good, values, 1).astype(np.int64), valid

    def times(self, terms: Terms) -> Words:
        """Event times in ms; rows without a certain one become slow."""
        column = self.get("time")
        if column is not None and _is_text(column.type):
            return self._bounded(_text_times(column), terms)
        if column is None or not pa.types.is_timestamp(column.type):
            self.slow |= True
            return np.zeros(self.slow.shape[0], dtype=np.int64)
        self.slow |= _mask(pc.is_null(column))
        units = pc.fill_null(column.view(pa.int64()), 0).to_numpy(zero_copy_only=False)
        # seconds of an absurd year may wrap: they are compared before they are scaled
        per_ms = {"s": 0, "ms": 1, "us": 1_000, "ns": 1_000_000}[column.type.unit]
        if per_ms == 0:
            self.slow |= np.abs(units) > 10**12
            times_ms = np.where(self.slow, 0, units) * 1_000
        else:
            times_ms = units // per_ms
        return self._bounded(times_ms, terms)

    def _bounded(self, times_ms: Words, terms: Terms) -> Words:
        self.slow |= times_ms < limits.EVENT_TIME_MS_MIN
        self.slow |= times_ms > terms.arrival_ms + limits.FUTURE_MS_MAX
        return times_ms


def decode_table(batch: Any, origin: Origin, terms: Terms, k0: np.uint64, k1: np.uint64) -> Decoded:
    """The records of a RecordBatch's rows, in order. `where` and the offsets of dead letters count rows."""
    rows = batch.num_rows
    columns = _Columns(batch, np.zeros(rows, dtype=bool), _Text())
    try:
        batch.validate(full=True)
        fast = _fast_rows(columns, terms, k0, k1)
    except (pa.ArrowException, ValueError, UnicodeDecodeError):
        # a column that lies about itself: each row stands or falls alone
        columns.slow[:] = True
        fast = Rows(
            np.zeros((rows, record.RECORD_WORDS), dtype=np.int64),
            np.zeros((rows, record.STRINGS), dtype=np.int64),
            np.zeros((rows, 2), dtype=np.int64),
            np.zeros(0, dtype=np.uint8),
        )
    places = np.arange(rows, dtype=np.int64)
    fast.where[:, 0] = places
    fast.where[:, 1] = places + origin.line

    slow = SlowRows(terms, origin)
    positions = np.flatnonzero(columns.slow)
    for place in positions.tolist():
        try:
            raw = row_json(batch, place)
        except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
            slow.refuse(f"row can't be read: {error}", b"", place, origin.line + place)
            slow.counts.append(0)
            continue
        slow.read(raw, place, origin.line + place, in_payload=False)
    if slow.counts:
        fast = merge(fast, positions, slow, 0, int(fast.text.shape[0]), k0, k1)
    return Decoded(
        fast.records,
        fast.spans,
        fast.text,
        fast.where,
        slow.dead,
        count_events(fast.records),
        rows,
        origin,
        raw_at=lambda place: row_json(batch, place),
    )


def _fast_rows(columns: _Columns, terms: Terms, k0: np.uint64, k1: np.uint64) -> Rows:
    rows = columns.slow.shape[0]
    codes = columns.codes("type", names.CODE_BY_SPELLING, -1)
    columns.slow |= np.isin(codes, _SETTLED_BY_MSGSPEC)
    times_ms = columns.times(terms)
    currencies = columns.codes(
        "currency", {letters: letters_code(letters) for letters in EXPONENTS}, letters_code(terms.currency)
    )
    exponent_of = np.zeros(letters_code("ZZZ") + 1, dtype=np.int64)
    for letters, exponent in EXPONENTS.items():
        exponent_of[letters_code(letters)] = exponent
    exponents = exponent_of[currencies]
    zones = columns.codes("timezone", zone_numbers(), 0, record.ZONE_UNKNOWN)

    references = np.zeros((rows, fill.REFERENCES), dtype=np.int64)
    user, loyalty, anonymous = (columns.references(n) for n in ("user_id", "loyalty_id", "anonymous_id"))
    kinds = np.where(user, record.KIND_USER, np.where(loyalty, record.KIND_LOYALTY, record.KIND_ANONYMOUS))
    references[:, fill.REFERENCE_CUSTOMER] = np.where(user, user, np.where(loyalty, loyalty, anonymous))
    references[:, fill.REFERENCE_MESSAGE] = columns.references("id")
    references[:, fill.REFERENCE_PRODUCT] = columns.references("product_id")
    references[:, fill.REFERENCE_CATEGORY] = columns.references("category")
    references[:, fill.REFERENCE_STORE] = columns.references("store_id")
    coupon, promotion = columns.references("coupon_id"), columns.references("promotion_id")
    references[:, fill.REFERENCE_CODE] = np.where(coupon, coupon, promotion)
    references[:, fill.REFERENCE_SOURCE] = columns.references("source")
    columns.slow |= references[:, fill.REFERENCE_CUSTOMER] == 0
    columns.slow |= references[:, fill.REFERENCE_MESSAGE] == 0

    prices, has_price = columns.money("price", exponents)
    amounts, has_amount = columns.money("amount", exponents)
    quantities, has_quantity = columns.whole("quantity")
    columns.slow |= has_price & (np.abs(prices) > limits.MONEY_MINOR_MAX // np.maximum(quantities, 1))
    products = columns.get("products")
    if products is not None:
        columns.slow |= ~_mask(pc.is_null(products))
    # of these, msgspec checks the type even where an event has no use for them
    for name in ("previous_id", "channel", "purpose"):
        columns.references(name)
    granted = columns.get("granted")
    if granted is not None and not pa.types.is_boolean(granted.type):
        columns.slow |= ~_mask(pc.is_null(granted))

    flags = (
        kinds
        | has_price * record.FLAG_HAS_PRICE
        | (has_price | has_amount) * record.FLAG_HAS_AMOUNT
        | has_quantity * record.FLAG_HAS_QUANTITY
    )
    records = np.zeros((rows, record.RECORD_WORDS), dtype=np.int64)
    records[:, record.TIME] = times_ms
    records[:, record.PRICE] = prices
    records[:, record.AMOUNT] = np.where(has_amount, amounts, prices * quantities)
    records[:, record.PACK] = np.maximum(codes, 0) | flags << 8 | currencies << 16
    records[:, record.PACK] |= quantities << record.QUANTITY_SHIFT | zones << record.ZONE_SHIFT
    text = np.concatenate(columns.text.parts) if columns.text.parts else np.zeros(0, dtype=np.uint8)
    references[columns.slow] = 0
    fill.fill_hashes(records, references, read_only(text), k0, k1)
    spans = np.ascontiguousarray(references[:, : record.STRINGS])
    return Rows(records, spans, np.zeros((rows, 2), dtype=np.int64), text)


def row_json(batch: Any, row: int) -> bytes:
    """One row as the JSON message it stands for: absent columns left out, decimals as text, times with
    offset."""
    values = {}
    told = (batch.column(name)[row].as_py() for name in _TYPE_COLUMNS if name in batch.schema.names)
    is_row = any(name in ROW_NAMES for name in told)  # of a table: every column may be a field
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if is_row or name in COLUMNS:
            value = _plain(column, row)
            if value is not None:
                values[name] = value
    return msgspec.json.encode(values, enc_hook=str)


def _plain(column: Any, row: int) -> Any:
    kind = column.type
    value = column[row]
    if pa.types.is_timestamp(kind) and kind.unit == "ns" and value.is_valid:
        # datetime has no nanoseconds; ms are kept, rounded down
        value = pa.scalar(value.value // 1_000, pa.timestamp("us", kind.tz))
    return _as_json(value.as_py())


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return moment.isoformat(timespec="milliseconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return value


def _text_times(column: Any) -> Words:
    """Times of a string column in ms, -1 where msgspec must look."""
    column = pc.fill_null(column.cast(pa.large_string()), "")
    _, offsets_buffer, data = column.buffers()
    times_ms = np.full(len(column), -1, dtype=np.int64)
    if len(column) and data is not None:
        offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[column.offset :][: len(column) + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        padded = np.zeros(last - first + PADDING_BYTES, dtype=np.uint8)
        padded[: last - first] = np.frombuffer(data, dtype=np.uint8)[first:last]
        parse_times(read_only(padded), offsets - first, np.zeros(MEMO_WORDS, dtype=np.uint64), times_ms)
    return times_ms


def _shifted(values: NDArray[np.float64], exponents: Words) -> tuple[Words, Mask]:
    """(values in minor units, where that is certain). Near a half only the decimal text can tell."""
    scaled = values * (10.0 ** exponents.astype(np.float64))
    with np.errstate(invalid="ignore"):
        near = np.rint(scaled)
        # below 2**40 a float's error is far less than the distance kept from the half
        certain = (np.abs(scaled) < float(1 << 40)) & (np.abs(scaled - near) < 0.499)
        return np.where(certain, near, 0).astype(np.int64), certain


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _mask(column: Any) -> Mask:
    filled: Mask = np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), dtype=bool)
    return filled
