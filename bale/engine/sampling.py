"""Reading a part of a tensor that stands for all of it."""

from __future__ import annotations

import numpy as np

from bale.compressors.chunks import chunk_ranges, flat_spec
from bale.compressors.floats import to_float32
from bale.engine.source import SourceFile
from bale.spec import Array, TensorSpec, Unit

SAMPLE = 1 << 20  # elements a tensor at the most


def rows_of(source: SourceFile, unit: Unit, most: int = SAMPLE) -> tuple[TensorSpec, Array, list[int]]:
    """Whole rows spread over a tensor: a smaller tensor of the same kind, and where its runs begin."""
    spec = unit.spec
    if spec.elements <= most or len(spec.shape) < 2:
        count = min(spec.elements, most)
        shape = spec.shape if count == spec.elements else (count,)
        return TensorSpec(spec.dtype, shape), read(source, unit, 0, count).reshape(shape), [0]
    row = spec.elements // spec.shape[0]
    if row > most:
        shape = (1, most)
        return TensorSpec(spec.dtype, shape), read(source, unit, 0, most).reshape(shape), [0]
    array, starts = gather(source, unit, row, max(1, most // row))
    shape = (array.size // row, *spec.shape[1:])
    return TensorSpec(spec.dtype, shape), array.reshape(shape), starts


def gather(source: SourceFile, unit: Unit, length: int, count: int) -> tuple[Array, list[int]]:
    """At most `count` runs of `length` elements, evenly spread, and where they begin."""
    elements = unit.spec.elements
    if elements <= count * length:
        return read(source, unit, 0, elements), [0]
    last = elements // length - 1
    starts = sorted({length * round(index * last / max(1, count - 1)) for index in range(count)})
    return np.concatenate([read(source, unit, start, length) for start in starts]), starts


def norm2_of(source: SourceFile, unit: Unit) -> float:
    """The sum of squares of all elements."""
    total = 0.0
    for start, count in chunk_ranges(unit.spec.elements):
        values = to_float32(read(source, unit, start, count), flat_spec(unit.spec, count))
        total += float(np.einsum("i,i->", values, values, dtype=np.float64, casting="same_kind"))
    return total


def read(source: SourceFile, unit: Unit, start: int, count: int) -> Array:
    """Elements of a unit, in their storage bits."""
    return source.read(unit, start, count, np.empty(flat_spec(unit.spec, count).nbytes, np.uint8))
