"""The streams all policies need together, each once and as small as is exact, and where they lie in the row.

Atoms that agree in ir.Stream share one stream; it keeps as many entries as the most demanding of them asks
and its window is the widest (0, ever, is widest). The order is that of ir.Stream with those in the row's
front that every event of a type touches; it does not depend on the order of policies. A window that begins
at a moment (the local day, the session) is a moment of the layout; a session brings its stream of sessions along.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segue.errors import PolicyError
from segue.events.names import CODE_BY_NAME
from segue.limits import (
    DAY_MS,
    HOUR_MS,
    KEYED_SLOTS_BROWSING,
    KEYED_SLOTS_DEFAULT,
    LATENESS_MS_DEFAULT,
    ROW_WORDS_MAX,
    SESSIONS_KEPT_MAX,
    STREAMS_MAX,
)
from segue.policy import ir
from segue_kernels import plan

BROWSING_CODES = frozenset(
    CODE_BY_NAME[name]
    for name in (
        *("Product Viewed", "Products Searched", "Product Clicked", "Product List Viewed"),
        "Product Scanned",
    )
)
TUMBLING = (plan.TUMBLE_COUNT, plan.TUMBLE_SUM, plan.TUMBLE_DISTINCT)
# the longest a local hour, day, week or month lasts; but for an hour one for a change of the clocks and one for a move
# included
CALENDAR_MS_MAX = {
    plan.WINDOW_HOUR: HOUR_MS,
    plan.WINDOW_DAY: DAY_MS + 2 * HOUR_MS,
    plan.WINDOW_WEEK: 7 * DAY_MS + 2 * HOUR_MS,
    plan.WINDOW_MONTH: 31 * DAY_MS + 2 * HOUR_MS,
}


@dataclass(frozen=True, slots=True)
class Need:
    """A demand on a stream: entries kept, the window asked (as of an atom; 0 = ever), plan.STREAM_FLAG_*."""

    stream: ir.Stream
    entries: int
    within_ms: int
    flags: int = 0


def needs_of(node: ir.Node) -> Iterator[Need]:
    """What a program asks of streams."""
    for atom in ir.atoms(node):
        bounded = isinstance(atom, ir.Latest) or (isinstance(atom, ir.Nth) and atom.n > 0)
        flags = plan.STREAM_FLAG_SEQUENCE if bounded else 0
        yield Need(atom.stream, ir.entries_needed(atom), ir.window_asked(atom), flags)


def session_stream(gap_ms: int) -> ir.Stream:
    """The sessions of a customer, apart by gaps longer than `gap_ms`."""
    return ir.Stream(plan.BY_NONE, plan.ANY_TYPE, plan.SESSIONS, every_ms=gap_ms)


def sessions_kept(gap_ms: int) -> int:
    """How many sessions events of usual lateness may still reach."""
    return min(SESSIONS_KEPT_MAX, 2 + -(-LATENESS_MS_DEFAULT // gap_ms))


@dataclass(frozen=True, slots=True)
class Layout:
    """`streams` int64[n, plan.STREAM_WORDS]; `index` of a stream; `row_words` with the header.

    moments  windows that begin at a moment, ascending. Words of `location`: streams, then moments, then lookups.
    """

    streams: npt.NDArray[np.int64]
    index: dict[ir.Stream, int]
    row_words: int
    moments: tuple[int, ...] = ()

    def offset(self, stream: ir.Stream) -> int:
        return int(self.streams[self.index[stream], plan.STREAM_OFFSET])

    def kept(self, stream: ir.Stream) -> int:
        return int(self.streams[self.index[stream], plan.STREAM_K])

    def moment(self, window: int) -> int:
        """Index of a window (below 0) among the moments."""
        return self.moments.index(window)

    def moment_word(self, window: int) -> int:
        """Its word of `location`."""
        return len(self.streams) + self.moment(window)

    def lookup_word(self, index: int) -> int:
        """Word of `location` with the field that row `index` of plan.LOOKUPS names."""
        return len(self.streams) + len(self.moments) + index


def lay_out(needs: Iterable[Need]) -> Layout:
    """The smallest row that answers every need."""
    kept: dict[ir.Stream, int] = {}
    window: dict[ir.Stream, int] = {}
    flags: dict[ir.Stream, int] = {}
    moments: set[int] = set()
    for need in needs:
        stream = need.stream
        within_ms = need.within_ms
        if within_ms < 0:
            moments.add(within_ms)
            within_ms = CALENDAR_MS_MAX.get(within_ms, 0)
        ever = within_ms == 0 or (stream in kept and window[stream] == 0)
        window[stream] = 0 if ever else max(window.get(stream, 0), within_ms)
        kept[stream] = max(kept.get(stream, 1), need.entries)
        flags[stream] = flags.get(stream, 0) | need.flags
    for gap_ms in (-moment for moment in moments if moment not in CALENDAR_MS_MAX):
        kept.setdefault(session_stream(gap_ms), 1)
    for stream in kept:
        if stream.kind == plan.SESSIONS:
            kept[stream], window[stream] = sessions_kept(stream.every_ms), 0
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
        slots = keyed_slots(stream.type) if stream.by else 0
        area = 1 + slots + slots * entry if stream.by else entry
        row[plan.STREAM_KIND] = stream.kind
        row[plan.STREAM_BY] = stream.by
        row[plan.STREAM_OFFSET] = offset
        row[plan.STREAM_K] = k
        row[plan.STREAM_WINDOW_MS] = stream.every_ms if stream.kind in TUMBLING else window[stream]
        row[plan.STREAM_SLOTS] = slots
        row[plan.STREAM_FIELD] = stream.field
        row[plan.STREAM_CURRENCY] = stream.currency
        row[plan.STREAM_ENTRY_WORDS] = entry
        row[plan.STREAM_TYPE] = stream.type
        row[plan.STREAM_AREA_WORDS] = area
        row[plan.STREAM_SOURCE] = stream.source
        row[plan.STREAM_FLAGS] = flags.get(stream, 0)
        row[plan.STREAM_WIDTH_MS] = stream.every_ms
        offset += area
    row_words = -(-offset // plan.ROW_ALIGN_WORDS) * plan.ROW_ALIGN_WORDS
    if row_words > ROW_WORDS_MAX:
        raise PolicyError(
            "load policies",
            f"the policies need {row_words * 8} bytes a customer; at most {ROW_WORDS_MAX * 8}",
            "lower up_to where counts are used as numbers, above all with by=",
        )
    return Layout(streams, {stream: i for i, stream in enumerate(ordered)}, row_words, tuple(sorted(moments)))


def keyed_slots(type: int) -> int:
    """Keys that a stream of this event keeps in the row."""
    return KEYED_SLOTS_BROWSING if type in BROWSING_CODES else KEYED_SLOTS_DEFAULT


def entry_words(kind: int, k: int) -> int:
    """Words of one entry of a stream."""
    match kind:
        case plan.COUNT:
            return k
        case plan.SUM | plan.DISTINCT:
            return 2 * k
        case plan.TUMBLE_DISTINCT:
            return 2 + k
        case plan.DECAY:
            return 1 + plan.DECAY_EPOCHS
        case plan.SESSIONS:
            return 1 + 2 * k
        case plan.LEFT:
            return 3 * k
        case _:  # TUMBLE_COUNT, TUMBLE_SUM, FIRST
            return 2


# --- when a condition may change by time alone ----------------------------------------------------------


def checks_of(program: ir.Node, layout: Layout) -> list[tuple[int, int, int, int, int]]:
    """Rows of plan.CHECKS for a condition: between events it changes at no other times than these.

    What changes all the time (a decayed sum, a recency in arithmetic) is looked at once a day. Tables are not seen
    here: a field of the customer's profile counts as it is when something else is looked at.
    """
    found: dict[tuple[int, int, int, int, int], None] = {}
    for kind, atom, entries, window, age_ms in _checks(program):
        found[kind, layout.index[atom.stream], entries, window, age_ms] = None
    return list(found)


def _checks(node: ir.Node) -> Iterator[tuple[int, ir.Atom, int, int, int]]:
    if isinstance(node, ir.Compare) and isinstance(node.right, ir.Number) and _is_age(node.left):
        for atom in ir.atoms(node.left):
            # ages are whole: against 5.5 the value changes from 5 to 6, against 5 from 4 to 5 or from 5 to 6
            if 0.0 <= node.right.value < plan.RECENCY_NEVER:
                yield plan.CHECK_AGE, atom, 1, ir.window_asked(atom), math.floor(node.right.value)
            yield from _leaving(atom)
        return
    if isinstance(node, ir.Recency | ir.Age | ir.Decayed):
        yield plan.CHECK_DAILY, node, 1, ir.window_asked(node), 0
    if isinstance(node, ir.Latest):
        for atom in ir.atoms(node):
            yield from _leaving(atom)
        return
    if isinstance(node, ir.ATOM_TYPES):
        yield from _leaving(node)
    for child in ir.children(node):
        yield from _checks(child)


def _leaving(atom: ir.Atom) -> Iterator[tuple[int, ir.Atom, int, int, int]]:
    """When what the atom sees leaves its window."""
    window = ir.window_asked(atom)
    if atom.stream.kind in TUMBLING:
        yield plan.CHECK_TUMBLE, atom, 1, 0, 0
    elif window != 0:
        kind = plan.CHECK_LEAVES_LAST if isinstance(atom, ir.AtLeast) else plan.CHECK_LEAVES_ANY
        yield kind, atom, ir.entries_needed(atom), window, 0


def _is_age(node: ir.Node) -> bool:
    """Whether the node is a recency or an age, or the least or greatest of such."""
    if isinstance(node, ir.Arithmetic) and node.operator in ("min", "max"):
        return _is_age(node.left) and _is_age(node.right)
    return isinstance(node, ir.Recency | ir.Age)
