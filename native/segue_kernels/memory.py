"""What plain array code cannot say: fetch a cache line before it is needed, copy sixteen bytes at once."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from numba.core import config as numba_config

from segue_kernels.jit import JIT_DISABLED, inline

_CHECKED = JIT_DISABLED or bool(numba_config.BOUNDSCHECK)
STRIDE = 16  # bytes copied at once

if JIT_DISABLED:

    def prefetch(words: npt.NDArray[Any], at: int) -> None:
        """A hint only: interpreted, there is nothing to do."""

else:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def prefetch(typingctx: Any, words: Any, at: Any) -> Any:
        """Ask the processor for the cache line of words[at] (one-dimensional, contiguous); never faults."""

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array_type = signature.args[0]
            array = context.make_array(array_type)(context, builder, arguments[0])
            address = builder.gep(array.data, [arguments[1]])
            void_pointer = builder.bitcast(address, ir.IntType(8).as_pointer())
            i32 = ir.IntType(32)
            name = "llvm.prefetch.p0i8" if not ir_opaque() else "llvm.prefetch.p0"
            function = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(ir.VoidType(), [void_pointer.type, i32, i32, i32]),
                name,
            )
            builder.call(function, [void_pointer, i32(0), i32(3), i32(1)])
            return context.get_dummy_value()

        return types.void(words, types.int64), emit

    def ir_opaque() -> bool:
        """Whether this llvmlite writes pointers without a pointee type."""
        return not getattr(ir.IntType(8).as_pointer(), "is_pointer", True) or "*" not in str(
            ir.IntType(8).as_pointer()
        )

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def _copy16(typingctx: Any, source: Any, at: Any, target: Any, to: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector = ir.VectorType(ir.IntType(8), STRIDE).as_pointer()

            def place(which: int) -> Any:
                array = context.make_array(signature.args[which])(context, builder, arguments[which])
                return builder.bitcast(builder.gep(array.data, [arguments[which + 1]]), vector)

            builder.store(builder.load(place(0), align=1), place(2), align=1)
            return context.get_dummy_value()

        return types.void(source, types.int64, target, types.int64), emit


if _CHECKED:

    @inline
    def copy_bytes(source: npt.NDArray[Any], at: int, target: npt.NDArray[Any], to: int, length: int) -> None:
        """source[at : at + length] to target[to:], byte by byte, so that every access is checked."""
        for b in range(length):
            target[to + b] = source[at + b]

else:

    @inline
    def copy_bytes(source: npt.NDArray[Any], at: int, target: npt.NDArray[Any], to: int, length: int) -> None:
        """source[at : at + length] to target[to:]; bytes of `target` behind that may be overwritten too.

        Identifiers are short: mostly one load and one store. Near the end of either array it goes byte by byte.
        """
        if at + length + STRIDE <= len(source) and to + length + STRIDE <= len(target):
            for b in range(0, length, STRIDE):
                _copy16(source, at + b, target, to + b)
        else:
            for b in range(length):
                target[to + b] = source[at + b]
