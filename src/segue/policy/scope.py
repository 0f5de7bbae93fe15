"""The words of the language, what an expression may refer to, and what an operand can be.

Law: a message names the file, the path in it and the column, and says what to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NoReturn, TypeAlias

from segue.errors import PolicyError, did_you_mean
from segue.events.names import ERASURE, REFERENCE_CODES, type_name
from segue.limits import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    WINDOW_MS_MAX,
)
from segue.policy import ir
from segue.policy.model import STEP
from segue_kernels import plan, record

UNITS_MS = {"ms": 1, "s": 1_000, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS, "w": 7 * DAY_MS}
DURATION = re.compile(r"(\d{1,12})(ms|s|m|h|d|w)")
PAGE_HINT = "LANGUAGE.md lists the functions, fields and forms"
DURATION_HINT = 'a duration is a whole number and a unit of ms, s, m, h, d, w: "30m", "7d"'

BY = {"product": plan.BY_PRODUCT, "category": plan.BY_CATEGORY}
NUMBER_FIELDS = {"price": record.PRICE, "amount": record.AMOUNT, "quantity": plan.FIELD_QUANTITY}
TEXT_FIELDS = {
    "product": record.PRODUCT,
    "category": record.CATEGORY,
    "store": record.STORE,
    "code": record.CODE,
    "source": record.SOURCE,
}
DISTINCT_FIELDS = {name: word for name, word in TEXT_FIELDS.items() if name != "source"}
EVENT_FIELDS = (*NUMBER_FIELDS, *TEXT_FIELDS, "type")
CALENDAR = {
    "hour": plan.WINDOW_HOUR,
    "day": plan.WINDOW_DAY,
    "week": plan.WINDOW_WEEK,
    "month": plan.WINDOW_MONTH,
}
MOVING = ("within", "calendar", "session")
WINDOWS = ("within", "every", "calendar", "session")
ATOM_KEYWORDS = {
    "count": ("by", *WINDOWS, "source", "up_to"),
    "exists": ("by", *WINDOWS, "source"),
    "sum": ("of", "by", *WINDOWS, "source", "up_to"),
    "distinct": ("of", "by", *WINDOWS, "source", "up_to"),
    "recency": ("by", *MOVING, "source"),
    "sequence": ("by", *MOVING, "source", "without", "up_to"),
    "absent": ("by", "source"),
    "decayed": ("half_life", "of", "by", "source"),
    "trend": ("recent", "habit", "of", "by", "source"),
    "first": ("of", "by", "source"),
    "last": ("of", "by", *MOVING, "source"),
    "age": ("by", "source"),
    "joined": (*MOVING, "up_to"),
}
OF_SECOND = ("sum", "distinct", "first", "last")  # `of` may stand second without its name
ANY_OF = ("count", "exists", "sum", "recency", "absent")  # one event of these may be any_of(...)
FUNCTIONS = (
    *ATOM_KEYWORDS,
    *("segment", "stage", "any_of", "duration", "log1p", "sqrt", "exp", "abs", "min", "max"),
)
MIN_MAX_ARGUMENTS_MAX = 8
RESERVED_FUNCTIONS = ("repeated", "not_between", "sessions", "local_hour", "local_day")
RESERVED_NAMES = ("store", "weather", "journey")
RESERVED_KEYWORDS = ("decay", "where", "gap", "after", "before")
INSTEAD = {
    "repeated": 'count them: count("Product Viewed", within="1d") >= 3',
    "not_between": 'sequence("Product Viewed", "Cart Viewed", without="Order Completed", within="1d")',
    "sessions": 'a session is a window: count("Product Viewed", session="30m")',
    "entered": "it stands in `on` of a journey: on = ['entered(\"loyal\")']",
    "left": "it stands in `on` of a journey: on = ['left(\"loyal\")']",
    "session": 'it is a window: count("Product Viewed", session="30m")',
    "after": 'a journey with `wait` asks absent("Order Completed")',
}
NO_CUSTOMER = tuple(type_name(code) for code in REFERENCE_CODES)  # they reach no customer's row


@dataclass(frozen=True, slots=True)
class Scope:
    """What an expression may refer to, and where it stands.

    file, path, place   for messages: "a.toml", "$.journeys[0].when", "column 7"
    types        event type codes by name
    currency     code of the policy's currency, `minor_per_major` its 10**exponent
    hash_text    text -> 64-bit keyed hash as int64, as the decoder computes it
    segments, stages, joins   indexes by id
    tables       kinds ("number", "text") of the fields of each table; `lookup` gives a field's row of plan.LOOKUPS
                 and its kind
    waiting      the journey waits: what has happened since may be asked
    customer_only   it stands in a segment or stage: there is no event to ask about
    """

    file: str
    path: str
    types: dict[str, int]
    currency: int
    minor_per_major: int
    hash_text: Callable[[str], int]
    place: str = ""
    segments: dict[str, int] = field(default_factory=dict)
    stages: dict[str, int] = field(default_factory=dict)
    joins: dict[str, int] = field(default_factory=dict)
    tables: dict[str, dict[str, str]] = field(default_factory=dict)
    lookup: Callable[[str, str], tuple[int, str]] | None = None
    waiting: bool = False
    customer_only: bool = False

    def at(self, path: str) -> Scope:
        return replace(self, path=path)

    def fail(self, message: str, hint: str = "") -> NoReturn:
        place = f", {self.place}" if self.place else ""
        raise PolicyError(STEP, f"{self.file}: `{self.path}`{place}: {message}", hint or PAGE_HINT)

    def event_type(self, name: str) -> int:
        """The code of an event that reaches customers."""
        if name not in self.types:
            self.fail(f'there is no event "{name}"', did_you_mean(name, tuple(self.types)))
        if name in NO_CUSTOMER:
            self.fail(f'"{name}" belongs to no customer', "use an event that a customer makes")
        if self.types[name] == ERASURE:
            self.fail(f'"{name}" leaves nothing to decide on', "who asks to be forgotten is not written to")
        return self.types[name]

    def duration_ms(self, text: str) -> int:
        found = DURATION.fullmatch(text)
        if found is None:
            self.fail(f'"{text}" is not a duration', DURATION_HINT)
        milliseconds = int(found[1]) * UNITS_MS[found[2]]
        if not 0 < milliseconds <= WINDOW_MS_MAX:
            self.fail(f'"{text}" is out of range', f"more than 0 and at most {WINDOW_MS_MAX // DAY_MS}d")
        return milliseconds


# --- what an operand can be ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Numeric:
    node: ir.Node


@dataclass(frozen=True, slots=True)
class Condition:
    node: ir.Node


@dataclass(frozen=True, slots=True)
class Text:
    value: str


@dataclass(frozen=True, slots=True)
class TextField:
    shown: str  # "event.category"
    word: int = 0  # of the record; 0: the event's type
    lookup: int = -1  # row of plan.LOOKUPS, or -1: of the event


Operand: TypeAlias = Numeric | Condition | Text | TextField
CALLED = {
    Numeric: "a number",
    Condition: "a condition",
    Text: "text",
    TextField: "a text field",
}
