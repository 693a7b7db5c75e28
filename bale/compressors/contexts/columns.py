"""Columns of bytes put together into classes that are coded by one table.

All decisions are made in whole numbers, so that the bytes are the same on every machine.
"""

from __future__ import annotations

import numpy as np

from bale.compressors.contexts.tokens import ENTRY
from bale.compressors.kernels.axes import logs
from bale.spec import Array

_CLASSES = 64


def class_columns(counts: Array) -> tuple[Array, Array]:
    """Classes of columns by the counts of their bytes.

    Each column in turn joins the class with which it takes least, or begins one where that takes less.

    Parameters
    ----------
    counts : Array
        uint32, shape ``(columns, 256)``.

    Returns
    -------
    Array
        uint8, the class of each column.
    Array
        uint32, shape ``(classes, 256)``: the counts of each class.
    """
    columns = counts.astype(np.int64)
    costs, classes = _cost(columns), np.zeros(len(columns), np.uint8)
    sums, taken, known = np.zeros((_CLASSES, columns.shape[1]), np.int64), np.zeros(_CLASSES, np.int64), 0
    for number, column in enumerate(columns):
        joined = _cost(sums[:known] + column)
        more = joined - taken[:known]
        best = int(more.argmin()) if known else 0
        if known == _CLASSES or (known and more[best] < costs[number]):
            taken[best] = joined[best]
        else:
            best, known = known, known + 1
            taken[best] = costs[number]
        sums[best] += column
        classes[number] = best
    return classes, sums[:known].astype(np.uint32)


def _cost(counts: Array) -> Array:
    """Bytes with each of these counts, coded by a table of their own, in 2^-16 bits."""
    totals = counts.sum(axis=-1)
    within = (counts * logs(counts)).sum(axis=-1)
    cost: Array = totals * logs(totals) - within + ENTRY * np.count_nonzero(counts, axis=-1)
    return cost
