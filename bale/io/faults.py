"""How a reader says that it cannot go on, before anyone knows whose error that is."""

from __future__ import annotations

TEXT_LENGTH = 100


class Malformed(Exception):
    """The file begins as a known format and is broken; the message says what was found."""


class Unsupported(Exception):
    """Nothing is wrong with the file as far as is known, but its structure is not followed; the message is why."""


def printable(text: str) -> str:
    """Text from a file as it may be shown: without control characters, and not endless."""
    short = text if len(text) <= TEXT_LENGTH else text[:TEXT_LENGTH] + "..."
    return "".join(letter for letter in short if letter.isprintable())
