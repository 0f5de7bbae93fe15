"""The scanner reads the common shape of JSON line straight into records; a line it is not sure of it leaves.

Its shape: one object a line with known keys in any order, each at most once, strings without escapes, plain
decimal numbers of at most 15 digits; `products` may hold such objects and a CloudEvent's `data` one. Unknown
keys may have a string, number or literal. What it reads, it reads exactly as msgspec and rows.py do; what it
leaves (a bad value as well as a rare form) is noted as a slow line: (start, end, row kept free, line number).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from segue_kernels.fill import hash_word
from segue_kernels.jit import inline, kernel
from segue_kernels.load import load8, load64, newline_marks32, string_marks32, trailing_zeros
from segue_kernels.record import (
    AMOUNT,
    ANONYMOUS_HI,
    ANONYMOUS_LO,
    CLOCK,
    CODE,
    CUSTOMER_HI,
    CUSTOMER_LO,
    FLAG_HAS_AMOUNT,
    FLAG_HAS_LINES,
    FLAG_HAS_PRICE,
    FLAG_HAS_QUANTITY,
    FLAG_IS_LINE,
    HEAP,
    KIND_ANONYMOUS,
    KIND_LOYALTY,
    KIND_USER,
    MESSAGE_HI,
    MESSAGE_LO,
    PACK,
    PRICE,
    PRODUCT,
    QUANTITY_SHIFT,
    SEQUENCE,
    SOURCE,
    STORE,
    TIME,
    ZONE_SHIFT,
    ZONE_UNKNOWN,
)
from segue_kernels.siphash import customer_key, siphash128

# int64 for the compiler, int for the type checker
whole = cast("Callable[[Any], int]", np.int64)

Words = NDArray[np.int64]
Keys = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

# --- fields: the names in order are their numbers; aliases of a field share its number -----------------
FIELDS = (
    "id",
    "type",
    "time",
    "source",
    "user_id",
    "loyalty_id",
    "anonymous_id",
    "previous_id",
    "product_id",
    "category",
    "store_id",
    "coupon_id",
    "promotion_id",
    "currency",
    "channel",
    "purpose",
    "timezone",
    "specversion",
    "price",
    "quantity",
    "amount",
    "granted",
    "products",
    "data",
)
ID = 0
TYPE = 1
WHEN = 2
FROM = 3
USER = 4
LOYALTY = 5
ANONYMOUS = 6
PREVIOUS = 7
ITEM = 8
GROUP = 9
SHOP = 10
COUPON = 11
PROMOTION = 12
CURRENCY = 13
CHANNEL = 14
PURPOSE = 15
ZONE = 16
SPECVERSION = 17
STRINGS_END = 18  # the fields below are strings
COST = 18
QUANTITY = 19
TOTAL = 20
NUMBERS_END = 21  # from STRINGS_END up to here: numbers
GRANTED = 21
PRODUCTS = 22
DATA = 23
ELSEWHERE = 30  # a known key that the scanner does not read: the line is left
UNKNOWN = 31

ENVELOPE = 1 << ID | 1 << TYPE | 1 << WHEN | 1 << FROM
CLOUD_EVENT = ENVELOPE | 1 << SPECVERSION | 1 << DATA

# --- tables ------------------------------------------------------------------------------------------
# keys uint64[size,4]: first eight bytes (masked), last eight (0 if shorter), length, field | alias << 8
KEY_FIRST = 0
KEY_LAST = 1
KEY_LENGTH = 2
KEY_FIELD = 3
KEY_WORDS = 4
KEY_BYTES_MAX = 16  # a longer key is left, known or not
# types uint64[size,6]: bytes 0-7, the last eight, 8-15, the eight before the last, length, code | role << 8
TYPE_FIRST = 0
TYPE_LAST = 1
TYPE_SECOND = 2
TYPE_BEFORE_LAST = 3
TYPE_LENGTH = 4
TYPE_CODE = 5
TYPE_WORDS = 6
TYPE_BYTES_MAX = 32
ROLE_PLAIN = 0
ROLE_IDENTIFY = 1
ROLE_ALIAS = 2
ROLE_UNSUBSCRIBED = 3
ROLE_REFERENCE = 4
ROLE_LEFT = 5  # always left to msgspec
ROLE_CONSENT = 6
# time zones uint64[size,6]: as types, with the zone's number as its code; a taken slot sends on to the next

# consents uint64[n,4]: names of channels and purposes as keys, their fields, and << 8 what they add to a CODE word

# --- settings int64[16] ------------------------------------------------------------------------------
SET_KEY_SHIFT = 0
SET_TYPE_SHIFT = 1
SET_CURRENCY = 2  # code of the default currency
SET_TIME_MIN = 3
SET_TIME_MAX = 4
SET_MONEY_MAX = 5
SET_QUANTITY_MAX = 6
SET_LINES_MAX = 7
SET_BYTES_MAX = 8  # a longer line is left
SET_UNSUBSCRIBED = 9  # CODE word of Unsubscribed, without channel ...
SET_ZONE_SHIFT = 10
SET_GRANTED = 11  # CODE words of Consent Changed, without channel and purpose ...
SET_WITHDRAWN = 12
SET_PURPOSE = 13  # ... and what is added for an event that names no purpose
SET_CHANNEL = 14  # ... and for one that names no channel
SETTINGS = 16
# --- multipliers uint64[2]: of the key hash, of the type (and time zone) hash

# --- results int64[4] --------------------------------------------------------------------------------
OUT_ROWS = 0
OUT_SLOW = 1
OUT_NEXT = 2
OUT_LINES = 3

SLOW_WORDS = 4
SCRATCH_ROWS = 5  # starts, ends, values, decimals by field; keys of the line before by position
SCRATCH_WORDS = 64
_LEFT = -1
ITEM_WORDS = (
    8  # scratch of a product: product start, end, category start, end, price, decimals, quantity, seen
)
_DIGITS_MAX = 15
_DAY_MS = 86_400_000

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ZERO = np.uint64(0)
_BYTE = np.uint64(8)
_R64 = np.uint64(64)
_LENGTH_STEP = np.uint64(0x9E3779B97F4A7C15)
_R29 = np.uint64(29)
_R35 = np.uint64(35)
_LOW_BYTE = np.uint64(0xFF)
_LOW_FOUR = np.uint64(0xFFFFFFFF)
_NULL = np.uint64(int.from_bytes(b"null", "little"))
_TRUE = np.uint64(int.from_bytes(b"true", "little"))
_FALS = np.uint64(int.from_bytes(b"fals", "little"))
_E = 0x65
_ZEROS = np.uint64(0x3030303030303030)
_CARRY = np.uint64(0x7676767676767676)
_TOPS = np.uint64(0x8080808080808080)
# of "2026-03-" "01T12:34" ":56": where the separators are, and which
_DATE_SEPARATORS = np.uint64(0xFF0000FF00000000)
_DATE_PATTERN = np.uint64(0x2D00002D00000000)
_TIME_SEPARATORS = np.uint64(0x0000FF0000FF0000)
_TIME_PATTERN = np.uint64(0x00003A0000540000)
_SECOND_SEPARATORS = np.uint64(0xFF)
_SECOND_PATTERN = np.uint64(0x3A)
_SECOND_DIGITS = np.uint64(0xFFFF00)
_TWO_BYTES = np.uint64(0xFFFF)

POWERS = np.array([10**k for k in range(19)], dtype=np.int64)

MEMO_WORDS = 8
# memo: what the last line had, and what it came to
_MEMO_DATE = 0  # first eight bytes of the time, bytes 8-9, days since 1970
_MEMO_DAY = 1
_MEMO_DAYS = 2
_MEMO_SOURCE_FIRST = 3  # the source's words and length, its hash
_MEMO_SOURCE_LAST = 4
_MEMO_SOURCE_LENGTH = 5
_MEMO_SOURCE_HASH = 6


@inline
def _low_mask(length: int) -> np.uint64:
    """Ones over the low `length` bytes, all of them from eight on; length is at least 1."""
    if length >= 8:
        return _ALL
    return _ALL >> (_R64 - _BYTE * np.uint64(length))


@inline
def key_slot(first: np.uint64, length: int, multiplier: np.uint64, shift: int) -> int:
    """Where a key would stand in the key table."""
    return whole(((first ^ (np.uint64(length) * _LENGTH_STEP)) * multiplier) >> np.uint64(shift))


@inline
def type_slot(first: np.uint64, last: np.uint64, length: int, multiplier: np.uint64, shift: int) -> int:
    """Where an event type would stand in the type table."""
    mixed = first ^ ((last << _R29) | (last >> _R35)) ^ (np.uint64(length) * _LENGTH_STEP)
    return whole((mixed * multiplier) >> np.uint64(shift))


@inline
def _skip_space(buffer: Bytes, at: int) -> int:
    byte = load8(buffer, at)
    while byte == 0x20 or byte == 0x09 or byte == 0x0D:
        at += 1
        byte = load8(buffer, at)
    return at


@inline
def _continuation(buffer: Bytes, at: int) -> bool:
    return bool((load8(buffer, at) & 0xC0) == 0x80)


@kernel
def _unicode_end(buffer: Bytes, at: int) -> int:
    """The closing quote of a string that goes on at `at`, or -1: an escape, a control byte, or not UTF-8."""
    while True:
        byte = load8(buffer, at)
        if byte < 0x80:
            if byte == 0x22:
                return at
            if byte < 0x20 or byte == 0x5C:
                return _LEFT
            at += 1
        elif byte < 0xC2:
            return _LEFT
        elif byte < 0xE0:
            if not _continuation(buffer, at + 1):
                return _LEFT
            at += 2
        elif byte < 0xF0:
            if not (_continuation(buffer, at + 1) and _continuation(buffer, at + 2)):
                return _LEFT
            second = load8(buffer, at + 1)
            # E0 80-9F is overlong, ED A0-BF is half a surrogate pair
            if (byte == 0xE0 and second < 0xA0) or (byte == 0xED and second >= 0xA0):
                return _LEFT
            at += 3
        elif byte < 0xF5:
            if not (
                _continuation(buffer, at + 1)
                and _continuation(buffer, at + 2)
                and _continuation(buffer, at + 3)
            ):
                return _LEFT
            second = load8(buffer, at + 1)
            if (byte == 0xF0 and second < 0x90) or (byte == 0xF4 and second >= 0x90):
                return _LEFT
            at += 4
        else:
            return _LEFT


@inline
def _string_end(buffer: Bytes, at: int) -> int:
    """The closing quote of a string whose first byte is at `at`, or -1."""
    marks = string_marks32(buffer, at)
    while marks == _ZERO:
        at += 32
        marks = string_marks32(buffer, at)
    at += trailing_zeros(marks)
    byte = load8(buffer, at)
    if byte == 0x22:
        return at
    if byte >= 0x80:
        return _unicode_end(buffer, at)
    return _LEFT


@inline
def _number(buffer: Bytes, at: int) -> tuple[int, int, int]:
    """(where it ends, digits as an integer with its sign, decimals) of a plain JSON number; end -1: left."""
    negative = load8(buffer, at) == 0x2D
    if negative:
        at += 1
    first = at
    value = whole(0)
    byte = load8(buffer, at)
    while 0x30 <= byte <= 0x39:
        value = value * 10 + (byte - 0x30)
        at += 1
        byte = load8(buffer, at)
    digits = at - first
    decimals = whole(0)
    # 007 is no JSON; beyond 15 digits `value` may have wrapped
    if digits == 0 or digits > _DIGITS_MAX or (digits > 1 and load8(buffer, first) == 0x30):
        return _LEFT, whole(0), decimals
    if byte == 0x2E:
        at += 1
        point = at
        byte = load8(buffer, at)
        while 0x30 <= byte <= 0x39:
            value = value * 10 + (byte - 0x30)
            at += 1
            byte = load8(buffer, at)
        decimals = whole(at - point)
        if decimals == 0 or digits + decimals > _DIGITS_MAX:
            return _LEFT, whole(0), decimals
    if byte | 0x20 == _E:
        return _LEFT, whole(0), decimals
    if negative:
        value = -value
    return at, value, decimals


@inline
def _literal_end(buffer: Bytes, at: int) -> int:
    """The end of null, true or false at `at`, or -1."""
    word = load64(buffer, at) & _LOW_FOUR
    if word == _NULL:
        return at + 4
    if word == _TRUE:
        return at + 4
    if word == _FALS and load8(buffer, at + 4) == _E:
        return at + 5
    return _LEFT


@inline
def _is_null(buffer: Bytes, at: int) -> bool:
    return bool(load64(buffer, at) & _LOW_FOUR == _NULL)


@inline
def _scalar_end(buffer: Bytes, at: int) -> int:
    """The end of any string, number or literal at `at`, or -1."""
    byte = load8(buffer, at)
    if byte == 0x22:
        end = _string_end(buffer, at + 1)
        if end < 0:
            return _LEFT
        return end + 1
    if byte == 0x2D or 0x30 <= byte <= 0x39:
        end, _, _ = _number(buffer, at)
        return end
    return _literal_end(buffer, at)


@inline
def _find_key(buffer: Bytes, at: int, length: int, keys: Keys, multiplier: np.uint64, shift: int) -> int:
    """The row of the key table that holds the `length` bytes at `at`, or -1."""
    if length == 0:
        return _LEFT
    first = load64(buffer, at) & _low_mask(length)
    slot = key_slot(first, length, multiplier, shift)
    if keys[slot, KEY_FIRST] != first or keys[slot, KEY_LENGTH] != np.uint64(length):
        return _LEFT
    if length > 8 and load64(buffer, at + length - 8) != keys[slot, KEY_LAST]:
        return _LEFT
    return slot


@inline
def _scan_products(
    buffer: Bytes, at: int, items: Words, lines_max: int, keys: Keys, multiplier: np.uint64, shift: int
) -> tuple[int, int]:
    """(end of the array that opens at `at`, products in it); the end is -1 if the line must be left."""
    count = 0
    at = _skip_space(buffer, at + 1)
    if load8(buffer, at) == 0x5D:
        return at + 1, count
    while True:
        if count >= lines_max or load8(buffer, at) != 0x7B:
            return _LEFT, count
        for k in range(ITEM_WORDS):
            items[count, k] = 0
        seen = 0
        present = 0
        at = _skip_space(buffer, at + 1)
        is_open = load8(buffer, at) != 0x7D
        while is_open:
            if load8(buffer, at) != 0x22:
                return _LEFT, count
            at += 1
            marks = string_marks32(buffer, at)
            if marks == _ZERO:
                return _LEFT, count
            length = trailing_zeros(marks)
            if length > KEY_BYTES_MAX or load8(buffer, at + length) != 0x22:
                return _LEFT, count
            slot = _find_key(buffer, at, length, keys, multiplier, shift)
            if slot < 0:
                return _LEFT, count
            field = whole(keys[slot, KEY_FIELD]) & 0xFF
            if field != ITEM and field != GROUP and field != COST and field != QUANTITY:
                return _LEFT, count
            if seen & (1 << field):
                return _LEFT, count
            seen |= 1 << field
            at = _skip_space(buffer, at + length + 1)
            if load8(buffer, at) != 0x3A:
                return _LEFT, count
            at = _skip_space(buffer, at + 1)
            if _is_null(buffer, at):
                at += 4
            elif field <= GROUP:
                if load8(buffer, at) != 0x22:
                    return _LEFT, count
                end = _string_end(buffer, at + 1)
                if end < 0 or end - at > 256:
                    return _LEFT, count
                word = 2 * (field - ITEM)
                items[count, word] = at + 1
                items[count, word + 1] = end
                at = end + 1
            else:
                end, value, decimals = _number(buffer, at)
                if end < 0:
                    return _LEFT, count
                if field == COST:
                    items[count, 4] = value
                    items[count, 5] = decimals
                else:
                    if decimals != 0:
                        return _LEFT, count
                    items[count, 6] = value
                present |= 1 << field
                at = end
            at = _skip_space(buffer, at)
            byte = load8(buffer, at)
            if byte == 0x2C:
                at = _skip_space(buffer, at + 1)
            elif byte == 0x7D:
                is_open = False
            else:
                return _LEFT, count
        items[count, 7] = present
        count += 1
        at = _skip_space(buffer, at + 1)
        byte = load8(buffer, at)
        if byte == 0x5D:
            return at + 1, count
        if byte != 0x2C:
            return _LEFT, count
        at = _skip_space(buffer, at + 1)


@inline
def _digits_wrong(word: np.uint64) -> bool:
    """Whether any byte of `word` (already without the '0's) is not 0..9."""
    return bool(((word + _CARRY) | word) & _TOPS != _ZERO)


@inline
def _pair(word: np.uint64, shift: int) -> int:
    """The two digits at bit `shift` as a number."""
    return whole((word >> np.uint64(shift)) & _LOW_BYTE) * 10 + whole(
        (word >> np.uint64(shift + 8)) & _LOW_BYTE
    )


@inline
def days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of a date of the Gregorian calendar, years 0 to 9999."""
    if month <= 2:
        year -= 1
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468


