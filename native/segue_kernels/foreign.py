"""Memory and functions by address: of a C library, and arrays. Nothing is checked: a wrong address ends the process.

All words are int64. Interpreted, the same goes through ctypes.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
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

    class _Memory:
        def __init__(self, address: int, shape: tuple[int, ...], kind: str) -> None:
            place = (int(address), False)
            sizes = tuple(int(size) for size in shape)
            self.__array_interface__ = {"data": place, "shape": sizes, "typestr": kind, "version": 3}

    def words_at(address: int, length: int) -> npt.NDArray[np.int64]:
        """int64[length] that lies at an address; whoever made it keeps it alive."""
        return np.asarray(_Memory(address, (length,), "<i8"))

    def halves_at(address: int, length: int) -> npt.NDArray[np.int32]:
        """int32[length] that lies at an address."""
        return np.asarray(_Memory(address, (length,), "<i4"))

    def bytes_at(address: int, length: int) -> npt.NDArray[np.uint8]:
        """uint8[length] that lies at an address."""
        return np.asarray(_Memory(address, (length,), "|u1"))

    def table_at(address: int, rows: int, width: int) -> npt.NDArray[np.int64]:
        """int64[rows, width] that lies at an address."""
        return np.asarray(_Memory(address, (rows, width), "<i8"))

else:
    from llvmlite import ir
    from numba import types
    from numba.core.cgutils import create_struct_proxy, raw_memcpy
    from numba.extending import intrinsic
    from numba.np.arrayobj import populate_array

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

    _WORDS = types.Array(types.int64, 1, "C")
    _HALVES = types.Array(types.int32, 1, "C")
    _BYTES = types.Array(types.uint8, 1, "C")
    _TABLE = types.Array(types.int64, 2, "C")

    def _array_at(context: Any, builder: Any, made: Any, address: Any, shape: list[Any]) -> Any:
        item = context.get_data_type(made.dtype)
        size = context.get_abi_sizeof(item)
        strides = [_WORD(size)]
        for length in reversed(shape[1:]):
            strides.insert(0, builder.mul(strides[0], length))
        array = context.make_array(made)(context, builder)
        data = builder.inttoptr(address, item.as_pointer())
        populate_array(array, data=data, shape=shape, strides=strides, itemsize=_WORD(size), meminfo=None)
        return array._getvalue()

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def words_at(typing_context: Any, address: Any, length: Any) -> Any:
        """int64[length] that lies at an address; whoever made it keeps it alive."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _array_at(context, builder, _WORDS, arguments[0], [arguments[1]])

        return _WORDS(types.int64, types.int64), generate

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def halves_at(typing_context: Any, address: Any, length: Any) -> Any:
        """int32[length] that lies at an address."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _array_at(context, builder, _HALVES, arguments[0], [arguments[1]])

        return _HALVES(types.int64, types.int64), generate

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def bytes_at(typing_context: Any, address: Any, length: Any) -> Any:
        """uint8[length] that lies at an address."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _array_at(context, builder, _BYTES, arguments[0], [arguments[1]])

        return _BYTES(types.int64, types.int64), generate

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def table_at(typing_context: Any, address: Any, rows: Any, width: Any) -> Any:
        """int64[rows, width] that lies at an address."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _array_at(context, builder, _TABLE, arguments[0], [arguments[1], arguments[2]])

        return _TABLE(types.int64, types.int64, types.int64), generate
