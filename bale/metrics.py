"""Measures of error between source values and decoded values, from sums that add up over blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bale.spec import Array

_BLOCK = 1 << 16  # float64 scratch of half a megabyte an array stays in the cache
_LEAST = 5e-324  # stands for squares that are too small for float64


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
            for begin in range(0, x.size, _BLOCK):
                at = slice(begin, begin + _BLOCK)
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
            abs(max(float(difference.max()), -float(difference.min()))),
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

    def scaled(self, times: float) -> ErrorSums:
        """The sums of that many times as many elements of the same kind."""
        return ErrorSums(times * self.error2, times * self.norm2, times * self.decoded2, times * self.dot, self.largest)

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


LOST = 0.9
"""The relative error above which a row counts as lost."""


@dataclass(frozen=True)
class OpenRow:
    """Sums of a row of which some elements are still to come: its number, and how many have been counted."""

    row: int
    count: int
    error2: float
    norm2: float

    def __add__(self, other: OpenRow) -> OpenRow:
        return OpenRow(self.row, self.count + other.count, self.error2 + other.error2, self.norm2 + other.norm2)

    @property
    def error(self) -> float:
        """Its relative error, once it is whole."""
        if not self.error2:
            return 0.0
        ratio = self.error2 / self.norm2 if self.norm2 else math.inf
        return math.inf if math.isnan(ratio) else math.sqrt(ratio)


@dataclass(frozen=True)
class RowSums:
    """Errors of rows; those of blocks that lie back to back add up, wherever they begin and end.

    Attributes
    ----------
    width : int
        Elements of a row; 0 where there are none.
    worst : float
        The largest relative error of a whole row; infinite where a row of zeros came back as anything else.
    count, lost : int
        Whole rows, and those of them with a relative error above `LOST`.
    open : tuple of OpenRow
        The rows at the ends of the blocks, which are not whole yet.
    moved : int
        Whole rows of zeros that came back as anything else.
    """

    width: int
    worst: float = 0.0
    count: int = 0
    lost: int = 0
    open: tuple[OpenRow, ...] = ()
    moved: int = 0

    @classmethod
    def of_squares(cls, error2: Array, norm2: Array, width: int, start: int, count: int) -> RowSums:
        """The rows of a block of `count` elements from element `start` on.

        Given are the sums of squares of errors and of values, float64, for each row and for parts at either end.
        """
        begin = min(count, -start % width)
        tail = (count - begin) % width
        whole = slice(1 if begin else 0, error2.size - (1 if tail else 0))
        ends = [(0, start // width, begin), (error2.size - 1, (start + count) // width, tail)]
        opened = tuple(OpenRow(row, size, float(error2[at]), float(norm2[at])) for at, row, size in ends if size)
        error2, norm2 = error2[whole], norm2[whole]
        if not error2.size:
            return cls(width, open=opened)
        with np.errstate(divide="ignore"):
            errors = np.sqrt(np.divide(error2, norm2, out=np.zeros_like(error2), where=error2 != 0))
        worst, lost = float(errors.max()), int(np.count_nonzero(errors > LOST))
        moved = int(np.count_nonzero((norm2 == 0) & (error2 != 0)))
        return cls(width, math.inf if math.isnan(worst) else worst, len(errors), lost, opened, moved)

    @classmethod
    def exact(cls, values: Array, width: int, start: int) -> RowSums:
        """The rows of a flat block that came back as it was, from element `start` on."""
        begin = min(values.size, -start % width)
        end = values.size - (values.size - begin) % width
        ends = [
            OpenRow((start + at.start) // width, at.stop - at.start, 0.0, _square(values[at].astype(np.float64)))
            for at in (slice(0, begin), slice(end, values.size))
            if at.stop > at.start
        ]
        return cls(width, count=(end - begin) // width, open=tuple(ends))

    def __add__(self, other: RowSums) -> RowSums:
        total = RowSums(
            max(self.width, other.width),
            max(self.worst, other.worst),
            self.count + other.count,
            self.lost + other.lost,
            (*self.open, *other.open),
            self.moved + other.moved,
        )
        return total._closed() if self.open and other.open else total

    def _closed(self) -> RowSums:
        """The same, with the sums of each row put together, and rows that are now whole counted as such."""
        rows: dict[int, OpenRow] = {}
        for each in self.open:
            rows[each.row] = each + rows[each.row] if each.row in rows else each
        whole = [each for each in rows.values() if each.count == self.width]
        errors = [each.error for each in whole]
        return RowSums(
            self.width,
            max([self.worst, *errors]),
            self.count + len(errors),
            self.lost + sum(error > LOST for error in errors),
            tuple(each for each in rows.values() if each.count < self.width),
            self.moved + sum(each.norm2 == 0 and each.error2 != 0 for each in whole),
        )

    @property
    def worst_error(self) -> float | None:
        """The largest relative error of a row; None where there are no rows."""
        return self.worst if self.width else None


def row_width(shape: tuple[int, ...]) -> int:
    """Elements of a row of a tensor, one index of its first dimension; 0 below two dimensions, which have none."""
    return math.prod(shape[1:]) if len(shape) > 1 else 0


def _square(values: Array) -> float:
    """The sum of squares, not zero where a number is not, however small."""
    return float(np.dot(values, values)) or (_LEAST if values.any() else 0.0)