@inline
def _days_in_month(year: int, month: int) -> int:
    if month == 2:
        if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0):
            return 29
        return 28
    if month == 4 or month == 6 or month == 9 or month == 11:
        return 30
    return 31


@inline
def _time_ms(buffer: Bytes, start: int, end: int, memo: Keys) -> int:
    """Milliseconds since 1970 UTC of the time in [start, end), or -1: another form, or wrong."""
    if end - start < 20:
        return _LEFT
    date = load64(buffer, start)
    clock = load64(buffer, start + 8)
    second = load64(buffer, start + 16)
    if (
        (date & _DATE_SEPARATORS) != _DATE_PATTERN
        or (clock & _TIME_SEPARATORS) != _TIME_PATTERN
        or (second & _SECOND_SEPARATORS) != _SECOND_PATTERN
    ):
        return _LEFT
    clock_digits = (clock ^ _ZEROS) & ~_TIME_SEPARATORS
    second_digits = (second ^ _ZEROS) & _SECOND_DIGITS
    if _digits_wrong(clock_digits) or _digits_wrong(second_digits):
        return _LEFT
    if date == memo[_MEMO_DATE] and (clock & _TWO_BYTES) == memo[_MEMO_DAY]:
        days = whole(memo[_MEMO_DAYS])
    else:
        date_digits = (date ^ _ZEROS) & ~_DATE_SEPARATORS
        if _digits_wrong(date_digits):
            return _LEFT
        year = _pair(date_digits, 0) * 100 + _pair(date_digits, 16)
        month = _pair(date_digits, 40)
        day = _pair(clock_digits, 0)
        # before 1970 is before any event, and would make a negative memo
        if year < 1970 or month < 1 or month > 12 or day < 1 or day > _days_in_month(year, month):
            return _LEFT
        days = whole(days_from_civil(year, month, day))
        memo[_MEMO_DATE] = date
        memo[_MEMO_DAY] = clock & _TWO_BYTES
        memo[_MEMO_DAYS] = np.uint64(days)
    hour = _pair(clock_digits, 24)
    minute = _pair(clock_digits, 48)
    seconds = _pair(second_digits, 8)
    if hour > 23 or minute > 59 or seconds > 59:
        return _LEFT
    time_ms = days * _DAY_MS + hour * 3_600_000 + minute * 60_000 + seconds * 1_000
    at = start + 19
    byte = load8(buffer, at)
    if byte == 0x2E:
        at += 1
        scale = 100
        first = at
        byte = load8(buffer, at)
        while 0x30 <= byte <= 0x39:
            time_ms += (byte - 0x30) * scale
            scale //= 10
            at += 1
            byte = load8(buffer, at)
        if at == first or at - first > 9:
            return _LEFT
    if byte == 0x5A:
        if at + 1 != end:
            return _LEFT
        return time_ms
    if (byte != 0x2B and byte != 0x2D) or at + 6 != end or load8(buffer, at + 3) != 0x3A:
        return _LEFT
    offset = load64(buffer, at + 1) & np.uint64(0xFFFF00FFFF)
    offset_digits = (offset ^ _ZEROS) & np.uint64(0xFFFF00FFFF)
    if _digits_wrong(offset_digits):
        return _LEFT
    offset_hours = _pair(offset_digits, 0)
    offset_minutes = _pair(offset_digits, 24)
    if offset_hours > 23 or offset_minutes > 59:
        return _LEFT
    offset_ms = offset_hours * 3_600_000 + offset_minutes * 60_000
    if byte == 0x2B:
        return time_ms - offset_ms
    return time_ms + offset_ms


