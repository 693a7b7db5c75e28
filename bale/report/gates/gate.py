"""Gates: conditions by which a command fails, and what is said of those that do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from bale.errors import CheckFailed
from bale.notes import many
from bale.report.figures import finite_or_none
from bale.report.gates.evaluating import Facts, Row, Scope, holds, value
from bale.report.gates.expressions import (
    Arithmetic,
    Call,
    Comparison,
    Logic,
    Name,
    Node,
    Number,
    asks_tensors,
    inner,
    parse,
)
from bale.report.gates.vocabularies import ERROR, LEFT_BYTES, SIZE, Vocabulary

T = TypeVar("T")
SHOWN = 5
"""Tensors that are named for a gate that failed; all are in its document that make it true by themselves."""


@dataclass(frozen=True)
class Named:
    """A tensor behind a failure, with its figure."""

    name: str
    figure: str
    value: float

    def __str__(self) -> str:
        return f"{self.name}: {self.figure} {_figure(self.value, self.figure)}"


@dataclass(frozen=True)
class Failure:
    """A gate that failed: what was found, the figures in its condition, and tensors, the worst first."""

    text: str
    found: str
    values: Mapping[str, float]
    tensors: Sequence[Named] = ()
    noun: str = "tensor"

    @property
    def message(self) -> str:
        """One line."""
        return f"gate failed: {self.text}: {self.found}"

    @property
    def lines(self) -> list[str]:
        """That line, and one for each of the worst tensors."""
        more = len(self.tensors) - SHOWN
        return [
            self.message,
            *(f"  {tensor}" for tensor in self.tensors[:SHOWN]),
            *([f"  and {many(more, f'more {self.noun}')}"] if more > 0 else []),
        ]

    def to_json(self) -> dict[str, Any]:
        """Its entry in an error document; what is infinite is null there."""
        return {
            "expression": self.text,
            "found": self.found,
            "values": {name: finite_or_none(each) for name, each in self.values.items()},
            "tensors": [
                {"name": each.name, "figure": each.figure, "value": finite_or_none(each.value)} for each in self.tensors
            ],
        }


class GatesFailed(CheckFailed):
    """One or more gates failed; `result` is what the verb would have returned."""

    def __init__(self, failures: Sequence[Failure], hint: str, result: Any) -> None:
        super().__init__("; ".join(failure.message for failure in failures), hint)
        self.failures = tuple(failures)
        self.result = result

    @property
    def lines(self) -> list[str]:
        """One line for each gate, the hint behind the last of them, and below each the tensors."""
        *_, last = self.failures
        said = [failure.lines for failure in self.failures]
        if self.hint:
            said[-1][0] = f"{last.message}; {self.hint}"
        return [line for lines in said for line in lines]

    @property
    def details(self) -> dict[str, Any]:
        """What an error document has beside the usual."""
        return {"gates": [failure.to_json() for failure in self.failures]}


@dataclass(frozen=True)
class Gate:
    """A condition by which a command fails; or, not `alone`, one of several that a text joins by ``or``."""

    text: str
    condition: Node
    alone: bool = True

    def check(self, facts: Facts, vocabulary: Vocabulary) -> Failure | None:
        """The failure, if the condition is true, or if nobody can say whether it is."""
        if isinstance(self.condition, Logic) and self.condition.word == "or":  # tensors are named for what is true
            parts = (replace(self, condition=part, alone=False) for part in self.condition.parts)
            return next((failure for part in parts if (failure := part.check(facts, vocabulary)) is not None), None)
        try:
            if asks_tensors(self.condition):
                return self._of_tensors(facts)
            if not holds(self.condition, Scope(facts)):
                return None
            values = self._values(Scope(facts))
            return Failure(self.text, self._said(values), values, self._behind(facts, vocabulary), facts.noun)
        except ArithmeticError as problem:
            return Failure(self.text, f"it cannot be said ({problem})", {})

    def _of_tensors(self, facts: Facts) -> Failure | None:
        """The failure of a condition that is asked of every tensor; where there is none, of one that lost nothing."""
        rows = [row for row in facts.rows or [facts.nothing] if holds(self.condition, Scope(facts, row))]
        if not rows:
            return None
        tensors = _ranked(rows, _sides_of(self.condition), facts) if facts.rows else []
        worst = next((row for row in rows if tensors and row.name == tensors[0].name), rows[0])
        values = self._values(Scope(facts, worst))
        found = f"{self._said(values)} in {worst.name}" if facts.rows else self._said(values)
        if len(rows) > 1:
            found += f", the worst of {many(len(rows), facts.noun)}"
        return Failure(self.text, found, values, tensors, facts.noun)

    def _behind(self, facts: Facts, vocabulary: Vocabulary) -> list[Named]:
        """The tensors behind a figure of the whole: those that make the condition true by themselves, or add most."""
        for comparison in self._comparisons(facts):
            for leaf in inner(comparison, into_calls=False):
                match leaf:
                    case Call("count", argument):
                        rows = [row for row in facts.rows if holds(argument, Scope(facts, row))]
                        return _ranked(rows, _sides_of(argument), facts)
                    case Call("max" | "min", argument):
                        rows = [row for row in facts.rows if holds(comparison, Scope(facts, row, leaf))]
                        falls = leaf.function == "min"
                        return _ranked(rows, [(argument, falls)], facts)
                    case Call(_, argument):
                        return _ranked(facts.rows, [(argument, _falls(comparison, leaf))], facts)[:SHOWN]
                    case Name(_, key) if (by := vocabulary.totals[key].by) is not None:
                        return _worst(facts.rows, by, vocabulary)[:SHOWN]
        return []

    def _comparisons(self, facts: Facts) -> list[Comparison]:
        """The comparisons, those first that are true."""
        found = [each for each in inner(self.condition, into_calls=False) if isinstance(each, Comparison)]

        def is_false(comparison: Comparison) -> bool:
            try:
                return not holds(comparison, Scope(facts))
            except ArithmeticError:  # which `and` and `or` have passed by
                return True

        return sorted(found, key=is_false)

    def _values(self, scope: Scope) -> dict[str, float]:
        """The figures that the condition has, as they are written there."""
        found: dict[str, float] = {}
        for leaf in inner(self.condition, into_calls=False):
            if isinstance(leaf, Name | Call):
                try:
                    found[leaf.text] = value(leaf, scope)
                except ArithmeticError:  # which `and` and `or` have passed by
                    continue
        return found

    def _said(self, values: Mapping[str, float]) -> str:
        is_figure = isinstance(self.condition, Comparison) and not _calculates(self.condition)
        if is_figure and self.alone and len(values) == 1:
            ((name, only),) = values.items()
            return f"it is {_figure(only, name)}"
        return " and ".join(f"{name} is {_figure(each, name)}" for name, each in values.items())


@dataclass(frozen=True)
class Gates:
    """The gates of a command."""

    gates: tuple[Gate, ...]
    vocabulary: Vocabulary

    @classmethod
    def parse(cls, texts: Sequence[str], vocabulary: Vocabulary) -> Gates:
        """Read expressions; `UsageError` for one that makes no sense, or has a name that the verb does not know."""
        return cls(tuple(Gate(text, parse(text, vocabulary.finder(text))) for text in texts), vocabulary)

    def passed(self, document: Callable[[], Mapping[str, Any]], result: T, hint: str = "") -> T:
        """The result of the verb; `GatesFailed` where any gate fails by its document, which is made for gates only."""
        if not self.gates:
            return result
        facts = self.vocabulary.facts(document())
        failures = [failure for gate in self.gates if (failure := gate.check(facts, self.vocabulary)) is not None]
        if failures:
            raise GatesFailed(failures, hint, result)
        return result


def _sides_of(condition: Node) -> list[tuple[Node, bool]]:
    """The figures of tensors that a condition compares, and whether the lowest are the worst."""
    return [
        (side, _falls(comparison, side))
        for comparison in inner(condition, into_calls=False)
        if isinstance(comparison, Comparison)
        for side in (comparison.left, comparison.right)
        if asks_tensors(side)
    ]


def _falls(comparison: Comparison, leaf: Node) -> bool:
    """Whether a comparison becomes true as a figure in it falls."""
    is_left = any(each is leaf for each in inner(comparison.left))
    return comparison.operator[0] == ("<" if is_left else ">")


def _ranked(rows: Sequence[Row], sides: Sequence[tuple[Node, bool]], facts: Facts) -> list[Named]:
    """Tensors, the worst first, by the first of the figures that a condition has of them."""
    side, falls = sides[0]
    figure = _text(side)
    found = [Named(row.name, figure, value(side, Scope(facts, row))) for row in rows]
    return sorted(found, key=lambda each: each.value if falls else -each.value)


def _worst(rows: Sequence[Row], by: str, vocabulary: Vocabulary) -> list[Named]:
    """Tensors that have lost or take anything, the worst first, by one of their figures."""
    kind = SIZE if by == LEFT_BYTES else vocabulary.tensors[by]
    shown = "original_bytes" if by == LEFT_BYTES else by
    found = [Named(row.name, shown, row.figures[by]) for row in rows if row.figures[by] != kind.exact]
    return sorted(found, key=lambda each: -each.value if kind in (ERROR, SIZE) else each.value)


def _text(node: Node) -> str:
    match node:
        case Name(text) | Call(_, _, text):
            return text
        case Arithmetic("-", Number(0.0), right):
            return f"-{_text(right)}"
        case Arithmetic(sign, left, right):
            return f"{_text(left)} {sign} {_text(right)}"
        case Number(number):
            return _figure(number, "")
    raise AssertionError(node)  # which is no number


def _calculates(node: Node) -> bool:
    return any(isinstance(each, Arithmetic) for each in inner(node, into_calls=False))


def _figure(number: float, name: str) -> str:
    if name.split(".")[-1].endswith("bytes") and math.isfinite(number) and number == round(number):
        return f"{number:.0f}"
    return f"{number:.5g}"
