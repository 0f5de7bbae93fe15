"""What a worker knows that is not a customer's: the world's clocks, reference tables as they were at any time, and the
names of products that actions list."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from segue import limits
from segue.errors import LimitError, SettingsError, StateError, did_you_mean
from segue.events.hashing import hash_text, key_words
from segue.events.money import exponent_table
from segue.events.names import CODE_BY_NAME, ERASURE, ROW_CODES
from segue.policy.compiled import CompiledPolicies
from segue.reference.cells import TABLE_NAMES
from segue.reference.files import Field, TableRows, read_table
from segue.reference.zones import calendar, zone_number
from segue.routing.arrivals import Released
from segue.routing.packet import REFERENCE_TYPES, ROW_BITS
from segue_kernels import plan, tables
from segue_kernels.calendar import DEFAULT_ZONE, find_new_zone
from segue_kernels.names import (
    NAME_SLOT_WORDS,
    NAME_STATE_WORDS,
    NAME_TEXT_USED,
    NAMES_USED,
    grow_names,
)
from segue_kernels.record import FLAG_IS_LINE, PACK, SEQUENCE, TIME, ZONE_MASK, ZONE_SHIFT
from segue_kernels.route import FOR_ALL, FOR_ALL_ANONYMOUS, FOR_ANONYMOUS
from segue_kernels.shard import World

if TYPE_CHECKING:
    from segue.settings import Settings

Words = npt.NDArray[np.int64]

FORMAT = 1  # of what `save` returns
ALONG_THE_WAY = "events"  # in place of a file: rows of the table come along the way, and only there
# types of events that change one field of a table along the way
UPDATES = {
    CODE_BY_NAME["Price Updated"]: (plan.TABLE_PRICE, "amount"),
    CODE_BY_NAME["Inventory Updated"]: (plan.TABLE_STOCK, "quantity"),
}
_TYPE_AND_LINE = 0xFF | FLAG_IS_LINE << 8  # of PACK
_FORGET_SHARE = 8  # of the time in which who was erased is gone from all files: until saves are written anew
_FIRST_WORD = 8  # of versions: word 0 means none
_STEP = "read the tables"
_NO_LOOKUPS = np.zeros((0, plan.LOOKUP_WORDS), np.int64)


def types_for_all(policies: CompiledPolicies) -> npt.NDArray[np.uint8]:
    """Of events that change a table, those whose table some policy looks into: every shard hears of them. Of an
    erasure every shard of anonymous identifiers does, and where profiles are looked into, whoever it is about: so every
    process does.

    uint8 a type, as segue.routing.packet takes it.
    """
    types = REFERENCE_TYPES.copy()
    looked_up = set(policies.lookups[:, plan.LOOKUP_TABLE].tolist())
    changes = [
        *((code, table) for code, (table, _) in UPDATES.items()),
        *zip(ROW_CODES, range(plan.TABLES), strict=True),
    ]
    for code, table in changes:
        if table in looked_up:
            types[code] = FOR_ALL
    types[ERASURE] = FOR_ALL_ANONYMOUS if plan.TABLE_PROFILE in looked_up else FOR_ANONYMOUS
    return types


def check_tables(settings: Settings, policies: CompiledPolicies) -> None:
    """Read every table that a run is told of; raises SettingsError and SourceError for what it could not run with."""
    ReferenceWorld.of(settings, policies)


class ReferenceWorld:
    """`arrays` is what kernels take; it is another after room had to be made, so take it anew for each batch.

    All shards of a worker thread share one world: each hands it the rows that all hear of, and each such row is
    let in once. A row's lookups see what arrived before it in its shard, however far another one has come.
    """

    def __init__(
        self,
        timezone: str,
        lookups: Words = _NO_LOOKUPS,
        fields: tuple[tuple[str, str, str], ...] = (),
        files: Mapping[str, str] | None = None,
        secret: bytes = bytes(16),
        topics: Collection[str] = (),
    ) -> None:
        shared = self._calendar = calendar()
        defaults = np.zeros(4, np.int64)
        defaults[DEFAULT_ZONE] = zone_number(timezone)
        shared.load(int(defaults[DEFAULT_ZONE]))
        self._columns = np.zeros((plan.TABLES, tables.COLUMN_WORDS), np.int64)
        self._table_of = np.where(REFERENCE_TYPES, tables.NO_TABLE, 0).astype(np.uint8)
        self._state = np.zeros(tables.STATE_HEARD + limits.PARTITIONS_MAX, np.int64)
        self._state[tables.STATE_HEARD :] = -1
        layout = _layout(lookups, fields)
        rows = _read_files(layout, dict(files or {}), secret, topics)
        width = {table: tables.VERSION_FIELDS + len(of) for table, of in layout.items()}
        count = sum(len(read.keys) for read in rows.values())
        words = _FIRST_WORD + sum(width.values()) + sum(width[t] * len(read.keys) for t, read in rows.items())
        _check_words(words)
        self.arrays = World(
            zone_of=shared.zone_of,
            day_start=shared.day_start,
            month_day=shared.month_day,
            shift_start=shared.shift_start,
            shift_ms=shared.shift_ms,
            table_index=np.zeros(_slots(count), np.int64),
            versions=np.zeros(words, np.int64),
            defaults=defaults,
            names=np.zeros(NAME_SLOT_WORDS, np.int64),
            name_text=np.zeros(0, np.uint8),
            name_state=np.zeros(NAME_STATE_WORDS, np.int64),
        )
        # of erasures since the last save, if updates are kept: the time by key of the profile
        self._erased: dict[int, int] = {}
        self._erase_within_ms = limits.ERASE_WITHIN_MS_DEFAULT
        self._forget_at: float | None = None  # what was saved before is to be written anew then, monotonic
        # since the last save, if they are kept: by table the versions that came along the way
        self._updates: list[dict[int, Words]] | None = None
        self._given_up = 0  # updates since the last save of which there is no version
        self._width_max = max(width.values(), default=0)
        self._layout = layout
        self._fields = np.zeros((sum(map(len, layout.values())), tables.FIELD_WORDS), np.int64)
        self._lay_out(layout, width, secret)
        for table, read in rows.items():
            tables.load_versions(
                self.arrays, self._state, width[table], read.keys, read.valid_from, read.fields
            )

    @classmethod
    def of(cls, settings: Settings, policies: CompiledPolicies) -> ReferenceWorld:
        """The world that a run begins with: its default time zone, and the tables its policies look into."""
        from segue.settings import secret

        topics = {topic.table for topic in settings.kafka.topics if topic.table}
        files = settings.tables
        world = cls(settings.timezone, policies.lookups, policies.lookup_fields, files, secret(), topics)
        if settings.state:
            world.keep_updates()
            world._erase_within_ms = settings.erase_within_ms
        return world

    def _lay_out(self, layout: dict[int, tuple[Field, ...]], width: dict[int, int], secret: bytes) -> None:
        """Where fields stand, and a version of what is not known for each table."""
        at = _FIRST_WORD
        rows = [
            (table, hash_text(field.name, *key_words(secret)), word, field.unknown, field.kind == "text")
            for table, fields in layout.items()
            for word, field in enumerate(fields, start=tables.VERSION_FIELDS)
        ]
        self._fields[:] = np.array(rows, np.int64).reshape(-1, tables.FIELD_WORDS)
        for table, fields in layout.items():
            column = self._columns[table]
            column[tables.COLUMN_WIDTH] = width[table]
            column[tables.COLUMN_BLANK] = at
            first = at + tables.VERSION_FIELDS
            self.arrays.versions[first : first + len(fields)] = [field.unknown for field in fields]
            at += width[table]
        self._state[tables.STATE_USED] = at
        for code, (table, name) in UPDATES.items():
            names = [field.name for field in layout.get(table, ())]
            if names:
                self._table_of[code] = 1 + table
            if name in names:
                self._columns[table, tables.COLUMN_UPDATED] = tables.VERSION_FIELDS + names.index(name)
        for table, code in enumerate(ROW_CODES):
            if table in layout:
                self._table_of[code] = tables.ROWS + 1 + table
        self._tells = self._table_of != 0  # types that change a table
        self._tells[ERASURE] = plan.TABLE_PROFILE in layout

    # --- along the way --------------------------------------------------------------------------------

    def take(self, records: Words) -> Words:
        """Let what changes tables into them; the rows that are left, all but those about nobody."""
        kept = self.heard(records)
        return records if kept is None else records[kept]

    def take_released(self, released: Released) -> Released:
        """As take, for rows with their histories."""
        kept = self.heard(released.records)
        if kept is None:
            return released
        place_of = np.cumsum(kept) - 1
        histories = [(int(place_of[at]), history) for at, history in released.histories]
        return Released(released.records[kept], released.text, histories, released.finished)

    def nothing_heard(self) -> Words:
        """World.defaults of a shard whose partitions are not merged."""
        heard = np.full(tables.HEARD + 2 * limits.PARTITIONS_MAX, -1, np.int64)
        heard[: tables.HEARD] = self.arrays.defaults
        heard[tables.HEARD_PARTITIONS] = limits.PARTITIONS_MAX
        return heard

    def note_heard(self, records: Words, heard: Words) -> None:
        """Move a shard's own order of arrival (tables.HEARD) on to a release of rows."""
        partitions = limits.PARTITIONS_MAX
        latest = heard[tables.HEARD + partitions :]
        heard[tables.HEARD : tables.HEARD + partitions] = latest
        told = self._tells[records[:, PACK] & 0xFF]
        if told.any():
            sequence = records[told, SEQUENCE]
            np.maximum.at(latest, sequence >> ROW_BITS, sequence)

    def heard(self, records: Words) -> npt.NDArray[np.bool_] | None:
        """As take: which rows are left, None if all are."""
        if self._tells[ERASURE]:
            erasures = np.flatnonzero(records[:, PACK] & _TYPE_AND_LINE == ERASURE).tolist()
            if erasures:
                return self._heard_between(records, erasures)
        return self._let_in(records)

    def _heard_between(self, records: Words, erasures: list[int]) -> npt.NDArray[np.bool_]:
        """As heard, of rows among which are erasures: these are left, too."""
        kept = np.ones(len(records), np.bool_)
        for number, (start, end) in enumerate(pairwise([0, *erasures, len(records)])):
            if number:
                self._erase(records, start)
            some = self._let_in(records[start:end])
            if some is not None:
                kept[start:end] = some
        return kept

    def _erase(self, records: Words, at: int) -> None:
        """From here on nothing is known of a customer. What is older goes with the next save: until then it may be
        looked up for what arrived before."""
        self._make_room(1)
        made = np.empty((1, 2), np.int64)
        key = tables.erase_version(self.arrays, self._columns, self._state, records, at, made)
        if key and self._updates is not None:
            self._erased[key] = int(records[at, TIME])
            self._keep(made, 1)

    def _let_in(self, records: Words) -> npt.NDArray[np.bool_] | None:
        updates, versions = tables.count_updates(records, self._table_of)
        if updates == 0:
            return None
        self._make_room(versions)
        keep = np.empty(len(records), np.uint8)
        made = np.empty((versions, 2), np.int64)
        told = int(self._state[tables.STATE_UPDATES])
        _, count = tables.apply_updates(
            self.arrays,
            records,
            self._table_of,
            self._columns,
            self._fields,
            exponent_table(),
            self._state,
            limits.TABLE_VERSIONS_MAX,
            keep,
            made,
        )
        if self._updates is not None:
            self._keep(made[:count], int(self._state[tables.STATE_UPDATES]) - told)
        return keep.view(np.bool_)

    def _make_room(self, updates: int) -> None:
        arrays = self.arrays
        words = int(self._state[tables.STATE_USED]) + updates * self._width_max
        if words > len(arrays.versions):
            _check_words(words)
            versions = np.zeros(min(2 * words, limits.TABLE_WORDS_MAX), np.int64)
            versions[: len(arrays.versions)] = arrays.versions
            arrays = arrays._replace(versions=versions)
        slots = _slots(int(self._state[tables.STATE_KEYS]) + updates)
        if slots > len(arrays.table_index):
            index = np.zeros(slots, np.int64)
            tables.grow_table_index(arrays.table_index, arrays.versions, index)
            arrays = arrays._replace(table_index=index)
        self.arrays = arrays

    def make_name_room(self, more: int) -> None:
        """Room for so many more names of products; beyond PRODUCT_NAMES_MAX there is none, and kernels count it."""
        arrays = self.arrays
        used, text_used = arrays.name_state[[NAMES_USED, NAME_TEXT_USED]].tolist()
        wanted = min(used + more, limits.PRODUCT_NAMES_MAX)
        if 2 * wanted * NAME_SLOT_WORDS > len(arrays.names):
            slots = 1 << (2 * wanted - 1).bit_length()
            index = np.zeros(slots * NAME_SLOT_WORDS, np.int64)
            grow_names(arrays.names, index)
            arrays = arrays._replace(names=index)
        size = text_used + (wanted - used) * limits.IDENTIFIER_BYTES_MAX
        if size > len(arrays.name_text):
            text = np.zeros(max(size, 2 * len(arrays.name_text)), np.uint8)
            text[:text_used] = arrays.name_text[:text_used]
            arrays = arrays._replace(name_text=text)
        self.arrays = arrays

    def memory_bytes(self) -> int:
        """Memory in use by tables and names (zones are the process's; what is not touched yet is no memory)."""
        arrays = self.arrays
        tables_bytes = arrays.table_index.nbytes + int(self._state[tables.STATE_USED]) * 8
        return tables_bytes + arrays.names.nbytes + int(arrays.name_state[NAME_TEXT_USED])

    def counters(self) -> dict[str, int]:
        """What was counted; every worker lets in the same rows, so these are no sums."""
        state = self._state
        return {
            "table_keys": int(state[tables.STATE_KEYS]),
            "table_updates": int(state[tables.STATE_UPDATES]),
            "table_versions_dropped": int(state[tables.STATE_DROPPED]),
        }

    # --- out of memory and back ---------------------------------------------------------------------------

    def keep_updates(self) -> None:
        """From here on keep what changes the tables along the way, for `save`: before the first row."""
        self._updates = []
        self._given_up = 0

    def _keep(self, made: Words, updates: int) -> None:
        """Note the versions that rows have made. Words that were used again hold the last one."""
        assert self._updates is not None
        last = len(made) - 1 - np.unique(made[::-1, 0], return_index=True)[1]
        made = made[np.sort(last)]
        self._given_up += updates - len(made)
        versions = self.arrays.versions
        tables_made = {}
        for table, fields in self._layout.items():
            mine = made[made[:, 1] == table, 0]
            if len(mine):
                width = tables.VERSION_FIELDS + len(fields)
                tables_made[table] = versions[mine[:, None] + np.arange(width)]
        if tables_made:
            self._updates.append(tables_made)

    def save(self) -> bytes:
        """What changed the tables since the last call (merge_worlds makes one of several). Files are read again, and
        names of products come with the customers' rows."""
        assert self._updates is not None, "updates were not kept"
        saved = []
        for table, fields in self._layout.items():
            several = [of[table] for of in self._updates if table in of]
            if several:
                layout = tuple((field.name, field.kind, field.unknown) for field in fields)
                rows = np.concatenate(several)
                stays = _not_erased(rows)
                self._given_up += int(np.count_nonzero(~stays))
                saved.append(_SavedTable(table, layout, rows[stays].tobytes()))
        heard = self._state[tables.STATE_HEARD :]
        told = np.flatnonzero(heard >= 0)
        place = int(self.arrays.defaults[tables.PLACE_SEQUENCE])
        of_partitions = dict(zip(told.tolist(), heard[told].tolist(), strict=True))
        known = _Saved(FORMAT, place, self._given_up, of_partitions, saved, self._wipe())
        self.keep_updates()
        return _encode(known)

    def _wipe(self) -> bool:
        """Overwrite what erasures have ended: all shards have decided what came before them. Whether the time has come
        to write anew what was saved before."""
        now = time.monotonic()
        if self._erased:
            keys, times = (
                np.array(list(words), np.int64) for words in zip(*self._erased.items(), strict=True)
            )
            tables.wipe_versions(self.arrays, self._columns, self._state, keys, times)
            self._erased = {}
            if self._forget_at is None:
                self._forget_at = now + self._erase_within_ms / _FORGET_SHARE / 1_000
        if self._forget_at is None or now < self._forget_at:
            return False
        self._forget_at = None
        return True

    def restore(self, saved: bytes) -> None:
        """Let what was saved into a world to which nothing was told yet."""
        known = _decode(saved)
        for of in known.tables:
            if of.table in self._layout:
                self._restore(of)
        for partition, sequence in known.heard.items():
            self._state[tables.STATE_HEARD + partition] = sequence
        self.keep_updates()
        self._state[tables.STATE_UPDATES] += known.given_up
        self._state[tables.STATE_DROPPED] += known.given_up
        self.arrays.defaults[tables.PLACE_SEQUENCE] = known.place_sequence

    def _restore(self, of: _SavedTable) -> None:
        """One table's versions. A field that nobody looks into any more, or as something else, is left out; what was
        unknown is what is declared so now."""
        rows = of.rows_of().copy()
        words = np.zeros(len(of.layout), np.int64)
        for at, (name, kind, unknown) in enumerate(of.layout):
            for word, field in enumerate(self._layout[of.table], start=tables.VERSION_FIELDS):
                if (field.name, field.kind) == (name, kind):
                    words[at] = word
                    column = rows[:, tables.VERSION_FIELDS + at]
                    column[column == unknown] = field.unknown
        self._make_room(len(rows))
        tables.restore_versions(
            self.arrays, self._columns, self._state, of.table, rows, words, limits.TABLE_VERSIONS_MAX
        )

    # --- time zones -----------------------------------------------------------------------------------

    def need_zone(self, number: int) -> None:
        """Load the days of a zone: of a history that is joined, for example."""
        self._calendar.load(number)

    def need_zones(self, records: Words) -> None:
        """Load the days of every zone that these records name for the first time."""
        at = find_new_zone(records, self.arrays.zone_of, 0)
        while at >= 0:
            self._calendar.load(int(records[at, PACK] >> ZONE_SHIFT) & ZONE_MASK)
            at = find_new_zone(records, self.arrays.zone_of, at + 1)


