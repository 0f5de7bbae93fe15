"""Trees of the intermediate form, built: constants folded, counts compared, sequences spelled out.

Law: a built tree means what its parts say; nothing here looks at text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

from segue.policy import ir
from segue.policy.interpret import interpret_constant


def folded(node: ir.Node) -> ir.Node:
    """The node, or its value where that is known and finite."""
    match node:
        case ir.Not(ir.Not(operand)):
            return operand
        case ir.And(ir.Number(value), other) | ir.And(other, ir.Number(value)):
            return other if value else ir.Number(0.0)
        case ir.Or(ir.Number(value), other) | ir.Or(other, ir.Number(value)):
            return ir.Number(1.0) if value else other
        case ir.Choose(ir.Number(value), then, otherwise):
            return then if value else otherwise
    if isinstance(node, ir.Arithmetic | ir.Apply | ir.Compare | ir.Not | ir.Choose | ir.Finite) and all(
        isinstance(child, ir.Number) for child in ir.children(node)
    ):
        value = interpret_constant(node)
        if math.isfinite(value):
            return ir.Number(value)
    return node


def balanced(joined: type[ir.And] | type[ir.Or], nodes: Sequence[ir.Node]) -> ir.Node:
    """a and b and c and d as a tree of little depth; the order of the parts stays."""
    if len(nodes) == 1:
        return nodes[0]
    half = len(nodes) // 2
    return folded(joined(balanced(joined, nodes[:half]), balanced(joined, nodes[half:])))


def combined(operator: ir.ArithmeticOperator, nodes: Sequence[ir.Node]) -> ir.Node:
    """a + b + c, or the least or greatest of them, from the left."""
    return reduce(lambda left, right: ir.Arithmetic(operator, left, right), nodes)


# --- counts against constants ---------------------------------------------------------------------------


def summands(node: ir.Node) -> list[ir.Count] | None:
    """The counts of count(...) + count(...) + ..., None if the node is something else."""
    if isinstance(node, ir.Count):
        return [node]
    if isinstance(node, ir.Arithmetic) and node.operator == "+":
        left, right = summands(node.left), summands(node.right)
        return None if left is None or right is None else left + right
    return None


def with_up_to(node: ir.Node, up_to: int) -> ir.Node:
    """The sum of counts with each bounded so: enough to compare the sum with any number below the bound."""
    if isinstance(node, ir.Count):
        return replace(node, up_to=up_to)
    assert isinstance(node, ir.Arithmetic)
    return ir.Arithmetic("+", with_up_to(node.left, up_to), with_up_to(node.right, up_to))


def at_least(atom: ir.Count, least: int) -> ir.Node:
    if least <= 0:
        return ir.Number(1.0)
    return ir.AtLeast(atom.stream, atom.within_ms, least)


# --- sequences ------------------------------------------------------------------------------------------


def sequence(
    steps: Sequence[Sequence[ir.Stream]], without: Sequence[ir.Stream], within_ms: int, up_to: int
) -> ir.Node:
    """Whether events of the steps (any of a step's streams) lie one after the other in the window.

    Times do not fall; they rise after an event whose name stands again later in the sequence, so one event never
    stands for two steps. Only the `up_to` newest events of each stream are looked at. From the end backwards each step
    takes the newest event it may: if any choice fits, this one does. `without`: some event of the last step ends a
    sequence with none of these streams' events from its first event to its last, both moments included.
    """
    if not without:
        newest = combined("max", [ir.Nth(stream, within_ms, 0) for stream in steps[-1]])
        return ir.Compare(">=", _begun(steps, newest, within_ms, up_to), ir.Number(0.0))
    ends = [ir.Nth(stream, within_ms, n) for n in range(up_to) for stream in steps[-1]]
    apart = [(stream, False) for stream in without]
    return balanced(
        ir.Or,
        [
            ir.Compare("<", _latest(apart, within_ms, up_to, end), _begun(steps, end, within_ms, up_to))
            for end in ends
        ],
    )


def _begun(steps: Sequence[Sequence[ir.Stream]], end: ir.Node, within_ms: int, up_to: int) -> ir.Node:
    """When the latest sequence that ends at `end` begins; -1 if none does."""
    for i in range(len(steps) - 2, -1, -1):
        again = {stream.type for step in steps[i + 1 :] for stream in step}
        end = _latest([(stream, stream.type in again) for stream in steps[i]], within_ms, up_to, end)
    return end


def _latest(
    streams: Sequence[tuple[ir.Stream, bool]], within_ms: int, up_to: int, bound: ir.Node
) -> ir.Latest:
    (stream, strict), *others = streams
    return ir.Latest(stream, within_ms, up_to, bound, strict, tuple(others))
