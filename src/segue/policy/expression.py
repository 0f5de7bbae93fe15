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
from collections.abc import Sequence
from typing import cast

from segue.errors import did_you_mean
from segue.limits import (
    COUNT_UP_TO_MAX,
    EXPRESSION_CHARS_MAX,
    EXPRESSION_DEPTH_MAX,
    EXPRESSION_TREE_DEPTH_MAX,
)
from segue.policy import ir
from segue.policy.atoms import Atoms
from segue.policy.compiled import TABLE_NAMES
from segue.policy.scope import (
    ATOM_KEYWORDS,
    CALLED,
    DURATION,
    DURATION_HINT,
    EVENT_FIELDS,
    FUNCTIONS,
    INSTEAD,
    MIN_MAX_ARGUMENTS_MAX,
    NUMBER_FIELDS,
    RESERVED_FUNCTIONS,
    RESERVED_NAMES,
    TEXT_FIELDS,
    Condition,
    Numeric,
    Operand,
    Scope,
    Text,
    TextField,
)
from segue.policy.trees import at_least, balanced, folded, summands, with_up_to

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


def compile_condition(text: str, scope: Scope) -> ir.Node:
    """The tree of an expression that holds or does not."""
    return _Reader(text, scope).read(condition=True)


def compile_number(text: str, scope: Scope) -> ir.Node:
    """The tree of an expression with a number, always finite; a condition counts as 1 or 0."""
    return ir.finite(_Reader(text, scope).read(condition=False))


