"""The values of a table's row, from a file or a message: numbers as whole millionths, texts as UTF-8, times in ms."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from typing import Any

import numpy as np

from segue import limits
from segue.events.refusal import Refusal
from segue.events.time import parse_time_ms
from segue_kernels import plan, record
from segue_kernels.tables import NUMBER_MAX

TABLE_NAMES = ("catalogue", "price", "stock", "profile")  # in the order of plan.TABLE_*
PRODUCT_COLUMNS = ("product_id", "product", "productId")
STORE_COLUMNS = ("store_id", "store", "storeId")
USER_COLUMNS = ("customer", "userId", "user_id")
LOYALTY_COLUMNS = ("loyaltyId", "loyalty_id")
KIND = "kind"

_KINDS = {"user": record.KIND_USER, "loyalty": record.KIND_LOYALTY, "anonymous": record.KIND_ANONYMOUS}
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
_WIDE = Context(prec=60)


class BadCellError(Exception):
    """What is wrong with a value, and what to do."""

    def __init__(self, found: str, hint: str) -> None:
        super().__init__(found)
        self.found = found
        self.hint = hint


def is_empty(value: Any) -> bool:
    """Whether a cell is answered by what the policies declare as unknown."""
    return bool(value is None or value == "" or value != value)  # NaN


def number_word(value: Any) -> int:
    """A number as whole millionths."""
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            hint = "write 1.5, not 1,5" if "," in text else "write a number as 12.5, or leave the cell empty"
            raise BadCellError(f'"{value[:40]}" is no number', hint)
        number = Decimal(text)
    elif isinstance(value, float | np.floating):
        number = Decimal(str(value))  # its shortest text
    elif isinstance(value, int | Decimal):
        number = Decimal(value)
    else:
        raise BadCellError(f"{shown(value)} is no number", "write a number, or leave the cell empty")
    most = NUMBER_MAX // plan.LOOKUP_SCALE
    if not number.is_finite() or (number and number.adjusted() > 15) or abs(number) > most:
        raise BadCellError(f"{shown(value)} is out of range", f"numbers lie within ±{most}")
    if number.adjusted() < -30:
        return 0
    return int((number * plan.LOOKUP_SCALE).to_integral_value("ROUND_HALF_EVEN", _WIDE))


def text_bytes(value: Any) -> bytes:
    """A text as events have it; whole numbers are taken as their digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise BadCellError(f"{shown(value)} is no text", "store it as text")
    try:
        text = value.encode()
    except UnicodeEncodeError:
        raise BadCellError(f"{shown(value)} has half of a surrogate pair", "store it as UTF-8") from None
    if len(text) > limits.IDENTIFIER_BYTES_MAX:
        raise BadCellError(
            f"{shown(value)} has {len(text)} bytes", f"at most {limits.IDENTIFIER_BYTES_MAX} are read"
        )
    return text


def cell_time_ms(value: Any, name: str) -> int:
    """A time of any form in which tables have it, in ms."""
    hint = "write 2026-03-01T12:00:00Z, or milliseconds since 1970"
    if isinstance(value, str) and value.strip().isdigit():
        value = int(value)
    if isinstance(value, str):
        try:
            value = parse_time_ms(value.strip(), name)
        except Refusal as refusal:
            raise BadCellError(str(refusal), hint) from None
    elif isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        value = round(moment.timestamp() * 1_000)
    elif isinstance(value, date):
        value = (value.toordinal() - date(1970, 1, 1).toordinal()) * limits.DAY_MS
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadCellError(f"{shown(value)} is no time", hint)
    if not 0 <= value < 1 << 53:
        raise BadCellError(f"{value} is no time in milliseconds", hint)
    return value


def customer_kind(value: Any) -> int:
    """record.KIND_* of its name."""
    if value not in _KINDS:
        raise BadCellError(f"{shown(value)} is no kind of customer", "user, loyalty or anonymous")
    return _KINDS[value]


def shown(value: Any) -> str:
    """A value in a message."""
    return f'"{value[:40]}"' if isinstance(value, str) else str(value)[:40]
