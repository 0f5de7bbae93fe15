"""Caps against plain lists: what was sent counts in sliding windows and in the customer's days, weeks and months."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue.limits import DAY_MS, HOUR_MS
from segue.reference.world import ReferenceWorld, empty_world
from segue.reference.zones import zone_numbers
from segue_kernels import plan
from segue_kernels import row as row_layout
from segue_kernels.decide import cap_reached, charge_caps
from segue_kernels.jit import kernel
from segue_kernels.row import KEY_HI, KEY_LO
from segue_kernels.shard import (
    ALONE_CONTACT_SHIFT,
    ALONE_FLAGS,
    ALONE_HI,
    ALONE_IS_CHARGED,
    ALONE_LO,
    ALONE_TIME,
    ALONE_WORDS,
    ALONE_ZONE_SHIFT,
)
from tests.kernels.drivers import NO_ALONE, Words, quick, state_for, stream, tables
from tests.reference.history import period_start_ms

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Pacific/Auckland")
SPRING_MS = 1_743_292_800_000  # 2025-03-30T00:00:00Z: the clocks of Berlin go forward at one
EMAIL, PUSH = 0b1, 0b100
CONTACTS = (0, 2, 5)
# which contacts, times, window; the first two share a stream
CAPS = (
    (EMAIL, 2, 6 * HOUR_MS),
    (EMAIL, 3, plan.WINDOW_DAY),
    (EMAIL | PUSH, 4, plan.WINDOW_WEEK),
    (0xFFFF, 5, 2 * DAY_MS),
    (0xFFFF, 6, plan.WINDOW_MONTH),
)
STREAMS = (EMAIL, EMAIL | PUSH, 0xFFFF)


@kernel
def capped(
    shard: Any, tables: Any, world: Any, alone: Words, contact: int, base: int, now: int, ahead: bool
) -> bool:
    return cap_reached(shard, tables, world, alone, contact, base, now, ahead)


@kernel
def charge(shard: Any, tables: Any, contact: int, base: int, time: int) -> None:
    charge_caps(shard, tables, contact, base, time)


@cache
def world() -> ReferenceWorld:
    made = empty_world()
    for name in ZONES:
        made.need_zone(zone_numbers()[name])
    return made


@cache
def state() -> Any:
    caps = [(STREAMS.index(mask), times, window, mask) for mask, times, window in CAPS]
    by_contact = [[i for i, cap in enumerate(CAPS) if cap[0] >> c & 1] for c in range(plan.CONTACTS)]
    charged = [[s for s, mask in enumerate(STREAMS) if mask >> c & 1] for c in range(plan.CONTACTS)]
    made = tables(
        [stream(plan.COUNT, k=k, type=plan.CAP_TYPE, window_ms=31 * DAY_MS) for k in (3, 4, 6)],
        caps=np.array(caps, np.int64),
        cap_start=np.cumsum([0, *map(len, by_contact)]).astype(np.int64),
        cap=np.concatenate(by_contact).astype(np.int64),
        charge_start=np.cumsum([0, *map(len, charged)]).astype(np.int64),
        charge=np.concatenate(charged).astype(np.int64),
    )
    return state_for(made)


@dataclass(frozen=True)
class Send:
    time_ms: int
    contact: int
    zone: str = "UTC"


def fits(sends: list[Send], cap: tuple[int, int, int], end_ms: int, zone: str, now: int) -> bool:
    """Whether one more at `now` is not one too many in the window that ends then, if it lies in it."""
    mask, times, window = cap
    start = end_ms - window if window > 0 else period_start_ms(end_ms, zone, window) - 1
    count = sum(start < send.time_ms <= end_ms and mask >> send.contact & 1 for send in sends)
    return now <= start or count < times


STEPS = st.lists(
    st.tuples(
        st.sampled_from((0, 1, HOUR_MS // 2, HOUR_MS, 6 * HOUR_MS, 11 * HOUR_MS, 3 * DAY_MS)),
        st.sampled_from(CONTACTS),
        st.sampled_from((*(None,) * 5, *ZONES)),
        st.booleans(),
    ),
    max_size=40,
)


@quick(200)
@given(STEPS, st.integers(0, 5 * DAY_MS))
def test_a_cap_is_reached_by_the_sends_in_its_window(
    steps: list[tuple[int, int, str | None, bool]], before: int
) -> None:
    arrays, made = state().arrays, state().plan
    arrays.rows[:] = 0
    now, zone = SPRING_MS - before, "UTC"
    sends: list[Send] = []
    for later, contact, moved, send in steps:
        now += later
        zone = moved or zone
        arrays.rows[row_layout.ZONE] = now << 10 | zone_numbers()[zone]
        expected = not all(fits(sends, cap, now, zone, now) for cap in CAPS if cap[0] >> contact & 1)
        assert capped(arrays, made, world().arrays, NO_ALONE, contact, 0, now, True) is expected
        if send and not expected:
            charge(arrays, made, contact, 0, now)
            sends.append(Send(now, contact))


ALONE = st.lists(
    st.builds(
        Send,
        st.integers(0, 80).map(lambda hours: SPRING_MS + hours * HOUR_MS),
        st.sampled_from(CONTACTS),
        st.sampled_from(ZONES),
    ),
    max_size=8,
)


@quick(200)
@given(ALONE, ALONE, st.integers(0, 80), st.sampled_from(CONTACTS), st.sampled_from(ZONES), st.booleans())
def test_sends_without_a_log_row_count_too(
    charged: list[Send], alone: list[Send], hours: int, contact: int, zone: str, ahead: bool
) -> None:
    """Also those that came later, in the time zone that was the customer's then."""
    now = SPRING_MS + hours * HOUR_MS
    charged = [send for send in charged if send.time_ms <= now]
    arrays, made = state().arrays, state().plan
    arrays.rows[:] = 0
    arrays.rows[KEY_LO], arrays.rows[KEY_HI] = 7, 8
    arrays.rows[row_layout.ZONE] = now << 10 | zone_numbers()[zone]
    for send in charged:
        charge(arrays, made, send.contact, 0, send.time_ms)
    rows = np.zeros((len(alone) + 2, ALONE_WORDS), np.int64)
    rows[:, ALONE_LO], rows[:, ALONE_HI] = 7, 8
    for row, send in zip(rows, alone, strict=False):
        row[ALONE_TIME] = send.time_ms
        row[ALONE_FLAGS] = (
            send.contact + 1 << ALONE_CONTACT_SHIFT | zone_numbers()[send.zone] << ALONE_ZONE_SHIFT
        )
    rows[-2:, ALONE_TIME] = now  # one that is charged, one whose contact nobody knows
    rows[-2, ALONE_FLAGS] = ALONE_IS_CHARGED | 1 << ALONE_CONTACT_SHIFT
    expected = False
    for mask, times, window in (cap for cap in CAPS if cap[0] >> contact & 1):
        k = (3, 4, 6)[STREAMS.index(mask)]
        mine = sorted((s for s in charged if mask >> s.contact & 1), key=lambda s: s.time_ms)[-k:]
        # what was sent at `now` and is not charged was decided later
        others = [s for s in alone if mask >> s.contact & 1 and (ahead or s.time_ms != now)]
        ends = [(now, zone), *((s.time_ms, s.zone) for s in others if ahead and s.time_ms > now)]
        expected |= not all(fits([*mine, *others], (mask, times, window), end, at, now) for end, at in ends)
    assert capped(arrays, made, world().arrays, rows, contact, 0, now, ahead) is expected
