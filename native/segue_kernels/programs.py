"""Run a condition, feature or context of a policy on one customer and one event record."""

from __future__ import annotations

from segue_kernels.call import call_program
from segue_kernels.jit import JIT_DISABLED, Array, inline
from segue_kernels.shard import Plan
from segue_kernels.vm import run_program

if JIT_DISABLED:

    def evaluate(
        plan: Plan,
        program: int,
        rows: Array,
        base: int,
        row_words: int,
        now: int,
        records: Array,
        i: int,
        location: Array,
    ) -> float:
        """The program's value, by the virtual machine: there is no native code to call without the compiler."""
        row = rows[base : base + row_words]
        return float(
            run_program(
                program, plan.program_start, plan.code, plan.constants, row, now, records[i], location
            )
        )

else:

    @inline
    def evaluate(
        plan: Plan,
        program: int,
        rows: Array,
        base: int,
        row_words: int,
        now: int,
        records: Array,
        i: int,
        location: Array,
    ) -> float:
        """The program's value: of its native function if it has one, else by the virtual machine."""
        address = plan.program_address[program]
        if address != 0:
            return call_program(
                address,
                rows.ctypes.data + base * 8,
                now,
                records.ctypes.data + i * records.strides[0],
                location.ctypes.data,
            )
        row = rows[base : base + row_words]
        return run_program(
            program, plan.program_start, plan.code, plan.constants, row, now, records[i], location
        )
