"""Exceptions of readers, which do not know yet whose error it is."""

from __future__ import annotations

from bale.notes import Note

TEXT_LENGTH = 100


class Malformed(Exception):
    """The file begins as a known format and is broken; the message says what was found."""


class Unsupported(Exception):
    """Nothing is wrong with the file as far as is known, but its structure is not supported; the message is why.

    Attributes
    ----------
    notes : tuple of Note
        What is to be said of the file all the same.
    """

    def __init__(self, reason: str, notes: tuple[Note, ...] = ()) -> None:
        super().__init__(reason)
        self.notes = notes


class TooMuch(Unsupported):
    """It has more than readers are willing to follow: where it is a part of a file, the others are not tried."""


def printable(text: str) -> str:
    """Text from a file in a form that may be shown: without control characters, and of limited length."""
    short = text if len(text) <= TEXT_LENGTH else text[:TEXT_LENGTH] + "..."
    return "".join(letter for letter in short if letter.isprintable())
