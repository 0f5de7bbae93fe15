"""A partition's clock is the largest event time it has shown; an event too far behind it is late.

stamp_rows walks the rows in order, sets CLOCK and SEQUENCE, and moves the rows that are in time together at the
front. An event and its lines stay or go together. A late event takes a row number as any other. Some types are
never late: a withdrawal of consent counts however long it took. The name of a time zone that nobody knows is counted
here, and the event goes on without one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segue_kernels.jit import kernel
from segue_kernels.record import (
    CLOCK,
    FLAG_IS_LINE,
    PACK,
    RECORD_WORDS,
    SEQUENCE,
    STRINGS,
    TIME,
    ZONE_MASK,
    ZONE_SHIFT,
    ZONE_UNKNOWN,
)

LATE_WORDS = 4  # event time, delay, where (offset, line)


@kernel
def count_headers(records: NDArray[np.int64]) -> int:
    """How many of the records are headers: events."""
    count = 0
    for row in range(records.shape[0]):
        count += (records[row, PACK] >> 8) & FLAG_IS_LINE == 0
    return count


@kernel
def latest_time(records: NDArray[np.int64], least: int) -> int:
    """The greatest TIME of the records, and no less than `least`."""
    for row in range(records.shape[0]):
        least = max(least, records[row, TIME])
    return least


@kernel
def stamp_rows(
    records: NDArray[np.int64],
    spans: NDArray[np.int64],
    where: NDArray[np.int64],
    late: NDArray[np.int64],
    never_late: NDArray[np.uint8],
    clock_ms: int,
    lateness_ms: int,
    partition: int,
    row0: int,
) -> tuple[int, int, int, int]:
    """(rows kept, late events, new clock, events of an unknown time zone).

    late int64[n,4] gets a row per late event; never_late uint8[256] by type code; times in ms.
    """
    kept = 0
    late_count = 0
    unknown_zones = 0
    is_late = False
    sequence = ((partition << 48) | row0) - 1
    for row in range(records.shape[0]):
        pack = records[row, PACK]
        if (pack >> ZONE_SHIFT) & ZONE_MASK == ZONE_UNKNOWN:
            records[row, PACK] = pack & ((1 << ZONE_SHIFT) - 1)
            if (pack >> 8) & FLAG_IS_LINE == 0:
                unknown_zones += 1
        if (pack >> 8) & FLAG_IS_LINE == 0:
            sequence += 1
            time_ms = records[row, TIME]
            is_late = time_ms < clock_ms - lateness_ms and never_late[pack & 0xFF] == 0
            if is_late:
                late[late_count, 0] = time_ms
                late[late_count, 1] = clock_ms - time_ms
                late[late_count, 2] = where[row, 0]
                late[late_count, 3] = where[row, 1]
                late_count += 1
            clock_ms = max(clock_ms, time_ms)
        if is_late:
            continue
        records[row, CLOCK] = clock_ms
        records[row, SEQUENCE] = sequence
        if kept != row:
            for word in range(RECORD_WORDS):
                records[kept, word] = records[row, word]
            for string in range(STRINGS):
                spans[kept, string] = spans[row, string]
            where[kept, 0] = where[row, 0]
            where[kept, 1] = where[row, 1]
        kept += 1
    return kept, late_count, clock_ms, unknown_zones
