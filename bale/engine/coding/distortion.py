"""Distortion of lossy coding: weight error, and output error where input statistics exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bale.compressors.base import Place
from bale.compressors.chunks import chunk_ranges
from bale.compressors.floats import all_finite, numbers, to_float32
from bale.compressors.importance import Importance
from bale.compressors.kernels import native
from bale.compressors.measured import Measured
from bale.compressors.parallel import in_order
from bale.engine.coding.harm import Harm, joined, rows_at
from bale.errors import Refused
from bale.metrics import ErrorSums
from bale.spec import CHUNK_LIMIT, Array, TensorSpec

Weights = Callable[[int, int], Array]  # first element and number of elements -> their importance


@dataclass(frozen=True)
class Distortion:
    """Two arrays compared.

    Attributes
    ----------
    harm : Harm
        Values that became zero or are no longer zero, and the errors of rows.
    outputs : ErrorSums or None
        Of elements weighted by the mean squares of their inputs, or by their covariance, as far as these are known.
        Sums by a covariance are below zero where it is none.
    """

    errors: ErrorSums
    harm: Harm
    outputs: ErrorSums | None

    @classmethod
    def between(
        cls, source: Array, decoded: Array, spec: TensorSpec, weights: Weights | None, place: Place | None = None
    ) -> Distortion:
        """Compare two flat arrays in their storage bits; rows are measured where `place` is given."""
        width, first = rows_at(place)

        def measured(at: tuple[int, int]) -> tuple[ErrorSums, Harm, ErrorSums]:
            start, count = at
            pieces = source[start : start + count], decoded[start : start + count]
            one, output = Measured.between(*comparable(pieces, spec), width, first + start), ErrorSums()
            if weights is not None:
                x, y = (numbers_of(array, spec) for array in pieces)
                output = ErrorSums.between(x, y, weights(start, count))
            return one.errors, Harm.of(one, count), output

        found = in_order(measured, chunk_ranges(spec.elements))
        errors, harm = ErrorSums.total(each[0] for each in found), joined([each[1] for each in found])
        return cls(errors, harm, None if weights is None else ErrorSums.total(each[2] for each in found))

    @classmethod
    def of_whole(cls, source: Array, decoded: Array, spec: TensorSpec, importance: Importance | None) -> Distortion:
        """Compare two flat arrays of a whole tensor of this importance."""
        if importance is None or importance.covariance is None:
            weights = None if importance is None else partial(importance.weights, spec.shape)
            return cls.between(source, decoded, spec, weights, Place(spec.shape))
        found = cls.between(source, decoded, spec, None, Place(spec.shape))
        return replace(found, outputs=_correlated(source, decoded, spec, importance))


def _correlated(source: Array, decoded: Array, spec: TensorSpec, importance: Importance) -> ErrorSums:
    """Errors of a whole tensor's outputs by the covariance of its inputs: the traces of ``E C E'`` and ``W C W'``.

    Places of a kernel that share the statistics of their channel count one by one. Products are of float32.
    """
    assert importance.covariance is not None
    inputs = [axis for axis, size in enumerate(importance.second_moment.shape) if size > 1]
    order = [*(axis for axis in range(len(spec.shape)) if axis not in inputs), *inputs]
    x, y = (to_float32(array, spec).reshape(spec.shape).transpose(order) for array in (source, decoded))
    x, y = (array.reshape(-1, len(importance.covariance)) for array in (x, y))
    rows, error2, norm2, largest = max(1, CHUNK_LIMIT // x.shape[1]), 0.0, 0.0, 0.0
    for start in range(0, len(x), rows):
        at = slice(start, start + rows)
        difference = x[at] - y[at]
        error2 += _trace(difference, importance.covariance)
        largest = max(largest, float(np.abs(difference).max(initial=0)))
        norm2 += _trace(x[at], importance.covariance)
    return ErrorSums(error2, norm2, largest=largest)


def _trace(rows: Array, covariance: Array) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.einsum("ij,ij->", rows @ covariance, rows, dtype=np.float64, casting="same_kind"))


def exact_sums(array: Array, spec: TensorSpec) -> ErrorSums:
    """The sums of a flat array that comes back as it is."""
    pieces = [slice(start, start + count) for start, count in chunk_ranges(spec.elements)]
    return ErrorSums.total(ErrorSums.exact(numbers_of(array[at], spec)) for at in pieces)


def comparable(arrays: tuple[Array, Array], spec: TensorSpec) -> tuple[Array, Array]:
    """What is compared of two arrays that a codec has taken: their numbers, or the words that stand for these."""
    if spec.dtype == "BF16" and native.available():
        return arrays
    x, y = (numbers_of(array, spec) for array in arrays)
    return x, y


def numbers_of(array: Array, spec: TensorSpec) -> Array:
    """Float32 or float64 values of an array that a codec has taken."""
    values = numbers(array, spec)
    if values is None:
        raise TypeError(f"{spec} holds no numbers")  # a codec took what it should have refused
    return values


def check_all_finite(array: Array, spec: TensorSpec) -> None:
    """The same of storage bits, piece by piece."""
    pieces = [array[start : start + count] for start, count in chunk_ranges(spec.elements)]
    in_order(lambda piece: check_finite(to_float32(piece, spec)), pieces)


def check_finite(values: Array) -> None:
    """Raise `Refused` for values that are never lossy: NaN and infinity."""
    if not all_finite(values):
        raise Refused("holds NaN or infinity, or values beyond float32: kept lossless", note="non-finite")
