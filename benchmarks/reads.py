"""The `segue` command, with the times of its reads kept in a file: how benchmarks see the gaps between them.

    python -m benchmarks.reads FILE run …          as `segue run …`, of one process

FILE holds four int64 for each read of the source: its begin and end, ns of the monotonic clock that all processes of a
machine share, and for how long the reading thread had waited for a core by then, in all (Linux tells; 0 elsewhere). It
outlives a kill -9 of the process.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

READS_MAX = 1 << 23
BEGIN, END, WAITED_BEGIN, WAITED_END = range(4)
_COLUMNS = 4

Times = npt.NDArray[np.int64]


def _waited() -> Callable[[], int]:
    """Tells how long this thread was ready to run while others had the cores, in ns."""
    try:
        fd = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return lambda: 0
    return lambda: int(os.pread(fd, 96, 0).split()[1])


def record(path: Path) -> None:
    """Note the times of all reads of this process from now on; one thread reads."""
    from segue.sources.reader import BatchReader, ReadBatch

    times = np.memmap(path, np.int64, "w+", shape=(READS_MAX, _COLUMNS))
    read = BatchReader.read
    count = 0
    waited: Callable[[], int] | None = None

    def timed(reader: BatchReader) -> ReadBatch:
        nonlocal count, waited
        if waited is None:
            waited = _waited()
        before = waited()
        begun = time.monotonic_ns()
        result = read(reader)
        if count < READS_MAX:
            ended = time.monotonic_ns()
            times[count, WAITED_BEGIN] = before
            times[count, WAITED_END] = waited()
            times[count, BEGIN] = begun
            times[count, END] = ended
            count += 1
        return result

    BatchReader.read = timed  # type: ignore[method-assign,assignment]


def reads(path: Path) -> Times:
    """int64[n, 4]: the reads noted so far; none if nobody noted any."""
    if not path.exists():
        return np.zeros((0, _COLUMNS), np.int64)
    times = np.memmap(path, np.int64, "r").reshape(-1, _COLUMNS)
    return np.array(times[: int(np.count_nonzero(times[:, END]))])


def between(times: Times, from_ns: int, until_ns: int) -> Times:
    """The reads that end in [from, until)."""
    return times[(times[:, END] >= from_ns) & (times[:, END] < until_ns)]


def gaps_ms(times: Times) -> npt.NDArray[np.float64]:
    """From the end of each read to the beginning of the next."""
    gaps: npt.NDArray[np.float64] = (times[1:, BEGIN] - times[:-1, END]) / 1e6
    return gaps


def own_gaps_ms(times: Times) -> npt.NDArray[np.float64]:
    """As gaps_ms, without the time in which the reading thread could run and others had the cores. (Those it waits for
    may have had to wait, too.)"""
    waited = times[1:, WAITED_BEGIN] - times[:-1, WAITED_END]
    own: npt.NDArray[np.float64] = gaps_ms(times) - waited / 1e6
    return np.maximum(own, 0.0)


def longest_ms(
    times: Times, gaps: npt.NDArray[np.float64], from_ns: int, width_ns: int
) -> npt.NDArray[np.float64]:
    """The longest gap of each stretch of so many ns, counted by where gaps begin: with an epoch's width, its pause."""
    stretch = (times[:-1, END] - from_ns) // width_ns
    _, first = np.unique(stretch, return_index=True)
    longest: npt.NDArray[np.float64] = np.maximum.reduceat(gaps, first) if len(gaps) else gaps
    return longest


def main() -> None:
    """The command."""
    path = Path(sys.argv.pop(1))
    record(path)
    from segue.cli import main as segue

    segue()


if __name__ == "__main__":
    main()
