"""When a segment or stage may change by time alone, found by scanning: the law of the checks, entry by entry.

`due` follows the rules that the engine's checks follow. `every_change` knows nothing of them: it names every moment at
which any window, age or period of a condition could have an effect, so that a test can look at all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from segue.events.names import NAMES
from segue.limits import DAY_MS
from segue.policy import ir
from segue.policy.interpret import interpret
from segue_kernels import plan
from tests.reference.history import (
    ACTIVITY_TYPES,
    CALENDAR,
    TUMBLING,
    CustomerHistory,
    nothing_seen,
    period_end_ms,
    session_spans,
)

ALL_TYPES = frozenset(range(1, len(NAMES) + 1))

LAST = "last"  # of the entries leaves the window
ANY = "any"
AGE = "age"
TUMBLE = "tumble"
DAILY = "daily"


@dataclass(frozen=True)
class Check:
    """One reason to look again. `entries`: how many of the newest matter."""

    kind: str
    stream: ir.Stream
    entries: int = 1
    window_ms: int = 0
    age_ms: int = 0


def checks_of(node: ir.Node) -> Iterator[Check]:
    """The checks that a condition needs; what it computes from ages is looked at once a day."""
    match node:
        case ir.Compare(_, left, ir.Number(value)) if _is_age(left):
            for atom in ir.atoms(left):
                if 0 <= value < plan.RECENCY_NEVER:
                    yield Check(AGE, atom.stream, 1, _window(atom), math.floor(value))
                yield from _leaves(ANY, atom, 1)
            return
        case ir.Recency(stream):
            yield Check(DAILY, stream, 1, _window(node))
            yield from _leaves(ANY, node, 1)
        case ir.Age(stream) | ir.Decayed(stream):
            yield Check(DAILY, stream)
        case ir.AtLeast(_, _, least):
            yield from _leaves(LAST, node, least)
        case ir.Count(_, _, up_to) | ir.Sum(_, _, up_to, _):
            yield from _leaves(ANY, node, up_to)
        case ir.Nth(_, _, n):
            yield from _leaves(ANY, node, n + 1)
        case ir.Latest():
            for atom in ir.atoms(node):
                assert isinstance(atom, (ir.Latest, ir.Nth))
                yield from _leaves(ANY, atom, atom.entries if isinstance(atom, ir.Latest) else atom.n + 1)
            return
    for child in ir.children(node):
        yield from checks_of(child)


def _is_age(node: ir.Node) -> bool:
    """A recency or an age, or the least or greatest of some."""
    match node:
        case ir.Arithmetic("min" | "max", left, right):
            return _is_age(left) and _is_age(right)
    return isinstance(node, (ir.Recency, ir.Age))


def _window(atom: ir.Atom) -> int:
    within_ms: int = getattr(atom, "within_ms", 0)
    return within_ms


def _leaves(kind: str, atom: ir.Atom, entries: int) -> Iterator[Check]:
    within_ms = _window(atom)
    if atom.stream.kind in TUMBLING:
        yield Check(TUMBLE, atom.stream)
    elif within_ms:
        yield Check(kind, atom.stream, entries, within_ms)


def _entries(history: CustomerHistory, check: Check) -> list[int]:
    """Times of the stream's entries, newest first."""
    stream = check.stream
    if stream.kind == plan.FIRST:
        found = history.first(stream, 0)
        return [found[0]] if found else []
    if stream.kind == plan.DISTINCT:
        return sorted(history.latest_of_each(stream, 0, 0).values(), reverse=True)
    if stream.kind == plan.SUM or (stream.kind == plan.DECAY and stream.field):
        return history.times_with_field(stream, 0, 0)
    if stream.kind in TUMBLING:
        return history.tumbled_times(stream)
    return history.times(stream, 0, 0)


def due(checks: Iterable[Check], history: CustomerHistory) -> int:
    """The least moment after history.now at which some check says to look; 0 if none does."""
    moments = [moment for check in checks for moment in _moments(check, history)]
    return min((moment for moment in moments if moment > history.now), default=0)


def _moments(check: Check, history: CustomerHistory) -> Iterator[int]:
    now = history.now
    times = _entries(history, check)
    if not times:
        return
    first, last = history.window(check.window_ms)
    if check.kind in (DAILY, AGE) and not first <= times[0] <= last:
        return
    if check.kind == DAILY:
        yield (now // DAY_MS + 1) * DAY_MS
    elif check.kind == AGE:
        yield from (times[0] + check.age_ms, times[0] + check.age_ms + 1)
    elif check.kind == TUMBLE:
        width = check.stream.every_ms
        if times[0] // width == now // width:
            yield (now // width + 1) * width
    else:
        inside = [time for time in times[: check.entries] if first <= time <= last]
        if not inside:
            return
        if check.window_ms in CALENDAR:
            yield period_end_ms(now, history.zone, check.window_ms)
        elif check.window_ms < 0:
            current = history.session(-check.window_ms)
            assert current is not None
            yield current[1] - check.window_ms + 1
        elif check.kind == ANY or len(inside) == check.entries:
            yield inside[-1] + check.window_ms


def listened_to(nodes: Sequence[ir.Node], joined: dict[int, int]) -> frozenset[int]:
    """The event types after which these conditions are looked at; `joined`: type of the right event of each join.

    After every event: where one is on calendar windows (it may bring another time zone) or on tables, and where one
    holds for somebody of whom nothing is known.
    """
    types: set[int] = set()
    nothing = CustomerHistory([], [], 0, nothing_seen(0), looked_up=lambda _: 0)
    if any(interpret(node, nothing) for node in nodes):
        return ALL_TYPES
    for node in nodes:
        for part in ir.walk(node):
            window = getattr(part, "within_ms", 0)
            if window in CALENDAR or isinstance(part, (ir.Lookup, ir.LookupIs)):
                return ALL_TYPES
            if window < 0:
                types |= ACTIVITY_TYPES
        for atom in ir.atoms(node):
            type_ = atom.stream.type
            types.add(joined[type_ - plan.JOIN_TYPE] if type_ >= plan.JOIN_TYPE else type_)
    return frozenset(types)


def every_change(
    nodes: Iterable[ir.Node], history: CustomerHistory, after_ms: int, before_ms: int
) -> list[int]:
    """Every moment in (after, before) at which a window or age of a condition could end, whatever it says."""
    windows, ages, widths = set(), set(), set()
    for node in nodes:
        for part in ir.walk(node):
            windows.add(getattr(part, "within_ms", 0))
            if isinstance(part, ir.Number):
                ages.add(int(part.value))
            stream = getattr(part, "stream", None)
            if stream is not None and stream.kind in TUMBLING:
                widths.add(stream.every_ms)
    moments: set[int] = set()
    times = {seen.time_ms for seen in history.items} | {seen.time_ms for seen in history.headers}
    for time in times | {match.time_ms for match in history.matches}:
        moments |= {time + window for window in windows if window > 0}
        moments |= {time + age + more for age in ages for more in (0, 1)}
        moments |= {(time // width + 1) * width for width in widths}
        moments |= {period_end_ms(time, history.zone, window) for window in windows if window in CALENDAR}
    for window in windows:
        if window <= -plan.WINDOW_SESSION_MS_MIN:
            spans = session_spans((s.time_ms for s in history.headers if s.type in ACTIVITY_TYPES), -window)
            moments |= {end - window + 1 for _, end in spans}
    return sorted(moment for moment in moments if after_ms < moment < before_ms)
