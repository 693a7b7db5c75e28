"""Memory that is large and given back piece by piece."""

from __future__ import annotations

import mmap
import sys
from contextlib import suppress

import numpy as np

from bale.spec import Array

_PIECE = mmap.PAGESIZE


class Pages:
    """Bytes of which those that are done with go back to the system at once.

    Others are kept by the process for arrays to come, of the thread that had them. Large pages are asked for: to be
    given 4 KiB a time takes longer than to code what they hold. Where a system has no such calls it is an array as any.

    Attributes
    ----------
    array : Array
        uint8, with arbitrary content.
    """

    def __init__(self, size: int) -> None:
        self._map: mmap.mmap | None = None
        if sys.platform == "linux" and size:
            self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            with suppress(OSError):  # a system without large pages
                self._map.madvise(mmap.MADV_HUGEPAGE)
        self.array: Array = np.empty(size, np.uint8) if self._map is None else np.frombuffer(self._map, np.uint8)

    def free(self, start: int, stop: int) -> None:
        """Give back the bytes of a range, as far as they are whole pages; they must not be used afterwards."""
        first, last = -(-start // _PIECE) * _PIECE, stop // _PIECE * _PIECE
        if sys.platform == "linux" and self._map is not None and first < last:
            with suppress(OSError):
                self._map.madvise(mmap.MADV_DONTNEED, first, last - first)
