"""What a run did, added up over its source partitions and shards."""

from __future__ import annotations

from pathlib import Path

import msgspec

from segue.outputs import SUMMARY

_SUMS = ("lines", "events", "dead_letters", "late", "ahead", "about_nobody", "customers", "state_bytes")


class Part(msgspec.Struct, kw_only=True):
    """What one partition or shard counted. `offers` counts actions by index of the offer."""

    lines: int = 0
    events: int = 0
    dead_letters: int = 0
    late: int = 0
    ahead: int = 0
    about_nobody: int = 0
    customers: int = 0
    state_bytes: int = 0
    counters: dict[str, int] = {}
    offers: dict[int, int] = {}


def encode_part(part: Part) -> bytes:
    """One line."""
    return msgspec.json.encode(part)


def add_up(lines: bytes) -> Part:
    """The sum of all parts."""
    total = Part()
    for line in lines.splitlines():
        part = msgspec.json.decode(line, type=Part)
        for name in _SUMS:
            setattr(total, name, getattr(total, name) + getattr(part, name))
        for counter, count in part.counters.items():
            total.counters[counter] = total.counters.get(counter, 0) + count
        for offer, count in part.offers.items():
            total.offers[offer] = total.offers.get(offer, 0) + count
    return total


def read_summary(folder: Path) -> Part:
    """The sum of the parts that a run left in its output folder."""
    return add_up((folder / f"{SUMMARY}.jsonl").read_bytes())
