"""What a simulation is made from; the same settings give the same bytes."""

from __future__ import annotations

from dataclasses import dataclass, fields

from segue.errors import SettingsError
from segue.limits import DAY_MS, EVENT_TIME_MS_MIN

START_MS_DEFAULT = 1_772_438_400_000  # 2026-03-02T08:00:00Z, a Monday
EVENTS_PER_CUSTOMER_DAY = 20
EVENTS_PER_SECOND_MAX = 1_000  # unless asked for: more customers than this keeps busy come less often


@dataclass(frozen=True)
class SimulationSettings:
    """seed and sizes of a simulated retailer. More `events` of the same settings continue the same stream.

    events              lines written, repeats included
    start_ms            event time of the first session, ms since 1970 UTC
    events_per_second   mean rate in event time; 0: EVENTS_PER_CUSTOMER_DAY a customer, 1,000 a second at most
    shares              of all events: out of order (up to 5 s), late (6 to 30 min), duplicate (same bytes)
    """

    seed: int = 1
    customers: int = 10_000
    events: int = 100_000
    start_ms: int = START_MS_DEFAULT
    events_per_second: float = 0.0
    products: int = 5_000
    stores: int = 40
    out_of_order_share: float = 0.01
    late_share: float = 0.001
    duplicate_share: float = 0.005

    def __post_init__(self) -> None:
        bounds = {
            "seed": (0, 2**63 - 1),
            "customers": (1, 100_000_000),
            "events": (0, 10**15),
            "start_ms": (EVENT_TIME_MS_MIN, 4_102_444_800_000),
            "events_per_second": (0.0, 100_000.0),
            "products": (1, 10_000_000),
            "stores": (1, 1_000_000),
            "out_of_order_share": (0.0, 0.5),
            "late_share": (0.0, 0.5),
            "duplicate_share": (0.0, 0.5),
        }
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = bounds[field.name]
            if not low <= value <= high:
                raise SettingsError(
                    "simulate shoppers",
                    f"{field.name} is {value:,}",
                    f"choose a value from {low:,} to {high:,}",
                )

    @property
    def rate(self) -> float:
        """Events a second of event time, on average over a day."""
        if self.events_per_second:
            return self.events_per_second
        return min(EVENTS_PER_SECOND_MAX, self.customers * EVENTS_PER_CUSTOMER_DAY * 1_000 / DAY_MS)
