"""Fields of reference tables, looked up for an event."""

from __future__ import annotations

from segue_kernels.jit import Array, inline
from segue_kernels.plan import LOOKUP_UNKNOWN
from segue_kernels.row import COUNT_UNKNOWN_KEYS
from segue_kernels.shard import Plan, Scratch, World

LAST_PLACE = 1 << 62  # as `place`: whatever has arrived so far


@inline
def fill_lookups(
    plan: Plan, world: World, scratch: Scratch, meta: Array, records: Array, i: int, now: int, place: int
) -> None:
    """Answer every lookup of the plan: no table holds anything yet, so with what is declared for unknown keys."""
    first = len(plan.streams) + len(plan.moments)
    for lookup in range(len(plan.lookups)):
        scratch.location[first + lookup] = plan.lookups[lookup, LOOKUP_UNKNOWN]
        meta[COUNT_UNKNOWN_KEYS] += 1
