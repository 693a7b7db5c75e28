"""Source values and decoded values compared, in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bale.metrics import ErrorSums, RowSums
from bale.spec import Array

_PIECE = 1 << 16  # elements that are summed up together where there are no rows


@dataclass(frozen=True)
class Measured:
    """What was measured of a block.

    Attributes
    ----------
    errors, rows
        Of all elements, and of the rows.
    nonzero, zeroed, moved, vanished, negative : int
        Counts of source values that are not zero, of those that came back as zero, of zeros that came back as anything
        else, of values that are not zero and came back as zero or below, and of values below zero.
    """

    errors: ErrorSums
    rows: RowSums
    nonzero: int
    zeroed: int
    moved: int
    vanished: int
    negative: int

    @classmethod
    def between(cls, x: Array, y: Array, width: int = 0, start: int = 0) -> Measured:
        """Compare a block of a tensor with what came back.

        Parameters
        ----------
        x, y : Array
            Of the same size: float32 or float64, or both the words of BF16 where the loops are in C.
        width : int
            Elements of a row; rows are not measured where it is 0.
        start : int
            The place of the block's first element in the tensor.
        """
        from bale.compressors.kernels.errors import compare

        x, y = (np.ascontiguousarray(each).reshape(-1) for each in (x, y))
        if x.dtype != y.dtype:
            x, y = x.astype(np.float64), y.astype(np.float64)
        step = width or _PIECE
        first = min(x.size, -start % step) if width else 0
        sums, counts = np.zeros(5), np.zeros(5, np.int64)
        errors, norms = np.zeros((2, -(-(x.size - first) // step) + (first > 0)))
        compare(x, y, first, step, sums, counts, errors, norms)
        rows = RowSums.of_squares(errors, norms, width, start, x.size) if width else RowSums(0)
        return cls(ErrorSums(*sums.tolist()), rows, *counts.tolist())