@kernel
def parse_times(text: Bytes, offsets: Words, memo: Keys, times_ms: Words) -> None:
    """times_ms[k] of the ISO 8601 time in text[offsets[k]:offsets[k + 1]]; -1: another form, or wrong.

    64 bytes behind the last time can be read. memo: uint64[MEMO_WORDS], zeros.
    """
    for k in range(times_ms.shape[0]):
        times_ms[k] = _time_ms(text, offsets[k], offsets[k + 1], memo)


@inline
def _type_code(buffer: Bytes, start: int, end: int, types: Keys, multiplier: np.uint64, shift: int) -> int:
    """code | role << 8 of the type in [start, end), or -1."""
    length = end - start
    if length < 1 or length > TYPE_BYTES_MAX:
        return _LEFT
    first = load64(buffer, start) & _low_mask(length)
    last = _ZERO
    if length > 8:
        last = load64(buffer, end - 8)
    slot = type_slot(first, last, length, multiplier, shift)
    if (
        types[slot, TYPE_FIRST] != first
        or types[slot, TYPE_LAST] != last
        or types[slot, TYPE_LENGTH] != np.uint64(length)
    ):
        return _LEFT
    if length > 16 and (
        types[slot, TYPE_SECOND] != load64(buffer, start + 8)
        or types[slot, TYPE_BEFORE_LAST] != load64(buffer, end - 16)
    ):
        return _LEFT
    return whole(types[slot, TYPE_CODE])


