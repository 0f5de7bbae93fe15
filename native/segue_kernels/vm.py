"""The virtual machine for policy programs: the bits of the native code, at once and without a compiler.

run_program(program, program_start int64[n+1], code int64[ops,6], constants float64[], row int64[], now,
record int64[16], location int64[n_streams + n_moments + n_lookups]) -> float64. A program is a run of operations
over CELLS float64 cells; cell 0 holds the result at its end. Jumps go forward only, so it ends. It reads only its
arguments and cannot fail (the assembler keeps to CELLS).

Words of an operation: plan.CODE_*. Where an entry is: A >= 0 is its word in the row, A < 0 is the keyed
stream -A - 1, whose entry `location` gives (-1: none). B bounds the entries read. C is the window: its width in ms,
0 = ever, or below 0 the times after location[-C - 1].
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic

from segue_kernels.jit import JIT_DISABLED, inline, kernel, outline
from segue_kernels.plan import DECAY_EPOCHS, FIELD_QUANTITY, LOOKUP_SCALE, RECENCY_NEVER
from segue_kernels.record import PACK, QUANTITY_MASK, QUANTITY_SHIFT, SEQUENCE, TIME
from segue_kernels.row import SEGMENTS, STAGE

CELLS = 64

# kinds of operation; t is the target cell, u the cell after it
NUMBER = 0  # t = constants[A]
AT_LEAST = 1  # t = the B-th newest time lies in the window
COUNT = 2  # t = how many of the B newest times lie in the window
TUMBLE_COUNT = 3  # t = n of the current window of width C, at most B
SUM = 4  # t = sum of the values of the B newest times in the window / constants[low D]; stream's k = high D
TUMBLE_SUM = 5  # t = sum of the current window of width C / constants[D]
RECENCY = 6  # t = now - newest time, if that lies in the window
EVENT_NUMBER = 7  # t = field A of the event in currency B (0: any) / constants[D]
EVENT_IS = 8  # t = word A of the event is B
EVENT_TYPE_IS = 9  # t = type of the event is A
ADD = 10  # t = t op u ...
SUBTRACT = 11
MULTIPLY = 12
DIVIDE = 13
MIN = 14
MAX = 15
EQUAL = 16
NOT_EQUAL = 17
LESS = 18
LESS_EQUAL = 19
GREATER = 20
GREATER_EQUAL = 21
LOG1P = 22  # t = f(t) ...
SQRT = 23
EXP = 24
ABS = 25
NOT = 26
FINITE = 27
JUMP_IF_ZERO = 28  # go A operations ahead if t is 0; 1 is the next one
JUMP_IF_NOT_ZERO = 29
JUMP = 30
NTH = 31  # t = the B-th newest time from 0, if it lies in the window, else -1
LATEST = 32  # t = greatest of the B newest times in the window that is at most t, else -1; D: LATEST_*
SINCE = 33  # t = the newest time is after the record's
DECAYED = 34  # t = sum of the decayed entry with half-life B over C, over constants[D]
FIRST_VALUE = 35  # t = value of the first event / constants[D]
AGE = 36  # t = now - time of the first event
STEP = 37  # t = which wait is over
IN_SEGMENT = 38  # t = the customer is in segment B
IN_STAGE = 39  # t = the customer is in stage B
LOOKUP = 40  # t = location[A] / LOOKUP_SCALE
LOOKUP_IS = 41  # t = location[A] is B

# of LATEST: several streams may share their bound, which then stays in t while u takes the greatest so far
LATEST_STRICT = 1  # below t, not at most t
LATEST_BEGIN = 2  # the first of these streams
LATEST_END = 4  # the last: its result goes to t

_EXP_ARGUMENT_MAX = 700.0
_FINITE_MAX = 1.7976931348623157e308

if JIT_DISABLED:

    def _cells() -> npt.NDArray[np.float64]:
        return np.zeros(CELLS, dtype=np.float64)

else:
    from llvmlite import ir
    from numba.core import cgutils

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def _cells(typing_context: Any) -> Any:
        """CELLS float64 on the stack of the calling kernel: an array would be an allocation a call."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            block = cgutils.alloca_once(builder, ir.ArrayType(ir.DoubleType(), CELLS))
            return builder.bitcast(block, ir.DoubleType().as_pointer())

        return types.CPointer(types.float64)(), generate


