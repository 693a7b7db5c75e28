"""Exceptions of readers, which do not know yet whose error it is."""

from __future__ import annotations

TEXT_LENGTH = 100


class Malformed(Exception):
    """The file begins as a known format and is broken; the message says what was found."""


class Unsupported(Exception):
    """Nothing is wrong with the file as far as is known, but its structure is not supported; the message is why."""


class TooMuch(Unsupported):
    """It has more than readers are willing to follow: where it is a part of a file, the others are not tried."""


def printable(text: str) -> str:
    """Text from a file in a form that may be shown: without control characters, and of limited length."""
    short = text if len(text) <= TEXT_LENGTH else text[:TEXT_LENGTH] + "..."
    return "".join(letter for letter in short if letter.isprintable())
