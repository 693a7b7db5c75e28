"""Repeats within repeats of regular expressions, of which each round can end at one place only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_PROBES = "".join(map(chr, range(128))) + "\u00e9\u0663\u2003\u20ac" + "\u017f\u212a\u0130\u0131"
"""Letters that stand for all: ASCII, beyond it a letter, a digit, a space and a sign, and those whose case is ASCII."""


def rounds_are_distinct(body: Any) -> bool:
    """Whether a repeated part matches any text in one way at most, however often it is repeated.

    It does if it is a sequence of letters and repeated letters, and behind each of the latter, before the next one,
    comes a letter that is none of those repeated and none of those between: the first such letter in a text ends it.
    What stands at the beginning of the next round counts too.
    """
    try:
        atoms = list(_atoms(body))
    except _Other:
        return False
    return all(_is_ended(atoms[at], [*atoms[at + 1 :], *atoms[:at]]) for at, atom in enumerate(atoms) if atom.varies)


class _Other(Exception):
    """More than a sequence of letters."""


@dataclass(frozen=True)
class _Atom:
    """A letter or a class of letters, and how often it comes."""

    item: Any
    least: int = 1
    varies: bool = False

    @cached_property
    def letters(self) -> frozenset[str]:
        """The probes that it matches, with regard to their case or without: which one holds, a group around decides."""
        alone = re._parser.SubPattern(re._parser.State(), [self.item])  # type: ignore[attr-defined]
        flags = re.DOTALL | re.UNICODE
        both = [re._compiler.compile(alone, flags | case) for case in (0, re.IGNORECASE)]  # type: ignore[attr-defined]
        return frozenset(letter for letter in _PROBES if any(each.fullmatch(letter) for each in both))


def _is_ended(repeated: _Atom, behind: list[_Atom]) -> bool:
    between: list[_Atom] = [repeated]
    for atom in behind:
        if atom.least and not any(atom.letters & each.letters for each in between):
            return True
        if atom.varies:
            return False
        between.append(atom)
    return False


def _atoms(body: Any) -> Iterator[_Atom]:
    """The letters of an expression, groups dissolved."""
    for item in body:
        name, value = str(item[0]), item[1]
        if name in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            if any(code > 127 for code in _codes(name, value)):
                raise _Other
            yield _Atom(item)
        elif name == "SUBPATTERN" and not value[1] and not value[2]:
            yield from _atoms(value[3])
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, repeated = value
            atoms = list(_atoms(repeated))
            if len(atoms) != 1 or atoms[0].varies:
                raise _Other
            yield _Atom(atoms[0].item, low, bool(low != high))
        else:
            raise _Other


def _codes(name: str, value: Any) -> Iterator[int]:
    """The letters that are named, and the ends of ranges."""
    if name == "IN":
        for kind, each in value:
            if str(kind) in ("LITERAL", "RANGE"):
                yield from each if isinstance(each, tuple) else (each,)
    elif name != "ANY":
        yield value
