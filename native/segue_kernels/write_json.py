"""Rows of integers become lines of JSON: one template per kind of line, filled from the columns of its row.

A template is a run of operations. An operation is (kind, a, b, c); a column is a word of the row:
    LITERAL    bytes a..b of `literals`
    INTEGER    column a as a decimal number
    PADDED     column a as a decimal number of at least b digits, zeros in front
    HEX        column a as 16 hexadecimal digits
    TIME       column a, ms since 1970 UTC, as `2026-03-02T08:00:00.000Z`
    MONEY      column a, minor units, as a decimal number with b decimals
    WORD       word (column a + b) of `words`, as it stands
    SKIP_IF_NEGATIVE  column a below 0: leave out the next b operations (a field that is absent)
    LINES      rows [column a, column a + column b) of `lines` through template c, commas between
Text in literals and words is JSON already: nothing is escaped here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from segue_kernels.jit import JIT_DISABLED, inline, kernel

LITERAL = 0
INTEGER = 1
PADDED = 2
HEX = 3
TIME = 4
MONEY = 5
WORD = 6
SKIP_IF_NEGATIVE = 7
LINES = 8
OPERATION_WORDS = 4

# the room an operation takes at most, bytes (LITERAL, PADDED, MONEY and WORD depend on their operands)
INTEGER_BYTES_MAX = 20
HEX_BYTES = 16
TIME_BYTES_MAX = 24

MINUTE_BYTES = 17  # `2026-03-02T08:00:`
NO_MINUTE = -(1 << 62)

TEMPLATE = 0  # the word of a row that names its template

# words of the table that tells how much room a row of a template takes
BOUND_BYTES = 0  # of the row itself
BOUND_LINES = 1  # the column with the number of its lines, or -1
BOUND_LINE_BYTES = 2  # of each of them
BOUND_WORDS = 3

# "00", "01" … "99", and "00" … "ff": two characters at a time
_DECIMAL_PAIRS = np.frombuffer("".join(f"{n:02d}" for n in range(100)).encode(), dtype=np.uint8).copy()
_HEX_PAIRS = np.frombuffer("".join(f"{n:02x}" for n in range(256)).encode(), dtype=np.uint8).copy()

if JIT_DISABLED:

    def copy_bytes(out: NDArray[np.uint8], at: int, source: NDArray[np.uint8], start: int, size: int) -> None:
        """out[at : at + size] = source[start : start + size]; the two don't overlap."""
        out[at : at + size] = source[start : start + size]

else:

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def copy_bytes(
        typing_context: Any, out: Any, at: Any, source: Any, start: Any, size: Any
    ) -> tuple[Any, Any]:
        """out[at : at + size] = source[start : start + size]; the two don't overlap.

        One memcpy: an assignment of slices costs ten times as much, a loop over bytes three times.
        """
        signature = types.void(out, types.int64, source, types.int64, types.int64)

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            target = context.make_array(sig.args[0])(context, builder, args[0]).data
            origin = context.make_array(sig.args[2])(context, builder, args[2]).data
            cgutils.raw_memcpy(
                builder, builder.gep(target, [args[1]]), builder.gep(origin, [args[3]]), args[4], 1
            )
            return context.get_dummy_value()

        return signature, emit


@inline
def _write_decimal(value: int, digits_min: int, out: NDArray[np.uint8], at: int) -> int:
    if value < 0:
        out[at] = 45
        at += 1
        value = -value
    digits = 1
    power = 10
    while digits < 18 and value >= power:
        digits += 1
        power *= 10
    if value >= power:
        digits += 1
    if digits < digits_min:
        digits = digits_min
    place = at + digits
    while place >= at + 2:
        place -= 2
        hundreds = value // 100
        pair = (value - hundreds * 100) * 2
        out[place] = _DECIMAL_PAIRS[pair]
        out[place + 1] = _DECIMAL_PAIRS[pair + 1]
        value = hundreds
    if place > at:
        out[at] = 48 + value % 10
    return at + digits


@inline
def _write_two(value: int, out: NDArray[np.uint8], at: int) -> None:
    out[at] = _DECIMAL_PAIRS[value * 2]
    out[at + 1] = _DECIMAL_PAIRS[value * 2 + 1]


