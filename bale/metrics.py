"""Measures of error between source values and decoded values, from five sums that add up over blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bale.spec import Array

_BLOCK = 1 << 16  # float64 scratch of half a megabyte an array stays in the cache


@dataclass(frozen=True)
class ErrorSums:
    """Sums over source values x and decoded values y, in float64; those of disjoint blocks add up.

    Attributes
    ----------
    error2, norm2, decoded2, dot : float
        Sum of (x - y)^2, x^2, y^2 and x y.
    largest : float
        Largest abs(x - y).
    """

    error2: float = 0.0
    norm2: float = 0.0
    decoded2: float = 0.0
    dot: float = 0.0
    largest: float = 0.0

    @classmethod
    def between(cls, x: Array, y: Array, weights: Array | None = None) -> ErrorSums:
        """Measure two arrays of the same shape, of float32 or float64.

        Given `weights` of as many elements, which are not negative, squares and products count by them.
        """
        total = cls()
        x, y = x.reshape(-1), y.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):  # NaN and infinity give sums that are not finite
            for start in range(0, x.size, _BLOCK):
                at = slice(start, start + _BLOCK)
                total += cls._block(x[at], y[at], None if weights is None else weights[at])
        return total

    @classmethod
    def _block(cls, x: Array, y: Array, weights: Array | None) -> ErrorSums:
        a, b = x.astype(np.float64), y.astype(np.float64)
        if weights is not None:
            roots = np.sqrt(weights, dtype=np.float64)
            a, b = a * roots, b * roots
        difference = a - b
        return cls(
            float(np.dot(difference, difference)),
            float(np.dot(a, a)),
            float(np.dot(b, b)),
            float(np.dot(a, b)),
            float(np.abs(difference, out=difference).max()),
        )

    @classmethod
    def exact(cls, x: Array) -> ErrorSums:
        """The sums of an array that came back as it was."""
        norm2 = 0.0
        x = x.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, x.size, _BLOCK):
                a = x[start : start + _BLOCK].astype(np.float64)
                norm2 += float(np.dot(a, a))
        return cls(0.0, norm2, norm2, norm2, 0.0)

    def __add__(self, other: ErrorSums) -> ErrorSums:
        return ErrorSums(
            self.error2 + other.error2,
            self.norm2 + other.norm2,
            self.decoded2 + other.decoded2,
            self.dot + other.dot,
            max(self.largest, other.largest),
        )

    @classmethod
    def total(cls, parts: Iterable[ErrorSums]) -> ErrorSums:
        """Add up blocks in the order given."""
        return sum(parts, cls())

    @property
    def relative_error(self) -> float | None:
        """||x - y|| / ||x||; None where x is zero and y is not, or where the squares are too small for float64."""
        if self.error2 == 0:
            return None if self.largest else 0.0
        return math.sqrt(self.error2 / self.norm2) if self.norm2 else None

    @property
    def snr_db(self) -> float | None:
        """-20 log10(relative error); None where nothing was lost or nothing was there."""
        relative = self.relative_error
        return 0.0 - 20 * math.log10(relative) if relative else None

    @property
    def cosine(self) -> float | None:
        """Cosine of the angle between x and y; None where one of them is zero."""
        if self.error2 == 0 and self.norm2:
            return 1.0
        product = math.sqrt(self.norm2) * math.sqrt(self.decoded2)
        return max(-1.0, min(1.0, self.dot / product)) if product else None
