"""Templates of JSON lines, written down as fields, filled by a kernel: the same rows give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from segue_kernels import write_json as k

BLOCK_BYTES = 4 << 20


@dataclass(frozen=True)
class Field:
    """A value of a line: `kind` is a constant of segue_kernels.write_json, `column` the word it is read from.

    argument      digits (PADDED), decimals (MONEY), first word (WORD), column of the count (LINES)
    template      number of the lines' template (LINES)
    before, after JSON text around the value, quotes included
    optional      the whole field is absent where its column is negative
    """

    name: str
    kind: int
    column: int = 0
    argument: int = 0
    template: int = 0
    before: str = ""
    after: str = ""
    optional: bool = False


def text(name: str, value: str) -> Field:
    """A constant string."""
    return Field(name, k.LITERAL, before=orjson.dumps(value).decode())


def truth(name: str, value: bool) -> Field:
    """A constant true or false."""
    return Field(name, k.LITERAL, before="true" if value else "false")


def integer(name: str, column: int) -> Field:
    """A number."""
    return Field(name, k.INTEGER, column)


def numbered(name: str, prefix: str, column: int, digits: int = 1, optional: bool = False) -> Field:
    """A string: prefix and number, with at least so many digits."""
    return Field(name, k.PADDED, column, digits, before=f'"{prefix}', after='"', optional=optional)


def hashed(name: str, prefix: str, column: int, optional: bool = False) -> Field:
    """A string: prefix and the 16 hexadecimal digits of the column."""
    return Field(name, k.HEX, column, before=f'"{prefix}', after='"', optional=optional)


def iso_time(name: str, column: int) -> Field:
    """A string: ISO 8601 in UTC with milliseconds, from ms since 1970."""
    return Field(name, k.TIME, column, before='"', after='"')


def money(name: str, column: int, decimals: int = 2) -> Field:
    """A number: minor units as exact decimal text."""
    return Field(name, k.MONEY, column, decimals)


def word(name: str, column: int, first: int = 0, optional: bool = False) -> Field:
    """A string: number (first + column) of the writer's words."""
    return Field(name, k.WORD, column, first, optional=optional)


def lines(name: str, start_column: int, count_column: int, template: int) -> Field:
    """An array of objects: rows [start, start + count) of the table of lines through another template."""
    return Field(name, k.LINES, start_column, count_column, template, before="[", after="]")


