"""The intermediate form of an expression: a small typed tree that every way of running it starts from.

Law: a node's value depends only on the customer's streams, `now` and the event; it is a float64 (conditions
1.0 or 0.0), computed in the order the tree is written, without contraction, and never raises. The
interpreter, the virtual machine and the native code give the same bits for it.

Times and windows in ms; 0 as window = ever. Money in a tree is in major units: an integer number of minor
units, converted to float64 and divided once by 10**exponent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from segue_kernels import plan

ArithmeticOperator: TypeAlias = Literal["+", "-", "*", "/", "min", "max"]
ComparisonOperator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]
FunctionName: TypeAlias = Literal["log1p", "sqrt", "exp", "abs"]

EXP_ARGUMENT_MAX = 700.0  # exp() keeps its argument within ±this, so its result is finite and not 0


@dataclass(frozen=True, slots=True, order=True)
class Stream:
    """What is remembered, apart from how much of it: atoms that agree in this share one stream.

    type      event type code; plan.SENT_TYPE + j for the sends of journey j
    by        plan.BY_*
    kind      plan.COUNT ... plan.LEFT
    field     what SUM adds or DISTINCT tells apart; 0 for counts
    currency  only events in this currency add; 0 = all
    every_ms  tumbling width; half-life of DECAY; gap of SESSIONS; 0 for the others
    source    only events with this SOURCE word; 0 = all
    """

    by: int
    type: int
    kind: int
    field: int = 0
    currency: int = 0
    every_ms: int = 0
    source: int = 0


@dataclass(frozen=True, slots=True)
class Number:
    """A finite constant; conditions are 1.0 and 0.0."""

    value: float


@dataclass(frozen=True, slots=True)
class EventNumber:
    """A number of the event: `field` is record.PRICE, record.AMOUNT or plan.FIELD_QUANTITY.

    Money of an event in another currency than `currency` is 0. `divisor` is 10**exponent, 1 for quantity.
    """

    field: int
    currency: int
    divisor: float


@dataclass(frozen=True, slots=True)
class EventIs:
    """Whether a hashed field of the event (a word of the record) is one of these int64; 0 = absent."""

    field: int
    bits: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EventTypeIs:
    """Whether the event is of one of these types (codes)."""

    codes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """How many events (or different keys, for the DISTINCT kinds) are in the window, at most `up_to`."""

    stream: Stream
    within_ms: int
    up_to: int


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Whether at least `least` (> 0) events (or different keys) are in the window: one load and a compare."""

    stream: Stream
    within_ms: int
    least: int


@dataclass(frozen=True, slots=True)
class Sum:
    """Integer sum of the window's `up_to` newest entries (all, when tumbling), divided by `divisor`."""

    stream: Stream
    within_ms: int
    up_to: int
    divisor: float


@dataclass(frozen=True, slots=True)
class Recency:
    """Time since the latest event of the window in ms; plan.RECENCY_NEVER if there is none."""

    stream: Stream
    within_ms: int


@dataclass(frozen=True, slots=True)
class Nth:
    """Time (ms) of the n-th newest event of the window, from 0; -1 if there are fewer."""

    stream: Stream
    within_ms: int
    n: int


@dataclass(frozen=True, slots=True)
class Latest:
    """The greatest of the `entries` newest times that lies in the window and is at most `bound` (`strict`: below it).

    -1 if there is none. `bound` is a time in ms as a number.
    """

    stream: Stream
    within_ms: int
    entries: int
    bound: Node
    strict: bool


@dataclass(frozen=True, slots=True)
class Since:
    """Whether the stream has an event later than the one that is decided on (that armed the wait)."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Decayed:
    """Sum of the events' weights, halved with each half-life (stream.every_ms), divided by `divisor`.

    Exact law, h the half-life: an event at t of value v adds floor(v * scale * exp2((t % h) / h) + 0.5) to the integer
    sum of its epoch t // h. With `newest` the newest event's epoch, the value at now is the sum over j = 0 ..
    DECAY_EPOCHS - 1 (in this order, from 0.0) of sum(newest - j) * exp2(-j), times exp2((newest * h - now) / h), over
    scale, over divisor; what is older counts nothing. exp2 is math.exp2, / is float64 division of exact integers.
    """

    stream: Stream
    divisor: float


@dataclass(frozen=True, slots=True)
class FirstValue:
    """Value of the first event ever (the smallest (time, value)) over `divisor`; 0 if there is none."""

    stream: Stream
    divisor: float


@dataclass(frozen=True, slots=True)
class Age:
    """now - time of the first event ever, ms; plan.RECENCY_NEVER if there is none."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Step:
    """Which wait of the journey is over: 1 for the first."""


