"""What the words of saved rows mean, and how rows saved under other policies are carried over.

What is remembered is told apart by what it is of, not by where it lies or how much of it is kept: a feature's values,
a segment's members, a stage, a journey's waits stay theirs as long as they mean the same under the same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import msgspec
import numpy as np
import numpy.typing as npt

from segue.events.names import NAMES
from segue.policy.compiled import CompiledPolicies, contacts_text
from segue.state.delta import ShardDelta, for_kernels
from segue_kernels import plan, saved
from segue_kernels.fire import LOOK_WITH_NEXT_EVENT
from segue_kernels.row import SPILL_HEAD

Words = npt.NDArray[np.int64]

_KINDS = {
    plan.COUNT: "times",
    plan.SUM: "sums",
    plan.TUMBLE_COUNT: "counts by window",
    plan.TUMBLE_SUM: "sums by window",
    plan.DISTINCT: "keys",
    plan.TUMBLE_DISTINCT: "keys by window",
    plan.DECAY: "decayed sums",
    plan.FIRST: "the first",
    plan.SESSIONS: "sessions",
    plan.LEFT: "unmatched left sides",
}
_BY = {plan.BY_NONE: "", plan.BY_PRODUCT: " by product", plan.BY_CATEGORY: " by category"}
_LISTED_MAX = 5  # of what is new or dropped by name, in one sentence


class Remembered(msgspec.Struct, frozen=True, array_like=True):
    """A stream. meaning: all that must agree for its entries to mean the same; columns: its row of plan.STREAMS."""

    text: str
    meaning: tuple[int | str, ...]
    columns: tuple[int, ...]


class Waiting(msgspec.Struct, frozen=True, array_like=True):
    """A journey that waits, or whose actions may be held or taken back, by its number: what its waits are kept by
    (plan.BY_*), and how many steps it has; 0 if it does not wait."""

    journey: int
    id: str
    hash: int
    by: int
    steps: int


class Layout(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """What the words of a row, and of what it reaches, mean."""

    row_words: int
    streams: tuple[Remembered, ...]
    segments: tuple[str, ...]
    stages: tuple[str, ...]
    waiting: tuple[Waiting, ...]

    @cached_property
    def columns(self) -> Words:
        """The table of streams, as kernels take it."""
        rows = [stream.columns for stream in self.streams]
        return np.array(rows, np.int64).reshape(len(rows), plan.STREAM_WORDS)


def names_listed(streams: Words) -> int:
    """Products that the lists of a row have, at most."""
    listed = streams[streams[:, plan.STREAM_FLAGS] & plan.STREAM_FLAG_NAMES != 0]
    return int(listed[:, plan.STREAM_K].sum())


def layout_of(policies: CompiledPolicies) -> Layout:
    """The layout of rows under these policies."""
    journeys = tuple(info.id for info in policies.journey_infos)
    waiting = []
    quiet = policies.quiet[policies.quiet[:, plan.QUIET_HOLDS] != 0]
    holds = int(np.bitwise_or.reduce(quiet[:, plan.QUIET_CONTACTS]))
    for number, of in enumerate(policies.journeys.tolist()):
        offers = policies.offers[of[plan.JOURNEY_OFFERS_START] : of[plan.JOURNEY_OFFERS_END]]
        may_be_held = any(holds >> contact & 1 for contact in offers[:, plan.OFFER_CONTACT].tolist())
        takes_back = offers[:, plan.OFFER_TAKE_BACK_MS].any()
        if of[plan.JOURNEY_KIND] == plan.ON_WAIT or may_be_held or takes_back:
            steps = of[plan.JOURNEY_WAITS_END] - of[plan.JOURNEY_WAITS_START]
            hashed = int(policies.journey_hash[number])
            waiting.append(Waiting(number, journeys[number], hashed, of[plan.JOURNEY_BY], steps))
    return Layout(
        policies.row_words,
        tuple(_remembered(policies, journeys, row) for row in policies.streams.tolist()),
        policies.segment_ids,
        policies.stage_ids,
        tuple(waiting),
    )


def _remembered(policies: CompiledPolicies, journeys: Sequence[str], row: list[int]) -> Remembered:
    kind, type_, field = row[plan.STREAM_KIND], row[plan.STREAM_TYPE], row[plan.STREAM_FIELD]
    of: tuple[int | str, ...]
    if kind == plan.LEFT:
        join = field - 1
        left, right, by = policies.joins[
            join, [plan.JOIN_LEFT_JOURNEY, plan.JOIN_RIGHT_TYPE, plan.JOIN_BY]
        ].tolist()
        # of its left sides: an event's type, a journey's actions, or any
        side = journeys[left] if left >= 0 else _type_name(type_) if type_ < plan.JOIN_TYPE else ""
        of = ("join", policies.join_ids[join], left if left < 0 else 0, side, _type_name(right), by)
        text, field = f" of {policies.join_ids[join]}", 0
    elif type_ >= plan.JOIN_TYPE:
        of = ("matches", policies.join_ids[type_ - plan.JOIN_TYPE])
        text = f" of matches of {of[1]}"
    elif type_ == plan.CAP_TYPE:
        of, text = ("actions of all journeys",), f" of actions {contacts_text(field)}"
    elif type_ >= plan.SENT_TYPE:
        of = ("actions", journeys[type_ - plan.SENT_TYPE])
        text = f" of actions of {of[1]}"
    elif type_ == plan.ANY_TYPE:
        of, text = ("anything",), " of anything done"
    else:
        of = ("events", _type_name(type_))
        text = f" of {of[1]}"
    same = (
        plan.STREAM_BY,
        plan.STREAM_CURRENCY,
        plan.STREAM_SOURCE,
        plan.STREAM_WIDTH_MS,
        plan.STREAM_SLOTS,
    )
    meaning = (kind, field, *(row[column] for column in same), *of)
    return Remembered(f"{_KINDS[kind]}{text}{_BY[row[plan.STREAM_BY]]}", meaning, tuple(row))


def _type_name(code: int) -> str:
    return NAMES[code - 1] if 0 < code <= len(NAMES) else str(code)


class Change:
    """How what was saved in one layout is carried over to another; `sentences` say what is kept, new, dropped."""

    def __init__(self, old: Layout, new: Layout) -> None:
        self._old, self._new = old, new
        streams = _places([s.meaning for s in old.streams], [s.meaning for s in new.streams])
        segments = _places(old.segments, new.segments)
        stages = _places(old.stages, new.stages)
        waits = _places([(w.hash, w.by) for w in old.waiting], [(w.hash, w.by) for w in new.waiting])
        journeys = np.full(1 + max((w.journey for w in old.waiting), default=0), -1, np.int64)
        steps = np.zeros(len(journeys), np.int64)
        for wait, to in zip(old.waiting, waits.tolist(), strict=True):
            if to >= 0:
                journeys[wait.journey] = new.waiting[to].journey
                steps[wait.journey] = new.waiting[to].steps
        self.sentences = [
            *_said("histories", streams, [s.text for s in old.streams], [s.text for s in new.streams]),
            *_said("segments", segments, old.segments, new.segments),
            *_said("stages", stages, old.stages, new.stages),
            *_said(
                "journeys that wait, hold or take back",
                waits,
                [w.id for w in old.waiting],
                [w.id for w in new.waiting],
            ),
        ]
        self._columns = old.columns, new.columns
        self._places = streams, segments, np.maximum(stages, 0), journeys, steps
        self._entry_max = saved.SAVED_SPILLED + int(new.columns[:, plan.STREAM_ENTRY_WORDS].max(initial=0))

    @property
    def names(self) -> int:
        """Names of products that a saved row brings, at most."""
        return names_listed(self._columns[0])

    def rows(self, delta: ShardDelta) -> ShardDelta:
        """A delta's rows; of waits that are gone with their journeys `sentences` tell."""
        old, new = self._old, self._new
        starts, words = for_kernels(delta.starts), for_kernels(delta.words)
        there = starts[:-1][np.diff(starts) > 0]
        room = len(words) + len(there) * max(0, new.row_words - old.row_words)
        room += int(words[there + SPILL_HEAD].sum()) * self._entry_max
        new_words = np.empty(room, np.int64)
        new_starts = np.zeros(len(starts), np.int64)
        gone = saved.change_layout(
            *self._columns,
            *self._places,
            LOOK_WITH_NEXT_EVENT if new.segments or new.stages else 0,
            old.row_words,
            new.row_words,
            starts,
            words,
            new_starts,
            new_words,
        )
        if gone:
            self.sentences.append(f"waits called off with their journeys: {gone:,}")
        return ShardDelta(delta.rows, new_starts, new_words[: new_starts[-1]], delta.rest)

    def history(self, words: Words) -> Words:
        """A history that was on its way."""
        old, new = self._old, self._new
        room = len(words) + max(0, new.row_words - old.row_words) + len(words) // 2 * self._entry_max
        new_words = np.empty(room, np.int64)
        used = saved.change_history(
            *self._columns, *self._places, old.row_words, new.row_words, for_kernels(words), new_words
        )
        return new_words[:used]


def _places(old: Sequence[object], new: Sequence[object]) -> Words:
    place = {what: at for at, what in enumerate(new)}
    return np.array([place.get(what, -1) for what in old], np.int64)


def _said(what: str, place: Words, old: Sequence[str], new: Sequence[str]) -> Iterable[str]:
    """A sentence about what was kept, is new, was dropped; none if there never was any."""
    kept = set(place[place >= 0].tolist())
    begun = [text for at, text in enumerate(new) if at not in kept]
    gone = [text for text, at in zip(old, place.tolist(), strict=True) if at < 0]
    parts = []
    if kept:
        parts.append(f"{len(kept)} kept")
    if begun:
        parts.append(f"{len(begun)} new and empty ({_listed(begun)})")
    if gone:
        parts.append(f"{len(gone)} dropped ({_listed(gone)})")
    if parts:
        yield f"{what}: {', '.join(parts)}"


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _LISTED_MAX
    return ", ".join(texts[:_LISTED_MAX]) + (f" and {more} more" if more > 0 else "")
