"""Programs run three ways on rows built from raw events: interpreter, virtual machine and native code."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from naive_history import NaiveHistory

from segue.policy import ir
from segue.policy.assemble import assemble
from segue.policy.interpret import interpret
from segue.policy.native import compile_native
from segue.policy.plan import lay_out, needs_of
from segue_kernels.call import call_program
from segue_kernels.jit import kernel
from segue_kernels.vm import run_program


@kernel
def call(address: int, row: np.ndarray, now: int, record: np.ndarray, location: np.ndarray) -> float:
    return call_program(address, row.ctypes.data, now, record.ctypes.data, location.ctypes.data)


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def agree(
    programs: Sequence[ir.Node], customers: Sequence[NaiveHistory], native: bool = True
) -> list[list[float]]:
    """The values of the programs for each customer; asserts that every way gives the same bits."""
    layout = lay_out(need for program in programs for need in needs_of(program))
    assembled = assemble(programs, layout)
    compiled = compile_native(programs, layout) if native else None
    values = []
    for history in customers:
        row, location = history.row(layout, layout.row_words)
        record = history.record()
        values.append([interpret(program, history) for program in programs])
        for i, program in enumerate(programs):
            expected = bits(values[-1][i])
            in_vm = run_program(
                i,
                assembled.program_start,
                assembled.code,
                assembled.constants,
                row,
                history.now,
                record,
                location,
            )
            assert bits(in_vm) == expected, f"virtual machine: {program}"
            if compiled is not None:
                in_native = call(compiled.address[i], row, history.now, record, location)
                assert bits(in_native) == expected, f"native: {program}"
    return values
