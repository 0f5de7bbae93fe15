"""Rows held until they arrive, against a sorted list."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.simulate.arrivals import Arrivals

BLOCK = st.lists(st.tuples(st.integers(0, 50), st.lists(st.integers(0, 9), max_size=3)), max_size=6)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(BLOCK, st.integers(0, 60)), max_size=5))
def test_as_a_sorted_list(blocks: list[tuple[list[tuple[int, list[int]]], int]]) -> None:
    arrivals = Arrivals(3, 1, start_column=1)
    waiting: list[tuple[int, int, list[int]]] = []
    number = 0
    for block, until in blocks:
        rows = np.zeros((len(block), 3), dtype=np.int64)
        lines: list[int] = []
        for i, (time, own) in enumerate(block):
            rows[i] = (number, len(lines), len(own))
            lines += own
            waiting.append((time, number, own))
            number += 1
        arrival = np.array([time for time, _ in block], dtype=np.int64)
        arrivals.add(rows, arrival, np.array(lines, dtype=np.int64).reshape(-1, 1))
        taken, order, table = arrivals.take(until)
        found = [
            (int(n), table[start : start + count, 0].tolist()) for n, start, count in taken[order].tolist()
        ]
        expected = sorted((w for w in waiting if w[0] < until), key=lambda w: (w[0], w[1]))
        assert found == [(n, own) for _, n, own in expected]
        waiting = [w for w in waiting if w[0] >= until]
        assert len(arrivals) == len(waiting)
