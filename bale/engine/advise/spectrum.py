"""Whether factors of a low rank with the rest coded after them would take fewer bits than the values themselves."""

from __future__ import annotations

import numpy as np

from bale.spec import Array

ROWS, COLUMNS = 512, 2048  # of a matrix that are looked at, at most
PAYS = 0.1  # bits a value from which on it is worth to be tried
_FACTOR = 7.5  # bits that a value of a factor takes
_LOST = 0.05**2  # share of the energy that is lost anyway: a rest below it need not be coded better
_LEAST = 1e-9  # share of the mean energy that counts as none
_CAREFUL = 1e-5  # by which a bound may be off by rounding


def low_rank(matrix: Array) -> tuple[float, int]:
    """Bits a value that the best rank saves, about, and that rank; 0 bits where none does.

    With the energy E0 of all values and Er of what a rank of r leaves, the rest takes log2(E0/Er)/2 bits a value less
    at the same error, and the factors take 7.5 r (m+n)/(mn). What differing sizes of rows and columns give away is
    not counted as a gain: codecs with classes of rows and columns have it without factors. The error is taken to be
    5 %, below which there is nothing to gain.

    Parameters
    ----------
    matrix : float32 or float64 array
        Two dimensions; of a larger one rows and columns are picked.
    """
    x = _picked(matrix)
    rows, columns = x.shape
    largest = float(np.abs(x).max(initial=0))
    if min(rows, columns) < 2 or not largest or not np.isfinite(largest):
        return 0.0, 0
    x = x / largest
    if rows > columns:
        x = np.ascontiguousarray(x.T)
    gram = x @ x.T
    energy = float(np.trace(gram))
    share = float((gram * gram).sum()) / energy**2
    cost = _FACTOR * (rows + columns) / (rows * columns)
    ranks = np.arange(1, len(gram))
    known = _spread(np.diagonal(gram)) + _spread((x * x).sum(axis=0))
    # the r largest of eigenvalues with this sum of squares are no more than that together
    most = np.sqrt(np.minimum(ranks * share * (1 + _CAREFUL), 1.0))
    if (_gain(1 - most) - cost * ranks).max() - known <= PAYS:
        return 0.0, 0
    values = np.linalg.eigvalsh(gram.astype(np.float64))[::-1]
    left = 1 - np.cumsum(values)[:-1] / values.sum()
    found = _gain(left) - cost * ranks - known
    best = int(found.argmax())
    return (float(found[best]), best + 1) if found[best] > 0 else (0.0, 0)


def _picked(matrix: Array) -> Array:
    """At most so many rows and columns, evenly spread."""
    rows, columns = (
        np.unique(np.linspace(0, size - 1, min(size, most)).astype(np.int64))
        for size, most in zip(matrix.shape, (ROWS, COLUMNS), strict=True)
    )
    picked = matrix[rows] if columns.size == matrix.shape[1] else matrix[np.ix_(rows, columns)]
    return picked.astype(np.float32 if matrix.dtype != np.float64 else np.float64)


def _gain(left: Array) -> Array:
    found: Array = -np.log2(np.maximum(left, _LOST)) / 2
    return found


def _spread(energies: Array) -> float:
    """Bits a value that it gives away to know the energies of rows, or columns."""
    energies = np.maximum(np.asarray(energies, np.float64), _LEAST * float(np.mean(energies)))
    return float(np.log2(energies.mean()) - np.log2(energies).mean()) / 2
