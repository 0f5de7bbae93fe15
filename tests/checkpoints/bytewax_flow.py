"""A small flow that keeps its state as Segue does: python -m tests.checkpoints.bytewax_flow DIR PROCESS ADDRESS…

Numbers 0, 1, 2, … are summed by key; what is summed up so far stands in a row of the key's part. After NUMBERS the
source goes on without new ones until it is killed, or ends if LAST is set. Each build of a part is told on stdout.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax._bytewax import cluster_main
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.recovery import RecoveryConfig
from bytewax.testing import TestingSink

from segue.checkpoints.bases import load
from segue.checkpoints.journal import Journal
from segue.checkpoints.manifest import decode_manifest
from tests.checkpoints.parts import delta, opened, rows_of

KEYS = 5
NUMBERS = int(os.environ.get("NUMBERS", "200"))
LAST = bool(os.environ.get("LAST"))
EPOCH = timedelta(milliseconds=int(os.environ.get("EPOCH_MS", "10")))
BACKUP = timedelta(milliseconds=int(os.environ.get("BACKUP_MS", "60000")))


def tell(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Numbers(StatefulSourcePartition[tuple[str, int], int]):
    def __init__(self, part: str, at: int) -> None:
        self.part = part
        self.at = at
        self.wakes = True
        tell("source", part, at)

    def next_batch(self) -> Iterable[tuple[str, int]]:
        if self.wakes:  # as the engine's sources do: all keys are saved in the first epoch, whatever comes
            self.wakes = False
            return [(f"key-{key}", -1 - key) for key in range(KEYS)]
        if self.at >= NUMBERS:
            if LAST:
                raise StopIteration
            return []
        self.at += 1
        return [(f"key-{(self.at - 1) % KEYS}", self.at - 1)]

    def next_awake(self) -> datetime:
        return datetime.now(UTC) + timedelta(milliseconds=1)

    def snapshot(self) -> int:
        return self.at


class Source(FixedPartitionedSource[tuple[str, int], int]):
    def list_parts(self) -> list[str]:
        return ["a", "b"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Numbers:
        return Numbers(for_part, resume_state or 0)


class Sum(StatefulBatchLogic[int, int, bytes]):
    def __init__(self, path: Path, journal: Journal, state: bytes | None) -> None:
        self.journal = journal
        self.key = -1
        self.sum = 0
        if state is not None:
            manifest = decode_manifest(state)
            journal.adopt(manifest)
            self.key = manifest.part
            self.sum = rows_of(load(path, manifest))[0][0]
            tell("part", self.key, self.sum)

    def on_batch(self, values: list[int]) -> tuple[Iterable[int], bool]:
        self.key = -1 - values[0] if values[0] < 0 else values[0] % KEYS
        self.sum += sum(value for value in values if value >= 0)
        return [self.sum], StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes:
        return self.journal.append([(self.key, delta({0: [self.sum]}))])[self.key].encode()


def main(path: str, process: str, *addresses: str) -> None:
    folder = opened(Path(path))
    erase_within_ms = int(os.environ.get("ERASE_WITHIN_MS", "0"))
    if erase_within_ms:
        journal = Journal(folder, erase_within_ms=erase_within_ms, file_bytes=1 << 16)
    else:
        journal = Journal(folder, keep=False, file_bytes=1 << 16)
    flow = Dataflow("flow")
    stream = op.input("numbers", flow, Source())

    def build(state: Any) -> Sum:
        return Sum(folder.path, journal, state)

    sums = op.stateful_batch("known", stream, build)
    op.output("out", sums, TestingSink([]))
    cluster_main(  # type: ignore[no-untyped-call]
        flow,
        list(addresses),
        int(process),
        epoch_interval=EPOCH,
        recovery_config=RecoveryConfig(folder.recovery, BACKUP),
    )
    journal.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
