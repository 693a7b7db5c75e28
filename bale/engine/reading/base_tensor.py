"""One tensor of a base: a reference, read or decoded as far as it is asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import xxhash

from bale.compressors.base import Cells, Reference, once
from bale.compressors.chunks import flat_bytes, flat_spec
from bale.compressors.floats import from_float32, to_float32
from bale.engine.coding.stored import DecodeTask
from bale.spec import Array, TensorSpec, Unit

_SAMPLE = 1 << 16
_KEPT = 4  # decoded tasks: those that the chunks at hand lie in, of one tensor or two


@dataclass(frozen=True, eq=False)
class BaseTensor:
    """A tensor of a base, read or decoded in runs of elements, in the dtype of the tensor that is coded given it."""

    unit: Unit
    spec: TensorSpec
    pieces: Sequence[DecodeTask]
    cache: DecodedCache
    stored_digest: str | None = None

    @cached_property
    def digest(self) -> str:
        """XXH3-128 of its bytes as they are in the base."""
        if self.stored_digest is not None:
            return self.stored_digest
        digest = xxhash.xxh3_128()
        for piece in self.pieces:
            digest.update(flat_bytes(piece.load().values).data)
        return digest.hexdigest()

    def elements(self, start: int, count: int) -> Reference:
        """The reference for `count` elements from `start` on."""
        found = list(self._runs(start, count))
        array = np.concatenate([reference.values for reference in found]) if len(found) != 1 else found[0].values
        if len(found) == 1 or any(reference.cells is None for reference in found):
            return Reference(array, found[0].cells if len(found) == 1 else None)
        return Reference(array, once(partial(_joined, found)))

    def subtract(self, array: Array, start: int) -> Array:
        """Elements less those of the base from `start` on: a float32 difference, rounded to the dtype."""
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
    def sample_cost(self) -> int:
        """Bytes in memory while `is_related` is computed."""
        start, count = self._middle
        pieces = [piece for piece in self.pieces if piece.start < start + count and start < piece.start + piece.count]
        return sum(piece.cost for piece in pieces)

    @property
    def _middle(self) -> tuple[int, int]:
        """Start and length of the sample."""
        count = min(_SAMPLE, self.spec.elements)
        return (self.spec.elements - count) // 2, count

    def of(self, spec: TensorSpec) -> BaseTensor:
        """The same tensor for one of another dtype."""
        return BaseTensor(self.unit, spec, self.pieces, self.cache, self.stored_digest)

    def _values(self, start: int, count: int) -> Array:
        return to_float32(self.elements(start, count).values, flat_spec(self.spec, count))

    def _runs(self, start: int, count: int) -> Iterator[Reference]:
        for piece in self.pieces:
            first, last = max(start, piece.start), min(start + count, piece.start + piece.count)
            if first < last:
                reference = self.cache.load(piece)
                cut = reference.cut(first - piece.start, last - piece.start)
                yield Reference(self._cast(cut.values), cut.cells)

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


class DecodedCache:
    """The pieces decoded last, for all threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[DecodeTask, Reference] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, piece: DecodeTask) -> Reference:
        """The values of a piece; decoded twice where two threads ask for it at the same time, which is rare."""
        with self._lock:
            if piece in self._kept:
                self._kept.move_to_end(piece)
                return self._kept[piece]
        reference = piece.load()
        with self._lock:
            self._kept[piece] = reference
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return reference
