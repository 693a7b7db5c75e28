"""Scaling of a tensor's values to those that the trellis codes, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bale.compressors.floats import from_float32, to_float32
from bale.compressors.trellis.context_classes import Scaled
from bale.compressors.trellis.tables import power
from bale.spec import Array, TensorSpec

_LARGEST = np.finfo(np.float32).max
_USUAL = 60


def exponent_of(largest: float) -> int:
    """Exponent of the power of two that values of this largest magnitude are divided by: 0 for a usual size."""
    exponent = math.frexp(largest)[1]
    return exponent if abs(exponent) > _USUAL else 0


@dataclass(frozen=True)
class Scaling:
    """Values are divided by 2^exponent and, where there is a balance, by 2^(number / 16) of their column."""

    spec: TensorSpec
    exponent: int = 0
    balance: Scaled | None = None

    def down(self, array: Array, start: int) -> Array:
        """Float32 values of a flat run of storage bits that begins at element `start`."""
        values = to_float32(array, self.spec)
        if self.exponent:
            values = np.ldexp(values, -self.exponent)
        if self.balance is not None:
            values = self.columns(values.copy(), start, np.divide)
        return values

    def up(self, values: Array, start: int) -> Array:
        """Storage bits of float32 values, which are changed: the mirror image of `down`."""
        if self.balance is not None:
            self.columns(values, start, np.multiply)
        if self.exponent:
            with np.errstate(over="ignore"):
                np.ldexp(values, self.exponent, out=values)
            np.clip(values, -_LARGEST, _LARGEST, out=values)
        return from_float32(values, self.spec)

    @cached_property
    def _row(self) -> Array:
        """The factor of each element of a row."""
        assert self.balance is not None
        factors = np.array([power(int(number)) for number in self.balance.numbers], np.float32)
        return np.repeat(factors, self.balance.axis.inner(self.spec.shape))

    def columns(self, values: Array, start: int, work: Callable[..., Array]) -> Array:
        """Multiply or divide each element by the balance of its column, in place."""
        row, at = self._row, 0
        while at < values.size:
            first = (start + at) % row.size
            if first or values.size - at < row.size:
                count = min(row.size - first, values.size - at)
                part, factors = values[at : at + count], row[first : first + count]
            else:
                count = (values.size - at) // row.size * row.size
                part, factors = values[at : at + count].reshape(-1, row.size), row
            work(part, factors, out=part)
            at += count
        return values
