"""Rows leave in the order in which they arrive: each once, none before its time, ties as they were added."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Arrivals:
    """Holds rows until their arrival. Memory: the rows added and not yet taken, and the lines they point to.

    columns, line_columns   words of a row and of a line
    start_column            word with the row's first line in the table of lines; the next word has their
                            number (None: rows have no lines)
    """

    def __init__(self, columns: int, line_columns: int = 1, start_column: int | None = None) -> None:
        self._start_column = start_column
        self._rows = np.zeros((0, columns), dtype=np.int64)
        self._arrival_ms = np.zeros(0, dtype=np.int64)
        self._lines = np.zeros((0, line_columns), dtype=np.int64)

    def __len__(self) -> int:
        return int(self._arrival_ms.size)

    def add(
        self, rows: NDArray[np.int64], arrival_ms: NDArray[np.int64], lines: NDArray[np.int64] | None = None
    ) -> None:
        """rows int64[n, columns], arrival_ms int64[n]; lines int64[m, line_columns] that they point to."""
        if lines is not None and self._start_column is not None:
            rows = rows.copy()
            rows[:, self._start_column] += self._lines.shape[0]
            self._lines = np.concatenate((self._lines, lines))
        self._rows = np.concatenate((self._rows, rows)) if self._rows.size else rows
        self._arrival_ms = np.concatenate((self._arrival_ms, arrival_ms))

    def take(self, until_ms: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(rows, order, lines): rows[order] are those that arrive before `until_ms`, in order of arrival."""
        now = self._arrival_ms < until_ms
        rows, lines = self._rows, self._lines
        picked = np.flatnonzero(now)
        order = picked[np.argsort(self._arrival_ms[picked], kind="stable")]
        later = np.flatnonzero(~now)
        self._rows = rows[later]
        self._arrival_ms = self._arrival_ms[later]
        if self._start_column is not None:
            self._keep_lines(lines)
        return rows, order, lines

    def _keep_lines(self, lines: NDArray[np.int64]) -> None:
        column = self._start_column
        assert column is not None
        counts = self._rows[:, column + 1]
        starts = self._rows[:, column]
        first = np.cumsum(counts) - counts
        self._lines = lines[np.repeat(starts - first, counts) + np.arange(counts.sum())]
        self._rows[:, column] = first
