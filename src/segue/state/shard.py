"""One shard's customers, and how its arrays grow.

Rows and pool are reserved once and never move. The two hash tables are replaced by larger ones while the old one
still answers; kernels move a few slots with each insert (segue_kernels/index.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from segue import limits
from segue.errors import LimitError, StateError
from segue.events.names import ERASURE, MAIL_REFUSED_CODES
from segue.policy.compiled import CompiledPolicies
from segue.reference.world import ReferenceWorld
from segue.state.delta import FORMAT, Rest, ShardDelta, for_kernels, read_rest
from segue.state.layout import Change, Layout, layout_of, names_listed
from segue.state.memory import reserve_words
from segue_kernels import row as row_layout
from segue_kernels.history import join_history, take_history
from segue_kernels.index import finish_moving_rows, new_index
from segue_kernels.keyed import SPILL_ENTRY, finish_moving_spilled
from segue_kernels.pending import PENDING_WORDS, add_pending
from segue_kernels.plan import (
    BY_NONE,
    JOIN_LEFT_STREAM,
    JOURNEY_KIND,
    LIMIT_STREAM,
    OFFER_TAKE_BACK_MS,
    ON_WAIT,
    QUIET_HOLDS,
    STREAM_BY,
    STREAM_ENTRY_WORDS,
    TYPES,
)
from segue_kernels.pool import size_class
from segue_kernels.saved import NAME_WORDS_MAX, list_free_rows, restore_rows, save_rows
from segue_kernels.shard import (
    ALONE_WORDS,
    SET_ABOUT_CONSENT,
    SET_CONSENT_TYPE,
    SET_DEDUPE_MAX,
    SET_DEDUPE_MS,
    SET_ERASURE_TYPE,
    SET_HELD_MAX,
    SET_KEY0,
    SET_KEY1,
    SET_LATENESS_MS,
    SET_OUTSTANDING_MAX,
    SET_PENDING_MS,
    SET_POOL_MAX,
    SET_POOL_ROOM,
    SET_POOL_ROOM_EACH,
    SET_QUARANTINE_MS,
    SET_RATE_MAX,
    SET_RETENTION_MS,
    SET_ROW_WORDS,
    SET_ROWS_MAX,
    SET_SAMPLE,
    SET_SPILL_ROOM,
    SET_SPILL_ROOM_EACH,
    SET_UNSUBSCRIBE_TYPE,
    SET_WAITS_MAX,
    SET_WORDS,
    STOP_END,
    Plan,
    Replay,
    Shard,
)
from segue_kernels.timers import WHEEL_WORDS
from segue_kernels.waits import HELD_WORDS, OUTSTANDING_WORDS, WAIT_WORDS_MAX

_INDEX_SLOTS_FIRST = 1 << 10
_SPILL_SLOTS_FIRST = 1 << 10
_RING_WORDS = 4 * limits.DEDUPE_IDS_MAX  # of a ring of ids that grows through all its sizes, at most
_NAME_WORDS = (limits.IDENTIFIER_BYTES_MAX + 7) // 8
_NO_INDEX = np.zeros(1, np.int64)
_BLOCKS_WORDS = 64  # of what a row reaches, as a first guess of what saving it takes
_RESTORED_ROWS = 1 << 14  # that room for names is made for at once
# words of meta that follow from the rows and what they reach
_DERIVED = (
    *(row_layout.ROWS_FREE, row_layout.CUSTOMERS, row_layout.INDEX_USED, row_layout.SPILL_USED),
    *(row_layout.SPILL_LIVE, row_layout.REDIRECTS, row_layout.TIMERS, row_layout.WAITS_PENDING),
    *(row_layout.POOL_WORDS_USED, row_layout.DIRTY_COUNT),
    *(row_layout.PENDING_NOW, row_layout.PENDING_USED, row_layout.PENDING_POSITION),
    *range(row_layout.POOL_FREE, row_layout.META_WORDS),
)

_NONE_ALONE = np.zeros((0, ALONE_WORDS), np.int64)
_NO_PENDING = np.zeros((1, PENDING_WORDS), np.int64)

Words = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What a deployment fixes for its engine. Times in milliseconds.

    secret        16 bytes; keys every hash of an identifier, so it is fixed for life
    shards        the limit of parallelism, fixed for life
    sample_share  share of decisions logged with every candidate's numbers
    """

    secret: bytes
    shards: int = limits.SHARDS_DEFAULT
    lateness_ms: int = limits.LATENESS_MS_DEFAULT
    retention_ms: int = limits.RETENTION_MS_DEFAULT
    rate_per_minute_max: int = limits.RATE_EVENTS_PER_MINUTE_MAX
    quarantine_ms: int = limits.QUARANTINE_MS
    sample_share: float = limits.SAMPLE_SHARE_DEFAULT
    customers_per_shard_max: int = limits.CUSTOMERS_PER_SHARD_MAX
    pool_words_per_shard_max: int = limits.POOL_WORDS_PER_SHARD_MAX

    def words(self, row_words: int, consent_type: int, unsubscribe_type: int) -> Words:
        """The settings as kernels take them."""
        words = np.zeros(SET_WORDS, np.int64)
        words[SET_ROW_WORDS] = row_words
        words[SET_RETENTION_MS] = self.retention_ms
        words[SET_RATE_MAX] = self.rate_per_minute_max
        words[SET_QUARANTINE_MS] = self.quarantine_ms
        words[SET_DEDUPE_MS] = limits.DEDUPE_MS_MAX
        words[SET_DEDUPE_MAX] = limits.DEDUPE_IDS_MAX
        words[SET_LATENESS_MS] = self.lateness_ms
        words[SET_SAMPLE] = int(self.sample_share * (1 << 53))
        words[SET_KEY0], words[SET_KEY1] = np.frombuffer(self.secret, "<i8")
        words[SET_CONSENT_TYPE] = consent_type
        words[SET_UNSUBSCRIBE_TYPE] = unsubscribe_type
        words[SET_ROWS_MAX] = self.customers_per_shard_max
        words[SET_POOL_MAX] = self.pool_words_per_shard_max
        words[SET_WAITS_MAX] = limits.WAITS_PER_CUSTOMER_MAX
        words[SET_HELD_MAX] = limits.HELD_PER_CUSTOMER_MAX
        words[SET_OUTSTANDING_MAX] = limits.OUTSTANDING_PER_CUSTOMER_MAX
        words[SET_PENDING_MS] = limits.PENDING_MS
        words[SET_ERASURE_TYPE] = ERASURE
        bits = sum(1 << code for code in {consent_type, unsubscribe_type, *MAIL_REFUSED_CODES})
        words[SET_ABOUT_CONSENT : SET_ABOUT_CONSENT + 4] = np.frombuffer(bits.to_bytes(32, "little"), "<i8")
        return words


