"""SipHash-1-3 in plain integers, from the published description; for the few words where hashes are compared.

Key: two 64-bit words, little-endian in the 16 bytes of a deployment's secret.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.reference.event import ANONYMOUS, LOYALTY, USER

KINDS = (USER, LOYALTY, ANONYMOUS)
MASK = (1 << 64) - 1
KIND_STEP = 0x9E3779B97F4A7C15


def _rotate(x: int, bits: int) -> int:
    return ((x << bits) | (x >> (64 - bits))) & MASK


def _round(v: list[int]) -> None:
    v[0] = (v[0] + v[1]) & MASK
    v[1] = _rotate(v[1], 13) ^ v[0]
    v[0] = _rotate(v[0], 32)
    v[2] = (v[2] + v[3]) & MASK
    v[3] = _rotate(v[3], 16) ^ v[2]
    v[0] = (v[0] + v[3]) & MASK
    v[3] = _rotate(v[3], 21) ^ v[0]
    v[2] = (v[2] + v[1]) & MASK
    v[1] = _rotate(v[1], 17) ^ v[2]
    v[2] = _rotate(v[2], 32)


def _absorbed(message: bytes, k0: int, k1: int, wide: bool) -> list[int]:
    v = [
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D ^ (0xEE if wide else 0),
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    ]
    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) & 0xFF])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        _round(v)
        v[0] ^= word
    return v


def _squeezed(v: list[int]) -> int:
    for _ in range(3):
        _round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def siphash64(message: bytes, k0: int = 0, k1: int = 0) -> int:
    """64-bit SipHash-1-3."""
    v = _absorbed(message, k0, k1, wide=False)
    v[2] ^= 0xFF
    return _squeezed(v)


def siphash128(message: bytes, k0: int = 0, k1: int = 0) -> tuple[int, int]:
    """128-bit SipHash-1-3: (low, high)."""
    v = _absorbed(message, k0, k1, wide=True)
    v[2] ^= 0xEE
    low = _squeezed(v)
    v[1] ^= 0xDD
    return low, _squeezed(v)


def key_words(secret: bytes) -> tuple[int, int]:
    """The two words of a 16-byte secret."""
    return int.from_bytes(secret[:8], "little"), int.from_bytes(secret[8:], "little")


def signed(word: int) -> int:
    """The same 64 bits as an int64."""
    return word - (1 << 64) if word >> 63 else word


def field_hash(text: str, secret: bytes) -> int:
    """How a product, category, store, code or source stands in a record: int64, 0 only if absent."""
    if not text:
        return 0
    return signed(siphash64(text.encode(), *key_words(secret)) or 1)


def customer_hash(kind_index: int, identifier: str, secret: bytes) -> tuple[int, int]:
    """(low, high) of a customer: the kind (0 user, 1 loyalty, 2 anonymous) varies the key."""
    k0, k1 = key_words(secret)
    return siphash128(identifier.encode(), k0 ^ ((kind_index + 1) * KIND_STEP & MASK), k1)


def key_hash(key: tuple[str, str], secret: bytes) -> tuple[int, int]:
    """The same of (kind, identifier)."""
    return customer_hash(KINDS.index(key[0]), key[1], secret)


def message_hash(identifier: str, secret: bytes) -> tuple[int, int]:
    """(low, high) of an event's id."""
    return siphash128(identifier.encode(), *key_words(secret))


def words_hash(words: Sequence[int], secret: bytes) -> tuple[int, int]:
    """(low, high) of some 64-bit words; negative ones stand for the same 64 bits."""
    message = b"".join((word & MASK).to_bytes(8, "little") for word in words)
    return siphash128(message, *key_words(secret))


def decision_hash(
    customer: tuple[int, int], message: tuple[int, int], slot: str, secret: bytes
) -> tuple[int, int]:
    """(low, high) of a decision: customer, trigger and slot ("channel/placement", hashed with a zero key)."""
    return words_hash((*customer, *message, siphash64(slot.encode())), secret)


def action_hash(decision: tuple[int, int], journey: str, step: int, secret: bytes) -> tuple[int, int]:
    """(low, high) of an action: its decision, journey and step."""
    return words_hash((*decision, siphash64(journey.encode()), step, 0), secret)


def timer_hash(
    journey: str, key: int, time_ms: int, step: int, secret: bytes, message: int = 0
) -> tuple[int, int]:
    """(low, high) of a trigger that is no event: a wait or a session's end; of a check without journey ("").

    message  low word of the id of what armed the wait
    """
    word = siphash64(journey.encode()) if journey else 0
    return words_hash((word, key, time_ms, step, message), secret)
