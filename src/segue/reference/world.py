"""What a worker knows that is not a customer's: the world's clocks, and reference tables as they were at any time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segue_kernels.shard import World

Words = npt.NDArray[np.int64]


class ReferenceWorld:
    """`arrays` is what kernels take; take it anew for each batch."""

    def __init__(self) -> None:
        self.arrays = World(
            zone_of=np.zeros(1_024, np.int64),
            day_start=np.zeros((1, 1), np.int64),
            month_day=np.zeros(1, np.int64),
            table_index=np.zeros(1, np.int64),
            versions=np.zeros(8, np.int64),
            defaults=np.zeros(4, np.int64),
        )

    def need_zone(self, number: int) -> None:
        """Load the days of a zone, of a joined history for example."""

    def need_zones(self, records: Words) -> None:
        """Load the days of every zone that these records name for the first time."""

    def take(self, records: Words) -> Words:
        """Note what the reference rows among these say; the others."""
        return records


def empty_world() -> ReferenceWorld:
    """A world without tables whose default zone is UTC."""
    return ReferenceWorld()
