"""A matrix product with the same bits on every machine, at the speed of its BLAS."""

from __future__ import annotations

import numpy as np

from bale.spec import Array

_BLOCK = 1 << 18  # Elements of the product worked on at a time: larger blocks leave the cache (measured).
_PANEL = 1 << 20  # Elements of the right factor in float64 at a time.
_EXACT = 53  # Float64 holds all whole numbers up to 2^53.


def exact_matmul(u: Array, v: Array) -> Array:
    """Product of two float32 matrices, in fixed point.

    Each row of `u` and each column of `v` is scaled by a power of two and rounded to whole numbers of b1 and b2 bits,
    with ``b1 + b2 + ceil(log2(r)) = 53``. Then no partial sum can exceed 2^53, so float64 adds without rounding, in
    whatever order and with whatever instructions; the sum is rounded once, to float32. (The idea of Ozaki et al.
    2012, doi:10.1007/s11075-011-9478-1, with a single slice.)

    Parameters
    ----------
    u : Array
        Finite float32, shape ``(m, r)``.
    v : Array
        Finite float32, shape ``(r, n)``.

    Returns
    -------
    Array
        Float32, shape ``(m, n)``. Accuracy: each entry is within
        ``r max|u_i| max|v_j| (2^-b1 + 2^-b2)`` of the true one, plus half a unit in the last place. b1 and b2 are 23 or
        more up to r = 128, 20 or more up to r = 8192. Beyond float32's range an entry becomes the largest finite value.

    Notes
    -----
    Memory beyond the result: some 16 MB, whatever the sizes.
    """
    (m, r), n = u.shape, v.shape[1]
    whole = _EXACT - max(r - 1, 0).bit_length()
    largest = float(np.finfo(np.float32).max)
    product = np.empty((m, n), np.float32)
    width = max(1, _PANEL // max(r, 1))
    for first in range(0, n, width):
        columns = slice(first, first + width)
        right, right_scale = _fixed(v[:, columns], 0, whole - whole // 2)
        step = max(1, _BLOCK // max(right.shape[1], r, 1))
        for start in range(0, m, step):
            rows = slice(start, start + step)
            left, left_scale = _fixed(u[rows], 1, whole // 2)
            sums = left @ right
            sums *= left_scale
            sums *= right_scale
            product[rows, columns] = np.clip(sums, -largest, largest, out=sums)
    return product


def _fixed(matrix: Array, axis: int, bits: int) -> tuple[Array, Array]:
    """Whole numbers of at most 2^bits along `axis`, as float64, and the powers of two that they count."""
    high = matrix.max(axis=axis, keepdims=True, initial=0.0)
    _, exponent = np.frexp(np.maximum(high, -matrix.min(axis=axis, keepdims=True, initial=0.0)))
    whole = matrix * np.ldexp(1.0, bits - exponent)
    return np.rint(whole, out=whole), np.ldexp(1.0, exponent - bits)
