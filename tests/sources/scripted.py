"""A live input that follows a script, and a clock that is moved by it: hours of a night pass in no time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from segue.clock import ManualClock
from segue.sources.interface import Chunk, LineChunk, QuietChunk

Event = dict[str, Any]


def iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(timespec="milliseconds")


def event(number: int | str, kind: str, time_ms: int, customer: str, **more: Any) -> Event:
    """One message; `customer` is a userId, or an anonymousId if it starts with "?"."""
    who = {"anonymousId": customer[1:]} if customer.startswith("?") else {"userId": customer}
    return {"id": str(number), "type": kind, "time": iso(time_ms), **who, **more}


@dataclass(frozen=True)
class Step:
    """What a read finds at a time: events, or nothing (confirmed, or not: nobody knows what is missing)."""

    at_ms: int
    events: Sequence[Event] = ()
    confirmed: bool = True


def live_script(
    arrivals: Sequence[tuple[int, Event]], start_ms: int, end_ms: int, look_ms: int = 60_000
) -> list[Step]:
    """Every event is read when it arrives; in between the reader looks, and finds that nothing is missing."""
    steps = [Step(at_ms) for at_ms in range(start_ms, end_ms + 1, look_ms)]
    steps += [Step(at_ms, [message]) for at_ms, message in arrivals]
    return sorted(steps, key=lambda step: (step.at_ms, bool(step.events)))


def with_outage(script: Sequence[Step], from_ms: int, to_ms: int) -> list[Step]:
    """The same input, unreachable for a while: what came meanwhile is read at its end, in its order."""
    before = [step for step in script if step.at_ms < from_ms]
    during = [step for step in script if from_ms <= step.at_ms < to_ms]
    after = [step for step in script if step.at_ms >= to_ms]
    silent = [Step(step.at_ms, confirmed=False) for step in during if not step.events]
    backlog = [message for step in during for message in step.events]
    return [*before, *silent, Step(to_ms, backlog), *after]


class ScriptPosition(msgspec.Struct, frozen=True):
    """Steps that were read."""

    step: int = 0


@dataclass
class ScriptedPartition:
    """Each read is the next step: the clock is set to its time."""

    name: str
    steps: Sequence[Step]
    clock: ManualClock
    next: int = 0
    lines: int = 0
    offset: int = 0

    def read(self, rows_max: int, bytes_max: int) -> Chunk | None:
        if self.next == len(self.steps):
            return None
        step = self.steps[self.next]
        self.next += 1
        self.clock.set(step.at_ms)
        if not step.events:
            return QuietChunk(step.at_ms if step.confirmed else None)
        text = "".join(json.dumps(message) + "\n" for message in step.events).encode()
        payload = np.frombuffer(bytearray(text), np.uint8)
        chunk = LineChunk(payload, self.name, self.offset, self.lines + 1, len(step.events))
        self.lines += len(step.events)
        self.offset += len(text)
        return chunk

    def position(self) -> ScriptPosition:
        return ScriptPosition(self.next)

    def close(self) -> None:
        pass


@dataclass
class ScriptedSource:
    """Scripts by the name of their partition, and their common clock."""

    scripts: dict[str, Sequence[Step]]
    clock: ManualClock = field(default_factory=lambda: ManualClock(0))

    @property
    def partitions(self) -> tuple[str, ...]:
        return tuple(self.scripts)

    def open(self, name: str, position: ScriptPosition | None = None) -> ScriptedPartition:
        return ScriptedPartition(name, self.scripts[name], self.clock, (position or ScriptPosition()).step)
