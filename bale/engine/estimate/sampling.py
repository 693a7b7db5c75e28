"""Samples: parts of a tensor that stand for all of it, each read as a small tensor of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bale.compressors.base import Reference
from bale.compressors.chunks import flat_bytes, flat_spec
from bale.engine.coding.task import ReferenceTensor
from bale.engine.reading.source import SourceFile
from bale.metrics import row_width
from bale.spec import Array, TensorSpec, Unit

SAMPLE = 1 << 20  # elements a tensor at the most


@dataclass(frozen=True)
class Sample:
    """Runs of elements of a tensor, as a small tensor.

    Attributes
    ----------
    spec : TensorSpec
        Of the small tensor.
    array : Array
        Its elements, flat, in their storage bits.
    starts : sequence of int
        Where its runs, of equal length, begin in the tensor.
    """

    spec: TensorSpec
    array: Array
    starts: Sequence[int]

    def read(self, start: int, count: int, buffer: Array) -> Array:
        """Elements of the small tensor, in a buffer of as many bytes."""
        at = start * self.spec.info.bits // 8
        buffer[:] = flat_bytes(self.array)[at : at + buffer.size]
        return buffer.view(self.spec.storage)

    def differs(self) -> Exception:
        """Never asked for: it is in memory."""
        return AssertionError("a sample does not change")

    def of(self, reference: ReferenceTensor | None) -> SampledReference | None:
        """The same elements of a reference."""
        return None if reference is None else SampledReference(reference, self.starts, self.spec.elements)


@dataclass(frozen=True)
class SampledReference:
    """The elements of a reference that those of a sample are coded given."""

    tensor: ReferenceTensor
    starts: Sequence[int]
    size: int

    def elements(self, start: int, count: int) -> Reference:
        """Its elements from `start` on; with the ends of their cells only where they are one run."""
        found = [self.tensor.elements(at, size) for at, size in self._runs(start, count)]
        return found[0] if len(found) == 1 else Reference(np.concatenate([reference.values for reference in found]))

    def subtract(self, array: Array, start: int) -> Array:
        """Elements less its own from `start` on."""
        runs = self._runs(start, array.size)
        return np.concatenate([self.tensor.subtract(each, at) for each, at in _cut(array, runs)])

    def add(self, array: Array, start: int) -> Array:
        """Add its own elements back to differences."""
        runs = self._runs(start, array.size)
        return np.concatenate([self.tensor.add(each, at) for each, at in _cut(array, runs)])

    def _runs(self, start: int, count: int) -> Iterator[tuple[int, int]]:
        """Places of elements of the sample in the tensor: first one and number of each run."""
        length, stop = self.size // len(self.starts), start + count
        while start < stop:
            number, at = divmod(start, length)
            size = min(length - at, stop - start)
            yield self.starts[number] + at, size
            start += size


def _cut(array: Array, runs: Iterator[tuple[int, int]]) -> Iterator[tuple[Array, int]]:
    at = 0
    for start, size in runs:
        yield array[at : at + size], start
        at += size


def rows_of(source: SourceFile, unit: Unit, most: int = SAMPLE) -> Sample:
    """Whole rows spread over a tensor: a smaller tensor of the same kind."""
    spec = unit.spec
    if spec.elements <= most or len(spec.shape) < 2:
        count = min(spec.elements, most)
        shape = spec.shape if count == spec.elements else (count,)
        return Sample(TensorSpec(spec.dtype, shape), read(source, unit, 0, count), [0])
    row = spec.elements // spec.shape[0]
    if row > most:
        return Sample(TensorSpec(spec.dtype, (1, most)), read(source, unit, 0, most), [0])
    array, starts = _gather(source, unit, row, max(1, most // row))
    return Sample(TensorSpec(spec.dtype, (array.size // row, *spec.shape[1:])), array, starts)


def slices_of(source: SourceFile, unit: Unit, length: int, most: int = SAMPLE) -> Sample:
    """Slices of about some length, spread over a tensor; the tensor itself where it is no larger than all of them.

    They are of whole rows, if those are short enough: some encoders make use of rows and columns.
    """
    spec = unit.spec
    row = _row(spec)
    length = max(row, length // row * row)
    array, starts = _gather(source, unit, length, max(1, most // length))
    if spec.elements <= length * max(1, most // length):
        return Sample(spec, array, starts)
    return Sample(_of_rows(spec, row, length * len(starts)), array, starts)


def middle_of(source: SourceFile, unit: Unit, most: int = SAMPLE) -> Sample:
    """The middle of a tensor: of whole rows, if there are any that are short enough."""
    spec = unit.spec
    if spec.elements <= most:
        return Sample(spec, read(source, unit, 0, spec.elements), [0])
    row = _row(spec)
    count = max(1, most // row) * row
    start = (spec.elements - count) // 2 // row * row
    return Sample(_of_rows(spec, row, count), read(source, unit, start, count), [start])


def _row(spec: TensorSpec) -> int:
    """Elements of a row of a tensor; 1 where there are none, or only longer ones than a sample."""
    row = row_width(spec.shape)
    return row if 0 < row <= SAMPLE else 1


def _of_rows(spec: TensorSpec, row: int, elements: int) -> TensorSpec:
    return TensorSpec(spec.dtype, (elements // row, *spec.shape[1:]) if row > 1 else (elements,))


def read(source: SourceFile, unit: Unit, start: int, count: int) -> Array:
    """Elements of a unit, in their storage bits."""
    return source.read(unit, start, count, np.empty(flat_spec(unit.spec, count).nbytes, np.uint8))


def _gather(source: SourceFile, unit: Unit, length: int, count: int) -> tuple[Array, list[int]]:
    """At most `count` runs of `length` elements, evenly spread, and where they begin."""
    elements = unit.spec.elements
    if elements <= count * length:
        return read(source, unit, 0, elements), [0]
    last = elements // length - 1
    starts = sorted({length * round(index * last / max(1, count - 1)) for index in range(count)})
    return np.concatenate([read(source, unit, start, length) for start in starts]), starts