@inline
def _zone_number(buffer: Bytes, start: int, end: int, zones: Keys, multiplier: np.uint64, shift: int) -> int:
    """The number of the time zone in [start, end), ZONE_UNKNOWN for no known name, -1 for one too long to tell."""
    length = end - start
    if length > TYPE_BYTES_MAX:
        return _LEFT
    first = load64(buffer, start) & _low_mask(length)
    last = _ZERO
    if length > 8:
        last = load64(buffer, end - 8)
    slot = type_slot(first, last, length, multiplier, shift)
    while zones[slot, TYPE_LENGTH] != _ZERO:
        if (
            zones[slot, TYPE_FIRST] == first
            and zones[slot, TYPE_LAST] == last
            and zones[slot, TYPE_LENGTH] == np.uint64(length)
            and (
                length <= 16
                or (
                    zones[slot, TYPE_SECOND] == load64(buffer, start + 8)
                    and zones[slot, TYPE_BEFORE_LAST] == load64(buffer, end - 16)
                )
            )
        ):
            return whole(zones[slot, TYPE_CODE])
        slot = (slot + 1) & (zones.shape[0] - 1)
    return ZONE_UNKNOWN


@inline
def _consent_bits(buffer: Bytes, start: int, end: int, field: int, consents: Keys) -> int:
    """What the channel or purpose in [start, end) adds to a CODE word, or -1 for no known name."""
    length = end - start
    first = load64(buffer, start) & _low_mask(length)
    last = _ZERO
    if length > 8:
        last = load64(buffer, end - 8)
    for k in range(consents.shape[0]):
        if (
            consents[k, KEY_FIRST] == first
            and consents[k, KEY_LAST] == last
            and consents[k, KEY_LENGTH] == np.uint64(length)
            and consents[k, KEY_FIELD] & _LOW_BYTE == np.uint64(field)
        ):
            return whole(consents[k, KEY_FIELD] >> _BYTE)
    return _LEFT