def _spill_slots(least: int, live: int, room: int) -> int:
    """The least power of two from `least` on whose table is not growing again at once: a quarter of it and `room`
    twice may be added to `live` entries."""
    slots = least
    while slots * 3 // 8 < live or slots * 5 // 8 < live + 2 * room:
        slots *= 2
    return slots


def block_words(words: int) -> int:
    """Words of the pool's block for `words` words."""
    return int(size_class(words)[1])


def _begin(meta: Words) -> None:
    """The meta words of a shard without rows, as far as they follow from that."""
    meta[list(_DERIVED)] = 0
    meta[row_layout.POOL_BUMP] = 8  # block 0 means none
    meta[row_layout.INDEX_OLD_POSITION] = meta[row_layout.SPILL_OLD_POSITION] = 1


def plan_arrays(policies: CompiledPolicies) -> Plan:
    """The compiled policies as kernels take them."""
    return Plan(*(getattr(policies, name) for name in Plan._fields))


class EventRoom(NamedTuple):
    """What one event or timer can take at most: entries it spills, and words of the pool for them, for its id ring,
    for waits it begins, for what it holds and what may be taken back. `_each`: so many for each of its records, beside
    the others."""

    spill: int
    spill_each: int
    pool: int
    pool_each: int

    def spilled(self, records: int) -> int:
        """Entries that an event of so many records may spill."""
        return self.spill + records * self.spill_each


