"""The secret of a deployment as the two key words of every hash, and single hashes for Python callers."""

from __future__ import annotations

import numpy as np

from segue.errors import SettingsError
from segue_kernels.siphash import customer_key, hash_bytes, hash_bytes128

SECRET_BYTES = 16


def key_words(secret: bytes) -> tuple[np.uint64, np.uint64]:
    """The two little-endian uint64 words of a 16-byte secret; SettingsError for any other length."""
    if len(secret) != SECRET_BYTES:
        raise SettingsError(
            "read the secret",
            f"it has {len(secret)} bytes",
            f"give exactly {SECRET_BYTES} bytes (32 hex digits)",
        )
    k0, k1 = np.frombuffer(secret, dtype="<u8")
    return np.uint64(k0), np.uint64(k1)


def hash_text(text: str, k0: np.uint64, k1: np.uint64) -> int:
    """The int64 hash word of a product, category, store, code or source; 0 for the empty text."""
    if not text:
        return 0
    word = int(hash_bytes(np.frombuffer(text.encode(), dtype=np.uint8), k0, k1))
    return _signed(word) or 1


def hash_customer(text: str, kind: int, k0: np.uint64, k1: np.uint64) -> tuple[int, int]:
    """The (low, high) int64 words of a customer's identifier of this kind (record.py: KIND_...)."""
    with np.errstate(over="ignore"):
        key = np.uint64(customer_key(k0, kind))
    low, high = hash_bytes128(np.frombuffer(text.encode(), dtype=np.uint8), key, k1)
    return _signed(int(low)), _signed(int(high))


def hash_message(text: str, k0: np.uint64, k1: np.uint64) -> tuple[int, int]:
    """The (low, high) int64 words of a message id."""
    low, high = hash_bytes128(np.frombuffer(text.encode(), dtype=np.uint8), k0, k1)
    return _signed(int(low)), _signed(int(high))


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