@dataclass(frozen=True, slots=True)
class InSegment:
    index: int


@dataclass(frozen=True, slots=True)
class InStage:
    index: int


@dataclass(frozen=True, slots=True)
class Lookup:
    """A number of a table as of now (plan.LOOKUPS row `index`): the integer of millionths / LOOKUP_SCALE."""

    index: int


@dataclass(frozen=True, slots=True)
class LookupIs:
    """Whether a text of a table as of now is one of these hashes; 0 = empty."""

    index: int
    bits: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """float64 arithmetic. x / 0 is 0. min(a, b) is b if b < a, else a; max(a, b) is b if b > a, else a."""

    operator: ArithmeticOperator
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Apply:
    """A function of one number. log1p and sqrt take a negative number as 0; exp keeps to EXP_ARGUMENT_MAX."""

    function: FunctionName
    argument: Node


@dataclass(frozen=True, slots=True)
class Compare:
    operator: ComparisonOperator
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Not:
    operand: Node


@dataclass(frozen=True, slots=True)
class And:
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Or:
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Choose:
    """`then if condition else otherwise`."""

    condition: Node
    then: Node
    otherwise: Node


@dataclass(frozen=True, slots=True)
class Finite:
    """The operand if it is finite, else 0: at the root of what might overflow."""

    operand: Node


Atom: TypeAlias = Count | AtLeast | Sum | Recency | Nth | Latest | Since | Decayed | FirstValue | Age
Node: TypeAlias = (
    Number
    | EventNumber
    | EventIs
    | EventTypeIs
    | Atom
    | Step
    | InSegment
    | InStage
    | Lookup
    | LookupIs
    | Arithmetic
    | Apply
    | Compare
    | Not
    | And
    | Or
    | Choose
    | Finite
)
NODE_TYPES = (
    *(Number, EventNumber, EventIs, EventTypeIs, Count, AtLeast, Sum, Recency),
    *(Nth, Latest, Since, Decayed, FirstValue, Age, Step, InSegment, InStage, Lookup, LookupIs),
    *(Arithmetic, Apply, Compare, Not, And, Or, Choose, Finite),
)


def children(node: Node) -> Iterator[Node]:
    for item in fields(node):
        value = getattr(node, item.name)
        if isinstance(value, NODE_TYPES):
            yield value


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it, parents first."""
    yield node
    for child in children(node):
        yield from walk(child)


def atoms(node: Node) -> Iterator[Atom]:
    """What the tree asks of streams."""
    return (n for n in walk(node) if isinstance(n, (Count, AtLeast, Sum, Recency)))


def entries_needed(atom: Atom) -> int:
    """How many entries its stream must keep for the atom to be exact (to its `up_to`)."""
    if isinstance(atom, AtLeast):
        return 1 if atom.stream.kind == plan.TUMBLE_COUNT else atom.least
    if isinstance(atom, Recency) or atom.stream.kind in (plan.TUMBLE_COUNT, plan.TUMBLE_SUM):
        return 1
    return atom.up_to


def finite(node: Node) -> Node:
    """The node, guarded if its value or a step on the way to it might not be finite."""
    bounds: list[float] = []
    _magnitude_max(node, bounds)
    return node if max(bounds) <= 1e308 else Finite(node)


def _magnitude_max(node: Node, bounds: list[float]) -> float:
    """A bound of the absolute value, infinite where none is known; `bounds` takes those of all steps."""
    bound = _bound(node, bounds)
    bounds.append(bound)
    return bound


def _bound(node: Node, bounds: list[float]) -> float:
    match node:
        case Number(value):
            return abs(value)
        case Count(_, _, up_to):
            return float(up_to)
        case Recency():
            return plan.RECENCY_NEVER
        case EventNumber() | Sum():
            return 2.0**63
        case Arithmetic(operator, left, right):
            a, b = _magnitude_max(left, bounds), _magnitude_max(right, bounds)
            if operator in ("min", "max"):
                return max(a, b)
            if operator in ("+", "-"):
                return a + b
            if operator == "*":
                return a * b if a and b else 0.0
            if isinstance(right, Number):
                return a / abs(right.value) if right.value else 0.0
            return math.inf
        case Apply(function, argument):
            size = _magnitude_max(argument, bounds)
            # log1p(x) <= x and sqrt(x) <= max(1, x) for x >= 0
            return 1.1e304 if function == "exp" else max(1.0, size)
        case Choose(_, then, otherwise):
            return max(_magnitude_max(then, bounds), _magnitude_max(otherwise, bounds))
        case Finite():
            return 1e308
        case _:
            return 1.0
