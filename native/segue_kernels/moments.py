"""Windows that begin at a moment: the customer's hour, day, week or month, and the session he is in.

For moment m of the plan, location[streams + m] is the time after which an event lies in the window. It depends on
the customer and `now` alone, so it is filled once for each event, before anything is evaluated.
"""

from __future__ import annotations

from segue_kernels.calendar import period_start
from segue_kernels.jit import inline, outline
from segue_kernels.plan import (
    MOMENT_STREAM,
    MOMENT_WINDOW,
    STREAM_OFFSET,
    WINDOW_SESSION_MS_MIN,
)
from segue_kernels.record import ZONE_MASK
from segue_kernels.row import ZONE
from segue_kernels.shard import Plan, Scratch, Shard, World


@inline
def fill_moments(shard: Shard, plan: Plan, world: World, scratch: Scratch, base: int, now: int) -> None:
    """Say for every moment of the plan when its window begins."""
    if len(plan.moments) > 0:
        _fill(shard, plan, world, scratch, base, now)


@outline
def _fill(shard: Shard, plan: Plan, world: World, scratch: Scratch, base: int, now: int) -> None:
    rows = shard.rows
    first = len(plan.streams)
    for m in range(len(plan.moments)):
        window = plan.moments[m, MOMENT_WINDOW]
        after = now  # not in a session: no event lies in it
        if window > -WINDOW_SESSION_MS_MIN:
            after = period_start(world, rows[base + ZONE] & ZONE_MASK, now, window) - 1
        else:
            newest = base + plan.streams[plan.moments[m, MOMENT_STREAM], STREAM_OFFSET] + 1
            if rows[newest] != 0 and now - rows[newest + 1] <= -window:
                after = rows[newest] - 1
        scratch.location[first + m] = after


@inline
def window_after(plan: Plan, scratch: Scratch, window: int, now: int) -> int:
    """Times after this lie in the window (as of an atom: sliding, ever, or since a moment)."""
    if window > 0:
        return now - window
    if window < 0:
        for m in range(len(plan.moments)):
            if plan.moments[m, MOMENT_WINDOW] == window:
                return int(scratch.location[len(plan.streams) + m])
    return 0
