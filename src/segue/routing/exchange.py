"""Packets between processes of one machine: rows go through shared memory, the message has only their place.

A source partition has a file of a few slots, mapped by every process; its reader's process writes the packets that
leave it, batch after batch, into one slot after the other. A slot is written again only once every shard has taken
the batch that was in it (Pace); who takes a packet copies it out. Where a packet finds no room, or there is no
shared memory, it travels by value: the same packet, more slowly.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segue.limits import IN_FLIGHT_BATCHES_MAX
from segue.settings import Settings
from segue.sources.pace import Pace
from segue_kernels.record import RECORD_WORDS

SLOTS = IN_FLIGHT_BATCHES_MAX + 1
ROW_BYTES = 256  # a record and its strings, generously
_ALIGNED = 64

Words = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


def _path(folder: str, partition: int) -> Path:
    return Path(folder) / f"packets-{partition:05d}"


def create_exchange(folder: str, partitions: int, batch_rows: int) -> bool:
    """Reserve the files in a folder of shared memory; False, and nothing reserved, if there is not enough."""
    size = SLOTS * max(batch_rows, 1_024) * ROW_BYTES
    made: list[Path] = []
    try:
        for partition in range(partitions):
            path = _path(folder, partition)
            made.append(path)
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)  # a page that can't be had later would be a SIGBUS
    except (OSError, AttributeError):
        for path in made:
            path.unlink(missing_ok=True)
        return False
    return True


class Exchange:
    """The files of one run, as one of its processes sees them."""

    def __init__(self, folder: str, pace: Pace) -> None:
        self._folder = folder
        self._pace = pace
        self._maps: dict[int, npt.NDArray[np.uint8]] = {}
        self._batch: dict[int, tuple[int, int]] = {}  # partition -> (batch, bytes used of its slot)

    def _map(self, partition: int) -> Bytes:
        area = self._maps.get(partition)
        if area is None:
            with _path(self._folder, partition).open("r+b") as file:
                area = np.frombuffer(mmap.mmap(file.fileno(), 0), np.uint8)
            self._maps[partition] = area
        return area

    def put(self, partition: int, batch: int, records: Words, text: Bytes) -> int:
        """Write a packet's rows and text; where they begin, or -1 if there is no room."""
        area = self._map(partition)
        slot_bytes = len(area) // SLOTS
        current, used = self._batch.get(partition, (-1, 0))
        if current != batch:
            used = 0
        size = records.nbytes + len(text)
        if used + size > slot_bytes or self._pace.taken_by_all(partition) <= batch - SLOTS:
            return -1
        at = (batch % SLOTS) * slot_bytes + used
        middle = at + records.nbytes
        area[at:middle] = records.reshape(-1).view(np.uint8)
        area[middle : middle + len(text)] = text
        self._batch[partition] = (batch, -(-(used + size) // _ALIGNED) * _ALIGNED)
        return at

    def take(self, partition: int, at: int, rows: int, text_bytes: int) -> tuple[Words, Bytes]:
        """Copies of a packet's rows and text."""
        area = self._map(partition)
        middle = at + rows * RECORD_WORDS * 8
        records = area[at:middle].copy().view(np.int64).reshape(-1, RECORD_WORDS)
        return records, area[middle : middle + text_bytes].copy()


_exchange: Exchange | None = None


def share_packets(settings: Settings, pace: Pace) -> None:
    """Let this process's packets go through the run's shared memory, if it has any."""
    global _exchange
    _exchange = Exchange(settings.exchange_path, pace) if settings.exchange_path else None


def exchange() -> Exchange | None:
    """The exchange of this process's run."""
    return _exchange
