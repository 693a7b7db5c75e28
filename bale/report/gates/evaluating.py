"""What an expression comes to, for figures that are known."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bale.report.gates.expressions import Arithmetic, Call, Comparison, Logic, Name, Node, Not, Number

_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True)
class Row:
    """The figures of a tensor."""

    name: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Facts:
    """The figures of a whole and of its tensors; `nothing` has those of a tensor of no bytes that lost nothing.

    Where rows are not tensors, `noun` says what they are.
    """

    totals: Mapping[str, float]
    rows: Sequence[Row]
    nothing: Row
    noun: str = "tensor"


@dataclass(frozen=True)
class Scope:
    """Where names are looked up: in the figures of the whole, and of one tensor.

    A call that is `opened` has the value of that tensor alone.
    """

    facts: Facts
    row: Row | None = None
    opened: Call | None = None


def holds(node: Node, scope: Scope) -> bool:
    """Whether a condition is true.

    Raises
    ------
    ArithmeticError
        Where that cannot be said.
    """
    match node:
        case Logic("and", parts):
            return all(holds(part, scope) for part in parts)
        case Logic(_, parts):
            return any(holds(part, scope) for part in parts)
        case Not(part):
            return not holds(part, scope)
        case Comparison(order, left, right):
            return _ORDERS[order](value(left, scope), value(right, scope))
    raise AssertionError(node)  # `parse` gives no other condition


def value(node: Node, scope: Scope) -> float:
    """The value of a number, which may be infinite; `ArithmeticError` where there is none."""
    match node:
        case Number(number):
            return number
        case Name(_, key, True):
            assert scope.row is not None
            return scope.row.figures[key]
        case Name(_, key):
            return scope.facts.totals[key]
        case Arithmetic(sign, left, right):
            one, other = value(left, scope), value(right, scope)
            if sign == "/" and not other:
                raise ArithmeticError("it divides by zero")
            found = _ARITHMETIC[sign](one, other)
            if math.isnan(found):
                raise ArithmeticError(f"there is no {one:g} {sign} {other:g}")
            return found
        case Call():
            return _called(node, scope)
    raise AssertionError(node)  # `parse` gives no other number


def _called(call: Call, scope: Scope) -> float:
    if call is scope.opened:
        return value(call.argument, scope)
    rows = [replace(scope, row=row) for row in scope.facts.rows]
    if call.function == "count":
        return float(sum(holds(call.argument, each) for each in rows))
    values = [value(call.argument, each) for each in rows]
    if call.function == "sum":
        return _sum(values)
    if not values:
        return value(call.argument, replace(scope, row=scope.facts.nothing))
    if call.function == "mean":
        return _sum(values) / len(values)
    return max(values) if call.function == "max" else min(values)


def _sum(values: Sequence[float]) -> float:
    found = sum(values)
    if math.isnan(found):
        raise ArithmeticError("it adds up what is infinite and what is infinitely negative")
    return float(found)
