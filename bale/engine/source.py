"""Reading the units of a source file in blocks of elements."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass

import numpy as np

from bale.compressors.floats import to_float32
from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.files import pieces, read_bytes, read_into
from bale.spec import Array, TensorSpec, Unit


@dataclass(frozen=True)
class SourceFile:
    """An open checkpoint."""

    checkpoint: Checkpoint
    descriptor: int
    stat: os.stat_result

    @classmethod
    def of(cls, checkpoint: Checkpoint, descriptor: int) -> SourceFile:
        """Take an open descriptor; raise `SourceError` when the file is not the one whose structure was read."""
        stat = os.fstat(descriptor)
        if stat.st_size != checkpoint.size:
            raise SourceError(f"{checkpoint.path} changed while it was being read", CHANGED)
        return cls(checkpoint, descriptor, stat)

    def read(self, unit: Unit, start: int, count: int, buffer: Array) -> Array:
        """Elements `start` to `start + count` of a unit, in their storage bits, little-endian, in a leased buffer."""
        bits = unit.spec.info.bits
        at = unit.start + start * bits // 8
        read_into(self.descriptor, buffer.data, at, SourceError, str(self.checkpoint.path))
        array = buffer.view(unit.spec.storage)
        return array.byteswap(inplace=True) if unit.swapped else array

    def skeleton(self) -> bytes:
        """The bytes between the units."""
        name = str(self.checkpoint.path)
        return b"".join(
            read_bytes(self.descriptor, size, start, SourceError, name)
            for start, size in self.checkpoint.skeleton_ranges()
        )

    def check_unchanged(self) -> None:
        """Raise `SourceError` when the file was written to since it was opened."""
        now = os.fstat(self.descriptor)
        if (now.st_size, now.st_mtime_ns) != (self.stat.st_size, self.stat.st_mtime_ns):
            raise SourceError(f"{self.checkpoint.path} changed while it was being read", CHANGED)


CHANGED = "run again when nothing writes to it"


class Digest(threading.Thread):
    """SHA-256 of a source file, computed beside the work."""

    def __init__(self, source: SourceFile) -> None:
        super().__init__(name="bale-sha256", daemon=True)
        self._source = source
        self._cancelled = threading.Event()
        self._digest = hashlib.sha256()
        self._error: SourceError | None = None
        self.start()

    def run(self) -> None:
        """Hash the file from its first byte to its last."""
        source = self._source
        try:
            name = str(source.checkpoint.path)
            for piece in pieces(source.descriptor, 0, source.checkpoint.size, SourceError, name):
                if self._cancelled.is_set():
                    return
                self._digest.update(piece)
        except SourceError as error:
            self._error = error

    def cancel(self) -> None:
        """End early; the descriptor can be closed afterwards."""
        self._cancelled.set()
        self.join()

    def result(self) -> str:
        """The digest, once the file has been read."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._digest.hexdigest()


def numbers(array: Array, spec: TensorSpec) -> Array | None:
    """The values of a floating-point array as float64 (from F64) or float32, or None for all other dtypes."""
    if not spec.is_float or spec.info.packed or spec.dtype == "F8_E8M0":
        return None
    return array if spec.dtype == "F64" else to_float32(array, spec)


def all_finite(values: Array) -> bool:
    """Whether an array of floats holds no NaN and no infinity."""
    return bool(np.isfinite(values).all())
