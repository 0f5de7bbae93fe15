"""What the programs of an event need beside the row's own areas: entries by product or category, and lookups.

Moments (moments.py) are filled before, once for all records of the event.
"""

from __future__ import annotations

from segue_kernels.jit import Array, inline
from segue_kernels.keyed import slot_entry
from segue_kernels.plan import BY_PRODUCT, STREAM_BY
from segue_kernels.record import CATEGORY, PRODUCT
from segue_kernels.shard import Plan, Scratch, Shard, World
from segue_kernels.tables import fill_lookups


@inline
def locate_keyed(
    shard: Shard, plan: Plan, scratch: Scratch, records: Array, i: int, s: int, row: int, base: int, now: int
) -> None:
    """Find the entry of a keyed stream for the record's product or category."""
    by = plan.streams[s, STREAM_BY]
    key = records[i, PRODUCT] if by == BY_PRODUCT else records[i, CATEGORY]
    at = -1
    if key != 0:
        at = slot_entry(shard, plan.streams, row, base, s, key, now, False)
        if at >= 0:
            at -= base
    scratch.location[s] = at


@inline
def locate_entries(
    shard: Shard,
    plan: Plan,
    scratch: Scratch,
    world: World,
    records: Array,
    i: int,
    kind_of_event: int,
    row: int,
    base: int,
    now: int,
    place: int,
) -> None:
    """Find the entries that the programs of this event type read for the record's product and category, and what
    the tables say of it; `place` is the clock that says which versions of them have arrived."""
    for which in range(plan.locate_start[kind_of_event], plan.locate_start[kind_of_event + 1]):
        locate_keyed(shard, plan, scratch, records, i, plan.locate[which], row, base, now)
    if plan.lookup_types[kind_of_event] != 0:
        fill_lookups(plan, world, scratch, shard.meta, records, i, now, place)
