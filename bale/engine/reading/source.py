"""Reading the units of a source file in blocks of elements."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xxhash

from bale.compressors.chunks import flat_spec
from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.storage.bytes import ByteSource, Version
from bale.spec import Array, Unit


@dataclass(frozen=True)
class SourceFile:
    """An open checkpoint; `version` is the state that it had when it was opened."""

    checkpoint: Checkpoint
    source: ByteSource
    version: Version

    @classmethod
    def of(cls, checkpoint: Checkpoint, source: ByteSource) -> SourceFile:
        """Take an open source; raise `SourceError` when the file is not the one whose structure was read."""
        version = source.version
        if version[0] != checkpoint.size:
            raise SourceError(f"{checkpoint.path} changed while it was being read", CHANGED)
        return cls(checkpoint, source, version)

    def read(self, unit: Unit, start: int, count: int, buffer: Array) -> Array:
        """Elements `start` to `start + count` of a unit, in their storage bits, little-endian, in a leased buffer."""
        bits = unit.spec.info.bits
        at = unit.start + start * bits // 8
        self.source.read_into(buffer.data, at)
        array = buffer.view(unit.spec.storage)
        return array.byteswap(inplace=True) if unit.swapped else array

    def skeleton(self) -> bytes:
        """The bytes between the units."""
        return b"".join(self.source.read(size, start) for start, size in self.checkpoint.skeleton_ranges())

    def check_unchanged(self) -> None:
        """Raise `SourceError` when the file was written to since it was opened."""
        self.check_version(self.source.version)

    def check_version(self, version: Version) -> None:
        """Raise `SourceError` when the file is in another state than it was when it was opened."""
        if version != self.version:
            raise SourceError(f"{self.checkpoint.path} changed while it was being read", CHANGED)

    def differs(self, what: str) -> SourceError:
        """The error for a file that did not read the same twice."""
        return SourceError(f"{self.checkpoint.path} did not read the same twice, at {what}", UNSOUND)


@dataclass(frozen=True)
class UnitSource:
    """The values of one unit of an open checkpoint."""

    source: SourceFile
    unit: Unit

    def read(self, start: int, count: int, buffer: Array) -> Array:
        """Elements in their storage bits, in a buffer of as many bytes."""
        return self.source.read(self.unit, start, count, buffer)

    def sample(self, start: int, count: int) -> Array:
        """Elements in a new array."""
        return self.read(start, count, np.empty(flat_spec(self.unit.spec, count).nbytes, np.uint8))

    def differs(self) -> SourceError:
        """The error for a unit that did not read the same twice."""
        return self.source.differs(self.unit.label)


CHANGED = "run again when nothing writes to it"
UNSOUND = f"{CHANGED}; if nothing does, check the disk and the memory"


class Digest(threading.Thread):
    """SHA-256 of a source file, computed beside the work, and digests that prove that the work has read the same bytes.

    The file is read once here and once for coding: XXH3-128 digests of each unit and of the skeleton show whether both
    have read the same bytes.
    """

    def __init__(self, source: SourceFile) -> None:
        super().__init__(name="bale-sha256", daemon=True)
        self._source = source
        self._cancelled = threading.Event()
        self._digest = hashlib.sha256()
        self._skeleton = xxhash.xxh3_128()
        self._units: list[str] = []
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Hash the file from its first byte to its last."""
        checkpoint = self._source.checkpoint
        try:
            units = self._unit_digests()
            next(units)
            for piece in self._source.source.blocks(0, checkpoint.size):
                if self._cancelled.is_set():
                    return
                self._digest.update(piece)
                units.send(piece)
            units.close()
        except BaseException as error:  # nobody sees what ends a thread: `result` raises it
            self._error = error

    def _unit_digests(self) -> Generator[None, memoryview, None]:
        """Take the bytes of the file piece by piece, and digest each unit, and all that lies between units."""
        piece, taken, at = memoryview(b""), 0, 0

        def upto(end: int, digest: _Bytes) -> Generator[None, memoryview, None]:
            nonlocal piece, taken, at
            while at < end:
                if taken == len(piece):
                    piece, taken = (yield), 0
                size = min(end - at, len(piece) - taken)
                digest.update(piece[taken : taken + size])
                taken, at = taken + size, at + size

        for unit in self._source.checkpoint.units:
            yield from upto(unit.start, self._skeleton)
            digest = _Swapped(unit.spec.storage) if unit.swapped else xxhash.xxh3_128()
            yield from upto(unit.end, digest)
            self._units.append(digest.hexdigest())
        yield from upto(self._source.checkpoint.size, self._skeleton)
        yield  # the last piece has been taken

    def check(self, units: Sequence[str], skeleton: bytes) -> None:
        """Raise `SourceError` unless the work, with these digests of its units, has read the bytes digested here."""
        self.result()
        if xxhash.xxh3_128_hexdigest(skeleton) != self._skeleton.hexdigest():
            raise self._source.differs("its header")
        for unit, read, digested in zip(self._source.checkpoint.units, units, self._units, strict=True):
            if read != digested:
                raise self._source.differs(unit.label)

    def cancel(self) -> None:
        """End early; the source can be closed afterwards."""
        self._cancelled.set()
        self.join()

    def result(self) -> str:
        """The digest, once the file has been read."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._digest.hexdigest()


class _Bytes(Protocol):
    """A digest that bytes are fed to."""

    def update(self, data: memoryview, /) -> None:
        """Take the next bytes."""

    def hexdigest(self) -> str:
        """The digest of all."""


class _Swapped:
    """XXH3-128 of big-endian elements, taken as little-endian ones, which is how they are coded."""

    def __init__(self, storage: np.dtype[Any]) -> None:
        self._storage, self._digest, self._rest = storage, xxhash.xxh3_128(), b""

    def update(self, data: memoryview, /) -> None:
        """Take the next bytes, which may end within an element."""
        found = self._rest + bytes(data)
        whole = len(found) - len(found) % self._storage.itemsize
        self._digest.update(np.frombuffer(found[:whole], self._storage).byteswap().tobytes())
        self._rest = found[whole:]

    def hexdigest(self) -> str:
        """The digest of all whole elements."""
        return self._digest.hexdigest()
