"""Bytes in memory, as a source and as a sink."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np

from bale.errors import BaleError, OutputError, SourceError
from bale.io.storage.bytes import ByteSink, Version
from bale.io.storage.files import flat
from bale.spec import Array


class InMemory(ByteSink):
    """A buffer that grows; it is `committed`, or empty again when its context ends."""

    def __init__(self, data: bytes = b"", error: type[BaleError] = SourceError) -> None:
        self.data, self.name, self.error = bytearray(data), "memory", error
        self.committed = False
        self._changes = 0

    @classmethod
    def of(cls, path: Path) -> InMemory:
        return cls(path.read_bytes())

    @property
    def version(self) -> Version:
        return len(self.data), self._changes

    def read_into(self, buffer: memoryview | Array, offset: int) -> None:
        view = flat(buffer)
        found = memoryview(self.data)[offset : offset + view.nbytes]
        if found.nbytes < view.nbytes:
            raise self.error(f"{self.name} ends at byte {len(self.data)}, {view.nbytes - found.nbytes} bytes early")
        if view.nbytes:
            view[:] = found

    def raising(self, error: type[BaleError]) -> InMemory:
        other = InMemory(error=error)
        other.data = self.data
        return other

    def write(self, data: bytes | bytearray | memoryview | Array, offset: int) -> None:
        if offset < 0:
            raise OutputError("a negative offset")
        view = flat(data)
        if view.nbytes:
            self.data += bytes(max(0, offset + view.nbytes - len(self.data)))
            np.frombuffer(self.data, np.uint8)[offset : offset + view.nbytes] = view
            self._changes += 1

    def cut(self, size: int) -> None:
        del self.data[size:]
        self.data += bytes(size - len(self.data))
        self._changes += 1

    def commit(self) -> None:
        self.committed = True

    def __enter__(self) -> InMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.committed:
            self.cut(0)