class _Reader(Atoms):
    """The grammar: Python's tree to ours."""

    def read(self, condition: bool) -> ir.Node:
        body = self._parse()
        operand = self._operand(body)
        if isinstance(operand, Condition):
            return operand.node
        if isinstance(operand, Numeric) and not condition:
            return operand.node
        if condition:
            self._fail(
                body,
                f"this is {CALLED[type(operand)]}, where a condition is needed",
                'compare it: count("Product Viewed", within="30m") >= 3',
            )
        self._fail(body, f"this is {CALLED[type(operand)]}, where a number is needed")

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

    def _operand(self, node: ast.expr) -> Operand:
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
                return Condition(folded(ir.Not(self._condition(operand))))
            case ast.UnaryOp(ast.USub(), operand):
                return Numeric(folded(ir.Arithmetic("*", ir.Number(-1.0), self._number(operand))))
            case ast.UnaryOp(ast.UAdd(), operand):
                return Numeric(self._number(operand))
            case ast.BinOp(left, operator, right):
                if type(operator) not in _ARITHMETIC:
                    self._fail(
                        node, f"the operator {_symbol(operator)} is not in the language", "use + - * /"
                    )
                sign = _ARITHMETIC[type(operator)]
                return Numeric(folded(ir.Arithmetic(sign, self._number(left), self._number(right))))
            case ast.BoolOp(operator, values):
                joined = ir.And if isinstance(operator, ast.And) else ir.Or
                return Condition(balanced(joined, [self._condition(value) for value in values]))
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
        if isinstance(operand, Numeric):
            return operand.node
        hint = ""
        if isinstance(operand, Condition):
            hint = "write (1 if ... else 0)"
        elif isinstance(operand, Text) and DURATION.fullmatch(operand.value):
            hint = f'write duration("{operand.value}")'
        elif isinstance(operand, Text):
            hint = "a number stands without quotes"
        self._fail(node, f"this is {CALLED[type(operand)]}, where a number is needed", hint)

    def _condition(self, node: ast.expr) -> ir.Node:
        operand = self._operand(node)
        if isinstance(operand, Condition):
            return operand.node
        hint = "compare it with something: ... >= 1"
        if isinstance(operand, (TextField, Text)):
            hint = 'compare it with ==, != or in: event.category == "shoes"'
        self._fail(node, f"this is {CALLED[type(operand)]}, where a condition is needed", hint)

    def _name(self, node: ast.Name) -> Operand:
        if node.id in ("true", "false"):
            return Condition(ir.Number(float(node.id == "true")))
        if node.id == "event":
            self._fail(node, "`event` needs a field", f"event.{', event.'.join(EVENT_FIELDS)}")
        if node.id in FUNCTIONS:
            self._fail(node, f"`{node.id}` is a function", f'call it: {node.id}("Product Viewed", ...)')
        if node.id == "step":
            self._needs_wait(node, "`step`")
            return Numeric(ir.Step())
        if node.id in TABLE_NAMES:
            fields = tuple(self.scope.tables.get(node.id, ()))
            hint = f"fields: {', '.join(f'{node.id}.{name}' for name in fields)}" if fields else ""
            self._fail(
                node, f"`{node.id}` is not known without a field", hint or "event.price, price.amount, ..."
            )
        self._not_yet(node, node.id, RESERVED_NAMES + RESERVED_FUNCTIONS)
        known = ("event", "step", "True", "False", *FUNCTIONS, *TABLE_NAMES)
        self._fail(node, f"`{node.id}` is not known", did_you_mean(node.id, known))

    def _field(self, node: ast.Attribute) -> Operand:
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
            return Numeric(ir.EventNumber(*self._number_field(node.attr)))
        return TextField(f"event.{node.attr}", TEXT_FIELDS.get(node.attr, 0))

    def _table_field(self, node: ast.Attribute, table: str) -> Operand:
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
            return TextField(f"{table}.{node.attr}", lookup=index)
        return Numeric(ir.Lookup(index))

    def _choice(self, node: ast.IfExp) -> Operand:
        condition = self._condition(node.test)
        then, otherwise = self._operand(node.body), self._operand(node.orelse)
        for operand, place in ((then, node.body), (otherwise, node.orelse)):
            if not isinstance(operand, (Numeric, Condition)):
                self._fail(place, f"this is {CALLED[type(operand)]}, where a number or condition is needed")
        if type(then) is not type(otherwise):
            self._fail(
                node,
                f"one branch is {CALLED[type(then)]}, the other {CALLED[type(otherwise)]}",
                "both branches of x if c else y must be of one type",
            )
        chosen = cast("Numeric | Condition", then)
        other = cast("Numeric | Condition", otherwise)
        return type(chosen)(folded(ir.Choose(condition, chosen.node, other.node)))

    # --- comparisons ----------------------------------------------------------------------------------

    def _comparison(self, node: ast.Compare) -> Condition:
        terms = [node.left, *node.comparators]
        links = [self._link(terms[i], operator, terms[i + 1], node) for i, operator in enumerate(node.ops)]
        return Condition(balanced(ir.And, links))

    def _link(self, left: ast.expr, operator: ast.cmpop, right: ast.expr, whole: ast.Compare) -> ir.Node:
        if isinstance(operator, (ast.In, ast.NotIn)):
            found = self._membership(left, right)
            return folded(ir.Not(found)) if isinstance(operator, ast.NotIn) else found
        if type(operator) not in _COMPARISONS:
            self._fail(whole, f"the operator {_symbol(operator)} is not in the language", "use == or !=")
        sign = _COMPARISONS[type(operator)]
        a, b = self._operand(left), self._operand(right)
        if isinstance(a, Text) and isinstance(b, TextField):
            a, b, left, right = b, a, right, left
        if isinstance(a, TextField):
            if sign not in ("==", "!="):
                self._fail(
                    left,
                    f"{a.shown} is text: `{sign}` does not compare it",
                    "text is compared with ==, != or in",
                )
            if not isinstance(b, Text):
                self._fail(
                    right,
                    f"{a.shown} is compared with {CALLED[type(b)]}",
                    f'text stands in quotes: {a.shown} == "shoes"',
                )
            found = self._text_is(a, [(b.value, right)])
            return ir.Not(found) if sign == "!=" else found
        for operand, place in ((a, left), (b, right)):
            if isinstance(operand, Condition):
                self._fail(place, "a condition is not compared", "use and, or, not")
        x, y = self._number_again(a, left), self._number_again(b, right)
        if isinstance(x, ir.Number) and not isinstance(y, ir.Number):
            return self._against_constant(_MIRRORED[sign], y, x.value, right)
        if isinstance(y, ir.Number):
            return self._against_constant(sign, x, y.value, left)
        return folded(ir.Compare(sign, x, y))

    def _number_again(self, operand: Operand, node: ast.expr) -> ir.Node:
        return operand.node if isinstance(operand, Numeric) else self._number(node)

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
        if not isinstance(operand, TextField):
            self._fail(
                left,
                f"`in` looks for {CALLED[type(operand)]}",
                'only text fields: event.category in ("shoes", "socks")',
            )
        if not isinstance(right, (ast.Tuple, ast.List, ast.Set)):
            self._fail(right, "`in` needs a list of text", f'{operand.shown} in ("shoes", "socks")')
        values: list[tuple[str, ast.expr]] = []
        for element in right.elts:
            text = self._operand(element)
            if not isinstance(text, Text):
                self._fail(
                    element,
                    f"this is {CALLED[type(text)]}, where text is needed",
                    'text stands in quotes: "x"',
                )
            values.append((text.value, element))
        if not values:
            self._fail(right, "the list is empty", f'{operand.shown} in ("shoes", "socks")')
        return self._text_is(operand, values)

    def _text_is(self, operand: TextField, values: Sequence[tuple[str, ast.expr]]) -> ir.Node:
        if operand.shown == "event.type":
            return ir.EventTypeIs(tuple(sorted({self._event_name(text, place) for text, place in values})))
        bits = tuple(sorted({self.scope.hash_text(text) if text else 0 for text, _ in values}))
        if operand.lookup >= 0:
            return ir.LookupIs(operand.lookup, bits)
        return ir.EventIs(operand.word, bits)

    # --- functions ------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> Operand:
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
            if len(node.args) != 1 or not isinstance(text := self._operand(node.args[0]), Text):
                self._fail(node, "duration() takes one text", DURATION_HINT)
            return Numeric(ir.Number(float(self._duration(text.value, node.args[0]))))
        if name in ("min", "max"):
            if not 2 <= len(node.args) <= MIN_MAX_ARGUMENTS_MAX:
                self._fail(node, f"{name}() takes 2 to {MIN_MAX_ARGUMENTS_MAX} numbers")
            result = self._number(node.args[0])
            for argument in node.args[1:]:
                sign: ir.ArithmeticOperator = "min" if name == "min" else "max"
                result = folded(ir.Arithmetic(sign, result, self._number(argument)))
            return Numeric(result)
        if len(node.args) != 1:
            self._fail(node, f"{name}() takes one number")
        return Numeric(folded(ir.Apply(cast(ir.FunctionName, name), self._number(node.args[0]))))

    def _membership_of(self, name: str, node: ast.Call) -> Operand:
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
        return Condition(of_kind(known[wanted]))


def _up_to_written(node: ast.expr) -> bool:
    return any(isinstance(part, ast.keyword) and part.arg == "up_to" for part in ast.walk(node))


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
