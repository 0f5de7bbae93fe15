"""What the tests of saved state share: shards as one delta of all there is, and parts that are cut and put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from segue.policy.compiled import CompiledPolicies
from segue.reference.world import ReferenceWorld, merge_worlds
from segue.state.delta import ShardDelta, merge_deltas, read_rest
from segue.state.shard import EngineSettings, ShardState
from segue_kernels import row
from tests.reference.pipeline import Parts, new_parts


def whole(state: ShardState) -> ShardDelta:
    """All there is, whatever was saved before; the next delta has nothing in it."""
    used = int(state.arrays.meta[row.ROWS_USED])
    state.arrays.dirty[:used] = 1
    state.arrays.dirty_rows[:used] = np.arange(used)
    state.arrays.meta[row.DIRTY_COUNT] = used
    return state.save()


def said(delta: ShardDelta) -> dict[int, list[int]]:
    """The words of each row that is in use."""
    spans = zip(delta.rows.tolist(), pairwise(delta.starts.tolist()), strict=True)
    return {which: delta.words[start:end].tolist() for which, (start, end) in spans if start < end}


@dataclass
class Journal:
    """Deltas of each part, in order, as they would be written."""

    make_world: Callable[[], ReferenceWorld]
    policies: CompiledPolicies
    settings: EngineSettings
    partitions: int
    deltas: dict[int, list[ShardDelta]] = field(default_factory=dict)
    worlds: list[bytes] = field(default_factory=list)
    arrivals: dict[int, bytes] = field(default_factory=dict)

    def new_parts(self) -> Parts:
        return new_parts(self.policies, self.settings, self.partitions, self.make_world())

    def save(self, parts: Parts) -> None:
        for engine, arrivals in parts.known:
            self.deltas.setdefault(engine.part, []).append(engine.save())
            self.arrivals[engine.part] = arrivals.save()
        for shard in parts.anonymous:
            self.deltas.setdefault(shard.engine.part, []).append(shard.save())
        assert parts.world is not None
        self.worlds.append(parts.world.save())

    def restored(self) -> Parts:
        """New parts in the state that was saved last."""
        parts = self.new_parts()
        assert parts.world is not None
        parts.world.restore(merge_worlds(self.worlds))
        for engine, arrivals in parts.known:
            assert engine.restore(merge_deltas(self.deltas[engine.part])) == []
            arrivals.restore(self.arrivals[engine.part], engine.state.carry_history)
        for shard in parts.anonymous:
            assert shard.restore(merge_deltas(self.deltas[shard.engine.part])) == []
        return parts


def meta_of(delta: ShardDelta) -> np.ndarray:
    """The meta words of a delta."""
    return np.frombuffer(read_rest(delta).meta, np.int64)
