"""What a worker knows that is not a customer's: the world's clocks, reference tables as they were at any time, and the
names of products that actions list."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from segue import limits
from segue.errors import LimitError, SettingsError, did_you_mean
from segue.events.hashing import key_words
from segue.events.money import exponent_table
from segue.events.names import CODE_BY_NAME, ERASURE
from segue.policy.compiled import CompiledPolicies
from segue.reference.files import TABLE_NAMES, Field, TableRows, read_table
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
from segue_kernels.record import (
    CLOCK,
    FLAG_HAS_PRICE,
    FLAG_HAS_QUANTITY,
    PACK,
    PRICE,
    PRODUCT,
    RECORD_WORDS,
    SEQUENCE,
    STORE,
    TIME,
    ZONE_MASK,
    ZONE_SHIFT,
)
from segue_kernels.route import FOR_ALL, FOR_ANONYMOUS
from segue_kernels.shard import World

if TYPE_CHECKING:
    from segue.settings import Settings

Words = npt.NDArray[np.int64]

# types of events that change a table along the way, and the field they change
UPDATES = {
    CODE_BY_NAME["Price Updated"]: (plan.TABLE_PRICE, "amount"),
    CODE_BY_NAME["Inventory Updated"]: (plan.TABLE_STOCK, "quantity"),
}
_FIRST_WORD = 8  # of versions: word 0 means none
_STEP = "read the tables"
# of a row that changes a table: all that the tables take from it
_KEPT_COLUMNS = (TIME, CLOCK, PRODUCT, STORE, PRICE, PACK, SEQUENCE)
_AT = {word: at for at, word in enumerate(_KEPT_COLUMNS)}
_NO_LOOKUPS = np.zeros((0, plan.LOOKUP_WORDS), np.int64)


def types_for_all(policies: CompiledPolicies) -> npt.NDArray[np.uint8]:
    """Of events about no customer, those that change a table some policy looks into: every shard hears of them. Of an
    erasure every shard of anonymous identifiers does.

    uint8 a type, as segue.routing.packet takes it.
    """
    types = REFERENCE_TYPES.copy()
    looked_up = set(policies.lookups[:, plan.LOOKUP_TABLE].tolist())
    for code, (table, _) in UPDATES.items():
        if table in looked_up:
            types[code] = FOR_ALL
    types[ERASURE] = FOR_ANONYMOUS
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
        rows = _read_files(layout, dict(files or {}), secret)
        width = {table: tables.VERSION_FIELDS + len(of) for table, of in layout.items()}
        count = sum(len(read.keys) for read in rows.values())
        words = _FIRST_WORD + sum(width.values()) + sum(width[t] * len(read.keys) for t, read in rows.items())
        _check_words(words)
        self.arrays = World(
            zone_of=shared.zone_of,
            day_start=shared.day_start,
            month_day=shared.month_day,
            table_index=np.zeros(_slots(count), np.int64),
            versions=np.zeros(words, np.int64),
            defaults=defaults,
            names=np.zeros(NAME_SLOT_WORDS, np.int64),
            name_text=np.zeros(0, np.uint8),
            name_state=np.zeros(NAME_STATE_WORDS, np.int64),
        )
        self._updates: list[Words] | None = None  # since the last save, if they are kept
        self._kept_up_to = np.full(limits.PARTITIONS_MAX, -1, np.int64)  # SEQUENCE, by partition
        self._width_max = max(width.values(), default=0)
        self._lay_out(layout, width)
        for table, read in rows.items():
            tables.load_versions(
                self.arrays, self._state, width[table], read.keys, read.valid_from, read.fields
            )

    @classmethod
    def of(cls, settings: Settings, policies: CompiledPolicies) -> ReferenceWorld:
        """The world that a run begins with: its default time zone, and the tables its policies look into."""
        from segue.settings import secret

        world = cls(settings.timezone, policies.lookups, policies.lookup_fields, settings.tables, secret())
        if settings.state:
            world.keep_updates()
        return world

    def _lay_out(self, layout: dict[int, tuple[Field, ...]], width: dict[int, int]) -> None:
        """Where fields stand, and a version of what is not known for each table."""
        at = _FIRST_WORD
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

    # --- along the way --------------------------------------------------------------------------------

    def take(self, records: Words) -> Words:
        """Let the rows about prices and stock into the tables; the rows that are left, all but those about nobody."""
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
        told = self._table_of[records[:, PACK] & 0xFF] != 0
        if told.any():
            sequence = records[told, SEQUENCE]
            np.maximum.at(latest, sequence >> ROW_BITS, sequence)

    def heard(self, records: Words) -> npt.NDArray[np.bool_] | None:
        """As take: which rows are left, None if all are."""
        updates = tables.count_updates(records, self._table_of)
        if updates == 0:
            return None
        self._make_room(updates)
        keep = np.empty(len(records), np.uint8)
        tables.apply_updates(
            self.arrays,
            records,
            self._table_of,
            self._columns,
            exponent_table(),
            self._state,
            limits.TABLE_VERSIONS_MAX,
            keep,
        )
        if self._updates is not None:
            self._updates.append(self._not_kept(records))
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

    def _changing(self, records: Words) -> Words:
        """The rows that may change a table."""
        table = self._table_of[records[:, PACK] & 0xFF]
        changing: Words = records[(table != 0) & (table != tables.NO_TABLE)]
        return changing

    def _not_kept(self, records: Words) -> Words:
        """Of rows that were let in, those that change a table and were not kept before; from here on they are."""
        rows = self._changing(records)
        partition = rows[:, SEQUENCE] >> ROW_BITS
        rows = rows[rows[:, SEQUENCE] > self._kept_up_to[partition]]
        np.maximum.at(self._kept_up_to, rows[:, SEQUENCE] >> ROW_BITS, rows[:, SEQUENCE])
        kept: Words = rows[:, _KEPT_COLUMNS]
        return kept

    def save(self, ahead: Sequence[Words] = ()) -> bytes:
        """What changed the tables since the last call (merge_worlds makes one of several). Files are read again, and
        names of products come with the customers' rows.

        ahead  rows that a shard has received and not released: those among them that change a table count as let in.
               A world that knows more than a shard has seen is as good, one that knows less is not
        """
        assert self._updates is not None, "updates were not kept"
        coming = [self._changing(records)[:, _KEPT_COLUMNS] for records in ahead]
        rows = np.concatenate([np.zeros((0, len(_KEPT_COLUMNS)), np.int64), *self._updates, *coming])
        self._updates = []
        return _encode(_Saved(int(self.arrays.defaults[tables.PLACE_SEQUENCE]), 0, rows.tobytes()))

    def restore(self, saved: bytes) -> None:
        """Let what was saved into a world to which nothing was told yet."""
        known = msgspec.msgpack.decode(saved, type=_Saved)
        rows = known.table()
        records = np.zeros((len(rows), RECORD_WORDS), np.int64)
        records[:, _KEPT_COLUMNS] = rows
        self.keep_updates()
        self.heard(records)
        self.keep_updates()
        self._state[tables.STATE_UPDATES] += known.given_up
        self._state[tables.STATE_DROPPED] += known.given_up
        self.arrays.defaults[tables.PLACE_SEQUENCE] = known.place_sequence

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


class _Saved(msgspec.Struct, frozen=True, array_like=True):
    """What a world was told along the way.

    place_sequence  World.defaults[PLACE_SEQUENCE]
    given_up        updates that are left out, for their keys have had enough later ones
    rows            int64[n, _KEPT_COLUMNS] in the order in which they were let in; one may be there twice
    """

    place_sequence: int
    given_up: int
    rows: bytes

    def table(self) -> Words:
        return np.frombuffer(self.rows, np.int64).reshape(-1, len(_KEPT_COLUMNS))


def _encode(saved: _Saved) -> bytes:
    return msgspec.msgpack.encode(saved)


def merge_worlds(saves: Sequence[bytes]) -> bytes:
    """One save that says what these say one after the other: each update once, and of a key the last ones only."""
    known = [msgspec.msgpack.decode(saved, type=_Saved) for saved in saves]
    rows = np.concatenate([saved.table() for saved in known])
    rows = rows[_first_times(rows[:, _AT[SEQUENCE]])]
    pack = rows[:, _AT[PACK]]
    is_price = (pack & 0xFF) == CODE_BY_NAME["Price Updated"]
    tells = np.where(is_price, FLAG_HAS_PRICE, FLAG_HAS_QUANTITY) << 8
    counts = (pack & tells != 0) & (rows[:, _AT[PRODUCT]] != 0)
    store = np.where(is_price, 0, rows[:, _AT[STORE]])
    key = (store, rows[:, _AT[PRODUCT]], is_price, counts)
    order = np.lexsort((np.arange(len(rows)), rows[:, _AT[TIME]], *key))
    begins = np.ones(len(rows), np.bool_)
    if len(rows):
        begins[1:] = np.any([np.diff(column[order]) != 0 for column in key], axis=0)
    group = np.cumsum(begins) - 1
    last = np.append(np.flatnonzero(begins)[1:], len(rows)) - 1  # of each group
    newer = last[group] - np.arange(len(rows))  # updates of the same key that hold after it
    stays = np.empty(len(rows), np.bool_)
    stays[order] = newer < limits.TABLE_VERSIONS_MAX
    stays &= counts
    # an event's rows stay together: its lines count if its header does
    stays = np.isin(rows[:, _AT[SEQUENCE]], rows[stays, _AT[SEQUENCE]])
    given_up = sum(saved.given_up for saved in known) + int(np.count_nonzero(counts & ~stays))
    return _encode(_Saved(known[-1].place_sequence, given_up, rows[stays].tobytes()))


def _first_times(sequence: Words) -> npt.NDArray[np.bool_]:
    """Which rows are there for the first time: an event's rows stand behind each other."""
    begins = np.ones(len(sequence), np.bool_)
    begins[1:] = sequence[1:] != sequence[:-1]
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
    layout: dict[int, tuple[Field, ...]], files: dict[str, str], secret: bytes
) -> dict[int, TableRows]:
    """The files of the tables that are looked into; SettingsError for one too many or one too few."""
    names = tuple(TABLE_NAMES[table] for table in layout)
    along_the_way = {table for table, _ in UPDATES.values()}
    for name, path in files.items():
        if name not in names:
            known = f"they look into: {', '.join(names)}" if names else "they look into none"
            hint = did_you_mean(name, names) if names else "leave --table out"
            raise SettingsError(
                _STEP, f'--table {name}={path}: no policy looks into a table "{name}" ({known})', hint
            )
    rows = {}
    for table, fields in layout.items():
        name = TABLE_NAMES[table]
        if name in files:
            rows[table] = read_table(name, files[name], fields, *key_words(secret))
        elif table not in along_the_way:
            listed = ", ".join(field.name for field in fields)
            raise SettingsError(
                _STEP,
                f'policies look up {listed} in the table "{name}", and there is no file of it',
                f"say where it is: --table {name}=FILE",
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
