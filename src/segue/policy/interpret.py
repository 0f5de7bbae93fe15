"""The plain reading of the intermediate form: the reference for the virtual machine and the native code.

It asks a `History` what the customer did; a History may be as slow and plain as it likes. Windows: within_ms
= W means times in (now - W, now], 0 = ever, below 0 = since a moment (plan.WINDOW_*: the local day, week or
month, the session); the tumbling kinds look at the UTC-aligned window of now, stream.every_ms wide, instead.
"""

from __future__ import annotations

import math
from typing import Protocol, cast

from segue.policy import ir
from segue_kernels import plan, record


class History(Protocol):
    """One customer at `now` (the customer's clock), and the event that is being decided on.

    A stream is asked with the `key` of its `by`: 0 for none, else the 64-bit hash (never 0). `within_ms` is a window
    of an atom (plan.py): sliding, ever, or since a moment; the tumbling kinds look at stream.every_ms instead.
    """

    @property
    def now(self) -> int: ...

    @property
    def trigger_ms(self) -> int:
        """Time of the event that is decided on."""
        ...

    @property
    def step(self) -> int: ...

    @property
    def segments(self) -> int:
        """Bit s: in segment s."""
        ...

    @property
    def stage(self) -> int: ...

    def times(self, stream: ir.Stream, within_ms: int, key: int) -> list[int]:
        """Times of the stream's events in the window, newest first."""
        ...

    def sum(self, stream: ir.Stream, within_ms: int, key: int, up_to: int) -> int:
        """Integer sum over the window; not tumbling: over the `up_to` greatest events by (time, value)."""
        ...

    def distinct(self, stream: ir.Stream, within_ms: int, key: int, up_to: int) -> int:
        """How many different values of the stream's field (absent ones aside), at most `up_to`."""
        ...

    def decayed_sums(self, stream: ir.Stream, key: int) -> tuple[int, list[int]] | None:
        """Epoch of the newest event, and the sums of DECAY_EPOCHS epochs from it backwards; None if there is none."""
        ...

    def first(self, stream: ir.Stream, key: int) -> tuple[int, int] | None:
        """The smallest (time, value) ever."""
        ...

    def lookup(self, index: int) -> int: ...

    # the event: money in minor units, hashes as int64 with 0 for absent, currency and type as codes
    @property
    def type(self) -> int: ...
    @property
    def price(self) -> int: ...
    @property
    def amount(self) -> int: ...
    @property
    def quantity(self) -> int: ...
    @property
    def currency(self) -> int: ...
    @property
    def product(self) -> int: ...
    @property
    def category(self) -> int: ...
    @property
    def store(self) -> int: ...
    @property
    def code(self) -> int: ...
    @property
    def source(self) -> int: ...


def interpret(node: ir.Node, history: History) -> float:
    """The value of a tree: conditions give 1.0 or 0.0."""
    match node:
        case ir.Number(value):
            return value
        case ir.EventNumber(field, currency, divisor):
            if field == plan.FIELD_QUANTITY:
                return float(history.quantity)
            if history.currency != currency:
                return 0.0
            return float(history.price if field == record.PRICE else history.amount) / divisor
        case ir.EventIs(field, bits):
            return float(_hashed_field(history, field) in bits)
        case ir.EventTypeIs(codes):
            return float(history.type in codes)
        case ir.Count(stream, within_ms, up_to):
            return float(_count(stream, within_ms, up_to, history))
        case ir.AtLeast(stream, within_ms, least):
            return float(_count(stream, within_ms, least, history) >= least)
        case ir.Sum(stream, within_ms, up_to, divisor):
            key = _key(stream, history)
            return 0.0 if key is None else float(history.sum(stream, within_ms, key, up_to)) / divisor
        case ir.Recency(stream, within_ms):
            times = _times(stream, within_ms, history)
            return float(history.now - times[0]) if times else plan.RECENCY_NEVER
        case ir.Nth(stream, within_ms, n):
            times = _times(stream, within_ms, history)
            return float(times[n]) if n < len(times) else -1.0
        case ir.Latest():
            return _latest(node, history)
        case ir.Since(stream):
            times = _times(stream, 0, history)
            return float(bool(times) and times[0] > history.trigger_ms)
        case ir.Decayed(stream, divisor):
            return _decayed(stream, history) / divisor
        case ir.FirstValue(stream, divisor):
            found = _first(stream, history)
            return float(found[1]) / divisor if found else 0.0
        case ir.Age(stream):
            found = _first(stream, history)
            return float(history.now - found[0]) if found else plan.RECENCY_NEVER
        case ir.Step():
            return float(history.step)
        case ir.InSegment(index):
            return float(history.segments >> index & 1)
        case ir.InStage(index):
            return float(history.stage == index)
        case ir.Lookup(index):
            return float(history.lookup(index)) / plan.LOOKUP_SCALE
        case ir.LookupIs(index, bits):
            return float(history.lookup(index) in bits)
        case ir.Arithmetic(operator, left, right):
            return _arithmetic(operator, interpret(left, history), interpret(right, history))
        case ir.Apply(function, argument):
            return _apply(function, interpret(argument, history))
        case ir.Compare(operator, left, right):
            return float(_compare(operator, interpret(left, history), interpret(right, history)))
        case ir.Not(operand):
            return 1.0 - interpret(operand, history)
        case ir.And(left, right):
            return interpret(right, history) if interpret(left, history) else 0.0
        case ir.Or(left, right):
            return 1.0 if interpret(left, history) else interpret(right, history)
        case ir.Choose(condition, then, otherwise):
            return interpret(then if interpret(condition, history) else otherwise, history)
        case ir.Finite(operand):
            value = interpret(operand, history)
            return value if math.isfinite(value) else 0.0


