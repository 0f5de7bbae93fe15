"""Rows of tables that come along the way: as events (some of the fields), or as messages of a table's topic (all).

A row becomes a header record with its key, and a line for each field that policies look into (segue_kernels/record.py).
Fields that nobody looks into are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, partial
from typing import Any, NamedTuple

import msgspec
import numpy as np

from segue import limits
from segue.events import names
from segue.events.batch import Bytes, DeadLetter, Decoded, Origin, Words, dead_letter, read_only
from segue.events.money import letters_code
from segue.events.refusal import Refusal
from segue.events.rows import Row, Terms, event_time_ms, string_bytes
from segue.events.time import check_time_ms
from segue.events.types import Event
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
from segue_kernels.tables import hash_identifiers, hash_texts

ANONYMOUS_COLUMNS = ("anonymousId", "anonymous_id")
TIME_COLUMNS = ("time", "updated_at")
ROW_NAMES: tuple[str, ...] = tuple(names.type_name(code) for code in names.ROW_CODES)
TABLE_OF_NAME = {name: table for table, name in enumerate(ROW_NAMES)}
# of a bare event: not the row's
_ENVELOPE = frozenset(
    (
        *("id", "messageId", "type", "event", "time", "timestamp", "source"),
        *("originalTimestamp", "sentAt", "receivedAt"),
    )
)
_CUSTOMERS = (*USER_COLUMNS, *LOYALTY_COLUMNS, *ANONYMOUS_COLUMNS)

_parse_row = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


def table_fields(fields: Iterable[tuple[str, str, str]]) -> tuple[tuple[tuple[str, bool], ...], ...]:
    """Of each table the fields (table, name, "number" or "text") that policies look into: name, whether it is text."""
    found: list[dict[str, bool]] = [{} for _ in TABLE_NAMES]
    for table, name, kind in fields:
        found[TABLE_NAMES.index(table)][name] = kind == "text"
    return tuple(tuple(of.items()) for of in found)


# --- as events ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RowEvent:
    """An event that is a row of a table. `event` has its envelope; path: where the row stands in the message."""

    table: int
    event: Event
    row: dict[str, Any]
    path: str


class _Told(msgspec.Struct):
    """What tells that a message is a row. Nothing in it is wrong here."""

    specversion: Any = None
    type: Any = None
    event: Any = None
    properties: msgspec.Raw = msgspec.Raw()


_told = msgspec.json.Decoder(_Told).decode


def open_row(raw: bytes) -> RowEvent | None:
    """The row that a message is, None for every other message; Refusal if it is one and can't be used."""
    if b" Updated" not in raw and b"\\u" not in raw:
        return None
    try:
        told = _told(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None  # whoever reads it as an event says what is wrong
    has_properties = bytes(told.properties) not in (b"", b"null")
    is_segment = told.specversion is None and (has_properties or told.type == "track")
    name = told.event if is_segment else told.type or (None if told.specversion is not None else told.event)
    table = TABLE_OF_NAME.get(name) if isinstance(name, str) else None
    if table is None:
        return None
    try:
        message = _parse_row(raw)
    except (ValueError, ArithmeticError) as error:
        raise Refusal(f"not readable: {type(error).__name__}: {error}") from None
    if told.specversion is not None:
        if told.specversion != "1.0":
            said = shown(told.specversion)
            raise Refusal(f"CloudEvents {said} is not read: specversion must be '1.0'")
        return RowEvent(table, _envelope(message), _part(message, "data"), "data.")
    if is_segment:
        row = _part(message, "properties")
        customer = {column: message[column] for column in _CUSTOMERS if message.get(column)}
        row = {**{k: v for k, v in row.items() if not (customer and k in _CUSTOMERS)}, **customer}
        return RowEvent(table, _envelope(message), row, "properties.")
    row = {key: value for key, value in message.items() if key not in _ENVELOPE}
    return RowEvent(table, _envelope(message), row, "")


def _envelope(message: dict[str, Any]) -> Event:
    try:
        return msgspec.convert({key: message[key] for key in _ENVELOPE & message.keys()}, Event)
    except msgspec.ValidationError as error:
        raise Refusal(str(error)) from None


def _part(message: dict[str, Any], name: str) -> dict[str, Any]:
    part = message.get(name)
    if part is None:
        return {}
    if not isinstance(part, dict):
        raise Refusal(f"{name}: {shown(part)} is no object; it holds the fields of the row")
    return part


def rows_of_row(event: RowEvent, terms: Terms) -> list[Row]:
    """A header, and a line for each field that the event tells and policies look into; Refusal if it can't be used."""
    message_id = event.event.id or event.event.message_id
    if not message_id:
        raise Refusal("no id")
    time_ms = event_time_ms(event.event)
    check_time_ms(time_ms, terms.arrival_ms)
    key = _row_key(event.table, event.row, event.path)
    lines = []
    for name, is_text in terms.fields[event.table]:
        if name in event.row:
            lines.append((name, _cell(event.row[name], is_text, event.path + name)))
    code = names.ROW_CODES[event.table]
    words = [0] * record.RECORD_WORDS
    words[record.TIME] = time_ms
    flags = key.kind | (record.FLAG_HAS_LINES if lines else 0)
    shared = letters_code(terms.currency) << 16 | 1 << record.QUANTITY_SHIFT
    words[record.PACK] = code | flags << 8 | shared
    source = string_bytes(event.event.source, "source")
    header = (key.customer, string_bytes(message_id, "id"), key.product, b"", key.store, b"", source, b"")
    return [Row(words, header), *(_line(name, value, words, key.kind) for name, value in lines)]


def _line(name: str, value: bytes | int | None, header: list[int], kind: int) -> Row:
    words = [0] * record.RECORD_WORDS
    words[record.TIME] = header[record.TIME]
    flags = kind | record.FLAG_IS_LINE
    text = b""
    if isinstance(value, bytes):
        text = value
    elif value is not None:
        words[record.FIELD_NUMBER] = value
        flags |= record.FLAG_HAS_PRICE
    words[record.PACK] = (header[record.PACK] & ~0xFF00) | flags << 8
    return Row(words, (b"", b"", text, name.encode(), b"", b"", b"", b""))


def _cell(value: Any, is_text: bool, path: str) -> bytes | int | None:
    """UTF-8 of a text, millionths of a number, None for no value."""
    if is_empty(value):
        return None
    try:
        return text_bytes(value) if is_text else number_word(value)
    except BadCellError as problem:
        raise Refusal(f"{path}: {problem.found}; {problem.hint}") from None


class _RowKey(NamedTuple):
    """What names a row: a product (and a store), or a customer of a kind."""

    product: bytes
    store: bytes
    customer: bytes
    kind: int


def _row_key(table: int, row: Mapping[str, Any], path: str) -> _RowKey:
    if table == plan.TABLE_PROFILE:
        for columns, usual in (
            (USER_COLUMNS, record.KIND_USER),
            (LOYALTY_COLUMNS, record.KIND_LOYALTY),
            (ANONYMOUS_COLUMNS, record.KIND_ANONYMOUS),
        ):
            customer = _key_text(row, columns, path)
            if customer:
                return _RowKey(b"", b"", customer, _kind(row.get(KIND), usual, path))
        raise Refusal("no customer: a row of the profile needs userId, loyaltyId or anonymousId")
    product = _key_text(row, PRODUCT_COLUMNS, path)
    if not product:
        raise Refusal(f"no product_id: a row of the table {TABLE_NAMES[table]} needs it")
    store = _key_text(row, STORE_COLUMNS, path) if table == plan.TABLE_STOCK else b""
    return _RowKey(product, store, b"", record.KIND_USER)


def _key_text(row: Mapping[str, Any], columns: tuple[str, ...], path: str) -> bytes:
    for column in columns:
        value = row.get(column)
        if not is_empty(value):
            try:
                return text_bytes(value)
            except BadCellError as problem:
                raise Refusal(f"{path}{column}: {problem.found}; {problem.hint}") from None
    return b""


def _kind(value: Any, usual: int, path: str) -> int:
    if is_empty(value):
        return usual
    try:
        return customer_kind(value)
    except BadCellError as problem:
        raise Refusal(f"{path}{KIND}: {problem.found}; {problem.hint}") from None


# --- as messages of a topic ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TopicRows:
    """Messages of a table's topic, in order: each a whole row, a field that it lacks is unknown.

    payloads  a JSON object; None (a tombstone): the row is gone, and nothing in it is known
    keys      of the messages: the product or the customer where the row does not tell, or an object with the columns
              that do
    times_ms  when each was written, -1 = nobody knows; a row's own `time` or `updated_at` counts more
    """

    table: int
    payloads: Sequence[bytes | None]
    keys: Sequence[bytes | None]
    times_ms: Sequence[int]


class _Memo(dict[Any, int]):
    """Values of a column and their words: of a text the place among the different ones, from 0."""

    def __init__(self, is_text: bool) -> None:
        self._is_text = is_text
        self.texts: list[bytes] = []

    def word(self, value: Any, path: str) -> int:
        known = (value.__class__, value)
        try:
            return self[known]
        except (KeyError, TypeError):
            cell = _cell(value, self._is_text, path)
        assert cell is not None
        word = len(self.texts) if isinstance(cell, bytes) else cell
        if isinstance(cell, bytes):
            self.texts.append(cell)
        self[known] = word
        return word


def decode_topic_rows(rows: TopicRows, origin: Origin, terms: Terms, k0: np.uint64, k1: np.uint64) -> Decoded:
    """The records of rows as those of the events that tell all fields. `where` and the lines of dead letters count
    messages."""
    fields = terms.fields[rows.table]
    parse, attributes = _row_parser(rows.table, fields)
    memos = [_Memo(is_text) for _, is_text in fields]
    keys: list[_RowKey] = []
    times: list[int] = []
    cells: list[list[int | None]] = []
    places: list[int] = []
    dead: list[DeadLetter] = []
    for place, payload in enumerate(rows.payloads):
        try:
            row = parse(payload) if payload is not None else {}
            key = rows.keys[place]
            named = row if key is None else {**_named_by(rows.table, key, row), **row}
            found = _row_key(rows.table, named, "")
            time_ms = _row_time_ms(row, rows.times_ms[place])
            check_time_ms(time_ms, terms.arrival_ms)
            values = [row.get(name) for name in attributes]
            words = [
                None if is_empty(value) else memo.word(value, name)
                for value, memo, name in zip(values, memos, attributes, strict=True)
            ]
        except Refusal as refusal:
            line, offset = origin.place_of(origin.line + place, place)
            dead.append(dead_letter(origin.file, line, offset, str(refusal), payload or b""))
            continue
        keys.append(found)
        times.append(time_ms)
        cells.append(words)
        places.append(place)
    pack = names.ROW_CODES[rows.table] | letters_code(terms.currency) << 16 | 1 << record.QUANTITY_SHIFT
    records = _records(rows.table, fields, pack, keys, times, cells, memos, k0, k1)
    each = 1 + len(fields)
    where = np.empty((len(records), 2), np.int64)
    where[:, 0] = np.repeat(np.array(places, np.int64), each)
    where[:, 1] = where[:, 0] + origin.line
    return Decoded(
        records,
        np.zeros((len(records), record.STRINGS), np.int64),
        np.zeros(0, np.uint8),
        where,
        dead,
        len(keys),
        len(rows.payloads),
        origin,
        raw_at=lambda place: rows.payloads[place] or b"",
    )


def _records(
    table: int,
    fields: tuple[tuple[str, bool], ...],
    pack: int,
    keys: list[_RowKey],
    times: list[int],
    cells: list[list[int | None]],
    memos: list[_Memo],
    k0: np.uint64,
    k1: np.uint64,
) -> Words:
    count, each = len(keys), 1 + len(fields)
    kinds = np.array([key.kind for key in keys], np.int64)
    rows = np.zeros((count, each, record.RECORD_WORDS), np.int64)
    rows[:, :, record.TIME] = np.array(times, np.int64)[:, None]
    rows[:, :, record.PACK] = pack | (kinds << 8)[:, None]
    rows[:, 0, record.PACK] |= (record.FLAG_HAS_LINES << 8) if fields else 0
    rows[:, 1:, record.PACK] |= record.FLAG_IS_LINE << 8
    if table == plan.TABLE_PROFILE:
        text, offsets = _joined([key.customer for key in keys])
        found = np.zeros((count, 2), np.int64)
        hash_identifiers(text, offsets, kinds, k0, k1, found)
        rows[:, :, record.CUSTOMER_LO] = found[:, :1]
        rows[:, :, record.CUSTOMER_HI] = found[:, 1:]
    else:
        rows[:, 0, record.PRODUCT] = _hashes([key.product for key in keys], k0, k1)
        rows[:, :, record.STORE] = _hashes([key.store for key in keys], k0, k1)[:, None]
    name_hashes = _hashes([name.encode() for name, _ in fields], k0, k1)
    for at, (memo, (_, is_text)) in enumerate(zip(memos, fields, strict=True)):
        line = rows[:, 1 + at]
        line[:, record.FIELD_NAME] = name_hashes[at]
        told = np.array([row[at] is not None for row in cells], np.bool_)
        words = np.array([row[at] or 0 for row in cells], np.int64)
        if is_text:
            different = np.append(_hashes(memo.texts, k0, k1), np.int64(0))
            line[:, record.FIELD_TEXT] = different[np.where(told, words, -1)]
        else:
            line[:, record.FIELD_NUMBER] = words
            line[:, record.PACK] |= np.where(told, record.FLAG_HAS_PRICE << 8, 0)
    return rows.reshape(-1, record.RECORD_WORDS)


def _joined(texts: Sequence[bytes]) -> tuple[Bytes, Words]:
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.int64)
    return read_only(np.frombuffer(b"".join(texts) + bytes(8), np.uint8)), offsets


