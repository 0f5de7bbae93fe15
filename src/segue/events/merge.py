"""Rows of the fast road and rows of the slow road become one batch in input order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from segue.events.batch import Bytes, Words
from segue.events.slow import SlowRows


class Rows(NamedTuple):
    """records int64[n,16], spans int64[n,4] into text, where int64[n,2]."""

    records: Words
    spans: Words
    where: Words
    text: Bytes


def merge(
    fast: Rows, positions: Words, slow: SlowRows, start: int, end: int, k0: np.uint64, k1: np.uint64
) -> Rows:
    """Put the slow messages' rows where fast rows were kept free (positions int64[m], one row a message).

    fast.text[start:end] is the part that the rows' strings stand in.
    """
    batch = slow.finish(fast.text, start, end, k0, k1)
    spans = fast.spans
    if batch.shift:
        spans = np.where(spans & 0xFF != 0, spans - (batch.shift << 8), 0)
    counts = np.array(slow.counts, dtype=np.int64)
    if np.all(counts == 1):
        fast.records[positions] = batch.records
        spans[positions] = batch.spans
        fast.where[positions] = batch.where
        return Rows(fast.records, spans, fast.where, batch.text)
    order = _order(fast.records.shape[0], positions, counts)
    return Rows(
        np.concatenate([fast.records, batch.records])[order],
        np.concatenate([spans, batch.spans])[order],
        np.concatenate([fast.where, batch.where])[order],
        batch.text,
    )


def _order(rows: int, positions: Words, counts: Words) -> Words:
    """Indices into the fast rows followed by the slow rows, in input order."""
    sizes = np.ones(rows, dtype=np.int64)
    sizes[positions] = counts
    sources = np.arange(rows, dtype=np.int64)
    sources[positions] = rows + np.cumsum(counts) - counts
    starts = np.cumsum(sizes) - sizes
    total = int(sizes.sum())
    return np.repeat(sources - starts, sizes) + np.arange(total, dtype=np.int64)
