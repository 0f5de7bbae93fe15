"""Parts of a step are saved together: the first that is asked for its manifest in an epoch has all written at once.

Bytewax asks every part of a step, one after the other, when the step has done with the epoch: nothing happens to any
part in between. One write and one sync for all of them is what keeps the pause short.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from segue import limits
from segue.checkpoints.journal import Journal
from segue.checkpoints.manifest import decode_manifest
from segue.checkpoints.record import Room
from segue.run.kill import point
from segue.state.delta import ShardDelta

Saved = tuple[
    bytes, ...
]  # what Bytewax keeps of a part: its manifest, and that of the world it was saved with
Words = npt.NDArray[np.int64]
Save = Callable[
    [Words | None], ShardDelta
]  # what changed since the last call; given words, it may live in them

WORLD_PART = 1 << 20  # number of what the parts of a process share: the reference tables


class _Part:
    """A part of the group: how it is saved, and what was.

    changed  how many of its rows changed since it was saved; None = it is only saved at the end of an epoch
    early    so many are saved before that
    rows     saved in this epoch
    """

    def __init__(self, save: Save, changed: Callable[[], int] | None, saved: Saved) -> None:
        self.save = save
        self.changed = changed
        self.early = limits.SAVE_EARLY_ROWS
        self.rows = 0
        self.saved = saved

    def end_epoch(self) -> None:
        """The next epoch is expected to change as many rows."""
        self.early = max(limits.SAVE_EARLY_ROWS, self.rows // limits.SAVE_EARLY_SHARE)
        self.rows = 0


class Group:
    """The parts of one step that live in this process. `world` saves what they share, if this step saves it.

    Rows that changed are saved while the epoch goes on, some hundred of a part at a time, and fewer shortly before it
    ends: so that little is left for its end. Until then nothing refers to what was written.

    epoch_ms  how long epochs are; 0 = nobody knows
    """

    def __init__(
        self, journal: Journal, world: Callable[[], ShardDelta] | None = None, epoch_ms: int = 0
    ) -> None:
        self._journal = journal
        self._world = world
        self._until_late_s = (epoch_ms - limits.SAVE_LATE_MS) / 1_000 if epoch_ms else math.inf
        self._late_at = math.inf
        self._parts: dict[int, _Part] = {}
        self._touched: set[int] = set()
        self._room = Room()
        self._room_words = 0

    def join(
        self, part: int, save: Save, saved: Saved | None = None, changed: Callable[[], int] | None = None
    ) -> None:
        """A part begins here, or goes on from what was saved. `changed`: its rows that changed since `save`."""
        self._parts[part] = _Part(save, changed, saved or ())
        if saved is None:
            self._touched.add(part)
        else:
            self._journal.adopt(decode_manifest(saved[0]))

    def touch(self, part: int) -> None:
        """The part is about to change: what was saved of it is no longer what it is."""
        self._touched.add(part)
        its = self._parts[part]
        if its.changed is None:
            return
        changed = its.changed()
        if changed >= its.early or (changed >= limits.SAVE_LATE_ROWS and time.monotonic() >= self._late_at):
            self._journal.append_early([(part, self._delta(its))])

    def saved(self, part: int) -> Saved:
        """The part as it is now; afterwards all parts of the group are durable, or will be when who promised to settle
        the journal has done so."""
        if part in self._touched:
            self._append(sorted(self._touched))
            if self._world is not None:  # the last group of a process
                self._journal.begin_sync()
            self._late_at = time.monotonic() + self._until_late_s
            self._touched.clear()
            point("after_delta")
        return self._parts[part].saved

    def _append(self, parts: list[int]) -> None:
        manifests = self._journal.append(self._deltas(parts))
        world = (manifests[WORLD_PART].encode(),) if self._world is not None else ()
        for part in parts:
            self._parts[part].saved = (manifests[part].encode(), *world)
            self._parts[part].end_epoch()

    def _deltas(self, parts: list[int]) -> Iterator[tuple[int, ShardDelta]]:
        for part in parts:
            yield part, self._delta(self._parts[part])
        if self._world is not None:
            yield WORLD_PART, self._world()

    def _delta(self, part: _Part) -> ShardDelta:
        """What changed in it, in memory that is used again and again: fresh pages cost more than all else."""
        delta = part.save(self._room.words(self._room_words) if self._room_words else None)
        part.rows += len(delta.rows)
        self._room_words = min(limits.SAVE_ROOM_WORDS_MAX, max(self._room_words, 2 * len(delta.words)))
        return delta
