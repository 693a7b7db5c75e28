"""The residual of a tensor given a reference: the second layer that makes a lossy one exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bale.compressors.base import Conditional, Reference, Values
from bale.errors import Refused
from bale.spec import Array, TensorSpec

_DELTA, _CELLS = range(2)
_MANY = 0.9
_IN_CELLS = ("BF16", "F16", "F32")


@dataclass(frozen=True)
class Exact(Conditional):
    """Every bit, given values near its own: those of a quantized layer, or of the tensor in a base.

    After the cells of a quantizer the position within the cell is coded, which all floats in it are about equally
    likely to have, but for those around zero; else the difference of the bits, as numbers, given the size of the
    changes in the row and column against the spacing of floats there. The share that weight decay has taken from all
    values is found by their mantissas and costs nothing, and a merged adapter is stored as the product of low rank that
    it is. See the modules `cells`, `delta`, `decay` and `adapter` of `bale.compressors.conditional`.

    `int4/exact` takes at most two per cent more than `lossless:effort=max` alone and can be fetched in two steps, as
    other quantizers do, but for `int` with `zero=float` (4 %) and `clip=mse` (7 %: clipped values lie outside of
    their cells); `int8/exact` takes at most one. A fine-tune in BF16 takes about ``10.5 + log2(relative change)``
    bits a weight given its base, of the matrices that moved. Compiled code: where bale was installed without a C
    compiler, numba takes some seconds in the first run. The models are bale's own.

    >>> from bale.compressors.base import Reference
    >>> x, near = np.array([1, 2, 3], np.float32), np.array([1, 2, 4], np.float32)
    >>> spec = TensorSpec("F32", (3,))
    >>> data = Exact().encode(Values(spec, x), Reference(near))
    >>> Exact().decode(memoryview(data), spec, Reference(near)).tolist()
    [1.0, 2.0, 3.0]
    """

    name: ClassVar[str] = "exact"

    def validate(self, spec: TensorSpec) -> None:
        """Refuse complex numbers and types below a byte."""
        if spec.info.kind == "complex" or spec.info.packed:
            raise Refused(f"differences of {spec.dtype} are not coded")

    def encode(self, values: Values, reference: Reference) -> bytes:
        """Bytes of one chunk."""
        from bale.compressors.conditional import cells, delta
        from bale.compressors.contexts.axes import axes_of

        words, near = _words(values.array), _words(reference.values)
        place = values.place
        axes = axes_of(place.shape, place.start, words.size) if place else []
        coded: list[bytes] = []
        if reference.ends is not None and values.spec.dtype in _IN_CELLS:
            coded.append(bytes([_CELLS]) + cells.encode(words, reference.ends, values.spec.dtype, axes))
        if not coded or len(coded[0]) > _MANY * words.nbytes:  # these are not the values that were quantized
            coded.append(bytes([_DELTA]) + delta.encode(words, near, values.spec.dtype, axes))
        return min(coded, key=len)

    def decode(self, data: memoryview, spec: TensorSpec, reference: Reference, out: Array | None = None) -> Array:
        """Storage bits of one chunk. Raises `ValueError` on bad bytes."""
        from bale.compressors.conditional import cells, delta

        out = np.empty(spec.storage_shape, spec.storage) if out is None else out
        if not len(data) or reference.values.nbytes != out.nbytes:
            raise ValueError("a difference without its first byte, or to values of another number")
        words = _words(out)
        if data[0] == _DELTA:
            delta.decode(data[1:], _words(reference.values), spec.dtype, words)
        elif data[0] == _CELLS and reference.ends is not None and spec.dtype in _IN_CELLS:
            cells.decode(data[1:], reference.ends, spec.dtype, words)
        else:
            raise ValueError(f"a difference of kind {data[0]}")
        return out


def _words(array: Array) -> Array:
    return array.reshape(-1).view(f"<u{array.dtype.itemsize}")
