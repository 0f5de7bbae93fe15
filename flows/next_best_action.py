"""What customers do comes in, the next best action goes out.

python -m bytewax.run flows.next_best_action:flow      (settings: the JSON file that SEGUE_SETTINGS names)
"""

from __future__ import annotations

import os
from typing import Any

from bytewax.dataflow import Dataflow

from segue.checkpoints.recovered import Recovered, without_state
from segue.clock import WALL_CLOCK, Clock
from segue.flow.decide import decide
from segue.flow.encode import encode, rejected
from segue.flow.events import read_events
from segue.flow.grant import grant
from segue.flow.outputs import write
from segue.flow.route import route
from segue.policy.load import load_policies
from segue.run.execute import deployed
from segue.settings import SETTINGS_VARIABLE, Settings, secret
from segue.sources.interface import Source
from segue.sources.open import open_source, shared_pace


def next_best_action(
    settings: Settings,
    source: Source[Any] | None = None,
    clock: Clock = WALL_CLOCK,
    recovered: Recovered | None = None,
) -> Dataflow:
    """The whole way of an event, for one run. Without a source it is what the settings name; `recovered` is what an
    earlier run left, nothing if not given."""
    policies = load_policies(
        settings.policies, secret=secret(), currency=settings.currency, native=settings.native
    )
    source = source or open_source(settings)
    recovered = recovered or without_state(source)
    pace = shared_pace(settings, recovered.partitions)

    flow = Dataflow("next_best_action")
    # batches of columns, and ticks of time; dead letters and late events beside
    events = read_events(flow, source, policies, settings, recovered, pace, clock)
    routes = route(events, policies, settings, recovered)  # one packet a shard
    # windows, conditions, timers, scores, limits
    decided = decide(routes, policies, settings, recovered, pace)
    granted = grant(decided, policies, settings, recovered)  # vouchers of campaigns: one ledger
    actions = encode(granted, policies, settings)  # JSON a channel, the decision log as columns
    refused = rejected(events, policies, settings)
    write([actions, refused, routes.nobody], policies, settings, recovered)
    return flow


if SETTINGS_VARIABLE in os.environ:
    flow = deployed(next_best_action)
