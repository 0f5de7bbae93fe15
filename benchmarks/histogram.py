"""A histogram of latencies whose error is bounded: the whole distribution in a few thousand counts.

Values are whole microseconds. Below SUB they are counted exactly; above, each power of two is divided into SUB / 2
equal parts, so that no value is told more than 2 / SUB off: under one per cent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

SUB_BITS = 8
SUB = 1 << SUB_BITS
QUANTILES = (50.0, 90.0, 99.0, 99.9)
_HALF = SUB // 2
_LARGEST_US = 1 << 36  # nineteen hours
_BUCKETS = SUB + (36 - SUB_BITS) * _HALF + 1


def _bucket(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The bucket of each value."""
    shift = np.maximum(np.frexp(values.astype(np.float64))[1] - SUB_BITS, 0)
    bucket: npt.NDArray[np.int64] = (shift * _HALF + (values >> shift)).astype(np.int64)
    return bucket


def _greatest(bucket: int) -> int:
    """The greatest value of a bucket."""
    if bucket < SUB:
        return bucket
    shift = (bucket - _HALF) // _HALF
    return ((bucket - shift * _HALF + 1) << shift) - 1


class Histogram:
    """Counts of microseconds."""

    def __init__(self) -> None:
        self.counts = np.zeros(_BUCKETS, np.int64)
        self.max_us = 0

    def add(self, values_us: npt.NDArray[np.int64]) -> None:
        """Count values; a negative one counts as 0."""
        if len(values_us):
            clipped = np.clip(values_us, 0, _LARGEST_US)
            np.add.at(self.counts, _bucket(clipped), 1)
            self.max_us = max(self.max_us, int(clipped.max()))

    @property
    def total(self) -> int:
        """How many values there are."""
        return int(self.counts.sum())

    def quantile_us(self, percent: float) -> int:
        """So many per cent of the values are not greater; 0 without values."""
        total = self.total
        if not total:
            return 0
        rank = max(1, int(np.ceil(total * percent / 100)))
        return min(_greatest(int(np.searchsorted(np.cumsum(self.counts), rank))), self.max_us)

    def figures(self) -> dict[str, Any]:
        """Quantiles in ms."""
        found = {f"p{q:g}_ms": round(self.quantile_us(q) / 1e3, 2) for q in QUANTILES}
        return {"count": self.total, **found, "max_ms": round(self.max_us / 1e3, 2)}

    def buckets(self) -> list[tuple[int, int]]:
        """(greatest value in microseconds, count) of every bucket that holds any."""
        return [(_greatest(int(b)), int(self.counts[b])) for b in np.flatnonzero(self.counts)]


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """All of them in one."""
    total = Histogram()
    for histogram in histograms:
        total.counts += histogram.counts
        total.max_us = max(total.max_us, histogram.max_us)
    return total
