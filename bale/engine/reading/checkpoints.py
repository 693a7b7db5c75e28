"""The tensors of checkpoint files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bale.compressors.chunks import chunk_ranges, flat_bytes
from bale.engine.reading.names import Names, Place, label, opaque_notes
from bale.engine.reading.source import SourceFile
from bale.engine.reading.tensors import Tensors
from bale.engine.reading.unit_values import PlainValues, UnitValues
from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.sources.open import open_checkpoint
from bale.io.storage.files import reading
from bale.spec import Array, Unit


class Checkpoints(Tensors):
    """The tensors of checkpoint files, which lie below `folder` if that is given."""

    def __init__(self, paths: Sequence[Path], folder: Path | None = None) -> None:
        super().__init__()
        found: list[tuple[str, Checkpoint]] = []
        self._units: list[tuple[SourceFile, Unit]] = []
        try:
            for path in paths:
                checkpoint = open_checkpoint(path)
                found.append((label(path, folder), checkpoint))
                opened = self._resources.enter_context(reading(path, SourceError))
                source = SourceFile.of(checkpoint, opened)
                self._units += [(source, unit) for unit in checkpoint.units]
        except BaseException:
            self.close()
            raise
        self._of_files = opaque_notes((name, each.kind, each.notes) for name, each in found)
        units = [(label(source.checkpoint.path, folder), unit) for source, unit in self._units]
        self._names = Names.of(units, self._are_equal)

    def _are_equal(self, place: Place, other: Place) -> bool:
        """Whether two tensors hold the same bits: they are read until they do not."""
        first, second = self._run_of(place), self._run_of(other)
        if first is None or second is None or place[1].spec != other[1].spec or first.axes != second.axes:
            return False
        size = place[1].spec.elements
        ranges = [((size - 1) // 2, 1), *chunk_ranges(size)] if size else []
        return all(np.array_equal(flat_bytes(first.read(*each)), flat_bytes(second.read(*each))) for each in ranges)

    def _values(self, index: int) -> UnitValues:
        return PlainValues.of_unit(*self._units[index])

    def _unit(self, index: int) -> Array:
        source, unit = self._units[index]
        return source.read(unit, 0, unit.spec.elements, np.empty(unit.spec.nbytes, np.uint8))