def event_room(plan: Plan) -> EventRoom:
    """The room that every event has before it is processed; a row that has no name yet takes its from the event.

    An entry is spilled when another takes its slot: a key written to (each record, each stream that listens),
    read by a condition (each record, and once more for each journey), counted and charged by a limit, or matched
    and awaited by a join.
    """
    streams = plan.streams
    block = np.array(
        [block_words(SPILL_ENTRY + words) for words in streams[:, STREAM_ENTRY_WORDS].tolist()], np.int64
    )
    block[streams[:, STREAM_BY] == BY_NONE] = 0  # these never spill
    spill, spill_each, pool, pool_each = 0, 0, 0, 0
    for kind in range(TYPES):
        journeys = int(plan.trigger_start[kind + 1] - plan.trigger_start[kind])
        written = block[plan.listen[plan.listen_start[kind] : plan.listen_start[kind + 1]]]
        read = block[plan.locate[plan.locate_start[kind] : plan.locate_start[kind + 1]]]
        spill = max(spill, journeys * int(np.count_nonzero(read)))
        spill_each = max(spill_each, int(np.count_nonzero(written) + np.count_nonzero(read)))
        pool = max(pool, journeys * int(read.sum()))
        pool_each = max(pool_each, int(written.sum() + read.sum()))
    journeys = len(plan.journeys)
    read = block[np.unique(plan.journey_locate)]  # by journeys that a change triggers
    left = block[plan.joins[:, JOIN_LEFT_STREAM]]
    spill += journeys * int(np.count_nonzero(read)) + len(plan.slot_hash) * int(np.count_nonzero(left))
    spill_each += int(np.count_nonzero(read) + np.count_nonzero(left))
    pool += journeys * int(read.sum()) + len(plan.slot_hash) * int(left.sum())
    pool_each += int(read.sum() + left.sum())
    if (plan.journeys[:, JOURNEY_KIND] == ON_WAIT).any():
        pool += limits.WAITS_PER_CUSTOMER_MAX * block_words(WAIT_WORDS_MAX)
    if plan.quiet[:, QUIET_HOLDS].any():
        pool += len(plan.slot_hash) * block_words(WAIT_WORDS_MAX + HELD_WORDS)
    if plan.offers[:, OFFER_TAKE_BACK_MS].any():  # those that stand in for a winner are remembered, too
        pool += max(len(plan.slot_hash), len(plan.offers)) * block_words(OUTSTANDING_WORDS)
    sent = block[plan.limits[:, LIMIT_STREAM]]
    grants = 2 * len(plan.slot_hash) * limits.LIMITS_PER_JOURNEY_MAX
    if sent.any():
        spill += int(np.count_nonzero(sent)) + grants
        pool += int(sent.sum()) + grants * int(sent.max())
    return EventRoom(spill, spill_each, pool + _RING_WORDS + block_words(_NAME_WORDS), pool_each)


