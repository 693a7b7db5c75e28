"""Conditions as texts become trees, and nothing else: no text is ever executed.

Numbers and names are found here, units taken off; Python's parser says what belongs together, and what it makes is
taken over node by node, from a short list.
"""

from __future__ import annotations

import ast
import keyword
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bale.errors import UsageError

LONGEST = 500  # letters
DEEPEST = 30  # parentheses, signs and words that lie within one another
FUNCTIONS = ("max", "min", "mean", "sum", "count")

_PREFIXES = ("", "k", "m", "g", "t")
UNITS = {
    "%": 0.01,
    "db": 1.0,
    **{f"{letter}b": 1000.0**power for power, letter in enumerate(_PREFIXES)},
    **{f"{letter}ib": 1024.0**power for power, letter in enumerate(_PREFIXES) if letter},
}
_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?)(?:\s*(?P<unit>%|(?:[kmgt]i?)?b\b|db\b))?(?![\w.])"
    r"|(?P<name>[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)*)"
    r"|(?P<sign><=|>=|==|!=|[<>()+*/-])",
    re.ASCII | re.IGNORECASE,
)
_COMPARISONS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_EXAMPLE = "write it like 'ratio < 1.4 or max(relative_error) > 2%'"


@dataclass(frozen=True)
class Number:
    """A number, in its unit."""

    value: float


@dataclass(frozen=True)
class Name:
    """A figure of the whole, or of a tensor; `text` is as it was written, `key` what it stands for."""

    text: str
    key: str
    of_tensor: bool


@dataclass(frozen=True)
class Call:
    """A figure of all tensors together; of `count` the argument is a condition."""

    function: str
    argument: Node
    text: str


@dataclass(frozen=True)
class Arithmetic:
    """Two numbers that make another one."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Comparison:
    """Whether two numbers are in this order."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Logic:
    """Conditions joined by ``and`` or ``or``."""

    word: str
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Not:
    """What a condition denies."""

    part: Node


Node = Number | Name | Call | Arithmetic | Comparison | Logic | Not
Find = Callable[[str, bool], Name]
"""Finds what a name stands for; the second argument says that it must be a figure of tensors."""


