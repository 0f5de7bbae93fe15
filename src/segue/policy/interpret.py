"""The plain reading of the intermediate form: the reference for the virtual machine and the native code.

It asks a `History` what the customer did; a History may be as slow and plain as it likes. Windows: within_ms
= W means times in (now - W, now], 0 = ever; every_ms = W means the UTC-aligned window of now. At most one of
them is not 0.
"""

from __future__ import annotations

import math
from typing import Protocol, cast

from segue.policy import ir
from segue_kernels import plan, record


class History(Protocol):
    """One customer at `now` (the customer's clock), and the event that is being decided on.

    type      event type code (events/names.py)
    by, key   plan.BY_NONE and 0, or plan.BY_PRODUCT / BY_CATEGORY and its 64-bit hash (never 0)
    of        record.PRICE, record.AMOUNT or plan.FIELD_QUANTITY for sum(); record.PRODUCT, CATEGORY, STORE or
              CODE for distinct()
    currency  sum(): only events in this currency, 0 = all
    """

    def count(self, type: int, by: int, key: int, within_ms: int, every_ms: int, up_to: int) -> int:
        """How many events are in the window, at most `up_to`."""
        ...

    def sum(
        self, type: int, of: int, by: int, key: int, within_ms: int, every_ms: int, up_to: int, currency: int
    ) -> int:
        """Integer sum of `of` over the window; sliding: over the `up_to` greatest events by (time, value)."""
        ...

    def distinct(
        self, type: int, of: int, by: int, key: int, within_ms: int, every_ms: int, up_to: int
    ) -> int:
        """How many different values of `of` (absent ones aside) are in the window, at most `up_to`."""
        ...

    def recency(self, type: int, by: int, key: int, within_ms: int) -> int | None:
        """ms since the latest event in the window; None if there is none."""
        ...

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
            if key is None:
                return 0.0
            total = history.sum(
                stream.type, stream.field, stream.by, key, within_ms, stream.every_ms, up_to, stream.currency
            )
            return float(total) / divisor
        case ir.Recency(stream, within_ms):
            key = _key(stream, history)
            since = None if key is None else history.recency(stream.type, stream.by, key, within_ms)
            return plan.RECENCY_NEVER if since is None else float(since)
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


def _count(stream: ir.Stream, within_ms: int, up_to: int, history: History) -> int:
    key = _key(stream, history)
    if key is None:
        return 0
    if stream.kind in (plan.DISTINCT, plan.TUMBLE_DISTINCT):
        found = history.distinct(stream.type, stream.field, stream.by, key, within_ms, stream.every_ms, up_to)
    else:
        found = history.count(stream.type, stream.by, key, within_ms, stream.every_ms, up_to)
    return min(found, up_to)


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
