"""Reading ahead: small pieces that lie near each other are read together."""

from __future__ import annotations

import os
from pathlib import Path

from bale.errors import BaleError
from bale.io.storage.bytes import ByteSource, Version
from bale.spec import Array

_WINDOW, _NEAR = 1 << 16, 1 << 14
"""Bytes that are read at once, and up to which what follows lies near: a window is worth four reads or more then."""


class Ahead(ByteSource):
    """Another source, whose size is asked for once.

    A piece that begins soon behind the last one is read with what follows it; one that lies far from it is read alone.
    """

    def __init__(self, whole: ByteSource) -> None:
        self._whole, self._size = whole, whole.size
        self._held = 0, b""  # an offset, and the bytes from there on
        self.name, self.error = whole.name, whole.error

    @property
    def version(self) -> Version:
        """That of the other."""
        return self._whole.version

    @property
    def size(self) -> int:
        """Bytes, when it was opened."""
        return self._size

    @property
    def attributes(self) -> os.stat_result | None:
        """Those of the other."""
        return self._whole.attributes

    @property
    def local_path(self) -> Path | None:
        """That of the other."""
        return self._whole.local_path

    def read(self, size: int, offset: int) -> bytes:
        """Bytes from `offset`, all or an error."""
        first, held = self._held
        start = offset - first
        if 0 <= start <= len(held) - size:
            return held[start : start + size]
        is_near = 0 <= start <= len(held) + _NEAR
        held = self._whole.read(max(size, min(_WINDOW, self._size - offset)) if is_near else size, offset)
        if size <= _WINDOW:
            self._held = offset, held
        return held[:size]

    def read_into(self, buffer: memoryview | Array, offset: int) -> None:
        """Fill a contiguous buffer from `offset`."""
        self._whole.read_into(buffer, offset)

    def raising(self, error: type[BaleError]) -> Ahead:
        """The same bytes, of which another error is raised."""
        return Ahead(self._whole.raising(error))
