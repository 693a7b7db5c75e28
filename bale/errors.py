"""One tree of errors; each has its exit code and a hint for its reader."""

from __future__ import annotations

from typing import Any


def check_memory(problem: Exception) -> None:
    """Raise `MemoryError` where a library says in an error of its own that memory has run out: nothing is damaged."""
    if "not enough memory" in str(problem).lower():
        raise MemoryError(str(problem)) from None


class BaleError(Exception):
    """An expected failure, reported in one line.

    Parameters
    ----------
    message : str
        What was being done and to what, and what was found.
    hint : str
        What to do about it; empty when there is nothing to suggest.
    """

    code = 1
    kind = "internal"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    @property
    def lines(self) -> list[str]:
        """What is printed: one line, of a failed check also what is behind it."""
        return [str(self)]

    @property
    def details(self) -> dict[str, Any]:
        """What its JSON form has beside code, kind, message and hint."""
        return {}


class UsageError(BaleError):
    """The command, the recipe or the plan asks for something that cannot be done."""

    code = 2
    kind = "usage"


class Refused(UsageError):
    """A codec cannot take this tensor; the message is the reason, short enough for a note of kind `note`."""

    kind = "refused"

    def __init__(self, message: str, hint: str = "", note: str = "refused") -> None:
        super().__init__(message, hint)
        self.note = note


class SourceError(BaleError):
    """The source is unreadable, broken or unsafe, or the base is wrong or missing."""

    code = 3
    kind = "source"


class ArchiveError(BaleError):
    """The archive is not a bale, is damaged or truncated, or is of a newer version."""

    code = 4
    kind = "archive"


class CheckFailed(BaleError):
    """A check that the user asked for did not hold."""

    code = 5
    kind = "check"


class OutputError(BaleError):
    """The output could not be written, exists already, is the input, or is a folder."""

    code = 6
    kind = "output"


class OutOfRoom(OutputError):
    """The output did not fit where it was to be written.

    `needed` is how many bytes there must be at least, `whole` in words how many the result takes, if that is known.
    """

    def __init__(self, message: str, needed: int, whole: str = "") -> None:
        also = f", about {whole} in all" if whole else ""
        hint = f"it needs at least {needed} bytes there{also}; free some space or choose another place with -o"
        super().__init__(message, hint)
        self.needed = needed
