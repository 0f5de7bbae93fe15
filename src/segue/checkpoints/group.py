"""Parts of a step are saved together: the first that is asked for its manifest in an epoch has all written at once.

Bytewax asks every part of a step, one after the other, when the step has done with the epoch: nothing happens to any
part in between. One write and one sync for all of them is what keeps the pause short.
"""

from __future__ import annotations

from collections.abc import Callable

from segue.checkpoints.journal import Journal
from segue.checkpoints.manifest import decode_manifest
from segue.run.kill import point
from segue.state.delta import ShardDelta

Saved = tuple[
    bytes, ...
]  # what Bytewax keeps of a part: its manifest, and that of the world it was saved with
Save = Callable[[], ShardDelta]

WORLD_PART = 1 << 20  # number of what the parts of a process share: the reference tables


class Group:
    """The parts of one step that live in this process. `world` saves what they share, if this step saves it."""

    def __init__(self, journal: Journal, world: Save | None = None) -> None:
        self._journal = journal
        self._world = world
        self._save: dict[int, Save] = {}
        self._touched: set[int] = set()
        self._saved: dict[int, Saved] = {}

    def join(self, part: int, save: Save, saved: Saved | None = None) -> None:
        """A part begins here, or goes on from what was saved. `save` gives what changed since its last call."""
        self._save[part] = save
        if saved is None:
            self._touched.add(part)
        else:
            self._saved[part] = saved
            self._journal.adopt(decode_manifest(saved[0]))

    def touch(self, part: int) -> None:
        """The part is about to change: what was saved of it is no longer what it is."""
        self._touched.add(part)

    def saved(self, part: int) -> Saved:
        """The part as it is now; afterwards all parts of the group are durable."""
        if part in self._touched:
            self._append(sorted(self._touched))
            self._touched.clear()
            point("after_delta")
        return self._saved[part]

    def _append(self, parts: list[int]) -> None:
        deltas = [(part, self._save[part]()) for part in parts]
        if self._world is not None:
            deltas.append((WORLD_PART, self._world()))
        manifests = self._journal.append(deltas)
        world = (manifests[WORLD_PART].encode(),) if self._world is not None else ()
        for part in parts:
            self._saved[part] = (manifests[part].encode(), *world)
