"""Unaligned loads from a byte array: eight bytes as a little-endian word, and masks over 32 bytes.

The compiled forms check no bounds: the caller keeps 64 bytes behind the last byte it asks for. With
NUMBA_BOUNDSCHECK=1 or NUMBA_DISABLE_JIT=1 the plain forms stand in, and a read outside the array is an error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import config as numba_config
from numba.core import types
from numba.core.cgutils import create_struct_proxy
from numba.extending import intrinsic
from numpy.typing import NDArray

from segue_kernels.jit import JIT_DISABLED, inline

Bytes = NDArray[np.uint8]
PADDING_BYTES = 64

_CHECKED = JIT_DISABLED or bool(numba_config.BOUNDSCHECK)


def _pointer(context: Any, builder: Any, signature: Any, arguments: Any, to: ir.Type) -> Any:
    array = create_struct_proxy(signature.args[0])(context, builder, value=arguments[0])
    raw = builder.bitcast(array.data, ir.IntType(8).as_pointer())
    return builder.bitcast(builder.gep(raw, [arguments[1]]), to.as_pointer())


def _signature(result: Any, array: Any) -> Any:
    return result(array, types.int64)


@intrinsic  # type: ignore[untyped-decorator,unused-ignore]
def _load8(typing_context: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = builder.load(_pointer(context, builder, signature, arguments, ir.IntType(8)))
        return builder.zext(byte, ir.IntType(64))

    return _signature(types.int64, array), generate


@intrinsic  # type: ignore[untyped-decorator,unused-ignore]
def _load64(typing_context: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer(context, builder, signature, arguments, ir.IntType(64)), align=1)

    return _signature(types.uint64, array), generate


def _block(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    vector = ir.VectorType(ir.IntType(8), 32)
    return builder.load(_pointer(context, builder, signature, arguments, vector), align=1)


def _splat(byte: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(8), 32), [ir.Constant(ir.IntType(8), byte)] * 32)


def _as_word(builder: Any, hits: Any) -> Any:
    return builder.zext(builder.bitcast(hits, ir.IntType(32)), ir.IntType(64))


@intrinsic  # type: ignore[untyped-decorator,unused-ignore]
def _string_marks32(typing_context: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _block(context, builder, signature, arguments)
        quote = builder.icmp_unsigned("==", block, _splat(0x22))
        backslash = builder.icmp_unsigned("==", block, _splat(0x5C))
        # signed: below a space are the control bytes and every byte of 0x80 and more
        other = builder.icmp_signed("<", block, _splat(0x20))
        return _as_word(builder, builder.or_(builder.or_(quote, backslash), other))

    return _signature(types.uint64, array), generate


@intrinsic  # type: ignore[untyped-decorator,unused-ignore]
def _newline_marks32(typing_context: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _block(context, builder, signature, arguments)
        return _as_word(builder, builder.icmp_unsigned("==", block, _splat(0x0A)))

    return _signature(types.uint64, array), generate


@intrinsic  # type: ignore[untyped-decorator,unused-ignore]
def _trailing_zeros(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator,unused-ignore]
def _count_ones(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


def _plain_load8(buffer: Bytes, index: int) -> int:
    byte: int = np.int64(buffer[index])  # type: ignore[assignment]
    return byte


def _plain_load64(buffer: Bytes, index: int) -> np.uint64:
    word = np.uint64(0)
    for k in range(8):
        word |= np.uint64(buffer[index + k]) << np.uint64(8 * k)
    return word


def _plain_string_marks32(buffer: Bytes, index: int) -> np.uint64:
    marks = np.uint64(0)
    for k in range(32):
        byte = buffer[index + k]
        if byte == 0x22 or byte == 0x5C or byte < 0x20 or byte >= 0x80:
            marks |= np.uint64(1) << np.uint64(k)
    return marks


def _plain_newline_marks32(buffer: Bytes, index: int) -> np.uint64:
    marks = np.uint64(0)
    for k in range(32):
        if buffer[index + k] == 0x0A:
            marks |= np.uint64(1) << np.uint64(k)
    return marks


def _plain_trailing_zeros(word: np.uint64) -> int:
    count = 0
    while (word >> np.uint64(count)) & np.uint64(1) == np.uint64(0):
        count += 1
    return count


def _plain_count_ones(word: np.uint64) -> int:
    count = 0
    for k in range(64):
        if (word >> np.uint64(k)) & np.uint64(1) != np.uint64(0):
            count += 1
    return count


if _CHECKED:
    count_ones = inline(_plain_count_ones)
    load8 = inline(_plain_load8)
    load64 = inline(_plain_load64)
    string_marks32 = inline(_plain_string_marks32)
    newline_marks32 = inline(_plain_newline_marks32)
    trailing_zeros = inline(_plain_trailing_zeros)
else:

    @inline
    def load8(buffer: Bytes, index: int) -> int:
        """The byte at `index` as int64."""
        found: int = _load8(buffer, index)
        return found

    @inline
    def load64(buffer: Bytes, index: int) -> np.uint64:
        """The eight bytes from `index` on as a little-endian uint64."""
        found: np.uint64 = _load64(buffer, index)
        return found

    @inline
    def string_marks32(buffer: Bytes, index: int) -> np.uint64:
        """Bit k is set where byte index+k is a quote, a backslash, a control byte or not ASCII."""
        found: np.uint64 = _string_marks32(buffer, index)
        return found

    @inline
    def newline_marks32(buffer: Bytes, index: int) -> np.uint64:
        """Bit k is set where byte index+k is a newline."""
        found: np.uint64 = _newline_marks32(buffer, index)
        return found

    @inline
    def trailing_zeros(word: np.uint64) -> int:
        """The number of zero bits below the lowest set bit; `word` is not 0."""
        found: int = _trailing_zeros(word)
        return found

    @inline
    def count_ones(word: np.uint64) -> int:
        """The number of set bits."""
        found: int = _count_ones(word)
        return found