class _SavedTable(msgspec.Struct, frozen=True, array_like=True):
    """Versions of a table.

    layout   of each field: name, kind, and the word of no value
    rows     int64[n, VERSION_FIELDS + fields] in the order in which they were let in; one may be there twice
    """

    table: int
    layout: tuple[tuple[str, str, int], ...]
    rows: bytes

    def rows_of(self) -> Words:
        return np.frombuffer(self.rows, np.int64).reshape(-1, tables.VERSION_FIELDS + len(self.layout))


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """What saves of all formats begin with."""

    format: int


class _Saved(msgspec.Struct, frozen=True, array_like=True):
    """What a world was told along the way.

    place_sequence  World.defaults[PLACE_SEQUENCE]
    given_up        updates that are left out, for their keys have had enough later ones
    heard           by partition SEQUENCE of the last event let in
    forgets         in saves before this one stands what erasures have ended: merge it with all of them
    """

    format: int
    place_sequence: int
    given_up: int
    heard: dict[int, int]
    tables: list[_SavedTable]
    forgets: bool = False


def _encode(saved: _Saved) -> bytes:
    return msgspec.msgpack.encode(saved)


def _decode(saved: bytes) -> _Saved:
    found = msgspec.msgpack.decode(saved, type=_Head).format
    if found != FORMAT:
        raise StateError(
            "restore the tables",
            f"they were saved in format {found}; this version reads format {FORMAT}",
            "start the version that saved them",
        )
    return msgspec.msgpack.decode(saved, type=_Saved)


