"""What changed in a shard since it was last asked: what a checkpoint writes, and what a shard is restored from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from segue_kernels.saved import merge_rows

FORMAT = 3  # of saved rows and of what stands beside them


@dataclass(frozen=True, slots=True)
class ShardDelta:
    """Rows by number, each once, and all that is not a row.

    A base is a delta from nothing. Of several in order the newest words of each row count, and the newest `rest`.

    rows    int64[n], ascending
    starts  int64[n + 1]: row i is words[starts[i] : starts[i + 1]]; no words = the row was given up
    words   int64, self-contained (segue_kernels/saved.py)
    rest    the shard's small things, whole each time, as bytes

    Kernels are compiled for arrays that may be written to and are aligned (a file mapped copy-on-write, for example);
    others are copied first.
    """

    rows: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    words: npt.NDArray[np.int64]
    rest: bytes


class Rest(msgspec.Struct, frozen=True, array_like=True):
    """What is not a row.

    is_base  all rows are there: what was saved before counts no more
    meta     the shard's meta words (segue_kernels/row.py)
    layout   what the words of the rows mean (layout.py)
    more     what others have beside the shard, by name
    """

    format: int
    is_base: bool
    meta: bytes
    layout: bytes
    more: dict[str, bytes]


def for_kernels(words: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The array, or a copy of it if it is read-only or not aligned."""
    return np.require(words, np.int64, ["C", "A", "W"])


def read_rest(delta: ShardDelta) -> Rest:
    """The delta's `rest`."""
    return msgspec.msgpack.decode(delta.rest, type=Rest)


def merge_deltas(deltas: Sequence[ShardDelta]) -> ShardDelta:
    """One delta that says what these say one after the other: at least one, in the order in which they were made."""
    rests = [read_rest(delta) for delta in deltas]
    first = max((i for i, rest in enumerate(rests) if rest.is_base), default=0)
    deltas = deltas[first:]
    if len(deltas) == 1:
        return deltas[0]
    rest = rests[-1]
    if rests[first].is_base:
        rest = msgspec.structs.replace(rest, is_base=True)
    rows_end = 1 + max((int(delta.rows[-1]) for delta in deltas if len(delta.rows)), default=-1)
    newest = np.full(rows_end, -1, np.int64)  # by row: the delta that has it
    size = np.zeros(rows_end, np.int64)
    for which, delta in enumerate(deltas):
        newest[delta.rows] = which
        size[delta.rows] = np.diff(delta.starts)
    # in a base a row that was given up is as one that never was
    rows = np.flatnonzero((newest >= 0) & (size > 0) if rest.is_base else newest >= 0)
    starts = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(size[rows], out=starts[1:])
    place = np.full(rows_end, -1, np.int64)
    place[rows] = np.arange(len(rows))
    words = np.empty(int(starts[-1]), np.int64)
    for which, delta in enumerate(deltas):
        listed = np.where(newest[delta.rows] == which, place[delta.rows], -1)
        merge_rows(listed, for_kernels(delta.starts), for_kernels(delta.words), starts, words)
    return ShardDelta(rows, starts, words, msgspec.msgpack.encode(rest))