@inline
def _write_minute(minute: int, out: NDArray[np.uint8], at: int) -> None:
    """`2026-03-02T08:00:` of a number of minutes since 1970."""
    # days since 0000-03-01 of the proleptic Gregorian calendar, then eras of 400 years
    day = minute // 1_440
    shifted = day + 719_468
    era = shifted // 146_097
    of_era = shifted - era * 146_097
    year_of_era = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    from_march = (5 * of_year + 2) // 153
    month = from_march + 3 if from_march < 10 else from_march - 9
    year = year_of_era + era * 400 + (1 if from_march >= 10 else 0)
    _write_two(year // 100, out, at)
    _write_two(year % 100, out, at + 2)
    out[at + 4] = 45
    _write_two(month, out, at + 5)
    out[at + 7] = 45
    _write_two(of_year - (153 * from_march + 2) // 5 + 1, out, at + 8)
    out[at + 10] = 84
    _write_two((minute - day * 1_440) // 60, out, at + 11)
    out[at + 13] = 58
    _write_two(minute % 60, out, at + 14)
    out[at + 16] = 58


@inline
def _write_time(
    time_ms: int, minute: NDArray[np.int64], minute_text: NDArray[np.uint8], out: NDArray[np.uint8], at: int
) -> int:
    """`minute` and `minute_text` remember the last minute: times come nearly in order."""
    now = time_ms // 60_000
    if now != minute[0]:
        minute[0] = now
        _write_minute(now, minute_text, 0)
    copy_bytes(out, at, minute_text, 0, MINUTE_BYTES)
    rest = time_ms - now * 60_000
    seconds = rest // 1_000
    milliseconds = rest - seconds * 1_000
    _write_two(seconds, out, at + 17)
    out[at + 19] = 46
    out[at + 20] = 48 + milliseconds // 100
    _write_two(milliseconds % 100, out, at + 21)
    out[at + 23] = 90
    return at + 24


@inline
def _write_field(
    kind: int,
    a: int,
    b: int,
    table: NDArray[np.int64],
    row: int,
    literals: NDArray[np.uint8],
    words: NDArray[np.uint8],
    word_start: NDArray[np.int64],
    minute: NDArray[np.int64],
    minute_text: NDArray[np.uint8],
    out: NDArray[np.uint8],
    at: int,
) -> int:
    if kind == LITERAL:
        copy_bytes(out, at, literals, a, b - a)
        return at + b - a
    value: int = table[row, a]
    if kind == WORD:
        start: int = word_start[value + b]
        size: int = word_start[value + b + 1] - start
        copy_bytes(out, at, words, start, size)
        return at + size
    if kind in (PADDED, INTEGER):
        return _write_decimal(value, b, out, at)
    if kind == TIME:
        return _write_time(value, minute, minute_text, out, at)
    if kind == HEX:
        for i in range(8):
            pair = ((value >> (56 - 8 * i)) & 255) * 2
            out[at + 2 * i] = _HEX_PAIRS[pair]
            out[at + 2 * i + 1] = _HEX_PAIRS[pair + 1]
        return at + 16
    # MONEY: all its digits, then the last b of them move up for the point
    if b == 0:
        return _write_decimal(value, 1, out, at)
    end = _write_decimal(value, b + 1, out, at)
    for i in range(b):
        out[end - i] = out[end - i - 1]
    out[end - b] = 46
    return end + 1


@kernel
def write_json(
    rows: NDArray[np.int64],
    order: NDArray[np.int64],
    first: int,
    lines: NDArray[np.int64],
    template_start: NDArray[np.int64],
    operations: NDArray[np.int64],
    bounds: NDArray[np.int64],
    literals: NDArray[np.uint8],
    words: NDArray[np.uint8],
    word_start: NDArray[np.int64],
    minute: NDArray[np.int64],
    minute_text: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> tuple[int, int]:
    """Write rows order[first:] into `out` until one might not fit; (entries of `order` done, bytes written).

    rows int64[n, columns], lines int64[m, columns], order int64[k]; template_start int64[templates + 1] into
    operations int64[o, OPERATION_WORDS]; bounds int64[templates, BOUND_WORDS]; word_start int64[words + 1].
    minute int64[1] and minute_text uint8[MINUTE_BYTES] belong together from call to call: NO_MINUTE at first.
    """
    at = 0
    done = first
    while done < order.size:
        row = order[done]
        template = rows[row, TEMPLATE]
        room = bounds[template, BOUND_BYTES]
        if bounds[template, BOUND_LINES] >= 0:
            room += rows[row, bounds[template, BOUND_LINES]] * bounds[template, BOUND_LINE_BYTES]
        if at + room > out.size:
            break
        operation = template_start[template]
        last = template_start[template + 1]
        while operation < last:
            kind = operations[operation, 0]
            a = operations[operation, 1]
            b = operations[operation, 2]
            if kind == SKIP_IF_NEGATIVE:
                if rows[row, a] < 0:
                    operation += b
            elif kind == LINES:
                nested = operations[operation, 3]
                line = rows[row, a]
                line_last = line + rows[row, b]
                while line < line_last:
                    inner = template_start[nested]
                    while inner < template_start[nested + 1]:
                        if operations[inner, 0] == SKIP_IF_NEGATIVE:
                            if lines[line, operations[inner, 1]] < 0:
                                inner += operations[inner, 2]
                        else:
                            at = _write_field(
                                operations[inner, 0], operations[inner, 1], operations[inner, 2],
                                lines, line, literals, words, word_start, minute, minute_text, out, at,
                            )  # fmt: skip
                        inner += 1
                    line += 1
                    if line < line_last:
                        out[at] = 44
                        at += 1
            else:
                at = _write_field(
                    kind, a, b, rows, row, literals, words, word_start, minute, minute_text, out, at
                )
            operation += 1
        done += 1
    return done, at
