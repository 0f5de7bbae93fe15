"""Whether a delta counts alone: what a shard's `rest` says of itself (msgpack: [format, is_base, …])."""

from __future__ import annotations

from typing import Any

import msgspec


def _fields(rest: bytes) -> list[Any] | None:
    try:
        fields = msgspec.msgpack.decode(rest)
    except msgspec.DecodeError:
        return None
    if isinstance(fields, list) and len(fields) > 1 and isinstance(fields[1], bool):
        return fields
    return None


def is_whole(rest: bytes) -> bool:
    """Whether all rows are in the delta: what was saved before counts no more."""
    fields = _fields(rest)
    return fields is not None and fields[1]


def made_whole(rest: bytes) -> bytes:
    """The same for a delta that has all rows now."""
    fields = _fields(rest)
    if fields is None or fields[1]:
        return rest
    fields[1] = True
    return msgspec.msgpack.encode(fields)