@inline
def _start(a: int, location: npt.NDArray[np.int64]) -> int:
    """Word of the entry in the row; -1 if there is none."""
    if a >= 0:
        return a
    return int(location[-a - 1])


@inline
def _after(now: int, window: int, location: npt.NDArray[np.int64]) -> int:
    """Times after this lie in the window; no time is 0."""
    if window > 0:
        return now - window
    return int(location[-window - 1]) if window < 0 else 0


@outline
def _latest(
    row: npt.NDArray[np.int64], start: int, entries: int, after: int, bound: float, strict: int
) -> float:
    """The greatest of the entry's times after `after` that is at most `bound` (`strict`: below it); -1 if none is."""
    for i in range(start, start + entries):
        if row[i] <= after:
            return -1.0
        time = float(row[i])
        if time < bound or (time == bound and strict == 0):
            return time
    return -1.0


@outline
def _decayed(row: npt.NDArray[np.int64], start: int, half_life: int, now: int) -> float:
    """Weighted sum of a DECAY entry at now (policy/ir.py, Decayed), not yet over its scale."""
    if row[start] == 0:
        return 0.0
    total = 0.0
    weight = 1.0
    for i in range(start + 1, start + 1 + DECAY_EPOCHS):
        total += float(row[i]) * weight
        weight *= 0.5
    return total * math.exp2(float((row[start] - 1) * half_life - now) / float(half_life))


