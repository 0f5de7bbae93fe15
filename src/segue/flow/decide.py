"""Decisions of all shards: windows, conditions, timers, scores, limits (segue.flow.crew, as keyed steps)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Stream
from bytewax.operators import StatefulBatchLogic

from segue.checkpoints.group import Saved
from segue.checkpoints.recovered import Recovered
from segue.flow.crew import Crews
from segue.flow.items import KNOWN, Addressed, shard_label
from segue.flow.parts import ShardPart, Step
from segue.flow.route import Routes
from segue.policy.compiled import CompiledPolicies
from segue.run.stop import FAILED
from segue.settings import Settings
from segue.sources.pace import Pace
from segue_kernels.receipt import ANONYMOUS_PART

_AT_ONCE = datetime.fromtimestamp(0, UTC)


def decide(
    routes: Routes, policies: CompiledPolicies, settings: Settings, recovered: Recovered, pace: Pace
) -> Stream[Any]:
    """Decisions of all shards (and their counts at the end). Anonymous shards come first: what an identify says
    belongs to a known customer goes on to that customer's shard, which waits for it."""
    of_anonymous = Crews(Step(policies, settings, recovered, pace, of_known=False))
    of_known = Crews(Step(policies, settings, recovered, pace, of_known=True))
    anonymous = op.stateful_batch(
        "anonymous", routes.anonymous, lambda saved: _PartLogic(of_anonymous, saved)
    )

    def passed_on(items: list[tuple[str, Any]]) -> Iterable[tuple[str, Addressed]]:
        for _, item in items:
            if isinstance(item, tuple):
                yield shard_label(KNOWN, item[0]), item

    def decided_here(items: list[tuple[str, Any]]) -> Iterable[Any]:
        return [item for _, item in items if not isinstance(item, tuple)]

    passed = op.flat_map_batch("passed_on", anonymous, passed_on)
    known = op.stateful_batch(
        "known",
        op.merge("arrivals", routes.known, passed),
        lambda saved: _PartLogic(of_known, saved),
    )
    return op.merge(
        "decided",
        op.flat_map_batch("decided_anonymous", anonymous, decided_here),
        op.flat_map_batch("decided_known", known, decided_here),
    )


class _PartLogic(StatefulBatchLogic[Addressed, Any, "Saved | None"]):
    """A part of the state (segue.flow.parts). It is opened by its first item, or by what was saved of it: Bytewax tells
    no logic its key. All that ask for it are called in one go, and before the epoch is saved."""

    def __init__(self, crews: Crews, saved: Saved | None) -> None:
        self._crew = crews.here()
        self._step = self._crew.step
        self._part: ShardPart | None = None
        if saved is not None:
            number, delta = self._step.recovered.load(saved)
            self._part = self._crew.part(number, saved, delta)

    def on_batch(self, values: list[Addressed]) -> tuple[list[Any], bool]:
        if self._part is None:
            shard = values[0][0]
            self._part = self._crew.part(shard if self._step.of_known else shard + ANONYMOUS_PART)
        self._part.touch()
        packets = [packet for _, packet in values if packet is not None]
        told = self._crew.take_in(self._part, packets) if packets else []
        return told, StatefulBatchLogic.RETAIN

    def on_notify(self) -> tuple[list[Any], bool]:
        # one share of due timers for all: not one for each part that asked
        asks = self._part is not None and self._part.has_asked
        return self._crew.process() if asks else [], StatefulBatchLogic.RETAIN

    def notify_at(self) -> datetime | None:
        return _AT_ONCE if self._part is not None and self._part.ask() else None

    def on_eof(self) -> tuple[list[Any], bool]:
        return self._part.end(self._crew.process) if self._part is not None else [], StatefulBatchLogic.RETAIN

    def snapshot(self) -> Saved | None:
        group = self._step.group
        if group is None:
            return None
        FAILED.raise_if_set()
        assert self._part is not None
        return group.saved(self._part.number)
