"""Sums over source values and decoded values, in one order of additions: the same on every machine."""

from __future__ import annotations

import numpy as np

from bale.compressors.kernels import compiled
from bale.spec import Array

_LANES, _NARROW = 8, 32
_LEAST = 5e-324


@compiled
def compare(
    x: Array, y: Array, first: int, width: int, sums: Array, counts: Array, errors: Array, norms: Array
) -> None:
    """Measure the rows of a block.

    The sums of a row of at least 32 elements are those of eight lanes, in which every eighth element counts; of shorter
    rows they are made one element after the other.

    Parameters
    ----------
    x, y : Array
        Source and decoded values, float32 or float64; in C uint16 too, the words of BF16.
    first : int
        Elements that are the end of a row, or 0: those behind are rows, the last of which may be cut.
    width : int
        Elements of a row.
    sums : Array
        float64: squared errors, squares of x, of y, products, all added to, and the largest error.
    counts : Array
        int64, added to: x that are not zero, that became zero, zeros that are none any more, x that are not zero and
        came back as zero or below, x below zero.
    errors, norms : Array
        float64, written, for each row or part of one: sums of squares, not 0 where a number is not, however small.
    """
    lanes, at, row = np.zeros((4, _LANES)), 0, 0
    while at < x.size:
        stop = min(at + (first if at == 0 and first else width), x.size)
        lanes[:] = 0.0
        away, nonzero = 0.0, 0
        for i in range(at, stop):
            lane = (i - at) % _LANES if width >= _NARROW else 0
            p, q = np.float64(x[i]), np.float64(y[i])
            difference = p - q
            lanes[0, lane] += difference * difference
            lanes[1, lane] += p * p
            lanes[2, lane] += q * q
            lanes[3, lane] += p * q
            away = max(away, abs(difference))
            nonzero += p != 0
            counts[1] += p != 0 and q == 0
            counts[2] += p == 0 and q != 0
            counts[3] += p != 0 and q <= 0
            counts[4] += p < 0
        for number in range(4):
            a = lanes[number]
            if width >= _NARROW:
                a[0] = ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
            sums[number] += a[0]
        sums[4] = max(sums[4], away)
        counts[0] += nonzero
        errors[row] = _LEAST if lanes[0, 0] == 0 and away else lanes[0, 0]
        norms[row] = _LEAST if lanes[1, 0] == 0 and nonzero else lanes[1, 0]
        at, row = stop, row + 1
