"""Comparing two sets of tensors, one tensor at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bale.engine.source import numbers
from bale.engine.tensors import Tensors
from bale.metrics import ErrorSums
from bale.report import number
from bale.spec import Array, TensorSpec


@dataclass(frozen=True)
class Difference:
    """How a tensor differs between A and B.

    `status` is ``equal`` (bit for bit), ``differs``, ``only in A``, ``only in B`` or ``other shape``; the errors take A
    for the original, and are None where they cannot be measured.
    """

    name: str
    status: str
    specs: tuple[TensorSpec | None, TensorSpec | None]
    relative_error: float | None = None
    snr_db: float | None = None
    max_abs_error: float | None = None
    cosine: float | None = None

    def exceeds(self, limit: float) -> bool:
        """Whether the tensor is further away than `limit` (relative error); 0 asks for equal bits."""
        if self.status == "equal":
            return False
        if limit == 0 or self.relative_error is None:
            return True
        return not self.relative_error <= limit

    def to_json(self) -> dict[str, Any]:
        """The row of `compare --json`."""
        a, b = self.specs
        return {
            "name": self.name,
            "status": self.status,
            "dtypes": [a and a.dtype, b and b.dtype],
            "shapes": [a and list(a.shape), b and list(b.shape)],
            "relative_error": number(self.relative_error),
            "snr_db": number(self.snr_db),
            "max_abs_error": number(self.max_abs_error),
            "cosine": number(self.cosine),
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
        return Difference(name, "equal", (spec, other), 0.0, None, 0.0, 1.0)
    values, others = _numbers(x, spec), _numbers(y, other)
    if values is None or others is None:
        return Difference(name, "differs", (spec, other))
    sums = ErrorSums.between(values, others)
    return Difference(name, "differs", (spec, other), sums.relative_error, sums.snr_db, sums.largest, sums.cosine)


def _numbers(array: Array, spec: TensorSpec) -> Array | None:
    """Values to measure differences on; None for packed and complex types."""
    if spec.info.kind in ("int", "bool"):
        return array.astype(np.float64)
    return numbers(array, spec)