@inline
def _currency(buffer: Bytes, start: int, end: int) -> int:
    """The currency code of three capital letters, or -1."""
    if end - start != 3:
        return _LEFT
    a = load8(buffer, start) - 65
    b = load8(buffer, start + 1) - 65
    c = load8(buffer, start + 2) - 65
    if a < 0 or a > 25 or b < 0 or b > 25 or c < 0 or c > 25:
        return _LEFT
    return 1 + 676 * a + 26 * b + c


@inline
def _minor_units(value: int, decimals: int, exponent: int) -> tuple[int, bool]:
    """(value / 10**decimals in minor units, half to even; whether it is certainly within 15 digits)."""
    if decimals <= exponent:
        factor = POWERS[exponent - decimals]
        # no product beyond 10**15: then it can't have wrapped either
        return value * factor, abs(value) <= POWERS[_DIGITS_MAX] // factor
    divisor = POWERS[decimals - exponent]
    magnitude = abs(value)
    quotient = magnitude // divisor
    twice = 2 * (magnitude - quotient * divisor)
    if twice > divisor or (twice == divisor and (quotient & 1) == 1):
        quotient += 1
    return (-quotient if value < 0 else quotient), True


@inline
def _price_words(
    records: Words,
    row: int,
    value: int,
    decimals: int,
    quantity: int,
    present: int,
    exponent: int,
    settings: Words,
) -> int:
    """Write PRICE and AMOUNT of a row; the flags they set, or -1. `present` has the bits COST and
    QUANTITY."""
    flags = 0
    records[row, PRICE] = 0
    records[row, AMOUNT] = 0
    if present & (1 << QUANTITY):
        if quantity < 0 or quantity > settings[SET_QUANTITY_MAX]:
            return _LEFT
        flags |= FLAG_HAS_QUANTITY
    if present & (1 << COST):
        price, certain = _minor_units(value, decimals, exponent)
        if not certain or abs(price) > settings[SET_MONEY_MAX] // max(quantity, 1):
            return _LEFT
        records[row, PRICE] = price
        records[row, AMOUNT] = price * quantity
        flags |= FLAG_HAS_PRICE | FLAG_HAS_AMOUNT
    return flags


@inline
def _span(start: int, end: int, base: int) -> int:
    if end == start:
        return whole(0)
    return ((start + base) << 8) | (end - start)