def forgets(saved: bytes) -> bool:
    """Whether the saves before this one are to be merged with it, for they hold what was erased."""
    return _decode(saved).forgets


def merge_worlds(saves: Sequence[bytes]) -> bytes:
    """One save that says what these say one after the other: each update once, and of a key the last ones only, none
    that an erasure has ended. What is given up is in those after it: each has all that had come along the way."""
    known = [_decode(saved) for saved in saves]
    given_up = sum(saved.given_up for saved in known)
    heard: dict[int, int] = {}
    by_table: dict[int, list[_SavedTable]] = {}
    for saved in known:
        for partition, sequence in saved.heard.items():
            heard[partition] = max(heard.get(partition, -1), sequence)
        for of in saved.tables:
            by_table.setdefault(of.table, []).append(of)
    merged = []
    for table, several in sorted(by_table.items()):
        layout = several[-1].layout
        each = [_with_layout(of, layout) for of in several]
        rows = np.concatenate(each)
        starts = np.cumsum([0, *map(len, each[:-1])])
        rows = rows[_first_times(rows[:, tables.VERSION_SEQUENCE], starts)]
        stays = _not_erased(rows)
        counts = stays & ~_is_erasure(rows)
        stays[counts] = _last_of_keys(rows[counts])
        given_up += int(np.count_nonzero(~stays))
        merged.append(_SavedTable(table, layout, rows[stays].tobytes()))
    return _encode(_Saved(FORMAT, known[-1].place_sequence, given_up, heard, merged))