@kernel
def run_program(
    program: int,
    program_start: npt.NDArray[np.int64],
    code: npt.NDArray[np.int64],
    constants: npt.NDArray[np.float64],
    row: npt.NDArray[np.int64],
    now: int,
    record: npt.NDArray[np.int64],
    location: npt.NDArray[np.int64],
) -> float:
    """The value of a program; conditions give 1.0 or 0.0."""
    cells = _cells()
    at = program_start[program]
    end = program_start[program + 1]
    while at < end:
        kind = code[at, 0]
        t = code[at, 1]
        a = code[at, 2]
        b = code[at, 3]
        c = code[at, 4]
        d = code[at, 5]
        at += 1
        if kind == AT_LEAST:
            start = _start(a, location)
            cells[t] = 1.0 if start >= 0 and row[start + b - 1] > _after(now, c, location) else 0.0
        elif kind == JUMP_IF_ZERO:
            if cells[t] == 0.0:
                at += a - 1
        elif kind == JUMP_IF_NOT_ZERO:
            if cells[t] != 0.0:
                at += a - 1
        elif kind == NUMBER:
            cells[t] = constants[a]
        elif kind == COUNT:
            start = _start(a, location)
            n = 0
            if start >= 0:
                after = _after(now, c, location)
                while n < b and row[start + n] > after:
                    n += 1
            cells[t] = float(n)
        elif kind == EVENT_IS:
            cells[t] = 1.0 if record[a] == b else 0.0
        elif kind == EVENT_TYPE_IS:
            cells[t] = 1.0 if record[PACK] & 0xFF == a else 0.0
        elif kind == RECENCY:
            start = _start(a, location)
            cells[t] = RECENCY_NEVER
            if start >= 0 and row[start] > _after(now, c, location):
                cells[t] = float(now - row[start])
        elif kind == SUM:
            start = _start(a, location)
            total = np.int64(0)
            if start >= 0:
                after = _after(now, c, location)
                k = d >> 32
                i = 0
                while i < b and row[start + i] > after:
                    total += row[start + k + i]
                    i += 1
            cells[t] = float(total) / constants[d & 0xFFFFFFFF]
        elif kind == TUMBLE_COUNT:
            start = _start(a, location)
            cells[t] = 0.0
            if start >= 0 and row[start] == now - now % c:
                cells[t] = float(min(row[start + 1], b))
        elif kind == TUMBLE_SUM:
            start = _start(a, location)
            total = np.int64(0)
            if start >= 0 and row[start] == now - now % c:
                total = row[start + 1]
            cells[t] = float(total) / constants[d]
        elif kind == EVENT_NUMBER:
            pack = record[PACK]
            if a == FIELD_QUANTITY:
                cells[t] = float((pack >> QUANTITY_SHIFT) & QUANTITY_MASK)
            elif (pack >> 16) & 0xFFFF == b:
                cells[t] = float(record[a]) / constants[d]
            else:
                cells[t] = 0.0
        elif kind == JUMP:
            at += a - 1
        elif kind == LATEST:
            start = _start(a, location)
            found = -1.0
            if start >= 0:
                found = _latest(row, start, b, _after(now, c, location), cells[t], d & LATEST_STRICT)
            if d & LATEST_BEGIN == 0 and cells[t + 1] > found:
                found = cells[t + 1]
            cells[t if d & LATEST_END else t + 1] = found
        elif kind == NTH:
            start = _start(a, location)
            cells[t] = -1.0
            if start >= 0 and row[start + b] > _after(now, c, location):
                cells[t] = float(row[start + b])
        elif kind == SINCE:
            start = _start(a, location)
            cells[t] = 1.0 if start >= 0 and row[start] > record[TIME] else 0.0
        elif kind == DECAYED:
            start = _start(a, location)
            cells[t] = 0.0
            if start >= 0:
                cells[t] = _decayed(row, start, b, now) / float(c) / constants[d]
        elif kind == FIRST_VALUE:
            start = _start(a, location)
            cells[t] = 0.0
            if start >= 0 and row[start] != 0:
                cells[t] = float(row[start + 1]) / constants[d]
        elif kind == AGE:
            start = _start(a, location)
            cells[t] = RECENCY_NEVER
            if start >= 0 and row[start] != 0:
                cells[t] = float(now - row[start])
        elif kind == STEP:
            cells[t] = float(record[SEQUENCE])
        elif kind == IN_SEGMENT:
            cells[t] = float((row[SEGMENTS] >> b) & 1)
        elif kind == IN_STAGE:
            cells[t] = 1.0 if row[STAGE] == b else 0.0
        elif kind == LOOKUP:
            cells[t] = float(location[a]) / float(LOOKUP_SCALE)
        elif kind == LOOKUP_IS:
            cells[t] = 1.0 if location[a] == b else 0.0
        elif kind == NOT:
            cells[t] = 1.0 - cells[t]
        else:
            x = cells[t]
            if kind <= GREATER_EQUAL:
                y = cells[t + 1]
                if kind == ADD:
                    x = x + y
                elif kind == SUBTRACT:
                    x = x - y
                elif kind == MULTIPLY:
                    x = x * y
                elif kind == DIVIDE:
                    x = 0.0 if y == 0.0 else x / y
                elif kind == MIN:
                    x = y if y < x else x
                elif kind == MAX:
                    x = y if y > x else x
                elif kind == EQUAL:
                    x = 1.0 if x == y else 0.0
                elif kind == NOT_EQUAL:
                    x = 1.0 if x != y else 0.0
                elif kind == LESS:
                    x = 1.0 if x < y else 0.0
                elif kind == LESS_EQUAL:
                    x = 1.0 if x <= y else 0.0
                elif kind == GREATER:
                    x = 1.0 if x > y else 0.0
                else:
                    x = 1.0 if x >= y else 0.0
            elif kind == LOG1P:
                x = math.log1p(x) if x > 0.0 else 0.0
            elif kind == SQRT:
                x = math.sqrt(x) if x > 0.0 else 0.0
            elif kind == EXP:
                if x > _EXP_ARGUMENT_MAX:
                    x = _EXP_ARGUMENT_MAX
                elif not x > -_EXP_ARGUMENT_MAX:
                    x = -_EXP_ARGUMENT_MAX
                x = math.exp(x)
            elif kind == ABS:
                x = abs(x)
            elif not abs(x) <= _FINITE_MAX:
                x = 0.0
            cells[t] = x
    return float(cells[0])
