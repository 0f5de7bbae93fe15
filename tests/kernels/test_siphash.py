"""SipHash against a naive twin, and the twin against the published vectors of SipHash-2-4."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue_kernels.jit import kernel
from segue_kernels.siphash import customer_key, hash_bytes, hash_bytes128, siphash64, siphash128_words

MASK = (1 << 64) - 1


def naive_siphash(message: bytes, key: bytes, compressions: int, finals: int, bits: int) -> int:
    """SipHash as its paper writes it, in Python integers."""
    k0 = int.from_bytes(key[:8], "little")
    k1 = int.from_bytes(key[8:], "little")
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotate(word: int, by: int) -> int:
        return (word << by | word >> (64 - by)) & MASK

    def rounds(count: int) -> None:
        for _ in range(count):
            v[0] = (v[0] + v[1]) & MASK
            v[1] = rotate(v[1], 13) ^ v[0]
            v[0] = rotate(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK
            v[3] = rotate(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK
            v[3] = rotate(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK
            v[1] = rotate(v[1], 17) ^ v[2]
            v[2] = rotate(v[2], 32)

    if bits == 128:
        v[1] ^= 0xEE
    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        rounds(compressions)
        v[0] ^= word
    v[2] ^= 0xEE if bits == 128 else 0xFF
    rounds(finals)
    low = v[0] ^ v[1] ^ v[2] ^ v[3]
    if bits == 64:
        return low
    v[1] ^= 0xDD
    rounds(finals)
    return low | (v[0] ^ v[1] ^ v[2] ^ v[3]) << 64


# vectors.h of the reference implementation: key 00..0f, message 00, 01, 02 ... of the length given
VECTORS_64 = {
    0: "310e0edd47db6f72",
    1: "fd67dc93c539f874",
    2: "5a4fa9d909806c0d",
    7: "37d1018bf50002ab",
    8: "6224939a79f5f593",
    15: "e545be4961ca29a1",
}
VECTORS_128 = {0: "a3817f04ba25a8e66df67214c7550293", 1: "da87c1d86b99af44347659119b22fc45"}
KEY = bytes(range(16))


@pytest.mark.parametrize(("length", "expected"), VECTORS_64.items())
def test_the_twin_gives_the_published_64_bit_vectors(length: int, expected: str) -> None:
    assert naive_siphash(bytes(range(length)), KEY, 2, 4, 64).to_bytes(8, "little").hex() == expected


@pytest.mark.parametrize(("length", "expected"), VECTORS_128.items())
def test_the_twin_gives_the_published_128_bit_vectors(length: int, expected: str) -> None:
    assert naive_siphash(bytes(range(length)), KEY, 2, 4, 128).to_bytes(16, "little").hex() == expected


def _words(key: bytes) -> tuple[np.uint64, np.uint64]:
    k0, k1 = np.frombuffer(key, dtype="<u8")
    return np.uint64(k0), np.uint64(k1)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.binary(min_size=16, max_size=16))
def test_hashes_of_bytes_equal_the_twin(message: bytes, key: bytes) -> None:
    k0, k1 = _words(key)
    buffer = np.frombuffer(message, dtype=np.uint8)
    low, high = hash_bytes128(buffer, k0, k1)
    assert int(hash_bytes(buffer, k0, k1)) == naive_siphash(message, key, 1, 3, 64)
    assert int(low) | int(high) << 64 == naive_siphash(message, key, 1, 3, 128)


@kernel
def _part(buffer: np.ndarray, start: int, end: int, k0: np.uint64, k1: np.uint64) -> np.uint64:
    return siphash64(buffer, start, end, k0, k1)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_a_part_of_a_buffer_hashes_as_if_alone(before: bytes, message: bytes, after: bytes) -> None:
    k0, k1 = _words(KEY)
    buffer = np.frombuffer(before + message + after, dtype=np.uint8)
    found = _part(buffer, len(before), len(before) + len(message), k0, k1)
    assert int(found) == naive_siphash(message, KEY, 1, 3, 64)


@kernel
def _of_words(words: np.ndarray, k0: np.uint64, k1: np.uint64) -> tuple[np.uint64, np.uint64]:
    return siphash128_words(words[0], words[1], words[2], words[3], words[4], k0, k1)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=5, max_size=5), st.binary(min_size=16, max_size=16)
)
def test_five_words_hash_as_their_forty_bytes(words: list[int], key: bytes) -> None:
    low, high = _of_words(np.array(words, dtype=np.int64), *_words(key))
    message = b"".join(word.to_bytes(8, "little", signed=True) for word in words)
    assert int(low) | int(high) << 64 == naive_siphash(message, key, 1, 3, 128)


def test_kinds_of_customer_have_keys_of_their_own() -> None:
    k0 = np.uint64(0xDEADBEEFDEADBEEF)
    with np.errstate(over="ignore"):
        keys = [int(customer_key(k0, kind)) for kind in range(3)]
    assert keys == [0xDEADBEEFDEADBEEF ^ (kind + 1) * 0x9E3779B97F4A7C15 & MASK for kind in range(3)]
