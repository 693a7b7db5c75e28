"""Truncated SVD of a matrix: from its Gram matrix, or from a sketch where few of many singular values are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np

from bale.compressors.lowrank.whitening import Whitening
from bale.spec import Array

_SKETCHED = 1024  # Rows and columns from which a sketch is worth it,
_FRACTION = 6  # where they are this many times what is sketched (measured: below, the Gram matrix is as quick).
_SPARE = 32  # Columns sketched beyond the rank.
_STALL = 0.008  # A half step that takes less off the squared error is the last: within 1.5 % of the least error.
_HALF_STEPS = 12
_NOISE = 1e-7  # of the sum of squares: what float32 products leave uncertain.
_BLOCK = 1 << 20  # Elements taken to float64 at a time.


@dataclass(frozen=True)
class Triplets:
    """Leading singular vectors and values: ``matrix ~ (u * s) @ vh``.

    Attributes
    ----------
    u, vh : Array
        Float32, shapes ``(m, k)`` and ``(k, n)``; orthonormal except where s is negligible. The largest entry of each
        column of u is positive. With a `Whitening`, only those not multiplied with the inputs are orthogonal.
    s : Array
        Float64, shape ``(k,)``, descending up to rounding; with a `Whitening`, what counts most comes first.
    norm2 : float
        Sum of squares of the matrix.
    whole : bool
        Whether these are all there are.
    """

    u: Array
    s: Array
    vh: Array
    norm2: float
    whole: bool

    @property
    def tails(self) -> Array:
        """Squared error of each rank from 0 to k, by the exact identity ``||W||^2 - sum s^2``."""
        kept = np.square(self.s)
        if self.whole:  # summed from the small end, which a difference would lose
            return np.append(np.cumsum(kept[::-1])[::-1], 0.0)
        return np.maximum(self.norm2 - np.append(0.0, np.cumsum(kept)), 0.0)


def truncated_svd(matrix: Array, rank: int, whitening: Whitening | None = None) -> Triplets:
    """The `rank` largest singular values of a finite float32 matrix and their vectors.

    Given the `whitening` of its inputs, the terms that are best for its output, ``W L`` with ``L L'`` the products of
    inputs: the leading left singular vectors U of that, and ``U' W``, which is ``(U' W L) L^-1`` without dividing.

    Where rank and 32 spare columns are at most a sixth of both dimensions, and these are above 1024, by subspace
    iteration from a seeded Gaussian sketch (Halko, Martinsson and Tropp 2011, arXiv:0909.4061, algorithm 4.4). The
    error of each half step is known exactly, and steps are taken until one gains less than 0.4 % of it; that is within
    1.5 % of the least error even for a flat spectrum, the worst case. Else by the eigenvectors of the Gram matrix of
    the shorter side in float64, which sees singular values down to 1e-8 of the largest.

    Notes
    -----
    Memory: 16 bytes an element of a square matrix, less where it is not square or the rank is small.
    """
    m, n = matrix.shape
    if whitening is not None:
        tall = matrix if whitening.columns else matrix.T
        vectors = left(whitening.whitened(tall), rank)
        return _triplets(vectors, tall.T @ vectors, squares(matrix), whitening.columns, rank == min(m, n))
    return _sketched(matrix, rank) if _is_small(rank, m, n) else _exact(matrix, rank)


def truncated_svd_to(matrix: Array, error2: float, whitening: Whitening | None = None) -> Triplets:
    """Enough leading triplets for a squared error of at most `error2`, or all.

    Sketches are tried at growing ranks; not when even singular values that stay as large as the least one found
    could not reach the bound by the largest rank that is sketched.
    """
    small = min(matrix.shape)
    rank, most = small // 32, small // _FRACTION - _SPARE
    while _is_small(rank, *matrix.shape):
        found = truncated_svd(matrix, rank, whitening)
        left = found.tails[-1]
        if left <= error2:
            return found
        if left - (most - rank) * found.s[-1] ** 2 > error2:
            break
        rank = min(2 * rank, most) if rank < most else small
    return truncated_svd(matrix, small, whitening)


def left(matrix: Array, rank: int) -> Array:
    """The `rank` leading left singular vectors alone, as columns: ``(m, rank)``, float32."""
    m, n = matrix.shape
    if m > n or _is_small(rank, m, n):
        return _orthonormal(truncated_svd(matrix, rank).u)  # those of singular values near zero are not yet
    return eigenvectors(gram(matrix.T), rank).astype(np.float32)


def squares(array: Array) -> float:
    """Sum of squares in float64, without a float64 copy."""
    flat = array.reshape(-1)
    total = 0.0
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK].astype(np.float64)
        total += float(np.dot(block, block))
    return total


def gram(matrix: Array) -> Array:
    """The lower triangle of ``matrix.T @ matrix`` in float64, from blocks of rows; what is above it is not."""
    from scipy.linalg.blas import dsyrk

    rows, columns = matrix.shape
    total = np.zeros((columns, columns), order="F")
    step = max(256, _BLOCK // max(columns, 1))
    for start in range(0, rows, step):
        block = matrix[start : start + step].astype(np.float64, order="C")
        total = dsyrk(1.0, block.T, beta=1.0, c=total, lower=True, overwrite_c=True)  # no second matrix of this size
    return total


def eigenvectors(symmetric: Array, number: int) -> Array:
    """Eigenvectors of the `number` largest eigenvalues as columns, the largest first.

    Only the lower triangle of `symmetric` is read; all of it is overwritten.
    """
    from scipy import linalg

    size = len(symmetric)
    wanted = None if number == size else (size - number, size - 1)
    try:
        _, found = linalg.eigh(symmetric, subset_by_index=wanted, overwrite_a=True, check_finite=False, driver="evr")
    except linalg.LinAlgError:
        found = np.linalg.eigh(symmetric)[1][:, size - number :]
    return np.asarray(found[:, ::-1])


def _is_small(rank: int, m: int, n: int) -> bool:
    return min(m, n) > _SKETCHED and _FRACTION * (rank + _SPARE) <= min(m, n)


def _exact(matrix: Array, rank: int) -> Triplets:
    flat = matrix.shape[0] < matrix.shape[1]
    tall = matrix.T if flat else matrix
    inner = eigenvectors(gram(tall), rank).astype(np.float32)
    return _triplets(inner, tall @ inner, squares(matrix), flat, rank == min(matrix.shape))


def _sketched(matrix: Array, rank: int) -> Triplets:
    norm2 = squares(matrix)
    random = np.random.Generator(np.random.PCG64(rank))
    basis = _orthonormal(matrix @ random.standard_normal((matrix.shape[1], rank + _SPARE), np.float32))
    error2, flat = np.inf, False
    for step in count():
        flat = not flat
        product = (matrix.T if flat else matrix) @ basis
        values, vectors = np.linalg.eigh(gram(product))
        found = norm2 - float(values[-rank:].sum())
        if found >= (1 - _STALL) * error2 or found <= _NOISE * norm2 or step == _HALF_STEPS:
            turn = vectors[:, : -rank - 1 : -1].astype(np.float32)
            return _triplets(basis @ turn, product @ turn, norm2, flat, False)
        error2, basis = found, _orthonormal(product)
    raise AssertionError


def _orthonormal(matrix: Array) -> Array:
    from scipy import linalg

    return np.asarray(linalg.qr(matrix, mode="economic", overwrite_a=True, check_finite=False)[0])


def _triplets(inner: Array, outer: Array, norm2: float, flat: bool, whole: bool) -> Triplets:
    """Triplets from orthonormal columns `inner` and their products with the matrix, the other vectors times s.

    Both are overwritten.
    """
    s = np.sqrt(np.einsum("ij,ij->j", outer, outer, dtype=np.float64))
    outer /= np.where(s > 0, s, 1).astype(np.float32)
    u, v = (inner, outer) if flat else (outer, inner)
    high, low = u.max(axis=0), u.min(axis=0)
    sign = np.where(-low > high, np.float32(-1), np.float32(1))
    u *= sign
    v *= sign
    return Triplets(u, s, v.T, norm2, whole)