def _with_layout(of: _SavedTable, layout: tuple[tuple[str, str, int], ...]) -> Words:
    """The versions with the fields of another layout: other policies have looked into other fields."""
    rows = of.rows_of()
    if of.layout == layout:
        return rows
    moved = np.zeros((len(rows), tables.VERSION_FIELDS + len(layout)), np.int64)
    moved[:, : tables.VERSION_FIELDS] = rows[:, : tables.VERSION_FIELDS]
    moved[:, tables.VERSION_TOLD] &= tables.ERASED
    for at, (name, kind, unknown) in enumerate(layout):
        for before, (other, its_kind, its_unknown) in enumerate(of.layout):
            if (name, kind) == (other, its_kind):
                column = rows[:, tables.VERSION_FIELDS + before]
                moved[:, tables.VERSION_FIELDS + at] = np.where(column == its_unknown, unknown, column)
                moved[:, tables.VERSION_TOLD] |= ((rows[:, tables.VERSION_TOLD] >> before) & 1) << at
    return moved


def _is_erasure(rows: Words) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = rows[:, tables.VERSION_TOLD] & tables.ERASED != 0
    return found


def _not_erased(rows: Words) -> npt.NDArray[np.bool_]:
    """Which versions no erasure among them has ended."""
    key, begins = rows[:, tables.VERSION_KEY], rows[:, tables.VERSION_FROM]
    is_erasure = _is_erasure(rows)
    if not is_erasure.any():
        return np.ones(len(rows), np.bool_)
    order = np.lexsort((begins[is_erasure], key[is_erasure]))
    keys, times = key[is_erasure][order], begins[is_erasure][order]
    last = np.searchsorted(keys, key, side="right") - 1  # of the key's erasures, if it has any
    is_of = (last >= 0) & (keys[last] == key)
    stays: npt.NDArray[np.bool_] = ~is_of | (begins > times[last]) | (is_erasure & (begins == times[last]))
    return stays


