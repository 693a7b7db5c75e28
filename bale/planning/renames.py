"""Renames: from the names of a checkpoint to those of the one that it was made from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bale.errors import UsageError
from bale.planning.patterns import Pattern, compile_pattern

_GROUP = re.compile(r"\\(?:(\d{1,2})|g<(\w+)>)")
_HINT = r"write re: and a regular expression, =, and the name in the base, like 're:net[.](.*)=model.\1'"


@dataclass(frozen=True)
class Rename:
    """One ``--rename``: names that match the pattern as a whole, and what they are called in the base."""

    text: str
    pattern: Pattern
    name: str

    @classmethod
    def parse(cls, text: str) -> Rename:
        r"""``re:PATTERN=NAME`` with ``\1`` or ``\g<name>`` in it, or ``OLD*=NEW*``, where stars stand for each other.

        Raises
        ------
        UsageError
            For what is neither, and for groups that the pattern does not have.
        """
        pattern, sign, name = text.partition("=")
        if not sign or not pattern.removeprefix("re:") or not name:
            raise UsageError(f"--rename {text!r} is not PATTERN=NAME", _HINT)
        if not pattern.startswith("re:"):
            pieces = pattern.split("*")
            pattern = "re:" + "(.*)".join(map(re.escape, pieces))
            first, *rest = name.split("*")
            name = first + "".join(rf"\g<{number}>{piece}" for number, piece in enumerate(rest, 1))
        compiled = compile_pattern(pattern, "--rename")
        for number, group in _GROUP.findall(name):
            if (number or group) not in _groups(compiled):
                raise UsageError(f"--rename {text!r}: the pattern has no group {number or group}", _HINT)
        return cls(text, compiled, name)

    def apply(self, name: str) -> str | None:
        """The name in the base; None for a name that does not match."""
        found = self.pattern.fullmatch(name)
        if found is None:
            return None
        return _GROUP.sub(lambda group: found[_key(group[1] or group[2])] or "", self.name)


@dataclass(frozen=True)
class Renames:
    """All renames of a command; the first that matches a name counts."""

    renames: tuple[Rename, ...] = ()

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Renames:
        """Parse each; see `Rename.parse`."""
        return cls(tuple(map(Rename.parse, texts)))

    def apply(self, name: str) -> str:
        """The name in the base."""
        return next((new for each in self.renames if (new := each.apply(name)) is not None), name)

    def check(self, names: Sequence[str]) -> None:
        """Raise `UsageError` for a rename that matches none of these names."""
        for each in self.renames:
            if not any(each.apply(name) is not None for name in names):
                raise UsageError(f"--rename {each.text!r} matches no tensor", "see the names with `bale inspect`")

    def __str__(self) -> str:
        return " ".join(each.text for each in self.renames)


def _groups(pattern: Pattern) -> set[str]:
    """Names and numbers of the groups of a pattern."""
    return {*pattern.expression.groupindex, *map(str, range(pattern.expression.groups + 1))}


def _key(group: str) -> int | str:
    return int(group) if group.isdecimal() else group
