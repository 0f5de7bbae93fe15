"""Hypothesis strategies over the generators of random_events and random_policies.

worlds()     World: how many customers, products, partitions
streams()    list[bytes]: JSON Lines, a payload for each partition
policies()   list[str]: TOML texts of policy files, always valid
borders(n)   list[int]: sizes of batches that together have n rows
settings()   engine.Settings, now and then with small bounds
"""

from __future__ import annotations

from hypothesis import strategies as st

from segue.limits import DAY_MS, HOUR_MS
from tests.reference import random_events, random_policies
from tests.reference.choice import Drawn
from tests.reference.engine import Settings
from tests.reference.random_events import World


@st.composite
def worlds(draw: st.DrawFn) -> World:
    return random_events.world(Drawn(draw))


@st.composite
def streams(draw: st.DrawFn, events_max: int = 40) -> list[bytes]:
    choice = Drawn(draw)
    return random_events.stream(choice, random_events.world(choice), choice.integer(1, events_max))


@st.composite
def policies(draw: st.DrawFn) -> list[str]:
    return random_policies.policies(Drawn(draw))


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> str:
    return random_policies.condition(Drawn(draw), depth)


@st.composite
def numbers(draw: st.DrawFn, depth: int = 2) -> str:
    return random_policies.number(Drawn(draw), depth)


@st.composite
def borders(draw: st.DrawFn, rows: int) -> list[int]:
    return random_events.borders(Drawn(draw), rows)


@st.composite
def settings(draw: st.DrawFn) -> Settings:
    defaults = Settings()
    return Settings(
        retention_ms=draw(st.sampled_from((defaults.retention_ms, 2 * DAY_MS))),
        rate_events_per_minute_max=draw(st.sampled_from((defaults.rate_events_per_minute_max, 5))),
        quarantine_ms=draw(st.sampled_from((defaults.quarantine_ms, HOUR_MS // 2))),
    )
