"""Where the time of a run goes: self time of each stage, so that the stages and the rest add up to the whole."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import segue.decide.bench as bench
import segue.flow.route as route
import segue.routing.packet as packet
from segue.actions.encode import ActionEncoder
from segue.decide.bench import Bench
from segue.events.decode import Decoder
from segue.identity.anonymous import AnonymousShard
from segue.routing.arrivals import Arrivals
from segue.sinks.files import BatchesOutput, LinesOutput
from segue.sources.reader import BatchReader
from segue.vouchers.rankings import Answering

# (stage, owner, attribute): what is timed; a stage's time excludes that of stages inside it
_TIMED: tuple[tuple[str, Any, str], ...] = (
    ("read", BatchReader, "read"),
    ("decode", Decoder, "json_lines"),
    ("clock and lateness", Decoder, "stamp"),
    ("route", route, "packets"),
    ("route", packet, "scatter_rows"),
    ("order of arrival", Arrivals, "push"),
    ("order of arrival", Arrivals, "release"),
    ("anonymous identifiers", AnonymousShard, "take"),
    ("anonymous identifiers", AnonymousShard, "pass_on"),
    ("engine: calls and outputs", Bench, "process"),
    ("engine: customers, windows and decisions", bench, "process_parts"),
    ("vouchers", Answering, "answer"),
    ("encode actions and log", ActionEncoder, "encode"),
    ("write", LinesOutput, "write"),
    ("write", BatchesOutput, "write"),
    ("write", LinesOutput, "close"),
    ("write", BatchesOutput, "close"),
)


class Stages:
    """Seconds by stage, while `timed()` is entered. One thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {stage: 0.0 for stage, _, _ in _TIMED}
        self._inside: list[float] = []

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Time every stage until left."""
        originals = [(owner, name, getattr(owner, name)) for _, owner, name in _TIMED]
        for stage, owner, name in _TIMED:
            setattr(owner, name, self._wrap(stage, getattr(owner, name)))
        try:
            yield
        finally:
            for owner, name, original in originals:
                setattr(owner, name, original)

    def _wrap(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        seconds = self.seconds
        inside = self._inside

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            inside.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - start
                seconds[stage] += took - inside.pop()
                if inside:
                    inside[-1] += took

        return call