def _hashes(texts: Sequence[bytes], k0: np.uint64, k1: np.uint64) -> Words:
    text, offsets = _joined(texts)
    hashes = np.zeros(len(texts), np.int64)
    hash_texts(text, offsets, k0, k1, hashes)
    return hashes


@cache
def _row_parser(
    table: int, fields: tuple[tuple[str, bool], ...]
) -> tuple[Callable[[bytes], dict[str, Any]], tuple[str, ...]]:
    """What makes a dict of a payload's columns that count, and the names of the fields."""
    attributes = tuple(name for name, _ in fields)
    columns = PRODUCT_COLUMNS + STORE_COLUMNS if table != plan.TABLE_PROFILE else (*_CUSTOMERS, KIND)
    wanted = tuple(dict.fromkeys((*columns, *TIME_COLUMNS, *attributes)))
    slots = [f"column_{number}" for number in range(len(wanted))]
    struct = msgspec.defstruct(
        "TableRow",
        [(slot, Any, None) for slot in slots],
        rename=dict(zip(slots, wanted, strict=True)),
    )
    decode = msgspec.json.Decoder(struct, float_hook=Decimal).decode
    return partial(_parsed, decode, tuple(zip(slots, wanted, strict=True))), attributes


def _parsed(
    decode: Callable[[bytes], Any], columns: tuple[tuple[str, str], ...], raw: bytes
) -> dict[str, Any]:
    if len(raw) > limits.MESSAGE_BYTES_MAX:
        raise Refusal(f"message has {len(raw)} bytes, at most {limits.MESSAGE_BYTES_MAX} are read")
    try:
        raw.decode()
        found = decode(raw)
    except UnicodeDecodeError as error:
        raise Refusal(f"not UTF-8: byte 0x{raw[error.start]:02x} at {error.start}") from None
    except msgspec.ValidationError as error:
        raise Refusal(f"{error}; a row is an object with its fields") from None
    except msgspec.DecodeError as error:
        raise Refusal(f"not JSON: {error}") from None
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise Refusal(f"not readable: {type(error).__name__}: {error}") from None
    return {name: value for slot, name in columns if (value := getattr(found, slot)) is not None}


def _named_by(table: int, key: bytes, row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a message's key tells."""
    if key.lstrip()[:1] == b"{":
        try:
            columns = _parse_row(key)
        except (ValueError, ArithmeticError, RecursionError) as error:
            raise Refusal(f"the message's key is no JSON object: {error}") from None
        return {name: value for name, value in columns.items() if value is not None}
    naming = _CUSTOMERS if table == plan.TABLE_PROFILE else PRODUCT_COLUMNS
    if any(column in row for column in naming):
        return {}
    try:
        return {naming[0]: key.decode()}
    except UnicodeDecodeError as error:
        raise Refusal(f"the message's key is not UTF-8: byte 0x{key[error.start]:02x}") from None


def _row_time_ms(row: Mapping[str, Any], written_ms: int) -> int:
    for column in TIME_COLUMNS:
        if not is_empty(row.get(column)):
            try:
                return cell_time_ms(row[column], column)
            except BadCellError as problem:
                raise Refusal(f"{column}: {problem.found}; {problem.hint}") from None
    if written_ms < 0:
        raise Refusal("no time: neither `time` nor `updated_at`, and the message has none")
    return written_ms
