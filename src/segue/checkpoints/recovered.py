"""What a process knows of an earlier run before the flow starts: read once, handed to the flow."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from segue.actions.ledger import read_changes
from segue.checkpoints.bases import load
from segue.checkpoints.folder import StateFolder
from segue.checkpoints.group import WORLD_PART, Saved
from segue.checkpoints.journal import Journal
from segue.checkpoints.manifest import decode_manifest
from segue.checkpoints.preload import Preload
from segue.checkpoints.store import ResumePoint, resume_point
from segue.checkpoints.world import merged_world
from segue.limits import LANES_MAX
from segue.outputs import LEDGER
from segue.policy.load import load_policies
from segue.run.failure import say
from segue.settings import Settings, secret
from segue.sinks.files import OutputPosition, batches_until, output_path
from segue.sinks.kafka.message import LanePosition, lane_label
from segue.sources.interface import Source
from segue.state.delta import ShardDelta
from segue_kernels.receipt import ANONYMOUS_PART

if TYPE_CHECKING:
    from segue.sinks.kafka.tail import Tail

NOTES = "notes.log"  # in the state folder: what people should know of its runs

Words = npt.NDArray[np.int64]


@dataclass
class Recovered:
    """Where a run goes on.

    partitions  names of the source's, in the order of their index, which is the same in all runs of a deployment
    folder      where the state is; None = nothing survives
    journal     where this process writes its own
    preload     what was saved of the parts, on its way
    world       what was saved of the reference tables
    tail        of output topics: what was sent behind the cut
    written     of each file that was written to how much is durable, whether or not these policies write to it
    out         their folder
    """

    partitions: tuple[str, ...]
    folder: StateFolder | None = None
    journal: Journal | None = None
    preload: Preload | None = None
    world: bytes | None = None
    tail: Tail | None = None
    written: dict[str, OutputPosition] = field(default_factory=dict)
    out: str = ""
    _told: set[str] = field(default_factory=set)

    def load(self, saved: Saved) -> tuple[int, ShardDelta]:
        """The part's number and its state, which lives until the next one is loaded. Raises CheckpointError."""
        assert self.preload is not None
        manifest = decode_manifest(saved[0])
        return manifest.part, self.preload.take(manifest)

    def receipts(self, part: int) -> Words | None:
        """Of the part, behind the cut; None = none."""
        return None if self.tail is None else self.tail.receipts.get(part)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The files that were written to."""
        return tuple(self.written)

    def ledger_changes(self) -> Words:
        """All that the ledger of vouchers has changed, up to the cut, int64[n, CHANGE_WORDS]."""
        position = self.written.get(LEDGER)
        return read_changes(batches_until(output_path(self.out, LEDGER), position) if position else ())

    def tell(self, sentences: list[str]) -> None:
        """What changed policies made of the state, for people and for the folder's log: each sentence once, though
        every part says it."""
        assert self.folder is not None
        for sentence in sentences:
            if sentence not in self._told:
                self._told.add(sentence)
                say(sentence)
                with open(self.folder.path / NOTES, "a") as notes:
                    notes.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {sentence}\n")

    def close(self) -> None:
        """Let go of the journal."""
        if self.preload is not None:
            self.preload.close()
        if self.journal is not None:
            self.journal.close()


def without_state(source: Source[Any]) -> Recovered:
    """A run that begins, of which nothing survives."""
    return Recovered(source.partitions)


def recover(
    settings: Settings, source: Source[Any], folder: StateFolder, process: int = 0, processes: int = 1
) -> Recovered:
    """What the newest epoch that can be resumed left; of the parts, those of this process. Raises CheckpointError."""
    point = resume_point(folder.path)
    manifests = sorted(point.manifests().items())  # Bytewax asks for the parts in this order
    preload = Preload(
        folder.path,
        (
            manifest
            for _, listed in manifests
            for manifest in listed
            if manifest.part != WORLD_PART and manifest.part % ANONYMOUS_PART % processes == process
        ),
    )
    # a process's world stands beside each part that was saved with it
    worlds = {
        (manifest.base, manifest.file, manifest.offset): manifest
        for _, listed in manifests
        for manifest in listed
        if manifest.part == WORLD_PART
    }
    try:
        return Recovered(
            partitions=folder.deployment.partitions,
            folder=folder,
            preload=preload,
            world=merged_world(load(folder.path, manifest) for manifest in worlds.values()),
            tail=_tail(settings, point) if settings.kafka.brokers else None,
            written={
                key: state for (_, key), state in point.states.items() if isinstance(state, OutputPosition)
            },
            out=settings.out,
            journal=Journal(folder, erase_within_ms=settings.erase_within_ms),
        )
    except BaseException:
        preload.close()
        raise


def _tail(settings: Settings, point: ResumePoint) -> Tail:
    """Fence who was at work before, and read what was sent behind the cut."""
    from segue.sinks.kafka.encode import LaneEncoder
    from segue.sinks.kafka.tail import prepare_outputs

    policies = load_policies(settings.policies, secret=secret(), currency=settings.currency, native=False)
    labels = {lane_label(lane): lane for lane in range(LANES_MAX)}
    positions = {
        labels[key]: state for (_, key), state in point.states.items() if isinstance(state, LanePosition)
    }
    return prepare_outputs(settings.kafka, LaneEncoder(policies, settings.kafka).topics, positions)
