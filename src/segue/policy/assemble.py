"""Intermediate form → the tables of the virtual machine (segue_kernels/vm.py).

Law: running a program's operations gives the bits that interpreting its tree gives. A tree's value goes to
cell t, with cells above t free to use; `and` and `or` become jumps past what need not be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from segue.errors import PolicyError
from segue.policy import ir
from segue.policy.plan import Layout
from segue_kernels import plan, vm

_ARITHMETIC = {
    "+": vm.ADD,
    "-": vm.SUBTRACT,
    "*": vm.MULTIPLY,
    "/": vm.DIVIDE,
    "min": vm.MIN,
    "max": vm.MAX,
}
_COMPARISON = {
    "==": vm.EQUAL,
    "!=": vm.NOT_EQUAL,
    "<": vm.LESS,
    "<=": vm.LESS_EQUAL,
    ">": vm.GREATER,
    ">=": vm.GREATER_EQUAL,
}
_FUNCTION = {"log1p": vm.LOG1P, "sqrt": vm.SQRT, "exp": vm.EXP, "abs": vm.ABS}


@dataclass(frozen=True, slots=True)
class Assembled:
    """program_start int64[n + 1], code int64[ops, 6], constants float64[]."""

    program_start: npt.NDArray[np.int64]
    code: npt.NDArray[np.int64]
    constants: npt.NDArray[np.float64]


def assemble(programs: Sequence[ir.Node], layout: Layout) -> Assembled:
    assembler = _Assembler(layout)
    starts = [0]
    for program in programs:
        assembler.emit(program, 0)
        starts.append(len(assembler.code))
    code = np.array(assembler.code, dtype=np.int64).reshape(-1, plan.CODE_WORDS)
    constants = np.array([float.fromhex(text) for text in assembler.constants], dtype=np.float64)
    return Assembled(np.array(starts, dtype=np.int64), code, constants)


@dataclass(slots=True)
class _Assembler:
    layout: Layout
    code: list[list[int]] = field(default_factory=list)
    constants: dict[str, int] = field(default_factory=dict)

    def emit(self, node: ir.Node, t: int) -> None:
        """Operations that leave the node's value in cell t."""
        if t >= vm.CELLS:
            raise PolicyError("load policies", "an expression needs too many cells", "split the journey")
        match node:
            case ir.Number(value):
                self._op(vm.NUMBER, t, self._constant(value))
            case ir.EventNumber(field, currency, divisor):
                self._op(vm.EVENT_NUMBER, t, field, currency, 0, self._constant(divisor))
            case ir.EventIs(word, bits):
                self._any(t, [(vm.EVENT_IS, word, value) for value in bits])
            case ir.EventTypeIs(codes):
                self._any(t, [(vm.EVENT_TYPE_IS, value, 0) for value in codes])
            case ir.AtLeast(stream, within_ms, least) if stream.kind in (plan.COUNT, plan.DISTINCT):
                self._op(vm.AT_LEAST, t, self._place(stream), least, within_ms)
            case ir.AtLeast(stream, _, least):
                self._op(vm.TUMBLE_COUNT, t, self._place(stream), least, stream.every_ms)
                self._op(vm.NUMBER, t + 1, self._constant(float(least)))
                self._op(vm.GREATER_EQUAL, t)
            case ir.Count(stream, within_ms, up_to):
                sliding = stream.kind in (plan.COUNT, plan.DISTINCT)
                kind, window_ms = (vm.COUNT, within_ms) if sliding else (vm.TUMBLE_COUNT, stream.every_ms)
                self._op(kind, t, self._place(stream), up_to, window_ms)
            case ir.Sum(stream, within_ms, up_to, divisor):
                place, constant = self._place(stream), self._constant(divisor)
                if stream.kind == plan.SUM:
                    self._op(vm.SUM, t, place, up_to, within_ms, self.layout.kept(stream) << 32 | constant)
                else:
                    self._op(vm.TUMBLE_SUM, t, place, 0, stream.every_ms, constant)
            case ir.Recency(stream, within_ms):
                self._op(vm.RECENCY, t, self._place(stream), 1, within_ms)
            case ir.Arithmetic(operator, left, right):
                self._two(_ARITHMETIC[operator], left, right, t)
            case ir.Compare(operator, left, right):
                self._two(_COMPARISON[operator], left, right, t)
            case ir.Apply(function, argument):
                self.emit(argument, t)
                self._op(_FUNCTION[function], t)
            case ir.Not(operand):
                self.emit(operand, t)
                self._op(vm.NOT, t)
            case ir.Finite(operand):
                self.emit(operand, t)
                self._op(vm.FINITE, t)
            case ir.And(left, right):
                self.emit(left, t)
                jump = self._jump(vm.JUMP_IF_ZERO, t)
                self.emit(right, t)
                self._land(jump)
            case ir.Or(left, right):
                self.emit(left, t)
                jump = self._jump(vm.JUMP_IF_NOT_ZERO, t)
                self.emit(right, t)
                self._land(jump)
            case ir.Choose(condition, then, otherwise):
                self.emit(condition, t)
                to_otherwise = self._jump(vm.JUMP_IF_ZERO, t)
                self.emit(then, t)
                to_end = self._jump(vm.JUMP, t)
                self._land(to_otherwise)
                self.emit(otherwise, t)
                self._land(to_end)

    def _op(self, kind: int, t: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> None:
        self.code.append([kind, t, a, b, c, d])

    def _two(self, kind: int, left: ir.Node, right: ir.Node, t: int) -> None:
        self.emit(left, t)
        self.emit(right, t + 1)
        self._op(kind, t)

    def _any(self, t: int, tests: list[tuple[int, int, int]]) -> None:
        jumps = []
        for i, (kind, a, b) in enumerate(tests):
            self._op(kind, t, a, b)
            if i < len(tests) - 1:
                jumps.append(self._jump(vm.JUMP_IF_NOT_ZERO, t))
        for jump in jumps:
            self._land(jump)

    def _jump(self, kind: int, t: int) -> int:
        self._op(kind, t)
        return len(self.code) - 1

    def _land(self, jump: int) -> None:
        """Let a jump go to the operation that comes next."""
        self.code[jump][plan.CODE_A] = len(self.code) - jump

    def _constant(self, value: float) -> int:
        """Its index; 0.0 and -0.0 are two constants, which is why the keys are texts."""
        return self.constants.setdefault(value.hex(), len(self.constants))

    def _place(self, stream: ir.Stream) -> int:
        """What segue_kernels/vm.py takes for an entry: its word, or -1 - index of a keyed stream."""
        if stream.by:
            return -1 - self.layout.index[stream]
        return self.layout.offset(stream)
