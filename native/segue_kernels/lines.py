"""Lines of a byte buffer: where the n-th one ends."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segue_kernels.jit import inline, kernel
from segue_kernels.load import count_ones, newline_marks32

BLOCK_BYTES = 4_096  # newlines are counted a block at a time, then the last block is walked
STRIDE = 32
NEWLINE = np.uint8(10)


@inline
def count_newlines(buf: npt.NDArray[np.uint8], start: int, end: int) -> int:
    """Newlines in buf[start:end]."""
    total = 0
    i = start
    while i + STRIDE <= end:
        total += count_ones(newline_marks32(buf, i))
        i += STRIDE
    while i < end:
        total += 1 if buf[i] == NEWLINE else 0
        i += 1
    return total


@kernel
def find_line_end(
    buf: npt.NDArray[np.uint8], start: int, end: int, lines_max: int, line_bytes_max: int
) -> tuple[int, int]:
    """`(position, lines)`: `buf[start:position]` are the first `lines` complete lines of `buf[start:end]`.

    `lines` is `lines_max` where there are so many. It is less if the newlines run out, or if the next line
    is longer than `line_bytes_max` (its newline not counted); in the second case, and only then,
    `end - position > line_bytes_max`: no line passed over is that long.

    buf: uint8[n], contiguous. start, end, position: offsets into it.
    """
    position = start
    found = 0
    at = start
    while at < end and found < lines_max:
        stop = min(at + BLOCK_BYTES, end)
        count = count_newlines(buf, at, stop)
        if count == 0:
            at = stop
            continue
        if found + count <= lines_max and stop - position <= line_bytes_max:
            found += count
            position = stop
            while buf[position - 1] != NEWLINE:
                position -= 1
        else:
            for i in range(at, stop):
                if buf[i] == NEWLINE:
                    if i - position > line_bytes_max:
                        return position, found
                    position = i + 1
                    found += 1
                    if found == lines_max:
                        return position, found
        at = stop
    return position, found
