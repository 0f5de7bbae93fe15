"""The clock of a partition, row numbers, and late events, against the rule written plainly."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segue_kernels.record import (
    CLOCK,
    FLAG_IS_LINE,
    PACK,
    RECORD_WORDS,
    SEQUENCE,
    TIME,
    ZONE_SHIFT,
    ZONE_UNKNOWN,
)
from segue_kernels.stamp import LATE_WORDS, count_headers, latest_time, stamp_rows

NEVER_LATE = np.zeros(256, np.uint8)
NEVER_LATE[2] = 1


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 2), st.integers(1, 3)), max_size=30),
    st.integers(0, 1000),
    st.integers(0, 300),
)
def test_stamp_keeps_what_is_in_time(events: list[tuple[int, int, int]], clock: int, lateness: int) -> None:
    rows = [(time, line > 0, kind) for time, lines, kind in events for line in range(lines + 1)]
    records = np.zeros((len(rows), RECORD_WORDS), dtype=np.int64)
    for row, (time, is_line, kind) in enumerate(rows):
        records[row, TIME] = time
        records[row, PACK] = kind | (FLAG_IS_LINE << 8 if is_line else 0)
        records[row, RECORD_WORDS - 1] = row
    spans = np.repeat(np.arange(len(rows), dtype=np.int64)[:, None], 4, axis=1)
    where = spans[:, :2].copy()
    late = np.empty((len(events), LATE_WORDS), dtype=np.int64)
    kept, late_count, new_clock, unknown_zones = stamp_rows(
        records, spans, where, late, NEVER_LATE, clock, lateness, 5, 100
    )

    assert unknown_zones == 0
    expected, expected_late, row, running = [], [], 0, clock
    for number, (time, lines, kind) in enumerate(events):
        running = max(running, time)
        if time < running - lateness and not NEVER_LATE[kind]:
            expected_late.append([time, running - time, row, row])
        else:
            expected += [(row + k, running, 5 << 48 | 100 + number) for k in range(lines + 1)]
        row += lines + 1
    found = zip(
        records[:kept, RECORD_WORDS - 1].tolist(),
        records[:kept, CLOCK].tolist(),
        records[:kept, SEQUENCE].tolist(),
        strict=True,
    )
    assert list(found) == expected
    assert spans[:kept, 3].tolist() == where[:kept, 0].tolist() == [row for row, _, _ in expected]
    assert late[:late_count].tolist() == expected_late
    assert new_clock == running


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from((0, 7, ZONE_UNKNOWN)), st.integers(0, 2)), max_size=10))
def test_unknown_zones_are_counted_and_cleared(events: list[tuple[int, int]]) -> None:
    rows = [(zone, line) for zone, lines in events for line in range(lines + 1)]
    records = np.zeros((len(rows), RECORD_WORDS), np.int64)
    low = 3 << 32 | 9 << 16 | 2
    for row, (zone, line) in zip(records, rows, strict=True):
        row[PACK] = zone << ZONE_SHIFT | low | (FLAG_IS_LINE << 8 if line else 0)
    spans, where = np.zeros((len(rows), 4), np.int64), np.zeros((len(rows), 2), np.int64)
    late = np.empty((len(events), LATE_WORDS), np.int64)
    *_, unknown = stamp_rows(records, spans, where, late, NEVER_LATE, 0, 0, 0, 0)
    assert unknown == sum(zone == ZONE_UNKNOWN for zone, _ in events)
    for row, (zone, line) in zip(records.tolist(), rows, strict=True):
        assert row[PACK] >> ZONE_SHIFT == (0 if zone == ZONE_UNKNOWN else zone)
        assert row[PACK] & ((1 << ZONE_SHIFT) - 1) == low | (FLAG_IS_LINE << 8 if line else 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-(2**62), 2**62), st.booleans()), max_size=20), st.integers(-9, 9))
def test_headers_are_counted_and_the_latest_time_is_found(rows: list[tuple[int, bool]], least: int) -> None:
    records = np.full((len(rows), RECORD_WORDS), -1, np.int64)
    for record, (time_ms, is_line) in zip(records, rows, strict=True):
        record[TIME] = time_ms
        record[PACK] = 7 | (FLAG_IS_LINE << 8 if is_line else 0)
    assert count_headers(records) == sum(not is_line for _, is_line in rows)
    assert latest_time(records, least) == max([least, *(time_ms for time_ms, _ in rows)])
