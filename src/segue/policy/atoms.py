"""What looks back: the functions over a customer's events, and the words that stand in them.

Law: every argument is a word, a number or an event that is written out; what compiles asks for bounded streams.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

from segue.errors import did_you_mean
from segue.limits import (
    ANY_OF_MAX,
    COUNT_UP_TO_DEFAULT,
    COUNT_UP_TO_MAX,
    DAY_MS,
    IDENTIFIER_BYTES_MAX,
    MINUTE_MS,
    SEQUENCE_STEPS_MAX,
    SEQUENCE_UP_TO_DEFAULT,
    SEQUENCE_UP_TO_MAX,
    SESSION_GAP_MS_MAX,
    SESSION_GAP_MS_MIN,
)
from segue.policy import ir
from segue.policy.scope import (
    ANY_OF,
    ATOM_KEYWORDS,
    BY,
    CALENDAR,
    DISTINCT_FIELDS,
    DURATION_HINT,
    INSTEAD,
    NUMBER_FIELDS,
    OF_SECOND,
    RESERVED_KEYWORDS,
    WINDOWS,
    Condition,
    Numeric,
    Operand,
    Scope,
    Text,
)
from segue.policy.trees import balanced, combined, sequence
from segue_kernels import plan


class Words:
    """Reads the words of an expression, and says where it is wrong."""

    def __init__(self, text: str, scope: Scope) -> None:
        self.text = text.replace("\r\n", "\n").replace("\r", "\n")  # as Python's parser counts lines
        self.scope = scope

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

    def _constant(self, node: ast.Constant) -> Operand:
        value = node.value
        if isinstance(value, bool):
            return Condition(ir.Number(float(value)))
        if isinstance(value, (int, float)):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if not math.isfinite(number) or abs(number) > 1e18:
                self._fail(node, "this number is too large", "at most 1e18")
            return Numeric(ir.Number(number))
        if isinstance(value, str):
            try:
                size = len(value.encode())
            except UnicodeEncodeError:
                self._fail(node, "this text is not valid Unicode")
            if size > IDENTIFIER_BYTES_MAX:
                self._fail(node, f"this text has {size} bytes; at most {IDENTIFIER_BYTES_MAX} fit an event")
            return Text(value)
        self._fail(node, f"{value!r} is not in the language", "numbers, text in quotes, True, False")

    def _text(self, node: ast.expr, what: str, example: str = "Product Viewed") -> str:
        operand = self._constant(node) if isinstance(node, ast.Constant) else None
        if not isinstance(operand, Text):
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
            self._fail(node, f"{name}() needs `of`", f"{usage(name)}; of: {', '.join(known)}")
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


class Atoms(Words):
    """Calls of functions that look back, as trees."""

    def _atom(self, name: str, node: ast.Call) -> Operand:
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
                return Numeric(combined("+", [ir.Count(stream, within_ms, up_to) for stream in counted]))
            case "exists":
                return Condition(balanced(ir.Or, [ir.AtLeast(stream, within_ms, 1) for stream in counted]))
            case "recency":
                return Numeric(combined("min", [ir.Recency(stream, within_ms) for stream in counted]))
            case "absent":
                return Condition(balanced(ir.And, [ir.Not(ir.Since(stream)) for stream in counted]))
            case "age":
                return Numeric(ir.Age(ir.Stream(by, types[0], plan.FIRST, source=source)))
            case "distinct":
                of = self._of(name, given, node, tuple(DISTINCT_FIELDS))
                if by == BY.get(of):
                    self._fail(node, f"distinct of {of} by {of} is 1 at most", "use exists()")
                kind = plan.TUMBLE_DISTINCT if every_ms else plan.DISTINCT
                stream = ir.Stream(by, types[0], kind, DISTINCT_FIELDS[of], 0, every_ms, source)
                return Numeric(ir.Count(stream, within_ms, up_to))
            case "decayed" | "trend":
                return self._decayed(name, node, given, ir.Stream(by, types[0], plan.DECAY, source=source))
        of = self._of(name, given, node, tuple(NUMBER_FIELDS))
        word, currency, divisor = self._number_field(of)
        if name == "first":
            stream = ir.Stream(by, types[0], plan.FIRST, word, currency, 0, source)
            return Numeric(ir.FirstValue(stream, divisor))
        if every_ms and "up_to" in given:
            self._fail(given["up_to"], "a sum with `every` has no bound", "leave up_to out")
        kind = plan.TUMBLE_SUM if every_ms else plan.SUM
        summed = [ir.Stream(by, code, kind, word, currency, every_ms, source) for code in types]
        newest = 1 if name == "last" else up_to
        return Numeric(combined("+", [ir.Sum(stream, within_ms, newest, divisor) for stream in summed]))

    def _arguments(self, name: str, node: ast.Call) -> dict[str, ast.expr]:
        """Arguments by keyword; the event (of joined(), the join) is "event"; sequence() has its own."""
        given: dict[str, ast.expr] = {}
        if name != "sequence":
            positional = ("event", "of") if name in OF_SECOND else ("event",)
            given = dict(zip(positional, node.args, strict=False))
            if len(node.args) > len(positional):
                self._fail(
                    node.args[len(positional)], f"{name}() takes no further argument here", usage(name)
                )
        for pair in node.keywords:
            if pair.arg is None or pair.arg not in ATOM_KEYWORDS[name]:
                self._bad_keyword(name, pair)
            if pair.arg in given:
                self._fail(pair.value, f"`{pair.arg}` is given twice")
            given[pair.arg] = pair.value
        if name != "sequence" and "event" not in given:
            what = "a join" if name == "joined" else "an event"
            self._fail(node, f"{name}() needs {what}", usage(name))
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
    ) -> Operand:
        if not 2 <= len(node.args) <= SEQUENCE_STEPS_MAX:
            self._fail(node, f"sequence() takes 2 to {SEQUENCE_STEPS_MAX} events", usage("sequence"))
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

        return Condition(sequence([streams(step) for step in steps], streams(without), within_ms, up_to))

    def _decayed(self, name: str, node: ast.Call, given: dict[str, ast.expr], counted: ir.Stream) -> Operand:
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
                self._fail(node, f"{name}() needs `{keyword}`", usage(name))
            lengths.append(self._window(given[keyword], keyword))
        weights: list[ir.Node] = [ir.Decayed(replace(stream, every_ms=length), divisor) for length in lengths]
        if name == "decayed":
            return Numeric(weights[0])
        if lengths[0] >= lengths[1]:
            self._fail(given["recent"], "`recent` is not shorter than `habit`", usage(name))
        rates = [
            ir.Arithmetic("/", weight, ir.Number(float(length)))
            for weight, length in zip(weights, lengths, strict=True)
        ]
        return Numeric(ir.Arithmetic("/", rates[0], rates[1]))

    def _joined(self, node: ast.Call, given: dict[str, ast.expr]) -> Operand:
        wanted = self._text(given["event"], "a join", "offer-redeemed")
        known = self.scope.joins
        if wanted not in known:
            hint = did_you_mean(wanted, tuple(known)) if known else f'declare it: [[joins]] id = "{wanted}"'
            self._fail(given["event"], f'there is no join "{wanted}"', hint)
        within_ms, _ = self._windows(node, given)
        up_to = self._up_to(given["up_to"], COUNT_UP_TO_MAX) if "up_to" in given else COUNT_UP_TO_DEFAULT
        stream = ir.Stream(plan.BY_NONE, plan.JOIN_TYPE + known[wanted], plan.COUNT)
        return Numeric(ir.Count(stream, within_ms, up_to))

    def _bad_keyword(self, name: str, pair: ast.keyword) -> NoReturn:
        if pair.arg is None:
            self._fail(pair.value, "`**` is not in the language", "write the arguments out")
        if pair.arg in RESERVED_KEYWORDS:
            hint = INSTEAD.get(pair.arg, usage(name))
            self._fail(pair.value, f"`{pair.arg}=` is reserved: not yet in this version", hint)
        self._fail(pair.value, f"{name}() takes no `{pair.arg}`", did_you_mean(pair.arg, ATOM_KEYWORDS[name]))


USAGE = {
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


def usage(name: str) -> str:
    return USAGE.get(name, f'{name}("Product Viewed", within="30m")')