def interpret_constant(node: ir.Node) -> float:
    """The value of a tree that asks nothing of a history."""
    return interpret(node, cast(History, None))


def _key(stream: ir.Stream, history: History) -> int | None:
    """The event's product or category; None if the stream is by one and the event has none."""
    if stream.by == plan.BY_NONE:
        return 0
    return (history.product if stream.by == plan.BY_PRODUCT else history.category) or None


def _times(stream: ir.Stream, within_ms: int, history: History) -> list[int]:
    key = _key(stream, history)
    return [] if key is None else history.times(stream, within_ms, key)


def _latest(node: ir.Latest, history: History) -> float:
    bound = interpret(node.bound, history)
    greatest = -1.0
    for stream, strict in ((node.stream, node.strict), *node.others):
        for time in _times(stream, node.within_ms, history)[: node.entries]:
            if time < bound or (time == bound and not strict):
                greatest = max(greatest, float(time))
    return greatest


def _first(stream: ir.Stream, history: History) -> tuple[int, int] | None:
    key = _key(stream, history)
    return None if key is None else history.first(stream, key)


def _count(stream: ir.Stream, within_ms: int, up_to: int, history: History) -> int:
    key = _key(stream, history)
    if key is None:
        return 0
    if stream.kind in (plan.DISTINCT, plan.TUMBLE_DISTINCT):
        return min(history.distinct(stream, within_ms, key, up_to), up_to)
    return min(len(history.times(stream, within_ms, key)), up_to)


def _decayed(stream: ir.Stream, history: History) -> float:
    key = _key(stream, history)
    found = None if key is None else history.decayed_sums(stream, key)
    if found is None:
        return 0.0
    newest, sums = found
    total = 0.0
    for j in range(plan.DECAY_EPOCHS):
        total += float(sums[j]) * math.exp2(-j)
    half_life = stream.every_ms
    share = math.exp2(float(newest * half_life - history.now) / float(half_life))
    return total * share / float(ir.decay_scale(stream))


def _hashed_field(history: History, field: int) -> int:
    match field:
        case record.PRODUCT:
            return history.product
        case record.CATEGORY:
            return history.category
        case record.STORE:
            return history.store
        case record.CODE:
            return history.code
        case _:
            return history.source


def _arithmetic(operator: ir.ArithmeticOperator, a: float, b: float) -> float:
    match operator:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "/":
            return 0.0 if b == 0.0 else a / b
        case "min":
            return b if b < a else a
        case "max":
            return b if b > a else a


def _apply(function: ir.FunctionName, x: float) -> float:
    match function:
        case "log1p":
            return math.log1p(x) if x > 0.0 else 0.0
        case "sqrt":
            return math.sqrt(x) if x > 0.0 else 0.0
        case "abs":
            return abs(x)
        case "exp":
            limit = ir.EXP_ARGUMENT_MAX
            return math.exp(limit if x > limit else (x if x > -limit else -limit))


def _compare(operator: ir.ComparisonOperator, a: float, b: float) -> bool:
    match operator:
        case "==":
            return a == b
        case "!=":
            return a != b
        case "<":
            return a < b
        case "<=":
            return a <= b
        case ">":
            return a > b
        case ">=":
            return a >= b
