"""Quiet hours: times of the customer's own day in which nothing is sent.

It is quiet as long as the customer's clock shows a time in between: one that it jumps over when clocks go forward ends
or begins them at the jump, one that it shows twice when they go back is quiet both times.
"""

from __future__ import annotations

from segue_kernels.calendar import DAY_MS, clock_at, weekday_of
from segue_kernels.jit import inline, outline
from segue_kernels.plan import QUIET_CONTACTS, QUIET_DAYS, QUIET_FROM_MS, QUIET_HOLDS, QUIET_TO_MS
from segue_kernels.shard import Plan, World


@inline
def is_quiet(plan: Plan, which: int, local: int) -> bool:
    """Whether row `which` of plan.quiet applies when the clock shows `local`, ms since 1970 without a zone."""
    day = local // DAY_MS
    time = local - day * DAY_MS
    begin = plan.quiet[which, QUIET_FROM_MS]
    end = plan.quiet[which, QUIET_TO_MS]
    if begin >= end:
        if time < end:
            day -= 1
        elif time < begin:
            return False
    elif not begin <= time < end:
        return False
    return bool((plan.quiet[which, QUIET_DAYS] >> weekday_of(day)) & 1)


@outline
def quiet_until(plan: Plan, world: World, zone: int, contact: int, now: int, limit: int) -> int:
    """The first moment from `now` on at which no quiet hours apply to the contact; `limit` if none is before it."""
    at = now
    while at < limit:
        ahead, _, following = clock_at(world, zone, at)
        local = at + ahead
        time = local % DAY_MS
        ends = at
        for which in range(len(plan.quiet)):
            if (plan.quiet[which, QUIET_CONTACTS] >> contact) & 1 and is_quiet(plan, which, local):
                lasts = plan.quiet[which, QUIET_TO_MS] - time
                ends = max(ends, at + (lasts if lasts > 0 else lasts + DAY_MS))
        if ends == at:
            return at
        at = min(ends, following)  # where clocks change before they end they may end at another time
    return limit


@outline
def quiet_contacts(plan: Plan, world: World, zone: int, now: int) -> tuple[int, int]:
    """The contacts with which nothing is sent at `now`, a bit each: (what would be is dropped, it is held)."""
    ahead, _, _ = clock_at(world, zone, now)
    dropped = 0
    held = 0
    for which in range(len(plan.quiet)):
        if is_quiet(plan, which, now + ahead):
            if plan.quiet[which, QUIET_HOLDS] != 0:
                held |= plan.quiet[which, QUIET_CONTACTS]
            else:
                dropped |= plan.quiet[which, QUIET_CONTACTS]
    return dropped, held
