"""Events fed to the streams of one shard alone: no journeys, no ids, no rates."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from segue.reference.world import empty_world
from segue.state.shard import ShardState
from segue_kernels import plan
from segue_kernels.calendar import NO_SHIFT, SHIFTS
from segue_kernels.jit import kernel
from segue_kernels.joins import note_action
from segue_kernels.names import NAME_SLOT_WORDS, NAME_STATE_WORDS
from segue_kernels.record import FLAG_HAS_LINES, FLAG_IS_LINE, HEAP, PACK, TIME
from segue_kernels.row import CLOCK
from segue_kernels.shard import CREDIT_WORDS, OUT_CREDITS, OUT_USED, Out, Scratch, World
from segue_kernels.update import update_streams
from tests.kernels.drivers import DAY_MS, Bytes, Words, records_of, state_for

FIRST_DAY, DAYS = 16_405, 11_385  # of a calendar: 2014-12-01 to 2046-01-31, days since 1970


@kernel
def feed_records(
    shard: Any, tables: Any, world: Any, out: Any, records: Words, text: Bytes, row: int, base: int
) -> None:
    i = 0
    while i < len(records):
        pack = records[i, PACK]
        end = i + 1
        while end < len(records) and ((records[end, PACK] >> 8) & FLAG_IS_LINE) != 0:
            end += 1
        now = max(shard.rows[base + CLOCK], records[i, TIME])
        shard.rows[base + CLOCK] = now
        for item in range(i, end):
            is_header = item == i
            is_item = end == i + 1 or not is_header
            update_streams(
                shard,
                tables,
                world,
                out,
                records,
                text,
                i,
                item,
                pack & 0xFF,
                row,
                base,
                now,
                is_item,
                is_header,
            )
        i = end


@kernel
def act(
    shard: Any, tables: Any, journey: int, row: int, base: int, now: int, product: int, lo: int, hi: int
) -> None:
    shard.rows[base + CLOCK] = now
    note_action(shard, tables, journey, row, base, now, now, product, lo, hi)


def small_out() -> Out:
    """Output arrays with room for credits and items only."""
    fields: dict[str, Any] = {name: np.zeros((1, 1), np.int64) for name in Out._fields}
    fields["used"] = np.zeros(OUT_USED, np.int64)
    fields["credits"] = np.zeros((4_096, CREDIT_WORDS), np.int64)
    fields["items"] = np.zeros(64, np.int64)
    fields["item_text"] = np.zeros(4_096, np.uint8)
    return Out(**fields)


def small_scratch(tables: Any) -> Scratch:
    """Scratch arrays with room for locations only."""
    fields = {name: np.zeros(1, np.int64) for name in Scratch._fields}
    words = len(tables.streams) + len(tables.moments) + len(tables.lookups)
    fields["location"] = np.full(max(1, words), -1, np.int64)
    return Scratch(**fields)


def world_in_utc() -> World:
    """A world whose only zone is UTC, without tables."""
    days = np.arange(FIRST_DAY, FIRST_DAY + DAYS)
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype("datetime64[D]")
    return World(
        zone_of=np.zeros(1_024, np.int64),
        day_start=(days * DAY_MS).reshape(1, DAYS),
        month_day=months.astype(np.int64) - FIRST_DAY,
        shift_start=np.array([[-NO_SHIFT, *[NO_SHIFT] * (SHIFTS - 1)]]),
        shift_ms=np.zeros((1, SHIFTS), np.int64),
        table_index=np.zeros(1, np.int64),
        versions=np.zeros(1, np.int64),
        defaults=np.zeros(4, np.int64),
        names=np.zeros(NAME_SLOT_WORDS, np.int64),
        name_text=np.zeros(0, np.uint8),
        name_state=np.zeros(NAME_STATE_WORDS, np.int64),
    )


def join_tables(joins: Sequence[dict[str, int]]) -> dict[str, Any]:
    """The plan's tables of joins: left (stream), right (type), within and, by choice, journey, by, count."""
    rows = np.zeros((len(joins), plan.JOIN_WORDS), np.int64)
    for row, of in zip(rows, joins, strict=True):
        row[plan.JOIN_LEFT_STREAM], row[plan.JOIN_RIGHT_TYPE] = of["left"], of["right"]
        row[plan.JOIN_LEFT_JOURNEY], row[plan.JOIN_BY] = of.get("journey", -1), of.get("by", 0)
        row[plan.JOIN_WITHIN_MS], row[plan.JOIN_COUNT_STREAM] = of["within"], of.get("count", -1)
    by_type = [np.flatnonzero(rows[:, plan.JOIN_RIGHT_TYPE] == kind) for kind in range(plan.TYPES)]
    return {
        "joins": rows,
        "join_start": np.cumsum([0, *map(len, by_type)]).astype(np.int64),
        "join": np.concatenate(by_type).astype(np.int64),
    }


class Fed:
    """A shard that events are fed to, all of them of the customer in row `row`."""

    def __init__(self, made: SimpleNamespace, row: int = 0) -> None:
        self.state: ShardState = state_for(made)
        self.world = empty_world()
        self.out = small_out()
        self.row = row
        self.base = row * self.state.row_words

    @property
    def plan(self) -> Any:
        return self.state.plan

    def feed(self, *events: dict[str, Any]) -> None:
        """Events with `name` (of the product) and `lines` (likewise) beside the columns of records_of."""
        flat: list[dict[str, Any]] = []
        for event in events:
            lines = event.get("lines", [])
            flags = event.get("flags", 0)
            flat.append({**event, "flags": flags | FLAG_HAS_LINES if lines else flags})
            flat += [{**event, **line, "flags": line.get("flags", 0) | FLAG_IS_LINE} for line in lines]
        records, _ = records_of(flat)
        text = b""
        for record, event in zip(records, flat, strict=True):
            name: bytes = event.get("name", b"")
            record[HEAP] = len(text) << 32 | 2 | 3 << 8 | len(name) << 16
            text += b"cumsg" + name
        self.arrays_feed(records, np.frombuffer(text, np.uint8))

    def arrays_feed(self, records: Words, text: Bytes) -> None:
        self.world.make_name_room(len(records))
        feed_records(
            self.state.arrays, self.plan, self.world.arrays, self.out, records, text, self.row, self.base
        )

    def act(self, journey: int, now: int, product: int, lo: int, hi: int) -> None:
        """A granted action of a journey."""
        act(self.state.arrays, self.plan, journey, self.row, self.base, now, product, lo, hi)

    def entry(self, s: int) -> list[int]:
        """The entry of a stream by none."""
        row = self.plan.streams[s]
        at = self.base + int(row[plan.STREAM_OFFSET])
        words: list[int] = self.state.arrays.rows[at : at + int(row[plan.STREAM_ENTRY_WORDS])].tolist()
        return words

    def credits(self) -> list[list[int]]:
        rows: list[list[int]] = self.out.credits[: self.out.used[OUT_CREDITS]].tolist()
        return rows
