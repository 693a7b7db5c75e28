"""Bytes at offsets, wherever they are: the sources of format readers, and the sinks of archive writers."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from bale.errors import BaleError
from bale.spec import Array

BLOCK = 1 << 22  # bytes a sequential pass reads at a time: large enough that system calls cost nothing

Version = tuple[int, int]
"""The state of a source, which changes when it is written to: size and time of a file, or the equivalent of a store."""


class ByteSource(ABC):
    """Bytes that are read by ranges. All methods may be called by several threads.

    Attributes
    ----------
    name : str
        Its name in messages.
    error : type of BaleError
        Raised when it cannot be read.
    """

    name: str
    error: type[BaleError]

    @property
    @abstractmethod
    def version(self) -> Version:
        """Its state now; the first number is its size in bytes."""

    @abstractmethod
    def read_into(self, buffer: memoryview | Array, offset: int) -> None:
        """Fill a contiguous buffer from `offset`; a source that ends before is an error."""

    @abstractmethod
    def raising(self, error: type[BaleError]) -> ByteSource:
        """The same bytes, of which another error is raised."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.version[0]

    @property
    def attributes(self) -> os.stat_result | None:
        """Permissions and times, where it is a file of this machine."""
        return None

    @property
    def local_path(self) -> Path | None:
        """The path by which libraries can open it themselves, if they can."""
        return None

    def read(self, size: int, offset: int) -> bytes:
        """Bytes from `offset`, all or an error."""
        buffer = bytearray(size)
        self.read_into(memoryview(buffer), offset)
        return bytes(buffer)

    def blocks(self, start: int, size: int) -> Iterator[memoryview]:
        """The bytes of a range in order; each block is valid until the next is asked for."""
        buffer = memoryview(bytearray(min(size, BLOCK)))
        for at in range(start, start + size, BLOCK):
            block = buffer[: min(BLOCK, start + size - at)]
            self.read_into(block, at)
            yield block

    def sha256(self, size: int | None = None) -> str:
        """SHA-256 of all bytes, or of the first ones, in one sequential pass."""
        digest = hashlib.sha256()
        for block in self.blocks(0, self.size if size is None else size):
            digest.update(block)
        return digest.hexdigest()

    def stream(self) -> io.RawIOBase:
        """The same as a binary file that can be sought, for libraries."""
        return _Stream(self)


class ByteSink(ByteSource):
    """Bytes that are written by ranges, read back, and appear whole or not at all."""

    @abstractmethod
    def write(self, data: bytes | bytearray | memoryview | Array, offset: int) -> None:
        """Write all of `data` at `offset`; `OutputError` when that cannot be."""

    @abstractmethod
    def cut(self, size: int) -> None:
        """Make it end at this size."""

    @abstractmethod
    def commit(self) -> None:
        """Give it its name; without that, nothing is left."""


class _Stream(io.RawIOBase):
    def __init__(self, source: ByteSource) -> None:
        self._source, self._at = source, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._source.size}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, f"a negative offset: {start + offset}")  # as files do
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        size = max(0, min(view.nbytes, self._source.size - self._at))
        self._source.read_into(view[:size], self._at)
        self._at += size
        return size
