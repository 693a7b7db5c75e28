"""Name patterns, and which regular expressions may take too long to be asked."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate
from typing import Any

from bale.errors import UsageError
from bale.planning.rounds import rounds_are_distinct

_LIMIT = 10**10  # steps that a backtracking matcher may take at most for a name: half a minute
_HINT = (
    "write it without a repeat within a repeat, or so that each round has a letter that the inner repeat cannot match, "
    "or as a glob"
)

_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[()]", re.DOTALL)  # what is escaped, a class, or a bracket
_QUANTIFIER = re.compile(r"(?:[*+?]|\{\d*,?\d*\})[?+]?")


@dataclass(frozen=True)
class Pattern:
    """A pattern that a whole name must match.

    Attributes
    ----------
    ways : int
        Number of ways to try alternatives and limited repeats.
    repeats : int
        Repeats without a limit, each of which can end anywhere in a name.
    """

    text: str
    expression: re.Pattern[str]
    ways: int = 1
    repeats: int = 0

    def matches(self, name: str) -> bool:
        """Whether the whole name matches, or is the text of the pattern, brackets and all."""
        return name == self.text or self.fullmatch(name) is not None

    def fullmatch(self, name: str) -> re.Match[str] | None:
        """As that of `re.Pattern`; raises `UsageError` for a name that is so long that it could take minutes."""
        if self.ways * math.comb(len(name) + self.repeats, self.repeats) > _LIMIT:
            raise UsageError(
                f"{self.text!r} has {self.repeats} repeats without a limit, which is too many for the name "
                f"{name[:40]!r}... of {len(name)} letters",
                "write it with fewer, or as a glob",
            )
        return self.expression.fullmatch(name)


def is_name(text: str, names: Container[str]) -> bool:
    """Whether a pattern is the name of a tensor, brackets and all; one with a star or ``?`` is always a pattern."""
    return "[" in text and not set("*?") & set(text) and text in names


def compile_pattern(text: str, origin: str) -> Pattern:
    """A case-sensitive `fnmatch` pattern, or ``re:`` and a regular expression.

    Raises
    ------
    UsageError
        For what is no regular expression, and for one with a repeat in which another one, or alternatives that begin
        alike, can match the same in many ways: such may not end for a name that nearly matches. A repeat within a
        repeat is accepted where its rounds cannot be confused, as those of ``([a-z]+[.])*`` are.
    """
    if not text.startswith("re:"):
        return Pattern(text, re.compile(translate(text), re.DOTALL))  # whose stars never try twice
    try:
        expression = re.compile(text[3:], re.DOTALL)
        ways, repeats = _cost(re._parser.parse(text[3:], re.DOTALL))  # type: ignore[attr-defined]
    except (re.error, RecursionError, OverflowError) as problem:
        raise UsageError(f"{origin}: {_shown(text)} is not a regular expression: {problem}") from None
    except _Nested:
        within = f" in {_shown(text)}" if (group := _nested_group(text[3:])) else ""
        raise UsageError(
            f"{origin}: {_shown(group or text)}{within} repeats what can itself match in many ways", _HINT
        ) from None
    if ways > _LIMIT:
        raise UsageError(f"{origin}: {_shown(text)} can be tried in more than {_LIMIT} ways", _HINT)
    return Pattern(text, expression, ways, repeats)


def bracket_hint(text: str) -> str:
    """A hint on the bracket of a name, for a glob that has one; empty for any other pattern."""
    return " (a [ begins a set of letters: [[] is the bracket itself)" if "[" in text and text[:3] != "re:" else ""


class _Nested(Exception):
    """A repeat of a part that can match in several ways."""


def _cost(items: Any) -> tuple[int, int]:
    """The ways to try the alternatives and limited repeats of an expression, and its repeats without limit."""
    ways, repeats = 1, 0
    for name, value in ((str(code), value) for code, value in items):
        more, open_ones = 1, 0
        if name.endswith("REPEAT"):
            low, high, body = value
            try:
                more, open_ones = _repeated(low, high, *_cost(body))
            except _Nested:
                if not rounds_are_distinct(body):
                    raise
                more, open_ones = 1, 1
        elif name == "BRANCH":
            more, open_ones = _branched(value[1])
        elif name == "GROUPREF_EXISTS":
            more, open_ones = _branched([part for part in value[1:] if part is not None], apart=False)
        else:  # groups and what looks around have parts; all else is a letter or a place
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, re._parser.SubPattern):  # type: ignore[attr-defined]
                    more, open_ones = _cost(part)
        ways, repeats = ways * more, repeats + open_ones
    return min(ways, _LIMIT + 1), repeats


def _repeated(low: int, high: Any, ways: int, repeats: int) -> tuple[int, int]:
    has_limit = high is not re._constants.MAXREPEAT  # type: ignore[attr-defined]
    if (ways > 1 or repeats) and (high > 1 if has_limit else True):
        if not has_limit or repeats:
            raise _Nested
        return min(ways ** min(high, 64), _LIMIT + 1) * (high - low + 1), 0
    return ((high - low + 1) * ways, repeats) if has_limit else (1, 1)


def _branched(parts: Sequence[Any], apart: bool = True) -> tuple[int, int]:
    """Alternatives that begin with letters of their own are not tried one after the other."""
    costs = [_cost(part) for part in parts]
    first = [_first(part) for part in parts]
    apart = apart and None not in first and len(set(first)) == len(first)
    ways = max(each for each, _ in costs) if apart else sum(each for each, _ in costs)
    return ways, max(repeats for _, repeats in costs)


def _first(part: Any) -> str | None:
    """The letter that an alternative begins with, in either case, if it is a certain one."""
    code, value = part[0] if len(part) else ("", 0)
    return chr(value).upper().casefold() if str(code) == "LITERAL" else None


def _nested_group(text: str) -> str:
    """The shortest group with its quantifier that is refused by itself; empty if none is."""
    found = []
    for start, end in _groups(text):
        quantified = _QUANTIFIER.match(text, end)
        group = text[start : quantified.end() if quantified else end]
        try:
            _cost(re._parser.parse(group, re.DOTALL))  # type: ignore[attr-defined]
        except _Nested:
            found.append(group)
        except (re.error, RecursionError, OverflowError):
            continue  # it refers to another group
    return min(found, key=len, default="")


def _groups(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of the groups of an expression."""
    begun: list[int] = []
    for token in _TOKEN.finditer(text):
        if token.group() == "(":
            begun.append(token.start())
        elif token.group() == ")" and begun:
            yield begun.pop(), token.end()


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}...")