def _last_of_keys(rows: Words) -> npt.NDArray[np.bool_]:
    """Which versions are among the TABLE_VERSIONS_MAX of their key that are valid last."""
    key = rows[:, tables.VERSION_KEY]
    order = np.lexsort((np.arange(len(rows)), rows[:, tables.VERSION_FROM], key))
    begins = np.ones(len(rows), np.bool_)
    begins[1:] = np.diff(key[order]) != 0
    group = np.cumsum(begins) - 1
    last = np.append(np.flatnonzero(begins)[1:], len(rows)) - 1  # of each group
    stays = np.empty(len(rows), np.bool_)
    stays[order] = last[group] - np.arange(len(rows)) < limits.TABLE_VERSIONS_MAX
    return stays


def _first_times(sequence: Words, starts: Words) -> npt.NDArray[np.bool_]:
    """Which rows are there for the first time: an event's versions stand behind each other in a save. `starts`: where
    saves begin."""
    begins = np.ones(len(sequence), np.bool_)
    begins[1:] = sequence[1:] != sequence[:-1]
    begins[starts[starts < len(sequence)]] = True
    event = np.cumsum(begins) - 1
    first = np.zeros(int(begins.sum()), np.bool_)
    first[np.unique(sequence[begins], return_index=True)[1]] = True
    firsts: npt.NDArray[np.bool_] = first[event]
    return firsts


