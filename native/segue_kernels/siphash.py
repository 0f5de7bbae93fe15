"""SipHash-1-3, keyed: equal bytes give equal hashes, and without the key nobody can make two strings meet.

Published function, 64-bit and 128-bit output, over bytes [start, end) of a uint8 array or over five words.
Two uint64 words are the key.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segue_kernels.jit import inline, kernel
from segue_kernels.load import load64

Bytes = NDArray[np.uint8]
Word = int | np.int64

_V0 = np.uint64(0x736F6D6570736575)
_V1 = np.uint64(0x646F72616E646F6D)
_V2 = np.uint64(0x6C7967656E657261)
_V3 = np.uint64(0x7465646279746573)
_EE = np.uint64(0xEE)
_DD = np.uint64(0xDD)
_FF = np.uint64(0xFF)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_R13, _R51 = np.uint64(13), np.uint64(51)
_R16, _R48 = np.uint64(16), np.uint64(48)
_R17, _R47 = np.uint64(17), np.uint64(47)
_R21, _R43 = np.uint64(21), np.uint64(43)
_R32 = np.uint64(32)
_R56 = np.uint64(56)
_R64 = np.uint64(64)
_BYTE = np.uint64(8)

KIND_STEP = np.uint64(0x9E3779B97F4A7C15)


@inline
def sip_round(
    v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """One SipRound."""
    v0 = v0 + v1
    v1 = ((v1 << _R13) | (v1 >> _R51)) ^ v0
    v0 = (v0 << _R32) | (v0 >> _R32)
    v2 = v2 + v3
    v3 = ((v3 << _R16) | (v3 >> _R48)) ^ v2
    v0 = v0 + v3
    v3 = ((v3 << _R21) | (v3 >> _R43)) ^ v0
    v2 = v2 + v1
    v1 = ((v1 << _R17) | (v1 >> _R47)) ^ v2
    v2 = (v2 << _R32) | (v2 >> _R32)
    return v0, v1, v2, v3


@inline
def tail_word(buffer: Bytes, start: int, length: int) -> np.uint64:
    """The last length % 8 bytes of a message and its length in the top byte, as SipHash ends every
    message."""
    rest = length & 7
    at = start + length - rest
    word = np.uint64(length & 0xFF) << _R56
    if rest > 0:
        if at + 8 <= buffer.shape[0]:
            word |= load64(buffer, at) & (_ALL >> (_R64 - _BYTE * np.uint64(rest)))
        else:
            for k in range(rest):
                word |= np.uint64(buffer[at + k]) << (_BYTE * np.uint64(k))
    return word


@inline
def siphash64(buffer: Bytes, start: int, end: int, k0: np.uint64, k1: np.uint64) -> np.uint64:
    """64-bit SipHash-1-3 of buffer[start:end]; uint64."""
    v0 = k0 ^ _V0
    v1 = k1 ^ _V1
    v2 = k0 ^ _V2
    v3 = k1 ^ _V3
    length = end - start
    for k in range(length >> 3):
        word = load64(buffer, start + 8 * k)
        v3 ^= word
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0 ^= word
    word = tail_word(buffer, start, length)
    v3 ^= word
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0 ^= word
    v2 ^= _FF
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


@inline
def _finish128(v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64) -> tuple[np.uint64, np.uint64]:
    v2 ^= _EE
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    low = v0 ^ v1 ^ v2 ^ v3
    v1 ^= _DD
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    return low, v0 ^ v1 ^ v2 ^ v3


@inline
def siphash128(
    buffer: Bytes, start: int, end: int, k0: np.uint64, k1: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """128-bit SipHash-1-3 of buffer[start:end]; (low, high) uint64."""
    v0 = k0 ^ _V0
    v1 = k1 ^ _V1 ^ _EE
    v2 = k0 ^ _V2
    v3 = k1 ^ _V3
    length = end - start
    for k in range(length >> 3):
        word = load64(buffer, start + 8 * k)
        v3 ^= word
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0 ^= word
    word = tail_word(buffer, start, length)
    v3 ^= word
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0 ^= word
    return _finish128(v0, v1, v2, v3)


@inline
def _absorb(
    v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64, word: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3 ^ word)
    return v0 ^ word, v1, v2, v3


@inline
def siphash128_words(
    w0: Word, w1: Word, w2: Word, w3: Word, w4: Word, k0: np.uint64, k1: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """128-bit SipHash-1-3 of five int64 words as 40 little-endian bytes; (low, high) uint64."""
    v0 = k0 ^ _V0
    v1 = k1 ^ _V1 ^ _EE
    v2 = k0 ^ _V2
    v3 = k1 ^ _V3
    v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, np.uint64(w0))
    v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, np.uint64(w1))
    v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, np.uint64(w2))
    v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, np.uint64(w3))
    v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, np.uint64(w4))
    v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, np.uint64(40) << _R56)
    return _finish128(v0, v1, v2, v3)


@inline
def customer_key(k0: np.uint64, kind: int) -> np.uint64:
    """The first key word for a customer of this kind: the same text is another customer as another kind."""
    return k0 ^ (np.uint64(kind + 1) * KIND_STEP)


@kernel
def hash_bytes(buffer: Bytes, k0: np.uint64, k1: np.uint64) -> np.uint64:
    """siphash64 of a whole array, for Python callers."""
    return siphash64(buffer, 0, buffer.shape[0], k0, k1)


@kernel
def hash_bytes128(buffer: Bytes, k0: np.uint64, k1: np.uint64) -> tuple[np.uint64, np.uint64]:
    """siphash128 of a whole array, for Python callers."""
    return siphash128(buffer, 0, buffer.shape[0], k0, k1)