@kernel
def scan_lines(
    buffer: Bytes,
    start: int,
    end: int,
    base: int,
    rows_max: int,
    records: Words,
    spans: Words,
    where: Words,
    slow: Words,
    keys: Keys,
    types: Keys,
    zones: Keys,
    consents: Keys,
    multipliers: Keys,
    exponents: Words,
    settings: Words,
    k0: np.uint64,
    k1: np.uint64,
    row0: int,
    slow0: int,
    line: int,
    scratch: Words,
    memo: Keys,
    items: Words,
    out: Words,
) -> None:
    """Scan the lines of buffer[start:end]; each ends with a newline, 64 bytes behind `end` can be read.

    base is added to every place that is written. Rows go to records int64[n,16], spans int64[n,4] and where
    int64[n,2] from row0 on, slow lines to slow int64[m,4] from slow0 on; it stops before a line once rows_max
    rows are written. records must have room for rows_max + the lines of one event. Scratch:
    scratch int64[SCRATCH_ROWS, SCRATCH_WORDS] of -1, items int64[lines of one event, ITEM_WORDS], memo
    uint64[MEMO_WORDS] of 0. out: OUT_...
    """
    key_multiplier = multipliers[0]
    type_multiplier = multipliers[1]
    key_shift = settings[SET_KEY_SHIFT]
    type_shift = settings[SET_TYPE_SHIFT]
    starts = scratch[0]
    ends = scratch[1]
    values = scratch[2]
    decimals_of = scratch[3]
    order = scratch[4]
    anonymous_key = customer_key(k0, KIND_ANONYMOUS)
    row = row0
    slow_count = slow0
    line0 = line
    at = start
    while at < end and row < rows_max:
        line_start = at
        at = _skip_space(buffer, at)
        byte = load8(buffer, at)
        if byte == 0x0A:
            at += 1
            line += 1
            continue
        written = 0
        # one pass; every `break` leaves the line to msgspec
        while byte == 0x7B:
            # --- the object's fields -------------------------------------------------------------
            seen = 0
            present = 0
            in_data = False
            top_seen = 0
            top_alias = False
            products = 0
            position = 0
            is_open = True
            at = _skip_space(buffer, at + 1)
            while load8(buffer, at) == 0x22:
                at += 1
                # --- key: most lines have the fields of the line before, in its order
                slot = order[position & 63]
                length = whole(0)
                if slot >= 0:
                    length = whole(keys[slot, KEY_LENGTH])
                    if (
                        load64(buffer, at) & _low_mask(length) != keys[slot, KEY_FIRST]
                        or (length > 8 and load64(buffer, at + length - 8) != keys[slot, KEY_LAST])
                        or load8(buffer, at + length) != 0x22
                    ):
                        slot = whole(-1)
                if slot < 0:
                    marks = string_marks32(buffer, at)
                    if marks == _ZERO:
                        break
                    length = trailing_zeros(marks)
                    if length > KEY_BYTES_MAX or load8(buffer, at + length) != 0x22:
                        break
                    slot = _find_key(buffer, at, length, keys, key_multiplier, key_shift)
                    order[position & 63] = slot
                position += 1
                at += length + 1
                if load8(buffer, at) != 0x3A:
                    at = _skip_space(buffer, at)
                    if load8(buffer, at) != 0x3A:
                        break
                at = _skip_space(buffer, at + 1)
                byte = load8(buffer, at)
                # --- value
                if slot < 0:
                    at = _scalar_end(buffer, at)
                    if at < 0:
                        break
                else:
                    entry = whole(keys[slot, KEY_FIELD])
                    field = entry & 0xFF
                    bit = 1 << field
                    if seen & bit:
                        break
                    seen |= bit
                    if in_data:
                        if bit & CLOUD_EVENT:
                            break
                    else:
                        top_seen |= bit
                        if entry > 0xFF:
                            top_alias = True
                    if field < STRINGS_END and byte == 0x22:
                        finish = _string_end(buffer, at + 1)
                        if finish < 0 or finish - at > 256:
                            break
                        starts[field] = at + 1
                        ends[field] = finish
                        if finish > at + 1:
                            present |= bit
                        at = finish + 1
                    elif STRINGS_END <= field < NUMBERS_END and byte != 0x6E:
                        finish, value, decimals = _number(buffer, at)
                        if finish < 0:
                            break
                        values[field] = value
                        decimals_of[field] = decimals
                        present |= bit
                        at = finish
                    elif field == PRODUCTS and byte == 0x5B:
                        at, products = _scan_products(
                            buffer, at, items, settings[SET_LINES_MAX], keys, key_multiplier, key_shift
                        )
                        if at < 0:
                            break
                    elif field == DATA and byte == 0x7B and not in_data:
                        in_data = True
                        at = _skip_space(buffer, at + 1)
                        if load8(buffer, at) != 0x7D:
                            continue
                    elif field == GRANTED and byte != 0x22:
                        at = _literal_end(buffer, at)
                        if at < 0:
                            break
                        if byte != 0x6E:
                            values[GRANTED] = byte == 0x74
                            present |= bit
                    elif field < DATA and field != SPECVERSION and _is_null(buffer, at):
                        at += 4
                    else:
                        break
                # --- what follows the value
                byte = load8(buffer, at)
                if byte == 0x2C:
                    at += 1
                    if load8(buffer, at) != 0x22:
                        at = _skip_space(buffer, at)
                    continue
                at = _skip_space(buffer, at)
                byte = load8(buffer, at)
                if in_data and byte == 0x7D:
                    in_data = False
                    at = _skip_space(buffer, at + 1)
                    byte = load8(buffer, at)
                if byte == 0x2C:
                    at = _skip_space(buffer, at + 1)
                elif byte == 0x7D and not in_data:
                    is_open = False
                    break
                else:
                    break
            if is_open:
                break
            at = _skip_space(buffer, at + 1)
            if load8(buffer, at) != 0x0A or at - line_start > settings[SET_BYTES_MAX]:
                break
            # --- what the event is ---------------------------------------------------------------
            if seen & (1 << SPECVERSION | 1 << DATA):
                if (top_seen & ~CLOUD_EVENT) or top_alias or not seen & (1 << SPECVERSION):
                    break
                spec = starts[SPECVERSION]
                if (
                    ends[SPECVERSION] - spec != 3
                    or load8(buffer, spec) != 0x31
                    or load8(buffer, spec + 1) != 0x2E
                    or load8(buffer, spec + 2) != 0x30
                ):
                    break
            if (present & (1 << ID)) == 0 or (present & (1 << TYPE)) == 0 or (present & (1 << WHEN)) == 0:
                break
            code = _type_code(buffer, starts[TYPE], ends[TYPE], types, type_multiplier, type_shift)
            if code < 0:
                break
            role = code >> 8
            code &= 0xFF
            if role == ROLE_LEFT:
                break
            time_ms = _time_ms(buffer, starts[WHEN], ends[WHEN], memo)
            if time_ms < settings[SET_TIME_MIN] or time_ms > settings[SET_TIME_MAX]:
                break
            currency = settings[SET_CURRENCY]
            if present & (1 << CURRENCY):
                currency = whole(_currency(buffer, starts[CURRENCY], ends[CURRENCY]))
                if currency < 0:
                    break
            exponent = exponents[currency]
            if exponent < 0:
                break
            zone = whole(0)
            if present & (1 << ZONE):
                zone = whole(
                    _zone_number(
                        buffer, starts[ZONE], ends[ZONE], zones, type_multiplier, settings[SET_ZONE_SHIFT]
                    )
                )
                if zone < 0:
                    break
            consent = whole(0)
            if role == ROLE_UNSUBSCRIBED:
                channel_bits = settings[SET_CHANNEL]
                if present & (1 << CHANNEL):
                    channel_bits = _consent_bits(buffer, starts[CHANNEL], ends[CHANNEL], CHANNEL, consents)
                if channel_bits < 0:
                    break
                consent = settings[SET_UNSUBSCRIBED] | channel_bits
            elif role == ROLE_CONSENT:
                if (present & (1 << CHANNEL)) == 0 or (present & (1 << GRANTED)) == 0:
                    break
                channel_bits = _consent_bits(buffer, starts[CHANNEL], ends[CHANNEL], CHANNEL, consents)
                purpose_bits = settings[SET_PURPOSE]
                if present & (1 << PURPOSE):
                    purpose_bits = _consent_bits(buffer, starts[PURPOSE], ends[PURPOSE], PURPOSE, consents)
                if channel_bits < 0 or purpose_bits < 0:
                    break
                consent = settings[SET_GRANTED if values[GRANTED] != 0 else SET_WITHDRAWN]
                consent |= channel_bits | purpose_bits
            by_anonymous = role in (ROLE_IDENTIFY, ROLE_ALIAS)
            if by_anonymous and products > 0:
                break
            # --- the customer
            kind = KIND_USER
            customer = -1
            if present & (1 << USER):
                customer = USER
            elif present & (1 << LOYALTY):
                customer = LOYALTY
                kind = KIND_LOYALTY
            elif present & (1 << ANONYMOUS):
                customer = ANONYMOUS
                kind = KIND_ANONYMOUS
            elif role != ROLE_REFERENCE:
                break
            # --- money
            quantity = whole(1)
            if present & (1 << QUANTITY):
                if decimals_of[QUANTITY] != 0:
                    break
                quantity = values[QUANTITY]
            flags = _price_words(
                records, row, values[COST], decimals_of[COST], quantity, present, exponent, settings
            )
            if flags < 0:
                break
            if present & (1 << TOTAL):
                amount, certain = _minor_units(values[TOTAL], decimals_of[TOTAL], exponent)
                if not certain or abs(amount) > settings[SET_MONEY_MAX]:
                    break
                records[row, AMOUNT] = amount
                flags |= FLAG_HAS_AMOUNT
            flags |= kind
            if products > 0:
                flags |= FLAG_HAS_LINES
            # --- lines, first without what they share with the header
            shared_pack = code | (currency << 16) | (zone << ZONE_SHIFT)
            is_wrong = False
            for number in range(products):
                item_row = row + 1 + number
                item_present = items[number, 7]
                item_quantity = whole(1)
                if item_present & (1 << QUANTITY):
                    item_quantity = items[number, 6]
                item_flags = _price_words(
                    records,
                    item_row,
                    items[number, 4],
                    items[number, 5],
                    item_quantity,
                    item_present,
                    exponent,
                    settings,
                )
                if item_flags < 0:
                    is_wrong = True
                    break
                item_flags |= kind | FLAG_IS_LINE
                records[item_row, PACK] = shared_pack | (item_flags << 8) | (item_quantity << QUANTITY_SHIFT)
                for k in range(2):
                    first = items[number, 2 * k]
                    last = items[number, 2 * k + 1]
                    records[item_row, PRODUCT + k] = 0
                    if last > first:
                        records[item_row, PRODUCT + k] = hash_word(buffer, first, last, k0, k1)
                    spans[item_row, 2 + k] = _span(first, last, base)
            if is_wrong:
                break
            # --- the header's words
            records[row, TIME] = time_ms
            records[row, CLOCK] = 0
            records[row, HEAP] = 0
            records[row, SEQUENCE] = 0
            records[row, PACK] = shared_pack | (flags << 8) | (quantity << QUANTITY_SHIFT)
            if customer >= 0:
                low, high = siphash128(buffer, starts[customer], ends[customer], customer_key(k0, kind), k1)
                records[row, CUSTOMER_LO] = whole(low)
                records[row, CUSTOMER_HI] = whole(high)
                spans[row, 0] = _span(starts[customer], ends[customer], base)
            else:
                records[row, CUSTOMER_LO] = 0
                records[row, CUSTOMER_HI] = 0
                spans[row, 0] = 0
            low, high = siphash128(buffer, starts[ID], ends[ID], k0, k1)
            records[row, MESSAGE_LO] = whole(low)
            records[row, MESSAGE_HI] = whole(high)
            spans[row, 1] = _span(starts[ID], ends[ID], base)
            product = whole(0)
            category = whole(0)
            product_span = whole(0)
            category_span = whole(0)
            if by_anonymous:
                anonymous = ANONYMOUS if role == ROLE_IDENTIFY else PREVIOUS
                if kind != KIND_ANONYMOUS and (present & (1 << anonymous)):
                    low, high = siphash128(buffer, starts[anonymous], ends[anonymous], anonymous_key, k1)
                    product = whole(low)
                    category = whole(high)
            elif products == 0:
                if present & (1 << ITEM):
                    product = hash_word(buffer, starts[ITEM], ends[ITEM], k0, k1)
                    product_span = _span(starts[ITEM], ends[ITEM], base)
                if present & (1 << GROUP):
                    category = hash_word(buffer, starts[GROUP], ends[GROUP], k0, k1)
                    category_span = _span(starts[GROUP], ends[GROUP], base)
            records[row, ANONYMOUS_LO] = product
            records[row, ANONYMOUS_HI] = category
            spans[row, 2] = product_span
            spans[row, 3] = category_span
            store = whole(0)
            if present & (1 << SHOP):
                store = hash_word(buffer, starts[SHOP], ends[SHOP], k0, k1)
            records[row, STORE] = store
            voucher = whole(0)
            if role == ROLE_UNSUBSCRIBED or role == ROLE_CONSENT:
                voucher = consent
            elif present & (1 << COUPON):
                voucher = hash_word(buffer, starts[COUPON], ends[COUPON], k0, k1)
            elif present & (1 << PROMOTION):
                voucher = hash_word(buffer, starts[PROMOTION], ends[PROMOTION], k0, k1)
            records[row, CODE] = voucher
            origin = whole(0)
            if present & (1 << FROM):
                first = starts[FROM]
                last = ends[FROM]
                length = last - first
                if length <= 16:
                    # one shop sends from few sources
                    word0 = load64(buffer, first) & _low_mask(length)
                    word1 = _ZERO
                    if length > 8:
                        word1 = load64(buffer, last - 8)
                    if (
                        word0 != memo[_MEMO_SOURCE_FIRST]
                        or word1 != memo[_MEMO_SOURCE_LAST]
                        or np.uint64(length) != memo[_MEMO_SOURCE_LENGTH]
                    ):
                        memo[_MEMO_SOURCE_FIRST] = word0
                        memo[_MEMO_SOURCE_LAST] = word1
                        memo[_MEMO_SOURCE_LENGTH] = np.uint64(length)
                        memo[_MEMO_SOURCE_HASH] = np.uint64(hash_word(buffer, first, last, k0, k1))
                    origin = whole(memo[_MEMO_SOURCE_HASH])
                else:
                    origin = hash_word(buffer, first, last, k0, k1)
            records[row, SOURCE] = origin
            where[row, 0] = line_start + base
            where[row, 1] = line
            for number in range(products):
                item_row = row + 1 + number
                for word in (TIME, CLOCK, CUSTOMER_LO, CUSTOMER_HI, MESSAGE_LO, MESSAGE_HI, STORE, CODE):
                    records[item_row, word] = records[row, word]
                records[item_row, HEAP] = 0
                records[item_row, SEQUENCE] = 0
                records[item_row, SOURCE] = origin
                spans[item_row, 0] = 0
                spans[item_row, 1] = 0
                where[item_row, 0] = line_start + base
                where[item_row, 1] = line
            written = 1 + products
            break
        if written > 0:
            at += 1
            row += written
        else:
            at = line_start
            marks = newline_marks32(buffer, at)
            while marks == _ZERO:
                at += 32
                marks = newline_marks32(buffer, at)
            at += trailing_zeros(marks)
            slow[slow_count, 0] = line_start + base
            slow[slow_count, 1] = at + base
            slow[slow_count, 2] = row
            slow[slow_count, 3] = line
            slow_count += 1
            row += 1
            at += 1
        line += 1
    out[OUT_ROWS] = row
    out[OUT_SLOW] = slow_count
    out[OUT_NEXT] = at
    out[OUT_LINES] = line - line0
