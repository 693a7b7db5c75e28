"""The files of a folder that are wanted: `--include` and `--exclude`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Selection:
    """Patterns on paths within a folder (`fnmatch`, whose ``*`` crosses slashes; one that ends in ``/`` is a folder's).

    A file is taken if it matches one of `include`, where there are any, and none of `exclude`. With `allow_unmatched`
    a pattern that matches no file is no error.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    allow_unmatched: bool = field(default=False, compare=False)

    def __bool__(self) -> bool:
        return bool(self.include or self.exclude)

    def takes(self, name: str) -> bool:
        """Whether a file is wanted."""
        return not self.excludes(name) and (not self.include or _any(self.include, name))

    def excludes(self, name: str) -> bool:
        """Whether a file is unwanted by name."""
        return _any(self.exclude, name)

    def unmatched(self, names: Iterable[str]) -> list[str]:
        """Options whose pattern matches none of these names."""
        left = [("--include", each) for each in self.include] + [("--exclude", each) for each in self.exclude]
        for name in names:
            if not left:
                break
            left = [(option, pattern) for option, pattern in left if not _any((pattern,), name)]
        return [f"{option} {pattern!r}" for option, pattern in left]

    @property
    def options(self) -> str:
        """The options that were given, in words."""
        given = (("--include", self.include), ("--exclude", self.exclude))
        return " and ".join(option for option, patterns in given if patterns)

    def __str__(self) -> str:
        given = [("--include", each) for each in self.include] + [("--exclude", each) for each in self.exclude]
        return " ".join(f"{option} {shlex.quote(each)}" for option, each in given)


ALL = Selection()


def _any(patterns: tuple[str, ...], name: str) -> bool:
    return any(fnmatchcase(name, f"{each}*" if each.endswith("/") else each) for each in patterns)
