"""The streams all policies need together, each once and as small as is exact, and where they lie in the row.

Atoms that agree in ir.Stream share one stream; it keeps as many entries as the most demanding of them asks
and its window is the widest (0, ever, is widest). The order is that of ir.Stream with those in the row's
front that every event of a type touches; it does not depend on the order of policies.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segue.errors import PolicyError
from segue.limits import KEYED_SLOTS_DEFAULT, ROW_WORDS_MAX, STREAMS_MAX
from segue.policy import ir
from segue_kernels import plan


@dataclass(frozen=True, slots=True)
class Need:
    """A demand on a stream: entries kept, and the sliding window asked (0 = ever)."""

    stream: ir.Stream
    entries: int
    within_ms: int


def needs_of(node: ir.Node) -> Iterable[Need]:
    """What a program asks of streams."""
    for atom in ir.atoms(node):
        yield Need(atom.stream, ir.entries_needed(atom), atom.within_ms)


@dataclass(frozen=True, slots=True)
class Layout:
    """`streams` int64[n, plan.STREAM_WORDS]; `index` of a stream; `row_words` with the header."""

    streams: npt.NDArray[np.int64]
    index: dict[ir.Stream, int]
    row_words: int

    def offset(self, stream: ir.Stream) -> int:
        return int(self.streams[self.index[stream], plan.STREAM_OFFSET])

    def kept(self, stream: ir.Stream) -> int:
        return int(self.streams[self.index[stream], plan.STREAM_K])


def lay_out(needs: Iterable[Need]) -> Layout:
    """The smallest row that answers every need."""
    kept: dict[ir.Stream, int] = {}
    window: dict[ir.Stream, int] = {}
    for need in needs:
        known = need.stream in kept
        kept[need.stream] = max(kept.get(need.stream, 1), need.entries)
        ever = need.within_ms == 0 or (known and window[need.stream] == 0)
        window[need.stream] = 0 if ever else max(window.get(need.stream, 0), need.within_ms)
    if len(kept) > STREAMS_MAX:
        raise PolicyError(
            "load policies",
            f"the policies need {len(kept)} streams; at most {STREAMS_MAX}",
            "load fewer policies",
        )
    ordered = sorted(kept, key=lambda s: (s.by != plan.BY_NONE, s.type, s))
    streams = np.zeros((len(ordered), plan.STREAM_WORDS), dtype=np.int64)
    offset = plan.HEADER_WORDS
    for row, stream in zip(streams, ordered, strict=True):
        k = kept[stream]
        entry = entry_words(stream.kind, k)
        slots = KEYED_SLOTS_DEFAULT if stream.by else 0
        area = 1 + slots + slots * entry if stream.by else entry
        row[plan.STREAM_KIND] = stream.kind
        row[plan.STREAM_BY] = stream.by
        row[plan.STREAM_OFFSET] = offset
        row[plan.STREAM_K] = k
        row[plan.STREAM_WINDOW_MS] = stream.every_ms or window[stream]
        row[plan.STREAM_SLOTS] = slots
        row[plan.STREAM_FIELD] = stream.field
        row[plan.STREAM_CURRENCY] = stream.currency
        row[plan.STREAM_ENTRY_WORDS] = entry
        row[plan.STREAM_TYPE] = stream.type
        row[plan.STREAM_AREA_WORDS] = area
        row[plan.STREAM_SOURCE] = stream.source
        row[plan.STREAM_WIDTH_MS] = stream.every_ms
        offset += area
    row_words = -(-offset // plan.ROW_ALIGN_WORDS) * plan.ROW_ALIGN_WORDS
    if row_words > ROW_WORDS_MAX:
        raise PolicyError(
            "load policies",
            f"the policies need {row_words * 8} bytes a customer; at most {ROW_WORDS_MAX * 8}",
            "lower up_to where counts are used as numbers, above all with by=",
        )
    return Layout(streams, {stream: i for i, stream in enumerate(ordered)}, row_words)


def entry_words(kind: int, k: int) -> int:
    """Words of one entry of a stream."""
    if kind == plan.COUNT:
        return k
    if kind in (plan.SUM, plan.DISTINCT):
        return 2 * k
    return 2 + k if kind == plan.TUMBLE_DISTINCT else 2
