"""Shoppers that are not there: seeded streams of events for demonstrations, tests and benchmarks."""

from segue.simulate.settings import SimulationSettings
from segue.simulate.shoppers import simulate, write_simulation

__all__ = ["SimulationSettings", "simulate", "write_simulation"]
