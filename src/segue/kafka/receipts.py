"""Names of offers as receipts carry them."""

from __future__ import annotations

from hashlib import blake2b


def offer_hash(journey_id: str, offer_id: str) -> int:
    """The hash of an offer that stands in a receipt (segue_kernels/receipt.py): int64, never 0."""
    digest = blake2b(f"{journey_id}/{offer_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or 1
