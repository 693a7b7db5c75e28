"""The values of one unit of a checkpoint or an archive, read or decoded as far as they are asked for."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import xxhash

from bale.compressors.base import Cells, Reference, once
from bale.compressors.chunks import chunk_ranges, flat_bytes, flat_spec
from bale.compressors.floats import from_float32, to_float32
from bale.engine.coding.stored import DecodeTask
from bale.engine.reading.decode import Decoder
from bale.engine.reading.source import SourceFile
from bale.spec import CHUNK_LIMIT, Array, TensorSpec, Unit

_SAMPLE = 1 << 16
_TASKS = 64  # units whose tasks are kept: those at hand
_KEPT, _KEPT_BYTES = 4, 64 << 20  # decoded pieces: those that the chunks at hand lie in, of one tensor or two


@dataclass(frozen=True, eq=False)
class UnitValues(ABC):
    """The values of a unit in runs of elements, as the `spec` of the tensor that they are wanted for.

    That may have another dtype, and another first dimension: values beyond those of the unit are zeros.
    """

    unit: Unit
    spec: TensorSpec

    @property
    @abstractmethod
    def digest(self) -> str:
        """XXH3-128 of its bytes as they are in the file."""

    @property
    @abstractmethod
    def largest_cost(self) -> int:
        """Bytes in memory while any run is read or decoded, at most."""

    @abstractmethod
    def _runs_within(self, start: int, count: int) -> Iterator[Reference]:
        """The values of elements that the unit has, in runs."""

    def elements(self, start: int, count: int) -> Reference:
        """The values of `count` elements from `start` on."""
        found = list(self._runs(start, count))
        array = np.concatenate([reference.values for reference in found]) if len(found) != 1 else found[0].values
        if len(found) == 1 or any(reference.cells is None for reference in found):
            return Reference(array, found[0].cells if len(found) == 1 else None)
        return Reference(array, once(partial(_joined, found)))

    def read(self, start: int, count: int) -> Array:
        """The same, in their storage bits alone."""
        return self.elements(start, count).values

    def subtract(self, array: Array, start: int) -> Array:
        """Elements less those of the unit from `start` on: a float32 difference, rounded to the dtype."""
        spec = flat_spec(self.spec, array.size)
        with np.errstate(invalid="ignore", over="ignore"):
            return from_float32(to_float32(array, spec) - self._values(start, array.size), spec)

    def add(self, array: Array, start: int) -> Array:
        """The mirror image of `subtract`, up to rounding."""
        spec = flat_spec(self.spec, array.size)
        return from_float32(to_float32(array, spec) + self._values(start, array.size), spec)

    def is_related(self, source: Callable[[int, int], Array]) -> bool:
        """Whether a sample of a tensor, read by `source`, has more in common with this one than with nothing."""
        from bale.compressors.conditional import delta

        start, count = self._middle
        word = f"<u{self.spec.storage.itemsize}"
        reference = self.elements(start, count).values
        return delta.is_related(source(start, count).view(word), reference.view(word), self.spec.dtype)

    @property
    def common_rows(self) -> int | None:
        """The rows that both have, where the wanted tensor has another number of them."""
        wanted, own = self.spec.shape, self.unit.spec.shape
        return min(wanted[0], own[0]) if wanted != own else None

    @property
    def _middle(self) -> tuple[int, int]:
        """Start and length of the sample."""
        elements = min(self.spec.elements, self.unit.spec.elements)
        count = min(_SAMPLE, elements)
        return (elements - count) // 2, count

    def of(self, spec: TensorSpec) -> UnitValues:
        """The same values for a tensor of another dtype, or with another number of rows."""
        return self if spec == self.spec else replace(self, spec=spec)

    def _values(self, start: int, count: int) -> Array:
        return to_float32(self.elements(start, count).values, flat_spec(self.spec, count))

    def _runs(self, start: int, count: int) -> Iterator[Reference]:
        own = min(start + count, self.unit.spec.elements) - start
        if own > 0:
            for reference in self._runs_within(start, own):
                yield Reference(self._cast(reference.values), reference.cells)
        if count > max(own, 0):
            yield Reference(np.zeros(count - max(own, 0), self.spec.storage))

    def _cast(self, array: Array) -> Array:
        """Elements as the wanted dtype."""
        source = flat_spec(self.unit.spec, array.size)
        if source.dtype == self.spec.dtype:
            return array
        with np.errstate(over="ignore"):
            return from_float32(to_float32(array, source), flat_spec(self.spec, array.size))


def _joined(found: Sequence[Reference]) -> Cells | None:
    """The cells of runs that follow each other."""
    ends = [reference.ends for reference in found if reference.ends is not None]
    return Cells.joined(ends) if len(ends) == len(found) else None


@dataclass(frozen=True, eq=False)
class PlainValues(UnitValues):
    """Those of a unit of an open checkpoint."""

    source: SourceFile

    @classmethod
    def of_unit(cls, source: SourceFile, unit: Unit) -> PlainValues:
        """All of a unit, as it is."""
        return cls(unit, unit.spec, source)

    @cached_property
    def digest(self) -> str:  # noqa: D102
        digest = xxhash.xxh3_128()
        for start, count in chunk_ranges(self.unit.spec.elements):
            digest.update(flat_bytes(self._read(start, count)).data)
        return digest.hexdigest()

    @property
    def largest_cost(self) -> int:  # noqa: D102
        return flat_spec(self.unit.spec, min(CHUNK_LIMIT, self.unit.spec.elements)).nbytes

    def _runs_within(self, start: int, count: int) -> Iterator[Reference]:
        yield Reference(self._read(start, count))

    def _read(self, start: int, count: int) -> Array:
        size = flat_spec(self.unit.spec, count).nbytes
        return self.source.read(self.unit, start, count, np.empty(size, np.uint8))


@dataclass(frozen=True, eq=False)
class DecodedValues(UnitValues):
    """Those of a unit of an open archive; its side parts are decoded when values are asked for."""

    decoder: Decoder
    index: int
    cache: DecodedCache

    @classmethod
    def of_unit(cls, decoder: Decoder, index: int, cache: DecodedCache) -> DecodedValues:
        """All of a unit, as it is."""
        unit = decoder.archive.manifest.units[index].unit
        return cls(unit, unit.spec, decoder, index, cache)

    @property
    def digest(self) -> str:  # noqa: D102
        return self.decoder.archive.manifest.units[self.index].digest

    @cached_property
    def largest_cost(self) -> int:  # noqa: D102
        return max((piece.cost for piece in self.cache.tasks(self.decoder, self.index)), default=0)

    def _runs_within(self, start: int, count: int) -> Iterator[Reference]:
        pieces = self.cache.tasks(self.decoder, self.index)
        at = max(0, bisect_right(pieces, start, key=lambda piece: piece.start) - 1)
        while at < len(pieces) and pieces[at].start < start + count:
            piece = pieces[at]
            first, last = max(start, piece.start), min(start + count, piece.start + piece.count)
            if first < last:
                yield self.cache.load(piece).cut(first - piece.start, last - piece.start)
            at += 1


class DecodedCache:
    """The pieces decoded last, for all threads; each is decoded by one of them while the others wait.

    So are the tasks of units, which hold their side parts.
    """

    def __init__(self) -> None:
        self._tasks: OrderedDict[tuple[int, int], list[DecodeTask]] = OrderedDict()
        self._kept: OrderedDict[DecodeTask, Reference] = OrderedDict()
        self._loading: dict[DecodeTask, threading.Lock] = {}
        self._lock = threading.Lock()

    def tasks(self, decoder: Decoder, index: int) -> list[DecodeTask]:
        """The tasks that decode a unit."""
        key = id(decoder), index
        with self._lock:
            if key in self._tasks:
                self._tasks.move_to_end(key)
                return self._tasks[key]
        found = decoder.tasks(index)
        with self._lock:
            found = self._tasks.setdefault(key, found)
            while len(self._tasks) > _TASKS:
                self._tasks.popitem(last=False)
        return found

    def load(self, piece: DecodeTask) -> Reference:
        """The values of a piece."""
        with self._lock:
            if (found := self._found(piece)) is not None:
                return found
            loading = self._loading.setdefault(piece, threading.Lock())
        with loading:
            with self._lock:
                if (found := self._found(piece)) is not None:
                    return found
            try:
                reference = piece.load()
                with self._lock:
                    self._keep(piece, reference)
            finally:
                with self._lock:
                    self._loading.pop(piece, None)
        return reference

    def _found(self, piece: DecodeTask) -> Reference | None:
        if piece not in self._kept:
            return None
        self._kept.move_to_end(piece)
        return self._kept[piece]

    def _keep(self, piece: DecodeTask, reference: Reference) -> None:
        """Keep a piece, and of the others as many as are small, or the last one."""
        self._kept[piece] = reference
        while len(self._kept) > _KEPT or (len(self._kept) > 2 and self._size > _KEPT_BYTES):
            self._kept.popitem(last=False)

    @property
    def _size(self) -> int:
        return sum(reference.values.nbytes for reference in self._kept.values())
