"""What a worker knows that is not a customer's: the world's clocks, and reference tables as they were at any time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segue.reference.zones import calendar, zone_number
from segue_kernels.calendar import DEFAULT_ZONE, find_new_zone
from segue_kernels.record import PACK, ZONE_MASK, ZONE_SHIFT
from segue_kernels.shard import World

Words = npt.NDArray[np.int64]


class ReferenceWorld:
    """`arrays` is what kernels take; take it anew for each batch."""

    def __init__(self, timezone: str) -> None:
        shared = calendar()
        defaults = np.zeros(4, np.int64)
        defaults[DEFAULT_ZONE] = zone_number(timezone)
        shared.load(int(defaults[DEFAULT_ZONE]))
        self.arrays = World(
            zone_of=shared.zone_of,
            day_start=shared.day_start,
            month_day=shared.month_day,
            table_index=np.zeros(1, np.int64),
            versions=np.zeros(8, np.int64),
            defaults=defaults,
        )

    def need_zone(self, number: int) -> None:
        """Load the days of a zone, of a joined history for example."""
        calendar().load(number)

    def need_zones(self, records: Words) -> None:
        """Load the days of every zone that these records name for the first time."""
        at = find_new_zone(records, self.arrays.zone_of, 0)
        while at >= 0:
            calendar().load(int(records[at, PACK] >> ZONE_SHIFT) & ZONE_MASK)
            at = find_new_zone(records, self.arrays.zone_of, at + 1)


def empty_world() -> ReferenceWorld:
    """A world without tables whose default zone is UTC."""
    return ReferenceWorld("UTC")
