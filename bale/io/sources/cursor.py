"""Reads a structure from its front to its back, whatever lengths it claims."""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

from bale.io.faults import Malformed
from bale.io.storage.bytes import ByteSource

_WINDOW = 1 << 18
TEXT_LIMIT = 1 << 20


class Cursor:
    """A place in a source that moves on with each number that is read.

    Nothing is read that the source has not, and little more at a time than is asked for.

    Parameters
    ----------
    order : str
        ``<`` for numbers that are little-endian, ``>`` for big-endian ones.
    at, end : int
        Where it begins, and what it does not pass; the end of the source without one.
    window : int
        Bytes that are read at a time: fewer, where much is skipped.

    Raises
    ------
    Malformed
        By all that moves on, where it would pass the end.
    """

    def __init__(
        self, source: ByteSource, order: str = "<", at: int = 0, end: int | None = None, window: int = _WINDOW
    ) -> None:
        self.source, self.order, self.at, self._size = source, order, at, window
        self.end = source.size if end is None else end
        self._first, self._window = 0, b""

    @property
    def left(self) -> int:
        """Bytes before the end."""
        return self.end - self.at

    def numbers(self, form: str) -> tuple[Any, ...]:
        """Numbers as `struct` names them, without gaps."""
        packed = _packed(self.order + form)
        start = self._reach(packed.size)
        return packed.unpack_from(self._window, start)

    def number(self, form: str) -> int:
        """One of them."""
        found: int = self.numbers(form)[0]
        return found

    def varint(self) -> int:
        """A number in bytes of seven bits, lowest first, with the highest bit set on all but the last; below 2^64."""
        start = self.at - self._first
        if 0 <= start < len(self._window) and (byte := self._window[start]) < 128:  # nearly always
            self.at += 1
            return byte
        start, value, shift = self._reach(1), 0, 0
        while (byte := self._window[start]) > 127 and shift < 63:
            value |= (byte & 127) << shift
            shift += 7
            start = self._reach(1)
        if byte > (127 if shift < 63 else 1):
            raise Malformed(f"it has a number of more than 64 bits at byte {self.at}")
        return value | byte << shift

    def text(self, size: int) -> bytes:
        """Bytes of a text, of which only short ones are read."""
        if size > TEXT_LIMIT:
            raise Malformed(f"it has a name of {size} bytes at byte {self.at}")
        start = self._reach(size)
        return self._window[start : start + size]

    def skip(self, size: int) -> None:
        """Move on without reading."""
        self._check(size)
        self.at += size

    def _reach(self, size: int) -> int:
        """Move on by bytes that are held then; where in the window they begin."""
        start = self.at - self._first
        if start < 0 or start + size > len(self._window):  # which never passes the end
            self._check(size)
            self._window = self.source.read(min(max(size, self._size), self.left), self.at)
            self._first, start = self.at, 0
        self.at += size
        return start

    def _check(self, size: int) -> None:
        if size > self.left:
            raise Malformed(f"it ends at byte {self.end}, within its structure")


@cache
def _packed(form: str) -> struct.Struct:
    return struct.Struct(form)
