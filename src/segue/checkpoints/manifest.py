"""What a part's snapshot says: where its base is, and which records of journals follow it. Less than 1 KB."""

from __future__ import annotations

from typing import Any

import msgspec

from segue.errors import CheckpointError

_STEP = "read a checkpoint"
_TAG = b'{"segue":"manifest"'


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """Records of a part in one journal file. `first_ms`: none of them is older (wall clock)."""

    file: str
    records: int
    bytes: int
    first_ms: int


class Manifest(msgspec.Struct, frozen=True, tag_field="segue", tag="manifest"):
    """A part as of one epoch: `base`, then the records of `chain`, oldest first.

    part        number of the part
    base        file in the folder of bases, "" = begins with nothing
    base_bytes  its size
    file        journal of the newest record ("" = no record); the record tells where the one before it is
    offset      of that record
    chain       the records since the base
    time_ms     when this was made (wall clock)
    extra       whatever the owner of the part wants to find again
    """

    part: int
    base: str = ""
    base_bytes: int = 0
    file: str = ""
    offset: int = 0
    chain: tuple[Segment, ...] = ()
    time_ms: int = 0
    extra: dict[str, int] = {}

    @property
    def records(self) -> int:
        """Records since the base."""
        return sum(segment.records for segment in self.chain)

    @property
    def record_bytes(self) -> int:
        """Bytes of the records since the base."""
        return sum(segment.bytes for segment in self.chain)

    def files(self) -> set[str]:
        """Names of all files it needs."""
        names = {segment.file for segment in self.chain}
        return names | {self.base} if self.base else names

    def encode(self) -> bytes:
        """What Bytewax keeps."""
        return msgspec.json.encode(self)


def decode_manifest(state: bytes) -> Manifest:
    """What `encode` was given. Raises CheckpointError."""
    try:
        return msgspec.json.decode(state, type=Manifest)
    except msgspec.MsgspecError as error:
        raise CheckpointError(
            _STEP,
            f"a manifest in the recovery store is not valid: {error}",
            "was it written by this version?",
        ) from error


def manifests_in(state: Any) -> list[Manifest]:
    """All manifests in a saved state: encoded or not, alone or inside tuples, lists and dicts."""
    if isinstance(state, Manifest):
        return [state]
    if isinstance(state, bytes):
        return [decode_manifest(state)] if state.startswith(_TAG) else []
    if isinstance(state, dict):
        state = list(state.values())
    if isinstance(state, list | tuple):
        return [manifest for each in state for manifest in manifests_in(each)]
    return []