class JsonWriter:
    """Writes rows as JSON Lines: word 0 of a row names its template, whose fields come out in their order.

    templates  the fields of each template; the first field of a template is not optional
    nested     numbers of the templates that are only filled from the table of lines (no newline)
    words      strings that WORD fields choose from; they are escaped here, once
    """

    def __init__(
        self, templates: Sequence[Sequence[Field]], nested: Sequence[int] = (), words: Sequence[str] = ()
    ) -> None:
        quoted = [orjson.dumps(w) for w in words] or [b'""']
        self._words = np.frombuffer(b"".join(quoted), dtype=np.uint8).copy()
        self._word_start = np.concatenate(([0], np.cumsum([len(w) for w in quoted]))).astype(np.int64)
        self._word_bytes_max = max(len(w) for w in quoted)
        self._literals = bytearray()
        operations: list[tuple[int, int, int, int]] = []
        starts = [0]
        for number, fields in enumerate(templates):
            operations += self._compile(fields, "}" if number in nested else "}\n")
            starts.append(len(operations))
        self._operations = np.array(operations, dtype=np.int64)
        self._template_start = np.array(starts, dtype=np.int64)
        self._literal_bytes = np.frombuffer(bytes(self._literals), dtype=np.uint8).copy()
        self._bounds = np.array([self._bound(n) for n in range(len(templates))], dtype=np.int64)

    def write(
        self, rows: NDArray[np.int64], order: NDArray[np.int64], table: NDArray[np.int64] | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """The lines of rows[order], as arrays of about BLOCK_BYTES of whole lines, the caller's to keep.

        rows int64[n, columns]; order int64[k], with repeats if wanted; table int64[m, columns] of the lines.
        """
        rows = np.ascontiguousarray(rows)
        order = np.ascontiguousarray(order, dtype=np.int64)
        table = np.zeros((1, 1), dtype=np.int64) if table is None else np.ascontiguousarray(table)
        minute = np.full(1, k.NO_MINUTE, dtype=np.int64)
        minute_text = np.zeros(k.MINUTE_BYTES, dtype=np.uint8)
        done = 0
        while done < order.size:
            out = np.empty(self._block_bytes(rows, order, done), dtype=np.uint8)
            done, size = k.write_json(
                rows, order, done, table, self._template_start, self._operations, self._bounds,
                self._literal_bytes, self._words, self._word_start, minute, minute_text, out,
            )  # fmt: skip
            yield out[:size]

    def _block_bytes(self, rows: NDArray[np.int64], order: NDArray[np.int64], done: int) -> int:
        """Room for a block; always for the next row at least, however many lines it has."""
        first = rows[order[done]]
        bound = self._bounds[first[k.TEMPLATE]]
        room = int(bound[k.BOUND_BYTES])
        if bound[k.BOUND_LINES] >= 0:
            room += int(first[bound[k.BOUND_LINES]]) * int(bound[k.BOUND_LINE_BYTES])
        rest = (order.size - done) * int(self._bounds[:, k.BOUND_BYTES].max())
        if (self._bounds[:, k.BOUND_LINES] >= 0).any():
            rest = BLOCK_BYTES
        return max(room, min(BLOCK_BYTES, rest))

    def _compile(self, fields: Sequence[Field], end: str) -> list[tuple[int, int, int, int]]:
        operations: list[tuple[int, int, int, int]] = []
        pending = "{"  # constant text not yet written: neighbours become one literal

        def flush() -> None:
            nonlocal pending
            if pending:
                start = len(self._literals)
                self._literals += pending.encode()
                operations.append((k.LITERAL, start, len(self._literals), 0))
            pending = ""

        for place, field in enumerate(fields):
            opening = f'{"," if place else ""}"{field.name}":{field.before}'
            if field.optional:
                flush()
                skip = len(operations)
                operations.append((k.SKIP_IF_NEGATIVE, field.column, 0, 0))
                pending = opening
                self._value(field, operations, flush)
                pending = field.after
                flush()
                operations[skip] = (k.SKIP_IF_NEGATIVE, field.column, len(operations) - skip - 1, 0)
            else:
                pending += opening
                if field.kind != k.LITERAL:
                    self._value(field, operations, flush)
                pending += field.after
        pending += end
        flush()
        return operations

    @staticmethod
    def _value(field: Field, operations: list[tuple[int, int, int, int]], flush: Callable[[], None]) -> None:
        flush()
        operations.append((field.kind, field.column, field.argument, field.template))

    def _bound(self, template: int) -> tuple[int, int, int]:
        total, column, line_bytes = 0, -1, 0
        for kind, a, b, nested in self._operations[
            self._template_start[template] : self._template_start[template + 1]
        ].tolist():
            if kind == k.LITERAL:
                total += b - a
            elif kind == k.INTEGER:
                total += k.INTEGER_BYTES_MAX
            elif kind == k.PADDED:
                total += max(b + 1, k.INTEGER_BYTES_MAX)
            elif kind == k.HEX:
                total += k.HEX_BYTES
            elif kind == k.TIME:
                total += k.TIME_BYTES_MAX
            elif kind == k.MONEY:
                total += k.INTEGER_BYTES_MAX + b + 2
            elif kind == k.WORD:
                total += self._word_bytes_max
            elif kind == k.LINES:
                column = b
                line_bytes = self._bound(nested)[0] + 1
        return total, column, line_bytes
