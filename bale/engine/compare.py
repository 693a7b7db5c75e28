"""Comparing two sets of tensors, one tensor at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bale.compressors.floats import all_finite, numbers
from bale.engine.reading.tensors import Tensors
from bale.metrics import ErrorSums, row_width
from bale.notes import many
from bale.report.model import finite_or_none
from bale.spec import Array, TensorSpec


@dataclass(frozen=True)
class Difference:
    """The difference of a tensor between A and B.

    `status` is ``equal`` (bit for bit), ``differs``, ``only in A``, ``only in B`` or ``other shape``; the errors take A
    for the original, and are None where they cannot be measured. Places where both have the same infinity, or both NaN,
    are equal and do not count; where any other values that are not finite differ, errors are infinite.

    Attributes
    ----------
    worst_row_error : float or None
        The largest relative error of a row, an index of the dimension that is outermost in memory; infinite where a row
        of zeros is anything else in B, None below two dimensions.
    non_finite_differences : int
        Values that are finite in one only, or infinite or NaN in different ways.
    finite_in_one : int
        Those of them that are finite in one.
    """

    name: str
    status: str
    specs: tuple[TensorSpec | None, TensorSpec | None]
    relative_error: float | None = None
    snr_db: float | None = None
    max_abs_error: float | None = None
    cosine: float | None = None
    worst_row_error: float | None = None
    non_finite_differences: int = 0
    finite_in_one: int = 0

    def exceeds(self, limit: float) -> bool:
        """Whether the tensor is further away than `limit` (relative error); 0 asks for equal bits."""
        return self.status != "equal" and (limit == 0 or not self.error <= limit)

    def exceeds_in_row(self, limit: float) -> bool:
        """Whether a row is further away than `limit`; a tensor of less than two dimensions counts as one row."""
        return self.status != "equal" and (limit == 0 or not self.row_error <= limit)

    @property
    def error(self) -> float:
        """Relative error, for ranking: infinite where it cannot be measured, which is beyond every limit."""
        relative = self.relative_error
        return math.inf if relative is None or math.isnan(relative) else relative

    @property
    def row_error(self) -> float:
        """The worst row's error, for ranking."""
        worst = self.worst_row_error
        return self.error if worst is None or math.isinf(self.error) else worst

    @property
    def nbytes(self) -> int:
        """Bytes of the plain tensor, in A if it is there."""
        return next(spec.nbytes for spec in self.specs if spec is not None)

    @property
    def remark(self) -> str:
        """A remark on values that are not finite."""
        one, other = self.finite_in_one, self.non_finite_differences - self.finite_in_one
        said = [f"{many(one, 'value')} {'is' if one == 1 else 'are'} finite in one only"] if one else []
        if other:
            said.append(f"{many(other, 'value')} {'is' if other == 1 else 'are'} infinite or NaN in different ways")
        return "; ".join(said)

    def to_json(self) -> dict[str, Any]:
        """The row of `compare --json`."""
        a, b = self.specs
        return {
            "name": self.name,
            "status": self.status,
            "dtypes": [a and a.dtype, b and b.dtype],
            "shapes": [a and list(a.shape), b and list(b.shape)],
            "relative_error": finite_or_none(self.relative_error),
            "snr_db": finite_or_none(self.snr_db),
            "max_abs_error": finite_or_none(self.max_abs_error),
            "cosine": finite_or_none(self.cosine),
            "worst_row_error": finite_or_none(self.worst_row_error),
            "non_finite_differences": self.non_finite_differences,
        }


def compare_tensors(a: Tensors, b: Tensors) -> list[Difference]:
    """One row for each name in either, those of A first, in its order."""
    rows = [_compare(name, a, b) for name in a]
    rows += [Difference(name, "only in B", (None, b.spec(name))) for name in b if name not in a.specs]
    return rows


def _compare(name: str, a: Tensors, b: Tensors) -> Difference:
    spec = a.spec(name)
    if name not in b.specs:
        return Difference(name, "only in A", (spec, None))
    other = b.spec(name)
    if spec.shape != other.shape:
        return Difference(name, "other shape", (spec, other))
    x, y = a.bits(name), b.bits(name)
    if spec == other and x.tobytes() == y.tobytes():
        return Difference(name, "equal", (spec, other), 0.0, None, 0.0, 1.0, 0.0)
    values, others = _numbers(x, spec), _numbers(y, other)
    if values is None or others is None:
        return Difference(name, "differs", (spec, other))
    order = _memory_order(x)
    values, others = values.transpose(order), others.transpose(order)
    width = row_width(values.shape)
    if not (all_finite(values) and all_finite(others)):
        values, others, apart, in_one = _finite(values, others)
        if apart:
            row = math.inf if width else None
            return Difference(name, "differs", (spec, other), math.inf, None, math.inf, None, row, apart, in_one)
    sums, rows = ErrorSums.by_rows(values, others, width)
    return Difference(
        name,
        "differs",
        (spec, other),
        sums.relative_error,
        sums.snr_db,
        sums.largest,
        sums.cosine,
        rows.worst_error,
    )


def _numbers(array: Array, spec: TensorSpec) -> Array | None:
    """Values to measure differences on; None for packed and complex types."""
    if spec.info.kind in ("int", "bool"):
        return array.astype(np.float64)
    return numbers(array, spec)


def _memory_order(array: Array) -> list[int]:
    """Dimensions as they lie in memory, outermost first, as archives count rows."""
    dimensions = range(array.ndim)
    return sorted(dimensions, key=lambda axis: 0 if array.flags.c_contiguous else -array.strides[axis])


def _finite(x: Array, y: Array) -> tuple[Array, Array, int, int]:
    """Values with zeros at the places where one is not finite; how many of these differ, and are finite in one."""
    first, second = np.isfinite(x), np.isfinite(y)
    both = first & second
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    apart, in_one = np.count_nonzero(~both & ~same), np.count_nonzero(first != second)
    return np.where(both, x, 0), np.where(both, y, 0), int(apart), int(in_one)
