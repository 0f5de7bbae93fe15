"""Days, weeks and months of a customer's own time zone."""

from __future__ import annotations

from segue_kernels.jit import inline
from segue_kernels.shard import World

DAY_MS = 86_400_000


@inline
def period_start(world: World, zone: int, now: int, window: int) -> int:
    """UTC ms at which the local day, week or month (plan.WINDOW_*) of `now` begins; zone 0: the deployment's."""
    return now - now % DAY_MS


@inline
def period_end(world: World, zone: int, now: int, window: int) -> int:
    """UTC ms at which the next one begins."""
    return now - now % DAY_MS + DAY_MS
