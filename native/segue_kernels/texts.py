"""What the lines of actions say in words: ids as digits, times, and strings as JSON."""

from __future__ import annotations

from segue_kernels.heap import put_string
from segue_kernels.jit import Array, inline, kernel
from segue_kernels.record import STRING_CATEGORY, STRING_CUSTOMER, STRING_MESSAGE, STRING_PRODUCT
from segue_kernels.shard import (
    ACTION_FIRST,
    ACTION_HI,
    ACTION_ITEM,
    ACTION_LO,
    ACTION_LOG,
    ACTION_OFFER,
    ACTION_RECORD,
    LOG_DECISION_HI,
    LOG_DECISION_LO,
    LOG_NOW,
)
from segue_kernels.strings import put_digits

# texts of an action, in their order
TEXT_ACTION = 0
TEXT_DECISION = 1
TEXT_CUSTOMER = 2  # this one and the next three: between quotes, or null where it is empty
TEXT_PRODUCT = 3
TEXT_CATEGORY = 4
TEXT_MESSAGE = 5
TEXT_TIME = 6
TEXT_VOUCHER_ENDS = 7
TEXT_EXPIRES = 8
TEXTS = 9
TEXT_BYTES_MAX = 2 * 32 + 4 * (255 + 2) + 3 * 24  # of an action
TEXT_ROOM = 16  # behind the last text, whatever stands there afterwards

_TIME_BYTES = 24
_DAY_MS = 86_400_000
_QUOTE, _BACKSLASH, _SPACE = 0x22, 0x5C, 0x20


@inline
def _put_number(value: int, digits: int, data: Array, to: int) -> int:
    for k in range(digits):
        data[to + digits - 1 - k] = 48 + value % 10
        value //= 10
    return to + digits


@inline
def _put_time(time_ms: int, data: Array, to: int) -> int:
    """2026-03-02T08:00:00.000Z; of a time behind the year 9999 the first 24 letters."""
    days = time_ms // _DAY_MS
    of_day = time_ms - days * _DAY_MS
    # the days of the Gregorian calendar from 0000-03-01 on, in eras of 400 years
    days += 719_468
    era = days // 146_097
    of_era = days - era * 146_097
    years = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * years + years // 4 - years // 100)
    shifted = (5 * of_year + 2) // 153
    day = of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = years + era * 400 + (1 if month <= 2 else 0)
    digits = 4
    if year > 9_999:
        digits = 5 if year <= 99_999 else 6
    at = _put_number(year, digits, data, to)
    data[at] = 0x2D
    at = _put_number(month, 2, data, at + 1)
    data[at] = 0x2D
    at = _put_number(day, 2, data, at + 1)
    data[at] = 0x54
    at = _put_number(of_day // 3_600_000, 2, data, at + 1)
    data[at] = 0x3A
    at = _put_number(of_day // 60_000 % 60, 2, data, at + 1)
    data[at] = 0x3A
    at = _put_number(of_day // 1_000 % 60, 2, data, at + 1)
    data[at] = 0x2E
    at = _put_number(of_day % 1_000, 3, data, at + 1)
    data[at] = 0x5A
    return to + _TIME_BYTES


@inline
def _put_json(text: Array, heap: int, string: int, data: Array, to: int) -> int:
    data[to] = _QUOTE
    end = put_string(text, heap, string, data, to + 1)
    if end > to + 1:
        data[end] = _QUOTE
        return end + 1
    data[to] = 0x6E
    data[to + 1] = 0x75
    data[to + 2] = 0x6C
    data[to + 3] = 0x6C
    return to + 4


@inline
def _is_plain(data: Array, start: int, end: int) -> bool:
    """Whether no byte between the quotes would have to be escaped."""
    for at in range(start + 1, end - 1):
        if data[at] < _SPACE or data[at] == _QUOTE or data[at] == _BACKSLASH:
            return False
    return True


@kernel
def write_action_texts(
    actions: Array,
    log: Array,
    heaps: Array,
    text: Array,
    voucher_lives_ms: Array,
    lives_ms: Array,
    data: Array,
    ends: Array,
) -> bool:
    """TEXTS of each action, one after the other; whether no string would have to be escaped (none is).

    heaps  HEAP of each record; lives by the number of the offer
    data   uint8 [TEXT_BYTES_MAX n + TEXT_ROOM]; ends int64 [TEXTS n]: where each text ends
    """
    to = 0
    plain = True
    for action in range(actions.shape[0]):
        decision = actions[action, ACTION_LOG]
        offer = actions[action, ACTION_OFFER]
        header = heaps[actions[action, ACTION_RECORD]]
        item = heaps[actions[action, ACTION_ITEM]]
        now = log[decision, LOG_NOW]
        first = action * TEXTS
        put_digits(actions[action, ACTION_HI], data, to)
        put_digits(actions[action, ACTION_LO], data, to + 16)
        to += 32
        ends[first + TEXT_ACTION] = to
        put_digits(log[decision, LOG_DECISION_HI], data, to)
        put_digits(log[decision, LOG_DECISION_LO], data, to + 16)
        to += 32
        ends[first + TEXT_DECISION] = to
        to = ends[first + TEXT_CUSTOMER] = _put_json(text, header, STRING_CUSTOMER, data, to)
        to = ends[first + TEXT_PRODUCT] = _put_json(text, item, STRING_PRODUCT, data, to)
        to = ends[first + TEXT_CATEGORY] = _put_json(text, item, STRING_CATEGORY, data, to)
        to = ends[first + TEXT_MESSAGE] = _put_json(text, header, STRING_MESSAGE, data, to)
        for k in range(TEXT_CUSTOMER, TEXT_MESSAGE + 1):
            plain = plain and _is_plain(data, ends[first + k - 1], ends[first + k])
        to = ends[first + TEXT_TIME] = _put_time(now, data, to)
        to = ends[first + TEXT_VOUCHER_ENDS] = _put_time(now + voucher_lives_ms[offer], data, to)
        to = ends[first + TEXT_EXPIRES] = _put_time(actions[action, ACTION_FIRST] + lives_ms[offer], data, to)
    return plain