def empty_world() -> ReferenceWorld:
    """A world without tables whose default zone is UTC."""
    return ReferenceWorld("UTC")


# By thread: not threading.local, for what that keeps for a thread of Bytewax's is gone each time it leaves Python.
_worlds: dict[int, tuple[Settings, CompiledPolicies, ReferenceWorld]] = {}


def worker_world(
    settings: Settings, policies: CompiledPolicies, saved: bytes | None = None
) -> ReferenceWorld:
    """The world of this thread for a run: all shards that run in it share it. `saved` is what it begins with."""
    thread = threading.get_ident()
    mine = _worlds.get(thread)
    if mine is None or mine[0] != settings or mine[1] is not policies:
        mine = _worlds[thread] = (settings, policies, ReferenceWorld.of(settings, policies))
        if saved is not None:
            mine[2].restore(saved)
    return mine[2]


def leave_world(world: ReferenceWorld) -> bool:
    """Give up the world of this thread at the end of a run; whether it was still there: the first of its shards to
    leave speaks for all."""
    thread = threading.get_ident()
    if thread not in _worlds or _worlds[thread][2] is not world:
        return False
    del _worlds[thread]
    return True


def _layout(lookups: Words, fields: tuple[tuple[str, str, str], ...]) -> dict[int, tuple[Field, ...]]:
    """The fields of each table that is looked into, in the order of their words (plan.LOOKUP_FIELD)."""
    placed: dict[int, dict[int, Field]] = {}
    for row, (_, name, kind) in zip(lookups.tolist(), fields, strict=True):
        word = row[plan.LOOKUP_FIELD]
        placed.setdefault(row[plan.LOOKUP_TABLE], {})[word] = Field(name, kind, row[plan.LOOKUP_UNKNOWN])
    layout = {}
    for table, of in sorted(placed.items()):
        expected = list(range(tables.VERSION_FIELDS, tables.VERSION_FIELDS + len(of)))
        assert sorted(of) == expected, "fields of a table stand behind each other from VERSION_FIELDS on"
        layout[table] = tuple(of[word] for word in expected)
    return layout


