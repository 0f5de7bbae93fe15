"""Call a compiled program through its address.

`call_program(address, row_address, now, record_address, location_address) -> float64`: all int64; row,
record and locations are addresses of their first words. The caller keeps the arrays and the code alive.
Nothing is checked: an address that is not a program ends the process.
"""

from __future__ import annotations

import ctypes
from typing import Any

from numba import types
from numba.extending import intrinsic

from segue_kernels.jit import JIT_DISABLED

if JIT_DISABLED:
    _PROTOTYPE = ctypes.CFUNCTYPE(
        ctypes.c_double, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64
    )

    def call_program(
        address: int, row_address: int, now: int, record_address: int, location_address: int
    ) -> float:
        """The value of the program at this address."""
        value = _PROTOTYPE(int(address))(
            int(row_address), int(now), int(record_address), int(location_address)
        )
        return float(value)

else:
    from llvmlite import ir

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def call_program(
        typing_context: Any,
        address: Any,
        row_address: Any,
        now: Any,
        record_address: Any,
        location_address: Any,
    ) -> Any:
        """The value of the program at this address."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            word = ir.IntType(64)
            function = ir.FunctionType(ir.DoubleType(), [word, word, word, word])
            entry = builder.inttoptr(arguments[0], function.as_pointer())
            return builder.call(entry, arguments[1:])

        return types.float64(types.int64, types.int64, types.int64, types.int64, types.int64), generate
