"""The `segue` command, with the times of its reads kept in a file: how benchmarks see the gaps between them.

    python -m benchmarks.reads FILE run …          as `segue run …`, of one process

FILE holds int64 pairs: begin and end of each read of the source, ns of the monotonic clock that all processes of a
machine share. It outlives a kill -9 of the process.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

READS_MAX = 1 << 23

Times = npt.NDArray[np.int64]


def record(path: Path) -> None:
    """Note the times of all reads of this process from now on."""
    from segue.sources.reader import BatchReader, ReadBatch

    times = np.memmap(path, np.int64, "w+", shape=(READS_MAX, 2))
    read = BatchReader.read
    count = 0

    def timed(reader: BatchReader) -> ReadBatch:
        nonlocal count
        begun = time.monotonic_ns()
        result = read(reader)
        if count < READS_MAX:
            times[count, 0] = begun
            times[count, 1] = time.monotonic_ns()
            count += 1
        return result

    BatchReader.read = timed  # type: ignore[method-assign,assignment]


def reads(path: Path) -> Times:
    """int64[n, 2]: the reads noted so far; none if nobody noted any."""
    if not path.exists():
        return np.zeros((0, 2), np.int64)
    times = np.memmap(path, np.int64, "r").reshape(-1, 2)
    return np.array(times[: int(np.count_nonzero(times[:, 1]))])


def gaps_ms(times: Times, from_ns: int, until_ns: int) -> npt.NDArray[np.float64]:
    """From the end of each read to the beginning of the next, of those that end in [from, until)."""
    inside = times[(times[:, 1] >= from_ns) & (times[:, 1] < until_ns)]
    gaps: npt.NDArray[np.float64] = (inside[1:, 0] - inside[:-1, 1]) / 1e6
    return gaps


def main() -> None:
    """The command."""
    path = Path(sys.argv.pop(1))
    record(path)
    from segue.cli import main as segue

    segue()


if __name__ == "__main__":
    main()
