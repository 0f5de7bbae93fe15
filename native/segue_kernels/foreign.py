"""Memory and functions of a C library, by address. Nothing is checked: a wrong address ends the process.

All words are int64. Interpreted, the same goes through ctypes.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy.typing as npt

from segue_kernels.jit import JIT_DISABLED

if JIT_DISABLED:

    def load_word(address: int) -> int:
        """The int64 that stands at an address."""
        return ctypes.c_int64.from_address(int(address)).value

    def load_byte(address: int) -> int:
        """The byte that stands at an address."""
        return ctypes.c_uint8.from_address(int(address)).value

    def copy_memory(address: int, target: npt.NDArray[Any], to: int, length: int) -> None:
        """`length` bytes from an address on to target[to:]."""
        assert 0 <= length <= target.nbytes - to
        ctypes.memmove(target.ctypes.data + int(to), int(address), int(length))

    def call_function(address: int, arguments: tuple[int, ...]) -> int:
        """What the C function at an address returns, as a word: only as many bits of it count as the function fills."""
        prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(arguments))
        return int(prototype(int(address))(*(int(argument) for argument in arguments)))

else:
    from llvmlite import ir
    from numba import types
    from numba.core.cgutils import create_struct_proxy, raw_memcpy
    from numba.extending import intrinsic

    _BYTE = ir.IntType(8)
    _WORD = ir.IntType(64)

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def load_word(typing_context: Any, address: Any) -> Any:
        """The int64 that stands at an address."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.load(builder.inttoptr(arguments[0], _WORD.as_pointer()), align=1)

        return types.int64(types.int64), generate

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def load_byte(typing_context: Any, address: Any) -> Any:
        """The byte that stands at an address."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.zext(builder.load(builder.inttoptr(arguments[0], _BYTE.as_pointer())), _WORD)

        return types.int64(types.int64), generate

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def copy_memory(typing_context: Any, address: Any, target: Any, to: Any, length: Any) -> Any:
        """`length` bytes from an address on to target[to:]."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = create_struct_proxy(signature.args[1])(context, builder, value=arguments[1])
            start = builder.gep(builder.bitcast(array.data, _BYTE.as_pointer()), [arguments[2]])
            source = builder.inttoptr(arguments[0], _BYTE.as_pointer())
            raw_memcpy(builder, start, source, arguments[3], _WORD(1))
            return context.get_dummy_value()

        return types.void(types.int64, target, types.int64, types.int64), generate

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def call_function(typing_context: Any, address: Any, arguments: Any) -> Any:
        """What the C function at an address returns, as a word: only as many bits of it count as the function fills."""
        count = len(arguments)

        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            function = ir.FunctionType(_WORD, [_WORD] * count)
            entry = builder.inttoptr(given[0], function.as_pointer())
            return builder.call(entry, [builder.extract_value(given[1], k) for k in range(count)])

        return types.int64(types.int64, types.UniTuple(types.int64, count)), generate
