"""A public data set as a source: one partition, the same lines in the same order every time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from segue.errors import SettingsError, did_you_mean
from segue.sources.interface import LineChunk

_NEWLINE = 10


class DatasetPosition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lines, and bytes of them, that were read."""

    line: int = 0
    offset: int = 0


@dataclass(frozen=True)
class _Dataset:
    """currency: of its prices; load: what has `events()` (blocks of whole lines) and `counts.events`."""

    currency: str
    load: Callable[[], Any]


@cache
def _complete_journey() -> Any:
    from segue.datasets.completejourney import CompleteJourney

    return CompleteJourney()


DATASETS = {"completejourney": _Dataset("USD", _complete_journey)}


def _dataset(name: str) -> _Dataset:
    if name not in DATASETS:
        raise SettingsError("read a data set", f'no data set "{name}"', did_you_mean(name, list(DATASETS)))
    return DATASETS[name]


def dataset_currency(name: str) -> str:
    """The currency of a data set's prices. Raises SettingsError for an unknown name."""
    return _dataset(name).currency


class DatasetSource(msgspec.Struct, frozen=True):
    """A data set that is installed. It is loaded where it is read, and kept for this process."""

    name: str

    @property
    def partitions(self) -> tuple[str, ...]:
        """One, named like the data set."""
        return (self.name,)

    @property
    def events(self) -> int:
        """Lines in all."""
        count: int = _dataset(self.name).load().counts.events
        return count

    def open(self, name: str, position: DatasetPosition | None = None) -> DatasetPartition:
        """Begin to read, at the start or behind what was read before."""
        return DatasetPartition(name, _dataset(name).load().events(), position or DatasetPosition())


def dataset_source(name: str) -> DatasetSource:
    """The data set of this name. SettingsError if there is none, SourceError if it is not installed."""
    _dataset(name).load()
    return DatasetSource(name)


class DatasetPartition:
    """Lines out of blocks: chunks have `rows_max` lines unless a block ends or `bytes_max` is met."""

    def __init__(self, name: str, blocks: Iterator[bytes], position: DatasetPosition) -> None:
        self._name = name
        self._blocks = blocks
        self._line = 0
        self._offset = 0
        self._block: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        self._ends: npt.NDArray[np.int64] = np.empty(0, np.int64)  # behind each line of the block
        self._taken = 0  # lines of the block
        while self._line < position.line and self._next(position.line - self._line, 1 << 60):
            pass

    @property
    def name(self) -> str:
        """The data set's."""
        return self._name

    def read(self, rows_max: int, bytes_max: int) -> LineChunk | None:
        """The next chunk; None at the end."""
        return self._next(max(1, rows_max), bytes_max)

    def _next(self, rows_max: int, bytes_max: int) -> LineChunk | None:
        if self._taken == len(self._ends):
            block = next(self._blocks, None)
            if block is None:
                return None
            # writable like the bytes of a file: kernels are compiled for such
            self._block = np.frombuffer(bytearray(block), np.uint8)
            self._ends = np.flatnonzero(self._block == _NEWLINE) + 1
            self._taken = 0
        start = int(self._ends[self._taken - 1]) if self._taken else 0
        fitting = int(np.searchsorted(self._ends, start + bytes_max, side="right"))
        stop = max(self._taken + 1, min(self._taken + rows_max, fitting))
        stop = min(stop, len(self._ends))
        end = int(self._ends[stop - 1])
        lines = stop - self._taken
        chunk = LineChunk(self._block[start:end], self._name, self._offset, self._line + 1, lines)
        self._taken = stop
        self._line += lines
        self._offset += end - start
        return chunk

    def position(self) -> DatasetPosition:
        """Where the next chunk begins."""
        return DatasetPosition(self._line, self._offset)

    def close(self) -> None:
        """Nothing is held open."""
