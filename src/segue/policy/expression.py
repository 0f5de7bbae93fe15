"""Text of an expression → intermediate form. What is not on the list below is refused, with its place.

The grammar is a part of Python's, read with `ast` and never run: numbers, text, and or not, comparisons
(chained ones too), + - * /, x if c else y, the functions of FUNCTIONS, the fields of `event` and of tables.
LANGUAGE.md has it for authors. Law: what compiles has a type (number or condition) and cannot fail afterwards.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn, TypeAlias, cast

from segue.errors import PolicyError, did_you_mean
from segue.limits import (
    ANY_OF_MAX,
    COUNT_UP_TO_DEFAULT,
    COUNT_UP_TO_MAX,
    DAY_MS,
    EXPRESSION_CHARS_MAX,
    EXPRESSION_DEPTH_MAX,
    EXPRESSION_TREE_DEPTH_MAX,
    HOUR_MS,
    IDENTIFIER_BYTES_MAX,
    MINUTE_MS,
    SEQUENCE_STEPS_MAX,
    SEQUENCE_UP_TO_DEFAULT,
    SEQUENCE_UP_TO_MAX,
    SESSION_GAP_MS_MAX,
    SESSION_GAP_MS_MIN,
    WINDOW_MS_MAX,
)
from segue.policy import ir
from segue.policy.compiled import TABLE_NAMES
from segue.policy.model import STEP
from segue.policy.trees import at_least, balanced, combined, folded, sequence, summands, with_up_to
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
CALENDAR = {"day": plan.WINDOW_DAY, "week": plan.WINDOW_WEEK, "month": plan.WINDOW_MONTH}
_MOVING = ("within", "calendar", "session")
WINDOWS = ("within", "every", "calendar", "session")
ATOM_KEYWORDS = {
    "count": ("by", *WINDOWS, "source", "up_to"),
    "exists": ("by", *WINDOWS, "source"),
    "sum": ("of", "by", *WINDOWS, "source", "up_to"),
    "distinct": ("of", "by", *WINDOWS, "source", "up_to"),
    "recency": ("by", *_MOVING, "source"),
    "sequence": ("by", *_MOVING, "source", "without", "up_to"),
    "absent": ("by", "source"),
    "decayed": ("half_life", "of", "by", "source"),
    "trend": ("recent", "habit", "of", "by", "source"),
    "first": ("of", "by", "source"),
    "last": ("of", "by", *_MOVING, "source"),
    "age": ("by", "source"),
    "joined": (*_MOVING, "up_to"),
}
OF_SECOND = ("sum", "distinct", "first", "last")  # `of` may stand second without its name
ANY_OF = ("count", "exists", "sum", "recency", "absent")  # one event of these may be any_of(...)
FUNCTIONS = (
    *ATOM_KEYWORDS,
    *("segment", "stage", "any_of", "duration", "log1p", "sqrt", "exp", "abs", "min", "max"),
)
MIN_MAX_ARGUMENTS_MAX = 8
RESERVED_FUNCTIONS = ("repeated", "not_between", "sessions", "local_hour", "local_day", "quiet_hours")
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
NO_CUSTOMER = ("Inventory Updated", "Price Updated")  # they reach no customer's row

_ARITHMETIC: dict[type[ast.operator], ir.ArithmeticOperator] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
}
_COMPARISONS: dict[type[ast.cmpop], ir.ComparisonOperator] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_MIRRORED: dict[ir.ComparisonOperator, ir.ComparisonOperator] = {
    "==": "==",
    "!=": "!=",
    "<": ">",
    "<=": ">=",
    ">": "<",
    ">=": "<=",
}


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
class _Number:
    node: ir.Node


@dataclass(frozen=True, slots=True)
class _Condition:
    node: ir.Node


@dataclass(frozen=True, slots=True)
class _Text:
    value: str


@dataclass(frozen=True, slots=True)
class _TextField:
    shown: str  # "event.category"
    word: int = 0  # of the record; 0: the event's type
    lookup: int = -1  # row of plan.LOOKUPS, or -1: of the event


_Operand: TypeAlias = _Number | _Condition | _Text | _TextField
_CALLED = {
    _Number: "a number",
    _Condition: "a condition",
    _Text: "text",
    _TextField: "a text field",
}


def compile_condition(text: str, scope: Scope) -> ir.Node:
    """The tree of an expression that holds or does not."""
    return _Reader(text, scope).read(condition=True)


def compile_number(text: str, scope: Scope) -> ir.Node:
    """The tree of an expression with a number, always finite; a condition counts as 1 or 0."""
    return ir.finite(_Reader(text, scope).read(condition=False))


class _Reader:
    def __init__(self, text: str, scope: Scope) -> None:
        self.text = text.replace("\r\n", "\n").replace("\r", "\n")  # as Python's parser counts lines
        self.scope = scope

    def read(self, condition: bool) -> ir.Node:
        body = self._parse()
        operand = self._operand(body)
        if isinstance(operand, _Condition):
            return operand.node
        if isinstance(operand, _Number) and not condition:
            return operand.node
        if condition:
            self._fail(
                body,
                f"this is {_CALLED[type(operand)]}, where a condition is needed",
                'compare it: count("Product Viewed", within="30m") >= 3',
            )
        self._fail(body, f"this is {_CALLED[type(operand)]}, where a number is needed")

    # --- text → Python's tree, with every limit checked before anything recurses ---------------------

    def _parse(self) -> ast.expr:
        if not self.text.strip():
            self.scope.fail("the expression is empty", 'for example: exists("Product Viewed", within="30m")')
        if len(self.text) > EXPRESSION_CHARS_MAX:
            self.scope.fail(
                f"the expression has {len(self.text)} characters; at most {EXPRESSION_CHARS_MAX} are read",
                "split the journey",
            )
        wrapped = f"(\n{self.text}\n)"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                body = ast.parse(wrapped, mode="eval").body
        except SyntaxError as error:
            line, column = (error.lineno or 1) - 1, error.offset or 1
            self._fail_at(line, column, f"this is not an expression ({error.msg})", _syntax_hint(self.text))
        except (ValueError, RecursionError, MemoryError) as error:
            self._fail_at(1, 1, f"this is not an expression ({error})", _syntax_hint(self.text))
        if body.lineno == 1 and not isinstance(body, (ast.Tuple, ast.GeneratorExp)):
            # the parentheses around the text are ours: an expression that begins with them has closed them
            self._fail_at(1, 1, "a parenthesis closes before it opens", _syntax_hint(self.text))
        self._check_depth(body)
        return body

    def _check_depth(self, body: ast.expr) -> None:
        """Nesting is bounded; a chain a + b + c is one level, but bounded too."""
        todo: list[tuple[ast.AST, int, int]] = [(body, 1, 1)]
        while todo:
            node, nesting, depth = todo.pop()
            if nesting > EXPRESSION_DEPTH_MAX or depth > EXPRESSION_TREE_DEPTH_MAX:
                self._fail(
                    body,
                    f"nested deeper than {EXPRESSION_DEPTH_MAX} levels or a chain longer than"
                    f" {EXPRESSION_TREE_DEPTH_MAX}",
                    "split the journey, or move parts into the model's features",
                )
            for child in ast.iter_child_nodes(node):
                in_chain = isinstance(node, ast.BinOp) and child is node.left
                todo.append((child, nesting + (not in_chain), depth + 1))

    # --- Python's tree → ours -------------------------------------------------------------------------

    def _operand(self, node: ast.expr) -> _Operand:
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name():
                return self._name(node)
            case ast.Attribute():
                return self._field(node)
            case ast.Call():
                return self._call(node)
            case ast.UnaryOp(ast.Not(), operand):
                return _Condition(folded(ir.Not(self._condition(operand))))
            case ast.UnaryOp(ast.USub(), operand):
                return _Number(folded(ir.Arithmetic("*", ir.Number(-1.0), self._number(operand))))
            case ast.UnaryOp(ast.UAdd(), operand):
                return _Number(self._number(operand))
            case ast.BinOp(left, operator, right):
                if type(operator) not in _ARITHMETIC:
                    self._fail(
                        node, f"the operator {_symbol(operator)} is not in the language", "use + - * /"
                    )
                sign = _ARITHMETIC[type(operator)]
                return _Number(folded(ir.Arithmetic(sign, self._number(left), self._number(right))))
            case ast.BoolOp(operator, values):
                joined = ir.And if isinstance(operator, ast.And) else ir.Or
                return _Condition(balanced(joined, [self._condition(value) for value in values]))
            case ast.Compare():
                return self._comparison(node)
            case ast.IfExp():
                return self._choice(node)
            case ast.Tuple() | ast.List() | ast.Set():
                self._fail(node, "a list stands only after `in`", 'event.category in ("shoes", "socks")')
            case _:
                kind = type(node).__name__
                self._fail(
                    node,
                    f"this form ({kind}) is not in the language",
                    "numbers, text, and or not, comparisons, + - * /, x if c else y, functions, event.x",
                )

    def _number(self, node: ast.expr) -> ir.Node:
        operand = self._operand(node)
        if isinstance(operand, _Number):
            return operand.node
        hint = ""
        if isinstance(operand, _Condition):
            hint = "write (1 if ... else 0)"
        elif isinstance(operand, _Text) and DURATION.fullmatch(operand.value):
            hint = f'write duration("{operand.value}")'
        elif isinstance(operand, _Text):
            hint = "a number stands without quotes"
        self._fail(node, f"this is {_CALLED[type(operand)]}, where a number is needed", hint)

    def _condition(self, node: ast.expr) -> ir.Node:
        operand = self._operand(node)
        if isinstance(operand, _Condition):
            return operand.node
        hint = "compare it with something: ... >= 1"
        if isinstance(operand, (_TextField, _Text)):
            hint = 'compare it with ==, != or in: event.category == "shoes"'
        self._fail(node, f"this is {_CALLED[type(operand)]}, where a condition is needed", hint)

    def _constant(self, node: ast.Constant) -> _Operand:
        value = node.value
        if isinstance(value, bool):
            return _Condition(ir.Number(float(value)))
        if isinstance(value, (int, float)):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if not math.isfinite(number) or abs(number) > 1e18:
                self._fail(node, "this number is too large", "at most 1e18")
            return _Number(ir.Number(number))
        if isinstance(value, str):
            try:
                size = len(value.encode())
            except UnicodeEncodeError:
                self._fail(node, "this text is not valid Unicode")
            if size > IDENTIFIER_BYTES_MAX:
                self._fail(node, f"this text has {size} bytes; at most {IDENTIFIER_BYTES_MAX} fit an event")
            return _Text(value)
        self._fail(node, f"{value!r} is not in the language", "numbers, text in quotes, True, False")

    def _name(self, node: ast.Name) -> _Operand:
        if node.id in ("true", "false"):
            return _Condition(ir.Number(float(node.id == "true")))
        if node.id == "event":
            self._fail(node, "`event` needs a field", f"event.{', event.'.join(EVENT_FIELDS)}")
        if node.id in FUNCTIONS:
            self._fail(node, f"`{node.id}` is a function", f'call it: {node.id}("Product Viewed", ...)')
        if node.id == "step":
            self._needs_wait(node, "`step`")
            return _Number(ir.Step())
        if node.id in TABLE_NAMES:
            fields = tuple(self.scope.tables.get(node.id, ()))
            hint = f"fields: {', '.join(f'{node.id}.{name}' for name in fields)}" if fields else ""
            self._fail(
                node, f"`{node.id}` is not known without a field", hint or "event.price, price.amount, ..."
            )
        self._not_yet(node, node.id, RESERVED_NAMES + RESERVED_FUNCTIONS)
        known = ("event", "step", "True", "False", *FUNCTIONS, *TABLE_NAMES)
        self._fail(node, f"`{node.id}` is not known", did_you_mean(node.id, known))

    def _field(self, node: ast.Attribute) -> _Operand:
        base = node.value
        while isinstance(base, ast.Attribute):
            base = base.value
        if isinstance(base, ast.Name) and base.id in TABLE_NAMES and node.value is base:
            return self._table_field(node, base.id)
        if not isinstance(base, ast.Name) or base.id != "event":
            if isinstance(base, ast.Name):
                self._not_yet(node, base.id, RESERVED_NAMES, shown=f"{base.id}.{node.attr}")
            self._fail(
                node,
                f"`.{node.attr}`: only `event` and tables have fields",
                "event.category, catalogue.brand, ...",
            )
        if node.attr not in EVENT_FIELDS or node.value is not base:
            self._fail(node, f"an event has no field `{node.attr}`", did_you_mean(node.attr, EVENT_FIELDS))
        self._needs_event(node, f"`event.{node.attr}`")
        if node.attr in NUMBER_FIELDS:
            return _Number(ir.EventNumber(*self._number_field(node.attr)))
        return _TextField(f"event.{node.attr}", TEXT_FIELDS.get(node.attr, 0))

    def _table_field(self, node: ast.Attribute, table: str) -> _Operand:
        if table != "profile":
            self._needs_event(node, f"`{table}.{node.attr}`")
        fields = self.scope.tables.get(table)
        if not fields or self.scope.lookup is None:
            self._fail(
                node,
                f"there is no table `{table}`",
                f'declare it: [[tables]] name = "{table}", fields = {{ {node.attr} = "number" }}',
            )
        if node.attr not in fields:
            self._fail(node, f"`{table}` has no field `{node.attr}`", did_you_mean(node.attr, tuple(fields)))
        index, kind = self.scope.lookup(table, node.attr)
        if kind == "text":
            return _TextField(f"{table}.{node.attr}", lookup=index)
        return _Number(ir.Lookup(index))

    def _needs_event(self, node: ast.AST, shown: str) -> None:
        if self.scope.customer_only:
            self._fail(
                node,
                f"{shown} asks about an event, and segments and stages are looked at without one",
                "ask what the customer did, ever or in a window; profile.x is known here too",
            )

    def _needs_wait(self, node: ast.AST, shown: str) -> None:
        if not self.scope.waiting:
            self._fail(
                node,
                f"{shown} is known only after a wait",
                'it stands in `still`, offers and features of a journey with wait = "30m"',
            )

    def _number_field(self, name: str) -> tuple[int, int, float]:
        """(field, currency, divisor) of a numeric field; quantity has neither currency nor minor units."""
        if name == "quantity":
            return plan.FIELD_QUANTITY, 0, 1.0
        return NUMBER_FIELDS[name], self.scope.currency, float(self.scope.minor_per_major)

    def _choice(self, node: ast.IfExp) -> _Operand:
        condition = self._condition(node.test)
        then, otherwise = self._operand(node.body), self._operand(node.orelse)
        for operand, place in ((then, node.body), (otherwise, node.orelse)):
            if not isinstance(operand, (_Number, _Condition)):
                self._fail(place, f"this is {_CALLED[type(operand)]}, where a number or condition is needed")
        if type(then) is not type(otherwise):
            self._fail(
                node,
                f"one branch is {_CALLED[type(then)]}, the other {_CALLED[type(otherwise)]}",
                "both branches of x if c else y must be of one type",
            )
        chosen = cast("_Number | _Condition", then)
        other = cast("_Number | _Condition", otherwise)
        return type(chosen)(folded(ir.Choose(condition, chosen.node, other.node)))

    # --- comparisons ----------------------------------------------------------------------------------

    def _comparison(self, node: ast.Compare) -> _Condition:
        terms = [node.left, *node.comparators]
        links = [self._link(terms[i], operator, terms[i + 1], node) for i, operator in enumerate(node.ops)]
        return _Condition(balanced(ir.And, links))

    def _link(self, left: ast.expr, operator: ast.cmpop, right: ast.expr, whole: ast.Compare) -> ir.Node:
        if isinstance(operator, (ast.In, ast.NotIn)):
            found = self._membership(left, right)
            return folded(ir.Not(found)) if isinstance(operator, ast.NotIn) else found
        if type(operator) not in _COMPARISONS:
            self._fail(whole, f"the operator {_symbol(operator)} is not in the language", "use == or !=")
        sign = _COMPARISONS[type(operator)]
        a, b = self._operand(left), self._operand(right)
        if isinstance(a, _Text) and isinstance(b, _TextField):
            a, b, left, right = b, a, right, left
        if isinstance(a, _TextField):
            if sign not in ("==", "!="):
                self._fail(
                    left,
                    f"{a.shown} is text: `{sign}` does not compare it",
                    "text is compared with ==, != or in",
                )
            if not isinstance(b, _Text):
                self._fail(
                    right,
                    f"{a.shown} is compared with {_CALLED[type(b)]}",
                    f'text stands in quotes: {a.shown} == "shoes"',
                )
            found = self._text_is(a, [(b.value, right)])
            return ir.Not(found) if sign == "!=" else found
        for operand, place in ((a, left), (b, right)):
            if isinstance(operand, _Condition):
                self._fail(place, "a condition is not compared", "use and, or, not")
        x, y = self._number_again(a, left), self._number_again(b, right)
        if isinstance(x, ir.Number) and not isinstance(y, ir.Number):
            return self._against_constant(_MIRRORED[sign], y, x.value, right)
        if isinstance(y, ir.Number):
            return self._against_constant(sign, x, y.value, left)
        return folded(ir.Compare(sign, x, y))

    def _number_again(self, operand: _Operand, node: ast.expr) -> ir.Node:
        return operand.node if isinstance(operand, _Number) else self._number(node)

    def _against_constant(
        self, sign: ir.ComparisonOperator, node: ir.Node, constant: float, place: ast.expr
    ) -> ir.Node:
        """A count compared with a constant needs just that many entries, and a single load."""
        comparison = ir.Compare(sign, node, ir.Number(constant))
        counts = summands(node)
        if counts is None:
            return folded(comparison)
        explicit = _up_to_written(place)
        decided_by = math.floor(constant) + 1 if sign in (">", "<=", "==", "!=") else math.ceil(constant)
        if explicit:
            if len(counts) == 1 and decided_by > counts[0].up_to:
                self._fail(
                    place,
                    f"a count of at most {counts[0].up_to} is compared with {constant:g}",
                    "leave up_to out: a comparison needs no bound",
                )
            if len(counts) > 1:
                return folded(comparison)
        if decided_by > COUNT_UP_TO_MAX:
            self._fail(
                place,
                f"a count is compared with {constant:g}; at most {COUNT_UP_TO_MAX} are counted",
                "use a tumbling window, or compare with less",
            )
        if len(counts) > 1:
            return ir.Compare(sign, with_up_to(node, max(1, decided_by)), ir.Number(constant))
        atom = counts[0]
        if sign in (">=", ">"):
            return at_least(atom, decided_by)
        if sign in ("<", "<="):
            return folded(ir.Not(at_least(atom, decided_by)))
        equal: ir.Node = ir.Number(0.0)
        if constant == math.floor(constant) and constant >= 0:
            equal = folded(ir.And(at_least(atom, decided_by - 1), ir.Not(at_least(atom, decided_by))))
        return folded(ir.Not(equal)) if sign == "!=" else equal

    def _membership(self, left: ast.expr, right: ast.expr) -> ir.Node:
        operand = self._operand(left)
        if not isinstance(operand, _TextField):
            self._fail(
                left,
                f"`in` looks for {_CALLED[type(operand)]}",
                'only text fields: event.category in ("shoes", "socks")',
            )
        if not isinstance(right, (ast.Tuple, ast.List, ast.Set)):
            self._fail(right, "`in` needs a list of text", f'{operand.shown} in ("shoes", "socks")')
        values: list[tuple[str, ast.expr]] = []
        for element in right.elts:
            text = self._operand(element)
            if not isinstance(text, _Text):
                self._fail(
                    element,
                    f"this is {_CALLED[type(text)]}, where text is needed",
                    'text stands in quotes: "x"',
                )
            values.append((text.value, element))
        if not values:
            self._fail(right, "the list is empty", f'{operand.shown} in ("shoes", "socks")')
        return self._text_is(operand, values)

    def _text_is(self, operand: _TextField, values: Sequence[tuple[str, ast.expr]]) -> ir.Node:
        if operand.shown == "event.type":
            return ir.EventTypeIs(tuple(sorted({self._event_name(text, place) for text, place in values})))
        bits = tuple(sorted({self.scope.hash_text(text) if text else 0 for text, _ in values}))
        if operand.lookup >= 0:
            return ir.LookupIs(operand.lookup, bits)
        return ir.EventIs(operand.word, bits)

    # --- functions ------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> _Operand:
        if not isinstance(node.func, ast.Name):
            self._fail(node, "only a function's name can be called", f"functions: {', '.join(FUNCTIONS)}")
        name = node.func.id
        if name not in FUNCTIONS:
            self._not_yet(node, name, RESERVED_FUNCTIONS + RESERVED_NAMES, shown=f"{name}()")
            hint = f"it is a table: {name}.x" if name in TABLE_NAMES else INSTEAD.get(name)
            self._fail(node, f"there is no function `{name}`", hint or did_you_mean(name, FUNCTIONS))
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                self._fail(argument, "`*` is not in the language", "write the arguments out")
        if name in ATOM_KEYWORDS:
            return self._atom(name, node)
        if name == "any_of":
            self._fail(node, "any_of() stands where an event does", 'exists(any_of("Cart Viewed", "page"))')
        if node.keywords:
            self._fail(node, f"{name}() takes no named arguments")
        if name in ("segment", "stage"):
            return self._membership_of(name, node)
        if name == "duration":
            if len(node.args) != 1 or not isinstance(text := self._operand(node.args[0]), _Text):
                self._fail(node, "duration() takes one text", DURATION_HINT)
            return _Number(ir.Number(float(self._duration(text.value, node.args[0]))))
        if name in ("min", "max"):
            if not 2 <= len(node.args) <= MIN_MAX_ARGUMENTS_MAX:
                self._fail(node, f"{name}() takes 2 to {MIN_MAX_ARGUMENTS_MAX} numbers")
            result = self._number(node.args[0])
            for argument in node.args[1:]:
                sign: ir.ArithmeticOperator = "min" if name == "min" else "max"
                result = folded(ir.Arithmetic(sign, result, self._number(argument)))
            return _Number(result)
        if len(node.args) != 1:
            self._fail(node, f"{name}() takes one number")
        return _Number(folded(ir.Apply(cast(ir.FunctionName, name), self._number(node.args[0]))))

    def _membership_of(self, name: str, node: ast.Call) -> _Operand:
        """segment("x"), stage("x")."""
        known = self.scope.segments if name == "segment" else self.scope.stages
        if len(node.args) != 1:
            self._fail(node, f"{name}() takes one {name}", f'{name}("loyal")')
        wanted = self._text(node.args[0], f"a {name}", "loyal")
        if self.scope.customer_only and not known:
            hint = "segments refer to neither segments nor stages, stages to segments only"
            self._fail(node, f'{name}("{wanted}") is not known here', hint)
        if wanted not in known:
            hint = did_you_mean(wanted, tuple(known)) if known else f'declare it: [[{name}s]] id = "{wanted}"'
            self._fail(node.args[0], f'there is no {name} "{wanted}"', hint)
        of_kind = ir.InSegment if name == "segment" else ir.InStage
        return _Condition(of_kind(known[wanted]))

    def _atom(self, name: str, node: ast.Call) -> _Operand:
        given = self._arguments(name, node)
        if name == "joined":
            return self._joined(node, given)
        if name == "absent":
            self._needs_wait(node, "absent()")
        by = plan.BY_NONE
        if "by" in given:
            self._needs_event(given["by"], "`by`")
            by = BY[self._word(given["by"], "by", tuple(BY))]
        within_ms, every_ms = self._windows(node, given)
        source = self._source(given["source"]) if "source" in given else 0
        most = SEQUENCE_UP_TO_MAX if name == "sequence" else COUNT_UP_TO_MAX
        up_to = SEQUENCE_UP_TO_DEFAULT if name == "sequence" else COUNT_UP_TO_DEFAULT
        if "up_to" in given:
            up_to = self._up_to(given["up_to"], most)
        if name == "sequence":
            return self._sequence(node, given, by, within_ms, source, up_to)
        types = self._events(given["event"], name in ANY_OF)
        kind = plan.TUMBLE_COUNT if every_ms else plan.COUNT
        counted = [ir.Stream(by, code, kind, 0, 0, every_ms, source) for code in types]
        match name:
            case "count":
                return _Number(combined("+", [ir.Count(stream, within_ms, up_to) for stream in counted]))
            case "exists":
                return _Condition(balanced(ir.Or, [ir.AtLeast(stream, within_ms, 1) for stream in counted]))
            case "recency":
                return _Number(combined("min", [ir.Recency(stream, within_ms) for stream in counted]))
            case "absent":
                return _Condition(balanced(ir.And, [ir.Not(ir.Since(stream)) for stream in counted]))
            case "age":
                return _Number(ir.Age(ir.Stream(by, types[0], plan.FIRST, source=source)))
            case "distinct":
                of = self._of(name, given, node, tuple(DISTINCT_FIELDS))
                if by == BY.get(of):
                    self._fail(node, f"distinct of {of} by {of} is 1 at most", "use exists()")
                kind = plan.TUMBLE_DISTINCT if every_ms else plan.DISTINCT
                stream = ir.Stream(by, types[0], kind, DISTINCT_FIELDS[of], 0, every_ms, source)
                return _Number(ir.Count(stream, within_ms, up_to))
            case "decayed" | "trend":
                return self._decayed(name, node, given, ir.Stream(by, types[0], plan.DECAY, source=source))
        of = self._of(name, given, node, tuple(NUMBER_FIELDS))
        word, currency, divisor = self._number_field(of)
        if name == "first":
            stream = ir.Stream(by, types[0], plan.FIRST, word, currency, 0, source)
            return _Number(ir.FirstValue(stream, divisor))
        if every_ms and "up_to" in given:
            self._fail(given["up_to"], "a sum with `every` has no bound", "leave up_to out")
        kind = plan.TUMBLE_SUM if every_ms else plan.SUM
        summed = [ir.Stream(by, code, kind, word, currency, every_ms, source) for code in types]
        newest = 1 if name == "last" else up_to
        return _Number(combined("+", [ir.Sum(stream, within_ms, newest, divisor) for stream in summed]))

    def _arguments(self, name: str, node: ast.Call) -> dict[str, ast.expr]:
        """Arguments by keyword; the event (of joined(), the join) is "event"; sequence() has its own."""
        given: dict[str, ast.expr] = {}
        if name != "sequence":
            positional = ("event", "of") if name in OF_SECOND else ("event",)
            given = dict(zip(positional, node.args, strict=False))
            if len(node.args) > len(positional):
                self._fail(
                    node.args[len(positional)], f"{name}() takes no further argument here", _usage(name)
                )
        for pair in node.keywords:
            if pair.arg is None or pair.arg not in ATOM_KEYWORDS[name]:
                self._bad_keyword(name, pair)
            if pair.arg in given:
                self._fail(pair.value, f"`{pair.arg}` is given twice")
            given[pair.arg] = pair.value
        if name != "sequence" and "event" not in given:
            what = "a join" if name == "joined" else "an event"
            self._fail(node, f"{name}() needs {what}", _usage(name))
        return given

    def _windows(self, node: ast.Call, given: dict[str, ast.expr]) -> tuple[int, int]:
        """(window of an atom, width of a tumbling window)."""
        windows = [keyword for keyword in WINDOWS if keyword in given]
        if len(windows) > 1:
            self._fail(
                node,
                f"both `{windows[0]}` and `{windows[1]}` are given",
                "a window slides, is aligned, or begins with the day or session: one of them",
            )
        if "every" in given:
            return 0, self._window(given["every"], "every")
        if "calendar" in given:
            return CALENDAR[self._word(given["calendar"], "calendar", tuple(CALENDAR))], 0
        if "session" in given:
            gap_ms = self._window(given["session"], "session")
            if not SESSION_GAP_MS_MIN <= gap_ms <= SESSION_GAP_MS_MAX:
                least, most = SESSION_GAP_MS_MIN // MINUTE_MS, SESSION_GAP_MS_MAX // DAY_MS
                self._fail(
                    given["session"], "this gap between sessions is out of range", f"{least}m to {most}d"
                )
            return -gap_ms, 0
        return self._window(given["within"], "within") if "within" in given else 0, 0

    def _source(self, node: ast.expr) -> int:
        text = self._text(node, "a source", "web")
        if not text:
            self._fail(node, "`source` is empty", 'source="web"; without it events of any source count')
        return self.scope.hash_text(text)

    def _events(self, node: ast.expr, several: bool, hint: str = "") -> tuple[int, ...]:
        """Type codes of an event, or of any_of(...)."""
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "any_of"):
            return (self._event_name(self._text(node, "an event's name"), node),)
        if not several:
            self._fail(node, "any_of() does not stand here", hint or "name one event")
        if node.keywords or not 2 <= len(node.args) <= ANY_OF_MAX:
            self._fail(
                node, f"any_of() takes the names of 2 to {ANY_OF_MAX} events", 'any_of("Cart Viewed", "page")'
            )
        codes: list[int] = []
        for argument in node.args:
            text = self._text(argument, "an event's name")
            code = self._event_name(text, argument)
            if code in codes:
                self._fail(argument, f'"{text}" stands here twice', "name each event once")
            codes.append(code)
        return tuple(codes)

    def _sequence(
        self, node: ast.Call, given: dict[str, ast.expr], by: int, within_ms: int, source: int, up_to: int
    ) -> _Operand:
        if not 2 <= len(node.args) <= SEQUENCE_STEPS_MAX:
            self._fail(node, f"sequence() takes 2 to {SEQUENCE_STEPS_MAX} events", _usage("sequence"))
        steps = [self._events(argument, True) for argument in node.args]
        without = self._events(given["without"], True) if "without" in given else ()
        if set(without) & {code for step in steps for code in step}:
            self._fail(
                given["without"],
                "an event of the sequence stands in `without` too",
                "it would never hold: name what must not come between",
            )

        def streams(codes: Sequence[int]) -> list[ir.Stream]:
            return [ir.Stream(by, code, plan.COUNT, source=source) for code in codes]

        return _Condition(sequence([streams(step) for step in steps], streams(without), within_ms, up_to))

    def _decayed(self, name: str, node: ast.Call, given: dict[str, ast.expr], counted: ir.Stream) -> _Operand:
        """decayed(): a decayed number of events or sum; trend(): the rate of late over the rate of habit."""
        divisor = 1.0
        stream = counted
        if "of" in given:
            of = self._of(name, given, node, tuple(NUMBER_FIELDS))
            word, currency, divisor = self._number_field(of)
            stream = replace(counted, field=word, currency=currency)
        lengths = []
        for keyword in ("half_life",) if name == "decayed" else ("recent", "habit"):
            if keyword not in given:
                self._fail(node, f"{name}() needs `{keyword}`", _usage(name))
            lengths.append(self._window(given[keyword], keyword))
        weights: list[ir.Node] = [ir.Decayed(replace(stream, every_ms=length), divisor) for length in lengths]
        if name == "decayed":
            return _Number(weights[0])
        if lengths[0] >= lengths[1]:
            self._fail(given["recent"], "`recent` is not shorter than `habit`", _usage(name))
        rates = [
            ir.Arithmetic("/", weight, ir.Number(float(length)))
            for weight, length in zip(weights, lengths, strict=True)
        ]
        return _Number(ir.Arithmetic("/", rates[0], rates[1]))

    def _joined(self, node: ast.Call, given: dict[str, ast.expr]) -> _Operand:
        wanted = self._text(given["event"], "a join", "offer-redeemed")
        known = self.scope.joins
        if wanted not in known:
            hint = did_you_mean(wanted, tuple(known)) if known else f'declare it: [[joins]] id = "{wanted}"'
            self._fail(given["event"], f'there is no join "{wanted}"', hint)
        within_ms, _ = self._windows(node, given)
        up_to = self._up_to(given["up_to"], COUNT_UP_TO_MAX) if "up_to" in given else COUNT_UP_TO_DEFAULT
        stream = ir.Stream(plan.BY_NONE, plan.JOIN_TYPE + known[wanted], plan.COUNT)
        return _Number(ir.Count(stream, within_ms, up_to))

    def _bad_keyword(self, name: str, pair: ast.keyword) -> NoReturn:
        if pair.arg is None:
            self._fail(pair.value, "`**` is not in the language", "write the arguments out")
        if pair.arg in RESERVED_KEYWORDS:
            hint = INSTEAD.get(pair.arg, _usage(name))
            self._fail(pair.value, f"`{pair.arg}=` is reserved: not yet in this version", hint)
        self._fail(pair.value, f"{name}() takes no `{pair.arg}`", did_you_mean(pair.arg, ATOM_KEYWORDS[name]))

    def _text(self, node: ast.expr, what: str, example: str = "Product Viewed") -> str:
        operand = self._operand(node) if not isinstance(node, ast.Name) else None
        if not isinstance(operand, _Text):
            called = f"`{node.id}`" if isinstance(node, ast.Name) else "this"
            self._fail(node, f"{called} stands where {what} in quotes is needed", f'for example "{example}"')
        return operand.value

    def _word(self, node: ast.expr, keyword: str, known: tuple[str, ...]) -> str:
        listed = " or ".join(f'"{word}"' for word in known)
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            self._fail(node, f"`{keyword}` takes a word in quotes", f"{keyword}= {listed}")
        if node.value not in known:
            self._fail(node, f'`{keyword}` knows no "{node.value}"', did_you_mean(node.value, known))
        return node.value

    def _of(self, name: str, given: dict[str, ast.expr], node: ast.Call, known: tuple[str, ...]) -> str:
        if "of" not in given:
            self._fail(node, f"{name}() needs `of`", f"{_usage(name)}; of: {', '.join(known)}")
        return self._word(given["of"], "of", known)

    def _window(self, node: ast.expr, keyword: str) -> int:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            self._fail(node, f"`{keyword}` takes a duration in quotes", DURATION_HINT)
        return self._duration(node.value, node)

    def _up_to(self, node: ast.expr, most: int) -> int:
        value = node.value if isinstance(node, ast.Constant) else None
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            self._fail(node, "`up_to` takes a whole number", f"1 to {most}")
        return value

    def _duration(self, text: str, node: ast.expr) -> int:
        return self._placed(node).duration_ms(text)

    def _event_name(self, text: str, node: ast.expr) -> int:
        return self._placed(node).event_type(text)

    # --- what to say when it is wrong -----------------------------------------------------------------

    def _not_yet(self, node: ast.expr, name: str, reserved: tuple[str, ...], shown: str = "") -> None:
        if name in reserved:
            instead = f"; {INSTEAD[name]}" if name in INSTEAD else ""
            self._fail(
                node,
                f"`{shown or name}` is reserved",
                f"not yet in this version (see LANGUAGE.md, “How it grows”){instead}",
            )

    def _fail(self, node: ast.AST, message: str, hint: str = "") -> NoReturn:
        self._placed(node).fail(message, hint)

    def _placed(self, node: ast.AST) -> Scope:
        """The scope at the node's line and column."""
        line = getattr(node, "lineno", 2) - 1
        before = self.text.split("\n")[line - 1].encode()[: getattr(node, "col_offset", 0)]
        return self._placed_at(line, len(before.decode(errors="replace")) + 1)

    def _placed_at(self, line: int, column: int) -> Scope:
        lines = self.text.split("\n")
        if line > len(lines):  # the parser met the end of the text
            line, column = len(lines), len(lines[-1]) + 1
        where = f"line {max(line, 1)}, column {column}" if len(lines) > 1 else f"column {column}"
        return replace(self.scope, place=where)

    def _fail_at(self, line: int, column: int, message: str, hint: str = "") -> NoReturn:
        self._placed_at(line, column).fail(message, hint)


