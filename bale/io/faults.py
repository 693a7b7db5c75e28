"""How a reader says that it cannot go on, before anyone knows whose error that is."""

from __future__ import annotations


class Broken(Exception):
    """The file begins as a known format and is broken; the message says what was found."""


class NotFollowed(Exception):
    """Nothing is wrong with the file as far as is known, but its structure is not followed; the message is why."""