class ShardState:
    """The arrays of one shard (`arrays` and `replay`, taken anew after each growth) and what Python does to them."""

    def __init__(
        self, policies: CompiledPolicies, settings: EngineSettings, words: Words, world: ReferenceWorld
    ) -> None:
        self.plan = plan_arrays(policies)
        self._policies = policies
        self._world = world
        self._names_per_customer = names_listed(self.plan.streams)
        self.words = words
        self.lateness_ms = settings.lateness_ms
        self.row_words = policies.row_words
        self._room = event_room(self.plan)
        words[SET_SPILL_ROOM], words[SET_SPILL_ROOM_EACH] = self._room.spill, self._room.spill_each
        words[SET_POOL_ROOM], words[SET_POOL_ROOM_EACH] = self._room.pool, self._room.pool_each
        rows_max = settings.customers_per_shard_max
        meta = np.zeros(row_layout.META_WORDS, np.int64)
        _begin(meta)
        self.arrays = Shard(
            rows=reserve_words(rows_max * self.row_words, "the rows of customers"),
            index=new_index(_INDEX_SLOTS_FIRST),
            index_old=_NO_INDEX.copy(),
            spill=new_index(_spill_slots(_SPILL_SLOTS_FIRST, 0, self._room.spilled(records=1))),
            spill_old=_NO_INDEX.copy(),
            pool=reserve_words(settings.pool_words_per_shard_max, "rings, waits and spilled keys"),
            meta=meta,
            dirty=reserve_words((rows_max + 7) // 8, "marks of changed rows").view(np.uint8),
            dirty_rows=reserve_words((rows_max + 1) // 2, "the list of changed rows").view(np.int32),
            wheel=np.zeros(WHEEL_WORDS, np.int64),
        )
        self._has_base = False  # whether what was saved so far says it all
        self._change: Change | None = None  # of the layout, since the shard was saved
        self._words_each = self.row_words + _BLOCKS_WORDS  # of a saved row, about
        slots = max(1, len(policies.slot_hash))
        self.replay = Replay(
            _NO_PENDING.copy(), np.full(slots, -1, np.int64), np.full(slots, -1, np.int64), _NONE_ALONE
        )

    def grow_index(self) -> None:
        """Give the index of customers a table with room for as many again."""
        arrays = self.arrays
        meta = arrays.meta
        finish_moving_rows(arrays.index, arrays.index_old, arrays.rows, self.row_words, meta)
        live = int(meta[row_layout.CUSTOMERS])
        slots = len(arrays.index) * (2 if live > len(arrays.index) * 3 // 8 else 1)
        meta[row_layout.INDEX_USED] = 0
        meta[row_layout.INDEX_OLD_POSITION] = 0
        self.arrays = arrays._replace(index=new_index(slots), index_old=arrays.index)

    def grow_spill(self, records: int = 1, more: int = 0) -> None:
        """Give the index of spilled keys a table with room for half as many again, for `more` entries and for an event
        of `records` records; expired ones are left behind. It may be half the size: there were more once."""
        arrays = self.arrays
        meta = arrays.meta
        finish_moving_spilled(arrays, self.plan.streams, self.row_words, self.lateness_ms)
        live = int(meta[row_layout.SPILL_LIVE])
        least = max(_SPILL_SLOTS_FIRST, len(arrays.spill) // 2)
        slots = _spill_slots(least, live, more + self._room.spilled(records))
        meta[row_layout.SPILL_USED] = 0
        meta[row_layout.SPILL_OLD_POSITION] = 0
        self.arrays = arrays._replace(spill=new_index(slots), spill_old=arrays.spill)

    def make_pending_room(self, decisions: int) -> None:
        """Room for so many more decisions that were sent before a crash."""
        meta = self.arrays.meta
        old = self.replay.pending
        if 2 * (int(meta[row_layout.PENDING_USED]) + decisions) < len(old):
            return
        rows = 1 << (2 * (int(meta[row_layout.PENDING_NOW]) + decisions)).bit_length()
        pending = np.zeros((rows, PENDING_WORDS), np.int64)
        meta[row_layout.PENDING_NOW] = meta[row_layout.PENDING_USED] = 0
        add_pending(pending, meta, old)
        self.replay = self.replay._replace(pending=pending)

    def drop_old_tables(self) -> None:
        """Let go of the tables that grew, once all they held has moved, and of one that nothing is pending in."""
        meta = self.arrays.meta
        if len(self.replay.pending) > 1 and meta[row_layout.PENDING_NOW] == 0:
            meta[row_layout.PENDING_USED] = 0
            self.replay = self.replay._replace(pending=_NO_PENDING.copy())
        if 1 < len(self.arrays.index_old) <= meta[row_layout.INDEX_OLD_POSITION]:
            meta[row_layout.INDEX_OLD_POSITION] = 1
            self.arrays = self.arrays._replace(index_old=_NO_INDEX.copy())
        if 1 < len(self.arrays.spill_old) <= meta[row_layout.SPILL_OLD_POSITION]:
            meta[row_layout.SPILL_OLD_POSITION] = 1
            self.arrays = self.arrays._replace(spill_old=_NO_INDEX.copy())

    def full(self, what: str) -> LimitError:
        """The error for a reservation that is used up."""
        return LimitError(
            "keep customers",
            f"a shard has used up its {what}",
            "deploy with more shards, a shorter retention, or a higher customers_per_shard_max",
        )

    def history(self, row: int) -> Words:
        """What a row holds, as one run of words (segue_kernels/history.py)."""
        history: Words = take_history(self.arrays, self.plan, self._world.arrays, row, self.words)
        return history

    def join(self, row: int, history: Words, time_ms: int) -> None:
        """Join a history into a row before the event at `time_ms` is processed."""
        meta = self.arrays.meta
        entries = len(history) // 2  # an entry of a key takes two words or more, in a slot or spilled
        if len(self.arrays.spill) * 5 // 8 - meta[row_layout.SPILL_USED] < entries:
            self.grow_spill(more=entries)
        # and at most four times its words as a block; an id ring grows through all its sizes
        if meta[row_layout.POOL_BUMP] + 4 * len(history) + _RING_WORDS > self.words[SET_POOL_MAX]:
            raise self.full("pool for rings, waits and spilled keys")
        self.make_name_room(self._names_per_customer)
        join_history(self.arrays, self.plan, self._world.arrays, row, history, time_ms, self.words)

    def make_name_room(self, names: int) -> None:
        """Room for so many more names of products, if policies list products at all."""
        if self._names_per_customer:
            self._world.make_name_room(names)

    def take_dirty(self) -> npt.NDArray[np.int32]:
        """The rows changed since the last call, each once; from now on they count as clean."""
        count = int(self.arrays.meta[row_layout.DIRTY_COUNT])
        rows: npt.NDArray[np.int32] = self.arrays.dirty_rows[:count].copy()
        self.arrays.dirty[rows] = 0
        self.arrays.meta[row_layout.DIRTY_COUNT] = 0
        return rows

    @property
    def changed_rows(self) -> int:
        """Rows changed since `save`."""
        return int(self.arrays.meta[row_layout.DIRTY_COUNT])

    @property
    def customers(self) -> int:
        """Rows in use."""
        return int(self.arrays.meta[row_layout.CUSTOMERS])

    def memory_bytes(self) -> int:
        """Memory in use: rows, blocks and tables (reserved but untouched pages are not, nor a table of nothing)."""
        meta = self.arrays.meta
        rows = int(meta[row_layout.ROWS_USED]) * (self.row_words * 8 + 5)
        tables = self.arrays.index_old.nbytes + self.arrays.spill_old.nbytes
        if meta[row_layout.INDEX_USED]:
            tables += self.arrays.index.nbytes
        if meta[row_layout.SPILL_USED]:
            tables += self.arrays.spill.nbytes
        tables += self.arrays.wheel.nbytes + self.replay.pending.nbytes
        return rows + int(meta[row_layout.POOL_BUMP]) * 8 + tables

    def counters(self) -> dict[str, int]:
        """What was counted so far, by name."""
        meta = self.arrays.meta
        counted = {
            name: int(meta[row_layout.COUNTERS_START + i]) for i, name in enumerate(row_layout.COUNTER_NAMES)
        }
        counted["redirects"] = int(meta[row_layout.REDIRECTS])
        counted["timers_now"] = int(meta[row_layout.TIMERS])
        counted["waits_now"] = int(meta[row_layout.WAITS_PENDING])
        counted["pending_now"] = int(meta[row_layout.PENDING_NOW])
        counted["spilled_now"] = int(meta[row_layout.SPILL_LIVE])
        return counted

    # --- out of memory and back ---------------------------------------------------------------------------

    @cached_property
    def layout(self) -> Layout:
        """What the words of the rows mean."""
        return layout_of(self._policies)

    @cached_property
    def _layout_bytes(self) -> bytes:
        return msgspec.msgpack.encode(self.layout)

    def save(self, more: Mapping[str, bytes] | None = None, room: Words | None = None) -> ShardDelta:
        """What changed since the last call; the first one, and the first after other policies, are all there is.

        more  what the caller keeps beside the shard, by name (Rest.more)
        room  where the delta's words go if it is large enough; an array of their own may take longer than all else, for
              its pages are new
        """
        rows = np.sort(self.take_dirty()).astype(np.int64)
        starts = np.zeros(len(rows) + 1, np.int64)
        names_max = self._names_per_customer
        margin = self._words_each + names_max * NAME_WORDS_MAX + 1
        size = len(rows) * self._words_each + margin
        words = np.empty(size, np.int64) if room is None or len(room) < size else room
        done = 0
        while True:
            done = save_rows(
                self.arrays, self.plan, self._world.arrays, rows, done, starts, words, names_max, self.words
            )
            used = int(starts[done])
            if done == len(rows):
                break
            wider = np.empty(2 * len(words) + margin, np.int64)
            wider[:used] = words[:used]
            words = wider
        if done:
            self._words_each = max(self.row_words + _BLOCKS_WORDS, used * 9 // (8 * done))
        rest = Rest(
            FORMAT, not self._has_base, self.arrays.meta.tobytes(), self._layout_bytes, dict(more or {})
        )
        self._has_base = True
        return ShardDelta(rows, starts, words[:used], msgspec.msgpack.encode(rest))

    def restore(self, delta: ShardDelta) -> list[str]:
        """Put an empty shard into the state that was saved: the newest words of each row (merge_deltas).

        Under other policies what stayed is kept and the rest begins anew: sentences that say so. Then the next delta is
        all there is again, for what was saved before is of another layout.
        """
        arrays = self.arrays
        assert arrays.meta[row_layout.ROWS_USED] == 0, "only an empty shard is restored"
        rest = read_rest(delta)
        if rest.format != FORMAT:
            raise StateError(
                "restore the state",
                f"it was saved in format {rest.format}; this version reads format {FORMAT}",
                "start the version that saved it",
            )
        names = self._names_per_customer
        change = None
        if rest.layout != self._layout_bytes:
            change = Change(msgspec.msgpack.decode(rest.layout, type=Layout), self.layout)
            delta, names = change.rows(delta), change.names
        saved_meta = np.frombuffer(rest.meta, np.int64)
        meta = arrays.meta
        meta[:] = saved_meta
        _begin(meta)
        if meta[row_layout.ROWS_USED] > self.words[SET_ROWS_MAX]:
            raise self.full("rows for customers")
        self._put_back(for_kernels(delta.rows), for_kernels(delta.starts), for_kernels(delta.words), names)
        list_free_rows(arrays.rows, meta, self.row_words)
        counted = slice(row_layout.COUNTERS_START, row_layout.POOL_FREE)
        meta[counted] = saved_meta[counted]
        self._has_base = change is None
        self._change = change
        if change is not None:
            there = delta.rows[np.diff(delta.starts) > 0]
            arrays.dirty[there] = 1
            arrays.dirty_rows[: len(there)] = there
            meta[row_layout.DIRTY_COUNT] = len(there)
        return [] if change is None else change.sentences

    def carry_history(self, history: Words) -> Words:
        """A history that was saved beside this shard, as it is under these policies."""
        return history if self._change is None else self._change.history(history)

    def _put_back(self, rows: Words, starts: Words, words: Words, names: int) -> None:
        """names: those of products that a saved row brings, at most."""
        there = starts[:-1][np.diff(starts) > 0]
        slots = _INDEX_SLOTS_FIRST
        while slots * 3 // 8 < len(there):
            slots *= 2
        spilled = int(words[there + row_layout.SPILL_HEAD].sum())
        room = self._room.spilled(records=1)
        self.arrays = self.arrays._replace(
            index=new_index(slots), spill=new_index(_spill_slots(_SPILL_SLOTS_FIRST, spilled, room))
        )
        for start in range(0, len(rows), _RESTORED_ROWS):
            end = min(start + _RESTORED_ROWS, len(rows))
            if names:
                self._world.make_name_room((end - start) * names)
            _, stop = restore_rows(
                self.arrays,
                self.plan,
                self._world.arrays,
                rows,
                start,
                end,
                starts,
                words,
                self.words,
            )
            if stop != STOP_END:
                raise self.full("pool for rings, waits and spilled keys")
