"""What the programs of an event need beside the row's own areas: entries by product or category, moments, lookups."""

from __future__ import annotations

from segue_kernels.jit import Array, inline
from segue_kernels.keyed import slot_entry
from segue_kernels.plan import BY_PRODUCT, STREAM_BY
from segue_kernels.record import CATEGORY, PRODUCT
from segue_kernels.shard import Plan, Scratch, Shard


@inline
def locate_entries(
    shard: Shard,
    plan: Plan,
    scratch: Scratch,
    records: Array,
    i: int,
    kind_of_event: int,
    row: int,
    base: int,
    now: int,
) -> None:
    """Find the entries that the programs of this event type read for the record's product and category."""
    for which in range(plan.locate_start[kind_of_event], plan.locate_start[kind_of_event + 1]):
        s = plan.locate[which]
        by = plan.streams[s, STREAM_BY]
        key = records[i, PRODUCT] if by == BY_PRODUCT else records[i, CATEGORY]
        at = -1
        if key != 0:
            at = slot_entry(shard, plan.streams, row, base, s, key, now, False)
            if at >= 0:
                at -= base
        scratch.location[s] = at
