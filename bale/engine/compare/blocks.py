"""Sums over a block of a tensor of A and the same block in B."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from bale.compressors.chunks import flat_bytes
from bale.compressors.floats import all_finite, numbers
from bale.compressors.measured import Measured
from bale.metrics import ErrorSums, RowSums
from bale.spec import Array, TensorSpec

_IN_CACHE = 1 << 16  # elements


@dataclass(frozen=True)
class Block:
    """Sums over a block of a tensor; those of blocks that lie back to back add up."""

    equal: bool = True
    measured: bool = True
    sums: ErrorSums = field(default_factory=ErrorSums)
    rows: RowSums = field(default_factory=lambda: RowSums(0))
    apart: int = 0
    in_one: int = 0
    nbytes: int = 0

    def __add__(self, other: Block) -> Block:
        return Block(
            self.equal and other.equal,
            self.measured and other.measured,
            self.sums + other.sums,
            self.rows + other.rows,
            self.apart + other.apart,
            self.in_one + other.in_one,
            self.nbytes + other.nbytes,
        )

    @classmethod
    def between(cls, x: Array, y: Array, specs: tuple[TensorSpec, TensorSpec], width: int, start: int) -> Block:
        """Measure two flat arrays of storage bits, from element `start` of their tensors on."""
        nbytes = x.nbytes
        equal = specs[0].dtype == specs[1].dtype and np.array_equal(flat_bytes(x), flat_bytes(y))
        if equal and (exact := cls._exact(x, specs[0], width, start)) is not None:
            return exact
        values, others = (_numbers(array, spec) for array, spec in zip((x, y), specs, strict=True))
        if values is None or others is None:
            return cls(equal, equal, rows=RowSums(width), nbytes=nbytes)
        apart = in_one = 0
        if not (all_finite(values) and all_finite(others)):
            values, others, apart, in_one = _finite(values, others)
        found = Measured.between(values, others, width, start)
        return cls(equal, True, found.errors, found.rows, apart, in_one, nbytes)

    @classmethod
    def _exact(cls, x: Array, spec: TensorSpec, width: int, start: int) -> Block | None:
        """An array that is equal in both; None where its values are no numbers, or not finite."""
        sums, rows, flat = ErrorSums(), RowSums(width), x.reshape(-1)
        for at in range(0, flat.size, _IN_CACHE):
            values = _numbers(flat[at : at + _IN_CACHE], spec)
            if values is None:
                return None
            sums += ErrorSums.exact(values)
            rows = rows + RowSums.exact(values, width, start + at) if width else rows
        return cls(sums=sums, rows=rows, nbytes=x.nbytes) if math.isfinite(sums.norm2) else None


def _numbers(array: Array, spec: TensorSpec) -> Array | None:
    """Values to measure differences on; None for packed and complex types."""
    if spec.info.kind in ("int", "bool"):
        return array.astype(np.float64)
    return numbers(array, spec)


def _finite(x: Array, y: Array) -> tuple[Array, Array, int, int]:
    """Values with zeros at the places where one is not finite; how many of these differ, and are finite in one."""
    first, second = np.isfinite(x), np.isfinite(y)
    both = first & second
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    apart, in_one = np.count_nonzero(~both & ~same), np.count_nonzero(first != second)
    return np.where(both, x, 0), np.where(both, y, 0), int(apart), int(in_one)