def parse(text: str, find: Find) -> Node:
    """The tree of a condition.

    Raises
    ------
    UsageError
        For whatever is no condition, or has names that `find` does not know.
    """
    if len(text) > LONGEST:
        raise UsageError(f"--fail-if takes {LONGEST} letters, and one has {len(text)}", "use --fail-if twice")
    try:
        body = ast.parse(" ".join(_tokens(text)), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise refusal(text, "it is not an expression", _EXAMPLE) from None
    return _Reader(text, find).condition(body)


def refusal(text: str, why: str, hint: str = "") -> UsageError:
    """The error of an expression."""
    return UsageError(f"--fail-if {text!r}: {why}", hint)


def inner(node: Node, into_calls: bool = True) -> Iterator[Node]:
    """A node and all within it, in the order of the text."""
    yield node
    match node:
        case Arithmetic(_, left, right) | Comparison(_, left, right):
            parts: tuple[Node, ...] = (left, right)
        case Logic(_, parts):
            pass
        case Not(part):
            parts = (part,)
        case Call(_, argument):
            parts = (argument,) if into_calls else ()
        case _:
            parts = ()
    for part in parts:
        yield from inner(part, into_calls)


def asks_tensors(node: Node) -> bool:
    """Whether an answer needs a tensor: a figure of tensors stands outside all calls."""
    return any(isinstance(each, Name) and each.of_tensor for each in inner(node, into_calls=False))


def _tokens(text: str) -> Iterator[str]:
    """The words of a text as Python spells them, numbers without their units."""
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        found = _TOKEN.match(text, at)
        if found is None:
            raise refusal(text, f"{text[at:].split()[0]!r} has no meaning here", _hint(text[at:]))
        at = found.end()
        number, unit, name, sign = found.group("number", "unit", "name", "sign")
        if number is not None:
            value = float(number) * UNITS[(unit or "b").lower()]
            if math.isinf(value):
                raise refusal(text, "a number is too large")
            yield repr(value)
        elif name is not None and keyword.iskeyword(name) and name not in ("and", "or", "not"):
            raise refusal(text, f"there is no {name!r}", _EXAMPLE)
        else:
            yield name or sign


def _hint(rest: str) -> str:
    if rest[0] == "=":
        return "equality is =="
    if rest[0] in "&|!":
        return "the words are and, or, not"
    if rest[0].isdigit() or rest[0] == ".":
        return "units are %, dB, B, kB, MB, GB, TB, KiB, MiB, GiB, TiB"
    return "use names, numbers, + - * /, < <= > >= == !=, and or not, and max min mean sum count"


class _Reader:
    """Takes over what Python's parser has made of an expression."""

    def __init__(self, text: str, find: Find) -> None:
        self._text = text
        self._find = find
        self._depth = 0
        self._call = ""

    def condition(self, node: ast.expr) -> Node:
        """What is true or false."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise refusal(self._text, "too much of it is nested", "use --fail-if twice")
        made: Node
        match node:
            case ast.BoolOp(op, values):
                made = Logic("and" if isinstance(op, ast.And) else "or", tuple(map(self.condition, values)))
            case ast.UnaryOp(ast.Not(), operand):
                made = Not(self.condition(operand))
            case ast.Compare(left, ops, comparators):
                sides = [self.number(each) for each in (left, *comparators)]
                pairs = zip(ops, sides, sides[1:], strict=False)
                parts = tuple(Comparison(_COMPARISONS[type(op)], one, other) for op, one, other in pairs)
                made = parts[0] if len(parts) == 1 else Logic("and", parts)
            case _:
                raise refusal(self._text, f"{self._said(node)} is no condition", "compare it, like 'ratio < 1.4'")
        self._depth -= 1
        return made

    def number(self, node: ast.expr) -> Node:
        """What has a value."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise refusal(self._text, "too much of it is nested", "use --fail-if twice")
        made: Node
        match node:
            case ast.Constant(float(value)):
                made = Number(value)
            case ast.Name() | ast.Attribute():
                made = self._find(ast.unparse(node), bool(self._call))
            case ast.UnaryOp(ast.USub(), operand):
                made = Arithmetic("-", Number(0.0), self.number(operand))
            case ast.UnaryOp(ast.UAdd(), operand):
                made = self.number(operand)
            case ast.BinOp(left, ast.Add() | ast.Sub() | ast.Mult() | ast.Div() as operator, right):
                made = Arithmetic(_OPERATORS[type(operator)], self.number(left), self.number(right))
                if isinstance(operator, ast.Div) and made.right == Number(0.0):
                    raise refusal(self._text, "it divides by zero")
            case ast.Call(ast.Name(function), [argument], []) if not isinstance(argument, ast.Starred):
                made = self._called(function, argument, self._said(node))
            case _:
                hint = "functions take one argument, like max(relative_error)" if isinstance(node, ast.Call) else ""
                raise refusal(self._text, f"{self._said(node)} is not a number", hint)
        self._depth -= 1
        return made

    def _called(self, function: str, argument: ast.expr, text: str) -> Call:
        if function not in FUNCTIONS:
            raise refusal(self._text, f"there is no function {function!r}", f"they are {', '.join(FUNCTIONS)}")
        if self._call:
            raise refusal(self._text, f"{text} stands within {self._call}()", "functions do not nest")
        self._call = function
        made = Call(function, (self.condition if function == "count" else self.number)(argument), text)
        self._call = ""
        if not asks_tensors(made.argument):
            raise refusal(self._text, f"{text} has no figure of tensors", "like max(relative_error)")
        return made

    def _said(self, node: ast.expr) -> str:
        return ast.unparse(node)