def _up_to_written(node: ast.expr) -> bool:
    return any(isinstance(part, ast.keyword) and part.arg == "up_to" for part in ast.walk(node))


_USAGE = {
    "sum": 'sum("Order Completed", of="amount", within="30d")',
    "distinct": 'distinct("Product Viewed", of="product", within="30m")',
    "sequence": 'sequence("Product Viewed", "Product Added", within="1h", without="Order Completed")',
    "absent": 'absent("Order Completed", by="product")',
    "decayed": 'decayed("Product Viewed", half_life="7d")',
    "trend": 'trend("Order Completed", recent="14d", habit="90d")',
    "first": 'first("Order Completed", of="amount")',
    "last": 'last("Order Completed", of="amount", within="90d")',
    "age": 'age("Order Completed")',
    "joined": 'joined("offer-redeemed", within="90d")',
}


def _usage(name: str) -> str:
    return _USAGE.get(name, f'{name}("Product Viewed", within="30m")')


def _syntax_hint(text: str) -> str:
    if "&&" in text or "||" in text or re.search(r"![^=]", text):
        return "write and, or, not"
    if re.search(r"[^=<>!]=[^=]", text) and "==" not in text and "(" not in text:
        return "compare with =="
    return "parentheses and quotes must close; text stands in quotes"


def _symbol(operator: ast.AST) -> str:
    symbols = {
        "Pow": "**", "Mod": "%", "FloorDiv": "//", "BitAnd": "&", "BitOr": "|", "BitXor": "^",
        "LShift": "<<", "RShift": ">>", "MatMult": "@", "Is": "is", "IsNot": "is not",
    }  # fmt: skip
    return f"`{symbols.get(type(operator).__name__, type(operator).__name__)}`"
