"""The reference tables as a part of the state: a row for each save, small ones gathered into larger ones.

Each save says what was let in since the last one. Two neighbours become one as soon as the newer is not much smaller:
so there are few rows, and what is written again and again is little. All become one when something was erased.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from segue.reference.world import forgets, merge_worlds
from segue.state.delta import FORMAT, Rest, ShardDelta


class SavedWorld:
    """What one process saves of its world. `begun` is what the world began with, of an earlier run."""

    def __init__(self, begun: bytes | None) -> None:
        self._saves = [] if begun is None else [begun]
        self._is_first = True

    def add(self, save: bytes) -> ShardDelta:
        """The delta that says this, too."""
        before = len(self._saves)
        self._saves.append(save)
        all_of_them = forgets(save)
        while len(self._saves) > 1 and (all_of_them or 2 * len(self._saves[-1]) >= len(self._saves[-2])):
            newest = self._saves.pop()
            self._saves[-1] = merge_worlds([self._saves[-1], newest])
        kept = 0 if self._is_first else len(self._saves) - 1
        changed = [_padded(save) for save in self._saves[kept:]]
        changed += [b""] * (before - len(self._saves))
        rest = Rest(FORMAT, self._is_first, b"", b"", {})
        self._is_first = False
        starts = np.cumsum([0, *(len(words) // 8 for words in changed)], dtype=np.int64)
        return ShardDelta(
            rows=np.arange(kept, kept + len(changed)),
            starts=starts,
            words=np.frombuffer(bytearray().join(changed), np.int64),
            rest=msgspec.msgpack.encode(rest),
        )


def merged_world(states: Iterable[ShardDelta]) -> bytes | None:
    """All that the processes of an earlier run saved of their worlds; None = nothing."""
    saves = [save for state in states for save in _saves_of(state)]
    return merge_worlds(saves) if saves else None


def _saves_of(state: ShardDelta) -> list[bytes]:
    ends = zip(state.starts[:-1].tolist(), state.starts[1:].tolist(), strict=True)
    return [_unpadded(state.words[start:end].tobytes()) for start, end in ends if end > start]


def _padded(save: bytes) -> bytes:
    return len(save).to_bytes(8, "little") + save + bytes(-len(save) % 8)


def _unpadded(padded: bytes) -> bytes:
    return padded[8 : 8 + int.from_bytes(padded[:8], "little")]
