"""Operations of the virtual machine on hand-written tables, and calls through an address."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from segue_kernels import plan, record, vm
from segue_kernels.call import call_program
from segue_kernels.jit import kernel
from segue_kernels.vm import run_program

NOW = 1_750_000_000_000
CONSTANTS = np.array([2.0, 100.0, 0.0, -1e308, 1e308])


def run(*operations: tuple[int, ...], row: list[int] | None = None, location: int = -1) -> float:
    code = np.array([(*o, *[0] * (plan.CODE_WORDS - len(o))) for o in operations], dtype=np.int64)
    event = np.zeros(record.RECORD_WORDS, dtype=np.int64)
    event[record.PRICE] = 1_234
    event[record.CATEGORY] = -5
    event[record.PACK] = 3 | 7 << 16 | 9 << 32
    return run_program(
        0,
        np.array([0, len(code)]),
        code,
        CONSTANTS,
        np.array(row or [0] * 8, dtype=np.int64),
        NOW,
        event,
        np.array([location], dtype=np.int64),
    )


TIMES = [NOW, NOW - 10, NOW - 20, 0, 5, 6, 7, 0]
WINDOW = [NOW - NOW % 1_000, 40, 0, 0, 0, 0, 0, 0]
KEYED = -1


@pytest.mark.parametrize(
    ("operation", "row", "location", "value"),
    [
        ((vm.NUMBER, 0, 1), TIMES, -1, 100.0),
        ((vm.AT_LEAST, 0, 0, 2, 11), TIMES, -1, 1.0),
        ((vm.AT_LEAST, 0, 0, 2, 10), TIMES, -1, 0.0),  # (now - 10, now]
        ((vm.AT_LEAST, 0, 0, 3, 0), TIMES, -1, 1.0),
        ((vm.AT_LEAST, 0, 0, 4, 0), TIMES, -1, 0.0),
        ((vm.AT_LEAST, 0, KEYED, 1, 0), TIMES, -1, 0.0),
        ((vm.AT_LEAST, 0, KEYED, 1, 11), TIMES, 1, 1.0),
        ((vm.COUNT, 0, 0, 4, 0), TIMES, -1, 3.0),
        ((vm.COUNT, 0, 0, 2, 0), TIMES, -1, 2.0),
        ((vm.COUNT, 0, KEYED, 4, 0), TIMES, 2, 1.0),
        ((vm.SUM, 0, 0, 4, 0, 4 << 32 | 0), TIMES, -1, 9.0),
        ((vm.SUM, 0, 0, 4, 15, 4 << 32 | 0), TIMES, -1, 5.5),
        ((vm.TUMBLE_COUNT, 0, 0, 32, 1_000), WINDOW, -1, 32.0),
        ((vm.TUMBLE_COUNT, 0, 0, 50, 1_000), WINDOW, -1, 40.0),
        ((vm.TUMBLE_COUNT, 0, 0, 50, 9_000), WINDOW, -1, 0.0),
        ((vm.TUMBLE_SUM, 0, 0, 0, 1_000, 1), WINDOW, -1, 0.4),
        ((vm.RECENCY, 0, 1, 1, 0), TIMES, -1, 10.0),
        ((vm.RECENCY, 0, 1, 1, 10), TIMES, -1, plan.RECENCY_NEVER),
        ((vm.RECENCY, 0, KEYED, 1, 0), TIMES, -1, plan.RECENCY_NEVER),
        ((vm.EVENT_NUMBER, 0, record.PRICE, 7, 0, 1), TIMES, -1, 12.34),
        ((vm.EVENT_NUMBER, 0, record.PRICE, 8, 0, 1), TIMES, -1, 0.0),
        ((vm.EVENT_NUMBER, 0, plan.FIELD_QUANTITY, 0, 0, 0), TIMES, -1, 9.0),
        ((vm.EVENT_IS, 0, record.CATEGORY, -5), TIMES, -1, 1.0),
        ((vm.EVENT_IS, 0, record.CATEGORY, 5), TIMES, -1, 0.0),
        ((vm.EVENT_TYPE_IS, 0, 3), TIMES, -1, 1.0),
        ((vm.EVENT_TYPE_IS, 0, 4), TIMES, -1, 0.0),
    ],
)
def test_an_operation(operation: tuple[int, ...], row: list[int], location: int, value: float) -> None:
    assert run(operation, row=row, location=location) == value


def test_division_by_zero_is_zero() -> None:
    assert run((vm.NUMBER, 0, 0), (vm.NUMBER, 1, 2), (vm.DIVIDE, 0)) == 0.0


def test_what_overflows_is_zero_at_the_root() -> None:
    assert run((vm.NUMBER, 0, 3), (vm.NUMBER, 1, 4), (vm.SUBTRACT, 0), (vm.FINITE, 0)) == 0.0


def test_jumps_skip() -> None:
    assert run((vm.NUMBER, 0, 2), (vm.JUMP_IF_ZERO, 0, 2), (vm.NUMBER, 0, 1)) == 0.0
    assert run((vm.NUMBER, 0, 0), (vm.JUMP_IF_NOT_ZERO, 0, 2), (vm.NUMBER, 0, 1)) == 2.0
    assert run((vm.NUMBER, 0, 0), (vm.JUMP, 0, 2), (vm.NUMBER, 0, 1)) == 2.0


def test_a_function_is_called_through_its_address() -> None:
    signature = ctypes.CFUNCTYPE(ctypes.c_double, *[ctypes.c_int64] * 4)
    function = signature(
        lambda row, now, record, location: row + 10.0 * now + 100.0 * record + 1000.0 * location
    )
    address = ctypes.cast(function, ctypes.c_void_p).value

    @kernel
    def call(address: int, a: int, b: int, c: int, d: int) -> float:
        return call_program(address, a, b, c, d)

    assert call(address, 1, 2, 3, 4) == 4321.0
