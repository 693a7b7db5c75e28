"""Updates of low rank: an adapter (LoRA) that was merged into the matrix.

The difference of two matrices is looked at as the product of two thin ones. Those are stored, their product is added to
the reference, and the rest is coded as a difference to that. All sums are made in one order in float64, so that they
are the same on every machine.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bale.compressors.contexts.axes import Axis, cut, read_axis, write_axis
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.kernels.differences import add_product, eliminate
from bale.spec import Array, TensorSpec

_FACTORS = {"BF16": "<f2", "F16": "<f2", "F32": "<f4"}
_DIGITS = {"BF16": 8, "F16": 11, "F32": 24}
_HEAD = struct.Struct("<Bhh")
_SAMPLE = 64  # rows and columns by which the rank is found
_MOST = 48  # the largest rank
_LEAST_GAIN = 1 << 15  # of 2^-16 bits a value
_TINY = 1e-100
_AT_ONCE = 1 << 16  # elements, so that working space is small


@dataclass(frozen=True)
class Product:
    """Two thin matrices, powers of two that they are multiplied by, and the columns of their product.

    Row 0 of the product begins `columns.at` elements before a chunk.
    """

    columns: Axis
    left: Array
    right: Array
    powers: tuple[int, int]

    def added(self, reference: Array, dtype: str) -> Array:
        """The reference's words with the product added to their values."""
        size, at, added = self.columns.size, self.columns.at, np.empty_like(reference)
        step = max(1, _AT_ONCE // size)
        with np.errstate(invalid="ignore", over="ignore"):
            left, right = (
                np.ldexp(each.astype(np.float64), power)
                for each, power in zip((self.left, self.right), self.powers, strict=True)
            )
            for first in range(0, len(left), step):
                rows = left[first : first + step]
                product, begin = np.zeros((len(rows), size)), first * size - at
                add_product(rows, right, product)
                start, stop = max(begin, 0), min(begin + product.size, reference.size)
                values = _values(reference[start:stop], dtype) + product.reshape(-1)[start - begin : stop - begin]
                rounded = from_float32(values.astype(np.float32), TensorSpec(dtype, (values.size,)))
                added[start:stop] = rounded.view(reference.dtype)
        return added

    def write(self) -> bytes:
        """All of it. The mirror image is `read`."""
        head = _HEAD.pack(self.left.shape[1], *self.powers)
        return write_axis(self.columns) + head + self.left.tobytes() + self.right.tobytes()

    @staticmethod
    def read(data: memoryview, dtype: str, count: int) -> tuple[Product, memoryview]:
        """The product for `count` elements, and the bytes behind it; `ValueError` if it is none."""
        columns, data = read_axis(data)
        rank, *powers = _HEAD.unpack(cut(data, _HEAD.size))
        if dtype not in _FACTORS or columns.inner != 1 or not rank or max(map(abs, powers)) > 300:
            raise ValueError("a product makes no sense")
        data = data[_HEAD.size :]
        kind = np.dtype(_FACTORS[dtype])
        rows = _rows(columns, count)
        size, both = rank * rows * kind.itemsize, rank * (rows + columns.size) * kind.itemsize
        factors = cut(data, both)
        left = np.frombuffer(factors[:size], kind).reshape(rows, rank)
        right = np.frombuffer(factors[size:], kind).reshape(rank, columns.size)
        return Product(columns, left, right, (powers[0], powers[1])), data[both:]


def find(words: Array, reference: Array, dtype: str, axes: Sequence[Axis]) -> Product | None:
    """The product that the update of all whole rows is near to, if there is one of a rank that pays."""
    columns = next((axis for axis in axes if axis.inner == 1), None)
    if dtype not in _FACTORS or columns is None:
        return None
    first = -(-columns.at // columns.size)  # whole row
    begin = first * columns.size - columns.at
    rows = (words.size - begin) // columns.size
    if min(rows, columns.size) < _SAMPLE:
        return None
    pair = [each[begin : begin + rows * columns.size].reshape(rows, columns.size) for each in (words, reference)]
    down, across = rows // _SAMPLE, columns.size // _SAMPLE
    now, before = (_values(each[::down, ::across][:_SAMPLE, :_SAMPLE], dtype) for each in pair)
    if not (np.isfinite(now).all() and np.isfinite(before).all()):
        return None
    pivots = _pivots(now - before, now, dtype, 1 / rows + 1 / columns.size)
    if not pivots.size:
        return None
    with np.errstate(invalid="ignore"):
        update = _values(pair[0], dtype)
        update -= _floats(pair[1], dtype)
    if not np.isfinite(update).all():
        return None
    thin, wide = _factors(update, update[pivots * down])
    if not (np.isfinite(thin).all() and np.isfinite(wide).all()):  # beyond float64 in between
        return None
    left = np.zeros((_rows(columns, words.size), pivots.size))
    left[first : first + rows] = thin
    (left, power), (right, power2) = (_rounded(each, _FACTORS[dtype]) for each in (left, wide))
    return Product(columns, left, right, (power, power2))


def _pivots(update: Array, values: Array, dtype: str, share: float) -> Array:
    """Rows of a sample that predict the others best, as many as pay; `share` is what a rank adds for each value.

    Rows count alike, however large: what Gaussian elimination leaves of those that were not taken is what the product
    would leave of any.
    """
    sizes = np.abs(update).mean(axis=1)
    spacing = float(np.abs(values).mean()) * 2.0 ** -_DIGITS[dtype]
    least = np.where(sizes > 0, np.minimum(spacing / 4 / np.maximum(sizes, _TINY), 1), 1) ** 2
    rows, bits = np.arange(_SAMPLE), np.zeros(_MOST + 1, np.int64)
    eliminate(update / np.maximum(sizes, _TINY)[:, None], least, rows, bits)
    costs = bits + np.arange(bits.size) * int(share * (np.dtype(_FACTORS[dtype]).itemsize << 19))
    costs[0] -= _LEAST_GAIN
    return rows[: int(costs.argmin())]


def _factors(update: Array, rows: Array) -> tuple[Array, Array]:
    """Orthogonal columns that are near to what the update makes of these rows, and what of it lies in them."""
    columns = np.zeros((rows.shape[0], update.shape[0]))
    step = max(1, _AT_ONCE // update.shape[1])
    for first in range(0, len(update), step):
        part = np.zeros((len(rows), len(update[first : first + step])))
        add_product(rows, np.ascontiguousarray(update[first : first + step].T), part)
        columns[:, first : first + step] = part
    for at in range(len(columns)):
        for _ in range(2):  # Gram-Schmidt, twice
            before, column = columns[:at], columns[at]
            shares, parts = np.zeros((at, 1)), np.zeros((1, column.size))
            add_product(before, column[:, None].copy(), shares)
            add_product(shares.T.copy(), before, parts)
            column -= parts[0]
            norm = np.zeros((1, 1))
            add_product(column[None].copy(), column[:, None].copy(), norm)
            column /= np.sqrt(max(norm[0, 0], np.finfo(float).tiny))
    wide = np.zeros((rows.shape[0], update.shape[1]))
    add_product(columns, update, wide)
    return columns.T, wide


def _rounded(factor: Array, kind: str) -> tuple[Array, int]:
    """A factor in floats of this kind, below 1, and the power of two that it is to be multiplied by."""
    power = int(np.frexp(np.abs(factor).max())[1])
    return np.ascontiguousarray(np.ldexp(factor, -power)).astype(kind), power


def _rows(columns: Axis, count: int) -> int:
    return -(-(columns.at + count) // columns.size)


def _values(words: Array, dtype: str) -> Array:
    with np.errstate(invalid="ignore"):
        return _floats(words, dtype).astype(np.float64)


def _floats(words: Array, dtype: str) -> Array:
    spec = TensorSpec(dtype, words.shape)
    with np.errstate(invalid="ignore"):  # of F16
        return to_float32(np.ascontiguousarray(words).view(spec.storage), spec)