def _read_files(
    layout: dict[int, tuple[Field, ...]], files: dict[str, str], secret: bytes, topics: Collection[str]
) -> dict[int, TableRows]:
    """The files of the tables that are looked into; SettingsError for one too many or one too few.

    topics  tables of which there is one
    """
    names = tuple(TABLE_NAMES[table] for table in layout)
    along_the_way = {table for table, _ in UPDATES.values()}
    for name, path in [*files.items(), *((name, "topic:…") for name in topics)]:
        if name not in names and not (path == ALONG_THE_WAY and name in TABLE_NAMES):
            known = f"they look into: {', '.join(names)}" if names else "they look into none"
            hint = did_you_mean(name, names) if names else "leave --table out"
            raise SettingsError(
                _STEP, f'--table {name}={path}: no policy looks into a table "{name}" ({known})', hint
            )
    rows = {}
    for table, fields in layout.items():
        name = TABLE_NAMES[table]
        if files.get(name) == ALONG_THE_WAY:
            continue
        if name in files:
            rows[table] = read_table(name, files[name], fields, *key_words(secret))
        elif table not in along_the_way and name not in topics:
            listed = ", ".join(field.name for field in fields)
            raise SettingsError(
                _STEP,
                f'policies look up {listed} in the table "{name}", and there is no file of it',
                f"say where it is: --table {name}=FILE, or {name}={ALONG_THE_WAY} if its rows come as events",
            )
    return rows


def _slots(keys: int) -> int:
    """Slots of an index for so many keys, at most half of them taken."""
    return 1 << max(4, (2 * keys).bit_length())


def _check_words(words: int) -> None:
    if words > limits.TABLE_WORDS_MAX:
        raise LimitError(
            "keep the tables",
            f"they take {words * 8 >> 20:,} MiB; at most {limits.TABLE_WORDS_MAX * 8 >> 20:,}",
            "leave out what policies do not need",
        )
