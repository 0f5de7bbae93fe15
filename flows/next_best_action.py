"""What customers do comes in, the next best action goes out.

python -m bytewax.run flows.next_best_action:flow      (settings: the JSON file that SEGUE_SETTINGS names)
"""

from __future__ import annotations

import os
from typing import Any

from bytewax.dataflow import Dataflow

from segue.bytewax_steps import decide, encode, read_events, rejected, route, write
from segue.clock import WALL_CLOCK, Clock
from segue.policy.load import load_policies
from segue.settings import SETTINGS_VARIABLE, Settings, load_settings, secret
from segue.sources.interface import Source
from segue.sources.open import open_source, shared_pace


def next_best_action(
    settings: Settings, source: Source[Any] | None = None, clock: Clock = WALL_CLOCK
) -> Dataflow:
    """The whole way of an event, for one run. Without a source it is what the settings name."""
    policies = load_policies(
        settings.policies, secret=secret(), currency=settings.currency, native=settings.native
    )
    source = source or open_source(settings)
    partitions = len(source.partitions)
    pace = shared_pace(settings, partitions)

    flow = Dataflow("next_best_action")
    # batches of columns, and ticks of time; dead letters and late events beside
    events = read_events(flow, source, settings, pace, clock)
    routes = route(events, policies, settings, partitions)  # one packet a shard
    decided = decide(
        routes, policies, settings, partitions, pace
    )  # windows, conditions, timers, scores, limits
    actions = encode(decided, policies)  # JSON a channel, the decision log as columns
    write([actions, rejected(events), routes.nobody], settings, policies)
    return flow


if SETTINGS_VARIABLE in os.environ:
    flow = next_best_action(load_settings())
